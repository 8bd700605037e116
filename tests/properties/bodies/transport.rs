//! What stands in the headers of answers: partial contents, links, redirects, waits.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use ocipull::registry::fuzzing;
use ocipull::registry::link;
use ocipull::registry::redirect::{LIMIT, Reached, Refusal, Trail, is_inside};
use ocipull::registry::retry::{Decision, Disposition, Policy, Reason, State, retry_after as announced};
use regex::Regex;
use url::{Host, Url};

use super::{assert_shown, text};

/// `START END SIZE LENGTH`, where a word that is no number says nothing, and on the next line a `Content-Range`.
///
/// What is taken is what the grammar says in full and within what was asked for: by a pattern and 128 bits.
pub fn content_range(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (asked, header) = text.split_once('\n').map_or((text, None), |(asked, header)| (asked, Some(header)));
    let mut numbers = asked.split(' ').map(|word| word.parse::<u64>().ok());
    let mut number = || numbers.next().flatten();
    let (start, end, size, length) = (number().unwrap_or(0), number(), number(), number());
    let size = size.unwrap_or(u64::MAX);
    let wanted = start..end.unwrap_or(size).min(size);
    let agreed = fuzzing::content_range(header, length, &wanted, size);
    let expected = header.and_then(says).filter(|(first, last, total)| {
        *first == u128::from(wanted.start)
            && *last < u128::from(wanted.end)
            && first <= last
            && total.is_none_or(|total| total == u128::from(size))
            && length.is_none_or(|length| u128::from(length) == last - first + 1)
    });
    match (agreed, expected) {
        (Ok(range), Some((first, last, _))) => {
            assert_eq!((u128::from(range.start), u128::from(range.end)), (first, last + 1));
        }
        (Err(reason), None) => assert_shown(&reason),
        (agreed, expected) => panic!("{text:?}: {agreed:?}, and {expected:?} was expected"),
    }
}

/// First and last byte, and the total, of a `Content-Range` (RFC 9110, section 14.4).
fn says(header: &str) -> Option<(u128, u128, Option<u128>)> {
    static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\A(?i:bytes) \s*0*([0-9]{1,38})-0*([0-9]{1,38})/(?:\*|0*([0-9]{1,38}))\z")
            .expect("a pattern")
    });
    let parts = GRAMMAR.captures(header.trim())?;
    let number =
        |index| parts.get(index).and_then(|digits: regex::Match<'_>| digits.as_str().parse::<u128>().ok());
    Some((number(1)?, number(2)?, number(3)))
}

/// The URL that was answered, and the values of `Link` headers, a line each.
///
/// The next page is what stands in angle brackets somewhere; links before it that are none to the next page, and headers
/// after it, make no difference; said anew by itself it is the same.
pub fn links(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let mut lines = text.lines();
    let Some(Ok(base)) = lines.next().map(Url::parse) else { return };
    if !matches!(base.scheme(), "http" | "https") {
        return;
    }
    let values: Vec<&str> = lines.collect();
    let Some(next) = link::next(&values, &base) else {
        assert!(values.iter().all(|value| link::next([value], &base).is_none()));
        return;
    };
    assert_eq!(next.fragment(), None);
    let is_written = |value: &&str| {
        value.match_indices('<').any(|(start, _)| {
            let target = value[start + 1..].split_once('>').map(|(target, _)| target.trim());
            let joined = target.and_then(|target| base.join(target).ok());
            joined.is_some_and(|mut url| {
                url.set_fragment(None);
                url == next
            })
        })
    };
    assert!(values.iter().any(is_written), "{next} stands nowhere");
    let first =
        values.iter().position(|value| link::next([value], &base).is_some()).expect("one leads there");
    assert_eq!(link::next([values[first]], &base).as_ref(), Some(&next));
    let behind = format!("</other>; rel=prev; title=\"a, <b>; rel=next\", {}", values[first]);
    assert_eq!(link::next([behind], &base).as_ref(), Some(&next));
    let alone = format!("<{next}>; rel=\"next\"");
    assert_eq!(link::next([alone], &base).as_ref(), Some(&next));
}

/// `in` or `out`, for where the registry was reached, then the URL that is asked, then the `Location`s, a line each.
///
/// However long the way is, it never goes down from https, inside from outside, in a circle or on for ever, and
/// credentials stay where they belong.
pub fn redirects(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let mut lines = text.lines();
    let reached = if lines.next() == Some("in") { Reached::Inside } else { Reached::Public };
    let Some(Ok(start)) = lines.next().map(Url::parse) else { return };
    if !matches!(start.scheme(), "http" | "https") {
        return;
    }
    let mut trail = Trail::new(start.clone());
    let mut visited = vec![start];
    for location in lines {
        let from = trail.current().clone();
        match trail.follow(Some(location), reached) {
            Ok(step) => {
                check_step(&step.url, &from, reached);
                assert!(!visited.contains(&step.url), "{} again", step.url);
                let everywhere = visited.iter().all(|url| url.origin() == step.url.origin());
                assert_eq!(step.same_origin, everywhere);
                visited.push(step.url);
            }
            Err(refusal) => {
                assert_shown(&refusal.to_string());
                assert_eq!(refusal == Refusal::TooMany, visited.len() > LIMIT);
                assert_eq!(trail.current(), &from, "a refused step is not taken");
            }
        }
        assert_eq!(trail.len(), visited.len() - 1);
    }
    assert!(trail.len() <= LIMIT);
}

fn check_step(url: &Url, from: &Url, reached: Reached) {
    assert_eq!(url.fragment(), None);
    assert!(matches!((from.scheme(), url.scheme()), (_, "https") | ("http", "http")), "{from} to {url}");
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        _ => None,
    };
    let Some(address) = address else { return };
    if let IpAddr::V4(address) = address {
        assert_eq!(is_inside(address.into()), is_special(address), "{address}");
        assert_eq!(is_inside(address.to_ipv6_mapped().into()), is_special(address), "{address}");
    }
    assert!(
        reached == Reached::Inside || !is_inside(address) || url.origin() == from.origin(),
        "{from} leads inside, to {url}"
    );
}

/// The blocks of RFC 6890 that are nobody's on the Internet, groups and what is reserved, by their masks.
fn is_special(address: Ipv4Addr) -> bool {
    let blocks: [(u32, u32); 11] = [
        (0x0000_0000, 8),
        (0x0a00_0000, 8),
        (0x6440_0000, 10),
        (0x7f00_0000, 8),
        (0xa9fe_0000, 16),
        (0xac10_0000, 12),
        (0xc000_0000, 24),
        (0xc0a8_0000, 16),
        (0xc612_0000, 15),
        (0xe000_0000, 4),
        (0xf000_0000, 4),
    ];
    let bits = address.to_bits();
    blocks.iter().any(|(block, length)| (bits ^ block) >> (32 - length) == 0)
}

/// A `Retry-After` on the first line, and below it letters, each an event in a blob's life.
///
/// Digits are seconds, dates are waits until then; no order of events gets more tries out of a budget than it has, or
/// a longer wait than the policy sits out.
pub fn retry_after(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (header, events) = text.split_once('\n').unwrap_or((text, ""));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let wait = announced(header, now);
    if let Some(wait) = wait {
        assert_eq!(wait.subsec_nanos(), 0);
        let digits = header.trim();
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            assert_eq!(wait.as_secs(), digits.parse().unwrap_or(u64::MAX));
        } else if let Some(date) = now.checked_add(wait) {
            let written = httpdate::fmt_http_date(date);
            assert_eq!(announced(&written, now), Some(wait), "{header:?} is {written}");
        }
    }
    check_budget(wait, events);
}

fn check_budget(announced: Option<Duration>, events: &str) {
    let policy = Policy::default();
    let mut state = State::new();
    let mut begun = vec![state.begin()];
    for event in events.bytes().take(256) {
        match event {
            b'b' if begun.len() < 16 => begun.push(state.begin()),
            b'p' => state.progressed(300_000),
            b'P' => state.progressed(u64::MAX),
            b's' => state.segment_finished(),
            b'r' => state.refill(),
            b'0'..=b'9' | b'a' | b'f' => {
                let after = if event == b'a' { announced } else { None };
                let disposition =
                    if event == b'f' { Disposition::Fatal } else { Disposition::Again { after } };
                let jitter = f64::from(event.wrapping_sub(b'0')) / 9.0;
                let attempt = begun.pop().unwrap_or_else(|| state.begin());
                let before = state.failures();
                let decision = state.failed(attempt, disposition, &policy, jitter);
                check_decision(decision, disposition, &policy, before, state.failures());
                // Whoever gives up asks no more.
                if matches!(decision, Decision::GiveUp(_)) {
                    return;
                }
            }
            _ => {}
        }
        assert!(state.failures() <= policy.retries);
    }
}

fn check_decision(decision: Decision, disposition: Disposition, policy: &Policy, before: u32, after: u32) {
    match decision {
        Decision::Again { after: wait, announced } => {
            assert!(!wait.is_zero() && after <= policy.retries);
            assert!(wait <= if announced { policy.longest_announced } else { policy.longest_wait });
            assert!(!announced || disposition == Disposition::Again { after: Some(wait) });
        }
        Decision::GiveUp(Reason::Fatal) => {
            assert_eq!((disposition, before), (Disposition::Fatal, after));
        }
        Decision::GiveUp(Reason::Exhausted { failures }) => {
            assert!(failures > policy.retries && failures == after);
        }
        Decision::GiveUp(Reason::AnnouncedTooLong(wait)) => {
            assert!(wait > policy.longest_announced && before == after);
        }
        other => panic!("{other:?} is no decision that is known"),
    }
}
