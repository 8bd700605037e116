//! What is about an image: signatures, SBOMs, attestations. A list of them is a hint and proves nothing.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt as _};

use super::error::{InspectError, chain};
use super::place::blocking;
use super::{AT_A_TIME, InspectedImage};
use crate::digest::Digest;
use crate::layout::index::SOURCE_DIGEST;
use crate::layout::{Layout, cosign_type};
use crate::manifest::{Descriptor, ImageIndex};
use crate::reference::{Repository, Tag};
use crate::registry::Registry;

/// The digests that something may be about: what the name stands for, what that was converted from, what it lists, and the
/// images that were found.
pub(super) fn subjects(
    descriptor: &Descriptor,
    index: Option<&ImageIndex>,
    images: &[InspectedImage],
) -> BTreeSet<Digest> {
    let listed = index.into_iter().flat_map(ImageIndex::manifests).map(|entry| entry.digest);
    let found = images.iter().map(|image| image.manifest.digest);
    let source = descriptor.annotations.get(SOURCE_DIGEST).and_then(|source| source.parse().ok());
    listed.chain(found).chain([descriptor.digest]).chain(source).collect()
}

/// What a layout knows to be about `subjects`: by their subject, by a fallback index, by cosign's tags. Each is there
/// once.
pub(super) async fn referrers_in_layout(
    layout: &Layout,
    subjects: BTreeSet<Digest>,
) -> Result<Vec<Descriptor>, InspectError> {
    blocking(layout, move |layout| {
        let mut found = layout.referrers(&subjects)?;
        found.extend(layout.cosign_tagged(&subjects)?);
        let mut seen = BTreeSet::new();
        found.retain(|referrer| seen.insert(referrer.digest));
        Ok(found)
    })
    .await
}

/// What a registry lists about what a name stands for, then about its images, and what cosign's tags say about the former:
/// each tag is a request of its own, and tools sign what the name stands for. The first failure ends the asking: a registry
/// that cannot list for one will not for another, and nothing else of the inspection depends on it.
pub(super) async fn referrers_in_registry(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
    images: &[InspectedImage],
    warnings: &mut Vec<String>,
) -> Vec<Descriptor> {
    let list = |digest| async move { (digest, registry.referrers(repository, &digest).await) };
    let others = images.iter().map(|image| image.manifest.digest).filter(|image| image != digest);
    // What the first answer teaches about the registry spares questions about the others.
    let first = stream::iter([*digest]).then(list);
    let others = stream::iter(others).map(list).buffered(AT_A_TIME);
    let mut found: Vec<Descriptor> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut lists = std::pin::pin!(first.chain(others));
    while let Some((subject, listed)) = lists.next().await {
        match listed {
            Ok(listed) => {
                found.extend(listed.into_iter().filter(|referrer| seen.insert(referrer.digest)));
            }
            Err(error) => {
                warnings.push(format!("what refers to {subject} cannot be listed: {}", chain(&error)));
                break;
            }
        }
    }
    let tags = Tag::COSIGN_KINDS.into_iter().filter_map(|kind| Some((kind, Tag::of_cosign(digest, kind)?)));
    for (kind, tag) in tags {
        match registry.tagged(repository, &tag).await {
            Ok(Some((descriptor, manifest))) if seen.insert(descriptor.digest) => {
                let mut referrer = manifest.as_referrer(descriptor.digest);
                let stated = manifest.stated_artifact_type().map(str::to_owned);
                referrer.artifact_type = Some(stated.unwrap_or_else(|| cosign_type(kind)));
                found.push(referrer);
            }
            Ok(_) => {}
            Err(error) => {
                warnings.push(format!("{repository}:{tag} cannot be asked for: {}", chain(&error)));
                break;
            }
        }
    }
    found
}
