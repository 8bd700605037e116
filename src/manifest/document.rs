//! The strict reader of JSON documents that decide what is fetched.
//!
//! Two readers of one document must not see two images in it (CVE-2021-41190). Go's `encoding/json`, which most other
//! tools read with, ignores the case of keys and takes the last of several; so [`Object`] refuses, wherever the
//! specification defines the keys, both a key that occurs twice and a key that differs from a known one by case only.
//! What the specification leaves to others (unknown fields, annotations' keys) is walked over or taken as it is.
//!
//! Nothing here recurses: values are found by `serde_json`'s scanner, which keeps its own stack on the heap, and are
//! looked into one level at a time. So a document may be nested as deep as its size allows.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::text::printable;

use super::error::{ManifestError, Problem};

/// What messages call the JSON types.
const OBJECT: &str = "an object";
const ARRAY: &str = "an array";
const STRING: &str = "a string";
const NUMBER: &str = "a number";
const BOOLEAN: &str = "a boolean";

/// A problem and the way to it, innermost step first, because it is put together on the way out.
#[derive(Debug)]
pub(super) struct Fault {
    steps: Vec<Step>,
    problem: Problem,
}

#[derive(Debug)]
enum Step {
    Key(&'static str),
    Index(usize),
    Entry(String),
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self { steps: Vec::new(), problem }
    }
}

impl Fault {
    /// The same fault, seen from the object that has the value under `key`.
    pub(super) fn under(mut self, key: &'static str) -> Self {
        self.steps.push(Step::Key(key));
        self
    }

    /// The same fault, seen from the list that has the value at `index`.
    pub(super) fn at(mut self, index: usize) -> Self {
        self.steps.push(Step::Index(index));
        self
    }

    /// The same fault, seen from the object that has the value under a key that came from outside.
    pub(super) fn of_entry(mut self, key: &str) -> Self {
        self.steps.push(Step::Entry(printable(key)));
        self
    }

    /// The error that a caller sees.
    pub(super) fn in_document(self, document: &'static str) -> ManifestError {
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.extend([".", key]),
                Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
                Step::Entry(key) => path.extend(["[\"", key, "\"]"]),
            }
        }
        if path.is_empty() {
            path.push_str("the document");
        }
        ManifestError::Field { document, path, problem: self.problem }
    }
}

/// The text of `bytes`: strict UTF-8 without a byte order mark.
pub(super) fn utf8<'a>(bytes: &'a [u8], document: &'static str) -> Result<&'a str, ManifestError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ManifestError::NotUtf8 { document, offset: error.valid_up_to() })?;
    if text.starts_with('\u{feff}') {
        return Err(ManifestError::ByteOrderMark { document });
    }
    Ok(text)
}

/// The one JSON value that `text` is, with nothing but white space around it.
pub(super) fn value<'a>(text: &'a str, document: &'static str) -> Result<&'a RawValue, ManifestError> {
    serde_json::from_str(text)
        .map_err(|error| ManifestError::NotJson { document, reason: printable(&error.to_string()) })
}

/// The one JSON value that a string inside of a document holds.
pub(super) fn embedded(text: &str) -> Result<&RawValue, Fault> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

/// An object whose keys the specification defines: its known fields, every rule about keys checked.
pub(super) struct Object<'a> {
    fields: Vec<(&'static str, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads an object, of whose keys `known` are the specification's.
    pub(super) fn read(value: &'a RawValue, known: &[&'static str]) -> Result<Self, Fault> {
        let mut fields = Vec::new();
        let mut seen = HashSet::new();
        members(value, |key, member| {
            if let Some(name) = known.iter().find(|name| folds_alike(name, &key)) {
                if *name != key {
                    return Err(Problem::CaseVariant { key: printable(&key), known: name }.into());
                }
                fields.push((*name, member));
            }
            match seen.replace(key) {
                Some(key) => Err(Problem::DuplicateKey { key: printable(&key) }.into()),
                None => Ok(()),
            }
        })?;
        Ok(Self { fields })
    }

    /// Whether the field is there and is not null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.field(key).is_some()
    }

    fn field(&self, key: &str) -> Option<&'a RawValue> {
        let (_, value) = self.fields.iter().find(|(name, _)| *name == key)?;
        (!is_null(value)).then_some(*value)
    }

    /// The field through `read`; `None` where it is absent or null.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&'a RawValue) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.field(key).map(read).transpose().map_err(|fault| fault.under(key))
    }

    /// A field that is a string. The empty string counts as absent too: Go tools cannot tell these apart.
    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>, Fault> {
        Ok(self.optional(key, text)?.filter(|text| !text.is_empty()))
    }

    /// The field through `read`; absent and null are both [`Problem::Missing`].
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&'a RawValue) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.optional(key, read)?.ok_or_else(|| Fault::from(Problem::Missing).under(key))
    }
}

/// Whether Go's `encoding/json` takes `key` for the ASCII key `known`: Unicode's simple folding, which adds the long s
/// and the Kelvin sign to ASCII's pairs.
fn folds_alike(known: &str, key: &str) -> bool {
    known.chars().map(fold).eq(key.chars().map(fold))
}

/// `key` as Go's `encoding/json` folds it, as far as ASCII keys are concerned.
pub(super) fn folded(key: &str) -> String {
    key.chars().map(fold).collect()
}

fn fold(character: char) -> char {
    match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

/// Whether the value is null.
pub(super) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// A string.
pub(super) fn text(value: &RawValue) -> Result<String, Fault> {
    expect(value, STRING)?;
    let Text(text) = serde_json::from_str(value.get()).map_err(|error| unreadable(&error))?;
    Ok(text.into_owned())
}

/// A string, or null for the empty one, as Go has it for the elements of lists and maps.
fn text_or_null(value: &RawValue) -> Result<String, Fault> {
    if is_null(value) { Ok(String::new()) } else { text(value) }
}

/// A list of strings.
pub(super) fn texts(value: &RawValue) -> Result<Vec<String>, Fault> {
    elements(value, text_or_null)
}

/// A map of strings whose keys nobody defines: any spelling, the last of several counts.
pub(super) fn text_map(value: &RawValue) -> Result<BTreeMap<String, String>, Fault> {
    let mut map = BTreeMap::new();
    members(value, |key, member| {
        let text = text_or_null(member).map_err(|fault| fault.of_entry(&key))?;
        map.insert(key.into_owned(), text);
        Ok(())
    })?;
    Ok(map)
}

/// A whole number in the form that Go takes for one: no fraction, no exponent, 64 bits with a sign.
pub(super) fn integer(value: &RawValue) -> Result<i64, Fault> {
    expect(value, NUMBER)?;
    let digits = value.get();
    if digits.contains(['.', 'e', 'E']) {
        return Err(Problem::NotWhole { number: printable(digits) }.into());
    }
    digits.parse().map_err(|_| Problem::TooLarge { number: printable(digits) }.into())
}

/// `true` or `false`.
pub(super) fn boolean(value: &RawValue) -> Result<bool, Fault> {
    expect(value, BOOLEAN)?;
    Ok(value.get() == "true")
}

/// A size in bytes: a whole number that is not negative.
pub(super) fn size(value: &RawValue) -> Result<u64, Fault> {
    let negative = || Fault::from(Problem::Negative { number: printable(value.get()) });
    match integer(value) {
        Ok(number) => u64::try_from(number).map_err(|_| negative()),
        Err(Fault { problem: Problem::TooLarge { .. }, .. }) if value.get().starts_with('-') => {
            Err(negative())
        }
        Err(fault) => Err(fault),
    }
}

/// A digest.
pub(super) fn digest(value: &RawValue) -> Result<Digest, Fault> {
    text(value)?.parse().map_err(|error| Problem::Digest(error).into())
}

/// The JSON type that `value` has, told from its first character: the scanner has checked the rest.
fn type_name(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => OBJECT,
        Some(b'[') => ARRAY,
        Some(b'"') => STRING,
        Some(b'n') => "null",
        Some(b't' | b'f') => BOOLEAN,
        _ => NUMBER,
    }
}

/// Refuses a value that has another type than `wanted`, one of the names of [`type_name`].
fn expect(value: &RawValue, wanted: &'static str) -> Result<(), Fault> {
    let found = type_name(value);
    if found == wanted { Ok(()) } else { Err(Problem::WrongType { wanted, found }.into()) }
}

fn unreadable(error: &serde_json::Error) -> Fault {
    Problem::Unreadable { reason: printable(&error.to_string()) }.into()
}

/// Hands every member of an object to `visit`, in order, keys unescaped, whatever they are.
pub(super) fn members<'a>(
    value: &'a RawValue,
    visit: impl FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), Fault>,
) -> Result<(), Fault> {
    expect(value, OBJECT)?;
    let mut fault = None;
    let walked =
        serde_json::Deserializer::from_str(value.get()).deserialize_map(Members { visit, fault: &mut fault });
    settle(walked, fault)
}

/// Every element of an array through `read`. Elements are not collected before, so that a hostile array ends at its
/// first bad element.
pub(super) fn elements<'a, T>(
    value: &'a RawValue,
    mut read: impl FnMut(&'a RawValue) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    expect(value, ARRAY)?;
    let mut taken = Vec::new();
    let mut fault = None;
    let take = |element: &'a RawValue| {
        let index = taken.len();
        taken.push(read(element).map_err(|fault| fault.at(index))?);
        Ok(())
    };
    let walked = serde_json::Deserializer::from_str(value.get())
        .deserialize_seq(Elements { visit: take, fault: &mut fault });
    settle(walked, fault)?;
    Ok(taken)
}

/// The visitor's own fault where there is one: the reader's error then only says that the visitor stopped it.
fn settle(walked: Result<(), serde_json::Error>, fault: Option<Fault>) -> Result<(), Fault> {
    match fault {
        Some(fault) => Err(fault),
        None => walked.map_err(|error| unreadable(&error)),
    }
}

struct Members<'f, F> {
    visit: F,
    fault: &'f mut Option<Fault>,
}

impl<'de, F> Visitor<'de> for Members<'_, F>
where
    F: FnMut(Cow<'de, str>, &'de RawValue) -> Result<(), Fault>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OBJECT)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let member = map.next_value()?;
            if let Err(fault) = (self.visit)(key, member) {
                *self.fault = Some(fault);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

struct Elements<'f, F> {
    visit: F,
    fault: &'f mut Option<Fault>,
}

impl<'de, F> Visitor<'de> for Elements<'_, F>
where
    F: FnMut(&'de RawValue) -> Result<(), Fault>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ARRAY)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element()? {
            if let Err(fault) = (self.visit)(element) {
                *self.fault = Some(fault);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// A string as Go reads it: an escaped half of a surrogate pair is the replacement character, not an error.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for bytes, `serde_json` hands out surrogate halves as the three bytes that UTF-8 would have for them.
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STRING)
    }

    fn visit_borrowed_bytes<E: serde::de::Error>(self, bytes: &'de [u8]) -> Result<Text<'de>, E> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Text(Cow::Borrowed(text))),
            Err(_) => self.visit_bytes(bytes),
        }
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Text<'de>, E> {
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            // Every surrogate half begins with this byte; the two that follow are chunks of their own.
            if chunk.invalid().first() == Some(&0xed) {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Ok(Text(Cow::Owned(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        value(text, "test").unwrap()
    }

    fn problem<T>(result: Result<T, Fault>) -> String {
        let Err(fault) = result else { panic!("a fault was expected") };
        fault.in_document("test").to_string()
    }

    /// Keys are compared as a reader sees them, after unescaping, and unknown ones may not repeat either.
    #[test]
    fn duplicate_keys_are_refused() {
        let cases = [
            (r#"{"size":1,"size":1}"#, "size"),
            (r#"{"size":1,"other":2,"s\u0069ze":1}"#, "size"),
            (r#"{"x":{},"x":{}}"#, "x"),
            (r#"{"":1,"":2}"#, ""),
            (r#"{"\ud800":1,"\udfff":2}"#, "\u{fffd}"),
        ];
        for (text, key) in cases {
            assert_eq!(
                problem(Object::read(raw(text), &["size"])),
                format!("test: the document has the key \"{key}\" twice"),
                "{text}"
            );
        }
    }

    /// Go folds ASCII, the long s and the Kelvin sign, and nothing else onto ASCII.
    #[test]
    fn case_variants_are_refused() {
        for key in
            ["Size", "SIZE", "\u{17f}ize", "\\u017fize", "s\\u0049ze", "blo\u{212a}", "BLOK", "os.Version"]
        {
            let text = format!("{{\"{key}\":1}}");
            let found = problem(Object::read(raw(&text), &["size", "blok", "os.version"]));
            assert!(found.contains("which some readers take for"), "{text}: {found}");
        }
        for key in ["sıze", "sİze", "ßize", "siz", "sizes", "s ize", "size ", "ｓize", "os_version"] {
            let text = format!("{{\"{key}\":1}}");
            assert!(Object::read(raw(&text), &["size", "os.version"]).is_ok(), "{text}");
        }
    }

    /// Whole numbers are those that Go takes for an int64.
    #[test]
    fn sizes_are_whole_numbers() {
        for (text, size) in [("0", 0), ("-0", 0), ("1", 1), ("9223372036854775807", i64::MAX as u64)] {
            assert_eq!(super::size(raw(text)).ok(), Some(size), "{text}");
        }
        let refused = [
            ("-1", "is negative: -1"),
            ("-9223372036854775809", "is negative: -9223372036854775809"),
            ("9223372036854775808", "is too large a number: 9223372036854775808"),
            ("1.0", "is 1.0, not a whole number in plain digits"),
            ("1e3", "is 1e3, not a whole number in plain digits"),
            ("1E3", "is 1E3, not a whole number in plain digits"),
            ("0e0", "is 0e0, not a whole number in plain digits"),
            ("\"1\"", "is a string, not a number"),
            ("true", "is a boolean, not a number"),
            ("null", "is null, not a number"),
            ("[1]", "is an array, not a number"),
        ];
        for (text, message) in refused {
            assert_eq!(problem(size(raw(text))), format!("test: the document {message}"), "{text}");
        }
    }

    /// A lone half of a surrogate pair is what Go makes of it, in the middle of a string too.
    #[test]
    fn surrogate_halves_are_replaced() {
        let cases = [
            (r#""a\ud800b""#, "a\u{fffd}b"),
            (r#""\ud800\ud800""#, "\u{fffd}\u{fffd}"),
            (r#""\udc00\u0041""#, "\u{fffd}A"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\ud800\ue000""#, "\u{fffd}\u{e000}"),
            (r#""plain""#, "plain"),
        ];
        for (text, read) in cases {
            assert_eq!(super::text(raw(text)).ok().as_deref(), Some(read), "{text}");
        }
    }

    /// The last of several keys counts in a map that nobody defines, and null is empty there.
    #[test]
    fn text_maps_are_as_go_reads_them() {
        let map = text_map(raw(r#"{"a":"1","A":"2","a":"3","n":null}"#)).unwrap_or_default();
        let pairs: Vec<_> = map.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        assert_eq!(pairs, [("A", "2"), ("a", "3"), ("n", "")]);
        assert_eq!(problem(text_map(raw(r#"{"a\n":1}"#))), "test: [\"a\\n\"] is a number, not a string");
    }
}
