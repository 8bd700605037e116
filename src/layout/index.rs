//! Edits of `index.json`, as pure functions over its text.
//!
//! The file belongs to everybody who writes into the layout, so it is never parsed into a model and written back:
//! every top-level field and every entry that an edit does not touch keeps its own bytes, and an entry that is touched
//! keeps the fields and annotations that are not ours.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::LayoutError;
use crate::digest::Digest;
use crate::manifest::convert::relabelled;
use crate::manifest::{Descriptor, ManifestError, edit};
use crate::platform::Platform;

/// The short name that skopeo, umoci and podman look for.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full canonical name that containerd, nerdctl, k3s and `docker load` read.
pub const FULL_NAME: &str = "io.containerd.image.name";
/// The digest of the index that the image's manifest was taken out of.
pub const INDEX_DIGEST: &str = "io.ocipull.index.digest";
/// `skipped` where the layers' diff IDs were not computed.
pub const DIFF_IDS: &str = "io.ocipull.diff-ids";
/// Says which platforms were taken, separated by commas, where an index is not whole.
pub const PLATFORMS: &str = "io.ocipull.platforms";
/// Says from which manifest or index the entry's was converted.
pub const SOURCE_DIGEST: &str = "io.ocipull.source.digest";
/// Says what ocipull proved of the blobs: an entry without it may be another tool's word.
pub const PROVEN: &str = "io.ocipull.proven";
/// Says what type the source of a conversion had, where that was Docker's schema 1.
pub const SOURCE_TYPE: &str = "io.ocipull.source.media-type";
/// Says `skipped` where layers that live at other URLs were left there.
pub const FOREIGN_LAYERS: &str = "io.ocipull.foreign-layers";
/// What [`DIFF_IDS`] and [`FOREIGN_LAYERS`] say.
pub(crate) const SKIPPED: &str = "skipped";
/// The platform that was asked for, where the one that was taken is another (a fallback).
pub const REQUESTED_PLATFORM: &str = "io.ocipull.platform.requested";

/// The largest `index.json`. What is in one is kept in memory, and takes up to some twenty times the room there.
pub(super) const CAP: usize = 32 << 20;

/// How many entries an `index.json` has at most. An entry may be as little as two bytes of text.
const MOST_ENTRIES: usize = 100_000;

/// How many fields beside its entries.
const MOST_FIELDS: usize = 1000;

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

/// One entry of `manifests`. Cheap to clone, so that an index of thousands can be edited again and again.
#[derive(Debug, Clone)]
pub struct Entry(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    raw: Box<RawValue>,
    descriptor: Result<Descriptor, ManifestError>,
    full_name: Option<String>,
    ref_name: Option<String>,
}

/// Who has a ref.name that a new entry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The full name, or where there is none the digest, with the platform.
    pub shown: String,
    /// What it is to the new entry.
    pub relation: Relation,
}

/// What an entry that has a name is to one that wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relation {
    /// Another image.
    OtherImage,
    /// The same full name, for another platform.
    OtherPlatform,
    /// The index that the new entry's image is a part of.
    ItsIndex,
}

/// Why an entry could not be put into the index.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// Another image has the ref.name, and it is neither taken over nor done without.
    #[error("the name is taken by {}", .0.shown)]
    Taken(Holder),
    /// An entry that has to change cannot be edited.
    #[error("an entry cannot be edited")]
    Entry(#[source] ManifestError),
}

/// What the layout has of an index that an entry without [`PLATFORMS`] names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Every manifest below it.
    Whole,
    /// Manifests for these platforms.
    Platforms(Vec<Platform>),
}

/// What to do when another image has the ref.name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflict {
    /// Refuse.
    #[default]
    Refuse,
    /// Take the name: the other entry stays, without it.
    TakeOver,
    /// Do without the name: the new entry has its full name only.
    Yield,
}

/// An entry that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// What it says. Identified by its full name and its platform.
    pub descriptor: Descriptor,
    /// For an index, the platforms that it covers: entries of the same full name for one of them give way to it.
    pub covers: Vec<Platform>,
    /// What to do when another image has its ref.name.
    pub conflict: Conflict,
}

impl NewEntry {
    /// An entry for one image, which covers nothing but itself.
    pub fn new(descriptor: Descriptor, conflict: Conflict) -> Self {
        Self { descriptor, covers: Vec::new(), conflict }
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.descriptor.annotations.get(key).map(String::as_str)
    }
}

impl Entry {
    fn new(raw: Box<RawValue>) -> Self {
        let descriptor = Descriptor::from_json(raw.get());
        let name = |key: &str| {
            let name = match &descriptor {
                Ok(descriptor) => descriptor.annotations.get(key).cloned(),
                // Other tools go by the name whatever else the entry says.
                Err(_) => edit::annotation(raw.get(), key),
            };
            name.filter(|name| !name.is_empty())
        };
        let (full_name, ref_name) = (name(FULL_NAME), name(REF_NAME));
        Self(Arc::new(Parts { raw, descriptor, full_name, ref_name }))
    }

    fn of_text(json: String) -> Self {
        Self::new(RawValue::from_string(json).expect("invariant: an edited object is JSON"))
    }

    /// The entry's descriptor.
    ///
    /// # Errors
    /// [`ManifestError`] when another tool wrote something that is no descriptor. Such an entry is kept as it is.
    pub fn descriptor(&self) -> Result<&Descriptor, &ManifestError> {
        self.0.descriptor.as_ref()
    }

    /// The short name, `org.opencontainers.image.ref.name`; also of an entry that is no descriptor.
    pub fn ref_name(&self) -> Option<&str> {
        self.0.ref_name.as_deref()
    }

    /// The full canonical name, `io.containerd.image.name`; also of an entry that is no descriptor.
    pub fn full_name(&self) -> Option<&str> {
        self.0.full_name.as_deref()
    }

    /// Whether the new entry stands for all that this one stands for.
    fn gives_way_to(&self, new: &NewEntry) -> bool {
        self.is_same_as(&new.descriptor) || self.is_covered_by(new)
    }

    /// Whether it is one platform of what the new entry has as an index.
    fn is_covered_by(&self, new: &NewEntry) -> bool {
        let Ok(held) = &self.0.descriptor else { return false };
        if self.full_name().is_none() || self.full_name() != new.annotation(FULL_NAME) {
            return false;
        }
        let Some(platform) = held.platform.as_ref().map(Platform::normalize) else { return false };
        new.covers.iter().any(|covered| covered.normalize() == platform)
    }

    /// Whether both are the same image for the same platform, as it was asked for or as it was found.
    fn is_same_as(&self, new: &Descriptor) -> bool {
        let Ok(held) = &self.0.descriptor else { return false };
        match (self.full_name(), new.annotations.get(FULL_NAME)) {
            (Some(name), Some(wanted)) => {
                name == wanted && (same_platform(held, new) || was_index_of(held, new))
            }
            // Another tool's entry for the same bytes under the same short name becomes ours.
            (None, Some(_)) => {
                held.digest == new.digest
                    && self
                        .ref_name()
                        .is_none_or(|name| new.annotations.get(REF_NAME).is_some_and(|new| new == name))
            }
            _ => false,
        }
    }

    fn relation_to(&self, new: &NewEntry) -> Relation {
        match &self.0.descriptor {
            Ok(held) if self.full_name() == new.annotation(FULL_NAME) => {
                if held.media_type.is_index() {
                    Relation::ItsIndex
                } else {
                    Relation::OtherPlatform
                }
            }
            _ => Relation::OtherImage,
        }
    }

    fn shown(&self) -> String {
        let Ok(descriptor) = &self.0.descriptor else { return "an entry that is no descriptor".to_owned() };
        let name = self.full_name().map_or_else(|| descriptor.digest.to_string(), crate::text::printable);
        match &descriptor.platform {
            Some(platform) => format!("{name} ({})", crate::text::printable(&platform.to_string())),
            None if descriptor.media_type.is_index() => format!("{name} (an index of several platforms)"),
            None => name,
        }
    }
}

/// Whether both are for the same platform, or stand for the same one that was asked for: what a tag has for it may be
/// one fallback today, and another or the very platform tomorrow.
fn same_platform(held: &Descriptor, new: &Descriptor) -> bool {
    let normal = |descriptor: &Descriptor| descriptor.platform.as_ref().map(Platform::normalize);
    let (held_platform, new_platform) = (normal(held), normal(new));
    let asked = |descriptor: &Descriptor, found: &Option<Platform>| {
        let annotated = descriptor.annotations.get(REQUESTED_PLATFORM).filter(|text| !text.is_empty());
        annotated.cloned().or_else(|| found.as_ref().map(Platform::specifier))
    };
    let was_asked = asked(held, &held_platform);
    held_platform == new_platform || (was_asked.is_some() && was_asked == asked(new, &new_platform))
}

/// Whether the name stood for an index and now stands for a single image.
fn was_index_of(held: &Descriptor, new: &Descriptor) -> bool {
    held.media_type.is_index()
        && held.platform.is_none()
        && !new.media_type.is_index()
        && !new.annotations.contains_key(INDEX_DIGEST)
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
                    let listed: Option<Entries> = serde_json::from_str(value.get())
                        .map_err(|error| format!("\"manifests\" cannot be used: {error}"))?;
                    entries = Some(listed.map(|Entries(entries)| entries).unwrap_or_default());
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
    pub fn holder(&self, new: &NewEntry) -> Option<Holder> {
        let name = new.annotation(REF_NAME)?;
        let holds = |entry: &&Entry| entry.ref_name() == Some(name) && !entry.gives_way_to(new);
        let entry = self.entries.iter().find(holds)?;
        Some(Holder { shown: entry.shown(), relation: entry.relation_to(new) })
    }

    /// Whether a ref.name means several things, so that tools differ in what they find by it: entries with different
    /// digests, or one of which no digest is known.
    pub fn is_ambiguous(&self, ref_name: &str) -> bool {
        let named = self.entries.iter().filter(|entry| entry.ref_name() == Some(ref_name));
        let meant: BTreeSet<Option<Digest>> =
            named.map(|entry| Some(entry.descriptor().ok()?.digest)).collect();
        meant.len() > 1
    }

    /// Names an image: replaces the entry of the same full name and platform and those that it covers, or adds one.
    /// A sparse index that was there keeps counting what was taken of it before; `extent` is asked what the layout has
    /// of one whose entry does not say that. Says whether that changed anything.
    ///
    /// # Errors
    /// [`PutError`]; nothing has changed then.
    pub fn put(&mut self, new: &NewEntry, extent: impl Fn(&Descriptor) -> Extent) -> Result<bool, PutError> {
        let mut new = new.clone();
        let mut released = Vec::new();
        if let Some(holder) = self.holder(&new) {
            match new.conflict {
                Conflict::Refuse => return Err(PutError::Taken(holder)),
                Conflict::TakeOver => released = self.without_name(&new)?,
                Conflict::Yield => drop(new.descriptor.annotations.remove(REF_NAME)),
            }
        }
        let same: BTreeSet<usize> =
            (0..self.entries.len()).filter(|at| self.entries[*at].gives_way_to(&new)).collect();
        // The first one last: its order stays.
        for at in same.iter().rev() {
            keep_counting(&self.entries[*at], &mut new.descriptor, &extent);
        }
        let held = same.first().map_or("{}", |first| self.entries[*first].0.raw.get());
        let entry = Entry::of_text(edit::laid_over(held, &new.descriptor, is_ours).map_err(PutError::Entry)?);
        let is_as_before = released.is_empty() && same.len() == 1 && entry.0.raw.get() == held;
        for (at, entry) in released {
            self.entries[at] = entry;
        }
        let Some(first) = same.first() else {
            self.entries.push(entry);
            return Ok(true);
        };
        self.entries[*first] = entry;
        let mut at = 0..;
        self.entries.retain(|_| at.next().is_none_or(|at| at == *first || !same.contains(&at)));
        Ok(!is_as_before)
    }

    /// Lets an entry name what its image was converted to, and says whether the entry is still there as it was read.
    ///
    /// Type, digest and size change, content and URLs that the entry carried go, and [`SOURCE_DIGEST`] names what was
    /// converted; it stays where it is there, since that is what the registry has. All else keeps its bytes.
    ///
    /// # Errors
    /// [`ManifestError`] when the entry is no descriptor.
    pub fn replace(&mut self, old: &Entry, new: &Descriptor) -> Result<bool, ManifestError> {
        let source = old.descriptor().map_err(Clone::clone)?.digest.to_string();
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.0.raw.get() == old.0.raw.get()) else {
            return Ok(false);
        };
        let json = relabelled(entry.0.raw.get(), new, (SOURCE_DIGEST, &source))?;
        *entry = Entry::of_text(json);
        Ok(true)
    }

    /// Every other entry that has the ref.name of `new`, without it.
    fn without_name(&self, new: &NewEntry) -> Result<Vec<(usize, Entry)>, PutError> {
        let wanted = new.annotation(REF_NAME);
        let others = self.entries.iter().enumerate();
        let others = others.filter(|(_, entry)| entry.ref_name() == wanted && !entry.gives_way_to(new));
        let without = |(at, entry): (usize, &Entry)| {
            let json = edit::without_annotation(entry.0.raw.get(), REF_NAME).map_err(PutError::Entry)?;
            Ok((at, Entry::of_text(json)))
        };
        others.map(without).collect()
    }

    /// Whether it may be written as these bytes: what is larger could not be read again.
    ///
    /// # Errors
    /// [`LayoutError::Full`], with the path.
    pub(super) fn has_room(&self, bytes: &[u8], path: &Path) -> Result<(), LayoutError> {
        if self.entries.len() <= MOST_ENTRIES && bytes.len() <= CAP {
            return Ok(());
        }
        Err(LayoutError::Full { path: path.to_owned(), most: MOST_ENTRIES, cap: CAP })
    }

    /// The text, with a line end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("invariant: raw JSON serialises");
        bytes.push(b'\n');
        bytes
    }
}

/// Of the same index, what was taken before stays counted when less is taken now, with what is known of its proofs, and in
/// the order in which it was counted: taking a part of it again changes nothing.
fn keep_counting(held: &Entry, new: &mut Descriptor, extent: impl Fn(&Descriptor) -> Extent) {
    let Ok(held) = held.descriptor() else { return };
    if !new.media_type.is_index() || held.digest != new.digest {
        return;
    }
    let Some(now) = new.annotations.get(PLATFORMS).cloned() else { return };
    let taken: HashSet<&str> = listed_platforms(&now).into_iter().collect();
    if let Some(before) = counted(held, extent) {
        let listed = listed_platforms(&before);
        let was_counted: HashSet<&str> = listed.iter().copied().collect();
        let mut added = listed_platforms(&now);
        added.retain(|platform| !was_counted.contains(platform));
        let all = if added.is_empty() { before.clone() } else { [listed, added].concat().join(",") };
        new.annotations.insert(PLATFORMS.to_owned(), all);
        if taken.is_superset(&was_counted) {
            return;
        }
    } else {
        new.annotations.remove(PLATFORMS);
    }
    for key in [DIFF_IDS, FOREIGN_LAYERS] {
        if let Some(value) = held.annotations.get(key) {
            new.annotations.insert(key.to_owned(), value.clone());
        }
    }
}

/// The platforms that an entry of an index stands for, as [`PLATFORMS`] has them; `None` for all that there are.
fn counted(held: &Descriptor, extent: impl Fn(&Descriptor) -> Extent) -> Option<String> {
    if let Some(platforms) = held.annotations.get(PLATFORMS) {
        return Some(platforms.clone());
    }
    match extent(held) {
        Extent::Whole => None,
        Extent::Platforms(platforms) => {
            Some(platforms.iter().map(Platform::specifier).collect::<Vec<_>>().join(","))
        }
    }
}

/// The platforms in the text of a [`PLATFORMS`] annotation.
pub fn listed_platforms(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|platform| !platform.is_empty()).collect()
}

impl Serialize for IndexDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<&RawValue> = self.entries.iter().map(|entry| &*entry.0.raw).collect();
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

/// The entries in a list, of which there may not be more than [`MOST_ENTRIES`].
struct Entries(Vec<Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element::<Box<RawValue>>()? {
                    if entries.len() == MOST_ENTRIES {
                        return Err(serde::de::Error::custom(format_args!(
                            "there are more than {MOST_ENTRIES}"
                        )));
                    }
                    entries.push(Entry::new(entry));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_seq(EntriesVisitor)
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
                let mut seen = HashSet::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;
    use crate::manifest::MediaType;

    /// An index of more entries or fields than memory is meant for is refused before they are taken apart, and none is written.
    #[test]
    fn an_index_has_bounds() {
        let of =
            |count: usize| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec!["0"; count].join(","));
        let most = IndexDocument::parse(of(MOST_ENTRIES).as_bytes()).unwrap();
        let error = IndexDocument::parse(of(MOST_ENTRIES + 1).as_bytes()).unwrap_err();
        assert!(error.contains("more than 100000"), "{error}");
        let fields = (0..MOST_FIELDS).map(|at| format!(r#","{at}":0"#)).collect::<Vec<_>>().concat();
        let error = IndexDocument::parse(of(0).replace('}', &format!("{fields}}}")).as_bytes()).unwrap_err();
        assert!(error.contains("more than 1000 fields"), "{error}");

        let path = Path::new("out/index.json");
        most.has_room(&most.to_bytes(), path).unwrap();
        let mut more = most.clone();
        put(&mut more, &entry("one more", "r/a:v1", None, "linux/amd64"));
        assert!(matches!(more.has_room(&more.to_bytes(), path), Err(LayoutError::Full { .. })));
        assert!(most.has_room(&vec![b' '; CAP + 1], path).is_err());
    }

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

    /// Puts an entry into an index of which the layout has all.
    fn put(index: &mut IndexDocument, descriptor: &Descriptor) {
        index.put(&NewEntry::new(descriptor.clone(), Conflict::Refuse), |_| Extent::Whole).unwrap();
    }

    /// Who keeps an entry from being put, with what of the image.
    fn refused(index: &mut IndexDocument, descriptor: &Descriptor) -> Holder {
        match index.put(&NewEntry::new(descriptor.clone(), Conflict::Refuse), |_| Extent::Whole) {
            Err(PutError::Taken(holder)) => holder,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn names(index: &IndexDocument) -> Vec<(Option<&str>, Option<&str>)> {
        index.entries().iter().map(|entry| (entry.full_name(), entry.ref_name())).collect()
    }

    /// A moved tag replaces its entry; another platform and another image stand beside it.
    #[test]
    fn the_same_name_and_platform_is_replaced_and_all_else_stays() {
        let mut index = IndexDocument::empty();
        put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
        put(&mut index, &entry("arm", "h.io/a:1", Some("1-arm"), "linux/arm64"));
        put(&mut index, &entry("two", "h.io/a:1", Some("1"), "linux/amd64"));
        assert_eq!(names(&index), [(Some("h.io/a:1"), Some("1")), (Some("h.io/a:1"), Some("1-arm"))]);
        assert_eq!(index.entries()[0].descriptor().unwrap().digest, Digest::sha256(b"two"));
    }

    /// A short name that another image has is refused, and with a take-over only the name moves.
    #[test]
    fn a_taken_name_is_refused_or_moved() {
        let mut index = IndexDocument::empty();
        put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
        let other = entry("two", "h.io/b:1", Some("1"), "linux/amd64");
        let wanted = Holder { shown: "h.io/a:1 (linux/amd64)".into(), relation: Relation::OtherImage };
        assert_eq!(refused(&mut index, &other), wanted);
        index.put(&NewEntry::new(other, Conflict::TakeOver), |_| Extent::Whole).unwrap();
        assert_eq!(names(&index), [(Some("h.io/a:1"), None), (Some("h.io/b:1"), Some("1"))]);
        let arm = entry("arm", "h.io/b:1", Some("1"), "linux/arm64");
        assert_eq!(refused(&mut index, &arm).relation, Relation::OtherPlatform);
    }

    /// What other tools wrote keeps its bytes: fields, odd numbers, entries that are no descriptors.
    #[test]
    fn foreign_content_stays_as_it_was() {
        let text = r#"{"x-first": 1.50e3, "schemaVersion":2, "manifests":[ {"digest":"nonsense","z" : [ 1e400 ]},
            {"mediaType":"m","size": 3 ,"digest":"sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed","annotations":{"org.opencontainers.image.ref.name":"theirs"}}],
            "annotations": {"k":  "v"}}"#;
        let mut index = IndexDocument::parse(text.as_bytes()).unwrap();
        put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
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
        put(&mut index, &first);
        put(&mut index, &entry("two", "h.io/a:1", Some("1"), "linux/amd64"));
        let descriptor = index.entries()[0].descriptor().unwrap();
        assert_eq!(descriptor.annotations.get("com.example.ticket").map(String::as_str), Some("42"));
        assert_eq!(descriptor.annotations.get(INDEX_DIGEST), None);
    }

    /// A converted entry keeps its names, its platform and whatever others wrote; the source is the one of the registry.
    #[test]
    fn a_converted_entry_keeps_all_but_its_content() {
        let text = r#"{"schemaVersion":2,"manifests":[{"x": 1e400,"mediaType":"m","digest":"OLD","size": 3,"data":"YQ==",
            "annotations":{"io.containerd.image.name" : "h.io/a:1"}}]}"#;
        let old = Digest::sha256(b"old");
        let mut index = IndexDocument::parse(text.replace("OLD", &old.to_string()).as_bytes()).unwrap();
        let new = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"new"), 4);
        let before = index.entries()[0].clone();
        assert!(index.replace(&before, &new).unwrap());
        assert!(!index.replace(&before, &new).unwrap(), "the entry is another one now");
        let descriptor = index.entries()[0].descriptor().unwrap().clone();
        assert_eq!((descriptor.digest, descriptor.size, descriptor.data), (new.digest, 4, None));
        assert_eq!(descriptor.annotations[SOURCE_DIGEST], old.to_string());
        let written = String::from_utf8(index.to_bytes()).unwrap();
        assert!(
            written.contains(r#"{"x": 1e400,"#)
                && written.contains(r#""io.containerd.image.name" : "h.io/a:1""#)
        );
        let again = index.entries()[0].clone();
        assert!(index.replace(&again, &Descriptor { digest: Digest::sha256(b"newer"), ..new }).unwrap());
        assert_eq!(index.entries()[0].descriptor().unwrap().annotations[SOURCE_DIGEST], old.to_string());
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
        put(&mut index, &ours);
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

    fn sparse(content: &str, platforms: Option<&str>) -> Descriptor {
        let mut descriptor = entry(content, "h.io/a:1", Some("1"), "linux/amd64");
        descriptor.media_type = MediaType::OCI_INDEX;
        descriptor.platform = None;
        if let Some(platforms) = platforms {
            descriptor.annotations.insert(PLATFORMS.into(), platforms.into());
        }
        descriptor
    }

    /// An index takes the place of the single platforms of its name that it covers, their short name with it; the
    /// others stay.
    #[test]
    fn an_index_replaces_what_it_covers() {
        let mut index = IndexDocument::empty();
        for (content, short, platform) in
            [("amd", Some("1"), "linux/amd64"), ("arm", None, "linux/arm64"), ("s390", None, "linux/s390x")]
        {
            let descriptor = entry(content, "h.io/a:1", short, platform);
            put(&mut index, &descriptor);
        }
        let other = entry("other", "h.io/b:1", None, "linux/amd64");
        put(&mut index, &other);
        let covers = vec!["linux/arm64".parse().unwrap(), "linux/x86_64".parse().unwrap()];
        let descriptor = sparse("index", Some("linux/amd64,linux/arm64"));
        let new = NewEntry { descriptor, covers, conflict: Conflict::Refuse };
        index.put(&new, |_| Extent::Whole).unwrap();
        let digests: Vec<Digest> =
            index.entries().iter().map(|entry| entry.descriptor().unwrap().digest).collect();
        assert_eq!(digests, ["index", "s390", "other"].map(|content| Digest::sha256(content.as_bytes())));
        // One platform of it is another image again, and cannot have its short name.
        let mut single = entry("amd", "h.io/a:1", Some("1"), "linux/amd64");
        single.annotations.insert(INDEX_DIGEST.into(), Digest::sha256(b"index").to_string());
        assert_eq!(refused(&mut index, &single).relation, Relation::ItsIndex);
        index.put(&NewEntry::new(single, Conflict::Yield), |_| Extent::Whole).unwrap();
        assert_eq!(index.entries()[3].ref_name(), None);
    }

    /// What was recorded, of which content, what the layout has of it, what is taken now; what is recorded then, and whether
    /// parts stay unproven.
    type Case<'a> =
        (Option<&'a str>, &'a str, &'a dyn Fn() -> Extent, Option<&'a str>, Option<&'a str>, bool);

    /// What was taken of an index by earlier fetches stays on record, in its order, until the tag stands for another
    /// index. What another tool's entry stands for is what the layout has of it.
    #[test]
    fn a_sparse_index_adds_up() {
        let whole = || Extent::Whole;
        let part = || Extent::Platforms(vec!["linux/arm64".parse().unwrap()]);
        let nothing = || Extent::Platforms(Vec::new());
        let (amd, arm, both) = ("linux/amd64", "linux/arm64", "linux/amd64,linux/arm64");
        let cases: [Case<'_>; 9] = [
            (Some(amd), "one", &whole, Some(arm), Some(both), true),
            (Some(amd), "one", &whole, Some("linux/arm64, linux/amd64"), Some(both), false),
            (Some(both), "one", &whole, Some(arm), Some(both), true),
            (
                Some("linux/amd64, linux/arm64"),
                "one",
                &whole,
                Some(arm),
                Some("linux/amd64, linux/arm64"),
                true,
            ),
            (Some(amd), "one", &whole, None, None, false),
            (None, "one", &whole, Some(arm), None, true),
            (None, "one", &part, Some(amd), Some("linux/arm64,linux/amd64"), true),
            (None, "one", &nothing, Some(amd), Some(amd), false),
            (Some(amd), "two", &whole, Some(arm), Some(arm), false),
        ];
        for (before, content, extent, now, wanted, keeps_skipped) in cases {
            let mut index = IndexDocument::empty();
            let mut first = sparse("one", before);
            first.annotations.insert(DIFF_IDS.into(), "skipped".into());
            put(&mut index, &first);
            index.put(&NewEntry::new(sparse(content, now), Conflict::Refuse), |_| extent()).unwrap();
            let annotations = &index.entries()[0].descriptor().unwrap().annotations;
            assert_eq!(annotations.get(PLATFORMS).map(String::as_str), wanted, "{before:?} {now:?}");
            // The part that was not proven then is not proven now, unless all was taken again.
            assert_eq!(annotations.contains_key(DIFF_IDS), keeps_skipped, "{before:?} {now:?}");
        }
    }

    fn asked(content: &str, asked: Option<&str>, found: &str) -> Descriptor {
        let mut descriptor = entry(content, "h.io/a:1", Some("1"), found);
        descriptor.annotations.insert(INDEX_DIGEST.into(), Digest::sha256(b"index").to_string());
        descriptor.annotations.extend(asked.map(|asked| (REQUESTED_PLATFORM.to_owned(), asked.to_owned())));
        descriptor
    }

    /// A tag that moved has another fallback for a platform, or the platform itself: that is no other image.
    #[test]
    fn what_was_asked_for_is_the_same_whatever_was_found() {
        let v3 = "linux/amd64/v3";
        let cases = [
            ((Some(v3), "linux/amd64"), (None, v3), true),
            ((None, v3), (Some(v3), "linux/amd64"), true),
            ((Some(v3), "linux/amd64"), (Some(v3), "linux/amd64/v2"), true),
            ((Some(v3), "linux/amd64"), (None, "linux/amd64"), true),
            ((None, "linux/amd64"), (None, v3), false),
            ((Some("linux/arm64/v9"), "linux/arm64"), (Some(v3), "linux/amd64"), false),
        ];
        for (held, new, is_same) in cases {
            let mut index = IndexDocument::empty();
            put(&mut index, &asked("one", held.0, held.1));
            let new = asked("two", new.0, new.1);
            if is_same {
                put(&mut index, &new);
                assert_eq!(index.entries().len(), 1);
            } else {
                assert_eq!(refused(&mut index, &new).relation, Relation::OtherPlatform, "{held:?}");
            }
        }
    }

    /// A tag that stood for an index and now stands for one image names that image.
    #[test]
    fn an_index_gives_way_to_a_single_image() {
        let mut index = IndexDocument::empty();
        put(&mut index, &sparse("index", Some("linux/amd64")));
        put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
        assert_eq!(index.entries().len(), 1);
        let descriptor = index.entries()[0].descriptor().unwrap();
        assert_eq!(descriptor.digest, Digest::sha256(b"one"));
        assert_eq!(descriptor.annotations.get(PLATFORMS), None);
    }

    /// A name counts for other tools also where the entry's digest is of an algorithm that is unknown here.
    #[test]
    fn an_entry_that_is_no_descriptor_holds_its_name() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"x":1e999,"digest":"sha384:aa","size":5,"annotations":{{"y":"\ud800","{REF_NAME}":"1"}}}}]}}"#
        );
        let mut index = IndexDocument::parse(text.as_bytes()).unwrap();
        let new = entry("one", "h.io/a:1", Some("1"), "linux/amd64");
        assert_eq!(refused(&mut index, &new).relation, Relation::OtherImage);
        assert!(!index.is_ambiguous("1"));
        index.put(&NewEntry::new(new, Conflict::TakeOver), |_| Extent::Whole).unwrap();
        assert_eq!(names(&index), [(None, None), (Some("h.io/a:1"), Some("1"))]);
        assert_eq!(
            index.entries()[0].0.raw.get(),
            r#"{"x":1e999,"digest":"sha384:aa","size":5,"annotations":{"y":"\ud800"}}"#
        );
    }

    /// Tools differ in which of two entries they find by one name, but the same bytes are the same to all.
    #[test]
    fn a_name_is_ambiguous_where_it_means_two_things() {
        let named = |digest: &str| {
            format!(r#"{{"mediaType":"m","size":3,"digest":"{digest}","annotations":{{"{REF_NAME}":"1"}}}}"#)
        };
        let (one, two) = (Digest::sha256(b"one").to_string(), Digest::sha256(b"two").to_string());
        let cases = [
            (vec![], false),
            (vec![&*one], false),
            (vec![&*one, &*one], false),
            (vec![&*one, &*two], true),
            (vec![&*one, "sha384:aa"], true),
        ];
        for (digests, is_ambiguous) in cases {
            let entries: Vec<String> = digests.iter().copied().map(named).collect();
            let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
            let index = IndexDocument::parse(text.as_bytes()).unwrap();
            assert_eq!(index.is_ambiguous("1"), is_ambiguous, "{digests:?}");
        }
    }

    /// A key that comes twice is found among as many as there may be.
    #[test]
    fn one_key_of_many_comes_twice() {
        let keys = (0..MOST_FIELDS - 3).map(|key| format!(r#","k{key}":0"#)).collect::<Vec<_>>().concat();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[]{keys}"#);
        assert!(IndexDocument::parse(format!("{text}}}").as_bytes()).is_ok());
        let error = IndexDocument::parse(format!("{text},\"k7\":0}}").as_bytes()).unwrap_err();
        assert!(error.contains("the key \"k7\" comes twice"), "{error}");
    }

    /// JSON values, those among them that a model of JSON cannot hold.
    fn any_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("1e999".to_owned()),
            Just(r#""\ud800""#.to_owned()),
            Just("123456789012345678901234567890".to_owned()),
            Just("1.10".to_owned()),
            Just("-0".to_owned()),
            Just(format!("{}{}", "[".repeat(200), "]".repeat(200))),
            Just(r#"{"a" :1,"a":2 }"#.to_owned()),
            "[a-z\u{e9}]{0,6}".prop_map(|text| format!("\"{text}\"")),
            Just("null".to_owned()),
        ];
        leaf.prop_recursive(2, 6, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("[ {}]", all.join(" , "))),
                inner.prop_map(|value| format!("{{\"n\\u0061me\": {value} }}")),
            ]
        })
    }

    proptest! {
        /// Whatever others wrote into an entry of ours or beside it is there afterwards, byte for byte, whichever edit
        /// the entry goes through.
        #[test]
        fn foreign_json_keeps_its_bytes(
            fields in prop::collection::vec(any_json(), 0..4),
            notes in prop::collection::vec(prop_oneof![Just(r#""\ud800""#), Just(r#""\u0061b""#), Just("null")], 0..3),
            front in any::<bool>(),
            edit in 0..3_usize,
        ) {
            let fields: Vec<String> =
                fields.iter().enumerate().map(|(at, json)| format!("\"x\\u005f{at}\" :{json}")).collect();
            let notes: Vec<String> = notes.iter().enumerate().map(|(at, json)| format!("\"n{at}\": {json}")).collect();
            let ours = entry("one", "h.io/a:1", Some("1"), "linux/amd64");
            let mut annotations = vec![format!("\"{FULL_NAME}\":\"h.io/a:1\""), format!("\"{REF_NAME}\":\"1\"")];
            annotations.extend(notes.iter().cloned());
            let mut members = vec![
                r#""mediaType":"application/vnd.oci.image.manifest.v1+json""#.to_owned(),
                format!("\"digest\":\"{}\",\"size\":3", ours.digest),
                r#""platform":{"architecture":"amd64","y": 1.10,"os":"linux"}"#.to_owned(),
                format!("\"annotations\":{{{}}}", annotations.join(",")),
            ];
            let at = if front { 0 } else { members.len() };
            members.splice(at..at, fields.iter().cloned());
            let text = format!("{{\"schemaVersion\":2,\"manifests\":[{{{}}}]}}", members.join(","));
            let mut index = IndexDocument::parse(text.as_bytes()).unwrap();
            prop_assume!(index.entries()[0].descriptor().is_ok());
            match edit {
                0 => put(&mut index, &entry("two", "h.io/a:1", Some("new"), "linux/amd64")),
                1 => {
                    let other = NewEntry::new(entry("b", "h.io/b:1", Some("1"), "linux/s390x"), Conflict::TakeOver);
                    index.put(&other, |_| Extent::Whole).unwrap();
                }
                _ => {
                    let old = index.entries()[0].clone();
                    index.replace(&old, &Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"c"), 1)).unwrap();
                }
            }
            let written = index.entries()[0].0.raw.get();
            for kept in fields.iter().chain(&notes).map(String::as_str).chain([r#""y": 1.10"#]) {
                prop_assert!(written.contains(kept), "{} in {}", kept, written);
            }
            let read = IndexDocument::parse(&index.to_bytes()).unwrap();
            let descriptor = read.entries()[0].descriptor().unwrap();
            prop_assert_eq!(edit == 1, descriptor.digest == ours.digest);
            prop_assert_eq!(read.entries()[0].ref_name(), [Some("new"), None, Some("1")][edit]);
        }
    }
}
