//! `--semver`: ranges of versions, and tags read as versions.
//!
//! Tags are versions by custom only, so they are read leniently: a leading `v` is left out, one or two numbers are
//! filled up with zeros (`3.20` is 3.20.0), and leading zeros do not count (`24.04` is 24.4.0). What follows a dash is a
//! pre-release, as Semantic Versioning has it, so `3.20-alpine` is one too. A tag that is no version is in no range.
//!
//! Comparing is left to the crate `semver`, with its rule that a pre-release is in a range only where the range names a
//! pre-release of the same three numbers.

use std::fmt;
use std::str::FromStr;

use semver::{Comparator, Version, VersionReq};

use super::TagsError;
use crate::reference::Tag;
use crate::text::printable;

/// What a comparison starts with.
const OPERATORS: [char; 5] = ['=', '<', '>', '~', '^'];

/// A range of versions: comparisons that hold together, separated by commas or blanks, and `||` between such groups of
/// which one has to hold.
///
/// A comparison is `>`, `>=`, `<`, `<=`, `=`, `~` (the same minor version from there on), `^` (the same major one, or
/// for `0.x` minor one) and a version. Without an operator it is `=`. Numbers that are left out, or are `x` or `*`, may
/// be anything.
#[derive(Debug, Clone)]
pub struct VersionRange {
    written: String,
    alternatives: Vec<VersionReq>,
}

impl VersionRange {
    /// Whether a tag is a version in the range.
    pub fn contains(&self, tag: &Tag) -> bool {
        version(tag.as_str())
            .is_some_and(|version| self.alternatives.iter().any(|range| range.matches(&version)))
    }
}

impl FromStr for VersionRange {
    type Err = TagsError;

    /// Parses a range.
    ///
    /// # Errors
    /// [`TagsError::Range`].
    fn from_str(text: &str) -> Result<Self, TagsError> {
        let refused = |reason: String| TagsError::Range { range: printable(text), reason };
        let alternatives = text.split("||").map(alternative).collect::<Result<_, _>>().map_err(refused)?;
        Ok(Self { written: text.to_owned(), alternatives })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.written))
    }
}

/// Comparisons that hold together.
fn alternative(text: &str) -> Result<VersionReq, String> {
    let mut comparators = Vec::new();
    let mut operator = String::new();
    let mut is_empty = true;
    for word in text.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        is_empty = false;
        operator.push_str(word);
        // An operator may stand apart from its version.
        if operator.ends_with(OPERATORS) {
            continue;
        }
        comparators.extend(comparator(&std::mem::take(&mut operator))?);
    }
    match (is_empty, operator.as_str()) {
        (true, _) => Err("there is no version".to_owned()),
        (_, "") => Ok(VersionReq { comparators }),
        (_, operator) => Err(format!("there is no version after \"{}\"", printable(operator))),
    }
}

/// One comparison; none where it holds for every version.
fn comparator(text: &str) -> Result<Option<Comparator>, String> {
    let version = text.trim_start_matches(OPERATORS);
    let operator = &text[..text.len() - version.len()];
    if operator.is_empty() && matches!(version, "*" | "x" | "X") {
        return Ok(None);
    }
    let operator = if operator.is_empty() { "=" } else { operator };
    let (numbers, pre_release) = parts(version);
    let mut numbers = numbers;
    if pre_release.is_some() {
        fill_up(&mut numbers);
    }
    let parsed = format!("{operator}{}", joined(&numbers, pre_release)).parse();
    parsed.map(Some).map_err(|error: semver::Error| printable(&error.to_string()))
}

/// A tag as a version, if it is one.
fn version(tag: &str) -> Option<Version> {
    let (mut numbers, pre_release) = parts(tag);
    fill_up(&mut numbers);
    joined(&numbers, pre_release).parse().ok()
}

/// The numbers of a version, without leading zeros, and what follows the first dash.
fn parts(version: &str) -> (Vec<&str>, Option<&str>) {
    let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
    let (numbers, pre_release) = match version.split_once('-') {
        Some((numbers, pre_release)) => (numbers, Some(pre_release)),
        None => (version, None),
    };
    (numbers.split('.').map(without_zeros).collect(), pre_release)
}

fn without_zeros(number: &str) -> &str {
    match number.trim_start_matches('0') {
        rest if rest.starts_with(|first: char| first.is_ascii_digit()) => rest,
        "" if !number.is_empty() => "0",
        _ => number,
    }
}

fn fill_up(numbers: &mut Vec<&str>) {
    while numbers.len() < 3 {
        numbers.push("0");
    }
}

fn joined(numbers: &[&str], pre_release: Option<&str>) -> String {
    let numbers = numbers.join(".");
    pre_release.map_or_else(|| numbers.clone(), |pre_release| format!("{numbers}-{pre_release}"))
}
