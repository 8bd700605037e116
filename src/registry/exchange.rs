//! One request and the head of its answer, on whichever host: the [`Client`], which counts, logs, keeps to a host's
//! share of connections and knows nothing of authentication and redirects. A request is made in somebody's business,
//! which says how the certificates on its way are judged ([`Client::for_target`]).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RANGE,
    RETRY_AFTER, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::Options;
use super::auth;
use super::body::Body;
use super::encoding;
use super::endpoint::Endpoints;
use super::error::{About, Code, Fault, RegistryError, shown};
use super::proxy::Proxies;
use super::retry;
use super::route::{Target, Trust};
use super::throttle::Throttle;
use super::transport::{self, Request, Response, Transport};

/// The longest error body that is read.
const ERROR_BODY: u64 = 64 << 10;

/// The longest body that is read only to keep its connection.
const WORTH_DRAINING: u64 = 64 << 10;

/// How long a connection is worth waiting for.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// What is counted over all requests, and what all bodies share.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) body_bytes: AtomicU64,
    /// How long the fastest answer took, in microseconds, plus one; 0 before there was one.
    pub(super) fastest: AtomicU64,
    pub(super) throttle: Throttle,
}

impl Counters {
    fn answered_within(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        let faster = |fastest| (fastest == 0 || micros < fastest).then_some(micros);
        let _ = self.fastest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, faster);
    }

    /// How long the fastest of all answers took.
    pub(super) fn fastest_answer(&self) -> Option<Duration> {
        self.fastest.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_micros)
    }
}

/// What is asked, without where.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    /// What it is about, for errors.
    pub(super) subject: &'a str,
    pub(super) method: Method,
    pub(super) accept: Option<&'static str>,
    pub(super) range: Option<Range<u64>>,
    /// The body of a POST, form-encoded.
    pub(super) form: Option<String>,
    /// Who asks, where the registry itself is asked.
    pub(super) identity: Identity,
    /// The host that redirected here, where one did.
    pub(super) sent_by: Option<String>,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Identity {
    /// Whoever the repository's credentials are for.
    #[default]
    Known,
    /// Nobody: challenges are answers.
    Anonymous,
}

impl<'a> Ask<'a> {
    pub(super) fn get(subject: &'a str) -> Self {
        let (accept, range, form, sent_by) = (None, None, None, None);
        Self { subject, method: Method::GET, accept, range, form, identity: Identity::default(), sent_by }
    }

    /// The request for it, with what it says by itself.
    fn request(&self, authorization: Option<HeaderValue>) -> Request {
        let mut request = Request::new(self.form.clone().unwrap_or_default().into());
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(accept) = self.accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(range) = &self.range {
            let range = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            headers.insert(RANGE, HeaderValue::from_str(&range).expect("invariant: digits are a header"));
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        if self.form.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        request
    }
}

/// Sends requests. Clones are the same client, in the same business until told otherwise.
#[derive(Debug, Clone)]
pub(super) struct Client {
    transport: Arc<Transport>,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) counters: Arc<Counters>,
    stall_timeout: Duration,
    business: Option<Target>,
}

impl Client {
    pub(super) fn new(options: &Options, proxies: Proxies) -> Result<Self, RegistryError> {
        Ok(Self {
            transport: Arc::new(Transport::new(options, proxies)?),
            endpoints: Arc::new(Endpoints::new(options.plain_http, options.connections)),
            counters: Arc::new(Counters { throttle: Throttle::new(options.max_rate), ..Counters::default() }),
            stall_timeout: options.stall_timeout,
            business: None,
        })
    }

    /// The same client for what is asked because of `target`: of its registry, of the token service that it names, and of
    /// where it redirects to.
    pub(super) fn for_target(&self, target: &Target) -> Self {
        Self { business: Some(target.clone()), ..self.clone() }
    }

    /// The folder of certificates for the endpoint in whose business this is, for the log.
    pub(super) async fn certificates(&self) -> Result<Option<String>, RegistryError> {
        let Some(target) = &self.business else { return Ok(None) };
        let folder = self.transport.folder(target.repository.host()).await?;
        Ok(folder.map(|folder| folder.display().to_string()))
    }

    /// Whether plain http is asked for or allowed, for whatever host this business leads to.
    pub(super) fn may_be_plain(&self) -> bool {
        let is_insecure = |target: &Target| target.trust == Trust::Insecure;
        self.endpoints.is_plain() || self.business.as_ref().is_some_and(is_insecure)
    }

    /// Sends one request, when one of the host's connections is free. Any answer is an answer, whatever its status.
    pub(super) async fn send(
        &self,
        url: &Url,
        ask: &Ask<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let about = About::of(ask, url);
        let endpoint = self.endpoints.of_request(url, self.business.as_ref());
        let connections = self.transport.connections(self.business.as_ref(), url).await?;
        let slot = endpoint.slot().await;
        let authenticated = authorization.is_some();
        let began = Instant::now();
        let sending = self.transport.send(&connections, url, ask.request(authorization));
        let sent = endpoint.kept.serving(sending).await;
        endpoint.connected(sent.as_ref().err());
        // A hello that was not answered in TLS asked nothing: it only found out how to ask.
        if !matches!(sent, Err(Fault::NotTls | Fault::HandshakeClosed | Fault::HandshakeCut)) {
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
        }
        // A TLS alert, a refused certificate, half a handshake, and whatever befalls a request after a whole one are TLS too, and no
        // reason to go on in plain text.
        let spoke_tls = matches!(sent, Ok(_) | Err(Fault::Tls(_) | Fault::HandshakeCut | Fault::Request(_)));
        if url.scheme() == "https" && spoke_tls {
            endpoint.spoke_tls();
        }
        match sent {
            Err(fault) => {
                tracing::debug!(method = %ask.method, url = shown(url), %fault, "request failed");
                Err(RegistryError::Network { about, fault })
            }
            Ok(response) => {
                self.counters.answered_within(began.elapsed());
                endpoint.kept.answered(&response);
                if let Some(address) = transport::remote(&response) {
                    endpoint.reached(address);
                }
                let status = response.status().as_u16();
                tracing::debug!(
                    method = %ask.method, url = shown(url), range = ?ask.range, authenticated, status, "answered"
                );
                let (counters, stall_timeout) = (Arc::clone(&self.counters), self.stall_timeout);
                let url = url.clone();
                Ok(Answer { about, url, response, slot, counters, stall_timeout, identity: None })
            }
        }
    }

    /// Whether requests to `url` go through a proxy, so that the address that was reached is the proxy's.
    pub(super) fn is_proxied(&self, url: &Url) -> bool {
        self.transport.is_proxied(url)
    }
}

/// The head of an answer, with its body to come. Occupies one of the host's connections.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) about: About,
    pub(super) url: Url,
    pub(super) response: Response,
    pub(super) slot: OwnedSemaphorePermit,
    pub(super) counters: Arc<Counters>,
    pub(super) stall_timeout: Duration,
    /// As whom the registry was asked, where that may be why it refuses.
    pub(super) identity: Option<Box<auth::Identity>>,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header's first value; one that is not text counts as absent.
    pub(super) fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.response.headers().get(name.into()).and_then(|value| value.to_str().ok())
    }

    /// The announced length, also of an answer to HEAD, whose body is empty.
    pub(super) fn content_length(&self) -> Option<u64> {
        let value = self.header(CONTENT_LENGTH)?;
        value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
    }

    /// The whole body, decoded where it is encoded, either way at most `cap` bytes.
    pub(super) async fn document(self, cap: u64) -> Result<Bytes, RegistryError> {
        let encodings = self.header(CONTENT_ENCODING).unwrap_or_default().to_owned();
        let about = self.about.clone();
        let raw = self.raw(cap).await?;
        encoding::decode(raw, &encodings, cap).map_err(|refusal| refusal.about(about, cap))
    }

    /// The same for JSON. Where nothing but the end of the connection ends the body, a document that is not at its end was cut
    /// off, which passes; elsewhere it is what the server has.
    pub(super) async fn json(self, cap: u64) -> Result<Bytes, RegistryError> {
        let about = self.about.clone();
        let is_measured = self.content_length().is_some() || self.header(TRANSFER_ENCODING).is_some();
        let document = self.document(cap).await?;
        if !is_measured && is_unfinished(&document) {
            let fault = Fault::Cut { received: document.len() as u64, wanted: None };
            return Err(RegistryError::Network { about, fault });
        }
        Ok(document)
    }

    /// The whole body as it came, at most `cap` bytes.
    async fn raw(self, cap: u64) -> Result<Bytes, RegistryError> {
        let about = self.about.clone();
        let wanted = self.content_length();
        if wanted.is_some_and(|length| length > cap) {
            return Err(RegistryError::TooLarge { about, cap });
        }
        let mut body = Body::new(self, wanted, cap);
        let mut whole = Vec::new();
        loop {
            match body.chunk().await {
                Ok(Some(chunk)) => whole.extend_from_slice(&chunk),
                Ok(None) => return Ok(whole.into()),
                Err(RegistryError::Oversize { .. }) => return Err(RegistryError::TooLarge { about, cap }),
                Err(error) => return Err(error),
            }
        }
    }

    /// What an answer that is no success becomes, with what the registry says about it.
    pub(super) async fn into_error(mut self) -> RegistryError {
        let identity = self.identity.take();
        let (about, status, patience) = (self.about.clone(), self.status(), self.stall_timeout);
        let retry_after =
            self.header(RETRY_AFTER).and_then(|value| retry::retry_after(value, SystemTime::now()));
        // A body that does not come, or is too long, must not hide the status.
        let body = tokio::time::timeout(patience, self.document(ERROR_BODY)).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        if let Some(fault) = Fault::in_answer(status, &body) {
            return RegistryError::Network { about, fault };
        }
        let codes = Code::parse(&body);
        RegistryError::Status { about, status, codes, retry_after, identity }
    }

    /// Reads a short body to its end, so that the connection can be used again.
    pub(super) async fn discard(self) {
        if self.content_length().is_some_and(|length| length <= WORTH_DRAINING) {
            let _ = tokio::time::timeout(DRAIN_TIME, self.raw(WORTH_DRAINING)).await;
        }
    }
}

/// Whether JSON ends before its end.
fn is_unfinished(json: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(json).is_err_and(|error| error.is_eof())
}
