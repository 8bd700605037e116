//! Which bytes of a blob are there: a sorted set of disjoint, non-empty byte ranges. Pure.

use std::ops::Range;

/// A set of bytes, kept as sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intervals(Vec<Range<u64>>);

impl Intervals {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes `0..end`.
    pub fn prefix(end: u64) -> Self {
        let mut intervals = Self::new();
        intervals.insert(0..end);
        intervals
    }

    /// Adds a range.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|held| held.end < range.start);
        let last = self.0.partition_point(|held| held.start <= range.end);
        let merged = match self.0.get(first) {
            Some(held) if first < last => held.start.min(range.start)..self.0[last - 1].end.max(range.end),
            _ => range,
        };
        self.0.splice(first..last, [merged]);
    }

    /// Drops everything from `end` on.
    pub fn truncate(&mut self, end: u64) {
        self.0.retain_mut(|held| {
            held.end = held.end.min(end);
            held.start < held.end
        });
    }

    /// The end of the contiguous prefix: the frontier that a verifier may follow.
    pub fn frontier(&self) -> u64 {
        self.0.first().filter(|first| first.start == 0).map_or(0, |first| first.end)
    }

    /// How many bytes are there.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|held| held.end - held.start).sum()
    }

    /// Whether no byte is there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// The first range within `within` that is missing, if one is.
    pub fn first_gap(&self, within: Range<u64>) -> Option<Range<u64>> {
        let mut start = within.start;
        let from = self.0.partition_point(|held| held.end <= start);
        for held in &self.0[from..] {
            if held.start > start {
                break;
            }
            start = held.end;
        }
        let next = self.0.partition_point(|held| held.start <= start);
        let end = self.0.get(next).map_or(within.end, |held| held.start.min(within.end));
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The set says of every byte what a plain array of flags says, however the ranges arrive.
        #[test]
        fn agrees_with_an_array_of_flags(
            ranges in proptest::collection::vec((0u64..64, 0u64..16), 0..20),
            end in 0u64..80,
            within in (0u64..80, 0u64..80),
        ) {
            let mut flags = [false; 80];
            let mut set = Intervals::new();
            for (start, length) in ranges {
                set.insert(start..start + length);
                flags[usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap()].fill(true);
            }
            set.truncate(end);
            flags[usize::try_from(end).unwrap()..].fill(false);
            let listed: Vec<bool> = (0..80).map(|at| set.iter().any(|held| held.contains(&at))).collect();
            prop_assert_eq!(&listed[..], &flags[..]);
            prop_assert_eq!(set.len(), flags.iter().filter(|flag| **flag).count() as u64);
            prop_assert_eq!(set.is_empty(), !flags.contains(&true));
            let frontier = flags.iter().position(|flag| !flag).unwrap_or(80) as u64;
            prop_assert_eq!(set.frontier(), frontier);
            prop_assert!(set.0.windows(2).all(|pair| pair[0].end < pair[1].start));
            let missing = (within.0..within.1).find(|at| !flags[usize::try_from(*at).unwrap()]);
            let gap = set.first_gap(within.0..within.1);
            prop_assert_eq!(gap.as_ref().map(|gap| gap.start), missing);
            if let Some(gap) = gap {
                prop_assert!(gap.clone().all(|at| !flags[usize::try_from(at).unwrap()]));
                let stops = gap.end == within.1 || flags[usize::try_from(gap.end).unwrap()];
                prop_assert!(stops);
            }
        }
    }
}
