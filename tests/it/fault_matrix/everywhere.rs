//! What befalls any step: rows that differ in the step only.

use std::time::Duration;

use crate::support::Fault;

use super::places;
use super::row::{Row, Step, row};

/// What every answer can suffer, whatever it is about: refusals that pass, connections that break before it or in its head, and
/// ways that lead nowhere.
pub(super) fn before_the_body(step: Step) -> Vec<Row> {
    [refusals(step), breaks(step), handshakes(step)].concat()
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
    let passing = [408, 429, 500, 502, 503, 504];
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
pub(super) fn refused_after_failures(step: Step, status: u16, code: i32, name: &str) -> Row {
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

/// A connection that is closed without an answer, and then handshakes for the next ones that are cut: servers do so that go
/// down and come up again behind somebody who listens for them.
fn handshakes(step: Step) -> Vec<Row> {
    let closed = |cut| Fault::All(vec![Fault::CutHandshakes(cut), Fault::CloseBeforeResponse]);
    let mut rows = vec![
        row(step, "closed, and then all handshakes cut")
            .in_tls()
            .once(closed(usize::MAX))
            .gives_up(2)
            .asks(1)
            .says("peer closed connection")
            .says("closed the connection during the TLS handshake"),
    ];
    let once = row(step, "closed, and then a handshake cut").in_tls().option("--retries=2");
    rows.push(once.once(closed(1)).sound(2 + step.rest(), 2));
    rows
}

/// Lengths of a document that are not its own, and answers to ranges that nobody asked for. A document that is longer than is
/// said ends too early, where `finds` is what is wrong with it.
pub(super) fn lengths(step: Step, size: usize, finds: &str) -> Vec<Row> {
    let longer = Fault::WrongLength(size as u64 + 1);
    let part = Fault::StatusWith { status: 206, headers: Vec::new(), body: Vec::new() };
    vec![
        row(step, "less than the length says, once").once(longer.clone()).sound(2 + step.rest(), 1),
        row(step, "less than the length says, always").always(longer).gives_up(2).says("cut off after"),
        row(step, "more than the length says")
            .always(Fault::WrongLength(size as u64 - 1))
            .fatal(6)
            .says(finds),
        row(step, "206").always(part).fatal(1).says("206"),
        row(step, "416").always(Fault::RangeNotSatisfiable).fatal(1).says("416"),
    ]
}

/// What the body of a document can suffer, as long as its length is told.
pub(super) fn in_a_document(step: Step, size: usize) -> Vec<Row> {
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
        slow(step),
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

/// A body that takes longer than silence may last, and is never silent.
pub(super) fn slow(step: Step) -> Row {
    row(step, "byte by byte")
        .option("--stall-timeout=1s")
        .once(Fault::Drip(Duration::from_millis(1200)))
        .sound(1 + step.rest(), 0)
}

/// Connections that are closed after so many bytes of a body of `size` bytes.
pub(super) fn cuts(step: Step, offsets: &[usize], size: usize) -> Vec<Row> {
    let cut = |offset: &usize| {
        row(step, format!("cut after {offset} of {size}"))
            .once(Fault::CutAfter(*offset))
            .sound(2 + step.rest(), 1)
    };
    let mut rows: Vec<Row> = offsets.iter().map(cut).collect();
    rows.push(row(step, "cut after the last byte").once(Fault::CutAfter(size)).sound(1 + step.rest(), 0));
    rows
}

/// What befalls a token that served for what came before, after a cut too.
pub(super) fn tokens(step: Step, offset: usize) -> Vec<Row> {
    let (dead, rest) = (Fault::TokenDies, step.rest());
    let row = |name: &str| row(step, name).guarded();
    vec![
        row("a token dies").once(dead.clone()).sound(2 + rest, 0),
        row("a token dies in the middle").once(Fault::CutAfter(offset)).once(dead.clone()).sound(3 + rest, 1),
        row("tokens die at once").always(dead.clone()).fatal(4).asks(2).says("401 Unauthorized"),
        row("cut, and then tokens die at once")
            .once(Fault::CutAfter(offset))
            .always(dead)
            .fatal(4)
            .asks(3)
            .tries(2)
            .says(format!("cut off after {offset} byte"))
            .says("401 Unauthorized")
            .keeps(if step == Step::Layer { offset } else { 0 }),
        row("an expired token is 403").once(Fault::Status(403)).sound(2 + rest, 0),
        row("an expired token is 400").once(Fault::Status(400)).sound(2 + rest, 0),
        row("403").always(Fault::Status(403)).fatal(4).asks(2).says("403 Forbidden"),
    ]
}
