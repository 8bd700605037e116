//! All that an index lists: images, artifacts, attestations, and what the indexes nested in it list.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::super::documents::Documents;
use super::super::error::FetchError;
use super::{IndexPart, MOST_BYTES, Selected, Selection, load, sparse};
use crate::digest::Digest;
use crate::manifest::nesting::{DEEPEST, MOST_ENTRIES};
use crate::manifest::{Descriptor, Manifest};

/// How many documents are asked for at a time.
const AT_A_TIME: usize = 8;

/// Takes everything, level by level. What is no manifest of a kind that is known is left where it is, with a warning; an index
/// that lists nothing else is refused.
pub(super) async fn everything(documents: &Documents<'_>, root: IndexPart) -> Result<Selection, FetchError> {
    let (mut images, mut nested): (Vec<Selected>, Vec<IndexPart>) = Default::default();
    let mut seen = BTreeSet::from([root.descriptor.digest]);
    let mut level = root.index.manifests().to_vec();
    let (mut entries, mut bytes, mut depth) = (0_usize, 0_u64, 1);
    let (mut skipped, mut legacy) = (0_usize, 0_usize);
    while !level.is_empty() {
        entries = entries.saturating_add(level.len());
        if entries > MOST_ENTRIES || depth > DEEPEST {
            return Err(FetchError::IndexLimit { entries, depth });
        }
        level.retain(|entry| seen.insert(entry.digest));
        let (known, unknown): (Vec<_>, Vec<_>) = level.into_iter().partition(is_known);
        legacy += unknown.iter().filter(|entry| entry.media_type.is_schema1()).count();
        skipped += unknown.iter().filter(|entry| !entry.media_type.is_schema1()).count();
        let sizes = known.iter().map(|entry| entry.size);
        bytes = sizes.fold(bytes, u64::saturating_add);
        check(bytes)?;
        let loaded = known.into_iter().map(|entry| async move {
            let manifest = documents.listed(&entry).await?;
            Ok::<_, FetchError>((entry, manifest))
        });
        let loaded: Vec<_> = stream::iter(loaded).buffered(AT_A_TIME).try_collect().await?;
        let mut manifests = Vec::new();
        level = Vec::new();
        for (entry, manifest) in loaded {
            match manifest {
                Manifest::Image(manifest) => manifests.push((entry, manifest)),
                Manifest::Index(index) => {
                    level.extend_from_slice(index.manifests());
                    let descriptor = Descriptor { media_type: index.media_type().clone(), ..entry };
                    nested.push(IndexPart { descriptor, index, source: None });
                }
                Manifest::Schema1(_) => legacy += 1,
            }
        }
        let configs = manifests.iter().filter(|(_, manifest)| manifest.is_image());
        bytes = configs.map(|(_, manifest)| manifest.config().size).fold(bytes, u64::saturating_add);
        check(bytes)?;
        let loaded = manifests.into_iter().map(|(entry, manifest)| {
            let platform = entry.platform.clone().filter(|platform| !platform.is_empty());
            load(documents, manifest, entry, platform)
        });
        images.extend(stream::iter(loaded).buffered(AT_A_TIME).try_collect::<Vec<_>>().await?);
        depth += 1;
    }
    // Named, it would pass for an image that crossed; with no entry at all it is whole as it is.
    if images.is_empty() && skipped + legacy > 0 {
        return Err(FetchError::NothingToTake { entries });
    }
    add_platforms(&mut images, std::iter::once(&root).chain(&nested));
    let of = |count: usize, what: &str| {
        (count > 0).then(|| format!("{count} of the {entries} entries of the index {what} and are left out"))
    };
    let warnings = [
        of(skipped, "are no manifests"),
        of(legacy, "are in Docker's schema 1, which an index cannot keep when it is converted,"),
    ];
    sparse(root, nested, images, warnings.into_iter().flatten().collect())
}

/// An image may be listed for several platforms.
fn add_platforms<'a>(images: &mut [Selected], indexes: impl Iterator<Item = &'a IndexPart>) {
    let places: BTreeMap<Digest, usize> =
        images.iter().enumerate().map(|(at, image)| (image.descriptor.digest, at)).collect();
    for entry in indexes.flat_map(|part| part.index.manifests()) {
        let platform = entry.platform.as_ref().filter(|platform| !platform.is_empty());
        let (Some(platform), Some(at)) = (platform, places.get(&entry.digest)) else { continue };
        if images[*at].platform.as_ref() != Some(platform) {
            images[*at].also.push(platform.clone());
        }
    }
}

fn is_known(entry: &Descriptor) -> bool {
    entry.media_type.is_index() || entry.media_type.is_image_manifest()
}

fn check(bytes: u64) -> Result<(), FetchError> {
    if bytes > MOST_BYTES { Err(FetchError::TooManyDocuments { bytes }) } else { Ok(()) }
}
