//! One row: a registry, the commands that are run against it, and everything that must hold afterwards.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::server::{Script, Server};
use crate::support::{Proof, TestContext, image, sha256, write_layout};

/// What a run may take, on a machine that has much else to do.
const LONGEST: Duration = Duration::from_secs(30);

/// The most memory that a run may have had, in KiB. A debug build that fetches an honest image of a few layers has some
/// 30 MiB, most of it the program itself; a document of 4 MiB with 30,000 layers costs the rest.
const MOST_MEMORY: u64 = 64 << 10;

/// What ends within this may have ended before its memory was looked at.
const UNSEEN: Duration = Duration::from_millis(200);

/// The most that a run may have left in its layout.
const MOST_ON_DISK: u64 = 24 << 20;

/// The most that a run may say on standard error, and on standard output where a row does not say otherwise.
const MOST_SAID: usize = 48 << 10;

/// What of the system is in the digests, names and links that rows send.
const AIMS: [&str; 4] = ["/etc/passwd", "/etc/x", "/tmp/x", "/x"];

/// How many rows run at once.
const AT_ONCE: usize = 3;

/// One hostile registry and what is run against it.
pub(super) struct Row {
    name: String,
    script: Box<dyn Fn(&str) -> Script + Send + Sync>,
    runs: Vec<(String, i32)>,
    says: Vec<String>,
    most_memory: u64,
    most_sent: u64,
    most_shown: usize,
    elsewhere: bool,
    walked: bool,
}

/// A row with these commands, each with the exit code that it has to end with. `REF` stands for `app:v1` there, `REPO` for
/// `app`, `OUT` for a layout that is not there before, `HELD` for one that holds another image.
pub(super) fn row(
    name: impl Into<String>,
    runs: &[(&str, i32)],
    script: impl Fn(&str) -> Script + Send + Sync + 'static,
) -> Row {
    Row {
        name: name.into(),
        script: Box::new(script),
        runs: runs.iter().map(|(line, code)| ((*line).to_owned(), *code)).collect(),
        says: Vec::new(),
        most_memory: MOST_MEMORY,
        most_sent: u64::MAX,
        most_shown: MOST_SAID,
        elsewhere: false,
        walked: true,
    }
}

/// A document or blob that everything refuses that has to read it, with exit code 6.
pub(super) fn refused(
    name: impl Into<String>,
    script: impl Fn(&str) -> Script + Send + Sync + 'static,
) -> Row {
    const RUNS: [(&str, i32); 4] = [
        ("fetch -v REF HELD", 6),
        ("fetch --json --progress json REF OUT", 6),
        ("fetch --dry-run --progress plain REF OUT", 6),
        ("inspect REF", 6),
    ];
    row(name, &RUNS, script)
}

/// A blob that only a fetch reads, and refuses with exit code 6.
pub(super) fn refused_when_fetched(
    name: impl Into<String>,
    script: impl Fn(&str) -> Script + Send + Sync + 'static,
) -> Row {
    row(name, &[("fetch -v REF HELD", 6), ("fetch --json --progress json REF OUT", 6)], script)
}

/// What is odd and yet an image, as every other tool has it.
pub(super) fn tolerated(
    name: impl Into<String>,
    script: impl Fn(&str) -> Script + Send + Sync + 'static,
) -> Row {
    const RUNS: [(&str, i32); 4] = [
        ("fetch -vv REF HELD", 0),
        ("fetch --json --progress json REF OUT", 0),
        ("fetch --dry-run --progress plain REF OUT", 0),
        ("inspect REF", 0),
    ];
    row(name, &RUNS, script)
}

impl Row {
    /// The first command says this on standard error.
    pub(super) fn says(mut self, text: &str) -> Self {
        self.says.push(text.to_owned());
        self
    }

    /// Each command may have this much memory.
    pub(super) fn memory(mut self, mebibytes: u64) -> Self {
        self.most_memory = mebibytes << 10;
        self
    }

    /// The registry gets rid of no more than these bytes of bodies, all commands together.
    pub(super) fn sends_at_most(mut self, bytes: u64) -> Self {
        self.most_sent = bytes;
        self
    }

    /// `inspect` may show this much of what there is.
    pub(super) fn says_at_most(mut self, bytes: usize) -> Self {
        self.most_shown = bytes;
        self
    }

    /// The registry may be asked for other paths than its API has: a redirect or a link led there.
    pub(super) fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    /// What is named is what the test's own proof cannot walk: the blobs are hashed, and that is all.
    pub(super) fn not_walked(mut self) -> Self {
        self.walked = false;
        self
    }

    /// What the row is about.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn run(&self) -> Result<(), String> {
        let server = Server::start(|host| (self.script)(host));
        let sandbox = Sandbox::new();
        let mut findings = Vec::new();
        for (at, (line, code)) in self.runs.iter().enumerate() {
            let ran = sandbox.run(line, &server.host())?;
            if let Err(finding) = self.judge(&ran, *code, at == 0) {
                findings.push(format!("`{line}`: {finding}\n{}", ran.report()));
            }
        }
        expect(findings.is_empty(), || findings.join("\n"))?;
        expect(server.unserved() == 0, || {
            format!(
                "{} of the hostile answers were never asked for: {:?}",
                server.unserved(),
                server.targets()
            )
        })?;
        expect(server.sent() <= self.most_sent, || {
            format!("the registry got rid of {} bytes", server.sent())
        })?;
        for target in server.targets() {
            expect(self.elsewhere || is_of_the_api(&target), || format!("it was asked for {target:?}"))?;
        }
        Ok(())
    }

    fn judge(&self, ran: &Ran, code: i32, first: bool) -> Result<(), String> {
        expect(ran.code == Some(code), || format!("exit code {:?}, wanted {code}", ran.code))?;
        expect(ran.took < LONGEST, || format!("it took {:?}", ran.took))?;
        let is_measured = ran.most_memory > 0 || ran.took < UNSEEN || !cfg!(target_os = "linux");
        expect(is_measured, || "nobody looked at its memory".to_owned())?;
        expect(ran.most_memory <= self.most_memory, || format!("it had {} KiB of memory", ran.most_memory))?;
        ran.check_output(code)?;
        expect(ran.stdout.len() <= self.most_shown, || format!("it shows {} bytes", ran.stdout.len()))?;
        if first {
            let stderr = String::from_utf8_lossy(&ran.stderr);
            for text in &self.says {
                expect(stderr.contains(text), || format!("it does not say {text:?}"))?;
            }
        }
        ran.check_disk(code, self.walked)
    }
}

/// Runs all rows, several at once, and fails with all that went wrong.
pub(super) fn run_all(rows: &[Row]) {
    let (next, findings) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::SeqCst)) {
            match row.run() {
                Ok(()) => {}
                Err(finding) => findings.lock().unwrap().push(format!("== {}\n{finding}", row.name)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let findings = findings.into_inner().unwrap();
    assert!(findings.is_empty(), "{} of {} rows\n{}", findings.len(), rows.len(), findings.join("\n"));
}

/// Whether a target is one of the distribution API, with names that cannot be mistaken for a way somewhere else.
fn is_of_the_api(target: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "/.:_-?=&".contains(character);
    let path = target.split('?').next().unwrap_or_default();
    target.chars().all(plain) && path.starts_with("/v2/") && !target.contains("..") && !path.contains("//")
}

/// A folder in a folder in a folder, with files at every level that nobody may touch.
struct Sandbox {
    context: TestContext,
}

impl Sandbox {
    fn new() -> Self {
        let context = TestContext::new();
        let deep = context.path().join("nest/deep");
        std::fs::create_dir_all(deep.join("held")).unwrap();
        for folder in [context.path(), &context.path().join("nest"), &deep] {
            std::fs::write(folder.join("sentinel"), "untouched").unwrap();
        }
        write_layout(&deep.join("held"), "held", image().layer("held"));
        Self { context }
    }

    fn run(&self, line: &str, host: &str) -> Result<Ran, String> {
        let deep = self.context.path().join("nest/deep");
        let (out, held) = (deep.join("out"), deep.join("held"));
        let _ = std::fs::remove_dir_all(&out);
        let words: Vec<_> = line.split(' ').collect();
        let layout = words.contains(&"OUT").then(|| out.clone());
        let layout = layout.or_else(|| words.contains(&"HELD").then(|| held.clone()));
        let before = self.outside(layout.as_deref());
        let index = std::fs::read(held.join("index.json")).unwrap();
        let mut command = self.context.command();
        for word in &words {
            match *word {
                "REF" => command.arg(format!("{host}/app:v1")),
                "REPO" => command.arg(format!("{host}/app")),
                "OUT" => command.arg(&out),
                "HELD" => command.arg(&held),
                _ => command.arg(word),
            };
        }
        let asks = !matches!(words[0], "verify" | "ls");
        if asks {
            command.arg("--plain-http");
            for (option, value) in [("--retries", "0"), ("--stall-timeout", "3s")] {
                if !words.contains(&option) {
                    command.args([option, value]);
                }
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = watch(command.spawn().unwrap(), line, layout, index)?;
        let after = self.outside(ran.layout.as_deref());
        expect(before == after, || format!("outside of the layout: {before:#?} became {after:#?}"))?;
        Ok(ran)
    }

    /// Every path outside of the layout, with what is there; and those of the system that the rows aim at.
    fn outside(&self, layout: Option<&Path>) -> BTreeMap<PathBuf, String> {
        let is_elsewhere = |path: &Path| layout.is_none_or(|layout| path != layout);
        let walk = walkdir::WalkDir::new(self.context.path()).into_iter();
        let entries =
            walk.filter_entry(|entry| is_elsewhere(entry.path())).map(|entry| entry.unwrap().into_path());
        let what = |path: &Path| match path.symlink_metadata() {
            Ok(found) if found.is_file() => sha256(&std::fs::read(path).unwrap()),
            Ok(found) => format!("{:?}", found.file_type()),
            Err(error) => format!("{:?}", error.kind()),
        };
        entries.chain(AIMS.map(PathBuf::from)).map(|path| (path.clone(), what(&path))).collect()
    }
}

/// How a command ended.
struct Ran {
    words: Vec<String>,
    layout: Option<PathBuf>,
    /// The `index.json` that the held layout had before.
    index_before: Vec<u8>,
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    took: Duration,
    most_memory: u64,
}

/// Waits for the end, and looks at the memory meanwhile: the system's own mark of the most that it was.
fn watch(
    mut child: Child,
    line: &str,
    layout: Option<PathBuf>,
    index_before: Vec<u8>,
) -> Result<Ran, String> {
    let began = Instant::now();
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let mut most_memory = 0;
    let status = loop {
        most_memory = most_memory.max(memory_peak(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > LONGEST {
            let _ = child.kill();
            let _ = child.wait();
            let said = String::from_utf8_lossy(&stderr.recv().unwrap_or_default()).into_owned();
            return Err(format!("`{line}` still ran after {LONGEST:?}\n{said}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ok(Ran {
        words: line.split(' ').map(str::to_owned).collect(),
        layout,
        index_before,
        code: status.code(),
        stdout: stdout.recv().unwrap(),
        stderr: stderr.recv().unwrap(),
        took: began.elapsed(),
        most_memory,
    })
}

/// The most memory that a process had up to now, in KiB; 0 where the system does not tell.
fn memory_peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    // For a moment it still is this process, with this one's memory.
    if !status.starts_with("Name:\tocipull\n") {
        return 0;
    }
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

impl Ran {
    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|one| one == word)
    }

    fn report(&self) -> String {
        let shown =
            |bytes: &[u8]| bytes[..bytes.len().min(3000)].escape_ascii().to_string().replace("\\n", "\n");
        format!("stdout: {}\nstderr: {}", shown(&self.stdout), shown(&self.stderr))
    }

    /// Nothing drives a terminal, nothing floods it, a failure is told, and JSON is JSON.
    fn check_output(&self, code: i32) -> Result<(), String> {
        for (name, bytes) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if name == "stdout" && self.has("--raw") {
                continue;
            }
            let text = std::str::from_utf8(bytes).map_err(|_| format!("{name} is not UTF-8"))?;
            if let Some(found) = drives_a_terminal(text) {
                return Err(format!("{name} has {found:?}"));
            }
        }
        let stderr = String::from_utf8_lossy(&self.stderr);
        expect(!stderr.contains("panicked"), || "it panicked".to_owned())?;
        expect(stderr.len() <= MOST_SAID, || format!("it says {} bytes", stderr.len()))?;
        expect(code == 0 || stderr.contains("error: "), || "no error is told".to_owned())?;
        if self.has("--json") && !self.stdout.is_empty() {
            serde_json::from_slice::<serde_json::Value>(&self.stdout).map_err(|error| error.to_string())?;
        }
        let events =
            if self.words.windows(2).any(|pair| pair == ["--progress", "json"]) { &*stderr } else { "" };
        for line in events.lines().filter(|line| line.starts_with('{')) {
            serde_json::from_str::<serde_json::Value>(line).map_err(|error| format!("{error}: {line}"))?;
        }
        Ok(())
    }

    /// What failed is not named and left nothing that is not proven; what did not is whole.
    fn check_disk(&self, code: i32, walked: bool) -> Result<(), String> {
        let Some(layout) = &self.layout else { return Ok(()) };
        if self.has("--dry-run") {
            return expect(!layout.exists(), || "a dry run made the layout".to_owned());
        }
        if !layout.exists() {
            return expect(code != 0, || "there is no layout".to_owned());
        }
        let size: u64 = files(layout).map(|path| path.metadata().map_or(0, |found| found.len())).sum();
        expect(size <= MOST_ON_DISK, || format!("the layout takes {size} bytes"))?;
        // What is in it has the modes and kinds that it must have: a link would be neither.
        let held = usize::from(self.has("HELD"));
        if !walked {
            return check_blobs(layout, held);
        }
        let summary = Proof::new().sparse().with_staging().run(layout)?;
        if code == 0 {
            expect(!layout.join(".ocipull").exists(), || "staging was left".to_owned())?;
            return expect(summary.digests.len() > held, || "nothing is named".to_owned());
        }
        expect(summary.digests.len() == held, || format!("{:?} are named", summary.digests))?;
        let index = std::fs::read(layout.join("index.json")).unwrap();
        expect(held == 0 || index == self.index_before, || "index.json was changed".to_owned())
    }
}

/// Every blob is what its name says, and something is named that was not.
fn check_blobs(layout: &Path, held: usize) -> Result<(), String> {
    for path in files(&layout.join("blobs")) {
        let digest = sha256(&std::fs::read(&path).unwrap());
        expect(path.ends_with(digest.replace(':', "/")), || format!("{} holds {digest}", path.display()))?;
    }
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let named = index["manifests"].as_array().map_or(0, Vec::len);
    expect(named == held + 1, || format!("{named} are named"))
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path)
}

/// A character that moves a cursor, changes a colour, turns a line around, or hides, as Unicode has it.
fn drives_a_terminal(text: &str) -> Option<&str> {
    static HIDDEN: LazyLock<regex::Regex> = LazyLock::new(|| {
        regex::Regex::new(r"[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}--\n]")
            .unwrap()
    });
    HIDDEN.find(text).map(|found| found.as_str())
}

fn expect(holds: bool, finding: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(finding()) }
}
