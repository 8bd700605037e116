//! Docker's schema 1, in all the ways in which it can be wrong.

use serde_json::{Value, json};

use super::make::{NOBODYS, TERMINAL, changed, honest};
use super::row::{Row, row};
use super::server::{Reply, Script};
use crate::support::{Built, Compression, image};

const RUNS: [(&str, i32); 3] = [
    ("fetch -v --allow-schema1 REF HELD", 6),
    ("fetch --json --progress json --allow-schema1 REF OUT", 6),
    ("fetch --dry-run --allow-schema1 REF OUT", 6),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = documents();
    rows.extend(histories());
    rows.extend(signatures());
    rows.extend(blobs());
    rows
}

fn unsigned() -> Built {
    honest().throwaway("ENV a=b").schema1_unsigned()
}

type Change = fn(&mut Value);

fn documents() -> Vec<Row> {
    let changes: Vec<(&str, Change)> = vec![
        ("without layers", |m| m["fsLayers"] = json!([])),
        ("whose layers are null", |m| m["fsLayers"] = Value::Null),
        ("whose layers are an object", |m| m["fsLayers"] = json!({})),
        ("whose layers are text", |m| m["fsLayers"] = json!([NOBODYS, NOBODYS, NOBODYS])),
        ("with a layer too many", |m| {
            m["fsLayers"].as_array_mut().unwrap().push(json!({ "blobSum": NOBODYS }));
        }),
        ("with a layer too few", |m| drop(m["fsLayers"].as_array_mut().unwrap().pop())),
        ("without a history", |m| m["history"] = json!([])),
        ("whose history is null", |m| m["history"] = Value::Null),
        ("whose history is an object", |m| m["history"][0]["v1Compatibility"] = json!({ "id": NOBODYS })),
        ("with a blobSum that leads up", |m| m["fsLayers"][0]["blobSum"] = "sha256:../../../x".into()),
        ("with a blobSum that is a path", |m| m["fsLayers"][0]["blobSum"] = "/etc/passwd".into()),
        ("with a blobSum in upper case", |m| {
            let upper = m["fsLayers"][1]["blobSum"].as_str().unwrap().to_uppercase();
            m["fsLayers"][1]["blobSum"] = upper.replace("SHA", "sha").into();
        }),
        ("with a blobSum of tarsum", |m| {
            m["fsLayers"][0]["blobSum"] = format!("tarsum+sha256:{}", "0".repeat(64)).into();
        }),
        ("with a blobSum of a NUL", |m| m["fsLayers"][0]["blobSum"] = "\0".into()),
        ("with a blobSum of escapes", |m| m["fsLayers"][0]["blobSum"] = TERMINAL.into()),
        ("with a blobSum that is a number", |m| m["fsLayers"][0]["blobSum"] = 7.into()),
        ("of version 2", |m| m["schemaVersion"] = 2.into()),
        ("of version 0", |m| m["schemaVersion"] = 0.into()),
        ("with the layers of schema 2", |m| m["layers"] = json!([])),
        ("with a config", |m| m["config"] = json!({})),
        ("with manifests", |m| m["manifests"] = json!([])),
        ("with its layers by another case", |m| m["FSLayers"] = json!([])),
    ];
    let document = |(name, change): (&str, Change)| {
        row(format!("schema 1 {name}"), &RUNS, move |_| Script::document(changed(unsigned(), change)))
    };
    changes.into_iter().map(document).collect()
}

/// A change to the entry of the topmost layer.
#[expect(clippy::too_many_lines, reason = "it is a table, and each row is short")]
fn histories() -> Vec<Row> {
    let top = |m: &mut Value, change: &dyn Fn(&mut Value)| {
        let text = m["history"][0]["v1Compatibility"].as_str().unwrap().to_owned();
        let mut entry: Value = serde_json::from_str(&text).unwrap();
        change(&mut entry);
        m["history"][0]["v1Compatibility"] = entry.to_string().into();
    };
    let changes: Vec<(&str, Change)> = vec![
        ("that leads up", |entry| entry["id"] = "../../../x".into()),
        ("that is too short", |entry| entry["id"] = "abc".into()),
        ("that is in upper case", |entry| entry["id"] = "A".repeat(64).into()),
        ("of escapes", |entry| entry["id"] = TERMINAL.into()),
        ("that is a number", |entry| entry["id"] = 7.into()),
    ];
    let mut rows: Vec<_> = changes
        .into_iter()
        .map(|(name, change)| {
            row(format!("schema 1 with an id {name}"), &RUNS, move |_| {
                Script::document(changed(unsigned(), |m| top(m, &change)))
            })
        })
        .collect();
    let parents: Vec<(&str, Change)> = vec![
        ("nobody's", |entry| entry["parent"] = "a".repeat(64).into()),
        ("itself", |entry| entry["parent"] = entry["id"].clone()),
        ("absent", |entry| drop(entry.as_object_mut().unwrap().remove("parent"))),
        ("a path", |entry| entry["parent"] = "/etc/passwd".into()),
    ];
    rows.extend(parents.into_iter().map(|(name, change)| {
        row(format!("schema 1 whose parent is {name}"), &RUNS, move |_| {
            Script::document(changed(unsigned(), |m| top(m, &change)))
        })
    }));
    for (name, text) in [
        ("empty", String::new()),
        ("null", "null".into()),
        ("a list", "[]".into()),
        ("deep", super::make::deep(100_000)),
        ("no JSON", "{".into()),
        ("two documents", "{} {}".into()),
    ] {
        rows.push(row(format!("schema 1 whose topmost step is {name}"), &RUNS, move |_| {
            Script::document(changed(unsigned(), |m| {
                m["history"][0]["v1Compatibility"] = text.clone().into();
            }))
        }));
    }
    rows.push(row("schema 1 whose base has a parent", &RUNS, |_| {
        Script::document(changed(unsigned(), |m| {
            let last = m["history"].as_array().unwrap().len() - 1;
            let mut entry: Value =
                serde_json::from_str(m["history"][last]["v1Compatibility"].as_str().unwrap()).unwrap();
            entry["parent"] = "a".repeat(64).into();
            m["history"][last]["v1Compatibility"] = entry.to_string().into();
        }))
    }));
    rows.push(row("schema 1 of 20,000 layers that are one", &RUNS, |_| {
        Script::document(changed(unsigned(), |m| {
            m["fsLayers"] = json!(vec![json!({ "blobSum": NOBODYS }); 20_000]);
            m["history"] = json!(vec![m["history"][0].clone(); 20_000]);
        }))
    }));
    let with_escapes = move |m: &mut Value| {
        top(m, &|entry| {
            for key in ["author", "comment", "docker_version", "container"] {
                entry[key] = TERMINAL.into();
            }
            entry["container_config"] = json!({ "Cmd": [TERMINAL], "Labels": { (TERMINAL): TERMINAL } });
        });
        m["name"] = format!("../../../{TERMINAL}").into();
        m["tag"] = "../../../x".into();
        m["architecture"] = TERMINAL.into();
    };
    let runs = [
        ("fetch -vvv --allow-schema1 --progress plain REF HELD", 0),
        ("fetch --json --progress json --allow-schema1 REF OUT", 0),
        ("fetch --dry-run --allow-schema1 REF OUT", 0),
        ("fetch REF OUT", 2),
        ("inspect REF", 0),
        ("ls HELD", 0),
        ("verify HELD", 0),
    ];
    let taken = [("fetch -v --allow-schema1 REF HELD", 0), ("fetch --dry-run --allow-schema1 REF OUT", 0)];
    rows.push(row("schema 1 with an id that is its parent's", &taken, move |_| {
        Script::document(changed(unsigned(), |m| top(m, &|entry| entry["id"] = entry["parent"].clone())))
    }));
    rows.push(row("schema 1 with a signature that is null", &taken, move |_| {
        Script::document(changed(unsigned(), |m| m["signatures"] = Value::Null))
    }));
    rows.push(row("schema 1 with escapes and a name that is a path", &runs, move |_| {
        Script::document(changed(unsigned(), with_escapes))
    }));
    rows
}

/// Signature blocks, of which only the shape counts.
fn signatures() -> Vec<Row> {
    let base64url = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    let with_block = move |block: Value| {
        move |_: &str| {
            let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned();
            let content = changed(unsigned(), |m| m["signatures"] = block.clone());
            Script::document(Built { media_type, ..content })
        }
    };
    let protected = |length: &str, tail: &str| {
        let text = format!("{{\"formatLength\":{length},\"formatTail\":\"{}\"}}", base64url(tail));
        json!([{ "header": {}, "signature": "AA", "protected": base64url(&text) }])
    };
    let blocks = vec![
        ("that is empty", json!([])),
        ("that is text", json!("signed")),
        ("of null", json!([null])),
        ("that protects nothing", json!([{ "signature": "AA" }])),
        ("whose protection is no base64", json!([{ "protected": "***" }])),
        ("whose protection is no JSON", json!([{ "protected": base64url("{") }])),
        ("of a negative length", protected("-1", "}")),
        ("of length 0", protected("0", "{}")),
        ("past the document", protected("9999999", "}")),
        ("past 64 bits", protected("99999999999999999999999", "}")),
        ("of a fraction", protected("1.5", "}")),
        (
            "whose tail is another document",
            protected("1", "\"schemaVersion\":1,\"fsLayers\":[],\"history\":[]}"),
        ),
    ];
    let mut rows: Vec<_> = blocks
        .into_iter()
        .map(|(name, block)| row(format!("schema 1 with a signature {name}"), &RUNS, with_block(block)))
        .collect();
    rows.push(row(
        "schema 1 with 10,000 signatures",
        &RUNS,
        with_block(json!(vec![json!({ "protected": "AA" }); 10_000])),
    ));
    rows.push(row("schema 1 that is declared again outside of its signature", &RUNS[..1], |_| {
        let content = honest().schema1();
        let text = String::from_utf8(content.document.to_vec()).unwrap();
        let forged = text.replacen(
            "\"signatures\":",
            &format!("\"fsLayers\": [{{\"blobSum\": \"{NOBODYS}\"}}], \"signatures\":"),
            1,
        );
        let mut script = Script::default().holding(&content);
        let reply = Reply::ok(&content.media_type, forged).header("Docker-Content-Digest", &content.digest);
        script = script.hostile("/v2/app/manifests/*", reply);
        script
    }));
    rows
}

/// Layers of schema 1, whose sizes nobody tells.
fn blobs() -> Vec<Row> {
    let runs = [("fetch -v --allow-schema1 REF HELD", 6), ("fetch --json --allow-schema1 REF OUT", 6)];
    let layer = |reply: Reply| {
        move |_: &str| {
            let content = image().layer("one").schema1();
            let layer = content.layers[0].digest.clone();
            Script::of(content).hostile(format!("/v2/app/blobs/{layer}"), reply.clone())
        }
    };
    let nobody = [("fetch -v --allow-schema1 REF HELD", 5), ("fetch --json --allow-schema1 REF OUT", 5)];
    vec![
        row("schema 1 with a layer of other bytes", &runs, layer(Reply::ok("x/y", "other"))),
        row("schema 1 with an empty layer", &nobody, layer(Reply::ok("x/y", ""))),
        row(
            "schema 1 with a layer that is another's gzip",
            &runs,
            layer(Reply::ok("x/y", Compression::Gzip.encode(b"x"))),
        ),
        row(
            "schema 1 with a layer of lies about its size",
            &nobody,
            layer(Reply::status("206 Partial Content", "x").header("Content-Range", "bytes 0-0/5")),
        ),
        row(
            "schema 1 with a layer that says it has 8 EiB",
            &nobody,
            layer(
                Reply::status("206 Partial Content", "x")
                    .header("Content-Range", "bytes 0-0/9223372036854775807"),
            ),
        ),
    ]
}
