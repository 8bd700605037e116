//! A registry's answers, one at a time, from a server that says exactly what a test tells it to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, OnceLock};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::auth::Given;
use super::*;
use crate::digest::Algorithm;
use crate::failure::{Failure as _, Kind};
use crate::manifest::Descriptor;
use crate::reference::{Reference, Repository};

mod pages;
mod referrers;
mod signatures;
mod tokens;
mod ways;

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A request as the server saw it.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    target: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What the server does.
#[derive(Debug, Clone, Default)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    length: Length,
    /// The connection stays open and silent after the body.
    hangs: bool,
}

/// The length that is announced. Where it is not the body's, the connection is closed after the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Length {
    #[default]
    OfTheBody,
    Of(usize),
    Unannounced,
}

fn reply(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

impl Reply {
    fn header(mut self, name: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn announcing(mut self, length: Length) -> Self {
        self.length = length;
        self
    }

    fn hanging(mut self) -> Self {
        self.hangs = true;
        self
    }

    fn bytes(&self, head_only: bool) -> Vec<u8> {
        let length = match self.length {
            Length::OfTheBody => format!("Content-Length: {}\r\n", self.body.len()),
            Length::Of(length) => format!("Content-Length: {length}\r\n"),
            Length::Unannounced => String::new(),
        };
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let text =
            format!("HTTP/1.1 {} Status\r\n{length}{}", self.status, headers.collect::<Vec<_>>().concat());
        let mut bytes = (text + "\r\n").into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

type Handler = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(handler), None).await
    }

    async fn start_tls(
        certificate: &rcgen::CertifiedKey<rcgen::KeyPair>,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Arc::new(handler), Some(acceptor(certificate))).await
    }

    async fn listen(handler: Handler, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, log, tls) = (Arc::clone(&handler), Arc::clone(&log), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, handler, log).await;
                            }
                        }
                        None => serve(stream, handler, log).await,
                    }
                });
            }
        });
        Self { address, seen }
    }

    fn repository(&self) -> Repository {
        format!("{}/team/app", self.address).parse().unwrap()
    }

    fn reference(&self, rest: &str) -> Reference {
        format!("{}/team/app{rest}", self.address).parse().unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

fn acceptor(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> tokio_rustls::TlsAcceptor {
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    Arc::new(config).into()
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    handler: Handler,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    let mut buffer = Vec::new();
    loop {
        let Some(seen) = read_request(&mut stream, &mut buffer).await else { return };
        let reply = handler(&seen);
        let head_only = seen.method == "HEAD";
        log.lock().unwrap().push(seen);
        let _ = stream.write_all(&reply.bytes(head_only)).await;
        let _ = stream.flush().await;
        if reply.hangs {
            std::future::pending::<()>().await;
        }
        if reply.length != Length::OfTheBody {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

async fn read_request(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<Seen> {
    loop {
        if buffer.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.ok()?;
            return None;
        }
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let mut lines = head.lines();
            let mut words = lines.next()?.split(' ');
            let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
            let headers: HashMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if buffer.len() >= end + 4 + length {
                let rest: Vec<u8> = buffer.drain(..end + 4 + length).skip(end + 4).collect();
                return Some(Seen { method, target, headers, body: String::from_utf8(rest).unwrap() });
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn options() -> Options {
    let policy = retry::Policy { first_wait: Duration::from_millis(1), ..retry::Policy::default() };
    Options { policy, stall_timeout: Duration::from_secs(5), ..Options::default() }
}

fn registry() -> Registry {
    Registry::new(options()).unwrap()
}

fn with_credentials(server: &Server, credentials: Credentials) -> Registry {
    let given = Given::new(server.address.to_string(), credentials);
    Registry::new(Options { credentials: Arc::new(given), ..options() }).unwrap()
}

fn basic() -> Credentials {
    Credentials::Basic { username: "me".into(), password: "secret".into() }
}

/// `me:secret`
const BASIC: &str = "Basic bWU6c2VjcmV0";

fn manifest_reply() -> Reply {
    reply(200)
        .header("Content-Type", MANIFEST_TYPE)
        .header("Docker-Content-Digest", &Digest::sha256(MANIFEST))
        .body(MANIFEST)
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new("application/octet-stream".into(), Digest::sha256(bytes), bytes.len() as u64)
}

async fn collect(mut body: BlobBody) -> Result<Vec<u8>, RegistryError> {
    let mut whole = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}

/// A tag costs one question, and its manifest another; both say what they accept, and that it is not to be compressed.
#[tokio::test]
async fn head_then_get_by_digest() {
    let server = Server::start(|_| manifest_reply()).await;
    let registry = registry();
    let resolved = registry.resolve(&server.reference(":v1")).await.unwrap();
    assert!(resolved.manifest.is_none());
    assert_eq!(resolved.descriptor.digest, Digest::sha256(MANIFEST));
    assert_eq!(resolved.descriptor.size, MANIFEST.len() as u64);
    let digest = resolved.descriptor.digest;
    let manifest =
        registry.manifest(&server.repository(), &digest, Some(&resolved.descriptor), None).await.unwrap();
    assert_eq!(manifest.raw().as_ref(), MANIFEST);
    let by_digest = format!("GET /v2/team/app/manifests/{digest}");
    assert_eq!(server.lines(), ["HEAD /v2/team/app/manifests/v1", &by_digest]);
    for seen in server.seen() {
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert!(seen.header("accept").unwrap().contains("application/vnd.oci.image.index.v1+json"));
        assert!(seen.header("user-agent").unwrap().starts_with("ocipull/"));
        assert_eq!(seen.header("authorization"), None);
    }
}

/// A digest is asked for by GET at once; its tag is nobody's business.
#[tokio::test]
async fn a_digest_needs_no_head() {
    let server = Server::start(|_| manifest_reply()).await;
    let digest = Digest::sha256(MANIFEST);
    let resolved = registry().resolve(&server.reference(&format!(":v1@{digest}"))).await.unwrap();
    assert_eq!(resolved.descriptor.digest, digest);
    assert!(resolved.manifest.is_some());
    assert_eq!(server.lines(), [format!("GET /v2/team/app/manifests/{digest}")]);
}

/// What HEAD does not tell, GET of the same URL does; a rate limit is not asked twice.
#[tokio::test]
async fn head_falls_back_to_get() {
    let bare = || reply(200).header("Content-Type", MANIFEST_TYPE).body(MANIFEST);
    let generic = || manifest_reply().header("X", "y");
    let mut heads: Vec<Reply> = [400, 401, 403, 404, 405, 501].map(reply).to_vec();
    heads.push(bare());
    heads.push(bare().header("Docker-Content-Digest", "md5:00"));
    let mut plain = generic();
    plain.headers[0].1 = "application/json".to_owned();
    heads.push(plain);
    for head in heads {
        let shown = format!("{head:?}");
        let server =
            Server::start(move |seen| if seen.method == "HEAD" { head.clone() } else { manifest_reply() })
                .await;
        let resolved = registry().resolve(&server.reference(":v1")).await.unwrap();
        assert_eq!(resolved.descriptor.digest, Digest::sha256(MANIFEST), "{shown}");
        assert_eq!(server.lines(), ["HEAD /v2/team/app/manifests/v1", "GET /v2/team/app/manifests/v1"]);
    }
    let server = Server::start(|_| reply(429).header("Retry-After", "3600")).await;
    let error = registry().resolve(&server.reference(":v1")).await.unwrap_err();
    assert_eq!(server.lines(), ["HEAD /v2/team/app/manifests/v1"]);
    assert_eq!(error.kind(), Kind::Network);
    assert!(error.to_string().contains("1h"), "{error}");
}

/// A missing tag is "not found" in the registry's own words.
#[tokio::test]
async fn errors_have_the_registrys_codes() {
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let server = Server::start(move |_| reply(404).body(body)).await;
    let error = registry().resolve(&server.reference(":v1")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let expected = format!(
        "{0}/team/app:v1: GET http://{0}/v2/team/app/manifests/v1 was answered 404 Not Found: \
         MANIFEST_UNKNOWN: manifest unknown",
        server.address
    );
    assert_eq!(error.to_string(), expected);
}

/// Bytes that are not the digest's, or not the header's, are refused.
#[tokio::test]
async fn manifests_are_hashed() {
    let cases = [
        (manifest_reply().body("{}"), Digest::sha256(MANIFEST)),
        (manifest_reply().body("{}"), Digest::sha256(b"{}")),
    ];
    for (answer, digest) in cases {
        let server = Server::start(move |_| answer.clone()).await;
        let error = registry().manifest(&server.repository(), &digest, None, None).await.unwrap_err();
        assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Integrity);
        assert_eq!(server.lines().len(), 1);
    }
}

/// A server that compresses all the same is understood; a bomb is not inflated.
#[tokio::test]
async fn unasked_encodings_of_manifests() {
    let zstd = zstd::encode_all(MANIFEST, 1).unwrap();
    let server =
        Server::start(move |_| manifest_reply().header("Content-Encoding", "zstd").body(zstd.clone())).await;
    let digest = Digest::sha256(MANIFEST);
    assert!(registry().manifest(&server.repository(), &digest, None, None).await.is_ok());

    let bomb = zstd::encode_all(&vec![b' '; 5 << 20][..], 1).unwrap();
    let server =
        Server::start(move |_| manifest_reply().header("Content-Encoding", "zstd").body(bomb.clone())).await;
    let error = registry().manifest(&server.repository(), &digest, None, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

/// A digest that the registry resolves to and does not have is had by the tag, with a warning.
#[tokio::test]
async fn the_tag_stands_in_for_a_missing_digest() {
    let server =
        Server::start(|seen| if seen.target.ends_with("/v1") { manifest_reply() } else { reply(404) }).await;
    let notices = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&notices);
    let observer = Arc::new(move |notice| log.lock().unwrap().push(notice));
    let registry = Registry::new(Options { observer, ..options() }).unwrap();
    let reference = server.reference(":v1");
    let digest = Digest::sha256(MANIFEST);
    let found = registry.manifest(reference.repository(), &digest, None, reference.tag()).await;
    assert!(found.is_ok());
    assert!(matches!(&notices.lock().unwrap()[..], [Notice::Warning(_)]));
}

/// The registry's and its token service's part in one server: any of `accepted` opens the registry.
fn token_server(accepted: &'static [&'static str], refusal: u16) -> impl Fn(&Seen) -> Reply + Send + Sync {
    let issued = AtomicUsize::new(0);
    let host = OnceLock::new();
    move |seen| {
        let host = host.get_or_init(|| seen.header("host").unwrap().to_owned());
        if seen.target.starts_with("/token") {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return reply(200).body(format!(r#"{{"token":"t{number}"}}"#));
        }
        let header = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match header {
            Some(token) if accepted.contains(&token) => manifest_reply(),
            Some(_) => reply(refusal).header("WWW-Authenticate", &format!("Bearer realm=\"http://{host}/token\"")),
            None => reply(401).header(
                "WWW-Authenticate",
                &format!(r#"Basic realm="x", Bearer realm="http://{host}/token",service="s",scope="repository:team/app:pull""#),
            ),
        }
    }
}

/// The first 401 is answered with a token, and the next request goes with it at once.
#[tokio::test]
async fn bearer_tokens_are_remembered() {
    let server = Server::start(token_server(&["t1"], 401)).await;
    let registry = with_credentials(&server, basic());
    registry.resolve(&server.reference(":v1")).await.unwrap();
    registry.resolve(&server.reference(":v2")).await.unwrap();
    assert_eq!(
        server.lines(),
        [
            "HEAD /v2/team/app/manifests/v1",
            "GET /token?service=s&scope=repository%3Ateam%2Fapp%3Apull&account=me",
            "HEAD /v2/team/app/manifests/v1",
            "HEAD /v2/team/app/manifests/v2",
        ]
    );
    let authorization: Vec<_> =
        server.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    let expected = [None, Some(BASIC), Some("Bearer t1"), Some("Bearer t1")];
    assert_eq!(authorization.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
}

/// Many requests at once ask for one token.
#[tokio::test]
async fn one_token_request_at_a_time() {
    let server = Server::start(token_server(&["t1"], 401)).await;
    let registry = registry();
    let repository = server.repository();
    let requests = (0..8).map(|_| {
        let (registry, repository) = (registry.clone(), repository.clone());
        tokio::spawn(async move {
            registry.manifest(&repository, &Digest::sha256(MANIFEST), None, None).await.map(drop)
        })
    });
    for request in futures_util::future::join_all(requests).await {
        request.unwrap().unwrap();
    }
    assert_eq!(server.lines().iter().filter(|line| line.contains("/token")).count(), 1);
}

/// A token that has expired is renewed, whichever of the three statuses says so.
#[tokio::test]
async fn expired_tokens_are_renewed() {
    for refusal in [401, 400, 403] {
        let requests = Arc::new(AtomicUsize::new(0));
        let inner = token_server(&["t1", "t2"], refusal);
        let old = token_server(&["t2"], refusal);
        let count = Arc::clone(&requests);
        let server = Server::start(move |seen| {
            let registry = !seen.target.starts_with("/token");
            // The first two go to the registry as it was when t1 was young.
            if registry && count.fetch_add(1, Ordering::SeqCst) >= 2 { old(seen) } else { inner(seen) }
        })
        .await;
        let registry = registry();
        registry.resolve(&server.reference(":v1")).await.unwrap();
        registry.resolve(&server.reference(":v2")).await.unwrap();
        let last: Vec<_> = server
            .seen()
            .iter()
            .rev()
            .take(3)
            .rev()
            .map(|seen| seen.header("authorization").map(str::to_owned))
            .collect();
        assert_eq!(last, [Some("Bearer t1".to_owned()), None, Some("Bearer t2".to_owned())], "{refusal}");
    }
}

/// Two refusals in a row are final, and a fresh token's 403 is one at once.
#[tokio::test]
async fn refused_tokens_are_final() {
    for (refusal, tokens) in [(401, 2), (403, 1)] {
        let server = Server::start(token_server(&[], refusal)).await;
        let digest = Digest::sha256(MANIFEST);
        let error = registry().manifest(&server.repository(), &digest, None, None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Auth);
        assert!(error.hint().unwrap().contains("does not exist, or needs a login"));
        assert_eq!(server.lines().iter().filter(|line| line.contains("/token")).count(), tokens, "{refusal}");
    }
}

/// A token service that says no is an authentication failure, with its reasons.
#[tokio::test]
async fn token_services_refuse() {
    let server = Server::start(|seen| {
        if seen.target.starts_with("/token") {
            return reply(401).body(r#"{"details":"incorrect username or password"}"#);
        }
        let host = seen.header("host").unwrap();
        reply(401).header("WWW-Authenticate", &format!("Bearer realm=http://{host}/token"))
    })
    .await;
    let error = with_credentials(&server, basic()).resolve(&server.reference("")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Auth);
    assert!(
        std::error::Error::source(&error).unwrap().to_string().contains("incorrect username or password")
    );
}

fn basic_server(seen: &Seen) -> Reply {
    match seen.header("authorization") {
        Some(BASIC) => manifest_reply(),
        _ => reply(401).header("WWW-Authenticate", "Basic realm=x"),
    }
}

/// Basic: with credentials, with wrong ones, without.
#[tokio::test]
async fn basic_authentication() {
    let server = Server::start(basic_server).await;
    with_credentials(&server, basic()).resolve(&server.reference("")).await.unwrap();
    assert_eq!(server.lines().len(), 2);

    let wrong = Credentials::Basic { username: "me".into(), password: "wrong".into() };
    let error = with_credentials(&server, wrong).resolve(&server.reference("")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Auth);

    let error = registry().resolve(&server.reference("")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Auth);

    let elsewhere = Given::new("other.example", basic());
    let registry = Registry::new(Options { credentials: Arc::new(elsewhere), ..options() }).unwrap();
    assert_eq!(registry.resolve(&server.reference("")).await.unwrap_err().kind(), Kind::Auth);
}

/// A given registry token goes along from the first request on.
#[tokio::test]
async fn registry_tokens_go_as_they_are() {
    let server = Server::start(token_server(&["given"], 401)).await;
    let registry = with_credentials(&server, Credentials::RegistryToken("given".into()));
    registry.resolve(&server.reference(":v1")).await.unwrap();
    assert_eq!(server.lines().len(), 1);
}

/// An identity token is exchanged by POST, or used as a password where the service knows no POST.
#[tokio::test]
async fn identity_tokens_are_exchanged() {
    for (status, lines) in [(200, 4), (405, 5), (404, 5), (401, 5), (400, 5)] {
        let inner = token_server(&["t1", "posted"], 401);
        let server = Server::start(move |seen| match (seen.method.as_str(), status) {
            ("POST", 200) => reply(200).body(r#"{"access_token":"posted","expires_in":300}"#),
            ("POST", status) => reply(status),
            _ => inner(seen),
        })
        .await;
        let token = Credentials::IdentityToken { username: Some("me".into()), token: "secret".into() };
        with_credentials(&server, token).resolve(&server.reference(":v1")).await.unwrap();
        let seen = server.seen();
        assert_eq!(seen.len(), lines - 1, "{status}: {:?}", server.lines());
        assert_eq!(
            seen[1].body,
            "grant_type=refresh_token&service=s&client_id=ocipull&scope=repository%3Ateam%2Fapp%3Apull&refresh_token=secret"
        );
        if status != 200 {
            assert_eq!(seen[2].header("authorization"), Some(BASIC));
        }
    }
}

/// A blob's redirect is followed without credentials, and its target serves the blob's next request directly.
#[tokio::test]
async fn redirects_leave_credentials_behind() {
    let storage = Server::start(|_| reply(200).body("blob")).await;
    let target = format!("http://{}/signed?sig=1", storage.address);
    let registry_server = Server::start(move |seen| match seen.header("authorization") {
        Some(BASIC) => reply(307).header("Location", &target),
        _ => basic_server(seen),
    })
    .await;
    let registry = with_credentials(&registry_server, basic());
    let source = registry.blob_source(&registry_server.repository(), &descriptor(b"blob"));
    for _ in 0..2 {
        let body = registry.open(&source, None).await.unwrap();
        assert_eq!(collect(body).await.unwrap(), b"blob");
    }
    assert_eq!(registry_server.lines().len(), 2);
    assert_eq!(storage.lines(), ["GET /signed?sig=1", "GET /signed?sig=1"]);
    assert!(storage.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(storage.seen().iter().all(|seen| seen.header("referer").is_none()));
}

/// An expired target is forgotten and the registry asked for a fresh one; when that fails too, it is over.
#[tokio::test]
async fn expired_targets_are_asked_for_again() {
    for status in [400, 401, 403, 404, 410] {
        let count = AtomicUsize::new(0);
        let storage = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 | 2 => reply(200).body("blob"),
            _ => reply(status),
        })
        .await;
        let target = format!("http://{}/signed", storage.address);
        let server = Server::start(move |_| reply(302).header("Location", &target)).await;
        let registry = registry();
        let source = registry.blob_source(&server.repository(), &descriptor(b"blob"));
        for _ in 0..2 {
            assert_eq!(collect(registry.open(&source, None).await.unwrap()).await.unwrap(), b"blob");
        }
        assert_eq!((server.lines().len(), storage.lines().len()), (2, 3));
        let error = registry.open(&source, None).await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert_eq!((server.lines().len(), storage.lines().len()), (3, 5));
    }
}

/// Circles and missing targets end at once, not after five retries.
#[tokio::test]
async fn bad_redirects_are_final() {
    for location in [None, Some("/v2/team/app/manifests/latest"), Some("ftp://x/")] {
        let server = Server::start(move |_| match location {
            Some(location) => reply(302).header("Location", location),
            None => reply(302),
        })
        .await;
        let error = registry().resolve(&server.reference("")).await.unwrap_err();
        assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
        assert_eq!(server.lines().len(), 1);
    }
}

/// What each answer to a request for bytes 2 to 5 of ten is.
#[tokio::test]
async fn ranges() {
    let part = |range: &str, body: &str| reply(206).header("Content-Range", range).body(body);
    let refused = [
        reply(416),
        part("bytes 2-6/10", "cdefg"),
        part("bytes 1-5/10", "bcdef"),
        part("bytes 2-5/11", "cdef"),
        part("bytes 2-5/10", "cde"),
        reply(206).body("cdef"),
        part("bytes 2-5/10", "cdef").header("Content-Encoding", "gzip"),
        reply(206).header("Content-Type", "multipart/byteranges; boundary=x").body("cdef"),
    ];
    let blob = descriptor(b"abcdefghij");
    for answer in refused {
        let shown = format!("{answer:?}");
        let server = Server::start(move |_| answer.clone()).await;
        let registry = registry();
        let source = registry.blob_source(&server.repository(), &blob);
        let error = registry.open(&source, Some(2..6)).await.unwrap_err();
        assert!(error.is_range_refusal(), "{shown}: {error}");
        assert_eq!(error.disposition(), retry::Disposition::AGAIN);
        assert_eq!(server.seen()[0].header("range"), Some("bytes=2-5"));
    }
    let accepted = [
        (part("bytes 2-5/10", "cdef"), Content::Part { range: 2..6 }, "cdef"),
        (part("bytes 2-3/*", "cd"), Content::Part { range: 2..4 }, "cd"),
        (part("bytes 2-5/10", "cdef").announcing(Length::Unannounced), Content::Part { range: 2..6 }, "cdef"),
        (reply(200).body("abcdefghij"), Content::Whole { length: Some(10), encoding: None }, "abcdefghij"),
    ];
    for (answer, content, bytes) in accepted {
        let server = Server::start(move |_| answer.clone()).await;
        let registry = registry();
        let source = registry.blob_source(&server.repository(), &blob);
        let body = registry.open(&source, Some(2..6)).await.unwrap();
        assert_eq!(*body.content(), content);
        assert_eq!(collect(body).await.unwrap(), bytes.as_bytes());
    }
}

/// A body that ends early, comes too long, or stops coming.
#[tokio::test]
async fn bodies_are_watched() {
    let blob = descriptor(b"abcdefghij");
    let network = |error: &RegistryError| match error {
        RegistryError::Network { fault, .. } => format!("{fault}"),
        other => format!("{other:?}"),
    };
    let cases = [
        (reply(200).body("abc").announcing(Length::Of(10)), "the body was cut off after 3 bytes of 10"),
        (reply(200).body("abc").announcing(Length::Unannounced), "the body was cut off after 3 bytes of 10"),
        (reply(200).body("abc").announcing(Length::Of(10)).hanging(), "nothing came for 0.2 s"),
        (reply(200).body("abcdefghijk").announcing(Length::Unannounced).hanging(), "Oversize"),
        (reply(200).body("abcdefghijk"), "Oversize"),
        (reply(200).body("abc"), "SizeMismatch"),
    ];
    for (answer, expected) in cases {
        let server = Server::start(move |_| answer.clone()).await;
        let registry =
            Registry::new(Options { stall_timeout: Duration::from_millis(200), ..options() }).unwrap();
        let source = registry.blob_source(&server.repository(), &blob);
        let error = match registry.open(&source, None).await {
            Ok(body) => collect(body).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(network(&error).starts_with(expected), "{expected}: {}", network(&error));
    }
}

/// A small blob is verified, tried again when it is cut, and never when its digest is wrong.
#[tokio::test]
async fn documents_are_proven() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => reply(200).body("conf").announcing(Length::Of(6)),
        1 => reply(503),
        _ => reply(200).body("config"),
    })
    .await;
    let registry = registry();
    let wanted = descriptor(b"config");
    let found = registry.document(&server.repository(), &wanted, 100).await.unwrap();
    assert_eq!(found.as_ref(), b"config");
    assert_eq!(registry.statistics(), Statistics { requests: 3, retries: 2, body_bytes: 10 });
    let error = registry.document(&server.repository(), &wanted, 5).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }));

    let server = Server::start(|_| reply(200).body("konfig")).await;
    let error = registry.document(&server.repository(), &wanted, 100).await.unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error}");
    assert_eq!(server.lines().len(), 1);

    let gzip = zstd::encode_all(&b"config"[..], 1).unwrap();
    let server =
        Server::start(move |_| reply(200).header("Content-Encoding", "zstd").body(gzip.clone())).await;
    assert!(registry.document(&server.repository(), &wanted, 100).await.is_ok());
    let server = Server::start(|_| reply(200).header("Content-Encoding", "gzip").body("config")).await;
    assert!(registry.document(&server.repository(), &wanted, 100).await.is_ok());
}

/// A registry that stays down is given up with the first cause, the number of tries and the time.
#[tokio::test]
async fn retries_end() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => reply(500),
        _ => reply(503),
    })
    .await;
    let error = registry().resolve(&server.reference("")).await.unwrap_err();
    assert!(error.to_string().starts_with("gave up after 6 tries in 0."), "{error}");
    assert!(error.to_string().contains("503"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("500"));
    assert_eq!(error.kind(), Kind::Network);
    assert_eq!(server.lines().len(), 6);
}

/// `Retry-After` is waited for and announced; other requests to the registry wait too.
#[tokio::test]
async fn announced_waits_are_obeyed() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => reply(429).header("Retry-After", "1"),
        _ => manifest_reply(),
    })
    .await;
    let notices = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&notices);
    let observer = Arc::new(move |notice| log.lock().unwrap().push(notice));
    let registry = Registry::new(Options { observer, ..options() }).unwrap();
    let began = tokio::time::Instant::now();
    registry.resolve(&server.reference("")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let notices = notices.lock().unwrap();
    let [Notice::Retry { after, announced: true, cause, .. }] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!(*after, Duration::from_secs(1));
    assert!(cause.contains("429"), "{cause}");
}

/// No more than the allowed number of requests and bodies to one host at a time.
#[tokio::test]
async fn connections_are_limited() {
    let server = Server::start(|_| reply(200).body("blob")).await;
    let registry = Registry::new(Options { connections: 2, ..options() }).unwrap();
    let source = registry.blob_source(&server.repository(), &descriptor(b"blob"));
    let first = registry.open(&source, None).await.unwrap();
    let second = registry.open(&source, None).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(100), registry.open(&source, None)).await;
    assert!(waiting.is_err());
    assert_eq!(server.lines().len(), 2);
    drop((first, second));
    registry.open(&source, None).await.unwrap();
}

fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap()
}

fn trusting(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> (tempfile::TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, certificate.cert.pem()).unwrap();
    (folder, Options { ca_files: vec![path], ..options() })
}

/// On loopback TLS is what is spoken where the server speaks it: with a trusted certificate, or with none checked.
#[tokio::test]
async fn tls_on_loopback() {
    let certificate = certificate();
    let server = Server::start_tls(&certificate, |_| manifest_reply()).await;
    let (_folder, trusting) = trusting(&certificate);
    Registry::new(trusting).unwrap().resolve(&server.reference("")).await.unwrap();
    let unverified = Options { verification: ServerVerification::Disabled, ..options() };
    Registry::new(unverified).unwrap().resolve(&server.reference("")).await.unwrap();
}

/// A certificate that is not trusted is an error, not a reason for plain text, and not one that time heals.
#[tokio::test]
async fn untrusted_certificates_are_final() {
    let server = Server::start_tls(&certificate(), |_| manifest_reply()).await;
    let registry = registry();
    for _ in 0..2 {
        let error = registry.resolve(&server.reference("")).await.unwrap_err();
        assert!(matches!(error, RegistryError::Network { fault: Fault::Tls(_), .. }), "{error}");
        assert!(error.hint().unwrap().contains("--ca-file"));
    }
    assert_eq!(registry.statistics().requests, 2);
    assert!(server.lines().is_empty());
}

/// The TLS hello is tried once; then the verdict stands.
#[tokio::test]
async fn plain_http_on_loopback_is_found_out_once() {
    let server = Server::start(|_| manifest_reply()).await;
    let registry = registry();
    registry.resolve(&server.reference(":a")).await.unwrap();
    registry.resolve(&server.reference(":b")).await.unwrap();
    assert_eq!(registry.statistics().requests, 2);
    let always = Registry::new(Options { plain_http: PlainHttp::Always, ..options() }).unwrap();
    always.resolve(&server.reference(":a")).await.unwrap();
    assert_eq!(always.statistics().requests, 1);
}

/// A server that closes on the hello is tried in plain text; one that is not there is not found, after its retries.
#[tokio::test]
async fn closing_on_the_hello() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut first = [0];
            stream.peek(&mut first).await.unwrap();
            if first[0].is_ascii_alphabetic() {
                tokio::spawn(serve(stream, Arc::new(|_: &Seen| manifest_reply()), Arc::clone(&log)));
            }
        }
    });
    let reference: Reference = format!("{address}/team/app").parse().unwrap();
    let registry = registry();
    registry.resolve(&reference).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
    task.abort();
    let _ = task.await;
    let gone: Reference = format!("{address}/team/app:other").parse().unwrap();
    let error = Registry::new(options()).unwrap().resolve(&gone).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("cannot connect: Connection refused"), "{source}");
}

/// A registry in https that names a token service in plain http gets nothing to it.
#[tokio::test]
async fn realms_in_plain_text_are_not_asked() {
    let tokens = Server::start(|_| reply(200).body(r#"{"token":"t"}"#)).await;
    let realm = format!("Bearer realm=http://{}/token", tokens.address);
    let certificate = certificate();
    let server =
        Server::start_tls(&certificate, move |_| reply(401).header("WWW-Authenticate", &realm)).await;
    let (_folder, options) = trusting(&certificate);
    let error = Registry::new(options).unwrap().resolve(&server.reference("")).await.unwrap_err();
    assert!(matches!(error, RegistryError::RealmInPlain { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Auth);
    assert!(tokens.lines().is_empty());
}

/// In plain http the proxy gets the whole URL, with its own password; loopback is reached without it.
#[tokio::test]
async fn proxies_are_used() {
    let proxy = Server::start(|_| manifest_reply()).await;
    let value = format!("http://me:secret@{}", proxy.address);
    let proxies = Proxies::from_variables(|name| (name == "http_proxy").then(|| value.clone())).unwrap();
    let plain = Options { plain_http: PlainHttp::Always, ..options() };
    let registry = Registry::through(plain, proxies).unwrap();
    registry.resolve(&"r.example/team/app:v1".parse().unwrap()).await.unwrap();
    assert_eq!(proxy.lines(), ["HEAD http://r.example/v2/team/app/manifests/v1"]);
    assert_eq!(proxy.seen()[0].header("proxy-authorization"), Some(BASIC));
    assert_eq!(proxy.seen()[0].header("authorization"), None);

    let server = Server::start(|_| manifest_reply()).await;
    registry.resolve(&server.reference(":v1")).await.unwrap();
    assert_eq!((server.lines().len(), proxy.lines().len()), (1, 1));
}

/// A registry behind a proxy that sends to an address inside is refused: nothing says that it is inside itself.
#[tokio::test]
async fn a_public_registry_does_not_lead_inside() {
    let proxy = Server::start(|seen| {
        assert!(seen.target.starts_with("http://r.invalid/"), "{}", seen.target);
        reply(307).header("Location", "http://169.254.169.254/latest/meta-data")
    })
    .await;
    let value = format!("http://{}", proxy.address);
    let proxies = Proxies::from_variables(|name| (name == "ALL_PROXY").then(|| value.clone())).unwrap();
    let plain = Options { plain_http: PlainHttp::Always, ..options() };
    let registry = Registry::through(plain, proxies).unwrap();
    let error = registry.resolve(&"r.invalid/team/app:v1".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("169.254.169.254"), "{error}");
    assert_eq!(proxy.lines().len(), 1);
}

/// A TLS alert is TLS: the server that sends one is not asked in plain text.
#[tokio::test]
async fn alerts_are_final() {
    let certificate = certificate();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.cert.der().clone()).unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier.clone().build().unwrap())
            .with_single_cert(vec![certificate.cert.der().clone()], key.clone_key())
            .unwrap();
        let handler: Handler = Arc::new(|_: &Seen| manifest_reply());
        let server = Server::listen(handler, Some(Arc::new(config).into())).await;
        let (_folder, options) = trusting(&certificate);
        let registry = Registry::new(options).unwrap();
        let error = registry.resolve(&server.reference("")).await.unwrap_err();
        assert!(matches!(error, RegistryError::Network { fault: Fault::Tls(_), .. }), "{error}");
        assert_eq!(registry.statistics().requests, 1);
    }
}

/// A caller's own errors go through the same loop: what only it can know is fatal is not tried again.
#[tokio::test]
async fn callers_errors_are_retried_by_their_own_word() {
    #[derive(Debug, thiserror::Error)]
    enum DownloadError {
        #[error("the disk is full")]
        Disk,
        #[error("{0}")]
        Registry(RegistryError),
    }
    impl Retryable for DownloadError {
        fn breaks_off(&self) -> bool {
            false
        }

        fn disposition(&self) -> retry::Disposition {
            match self {
                Self::Disk => retry::Disposition::Fatal,
                Self::Registry(error) => error.disposition(),
            }
        }
        fn exhausted(self, _last: Option<Self>, _all: Earlier) -> Self {
            self
        }
        fn come_back_later(self, _after: Duration, _before: Option<Earlier>) -> Self {
            self
        }
        fn in_vain(self, _before: Earlier) -> Self {
            self
        }
    }
    let server = Server::start(|_| reply(200).body("bl").announcing(Length::Of(4))).await;
    let registry = registry();
    let source = registry.blob_source(&server.repository(), &descriptor(b"blob"));
    let budget = Budget::new();
    let download = tokio::spawn(async move {
        let tries = AtomicUsize::new(0);
        let result = registry
            .retrying_places(&budget, source.places(), Some(*source.digest()), || async {
                let number = tries.fetch_add(1, Ordering::SeqCst);
                let body = registry.open(&source, None).await.map_err(DownloadError::Registry)?;
                collect(body)
                    .await
                    .map_err(DownloadError::Registry)
                    .map_err(|error| if number == 2 { DownloadError::Disk } else { error })
            })
            .await;
        (result, tries.into_inner())
    });
    let (result, tries) = download.await.unwrap();
    assert!(matches!(result, Err(DownloadError::Disk)));
    assert_eq!(tries, 3);
}

mod elsewhere;
/// A schema 1 manifest: its payload, and the document with a block of signatures.
fn schema1() -> (String, String) {
    use base64::Engine as _;
    let base64url = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let body = format!(
        r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{}"}}],"history":[{{"v1Compatibility":"{{}}"}}]"#,
        Digest::sha256(b"")
    );
    let header = format!(r#"{{"formatLength":{},"formatTail":"{}"}}"#, body.len(), base64url("\n}"));
    let signatures = format!(r#""signatures":[{{"protected":"{}"}}]"#, base64url(&header));
    (format!("{body}\n}}"), format!("{body},{signatures}}}"))
}

const PRETTYJWS: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A signed schema 1 manifest has its payload's digest, in any algorithm, and the size of all of its bytes, by which an
/// index lists it.
#[tokio::test]
async fn a_signed_manifest_is_known_by_its_payload() {
    let (payload, document) = schema1();
    for content_type in
        [PRETTYJWS, "application/vnd.docker.distribution.manifest.v1+json", "application/json"]
    {
        for algorithm in Algorithm::ALL {
            let (digest, body) = (algorithm.digest(payload.as_bytes()), document.clone());
            let server = Server::start(move |seen| {
                let named = if seen.target.ends_with("/bare") { "" } else { &digest.to_string() };
                reply(200)
                    .header("Content-Type", content_type)
                    .header("Docker-Content-Digest", named)
                    .body(body.clone())
            })
            .await;
            let registry = registry();
            for rest in [":v1".to_owned(), format!("@{digest}")] {
                let resolved = registry.resolve(&server.reference(&rest)).await.unwrap();
                assert_eq!(resolved.descriptor.digest, digest);
                assert_eq!(resolved.descriptor.size, document.len() as u64);
            }
            let listed = Descriptor::new(PRETTYJWS.into(), digest, document.len() as u64);
            let manifest =
                registry.manifest(&server.repository(), &digest, Some(&listed), None).await.unwrap();
            assert_eq!(manifest.raw(), document.as_bytes());
            assert_eq!(manifest.digested(), payload.as_bytes());
            let bare = registry.resolve(&server.reference(":bare")).await.unwrap();
            assert_eq!(bare.descriptor.digest, Digest::sha256(payload.as_bytes()));
            let smaller = Descriptor::new(PRETTYJWS.into(), digest, payload.len() as u64);
            let refused = registry.manifest(&server.repository(), &digest, Some(&smaller), None).await;
            assert!(matches!(refused, Err(RegistryError::SizeMismatch { .. })), "{refused:?}");
        }
    }
}

/// What is not the payload's digest is refused, that of all bytes too; signatures that do not hold together say so.
#[tokio::test]
async fn another_payload_is_refused() {
    let (payload, document) = schema1();
    let digest = Digest::sha256(payload.as_bytes());
    let torn = document.replace("protected", "unprotected");
    let cases = [
        (document.clone(), Digest::sha256(document.as_bytes()), "the bytes have the digest"),
        (document.replace("1,", "1, "), digest, "the bytes have the digest"),
        (payload.clone() + " ", digest, "the bytes have the digest"),
        (torn, digest, "signatures[0].protected is missing"),
    ];
    for (body, wanted, message) in cases {
        let text = body.clone();
        let server =
            Server::start(move |_| reply(200).header("Content-Type", PRETTYJWS).body(text.clone())).await;
        let error = registry().manifest(&server.repository(), &wanted, None, None).await.unwrap_err();
        let shown = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
        assert!(shown.contains(message), "{body}: {shown}");
        assert_eq!(error.kind(), Kind::Integrity);
    }
}

/// Schema 1 names no sizes. A GET of one byte tells them; where it does not, the whole is counted. What HEAD would say is
/// nobody's business.
#[tokio::test]
async fn blob_sizes_are_asked_for() {
    const HUGE: &str = "bytes 0-0/9223372036854775808";
    let part = |range: &str| reply(206).header("Content-Range", range).body("x");
    let silent = || reply(200).announcing(Length::Unannounced).body("a layer");
    let whole = || reply(200).body("a layer");
    let cases = [
        (part("bytes 0-0/9"), reply(500), Ok(9)),
        (part("bytes 0-0/9223372036854775807"), reply(500), Ok(i64::MAX as u64)),
        (whole(), reply(500), Ok(7)),
        (whole().header("Content-Encoding", "identity"), reply(500), Ok(7)),
        (whole().header("Content-Encoding", "gzip"), reply(500), Ok(7)),
        (silent(), reply(500), Ok(7)),
        (silent().header("Content-Encoding", "gzip"), reply(500), Ok(7)),
        (part("bytes 0-0/*"), whole(), Ok(7)),
        (part("bytes 0-0/*"), silent(), Ok(7)),
        (reply(416), silent(), Ok(7)),
        (part("bytes 1-1/9"), whole(), Ok(7)),
        (part("bytes 0-1/9"), whole(), Ok(7)),
        (reply(206).body("x"), whole(), Ok(7)),
        (part(HUGE), whole(), Ok(7)),
        (
            reply(200).body("other").header("Content-Encoding", "gzip"),
            reply(500),
            Err("the Content-Encoding \"gzip\""),
        ),
        (reply(200), reply(500), Err("a size of 0 bytes")),
        (reply(200).announcing(Length::Unannounced), reply(500), Err("a size of 0 bytes")),
        (reply(416), reply(416), Err("its first byte cannot be had")),
        (part("bytes 0-0/*"), reply(404), Err("404 Not Found")),
        (reply(404), reply(200), Err("404 Not Found")),
        (reply(302), reply(200), Err("redirected")),
        (reply(410), reply(200), Err("410 Gone")),
    ];
    let digest = Digest::sha256(b"a layer");
    for (first, then, expected) in cases {
        let name = format!("{first:?} {then:?}");
        let server = Server::start(
            move |seen| if seen.header("range").is_some() { first.clone() } else { then.clone() },
        )
        .await;
        let found = registry().blob_size(&server.repository(), &digest).await;
        match (found, expected) {
            (Ok(size), Ok(expected)) => assert_eq!(size, expected, "{name}"),
            (Err(error), Err(message)) => {
                assert!(error.to_string().contains(message), "{name}: {error}");
                let is_unknown = matches!(error, RegistryError::SizeUnknown { .. });
                assert_eq!(is_unknown, error.hint().is_some(), "{name}: {error}");
            }
            (found, expected) => panic!("{name}: {found:?}, not {expected:?}"),
        }
        assert_eq!(server.seen()[0].header("range"), Some("bytes=0-0"), "{name}");
        assert!(server.seen().iter().all(|seen| seen.line() == format!("GET /v2/team/app/blobs/{digest}")));
    }
}

/// What passes is asked for again; that nothing has no bytes is not asked at all.
#[tokio::test]
async fn blob_sizes_are_asked_for_again() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => reply(503),
        1 => reply(206).header("Content-Range", "bytes 0-0/*").body("x"),
        2 => reply(429),
        _ => reply(206).header("Content-Range", "bytes 0-0/9").body("x"),
    })
    .await;
    let registry = registry();
    assert_eq!(registry.blob_size(&server.repository(), &Digest::sha256(b"")).await.unwrap(), 0);
    assert!(server.seen().is_empty());
    assert_eq!(registry.blob_size(&server.repository(), &Digest::sha256(b"a layer")).await.unwrap(), 9);
    let ranged: Vec<bool> = server.seen().iter().map(|seen| seen.header("range").is_some()).collect();
    assert_eq!(ranged, [true, true, false, true]);
}

/// Storages sign their URLs for GET only, and one that expired on the way is asked for once more. Credentials stay behind.
#[tokio::test]
async fn blob_sizes_come_from_behind_redirects() {
    let asked = AtomicUsize::new(0);
    let storage = Server::start(move |seen| {
        assert_eq!(seen.header("authorization"), None);
        match (seen.method.as_str(), asked.fetch_add(1, Ordering::SeqCst)) {
            ("GET", 1..) => reply(206).header("Content-Range", "bytes 0-0/9").body("x"),
            _ => reply(403),
        }
    })
    .await;
    let target = format!("http://{}/signed", storage.address);
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some(BASIC) => reply(307).header("Location", &target),
        _ => reply(401).header("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let registry = with_credentials(&server, basic());
    assert_eq!(registry.blob_size(&server.repository(), &Digest::sha256(b"a layer")).await.unwrap(), 9);
    assert_eq!(storage.lines(), ["GET /signed", "GET /signed"]);
}
