//! What in a layout is about a manifest: signatures, SBOMs and attestations, in the three ways in which they are tied to it.
//!
//! - A manifest that `index.json` lists has a `subject` (image spec, "Image Manifest").
//! - The index under the tag `ALGORITHM-HEX` lists them (distribution spec, "Referrers Tag Schema").
//! - cosign's tags, `ALGORITHM-HEX.sig`, `.att` and `.sbom`, name them.
//!
//! Tags are told from the names of the entries, in whichever repository: a digest means the same everywhere. What is
//! described here is described as a registry's referrers API does it: with the artifact type, which is the config's type
//! where the manifest has none, and with the manifest's annotations.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::index::Entry;
use super::{Layout, LayoutError};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest};
use crate::reference::{Reference, Tag};

/// The fewest hex digits of a digest in a tag.
const SHORTEST: usize = 64;

/// What a tag of an entry says that the entry is to another manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The list of its referrers.
    Fallback,
    /// One of cosign's, by its extension.
    Cosign(&'static str),
}

impl Role {
    /// The role that a tag gives, whichever manifest it is about.
    pub(super) fn of_tag(tag: &str) -> Option<Self> {
        let (tag, role) = match tag.rsplit_once('.') {
            Some((rest, extension)) => {
                (rest, Self::Cosign(Tag::COSIGN_KINDS.into_iter().find(|cosign| *cosign == extension)?))
            }
            None => (tag, Self::Fallback),
        };
        let (algorithm, hex) = tag.split_once('-')?;
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_known = crate::digest::Algorithm::ALL.iter().any(|known| known.name() == algorithm);
        (is_known && is_hex && hex.len() >= SHORTEST).then_some(role)
    }

    /// The type of what has none of its own.
    pub(super) fn artifact_type(self) -> Option<String> {
        match self {
            Self::Fallback => None,
            Self::Cosign(kind) => Some(cosign_type(kind)),
        }
    }
}

/// The type that cosign itself gives what it writes with a `subject`, by the extension of its tag.
pub(crate) fn cosign_type(kind: &str) -> String {
    format!("application/vnd.dev.cosign.artifact.{kind}.v1+json")
}

/// The tags by which an entry goes.
pub(super) fn tags(entry: &Entry) -> Vec<String> {
    let of_reference = |name: &str| name.parse::<Reference>().ok()?.tag().map(|tag| tag.as_str().to_owned());
    let of_full_name = entry.full_name().and_then(of_reference);
    let of_ref_name = entry.ref_name().and_then(|name| match name.parse::<Tag>() {
        Ok(tag) => Some(tag.as_str().to_owned()),
        Err(_) => of_reference(name),
    });
    of_full_name.into_iter().chain(of_ref_name).collect()
}

impl Layout {
    /// What the layout knows to have one of `subjects` as its `subject`: the manifests of `index.json`, then those that
    /// fallback indexes list, there or not. Each is there once.
    ///
    /// Entries that cannot be read are passed over; `check` is there to say what is wrong with them.
    ///
    /// # Errors
    /// [`LayoutError::Unreadable`] when `index.json` cannot be understood.
    pub fn referrers(&self, subjects: &BTreeSet<Digest>) -> Result<Vec<Descriptor>, LayoutError> {
        let fallback_tags: BTreeSet<String> =
            subjects.iter().map(|subject| Tag::of_referrers(subject).to_string()).collect();
        let index = self.index()?;
        // Each manifest is read once, by however many names it goes.
        let (mut named, mut places): (Vec<(Descriptor, bool)>, HashMap<Digest, usize>) = Default::default();
        for entry in index.entries() {
            let Ok(descriptor) = entry.descriptor() else { continue };
            let is_fallback = tags(entry).iter().any(|tag| fallback_tags.contains(tag));
            let at = *places.entry(descriptor.digest).or_insert(named.len());
            match named.get_mut(at) {
                Some((_, known)) => *known |= is_fallback,
                None => named.push((descriptor, is_fallback)),
            }
        }
        let (mut found, mut listed) = (Vec::new(), Vec::new());
        let (mut is_found, mut is_listed) = (HashSet::new(), HashSet::new());
        for (descriptor, is_fallback) in named {
            let Ok(manifest) = self.manifest(&descriptor) else { continue };
            if manifest.subject().is_some_and(|subject| subjects.contains(&subject.digest)) {
                is_found.insert(descriptor.digest);
                found.push(manifest.as_referrer(descriptor.digest));
            }
            if let (Manifest::Index(index), true) = (manifest, is_fallback) {
                let new = index.manifests().iter().filter(|entry| is_listed.insert(entry.digest));
                listed.extend(new.cloned());
            }
        }
        listed.retain(|listed| !is_found.contains(&listed.digest));
        found.extend(listed.into_iter().filter_map(|listed| {
            match self.manifest(&listed) {
                // A list that somebody else keeps may be out of date.
                Ok(manifest) => manifest
                    .subject()
                    .is_none_or(|subject| subjects.contains(&subject.digest))
                    .then(|| manifest.as_referrer(listed.digest)),
                Err(_) => Some(listed),
            }
        }));
        Ok(found)
    }

    /// What cosign's tags say about one of `subjects`. The artifact type of what says none is cosign's own.
    ///
    /// # Errors
    /// As [`Layout::referrers`].
    pub fn cosign_tagged(&self, subjects: &BTreeSet<Digest>) -> Result<Vec<Descriptor>, LayoutError> {
        let tags_of = |subject: &Digest| Tag::COSIGN_KINDS.map(|kind| Tag::of_cosign(subject, kind));
        let wanted = subjects.iter().flat_map(tags_of).flatten().map(|tag| tag.to_string());
        let wanted: BTreeSet<String> = wanted.collect();
        let index = self.index()?;
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for entry in index.entries() {
            let Ok(descriptor) = entry.descriptor() else { continue };
            let Some(tag) = tags(entry).into_iter().find(|tag| wanted.contains(tag)) else { continue };
            if !seen.insert(descriptor.digest) {
                continue;
            }
            let manifest = self.manifest(&descriptor).ok();
            let of_manifest = manifest.as_ref().map(|manifest| manifest.as_referrer(descriptor.digest));
            let stated = manifest
                .as_ref()
                .and_then(Manifest::stated_artifact_type)
                .or(descriptor.artifact_type.as_deref());
            let stated = stated.map(str::to_owned);
            let plain = Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size);
            found.push(Descriptor {
                artifact_type: stated.or_else(|| Role::of_tag(&tag)?.artifact_type()),
                ..of_manifest.unwrap_or(plain)
            });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
