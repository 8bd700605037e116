//! The HTTP clients: HTTP/1.1, their own redirects, retries and decompression off, timeouts, proxies, TLS. There is one for
//! each manner of TLS that is asked for: which authorities, which client certificates, or no verification.
//!
//! Bulk goes over separate connections on purpose: links and CDNs limit each connection, and one multiplexed HTTP/2
//! connection is one limit and one congestion window for everything.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::InvalidMessage;
use url::Url;

use super::Options;
use super::config::certs_d::{Certificates, CertsD, CertsDError};
use super::error::{RegistryError, shown};
use super::fault::Fault;
use super::kept::KeptFirst;
use super::proxy::Proxies;
use super::route::{Target, Trust};
use super::tls::{self, ServerVerification, Trusted};
use crate::reference::Repository;
use crate::text::printable;

/// Sent with every request, so that a registry's operator can tell who asks.
const USER_AGENT: &str = concat!("ocipull/", env!("CARGO_PKG_VERSION"));

/// A connection that takes longer than this to come about will not be a good one.
const LONGEST_CONNECT: Duration = Duration::from_secs(30);

/// How long an idle connection is kept: a little less than load balancers keep theirs (60 s).
const IDLE: Duration = Duration::from_secs(50);

/// Connections that are alike in how TLS is done on them.
#[derive(Debug, Clone)]
pub(super) struct Connections(reqwest::Client);

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
        let connections = transport.build(&manner, transport.trusted.clone())?;
        transport.known().insert(manner, connections);
        Ok(transport)
    }

    fn build(&self, manner: &Manner, trusted: Trusted) -> Result<Connections, RegistryError> {
        let verification = if manner.is_insecure { ServerVerification::Disabled } else { self.verification };
        let through = Arc::clone(&self.proxies);
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(tls::client_config(verification, trusted))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .proxy(reqwest::Proxy::custom(move |url| through.of(url).cloned()))
            .pool_max_idle_per_host(self.connections)
            .pool_idle_timeout(IDLE)
            .connect_timeout(self.stall_timeout.min(LONGEST_CONNECT))
            .tcp_nodelay(true)
            .connector_layer(KeptFirst)
            .build();
        client.map(Connections).map_err(RegistryError::Client)
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
        let connections = self.build(&manner, trusted)?;
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

    /// Sends a request and waits for the answer's head, at most for the stall timeout.
    pub(super) async fn send(
        &self,
        connections: &Connections,
        request: reqwest::Request,
    ) -> Result<reqwest::Response, Fault> {
        let proxy = self.proxies.of(request.url()).map(shown);
        match tokio::time::timeout(self.stall_timeout, connections.0.execute(request)).await {
            Err(_) => Err(Fault::Stalled(self.stall_timeout)),
            Ok(Err(error)) => Err(fault(&error).through(proxy)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// Whether requests to `url` go through a proxy.
    pub(super) fn is_proxied(&self, url: &Url) -> bool {
        self.proxies.of(url).is_some()
    }
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
pub(super) fn fault(error: &reqwest::Error) -> Fault {
    let mut chain = Chain::default();
    chain.walk(error);
    let text = chain.text;
    if chain.not_tls {
        Fault::NotTls
    } else if chain.tls {
        Fault::Tls(text)
    } else if error.is_dns() {
        Fault::Resolve(text)
    } else if error.is_connect() && chain.closed {
        Fault::HandshakeClosed
    } else if error.is_connect() {
        Fault::Connect(text)
    } else {
        Fault::Request(text)
    }
}

/// What is found on the way down an error's sources.
#[derive(Default)]
struct Chain {
    not_tls: bool,
    tls: bool,
    /// The far side closed an established connection. While connecting, that is during the TLS handshake: a TCP
    /// connection that does not come about is refused or times out.
    closed: bool,
    /// The innermost error's text.
    text: String,
}

impl Chain {
    fn walk(&mut self, error: &(dyn StdError + 'static)) {
        self.text = printable(&error.to_string());
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            self.tls = true;
            self.text = tls::explained(error);
            let content_type = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
            self.not_tls |= *error == content_type;
        }
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
