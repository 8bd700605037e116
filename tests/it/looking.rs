//! What `ls`, `inspect` and `verify` tell of images in their less usual forms: sparse indexes, artifacts, referrers.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Built, Fault, FaultRegistry, TestContext, image, index, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest about another, without anything below it.
fn about(subject: &str, artifact_type: &str) -> Built {
    let subject = json!({"mediaType": MANIFEST, "digest": subject, "size": 1});
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2,
        "data": "e30="});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact_type,
        "config": config, "layers": [], "subject": subject, "annotations": {"made": "by hand"}});
    Built::raw(MANIFEST, manifest.to_string())
}

/// What is about the index or about one of its images is listed with its type, for people and for scripts.
#[test]
fn inspect_lists_what_a_registry_knows_of_an_image() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(
        index()
            .manifest(image().platform("linux/amd64").layer("a"), "linux/amd64")
            .manifest(image().platform("linux/arm64").layer("b"), "linux/arm64"),
    );
    let sbom = registry.push_as("app", "one", about(pushed.digest(), "application/x.sbom"));
    let signature =
        registry.push_as("app", "two", about(pushed.child(1).digest(), "application/x.signature"));
    registry.push_as("app", "three", about(sbom.digest(), "application/x.of-the-sbom"));
    let json = TestContext::new().run(["inspect", "--json", &pushed.reference()]).success().json();
    let found = json["referrers"].as_array().expect("referrers are a list");
    let shown: Vec<_> = found.iter().map(|found| (&found["digest"], &found["artifactType"])).collect();
    assert_eq!(
        shown,
        [
            (&json!(sbom.digest()), &json!("application/x.sbom")),
            (&json!(signature.digest()), &json!("application/x.signature")),
        ]
    );
    assert_eq!(found[0]["annotations"], json!({"made": "by hand"}));
    let outcome = TestContext::new().run(["inspect", &pushed.reference()]).success();
    assert!(outcome.stdout.contains("\nReferrers:\n  application/x.sbom"), "{}", outcome.stdout);
    let outcome = TestContext::new().run(["inspect", &sbom.reference()]).success();
    for named in ["application/x.sbom", pushed.digest(), "embedded in the manifest", "made: by hand"] {
        assert!(outcome.stdout.contains(named), "{named} in {}", outcome.stdout);
    }
}

/// A registry that fails to list referrers is no reason not to show the image; one line says what is not known.
#[test]
fn inspect_does_without_referrers() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("a"));
    registry.on_path("/v2/app/referrers/").always(Fault::Status(403));
    let outcome = TestContext::new().run(["inspect", "--json", &pushed.reference()]).success();
    assert_eq!(outcome.json()["referrers"], json!([]));
    assert_eq!(outcome.json()["images"][0]["layers"][0]["digest"], pushed.layer(0));
    assert!(outcome.stderr.starts_with("warning: what refers to "), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("warning:").count(), 1, "{}", outcome.stderr);
}

/// Without the API the tag that stands in for it is asked, and no tag is no referrers.
#[test]
fn inspect_reads_the_fallback_tag() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("a"));
    registry.on_path("/v2/app/referrers/").always(Fault::Status(404));
    let json = TestContext::new().run(["inspect", "--json", &pushed.reference()]).success().json();
    assert_eq!(json["referrers"], json!([]));
    let sbom = about(pushed.digest(), "application/x.sbom");
    registry.push_as("app", &pushed.digest().replace(':', "-"), index().listed(sbom.clone(), None));
    let json = TestContext::new().run(["inspect", "--json", &pushed.reference()]).success().json();
    assert_eq!(json["referrers"][0]["digest"], sbom.digest);
}

/// What cosign's tags say of an image is listed beside its referrers, and costs three questions; that they cannot be asked
/// is said once and hides nothing.
#[test]
fn inspect_lists_cosigns_tags() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("a"));
    let tag = pushed.digest().replace(':', "-");
    let signature = registry.push_as("app", &format!("{tag}.sig"), image().layer("signature"));
    let json = TestContext::new().run(["inspect", "--json", &pushed.reference()]).success().json();
    assert_eq!(json["referrers"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["referrers"][0]["digest"], signature.digest());
    assert_eq!(json["referrers"][0]["artifactType"], "application/vnd.dev.cosign.artifact.sig.v1+json");
    registry.on_path(&format!("/v2/app/manifests/{tag}.att")).always(Fault::Status(403));
    let outcome = TestContext::new().run(["inspect", "--json", &pushed.reference()]).success();
    assert_eq!(outcome.json()["referrers"][0]["digest"], signature.digest());
    assert_eq!(outcome.stderr.matches("warning:").count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&format!("{tag}.att")), "{}", outcome.stderr);
}

/// What a fetch of some platforms leaves is good as it is, and all three commands say what was taken of how much.
#[test]
fn a_fetch_of_some_platforms_is_whole_in_its_own_way() {
    let registry = FaultRegistry::start();
    let of = |platform: &str| image().platform(platform).layer(platform);
    let nested =
        index().manifest(of("linux/s390x"), "linux/s390x").manifest(of("linux/ppc64le"), "linux/ppc64le");
    let pushed = registry.push(
        index()
            .manifest(of("linux/amd64"), "linux/amd64")
            .manifest(of("linux/arm64"), "linux/arm64")
            .manifest(image().platform("unknown/unknown").layer("attestation"), "unknown/unknown")
            .listed(nested, None),
    );
    let context = TestContext::new();
    let out = context.out().display().to_string();
    let platforms = ["--platform", "linux/amd64", "--platform", "linux/s390x"];
    context.run(["fetch", &pushed.reference(), &out]).args(platforms).success();
    let verified = context.run(["verify", &out]).success();
    assert!(
        verified.stdout.starts_with("left out by choice: 3 manifests\nok: 2 images"),
        "{}",
        verified.stdout
    );
    let listed = context.run(["ls", &out]).success();
    assert!(listed.stdout.contains("linux/amd64,linux/s390x (of 4)"), "{}", listed.stdout);
    let shown = context.run(["inspect", &out]).success();
    let left_out = "Left out:   linux/arm64, linux/ppc64le, 1 attestation";
    assert!(shown.stdout.contains(left_out) && !shown.stdout.contains("Missing:"), "{}", shown.stdout);

    let gone = Path::new(&out).join("blobs").join(pushed.child(0).digest().replace(':', "/"));
    fs::remove_file(gone).unwrap();
    let verified = context.run(["verify", &out]).fails_with(6);
    assert!(verified.stdout.starts_with("missing: blobs/sha256/"), "{}", verified.stdout);
    let shown = context.run(["inspect", &out]).success();
    assert!(shown.stdout.contains("Missing:    linux/amd64\n"), "{}", shown.stdout);
    context.run(["fetch", &pushed.reference(), &out]).args(["--all-platforms"]).success();
    let verified = context.run(["verify", &out]).success();
    assert!(verified.stdout.starts_with("ok: 5 images"), "{}", verified.stdout);
}

/// Blobs of a layout that is written by hand.
fn put(folder: &Path, content: &Value, media_type: &str) -> Value {
    let content = content.to_string();
    let digest = sha256(content.as_bytes());
    fs::write(folder.join("blobs").join(digest.replace(':', "/")), &content).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": content.len()})
}

fn empty_layout(folder: &Path) {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn name(folder: &Path, entries: &[Value]) {
    let index = json!({"schemaVersion": 2, "manifests": entries});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

fn platform_image(folder: &Path, architecture: &str, layers: &[Value]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put(folder, &config, "application/vnd.oci.image.config.v1+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let mut image = put(folder, &manifest, MANIFEST);
    image["platform"] = json!({"os": "linux", "architecture": architecture});
    image
}

/// The three commands say the same of a layout that is not whole: what was left out on purpose is no fault, what got lost
/// is.
#[test]
fn left_out_is_told_from_missing() {
    let context = TestContext::new();
    let out = context.out();
    empty_layout(&out);
    let foreign = json!({"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": sha256(b"elsewhere"), "size": 9, "urls": ["https://example.com/layer"]});
    let here = platform_image(&out, "amd64", &[foreign]);
    let gone = json!({"mediaType": MANIFEST, "digest": sha256(b"gone"), "size": 4,
        "platform": {"os": "linux", "architecture": "arm64"}});
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [here, gone]});
    let mut entry = put(&out, &index, media_type);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1",
        "io.ocipull.platforms": "linux/amd64", "io.ocipull.foreign-layers": "skipped",
        "io.ocipull.source.digest": sha256(b"source")});
    name(&out, std::slice::from_ref(&entry));
    let out = out.display().to_string();

    let verified = context.run(["verify", &out]).success();
    assert!(
        verified.stdout.starts_with("left out by choice: 1 manifest, 1 layer\nok: 1 image"),
        "{}",
        verified.stdout
    );
    let json = context.run(["verify", "--json", &out]).success().json();
    assert_eq!((&json["ok"], &json["findings"]), (&json!(true), &json!([])));
    assert_eq!(json["leftOut"], json!({"manifests": 1, "layers": 1}));
    let listed = context.run(["ls", &out]).success();
    assert!(listed.stdout.contains("linux/amd64 (of 2)"), "{}", listed.stdout);
    let json = context.run(["ls", "--json", &out]).success().json();
    let keys: Vec<_> = json["images"][0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["name", "refName", "digest", "mediaType", "platforms", "size", "uniqueSize"]);
    let shown = context.run(["inspect", &out]).success();
    for (heading, value) in [
        ("Source:", sha256(b"source")),
        ("Left out:", "linux/arm64".to_owned()),
        ("  at https://example.com/layer", String::new()),
    ] {
        let line = shown.stdout.lines().find(|line| line.trim_start().starts_with(heading.trim_start()));
        assert!(line.is_some_and(|line| line.ends_with(&value)), "{heading} in {}", shown.stdout);
    }
    assert!(shown.stdout.contains("left out") && !shown.stdout.contains("issing"), "{}", shown.stdout);
    let json = context.run(["inspect", "--json", &out]).success().json();
    let absent = json!([{"platform": "linux/arm64", "digest": sha256(b"gone"), "reason": "left-out"}]);
    assert_eq!(json["index"]["absent"], absent);

    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    name(Path::new(&out), &[entry]);
    let verified = context.run(["verify", &out]).fails_with(6);
    assert_eq!(verified.stdout.matches("missing: ").count(), 2, "{}", verified.stdout);
    assert!(!verified.stdout.contains("left out"), "{}", verified.stdout);
    let shown = context.run(["inspect", &out]).success();
    assert!(shown.stdout.contains("Missing:") && !shown.stdout.contains("Left out"), "{}", shown.stdout);
}

/// What is no image is listed by what it is, and does not stand in the way of the one image that there is.
#[test]
fn companions_are_listed_as_what_they_are() {
    let context = TestContext::new();
    let out = context.out();
    empty_layout(&out);
    let image = platform_image(&out, "amd64", &[]);
    let tag = image["digest"].as_str().unwrap().replace(':', "-");
    let named = |mut entry: Value, name: &str| {
        entry["annotations"] = json!({"io.containerd.image.name": format!("example.com/app:{name}")});
        entry
    };
    let sbom = about(image["digest"].as_str().unwrap(), "application/x.sbom");
    let sbom = put(&out, &serde_json::from_slice(&sbom.document).unwrap(), MANIFEST);
    let media_type = "application/vnd.oci.image.index.v1+json";
    let list =
        put(&out, &json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [sbom]}), media_type);
    name(&out, &[named(image.clone(), "v1"), sbom, named(list, &tag)]);
    let out = out.display().to_string();
    let lines = context.run(["ls", &out]).success().stdout;
    for (shown, wanted) in lines.lines().zip(["PLATFORMS", "linux/amd64", "application/x.sbom", "referrers"])
    {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    let json = context.run(["inspect", "--json", &out]).success().json();
    assert_eq!(
        (&json["descriptor"]["digest"], &json["referrers"][0]["artifactType"]),
        (&image["digest"], &json!("application/x.sbom"))
    );
}

/// An option that says how to ask a registry is refused beside a layout, where nobody is asked.
#[test]
fn inspect_refuses_what_a_layout_cannot_heed() {
    let (registry, context) = (FaultRegistry::start(), TestContext::new());
    let pushed = registry.push(image().layer("x"));
    context.fetch(&registry, &pushed).success();
    context.run(["inspect"]).arg(context.out()).success();
    let outcome = context.run(["inspect", "--creds", "user:password"]).arg(context.out()).fails_with(2);
    assert!(outcome.stderr.contains("--creds is for registries"), "{}", outcome.stderr);
}
