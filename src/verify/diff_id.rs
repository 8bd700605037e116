//! The digest of a layer's uncompressed bytes: its diff ID (OCI image spec, "Layer `DiffID`").
//!
//! [`Uncompressed`] is where the decoders put their output: they fill [`Uncompressed::room`], say how much they wrote,
//! and what is full is hashed, either at once or by a thread that works behind them. Nothing is kept. Memory is
//! bounded either way: one buffer inline, four with a thread, each of [`BUFFER`] bytes.
//!
//! The limit on how far a layer may expand is kept here too, because this is where every uncompressed byte passes.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::digest::{Algorithm, Digest, Hasher};

use super::decompress::DecodeError;

/// Large enough that handing a buffer to the thread costs nothing beside hashing it, small enough for the cache.
const BUFFER: usize = 128 * 1024;

/// How many buffers the decoder and the thread pass around: one being filled, one being hashed, two between them.
const BUFFERS: usize = 4;

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

/// Where the uncompressed bytes are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Hashing {
    /// On the thread that calls the verifier.
    #[default]
    Inline,
    /// On a thread of its own, which starts with the first full buffer of output and ends with the verifier. Worth
    /// it where one large layer is all there is to verify.
    OwnThread,
}

/// Takes in a layer's uncompressed bytes and computes their digest.
#[derive(Debug)]
pub(super) struct Uncompressed {
    buffer: Vec<u8>,
    filled: usize,
    total: u64,
    expansion: Expansion,
    lane: Lane,
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

impl Hashers {
    fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|hasher| hasher.update(bytes));
    }
}

#[derive(Debug)]
enum Lane {
    Inline(Hashers),
    /// To be moved to a thread as soon as there is something to hash.
    Waiting(Hashers),
    Thread(HashingThread<Hashers>),
}

impl Uncompressed {
    /// An empty layer, which may grow as far as `expansion` says, to be hashed with these algorithms: one, or two.
    pub(super) fn new(algorithms: &[Algorithm], hashing: Hashing, expansion: Expansion) -> Self {
        let hashers = Hashers(algorithms.iter().map(|algorithm| algorithm.hasher()).collect());
        let lane = match hashing {
            Hashing::Inline => Lane::Inline(hashers),
            Hashing::OwnThread => Lane::Waiting(hashers),
        };
        Self { buffer: Vec::new(), filled: 0, total: 0, expansion, lane }
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
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        if self.filled == self.buffer.len() {
            self.hand_over()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    /// Takes in the first `written` bytes of the room.
    ///
    /// # Errors
    /// [`DecodeError::Expansion`] when the layer is now larger than its limit.
    pub(super) fn advance(&mut self, written: usize) -> Result<(), DecodeError> {
        self.filled += written;
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
    pub(super) fn finish(mut self) -> Result<Output, DecodeError> {
        let mut hashers = match self.lane {
            Lane::Inline(hashers) | Lane::Waiting(hashers) => hashers,
            Lane::Thread(thread) => thread.finish()?,
        };
        self.buffer.truncate(self.filled);
        hashers.update(&self.buffer);
        let mut digests = hashers.0.into_iter().map(Hasher::finish);
        let digest = digests.next().expect("invariant: a layer is hashed with an algorithm at least");
        Ok(Output { digest, other: digests.next(), size: self.total })
    }

    fn hand_over(&mut self) -> Result<(), DecodeError> {
        self.filled = 0;
        if let Lane::Waiting(hasher) = &self.lane {
            // A machine that has no thread left still hashes, only slower.
            self.lane = match HashingThread::start(hasher.clone(), Hashers::update) {
                Ok(thread) => Lane::Thread(thread),
                Err(_) => Lane::Inline(hasher.clone()),
            };
        }
        match &mut self.lane {
            Lane::Inline(hasher) | Lane::Waiting(hasher) => hasher.update(&self.buffer),
            Lane::Thread(thread) => thread.exchange(&mut self.buffer)?,
        }
        Ok(())
    }
}

/// A thread that takes full buffers and gives them back. Dropped midway, it hashes what was handed over and ends.
#[derive(Debug)]
struct HashingThread<S> {
    full: Option<SyncSender<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
    /// How many buffers exist, the caller's own included.
    buffers: usize,
    thread: Option<JoinHandle<S>>,
}

impl<S: Send + 'static> HashingThread<S> {
    fn start(mut state: S, mut work: impl FnMut(&mut S, &[u8]) + Send + 'static) -> io::Result<Self> {
        let (full, to_hash) = sync_channel::<Vec<u8>>(BUFFERS);
        let (give_back, empty) = sync_channel(BUFFERS);
        let thread = thread::Builder::new().name("diff-id".into()).spawn(move || {
            for buffer in to_hash {
                work(&mut state, &buffer);
                // Nobody takes buffers back once the verifier is finishing.
                let _ = give_back.send(buffer);
            }
            state
        })?;
        Ok(Self { full: Some(full), empty, buffers: 1, thread: Some(thread) })
    }

    /// Hands over a full buffer and leaves one to fill in its place.
    fn exchange(&mut self, buffer: &mut Vec<u8>) -> Result<(), DecodeError> {
        let length = buffer.len();
        let full = self.full.as_ref().ok_or(DecodeError::HashingThread)?;
        full.send(std::mem::take(buffer)).map_err(|_| DecodeError::HashingThread)?;
        *buffer = if self.buffers < BUFFERS {
            self.buffers += 1;
            vec![0; length]
        } else {
            self.empty.recv().map_err(|_| DecodeError::HashingThread)?
        };
        Ok(())
    }

    fn finish(mut self) -> Result<S, DecodeError> {
        self.full = None;
        let thread = self.thread.take().ok_or(DecodeError::HashingThread)?;
        thread.join().map_err(|_| DecodeError::HashingThread)
    }
}

impl<S> Drop for HashingThread<S> {
    fn drop(&mut self) {
        self.full = None;
        if let Some(thread) = self.thread.take() {
            // A panic over there has no one left to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// A small layer does not start a thread.
    #[test]
    fn thread_starts_with_the_first_full_buffer() {
        let mut output = filled(Hashing::OwnThread, &vec![1; BUFFER]);
        assert!(matches!(output.lane, Lane::Waiting(_)));
        output.copy(&[1]).unwrap();
        assert!(matches!(output.lane, Lane::Thread(_)));
    }

    /// A verifier that is dropped midway leaves no thread behind.
    #[test]
    fn dropping_ends_the_thread() {
        let hashed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&hashed);
        let mut thread = HashingThread::start((), move |(), bytes: &[u8]| {
            counter.fetch_add(bytes.len(), Ordering::SeqCst);
        })
        .unwrap();
        let mut buffer = vec![0; 10];
        for _ in 0..7 {
            thread.exchange(&mut buffer).unwrap();
        }
        assert_eq!(thread.buffers, BUFFERS);
        drop(thread);
        assert_eq!(Arc::strong_count(&hashed), 1, "the thread is gone and so is what it held");
        assert_eq!(hashed.load(Ordering::SeqCst), 70);
    }

    /// A panic on the thread is an error here, not a hang and not a wrong digest.
    #[test]
    fn panic_becomes_an_error() {
        let start = || HashingThread::start((), |(), _: &[u8]| panic!("as the test wants it")).unwrap();
        let mut thread = start();
        let mut buffer = vec![0; 10];
        let error = (0..2 * BUFFERS).find_map(|_| thread.exchange(&mut buffer).err());
        assert!(matches!(error, Some(DecodeError::HashingThread)));
        let mut thread = start();
        thread.exchange(&mut buffer).ok();
        assert!(matches!(thread.finish(), Err(DecodeError::HashingThread)));
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
