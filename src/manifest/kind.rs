//! What kind of manifest a document is: its `Content-Type`, its own `mediaType`, its keys, and that these agree.
//!
//! - A `Content-Type` that names a manifest counts, and the document's own `mediaType`, where it has one, must be the
//!   same. The two types of schema 1 count as the same: registries serve signed documents under either.
//! - Without a `Content-Type`, or with one that servers put on anything, the document's own `mediaType` counts.
//! - Without either the keys count. The guess is then an OCI type, as OCI documents are the ones that may come without
//!   a `mediaType`; only a manifest whose config is Docker's is taken for Docker's, as containers/image does.
//!
//! Whatever was found, a document with a key of another kind is refused (CVE-2021-41190). A key whose value is null
//! counts as absent, as containers/image has it.

use super::descriptor::claimed_media_type;
use super::document::{self, Fault, Object};
use super::{DOCUMENT, DocumentKind, ManifestError, MediaType};

/// What servers send that know nothing about the document.
const GENERIC: [&str; 4] = ["", "application/json", "text/plain", "application/octet-stream"];

/// The keys that tell a kind: a document of that kind may have them, no other may.
const TELLING: [(DocumentKind, &[&str]); 3] = [
    (DocumentKind::ImageManifest, &["config", "layers"]),
    (DocumentKind::Index, &["manifests"]),
    (DocumentKind::Schema1, &["fsLayers", "history"]),
];

/// The type that a `Content-Type` header names: parameters dropped, in lower case; `None` where it says nothing.
pub(super) fn declared(content_type: Option<&str>) -> Result<Option<MediaType>, ManifestError> {
    let header = content_type.unwrap_or_default();
    let essence = header.split_once(';').map_or(header, |(essence, _parameters)| essence);
    let essence = essence.trim_ascii().to_ascii_lowercase();
    if GENERIC.contains(&essence.as_str()) {
        return Ok(None);
    }
    let declared = MediaType::from(essence);
    if declared.kind() == DocumentKind::Other {
        return Err(ManifestError::UnsupportedContentType { content_type: declared });
    }
    Ok(Some(declared))
}

/// Whether a `Content-Type` tells nothing, so that the type has to come from elsewhere.
pub(super) fn tells_nothing(content_type: Option<&str>) -> bool {
    matches!(declared(content_type), Ok(None))
}

/// The document's type, with every rule of this module checked, and the version of its schema with them.
pub(super) fn determine(
    object: &Object<'_>,
    declared: Option<MediaType>,
) -> Result<MediaType, ManifestError> {
    let own = object.text("mediaType").map_err(in_document)?.map(MediaType::from);
    let media_type = match (declared, own) {
        (Some(declared), Some(own)) => agreed(declared, own)?,
        (Some(declared), None) => declared,
        (None, Some(own)) if own.kind() == DocumentKind::Other => {
            return Err(ManifestError::UnsupportedMediaType { media_type: own });
        }
        (None, Some(own)) => own,
        (None, None) => guessed(object)?,
    };
    check_keys(object, &media_type)?;
    check_version(object, &media_type)?;
    Ok(media_type)
}

fn agreed(content_type: MediaType, media_type: MediaType) -> Result<MediaType, ManifestError> {
    if content_type == media_type || (content_type.is_schema1() && media_type.is_schema1()) {
        Ok(content_type)
    } else {
        Err(ManifestError::ContradictoryTypes { content_type, media_type })
    }
}

fn guessed(object: &Object<'_>) -> Result<MediaType, ManifestError> {
    let told = TELLING.iter().find(|(_, keys)| keys.iter().any(|key| object.has(key)));
    match told.map(|(kind, _)| kind) {
        Some(DocumentKind::ImageManifest) => {
            let config =
                object.optional("config", claimed_media_type).map_err(in_document)?.unwrap_or_default();
            let docker = config == MediaType::DOCKER_CONFIG;
            Ok(if docker { MediaType::DOCKER_MANIFEST } else { MediaType::OCI_MANIFEST })
        }
        Some(DocumentKind::Index) => Ok(MediaType::OCI_INDEX),
        Some(_) if object.has("signatures") => Ok(MediaType::DOCKER_SCHEMA1_SIGNED),
        Some(_) => Ok(MediaType::DOCKER_SCHEMA1),
        None => Err(ManifestError::Unrecognised),
    }
}

fn check_keys(object: &Object<'_>, media_type: &MediaType) -> Result<(), ManifestError> {
    let foreign = TELLING
        .iter()
        .filter(|(kind, _)| *kind != media_type.kind())
        .flat_map(|(_, keys)| keys.iter())
        .find(|key| object.has(key));
    match foreign {
        Some(key) => Err(ManifestError::Ambiguous { media_type: media_type.clone(), key }),
        None => Ok(()),
    }
}

fn check_version(object: &Object<'_>, media_type: &MediaType) -> Result<(), ManifestError> {
    let wanted = if media_type.is_schema1() { 1 } else { 2 };
    let found = object.required("schemaVersion", document::integer).map_err(in_document)?;
    if found != wanted {
        return Err(ManifestError::SchemaVersion { media_type: media_type.clone(), wanted, found });
    }
    Ok(())
}

fn in_document(fault: Fault) -> ManifestError {
    fault.in_document(DOCUMENT)
}
