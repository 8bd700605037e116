//! The credentials that the user's files and helpers hold: `resolution`'s order with real files and real helpers.
//!
//! Each file is read once, when it is first needed, so that a run sees one state of it and a pipe (`--authfile <(...)`)
//! will do; each helper is asked once for a server.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::credential::{CredentialError, CredentialSource, Credentials, FoundCredentials};
use super::file::AuthFile;
use super::helper::{HelperError, Helpers, Inquiry};
use super::resolution::{self, Environment, Location, Surroundings};
use crate::reference::Repository;

/// The longest file of credentials that is read.
pub(super) const FILE_CAP: u64 = 8 << 20;

/// The credentials in the user's files and helpers.
#[derive(Debug, Default)]
pub struct ConfiguredCredentials {
    environment: Environment,
    helpers: Vec<String>,
    programs: Helpers,
    files: Mutex<HashMap<PathBuf, Option<AuthFile>>>,
    /// The program of the store that is not installed.
    missing: OnceLock<String>,
}

impl Environment {
    /// This process's, with the file that `--authfile` names.
    pub fn of_process(authfile: Option<PathBuf>) -> Self {
        let folder = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
        // Elsewhere podman has no runtime folder, and keeps to the one below the configuration.
        let is_linux = cfg!(target_os = "linux");
        Self {
            named: authfile.or_else(|| folder("REGISTRY_AUTH_FILE")),
            runtime_folder: folder("XDG_RUNTIME_DIR").filter(|_| is_linux),
            user_id: user_id().filter(|_| is_linux),
            config_home: folder("XDG_CONFIG_HOME"),
            docker_config: folder("DOCKER_CONFIG"),
            home: std::env::home_dir(),
        }
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have none")]
fn user_id() -> Option<u32> {
    Some(rustix::process::getuid().as_raw())
}

#[cfg(not(unix))]
fn user_id() -> Option<u32> {
    None
}

impl ConfiguredCredentials {
    /// What the files hold that are in these places, and the helpers that these files name.
    pub fn new(environment: Environment) -> Self {
        Self { environment, ..Self::default() }
    }

    /// The same with `credential-helpers` of registries.conf: the names of helpers, in the order in which they are asked,
    /// [`AUTH_FILES`](super::AUTH_FILES) standing for the files. An empty list stands for the files alone.
    #[must_use]
    pub fn with_helpers(self, helpers: Vec<String>) -> Self {
        Self { helpers, ..self }
    }

    /// The same with these programs for helpers, rather than those in `PATH`.
    #[must_use]
    pub fn with_programs(self, programs: Helpers) -> Self {
        Self { programs, ..self }
    }

    /// Whether the file that was named can be read, so that a mistake in its name is found before anybody is asked
    /// anything. Nothing is checked when no file was named.
    ///
    /// # Errors
    /// [`CredentialError::Missing`], [`CredentialError::Unreadable`] and [`CredentialError::Malformed`].
    pub fn check(&self) -> Result<(), CredentialError> {
        let named = self.environment.locations().into_iter().find(|location| location.is_named);
        named.map_or(Ok(()), |location| self.file(&location).map(drop))
    }
}

impl CredentialSource for ConfiguredCredentials {
    fn credentials(&self, repository: &Repository) -> Result<Option<FoundCredentials>, CredentialError> {
        resolution::resolve(&self.environment, &self.helpers, repository, self)
    }

    fn missing_helper(&self) -> Option<String> {
        self.missing.get().cloned()
    }
}

impl Surroundings for ConfiguredCredentials {
    fn file(&self, location: &Location) -> Result<Option<AuthFile>, CredentialError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&location.path) {
            return Ok(file.clone());
        }
        let file = read(location)?;
        files.insert(location.path.clone(), file.clone());
        Ok(file)
    }

    fn ask(&self, inquiry: &Inquiry) -> Result<Option<(Credentials, String)>, HelperError> {
        self.programs.ask(inquiry)
    }

    fn misses(&self, program: &str, file: &Path) {
        if self.missing.set(program.to_owned()).is_ok() {
            tracing::warn!(
                program,
                file = %file.display(),
                "the credential helper that the file names is not installed: going on without it"
            );
        }
    }
}

/// Reads a file of credentials; `None` where there is none.
pub(super) fn read(location: &Location) -> Result<Option<AuthFile>, CredentialError> {
    let Location { path, form, is_named } = location;
    match read_text(path) {
        Ok(text) => AuthFile::parse(path, &text, *form).map(Some),
        Err(error) if is_absent(&error) && *is_named => Err(CredentialError::Missing { path: path.clone() }),
        Err(error) if is_absent(&error) || (!is_named && is_in_closed_folder(path, &error)) => Ok(None),
        Err(source) => Err(CredentialError::Unreadable { path: path.clone(), source }),
    }
}

/// The text of a file, which is not read beyond what such a file may have.
pub(super) fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_CAP + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_CAP {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether the user may not even enter the folder, as `/run/containers` is closed once root has logged in somewhere: what is
/// in there is not his.
fn is_in_closed_folder(path: &Path, error: &io::Error) -> bool {
    let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    is_denied(error) && std::fs::symlink_metadata(path).is_err_and(|error| is_denied(&error))
}
