//! The one retry loop: it acts on what [`retry`](super::retry) decides.

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::blob::BlobSource;
use super::elsewhere::{self, Onward};
use super::endpoint::Endpoint;
use super::error::{Fault, RegistryError};
use super::places::{Place, Places};
use super::retry::{Budget, Decision, Disposition, Reason, Story};
use super::route::Target;
use super::tried::explained;
use super::{Notice, Registry};
use crate::digest::Digest;
use crate::failure::Failure;
use crate::text::printable;

/// An error that a try can end with. Callers wrap [`RegistryError`] in errors of their own, a full disk among them.
pub trait Retryable: Error + Sized + 'static {
    /// What may be done about it.
    fn disposition(&self) -> Disposition;

    /// Whether there was an answer, and it did not get to its end.
    fn breaks_off(&self) -> bool;

    /// The error of all tries, `self` being the first that this request made and `last` its last, where it made more than one.
    /// What befell the first of all of them, `all` says.
    #[must_use]
    fn exhausted(self, last: Option<Self>, all: Earlier) -> Self;

    /// The error of a try after which the host asks for a longer wait than is sat out. `before` is what the tries before it
    /// came to, where there were any.
    #[must_use]
    fn come_back_later(self, after: Duration, before: Option<Earlier>) -> Self;

    /// The error of a try after which there is no use in another, `before` being what the tries before it came to. Its kind is
    /// that of the last try.
    #[must_use]
    fn in_vain(self, before: Earlier) -> Self;
}

/// The tries before the last one, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// How many times it was tried, the last one included.
    pub tries: u32,
    /// From the first try to the last failure.
    pub elapsed: Duration,
    /// What the first one ended with.
    pub first: String,
}

impl fmt::Display for Earlier {
    /// As what follows the outcome of the last one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tries, elapsed, first } = self;
        write!(
            f,
            ", after {tries} tries in {:.1} s, the first of which ended with: {first}",
            elapsed.as_secs_f64()
        )
    }
}

/// What the first and the last of all tries said, where that is not what `error` says.
pub fn differing<E: Error + 'static>(
    error: &E,
    first: String,
    last: Option<E>,
) -> (Option<String>, Option<String>) {
    let said = explained(error);
    let last = last.map(|last| explained(&last)).filter(|last| *last != said);
    (Some(first).filter(|first| *first != said), last)
}

impl Retryable for RegistryError {
    fn disposition(&self) -> Disposition {
        Self::disposition(self)
    }

    fn breaks_off(&self) -> bool {
        matches!(
            self,
            Self::Network {
                fault: Fault::Cut { .. } | Fault::Stalled(_) | Fault::Slow(_) | Fault::Request(_),
                ..
            }
        )
    }

    fn exhausted(self, last: Option<Self>, all: Earlier) -> Self {
        let Earlier { tries, elapsed, first } = all;
        let (first, last) = differing(&self, first, last);
        Self::GaveUp { tries, elapsed, first, last, source: Box::new(self) }
    }

    fn come_back_later(self, after: Duration, before: Option<Earlier>) -> Self {
        Self::ComeBackLater { after, before, source: Box::new(self) }
    }

    fn in_vain(self, before: Earlier) -> Self {
        Self::InVain { before, source: Box::new(self) }
    }
}

/// Failures since the last real progress, as one caller sees them.
struct Row<E> {
    first: Option<E>,
    /// How all of them began. Others, who share the budget, may have failed before.
    story: Option<Story>,
}

/// Whom a row of tries asks.
#[derive(Clone, Copy)]
enum Asked<'a> {
    /// A repository's registry.
    Registry(&'a Target),
    /// The place whose turn it is.
    Places(&'a Places),
    /// Any host, and the name by which it goes in notices.
    Host(&'a Arc<Endpoint>, &'a str),
}

impl Asked<'_> {
    /// Waits until it may be asked.
    async fn wait(self, registry: &Registry) {
        match self {
            Self::Registry(target) => registry.inner.client.endpoints.registry(target).wait().await,
            Self::Places(places) => registry.wait_for(places).await,
            Self::Host(endpoint, _) => endpoint.wait().await,
        }
    }

    fn hold_off(self, registry: &Registry, until: Instant) {
        match self {
            Self::Registry(target) => registry.inner.client.endpoints.registry(target).hold_off(until),
            Self::Places(places) => registry.hold_off(places, until),
            Self::Host(endpoint, _) => endpoint.hold_off(until),
        }
    }

    fn host(self) -> String {
        let url = match self {
            Self::Registry(target) => return target.repository.host().to_owned(),
            Self::Host(_, name) => return name.to_owned(),
            Self::Places(places) => match places.turn().1 {
                Place::Endpoint(stop) => return stop.target.repository.host().to_owned(),
                Place::Url(url) => url,
            },
        };
        let host = printable(url.host_str().unwrap_or_default());
        url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }
}

impl Registry {
    /// Tries until it works, until the error is one that will not pass, or until the budget is used up. Before every
    /// try it waits until the repository's registry may be asked again, which one refusal decides for all requests.
    /// `digest` is what the tries are about, for the [`Notice::Retry`] that every failure becomes.
    ///
    /// # Errors
    /// The error of the last try when it is fatal; else the first one's since the last real progress. Where there were
    /// several tries, either is made into one that says how many there were and for how long.
    pub(super) async fn retrying<T, E, F>(
        &self,
        budget: &Budget,
        target: &Target,
        digest: Option<Digest>,
        attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Retryable,
        F: Future<Output = Result<T, E>>,
    {
        self.row(budget, Asked::Registry(target), digest, attempt).await
    }

    /// The same for a question to several places, of which the one is waited for whose turn it is.
    pub(super) async fn retrying_places<T, E, F>(
        &self,
        budget: &Budget,
        places: &Places,
        digest: Option<Digest>,
        attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Retryable,
        F: Future<Output = Result<T, E>>,
    {
        self.row(budget, Asked::Places(places), digest, attempt).await
    }

    /// Tries until the blob is there, until the error is one that will not pass, or until the budget is used up. Before
    /// every try it waits until the host whose turn it is may be asked again, which one refusal decides for all requests.
    /// Where the blob has several places, one that was given up is followed by the next, with a full budget. A mirror whose answer
    /// breaks off is followed at once, in the same try.
    ///
    /// # Errors
    /// The error of the last try when it is fatal; else the first one's since the last real progress. Where there were
    /// several tries, either is made into one that says how many there were and for how long. [`RegistryError::Nowhere`]
    /// and [`RegistryError::Mirrored`] when every one of several places was given up.
    pub async fn retrying_blob<T, E, F>(
        &self,
        budget: &Budget,
        source: &BlobSource,
        attempt: impl Fn() -> F,
    ) -> Result<T, E>
    where
        E: Retryable + Failure + From<RegistryError> + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let (places, attempt) = (source.places(), &attempt);
        let struck = AtomicUsize::new(0);
        let attempt = || async {
            loop {
                struck.store(places.struck(), Ordering::Relaxed);
                match attempt().await {
                    Err(error) if error.breaks_off() && self.leaves_mirror(places, &error) => {}
                    ended => return ended,
                }
            }
        };
        loop {
            let ended = self.row(budget, Asked::Places(places), Some(*source.digest()), attempt).await;
            let struck = struck.load(Ordering::Relaxed);
            let reason = match ended.map_err(|error| elsewhere::onward(source, struck, error)) {
                Ok(value) => return Ok(value),
                Err(Onward::End(error)) => return Err(error),
                Err(Onward::Another(reason)) => reason,
            };
            budget.refill();
            let next = source.places().turn().0;
            self.notice(Notice::Warning(format!("{reason}; asking {} instead", source.places().name(next))));
        }
    }

    /// The same as [`Registry::retrying`] for requests to any host, which goes by a name in notices.
    pub(super) async fn retrying_at<T, E, F>(
        &self,
        budget: &Budget,
        (endpoint, name): (&Arc<Endpoint>, &str),
        digest: Option<Digest>,
        attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Retryable,
        F: Future<Output = Result<T, E>>,
    {
        self.row(budget, Asked::Host(endpoint, name), digest, attempt).await
    }

    async fn row<T, E, F>(
        &self,
        budget: &Budget,
        asked: Asked<'_>,
        digest: Option<Digest>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Retryable,
        F: Future<Output = Result<T, E>>,
    {
        let mut row = Row { first: None, story: None };
        loop {
            asked.wait(self).await;
            let (begun, now) = (budget.begin(), Instant::now());
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let outcome = budget.failed(begun, error.disposition(), &self.inner.policy, jitter());
            if outcome.is_first {
                budget.began(Story { first: explained(&error), began: now });
            }
            let story = budget.story().filter(|_| outcome.failures > 0);
            if row.story != story {
                row = Row { first: None, story };
            }
            let (after, announced) = match outcome.decision {
                Decision::Again { after, announced } => (after, announced),
                Decision::GiveUp(reason) => return Err(end(reason, error, row, outcome.failures)),
            };
            self.inner.client.counters.retries.fetch_add(1, Ordering::Relaxed);
            let (host, cause) = (asked.host(), explained(&error));
            tracing::debug!(host, %cause, after = after.as_secs_f64(), announced, "trying again");
            self.notice(Notice::Retry { host, digest, after, announced, cause });
            asked.hold_off(self, Instant::now() + after);
            row.first.get_or_insert(error);
        }
    }
}

fn end<E: Retryable>(reason: Reason, error: E, row: Row<E>, failures: u32) -> E {
    let told = |story: Story, tries| {
        let Story { first, began } = story;
        Earlier { tries, elapsed: began.elapsed(), first }
    };
    match (reason, row.story) {
        // These are not counted themselves.
        (Reason::AnnouncedTooLong(after), story) => {
            error.come_back_later(after, story.map(|story| told(story, failures + 1)))
        }
        (Reason::Fatal, Some(story)) => error.in_vain(told(story, failures + 1)),
        (Reason::Exhausted { .. }, Some(story)) => match row.first {
            Some(first) => first.exhausted(Some(error), told(story, failures)),
            None => error.exhausted(None, told(story, failures)),
        },
        (Reason::Fatal | Reason::Exhausted { .. }, None) => error,
    }
}

/// A random number from 0 to 1. Good enough to spread clients, and no more is needed: the standard library seeds its
/// hash maps with what the system gives it.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
fn jitter() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
