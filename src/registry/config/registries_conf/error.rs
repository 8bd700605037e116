//! Why registries.conf cannot be used.

use std::io;
use std::path::PathBuf;

use crate::failure::{Failure, Kind};
use crate::reference::ReferenceError;
use crate::registry::config::shown;
use crate::text::printable;

/// Why registries.conf cannot be used, or not for a reference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistriesConfError {
    /// A file or folder is there and cannot be read, or was named and is not there.
    #[error("cannot read {}", shown(path))]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not TOML, or something stands where something else must.
    #[error("{} cannot be used: line {line}, column {column}: {reason}", shown(path))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A file has the tables of version 1.
    #[error(
        "{} is in version 1 of its format ([registries.search] and its like), and version 2 is read",
        shown(path)
    )]
    Version1 {
        /// The file.
        path: PathBuf,
    },
    /// What a file says makes no sense.
    #[error("{} cannot be used: {reason}", shown(path))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A reference is none any more with an entry's location in its beginning.
    #[error(
        "{} cannot be used for {reference}: its location \"{location}\" makes \"{rewritten}\" of it",
        shown(path)
    )]
    Rewritten {
        /// The file with the entry.
        path: PathBuf,
        /// The reference that was asked for.
        reference: String,
        /// The location.
        location: String,
        /// What came out.
        rewritten: String,
        /// What is wrong with it, where it is not just that no host stands there.
        source: Option<ReferenceError>,
    },
    /// A host for short names cannot be one with this name.
    #[error("the short name {name} cannot be looked for at \"{host}\", which {} names", shown(path))]
    SearchHost {
        /// The file with the list.
        path: PathBuf,
        /// The name as it was written.
        name: String,
        /// The entry of the list.
        host: String,
    },
    /// `short-name-mode` is `enforcing`, and the short name may stand for several images.
    #[error("the short name {name} may stand for {}, and short-name-mode is \"enforcing\"", candidates.join(" or "))]
    Ambiguous {
        /// The name as it was written.
        name: String,
        /// What it may stand for, in order.
        candidates: Vec<String>,
    },
    /// A location for a run is none.
    #[error("\"{}\" is not a mirror: a host with or without a path is meant", printable(text))]
    NotAMirror {
        /// What was given.
        text: String,
    },
}

impl Failure for RegistriesConfError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Version1 { .. } => Some(
                "write unqualified-search-registries and [[registry]] tables, see containers-registries.conf(5)"
                    .to_owned(),
            ),
            Self::Ambiguous { candidates, .. } => {
                Some(format!("write the one that is meant, such as {}", candidates.first()?))
            }
            Self::SearchHost { .. } => Some("write the image's name with its host".to_owned()),
            _ => None,
        }
    }
}
