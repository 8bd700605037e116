//! Why a blob is not what its descriptor says.

use std::io;

use crate::digest::Digest;
use crate::failure::{Failure, Kind};

use super::decompress::DecodeError;

/// Why a blob could not be proven. The digest in front is always the one that the descriptor names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There are more bytes than the descriptor's size. Known as soon as the first byte too many is offered.
    #[error("blob {digest} has more than the {expected} bytes that it should have")]
    Oversize {
        /// The blob.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
    },
    /// The bytes ended before the descriptor's size was reached.
    #[error("blob {digest} has {found} bytes, and it should have {expected}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// How many bytes there were.
        found: u64,
    },
    /// The bytes have another digest.
    #[error("blob {expected} has the digest {found}")]
    DigestMismatch {
        /// The descriptor's digest.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// The bytes are the right ones, and they cannot be uncompressed, so that no diff ID can be computed.
    #[error("layer {digest} cannot be uncompressed")]
    Decode {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The thread that computed the diff ID died.
    #[error("the thread that hashed the uncompressed layer {digest} died")]
    HashingThread {
        /// The blob.
        digest: Digest,
    },
    /// The bytes could not be read.
    #[error("cannot read blob {digest}")]
    Read {
        /// The blob.
        digest: Digest,
        /// The reader's error.
        source: io::Error,
    },
}

impl VerifyError {
    /// Whether other bytes could help: those that were seen are not the blob's.
    pub fn is_about_bytes(&self) -> bool {
        matches!(self, Self::Oversize { .. } | Self::SizeMismatch { .. } | Self::DigestMismatch { .. })
    }
}

impl Failure for VerifyError {
    fn kind(&self) -> Kind {
        match self {
            Self::HashingThread { .. } | Self::Read { .. } => Kind::Other,
            _ => Kind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Decode { source, .. } => source.hint(),
            _ => None,
        }
    }
}
