//! How far indexes are followed, by one rule for everything that follows them: a chain of indexes has at most
//! [`DEEPEST`] of them, the outermost counted, and all indexes below one name have at most [`MOST_ENTRIES`] entries
//! together, an index that is listed more than once counted once.
//!
//! The image spec permits any nesting ("Image Index"); these limits are far above what anybody publishes and keep a
//! hostile index from being work without end.

use std::collections::HashMap;

use crate::digest::Digest;

/// How many indexes may be nested in each other, the outermost counted.
pub const DEEPEST: usize = 8;

/// How many entries all indexes below one name may have together.
pub const MOST_ENTRIES: usize = 10_000;

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NestingLimit {
    /// A chain of indexes is too long.
    #[error("indexes are nested more than {DEEPEST} deep")]
    Depth,
    /// There are too many entries.
    #[error("the indexes have more than {MOST_ENTRIES} entries together")]
    Entries,
}

/// What is known of an index that is about to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It was not met before.
    First,
    /// It was, but not as deep as this: indexes below it are deeper, too.
    Deeper,
    /// It was, at least as deep as this: nothing below it is new.
    Known,
}

/// The indexes below one name that were followed so far.
#[derive(Debug, Default)]
pub struct Nesting {
    depths: HashMap<Digest, usize>,
    entries: usize,
}

impl Nesting {
    /// Counts an index before it is followed. `depth` is its place in the chain, 1 for the outermost; `entries` is how many
    /// it has.
    ///
    /// # Errors
    /// The [`NestingLimit`] that following it would pass.
    pub fn enter(&mut self, index: Digest, depth: usize, entries: usize) -> Result<Entered, NestingLimit> {
        if depth > DEEPEST {
            return Err(NestingLimit::Depth);
        }
        let Some(known) = self.depths.get_mut(&index) else {
            self.entries = self.entries.saturating_add(entries);
            if self.entries > MOST_ENTRIES {
                return Err(NestingLimit::Entries);
            }
            self.depths.insert(index, depth);
            return Ok(Entered::First);
        };
        if depth <= *known {
            return Ok(Entered::Known);
        }
        *known = depth;
        Ok(Entered::Deeper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries count once for each index, chains count by their longest: whoever counts otherwise refuses what others take.
    #[test]
    fn each_index_counts_once_and_chains_by_their_longest() {
        let [a, b, c] = ["a", "b", "c"].map(|content| Digest::sha256(content.as_bytes()));
        let mut nesting = Nesting::default();
        let steps = [
            (a, 1, 1, Ok(Entered::First)),
            (b, 2, MOST_ENTRIES - 1, Ok(Entered::First)),
            (b, 2, MOST_ENTRIES - 1, Ok(Entered::Known)),
            (b, 3, MOST_ENTRIES - 1, Ok(Entered::Deeper)),
            (b, 2, MOST_ENTRIES - 1, Ok(Entered::Known)),
            (b, DEEPEST, MOST_ENTRIES - 1, Ok(Entered::Deeper)),
            (b, DEEPEST + 1, MOST_ENTRIES - 1, Err(NestingLimit::Depth)),
            (c, 2, 0, Ok(Entered::First)),
            (Digest::sha256(b"d"), 2, 1, Err(NestingLimit::Entries)),
        ];
        for (at, (index, depth, entries, wanted)) in steps.into_iter().enumerate() {
            assert_eq!(nesting.enter(index, depth, entries), wanted, "step {at}");
        }
    }
}
