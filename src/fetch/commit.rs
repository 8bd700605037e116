//! The last step: configs, manifests and indexes into the layout, then the names, those of several fetches at once where
//! there are several.

use std::sync::Arc;

use bytes::Bytes;

use super::blocking;
use super::error::FetchError;
use super::lists::{self, ToName};
use super::plan::Scope;
use super::request::{DiffIds, RefName, Request};
use super::select::{Named, Platforms, Selected, Selection, TakenIndex, Wanted};
use crate::digest::Digest;
use crate::layout::index::{
    DIFF_IDS, FOREIGN_LAYERS, FULL_NAME, INDEX_DIGEST, NewEntry, PLATFORMS, PROVEN, REF_NAME,
    REQUESTED_PLATFORM, SOURCE_DIGEST, SOURCE_TYPE,
};
use crate::layout::{Layout, LayoutError, Leftovers};
use crate::manifest::{Descriptor, ImageManifest};
use crate::platform::Platform;
use crate::progress::{Event, Reporter};
use crate::reference::Repository;

/// The ref.name that a request asks for, if any.
pub(super) fn ref_name(request: &Request) -> Option<String> {
    let reference = &request.reference;
    match &request.ref_name {
        RefName::Tag => reference.tag().map(|tag| tag.as_str().to_owned()),
        RefName::Full => Some(reference.full_name()),
        RefName::None => None,
        RefName::Text(text) => Some(text.clone()),
    }
}

/// What `index.json` is to say of a selection.
pub(super) fn entry(selection: &Selection, request: &Request, scope: &Scope) -> NewEntry {
    let mut new = match &selection.named {
        Named::Index(taken) => index_entry(taken, &selection.images),
        Named::Image { index } => image_entry(selection, *index, &request.platforms),
    };
    let mut annotate = |key: &str, value: String| new.annotations.insert(key.to_owned(), value);
    annotate(FULL_NAME, request.reference.full_name());
    if let Some(name) = ref_name(request) {
        annotate(REF_NAME, name);
    }
    annotate_scope(&mut new, &selection.images, scope);
    let covers = match selection.named {
        Named::Index(_) => platforms(&selection.images),
        Named::Image { .. } => Vec::new(),
    };
    NewEntry { covers, ..NewEntry::new(new, request.conflict) }
}

/// Says that the images were proven, and what of them was not, or not taken.
pub(super) fn annotate_scope<'a>(
    entry: &mut Descriptor,
    images: impl IntoIterator<Item = &'a Selected>,
    scope: &Scope,
) {
    let (mut skipped, mut left_out) = (false, false);
    for image in images {
        let has_diff_ids = image.manifest.is_image() && image.legacy.is_none();
        skipped |= scope.diff_ids == DiffIds::Skip && has_diff_ids;
        left_out |= image.manifest.layers().iter().any(|layer| scope.leaves_out(layer));
    }
    let mut annotate = |key: &str, value: &str| entry.annotations.insert(key.to_owned(), value.to_owned());
    annotate(PROVEN, if skipped { "digests" } else { "digests,diff-ids" });
    for (key, _) in [(DIFF_IDS, skipped), (FOREIGN_LAYERS, left_out)].into_iter().filter(|(_, is_so)| *is_so)
    {
        annotate(key, "skipped");
    }
}

fn image_entry(selection: &Selection, index: Option<Digest>, wanted: &Platforms) -> Descriptor {
    let image = selection.images.first().expect("invariant: a selection has an image");
    let mut entry = plain(&image.descriptor);
    entry.platform.clone_from(&image.platform);
    entry.artifact_type = artifact_type(&image.manifest);
    let mut annotate = |key: &str, value: String| entry.annotations.insert(key.to_owned(), value);
    if let Some(index) = index {
        annotate(INDEX_DIGEST, index.to_string());
        if let Platforms::One(wanted) = wanted
            && let Some(requested) = requested_platform(wanted, image.platform.as_ref())
        {
            annotate(REQUESTED_PLATFORM, requested);
        }
    }
    if let Some(source) = &image.source {
        annotate(SOURCE_DIGEST, source.to_string());
    }
    if let Some(source_type) = &image.source_type {
        annotate(SOURCE_TYPE, source_type.as_str().to_owned());
    }
    entry
}

fn index_entry(taken: &TakenIndex, images: &[Selected]) -> Descriptor {
    let mut entry = plain(&taken.root.descriptor);
    entry.artifact_type = taken.root.index.artifact_type().filter(|text| !text.is_empty()).map(str::to_owned);
    if !taken.is_whole {
        let platforms: Vec<String> = platforms(images).iter().map(Platform::specifier).collect();
        entry.annotations.insert(PLATFORMS.to_owned(), platforms.join(","));
    }
    if let Some(source) = &taken.root.source {
        entry.annotations.insert(SOURCE_DIGEST.to_owned(), source.to_string());
    }
    entry
}

/// A descriptor of the same content, without what others said of it.
pub(super) fn plain(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size)
}

/// The images' platforms, each once.
fn platforms(images: &[Selected]) -> Vec<Platform> {
    let mut platforms: Vec<Platform> = Vec::new();
    let listed = images.iter().flat_map(|image| image.platform.iter().chain(&image.also));
    for platform in listed.map(Platform::normalize) {
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    platforms
}

/// The artifact type that an entry of this manifest has: its own, or for an artifact that names none its config's media
/// type. An image whose manifest names none is no artifact.
pub(super) fn artifact_type(manifest: &ImageManifest) -> Option<String> {
    let config = || (!manifest.is_image()).then(|| manifest.config().media_type.as_str().to_owned());
    manifest.artifact_type().map(str::to_owned).or_else(config).filter(|text| !text.is_empty())
}

/// The platform that was looked for, where another was taken: the next fetch of the same finds by it that it is done.
pub(super) fn requested_platform(wanted: &Wanted, taken: Option<&Platform>) -> Option<String> {
    let wanted = wanted.platform();
    let is_exact = taken.is_some_and(|taken| taken.normalize() == wanted);
    (!is_exact).then(|| wanted.specifier())
}

/// Whether a commit changed the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It stands there as it is.
    None,
    /// Something is new, or says something else than before.
    Made,
}

impl Change {
    fn made(is_change: bool) -> Self {
        if is_change { Self::Made } else { Self::None }
    }
}

/// What is to be written, in this order, and what is to be named when all of it stands there.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// Configs before the manifests that name them, manifests before their index.
    pub(super) documents: Vec<(Digest, Bytes)>,
    /// Signatures of manifests of a repository.
    pub(super) signatures: Vec<(Repository, Digest, Vec<Bytes>)>,
    /// What is to be named.
    pub(super) to_name: ToName,
}

impl Commit {
    /// The documents of an image.
    pub(super) fn add_image(&mut self, image: &Selected) {
        let config = image.config.as_ref().map(|config| (image.manifest.config().digest, config.raw.clone()));
        self.documents.extend(config);
        self.documents.push((image.descriptor.digest, image.manifest.raw().clone()));
    }

    /// The documents of an index, after those of its images.
    pub(super) fn add_index(&mut self, taken: &TakenIndex) {
        let parts = taken.nested.iter().chain([&taken.root]);
        self.documents.extend(parts.map(|part| (part.descriptor.digest, part.index.raw().clone())));
    }

    /// How many bytes of documents and signatures there are to be written, at most.
    pub(super) fn size(&self) -> u64 {
        let documents = self.documents.iter().map(|(_, bytes)| bytes.len() as u64);
        let signatures = self.signatures.iter().flat_map(|(_, _, signatures)| signatures);
        documents.chain(signatures.map(|bytes| bytes.len() as u64)).sum()
    }

    /// Writes the documents and the signatures. What is left to do is to name them.
    pub(super) async fn write(
        self,
        layout: &Layout,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<(Change, ToName), FetchError> {
        let (layout, reporter) = (layout.clone(), Arc::clone(reporter));
        blocking(move || {
            let mut changed = false;
            for (digest, bytes) in &self.documents {
                changed |= layout.put_document(digest, bytes, &mut waiting(Some(*digest), &reporter))?;
            }
            for (repository, digest, signatures) in &self.signatures {
                let put =
                    layout.put_signatures(repository, digest, signatures, &mut waiting(None, &reporter))?;
                changed |= put.changed;
                if put.left_out > 0 {
                    let message = format!(
                        "{} of the signatures of {digest} are left out: there are too many",
                        put.left_out
                    );
                    reporter.report(Event::Warning { message });
                }
            }
            Ok((Change::made(changed), self.to_name))
        })
        .await
    }
}

/// Names what several fetches into one layout wrote, in one write of `index.json`; says of each whether that changed
/// anything. Where one of them cannot be named each is named by itself, so that each has its own error. What befell the disk or
/// the lock befell all, and is not tried again: what a failed sync was about may be lost, and a second one would not say so.
///
/// Blocks, and may wait for the layout's lock.
pub(super) fn name_all(
    layout: &Layout,
    fetches: &[&ToName],
    reporter: &Arc<dyn Reporter>,
) -> Vec<Result<Change, FetchError>> {
    let name = |fetches| lists::name(layout, fetches, reporter, &mut waiting(None, reporter));
    let named: Vec<Result<bool, FetchError>> = match name(fetches) {
        Ok(changes) => changes.into_iter().map(Ok).collect(),
        Err(error) if fetches.len() == 1 => vec![Err(error)],
        Err(error) if is_about_one(&error) => {
            let one = |fetch| name(std::slice::from_ref(fetch)).map(|changes| changes.contains(&true));
            fetches.iter().map(one).collect()
        }
        Err(error) => {
            let error = Arc::new(error);
            fetches.iter().map(|_| Err(FetchError::Together(Arc::clone(&error)))).collect()
        }
    };
    if named.iter().any(Result::is_ok) {
        clean_up(layout, reporter);
    }
    named.into_iter().map(|named| named.map(Change::made)).collect()
}

/// Whether others could be named although this one cannot.
fn is_about_one(error: &FetchError) -> bool {
    match error {
        FetchError::Layout(error) => matches!(
            error,
            LayoutError::NameTaken { .. } | LayoutError::NotProven { .. } | LayoutError::Vanished { .. }
        ),
        FetchError::OverCap { .. }
        | FetchError::BadDocument { .. }
        | FetchError::BadList { .. }
        | FetchError::Index(_)
        | FetchError::Unproven(_) => true,
        _ => false,
    }
}

/// Tells whom is waited for.
fn waiting(digest: Option<Digest>, reporter: &Arc<dyn Reporter>) -> impl FnMut(&str) {
    let reporter = Arc::clone(reporter);
    move |holder: &str| reporter.report(Event::Waiting { digest, holder: holder.to_owned() })
}

/// Takes away what this fetch staged; says what another, dead one left.
/// The image is named by then, so that an error here is a warning.
fn clean_up(layout: &Layout, reporter: &Arc<dyn Reporter>) {
    let leftovers = match layout.clean_up(&mut waiting(None, reporter)) {
        Ok(leftovers) => leftovers,
        Err(error) => {
            let message = format!("the fetch is done, but its staging folder could not be cleared: {error}");
            reporter.report(Event::Warning { message });
            return;
        }
    };
    tell_leftovers(layout, leftovers, reporter);
}

/// Says what dead fetches of something else left, if anything.
pub(crate) fn tell_leftovers(layout: &Layout, leftovers: Leftovers, reporter: &Arc<dyn Reporter>) {
    if leftovers.blobs > 0 {
        reporter.report(Event::Warning {
            message: format!(
                "an interrupted fetch of another image left {} of {} partly downloaded blob{} in {}; fetching that \
                 image again resumes from there",
                mebibytes(leftovers.bytes),
                leftovers.blobs,
                if leftovers.blobs == 1 { "" } else { "s" },
                layout.root().join(".ocipull").display()
            ),
        });
    }
}

fn mebibytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1} MiB")
}
