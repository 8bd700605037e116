//! The programs that ocipull is held against, and what running them takes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Python with oras-py, which scripts/test puts beside what cargo builds; `None` where it is missing, as for
/// [`are_here`].
pub(crate) fn oras() -> Option<Command> {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oras-py");
    if library.join("oras").is_dir() {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", library).env("PYTHONDONTWRITEBYTECODE", "1");
        return Some(command);
    }
    missing("oras-py");
    None
}

/// Whether all of these are installed. In CI a missing one is a failure; elsewhere the test says that it is skipped.
pub(crate) fn are_here(tools: &[&str]) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_here = |tool: &&&str| std::env::split_paths(&paths).any(|folder| folder.join(tool).is_file());
    let missing: Vec<&str> = tools.iter().filter(|tool| !is_here(tool)).copied().collect();
    if missing.is_empty() {
        return true;
    }
    self::missing(&missing.join(", "));
    false
}

/// In CI what is missing is a failure; elsewhere the test is skipped, and says so.
fn missing(tools: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let message = format!("{test} needs {tools}: scripts/test installs it on Debian");
    assert!(std::env::var_os("CI").is_none(), "{message}");
    // Straight to the stream: what goes through the macros is swallowed where a test passes.
    writeln!(std::io::stderr(), "SKIPPED: {message}").expect("stderr is open");
}

/// Runs a program that must succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// skopeo, which needs no policy file of the system's.
pub(crate) fn skopeo() -> Command {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy"]);
    command
}

/// ocipull, which sees no configuration but what stands in `home`.
pub(crate) fn ocipull(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocipull"));
    command.env("HOME", home).env("XDG_RUNTIME_DIR", home).env("XDG_CONFIG_HOME", home.join(".config"));
    for name in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

/// Runs ocipull, which must succeed, and reads the JSON that it prints.
pub(crate) fn ocipull_json(home: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = run(ocipull(home).args(arguments).arg("--json"));
    serde_json::from_slice(&output.stdout).expect("--json prints JSON")
}

/// Waits until something is so; panics when it takes longer than a minute, which nothing here may take.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_mins(1), "waited a minute until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
