//! Why a transfer failed.

use std::io;
use std::time::Duration;

use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::layout::LayoutError;
use crate::registry::retry::Disposition;
use crate::registry::{ContentEncoding, RegistryError, Retryable};
use crate::verify::VerifyError;

/// Why a blob could not be downloaded and proven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The registry's part went wrong.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The layout's part went wrong.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The bytes are not what they should be.
    #[error("{origin} is not what the image says")]
    Unproven {
        /// Which blob, from where.
        origin: String,
        /// What is wrong with it.
        source: VerifyError,
    },
    /// The bytes are the image's, and nothing can be done with them.
    #[error("layer {digest} of the image cannot be used")]
    Unusable {
        /// The layer.
        digest: Digest,
        /// Why.
        source: VerifyError,
    },
    /// The server sent a whole body although it honoured ranges before.
    #[error("the server ignored the range asked of blob {digest}")]
    RangeIgnored {
        /// The blob.
        digest: Digest,
    },
    /// The body ended before the blob did.
    #[error("the body of blob {digest} ended too soon")]
    Short {
        /// The blob.
        digest: Digest,
    },
    /// An encoded body does not decode.
    #[error("the body of blob {digest} came with Content-Encoding {encoding:?} and does not decode")]
    Encoding {
        /// The blob.
        digest: Digest,
        /// The encoding.
        encoding: ContentEncoding,
        /// What the decoder said.
        source: io::Error,
    },
    /// An encoded body decodes to another length.
    #[error(
        "the body of blob {digest} came with Content-Encoding {encoding:?} and does not decode to {size} bytes"
    )]
    DecodedLength {
        /// The blob.
        digest: Digest,
        /// The encoding.
        encoding: ContentEncoding,
        /// The blob's size.
        size: u64,
    },
    /// The last of several tries failed.
    #[error("gave up after {tries} tries in {:.1} s{}", elapsed.as_secs_f64(), shown_last(last.as_deref()))]
    Exhausted {
        /// The first failure.
        #[source]
        first: Box<TransferError>,
        /// The last one, where it says something else.
        last: Option<Box<TransferError>>,
        /// How many tries.
        tries: u32,
        /// From the first try to the last failure.
        elapsed: Duration,
    },
    /// The host asks for a longer wait than is sat out.
    #[error("the registry asks to come back in {} s", after.as_secs())]
    ComeBackLater {
        /// How long.
        after: Duration,
        /// The answer that said so.
        #[source]
        source: Box<TransferError>,
    },
    /// The threads that prove blobs could not be started.
    #[error("cannot start a thread")]
    Threads(#[source] io::Error),
    /// The transfer was ended from within.
    #[error("the transfer stopped before it was done")]
    Stopped,
}

fn shown_last(last: Option<&TransferError>) -> String {
    last.map_or_else(String::new, |last| format!(", the last of which ended with: {last}"))
}

impl TransferError {
    /// Whether there was no room left to write.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Layout(error) if error.is_full_disk())
    }

    pub(super) fn is_range_refusal(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_range_refusal(),
            Self::RangeIgnored { .. } => true,
            _ => false,
        }
    }
}

impl Retryable for TransferError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Registry(error) => error.disposition(),
            Self::RangeIgnored { .. } | Self::Short { .. } => Disposition::AGAIN,
            // Without a length in front, an encoded body that was cut looks like one that ends too soon.
            Self::Encoding { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
                Disposition::AGAIN
            }
            _ => Disposition::Fatal,
        }
    }

    fn exhausted(self, last: Option<Self>, tries: u32, elapsed: Duration) -> Self {
        let says_more = |last: &Self| last.to_string() != self.to_string();
        let last = last.filter(says_more).map(Box::new);
        Self::Exhausted { first: Box::new(self), last, tries, elapsed }
    }

    fn come_back_later(self, after: Duration) -> Self {
        Self::ComeBackLater { after, source: Box::new(self) }
    }
}

impl Failure for TransferError {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::Unproven { source, .. } | Self::Unusable { source, .. } => source.kind(),
            Self::Encoding { .. } | Self::DecodedLength { .. } => Kind::Integrity,
            Self::RangeIgnored { .. } | Self::Short { .. } => Kind::Network,
            Self::Exhausted { first: error, .. } | Self::ComeBackLater { source: error, .. } => error.kind(),
            Self::Threads(_) | Self::Stopped => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::Unproven { source, .. } | Self::Unusable { source, .. } => source.hint(),
            Self::Exhausted { first, .. } => first
                .hint()
                .or_else(|| Some("what was downloaded is kept: run the same command again to resume".into())),
            _ => None,
        }
    }
}
