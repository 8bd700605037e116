//! Debian's docker-registry, on a port that the system chose and with a storage that goes away with it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::tools::{run, skopeo};

pub(crate) struct DockerRegistry {
    process: Child,
    address: String,
    _storage: TempDir,
}

impl DockerRegistry {
    /// Starts one and waits until it says that it listens.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one that is open to one user only: this line of an htpasswd file, whose hash has to be bcrypt's.
    pub(crate) fn start_for(user: &str) -> Self {
        let storage = tempfile::tempdir().expect("a temporary folder");
        let users = storage.path().join("htpasswd");
        std::fs::write(&users, user).expect("the user is written");
        let auth = format!("auth: {{htpasswd: {{realm: interop, path: '{}'}}}}\n", users.display());
        Self::start_in(storage, &auth)
    }

    /// Starts one with this `auth` section in its configuration.
    pub(crate) fn start_with(auth: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), auth)
    }

    fn start_in(storage: TempDir, auth: &str) -> Self {
        let configuration = storage.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\n{auth}",
            storage.path().join("storage").display()
        );
        std::fs::write(&configuration, text).expect("the configuration is written");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry starts");
        let log = process.stderr.take().expect("invariant: stderr is a pipe");
        let mut registry = Self { process, address: String::new(), _storage: storage };
        registry.address = listening(log);
        registry
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The reference of a name in this registry.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Pushes an image of a layout with skopeo.
    pub(crate) fn push(&self, layout: &str, name: &str, options: &[&str]) {
        run(skopeo()
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .args(options)
            .arg(format!("oci:{layout}"))
            .arg(format!("docker://{}", self.reference(name))));
    }

    /// The manifest of a name as skopeo gets it.
    pub(crate) fn manifest(&self, name: &str) -> Vec<u8> {
        let reference = format!("docker://{}", self.reference(name));
        run(skopeo().args(["inspect", "--raw", "--tls-verify=false"]).arg(reference)).stdout
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The address in the line that says so; the log is read on to its end, or the registry would block on a full pipe.
fn listening(log: ChildStderr) -> String {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut told = Vec::new();
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let address =
                line.split_once("listening on ").map(|(_, rest)| rest.trim_end_matches(['"', '\\', ' ']));
            if let Some(address) = address.filter(|address| address.starts_with("127.0.0.1:")) {
                let _ = sender.send(Ok(address.split('"').next().unwrap_or(address).to_owned()));
            }
            if told.len() < 50 {
                told.push(line);
            }
        }
        let _ = sender.send(Err(told.join("\n")));
    });
    let told = receiver.recv_timeout(Duration::from_secs(30)).expect("docker-registry listens within 30 s");
    told.unwrap_or_else(|log| panic!("docker-registry ended:\n{log}"))
}
