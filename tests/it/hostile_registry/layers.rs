//! Sizes, numbers and types of layers that are not what they are said to be.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::make::{CONFIG, INDEX, LAYER, MANIFEST, NOBODYS, config, honest, manifest, manifest_rewritten};
use super::row::{Row, refused, refused_when_fetched, row, tolerated};
use super::server::Script;
use crate::support::{Built, image, sha256};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = sizes();
    rows.extend(numbers());
    rows.extend(types());
    rows.extend(embedded());
    rows
}

/// Sizes as text in the JSON, of a layer and of the config.
fn sizes() -> Vec<Row> {
    let unreadable = [
        "-1",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551616",
        "1.0",
        "1.5",
        "1e3",
        "1E400",
        "\"120\"",
        "true",
        "[120]",
        "{}",
        "99999999999999999999999999999999999999999999999999",
    ];
    let mut rows = Vec::new();
    for (at, place) in ["layers", "config"].into_iter().enumerate() {
        for size in unreadable {
            rows.push(row(
                format!("a size of {size} in {place}"),
                &[("fetch -v REF HELD", 6), ("fetch --dry-run REF OUT", 6)],
                move |_| Script::document(with_size(at, size)),
            ));
        }
        for size in ["0", "1", "9223372036854775807", "70000000000"] {
            let name = format!("a lie of {size} in {place}");
            rows.push(refused_when_fetched(name, move |_| Script::document(with_size(at, size))));
        }
    }
    rows
}

/// The manifest with this text for the size of a layer (0) or of the config (1).
fn with_size(place: usize, size: &str) -> Built {
    manifest_rewritten(|text| {
        let beginning = text.find(if place == 0 { "\"layers\"" } else { "\"config\"" }).unwrap();
        let key = text[beginning..].find("\"size\":").unwrap() + beginning + 7;
        let end = text[key..].find(['\n', '}', ',']).unwrap() + key;
        format!("{} {size}{}", &text[..key], &text[end..]).into_bytes()
    })
}

/// Layers of which there are too many, none, or the same again.
fn numbers() -> Vec<Row> {
    let many = |count: usize| {
        let mut layers = String::new();
        for at in 0..count {
            let comma = if at == 0 { "" } else { "," };
            write!(layers, r#"{comma}{{"mediaType":"x/y","digest":"sha256:{at:064x}","size":1}}"#).unwrap();
        }
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{CONFIG}","digest":"{}","size":2}},"layers":[{layers}]}}"#,
            sha256(b"{}")
        );
        Built::raw(MANIFEST, manifest)
    };
    let empty = |m: &mut Value| m["layers"] = json!([]);
    vec![
        refused("100,000 layers", move |_| Script::document(many(100_000))),
        refused("35,000 layers and a config without any", move |_| {
            Script::document(many(35_000)).blob(&sha256(b"{}"), &b"{}"[..])
        }),
        miscounted("zero layers and two diff IDs", move |_| Script::document(manifest(empty))),
        miscounted("layers of which one is left out", |_| {
            Script::document(manifest(|m| drop(m["layers"].as_array_mut().unwrap().pop())))
        }),
        miscounted("a layer that is there twice and has one diff ID", |_| {
            Script::document(manifest(|m| {
                let again = m["layers"][1].clone();
                m["layers"].as_array_mut().unwrap().push(again);
            }))
        }),
        refused_when_fetched("layers in another order", |_| {
            Script::document(manifest(|m| m["layers"].as_array_mut().unwrap().reverse()))
        }),
        refused_when_fetched("diff IDs in another order", |_| {
            Script::document(config(|c| c["rootfs"]["diff_ids"].as_array_mut().unwrap().reverse()))
        }),
        refused_when_fetched("one digest in two sizes", |_| {
            Script::document(manifest(|m| {
                m["layers"][1] = m["layers"][0].clone();
                m["layers"][1]["size"] = 1.into();
            }))
        }),
        tolerated("zero layers and none in the config", |_| Script::document(image())),
        tolerated("200 layers that are one", |_| {
            let mut content = Built::from(image().layer("one"));
            let layer = content.layers[0].clone();
            let diff_ids = vec![content.diff_ids[0].clone(); 200];
            let config = json!({ "architecture": "amd64", "os": "linux",
                "rootfs": { "type": "layers", "diff_ids": diff_ids } });
            let config = super::make::blob(config.to_string().as_bytes());
            let document = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
                "config": { "mediaType": CONFIG, "digest": config.digest, "size": config.bytes.len() },
                "layers": vec![json!({ "mediaType": LAYER, "digest": layer.digest, "size": layer.bytes.len() }); 200] });
            content = Built { config: Some(config), layers: vec![layer], ..Built::raw(MANIFEST, document.to_string()) };
            Script::document(content)
        })
        .says_at_most(200 << 10),
    ]
}

/// Layers and diff IDs that are not as many: `inspect` shows both.
fn miscounted(name: &str, script: impl Fn(&str) -> Script + Send + Sync + 'static) -> Row {
    const RUNS: [(&str, i32); 4] = [
        ("fetch -v REF HELD", 6),
        ("fetch --json --progress json REF OUT", 6),
        ("fetch --dry-run --progress plain REF OUT", 6),
        ("inspect REF", 0),
    ];
    row(name, &RUNS, script)
}

/// Types of layers and configs that are another's.
fn types() -> Vec<Row> {
    let retyped = |place: &'static [&'static str], media_type: &'static str| {
        move |_: &str| {
            Script::document(manifest(|m| {
                let mut at = m;
                for key in place {
                    at = match key.parse::<usize>() {
                        Ok(index) => &mut at[index],
                        Err(_) => &mut at[*key],
                    };
                }
                at["mediaType"] = media_type.into();
            }))
        }
    };
    let layer: &[&str] = &["layers", "0"];
    let mut rows = vec![
        // What has another config than an image's is an artifact, which has no diff IDs: its blobs are proven by digest.
        tolerated("a config that is typed as a layer", retyped(&["config"], LAYER)),
        tolerated("a config that is typed as an index", retyped(&["config"], INDEX)),
        refused_when_fetched("a layer that is typed as a layer and is the config", |_| {
            Script::document(manifest(|m| {
                let config = m["config"].clone();
                m["layers"][0]["digest"] = config["digest"].clone();
                m["layers"][0]["size"] = config["size"].clone();
            }))
        }),
        refused_when_fetched("a config that is a layer's bytes", |_| {
            Script::document(manifest(|m| {
                let layer = m["layers"][0].clone();
                m["config"]["digest"] = layer["digest"].clone();
                m["config"]["size"] = layer["size"].clone();
            }))
        }),
    ];
    for (name, media_type) in [
        ("a manifest", MANIFEST),
        ("an index", INDEX),
        ("nothing", ""),
        ("something unknown", "application/x-sh"),
        ("a path", "../../../x"),
        ("another compression", "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("no compression", "application/vnd.oci.image.layer.v1.tar"),
    ] {
        rows.push(tolerated(format!("a layer that is typed as {name}"), retyped(layer, media_type)));
    }
    rows
}

/// `data` in descriptors, which counts only where it is what the digest says.
fn embedded() -> Vec<Row> {
    let lie = |place: &'static str, data: &'static str| {
        move |_: &str| {
            Script::document(manifest(|m| match place {
                "config" => m["config"]["data"] = data.into(),
                _ => m["layers"][0]["data"] = data.into(),
            }))
        }
    };
    vec![
        tolerated("embedded data of a config that is another's", lie("config", "e30=")),
        tolerated("embedded data of a layer that is another's", lie("layer", "e30=")),
        tolerated("embedded data that is empty", lie("config", "")),
        refused_when_fetched("embedded data in place of a config that nobody has", |_| {
            let content = Built::from(honest());
            let content = super::make::changed(content, |m| {
                m["config"]["digest"] = NOBODYS.into();
                m["config"]["size"] = 2.into();
                m["config"]["data"] = "e30=".into();
            });
            Script::document(content).blob(NOBODYS, &b"{}"[..])
        }),
    ]
}
