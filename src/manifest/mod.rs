//! Manifests, descriptors and image configs: read strictly, and kept as the bytes that were received.
//!
//! [`Manifest::parse`] takes OCI's image manifests and indexes (image spec, "Image Manifest" and "Image Index"), Docker's
//! manifests and lists (version 2, schema 2), and Docker's schema 1, of which [`Schema1Manifest::image`] makes an image. It
//! guarantees:
//!
//! - what was read cannot disagree with the bytes, which stay as they were, because digests and signatures cover them;
//! - other readers see the same in them: a document that is two kinds at once, that repeats a key, or that has a key in
//!   another case, is refused (CVE-2021-41190), and so are bytes that only some readers take;
//! - every digest is valid and every size fits into 63 bits;
//! - what may be absent may be null, and what is not known is passed over, as deep as it goes.
//!
//! [`ImageConfig::parse`] reads of a config what is checked or shown, and as Go tools read it. The digests themselves
//! are checked by whoever fetched the bytes. Nothing here does I/O.

mod config;
pub mod convert;
mod descriptor;
mod document;
pub(crate) mod edit;
mod error;
mod image;
mod kind;
mod media_type;
pub mod nesting;
mod schema1;
mod splice;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::digest::{Algorithm, Digest};

pub use config::{HistoryEntry, ImageConfig};
pub use descriptor::Descriptor;
pub use error::{ManifestError, Problem};
pub use image::{ImageIndex, ImageManifest};
pub use media_type::{Compression, DocumentKind, MediaType};
pub use schema1::{Schema1Image, Schema1Manifest};

/// The most bytes that a manifest may have: what registries and containers/image hold to.
pub const MANIFEST_CAP: usize = 4 << 20;

/// The most bytes that an image config may have.
pub const CONFIG_CAP: usize = 8 << 20;

/// What messages call a manifest.
const DOCUMENT: &str = "manifest";

/// The keys that the specifications define for any kind of manifest and that readers act on.
const DOCUMENT_KEYS: [&str; 11] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
    "history",
    "signatures",
];

/// A manifest of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// One image, or an artifact.
    Image(ImageManifest),
    /// A list of manifests.
    Index(ImageIndex),
    /// Docker's schema 1.
    Schema1(Schema1Manifest),
}

impl Manifest {
    /// Reads a manifest. `content_type` is the header as it came, parameters and all; `None`, and types that servers
    /// put on anything (`application/json`, `text/plain`, `application/octet-stream`), leave the kind to the document.
    ///
    /// A document without any type that has an image's or an index's keys counts as OCI's, unless its config is Docker's.
    ///
    /// # Errors
    /// [`ManifestError`], always of [`Kind::Integrity`](crate::failure::Kind::Integrity): more than [`MANIFEST_CAP`]
    /// bytes, a type that is no manifest's or that the document contradicts, bytes that are not one JSON document in
    /// UTF-8, keys that are ambiguous, the wrong `schemaVersion`, and fields that are missing or hold something wrong.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the manifest keeps the bytes, and its parts borrow them first"
    )]
    pub fn parse(raw: Bytes, content_type: Option<&str>) -> Result<Self, ManifestError> {
        check_cap(&raw, DOCUMENT, MANIFEST_CAP)?;
        let declared = kind::declared(content_type)?;
        let value = document::value(document::utf8(&raw, DOCUMENT)?, DOCUMENT)?;
        let in_document = |fault: document::Fault| fault.in_document(DOCUMENT);
        let object = document::Object::read(value, &DOCUMENT_KEYS).map_err(in_document)?;
        let media_type = kind::determine(&object, declared)?;
        let raw = raw.clone();
        match media_type.kind() {
            DocumentKind::ImageManifest => {
                ImageManifest::read(&object, raw, media_type).map(Self::Image).map_err(in_document)
            }
            DocumentKind::Index => {
                ImageIndex::read(&object, raw, media_type).map(Self::Index).map_err(in_document)
            }
            DocumentKind::Schema1 => Schema1Manifest::read(&object, raw, media_type).map(Self::Schema1),
            DocumentKind::Other => Err(ManifestError::UnsupportedMediaType { media_type }),
        }
    }

    /// Reads a manifest that an index lists as `listed`. Where neither the header nor the document says what it is, the
    /// index does; where one of them says otherwise, two tools would see two things (CVE-2021-41190).
    ///
    /// # Errors
    /// As [`Manifest::parse`], and [`ManifestError::ListedOtherwise`].
    pub fn parse_listed(
        raw: Bytes,
        content_type: Option<&str>,
        listed: &MediaType,
    ) -> Result<Self, ManifestError> {
        let silent = kind::tells_nothing(content_type) && !listed.is_empty();
        let manifest = Self::parse(raw, if silent { Some(listed.as_str()) } else { content_type })?;
        let media_type = manifest.media_type();
        let agrees = media_type == listed || (media_type.is_schema1() && listed.is_schema1());
        if agrees || listed.is_empty() {
            return Ok(manifest);
        }
        Err(ManifestError::ListedOtherwise { listed: listed.clone(), media_type: media_type.clone() })
    }

    /// The bytes as they were received.
    pub fn raw(&self) -> &Bytes {
        match self {
            Self::Image(manifest) => manifest.raw(),
            Self::Index(index) => index.raw(),
            Self::Schema1(manifest) => manifest.raw(),
        }
    }

    /// The type: one of [`MediaType::MANIFESTS`].
    pub fn media_type(&self) -> &MediaType {
        match self {
            Self::Image(manifest) => manifest.media_type(),
            Self::Index(index) => index.media_type(),
            Self::Schema1(manifest) => manifest.media_type(),
        }
    }

    /// The bytes that a digest of the manifest is over: all of them, but of a signed schema 1 manifest its payload.
    pub fn digested(&self) -> &Bytes {
        match self {
            Self::Image(_) | Self::Index(_) => self.raw(),
            Self::Schema1(manifest) => manifest.payload(),
        }
    }

    /// What kind of artifact the manifest says that it is.
    pub fn stated_artifact_type(&self) -> Option<&str> {
        let stated = match self {
            Self::Image(manifest) => manifest.artifact_type(),
            Self::Index(index) => index.artifact_type(),
            Self::Schema1(_) => None,
        };
        stated.filter(|text| !text.is_empty())
    }

    /// What kind of artifact a list of referrers has it as: what it says, or the type of its config (distribution spec,
    /// "Listing Referrers").
    pub fn artifact_type(&self) -> Option<&str> {
        let of_config = match self {
            Self::Image(manifest) => Some(manifest.config().media_type.as_str()),
            Self::Index(_) | Self::Schema1(_) => None,
        };
        self.stated_artifact_type().or(of_config).filter(|text| !text.is_empty())
    }

    /// The manifest that this one is about.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(manifest) => manifest.subject(),
            Self::Index(index) => index.subject(),
            Self::Schema1(_) => None,
        }
    }

    /// Its descriptor in a list of referrers, which has its artifact type and all of its annotations. `digest` is that of
    /// its bytes.
    pub fn as_referrer(&self, digest: Digest) -> Descriptor {
        let annotations = match self {
            Self::Image(manifest) => manifest.annotations().clone(),
            Self::Index(index) => index.annotations().clone(),
            Self::Schema1(_) => std::collections::BTreeMap::new(),
        };
        Descriptor {
            artifact_type: self.artifact_type().map(str::to_owned),
            annotations,
            ..Descriptor::new(self.media_type().clone(), digest, self.raw().len() as u64)
        }
    }

    /// The descriptor of the manifest, its digest computed with `algorithm`: type, digest, size, and the artifact type
    /// where the manifest has one. The size is that of the bytes as they were received, also where the digest is over
    /// [less of them](Self::digested): that is what registries and indexes say.
    pub fn descriptor(&self, algorithm: Algorithm) -> Descriptor {
        let artifact_type = match self {
            Self::Image(manifest) => manifest.artifact_type(),
            Self::Index(index) => index.artifact_type(),
            Self::Schema1(_) => None,
        };
        Descriptor {
            artifact_type: artifact_type.map(str::to_owned),
            ..Descriptor::new(
                self.media_type().clone(),
                algorithm.digest(self.digested()),
                self.raw().len() as u64,
            )
        }
    }
}

fn check_cap(raw: &[u8], document: &'static str, cap: usize) -> Result<(), ManifestError> {
    if raw.len() > cap {
        return Err(ManifestError::TooLarge { document, size: raw.len(), cap });
    }
    Ok(())
}
