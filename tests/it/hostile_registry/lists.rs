//! Lists of tags and of referrers: what is no list, what does not end, what leads elsewhere, what is named like a path.

use serde_json::{Value, json};

use super::make::{INDEX, MANIFEST, NOBODYS, honest};
use super::row::{Row, row};
use super::server::{Reply, Script};
use crate::support::{Built, artifact, image};

const JSON: &str = "application/json";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = tags();
    rows.extend(links());
    rows.extend(referrers());
    rows.extend(beside());
    rows
}

fn tags() -> Vec<Row> {
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("that are empty", vec![]),
        ("that are null", b"null".to_vec()),
        ("that are a list", b"[\"v1\"]".to_vec()),
        ("that are text", b"{\"tags\":\"v1\"}".to_vec()),
        ("that are an object", b"{\"tags\":{\"v1\":1}}".to_vec()),
        ("that are a web page", b"<html>".to_vec()),
        ("with text after them", b"{\"tags\":[\"v1\"]} x".to_vec()),
        ("that are not UTF-8", b"{\"tags\":[\"\xff\"]}".to_vec()),
        ("that are cut", b"{\"tags\":[\"v1\",".to_vec()),
    ];
    let mut rows: Vec<_> = bodies
        .into_iter()
        .map(|(name, body)| {
            row(format!("tags {name}"), &[("tags REPO", 6), ("fetch --all-tags REPO OUT", 6)], move |_| {
                Script::default().hostile("/v2/app/tags/list", Reply::ok(JSON, body.clone()))
            })
        })
        .collect();
    let paths = json!({ "tags": ["v1", "../../x", "/etc/passwd", "..", ".", "a/b", "a\\b", "v1\0", "%2e%2e", "v1@sha256:x", "",
        "x".repeat(129), "v 1", null, 7, ["v1"], { "v1": 1 }, "v1", "v1"] });
    let deep = format!("{{\"x\":{0},\"tags\":{0}}}", super::make::deep(100_000));
    rows.push(
        row("tags that are deep", &[("tags REPO", 0), ("fetch --all-tags REPO OUT", 3)], move |_| {
            Script::default().hostile("/v2/app/tags/list", Reply::ok(JSON, deep.clone()))
        })
        .says("1 in all"),
    );
    let runs = [
        ("tags REPO", 0),
        ("fetch -v --all-tags REPO HELD", 0),
        ("fetch --json --all-tags --ref-name tag REPO OUT", 0),
    ];
    rows.push(row("tags that are paths", &runs, move |_| {
        Script::of(honest()).hostile("/v2/app/tags/list", Reply::ok(JSON, paths.to_string()))
    }));
    for (name, body, code) in [
        ("three million numbers in place of tags", format!("{{\"tags\":[{}0]}}", "0,".repeat(3_000_000)), 0),
        (
            "four million numbers beside the tags",
            format!("{{\"x\":[{}0],\"tags\":[]}}", "0,".repeat(4_000_000)),
            0,
        ),
        ("two million empty tags", format!("{{\"tags\":[{}\"\"]}}", "\"\",".repeat(2_000_000)), 0),
        ("more than a million tags", format!("{{\"tags\":[{}\"a\"]}}", "\"a\",".repeat(1_100_000)), 6),
    ] {
        let runs = [("tags REPO", code)];
        rows.push(
            row(name, &runs, move |_| {
                Script::default().hostile("/v2/app/tags/list", Reply::ok(JSON, body.clone()))
            })
            .memory(128),
        );
    }
    rows
}

/// Where the next page is.
fn links() -> Vec<Row> {
    let values: Vec<(&str, String, i32)> = vec![
        ("to itself", "</v2/app/tags/list?n=1000>; rel=\"next\"".into(), 5),
        ("to another host", "<http://other.example/v2/app/tags/list>; rel=\"next\"".into(), 5),
        ("to another port", "<http://127.0.0.1:1/v2/app/tags/list>; rel=\"next\"".into(), 5),
        ("to a file", "<file:///etc/passwd>; rel=\"next\"".into(), 5),
        ("to javascript", "<javascript:alert(1)>; rel=\"next\"".into(), 5),
        ("that is no link", "next please".into(), 0),
        ("that does not close", "</v2/app/tags/list?x".into(), 0),
        ("of nothing but brackets", "<".repeat(50_000), 0),
        ("of a thousand links that are not next", "</x>; rel=\"prev\", ".repeat(1000), 0),
        ("of quotes that do not end", "</v2/app/tags/list?n=1000>; rel=\"next".into(), 5),
    ];
    let mut rows: Vec<_> = values
        .into_iter()
        .map(|(name, link, code)| {
            row(format!("a link {name}"), &[("tags REPO", code)], move |_| {
                let reply = Reply::ok(JSON, r#"{"tags":["v1"]}"#).header("Link", &link);
                Script::default().hostile("/v2/app/tags/list", reply)
            })
        })
        .collect();
    rows.push(row("pages of tags without an end and without a tag", &[("tags REPO", 5)], |_| {
        let page = |target: &str| {
            let at = target.rsplit('=').next().and_then(|at| at.parse().ok()).unwrap_or(0) + 1;
            Reply::ok(JSON, r#"{"tags":[]}"#)
                .header("Link", format!("</v2/app/tags/list?last={at}>; rel=\"next\""))
        };
        Script::default().hostile("/v2/app/tags/list", Reply::computed(page))
    }));
    rows.push(row(
        "pages of referrers without an end",
        &[("fetch --referrers REF HELD", 5), ("inspect REF", 0)],
        |_| {
            let page = |target: &str| {
                let path = target.split('?').next().unwrap_or_default();
                let at = target.rsplit('=').next().and_then(|at| at.parse().ok()).unwrap_or(0) + 1;
                Reply::ok(INDEX, r#"{"schemaVersion":2,"manifests":[]}"#)
                    .header("Link", format!("<{path}?last={at}>; rel=\"next\""))
            };
            Script::of(honest()).hostile("/v2/app/referrers/*", Reply::computed(page))
        },
    ));
    rows
}

fn referrers() -> Vec<Row> {
    let runs = |code: i32| {
        [
            ("fetch -v --referrers REF HELD", code),
            ("fetch --json --referrers REF OUT", code),
            ("inspect REF", 0),
        ]
    };
    let listed = move |name: &str, code: i32, list: Value| {
        row(name, &runs(code), move |_| {
            Script::of(honest()).hostile("/v2/app/referrers/*", Reply::ok(INDEX, list.to_string()))
        })
    };
    let list = |entries: Value| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let many: Vec<_> = (0..10_001)
        .map(|at| json!({ "mediaType": MANIFEST, "digest": format!("sha256:{at:064x}"), "size": 2 }))
        .collect();
    let negative = json!([{ "mediaType": MANIFEST, "digest": NOBODYS, "size": -2 }]);
    let huge = json!([{ "mediaType": MANIFEST, "digest": NOBODYS, "size": 1_u64 << 40 }]);
    let annotated = json!([{ "mediaType": MANIFEST, "digest": NOBODYS, "size": 2,
        "annotations": { "a": "x".repeat(3 << 20) } }]);
    let mut rows = vec![
        listed("referrers that are null", 0, list(Value::Null)),
        listed("a referrer that is null", 6, list(json!([null]))),
        listed("a referrer of a negative size", 6, list(negative)),
        listed("a referrer of a terabyte", 0, list(huge)),
        listed("10,001 referrers", 6, list(json!(many))),
        listed("a referrer with three megabytes of annotations", 0, list(annotated)),
        listed("a list of referrers of another version", 6, json!({ "schemaVersion": 7, "manifests": [] })),
    ];
    let about = |change: fn(&mut Value)| {
        move |_: &str| {
            let content = Built::from(honest());
            let referrer = artifact("x/y").layer("sbom").subject(content.descriptor(None));
            let referrer = super::make::changed(referrer.into(), change);
            let entry = referrer.descriptor(None);
            let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
            Script::of(content)
                .holding(&referrer)
                .hostile("/v2/app/referrers/*", Reply::ok(INDEX, list.to_string()))
        }
    };
    rows.push(row(
        "a referrer that is about another",
        &runs(0),
        about(|m| m["subject"]["digest"] = NOBODYS.into()),
    ));
    rows.push(row(
        "a referrer that is about nothing",
        &runs(0),
        about(|m| drop(m.as_object_mut().unwrap().remove("subject"))),
    ));
    rows.push(row("a referrer that is a path by its ref.name", &runs(0), about(|m| {
        m["annotations"] = json!({ "org.opencontainers.image.ref.name": "../../../x", "io.containerd.image.name": "/x" });
    })));
    rows.push(row("an image that refers to itself", &runs(6), |_| {
        let content = Built::from(honest());
        let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            { "mediaType": MANIFEST, "digest": NOBODYS, "size": content.document.len() }] });
        let document = content.document.clone();
        Script::of(content)
            .hostile("/v2/app/referrers/*", Reply::ok(INDEX, list.to_string()))
            .honest(&format!("/v2/app/manifests/{NOBODYS}"), Reply::ok(MANIFEST, document))
    }));
    rows.push(row("referrers whose layers are wrong", &runs(6)[..2], |_| {
        let content = Built::from(honest());
        let mut referrer = Built::from(artifact("x/y").layer("sbom").subject(content.descriptor(None)));
        let list =
            json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [referrer.descriptor(None)] });
        let wrong = std::mem::take(&mut referrer.layers).remove(0).digest;
        Script::of(content)
            .holding(&referrer)
            .honest("/v2/app/referrers/*", Reply::ok(INDEX, list.to_string()))
            .hostile(format!("/v2/app/blobs/{wrong}"), Reply::ok("x/y", "something else"))
    }));
    rows
}

/// What stands beside an image: cosign's tags, and the tag of referrers.
fn beside() -> Vec<Row> {
    let tag = |ending: &'static str, reply: Reply| {
        move |_: &str| {
            let content = Built::from(honest());
            let name = format!("{}{ending}", content.digest.replace(':', "-"));
            Script::of(content).hostile(format!("/v2/app/manifests/{name}"), reply.clone())
        }
    };
    let runs = |code: i32| [("fetch -v --referrers REF HELD", code), ("inspect REF", 0)];
    let mut rows = Vec::new();
    for ending in [".sig", ".att", ".sbom", ""] {
        let name = if ending.is_empty() { "the tag of referrers" } else { ending };
        rows.push(row(
            format!("{name} that is no manifest"),
            &runs(6),
            tag(ending, Reply::ok(MANIFEST, "{}")),
        ));
        rows.push(row(
            format!("{name} that is deep"),
            &runs(6),
            tag(ending, Reply::ok(MANIFEST, super::make::deep(100_000))),
        ));
        let endless = Reply::endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", vec![b'['; 65_536]);
        rows.push(row(format!("{name} without an end"), &runs(6), tag(ending, endless)));
    }
    rows.push(row("a signature whose layer is another's", &[("fetch -v --referrers REF HELD", 6)], |_| {
        let content = Built::from(honest());
        let signature =
            Built::from(image().raw_layer("application/vnd.dev.cosign.simplesigning.v1+json", "{}"));
        let tag = format!("{}.sig", content.digest.replace(':', "-"));
        let layer = signature.layers[0].digest.clone();
        Script::of(content)
            .tag(&tag, signature)
            .hostile(format!("/v2/app/blobs/{layer}"), Reply::ok("x/y", "[]"))
    }));
    rows
}
