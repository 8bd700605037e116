//! The text of an `index.json`: taken apart within bounds, and written again.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Entry, IndexDocument};
use crate::layout::LayoutError;

/// The largest `index.json`. What is in one is kept in memory, and takes up to some twenty times the room where entries are as small as can be.
pub(in crate::layout) const CAP: usize = 32 << 20;

/// How many entries an `index.json` has at most. An entry may be as little as two bytes of text.
pub(super) const MOST_ENTRIES: usize = 100_000;

/// How many fields beside its entries.
pub(super) const MOST_FIELDS: usize = 1000;

impl IndexDocument {
    /// Takes the text of an `index.json` apart.
    ///
    /// # Errors
    /// What is wrong with it, in words: no JSON object, a key twice, another schema version, no list of manifests.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, String> {
        let text = String::from_utf8(bytes.into()).map_err(|error| format!("not UTF-8: {error}"))?;
        let text = Arc::new(text);
        let Fields(read) =
            serde_json::from_str(&text).map_err(|error| format!("not a JSON object: {error}"))?;
        let mut version = None;
        let mut entries = None;
        let mut fields = Vec::with_capacity(read.len());
        for (key, value) in read {
            let mut kept = value;
            match key.as_str() {
                "schemaVersion" => version = serde_json::from_str::<u64>(value.get()).ok(),
                "manifests" => {
                    let listed: Option<Entries<'_>> = serde_json::from_str(value.get())
                        .map_err(|error| format!("\"manifests\" cannot be used: {error}"))?;
                    let listed = listed.map(|Entries(entries)| entries).unwrap_or_default();
                    let entry = |entry: &RawValue| Entry::part_of(&text, place(&text, entry.get()));
                    entries = Some(listed.into_iter().map(entry).collect());
                    // Whoever writes it writes the entries.
                    kept = RawValue::NULL;
                }
                _ => {}
            }
            fields.push((key, kept.to_owned()));
        }
        if version != Some(2) {
            return Err("its schemaVersion is not 2".to_owned());
        }
        Ok(Self { fields, entries: entries.ok_or("it has no \"manifests\"")? })
    }

    /// Whether it may be written as these bytes: what is larger could not be read again.
    ///
    /// # Errors
    /// [`LayoutError::Full`], with the path.
    pub(in crate::layout) fn has_room(&self, bytes: &[u8], path: &Path) -> Result<(), LayoutError> {
        if self.entries.len() <= MOST_ENTRIES && bytes.len() <= CAP {
            return Ok(());
        }
        Err(LayoutError::Full { path: path.to_owned(), most: MOST_ENTRIES, cap: CAP })
    }

    /// The text, with a line end.
    pub fn to_bytes(&self) -> Vec<u8> {
        // In one piece from the beginning, with commas and brackets: what grows leaves pieces behind.
        let entries: usize = self.entries.iter().map(|entry| entry.json().len() + 1).sum();
        let fields: usize = self.fields.iter().map(|(key, value)| key.len() + value.get().len() + 16).sum();
        let mut bytes = Vec::with_capacity(entries + fields + 16);
        serde_json::to_writer(&mut bytes, self).expect("invariant: raw JSON serialises");
        bytes.push(b'\n');
        bytes
    }
}

impl Serialize for IndexDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<&RawValue> = self.entries.iter().map(Entry::raw).collect();
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (key, value) in &self.fields {
            if key == "manifests" {
                map.serialize_entry(key, &entries)?;
            } else {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// Where in a text a part of it stands.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

/// The entries in a list, of which there may not be more than [`MOST_ENTRIES`].
struct Entries<'de>(Vec<&'de RawValue>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element::<&'de RawValue>()? {
                    if entries.len() == MOST_ENTRIES {
                        return Err(serde::de::Error::custom(format_args!(
                            "there are more than {MOST_ENTRIES}"
                        )));
                    }
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_seq(EntriesVisitor)
    }
}

/// A JSON object's fields in order, each value's text untouched. A key that comes twice is an error: which of the two
/// another tool means cannot be known.
struct Fields<'de>(Vec<(String, &'de RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields: Vec<(String, &'de RawValue)> = Vec::new();
                let mut seen = HashSet::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if !seen.insert(key.clone()) {
                        return Err(serde::de::Error::custom(format_args!(
                            "the key \"{}\" comes twice",
                            crate::text::printable(&key)
                        )));
                    }
                    if fields.len() == MOST_FIELDS {
                        return Err(serde::de::Error::custom(format_args!(
                            "there are more than {MOST_FIELDS} fields"
                        )));
                    }
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}
