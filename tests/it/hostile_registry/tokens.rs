//! Token services and challenges that are not what they should be.

use super::make::{MANIFEST, TERMINAL, honest};
use super::row::{Row, row};
use super::server::{Reply, Script};
use crate::support::Built;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = answers();
    rows.extend(challenges());
    rows
}

fn unauthorized(challenge: impl AsRef<[u8]>) -> Reply {
    Reply::error("401 Unauthorized", "UNAUTHORIZED", "log in").header("WWW-Authenticate", challenge)
}

/// A registry that wants a token, with a token service that answers like this.
pub(super) fn with_token_service(name: &str, answer: Reply, code: i32) -> Row {
    let runs = [("fetch -v REF HELD", code), ("tags REPO", code)];
    row(name, &runs, move |host| {
        let challenge =
            format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:app:pull\"");
        Script::default().hostile("/token*", answer.clone()).honest("/v2/app/*", unauthorized(challenge))
    })
    .elsewhere()
}

fn answers() -> Vec<Row> {
    let json: Vec<(&str, Vec<u8>, i32)> = vec![
        ("is empty", vec![], 4),
        ("is null", b"null".to_vec(), 4),
        ("is a list", b"[\"token\"]".to_vec(), 4),
        ("has no token", b"{}".to_vec(), 4),
        ("has a token of null", br#"{"token":null,"access_token":null}"#.to_vec(), 4),
        ("has an empty token", br#"{"token":"","access_token":""}"#.to_vec(), 4),
        ("has a token that is a number", br#"{"token":7}"#.to_vec(), 4),
        ("has a token that is a list", br#"{"token":["a"]}"#.to_vec(), 4),
        ("is a web page", b"<html>log in</html>".to_vec(), 4),
        ("is deep", super::make::deep(100_000).into_bytes(), 4),
        ("is not UTF-8", b"{\"token\":\"\xff\xfe\"}".to_vec(), 4),
        ("has a token with a line feed", br#"{"token":"a\r\nX-Forged: yes"}"#.to_vec(), 4),
        ("has a token with a NUL", br#"{"token":"a\u0000b"}"#.to_vec(), 4),
        ("has a token with an escape", br#"{"token":"a\u001b[2J"}"#.to_vec(), 4),
        ("has a token that is no ASCII", r#"{"token":"naïve"}"#.as_bytes().to_vec(), 4),
    ];
    let mut rows: Vec<_> = json
        .into_iter()
        .map(|(name, body, code)| {
            with_token_service(
                &format!("a token's answer that {name}"),
                Reply::ok("application/json", body),
                code,
            )
        })
        .collect();
    let lives = [
        "-1",
        "0",
        "1e400",
        "18446744073709551616",
        "99999999999999999999999999999999",
        "\"soon\"",
        "{}",
        "null",
        "0.001",
        "-9223372036854775808",
    ];
    for life in lives {
        // Any life will do: the token is good for one run, and asked for no more often than it is refused.
        let runs = [("fetch -v REF HELD", 4)];
        let body =
            format!("{{\"token\":\"x\",\"expires_in\":{life},\"issued_at\":\"9999-99-99T99:99:99Z\"}}");
        rows.push(
            row(format!("a token that lives {life} seconds and is refused"), &runs, move |host| {
                let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
                let reply = Reply::ok("application/json", body.clone());
                Script::default().hostile("/token*", reply).honest("/v2/app/*", unauthorized(challenge))
            })
            .elsewhere(),
        );
    }
    for (status, code) in [
        ("204 No Content", 4),
        ("302 Found", 5),
        ("400 Bad Request", 4),
        ("404 Not Found", 4),
        ("418 Teapot", 4),
        ("500 Error", 5),
    ] {
        rows.push(with_token_service(
            &format!("a token service that says {status}"),
            Reply::status(status, ""),
            code,
        ));
    }
    rows
}

fn challenges() -> Vec<Row> {
    let of: Vec<(&str, Vec<u8>, i32)> = vec![
        ("is empty", vec![], 4),
        ("is of an unknown scheme", b"Negotiate YWJj".to_vec(), 4),
        ("has no realm", b"Bearer service=\"s\"".to_vec(), 4),
        ("has an empty realm", b"Bearer realm=\"\"".to_vec(), 4),
        ("has a realm that is a path", b"Bearer realm=\"/token\"".to_vec(), 4),
        ("has a realm that is a file", b"Bearer realm=\"file:///etc/passwd\"".to_vec(), 4),
        ("has a realm that is on a file's host", b"Bearer realm=\"file://host/etc/passwd\"".to_vec(), 4),
        ("has a realm of javascript", b"Bearer realm=\"javascript:alert(1)\"".to_vec(), 4),
        ("has a realm of ftp", b"Bearer realm=\"ftp://127.0.0.1/token\"".to_vec(), 4),
        ("has a realm of gopher", b"Bearer realm=\"gopher://127.0.0.1:25/x\"".to_vec(), 4),
        ("has a realm that nobody hears", b"Bearer realm=\"http://127.0.0.1:1/token\"".to_vec(), 5),
        ("has a realm at a port that is none", b"Bearer realm=\"http://127.0.0.1:99999/token\"".to_vec(), 4),
        ("has quotes that do not end", b"Bearer realm=\"http://x/token".to_vec(), 4),
        ("has nothing but quotes", b"\"\"\"\"\"\"\"\"\"".to_vec(), 4),
        ("has nothing but commas", vec![b','; 10_000], 4),
        ("has nothing but equals signs", vec![b'='; 10_000], 4),
        ("has sixty thousand characters of a scheme", vec![b'a'; 60_000], 4),
        ("has six thousand schemes", b"Xyz a=b, ".repeat(6_000), 4),
        ("has seven thousand parameters", [&b"Bearer "[..], &b"a=\"b\", ".repeat(7_000)].concat(), 4),
        ("has ten thousand quotes that do not end", b"a=\"x, ".repeat(10_000), 4),
        ("is not text", b"Bearer realm=\"\xff\xfe\"".to_vec(), 4),
        ("is Basic", b"Basic realm=\"r\"".to_vec(), 4),
    ];
    let mut rows: Vec<_> = of
        .into_iter()
        .map(|(name, challenge, code)| {
            let runs = [("fetch -vv REF HELD", code), ("tags REPO", code)];
            row(format!("a challenge that {name}"), &runs, move |_| {
                Script::default().hostile("/v2/app/*", unauthorized(&challenge))
            })
        })
        .collect();
    rows.push(row("eighty challenges", &[("fetch -v REF HELD", 4)], |_| {
        let reply = (0..80).fold(unauthorized("Xyz"), |reply, at| {
            reply.header("WWW-Authenticate", format!("Xyz{at} realm=\"r\", Negotiate"))
        });
        Script::default().hostile("/v2/app/*", reply)
    }));
    rows.push(row("a realm of its own query", &[("fetch -vv REF HELD", 0)], |host| {
        let content = Built::from(honest());
        let asked = format!("Bearer realm=\"http://u:p@{host}/token?scope=registry:catalog:*&offline_token=true&x=../..#f\"");
        let document = Reply::ok(MANIFEST, content.document.clone());
        let script = Script::of(content.clone());
        let turn = std::sync::atomic::AtomicUsize::new(0);
        let reply = Reply::computed(move |_| {
            if turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 { unauthorized(&asked) } else { document.clone() }
        });
        script
            .hostile(format!("/v2/app/manifests/{}", content.digest), reply)
            .honest("/token", Reply::ok("application/json", r#"{"token":"x"}"#))
    }).elsewhere());
    for (name, reply) in [
        ("a realm", format!("Bearer realm=\"http://127.0.0.1:1/{}\"", folded(TERMINAL))),
        ("a service", format!("Bearer realm=\"http://127.0.0.1:1/\",service=\"{}\"", folded(TERMINAL))),
        (
            "a scope",
            format!("Bearer realm=\"http://127.0.0.1:1/\",scope=\"repository:{}:pull\"", folded(TERMINAL)),
        ),
    ] {
        rows.push(row(
            format!("{name} that drives a terminal"),
            &[("fetch -vv REF HELD", 5), ("tags REPO", 5)],
            move |_| Script::default().hostile("/v2/app/*", unauthorized(&reply)),
        ));
    }
    rows
}

/// The part of a text that a header may have: no control characters but those beyond ASCII.
fn folded(text: &str) -> String {
    text.chars().filter(|character| !character.is_ascii_control() && *character != '"').collect()
}
