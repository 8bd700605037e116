//! Credential helpers: programs named `docker-credential-NAME` that keep credentials elsewhere than in a file, and the
//! protocol of docker-credential-helpers that they are spoken to by.
//!
//! A helper is looked up in the absolute folders of `PATH`, gets the server address (or, to store, a JSON document) on
//! standard input and answers on standard output; secrets are on no command line. It has a time limit, after which it is
//! killed, and what it says is capped. Where there is no terminal it has a process group of its own, and its children are
//! killed with it; on a terminal it stays in the foreground, so that it may ask there, and Ctrl-C ends it too. Each is asked once for a server: the answer, or the failure,
//! holds as long as the [`Helpers`] do, and who asks meanwhile waits for the one question that is under way.
//!
//! An error shows what a helper said of its failure, escaped and capped, unless that reads like the document that it would
//! have answered with. Which helper is asked, and when, is `file`'s and `resolution`'s to say.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::credential::Credentials;
use super::file::take;
use super::running::{self, Group};
use crate::text::printable;

/// How long a helper may take. Long enough for somebody to unlock a keychain, short enough for a job that nobody watches.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long the output of a helper that has ended is waited for: a daemon that it started may hold the pipe open.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// The longest answer. A token is a few kilobytes at the most, a list of all servers some more.
const ANSWER_CAP: usize = 1 << 20;

/// How much is kept of what a helper says on standard error.
const MESSAGE_CAP: usize = 4 << 10;

/// How often a running helper is looked at: soon at first, as most answer at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What helpers write when they do not know a server, which is no failure.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user that stands for "the secret is an identity token".
const TOKEN_USER: &str = "<token>";

/// What a helper is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// The helper's name as configured, without `docker-credential-`.
    pub helper: String,
    /// The server addresses to ask for, until one is known.
    pub servers: Vec<String>,
    /// The file that names the helper; without one it is the configuration's list of helpers.
    pub file: Option<PathBuf>,
    /// Whether it is the store for whatever host (`credsStore`), rather than chosen for this one.
    pub is_store: bool,
}

/// Why a helper did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// What is configured is no program's name.
    #[error("\"{}\" is no name of a credential helper", printable(name))]
    Name {
        /// The name.
        name: String,
    },
    /// There is no such program.
    #[error("{program} is not in any folder of PATH")]
    NotInstalled {
        /// The program's name.
        program: String,
    },
    /// The program does not start.
    #[error("{program} cannot be run: {reason}")]
    Start {
        /// The program's name.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// The program says that it failed.
    #[error("{program} {action} failed with {status}{}", quoted(said))]
    Failed {
        /// The program's name.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// How it ended.
        status: String,
        /// What it said, escaped and capped.
        said: String,
    },
    /// The program took too long and was killed.
    #[error("{program} {action} did not end within {} s and was killed", after.as_secs_f64())]
    TimedOut {
        /// The program's name.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The program's answer is not what it should be.
    #[error("{program} {action} gave an answer that cannot be used: {reason}")]
    Answer {
        /// The program's name.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// What is wrong, without the answer.
        reason: &'static str,
    },
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

type Answer = Result<Option<Credentials>, HelperError>;

/// Filled by the one who asks, while the others wait.
type AnswerCell = Arc<OnceLock<Answer>>;

/// Runs helpers, and remembers what they answered.
#[derive(Debug)]
pub struct Helpers {
    folders: OsString,
    patience: Duration,
    group: Group,
    /// By helper and server.
    answers: Mutex<HashMap<(String, String), AnswerCell>>,
}

impl Default for Helpers {
    fn default() -> Self {
        let helpers = Self::in_folders(std::env::var_os("PATH").unwrap_or_default(), PATIENCE);
        Self { group: Group::of_process(), ..helpers }
    }
}

impl Helpers {
    /// Helpers in these folders (in the form of `PATH`; relative ones are passed over), each with this time to answer, and
    /// nobody to ask on a terminal.
    pub fn in_folders(path: impl Into<OsString>, patience: Duration) -> Self {
        Self { folders: path.into(), patience, group: Group::Own, answers: Mutex::default() }
    }

    /// Asks a helper under each server address in turn: the credentials, and the address that it knew. Blocks.
    ///
    /// # Errors
    /// Any [`HelperError`].
    pub fn ask(&self, inquiry: &Inquiry) -> Result<Option<(Credentials, String)>, HelperError> {
        for server in &inquiry.servers {
            if let Some(credentials) = self.get(&inquiry.helper, server)? {
                return Ok(Some((credentials, server.clone())));
            }
        }
        Ok(None)
    }

    fn get(&self, name: &str, server: &str) -> Answer {
        let place = (name.to_owned(), server.to_owned());
        let cell = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(answers.entry(place).or_default())
        };
        cell.get_or_init(|| self.get_anew(name, server)).clone()
    }

    fn get_anew(&self, name: &str, server: &str) -> Answer {
        let helper = self.program(name, "get")?;
        let ended = helper.run(server.as_bytes(), self.patience)?;
        if !ended.status.success() {
            return if ended.is_not_found() { Ok(None) } else { Err(helper.failed(&ended, None)) };
        }
        let mut fields = first_object(&ended.stdout).ok_or_else(|| helper.answer("it is no JSON object"))?;
        let mut text = |field: &str| match take(&mut fields, field) {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text),
            _ => Err(helper.answer("a field is not text")),
        };
        let (username, secret) = (text("Username")?, text("Secret")?);
        Ok(match (username.as_str(), secret.is_empty()) {
            ("", true) => None,
            (TOKEN_USER, _) => Some(Credentials::IdentityToken { username: None, token: secret }),
            _ => Some(Credentials::Basic { username, password: secret }),
        })
    }

    /// Lets a helper keep credentials for a server. Blocks.
    ///
    /// # Errors
    /// Any [`HelperError`].
    pub fn store(&self, name: &str, server: &str, credentials: &Credentials) -> Result<(), HelperError> {
        let (username, secret) = match credentials {
            Credentials::Basic { username, password } => (username.as_str(), password),
            Credentials::IdentityToken { token, .. } | Credentials::RegistryToken(token) => {
                (TOKEN_USER, token)
            }
        };
        let helper = self.program(name, "store")?;
        let document = json!({ "ServerURL": server, "Username": username, "Secret": secret }).to_string();
        self.forget(name, server);
        let ended = helper.run(document.as_bytes(), self.patience)?;
        if ended.status.success() { Ok(()) } else { Err(helper.failed(&ended, Some(secret))) }
    }

    /// Lets a helper forget the credentials for a server; whether it had any. Blocks.
    ///
    /// # Errors
    /// Any [`HelperError`].
    pub fn erase(&self, name: &str, server: &str) -> Result<bool, HelperError> {
        if self.get_anew(name, server)?.is_none() {
            return Ok(false);
        }
        let helper = self.program(name, "erase")?;
        self.forget(name, server);
        let ended = helper.run(server.as_bytes(), self.patience)?;
        if ended.status.success() || ended.is_not_found() {
            return Ok(true);
        }
        Err(helper.failed(&ended, None))
    }

    /// The server addresses that a helper has credentials for. Blocks.
    ///
    /// # Errors
    /// Any [`HelperError`].
    pub fn list(&self, name: &str) -> Result<Vec<String>, HelperError> {
        let helper = self.program(name, "list")?;
        let ended = helper.run(b"unused", self.patience)?;
        if !ended.status.success() {
            return if ended.is_not_found() { Ok(Vec::new()) } else { Err(helper.failed(&ended, None)) };
        }
        let servers = first_object(&ended.stdout).ok_or_else(|| helper.answer("it is no JSON object"))?;
        Ok(servers.into_iter().map(|(server, _)| server).collect())
    }

    fn program(&self, name: &str, action: &'static str) -> Result<Program, HelperError> {
        Program::find(name, &self.folders, action, self.group)
    }

    fn forget(&self, name: &str, server: &str) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.remove(&(name.to_owned(), server.to_owned()));
    }
}

/// The name of a helper's program.
pub(super) fn program_name(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

/// The object that the text begins with. What follows it is of no interest to docker either.
fn first_object(text: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::Deserializer::from_slice(text).into_iter().next()? {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

/// A helper's program with the one thing that it is to do.
struct Program {
    name: String,
    path: PathBuf,
    action: &'static str,
    group: Group,
}

/// How a helper ended, and what it wrote.
struct EndedHelper {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl EndedHelper {
    fn is_not_found(&self) -> bool {
        [&self.stdout, &self.stderr]
            .into_iter()
            .any(|said| String::from_utf8_lossy(said).to_ascii_lowercase().contains(NOT_FOUND))
    }
}

impl Program {
    fn find(helper: &str, folders: &OsStr, action: &'static str, group: Group) -> Result<Self, HelperError> {
        let is_name = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '\\' | ':');
        if helper.is_empty() || !helper.chars().all(is_name) {
            return Err(HelperError::Name { name: helper.to_owned() });
        }
        let name = program_name(helper);
        // A relative folder would let whoever wrote the current one run what he likes.
        let absolute = std::env::split_paths(folders).filter(|folder| folder.is_absolute());
        let path = std::env::join_paths(absolute)
            .ok()
            .and_then(|folders| which::which_in_global(&name, Some(folders)).ok()?.next());
        match path {
            Some(path) => Ok(Self { name, path, action, group }),
            None => Err(HelperError::NotInstalled { program: name }),
        }
    }

    fn run(&self, input: &[u8], patience: Duration) -> Result<EndedHelper, HelperError> {
        let mut command = Command::new(&self.path);
        command.arg(self.action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = running::start(&mut command, self.group)
            .map_err(|error| HelperError::Start { program: self.name.clone(), reason: error.to_string() })?;
        if let Some(mut stdin) = child.stdin.take() {
            let input = input.to_owned();
            // On a thread, as a helper need not read before it writes; one that does not read at all closes the pipe.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        // One byte more than is accepted tells an answer that is too long.
        let stdout = child.stdout.take().map(|pipe| Output::of(pipe, ANSWER_CAP + 1));
        let stderr = child.stderr.take().map(|pipe| Output::of(pipe, MESSAGE_CAP));
        let Some(status) = wait(&mut child, patience, self.group) else {
            tracing::debug!(program = self.name, action = self.action, "credential helper timed out");
            return Err(HelperError::TimedOut {
                program: self.name.clone(),
                action: self.action,
                after: patience,
            });
        };
        let (stdout, stderr) =
            (stdout.map(Output::take).unwrap_or_default(), stderr.map(Output::take).unwrap_or_default());
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(program = self.name, action = self.action, %status, milliseconds, "credential helper");
        if stdout.len() > ANSWER_CAP {
            return Err(self.answer("it is longer than 1 MiB"));
        }
        Ok(EndedHelper { status, stdout, stderr })
    }

    fn answer(&self, reason: &'static str) -> HelperError {
        HelperError::Answer { program: self.name.clone(), action: self.action, reason }
    }

    /// Docker's helpers write why they failed to standard output, others to standard error.
    fn failed(&self, ended: &EndedHelper, secret: Option<&str>) -> HelperError {
        let text = |said: &[u8]| without_documents(&String::from_utf8_lossy(said));
        let said: Vec<String> = [&ended.stderr, &ended.stdout]
            .map(|said| text(said))
            .into_iter()
            .filter(|said| !said.is_empty())
            .collect();
        let mut said = said.join("; ");
        if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
            let in_json = Value::from(secret).to_string();
            said = said.replace(in_json.trim_matches('"'), "[redacted]").replace(secret, "[redacted]");
        }
        HelperError::Failed {
            program: self.name.clone(),
            action: self.action,
            status: ended.status.to_string(),
            said: printable(&said),
        }
    }
}

/// The lines of a text up to the first that looks like a document, which may be the one with the secret, over several lines.
fn without_documents(said: &str) -> String {
    let is_document = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.contains(['{', '}']) || line.contains("\"secret\"")
    };
    let mut kept = said.trim().lines().take_while(|line| !is_document(line)).collect::<Vec<_>>().join("\n");
    kept.truncate(kept.trim_end().len());
    kept
}

/// What a pipe has given so far.
struct Output {
    kept: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

impl Output {
    /// Reads on a thread of its own: everything, so that the helper is never stuck, of which `cap` bytes are kept.
    fn of(mut pipe: impl Read + Send + 'static, cap: usize) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (sender, ended) = channel();
        let filled = Arc::clone(&kept);
        std::thread::spawn(move || {
            let mut buffer = [0; 8 << 10];
            while let Ok(read) = pipe.read(&mut buffer) {
                let mut filled = filled.lock().unwrap_or_else(PoisonError::into_inner);
                let room = cap - filled.len();
                filled.extend_from_slice(&buffer[..read.min(room)]);
                if read == 0 {
                    break;
                }
            }
            // Nobody waits for it any more when the helper was killed.
            let _ = sender.send(());
        });
        Self { kept, ended }
    }

    /// What came, up to the end or, where a daemon holds the pipe open, up to now.
    fn take(self) -> Vec<u8> {
        let _ = self.ended.recv_timeout(LEFTOVERS);
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Waits for the end; `None` when the helper had to be killed.
fn wait(child: &mut Child, patience: Duration, group: Group) -> Option<ExitStatus> {
    let started = Instant::now();
    let mut pause = SHORTEST_PAUSE;
    loop {
        if let Some(status) = running::ended(child) {
            return Some(status);
        }
        if started.elapsed() >= patience {
            running::kill(child, group);
            return None;
        }
        std::thread::sleep(pause.min(patience.saturating_sub(started.elapsed())));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Helpers for tests.
#[cfg(test)]
#[cfg(unix)]
pub(super) mod testing {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::program_name;

    /// Installs `docker-credential-NAME` as a shell script. Another process writes it: a file that a fork of this one has open
    /// for writing, as any other test's may, cannot be run.
    pub(crate) fn install(folder: &Path, name: &str, script: &str) {
        let text = folder.join("script");
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&text, PermissionsExt::from_mode(0o755)).unwrap();
        let copied = Command::new("cp").arg(&text).arg(folder.join(program_name(name))).status().unwrap();
        assert!(copied.success());
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
