//! Docker's media types: kept as they are with a word about it, or changed to OCI's with `--format oci`.

use serde_json::Value;

use crate::support::{Built, FaultRegistry, Proof, TestContext, check_layout, image, index};

const SOURCE: &str = "io.ocipull.source.digest";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn built(platform: &str) -> Built {
    image().docker().platform(platform).layer(format!("for {platform}")).into()
}

fn entry(context: &TestContext) -> Value {
    let index = std::fs::read(context.out().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    index["manifests"][0].clone()
}

fn document(context: &TestContext, digest: &Value) -> Value {
    let path = context.out().join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Media types change and nothing else: the config's and the layers' bytes are the same, the source is on record.
#[test]
fn a_docker_image_becomes_oci() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(built("linux/amd64"));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).args(["--format", "oci", "--json"]).success();
    assert!(!outcome.stderr.contains("umoci"), "{}", outcome.stderr);
    check_layout(&context.out());
    let entry_now = entry(&context);
    assert_eq!(entry_now["mediaType"], OCI_MANIFEST);
    assert_eq!(entry_now["annotations"][SOURCE], pushed.digest());
    let manifest = document(&context, &entry_now["digest"]);
    assert_eq!(manifest["mediaType"], OCI_MANIFEST);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(manifest["config"]["digest"], pushed.config());
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(manifest["layers"][0]["digest"], pushed.layer(0));
    let result = outcome.json()["results"][0].clone();
    assert_eq!(result["resolved"]["digest"], pushed.digest());
    assert_eq!(result["descriptor"]["digest"], entry_now["digest"]);
    assert_eq!(result["images"][0]["manifest"]["mediaType"], OCI_MANIFEST);
    // Once more: one question. As it is in the registry: the entry is that one again.
    registry.clear_requests();
    let outcome = context.fetch(&registry, &pushed).args(["--format", "oci"]).success();
    assert!(outcome.stderr.contains("up to date"), "{}", outcome.stderr);
    assert_eq!(registry.asked(), ["HEAD v1"]);
    context.fetch(&registry, &pushed).success();
    assert_eq!(entry(&context)["digest"], pushed.digest());
    assert_eq!(entry(&context)["annotations"].get(SOURCE), None);
}

/// Children before parents, and one digest a source digest: what is not taken is converted too, though not kept.
#[test]
fn a_manifest_list_becomes_an_index() {
    let registry = FaultRegistry::start();
    let list = index().docker().manifest(built("linux/amd64"), "linux/amd64");
    let pushed = registry.push(
        list.manifest(built("linux/arm64"), "linux/arm64").manifest(built("linux/s390x"), "linux/s390x"),
    );
    let context = TestContext::new();
    let options = ["--format", "oci", "--platform", "linux/amd64", "--platform", "linux/arm64"];
    context.fetch(&registry, &pushed).args(options).success();
    Proof::new().sparse().run(&context.out()).unwrap();
    let entry = entry(&context);
    assert_eq!(entry["mediaType"], OCI_INDEX);
    assert_eq!(entry["annotations"][SOURCE], pushed.digest());
    let index = document(&context, &entry["digest"]);
    assert_eq!(index["mediaType"], OCI_INDEX);
    for at in [0, 1] {
        let child = &index["manifests"][at];
        assert_eq!(child["mediaType"], OCI_MANIFEST);
        assert_eq!(child["platform"]["os"], "linux");
        let manifest = document(&context, &child["digest"]);
        assert_eq!(manifest["layers"][0]["digest"], pushed.child(at).layer(0));
    }
    assert_eq!(index["manifests"][2]["mediaType"], OCI_MANIFEST);
    assert_ne!(index["manifests"][2]["digest"], pushed.child(2).digest());
    // Other platforms of it are the same index, so they add up.
    let others = ["--format", "oci", "--platform", "linux/amd64", "--platform", "linux/s390x"];
    context.fetch(&registry, &pushed).args(others).success();
    assert_eq!(self::entry(&context)["digest"], entry["digest"]);
    let platforms = &self::entry(&context)["annotations"];
    assert_eq!(platforms.get("io.ocipull.platforms").and_then(Value::as_str).map(str::len), Some(35));
    for at in 0..3 {
        document(&context, &index["manifests"][at]["digest"]);
    }
    registry.clear_requests();
    context.fetch(&registry, &pushed).args(options).success();
    assert_eq!(registry.asked(), ["HEAD v1"]);
    context.run(["verify", "./out"]).success();
    // One platform taken out of it keeps both digests.
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--format", "oci", "--platform", "linux/arm64"]).success();
    let entry = self::entry(&context);
    assert_eq!(entry["annotations"]["io.ocipull.index.digest"], pushed.digest());
    assert_eq!(entry["annotations"][SOURCE], pushed.child(1).digest());
    registry.clear_requests();
    context.fetch(&registry, &pushed).args(["--format", "oci", "--platform", "linux/arm64"]).success();
    assert_eq!(registry.asked(), ["HEAD v1"]);
}

/// What is OCI already stays byte for byte, and nothing is said of a source.
#[test]
fn oci_stays_as_it_is() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("a"));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).args(["--format", "oci"]).success();
    assert_eq!(entry(&context)["digest"], pushed.digest());
    assert_eq!(entry(&context)["annotations"].get(SOURCE), None);
    assert!(!outcome.stderr.contains("umoci"), "{}", outcome.stderr);
}

/// Whoever keeps Docker's types is told once, by name, what to do for tools that do not know them.
#[test]
fn kept_docker_types_are_mentioned() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(built("linux/amd64"));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).success();
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("umoci")).collect();
    assert_eq!(lines.len(), 1, "{}", outcome.stderr);
    assert!(lines[0].contains("--format oci") && lines[0].contains("convert"), "{}", outcome.stderr);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).arg("-q").success();
    assert_eq!(outcome.stderr, "");
}
