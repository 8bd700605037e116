//! Builds images, artifacts and indexes: manifests and blobs that are right unless a test says where they lie.
//!
//! Documents are written in a fixed order and carry no time, so that a digest in a snapshot stays as it is.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::content::{Compression, sha256, sha512, shared, tar_of};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A blob that a manifest names.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) bytes: Bytes,
    pub(crate) urls: Vec<String>,
}

impl Blob {
    /// A blob of no type that matters.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (media_type, digest) = ("application/octet-stream".into(), sha256(bytes));
        Self { media_type, digest, bytes: shared(bytes), urls: Vec::new() }
    }

    fn descriptor(&self) -> Value {
        let mut descriptor =
            json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() });
        if !self.urls.is_empty() {
            descriptor["urls"] = json!(self.urls);
        }
        descriptor
    }
}

/// A manifest or index with everything below it, ready to be pushed.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) media_type: String,
    pub(crate) document: Bytes,
    /// What the digest is over: the document, but of a signed schema 1 manifest its payload.
    pub(crate) digested: Bytes,
    pub(crate) digest: String,
    pub(crate) config: Option<Blob>,
    pub(crate) layers: Vec<Blob>,
    pub(crate) diff_ids: Vec<String>,
    pub(crate) children: Vec<Built>,
}

impl Built {
    /// Any document under any media type, with nothing below it.
    pub(crate) fn raw(media_type: &str, document: impl Into<Vec<u8>>) -> Self {
        let document = shared(document);
        Self {
            media_type: media_type.into(),
            digest: sha256(&document),
            digested: document.clone(),
            document,
            config: None,
            layers: Vec::new(),
            diff_ids: Vec::new(),
            children: Vec::new(),
        }
    }

    fn of_json(media_type: &str, document: &Value) -> Self {
        Self::raw(media_type, serde_json::to_vec_pretty(document).unwrap())
    }

    pub(crate) fn descriptor(&self, platform: Option<Value>) -> Value {
        let mut descriptor = json!({
            "mediaType": self.media_type, "digest": self.digest, "size": self.document.len()
        });
        if let Some(platform) = platform {
            descriptor["platform"] = platform;
        }
        descriptor
    }
}

/// An OCI image for linux/amd64 without layers, to be added to.
pub(crate) fn image() -> Image {
    Image {
        docker: false,
        sha512: false,
        platform: platform_json("linux/amd64"),
        layers: Vec::new(),
        throwaways: Vec::new(),
        diff_id_lies: Vec::new(),
        rootfs: true,
        config: None,
        config_type: None,
        artifact_type: None,
        subject: None,
        annotations: Map::new(),
        urls: Vec::new(),
    }
}

/// An OCI artifact of this type: the empty config, layers that are plain blobs and no diff IDs.
pub(crate) fn artifact(artifact_type: &str) -> Image {
    let mut artifact = image();
    artifact.artifact_type = Some(artifact_type.into());
    artifact.config_type = Some(OCI_EMPTY.into());
    artifact.config = Some(b"{}".to_vec());
    artifact
}

/// An image under construction.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    docker: bool,
    sha512: bool,
    pub(super) platform: Value,
    pub(super) layers: Vec<Layer>,
    /// Steps without a layer, each with the number of layers below it. Only schema 1 shows them.
    pub(super) throwaways: Vec<(usize, String)>,
    diff_id_lies: Vec<(usize, String)>,
    rootfs: bool,
    config: Option<Vec<u8>>,
    config_type: Option<String>,
    artifact_type: Option<String>,
    subject: Option<Value>,
    annotations: Map<String, Value>,
    urls: Vec<(usize, Vec<String>)>,
}

#[derive(Debug, Clone)]
pub(super) struct Layer {
    bytes: Bytes,
    diff_id: String,
    kind: LayerKind,
}

#[derive(Debug, Clone)]
enum LayerKind {
    Tar(Compression),
    Typed(String),
}

impl Image {
    /// Adds a gzip layer: a tar with one file of this content.
    pub(crate) fn layer(self, content: impl AsRef<[u8]>) -> Self {
        self.layer_as(Compression::Gzip, content)
    }

    /// Adds a layer in the given compression: a tar with one file of this content.
    pub(crate) fn layer_as(mut self, compression: Compression, content: impl AsRef<[u8]>) -> Self {
        let tar = tar_of(self.layers.len(), content.as_ref());
        self.layers.push(Layer {
            bytes: shared(compression.encode(&tar)),
            diff_id: sha256(&tar),
            kind: LayerKind::Tar(compression),
        });
        self
    }

    /// Adds a layer of any type whose blob is exactly `bytes`; its diff ID is the digest of the same bytes.
    pub(crate) fn raw_layer(mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = shared(bytes);
        let diff_id = sha256(&bytes);
        self.layers.push(Layer { bytes, diff_id, kind: LayerKind::Typed(media_type.into()) });
        self
    }

    /// The `urls` of the layer at `position`. The registry has the layer all the same.
    pub(crate) fn urls<T: Into<String>>(
        mut self,
        position: usize,
        urls: impl IntoIterator<Item = T>,
    ) -> Self {
        self.urls.push((position, urls.into_iter().map(Into::into).collect()));
        self
    }

    /// Adds a step without a layer, which only a schema 1 manifest shows.
    pub(crate) fn throwaway(mut self, command: &str) -> Self {
        self.throwaways.push((self.layers.len(), command.into()));
        self
    }

    /// The platform in the config, as `os/architecture[/variant]`.
    pub(crate) fn platform(mut self, platform: &str) -> Self {
        self.platform = platform_json(platform);
        self
    }

    /// The config's `architecture`.
    pub(crate) fn architecture(mut self, architecture: &str) -> Self {
        self.platform["architecture"] = architecture.into();
        self
    }

    /// The config's `os`.
    pub(crate) fn os(mut self, os: &str) -> Self {
        self.platform["os"] = os.into();
        self
    }

    /// The config's `variant`.
    pub(crate) fn variant(mut self, variant: &str) -> Self {
        self.platform["variant"] = variant.into();
        self
    }

    /// Docker's media types (schema 2) instead of OCI's.
    pub(crate) fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// Digests of the manifest and of all blobs in sha512; diff IDs stay sha256.
    pub(crate) fn sha512(mut self) -> Self {
        self.sha512 = true;
        self
    }

    /// A config that has no `rootfs`.
    pub(crate) fn without_rootfs(mut self) -> Self {
        self.rootfs = false;
        self
    }

    /// Lets the config claim another diff ID for the layer at `position`.
    pub(crate) fn diff_id(mut self, position: usize, claim: impl Into<String>) -> Self {
        self.diff_id_lies.push((position, claim.into()));
        self
    }

    /// These bytes as the config, whatever they are.
    pub(crate) fn config_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.config = Some(bytes.into());
        self
    }

    /// An annotation of the manifest.
    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// The descriptor of what the manifest is about.
    pub(crate) fn subject(mut self, descriptor: Value) -> Self {
        self.subject = Some(descriptor);
        self
    }

    pub(super) fn digest_of(&self, bytes: &[u8]) -> String {
        if self.sha512 { sha512(bytes) } else { sha256(bytes) }
    }

    pub(super) fn diff_ids(&self) -> Vec<String> {
        let mut diff_ids: Vec<_> = self.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        for (position, claim) in &self.diff_id_lies {
            diff_ids[*position].clone_from(claim);
        }
        diff_ids
    }

    fn config(&self) -> Blob {
        let bytes = self.config.clone().unwrap_or_else(|| {
            let mut config = self.platform.clone();
            config["config"] = json!({});
            if self.rootfs {
                config["rootfs"] = json!({ "type": "layers", "diff_ids": self.diff_ids() });
            }
            serde_json::to_vec_pretty(&config).unwrap()
        });
        let standard = if self.docker { DOCKER_CONFIG } else { OCI_CONFIG };
        Blob {
            media_type: self.config_type.clone().unwrap_or_else(|| standard.into()),
            digest: self.digest_of(&bytes),
            bytes: shared(bytes),
            urls: Vec::new(),
        }
    }

    pub(super) fn blob(&self, layer: &Layer) -> Blob {
        let media_type = match &layer.kind {
            LayerKind::Typed(media_type) => media_type.clone(),
            LayerKind::Tar(compression) => layer_type(*compression, self.docker).into(),
        };
        let digest = self.digest_of(&layer.bytes);
        Blob { media_type, digest, bytes: layer.bytes.clone(), urls: Vec::new() }
    }
}

impl From<Image> for Built {
    fn from(image: Image) -> Self {
        let config = image.config();
        let mut layers: Vec<_> = image.layers.iter().map(|layer| image.blob(layer)).collect();
        for (position, urls) in &image.urls {
            layers[*position].urls.clone_from(urls);
        }
        let media_type = if image.docker { DOCKER_MANIFEST } else { OCI_MANIFEST };
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": media_type });
        if let Some(artifact_type) = &image.artifact_type {
            manifest["artifactType"] = artifact_type.as_str().into();
        }
        manifest["config"] = config.descriptor();
        manifest["layers"] = layers.iter().map(Blob::descriptor).collect();
        if let Some(subject) = &image.subject {
            manifest["subject"] = subject.clone();
        }
        if !image.annotations.is_empty() {
            manifest["annotations"] = Value::Object(image.annotations.clone());
        }
        let mut built = Self::of_json(media_type, &manifest);
        built.digest = image.digest_of(&built.document);
        built.diff_ids = if image.artifact_type.is_some() { Vec::new() } else { image.diff_ids() };
        built.config = Some(config);
        built.layers = layers;
        built
    }
}

impl From<&Image> for Built {
    fn from(image: &Image) -> Self {
        image.clone().into()
    }
}

/// An OCI image index without entries, to be added to.
pub(crate) fn index() -> Index {
    Index { docker: false, entries: Vec::new(), children: Vec::new(), subject: None, annotations: Map::new() }
}

/// An index under construction.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    docker: bool,
    entries: Vec<Value>,
    children: Vec<Built>,
    subject: Option<Value>,
    annotations: Map<String, Value>,
}

impl Index {
    /// Adds a manifest for the platform `os/architecture[/variant]`.
    pub(crate) fn manifest(self, content: impl Into<Built>, platform: &str) -> Self {
        self.listed(content, Some(platform_json(platform)))
    }

    /// Adds a manifest or a nested index with any platform object, or none.
    pub(crate) fn listed(mut self, content: impl Into<Built>, platform: Option<Value>) -> Self {
        let content = content.into();
        self.entries.push(content.descriptor(platform));
        self.children.push(content);
        self
    }

    /// Adds a descriptor as it is; nothing is pushed for it.
    pub(crate) fn entry(mut self, descriptor: Value) -> Self {
        self.entries.push(descriptor);
        self
    }

    /// Docker's manifest list instead of an OCI index.
    pub(crate) fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// The descriptor of what the index is about.
    pub(crate) fn subject(mut self, descriptor: Value) -> Self {
        self.subject = Some(descriptor);
        self
    }

    /// An annotation of the index.
    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }
}

impl From<Index> for Built {
    fn from(index: Index) -> Self {
        let media_type = if index.docker { DOCKER_LIST } else { OCI_INDEX };
        let mut document = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": index.entries });
        if let Some(subject) = index.subject {
            document["subject"] = subject;
        }
        if !index.annotations.is_empty() {
            document["annotations"] = Value::Object(index.annotations);
        }
        let mut built = Self::of_json(media_type, &document);
        built.children = index.children;
        built
    }
}

impl From<&Index> for Built {
    fn from(index: &Index) -> Self {
        index.clone().into()
    }
}

fn layer_type(compression: Compression, docker: bool) -> &'static str {
    match (compression, docker) {
        (Compression::Gzip | Compression::GzipMembers(_), false) => {
            "application/vnd.oci.image.layer.v1.tar+gzip"
        }
        (Compression::Zstd | Compression::ZstdFrames(_), false) => {
            "application/vnd.oci.image.layer.v1.tar+zstd"
        }
        (Compression::Plain, false) => "application/vnd.oci.image.layer.v1.tar",
        (Compression::Gzip | Compression::GzipMembers(_), true) => {
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
        }
        (Compression::Zstd | Compression::ZstdFrames(_), true) => {
            "application/vnd.docker.image.rootfs.diff.tar.zstd"
        }
        (Compression::Plain, true) => "application/vnd.docker.image.rootfs.diff.tar",
    }
}

fn platform_json(platform: &str) -> Value {
    let mut parts = platform.split('/');
    let mut json = json!({ "architecture": "", "os": parts.next().unwrap() });
    json["architecture"] = parts.next().expect("a platform is OS/ARCHITECTURE[/VARIANT]").into();
    if let Some(variant) = parts.next() {
        json["variant"] = variant.into();
    }
    json
}
