//! Images that are named together: a fetch of many names what is done at least once a second, in one write of `index.json`,
//! and not once an image, which would make the whole take the square of their number.
//!
//! Guarantees: outcomes are told in the order of the requests, and an image's only when `index.json` names it. A request for
//! what may be called like something that is not named yet waits until that is named, and one that fails until all before it
//! are, so that a group is never seen but in the time that it takes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::commit::{self, Change};
use super::error::FetchError;
use super::lists::ToName;
use super::report::Fetched;
use super::request::{Mode, Request};
use super::resolve::Standing;
use super::{Prepared, Unnamed, prepare};
use crate::layout::LayoutError;
use crate::layout::index::{FULL_NAME, REF_NAME};
use crate::progress::Reporter;
use crate::registry::Registry;

/// How long an image waits for others to be named with it.
const APART: Duration = Duration::from_secs(1);

/// The most that wait: each is a few KiB. The layout may be another process's for long.
const MOST: usize = 256;

/// What came of one request of a [`Group`].
#[derive(Debug)]
pub struct Settled {
    /// The request.
    pub request: Request,
    /// How long it took, but for the wait for others that are named with it.
    pub took: Duration,
    /// What came of it.
    pub outcome: Result<Fetched, FetchError>,
}

/// Fetches that are named together.
pub struct Group<'a> {
    registry: &'a Registry,
    reporter: &'a Arc<dyn Reporter>,
    /// The layout as it was last looked at.
    standing: Option<Standing>,
    /// What waits to be named, in order, and what is told after that.
    waiting: Vec<Waiting>,
    /// Since when.
    since: Instant,
    writing: Option<Writing>,
    /// When names were last given: what was seen before counts no more.
    named: Instant,
}

/// A request that is done but for its name, where it has one to get.
struct Waiting {
    request: Request,
    took: Duration,
    prepared: Prepared,
}

/// What is being named now.
struct Writing {
    requests: Vec<(Request, Duration)>,
    task: JoinHandle<Vec<Result<Fetched, FetchError>>>,
    /// The names that it may give.
    names: Vec<String>,
}

impl<'a> Group<'a> {
    /// No fetch yet.
    pub fn new(registry: &'a Registry, reporter: &'a Arc<dyn Reporter>) -> Self {
        let now = Instant::now();
        Self {
            registry,
            reporter,
            standing: None,
            waiting: Vec::new(),
            since: now,
            writing: None,
            named: now,
        }
    }

    /// Fetches what a request stands for. What came of it is told now or later, [`Group::finish`] at the latest.
    pub async fn fetch(&mut self, request: Request, told: &mut dyn FnMut(Settled)) {
        if self.may_meet(&request) {
            self.finish(told).await;
        }
        let start = Instant::now();
        let known = self.standing.clone().filter(|standing| self.counts(standing, &request));
        let mut prepared = self.prepared(&request, known, told).await;
        if let Err(FetchError::Layout(LayoutError::NameTaken { .. })) = &prepared {
            // What waits may give the name up, as may have done others since the layout was looked at.
            self.finish(told).await;
            prepared = self.prepared(&request, None, told).await;
        }
        let took = start.elapsed();
        match prepared {
            Ok((prepared, standing)) => {
                self.standing = standing;
                // A list of referrers is made of the one that stands there.
                if prepared.names().any(|name| self.is_given(name)) {
                    self.finish(told).await;
                }
                if self.waiting.is_empty() {
                    self.since = Instant::now();
                }
                self.waiting.push(Waiting { request, took, prepared });
                if !self.is_naming() || self.waiting.len() >= MOST {
                    self.finish(told).await;
                }
            }
            Err(error) => {
                self.finish(told).await;
                told(Settled { request, took, outcome: Err(error) });
            }
        }
    }

    async fn prepared(
        &mut self,
        request: &Request,
        known: Option<Standing>,
        told: &mut dyn FnMut(Settled),
    ) -> Result<(Prepared, Option<Standing>), FetchError> {
        let (registry, reporter) = (self.registry, self.reporter);
        // Its state is some 17 KiB, which is better not carried along on the stack.
        self.during(Box::pin(prepare(registry, request, reporter, known)), told).await
    }

    /// Does something else, and names meanwhile what is due.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>, told: &mut dyn FnMut(Settled)) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                settled = self.settle_due() => settled.into_iter().for_each(&mut *told),
            }
        }
    }

    /// Names all that waits.
    pub async fn finish(&mut self, told: &mut dyn FnMut(Settled)) {
        while self.writing.is_some() || !self.waiting.is_empty() {
            self.begin();
            self.settle().await.into_iter().for_each(&mut *told);
        }
    }

    /// Whether anything that waits has a name to get.
    fn is_naming(&self) -> bool {
        let mut waiting = self.waiting.iter();
        self.writing.is_some() || waiting.any(|one| matches!(one.prepared, Prepared::Unnamed(_)))
    }

    /// Waits until something is due, and names it. What was begun goes on when this is dropped.
    async fn settle_due(&mut self) -> Vec<Settled> {
        if self.writing.is_none() {
            if self.waiting.is_empty() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep_until(self.since + APART).await;
        }
        self.begin();
        self.settle().await
    }

    /// Begins to name all that waits, unless that was begun before.
    fn begin(&mut self) {
        if self.writing.is_some() || self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let names = waiting.iter().flat_map(|one| one.prepared.names()).map(str::to_owned).collect();
        let (requests, prepared): (Vec<_>, Vec<Prepared>) =
            waiting.into_iter().map(|one| ((one.request, one.took), one.prepared)).unzip();
        let reporter = Arc::clone(self.reporter);
        let task = tokio::task::spawn_blocking(move || name(prepared, &reporter));
        self.writing = Some(Writing { requests, task, names });
    }

    async fn settle(&mut self) -> Vec<Settled> {
        let Some(writing) = &mut self.writing else { return Vec::new() };
        let outcomes = (&mut writing.task).await.unwrap_or_default();
        let Some(Writing { requests, names, .. }) = self.writing.take() else { return Vec::new() };
        if !names.is_empty() {
            self.named = Instant::now();
        }
        let mut outcomes = outcomes.into_iter();
        let settled = |(request, took)| {
            let outcome = outcomes.next().unwrap_or(Err(FetchError::Worker));
            Settled { request, took, outcome }
        };
        requests.into_iter().map(settled).collect()
    }

    /// Whether what waits may matter to a request: it is in another layout, it may have one of the names, or it asks for
    /// what stands there in another way than by its name.
    fn may_meet(&self, request: &Request) -> bool {
        let writing = self.writing.iter().flat_map(|writing| &writing.requests).map(|(request, _)| request);
        let mut requests = self.waiting.iter().map(|one| &one.request).chain(writing).peekable();
        if requests.peek().is_none() {
            return false;
        }
        let wanted = [Some(request.reference.full_name()), commit::ref_name(request)];
        request.mode == Mode::DryRun
            || request.reference.digest().is_some()
            || requests.any(|other| other.layout != request.layout)
            || wanted.iter().flatten().any(|name| self.is_given(name))
    }

    /// Whether something that waits gets this name.
    fn is_given(&self, name: &str) -> bool {
        let waiting = self.waiting.iter().flat_map(|one| one.prepared.names());
        let written = self.writing.iter().flat_map(|writing| &writing.names).map(String::as_str);
        waiting.chain(written).any(|given| given == name)
    }

    /// Whether what was seen of the layout still counts for a request.
    fn counts(&self, standing: &Standing, request: &Request) -> bool {
        let is_new = standing.at > self.named && standing.counts();
        is_new && *standing.layout.root() == *request.layout
    }
}

impl Prepared {
    /// The names that it may give.
    fn names(&self) -> impl Iterator<Item = &str> {
        let to_name = match self {
            Self::Done(_) => None,
            Self::Unnamed(unnamed) => Some(&unnamed.to_name),
        };
        to_name.into_iter().flat_map(names)
    }
}

fn names(to_name: &ToName) -> impl Iterator<Item = &str> {
    let lists = to_name.lists.iter().map(|list| &list.entry);
    let entries = to_name.named.iter().map(|(entry, _)| entry).chain(lists);
    let names =
        entries.flat_map(|entry| [FULL_NAME, REF_NAME].map(|key| entry.descriptor.annotations.get(key)));
    names.flatten().map(String::as_str)
}

/// Names what of it has a name to get, all of it in one layout.
fn name(prepared: Vec<Prepared>, reporter: &Arc<dyn Reporter>) -> Vec<Result<Fetched, FetchError>> {
    let unnamed = prepared.iter().filter_map(|one| match one {
        Prepared::Unnamed(unnamed) => Some(&**unnamed),
        Prepared::Done(_) => None,
    });
    let unnamed: Vec<&Unnamed> = unnamed.collect();
    let mut changes = Vec::new().into_iter();
    if let Some(first) = unnamed.first() {
        let to_name: Vec<&ToName> = unnamed.iter().map(|one| &one.to_name).collect();
        changes = commit::name_all(&first.layout, &to_name, reporter).into_iter();
    }
    let named = |one| match one {
        Prepared::Done(fetched) => Ok(*fetched),
        Prepared::Unnamed(unnamed) => {
            let change: Result<Change, FetchError> = changes.next().unwrap_or(Err(FetchError::Worker));
            unnamed.named(change, reporter)
        }
    };
    prepared.into_iter().map(named).collect()
}
