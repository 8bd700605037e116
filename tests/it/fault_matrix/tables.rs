//! The rows.

use std::time::Duration;

use crate::support::{Fault, KIB, MIB};

use super::places;
use super::row::{Row, Step, row};
use super::scene;

/// What every answer can suffer, whatever it is about: refusals that pass, connections that break before it or in its head, and
/// ways that lead nowhere.
fn before_the_body(step: Step) -> Vec<Row> {
    [refusals(step), breaks(step)].concat()
}

/// The same fault once, after which all is well, or always.
fn again(step: Step, name: &str, fault: Fault) -> Row {
    row(step, format!("{name}, once")).once(fault).sound(2 + step.rest(), 1)
}

fn never(step: Step, name: &str, fault: Fault) -> Row {
    row(step, format!("{name}, always")).always(fault).gives_up(2)
}

fn refusals(step: Step) -> Vec<Row> {
    let announced = |status: u16, value: String| Fault::RetryAfter { status, value };
    // All of them at one step, at the others one that is the registry's own and one of a proxy before it.
    let passing: &[u16] = if step == Step::Manifest { &[408, 429, 500, 502, 503, 504] } else { &[429, 502] };
    let mut rows: Vec<Row> =
        passing.iter().map(|status| again(step, &status.to_string(), Fault::Status(*status))).collect();
    rows.extend([
        never(step, "503", Fault::Status(503)).says("503 Service Unavailable"),
        again(step, "429 for a second", announced(429, "1".into())).says("as it asked"),
        again(step, "503 until a date", Fault::RetryAt { status: 503, from_now: Duration::from_secs(2) })
            .says("as it asked"),
        again(step, "429 until whenever", announced(429, "when it is dark".into())),
        row(step, "429 for an hour")
            .always(announced(429, "3600".into()))
            .fatal(5)
            .says("429 Too Many Requests")
            .says("1h"),
        row(step, "503 until tomorrow")
            .always(Fault::RetryAt { status: 503, from_now: Duration::from_hours(24) })
            .fatal(5)
            .says("503 Service Unavailable")
            .says("come back"),
        row(step, "a failure, and then 429 for an hour")
            .once(Fault::Status(502))
            .always(announced(429, "3600".into()))
            .fatal(5)
            .asks(2)
            .tries(2)
            .says("come back after 1h")
            .says("429 Too Many Requests")
            .says("502 Bad Gateway"),
    ]);
    rows
}

/// Failures that may pass, and then a refusal that will not: it decides the exit code, and what came before it is told.
fn refused_after_failures(step: Step, status: u16, code: i32, name: &str) -> Row {
    row(step, format!("two failures, and then {status}"))
        .option("--retries=2")
        .once(Fault::Status(503))
        .once(Fault::CloseBeforeResponse)
        .always(Fault::Status(status))
        .fatal(code)
        .asks(3)
        .tries(3)
        .says("failed for good, after 3 tries in ")
        .says("503 Service Unavailable")
        .says(name)
}

fn breaks(step: Step) -> Vec<Row> {
    vec![
        again(step, "closed before the answer", Fault::CloseBeforeResponse),
        again(step, "reset before the answer", Fault::ResetBeforeResponse),
        never(step, "reset before the answer", Fault::ResetBeforeResponse).says("reset"),
        again(step, "cut in the status line", Fault::HeadCutAfter(10)),
        never(step, "cut in a header", Fault::HeadCutAfter(40)).says("connection closed"),
        again(step, "silence before the answer", Fault::HeadStallAfter(0)).impatient(),
        never(step, "silence in a header", Fault::HeadStallAfter(40)).impatient(),
        never(step, "no HTTP", Fault::NotHttp(b"220 mail.example ESMTP\r\n")).says("the request failed"),
        row(step, "a different failure each time")
            .once(Fault::Status(502))
            .always(Fault::CloseBeforeResponse)
            .gives_up(2)
            .says("502 Bad Gateway")
            .says("connection closed"),
        row(step, "a redirect to itself").always(Fault::RedirectLoop).fatal(5).says("redirect"),
        again(step, "a redirect to nobody", Fault::Redirect(places::nobody())),
        never(step, "a redirect to nobody", Fault::Redirect(places::nobody())).says("refused"),
        never(step, "a redirect to no name", Fault::Redirect(places::no_name())).says("does not resolve"),
        row(step, "a restart")
            .once(Fault::GoDown(Some(Duration::from_millis(100))))
            .sound(2 + step.rest(), 1)
            .any_retries(),
        row(step, "down for good")
            .once(Fault::GoDown(None))
            .gives_up(2)
            .asks(1)
            .says("connection closed")
            .says("refused"),
    ]
}

/// What the body of a document can suffer, as long as its length is told.
fn in_a_document(step: Step, size: usize) -> Vec<Row> {
    let mut rows = cuts(step, &[0, 1, size / 2, size - 1], size);
    rows.extend([
        row(step, "reset in the body, once").once(Fault::ResetAfter(1)).sound(2 + step.rest(), 1),
        row(step, "silence in the body, once")
            .once(Fault::StallAfter(1))
            .sound(2 + step.rest(), 1)
            .impatient(),
        row(step, "silence in the body, always").always(Fault::StallAfter(1)).gives_up(2).impatient(),
        row(step, "cut in the body, always")
            .always(Fault::CutAfter(1))
            .gives_up(2)
            .says("cut off after 1 byte"),
        row(step, "in chunks").always(Fault::Chunked).sound(1 + step.rest(), 0),
        row(step, "in chunks, cut")
            .once(Fault::All(vec![Fault::Chunked, Fault::CutAfter(1)]))
            .sound(2 + step.rest(), 1),
        row(step, "until the connection closes").always(Fault::UntilClose).sound(1 + step.rest(), 0),
        row(step, "gzip that nobody asked for")
            .always(Fault::ContentEncoding("gzip"))
            .sound(1 + step.rest(), 0),
        row(step, "gzip that nobody asked for, cut")
            .once(Fault::All(vec![Fault::ContentEncoding("gzip"), Fault::CutAfter(20)]))
            .sound(2 + step.rest(), 1),
    ]);
    rows
}

/// Connections that are closed after so many bytes of a body of `size` bytes.
fn cuts(step: Step, offsets: &[usize], size: usize) -> Vec<Row> {
    let cut = |offset: &usize| {
        row(step, format!("cut after {offset} of {size}"))
            .once(Fault::CutAfter(*offset))
            .sound(2 + step.rest(), 1)
    };
    let mut rows: Vec<Row> = offsets.iter().map(cut).collect();
    rows.push(row(step, "cut after the last byte").once(Fault::CutAfter(size)).sound(1 + step.rest(), 0));
    rows
}

pub(super) fn ping() -> Vec<Row> {
    let step = Step::Ping;
    let mut rows = before_the_body(step);
    rows.extend([
        row(step, "400").always(Fault::Status(400)).fatal(1).says("400 Bad Request"),
        row(step, "404").always(Fault::Status(404)).fatal(3).says("404 Not Found"),
        refused_after_failures(step, 404, 3, "404 Not Found"),
    ]);
    rows
}

pub(super) fn token() -> Vec<Row> {
    let step = Step::Token;
    let mut rows = before_the_body(step);
    rows.extend(in_a_document(step, r#"{"token":"token-1"}"#.len()));
    rows.extend([
        row(step, "401").always(Fault::Status(401)).fatal(4).says("401 Unauthorized"),
        row(step, "404").always(Fault::Status(404)).fatal(4).says("404 Not Found"),
        refused_after_failures(step, 401, 4, "401 Unauthorized"),
        row(step, "less than the length says")
            .always(Fault::WrongLength(4096))
            .gives_up(2)
            .says("cut off after"),
        row(step, "more than the length says")
            .always(Fault::WrongLength(10))
            .fatal(4)
            .says("not the JSON of a token"),
        row(step, "a part")
            .always(Fault::StatusWith { status: 206, headers: Vec::new(), body: b"{}".to_vec() })
            .fatal(4)
            .says("neither access_token nor token"),
    ]);
    rows
}

pub(super) fn head() -> Vec<Row> {
    let step = Step::Head;
    let mut rows = before_the_body(step);
    for status in [400, 401, 403, 404, 405, 501] {
        rows.push(row(step, format!("{status}")).always(Fault::Status(status)).sound(1, 0));
    }
    rows.extend([
        row(step, "410").always(Fault::Status(410)).fatal(3).says("410 Gone"),
        refused_after_failures(step, 410, 3, "410 Gone"),
        row(step, "no digest").always(Fault::NoDigestHeader).sound(1, 0),
        row(step, "a length of nothing").always(Fault::WrongLength(0)).sound(1, 0),
        row(step, "no length").always(Fault::Chunked).sound(1, 0),
        row(step, "the length of something encoded").always(Fault::ContentEncoding("gzip")).sound(1, 0),
    ]);
    rows
}

pub(super) fn manifest() -> Vec<Row> {
    let (step, size) = (Step::Manifest, Step::Manifest.manifest_size());
    let mut rows = before_the_body(step);
    rows.extend(in_a_document(step, size));
    let longer = Fault::WrongLength(size as u64 + 1);
    rows.extend([
        row(step, "less than the length says, once").once(longer.clone()).sound(2, 1),
        row(step, "less than the length says, always").always(longer).gives_up(2).says("cut off after"),
        row(step, "more than the length says")
            .always(Fault::WrongLength(size as u64 - 1))
            .fatal(6)
            .says("digest"),
        row(step, "until the connection closes, cut")
            .once(Fault::All(vec![Fault::UntilClose, Fault::CutAfter(size / 2)]))
            .sound(2, 1),
        row(step, "206")
            .always(Fault::StatusWith { status: 206, headers: Vec::new(), body: Vec::new() })
            .fatal(1)
            .says("206"),
        row(step, "416").always(Fault::RangeNotSatisfiable).fatal(1).says("416"),
        row(step, "403").always(Fault::Status(403)).fatal(4).says("403 Forbidden"),
        refused_after_failures(step, 403, 4, "403 Forbidden"),
    ]);
    rows
}

pub(super) fn config() -> Vec<Row> {
    let (step, size) = (Step::Config, Step::Config.config_size());
    let mut rows = before_the_body(step);
    rows.extend(in_a_document(step, size));
    rows.extend([
        row(step, "more than the length says")
            .always(Fault::WrongLength(size as u64 - 1))
            .fatal(6)
            .says("it should have"),
        row(step, "less than the length says")
            .always(Fault::WrongLength(size as u64 + 1))
            .fatal(6)
            .says("it should have"),
        row(step, "until the connection closes, cut")
            .once(Fault::All(vec![Fault::UntilClose, Fault::CutAfter(1)]))
            .sound(2, 1),
        row(step, "206")
            .always(Fault::StatusWith { status: 206, headers: Vec::new(), body: Vec::new() })
            .gives_up(2)
            .says("part"),
        row(step, "416").always(Fault::RangeNotSatisfiable).gives_up(2).says("416"),
        row(step, "404").always(Fault::Status(404)).fatal(3).says("404 Not Found"),
        row(step, "410").always(Fault::Status(410)).fatal(3).says("410 Gone"),
        refused_after_failures(step, 404, 3, "404 Not Found"),
    ]);
    rows
}

pub(super) fn layer() -> Vec<Row> {
    let (step, size) = (Step::Layer, Step::Layer.layer_size());
    let mut rows = before_the_body(step);
    rows.extend(cuts(step, &[0, 1, MIB - 1, MIB, MIB + 1, size - 1], size));
    for offset in [1, MIB - 1, MIB, MIB + 1, size - 1] {
        let cut = row(step, format!("cut after {offset}, then 503"));
        let cut = cut.once(Fault::CutAfter(offset)).always(Fault::Status(503)).gives_up(2);
        rows.push(
            cut.says(format!("cut off after {offset} byte")).says("503 Service Unavailable").keeps(offset),
        );
    }
    rows.extend(layer_bodies(size));
    rows.extend(layer_turns(size));
    rows.push(refused_after_failures(step, 410, 3, "410 Gone"));
    rows
}

/// Bodies of a layer that are other than they should be.
fn layer_bodies(size: usize) -> Vec<Row> {
    let step = Step::Layer;
    let both = |one: Fault, other: Fault| Fault::All(vec![one, other]);
    vec![
        row(step, "reset in the body").once(Fault::ResetAfter(MIB)).sound(2, 1),
        row(step, "silence in the body").once(Fault::StallAfter(MIB)).sound(2, 1).impatient(),
        row(step, "silence, then down")
            .once(Fault::StallAfter(MIB))
            .once(Fault::GoDown(None))
            .gives_up(2)
            .impatient()
            .keeps(MIB),
        row(step, "slow, but never silent")
            .once(Fault::Throttle { bytes_per_second: MIB as u64 })
            .sound(1, 0),
        row(step, "in chunks").always(Fault::Chunked).sound(1, 0),
        row(step, "in chunks, cut").once(both(Fault::Chunked, Fault::CutAfter(MIB))).sound(2, 1),
        row(step, "until the connection closes").always(Fault::UntilClose).sound(1, 0),
        row(step, "until the connection closes, cut")
            .once(both(Fault::UntilClose, Fault::CutAfter(MIB)))
            .sound(2, 1),
        row(step, "gzip that nobody asked for").always(Fault::ContentEncoding("gzip")).sound(1, 0),
        row(step, "gzip that nobody asked for, cut")
            .once(both(Fault::ContentEncoding("gzip"), Fault::CutAfter(MIB)))
            .sound(2, 1),
        row(step, "more than the length says")
            .always(Fault::WrongLength(size as u64 - 1))
            .fatal(6)
            .says("it should have"),
        row(step, "less than the length says")
            .always(Fault::WrongLength(size as u64 + 1))
            .fatal(6)
            .says("it should have"),
    ]
}

/// Servers that change their ways after a cut, and answers that are of no use.
fn layer_turns(size: usize) -> Vec<Row> {
    let step = Step::Layer;
    vec![
        row(step, "cut, and then no ranges")
            .once(Fault::CutAfter(MIB))
            .always(Fault::IgnoreRange)
            .sound(2, 1),
        row(step, "cut, and then another range")
            .once(Fault::CutAfter(MIB))
            .once(Fault::WrongContentRange(format!("bytes 0-{}/{size}", size - 1)))
            .option("--retries=2")
            .sound(3, 2),
        row(step, "cut, and then gzip")
            .once(Fault::CutAfter(MIB))
            .always(Fault::ContentEncoding("gzip"))
            .sound(2, 1),
        row(step, "cut, and then a restart")
            .once(Fault::CutAfter(MIB))
            .once(Fault::GoDown(Some(Duration::from_millis(100))))
            .sound(3, 2)
            .any_retries(),
        row(step, "cut, and then gone")
            .once(Fault::CutAfter(MIB))
            .always(Fault::Status(404))
            .fatal(3)
            .asks(2)
            .tries(2)
            .says("cut off after 1048576 bytes")
            .says("404 Not Found")
            .keeps(MIB),
        row(step, "206")
            .always(Fault::StatusWith { status: 206, headers: Vec::new(), body: Vec::new() })
            .gives_up(2)
            .says("part"),
        row(step, "416").always(Fault::RangeNotSatisfiable).gives_up(2).says("416"),
        row(step, "410").always(Fault::Status(410)).fatal(3).says("410 Gone"),
    ]
}

pub(super) fn segments() -> Vec<Row> {
    let (step, size) = (Step::Segments, Step::Segments.layer_size());
    let ranges = [
        ("another total", Fault::WrongContentRange(format!("bytes 0-{}/99", MIB - 1))),
        ("another start", Fault::WrongContentRange(format!("bytes 5-{}/*", MIB + 4))),
        ("a range that is none", Fault::WrongContentRange("nonsense".into())),
        ("no Content-Range", Fault::MissingContentRange),
        ("several parts", Fault::MultipartRange),
        ("416", Fault::RangeNotSatisfiable),
    ];
    let mut rows = before_the_body(step);
    for (name, fault) in ranges {
        rows.push(row(step, format!("{name}, at first")).once(fault.clone()).sound(4, 1));
        rows.push(row(step, format!("{name}, later")).pass().once(fault.clone()).sound(4, 1));
        let twice = row(step, format!("{name}, twice")).option("--retries=2").pass();
        rows.push(twice.once(fault.clone()).once(fault).sound(4, 2));
    }
    rows.extend(cuts(step, &[0, 1, 512 * KIB, MIB - 1], MIB));
    rows.extend([
        row(step, "no ranges").always(Fault::IgnoreRange).sound(1, 0),
        row(step, "no ranges any more").option("--retries=2").pass().always(Fault::IgnoreRange).sound(4, 2),
        row(step, "gzip that nobody asked for").always(Fault::ContentEncoding("gzip")).sound(1, 0),
        row(step, "gzip later").pass().always(Fault::ContentEncoding("gzip")).sound(2, 0),
        row(step, "in chunks").always(Fault::Chunked).sound(3, 0),
        row(step, "until the connection closes").always(Fault::UntilClose).sound(3, 0),
        row(step, "more than the length says").once(Fault::WrongLength(MIB as u64 - 1)).sound(4, 1),
        row(step, "less than the length says").once(Fault::WrongLength(MIB as u64 + 1)).sound(4, 1),
        row(step, "cut at a segment's end, then 503")
            .once(Fault::CutAfter(MIB))
            .always(Fault::Status(503))
            .gives_up(2)
            .asks(3)
            .says("503")
            .keeps(MIB),
        row(step, "cut in the second segment, then 503")
            .pass()
            .once(Fault::CutAfter(7))
            .always(Fault::Status(503))
            .gives_up(2)
            .asks(3)
            .says("cut off after 7 bytes")
            .keeps(MIB + 7),
        row(step, "a blob of another size").always(Fault::Body(vec![b'x'; size - 1])).gives_up(2),
    ]);
    rows
}

pub(super) fn guarded() -> Vec<Row> {
    let (step, dead) = (Step::Guarded, Fault::TokenDies);
    vec![
        row(step, "a token dies").once(dead.clone()).sound(2, 0),
        row(step, "a token dies in the middle").once(Fault::CutAfter(MIB)).once(dead.clone()).sound(3, 1),
        row(step, "tokens die at once").always(dead.clone()).fatal(4).asks(2).says("401 Unauthorized"),
        row(step, "cut, and then tokens die at once")
            .once(Fault::CutAfter(MIB))
            .always(dead)
            .fatal(4)
            .asks(3)
            .tries(2)
            .says("cut off after 1048576 bytes")
            .says("401 Unauthorized")
            .keeps(MIB),
        row(step, "an expired token is 403").once(Fault::Status(403)).sound(2, 0),
        row(step, "an expired token is 400").once(Fault::Status(400)).sound(2, 0),
        row(step, "403").always(Fault::Status(403)).fatal(4).asks(2).says("403 Forbidden"),
        row(step, "400").always(Fault::Status(400)).fatal(1).asks(2).says("400 Bad Request"),
    ]
}

pub(super) fn storage() -> Vec<Row> {
    let step = Step::Storage;
    let mut rows = before_the_body(step);
    for (status, code, name) in [
        (400, 1, "400 Bad Request"),
        (401, 4, "401 Unauthorized"),
        (403, 4, "403 Forbidden"),
        (404, 3, "404 Not Found"),
        (410, 3, "410 Gone"),
    ] {
        let expired = Fault::Status(status);
        rows.extend([
            row(step, format!("{status}, once")).once(expired.clone()).sound(2, 0),
            row(step, format!("{status} in the middle"))
                .once(Fault::CutAfter(MIB))
                .once(expired.clone())
                .sound(3, 1),
            row(step, format!("{status}, always")).always(expired).fatal(code).asks(2).says(name),
        ]);
    }
    let size = step.layer_size();
    rows.extend(cuts(step, &[0, 1, MIB, size - 1], size));
    rows.extend([
        row(step, "no ranges").once(Fault::CutAfter(MIB)).always(Fault::IgnoreRange).sound(2, 1),
        row(step, "expired and down")
            .once(Fault::CutAfter(MIB))
            .once(Fault::Status(403))
            .once(Fault::GoDown(None))
            .gives_up(2)
            .asks(3)
            .says("cut off after")
            .keeps(MIB),
    ]);
    rows
}

pub(super) fn referrers() -> Vec<Row> {
    let step = Step::Referrers;
    let mut rows = before_the_body(step);
    rows.extend(in_a_document(step, scene::listing_size()));
    rows.extend([
        refused_after_failures(step, 403, 4, "403 Forbidden"),
        // Where there is no such API, the tag is asked for, which there is not either: a failure before changes none of it.
        row(step, "a failure, and then no such API")
            .once(Fault::Status(503))
            .always(Fault::Status(404))
            .sound(2, 1),
    ]);
    rows
}
