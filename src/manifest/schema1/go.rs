//! How Go's `encoding/json` and `time` read and write, as far as a config's bytes, and so its digest, depend on them.
//!
//! Reading: keys in any case, each occurrence acts on what the one before it left, null leaves plain values as they are
//! and empties lists and maps. Writing: no white space, keys of maps sorted by their bytes, and `<`, `>`, `&` and the two
//! line separators of Unicode escaped, also in what is passed through as it came.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Serialize, Serializer};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};
use serde_json::value::RawValue;

use super::document::{self, Fault};
use crate::manifest::error::Problem;
use crate::text::printable;

/// What Go prints for a time that was never set.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// A value that a document's values are read into, one after the other.
pub(super) trait Read {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault>;
}

/// A struct: its fields by their names in lower case. What is not known is passed over.
pub(super) trait Fields {
    fn field(&mut self, key: &str, value: &RawValue) -> Result<(), Fault>;
}

impl<T: Fields> Read for T {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        if document::is_null(value) {
            return Ok(());
        }
        document::members(value, |key, member| {
            self.field(&document::folded(&key), member).map_err(|fault| fault.of_entry(&key))
        })
    }
}

/// A pointer to a struct.
pub(super) fn read_pointer<T: Fields + Default>(
    pointer: &mut Option<T>,
    value: &RawValue,
) -> Result<(), Fault> {
    if document::is_null(value) {
        *pointer = None;
        return Ok(());
    }
    pointer.get_or_insert_default().read(value)
}

impl Read for String {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        if !document::is_null(value) {
            *self = document::text(value)?;
        }
        Ok(())
    }
}

impl Read for bool {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        if !document::is_null(value) {
            *self = document::boolean(value)?;
        }
        Ok(())
    }
}

impl Read for i64 {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        if !document::is_null(value) {
            *self = document::integer(value)?;
        }
        Ok(())
    }
}

impl Read for Option<i64> {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        *self = if document::is_null(value) { None } else { Some(document::integer(value)?) };
        Ok(())
    }
}

/// `[]string`. A null in it leaves what an earlier list has in the same place.
impl Read for Option<Vec<String>> {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        let mut earlier = self.take().unwrap_or_default().into_iter();
        if !document::is_null(value) {
            let texts = document::elements(value, |element| {
                let mut text = earlier.next().unwrap_or_default();
                text.read(element)?;
                Ok(text)
            })?;
            *self = Some(texts);
        }
        Ok(())
    }
}

/// `map[string]string`.
impl Read for Option<BTreeMap<String, String>> {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        if document::is_null(value) {
            *self = None;
            return Ok(());
        }
        self.get_or_insert_default().extend(document::text_map(value)?);
        Ok(())
    }
}

/// Docker's `strslice.StrSlice`: a list of strings that may be written as the only one of them.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Words(Option<Vec<String>>);

impl Words {
    pub(super) fn joined(&self) -> String {
        self.0.as_deref().unwrap_or_default().join(" ")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(Vec::is_empty)
    }
}

impl Read for Words {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        if let Ok(word) = document::text(value) {
            self.0 = Some(vec![word]);
            return Ok(());
        }
        self.0 = None;
        self.0.read(value)
    }
}

/// `map[string]struct{}`.
#[derive(Debug, Default)]
pub(super) struct Names(Option<BTreeSet<String>>);

/// `struct{}`.
#[derive(Debug, Serialize)]
struct Nothing {}

impl Fields for Nothing {
    fn field(&mut self, _key: &str, _value: &RawValue) -> Result<(), Fault> {
        Ok(())
    }
}

impl Names {
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(BTreeSet::is_empty)
    }
}

impl Read for Names {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        if document::is_null(value) {
            self.0 = None;
            return Ok(());
        }
        let names = self.0.get_or_insert_default();
        document::members(value, |key, member| {
            Nothing {}.read(member).map_err(|fault| fault.of_entry(&key))?;
            names.insert(key.into_owned());
            Ok(())
        })
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(names) => serializer.collect_map(names.iter().map(|name| (name, Nothing {}))),
            None => serializer.serialize_none(),
        }
    }
}

/// A point in time, in the form in which Go prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Time(String);

impl Default for Time {
    fn default() -> Self {
        Self(ZERO_TIME.to_owned())
    }
}

impl Read for Time {
    fn read(&mut self, value: &RawValue) -> Result<(), Fault> {
        if document::is_null(value) {
            return Ok(());
        }
        let text = document::text(value)?;
        *self = Self::parse(&text).ok_or_else(|| Fault::from(Problem::Time { time: printable(&text) }))?;
        Ok(())
    }
}

impl Time {
    /// RFC 3339 as Go reads it, which takes an hour of one digit and a comma for the fraction too, but no leap second.
    fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_once('T')?;
        let (clock, zone) = time.split_at(time.find(['Z', '+', '-'])?);
        let (clock, fraction) = match clock.split_once(['.', ',']) {
            Some((clock, fraction)) => (clock, Some(fraction)),
            None => (clock, None),
        };
        let date = parsed_date(date)?;
        let clock = parsed_clock(clock)?;
        let fraction = fraction.map_or(Some(String::new()), parsed_fraction)?;
        Some(Self(format!("{date}T{clock}{fraction}{}", parsed_zone(zone)?)))
    }
}

/// A number of exactly `digits` digits, at most `largest`.
fn number(text: &str, digits: usize, largest: u32) -> Option<u32> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && *number <= largest)
}

fn parsed_date(date: &str) -> Option<&str> {
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4, 9999)?;
    let month = number(parts.next()?, 2, 12)?;
    let day = number(parts.next()?, 2, 31)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        0 => return None,
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (parts.next().is_none() && (1..=days).contains(&day)).then_some(date)
}

fn parsed_clock(clock: &str) -> Option<String> {
    let mut parts = clock.split(':');
    let hour = parts.next()?;
    let hour = number(hour, hour.len().clamp(1, 2), 23)?;
    let minute = number(parts.next()?, 2, 59)?;
    let second = number(parts.next()?, 2, 59)?;
    parts.next().is_none().then(|| format!("{hour:02}:{minute:02}:{second:02}"))
}

/// The fraction with its point, to nanoseconds, without the zeros at its end.
fn parsed_fraction(digits: &str) -> Option<String> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kept = digits[..digits.len().min(9)].trim_end_matches('0');
    Some(if kept.is_empty() { String::new() } else { format!(".{kept}") })
}

fn parsed_zone(zone: &str) -> Option<&str> {
    if zone == "Z" {
        return Some(zone);
    }
    let (hour, minute) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let at_zero = number(hour, 2, 23)? == 0 && number(minute, 2, 59)? == 0;
    Some(if at_zero { "Z" } else { zone })
}

/// JSON as Go writes what it was given as it is: without white space, and escaped for HTML.
pub(super) fn compacted(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        match character {
            ' ' | '\t' | '\n' | '\r' if !in_string => continue,
            '<' => compact.push_str("\\u003c"),
            '>' => compact.push_str("\\u003e"),
            '&' => compact.push_str("\\u0026"),
            '\u{2028}' => compact.push_str("\\u2028"),
            '\u{2029}' => compact.push_str("\\u2029"),
            other => compact.push(other),
        }
        in_string ^= character == '"' && !escaped;
        escaped = in_string && character == '\\' && !escaped;
    }
    compact
}

/// A value as Go writes it.
pub(super) fn written(value: &impl Serialize) -> String {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, Escapes);
    value.serialize(&mut serializer).expect("invariant: texts, numbers and lists of these become JSON");
    compacted(&String::from_utf8(json).expect("invariant: JSON is text"))
}

/// Go learnt to write `\b` and `\f` with version 1.22 only; the Dockers that made configs of schema 1 were built with older
/// ones.
struct Escapes;

impl Formatter for Escapes {
    fn write_char_escape<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Backspace => writer.write_all(b"\\u0008"),
            CharEscape::FormFeed => writer.write_all(b"\\u000c"),
            other => CompactFormatter.write_char_escape(writer, other),
        }
    }
}

/// Whether Docker counts `version` as lower than `other`: number by number, whatever is no number being 0.
pub(super) fn is_version_below(version: &str, other: &str) -> bool {
    let (mut parts, mut others) = (version.split('.'), other.split('.'));
    loop {
        let (part, other) = match (parts.next(), others.next()) {
            (None, None) => return false,
            (part, other) => (part.map_or(0, version_number), other.map_or(0, version_number)),
        };
        if part != other {
            return part < other;
        }
    }
}

fn version_number(part: &str) -> i64 {
    use std::num::IntErrorKind;
    part.parse().unwrap_or_else(|error: std::num::ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => i64::MAX,
        IntErrorKind::NegOverflow => i64::MIN,
        _ => 0,
    })
}
