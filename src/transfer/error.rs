//! Why a transfer failed.

use std::io;
use std::time::Duration;

use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::layout::LayoutError;
use crate::registry::retry::Disposition;
use crate::registry::{
    About, ContentEncoding, Earlier, RegistryError, Retryable, differing, ends, tried_times, wait,
};
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
    /// The server does not answer a range with that range, although it seemed to have ranges.
    #[error("{about}: a range was asked for, and answered with {found}")]
    RangeIgnored {
        /// The request.
        about: About,
        /// What came.
        found: &'static str,
    },
    /// The body ended before the blob did.
    #[error("{about}: the body ended too soon")]
    Short {
        /// The request.
        about: About,
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
    #[error(
        "gave up after {} in {:.1} s{}",
        tried_times(*.tries),
        elapsed.as_secs_f64(),
        ends(first.as_deref(), last.as_deref())
    )]
    Exhausted {
        /// This connection's first failure.
        #[source]
        cause: Box<TransferError>,
        /// What the first one of all said, where it befell another connection and is something else.
        first: Option<String>,
        /// What the last one said, where it is something else.
        last: Option<String>,
        /// How many tries.
        tries: u32,
        /// From the first try to the last failure.
        elapsed: Duration,
    },
    /// The host asks for a longer wait than is sat out.
    #[error("the server asks to come back after {}{}", wait(*.after), before.as_ref().map(Earlier::to_string).unwrap_or_default())]
    ComeBackLater {
        /// How long.
        after: Duration,
        /// What the tries before came to, where there were any.
        before: Option<Earlier>,
        /// The answer that said so.
        #[source]
        source: Box<TransferError>,
    },
    /// The registry refused for good, after it had failed.
    #[error("failed for good{before}")]
    InVain {
        /// What the tries before came to.
        before: Earlier,
        /// The refusal.
        source: RegistryError,
    },
    /// The threads that prove blobs could not be started.
    #[error("cannot start a thread")]
    Threads(#[source] io::Error),
    /// The transfer was ended from within.
    #[error("the transfer stopped before it was done")]
    Stopped,
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

    fn breaks_off(&self) -> bool {
        match self {
            Self::Registry(error) => error.breaks_off(),
            Self::Short { .. } => true,
            _ => false,
        }
    }

    fn exhausted(self, last: Option<Self>, all: Earlier) -> Self {
        let Earlier { tries, elapsed, first } = all;
        let (first, last) = differing(&self, first, last);
        Self::Exhausted { cause: Box::new(self), first, last, tries, elapsed }
    }

    fn in_vain(self, before: Earlier) -> Self {
        match self {
            Self::Registry(source) => Self::InVain { before, source },
            error => error,
        }
    }

    fn come_back_later(self, after: Duration, before: Option<Earlier>) -> Self {
        Self::ComeBackLater { after, before, source: Box::new(self) }
    }
}

impl Failure for TransferError {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) | Self::InVain { source: error, .. } => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::Unproven { source, .. } | Self::Unusable { source, .. } => source.kind(),
            Self::Encoding { .. } | Self::DecodedLength { .. } => Kind::Integrity,
            Self::RangeIgnored { .. } | Self::Short { .. } => Kind::Network,
            Self::Exhausted { cause: error, .. } | Self::ComeBackLater { source: error, .. } => error.kind(),
            Self::Threads(_) | Self::Stopped => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) | Self::InVain { source: error, .. } => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::Unproven { source, .. } | Self::Unusable { source, .. } => source.hint(),
            Self::Exhausted { cause, .. } => cause
                .hint()
                .or_else(|| Some("what was downloaded is kept: run the same command again to resume".into())),
            _ => None,
        }
    }
}
