//! Blobs that live elsewhere: the URLs that a descriptor names, asked like strangers (OCI image spec, "Descriptor").
//!
//! A URL in a manifest is whatever somebody wrote there. So no credentials go to it, be they the registry's or its own;
//! a challenge from it is a failure like any other and no token is asked for (CVE-2020-15157); and neither it nor its
//! redirects lead to an address inside, unless the registry itself was reached at one. What it sends is held to the
//! descriptor's length and ranges as what a registry sends is, and whether it is the blob is `verify`'s to say. Which
//! place is asked when is for [`places`](super::places) to say.

use std::ops::Range;

use url::Url;

use super::attempt::{self, Home};
use super::blob::{self, BlobBody, BlobSource};
use super::error::{About, RegistryError};
use super::exchange::Ask;
use super::places::Place;
use super::redirect::{self, Reached, Refusal, Trail};
use super::transport;
use super::{Notice, Registry};
use crate::failure::{Failure, Kind};

impl Registry {
    /// Asks the blob's places, each once, until one answers.
    ///
    /// # Errors
    /// [`RegistryError::Nowhere`] when none does; [`RegistryError::WrongRange`] of a place that has the blob but does not
    /// answer with the range for the first time. When it does so again, or refuses the whole, it has failed.
    pub(super) async fn open_somewhere(
        &self,
        source: &BlobSource,
        wanted: Option<Range<u64>>,
    ) -> Result<BlobBody, RegistryError> {
        let places = source.places();
        for url in places.announce() {
            self.notice(Notice::Warning(format!("blob {}: {url}", source.digest())));
        }
        places.ready()?;
        loop {
            let (at, place) = places.turn();
            let opened = match (self.passed_over(places, place, source.subject()), place) {
                (Some(error), _) => Err(error),
                (None, Place::Url(url)) => self.open_elsewhere(source, url, wanted.clone()).await,
                (None, Place::Endpoint(stop)) => self.open_at(source, at, &stop.target, wanted.clone()).await,
            };
            let opened = match opened {
                Err(error) if error.is_range_refusal() && wanted.is_some() && places.refuses_range(at) => {
                    places.serves(at);
                    return Err(error);
                }
                opened => opened,
            };
            if let Some(end) = self.take(places, at, opened).await {
                return end;
            }
        }
    }

    /// One request to a URL of the descriptor, redirects included.
    async fn open_elsewhere(
        &self,
        source: &BlobSource,
        url: &Url,
        wanted: Option<Range<u64>>,
    ) -> Result<BlobBody, RegistryError> {
        let client = &self.inner.client;
        let mut ask = Ask { range: wanted.clone(), ..Ask::get(source.subject()) };
        let about = About::new(ask.subject, &ask.method, url);
        let refused = |refusal| RegistryError::Elsewhere { about, refusal };
        let home = source.registry().and_then(|target| Home::of_registry(client, target));
        if let Err(refusal) = redirect::permitted_elsewhere(url, Reached::Public) {
            let reached = match (&home, &refusal) {
                (Some(home), Refusal::Inside { .. }) => home.reached(client).await,
                _ => Reached::Public,
            };
            redirect::permitted_elsewhere(url, reached).map_err(refused)?;
        }
        let mut trail = Trail::new(url.clone());
        loop {
            let answer = client.send(trail.current(), &ask, None).await?;
            if !attempt::is_redirect(answer.status()) {
                return blob::body(answer, wanted.as_ref(), source.size()).await;
            }
            attempt::follow(client, &mut trail, &answer, home.as_ref()).await?;
            ask.sent_by = Some(transport::authority(&answer.url));
            answer.discard().await;
        }
    }
}

impl BlobSource {
    /// Whether the blob has URLs or mirrors beside its registry to choose from, or nothing that may be asked.
    pub(super) fn is_elsewhere(&self) -> bool {
        !self.places().is_registry_alone()
    }

    /// How many places the blob may be had from: its URLs, the mirrors and its registry.
    pub fn place_count(&self) -> usize {
        self.places().len()
    }

    /// Who sent the bytes that came last, fit to be shown: the registry's host, or a URL without its query.
    pub fn server(&self) -> &str {
        self.places().server().unwrap_or_else(|| self.repository().host())
    }

    /// The place whose bytes came last sent wrong ones, as `error` says: it is not asked again. `struck` is what
    /// [`BlobSource::struck`] said before the first of them came: a place may have been given up since. Says whether
    /// another place is left; the blob is to be asked for from its first byte then.
    pub fn distrust(&self, struck: usize, error: &(impl Failure + 'static)) -> bool {
        self.is_elsewhere() && self.places().strike_server(struck, error)
    }

    /// How many of the blob's places were given up for good.
    pub fn struck(&self) -> usize {
        self.places().struck()
    }

    /// The place whose answer was used last did not keep to the range that it was asked for, as `error` says. When it does
    /// so again, the next place is asked.
    pub fn refuses_range(&self, error: &(impl Failure + 'static)) {
        if self.is_elsewhere() {
            self.places().server_refuses_range(error);
        }
    }

    /// What every place said, when the blob is to be had from none of several.
    pub fn nowhere(&self) -> Option<RegistryError> {
        self.is_elsewhere().then(|| self.places().exhausted())
    }
}

/// What the end of a row of tries means for a blob with several places.
pub(super) enum Onward<E> {
    /// Another place is asked, with a full budget, because of this: the place that is left, and why.
    Another(String),
    /// That was all.
    End(E),
}

/// Decides about a row of tries that ended with `error`, `struck` places having been struck out when its last began.
pub(super) fn onward<E>(source: &BlobSource, struck: usize, error: E) -> Onward<E>
where
    E: Failure + From<RegistryError> + 'static,
{
    // A full disk here is no other place's business.
    if !source.is_elsewhere() || !matches!(error.kind(), Kind::Network | Kind::Integrity) {
        return Onward::End(error);
    }
    let places = source.places();
    let is_body = places.is_served();
    if places.struck() > struck && places.any_left() {
        return Onward::Another(super::tried::explained(&error));
    }
    if places.strike_server(struck, &error) {
        let (left, reason) = (source.server(), super::tried::explained(&error));
        let named = if reason.contains(left) { reason } else { format!("{left}: {reason}") };
        return Onward::Another(named);
    }
    Onward::End(if is_body { places.exhausted().into() } else { error })
}
