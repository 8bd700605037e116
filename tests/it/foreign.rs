//! Layers that live at URLs of their own: asked in order, without credentials, proven like any other.

use crate::support::{
    Certificate, Fault, FaultRegistry, Gate, MIB, PushedImage, TestContext, assert_readable, check_layout,
    image, random, text,
};

/// A host that is no registry: it has the layer of these bytes, whole and by ranges, and knows no logins.
fn host(bytes: &[u8]) -> (FaultRegistry, String) {
    let host = FaultRegistry::start();
    let pushed = host.push_as("files", "v1", image().layer(bytes));
    let url = format!("{}/storage/files/{}", host.url(), pushed.layer(0));
    (host, url)
}

/// An image whose one layer lives at `urls`, the registry not having it.
fn push<T: Into<String>>(
    registry: &FaultRegistry,
    bytes: &[u8],
    urls: impl IntoIterator<Item = T>,
) -> PushedImage {
    let pushed = registry.push(image().layer(bytes).urls(0, urls));
    registry.on_blob(pushed.layer(0)).always(Fault::Status(404));
    pushed
}

fn asked_without_credentials(host: &FaultRegistry) -> usize {
    let requests = host.requests();
    for request in &requests {
        assert_eq!(request.header("authorization"), None, "{request:?}");
        assert_eq!(request.header("cookie"), None);
    }
    requests.len()
}

/// The layer comes from its URL, the registry is not asked for it, and the layout has it like any other.
#[test]
fn a_layer_comes_from_its_url() {
    let bytes = random(300_000);
    let (host, url) = host(&bytes);
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(&bytes).urls(0, [&url]));
    let context = TestContext::new();
    let report = context.fetch(&registry, &pushed).arg("--json").success().json();
    assert_eq!(report["results"][0]["images"][0]["layers"][0]["diffIdStatus"], "verified");
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 0);
    assert_eq!(asked_without_credentials(&host), 1);
    assert_eq!(check_layout(&context.out()).diff_ids_proven, 1);
}

/// A foreign media type alone says nothing about where the layer is: without `urls` the registry has it.
#[test]
fn a_foreign_type_without_urls_is_a_layer_of_the_registry() {
    for media_type in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().raw_layer(media_type, text(3000)));
        let context = TestContext::new();
        context.fetch(&registry, &pushed).success();
        assert_eq!(registry.requests_for(pushed.layer(0)).len(), 1);
    }
}

/// Credentials that the registry wants, Basic or Bearer, go to the registry only (CVE-2020-15157).
#[test]
fn credentials_stay_with_the_registry() {
    let bytes = text(5000);
    for bearer in [false, true] {
        let (host, url) = host(&bytes);
        let builder = FaultRegistry::builder();
        let registry = if bearer {
            builder.token_auth().token_user("me", "secret").start()
        } else {
            builder.basic_auth("me", "secret").start()
        };
        let with_user = url.replacen("://", "://me:secret@", 1);
        let pushed = registry.push(image().layer(&bytes).urls(0, [&with_user]));
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(["--creds", "me:secret"]).success();
        assert_eq!(asked_without_credentials(&host), 1);
        assert!(registry.requests().iter().any(|request| request.header("authorization").is_some()));
        check_layout(&context.out());
    }
}

/// A host that challenges is a host that failed: no token is asked for, there or anywhere, and the registry has its turn.
#[test]
fn a_challenge_of_a_url_is_not_met() {
    let bytes = text(5000);
    let (host, url) = host(&bytes);
    let challenge = format!("Bearer realm=\"{}/token\",service=\"s\"", host.url());
    let refusal =
        Fault::StatusWith { status: 401, headers: vec![("WWW-Authenticate", challenge)], body: Vec::new() };
    host.on_path("/storage/").always(refusal);
    let registry = FaultRegistry::builder().basic_auth("me", "secret").start();
    let pushed = registry.push(image().layer(&bytes).urls(0, [&url]));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).args(["--creds", "me:secret"]).success();
    assert!(outcome.stderr.contains("401"), "{}", outcome.stderr);
    assert_eq!((asked_without_credentials(&host), host.tokens_issued()), (1, 0));
    check_layout(&context.out());
}

/// URLs have an order, other schemes are passed over with a word, and no more is asked than needed.
#[test]
fn urls_are_asked_in_their_order() {
    let bytes = text(5000);
    let (first, first_url) = host(&bytes);
    let (second, second_url) = host(&bytes);
    let (third, third_url) = host(&bytes);
    first.on_path("/storage/").always(Fault::Status(404));
    let registry = FaultRegistry::start();
    let urls = ["ftp://files.example/l", "file:///etc/passwd", &first_url, &second_url, &third_url];
    let pushed = push(&registry, &bytes, urls);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).success();
    for said in ["ftp://files.example/l: not asked", "file:///etc/passwd: not asked", &first_url, "404"] {
        assert!(outcome.stderr.contains(said), "{said} in {}", outcome.stderr);
    }
    let asked = [&first, &second, &third].map(asked_without_credentials);
    assert_eq!(asked, [1, 1, 0]);
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 0);
    check_layout(&context.out());
}

/// With all places failing, each is named with what it said; not found and network failures keep their exit codes.
#[test]
fn a_layer_that_is_nowhere_names_every_place() {
    let bytes = text(5000);
    for (status, code) in [(404, 3), (503, 5)] {
        let (host, url) = host(&bytes);
        host.on_path("/storage/").always(Fault::Status(status));
        let registry = FaultRegistry::start();
        let pushed = push(&registry, &bytes, ["gopher://files.example/l", &url]);
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).args(["--retries", "1"]).fails_with(code);
        let error = outcome.stderr.split("error: ").nth(1).expect("there is an error");
        let (status, registry_name) = (status.to_string(), format!("http://{}/v2/", registry.host()));
        for said in ["gopher://files.example/l: not asked", &url, &status, &registry_name, pushed.layer(0)] {
            assert!(error.contains(said), "{said} in {}", outcome.stderr);
        }
        assert!(!outcome.stderr.contains("login"), "{}", outcome.stderr);
        assert!(assert_readable(&context.out()).digests.is_empty());
    }
}

/// A server that is down for a moment is waited for when the registry does not have the layer.
#[test]
fn a_url_that_is_down_for_a_moment_is_asked_again() {
    let bytes = text(5000);
    let (host, url) = host(&bytes);
    host.on_path("/storage/").times(2, Fault::Status(503));
    let registry = FaultRegistry::start();
    let pushed = push(&registry, &bytes, [&url]);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    assert_eq!(asked_without_credentials(&host), 3);
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 1, "its 404 is final");
    check_layout(&context.out());
}

/// A redirect of the URL is followed, without credentials and not in a circle.
#[test]
fn redirects_of_urls_are_followed() {
    let bytes = random(100_000);
    let (storage, target) = host(&bytes);
    let (host, url) = host(&bytes);
    host.on_path("/storage/").once(Fault::RedirectLoop);
    host.on_path("/storage/").always(Fault::Redirect(target.replacen("://", "://me:secret@", 1)));
    let registry = FaultRegistry::builder().basic_auth("me", "secret").start();
    let pushed = registry.push(image().layer(&bytes).urls(0, [format!("{url}?circle"), url]));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--creds", "me:secret"]).success();
    assert_eq!((asked_without_credentials(&host), asked_without_credentials(&storage)), (2, 1));
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 0);
    check_layout(&context.out());
}

/// A large foreign layer is fetched in ranges, and a connection that is cut resumes from its last byte.
#[test]
fn a_cut_connection_to_a_url_resumes() {
    let bytes = random(3 * MIB);
    let (host, url) = host(&bytes);
    let registry = FaultRegistry::start();
    let pushed = push(&registry, &bytes, [&url]);
    host.on_blob(pushed.layer(0)).once(Fault::CutAfter(MIB));
    let context = TestContext::new();
    let report = context.fetch(&registry, &pushed).args(["--connections", "1", "--json"]).success().json();
    assert_eq!(report["retries"], 1);
    let size = pushed.layer_bytes(0).len();
    assert_eq!(host.requests()[1].range(), Some(format!("bytes={MIB}-{}", size - 1).as_str()));
    assert_eq!(host.blob_bytes_sent(), size as u64);
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 0);
    check_layout(&context.out());
}

/// A killed fetch of a foreign layer resumes too, and several connections share one.
#[cfg(unix)]
#[test]
fn a_killed_fetch_of_a_url_resumes() {
    let bytes = random(6 * MIB);
    let (host, url) = host(&bytes);
    let registry = FaultRegistry::start();
    let pushed = push(&registry, &bytes, [&url]);
    let context = TestContext::new();
    let options = ["--connections", "4", "--segment-size", "1MiB"];
    host.throttle(32 * MIB as u64);
    let running = context.fetch(&registry, &pushed).args(options).spawn();
    host.wait_for_blob_bytes(3 * MIB as u64);
    running.kill();
    let first = host.blob_bytes_sent();
    host.clear_requests();
    context.fetch(&registry, &pushed).args(options).success();
    let total = pushed.layer_bytes(0).len() as u64;
    assert!(
        first + host.blob_bytes_sent() <= total + 5 * MIB as u64,
        "{first} and {}",
        host.blob_bytes_sent()
    );
    assert!(host.requests().iter().all(|request| request.range().is_some()));
    check_layout(&context.out());
}

/// A server without ranges for the foreign layer does not cost the registry's layers theirs.
#[test]
fn ranges_are_each_servers_own() {
    let bytes = random(5 * MIB);
    let (host, url) = host(&bytes);
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(&bytes).layer(random(4 * MIB)).urls(0, [&url]));
    host.on_blob(pushed.layer(0)).always(Fault::IgnoreRange);
    let context = TestContext::new();
    let options = ["--connections", "1", "--segment-size", "1MiB"];
    context.fetch(&registry, &pushed).args(options).success();
    assert_eq!(host.requests().len(), 1, "one stream");
    let ranged = registry.requests_for(pushed.layer(1));
    assert!(ranged.len() > 1 && ranged.iter().all(|request| request.range().is_some()), "{ranged:?}");
    check_layout(&context.out());
}

/// Wrong bytes from the first URL are named, and nothing of them stays: the second URL's are taken from the first byte.
#[test]
fn wrong_bytes_of_a_url_poison_nothing() {
    for (size, segments) in [(50_000, "16MiB"), (5 * MIB, "1MiB")] {
        let bytes = random(size);
        let (liar, liars_url) = host(&bytes);
        let (honest, honest_url) = host(&bytes);
        let registry = FaultRegistry::start();
        let pushed = push(&registry, &bytes, [&liars_url, &honest_url]);
        liar.on_blob(pushed.layer(0)).always(Fault::FlipByte(100));
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).args(["--segment-size", segments]).success();
        assert!(outcome.stderr.contains(&liars_url), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("digest"), "{}", outcome.stderr);
        assert_eq!(honest.blob_bytes_sent(), pushed.layer_bytes(0).len() as u64, "all of it");
        check_layout(&context.out());
    }
}

/// Wrong bytes everywhere are an integrity error that names every place.
#[test]
fn wrong_bytes_everywhere_are_refused() {
    let bytes = random(50_000);
    let (host, url) = host(&bytes);
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(&bytes).urls(0, [&url]));
    host.on_blob(pushed.layer(0)).always(Fault::FlipByte(100));
    registry.on_blob(pushed.layer(0)).always(Fault::FlipByte(200));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).fails_with(6);
    let error = outcome.stderr.split("error: ").nth(1).expect("there is an error");
    assert!(error.contains(&url) && error.contains(&format!("; {}: ", registry.host())), "{error}");
    assert_eq!((host.requests().len(), registry.requests_for(pushed.layer(0)).len()), (1, 1));
    assert!(assert_readable(&context.out()).digests.is_empty());
}

/// A page in place of the file, longer or shorter, and a body that goes past the size: the next place is asked.
#[test]
fn other_sizes_are_other_bytes() {
    let bytes = random(50_000);
    for fault in [
        Fault::Body(b"<html>moved</html>".to_vec()),
        Fault::Oversize(1000),
        Fault::All(vec![Fault::Oversize(1000), Fault::Chunked]),
    ] {
        let (host, url) = host(&bytes);
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(&bytes).urls(0, [&url]));
        host.on_blob(pushed.layer(0)).always(fault);
        let context = TestContext::new();
        context.fetch(&registry, &pushed).success();
        assert_eq!(host.requests().len(), 1);
        check_layout(&context.out());
    }
}

/// TLS of a URL's host is verified as the registry's options say.
#[test]
fn tls_of_urls_is_verified() {
    let bytes = text(5000);
    let host = FaultRegistry::builder().tls(Certificate::Signed).start();
    let layer = host.push_as("files", "v1", image().layer(&bytes));
    let url = format!("{}/storage/files/{}", host.url(), layer.layer(0));
    let registry = FaultRegistry::start();
    let pushed = push(&registry, &bytes, [&url]);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).fails_with(5);
    assert!(outcome.stderr.contains("issuer is not trusted"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--ca-file"), "{}", outcome.stderr);
    assert_eq!((host.requests().len(), host.failed_handshakes()), (0, 1), "asked once");
    let file = host.ca_file().expect("it speaks TLS");
    context.fetch(&registry, &pushed).arg("--ca-file").arg(file).success();
    check_layout(&context.out());
}

/// A layer whose descriptor embeds it needs neither URL nor registry; one that the layout has asks nobody either.
#[test]
fn what_is_there_is_not_asked_for() {
    let bytes = text(5000);
    let (host, url) = host(&bytes);
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    let plain = registry.push_as("plain", "v1", image().layer(&bytes));
    context.fetch(&registry, &plain).success();
    let pushed = registry.push_as("foreign", "v2", image().layer(&bytes).urls(0, [&url]));
    context.fetch(&registry, &pushed).success();
    assert_eq!(host.requests().len(), 0);
    check_layout(&context.out());
}

/// Left where it is: nobody is asked for it, the report and the entry say so, and `verify` tells choice from loss.
#[test]
fn a_layer_is_left_where_it_lives() {
    let bytes = random(100_000);
    let (host, url) = host(&bytes);
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(&bytes).urls(0, [&url]).layer("here"));
    let context = TestContext::new();
    let skip = ["--foreign-layers", "skip", "--json"];
    let report = context.fetch(&registry, &pushed).args(skip).success().json();
    let layers = &report["results"][0]["images"][0]["layers"];
    assert_eq!((&layers[0]["outcome"], &layers[0]["diffIdStatus"]), (&"left-out".into(), &"skipped".into()));
    assert_eq!(
        (&layers[1]["outcome"], &layers[1]["diffIdStatus"]),
        (&"downloaded".into(), &"verified".into())
    );
    assert_eq!((host.requests().len(), registry.requests_for(pushed.layer(0)).len()), (0, 0));
    let read = || -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(context.out().join("index.json")).unwrap()).unwrap()
    };
    let annotation = |index: &serde_json::Value| {
        index["manifests"][0]["annotations"].get("io.ocipull.foreign-layers").cloned()
    };
    assert_eq!(annotation(&read()), Some("skipped".into()));
    let verified = context.run(["verify", "./out"]).success();
    assert!(format!("{}{}", verified.stdout, verified.stderr).contains("left out"), "{}", verified.stdout);
    registry.clear_requests();
    let report = context.fetch(&registry, &pushed).args(skip).success().json();
    assert_eq!(report["results"][0]["status"], "up-to-date");
    assert_eq!(report["results"][0]["images"][0]["layers"][0]["outcome"], "left-out");
    assert_eq!(registry.asked(), ["HEAD v1"]);
    // Wanted after all, it is not up to date without it, and with it nothing is left out any more.
    let report = context.fetch(&registry, &pushed).arg("--json").success().json();
    assert_eq!(report["results"][0]["status"], "fetched");
    assert_eq!(asked_without_credentials(&host), 1);
    assert_eq!(annotation(&read()), None);
    check_layout(&context.out());
    registry.clear_requests();
    context.fetch(&registry, &pushed).args(skip).success();
    assert_eq!(registry.asked(), ["HEAD v1"], "more than was asked for is there");
    // Then lost: that is no choice.
    let lost = context.out().join("blobs").join(pushed.layer(0).replace(':', "/"));
    std::fs::remove_file(lost).unwrap();
    context.run(["verify", "./out"]).fails_with(6);
}

/// What is there is not left out: the layer stays proven, and a later loss is a loss.
#[test]
fn what_is_there_is_not_left_out() {
    let bytes = random(10_000);
    let (host, url) = host(&bytes);
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(&bytes).urls(0, [&url]));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    let skip = ["--foreign-layers", "skip", "--verify-existing", "--json"];
    let report = context.fetch(&registry, &pushed).args(skip).success().json();
    let layer = &report["results"][0]["images"][0]["layers"][0];
    assert_eq!((&layer["outcome"], &layer["diffIdStatus"]), (&"present".into(), &"verified".into()));
    let index = std::fs::read_to_string(context.out().join("index.json")).unwrap();
    assert!(!index.contains("io.ocipull.foreign-layers"), "{index}");
    assert_eq!(host.requests().len(), 1);
}

/// A zstd frame of `size` bytes that expands to 128 KiB for every four of them.
fn bomb(size: usize) -> Vec<u8> {
    let block = [&((128_u32 << 10 << 3) | 2).to_le_bytes()[..3], &[0]].concat();
    let mut bytes = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x38][..], &block.repeat(size / 4)].concat();
    bytes.resize(size, 1);
    bytes
}

/// Wrong bytes of the right length with one more behind them: whether that one is seen before the digest is known or
/// after it, the next URL is asked, and it is not blamed for what it did not send.
#[test]
fn one_byte_too_many_does_not_hide_the_other_places() {
    let bytes = random(2 * MIB);
    for (wrong, is_late) in [(bomb(20_000), false), (vec![7; 20_000], true)] {
        let (liar, liars_url) = host(&bytes);
        let (honest, honest_url) = host(&bytes);
        let registry = FaultRegistry::start();
        let pushed = push(&registry, &bytes, [&liars_url, &honest_url]);
        let size = pushed.layer_bytes(0).len();
        let gate = Gate::new();
        let body = [&wrong[..], &vec![1; size + 1 - wrong.len()]].concat();
        liar.on_blob(pushed.layer(0)).always(Fault::All(vec![
            Fault::Body(body),
            Fault::IgnoreRange,
            Fault::Chunked,
            Fault::HoldAfter(size, gate.clone()),
        ]));
        let context = TestContext::new();
        let running = context.fetch(&registry, &pushed).args(["--connections", "2"]).spawn();
        if is_late {
            honest.wait_until("the honest host is asked", |host| !host.requests().is_empty());
        } else {
            liar.wait_for_blob_bytes(size as u64);
        }
        gate.open();
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(&liars_url), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains(&format!("{honest_url} sent")), "{}", outcome.stderr);
        check_layout(&context.out());
    }
}

/// A host that wants no ranges, or answers them wrongly, is not waited for when another has the layer; without another it
/// is asked for the whole.
#[test]
fn refused_ranges_cost_a_place_its_turn() {
    let bytes = random(3 * MIB);
    let begin = "bytes 0-9/10".to_owned();
    for fault in [Fault::RangeNotSatisfiable, Fault::MissingContentRange, Fault::WrongContentRange(begin)] {
        let (stubborn, url) = host(&bytes);
        let (willing, other) = host(&bytes);
        let registry = FaultRegistry::start();
        let pushed = push(&registry, &bytes, [&url, &other]);
        stubborn.on_blob(pushed.layer(0)).always(fault);
        let context = TestContext::new();
        let options = ["--segment-size", "1MiB", "--connections", "1"];
        context.fetch(&registry, &pushed).args(options).success();
        assert!(stubborn.requests().len() <= 2, "{:?}", stubborn.requests());
        assert!(willing.requests().len() >= 3);
        check_layout(&context.out());
    }
    let (stubborn, url) = host(&bytes);
    let registry = FaultRegistry::start();
    let pushed = push(&registry, &bytes, [&url]);
    stubborn.on_blob(pushed.layer(0)).times(2, Fault::RangeNotSatisfiable);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--segment-size", "1MiB"]).success();
    assert_eq!(stubborn.requests().last().unwrap().range(), None);
    check_layout(&context.out());
}

/// A warning about a place that was given up names it and says why.
#[test]
fn a_place_that_was_given_up_is_named() {
    let bytes = random(100_000);
    let (cutting, url) = host(&bytes);
    let (_whole, other) = host(&bytes);
    let registry = FaultRegistry::start();
    let pushed = push(&registry, &bytes, [&url, &other]);
    cutting.on_blob(pushed.layer(0)).always(Fault::All(vec![Fault::IgnoreRange, Fault::CutAfter(1000)]));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).args(["--retries", "1"]).success();
    let warning = outcome.stderr.lines().find(|line| line.contains("gave up after")).expect("it is said");
    for said in [&url, "after 1000 bytes of", &format!("; asking {other} instead")] {
        assert!(warning.contains(said), "{said} in {warning}");
    }
}
