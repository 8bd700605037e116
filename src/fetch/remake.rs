//! Documents that a fetch made itself and no registry has by their digests: what conversion made of manifests and indexes,
//! the config and the manifest of a schema 1 image, and lists of referrers. The same sources make the same bytes, so that one
//! that went bad in a layout can be made again.
//!
//! Nothing is named and no document is written here: which of what was made is wanted is the caller's to say.

use std::sync::Arc;

use bytes::Bytes;

use super::attached::Attached;
use super::commit::Commit;
use super::documents::Documents;
use super::error::FetchError;
use super::request::{Format, Request, Schema1};
use super::select::{Named, Platforms};
use super::{Taking, convert, lists, make_plan, schema1, select, transfer_blobs};
use crate::digest::Digest;
use crate::layout::index::{IndexDocument, PLATFORMS, SOURCE_DIGEST, listed_platforms};
use crate::layout::{Layout, LayoutError};
use crate::manifest::Descriptor;
use crate::platform::Platform;
use crate::progress::Reporter;
use crate::reference::{Reference, Repository, Tag};
use crate::registry::Registry;
use crate::transfer;
use crate::transfer::Present;

/// What an entry of `index.json` was converted from, where it was.
pub(crate) fn source(entry: &Descriptor) -> Option<Digest> {
    entry.annotations.get(SOURCE_DIGEST)?.parse().ok()
}

/// Makes the documents again that conversion made for an entry of `index.json`: of its source, as the registry or the
/// layout has it. For a schema 1 image that takes its layers, which stand in the layout then.
///
/// # Errors
/// As a fetch has them.
pub(crate) async fn converted(
    registry: &Registry,
    layout: &Layout,
    repository: &Repository,
    entry: &Descriptor,
    options: &transfer::Options,
    reporter: &Arc<dyn Reporter>,
) -> Result<Vec<(Digest, Bytes)>, FetchError> {
    let Some(source) = source(entry) else { return Ok(Vec::new()) };
    let request = Request {
        platforms: platforms(entry),
        format: Format::Oci,
        schema1: Schema1::Convert,
        existing: Present::Prove,
        transfer: options.clone(),
        ..Request::new(Reference::new(repository.clone(), None, Some(source)), layout.root())
    };
    let documents = Documents::new(registry, Some(layout), &request.reference, reporter);
    let manifest = documents.by_digest(&source).await?;
    let descriptor = Descriptor { digest: source, ..manifest.descriptor(source.algorithm()) };
    let mut selection = select::select(&documents, &descriptor, manifest, &request).await?;
    convert::to_oci(&documents, &mut selection).await?;
    if selection.images.iter().any(|image| image.legacy.is_some()) {
        let mut taking = Taking::new(None, selection, None, Attached::default(), &request).await?;
        let plan = make_plan(Some(layout), &taking).await?;
        let done = transfer_blobs(registry, layout, &plan, &request, reporter).await?;
        schema1::finish(&mut taking.selection, &done)?;
        selection = taking.selection;
    }
    let mut commit = Commit::default();
    for image in &selection.images {
        commit.add_image(image);
    }
    if let Named::Index(taken) = &selection.named {
        commit.add_index(taken);
    }
    Ok(commit.documents)
}

/// All that an index has, or the platforms that the entry says were taken of it. A single image is taken as it is.
fn platforms(entry: &Descriptor) -> Platforms {
    let listed = entry.annotations.get(PLATFORMS).filter(|_| entry.media_type.is_index());
    let parsed = listed.map(|text| listed_platforms(text).into_iter().map(str::parse::<Platform>).collect());
    match parsed {
        Some(Ok::<Vec<Platform>, _>(platforms)) if !platforms.is_empty() => Platforms::Several(platforms),
        _ => Platforms::All,
    }
}

/// Makes a list of referrers again, which stands in a layout under the full name `name`: of all referrers that the layout
/// names in the same repository. None where the name is no list's.
///
/// # Errors
/// [`FetchError::OverCap`]; [`FetchError::Layout`] when a file cannot be read.
pub(crate) fn list(
    layout: &Layout,
    index: &IndexDocument,
    name: &Reference,
) -> Result<Option<(Digest, Bytes)>, FetchError> {
    let Some(tag) = name.tag().filter(|tag| tag.is_of_digest()) else { return Ok(None) };
    let (mut referrers, mut about) = (Vec::new(), None);
    for entry in index.entries() {
        let named = entry.full_name().and_then(|name| name.parse::<Reference>().ok());
        let is_referrer =
            named.is_some_and(|named| named.repository() == name.repository() && named.digest().is_some());
        let (true, Ok(descriptor)) = (is_referrer, entry.descriptor()) else { continue };
        let manifest = match layout.manifest(&descriptor) {
            Ok(manifest) => manifest,
            Err(error @ LayoutError::Io { .. }) => return Err(error.into()),
            Err(_) => continue,
        };
        let Some(subject) = manifest.subject().map(|subject| subject.digest) else { continue };
        if Tag::of_referrers(&subject) == *tag {
            referrers.push(manifest.as_referrer(descriptor.digest));
            about = Some(subject);
        }
    }
    let Some(subject) = about else { return Ok(None) };
    let bytes = Bytes::from(lists::fallback_index(&subject, &referrers, &[])?.bytes);
    Ok(Some((Digest::sha256(&bytes), bytes)))
}
