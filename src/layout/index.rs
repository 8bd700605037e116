//! Edits of `index.json`, as pure functions over its text.
//!
//! The file belongs to everybody who writes into the layout, so it is never parsed into a model and written back:
//! every top-level field and every entry that an edit does not touch keeps its own bytes, and an entry that is touched
//! keeps the fields and annotations that are not ours.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::manifest::{Descriptor, ManifestError};

/// The short name that skopeo, umoci and podman look for.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full canonical name that containerd, nerdctl, k3s and `docker load` read.
pub const FULL_NAME: &str = "io.containerd.image.name";
/// The digest of the index that the image's manifest was taken out of.
pub const INDEX_DIGEST: &str = "io.ocipull.index.digest";
/// `skipped` where the layers' diff IDs were not computed.
pub const DIFF_IDS: &str = "io.ocipull.diff-ids";
/// The platform that was asked for, where the one that was taken is another (a fallback).
pub const REQUESTED_PLATFORM: &str = "io.ocipull.platform.requested";

/// Annotations that an edit of ours decides; all others of an entry stay.
fn is_ours(annotation: &str) -> bool {
    matches!(annotation, REF_NAME | FULL_NAME) || annotation.starts_with("io.ocipull.")
}

/// The text of an `index.json`, taken apart just far enough to edit it.
#[derive(Debug, Clone)]
pub struct IndexDocument {
    fields: Vec<(String, Box<RawValue>)>,
    entries: Vec<Entry>,
}

/// One entry of `manifests`.
#[derive(Debug, Clone)]
pub struct Entry {
    raw: Box<RawValue>,
    descriptor: Result<Descriptor, ManifestError>,
}

/// Who has a ref.name that a new entry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The full name, or where there is none the digest, with the platform.
    pub shown: String,
    /// Whether it is the same full name, for another platform.
    pub same_image: bool,
}

/// What to do when another image has the ref.name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflict {
    /// Refuse.
    #[default]
    Refuse,
    /// Take the name: the other entry stays, without it.
    TakeOver,
}

impl Entry {
    fn new(raw: Box<RawValue>) -> Self {
        let descriptor = Descriptor::from_json(raw.get());
        Self { raw, descriptor }
    }

    /// The entry's descriptor.
    ///
    /// # Errors
    /// [`ManifestError`] when another tool wrote something that is no descriptor. Such an entry is kept as it is.
    pub fn descriptor(&self) -> Result<&Descriptor, &ManifestError> {
        self.descriptor.as_ref()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        let descriptor = self.descriptor.as_ref().ok()?;
        descriptor.annotations.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The short name, `org.opencontainers.image.ref.name`.
    pub fn ref_name(&self) -> Option<&str> {
        self.annotation(REF_NAME)
    }

    /// The full canonical name, `io.containerd.image.name`.
    pub fn full_name(&self) -> Option<&str> {
        self.annotation(FULL_NAME)
    }

    /// Whether both are the same image for the same platform.
    fn is_same_as(&self, new: &Descriptor) -> bool {
        let Ok(descriptor) = &self.descriptor else { return false };
        match (self.full_name(), new.annotations.get(FULL_NAME)) {
            (Some(held), Some(wanted)) => held == wanted && same_platform(descriptor, new),
            // Another tool's entry for the same bytes under the same short name becomes ours.
            (None, Some(_)) => {
                descriptor.digest == new.digest
                    && self
                        .ref_name()
                        .is_none_or(|name| new.annotations.get(REF_NAME).is_some_and(|new| new == name))
            }
            _ => false,
        }
    }

    fn shown(&self) -> String {
        let Ok(descriptor) = &self.descriptor else { return "an entry that is no descriptor".to_owned() };
        let name = self.full_name().map_or_else(|| descriptor.digest.to_string(), crate::text::printable);
        match &descriptor.platform {
            Some(platform) => format!("{name} ({})", crate::text::printable(&platform.to_string())),
            None => name,
        }
    }
}

fn same_platform(held: &Descriptor, new: &Descriptor) -> bool {
    let normal =
        |descriptor: &Descriptor| descriptor.platform.as_ref().map(crate::platform::Platform::normalize);
    normal(held) == normal(new)
}

impl IndexDocument {
    /// Takes the text of an `index.json` apart.
    ///
    /// # Errors
    /// What is wrong with it, in words: no JSON object, a key twice, another schema version, no list of manifests.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
        let Fields(fields) =
            serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
        let mut version = None;
        let mut entries = None;
        for (key, value) in &fields {
            match key.as_str() {
                "schemaVersion" => version = serde_json::from_str::<u64>(value.get()).ok(),
                "manifests" => {
                    let listed: Option<Vec<Box<RawValue>>> = serde_json::from_str(value.get())
                        .map_err(|_| "\"manifests\" is not a list".to_owned())?;
                    entries = Some(listed.unwrap_or_default().into_iter().map(Entry::new).collect());
                }
                _ => {}
            }
        }
        if version != Some(2) {
            return Err("its schemaVersion is not 2".to_owned());
        }
        Ok(Self { fields, entries: entries.ok_or("it has no \"manifests\"")? })
    }

    /// The index of a layout that names nothing yet.
    pub fn empty() -> Self {
        let text =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        Self::parse(text).expect("invariant: the text above is an index")
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Who else has the ref.name that `new` wants.
    pub fn holder(&self, new: &Descriptor) -> Option<Holder> {
        let name = new.annotations.get(REF_NAME)?;
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.ref_name() == Some(name.as_str()) && !entry.is_same_as(new))?;
        let same_image = entry.full_name() == new.annotations.get(FULL_NAME).map(String::as_str);
        Some(Holder { shown: entry.shown(), same_image })
    }

    /// Names an image: replaces the entry of the same full name and platform, or adds one.
    ///
    /// # Errors
    /// The [`Holder`] when another image has the ref.name and it is not to be taken over.
    pub fn put(&mut self, new: &Descriptor, conflict: Conflict) -> Result<(), Holder> {
        if let Some(holder) = self.holder(new) {
            if conflict == Conflict::Refuse {
                return Err(holder);
            }
            self.release_name(new);
        }
        let same: Vec<usize> =
            (0..self.entries.len()).filter(|at| self.entries[*at].is_same_as(new)).collect();
        match same.split_first() {
            Some((first, others)) => {
                self.entries[*first] = Entry::new(merged(self.entries[*first].raw.get(), new));
                for at in others.iter().rev() {
                    self.entries.remove(*at);
                }
            }
            None => self.entries.push(Entry::new(merged("{}", new))),
        }
        Ok(())
    }

    /// Takes the ref.name of `new` from every other entry.
    fn release_name(&mut self, new: &Descriptor) {
        let wanted = new.annotations.get(REF_NAME).map(String::as_str);
        for entry in &mut self.entries {
            if entry.ref_name() != wanted || entry.is_same_as(new) {
                continue;
            }
            let mut value = object(entry.raw.get());
            if let Some(Value::Object(annotations)) = value.get_mut("annotations") {
                annotations.shift_remove(REF_NAME);
            }
            *entry = Entry::new(raw(&value));
        }
    }

    /// The text, with a line end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("invariant: raw JSON serialises");
        bytes.push(b'\n');
        bytes
    }
}

/// `new` laid over the JSON of an entry: unknown fields and foreign annotations stay.
fn merged(held: &str, new: &Descriptor) -> Box<RawValue> {
    let mut value = object(held);
    let mut foreign = match value.shift_remove("annotations") {
        Some(Value::Object(annotations)) => annotations,
        _ => Map::new(),
    };
    foreign.retain(|key, _| !is_ours(key));
    for key in ["mediaType", "digest", "size", "urls", "data", "platform", "artifactType"] {
        value.shift_remove(key);
    }
    let mut fields = match serde_json::to_value(new).expect("invariant: a descriptor serialises") {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    if let Some(Value::Object(annotations)) = fields.get_mut("annotations") {
        annotations.extend(foreign);
    } else if !foreign.is_empty() {
        fields.insert("annotations".to_owned(), Value::Object(foreign));
    }
    fields.extend(value);
    raw(&fields)
}

fn object(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap_or_default()
}

fn raw(value: &Map<String, Value>) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("invariant: a JSON object serialises")
}

impl Serialize for IndexDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<&RawValue> = self.entries.iter().map(|entry| &*entry.raw).collect();
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

/// A JSON object's fields in order, each value's text untouched. A key that comes twice is an error: which of the two
/// another tool means cannot be known.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if fields.iter().any(|(held, _)| *held == key) {
                        return Err(serde::de::Error::custom(format_args!(
                            "the key \"{}\" comes twice",
                            crate::text::printable(&key)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::manifest::MediaType;
    use crate::platform::Platform;

    fn entry(content: &str, full: &str, short: Option<&str>, platform: &str) -> Descriptor {
        let mut descriptor = Descriptor::new(
            MediaType::from("application/vnd.oci.image.manifest.v1+json"),
            Digest::sha256(content.as_bytes()),
            content.len() as u64,
        );
        descriptor.annotations.insert(FULL_NAME.into(), full.into());
        if let Some(short) = short {
            descriptor.annotations.insert(REF_NAME.into(), short.into());
        }
        descriptor.platform = Some(platform.parse::<Platform>().unwrap());
        descriptor
    }

    fn names(index: &IndexDocument) -> Vec<(Option<&str>, Option<&str>)> {
        index.entries().iter().map(|entry| (entry.full_name(), entry.ref_name())).collect()
    }

    /// A moved tag replaces its entry; another platform and another image stand beside it.
    #[test]
    fn the_same_name_and_platform_is_replaced_and_all_else_stays() {
        let mut index = IndexDocument::empty();
        index.put(&entry("one", "h.io/a:1", Some("1"), "linux/amd64"), Conflict::Refuse).unwrap();
        index.put(&entry("arm", "h.io/a:1", Some("1-arm"), "linux/arm64"), Conflict::Refuse).unwrap();
        index.put(&entry("two", "h.io/a:1", Some("1"), "linux/amd64"), Conflict::Refuse).unwrap();
        assert_eq!(names(&index), [(Some("h.io/a:1"), Some("1")), (Some("h.io/a:1"), Some("1-arm"))]);
        assert_eq!(index.entries()[0].descriptor().unwrap().digest, Digest::sha256(b"two"));
    }

    /// A short name that another image has is refused, and with a take-over only the name moves.
    #[test]
    fn a_taken_name_is_refused_or_moved() {
        let mut index = IndexDocument::empty();
        index.put(&entry("one", "h.io/a:1", Some("1"), "linux/amd64"), Conflict::Refuse).unwrap();
        let other = entry("two", "h.io/b:1", Some("1"), "linux/amd64");
        let holder = index.put(&other, Conflict::Refuse).unwrap_err();
        assert_eq!(holder, Holder { shown: "h.io/a:1 (linux/amd64)".into(), same_image: false });
        index.put(&other, Conflict::TakeOver).unwrap();
        assert_eq!(names(&index), [(Some("h.io/a:1"), None), (Some("h.io/b:1"), Some("1"))]);
        let arm = entry("arm", "h.io/b:1", Some("1"), "linux/arm64");
        assert!(index.put(&arm, Conflict::Refuse).unwrap_err().same_image);
    }

    /// What other tools wrote keeps its bytes: fields, odd numbers, entries that are no descriptors.
    #[test]
    fn foreign_content_stays_as_it_was() {
        let text = r#"{"x-first": 1.50e3, "schemaVersion":2, "manifests":[ {"digest":"nonsense","z" : [ 1e400 ]},
            {"mediaType":"m","size": 3 ,"digest":"sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed","annotations":{"org.opencontainers.image.ref.name":"theirs"}}],
            "annotations": {"k":  "v"}}"#;
        let mut index = IndexDocument::parse(text.as_bytes()).unwrap();
        index.put(&entry("one", "h.io/a:1", Some("1"), "linux/amd64"), Conflict::Refuse).unwrap();
        let written = String::from_utf8(index.to_bytes()).unwrap();
        for kept in [
            r#""x-first":1.50e3"#,
            r#"{"digest":"nonsense","z" : [ 1e400 ]}"#,
            r#"{"mediaType":"m","size": 3 ,"digest":"#,
            r#""annotations":{"k":  "v"}"#,
        ] {
            assert!(written.contains(kept), "{kept} in {written}");
        }
        assert_eq!(IndexDocument::parse(written.as_bytes()).unwrap().entries().len(), 3);
    }

    /// An entry of ours that somebody annotated keeps that annotation through a moved tag.
    #[test]
    fn foreign_annotations_of_our_entry_stay() {
        let mut index = IndexDocument::empty();
        let mut first = entry("one", "h.io/a:1", Some("1"), "linux/amd64");
        first.annotations.insert("com.example.ticket".into(), "42".into());
        first.annotations.insert(INDEX_DIGEST.into(), "sha256:old".into());
        index.put(&first, Conflict::Refuse).unwrap();
        index.put(&entry("two", "h.io/a:1", Some("1"), "linux/amd64"), Conflict::Refuse).unwrap();
        let descriptor = index.entries()[0].descriptor().unwrap();
        assert_eq!(descriptor.annotations.get("com.example.ticket").map(String::as_str), Some("42"));
        assert_eq!(descriptor.annotations.get(INDEX_DIGEST), None);
    }

    /// Another tool's entry for the very same image under the same name is taken as the same.
    #[test]
    fn an_unnamed_entry_of_the_same_bytes_becomes_ours() {
        let ours = entry("one", "h.io/a:1", Some("1"), "linux/amd64");
        let theirs = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","size":3,"digest":"{}","annotations":{{"{REF_NAME}":"1"}}}}]}}"#,
            ours.digest
        );
        let mut index = IndexDocument::parse(theirs.as_bytes()).unwrap();
        index.put(&ours, Conflict::Refuse).unwrap();
        assert_eq!(names(&index), [(Some("h.io/a:1"), Some("1"))]);
    }

    /// Whatever is no index is said to be none, and why; it never becomes an empty one.
    #[test]
    fn what_is_no_index_is_refused() {
        for text in [
            "",
            "[]",
            "null",
            "{}",
            "{\"schemaVersion\":2}",
            "{\"manifests\":[]}",
            "{\"schemaVersion\":1,\"manifests\":[]}",
            "{\"schemaVersion\":2,\"manifests\":{}}",
            "{\"schemaVersion\":2,\"manifests\":[]} x",
            "{\"schemaVersion\":2,\"manifests\":[],\"manifests\":[]}",
            "{\"schemaVersion\":2,\"manifests\":[",
            "\u{feff}{\"schemaVersion\":2,\"manifests\":[]}",
        ] {
            assert!(IndexDocument::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(IndexDocument::parse(b"{\"schemaVersion\":2,\"manifests\":[\xff]}").is_err());
        // Go writes an empty list as null.
        assert!(
            IndexDocument::parse(b"{\"schemaVersion\":2,\"manifests\":null}").unwrap().entries().is_empty()
        );
    }
}
