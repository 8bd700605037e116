//! What is to be done for an image: which blobs, what of each is there, and what is to be proven. Pure but for the
//! questions that it asks through [`Held`].

use std::collections::BTreeMap;

use super::DiffIds;
use super::error::FetchError;
use super::select::Selected;
use crate::digest::{Algorithm, Digest};
use crate::manifest::Descriptor;
use crate::verify::{
    BlobClaim, Content, DiffIdClaims, Encryption, ImageClaims, ImageError, LayerClaim, ProvenBlob,
    ProvenImage,
};

/// How much of a blob is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// All of it, under its final name, with the right size.
    Present,
    /// This many bytes, staged by an earlier run.
    Staged(u64),
}

/// One blob that the image needs.
#[derive(Debug, Clone)]
pub struct PlannedBlob {
    /// Which one.
    pub descriptor: Descriptor,
    /// What is to be proven of it.
    pub content: Content,
    /// What is there.
    pub held: Held,
}

impl PlannedBlob {
    /// Whether its descriptor holds it.
    pub fn is_embedded(&self) -> bool {
        self.held != Held::Present && self.descriptor.embedded_data().is_some()
    }

    /// The bytes to download.
    pub fn missing(&self) -> u64 {
        match self.held {
            Held::Present => 0,
            Held::Staged(_) if self.is_embedded() => 0,
            Held::Staged(bytes) => self.descriptor.size.saturating_sub(bytes),
        }
    }
}

/// What an image needs.
#[derive(Debug)]
pub struct Plan {
    /// Every blob once, in the order of its first layer. An artifact's config is among them; an image's config was
    /// read to make the plan.
    pub blobs: Vec<PlannedBlob>,
}

impl Plan {
    /// The bytes to download.
    pub fn missing(&self) -> u64 {
        self.blobs.iter().map(PlannedBlob::missing).sum()
    }

    /// How many blobs are to be downloaded, in whole or in part.
    pub fn downloads(&self) -> usize {
        self.blobs.iter().filter(|blob| blob.held != Held::Present && !blob.is_embedded()).count()
    }

    /// The bytes that are there.
    pub fn reused(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.descriptor.size - blob.missing()).sum()
    }
}

/// Plans an image. `held` says what is there of a blob.
///
/// # Errors
/// [`FetchError::TwoSizes`]; [`FetchError::TooMuch`]; [`FetchError::Unproven`] when the config does not have one diff ID a layer, which is known
/// before anything is downloaded; what `held` says.
pub fn plan(
    selected: &Selected,
    diff_ids: DiffIds,
    mut held: impl FnMut(&Descriptor) -> Result<Held, FetchError>,
) -> Result<Plan, FetchError> {
    let layers = selected.manifest.layers();
    let claimed = claims(selected, diff_ids);
    if let DiffIdClaims::Config(claimed) = claimed
        && claimed.len() != layers.len()
    {
        let error = ImageError::DiffIdCount { layers: layers.len(), diff_ids: claimed.len() };
        return Err(FetchError::Unproven(error));
    }
    let config = selected.config.is_none().then(|| (selected.manifest.config(), Content::Opaque));
    let layers = layers.iter().enumerate().map(|(at, layer)| (layer, content(layer, claimed, at)));
    let mut blobs: Vec<PlannedBlob> = Vec::new();
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    for (descriptor, content) in config.into_iter().chain(layers) {
        let at = *places.entry(descriptor.digest).or_insert(blobs.len());
        match blobs.get_mut(at) {
            None => {
                let held = held(descriptor)?;
                blobs.push(PlannedBlob { descriptor: descriptor.clone(), content, held });
            }
            Some(blob) if blob.descriptor.size != descriptor.size => {
                return Err(FetchError::TwoSizes {
                    digest: descriptor.digest,
                    one: blob.descriptor.size,
                    other: descriptor.size,
                });
            }
            Some(blob) if blob.content == Content::Opaque => blob.content = content,
            Some(_) => {}
        }
    }
    // Sizes that do not add up belong to no image; from here on sums cannot overflow.
    let sizes = blobs.iter().map(|blob| blob.descriptor.size).chain([selected.manifest.config().size]);
    sizes
        .map(u128::from)
        .sum::<u128>()
        .try_into()
        .map(|_: u64| Plan { blobs })
        .map_err(|_| FetchError::TooMuch)
}

fn claims(selected: &Selected, diff_ids: DiffIds) -> DiffIdClaims<'_> {
    match (&selected.config, diff_ids) {
        (None, _) => DiffIdClaims::Artifact,
        (Some(_), DiffIds::Skip) => DiffIdClaims::Skipped,
        (Some(config), DiffIds::Verify) => DiffIdClaims::Config(&config.config.diff_ids),
    }
}

fn content(layer: &Descriptor, claims: DiffIdClaims<'_>, at: usize) -> Content {
    match claims {
        DiffIdClaims::Config(diff_ids) if !layer.media_type.is_encrypted() => Content::Layer {
            diff_id: diff_ids.get(at).map_or(Algorithm::Sha256, crate::digest::Digest::algorithm),
        },
        _ => Content::Opaque,
    }
}

/// Puts the proofs of all blobs together to the proof of the image.
///
/// # Errors
/// [`FetchError::Unproven`] names the first layer that does not hold.
pub fn assemble(
    selected: &Selected,
    diff_ids: DiffIds,
    manifest: &ProvenBlob,
    proofs: &BTreeMap<Digest, ProvenBlob>,
) -> Result<ProvenImage, FetchError> {
    let claim = |descriptor: &Descriptor| BlobClaim { digest: descriptor.digest, size: descriptor.size };
    let encryption = |layer: &Descriptor| {
        if layer.media_type.is_encrypted() { Encryption::Encrypted } else { Encryption::None }
    };
    let layers: Vec<LayerClaim> = (selected.manifest.layers().iter())
        .map(|layer| LayerClaim { blob: claim(layer), encryption: encryption(layer) })
        .collect();
    let config = claim(selected.manifest.config());
    let claims = ImageClaims { manifest, config, layers: &layers, diff_ids: claims(selected, diff_ids) };
    ProvenImage::assemble(&claims, |digest, _| proofs.get(digest).copied()).map_err(FetchError::Unproven)
}
