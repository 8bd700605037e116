//! A client that follows nothing, tries nothing twice and knows no proxy. It shares hyper with ocipull, and no more.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

type Sender = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(super) struct Client(Sender);

/// A request that is being written.
pub(super) struct Asking {
    sender: Sender,
    request: Request<Full<Bytes>>,
}

/// An answer, with its body to come.
pub(super) struct Answer(http::Response<Incoming>);

/// A client that trusts nobody.
pub(super) fn client() -> Client {
    client_with(b"")
}

/// A client that trusts these certificates, in PEM form, and no others.
pub(super) fn client_with(trusted: &[u8]) -> Client {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let provider = rustls::crypto::ring::default_provider();
    let tls = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    Client(legacy::Client::builder(TokioExecutor::new()).build(HttpsConnector::from((tcp, tls))))
}

impl Client {
    pub(super) fn get(&self, url: impl AsRef<str>) -> Asking {
        self.ask(Method::GET, url.as_ref())
    }

    pub(super) fn head(&self, url: impl AsRef<str>) -> Asking {
        self.ask(Method::HEAD, url.as_ref())
    }

    pub(super) fn post(&self, url: impl AsRef<str>) -> Asking {
        self.ask(Method::POST, url.as_ref())
    }

    pub(super) fn put(&self, url: impl AsRef<str>) -> Asking {
        self.ask(Method::PUT, url.as_ref())
    }

    fn ask(&self, method: Method, url: &str) -> Asking {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().expect("a URL");
        Asking { sender: self.0.clone(), request }
    }
}

impl Asking {
    pub(super) fn header(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        self.request.headers_mut().insert(name, value.as_ref().parse().expect("a value"));
        self
    }

    pub(super) fn basic_auth(self, user: &str, password: &str) -> Self {
        self.header("authorization", format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    pub(super) fn bearer_auth(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub(super) fn body(mut self, body: String) -> Self {
        *self.request.body_mut() = body.into();
        self
    }

    pub(super) async fn send(self) -> Result<Answer, legacy::Error> {
        self.sender.request(self.request).await.map(Answer)
    }
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The next bytes of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        let Some(frame) = self.0.body_mut().frame().await else { return Ok(None) };
        Ok(Some(frame?.into_data().expect("no trailers here")))
    }
}
