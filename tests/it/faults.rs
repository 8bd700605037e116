//! What networks and servers do to a download, and that nothing is asked for twice because of it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{
    Fault, FaultRegistry, Gate, MIB, Outcome, PushedImage, TestContext, assert_readable, check_layout,
    http_date, image, random, text,
};

/// Parallel ranges of a MiB, one connection at a time where the order of requests matters.
const RANGES: [&str; 4] = ["--segment-size", "1MiB", "--connections", "1"];

fn large(registry: &FaultRegistry) -> PushedImage {
    registry.push(image().layer(random(4 * MIB)))
}

/// Fails with this code, leaves a readable layout that names nothing, and succeeds after the registry was mended.
fn fails_then_recovers(
    context: &TestContext,
    registry: &FaultRegistry,
    pushed: &PushedImage,
    options: &[&str],
    code: i32,
) -> Outcome {
    let outcome = context.fetch(registry, pushed).args(options).fails_with(code);
    assert!(assert_readable(&context.out()).digests.is_empty(), "{}", outcome.report());
    registry.mend();
    context.fetch(registry, pushed).success();
    assert_eq!(check_layout(&context.out()).digests, [pushed.digest()]);
    outcome
}

/// Checks every case on a thread of its own: what these tests do is mostly waiting.
fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let check = &check;
            scope.spawn(move || check(case));
        }
    });
}

/// Cut connections cost what was not received, whether the server says the length, sends chunks, or closes.
#[test]
fn cut_bodies_go_on_where_they_stopped() {
    at_once([None, Some(Fault::Chunked)], |framing| {
        let registry = FaultRegistry::start();
        let pushed = large(&registry);
        let fault = |bytes| Fault::All(framing.clone().into_iter().chain([Fault::CutAfter(bytes)]).collect());
        registry.on_blob(pushed.layer(0)).once(fault(MIB / 2));
        registry.on_blob(pushed.layer(0)).once(fault(MIB + 7));
        registry.on_blob(pushed.layer(0)).once(fault(1));
        let context = TestContext::new();
        let report =
            context.fetch(&registry, &pushed).args(["--connections", "1", "--json"]).success().json();
        assert_eq!(report["retries"], 3);
        let starts: Vec<String> = (registry.requests_for(pushed.layer(0)).iter())
            .map(|request| {
                request.range().unwrap_or("bytes=0-").split('-').next().unwrap_or_default().to_owned()
            })
            .collect();
        let second = MIB / 2 + MIB + 7;
        let expected = [0, MIB / 2, second, second + 1].map(|start| format!("bytes={start}"));
        assert_eq!(starts, expected);
        assert_eq!(registry.blob_bytes_sent(), pushed.blob_bytes());
        check_layout(&context.out());
    });
}

/// A reset may lose what was on its way; what arrived is kept.
#[test]
fn reset_connections_go_on() {
    let registry = FaultRegistry::start();
    let pushed = large(&registry);
    registry.on_blob(pushed.layer(0)).times(2, Fault::ResetAfter(MIB));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    assert!(registry.blob_bytes_sent() <= pushed.blob_bytes() + 2 * MIB as u64);
    check_layout(&context.out());
}

/// Silence counts as failure after the stall timeout, in a body and before it.
#[test]
fn a_stall_is_a_failure_that_passes() {
    let gate = Gate::new();
    for fault in [Fault::StallAfter(MIB), Fault::Hold(gate.clone())] {
        let registry = FaultRegistry::start();
        let pushed = large(&registry);
        registry.on_blob(pushed.layer(0)).once(fault);
        let context = TestContext::new();
        let outcome = context
            .fetch(&registry, &pushed)
            .args(["--stall-timeout", "300ms", "--connections", "1"])
            .success();
        assert!(outcome.stderr.contains("nothing came for 0.3 s"), "{}", outcome.stderr);
        assert_eq!(registry.blob_bytes_sent(), pushed.blob_bytes());
        check_layout(&context.out());
    }
    gate.open();
}

/// What passes is tried again, whatever it is about: name, manifest, config or layer.
#[test]
fn passing_statuses_are_tried_again() {
    at_once([408, 429, 500, 502, 503, 504, 599], |status| {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(text(3000)));
        registry.on_head("v1").once(Fault::Status(status));
        registry.on_manifest(pushed.digest()).once(Fault::Status(status));
        registry.on_blob(pushed.config()).once(Fault::Status(status));
        registry.on_blob(pushed.layer(0)).once(Fault::Status(status));
        let context = TestContext::new();
        let report = context.fetch(&registry, &pushed).arg("--json").success().json();
        assert_eq!((&report["retries"], &report["requests"]), (&4.into(), &8.into()), "{status}");
        check_layout(&context.out());
    });
}

/// What does not pass is not tried again.
#[test]
fn final_statuses_are_final() {
    for (status, code) in [(400, 1), (401, 4), (403, 4), (404, 3)] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(text(3000)));
        registry.on_blob(pushed.layer(0)).always(Fault::Status(status));
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).fails_with(code);
        assert_eq!(registry.requests_for(pushed.layer(0)).len(), 1, "{status}");
        let said = if status == 401 { "authentication".to_owned() } else { status.to_string() };
        for named in [pushed.layer(0), &registry.host(), &said] {
            assert!(outcome.stderr.contains(named), "{named} in {}", outcome.stderr);
        }
        assert!(assert_readable(&context.out()).digests.is_empty());
    }
}

/// An announced wait is sat out, in seconds and as a date, and said.
#[test]
fn retry_after_is_obeyed() {
    at_once([false, true], |is_date| {
        let (value, at_least) =
            if is_date { (http_date(Duration::from_secs(2)), 900) } else { ("1".to_owned(), 1000) };
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(text(3000)));
        registry.on_blob(pushed.layer(0)).once(Fault::RetryAfter { status: 429, value });
        let context = TestContext::new();
        let start = Instant::now();
        let outcome = context.fetch(&registry, &pushed).success();
        assert!(start.elapsed() >= Duration::from_millis(at_least), "{:?}", start.elapsed());
        assert!(outcome.stderr.contains("as it asked"), "{}", outcome.stderr);
        check_layout(&context.out());
    });
}

/// A wait that is no number and no date means the usual back-off; so does a date that has passed.
#[test]
fn a_retry_after_that_says_nothing_is_ignored() {
    at_once(["soon".to_owned(), "-1".to_owned(), http_date(Duration::ZERO)], |value| {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(text(3000)));
        registry.on_blob(pushed.layer(0)).once(Fault::RetryAfter { status: 503, value });
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).success();
        assert!(!outcome.stderr.contains("as it asked"), "{}", outcome.stderr);
        check_layout(&context.out());
    });
}

/// A wait of more than two minutes ends the fetch at once, and the time is named.
#[test]
fn a_long_wait_ends_the_fetch() {
    for value in ["3600".to_owned(), http_date(Duration::from_hours(1))] {
        let registry = FaultRegistry::start();
        let pushed = large(&registry);
        registry.on_blob(pushed.layer(0)).always(Fault::RetryAfter { status: 429, value });
        let context = TestContext::new();
        let outcome = fails_then_recovers(&context, &registry, &pushed, &[], 5);
        let says_when =
            ["come back after 1h", "come back after 59m 5"].map(|words| outcome.stderr.contains(words));
        assert!(says_when.contains(&true), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("429"), "{}", outcome.stderr);
    }
}

/// At the end: exit 5, the first cause and not the last, how many tries, and that the next run resumes.
#[test]
fn exhausted_retries_keep_the_first_cause() {
    let registry = FaultRegistry::start();
    let pushed = large(&registry);
    registry.on_blob(pushed.layer(0)).once(Fault::Status(502));
    registry.on_blob(pushed.layer(0)).always(Fault::CloseBeforeResponse);
    let context = TestContext::new();
    let outcome = fails_then_recovers(&context, &registry, &pushed, &["--retries", "2"], 5);
    for words in ["502 Bad Gateway", "3 tries", "resume", pushed.layer(0), &pushed.reference()] {
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
    }
}

/// Bytes that came before the end of the retries are there for the next run.
#[test]
fn what_came_before_the_end_is_kept() {
    let registry = FaultRegistry::start();
    let pushed = large(&registry);
    registry.on_blob(pushed.layer(0)).once(Fault::CutAfter(3 * MIB));
    registry.on_blob(pushed.layer(0)).always(Fault::Status(503));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--retries", "1", "--connections", "1"]).fails_with(5);
    assert!(assert_readable(&context.out()).digests.is_empty());
    registry.mend();
    registry.clear_requests();
    let report = context.fetch(&registry, &pushed).arg("--json").success().json();
    assert_eq!(report["results"][0]["images"][0]["layers"][0]["outcome"], "resumed");
    let (size, sent) = (pushed.layer_bytes(0).len() as u64, registry.blob_bytes_sent());
    assert!(sent <= size - 3 * MIB as u64 + 10_000, "{sent}");
    check_layout(&context.out());
}

/// Real progress refills the budget: five cuts and one retry do, when a MiB lies between them.
#[test]
fn progress_refills_the_budget() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(6 * MIB)));
    registry.on_blob(pushed.layer(0)).times(5, Fault::CutAfter(MIB));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--retries", "1"]).success();
    assert_eq!(registry.blob_bytes_sent(), pushed.blob_bytes());
    check_layout(&context.out());
}

/// Bytes that come again are no progress: a stream that always breaks at the same place is given up.
#[test]
fn repetition_is_no_progress() {
    at_once([Fault::IgnoreRange, Fault::ContentEncoding("gzip")], |fault| {
        let registry = FaultRegistry::start();
        let pushed = large(&registry);
        registry.on_blob(pushed.layer(0)).always(Fault::All(vec![fault, Fault::CutAfter(2 * MIB)]));
        let context = TestContext::new();
        let outcome = fails_then_recovers(&context, &registry, &pushed, &["--retries", "2"], 5);
        assert!(outcome.stderr.contains("cut off"), "{}", outcome.stderr);
    });
}

/// Wrong answers to a range cost the attempt and no byte on disk.
#[test]
fn wrong_ranges_cost_the_attempt() {
    let wrong = [
        Fault::WrongContentRange("bytes 0-1048575/99".to_owned()),
        Fault::WrongContentRange("bytes 5-1048580/*".to_owned()),
        Fault::WrongContentRange("nonsense".to_owned()),
        Fault::MissingContentRange,
        Fault::RangeNotSatisfiable,
        Fault::MultipartRange,
    ];
    at_once(wrong, |fault| {
        let registry = FaultRegistry::start();
        let pushed = large(&registry);
        registry.on_blob(pushed.layer(0)).once(Fault::CutAfter(MIB / 2));
        registry.on_blob(pushed.layer(0)).once(fault.clone());
        let context = TestContext::new();
        let report = context.fetch(&registry, &pushed).args(RANGES).arg("--json").success().json();
        assert_eq!(report["retries"], 2, "{fault:?}");
        let wasted = registry.blob_bytes_sent() - pushed.blob_bytes();
        assert!(wasted <= 1_100_000, "{fault:?}: {wasted} bytes more than there are");
        check_layout(&context.out());
    });
}

/// A server that never gets a range right is asked for the blob as one stream.
#[test]
fn repeated_wrong_ranges_end_in_one_stream() {
    at_once([Fault::MissingContentRange, Fault::RangeNotSatisfiable, Fault::MultipartRange], |fault| {
        let registry = FaultRegistry::start();
        let pushed = large(&registry);
        registry.on_blob(pushed.layer(0)).times(2, fault.clone());
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(RANGES).success();
        let requests = registry.requests_for(pushed.layer(0));
        assert_eq!((requests.len(), requests[2].range()), (3, None), "{fault:?}: {:?}", registry.asked());
        check_layout(&context.out());
    });
}

/// A server, or what stands before it, that refuses a range by a status and brings the whole: that costs no try. Where the whole is
/// refused as well, that is the answer.
#[test]
fn a_refused_range_is_asked_for_as_a_whole() {
    at_once([(400, 1), (403, 4), (405, 1), (501, 5)], |(status, code)| {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(random(3 * MIB)));
        let ranges = || {
            let asked = registry.requests_for(pushed.layer(0));
            asked.iter().map(|request| request.range().is_some()).collect::<Vec<_>>()
        };
        let options = ["--retries", "0", "--json"];
        let context = TestContext::new();
        registry.on_blob(pushed.layer(0)).once(Fault::Status(status));
        let report = context.fetch(&registry, &pushed).args(options).success().json();
        assert_eq!((report["retries"].as_u64(), ranges()), (Some(0), vec![true, false]), "{status}");
        check_layout(&context.out());

        registry.clear_requests();
        registry.on_blob(pushed.layer(0)).always(Fault::Status(status));
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(options).fails_with(code);
        assert_eq!(ranges(), [true, false], "{status}");
    });
}

/// What may as well pass, a 500 or a closed connection, is asked again as it was once, and then for the whole.
#[test]
fn a_range_that_fails_twice_is_asked_for_as_a_whole() {
    at_once([Fault::Status(500), Fault::CloseBeforeResponse], |fault| {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(random(3 * MIB)));
        registry.on_blob(pushed.layer(0)).times(2, fault.clone());
        let context = TestContext::new();
        context.fetch(&registry, &pushed).success();
        let asked = registry.requests_for(pushed.layer(0));
        let ranges: Vec<_> = asked.iter().map(|request| request.range().is_some()).collect();
        assert_eq!(ranges, [true, true, false], "{fault:?}");
        check_layout(&context.out());
    });
}

/// A 206 with all of a blob, to a request for all of it, is the blob; one with less is not.
#[test]
fn the_whole_may_come_as_a_part() {
    for (cut, retries) in [(0, 0), (1, 1)] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer("small"));
        let body = pushed.layer_bytes(0);
        let (end, size) = (body.len() - cut, body.len());
        let range = format!("bytes 0-{}/{size}", end - 1);
        let headers = vec![("Content-Range", range)];
        let part = Fault::StatusWith { status: 206, headers, body: body[..end].to_vec() };
        registry.on_blob(pushed.layer(0)).once(part);
        let context = TestContext::new();
        let report = context.fetch(&registry, &pushed).arg("--json").success().json();
        assert_eq!(report["retries"], retries);
        check_layout(&context.out());
    }
}

/// No ranges at all: one request, one stream.
#[test]
fn a_server_without_ranges_is_asked_once() {
    let registry = FaultRegistry::start();
    let pushed = large(&registry);
    registry.on_blob(pushed.layer(0)).always(Fault::IgnoreRange);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--segment-size", "1MiB"]).success();
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 1);
    assert_eq!(registry.blob_bytes_sent(), pushed.blob_bytes());
    check_layout(&context.out());
}

/// One that honours ranges and then does not: what is on disk stays, and the blob comes as one stream in the end.
#[test]
fn a_server_that_stops_honouring_ranges() {
    let registry = FaultRegistry::start();
    let pushed = large(&registry);
    registry.on_blob(pushed.layer(0)).once(Fault::All(Vec::new()));
    registry.on_blob(pushed.layer(0)).always(Fault::IgnoreRange);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(RANGES).success();
    assert!(registry.requests_for(pushed.layer(0)).len() <= 4, "{:?}", registry.asked());
    check_layout(&context.out());
}

/// Bodies without a length are bodies.
#[test]
fn bodies_without_a_length_are_taken() {
    for fault in [Fault::Chunked, Fault::UntilClose] {
        let registry = FaultRegistry::start();
        let pushed = large(&registry);
        registry.on_path("/v2/app/").always(fault);
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(RANGES).success();
        assert_eq!(registry.blob_bytes_sent(), pushed.blob_bytes());
        check_layout(&context.out());
    }
}

/// A length that is not the descriptor's is not the blob, and a body shorter than its length was cut.
#[test]
fn lengths_that_do_not_fit() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(50_000)));
    let size = pushed.layer_bytes(0).len();
    let context = TestContext::new();
    registry.on_blob(pushed.layer(0)).always(Fault::Truncate(size - 1));
    let outcome = fails_then_recovers(&context, &registry, &pushed, &[], 6);
    for named in [&size.to_string(), &(size - 1).to_string()] {
        assert!(outcome.stderr.contains(named), "{named} in {}", outcome.stderr);
    }
    let context = TestContext::new();
    registry.on_blob(pushed.layer(0)).always(Fault::WrongLength(size as u64 + 1));
    fails_then_recovers(&context, &registry, &pushed, &[], 6);
    let context = TestContext::new();
    registry
        .on_blob(pushed.layer(0))
        .always(Fault::All(vec![Fault::Truncate(100), Fault::WrongLength(size as u64)]));
    fails_then_recovers(&context, &registry, &pushed, &["--retries", "1"], 5);
}

/// A connection that is closed in place of an answer is tried again; a config that is cut is too.
#[test]
fn connections_closed_before_the_answer() {
    let registry = FaultRegistry::start();
    let pushed = large(&registry);
    registry.on_head("v1").once(Fault::CloseBeforeResponse);
    registry.on_blob(pushed.config()).once(Fault::CutAfter(20));
    registry.on_blob(pushed.layer(0)).once(Fault::CloseBeforeResponse);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).args(["--connections", "1"]).success();
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 2, "{}", outcome.report());
    check_layout(&context.out());
}

/// Nobody listens: exit 5 after the retries, with what the system said, and no folder.
#[test]
fn a_registry_that_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let context = TestContext::new();
    let reference = format!("{address}/app:v1");
    let outcome = context.run(["fetch", "--retries", "1", &reference]).arg(context.out()).fails_with(5);
    for words in [reference.as_str(), "cannot connect", "refused", "2 tries"] {
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
    }
    assert!(!context.out().exists());
}
