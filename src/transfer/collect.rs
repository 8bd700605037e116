//! The main task of a transfer: takes the verifiers' verdicts, commits what is proven, and decides about what is not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::error::TransferError;
use super::follow::{Bytes, Unproven, Verdict};
use super::segment::Schedule;
use super::{Done, Engine, Job, Judged, Outcome};
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
        let responses = job.responses.swap(0, Ordering::Relaxed);
        match job.staged() {
            None => self.replace(at, error),
            Some(staged) if !error.is_about_bytes() => Err(unproven(job, &staged, error).await),
            // Bytes of several responses may belong to several versions, or come from a place that was given up meanwhile
            // and from another that is not to blame: once more, from one.
            Some(staged) if responses > 1 && job.may_be_mixed() => {
                job.state().restarted = true;
                self.reporter.report(Event::Retry {
                    digest: Some(job.digest()),
                    host: job.source.server().to_owned(),
                    after_seconds: 0.0,
                    announced: false,
                    cause: format!("{error}; starting over from zero"),
                });
                self.restart(at, staged, Schedule::restart).await
            }
            Some(staged) => {
                let (server, struck) = (job.source.server().to_owned(), job.state().struck);
                if !job.source.distrust(struck, &error) {
                    return Err(unproven(job, &staged, error).await);
                }
                job.state().restarted = false;
                job.budget.refill();
                self.reporter.report(Event::Warning {
                    message: format!("{server} sent other bytes than the blob's: {error}; asking elsewhere"),
                });
                self.restart(at, staged, Schedule::restart_elsewhere).await
            }
        }
    }

    /// A blob of the layout that went bad is replaced, once.
    fn replace(&self, at: usize, error: VerifyError) -> Result<(), TransferError> {
        let job = &self.jobs[at];
        let mut state = job.state();
        if let VerifyError::Decode { .. } = error {
            return Err(TransferError::Unusable { digest: job.digest(), source: error });
        }
        if !error.is_about_bytes() || state.existing == Existing::Replace {
            let origin = format!("what the layout holds as blob {}", job.digest());
            return Err(TransferError::Unproven { origin, source: error });
        }
        (state.existing, state.outcome) = (Existing::Replace, Outcome::Downloaded);
        let followed = state.followed.take();
        if let (Judged::Nothing, Some(followed)) = (&state.judged, followed) {
            state.judged = Judged::Bad(followed);
        }
        drop(state);
        self.reporter.report(Event::Warning {
            message: format!("the layout's blob {} is bad and is downloaded again: {error}", job.digest()),
        });
        self.schedule().reopen(at);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn restart(
        &self,
        at: usize,
        staged: Arc<StagedBlob>,
        reschedule: fn(&mut Schedule, usize),
    ) -> Result<(), TransferError> {
        let job = &self.jobs[at];
        let file = Arc::clone(&staged);
        tokio::task::spawn_blocking(move || file.restart()).await.map_err(|_| TransferError::Stopped)??;
        let mut state = job.state();
        (state.outcome, state.doubted) = (Outcome::Downloaded, true);
        drop(state);
        job.reused.store(0, Ordering::Relaxed);
        self.follow(at, Bytes::Staged(staged));
        reschedule(&mut self.schedule(), at);
        self.changed.notify_waiters();
        Ok(())
    }
}

/// The end of a blob whose bytes cannot be helped. They are of no use to the next run either.
async fn unproven(job: &Job, staged: &Arc<StagedBlob>, error: VerifyError) -> TransferError {
    let staged = Arc::clone(staged);
    let _ = tokio::task::spawn_blocking(move || staged.discard()).await;
    if let VerifyError::Decode { .. } = error {
        return TransferError::Unusable { digest: job.digest(), source: error };
    }
    let nowhere = error.is_about_bytes().then(|| job.source.nowhere()).flatten();
    nowhere.map_or_else(
        || {
            let sender = match job.source.place_count() {
                1 => job.source.repository().to_string(),
                _ => job.source.server().to_owned(),
            };
            let origin = format!("what {sender} sent for blob {}", job.digest());
            TransferError::Unproven { origin, source: error }
        },
        TransferError::from,
    )
}
