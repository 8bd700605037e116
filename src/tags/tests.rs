use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

fn tags(list: &[&str]) -> Vec<Tag> {
    list.iter().map(|tag| tag.parse().unwrap()).collect()
}

fn shown(tags: &[Tag]) -> Vec<&str> {
    tags.iter().map(Tag::as_str).collect()
}

/// Every list is in the order in which it has to come out.
#[test]
fn natural_order() {
    let lists: [&[&str]; 8] = [
        &["1", "1.9", "1.10", "1.10.1", "2", "10"],
        &["3.9", "3.20-alpine", "3.20.0", "3.20.1"],
        &["1.0", "1.0-rc2", "1.0-rc10", "1.0.1"],
        &["v1.9.0", "v1.10.0", "v2.0.0"],
        &["20240131", "20240201", "99999999999999999999999998", "99999999999999999999999999"],
        &["1", "01", "1a", "01b", "2", "02"],
        &["Latest", "_a", "latest", "latest2", "latest10"],
        &["a", "a-1", "a.1", "a1", "aa"],
    ];
    for list in lists {
        let mut sorted = tags(list);
        sorted.reverse();
        sort(&mut sorted);
        assert_eq!(shown(&sorted), list);
    }
}

proptest! {
    /// Only the same tags are equal, and no three tags go in a circle: sorting them would give any order, or panic.
    #[test]
    fn natural_order_is_total(texts in proptest::collection::vec("[a_0-2][a.0-2-]{0,5}", 3)) {
        let compare = |one: &str, other: &str| alphanumeric_sort::compare_str(one, other);
        let [one, other, third] = [&texts[0], &texts[1], &texts[2]];
        prop_assert_eq!(compare(one, other), compare(other, one).reverse());
        prop_assert_eq!(compare(one, other) == Ordering::Equal, one == other);
        if compare(one, other).is_le() && compare(other, third).is_le() {
            prop_assert!(compare(one, third).is_le(), "{:?}", texts);
        }
    }
}

/// Searched for as grep does: anywhere, by case, and tied to an end only where that is said.
#[test]
fn patterns() {
    let cases = [
        ("3", "v1.3", true),
        ("^3", "v1.3", false),
        (r"^v3\.", "v3.1", true),
        (r"^v3\.", "v31", false),
        ("alpine$", "3.20-alpine", true),
        ("alpine$", "alpine3", false),
        ("Alpine", "alpine", false),
        ("(?i)Alpine", "alpine", true),
        ("^$", "a", false),
        ("", "a", true),
        (r"^\d+\.\d+$", "3.20", true),
        ("^(a|b)$", "b", true),
    ];
    for (pattern, tag, expected) in cases {
        let filter = Filter { pattern: Some(pattern.parse().unwrap()), versions: None };
        assert_eq!(filter.takes(&tag.parse().unwrap()), expected, "{pattern} {tag}");
    }
    for (bad, reason) in [
        ("(a", "open group without closing"),
        ("[", "unclosed character class"),
        ("*", "repetition operator must be applied"),
        (r"(a)\1", "backreferences are not supported"),
        (r"\p{L}", "Unicode character classes are not supported"),
        ("a{1000}{1000}{1000}", "exceeded size limit"),
    ] {
        let error = bad.parse::<Pattern>().unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains('\n'), "{error}");
    }
}

/// Tags that are versions, and some that are none.
const TAGS: &[&str] = &[
    "0.1.2",
    "0.1.9",
    "0.2",
    "1",
    "1.2",
    "1.2.3",
    "1.2.3-rc.1",
    "1.2.4-rc.1",
    "1.2.4",
    "1.3",
    "v1.4.0",
    "2",
    "2.0.1",
    "V3.0",
    "3.20-alpine",
    "3.20",
    "4.0.0-beta",
    "4",
    "10.0",
    "24.04",
    "latest",
    "1.2.3.4",
    "v",
    "vv1",
    "1.2.3-",
    "1.2.3-01",
    "1.2_3",
    "1..2",
    "a1.2",
    "99999999999999999999",
];

/// Ranges, and what they hold of the tags.
const RANGES: [(&str, &[&str]); 26] = [
    (">=3.0, <4", &["V3.0", "3.20"]),
    (">=3.0 <4", &["V3.0", "3.20"]),
    (">= 3.0 , < 4", &["V3.0", "3.20"]),
    (">=v3.0,<v4", &["V3.0", "3.20"]),
    ("^1.2.3", &["1.2.3", "1.2.4", "1.3", "v1.4.0"]),
    ("^1.2", &["1.2", "1.2.3", "1.2.4", "1.3", "v1.4.0"]),
    ("^0.1.5", &["0.1.9"]),
    ("~1.2.3", &["1.2.3", "1.2.4"]),
    ("~1.2", &["1.2", "1.2.3", "1.2.4"]),
    ("~1", &["1", "1.2", "1.2.3", "1.2.4", "1.3", "v1.4.0"]),
    ("1.2", &["1.2", "1.2.3", "1.2.4"]),
    ("1.2.x", &["1.2", "1.2.3", "1.2.4"]),
    ("1.2.*", &["1.2", "1.2.3", "1.2.4"]),
    ("1.2.3", &["1.2.3"]),
    ("=1.2.0", &["1.2"]),
    ("2", &["2", "2.0.1"]),
    ("<1", &["0.1.2", "0.1.9", "0.2"]),
    ("<=1.2", &["0.1.2", "0.1.9", "0.2", "1", "1.2", "1.2.3", "1.2.4"]),
    (">2", &["V3.0", "3.20", "4", "10.0", "24.04"]),
    (">=24.04", &["24.04"]),
    ("0.1 || 10", &["0.1.2", "0.1.9", "10.0"]),
    ("<0.2||>=10,<11", &["0.1.2", "0.1.9", "10.0"]),
    (">=1.2.3-rc.0, <1.3", &["1.2.3", "1.2.3-rc.1", "1.2.4"]),
    (">=3.20-a, <3.21", &["3.20-alpine", "3.20"]),
    (">=4.0.0-alpha, <10", &["4.0.0-beta", "4"]),
    ("=3.20-alpine", &["3.20-alpine"]),
];

/// What each range holds; none of them holds a tag that is no version.
#[test]
fn ranges() {
    for (range, expected) in RANGES {
        let filter = Filter { pattern: None, versions: Some(range.parse().unwrap()) };
        let found: Vec<&str> =
            TAGS.iter().copied().filter(|tag| filter.takes(&tag.parse().unwrap())).collect();
        assert_eq!(found, expected, "{range}");
    }
    let all = Filter { pattern: None, versions: Some("*".parse().unwrap()) };
    assert!(all.takes(&"v1".parse().unwrap()) && !all.takes(&"1.0.0-rc1".parse().unwrap()));
    assert!(!all.takes(&"latest".parse().unwrap()));
}

/// What cannot be read is refused, never read as something else.
#[test]
fn bad_ranges() {
    for bad in [
        "", " ", ",", "||", "1 ||", "latest", ">=", ">= , <", ">=1 <", "=>1", "!=1", "1.2.3.4", "1 - 2",
        ">1.2,b", "1.x.3", "^", "v", "1.2-", "1,,a", ">>1", "1.2.3-é", ">=*",
    ] {
        let error = bad.parse::<VersionRange>().map(|range| range.to_string()).unwrap_err();
        assert!(error.to_string().contains("is not a range of versions: "), "{bad}: {error}");
    }
}

/// Both parts of a filter have to hold, and what is shown is what was written.
#[test]
fn both_parts_hold() {
    let filter = Filter { pattern: Some("^v".parse().unwrap()), versions: Some(">=1, <3".parse().unwrap()) };
    let list = tags(&["v2.0", "2.0", "v10", "v1.10", "v1.9", "v2.0", "vx"]);
    assert_eq!(shown(&filter.select(list.clone())), ["v1.9", "v1.10", "v2.0"]);
    assert_eq!(filter.to_string(), "--match '^v' --semver '>=1, <3'");
    assert!(!filter.is_everything());
    let all = Filter::default();
    assert!(all.is_everything());
    assert_eq!(shown(&all.select(list)), ["2.0", "v1.9", "v1.10", "v2.0", "v10", "vx"]);
    assert_eq!(all.to_string(), "");
}
