//! The HTTP clients: HTTP/1.1, their own redirects, retries and decompression off, timeouts, proxies, TLS. There is one for
//! each manner of TLS that is asked for: which authorities, which client certificates, or no verification.
//!
//! Bulk goes over separate connections on purpose: links and CDNs limit each connection, and one multiplexed HTTP/2
//! connection is one limit and one congestion window for everything.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpInfo;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::InvalidMessage;
use url::Url;

use super::Options;
use super::config::certs_d::{Certificates, CertsD, CertsDError};
use super::connect::{Connector, SpokeTls, Unresolved};
use super::error::RegistryError;
use super::fault::Fault;
use super::lost;
use super::proxy::{Protocol, Proxies, Proxy};
use super::route::{Target, Trust};
use super::tls::{self, ServerVerification, Trusted};
use crate::reference::Repository;
use crate::text::printable;

/// Sent with every request, so that a registry's operator can tell who asks.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("ocipull/", env!("CARGO_PKG_VERSION")));

/// A connection that takes longer than this to come about will not be a good one.
const LONGEST_CONNECT: Duration = Duration::from_secs(30);

/// How long an idle connection is kept: a little less than load balancers keep theirs (60 s).
const IDLE: Duration = Duration::from_secs(50);

/// How far the client's buffer for what comes in is grown, which doubles it: the largest piece of a body is twice this. A connection
/// has two buffers, the one that is being filled and the one that is on its way to the disk, and with hyper's own limit of 400 KB
/// they are most of the memory of a fetch. Half as much as this would cost a tenth of the processor's time on loopback.
///
/// The head of an answer has to fit, too. One that is larger is taken if it comes in pieces for which there happens to be room, and
/// never if it has twice this. Registries send one or two KiB, and signed URLs a few more.
const READ_BUFFER: usize = 128 << 10;

/// A request, without where to: see [`Transport::send`].
pub(super) type Request = http::Request<Full<Bytes>>;

/// The head of an answer, with its body to come.
pub(super) type Response = http::Response<Incoming>;

/// A body to come.
pub(super) type Incoming = BoxBody<Bytes, hyper::Error>;

/// Connections that are alike in how TLS is done on them.
#[derive(Debug, Clone)]
pub(super) struct Connections(legacy::Client<Connector, Full<Bytes>>);

/// How TLS is done on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Manner {
    is_insecure: bool,
    /// The folders of certs.d whose authorities are trusted.
    trusted: Vec<PathBuf>,
    /// The one whose client certificates are shown.
    shown: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Transport {
    verification: ServerVerification,
    /// What `Options::ca_files` hold, and the system's.
    trusted: Trusted,
    certs_d: CertsD,
    proxies: Arc<Proxies>,
    stall_timeout: Duration,
    connections: usize,
    known: Mutex<HashMap<Manner, Connections>>,
    /// The folders of hosts.
    folders: Mutex<HashMap<String, Option<PathBuf>>>,
}

impl Transport {
    /// # Errors
    /// Those of certificates that cannot be used.
    pub(super) fn new(options: &Options, proxies: Proxies) -> Result<Self, RegistryError> {
        let mut trusted = Trusted::default();
        for path in &options.ca_files {
            trusted.configured.extend(tls::read_certificates(path)?);
        }
        let transport = Self {
            verification: options.verification,
            trusted,
            certs_d: options.certs_d.clone(),
            proxies: Arc::new(proxies),
            stall_timeout: options.stall_timeout,
            connections: options.connections.max(1),
            known: Mutex::default(),
            folders: Mutex::default(),
        };
        let manner = Manner::default();
        let connections = transport.build(&manner, transport.trusted.clone());
        transport.known().insert(manner, connections);
        Ok(transport)
    }

    fn build(&self, manner: &Manner, trusted: Trusted) -> Connections {
        let verification = if manner.is_insecure { ServerVerification::Disabled } else { self.verification };
        let tls = tls::client_config(verification, trusted);
        let longest = self.stall_timeout.min(LONGEST_CONNECT);
        let connector = Connector::new(tls, Arc::clone(&self.proxies), longest, AGENT);
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(self.connections)
            .pool_idle_timeout(IDLE)
            .http1_max_buf_size(READ_BUFFER)
            .build(connector);
        Connections(client)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Manner, Connections>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections for a request to `url` in the business of `target`; without one, in nobody's.
    ///
    /// The authorities of the registry's folder hold for the servers too that the registry names, its token service and its
    /// storage, as they do for docker and podman. Its client certificates are shown to the registry alone: they are
    /// credentials, and another server gets those of its own folder, where it has one.
    pub(super) async fn connections(
        &self,
        target: Option<&Target>,
        url: &Url,
    ) -> Result<Connections, RegistryError> {
        let mut manner = Manner::default();
        if url.scheme() == "https" {
            let at = authority(url);
            let registry = target.map(|target| &target.repository);
            manner.is_insecure = target.is_some_and(|target| target.trust == Trust::Insecure);
            let is_registry = |found: &&Repository| {
                Url::parse(&format!("https://{}/", found.api_host()))
                    .is_ok_and(|home| home.origin() == url.origin())
            };
            // A folder that holds for all registries is that of a registry only.
            let own = match (registry.filter(is_registry), &self.certs_d) {
                (Some(registry), _) => self.folder(registry.host()).await?,
                (None, CertsD::Folder(_)) => None,
                (None, CertsD::Places(_)) => self.folder(&at).await?,
            };
            let of_registry = match registry {
                Some(registry) => self.folder(registry.host()).await?,
                None => None,
            };
            manner.trusted.extend(of_registry);
            manner.trusted.extend(own.clone());
            manner.trusted.dedup();
            manner.shown = own.filter(|_| registry.is_some());
        }
        if let Some(connections) = self.known().get(&manner) {
            return Ok(connections.clone());
        }
        let trusted = self.read(&manner, url).await?;
        let connections = self.build(&manner, trusted);
        // Somebody else may have been faster; connections that are used twice are worth more than the newest.
        Ok(self.known().entry(manner).or_insert(connections).clone())
    }

    /// The folder of a host.
    pub(super) async fn folder(&self, host: &str) -> Result<Option<PathBuf>, RegistryError> {
        let folders = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = folders().get(host) {
            return Ok(folder.clone());
        }
        let (certs_d, asked) = (self.certs_d.clone(), host.to_owned());
        let folder = on_disk(host, move || certs_d.folder(&asked)).await?;
        folders().insert(host.to_owned(), folder.clone());
        Ok(folder)
    }

    async fn read(&self, manner: &Manner, url: &Url) -> Result<Trusted, RegistryError> {
        let mut trusted = self.trusted.clone();
        for folder in &manner.trusted {
            let path = folder.clone();
            let found = on_disk(&authority(url), move || Certificates::read(&path)).await?;
            trusted.configured.extend(found.authorities);
            if manner.shown.as_ref() == Some(folder) {
                trusted.own.extend(found.clients);
            }
        }
        Ok(trusted)
    }

    /// Sends a request to `url` and waits for the answer's head, at most for the stall timeout.
    pub(super) async fn send(
        &self,
        connections: &Connections,
        url: &Url,
        mut request: Request,
    ) -> Result<Response, Fault> {
        let proxy = self.proxies.of(url);
        *request.uri_mut() = uri(url)?;
        complete(request.headers_mut(), url, proxy);
        let asking = Box::pin(lost::ask(&connections.0, request));
        match tokio::time::timeout(self.stall_timeout, asking).await {
            Err(_) => Err(Fault::Stalled(self.stall_timeout)),
            Ok(Err(error)) => Err(fault(&error).through(proxy.map(|proxy| proxy.shown().to_owned()))),
            Ok(Ok(response)) => Ok(response.map(BodyExt::boxed)),
        }
    }

    /// Whether requests to `url` go through a proxy.
    pub(super) fn is_proxied(&self, url: &Url) -> bool {
        self.proxies.of(url).is_some()
    }
}

/// A URL in the client's form, which has room for less: 64 KiB at most.
fn uri(url: &Url) -> Result<Uri, Fault> {
    let is_http = matches!(url.scheme(), "http" | "https");
    let uri = is_http.then(|| url.as_str().parse().ok()).flatten();
    uri.ok_or_else(|| Fault::Request("the URL cannot be asked for over HTTP".to_owned()))
}

/// Adds what every request has, and what a proxy wants that gets to see this one. Inside of a tunnel a proxy's password would
/// be the server's to read.
fn complete(headers: &mut HeaderMap, url: &Url, proxy: Option<&Proxy>) {
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, AGENT);
    let forwarding = proxy.filter(|proxy| url.scheme() == "http" && proxy.protocol() == Protocol::Http);
    if let Some(authorization) = forwarding.and_then(Proxy::authorization) {
        headers.insert(PROXY_AUTHORIZATION, authorization.clone());
    }
}

/// The address that an answer came from.
pub(super) fn remote(response: &Response) -> Option<IpAddr> {
    response.extensions().get::<HttpInfo>().map(|connection| connection.remote_addr().ip())
}

/// The host of a URL, with its port where that is not the usual one.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Reads files on a thread that may wait for them.
async fn on_disk<T: Send + 'static>(
    host: &str,
    read: impl FnOnce() -> Result<T, CertsDError> + Send + 'static,
) -> Result<T, RegistryError> {
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.unwrap_or_else(|panicked| {
        Err(CertsDError::Unreadable { path: PathBuf::new(), source: io::Error::other(panicked) })
    });
    read.map_err(|source| RegistryError::Certificates { host: printable(host), source: Box::new(source) })
}

/// What an error of the client means, by the errors that it wraps.
fn fault(error: &legacy::Error) -> Fault {
    let mut chain = Chain::default();
    chain.walk(error);
    let text = chain.text;
    match chain.clue {
        Some(Clue::NotTls) => Fault::NotTls,
        Some(Clue::Tls) => Fault::Tls(text),
        Some(Clue::Unresolved) => Fault::Resolve(text),
        Some(Clue::LargeHead) => Fault::Request(format!(
            "the answer's head is larger than {} KiB, or has more than 100 headers",
            READ_BUFFER >> 10
        )),
        None if error.is_connect() && chain.closed && chain.spoke_tls => Fault::HandshakeCut,
        None if error.is_connect() && chain.closed => Fault::HandshakeClosed,
        None if error.is_connect() => Fault::Connect(text),
        None => Fault::Request(text),
    }
}

/// What is found on the way down an error's sources.
#[derive(Default)]
struct Chain {
    clue: Option<Clue>,
    /// The far side closed an established connection. While connecting, that is during the TLS handshake: a TCP
    /// connection that does not come about is refused or times out.
    closed: bool,
    /// The server had begun to speak TLS.
    spoke_tls: bool,
    /// The innermost error's text.
    text: String,
}

/// An error that says by itself what happened.
#[derive(Clone, Copy)]
enum Clue {
    NotTls,
    Tls,
    Unresolved,
    /// The answer's head does not fit.
    LargeHead,
}

impl Clue {
    fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let content_type = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(if *error == content_type { Self::NotTls } else { Self::Tls });
        }
        let is_large = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large);
        error.is::<Unresolved>().then_some(Self::Unresolved).or(is_large.then_some(Self::LargeHead))
    }
}

impl Chain {
    fn walk(&mut self, error: &(dyn StdError + 'static)) {
        let tls = error.downcast_ref::<rustls::Error>().map(tls::explained);
        self.text = tls.unwrap_or_else(|| printable(without_manual(&error.to_string())));
        self.clue = self.clue.or_else(|| Clue::of(error));
        self.spoke_tls |= error.is::<SpokeTls>();
        if let Some(error) = error.downcast_ref::<io::Error>() {
            self.closed |= matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            );
            // An io::Error's source is its inner error's source: the inner error itself would be passed over.
            if let Some(inner) = error.get_ref() {
                return self.walk(inner);
            }
        }
        if let Some(source) = error.source() {
            self.walk(source);
        }
    }
}

/// What rustls says of a connection that ends without a word, without the page of its manual for programmers.
fn without_manual(text: &str) -> &str {
    text.split_once(": https://docs.rs/rustls/").map_or(text, |(said, _)| said)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is a URL and nothing to ask over HTTP is refused in words, and nothing panics.
    #[test]
    fn urls() {
        let long = |length: usize| format!("https://r.example/{}", "x".repeat(length));
        for (url, is_taken) in [
            ("http://r.example/", true),
            ("https://user:password@r.example:5000/a%20b?c=d#e", true),
            ("https://[::1]:5000/", true),
            ("https://r.example/\u{fc}|^`{}[]\\\"<>'?\u{fc}|^`{}[]\\\"<>'", true),
            (&*long(60_000), true),
            (&*long(70_000), false),
            ("ftp://r.example/", false),
            ("unix:/run/registry.sock", false),
            ("data:text/plain,x", false),
        ] {
            let found = uri(&Url::parse(url).unwrap());
            assert_eq!(found.is_ok(), is_taken, "{url}: {found:?}");
        }
    }
}
