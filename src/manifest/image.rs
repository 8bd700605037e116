//! Image manifests and indexes as they were read: OCI's, and Docker's, which have the same shape.
//!
//! Their fields are private so that the bytes and what was read from them cannot come to disagree.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::document::{self, Fault, Object};
use super::{Descriptor, MediaType};

/// The manifest of one image, or of an artifact ("OCI Image Manifest", "Image Manifest Version 2, Schema 2").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    raw: Bytes,
    media_type: MediaType,
    artifact_type: Option<String>,
    config: Box<Descriptor>,
    layers: Vec<Descriptor>,
    subject: Option<Box<Descriptor>>,
    annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    pub(super) fn read(object: &Object<'_>, raw: Bytes, media_type: MediaType) -> Result<Self, Fault> {
        Ok(Self {
            raw,
            media_type,
            artifact_type: object.text("artifactType")?,
            config: object.required("config", Descriptor::read)?.into(),
            layers: object.optional("layers", descriptors)?.unwrap_or_default(),
            subject: object.optional("subject", Descriptor::read)?.map(Box::new),
            annotations: object.optional("annotations", document::text_map)?.unwrap_or_default(),
        })
    }

    /// The bytes as they were received.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// OCI's or Docker's type of image manifests.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// What kind of artifact it is, where the manifest says so itself.
    pub fn artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref()
    }

    /// The config.
    pub fn config(&self) -> &Descriptor {
        &self.config
    }

    /// The layers, the lowest first; an artifact's blobs.
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// The manifest that this one is about, for a signature or an SBOM.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_deref()
    }

    /// The annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Whether it is a container image, whose config has a platform and diff IDs. With any other config it is an
    /// artifact, and its config a blob like any other.
    ///
    /// Early pushers of Docker's schema 2 wrote a generic type for the config, or none; moby takes those for images,
    /// and so must whoever proves them.
    pub fn is_image(&self) -> bool {
        let config = &self.config.media_type;
        config.is_image_config() || (self.media_type.is_docker() && UNTYPED.contains(&config.as_str()))
    }
}

/// What stands for Docker's config type in old schema 2 manifests.
const UNTYPED: [&str; 4] = ["", "application/octet-stream", "application/json", "text/html"];

/// A list of manifests ("OCI Image Index", Docker's "Manifest List").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIndex {
    raw: Bytes,
    media_type: MediaType,
    artifact_type: Option<String>,
    manifests: Vec<Descriptor>,
    subject: Option<Box<Descriptor>>,
    annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    pub(super) fn read(object: &Object<'_>, raw: Bytes, media_type: MediaType) -> Result<Self, Fault> {
        Ok(Self {
            raw,
            media_type,
            artifact_type: object.text("artifactType")?,
            manifests: object.required("manifests", descriptors)?,
            subject: object.optional("subject", Descriptor::read)?.map(Box::new),
            annotations: object.optional("annotations", document::text_map)?.unwrap_or_default(),
        })
    }

    /// The bytes as they were received.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// OCI's type of indexes or Docker's of manifest lists.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// What kind of artifact it is, where the index says so itself.
    pub fn artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref()
    }

    /// The entries, in order: manifests, nested indexes, and whatever else somebody put there.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// The manifest that this index is about.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_deref()
    }

    /// The annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }
}

fn descriptors(value: &RawValue) -> Result<Vec<Descriptor>, Fault> {
    document::elements(value, Descriptor::read)
}
