//! Who may do what: Basic credentials, and Bearer tokens from an endpoint of one's own (distribution's "Token
//! Authentication Specification").

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::answer::Answer;
use super::request::Request;

/// What a registry asks of its clients.
#[derive(Debug, Clone)]
pub(crate) enum Auth {
    Nothing,
    Basic(Login),
    Token,
}

/// A user and a password.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Login {
    /// Whether the request carries exactly these as Basic credentials.
    pub(crate) fn is_in(&self, request: &Request) -> bool {
        let expected = STANDARD.encode(format!("{}:{}", self.user, self.password));
        scheme(request, "Basic").is_some_and(|given| given == expected)
    }
}

/// What follows the scheme in `Authorization`; schemes have no case (RFC 9110, section 11.1).
fn scheme<'a>(request: &'a Request, wanted: &str) -> Option<&'a str> {
    let (scheme, value) = request.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| value.trim())
}

/// How tokens are given out, and when they end.
#[derive(Debug, Clone)]
pub(crate) struct TokenPolicy {
    /// Who gets tokens; `None` is everybody.
    pub(crate) login: Option<Login>,
    /// The refresh token that a POST is answered for; without it, POST is 405.
    pub(crate) identity_token: Option<String>,
    /// The `expires_in` of an answer; `None` leaves it out.
    pub(crate) lifetime: Option<u64>,
    /// How many requests a token is good for; `None` is any number.
    pub(crate) uses: Option<u64>,
    /// The answer's field that holds the token.
    pub(crate) field: &'static str,
    /// The status that a token gets which is no longer good.
    pub(crate) refusal: u16,
}

impl Default for TokenPolicy {
    fn default() -> Self {
        Self {
            login: None,
            identity_token: None,
            lifetime: Some(300),
            uses: None,
            field: "token",
            refusal: 401,
        }
    }
}

/// A token endpoint, possibly of several registries.
#[derive(Debug, Default)]
pub(crate) struct Issuer {
    policy: TokenPolicy,
    tokens: Mutex<Tokens>,
}

#[derive(Debug, Default)]
struct Tokens {
    issued: usize,
    valid: HashMap<String, Token>,
}

#[derive(Debug)]
struct Token {
    scopes: Vec<String>,
    used: u64,
}

impl Issuer {
    pub(crate) fn new(policy: TokenPolicy) -> Self {
        Self { policy, tokens: Mutex::default() }
    }

    pub(crate) fn issued(&self) -> usize {
        self.tokens.lock().unwrap().issued
    }

    pub(crate) fn revoke_all(&self) {
        self.tokens.lock().unwrap().valid.clear();
    }

    /// The answer of the token endpoint.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let scopes = match request.method.as_str() {
            "GET" if self.policy.login.as_ref().is_none_or(|login| login.is_in(request)) => {
                request.parameters("scope")
            }
            "POST" => match &self.policy.identity_token {
                None => return Answer::error(405, "UNSUPPORTED", "no OAuth2 here").with("Allow", "GET"),
                Some(identity) if is_refresh(request, identity) => request.fields("scope"),
                Some(_) => return Answer::error(401, "UNAUTHORIZED", "not this refresh token"),
            },
            _ => return Answer::error(401, "UNAUTHORIZED", "authentication required"),
        };
        self.issue(&scopes)
    }

    fn issue(&self, scopes: &[String]) -> Answer {
        let scopes = scopes.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned).collect();
        let mut tokens = self.tokens.lock().unwrap();
        tokens.issued += 1;
        let token = format!("token-{}", tokens.issued);
        tokens.valid.insert(token.clone(), Token { scopes, used: 0 });
        let mut document = json!({ self.policy.field: token });
        if let Some(lifetime) = self.policy.lifetime {
            document["expires_in"] = lifetime.into();
            document["issued_at"] = OffsetDateTime::now_utc().format(&Rfc3339).unwrap().into();
        }
        Answer::json(200, &document)
    }

    /// What a request is told that may not pull from its repository, with a challenge that names `realm`.
    pub(crate) fn refusal(&self, request: &Request, realm: &str) -> Option<Answer> {
        let scope = request.target.repository().map(|repository| format!("repository:{repository}:pull"));
        let challenge = |error: Option<&str>| {
            let mut challenge = format!("Bearer realm=\"{realm}\",service=\"fault-registry\"");
            for (key, value) in [("scope", scope.as_deref()), ("error", error)] {
                if let Some(value) = value {
                    write!(challenge, ",{key}=\"{value}\"").unwrap();
                }
            }
            challenge
        };
        let refuse = |status, error| {
            Some(
                Answer::error(status, "UNAUTHORIZED", "authentication required")
                    .with("WWW-Authenticate", &challenge(error)),
            )
        };
        let Some(bearer) = scheme(request, "Bearer") else { return refuse(401, None) };
        let mut tokens = self.tokens.lock().unwrap();
        let Some(token) = tokens.valid.get_mut(bearer) else {
            return refuse(self.policy.refusal, Some("invalid_token"));
        };
        if !request.target.repository().is_none_or(|repository| token.covers(repository)) {
            return refuse(401, Some("insufficient_scope"));
        }
        token.used += 1;
        if self.policy.uses.is_some_and(|uses| token.used > uses) {
            return refuse(self.policy.refusal, Some("invalid_token"));
        }
        None
    }
}

impl Token {
    fn covers(&self, repository: &str) -> bool {
        self.scopes.iter().any(|scope| {
            scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':')).is_some_and(
                |(name, actions)| name == repository && actions.split(',').any(|one| one == "pull"),
            )
        })
    }
}

fn is_refresh(request: &Request, identity: &str) -> bool {
    request.fields("grant_type") == ["refresh_token"] && request.fields("refresh_token") == [identity]
}
