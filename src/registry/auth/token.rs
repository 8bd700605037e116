//! Bearer tokens: what is asked of a token service and what its answer means (distribution spec, "Token
//! Authentication" and its OAuth 2.0 form). Pure; `auth` sends the requests.

use std::borrow::Cow;
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
use super::scope::{Asker, Scopes};
use crate::registry::keyed::Keyed;

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
    pub(super) scopes: Scopes,
}

/// What a realm's own query may not say: it is said by [`Scopes`], which a registry that wrote it there would get around, and
/// tokens that outlive the process are never asked for.
const NOT_IN_REALMS: [&str; 2] = ["scope", "offline_token"];

impl TokenRequest {
    /// What a Bearer challenge asks for: those of its scopes that may be asked for, and pulling from the repository when none
    /// of them is about a repository. Where it is about no repository, a login, there are no scopes: registries name ones there
    /// that nobody has (`user/image` at ghcr.io), and docker and podman ask for none. `None` when its realm is not a URL.
    pub(super) fn new(challenge: &Challenge, repository_path: Option<&str>, asker: Asker) -> Option<Self> {
        let mut realm = Url::parse(challenge.parameter("realm")?.trim()).ok()?;
        realm.host_str()?;
        realm.set_fragment(None);
        // Whoever is to be authenticated there is not for the challenge to say.
        realm.set_username("").ok()?;
        realm.set_password(None).ok()?;
        clear_query(&mut realm);
        let text = |name: &str| challenge.parameter(name).filter(|value| !value.is_empty());
        let mut scopes = Scopes::default();
        if let Some(path) = repository_path {
            scopes = Scopes::of_challenge(text("scope").unwrap_or_default(), asker);
            if !scopes.has_repository() {
                scopes.require(Scopes::pull(path));
            }
        }
        Some(Self { realm, service: text("service").map(str::to_owned), scopes })
    }

    /// The same for more: for the scopes that a challenge says were missing as well (RFC 6750 section 3.1), and for pulling
    /// from the repository. `None` when that is no more than was asked for, or when the challenge says nothing of the kind.
    pub(super) fn widened(&self, challenge: &Challenge, path: &str, asker: Asker) -> Option<Self> {
        let error = challenge.parameter("error")?;
        if challenge.scheme != "bearer" || !error.eq_ignore_ascii_case("insufficient_scope") {
            return None;
        }
        let mut wider = self.clone();
        wider.scopes.require(Scopes::of_challenge(challenge.parameter("scope").unwrap_or_default(), asker));
        wider.scopes.require(Scopes::pull(path));
        (wider != *self).then_some(wider)
    }

    /// The same, for what `earlier` was for as well where both are asked of the same service: a token that ends is replaced
    /// by one that is good for as much.
    pub(super) fn in_place_of(mut self, earlier: &Self) -> Self {
        if (&self.realm, &self.service) == (&earlier.realm, &earlier.service) {
            let newer = std::mem::replace(&mut self.scopes, earlier.scopes.clone());
            self.scopes.require(newer);
        }
        self
    }

    /// The URL of the GET.
    pub(super) fn url(&self, account: Option<&str>) -> Url {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        for scope in self.scopes.texts() {
            query.append_pair("scope", &scope);
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
        let scopes = self.scopes.texts();
        if !scopes.is_empty() {
            form.append_pair("scope", &scopes.join(" "));
        }
        form.append_pair("refresh_token", refresh_token);
        form.finish()
    }
}

/// Takes out of a realm's query what it is not to say. A query that says none of it stays as it was written.
fn clear_query(realm: &mut Url) {
    let is_ours = |name: &str| NOT_IN_REALMS.iter().any(|ours| name.eq_ignore_ascii_case(ours));
    if !realm.query_pairs().any(|(name, _)| is_ours(&name)) {
        return;
    }
    let kept: Vec<_> = realm.query_pairs().filter(|(name, _)| !is_ours(name)).map(own).collect();
    realm.set_query(None);
    if !kept.is_empty() {
        realm.query_pairs_mut().extend_pairs(kept);
    }
}

fn own((name, value): (Cow<'_, str>, Cow<'_, str>)) -> (String, String) {
    (name.into_owned(), value.into_owned())
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

/// The token in an answer and how much of its life is left at `now`. A `refresh_token` in it is left there: none is asked for,
/// and credentials are what the user has configured.
pub(super) fn parse_answer(body: &[u8], now: SystemTime) -> Result<(String, Duration), &'static str> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: Option<String>,
        token: Option<String>,
        #[serde(default)]
        expires_in: Value,
        #[serde(default)]
        issued_at: Value,
    }
    let Keyed(answer): Keyed<Answer> =
        serde_json::from_slice(body).map_err(|_| "it is not the JSON of a token")?;
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

/// `expires_in` is a number of seconds; some services write it as text. One that no clock can count to is for ever.
fn seconds(value: &Value) -> Duration {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let seconds = seconds.unwrap_or_default();
    Duration::try_from_secs_f64(seconds).unwrap_or(if seconds > 0.0 { Duration::MAX } else { Duration::ZERO })
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
        TokenRequest::new(&Challenge::parse_all([challenge])[0], Some("a/b"), Asker::Nobody)
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
        // To log in is to ask for a token that is good for nothing in particular.
        let challenge = r#"Bearer realm="https://t/",service="s",scope="repository:user/image:pull""#;
        let challenge = &Challenge::parse_all([challenge])[0];
        let login = TokenRequest::new(challenge, None, Asker::Somebody).unwrap();
        assert_eq!(login.url(Some("me")).as_str(), "https://t/?service=s&account=me");
        assert_eq!(login.form("r"), "grant_type=refresh_token&service=s&client_id=ocipull&refresh_token=r");
        let request =
            request(r#"Bearer realm="https://t/",service="s",scope="x repository:a/b:pull""#).unwrap();
        assert!(request.url(Some("me")).as_str().ends_with("&account=me"));
        assert_eq!(
            request.form("r&t"),
            "grant_type=refresh_token&service=s&client_id=ocipull&scope=x+repository%3Aa%2Fb%3Apull&refresh_token=r%26t"
        );
    }

    /// What a registry writes into its challenge stays the value that it is, and a realm's own query does not get around what
    /// is asked for.
    #[test]
    fn challenges_inject_nothing() {
        let challenge = |realm: &str, service: &str| Challenge {
            scheme: "bearer".to_owned(),
            parameters: [
                ("realm", realm),
                ("service", service),
                ("scope", "repository:a/b:pull&account=root#x"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        };
        let values = ["s&scope=repository:x:push", "s\r\nX-Evil: 1", "s#fragment", "s scope", "ü%26"];
        let realms = [
            "https://t/token?scope=repository:prod:push&SCOPE=x&offline_token=true",
            "https://t/token?%73cope=repository:prod:push",
            "https://t/to\r\nken",
            "https://evil:password@t/token",
        ];
        for (realm, service) in realms.iter().flat_map(|realm| values.map(|value| (realm, value))) {
            let asked = TokenRequest::new(&challenge(realm, service), Some("a/b"), Asker::Somebody).unwrap();
            let url = asked.url(Some("me&scope=x\r\n"));
            let text = url.as_str();
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
            assert!(text.starts_with("https://t/token?service="), "{text}");
            let found: Vec<_> = url.query_pairs().map(own).collect();
            let expected =
                [("service", service), ("scope", "repository:a/b:pull"), ("account", "me&scope=x\r\n")];
            assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())), "{text}");
            let form = asked.form("r&scope=x");
            assert_eq!(form.matches("scope=").count(), 1, "{form}");
            assert!(form.bytes().all(|byte| byte.is_ascii_graphic()), "{form}");
        }
        // What is no business of ours stays as it was written.
        let kept =
            TokenRequest::new(&challenge("https://t/token?a=%2F+b&scope=x&c", ""), None, Asker::Nobody);
        assert_eq!(kept.unwrap().url(None).as_str(), "https://t/token?a=%2F+b&c=");
    }

    /// However much else a registry has asked for, pulling from the repository itself is asked for with it: a token without that
    /// is of no use.
    #[test]
    fn there_is_always_room_for_the_repository() {
        let own = "repository:a/b:pull".to_owned();
        let many = |name: &str| (0..40).map(|number| format!("{name}{number}")).collect::<Vec<_>>().join(" ");
        let words = request(&format!(r#"Bearer realm="https://t/",scope="{}""#, many("word"))).unwrap();
        assert!(words.scopes.texts().contains(&own));
        let others = many("repository:other:pull repository:c");
        let others = others.replace(' ', ":pull ") + ":pull";
        let narrow = request(r#"Bearer realm="https://t/",scope="repository:proxy/a/b:pull""#).unwrap();
        let challenge = format!(r#"Bearer error="insufficient_scope",scope="{others}""#);
        let wider = narrow.widened(&Challenge::parse_all([challenge])[0], "a/b", Asker::Somebody).unwrap();
        assert!(wider.scopes.texts().contains(&own), "{:?}", wider.scopes);
        let replaced = request(r#"Bearer realm="https://t/""#)
            .unwrap()
            .in_place_of(&TokenRequest { scopes: Scopes::of_challenge(&others, Asker::Somebody), ..narrow });
        assert!(replaced.scopes.texts().contains(&own), "{:?}", replaced.scopes);
    }

    /// A token that was not good for enough is replaced by one for what was missing as well, where there is such a thing and it
    /// may be asked for.
    #[test]
    fn wider_requests() {
        let narrow = || request(r#"Bearer realm="https://t/",scope="repository:proxy/a/b:pull""#).unwrap();
        let wider = |challenge: &str, asker| {
            let challenge = &Challenge::parse_all([challenge])[0];
            narrow().widened(challenge, "a/b", asker).map(|request| request.scopes.texts())
        };
        let (own, proxy) = ("repository:a/b:pull".to_owned(), "repository:proxy/a/b:pull".to_owned());
        let both = || Some(vec![proxy.clone(), own.clone()]);
        for (challenge, expected) in [
            (r#"Bearer error="insufficient_scope",scope="repository:a/b:pull""#, both()),
            (r#"Bearer realm="https://other/",error="INSUFFICIENT_SCOPE""#, both()),
            (
                r#"Bearer error="insufficient_scope",scope="repository:c:push,delete registry:catalog:*""#,
                both(),
            ),
            (
                r#"Bearer error="insufficient_scope",scope="repository:c:pull,push""#,
                Some(vec![proxy.clone(), "repository:c:pull".to_owned(), own.clone()]),
            ),
            (r#"Bearer error="invalid_token",scope="repository:c:pull""#, None),
            (r#"Bearer scope="repository:c:pull""#, None),
            (r#"Basic error="insufficient_scope",scope="repository:c:pull""#, None),
        ] {
            assert_eq!(wider(challenge, Asker::Somebody), expected, "{challenge}");
        }
        let same = request(r#"Bearer realm="https://t/""#).unwrap();
        let challenge =
            &Challenge::parse_all([r#"Bearer error="insufficient_scope",scope="repository:a/b:push""#])[0];
        assert_eq!(same.widened(challenge, "a/b", Asker::Somebody), None);
        // What replaces a token that has ended is good for as much, unless somebody else is to be asked.
        let replaced = request(r#"Bearer realm="https://t/""#).unwrap().in_place_of(&narrow());
        assert_eq!(Some(replaced.scopes.texts()), both());
        let elsewhere = request(r#"Bearer realm="https://other/""#).unwrap().in_place_of(&narrow());
        assert_eq!(elsewhere.scopes.texts(), [own]);
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
            (r#"{"token":"t","expires_in":1e300}"#, Ok(("t", 86400))),
            (r#"{"token":"t","expires_in":99999999}"#, Ok(("t", 86400))),
            (r#"{"token":"t","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}"#, Ok(("t", 290))),
            (r#"{"token":"t","issued_at":"2026-01-01T00:00:00.5+00:00","expires_in":1}"#, Ok(("t", 50))),
            (r#"{"token":"t","expires_in":300,"issued_at":"2027-01-01T00:00:00Z"}"#, Ok(("t", 300))),
            (r#"{"token":"t","expires_in":300,"issued_at":"2025-01-01T00:00:00Z"}"#, Ok(("t", 300))),
            (r#"{"token":"t","expires_in":300,"issued_at":"yesterday"}"#, Ok(("t", 300))),
            (r#"{"token":"t","expires_in":0}"#, Ok(("t", 60))),
            (r#"{"token":"t","expires_in":120.9}"#, Ok(("t", 120))),
            (r#"{"token":"t","expires_in":"-1"}"#, Ok(("t", 60))),
            (r#"{"token":"t","expires_in":"soon"}"#, Ok(("t", 60))),
            (r#"{"token":"t","expires_in":18446744073709551616}"#, Ok(("t", 86400))),
            (r#"{"token":"t","expires_in":[300],"issued_at":5}"#, Ok(("t", 60))),
            (r#"{"token":"t","expires_in":300,"issued_at":"2026-01-01T01:59:50+02:00"}"#, Ok(("t", 280))),
            (r#"{"token":"t","expires_in":300,"issued_at":"2026-01-01 00:00:00"}"#, Ok(("t", 300))),
            (r#"{"token":"t","expires_in":300,"issued_at":"+12026-01-01T00:00:00Z"}"#, Ok(("t", 300))),
            (r#"{"access_token":"a","refresh_token":"r","token_type":"Bearer","scope":"x"}"#, Ok(("a", 60))),
            (r#"{"token":5}"#, Err("it is not the JSON of a token")),
            (r#"["t"]"#, Err("it is not the JSON of a token")),
            (r#"["a", "t", 300]"#, Err("it is not the JSON of a token")),
            ("<!DOCTYPE html><html>Log in</html>", Err("it is not the JSON of a token")),
            ("", Err("it is not the JSON of a token")),
            (r#"{"token":"a\r\nX: y"}"#, Err("the token cannot be part of a header")),
            (r#"{"refresh_token":"r"}"#, Err("it has neither access_token nor token")),
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
