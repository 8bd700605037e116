//! The main task of a transfer: takes the verifiers' verdicts, commits what is proven, and decides about what is not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::error::TransferError;
use super::follow::{Bytes, Unproven, Verdict};
use super::{Done, Engine, Outcome};
use crate::layout::{Existing, LayoutError, StagedBlob};
use crate::progress::Event;
use crate::verify::{DiffId, ProvenBlob, VerifyError};

/// The main task of a transfer: takes verdicts and commits what is proven.
pub(super) struct Collecting<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) commits: JoinSet<Result<(usize, ProvenBlob), LayoutError>>,
    pub(super) left: usize,
}

impl Collecting<'_> {
    pub(super) async fn run(
        mut self,
        mut verdicts: mpsc::Receiver<Verdict>,
        connections: &mut JoinSet<Result<Infallible, TransferError>>,
    ) -> Result<(), TransferError> {
        while self.left > 0 {
            tokio::select! {
                verdict = verdicts.recv() => self.decide(verdict.ok_or(TransferError::Stopped)?).await?,
                Some(committed) = self.commits.join_next() => {
                    let (at, proof) = committed.map_err(|_| TransferError::Stopped)??;
                    self.done(at, Some(proof));
                }
                Some(ended) = connections.join_next() => match ended {
                    Ok(Err(error)) => return Err(error),
                    _ => return Err(TransferError::Stopped),
                },
            }
        }
        Ok(())
    }

    async fn decide(&mut self, verdict: Verdict) -> Result<(), TransferError> {
        let job = &self.engine.jobs[verdict.task];
        if job.state().round != verdict.round {
            return Ok(());
        }
        match verdict.result {
            Ok(proof) => {
                self.commit(verdict.task, proof);
                Ok(())
            }
            Err(Unproven::Trusted) => {
                self.done(verdict.task, None);
                Ok(())
            }
            Err(Unproven::Disk(error)) => Err(error.into()),
            Err(Unproven::Verify(error)) => self.engine.again(verdict.task, error).await,
        }
    }

    fn commit(&mut self, at: usize, proof: ProvenBlob) {
        match self.engine.jobs[at].staged() {
            Some(staged) => {
                self.commits.spawn_blocking(move || staged.commit(&proof).map(|()| (at, proof)));
            }
            None => self.done(at, Some(proof)),
        }
    }

    fn done(&mut self, at: usize, proof: Option<ProvenBlob>) {
        let job = &self.engine.jobs[at];
        let (digest, size) = (job.digest(), job.size());
        let diff_id = match proof.as_ref().map(ProvenBlob::diff_id) {
            Some(DiffId::Computed { digest, .. }) => Some(digest),
            _ => None,
        };
        let mut state = job.state();
        // Files are closed as soon as they can be: a layout may have thousands.
        state.staged = None;
        state.followed = None;
        let reused = job.reused.load(Ordering::Relaxed);
        state.done = Some(Done { digest, size, proof, outcome: state.outcome, reused });
        drop(state);
        self.engine.schedule().complete(at);
        self.engine.changed.notify_waiters();
        self.left -= 1;
        self.engine.reporter.report(Event::BlobVerified { digest, bytes: size, total: size, diff_id });
    }
}

impl Engine {
    /// A blob's bytes did not hold: what can be done about it, if anything.
    async fn again(&self, at: usize, error: VerifyError) -> Result<(), TransferError> {
        let job = &self.jobs[at];
        let staged = job.staged();
        let responses = job.responses.swap(0, Ordering::Relaxed);
        let is_bytes = error.is_about_bytes();
        let is_downloaded = staged.is_some();
        match staged {
            // A blob of the layout that went bad is replaced.
            None if is_bytes && job.state().existing == Existing::Keep => {
                self.reporter.report(Event::Warning {
                    message: format!(
                        "the layout's blob {} is bad and is downloaded again: {error}",
                        job.digest()
                    ),
                });
                let mut state = job.state();
                (state.existing, state.followed, state.outcome) =
                    (Existing::Replace, None, Outcome::Downloaded);
                drop(state);
                self.schedule().reopen(at);
                self.changed.notify_waiters();
                Ok(())
            }
            // Bytes of several responses may belong to several versions: once more, from one.
            Some(staged) if is_bytes && responses > 1 && !job.state().restarted => {
                job.state().restarted = true;
                self.reporter.report(Event::Retry {
                    digest: Some(job.digest()),
                    host: job.source.repository().host().to_owned(),
                    after_seconds: 0.0,
                    announced: false,
                    cause: format!("{error}; starting over from zero"),
                });
                self.restart(at, staged).await
            }
            staged => {
                if let Some(staged) = staged {
                    // Bytes that are proven wrong are of no use to the next run either.
                    let _ = tokio::task::spawn_blocking(move || staged.discard()).await;
                }
                let origin = if is_downloaded {
                    format!("what {} sent for blob {}", job.source.repository(), job.digest())
                } else {
                    format!("what the layout holds as blob {}", job.digest())
                };
                Err(TransferError::Unproven { origin, source: error })
            }
        }
    }

    async fn restart(&self, at: usize, staged: Arc<StagedBlob>) -> Result<(), TransferError> {
        let job = &self.jobs[at];
        let file = Arc::clone(&staged);
        tokio::task::spawn_blocking(move || file.restart()).await.map_err(|_| TransferError::Stopped)??;
        job.state().outcome = Outcome::Downloaded;
        job.reused.store(0, Ordering::Relaxed);
        self.follow(at, Bytes::Staged(staged));
        self.schedule().restart(at);
        self.changed.notify_waiters();
        Ok(())
    }
}
