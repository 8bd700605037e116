//! Why a layout could not be checked, which is not the same as what is wrong with it.

use crate::failure::{Failure, Kind};
use crate::layout::LayoutError;

/// Why a check came to no verdict. Whatever is wrong with the layout's content is a finding instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// `index.json` cannot be understood, or something may not be read by this user.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// It was told to stop.
    #[error("the check was stopped before its end")]
    Cancelled,
    /// A thread of the check died, so that not everything was looked at.
    #[error("a thread of the check died")]
    ThreadDied,
}

impl Failure for CheckError {
    fn kind(&self) -> Kind {
        match self {
            Self::Layout(error) => error.kind(),
            Self::Cancelled | Self::ThreadDied => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Layout(error) => error.hint(),
            _ => None,
        }
    }
}
