//! Why images were not converted.

use crate::check::CheckError;
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::layout::LayoutError;
use crate::manifest::ManifestError;
use crate::manifest::nesting::NestingLimit;
use crate::verify::ImageError;

/// Why a conversion ended. Nothing that `index.json` names was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The layout cannot be used, an image is not there, or a document or blob of one is bad or missing.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An entry of `index.json` is no descriptor.
    #[error("an entry of index.json is no descriptor")]
    Entry(#[source] ManifestError),
    /// A document would not be one any more under OCI's media types.
    #[error("the document {digest} cannot be converted")]
    Document {
        /// The source.
        digest: Digest,
        /// What is wrong with what came out.
        source: ManifestError,
    },
    /// The blobs are not the image that a manifest and its config claim.
    #[error("the image {manifest} is not what it claims to be")]
    Image {
        /// The manifest as it stood in the layout.
        manifest: Digest,
        /// What is wrong.
        source: Box<ImageError>,
    },
    /// Indexes are nested too deep, or have too many entries.
    #[error("the index {digest} goes too far: {limit}")]
    IndexLimit {
        /// The index at which a limit was passed.
        digest: Digest,
        /// Which one.
        limit: NestingLimit,
    },
    /// The documents of all images take more memory than is granted.
    #[error("the manifests and indexes of these images have more than {cap} bytes together")]
    TooManyDocuments {
        /// The most bytes.
        cap: usize,
    },
    /// It was told to stop.
    #[error("the conversion was stopped before its end")]
    Cancelled,
    /// A thread that read blobs died.
    #[error("a thread of the conversion died")]
    ThreadDied,
}

impl From<CheckError> for ConvertError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Layout(error) => Self::Layout(error),
            CheckError::Cancelled => Self::Cancelled,
            CheckError::ThreadDied => Self::ThreadDied,
        }
    }
}

impl Failure for ConvertError {
    fn kind(&self) -> Kind {
        match self {
            Self::Layout(error) => error.kind(),
            Self::Entry(_) | Self::Document { .. } | Self::Image { .. } | Self::IndexLimit { .. } => {
                Kind::Integrity
            }
            Self::TooManyDocuments { .. } | Self::Cancelled | Self::ThreadDied => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Layout(error) => error.hint(),
            Self::Image { .. } => {
                Some("`ocipull verify` lists everything that is wrong with the layout".to_owned())
            }
            Self::TooManyDocuments { .. } => Some("convert the images one by one: OUT:NAME".to_owned()),
            _ => None,
        }
    }
}
