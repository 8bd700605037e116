//! Somebody takes the folder, or a part of it, away while a fetch is in the middle of a step.
//!
//! The process is held at the step, the folder is changed, and the process goes on: no race has to be won.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::points::{Job, each, passages, spread};
use crate::scene::{Kind, Scene};
use crate::sound::{complete, examine};
use crate::support::{Fault, Gate, Running, TestContext, check_layout};

/// What is done to the folder.
struct Change {
    name: &'static str,
    make: fn(&Path),
    lost: Lost,
}

/// What is gone for good, so that no other run can bring it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// Nothing that a fetch does not bring.
    Nothing,
    /// Blobs, those of other images among them.
    Blobs,
    /// What makes the folder a layout.
    Layout,
}

const CHANGES: [Change; 6] = [
    Change { name: "the folder is removed", make: remove, lost: Lost::Nothing },
    Change { name: ".ocipull is removed", make: |out| remove(&out.join(".ocipull")), lost: Lost::Nothing },
    Change { name: "blobs is removed", make: |out| remove(&out.join("blobs")), lost: Lost::Blobs },
    Change { name: "blobs is replaced", make: replace_blobs, lost: Lost::Blobs },
    Change {
        name: "index.json is removed",
        make: |out| remove_file(&out.join("index.json")),
        lost: Lost::Layout,
    },
    Change {
        name: "oci-layout is removed",
        make: |out| remove_file(&out.join("oci-layout")),
        lost: Lost::Layout,
    },
];

/// Between the last look at what is named and the name there is a moment. Nobody can be kept from removing blobs then, nor
/// a moment later.
const MOMENT: [&str; 5] = ["remove:new", "create:new", "write:new", "sync:new", "rename:index.json"];

fn replace_blobs(out: &Path) {
    remove(&out.join("blobs"));
    // Where the folder itself is not there yet, there is nothing to be replaced.
    let _ = fs::create_dir(out.join("blobs")).and_then(|()| fs::create_dir(out.join("blobs/sha256")));
}

fn remove_file(path: &Path) {
    let _ = fs::remove_file(path);
}

fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

/// A running fetch that is held at a step, unless it ended without coming there.
struct Held {
    running: Running,
    file: PathBuf,
}

impl Held {
    fn start(scene: &Scene, context: &TestContext, order: &str) -> Self {
        let file = context.path().join("hold");
        let run = scene.command(context).env("OCIPULL_FAIL_AT", order).env("OCIPULL_FAIL_HOLD", &file);
        Self { running: run.spawn(), file }
    }

    /// Waits until it is at the step, and says whether it came there.
    fn is_there(&self) -> bool {
        loop {
            let has_ended = has_ended(&self.running);
            if self.file.exists() || has_ended {
                return self.file.exists();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on.
    fn go_on(self) -> Running {
        remove_file(&self.file);
        self.running
    }
}

fn has_ended(running: &Running) -> bool {
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).unwrap().is_some()
}

fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for kind in [Kind::New, Kind::Beside] {
        for (point, count) in passages(kind) {
            // Reading has no step of its own here, and writing the lock only tells who has it.
            if point.starts_with("read:") || point == "write:lock" {
                continue;
            }
            for passage in spread(count, if kind == Kind::New { 2 } else { 1 }) {
                jobs.push(Job { kind, point: point.clone(), passage, action: "hold" });
            }
        }
    }
    jobs
}

/// What one run may come to, besides having failed with exit 1.
fn trial(scene: &Scene, job: &Job, change: &Change, failures: &AtomicUsize) {
    let context = scene.set();
    let out = context.out();
    let held = Held::start(scene, &context, &job.order());
    let is_held = held.is_there();
    // From then on it has done what it promised.
    let was_named =
        fs::read_to_string(out.join("index.json")).is_ok_and(|index| index.contains(scene.pushed.digest()));
    if is_held {
        (change.make)(&out);
    }
    let outcome = held.go_on().wait();
    match outcome.code {
        Some(0) if was_named || !is_held => {}
        Some(0) => complete(scene, &context),
        Some(1 | 7) => {
            failures.fetch_add(1, Ordering::Relaxed);
            assert!(outcome.stderr.contains(&*out.to_string_lossy()), "{}", outcome.report());
            assert!(outcome.stderr.contains("\nhint: "), "{}", outcome.report());
        }
        _ => panic!("{}", outcome.report()),
    }
    let next = scene.fetch(&context, &[]);
    // What names images, or says that a folder is a layout, is never made up.
    let is_unusable =
        change.lost == Lost::Layout && next.code == Some(7) && next.stderr.contains(&*out.to_string_lossy());
    if !is_unusable {
        assert_eq!(next.code, Some(0), "the next run: {}", next.report());
        let summary = check_layout(&out);
        assert_eq!(summary.digests.last().map(String::as_str), Some(scene.pushed.digest()));
    }
}

/// The folder or a part of it is taken away at any step: the run says so and where, or it is as if nothing had been; it
/// never ends well with an image that is not there. The next run completes, unless what is gone had names in it.
#[test]
fn a_folder_that_is_removed_under_a_fetch_is_noticed() {
    let jobs = jobs();
    for change in CHANGES {
        let failures = AtomicUsize::new(0);
        let is_fair = |job: &&Job| {
            change.lost == Lost::Nothing || (job.kind == Kind::New && !MOMENT.contains(&&*job.point))
        };
        let fair: Vec<Job> = jobs.iter().filter(is_fair).cloned().collect();
        each(&fair, |scene, job| trial(scene, job, &change, &failures));
        let failures = failures.into_inner();
        assert!(failures >= 10, "{}: {failures} failures in {} runs", change.name, fair.len());
    }
}

/// A staged file of another process, begun after the folder of this one's was removed, does not get a final name before it
/// is whole: a rename goes by name, and the name is not enough.
#[test]
fn a_staged_file_of_another_process_is_not_named() {
    let scene = Scene::new(Kind::New);
    let context = scene.set();
    let first = Held::start(&scene, &context, "sync:part#1=hold");
    assert!(first.is_there(), "it comes to its first proven blob");
    remove(&context.out().join(".ocipull"));
    let gate = Gate::new();
    for digest in scene.pushed.layers() {
        scene.registry.on_blob(digest).always(Fault::HoldAfter(50, gate.clone()));
    }
    // With a connection for each segment and each of the others, so that all of them are begun.
    let second = context.fetch(&scene.registry, &scene.pushed).args(["--connections", "8"]).spawn();
    scene.registry.wait_until("the second process has begun each layer", |_| {
        let part = |digest: &str| format!(".ocipull/{}.part", digest.replace(':', "-"));
        scene.pushed.layers().iter().all(|digest| context.out().join(part(digest)).exists())
    });
    let first = first.go_on();
    scene.registry.wait_until("the first process has named a blob or given up", |_| {
        let blobs = fs::read_dir(context.out().join("blobs/sha256"));
        has_ended(&first) || blobs.is_ok_and(|mut blobs| blobs.next().is_some())
    });
    examine(&scene, &context.out());
    let outcome = first.wait();
    assert_eq!(outcome.code, Some(1), "{}", outcome.report());
    assert!(outcome.stderr.contains("was removed or moved away"), "{}", outcome.report());
    gate.open();
    let outcome = second.wait();
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    complete(&scene, &context);
}
