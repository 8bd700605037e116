//! What a fetch did, in the shape that `--json` prints.

use serde::{Serialize, Serializer};

use std::collections::BTreeMap;

use super::DiffIds;
use super::plan::{Held, Plan};
use super::select::SelectedConfig;
use crate::digest::Digest;
use crate::manifest::{Descriptor, ImageManifest};
use crate::platform::Platform;
use crate::transfer::{Done, Outcome};
use crate::verify::{DiffId, DiffIdStatus, ProvenImage};

/// How it ended for a reference that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Status {
    /// The image is in the layout now.
    Fetched,
    /// It was there already, and nothing was downloaded.
    UpToDate,
    /// A dry run: this is what would be done.
    Planned,
}

impl Status {
    /// The name in reports and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::UpToDate => "up-to-date",
            Self::Planned => "planned",
        }
    }
}

/// A descriptor's three main fields; what is not known is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The media type.
    pub media_type: Option<String>,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: Option<u64>,
}

impl From<&Descriptor> for Summary {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: Some(descriptor.media_type.as_str().to_owned()).filter(|text| !text.is_empty()),
            digest: descriptor.digest,
            size: Some(descriptor.size),
        }
    }
}

/// What came of one reference.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fetched {
    /// The canonical reference.
    pub reference: String,
    /// How it ended.
    pub status: Status,
    /// What the name stands for in the registry.
    pub resolved: Summary,
    /// What `index.json` names.
    pub descriptor: Summary,
    /// The images taken.
    pub images: Vec<ImageReport>,
    /// Blob bytes that came over the network.
    #[serde(skip)]
    pub downloaded: u64,
    /// Blob bytes that were there, in the layout or staged by an earlier run.
    #[serde(skip)]
    pub reused: u64,
}

/// One image.
#[derive(Debug, Clone, Serialize)]
pub struct ImageReport {
    /// Its platform; an artifact has none.
    #[serde(serialize_with = "text")]
    pub platform: Option<Platform>,
    /// Its manifest.
    pub manifest: Summary,
    /// Its config.
    pub config: Summary,
    /// Its layers in order, the base first.
    pub layers: Vec<LayerReport>,
}

/// One layer, or one of an artifact's blobs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerReport {
    /// Its media type, as the manifest says.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its compressed size in bytes.
    pub size: u64,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// How many uncompressed bytes there are, where they were counted.
    pub uncompressed_size: Option<u64>,
    /// Whether the diff ID was computed and held.
    pub diff_id_status: DiffIdStatus,
    /// How it came to be there.
    pub outcome: LayerOutcome,
}

/// How a layer came to be in the layout, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LayerOutcome {
    /// It was downloaded.
    Downloaded,
    /// It was downloaded from where an earlier run had got to.
    Resumed,
    /// It was there.
    Present,
    /// The manifest held it.
    Embedded,
    /// A dry run would download it.
    Planned,
}

impl From<Outcome> for LayerOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Downloaded => Self::Downloaded,
            Outcome::Resumed => Self::Resumed,
            Outcome::Present => Self::Present,
            Outcome::Embedded => Self::Embedded,
        }
    }
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn text<S: Serializer>(platform: &Option<Platform>, serializer: S) -> Result<S::Ok, S::Error> {
    match platform {
        Some(platform) => serializer.collect_str(platform),
        None => serializer.serialize_none(),
    }
}

/// The layers of an image that is there, as they were proven when it was fetched.
pub(super) fn committed_layers(
    manifest: &ImageManifest,
    diff_ids: &[Digest],
    checked: DiffIds,
) -> Vec<LayerReport> {
    let status = status_of(manifest.is_image(), checked);
    layers(manifest, |at, layer| (status(layer), diff_ids.get(at).copied(), None, LayerOutcome::Present))
}

/// The layers of an image that is only planned: nothing of them is proven.
pub(super) fn planned_layers(
    manifest: &ImageManifest,
    plan: &Plan,
    config: Option<&SelectedConfig>,
    checked: DiffIds,
) -> Vec<LayerReport> {
    let status = status_of(manifest.is_image(), checked);
    let claimed = config.map_or(&[][..], |config| &config.config.diff_ids[..]);
    let outcome = |layer: &Descriptor| {
        let blob = plan.blobs.iter().find(|blob| blob.descriptor.digest == layer.digest);
        match blob {
            Some(blob) if blob.held == Held::Present => LayerOutcome::Present,
            Some(blob) if blob.is_embedded() => LayerOutcome::Embedded,
            _ => LayerOutcome::Planned,
        }
    };
    layers(manifest, |at, layer| {
        // A plan proves nothing, so nothing is said to be verified.
        let status = match status(layer) {
            DiffIdStatus::Verified => DiffIdStatus::Skipped,
            status => status,
        };
        (status, claimed.get(at).copied(), None, outcome(layer))
    })
}

/// The layers of a proven image.
pub(super) fn proven_layers(
    manifest: &ImageManifest,
    proven: &ProvenImage,
    done: &[Done],
    claimed: &[Digest],
) -> Vec<LayerReport> {
    let outcomes: BTreeMap<Digest, Outcome> = done.iter().map(|blob| (blob.digest, blob.outcome)).collect();
    layers(manifest, |at, layer| {
        let outcome = outcomes.get(&layer.digest).copied().map_or(LayerOutcome::Present, LayerOutcome::from);
        let Some(of_proof) = proven.layers().get(at) else {
            return (DiffIdStatus::Skipped, None, None, outcome);
        };
        let (diff_id, size) = match of_proof.blob().diff_id() {
            DiffId::Computed { digest, uncompressed_size } => (Some(digest), Some(uncompressed_size)),
            DiffId::NotComputed => (claimed.get(at).copied(), None),
        };
        (of_proof.diff_id_status(), diff_id, size, outcome)
    })
}

fn status_of(is_image: bool, checked: DiffIds) -> impl Fn(&Descriptor) -> DiffIdStatus {
    move |layer| match (is_image, checked) {
        (false, _) => DiffIdStatus::NotApplicable,
        (true, DiffIds::Skip) => DiffIdStatus::Skipped,
        (true, DiffIds::Verify) if layer.media_type.is_encrypted() => DiffIdStatus::Encrypted,
        (true, DiffIds::Verify) => DiffIdStatus::Verified,
    }
}

type Known = (DiffIdStatus, Option<Digest>, Option<u64>, LayerOutcome);

fn layers(manifest: &ImageManifest, known: impl Fn(usize, &Descriptor) -> Known) -> Vec<LayerReport> {
    let report = |(at, layer): (usize, &Descriptor)| {
        let (diff_id_status, diff_id, uncompressed_size, outcome) = known(at, layer);
        // Of an artifact's layer or an encrypted one no diff ID is known, whatever a config says.
        let is_known = matches!(diff_id_status, DiffIdStatus::Verified | DiffIdStatus::Skipped);
        LayerReport {
            media_type: layer.media_type.as_str().to_owned(),
            digest: layer.digest,
            size: layer.size,
            diff_id: diff_id.filter(|_| is_known),
            uncompressed_size,
            diff_id_status,
            outcome,
        }
    };
    manifest.layers().iter().enumerate().map(report).collect()
}
