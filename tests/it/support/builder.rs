//! Configures and starts a [`FaultRegistry`].

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::auth::{Auth, Issuer, Login, TokenPolicy};
use super::belonging::Offers;
use super::faults::Rules;
use super::registry::FaultRegistry;
use super::server::{self, Activity, Connections, Shared, Storage};
use super::store::Store;
use super::tls::{Certificate, ClientAuthority};
use super::wire::Pacer;

/// What a registry without TLS answers to a TLS hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnTlsHello {
    /// 400 in plain text, as Go's server does.
    BadRequest,
    /// Nothing; the connection is closed.
    Close,
    /// A fatal TLS alert: a server that does speak TLS, only not with this client.
    Alert,
}

/// A registry that is not started yet.
#[must_use = "nothing listens before start"]
pub(crate) struct Builder {
    auth: Auth,
    tokens: TokenPolicy,
    token_server: Option<(Arc<Issuer>, String)>,
    certificate: Option<Certificate>,
    clients: Option<Arc<ClientAuthority>>,
    on_tls_hello: OnTlsHello,
    storage: Option<(Storage, Arc<Mutex<Store>>, Arc<AtomicBool>)>,
    tags_per_page: usize,
    links_in_plain_http: bool,
    offers: Offers,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            auth: Auth::Nothing,
            tokens: TokenPolicy::default(),
            token_server: None,
            certificate: None,
            clients: None,
            on_tls_hello: OnTlsHello::BadRequest,
            storage: None,
            tags_per_page: usize::MAX,
            links_in_plain_http: false,
            offers: Offers::default(),
        }
    }

    /// Speaks TLS with such a certificate.
    pub(crate) fn tls(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Lets in, with TLS, only clients with a certificate of this authority.
    pub(crate) fn only_clients_of(mut self, authority: &Arc<ClientAuthority>) -> Self {
        self.clients = Some(Arc::clone(authority));
        self
    }

    /// What to do, without TLS, when a client tries it.
    pub(crate) fn on_tls_hello(mut self, answer: OnTlsHello) -> Self {
        self.on_tls_hello = answer;
        self
    }

    /// Asks for these Basic credentials.
    pub(crate) fn basic_auth(mut self, user: &str, password: &str) -> Self {
        self.auth = Auth::Basic(Login { user: user.into(), password: password.into() });
        self
    }

    /// Asks for a Bearer token, which `/token` gives to everybody.
    pub(crate) fn token_auth(mut self) -> Self {
        self.auth = Auth::Token;
        self
    }

    /// Gives tokens to this user only.
    pub(crate) fn token_user(mut self, user: &str, password: &str) -> Self {
        self.tokens.login = Some(Login { user: user.into(), password: password.into() });
        self
    }

    /// Also gives tokens for this refresh token, by POST.
    pub(crate) fn identity_token(mut self, token: &str) -> Self {
        self.tokens.identity_token = Some(token.into());
        self
    }

    /// The `expires_in` of tokens, or none. Nothing waits for it: [`FaultRegistry::revoke_tokens`] ends them.
    pub(crate) fn token_lifetime(mut self, seconds: Option<u64>) -> Self {
        self.tokens.lifetime = seconds;
        self
    }

    /// A token is good for this many requests.
    pub(crate) fn token_uses(mut self, requests: u64) -> Self {
        self.tokens.uses = Some(requests);
        self
    }

    /// The field of the token answer: `token` or `access_token`.
    pub(crate) fn token_field(mut self, field: &'static str) -> Self {
        self.tokens.field = field;
        self
    }

    /// The status that an expired token is refused with.
    pub(crate) fn token_refusal(mut self, status: u16) -> Self {
        self.tokens.refusal = status;
        self
    }

    /// Tokens come from the other registry's `/token`, under the other's policy.
    pub(crate) fn token_server(mut self, other: &FaultRegistry) -> Self {
        self.auth = Auth::Token;
        self.token_server = Some((Arc::clone(&other.shared.issuer), format!("{}/token", other.url())));
        self
    }

    /// Redirects every blob to `other`, which shares this registry's content.
    pub(crate) fn redirect_blobs_to(mut self, other: &FaultRegistry) -> Self {
        let storage = Storage { base: other.url(), signed: false };
        self.storage =
            Some((storage, Arc::clone(&other.shared.store), Arc::clone(&other.shared.signed_urls)));
        self
    }

    /// Signs the redirects' URLs, and lets the storage refuse what is not signed.
    pub(crate) fn signed_urls(mut self) -> Self {
        let (storage, _, signed) = self.storage.as_mut().expect("redirect_blobs_to comes first");
        storage.signed = true;
        signed.store(true, std::sync::atomic::Ordering::SeqCst);
        self
    }

    /// Lists at most this many tags at once.
    pub(crate) fn tags_per_page(mut self, count: usize) -> Self {
        self.tags_per_page = count;
        self
    }

    /// Links to next pages with `http://` and the host, as a registry does that does not know of the TLS before it.
    pub(crate) fn links_in_plain_http(mut self) -> Self {
        self.links_in_plain_http = true;
        self
    }

    /// Lists no referrers: what is pushed with a subject is listed under a tag, as clients do it then.
    pub(crate) fn without_referrers(mut self) -> Self {
        self.offers.referrers = false;
        self
    }

    /// Lists at most this many referrers at once.
    pub(crate) fn referrers_per_page(mut self, count: usize) -> Self {
        self.offers.referrers_per_page = count;
        self
    }

    /// Keeps simple signing's signatures itself, and says so.
    pub(crate) fn signature_extension(mut self) -> Self {
        self.offers.signatures = true;
        self
    }

    /// Listens on a free port of 127.0.0.1. The server has threads of its own, so that tests may block.
    pub(crate) fn start(self) -> FaultRegistry {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("fault-registry")
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _context = runtime.enter();
            server::bind(([127, 0, 0, 1], 0).into()).unwrap().listen(server::BACKLOG).unwrap()
        };
        let (tls, ca) =
            self.certificate.map(|certificate| certificate.issue(self.clients.as_deref())).unzip();
        let address = listener.local_addr().unwrap();
        let base = base_url(tls.is_some(), address);
        let (issuer, realm) = self
            .token_server
            .unwrap_or_else(|| (Arc::new(Issuer::new(self.tokens)), format!("{base}/token")));
        let (redirect_blobs_to, store) = self.storage.map(|(storage, store, _)| (storage, store)).unzip();
        let shared = Arc::new(Shared {
            address,
            store: store.unwrap_or_default(),
            rules: Rules::default(),
            auth: self.auth,
            issuer,
            realm,
            redirect_blobs_to,
            signed_urls: Arc::default(),
            tags_per_page: self.tags_per_page,
            links_in_plain_http: self.links_in_plain_http,
            offers: self.offers,
            tls,
            on_tls_hello: self.on_tls_hello,
            up: watch::Sender::new(true),
            listens: AtomicBool::new(true),
            handshakes_to_cut: AtomicUsize::new(0),
            link: Pacer::new(0),
            bytes_per_second_each: AtomicU64::new(0),
            requests: Mutex::default(),
            unexpected: Mutex::default(),
            connections: Connections::default(),
            activity: Activity::default(),
        });
        shared.store.lock().unwrap().lists_by_tag = !self.offers.referrers;
        runtime.spawn(server::run(listener, Arc::clone(&shared)));
        FaultRegistry::started(shared, runtime, ca)
    }
}

pub(crate) fn base_url(tls: bool, address: std::net::SocketAddr) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}
