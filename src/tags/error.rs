//! What can be wrong with a filter, in the words that its writer reads.

use crate::failure::{Failure, Kind};

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagsError {
    /// The text is not a regular expression.
    #[error("\"{pattern}\" is not a regular expression: {reason}")]
    Pattern {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The text is not a range of versions.
    #[error("\"{range}\" is not a range of versions: {reason}")]
    Range {
        /// The text.
        range: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Failure for TagsError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Pattern { .. } => None,
            Self::Range { .. } => Some(
                "a range is written as in \">=3.0, <4\", \"^1.2\", \"~1.2.3\", \"1.x\" or \"1 || 3\""
                    .to_owned(),
            ),
        }
    }
}
