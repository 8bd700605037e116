//! The manifests below an index, each read and shown once, however often it is listed. One that cannot be had, or not as it
//! should be, hides no other.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt as _};

use super::error::{InspectError, chain};
use super::place::Place;
use super::{AT_A_TIME, AbsentPlatform};
use crate::digest::Digest;
use crate::layout::Absence;
use crate::manifest::nesting::{Entered, Nesting};
use crate::manifest::{Descriptor, ImageIndex, ImageManifest, Manifest};
use crate::platform::Platform;

/// The most bytes that all manifests, and all configs, of one index may have together: they are all in memory at a time.
pub(super) const MOST_BYTES: u64 = 64 << 20;

/// What is below an index.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// The manifests that it lists, then those of the indexes nested in it.
    pub(super) images: Vec<(Descriptor, ImageManifest)>,
    /// What it lists and could not be read.
    pub(super) unread: Vec<AbsentPlatform>,
}

/// Reads the manifests below an index, level by level.
pub(super) async fn listed(
    place: &Place<'_>,
    root: Digest,
    index: &ImageIndex,
) -> Result<Listed, InspectError> {
    let failed = |limit| InspectError::IndexLimit { digest: root, limit };
    let mut reading = Reading { root, listed: Listed::default(), indexes: HashMap::new(), bytes: 0 };
    let (mut nesting, mut seen) = (Nesting::default(), HashSet::from([root]));
    nesting.enter(root, 1, index.manifests().len()).map_err(failed)?;
    let (mut level, mut depth) = (index.manifests().to_vec(), 1);
    while !level.is_empty() {
        level.retain(is_wanted);
        let mut new = level.clone();
        new.retain(|entry| seen.insert(entry.digest));
        reading.read(place, new).await?;
        depth += 1;
        let mut next = Vec::new();
        for entry in level {
            let Some(index) = reading.indexes.get(&entry.digest) else { continue };
            let entered = nesting.enter(entry.digest, depth, index.manifests().len()).map_err(failed)?;
            if entered != Entered::Known {
                next.extend_from_slice(index.manifests());
            }
        }
        level = next;
    }
    Ok(reading.listed)
}

struct Reading {
    root: Digest,
    listed: Listed,
    indexes: HashMap<Digest, ImageIndex>,
    bytes: u64,
}

impl Reading {
    /// Reads what entries of indexes lead to.
    async fn read(&mut self, place: &Place<'_>, entries: Vec<Descriptor>) -> Result<(), InspectError> {
        let documents = entries.into_iter().map(|entry| async move {
            let manifest = match place.manifest(&entry).await {
                Err(error) if error.is_of_one_document() => Err(chain(&error)),
                read => Ok(read?),
            };
            Ok::<_, InspectError>((entry, manifest))
        });
        let mut documents = std::pin::pin!(stream::iter(documents).buffered(AT_A_TIME));
        while let Some(document) = documents.next().await {
            let (entry, manifest) = document?;
            if let Ok(Some(manifest)) = &manifest {
                self.bytes = self.bytes.saturating_add(manifest.raw().len() as u64);
            }
            if self.bytes > MOST_BYTES {
                return Err(InspectError::TooManyDocuments { digest: self.root });
            }
            match manifest {
                Ok(Some(Manifest::Image(image))) => self.listed.images.push((entry, image)),
                Ok(Some(Manifest::Index(nested))) => drop(self.indexes.insert(entry.digest, nested)),
                Ok(Some(Manifest::Schema1(_))) => {}
                Ok(None) => self.unread(&entry, None),
                Err(error) => self.unread(&entry, Some(error)),
            }
        }
        Ok(())
    }

    fn unread(&mut self, entry: &Descriptor, error: Option<String>) {
        self.listed.unread.push(AbsentPlatform::new(entry, Absence::Missing, error));
    }
}

/// Whether an entry of an index leads to an image or an artifact. Attestations are about one.
fn is_wanted(entry: &Descriptor) -> bool {
    let is_attestation = entry.platform.as_ref().is_some_and(Platform::is_unknown);
    !is_attestation && (entry.media_type.is_index() || entry.media_type.is_image_manifest())
}
