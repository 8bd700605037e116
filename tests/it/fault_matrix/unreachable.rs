//! Servers to which no conversation comes about, and what a fetch asks besides what it needs.

use crate::support::{
    Certificate, Fault, FaultRegistry, Gate, MIB, Outcome, TestContext, artifact, assert_readable,
    check_layout, image, random,
};

use super::places;

fn fetch(context: &TestContext, host: &str, proxy: &str) -> Outcome {
    let reference = format!("{host}/app:v1");
    let run = context.run(["fetch", "--plain-http", "--retries", "1", &reference]).arg(context.out());
    let outcome = run.env("HTTP_PROXY", proxy).fails_with(5);
    for words in [&*reference, "gave up after 2 tries in "] {
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
    }
    assert!(!context.out().exists(), "a folder for nothing");
    outcome
}

/// A registry that refuses connections, one whose name does not resolve, and a proxy that is as bad: the network's exit code,
/// what failed and of whom, and what to look at.
#[test]
fn nobody_answers() {
    let (nobody, no_name) = (places::nobody(), places::no_name());
    let refused = nobody.trim_start_matches("http://").trim_end_matches('/');
    let nameless = places::nameless();
    for (host, proxy, words) in [
        (refused, "", ["cannot connect", "refused", "whether the registry runs"]),
        (&*nameless, "", ["the name does not resolve", &*nameless, "how the host is spelled"]),
        ("registry.invalid", &*nobody, [refused, "refused", "check the proxy"]),
        ("registry.invalid", &*no_name, ["proxy", &*nameless, "check the proxy"]),
    ] {
        let outcome = fetch(&TestContext::new(), host, proxy);
        for words in words {
            assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
        }
    }
}

/// A TLS handshake that breaks is a connection that breaks, on loopback too, where it might be taken for a server without
/// TLS: the next try is made in TLS. Be it the registry's, the token service's or the storage's.
#[test]
fn cut_handshakes_are_tried_again() {
    let server = || FaultRegistry::builder().tls(Certificate::SelfSigned);
    let (tokens, storage) = (server().start(), server().start());
    let alone = server().start();
    let guarded = server().token_server(&tokens).start();
    let redirecting = server().redirect_blobs_to(&storage).start();
    for (registry, broken) in [(&alone, &alone), (&guarded, &tokens), (&redirecting, &storage)] {
        let pushed = registry.push(image().layer("behind TLS"));
        let fetch = |context: &TestContext, retries: &str| {
            let fetch = context.fetch(registry, &pushed).args(["--retries", retries, "--connections", "1"]);
            fetch.arg("--ca-file").arg(broken.ca_file().unwrap()).run()
        };
        let context = TestContext::new();
        broken.cut_handshakes(1);
        let outcome = fetch(&context, "5");
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
        assert_eq!(broken.handshakes_cut(), 1);
        assert_eq!(check_layout(&context.out()).digests, [pushed.digest()]);
        assert!(broken.requests().iter().all(|request| request.header("host").is_some()));

        let context = TestContext::new();
        broken.cut_handshakes(usize::MAX);
        let outcome = fetch(&context, "1");
        assert_eq!(outcome.code, Some(5), "{}", outcome.report());
        for words in [
            &*pushed.reference(),
            &*broken.host(),
            "gave up after 2 tries in ",
            "closed the connection during the TLS handshake",
        ] {
            assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
        }
        assert!(!context.out().exists());
        broken.cut_handshakes(0);
        let outcome = fetch(&context, "0");
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
        check_layout(&context.out());
    }
}

/// A registry that ends its connection politely, and then cuts the handshake for the next one: in the middle of a fetch too,
/// where it is known to speak TLS, that is one failure, and nobody is asked in plain text.
#[test]
fn a_handshake_cut_between_two_questions() {
    let registry = FaultRegistry::builder().tls(Certificate::SelfSigned).start();
    let pushed = registry.push(image().layer("one").layer("two"));
    let sbom = artifact("application/vnd.example.sbom").layer("materials").subject(pushed.descriptor());
    registry.push_untagged(pushed.repository(), sbom);
    let routes = [
        registry.on_manifest(pushed.digest()),
        registry.on_blob(pushed.config()),
        registry.on_blob(pushed.layer(0)),
        registry.on_path("/v2/app/referrers/"),
    ];
    let count = routes.len();
    for route in routes {
        route.once(Fault::CutHandshakes(1));
    }
    let context = TestContext::new();
    let fetch = context.fetch(&registry, &pushed).args(["--referrers", "--connections", "1", "--json"]);
    let outcome = fetch.args(["--retries", "1"]).success();
    assert_eq!((registry.idle_faults(), registry.handshakes_cut()), (Vec::new(), count));
    assert_eq!(
        (outcome.json()["retries"].as_u64(), registry.connections_not_http()),
        (Some(count as u64), 0)
    );
    check_layout(&context.out());
}

/// A registry that restarts between two layers is waited for, in TLS too, and nothing comes twice.
#[test]
fn a_restart_between_layers() {
    let registry = FaultRegistry::builder().tls(Certificate::SelfSigned).token_auth().start();
    let pushed = registry.push(image().layer("one").layer("two").layer("three"));
    registry.on_blob(pushed.layer(1)).once(Fault::GoDown(Some(std::time::Duration::from_millis(300))));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--connections", "1"]).success();
    assert_eq!(registry.idle_faults(), Vec::<String>::new());
    assert_eq!(registry.blob_bytes_sent(), pushed.blob_bytes());
    check_layout(&context.out());
}

/// Whether a registry keeps signatures is beside the point of a fetch: when its ping cannot tell, a warning says so and why,
/// and the image is taken.
#[test]
fn a_ping_that_fails_costs_no_image() {
    let faults = [
        (Fault::Status(503), "503 Service Unavailable"),
        (Fault::CloseBeforeResponse, "connection closed"),
        (Fault::HeadStallAfter(20), "nothing came for 1 s"),
        (Fault::RetryAfter { status: 429, value: "3600".to_owned() }, "429 Too Many Requests"),
    ];
    for (fault, words) in faults {
        let registry = FaultRegistry::builder().signature_extension().start();
        let pushed = registry.push(image().layer("signed"));
        registry.on_ping().always(fault);
        let context = TestContext::new();
        let options = ["--referrers", "--retries", "1", "--stall-timeout", "1s"];
        let outcome = context.fetch(&registry, &pushed).args(options).success();
        let warning = outcome.stderr.lines().find(|line| line.contains("keeps signatures"));
        assert!(warning.is_some_and(|line| line.contains(words)), "{words} in {}", outcome.stderr);
        assert_eq!(registry.idle_faults(), Vec::<String>::new());
        check_layout(&context.out());
        assert_readable(&context.out());
    }
}

/// Connections of one blob share its tries: the error tells of the first failure of all of them, and counts them all as one
/// outage does, once a round.
#[test]
fn connections_fail_as_one() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(6 * MIB)));
    let gate = Gate::new();
    let layer = pushed.layer(0);
    // One request finds out that there are ranges. Then three are under way, and fail in other ways after the fourth one's refusal was counted.
    registry.on_blob(layer).once(Fault::All(Vec::new()));
    registry.on_blob(layer).times(3, Fault::All(vec![Fault::Hold(gate.clone()), Fault::CutAfter(0)]));
    registry.on_blob(layer).once(Fault::Status(502));
    registry.on_blob(layer).always(Fault::CloseBeforeResponse);
    let context = TestContext::new();
    let options = ["--retries", "2", "--connections", "4", "--segment-size", "1MiB"];
    let running = context.fetch(&registry, &pushed).args(options).spawn();
    gate.wait_for_arrivals(3);
    // Whoever was refused asks once more: by then the refusal was counted.
    registry.wait_until("another try", |registry| registry.requests_for(layer).len() >= 6);
    gate.open();
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(5), "{}", outcome.report());
    let error = outcome.stderr.split("error: ").nth(1).unwrap_or_default();
    for words in ["gave up after 3 tries in ", "502 Bad Gateway", "connection closed", layer] {
        assert!(error.contains(words), "{words} in {}", outcome.report());
    }
    registry.mend();
    context.fetch(&registry, &pushed).success();
    check_layout(&context.out());
}
