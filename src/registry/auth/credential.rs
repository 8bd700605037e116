//! What proves who asks, and where it comes from: [`Credentials`], their [`CredentialOrigin`] and the
//! [`CredentialSource`] seam.
//!
//! Credentials have no `Display`, and their `Debug` prints `[redacted]`. A source is asked once for a repository, on a
//! blocking thread, before the first request to it. Which files and helpers a source asks is its own matter
//! (`resolution`, `configured`); where credentials may be sent is `auth`'s.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::helper::HelperError;
use crate::failure::{Failure, Kind};
use crate::reference::Repository;
use crate::text::printable;

/// What a registry may be given.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A user and a password (or an access token that is used as one).
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that the registry's token service exchanges for access tokens (OAuth 2.0 refresh token).
    IdentityToken {
        /// The user, where one is known.
        username: Option<String>,
        /// The token.
        token: String,
    },
    /// A bearer token that goes to the registry as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Basic { .. } => "Basic",
            Self::IdentityToken { .. } => "IdentityToken",
            Self::RegistryToken(_) => "RegistryToken",
        };
        write!(f, "{name}([redacted])")
    }
}

/// Where credentials came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialOrigin {
    /// The caller: an option of the command line, or what a library user put in.
    Given,
    /// A file.
    File {
        /// The file.
        path: PathBuf,
        /// The entry's key in it.
        key: String,
    },
    /// A credential helper.
    Helper {
        /// The program's name, `docker-credential-NAME`.
        program: String,
        /// The server address that it knew.
        server: String,
        /// The file that names the helper; without one it is the configuration's list of helpers.
        file: Option<PathBuf>,
    },
}

impl fmt::Display for CredentialOrigin {
    /// In words that follow "the credentials from": never a secret, and nothing that drives a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("the command line or the caller"),
            Self::File { path, key } => {
                write!(f, "{} (entry \"{}\")", printable(&path.to_string_lossy()), printable(key))
            }
            Self::Helper { program, server, file } => {
                write!(f, "{} (server \"{}\"", printable(program), printable(server))?;
                match file {
                    Some(file) => write!(f, ", named by {})", printable(&file.to_string_lossy())),
                    None => f.write_str(")"),
                }
            }
        }
    }
}

/// As whom a registry was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The registry, as its references name it.
    pub host: String,
    /// Where the credentials came from; without one the request was anonymous.
    pub origin: Option<CredentialOrigin>,
    /// The program of the helper that would have been asked for credentials, and is not installed.
    pub missing_helper: Option<String>,
}

impl Identity {
    /// What to do when the registry refuses, which a registry does for what does not exist too.
    pub(crate) fn hint(&self) -> String {
        let host = printable(&self.host);
        match (&self.origin, &self.missing_helper) {
            (None, Some(program)) => format!(
                "{program}, which is configured to keep the credentials, is not in any folder of PATH: install it, run \
                 `ocipull login --authfile FILE {host}` and fetch with the same --authfile, or pass --creds USER:PASSWORD"
            ),
            (None, None) => format!(
                "the repository does not exist, or needs a login, and no credentials for {host} were found: \
                 run `ocipull login {host}`, or pass --creds USER:PASSWORD"
            ),
            (Some(CredentialOrigin::Given), _) => format!(
                "the credentials that were given are refused, or the repository does not exist: check --creds, \
                 or run `ocipull login {host}` and leave it out"
            ),
            (Some(origin), _) => format!(
                "the credentials from {origin} are refused, or the repository does not exist: run \
                 `ocipull login {host}`, or pass --creds USER:PASSWORD"
            ),
        }
    }
}

/// Credentials, and where they came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCredentials {
    /// The credentials.
    pub credentials: Credentials,
    /// Where they came from.
    pub origin: CredentialOrigin,
}

/// Says which credentials a repository's registry is given.
pub trait CredentialSource: Send + Sync {
    /// The credentials for `repository`; `None` means anonymous. May block.
    ///
    /// # Errors
    /// A [`CredentialError`], when there are credentials for it that cannot be read. It ends the request.
    fn credentials(&self, repository: &Repository) -> Result<Option<FoundCredentials>, CredentialError>;

    /// The program of a configured helper that is not installed, so that it was passed over.
    fn missing_helper(&self) -> Option<String> {
        None
    }
}

/// Nobody: every request is anonymous.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn credentials(&self, _repository: &Repository) -> Result<Option<FoundCredentials>, CredentialError> {
        Ok(None)
    }
}

/// Credentials that were given for one registry. Every other registry, a mirror among them, gets what another source has
/// for it.
#[derive(Clone)]
pub struct Given {
    host: String,
    credentials: Credentials,
    others: Arc<dyn CredentialSource>,
}

impl Given {
    /// Credentials for the registry `host`, written as [`Repository::host`] has it. Other registries get none.
    pub fn new(host: impl Into<String>, credentials: Credentials) -> Self {
        Self { host: host.into(), credentials, others: Arc::new(Anonymous) }
    }

    /// The same, with a source for every other registry.
    #[must_use]
    pub fn with_others(self, others: Arc<dyn CredentialSource>) -> Self {
        Self { others, ..self }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("host", &self.host)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

impl CredentialSource for Given {
    fn credentials(&self, repository: &Repository) -> Result<Option<FoundCredentials>, CredentialError> {
        if !repository.host().eq_ignore_ascii_case(&self.host) {
            return self.others.credentials(repository);
        }
        let credentials = self.credentials.clone();
        Ok(Some(FoundCredentials { credentials, origin: CredentialOrigin::Given }))
    }

    fn missing_helper(&self) -> Option<String> {
        self.others.missing_helper()
    }
}

/// Why credentials that are there cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// A file that was named is not there.
    #[error("the file of credentials {} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("cannot read the credentials in {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not the JSON that it should be.
    #[error("{} is not a file of credentials: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why, without anything that stands in it.
        reason: String,
    },
    /// The entry for this registry cannot be decoded. Entries of other registries are none the worse for it.
    #[error("the entry \"{}\" in {} cannot be used: {reason}", printable(key), path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry's key.
        key: String,
        /// What is wrong, never with what stands in the entry.
        reason: &'static str,
    },
    /// A credential helper failed.
    #[error("the credential helper{} failed", named_by(file.as_ref()))]
    Helper {
        /// The file that names it; without one it is the configuration's list of helpers.
        file: Option<PathBuf>,
        /// Why.
        source: HelperError,
    },
    /// A source outside of this crate failed.
    #[error("the credentials cannot be had")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn named_by(file: Option<&PathBuf>) -> String {
    file.map(|file| format!(" that {} names", file.display())).unwrap_or_default()
}

impl Failure for CredentialError {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::Usage,
            _ => Kind::Auth,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { .. } => "name another one with --authfile, or let `ocipull login` write it",
            Self::Entry { .. } => "log in again, or pass --creds",
            Self::Helper { source: HelperError::NotInstalled { .. } | HelperError::Name { .. }, .. } => {
                "install the helper, take it out of the configuration, or pass --creds"
            }
            Self::Helper { .. } => "see what the helper needs, or pass --creds",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret does not get into a log by way of `{:?}`.
    #[test]
    fn debug_is_redacted() {
        let all = [
            Credentials::Basic { username: "hidden-user".into(), password: "hidden".into() },
            Credentials::IdentityToken { username: None, token: "hidden".into() },
            Credentials::RegistryToken("hidden".into()),
        ];
        for credentials in all {
            let shown = format!("{credentials:?} {:?}", Given::new("r.example", credentials.clone()));
            assert!(shown.contains("[redacted]") && !shown.contains("hidden"), "{shown}");
        }
    }

    /// What was given for a registry is for no other; what others get is another source's to say.
    #[test]
    fn given_credentials_are_for_one_host() {
        let basic = |user: &str| Credentials::Basic { username: user.into(), password: "p".into() };
        let given = Given::new("r.example", basic("given"));
        let asked = |given: &Given, name: &str| {
            given.credentials(&name.parse().unwrap()).unwrap().map(|found| found.credentials)
        };
        assert_eq!(asked(&given, "R.example/a"), Some(basic("given")));
        assert_eq!(asked(&given, "mirror.example/a"), None);
        let given = given.with_others(Arc::new(Given::new("mirror.example", basic("other"))));
        assert_eq!(asked(&given, "r.example/a"), Some(basic("given")));
        assert_eq!(asked(&given, "mirror.example/a"), Some(basic("other")));
    }
}
