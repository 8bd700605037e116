//! Which endpoints a repository is asked for at, as the configuration has it: [`Routes`].
//!
//! A [`Route`] is a list of [`Stop`]s, the mirrors first and the registry itself last. What has a digest is asked for at all
//! that may serve it, a tag at those that may resolve it; a mirror that resolved a tag is asked for what the tag stands for
//! too, for it may be the only one that has it. Lists (of tags, of referrers, of signatures) prove nothing by a digest, so
//! that the registry itself is asked for them, and a mirror only where the registry is blocked.
//!
//! In which order the stops of a route are tried after failures is for [`places`](super::places) to say.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::config::registries_conf::{
    Blocked, Candidates, EndpointConfig, Registries, RegistriesConfError, Use,
};
use super::error::RegistryError;
use super::tls::ServerVerification;
use crate::digest::Digest;
use crate::reference::{Reference, Repository};

/// A repository at the host that is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) repository: Repository,
    pub(super) role: Role,
    pub(super) trust: Trust,
}

/// What an endpoint is for the repository that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Role {
    /// Its registry.
    #[default]
    Registry,
    Mirror,
}

/// What a server must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Trust {
    /// Whatever the options say.
    #[default]
    Verified,
    /// Nothing: the configuration calls the endpoint `insecure`. It may speak plain http too.
    Insecure,
}

/// One endpoint of a route.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    /// What is asked for there.
    pub(super) reference: Reference,
    pub(super) target: Target,
    /// Why it must not be asked, where it must not.
    pub(super) refused: Option<Refused>,
    for_what: Use,
}

/// Why an endpoint must not be asked.
#[derive(Debug, Clone)]
pub(super) enum Refused {
    Blocked(Blocked),
    /// The configuration makes no sense for what is asked for.
    Unusable(Arc<RegistriesConfError>),
}

impl Stop {
    fn of(endpoint: EndpointConfig, verification: ServerVerification) -> Self {
        let insecure = endpoint.insecure && verification != ServerVerification::Insisted;
        Self {
            target: Target {
                repository: endpoint.reference.repository().clone(),
                role: if endpoint.is_mirror { Role::Mirror } else { Role::Registry },
                trust: if insecure { Trust::Insecure } else { Trust::Verified },
            },
            reference: endpoint.reference,
            refused: endpoint.blocked.map(Refused::Blocked),
            for_what: endpoint.for_what,
        }
    }

    /// The error of asking there where that is forbidden.
    pub(super) fn refusal(&self, subject: &str) -> Option<RegistryError> {
        let subject = subject.to_owned();
        Some(match self.refused.clone()? {
            Refused::Blocked(Blocked { prefix, path }) => {
                let host = self.target.repository.host().to_owned();
                RegistryError::Blocked { subject, host, prefix, path }
            }
            Refused::Unusable(source) => RegistryError::Configuration { subject, source },
        })
    }

    /// The registry of a reference for which the configuration makes no sense.
    fn unusable(reference: &Reference, error: RegistriesConfError) -> Self {
        let (role, trust) = (Role::Registry, Trust::Verified);
        Self {
            target: Target { repository: reference.repository().clone(), role, trust },
            reference: reference.clone(),
            refused: Some(Refused::Unusable(Arc::new(error))),
            for_what: Use::Everything,
        }
    }
}

/// The endpoints of one question, in their order.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) stops: Vec<Stop>,
}

/// The configuration, and what was learnt of its mirrors.
#[derive(Debug)]
pub(super) struct Routes {
    registries: Arc<Registries>,
    verification: ServerVerification,
    /// The mirrors that resolved a tag of a repository without being asked for digests in general.
    resolvers: Mutex<HashMap<Repository, Vec<Stop>>>,
    /// The mirrors that somebody heard a complaint about.
    complaints: Mutex<HashSet<String>>,
}

impl Routes {
    pub(super) fn new(registries: Arc<Registries>, verification: ServerVerification) -> Self {
        Self { registries, verification, resolvers: Mutex::default(), complaints: Mutex::default() }
    }

    /// Where a reference is resolved.
    pub(super) fn resolving(&self, reference: &Reference) -> Route {
        let mut stops = self.stops(reference);
        if reference.digest().is_none() {
            stops.retain(|stop| stop.for_what != Use::Digests);
        }
        Route { stops }
    }

    /// Where something in `repository` that has a digest is asked for.
    pub(super) fn serving(&self, repository: &Repository, digest: &Digest) -> Route {
        let mut stops = self.stops(&Reference::new(repository.clone(), None, Some(*digest)));
        let resolvers = self.resolvers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |stop: &&Stop| !stops.iter().any(|other| other.target == stop.target);
        let more: Vec<Stop> =
            resolvers.get(repository).into_iter().flatten().filter(known).cloned().collect();
        stops.splice(0..0, more);
        Route { stops }
    }

    /// Where a list of something in `repository` is asked for.
    ///
    /// # Errors
    /// [`RegistryError::Configuration`] and [`RegistryError::Blocked`] where there is nowhere to ask.
    pub(super) fn listing(&self, repository: &Repository) -> Result<Target, RegistryError> {
        let mut stops = self.resolving(&Reference::new(repository.clone(), None, None)).stops;
        let primary = stops.pop().expect("invariant: the registry itself is the last stop");
        let Some(refusal) = primary.refusal(&repository.to_string()) else { return Ok(primary.target) };
        let mirror = stops.into_iter().find(|stop| stop.refused.is_none());
        mirror.map(|mirror| mirror.target).ok_or(refusal)
    }

    /// The registry of `repository` itself, whatever stands for it, as one logs in to it.
    ///
    /// # Errors
    /// [`RegistryError::Configuration`] and [`RegistryError::Blocked`].
    pub(super) fn itself(&self, repository: &Repository) -> Result<Target, RegistryError> {
        let reference = Reference::new(repository.clone(), None, None);
        let primary = self.stops(&reference).pop().expect("invariant: the registry itself is the last stop");
        match primary.refusal(repository.host()) {
            Some(refusal) => Err(refusal),
            None => Ok(Target { repository: repository.clone(), ..primary.target }),
        }
    }

    /// What a reference may mean.
    ///
    /// # Errors
    /// [`RegistryError::Configuration`].
    pub(super) fn candidates(&self, reference: &Reference) -> Result<Candidates, RegistryError> {
        self.registries.candidates(reference).map_err(|error| RegistryError::Configuration {
            subject: reference.written_path().to_owned(),
            source: Arc::new(error),
        })
    }

    /// A tag of `repository` was resolved at `stop`.
    pub(super) fn resolved(&self, repository: &Repository, stop: &Stop) {
        if stop.target.role == Role::Registry {
            return;
        }
        let mut resolvers = self.resolvers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = resolvers.entry(repository.clone()).or_default();
        if !known.iter().any(|other| other.target == stop.target) {
            known.push(stop.clone());
        }
    }

    /// Whether a complaint about a mirror is news.
    pub(super) fn is_first_complaint(&self, mirror: &Repository) -> bool {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.insert(mirror.host().to_owned())
    }

    /// At least one: the last is the registry itself.
    fn stops(&self, reference: &Reference) -> Vec<Stop> {
        match self.registries.endpoints(reference) {
            Ok(endpoints) => {
                endpoints.into_iter().map(|endpoint| Stop::of(endpoint, self.verification)).collect()
            }
            Err(error) => vec![Stop::unusable(reference, error)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(text: &str) -> Routes {
        let registries = Registries::merge([("r.conf".into(), text.to_owned())]).unwrap();
        Routes::new(Arc::new(registries), ServerVerification::default())
    }

    fn hosts(route: &Route) -> Vec<&str> {
        route.stops.iter().map(|stop| stop.target.repository.host()).collect()
    }

    const MIXED: &str = "[[registry]]\nlocation = 'r.example'\n\
        [[registry.mirror]]\nlocation = 'd.example'\npull-from-mirror = 'digest-only'\n\
        [[registry.mirror]]\nlocation = 't.example'\npull-from-mirror = 'tag-only'\ninsecure = true\n\
        [[registry.mirror]]\nlocation = 'a.example'\n";

    /// A mirror for digests only never says what a tag stands for; one for tags serves what it resolved.
    #[test]
    fn tags_and_digests_go_different_ways() {
        let routes = routes(MIXED);
        let (tagged, digest) = ("r.example/a:1".parse().unwrap(), Digest::sha256(b""));
        let resolving = routes.resolving(&tagged);
        assert_eq!(hosts(&resolving), ["t.example", "a.example", "r.example"]);
        let pinned = routes.resolving(&tagged.with_digest(digest));
        assert_eq!(hosts(&pinned), ["d.example", "a.example", "r.example"]);
        let serving = || routes.serving(tagged.repository(), &digest);
        assert_eq!(hosts(&serving()), ["d.example", "a.example", "r.example"]);
        routes.resolved(tagged.repository(), &resolving.stops[0]);
        routes.resolved(tagged.repository(), &resolving.stops[0]);
        routes.resolved(tagged.repository(), &resolving.stops[2]);
        assert_eq!(hosts(&serving()), ["t.example", "d.example", "a.example", "r.example"]);
        assert_eq!(serving().stops[0].target.trust, Trust::Insecure);
        let other = "r.example/b".parse().unwrap();
        assert_eq!(hosts(&routes.serving(&other, &digest)), ["d.example", "a.example", "r.example"]);
    }

    /// `--tls-verify=true` is stronger than the configuration, as it is for podman.
    #[test]
    fn verification_that_is_insisted_upon() {
        let registries = Arc::clone(&routes(MIXED).registries);
        let routes = Routes::new(registries, ServerVerification::Insisted);
        let route = routes.resolving(&"r.example/a:1".parse().unwrap());
        assert!(route.stops.iter().all(|stop| stop.target.trust == Trust::Verified));
    }

    /// Lists are the registry's own, unless nobody may ask it.
    #[test]
    fn lists_come_from_the_registry() {
        let host = |routes: &Routes, name: &str| {
            routes.listing(&name.parse().unwrap()).map(|target| target.repository.to_string())
        };
        assert_eq!(host(&routes(MIXED), "r.example/a").unwrap(), "r.example/a");
        let blocked = routes(&MIXED.replacen('\n', "\nblocked = true\n", 1));
        assert_eq!(host(&blocked, "r.example/a").unwrap(), "t.example/a");
        let nowhere = routes("[[registry]]\nlocation = 'r.example'\nblocked = true\n");
        assert!(matches!(host(&nowhere, "r.example/a"), Err(RegistryError::Blocked { .. })));
    }
}
