//! Bodies past their caps, without an end, cut, or absent, of everything that is asked for.

use super::make::{INDEX, MANIFEST, config_rewritten, honest, manifest};
use super::row::{Row, refused, refused_when_fetched, row, tolerated};
use super::server::{Reply, Script};
use super::tokens::with_token_service;
use crate::support::Built;

const MIB: usize = 1 << 20;
/// What may lie in sockets between a server and a client that has hung up.
const IN_SOCKETS: u64 = 16 << 20;
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nTransfer-Encoding: chunked\r\n";
const UNTIL_CLOSE: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nConnection: close\r\n";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = manifests();
    rows.extend(configs());
    rows.extend(layers());
    rows.extend(tokens_and_errors());
    rows.extend(lists());
    rows.extend(absent());
    rows
}

fn padded(length: usize) -> Built {
    let text = String::from_utf8(manifest(|_| ()).document.to_vec()).unwrap();
    super::make::manifest_text(format!("{text}{}", " ".repeat(length - text.len())))
}

/// Pieces without an end, framed in both ways that HTTP/1.1 has for them.
fn endless(piece: &'static [u8]) -> [(&'static str, Reply); 2] {
    [
        ("in chunks", Reply::endless(CHUNKED, piece.repeat(4096))),
        ("without a length", Reply::endless(UNTIL_CLOSE, piece.repeat(4096))),
    ]
}

fn manifests() -> Vec<Row> {
    let mut rows = vec![
        refused("a manifest of a byte more than 4 MiB", |_| Script::document(padded(4 * MIB + 1))),
        refused("a manifest of 64 MiB", |_| Script::document(padded(64 * MIB))).sends_at_most(4 * IN_SOCKETS),
        tolerated("a manifest of 4 MiB", |_| Script::document(padded(4 * MIB))),
        row("a manifest that says it has 8 EiB", &[("fetch -v REF HELD", 6), ("inspect REF", 6)], |_| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: 9223372036854775807\r\n\r\n{{"
            );
            Script::default().hostile("/v2/app/manifests/*", Reply::raw(head))
        }),
    ];
    for piece in [b"                " as &[u8], b"[[[[[[[[[[[[[[[[", b"{\"a\":\"aaaaaaaaaa"] {
        for (how, reply) in endless(piece) {
            let name = format!("a manifest of {:?} without an end, {how}", String::from_utf8_lossy(piece));
            rows.push(
                refused(name, move |_| Script::default().hostile("/v2/app/manifests/*", reply.clone()))
                    .sends_at_most(4 * IN_SOCKETS),
            );
        }
    }
    rows
}

fn configs() -> Vec<Row> {
    let of = |size: usize| config_rewritten(|c| format!("{c}{}", " ".repeat(size - c.len())).into_bytes());
    let mut rows = vec![
        refused("a config of a byte more than 8 MiB", move |_| Script::document(of(8 * MIB + 1))),
        tolerated("a config of 8 MiB", move |_| Script::document(of(8 * MIB))),
    ];
    for (how, reply) in endless(b"{\"a\":\"aaaaaaaaaa") {
        let runs = [("fetch -v REF HELD", 6), ("inspect REF", 6)];
        let row = row(format!("a config without an end, {how}"), &runs, move |_| {
            let content = Built::from(honest());
            let config = content.config.clone().expect("an image has a config").digest;
            Script::of(content).hostile(format!("/v2/app/blobs/{config}"), reply.clone())
        });
        rows.push(row.sends_at_most(2 * IN_SOCKETS));
    }
    rows
}

/// A layer's body that is not what its descriptor says.
fn layers() -> Vec<Row> {
    let layer = |reply: Reply| {
        move |_: &str| {
            let content = Built::from(honest());
            let layer = content.layers[1].digest.clone();
            Script::of(content).hostile(format!("/v2/app/blobs/{layer}"), reply.clone())
        }
    };
    let mut rows = vec![
        refused_when_fetched("a layer of other bytes", layer(Reply::ok("x/y", vec![b'x'; 120]))),
        refused_when_fetched(
            "a layer that is a web page",
            layer(Reply::ok("text/html", "<html>log in</html>")),
        ),
        refused_when_fetched(
            "a layer that says it has 8 EiB",
            layer(Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nx")),
        ),
    ];
    for (how, reply) in endless(b"0123456789abcdef") {
        let row = refused_when_fetched(format!("a layer without an end, {how}"), layer(reply));
        rows.push(row.sends_at_most(2 * IN_SOCKETS));
    }
    rows
}

/// Tokens past 1 MiB and error bodies past 64 KiB.
fn tokens_and_errors() -> Vec<Row> {
    let long_token = format!("{{\"token\":\"{}\"}}", "x".repeat(MIB));
    let mut rows = vec![with_token_service(
        "a token's answer of more than 1 MiB",
        Reply::ok("application/json", long_token),
        6,
    )];
    for (how, reply) in endless(b"{\"token\":\"aaaaaa") {
        rows.push(
            with_token_service(&format!("a token's answer without an end, {how}"), reply, 6)
                .sends_at_most(2 * IN_SOCKETS),
        );
    }
    for (status, code) in [
        ("400 Bad Request", 1),
        ("401 Unauthorized", 4),
        ("403 Forbidden", 4),
        ("404 Not Found", 3),
        ("429 Too Many Requests", 5),
        ("500 Internal Server Error", 5),
    ] {
        let runs = [("fetch -v REF HELD", code), ("tags REPO", code)];
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n");
        let row = row(format!("an error body without an end, {status}"), &runs, move |_| {
            Script::default()
                .hostile("/v2/app/*", Reply::endless(&head, b"{\"errors\":[{\"code\":\"".repeat(1000)))
        });
        rows.push(row.sends_at_most(2 * IN_SOCKETS));
    }
    let many =
        format!("{{\"errors\":[{}]}}", vec![r#"{"code":"A","message":"b","detail":"c"}"#; 1500].join(","));
    rows.push(row("1,500 errors in one answer", &[("fetch -v REF HELD", 3), ("tags REPO", 3)], move |_| {
        Script::default().hostile("/v2/app/*", Reply::status("404 Not Found", many.clone()))
    }));
    let deep = format!("{{\"errors\":{}}}", super::make::deep(30_000));
    rows.push(row(
        "an error body of 30,000 lists",
        &[("fetch -v REF HELD", 3), ("tags REPO", 3)],
        move |_| Script::default().hostile("/v2/app/*", Reply::status("404 Not Found", deep.clone())),
    ));
    rows
}

/// Lists without an end.
fn lists() -> Vec<Row> {
    let mut rows = Vec::new();
    for (how, reply) in endless(b"{\"tags\":[\"aaaaaa") {
        let runs = [("tags REPO", 6), ("fetch --all-tags REPO OUT", 6)];
        let row = row(format!("tags without an end, {how}"), &runs, move |_| {
            Script::default().hostile("/v2/app/tags/list", reply.clone())
        });
        rows.push(row.sends_at_most(8 * IN_SOCKETS));
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {INDEX}\r\nTransfer-Encoding: chunked\r\n");
    let runs = [("fetch --referrers REF HELD", 6), ("inspect REF", 0)];
    let row = row("referrers without an end", &runs, move |_| {
        Script::of(honest())
            .hostile("/v2/app/referrers/*", Reply::endless(&head, b"{\"manifests\":[[[[".repeat(4096)))
    });
    rows.push(row.sends_at_most(4 * IN_SOCKETS));
    rows
}

/// Statuses that have no body, or none that is meant, in place of one that has.
fn absent() -> Vec<Row> {
    let mut rows = Vec::new();
    for (status, code) in [
        ("204 No Content", 1),
        ("205 Reset Content", 1),
        ("206 Partial Content", 1),
        ("304 Not Modified", 1),
        ("201 Created", 1),
        ("299 Odd", 1),
        ("600 Odd", 1),
        ("999 Odd", 1),
    ] {
        let runs = [("fetch -v REF HELD", code), ("resolve REF", code), ("tags REPO", code)];
        rows.push(row(format!("{status} in place of everything"), &runs, move |_| {
            Script::default().hostile("/v2/app/*", Reply::raw(format!("HTTP/1.1 {status}\r\n\r\n")))
        }));
    }
    rows
}
