//! How much memory the windows of all live zstd decoders may take together.
//!
//! A zstd frame says in its header how far back its matches reach, and a decoder must keep that much. Most layers ask
//! for 8 MiB or less; some for 128 MiB. So that a fetch of many layers keeps to a few MiB all the same, decoders ask a
//! budget that they share. It grants windows as long as their sum is within its limit, and a larger one to a decoder
//! that is alone, so that every layer is served at some time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A budget for zstd windows. Clones share it.
#[derive(Debug, Clone)]
pub struct WindowBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: u64,
    granted: Mutex<u64>,
    released: Condvar,
}

impl WindowBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Shared { limit, granted: Mutex::new(0), released: Condvar::new() }))
    }

    /// A budget that grants everything.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Whether a window of `bytes` would be granted now.
    pub fn is_free(&self, bytes: u64) -> bool {
        self.0.fits(*self.0.granted(), bytes)
    }

    /// Blocks until a window of `bytes` would be granted, or until `timeout` has passed; says which. Another decoder
    /// may be quicker to take it. A thread must not wait while a verifier that only it drives holds a window.
    #[must_use]
    pub fn wait(&self, bytes: u64, timeout: Duration) -> bool {
        let granted = self.0.granted();
        let outcome =
            self.0.released.wait_timeout_while(granted, timeout, |granted| !self.0.fits(*granted, bytes));
        let (_guard, outcome) = outcome.unwrap_or_else(PoisonError::into_inner);
        !outcome.timed_out()
    }

    /// A permit for a window of `bytes`, if it fits now.
    pub(super) fn acquire(&self, bytes: u64) -> Option<Permit> {
        let mut granted = self.0.granted();
        if !self.0.fits(*granted, bytes) {
            return None;
        }
        *granted = granted.saturating_add(bytes);
        drop(granted);
        Some(Permit { shared: Arc::clone(&self.0), bytes })
    }
}

impl Shared {
    fn granted(&self) -> MutexGuard<'_, u64> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, granted: u64, bytes: u64) -> bool {
        granted == 0 || granted.saturating_add(bytes) <= self.limit
    }
}

/// The right to keep a window, given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Permit {
    /// The window's size.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut granted = self.shared.granted();
        *granted = granted.saturating_sub(self.bytes);
        drop(granted);
        self.shared.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows are granted up to the limit, and a larger one to a decoder that is alone.
    #[test]
    fn sum_is_bounded_and_one_large_window_stands_alone() {
        let budget = WindowBudget::new(16);
        let first = budget.acquire(8).unwrap();
        let second = budget.acquire(8).unwrap();
        assert!(budget.acquire(1).is_none());
        drop(first);
        assert!(budget.acquire(128).is_none(), "a large one waits until it is alone");
        assert!(budget.is_free(8) && !budget.is_free(9));
        drop(second);
        let large = budget.acquire(128).unwrap();
        assert_eq!(large.bytes(), 128);
        assert!(budget.acquire(1).is_none(), "nothing goes beside a large one");
        drop(large);
        assert!(budget.is_free(128));
    }

    /// Whoever waits is woken by a release; waiting for what does not come ends.
    #[test]
    fn waiting_ends_with_a_release_or_the_timeout() {
        let budget = WindowBudget::new(16);
        let permit = budget.acquire(16).unwrap();
        assert!(!budget.wait(1, Duration::ZERO));
        let waiter = std::thread::spawn({
            let budget = budget.clone();
            move || budget.wait(1, Duration::from_mins(1))
        });
        drop(permit);
        assert!(waiter.join().unwrap());
    }

    /// Nothing is refused without a limit, whatever sizes are claimed.
    #[test]
    fn unlimited_grants_everything() {
        let budget = WindowBudget::unlimited();
        let permits: Vec<_> = (0..3).map(|_| budget.acquire(u64::MAX / 2).unwrap()).collect();
        assert_eq!(permits.len(), 3);
    }
}
