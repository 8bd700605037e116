//! Which steps a fetch passes, and a run for each of them on all cores.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::scene::{Kind, Scene};
use crate::support::TestContext;

/// A passage of a step, and what is to happen at it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    /// As `rename:blob`.
    pub(crate) point: String,
    /// From 1.
    pub(crate) passage: usize,
    /// As `kill` or `ENOSPC+`.
    pub(crate) action: &'static str,
}

impl Job {
    /// What the variable says to the binary.
    pub(crate) fn order(&self) -> String {
        format!("{}#{}={}", self.point, self.passage, self.action)
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.order())
    }
}

/// A fetch that nothing befalls: which steps it passes, and how often each.
pub(crate) fn passages(kind: Kind) -> BTreeMap<String, usize> {
    passages_from(kind, Scene::set)
}

/// The same, from a folder that was set otherwise.
pub(crate) fn passages_from(kind: Kind, set: fn(&Scene) -> TestContext) -> BTreeMap<String, usize> {
    let scene = Scene::new(kind);
    let context = set(&scene);
    let path = context.path().join("record");
    let outcome = scene.fetch(&context, &[("OCIPULL_FAIL_RECORD", path.to_str().unwrap())]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    let mut passages = BTreeMap::new();
    for (point, _) in record(&context) {
        *passages.entry(point).or_default() += 1;
    }
    passages
}

/// The steps that the last run passed, with the bytes that each was to write, in their order.
pub(crate) fn record(context: &TestContext) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(context.path().join("record")).unwrap_or_default();
    let lines = text.lines().map(|line| line.split_once(' ').unwrap());
    lines.map(|(point, length)| (point.to_owned(), length.parse().unwrap())).collect()
}

/// Up to `most` of 1 to `count`, the first and the last among them.
pub(crate) fn spread(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (1..=count).collect();
    }
    (0..most).map(|at| 1 + at * (count - 1) / (most - 1).max(1)).collect()
}

/// Runs the trial of every job, as many at a time as there are cores, each with a scene of its own. All of them run before
/// the first that failed is told of.
pub(crate) fn each(jobs: &[Job], trial: impl Fn(&Scene, &Job) + Sync) {
    let next = AtomicUsize::new(0);
    let failures: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let mut scenes: Vec<(Kind, Scene)> = Vec::new();
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !scenes.iter().any(|(kind, _)| *kind == job.kind) {
                        scenes.push((job.kind, Scene::new(job.kind)));
                    }
                    let (_, scene) = scenes.iter().find(|(kind, _)| *kind == job.kind).unwrap();
                    let tried = std::panic::AssertUnwindSafe(|| trial(scene, job));
                    if let Err(panic) = std::panic::catch_unwind(tried) {
                        let said = panic.downcast_ref::<String>().cloned();
                        failures.lock().unwrap().push(format!("{job}: {}", said.unwrap_or_default()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), jobs.len(), failures.join("\n"));
}
