//! What every error of this crate can say about itself, whichever module it comes from.
//!
//! A script asks for the [`Kind`] (each has one exit code, and one name in `--json`), a person for the hint.

use serde::Serialize;

/// The kinds of failure that a caller can act on. Each is one exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// Any other failure, a full or read-only disk among them.
    Other,
    /// Wrong usage: a reference that does not parse, a name that is taken, a named file that is missing.
    Usage,
    /// The repository, tag, digest or platform does not exist.
    NotFound,
    /// Authentication or permission.
    Auth,
    /// Retries exhausted, TLS, name resolution, rate limit.
    Network,
    /// A size, a digest, a diff ID or a document that does not hold.
    Integrity,
    /// The layout on disk cannot be used.
    Layout,
}

impl Kind {
    /// The name in `--json` reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Auth => "auth",
            Self::Network => "network",
            Self::Integrity => "integrity",
            Self::Layout => "layout",
        }
    }

    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Auth => 4,
            Self::Network => 5,
            Self::Integrity => 6,
            Self::Layout => 7,
        }
    }
}

/// An error that knows its kind and, where there is something to do, a hint.
pub trait Failure: std::error::Error {
    /// What kind of failure it is.
    fn kind(&self) -> Kind;

    /// What the user may do about it: one sentence, lower case, no full stop.
    fn hint(&self) -> Option<String> {
        None
    }
}
