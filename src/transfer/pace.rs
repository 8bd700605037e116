//! How many connections are worth having. Pure.
//!
//! Ten connections are for registries that are far away, or give each connection little. Where a registry is near and a few
//! connections bring all that this machine or the link can take, more of them only take turns, and each request costs both
//! sides more than it brings. So a transfer from near begins with a few, and has all from when those are seen to be slow.

use std::time::{Duration, Instant};

/// So many connections take all that a near registry, or a core or two, can give.
const FEW: usize = 4;

/// An answer within this came from near.
const NEAR: Duration = Duration::from_millis(10);

/// How long the few are watched at a time.
const LOOK: Duration = Duration::from_millis(50);

/// Where one of the few brings less than this in a second, more would bring more.
const FAST: u64 = 64 << 20;

/// How many connections may work at a time.
#[derive(Debug)]
pub(super) struct Pace {
    /// All that there may be.
    most: usize,
    /// The bytes and the time that a look began with, as long as there are few.
    few: Option<Look>,
}

#[derive(Debug, Default)]
struct Look {
    began: Option<Instant>,
    bytes: u64,
}

impl Pace {
    /// Up to `most` connections to a registry whose fastest answer so far took this long.
    pub(super) fn new(most: usize, fastest_answer: Option<Duration>) -> Self {
        let is_near = fastest_answer.is_some_and(|answer| answer <= NEAR);
        Self { most, few: (is_near && most > FEW).then(Look::default) }
    }

    /// How many may work.
    pub(super) fn connections(&self) -> usize {
        if self.few.is_some() { FEW } else { self.most }
    }

    /// Whether one more may work beside those that do.
    pub(super) fn has_room(&self, working: usize) -> bool {
        self.few.is_none() || working < FEW
    }

    /// Whether each of the connections was seen to be so fast that there are few.
    pub(super) fn is_fast(&self) -> bool {
        self.few.as_ref().is_some_and(|look| look.bytes > 0)
    }

    /// Looks at how far all bytes together have come by now.
    pub(super) fn look(&mut self, bytes: u64, now: Instant) {
        let Some(look) = &mut self.few else { return };
        let Some(began) = look.began else {
            *look = Look { began: Some(now), bytes };
            return;
        };
        let elapsed = now.saturating_duration_since(began);
        if elapsed < LOOK {
            return;
        }
        let wanted = u128::from(FAST) * FEW as u128 * elapsed.as_micros() / 1_000_000;
        if u128::from(bytes - look.bytes) < wanted {
            self.few = None;
        } else {
            *look = Look { began: Some(now), bytes };
        }
    }

    /// When there is to be another look, if any.
    pub(super) fn next_look(&self) -> Option<Instant> {
        Some(self.few.as_ref()?.began? + LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What is far away, or not known to be near, has all connections at once; where there are few anyway, there is nothing
    /// to find out.
    #[test]
    fn only_what_is_near_begins_with_a_few() {
        let cases = [
            (10, None, 10),
            (10, Some(Duration::from_millis(20)), 10),
            (10, Some(Duration::from_millis(1)), 4),
            (4, Some(Duration::from_millis(1)), 4),
            (1, Some(Duration::from_millis(1)), 1),
        ];
        for (most, answer, wanted) in cases {
            let pace = Pace::new(most, answer);
            assert_eq!(pace.connections(), wanted, "{most} {answer:?}");
            assert_eq!(pace.few.is_some(), most > wanted);
        }
    }

    /// A few stay few as long as they are fast. Once they are slow, or silent, there are all, and it stays so.
    #[test]
    fn a_few_that_are_slow_get_company() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        for (second, stays) in [(13 * MIB, true), (12 * MIB, false), (0, false)] {
            let mut pace = Pace::new(10, Some(Duration::from_millis(1)));
            pace.look(0, at(0));
            assert!(!pace.is_fast());
            assert_eq!(pace.next_look(), Some(at(50)));
            pace.look(0, at(49));
            assert_eq!(pace.connections(), 4);
            pace.look(14 * MIB, at(50));
            assert!(pace.is_fast());
            pace.look(14 * MIB + second, at(100));
            assert_eq!(pace.connections(), if stays { 4 } else { 10 }, "{second}");
            assert_eq!((pace.is_fast(), pace.next_look().is_some()), (stays, stays));
            pace.look(1000 * MIB, at(150));
            assert_eq!(pace.connections(), if stays { 4 } else { 10 }, "{second}");
        }
    }
}
