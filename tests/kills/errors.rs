//! The file system refuses a step: for once, or from then on, as a full or a read-only disk does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use crate::points::{Job, each, passages, record, spread};
use crate::scene::{Kind, Scene};
use crate::sound::{completes, examine};
use crate::support::{Fault, FaultRegistry, Gate, MIB, Outcome, TestContext, image, random_from};

/// An error, the words that the system has for it, and what the hint is about.
struct Refusal {
    action: &'static str,
    words: &'static str,
    hint: &'static str,
    /// The steps that may meet it.
    steps: &'static [&'static str],
}

const REFUSALS: [Refusal; 9] = [
    Refusal {
        action: "ENOSPC+",
        words: "No space left on device",
        hint: "hint: free ",
        steps: &["create-folder", "create", "write", "sync"],
    },
    Refusal {
        action: "short-ENOSPC",
        words: "No space left on device",
        hint: "hint: free ",
        steps: &["write"],
    },
    Refusal {
        action: "EDQUOT+",
        words: "quota",
        hint: "quota",
        steps: &["create-folder", "create", "write", "sync"],
    },
    Refusal { action: "EFBIG", words: "File too large", hint: "ulimit -f", steps: &["write"] },
    Refusal {
        action: "EROFS+",
        words: "Read-only file system",
        hint: "that can be written to",
        steps: &["create-folder", "create", "write", "rename", "remove", "truncate", "sync"],
    },
    Refusal {
        action: "EACCES",
        words: "Permission denied",
        hint: "that can be written to",
        steps: &["create-folder", "create", "rename"],
    },
    Refusal {
        action: "EIO",
        words: "Input/output error",
        hint: "",
        steps: &["sync", "sync-folder", "read", "rename", "write"],
    },
    Refusal {
        action: "EIO+",
        words: "Input/output error",
        hint: "",
        steps: &["sync", "sync-folder", "read", "rename"],
    },
    Refusal {
        action: "ENOLCK",
        words: "does not support file locks",
        hint: "hint: mount the file system with locks",
        steps: &["lock"],
    },
];

/// The actions that stand for what a step may meet, as `ENOSPC+`.
pub(crate) fn refusals(step: &str) -> Vec<&'static str> {
    let met = REFUSALS.iter().filter(|refusal| refusal.steps.contains(&step));
    met.map(|refusal| refusal.action).collect()
}

/// Points where a failure costs nothing of what the fetch is for, so that it may end well: the name of a lock's holder, the
/// last record of a journal whose blob is done, what is cleaned up once the image is named.
const HARMLESS: [&str; 7] = [
    "create:lock",
    "lock:lock",
    "write:lock",
    "write:journal",
    "remove:journal",
    "remove:lock",
    "remove-folder:.ocipull",
];

fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut known = BTreeSet::new();
    for kind in Kind::ALL {
        for (point, count) in passages(kind) {
            let step = point.split(':').next().unwrap();
            let is_new = known.insert(point.clone());
            let met = REFUSALS.iter().filter(|refusal| refusal.steps.contains(&step));
            // What a scene shares with those before it is tried there.
            for refusal in met.filter(|refusal| is_new || refusal.action == "ENOSPC+") {
                let most = if !is_new {
                    1
                } else if point == "write:part" {
                    6
                } else {
                    2
                };
                for passage in spread(count, most) {
                    jobs.push(Job { kind, point: point.clone(), passage, action: refusal.action });
                }
            }
        }
    }
    jobs
}

fn trial(scene: &Scene, job: &Job, outcomes: &Mutex<BTreeMap<Option<i32>, usize>>) {
    let context = scene.set();
    let path = context.path().join("record");
    let variables = [("OCIPULL_FAIL_AT", &*job.order()), ("OCIPULL_FAIL_RECORD", path.to_str().unwrap())];
    let outcome = scene.fetch(&context, &variables);
    *outcomes.lock().unwrap().entry(outcome.code).or_default() += 1;
    let left = examine(scene, &context.out());
    // How a body is cut into pieces is no two times the same, so that the last of them may be missing.
    let was_reached = record(&context).iter().filter(|(point, _)| *point == job.point).count() >= job.passage;
    if outcome.code != Some(0) || (was_reached && !HARMLESS.contains(&&*job.point)) {
        says(job, &outcome, &context.path().to_string_lossy());
    }
    completes(scene, &context, &left);
}

fn says(job: &Job, outcome: &Outcome, out: &str) {
    let refusal = REFUSALS.iter().find(|refusal| refusal.action == job.action).unwrap();
    // A folder in which nothing can be locked cannot be a layout to write into.
    let code = if job.action == "ENOLCK" { 7 } else { 1 };
    assert_eq!(outcome.code, Some(code), "{}", outcome.report());
    for words in ["error: ", refusal.words, refusal.hint, out] {
        assert!(outcome.stderr.contains(words), "{words:?} in {}", outcome.report());
    }
}

/// A failed fsync ends it for the file: the kernel may have dropped what it could not write, and would call a second fsync a
/// success. Nothing of the blob is kept, not even its journal, while other blobs are.
#[test]
fn what_could_not_be_synced_is_thrown_away() {
    let scene = Scene::new(Kind::New);
    for passage in 1..=4 {
        let context = scene.set();
        let order = format!("sync:part#{passage}=EIO");
        let outcome = scene.fetch(&context, &[("OCIPULL_FAIL_AT", &order)]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.report());
        let (_, path) = outcome.stderr.split_once("cannot sync ").unwrap();
        let path = Path::new(path.lines().next().unwrap());
        assert_eq!(path.extension().unwrap(), "part");
        assert!(!path.exists() && !path.with_extension("journal").exists(), "{}", path.display());
        let left = examine(&scene, &context.out());
        completes(&scene, &context, &left);
    }
}

/// The same while the blob is still coming: nobody waits for its end, and nothing of it is kept for a next run, whose fsync would
/// be a success.
#[test]
fn what_could_not_be_written_back_ends_the_download_and_is_thrown_away() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random_from(8, 40 * MIB)));
    let gate = Gate::new();
    registry
        .on_blob(pushed.layer(0))
        .once(Fault::All(vec![Fault::IgnoreRange, Fault::HoldAfter(36 * MIB, gate.clone())]));
    let context = TestContext::new();
    let part = context.out().join(".ocipull").join(format!("{}.part", pushed.layer(0).replace(':', "-")));
    let record = context.path().join("record");
    let run = context.fetch(&registry, &pushed).args(["--retries", "0"]);
    let run = run.env("OCIPULL_FAIL_AT", "sync:part#1=EIO").env("OCIPULL_FAIL_RECORD", &record).spawn();
    registry.wait_until("the failed write-back is noticed", |_| {
        fs::read_to_string(&record).is_ok_and(|record| record.contains("sync:part")) && !part.exists()
    });
    gate.open();
    let outcome = run.wait();
    assert_eq!(outcome.code, Some(1), "{}", outcome.report());
    assert!(outcome.stderr.contains("cannot sync "), "{}", outcome.report());
    assert!(!part.exists() && !part.with_extension("journal").exists());
}

/// Whatever the disk refuses: exit 1 (7 without locks) with the path, the system's words and a hint; nothing of before is lost, nothing
/// unproven is named, and once the disk is well the same command completes with what is there.
#[test]
fn a_refused_step_is_an_error_that_says_where_and_loses_nothing() {
    let (jobs, outcomes) = (jobs(), Mutex::default());
    each(&jobs, |scene, job| trial(scene, job, &outcomes));
    let outcomes = outcomes.into_inner().unwrap();
    assert!(outcomes[&Some(1)] >= 150, "{outcomes:?}");
}
