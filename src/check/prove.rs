//! Reads blobs on all cores and says what each one is. A blob is read once, whatever is claimed about it, unless two
//! configs claim its diff ID in two algorithms: then once for each.
//!
//! The largest come first, so that no core ends up alone with a large one. Memory is a few buffers a thread, and the
//! windows of zstd decoders come out of one budget.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Context;
use super::blob::{self, Opened};
use super::error::CheckError;
use super::verdict::Verdict;
use crate::digest::{Algorithm, Digest};
use crate::layout::{LayoutError, Operation};
use crate::progress::{Event, Phase};
use crate::verify::{
    BlobVerifier, Content, DiffId, Hashing, ProvenBlob, SpareCores, VerifyError, WindowBudget, verify_reader,
};

/// What the windows of all zstd decoders may take together. A single larger one is waited for.
const WINDOWS: u64 = 16 << 20;

/// How many bytes lie between two progress events of a blob.
const STEP: u64 = 1 << 20;

/// A blob to prove.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) digest: Digest,
    /// In which algorithms its diff ID is claimed.
    pub(super) algorithms: BTreeSet<Algorithm>,
    /// The file's size, as far as it could be had.
    pub(super) size: u64,
}

/// Proves all `tasks` on `threads` threads, this one being one of them. The proofs, one for each time that a blob was read, are put where
/// somebody wants them.
pub(super) fn prove(
    context: &Context<'_>,
    mut tasks: Vec<Task>,
    threads: usize,
    proofs: Option<&Mutex<Vec<ProvenBlob>>>,
) -> Result<Vec<(Digest, Verdict)>, CheckError> {
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.size), task.digest));
    let total = tasks.iter().fold(0_u64, |total, task| total.saturating_add(task.size));
    if !tasks.is_empty() {
        context.reporter.report(Event::Proving { blobs: tasks.len(), bytes: total });
    }
    let workers = threads.min(tasks.len()).max(1);
    let shared = Shared {
        context,
        spare: SpareCores::new(threads.saturating_sub(workers)),
        tasks,
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        windows: WindowBudget::new(WINDOWS),
        proofs,
        outcome: Mutex::new(Ok(Vec::new())),
    };
    let died = std::thread::scope(|scope| {
        let start = |number: usize| {
            // A machine that has no thread left still checks, only slower.
            std::thread::Builder::new()
                .name(format!("check-{number}"))
                .spawn_scoped(scope, || shared.work())
                .ok()
        };
        let helpers: Vec<_> = (1..workers).map_while(start).collect();
        shared.work();
        helpers.into_iter().map(std::thread::ScopedJoinHandle::join).filter(Result::is_err).count()
    });
    match died {
        0 => shared.outcome.into_inner().unwrap_or_else(PoisonError::into_inner),
        _ => Err(CheckError::ThreadDied),
    }
}

struct Shared<'a> {
    context: &'a Context<'a>,
    /// The cores of threads that have nothing left to do: the blobs that are still being read may use them.
    spare: SpareCores,
    tasks: Vec<Task>,
    next: AtomicUsize,
    /// Something ended the check: the others need not begin another blob.
    is_over: AtomicBool,
    windows: WindowBudget,
    proofs: Option<&'a Mutex<Vec<ProvenBlob>>>,
    outcome: Mutex<Result<Vec<(Digest, Verdict)>, CheckError>>,
}

impl Shared<'_> {
    fn work(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(task) = self.tasks.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                return self.spare.idle();
            };
            let verdict = self.context.proceed().and_then(|()| self.judge(task));
            let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *outcome, verdict) {
                (Ok(verdicts), Ok(verdict)) => {
                    verdicts.push((task.digest, verdict));
                }
                (Ok(_), Err(error)) => {
                    self.is_over.store(true, Ordering::Relaxed);
                    *outcome = Err(error);
                }
                (Err(_), _) => {}
            }
        }
    }

    fn keep(&self, proof: ProvenBlob) {
        if let Some(proofs) = self.proofs {
            proofs.lock().unwrap_or_else(PoisonError::into_inner).push(proof);
        }
    }

    fn judge(&self, task: &Task) -> Result<Verdict, CheckError> {
        let (mut file, size) = match blob::open(self.context.layout, &task.digest)? {
            Opened::File(file, size) => (file, size),
            Opened::Unusable(reason) => return Ok(Verdict::Missing { reason }),
        };
        self.context.started(task.digest, size);
        let count = task.algorithms.len();
        let mut diff_ids = Vec::with_capacity(count);
        if task.algorithms.is_empty() {
            match self.read(&mut file, size, task, Content::Opaque) {
                Ok(proof) => self.keep(proof),
                Err(failed) => return failed.verdict(self.context, task, size),
            }
        }
        for algorithm in &task.algorithms {
            let diff_id = match self.read(&mut file, size, task, Content::Layer { diff_id: *algorithm }) {
                Ok(proof) => {
                    self.keep(proof);
                    match proof.diff_id() {
                        DiffId::Computed { digest, .. } => Ok(digest),
                        DiffId::NotComputed => Err("it was not computed".to_owned()),
                    }
                }
                Err(Failed(VerifyError::Decode { source, .. })) => {
                    Err(format!("it cannot be uncompressed: {source}"))
                }
                Err(failed) => return failed.verdict(self.context, task, size),
            };
            diff_ids.push((*algorithm, diff_id));
        }
        let diff_id = diff_ids.iter().find_map(|(_, diff_id)| diff_id.as_ref().ok().copied());
        self.context.verified(task.digest, size, diff_id);
        Ok(Verdict::Proven { size, diff_ids })
    }

    fn read(&self, file: &mut File, size: u64, task: &Task, content: Content) -> Result<ProvenBlob, Failed> {
        let verifier = BlobVerifier::new(task.digest, size, content)
            .with_hashing(Hashing::Spare(self.spare.clone()))
            .with_window_budget(&self.windows);
        file.rewind().map_err(|source| Failed(VerifyError::Read { digest: task.digest, source }))?;
        let watched = Watched { file, shared: self, digest: task.digest, size, read: 0 };
        verify_reader(watched, verifier).map_err(Failed)
    }
}

/// Why a blob was not proven.
struct Failed(VerifyError);

impl Failed {
    /// What that says about the blob, unless it is about something else.
    fn verdict(self, context: &Context<'_>, task: &Task, size: u64) -> Result<Verdict, CheckError> {
        context.proceed()?;
        let verdict = match self.0 {
            VerifyError::HashingThread { .. } => return Err(CheckError::ThreadDied),
            VerifyError::Read { source, .. } if blob::says_nothing(&source) => {
                let path = context.layout.blob_path(&task.digest);
                return Err(LayoutError::Io { operation: Operation::Read, path, source }.into());
            }
            VerifyError::Read { source, .. } => Verdict::unreadable(&source, size),
            error => Verdict::wrong(&error, size),
        };
        context.refuted(task.digest, &verdict);
        Ok(verdict)
    }
}

/// A blob's file that tells how far it was read, and ends early when the check is to stop.
struct Watched<'a> {
    file: &'a mut File,
    shared: &'a Shared<'a>,
    digest: Digest,
    size: u64,
    read: u64,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.shared.is_over.load(Ordering::Relaxed) || self.shared.context.proceed().is_err() {
            return Err(io::Error::other("the check was stopped"));
        }
        let read = self.file.read(buffer)?;
        let before = self.read;
        self.read += read as u64;
        if self.read / STEP > before / STEP && self.read < self.size {
            self.shared.context.reporter.report(Event::BlobProgress {
                digest: self.digest,
                bytes: self.read,
                total: self.size,
                phase: Phase::Verifying,
            });
        }
        Ok(read)
    }
}
