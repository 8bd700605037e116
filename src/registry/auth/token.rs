//! Bearer tokens: what is asked of a token service and what its answer means (distribution spec, "Token
//! Authentication" and its OAuth 2.0 form). Pure; `auth` sends the requests.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::Serializer;

use super::challenge::Challenge;

/// The longest answer of a token service.
pub(super) const ANSWER_CAP: u64 = 1 << 20;

/// A token lives at least this long, whatever its answer says: the specification's default and minimum.
const SHORTEST_LIFE: Duration = Duration::from_mins(1);

/// Longer lives are of no use to a process, and would overflow its clock.
const LONGEST_LIFE: Duration = Duration::from_hours(24);

/// Sent with refresh tokens, for the token service's records.
const CLIENT_ID: &str = "ocipull";

/// What a token is for, and who gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenRequest {
    pub(super) realm: Url,
    service: Option<String>,
    scopes: Vec<String>,
}

impl TokenRequest {
    /// What a Bearer challenge asks for: its scopes, and pulling from the repository when they name no repository.
    /// `None` when its realm is not a URL.
    pub(super) fn new(challenge: &Challenge, repository_path: &str) -> Option<Self> {
        let mut realm = Url::parse(challenge.parameter("realm")?.trim()).ok()?;
        realm.host_str()?;
        realm.set_fragment(None);
        // Whoever is to be authenticated there is not for the challenge to say.
        realm.set_username("").ok()?;
        realm.set_password(None).ok()?;
        let text = |name: &str| challenge.parameter(name).filter(|value| !value.is_empty());
        let mut scopes: Vec<String> = Vec::new();
        for scope in text("scope").unwrap_or_default().split_ascii_whitespace() {
            if !scopes.iter().any(|known| known == scope) {
                scopes.push(scope.to_owned());
            }
        }
        if !scopes.iter().any(|scope| scope.starts_with("repository:")) {
            scopes.push(format!("repository:{repository_path}:pull"));
        }
        Some(Self { realm, service: text("service").map(str::to_owned), scopes })
    }

    /// The URL of the GET.
    pub(super) fn url(&self, account: Option<&str>) -> Url {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        for scope in &self.scopes {
            query.append_pair("scope", scope);
        }
        if let Some(account) = account.filter(|account| !account.is_empty()) {
            query.append_pair("account", account);
        }
        drop(query);
        url
    }

    /// The form of the POST that exchanges a refresh token.
    pub(super) fn form(&self, refresh_token: &str) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token");
        if let Some(service) = &self.service {
            form.append_pair("service", service);
        }
        form.append_pair("client_id", CLIENT_ID);
        form.append_pair("scope", &self.scopes.join(" "));
        form.append_pair("refresh_token", refresh_token);
        form.finish()
    }
}

/// A bearer token with its life-time.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token {
    text: String,
    expires: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("text", &"[redacted]").field("expires", &self.expires).finish()
    }
}

impl Token {
    /// Reads a token service's answer.
    pub(super) fn from_answer(body: &[u8]) -> Result<Self, &'static str> {
        let (text, life) = parse_answer(body, SystemTime::now())?;
        Ok(Self { text, expires: Instant::now() + life })
    }

    pub(super) fn has_expired(&self) -> bool {
        Instant::now() >= self.expires
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.text == other.text
    }

    pub(super) fn header(&self) -> HeaderValue {
        bearer(&self.text).expect("invariant: a token's text was checked when it was read")
    }
}

/// The token in an answer and how much of its life is left at `now`.
fn parse_answer(body: &[u8], now: SystemTime) -> Result<(String, Duration), &'static str> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: Option<String>,
        token: Option<String>,
        #[serde(default)]
        expires_in: Value,
        #[serde(default)]
        issued_at: Value,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| "it is not the JSON of a token")?;
    let filled = |text: &String| !text.is_empty();
    let text = answer
        .access_token
        .filter(filled)
        .or(answer.token.filter(filled))
        .ok_or("it has neither access_token nor token")?;
    bearer(&text).ok_or("the token cannot be part of a header")?;
    let life = seconds(&answer.expires_in).clamp(SHORTEST_LIFE, LONGEST_LIFE);
    let age = answer
        .issued_at
        .as_str()
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        .and_then(|issued| now.duration_since(SystemTime::from(issued)).ok())
        .unwrap_or_default();
    // Issued longer ago than it lives means that the clocks disagree: a service does not hand out dead tokens.
    Ok((text, life.checked_sub(age).filter(|left| !left.is_zero()).unwrap_or(life)))
}

/// `expires_in` is a number of seconds; some services write it as text.
fn seconds(value: &Value) -> Duration {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

/// `Authorization: Bearer TOKEN`, which is kept out of logs; `None` for what cannot be part of a header.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(format!("Bearer {token}"))
}

/// `Authorization: Basic` (RFC 7617).
pub(super) fn basic(username: &str, password: &str) -> HeaderValue {
    sensitive(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
        .expect("invariant: base64 is a header")
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(challenge: &str) -> Option<TokenRequest> {
        TokenRequest::new(&Challenge::parse_all([challenge])[0], "a/b")
    }

    /// The query that each challenge becomes.
    #[test]
    fn requests() {
        let cases = [
            (
                r#"Bearer realm="https://t/token",service="s""#,
                "https://t/token?service=s&scope=repository%3Aa%2Fb%3Apull",
            ),
            (r#"Bearer realm="https://t/token""#, "https://t/token?scope=repository%3Aa%2Fb%3Apull"),
            (
                r#"Bearer realm="https://t/token?x=y",service="""#,
                "https://t/token?x=y&scope=repository%3Aa%2Fb%3Apull",
            ),
            (r#"Bearer realm="https://u:p@t/token#f""#, "https://t/token?scope=repository%3Aa%2Fb%3Apull"),
            (
                r#"Bearer realm="https://t/",scope="repository:proxy/a/b:pull registry:catalog:* registry:catalog:*""#,
                "https://t/?scope=repository%3Aproxy%2Fa%2Fb%3Apull&scope=registry%3Acatalog%3A*",
            ),
        ];
        for (challenge, url) in cases {
            assert_eq!(request(challenge).unwrap().url(None).as_str(), url, "{challenge}");
        }
        for challenge in
            ["Bearer service=x", r#"Bearer realm="""#, r#"Bearer realm="/token""#, "Bearer realm=data:x"]
        {
            assert_eq!(request(challenge), None, "{challenge}");
        }
        let request =
            request(r#"Bearer realm="https://t/",service="s",scope="x repository:a/b:pull""#).unwrap();
        assert!(request.url(Some("me")).as_str().ends_with("&account=me"));
        assert_eq!(
            request.form("r&t"),
            "grant_type=refresh_token&service=s&client_id=ocipull&scope=x+repository%3Aa%2Fb%3Apull&refresh_token=r%26t"
        );
    }

    /// The token and the seconds that are left of it, from what services write.
    #[test]
    fn answers() {
        let issued = OffsetDateTime::parse("2026-01-01T00:00:00Z", &Rfc3339).unwrap();
        let now = SystemTime::from(issued) + Duration::from_secs(10);
        let cases = [
            (r#"{"token":"t"}"#, Ok(("t", 60))),
            (r#"{"access_token":"a","token":"t"}"#, Ok(("a", 60))),
            (r#"{"access_token":"","token":"t"}"#, Ok(("t", 60))),
            (r#"{"access_token":null,"token":"t","expires_in":null,"issued_at":null}"#, Ok(("t", 60))),
            (r#"{"token":"t","expires_in":300}"#, Ok(("t", 300))),
            (r#"{"token":"t","expires_in":"300"}"#, Ok(("t", 300))),
            (r#"{"token":"t","expires_in":5}"#, Ok(("t", 60))),
            (r#"{"token":"t","expires_in":-5}"#, Ok(("t", 60))),
            (r#"{"token":"t","expires_in":1e300}"#, Ok(("t", 60))),
            (r#"{"token":"t","expires_in":99999999}"#, Ok(("t", 86400))),
            (r#"{"token":"t","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}"#, Ok(("t", 290))),
            (r#"{"token":"t","issued_at":"2026-01-01T00:00:00.5+00:00","expires_in":1}"#, Ok(("t", 50))),
            (r#"{"token":"t","expires_in":300,"issued_at":"2027-01-01T00:00:00Z"}"#, Ok(("t", 300))),
            (r#"{"token":"t","expires_in":300,"issued_at":"2025-01-01T00:00:00Z"}"#, Ok(("t", 300))),
            (r#"{"token":"t","expires_in":300,"issued_at":"yesterday"}"#, Ok(("t", 300))),
            (r#"{"token":""}"#, Err("it has neither access_token nor token")),
            ("{}", Err("it has neither access_token nor token")),
            (r#"{"token":"a\nb"}"#, Err("the token cannot be part of a header")),
            ("token", Err("it is not the JSON of a token")),
        ];
        for (body, expected) in cases {
            let found =
                parse_answer(body.as_bytes(), now).map(|(text, left)| (text, left.as_secs_f64().round()));
            let expected = expected.map(|(text, left)| (text.to_owned(), f64::from(left)));
            match (found, expected) {
                (Ok((text, left)), Ok(wanted)) => {
                    assert_eq!(text, wanted.0, "{body}");
                    assert!((left - wanted.1).abs() <= 1.0, "{body}: {left}");
                }
                (found, expected) => assert_eq!(found.map(drop), expected.map(drop), "{body}"),
            }
        }
    }

    /// A token does not get into a log by way of `{:?}`.
    #[test]
    fn debug_is_redacted() {
        let token = Token::from_answer(br#"{"token":"hidden"}"#).unwrap();
        assert!(
            !format!("{token:?} {:?} {:?}", token.header(), basic("hidden", "hidden")).contains("hidden")
        );
    }
}
