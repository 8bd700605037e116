//! The story of a fetch, top to bottom: resolve, select, plan, transfer, verify, commit.
//!
//! Guarantees: `index.json` names an image only when every byte of it is proven; a reference that fails leaves the layout
//! readable and what was downloaded for the next run; one that cannot be resolved leaves no layout at all.

mod attached;
pub mod belonging;
mod commit;
mod convert;
mod documents;
mod encodings;
mod error;
mod group;
mod lists;
pub mod plan;
pub(crate) mod remake;
mod report;
mod request;
mod resolve;
mod schema1;
pub mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::digest::Digest;
use crate::layout::index::Conflict;
use crate::layout::{Layout, LayoutError};
use crate::manifest::Descriptor;
use crate::progress::{Event, Reporter};
use crate::registry::{Registry, Resolved};
use crate::transfer::{self, Done, Present, Task};
use crate::verify::{self, Proven, ProvenBlob, ProvenImage};

pub use belonging::Referrers;
pub use documents::{Documents, Origin};
pub use error::{FetchError, Limit, Question};
pub use group::{Group, Settled};
pub use report::{Attachment, Fetched, ImageReport, LayerOutcome, LayerReport, Status, Summary};
pub use request::{DiffIds, ForeignLayers, Format, Mode, RefName, Request, Schema1};

pub(crate) use commit::tell_leftovers;

use attached::Attached;
use commit::{Change, Commit};
use lists::ToName;
use plan::{Held, Plan, Scope};
use resolve::{Resolution, Standing};
use select::{Named, Selected, Selection};

/// Fetches what a reference stands for into a layout. For many into one there is [`Group`].
///
/// # Errors
/// [`FetchError`] says what failed; its kind is the exit code of the command line.
pub async fn fetch(
    registry: &Registry,
    request: &Request,
    reporter: &Arc<dyn Reporter>,
) -> Result<Fetched, FetchError> {
    // Its state is some 17 KiB, which is better not carried along on the stack.
    match Box::pin(prepare(registry, request, reporter, None)).await? {
        (Prepared::Done(fetched), _) => Ok(*fetched),
        (Prepared::Unnamed(unnamed), _) => unnamed.name(reporter).await,
    }
}

/// The fetch but for its last step: everything stands in the layout, and `index.json` does not name it yet. Gives what it
/// saw in the layout too, for the next one; `known` is what the one before saw.
async fn prepare(
    registry: &Registry,
    request: &Request,
    reporter: &Arc<dyn Reporter>,
    known: Option<Standing>,
) -> Result<(Prepared, Option<Standing>), FetchError> {
    let standing = resolve::look(request, known).await?;
    let held = standing.as_ref().map(|standing| &standing.layout);
    let documents = Documents::new(registry, held, &request.reference, reporter);
    let (selection, named) = match resolve::resolve(registry, &documents, request, standing.as_ref()).await? {
        Resolution::UpToDate(_, fetched) if request.referrers == Referrers::None => {
            resolve::tidy(held.cloned(), request, reporter).await;
            return Ok((Prepared::Done(fetched), standing));
        }
        Resolution::UpToDate(selection, fetched) => (*selection, Some(*fetched)),
        Resolution::Resolved(resolved) => (select(&documents, *resolved, request).await?, None),
    };
    if named.is_none() {
        check_name(standing.as_ref(), &selection, request)?;
    }
    let attached = attached::collect(registry, &documents, &selection.subjects(), request).await?;
    let mut taking = Taking::new(held, selection, named, attached, request).await?;
    let plan = make_plan(held, &taking).await?;
    announce(&plan, &taking, request, reporter);
    if request.mode == Mode::DryRun {
        return Ok((Prepared::Done(Box::new(taking.planned(&plan, request))), standing));
    }
    let layout = create(held, request, reporter).await.map_err(|error| error.lacking(plan.missing()))?;
    let done = transfer_blobs(registry, &layout, &plan, request, reporter).await?;
    schema1::finish(&mut taking.selection, &done)?;
    tell_contradictions(&taking, &done, reporter);
    let (commit, report) = prove(&taking, &done, request)?;
    let size = commit.size();
    let (change, to_name) = commit.write(&layout, reporter).await.map_err(|error| error.lacking(size))?;
    let (downloaded, reused) = report::bytes(taking.images(), &done);
    let reused = report.reused + reused;
    let is_new = change == Change::Made || downloaded > 0;
    let fetched = taking.attached.tell(Fetched { downloaded, reused, ..report }, &taking.selection);
    Ok((Prepared::Unnamed(Box::new(Unnamed { layout, to_name, size, is_new, fetched })), standing))
}

/// A fetch but for its last step.
enum Prepared {
    /// Nothing is left to do: it was there, or nothing was to be done.
    Done(Box<Fetched>),
    /// All is there and has no name yet.
    Unnamed(Box<Unnamed>),
}

/// What stands in a layout that does not name it yet.
struct Unnamed {
    layout: Layout,
    to_name: ToName,
    /// The bytes of the documents, which there must have been room for.
    size: u64,
    /// Whether anything was downloaded or written.
    is_new: bool,
    /// The report, but for whether it is new.
    fetched: Fetched,
}

impl Unnamed {
    async fn name(self, reporter: &Arc<dyn Reporter>) -> Result<Fetched, FetchError> {
        let told = Arc::clone(reporter);
        let naming = tokio::task::spawn_blocking(move || {
            let change = commit::name_all(&self.layout, &[&self.to_name], &told).pop();
            self.named(change.unwrap_or(Err(FetchError::Worker)), &told)
        });
        naming.await.unwrap_or(Err(FetchError::Worker))
    }

    /// The report, when it is known what came of naming it.
    fn named(
        self,
        change: Result<Change, FetchError>,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Fetched, FetchError> {
        let is_new = change.map_err(|error| error.lacking(self.size))? == Change::Made || self.is_new;
        let status = if is_new { Status::Fetched } else { Status::UpToDate };
        if let Some(Summary { digest, .. }) = self.fetched.descriptor {
            reporter.report(Event::Committed { reference: self.fetched.reference.clone(), digest });
        }
        Ok(Fetched { status, ..self.fetched })
    }
}

/// All that a fetch takes.
struct Taking {
    selection: Selection,
    /// The report for the selection, where the layout names it already and has all of it.
    named: Option<Fetched>,
    attached: Attached,
    /// What of it all is left out, or not proven.
    scope: Scope,
}

impl Taking {
    async fn new(
        layout: Option<&Layout>,
        selection: Selection,
        named: Option<Fetched>,
        attached: Attached,
        request: &Request,
    ) -> Result<Self, FetchError> {
        let images = || selection.images.iter().chain(&attached.images);
        let scope = scope(layout, images, request).await?;
        Ok(Self { selection, named, attached, scope })
    }

    /// What is to be proven and written: the images, unless they are there and named, and what belongs to them.
    fn images(&self) -> impl Iterator<Item = &Selected> {
        let images = if self.named.is_some() { &[] } else { &self.selection.images[..] };
        images.iter().chain(&self.attached.images)
    }

    fn planned(&self, plan: &Plan, request: &Request) -> Fetched {
        let report = match &self.named {
            Some(named) if plan.missing() == 0 => named.clone(),
            Some(named) => Fetched { status: Status::Planned, ..named.clone() },
            None => report::planned(&self.selection, plan, request, &self.scope),
        };
        self.attached.tell(report, &self.selection)
    }
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LayoutError> + Send + 'static,
) -> Result<T, FetchError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| FetchError::Worker)??)
}

async fn create(
    held: Option<&Layout>,
    request: &Request,
    reporter: &Arc<dyn Reporter>,
) -> Result<Layout, FetchError> {
    let (held, path, reporter) = (held.cloned(), request.layout.clone(), Arc::clone(reporter));
    let waiting =
        move |holder: &str| reporter.report(Event::Waiting { digest: None, holder: holder.to_owned() });
    blocking(move || match held {
        Some(layout) if layout.is_ready()? => Ok(layout),
        _ => Layout::create(&path, &mut { waiting }),
    })
    .await
}

/// The images for the wanted platforms, in the wanted format.
async fn select(
    documents: &Documents<'_>,
    resolved: Resolved,
    request: &Request,
) -> Result<Selection, FetchError> {
    let manifest = match resolved.manifest {
        Some(manifest) => manifest,
        None => documents.resolved(&resolved.descriptor).await?,
    };
    // The size that a HEAD announced is hearsay; the bytes are here now.
    let descriptor = manifest.descriptor(resolved.descriptor.digest.algorithm());
    let mut selection = select::select(documents, &descriptor, manifest, request).await?;
    if request.format == Format::Oci {
        convert::to_oci(documents, &mut selection).await?;
    }
    for message in &selection.warnings {
        documents.reporter.report(Event::Warning { message: message.clone() });
    }
    Ok(selection)
}

/// What of the images is left where it lives: that depends on what the layout has.
async fn scope<'a, I: Iterator<Item = &'a Selected>>(
    layout: Option<&Layout>,
    images: impl Fn() -> I,
    request: &Request,
) -> Result<Scope, FetchError> {
    let elsewhere = images().flat_map(|image| image.manifest.layers()).filter(|layer| layer.is_elsewhere());
    let elsewhere: BTreeSet<(Digest, u64)> = elsewhere.map(|layer| (layer.digest, layer.size)).collect();
    let layout = layout.filter(|_| request.foreign_layers == ForeignLayers::Skip).cloned();
    let there = blocking(move || {
        let Some(layout) = layout else { return Ok(BTreeSet::new()) };
        let mut there = BTreeSet::new();
        for (digest, size) in elsewhere {
            if layout.contains(&digest, size)? {
                there.insert(digest);
            }
        }
        Ok(there)
    })
    .await?;
    let is_there = |layer: &Descriptor| there.contains(&layer.digest);
    Ok(Scope::of(images(), request.diff_ids, request.foreign_layers, is_there))
}

/// A look whether the name is free: before anything is downloaded.
fn check_name(
    standing: Option<&Standing>,
    selection: &Selection,
    request: &Request,
) -> Result<(), FetchError> {
    let Some(standing) = standing.filter(|_| request.conflict == Conflict::Refuse) else { return Ok(()) };
    // Who is asked for what does not matter to the name.
    let scope = Scope { diff_ids: request.diff_ids, left_out: BTreeSet::new() };
    let entry = commit::entry(selection, request, &scope);
    match standing.index.holder(&entry) {
        Some(holder) => Err(standing.layout.name_taken(&entry, holder).into()),
        None => Ok(()),
    }
}

async fn make_plan(layout: Option<&Layout>, taking: &Taking) -> Result<Plan, FetchError> {
    let manifests = taking.images().map(|image| &image.manifest);
    let blobs = manifests.flat_map(|manifest| manifest.layers().iter().chain([manifest.config()]));
    let wanted: BTreeMap<Digest, u64> = blobs.map(|blob| (blob.digest, blob.size)).collect();
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
    plan::plan(taking.images(), &taking.scope, |descriptor| {
        Ok(held.get(&(descriptor.digest, descriptor.size)).copied().unwrap_or(Held::Staged(0)))
    })
}

fn announce(plan: &Plan, taking: &Taking, request: &Request, reporter: &Arc<dyn Reporter>) {
    let reference = request.reference.to_string();
    let (resolved, images) = (&taking.selection.resolved.digest, taking.images().count());
    tracing::info!(%reference, %resolved, images, bytes = plan.missing(), "planned");
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
            verify::Content::Layer { .. } | verify::Content::LayerInEvery => Present::Prove,
        },
    };
    let tasks = plan.blobs.iter().map(task).collect();
    match transfer::transfer(registry, layout, tasks, &request.transfer, reporter).await {
        Err(source) if source.is_full_disk() => Err(FetchError::FullDisk {
            // A disk that cannot be looked at either is no reason to hide the first failure.
            missing: still_missing(layout, plan).await.unwrap_or(plan.missing()),
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

/// Puts the proofs together, and with them what is to be written and named; then the report can be made.
fn prove(taking: &Taking, done: &[Done], request: &Request) -> Result<(Commit, Fetched), FetchError> {
    let mut proofs: BTreeMap<Digest, ProvenBlob> = BTreeMap::new();
    for blob in done {
        let proof = blob.proof.unwrap_or_else(|| ProvenBlob::committed(blob.digest, blob.size));
        proofs.insert(blob.digest, proof);
    }
    let mut commit = Commit::default();
    taking.attached.add_to(&mut commit, &proofs, request, &taking.scope)?;
    let selection = &taking.selection;
    if let Some(named) = &taking.named {
        return Ok((commit, named.clone()));
    }
    let scope = &taking.scope;
    let mut images: Vec<ProvenImage> = Vec::new();
    for image in &selection.images {
        images.push(plan::prove(image, scope, &mut proofs)?);
        commit.add_image(image);
    }
    let report = report::done(selection, &images, done, request, scope);
    let proven = match &selection.named {
        Named::Image { .. } => Proven::Image(images.pop().expect("invariant: a selection has an image")),
        Named::Index(taken) => {
            for part in taken.nested.iter().chain([&taken.root]) {
                let digest = part.descriptor.digest;
                proofs.insert(digest, document(part.index.raw(), digest)?);
            }
            commit.add_index(taken);
            Proven::Index(plan::assemble_index(taken, &proofs, images)?)
        }
    };
    commit.to_name.named.push((commit::entry(selection, request, scope), proven));
    Ok((commit, Fetched { notes: convert::notes(selection, request), ..report }))
}

/// Says which layers are not what their media types say: not a failure, as the diff ID decides.
fn tell_contradictions(taking: &Taking, done: &[Done], reporter: &Arc<dyn Reporter>) {
    let proofs: BTreeMap<Digest, ProvenBlob> =
        done.iter().filter_map(|blob| Some((blob.digest, blob.proof?))).collect();
    for image in taking.images() {
        let messages = encodings::contradictions(&image.manifest, |digest| proofs.get(digest).copied());
        for message in messages {
            reporter.report(Event::Warning { message });
        }
    }
}

fn document(bytes: &[u8], digest: Digest) -> Result<ProvenBlob, FetchError> {
    verify::verify_bytes(bytes, digest).map_err(|source| FetchError::BadDocument { digest, source })
}
