//! Every form that a layer comes in: the bytes say how it is compressed, and the diff ID whether it is the right one.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{
    Compression, Fault, FaultRegistry, Outcome, PushedImage, TestContext, assert_readable, check_layout,
    image, random, sha256, sha512, tar_of, text,
};

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A layer of testdata and its diff ID.
fn sample(name: &str) -> (Vec<u8>, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/layers");
    let list = fs::read_to_string(folder.join("diff-ids.txt")).unwrap();
    let line = list.lines().find(|line| line.starts_with(&format!("{name}\t"))).unwrap();
    (fs::read(folder.join(name)).unwrap(), line.split('\t').nth(1).unwrap().to_owned())
}

/// Pushes an image of these samples, each under a media type.
fn push(registry: &FaultRegistry, layers: &[(&str, &str)]) -> PushedImage {
    let mut built = image();
    for (position, (name, media_type)) in layers.iter().enumerate() {
        let (bytes, diff_id) = sample(name);
        built = built.raw_layer(media_type, bytes).diff_id(position, diff_id);
    }
    registry.push(built)
}

/// What a report says of the layers of its only image.
fn layers(outcome: &Outcome) -> Vec<Value> {
    let report = outcome.json();
    report["results"][0]["images"][0]["layers"].as_array().unwrap().clone()
}

fn refused(context: &TestContext, registry: &FaultRegistry, pushed: &PushedImage) -> String {
    let outcome = context.fetch(registry, pushed).fails_with(6);
    assert!(assert_readable(&context.out()).digests.is_empty(), "an image that does not hold is named");
    outcome.stderr
}

/// One image with every compression at once, seekable forms among them; nothing is said of any of them.
#[test]
fn an_image_of_every_form() {
    let registry = FaultRegistry::start();
    let forms = [
        ("plain.tar", PLAIN),
        ("gzip.tar.gz", GZIP),
        ("zstd.tar.zst", ZSTD),
        ("estargz.tar.gz", GZIP),
        ("chunked.tar.zst", ZSTD),
        ("empty.tar.gz", DOCKER_GZIP),
    ];
    let pushed = push(&registry, &forms);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).arg("--json").success();
    assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
    for (layer, (name, _)) in layers(&outcome).iter().zip(forms) {
        assert_eq!(layer["diffIdStatus"], "verified", "{name}");
        assert_eq!(layer["diffId"], sample(name).1.as_str(), "{name}");
    }
    assert_eq!(check_layout(&context.out()).diff_ids_proven, forms.len());
}

/// A type that contradicts the bytes is reported with both, and the diff ID decides: the image holds.
#[test]
fn a_type_that_contradicts_the_bytes_is_reported() {
    let registry = FaultRegistry::start();
    let lies = [
        ("plain.tar", GZIP, "gzip", "plain"),
        ("gzip.tar.gz", PLAIN, "plain", "gzip"),
        ("zstd.tar.zst", DOCKER_GZIP, "gzip", "zstd"),
        ("estargz.tar.gz", ZSTD, "zstd", "gzip"),
    ];
    let pushed = push(&registry, &lies.map(|(name, media_type, ..)| (name, media_type)));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).success();
    for (position, (_, media_type, said, is)) in lies.into_iter().enumerate() {
        let sentence =
            format!("warning: layer {} says {said} ({media_type}) and is {is}\n", pushed.layer(position));
        assert!(outcome.stderr.contains(&sentence), "{sentence} in {}", outcome.stderr);
    }
    assert_eq!(check_layout(&context.out()).diff_ids_proven, lies.len());
}

/// The digest of the compressed bytes is no diff ID: a layer that is gzip must not pass as the plain one that its type
/// says it is.
#[test]
fn a_type_does_not_excuse_a_wrong_diff_id() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().raw_layer(PLAIN, sample("gzip.tar.gz").0));
    let stderr = refused(&TestContext::new(), &registry, &pushed);
    assert!(stderr.contains(pushed.layer(0)) && stderr.contains(&sample("gzip.tar.gz").1), "{stderr}");
}

/// What no image spec knows is named, be its diff ID that of the tar inside or of the bytes as they are.
#[test]
fn compressions_that_no_spec_knows_are_named() {
    for (name, compression) in [("xz.tar.xz", "xz"), ("bzip2.tar.bz2", "bzip2")] {
        let (bytes, diff_id) = sample(name);
        for claim in [diff_id, sha256(&bytes)] {
            let registry = FaultRegistry::start();
            let pushed = registry.push(image().raw_layer(PLAIN, bytes.clone()).diff_id(0, claim));
            let context = TestContext::new();
            let stderr = refused(&context, &registry, &pushed);
            let reason = format!("{compression}-compressed layers are not supported");
            assert!(stderr.contains(&reason) && stderr.contains(pushed.layer(0)), "{stderr}");
            assert_eq!(registry.requests_for(pushed.layer(0)).len(), 1, "the bytes are the right ones");
            context.fetch(&registry, &pushed).args(["--diff-ids", "skip"]).success();
        }
    }
}

/// Padding after the last gzip member is refused as the tools refuse it that would have to unpack the layer.
#[test]
fn padding_after_gzip_is_refused() {
    let registry = FaultRegistry::start();
    let pushed = push(&registry, &[("padded.tar.gz", GZIP)]);
    let stderr = refused(&TestContext::new(), &registry, &pushed);
    assert!(stderr.contains("something other than gzip data at offset 298"), "{stderr}");
}

/// Layers that are listed more than once are downloaded once and proven at each place.
#[test]
fn a_layer_that_is_listed_twice_is_downloaded_once() {
    let registry = FaultRegistry::start();
    let twice =
        [("empty.tar.gz", GZIP), ("gzip.tar.gz", GZIP), ("empty.tar.gz", GZIP), ("empty.tar.gz", GZIP)];
    let pushed = push(&registry, &twice);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).arg("--json").success();
    assert_eq!(layers(&outcome).len(), twice.len());
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 1);
    assert_eq!(registry.requests_for(pushed.layer(1)).len(), 1);
    assert_eq!(check_layout(&context.out()).diff_ids_proven, twice.len());
}

/// The same layer with two diff IDs: one of the two is a lie, whichever comes first.
#[test]
fn one_layer_with_two_diff_ids_is_refused() {
    let (bytes, diff_id) = sample("gzip.tar.gz");
    for lie in [0, 1] {
        let registry = FaultRegistry::start();
        let wrong = sha256(b"another tar");
        let twice = image().raw_layer(GZIP, bytes.clone()).raw_layer(GZIP, bytes.clone());
        let pushed = registry.push(twice.diff_id(1 - lie, &diff_id).diff_id(lie, &wrong));
        let stderr = refused(&TestContext::new(), &registry, &pushed);
        for named in [&wrong, &diff_id, &format!("layer {lie} ")] {
            assert!(stderr.contains(named), "{named} in {stderr}");
        }
    }
}

/// A blob without any bytes is a layer too, made here: its digest and its diff ID are those of nothing, and nobody is
/// asked for it.
#[test]
fn a_layer_of_no_bytes_is_made_here() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().raw_layer(PLAIN, b"").layer("something").raw_layer(PLAIN, b""));
    registry.on_blob(pushed.layer(0)).always(Fault::Status(500));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 0);
    assert_eq!(check_layout(&context.out()).diff_ids_proven, 3);

    let liar = registry.push_as("liar", "v1", image().raw_layer(GZIP, b"").diff_id(0, sha256(&[0; 1024])));
    let outcome = TestContext::new().fetch(&registry, &liar).fails_with(6);
    assert!(outcome.stderr.contains(&sha256(b"")), "{}", outcome.stderr);
}

/// An encrypted layer is proven by its digest, and the report says that its diff ID cannot be known, whatever the bytes
/// look like and the config claims.
#[test]
fn encrypted_layers_are_proven_by_digest() {
    let registry = FaultRegistry::start();
    let claim = sha256(b"the tar that only the key's owner sees");
    let encrypted = |kind: &str| format!("{kind}+encrypted");
    let pushed = registry.push(
        image()
            .raw_layer(&encrypted(GZIP), random(40_000))
            .raw_layer(&encrypted(PLAIN), sample("gzip.tar.gz").0)
            .raw_layer(&encrypted(ZSTD), sample("xz.tar.xz").0)
            .layer(text(3000))
            .diff_id(0, &claim)
            .diff_id(1, &claim)
            .diff_id(2, &claim),
    );
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).arg("--json").success();
    assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
    let said: Vec<Value> =
        layers(&outcome).into_iter().map(|mut layer| layer["diffIdStatus"].take()).collect();
    assert_eq!(said, ["encrypted", "encrypted", "encrypted", "verified"]);
    crate::support::Proof::new().without_diff_ids().run(&context.out()).unwrap();

    let other = registry.push_as("bad", "v1", image().raw_layer(&encrypted(GZIP), random(30_000)));
    registry.on_blob(other.layer(0)).always(Fault::FlipByte(7));
    TestContext::new().fetch(&registry, &other).fails_with(6);
}

/// Members and frames of any number, cut where they like, under the limits of connections and segments.
#[test]
fn many_members_and_frames_in_segments() {
    let registry = FaultRegistry::start();
    let built = image()
        .layer_as(Compression::GzipMembers(300), random(3_000_000))
        .layer_as(Compression::ZstdFrames(200), random(2_500_000));
    let pushed = registry.push(built);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--segment-size", "1MiB"]).success();
    assert_eq!(check_layout(&context.out()).diff_ids_proven, 2);
}

/// One layer that the config lists twice, with diff IDs of two algorithms: both are computed, and both count.
#[test]
fn one_layer_with_diff_ids_of_two_algorithms() {
    let registry = FaultRegistry::start();
    let bytes = tar_of(0, b"a layer");
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let twice = || image().raw_layer(tar, &*bytes).raw_layer(tar, &*bytes);
    let good = sha512(&bytes);
    let pushed = registry.push(twice().diff_id(1, &good));
    let context = TestContext::new();
    let report = context.fetch(&registry, &pushed).arg("--json").success().json();
    let layers = &report["results"][0]["images"][0]["layers"];
    for (at, diff_id) in [pushed.diff_id(0), &good].into_iter().enumerate() {
        assert_eq!(layers[at]["diffId"], diff_id);
        assert_eq!(layers[at]["diffIdStatus"], "verified");
    }
    context.run(["verify", "./out"]).success();
    let wrong = sha512(b"something else");
    let pushed = registry.push(twice().diff_id(1, &wrong));
    let outcome = TestContext::new().fetch(&registry, &pushed).fails_with(6);
    assert!(outcome.stderr.contains(&wrong), "{}", outcome.stderr);
}
