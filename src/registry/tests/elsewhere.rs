//! Blobs whose descriptors name URLs.

use super::super::auth::{CredentialOrigin, FoundCredentials};
use super::*;

fn foreign<T: ToString>(bytes: &[u8], urls: impl IntoIterator<Item = T>) -> Descriptor {
    let urls = urls.into_iter().map(|url| url.to_string()).collect();
    Descriptor { urls, ..descriptor(bytes) }
}

impl Server {
    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

fn listening(options: Options) -> (Registry, Arc<Mutex<Vec<Notice>>>) {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&notices);
    let observer = Arc::new(move |notice| log.lock().unwrap().push(notice));
    (Registry::new(Options { observer, ..options }).unwrap(), notices)
}

/// Opens and reads a blob as a download does, with retries.
async fn download(registry: &Registry, source: &BlobSource) -> Result<Vec<u8>, RegistryError> {
    let budget = Budget::new();
    registry
        .retrying_blob(&budget, source, || async { collect(registry.open(source, None).await?).await })
        .await
}

/// Has credentials for whatever it is asked.
struct Everywhere;

impl CredentialSource for Everywhere {
    fn credentials(&self, _repository: &Repository) -> Result<Option<FoundCredentials>, CredentialError> {
        Ok(Some(FoundCredentials { credentials: basic(), origin: CredentialOrigin::Given }))
    }
}

/// Not even credentials that are configured for the foreign host itself go there, nor those that the URL or a redirect
/// names, and its challenge is not met (CVE-2020-15157); the registry gets its own as ever.
#[tokio::test]
async fn no_credentials_leave_the_registry() {
    let tokens = Server::start(|_| reply(200).body(r#"{"token":"t"}"#)).await;
    let challenge =
        format!("Bearer realm=\"http://{}/token\",service=\"s\", Basic realm=\"x\"", tokens.address);
    let host = Server::start(move |seen| match seen.target.as_str() {
        "/first" => reply(302)
            .header("Location", &format!("http://me:secret@{}/second", seen.header("host").unwrap())),
        _ => reply(401).header("WWW-Authenticate", &challenge),
    })
    .await;
    let server = Server::start(|seen| match seen.header("authorization") {
        Some(BASIC) => reply(200).body("blob"),
        _ => basic_server(seen),
    })
    .await;
    let registry = Registry::new(Options { credentials: Arc::new(Everywhere), ..options() }).unwrap();
    let urls = [
        host.url("first"),
        format!("http://me:secret@{}/third", host.address),
        format!("http://{}/v2/team/app/blobs/x", server.address),
    ];
    let source = registry.blob_source(&server.repository(), &foreign(b"blob", urls));
    assert_eq!(download(&registry, &source).await.unwrap(), b"blob");
    assert_eq!(host.lines(), ["GET /first", "GET /second", "GET /third"]);
    assert!(host.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(
        host.seen().iter().all(|seen| seen.header("cookie").is_none() && seen.header("referer").is_none())
    );
    assert!(tokens.lines().is_empty());
    let given: Vec<bool> = server.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
    assert_eq!(
        given,
        [false, false, true],
        "the registry's host by URL is a stranger too: {:?}",
        server.lines()
    );
}

/// The URLs come in their order and the registry last; whatever a URL answers that is not the blob, the next is asked
/// at once, and not the same one again.
#[tokio::test]
async fn places_are_asked_in_their_order() {
    let answers = [
        reply(404),
        reply(401),
        reply(503).header("Retry-After", "60"),
        reply(200).body("<html>no blob"),
        reply(302).header("Location", "ftp://x/"),
        reply(200).body("bl"),
        reply(206).header("Content-Range", "bytes 0-1/4").body("bl"),
    ];
    for answer in answers {
        let shown = format!("{answer:?}");
        let first = Server::start(move |_| answer.clone()).await;
        let second = Server::start(|_| reply(200).body("blob")).await;
        let server = Server::start(|_| reply(200).body("blob")).await;
        let (registry, notices) = listening(options());
        let urls = [first.url("l"), second.url("l?sig=secret")];
        let source = registry.blob_source(&server.repository(), &foreign(b"blob", urls));
        let began = tokio::time::Instant::now();
        for _ in 0..2 {
            assert_eq!(download(&registry, &source).await.unwrap(), b"blob", "{shown}");
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{shown}: a place left is better than waiting");
        assert_eq!(first.lines(), ["GET /l"], "{shown}");
        assert_eq!(second.lines().len(), 2);
        assert!(server.lines().is_empty());
        assert_eq!(source.server(), second.url("l"));
        let notices = notices.lock().unwrap();
        let warnings: Vec<&str> = notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::Warning(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let expected = format!("; asking {} instead", second.url("l"));
        assert!(matches!(warnings[..], [text] if text.ends_with(&expected)), "{shown}: {warnings:?}");
    }
}

/// With no URL that answers the registry is asked, with nothing at all the error says what each said.
#[tokio::test]
async fn all_that_failed_is_named() {
    let host = Server::start(|_| reply(404)).await;
    let server = Server::start(|_| reply(404)).await;
    let registry = registry();
    let urls = [host.url("a"), "ftp://files.example/b".to_owned(), host.url("c")];
    let source = registry.blob_source(&server.repository(), &foreign(b"blob", urls));
    let error = download(&registry, &source).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let text = error.to_string();
    let registry_name = format!("; GET http://{}/v2/", server.address);
    for said in [&host.url("a"), "ftp://files.example/b: not asked", &host.url("c"), &registry_name] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert_eq!((host.lines().len(), server.lines().len()), (2, 1));

    let source = registry.blob_source(&server.repository(), &foreign(b"blob", ["file:///etc/passwd"]));
    let error = download(&registry, &source).await.unwrap_err();
    assert!(matches!(error, RegistryError::Nowhere { .. }), "{error}");
    assert!(error.to_string().contains("file:///etc/passwd: not asked"), "{error}");
}

/// A URL that is down for a moment is asked again, with the usual budget, when the registry does not have the blob.
#[tokio::test]
async fn what_may_pass_is_waited_for_when_all_have_failed() {
    let count = AtomicUsize::new(0);
    let host = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0..3 => reply(503),
        _ => reply(200).body("blob"),
    })
    .await;
    let server = Server::start(|_| reply(404)).await;
    let (registry, notices) = listening(options());
    let source = registry.blob_source(&server.repository(), &foreign(b"blob", [host.url("l")]));
    assert_eq!(download(&registry, &source).await.unwrap(), b"blob");
    assert_eq!((host.lines().len(), server.lines().len()), (4, 1));
    let notices = std::mem::take(&mut *notices.lock().unwrap());
    let waited = |notice: &&Notice| matches!(notice, Notice::Retry { host: asked, .. } if *asked == host.address.to_string());
    assert_eq!(notices.iter().filter(waited).count(), 3, "{notices:?}");

    let host = Server::start(|_| reply(503)).await;
    let source = registry.blob_source(&server.repository(), &foreign(b"blob", [host.url("l")]));
    let error = download(&registry, &source).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Network);
    assert!(error.to_string().starts_with("gave up after "), "{error}");
    assert!(
        std::error::Error::source(&error).unwrap().to_string().contains("404"),
        "the registry is named too"
    );
}

/// A body that is cut is tried again where it came from, as often as any; only then the next place is asked.
#[tokio::test]
async fn cut_bodies_stay_where_they_are() {
    let host = Server::start(|_| reply(200).body("bl").announcing(Length::Of(4))).await;
    let server = Server::start(|_| reply(200).body("blob")).await;
    let registry = registry();
    let source = registry.blob_source(&server.repository(), &foreign(b"blob", [host.url("l")]));
    assert_eq!(download(&registry, &source).await.unwrap(), b"blob");
    assert_eq!((host.lines().len(), server.lines().len()), (6, 1));

    let server = Server::start(|_| reply(404)).await;
    let source = registry.blob_source(&server.repository(), &foreign(b"blob", [host.url("l")]));
    let error = download(&registry, &source).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("gave up after 6 tries") && text.contains("cut off"), "{text}");
    assert_eq!(error.kind(), Kind::Network);
}

/// Wrong bytes from a URL are no verdict on the blob: the next place is asked, and all are named when all are wrong.
#[tokio::test]
async fn wrong_bytes_move_on() {
    let host = Server::start(|_| reply(200).body("blub")).await;
    let server = Server::start(|_| reply(200).body("blob")).await;
    let registry = registry();
    let wanted = foreign(b"blob", [host.url("l")]);
    assert_eq!(registry.document(&server.repository(), &wanted, 100).await.unwrap().as_ref(), b"blob");
    assert_eq!((host.lines().len(), server.lines().len()), (1, 1));
    let error = registry.document(&host.repository(), &wanted, 100).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
    assert_eq!(error.to_string().matches("have the digest").count(), 2, "{error}");
}

/// A manifest of a registry outside cannot make this machine ask an address inside, by URL or by redirect, and names
/// outside go through the proxy like everything else.
#[tokio::test]
async fn urls_do_not_lead_inside() {
    let inside = Server::start(|_| reply(200).body("blob")).await;
    let target = inside.url("l");
    let proxy = Server::start(move |seen| match seen.target.as_str() {
        "http://cdn.invalid/in" => reply(302).header("Location", &target),
        "http://cdn.invalid/out" => reply(200).body("blob"),
        _ => reply(404),
    })
    .await;
    let value = format!("http://{}", proxy.address);
    let proxies = Proxies::from_variables(|name| (name == "ALL_PROXY").then(|| value.clone())).unwrap();
    let plain = Options { plain_http: PlainHttp::Always, ..options() };
    let registry = Registry::through(plain, proxies).unwrap();
    let repository: Repository = "r.invalid/team/app".parse().unwrap();
    let urls = [inside.url("l"), "http://169.254.169.254/".into(), "http://cdn.invalid/in".into()];
    let source = registry.blob_source(&repository, &foreign(b"blob", urls.clone()));
    let error = download(&registry, &source).await.unwrap_err();
    assert!(error.to_string().contains("GET http://169.254.169.254/ was not made"), "{error}");
    assert!(error.to_string().contains("loopback, private or link-local"), "{error}");
    assert!(inside.lines().is_empty());
    let urls = urls.into_iter().chain(["http://cdn.invalid/out".to_owned()]);
    let source = registry.blob_source(&repository, &foreign(b"blob", urls));
    assert_eq!(download(&registry, &source).await.unwrap(), b"blob");
    assert!(inside.lines().is_empty());
}

/// A host that asks for patience is left in peace by other blobs too, and the registry is not made to wait for it.
#[tokio::test]
async fn waits_belong_to_the_host() {
    let count = AtomicUsize::new(0);
    let host = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => reply(503).header("Retry-After", "1"),
        _ => reply(200).body("blob"),
    })
    .await;
    let server = Server::start(|_| reply(200).body("blob")).await;
    let registry = registry();
    let wanted = foreign(b"blob", [host.url("l")]);
    let began = tokio::time::Instant::now();
    download(&registry, &registry.blob_source(&server.repository(), &wanted)).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(900));
    download(&registry, &registry.blob_source(&server.repository(), &wanted)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!((host.lines().len(), server.lines().len()), (2, 1));
}

/// Ranges of a URL are held to what was asked, and its connections counted, as a registry's are.
#[tokio::test]
async fn urls_are_blobs_like_any_other() {
    let part = || reply(206).header("Content-Range", "bytes 2-5/10").body("cdef");
    let host = Server::start(move |_| part()).await;
    let server = Server::start(|_| reply(404)).await;
    let registry = Registry::new(Options { connections: 1, ..options() }).unwrap();
    let source = registry.blob_source(&server.repository(), &foreign(b"abcdefghij", [host.url("l")]));
    let body = registry.open(&source, Some(2..6)).await.unwrap();
    assert_eq!(*body.content(), Content::Part { range: 2..6 });
    let waiting = tokio::time::timeout(Duration::from_millis(100), registry.open(&source, Some(2..6))).await;
    assert!(waiting.is_err(), "one connection to the host");
    assert_eq!(collect(body).await.unwrap(), b"cdef");
    assert_eq!(host.seen()[0].header("range"), Some("bytes=2-5"));
    assert_eq!(host.seen()[0].header("accept-encoding"), Some("identity"));
    let error = registry.open(&source, Some(3..6)).await.unwrap_err();
    assert!(error.is_range_refusal(), "{error}");
    assert!(server.lines().is_empty(), "a wrong range is no reason to leave a place that has the blob");
}
