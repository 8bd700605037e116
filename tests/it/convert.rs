//! `ocipull convert`: a layout that crossed with Docker's media types becomes one that every OCI tool reads.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    Compression, FaultRegistry, Proof, TestContext, check_layout, image, index, random, sha256, text,
    write_layout,
};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn entries(context: &TestContext) -> Vec<Value> {
    let index: Value = serde_json::from_slice(&fs::read(context.out().join("index.json")).unwrap()).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

fn document(context: &TestContext, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap();
    serde_json::from_slice(&fs::read(context.out().join("blobs").join(digest.replace(':', "/"))).unwrap())
        .unwrap()
}

/// A fetched Docker image becomes OCI in place: names and blobs stay, the digest that the registry knows is kept.
#[test]
fn a_fetched_docker_image_is_converted() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().docker().layer(text(50_000)).layer(random(50_000)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    let before = check_layout(&context.out());
    let outcome = context.run(["convert"]).arg(context.out()).args(["--format", "oci"]).success();
    let entry = &entries(&context)[0];
    let digest = entry["digest"].as_str().unwrap();
    let name = pushed.reference();
    assert_eq!(outcome.stdout, format!("{name}@{digest}\n"));
    assert!(
        outcome.stderr.contains(&format!("{name}: converted, was {}", pushed.digest())),
        "{}",
        outcome.stderr
    );
    assert_ne!(digest, pushed.digest());
    assert_eq!(entry["mediaType"], OCI_MANIFEST);
    assert_eq!(entry["annotations"]["io.ocipull.source.digest"], pushed.digest());
    assert_eq!(entry["annotations"]["io.containerd.image.name"], name);
    let manifest = document(&context, entry);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(manifest["config"]["digest"], pushed.config());
    for (layer, digest) in manifest["layers"].as_array().unwrap().iter().zip(pushed.layers()) {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(layer["digest"], digest);
    }
    let after = check_layout(&context.out());
    assert_eq!(after.unreferenced, [pushed.digest()], "the old manifest is all that nothing names");
    assert_eq!((after.ref_names, after.diff_ids_proven), (before.ref_names, before.diff_ids_proven));
    context.run(["verify"]).arg(context.out()).success();
}

/// A second conversion says that there is nothing to do, and does not touch the layout: it may be read-only by then.
#[test]
fn a_second_conversion_changes_nothing() {
    let context = TestContext::new();
    write_layout(&context.out(), "1", image().docker().layer("one"));
    write_layout(&context.out(), "2", image().layer("two"));
    let first = context.run(["convert"]).arg(context.out()).args(["--format", "oci", "--json"]).success();
    let written = fs::metadata(context.out().join("index.json")).unwrap().modified().unwrap();
    let now = entries(&context);
    let descriptor = |entry: &Value| json!({"mediaType": entry["mediaType"], "digest": entry["digest"], "size": entry["size"]});
    let images = first.json()["images"].clone();
    assert_eq!(first.json()["layout"], context.out().to_string_lossy().as_ref());
    assert_eq!(
        (&images[0]["status"], &images[0]["descriptor"], &images[0]["refName"], &images[0]["name"]),
        (&json!("converted"), &descriptor(&now[0]), &json!("1"), &Value::Null)
    );
    assert_eq!(images[0]["source"]["digest"], now[0]["annotations"]["io.ocipull.source.digest"]);
    assert_eq!(
        images[1],
        json!({"name": null, "refName": "2", "status": "unchanged", "source": null, "descriptor": descriptor(&now[1])})
    );
    let second = context.run(["convert"]).arg(context.out()).args(["--format", "oci"]).success();
    assert!(second.stderr.contains("1: is OCI already\n") && second.stderr.contains("2: is OCI already\n"));
    assert_eq!(second.stdout.lines().count(), 2);
    assert_eq!(fs::metadata(context.out().join("index.json")).unwrap().modified().unwrap(), written);
    assert_eq!(entries(&context), now);
    let quiet = context.run(["-q", "convert"]).arg(context.out()).args(["--format", "oci"]).success();
    assert_eq!(quiet.stderr, "");
}

/// A list with its nested list becomes indexes; of the image that was named alone, the rest of the layout is none.
#[test]
fn a_named_list_is_converted() {
    let context = TestContext::new();
    let nested =
        index().docker().manifest(image().docker().platform("linux/arm64").layer("arm"), "linux/arm64");
    let list = index().docker().manifest(image().docker().layer("amd"), "linux/amd64").listed(nested, None);
    write_layout(&context.out(), "list", list);
    write_layout(&context.out(), "other", image().docker().layer("other"));
    let before = entries(&context);
    let named = format!("{}:list", context.out().display());
    let outcome = context.run(["convert", &named, "--format", "oci"]).success();
    let now = entries(&context);
    assert_eq!(outcome.stdout, format!("list@{}\n", now[0]["digest"].as_str().unwrap()));
    assert_eq!(now[0]["mediaType"], OCI_INDEX);
    assert_eq!(now[1], before[1]);
    let children = document(&context, &now[0])["manifests"].clone();
    assert_eq!(
        (&children[0]["mediaType"], &children[1]["mediaType"]),
        (&json!(OCI_MANIFEST), &json!(OCI_INDEX))
    );
    assert_eq!(children[0]["platform"]["architecture"], "amd64");
    let summary = check_layout(&context.out());
    assert_eq!(summary.diff_ids_proven, 3);
    assert_eq!(summary.unreferenced.len(), 4);
}

/// zstd layers cannot be helped by another media type, which is said before somebody finds out on the far side.
#[test]
fn zstd_layers_stay_and_are_announced() {
    let context = TestContext::new();
    write_layout(&context.out(), "z", image().docker().layer_as(Compression::Zstd, "content"));
    let outcome = context.run(["convert"]).arg(context.out()).args(["--format", "oci"]).success();
    assert_eq!(outcome.stderr.matches("z: zstd layers stay zstd, which umoci 0.4 cannot read").count(), 1);
    let manifest = document(&context, &entries(&context)[0]);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    check_layout(&context.out());
}

/// A bad blob: exit code 6, its digest named, and every file as it was.
#[test]
fn a_bad_blob_changes_nothing() {
    let context = TestContext::new();
    let lie = sha256(b"something else");
    for (name, bad) in [
        ("diff-id", image().docker().layer("one").diff_id(0, &lie)),
        ("flipped", image().docker().raw_layer("application/vnd.docker.image.rootfs.diff.tar", "two")),
    ] {
        let _ = fs::remove_dir_all(context.out());
        write_layout(&context.out(), "good", image().docker().layer("good"));
        write_layout(&context.out(), name, bad);
        let mut digest = lie.clone();
        if name == "flipped" {
            digest = sha256(b"two");
            fs::write(context.out().join("blobs").join(digest.replace(':', "/")), "tWo").unwrap();
        }
        let before = entries(&context);
        let outcome = context.run(["convert"]).arg(context.out()).args(["--format", "oci"]).fails_with(6);
        assert!(outcome.stderr.contains(&digest), "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
        assert_eq!(entries(&context), before);
        assert!(!context.out().join(".ocipull").exists());
    }
}

/// Exit codes of what cannot be meant: no format, another format, no layout, no such image, several of them.
#[test]
fn what_cannot_be_meant_is_refused() {
    let context = TestContext::new();
    write_layout(&context.out(), "1", image().docker().layer("one"));
    let out = context.out().display().to_string();
    context.run(["convert", &out]).fails_with(2);
    context.run(["convert", &out, "--format", "docker"]).fails_with(2);
    context.run(["convert", "docker://alpine", "--format", "oci"]).fails_with(2);
    context.run(["convert", "./absent", "--format", "oci"]).fails_with(7);
    let outcome = context.run(["convert", &format!("{out}:2"), "--format", "oci"]).fails_with(3);
    assert!(outcome.stderr.contains("no image \"2\"; it holds \"1\""), "{}", outcome.stderr);
    Proof::new().run(&context.out()).unwrap();
}
