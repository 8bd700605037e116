//! Why a reference could not be fetched.

use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::layout::LayoutError;
use crate::manifest::ManifestError;
use crate::platform::Platform;
use crate::registry::RegistryError;
use crate::transfer::TransferError;
use crate::verify::{ImageError, VerifyError};

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
    /// The disk is full.
    #[error("the disk is full")]
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
        wanted: Platform,
        /// What there is.
        available: Vec<String>,
    },
    /// Indexes are nested too deep or have too many entries.
    #[error(
        "the index goes too far: {entries} entries at depth {depth} ({} and {} are the limits)",
        super::select::MOST_ENTRIES,
        super::select::DEEPEST
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
    /// The image is in Docker's schema 1.
    #[error("the image is in Docker's old schema 1 format, which this version does not convert")]
    Schema1,
    /// A blocking thread of this process died.
    #[error("a worker thread of this process failed")]
    Worker,
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

impl Failure for FetchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::Transfer(error) => error.kind(),
            Self::Unproven(_)
            | Self::BadConfig { .. }
            | Self::BadDocument { .. }
            | Self::OverCap { .. }
            | Self::TwoSizes { .. }
            | Self::TooMuch
            | Self::IndexLimit { .. }
            | Self::IndexCycle { .. } => Kind::Integrity,
            Self::NoPlatform { .. } => Kind::NotFound,
            Self::Schema1 => Kind::Usage,
            Self::FullDisk { .. } | Self::Worker => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::FullDisk { missing, .. } => {
                // Rounded up: what is freed to the byte is taken by somebody else before the next run.
                let needed = missing.div_ceil(1 << 20);
                Some(format!("free {needed} MiB and run the same command again: what is there is kept"))
            }
            Self::NoPlatform { available, .. } if available.is_empty() => {
                Some("the index names no platform at all; `ocipull inspect --raw` shows it".to_owned())
            }
            Self::NoPlatform { available, .. } => {
                Some(format!("pick one of these with `--platform`: {}", listed(available)))
            }
            Self::Schema1 => {
                Some("push the image again with a current tool, which writes schema 2".to_owned())
            }
            _ => None,
        }
    }
}
