//! Which image of an index is taken, and what is said when none is.

use serde_json::{Value, json};

use crate::support::{
    Built, Fault, FaultRegistry, PushedImage, TestContext, check_layout, image, index, sha256,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The platform that a fetch without `--platform` looks for here, whatever its variant.
fn host() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        other => panic!("add the name that images have for {other}"),
    }
}

/// A platform that no host of these tests can run.
const FOREIGN: &str = "linux/s390x";

fn built(platform: &str) -> Built {
    image().platform(platform).layer(format!("for {platform}")).into()
}

/// Fetches for the platform (or this host's) and returns the digest of the manifest that was taken.
fn taken(registry: &FaultRegistry, pushed: &PushedImage, platform: Option<&str>) -> String {
    let context = TestContext::new();
    let options = platform.map(|platform| ["--platform", platform]);
    context.fetch(registry, pushed).args(options.into_iter().flatten()).success();
    let summary = check_layout(&context.out());
    assert_eq!(summary.digests.len(), 1);
    let entry = &summary.index["manifests"][0];
    assert_eq!(entry["annotations"]["io.ocipull.index.digest"], pushed.digest());
    summary.digests[0].clone()
}

/// `{"os", "architecture"}` with nothing in them, as attestations and some build tools write them.
fn platform(os: &str, architecture: &str) -> Value {
    json!({ "os": os, "architecture": architecture })
}

/// Only what is wanted is asked for: the index, one manifest, its config and its layer.
#[test]
fn only_the_wanted_image_is_asked_for() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(
        index()
            .manifest(built(FOREIGN), FOREIGN)
            .manifest(built(host()), host())
            .manifest(built("linux/386"), "linux/386"),
    );
    for (platform, at) in [(None, 1), (Some(FOREIGN), 0), (Some("Linux/I386"), 2)] {
        registry.clear_requests();
        let child = pushed.child(at);
        assert_eq!(taken(&registry, &pushed, platform), child.digest());
        let wanted = [pushed.digest(), child.digest(), child.config(), child.layer(0)];
        let wanted: Vec<String> = wanted.iter().map(|digest| format!("GET {digest}")).collect();
        assert_eq!(registry.asked()[0], "HEAD v1");
        assert_eq!(registry.asked()[1..], wanted);
    }
}

/// No match: exit 3, the platforms that there are, and neither a blob asked for nor a folder made.
#[test]
fn without_a_match_the_platforms_are_listed() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(
        index()
            .docker()
            .manifest(image().docker().platform("linux/arm64").layer("a"), "linux/arm64/v8")
            .manifest(image().docker().platform("windows/amd64").layer("b"), "windows/amd64")
            .listed(built(FOREIGN), Some(platform("unknown", "unknown"))),
    );
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).args(["--platform", "linux/riscv64"]).fails_with(3);
    assert!(!context.out().exists());
    assert_eq!(registry.blob_bytes_sent(), 0);
    for named in ["linux/riscv64", "linux/arm64", "windows/amd64", "--platform"] {
        assert!(outcome.stderr.contains(named), "{named} in {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("unknown"), "{}", outcome.stderr);
    let registry = FaultRegistry::start();
    let pushed = registry.push(index());
    TestContext::new().fetch(&registry, &pushed).fails_with(3);
}

/// An entry without a platform, or with an empty one, comes last and must be the right one by its config.
#[test]
fn undeclared_entries_come_last_and_are_looked_into() {
    for undeclared in [None, Some(platform("", ""))] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(
            index()
                .listed(image().platform("linux/arm64").layer("undeclared"), undeclared.clone())
                .listed(image().platform("linux/arm64").layer("second"), undeclared)
                .manifest(built("linux/amd64"), "linux/amd64"),
        );
        assert_eq!(taken(&registry, &pushed, Some("linux/amd64")), pushed.child(2).digest());
        assert_eq!(registry.requests_for(pushed.child(0).digest()).len(), 0);
        assert_eq!(taken(&registry, &pushed, Some("linux/arm64")), pushed.child(0).digest());
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).args(["--platform", FOREIGN]).fails_with(3);
        assert!(outcome.stderr.contains("linux/arm64"), "{}", outcome.stderr);
    }
}

/// Attestations are listed as unknown/unknown: never taken, never asked for, however their config reads.
#[test]
fn attestations_are_passed_over() {
    let registry = FaultRegistry::start();
    let attestation = image().platform(host()).layer("an attestation");
    let pushed = registry.push(
        index()
            .listed(attestation.clone(), Some(platform("unknown", "unknown")))
            .manifest(built(host()), host()),
    );
    assert_eq!(taken(&registry, &pushed, None), pushed.child(1).digest());
    assert_eq!(registry.requests_for(pushed.child(0).digest()).len(), 0);
    let alone = registry.push(index().listed(attestation, Some(platform("unknown", "unknown"))));
    TestContext::new().fetch(&registry, &alone).fails_with(3);
    assert_eq!(registry.requests_for(alone.child(0).digest()).len(), 0);
}

/// What an index lists besides manifests and indexes is no candidate, even under the right platform.
#[test]
fn unknown_types_in_an_index_are_passed_over() {
    let registry = FaultRegistry::start();
    let odd = json!({
        "mediaType": "application/vnd.example.thing", "digest": sha256(b"thing"), "size": 5,
        "platform": { "os": "linux", "architecture": "s390x" },
    });
    let pushed = registry.push(index().entry(odd).manifest(built(FOREIGN), FOREIGN));
    assert_eq!(taken(&registry, &pushed, Some(FOREIGN)), pushed.child(0).digest());
    assert_eq!(registry.requests_for(&sha256(b"thing")).len(), 0);
}

/// A nested index is looked into; one without a match gives way to the next candidate.
#[test]
fn nested_indexes_are_searched() {
    let registry = FaultRegistry::start();
    let without = index().manifest(built("linux/arm64"), "linux/arm64");
    let with = index().manifest(built(FOREIGN), FOREIGN);
    let pushed = registry.push(index().listed(without, None).listed(with, None));
    let wanted = pushed.child(1).child(0);
    assert_eq!(taken(&registry, &pushed, Some(FOREIGN)), wanted.digest());
}

/// A candidate that is missing is an error, not a reason to take the next best.
#[test]
fn an_error_is_not_a_mismatch() {
    let registry = FaultRegistry::start();
    let missing = json!({
        "mediaType": MANIFEST, "digest": sha256(b"missing"), "size": 7,
        "platform": { "os": "linux", "architecture": "s390x" },
    });
    let pushed = registry.push(index().entry(missing).manifest(built(FOREIGN), FOREIGN));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).args(["--platform", FOREIGN]).fails_with(3);
    assert!(outcome.stderr.contains(&sha256(b"missing")), "{}", outcome.stderr);
    assert!(!context.out().exists());
    assert_eq!(registry.requests_for(pushed.child(0).digest()).len(), 0);
}

/// Indexes inside indexes, eight at most, counting the first; more is no honest image.
#[test]
fn nesting_has_an_end() {
    for (depth, code) in [(8, 0), (9, 6)] {
        let registry = FaultRegistry::start();
        let innermost: Built = index().manifest(built(FOREIGN), FOREIGN).into();
        let outermost = (1..depth).fold(innermost, |inner, _| index().listed(inner, None).into());
        let pushed = registry.push(outermost);
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(["--platform", FOREIGN]).fails_with(code);
        assert_eq!(context.out().exists(), code == 0);
    }
}

/// Ten thousand entries are searched, one more is refused.
#[test]
fn an_index_has_ten_thousand_entries_at_most() {
    let odd = json!({ "mediaType": "application/vnd.example.thing", "digest": sha256(b"thing"), "size": 5 });
    for (entries, code) in [(9_999, 0), (10_000, 6)] {
        let registry = FaultRegistry::start();
        let many = (0..entries).fold(index(), |index, _| index.entry(odd.clone()));
        let pushed = registry.push(many.manifest(built(FOREIGN), FOREIGN));
        TestContext::new().fetch(&registry, &pushed).args(["--platform", FOREIGN]).fails_with(code);
    }
}

/// An index that lists itself can only be served by lying about a digest, and that is found out.
#[test]
fn an_index_that_claims_to_contain_itself_is_refused() {
    let registry = FaultRegistry::start();
    let itself = json!({
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": sha256(b"itself"), "size": 500,
    });
    let pushed = registry.push(index().entry(itself));
    let lie = Fault::StatusWith {
        status: 200,
        headers: vec![("Content-Type", pushed.media_type().to_owned())],
        body: pushed.document().to_vec(),
    };
    registry.on_manifest(&sha256(b"itself")).always(lie);
    TestContext::new().fetch(&registry, &pushed).args(["--platform", FOREIGN]).fails_with(6);
}

/// What is listed must have the size that the list says.
#[test]
fn a_listed_manifest_of_another_size_is_refused() {
    let registry = FaultRegistry::start();
    let child = built(FOREIGN);
    let mut entry = child.descriptor(Some(json!({ "os": "linux", "architecture": "s390x" })));
    entry["size"] = (child.document.len() + 1).into();
    registry.push_as("app", "child", child);
    let pushed = registry.push(index().entry(entry));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--platform", FOREIGN]).fails_with(6);
    assert!(!context.out().exists());
}

/// A single image for another platform: taken with a warning for a host, not found for a platform that was named.
#[test]
fn a_single_image_for_another_platform() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(built(FOREIGN));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).success();
    let warning = outcome.stderr.lines().find(|line| line.starts_with("warning"));
    assert!(warning.is_some_and(|line| line.contains(FOREIGN)), "{}", outcome.stderr);
    check_layout(&context.out());
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).args(["--platform", "linux/amd64"]).fails_with(3);
    assert!(outcome.stderr.contains(FOREIGN), "{}", outcome.stderr);
    assert!(!context.out().exists());
    let outcome = TestContext::new().fetch(&registry, &pushed).args(["--platform", FOREIGN]).success();
    assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
}

/// A lower level of the same architecture does where the wanted one is missing, for a named platform too.
#[test]
fn a_lower_level_does() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(
        index()
            .manifest(image().platform("linux/arm/v5").layer("v5"), "linux/arm/v5")
            .manifest(image().platform("linux/arm/v6").layer("v6"), "linux/arm/v6"),
    );
    assert_eq!(taken(&registry, &pushed, Some("linux/arm/v7")), pushed.child(1).digest());
    assert_eq!(taken(&registry, &pushed, Some("linux/arm64")), pushed.child(1).digest());
    assert_eq!(taken(&registry, &pushed, Some("linux/arm/v5")), pushed.child(0).digest());
    TestContext::new().fetch(&registry, &pushed).args(["--platform", "linux/amd64"]).fails_with(3);
}
