//! The HTTP client: HTTP/1.1, its own redirects, retries and decompression off, timeouts, proxies, TLS.
//!
//! Bulk goes over separate connections on purpose: links and CDNs limit each connection, and one multiplexed HTTP/2
//! connection is one limit and one congestion window for everything.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::InvalidMessage;
use url::Url;

use super::Options;
use super::error::{Fault, RegistryError};
use super::proxy::Proxies;
use super::tls;
use crate::text::printable;

/// Sent with every request, so that a registry's operator can tell who asks.
const USER_AGENT: &str = concat!("ocipull/", env!("CARGO_PKG_VERSION"));

/// A connection that takes longer than this to come about will not be a good one.
const LONGEST_CONNECT: Duration = Duration::from_secs(30);

/// How long an idle connection is kept: a little less than load balancers keep theirs (60 s).
const IDLE: Duration = Duration::from_secs(50);

#[derive(Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    proxies: Arc<Proxies>,
    stall_timeout: Duration,
}

impl Transport {
    /// # Errors
    /// Those of certificates that cannot be used.
    pub(super) fn new(options: &Options, proxies: Proxies) -> Result<Self, RegistryError> {
        let proxies = Arc::new(proxies);
        let through = Arc::clone(&proxies);
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(tls::client_config(options.verification, &options.ca_files)?)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .proxy(reqwest::Proxy::custom(move |url| through.of(url).cloned()))
            .pool_max_idle_per_host(options.connections.max(1))
            .pool_idle_timeout(IDLE)
            .connect_timeout(options.stall_timeout.min(LONGEST_CONNECT))
            .tcp_nodelay(true)
            .build()
            .map_err(RegistryError::Client)?;
        Ok(Self { client, proxies, stall_timeout: options.stall_timeout })
    }

    /// Sends a request and waits for the answer's head, at most for the stall timeout.
    pub(super) async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, Fault> {
        match tokio::time::timeout(self.stall_timeout, self.client.execute(request)).await {
            Err(_) => Err(Fault::Stalled(self.stall_timeout)),
            Ok(Err(error)) => Err(fault(&error)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// Whether requests to `url` go through a proxy.
    pub(super) fn is_proxied(&self, url: &Url) -> bool {
        self.proxies.of(url).is_some()
    }
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
