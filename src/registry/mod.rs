//! Asking registries: references resolved, manifests and small blobs read and verified, blobs opened for download
//! (distribution spec v1.1, "Pull").
//!
//! A [`Registry`] is the process's one client for all registries. It authenticates, follows redirects, keeps to a
//! number of connections to each host, and retries; it verifies manifests and small documents. Blobs that are opened
//! for download come as they are: lengths and ranges hold, and the digest is `verify`'s. With which configuration of
//! mirrors and certificates and with which credentials registries are asked is said by the caller, in [`Options`]; nothing
//! here prints.

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::digest::Digest;
use crate::reference::Reference;
use config::certs_d::CertsD;
use config::registries_conf::Registries;
use proxy::Proxies;

mod advice;
mod attempt;
pub mod auth;
mod blob;
mod body;
mod codes;
pub mod config;
mod connect;
mod elsewhere;
mod encoding;
mod endpoint;
mod error;
mod exchange;
mod fault;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod kept;
mod keyed;
pub mod link;
mod login;
mod lost;
mod meaning;
mod offers;
mod pages;
mod places;
mod proxy;
mod range;
pub mod redirect;
mod referrers;
mod resolve;
pub mod retry;
mod retrying;
mod round;
mod route;
mod signatures;
mod size;
mod tags;
mod throttle;
mod tls;
mod transport;
mod tried;
mod words;

pub use auth::{CredentialError, CredentialSource, Credentials};
pub use blob::{BlobBody, BlobSource, Content};
pub use encoding::ContentEncoding;
pub use endpoint::PlainHttp;
pub use error::{About, Code, Fault, RangeDoubt, RegistryError, ends, tried_times, wait};
pub use login::{LoginCheck, LoginKey};
pub use pages::LinkRefusal;
pub use places::bare_url;
pub use referrers::MOST_REFERRERS;
pub use resolve::Resolved;
pub use retry::Budget;
pub use retrying::{Earlier, Retryable, differing};
pub use signatures::SIGNATURES_CAP;
pub use tags::TAGS;
pub use tls::ServerVerification;
pub use tried::{Told, Tried};

/// How registries are asked.
#[derive(Clone)]
pub struct Options {
    /// How servers prove who they are.
    pub verification: ServerVerification,
    /// PEM files with certificates that are trusted besides the system's: authorities, or servers' own.
    pub ca_files: Vec<PathBuf>,
    /// Where the certificates of single registries lie.
    pub certs_d: CertsD,
    /// Which hosts are asked in plain http.
    pub plain_http: PlainHttp,
    /// Which endpoints are asked instead of a registry or before it.
    pub registries: Arc<Registries>,
    /// Where credentials come from.
    pub credentials: Arc<dyn CredentialSource>,
    /// How often and how patiently to try again.
    pub policy: retry::Policy,
    /// How long nothing may come before a request or a body counts as failed.
    pub stall_timeout: Duration,
    /// How many requests and bodies one host has at a time.
    pub connections: usize,
    /// How many bytes of bodies may come a second, of all hosts together.
    pub max_rate: Option<NonZeroU64>,
    /// Who is told what goes on.
    pub observer: Arc<dyn Fn(Notice) + Send + Sync>,
}

impl Default for Options {
    /// Anonymous, verified by the system's roots, with a stall timeout of 30 s; nobody is told anything.
    fn default() -> Self {
        Self {
            verification: ServerVerification::default(),
            ca_files: Vec::new(),
            certs_d: CertsD::default(),
            plain_http: PlainHttp::default(),
            registries: Arc::default(),
            credentials: Arc::new(auth::Anonymous),
            policy: retry::Policy::default(),
            stall_timeout: Duration::from_secs(30),
            connections: 8,
            max_rate: None,
            observer: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("verification", &self.verification)
            .field("ca_files", &self.ca_files)
            .field("certs_d", &self.certs_d)
            .field("registries", &self.registries)
            .field("plain_http", &self.plain_http)
            .field("policy", &self.policy)
            .field("stall_timeout", &self.stall_timeout)
            .field("connections", &self.connections)
            .field("max_rate", &self.max_rate)
            .finish_non_exhaustive()
    }
}

/// What goes on that somebody may want to know. Told from async tasks: the observer must be quick.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A request failed and will be made again.
    Retry {
        /// The registry, as its references name it.
        host: String,
        /// The blob or manifest that the request was about.
        digest: Option<Digest>,
        /// How long every request to the registry waits.
        after: Duration,
        /// Whether the host named that time.
        announced: bool,
        /// What went wrong.
        cause: String,
    },
    /// It was chosen what a reference without a host means.
    Chosen {
        /// The reference as it was written.
        written: String,
        /// What it means.
        reference: Reference,
        /// Who says so.
        source: String,
    },
    /// Something that stops nothing: one sentence.
    Warning(String),
}

/// What was done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Requests sent, those for tokens and those that failed included.
    pub requests: u64,
    /// Tries that were repetitions.
    pub retries: u64,
    /// Bytes of bodies that came, as they came.
    pub body_bytes: u64,
}

/// A client for registries. Clones are the same client: they share connections, tokens and waits.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    client: exchange::Client,
    authenticator: auth::Authenticator,
    policy: retry::Policy,
    observer: Arc<dyn Fn(Notice) + Send + Sync>,
    offers: offers::Offers,
    routes: route::Routes,
}

impl Registry {
    /// A client with these options, and with the proxies that the environment names.
    ///
    /// # Errors
    /// [`RegistryError::CaFile`] and [`RegistryError::CaFileMalformed`] for files of certificates, [`RegistryError::Proxy`] for
    /// the environment's.
    pub fn new(options: Options) -> Result<Self, RegistryError> {
        Self::through(options, Proxies::from_environment()?)
    }

    fn through(options: Options, proxies: Proxies) -> Result<Self, RegistryError> {
        let client = exchange::Client::new(&options, proxies)?;
        let Options { credentials, policy, observer, registries, verification, .. } = options;
        let authenticator = auth::Authenticator::new(credentials);
        let offers = offers::Offers::default();
        let routes = route::Routes::new(registries, verification);
        Ok(Self { inner: Arc::new(Inner { client, authenticator, policy, observer, offers, routes }) })
    }

    /// What was done so far, by all clones together.
    pub fn statistics(&self) -> Statistics {
        let counters = &self.inner.client.counters;
        Statistics {
            requests: counters.requests.load(Ordering::Relaxed),
            retries: counters.retries.load(Ordering::Relaxed),
            body_bytes: counters.body_bytes.load(Ordering::Relaxed),
        }
    }

    /// How long the fastest answer so far took, from whichever host it came: what a request costs at least.
    pub fn fastest_answer(&self) -> Option<Duration> {
        self.inner.client.counters.fastest_answer()
    }

    fn notice(&self, notice: Notice) {
        (self.inner.observer)(notice);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("client", &self.inner.client).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
