//! One segment into a staged file: asks for what the schedule says, writes what comes, tells how far it got.
//!
//! Dropping the future at any await leaves the staged file valid: bytes are written before the schedule and the journal
//! hear of them, and what was written since the last record is noted on the way out.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::encoded;
use super::error::TransferError;
use super::segment::{Ask, Assignment, Standing, WholeAnswer};
use super::{Engine, Job};
use crate::failure::{Failure as _, Kind};
use crate::layout::StagedBlob;
use crate::progress::{Event, Phase};
use crate::registry::{BlobBody, Content, RangeDoubt, RegistryError};

/// A record goes into the journal at least this often: after so many bytes, and where they come slowly after so long.
const NOTE_EVERY: u64 = 1 << 20;
const NOTE_WITHIN: Duration = Duration::from_millis(250);

/// A server may answer with less than it was asked for, but not with less than this.
const SMALLEST_ANSWER: u64 = 64 << 10;

/// How long the end of a response is waited for when all its bytes are there.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a segment's connection knows about its file.
struct Filling<'a> {
    engine: &'a Engine,
    job: &'a Job,
    staged: Arc<StagedBlob>,
    assignment: &'a Assignment,
    /// Where the response ends; the segment may be cut shorter meanwhile.
    answer_end: u64,
    /// Written, but not yet in the journal.
    unnoted: Range<u64>,
    noted: Instant,
}

impl Engine {
    /// One attempt at an assignment, from wherever the attempts before got. A server may answer with less than it was
    /// asked for: then it is asked for the rest.
    pub(super) async fn attempt(&self, job: &Job, assignment: &Assignment) -> Result<(), TransferError> {
        let Some(staged) = job.staged() else { return Ok(()) };
        loop {
            let ask = self.schedule().ask(assignment, Instant::now());
            let wanted = match ask {
                Ask::Nothing => return Ok(()),
                Ask::Whole => None,
                Ask::Part(range) => Some(range),
            };
            self.answer(job, assignment, &staged, wanted).await?;
        }
    }

    /// One request and its answer.
    async fn answer(
        &self,
        job: &Job,
        assignment: &Assignment,
        staged: &Arc<StagedBlob>,
        wanted: Option<Range<u64>>,
    ) -> Result<(), TransferError> {
        let body = match self.registry.open(&job.source, wanted.clone()).await {
            Ok(body) => body,
            Err(error) if wanted.is_some() && self.asks_for_the_whole(assignment, &error) => return Ok(()),
            Err(error) => return Err(self.refused(assignment, error.into())),
        };
        match body.content() {
            Content::Part { .. } => {
                if self.schedule().part_answered(assignment) {
                    self.changed.notify_waiters();
                }
            }
            Content::Whole { encoding: Some(_), .. } => {
                if !self.schedule().encoded_answered(assignment) {
                    return Ok(());
                }
                return encoded::download(self, job, staged, assignment, body).await;
            }
            Content::Whole { .. } if wanted.is_some() => {
                if self.schedule().whole_answered(assignment) == WholeAnswer::Refusal {
                    return Err(self.ignored(job, assignment, &body, "the whole blob"));
                }
            }
            Content::Whole { .. } => self.schedule().whole_brought(assignment),
        }
        job.responses.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let (Content::Part { range }, Some(wanted)) = (body.content(), &wanted)
            && range.end < wanted.end
            && range.end - range.start < SMALLEST_ANSWER
        {
            // Asked for the rest again and again, such a server would keep us for ever.
            return Err(self.ignored(job, assignment, &body, "too little of it"));
        }
        let answer_end = match body.content() {
            Content::Part { range } => range.end,
            Content::Whole { .. } => job.size(),
        };
        let staged = Arc::clone(staged);
        let filling = Filling {
            engine: self,
            job,
            staged,
            assignment,
            answer_end,
            unnoted: 0..0,
            noted: Instant::now(),
        };
        filling.fill(body).await
    }

    /// Whether a range was refused by a server that was never seen to have any: the next request is for the whole then, which is no
    /// new try. What may just as well be a failure that passes counts as a refusal only.
    fn asks_for_the_whole(&self, assignment: &Assignment, error: &RegistryError) -> bool {
        let mut schedule = self.schedule();
        match error.may_be_about_ranges() {
            RangeDoubt::None => false,
            RangeDoubt::Strong => schedule.gives_up_ranges(assignment),
            RangeDoubt::Weak => {
                if schedule.knows_nothing_of_ranges(assignment) {
                    schedule.range_refused(assignment);
                }
                false
            }
        }
    }

    /// The answer is not for the range that was asked for, and another may be.
    fn ignored(
        &self,
        job: &Job,
        assignment: &Assignment,
        body: &BlobBody,
        found: &'static str,
    ) -> TransferError {
        let error = TransferError::RangeIgnored { about: body.about().clone(), found };
        job.source.refuses_range(&error);
        self.refused(assignment, error)
    }

    fn refused(&self, assignment: &Assignment, error: TransferError) -> TransferError {
        if error.is_range_refusal() {
            self.schedule().range_refused(assignment);
        }
        error
    }
}

impl Filling<'_> {
    async fn fill(mut self, mut body: BlobBody) -> Result<(), TransferError> {
        while let Some(chunk) = self.next(&mut body).await? {
            // The segment may have been split or given up since the last chunk.
            let Some(open) = self.engine.schedule().position(self.assignment) else { return Ok(()) };
            let room = usize::try_from(open.end - open.start).unwrap_or(usize::MAX);
            let taken = &chunk[..chunk.len().min(room)];
            let written = open.start..open.start + taken.len() as u64;
            let new = self.write(taken, &written)?;
            self.job.budget.progressed(new);
            if written.end >= open.end {
                self.job.budget.segment_finished();
                return if written.end == self.answer_end { close(body).await } else { Ok(()) };
            }
        }
        let reached = self.engine.schedule().position(self.assignment);
        match reached {
            Some(open) if open.start < self.answer_end.min(open.end) => {
                Err(TransferError::Short { about: body.about().clone() })
            }
            _ => Ok(()),
        }
    }

    /// The next bytes. While they are waited for, those before them get into the journal.
    async fn next(&mut self, body: &mut BlobBody) -> Result<Option<Bytes>, TransferError> {
        let chunk = body.chunk();
        tokio::pin!(chunk);
        if !self.unnoted.is_empty() {
            let left = NOTE_WITHIN.saturating_sub(self.noted.elapsed());
            match tokio::time::timeout(left, &mut chunk).await {
                Ok(chunk) => return Ok(chunk?),
                Err(_) => self.note()?,
            }
        }
        Ok(chunk.await?)
    }

    /// Writes what is not there yet, and says how many bytes that was: a stream begins with bytes that earlier answers
    /// brought, and those are no progress.
    fn write(&mut self, bytes: &[u8], range: &Range<u64>) -> Result<u64, TransferError> {
        let mut new = 0;
        let gaps = self.engine.schedule().gaps(self.assignment.blob, range.clone());
        for gap in gaps {
            let from = usize::try_from(gap.start - range.start).unwrap_or(usize::MAX);
            let to = usize::try_from(gap.end - range.start).unwrap_or(usize::MAX);
            self.staged.write_at(&bytes[from..to], gap.start)?;
            if self.unnoted.end != gap.start {
                self.note()?;
                self.unnoted = gap.start..gap.start;
            }
            self.unnoted.end = gap.end;
            new += gap.end - gap.start;
        }
        if self.unnoted.end - self.unnoted.start >= NOTE_EVERY {
            self.note()?;
        }
        let standing = self.engine.schedule().advanced(self.assignment, range.clone());
        self.engine.filled(self.job, standing);
        if self.staged.is_write_back_due(standing.have == standing.size) {
            let staged = Arc::clone(&self.staged);
            tokio::task::spawn_blocking(move || staged.write_back());
        }
        Ok(new)
    }

    fn note(&mut self) -> Result<(), TransferError> {
        let range = std::mem::replace(&mut self.unnoted, 0..0);
        self.noted = Instant::now();
        if range.is_empty() { Ok(()) } else { Ok(self.staged.note(&range)?) }
    }
}

/// Reads a response past its last wanted byte: to its end, so that the connection can be used again, or to the byte too
/// many that makes it an error. Every byte is there, so a connection that fails or dawdles now costs nothing.
async fn close(mut body: BlobBody) -> Result<(), TransferError> {
    match tokio::time::timeout(PATIENCE, body.chunk()).await {
        Ok(Err(error)) if error.kind() == Kind::Integrity => Err(error.into()),
        _ => Ok(()),
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        // An error here would only cost the next process what was not noted.
        let _ = self.note();
    }
}

impl Engine {
    /// Tells everybody how far a blob has come.
    pub(super) fn filled(&self, job: &Job, standing: Standing) {
        if let Some(followed) = job.followed() {
            self.followers.advance(&followed, standing.frontier);
        }
        self.reporter.report(Event::BlobProgress {
            digest: job.digest(),
            bytes: standing.have,
            total: standing.size,
            phase: Phase::Downloading,
        });
    }
}
