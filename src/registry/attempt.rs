//! One question to a registry: the scheme found out, authentication met, redirects followed, no retries.

use std::net::IpAddr;
use std::time::Duration;

use http::header::LOCATION;
use http::{Method, StatusCode};
use url::Url;

use super::auth::{Authenticator, Verdict};
use super::endpoint::Scheme;
use super::error::RegistryError;
use super::exchange::{Answer, Ask, Client};
use super::redirect::{Reached, Refusal, Step, Trail};
use crate::reference::Repository;

/// How long the registry's name may take to resolve, where only a redirect's admission depends on it.
const LOOKUP_TIME: Duration = Duration::from_secs(5);

/// A question about a repository, `path` being what follows `/v2/NAME/`.
pub(super) struct Attempt<'a> {
    pub(super) client: &'a Client,
    pub(super) authenticator: &'a Authenticator,
    pub(super) repository: &'a Repository,
    pub(super) ask: Ask<'a>,
    pub(super) path: &'a str,
}

/// The answer, and whether it came from somewhere that the registry redirected to.
pub(super) struct Found {
    pub(super) answer: Answer,
    pub(super) elsewhere: bool,
}

impl Attempt<'_> {
    /// Asks. Any status that is neither a redirect nor a challenge that can be met is an answer.
    pub(super) async fn run(&self) -> Result<Found, RegistryError> {
        let endpoint = self.client.endpoints.registry(self.repository);
        if let Some(scheme) = endpoint.scheme() {
            return self.run_over(scheme).await;
        }
        let finding_out = endpoint.finding_out.lock().await;
        if let Some(scheme) = endpoint.scheme() {
            drop(finding_out);
            return self.run_over(scheme).await;
        }
        match self.run_over(Scheme::Https).await {
            Err(error) if error.is_not_tls() && endpoint.scheme().is_none() => {
                tracing::debug!(registry = self.repository.api_host(), "no TLS on loopback: plain http");
                let found = self.run_over(Scheme::Http).await;
                if !matches!(found, Err(RegistryError::Network { .. })) {
                    endpoint.settle(Scheme::Http);
                }
                found
            }
            found => {
                if !matches!(found, Err(RegistryError::Network { .. })) {
                    endpoint.settle(Scheme::Https);
                }
                found
            }
        }
    }

    async fn run_over(&self, scheme: Scheme) -> Result<Found, RegistryError> {
        let mut trail = Trail::new(self.url(scheme)?);
        let mut session = self.authenticator.session(self.repository, self.ask.subject).await?;
        let mut home = None;
        let mut at_home = true;
        loop {
            let authorization = if at_home { session.authorization(self.client).await? } else { None };
            let answer = self.client.send(trail.current(), &self.ask, authorization).await?;
            let home = home.get_or_insert_with(|| Home::of(&answer));
            let verdict =
                if at_home { session.judge(self.client, &answer, home).await? } else { Verdict::Answer };
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
                return Ok(Found { answer, elsewhere: !at_home });
            }
            let step = follow(self.client, &mut trail, &answer, home).await?;
            at_home = step.same_origin;
            answer.discard().await;
        }
    }

    fn url(&self, scheme: Scheme) -> Result<Url, RegistryError> {
        let host = self.repository.api_host();
        let text = format!("{}://{host}/v2/{}/{}", scheme.name(), self.repository.path(), self.path);
        Url::parse(&text).map_err(|_| RegistryError::Host {
            subject: self.ask.subject.to_owned(),
            host: crate::text::printable(host),
        })
    }
}

async fn unmet(answer: Answer, reason: &'static str) -> RegistryError {
    let about = answer.about.clone();
    let codes = match answer.into_error().await {
        RegistryError::Status { codes, .. } => codes,
        _ => Vec::new(),
    };
    RegistryError::Unauthorized { about, reason, codes }
}

/// Whether a status sends elsewhere.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Follows a redirect of one whose first answer came from `home`.
pub(super) async fn follow(
    client: &Client,
    trail: &mut Trail,
    answer: &Answer,
    home: &Home,
) -> Result<Step, RegistryError> {
    let location = answer.header(LOCATION);
    let mut step = trail.follow(location, Reached::Public);
    if matches!(step, Err(Refusal::Inside { .. })) {
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
        let address = answer.response.remote_addr().map(|address| address.ip());
        Self { url: answer.url.clone(), address }
    }

    /// Whether that is a place inside. Through a proxy the name is resolved, as the connection's address is the
    /// proxy's; a name that does not resolve here counts as public, and so does one that takes its time.
    pub(super) async fn reached(&self, client: &Client) -> Reached {
        if !client.is_proxied(&self.url) {
            return Reached::of(self.address);
        }
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = self.url.port_or_known_default().unwrap_or_default();
        match tokio::time::timeout(LOOKUP_TIME, tokio::net::lookup_host((host, port))).await {
            Ok(Ok(addresses)) => Reached::of(addresses.map(|address| address.ip())),
            _ => Reached::Public,
        }
    }
}
