//! The digest of a layer's uncompressed bytes: its diff ID (OCI image spec, "Layer `DiffID`").
//!
//! [`Uncompressed`] is where the decoders put their output: they fill [`Uncompressed::room`], say how much they wrote,
//! and what is full is hashed in a [`Lane`], here or on a thread that works behind them. Nothing is kept.
//!
//! The limit on how far a layer may expand is kept here too, because this is where every uncompressed byte passes.

use crate::digest::{Algorithm, Digest, Hasher};

use super::decompress::DecodeError;
use super::lane::{Hashes, Hashing, Lane};

/// What a layer may expand to whatever its size, in bytes.
const EXPANSION_FLOOR: u64 = 64 << 30;

/// What a layer may expand to as a multiple of its size. Real layers stay below 100 even when they are mostly zeros.
const EXPANSION_FACTOR: u64 = 200;

/// How far a layer may expand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expansion {
    /// Its size as it is stored, in bytes.
    pub(super) size: u64,
    /// The most that it may be uncompressed, in bytes.
    pub(super) limit: u64,
}

impl Expansion {
    /// The limit for a layer of `size` bytes.
    pub(super) fn of(size: u64) -> Self {
        Self { size, limit: size.saturating_mul(EXPANSION_FACTOR).max(EXPANSION_FLOOR) }
    }
}

/// How far bytes may expand that may not be the blob's: whoever sends wrong ones must not be able to keep a core busy with
/// a few of them. Layers that really expand that much are read twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caution {
    /// As far as this at any rate, in bytes.
    pub floor: u64,
    /// As a multiple of what was taken in.
    pub factor: u64,
}

impl Caution {
    /// Nothing is uncompressed before the digest is known: for bytes in place of wrong ones.
    pub const DIGEST_FIRST: Self = Self { floor: 0, factor: 0 };

    /// How far `taken` bytes may expand.
    pub(super) fn limit(self, taken: u64) -> u64 {
        taken.saturating_mul(self.factor).max(self.floor)
    }
}

impl Default for Caution {
    /// 1 GiB, which takes about a second, or as many times the bytes as real layers hardly ever expand to.
    fn default() -> Self {
        Self { floor: 1 << 30, factor: EXPANSION_FACTOR }
    }
}

/// Takes in a layer's uncompressed bytes and computes their digest.
#[derive(Debug)]
pub(super) struct Uncompressed {
    total: u64,
    expansion: Expansion,
    lane: Lane<Hashers>,
}

/// What came out of a layer.
#[derive(Debug)]
pub(super) struct Output {
    /// The digest in the first of the algorithms.
    pub(super) digest: Digest,
    /// The digest in the second of them, where there is one.
    pub(super) other: Option<Digest>,
    /// How many bytes it were.
    pub(super) size: u64,
}

/// A hasher of each algorithm that is wanted.
#[derive(Debug, Clone)]
struct Hashers(Vec<Hasher>);

impl Hashes for Hashers {
    fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|hasher| hasher.update(bytes));
    }
}

impl Uncompressed {
    /// An empty layer, which may grow as far as `expansion` says, to be hashed with these algorithms: one, or two.
    pub(super) fn new(algorithms: &[Algorithm], hashing: Hashing, expansion: Expansion) -> Self {
        let hashers = Hashers(algorithms.iter().map(|algorithm| algorithm.hasher()).collect());
        Self { total: 0, expansion, lane: Lane::new(hashers, hashing) }
    }

    /// Whether a thread hashes behind the decoder.
    pub(super) fn is_on_thread(&self) -> bool {
        self.lane.is_on_thread()
    }

    /// From now on the layer may grow as far as this, in bytes.
    pub(super) fn limit(&mut self, limit: u64) {
        self.expansion.limit = limit;
    }

    /// Where to write the next bytes; never empty.
    ///
    /// # Errors
    /// [`DecodeError::HashingThread`].
    pub(super) fn room(&mut self) -> Result<&mut [u8], DecodeError> {
        self.lane.room()
    }

    /// Takes in the first `written` bytes of the room.
    ///
    /// # Errors
    /// [`DecodeError::Expansion`] when the layer is now larger than its limit.
    pub(super) fn advance(&mut self, written: usize) -> Result<(), DecodeError> {
        self.lane.filled(written);
        self.total += written as u64;
        let Expansion { size, limit } = self.expansion;
        if self.total > limit {
            return Err(DecodeError::Expansion { size, limit });
        }
        Ok(())
    }

    /// Takes in a copy of `bytes`, which need no decoder.
    ///
    /// # Errors
    /// As [`Self::room`] and [`Self::advance`].
    pub(super) fn copy(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.advance(now.len())?;
            bytes = later;
        }
        Ok(())
    }

    /// The digests of everything taken in, and how much that was.
    ///
    /// # Errors
    /// [`DecodeError::HashingThread`].
    pub(super) fn finish(self) -> Result<Output, DecodeError> {
        let hashers = self.lane.finish()?;
        let mut digests = hashers.0.into_iter().map(Hasher::finish);
        let digest = digests.next().expect("invariant: a layer is hashed with an algorithm at least");
        Ok(Output { digest, other: digests.next(), size: self.total })
    }
}

#[cfg(test)]
mod tests {
    use super::super::lane::BUFFER;
    use super::*;

    fn filled(hashing: Hashing, bytes: &[u8]) -> Uncompressed {
        let mut output = Uncompressed::new(&[Algorithm::Sha256], hashing, Expansion::of(u64::MAX));
        output.copy(bytes).unwrap();
        output
    }

    /// Where the hashing happens makes no difference, at and around the buffers' edges.
    #[test]
    fn own_thread_and_inline_agree() {
        for length in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER, 9 * BUFFER + 17] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let wanted = (Digest::sha256(&bytes), length as u64);
            let output = filled(Hashing::Inline, &bytes).finish().unwrap();
            assert_eq!((output.digest, output.size, output.other), (wanted.0, wanted.1, None));
            let output = filled(Hashing::OwnThread, &bytes).finish().unwrap();
            assert_eq!((output.digest, output.size, output.other), (wanted.0, wanted.1, None));
        }
    }

    /// The limit is 64 GiB, or 200 times the size where that is more, and does not overflow.
    #[test]
    fn the_limit_grows_with_the_size() {
        let gib = 1_u64 << 30;
        let cases = [(0, 64 * gib), (64 * gib / 200, 64 * gib), (gib, 200 * gib), (u64::MAX, u64::MAX)];
        for (size, limit) in cases {
            assert_eq!(Expansion::of(size), Expansion { size, limit });
        }
    }

    /// The limit itself is allowed, one byte more is not.
    #[test]
    fn the_limit_is_inclusive() {
        let mut output =
            Uncompressed::new(&[Algorithm::Sha256], Hashing::Inline, Expansion { size: 1, limit: 10 });
        output.copy(&[0; 10]).unwrap();
        assert!(matches!(output.copy(&[0]), Err(DecodeError::Expansion { size: 1, limit: 10 })));
    }
}
