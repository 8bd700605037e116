//! One question to a registry: the scheme found out, authentication met, redirects followed, no retries.

use std::net::IpAddr;
use std::time::Duration;

use http::header::LOCATION;
use http::{Method, StatusCode};
use url::Url;

use super::auth::{Authenticator, Session, Verdict};
use super::endpoint::Scheme;
use super::error::{RegistryError, shown};
use super::exchange::{Answer, Ask, Client, Identity};
use super::redirect::{Reached, Refusal, Step, Trail};
use super::route::{Target, Trust};
use super::transport;

/// How long the registry's name may take to resolve, where only a redirect's admission depends on it.
const LOOKUP_TIME: Duration = Duration::from_secs(5);

/// A question about a repository. `path` is what follows `/v2/NAME/`, or with a slash in front the whole path; an empty one
/// asks for `/v2/` itself, for which the repository only says where its registry is.
pub(super) struct Attempt<'a> {
    pub(super) client: &'a Client,
    pub(super) authenticator: &'a Authenticator,
    pub(super) target: &'a Target,
    pub(super) ask: Ask<'a>,
    pub(super) path: &'a str,
}

/// The answer, and whether it came from somewhere that the registry redirected to.
pub(super) struct Found {
    pub(super) answer: Answer,
    pub(super) elsewhere: bool,
    /// Whether the request was made as somebody.
    pub(super) authenticated: bool,
}

impl Attempt<'_> {
    /// Asks. Any status that is neither a redirect nor a challenge that can be met is an answer.
    pub(super) async fn run(&self) -> Result<Found, RegistryError> {
        let (endpoints, trust) = (&self.client.endpoints, self.target.trust);
        let endpoint = endpoints.registry(self.target);
        let scheme = || endpoints.scheme(&endpoint, self.target);
        if let Some(scheme) = scheme() {
            return self.run_over(scheme).await;
        }
        let finding_out = endpoint.finding_out.lock().await;
        if let Some(scheme) = scheme() {
            drop(finding_out);
            return self.run_over(scheme).await;
        }
        let (found, settled) = match self.run_over(Scheme::Https).await {
            Err(error) if self.is_for_plain(&error) && scheme().is_none() => {
                tracing::debug!(registry = self.target.repository.api_host(), ?trust, "no TLS: plain http");
                self.run_in_plain(error).await
            }
            found => (found, Scheme::Https),
        };
        if !matches!(found, Err(RegistryError::Network { .. })) {
            endpoint.settle(trust, settled);
        }
        found
    }

    /// Whether an error of https says that plain http is to be tried. Where the port is https's own, the registry in plain
    /// http is behind another one.
    fn is_for_plain(&self, error: &RegistryError) -> bool {
        let is_elsewhere = self.target.trust == Trust::Insecure && self.target.repository.port().is_none();
        error.is_not_tls() || (is_elsewhere && error.is_unconnected())
    }

    /// Asks in plain http, after `error` of https, and says which of the two is the registry's. A handshake that was closed
    /// says little, as servers on their way down close them too; and what speaks TLS answers plain http with 400. So TLS gets a
    /// second chance then, before all that follows goes to the wrong door. Where plain http fails as well, the first failure is the
    /// cause.
    async fn run_in_plain(&self, error: RegistryError) -> (Result<Found, RegistryError>, Scheme) {
        let found = self.run_over(Scheme::Http).await;
        if error.is_closed_handshake() && matches!(found, Err(RegistryError::Network { .. })) {
            return (Err(error), Scheme::Https);
        }
        let is_refused = |found: &Found| found.answer.status() == StatusCode::BAD_REQUEST;
        if !error.is_closed_handshake() || !found.as_ref().is_ok_and(is_refused) {
            return (found, Scheme::Http);
        }
        // Its connection may be the only one that there may be.
        drop(found);
        (self.run_over(Scheme::Https).await, Scheme::Https)
    }

    async fn run_over(&self, scheme: Scheme) -> Result<Found, RegistryError> {
        self.run_at(self.url(scheme)?, self.ask.identity == Identity::Known).await
    }

    /// Asks at `url`, which an earlier answer named, instead of at the path; with credentials only if it is `at_home`,
    /// at the registry itself.
    pub(super) async fn run_at(&self, url: Url, mut at_home: bool) -> Result<Found, RegistryError> {
        let client = &self.client.for_target(self.target);
        let repository = &self.target.repository;
        let mut session = self.authenticator.session(repository, self.scope(), self.ask.subject).await?;
        self.log(client, &url, &session).await?;
        let mut trail = Trail::new(url);
        let mut home = None;
        let mut ask = self.ask.clone();
        loop {
            let authorization = if at_home { session.authorization(client).await? } else { None };
            let authenticated = authorization.is_some();
            let mut answer = client.send(trail.current(), &ask, authorization).await?;
            if at_home && matches!(answer.status().as_u16(), 401 | 403) {
                answer.identity = Some(Box::new(session.identity()));
            }
            let home = home.get_or_insert_with(|| Home::of(&answer));
            let verdict = if at_home { session.judge(client, &answer, home).await? } else { Verdict::Answer };
            match verdict {
                Verdict::Answer => {}
                Verdict::Again => {
                    answer.discard().await;
                    continue;
                }
                // An answer to HEAD has no body to say why; the caller asks again by GET.
                Verdict::Unmet(_) if self.ask.method == Method::HEAD => {}
                Verdict::Unmet(reason) => return Err(unmet(answer, reason).await),
            }
            if !is_redirect(answer.status()) {
                return Ok(Found { answer, elsewhere: !at_home, authenticated });
            }
            let step = follow(client, &mut trail, &answer, Some(home)).await?;
            at_home &= step.same_origin;
            ask.sent_by = Some(transport::authority(&answer.url));
            answer.discard().await;
        }
    }

    /// Says where the question goes, and how.
    async fn log(&self, client: &Client, url: &Url, session: &Session<'_>) -> Result<(), RegistryError> {
        let certificates = client.certificates().await?;
        let credentials = session.identity().origin.map(|origin| origin.to_string());
        tracing::info!(
            method = %self.ask.method,
            url = shown(url),
            role = ?self.target.role,
            trust = ?self.target.trust,
            certificates,
            credentials,
            "asking"
        );
        Ok(())
    }

    /// The path of the repository that is asked about.
    fn scope(&self) -> Option<&str> {
        if self.path.is_empty() { None } else { Some(self.target.repository.path()) }
    }

    fn url(&self, scheme: Scheme) -> Result<Url, RegistryError> {
        let host = self.target.repository.api_host();
        let path = match (self.path, self.scope()) {
            (whole, _) if whole.starts_with('/') => whole.to_owned(),
            (below, Some(name)) => format!("/v2/{name}/{below}"),
            (_, None) => "/v2/".to_owned(),
        };
        let text = format!("{}://{host}{path}", scheme.name());
        Url::parse(&text).map_err(|_| RegistryError::Host {
            subject: self.ask.subject.to_owned(),
            host: crate::text::printable(host),
        })
    }
}

async fn unmet(answer: Answer, reason: &'static str) -> RegistryError {
    let about = answer.about.clone();
    let (codes, identity) = match answer.into_error().await {
        RegistryError::Status { codes, identity, .. } => (codes, identity),
        _ => (Vec::new(), None),
    };
    RegistryError::Unauthorized { about, reason, codes, identity }
}

/// Whether a status sends elsewhere.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Follows a redirect in the business of `home`, the registry; without one nothing leads inside.
pub(super) async fn follow(
    client: &Client,
    trail: &mut Trail,
    answer: &Answer,
    home: Option<&Home>,
) -> Result<Step, RegistryError> {
    let location = answer.header(LOCATION);
    let mut step = trail.follow(location, Reached::Public);
    if let (Err(Refusal::Inside { .. }), Some(home)) = (&step, home) {
        step = trail.follow(location, home.reached(client).await);
    }
    step.map_err(|refusal| RegistryError::Redirect { about: answer.about.clone(), refusal })
}

/// Where the first answer to a question came from.
#[derive(Debug)]
pub(super) struct Home {
    url: Url,
    address: Option<IpAddr>,
}

impl Home {
    pub(super) fn of(answer: &Answer) -> Self {
        Self { url: answer.url.clone(), address: transport::remote(&answer.response) }
    }

    /// The home of whatever a repository's registry hands out, be it here already or not.
    pub(super) fn of_registry(client: &Client, target: &Target) -> Option<Self> {
        let endpoint = client.endpoints.registry(target);
        let scheme = client.endpoints.scheme(&endpoint, target).unwrap_or(Scheme::Https).name();
        let url = Url::parse(&format!("{scheme}://{}/", target.repository.api_host())).ok()?;
        Some(Self { url, address: endpoint.address() })
    }

    /// Whether that is a place inside. Where no connection is known, and through a proxy, the name is resolved, as the
    /// connection's address is the proxy's; a name that does not resolve here counts as public, and so does one that takes its time.
    pub(super) async fn reached(&self, client: &Client) -> Reached {
        if let Some(address) = self.address.filter(|_| !client.is_proxied(&self.url)) {
            return Reached::of([address]);
        }
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = self.url.port_or_known_default().unwrap_or_default();
        match tokio::time::timeout(LOOKUP_TIME, tokio::net::lookup_host((host, port))).await {
            Ok(Ok(addresses)) => Reached::of(addresses.map(|address| address.ip())),
            _ => Reached::Public,
        }
    }
}
