//! Why a repair ended, and why a blob could not be had.

use std::path::PathBuf;

use crate::check::CheckError;
use crate::failure::{Failure, Kind};
use crate::fetch::FetchError;
use crate::layout::LayoutError;
use crate::registry::RegistryError;
use crate::transfer::TransferError;

/// Why a repair came to no end. What was repaired until then stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The layout could not be checked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The layout could not be read or written to.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The machine said no while something was being brought.
    #[error(transparent)]
    Machine(Box<SourceError>),
    /// A thread of the repair died.
    #[error("the repair stopped before its end")]
    Stopped,
}

impl Failure for RepairError {
    fn kind(&self) -> Kind {
        match self {
            Self::Check(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::Machine(error) => error.kind(),
            Self::Stopped => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Check(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::Machine(error) => error.hint(),
            Self::Stopped => None,
        }
    }
}

/// Why one blob could not be brought from where it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A manifest could not be had.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A blob could not be downloaded or proven.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// What is made here could not be made again.
    #[error(transparent)]
    Remake(Box<FetchError>),
    /// It could not be put into the layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Another one than the wanted was made.
    #[error("what is made of {source_digest} again is something else")]
    OtherMade {
        /// What it was made of.
        source_digest: String,
    },
    /// A folder stands where the blob belongs; a file cannot take its place.
    #[error("a folder stands in its place, {}", path.display())]
    Blocked {
        /// The folder.
        path: PathBuf,
    },
    /// The registry failed so often that it is not asked any more.
    #[error("{host} is not asked any more, as it failed for others")]
    GivenUp {
        /// The registry's host.
        host: String,
    },
    /// A thread died.
    #[error("a thread of the repair died")]
    Stopped,
}

impl From<FetchError> for SourceError {
    fn from(error: FetchError) -> Self {
        Self::Remake(Box::new(error))
    }
}

impl SourceError {
    /// Whether it is this machine's fault, so that no other blob would fare better: a full disk, a lock that cannot be had.
    pub(super) fn is_the_machines(&self) -> bool {
        match self {
            Self::Layout(error) | Self::Transfer(TransferError::Layout(error)) => is_the_machines(error),
            Self::Remake(error) => match &**error {
                FetchError::Layout(error) | FetchError::Transfer(TransferError::Layout(error)) => {
                    is_the_machines(error)
                }
                FetchError::FullDisk { .. } | FetchError::Worker => true,
                _ => false,
            },
            Self::Transfer(TransferError::Threads(_) | TransferError::Stopped) | Self::Stopped => true,
            _ => false,
        }
    }
}

fn is_the_machines(error: &LayoutError) -> bool {
    !matches!(error.kind(), Kind::Integrity)
}

impl Failure for SourceError {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Transfer(error) => error.kind(),
            Self::Remake(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::OtherMade { .. } | Self::Blocked { .. } => Kind::Integrity,
            Self::GivenUp { .. } => Kind::Network,
            Self::Stopped => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::Remake(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::Blocked { .. } => Some("remove the folder and run the same command again".to_owned()),
            Self::OtherMade { .. } => Some("fetch the image again".to_owned()),
            Self::GivenUp { .. } | Self::Stopped => None,
        }
    }
}
