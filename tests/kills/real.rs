//! The real things: a disk that is full, one that is read-only, a limit on the size of files, and death in the middle of a
//! download, at times that no step of ours decides.
//!
//! Disks are mounted in a namespace of their own (`unshare`), which needs no privilege on most systems. Where there is none,
//! these tests say that they are skipped; with CI set, that is a failure.

use std::io::Write as _;
use std::process::Command;

use crate::scene::{CONNECTIONS, Kind, Scene};
use crate::sound::{completes, examine};
use crate::support::{Fault, Gate, KIB, MIB, Outcome, TestContext};

/// Runs a shell script in a namespace where it may mount; `$0` is the binary, `$@` its arguments.
pub(crate) fn unshared(context: &TestContext, script: &str, arguments: &[String]) -> Outcome {
    let options = ["--user", "--map-root-user", "--mount", "/bin/sh", "-ec", script];
    context.program("unshare").args(options).arg(env!("CARGO_BIN_EXE_ocipull")).args(arguments).run()
}

pub(crate) fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .output();
    if tried.is_ok_and(|tried| tried.status.success()) {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let message = format!("{test} needs user namespaces in which file systems can be mounted");
    assert!(std::env::var_os("CI").is_none(), "{message}");
    // Straight to the stream: what goes through the macros is swallowed where a test passes.
    writeln!(std::io::stderr(), "SKIPPED: {message}").expect("stderr is open");
    false
}

fn says(outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.code, Some(1), "{}", outcome.report());
    for words in words {
        assert!(outcome.stderr.contains(words), "{words:?} in {}", outcome.report());
    }
}

/// A disk that is too small: exit 1 with the path and how much is to be freed; what came is kept, and the next run, with
/// room, asks for the rest.
#[test]
fn a_full_disk_keeps_what_there_was_room_for() {
    if !may_mount() {
        return;
    }
    // The last byte that fits is in a layer, in the other layers, in the documents, or nowhere.
    for size in [600 * KIB, 1500 * KIB, 2900 * KIB, 2 * KIB] {
        let scene = Scene::new(Kind::New);
        let context = scene.set();
        let out = context.out().to_string_lossy().into_owned();
        std::fs::create_dir(&out).unwrap();
        // What is left on the small disk is taken along for the run with room.
        let script = format!(
            "mount -t tmpfs -o mode=755,size={size} tmpfs '{out}'; code=0; \"$0\" \"$@\" || code=$?; \
             mkdir '{out}-kept'; cp -a '{out}/.' '{out}-kept/'; exit $code"
        );
        let outcome = unshared(&context, &script, &scene.command(&context).arguments());
        says(&outcome, &["there is no room left", &out, "No space left on device", "hint: free "]);
        std::fs::remove_dir(&out).unwrap();
        std::fs::rename(format!("{out}-kept"), &out).unwrap();
        let left = examine(&scene, &context.out());
        assert!(
            size < MIB || usize::try_from(left.held).unwrap() > size - 600 * KIB,
            "{} of {size} are kept",
            left.held
        );
        completes(&scene, &context, &left);
    }
}

/// A read-only disk: an image that is there is up to date all the same, and another one is exit 1 with the path, before
/// anything is downloaded.
#[test]
fn a_read_only_disk_is_no_obstacle_to_what_is_there() {
    if !may_mount() {
        return;
    }
    let scene = Scene::new(Kind::Beside);
    let context = scene.set();
    let out = context.out().to_string_lossy().into_owned();
    let read_only =
        format!("mount --bind '{out}' '{out}'; mount -o remount,bind,ro '{out}'; exec \"$0\" \"$@\"");
    let arguments = scene.command(&context).arguments();
    let outcome = unshared(&context, &read_only, &arguments);
    says(&outcome, &[&out, "Read-only file system", "hint: choose a folder that can be written to"]);
    let layers = [0, 1]
        .map(|at| scene.pushed.child(at))
        .map(|image| scene.registry.requests_for(image.layer(1)).len());
    assert_eq!(layers, [0, 0], "{:?}", scene.registry.asked());
    let left = examine(&scene, &context.out());
    completes(&scene, &context, &left);
    for arguments in [arguments, vec!["verify".to_owned(), out.clone()], vec!["ls".to_owned(), out.clone()]] {
        let outcome = unshared(&context, &read_only, &arguments);
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    }
}

/// The limit on the size of files comes with a signal that ends a process without a word. It is an error like any other.
#[test]
fn a_limit_on_files_is_an_error_and_no_death() {
    for blocks in [1, 100, 2048] {
        let scene = Scene::new(Kind::New);
        let context = scene.set();
        let script = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let run = context.program("/bin/sh").args(["-c", &script, env!("CARGO_BIN_EXE_ocipull")]);
        let outcome = run.args(scene.command(&context).arguments()).run();
        says(&outcome, &[&context.out().to_string_lossy(), "File too large", "hint: ", "ulimit -f"]);
        let left = examine(&scene, &context.out());
        completes(&scene, &context, &left);
    }
}

/// Killed from outside while bodies hang in the air, at offsets around every boundary that there is: the next run asks for no
/// byte that was noted, and what was not noted is less than a MiB a connection.
#[test]
fn a_kill_between_two_bytes_loses_less_than_a_mebibyte_a_connection() {
    // Segments are of a MiB, and so are answers.
    let offsets = [0, 1, 4 * KIB, 200 * KIB, 511 * KIB, 900 * KIB, MIB - 1];
    for offset in offsets {
        let scene = Scene::new(Kind::New);
        let context = scene.set();
        let gate = Gate::new();
        scene.registry.on_blob(scene.pushed.layer(0)).always(Fault::HoldAfter(offset, gate.clone()));
        let running = scene.command(&context).spawn();
        gate.wait_for_arrivals(1);
        running.kill();
        scene.registry.mend();
        gate.open();
        let sent = scene.registry.blob_bytes_sent();
        let left = examine(&scene, &context.out());
        // The config was read before, and is kept with the image only.
        let config = KIB as u64;
        assert!(
            sent - left.held.min(sent) <= CONNECTIONS * MIB as u64 + config,
            "{} of {sent} bytes are kept",
            left.held
        );
        completes(&scene, &context, &left);
    }
}
