//! Docker's image manifest version 2, schema 1: what every registry had before 2016.
//!
//! Only what tells such a document apart is read here. In a signed one nothing that stands beside the signature's
//! payload is covered by the digest, so `name` and `tag` are for messages and decide nothing.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::document::{self, Fault, Object};
use super::error::Problem;
use super::{DOCUMENT, DOCUMENT_KEYS, ManifestError, MediaType};

/// The keys that only schema 1 has, beyond those that tell manifests apart.
const SCHEMA1_KEYS: [&str; 3] = ["name", "tag", "architecture"];

/// A schema 1 manifest: one history entry a layer, each layer with a valid digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema1Manifest {
    raw: Bytes,
    media_type: MediaType,
    name: String,
    tag: String,
    signed: bool,
}

impl Schema1Manifest {
    pub(super) fn read(value: &RawValue, raw: Bytes, media_type: MediaType) -> Result<Self, ManifestError> {
        let parse = || {
            let keys: Vec<_> = DOCUMENT_KEYS.into_iter().chain(SCHEMA1_KEYS).collect();
            let object = Object::read(value, &keys)?;
            let layers = object.required("fsLayers", |value| entries(value, "blobSum", document::digest))?;
            let history =
                object.required("history", |value| entries(value, "v1Compatibility", document::text))?;
            let manifest = Self {
                raw,
                media_type,
                name: object.text("name")?.unwrap_or_default(),
                tag: object.text("tag")?.unwrap_or_default(),
                signed: object.has("signatures"),
            };
            Ok((manifest, layers, history))
        };
        let (manifest, layers, history) = parse().map_err(|fault: Fault| fault.in_document(DOCUMENT))?;
        if layers != history {
            return Err(ManifestError::UnevenHistory { layers, history });
        }
        Ok(manifest)
    }

    /// The bytes as they were received. The digest of a signed manifest is that of its payload, not of these.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The type under which it was served, or which its signatures tell.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The repository that the document names; empty where it names none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag that the document names; empty where it names none.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Whether it carries signatures. They are not checked.
    pub fn is_signed(&self) -> bool {
        self.signed
    }
}

/// How many entries a list has, of which each is an object with `key`, checked through `read`.
fn entries<T>(
    value: &RawValue,
    key: &'static str,
    read: impl Fn(&RawValue) -> Result<T, Fault>,
) -> Result<usize, Fault> {
    let entries = document::elements(value, |entry| {
        Object::read(entry, &[key])?.required(key, &read)?;
        Ok(())
    })?;
    if entries.is_empty() {
        return Err(Problem::Empty.into());
    }
    Ok(entries.len())
}
