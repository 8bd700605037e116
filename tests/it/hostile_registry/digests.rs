//! Digests that are paths, or no digests, wherever a digest may stand.

use serde_json::json;

use super::make::{INDEX, MANIFEST, NOBODYS, config, honest, manifest};
use super::row::{Row, refused_when_fetched, row};
use super::server::{Reply, Script};
use crate::support::{Built, image, index};

const HEX: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

/// What stands where a digest should, by name.
fn bad() -> Vec<(&'static str, String)> {
    vec![
        ("that leads up", "sha256:../../x".into()),
        ("that leads up far", format!("sha256:{}tmp/x", "../".repeat(20))),
        ("that is an absolute path", "/etc/passwd".into()),
        ("that is a path after a digest", format!("sha256:{HEX}/../../../../x")),
        ("of 64 characters that lead up", format!("sha256:{}{}", "../".repeat(21), "x")),
        ("that leads up by its algorithm", format!("../../x:{HEX}")),
        ("that leads up by backslashes", "sha256:..\\..\\x".into()),
        ("that leads up in percent", "sha256:%2e%2e%2f%2e%2e%2fx".into()),
        ("with a question mark", format!("sha256:{HEX}?x=y")),
        ("in upper case", format!("sha256:{}", HEX.to_uppercase())),
        ("whose algorithm is in upper case", format!("SHA256:{HEX}")),
        ("that is too short", format!("sha256:{}", &HEX[1..])),
        ("that is too long", format!("sha256:{HEX}a")),
        ("that is as long as another's", format!("sha512:{HEX}")),
        ("of an unknown algorithm", "md5:d41d8cd98f00b204e9800998ecf8427e".into()),
        ("with a NUL in it", format!("sha256:{}\0{}", &HEX[..31], &HEX[32..])),
        ("with a NUL after it", format!("sha256:{HEX}\0")),
        ("with a line feed after it", format!("sha256:{HEX}\n")),
        ("with a space before it", format!(" sha256:{HEX}")),
        ("in full-width letters", format!("sha256:{}", HEX.replace('a', "\u{ff41}"))),
        ("without an algorithm", HEX.into()),
        ("without its hex", "sha256:".into()),
        ("that is empty", String::new()),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = in_documents();
    rows.extend(in_referrers());
    rows.extend(in_headers());
    rows.push(refused_when_fetched("a config whose size is another's", |_| {
        Script::document(manifest(|m| {
            m["config"] = json!({ "mediaType": m["config"]["mediaType"], "digest": m["layers"][0]["digest"], "size": 3 });
        }))
    }));
    rows
}

/// An image with this text for a digest somewhere.
type Placed = fn(&str) -> Built;

/// Where in the documents of an image a digest stands.
fn in_documents() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, digest) in bad() {
        let places: [(&str, Placed); 5] = [
            ("a layer", |digest| manifest(|m| m["layers"][1]["digest"] = digest.into())),
            ("a config", |digest| manifest(|m| m["config"]["digest"] = digest.into())),
            ("a subject", |digest| {
                manifest(|m| m["subject"] = json!({ "mediaType": MANIFEST, "digest": digest, "size": 2 }))
            }),
            ("an entry of an index", |digest| {
                let entry = json!({ "mediaType": MANIFEST, "digest": digest, "size": 2,
                    "platform": { "os": "linux", "architecture": "amd64" } });
                index().manifest(image().layer("x"), "linux/arm64").entry(entry).into()
            }),
            ("a diff ID", |digest| config(|c| c["rootfs"]["diff_ids"][1] = digest.into())),
        ];
        for (place, content) in places {
            let digest = digest.clone();
            let runs = [("fetch -v --platform linux/amd64 REF HELD", 6)];
            rows.push(row(format!("{place} with a digest {what}"), &runs, move |_| {
                Script::document(content(&digest))
            }));
        }
    }
    rows
}

/// In a list of referrers: what is listed wrongly is not followed, and nothing is named.
fn in_referrers() -> Vec<Row> {
    let list = |(what, digest): (&str, String)| {
        let runs = [("fetch -v --referrers REF HELD", 6), ("inspect REF", 0)];
        row(format!("a referrer with a digest {what}"), &runs, move |_| {
            let list = json!({ "schemaVersion": 2, "mediaType": INDEX,
                "manifests": [{ "mediaType": MANIFEST, "digest": digest, "size": 2, "artifactType": "x/y" }] });
            Script::of(honest()).hostile("/v2/app/referrers/*", Reply::ok(INDEX, list.to_string()))
        })
    };
    bad().into_iter().map(list).collect()
}

/// In `Docker-Content-Digest`: one that is none counts as absent, as it does for others; one that is another's is refused.
fn in_headers() -> Vec<Row> {
    let with_header = |value: String| {
        move |_: &str| {
            let content = Built::from(honest());
            let reply = Reply::ok(&content.media_type, content.document.clone());
            let reply = reply.header("Docker-Content-Digest", &value);
            let paths = ["v1", &content.digest].map(|name| format!("/v2/app/manifests/{name}"));
            Script::of(content).hostile_at(paths, reply)
        }
    };
    let absent =
        bad().into_iter().filter(|(_, digest)| !digest.contains(['\0', '\n', ' '])).map(|(what, digest)| {
            row(
                format!("a header with a digest {what}"),
                &[("fetch -v REF HELD", 0), ("resolve REF", 0)],
                with_header(digest),
            )
        });
    let lies = [NOBODYS.to_owned(), format!("sha512:{}", "0".repeat(128))].into_iter().enumerate();
    let lies = lies.map(|(at, lie)| {
        let runs = [("fetch -v REF HELD", 6), ("fetch --dry-run REF OUT", 6), ("inspect REF", 6)];
        row(format!("a header with another's digest, {at}"), &runs, with_header(lie))
    });
    let both = row("a header with two digests", &[("fetch -v REF HELD", 6)], |_| {
        let content = Built::from(honest());
        let reply = Reply::ok(&content.media_type, content.document.clone());
        let reply =
            reply.header("Docker-Content-Digest", NOBODYS).header("Docker-Content-Digest", &content.digest);
        let paths = ["v1", &content.digest, NOBODYS].map(|name| format!("/v2/app/manifests/{name}"));
        Script::of(content).hostile_at(paths, reply)
    });
    absent.chain(lies).chain([both]).collect()
}
