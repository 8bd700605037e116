//! Many images in one command: they are named together, soon, and in the order in which they were asked for.

use crate::support::{Fault, FaultRegistry, Gate, PushedImage, TestContext, check_layout, image};

fn push(registry: &FaultRegistry, repository: &str, tag: &str) -> PushedImage {
    registry.push_as(repository, tag, image().layer("shared").layer(format!("only in {repository}:{tag}")))
}

/// An image that is done gets its name while the next one is still downloaded: whoever waits for it can have it.
#[test]
fn what_is_done_is_named_while_the_next_is_downloaded() {
    let registry = FaultRegistry::start();
    let images = ["v1", "v2", "v3"].map(|tag| push(&registry, "app", tag));
    let gate = Gate::new();
    registry.on_blob(images[2].layer(1)).once(Fault::Hold(gate.clone()));
    let context = TestContext::new();
    let references = images.each_ref().map(PushedImage::reference);
    let running = context.run(["fetch"]).args(&references).arg(context.out()).spawn();
    gate.wait_for_arrivals(1);
    let named = || {
        let index = std::fs::read_to_string(context.out().join("index.json")).unwrap_or_default();
        images.each_ref().map(|image| index.contains(image.digest()))
    };
    registry.wait_until("the first two are named", |_| named() == [true, true, false]);
    context.run(["verify", "./out"]).success();
    gate.open();
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let expected = images.each_ref().map(|image| format!("{}@{}", image.reference(), image.digest()));
    assert_eq!(lines, expected);
    assert_eq!(check_layout(&context.out()).digests, images.each_ref().map(PushedImage::digest));
}

/// A name that an image of the same command has is refused like any other, before anything is downloaded.
#[test]
fn a_name_that_was_given_a_moment_ago_is_taken() {
    let registry = FaultRegistry::start();
    let (one, other) = (push(&registry, "one", "v1"), push(&registry, "other", "v1"));
    let context = TestContext::new();
    let run = context.run(["fetch", "--ref-name", "tag", &one.reference(), &other.reference(), "./out"]);
    let outcome = run.fails_with(2);
    assert!(outcome.stderr.contains("--replace"), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, format!("{}@{}\n", one.reference(), one.digest()));
    assert_eq!(registry.requests_for(other.layer(1)).len(), 0);
    assert_eq!(check_layout(&context.out()).digests, [one.digest()]);
}

/// The same image twice in one command is there already the second time, by its tag and by its digest.
#[test]
fn the_same_image_twice_is_up_to_date() {
    let registry = FaultRegistry::start();
    let pushed = push(&registry, "app", "v1");
    let context = TestContext::new();
    let references = [pushed.reference(), pushed.reference(), pushed.reference_by_both()];
    let outcome = context.run(["fetch", "--json"]).args(&references).arg("./out").success();
    let results = outcome.json()["results"].clone();
    let statuses: Vec<&str> = (0..3).filter_map(|at| results[at]["status"].as_str()).collect();
    assert_eq!(&statuses[..2], ["fetched", "up-to-date"]);
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 1);
    check_layout(&context.out());
}

/// A name that an image of the same command gives up is free for the next one.
#[test]
fn a_name_that_is_given_up_in_the_same_command_is_free() {
    let registry = FaultRegistry::start();
    let (one, other) = (push(&registry, "one", "v1"), push(&registry, "other", "latest"));
    let context = TestContext::new();
    context.run(["fetch", "--ref-name", "=latest", &one.reference(), "./out"]).success();
    context.run(["fetch", "--ref-name", "tag", &one.reference(), &other.reference(), "./out"]).success();
    assert_eq!(check_layout(&context.out()).ref_names, ["v1", "latest"]);
}
