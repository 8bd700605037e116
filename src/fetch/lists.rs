//! The list of what refers to a manifest, as it stands in the layout under the tag that
//! [`Tag::of_referrers`](crate::reference::Tag::of_referrers) makes of its digest.
//!
//! A list is made of what was found now and of what the layout lists at the moment in which it is named. Another process
//! may name another list of the same manifest meanwhile: then this one is made anew, so that nothing that either found is
//! lost. The same referrers are the same bytes, in whatever order they were found.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::error::FetchError;
use super::plan;
use super::select::{IndexPart, TakenIndex};
use crate::digest::{Algorithm, Digest};
use crate::layout::index::{FULL_NAME, IndexDocument, NewEntry, REF_NAME};
use crate::layout::{Layout, LayoutError};
use crate::manifest::{Descriptor, ImageIndex, MANIFEST_CAP, Manifest, MediaType};
use crate::progress::{Event, Reporter};
use crate::text::printable;
use crate::verify::{ImageError, Proven, ProvenBlob, ProvenImage};

/// How many times the lists are made anew. Each time another process has named one, so that somebody gets on.
const TRIES: usize = 1_000;

/// A list that is to be named.
#[derive(Debug)]
pub(super) struct List {
    /// What it is about.
    pub(super) subject: Digest,
    /// Its entry of `index.json`, but for what depends on its bytes.
    pub(super) entry: NewEntry,
    /// The referrers that were found now, as a list has them.
    pub(super) referrers: Vec<Descriptor>,
    /// The indexes among them, and what those list, each after what it lists.
    pub(super) indexes: Vec<IndexPart>,
    /// The images and artifacts among them and below them.
    pub(super) images: Vec<ProvenImage>,
}

/// What one fetch wants named.
#[derive(Debug, Default)]
pub(super) struct ToName {
    /// Entries and the proofs that cover them.
    pub(super) named: Vec<(NewEntry, Proven)>,
    /// Lists of referrers, which are made when they are named.
    pub(super) lists: Vec<List>,
}

/// Names everything in one write, the lists included, all of whose referrers stand in the layout. Says of each fetch
/// whether that changed anything.
///
/// No two of them have a list of the same manifest: the second would not have what the first found.
///
/// # Errors
/// [`FetchError::OverCap`] for a list that is too large; [`FetchError::BadDocument`] and [`FetchError::Index`] when
/// something does not hold; [`FetchError::Layout`].
pub(super) fn name(
    layout: &Layout,
    fetches: &[&ToName],
    reporter: &Arc<dyn Reporter>,
    waiting: &mut dyn FnMut(&str),
) -> Result<Vec<bool>, FetchError> {
    let mut changed = vec![false; fetches.len()];
    for _ in 0..TRIES {
        let index = layout.index()?;
        let (mut made, mut seen, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for (at, list) in numbered(fetches, |fetch| &fetch.lists) {
            let held = list.held(&index);
            let new = list.make(layout, held.as_ref())?;
            changed[at] |= layout.put_document(&new.descriptor.digest, new.index.raw(), waiting)?;
            bare.extend(new.is_bare.then_some(list.subject));
            made.push((at, (list.entry_for(&new), list.prove(new)?)));
            seen.push((list, held.map(|descriptor| descriptor.digest)));
        }
        let is_as_seen = |index: &IndexDocument| {
            let digest = |list: &List| list.held(index).map(|descriptor| descriptor.digest);
            seen.iter().all(|(list, seen)| digest(list) == *seen)
        };
        let made = made.iter().map(|(at, entry)| (*at, entry));
        let mut entries: Vec<_> = numbered(fetches, |fetch| &fetch.named).chain(made).collect();
        // Stable: the entries of one fetch stand together, its lists last.
        entries.sort_by_key(|(at, _)| *at);
        let (whose, entries): (Vec<usize>, Vec<_>) = entries.into_iter().unzip();
        match layout.name_if(&entries, &is_as_seen, waiting) {
            Err(LayoutError::EntryChanged { .. }) => {
                tracing::debug!("another process has named a list of referrers; making it anew");
            }
            done => {
                for ((at, put), (entry, _)) in whose.into_iter().zip(done?).zip(entries) {
                    changed[at] |= put.is_change;
                    tell_gone(&put.gone, entry, reporter);
                }
                tell_bare(&bare, reporter);
                return Ok(changed);
            }
        }
    }
    Err(LayoutError::EntryChanged { path: layout.root().to_path_buf() }.into())
}

/// What each of the fetches has, with its number.
fn numbered<'a, T: 'a>(
    fetches: &'a [&ToName],
    part: impl Fn(&'a ToName) -> &'a [T],
) -> impl Iterator<Item = (usize, &'a T)> {
    let parts = move |(at, fetch): (usize, &&'a ToName)| part(fetch).iter().map(move |one| (at, one));
    fetches.iter().enumerate().flat_map(parts)
}

fn tell_gone(names: &[String], entry: &NewEntry, reporter: &Arc<dyn Reporter>) {
    let name = |key: &str| entry.descriptor.annotations.get(key).map(|name| printable(name));
    for gone in names {
        let full = name(FULL_NAME).unwrap_or_default();
        let now = name(REF_NAME)
            .map_or_else(|| "it has none now".to_owned(), |name| format!("it is \"{name}\" now"));
        let message =
            format!("{full} no longer has the short name \"{}\" in the layout: {now}", printable(gone));
        reporter.report(Event::Warning { message });
    }
}

fn tell_bare(subjects: &[Digest], reporter: &Arc<dyn Reporter>) {
    for subject in subjects {
        let message = format!(
            "the list of the referrers of {subject} is too long with their annotations, and is written without"
        );
        reporter.report(Event::Warning { message });
    }
}

/// A list as it is to stand there.
struct Made {
    descriptor: Descriptor,
    index: ImageIndex,
    is_bare: bool,
}

impl List {
    /// The entry that the list has already.
    fn held(&self, index: &IndexDocument) -> Option<Descriptor> {
        let name = self.entry.descriptor.annotations.get(FULL_NAME)?;
        let entry = index.entries().iter().find(|entry| entry.full_name() == Some(name))?;
        entry.descriptor().ok()
    }

    /// The referrers that were found, and those of the list that stands there which are still in the layout. A list that
    /// cannot be read is made anew.
    fn make(&self, layout: &Layout, held: Option<&Descriptor>) -> Result<Made, FetchError> {
        let mut listed: Vec<Descriptor> = Vec::new();
        if let Some(Ok(Manifest::Index(index))) = held.map(|descriptor| layout.manifest(descriptor)) {
            for entry in index.manifests() {
                if layout.contains(&entry.digest, entry.size)? {
                    listed.push(entry.clone());
                }
            }
        }
        let document = fallback_index(&self.subject, &self.referrers, &listed)?;
        let digest = Digest::sha256(&document.bytes);
        let failed = |source| FetchError::BadList { digest, source };
        let parsed =
            Manifest::parse(document.bytes.into(), Some(MediaType::OCI_INDEX.as_str())).map_err(failed)?;
        let descriptor = parsed.descriptor(Algorithm::Sha256);
        let Manifest::Index(index) = parsed else {
            return Err(FetchError::Unproven(ImageError::Unproven { digest }));
        };
        Ok(Made { descriptor, index, is_bare: document.is_bare })
    }

    fn entry_for(&self, made: &Made) -> NewEntry {
        let Descriptor { digest, size, .. } = made.descriptor;
        let descriptor = Descriptor { digest, size, ..self.entry.descriptor.clone() };
        NewEntry { descriptor, ..self.entry.clone() }
    }

    fn prove(&self, made: Made) -> Result<Proven, FetchError> {
        let Made { descriptor, index, .. } = made;
        let root = IndexPart { descriptor, index, source: None };
        let mut proofs: BTreeMap<Digest, ProvenBlob> = BTreeMap::new();
        for part in self.indexes.iter().chain([&root]) {
            let digest = part.descriptor.digest;
            proofs.insert(digest, super::document(part.index.raw(), digest)?);
        }
        let taken = TakenIndex { root, nested: self.indexes.clone(), is_whole: true };
        Ok(Proven::Index(plan::assemble_index(&taken, &proofs, self.images.clone())?))
    }
}

/// The bytes of a list.
#[derive(Debug)]
pub(super) struct FallbackIndex {
    /// The document.
    pub(super) bytes: Vec<u8>,
    /// Whether the annotations had to be left out.
    pub(super) is_bare: bool,
}

/// The index that lists `referrers` and what was `held`, each once, in the order of their digests; without annotations
/// where it would be too large with them.
///
/// # Errors
/// [`FetchError::OverCap`] when it would be too large for an index, `subject` being what it is about.
pub(super) fn fallback_index(
    subject: &Digest,
    referrers: &[Descriptor],
    held: &[Descriptor],
) -> Result<FallbackIndex, FetchError> {
    let mut manifests: Vec<&Descriptor> = referrers.iter().chain(held).collect();
    // Stable: of two with the same digest the new one comes first, and stays.
    manifests.sort_by_key(|entry| entry.digest);
    manifests.dedup_by_key(|entry| entry.digest);
    let bytes = written(&manifests);
    if bytes.len() <= MANIFEST_CAP {
        return Ok(FallbackIndex { bytes, is_bare: false });
    }
    let bare = |entry: &&Descriptor| Descriptor { annotations: BTreeMap::new(), ..(*entry).clone() };
    let bare: Vec<Descriptor> = manifests.iter().map(bare).collect();
    let bytes = written(&bare.iter().collect::<Vec<_>>());
    if bytes.len() > MANIFEST_CAP {
        let (what, digest) = ("list of the referrers of", *subject);
        let (size, cap) = (bytes.len() as u64, MANIFEST_CAP as u64);
        return Err(FetchError::OverCap { what, digest, size, cap });
    }
    Ok(FallbackIndex { bytes, is_bare: true })
}

fn written(manifests: &[&Descriptor]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Index<'a> {
        schema_version: u8,
        media_type: MediaType,
        manifests: &'a [&'a Descriptor],
    }
    let index = Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests };
    serde_json::to_vec(&index).expect("invariant: descriptors are text and numbers")
}

#[cfg(test)]
mod tests;
