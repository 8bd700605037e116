//! One host's state: whether it speaks TLS, how many requests it has at a time, and when it may be asked again.
//!
//! Plain http is for loopback hosts, for `--plain-http`, and for endpoints that the configuration calls `insecure`. On a
//! loopback host and at an insecure endpoint https is tried first, and plain http when the server answers the TLS hello
//! with something that is not TLS or closes on it (an insecure one without a port also when nobody listens for https). That
//! verdict, and even more its opposite, holds as long as the [`Registry`](super::Registry) lives: an endpoint that answered
//! over TLS is never asked in plain text. What is found out for an endpoint under an insecure entry is not believed for the
//! same host under another entry.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Url;

use super::fault::Fault;
use super::kept::Kept;
use super::route::{Target, Trust};

/// For how long a mirror that could not be reached, or broke off, is passed over.
const PASSED_OVER: Duration = Duration::from_mins(1);

/// Which hosts are asked in plain http.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PlainHttp {
    /// Loopback hosts, when they do not speak TLS.
    #[default]
    LoopbackOnly,
    /// Every host, without trying TLS (`--plain-http`).
    Always,
    /// No host (`--tls-verify`, which wants a certificate to check).
    Never,
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
    /// What a loopback host speaks.
    scheme: OnceLock<Scheme>,
    /// What it speaks where the configuration calls it insecure.
    insecure_scheme: OnceLock<Scheme>,
    spoke_tls: AtomicBool,
    /// Held by the one request that finds out the scheme.
    pub(super) finding_out: tokio::sync::Mutex<()>,
    slots: Arc<Semaphore>,
    /// The connections that its requests go over.
    pub(super) kept: Arc<Kept>,
    asked_again_at: Mutex<Option<Instant>>,
    /// Where the last connection led: a proxy's address, when there is one between.
    address: Mutex<Option<IpAddr>>,
    /// When and how the last connection did not come about.
    unreachable: Mutex<Option<(Instant, Fault)>>,
    /// When and how an answer last broke off that could be had elsewhere.
    broken_off: Mutex<Option<(Instant, Fault)>>,
}

impl Endpoint {
    fn found_out(&self, trust: Trust) -> &OnceLock<Scheme> {
        match trust {
            Trust::Verified => &self.scheme,
            Trust::Insecure => &self.insecure_scheme,
        }
    }

    /// Settles the scheme. What was settled first stays, and TLS above all.
    pub(super) fn settle(&self, trust: Trust, scheme: Scheme) {
        self.found_out(trust).get_or_init(|| scheme);
    }

    /// Notes that the server speaks TLS.
    pub(super) fn spoke_tls(&self) {
        self.spoke_tls.store(true, Ordering::Relaxed);
    }

    /// Notes how a request went: that no connection came about, or that one did.
    pub(super) fn connected(&self, fault: Option<&Fault>) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        *unreachable =
            fault.filter(|fault| fault.is_unreachable()).map(|fault| (Instant::now(), fault.clone()));
    }

    /// Why the host could not be reached, where that was a moment ago.
    pub(super) fn unreachable(&self) -> Option<Fault> {
        a_moment_ago(&self.unreachable)
    }

    /// Notes that an answer did not get to its end.
    pub(super) fn broke_off(&self, fault: Fault) {
        *self.broken_off.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), fault));
    }

    /// How an answer broke off, where that was a moment ago.
    pub(super) fn has_broken_off(&self) -> Option<Fault> {
        a_moment_ago(&self.broken_off)
    }

    /// Waits until one of the host's connections is free.
    pub(super) async fn slot(&self) -> OwnedSemaphorePermit {
        let slots = Arc::clone(&self.slots);
        slots.acquire_owned().await.expect("invariant: the semaphore is never closed")
    }

    /// Notes where a connection led.
    pub(super) fn reached(&self, address: IpAddr) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Where the last connection led, once there was one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No request goes to this host before `until`.
    pub(super) fn hold_off(&self, until: Instant) {
        let mut at = self.asked_again_at.lock().unwrap_or_else(PoisonError::into_inner);
        *at = Some(at.map_or(until, |at| at.max(until)));
    }

    /// Until when the host must not be asked, where it must not.
    pub(super) fn held_off(&self) -> Option<Instant> {
        let at = *self.asked_again_at.lock().unwrap_or_else(PoisonError::into_inner);
        at.filter(|at| *at > Instant::now())
    }

    /// Waits until the host may be asked again.
    pub(super) async fn wait(&self) {
        while let Some(at) = self.held_off() {
            tokio::time::sleep_until(at).await;
        }
    }
}

fn a_moment_ago(fault: &Mutex<Option<(Instant, Fault)>>) -> Option<Fault> {
    let fault = fault.lock().unwrap_or_else(PoisonError::into_inner);
    let (at, fault) = fault.as_ref()?;
    (at.elapsed() < PASSED_OVER).then(|| fault.clone())
}

/// All hosts that were asked something.
#[derive(Debug)]
pub(super) struct Endpoints {
    plain_http: PlainHttp,
    connections: usize,
    known: Mutex<HashMap<Authority, Arc<Endpoint>>>,
}

/// One name for each host and port, however they were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Authority {
    /// As URLs have it: in lower case, an address in its shortest form.
    host: String,
    port: u16,
}

impl Authority {
    fn of(url: &Url) -> Self {
        Self {
            host: url.host_str().unwrap_or_default().to_ascii_lowercase(),
            port: url.port_or_known_default().unwrap_or_default(),
        }
    }

    /// `host[:port]` as a URL of that scheme has it.
    fn written(scheme: &str, authority: &str) -> Option<Self> {
        Url::parse(&format!("{scheme}://{authority}/")).ok().map(|url| Self::of(&url))
    }

    fn of_registry(target: &Target) -> Self {
        let authority = target.repository.api_host();
        // What is no URL is never asked; it has a state all the same.
        Self::written("https", authority)
            .unwrap_or_else(|| Self { host: authority.to_ascii_lowercase(), port: 0 })
    }
}

impl Endpoints {
    pub(super) fn new(plain_http: PlainHttp, connections: usize) -> Self {
        Self { plain_http, connections: connections.max(1), known: Mutex::default() }
    }

    fn known(&self, authority: Authority) -> Arc<Endpoint> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = known.entry(authority).or_insert_with(|| {
            Arc::new(Endpoint {
                scheme: OnceLock::new(),
                insecure_scheme: OnceLock::new(),
                spoke_tls: AtomicBool::new(false),
                unreachable: Mutex::default(),
                broken_off: Mutex::default(),
                finding_out: tokio::sync::Mutex::default(),
                slots: Arc::new(Semaphore::new(self.connections)),
                kept: Kept::new(self.connections),
                asked_again_at: Mutex::default(),
                address: Mutex::default(),
            })
        });
        Arc::clone(endpoint)
    }

    /// The endpoint that a URL is at.
    pub(super) fn of(&self, url: &Url) -> Arc<Endpoint> {
        self.known(Authority::of(url))
    }

    /// The endpoint that a repository is at, by whatever name: without a port it is https's, and plain http on its own port
    /// is the same endpoint.
    pub(super) fn registry(&self, target: &Target) -> Arc<Endpoint> {
        self.known(Authority::of_registry(target))
    }

    /// The endpoint of a request to `url` in the business of `target`.
    pub(super) fn of_request(&self, url: &Url, target: Option<&Target>) -> Arc<Endpoint> {
        let at_home = |target: &&Target| {
            let repository = &target.repository;
            let home = Authority::written(url.scheme(), repository.api_host());
            home.is_some_and(|home| home == Authority::of(url))
        };
        target.filter(at_home).map_or_else(|| self.of(url), |target| self.registry(target))
    }

    /// How an endpoint is spoken to on behalf of `target`, unless that has to be found out.
    pub(super) fn scheme(&self, endpoint: &Endpoint, target: &Target) -> Option<Scheme> {
        let may_be_plain = target.repository.is_loopback() || target.trust == Trust::Insecure;
        if self.is_plain() {
            return Some(Scheme::Http);
        }
        if !may_be_plain || self.plain_http == PlainHttp::Never || endpoint.spoke_tls.load(Ordering::Relaxed)
        {
            return Some(Scheme::Https);
        }
        endpoint.found_out(target.trust).get().copied()
    }

    /// Whether plain http was asked for, for every host.
    pub(super) fn is_plain(&self) -> bool {
        self.plain_http == PlainHttp::Always
    }
}

#[cfg(test)]
mod tests {
    use super::super::route::Role;
    use super::*;

    /// The longest wait that anybody was told holds for all, and a shorter one later does not shorten it.
    #[tokio::test(start_paused = true)]
    async fn the_wait_is_shared() {
        let endpoints = Endpoints::new(PlainHttp::LoopbackOnly, 2);
        let start = Instant::now();
        let at = |name: &str| endpoints.of(&Url::parse(&format!("https://{name}/")).unwrap());
        at("r.example").hold_off(start + Duration::from_secs(10));
        at("R.EXAMPLE:443").hold_off(start + Duration::from_secs(1));
        at("r.example").wait().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        at("other.example").wait().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    /// What answered over TLS is never asked in plain text, whatever is seen later.
    #[test]
    fn a_scheme_is_settled_once() {
        let endpoints = Endpoints::new(PlainHttp::LoopbackOnly, 2);
        let target =
            |name: &str, trust| Target { repository: name.parse().unwrap(), role: Role::Registry, trust };
        let local = target("localhost:5000/a", Trust::Verified);
        let endpoint = endpoints.of(&Url::parse("https://localhost:5000/v2/").unwrap());
        assert_eq!(endpoints.scheme(&endpoint, &local), None);
        endpoint.settle(Trust::Verified, Scheme::Https);
        endpoints.registry(&local).settle(Trust::Verified, Scheme::Http);
        assert_eq!(endpoints.scheme(&endpoint, &local), Some(Scheme::Https));

        let insecure = target("r.example/a", Trust::Insecure);
        let endpoint = endpoints.registry(&insecure);
        assert_eq!(endpoints.scheme(&endpoint, &insecure), None);
        endpoint.settle(Trust::Insecure, Scheme::Http);
        assert_eq!(endpoints.scheme(&endpoint, &insecure), Some(Scheme::Http));
        let other_entry = target("r.example/b", Trust::Verified);
        assert_eq!(endpoints.scheme(&endpoint, &other_entry), Some(Scheme::Https));
        endpoint.spoke_tls();
        assert_eq!(endpoints.scheme(&endpoint, &insecure), Some(Scheme::Https));
    }

    /// What is learnt under one name of an endpoint is known under all of them: a host that spoke TLS to one of them could
    /// be asked in plain text, credentials and all, under another.
    #[test]
    fn an_endpoint_has_one_state() {
        let endpoints = Endpoints::new(PlainHttp::LoopbackOnly, 2);
        let target = |name: &str| Target {
            repository: name.parse().unwrap(),
            role: Role::Registry,
            trust: Trust::Insecure,
        };
        for (name, url, same) in [
            ("r.example/a", "https://r.example/v2/", true),
            ("r.example/a", "http://r.example/v2/", true),
            ("r.example:443/a", "https://r.example/v2/", true),
            ("R.Example:443/a", "http://r.example:443/v2/", true),
            ("r.example:00443/a", "https://r.example/v2/", true),
            ("r.example:80/a", "http://r.example/v2/", true),
            ("r.example:80/a", "https://r.example/v2/", false),
            ("r.example:80/a", "https://r.example:80/v2/", true),
            ("127.0.0.1:07200/a", "http://127.0.0.1:7200/v2/", true),
            ("[0:0:0:0:0:0:0:1]:5000/a", "https://[::1]:5000/v2/", true),
            ("r.example:5000/a", "https://r.example/v2/", false),
            ("docker.io/a", "https://registry-1.docker.io/v2/", true),
        ] {
            let (target, url) = (target(name), Url::parse(url).unwrap());
            let of_request = endpoints.of_request(&url, Some(&target));
            assert_eq!(Arc::ptr_eq(&of_request, &endpoints.registry(&target)), same, "{name} {url}");
        }
        let (short, long) = (target("r.example/a"), target("r.example:443/b"));
        assert!(Arc::ptr_eq(&endpoints.registry(&short), &endpoints.registry(&long)));
    }

    /// A mirror that is down is not knocked at for every blob, and is given another chance after a minute.
    #[tokio::test(start_paused = true)]
    async fn unreachable_for_a_minute() {
        let url = Url::parse("https://m.example/").unwrap();
        let endpoint = Endpoints::new(PlainHttp::LoopbackOnly, 2).of(&url);
        endpoint.connected(Some(&Fault::Connect("refused".to_owned())));
        assert!(endpoint.unreachable().is_some());
        endpoint.connected(Some(&Fault::Cut { received: 1, wanted: None }));
        assert!(endpoint.unreachable().is_none(), "it was reached");
        endpoint.connected(Some(&Fault::Resolve("no such name".to_owned())));
        tokio::time::advance(PASSED_OVER).await;
        assert!(endpoint.unreachable().is_none());
    }
}
