//! An image that is proven whole: manifest, config and every layer, and the diff IDs that the config claims.
//!
//! A [`ProvenImage`] is made of [`ProvenBlob`]s only, one for each blob that the manifest names, so that nothing can be
//! left out on the way to naming an image in a layout. What the manifest and the config claim is read by `manifest`;
//! who keeps the proofs, those of layers that were there already too, is the caller's business.
//!
//! OCI image spec: "rootfs" in the image configuration has one diff ID a layer, in the order of the layers.

use serde::Serialize;

use crate::digest::{Algorithm, Digest};
use crate::failure::{Failure, Kind};

use super::{DiffId, ProvenBlob};

/// What a descriptor says of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobClaim {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What a manifest says of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerClaim {
    /// Digest and size of the layer as it is stored.
    pub blob: BlobClaim,
    /// Whether its media type says that it is encrypted.
    pub encryption: Encryption,
    /// Whether it is to be there at all.
    pub place: Place,
}

/// Where a layer is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the layout.
    Here,
    /// At the URLs that its descriptor names, where it was left by choice. Nothing is proven of it.
    Elsewhere,
}

/// Whether a layer is encrypted, which is what media types that end in `+encrypted` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// It is not.
    None,
    /// It is: its uncompressed bytes, and so its diff ID, cannot be known.
    Encrypted,
}

/// Where an image's diff IDs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffIdClaims<'a> {
    /// From the image config's `rootfs.diff_ids`.
    Config(&'a [Digest]),
    /// They are not to be checked.
    Skipped,
    /// There are none: it is an artifact, whose config is not an image config.
    Artifact,
}

/// What is to be proven of an image.
#[derive(Debug, Clone, Copy)]
pub struct ImageClaims<'a> {
    /// The manifest, from its own bytes.
    pub manifest: &'a ProvenBlob,
    /// The config that it names.
    pub config: BlobClaim,
    /// The layers that it names, in its order.
    pub layers: &'a [LayerClaim],
    /// Their diff IDs.
    pub diff_ids: DiffIdClaims<'a>,
}

/// What became of a layer's diff ID. Serialises as `verified`, `skipped`, `not-applicable` or `encrypted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiffIdStatus {
    /// It is the one that the config claims.
    Verified,
    /// It was not to be checked.
    Skipped,
    /// An artifact's layers have none.
    NotApplicable,
    /// It cannot be known.
    Encrypted,
}

/// A layer of a [`ProvenImage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenLayer {
    blob: Option<ProvenBlob>,
    status: DiffIdStatus,
}

impl ProvenLayer {
    /// The layer as it is stored; none for one that was left at its URLs.
    pub fn blob(&self) -> Option<&ProvenBlob> {
        self.blob.as_ref()
    }

    /// What became of its diff ID. With [`DiffIdStatus::Verified`] the blob's diff ID is computed and is the claimed one.
    pub fn diff_id_status(&self) -> DiffIdStatus {
        self.status
    }
}

/// An image of which every blob that is to be there is proven, and every diff ID that can and shall be. Only this module
/// makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenImage {
    manifest: ProvenBlob,
    config: ProvenBlob,
    layers: Vec<ProvenLayer>,
}

impl ProvenImage {
    /// Puts an image together from the proofs of its blobs. `proofs` is asked for the config and for each layer, each
    /// time with the algorithm of the diff ID where one will be compared.
    ///
    /// # Errors
    /// [`ImageError::DiffIdCount`], and of the first blob that does not hold [`ImageError::Unproven`],
    /// [`ImageError::SizeMismatch`], [`ImageError::DiffIdUnknown`] or [`ImageError::DiffIdMismatch`].
    pub fn assemble(
        claims: &ImageClaims<'_>,
        proofs: impl Fn(&Digest, Option<Algorithm>) -> Option<ProvenBlob>,
    ) -> Result<Self, ImageError> {
        let layers = claims.layers;
        if let DiffIdClaims::Config(diff_ids) = claims.diff_ids
            && diff_ids.len() != layers.len()
        {
            return Err(ImageError::DiffIdCount { layers: layers.len(), diff_ids: diff_ids.len() });
        }
        let config = prove(claims.config, proofs(&claims.config.digest, None))?;
        let layer = |(index, layer): (usize, &LayerClaim)| {
            if layer.place == Place::Elsewhere {
                return Ok(ProvenLayer { blob: None, status: left_out(claims.diff_ids) });
            }
            let (claimed, status) = match (claims.diff_ids, layer.encryption) {
                (DiffIdClaims::Artifact, _) => (None, DiffIdStatus::NotApplicable),
                (DiffIdClaims::Skipped, _) => (None, DiffIdStatus::Skipped),
                (DiffIdClaims::Config(_), Encryption::Encrypted) => (None, DiffIdStatus::Encrypted),
                (DiffIdClaims::Config(diff_ids), Encryption::None) => {
                    (Some(diff_ids[index]), DiffIdStatus::Verified)
                }
            };
            let algorithm = claimed.map(|claimed| claimed.algorithm());
            let mut blob = prove(layer.blob, proofs(&layer.blob.digest, algorithm))?;
            if let Some(claimed) = claimed {
                blob = blob.with_diff_id_in(claimed.algorithm());
                compare(&blob, index, claimed)?;
            }
            Ok(ProvenLayer { blob: Some(blob), status })
        };
        let layers = layers.iter().enumerate().map(layer).collect::<Result<_, _>>()?;
        Ok(Self { manifest: *claims.manifest, config, layers })
    }

    /// The manifest.
    pub fn manifest(&self) -> &ProvenBlob {
        &self.manifest
    }

    /// The config.
    pub fn config(&self) -> &ProvenBlob {
        &self.config
    }

    /// Digest and size of everything that the image needs here: manifest, config and layers.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        let layers = self.layers.iter().filter_map(ProvenLayer::blob);
        [&self.manifest, &self.config].into_iter().chain(layers).map(|blob| (*blob.digest(), blob.size()))
    }

    /// The layers, in the manifest's order.
    pub fn layers(&self) -> &[ProvenLayer] {
        &self.layers
    }
}

/// What is known of the diff ID of a layer that is not here.
fn left_out(diff_ids: DiffIdClaims<'_>) -> DiffIdStatus {
    match diff_ids {
        DiffIdClaims::Artifact => DiffIdStatus::NotApplicable,
        DiffIdClaims::Config(_) | DiffIdClaims::Skipped => DiffIdStatus::Skipped,
    }
}

fn prove(claim: BlobClaim, proof: Option<ProvenBlob>) -> Result<ProvenBlob, ImageError> {
    let proof = proof
        .filter(|proof| *proof.digest() == claim.digest)
        .ok_or(ImageError::Unproven { digest: claim.digest })?;
    if proof.size() != claim.size {
        return Err(ImageError::SizeMismatch {
            digest: claim.digest,
            claimed: claim.size,
            found: proof.size(),
        });
    }
    Ok(proof)
}

fn compare(layer: &ProvenBlob, index: usize, claimed: Digest) -> Result<(), ImageError> {
    let digest = *layer.digest();
    match layer.diff_id() {
        DiffId::Computed { digest: found, .. } if found == claimed => Ok(()),
        DiffId::Computed { digest: found, .. } if found.algorithm() == claimed.algorithm() => {
            Err(ImageError::DiffIdMismatch { layer: digest, index, claimed, found })
        }
        DiffId::Computed { .. } | DiffId::NotComputed => {
            Err(ImageError::DiffIdUnknown { layer: digest, index, claimed })
        }
    }
}

/// Why blobs are not the image that a manifest and a config claim. Layers count from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The config does not have one diff ID a layer.
    #[error("the image config has {diff_ids} diff IDs, and the manifest has {layers} layers")]
    DiffIdCount {
        /// How many layers the manifest has.
        layers: usize,
        /// How many diff IDs the config has.
        diff_ids: usize,
    },
    /// There is no proof of a blob that the manifest names.
    #[error("blob {digest} is not proven")]
    Unproven {
        /// The blob.
        digest: Digest,
    },
    /// The manifest names a blob with another size than it has.
    #[error("blob {digest} has {found} bytes, and its descriptor says {claimed}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The descriptor's size.
        claimed: u64,
        /// Its size.
        found: u64,
    },
    /// A layer's diff ID was not computed, or not with the algorithm of the one that the config claims.
    #[error("the diff ID of layer {index} ({layer}) was not computed, and the config claims {claimed}")]
    DiffIdUnknown {
        /// The layer's digest.
        layer: Digest,
        /// Its place.
        index: usize,
        /// What the config claims.
        claimed: Digest,
    },
    /// A layer's diff ID is another one than the config claims.
    #[error("layer {index} ({layer}) has the diff ID {found}, and the config claims {claimed}")]
    DiffIdMismatch {
        /// The layer's digest.
        layer: Digest,
        /// Its place.
        index: usize,
        /// What the config claims.
        claimed: Digest,
        /// What it is.
        found: Digest,
    },
}

impl Failure for ImageError {
    /// Always [`Kind::Integrity`]: also an image that misses only a proof must not be named.
    fn kind(&self) -> Kind {
        Kind::Integrity
    }
}

#[cfg(test)]
mod tests;
