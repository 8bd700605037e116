//! What proves who asks, and where it comes from: [`Credentials`] and the [`CredentialSource`] seam.
//!
//! Credentials have no `Display`, and their `Debug` prints `[redacted]`. A source is asked once for a repository, on a
//! blocking thread, before the first request to it. Which files a source reads is its own matter
//! (`docker_config`); where credentials may be sent is `auth`'s.

use std::fmt;
use std::path::PathBuf;

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

/// Says which credentials a repository's registry is given.
pub trait CredentialSource: Send + Sync {
    /// The credentials for `repository`; `None` means anonymous. May block.
    ///
    /// # Errors
    /// A [`CredentialError`], when there are credentials for it that cannot be read. It ends the request.
    fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>, CredentialError>;
}

/// Nobody: every request is anonymous.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn credentials(&self, _repository: &Repository) -> Result<Option<Credentials>, CredentialError> {
        Ok(None)
    }
}

/// Credentials that were given for one registry. Every other registry gets none.
#[derive(Debug, Clone)]
pub struct Given {
    host: String,
    credentials: Credentials,
}

impl Given {
    /// Credentials for the registry `host`, written as [`Repository::host`] has it.
    pub fn new(host: impl Into<String>, credentials: Credentials) -> Self {
        Self { host: host.into(), credentials }
    }
}

impl CredentialSource for Given {
    fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>, CredentialError> {
        let same = repository.host().eq_ignore_ascii_case(&self.host);
        Ok(same.then(|| self.credentials.clone()))
    }
}

/// Why credentials that are there cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file is there and cannot be read.
    #[error("cannot read the credentials in {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not the JSON that it should be.
    #[error("{} is not a Docker configuration file", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
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
    /// A source outside of this crate failed.
    #[error("the credentials cannot be had")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Failure for CredentialError {
    fn kind(&self) -> Kind {
        Kind::Auth
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Entry { .. } => Some("log in again, or pass --creds".to_owned()),
            _ => None,
        }
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
}
