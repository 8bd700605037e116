//! Why a reference could not be fetched.

use std::sync::Arc;

use super::belonging;
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::layout::LayoutError;
use crate::manifest::{ManifestError, nesting};
use crate::platform::Platform;
use crate::reference::Tag;
use crate::registry::RegistryError;
use crate::registry::config::registries_d::RegistriesDError;
use crate::transfer::TransferError;
use crate::verify::{ImageError, IndexError, VerifyError};

/// Why a reference could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The registry's part went wrong.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The layout's part went wrong.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The same for images that were to be named together, all of which it befell.
    #[error(transparent)]
    Together(Arc<FetchError>),
    /// The disk is full, or what the user may have of it.
    #[error("there is no room left")]
    FullDisk {
        /// How many bytes there is no room for.
        missing: u64,
        /// Where it showed.
        source: Box<TransferError>,
    },
    /// A blob could not be downloaded and proven.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The image does not hold together.
    #[error("the image does not hold")]
    Unproven(#[source] ImageError),
    /// The image config cannot be used.
    #[error("the image config {digest} cannot be used")]
    BadConfig {
        /// The config.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A document's bytes are not what its digest says.
    #[error("the document {digest} does not hold")]
    BadDocument {
        /// Which one.
        digest: Digest,
        /// What is wrong with it.
        source: VerifyError,
    },
    /// A document is larger than any of its kind may be.
    #[error("the {what} {digest} has {size} bytes, and {cap} are allowed")]
    OverCap {
        /// What kind of document.
        what: &'static str,
        /// Which one.
        digest: Digest,
        /// Its size, as its descriptor says.
        size: u64,
        /// The most that is allowed.
        cap: u64,
    },
    /// One blob is listed with two sizes, one of which must be wrong.
    #[error("the manifest lists blob {digest} with {one} and with {other} bytes")]
    TwoSizes {
        /// The blob.
        digest: Digest,
        /// One size.
        one: u64,
        /// The other.
        other: u64,
    },
    /// The sizes of the layers do not add up to any number of bytes that a disk could hold.
    #[error("the sizes that the manifest gives its layers add up to more than 2^64 bytes")]
    TooMuch,
    /// No manifest is for the wanted platform.
    #[error("there is no image for {}", wanted.specifier())]
    NoPlatform {
        /// What was looked for.
        wanted: Box<Platform>,
        /// What there is.
        available: Vec<String>,
    },
    /// An index lists things, and no image or artifact is among them.
    #[error("none of the {entries} entries of the index is a manifest that can be taken")]
    NothingToTake {
        /// How many entries were counted.
        entries: usize,
    },
    /// Indexes are nested too deep or have too many entries.
    #[error(
        "the index goes too far: {entries} entries at depth {depth} ({} and {} are the limits)",
        nesting::MOST_ENTRIES,
        nesting::DEEPEST
    )]
    IndexLimit {
        /// How many entries were counted.
        entries: usize,
        /// How deep it was.
        depth: usize,
    },
    /// An index contains itself.
    #[error("the index {digest} contains itself")]
    IndexCycle {
        /// Which one.
        digest: Digest,
    },
    /// The manifests and configs of one reference are too many to be held in memory.
    #[error(
        "the manifests and configs behind the reference have {bytes} bytes together, and {} are the limit",
        super::select::MOST_BYTES
    )]
    TooManyDocuments {
        /// How many bytes there are.
        bytes: u64,
    },
    /// Images and the index that they were taken out of do not belong together.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A document is not in the layout, and nowhere else was to be looked.
    #[error("the layout does not have the document {digest}")]
    Absent {
        /// Which one.
        digest: Digest,
    },
    /// A document cannot be converted to OCI's media types.
    #[error("the document {digest} cannot be converted to OCI's media types")]
    Conversion {
        /// Which one.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A schema 1 image cannot be converted.
    #[error("the schema 1 manifest {digest} cannot be converted")]
    BadSchema1 {
        /// Which one.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The configuration does not say properly where signatures are.
    #[error("the configuration of places for signatures cannot be used")]
    Lookaside(#[source] RegistriesDError),
    /// The list of referrers that was made cannot be read back.
    #[error("the list of referrers {digest} does not hold")]
    BadList {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// More belongs to the image than is taken along.
    #[error("too much belongs to the image: {limit}")]
    ReferrersLimit {
        /// Which limit it goes past.
        limit: Limit,
    },
    /// What belongs to a manifest cannot be found out.
    #[error("{}", question.unanswered(subject))]
    Beside {
        /// What was asked.
        question: Question,
        /// The manifest that it was asked about.
        subject: Digest,
        /// Why there is no answer.
        source: Box<RegistryError>,
    },
    /// The image is in Docker's schema 1.
    #[error("the image is in Docker's old schema 1 format")]
    Schema1,
    /// Several platforms are wanted of an index, and one of them is in Docker's schema 1.
    #[error("the index {digest} lists an image in Docker's schema 1, which cannot be converted inside of it")]
    Schema1InIndex {
        /// The index.
        digest: Digest,
    },
    /// A blocking thread of this process died.
    #[error("a worker thread of this process failed")]
    Worker,
}

/// How much may belong to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// In number.
    #[error("more than {} manifests", belonging::MOST)]
    Manifests,
    /// In bytes.
    #[error("manifests of more than {} MiB together", belonging::MOST_BYTES >> 20)]
    Bytes,
    /// In steps from the image.
    #[error("manifests that are more than {} steps away from it", belonging::DEEPEST)]
    Depth,
    /// In number, whether or not they are wanted.
    #[error("lists of more than {} manifests", belonging::MOST_LOOKS)]
    Looks,
}

/// A question about what belongs to a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// What refers to it?
    Referrers,
    /// What stands under this tag, which is made of its digest?
    Tag(Tag),
    /// What is it, being listed as a referrer, or by one?
    Manifest,
    /// Which signatures does the lookaside have of it?
    Lookaside,
    /// Which signatures does the registry itself keep of it?
    Extension,
}

impl Question {
    fn unanswered(&self, subject: &Digest) -> String {
        match self {
            Self::Referrers => format!("what refers to {subject} cannot be listed"),
            Self::Tag(tag) => format!("what the tag {tag} has for {subject} cannot be read"),
            Self::Manifest => format!("the referrer {subject} cannot be read"),
            Self::Lookaside => format!("the lookaside's signatures of {subject} cannot be read"),
            Self::Extension => format!("the signatures that the registry keeps of {subject} cannot be read"),
        }
    }
}

impl FetchError {
    /// The error of a question that was not answered.
    pub(super) fn beside(question: Question, subject: Digest) -> impl FnOnce(RegistryError) -> Self {
        move |source| Self::Beside { question, subject, source: Box::new(source) }
    }
}

/// The most platforms that a hint names.
const MOST_LISTED: usize = 32;

fn listed(platforms: &[String]) -> String {
    let named: Vec<String> =
        platforms.iter().take(MOST_LISTED).map(|name| crate::text::printable(name)).collect();
    match platforms.len().saturating_sub(MOST_LISTED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

impl FetchError {
    /// The same with a figure where the layout has no room: this many bytes are still to be written.
    pub(super) fn lacking(self, missing: u64) -> Self {
        match self {
            Self::Layout(error) if error.is_full_disk() => {
                Self::FullDisk { missing, source: Box::new(error.into()) }
            }
            other => other,
        }
    }
}

impl Failure for FetchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::Together(error) => error.kind(),
            Self::Lookaside(error) => error.kind(),
            Self::Beside { source, .. } => source.kind(),
            Self::Transfer(error) => error.kind(),
            Self::Unproven(_)
            | Self::BadConfig { .. }
            | Self::BadDocument { .. }
            | Self::OverCap { .. }
            | Self::TwoSizes { .. }
            | Self::TooMuch
            | Self::IndexLimit { .. }
            | Self::TooManyDocuments { .. }
            | Self::Index(_)
            | Self::Conversion { .. }
            | Self::BadSchema1 { .. }
            | Self::BadList { .. }
            | Self::ReferrersLimit { .. }
            | Self::IndexCycle { .. } => Kind::Integrity,
            Self::NoPlatform { .. } | Self::NothingToTake { .. } | Self::Absent { .. } => Kind::NotFound,
            Self::Schema1 | Self::Schema1InIndex { .. } => Kind::Usage,
            Self::FullDisk { .. } | Self::Worker => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::Together(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::FullDisk { missing, .. } => {
                // Rounded up: what is freed to the byte is taken by somebody else before the next run. And where all
                // bytes are there, a name or a document is what has no room.
                let needed = missing.div_ceil(1 << 20).max(1);
                Some(format!("free {needed} MiB and run the same command again: what is there is kept"))
            }
            Self::NoPlatform { available, .. } if available.is_empty() => {
                Some("the index lists no image with a platform; `ocipull inspect --raw` shows it".to_owned())
            }
            Self::NoPlatform { available, .. } => {
                Some(format!("pick one of these with `--platform`: {}", listed(available)))
            }
            Self::Schema1InIndex { .. } => {
                Some("fetch that platform by itself, with one `--platform` and `--allow-schema1`".to_owned())
            }
            Self::Beside { question: Question::Lookaside, .. } | Self::Lookaside(_) => Some(
                "registries.d says where the lookaside is; the image itself can be had without `--referrers`"
                    .to_owned(),
            ),
            Self::Beside { .. } => Some("the image itself can be had without `--referrers`".to_owned()),
            Self::ReferrersLimit { .. } => Some(
                "`--referrers=TYPE` takes only what has that type; the image itself can be had without `--referrers`"
                    .to_owned(),
            ),
            Self::Schema1 => {
                Some("`--allow-schema1` converts it to an OCI image, whose digest is another one".to_owned())
            }
            _ => None,
        }
    }
}
