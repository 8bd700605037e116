//! What a fetch did, in the shape that `--json` prints.

use serde::{Serialize, Serializer};

use std::collections::BTreeMap;

use super::documents::Origin;
use super::plan::{Held, Plan, Scope};
use super::request::{DiffIds, Request};
use super::select::{Named, Selected, Selection};
use crate::digest::Digest;
use crate::manifest::{Descriptor, ImageManifest};
use crate::platform::Platform;
use crate::transfer::{Done, Outcome};
use crate::verify::{DiffId, DiffIdStatus, ProvenBlob, ProvenImage};

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
    /// What `index.json` names; not known yet of a schema 1 image that is only planned.
    pub descriptor: Option<Summary>,
    /// The images taken.
    pub images: Vec<ImageReport>,
    /// What belongs to them and was taken along.
    pub referrers: Vec<Attachment>,
    /// How many signatures of simple signing were taken along.
    pub signatures: usize,
    /// Blob bytes that came over the network.
    #[serde(skip)]
    pub downloaded: u64,
    /// Blob bytes that were there, in the layout or staged by an earlier run.
    #[serde(skip)]
    pub reused: u64,
    /// What else the user may want to know: sentences.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// A manifest that belongs to an image: a referrer, or what stands under one of cosign's tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The media type.
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// The manifest that it belongs to.
    pub subject: Digest,
}

impl Attachment {
    pub(super) fn new(descriptor: &Descriptor, subject: Digest) -> Self {
        Self {
            media_type: descriptor.media_type.as_str().to_owned(),
            digest: descriptor.digest,
            size: descriptor.size,
            artifact_type: descriptor.artifact_type.clone(),
            subject,
        }
    }
}

/// One image.
#[derive(Debug, Clone, Serialize)]
pub struct ImageReport {
    /// Its platform; an artifact has none.
    #[serde(serialize_with = "text")]
    pub platform: Option<Platform>,
    /// Its manifest; not known yet of a schema 1 image that is only planned.
    pub manifest: Option<Summary>,
    /// Its config, known when the manifest is.
    pub config: Option<Summary>,
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
    /// It lives elsewhere, and was left there.
    LeftOut,
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

/// The report for what the layout names and has already.
pub(super) fn up_to_date(
    selection: &Selection,
    entry: &Descriptor,
    resolved: Summary,
    request: &Request,
    scope: &Scope,
) -> Fetched {
    let layers = |image: &Selected| {
        let claimed = claimed(image);
        let status = status_of(image.manifest.is_image(), scope);
        let outcome = outcome_of(scope, |_| LayerOutcome::Present);
        layers(&image.manifest, |at, layer| (status(layer), claimed.get(at).copied(), None, outcome(layer)))
    };
    let images: Vec<ImageReport> =
        selection.images.iter().map(|image| image_report(image, layers(image))).collect();
    let configs = selection.images.iter().map(|image| image.manifest.config().size);
    let present = images.iter().flat_map(|image| &image.layers);
    let present = present.filter(|layer| layer.outcome == LayerOutcome::Present).map(|layer| layer.size);
    Fetched {
        status: Status::UpToDate,
        resolved,
        reused: present.chain(configs).fold(0, u64::saturating_add),
        descriptor: Some(Summary::from(entry)),
        ..fetched(selection, request, images)
    }
}

/// The report for what is only planned: nothing of it is proven.
pub(super) fn planned(selection: &Selection, plan: &Plan, request: &Request, scope: &Scope) -> Fetched {
    let outcome = |layer: &Descriptor| {
        let blob = plan.blobs.iter().find(|blob| blob.descriptor.digest == layer.digest);
        match blob {
            Some(blob) if blob.held == Held::Present => LayerOutcome::Present,
            Some(blob) if blob.is_embedded() => LayerOutcome::Embedded,
            _ => LayerOutcome::Planned,
        }
    };
    let outcome = outcome_of(scope, outcome);
    let layers = |image: &Selected| {
        let claimed = claimed(image);
        let status = status_of(image.manifest.is_image(), scope);
        layers(&image.manifest, |at, layer| {
            // A plan proves nothing, so nothing is said to be verified.
            let status = match status(layer) {
                DiffIdStatus::Verified => DiffIdStatus::Skipped,
                status => status,
            };
            (status, claimed.get(at).copied(), None, outcome(layer))
        })
    };
    let images = selection.images.iter().map(|image| image_report(image, layers(image))).collect();
    Fetched { status: Status::Planned, reused: plan.reused(), ..fetched(selection, request, images) }
}

/// The report for what is proven.
pub(super) fn done(
    selection: &Selection,
    proven: &[ProvenImage],
    done: &[Done],
    request: &Request,
    scope: &Scope,
) -> Fetched {
    let outcomes: BTreeMap<Digest, Outcome> = done.iter().map(|blob| (blob.digest, blob.outcome)).collect();
    let outcome = |layer: &Descriptor| {
        outcomes.get(&layer.digest).copied().map_or(LayerOutcome::Present, LayerOutcome::from)
    };
    let outcome = outcome_of(scope, outcome);
    let layers = |image: &Selected, proven: &ProvenImage| {
        let claimed = claimed(image);
        layers(&image.manifest, |at, layer| {
            let Some(of_proof) = proven.layers().get(at) else {
                return (DiffIdStatus::Skipped, None, None, outcome(layer));
            };
            let (diff_id, size) = match of_proof.blob().map(ProvenBlob::diff_id) {
                Some(DiffId::Computed { digest, uncompressed_size }) => {
                    (Some(digest), Some(uncompressed_size))
                }
                Some(DiffId::NotComputed) | None => (claimed.get(at).copied(), None),
            };
            (of_proof.diff_id_status(), diff_id, size, outcome(layer))
        })
    };
    let pairs = selection.images.iter().zip(proven);
    let images = pairs.map(|(image, proven)| image_report(image, layers(image, proven))).collect();
    fetched(selection, request, images)
}

/// How many bytes of blobs came over the network, and how many were there.
pub(super) fn bytes<'a>(images: impl IntoIterator<Item = &'a Selected>, done: &[Done]) -> (u64, u64) {
    let mut reused: u64 = done.iter().map(|blob| blob.reused).sum();
    let is_downloaded = |blob: &&Done| blob.outcome != Outcome::Embedded;
    let mut downloaded: u64 = done.iter().filter(is_downloaded).map(|blob| blob.size - blob.reused).sum();
    for image in images {
        let size = image.manifest.config().size;
        match image.config.as_ref().map(|config| config.origin) {
            Some(Origin::Registry) => downloaded += size,
            Some(Origin::Layout) => reused += size,
            Some(Origin::Embedded | Origin::Made) | None => {}
        }
    }
    (downloaded, reused)
}

fn fetched(selection: &Selection, request: &Request, images: Vec<ImageReport>) -> Fetched {
    let descriptor = match &selection.named {
        Named::Index(taken) => Some(&taken.root.descriptor),
        Named::Image { .. } => {
            selection.images.first().filter(|image| is_final(image)).map(|image| &image.descriptor)
        }
    };
    Fetched {
        reference: request.reference.to_string(),
        status: Status::Fetched,
        resolved: Summary::from(&selection.resolved),
        descriptor: descriptor.map(Summary::from),
        images,
        referrers: Vec::new(),
        signatures: 0,
        downloaded: 0,
        reused: 0,
        notes: Vec::new(),
    }
}

fn image_report(image: &Selected, layers: Vec<LayerReport>) -> ImageReport {
    let known = |descriptor: &Descriptor| is_final(image).then(|| Summary::from(descriptor));
    ImageReport {
        platform: image.platform.clone(),
        manifest: known(&image.descriptor),
        config: known(image.manifest.config()),
        layers,
    }
}

/// Whether the manifest is the one that will be named: that of a schema 1 image is a draft until its layers are read.
fn is_final(image: &Selected) -> bool {
    image.legacy.is_none() || image.config.is_some()
}

fn claimed(image: &Selected) -> &[Digest] {
    image.config.as_ref().map_or(&[], |config| &config.config.diff_ids)
}

/// How layers came to be there, but for those that are left where they live.
fn outcome_of(
    scope: &Scope,
    outcome: impl Fn(&Descriptor) -> LayerOutcome,
) -> impl Fn(&Descriptor) -> LayerOutcome {
    move |layer| if scope.leaves_out(layer) { LayerOutcome::LeftOut } else { outcome(layer) }
}

fn status_of(is_image: bool, scope: &Scope) -> impl Fn(&Descriptor) -> DiffIdStatus {
    move |layer| match (is_image, scope.diff_ids) {
        (false, _) => DiffIdStatus::NotApplicable,
        (true, DiffIds::Skip) => DiffIdStatus::Skipped,
        (true, DiffIds::Verify) if scope.leaves_out(layer) => DiffIdStatus::Skipped,
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
