//! Indexes that list themselves, each other, nothing, or more than anybody has.

use serde_json::{Value, json};

use super::make::{CONFIG, INDEX, LAYER, MANIFEST, NOBODYS, honest};
use super::row::{Row, refused, row};
use super::server::{Reply, Script};
use crate::support::{Built, image, index, sha256};

/// One platform, all of them, without a download, and to look at.
const FOUR: [&str; 4] = [
    "fetch -v --platform linux/amd64 REF HELD",
    "fetch --json --progress json --all-platforms REF OUT",
    "fetch --dry-run --progress plain --all-platforms REF OUT",
    "inspect REF",
];

fn four(name: &str, codes: [i32; 4], script: impl Fn(&str) -> Script + Send + Sync + 'static) -> Row {
    let runs: Vec<_> = FOUR.into_iter().zip(codes).collect();
    row(name, &runs, script)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = circles();
    rows.extend(numbers());
    rows.extend(entries());
    rows.extend(platforms());
    rows
}

fn entry(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size,
        "platform": { "os": "linux", "architecture": "amd64" } })
}

/// An index whose entries are the same one again and again.
fn repeating(content: &Built, times: usize) -> Built {
    let entry = content.descriptor(None);
    let document = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": vec![entry; times] });
    Built { children: vec![content.clone()], ..Built::raw(INDEX, document.to_string()) }
}

fn nested(depth: usize, times: usize) -> Built {
    (1..depth).fold(index().manifest(honest(), "linux/amd64").into(), |inner, _| repeating(&inner, times))
}

/// A registry lies about digests to make a circle, which no honest one can.
fn circles() -> Vec<Row> {
    let itself = |digest: &'static str, headers: bool| {
        move |_: &str| {
            let document =
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(INDEX, digest, 300)] });
            let mut text = document.to_string();
            text.push_str(&" ".repeat(300 - text.len()));
            let reply = Reply::ok(INDEX, text.clone());
            let named = if headers { digest.to_owned() } else { sha256(text.as_bytes()) };
            Script::default()
                .honest(
                    "/v2/app/manifests/v1",
                    Reply::ok(INDEX, text.clone()).header("Docker-Content-Digest", &named),
                )
                .honest(&format!("/v2/app/manifests/{}", sha256(text.as_bytes())), Reply::ok(INDEX, text))
                .hostile(format!("/v2/app/manifests/{digest}"), reply)
        }
    };
    let pair = |_: &str| {
        let other = "sha256:00000000000000000000000000000000000000000000000000000000000000bb";
        let of = |digest: &str| {
            json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(INDEX, digest, 300)] })
                .to_string()
        };
        let first = of(NOBODYS);
        Script::default().tag("v1", Built::raw(INDEX, first)).hostile_at(
            [format!("/v2/app/manifests/{NOBODYS}"), format!("/v2/app/manifests/{other}")],
            Reply::ok(INDEX, of(other)),
        )
    };
    vec![
        four("an index that lists itself", [6, 6, 6, 0], itself(NOBODYS, false)),
        four("an index that lists itself and says so", [6; 4], itself(NOBODYS, true)),
        four("two indexes that list each other", [6, 6, 6, 0], pair),
        four("an index that lists what is not there", [3, 3, 3, 0], |_| {
            Script::document(Built::from(index().entry(entry(MANIFEST, NOBODYS, 300))))
        }),
        four("an image that is its own subject", [6, 6, 6, 0], |_| {
            let subject = json!({ "mediaType": MANIFEST, "digest": NOBODYS, "size": 300 });
            let content = Built::from(honest().subject(subject));
            let list = Built::from(index().entry(entry(MANIFEST, NOBODYS, content.document.len())));
            Script::of(list)
                .hostile(format!("/v2/app/manifests/{NOBODYS}"), Reply::ok(MANIFEST, content.document))
        }),
    ]
}

fn numbers() -> Vec<Row> {
    let many = |count: usize, media_type: &'static str| {
        let entries: Vec<_> =
            (0..count).map(|at| entry(media_type, &format!("sha256:{at:064x}"), 300)).collect();
        Built::raw(INDEX, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string())
    };
    let none =
        || Built::raw(INDEX, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }).to_string());
    vec![
        four("indexes that are nested 9 deep", [6; 4], |_| Script::document(nested(9, 1))),
        four("indexes that are nested 200 deep", [6; 4], |_| Script::document(nested(200, 1))),
        four("indexes that are nested 8 deep", [0; 4], |_| Script::document(nested(8, 1))),
        four("7 indexes that list the next one 1,000 times", [0; 4], |_| Script::document(nested(8, 1000)))
            .not_walked(),
        four("an index of 10,001 entries", [6; 4], move |_| Script::document(many(10_001, MANIFEST))),
        four("an index of 10,001 indexes", [6; 4], move |_| Script::document(many(10_001, INDEX))),
        four("an index of 2,000 entries that are not there", [3, 3, 3, 0], move |_| {
            Script::document(many(2_000, MANIFEST))
        }),
        four("an index of 28,000 entries", [6; 4], move |_| Script::document(many(20_000, "x/y"))),
        four("an index without entries", [3, 0, 0, 0], move |_| Script::document(none())),
        refused("an index whose entries are null", |_| {
            Script::document(Built::raw(
                INDEX,
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": null }).to_string(),
            ))
        }),
        refused("an index whose entries are an object", |_| {
            Script::document(Built::raw(
                INDEX,
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": {} }).to_string(),
            ))
        }),
        refused("an index of nulls", |_| {
            Script::document(Built::raw(
                INDEX,
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [null] }).to_string(),
            ))
        }),
        refused("an index with layers", |_| {
            Script::document(Built::raw(
                INDEX,
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "layers": [] }).to_string(),
            ))
        }),
    ]
}

/// Entries that say something else of a manifest than it is.
#[expect(clippy::too_many_lines, reason = "it is a table, and each row is short")]
fn entries() -> Vec<Row> {
    let lie = |change: fn(&mut Value)| {
        move |_: &str| {
            let content = Built::from(honest());
            let mut entry = content.descriptor(Some(json!({ "os": "linux", "architecture": "amd64" })));
            change(&mut entry);
            Script::document(Built::from(index().entry(entry))).holding(&content)
        }
    };
    vec![
        four("an entry that is too small", [6, 6, 6, 0], lie(|entry| entry["size"] = 1.into())),
        four("an entry of no size", [6, 6, 6, 0], lie(|entry| entry["size"] = 0.into())),
        four("an entry that is too large", [6, 6, 6, 0], lie(|entry| entry["size"] = 70_000.into())),
        four(
            "an entry of more than a manifest may have",
            [6, 6, 6, 0],
            lie(|entry| entry["size"] = (1_u64 << 40).into()),
        ),
        four("an entry of a negative size", [6; 4], lie(|entry| entry["size"] = (-1).into())),
        four(
            "an image that is listed as an index",
            [6, 6, 6, 0],
            lie(|entry| entry["mediaType"] = INDEX.into()),
        ),
        four(
            "an image that is listed as Docker's",
            [6, 6, 6, 0],
            lie(|entry| {
                entry["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
            }),
        ),
        four(
            "an image that is listed as schema 1",
            [6, 3, 3, 0],
            lie(|entry| {
                entry["mediaType"] = "application/vnd.docker.distribution.manifest.v1+json".into();
            }),
        ),
        four(
            "an image that is listed as a config",
            [3, 3, 3, 0],
            lie(|entry| entry["mediaType"] = CONFIG.into()),
        ),
        four(
            "an image that is listed as a layer",
            [3, 3, 3, 0],
            lie(|entry| entry["mediaType"] = LAYER.into()),
        ),
        four(
            "an entry whose embedded data is another's",
            [0, 0, 0, 0],
            lie(|entry| entry["data"] = "e30=".into()),
        ),
        four(
            "an entry whose platform is text",
            [6; 4],
            lie(|entry| entry["platform"] = "linux/amd64".into()),
        ),
        four(
            "an entry whose os.features are an object",
            [6; 4],
            lie(|entry| entry["platform"]["os.features"] = json!({})),
        ),
        four("an index that is listed as an image", [6, 6, 6, 0], |_| {
            let inner = Built::from(index().manifest(honest(), "linux/amd64"));
            let mut entry = inner.descriptor(Some(json!({ "os": "linux", "architecture": "amd64" })));
            entry["mediaType"] = MANIFEST.into();
            Script::document(Built::from(index().entry(entry))).holding(&inner)
        }),
    ]
}

/// Platforms that are paths, and names that are.
fn platforms() -> Vec<Row> {
    let with = |change: fn(&mut Value)| {
        move |_: &str| {
            let content = Built::from(honest());
            let mut entry = content.descriptor(Some(json!({ "os": "linux", "architecture": "amd64" })));
            change(&mut entry);
            Script::document(Built::from(index().entry(entry).listed(honest(), None))).holding(&content)
        }
    };
    vec![
        four(
            "an entry whose platform is a path",
            [0; 4],
            with(|entry| {
                entry["platform"] =
                    json!({ "os": "../../../x", "architecture": "/etc/passwd", "variant": "..\\x" });
            }),
        ),
        four(
            "an entry whose ref.name is a path",
            [0; 4],
            with(|entry| {
                entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "../../../x",
                "io.containerd.image.name": "/etc/passwd", "io.ocipull.proven": "all", "io.ocipull.platforms": "*" });
            }),
        ),
        four(
            "an entry whose annotations are ours",
            [0; 4],
            with(|entry| {
                entry["annotations"] = json!({ "io.ocipull.index.digest": NOBODYS, "io.ocipull.source.digest": "../x",
                "io.ocipull.diff-ids": "skipped", "io.ocipull.foreign-layers": "skipped" });
            }),
        ),
        four(
            "an entry whose urls are files",
            [0; 4],
            with(|entry| entry["urls"] = json!(["file:///etc/passwd"])),
        ),
        row(
            "an image of another platform than it is listed as",
            &[("fetch -v --platform linux/amd64 REF HELD", 0)],
            |_| {
                Script::document(Built::from(
                    index().manifest(image().platform("linux/arm64").layer("x"), "linux/amd64"),
                ))
            },
        ),
    ]
}
