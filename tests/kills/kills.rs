//! SIGKILL at every step: before the change and after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::points::{Job, each, passages, record, spread};
use crate::scene::{CONNECTIONS, Kind, Scene};
use crate::sound::{completes, examine};
use crate::support::MIB;

/// What a connection may have written that no journal tells of yet: a MiB, and the piece that made it one.
const UNNOTED: u64 = MIB as u64 + 256 * 1024;

/// Steps that are the commit protocol: without one of these in the record there is nothing to be killed at, and the test
/// would hold for everything.
const PROTOCOL: [&str; 20] = [
    "create-folder:blobs/sha256",
    "create-folder:.ocipull",
    "lock:lock",
    "create:new",
    "write:new",
    "sync:new",
    "rename:oci-layout",
    "rename:index.json",
    "sync-folder:layout",
    "create:part",
    "lock:part",
    "create:journal",
    "write:journal",
    "write:part",
    "sync:part",
    "rename:blob",
    "remove:journal",
    "sync-folder:blobs/sha256",
    "remove:lock",
    "remove-folder:.ocipull",
];

fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut known = BTreeSet::new();
    for kind in Kind::ALL {
        for (point, count) in passages(kind) {
            // Reading changes nothing, so death there is death at the step before.
            if point.starts_with("read:") {
                continue;
            }
            // The new folder has every step at its fullest; the others have what is special about them.
            let most = if kind == Kind::New { 12 } else { 3 };
            for passage in spread(count, most) {
                let action = if kind == Kind::New || passage % 2 == 0 { "kill" } else { "kill-after" };
                jobs.push(Job { kind, point: point.clone(), passage, action });
            }
            if kind == Kind::New && !point.starts_with("write:part") {
                jobs.push(Job { kind, point: point.clone(), passage: count, action: "kill-after" });
            }
            known.insert(point);
        }
    }
    for point in PROTOCOL {
        assert!(known.contains(point), "{point} is not in {known:?}");
    }
    jobs
}

fn trial(scene: &Scene, job: &Job, killed: &Mutex<BTreeMap<String, usize>>) {
    let context = scene.set();
    let before = examine(scene, &context.out()).held;
    let path = context.path().join("record");
    let variables = [("OCIPULL_FAIL_AT", &*job.order()), ("OCIPULL_FAIL_RECORD", path.to_str().unwrap())];
    let outcome = scene.fetch(&context, &variables);
    if outcome.code.is_some() {
        // How a body is cut into pieces, and what several connections do first, is no two times the same.
        assert_eq!(outcome.code, Some(0), "the step was not reached: {}", outcome.report());
        return;
    }
    *killed.lock().unwrap().entry(job.point.clone()).or_default() += 1;
    let left = examine(scene, &context.out());
    let mut record = record(&context);
    if job.action == "kill" {
        // The step that did not happen; with two connections another may have come behind it.
        let at = record.iter().rposition(|(point, _)| *point == job.point).unwrap();
        record.remove(at);
    }
    let written: u64 =
        record.iter().filter(|(point, _)| point == "write:part").map(|(_, length)| length).sum();
    if !scene.is_encoded {
        let lost = (written + before).saturating_sub(left.held);
        assert!(lost <= CONNECTIONS * UNNOTED, "{lost} bytes are lost of {written}");
    }
    // The suite's own reader looks every time; the tool itself where something was about to change for all to see.
    let is_seen = ["rename", "sync-folder", "create"].iter().any(|step| job.point.starts_with(step));
    if left.is_layout && is_seen {
        let listed = context.run(["ls", "--json"]).arg(context.out()).success().json();
        let images = listed["images"].as_array().unwrap().len();
        assert!(images <= scene.held.len() + 1, "{listed}");
        let proven = context.run(["verify", "--json"]).arg(context.out()).success().json();
        assert_eq!(proven["ok"], true, "{proven}");
    }
    completes(scene, &context, &left);
}

/// Whenever the process dies: every blob under its final name is whole, the layout is readable and names whole images only,
/// those of before among them, and the next run completes with what is there.
#[test]
fn a_kill_at_any_step_leaves_what_the_next_run_completes() {
    let (jobs, killed) = (jobs(), Mutex::default());
    let tried = AtomicUsize::new(0);
    each(&jobs, |scene, job| {
        tried.fetch_add(1, Ordering::Relaxed);
        trial(scene, job, &killed);
    });
    let killed = killed.into_inner().unwrap();
    let count: usize = killed.values().sum();
    for point in PROTOCOL {
        assert!(killed.contains_key(point), "nothing was killed at {point}");
    }
    assert!(count >= 200, "{count} kills in {} runs", tried.into_inner());
}
