//! How ocipull behaves towards those who serve it: it says who it is, keeps its connections, and goes no faster than it is
//! told to.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::support::{
    Fault, FaultRegistry, Gate, KIB, PushedImage, TestContext, check_layout, image, random, random_from,
};

const USER: &str = "someone";
const PASSWORD: &str = "open sesame";

fn small_layers(registry: &FaultRegistry, count: u64) -> PushedImage {
    registry.push((0..count).fold(image(), |image, seed| image.layer(random_from(seed, 2000))))
}

/// The connections that requests came over.
fn used(registry: &FaultRegistry) -> usize {
    let requests = registry.requests();
    requests.iter().map(|request| request.connection).collect::<BTreeSet<_>>().len()
}

/// Every request names the program and its version: to the registry, its token service, its storage, and to the hosts of
/// foreign layers, whose operators want to know as well.
#[test]
fn every_request_says_who_asks() {
    let tokens = FaultRegistry::builder().token_auth().token_user(USER, PASSWORD).start();
    let storage = FaultRegistry::start();
    let registry =
        FaultRegistry::builder().token_server(&tokens).redirect_blobs_to(&storage).signed_urls().start();
    let pushed = small_layers(&registry, 3);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--creds", &format!("{USER}:{PASSWORD}")]).success();
    let expected = concat!("ocipull/", env!("CARGO_PKG_VERSION"));
    for host in [&tokens, &storage, &registry] {
        assert!(!host.requests().is_empty());
        for request in host.requests() {
            let agents: Vec<_> = request
                .headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("user-agent"))
                .map(|(_, value)| value.as_str())
                .collect();
            assert_eq!(agents, [expected], "{}", request.path);
        }
    }
    check_layout(&context.out());
}

/// Thirty small layers come over as many connections as were asked for, opened once and kept, those of manifests and tokens
/// among them; a storage elsewhere has as many of its own.
#[test]
fn connections_are_kept_and_never_too_many() {
    for connections in [1, 2, 4] {
        let storage = FaultRegistry::start();
        let one = FaultRegistry::builder().token_auth().start();
        let other = FaultRegistry::builder().token_auth().redirect_blobs_to(&storage).start();
        for registry in [&one, &other] {
            let pushed = small_layers(registry, 30);
            let context = TestContext::new();
            context.fetch(registry, &pushed).args(["--connections", &connections.to_string()]).success();
            check_layout(&context.out());
        }
        for (name, host) in [("registry", &one), ("redirecting", &other), ("storage", &storage)] {
            assert!(host.open_connections_peak() <= connections, "{name}: {}", host.open_connections_peak());
            assert!(
                used(host) <= connections,
                "{name}: {connections} were allowed, {} were used",
                used(host)
            );
        }
    }
}

/// One 429 with a `Retry-After` holds back all connections to the host, not only the one that got it.
#[test]
fn one_refusal_holds_back_all_connections() {
    let registry = FaultRegistry::start();
    let pushed = small_layers(&registry, 8);
    let gate = Gate::new();
    // Two layers are under way when the third is refused; whatever is asked after that comes after the wait.
    for layer in 0..2 {
        registry.on_blob(pushed.layer(layer)).once(Fault::HoldAfter(1000, gate.clone()));
    }
    let refusal = Fault::RetryAfter { status: 429, value: "1".to_owned() };
    registry.on_blob(pushed.layer(2)).once(refusal);
    let context = TestContext::new();
    let began = Instant::now();
    let running = context.fetch(&registry, &pushed).args(["--connections", "3"]).spawn();
    gate.wait_for_arrivals(2);
    registry.wait_until("the refusal", |registry| !registry.requests_for(pushed.layer(2)).is_empty());
    let asked = registry.requests().len();
    gate.open();
    registry.wait_until("the next request", |registry| registry.requests().len() > asked);
    assert!(began.elapsed().as_millis() >= 1000, "{:?}", began.elapsed());
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    assert_eq!(registry.requests_for(pushed.layer(2)).len(), 2);
    check_layout(&context.out());
}

/// The cap holds over all connections together, and slowness that was asked for is no stall.
#[test]
fn the_rate_is_capped() {
    let registry = FaultRegistry::start();
    let pushed = registry.push((0..4).fold(image(), |image, seed| image.layer(random_from(seed, 75_000))));
    let context = TestContext::new();
    let began = Instant::now();
    let options = ["--max-rate", "300KB/s", "--stall-timeout", "500ms", "--retries", "0", "--json"];
    let report = context.fetch(&registry, &pushed).args(options).success().json();
    let elapsed = began.elapsed().as_secs_f64();
    assert!(elapsed >= 0.95, "300 KB at 300 KB/s took {elapsed} s");
    assert_eq!(report["retries"], 0);
    check_layout(&context.out());
}

/// A rate is a number of bytes above 0; what is none, or counts bits, is wrong usage before anything is asked.
#[test]
fn rates_that_make_no_sense() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(KIB)));
    for rate in ["0", "0KB/s", "", "fast", "80Mbit", "10MB/h", "-5MB"] {
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).arg(format!("--max-rate={rate}")).fails_with(2);
        assert!(outcome.stderr.contains("--max-rate"), "{}", outcome.stderr);
    }
    assert!(registry.requests().is_empty());
}
