//! Why a manifest, a descriptor or an image config is not taken.

use crate::digest::DigestError;
use crate::failure::{Failure, Kind};

use super::MediaType;

/// Why a document is refused. Each is a failure of [`Kind::Integrity`]: the bytes are what the registry holds, and
/// asking again does not make them better.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The document is larger than any such document may be.
    #[error("{document}: {size} bytes, and at most {cap} are allowed")]
    TooLarge {
        /// What was read: `manifest` or `image config`.
        document: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The most bytes that are allowed.
        cap: usize,
    },
    /// The document is not UTF-8.
    #[error("{document}: not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// What was read.
        document: &'static str,
        /// Where the first wrong byte is, counted from zero.
        offset: usize,
    },
    /// The document begins with a byte order mark, which JSON forbids and some readers skip.
    #[error("{document}: begins with a byte order mark")]
    ByteOrderMark {
        /// What was read.
        document: &'static str,
    },
    /// The document is not JSON, or something follows it.
    #[error("{document}: not JSON: {reason}")]
    NotJson {
        /// What was read.
        document: &'static str,
        /// What the reader found, with line and column.
        reason: String,
    },
    /// A field is missing or does not hold what it must.
    #[error("{document}: {path} {problem}")]
    Field {
        /// What was read: `manifest`, `image config` or `descriptor`.
        document: &'static str,
        /// Where, such as `layers[3].digest`; `the document` for its outermost object.
        path: String,
        /// What is wrong there.
        problem: Problem,
    },
    /// The `Content-Type` is neither a manifest's nor one that says nothing.
    #[error("manifest: Content-Type \"{content_type}\" is not a manifest's")]
    UnsupportedContentType {
        /// The header's type, without parameters.
        content_type: MediaType,
    },
    /// The document's own `mediaType` is not a manifest's.
    #[error("manifest: mediaType \"{media_type}\" is not a manifest's")]
    UnsupportedMediaType {
        /// The type that it claims.
        media_type: MediaType,
    },
    /// The `Content-Type` and the document's own `mediaType` are not the same.
    #[error("manifest: served as \"{content_type}\", but its mediaType is \"{media_type}\"")]
    ContradictoryTypes {
        /// The header's type.
        content_type: MediaType,
        /// The document's.
        media_type: MediaType,
    },
    /// The index that lists the document calls it something else.
    #[error("manifest: listed as \"{listed}\", but it is \"{media_type}\"")]
    ListedOtherwise {
        /// The type in the index.
        listed: MediaType,
        /// What the document is.
        media_type: MediaType,
    },
    /// Neither a type nor a key tells what kind of manifest it is.
    #[error("manifest: has no media type and none of the keys config, layers, manifests, fsLayers")]
    Unrecognised,
    /// The document has a key of another kind of manifest, so that two readers may see two images in it
    /// (CVE-2021-41190).
    #[error("manifest: ambiguous: \"{key}\" does not belong into \"{media_type}\"")]
    Ambiguous {
        /// What the document is.
        media_type: MediaType,
        /// The key of another kind.
        key: &'static str,
    },
    /// `schemaVersion` is not the one of its kind.
    #[error("manifest: schemaVersion is {found}, and \"{media_type}\" has {wanted}")]
    SchemaVersion {
        /// What the document is.
        media_type: MediaType,
        /// The version of that kind.
        wanted: i64,
        /// The version found.
        found: i64,
    },
    /// A schema 1 manifest does not have one history entry a layer.
    #[error("manifest: {layers} fsLayers, but {}", entries(*.history))]
    UnevenHistory {
        /// How many layers there are.
        layers: usize,
        /// How many history entries.
        history: usize,
    },
    /// The base of a schema 1 image names a parent, so that something below it is missing.
    #[error("manifest: history[{entry}] is the base, but names the parent \"{parent}\"")]
    BaseWithParent {
        /// The entry, counted from zero, the topmost first.
        entry: usize,
        /// The parent's ID, capped and escaped.
        parent: String,
    },
    /// An entry of a schema 1 history names another parent than the entry below it.
    #[error("manifest: history[{entry}] names the parent \"{parent}\", but stands on {below}")]
    BrokenChain {
        /// The entry, counted from zero, the topmost first.
        entry: usize,
        /// The parent's ID, capped and escaped.
        parent: String,
        /// The ID of the entry below.
        below: String,
    },
    /// An ID occurs in a schema 1 history once more, after others.
    #[error("manifest: history[{entry}] repeats the ID {id}, after other entries")]
    RepeatedId {
        /// The entry, counted from zero, the topmost first.
        entry: usize,
        /// The ID.
        id: String,
    },
    /// The config of a schema 1 image was asked for with too many diff IDs, or too few.
    #[error("manifest: {layers} layers, but {diff_ids} diff IDs")]
    UnevenDiffIds {
        /// How many layers the image has.
        layers: usize,
        /// How many diff IDs were given.
        diff_ids: usize,
    },
}

/// What is wrong with one field; it follows the field's path in a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is not there, or null.
    #[error("is missing")]
    Missing,
    /// It has nothing in it.
    #[error("is empty")]
    Empty,
    /// It has another JSON type.
    #[error("is {found}, not {wanted}")]
    WrongType {
        /// The type that it must have, with its article.
        wanted: &'static str,
        /// The type that it has.
        found: &'static str,
    },
    /// It is not a digest.
    #[error("is not a valid digest: {0}")]
    Digest(DigestError),
    /// It is a number with a fraction or an exponent, which Go tools refuse for a whole number.
    #[error("is {number}, not a whole number in plain digits")]
    NotWhole {
        /// The number as written.
        number: String,
    },
    /// It is less than zero.
    #[error("is negative: {number}")]
    Negative {
        /// The number as written.
        number: String,
    },
    /// It does not fit into 63 bits.
    #[error("is too large a number: {number}")]
    TooLarge {
        /// The number as written.
        number: String,
    },
    /// An object has a key twice, of which readers take either.
    #[error("has the key \"{key}\" twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// An object has a key that Go tools take for one of the specification's, because they ignore case.
    #[error("has the key \"{key}\", which some readers take for \"{known}\"")]
    CaseVariant {
        /// The key as written.
        key: String,
        /// The specification's key.
        known: &'static str,
    },
    /// It is not the ID of an image of old.
    #[error("is not an image ID, which has 64 lower-case hex digits: \"{id}\"")]
    ImageId {
        /// The text as written.
        id: String,
    },
    /// It is not a time as Go tools read it.
    #[error("is not a time of RFC 3339: \"{time}\"")]
    Time {
        /// The text as written.
        time: String,
    },
    /// It is not base64 with the alphabet for URLs.
    #[error("is not base64url")]
    NotBase64,
    /// It is a length that goes past the document's end.
    #[error("is {length}, and the document has {size} bytes")]
    PastTheEnd {
        /// The length as written.
        length: String,
        /// The document's size in bytes.
        size: usize,
    },
    /// A signature covers other bytes than the one before it.
    #[error("covers other bytes than the signature before it")]
    Contradictory,
    /// The JSON reader stopped here.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// What it said.
        reason: String,
    },
}

fn entries(history: usize) -> String {
    if history == 1 { "1 history entry".to_owned() } else { format!("{history} history entries") }
}

impl Failure for ManifestError {
    fn kind(&self) -> Kind {
        Kind::Integrity
    }
}
