//! Documents that say one thing to one reader and another to the next, or nothing that can be true.

use serde_json::{Value, json};

use crate::support::{
    Built, FaultRegistry, PushedImage, TestContext, assert_readable, check_layout, image, index,
};

fn descriptor(content: &Built, media_type: &str, platform: &Value) -> Value {
    json!({ "mediaType": media_type, "digest": content.digest, "size": content.document.len(), "platform": platform })
}

fn refused(registry: &FaultRegistry, pushed: &PushedImage, arguments: &[&str]) -> String {
    let context = TestContext::new();
    let outcome = context.fetch(registry, pushed).args(arguments).fails_with(6);
    if context.out().exists() {
        assert!(assert_readable(&context.out()).digests.is_empty());
    }
    outcome.stderr
}

/// A manifest must be what its index lists it as: otherwise the layout would say one thing and hold another.
#[test]
fn a_manifest_listed_as_something_else_is_refused() {
    let registry = FaultRegistry::start();
    let child = Built::from(image().platform("linux/amd64").layer("x"));
    let platform = json!({ "os": "linux", "architecture": "amd64" });
    for listed in
        ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.v2+json"]
    {
        registry.push_as("app", "child", child.clone());
        let pushed = registry.push(index().entry(descriptor(&child, listed, &platform)));
        let stderr = refused(&registry, &pushed, &["--platform", "linux/amd64"]);
        assert!(stderr.contains(listed), "{stderr}");
    }
}

/// Sizes that no disk could hold are refused in words, whatever they add up to.
#[test]
fn sizes_that_overflow_are_refused() {
    let registry = FaultRegistry::start();
    let layer = |at: u8| {
        let digest = format!("sha256:{}", format!("{at:02x}").repeat(32));
        json!({ "mediaType": "x/y", "digest": digest, "size": i64::MAX })
    };
    let config = Built::from(image());
    let config = config.config.as_ref().expect("an image has a config");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.example+json", "digest": config.digest, "size": config.bytes.len() },
        "layers": [layer(1), layer(2), layer(3)],
    });
    let built = Built::raw("application/vnd.oci.image.manifest.v1+json", manifest.to_string());
    let pushed = registry.push(built);
    refused(&registry, &pushed, &[]);
    refused(&registry, &pushed, &["--dry-run"]);
}

/// Two Windows versions of one image are two images: the second is not up to date because the first is there.
#[test]
fn versions_of_windows_are_told_apart() {
    let registry = FaultRegistry::start();
    let images = ["10.0.17763.1", "10.0.20348.1"].map(|version| {
        let built = Built::from(image().platform("windows/amd64").layer(version));
        (built, json!({ "os": "windows", "architecture": "amd64", "os.version": version }))
    });
    let [(old, old_platform), (new, new_platform)] = images;
    let pushed = registry
        .push(index().listed(old.clone(), Some(old_platform)).listed(new.clone(), Some(new_platform)));
    let context = TestContext::new();
    for (version, built) in [("10.0.17763", &old), ("10.0.20348", &new)] {
        let platform = format!("windows({version})/amd64");
        let arguments = ["--platform", &platform, "--ref-name", "none", "--json"];
        let report = context.fetch(&registry, &pushed).args(arguments).success().json();
        assert_eq!(report["results"][0]["descriptor"]["digest"], built.digest);
        assert_eq!(report["results"][0]["status"], "fetched");
    }
    check_layout(&context.out());
}

/// Entries without a platform are judged by their configs, and the exact one beats one that would do; one that is listed
/// again and again is looked at once.
#[test]
fn undeclared_entries_compete_and_are_looked_at_once() {
    let registry = FaultRegistry::start();
    let foreign = Built::from(image().platform("linux/s390x").layer("foreign"));
    let near = Built::from(image().platform("linux/386").layer("near"));
    let exact = Built::from(image().platform("linux/amd64").layer("exact"));
    let mut list = index();
    for _ in 0..50 {
        list = list.listed(foreign.clone(), None);
    }
    let pushed = registry.push(list.listed(near, None).listed(exact.clone(), None));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--platform", "linux/amd64"]).success();
    assert_eq!(check_layout(&context.out()).digests, [exact.digest]);
    assert_eq!(registry.requests_for(&foreign.digest).len(), 1);
}

/// What a registry calls its platforms cannot flood the terminal.
#[test]
fn the_hint_of_platforms_is_bounded() {
    let registry = FaultRegistry::start();
    let mut list = index();
    for at in 0..100 {
        let name = format!("{at}-{}", "x".repeat(2000));
        list = list.listed(image().layer("x"), Some(json!({ "os": "linux", "architecture": name })));
    }
    let pushed = registry.push(list);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).args(["--platform", "linux/amd64"]).fails_with(3);
    assert!(outcome.stderr.len() < 20_000, "{}", outcome.stderr.len());
    assert!(outcome.stderr.contains("more"), "{}", outcome.stderr);
}
