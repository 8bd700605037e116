//! The first step: what a reference stands for, and whether the layout has just that already.
//!
//! One question to the registry at the most, and none for a digest of which everything is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::belonging::Referrers;
use super::documents::Documents;
use super::error::FetchError;
use super::plan::Scope;
use super::report::{Fetched, Summary};
use super::request::{DiffIds, ForeignLayers, Format, Mode, Request, Schema1};
use super::select::{self, Named, Platforms, Selected, Selection, Wanted};
use super::{blocking, commit, report};
use crate::digest::Digest;
use crate::layout::index::{
    DIFF_IDS, FOREIGN_LAYERS, INDEX_DIGEST, IndexDocument, PLATFORMS, PROVEN, REF_NAME, REQUESTED_PLATFORM,
    SOURCE_DIGEST, SOURCE_TYPE, listed_platforms,
};
use crate::layout::{Layout, LayoutError};
use crate::manifest::{Descriptor, Manifest, convert};
use crate::platform::Matcher;
use crate::progress::{Event, Reporter};
use crate::registry::{Registry, Resolved};
use crate::transfer::Present;

/// What a reference resolved to.
pub(super) enum Resolution {
    /// The layout names it already just as this request would have it named, and all of it is there.
    UpToDate(Box<Selection>, Box<Fetched>),
    /// It is to be fetched.
    Resolved(Box<Resolved>),
}

/// How long what was seen of a layout counts. Of thousands of images each would read all that the layout names, otherwise.
const SEEN: Duration = Duration::from_millis(100);

/// A layout with what it names.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) layout: Layout,
    pub(super) index: Arc<IndexDocument>,
    /// When it was looked at.
    pub(super) at: Instant,
}

impl Standing {
    /// Whether it was looked at a moment ago.
    pub(super) fn counts(&self) -> bool {
        self.at.elapsed() < SEEN
    }
}

/// What stands at the request's folder; `known` where that is known.
pub(super) async fn look(request: &Request, known: Option<Standing>) -> Result<Option<Standing>, FetchError> {
    if known.is_some() {
        return Ok(known);
    }
    let (path, at) = (request.layout.clone(), Instant::now());
    let seen = blocking(move || Layout::look_closely(&path)).await?;
    Ok(seen.map(|(layout, index)| Standing { layout, index, at }))
}

/// A fetch that was killed just after its image was named leaves an empty staging folder. Nothing depends on it, and the
/// layout may be read-only or another process's at the moment, so that an error is no matter and nobody is waited for. A
/// dry run leaves it as well. What dead fetches of something else left is told of, as after a fetch.
pub(super) async fn tidy(layout: Option<Layout>, request: &Request, reporter: &Arc<dyn Reporter>) {
    let Some(layout) = layout.filter(|_| request.mode != Mode::DryRun) else { return };
    let reporter = Arc::clone(reporter);
    let tidied = tokio::task::spawn_blocking(move || {
        let tidied = layout.try_clean_up();
        if let Ok(Some(leftovers)) = tidied {
            commit::tell_leftovers(&layout, leftovers, &reporter);
        }
        tidied
    })
    .await;
    tracing::debug!(?tidied, "tidied an up-to-date layout");
}

/// Asks the registry what the reference stands for: nothing when its digest says it and all is there, one question when
/// only its tag does.
pub(super) async fn resolve(
    registry: &Registry,
    documents: &Documents<'_>,
    request: &Request,
    standing: Option<&Standing>,
) -> Result<Resolution, FetchError> {
    let reference = &request.reference;
    if let Some(digest) = reference.digest() {
        let known = Summary { media_type: None, digest: *digest, size: None };
        if let Some(found) = up_to_date(documents, standing, request, known).await? {
            return Ok(found);
        }
        if let Some(resolved) = resolve_locally(standing, digest).await? {
            return Ok(Resolution::Resolved(Box::new(resolved)));
        }
    }
    let resolved = registry.resolve(reference).await?;
    let digest = resolved.descriptor.digest;
    documents.reporter.report(Event::Resolved { reference: reference.to_string(), digest });
    match up_to_date(documents, standing, request, Summary::from(&resolved.descriptor)).await? {
        Some(found) => Ok(found),
        None => Ok(Resolution::Resolved(Box::new(resolved))),
    }
}

/// A digest whose manifest stands in the layout asks the registry nothing.
async fn resolve_locally(
    standing: Option<&Standing>,
    digest: &Digest,
) -> Result<Option<Resolved>, FetchError> {
    let Some(Standing { layout, index, .. }) = standing.cloned() else { return Ok(None) };
    let digest = *digest;
    let found = blocking(move || {
        let entry = index.entries().iter().find(|entry| entry.digest() == Some(digest));
        let Some(listed) = entry.and_then(|entry| entry.descriptor().ok()) else {
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

/// Looks for an entry of `index.json` that says what this request would write, and of which everything is there.
async fn up_to_date(
    documents: &Documents<'_>,
    standing: Option<&Standing>,
    request: &Request,
    resolved: Summary,
) -> Result<Option<Resolution>, FetchError> {
    let Some(standing) = standing.filter(|_| request.existing == Present::Trust) else { return Ok(None) };
    // Asking the registry may have taken its time. What did not change is not taken apart again.
    let index = if standing.counts() {
        Arc::clone(&standing.index)
    } else {
        let layout = standing.layout.clone();
        blocking(move || layout.index()).await?
    };
    // With a second holder of the short name other tools may find that one. The long way says so, or takes the name over.
    if commit::ref_name(request).is_some_and(|name| index.is_ambiguous(&name)) {
        return Ok(None);
    }
    let full_name = request.reference.full_name();
    for entry in index.entries().iter().filter(|entry| entry.full_name() == Some(&full_name)) {
        let Ok(descriptor) = entry.descriptor() else { continue };
        if !is_wanted(&descriptor, request, &resolved) {
            continue;
        }
        // What cannot be read, or is another thing than it seems, is fetched the long way, which says why.
        let Ok(Some(selection)) = held(&documents.layout_only(), &descriptor, request).await else {
            continue;
        };
        if let Some(scope) = whole_scope(documents, &selection, request).await? {
            let fetched = report::up_to_date(&selection, &descriptor, resolved, request, &scope);
            return Ok(Some(Resolution::UpToDate(Box::new(selection), Box::new(fetched))));
        }
    }
    Ok(None)
}

/// Whether an entry of `index.json` with the full name of a request says of this digest what the request would write, and
/// that it was proven.
fn is_wanted(held: &Descriptor, request: &Request, resolved: &Summary) -> bool {
    let annotation = |key: &str| held.annotations.get(key).map(String::as_str);
    let same_name = annotation(REF_NAME) == commit::ref_name(request).as_deref();
    let source = annotation(SOURCE_DIGEST);
    let stands_for = source.map_or_else(|| held.digest.to_string(), str::to_owned);
    let same_image = match (&request.platforms, annotation(INDEX_DIGEST)) {
        (Platforms::One(wanted), Some(index)) => {
            index == resolved.digest.to_string() && is_best(held, wanted)
        }
        (Platforms::One(_), None) if held.media_type.is_index() => false,
        (wanted, None) => stands_for == resolved.digest.to_string() && fits(held, wanted),
        (Platforms::Several(_) | Platforms::All, Some(_)) => false,
    };
    // A converted manifest is wanted where the conversion is, and where nothing else could be made of the source.
    let same_format = match (source, annotation(SOURCE_TYPE)) {
        (None, _) => true,
        (Some(_), None) => request.format == Format::Oci,
        (Some(_), Some(_)) => request.schema1 == Schema1::Convert,
    };
    let has_diff_ids = annotation(DIFF_IDS).is_none() || request.diff_ids == DiffIds::Skip;
    let has_all = annotation(FOREIGN_LAYERS).is_none() || request.foreign_layers == ForeignLayers::Skip;
    same_name && same_image && same_format && annotation(PROVEN).is_some() && has_diff_ids && has_all
}

/// Whether the image that was taken out of its index is the one that would be taken now: it was taken for just this
/// platform, or nothing could be better.
fn is_best(held: &Descriptor, wanted: &Wanted) -> bool {
    let requested = commit::requested_platform(wanted, held.platform.as_ref());
    let annotated = held.annotations.get(REQUESTED_PLATFORM);
    // Of several alike the list's order decides, whoever asked; but for Windows, where versions can be more or less alike.
    let is_exact = requested.is_none() && wanted.platform().os != "windows";
    is_exact || requested.as_ref() == annotated
}

/// Whether the single image that a reference stands for would be taken for these platforms without a word.
fn fits(held: &Descriptor, wanted: &Platforms) -> bool {
    let matches =
        |wanted| held.platform.as_ref().is_none_or(|platform| Matcher::new(&wanted).matches(platform));
    match wanted {
        Platforms::One(wanted) => matches(Wanted::platform(wanted)),
        Platforms::Several(several) => several.iter().cloned().all(matches),
        Platforms::All => true,
    }
}

/// What the request would take of an entry, by the layout's documents alone; `None` when the entry says of one of the
/// images that it was not taken, or when something is yet to be converted.
async fn held(
    documents: &Documents<'_>,
    entry: &Descriptor,
    request: &Request,
) -> Result<Option<Selection>, FetchError> {
    let manifest = documents.resolved(entry).await?;
    // What the manifests of a converted index were made of stands nowhere, and referrers are about that.
    let is_lost = entry.annotations.contains_key(SOURCE_DIGEST) && matches!(manifest, Manifest::Index(_));
    if is_lost && request.referrers != Referrers::None {
        return Ok(None);
    }
    let selection = match manifest {
        Manifest::Image(manifest) => {
            let digest = |key: &str| entry.annotations.get(key).and_then(|text| text.parse().ok());
            let mut image = select::load(documents, manifest, entry.clone(), entry.platform.clone()).await?;
            image.source = digest(SOURCE_DIGEST);
            let named = Named::Image { index: digest(INDEX_DIGEST) };
            Selection { resolved: entry.clone(), named, images: vec![image], warnings: Vec::new() }
        }
        manifest => select::select(documents, entry, manifest, request).await?,
    };
    let listed = entry.annotations.get(PLATFORMS).map(|text| listed_platforms(text));
    let is_listed = |image: &Selected| match (&listed, &image.platform) {
        (Some(listed), Some(platform)) => listed.contains(&platform.normalize().specifier().as_str()),
        (Some(_), None) => false,
        (None, _) => true,
    };
    let is_converted = |image: &Selected| {
        request.format == Format::Preserve
            || convert::image_to_oci(&image.manifest).is_ok_and(|new| new.is_none())
    };
    let is_converted_root = request.format == Format::Preserve || !entry.media_type.is_docker();
    let counts =
        is_converted_root && selection.images.iter().all(|image| is_listed(image) && is_converted(image));
    Ok(counts.then_some(selection))
}

/// The scope in which every blob of the images is there in its size; `None` when something is missing.
async fn whole_scope(
    documents: &Documents<'_>,
    selection: &Selection,
    request: &Request,
) -> Result<Option<Scope>, FetchError> {
    let scope = super::scope(documents.layout, || selection.images.iter(), request).await?;
    let Some(layout) = documents.layout.cloned() else { return Ok(None) };
    let blobs = selection.images.iter().flat_map(|image| {
        let layers = image.manifest.layers().iter().filter(|layer| !scope.leaves_out(layer));
        layers.chain([image.manifest.config()]).map(|blob| (blob.digest, blob.size))
    });
    let blobs: Vec<(Digest, u64)> = blobs.collect();
    let is_whole = blocking(move || {
        for (digest, size) in blobs {
            if !layout.contains(&digest, size)? {
                return Ok(false);
            }
        }
        Ok(true)
    });
    Ok(is_whole.await?.then_some(scope))
}
