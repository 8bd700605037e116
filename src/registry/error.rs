//! What can go wrong between here and a registry: [`RegistryError`], what may be done about it, and what the user may.
//!
//! Every error of a request names what it is about (reference or repository and digest) and the URL, without user,
//! password and query: signed URLs carry their secret in the query. Texts from the far side are capped and escaped.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::auth::CredentialError;
use super::redirect::Refusal;
use super::retry::Disposition;
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::manifest::ManifestError;
use crate::text::printable;

/// What a request is about: `SUBJECT: METHOD URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The reference, or the repository with a digest.
    pub subject: String,
    /// The method and the URL, fit to be shown.
    pub request: String,
}

impl About {
    pub(super) fn new(subject: &str, method: &http::Method, url: &Url) -> Self {
        Self { subject: subject.to_owned(), request: format!("{method} {}", shown(url)) }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.request)
    }
}

/// A URL without user, password, query and fragment.
pub(super) fn shown(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    // Both fail for URLs without a host only, which have no user either.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    printable(bare.as_str())
}

/// How the connection failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The host's name does not resolve.
    #[error("the name does not resolve: {0}")]
    Resolve(String),
    /// No connection came about.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The TLS handshake failed, or the certificate is not accepted.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The server answered the TLS hello with something else.
    #[error("the server does not speak TLS")]
    NotTls,
    /// The server closed the connection upon the TLS hello.
    #[error("the server closed the connection during the TLS handshake")]
    HandshakeClosed,
    /// The connection broke before the answer, or the answer is not HTTP.
    #[error("the request failed: {0}")]
    Request(String),
    /// Nothing came for the stall timeout.
    #[error("nothing came for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// Less than 1 KiB/s came, over a minute.
    #[error("less than 1 KiB/s came, for {} s", .0.as_secs())]
    Slow(Duration),
    /// The body ended early.
    #[error("the body was cut off after {received} bytes{}", announced(*.wanted))]
    Cut {
        /// The bytes that came.
        received: u64,
        /// The bytes that were to come, where that is known.
        wanted: Option<u64>,
    },
}

fn announced(wanted: Option<u64>) -> String {
    wanted.map(|wanted| format!(" of {wanted}")).unwrap_or_default()
}

/// One entry of a registry's error body (distribution spec, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The code, as `MANIFEST_UNKNOWN`; capped and escaped.
    pub code: String,
    /// The message; capped and escaped.
    pub message: String,
    /// The detail as JSON text; capped and escaped.
    pub detail: Option<String>,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.code, &self.message].into_iter().filter(|part| !part.is_empty());
        f.write_str(&parts.map(String::as_str).collect::<Vec<_>>().join(": "))?;
        self.detail.iter().try_for_each(|detail| write!(f, " ({detail})"))
    }
}

/// How many entries of an error body are kept.
const CODES: usize = 8;

/// A wait as people read it: whole seconds, and no more than a hundred years of them.
fn rounded(wait: Duration) -> Duration {
    const LONGEST: u64 = 100 * 365 * 24 * 60 * 60;
    Duration::from_secs(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).min(LONGEST))
}

impl Code {
    /// The entries of an error body: `{"errors": [...]}`, and what token services write (`{"error": ...}`,
    /// `{"details": ...}`, `{"message": ...}`). A body of another form has none.
    pub(super) fn parse(body: &[u8]) -> Vec<Self> {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return Vec::new() };
        if let Some(Value::Array(errors)) = body.get("errors") {
            return errors.iter().filter_map(Self::entry).take(CODES).collect();
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(printable);
        let code = text("error").or_else(|| text("code")).unwrap_or_default();
        let message =
            ["error_description", "details", "message"].into_iter().find_map(text).unwrap_or_default();
        let any = !code.is_empty() || !message.is_empty();
        any.then_some(Self { code, message, detail: None }).into_iter().collect()
    }

    fn entry(entry: &Value) -> Option<Self> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Entry {
            code: Value,
            message: Value,
            detail: Value,
        }
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => printable(text),
            other => printable(&other.to_string()),
        };
        let entry = Entry::deserialize(entry).ok()?;
        let is_empty = |value: &Value| match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        let detail = (!is_empty(&entry.detail)).then(|| text(&entry.detail));
        Some(Self { code: text(&entry.code), message: text(&entry.message), detail })
    }
}

fn listed(codes: &[Code]) -> String {
    codes.iter().flat_map(|code| [": ".to_owned(), code.to_string()]).collect()
}

fn lastly(last: Option<&str>) -> String {
    last.map(|last| format!(", the last of which ended so: {last}")).unwrap_or_default()
}

fn status_line(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Why a question to a registry was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A file of certificates cannot be read.
    #[error("cannot read the certificates in {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of certificates holds none, or something that is none.
    #[error("{} does not hold certificates in PEM form: {reason}", path.display())]
    CaFileMalformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A proxy that the environment names cannot be used.
    #[error("the environment variable {variable} does not hold the URL of a proxy: {reason}")]
    Proxy {
        /// The variable.
        variable: String,
        /// What is wrong, without the value, which may hold a password.
        reason: String,
    },
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// The repository's credentials cannot be read.
    #[error("{repository}: the credentials cannot be read")]
    Credentials {
        /// The repository.
        repository: String,
        /// Why.
        source: CredentialError,
    },
    /// The URL of a request cannot be built from the reference.
    #[error("{subject}: \"{host}\" cannot be part of a URL")]
    Host {
        /// What the request is about.
        subject: String,
        /// The host.
        host: String,
    },
    /// The connection failed.
    #[error("{about}: {fault}")]
    Network {
        /// The request.
        about: About,
        /// How.
        fault: Fault,
    },
    /// An answer with a status that is no success.
    #[error("{about} was answered {}{}", status_line(*.status), listed(.codes))]
    Status {
        /// The request.
        about: About,
        /// The status.
        status: StatusCode,
        /// What the registry says about it.
        codes: Vec<Code>,
        /// The wait that the registry announced, where it did.
        retry_after: Option<Duration>,
    },
    /// The registry wants a proof of identity that cannot be given.
    #[error("{about} needs authentication, {reason}{}", listed(.codes))]
    Unauthorized {
        /// The request.
        about: About,
        /// Why it cannot be given.
        reason: &'static str,
        /// What the registry says about it.
        codes: Vec<Code>,
    },
    /// No token could be had.
    #[error("{subject}: the token service gave no token")]
    Token {
        /// What the token was for.
        subject: String,
        /// Why not.
        source: Box<RegistryError>,
    },
    /// The token service's answer holds no token.
    #[error("{about} was answered without a token: {reason}")]
    TokenAnswer {
        /// The request to the token service.
        about: About,
        /// What is wrong with the answer.
        reason: &'static str,
    },
    /// The token service that a challenge names is not asked.
    #[error("{about}: the token service that the registry names is not asked: its URL {refusal}")]
    Realm {
        /// The request that was challenged.
        about: About,
        /// Why.
        refusal: Refusal,
    },
    /// The token service would be asked in plain http, which is not for the credentials of this registry.
    #[error("{about}: the token service that the registry names speaks plain http at \"{host}\"")]
    RealmInPlain {
        /// The request that was challenged.
        about: About,
        /// The token service's host.
        host: String,
    },
    /// A redirect is not followed.
    #[error("{about} was redirected in a way that is not followed: {refusal}")]
    Redirect {
        /// The request that was answered with the redirect.
        about: About,
        /// Why.
        refusal: Refusal,
    },
    /// A range was asked for, and the answer is another one, or none.
    #[error("{about}: a range was asked for, and answered {found}")]
    WrongRange {
        /// The request.
        about: About,
        /// What came, as the end of a sentence.
        found: String,
    },
    /// The body goes past the size that the descriptor says, or past the range that it is for.
    #[error("{about}: the body goes past the {size} bytes that it should have")]
    Oversize {
        /// The request.
        about: About,
        /// How many bytes it should have.
        size: u64,
    },
    /// The body has another size than the descriptor says.
    #[error("{about}: {found} bytes, and the descriptor says {size}")]
    SizeMismatch {
        /// The request.
        about: About,
        /// The descriptor's size.
        size: u64,
        /// The body's.
        found: u64,
    },
    /// A document is larger than documents of its kind may be.
    #[error("{about}: more than the {cap} bytes that such a document may have")]
    TooLarge {
        /// The request, or the descriptor.
        about: About,
        /// The cap in bytes.
        cap: u64,
    },
    /// The bytes are not those that the digest stands for.
    #[error("{about}: the bytes have the digest {found}, not {wanted}")]
    DigestMismatch {
        /// The request.
        about: About,
        /// What was asked for, or what the answer's header says.
        wanted: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// A signed manifest of Docker's schema 1, whose digest covers a part of it only.
    #[error("{about}: a signed manifest of Docker's schema 1, which is not supported")]
    SignedSchema1 {
        /// The request.
        about: About,
    },
    /// A `Content-Encoding` that nobody asked for cannot be undone.
    #[error("{about}: the body's Content-Encoding \"{encoding}\" cannot be undone: {reason}")]
    Encoding {
        /// The request.
        about: About,
        /// The encoding.
        encoding: String,
        /// What is wrong.
        reason: String,
    },
    /// The document is not a manifest.
    #[error("{about}: the manifest cannot be used")]
    Manifest {
        /// The request.
        about: About,
        /// Why.
        source: Box<ManifestError>,
    },
    /// Every try failed. The source is the first failure, which is nearer to the cause than the last.
    #[error("gave up after {tries} tries in {:.1} s{}", elapsed.as_secs_f64(), lastly(last.as_deref()))]
    GaveUp {
        /// How many times it was tried.
        tries: u32,
        /// From the first try to the last failure.
        elapsed: Duration,
        /// What the last failure said, where it is not what the first one said.
        last: Option<String>,
        /// The first failure.
        source: Box<RegistryError>,
    },
    /// The host announced a wait that is too long to sit out.
    #[error("the registry asks to come back after {}", humantime::format_duration(rounded(*.after)))]
    ComeBackLater {
        /// How long.
        after: Duration,
        /// The answer.
        source: Box<RegistryError>,
    },
}

impl RegistryError {
    /// Whether a range was asked for and something else came: the blob may have to be read as one stream.
    pub fn is_range_refusal(&self) -> bool {
        match self {
            Self::WrongRange { .. } => true,
            Self::GaveUp { source, .. } => source.is_range_refusal(),
            _ => false,
        }
    }

    /// The status of the answer, where it came to one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::GaveUp { source, .. } | Self::ComeBackLater { source, .. } => source.status(),
            _ => None,
        }
    }

    /// Whether the connection was refused because the server does not speak TLS, or closes on its hello.
    pub(super) fn is_not_tls(&self) -> bool {
        matches!(self, Self::Network { fault: Fault::NotTls | Fault::HandshakeClosed, .. })
    }

    /// What may be done about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Network { fault, .. } => match fault {
                Fault::Tls(_) | Fault::NotTls => Disposition::Fatal,
                _ => Disposition::AGAIN,
            },
            Self::Status { status, retry_after, .. } if is_passing(*status) => {
                Disposition::Again { after: *retry_after }
            }
            Self::WrongRange { .. } => Disposition::AGAIN,
            Self::Token { source, .. } => source.disposition(),
            _ => Disposition::Fatal,
        }
    }
}

/// Whether the same request may be answered otherwise a little later.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) || status.is_server_error()
}

fn status_kind(status: StatusCode) -> Kind {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Auth,
        status if is_passing(status) => Kind::Network,
        _ => Kind::Other,
    }
}

impl Failure for RegistryError {
    fn kind(&self) -> Kind {
        match self {
            Self::CaFile { .. }
            | Self::CaFileMalformed { .. }
            | Self::Proxy { .. }
            | Self::Host { .. }
            | Self::SignedSchema1 { .. } => Kind::Usage,
            Self::Client(_) => Kind::Other,
            Self::Credentials { source, .. } => source.kind(),
            Self::Status { status, .. } => status_kind(*status),
            Self::Unauthorized { .. }
            | Self::TokenAnswer { .. }
            | Self::Realm { .. }
            | Self::RealmInPlain { .. } => Kind::Auth,
            // Token services answer what they like to wrong credentials, but never "not found".
            Self::Token { source, .. } => match source.kind() {
                Kind::Network => Kind::Network,
                _ => Kind::Auth,
            },
            Self::Network { .. } | Self::Redirect { .. } | Self::WrongRange { .. } => Kind::Network,
            Self::Oversize { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::DigestMismatch { .. }
            | Self::Encoding { .. } => Kind::Integrity,
            Self::Manifest { source, .. } => source.kind(),
            Self::GaveUp { source, .. } | Self::ComeBackLater { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        const LOGIN: &str = "the repository does not exist, or needs a login: pass --creds USER:PASSWORD, or log in with docker login";
        let hint = match self {
            Self::Status { status: StatusCode::TOO_MANY_REQUESTS, .. } => {
                "registries limit anonymous downloads more than others: pass --creds USER:PASSWORD, or wait"
            }
            Self::Status { .. } | Self::Unauthorized { .. } if self.kind() == Kind::Auth => LOGIN,
            Self::RealmInPlain { .. } => {
                "only --plain-http permits that, and only for a registry in plain http"
            }
            Self::Network { fault: Fault::Resolve(_), .. } => {
                "check how the host is spelled, and whether this machine needs a proxy"
            }
            Self::Network { fault: Fault::Connect(_), .. } => {
                "check host and port, and whether the registry runs"
            }
            Self::Network { fault: Fault::NotTls, .. } => {
                "use --plain-http if the registry speaks plain http"
            }
            Self::Network { fault: Fault::Tls(reason), .. } if reason.contains("issuer is not trusted") => {
                "--ca-file FILE trusts the registry's certificate authority, or its own certificate"
            }
            Self::Credentials { source, .. } => return source.hint(),
            Self::Manifest { source, .. } => return source.hint(),
            Self::Token { source, .. } | Self::GaveUp { source, .. } | Self::ComeBackLater { source, .. } => {
                return source.hint();
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(body: &str) -> Vec<String> {
        Code::parse(body.as_bytes()).iter().map(ToString::to_string).collect()
    }

    /// Registries, token services and proxies all write their own bodies.
    #[test]
    fn error_bodies() {
        let cases: [(&str, &[&str]); 10] = [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                &[r#"MANIFEST_UNKNOWN: manifest unknown ({"Tag":"x"})"#],
            ),
            (r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, &["A", "b"]),
            (r#"{"errors":[{"code":404,"message":null,"detail":[]}]}"#, &["404"]),
            (r#"{"errors":[{"code":"A","message":"x\u001b[2J"}]}"#, &["A: x\\u{1b}[2J"]),
            (r#"{"errors":["text"]}"#, &[]),
            (r#"{"error":"invalid_grant","error_description":"expired"}"#, &["invalid_grant: expired"]),
            (r#"{"details":"incorrect username or password"}"#, &["incorrect username or password"]),
            ("<html>502</html>", &[]),
            ("[]", &[]),
            ("", &[]),
        ];
        for (body, expected) in cases {
            assert_eq!(codes(body), expected, "{body}");
        }
    }

    /// A signed URL in an error would hand its secret to every log.
    #[test]
    fn urls_are_shown_without_secrets() {
        let url = Url::parse("https://user:pass@cdn.example/b?X-Amz-Signature=secret#f").unwrap();
        assert_eq!(shown(&url), "https://cdn.example/b");
    }

    /// The exit code that each status becomes, and whether it is tried again.
    #[test]
    fn statuses() {
        let cases = [
            (400, Kind::Other, false),
            (401, Kind::Auth, false),
            (403, Kind::Auth, false),
            (404, Kind::NotFound, false),
            (408, Kind::Network, true),
            (410, Kind::NotFound, false),
            (429, Kind::Network, true),
            (500, Kind::Network, true),
            (503, Kind::Network, true),
            (599, Kind::Network, true),
        ];
        for (status, kind, again) in cases {
            let about = About { subject: "r.example/a:b".into(), request: "GET https://r.example/".into() };
            let status = StatusCode::from_u16(status).unwrap();
            let error = RegistryError::Status { about, status, codes: Vec::new(), retry_after: None };
            assert_eq!(error.kind(), kind, "{status}");
            assert_eq!(error.disposition() == Disposition::AGAIN, again, "{status}");
            assert_eq!(error.hint().is_some_and(|hint| hint.contains("needs a login")), kind == Kind::Auth);
        }
    }
}
