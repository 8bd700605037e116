//! The commands that only ask: `resolve` and `inspect`.

use crate::support::{FaultRegistry, PushedImage, TestContext, image, index, sha256, text};

fn two_platforms(registry: &FaultRegistry) -> PushedImage {
    registry.push(
        index()
            .annotation("org.example.a", "b")
            .manifest(image().platform("linux/amd64").layer(text(5000)), "linux/amd64")
            .manifest(image().platform("linux/arm64").layer("for arm64"), "linux/arm64"),
    )
}

/// The digest alone on standard output, for `$(…)`, by one HEAD.
#[test]
fn resolve_prints_the_digest() {
    let registry = FaultRegistry::start();
    let pushed = two_platforms(&registry);
    let context = TestContext::new();
    let outcome = context.run(["resolve", &pushed.reference()]).success();
    assert_eq!(outcome.stdout, format!("{}\n", pushed.digest()));
    assert_eq!(outcome.stderr, "");
    assert_eq!(registry.asked(), ["HEAD v1"]);
}

/// With `--json` the reference in full and the descriptor, for a tag and for a digest.
#[test]
fn resolve_tells_the_descriptor() {
    let registry = FaultRegistry::start();
    let pushed = two_platforms(&registry);
    for reference in [pushed.reference(), pushed.reference_by_digest(), pushed.reference_by_both()] {
        let json = TestContext::new().run(["resolve", "--json", &reference]).success().json();
        assert_eq!(json["reference"], reference);
        assert_eq!(json["descriptor"]["digest"], pushed.digest());
        assert_eq!(json["descriptor"]["mediaType"], pushed.media_type());
        assert_eq!(json["descriptor"]["size"], pushed.document().len());
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(2));
    }
}

/// Wrong references are usage errors before anything is asked; missing ones are not found.
#[test]
fn resolve_fails_like_fetch() {
    let registry = FaultRegistry::start();
    let host = registry.host();
    for (reference, code) in [
        (format!("{host}/App:v1"), 2),
        (format!("{host}/app:-v1"), 2),
        (format!("{host}/app@sha256:12"), 2),
        ("a".repeat(64), 2),
        (format!("{host}/app:v1"), 3),
        (format!("{host}/app@{}", sha256(b"nothing")), 3),
    ] {
        registry.clear_requests();
        let outcome = TestContext::new().run(["resolve", &reference]).fails_with(code);
        assert_eq!(outcome.stdout, "", "{reference}");
        assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
        assert_eq!(registry.requests().is_empty(), code == 2, "{reference}");
    }
}

/// `--raw` is the document byte for byte, so that its checksum is the digest.
#[test]
fn inspect_raw_is_the_document() {
    let registry = FaultRegistry::start();
    let pushed = two_platforms(&registry);
    for reference in
        [pushed.reference(), pushed.reference_by_digest(), format!("docker://{}", pushed.reference())]
    {
        let outcome = TestContext::new().run(["inspect", "--raw", &reference]).success();
        assert_eq!(sha256(outcome.stdout.as_bytes()), pushed.digest());
        assert_eq!(registry.blob_bytes_sent(), 0);
    }
}

/// Every platform with its config, its layers and their diff IDs; no layer is downloaded for it.
#[test]
fn inspect_tells_what_an_index_holds() {
    let registry = FaultRegistry::start();
    let pushed = two_platforms(&registry);
    let json = TestContext::new().run(["inspect", "--json", &pushed.reference()]).success().json();
    assert_eq!(json["name"], pushed.reference());
    assert_eq!(json["descriptor"]["digest"], pushed.digest());
    assert_eq!(json["index"]["descriptor"]["digest"], pushed.digest());
    assert_eq!(json["index"]["platforms"][0], "linux/amd64");
    let images = json["images"].as_array().expect("images are a list");
    assert_eq!(images.len(), 2);
    for (at, found) in images.iter().enumerate() {
        let child = pushed.child(at);
        assert_eq!(found["manifest"]["digest"], child.digest());
        assert_eq!(found["config"]["digest"], child.config());
        assert_eq!(found["diffIds"][0], child.diff_id(0));
        assert_eq!(found["layers"][0]["digest"], child.layer(0));
        assert_eq!(found["layers"][0]["size"], child.layer_bytes(0).len());
        assert_eq!(registry.requests_for(child.layer(0)).len(), 0);
    }
    assert_eq!(images[1]["platform"], "linux/arm64");
    assert_eq!(json["referrers"], serde_json::json!([]));
}

/// One image has no index; the text for people names what matters.
#[test]
fn inspect_of_one_image() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().annotation("org.example.a", "with \u{1b}[2J in it").layer("x"));
    let json = TestContext::new().run(["inspect", "--json", &pushed.reference()]).success().json();
    assert!(json["index"].is_null());
    assert_eq!(json["images"][0]["annotations"]["org.example.a"], "with \u{1b}[2J in it");
    let outcome = TestContext::new().run(["inspect", &pushed.reference()]).success();
    for named in [pushed.digest(), pushed.config(), pushed.layer(0), "linux/amd64", "org.example.a"] {
        assert!(outcome.stdout.contains(named), "{named} in {}", outcome.stdout);
    }
    assert!(!outcome.stdout.contains('\u{1b}'), "control characters are shown, not sent to the terminal");
}

/// What was fetched is inspected without asking the registry, by short name, full name, and by none.
#[test]
fn inspect_of_a_layout_asks_nobody() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(text(1000)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    registry.clear_requests();
    let out = context.out().display().to_string();
    for target in [
        out.clone(),
        format!("{out}:v1"),
        format!("oci:{out}:v1"),
        format!("{out}:{}", pushed.reference()),
        "./out:v1".to_owned(),
    ] {
        let json = context.run(["inspect", "--json", &target]).success().json();
        assert_eq!(json["images"][0]["layers"][0]["digest"], pushed.layer(0), "{target}");
        let raw = context.run(["inspect", "--raw", &target]).success();
        assert_eq!(sha256(raw.stdout.as_bytes()), pushed.digest(), "{target}");
    }
    let outcome = context.run(["inspect", &format!("{out}:v2")]).fails_with(3);
    assert!(outcome.stderr.contains("v1"), "what there is: {}", outcome.stderr);
    assert_eq!(registry.requests().len(), 0);
}
