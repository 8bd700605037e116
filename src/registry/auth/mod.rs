//! Authentication: what a registry's challenge asks for, and what it gets.
//!
//! A first request goes without credentials; its 401 says what is wanted. What it said is remembered for the registry
//! and the repository, tokens for as long as they live, so that later requests go with the right header at once. One
//! token is asked for at a time for one purpose, on behalf of all who wait for it. One that turns out not to be good for
//! enough (`insufficient_scope`) is replaced once by one for more. A token may be renewed as often as it expires: a 401 gets a new one,
//! and so does a 400 or a 403 to a token from the cache, both of which registries in the wild answer to tokens that
//! have expired. Two refusals in a row of one request are final.
//!
//! Credentials go to the origin that they are for and to the token service that its challenge names, never to a
//! service in plain http that a registry in https names. Where the credentials come from is [`CredentialSource`]'s.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Method, StatusCode};
use tokio::sync::OnceCell;
use url::Url;

use super::attempt::{self, Home};
use super::error::RegistryError;
use super::exchange::{Answer, Ask, Client};
use super::proxy;
use super::redirect::{self, Reached, Refusal, Trail};
use super::transport;
use crate::reference::Repository;

mod challenge;
mod configured;
mod credential;
mod document;
mod file;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod helper;
mod logins;
mod resolution;
mod running;
mod scope;
mod token;

pub use challenge::Challenge;
pub use configured::ConfiguredCredentials;
pub use credential::{
    Anonymous, CredentialError, CredentialOrigin, CredentialSource, Credentials, FoundCredentials, Given,
    Identity,
};
pub use file::{AuthFile, BrokenEntry, Candidate, FileForm};
pub use helper::{HelperError, Helpers, Inquiry};
pub use logins::{LoginError, Logins};
pub use resolution::{AUTH_FILES, Environment, Location, Surroundings, resolve};
pub use running::end_helpers;
use scope::Asker;
use token::{Token, TokenRequest};

/// How often one request may be refused with something that should have been enough.
const REFUSALS: u32 = 2;

/// How many tokens of other requests may turn out to be of no use.
const OUTDATED: u32 = 8;

/// What a registry wants to see.
#[derive(Debug)]
enum Plan {
    Basic,
    Bearer(TokenRequest),
}

/// The registry's host and the repository's path.
type Place = (String, String);

/// What was learnt of one repository's registry.
#[derive(Default)]
struct Known {
    credentials: OnceCell<Option<FoundCredentials>>,
    /// The program of a helper that would have been asked for them.
    missing_helper: OnceLock<String>,
    plan: Mutex<Option<Arc<Plan>>>,
    tokens: Mutex<HashMap<TokenRequest, Arc<Cell>>>,
}

/// The token for one purpose.
#[derive(Default)]
struct Cell {
    /// How often asking for it has failed.
    failures: AtomicU64,
    /// Locked while the token is asked for.
    outcome: tokio::sync::Mutex<Outcome>,
}

/// What came of asking for a token the last time.
#[derive(Default)]
enum Outcome {
    #[default]
    Nothing,
    Had(Token),
    Failed(Arc<RegistryError>),
}

/// Knows the credentials, challenges and tokens of all repositories.
pub(super) struct Authenticator {
    source: Arc<dyn CredentialSource>,
    known: Mutex<HashMap<Place, Arc<Known>>>,
}

impl Authenticator {
    pub(super) fn new(source: Arc<dyn CredentialSource>) -> Self {
        Self { source, known: Mutex::default() }
    }

    /// What one request to the repository's registry is to be authenticated with. `scope` is the path of the repository
    /// that it is about, where it is about one.
    pub(super) async fn session<'a>(
        &self,
        repository: &'a Repository,
        scope: Option<&'a str>,
        subject: &'a str,
    ) -> Result<Session<'a>, RegistryError> {
        let known = self.known(repository);
        known.credentials.get_or_try_init(|| self.read_credentials(repository)).await?;
        if let Some(program) = self.source.missing_helper() {
            known.missing_helper.get_or_init(|| program);
        }
        Ok(Session {
            known,
            repository,
            scope,
            subject,
            used: Used::Nothing,
            refused: None,
            refusals: 0,
            outdated: 0,
            is_widened: false,
        })
    }

    fn known(&self, repository: &Repository) -> Arc<Known> {
        let place = (repository.host().to_owned(), repository.path().to_owned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(place).or_default())
    }

    async fn read_credentials(
        &self,
        repository: &Repository,
    ) -> Result<Option<FoundCredentials>, RegistryError> {
        let (source, asked) = (Arc::clone(&self.source), repository.clone());
        let read = tokio::task::spawn_blocking(move || source.credentials(&asked)).await;
        let read = read.unwrap_or_else(|panicked| Err(CredentialError::Source(Box::new(panicked))));
        let read =
            read.map_err(|source| RegistryError::Credentials { repository: repository.to_string(), source })?;
        if let Some(found) = &read {
            tracing::info!(host = repository.host(), source = %found.origin, "credentials found");
        } else {
            tracing::info!(host = repository.host(), "no credentials found");
        }
        Ok(read)
    }
}

/// What a request went with.
#[derive(Debug)]
enum Used {
    Nothing,
    Basic,
    /// A bearer token that the user gave.
    Given,
    Token {
        token: Token,
        cached: bool,
        plan: Arc<Plan>,
    },
}

/// What an answer means for the request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is the answer.
    Answer,
    /// Send it again, with what [`Session::authorization`] gives then.
    Again,
    /// It asks for something that cannot be given.
    Unmet(&'static str),
}

/// The authentication of one request, over its tries.
pub(super) struct Session<'a> {
    known: Arc<Known>,
    repository: &'a Repository,
    /// The path of the repository that tokens are to be good for.
    scope: Option<&'a str>,
    subject: &'a str,
    used: Used,
    refused: Option<Token>,
    refusals: u32,
    outdated: u32,
    /// Whether a token for more was asked for, because the first one was not good for enough.
    is_widened: bool,
}

impl Session<'_> {
    fn credentials(&self) -> Option<&Credentials> {
        self.found().map(|found| &found.credentials)
    }

    fn found(&self) -> Option<&FoundCredentials> {
        self.known.credentials.get().and_then(Option::as_ref)
    }

    /// Who asks, for the error of a request that the registry refuses.
    pub(super) fn identity(&self) -> Identity {
        let origin = self.found().map(|found| found.origin.clone());
        let missing_helper = self.known.missing_helper.get().cloned();
        Identity { host: self.repository.host().to_owned(), origin, missing_helper }
    }

    fn plan(&self) -> Option<Arc<Plan>> {
        self.known.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The header to send, as far as it is known by now what is wanted.
    pub(super) async fn authorization(
        &mut self,
        client: &Client,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let plan = self.plan();
        let (used, header) = match (self.credentials(), plan.as_deref()) {
            (Some(Credentials::RegistryToken(token)), _) => (Used::Given, token::bearer(token)),
            (_, Some(Plan::Bearer(request))) => {
                let (token, cached) = self.token(client, request).await?;
                let header = token.header();
                let plan = plan.expect("invariant: it was just looked into");
                (Used::Token { token, cached, plan }, Some(header))
            }
            (Some(Credentials::Basic { username, password }), Some(Plan::Basic)) => {
                (Used::Basic, Some(token::basic(username, password)))
            }
            _ => (Used::Nothing, None),
        };
        self.used = used;
        Ok(header)
    }

    /// What an answer means.
    ///
    /// # Errors
    /// When the token service that it names is not to be asked.
    pub(super) async fn judge(
        &mut self,
        client: &Client,
        answer: &Answer,
        home: &Home,
    ) -> Result<Verdict, RegistryError> {
        if let Some(wider) = self.wider(answer) {
            self.is_widened = true;
            return Ok(self.follow(Plan::Bearer(wider)));
        }
        let unauthorized = answer.status() == StatusCode::UNAUTHORIZED;
        let expired = matches!(answer.status(), StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN)
            && matches!(self.used, Used::Token { cached: true, .. });
        if !unauthorized && !expired {
            return Ok(Verdict::Answer);
        }
        if !matches!(self.used, Used::Nothing) {
            // A token that another request fetched meanwhile may be used up or out of time by now, which says nothing
            // of the next one; two that must be good say enough.
            let is_others = matches!(self.used, Used::Token { cached: true, .. });
            let limit = if is_others && self.refusals > 0 { &mut self.outdated } else { &mut self.refusals };
            *limit += 1;
            if self.refusals >= REFUSALS || self.outdated >= OUTDATED {
                return Ok(Verdict::Answer);
            }
        }
        match &self.used {
            Used::Given => Ok(Verdict::Answer),
            Used::Nothing => match self.choose(client, answer, home).await? {
                Ok(plan) => Ok(self.follow(plan)),
                Err(reason) => Ok(Verdict::Unmet(reason)),
            },
            Used::Basic => match self.choose(client, answer, home).await? {
                Ok(plan @ Plan::Bearer(_)) => Ok(self.follow(plan)),
                _ => Ok(Verdict::Answer),
            },
            Used::Token { token, .. } => {
                self.refused = Some(token.clone());
                // The second challenge may ask for more than the first; one that asks for nothing changes nothing.
                if unauthorized && let Ok(plan) = self.choose(client, answer, home).await? {
                    self.follow(plan);
                }
                Ok(Verdict::Again)
            }
        }
    }

    /// What to ask for instead of the token that was not good for enough, once for each request. The token service stays the
    /// one that was asked.
    fn wider(&self, answer: &Answer) -> Option<TokenRequest> {
        let (request, path) = (self.used_request()?, self.scope?);
        let is_refusal = matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if self.is_widened || !is_refusal {
            return None;
        }
        challenges(answer).iter().find_map(|challenge| request.widened(challenge, path, self.asker()))
    }

    fn asker(&self) -> Asker {
        if self.credentials().is_some() { Asker::Somebody } else { Asker::Nobody }
    }

    fn follow(&self, plan: Plan) -> Verdict {
        *self.known.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
        Verdict::Again
    }

    fn used_request(&self) -> Option<&TokenRequest> {
        match &self.used {
            Used::Token { plan, .. } => match &**plan {
                Plan::Bearer(request) => Some(request),
                Plan::Basic => None,
            },
            _ => None,
        }
    }

    /// The challenge that can be met, Bearer before Basic; or why there is none.
    async fn choose(
        &self,
        client: &Client,
        answer: &Answer,
        home: &Home,
    ) -> Result<Result<Plan, &'static str>, RegistryError> {
        let challenges = challenges(answer);
        let mut bearer = challenges.iter().filter(|challenge| challenge.scheme == "bearer");
        if let Some(request) = bearer.find_map(|c| TokenRequest::new(c, self.scope, self.asker())) {
            permit_realm(client, answer, &request.realm, home).await?;
            return Ok(Ok(Plan::Bearer(match self.used_request() {
                Some(earlier) => request.in_place_of(earlier),
                None => request,
            })));
        }
        let basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        Ok(match self.credentials() {
            Some(Credentials::Basic { .. }) if basic => Ok(Plan::Basic),
            Some(_) if basic => Err("by a user and a password, and a token was given"),
            None if basic => Err("and no user and password were given"),
            _ if challenges.is_empty() => Err("and the registry does not say how"),
            _ => Err("of a kind that is not supported"),
        })
    }

    /// A token, and whether it was there already. A refused one is replaced, unless that has happened in the meantime. Whoever
    /// waited while it was asked for in vain gets the same error: a service that refuses or is overloaded is asked once.
    async fn token(&self, client: &Client, request: &TokenRequest) -> Result<(Token, bool), RegistryError> {
        let cell = {
            let mut tokens = self.known.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(tokens.entry(request.clone()).or_default())
        };
        let failures = cell.failures.load(Ordering::Acquire);
        let mut outcome = cell.outcome.lock().await;
        let refused = |token: &Token| self.refused.as_ref().is_some_and(|refused| refused.is_same_as(token));
        match &*outcome {
            Outcome::Had(token) if !token.has_expired() && !refused(token) => {
                return Ok((token.clone(), true));
            }
            Outcome::Failed(error) if cell.failures.load(Ordering::Acquire) > failures => {
                return Err(self.no_token(Arc::clone(error)));
            }
            _ => *outcome = Outcome::Nothing,
        }
        tracing::info!(
            repository = %self.repository,
            realm = request.realm.authority(),
            scope = request.scopes.texts().join(" "),
            credentials = self.found().map(|found| found.origin.to_string()),
            "asking for a token"
        );
        match self.fetch(client, request).await {
            Ok(token) => {
                *outcome = Outcome::Had(token.clone());
                Ok((token, false))
            }
            Err(error) => {
                let error = Arc::new(error);
                *outcome = Outcome::Failed(Arc::clone(&error));
                cell.failures.fetch_add(1, Ordering::Release);
                Err(self.no_token(error))
            }
        }
    }

    fn no_token(&self, source: Arc<RegistryError>) -> RegistryError {
        let identity = Some(Box::new(self.identity()));
        RegistryError::Token { subject: self.subject.to_owned(), identity, source }
    }

    async fn fetch(&self, client: &Client, request: &TokenRequest) -> Result<Token, RegistryError> {
        let (account, secret) = match self.credentials() {
            Some(Credentials::Basic { username, password }) => (Some(username.as_str()), Some(password)),
            Some(Credentials::IdentityToken { username, token }) => {
                if let Some(token) = self.exchange(client, request, token).await? {
                    return Ok(token);
                }
                (username.as_deref(), Some(token))
            }
            Some(Credentials::RegistryToken(_)) | None => (None, None),
        };
        let authorization = secret.map(|secret| token::basic(account.unwrap_or_default(), secret));
        let answer = get(client, self.subject, request.url(account), authorization).await?;
        read(answer).await
    }

    /// Exchanges an identity token; `None` where the service knows no such exchange, as GCR (404), Artifactory (401),
    /// ACR (400) and services that only know GET (405) say it.
    async fn exchange(
        &self,
        client: &Client,
        request: &TokenRequest,
        identity_token: &str,
    ) -> Result<Option<Token>, RegistryError> {
        let form = Some(request.form(identity_token));
        let ask = Ask { method: Method::POST, form, ..Ask::get(self.subject) };
        let answer = client.send(&request.realm, &ask, None).await?;
        if matches!(answer.status().as_u16(), 400 | 401 | 404 | 405) {
            answer.discard().await;
            return Ok(None);
        }
        read(answer).await.map(Some)
    }
}

fn challenges(answer: &Answer) -> Vec<Challenge> {
    let lines = answer.response.headers().get_all(WWW_AUTHENTICATE);
    Challenge::parse_all(lines.iter().map(|line| String::from_utf8_lossy(line.as_bytes())))
}

/// Whether the token service that a challenge names may be asked.
async fn permit_realm(
    client: &Client,
    answer: &Answer,
    realm: &Url,
    home: &Home,
) -> Result<(), RegistryError> {
    let about = || answer.about.clone();
    let mut permission = redirect::permitted(&answer.url, realm, Reached::Public);
    if matches!(permission, Err(Refusal::Inside { .. })) {
        permission = redirect::permitted(&answer.url, realm, home.reached(client).await);
    }
    permission.map_err(|refusal| match refusal {
        Refusal::Downgrade { host } => RegistryError::RealmInPlain { about: about(), host },
        refusal => RegistryError::Realm { about: about(), refusal },
    })?;
    let is_loopback = realm.host().is_some_and(|host| proxy::is_loopback(&host));
    if realm.scheme() == "http" && !is_loopback && !client.may_be_plain() {
        let host = crate::text::printable(realm.host_str().unwrap_or_default());
        return Err(RegistryError::RealmInPlain { about: about(), host });
    }
    Ok(())
}

/// A GET that follows redirects, its credentials staying at the origin that they are for.
pub(super) async fn get(
    client: &Client,
    subject: &str,
    url: Url,
    authorization: Option<HeaderValue>,
) -> Result<Answer, RegistryError> {
    let mut trail = Trail::new(url);
    let mut authorization = authorization;
    let mut home = None;
    let mut ask = Ask::get(subject);
    loop {
        let answer = client.send(trail.current(), &ask, authorization.clone()).await?;
        if !attempt::is_redirect(answer.status()) {
            return Ok(answer);
        }
        let home = home.get_or_insert_with(|| Home::of(&answer));
        let step = attempt::follow(client, &mut trail, &answer, Some(home)).await?;
        if !step.same_origin {
            authorization = None;
        }
        ask.sent_by = Some(transport::authority(&answer.url));
        answer.discard().await;
    }
}

async fn read(answer: Answer) -> Result<Token, RegistryError> {
    if !answer.status().is_success() {
        return Err(answer.into_error().await);
    }
    let about = answer.about.clone();
    let body = answer.json(token::ANSWER_CAP).await?;
    Token::from_answer(&body).map_err(|reason| RegistryError::TokenAnswer { about, reason })
}
