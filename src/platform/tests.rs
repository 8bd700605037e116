use proptest::prelude::*;

use super::*;
use crate::failure::{Failure, Kind};

/// The rows of a table: `#` starts a comment line, cells are parted by `|`.
fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split('|').map(str::trim).collect())
}

/// `OS/ARCHITECTURE/VARIANT` as a manifest would say it, with `-` for what is absent.
fn declared(cell: &str) -> Platform {
    let mut parts = cell.split('/').map(|part| if part == "-" { "" } else { part });
    let mut next = || parts.next().unwrap_or_default().to_owned();
    Platform { os: next(), architecture: next(), variant: Some(next()), ..Platform::default() }
}

fn parse(text: &str) -> Platform {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Different spellings of one platform are one platform.
#[test]
fn spellings_are_normalised() {
    for row in rows(include_str!("../../testdata/platforms/normalize.txt")) {
        let [from, to] = row.as_slice() else { panic!("{row:?}") };
        let normalized = declared(from).normalize();
        let wanted = declared(to);
        let wanted = Platform { variant: wanted.variant.filter(|variant| !variant.is_empty()), ..wanted };
        assert_eq!(normalized, wanted, "{from}");
        assert_eq!(normalized.normalize(), normalized, "{from}");
    }
}

/// Features are a set, and what is empty is absent.
#[test]
fn features_are_a_set() {
    let platform = Platform {
        os_features: ["b", "", "a", "b"].map(str::to_owned).to_vec(),
        os_version: Some(String::new()),
        ..Platform::new("linux", "amd64")
    };
    let normalized = platform.normalize();
    assert_eq!(normalized.os_features, ["a", "b"]);
    assert_eq!(normalized.os_version, None);
    assert_eq!(platform.specifier(), "linux(+a+b+b)/amd64");
}

/// What people type after `--platform`, shown short and in full.
#[test]
fn specifiers_are_parsed_and_shown() {
    for row in rows(include_str!("../../testdata/platforms/specifiers.txt")) {
        let [text, short, full] = row.as_slice() else { panic!("{row:?}") };
        let platform = parse(text);
        assert_eq!(platform.to_string(), *short, "{text}");
        assert_eq!(platform.specifier(), *full, "{text}");
        assert_eq!(parse(full).normalize(), platform.normalize(), "{text}");
    }
}

/// A version and features are taken apart as they were written.
#[test]
fn versions_and_features_are_taken_apart() {
    let platform = parse("windows(10.0.17763%2Bx+win32k+a%2fb)/amd64");
    assert_eq!(platform.os_version.as_deref(), Some("10.0.17763+x"));
    assert_eq!(platform.os_features, ["win32k", "a/b"]);
    assert_eq!(parse("windows()/amd64"), Platform::new("windows", "amd64"));
}

/// A word alone is completed from the host.
#[test]
fn a_word_alone_is_completed_from_the_host() {
    let host = Platform::default_for_fetch();
    assert_eq!(parse("freebsd").os, "freebsd");
    assert_eq!(parse("macOS").os, "darwin");
    assert_eq!(parse("Linux").architecture, host.architecture);
    assert_eq!(parse("windows(10.0.20348)").os_version.as_deref(), Some("10.0.20348"));
    assert_eq!(parse("armel"), Platform { variant: Some("v6".into()), ..Platform::new(&*host.os, "arm") });
    assert_eq!(parse("armhf"), Platform::new(&*host.os, "arm"));
    assert_eq!(parse("Aarch64"), Platform::new(&*host.os, "arm64"));
    assert_eq!(parse("x86_64"), Platform::new(&*host.os, "amd64"));
    assert_eq!(parse("i386"), Platform::new(&*host.os, "386"));
    assert!(!matches!(host.os.as_str(), "darwin" | "macos" | ""));
}

/// Each mistake has an error of its own.
#[test]
fn invalid_specifiers_fail_as_the_table_says() {
    for row in rows(include_str!("../../testdata/platforms/invalid.txt")) {
        let [text, wanted] = row.as_slice() else { panic!("{row:?}") };
        let Err(error) = text.parse::<Platform>() else { panic!("{text} parsed") };
        assert_eq!(format!("{error:?}").split([' ', '{']).next(), Some(*wanted), "{text}: {error}");
        assert_eq!(error.kind(), Kind::Usage);
    }
}

/// The order of preference, place by place, and what never matches.
#[test]
fn preference_is_as_the_table_says() {
    for row in rows(include_str!("../../testdata/platforms/preference.txt")) {
        let [wanted, matching, others] = row.as_slice() else { panic!("{row:?}") };
        let matcher = Matcher::new(&declared(wanted));
        let matching: Vec<Platform> = matching.split_whitespace().map(declared).collect();
        let others: Vec<Platform> = others.split_whitespace().map(declared).collect();
        let ranks: Vec<Rank> = matching
            .iter()
            .map(|candidate| {
                matcher.rank(candidate).unwrap_or_else(|| panic!("{wanted} matches {candidate}"))
            })
            .collect();
        assert!(ranks.is_sorted_by(|better, worse| better < worse), "{wanted}: {ranks:?}");
        assert!(ranks.first().is_none_or(|rank| rank.is_exact()), "{wanted}");
        for other in &others {
            assert!(!matcher.matches(other), "{wanted} does not match {other}");
        }
        let list: Vec<&Platform> = others.iter().chain(matching.iter().rev()).collect();
        let order: Vec<&Platform> = matcher
            .order(list.iter().map(|&entry| Some(entry)))
            .iter()
            .map(|taken| list[taken.index()])
            .collect();
        assert_eq!(order, matching.iter().collect::<Vec<_>>(), "{wanted}");
    }
}

/// Entries that match alike stay in the list's order; undeclared ones come last; attestations never come.
#[test]
fn the_lists_order_decides_between_equals() {
    let list = [
        None,
        Some(declared("unknown/unknown/-")),
        Some(declared("linux/386/-")),
        Some(declared("Linux/x86_64/v1")),
        Some(Platform::default()),
        Some(declared("linux/amd64/-")),
        Some(declared("-/amd64/-")),
        Some(declared("windows/amd64/-")),
    ];
    let order = Matcher::new(&parse("linux/amd64")).order(list.iter().map(Option::as_ref));
    assert_eq!(
        order,
        [
            Candidate::Matching(3),
            Candidate::Matching(5),
            Candidate::Matching(2),
            Candidate::Undeclared(0),
            Candidate::Undeclared(4),
            Candidate::Undeclared(6),
        ]
    );
    assert!(!Matcher::new(&declared("unknown/unknown/-")).matches(&declared("unknown/unknown/-")));
    assert!(!Matcher::new(&Platform::default()).matches(&Platform::default()));
}

/// An image may need only what was asked for, and what was asked for is better used than not.
#[test]
fn features_must_be_asked_for() {
    let wanted = Matcher::new(&parse("linux(+gpu+simd)/amd64"));
    let list = [
        "linux/amd64",
        "linux(+tpu)/amd64",
        "linux(+gpu)/amd64",
        "linux(+simd+gpu)/amd64",
        "linux(+gpu)/386",
    ]
    .map(parse);
    let order: Vec<usize> = wanted.order(list.iter().map(Some)).into_iter().map(Candidate::index).collect();
    assert_eq!(order, [3, 2, 0, 4]);
    assert!(!Matcher::new(&parse("linux/amd64")).matches(&parse("linux(+gpu)/amd64")));
    assert!(!Matcher::new(&parse("linux(+GPU)/amd64")).matches(&parse("linux(+gpu)/amd64")));
}

/// Which Windows runs which images.
#[test]
fn windows_versions_fit_as_the_table_says() {
    for row in rows(include_str!("../../testdata/platforms/windows.txt")) {
        let [host, image, fits] = row.as_slice() else { panic!("{row:?}") };
        let windows = |version: &str| Platform {
            os_version: Some(version.to_owned()).filter(|version| version != "-"),
            ..Platform::new("windows", "amd64")
        };
        assert_eq!(Matcher::new(&windows(host)).matches(&windows(image)), *fits == "yes", "{row:?}");
        // The version of another system is its own affair.
        let linux = |version: &str| Platform { os: "linux".to_owned(), ..windows(version) };
        assert!(Matcher::new(&linux(host)).matches(&linux(image)));
    }
}

/// The very version first, then the newest that runs, then what declares none; the architecture counts more.
#[test]
fn the_nearest_windows_version_is_preferred() {
    let matcher = Matcher::new(&parse("Windows(10.0.26100.2894)/amd64"));
    let list = [
        "windows/amd64",
        "windows(10.0.20348.3091)/amd64",
        "windows(10.0.26100.2894)/386",
        "windows(10.0.17763.1)/amd64",
        "windows(10.0.26100.2500)/amd64",
        "windows(10.0.26100.3000)/amd64",
        "windows(10.0.26100.2894)/amd64",
        "windows(10.0.26200.1)/amd64",
    ]
    .map(parse);
    let order: Vec<usize> = matcher.order(list.iter().map(Some)).into_iter().map(Candidate::index).collect();
    assert_eq!(order, [6, 5, 4, 1, 0, 2]);
    let any = Matcher::new(&parse("windows/amd64"));
    let order: Vec<usize> = any.order(list.iter().map(Some)).into_iter().map(Candidate::index).collect();
    assert_eq!(order, [0, 1, 3, 4, 5, 6, 7, 2]);
}

/// The JSON names are the image spec's, and what Go would take for absent is absent.
#[test]
fn json_is_that_of_the_image_spec() {
    let text = r#"{"architecture":"amd64","os":"windows","os.version":"10.0.1","os.features":["win32k"],"variant":"v2"}"#;
    let platform: Platform = serde_json::from_str(text).unwrap();
    assert_eq!(platform.specifier(), "windows(10.0.1+win32k)/amd64/v2");
    assert_eq!(serde_json::to_string(&platform).unwrap(), text);
    let sparse = r#"{"architecture":"arm","os":null,"os.version":"","os.features":null,"variant":null,"features":["x"]}"#;
    let platform: Platform = serde_json::from_str(sparse).unwrap();
    assert_eq!(platform, Platform::new("", "arm"));
    assert_eq!(serde_json::to_string(&platform).unwrap(), r#"{"architecture":"arm","os":""}"#);
    assert!(serde_json::from_str::<Platform>("{}").unwrap().is_empty());
    assert!(serde_json::from_str::<Platform>(r#"{"os":1}"#).is_err());
    assert!(
        serde_json::from_str::<Platform>(r#"{"os":"unknown","architecture":"unknown"}"#)
            .unwrap()
            .is_unknown()
    );
}

/// A name from a manifest cannot drive a terminal.
#[test]
fn display_escapes_control_characters() {
    assert_eq!(Platform::new("li\u{1b}[2Jnux", "a\nb").to_string(), "li\\u{1b}[2Jnux/a\\nb");
    assert_eq!(Platform::new("", "amd64").to_string(), "unknown");
}

/// The machine itself can be fetched for.
#[test]
fn the_host_matches_itself() {
    let host = Platform::host();
    assert!(!host.is_empty() && !host.is_unknown());
    assert_eq!(host.normalize(), host);
    assert!(Matcher::new(&host).rank(&host).unwrap().is_exact());
}

/// The property: what parses is shown in a form that parses to the same.
fn specifier_parses_back(text: &str) {
    let Ok(platform) = text.parse::<Platform>() else { return };
    let again = parse(&platform.specifier());
    assert_eq!(again.normalize(), platform.normalize(), "{text}");
    assert_eq!(again.specifier(), platform.specifier(), "{text}");
    assert_eq!(platform.normalize().normalize(), platform.normalize());
}

proptest! {
    /// Specifiers are inverse to parsing, with any text in version and features.
    #[test]
    fn parse_and_specifier_are_inverse(
        os in "[a-z]{1,7}", architecture in "[a-z0-9]{1,7}", variant in "(v[0-9]{1,2}(\\.[0-9])?)?",
        version in "\\PC{0,8}", features in proptest::collection::vec("\\PC{1,5}", 0..3),
    ) {
        let platform = Platform {
            os, architecture,
            variant: Some(variant).filter(|variant| !variant.is_empty()),
            os_version: Some(version).filter(|version| !version.is_empty()),
            os_features: features,
        };
        prop_assert_eq!(parse(&platform.specifier()).normalize(), platform.normalize());
    }

    /// Nothing that anybody types panics, and what parses at all parses back.
    #[test]
    fn any_text_is_parsed_or_refused(
        text in "\\PC{0,30}|[a-z0-9]{1,5}(\\([a-z0-9.%+]{0,8}\\))?(/[a-zA-Z0-9._-]{1,6}){0,2}"
    ) {
        specifier_parses_back(&text);
    }

    /// A rank is a matter of what platforms mean, not of how they are spelt, and the wanted one is its own best.
    #[test]
    fn ranks_do_not_depend_on_spelling(
        wanted in "(linux|windows|macos)/(amd64|x86_64|386|i386|arm|arm64|aarch64|armhf|ppc64le)/(-|v?[1-9](\\.[0-9])?)",
        candidate in "(linux|windows|darwin)/(amd64|386|arm|armel|arm64|ppc64le)/(-|v?[1-9](\\.[0-9])?)",
    ) {
        let (wanted, candidate) = (declared(&wanted), declared(&candidate));
        let matcher = Matcher::new(&wanted);
        prop_assert_eq!(matcher.rank(&candidate), Matcher::new(&wanted.normalize()).rank(&candidate.normalize()));
        if let Some(rank) = matcher.rank(&wanted) {
            prop_assert!(rank.is_exact());
        }
    }
}
