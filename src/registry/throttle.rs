//! A cap on the rate of all bodies together: every byte that comes has a place on one line of time, and whoever received
//! bytes waits until theirs has passed.
//!
//! Places are given in the order of asking, a small piece at a time, so that connections share the rate evenly. Time that
//! nobody used may be made up for, but little of it, so that the rate holds over any second and not only on average. There
//! is nothing to save up at the start.
//!
//! The crates for this keep to a clock of their own that no test can hold (governor, async-speed-limit), refuse more at once
//! than they may save up, or wake in any order.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Unused time up to this is made up for: what waiting for a timer, a disk or one late answer costs.
const MADE_UP: Duration = Duration::from_millis(250);

/// A second is shared in at least so many pieces.
const PIECES: u64 = 64;

/// The largest piece: the least that comes at once of a connection with TLS, so that none has larger turns than others.
const LARGEST_PIECE: u64 = 16 << 10;

/// A cap, or none.
#[derive(Debug, Default)]
pub(super) struct Throttle(Option<Limit>);

#[derive(Debug)]
struct Limit {
    bytes_per_second: NonZeroU64,
    /// Up to when the time is given away.
    taken: Mutex<Option<Instant>>,
}

impl Throttle {
    /// At most so many bytes a second, where that is said.
    pub(super) fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self(bytes_per_second.map(|bytes_per_second| Limit { bytes_per_second, taken: Mutex::default() }))
    }

    /// Waits until `bytes` more are within the rate.
    pub(super) async fn pay(&self, bytes: u64) {
        let Some(limit) = &self.0 else { return };
        let largest = (limit.bytes_per_second.get() / PIECES).clamp(1, LARGEST_PIECE);
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(largest);
            tokio::time::sleep_until(limit.take(piece)).await;
            left -= piece;
        }
    }
}

impl Limit {
    /// Takes the next place, and says when it ends.
    fn take(&self, bytes: u64) -> Instant {
        let cost = Duration::from_secs_f64(precise(bytes) / precise(self.bytes_per_second.get()));
        let now = Instant::now();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(MADE_UP).unwrap_or(now);
        let end = taken.map_or(now, |taken| taken.max(earliest)) + cost;
        *taken = Some(end);
        end
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is lost is less than a billionth of a rate")]
fn precise(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn at(bytes_per_second: u64) -> Arc<Throttle> {
        Arc::new(Throttle::new(NonZeroU64::new(bytes_per_second)))
    }

    /// Whatever the rate, the chunks and the number of connections: what takes some seconds takes them within 5 %, and no
    /// second has more than its share.
    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept() {
        for rate in [100, 1 << 10, 80_000, 10 << 20, 100 << 20] {
            for connections in [1, 3, 8] {
                for chunk in [1.max(rate / 1000), 16 << 10, 400 << 10] {
                    let throttle = at(rate);
                    let seconds = Arc::new([const { AtomicU64::new(0) }; 64]);
                    let each = (rate * 5).div_ceil(connections * chunk).max(1);
                    if connections * chunk > rate * 20 {
                        continue;
                    }
                    let began = Instant::now();
                    let runs = (0..connections).map(|_| {
                        let (throttle, seconds) = (Arc::clone(&throttle), Arc::clone(&seconds));
                        tokio::spawn(async move {
                            for _ in 0..each {
                                throttle.pay(chunk).await;
                                let second = usize::try_from(began.elapsed().as_secs()).unwrap();
                                seconds[second.min(63)].fetch_add(chunk, Ordering::Relaxed);
                            }
                        })
                    });
                    for run in futures_util::future::join_all(runs).await {
                        run.unwrap();
                    }
                    let expected = precise(connections * chunk * each) / precise(rate);
                    let found = began.elapsed().as_secs_f64();
                    let case = format!("{rate} B/s, {connections} connections, chunks of {chunk}");
                    assert!((found / expected - 1.0).abs() < 0.05, "{case}: {found} s, not {expected} s");
                    // A chunk counts when it is paid for, at its end.
                    let most = rate + rate / 20 + connections * chunk;
                    assert!(
                        seconds.iter().all(|bytes| bytes.load(Ordering::Relaxed) <= most),
                        "{case}: {seconds:?}"
                    );
                }
            }
        }
    }

    /// A connection whose chunks are large gets no more than one whose chunks are small.
    #[tokio::test(start_paused = true)]
    async fn connections_share_evenly() {
        let throttle = at(1 << 20);
        let done = Arc::new([const { AtomicU64::new(0) }; 4]);
        let runs =
            [16_u64 << 10, 48 << 10, 64 << 10, 400 << 10].into_iter().enumerate().map(|(number, chunk)| {
                let (throttle, done) = (Arc::clone(&throttle), Arc::clone(&done));
                tokio::spawn(async move {
                    loop {
                        throttle.pay(chunk).await;
                        done[number].fetch_add(chunk, Ordering::Relaxed);
                    }
                })
            });
        let runs: Vec<_> = runs.collect();
        tokio::time::sleep(Duration::from_mins(1)).await;
        runs.iter().for_each(tokio::task::JoinHandle::abort);
        let shares: Vec<u64> = done.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect();
        assert!(shares.iter().all(|share| share.abs_diff(15 << 20) <= 1 << 20), "{shares:?}");
    }

    /// An hour of silence does not buy an hour's bytes at once.
    #[tokio::test(start_paused = true)]
    async fn silence_is_not_saved_up() {
        let throttle = at(1000);
        throttle.pay(1000).await;
        tokio::time::sleep(Duration::from_hours(1)).await;
        let began = Instant::now();
        throttle.pay(10_000).await;
        assert!(began.elapsed() >= Duration::from_millis(9700), "{:?}", began.elapsed());
    }

    /// Without a cap nobody waits.
    #[tokio::test(start_paused = true)]
    async fn no_cap_is_no_wait() {
        let began = Instant::now();
        Throttle::default().pay(u64::MAX).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
