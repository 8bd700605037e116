//! Where credentials are looked for, and in which order. Pure: the environment, the files' texts and the helpers' answers
//! come from the caller.
//!
//! The first hit wins: the file that was named (`--authfile`, `REGISTRY_AUTH_FILE`) and then no other; else
//! `$XDG_RUNTIME_DIR/containers/auth.json`, or `/run/containers/UID/auth.json` where that is unset;
//! `$XDG_CONFIG_HOME/containers/auth.json`; `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`; `~/.dockercfg`. Where
//! `credential-helpers` of registries.conf names helpers, they are asked in its order, the files standing where
//! `containers-auth.json` stands; as for podman, a helper or a file that fails there matters only when nobody else
//! knows the registry. A `credsStore` whose program is not installed counts as empty, as for docker. What is in a file is
//! `file`'s.

use std::path::{Path, PathBuf};

use super::credential::{CredentialError, CredentialOrigin, Credentials, FoundCredentials};
use super::file::{AuthFile, Candidate, FileForm, servers};
use super::helper::{HelperError, Inquiry, program_name};
use crate::reference::Repository;

/// The name that stands for the files in `credential-helpers` of registries.conf.
pub const AUTH_FILES: &str = "containers-auth.json";

/// What of the environment decides where the files are. Empty values count as unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// The file that was named: `--authfile`, else `REGISTRY_AUTH_FILE`.
    pub named: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_folder: Option<PathBuf>,
    /// The user's number, on systems that have `/run/containers`.
    pub user_id: Option<u32>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `DOCKER_CONFIG`.
    pub docker_config: Option<PathBuf>,
    /// The home.
    pub home: Option<PathBuf>,
}

/// A file that may hold credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub path: PathBuf,
    /// How it is laid out.
    pub form: FileForm,
    /// Whether somebody named it, so that it must be there.
    pub is_named: bool,
}

impl Environment {
    /// The files that are looked into, in order.
    ///
    /// ```
    /// use ocipull::registry::auth::Environment;
    ///
    /// let environment = Environment { user_id: Some(1000), ..Environment::default() };
    /// assert_eq!(environment.locations()[0].path.to_str(), Some("/run/containers/1000/auth.json"));
    /// ```
    pub fn locations(&self) -> Vec<Location> {
        let location = |path, form, is_named| Location { path, form, is_named };
        if let Some(path) = filled(self.named.as_ref()) {
            return vec![location(path.to_owned(), FileForm::Auths, true)];
        }
        let in_home = |name: &str| filled(self.home.as_ref()).map(|home| home.join(name));
        let runtime = match (filled(self.runtime_folder.as_ref()), self.user_id) {
            (Some(folder), _) => Some(folder.join("containers/auth.json")),
            (None, user_id) => user_id.map(|id| format!("/run/containers/{id}/auth.json").into()),
        };
        let config_home =
            filled(self.config_home.as_ref()).map(Path::to_owned).or_else(|| in_home(".config"));
        let docker = filled(self.docker_config.as_ref()).map(Path::to_owned).or_else(|| in_home(".docker"));
        let files = [
            (runtime, FileForm::Auths),
            (config_home.map(|folder| folder.join("containers/auth.json")), FileForm::Auths),
            (docker.map(|folder| folder.join("config.json")), FileForm::Auths),
            (in_home(".dockercfg"), FileForm::Legacy),
        ];
        files.into_iter().filter_map(|(path, form)| Some(location(path?, form, false))).collect()
    }
}

/// A path, unless it is empty, as a variable that is set to nothing is unset.
pub(super) fn filled(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

/// What the search gets from outside.
pub trait Surroundings {
    /// The file's content, read; `None` where it does not exist.
    ///
    /// # Errors
    /// [`CredentialError::Missing`] for a named one that does not exist, [`CredentialError::Unreadable`] and
    /// [`CredentialError::Malformed`] for one that does.
    fn file(&self, location: &Location) -> Result<Option<AuthFile>, CredentialError>;

    /// What a helper answers: the credentials, and the server address that it knew.
    ///
    /// # Errors
    /// Any [`HelperError`].
    fn ask(&self, inquiry: &Inquiry) -> Result<Option<(Credentials, String)>, HelperError>;

    /// The store that the file names is not installed, and counts as empty.
    fn misses(&self, program: &str, file: &Path);
}

/// Looks for a repository's credentials. `helpers` is the list `credential-helpers` of registries.conf; an empty one
/// stands for the files alone.
///
/// # Errors
/// What stands in the way: see [`CredentialError`]. With several helpers, the first failure, and only when nobody knows the
/// registry.
pub fn resolve(
    environment: &Environment,
    helpers: &[String],
    repository: &Repository,
    surroundings: &dyn Surroundings,
) -> Result<Option<FoundCredentials>, CredentialError> {
    let only_files = helpers.is_empty() || filled(environment.named.as_ref()).is_some();
    if only_files {
        return in_files(environment, repository, surroundings);
    }
    let mut failure = None;
    for name in helpers {
        let found = if name == AUTH_FILES {
            in_files(environment, repository, surroundings)
        } else {
            let servers = servers(repository.host(), Some("docker.io"));
            ask(&Inquiry { helper: name.clone(), servers, file: None, is_store: false }, surroundings)
        };
        match found {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => {
                tracing::debug!(host = repository.host(), helper = name, %error, "no credentials from here");
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(None), Err)
}

fn in_files(
    environment: &Environment,
    repository: &Repository,
    surroundings: &dyn Surroundings,
) -> Result<Option<FoundCredentials>, CredentialError> {
    for location in environment.locations() {
        let Some(file) = surroundings.file(&location)? else { continue };
        for candidate in file.candidates(repository.host(), repository.path()) {
            let found = match candidate {
                Candidate::Found(found) => Some(found),
                Candidate::Ask(inquiry) => match ask(&inquiry, surroundings) {
                    // As for docker: a store that another machine has (a desktop's, in a settings file that is shared)
                    // would otherwise stand between this one and every public image.
                    Err(CredentialError::Helper {
                        source: HelperError::NotInstalled { program }, ..
                    }) if inquiry.is_store => {
                        surroundings.misses(&program, &location.path);
                        None
                    }
                    asked => asked?,
                },
                Candidate::Broken(entry) => return Err(entry.into()),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

fn ask(
    inquiry: &Inquiry,
    surroundings: &dyn Surroundings,
) -> Result<Option<FoundCredentials>, CredentialError> {
    let file = || inquiry.file.clone();
    let found =
        surroundings.ask(inquiry).map_err(|source| CredentialError::Helper { file: file(), source })?;
    Ok(found.map(|(credentials, server)| {
        let program = program_name(&inquiry.helper);
        let origin = CredentialOrigin::Helper { program, server, file: file() };
        FoundCredentials { credentials, origin }
    }))
}

#[cfg(test)]
mod tests;
