//! ocipull between real things: Debian's docker-registry on one side, skopeo and umoci on the other, and images made
//! of Debian packages in between.
//!
//! Images are written by hand (`image.rs`), pushed by skopeo, fetched by ocipull; then skopeo copies the layout, umoci
//! unpacks it, and digests, diff IDs and every file are compared with what went in.

mod access;
mod authority;
mod debian;
mod forms;
mod gate;
mod image;
mod logins;
mod names;
mod nginx;
mod registry;
mod token_server;
mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use gate::Gate;
use image::{Compression, Image, Layer, LayoutWriter, Node, blob_path, sha256};
use registry::DockerRegistry;
use tools::{are_here, ocipull, ocipull_json, run, skopeo, wait_until};

const REGISTRY: [&str; 4] = ["docker-registry", "skopeo", "dpkg-deb", "apt-get"];
const MIB: u64 = 1 << 20;

/// A registry and a folder to work in.
struct Scene {
    registry: DockerRegistry,
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { registry: DockerRegistry::start(), folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary paths are text").to_owned()
    }

    /// Pushes an image of layers that were made from these tar streams.
    fn push(&self, name: &str, layers: &[Layer]) -> Image {
        let writer = LayoutWriter::new(&self.path("source"));
        let image = writer.image(host_architecture(), layers);
        writer.name("pushed", &image);
        self.registry.push(&format!("{}:pushed", self.text("source")), name, &["--preserve-digests"]);
        image
    }

    /// Fetches into a layout of its own; gives the JSON report.
    fn fetch(&self, reference: &str, out: &str, options: &[&str]) -> Value {
        let mut arguments = vec!["fetch", reference];
        let out = self.text(out);
        arguments.push(&out);
        arguments.extend(options);
        ocipull_json(self.folder.path(), &arguments)
    }

    /// Holds a layout against an image: its digests, every blob byte for byte, and what `ocipull verify` says.
    fn assert_holds(&self, out: &str, report: &Value, image: &Image) {
        let fetched = &report["results"][0];
        assert_eq!(fetched["descriptor"]["digest"], image.digest.as_str(), "{report}");
        let layers = fetched["images"][0]["layers"].as_array().expect("layers");
        let column =
            |field: &str| -> Vec<&str> { layers.iter().filter_map(|layer| layer[field].as_str()).collect() };
        assert_eq!(column("digest"), image.layers);
        assert_eq!(column("diffId"), image.diff_ids);
        assert!(column("diffIdStatus").iter().all(|status| *status == "verified"), "{report}");
        let out = self.path(out);
        for digest in image.layers.iter().chain([&image.digest, &image.config]) {
            let bytes = std::fs::read(blob_path(&out, digest)).expect("the blob stands there");
            assert_eq!(sha256(&bytes), *digest);
        }
        assert!(!out.join(".ocipull").exists(), "a fetch that completed leaves nothing staged");
        let verified = ocipull_json(self.folder.path(), &["verify", out.to_str().expect("text")]);
        assert_eq!(verified["ok"], true, "{verified}");
    }

    /// skopeo reads the layout, and what it copies has the digests that went in.
    fn assert_skopeo_copies(&self, out: &str, tag: &str, image: &Image) {
        let copy = tempfile::tempdir_in(self.folder.path()).expect("a temporary folder");
        let target = copy.path().join("copy");
        run(skopeo()
            .args(["copy", "--quiet", "--preserve-digests"])
            .arg(format!("oci:{}:{tag}", self.text(out)))
            .arg(format!("dir:{}", target.display())));
        assert_eq!(sha256(&std::fs::read(target.join("manifest.json")).expect("a manifest")), image.digest);
        for digest in image.layers.iter().chain([&image.config]) {
            let hex = digest.trim_start_matches("sha256:");
            assert_eq!(sha256(&std::fs::read(target.join(hex)).expect("a blob")), *digest);
        }
    }

    /// umoci unpacks the layout, and every file is what went in.
    fn assert_umoci_unpacks(&self, out: &str, tag: &str, expected: &BTreeMap<PathBuf, Node>) {
        let bundle = tempfile::tempdir_in(self.folder.path()).expect("a temporary folder");
        let target = bundle.path().join("bundle");
        run(Command::new("umoci")
            .args(["unpack", "--rootless", "--image"])
            .arg(format!("{}:{tag}", self.text(out)))
            .arg(&target));
        image::assert_same_root(&image::root_in(&target.join("rootfs")), expected);
    }
}

fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The tar streams of Debian packages, and on top one that only this image has.
fn streams(packages: &[&str], marker: &str) -> Vec<Vec<u8>> {
    let mut streams: Vec<Vec<u8>> = packages.iter().map(|package| debian::files_of(package)).collect();
    streams.push(image::one_file("etc", "marker", marker));
    streams
}

fn layers(streams: &[Vec<u8>], compression: Compression) -> Vec<Layer> {
    streams.iter().map(|stream| Layer::new(stream, compression)).collect()
}

fn root(streams: &[Vec<u8>]) -> BTreeMap<PathBuf, Node> {
    image::root_of(&streams.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// An index of two architectures, by tag, by digest and by both, for the host and for a named platform: each way gives
/// the bytes that were pushed, to skopeo and umoci too.
#[test]
fn index_of_two_architectures_is_fetched_in_every_way() {
    if !are_here(&[&REGISTRY[..], &["umoci"]].concat()) {
        return;
    }
    let scene = Scene::new();
    let other = if host_architecture() == "arm64" { "amd64" } else { "arm64" };
    let host_streams = streams(&[debian::BUSYBOX], host_architecture());
    let other_streams = streams(&[debian::BUSYBOX], other);
    let writer = LayoutWriter::new(&scene.path("source"));
    let host_image = writer.image(host_architecture(), &layers(&host_streams, Compression::Gzip));
    let other_image = writer.image(other, &layers(&other_streams, Compression::Gzip));
    let index = writer.name_index("pushed", &[&host_image, &other_image]);
    let source = format!("{}:pushed", scene.text("source"));
    scene.registry.push(&source, "demo/busybox:1.35", &["--all", "--preserve-digests"]);

    let name = scene.registry.reference("demo/busybox");
    let platform = format!("linux/{other}");
    let by_tag = format!("{name}:1.35");
    let by_both = format!("{by_tag}@{index}");
    let by_digest = format!("{name}@{index}");
    for (out, reference, options, image, expected) in [
        ("tag", &by_tag, &[][..], &host_image, &host_streams),
        ("both", &by_both, &[][..], &host_image, &host_streams),
        ("other", &by_tag, &["--platform", &platform][..], &other_image, &other_streams),
    ] {
        let report = scene.fetch(reference, out, options);
        assert_eq!(report["results"][0]["resolved"]["digest"], index.as_str());
        scene.assert_holds(out, &report, image);
        scene.assert_skopeo_copies(out, "1.35", image);
        scene.assert_umoci_unpacks(out, "1.35", &root(expected));
    }
    // By digest alone there is no tag to name it by, which skopeo takes for a layout with one image.
    let report = scene.fetch(&by_digest, "digest", &["--platform", &platform]);
    scene.assert_holds("digest", &report, &other_image);
    run(skopeo()
        .args(["copy", "--quiet"])
        .arg(format!("oci:{}", scene.text("digest")))
        .arg(format!("dir:{}", scene.text("copy"))));

    assert_eq!(
        scene.registry.manifest("demo/busybox:1.35"),
        std::fs::read(blob_path(&scene.path("source"), &index)).expect("the index")
    );
}

/// What is there already costs one question and no blob, whichever registry asks for it.
#[test]
fn second_fetch_is_up_to_date() {
    if !are_here(&REGISTRY) {
        return;
    }
    let scene = Scene::new();
    let image =
        scene.push("demo/busybox:1.35", &layers(&streams(&[debian::BUSYBOX], "twice"), Compression::Gzip));
    let gate = Gate::start(scene.registry.address());
    let reference = format!("{}/demo/busybox:1.35", gate.address());
    let first = scene.fetch(&reference, "out", &[]);
    assert_eq!(first["results"][0]["status"], "fetched");
    let downloaded = first["bytesDownloaded"].as_u64().expect("a number");
    // The config and the manifest are documents of a few hundred bytes.
    assert!(downloaded.abs_diff(image.size) < 4 << 10, "every blob came once: {first}");
    gate.allow(u64::MAX);
    let second = scene.fetch(&reference, "out", &[]);
    assert_eq!(second["results"][0]["status"], "up-to-date");
    assert_eq!(second["bytesDownloaded"], 0);
    assert!(gate.sent() < 8 << 10, "the registry sent {} bytes for nothing", gate.sent());
    scene.assert_holds("out", &second, &image);
}

/// zstd layers keep their bytes and are proven: zstd itself and sha256 give the diff IDs that the config claims.
#[test]
fn zstd_layers_keep_their_bytes() {
    if !are_here(&[&REGISTRY[..], &["zstd"]].concat()) {
        return;
    }
    let scene = Scene::new();
    let image =
        scene.push("demo/busybox:zstd", &layers(&streams(&[debian::BUSYBOX], "zstd"), Compression::Zstd));
    let report = scene.fetch(&scene.registry.reference("demo/busybox:zstd"), "out", &[]);
    scene.assert_holds("out", &report, &image);
    scene.assert_skopeo_copies("out", "zstd", &image);
    assert_zstd_agrees(&scene.path("out"), &image);
}

fn assert_zstd_agrees(out: &Path, image: &Image) {
    for (digest, diff_id) in image.layers.iter().zip(&image.diff_ids) {
        let inflated = run(Command::new("zstd")
            .args(["-d", "-q", "-c"])
            .stdin(std::fs::File::open(blob_path(out, digest)).expect("the layer stands there")));
        assert_eq!(sha256(&inflated.stdout), *diff_id);
    }
}

/// Docker's media types stay as they are: the manifest is the registry's, byte for byte.
#[test]
fn docker_manifest_keeps_its_bytes() {
    if !are_here(&REGISTRY) {
        return;
    }
    let scene = Scene::new();
    let mut image =
        scene.push("demo/busybox:oci", &layers(&streams(&[debian::BUSYBOX], "docker"), Compression::Gzip));
    let source = format!("{}:pushed", scene.text("source"));
    scene.registry.push(&source, "demo/busybox:docker", &["--format", "v2s2"]);
    let manifest = scene.registry.manifest("demo/busybox:docker");
    let parsed: Value = serde_json::from_slice(&manifest).expect("a manifest");
    assert_eq!(parsed["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    image.digest = sha256(&manifest);
    parsed["config"]["digest"].as_str().expect("a digest").clone_into(&mut image.config);
    let report = scene.fetch(&scene.registry.reference("demo/busybox:docker"), "out", &[]);
    scene.assert_holds("out", &report, &image);
    assert_eq!(std::fs::read(blob_path(&scene.path("out"), &image.digest)).expect("the manifest"), manifest);
}

/// umoci and old skopeo know OCI's media types only. The layout that they cannot use is converted where it stands; then
/// umoci finds every file and skopeo copies it on, with the layers and the config that went in.
#[test]
fn converted_docker_image_is_read_by_umoci_and_skopeo() {
    if !are_here(&[&REGISTRY[..], &["umoci"]].concat()) {
        return;
    }
    let scene = Scene::new();
    let streams = streams(&[debian::BUSYBOX], "converted");
    let mut image = scene.push("demo/busybox:oci", &layers(&streams, Compression::Gzip));
    let source = format!("{}:pushed", scene.text("source"));
    scene.registry.push(&source, "demo/busybox:docker", &["--format", "v2s2"]);
    scene.fetch(&scene.registry.reference("demo/busybox:docker"), "out", &[]);
    let converted = ocipull_json(scene.folder.path(), &["convert", &scene.text("out"), "--format", "oci"]);
    let converted = &converted["images"][0];
    assert_eq!(converted["status"], "converted");
    converted["descriptor"]["digest"].as_str().expect("a digest").clone_into(&mut image.digest);
    let manifest = std::fs::read(blob_path(&scene.path("out"), &image.digest)).expect("the manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest");
    manifest["config"]["digest"].as_str().expect("a digest").clone_into(&mut image.config);
    scene.assert_umoci_unpacks("out", "docker", &root(&streams));
    scene.assert_skopeo_copies("out", "docker", &image);
    let verified = ocipull_json(scene.folder.path(), &["verify", &scene.text("out")]);
    assert_eq!(verified["ok"], true, "{verified}");
}

/// Some 220 MB in four gzip layers, one of nearly 12,000 files and one of a single large file: umoci finds them all.
#[test]
fn large_gzip_image_is_complete_to_the_last_file() {
    if !are_here(&[&REGISTRY[..], &["umoci"]].concat()) {
        return;
    }
    let scene = Scene::new();
    let streams = streams(&[debian::BUSYBOX, debian::GO_SOURCE, debian::LLVM], "large");
    let image = scene.push("demo/large:gzip", &layers(&streams, Compression::Gzip));
    let report = scene.fetch(&scene.registry.reference("demo/large:gzip"), "out", &[]);
    scene.assert_holds("out", &report, &image);
    scene.assert_skopeo_copies("out", "gzip", &image);
    scene.assert_umoci_unpacks("out", "gzip", &root(&streams));
}

/// `kill -9` when half of a large zstd image is there: the second run asks for the other half only, give or take 1 MiB
/// a connection, and what comes out is whole.
#[test]
fn killed_fetch_resumes_where_it_was() {
    if !are_here(&[&REGISTRY[..], &["zstd"]].concat()) {
        return;
    }
    let scene = Scene::new();
    let streams = streams(&[debian::GO_SOURCE, debian::LLVM], "killed");
    let image = scene.push("demo/large:zstd", &layers(&streams, Compression::Zstd));
    let gate = Gate::start(scene.registry.address());
    let reference = format!("{}/demo/large:zstd", gate.address());
    let connections = 4;
    let half = image.size / 2;
    gate.allow(half);
    let mut killed = ocipull(scene.folder.path())
        .args(["fetch", &reference, &scene.text("out"), "--connections", &connections.to_string(), "-q"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ocipull starts");
    wait_until("the first half is on disk", || {
        assert!(killed.try_wait().expect("a status").is_none(), "the fetch ended before it was killed");
        staged_bytes(&scene.path("out")) + MIB >= half
    });
    killed.kill().expect("it is killed");
    killed.wait().expect("it is gone");
    assert!(scene.path("out/index.json").exists(), "the layout can be read at any time");
    let named = std::fs::read_to_string(scene.path("out/index.json")).expect("an index");
    assert!(!named.contains(&image.digest), "an image that is not whole is not named");

    gate.allow(u64::MAX);
    let report = scene.fetch(&reference, "out", &["--connections", &connections.to_string()]);
    let most = image.size - half + (connections + 1) * MIB;
    assert!(gate.sent() <= most, "the second run cost {} of at most {most} bytes", gate.sent());
    scene.assert_holds("out", &report, &image);
    scene.assert_skopeo_copies("out", "zstd", &image);
    assert_zstd_agrees(&scene.path("out"), &image);
}

/// The bytes of blobs that are in a layout, staged ones included: what the sparse files take on disk.
fn staged_bytes(layout: &Path) -> u64 {
    let files = walkdir::WalkDir::new(layout).into_iter().flatten();
    let metadata = files.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file);
    metadata.map(|metadata| 512 * std::os::unix::fs::MetadataExt::blocks(&metadata)).sum()
}

/// Two processes that fetch one image into one layout download it once.
#[test]
fn two_fetches_at_once_share_the_work() {
    if !are_here(&REGISTRY) {
        return;
    }
    let scene = Scene::new();
    let image =
        scene.push("demo/source:gzip", &layers(&streams(&[debian::GO_SOURCE], "both"), Compression::Gzip));
    let gate = Gate::start(scene.registry.address());
    let reference = format!("{}/demo/source:gzip", gate.address());
    gate.allow(u64::MAX);
    let start = || {
        ocipull(scene.folder.path())
            .args(["fetch", &reference, &scene.text("out"), "--json", "-q"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ocipull starts")
    };
    let both = [start(), start()].map(|fetch| fetch.wait_with_output().expect("it ends"));
    let mut downloaded = 0;
    for output in both {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        downloaded += report["bytesDownloaded"].as_u64().expect("a number");
        scene.assert_holds("out", &report, &image);
    }
    assert!(downloaded.abs_diff(image.size) < 4 << 10, "{downloaded} bytes for an image of {}", image.size);
    let most = image.size + 8 * MIB;
    assert!(gate.sent() <= most, "{} bytes were sent for an image of {}", gate.sent(), image.size);
}
