//! What is known of what registries offer beyond pulling, so that no question is asked twice in vain.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::reference::Repository;

/// What was learnt so far. Holds for as long as the client lives.
#[derive(Debug, Default)]
pub(super) struct Offers {
    referrers: Mutex<HashMap<Repository, ReferrersApi>>,
    keeping_signatures: Mutex<HashMap<String, bool>>,
}

/// What is known of a repository's referrers API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReferrersApi {
    /// It listed something, or nothing: a refusal is about one manifest.
    Has,
    /// It is not there.
    Lacks,
}

impl Offers {
    /// What is known of the referrers API of a repository.
    pub(super) fn referrers_api(&self, repository: &Repository) -> Option<ReferrersApi> {
        locked(&self.referrers).get(repository).copied()
    }

    /// A repository's referrers API was asked. Once it answered, it is there, whatever else it refuses.
    pub(super) fn learn_referrers_api(&self, repository: &Repository, learnt: ReferrersApi) {
        let mut known = locked(&self.referrers);
        let state = known.entry(repository.clone()).or_insert(learnt);
        if learnt == ReferrersApi::Has {
            *state = learnt;
        }
    }

    /// Whether a registry keeps signatures by itself, where that is known.
    pub(super) fn keeps_signatures(&self, repository: &Repository) -> Option<bool> {
        locked(&self.keeping_signatures).get(repository.api_host()).copied()
    }

    /// The registry says whether it keeps signatures by itself.
    pub(super) fn learn_signatures(&self, repository: &Repository, keeps: bool) {
        locked(&self.keeping_signatures).insert(repository.api_host().to_owned(), keeps);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
