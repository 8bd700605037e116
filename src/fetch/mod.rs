//! The story of a fetch, top to bottom: resolve, select, plan, transfer, verify, commit.
//!
//! Guarantees: `index.json` names an image only when every byte of it is proven; a reference that fails leaves the layout
//! readable and what was downloaded for the next run; one that cannot be resolved leaves no layout at all.

mod commit;
mod documents;
mod error;
pub mod plan;
mod report;
pub mod select;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::Digest;
use crate::layout::index::{Conflict, DIFF_IDS, INDEX_DIGEST, REF_NAME, REQUESTED_PLATFORM};
use crate::layout::{Layout, LayoutError, Target};
use crate::manifest::{Descriptor, ImageConfig, ImageManifest, Manifest};
use crate::progress::{Event, Reporter};
use crate::reference::Reference;
use crate::registry::{Registry, Resolved};
use crate::transfer::{self, Done, Present, Task};
use crate::verify::{self, ProvenBlob, ProvenImage};

pub use documents::{Documents, Origin};
pub use error::FetchError;
pub use report::{Fetched, ImageReport, LayerOutcome, LayerReport, Status, Summary};

use commit::Change;
use plan::{Held, Plan};
use select::{Selected, Wanted};

/// What is to be fetched, where to, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which image.
    pub reference: Reference,
    /// The layout's folder.
    pub layout: PathBuf,
    /// For which platform.
    pub platform: Wanted,
    /// What the layout's ref.name says.
    pub ref_name: RefName,
    /// What to do when another image has that ref.name.
    pub conflict: Conflict,
    /// Whether layers are held against the config's diff IDs.
    pub diff_ids: DiffIds,
    /// Whether blobs that are there are read again where nothing else asks for it.
    pub existing: Present,
    /// Whether anything is done at all.
    pub mode: Mode,
    /// How the blobs are transferred.
    pub transfer: transfer::Options,
}

impl Request {
    /// A request with the defaults: this host's platform, the tag as ref.name, everything proven.
    pub fn new(reference: Reference, layout: impl Into<PathBuf>) -> Self {
        Self {
            reference,
            layout: layout.into(),
            platform: Wanted::Host,
            ref_name: RefName::Tag,
            conflict: Conflict::Refuse,
            diff_ids: DiffIds::Verify,
            existing: Present::Trust,
            mode: Mode::Fetch,
            transfer: transfer::Options::default(),
        }
    }
}

/// What `org.opencontainers.image.ref.name` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefName {
    /// The tag; nothing for a reference by digest alone.
    Tag,
    /// The full canonical name.
    Full,
    /// Nothing.
    None,
    /// This text.
    Text(String),
}

/// What is checked of layers beyond their compressed digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffIds {
    /// Each layer is inflated and held against the config's diff ID.
    Verify,
    /// Nothing.
    Skip,
}

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The image is fetched.
    Fetch,
    /// It is said what would be done, and nothing is touched.
    DryRun,
}

/// Fetches one image into a layout.
///
/// # Errors
/// [`FetchError`] says what failed; its kind is the exit code of the command line.
pub async fn fetch(
    registry: &Registry,
    request: &Request,
    reporter: &Arc<dyn Reporter>,
) -> Result<Fetched, FetchError> {
    let held = look(request).await?;
    let documents = Documents::new(registry, held.as_ref(), &request.reference, reporter);
    let resolved = match resolve(&documents, request).await? {
        Resolution::UpToDate(fetched) => {
            tidy(held).await;
            return Ok(*fetched);
        }
        Resolution::Resolved(resolved) => *resolved,
    };
    let selected = select(&documents, resolved, request).await?;
    let entry = claim_name(held.as_ref(), &selected, request).await?;
    let plan = make_plan(held.as_ref(), &selected, request).await?;
    announce(&plan, &selected, request, reporter);
    if request.mode == Mode::DryRun {
        return Ok(report_plan(&plan, &selected, request));
    }
    let layout = create(request).await?;
    let done = transfer_blobs(registry, &layout, &plan, request, reporter).await?;
    let proven = prove(&selected, &done, request)?;
    let report = report_done(&done, &proven, &selected, request);
    let (name, digest) = (request.reference.to_string(), entry.digest);
    let change = commit::commit(&layout, &selected, proven, entry, request.conflict, reporter).await?;
    reporter.report(Event::Committed { reference: name, digest });
    let is_new = change == Change::Made || report.downloaded > 0;
    Ok(Fetched { status: if is_new { Status::Fetched } else { Status::UpToDate }, ..report })
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LayoutError> + Send + 'static,
) -> Result<T, FetchError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| FetchError::Worker)??)
}

async fn look(request: &Request) -> Result<Option<Layout>, FetchError> {
    let path = request.layout.clone();
    blocking(move || match Layout::look(&path)? {
        Target::Layout(layout) => Ok(Some(layout)),
        Target::Vacant => Ok(None),
    })
    .await
}

/// A fetch that was killed just after its image was named leaves an empty staging folder. Nothing depends on it, and the
/// layout may be read-only, so that an error is no matter.
async fn tidy(layout: Option<Layout>) {
    let Some(layout) = layout else { return };
    let tidied = tokio::task::spawn_blocking(move || layout.clean_up()).await;
    tracing::debug!(?tidied, "tidied an up-to-date layout");
}

async fn create(request: &Request) -> Result<Layout, FetchError> {
    let path = request.layout.clone();
    blocking(move || Layout::create(&path)).await
}

/// What a reference resolved to.
enum Resolution {
    UpToDate(Box<Fetched>),
    Resolved(Box<Resolved>),
}

/// Asks the registry what the reference stands for: nothing when its digest says it and all is there, one question when
/// only its tag does.
async fn resolve(documents: &Documents<'_>, request: &Request) -> Result<Resolution, FetchError> {
    let reference = &request.reference;
    if let Some(digest) = reference.digest() {
        let known = Summary { media_type: None, digest: *digest, size: None };
        if let Some(fetched) = up_to_date(documents, request, known).await? {
            return Ok(Resolution::UpToDate(Box::new(fetched)));
        }
        if let Some(resolved) = resolve_locally(documents, digest).await? {
            return Ok(Resolution::Resolved(Box::new(resolved)));
        }
    }
    let resolved = documents.registry.resolve(reference).await?;
    let digest = resolved.descriptor.digest;
    documents.reporter.report(Event::Resolved { reference: reference.to_string(), digest });
    match up_to_date(documents, request, Summary::from(&resolved.descriptor)).await? {
        Some(fetched) => Ok(Resolution::UpToDate(Box::new(fetched))),
        None => Ok(Resolution::Resolved(Box::new(resolved))),
    }
}

/// A digest whose manifest stands in the layout asks the registry nothing.
async fn resolve_locally(documents: &Documents<'_>, digest: &Digest) -> Result<Option<Resolved>, FetchError> {
    let Some(layout) = documents.layout.cloned() else { return Ok(None) };
    let digest = *digest;
    let found = blocking(move || {
        let entries = layout.index()?;
        let listed = entries.entries().iter().filter_map(|entry| entry.descriptor().ok());
        let Some(listed) = listed.into_iter().find(|descriptor| descriptor.digest == digest).cloned() else {
            return Ok(None);
        };
        match layout.manifest(&listed) {
            Ok(manifest) => Ok(Some(Resolved {
                descriptor: manifest.descriptor(digest.algorithm()),
                manifest: Some(manifest),
            })),
            // Whatever is wrong with it here, the registry may have it right.
            Err(LayoutError::Io { operation, path, source }) => {
                Err(LayoutError::Io { operation, path, source })
            }
            Err(_) => Ok(None),
        }
    });
    found.await
}

/// The report for an image that the layout names already just as this request would have it named, all of it there.
async fn up_to_date(
    documents: &Documents<'_>,
    request: &Request,
    resolved: Summary,
) -> Result<Option<Fetched>, FetchError> {
    let Some(layout) = documents.layout.cloned() else { return Ok(None) };
    if request.existing == Present::Prove {
        return Ok(None);
    }
    let request = request.clone();
    blocking(move || {
        let index = layout.index()?;
        for entry in index.entries() {
            let Ok(descriptor) = entry.descriptor() else { continue };
            if !is_wanted(descriptor, &request, &resolved.digest) {
                continue;
            }
            if let Some(image) = whole_image(&layout, descriptor, &request)? {
                let layers = image.layers.iter().map(|layer| layer.size);
                let reused = layers.chain(image.config.size).fold(0, u64::saturating_add);
                return Ok(Some(Fetched {
                    reference: request.reference.to_string(),
                    status: Status::UpToDate,
                    resolved,
                    descriptor: Summary::from(descriptor),
                    images: vec![image],
                    downloaded: 0,
                    reused,
                }));
            }
        }
        Ok(None)
    })
    .await
}

/// Whether an entry of `index.json` says of this digest what this request would write.
fn is_wanted(held: &Descriptor, request: &Request, resolved: &Digest) -> bool {
    let annotation = |key: &str| held.annotations.get(key).map(String::as_str);
    let full_name = request.reference.full_name();
    let same_name = annotation(crate::layout::index::FULL_NAME) == Some(full_name.as_str())
        && annotation(REF_NAME) == commit::ref_name(request).as_deref();
    let same_image = match annotation(INDEX_DIGEST) {
        Some(index) => {
            let requested = commit::requested_platform(&request.platform, held.platform.as_ref());
            index == resolved.to_string() && annotation(REQUESTED_PLATFORM) == requested.as_deref()
        }
        None => held.digest == *resolved && fits(held, &request.platform),
    };
    let proven = annotation(DIFF_IDS).is_none() || request.diff_ids == DiffIds::Skip;
    same_name && same_image && proven
}

/// Whether the single image that a reference stands for would be taken for this platform without a word.
fn fits(held: &Descriptor, wanted: &Wanted) -> bool {
    let matcher = crate::platform::Matcher::new(&wanted.platform());
    held.platform.as_ref().is_none_or(|platform| matcher.matches(platform))
}

/// The report for an image all of whose blobs are there; `None` when one is missing, has another size, or cannot be
/// read, so that the fetch goes the long way and mends it.
fn whole_image(
    layout: &Layout,
    descriptor: &Descriptor,
    request: &Request,
) -> Result<Option<ImageReport>, LayoutError> {
    let Ok(Manifest::Image(manifest)) = layout.manifest(descriptor) else { return Ok(None) };
    for blob in manifest.layers().iter().chain([manifest.config()]) {
        if !layout.contains(&blob.digest, blob.size)? {
            return Ok(None);
        }
    }
    let mut diff_ids = Vec::new();
    if manifest.is_image() {
        let config = layout.read_blob(&manifest.config().digest, documents::CONFIG_CAP);
        let Ok(Ok(config)) = config.map(|raw| ImageConfig::parse(&raw)) else { return Ok(None) };
        diff_ids = config.diff_ids;
    }
    let layers = report::committed_layers(&manifest, &diff_ids, request.diff_ids);
    Ok(Some(image_report(&manifest, descriptor, descriptor.platform.clone(), layers)))
}

/// The manifest for the wanted platform.
async fn select(
    documents: &Documents<'_>,
    resolved: Resolved,
    request: &Request,
) -> Result<Selected, FetchError> {
    let manifest = match resolved.manifest {
        Some(manifest) => manifest,
        None => documents.resolved(&resolved.descriptor).await?,
    };
    // The size that a HEAD announced is hearsay; the bytes are here now.
    let descriptor = manifest.descriptor(resolved.descriptor.digest.algorithm());
    let selected = select::select(documents, &descriptor, manifest, &request.platform).await?;
    for message in &selected.warnings {
        documents.reporter.report(Event::Warning { message: message.clone() });
    }
    Ok(selected)
}

/// The image's entry for `index.json`, after a look whether its name is free: before anything is downloaded.
async fn claim_name(
    layout: Option<&Layout>,
    selected: &Selected,
    request: &Request,
) -> Result<Descriptor, FetchError> {
    let index = selected.index.as_ref().map(|_| &selected.resolved.digest);
    let artifact_type = artifact_type(&selected.manifest);
    let entry = commit::entry(
        request,
        &selected.descriptor,
        selected.platform.as_ref(),
        artifact_type.as_deref(),
        index,
    );
    let Some(layout) = layout.filter(|_| request.conflict == Conflict::Refuse).cloned() else {
        return Ok(entry);
    };
    blocking(move || match layout.index()?.holder(&entry) {
        Some(holder) => Err(layout.name_taken(&entry, holder)),
        None => Ok(entry),
    })
    .await
}

/// The artifact type that a descriptor of this manifest has: its own, or for an artifact that names none its config's
/// media type (OCI distribution spec, "Listing Referrers").
fn artifact_type(manifest: &ImageManifest) -> Option<String> {
    let config = || (!manifest.is_image()).then(|| manifest.config().media_type.as_str().to_owned());
    manifest.artifact_type().map(str::to_owned).or_else(config).filter(|text| !text.is_empty())
}

async fn make_plan(
    layout: Option<&Layout>,
    selected: &Selected,
    request: &Request,
) -> Result<Plan, FetchError> {
    let layers = selected.manifest.layers().iter().chain([selected.manifest.config()]);
    let wanted: BTreeMap<Digest, u64> = layers.map(|layer| (layer.digest, layer.size)).collect();
    let layout = layout.cloned();
    let held = blocking(move || {
        let Some(layout) = layout else { return Ok(BTreeMap::new()) };
        let look = |(digest, size): (Digest, u64)| {
            let is_there = layout.contains(&digest, size)?;
            let held =
                if is_there { Held::Present } else { Held::Staged(layout.staged_bytes(&digest, size)) };
            Ok(((digest, size), held))
        };
        wanted.into_iter().map(look).collect()
    })
    .await?;
    plan::plan(selected, request.diff_ids, |descriptor| {
        Ok(held.get(&(descriptor.digest, descriptor.size)).copied().unwrap_or(Held::Staged(0)))
    })
}

fn announce(plan: &Plan, selected: &Selected, request: &Request, reporter: &Arc<dyn Reporter>) {
    let reference = request.reference.to_string();
    tracing::info!(%reference, manifest = %selected.descriptor.digest, bytes = plan.missing(), "planned");
    reporter.report(Event::Planned {
        reference,
        blobs: plan.downloads(),
        bytes: plan.missing(),
        reused: plan.reused(),
    });
}

async fn transfer_blobs(
    registry: &Registry,
    layout: &Layout,
    plan: &Plan,
    request: &Request,
    reporter: &Arc<dyn Reporter>,
) -> Result<Vec<Done>, FetchError> {
    let task = |blob: &plan::PlannedBlob| Task {
        descriptor: blob.descriptor.clone(),
        content: blob.content,
        source: registry.blob_source(request.reference.repository(), &blob.descriptor),
        // A diff ID can only be had by reading the layer, whoever put it there.
        present: match blob.content {
            verify::Content::Opaque => request.existing,
            verify::Content::Layer { .. } => Present::Prove,
        },
    };
    let tasks = plan.blobs.iter().map(task).collect();
    match transfer::transfer(registry, layout, tasks, &request.transfer, reporter).await {
        Err(source) if source.is_full_disk() => Err(FetchError::FullDisk {
            missing: still_missing(layout, plan).await?,
            source: Box::new(source),
        }),
        done => Ok(done?),
    }
}

/// The bytes that are neither staged nor committed: what a full disk lacks.
async fn still_missing(layout: &Layout, plan: &Plan) -> Result<u64, FetchError> {
    let wanted: Vec<(Digest, u64)> =
        plan.blobs.iter().map(|blob| (blob.descriptor.digest, blob.descriptor.size)).collect();
    let layout = layout.clone();
    let missing = move |(digest, size): (Digest, u64)| {
        let is_there = layout.contains(&digest, size)?;
        Ok(if is_there { 0 } else { size - layout.staged_bytes(&digest, size) })
    };
    blocking(move || wanted.into_iter().map(missing).sum()).await
}

/// Puts the proofs together: every blob of the image, the documents too.
fn prove(selected: &Selected, done: &[Done], request: &Request) -> Result<ProvenImage, FetchError> {
    let document = |bytes: &[u8], digest: Digest| {
        verify::verify_bytes(bytes, digest).map_err(|error| FetchError::BadDocument { digest, source: error })
    };
    let manifest = document(selected.manifest.raw(), selected.descriptor.digest)?;
    let mut proofs: BTreeMap<Digest, ProvenBlob> = BTreeMap::new();
    for blob in done {
        let proof = blob.proof.unwrap_or_else(|| ProvenBlob::committed(blob.digest, blob.size));
        proofs.insert(blob.digest, proof);
    }
    if let Some(config) = &selected.config {
        let digest = selected.manifest.config().digest;
        proofs.entry(digest).or_insert(document(&config.raw, digest)?);
    }
    plan::assemble(selected, request.diff_ids, &manifest, &proofs)
}

fn report_plan(plan: &Plan, selected: &Selected, request: &Request) -> Fetched {
    let layers = report::planned_layers(&selected.manifest, plan, selected.config.as_ref(), request.diff_ids);
    Fetched {
        status: Status::Planned,
        downloaded: 0,
        reused: plan.reused(),
        ..fetched(selected, request, layers)
    }
}

fn report_done(done: &[Done], proven: &ProvenImage, selected: &Selected, request: &Request) -> Fetched {
    let claimed = selected.config.as_ref().map_or(&[][..], |config| &config.config.diff_ids[..]);
    let layers = report::proven_layers(&selected.manifest, proven, done, claimed);
    let mut reused: u64 = done.iter().map(|blob| blob.reused).sum();
    let embedded = |blob: &&Done| blob.outcome != transfer::Outcome::Embedded;
    let mut downloaded: u64 = done.iter().filter(embedded).map(|blob| blob.size - blob.reused).sum();
    let config = selected.manifest.config().size;
    match selected.config.as_ref().map(|config| config.origin) {
        Some(Origin::Registry) => downloaded += config,
        Some(Origin::Layout) => reused += config,
        Some(Origin::Embedded) | None => {}
    }
    Fetched { downloaded, reused, ..fetched(selected, request, layers) }
}

fn fetched(selected: &Selected, request: &Request, layers: Vec<LayerReport>) -> Fetched {
    let image = image_report(&selected.manifest, &selected.descriptor, selected.platform.clone(), layers);
    Fetched {
        reference: request.reference.to_string(),
        status: Status::Fetched,
        resolved: Summary::from(&selected.resolved),
        descriptor: Summary::from(&selected.descriptor),
        images: vec![image],
        downloaded: 0,
        reused: 0,
    }
}

fn image_report(
    manifest: &ImageManifest,
    descriptor: &Descriptor,
    platform: Option<crate::platform::Platform>,
    layers: Vec<LayerReport>,
) -> ImageReport {
    ImageReport {
        platform,
        manifest: Summary::from(descriptor),
        config: Summary::from(manifest.config()),
        layers,
    }
}
