//! What an image is made of, without taking it: its index, manifests, configs, layers and history, from a registry or
//! from a layout.
//!
//! Every document is verified against its digest before it is read. Layers are not looked at: what is said of them is
//! what manifest and config say. In a layout, manifests that it does not hold (an index whose other platforms were left
//! out) are passed over.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Serialize, Serializer};

use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::layout::{DEEPEST, Layout, LayoutError, MOST_ENTRIES};
use crate::manifest::{
    CONFIG_CAP, Compression, Descriptor, HistoryEntry, ImageConfig, ImageManifest, Manifest, ManifestError,
};
use crate::platform::Platform;
use crate::reference::{Reference, Repository};
use crate::registry::{Registry, RegistryError};

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
    /// Its images in the index's order, attestations left out.
    pub images: Vec<InspectedImage>,
    /// The bytes of what the name stands for.
    #[serde(skip)]
    pub raw: Bytes,
}

/// An index in short.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct IndexSummary {
    /// The index.
    pub descriptor: Descriptor,
    /// The platforms that it declares, whether or not they can be had here.
    pub platforms: Vec<String>,
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
    /// The bytes of all layers uncompressed, where that is known without uncompressing them: when none is compressed.
    pub uncompressed_size: Option<u64>,
}

/// A config and what it says.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct InspectedConfig {
    /// Its descriptor.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// The document itself, for an image; null for an artifact, whose config may be anything.
    pub content: Option<serde_json::Value>,
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
    let mut index = None;
    let images = match manifest {
        Manifest::Index(found) => {
            let declared = found.manifests().iter().filter_map(|entry| entry.platform.as_ref());
            let declared = declared.filter(|platform| !platform.is_empty() && !platform.is_unknown());
            let platforms = declared.map(Platform::to_string).collect();
            index = Some(IndexSummary {
                descriptor: described(&Manifest::Index(found.clone()), descriptor.digest),
                platforms,
            });
            listed(place, descriptor.digest, found.manifests().to_vec()).await?
        }
        Manifest::Image(image) => {
            // An entry's annotations are about the name, which is told already.
            let plain =
                Descriptor::new(image.media_type().clone(), descriptor.digest, image.raw().len() as u64);
            vec![(Descriptor { platform: descriptor.platform.clone(), ..plain }, image)]
        }
        // It has neither config nor layers in today's sense.
        Manifest::Schema1(_) => Vec::new(),
    };
    let details = images.into_iter().map(|(descriptor, image)| place.image(descriptor, image));
    let images = stream::iter(details).buffered(AT_A_TIME).try_collect().await?;
    Ok(Inspection { name, descriptor, index, images, raw })
}

/// The most bytes that all manifests, and all configs, of one index may have together: they are all in memory at a time.
const MOST_BYTES: u64 = 64 << 20;

/// The manifests that an index lists, then those of the indexes nested in it.
async fn listed(
    place: &Place<'_>,
    index: Digest,
    entries: Vec<Descriptor>,
) -> Result<Vec<(Descriptor, ImageManifest)>, InspectError> {
    let mut images = Vec::new();
    let mut seen = BTreeSet::from([index]);
    let (mut level, mut count, mut bytes) = (entries, 0, 0_u64);
    for _ in 0..DEEPEST {
        count += level.len();
        if count > MOST_ENTRIES {
            break;
        }
        let wanted = |entry: &Descriptor| {
            let is_attestation = entry.platform.as_ref().is_some_and(Platform::is_unknown);
            !is_attestation && (entry.media_type.is_index() || entry.media_type.is_image_manifest())
        };
        let wanted: Vec<Descriptor> = level.into_iter().filter(wanted).collect();
        bytes = wanted.iter().map(|entry| entry.size).fold(bytes, u64::saturating_add);
        if bytes > MOST_BYTES {
            break;
        }
        let documents = wanted.into_iter().map(|entry| async move {
            let manifest = place.manifest(&entry).await?;
            Ok::<_, InspectError>((entry, manifest))
        });
        let documents: Vec<_> = stream::iter(documents).buffered(AT_A_TIME).try_collect().await?;
        level = Vec::new();
        for (entry, manifest) in documents {
            match manifest {
                Some(Manifest::Image(image)) => images.push((entry, image)),
                Some(Manifest::Index(nested)) if seen.insert(entry.digest) => {
                    level.extend_from_slice(nested.manifests());
                }
                _ => {}
            }
        }
        if level.is_empty() {
            let configs = images.iter().map(|(_, image)| image.config().size);
            if configs.fold(0, u64::saturating_add) > MOST_BYTES {
                break;
            }
            return Ok(images);
        }
    }
    Err(InspectError::IndexLimit { digest: index })
}

/// Where documents are read.
enum Place<'a> {
    Registry(&'a Registry, &'a Repository),
    Layout(Layout),
}

impl Place<'_> {
    /// A manifest that an index lists; none where it is not held.
    async fn manifest(&self, descriptor: &Descriptor) -> Result<Option<Manifest>, InspectError> {
        match self {
            Self::Registry(registry, repository) => {
                let found = registry.manifest(repository, &descriptor.digest, Some(descriptor), None).await;
                match found {
                    // Mirrors hold indexes of which they copied some platforms only.
                    Err(error) if error.status() == Some(http::StatusCode::NOT_FOUND) => Ok(None),
                    found => Ok(Some(found?)),
                }
            }
            Self::Layout(layout) => {
                let descriptor = descriptor.clone();
                blocking(layout, move |layout| match layout.manifest(&descriptor) {
                    Err(LayoutError::MissingBlob { .. }) => Ok(None),
                    read => read.map(Some),
                })
                .await
            }
        }
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Bytes, InspectError> {
        if let Some(bytes) = descriptor.embedded_data() {
            return Ok(bytes);
        }
        match self {
            Self::Registry(registry, repository) => {
                Ok(registry.document(repository, descriptor, CONFIG_CAP as u64).await?)
            }
            Self::Layout(layout) => {
                let digest = descriptor.digest;
                blocking(layout, move |layout| layout.read_blob(&digest, CONFIG_CAP as u64)).await
            }
        }
    }

    async fn image(
        &self,
        descriptor: Descriptor,
        image: ImageManifest,
    ) -> Result<InspectedImage, InspectError> {
        let mut content = None;
        let mut parsed = None;
        if image.is_image() {
            let digest = image.config().digest;
            let raw = self.config(image.config()).await?;
            parsed =
                Some(ImageConfig::parse(&raw).map_err(|source| InspectError::BadConfig { digest, source })?);
            content = serde_json::from_slice(&raw).ok();
        }
        Ok(assemble(descriptor, &image, parsed, content))
    }
}

fn assemble(
    descriptor: Descriptor,
    image: &ImageManifest,
    config: Option<ImageConfig>,
    content: Option<serde_json::Value>,
) -> InspectedImage {
    let declared = descriptor.platform.clone().filter(|platform| !platform.is_empty());
    let of_config = config.as_ref().map(|config| config.platform.normalize());
    let (diff_ids, history) =
        config.map_or_else(Default::default, |config| (config.diff_ids, config.history));
    let layer = |(at, layer): (usize, &Descriptor)| InspectedLayer {
        descriptor: layer.clone(),
        diff_id: diff_ids.get(at).copied().filter(|_| !layer.media_type.is_encrypted()),
    };
    let layers: Vec<InspectedLayer> = image.layers().iter().enumerate().map(layer).collect();
    let mut sizes = BTreeMap::from([(descriptor.digest, descriptor.size)]);
    sizes.extend(image.layers().iter().chain([image.config()]).map(|blob| (blob.digest, blob.size)));
    InspectedImage {
        platform: declared.or(of_config).filter(|platform| !platform.is_empty()),
        manifest: descriptor,
        config: InspectedConfig { descriptor: image.config().clone(), content },
        uncompressed_size: uncompressed_size(image),
        diff_ids,
        layers,
        history,
        annotations: image.annotations().clone(),
        size: sizes.values().fold(0, |sum, size| sum.saturating_add(*size)),
    }
}

fn uncompressed_size(image: &ImageManifest) -> Option<u64> {
    let is_plain = |layer: &Descriptor| layer.media_type.layer_compression() == Some(Compression::None);
    let mut layers = image.layers().iter();
    image.is_image().then(|| {
        layers.try_fold(0_u64, |sum, layer| is_plain(layer).then(|| sum.saturating_add(layer.size)))
    })?
}

async fn blocking<T: Send + 'static>(
    layout: &Layout,
    work: impl FnOnce(&Layout) -> Result<T, LayoutError> + Send + 'static,
) -> Result<T, InspectError> {
    let layout = layout.clone();
    Ok(tokio::task::spawn_blocking(move || work(&layout)).await.map_err(|_| InspectError::Worker)??)
}

/// Why an image could not be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The registry's part went wrong.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The layout's part went wrong.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The image config cannot be used.
    #[error("the image config {digest} cannot be used")]
    BadConfig {
        /// The config.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// Indexes are nested too deep, in a cycle, or have too many entries.
    #[error(
        "the index {digest} goes too far: at most {MOST_ENTRIES} entries, {DEEPEST} levels deep, of {} MiB together are \
         looked at", MOST_BYTES >> 20
    )]
    IndexLimit {
        /// The outermost index.
        digest: Digest,
    },
    /// A blocking thread of this process died.
    #[error("a worker thread of this process failed")]
    Worker,
}

impl Failure for InspectError {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::BadConfig { .. } | Self::IndexLimit { .. } => Kind::Integrity,
            Self::Worker => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::BadConfig { .. } | Self::IndexLimit { .. } => {
                Some("`ocipull inspect --raw` shows the document as it is".to_owned())
            }
            Self::Worker => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn put(root: &Path, content: &str) -> String {
        let digest = Digest::sha256(content.as_bytes());
        std::fs::write(root.join("blobs/sha256").join(digest.hex()), content).unwrap();
        format!("\"digest\":\"{digest}\",\"size\":{}", content.len())
    }

    fn manifest(root: &Path, config_type: &str, config: &str, layer_type: &str) -> String {
        let config = put(root, config);
        let layer = format!("\"digest\":\"{}\",\"size\":1000", Digest::sha256(b"layer"));
        put(
            root,
            &format!(
                r#"{{"schemaVersion":2,"mediaType":"{OCI}manifest.v1+json","config":{{"mediaType":"{config_type}",{config}}},
                "layers":[{{"mediaType":"{layer_type}",{layer}}},{{"mediaType":"{layer_type}",{layer}}}]}}"#
            ),
        )
    }

    const OCI: &str = "application/vnd.oci.image.";

    /// A layout whose only image is an index: of an image, an artifact, an attestation and an image that is not there.
    fn layout(root: &Path) -> Layout {
        std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        let diff_id = Digest::sha256(b"layer");
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}"]}},
            "history":[{{"created_by":"ADD"}}]}}"#
        );
        let image = manifest(root, &format!("{OCI}config.v1+json"), &config, &format!("{OCI}layer.v1.tar"));
        let artifact = manifest(root, "application/x", "not even JSON", "text/plain");
        let attestation = manifest(root, "application/y", "{}", "text/plain");
        let absent = format!("\"digest\":\"{}\",\"size\":7", Digest::sha256(b"absent"));
        let entry = |blob: &str, platform: &str| {
            format!("{{\"mediaType\":\"{OCI}manifest.v1+json\",{blob}{platform}}}")
        };
        let platform = |os: &str, architecture: &str| {
            format!(",\"platform\":{{\"os\":\"{os}\",\"architecture\":\"{architecture}\"}}")
        };
        let entries = [
            entry(&image, &platform("linux", "amd64")),
            entry(&artifact, ""),
            entry(&attestation, &platform("unknown", "unknown")),
            entry(&absent, &platform("linux", "arm64")),
        ];
        let index = put(
            root,
            &format!(
                r#"{{"schemaVersion":2,"mediaType":"{OCI}index.v1+json","manifests":[{}]}}"#,
                entries.join(",")
            ),
        );
        let named = r#""annotations":{"org.opencontainers.image.ref.name":"v1"}"#;
        let entry = format!(r#"{{"mediaType":"{OCI}index.v1+json",{index},{named}}}"#);
        std::fs::write(root.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#))
            .unwrap();
        std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout::open(root).unwrap()
    }

    /// Of an index all is shown that is there and is an image or an artifact; its platforms are those it declares.
    #[tokio::test]
    async fn an_index_in_a_layout() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let found = in_layout(&layout, Some("v1")).await.unwrap();
        assert_eq!(found.name.as_deref(), Some("v1"));
        assert_eq!(found.index.unwrap().platforms, ["linux/amd64", "linux/arm64"]);
        assert_eq!(Digest::sha256(&found.raw), found.descriptor.digest);
        assert_eq!(raw_in_layout(&layout, None).await.unwrap(), found.raw);
        let [image, artifact] = found.images.as_slice() else { panic!("{:?}", found.images) };
        assert_eq!(image.platform.as_ref().unwrap().to_string(), "linux/amd64");
        assert_eq!(image.layers[1].diff_id, Some(Digest::sha256(b"layer")));
        assert_eq!(image.history[0].created_by.as_deref(), Some("ADD"));
        assert_eq!(image.config.content.as_ref().unwrap()["os"], "linux");
        // The layer comes twice: once on disk, twice in a container's file system.
        assert_eq!(image.size, image.manifest.size + image.config.descriptor.size + 1000);
        assert_eq!(image.uncompressed_size, Some(2000));
        assert!(
            artifact.platform.is_none() && artifact.diff_ids.is_empty() && artifact.config.content.is_none()
        );
        assert_eq!((artifact.layers[0].diff_id, artifact.uncompressed_size), (None, None));
    }

    /// A manifest that is itself missing or bad is an error, unlike one that an index lists.
    #[tokio::test]
    async fn what_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let index = layout.find(None).unwrap().digest;
        std::fs::write(layout.blob_path(&index), "{}").unwrap();
        assert_eq!(in_layout(&layout, None).await.unwrap_err().kind(), Kind::Integrity);
        std::fs::remove_file(layout.blob_path(&index)).unwrap();
        assert_eq!(in_layout(&layout, None).await.unwrap_err().kind(), Kind::Integrity);
        assert_eq!(in_layout(&layout, Some("v2")).await.unwrap_err().kind(), Kind::NotFound);
    }
}
