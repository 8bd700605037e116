//! TLS, plain text, and where redirects may lead.

use std::fs;

use crate::support::{
    Certificate, Fault, FaultRegistry, MIB, OnTlsHello, Outcome, PushedImage, TestContext, assert_readable,
    check_layout, image, random, text,
};

fn pushed(registry: &FaultRegistry) -> PushedImage {
    registry.push(image().layer(text(3000)))
}

/// `ocipull fetch` with nothing that the test does not say itself, and without patience.
fn fetch(context: &TestContext, image: &PushedImage, options: &[&str]) -> Outcome {
    context.run(["fetch", "--retries", "0", &image.reference()]).arg(context.out()).args(options).run()
}

fn fails(context: &TestContext, image: &PushedImage, options: &[&str], code: i32) -> Outcome {
    let outcome = fetch(context, image, options);
    assert_eq!(outcome.code, Some(code), "{}", outcome.report());
    assert!(!context.out().exists(), "a failed resolve leaves no OUT");
    outcome
}

/// A certificate of an own CA, and one that is its own CA, are accepted when the file is named.
#[test]
fn a_named_certificate_authority_is_trusted() {
    for certificate in [Certificate::Signed, Certificate::SelfSigned] {
        let registry = FaultRegistry::builder().tls(certificate).start();
        let pushed = pushed(&registry);
        let context = TestContext::new();
        context.fetch(&registry, &pushed).success();
        assert_eq!((registry.connections_not_http(), registry.failed_handshakes()), (0, 0));
        check_layout(&context.out());
    }
}

/// Without it: exit 5, the reason, the hint, and no second try in plain text although the host is loopback.
#[test]
fn an_unknown_certificate_authority_is_refused() {
    for certificate in [Certificate::Signed, Certificate::SelfSigned] {
        let registry = FaultRegistry::builder().tls(certificate).start();
        let outcome = fails(&TestContext::new(), &pushed(&registry), &[], 5);
        for words in ["issuer is not trusted", "--ca-file"] {
            assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        }
        assert_eq!((registry.requests().len(), registry.connections_not_http()), (0, 0));
    }
}

/// The CA of another registry does not help, and a certificate's name must be a subjectAltName in its time.
#[test]
fn wrong_certificates_are_refused() {
    for (certificate, words) in
        [(Certificate::CommonNameOnly, "subjectAltName"), (Certificate::Expired, "expired")]
    {
        let registry = FaultRegistry::builder().tls(certificate).start();
        let pushed = pushed(&registry);
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).args(["--retries", "2"]).fails_with(5);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        assert_eq!((registry.requests().len(), registry.connections_not_http()), (0, 0));
        registry.wait_until("the end of the handshake", |registry| registry.failed_handshakes() > 0);
        assert_eq!(registry.failed_handshakes(), 1, "a certificate is not asked for twice");
    }
    let registry = FaultRegistry::builder().tls(Certificate::Signed).start();
    let other = FaultRegistry::builder().tls(Certificate::Signed).start();
    let file = other.ca_file().expect("it speaks TLS").display().to_string();
    fails(&TestContext::new(), &pushed(&registry), &["--ca-file", &file], 5);
}

/// `--tls-verify=false` is for those who know what they do: any certificate, still TLS.
#[test]
fn verification_can_be_switched_off() {
    for certificate in
        [Certificate::Signed, Certificate::SelfSigned, Certificate::CommonNameOnly, Certificate::Expired]
    {
        let registry = FaultRegistry::builder().tls(certificate).start();
        let context = TestContext::new();
        let outcome = fetch(&context, &pushed(&registry), &["--tls-verify=false"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
        assert_eq!(registry.connections_not_http(), 0);
        check_layout(&context.out());
    }
}

/// A file of certificates that is missing, empty or something else is wrong usage, before anything is asked.
#[test]
fn files_of_certificates_must_be_that() {
    let registry = FaultRegistry::builder().tls(Certificate::Signed).start();
    let pushed = pushed(&registry);
    let context = TestContext::new();
    let file = context.path().join("ca.pem");
    let name = file.display().to_string();
    fails(&context, &pushed, &["--ca-file", &name], 2);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for content in ["", "no certificate", garbage] {
        fs::write(&file, content).expect("the folder is writable");
        let outcome = fails(&context, &pushed, &["--ca-file", &name], 2);
        assert!(outcome.stderr.contains("ca.pem"), "{}", outcome.stderr);
    }
    assert_eq!((registry.requests().len(), registry.failed_handshakes()), (0, 0));
}

/// On loopback a server that does not speak TLS is asked in plain text, after one hello.
#[test]
fn loopback_is_asked_in_plain_text_where_there_is_no_tls() {
    for answer in [OnTlsHello::BadRequest, OnTlsHello::Close] {
        let registry = FaultRegistry::builder().on_tls_hello(answer).start();
        let context = TestContext::new();
        let outcome = fetch(&context, &pushed(&registry), &[]);
        assert_eq!(outcome.code, Some(0), "{answer:?}: {}", outcome.report());
        assert_eq!(registry.connections_not_http(), 1, "{answer:?}");
        check_layout(&context.out());
    }
}

/// A TLS alert comes from a server that speaks TLS: an error, and never plain text.
#[test]
fn an_alert_is_no_invitation_to_plain_text() {
    let registry = FaultRegistry::builder().on_tls_hello(OnTlsHello::Alert).start();
    let outcome = fails(&TestContext::new(), &pushed(&registry), &[], 5);
    assert!(outcome.stderr.contains("TLS"), "{}", outcome.stderr);
    assert_eq!(registry.requests().len(), 0);
}

/// `--plain-http` asks in plain text from the start, and fails where there is only TLS.
#[test]
fn plain_http_on_request() {
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    let outcome = fetch(&context, &pushed(&registry), &["--plain-http"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    assert_eq!(registry.connections_not_http(), 0);
    check_layout(&context.out());
    let registry = FaultRegistry::builder().tls(Certificate::Signed).start();
    let outcome = fetch(&TestContext::new(), &pushed(&registry), &["--plain-http"]);
    assert_ne!(outcome.code, Some(0), "{}", outcome.report());
    assert_eq!(registry.requests().len(), 0);
}

/// Blobs that are elsewhere are fetched there, the redirect asked for once for a layer of many ranges.
#[test]
fn a_redirect_is_remembered_for_a_blob() {
    let storage = FaultRegistry::start();
    let registry = FaultRegistry::builder().redirect_blobs_to(&storage).signed_urls().start();
    let pushed = registry.push(image().layer(random(6 * MIB)));
    let context = TestContext::new();
    let options = ["--segment-size", "1MiB", "--connections", "2"];
    context.fetch(&registry, &pushed).args(options).success();
    assert!(registry.requests_for(pushed.layer(0)).len() <= 2, "{:?}", registry.asked());
    assert!(storage.requests_for(pushed.layer(0)).len() >= 6);
    assert_eq!((registry.blob_bytes_sent(), storage.blob_bytes_sent()), (0, pushed.blob_bytes()));
    check_layout(&context.out());
}

/// Signed URLs that run out in the middle of a layer are renewed, and no byte is fetched twice for it.
#[test]
fn expired_signed_urls_are_renewed() {
    let storage = FaultRegistry::start();
    let registry = FaultRegistry::builder().redirect_blobs_to(&storage).signed_urls().start();
    storage.signed_url_uses(2);
    let pushed = registry.push(image().layer(random(6 * MIB)));
    let context = TestContext::new();
    let options = ["--segment-size", "1MiB", "--connections", "2"];
    let report = context.fetch(&registry, &pushed).args(options).arg("--json").success().json();
    assert_eq!(report["retries"], 0, "an expired URL is no failure");
    assert!(registry.requests_for(pushed.layer(0)).len() >= 3, "{:?}", registry.asked());
    let refusals = 2000;
    assert!(storage.blob_bytes_sent() < pushed.blob_bytes() + refusals);
    check_layout(&context.out());
}

/// Storage that refuses even a fresh URL is an answer, whose words are shown.
#[test]
fn a_fresh_url_that_is_refused_is_an_answer() {
    let storage = FaultRegistry::start();
    let registry = FaultRegistry::builder().redirect_blobs_to(&storage).signed_urls().start();
    storage.signed_url_uses(0);
    let pushed = pushed(&registry);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).fails_with(4);
    assert!(outcome.stderr.contains("AccessDenied"), "{}", outcome.stderr);
    assert!(storage.requests().len() <= 2, "{:?}", storage.asked());
}

/// From https to plain http is never followed, whoever says so.
#[test]
fn a_redirect_out_of_tls_is_refused() {
    let storage = FaultRegistry::start();
    let registry = FaultRegistry::builder().tls(Certificate::Signed).redirect_blobs_to(&storage).start();
    let pushed = pushed(&registry);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).fails_with(5);
    assert!(outcome.stderr.contains("plain http"), "{}", outcome.stderr);
    assert_eq!(storage.requests().len(), 0);
    if context.out().exists() {
        assert!(assert_readable(&context.out()).digests.is_empty());
    }
}

/// The other way is fine: a registry in plain http on loopback may have storage with a certificate that is trusted.
#[test]
fn a_redirect_into_tls_is_followed() {
    let storage = FaultRegistry::builder().tls(Certificate::Signed).start();
    let registry = FaultRegistry::builder().redirect_blobs_to(&storage).start();
    let pushed = pushed(&registry);
    let context = TestContext::new();
    let file = storage.ca_file().expect("it speaks TLS");
    context.fetch(&registry, &pushed).arg("--ca-file").arg(&file).success();
    check_layout(&context.out());
    context.run(["fetch", &pushed.reference()]).arg(context.path().join("other")).fails_with(5);
}

/// Circles, endless rows, redirects to nowhere and to other schemes end at once.
#[test]
fn redirects_that_lead_nowhere() {
    for (fault, words) in [
        (Fault::RedirectLoop, "circle"),
        (Fault::Redirect("ftp://127.0.0.1/blob".to_owned()), "ftp"),
        (Fault::Redirect("file:///etc/passwd".to_owned()), "file"),
        (Fault::Redirect("http://[x/?sig=secret".to_owned()), "not a URL"),
        (Fault::StatusWith { status: 307, headers: Vec::new(), body: Vec::new() }, "Location"),
    ] {
        let registry = FaultRegistry::start();
        let pushed = pushed(&registry);
        registry.on_blob(pushed.layer(0)).always(fault);
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).fails_with(5);
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
        assert!(!outcome.stderr.contains("secret"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(pushed.layer(0)), "{}", outcome.stderr);
        assert_eq!(registry.requests_for(pushed.layer(0)).len(), 1);
        assert!(assert_readable(&context.out()).digests.is_empty());
        registry.mend();
        context.fetch(&registry, &pushed).success();
        check_layout(&context.out());
    }
}

/// A registry that was reached on loopback may send to other places inside; the same host counts under every name.
#[test]
fn a_registry_on_loopback_may_send_to_its_neighbours() {
    let storage = FaultRegistry::start();
    let registry = FaultRegistry::start();
    let pushed = pushed(&registry);
    storage.push(image().layer(text(3000)));
    let port = storage.host().split(':').next_back().map(str::to_owned).expect("a host has a port");
    let url = format!("http://localhost:{port}/v2/app/blobs/{}", pushed.layer(0));
    registry.on_blob(pushed.layer(0)).always(Fault::Redirect(url));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    assert_eq!(storage.requests_for(pushed.layer(0)).len(), 1);
    check_layout(&context.out());
}

/// Manifests may be redirected too, and are held against their digest all the same.
#[test]
fn manifests_may_be_elsewhere() {
    let registry = FaultRegistry::start();
    let pushed = pushed(&registry);
    let other = FaultRegistry::start();
    other.push(image().layer(text(3000)));
    for reference in [pushed.tag(), pushed.digest()] {
        let url = format!("{}/v2/app/manifests/{reference}", other.url());
        registry.on_manifest(reference).always(Fault::Redirect(url.clone()));
        registry.on_head(reference).always(Fault::Redirect(url));
    }
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    check_layout(&context.out());
    other.on_manifest(pushed.digest()).always(Fault::FlipByte(30));
    context.run(["fetch", &pushed.reference()]).arg(context.path().join("second")).fails_with(6);
}

/// A registry in https never sends credentials to a token service in plain http.
#[test]
fn no_password_goes_to_a_plain_token_service() {
    let tokens = FaultRegistry::builder().token_auth().token_user("someone", "secret").start();
    let registry = FaultRegistry::builder().tls(Certificate::Signed).token_server(&tokens).start();
    let pushed = pushed(&registry);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--creds", "someone:secret"]).fails_with(4);
    assert_eq!(tokens.requests().len(), 0);
    assert!(!context.out().exists());
}
