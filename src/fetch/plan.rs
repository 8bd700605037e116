//! What is to be done for images: which blobs, what of each is there, and what is to be proven. Pure but for the
//! questions that it asks through [`Held`].

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::error::FetchError;
use super::request::{DiffIds, ForeignLayers};
use super::select::{Selected, TakenIndex};
use crate::digest::{Algorithm, Digest};
use crate::manifest::Descriptor;
use crate::verify::{
    BlobClaim, Content, DiffIdClaims, Encryption, ImageClaims, ImageError, IndexClaims, LayerClaim, Place,
    ProvenBlob, ProvenImage, ProvenIndex,
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

/// What the images need.
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

/// What of the images is proven and taken.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Whether diff IDs are checked.
    pub diff_ids: DiffIds,
    /// The layers that are left where they live.
    pub left_out: BTreeSet<Digest>,
}

impl Scope {
    /// What a request takes of these images: with foreign layers to be skipped, those are left out that live elsewhere,
    /// wherever they are listed, and for which somebody would have to be asked. `is_there` says whether the layout has a
    /// layer.
    pub fn of<'a>(
        images: impl IntoIterator<Item = &'a Selected>,
        diff_ids: DiffIds,
        foreign_layers: ForeignLayers,
        is_there: impl Fn(&Descriptor) -> bool,
    ) -> Self {
        let mut left_out = BTreeSet::new();
        if foreign_layers == ForeignLayers::Skip {
            let layers: Vec<&Descriptor> =
                images.into_iter().flat_map(|image| image.manifest.layers()).collect();
            let at_home = |layer: &&&Descriptor| !layer.is_elsewhere() || layer.embedded_data().is_some();
            let needed: BTreeSet<Digest> = layers.iter().filter(at_home).map(|layer| layer.digest).collect();
            let absent = layers.iter().filter(|layer| !needed.contains(&layer.digest) && !is_there(layer));
            left_out.extend(absent.map(|layer| layer.digest));
        }
        Self { diff_ids, left_out }
    }

    /// Whether a layer is left where its descriptor says that it lives.
    pub fn leaves_out(&self, layer: &Descriptor) -> bool {
        self.left_out.contains(&layer.digest)
    }

    /// A schema 1 image has no diff IDs but those that are computed of it.
    fn claims<'a>(&self, image: &'a Selected) -> DiffIdClaims<'a> {
        match (&image.config, self.diff_ids) {
            (None, _) => DiffIdClaims::Artifact,
            (Some(_), DiffIds::Skip) if image.legacy.is_none() => DiffIdClaims::Skipped,
            (Some(config), _) => DiffIdClaims::Config(&config.config.diff_ids),
        }
    }
}

/// Plans images: what they share is there once. `held` says what is there of a blob.
///
/// # Errors
/// [`FetchError::TwoSizes`]; [`FetchError::TooMuch`]; [`FetchError::Unproven`] when a config does not have one diff ID a
/// layer, which is known before anything is downloaded; what `held` says.
pub fn plan<'a>(
    images: impl IntoIterator<Item = &'a Selected>,
    scope: &Scope,
    mut held: impl FnMut(&Descriptor) -> Result<Held, FetchError>,
) -> Result<Plan, FetchError> {
    let mut blobs: Vec<PlannedBlob> = Vec::new();
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut total = 0_u128;
    for image in images {
        for (descriptor, content) in needed(image, scope)? {
            let at = *places.entry(descriptor.digest).or_insert(blobs.len());
            match blobs.get_mut(at) {
                None => {
                    let held = held(&descriptor)?;
                    blobs.push(PlannedBlob { descriptor: descriptor.into_owned(), content, held });
                }
                Some(blob) if blob.descriptor.size != descriptor.size => {
                    return Err(FetchError::TwoSizes {
                        digest: descriptor.digest,
                        one: blob.descriptor.size,
                        other: descriptor.size,
                    });
                }
                Some(blob) => {
                    blob.content = blob.content.and(content);
                    // One blob may be listed with URLs here and without them there: any of them may be tried.
                    if !blob.descriptor.is_elsewhere() {
                        blob.descriptor.urls.clone_from(&descriptor.urls);
                    }
                }
            }
        }
        total += u128::from(image.manifest.config().size);
    }
    // Sizes that do not add up belong to no image; from here on sums cannot overflow.
    total += blobs.iter().map(|blob| u128::from(blob.descriptor.size)).sum::<u128>();
    u64::try_from(total).map(|_| Plan { blobs }).map_err(|_| FetchError::TooMuch)
}

/// The blobs that one image needs and that are not in memory yet, and what is to be proven of each.
fn needed<'a>(image: &'a Selected, scope: &Scope) -> Result<Vec<(Cow<'a, Descriptor>, Content)>, FetchError> {
    let layers = image.manifest.layers();
    let claimed = scope.claims(image);
    if let DiffIdClaims::Config(claimed) = claimed
        && claimed.len() != layers.len()
    {
        let error = ImageError::DiffIdCount { layers: layers.len(), diff_ids: claimed.len() };
        return Err(FetchError::Unproven(error));
    }
    let is_in_memory = image.config.is_some() || image.legacy.is_some();
    // Only layers live elsewhere: nobody is asked for a config but the registry.
    let config = Descriptor { urls: Vec::new(), ..image.manifest.config().clone() };
    let config = (!is_in_memory).then_some((Cow::Owned(config), Content::Opaque));
    let layers = layers.iter().enumerate().filter(|(_, layer)| !scope.leaves_out(layer));
    let layers = layers.map(|(at, layer)| match image.legacy {
        Some(_) => (Cow::Borrowed(layer), Content::Layer { diff_id: Algorithm::Sha256 }),
        None => (Cow::Borrowed(layer), content(layer, claimed, at)),
    });
    Ok(config.into_iter().chain(layers).collect())
}

fn content(layer: &Descriptor, claims: DiffIdClaims<'_>, at: usize) -> Content {
    match claims {
        DiffIdClaims::Config(diff_ids) if !layer.media_type.is_encrypted() => Content::Layer {
            diff_id: diff_ids.get(at).map_or(Algorithm::Sha256, crate::digest::Digest::algorithm),
        },
        _ => Content::Opaque,
    }
}

/// Proves an image: its documents by their bytes at hand, its other blobs by `proofs`.
///
/// # Errors
/// [`FetchError::BadDocument`]; as [`assemble`].
pub(super) fn prove(
    image: &Selected,
    scope: &Scope,
    proofs: &mut BTreeMap<Digest, ProvenBlob>,
) -> Result<ProvenImage, FetchError> {
    let manifest = super::document(image.manifest.raw(), image.descriptor.digest)?;
    if let Some(config) = &image.config {
        let digest = image.manifest.config().digest;
        proofs.entry(digest).or_insert(super::document(&config.raw, digest)?);
    }
    assemble(image, scope, &manifest, proofs)
}

/// Puts the proofs of all blobs together to the proof of an image.
///
/// # Errors
/// [`FetchError::Unproven`] names the first layer that does not hold.
pub fn assemble(
    image: &Selected,
    scope: &Scope,
    manifest: &ProvenBlob,
    proofs: &BTreeMap<Digest, ProvenBlob>,
) -> Result<ProvenImage, FetchError> {
    let layers: Vec<LayerClaim> = (image.manifest.layers().iter())
        .map(|layer| LayerClaim {
            blob: claim(layer),
            encryption: if layer.media_type.is_encrypted() {
                Encryption::Encrypted
            } else {
                Encryption::None
            },
            place: if scope.leaves_out(layer) { Place::Elsewhere } else { Place::Here },
        })
        .collect();
    let config = claim(image.manifest.config());
    let claims = ImageClaims { manifest, config, layers: &layers, diff_ids: scope.claims(image) };
    ProvenImage::assemble(&claims, |digest, _| proofs.get(digest).copied()).map_err(FetchError::Unproven)
}

/// Puts the proofs of images together to the proof of the index that they were taken out of.
///
/// # Errors
/// [`FetchError::Index`] when they do not belong together.
pub fn assemble_index(
    taken: &TakenIndex,
    proofs: &BTreeMap<Digest, ProvenBlob>,
    images: Vec<ProvenImage>,
) -> Result<ProvenIndex, FetchError> {
    let parts: Vec<(Vec<BlobClaim>, ProvenBlob)> = std::iter::once(&taken.root)
        .chain(&taken.nested)
        .map(|part| {
            let digest = part.descriptor.digest;
            let proof = proofs.get(&digest).copied();
            let proof = proof.ok_or(FetchError::Unproven(ImageError::Unproven { digest }))?;
            Ok((part.index.manifests().iter().map(claim).collect(), proof))
        })
        .collect::<Result<_, FetchError>>()?;
    let claims: Vec<IndexClaims<'_>> =
        parts.iter().map(|(listed, index)| IndexClaims { index, listed }).collect();
    let (root, nested) = claims.split_first().expect("invariant: the root comes first");
    Ok(ProvenIndex::assemble(*root, nested, images)?)
}

fn claim(descriptor: &Descriptor) -> BlobClaim {
    BlobClaim { digest: descriptor.digest, size: descriptor.size }
}
