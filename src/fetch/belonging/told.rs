//! What is left out is said, but not a thousand times: the first few of each kind by name, the others by number.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::progress::{Event, Reporter};

/// How many of a kind are named.
const NAMED: usize = 3;

/// Why something that a registry names is left out, or is not what it is named as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// It is of a kind that nobody can read.
    Unreadable,
    /// It is not there.
    Gone,
    /// It belongs to something else.
    Stranger,
    /// The list says something else of it than its bytes.
    Contradicted,
    /// It lists something that cannot be had.
    Incomplete,
}

impl Reason {
    /// What is said of those that are only counted, after their number.
    fn of_others(self) -> &'static str {
        match self {
            Self::Unreadable => "more are left out that nobody reads",
            Self::Gone => "more referrers are left out that the registry does not have",
            Self::Stranger => "more are listed as referrers and are none",
            Self::Contradicted => "more referrers are listed as something else than they are",
            Self::Incomplete => "more indexes are left out because of what they list",
        }
    }
}

/// What was said up to now.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<Reason, usize>);

impl Told {
    /// Says it, unless as much was said for the same reason.
    pub(super) fn tell(&mut self, reporter: &Arc<dyn Reporter>, reason: Reason, message: String) {
        let count = self.0.entry(reason).or_default();
        *count += 1;
        if *count <= NAMED {
            reporter.report(Event::Warning { message });
        }
    }

    /// Says how many were not named.
    pub(super) fn finish(self, reporter: &Arc<dyn Reporter>) {
        for (reason, count) in self.0.into_iter().filter(|(_, count)| *count > NAMED) {
            let message = format!("{} {}", count - NAMED, reason.of_others());
            reporter.report(Event::Warning { message });
        }
    }
}
