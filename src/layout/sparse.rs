//! Which manifests below an index a layout does not hold, and whether that is by choice.
//!
//! The image spec lets a layout be sparse: an index stays as it is, byte for byte, while only some of what it lists is
//! there ("Image Layout", on descriptors that need not be present). Nothing in the layout itself tells what was left out
//! from what got lost, so a fetch writes down the platforms that it took ([`PLATFORMS`]), and this module holds the index
//! against them. An index without that note claims to be whole.
//!
//! What was taken for a platform is the manifest that a fetch takes: the first that declares it, entries that declare it
//! coming before nested indexes that declare nothing. Where two readings of "first" differ, either satisfies. An entry
//! of a type that is no manifest's is never asked for: a fetch passes it over.

mod survey;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;

use serde::Serialize;

use super::Layout;
use super::index::{Extent, PLATFORMS};
use crate::digest::Digest;
use crate::manifest::{Descriptor, ImageIndex, Manifest};
use crate::platform::Platform;

pub(crate) use survey::Surveys;

/// How many platforms a note may list. Nobody takes as many, and each one has to be looked for.
const MOST_PLATFORMS: usize = 1000;

/// Why a manifest that an index lists is not there. Serialises as `left-out` or `missing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absence {
    /// Its platform was not asked for.
    LeftOut,
    /// It should be there.
    Missing,
}

/// A manifest, or a nested index, that an index lists and the layout does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AbsentManifest {
    /// As the index lists it.
    pub descriptor: Descriptor,
    /// Why it is not there.
    pub absence: Absence,
}

/// What a layout lacks of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Absent {
    /// The manifests that are not there, in the index's order, those of nested indexes in the place of these.
    pub manifests: Vec<AbsentManifest>,
    /// Platforms that are said to have been taken and that nothing in the index can have been.
    pub unexplained: Vec<Platform>,
}

impl Layout {
    /// The manifests below `index` that are not there. `entry` is the entry of `index.json` that names the index, whose
    /// annotation says what was taken of it; an annotation that cannot be understood excuses nothing.
    ///
    /// Nested indexes and configs are read where the answer depends on them; one that cannot be read makes the answer
    /// poorer and is for `check` to find.
    pub fn absent(&self, entry: &Descriptor, index: &ImageIndex) -> Absent {
        Surveys::new(self).absent(entry, index, &|| true)
    }

    /// What the layout has of an index whose entry does not say what was taken: the manifests of some of its platforms,
    /// unless every one is there. What cannot be read counts as not there.
    pub(super) fn extent(&self, entry: &Descriptor) -> Extent {
        match self.manifest(entry) {
            Ok(Manifest::Index(index)) => Surveys::new(self).extent(entry, &index),
            _ => Extent::Platforms(Vec::new()),
        }
    }

    /// Whether nothing at all stands under a blob's name, which is what it looks like where nobody put it. A link to
    /// nowhere is something.
    pub(crate) fn is_absent(&self, digest: &Digest) -> bool {
        fs::symlink_metadata(self.blob_path(digest)).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }
}

/// The platforms of the annotation, normalised; none when it cannot be understood, so that it excuses nothing. Of one
/// without an architecture nobody knows which it is on the machine that wrote it.
fn platforms(entry: &Descriptor) -> Option<BTreeSet<Platform>> {
    let text = entry.annotations.get(PLATFORMS)?;
    let platform = |text: &str| {
        let platform = text.trim().parse::<Platform>().ok().filter(|_| text.contains('/'))?;
        Some(platform.normalize())
    };
    if text.split(',').count() > MOST_PLATFORMS {
        return None;
    }
    text.split(',').map(platform).collect()
}

#[cfg(test)]
mod tests;
