//! Text with terminal escapes, in every field that is shown: on both streams, in plain progress, in logs, in JSON.

use serde_json::{Value, json};

use super::make::{CONFIG, INDEX, MANIFEST, TERMINAL, changed, config, honest, manifest};
use super::row::{Row, row};
use super::server::{Reply, Script};
use crate::support::{Built, artifact, image, index};

/// Shown in every way that there is.
const SHOWN: [&str; 7] = [
    "fetch -vvv --progress plain --referrers REF HELD",
    "fetch --json --progress json --referrers REF OUT",
    "fetch -vvv --dry-run --progress plain --referrers REF OUT",
    "inspect REF",
    "inspect --json REF",
    "resolve -vv REF",
    "resolve --json REF",
];
/// What was fetched, looked at afterwards.
const AFTERWARDS: [&str; 6] = [
    "ls HELD",
    "ls --json HELD",
    "inspect oci:HELD",
    "inspect --json oci:HELD",
    "verify HELD",
    "verify --json HELD",
];

fn shown(name: &str, codes: [i32; 7], script: impl Fn(&str) -> Script + Send + Sync + 'static) -> Row {
    let mut runs: Vec<_> = SHOWN.into_iter().zip(codes).collect();
    if codes[0] == 0 {
        runs.extend(
            AFTERWARDS.into_iter().map(|line| (line, if line.starts_with("inspect") { 2 } else { 0 })),
        );
        runs.retain(|(line, _)| !line.starts_with("inspect") || !line.contains("oci:"));
    }
    row(format!("escapes in {name}"), &runs, script).elsewhere()
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = taken();
    rows.extend(in_indexes());
    rows.extend(refused());
    rows.extend(in_errors());
    rows.extend(in_headers());
    rows.extend(in_lists());
    rows
}

/// In images that are images all the same.
fn taken() -> Vec<Row> {
    let of = |name: &str, content: fn() -> Built| shown(name, [0; 7], move |_| Script::document(content()));
    let history = |c: &mut Value| {
        c["history"] = json!([{ "created_by": TERMINAL, "comment": TERMINAL, "author": TERMINAL, "created": TERMINAL },
            { "comment": TERMINAL, "empty_layer": true }]);
        c["created"] = TERMINAL.into();
        c["author"] = TERMINAL.into();
        c["config"] = json!({ "Labels": { (TERMINAL): TERMINAL }, "Env": [TERMINAL], "Cmd": [TERMINAL] });
    };
    vec![
        of("an image's annotations", || {
            manifest(|m| {
                m["annotations"] = json!({ (TERMINAL): TERMINAL,
            "org.opencontainers.image.ref.name": TERMINAL, "io.containerd.image.name": TERMINAL });
            })
        }),
        shown("a config's history and labels", [0; 7], move |_| Script::document(config(history))),
        of("a config's platform", || {
            config(|c| {
                for key in ["os", "architecture", "variant", "os.version"] {
                    c[key] = TERMINAL.into();
                }
                c["os.features"] = json!([TERMINAL]);
            })
        }),
        of("a layer's type", || manifest(|m| m["layers"][0]["mediaType"] = TERMINAL.into())),
        of("a layer's annotations and artifact type", || {
            manifest(|m| {
                m["layers"][0]["annotations"] = json!({ (TERMINAL): TERMINAL });
                m["layers"][0]["artifactType"] = TERMINAL.into();
            })
        }),
        of("a layer's urls", || {
            manifest(|m| m["layers"][0]["urls"] = json!([TERMINAL, format!("http://h/{TERMINAL}")]))
        }),
        of("an image's artifact type", || manifest(|m| m["artifactType"] = TERMINAL.into())),
        of("an artifact's types", || {
            changed(artifact("x/y").layer("x").into(), |m| {
                m["artifactType"] = TERMINAL.into();
                m["config"]["mediaType"] = TERMINAL.into();
            })
        }),
        of("a subject's type", || {
            manifest(|m| {
                m["subject"] = json!({ "mediaType": TERMINAL, "digest": super::make::NOBODYS, "size": 2,
                    "artifactType": TERMINAL, "annotations": { (TERMINAL): TERMINAL } });
            })
        }),
        of("keys that nobody knows", || manifest(|m| m[TERMINAL] = TERMINAL.into())),
    ]
}

/// In indexes.
fn in_indexes() -> Vec<Row> {
    let with = |name: &str, code: i32, change: fn(&mut Value)| {
        let runs = [
            ("fetch -vvv --progress plain --all-platforms REF HELD", code),
            ("fetch --json --progress json --all-platforms REF OUT", code),
            ("fetch --dry-run --all-platforms REF OUT", code),
            ("fetch -vv --platform plan9/mips REF OUT", 3),
            ("fetch --json --platform plan9/mips REF OUT", 3),
            ("inspect REF", 0),
            ("inspect --json REF", 0),
            ("ls HELD", 0),
            ("ls --json HELD", 0),
            ("verify HELD", 0),
        ];
        row(format!("escapes in {name}"), &runs, move |_| {
            let content = Built::from(honest());
            let mut entry = content.descriptor(Some(json!({ "os": "linux", "architecture": "amd64" })));
            change(&mut entry);
            let list = Built::from(
                index()
                    .annotation(TERMINAL, TERMINAL)
                    .entry(entry)
                    .manifest(image().layer("y"), "linux/arm64"),
            );
            Script::document(list).holding(&content)
        })
    };
    vec![
        with("an entry's platform", 0, |entry| {
            entry["platform"] = json!({ "os": TERMINAL, "architecture": TERMINAL, "variant": TERMINAL,
                "os.version": TERMINAL });
        }),
        with("an entry's features", 0, |entry| entry["platform"]["os.features"] = json!([TERMINAL])),
        with("an entry's annotations", 0, |entry| {
            entry["annotations"] =
                json!({ (TERMINAL): TERMINAL, "org.opencontainers.image.ref.name": TERMINAL });
            entry["artifactType"] = TERMINAL.into();
        }),
        with("an entry's type", 0, |entry| entry["mediaType"] = TERMINAL.into()),
    ]
}

/// In what is refused, where the reason shows it.
fn refused() -> Vec<Row> {
    let of = |name: &str, change: fn(&mut Value)| {
        shown(name, [6, 6, 6, 6, 6, 0, 0], move |_| Script::document(manifest(change)))
    };
    vec![
        of("a layer's digest", |m| m["layers"][0]["digest"] = TERMINAL.into()),
        of("a digest with the right beginning", |m| {
            m["layers"][0]["digest"] = format!("sha256:{TERMINAL}").into();
        }),
        of("a digest's algorithm", |m| {
            m["layers"][0]["digest"] = format!("{TERMINAL}:{}", "0".repeat(64)).into();
        }),
        of("a manifest's type", |m| m["mediaType"] = TERMINAL.into()),
        of("a key of annotations that are none", |m| m["annotations"] = json!({ (TERMINAL): 7 })),
        of("a size", |m| m["layers"][0]["size"] = TERMINAL.into()),
        shown("a key that is there twice", [6, 6, 6, 6, 6, 0, 0], |_| {
            let key = serde_json::to_string(TERMINAL).unwrap();
            Script::document(super::make::manifest_rewritten(|m| {
                m.replacen('{', &format!("{{{key}:1,{key}:2,"), 1).into_bytes()
            }))
        }),
        row(
            "escapes in a diff ID",
            &[("fetch -vv REF HELD", 6), ("fetch --json REF OUT", 6), ("inspect REF", 6)],
            |_| Script::document(config(|c| c["rootfs"]["diff_ids"][0] = TERMINAL.into())),
        ),
    ]
}

/// In what a registry says of a refusal.
fn in_errors() -> Vec<Row> {
    let mut rows = Vec::new();
    for (status, code) in [
        ("400 Bad Request", 1),
        ("401 Unauthorized", 4),
        ("403 Forbidden", 4),
        ("404 Not Found", 3),
        ("429 Too Many", 5),
        ("500 Error", 5),
    ] {
        let bodies = [
            (
                "codes",
                json!({ "errors": [{ "code": TERMINAL, "message": TERMINAL, "detail": { (TERMINAL): TERMINAL } }] }),
            ),
            (
                "details",
                json!({ "errors": [{ "code": [TERMINAL], "message": { "a": TERMINAL }, "detail": TERMINAL }] }),
            ),
            ("an error of OAuth's form", json!({ "error": TERMINAL, "error_description": TERMINAL })),
        ];
        for (name, body) in bodies {
            let runs = [
                ("fetch -vvv --progress plain --retries 1 REF HELD", code),
                ("fetch --json --progress json --retries 1 REF OUT", code),
                ("resolve REF", code),
                ("tags REPO", code),
                ("inspect --json REF", code),
            ];
            rows.push(row(
                format!("escapes in {name} of {status}"),
                &runs[..if status == "404 Not Found" { 5 } else { 2 }],
                move |_| Script::default().hostile("/v2/app/*", Reply::status(status, body.to_string())),
            ));
        }
    }
    rows.push(row("escapes in the reason of a status", &[("fetch -vvv REF HELD", 3)], |_| {
        Script::default().hostile("/v2/app/*", Reply::status(&format!("404 {}", beyond_ascii()), ""))
    }));
    rows
}

/// In headers, which may have what is beyond ASCII.
fn in_headers() -> Vec<Row> {
    let text = beyond_ascii;
    let mut rows = Vec::new();
    for (name, code) in [
        ("Content-Type", 0),
        ("Content-Encoding", 0),
        ("Docker-Content-Digest", 0),
        ("ETag", 0),
        ("Retry-After", 0),
        ("Server", 0),
        ("Warning", 0),
    ] {
        let runs = [
            ("fetch -vvv --progress plain REF HELD", code),
            ("fetch --json --progress json REF OUT", code),
            ("resolve -vv REF", code),
            ("inspect REF", code),
        ];
        rows.push(row(format!("escapes in {name}"), &runs, move |_| {
            let content = Built::from(honest());
            let reply = match name {
                "Content-Type" => Reply::status("200 OK", content.document.clone()),
                _ => Reply::ok(MANIFEST, content.document.clone()),
            };
            let paths = ["v1", &content.digest].map(|name| format!("/v2/app/manifests/{name}"));
            Script::of(content).hostile_at(paths, reply.header(name, format!("x/{}", text())))
        }));
    }
    for (name, location) in [
        ("host", "http://h{}/x"),
        ("path", "http://127.0.0.1:1/{}"),
        ("relative path", "{}"),
        ("scheme", "{}:x"),
        ("password", "http://u:{}@127.0.0.1:1/"),
    ] {
        let location = location.replace("{}", &text());
        let runs = [("fetch -vvv --progress plain REF HELD", 5), ("fetch --json --progress json REF OUT", 5)];
        rows.push(
            row(format!("escapes in the {name} of a Location"), &runs, move |_| {
                Script::default().hostile("/*", Reply::redirect(&location))
            })
            .elsewhere(),
        );
    }
    rows
}

/// In lists of tags and of referrers, and in the names of what they lead to.
fn in_lists() -> Vec<Row> {
    let tags = json!({ "name": TERMINAL, "tags": ["v1", TERMINAL, "\u{1b}[2J", "v2\u{9b}", "../../x", "", "-x", ".x"] });
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "annotations": { (TERMINAL): TERMINAL }, "manifests": [{
        "mediaType": MANIFEST, "digest": super::make::NOBODYS, "size": 2, "artifactType": TERMINAL,
        "annotations": { (TERMINAL): TERMINAL } }] });
    let mistyped = json!({ "schemaVersion": 2, "manifests": [{ "mediaType": TERMINAL, "digest": super::make::NOBODYS,
        "size": 2, "artifactType": "x/y", "platform": { "os": TERMINAL, "architecture": TERMINAL } }] });
    let referrers = |name: &str, code: i32, list: Value| {
        let runs = [
            ("fetch -vvv --progress plain --referrers REF HELD", code),
            ("fetch --json --progress json --referrers REF OUT", code),
            ("inspect REF", 0),
            ("inspect --json REF", 0),
        ];
        row(name, &runs, move |_| {
            Script::of(honest()).hostile("/v2/app/referrers/*", Reply::ok(INDEX, list.to_string()))
        })
    };
    vec![
        row(
            "escapes in tags",
            &[
                ("tags REPO", 0),
                ("tags --json REPO", 0),
                ("tags -vv --match v REPO", 0),
                ("fetch -vv --all-tags --progress plain REPO HELD", 0),
                ("fetch --json --all-tags --progress json REPO OUT", 0),
                ("fetch --dry-run --all-tags REPO OUT", 0),
            ],
            move |_| {
                Script::of(honest())
                    .hostile("/v2/app/tags/list", Reply::ok("application/json", tags.to_string()))
            },
        ),
        referrers("escapes in referrers", 0, list),
        referrers("escapes in a referrer's type", 0, mistyped),
        referrers(
            "escapes in what is no list of referrers",
            6,
            json!({ (TERMINAL): TERMINAL, "manifests": TERMINAL }),
        ),
        row(
            "escapes in a referrer",
            &[
                ("fetch -vvv --progress plain --referrers REF HELD", 0),
                ("fetch --json --progress json --referrers REF OUT", 0),
                ("fetch --dry-run --referrers REF OUT", 0),
                ("inspect REF", 0),
                ("inspect --json REF", 0),
                ("ls HELD", 0),
                ("ls --json HELD", 0),
                ("verify HELD", 0),
            ],
            |_| {
                let content = Built::from(honest());
                let referrer =
                    changed(artifact("x/y").layer("sbom").subject(content.descriptor(None)).into(), |m| {
                        m["artifactType"] = TERMINAL.into();
                        m["annotations"] =
                            json!({ (TERMINAL): TERMINAL, "org.opencontainers.image.ref.name": TERMINAL });
                        m["layers"][0]["mediaType"] = TERMINAL.into();
                    });
                let mut entry = referrer.descriptor(None);
                entry["artifactType"] = TERMINAL.into();
                entry["annotations"] = json!({ (TERMINAL): TERMINAL });
                let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
                Script::of(content)
                    .holding(&referrer)
                    .hostile("/v2/app/referrers/*", Reply::ok(INDEX, list.to_string()))
            },
        ),
        row(
            "escapes in an unknown config type",
            &[("fetch -vv REF HELD", 0), ("inspect REF", 0), ("ls HELD", 0)],
            |_| {
                Script::document(manifest(|m| {
                    m["config"]["mediaType"] = format!("{CONFIG}{TERMINAL}").into();
                }))
            },
        ),
    ]
}

/// What of the text a header or a status line may have.
fn beyond_ascii() -> String {
    TERMINAL.chars().filter(|character| !character.is_ascii_control()).collect()
}
