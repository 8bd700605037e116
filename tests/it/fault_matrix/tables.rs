//! The rows, step by step.

use std::time::Duration;

use crate::support::{Fault, KIB, MIB};

use super::everywhere::{
    before_the_body, cuts, in_a_document, lengths, refused_after_failures, slow, tokens,
};
use super::row::{Row, Step, row};
use super::scene;

pub(super) fn ping() -> Vec<Row> {
    let step = Step::Ping;
    let mut rows = before_the_body(step);
    rows.extend([
        row(step, "400").always(Fault::Status(400)).fatal(1).says("400 Bad Request"),
        row(step, "404").always(Fault::Status(404)).fatal(3).says("404 Not Found"),
        refused_after_failures(step, 404, 3, "404 Not Found"),
        slow(step),
    ]);
    // Only the head counts, of the refusal as of the answer to the credentials.
    for (name, fault) in [
        ("a body cut at once", Fault::CutAfter(0)),
        ("a body cut", Fault::CutAfter(1)),
        ("silence in the body", Fault::StallAfter(1)),
        ("in chunks", Fault::Chunked),
        ("in chunks, cut", Fault::All(vec![Fault::Chunked, Fault::CutAfter(1)])),
        ("until the connection closes", Fault::UntilClose),
        ("less than the length says", Fault::WrongLength(4096)),
        ("more than the length says", Fault::WrongLength(1)),
        ("gzip that nobody asked for", Fault::ContentEncoding("gzip")),
    ] {
        rows.push(row(step, format!("{name}, of the refusal")).once(fault.clone()).sound(1, 0));
        rows.push(row(step, format!("{name}, of the answer")).pass().once(fault).sound(1, 0));
    }
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
    rows.extend(lengths(step, size, "digest"));
    rows.extend([
        row(step, "until the connection closes, cut")
            .once(Fault::All(vec![Fault::UntilClose, Fault::CutAfter(size / 2)]))
            .sound(2, 1),
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
    rows.extend(layer_bodies(step, size));
    rows.extend(layer_turns(step, size));
    rows.extend([
        row(step, "cut, and then gone")
            .once(Fault::CutAfter(MIB))
            .always(Fault::Status(404))
            .fatal(3)
            .asks(2)
            .tries(2)
            .says("cut off after 1048576 bytes")
            .says("404 Not Found")
            .keeps(MIB),
        row(step, "410").always(Fault::Status(410)).fatal(3).says("410 Gone"),
        refused_after_failures(step, 410, 3, "410 Gone"),
    ]);
    rows
}

/// Bodies of a layer that are other than they should be.
fn layer_bodies(step: Step, size: usize) -> Vec<Row> {
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
fn layer_turns(step: Step, size: usize) -> Vec<Row> {
    let ranges = [
        ("another range", Fault::WrongContentRange(format!("bytes 0-{}/{size}", size - 1))),
        ("another total", Fault::WrongContentRange(format!("bytes {MIB}-{}/{}", size - 1, size + 1))),
        ("no Content-Range", Fault::MissingContentRange),
        ("several parts", Fault::MultipartRange),
        ("416", Fault::RangeNotSatisfiable),
    ];
    let turn = |(name, fault): (&str, Fault)| {
        let cut = row(step, format!("cut, and then {name}")).option("--retries=2").once(Fault::CutAfter(MIB));
        cut.once(fault).sound(3, 2)
    };
    let mut rows: Vec<Row> = ranges.into_iter().map(turn).collect();
    rows.extend([
        row(step, "cut, and then no ranges")
            .once(Fault::CutAfter(MIB))
            .always(Fault::IgnoreRange)
            .sound(2, 1),
        row(step, "cut, and then gzip")
            .once(Fault::CutAfter(MIB))
            .always(Fault::ContentEncoding("gzip"))
            .sound(2, 1),
        row(step, "cut, and then a restart")
            .once(Fault::CutAfter(MIB))
            .once(Fault::GoDown(Some(Duration::from_millis(100))))
            .sound(3, 2)
            .any_retries(),
        row(step, "206")
            .always(Fault::StatusWith { status: 206, headers: Vec::new(), body: Vec::new() })
            .gives_up(2)
            .says("part"),
        row(step, "416").always(Fault::RangeNotSatisfiable).gives_up(2).says("416"),
    ]);
    rows
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
    let documents = [Step::Manifest, Step::Config, Step::Referrers];
    let mut rows: Vec<Row> = documents.into_iter().flat_map(|step| tokens(step, 1)).collect();
    rows.extend(tokens(Step::Layer, MIB));
    // Of the referrers, 400 says that there is no such API.
    for step in [Step::Manifest, Step::Config, Step::Layer] {
        let refused = row(step, "400").guarded().always(Fault::Status(400));
        rows.push(refused.fatal(1).asks(2).says("400 Bad Request"));
    }
    rows
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
    rows.extend(layer_bodies(step, size));
    rows.extend(layer_turns(step, size));
    rows.push(
        row(step, "expired and down")
            .once(Fault::CutAfter(MIB))
            .once(Fault::Status(403))
            .once(Fault::GoDown(None))
            .gives_up(2)
            .asks(3)
            .says("cut off after")
            .keeps(MIB),
    );
    rows
}

pub(super) fn referrers() -> Vec<Row> {
    let step = Step::Referrers;
    let mut rows = before_the_body(step);
    let size = scene::listing_size();
    rows.extend(in_a_document(step, size));
    rows.extend(lengths(step, size, "manifest"));
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
