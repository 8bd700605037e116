//! Where bytes are hashed: on the thread that has them, or on one of its own behind it.
//!
//! Inflating takes some three times as long as hashing what comes out of it. While there are layers for all cores that is
//! no matter; the last or only layer is done sooner when another core hashes it. So a [`Lane`] may move to a thread midway, as
//! soon as a core has nothing to do ([`SpareCores`]). Memory is bounded: one buffer here, three with a thread, each of
//! [`BUFFER`] bytes, and no more threads than cores.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::decompress::DecodeError;
use crate::digest::Hasher;

/// Large enough that handing a buffer to the thread costs nothing beside hashing it, small enough for the cache.
pub(super) const BUFFER: usize = 128 * 1024;

/// How many buffers the two threads pass around: one being filled, one being hashed, one between them.
const BUFFERS: usize = 3;

/// Where bytes are hashed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Hashing {
    /// On the thread that calls the verifier.
    #[default]
    Inline,
    /// On threads of their own, which start with the first full buffer and end with the verifier.
    OwnThread,
    /// On the thread that calls the verifier until a core is spare, then as [`Self::OwnThread`].
    Spare(SpareCores),
}

/// How many cores have nothing to do, as those who share them tell. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct SpareCores(Arc<AtomicIsize>);

impl SpareCores {
    /// So many to begin with.
    pub fn new(cores: usize) -> Self {
        let spare = Self::default();
        spare.0.store(isize::try_from(cores).unwrap_or(isize::MAX), Ordering::Relaxed);
        spare
    }

    /// A thread has run out of work.
    pub fn idle(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// A thread has work again, whoever took its core meanwhile.
    pub fn busy(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes a core, where one is spare.
    fn take(&self) -> Option<Taken> {
        let one = |cores| (cores > 0).then_some(cores - 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, one).ok()?;
        Some(Taken(self.clone()))
    }
}

/// A core that was spare, until this is dropped.
#[derive(Debug)]
struct Taken(SpareCores);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.idle();
    }
}

/// Something that is fed with bytes.
pub(super) trait Hashes: Clone + Send + 'static {
    fn update(&mut self, bytes: &[u8]);
}

impl Hashes for Hasher {
    fn update(&mut self, bytes: &[u8]) {
        Self::update(self, bytes);
    }
}

/// Hashes what is put into it.
#[derive(Debug)]
pub(super) struct Lane<H> {
    buffer: Vec<u8>,
    filled: usize,
    hashing: Hashing,
    place: Place<H>,
}

#[derive(Debug)]
enum Place<H> {
    Here(H),
    There(HashingThread<H>),
}

impl<H: Hashes> Lane<H> {
    pub(super) fn new(hasher: H, hashing: Hashing) -> Self {
        Self { buffer: Vec::new(), filled: 0, hashing, place: Place::Here(hasher) }
    }

    pub(super) fn is_on_thread(&self) -> bool {
        matches!(self.place, Place::There(_))
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

    /// The first `written` bytes of the room are to be hashed.
    pub(super) fn filled(&mut self, written: usize) {
        self.filled += written;
    }

    /// Hashes `bytes`, which are the caller's: at once where that is done here.
    ///
    /// # Errors
    /// [`DecodeError::HashingThread`].
    pub(super) fn update(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        if let Place::Here(hasher) = &mut self.place {
            hasher.update(bytes);
            return Ok(());
        }
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled(now.len());
            bytes = later;
        }
        Ok(())
    }

    /// Moves to a thread, where one can be had: a machine that has none left hashes all the same, only slower.
    pub(super) fn move_to_thread(&mut self) {
        self.start(None);
    }

    fn start(&mut self, core: Option<Taken>) {
        let Place::Here(hasher) = &self.place else { return };
        let update = move |hasher: &mut H, bytes: &[u8]| {
            // Given back when the thread ends.
            let _taken = &core;
            hasher.update(bytes);
        };
        if let Ok(thread) = HashingThread::start(hasher.clone(), update) {
            self.place = Place::There(thread);
        }
    }

    /// The hasher of everything that was put in.
    ///
    /// # Errors
    /// [`DecodeError::HashingThread`].
    pub(super) fn finish(mut self) -> Result<H, DecodeError> {
        let mut hasher = match self.place {
            Place::Here(hasher) => hasher,
            Place::There(thread) => thread.finish()?,
        };
        self.buffer.truncate(self.filled);
        hasher.update(&self.buffer);
        Ok(hasher)
    }

    fn hand_over(&mut self) -> Result<(), DecodeError> {
        self.filled = 0;
        if let Place::Here(_) = &self.place {
            match &self.hashing {
                Hashing::Inline => {}
                Hashing::OwnThread => self.start(None),
                Hashing::Spare(cores) => {
                    if let Some(core) = cores.take() {
                        self.start(Some(core));
                    }
                }
            }
        }
        match &mut self.place {
            Place::Here(hasher) => hasher.update(&self.buffer),
            Place::There(thread) => thread.exchange(&mut self.buffer)?,
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
        let thread = thread::Builder::new().name("hash".into()).spawn(move || {
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
    use crate::digest::{Algorithm, Digest};
    use std::sync::atomic::AtomicUsize;

    fn lane(hashing: Hashing) -> Lane<Hasher> {
        Lane::new(Algorithm::Sha256.hasher(), hashing)
    }

    fn fill(lane: &mut Lane<Hasher>, bytes: &[u8]) {
        for piece in bytes.chunks(BUFFER / 3) {
            let mut rest = piece;
            while !rest.is_empty() {
                let room = lane.room().unwrap();
                let now = rest.len().min(room.len());
                room[..now].copy_from_slice(&rest[..now]);
                lane.filled(now);
                rest = &rest[now..];
            }
        }
    }

    /// A small layer does not start a thread.
    #[test]
    fn a_thread_starts_with_the_first_full_buffer() {
        let mut lane = lane(Hashing::OwnThread);
        fill(&mut lane, &vec![1; BUFFER]);
        assert!(!lane.is_on_thread());
        fill(&mut lane, &[1]);
        assert!(lane.is_on_thread());
    }

    /// A core that comes free midway is used from then on, is nobody else's meanwhile, and is given back in the end; the digest
    /// is the same whenever that happens.
    #[test]
    fn a_spare_core_is_taken_midway() {
        let bytes: Vec<u8> = (0..=250).cycle().take(9 * BUFFER + 17).collect();
        for buffers in 0..9 {
            let cores = SpareCores::new(0);
            let mut one = lane(Hashing::Spare(cores.clone()));
            let (before, after) = bytes.split_at(buffers * BUFFER + 5);
            fill(&mut one, before);
            assert!(!one.is_on_thread());
            cores.idle();
            fill(&mut one, after);
            assert!(one.is_on_thread());
            let mut other = lane(Hashing::Spare(cores.clone()));
            fill(&mut other, &bytes);
            assert!(!other.is_on_thread());
            for lane in [one, other] {
                assert_eq!(lane.finish().unwrap().finish(), Digest::sha256(&bytes));
            }
            assert!(cores.take().is_some());
            cores.busy();
            assert!(cores.take().is_none());
        }
    }

    /// Bytes that are the caller's are hashed alike before and after the move.
    #[test]
    fn moving_keeps_the_order() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * BUFFER).collect();
        let mut lane = lane(Hashing::Inline);
        lane.update(&bytes[..=BUFFER]).unwrap();
        lane.move_to_thread();
        assert!(lane.is_on_thread());
        lane.update(&bytes[BUFFER + 1..]).unwrap();
        assert_eq!(lane.finish().unwrap().finish(), Digest::sha256(&bytes));
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
}
