//! References and platforms.

use std::sync::LazyLock;

use ocipull::digest::Digest;
use ocipull::platform::{Candidate, Matcher, Platform};
use ocipull::reference::{Reference, Repository, Tag};
use ocipull::tags::VersionRange;
use regex::Regex;
use url::Url;

use super::{assert_fit, assert_shown, text};

/// A text as a reference, and its words as tags and ranges of versions.
///
/// What parses is what the distribution project's grammar takes and no more; its forms parse back to it; in a URL it
/// stays what it is.
pub fn references(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let parsed = text.parse::<Reference>();
    assert_eq!(parsed.is_ok(), is_reference(text), "{text:?}: {parsed:?}");
    match &parsed {
        Ok(reference) => check_reference(reference),
        Err(error) => assert_fit(error),
    }
    let repository = text.parse::<Repository>();
    match (&repository, &parsed) {
        (Ok(repository), Ok(reference)) => assert_eq!(repository, reference.repository()),
        (Ok(_), Err(error)) => panic!("{text:?} is a repository and no reference: {error}"),
        (Err(error), _) => assert_fit(error),
    }
    match text.parse::<Digest>() {
        Ok(digest) => assert_eq!(digest.to_string(), text),
        Err(error) => assert_shown(&error.to_string()),
    }
    check_tags(text);
}

fn check_reference(reference: &Reference) {
    let forms = [reference.canonical(), reference.familiar(), reference.written()];
    for form in &forms {
        assert_shown(form);
        assert_eq!(form.parse::<Reference>().as_ref(), Ok(reference), "{form}");
    }
    let [canonical, familiar, written] = &forms;
    for (again, form) in [
        (canonical.parse::<Reference>().map(|again| again.canonical()), canonical),
        (familiar.parse::<Reference>().map(|again| again.familiar()), familiar),
        (written.parse::<Reference>().map(|again| again.written()), written),
    ] {
        assert_eq!(again.as_ref(), Ok(form));
    }
    assert!(reference.tag().is_some() || reference.digest().is_some());
    let full = reference.full_name().parse::<Reference>();
    assert_eq!(full.as_ref().map(Reference::repository), Ok(reference.repository()));
    let json = serde_json::to_string(reference).expect("a reference is text");
    assert_eq!(serde_json::from_str::<Reference>(&json).ok().as_ref(), Some(reference));
    check_repository(reference.repository(), reference.tag());
}

/// What a repository and a tag are in a URL: the same, with no step up and nothing cut off.
fn check_repository(repository: &Repository, tag: Option<&Tag>) {
    assert!(repository.path().len() <= 255);
    assert_eq!(repository.to_string().parse::<Repository>().as_ref(), Ok(repository));
    let tag = tag.map_or(Tag::LATEST, Tag::as_str);
    let path = format!("/v2/{}/manifests/{tag}", repository.path());
    // A host that is no host to the URL standard (an address with a number too many) is refused when it is asked.
    let Ok(url) = Url::parse(&format!("https://{}{path}", repository.api_host())) else { return };
    assert_eq!(url.path(), path);
    assert_eq!((url.query(), url.fragment(), url.username(), url.password()), (None, None, "", None));
    if let Some(port) = repository.port() {
        assert_eq!(url.port_or_known_default(), Some(port));
    }
    if repository.is_loopback() {
        assert!(ocipull::registry::redirect::names_inside(&url), "{url} is this machine");
    }
}

fn check_tags(text: &str) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    match first.parse::<Tag>() {
        Ok(tag) => assert_eq!(tag.as_str(), first),
        Err(error) => assert_fit(&error),
    }
    let range = match first.parse::<VersionRange>() {
        Ok(range) => range,
        Err(error) => return assert_fit(&error),
    };
    assert_shown(&range.to_string());
    let tags: Vec<Tag> = rest.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    let filter = ocipull::tags::Filter { pattern: None, versions: Some(range) };
    let selected = filter.select(tags.clone());
    assert!(selected.iter().all(|tag| tags.contains(tag) && filter.takes(tag)));
    assert!(tags.iter().all(|tag| selected.contains(tag) == filter.takes(tag)));
    let mut backwards = tags;
    backwards.reverse();
    assert_eq!(filter.select(backwards), selected);
}

static REMAINDER: LazyLock<Regex> = LazyLock::new(|| {
    let component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    let digest = "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}";
    let pattern =
        format!(r"\A({component}(?:/{component})*)(:[0-9A-Za-z_][0-9A-Za-z_.-]{{0,127}})?(@(?:{digest}))?\z");
    Regex::new(&pattern).expect("a pattern")
});

static HOST: LazyLock<Regex> = LazyLock::new(|| {
    let component = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
    let pattern = format!(r"\A(?:{component}(?:\.{component})*|\[([0-9a-fA-F:]+)\])(?::([0-9]+))?\z");
    Regex::new(&pattern).expect("a pattern")
});

/// Whether a text is a reference by the distribution project's patterns, with the rules of docker's normalised names and
/// the few that are ours: ports and addresses that exist, a path of at most 255 characters.
fn is_reference(text: &str) -> bool {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return false;
    }
    let is_host =
        |first: &str| first == "localhost" || first.contains(['.', ':']) || first != first.to_lowercase();
    let (host, remainder) = match text.split_once('/') {
        Some((first, remainder))
            if is_host(first.split('@').next().unwrap_or_default()) && !first.contains('@') =>
        {
            (first, remainder)
        }
        _ => ("docker.io", text),
    };
    let Some(parts) = REMAINDER.captures(remainder) else { return false };
    let Some(authority) = HOST.captures(host) else { return false };
    let port_exists =
        authority.get(2).is_none_or(|port| port.as_str().parse::<u16>().is_ok_and(|port| port > 0));
    let address_exists =
        authority.get(1).is_none_or(|address| address.as_str().parse::<std::net::Ipv6Addr>().is_ok());
    let path = &parts[1];
    let is_hub = matches!(host, "docker.io" | "index.docker.io");
    let library = if is_hub && !path.contains('/') { "library/".len() } else { 0 };
    let is_reserved = is_hub && matches!(path, "scratch" | "library/scratch");
    port_exists && address_exists && path.len() + library <= 255 && !is_reserved
}

/// Platforms, a line each: a specifier, or the JSON of a platform object. The first one is the one that is wanted.
///
/// To normalise twice is to normalise once; a specifier parses back; the spelling of a platform does not matter to what it
/// matches, and the order of preference has every match once.
pub fn platforms(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let platforms: Vec<Platform> = text.lines().take(16).filter_map(platform).collect();
    let Some(wanted) = platforms.first() else { return };
    let matcher = Matcher::new(wanted);
    let spelled_otherwise = Matcher::new(&wanted.normalize());
    for candidate in &platforms {
        let rank = matcher.rank(candidate);
        assert_eq!(rank, matcher.rank(&candidate.normalize()), "{candidate:?}");
        assert_eq!(rank, spelled_otherwise.rank(candidate), "{candidate:?}");
        assert!(rank.is_none() || candidate.normalize().os == matcher.wanted().os);
        if rank.is_some_and(ocipull::platform::Rank::is_exact) {
            let (wanted, found) = (matcher.wanted(), candidate.normalize());
            assert_eq!(
                (&wanted.architecture, &wanted.os_features),
                (&found.architecture, &found.os_features)
            );
            // A wanted variant may be a bare number, and amd64's first one is none.
            let version = |platform: &Platform| {
                let variant = platform.variant.as_deref().unwrap_or("1");
                variant.trim_start_matches('v').to_owned()
            };
            assert_eq!(version(wanted), version(&found));
        }
    }
    let order = matcher.order(platforms.iter().map(Some));
    let ranks: Vec<_> = order.iter().map(|candidate| matcher.rank(&platforms[candidate.index()])).collect();
    let matching = order.iter().take_while(|candidate| matches!(candidate, Candidate::Matching(_))).count();
    assert!(ranks[..matching].windows(2).all(|pair| pair[0] <= pair[1]));
    assert!(ranks[matching..].iter().all(Option::is_none));
    assert_eq!(matching, platforms.iter().filter(|platform| matcher.matches(platform)).count());
}

fn platform(line: &str) -> Option<Platform> {
    let platform = match line.parse::<Platform>() {
        Ok(platform) => {
            let specifier = platform.specifier();
            let mut sorted = platform.clone();
            sorted.os_features.sort();
            assert_eq!(specifier.parse::<Platform>().as_ref(), Ok(&sorted), "{line:?} is {specifier}");
            platform
        }
        Err(error) => {
            assert_fit(&error);
            serde_json::from_str::<Platform>(line).ok()?
        }
    };
    let normal = platform.normalize();
    assert_eq!(normal.normalize(), normal);
    for platform in [&platform, &normal] {
        assert_shown(&platform.to_string());
        assert_shown(&platform.specifier());
        let json = serde_json::to_string(platform).expect("a platform is JSON");
        let read = serde_json::from_str::<Platform>(&json).expect("a platform's own JSON");
        assert_eq!(read.normalize(), normal, "{json}");
    }
    Some(platform)
}
