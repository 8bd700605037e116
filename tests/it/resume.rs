//! What was downloaded is never downloaded again: after a cut connection, and after the process was killed.

use crate::support::{Fault, FaultRegistry, Gate, KIB, MIB, TestContext, check_layout, image, random};

/// What a connection may have in flight when its process dies: a MiB that was not noted yet.
const SLACK: u64 = MIB as u64;

/// A cut connection resumes from the last byte received, not from zero.
#[test]
fn a_cut_connection_resumes_with_a_range() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(3 * MIB)));
    registry.on_blob(pushed.layer(0)).once(Fault::CutAfter(MIB));
    let context = TestContext::new();
    // A second connection might split what is left, and the first one's bytes on the way would come on top.
    let report = context.fetch(&registry, &pushed).args(["--connections", "1", "--json"]).success().json();
    assert_eq!(report["retries"], 1);
    let requests = registry.requests_for(pushed.layer(0));
    let size = pushed.layer_bytes(0).len();
    assert_eq!(requests[1].range(), Some(format!("bytes={MIB}-{}", size - 1).as_str()));
    assert_eq!(registry.blob_bytes_sent(), (size + pushed_config(&pushed)) as u64);
    check_layout(&context.out());
}

fn pushed_config(pushed: &crate::support::PushedImage) -> usize {
    usize::try_from(pushed.blob_bytes()).unwrap()
        - (0..pushed.layers().len()).map(|at| pushed.layer_bytes(at).len()).sum::<usize>()
}

/// Killed at 10, 50 and 90 %, the second run downloads only what the first had not.
#[cfg(unix)]
#[test]
fn a_killed_fetch_resumes_where_it_was() {
    for percent in [10, 50, 90] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(random(6 * MIB)).layer(random(5 * MIB)));
        let total = pushed.blob_bytes();
        registry.throttle(64 * MIB as u64);
        let context = TestContext::new();
        let options = ["--connections", "4", "--segment-size", "2MiB"];
        let running = context.fetch(&registry, &pushed).args(options).spawn();
        registry.wait_for_blob_bytes(total * percent / 100);
        running.kill();
        let first = registry.blob_bytes_sent();
        registry.clear_requests();
        let report = context.fetch(&registry, &pushed).args(options).arg("--json").success().json();
        let second = registry.blob_bytes_sent();
        assert!(
            first + second <= total + 4 * SLACK + 512 * KIB as u64,
            "{percent} %: {first} + {second} of {total}"
        );
        assert_eq!(report["results"][0]["status"], "fetched");
        let summary = check_layout(&context.out());
        assert_eq!(summary.diff_ids_proven, 2);
    }
}

/// What comes slowly is noted too: a fetch that is killed again and again gets on with a blob that is no MiB.
#[cfg(unix)]
#[test]
fn slow_bytes_are_not_lost_by_a_kill() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(600 * KIB)));
    let gate = Gate::new();
    registry.on_blob(pushed.layer(0)).once(Fault::HoldAfter(300 * KIB, gate.clone()));
    let context = TestContext::new();
    let running = context.fetch(&registry, &pushed).spawn();
    let journal = format!(".ocipull/{}.journal", pushed.layer(0).replace(':', "-"));
    let is_noted = format!(" {} ", 300 * KIB);
    registry.wait_until("what came is noted", |_| {
        std::fs::read_to_string(context.out().join(&journal)).is_ok_and(|journal| journal.contains(&is_noted))
    });
    running.kill();
    gate.open();
    registry.clear_requests();
    context.fetch(&registry, &pushed).success();
    let asked = registry.requests_for(pushed.layer(0));
    let rest = format!("bytes={}-{}", 300 * KIB, pushed.layer_bytes(0).len() - 1);
    assert_eq!(asked[0].range(), Some(&*rest));
    check_layout(&context.out());
}

/// Against a registry that knows no ranges, the second run still completes: what is there is skipped over.
#[cfg(unix)]
#[test]
fn a_killed_fetch_completes_without_ranges() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(4 * MIB)));
    registry.on_blob(pushed.layer(0)).always(Fault::IgnoreRange);
    registry.throttle(32 * MIB as u64);
    let context = TestContext::new();
    let running = context.fetch(&registry, &pushed).args(["--segment-size", "1MiB"]).spawn();
    registry.wait_for_blob_bytes(2 * MIB as u64);
    running.kill();
    context.fetch(&registry, &pushed).args(["--segment-size", "1MiB"]).success();
    check_layout(&context.out());
}

/// Bytes that an earlier run left and that rotted are noticed, and fetched again from zero.
#[cfg(unix)]
#[test]
fn staged_bytes_that_rotted_are_fetched_again() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(4 * MIB)));
    registry.on_blob(pushed.layer(0)).once(Fault::StallAfter(3 * MIB));
    let context = TestContext::new();
    let running = context.fetch(&registry, &pushed).args(["--connections", "1"]).spawn();
    registry.wait_for_blob_bytes(3 * MIB as u64);
    let staged = context.out().join(".ocipull").join(format!("{}.part", pushed.layer(0).replace(':', "-")));
    let journal = staged.with_extension("journal");
    registry.wait_until("the journal has its records", |_| {
        std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("have "))
    });
    running.kill();
    let mut bytes = std::fs::read(&staged).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&staged, bytes).unwrap();
    context.fetch(&registry, &pushed).success();
    check_layout(&context.out());
}

/// The same when the earlier run left all of the blob: its bytes are nobody's word, and are asked for once more.
#[test]
fn a_whole_staged_blob_that_rotted_is_fetched_again() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(MIB)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    // Back to how a process leaves it that was killed after the last byte and before the proof.
    let (digest, mut bytes) = (pushed.layer(0), pushed.layer_bytes(0).to_vec());
    std::fs::remove_file(context.out().join("blobs").join(digest.replace(':', "/"))).unwrap();
    let staged = context.out().join(".ocipull").join(format!("{}.part", digest.replace(':', "-")));
    std::fs::create_dir(staged.parent().unwrap()).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&staged, &bytes).unwrap();
    let lines = [format!("ocipull-journal 1 {digest} {}", bytes.len()), format!("have 0 {}", bytes.len())];
    std::fs::write(staged.with_extension("journal"), lines.map(|line| checked(&line)).concat()).unwrap();
    registry.clear_requests();
    let outcome = context.fetch(&registry, &pushed).success();
    assert!(outcome.stderr.contains("starting over from zero"), "{}", outcome.stderr);
    assert_eq!(registry.blob_bytes_sent(), bytes.len() as u64);
    check_layout(&context.out());
}

/// A line of a journal, with its checksum.
fn checked(line: &str) -> String {
    let mut checksum = flate2::Crc::new();
    checksum.update(line.as_bytes());
    format!("{line} {:08x}\n", checksum.sum())
}

/// SIGINT and SIGTERM end with 130 and 143, and leave what the next run resumes from.
#[cfg(unix)]
#[test]
fn signals_leave_what_can_be_resumed() {
    for terminate in [false, true] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(random(4 * MIB)));
        registry.on_blob(pushed.layer(0)).once(Fault::StallAfter(3 * MIB + 5));
        let context = TestContext::new();
        let running = context.fetch(&registry, &pushed).args(["--connections", "1"]).spawn();
        registry.wait_for_blob_bytes(3 * MIB as u64 + 5);
        let journal =
            context.out().join(".ocipull").join(format!("{}.journal", pushed.layer(0).replace(':', "-")));
        registry.wait_until("2 MiB are noted", |_| {
            std::fs::read_to_string(&journal).is_ok_and(|text| text.matches("have ").count() >= 2)
        });
        if terminate {
            running.terminate();
        } else {
            running.interrupt();
        }
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(if terminate { 143 } else { 130 }), "{}", outcome.report());
        assert!(outcome.stderr.contains("resume"), "{}", outcome.stderr);
        registry.clear_requests();
        let report = context.fetch(&registry, &pushed).arg("--json").success().json();
        assert_eq!(report["results"][0]["images"][0]["layers"][0]["outcome"], "resumed");
        assert!(registry.blob_bytes_sent() <= 2 * MIB as u64 + 64 * KIB as u64);
        check_layout(&context.out());
    }
}

/// A dead fetch of another image is left as it is, and one line says so.
#[cfg(unix)]
#[test]
fn what_another_dead_fetch_left_stays() {
    let registry = FaultRegistry::start();
    let dead = registry.push_as("dead", "v1", image().layer(random(4 * MIB)));
    registry.on_blob(dead.layer(0)).once(Fault::StallAfter(2 * MIB));
    let context = TestContext::new();
    let running = context.fetch(&registry, &dead).args(["--connections", "1"]).spawn();
    let journal = context.out().join(".ocipull").join(format!("{}.journal", dead.layer(0).replace(':', "-")));
    registry.wait_until("a MiB is noted", |_| {
        std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("have "))
    });
    running.kill();
    let other = registry.push_as("other", "v2", image().layer("other"));
    let outcome = context.fetch(&registry, &other).success();
    assert!(outcome.stderr.contains("interrupted fetch"), "{}", outcome.stderr);
    crate::support::Proof::new().with_staging().run(&context.out()).unwrap();
    context.fetch(&registry, &dead).success();
    check_layout(&context.out());
}
