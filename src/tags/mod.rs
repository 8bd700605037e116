//! Tags among tags: which of a repository's tags are meant, and in which order people read them. Pure.
//!
//! A [`Filter`] is what `--match` and `--semver` say together. The order is natural: numbers inside of tags count as
//! numbers, so that `1.9` comes before `1.10`; it is total, so that a list is the same whatever the registry's order.
//! Where tags come from is the registry client's.

mod error;
mod pattern;
mod range;

use std::fmt;

use crate::reference::Tag;

pub use self::error::TagsError;
pub use self::pattern::Pattern;
pub use self::range::VersionRange;

/// Which tags are meant: those that all of its parts let through. The default lets every tag through.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// What a tag has to contain.
    pub pattern: Option<Pattern>,
    /// Where a tag has to lie, read as a version.
    pub versions: Option<VersionRange>,
}

impl Filter {
    /// Whether a tag is meant.
    pub fn takes(&self, tag: &Tag) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_in(tag))
            && self.versions.as_ref().is_none_or(|versions| versions.contains(tag))
    }

    /// The tags that are meant, each once, in natural order.
    pub fn select(&self, mut tags: Vec<Tag>) -> Vec<Tag> {
        tags.retain(|tag| self.takes(tag));
        sort(&mut tags);
        tags.dedup();
        tags
    }

    /// The tags that are meant where images are: [`Filter::select`], without tags that are made of a digest, under which
    /// lists of referrers and signatures stand. A pattern that matches one takes it all the same.
    pub fn select_images(&self, tags: Vec<Tag>) -> Images {
        let mut tags = self.select(tags);
        let before = tags.len();
        tags.retain(|tag| self.pattern.is_some() || !tag.is_of_digest());
        Images { left_out: before - tags.len(), tags }
    }

    /// Whether every tag is meant.
    pub fn is_everything(&self) -> bool {
        self.pattern.is_none() && self.versions.is_none()
    }
}

/// The tags of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Those that are meant, as [`Filter::select`] has them.
    pub tags: Vec<Tag>,
    /// How many were meant and are no images'.
    pub left_out: usize,
}

/// The filter as the options that say it.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = self.pattern.as_ref().map(|pattern| format!("--match '{pattern}'"));
        let versions = self.versions.as_ref().map(|versions| format!("--semver '{versions}'"));
        f.write_str(&pattern.into_iter().chain(versions).collect::<Vec<_>>().join(" "))
    }
}

/// Puts tags into natural order: digits by their value, however many there are, all else by its bytes. Of two tags
/// with the same numbers the one with fewer leading zeros comes first.
pub fn sort(tags: &mut [Tag]) {
    alphanumeric_sort::sort_slice_by_str_key(tags, Tag::as_str);
}

#[cfg(test)]
mod tests;
