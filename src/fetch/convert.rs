//! `--format oci`: what was selected, with OCI's media types in place of Docker's.
//!
//! Manifests first, then the indexes that list them, the innermost before the others: each document is converted once. Of
//! what an index lists and nobody takes only the manifests are read, so that the same index always becomes the same.

use std::collections::BTreeMap;

use http::StatusCode;

use super::documents::Documents;
use super::error::FetchError;
use super::request::{Format, Request};
use super::select::{MOST_BYTES, Named, Selection, TakenIndex};
use crate::digest::Digest;
use crate::manifest::nesting::{DEEPEST, MOST_ENTRIES};
use crate::manifest::{Descriptor, ImageIndex, ImageManifest, Manifest, convert};

/// Converts what is selected; what is OCI already stays as it is, and its digest with it.
///
/// # Errors
/// [`FetchError::Conversion`] when a document has no room for it; what reading the manifests brings that are listed and not
/// taken.
pub(super) async fn to_oci(documents: &Documents<'_>, selection: &mut Selection) -> Result<(), FetchError> {
    let mut conversion = Conversion { documents, done: BTreeMap::new(), entries: 0, bytes: 0 };
    for image in selection.images.iter_mut().filter(|image| image.legacy.is_none()) {
        let source = image.descriptor.digest;
        let Some(manifest) = image_to_oci(source, &image.manifest)? else {
            conversion.done.insert(source, None);
            continue;
        };
        image.descriptor = Manifest::Image(manifest.clone()).descriptor(source.algorithm());
        image.manifest = manifest;
        image.source = Some(source);
        conversion.done.insert(source, Some(image.descriptor.clone()));
    }
    let Named::Index(taken) = &mut selection.named else { return Ok(()) };
    let TakenIndex { root, nested, .. } = &mut **taken;
    for part in nested.iter_mut().chain([root]) {
        let source = part.descriptor.digest;
        if let Some(index) = conversion.index(source, &part.index, 1).await? {
            part.descriptor = Manifest::Index(index.clone()).descriptor(source.algorithm());
            part.index = index;
            part.source = Some(source);
        }
        let new = part.source.map(|_| part.descriptor.clone());
        conversion.done.insert(source, new);
    }
    Ok(())
}

fn image_to_oci(digest: Digest, manifest: &ImageManifest) -> Result<Option<ImageManifest>, FetchError> {
    convert::image_to_oci(manifest).map_err(|source| FetchError::Conversion { digest, source })
}

/// What documents were converted to. What is listed and not taken is read and converted too, though not kept: one source
/// becomes one and the same document, whatever is taken of it.
struct Conversion<'a> {
    documents: &'a Documents<'a>,
    /// By the source's digest; none for what stays as it is.
    done: BTreeMap<Digest, Option<Descriptor>>,
    entries: usize,
    bytes: u64,
}

impl Conversion<'_> {
    async fn index(
        &mut self,
        digest: Digest,
        index: &ImageIndex,
        depth: usize,
    ) -> Result<Option<ImageIndex>, FetchError> {
        self.entries = self.entries.saturating_add(index.manifests().len());
        if self.entries > MOST_ENTRIES || depth > DEEPEST {
            return Err(FetchError::IndexLimit { entries: self.entries, depth });
        }
        for entry in index.manifests() {
            if !self.done.contains_key(&entry.digest) {
                let new = Box::pin(self.listed(entry, depth)).await?;
                self.done.insert(entry.digest, new);
            }
        }
        let new = |child: &Descriptor| self.done.get(&child.digest).cloned().flatten();
        convert::index_to_oci(index, new).map_err(|source| FetchError::Conversion { digest, source })
    }

    /// What an entry becomes of which nothing is taken.
    async fn listed(&mut self, entry: &Descriptor, depth: usize) -> Result<Option<Descriptor>, FetchError> {
        if !entry.media_type.is_index() && !entry.media_type.is_image_manifest() {
            return Ok(None);
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > MOST_BYTES {
            return Err(FetchError::TooManyDocuments { bytes: self.bytes });
        }
        let manifest = match self.documents.listed(entry).await {
            // Mirrors hold indexes of which they copied some platforms only.
            Err(FetchError::Registry(error)) if error.status() == Some(StatusCode::NOT_FOUND) => {
                return Ok(None);
            }
            manifest => manifest?,
        };
        let digest = entry.digest;
        let new = match manifest {
            Manifest::Image(manifest) => image_to_oci(digest, &manifest)?.map(Manifest::Image),
            Manifest::Index(index) => self.index(digest, &index, depth + 1).await?.map(Manifest::Index),
            Manifest::Schema1(_) => None,
        };
        Ok(new.map(|new| new.descriptor(digest.algorithm())))
    }
}

/// What those should know who carry the layout to tools that know OCI's media types only.
pub(super) fn notes(selection: &Selection, request: &Request) -> Vec<String> {
    let zstd = selection.images.iter().any(|image| convert::has_zstd_layers(&image.manifest));
    let mut images = selection.images.iter();
    let is_docker = match &selection.named {
        Named::Index(taken) if convert::is_docker_list(&taken.root.index) => true,
        _ => images.any(|image| convert::is_docker_typed(&image.manifest)),
    };
    let reference = &request.reference;
    let kept = request.format == Format::Preserve && is_docker;
    let stays = "its zstd layers stay zstd, which umoci does not read";
    match (kept, zstd && request.format == Format::Oci) {
        (true, _) => vec![format!(
            "{reference} keeps Docker's media types, which umoci does not read: `--format oci` or `ocipull convert` \
             changes them{}",
            if zstd { format!("; {stays}") } else { String::new() }
        )],
        (false, true) => vec![format!("{reference}: {stays}")],
        (false, false) => Vec::new(),
    }
}
