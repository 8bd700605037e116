//! Docker's schema 1: an image without config, sizes or diff IDs, which are all made here.
//!
//! The layers' sizes are asked of the registry, their diff IDs computed while they come, and from these the config that
//! Docker would make and an OCI manifest. Until then the image is a draft.

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::documents::{Documents, Origin};
use super::error::FetchError;
use super::select::{Selected, SelectedConfig, Selection};
use crate::digest::{Algorithm, Digest};
use crate::manifest::{
    Descriptor, ImageConfig, ImageManifest, Manifest, ManifestError, MediaType, Schema1Image, Schema1Manifest,
};
use crate::transfer::Done;
use crate::verify::{DiffId, Encoding};

/// How many sizes are asked for at a time.
const AT_A_TIME: usize = 8;

/// A draft of the image: its layers with their sizes, nothing yet of its config.
///
/// # Errors
/// [`FetchError::BadSchema1`] when the document's history does not hold together; what asking for sizes brings.
pub(super) async fn draft(
    documents: &Documents<'_>,
    resolved: &Descriptor,
    manifest: &Schema1Manifest,
) -> Result<Selected, FetchError> {
    let source = resolved.digest;
    let failed = |error| FetchError::BadSchema1 { digest: source, source: error };
    let legacy = manifest.image().map_err(failed)?;
    let repository = documents.reference.repository();
    let registry = documents.registry(&source)?;
    let mut different: Vec<Digest> = legacy.layers().to_vec();
    different.sort_unstable();
    different.dedup();
    let sizes = different.into_iter().map(|digest| async move {
        let size = match documents.size_of(&digest).await? {
            Some(size) => size,
            None => registry.blob_size(repository, &digest).await?,
        };
        Ok::<_, FetchError>((digest, size))
    });
    let sizes: Vec<(Digest, u64)> = stream::iter(sizes).buffered(AT_A_TIME).try_collect().await?;
    let size = |digest: &Digest| sizes.iter().find(|(known, _)| known == digest).map_or(0, |(_, size)| *size);
    let layer = |digest: &Digest| Descriptor::new(MediaType::OCI_LAYER_GZIP, *digest, size(digest));
    let layers: Vec<Descriptor> = legacy.layers().iter().map(layer).collect();
    let config = Descriptor::new(MediaType::OCI_CONFIG, Digest::sha256(b""), 0);
    let draft = parse(Schema1Image::manifest(&config, &layers)).map_err(failed)?;
    let platform = Some(legacy.platform().normalize()).filter(|platform| !platform.is_empty());
    let descriptor = resolved.clone();
    Ok(Selected {
        manifest: draft,
        descriptor,
        config: None,
        platform,
        also: Vec::new(),
        source: Some(source),
        source_type: Some(manifest.media_type().clone()),
        legacy: Some(legacy),
    })
}

/// Makes config and manifest of a draft whose layers are proven.
///
/// # Errors
/// [`FetchError::BadSchema1`] when they cannot be made.
pub(super) fn finish(selection: &mut Selection, done: &[Done]) -> Result<(), FetchError> {
    for image in &mut selection.images {
        let Some(legacy) = &image.legacy else { continue };
        let digest = image.source.unwrap_or(image.descriptor.digest);
        let failed = |error| FetchError::BadSchema1 { digest, source: error };
        let mut layers = image.manifest.layers().to_vec();
        let mut diff_ids = Vec::with_capacity(layers.len());
        for layer in &mut layers {
            let proof = done.iter().find(|blob| blob.digest == layer.digest).and_then(|blob| blob.proof);
            let proof = proof.ok_or(FetchError::Absent { digest: layer.digest })?;
            let DiffId::Computed { digest, .. } = proof.diff_id() else {
                return Err(FetchError::Absent { digest: layer.digest });
            };
            diff_ids.push(digest);
            layer.media_type = match proof.encoding() {
                Some(Encoding::Gzip) => MediaType::OCI_LAYER_GZIP,
                Some(Encoding::Zstd) => MediaType::OCI_LAYER_ZSTD,
                _ => MediaType::OCI_LAYER,
            };
        }
        let raw = Bytes::from(legacy.config(&diff_ids).map_err(failed)?);
        let config = Descriptor::new(MediaType::OCI_CONFIG, Digest::sha256(&raw), raw.len() as u64);
        let manifest = parse(Schema1Image::manifest(&config, &layers)).map_err(failed)?;
        let parsed = ImageConfig::parse(&raw).map_err(failed)?;
        image.descriptor = Manifest::Image(manifest.clone()).descriptor(Algorithm::Sha256);
        image.manifest = manifest;
        image.config = Some(SelectedConfig { raw, config: parsed, origin: Origin::Made });
    }
    Ok(())
}

fn parse(raw: Vec<u8>) -> Result<ImageManifest, ManifestError> {
    match Manifest::parse(raw.into(), Some(MediaType::OCI_MANIFEST.as_str()))? {
        Manifest::Image(manifest) => Ok(manifest),
        _ => Err(ManifestError::Unrecognised),
    }
}
