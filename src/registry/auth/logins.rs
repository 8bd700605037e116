//! Logging in and out: credentials put where `resolution` finds them again, and taken away.
//!
//! They go where podman puts them: into the file that was named, else into the first of `resolution`'s files, which
//! wins over all others; or, where that file names a helper for the host (`credHelpers`) or for all (`credsStore`), to
//! the helper, the file keeping an empty entry, as docker does. Where `credential-helpers` of registries.conf names
//! helpers, the first in the list that takes them has them.
//!
//! Guarantees: the file is replaced whole and durably, readable for the user alone, under a lock, so that logins at the same
//! time are all there afterwards; what else it says stays as it was. Secrets go to helpers on standard input.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::configured::{is_absent, read, read_text};
use super::credential::{CredentialError, CredentialOrigin, Credentials};
use super::document::Document;
use super::file::{AuthFile, BrokenEntry, DOCKER_HUB, is_docker_hub, is_same_key, normal, servers};
use super::helper::{HelperError, Helpers, program_name};
use super::resolution::{AUTH_FILES, Environment, Location, filled};
use crate::durable::{self, Access, LockFile};
use crate::failure::{Failure, Kind};
use crate::registry::LoginKey;

/// How long another login is waited for. One takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many links are followed, as systems count them.
const MOST_LINKS: usize = 40;

/// Where a user's logins are kept.
#[derive(Debug, Default)]
pub struct Logins {
    environment: Environment,
    helpers: Vec<String>,
    programs: Helpers,
}

/// Why credentials cannot be stored or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// There is no place for a file of credentials.
    #[error("there is no folder for credentials: neither a home nor XDG_RUNTIME_DIR is set")]
    NoPlace,
    /// The folder for credentials that the session should have.
    #[error("the folder {} that XDG_RUNTIME_DIR names does not exist", path.display())]
    NoRuntimeFolder {
        /// The folder.
        path: PathBuf,
    },
    /// What is there cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// A helper did not do it.
    #[error("a credential helper failed")]
    Helper(#[source] HelperError),
    /// Helpers keep one login a host.
    #[error("{program} keeps credentials, and it cannot keep any for a namespace such as {key}")]
    NamespaceInHelper {
        /// The helper's program.
        program: String,
        /// What was to be logged in to.
        key: String,
    },
    /// Another process changes the file.
    #[error("another process has been changing {} for {} s", path.display(), PATIENCE.as_secs())]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Failure for LoginError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoPlace | Self::NoRuntimeFolder { .. } | Self::NamespaceInHelper { .. } => Kind::Usage,
            Self::Credentials(source) => source.kind(),
            Self::Helper(_) | Self::Held { .. } | Self::Write { .. } => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Credentials(source) => return source.hint(),
            Self::NoRuntimeFolder { .. } => "make it, unset the variable, or name a file with --authfile",
            Self::NoPlace | Self::Write { .. } => "name a file with --authfile, or by REGISTRY_AUTH_FILE",
            Self::NamespaceInHelper { .. } => "log in to the whole registry, or name a file with --authfile",
            Self::Helper(HelperError::NotInstalled { .. } | HelperError::Name { .. }) => {
                "install the helper, take it out of the configuration, or name another file with --authfile"
            }
            Self::Helper(_) | Self::Held { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<durable::Failed> for LoginError {
    fn from(failed: durable::Failed) -> Self {
        Self::Write { path: failed.path, source: failed.source }
    }
}

impl Logins {
    /// The logins in these places.
    pub fn new(environment: Environment) -> Self {
        Self { environment, ..Self::default() }
    }

    /// The same with `credential-helpers` of registries.conf, as
    /// [`ConfiguredCredentials::with_helpers`](super::ConfiguredCredentials::with_helpers) has it.
    #[must_use]
    pub fn with_helpers(self, helpers: Vec<String>) -> Self {
        Self { helpers, ..self }
    }

    /// The same with these programs for helpers, rather than those in `PATH`.
    #[must_use]
    pub fn with_programs(self, programs: Helpers) -> Self {
        Self { programs, ..self }
    }

    /// Whether the file that would be written can be read, so that a mistake in it is found before anybody is asked for a
    /// password. One that is not there is as good. Blocks.
    ///
    /// # Errors
    /// [`LoginError::Credentials`], [`LoginError::NoPlace`] and [`LoginError::NoRuntimeFolder`].
    pub fn check(&self) -> Result<(), LoginError> {
        if self.order() == [AUTH_FILES] {
            read(&Location { is_named: false, ..self.location()? })?;
        }
        Ok(())
    }

    /// Stores credentials, and says where. Blocks.
    ///
    /// # Errors
    /// Any [`LoginError`]; of several helpers the first one's.
    pub fn store(&self, key: &LoginKey, credentials: &Credentials) -> Result<CredentialOrigin, LoginError> {
        let mut failure = None;
        for helper in self.order() {
            let stored = if helper == AUTH_FILES {
                self.store_in_file(key, credentials)
            } else {
                self.store_in_helper(helper, key, key.host(), credentials, None)
            };
            match stored {
                Ok(origin) => return Ok(origin),
                Err(error) => {
                    tracing::debug!(registry = %key, helper, %error, "credentials not stored here");
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or(LoginError::NoPlace))
    }

    /// Removes the credentials for `key`, and says from where; from nowhere when there were none. Blocks.
    ///
    /// # Errors
    /// Any [`LoginError`], after everything that could be removed was.
    pub fn remove(&self, key: &LoginKey) -> Result<Vec<CredentialOrigin>, LoginError> {
        let name = key.to_string();
        let mut removal = Removal::new(&self.programs);
        for helper in self.order() {
            if helper == AUTH_FILES {
                let Some(file) = removal.note(self.file()).flatten() else { continue };
                if key.namespace().is_none() {
                    removal.erase_host(&file, key.host());
                }
                let removed = self.edit(|document| document.remove(|known| is_same_key(known, &name)));
                removal.note_entries(removed);
            } else if key.namespace().is_none() {
                removal.erase(helper, &servers(key.host(), Some(key.host())), None);
            }
        }
        removal.end()
    }

    /// Removes all credentials in the file and in the helpers that have any for it. Blocks.
    ///
    /// # Errors
    /// Any [`LoginError`], after everything that could be removed was.
    pub fn remove_all(&self) -> Result<Vec<CredentialOrigin>, LoginError> {
        let mut removal = Removal::new(&self.programs);
        for helper in self.order() {
            if helper == AUTH_FILES {
                let Some(file) = removal.note(self.file()).flatten() else { continue };
                removal.erase_all(&file);
                removal.note_entries(self.edit(|document| document.remove(|_| true)));
            } else {
                let listed = self.programs.list(helper);
                for server in removal.note(listed.map_err(LoginError::Helper)).unwrap_or_default() {
                    removal.erase(helper, &[server], None);
                }
            }
        }
        removal.end()
    }

    /// The places in order: helpers by their names, and the files.
    fn order(&self) -> Vec<&str> {
        let is_named = self.environment.locations().first().is_some_and(|location| location.is_named);
        if self.helpers.is_empty() || is_named {
            return vec![AUTH_FILES];
        }
        self.helpers.iter().map(String::as_str).collect()
    }

    /// The file that is written.
    fn location(&self) -> Result<Location, LoginError> {
        let location = self.environment.locations().into_iter().next().ok_or(LoginError::NoPlace)?;
        match filled(self.environment.runtime_folder.as_ref()) {
            Some(folder) if location.path.starts_with(folder) && !location.is_named && !folder.is_dir() => {
                Err(LoginError::NoRuntimeFolder { path: folder.to_owned() })
            }
            _ => Ok(location),
        }
    }

    /// What the file says that is to be logged out of.
    fn file(&self) -> Result<Option<AuthFile>, LoginError> {
        Ok(read(&self.location()?)?)
    }

    fn store_in_file(
        &self,
        key: &LoginKey,
        credentials: &Credentials,
    ) -> Result<CredentialOrigin, LoginError> {
        let location = Location { is_named: false, ..self.location()? };
        let path = location.path.as_path();
        let file = match read(&location)? {
            Some(file) => file,
            None => AuthFile::parse(path, b"", location.form)?,
        };
        let name = written_key(key, path);
        let is_same = |known: &str| is_same_key(known, &name);
        let by_host = file.host_helper(key.host()).map_err(CredentialError::from)?;
        let helper = match by_host {
            Some((server, helper)) => Some((helper, server)).filter(|(helper, _)| !helper.is_empty()),
            None => file.store_helper().map_err(CredentialError::from)?.map(|helper| (helper, name.as_str())),
        };
        if let Some((helper, server)) = helper {
            let server = if is_docker_hub(key.host()) { server } else { key.host() };
            let origin = self.store_in_helper(helper, key, server, credentials, Some(path.to_owned()))?;
            // An entry that stands there would go before the helper, or outlive the logout.
            self.edit(|document| document.set(&name, &json!({}), is_same))?;
            return Ok(origin);
        }
        self.edit(|document| document.set(&name, &entry(credentials), is_same))?;
        Ok(CredentialOrigin::File { path: path.to_owned(), key: name })
    }

    fn store_in_helper(
        &self,
        helper: &str,
        key: &LoginKey,
        server: &str,
        credentials: &Credentials,
        file: Option<PathBuf>,
    ) -> Result<CredentialOrigin, LoginError> {
        let program = program_name(helper);
        if key.namespace().is_some() {
            return Err(LoginError::NamespaceInHelper { program, key: key.to_string() });
        }
        self.programs.store(helper, server, credentials).map_err(LoginError::Helper)?;
        Ok(CredentialOrigin::Helper { program, server: server.to_owned(), file })
    }

    /// Changes the file under its lock; one that is not there is made when there is something to write.
    fn edit<T>(&self, change: impl FnOnce(&mut Document) -> T) -> Result<(PathBuf, T), LoginError> {
        let location = self.location()?;
        // A link, to a folder of settings under version control perhaps, stays one.
        let path = followed(&location.path);
        let folder = durable::folder_of(&path);
        durable::create_folder(folder, Access::Private)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lock_path = folder.join(format!(".{name}.lock"));
        let lock = LockFile::acquire(&lock_path, PATIENCE)
            .map_err(|source| LoginError::Write { path: lock_path, source })?
            .ok_or_else(|| LoginError::Held { path: path.clone() })?;
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => Vec::new(),
            Err(source) => return Err(CredentialError::Unreadable { path, source }.into()),
        };
        AuthFile::parse(&path, &text, location.form)?;
        let mut document = Document::parse(&text).map_err(|error| CredentialError::Malformed {
            path: path.clone(),
            reason: format!("line {} cannot be read", error.line()),
        })?;
        let changed = change(&mut document);
        if let Some(text) = document.into_text() {
            durable::replace_private(&path, text.as_bytes())?;
        }
        drop(lock);
        Ok((location.path, changed))
    }
}

/// Where a path leads in the end, over links to what is not there yet too.
fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = durable::folder_of(&path).join(target),
            Err(_) => break,
        }
    }
    path.canonicalize().unwrap_or(path)
}

/// The key that a login is stored under. Docker Hub's is docker's own in docker's own file, where docker knows no other,
/// and podman's elsewhere, where `podman logout` knows no other.
fn written_key(key: &LoginKey, path: &Path) -> String {
    let is_dockers = path.file_name().is_some_and(|name| name == "config.json");
    if is_dockers && is_docker_hub(key.host()) && key.namespace().is_none() {
        return DOCKER_HUB[0].to_owned();
    }
    key.to_string()
}

fn entry(credentials: &Credentials) -> Value {
    let auth = |user: &str, password: &str| STANDARD.encode(format!("{user}:{password}"));
    match credentials {
        Credentials::Basic { username, password } => json!({ "auth": auth(username, password) }),
        Credentials::IdentityToken { username, token } => {
            json!({ "auth": auth(username.as_deref().unwrap_or_default(), ""), "identitytoken": token })
        }
        Credentials::RegistryToken(token) => json!({ "registrytoken": token }),
    }
}

/// What was removed so far, and what went wrong first.
struct Removal<'a> {
    programs: &'a Helpers,
    removed: Vec<CredentialOrigin>,
    failure: Option<LoginError>,
}

impl<'a> Removal<'a> {
    fn new(programs: &'a Helpers) -> Self {
        Self { programs, removed: Vec::new(), failure: None }
    }

    fn note<T>(&mut self, result: Result<T, LoginError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.failure.get_or_insert(error);
                None
            }
        }
    }

    fn note_entries(&mut self, removed: Result<(PathBuf, Vec<String>), LoginError>) {
        if let Some((path, keys)) = self.note(removed) {
            let origins = keys.into_iter().map(|key| CredentialOrigin::File { path: path.clone(), key });
            self.removed.extend(origins);
        }
    }
}

impl Removal<'_> {
    /// Lets the helper that the file names for a host forget it.
    fn erase_host(&mut self, file: &AuthFile, host: &str) {
        let path = Some(file.path());
        match file.host_helper(host) {
            Ok(Some((key, helper))) => self.erase(helper, &servers(host, Some(key)), path),
            Ok(None) => {
                if let Some(Some(store)) = self.note(file.store_helper().map_err(broken)) {
                    self.erase(store, &servers(host, None), path);
                }
            }
            Err(entry) => {
                self.note::<()>(Err(broken(entry)));
            }
        }
    }

    /// Lets all helpers that the file names forget what the file has keys for.
    fn erase_all(&mut self, file: &AuthFile) {
        let path = Some(file.path());
        for (key, helper) in file.host_helpers() {
            self.erase(helper, &servers(&normal(key), Some(key)), path);
        }
        if let Some(Some(store)) = self.note(file.store_helper().map_err(broken)) {
            for key in file.keys() {
                self.erase(store, &servers(&normal(key), None), path);
            }
        }
    }

    fn erase(&mut self, helper: &str, servers: &[String], file: Option<&Path>) {
        // By an empty name docker says that there is no helper for a host.
        for server in servers.iter().filter(|_| !helper.is_empty()) {
            let erased = self.programs.erase(helper, server).map_err(LoginError::Helper);
            let program = program_name(helper);
            match self.note(erased) {
                Some(true) => self.removed.push(CredentialOrigin::Helper {
                    program,
                    server: server.clone(),
                    file: file.map(Path::to_owned),
                }),
                Some(false) => {}
                // It would fail for the others too.
                None => return,
            }
        }
    }

    fn end(self) -> Result<Vec<CredentialOrigin>, LoginError> {
        self.failure.map_or(Ok(self.removed), Err)
    }
}

fn broken(entry: BrokenEntry) -> LoginError {
    LoginError::Credentials(entry.into())
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
