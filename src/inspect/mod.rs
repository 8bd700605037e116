//! What an image is made of, without taking it: its index, manifests, configs, layers and history, from a registry or
//! from a layout.
//!
//! Every document is verified against its digest before it is read. Layers are not looked at: what is said of them is
//! what manifest and config say, and in a layout whether they are there. Of an index everything is shown that can be had: a
//! manifest that is not there is listed, by choice or missing, and one whose config cannot be read says so. What is about
//! the image (referrers) is listed and not followed; a registry that cannot list them costs a warning.

mod error;
mod image;
mod listed;
mod place;
mod referrers;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::layout::{Absence, Layout};
use crate::manifest::{Descriptor, HistoryEntry, ImageIndex, ImageManifest, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Registry;

pub use error::InspectError;

use error::chain;
use place::{Place, blocking, check_size};

/// How many images' documents are asked for at a time.
const AT_A_TIME: usize = 8;

/// What a name stands for.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The canonical reference; in a layout the image's full name, or its short one where it has no other.
    pub name: Option<String>,
    /// What the name stands for; in a layout the entry of `index.json`.
    pub descriptor: Descriptor,
    /// Its index, where it is one.
    pub index: Option<IndexSummary>,
    /// Its images in the index's order, each once, attestations left out.
    pub images: Vec<InspectedImage>,
    /// What is about it or about one of its images, as far as it is known here: signatures, SBOMs, attestations.
    pub referrers: Vec<Descriptor>,
    /// The bytes of what the name stands for.
    #[serde(skip)]
    pub raw: Bytes,
    /// What could not be found out.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// An index in short.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct IndexSummary {
    /// The index.
    pub descriptor: Descriptor,
    /// The platforms that it declares, whether or not they can be had here.
    pub platforms: Vec<String>,
    /// What it lists and cannot be had here.
    pub absent: Vec<AbsentPlatform>,
    /// What kind of artifact it is, where it says so.
    #[serde(rename = "artifactType", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifest that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest that an index lists and that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AbsentPlatform {
    /// The platform that the index declares for it.
    #[serde(serialize_with = "text")]
    pub platform: Option<Platform>,
    /// Its digest.
    pub digest: Digest,
    /// Why it is not there.
    pub reason: Absence,
    /// What is wrong with what is there in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl AbsentPlatform {
    fn new(entry: &Descriptor, reason: Absence, error: Option<String>) -> Self {
        let platform = entry.platform.clone().filter(|platform| !platform.is_empty());
        Self { platform, digest: entry.digest, reason, error }
    }
}

/// One image, or one artifact.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct InspectedImage {
    /// Its platform; an artifact has none.
    #[serde(serialize_with = "text")]
    pub platform: Option<Platform>,
    /// Its manifest.
    pub manifest: Descriptor,
    /// What kind of artifact it is, where its manifest says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifest that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Its config.
    pub config: InspectedConfig,
    /// The digests of its uncompressed layers, as the config claims them.
    pub diff_ids: Vec<Digest>,
    /// Its layers, the base first.
    pub layers: Vec<InspectedLayer>,
    /// How it came to be.
    pub history: Vec<HistoryEntry>,
    /// Its manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The bytes of manifest, config and layers together, a layer that comes twice counted once.
    pub size: u64,
    /// When the image was made, as its config says it.
    #[serde(skip)]
    pub created: Option<String>,
    /// The bytes of all layers uncompressed, where that is known without uncompressing them: when none is compressed.
    pub uncompressed_size: Option<u64>,
    /// Why its config could not be read; what only the config says is then unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A config and what it says.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct InspectedConfig {
    /// Its descriptor.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// The document as it was written, less its white space, for an image: read into values, a hostile one would take many times its size. Null for
    /// an artifact, whose config may be anything, and for a document that is nested deeper than readers of JSON follow.
    pub content: Option<Box<RawValue>>,
}

/// One layer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct InspectedLayer {
    /// Its descriptor.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// The digest of its uncompressed bytes, as the config claims it.
    pub diff_id: Option<Digest>,
    /// Why the layout does not hold it, where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absence>,
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn text<S: Serializer>(platform: &Option<Platform>, serializer: S) -> Result<S::Ok, S::Error> {
    match platform {
        Some(platform) => serializer.collect_str(platform),
        None => serializer.serialize_none(),
    }
}

/// Inspects an image in a registry: every platform's manifest and config is read.
///
/// # Errors
/// [`InspectError`].
pub async fn in_registry(registry: &Registry, reference: &Reference) -> Result<Inspection, InspectError> {
    let (descriptor, manifest) = resolve(registry, reference).await?;
    let place = Place::Registry(registry, reference.repository());
    inspect(&place, Some(reference.to_string()), descriptor, manifest).await
}

/// Inspects an image in a layout, the only one when no name says which; see [`Layout::find`].
///
/// # Errors
/// [`InspectError`].
pub async fn in_layout(layout: &Layout, name: Option<&str>) -> Result<Inspection, InspectError> {
    let place = Place::Layout(layout.clone());
    let wanted = name.map(str::to_owned);
    let (descriptor, manifest) = blocking(layout, move |layout| {
        let descriptor = layout.find(wanted.as_deref())?;
        check_size(layout, &descriptor)?;
        let manifest = layout.manifest(&descriptor)?;
        Ok((descriptor, manifest))
    })
    .await?;
    let named = |key: &str| descriptor.annotations.get(key).cloned();
    let name = named(crate::layout::index::FULL_NAME).or_else(|| named(crate::layout::index::REF_NAME));
    inspect(&place, name, descriptor, manifest).await
}

/// The bytes of what a reference stands for, and nothing that it refers to.
///
/// # Errors
/// [`InspectError`].
pub async fn raw_in_registry(registry: &Registry, reference: &Reference) -> Result<Bytes, InspectError> {
    Ok(resolve(registry, reference).await?.1.raw().clone())
}

/// The bytes of what a name in a layout stands for, and nothing that it refers to.
///
/// # Errors
/// [`InspectError`].
pub async fn raw_in_layout(layout: &Layout, name: Option<&str>) -> Result<Bytes, InspectError> {
    let name = name.map(str::to_owned);
    blocking(layout, move |layout| {
        let descriptor = layout.find(name.as_deref())?;
        layout.read_blob(&descriptor.digest, crate::manifest::MANIFEST_CAP as u64)
    })
    .await
}

async fn resolve(registry: &Registry, reference: &Reference) -> Result<(Descriptor, Manifest), InspectError> {
    let resolved = registry.resolve(reference).await?;
    let digest = resolved.descriptor.digest;
    let manifest = if let Some(manifest) = resolved.manifest {
        manifest
    } else {
        let tag = if reference.digest().is_none() { reference.tag() } else { None };
        registry.manifest(reference.repository(), &digest, None, tag).await?
    };
    Ok((described(&manifest, digest), manifest))
}

fn described(manifest: &Manifest, digest: Digest) -> Descriptor {
    Descriptor::new(manifest.media_type().clone(), digest, manifest.raw().len() as u64)
}

async fn inspect(
    place: &Place<'_>,
    name: Option<String>,
    descriptor: Descriptor,
    manifest: Manifest,
) -> Result<Inspection, InspectError> {
    let raw = manifest.raw().clone();
    let mut warnings = Vec::new();
    let (index, images) = match &manifest {
        Manifest::Index(index) => {
            let (summary, images) = Box::pin(below(place, &descriptor, index, &mut warnings)).await?;
            (Some(summary), images)
        }
        Manifest::Image(image) => {
            // An entry's annotations are about the name, which is told already.
            let plain = described(&manifest, descriptor.digest);
            let plain = Descriptor { platform: descriptor.platform.clone(), ..plain };
            let config = image::config(place, image).await?;
            (None, vec![image::assemble(place, &descriptor, plain, image, config).await?])
        }
        // It has neither config nor layers in today's sense.
        Manifest::Schema1(_) => (None, Vec::new()),
    };
    let listed = if let Manifest::Index(index) = &manifest { Some(index) } else { None };
    let subjects = referrers::subjects(&descriptor, listed, &images);
    let referrers = match place {
        Place::Layout(layout) => referrers::referrers_in_layout(layout, subjects).await?,
        Place::Registry(registry, repository) => {
            let digest = &descriptor.digest;
            let asked =
                referrers::referrers_in_registry(registry, repository, digest, &images, &mut warnings);
            Box::pin(asked).await
        }
    };
    Ok(Inspection { name, descriptor, index, images, referrers, raw, warnings })
}

/// What is below an index: everything that can be had, and what cannot.
async fn below(
    place: &Place<'_>,
    entry: &Descriptor,
    index: &ImageIndex,
    warnings: &mut Vec<String>,
) -> Result<(IndexSummary, Vec<InspectedImage>), InspectError> {
    let listed = listed::listed(place, entry.digest, index).await?;
    let absent = place.absent(entry, index).await?.manifests;
    let mut absent: Vec<AbsentPlatform> =
        absent.iter().map(|absent| AbsentPlatform::new(&absent.descriptor, absent.absence, None)).collect();
    let mut known: BTreeSet<Digest> = absent.iter().map(|absent| absent.digest).collect();
    for unread in listed.unread {
        if let Some(error) = &unread.error {
            warnings.push(format!("the manifest {} cannot be read: {error}", unread.digest));
        }
        if known.insert(unread.digest) {
            absent.push(unread);
        }
    }
    let details = listed.images.into_iter().map(|(descriptor, image)| one(place, entry, descriptor, image));
    let mut details = std::pin::pin!(stream::iter(details).buffered(AT_A_TIME));
    let (mut images, mut bytes) = (Vec::new(), 0_u64);
    while let Some(image) = details.next().await {
        let image = image?;
        if image.config.content.is_some() {
            // Its size was held against its bytes.
            bytes = bytes.saturating_add(image.config.descriptor.size);
        }
        if bytes > listed::MOST_BYTES {
            return Err(InspectError::TooManyDocuments { digest: entry.digest });
        }
        images.push(image);
    }
    for image in &images {
        if let Some(error) = &image.error {
            warnings.push(format!("the config of {} cannot be read: {error}", image.manifest.digest));
        }
    }
    let declared = index.manifests().iter().filter_map(|entry| entry.platform.as_ref());
    let declared = declared.filter(|platform| !platform.is_empty() && !platform.is_unknown());
    let summary = IndexSummary {
        descriptor: Descriptor::new(index.media_type().clone(), entry.digest, index.raw().len() as u64),
        platforms: declared.map(Platform::to_string).collect(),
        absent,
        artifact_type: index.artifact_type().map(str::to_owned),
        subject: index.subject().cloned(),
        annotations: index.annotations().clone(),
    };
    Ok((summary, images))
}

/// One image of an index. A config that is bad, or not there, leaves the others in sight.
async fn one(
    place: &Place<'_>,
    entry: &Descriptor,
    descriptor: Descriptor,
    image: ImageManifest,
) -> Result<InspectedImage, InspectError> {
    let (config, error) = match image::config(place, &image).await {
        Err(error) if error.is_of_one_document() => (None, Some(chain(&error))),
        config => (config?, None),
    };
    Ok(InspectedImage { error, ..image::assemble(place, entry, descriptor, &image, config).await? })
}

#[cfg(test)]
mod tests;
