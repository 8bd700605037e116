//! When a request that failed is made again, and after how long. Pure: nothing here sleeps or reads a clock.
//!
//! An error says what may be done about it (its [`Disposition`]); a [`State`] turns that, its [`Policy`] and a bit of
//! randomness into a [`Decision`]; the one loop that acts on decisions is `Registry::retrying`. The HTTP client's own
//! retries are off, so these are all that there are.
//!
//! The constants: back-off doubles from 250 ms, which a restarting load balancer is rarely slower than, to 30 s, past
//! which waiting longer spares nobody; a quarter of each wait is random, so that many clients which lost the same
//! server do not come back at the same moment. A host may announce a wait (`Retry-After`, RFC 9110 section 10.2.3) of
//! at most two minutes: whoever waits longer than that for a prompt wants to know instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The bytes that count as real progress: received since the last failure, they refill the budget.
pub const REAL_PROGRESS: u64 = 1 << 20;

/// How often and how patiently to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many times in a row a request is made again before its error is final; 0 means once and never again.
    pub retries: u32,
    /// The first wait, doubled from failure to failure.
    pub first_wait: Duration,
    /// The longest wait of the back-off.
    pub longest_wait: Duration,
    /// The longest wait that a host may announce and that is sat out.
    pub longest_announced: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retries: 5,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(30),
            longest_announced: Duration::from_mins(2),
        }
    }
}

impl Policy {
    /// The wait after the `failures`th failure in a row (from 1 on), `jitter` being a random number from 0 to 1: the
    /// doubled wait, less up to a quarter of it.
    pub fn backoff(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let wait = self.first_wait.saturating_mul(1 << doublings).min(self.longest_wait);
        wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
    }
}

/// What may be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// The same request may succeed later.
    Again {
        /// The wait that the host announced, where it announced one that could be understood.
        after: Option<Duration>,
    },
    /// The same request would fail again.
    Fatal,
}

impl Disposition {
    /// Again, after a wait that nobody announced.
    pub const AGAIN: Self = Self::Again { after: None };
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Wait, then try again.
    Again {
        /// How long.
        after: Duration,
        /// Whether the host named that time.
        announced: bool,
    },
    /// Give up.
    GiveUp(Reason),
}

/// Why there is no further try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The error is [`Disposition::Fatal`].
    Fatal,
    /// The budget is used up.
    Exhausted {
        /// How many failures were counted since the last real progress, this one included.
        failures: u32,
    },
    /// The host announced a longer wait than the policy sits out.
    AnnouncedTooLong(Duration),
}

/// The point from which an attempt began, as [`State::begin`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun(u64);

/// The budget of one blob (or one small document), shared by all requests that are about it.
///
/// Attempts run side by side (a blob's segments do), and one outage fails them all: an attempt that began before the
/// latest counted failure is not counted again, or a restarting server would use up the whole budget at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    failures: u32,
    counted: u64,
    progress: u64,
}

impl State {
    /// A full budget.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many failures were counted since the last real progress.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// An attempt begins.
    pub fn begin(&self) -> Begun {
        Begun(self.counted)
    }

    /// Bytes came in. [`REAL_PROGRESS`] of them since the last failure refill the budget.
    pub fn progressed(&mut self, bytes: u64) {
        self.progress = self.progress.saturating_add(bytes);
        if self.progress >= REAL_PROGRESS {
            self.failures = 0;
        }
    }

    /// A segment reached its end, which is real progress however short it was.
    pub fn segment_finished(&mut self) {
        self.failures = 0;
    }

    /// Another server is asked from now on, which has not failed yet.
    pub fn refill(&mut self) {
        self.failures = 0;
        self.progress = 0;
    }

    /// An attempt failed: what now. `jitter` is a random number from 0 to 1.
    pub fn failed(
        &mut self,
        begun: Begun,
        disposition: Disposition,
        policy: &Policy,
        jitter: f64,
    ) -> Decision {
        let Disposition::Again { after: announced } = disposition else {
            return Decision::GiveUp(Reason::Fatal);
        };
        if let Some(wait) = announced.filter(|wait| *wait > policy.longest_announced) {
            return Decision::GiveUp(Reason::AnnouncedTooLong(wait));
        }
        if begun.0 == self.counted {
            self.counted += 1;
            self.failures += 1;
            self.progress = 0;
        }
        if self.failures > policy.retries {
            return Decision::GiveUp(Reason::Exhausted { failures: self.failures });
        }
        // "Retry-After: 0" in an answer that is itself a refusal would empty the budget within milliseconds.
        match announced.filter(|wait| !wait.is_zero()) {
            Some(after) => Decision::Again { after, announced: true },
            None => Decision::Again { after: policy.backoff(self.failures.max(1), jitter), announced: false },
        }
    }
}

/// What a failure means for the one whose attempt it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What to do now.
    pub decision: Decision,
    /// Whether it is the first failure since the last real progress.
    pub is_first: bool,
    /// How many failures were counted since the last real progress, this one included where it was.
    pub failures: u32,
}

/// How the failures since the last real progress began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// What the first of them said.
    pub first: String,
    /// When its attempt began.
    pub began: Instant,
}

/// A [`State`] that the requests about one blob share. Clones are the same budget.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    state: Arc<Mutex<State>>,
    story: Arc<Mutex<Option<Story>>>,
}

impl Budget {
    /// A full budget.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`State::begin`]
    pub fn begin(&self) -> Begun {
        self.state().begin()
    }

    /// [`State::progressed`]
    pub fn progressed(&self, bytes: u64) {
        self.state().progressed(bytes);
    }

    /// [`State::segment_finished`]
    pub fn segment_finished(&self) {
        self.state().segment_finished();
    }

    /// [`State::refill`]
    pub fn refill(&self) {
        self.state().refill();
    }

    /// [`State::failed`]
    pub fn failed(&self, begun: Begun, disposition: Disposition, policy: &Policy, jitter: f64) -> Outcome {
        let mut state = self.state();
        let before = state.counted;
        let decision = state.failed(begun, disposition, policy, jitter);
        let is_first = state.counted > before && state.failures == 1;
        Outcome { decision, is_first, failures: state.failures }
    }

    /// The first failure since the last real progress was this one, whichever of the requests it befell.
    pub fn began(&self, story: Story) {
        *self.story.lock().unwrap_or_else(PoisonError::into_inner) = Some(story);
    }

    /// How the failures began, where there were any.
    pub fn story(&self) -> Option<Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The wait that a `Retry-After` header names: seconds, or a date seen from `now`. A date that has passed is no wait;
/// a text that is neither is `None`, which means normal back-off.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds are still a number, and far past every limit.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::default()
    }

    fn again(state: &mut State, jitter: f64) -> Decision {
        let begun = state.begin();
        state.failed(begun, Disposition::AGAIN, &policy(), jitter)
    }

    /// The whole schedule, without and with all of its jitter.
    #[test]
    fn backoff_doubles_from_a_quarter_second_to_thirty_seconds() {
        let schedule: Vec<u128> = (1..=9).map(|n| policy().backoff(n, 0.0).as_millis()).collect();
        assert_eq!(schedule, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(policy().backoff(1, 1.0), Duration::from_micros(187_500));
        assert_eq!(policy().backoff(u32::MAX, 0.0), Duration::from_secs(30));
    }

    /// Five retries, then the end, which says how many failures there were.
    #[test]
    fn the_budget_ends() {
        let mut state = State::new();
        for _ in 0..5 {
            assert!(matches!(again(&mut state, 0.5), Decision::Again { announced: false, .. }));
        }
        assert_eq!(again(&mut state, 0.5), Decision::GiveUp(Reason::Exhausted { failures: 6 }));
    }

    /// A megabyte since the last failure refills the budget, a byte less does not, and bytes from before it do not count.
    #[test]
    fn real_progress_refills() {
        let mut state = State::new();
        state.progressed(REAL_PROGRESS - 1);
        again(&mut state, 0.0);
        state.progressed(REAL_PROGRESS - 1);
        assert_eq!(state.failures(), 1);
        state.progressed(1);
        assert_eq!(state.failures(), 0);
        again(&mut state, 0.0);
        state.segment_finished();
        assert_eq!(state.failures(), 0);
    }

    /// One outage that cuts eight connections is one failure.
    #[test]
    fn attempts_side_by_side_fail_once() {
        let mut state = State::new();
        let begun: Vec<Begun> = (0..8).map(|_| state.begin()).collect();
        for begun in begun {
            let decision = state.failed(begun, Disposition::AGAIN, &policy(), 0.0);
            assert_eq!(decision, Decision::Again { after: Duration::from_millis(250), announced: false });
        }
        assert_eq!(state.failures(), 1);
    }

    /// An announced wait is obeyed to the second, unless it is longer than two minutes.
    #[test]
    fn announced_waits() {
        let cases = [
            (Some(1), Decision::Again { after: Duration::from_secs(1), announced: true }),
            (Some(120), Decision::Again { after: Duration::from_mins(2), announced: true }),
            (Some(121), Decision::GiveUp(Reason::AnnouncedTooLong(Duration::from_secs(121)))),
            (Some(0), Decision::Again { after: Duration::from_millis(250), announced: false }),
            (None, Decision::Again { after: Duration::from_millis(250), announced: false }),
        ];
        for (seconds, expected) in cases {
            let mut state = State::new();
            let begun = state.begin();
            let disposition = Disposition::Again { after: seconds.map(Duration::from_secs) };
            assert_eq!(state.failed(begun, disposition, &policy(), 0.0), expected, "{seconds:?}");
        }
    }

    /// A fatal error costs no budget and gets no second try.
    #[test]
    fn fatal_is_final() {
        let mut state = State::new();
        let begun = state.begin();
        let decision = state.failed(begun, Disposition::Fatal, &policy(), 0.0);
        assert_eq!(decision, Decision::GiveUp(Reason::Fatal));
        assert_eq!(state.failures(), 0);
        let none = Policy { retries: 0, ..policy() };
        let decision = state.failed(begun, Disposition::AGAIN, &none, 0.0);
        assert_eq!(decision, Decision::GiveUp(Reason::Exhausted { failures: 1 }));
    }

    /// Seconds, all three date forms, and what is neither.
    #[test]
    fn retry_after_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let cases = [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("soon", None),
            ("-1", None),
            ("+5", None),
            ("1.5", None),
            ("30s", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
