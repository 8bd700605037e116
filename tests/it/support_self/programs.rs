//! Running programs: the environment, the outcome, signals.

use std::fs;

use crate::support::{FaultRegistry, TestContext, image};

/// A developer's own settings must not change what a test sees.
#[cfg(unix)]
#[test]
fn the_environment_is_clean() {
    let context = TestContext::new();
    let outcome = context.program("/usr/bin/env").env("EXTRA", "1").success();
    let mut names: Vec<_> = outcome.stdout.lines().filter_map(|line| line.split_once('=')).collect();
    names.retain(|(name, _)| !["PATH", "LLVM_PROFILE_FILE"].contains(name));
    names.sort_unstable();
    let home = context.home().display().to_string();
    let folder = context.path().display().to_string();
    let expected = [("EXTRA", "1"), ("HOME", home.as_str()), ("TMPDIR", folder.as_str()), ("TZ", "UTC")];
    assert_eq!(names, expected);
    assert!(fs::read_dir(context.home()).expect("a home").next().is_none());
}

/// The binary itself starts, from the folder of the test.
#[test]
fn the_binary_runs() {
    let context = TestContext::new();
    context.run(["--version"]).success();
    assert_eq!(context.command().get_current_dir(), Some(context.path()));
}

/// A fetch names the image and the layout, and trusts the registry's own CA.
#[test]
fn a_fetch_is_put_together_from_its_parts() {
    use crate::support::Certificate;

    let context = TestContext::new();
    for registry in [FaultRegistry::start(), FaultRegistry::builder().tls(Certificate::Signed).start()] {
        let image = registry.push(image());
        let run = context.fetch(&registry, &image);
        let arguments = run.arguments();
        let out = context.out().display().to_string();
        assert_eq!(arguments[..3], ["fetch", &image.reference(), &out]);
        assert_eq!(arguments.get(3).map(String::as_str), registry.ca_file().map(|_| "--ca-file"));
    }
}

/// Exit code, both outputs, standard input and JSON.
#[cfg(unix)]
#[test]
fn outcomes_hold_everything() {
    let context = TestContext::new();
    let script = "cat; echo complaint >&2; exit 3";
    let outcome = context.program("/bin/sh").args(["-c", script]).stdin("{\"a\": 1}").fails_with(3);
    assert_eq!(outcome.json()["a"], 1);
    insta::assert_snapshot!(outcome.report(), @r#"
    exit code: 3
    ----- stdout -----
    {"a": 1}
    ----- stderr -----
    complaint
    "#);
    let masked = context.program("/bin/sh").args(["-c", "umask"]).umask("077").success();
    assert_eq!(masked.stdout, "0077\n");
}

/// Signals end a program at once, and the outcome says that it was one.
#[cfg(unix)]
#[test]
fn signals_reach_the_program() {
    let context = TestContext::new();
    let endless = || context.program("/bin/sh").args(["-c", "read line < /dev/zero"]).spawn();
    assert_eq!(endless().kill().code, None);
    // SIGINT is not tried on a shell: it is ignored there when whoever runs the tests ignores it.
    let terminated = endless();
    assert!(terminated.id() > 0);
    terminated.terminate();
    assert!(terminated.wait().report().starts_with("ended by a signal"));
}

/// What differs from run to run is masked; sizes, versions and digests are not.
#[test]
fn filters_mask_what_differs() {
    let context = TestContext::new();
    let folder = context.path().display().to_string();
    for (text, filtered) in [
        (format!("{folder}/out is a folder"), "[DIR]/out is a folder"),
        ("127.0.0.1:4711/app:v1 and localhost:1".to_owned(), "[HOST]/app:v1 and [HOST]"),
        ("in 1.5s, after 12 ms, 3m of 4 h".to_owned(), "in [TIME], after [TIME], [TIME] of [TIME]"),
        ("10 MiB of sha256:12ab, 3 services, v1.2".to_owned(), "10 MiB of sha256:12ab, 3 services, v1.2"),
    ] {
        assert_eq!(context.filtered(&text), filtered);
    }
}
