//! Edits of `index.json`, as pure functions over its text.
//!
//! The file belongs to everybody who writes into the layout, so it is never parsed into a model and written back:
//! every top-level field and every entry that an edit does not touch keeps its own bytes, and an entry that is touched
//! keeps the fields and annotations that are not ours.

mod entry;
mod text;

use std::collections::{BTreeSet, HashSet};

use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::manifest::convert::relabelled;
use crate::manifest::{Descriptor, ManifestError, edit};
use crate::platform::Platform;

pub use entry::Entry;
pub(super) use text::CAP;

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
/// The [`REF_NAME`] that ocipull gave the entry, empty for none. Where they differ, another tool gave it that name: `umoci tag` and
/// `oras tag` copy an entry with all that it says.
pub const GIVEN_NAME: &str = "io.ocipull.ref-name";
/// The digest that ocipull gave the entry. Where it has another, another tool changed the image: `umoci config` and `umoci repack`
/// keep all that an entry says, and its full name is not that image's.
pub const GIVEN_DIGEST: &str = "io.ocipull.digest";
/// What [`DIFF_IDS`] and [`FOREIGN_LAYERS`] say.
pub(crate) const SKIPPED: &str = "skipped";
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

/// What came of putting an entry into the index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// Whether that changed anything.
    pub is_change: bool,
    /// The short names that entries had which gave way, and that are no more.
    pub gone: Vec<String>,
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

impl IndexDocument {
    /// The index of a layout that names nothing yet.
    pub fn empty() -> Self {
        let text =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        Self::parse(&text[..]).expect("invariant: the text above is an index")
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
        let meant: BTreeSet<Option<Digest>> = named.map(Entry::digest).collect();
        meant.len() > 1
    }

    /// Names an image: replaces the entry of the same full name and platform and those that it covers, or adds one. Where one
    /// of several of the same has the name already, the others keep theirs, for the new content. What another tool gave a name
    /// of its own stays as it is; where it has other content than the new one, its full name says so from now on.
    /// A sparse index that was there keeps counting what was taken of it before; `extent` is asked what the layout has
    /// of one whose entry does not say that.
    ///
    /// # Errors
    /// [`PutError`]; nothing has changed then.
    pub fn put(&mut self, new: &NewEntry, extent: impl Fn(&Descriptor) -> Extent) -> Result<Put, PutError> {
        let mut new = new.clone();
        let mut released = Vec::new();
        if let Some(holder) = self.holder(&new) {
            match new.conflict {
                Conflict::Refuse => return Err(PutError::Taken(holder)),
                Conflict::TakeOver => released = self.without_name(&new)?,
                Conflict::Yield => drop(new.descriptor.annotations.remove(REF_NAME)),
            }
        }
        let name = new.annotation(REF_NAME).map(str::to_owned);
        let mut pinned = self.pinned(&new)?;
        pinned.retain(|(at, _)| released.iter().all(|(released, _)| released != at));
        let mut changed = [released, pinned].concat();
        let mut same: Vec<usize> =
            (0..self.entries.len()).filter(|at| self.entries[*at].gives_way_to(&new)).collect();
        // The first one last: its order stays.
        for at in same.iter().rev() {
            keep_counting(&self.entries[*at], &mut new.descriptor, &extent);
        }
        let has_name = |at: &usize| self.entries[*at].ref_name() == name.as_deref();
        let is_one = |at: &usize| self.entries[*at].is_same_as(&new.descriptor);
        let followers: Vec<usize> = if same.iter().any(|at| has_name(at) && is_one(at)) {
            same.extract_if(.., |at| !has_name(at) && is_one(at) && self.entries[*at].ref_name().is_some())
                .collect()
        } else {
            Vec::new()
        };
        for at in followers {
            let entry = self.laid_over(Some(at), &new.descriptor, self.entries[at].ref_name())?;
            if entry.json() != self.entries[at].json() {
                changed.push((at, entry));
            }
        }
        let entry = self.laid_over(same.first().copied(), &new.descriptor, name.as_deref())?;
        let gone = same.iter().filter(|at| !has_name(at)).filter_map(|at| self.entries[*at].ref_name());
        let mut put = Put { is_change: true, gone: gone.map(str::to_owned).collect() };
        let first = same.first().copied();
        if let (Some(first), 1, true) = (first, same.len(), changed.is_empty()) {
            put.is_change = entry.json() != self.entries[first].json();
        }
        for (at, entry) in changed {
            self.entries[at] = entry;
        }
        match first {
            None => self.entries.push(entry),
            Some(first) => {
                self.entries[first] = entry;
                let mut at = 0..;
                self.entries.retain(|_| at.next().is_none_or(|at| at == first || !same.contains(&at)));
            }
        }
        Ok(put)
    }

    /// What an entry says of the image under a short name, over what the one at a place says.
    fn laid_over(&self, at: Option<usize>, new: &Descriptor, name: Option<&str>) -> Result<Entry, PutError> {
        let mut new = new.clone();
        let digest = new.digest.to_string();
        let names =
            [(REF_NAME, name), (GIVEN_NAME, Some(name.unwrap_or_default())), (GIVEN_DIGEST, Some(&digest))];
        for (key, text) in names {
            match text {
                Some(text) => new.annotations.insert(key.to_owned(), text.to_owned()),
                None => new.annotations.remove(key),
            };
        }
        let held = at.map_or("{}", |at| self.entries[at].json());
        Ok(Entry::of_text(edit::laid_over(held, &new, is_ours).map_err(PutError::Entry)?))
    }

    /// Lets an entry name what its image was converted to, and says whether the entry is still there as it was read.
    ///
    /// Type, digest and size change, content and URLs that the entry carried go, and [`SOURCE_DIGEST`] names what was
    /// converted; it stays where it is there, since that is what the registry has. All else keeps its bytes.
    ///
    /// # Errors
    /// [`ManifestError`] when the entry is no descriptor.
    pub fn replace(&mut self, old: &Entry, new: &Descriptor) -> Result<bool, ManifestError> {
        let held = old.descriptor()?;
        let source = held.digest.to_string();
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.json() == old.json()) else {
            return Ok(false);
        };
        let mut json = relabelled(entry.json(), new, (SOURCE_DIGEST, &source))?;
        if held.annotations.get(GIVEN_DIGEST) == Some(&source) {
            json = edit::annotated(&json, &[(GIVEN_DIGEST, Some(&new.digest.to_string()))])?;
        }
        *entry = Entry::of_text(json);
        Ok(true)
    }

    /// Every other entry that has the ref.name of `new`, without it.
    fn without_name(&self, new: &NewEntry) -> Result<Vec<(usize, Entry)>, PutError> {
        let wanted = new.annotation(REF_NAME);
        let others = self.entries.iter().enumerate();
        let others = others.filter(|(_, entry)| entry.ref_name() == wanted && !entry.gives_way_to(new));
        let without = |(at, entry): (usize, &Entry)| {
            let mut changes = vec![(REF_NAME, None)];
            changes.extend(entry.is_named_by_us().then_some((GIVEN_NAME, Some(""))));
            changes.extend(entry.usurps(new).then_some((FULL_NAME, None)));
            let json = edit::annotated(entry.json(), &changes).map_err(PutError::Entry)?;
            Ok((at, Entry::of_text(json)))
        };
        others.map(without).collect()
    }

    /// The entries whose full name will not be theirs: those with names of their own and other content get a digest in it, and those
    /// that another tool changed lose it.
    fn pinned(&self, new: &NewEntry) -> Result<Vec<(usize, Entry)>, PutError> {
        let mut pinned = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let name = match () {
                () if entry.outlives(new) => entry.name_by_digest(),
                () if entry.usurps(new) => None,
                () => continue,
            };
            let json = edit::annotated(entry.json(), &[(FULL_NAME, name.as_deref())]);
            pinned.push((at, Entry::of_text(json.map_err(PutError::Entry)?)));
        }
        Ok(pinned)
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
    if let Some(before) = counted(&held, extent) {
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

#[cfg(test)]
mod tests;
