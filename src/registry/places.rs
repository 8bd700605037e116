//! The places that a blob may be had from, in their order, and which of them is asked next. Pure but for its lock.
//!
//! Most blobs have one place, the registry. Where the configuration has mirrors, they come before it. A descriptor with
//! `urls` (OCI image spec, "Descriptor"; Windows base layers are the usual case) has its URLs first. Manifests have places
//! too, mirrors and the registry. A place that fails is left for the next one at once:
//! another place is better than waiting. One whose failure will not pass (an answer of 4xx, bad TLS, wrong bytes, no
//! usable URL) is struck out; the others are asked again, in their order and after the usual wait, when all have
//! failed. So one server that is down for a moment costs nothing while another has the blob, and is waited for when
//! none has.
//! For mirrors nobody waits while their registry may be asked: one that wants to be left alone is passed over, and when it has said no for good, that is the end, and its error
//! is the error.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use url::Url;

use super::error::{Fault, RegistryError, shown};
use super::retry::Disposition;
use super::route::{Role, Route, Stop, Target};
use super::tried::{Failed, Told, Tried, explained};
use crate::failure::{Failure, Kind};
use crate::text::printable;

/// How many URLs of a descriptor count. A manifest has room for a hundred thousand, each good for a minute of waiting.
const MOST_URLS: usize = 32;

/// A place that a blob may be had from.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A URL that the descriptor names: http or https, without user, password and fragment.
    Url(Url),
    /// The repository's registry, or a mirror of it.
    Endpoint(Stop),
}

impl Place {
    /// Whether the places after it are better than waiting for it.
    pub(super) fn is_mirror(&self) -> bool {
        self.role() == Some(Role::Mirror)
    }

    fn role(&self) -> Option<Role> {
        match self {
            Self::Url(_) => None,
            Self::Endpoint(stop) => Some(stop.target.role),
        }
    }
}

/// A blob's places and what came of them.
#[derive(Debug)]
pub(super) struct Places {
    subject: String,
    /// The URLs in their order, then the mirrors, then the registry.
    all: Vec<Place>,
    names: Vec<String>,
    left_out: Vec<Failed>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    standings: Vec<Standing>,
    /// The place whose answer was used last, until something is held against it.
    serving: Option<usize>,
    /// The place whose answer was used last, whatever is held against it.
    served: Option<usize>,
    struck: usize,
    /// What is left out was said.
    announced: bool,
    /// What the registry itself said last.
    primary: Option<Told>,
}

#[derive(Debug, Default)]
struct Standing {
    failed: Option<Failed>,
    /// It is not asked any more.
    struck: bool,
    /// It has failed since all were asked last.
    passed_over: bool,
    /// How often it did not answer with the range that it was asked for.
    range_refusals: u32,
    after: Option<Duration>,
}

/// What to do after a place failed.
#[derive(Debug)]
pub(super) enum Next {
    /// Another place is to be asked, at once.
    Place,
    /// All have failed.
    Nowhere(RegistryError),
}

impl Places {
    pub(super) fn new(route: Route, subject: &str, urls: &[String]) -> Self {
        let mut places = Self {
            subject: subject.to_owned(),
            all: Vec::new(),
            names: Vec::new(),
            left_out: Vec::new(),
            state: Mutex::default(),
        };
        for text in urls.iter().take(MOST_URLS) {
            match usable(text) {
                Ok(url) if places.has(&url) => {}
                Ok(url) => places.push(shown(&url), Place::Url(url)),
                Err(reason) => places.left_out.push(Failed::unasked(&bare_url(text), &reason)),
            }
        }
        if let Some(more) = urls.len().checked_sub(MOST_URLS).filter(|more| *more > 0) {
            let reason = format!("not asked: no more than {MOST_URLS} URLs of a blob are");
            let urls = if more == 1 { "1 more URL".to_owned() } else { format!("{more} more URLs") };
            places.left_out.push(Failed::unasked(&urls, &reason));
        }
        for stop in route.stops {
            let refusal = stop.refusal(subject).map(Told::new);
            places.push(stop.target.repository.host().to_owned(), Place::Endpoint(stop));
            if let Some(refusal) = refusal {
                places.never_ask(places.all.len() - 1, refusal);
            }
        }
        places
    }

    fn never_ask(&mut self, at: usize, refusal: Told) {
        let failed = self.failure(at, &*refusal.0);
        let is_primary = !self.all[at].is_mirror();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.standings[at].failed = Some(failed);
        state.strike(at);
        if is_primary {
            state.primary = Some(refusal);
        }
    }

    fn push(&mut self, name: String, place: Place) {
        self.all.push(place);
        self.names.push(name);
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.standings.push(Standing::default());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many places there are to be asked.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether the registry is all there is, whatever the descriptor says.
    pub(super) fn is_registry_alone(&self) -> bool {
        self.alone().is_some() && self.left_out.is_empty()
    }

    /// The place, where it is the only one and may be asked: its error is the error as it is then.
    pub(super) fn alone(&self) -> Option<&Place> {
        let [place] = &*self.all else { return None };
        let may_be_asked = !matches!(place, Place::Endpoint(stop) if stop.refused.is_some());
        may_be_asked.then_some(place)
    }

    /// The registry itself, unless it may not be asked.
    pub(super) fn registry(&self) -> Option<&Target> {
        self.all.iter().find_map(|place| match place {
            Place::Endpoint(stop) if stop.target.role == Role::Registry && stop.refused.is_none() => {
                Some(&stop.target)
            }
            _ => None,
        })
    }

    /// Whether there is a registry to ask after this mirror, so that it is not worth a second knock.
    pub(super) fn is_dispensable(&self, place: &Place) -> bool {
        place.is_mirror() && self.registry().is_some()
    }

    /// The URLs that are passed over, each with the reason, for the first who asks: a blob that nobody downloads is no
    /// reason to complain.
    pub(super) fn announce(&self) -> &[Failed] {
        let announced = std::mem::replace(&mut self.state().announced, true);
        if announced { &[] } else { &self.left_out }
    }

    fn has(&self, url: &Url) -> bool {
        self.all.iter().any(|place| matches!(place, Place::Url(other) if other == url))
    }

    /// Whether there is anything to ask.
    ///
    /// # Errors
    /// What the places said, or why they must not be asked.
    pub(super) fn ready(&self) -> Result<(), RegistryError> {
        if self.any_left() {
            return Ok(());
        }
        Err(self.refusal().unwrap_or_else(|| self.exhausted()))
    }

    /// The place at `at`.
    pub(super) fn at(&self, at: usize) -> &Place {
        &self.all[at]
    }

    /// Which place is to be asked now.
    pub(super) fn turn(&self) -> (usize, &Place) {
        let at = self.state().turn();
        (at, &self.all[at])
    }

    /// The place whose turn it is and, where that is a mirror with a registry behind it, those that follow it, up to the
    /// first that is waited for.
    pub(super) fn awaited(&self) -> Vec<&Place> {
        let state = self.state();
        let is_open = |at: &usize| *at == state.turn() || state.standings[*at].is_open();
        let mut awaited = Vec::new();
        for at in (state.turn()..self.all.len()).filter(is_open) {
            awaited.push(&self.all[at]);
            if !self.is_dispensable(&self.all[at]) {
                break;
            }
        }
        awaited
    }

    /// The name of a place, fit to be shown.
    pub(super) fn name(&self, at: usize) -> &str {
        &self.names[at]
    }

    /// The place at `at` answers.
    pub(super) fn serves(&self, at: usize) {
        let mut state = self.state();
        (state.serving, state.served) = (Some(at), Some(at));
    }

    /// Whether a place's answer was used, and nothing is held against it since.
    pub(super) fn is_served(&self) -> bool {
        self.state().serving.is_some()
    }

    /// The name of the place whose answer was used last.
    pub(super) fn server(&self) -> Option<&str> {
        self.state().served.map(|at| self.name(at))
    }

    /// The place whose answer was used last did not keep to the range that it was asked for, as `error` says: when it does
    /// so again, it has failed.
    pub(super) fn server_refuses_range(&self, error: &(impl Failure + 'static)) {
        let Some(at) = self.state().serving else { return };
        if self.refuses_range(at) {
            return;
        }
        let failed = self.failure(at, error);
        let mut state = self.state();
        (state.standings[at].failed, state.standings[at].passed_over) = (Some(failed), true);
        if !state.standings.iter().any(Standing::is_open) {
            state.standings.iter_mut().for_each(|standing| standing.passed_over = false);
        }
    }

    /// The answer that was used last broke off, as `error` says. Where it was a mirror's, and another place may be asked, it has
    /// failed: its position. Who was at the same answer is told so too.
    pub(super) fn mirror_breaks_off(&self, error: &(impl Failure + 'static)) -> Option<usize> {
        let State { serving, served, .. } = *self.state();
        let at = serving.or(served).filter(|at| self.is_dispensable(&self.all[*at]))?;
        let failed = self.failure(at, error);
        let mut state = self.state();
        if serving.is_none() {
            return state.standings[at].passed_over.then_some(at);
        }
        state.serving = None;
        (state.standings[at].failed, state.standings[at].passed_over) = (Some(failed), true);
        if state.standings.iter().any(Standing::is_open) {
            return Some(at);
        }
        state.standings.iter_mut().for_each(|standing| standing.passed_over = false);
        None
    }

    /// The place at `at` did not answer with the range that it was asked for. Says whether that is to be put up with: once
    /// it is, as the next request may be for the whole.
    pub(super) fn refuses_range(&self, at: usize) -> bool {
        let mut state = self.state();
        state.standings[at].range_refusals += 1;
        state.standings[at].range_refusals == 1
    }

    /// How many places were struck out. Whoever sees it grow knows that somebody moved on meanwhile.
    pub(super) fn struck(&self) -> usize {
        self.state().struck
    }

    /// Whether a place is left that is not struck out.
    pub(super) fn any_left(&self) -> bool {
        self.state().standings.iter().any(|standing| !standing.struck)
    }

    /// The place at `at` did not answer as it should.
    pub(super) fn failed(&self, at: usize, error: &Told) -> Next {
        let failed = self.failure(at, &*error.0);
        let mut state = self.state();
        if self.all[at].role() == Some(Role::Registry) {
            state.primary = Some(error.clone());
        }
        let standing = &mut state.standings[at];
        (standing.failed, standing.passed_over) = (Some(failed), true);
        if !error.is_range_refusal() {
            standing.range_refusals = 0;
        }
        match error.disposition() {
            Disposition::Again { after } => standing.after = after,
            Disposition::Fatal => state.strike(at),
        }
        if state.standings.iter().any(Standing::is_open) {
            return Next::Place;
        }
        let disposition = self.disposition(&state);
        state.serving = None;
        state.standings.iter_mut().for_each(|standing| standing.passed_over = false);
        drop(state);
        Next::Nowhere(self.nowhere(disposition))
    }

    /// Strikes out the place whose answer was used last: what it sent is of no use, or it does not get to the end.
    /// `struck` places had been struck out when it was asked: where one more was since, that one is to blame already.
    /// Says whether there was one to blame and another is left.
    pub(super) fn strike_server(&self, struck: usize, error: &(impl Failure + 'static)) -> bool {
        let Some(at) = self.state().serving else { return self.struck() > struck && self.any_left() };
        let failed = self.failure(at, error);
        let mut state = self.state();
        state.serving = None;
        state.standings[at].failed = Some(failed);
        state.strike(at);
        if self.all[at].role() == Some(Role::Registry) {
            state.primary = None;
        }
        drop(state);
        self.any_left()
    }

    /// What may be done after all have failed: again, after the shortest of the waits that were announced, unless one
    /// announced none.
    fn disposition(&self, state: &State) -> Disposition {
        let standings = self.all.iter().zip(&state.standings);
        let counts = |place: &Place, standing: &Standing| !standing.struck && !self.is_dispensable(place);
        let mut left = standings.filter(|(place, standing)| counts(place, standing)).peekable();
        if left.peek().is_none() {
            return Disposition::Fatal;
        }
        let waits: Option<Vec<Duration>> = left.map(|(_, standing)| standing.after).collect();
        Disposition::Again { after: waits.and_then(|waits| waits.into_iter().min()) }
    }

    /// Why there is nothing to ask, where the only place must not be.
    fn refusal(&self) -> Option<RegistryError> {
        match &*self.all {
            [Place::Endpoint(stop)] if self.left_out.is_empty() => stop.refusal(&self.subject),
            _ => None,
        }
    }

    /// The error of a blob that is to be had from no place.
    pub(super) fn exhausted(&self) -> RegistryError {
        self.nowhere(Disposition::Fatal)
    }

    fn nowhere(&self, disposition: Disposition) -> RegistryError {
        let state = self.state();
        let has_urls = !self.left_out.is_empty() || self.all.iter().any(|place| place.role().is_none());
        let standings = self.all.iter().zip(&state.standings);
        if let Some(primary) = state.primary.clone().filter(|_| !has_urls) {
            let mirrors = standings.filter(|(place, _)| place.is_mirror());
            let failures: Vec<_> = mirrors.filter_map(|(_, standing)| standing.failed.clone()).collect();
            return RegistryError::Mirrored {
                mirrors: Tried { failures, disposition, refused_range: false },
                primary,
            };
        }
        let asked = standings.filter_map(|(_, standing)| standing.failed.clone());
        let failures = self.left_out.iter().cloned().chain(asked).collect();
        let refused_range =
            state.standings.iter().any(|standing| !standing.struck && standing.range_refusals > 0);
        let tried = Tried { failures, disposition, refused_range };
        RegistryError::Nowhere { subject: self.subject.clone(), tried }
    }

    fn failure(&self, at: usize, error: &(impl Failure + 'static)) -> Failed {
        let (place, prefix) = (self.names[at].clone(), format!("{}: ", self.subject));
        let reason = explained(error).replace(&prefix, "");
        match self.all[at].role() {
            Some(Role::Registry) => {
                return Failed { place, reason, kind: Some(error.kind()), hint: error.hint() };
            }
            // The registry's word is the one that counts.
            Some(Role::Mirror) => return Failed { place, reason, kind: None, hint: None },
            None => {}
        }
        // What a host that is no registry says of logins and of what does not exist there is no word about the image.
        let kind = Some(error.kind()).filter(|kind| matches!(kind, Kind::Network | Kind::Integrity));
        let kind = if is_unasked(error) { None } else { kind.or(Some(Kind::NotFound)) };
        Failed { place, reason, kind, hint: network_hint(error) }
    }
}

impl State {
    /// The first place that has not failed. There always is one, unless all are struck out: then the last.
    fn turn(&self) -> usize {
        let first = |is: fn(&Standing) -> bool| self.standings.iter().position(is);
        first(Standing::is_open)
            .or_else(|| first(|standing| !standing.struck))
            .unwrap_or(self.standings.len() - 1)
    }

    fn strike(&mut self, at: usize) {
        let standing = &mut self.standings[at];
        self.struck += usize::from(!standing.struck);
        standing.struck = true;
    }
}

impl Standing {
    fn is_open(&self) -> bool {
        !self.struck && !self.passed_over
    }
}

/// A URL as it is asked for. User and password are cut off: they would be credentials of whoever wrote the manifest, or
/// of nobody, and are sent to no foreign host.
fn usable(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text.trim()).map_err(|_| "not asked: it is not a URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = printable(url.scheme());
        return Err(format!("not asked: its scheme is \"{scheme}\", and only http and https are asked"));
    }
    url.set_fragment(None);
    // Both succeed for http and https, which always have a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    // What the HTTP client cannot express, a URL of 100,000 characters say, will not be expressed later either.
    if url.as_str().parse::<http::Uri>().is_err() {
        return Err("not asked: no request can be made of it".to_owned());
    }
    Ok(url)
}

/// What is to be shown of a URL out of a descriptor, which may not be one: neither user, password nor query.
pub fn bare_url(text: &str) -> String {
    match Url::parse(text.trim()) {
        // Without a host there is no telling what of it is a password.
        Ok(url) if url.cannot_be_a_base() => printable(&format!("{}:…", url.scheme())),
        Ok(url) => shown(&url),
        Err(_) => {
            let text = text.split(['?', '#']).next().unwrap_or_default();
            printable(text.rsplit('@').next().unwrap_or_default())
        }
    }
}

fn is_unasked(error: &(impl Failure + 'static)) -> bool {
    let error: &(dyn Error + 'static) = error;
    matches!(error.downcast_ref().map(RegistryError::refusal), Some(RegistryError::Elsewhere { .. }))
}

/// The hints about registries and logins do not hold for other hosts, those about TLS and names do.
fn network_hint(error: &(impl Failure + 'static)) -> Option<String> {
    let dynamic: &(dyn Error + 'static) = error;
    match dynamic.downcast_ref().map(RegistryError::refusal) {
        Some(RegistryError::Network {
            fault: Fault::Tls(_) | Fault::Resolve(_) | Fault::Proxy { .. },
            ..
        }) => error.hint(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;

    use super::super::config::registries_conf::Registries;
    use super::super::error::About;
    use super::super::route::Routes;
    use super::super::tls::ServerVerification;
    use super::*;

    fn places(urls: &[&str]) -> Places {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        Places::new(route(""), "r.example/team/app@sha256:0", &urls)
    }

    /// The way to r.example with this configuration.
    fn route(configuration: &str) -> Route {
        let registries = Registries::merge([("r.conf".into(), configuration.to_owned())]).unwrap();
        let routes = Routes::new(Arc::new(registries), ServerVerification::default());
        let digest = crate::digest::Digest::sha256(b"");
        routes.serving(&"r.example/team/app".parse().unwrap(), &digest)
    }

    fn all(places: &Places) -> Vec<String> {
        let name = |place: &Place| match place {
            Place::Url(url) => url.to_string(),
            Place::Endpoint(stop) => stop.target.repository.to_string(),
        };
        places.all.iter().map(name).collect()
    }

    fn about() -> About {
        About { subject: "r.example/team/app@sha256:0".into(), request: "GET https://x.example/".into() }
    }

    fn status(status: u16, wait: Option<u64>) -> Told {
        let (status, retry_after) = (StatusCode::from_u16(status).unwrap(), wait.map(Duration::from_secs));
        let identity = None;
        Told::new(RegistryError::Status { about: about(), status, codes: Vec::new(), retry_after, identity })
    }

    /// Says what the places named in `failures` answered, in turn, and returns the error at the end of the round.
    fn round(places: &Places, failures: &[(usize, u16)]) -> RegistryError {
        for (number, (at, answer)) in failures.iter().enumerate() {
            assert_eq!(places.turn().0, *at, "turn {number}");
            match places.failed(*at, &status(*answer, None)) {
                Next::Nowhere(error) if number + 1 == failures.len() => return error,
                Next::Place if number + 1 < failures.len() => {}
                next => panic!("turn {number}: {next:?}"),
            }
        }
        unreachable!("the last failure ends the round")
    }

    /// What a manifest calls a URL is not asked as it stands: other schemes are not asked at all, and nobody's user and
    /// password are sent.
    #[test]
    fn what_is_asked_of_the_urls() {
        let asked = [
            ("https://a.example/l", "https://a.example/l"),
            ("http://a.example/l?sig=1#x", "http://a.example/l?sig=1"),
            ("https://user:secret@a.example/l", "https://a.example/l"),
            (" HTTPS://A.example:443/l ", "https://a.example/l"),
        ];
        for (text, expected) in asked {
            let places = places(&[text]);
            assert_eq!(all(&places), [expected, "r.example/team/app"], "{text}");
            assert!(places.left_out.is_empty());
        }
        let left_out = [
            ("ftp://u:secret@a.example/l", "ftp://a.example/l: not asked: its scheme is \"ftp\", "),
            ("file:///etc/passwd", "file:///etc/passwd: not asked: its scheme is \"file\", "),
            ("//a.example/l", "//a.example/l: not asked: it is not a URL"),
            ("https://", "https://: not asked: it is not a URL"),
            ("", ": not asked: it is not a URL"),
            ("x:secret@y\u{1b}?sig=1", "x:…: not asked"),
            (
                &format!("https://a.example/{}", "a".repeat(100_000)),
                "…: not asked: no request can be made of it",
            ),
            ("secret@y\u{1b}?sig=1", "y\\u{1b}: not asked"),
        ];
        for (text, expected) in left_out {
            let places = places(&[text]);
            assert_eq!(all(&places), ["r.example/team/app"], "{text}");
            let said: Vec<String> = places.announce().iter().map(ToString::to_string).collect();
            assert!(places.announce().is_empty(), "once is enough");
            assert!(said[0].contains(expected) && !said[0].contains("secret"), "{text}: {said:?}");
            assert!(!said[0].contains("sig=1") && !said[0].contains('\u{1b}'), "{said:?}");
            assert!(!places.is_registry_alone());
        }
        assert_eq!(places(&["https://a.example/", "https://u@a.example/#x"]).len(), 2);
        assert!(places(&[]).is_registry_alone());
    }

    /// A manifest cannot keep a client busy for a day with names of hosts that never answer.
    #[test]
    fn the_urls_are_counted() {
        let urls: Vec<String> = (0..40).map(|number| format!("https://a.example/{number}")).collect();
        let texts: Vec<&str> = urls.iter().map(String::as_str).collect();
        let places = places(&texts);
        assert_eq!(places.len(), MOST_URLS + 1);
        assert!(places.announce()[0].to_string().starts_with("8 more URLs: not asked"));
        let error = loop {
            let at = places.turn().0;
            if let Next::Nowhere(error) = places.failed(at, &status(404, None)) {
                break error.to_string();
            }
        };
        assert!(error.contains("and 26 more; r.example: "), "{error}");
    }

    /// Places are asked in their order; one that said no for good is never asked again, the others are, together.
    #[test]
    fn struck_places_are_left_alone() {
        let places = places(&["https://a.example/", "https://b.example/"]);
        let error = round(&places, &[(0, 404), (1, 503), (2, 404)]);
        assert_eq!(error.disposition(), Disposition::AGAIN);
        assert_eq!(error.kind(), Kind::Network);
        let text = error.to_string();
        for said in ["a.example/: ", "404", "b.example/: ", "503", "r.example: "] {
            assert!(text.contains(said), "{said} in {text}");
        }
        assert_eq!(text.matches("r.example/team/app@sha256:0").count(), 1, "{text}");
        round(&places, &[(1, 503)]);
        let error = round(&places, &[(1, 403)]);
        assert_eq!(error.disposition(), Disposition::Fatal);
        assert_eq!(error.kind(), Kind::NotFound, "as the registry says");
        assert!(!places.any_left());
    }

    /// Two segments that lose the same place cost one place, not two.
    #[test]
    fn segments_side_by_side_move_on_once() {
        let places = places(&["https://a.example/", "https://b.example/"]);
        for _ in 0..2 {
            assert!(matches!(places.failed(0, &status(500, None)), Next::Place));
            assert_eq!(places.turn().0, 1);
        }
        places.serves(1);
        assert!(places.strike_server(0, &*status(500, None)));
        assert!(!places.strike_server(1, &*status(500, None)), "nobody serves any more");
        assert!(
            places.strike_server(0, &*status(500, None)),
            "somebody was struck out for it, and another is left"
        );
        assert_eq!((places.turn().0, places.struck()), (2, 1));
        assert_eq!(places.server(), Some("https://b.example/"), "it sent what came last all the same");
    }

    /// The shortest announced wait is the one to sit out, and only when every place announced one.
    #[test]
    fn announced_waits() {
        for (waits, expected) in [
            ([Some(7), Some(3)], Some(Duration::from_secs(3))),
            ([None, Some(3)], None),
            ([None, None], None),
        ] {
            let places = places(&["https://a.example/"]);
            places.failed(0, &status(503, waits[0]));
            let Next::Nowhere(error) = places.failed(1, &status(503, waits[1])) else { panic!() };
            assert_eq!(error.disposition(), Disposition::Again { after: expected });
        }
    }

    /// A host that is no registry cannot make the exit code say "log in", nor the hint.
    #[test]
    fn the_kind_of_a_blob_that_is_nowhere() {
        let cases = [
            ([401, 404], Kind::NotFound),
            ([404, 401], Kind::Auth),
            ([403, 503], Kind::Network),
            ([429, 404], Kind::Network),
        ];
        for ([url, registry], kind) in cases {
            let places = places(&["https://a.example/"]);
            let error = round(&places, &[(0, url), (1, registry)]);
            assert_eq!(error.kind(), kind, "{url} and {registry}");
            assert_eq!(error.hint().is_some(), kind == Kind::Auth, "{:?}", error.hint());
        }
        let places = places(&["https://a.example/"]);
        places.serves(0);
        let (wanted, found) = (crate::digest::Digest::sha256(b"a"), crate::digest::Digest::sha256(b"b"));
        let mismatch =
            RegistryError::DigestMismatch { about: about(), wanted: wanted.into(), found: found.into() };
        assert!(places.strike_server(0, &mismatch));
        assert_eq!(round(&places, &[(1, 404)]).kind(), Kind::Integrity);
    }

    const MIRRORS: &str = "[[registry]]\nlocation = 'r.example'\n\
        [[registry.mirror]]\nlocation = 'one.example'\n[[registry.mirror]]\nlocation = 'two.example'\n";

    fn mirrored(configuration: &str) -> Places {
        Places::new(route(configuration), "r.example/team/app@sha256:0", &[])
    }

    /// When all fail, the registry's error is the error, and what the mirrors said stands beside it.
    #[test]
    fn the_registry_has_the_last_word() {
        let error = round(&mirrored(MIRRORS), &[(0, 503), (1, 401), (2, 404)]);
        assert_eq!((error.kind(), error.status()), (Kind::NotFound, Some(StatusCode::NOT_FOUND)));
        let text = error.to_string();
        assert!(
            text.contains("answered 404 Not Found; its mirrors failed before it: one.example: "),
            "{text}"
        );
        assert!(text.contains("503") && text.contains("two.example: ") && text.contains("401"), "{text}");
        assert_eq!(error.disposition(), Disposition::Fatal, "a mirror that may come back is not waited for");
    }

    /// A registry that may come back is waited for, and its mirrors are asked once more then, in their order.
    #[test]
    fn the_registry_decides_about_another_round() {
        let places = mirrored(MIRRORS);
        let error = round(&places, &[(0, 503), (1, 404), (2, 503)]);
        assert_eq!((error.kind(), error.disposition()), (Kind::Network, Disposition::AGAIN));
        round(&places, &[(0, 503), (2, 404)]);
    }

    /// A blocked registry is not asked, and its mirrors then are all there is: they are waited for.
    #[test]
    fn a_blocked_registry_is_left_to_its_mirrors() {
        let places = mirrored(&MIRRORS.replacen('\n', "\nblocked = true\n", 1));
        let error = round(&places, &[(0, 503), (1, 404)]);
        assert_eq!((error.kind(), error.disposition()), (Kind::Auth, Disposition::AGAIN));
        let text = error.to_string();
        assert!(
            text.contains("r.example is not asked: the entry \"r.example\" in r.conf blocks it"),
            "{text}"
        );
        round(&places, &[(0, 404)]);
        assert!(!places.any_left());
        let alone = mirrored("[[registry]]\nlocation = 'r.example'\nblocked = true\n");
        assert!(!alone.is_registry_alone() && !alone.any_left());
        assert!(matches!(alone.refusal(), Some(RegistryError::Blocked { .. })));
    }
}
