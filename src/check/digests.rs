//! Digests by number: a layer that thousands of images share is claimed thousands of times, and each claim names three
//! digests, which have the room for the longest algorithm.

use indexmap::IndexSet;

use crate::digest::Digest;

/// The number of a digest.
pub(super) type Number = u32;

/// Digests, each with its number.
#[derive(Debug, Default)]
pub(super) struct Digests(IndexSet<Digest>);

impl Digests {
    /// The digest's number; it gets one if it has none.
    pub(super) fn number(&mut self, digest: Digest) -> Number {
        let (number, _) = self.0.insert_full(digest);
        Number::try_from(number)
            .expect("invariant: what names so many digests is larger than documents may be")
    }

    /// The digest's number, if it has one.
    pub(super) fn find(&self, digest: &Digest) -> Option<Number> {
        Number::try_from(self.0.get_index_of(digest)?).ok()
    }

    /// All of them, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Number, &Digest)> {
        (0..).zip(&self.0)
    }
}

impl std::ops::Index<Number> for Digests {
    type Output = Digest;

    fn index(&self, number: Number) -> &Digest {
        &self.0[usize::try_from(number).unwrap_or(usize::MAX)]
    }
}
