//! Why an image could not be inspected.

use super::listed::MOST_BYTES;
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::layout::LayoutError;
use crate::manifest::ManifestError;
use crate::manifest::nesting::NestingLimit;
use crate::registry::RegistryError;

/// Why an image could not be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The registry's part went wrong.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The layout's part went wrong.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The image config cannot be used.
    #[error("the image config {digest} cannot be used")]
    BadConfig {
        /// The config.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// Indexes are nested too deep, or have too many entries.
    #[error("the index {digest} goes too far: {limit}")]
    IndexLimit {
        /// The outermost index.
        digest: Digest,
        /// Which limit it passes.
        limit: NestingLimit,
    },
    /// What is below an index takes more memory than is granted.
    #[error("the manifests, or the configs, below the index {digest} have more than {} MiB together", MOST_BYTES >> 20)]
    TooManyDocuments {
        /// The outermost index.
        digest: Digest,
    },
    /// A blocking thread of this process died.
    #[error("a worker thread of this process failed")]
    Worker,
}

impl InspectError {
    /// Whether the error is about the one document that was asked for, so that others may well be had.
    pub(super) fn is_of_one_document(&self) -> bool {
        matches!(self.kind(), Kind::Integrity | Kind::NotFound)
    }
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Failure for InspectError {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::BadConfig { .. } | Self::IndexLimit { .. } | Self::TooManyDocuments { .. } => {
                Kind::Integrity
            }
            Self::Worker => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::BadConfig { .. } | Self::IndexLimit { .. } | Self::TooManyDocuments { .. } => {
                Some("`ocipull inspect --raw` shows the document as it is".to_owned())
            }
            Self::Worker => None,
        }
    }
}
