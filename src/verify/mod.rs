//! Proves blobs: that their bytes have the size and the digest that a descriptor says, and, for layers, what their
//! diff ID is (OCI image spec, "Descriptor" and "Layer `DiffID`").
//!
//! Nothing here opens a file or a connection: a [`BlobVerifier`] is fed with chunks of any size by whoever follows a
//! download or reads a layout, and ends as a [`ProvenBlob`], a value that nothing but this module can make. Proven
//! blobs become a [`ProvenImage`] when every layer has one and every diff ID is the one that the config claims; that
//! is what a layout asks for before it names an image. The diff IDs themselves are read by `manifest`.
//!
//! The digest decides. Bytes that do not uncompress are hashed to their end all the same, and reported as a wrong
//! digest where they have one: that can be helped by fetching them again, a bad layer cannot.

mod decompress;
mod diff_id;
mod error;
mod image;
mod index;
mod lane;

use std::io::{ErrorKind, Read};
use std::time::Duration;

use crate::digest::{Algorithm, Digest, Hasher};

pub use decompress::window::WindowBudget;
pub use decompress::{DecodeError, Encoding};
pub use diff_id::Caution;
pub use error::VerifyError;
pub use image::{
    BlobClaim, DiffIdClaims, DiffIdStatus, Encryption, ImageClaims, ImageError, LayerClaim, Place,
    ProvenImage, ProvenLayer,
};

pub use index::{IndexClaims, IndexError, Proven, ProvenIndex};

pub use lane::{Hashing, SpareCores};

use decompress::{Decompressed, Decompressor, Plain};
use diff_id::{Expansion, Output, Uncompressed};
use lane::Lane;

/// How much [`verify_reader`] reads at a time.
const READ: u64 = 256 * 1024;

/// What there is to prove about a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Size and digest: a config, an artifact's layer, an encrypted layer.
    Opaque,
    /// The diff ID too.
    Layer {
        /// The algorithm that the config's diff ID has.
        diff_id: Algorithm,
    },
    /// The diff ID too, in every algorithm: configs claim it in different ones.
    LayerInEvery,
}

impl Content {
    /// What there is to prove about a blob of which both are wanted.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Opaque, content) | (content, Self::Opaque) => content,
            (one, other) if one == other => one,
            _ => Self::LayerInEvery,
        }
    }

    /// The algorithms in which the diff ID is wanted, the canonical one first.
    fn algorithms(self) -> &'static [Algorithm] {
        const ALL: &[Algorithm] = &Algorithm::ALL;
        match self {
            Self::Opaque => &[],
            Self::Layer { diff_id } => {
                let at = ALL.iter().position(|algorithm| *algorithm == diff_id);
                at.map_or(ALL, |at| &ALL[at..=at])
            }
            Self::LayerInEvery => ALL,
        }
    }
}

/// How far [`BlobVerifier::write`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "bytes that were not consumed must be offered again"]
pub struct Accepted {
    /// How many of the bytes were taken in. The rest has to be offered again, from there on.
    pub consumed: usize,
    /// The zstd window, in bytes, that the [`WindowBudget`] does not grant now; none when everything was consumed.
    pub blocked: Option<u64>,
}

impl Accepted {
    fn all(consumed: usize) -> Self {
        Self { consumed, blocked: None }
    }
}

/// Proves one blob from its bytes, which come in chunks of any size.
#[derive(Debug)]
pub struct BlobVerifier {
    digest: Digest,
    size: u64,
    received: u64,
    overrun: bool,
    hasher: Lane<Hasher>,
    content: Content,
    hashing: Hashing,
    budget: WindowBudget,
    expansion: Expansion,
    caution: Option<Caution>,
    inspection: Inspection,
}

/// How the end of a blob is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a blob, and it is taken apart at once")]
pub enum Conclusion {
    /// It is proven.
    Proven(ProvenBlob),
    /// Size and digest hold, but the layer was not uncompressed for [`Caution`]. Its bytes are to be shown to this verifier,
    /// from the first on, which is cautious no more.
    Again(Box<BlobVerifier>),
}

/// What is known of a layer's uncompressed bytes.
#[derive(Debug)]
enum Inspection {
    /// No byte has come yet.
    Ahead,
    /// The blob is not a layer.
    NotApplicable,
    Running(Box<Decompressor>),
    /// Given up. Only the digest can tell now whether the transfer or the layer is to blame.
    Failed(DecodeError),
    /// Put off until the digest is known.
    Deferred,
}

impl BlobVerifier {
    /// A verifier for the blob with this digest and this size in bytes. It hashes inline and takes any window.
    pub fn new(digest: Digest, size: u64, content: Content) -> Self {
        Self {
            digest,
            size,
            received: 0,
            overrun: false,
            hasher: Lane::new(digest.algorithm().hasher(), Hashing::Inline),
            content,
            hashing: Hashing::Inline,
            budget: WindowBudget::unlimited(),
            expansion: Expansion::of(size),
            caution: None,
            inspection: match content {
                Content::Opaque => Inspection::NotApplicable,
                Content::Layer { .. } | Content::LayerInEvery => Inspection::Ahead,
            },
        }
    }

    /// The same verifier, which stops uncompressing bytes that expand as `caution` says until it knows that they are the
    /// blob's; it is to end with [`Self::conclude`]. Of no effect after the first byte.
    #[must_use]
    pub fn with_caution(self, caution: Caution) -> Self {
        Self { caution: Some(caution), ..self }
    }

    /// The same verifier with the uncompressed bytes hashed where `hashing` says; of no effect after
    /// the first byte.
    #[must_use]
    pub fn with_hashing(self, hashing: Hashing) -> Self {
        Self { hashing, ..self }
    }

    /// The same verifier with its zstd windows taken from `budget`; of no effect after the first byte.
    #[must_use]
    pub fn with_window_budget(self, budget: &WindowBudget) -> Self {
        Self { budget: budget.clone(), ..self }
    }

    /// The blob's digest, as its descriptor says.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How many bytes were taken in.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes in the next bytes: all of them, unless the layer needs a zstd window that the budget does not grant now.
    /// Then the rest is offered again once another verifier has ended; this one keeps no window in the meantime.
    ///
    /// # Errors
    /// [`VerifyError::Oversize`], and none of the bytes is taken in; [`VerifyError::HashingThread`]. Everything else shows in
    /// [`Self::finish`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<Accepted, VerifyError> {
        self.overrun |= bytes.len() as u64 > self.size - self.received;
        self.check_overrun()?;
        let accepted = self.inspect(bytes);
        if matches!(&self.inspection, Inspection::Running(decompressor) if decompressor.is_on_thread()) {
            // This thread inflates; all hashing goes to other cores.
            self.hasher.move_to_thread();
        }
        let hashed = self.hasher.update(&bytes[..accepted.consumed]);
        hashed.map_err(|_| VerifyError::HashingThread { digest: self.digest })?;
        self.received += accepted.consumed as u64;
        Ok(accepted)
    }

    /// The end of the blob.
    ///
    /// # Errors
    /// [`VerifyError::Oversize`] when [`Self::write`] said so before, else [`VerifyError::SizeMismatch`], else
    /// [`VerifyError::DigestMismatch`], and only for bytes with the right digest [`VerifyError::Decode`] or
    /// [`VerifyError::HashingThread`]. What caution puts off counts as undecodable here.
    pub fn finish(self) -> Result<ProvenBlob, VerifyError> {
        match self.conclude()? {
            Conclusion::Proven(proof) => Ok(proof),
            Conclusion::Again(verifier) => {
                let Expansion { size, limit } = verifier.expansion;
                let source = DecodeError::Expansion { size, limit };
                Err(VerifyError::Decode { digest: verifier.digest, source })
            }
        }
    }

    /// The end of the blob, or of its first reading.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn conclude(mut self) -> Result<Conclusion, VerifyError> {
        self.check_overrun()?;
        if self.received != self.size {
            return Err(VerifyError::SizeMismatch {
                digest: self.digest,
                expected: self.size,
                found: self.received,
            });
        }
        // An empty blob was never looked into.
        let _ = self.inspect(&[]);
        let hasher = self.hasher.finish().map_err(|_| VerifyError::HashingThread { digest: self.digest })?;
        let found = hasher.finish();
        if found != self.digest {
            return Err(VerifyError::DigestMismatch { expected: self.digest, found });
        }
        let decompressed = match self.inspection {
            Inspection::Deferred => {
                let again = Self::new(self.digest, self.size, self.content);
                let again = Self { hashing: self.hashing, budget: self.budget, ..again };
                return Ok(Conclusion::Again(Box::new(again)));
            }
            Inspection::Running(decompressor) => decompressor.finish().map(Some),
            Inspection::Failed(error) => Err(error),
            Inspection::Ahead | Inspection::NotApplicable => Ok(None),
        };
        let decompressed = decompressed.map_err(|source| match source {
            DecodeError::HashingThread => VerifyError::HashingThread { digest: self.digest },
            source => VerifyError::Decode { digest: self.digest, source },
        })?;
        let Some(Decompressed { encoding, output }) = decompressed else {
            return Ok(Conclusion::Proven(ProvenBlob::committed(self.digest, self.size)));
        };
        let (digest, other, uncompressed_size) = match output {
            Some(Output { digest, other, size }) => (digest, other, size),
            None => (self.digest, None, self.size),
        };
        Ok(Conclusion::Proven(ProvenBlob {
            digest: self.digest,
            size: self.size,
            encoding: Some(encoding),
            diff_id: DiffId::Computed { digest, uncompressed_size },
            other_diff_id: other,
        }))
    }

    fn check_overrun(&self) -> Result<(), VerifyError> {
        if self.overrun {
            return Err(VerifyError::Oversize { digest: self.digest, expected: self.size });
        }
        Ok(())
    }

    fn inspect(&mut self, bytes: &[u8]) -> Accepted {
        if let Inspection::Ahead = &self.inspection {
            self.inspection = self.begin();
        }
        let taken = self.received.saturating_add(bytes.len() as u64);
        let Inspection::Running(decompressor) = &mut self.inspection else {
            return Accepted::all(bytes.len());
        };
        if let Some(caution) = self.caution {
            decompressor.limit(caution.limit(taken).min(self.expansion.limit));
        }
        match decompressor.write(bytes) {
            Ok(accepted) => accepted,
            Err(DecodeError::Expansion { limit, .. }) if limit < self.expansion.limit => {
                self.inspection = Inspection::Deferred;
                Accepted::all(bytes.len())
            }
            Err(error) => {
                self.inspection = Inspection::Failed(error);
                Accepted::all(bytes.len())
            }
        }
    }
}

impl BlobVerifier {
    fn begin(&self) -> Inspection {
        if self.caution == Some(Caution::DIGEST_FIRST) {
            return Inspection::Deferred;
        }
        let algorithms = self.content.algorithms();
        let output = Uncompressed::new(algorithms, self.hashing.clone(), self.expansion);
        let plain = if algorithms == [self.digest.algorithm()] { Plain::Leave } else { Plain::Hash };
        Inspection::Running(Box::new(Decompressor::new(output, plain, self.budget.clone())))
    }
}

/// A blob whose size and digest hold. Only this module makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenBlob {
    digest: Digest,
    size: u64,
    encoding: Option<Encoding>,
    diff_id: DiffId,
    other_diff_id: Option<Digest>,
}

impl ProvenBlob {
    /// A blob that stands in a layout under its final name with the right size. It got that name when it was proven, and
    /// that is all there is to say: it stands in for a proof only where no diff ID is asked for.
    pub fn committed(digest: Digest, size: u64) -> Self {
        Self { digest, size, encoding: None, diff_id: DiffId::NotComputed, other_diff_id: None }
    }

    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The size in bytes, as it is stored.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How the layer is encoded; none for a blob that was verified as [`Content::Opaque`].
    pub fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    /// The diff ID; for a blob that was verified as [`Content::LayerInEvery`] the canonical algorithm's.
    pub fn diff_id(&self) -> DiffId {
        self.diff_id
    }

    /// The same proof with the diff ID in this algorithm, where it was computed.
    #[must_use]
    pub fn with_diff_id_in(self, algorithm: Algorithm) -> Self {
        match (self.diff_id, self.other_diff_id) {
            (DiffId::Computed { digest: one, uncompressed_size }, Some(other))
                if other.algorithm() == algorithm =>
            {
                let diff_id = DiffId::Computed { digest: other, uncompressed_size };
                Self { diff_id, other_diff_id: Some(one), ..self }
            }
            _ => self,
        }
    }
}

/// What is proven about a blob's diff ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffId {
    /// It is this one.
    Computed {
        /// The digest of the uncompressed bytes.
        digest: Digest,
        /// How many they are.
        uncompressed_size: u64,
    },
    /// Nothing: the blob was verified as [`Content::Opaque`].
    NotComputed,
}

/// Proves bytes that are all in memory: a manifest, a config.
///
/// # Errors
/// [`VerifyError::DigestMismatch`].
pub fn verify_bytes(bytes: &[u8], digest: Digest) -> Result<ProvenBlob, VerifyError> {
    let mut verifier = BlobVerifier::new(digest, bytes.len() as u64, Content::Opaque);
    let _ = verifier.write(bytes)?;
    verifier.finish()
}

/// Feeds `verifier` from `reader` to its end, blocking. When a zstd window has to be waited for, whoever holds it
/// must be on another thread.
///
/// # Errors
/// [`VerifyError::Read`], and whatever [`BlobVerifier::write`] and [`BlobVerifier::finish`] say. Of a reader with more
/// bytes than the blob's size no more than one read is taken beyond it.
pub fn verify_reader(mut reader: impl Read, mut verifier: BlobVerifier) -> Result<ProvenBlob, VerifyError> {
    // One byte more than the size, so that one read sees a small blob whole and whether there is more.
    let length = verifier.size.saturating_add(1).min(READ);
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return verifier.finish(),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(source) => return Err(VerifyError::Read { digest: verifier.digest, source }),
        };
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let accepted = verifier.write(rest)?;
            rest = &rest[accepted.consumed..];
            if let Some(window) = accepted.blocked {
                let _ = verifier.budget.wait(window, Duration::from_secs(1));
            }
        }
    }
}

#[cfg(test)]
mod tests;
