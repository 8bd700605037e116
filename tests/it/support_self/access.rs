//! TLS, authentication, and blobs that live on another server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{client, client_with, get, layer_url, manifest_url, send};
use crate::support::{Certificate, Fault, FaultRegistry, OnTlsHello, image, random};

/// The beginning of a TLS hello; nobody reads further.
const HELLO: [u8; 6] = [22, 3, 1, 0, 1, 0];

async fn token(registry: &FaultRegistry, query: &str) -> Value {
    let reply = get(format!("{}/token?service=fault-registry&{query}", registry.url())).await;
    serde_json::from_slice(&reply.body).expect("a token answer")
}

async fn get_with(registry: &FaultRegistry, token: &Value) -> u16 {
    let bearer = token["token"].as_str().expect("a token");
    send(client().get(manifest_url(registry, "v1")).bearer_auth(bearer)).await.expect("an answer").status
}

/// A certificate is accepted by those who trust it, when it is right, and by nobody else.
#[tokio::test]
async fn certificates_are_what_they_are_called() {
    for (certificate, accepted) in
        [(Certificate::Signed, true), (Certificate::CommonNameOnly, false), (Certificate::Expired, false)]
    {
        let registry = FaultRegistry::builder().tls(certificate).start();
        registry.push(image());
        let pem = std::fs::read(registry.ca_file().expect("TLS has a CA")).expect("the file");
        let url = format!("https://localhost:{}/v2/", registry.host().rsplit_once(':').expect("a port").1);
        for url in [url, manifest_url(&registry, "v1")] {
            let reply = send(client_with(&pem).get(&url)).await;
            assert_eq!(reply.is_ok(), accepted, "{certificate:?} {url}");
            assert!(send(client().get(url)).await.is_err(), "nobody trusts it unasked");
        }
        registry.wait_until("handshakes", |registry| registry.failed_handshakes() >= 2);
        assert_eq!(registry.connections_not_http(), 0);
    }
}

/// The usual self-signed certificate is its own CA, and rustls refuses it as such.
#[tokio::test]
async fn a_self_signed_certificate_is_refused_by_rustls() {
    let registry = FaultRegistry::builder().tls(Certificate::SelfSigned).start();
    let pem = std::fs::read(registry.ca_file().expect("TLS has a CA")).expect("the file");

    let error = send(client_with(&pem).get(registry.url())).await.err().expect("refused");
    assert!(format!("{error:?}").contains("CaUsedAsEndEntity"), "{error:?}");
}

/// Clients on loopback try TLS first; each kind of answer to that means something else to them.
#[test]
fn a_tls_hello_without_tls_gets_the_configured_answer() {
    for (answer, expected) in [
        (OnTlsHello::BadRequest, &b"HTTP/1.1 400"[..]),
        (OnTlsHello::Close, b""),
        (OnTlsHello::Alert, b"\x15\x03"),
    ] {
        let registry = FaultRegistry::builder().on_tls_hello(answer).start();
        let mut stream = TcpStream::connect(registry.host()).expect("a connection");
        stream.write_all(&HELLO).expect("written");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("a clean end");
        assert!(received.starts_with(expected), "{answer:?}: {received:?}");
        assert_eq!(received.is_empty(), expected.is_empty());
        assert_eq!((registry.connections_not_http(), registry.requests().len()), (1, 0));
        assert_eq!(registry.open_connections_peak(), 0);
    }
}

/// Plain text on a TLS port is answered as Go answers it.
#[tokio::test]
async fn plain_text_on_a_tls_port_is_refused() {
    let registry = FaultRegistry::builder().tls(Certificate::Signed).start();
    let reply = get(registry.url().replace("https:", "http:")).await;
    assert_eq!((reply.status, registry.connections_not_http(), registry.requests().len()), (400, 1, 0));
}

/// Basic credentials are asked for, and only the right ones do.
#[tokio::test]
async fn basic_credentials_are_checked() {
    let registry = FaultRegistry::builder().basic_auth("user", "secret").start();
    registry.push(image());
    let url = manifest_url(&registry, "v1");

    let refused = get(url.clone()).await;
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Basic realm=\"fault-registry\""))
    );
    let wrong = client().get(&url).basic_auth("user", "wrong");
    assert_eq!(send(wrong).await.expect("an answer").status, 401);
    let right = client().get(&url).basic_auth("user", "secret");
    assert_eq!(send(right).await.expect("an answer").status, 200);
}

/// The challenge names everything that a client needs, and a token opens only what it was given for.
#[tokio::test]
async fn tokens_open_their_scope() {
    let registry = FaultRegistry::builder().token_auth().start();
    registry.push(image());

    let refused = get(manifest_url(&registry, "v1")).await;
    let realm = format!("realm=\"{}/token\"", registry.url());
    let expected = format!("Bearer {realm},service=\"fault-registry\",scope=\"repository:app:pull\"");
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some(expected.as_str())));

    let right = token(&registry, "scope=repository:app:pull").await;
    assert_eq!(right["expires_in"], 300);
    assert_eq!(get_with(&registry, &right).await, 200);
    let other = token(&registry, "scope=repository:other:pull").await;
    assert_eq!(get_with(&registry, &other).await, 401);
    let both = token(&registry, "scope=repository:other:pull&scope=repository:app:pull,push").await;
    assert_eq!(get_with(&registry, &both).await, 200);
    assert_eq!(registry.tokens_issued(), 3);
}

/// Tokens end by command or by use, never by the clock: no test waits for one.
#[tokio::test]
async fn tokens_end_when_told() {
    let registry = FaultRegistry::builder().token_auth().token_uses(2).token_refusal(403).start();
    registry.push(image());

    let twice = token(&registry, "scope=repository:app:pull").await;
    let statuses = [
        get_with(&registry, &twice).await,
        get_with(&registry, &twice).await,
        get_with(&registry, &twice).await,
    ];
    assert_eq!(statuses, [200, 200, 403]);
    let revoked = token(&registry, "scope=repository:app:pull").await;
    registry.revoke_tokens();
    assert_eq!(get_with(&registry, &revoked).await, 403);
    registry.on_token().once(Fault::Status(500));
    assert_eq!(get(format!("{}/token", registry.url())).await.status, 500);
}

/// Users, refresh tokens and the variants of the answer, from a token server that stands apart.
#[tokio::test]
async fn a_token_server_knows_users_and_refresh_tokens() {
    let issuer = FaultRegistry::builder()
        .token_user("user", "secret")
        .identity_token("refresh")
        .token_field("access_token")
        .token_lifetime(None)
        .start();
    let registry = FaultRegistry::builder().token_server(&issuer).start();
    registry.push(image());
    let url = format!("{}/token", issuer.url());

    assert_eq!(get(url.clone()).await.status, 401);
    let login = format!("Basic {}", STANDARD.encode("user:secret"));
    let request = client().get(format!("{url}?scope=repository:app:pull")).header("authorization", login);
    let by_password = send(request).await.expect("an answer");
    let post = |token: &str| {
        let body =
            format!("grant_type=refresh_token&refresh_token={token}&scope=repository%3Aapp%3Apull+other");
        client().post(&url).header("content-type", "application/x-www-form-urlencoded").body(body)
    };
    let by_refresh = send(post("refresh")).await.expect("an answer");
    assert_eq!(send(post("other")).await.expect("an answer").status, 401);
    assert_eq!(issuer.requests()[2].fields("grant_type"), ["refresh_token"]);
    for reply in [by_password, by_refresh] {
        let mut token: Value = serde_json::from_slice(&reply.body).expect("a token");
        assert_eq!(token["expires_in"], Value::Null);
        token["token"] = token["access_token"].take();
        assert_eq!(get_with(&registry, &token).await, 200);
    }
    assert_eq!((issuer.tokens_issued(), registry.requests_for("v1").len()), (2, 2));

    let no_post = FaultRegistry::builder().token_auth().start();
    let request = client().post(format!("{}/token", no_post.url()));
    assert_eq!(send(request).await.expect("an answer").status, 405);
}

/// Rules for a path stand before authentication, all others behind it, so that a fault is not spent on a 401.
#[tokio::test]
async fn faults_are_not_spent_on_challenges() {
    let registry = FaultRegistry::builder().token_auth().start();
    registry.push(image());
    registry.on_manifest("v1").once(Fault::Status(500));
    registry.on_path("/v2/app/").once(Fault::Status(502));

    let token = token(&registry, "scope=repository:app:pull").await;
    let url = manifest_url(&registry, "v1");
    assert_eq!(get(url.clone()).await.status, 502);
    assert_eq!(get(url).await.status, 401);
    assert_eq!(get_with(&registry, &token).await, 500);
    assert_eq!(get_with(&registry, &token).await, 200);

    registry.on_path("/v2/app/").once(Fault::NoContentType);
    let refused = get(manifest_url(&registry, "v1")).await;
    assert_eq!((refused.status, refused.header("content-type")), (401, None), "a fault opens no door");
}

/// Most registries send their clients elsewhere for blobs, with a URL that is good for a while.
#[tokio::test]
async fn blobs_are_redirected_with_signed_urls() {
    let cdn = FaultRegistry::start();
    let registry = FaultRegistry::builder().redirect_blobs_to(&cdn).signed_urls().start();
    let image = registry.push(image().layer(random(1000)));
    let locate = || async {
        let reply = get(layer_url(&registry, &image)).await;
        assert_eq!(reply.status, 307);
        reply.header("location").expect("a target").to_owned()
    };

    let target = locate().await;
    assert!(target.starts_with(&format!("{}/storage/app/sha256:", cdn.url())), "{target}");
    let blob = get(target.clone()).await;
    assert_eq!((blob.header("docker-content-digest"), &blob.body[..]), (None, image.layer_bytes(0)));
    assert_eq!(get(target.split_once('?').expect("a query").0.to_owned()).await.status, 403);
    let leaked = send(client().get(&target).bearer_auth("x")).await.expect("an answer");
    assert_eq!(leaked.status, 400, "credentials beside a signature");

    cdn.expire_signed_urls();
    assert_eq!(get(target).await.status, 403);
    cdn.signed_url_uses(1);
    let once = locate().await;
    assert_eq!((get(once.clone()).await.status, get(once).await.status), (200, 403));

    cdn.on_blob(image.layer(0)).once(Fault::CutAfter(10));
    assert_eq!(get(locate().await).await.body.len(), 10);
    assert_eq!(registry.blob_bytes_sent(), 0);
}
