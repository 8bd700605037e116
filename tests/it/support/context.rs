//! Runs the real binary: a home, a temporary folder and an environment of its own, nothing inherited that could
//! change what it does.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::registry::{FaultRegistry, PushedImage};

/// How long one run may take before the test fails. Nothing here comes close.
const PATIENCE: Duration = Duration::from_mins(3);

/// Variables that the binary needs on some system to run at all, and that change nothing else.
const INHERITED: [&str; 3] = ["PATH", "SystemRoot", "LLVM_PROFILE_FILE"];

/// A temporary folder with a home in it, gone at the end of the test.
pub(crate) struct TestContext {
    folder: TempDir,
}

impl TestContext {
    /// An empty folder and an empty home.
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// The same in memory where the system has a folder for that: a test with hundreds of runs would wait for the disk
    /// most of the time.
    #[cfg(feature = "failpoints")]
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::below(memory) } else { Self::new() }
    }

    fn below(place: &Path) -> Self {
        let folder = TempDir::new_in(place).unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder }
    }

    /// The folder, where a test may put its files.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The home, empty unless the test fills it.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Where [`TestContext::fetch`] puts the layout. It does not exist before.
    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// How many bytes of blobs the journals in the layout's staging folder note.
    pub(crate) fn noted_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.out().join(".ocipull")).into_iter().flatten().flatten();
        let journals = files.filter(|file| file.path().extension().is_some_and(|name| name == "journal"));
        let texts = journals.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default());
        let noted = |line: &str| {
            let mut words = line.strip_prefix("have ")?.split(' ').map(str::parse::<u64>);
            let (start, end) = (words.next()?.ok()?, words.next()?.ok()?);
            end.checked_sub(start)
        };
        texts.map(|text| text.lines().filter_map(noted).sum::<u64>()).sum()
    }

    /// The binary in a clean environment, with the folder as its working directory.
    pub(crate) fn command(&self) -> Command {
        self.clean(env!("CARGO_BIN_EXE_ocipull"))
    }

    fn clean(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.path()).env("HOME", self.home()).env("TZ", "UTC");
        command.env("TMPDIR", self.path());
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// `ocipull ARGUMENTS`
    pub(crate) fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Run<'_> {
        Run { context: self, command: self.command(), stdin: Vec::new() }.args(arguments)
    }

    /// Another program in the same environment.
    pub(crate) fn program(&self, program: &str) -> Run<'_> {
        Run { context: self, command: self.clean(program), stdin: Vec::new() }
    }

    /// `ocipull fetch REFERENCE OUT`, trusting the registry's CA where it has one.
    pub(crate) fn fetch(&self, registry: &FaultRegistry, image: &PushedImage) -> Run<'_> {
        let run = self.run(["fetch", &image.reference()]).arg(self.out());
        match registry.ca_file() {
            Some(file) => run.arg("--ca-file").arg(file),
            None => run,
        }
    }

    /// `text` with what differs from run to run replaced: the folder by `[DIR]`, hosts on loopback by `[HOST]`,
    /// times by `[TIME]`.
    pub(crate) fn filtered(&self, text: &str) -> String {
        let canonical = self.path().canonicalize().unwrap();
        let text = text.replace(&*canonical.to_string_lossy(), "[DIR]");
        let text = text.replace(&*self.path().to_string_lossy(), "[DIR]");
        ["127.0.0.1:", "localhost:", "[::1]:"]
            .iter()
            .fold(mask_times(&text), |text, host| mask_after(&text, host, "[HOST]"))
    }
}

/// One run of the binary that is about to start.
#[must_use = "nothing runs before run, success, fails_with or spawn"]
pub(crate) struct Run<'a> {
    context: &'a TestContext,
    command: Command,
    stdin: Vec<u8>,
}

impl Run<'_> {
    /// One more argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    pub(crate) fn args<I: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = I>) -> Self {
        self.command.args(arguments);
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What standard input holds; nothing without this.
    pub(crate) fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.stdin = input.into();
        self
    }

    /// Runs under this umask, as `022`, through a shell.
    #[cfg(unix)]
    pub(crate) fn umask(mut self, mask: &str) -> Self {
        let mut shell = self.context.clean("/bin/sh");
        shell.arg("-c").arg(format!("umask {mask}; exec \"$0\" \"$@\""));
        shell.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            value.map(|value| shell.env(name, value));
        }
        self.command = shell;
        self
    }

    /// The arguments as they stand.
    pub(crate) fn arguments(&self) -> Vec<String> {
        self.command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    /// Runs to the end.
    pub(crate) fn run(self) -> Outcome {
        self.spawn().wait()
    }

    /// Runs to the end, which has to be exit code 0.
    pub(crate) fn success(self) -> Outcome {
        self.fails_with(0)
    }

    /// Runs to the end, which has to be this exit code.
    pub(crate) fn fails_with(self, code: i32) -> Outcome {
        let outcome = self.run();
        assert_eq!(outcome.code, Some(code), "{}", outcome.report());
        outcome
    }

    /// Starts, for a test that does something meanwhile.
    pub(crate) fn spawn(mut self) -> Running {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that does not read its input closes the pipe: not this side's error.
        std::thread::spawn(move || drop(stdin.write_all(&self.stdin)));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }
}

/// Reads to the end on a thread of its own, so that a full pipe blocks nothing.
fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// A running binary. Dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits.
    pub(crate) fn kill(mut self) -> Outcome {
        self.child.kill().unwrap();
        self.wait()
    }

    /// SIGINT; the caller waits.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        self.signal(rustix::process::Signal::INT);
    }

    /// SIGTERM; the caller waits.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Outcome {
        let stdout = self.stdout.recv_timeout(PATIENCE);
        let stderr = self.stderr.recv_timeout(PATIENCE);
        let (Ok(stdout), Ok(stderr)) = (stdout, stderr) else {
            panic!("the binary still runs after {PATIENCE:?}");
        };
        let status = self.child.wait().unwrap();
        Outcome { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Standard output as one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{}", self.report()))
    }

    /// Exit code, standard output and standard error, for a snapshot (through [`TestContext::filtered`]) or a
    /// failing test's message.
    pub(crate) fn report(&self) -> String {
        let mut report = String::new();
        match self.code {
            Some(code) => writeln!(report, "exit code: {code}").unwrap(),
            None => writeln!(report, "ended by a signal").unwrap(),
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            writeln!(report, "----- {name} -----").unwrap();
            report.push_str(text);
            if !text.is_empty() && !text.ends_with('\n') {
                report.push('\n');
            }
        }
        report
    }
}

/// Replaces `marker` and the digits that follow it.
fn mask_after(text: &str, marker: &str, mask: &str) -> String {
    let mut pieces = text.split(marker);
    let mut masked = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        masked.push_str(mask);
        masked.push_str(piece.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    masked
}

/// Replaces numbers that a unit of time follows: `12 ms`, `1.5s`, `2m`.
fn mask_times(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number_on) = rest.split_at(start);
        masked.push_str(before);
        let number_length =
            number_on.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number_on.len());
        let (number, after) = number_on.split_at(number_length);
        let unit_on = after.strip_prefix(' ').unwrap_or(after);
        let unit_length = unit_on.find(|c: char| !c.is_alphabetic()).unwrap_or(unit_on.len());
        let in_word = before.ends_with(|c: char| c.is_alphanumeric() || "_-:./".contains(c));
        if !in_word && ["ms", "s", "m", "h", "µs"].contains(&&unit_on[..unit_length]) {
            masked.push_str("[TIME]");
            rest = &unit_on[unit_length..];
        } else {
            masked.push_str(number);
            rest = after;
        }
    }
    masked.push_str(rest);
    masked
}
