//! Forms beyond one OCI image: manifest lists, sparse layouts, artifacts and what refers to an image, as real tools
//! push them and read them back.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::image::{Compression, Image, LayoutWriter, blob_path, sha256};
use crate::tools::{are_here, ocipull, ocipull_json, oras, run, skopeo};
use crate::{REGISTRY, Scene, debian, host_architecture, layers, root, streams};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn other_architecture() -> &'static str {
    if host_architecture() == "arm64" { "amd64" } else { "arm64" }
}

/// Pushes an index of three architectures, the host's first; gives the images and the files of the host's.
fn push_three(scene: &Scene, name: &str, options: &[&str]) -> (Vec<Image>, Vec<Vec<u8>>) {
    let writer = LayoutWriter::new(&scene.path("source"));
    let architectures = [host_architecture(), other_architecture(), "s390x"];
    let host_streams = streams(&[debian::BUSYBOX], host_architecture());
    let images: Vec<Image> = architectures
        .iter()
        .map(|architecture| {
            let streams = streams(&[debian::BUSYBOX], architecture);
            writer.image(architecture, &layers(&streams, Compression::Gzip))
        })
        .collect();
    writer.name_index("pushed", &images.iter().collect::<Vec<_>>());
    let source = format!("{}:pushed", scene.text("source"));
    scene.registry.push(&source, name, &[&["--all"], options].concat());
    (images, host_streams)
}

fn document(layout: &Path, digest: &Value) -> Value {
    let bytes = std::fs::read(blob_path(layout, digest.as_str().expect("a digest"))).expect("a document");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn media_types(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().expect("layers").iter();
    let all = [manifest, &manifest["config"]].into_iter().chain(layers);
    all.filter_map(|part| part["mediaType"].as_str()).collect()
}

/// A manifest list in Docker's schema 2, as skopeo pushes it: kept it has the registry's bytes; changed to OCI, at once
/// or later in the layout, it has one and the same digest, and umoci unpacks what it would not read before.
#[test]
fn docker_manifest_list_is_kept_or_converted() {
    if !are_here(&[&REGISTRY[..], &["umoci"]].concat()) {
        return;
    }
    let scene = Scene::new();
    let (images, host_streams) = push_three(&scene, "demo/list:v2s2", &["--format", "v2s2"]);
    let reference = scene.registry.reference("demo/list:v2s2");
    let list = scene.registry.manifest("demo/list:v2s2");
    let parsed: Value = serde_json::from_slice(&list).expect("a manifest list");
    assert_eq!(parsed["mediaType"], DOCKER_LIST);

    scene.fetch(&reference, "kept", &["--all-platforms"]);
    assert_eq!(std::fs::read(blob_path(&scene.path("kept"), &sha256(&list))).expect("the list"), list);
    let kept = run(ocipull(scene.folder.path()).args(["convert", &scene.text("kept"), "--format", "oci"]));
    let at_once = scene.fetch(&reference, "converted", &["--all-platforms", "--format", "oci"]);
    let digest = &at_once["results"][0]["descriptor"]["digest"];
    let line = String::from_utf8(kept.stdout).expect("text");
    assert!(line.trim_end().ends_with(digest.as_str().expect("a digest")), "{line} is not {digest}");
    for out in ["kept", "converted"] {
        let index = document(&scene.path(out), digest);
        assert_eq!(index["mediaType"], OCI_INDEX);
        for (child, image) in index["manifests"].as_array().expect("manifests").iter().zip(&images) {
            let manifest = document(&scene.path(out), &child["digest"]);
            assert!(
                media_types(&manifest).iter().all(|name| name.starts_with("application/vnd.oci.")),
                "{manifest}"
            );
            assert_eq!(manifest["layers"][0]["digest"], image.layers[0].as_str());
        }
        let verified = ocipull_json(scene.folder.path(), &["verify", &scene.text(out)]);
        assert_eq!(verified["ok"], true, "{verified}");
    }
    // One platform, as umoci wants it.
    scene.fetch(&reference, "one", &["--format", "oci"]);
    scene.assert_umoci_unpacks("one", "v2s2", &root(&host_streams));
    scene.fetch(&reference, "later", &[]);
    run(ocipull(scene.folder.path()).args([
        "convert",
        &format!("{}:v2s2", scene.text("later")),
        "--format",
        "oci",
    ]));
    scene.assert_umoci_unpacks("later", "v2s2", &root(&host_streams));
}

/// Of three architectures two are taken; skopeo copies each of them on, digest for digest.
#[test]
fn sparse_layout_is_copied_on() {
    if !are_here(&REGISTRY) {
        return;
    }
    let scene = Scene::new();
    let (images, _) = push_three(&scene, "demo/three:1", &["--preserve-digests"]);
    let platforms =
        [host_architecture(), other_architecture()].map(|architecture| format!("linux/{architecture}"));
    let options = ["--platform", &platforms[0], "--platform", &platforms[1]];
    let report = scene.fetch(&scene.registry.reference("demo/three:1"), "out", &options);
    assert_eq!(report["results"][0]["images"].as_array().expect("images").len(), 2);
    assert!(!blob_path(&scene.path("out"), &images[2].digest).exists());
    for (architecture, image) in [host_architecture(), other_architecture()].iter().zip(&images) {
        let copy = scene.path(&format!("copy-{architecture}"));
        run(skopeo()
            .args(["--override-arch", architecture, "copy", "--quiet", "--preserve-digests"])
            .arg(format!("oci:{}:1", scene.text("out")))
            .arg(format!("dir:{}", copy.display())));
        assert_eq!(sha256(&std::fs::read(copy.join("manifest.json")).expect("a manifest")), image.digest);
    }
    let verified = ocipull_json(scene.folder.path(), &["verify", &scene.text("out")]);
    assert_eq!(verified["ok"], true, "{verified}");
}

/// Layers that skopeo compressed with zstd are proven and kept, whatever was pushed.
#[test]
fn zstd_layers_made_by_skopeo() {
    if !are_here(&[&REGISTRY[..], &["zstd"]].concat()) {
        return;
    }
    let scene = Scene::new();
    let streams = streams(&[debian::BUSYBOX], "by skopeo");
    scene.push("demo/gzip:1", &layers(&streams, Compression::Gzip));
    let source = format!("{}:pushed", scene.text("source"));
    let options = ["--dest-compress-format", "zstd", "--dest-compress", "--dest-compress-level", "3"];
    // A folder of its own: a registry would be offered the gzip layers that it has.
    run(skopeo()
        .args(["copy", "--quiet"])
        .args(options)
        .arg(format!("oci:{source}"))
        .arg(format!("oci:{}:zstd", scene.text("recompressed"))));
    scene.registry.push(
        &format!("{}:zstd", scene.text("recompressed")),
        "demo/zstd:1",
        &["--preserve-digests"],
    );
    let report = scene.fetch(&scene.registry.reference("demo/zstd:1"), "out", &[]);
    let layers = report["results"][0]["images"][0]["layers"].as_array().expect("layers");
    for (layer, stream) in layers.iter().zip(&streams) {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
        assert_eq!(layer["diffId"], sha256(stream).as_str());
        assert_eq!(layer["diffIdStatus"], "verified");
        let inflated = run(Command::new("zstd")
            .args(["-d", "-q", "-c"])
            .arg(blob_path(&scene.path("out"), layer["digest"].as_str().expect("a digest"))));
        assert_eq!(sha256(&inflated.stdout), sha256(stream));
    }
}

fn push_artifact(
    scene: &Scene,
    name: &str,
    content: &str,
    config_type: &str,
    subject: Option<&Value>,
) -> String {
    let folder = tempfile::tempdir_in(scene.folder.path()).expect("a temporary folder");
    std::fs::write(folder.path().join("content"), content).expect("a file");
    let mut command = oras().expect("invariant: it was looked for");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/push_artifact.py"));
    command.args([&scene.registry.reference(name), "content:text/x-sbom", config_type]);
    command.args(subject.map(Value::to_string)).current_dir(folder.path());
    String::from_utf8(run(&mut command).stdout).expect("a digest").trim().to_owned()
}

/// An artifact as oras pushes it is taken as it is, annotations and all; there are no diff IDs to ask for.
#[test]
fn artifact_pushed_by_oras() {
    if !are_here(&REGISTRY) || oras().is_none() {
        return;
    }
    let scene = Scene::new();
    let digest =
        push_artifact(&scene, "demo/chart:1", "a chart", "application/vnd.cncf.helm.config.v1+json", None);
    let report = scene.fetch(&scene.registry.reference("demo/chart:1"), "out", &[]);
    let result = &report["results"][0];
    assert_eq!(result["descriptor"]["digest"], digest.as_str());
    let layer = &result["images"][0]["layers"][0];
    assert_eq!((&layer["diffIdStatus"], &layer["diffId"]), (&json!("not-applicable"), &Value::Null));
    let manifest = document(&scene.path("out"), &json!(digest));
    assert_eq!(manifest["annotations"]["org.example.made-by"], "oras-py");
    let index: Value =
        serde_json::from_slice(&std::fs::read(scene.path("out/index.json")).expect("an index"))
            .expect("JSON");
    assert_eq!(index["manifests"][0]["artifactType"], "application/vnd.cncf.helm.config.v1+json");
    let verified = ocipull_json(scene.folder.path(), &["verify", &scene.text("out")]);
    assert_eq!(verified["ok"], true, "{verified}");
}

fn sorted(mut list: Vec<&str>) -> Vec<&str> {
    list.sort_unstable();
    list
}

/// What oras attached to an image crosses with it: skopeo pushes the image and the referrers' tag on the far side, and
/// there they are again, for the same digest.
#[test]
fn referrers_are_restored_on_the_far_side() {
    if !are_here(&REGISTRY) || oras().is_none() {
        return;
    }
    let scene = Scene::new();
    let image =
        scene.push("demo/app:1", &layers(&streams(&[debian::BUSYBOX], "attached"), Compression::Gzip));
    let size = std::fs::read(blob_path(&scene.path("source"), &image.digest)).expect("a manifest").len();
    let subject = json!({ "mediaType": OCI_MANIFEST, "digest": image.digest, "size": size });
    let types = ["application/vnd.example.sbom+json", "application/vnd.example.signature"];
    let mut attached = types.map(|kind| {
        let name = format!("demo/app:{}", kind.rsplit('.').next().expect("a part").replace('+', "-"));
        push_artifact(&scene, &name, kind, kind, Some(&subject))
    });
    attached.sort();
    let report = scene.fetch(&scene.registry.reference("demo/app:1"), "out", &["--referrers"]);
    let found: Vec<&str> = report["results"][0]["referrers"]
        .as_array()
        .expect("referrers")
        .iter()
        .filter_map(|referrer| referrer["digest"].as_str())
        .collect();
    assert_eq!(sorted(found), attached, "{report}");
    let verified = ocipull_json(scene.folder.path(), &["verify", &scene.text("out")]);
    assert_eq!(verified["ok"], true, "{verified}");

    let far = Scene::new();
    let tag = image.digest.replace(':', "-");
    // skopeo 1.9 knows no artifactType and drops it from the list, whose digest nobody pins; the referrers stay what they
    // are, and say themselves what they are.
    for (name, options) in [("1", &["--preserve-digests"][..]), (&tag, &["--all"])] {
        let from = format!("{}:{name}", scene.text("out"));
        far.registry.push(&from, &format!("demo/app:{name}"), options);
    }
    let inspected = ocipull_json(far.folder.path(), &["inspect", &far.registry.reference("demo/app:1")]);
    let restored: Vec<&str> = inspected["referrers"]
        .as_array()
        .expect("referrers")
        .iter()
        .filter_map(|referrer| referrer["digest"].as_str())
        .collect();
    assert_eq!(sorted(restored), attached, "{inspected}");
    far.fetch(&far.registry.reference("demo/app:1"), "out", &["--referrers"]);
    for digest in &attached {
        assert!(blob_path(&far.path("out"), digest).exists(), "{digest}");
    }
    // One kind only.
    let report =
        scene.fetch(&scene.registry.reference("demo/app:1"), "some", &[&format!("--referrers={}", types[1])]);
    assert_eq!(report["results"][0]["referrers"].as_array().expect("referrers").len(), 1);
}
