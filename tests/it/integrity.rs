//! What does not hold is refused with exit code 6, and the layout does not name it.

use crate::support::{
    Fault, FaultRegistry, Outcome, PushedImage, TestContext, assert_readable, check_layout, image, random,
    sha256, text,
};

fn refused(context: &TestContext, registry: &FaultRegistry, pushed: &PushedImage) -> Outcome {
    let outcome = context.fetch(registry, pushed).fails_with(6);
    if context.out().exists() {
        let summary = assert_readable(&context.out());
        assert!(summary.digests.is_empty(), "an image that does not hold is named");
        assert!(summary.ref_names.is_empty());
    }
    outcome
}

/// A flipped byte in a layer: the digest and what was found are named, and the bytes are asked for once only.
#[test]
fn a_flipped_byte_in_a_layer_is_refused() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(50_000)).layer(text(50_000)));
    registry.on_blob(pushed.layer(1)).always(Fault::FlipByte(100));
    let context = TestContext::new();
    let outcome = refused(&context, &registry, &pushed);
    let mut bytes = pushed.layer_bytes(1).to_vec();
    bytes[100] ^= 0xff;
    assert!(outcome.stderr.contains(pushed.layer(1)), "{}", outcome.stderr);
    assert_eq!(registry.requests_for(pushed.layer(1)).len(), 1);
    registry.mend();
    context.fetch(&registry, &pushed).success();
    check_layout(&context.out());
}

/// A flipped byte in the config.
#[test]
fn a_flipped_byte_in_the_config_is_refused() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("x"));
    registry.on_blob(pushed.config()).always(Fault::FlipByte(3));
    let outcome = refused(&TestContext::new(), &registry, &pushed);
    assert!(outcome.stderr.contains(pushed.config()), "{}", outcome.stderr);
}

/// A flipped byte in the manifest, asked for by tag and by digest.
#[test]
fn a_flipped_byte_in_the_manifest_is_refused() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("x"));
    registry.on_manifest(pushed.digest()).always(Fault::FlipByte(40));
    for reference in [pushed.reference(), pushed.reference_by_digest()] {
        let context = TestContext::new();
        let outcome = context.run(["fetch", &reference]).arg(context.out()).fails_with(6);
        assert!(outcome.stderr.contains(pushed.digest()), "{}", outcome.stderr);
        assert!(!context.out().exists());
    }
}

/// A diff ID that does not match: the layer, what the config claims and what was found are named.
#[test]
fn a_diff_id_that_does_not_match_is_refused() {
    let registry = FaultRegistry::start();
    let lie = sha256(b"something else");
    let pushed = registry.push(image().layer("one").layer("two").diff_id(1, &lie));
    let context = TestContext::new();
    let outcome = refused(&context, &registry, &pushed);
    for named in [pushed.layer(1), &lie] {
        assert!(outcome.stderr.contains(named), "{named} in {}", outcome.stderr);
    }
    context.fetch(&registry, &pushed).args(["--diff-ids", "skip"]).success();
    // What was skipped is not up to date for a fetch that verifies.
    context.fetch(&registry, &pushed).fails_with(6);
}

/// A second image that shares a layer with one in the layout but claims another diff ID for it.
#[test]
fn a_shared_layer_is_held_against_each_image_that_claims_it() {
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    let layer = random(30_000);
    let honest = registry.push_as("honest", "v1", image().layer(&layer));
    context.fetch(&registry, &honest).success();
    let lie = sha256(b"another");
    let liar = registry.push_as("liar", "v2", image().layer(&layer).diff_id(0, &lie));
    assert_eq!(honest.layer(0), liar.layer(0));
    registry.clear_requests();
    let outcome = context.fetch(&registry, &liar).fails_with(6);
    assert!(outcome.stderr.contains(&lie), "{}", outcome.stderr);
    assert_eq!(registry.requests_for(liar.layer(0)).len(), 0, "the layer was there");
    assert_eq!(assert_readable(&context.out()).digests, [honest.digest()]);
}

/// An image config without a rootfs, one with too few diff IDs, and one that is no JSON.
#[test]
fn a_config_that_cannot_be_held_against_is_refused() {
    let registry = FaultRegistry::start();
    for broken in [
        image().layer("x").without_rootfs(),
        image().layer("x").config_bytes("{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}"),
        image().layer("x").config_bytes("not json"),
    ] {
        let pushed = registry.push(broken);
        registry.clear_requests();
        refused(&TestContext::new(), &registry, &pushed);
        assert_eq!(registry.requests_for(pushed.layer(0)).len(), 0, "known before the first layer");
    }
}

/// A body that runs past its size is cut off at once, with or without a length in front.
#[test]
fn an_oversize_body_is_cut_off() {
    for fault in [Fault::Oversize(48_000_000), Fault::All(vec![Fault::Oversize(48_000_000), Fault::Chunked])]
    {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(random(1000)));
        registry.on_blob(pushed.layer(0)).always(fault);
        refused(&TestContext::new(), &registry, &pushed);
        assert!(registry.blob_bytes_sent() < 24_000_000, "{}", registry.blob_bytes_sent());
    }
}

/// A blob of the layout that went bad is noticed when a new image uses it, and downloaded again.
#[test]
fn a_bad_blob_in_the_layout_is_replaced() {
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    let layer = random(30_000);
    let first = registry.push_as("first", "v1", image().layer(&layer));
    context.fetch(&registry, &first).success();
    let path = context.out().join("blobs").join(first.layer(0).replace(':', "/"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let second = registry.push_as("second", "v2", image().layer(&layer).layer("more"));
    let outcome = context.fetch(&registry, &second).success();
    assert!(outcome.stderr.contains(second.layer(0)), "{}", outcome.stderr);
    check_layout(&context.out());
}

/// `--verify-existing` reads again what is there, and mends it.
#[test]
fn verify_existing_finds_and_mends_what_went_bad() {
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    let pushed = registry.push(image().layer(random(30_000)));
    context.fetch(&registry, &pushed).success();
    let path = context.out().join("blobs").join(pushed.layer(0).replace(':', "/"));
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[500] ^= 1;
    for options in [&["--verify-existing"][..], &["--verify-existing", "--diff-ids", "skip"]] {
        std::fs::write(&path, &bad).unwrap();
        context.fetch(&registry, &pushed).success();
        assert!(std::fs::read(&path).unwrap() == bad, "what is up to date is not read");
        context.fetch(&registry, &pushed).args(options).success();
        assert!(std::fs::read(&path).unwrap() == good, "{options:?}");
    }
    crate::support::Proof::new().run(&context.out()).unwrap();
}

/// A config or a manifest that went bad in the layout is replaced, and the fetch does not call itself up to date.
#[test]
fn a_bad_document_in_the_layout_is_replaced() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("x"));
    for digest in [pushed.config(), pushed.digest()] {
        let context = TestContext::new();
        context.fetch(&registry, &pushed).success();
        let path = context.out().join("blobs").join(digest.replace(':', "/"));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[5] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let report = context.fetch(&registry, &pushed).arg("--json").success().json();
        assert_eq!(report["results"][0]["status"], "fetched");
        check_layout(&context.out());
    }
}

/// A server that cuts and lies, again and again, is given one more try from zero and no third.
#[test]
fn a_digest_that_never_holds_ends_the_fetch() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(3_000_000)));
    let lie = || Fault::All(vec![Fault::FlipByte(10), Fault::CutAfter(1_500_000)]);
    for _ in 0..20 {
        registry.on_blob(pushed.layer(0)).once(lie());
        registry.on_blob(pushed.layer(0)).once(Fault::FlipByte(2_000_000));
    }
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--connections", "1"]).fails_with(6);
    assert!(registry.requests_for(pushed.layer(0)).len() <= 6);
}
