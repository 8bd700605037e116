//! Asking one place after another: a round through [`Places`], and what is asked of the endpoints of a [`Route`].

use std::sync::Arc;

use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::error::{About, RegistryError};
use super::fault::Fault;
use super::places::{Next, Place, Places};
use super::retry::{Budget, Disposition};
use super::route::{Route, Stop};
use super::tried::{Told, explained};
use super::{Notice, Registry};
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::text::printable;

impl Registry {
    /// Asks the endpoints of a route, each as often as [`Registry::retrying`] does, until one answers. `subject` is what
    /// errors say that it is about, and `digest` what notices say.
    ///
    /// # Errors
    /// Those of `ask`; [`RegistryError::Mirrored`] when the registry and its mirrors failed; [`RegistryError::Blocked`].
    pub(super) async fn along<T, F>(
        &self,
        route: Route,
        subject: &str,
        digest: Option<Digest>,
        ask: impl Fn(Stop) -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let places = Places::new(route, subject, &[]);
        let attempt = || self.along_once(&places, subject, &ask);
        self.retrying_places(&Budget::new(), &places, digest, attempt).await
    }

    async fn along_once<T, F>(
        &self,
        places: &Places,
        subject: &str,
        ask: &impl Fn(Stop) -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        if let Some(Place::Endpoint(stop)) = places.alone() {
            return ask(stop.clone()).await;
        }
        places.ready()?;
        loop {
            let (at, place) = places.turn();
            let asked = match (self.passed_over(places, place, subject), place) {
                (None, Place::Endpoint(stop)) => ask(stop.clone()).await,
                (Some(error), _) => Err(error),
                (None, Place::Url(_)) => unreachable!("invariant: a route has endpoints only"),
            };
            if let Some(end) = self.take(places, at, asked).await {
                return end;
            }
        }
    }

    /// Takes what came of the place at `at`: an answer ends the round, and so does an error after which there is no place
    /// to ask. Otherwise it is the next one's turn.
    pub(super) async fn take<T>(
        &self,
        places: &Places,
        at: usize,
        asked: Result<T, RegistryError>,
    ) -> Option<Result<T, RegistryError>> {
        let error = match asked {
            Err(error) => Told::new(error),
            answered => {
                places.serves(at);
                return Some(answered);
            }
        };
        match places.failed(at, &error) {
            Next::Nowhere(error) => return Some(Err(error)),
            Next::Place => self.leave(places, places.at(at), &error).await,
        }
        None
    }

    /// Leaves the mirror whose answer broke off, as `error` says, for this blob and for a while. Says whether there is a place to ask
    /// in its stead.
    pub(super) fn leaves_mirror<E: Failure + 'static>(&self, places: &Places, error: &E) -> bool {
        let Some(at) = places.mirror_breaks_off(error) else { return false };
        let (place, reason) = (places.at(at), explained(error));
        let next = places.name(places.turn().0);
        if self.is_first_complaint(place) {
            self.notice(Notice::Warning(format!("{reason}; asking {next} instead")));
        } else {
            tracing::info!(reason, next, "asking another");
        }
        self.endpoint_of(place).broke_off(Fault::Request(reason));
        true
    }

    /// Why a mirror is not worth a knock: it could not be reached a moment ago, or broke off, or wants to be left alone for now, and
    /// there is its registry.
    pub(super) fn passed_over(&self, places: &Places, place: &Place, subject: &str) -> Option<RegistryError> {
        let Place::Endpoint(stop) = place else { return None };
        let endpoint = self.inner.client.endpoints.registry(&stop.target);
        let held_off = || endpoint.held_off().map(|until| Fault::HeldOff(until - Instant::now()));
        let fault = endpoint.unreachable().or_else(|| endpoint.has_broken_off()).or_else(held_off)?;
        let request = format!("asking {}", stop.target.repository);
        let about = About { subject: subject.to_owned(), request };
        places.is_dispensable(place).then_some(RegistryError::Network { about, fault })
    }

    /// Says that another place is asked, and waits until it may be.
    async fn leave(&self, places: &Places, left: &Place, error: &RegistryError) {
        if let Disposition::Again { after: Some(after) } = error.disposition() {
            let until = Instant::now() + after.min(self.inner.policy.longest_announced);
            self.endpoint_of(left).hold_off(until);
        }
        let (next, place) = places.turn();
        let next = places.name(next);
        if self.is_news(left, error) {
            let login = match error.refused_identity() {
                Some(identity) if left.is_mirror() => {
                    format!(" (for the mirror, run `ocipull login {}`)", printable(&identity.host))
                }
                _ => String::new(),
            };
            self.notice(Notice::Warning(format!("{}{login}; asking {next} instead", explained(error))));
        } else {
            tracing::info!(%error, next, "asking another");
        }
        if !places.is_dispensable(place) {
            self.endpoint_of(place).wait().await;
        }
    }

    /// Waits until the place whose turn it is may be asked, or, where that is a mirror, until it or one of those after it
    /// may: a mirror that has to wait is passed over.
    pub(super) async fn wait_for(&self, places: &Places) {
        loop {
            let until = self.awaited(places).iter().map(|endpoint| endpoint.held_off()).min().flatten();
            let Some(until) = until else { return };
            tokio::time::sleep_until(until).await;
        }
    }

    /// Nobody in this row asks any of its places before `until`.
    pub(super) fn hold_off(&self, places: &Places, until: Instant) {
        self.awaited(places).iter().for_each(|endpoint| endpoint.hold_off(until));
    }

    /// Whose turn it is: one place, or mirrors with the registry that stands behind them.
    fn awaited(&self, places: &Places) -> Vec<Arc<Endpoint>> {
        places.awaited().into_iter().map(|place| self.endpoint_of(place)).collect()
    }

    /// Whether the user should hear of it: of a mirror once, and not that it lacks something.
    fn is_news(&self, left: &Place, error: &RegistryError) -> bool {
        match left {
            Place::Endpoint(_) if left.is_mirror() => {
                error.kind() != Kind::NotFound && self.is_first_complaint(left)
            }
            _ => true,
        }
    }

    fn is_first_complaint(&self, place: &Place) -> bool {
        match place {
            Place::Endpoint(stop) => self.inner.routes.is_first_complaint(&stop.target.repository),
            Place::Url(_) => true,
        }
    }

    /// The state of the host of a place.
    pub(super) fn endpoint_of(&self, place: &Place) -> Arc<Endpoint> {
        let endpoints = &self.inner.client.endpoints;
        match place {
            Place::Url(url) => endpoints.of(url),
            Place::Endpoint(stop) => endpoints.registry(&stop.target),
        }
    }
}
