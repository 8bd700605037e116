//! Docker's image manifest version 2, schema 1: what every registry had before 2016.
//!
//! Such a manifest lists layers, the topmost first, and beside each the image config of its time as a string of JSON
//! (`v1Compatibility`). There is no config blob, there are no sizes and no diff IDs: [`Schema1Manifest::image`] checks the
//! history by the rules that Docker's daemon holds to, and [`Schema1Image`] makes the config, byte for byte the one that
//! Docker makes, as soon as somebody knows the layers' diff IDs.
//!
//! A signed manifest's digest is over its payload, which is the document without the block of signatures. Whatever decides
//! something is read from that payload, never from the document around it: keys that are added beside the signatures would
//! pass the check of the digest. The signatures themselves are not checked, as nobody's are: Docker generated a key for
//! each push.
//!
//! | file | what it knows |
//! |---|---|
//! | `signature` | what a signed document's payload is |
//! | `history` | which entries count, and what each says |
//! | `image` | the config and the OCI manifest that come out |
//! | `docker` | the types that Docker reads configs of old into and writes those before 1.8.3 from |
//! | `go` | how Go reads and writes JSON and times, where bytes depend on it |

mod docker;
mod go;
mod history;
mod image;
mod signature;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::document::{self, Fault, Object};
use super::error::Problem;
use super::{DOCUMENT, DOCUMENT_KEYS, MANIFEST_CAP, ManifestError, MediaType, check_cap, kind};
use crate::digest::Digest;

pub use image::Schema1Image;

/// The keys that only schema 1 has, beyond those that tell manifests apart.
const SCHEMA1_KEYS: [&str; 3] = ["name", "tag", "architecture"];

/// A schema 1 manifest: one history entry a layer, each layer with a valid digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema1Manifest {
    raw: Bytes,
    payload: Bytes,
    media_type: MediaType,
    name: String,
    tag: String,
    architecture: String,
    signed: bool,
    /// The topmost first, as they stand; as many as there are history entries.
    layers: Vec<Digest>,
    history: Vec<String>,
}

impl Schema1Manifest {
    /// Reads the manifest whose outermost keys are in `object`, as they were received.
    pub(super) fn read(
        object: &Object<'_>,
        raw: Bytes,
        media_type: MediaType,
    ) -> Result<Self, ManifestError> {
        let signed = object.has("signatures");
        let payload = signature::payload(object, &raw).map_err(in_document)?.unwrap_or_else(|| raw.clone());
        check_cap(&payload, DOCUMENT, MANIFEST_CAP)?;
        let value = document::value(document::utf8(&payload, DOCUMENT)?, DOCUMENT)?;
        let keys: Vec<_> = DOCUMENT_KEYS.into_iter().chain(SCHEMA1_KEYS).collect();
        let object = Object::read(value, &keys).map_err(in_document)?;
        kind::determine(&object, Some(media_type.clone()))?;
        let fields = Fields::read(&object).map_err(in_document)?;
        let (layers, history) = (fields.layers.len(), fields.history.len());
        if layers != history {
            return Err(ManifestError::UnevenHistory { layers, history });
        }
        let Fields { name, tag, architecture, layers, history } = fields;
        Ok(Self {
            payload: payload.clone(),
            raw,
            media_type,
            name,
            tag,
            architecture,
            signed,
            layers,
            history,
        })
    }

    /// The payload of a signed schema 1 manifest, which its digest is over; `None` for bytes that are anything else, whose
    /// digest is over all of them. So a digest can be checked before anything that depends on it is read.
    ///
    /// # Errors
    /// [`ManifestError::Field`] for a block of signatures that is malformed or that contradicts itself.
    pub fn signed_payload(raw: &Bytes) -> Result<Option<Bytes>, ManifestError> {
        let text = document::utf8(raw, DOCUMENT).ok();
        let Some(value) = text.and_then(|text| document::value(text, DOCUMENT).ok()) else { return Ok(None) };
        let Ok(object) = Object::read(value, &DOCUMENT_KEYS) else { return Ok(None) };
        match object.required("schemaVersion", document::integer) {
            Ok(1) => signature::payload(&object, raw).map_err(in_document),
            _ => Ok(None),
        }
    }

    /// The bytes as they were received. The digest of a signed manifest is that of its [payload](Self::payload).
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The bytes that the digest is over and that everything was read from: the document without its block of signatures
    /// where there is one, white space and indentation kept, and else all of it.
    pub fn payload(&self) -> &Bytes {
        &self.payload
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

    /// The architecture that the document names; empty where it names none.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Whether it carries signatures. They are not checked.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// The image, its history checked.
    ///
    /// # Errors
    /// [`ManifestError::Field`] for a history entry that is not a config of old with a valid ID,
    /// [`ManifestError::BaseWithParent`], [`ManifestError::BrokenChain`] and [`ManifestError::RepeatedId`] for a history that
    /// does not hang together, [`ManifestError::TooLarge`] where the config would be.
    pub fn image(&self) -> Result<Schema1Image, ManifestError> {
        Schema1Image::of(self)
    }
}

/// What the payload says.
struct Fields {
    name: String,
    tag: String,
    architecture: String,
    layers: Vec<Digest>,
    history: Vec<String>,
}

impl Fields {
    fn read(object: &Object<'_>) -> Result<Self, Fault> {
        let text = |key| object.text(key).map(Option::unwrap_or_default);
        Ok(Self {
            name: text("name")?,
            tag: text("tag")?,
            architecture: text("architecture")?,
            layers: object.required("fsLayers", |value| entries(value, "blobSum", document::digest))?,
            history: object.required("history", |value| entries(value, "v1Compatibility", document::text))?,
        })
    }
}

/// The entries of a list, each being an object of which `key` is what counts. An empty list is no list.
fn entries<T>(
    value: &RawValue,
    key: &'static str,
    read: impl Fn(&RawValue) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let entries = document::elements(value, |entry| Object::read(entry, &[key])?.required(key, &read))?;
    if entries.is_empty() {
        return Err(Problem::Empty.into());
    }
    Ok(entries)
}

fn in_document(fault: Fault) -> ManifestError {
    fault.in_document(DOCUMENT)
}
