//! Runs rows, a few at a time, and holds each to what it says.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Outcome, assert_readable, check_layout};

use super::row::{Ending, Row};
use super::scene::{Before, Scene};

/// How many rows run at a time: they mostly wait.
const AT_ONCE: usize = 16;

/// Runs all rows, each from every beginning and against a registry of its own, and says how many there were.
///
/// # Panics
/// When a row does not end as it says, or a fault of it hit no request, with all that is wrong.
pub(super) fn hold(rows: &[Row]) -> usize {
    let runs: Vec<_> =
        rows.iter().flat_map(|row| row.step.befores().iter().map(move |before| (row, *before))).collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((row, before)) = runs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| one(row, *before))) {
                        let name = format!("{}, after {before:?}", row.name);
                        wrong.lock().unwrap().push(format!("{name}\n{}", text(&*panic)));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} runs:\n\n{}", wrong.len(), runs.len(), wrong.join("\n\n"));
    rows.len()
}

fn text(panic: &(dyn Any + Send)) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    owned.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn one(row: &Row, before: Before) {
    let scene = row.step.scene(row.manner, before);
    for (fault, times) in &row.faults {
        match times {
            Some(times) => scene.route().times(*times, fault.clone()),
            None => scene.route().always(fault.clone()),
        }
    }
    let outcome = scene.run(&row.options);
    let report = outcome.report();
    let idle = scene.broken().idle_faults();
    assert!(idle.is_empty(), "no request met {idle:?}\n{report}");
    let asked = scene.asked();
    let ranges: Vec<_> = asked.iter().map(|request| request.range().unwrap_or("-")).collect();
    match &row.ending {
        Ending::Sound { retries, says } => {
            assert_eq!(outcome.code, Some(0), "{report}");
            assert_all_said(&outcome, says);
            if *retries.start() > 0 {
                assert_announced(&outcome);
            }
            if scene.is_login() {
                assert!(scene.auth_file().exists(), "nothing was stored\n{report}");
            } else {
                let counted = outcome.json()["retries"].as_u64().unwrap();
                assert!(retries.contains(&counted), "{counted} retries, not {retries:?}\n{report}");
                assert_whole(&scene);
            }
        }
        Ending::Fails { code, tries, says, kept } => {
            assert_eq!(outcome.code, Some(*code), "{report}");
            assert_told(&scene, &outcome, *tries, says);
            assert_eq!(asked.len(), row.asked, "requests: {ranges:?}\n{report}");
            assert_nothing_unproven(&scene);
            assert_recovers(&scene, &row.options, *kept);
        }
    }
    assert_eq!(asked.len(), row.asked, "requests: {ranges:?}\n{report}");
}

fn assert_all_said(outcome: &Outcome, says: &[String]) {
    for words in says {
        assert!(outcome.stderr.contains(words.as_str()), "nothing of {words:?}\n{}", outcome.report());
    }
}

/// What is tried again is said, and why, to the end.
fn assert_announced(outcome: &Outcome) {
    let mut notices = outcome.stderr.lines().filter(|line| line.contains(" is asked again in ")).peekable();
    assert!(notices.peek().is_some(), "nothing is said of a retry\n{}", outcome.report());
    let cut = notices.find(|line| line.contains('…') || line.contains("gave no token; "));
    assert_eq!(cut, None, "a notice without its cause");
}

/// The error names what it is about, where it was asked for, its first cause, how many tries there were and how long they
/// took.
fn assert_told(scene: &Scene, outcome: &Outcome, tries: usize, says: &[String]) {
    let report = outcome.report();
    let error = outcome.stderr.find("error: ").map(|at| &outcome.stderr[at..]);
    let error = error.unwrap_or_else(|| panic!("no error is shown\n{report}"));
    for words in scene.subjects().iter().chain(says) {
        assert!(error.contains(words.as_str()), "the error does not say {words:?}\n{report}");
    }
    let counted = error.split(" after ").find(|rest| rest.contains(" tries in "));
    let counted = counted.map(|rest| rest.split(' ').collect::<Vec<_>>());
    match counted.as_deref() {
        None => assert_eq!(tries, 1, "the error names no tries\n{report}"),
        Some([count, "tries", "in", seconds, ..]) => {
            assert_eq!((count.parse(), seconds.parse::<f64>().is_ok()), (Ok(tries), true), "{report}");
        }
        Some(_) => panic!("tries and time are not named\n{report}"),
    }
}

/// There is no layout, or one that is readable, in which every blob is proven and nothing is named but what was before.
fn assert_nothing_unproven(scene: &Scene) {
    if scene.is_login() {
        assert!(!scene.auth_file().exists(), "unproven credentials were stored");
    } else if scene.is_early() {
        assert!(scene.is_untouched(), "something was made for nothing");
    } else if scene.out().exists() {
        assert_eq!(scene.names(&assert_readable(&scene.out())), Vec::<String>::new());
    }
}

/// The image is there, beside what was there before, and nothing of the fetch is left.
fn assert_whole(scene: &Scene) {
    let names = scene.names(&check_layout(&scene.out()));
    assert!(names.iter().any(|digest| digest == scene.image.digest()), "{names:?}");
}

/// The same command completes against a registry that is whole again, and asks for no byte that is there.
fn assert_recovers(scene: &Scene, options: &[&str], kept: usize) {
    scene.broken().mend();
    scene.take_blob_bytes();
    let outcome = scene.run(options);
    let report = outcome.report();
    assert_eq!(outcome.code, Some(0), "the second run\n{report}");
    if scene.is_login() {
        assert!(scene.auth_file().exists());
        return;
    }
    assert_eq!(outcome.json()["retries"], 0, "retries of the second run\n{report}");
    assert_whole(scene);
    if scene.is_about_layer() {
        let asked = scene.asked();
        let range = asked[0].range().unwrap_or("bytes=0-");
        assert!(
            range.starts_with(&format!("bytes={kept}-")),
            "{kept} bytes are there, and {range} is asked for"
        );
        let sent = scene.take_blob_bytes();
        let most = scene.image.blob_bytes() - kept as u64;
        assert!(sent <= most, "{sent} bytes came, and {most} were missing\n{report}");
    }
}
