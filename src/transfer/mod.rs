//! The transfer engine: downloads fill staged files, verification follows their frontiers.
//!
//! [`transfer`] takes the blobs of an image and gives back a proof for each, the blobs standing under their final names.
//! A pool of connections takes segments over all blobs together (`segment.rs` orders them), each fills its part of
//! a staged file (`download.rs`), and a few threads prove what is contiguous (`follow.rs`). Memory is a few buffers
//! a connection and a decoder a thread, whatever the size of the image.
//!
//! Guarantees: nothing gets its final name unproven; dropping the future leaves staged files and journals from which
//! the next process resumes.

mod collect;
mod download;
mod encoded;
mod error;
mod follow;
mod pace;
mod segment;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::digest::Digest;
use crate::layout::intervals::Intervals;
use crate::layout::{Existing, Layout, LayoutError, StagedBlob, Staging};
use crate::manifest::Descriptor;
use crate::progress::{Event, Phase, Reporter};
use crate::registry::{BlobSource, Budget, Registry};
use crate::verify::{BlobVerifier, Caution, Content, Hashing, ProvenBlob, SpareCores, WindowBudget};

pub use error::TransferError;

use collect::Collecting;
use follow::{Bytes, Followed, Followers, Unproven, Verdict};
use pace::Pace;
use segment::{Assignment, Schedule, Work};

/// How often a blob that another process fills is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Open staged files beyond the connections' own: proven, or waiting for a verifier.
const SPARE_FILES: usize = 64;

/// From this size on, a layer's bytes may be hashed on a core that has nothing else to do.
const LARGE: u64 = 4 << 20;

/// What the zstd windows of all live decoders may take together: two of the 8 MiB that are usual at most.
const WINDOWS: u64 = 16 << 20;

/// How a transfer is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How many connections work at a time at most, over all blobs together. Where a registry is near and a few connections are fast,
    /// there are no more than those.
    pub connections: usize,
    /// The unit of parallel ranges, in bytes; where it is not said, [`Options::SEGMENT_SIZE`], or [`Options::FAST_SEGMENT_SIZE`] as long as
    /// few connections are fast.
    pub segment_size: Option<u64>,
}

impl Options {
    /// The default number of connections.
    pub const CONNECTIONS: usize = 10;
    /// The default unit of parallel ranges.
    pub const SEGMENT_SIZE: u64 = 8 << 20;
    /// The same where few connections are fast.
    pub const FAST_SEGMENT_SIZE: u64 = 16 << 20;
}

impl Default for Options {
    fn default() -> Self {
        Self { connections: Self::CONNECTIONS, segment_size: None }
    }
}

/// A blob that is to stand in the layout, proven.
#[derive(Debug)]
pub struct Task {
    /// Which blob.
    pub descriptor: Descriptor,
    /// What is to be proven of it besides size and digest.
    pub content: Content,
    /// Where it comes from when it is not there.
    pub source: BlobSource,
    /// What to think of a file of the right size under its final name.
    pub present: Present,
}

/// Whether a blob of the layout is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// It is read and proven; when it turns out bad, it is downloaded again.
    Prove,
    /// Its committed size is trusted: there is nothing to prove beyond size and digest.
    Trust,
}

/// How a blob came to be in the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// Every byte came over the network now.
    Downloaded,
    /// An earlier run had left some of its bytes.
    Resumed,
    /// It was there.
    Present,
    /// Its descriptor held it.
    Embedded,
}

/// A blob that stands under its final name.
#[derive(Debug)]
pub struct Done {
    /// The blob.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// What was proven of it; nothing for a present blob that is trusted.
    pub proof: Option<ProvenBlob>,
    /// How it came.
    pub outcome: Outcome,
    /// How many of its bytes need not be downloaded because they were there, in the layout or staged.
    pub reused: u64,
}

/// Downloads what is missing and proves everything; every blob stands under its final name then.
///
/// The tasks are of different blobs. A blob that another process is downloading is waited for.
///
/// # Errors
/// The first failure ends the transfer: [`TransferError`] says of which blob, and why. What was downloaded stays staged.
pub async fn transfer(
    registry: &Registry,
    layout: &Layout,
    tasks: Vec<Task>,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
) -> Result<Vec<Done>, TransferError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let (engine, verdicts) = Engine::new(registry, layout, tasks, options, reporter)?;
    let engine = Arc::new(engine);
    let mut connections = JoinSet::new();
    for _ in 0..options.connections.max(1) {
        let engine = Arc::clone(&engine);
        connections.spawn(async move { engine.work().await });
    }
    let collected = Collecting { engine: &engine, commits: JoinSet::new(), left: engine.jobs.len() };
    let result = collected.run(verdicts, &mut connections).await;
    connections.shutdown().await;
    result?;
    let engine = Arc::into_inner(engine).ok_or(TransferError::Stopped)?;
    Ok(engine.jobs.into_iter().filter_map(Job::into_done).collect())
}

/// A blob and everything that is going on with it.
struct Job {
    task: Task,
    budget: Budget,
    /// From how many responses the staged bytes come.
    responses: AtomicU32,
    reused: AtomicU64,
    state: Mutex<JobState>,
}

struct JobState {
    staged: Option<Arc<StagedBlob>>,
    followed: Option<Arc<Followed>>,
    outcome: Outcome,
    existing: Existing,
    round: u32,
    /// How many of its places had been given up when the round began.
    struck: usize,
    announced: bool,
    judged: Judged,
    restarted: bool,
    /// Wrong bytes came for it.
    doubted: bool,
    done: Option<Done>,
}

/// What is known of a file of the layout under the blob's name.
enum Judged {
    Nothing,
    /// It turned out bad in this reading.
    Bad(Arc<Followed>),
    /// Another process put a file in its place meanwhile, which is read too. That happens once.
    Again,
}

impl Judged {
    fn bad(&self) -> Option<Arc<Followed>> {
        if let Self::Bad(followed) = self { Some(Arc::clone(followed)) } else { None }
    }
}

impl Job {
    fn digest(&self) -> Digest {
        self.task.descriptor.digest
    }

    fn size(&self) -> u64 {
        self.task.descriptor.size
    }

    fn state(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staged(&self) -> Option<Arc<StagedBlob>> {
        self.state().staged.clone()
    }

    fn followed(&self) -> Option<Arc<Followed>> {
        self.state().followed.clone()
    }

    /// Whether the bytes of this round may be of different versions or places, and starting over may help: once, and
    /// again for every place that was given up while they came.
    fn may_be_mixed(&self) -> bool {
        let state = self.state();
        !state.restarted || self.source.struck() > state.struck
    }

    fn into_done(self) -> Option<Done> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).done
    }
}

impl std::ops::Deref for Job {
    type Target = Task;

    fn deref(&self) -> &Task {
        &self.task
    }
}

/// Everything that the connections share.
struct Engine {
    registry: Registry,
    layout: Layout,
    jobs: Vec<Job>,
    schedule: Mutex<Schedule>,
    changed: Notify,
    followers: Followers,
    windows: WindowBudget,
    /// Bodies that nobody asked to be encoded are decoded one at a time: their windows are in no budget.
    decoding: tokio::sync::Semaphore,
    spare: SpareCores,
    reporter: Arc<dyn Reporter>,
    /// Blobs that are trusted as they are need no verifier, so their verdict comes from here.
    trusted: mpsc::Sender<Verdict>,
}

impl Engine {
    fn new(
        registry: &Registry,
        layout: &Layout,
        tasks: Vec<Task>,
        options: &Options,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<(Self, mpsc::Receiver<Verdict>), TransferError> {
        let sizes: Vec<u64> = tasks.iter().map(|task| task.descriptor.size).collect();
        // At most a round for a bad present blob, one when another process may have replaced it, one after that, and three for
        // each place: as downloaded, once more from zero, and again when the place was given up meanwhile.
        let rounds = tasks.iter().map(|task| 3 + 3 * task.source.place_count()).sum();
        let (sender, verdicts) = mpsc::channel(rounds);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = cores.min(tasks.len());
        let spare = SpareCores::new(cores - threads);
        let followers = Followers::start(threads, spare.clone(), Arc::clone(reporter), sender.clone())
            .map_err(TransferError::Threads)?;
        let mut schedule = Schedule::new(
            sizes,
            options.segment_size.unwrap_or(Options::SEGMENT_SIZE),
            options.connections,
            options.connections + SPARE_FILES,
        )
        .abreast(threads)
        .paced(
            Pace::new(options.connections.max(1), registry.fastest_answer()),
            options.segment_size.unwrap_or(Options::FAST_SEGMENT_SIZE),
        );
        for at in (0..tasks.len()).filter(|at| tasks[*at].source.place_count() > 1) {
            schedule.set_apart(at);
        }
        let engine = Self {
            registry: registry.clone(),
            layout: layout.clone(),
            schedule: Mutex::new(schedule),
            jobs: tasks.into_iter().map(job).collect(),
            changed: Notify::new(),
            followers,
            windows: WindowBudget::new(WINDOWS),
            decoding: tokio::sync::Semaphore::new(1),
            spare,
            reporter: Arc::clone(reporter),
            trusted: sender,
        };
        Ok((engine, verdicts))
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection's life: takes work until it is dropped.
    async fn work(&self) -> Result<std::convert::Infallible, TransferError> {
        loop {
            // Made before the look at the schedule, so that a change in between is not missed.
            let changed = self.changed.notified();
            let work = self.schedule().next(Instant::now());
            match work {
                Work::Open(at) => self.open(at).await?,
                Work::Fill(assignment) => self.fill(&assignment).await?,
                Work::Wait(None) => changed.await,
                Work::Wait(Some(until)) => {
                    let _ = tokio::time::timeout_at(until.into(), changed).await;
                }
            }
        }
    }

    async fn fill(&self, assignment: &Assignment) -> Result<(), TransferError> {
        let job = &self.jobs[assignment.blob];
        let filled =
            self.registry.retrying_blob(&job.budget, &job.source, || self.attempt(job, assignment)).await;
        let mut schedule = self.schedule();
        if filled.is_err() {
            // The failure ends the transfer. Until the others hear of it, they must not ask once more for what failed.
            schedule.stop();
        }
        schedule.finished(assignment);
        drop(schedule);
        self.changed.notify_waiters();
        filled
    }

    /// Opens a blob's staged file, or finds that it needs none.
    async fn open(&self, at: usize) -> Result<(), TransferError> {
        let job = &self.jobs[at];
        let (existing, judged) = {
            let state = job.state();
            (state.existing, state.judged.bad())
        };
        let (layout, descriptor) = (self.layout.clone(), job.descriptor.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let mut staging = StagedBlob::stage(&layout, &descriptor.digest, descriptor.size, existing)?;
            // Another process may have put the good blob there, and then it left nothing to resume.
            if let Staging::Ready(staged) = &staging
                && let Some(judged) = judged
                && existing == Existing::Replace
                && staged.recovered().is_empty()
                && !judged.is_still_there()?
                && layout.contains(&descriptor.digest, descriptor.size)?
            {
                staged.discard()?;
                staging = Staging::Present;
            }
            let data = descriptor.embedded_data();
            if let (Staging::Ready(staged), Some(data)) = (&staging, &data) {
                staged.restart()?;
                staged.write_at(data, 0)?;
            }
            Ok::<_, LayoutError>((staging, data.is_some()))
        });
        let (staging, embedded) = opened.await.map_err(|_| TransferError::Stopped)??;
        match staging {
            Staging::Ready(staged) => self.follow_staged(at, staged, embedded),
            Staging::Present => {
                if existing == Existing::Replace {
                    let mut state = job.state();
                    (state.existing, state.judged) = (Existing::Keep, Judged::Again);
                }
                self.follow_present(at).await?;
            }
            Staging::HeldBy(holder) => self.wait_for(at, holder),
        }
        self.changed.notify_waiters();
        Ok(())
    }

    fn follow_staged(&self, at: usize, staged: StagedBlob, embedded: bool) {
        let job = &self.jobs[at];
        let (have, outcome) = match (embedded || job.size() == 0, staged.recovered().clone()) {
            (true, _) if embedded => (Intervals::prefix(job.size()), Outcome::Embedded),
            (_, have) if have.is_empty() => (have, Outcome::Downloaded),
            (_, have) => (have, Outcome::Resumed),
        };
        if outcome == Outcome::Resumed {
            // In how many responses it came nobody knows, nor what befell the disk since: when it does not hold, that
            // is no word of the registry's against its digest.
            job.responses.fetch_add(2, Ordering::Relaxed);
        }
        job.reused.store(have.len(), Ordering::Relaxed);
        let staged = Arc::new(staged);
        job.state().staged = Some(Arc::clone(&staged));
        job.state().outcome = outcome;
        self.started(job, have.len(), Phase::Downloading);
        let followed = self.follow(at, Bytes::Staged(staged));
        let frontier = have.frontier();
        self.schedule().opened(at, have);
        self.followers.advance(&followed, frontier);
    }

    async fn follow_present(&self, at: usize) -> Result<(), TransferError> {
        let job = &self.jobs[at];
        job.state().outcome = Outcome::Present;
        job.reused.store(job.size(), Ordering::Relaxed);
        self.schedule().proving(at);
        if job.present == Present::Trust {
            let verdict = Verdict { task: at, round: job.state().round, result: Err(Unproven::Trusted) };
            let _ = self.trusted.try_send(verdict);
            return Ok(());
        }
        let (layout, digest) = (self.layout.clone(), job.digest());
        let opened = tokio::task::spawn_blocking(move || {
            layout.open_blob(&digest).map_err(|error| match error {
                // It was there a moment ago.
                LayoutError::MissingBlob { digest } => {
                    LayoutError::Vanished { path: layout.blob_path(&digest) }
                }
                other => other,
            })
        })
        .await;
        let file = opened.map_err(|_| TransferError::Stopped)??;
        self.started(job, job.size(), Phase::Verifying);
        let followed = self.follow(at, Bytes::Committed(file, self.layout.blob_path(&digest)));
        self.followers.advance(&followed, job.size());
        Ok(())
    }

    fn wait_for(&self, at: usize, holder: String) {
        let job = &self.jobs[at];
        if !std::mem::replace(&mut job.state().announced, true) {
            self.reporter.report(Event::Waiting { digest: Some(job.digest()), holder });
        }
        self.schedule().held(at, Instant::now() + LOOK_AGAIN);
    }

    fn started(&self, job: &Job, bytes: u64, phase: Phase) {
        let (digest, total) = (job.digest(), job.size());
        self.reporter.report(Event::BlobStarted { digest, bytes, total, phase });
    }

    /// Sets a new verifier on the blob's bytes.
    fn follow(&self, at: usize, bytes: Bytes) -> Arc<Followed> {
        let job = &self.jobs[at];
        let (digest, size) = (job.digest(), job.size());
        let hashing = if size >= LARGE { Hashing::Spare(self.spare.clone()) } else { Hashing::Inline };
        let mut state = job.state();
        let caution = if state.doubted { Caution::DIGEST_FIRST } else { Caution::default() };
        let verifier = BlobVerifier::new(digest, size, job.content)
            .with_hashing(hashing)
            .with_window_budget(&self.windows)
            .with_caution(caution);
        state.round += 1;
        state.struck = job.source.struck();
        let followed = Arc::new(Followed::new(at, state.round, digest, size, bytes, verifier));
        state.followed = Some(Arc::clone(&followed));
        followed
    }
}

fn job(task: Task) -> Job {
    Job {
        task,
        budget: Budget::new(),
        responses: AtomicU32::new(0),
        reused: AtomicU64::new(0),
        state: Mutex::new(JobState {
            staged: None,
            followed: None,
            outcome: Outcome::Downloaded,
            existing: Existing::Keep,
            round: 0,
            struck: 0,
            announced: false,
            judged: Judged::Nothing,
            restarted: false,
            doubted: false,
            done: None,
        }),
    }
}
