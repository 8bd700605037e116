//! Docker's schema 1: refused unless it is asked for, and then an OCI image whose diff IDs were computed here.

use serde_json::Value;

use crate::support::{
    Fault, FaultRegistry, TestContext, assert_readable, check_layout, image, index, sha256, tar_of, text,
};

fn document(context: &TestContext, digest: &Value) -> Value {
    let path = context.out().join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn entry(context: &TestContext) -> Value {
    let index = std::fs::read(context.out().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    index["manifests"][0].clone()
}

/// Without its flag: exit 2, the flag by name, nothing asked for but the manifest, nothing made.
#[test]
fn schema1_needs_its_flag() {
    let registry = FaultRegistry::start();
    for pushed in [
        registry.push(image().layer("signed").schema1()),
        registry.push(image().layer("unsigned").schema1_unsigned()),
    ] {
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).fails_with(2);
        assert!(outcome.stderr.contains("--allow-schema1"), "{}", outcome.stderr);
        assert!(!context.out().exists());
    }
    assert_eq!(registry.blob_bytes_sent(), 0);
}

/// Signed or not, by tag or by digest: the layers are proven by diff IDs computed here, the source's digest is kept, and
/// once more asks one question and downloads nothing.
#[test]
fn schema1_becomes_an_oci_image() {
    let registry = FaultRegistry::start();
    for signed in [true, false] {
        let builder = image().layer("base").throwaway("ENV a=b").layer("top");
        let pushed = registry.push(if signed { builder.schema1() } else { builder.schema1_unsigned() });
        for reference in [pushed.reference(), pushed.reference_by_digest(), pushed.reference_by_both()] {
            let context = TestContext::new();
            let run = || context.run(["fetch", "--allow-schema1", "--json", &reference, "./out"]);
            let outcome = run().success();
            let result = outcome.json()["results"][0].clone();
            check_layout(&context.out());
            let entry = entry(&context);
            assert_eq!(entry["mediaType"], "application/vnd.oci.image.manifest.v1+json");
            assert_eq!(entry["annotations"]["io.ocipull.source.digest"], pushed.digest());
            let source_type = if signed { "prettyjws" } else { "json" };
            assert_eq!(
                entry["annotations"]["io.ocipull.source.media-type"],
                format!("application/vnd.docker.distribution.manifest.v1+{source_type}")
            );
            assert_eq!(result["resolved"]["digest"], pushed.digest());
            assert_eq!(result["descriptor"]["digest"], entry["digest"]);
            let manifest = document(&context, &entry["digest"]);
            let config = document(&context, &manifest["config"]["digest"]);
            let layers = manifest["layers"].as_array().unwrap();
            assert_eq!(layers.len(), 2);
            for (at, content) in ["base", "top"].into_iter().enumerate() {
                assert_eq!(layers[at]["digest"], pushed.layer(at));
                assert_eq!(config["rootfs"]["diff_ids"][at], sha256(&tar_of(at, content.as_bytes())));
                assert_eq!(result["images"][0]["layers"][at]["diffIdStatus"], "verified");
            }
            let steps: Vec<bool> = config["history"]
                .as_array()
                .unwrap()
                .iter()
                .map(|step| step["empty_layer"] == Value::Bool(true))
                .collect();
            assert_eq!(steps, [false, true, false]);
            context.run(["verify", "./out"]).success();
            registry.clear_requests();
            assert_eq!(run().success().json()["results"][0]["status"], "up-to-date");
            assert!(registry.asked().len() <= 1, "{:?}", registry.asked());
            assert_eq!(registry.blob_bytes_sent(), registry.blob_bytes_sent());
        }
    }
}

/// What it would be is known without a download but for the digests that come of the layers.
#[test]
fn a_dry_run_says_what_is_known() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("base").schema1());
    let context = TestContext::new();
    let outcome =
        context.fetch(&registry, &pushed).args(["--allow-schema1", "--dry-run", "--json"]).success();
    let result = outcome.json()["results"][0].clone();
    assert_eq!(result["status"], "planned");
    assert_eq!(result["descriptor"], Value::Null);
    assert_eq!(result["images"][0]["manifest"], Value::Null);
    assert_eq!(result["images"][0]["layers"][0]["digest"], pushed.layer(0));
    assert_eq!(registry.blob_bytes_sent(), 1, "the byte whose answer tells the size");
    assert!(!context.out().exists());
}

/// Listed by an index it is taken like any other, where it is the platform's; not as a part of the index.
#[test]
fn schema1_in_an_index() {
    let registry = FaultRegistry::start();
    let list = index()
        .docker()
        .manifest(image().layer("old").platform("linux/amd64").schema1(), "linux/amd64")
        .manifest(image().docker().layer("new").platform("linux/arm64"), "linux/arm64");
    let pushed = registry.push(list);
    let context = TestContext::new();
    let one = ["--platform", "linux/amd64"];
    let outcome = context.fetch(&registry, &pushed).args(one).fails_with(2);
    assert!(outcome.stderr.contains("--allow-schema1"), "{}", outcome.stderr);
    context.fetch(&registry, &pushed).args(one).arg("--allow-schema1").success();
    assert_eq!(entry(&context)["annotations"]["io.ocipull.source.digest"], pushed.child(0).digest());
    assert_eq!(entry(&context)["annotations"]["io.ocipull.index.digest"], pushed.digest());
    registry.clear_requests();
    context.fetch(&registry, &pushed).args(one).arg("--allow-schema1").success();
    assert_eq!(registry.asked(), ["HEAD v1"]);
    let several = [&one[..], &["--platform", "linux/arm64", "--allow-schema1"]].concat();
    TestContext::new().fetch(&registry, &pushed).args(several).fails_with(2);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).arg("--all-platforms").success();
    assert!(outcome.stderr.contains("schema 1"), "{}", outcome.stderr);
    context.run(["verify", "./out"]).success();
}

/// The flag is needed each time, whatever the layout has; and by digest nothing is asked when it is there.
#[test]
fn the_flag_is_needed_each_time() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("old").schema1());
    let context = TestContext::new();
    let reference = pushed.reference_by_digest();
    context.run(["fetch", "--allow-schema1", &reference, "./out"]).success();
    registry.clear_requests();
    context.run(["fetch", "--allow-schema1", &reference, "./out"]).success();
    assert_eq!(registry.asked(), [""; 0]);
    context.run(["fetch", &reference, "./out"]).fails_with(2);
}

/// A layer with other bytes than its digest says is an integrity error for schema 1 as for anything else.
#[test]
fn a_bad_layer_is_not_named() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("base").schema1());
    registry.on_blob(pushed.layer(0)).always(Fault::FlipByte(20));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).arg("--allow-schema1").fails_with(6);
    assert!(outcome.stderr.contains(pushed.layer(0)), "{}", outcome.stderr);
    assert!(assert_readable(&context.out()).digests.is_empty());
}

/// A registry that tells no sizes, or lies about them to HEAD, has its images fetched all the same, as Docker fetched them.
#[test]
fn sizes_that_nobody_tells_are_counted() {
    for faults in [
        vec![Fault::Chunked, Fault::IgnoreRange],
        vec![Fault::UntilClose, Fault::IgnoreRange],
        vec![Fault::Chunked, Fault::MissingContentRange],
    ] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(text(100_000)).schema1());
        registry.on_head(pushed.layer(0)).always(Fault::WrongLength(5));
        registry.on_blob(pushed.layer(0)).always(Fault::All(faults));
        let context = TestContext::new();
        context.fetch(&registry, &pushed).arg("--allow-schema1").success();
        assert_eq!(check_layout(&context.out()).diff_ids_proven, 1);
    }
}
