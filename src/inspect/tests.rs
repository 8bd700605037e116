use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::failure::{Failure, Kind};

fn put(root: &Path, content: &str) -> String {
    let digest = Digest::sha256(content.as_bytes());
    std::fs::write(root.join("blobs/sha256").join(digest.hex()), content).unwrap();
    format!("\"digest\":\"{digest}\",\"size\":{}", content.len())
}

fn manifest(root: &Path, config_type: &str, config: &str, layer_type: &str) -> String {
    let config = put(root, config);
    let layer = format!("\"digest\":\"{}\",\"size\":1000", Digest::sha256(b"layer"));
    put(
        root,
        &format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI}manifest.v1+json","config":{{"mediaType":"{config_type}",{config}}},
            "layers":[{{"mediaType":"{layer_type}",{layer}}},{{"mediaType":"{layer_type}",{layer}}}]}}"#
        ),
    )
}

const OCI: &str = "application/vnd.oci.image.";

/// A layout whose only image is an index: of an image, an artifact, an attestation and an image that is not there.
fn layout(root: &Path) -> Layout {
    std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    let diff_id = Digest::sha256(b"layer");
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}"]}},
        "history":[{{"created_by":"ADD"}}]}}"#
    );
    let image = manifest(root, &format!("{OCI}config.v1+json"), &config, &format!("{OCI}layer.v1.tar"));
    let artifact = manifest(root, "application/x", "not even JSON", "text/plain");
    let attestation = manifest(root, "application/y", "{}", "text/plain");
    let absent = format!("\"digest\":\"{}\",\"size\":7", Digest::sha256(b"absent"));
    let entry =
        |blob: &str, platform: &str| format!("{{\"mediaType\":\"{OCI}manifest.v1+json\",{blob}{platform}}}");
    let platform = |os: &str, architecture: &str| {
        format!(",\"platform\":{{\"os\":\"{os}\",\"architecture\":\"{architecture}\"}}")
    };
    let entries = [
        entry(&image, &platform("linux", "amd64")),
        entry(&artifact, ""),
        entry(&attestation, &platform("unknown", "unknown")),
        entry(&absent, &platform("linux", "arm64")),
    ];
    let index = put(
        root,
        &format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI}index.v1+json","manifests":[{}]}}"#,
            entries.join(",")
        ),
    );
    let named = r#""annotations":{"org.opencontainers.image.ref.name":"v1"}"#;
    let entry = format!(r#"{{"mediaType":"{OCI}index.v1+json",{index},{named}}}"#);
    std::fs::write(root.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#))
        .unwrap();
    std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    Layout::open(root).unwrap()
}

/// Of an index all is shown that is there and is an image or an artifact; its platforms are those it declares.
#[tokio::test]
async fn an_index_in_a_layout() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout(folder.path());
    let found = in_layout(&layout, Some("v1")).await.unwrap();
    assert_eq!(found.name.as_deref(), Some("v1"));
    let index = found.index.unwrap();
    assert_eq!(index.platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(index.absent.len(), 1, "{:?}", index.absent);
    assert_eq!(
        serde_json::to_value(&index.absent).unwrap(),
        json!([{"platform": "linux/arm64", "digest": Digest::sha256(b"absent"), "reason": "missing"}])
    );
    assert!(found.referrers.is_empty() && found.warnings.is_empty());
    assert_eq!(Digest::sha256(&found.raw), found.descriptor.digest);
    assert_eq!(raw_in_layout(&layout, None).await.unwrap(), found.raw);
    let [image, artifact] = found.images.as_slice() else { panic!("{:?}", found.images) };
    assert_eq!(image.platform.as_ref().unwrap().to_string(), "linux/amd64");
    assert_eq!(image.layers[1].diff_id, Some(Digest::sha256(b"layer")));
    assert_eq!(image.history[0].created_by.as_deref(), Some("ADD"));
    let content: Value = serde_json::from_str(image.config.content.as_ref().unwrap().get()).unwrap();
    assert_eq!(content["os"], "linux");
    // The layer comes twice: once on disk, twice in a container's file system.
    assert_eq!(image.size, image.manifest.size + image.config.descriptor.size + 1000);
    assert_eq!(image.uncompressed_size, Some(2000));
    assert!(artifact.platform.is_none() && artifact.diff_ids.is_empty() && artifact.config.content.is_none());
    assert_eq!((artifact.layers[0].diff_id, artifact.uncompressed_size), (None, None));
}

/// A manifest that is itself missing or bad is an error, unlike one that an index lists.
#[tokio::test]
async fn what_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout(folder.path());
    let index = layout.find(None).unwrap().digest;
    std::fs::write(layout.blob_path(&index), "{}").unwrap();
    assert_eq!(in_layout(&layout, None).await.unwrap_err().kind(), Kind::Integrity);
    std::fs::remove_file(layout.blob_path(&index)).unwrap();
    assert_eq!(in_layout(&layout, None).await.unwrap_err().kind(), Kind::Integrity);
    assert_eq!(in_layout(&layout, Some("v2")).await.unwrap_err().kind(), Kind::NotFound);
}

/// A layout under construction.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        std::fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(folder)
    }

    fn put(&self, content: &Value, media_type: &str) -> Value {
        let content = content.to_string();
        let digest = Digest::sha256(content.as_bytes());
        std::fs::write(self.path(&digest), &content).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    fn path(&self, digest: &Digest) -> std::path::PathBuf {
        self.0.path().join("blobs/sha256").join(digest.hex())
    }

    fn image(&self, architecture: &str) -> Value {
        let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"diff_ids": []}});
        let config = self.put(&config, &format!("{OCI}config.v1+json"));
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
        let mut image = self.put(&manifest, &format!("{OCI}manifest.v1+json"));
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        image
    }

    fn index(&self, manifests: &[&Value]) -> Value {
        let media_type = format!("{OCI}index.v1+json");
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        self.put(&index, &media_type)
    }

    /// Breaks the blob that a descriptor leads to.
    fn spoil(&self, descriptor: &Value) {
        std::fs::write(self.path(&digest(descriptor)), "spoilt").unwrap();
    }

    fn remove(&self, descriptor: &Value) {
        std::fs::remove_file(self.path(&digest(descriptor))).unwrap();
    }

    fn config_of(&self, image: &Value) -> Value {
        let manifest: Value =
            serde_json::from_slice(&std::fs::read(self.path(&digest(image))).unwrap()).unwrap();
        manifest["config"].clone()
    }

    fn layout(&self, entries: &[Value]) -> Layout {
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        std::fs::write(self.0.path().join("index.json"), index).unwrap();
        Layout::open(self.0.path()).unwrap()
    }

    async fn inspect(&self, entry: &Value) -> Result<Inspection, InspectError> {
        in_layout(&self.layout(std::slice::from_ref(entry)), None).await
    }
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

fn annotated(entry: &Value, key: &str, value: &str) -> Value {
    let mut entry = entry.clone();
    entry["annotations"][key] = value.into();
    entry
}

/// What a sparse index lacks is by choice or missing, as for `verify`.
#[tokio::test]
async fn absent_by_choice_is_told_from_missing() {
    let fixture = Fixture::new();
    let [amd, arm, attestation] =
        ["amd64", "arm64", "riscv64"].map(|architecture| fixture.image(architecture));
    let mut unknown = attestation.clone();
    unknown["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    fixture.remove(&arm);
    fixture.remove(&unknown);
    let index = fixture.index(&[&amd, &arm, &unknown]);
    for (taken, reason) in [("linux/amd64", Absence::LeftOut), ("linux/amd64,linux/arm64", Absence::Missing)]
    {
        let found = fixture.inspect(&annotated(&index, "io.ocipull.platforms", taken)).await.unwrap();
        let absent: Vec<_> =
            found.index.unwrap().absent.into_iter().map(|absent| (absent.digest, absent.reason)).collect();
        assert_eq!(absent, [(digest(&arm), reason), (digest(&unknown), Absence::LeftOut)]);
        assert_eq!((found.images.len(), found.warnings.len()), (1, 0));
    }
}

/// One bad config or manifest hides no other platform; it is shown, and said. Of a single image it is an error.
#[tokio::test]
async fn one_bad_document_hides_no_other() {
    let fixture = Fixture::new();
    let [good, no_config, bad_manifest] =
        ["amd64", "arm64", "riscv64"].map(|architecture| fixture.image(architecture));
    let config = fixture.config_of(&no_config);
    let index = fixture.index(&[&good, &no_config, &bad_manifest]);
    fixture.spoil(&bad_manifest);
    for is_missing in [false, true] {
        if is_missing {
            fixture.remove(&config);
        } else {
            fixture.spoil(&config);
        }
        let found = fixture.inspect(&index).await.unwrap();
        assert_eq!(found.images.len(), 2);
        assert!(found.images[0].error.is_none() && found.images[0].config.content.is_some());
        let error = found.images[1].error.as_deref().unwrap();
        assert!(error.contains(config["digest"].as_str().unwrap()), "{error}");
        assert_eq!(found.images[1].platform.as_ref().unwrap().to_string(), "linux/arm64");
        let absent = &found.index.as_ref().unwrap().absent;
        assert_eq!((absent.len(), absent[0].reason), (1, Absence::Missing));
        assert_eq!(absent[0].platform.as_ref().unwrap().to_string(), "linux/riscv64");
        assert!(absent[0].error.is_some());
        assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
        let error = fixture.inspect(&no_config).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Integrity);
    }
}

/// An artifact is told by its type, its subject, its annotations and the config that it carries; an image has no such keys.
#[tokio::test]
async fn artifacts_are_told() {
    let fixture = Fixture::new();
    let subject = json!({"mediaType": format!("{OCI}manifest.v1+json"), "digest": Digest::sha256(b"absent"), "size": 5});
    let mut config = fixture.put(&json!({}), "application/vnd.oci.empty.v1+json");
    config["data"] = "e30=".into();
    let manifest = json!({"schemaVersion": 2, "artifactType": "application/x.sbom", "config": config,
        "layers": [], "subject": subject, "annotations": {"a": "b"}});
    let found = fixture.inspect(&fixture.put(&manifest, &format!("{OCI}manifest.v1+json"))).await.unwrap();
    let json = serde_json::to_value(&found).unwrap();
    let image = &json["images"][0];
    assert_eq!(image["artifactType"], "application/x.sbom");
    assert_eq!(image["subject"], subject);
    assert_eq!(image["annotations"], json!({"a": "b"}));
    assert_eq!((&image["config"]["data"], &image["config"]["content"]), (&json!("e30="), &Value::Null));
    assert_eq!(image["platform"], Value::Null);
    let plain = serde_json::to_value(fixture.inspect(&fixture.image("amd64")).await.unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&plain), ["name", "descriptor", "index", "images", "referrers"]);
    let wanted = [
        "platform",
        "manifest",
        "config",
        "diffIds",
        "layers",
        "history",
        "annotations",
        "size",
        "uncompressedSize",
    ];
    assert_eq!(keys(&plain["images"][0]), wanted);
}

/// A layer that is not here says why: left at its URLs by choice, or missing.
#[tokio::test]
async fn absent_layers_say_why() {
    let fixture = Fixture::new();
    let config = fixture.config_of(&fixture.image("amd64"));
    let foreign = json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": Digest::sha256(b"foreign"), "size": 7, "urls": ["https://example.com/layer"]});
    let plain =
        json!({"mediaType": format!("{OCI}layer.v1.tar"), "digest": Digest::sha256(b"plain"), "size": 5});
    let here = fixture.put(&json!("here"), &format!("{OCI}layer.v1.tar+gzip+encrypted"));
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [foreign, plain, here]});
    let manifest = fixture.put(&manifest, &format!("{OCI}manifest.v1+json"));
    let skipped = annotated(&manifest, "io.ocipull.foreign-layers", "skipped");
    for (entry, reason) in [(&manifest, "missing"), (&skipped, "left-out")] {
        let json = serde_json::to_value(fixture.inspect(entry).await.unwrap()).unwrap();
        let layers = &json["images"][0]["layers"];
        assert_eq!((&layers[0]["absent"], &layers[0]["urls"][0]), (&json!(reason), &foreign["urls"][0]));
        assert_eq!((&layers[1]["absent"], layers[2].get("absent")), (&json!("missing"), None));
    }
}

/// What is about the index, or about an image of it, is listed once with its type, however it is tied to it.
#[tokio::test]
async fn referrers_are_listed() {
    let fixture = Fixture::new();
    let (amd, arm) = (fixture.image("amd64"), fixture.image("arm64"));
    let index = fixture.index(&[&amd, &arm]);
    fixture.remove(&arm);
    let about = |subject: &Value, kind: &str| {
        let config = fixture.put(&json!({}), "application/vnd.oci.empty.v1+json");
        let manifest = json!({"schemaVersion": 2, "artifactType": kind, "config": config,
            "subject": subject, "annotations": {"kind": kind}});
        fixture.put(&manifest, &format!("{OCI}manifest.v1+json"))
    };
    let (sbom, of_arm) = (about(&index, "application/x.sbom"), about(&arm, "application/x.arm"));
    let other = about(&sbom, "application/x.of-the-sbom");
    let tag = |subject: &Value| subject["digest"].as_str().unwrap().replace(':', "-");
    let full =
        |entry: &Value, tag: String| annotated(entry, "io.containerd.image.name", &format!("a.io/x:{tag}"));
    let fallback = fixture.index(&[&sbom, &other]);
    let signature = fixture.image("unknown");
    let layout = fixture.layout(&[
        full(&index, "1.0".to_owned()),
        sbom.clone(),
        of_arm.clone(),
        other,
        full(&fallback, tag(&index)),
        full(&signature, format!("{}.sig", tag(&amd))),
    ]);
    let found = in_layout(&layout, Some("a.io/x:1.0")).await.unwrap();
    let shown: Vec<_> =
        found.referrers.iter().map(|found| (found.digest, found.artifact_type.as_deref().unwrap())).collect();
    assert_eq!(
        shown,
        [
            (digest(&sbom), "application/x.sbom"),
            (digest(&of_arm), "application/x.arm"),
            (digest(&signature), "application/vnd.dev.cosign.artifact.sig.v1+json"),
        ]
    );
    assert_eq!(found.referrers[0].annotations["kind"], "application/x.sbom");
}

/// A manifest that an index lists a thousand times is read and shown once, and a descriptor that lies about a size is not
/// believed: limits count what is there.
#[tokio::test]
async fn listings_are_not_believed() {
    let fixture = Fixture::new();
    let (image, other) = (fixture.image("amd64"), fixture.image("arm64"));
    let mut lie = other.clone();
    lie["size"] = 1.into();
    let mut listed = vec![&image; 5000];
    listed.extend(vec![&lie; 3000]);
    let index = fixture.index(&listed);
    let found = in_layout(&fixture.layout(&[index]), None).await.unwrap();
    assert_eq!(found.images.len(), 1);
    let absent = found.index.unwrap().absent;
    assert_eq!((absent.len(), absent[0].digest), (1, digest(&other)));
    let error = absent[0].error.as_deref().unwrap();
    assert!(error.ends_with("and a descriptor of it says 1"), "{error}");
    let mut entry = image.clone();
    entry["size"] = 1.into();
    assert_eq!(in_layout(&fixture.layout(&[entry]), None).await.unwrap_err().kind(), Kind::Integrity);
}

/// Limits hold for chains of indexes by their longest, and the message says which limit it was.
#[tokio::test]
async fn limits_are_told() {
    let fixture = Fixture::new();
    let image = fixture.image("amd64");
    let mut top = fixture.index(&[&image]);
    for _ in 1..crate::manifest::nesting::DEEPEST {
        top = fixture.index(&[&top, &image]);
    }
    assert_eq!(in_layout(&fixture.layout(&[top.clone()]), None).await.unwrap().images.len(), 1);
    let deeper = fixture.index(&[&top]);
    let error = in_layout(&fixture.layout(&[deeper]), None).await.unwrap_err();
    assert!(error.to_string().ends_with("nested more than 8 deep"), "{error}");
    let half = fixture.index(&vec![&image; crate::manifest::nesting::MOST_ENTRIES / 2]);
    let twice = fixture.index(&[&half, &half]);
    assert_eq!(in_layout(&fixture.layout(&[twice]), None).await.unwrap().images.len(), 1);
    let mut listed = vec![&image; crate::manifest::nesting::MOST_ENTRIES / 2];
    listed.push(&half);
    let wide = fixture.index(&listed);
    let error = in_layout(&fixture.layout(&[wide]), None).await.unwrap_err();
    assert!(error.to_string().ends_with("more than 10000 entries together"), "{error}");
}
