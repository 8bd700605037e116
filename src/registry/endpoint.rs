//! One host's state: whether it speaks TLS, how many requests it has at a time, and when it may be asked again.
//!
//! Plain http is for loopback hosts and for `--plain-http`. On a loopback host https is tried first, and plain http
//! when the server answers the TLS hello with something that is not TLS or closes on it. That verdict, and even more
//! its opposite, holds as long as the [`Registry`](super::Registry) lives: an endpoint that answered over TLS is never
//! asked in plain text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Url;

use crate::reference::Repository;

/// Which hosts are asked in plain http.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PlainHttp {
    /// Loopback hosts, when they do not speak TLS.
    #[default]
    LoopbackOnly,
    /// Every host, without trying TLS (`--plain-http`).
    Always,
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// One host, with its port.
#[derive(Debug)]
pub(super) struct Endpoint {
    scheme: OnceLock<Scheme>,
    /// Held by the one request that finds out the scheme.
    pub(super) finding_out: tokio::sync::Mutex<()>,
    slots: Arc<Semaphore>,
    asked_again_at: Mutex<Option<Instant>>,
}

impl Endpoint {
    /// The scheme, where it is settled.
    pub(super) fn scheme(&self) -> Option<Scheme> {
        self.scheme.get().copied()
    }

    /// Settles the scheme. What was settled first stays.
    pub(super) fn settle(&self, scheme: Scheme) -> Scheme {
        *self.scheme.get_or_init(|| scheme)
    }

    /// Waits until one of the host's connections is free.
    pub(super) async fn slot(&self) -> OwnedSemaphorePermit {
        let slots = Arc::clone(&self.slots);
        slots.acquire_owned().await.expect("invariant: the semaphore is never closed")
    }

    /// No request goes to this host before `until`.
    pub(super) fn hold_off(&self, until: Instant) {
        let mut at = self.asked_again_at.lock().unwrap_or_else(PoisonError::into_inner);
        *at = Some(at.map_or(until, |at| at.max(until)));
    }

    /// Waits until the host may be asked again.
    pub(super) async fn wait(&self) {
        loop {
            let at = *self.asked_again_at.lock().unwrap_or_else(PoisonError::into_inner);
            match at {
                Some(at) if at > Instant::now() => tokio::time::sleep_until(at).await,
                _ => return,
            }
        }
    }
}

/// All hosts that were asked something.
#[derive(Debug)]
pub(super) struct Endpoints {
    plain_http: PlainHttp,
    connections: usize,
    known: Mutex<HashMap<String, Arc<Endpoint>>>,
}

impl Endpoints {
    pub(super) fn new(plain_http: PlainHttp, connections: usize) -> Self {
        Self { plain_http, connections: connections.max(1), known: Mutex::default() }
    }

    /// The endpoint `host[:port]`.
    pub(super) fn named(&self, authority: &str) -> Arc<Endpoint> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = known.entry(authority.to_ascii_lowercase()).or_insert_with(|| {
            Arc::new(Endpoint {
                scheme: OnceLock::new(),
                finding_out: tokio::sync::Mutex::default(),
                slots: Arc::new(Semaphore::new(self.connections)),
                asked_again_at: Mutex::default(),
            })
        });
        Arc::clone(endpoint)
    }

    /// The endpoint that a URL is at.
    pub(super) fn of(&self, url: &Url) -> Arc<Endpoint> {
        let host = url.host_str().unwrap_or_default();
        match url.port() {
            Some(port) => self.named(&format!("{host}:{port}")),
            None => self.named(host),
        }
    }

    /// The registry of a repository, its scheme settled unless that has to be found out.
    pub(super) fn registry(&self, repository: &Repository) -> Arc<Endpoint> {
        let endpoint = self.named(repository.api_host());
        match self.plain_http {
            PlainHttp::Always => endpoint.settle(Scheme::Http),
            PlainHttp::LoopbackOnly if repository.is_loopback() => return endpoint,
            PlainHttp::LoopbackOnly => endpoint.settle(Scheme::Https),
        };
        endpoint
    }

    /// Whether plain http was asked for, for every host.
    pub(super) fn is_plain(&self) -> bool {
        self.plain_http == PlainHttp::Always
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The longest wait that anybody was told holds for all, and a shorter one later does not shorten it.
    #[tokio::test(start_paused = true)]
    async fn the_wait_is_shared() {
        let endpoints = Endpoints::new(PlainHttp::LoopbackOnly, 2);
        let start = Instant::now();
        endpoints.named("r.example").hold_off(start + Duration::from_secs(10));
        endpoints.named("R.EXAMPLE").hold_off(start + Duration::from_secs(1));
        endpoints.named("r.example").wait().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        endpoints.named("other.example").wait().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    /// What answered over TLS is never asked in plain text, whatever is seen later.
    #[test]
    fn a_scheme_is_settled_once() {
        let endpoints = Endpoints::new(PlainHttp::LoopbackOnly, 2);
        let endpoint = endpoints.of(&Url::parse("https://localhost:5000/v2/").unwrap());
        assert_eq!(endpoint.settle(Scheme::Https), Scheme::Https);
        assert_eq!(endpoints.named("localhost:5000").settle(Scheme::Http), Scheme::Https);
    }
}
