//! Many processes and one layout: what they share moves once, nothing is lost, and who looks on meanwhile sees what is named.

use std::fs;

use serde_json::Value;

use crate::support::{
    Fault, FaultRegistry, Gate, KIB, MIB, PushedImage, Request, Run, TestContext, assert_readable,
    check_layout, image, random, random_from,
};

/// An image with the layers that all share, and one of its own.
fn sharing(registry: &FaultRegistry, name: &str) -> PushedImage {
    let seed = 9 + name.bytes().filter(u8::is_ascii_digit).map(u64::from).sum::<u64>();
    let [large, small] = [random_from(seed + 1, MIB), random_from(seed, 300 * KIB)];
    let built = image().layer(large).layer(small).layer(format!("only in {name}"));
    registry.push_as(name, "v1", built)
}

fn full<'a>(context: &'a TestContext, registry: &FaultRegistry, image: &PushedImage) -> Run<'a> {
    context.fetch(registry, image).args(["--ref-name", "full", "--connections", "1"])
}

/// What `ls` names.
fn names(context: &TestContext) -> Vec<String> {
    let json = context.run(["ls", "--json"]).arg(context.out()).success().json();
    json["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["name"].as_str().unwrap().to_owned())
        .collect()
}

/// What of the images' layers was sent: each byte once.
fn assert_sent_once(registry: &FaultRegistry, images: &[PushedImage]) {
    for image in images {
        for (at, digest) in image.layers().into_iter().enumerate() {
            let sent: u64 = registry.requests_for(digest).iter().map(Request::body_sent).sum();
            assert_eq!(sent, image.layer_bytes(at).len() as u64, "{digest}");
        }
    }
}

/// Eight at once, four images twice each: every layer moves once, every image is named once, nothing is left behind.
#[test]
fn eight_processes_share_a_layout() {
    let registry = FaultRegistry::start();
    registry.throttle(4 * MIB as u64);
    let images = ["a", "b", "c", "d"].map(|name| sharing(&registry, name));
    let context = TestContext::new();
    let running: Vec<_> =
        images.iter().chain(&images).map(|image| full(&context, &registry, image).spawn()).collect();
    for running in running {
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
        assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
    }
    assert_sent_once(&registry, &images);
    let mut named = check_layout(&context.out()).ref_names;
    named.sort();
    assert_eq!(named, images.map(|image| image.reference()));
    let verified = context.run(["verify", "--json"]).arg(context.out()).success().json();
    assert_eq!((&verified["findings"], &verified["images"]), (&Value::Array(Vec::new()), &4.into()));
}

/// Half of them are killed again and again, wherever they are: the others are not harmed, at every moment the layout is
/// readable, and in the end nothing is lost.
#[test]
fn dead_processes_harm_nobody() {
    let registry = FaultRegistry::start();
    registry.throttle(4 * MIB as u64);
    let context = TestContext::new();
    let mut images = Vec::new();
    for round in 1..=3 {
        // Each round has layers of its own to come, and those that a killed process of the round before had begun.
        let new = ["a", "b", "c", "d"].map(|name| sharing(&registry, &format!("{name}{round}")));
        let start = registry.blob_bytes_sent();
        let running: Vec<_> =
            new.iter().chain(&new).map(|image| full(&context, &registry, image).spawn()).collect();
        let ids: Vec<u32> = running.iter().map(crate::support::Running::id).collect();
        registry.wait_for_blob_bytes(start + (200 * round * KIB) as u64);
        images.extend(new);
        let mut survivors = Vec::new();
        for (at, process) in running.into_iter().enumerate() {
            if at % 2 == round % 2 {
                process.kill();
                assert_readable(&context.out());
            } else {
                survivors.push(process);
            }
        }
        for process in survivors {
            let outcome = process.wait();
            assert_eq!(outcome.code, Some(0), "{ids:?}: {}", outcome.report());
        }
    }
    for image in &images {
        full(&context, &registry, image).success();
    }
    let mut named = check_layout(&context.out()).ref_names;
    named.sort();
    let mut wanted: Vec<_> = images.iter().map(PushedImage::reference).collect();
    wanted.sort();
    assert_eq!(named, wanted);
    context.run(["verify"]).arg(context.out()).success();
}

/// Beside a fetch that is held anywhere on its way, `ls` shows what is named, `verify` proves it, and neither takes what is
/// being fetched for a part of the layout, or for something that does not belong there.
#[test]
fn who_looks_on_sees_what_is_named() {
    let registry = FaultRegistry::start();
    let first = registry.push_as("first", "v1", image().layer("first"));
    let moments: [fn(&PushedImage) -> String; 3] = [
        |image| image.digest().to_owned(),
        |image| image.config().to_owned(),
        |image| image.layer(0).to_owned(),
    ];
    for (at, moment) in moments.into_iter().enumerate() {
        let second =
            registry.push_as("second", &format!("v{at}"), image().layer(random_from(at as u64 + 20, MIB)));
        let context = TestContext::new();
        full(&context, &registry, &first).success();
        let (gate, held) = (Gate::new(), moment(&second));
        if at == 0 {
            registry.on_manifest(&held).once(Fault::Hold(gate.clone()));
        } else if at == 1 {
            registry.on_blob(&held).once(Fault::Hold(gate.clone()));
        } else {
            registry.on_blob(&held).once(Fault::HoldAfter(MIB / 2, gate.clone()));
        }
        let running = full(&context, &registry, &second).spawn();
        gate.wait_for_arrivals(1);
        assert_eq!(context.out().join(".ocipull").exists(), at == 2, "staging begins with the first layer");
        assert_eq!(names(&context), [first.reference()]);
        let verified = context.run(["verify"]).arg(context.out()).success();
        assert!(verified.stdout.starts_with("ok: 1 image and 3 blobs"), "{}", verified.stdout);
        gate.open();
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
        assert_eq!(names(&context), [first.reference(), second.reference()]);
        check_layout(&context.out());
    }
}

/// What a live process stages is left alone by whoever finishes meanwhile; what a dead one staged is told of, also by a fetch
/// that finds its image up to date, until a fetch of it resumes there.
#[test]
fn staging_of_the_dead_is_told_of_and_that_of_the_living_left() {
    let registry = FaultRegistry::start();
    let large = registry.push_as("large", "v1", image().layer(random(3 * MIB)));
    let small = registry.push_as("small", "v1", image().layer("small"));
    let context = TestContext::new();
    let staging = context.out().join(".ocipull");
    let parts = || -> Vec<_> {
        let names = fs::read_dir(&staging).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".part")).collect()
    };
    let gate = Gate::new();
    registry.on_blob(large.layer(0)).once(Fault::HoldAfter(2 * MIB + MIB / 2, gate.clone()));
    let living = full(&context, &registry, &large).spawn();
    gate.wait_for_arrivals(1);
    registry.wait_until("2 MiB are noted", |_| context.noted_bytes() >= 2 * MIB as u64);
    for _ in 0..2 {
        let outcome = full(&context, &registry, &small).success();
        assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
        assert_eq!(parts().len(), 1);
    }
    living.kill();
    gate.open();
    registry.clear_requests();
    for _ in 0..2 {
        let outcome = full(&context, &registry, &small).success();
        assert!(outcome.stderr.contains("up to date"), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.matches("warning: an interrupted fetch").count(), 1, "{}", outcome.stderr);
        assert_eq!(parts().len(), 1);
    }
    full(&context, &registry, &large).success();
    let sent: u64 = registry.requests_for(large.layer(0)).iter().map(Request::body_sent).sum();
    assert!(sent < 2 * MIB as u64, "{sent}");
    assert!(!staging.exists());
    check_layout(&context.out());
}
