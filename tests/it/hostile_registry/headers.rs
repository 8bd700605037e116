//! Headers that lie, are too many, or lead to where nobody may go; and what is no HTTP.

use super::make::{MANIFEST, honest};
use super::row::{Row, refused, row, tolerated};
use super::server::{Reply, Script};
use crate::support::{Built, sha256};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = no_http();
    rows.extend(many_headers());
    rows.extend(redirects());
    rows.extend(retry_after());
    rows.extend(ranges());
    rows.extend(lengths());
    rows.extend(split());
    rows
}

/// What answers everything, and is not HTTP.
#[expect(clippy::too_many_lines, reason = "it is a table, and each row is short")]
fn no_http() -> Vec<Row> {
    let answers: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("a line of text", b"hello\n".to_vec()),
        ("a document, as HTTP/0.9 had it", b"<html>hello</html>".to_vec()),
        ("the banner of SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("NUL bytes", vec![0; 4096]),
        ("a TLS alert", vec![21, 3, 1, 0, 2, 2, 40]),
        ("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("HTTP of a version that is not there", b"HTTP/3.7 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("a status of four digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("a status of letters", b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("a negative status", b"HTTP/1.1 -200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("a header without a colon", b"HTTP/1.1 200 OK\r\nContent-Length 2\r\n\r\n{}".to_vec()),
        ("a header with a NUL", b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("a header name with a space", b"HTTP/1.1 200 OK\r\nA B: c\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("a head that does not end", b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".to_vec()),
        ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}".to_vec()),
        (
            "a length past 64 bits",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}".to_vec(),
        ),
    ];
    let mut rows: Vec<_> = answers
        .into_iter()
        .map(|(name, bytes)| {
            let runs = [("fetch -vv REF HELD", 5), ("tags REPO", 5)];
            row(format!("{name} in place of an answer"), &runs, move |_| {
                Script::default().hostile("*", Reply::raw(bytes.clone()))
            })
        })
        .collect();
    for (name, piece) in [
        ("headers", &b"X-Header: value\r\n"[..]),
        ("one header", b"0123456789abcdef"),
        ("a status line", b"HTTP/1.1 200 "),
    ] {
        let runs = [("fetch -v REF HELD", 5), ("tags REPO", 5)];
        let begins = if name == "a status line" { "" } else { "HTTP/1.1 200 OK\r\nX: " };
        let row = row(format!("{name} without an end"), &runs, move |_| {
            Script::default().hostile("*", Reply::raw([begins.as_bytes(), &piece.repeat(1 << 18)].concat()))
        });
        rows.push(row.sends_at_most(64 << 20));
    }
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}";
    rows.push(row(
        "a switch of protocols in place of an answer",
        &[("fetch -vv REF HELD", 1), ("tags REPO", 1)],
        move |_| Script::default().hostile("*", Reply::raw(switch)),
    ));
    let runs = [("fetch -v --stall-timeout 1s REF HELD", 5)];
    let flood = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    rows.push(row("answers of 1xx without an end", &runs, |_| {
        Script::default().hostile("*", Reply::raw(flood.repeat(1 << 20)))
    }));
    rows.push(tolerated("a hundred answers of 1xx before the one that counts", |_| {
        let content = Built::from(honest());
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: {}\r\n\r\n",
            content.document.len()
        );
        let head = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let answer = [&flood.repeat(50)[..], head.as_bytes(), &content.document].concat();
        let digest = format!("/v2/app/manifests/{}", content.digest);
        Script::of(content).hostile(digest, Reply::raw(answer))
    }));
    rows
}

fn many_headers() -> Vec<Row> {
    let with = |count: usize, length: usize| {
        move |_: &str| {
            let content = Built::from(honest());
            let mut reply = Reply::ok(MANIFEST, content.document.clone());
            for at in 0..count {
                reply = reply.header(&format!("X-Header-{at}"), "x".repeat(length));
            }
            let paths = ["v1", &content.digest].map(|name| format!("/v2/app/manifests/{name}"));
            Script::of(content).hostile_at(paths, reply)
        }
    };
    let refused = [("fetch -v REF HELD", 5), ("inspect REF", 5)];
    vec![
        row("a thousand headers", &refused, with(1000, 10)).says("more than 100 headers"),
        row("a header of a megabyte", &refused, with(1, 1 << 20)).says("larger than 128 KiB"),
        row("seventy headers of 4 KiB", &refused, with(70, 4 << 10)).says("larger than 128 KiB"),
        tolerated("thirty headers of 4 KiB", with(30, 4 << 10)),
        tolerated("headers of no text", |_| {
            let content = Built::from(honest());
            let mut reply = Reply::ok(MANIFEST, content.document.clone());
            for name in [
                "ETag",
                "Docker-Content-Digest",
                "Retry-After",
                "Content-Encoding",
                "Link",
                "Warning",
                "Server",
            ] {
                reply = reply.header(name, b"\xff\xfe\x80");
            }
            let digest = format!("/v2/app/manifests/{}", content.digest);
            Script::of(content).hostile(digest, reply)
        }),
    ]
}

/// `Location`, for manifests and for blobs.
fn redirects() -> Vec<Row> {
    let locations: [(&str, &[u8]); 10] = [
        ("to a file", b"file:///etc/passwd"),
        ("to ftp", b"ftp://127.0.0.1/x"),
        ("to javascript", b"javascript:alert(1)"),
        ("to data", b"data:application/json,{}"),
        ("to a socket", b"unix:///var/run/docker.sock"),
        ("to nowhere", b""),
        ("to a host that is none", b"http://[::::]/"),
        ("to a port that is none", b"http://127.0.0.1:99999/"),
        ("of no text", b"http://\xff\xfe/"),
        ("to an empty host", b"http:///x"),
    ];
    let mut rows = Vec::new();
    for (name, location) in locations {
        let runs = [("fetch -v REF HELD", 5), ("tags REPO", 5)];
        rows.push(row(format!("a redirect {name}"), &runs, move |_| {
            Script::default().hostile("/v2/app/*", Reply::redirect(location))
        }));
        rows.push(row(format!("a layer's redirect {name}"), &[("fetch -v REF HELD", 5)], move |_| {
            let content = Built::from(honest());
            let layer = format!("/v2/app/blobs/{}", content.layers[0].digest);
            Script::of(content).hostile(layer, Reply::redirect(location))
        }));
    }
    let without = |_: &str| Script::default().hostile("/v2/app/*", Reply::status("302 Found", ""));
    rows.push(row("a redirect without a Location", &[("fetch -v REF HELD", 5), ("tags REPO", 5)], without));
    rows.push(
        row("redirects without an end", &[("fetch -v REF HELD", 5), ("tags REPO", 5)], |_| {
            Script::default().hostile(
                "/*",
                Reply::computed(|target| Reply::redirect(format!("/x{}", target.len()).repeat(1) + target)),
            )
        })
        .elsewhere(),
    );
    rows.push(
        row("redirects in a circle", &[("fetch -v REF HELD", 5), ("tags REPO", 5)], |_| {
            Script::default().hostile(
                "/*",
                Reply::computed(|target| Reply::redirect(if target.ends_with('a') { "/b" } else { "/a" })),
            )
        })
        .elsewhere(),
    );
    rows.push(
        row("a redirect with credentials in it", &[("fetch -vv REF HELD", 0)], |host| {
            let content = Built::from(honest());
            let layer = content.layers[0].clone();
            let elsewhere = format!("http://user:geheim@{host}/elsewhere?X-Signature=geheim");
            Script::of(content)
                .hostile(format!("/v2/app/blobs/{}", layer.digest), Reply::redirect(elsewhere))
                .honest("/elsewhere", Reply::ok("x/y", layer.bytes))
        })
        .elsewhere(),
    );
    rows
}

fn retry_after() -> Vec<Row> {
    let values: Vec<(&str, &[u8])> = vec![
        ("a century", b"3153600000"),
        ("more seconds than there are numbers", b"99999999999999999999999999"),
        ("a date in the year 9999", b"Fri, 31 Dec 9999 23:59:59 GMT"),
        ("121 seconds", b"121"),
    ];
    let mut rows: Vec<_> = values
        .into_iter()
        .map(|(name, value)| {
            let runs = [("fetch -v --retries 3 REF HELD", 5), ("tags REPO --retries 3", 5)];
            row(format!("Retry-After of {name}"), &runs, move |_| {
                let reply = Reply::error("429 Too Many Requests", "TOOMANYREQUESTS", "slow down");
                Script::default().hostile("/v2/app/*", reply.header("Retry-After", value))
            })
        })
        .collect();
    for (name, value) in [
        ("minus one", &b"-1"[..]),
        ("a fraction", b"0.5"),
        ("nothing", b""),
        ("words", b"soon"),
        ("zero", b"0"),
        ("a date that is none", b"Xyz, 99 Foo 0000 99:99:99 GMT"),
        ("no text", b"\xff"),
        ("a date of long ago", b"Thu, 01 Jan 1970 00:00:00 GMT"),
    ] {
        let runs = [("fetch -v --retries 1 REF HELD", 5)];
        rows.push(row(format!("Retry-After of {name}"), &runs, move |_| {
            let reply = Reply::error("503 Service Unavailable", "UNAVAILABLE", "later");
            Script::default().hostile("/v2/app/*", reply.header("Retry-After", value))
        }));
    }
    rows
}

/// `Content-Range` of an answer to a request that wanted the whole.
fn ranges() -> Vec<Row> {
    let values: [(&str, &str); 9] = [
        ("that begins later", "bytes 5-104/105"),
        ("past its end", "bytes 0-9999/10000"),
        ("of an endless whole", "bytes 0-104/18446744073709551615"),
        ("that ends before it begins", "bytes 9-3/105"),
        ("of another unit", "lines 0-104/105"),
        ("of letters", "bytes a-b/c"),
        ("that is negative", "bytes -1-5/6"),
        ("past 64 bits", "bytes 0-99999999999999999999/99999999999999999999"),
        ("that is empty", ""),
    ];
    let mut rows = Vec::new();
    for (name, value) in values {
        let runs = [("fetch -v REF HELD", 5)];
        rows.push(row(format!("a Content-Range {name}"), &runs, move |_| {
            let content = Built::from(honest());
            let layer = content.layers[0].clone();
            let reply =
                Reply::status("206 Partial Content", layer.bytes.clone()).header("Content-Range", value);
            Script::of(content).hostile(format!("/v2/app/blobs/{}", layer.digest), reply)
        }));
    }
    rows
}

/// `Content-Length` and `Content-Type` that are not the body's.
fn lengths() -> Vec<Row> {
    let raw = |head: String| {
        move |_: &str| {
            let content = Built::from(honest());
            let answer = [head.as_bytes(), b"\r\n", &content.document].concat();
            Script::of(content).hostile("/v2/app/manifests/*", Reply::raw(answer))
        }
    };
    let head = |length: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\n{length}\r\n");
    vec![
        row(
            "a length that is too long",
            &[("fetch -v REF HELD", 5), ("inspect REF", 5)],
            raw(head("Content-Length: 100000")),
        ),
        row(
            "a length that is too short",
            &[("fetch -v REF HELD", 6), ("inspect REF", 6)],
            raw(head("Content-Length: 10")),
        ),
        row(
            "chunks that are none",
            &[("fetch -v REF HELD", 5), ("inspect REF", 5)],
            raw(head("Transfer-Encoding: chunked")),
        ),
        row(
            "an encoding of the transfer that nobody knows",
            &[("fetch -v REF HELD", 5), ("inspect REF", 5)],
            raw(head("Transfer-Encoding: x-rot13, chunked")),
        ),
    ]
}

/// One answer that another hides in: what follows a body is not the answer to the next question.
fn split() -> Vec<Row> {
    vec![
        refused("a manifest with an answer behind it", |_| {
            let content = Built::from(honest());
            let wrong = "{}";
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: {}\r\n\r\n{wrong}HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                wrong.len(),
                content.document.len(),
            );
            let answer = [answer.as_bytes(), &content.document].concat();
            Script::default().hostile("/v2/app/manifests/*", Reply::raw(answer))
        }),
        refused("a header that splits the answer", |_| {
            let content = Built::from(honest());
            let reply = Reply::ok(MANIFEST, content.document.clone());
            let reply = reply.header("X", "a\r\nContent-Length: 2\r\n\r\n{}");
            Script::default().hostile("/v2/app/manifests/*", reply)
        }),
        row("a digest header that splits the answer", &[("fetch -v REF HELD", 0)], |_| {
            let content = Built::from(honest());
            let forged = format!("{}\r\nX-Forged: yes", sha256(&content.document));
            let reply = Reply::ok(MANIFEST, content.document.clone()).header("Docker-Content-Digest", forged);
            let digest = format!("/v2/app/manifests/{}", content.digest);
            Script::of(content).hostile(digest, reply)
        }),
    ]
}
