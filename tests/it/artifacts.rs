//! Artifacts of every kind: taken as they are, proven by digest, known by their type.

use serde_json::{Value, json};

use crate::support::{Blob, Built, FaultRegistry, TestContext, check_layout, index, random, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A manifest with this config and these blobs, and whatever else it says.
fn built(config: (&str, &[u8]), layers: &[(&str, Vec<u8>)], extra: &Value) -> Built {
    let descriptor = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() });
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config.0, config.1),
        "layers": layers.iter().map(|(media_type, bytes)| descriptor(media_type, bytes)).collect::<Vec<_>>(),
    });
    if config.0 == EMPTY {
        manifest["config"]["data"] = "e30=".into();
    }
    let members = extra.as_object().unwrap().clone();
    manifest.as_object_mut().unwrap().extend(members);
    let mut built = Built::raw(MANIFEST, manifest.to_string());
    built.layers = layers.iter().map(|(_, bytes)| Blob::of(bytes)).collect();
    // The registry has no empty config: its descriptor holds it.
    built.config = (config.0 != EMPTY).then(|| Blob::of(config.1));
    built
}

fn kinds() -> Vec<(&'static str, Option<&'static str>, Built)> {
    let subject = json!({ "mediaType": MANIFEST, "digest": sha256(b"elsewhere"), "size": 7 });
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let chart = [("application/vnd.cncf.helm.chart.content.v1.tar+gzip", random(3000))];
    let wasm = [("application/wasm", random(2000))];
    let model =
        [("application/vnd.cncf.model.weight.v1.raw", random(200_000)), ("text/plain", b"hi".to_vec())];
    let plugin = "application/vnd.docker.plugin.v1+json";
    vec![
        ("a Helm chart", Some(helm), built((helm, b"{\"name\":\"chart\"}"), &chart, &json!({}))),
        (
            "WASM",
            Some("application/vnd.wasm.config.v0+json"),
            built(("application/vnd.wasm.config.v0+json", b"{\"os\":\"wasip1\"}"), &wasm, &json!({})),
        ),
        (
            "a model with an empty config",
            Some("application/vnd.cncf.model.manifest.v1+json"),
            built(
                (EMPTY, b"{}"),
                &model,
                &json!({ "artifactType": "application/vnd.cncf.model.manifest.v1+json", "annotations": {"k": "v"} }),
            ),
        ),
        (
            "one that is only annotations, about something that is not here",
            Some("application/x.note"),
            built(
                (EMPTY, b"{}"),
                &[(EMPTY, b"{}".to_vec())],
                &json!({ "artifactType": "application/x.note", "subject": subject }),
            ),
        ),
        (
            "a Docker plugin",
            Some(plugin),
            built((plugin, b"{}"), &[("application/x", random(10))], &json!({})),
        ),
        ("a config that is no JSON", Some("text/plain"), built(("text/plain", b"\xff"), &[], &json!({}))),
    ]
}

/// Whatever the config's type is: the bytes stay, the blobs are there, the type is known, and nobody asks for diff IDs.
#[test]
fn every_kind_is_taken_as_it_is() {
    for (name, artifact_type, built) in kinds() {
        let registry = FaultRegistry::start();
        let pushed = registry.push(built);
        let context = TestContext::new();
        let report = context.fetch(&registry, &pushed).arg("--json").success().json();
        let result = &report["results"][0];
        assert_eq!(result["images"][0]["platform"], Value::Null, "{name}");
        for layer in result["images"][0]["layers"].as_array().unwrap() {
            assert_eq!(
                (&layer["diffIdStatus"], &layer["diffId"]),
                (&"not-applicable".into(), &Value::Null),
                "{name}"
            );
        }
        let summary = check_layout(&context.out());
        let entry = &summary.index["manifests"][0];
        assert_eq!(entry["artifactType"].as_str(), artifact_type, "{name}");
        let path = context.out().join("blobs").join(pushed.digest().replace(':', "/"));
        assert_eq!(std::fs::read(path).unwrap(), pushed.document(), "{name}");
        context.run(["verify", "./out"]).success();
        context.run(["inspect", "./out:v1"]).success();
        registry.clear_requests();
        context.fetch(&registry, &pushed).args(["--platform", "linux/s390x"]).success();
        assert_eq!(registry.asked(), ["HEAD v1"], "{name}: it has no platform that could be another");
    }
}

/// An index of artifacts, itself one: all of it with `--all-platforms`, its own type in the entry.
#[test]
fn an_index_of_artifacts() {
    let registry = FaultRegistry::start();
    let mut list = index().annotation("kept", "here");
    for (_, _, built) in kinds() {
        list = list.listed(built, None);
    }
    let pushed = registry.push(list);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).fails_with(3);
    context.fetch(&registry, &pushed).arg("--all-platforms").success();
    assert_eq!(check_layout(&context.out()).digests, [pushed.digest()]);
    context.run(["verify", "./out"]).success();
}
