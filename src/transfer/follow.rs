//! Drives verifiers along the frontiers of files that are still being filled.
//!
//! A fixed number of threads, one a core, serves all blobs: a blob whose frontier is ahead of its verifier stands in a
//! queue, and a thread takes it for a bounded stretch, so that no slow download keeps a thread waiting and no large
//! blob keeps others from being proven. The disk (in truth the page cache) is the buffer between network and
//! verification; the network never waits.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::layout::{LayoutError, Operation, StagedBlob};
use crate::progress::{Event, Phase, Reporter};
use crate::verify::{BlobVerifier, Conclusion, ProvenBlob, SpareCores, VerifyError};

/// How much is read at once. Fits the second-level cache together with the decoder's state.
const READ: usize = 64 << 10;

/// How much of one blob a thread takes on before it looks at the others.
const STRETCH: u64 = 4 << 20;

/// How long a thread stays with one blob before it looks at the others: a few bytes may expand to very many.
const TURN: Duration = Duration::from_millis(100);

/// Fewer bytes than this wait for more, unless they are the last.
const WORTH_WAKING: u64 = 256 << 10;

/// Where a blob's bytes are read from.
#[derive(Debug)]
pub(super) enum Bytes {
    /// A staged file that is still being filled.
    Staged(Arc<StagedBlob>),
    /// A blob of the layout.
    Committed(File, PathBuf),
}

impl Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, LayoutError> {
        match self {
            Self::Staged(staged) => staged.read_at(buffer, offset),
            Self::Committed(file, path) => crate::layout::read_at(file, buffer, offset)
                .map_err(|source| LayoutError::Io { operation: Operation::Read, path: path.clone(), source }),
        }
    }
}

/// Why a blob was not proven.
#[derive(Debug)]
pub(super) enum Unproven {
    Verify(VerifyError),
    Disk(LayoutError),
    /// Nothing was to be proven: the committed size is trusted.
    Trusted,
}

/// A blob on its way through a verifier.
pub(super) struct Followed {
    /// Which task it is, and which try of it.
    pub(super) task: usize,
    pub(super) round: u32,
    digest: Digest,
    size: u64,
    bytes: Bytes,
    frontier: AtomicU64,
    queued: AtomicBool,
    state: Mutex<State>,
}

struct State {
    verifier: Option<BlobVerifier>,
    position: u64,
}

impl Followed {
    /// Whether the file that was read is still the one at its path.
    pub(super) fn is_still_there(&self) -> Result<bool, LayoutError> {
        match &self.bytes {
            Bytes::Staged(_) => Ok(true),
            Bytes::Committed(file, path) => crate::layout::is_still_at(file, path),
        }
    }

    pub(super) fn new(
        task: usize,
        round: u32,
        digest: Digest,
        size: u64,
        bytes: Bytes,
        verifier: BlobVerifier,
    ) -> Self {
        Self {
            task,
            round,
            digest,
            size,
            bytes,
            frontier: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            state: Mutex::new(State { verifier: Some(verifier), position: 0 }),
        }
    }
}

/// One blob's verdict.
pub(super) struct Verdict {
    pub(super) task: usize,
    pub(super) round: u32,
    pub(super) result: Result<ProvenBlob, Unproven>,
}

/// What waits for the threads, which live until this is dropped.
pub(super) struct Followers {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// What `Queue::stopped` says, for those that must not take the lock for each read.
    stop: AtomicBool,
    verdicts: mpsc::Sender<Verdict>,
    reporter: Arc<dyn Reporter>,
    /// The cores of threads that have nothing to do: others may use them.
    spare: SpareCores,
}

#[derive(Default)]
struct Queue {
    /// Those that are all there and were begun.
    first: Vec<Arc<Followed>>,
    ready: VecDeque<Arc<Followed>>,
    /// Those whose decoder needs memory that others hold; they are tried again when another verifier is done.
    parked: Vec<Arc<Followed>>,
    /// How many verifiers are done, so that one that parks sees whether memory came free meanwhile.
    done: u64,
    stopped: bool,
}

impl Queue {
    /// The next to be taken on: one that was begun and can be finished; then the largest, so that no core ends up alone with
    /// a large one while the others have nothing left to do.
    fn take(&mut self) -> Option<Arc<Followed>> {
        self.first.pop().or_else(|| {
            // Of those of one size the first: the order in which they came.
            let largest = |(at, followed): (usize, &Arc<Followed>)| (followed.size, std::cmp::Reverse(at));
            let (_, std::cmp::Reverse(at)) = self.ready.iter().enumerate().map(largest).max()?;
            self.ready.remove(at)
        })
    }
}

impl Followers {
    /// Starts the threads, which tell `spare` when they have nothing to do. `verdicts` must have room for every blob's every round: a thread never waits to tell.
    pub(super) fn start(
        threads: usize,
        spare: SpareCores,
        reporter: Arc<dyn Reporter>,
        verdicts: mpsc::Sender<Verdict>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            verdicts,
            reporter,
            spare,
        });
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("verify-{number}")).spawn(move || shared.serve())?;
        }
        Ok(Self { shared })
    }

    /// Tells that the bytes up to `frontier` are there.
    pub(super) fn advance(&self, followed: &Arc<Followed>, frontier: u64) {
        let before = followed.frontier.fetch_max(frontier, Ordering::AcqRel);
        let worth = frontier == followed.size || frontier / WORTH_WAKING > before / WORTH_WAKING;
        if worth {
            self.shared.enqueue(followed);
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        // The threads end by themselves, at the latest after the read that they are at: whoever drops this may be async
        // code, which must not wait for them.
        self.shared.stop.store(true, Ordering::Release);
        self.shared.lock().stopped = true;
        self.shared.wake.notify_all();
    }
}

/// What came of a stretch.
enum Stretch {
    /// The verifier has caught up; the next bytes wake it.
    CaughtUp,
    /// There is more to do.
    More,
    /// The decoder waits for memory.
    Parked,
    /// It is decided.
    Done,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn enqueue(&self, followed: &Arc<Followed>) {
        if !followed.queued.swap(true, Ordering::AcqRel) {
            self.lock().ready.push_back(Arc::clone(followed));
            self.wake.notify_one();
        }
    }

    fn serve(&self) {
        let mut buffer = vec![0; READ];
        while let Some(followed) = self.take() {
            let done = self.lock().done;
            match self.stretch(&followed, &mut buffer) {
                Stretch::CaughtUp => {
                    followed.queued.swap(false, Ordering::AcqRel);
                    // Bytes that came between the last look and the line above told nobody.
                    if self.has_more(&followed) {
                        self.enqueue(&followed);
                    }
                }
                Stretch::More => {
                    // A blob that is all there is finished before another is begun, so that few decoders are alive.
                    let is_whole = followed.frontier.load(Ordering::Acquire) == followed.size;
                    let mut queue = self.lock();
                    if is_whole {
                        queue.first.push(followed);
                    } else {
                        queue.ready.push_back(followed);
                    }
                    drop(queue);
                    self.wake.notify_one();
                }
                Stretch::Parked => self.park(followed, done),
                Stretch::Done => self.unpark(),
            }
        }
    }

    fn take(&self) -> Option<Arc<Followed>> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            if let Some(followed) = queue.take() {
                return Some(followed);
            }
            self.spare.idle();
            queue = self.wake.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
            self.spare.busy();
        }
    }

    fn park(&self, followed: Arc<Followed>, done: u64) {
        let mut queue = self.lock();
        if queue.done == done {
            queue.parked.push(followed);
        } else {
            queue.ready.push_back(followed);
        }
    }

    fn unpark(&self) {
        let mut queue = self.lock();
        queue.done += 1;
        let parked = std::mem::take(&mut queue.parked);
        queue.ready.extend(parked);
        drop(queue);
        self.wake.notify_all();
    }

    fn has_more(&self, followed: &Followed) -> bool {
        let state = followed.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.verifier.is_some()
            && (followed.frontier.load(Ordering::Acquire) > state.position || followed.size == 0)
            && !self.lock().stopped
    }

    fn stretch(&self, followed: &Followed, buffer: &mut [u8]) -> Stretch {
        let mut state = followed.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match advance(followed, &mut state, buffer, &self.stop) {
            Ok(Stretch::Done) => {
                let Some(verifier) = state.verifier.take() else { return Stretch::Done };
                let result = match verifier.conclude() {
                    Ok(Conclusion::Again(verifier)) => {
                        // These are the blob's bytes: from their first one again, and uncompressed to the end this time.
                        (state.verifier, state.position) = (Some(*verifier), 0);
                        return Stretch::More;
                    }
                    Ok(Conclusion::Proven(proof)) => Ok(proof),
                    Err(error) => Err(Unproven::Verify(error)),
                };
                self.decide(followed, result);
                Stretch::Done
            }
            Ok(stretch) => {
                self.report(followed, state.position);
                stretch
            }
            Err(error) => {
                state.verifier = None;
                self.decide(followed, Err(error));
                Stretch::Done
            }
        }
    }

    fn report(&self, followed: &Followed, position: u64) {
        if followed.frontier.load(Ordering::Acquire) == followed.size {
            self.reporter.report(Event::BlobProgress {
                digest: followed.digest,
                bytes: position,
                total: followed.size,
                phase: Phase::Verifying,
            });
        }
    }

    fn decide(&self, followed: &Followed, result: Result<ProvenBlob, Unproven>) {
        let verdict = Verdict { task: followed.task, round: followed.round, result };
        // Nobody listens any more when the transfer was given up.
        let _ = self.verdicts.try_send(verdict);
    }
}

/// Feeds the verifier with what is there, at most a stretch of it.
fn advance(
    followed: &Followed,
    state: &mut State,
    buffer: &mut [u8],
    stop: &AtomicBool,
) -> Result<Stretch, Unproven> {
    let Some(verifier) = &mut state.verifier else { return Ok(Stretch::Done) };
    let limit = state.position.saturating_add(STRETCH);
    let began = Instant::now();
    loop {
        if state.position == followed.size {
            return Ok(Stretch::Done);
        }
        let frontier = followed.frontier.load(Ordering::Acquire);
        if state.position >= frontier {
            return Ok(Stretch::CaughtUp);
        }
        let turn_is_over = began.elapsed() >= TURN || stop.load(Ordering::Acquire);
        if state.position >= limit || turn_is_over {
            return Ok(Stretch::More);
        }
        let there = usize::try_from(frontier - state.position).unwrap_or(usize::MAX).min(buffer.len());
        let read = followed.bytes.read_at(&mut buffer[..there], state.position).map_err(Unproven::Disk)?;
        if read == 0 {
            // Somebody shortened the file: what the verifier has seen is all there is.
            return Ok(Stretch::Done);
        }
        let accepted = verifier.write(&buffer[..read]).map_err(Unproven::Verify)?;
        state.position += accepted.consumed as u64;
        if accepted.blocked.is_some() {
            return Ok(Stretch::Parked);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::digest::Algorithm;
    use crate::progress::NullReporter;
    use crate::verify::{Caution, Content, DiffId};

    /// A layer that is read twice, because it expands far, has its verdict after the second reading, also when its bytes
    /// come bit by bit; bytes that are not the layer have theirs after the first.
    #[test]
    fn caution_reads_twice() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        encoder.write_all(&vec![0; 4 << 20]).unwrap();
        let layer = encoder.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        for wanted in [Digest::sha256(&layer), Digest::sha256(b"other")] {
            for caution in [Caution { floor: 1 << 20, factor: 2 }, Caution::DIGEST_FIRST, Caution::default()]
            {
                std::fs::write(&path, &layer).unwrap();
                let size = layer.len() as u64;
                let bytes = Bytes::Committed(File::open(&path).unwrap(), path.clone());
                let content = Content::Layer { diff_id: Algorithm::Sha256 };
                let verifier = BlobVerifier::new(wanted, size, content).with_caution(caution);
                let (sender, mut verdicts) = mpsc::channel(2);
                let followers =
                    Followers::start(2, SpareCores::default(), Arc::new(NullReporter), sender).unwrap();
                let followed = Arc::new(Followed::new(0, 1, wanted, size, bytes, verifier));
                followers.advance(&followed, size / 2);
                followers.advance(&followed, size);
                match verdicts.blocking_recv().unwrap().result {
                    Ok(proof) => {
                        let digest = Digest::sha256(&vec![0; 4 << 20]);
                        assert_eq!(*proof.digest(), Digest::sha256(&layer));
                        let uncompressed_size = 4 << 20;
                        assert_eq!(proof.diff_id(), DiffId::Computed { digest, uncompressed_size });
                    }
                    Err(Unproven::Verify(VerifyError::DigestMismatch { .. })) => {
                        assert_ne!(wanted, Digest::sha256(&layer));
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    }
}
