//! Descriptors: the image spec's "OCI Content Descriptors", which Docker's manifests share.
//!
//! A [`Descriptor`] that was read has a digest that is valid and a size that fits into 63 bits. Whether the content
//! holds to them is for others to prove.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::platform::Platform;

use super::document::{self, Fault, Object};
use super::{ManifestError, MediaType};

const DESCRIPTOR_KEYS: [&str; 8] =
    ["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"];

/// `features` is Docker's: CPU features, which the image spec keeps reserved and nobody matches on.
const PLATFORM_KEYS: [&str; 6] = ["architecture", "os", "os.version", "os.features", "variant", "features"];

/// Standard base64 with padding whose spare bits do not matter: what Go's decoder takes.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// What a manifest says about one piece of content. Serialises as the image spec has it, without empty fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's type; empty where the descriptor has none.
    #[serde(skip_serializing_if = "MediaType::is_empty")]
    pub media_type: MediaType,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// Where the content may be had besides the registry. Not checked in any way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Whatever somebody wrote about the content.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself in base64, as it stands; see [`Descriptor::embedded_data`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The type of the artifact, where the content is an artifact's manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The platform that the content, an image's manifest, is for. May be there and empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor with the three fields that each one has.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            artifact_type: None,
            platform: None,
        }
    }

    /// Reads one descriptor, such as an entry of a layout's `index.json`, under the rules that hold for those inside
    /// of manifests: a valid digest and a size must be there, null counts as absent, unknown fields are passed over.
    ///
    /// # Errors
    /// [`ManifestError::NotJson`] for what is not one JSON value, [`ManifestError::ByteOrderMark`], and
    /// [`ManifestError::Field`] for everything inside of it.
    pub fn from_json(text: &str) -> Result<Self, ManifestError> {
        const NAME: &str = "descriptor";
        let text = document::utf8(text.as_bytes(), NAME)?;
        Self::read(document::value(text, NAME)?).map_err(|fault| fault.in_document(NAME))
    }

    pub(super) fn read(value: &RawValue) -> Result<Self, Fault> {
        let object = Object::read(value, &DESCRIPTOR_KEYS)?;
        Ok(Self {
            media_type: object.text("mediaType")?.unwrap_or_default().into(),
            digest: object.required("digest", document::digest)?,
            size: object.required("size", document::size)?,
            urls: object.optional("urls", document::texts)?.unwrap_or_default(),
            annotations: object.optional("annotations", document::text_map)?.unwrap_or_default(),
            data: object.text("data")?,
            artifact_type: object.text("artifactType")?,
            platform: object.optional("platform", platform)?,
        })
    }

    /// Whether the content lives at URLs of its own ("foreign", "non-distributable"), the registry being only the last
    /// place to ask. The `urls` say so and not the media type: tools write either without the other.
    pub fn is_elsewhere(&self) -> bool {
        !self.urls.is_empty()
    }

    /// The content that the descriptor itself carries, when it is the content that the descriptor describes: its size
    /// and its digest hold. `None` where there is no `data`, or where it must not be used; the content is then to be
    /// had where it always is.
    ///
    /// An empty `data` counts as none, as it does for Go: whether it stands there makes no difference to anyone.
    pub fn embedded_data(&self) -> Option<Bytes> {
        // Go's decoder passes over line breaks.
        let encoded: Vec<u8> =
            self.data.as_ref()?.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        let content = BASE64.decode(encoded).ok()?;
        let holds = u64::try_from(content.len()) == Ok(self.size)
            && self.digest.algorithm().digest(&content) == self.digest;
        holds.then(|| content.into())
    }
}

/// The media type that a descriptor claims, before anything else of it is looked at.
pub(super) fn claimed_media_type(value: &RawValue) -> Result<MediaType, Fault> {
    let object = Object::read(value, &DESCRIPTOR_KEYS)?;
    Ok(object.text("mediaType")?.unwrap_or_default().into())
}

fn platform(value: &RawValue) -> Result<Platform, Fault> {
    let object = Object::read(value, &PLATFORM_KEYS)?;
    object.optional("features", document::texts)?;
    Ok(Platform {
        os: object.text("os")?.unwrap_or_default(),
        architecture: object.text("architecture")?.unwrap_or_default(),
        variant: object.text("variant")?,
        os_version: object.text("os.version")?,
        os_features: object.optional("os.features", document::texts)?.unwrap_or_default(),
    })
}
