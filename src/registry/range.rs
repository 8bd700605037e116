//! The `Content-Range` of a partial answer (RFC 9110 section 14.4), held against what was asked for. Pure.
//!
//! A resumed download that trusts the server writes wrong bytes at right offsets and learns of it from the digest, an
//! hour later. So a partial answer must begin exactly where it was asked to and must not go past the end that was
//! asked for; it may be shorter. Its total, where it names one, must be the blob's size.

use std::ops::Range;

/// The bytes that a `Content-Range` names, and the total where it names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) range: Range<u64>,
    pub(super) total: Option<u64>,
}

/// Parses `bytes FIRST-LAST/TOTAL`, TOTAL being a number or `*`. The unsatisfied form (`bytes */TOTAL`) is none.
pub(super) fn parse(value: &str) -> Option<ContentRange> {
    let (unit, rest) = value.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = if total == "*" { None } else { Some(number(total)?) };
    if last < first || total.is_some_and(|total| last >= total) {
        return None;
    }
    Some(ContentRange { range: first..last.checked_add(1)?, total })
}

/// Digits only: `str::parse` would accept a plus sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The range that a 206 answer holds, when it is one that was asked for.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(super) fn agreed(
    content_range: Option<&str>,
    content_length: Option<u64>,
    wanted: &Range<u64>,
    size: u64,
) -> Result<Range<u64>, String> {
    let value = content_range.ok_or("without a Content-Range")?;
    let found = parse(value)
        .ok_or_else(|| format!("with the Content-Range \"{}\"", crate::text::printable(value)))?;
    if found.range.start != wanted.start || found.range.end > wanted.end {
        return Err(format!("with bytes {}-{}", found.range.start, found.range.end - 1));
    }
    if let Some(total) = found.total.filter(|total| *total != size) {
        return Err(format!("with a part of {total} bytes, and the blob has {size}"));
    }
    let length = found.range.end - found.range.start;
    if let Some(announced) = content_length.filter(|announced| *announced != length) {
        return Err(format!("with {length} bytes by Content-Range and {announced} by Content-Length"));
    }
    Ok(found.range)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The grammar, and nothing beside it.
    #[test]
    fn content_range_grammar() {
        let some = |range: Range<u64>, total| Some(ContentRange { range, total });
        let cases = [
            ("bytes 0-9/100", some(0..10, Some(100))),
            ("bytes 5-5/*", some(5..6, None)),
            ("Bytes 0-9/100", some(0..10, Some(100))),
            ("bytes  0-9/10", some(0..10, Some(10))),
            ("bytes 0-9/9", None),
            ("bytes 9-0/100", None),
            ("bytes */100", None),
            ("bytes 0-9", None),
            ("bytes 0-/100", None),
            ("bytes -9/100", None),
            ("bytes +0-9/100", None),
            ("bytes=0-9/100", None),
            ("items 0-9/100", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 0-99999999999999999999/*", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse(value), expected, "{value:?}");
        }
    }

    /// For bytes 100-199 of 1000: what is taken, and what costs the attempt.
    #[test]
    fn only_what_was_asked_for() {
        let cases = [
            (Some("bytes 100-199/1000"), Some(100), true),
            (Some("bytes 100-199/*"), None, true),
            (Some("bytes 100-149/1000"), Some(50), true),
            (Some("bytes 100-200/1000"), None, false),
            (Some("bytes 99-199/1000"), None, false),
            (Some("bytes 101-199/1000"), None, false),
            (Some("bytes 0-99/1000"), None, false),
            (Some("bytes 100-199/1001"), None, false),
            (Some("bytes 100-199/1000"), Some(99), false),
            (None, Some(100), false),
        ];
        for (content_range, length, accepted) in cases {
            let found = agreed(content_range, length, &(100..200), 1000);
            assert_eq!(found.is_ok(), accepted, "{content_range:?} {length:?}: {found:?}");
        }
    }
}
