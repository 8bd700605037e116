//! `--match`: a regular expression that is searched for in a tag, as grep does.

use std::fmt;
use std::str::FromStr;

use regex_lite::Regex;

use super::TagsError;
use crate::reference::Tag;
use crate::text::printable;

/// A regular expression. It may match anywhere in a tag: `^` and `$` tie it to the ends.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether some part of the tag matches.
    pub fn is_in(&self, tag: &Tag) -> bool {
        self.0.is_match(tag.as_str())
    }
}

impl FromStr for Pattern {
    type Err = TagsError;

    /// Parses a regular expression of the crate [`regex_lite`], which takes linear time: without look-around and
    /// backreferences, and with classes of ASCII only, which is all that tags are made of.
    ///
    /// # Errors
    /// [`TagsError::Pattern`].
    fn from_str(text: &str) -> Result<Self, TagsError> {
        Regex::new(text).map(Self).map_err(|error| TagsError::Pattern {
            pattern: printable(text),
            reason: printable(&error.to_string()),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.0.as_str()))
    }
}
