//! Proves what converted images refer to, before any of them is named.
//!
//! Every blob is read once for all images that share it. What an entry of `index.json` says was left out when it was
//! fetched stays left out: diff IDs that were skipped, and foreign layers that live at their URLs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::plan::{Content, Node};
use super::{ConvertError, Options, Planned};
use crate::check::prove_blobs;
use crate::digest::{Algorithm, Digest};
use crate::layout::index::{DIFF_IDS, FOREIGN_LAYERS};
use crate::layout::{Layout, LayoutError};
use crate::manifest::{CONFIG_CAP, Descriptor, ImageConfig, ImageManifest};
use crate::progress::Reporter;
use crate::verify::{
    BlobClaim, DiffId, DiffIdClaims, Encryption, ImageClaims, LayerClaim, Place, ProvenBlob, ProvenImage,
    verify_bytes,
};

/// What an entry of `index.json` says was left out.
#[derive(Debug, Clone, Copy)]
struct LeftOut {
    diff_ids: bool,
    foreign_layers: bool,
}

impl LeftOut {
    fn of(entry: &Descriptor) -> Self {
        let is_skipped = |key| entry.annotations.get(key).is_some_and(|text| text == "skipped");
        Self { diff_ids: is_skipped(DIFF_IDS), foreign_layers: is_skipped(FOREIGN_LAYERS) }
    }
}

/// What is to be proven of an image.
struct Wanted<'a> {
    node: &'a Node,
    config: BlobClaim,
    layers: Vec<LayerClaim>,
    diff_ids: DiffIds,
}

enum DiffIds {
    Config(Vec<Digest>),
    Skipped,
    Artifact,
}

impl Wanted<'_> {
    fn claimed(&self) -> DiffIdClaims<'_> {
        match &self.diff_ids {
            DiffIds::Config(diff_ids) => DiffIdClaims::Config(diff_ids),
            DiffIds::Skipped => DiffIdClaims::Skipped,
            DiffIds::Artifact => DiffIdClaims::Artifact,
        }
    }
}

/// Which blobs are to be read, and the diff IDs to compute of each.
type Tasks = BTreeMap<Digest, BTreeSet<Algorithm>>;

/// Proves the images of every entry that is converted, in the order of `planned`. Those that stay as they are in an index
/// that changes are among them.
///
/// # Errors
/// [`ConvertError::Layout`] for a blob that is missing or bad, [`ConvertError::Image`] for blobs that are not what their
/// image claims, [`ConvertError::Cancelled`].
pub(super) fn prove(
    layout: &Layout,
    planned: &[Planned],
    options: &Options,
    reporter: &Arc<dyn Reporter>,
) -> Result<Vec<Vec<ProvenImage>>, ConvertError> {
    let mut tasks = Tasks::new();
    let mut others = Vec::new();
    let mut images = Vec::new();
    for planned in planned {
        let (Some(root), Ok(entry)) = (planned.converted(), planned.entry.descriptor()) else { continue };
        let mut gathered = Gathered::default();
        gathered.gather(root);
        let left_out = LeftOut::of(&entry);
        let wanted = gathered.images.iter().map(|(node, manifest)| wanted(layout, node, manifest, left_out));
        images.push(wanted.collect::<Result<Vec<_>, _>>()?);
        others.extend(gathered.others);
    }
    for wanted in images.iter().flatten() {
        add_tasks(&mut tasks, wanted);
    }
    for other in &others {
        tasks.entry(other.digest).or_default();
    }
    let proofs = Proofs::new(prove_blobs(layout, &tasks, options, reporter)?);
    for other in others {
        proofs.check_size(other)?;
    }
    let assembled = images.iter().map(|images| images.iter().map(|wanted| proofs.assemble(wanted)).collect());
    assembled.collect()
}

/// The images of a tree, each once, and what else its indexes list.
#[derive(Default)]
struct Gathered<'a> {
    seen: BTreeSet<Digest>,
    images: Vec<(&'a Node, &'a ImageManifest)>,
    others: Vec<&'a Descriptor>,
}

impl<'a> Gathered<'a> {
    fn gather(&mut self, node: &'a Node) {
        if !self.seen.insert(node.descriptor.digest) {
            return;
        }
        match &node.content {
            Content::Image(manifest) => self.images.push((node, manifest)),
            Content::Index { children, others, .. } => {
                self.others.extend(others);
                for child in children {
                    self.gather(child);
                }
            }
        }
    }
}

fn wanted<'a>(
    layout: &Layout,
    node: &'a Node,
    manifest: &ImageManifest,
    left_out: LeftOut,
) -> Result<Wanted<'a>, ConvertError> {
    let config = manifest.config();
    let diff_ids = if !manifest.is_image() {
        DiffIds::Artifact
    } else if left_out.diff_ids {
        DiffIds::Skipped
    } else {
        let raw = layout.read_blob(&config.digest, CONFIG_CAP as u64)?;
        let parsed = ImageConfig::parse(&raw)
            .map_err(|source| LayoutError::BadDocument { digest: config.digest, source })?;
        DiffIds::Config(parsed.diff_ids)
    };
    let mut layers = Vec::new();
    for layer in manifest.layers() {
        let is_absent = layout.size_of(&layer.digest)?.is_none();
        let is_elsewhere = left_out.foreign_layers && is_absent && layer.is_elsewhere();
        layers.push(claim(layer, if is_elsewhere { Place::Elsewhere } else { Place::Here }));
    }
    let here = layers.iter().filter(|layer| layer.place == Place::Here);
    for digest in here.map(|layer| layer.blob.digest).chain([config.digest]) {
        if layout.size_of(&digest)?.is_none() {
            return Err(LayoutError::MissingBlob { digest }.into());
        }
    }
    Ok(Wanted { node, config: BlobClaim { digest: config.digest, size: config.size }, layers, diff_ids })
}

fn claim(layer: &Descriptor, place: Place) -> LayerClaim {
    LayerClaim {
        blob: BlobClaim { digest: layer.digest, size: layer.size },
        place,
        encryption: if layer.media_type.is_encrypted() { Encryption::Encrypted } else { Encryption::None },
    }
}

fn add_tasks(tasks: &mut Tasks, wanted: &Wanted<'_>) {
    tasks.entry(wanted.config.digest).or_default();
    let diff_ids = if let DiffIds::Config(diff_ids) = &wanted.diff_ids { &diff_ids[..] } else { &[] };
    let here = wanted.layers.iter().enumerate().filter(|(_, layer)| layer.place == Place::Here);
    for (at, layer) in here {
        let algorithms = tasks.entry(layer.blob.digest).or_default();
        if layer.encryption == Encryption::None {
            algorithms.extend(diff_ids.get(at).map(Digest::algorithm));
        }
    }
}

/// The proofs of all blobs.
struct Proofs(BTreeMap<Digest, Vec<ProvenBlob>>);

impl Proofs {
    fn new(proofs: Vec<ProvenBlob>) -> Self {
        let mut by_digest: BTreeMap<Digest, Vec<ProvenBlob>> = BTreeMap::new();
        for proof in proofs {
            by_digest.entry(*proof.digest()).or_default().push(proof);
        }
        Self(by_digest)
    }

    /// A proof of the blob, with a diff ID in this algorithm where there is one.
    fn of(&self, digest: &Digest, algorithm: Option<Algorithm>) -> Option<ProvenBlob> {
        let proofs = self.0.get(digest)?;
        let fits = |proof: &&ProvenBlob| match proof.diff_id() {
            DiffId::Computed { digest, .. } => Some(digest.algorithm()) == algorithm,
            DiffId::NotComputed => false,
        };
        proofs.iter().find(fits).or_else(|| proofs.first()).copied()
    }

    fn check_size(&self, descriptor: &Descriptor) -> Result<(), ConvertError> {
        match self.of(&descriptor.digest, None) {
            Some(proof) if proof.size() == descriptor.size => Ok(()),
            Some(proof) => {
                let (found, claimed) = (proof.size(), descriptor.size);
                let reason = format!("it has {found} bytes, and a descriptor of it says {claimed}");
                Err(LayoutError::BadBlob { digest: descriptor.digest, reason }.into())
            }
            None => Err(LayoutError::MissingBlob { digest: descriptor.digest }.into()),
        }
    }

    fn assemble(&self, wanted: &Wanted<'_>) -> Result<ProvenImage, ConvertError> {
        let digest = wanted.node.descriptor.digest;
        let manifest = verify_bytes(&wanted.node.raw, digest)
            .map_err(|error| LayoutError::BadBlob { digest, reason: error.to_string() })?;
        let claims = ImageClaims {
            manifest: &manifest,
            config: wanted.config,
            layers: &wanted.layers,
            diff_ids: wanted.claimed(),
        };
        ProvenImage::assemble(&claims, |digest, algorithm| self.of(digest, algorithm)).map_err(|source| {
            ConvertError::Image { manifest: wanted.node.source.digest, source: source.into() }
        })
    }
}
