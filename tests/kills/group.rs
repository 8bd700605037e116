//! Several images in one command: they are named together, and a kill at any step leaves those of before and whole ones.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::points::{record, spread};
use crate::support::{
    FaultRegistry, Outcome, PushedImage, TestContext, assert_readable, check_layout, image, sha256,
};

/// More than one write of `index.json` could name by chance.
const IMAGES: usize = 5;

/// Images that share a layer, in a registry of their own.
struct Several {
    registry: FaultRegistry,
    images: Vec<PushedImage>,
}

impl Several {
    fn new() -> Self {
        let registry = FaultRegistry::start();
        let pushed = |at: usize| {
            let built = image().layer("shared").layer(format!("only in {at}"));
            registry.push_as("app", &format!("v{at}"), built)
        };
        let images = (0..IMAGES).map(pushed).collect();
        Self { registry, images }
    }

    fn fetch(&self, context: &TestContext, variables: &[(&str, &str)]) -> Outcome {
        let references = self.images.iter().map(PushedImage::reference);
        let mut run = context.run(["fetch", "--ref-name", "tag"]).args(references).arg(context.out());
        for (name, value) in variables {
            run = run.env(name, value);
        }
        run.run()
    }
}

/// A fetch that nothing befalls: the steps that it passes.
fn passages(several: &Several) -> Vec<(String, u64)> {
    let context = TestContext::in_memory();
    let path = context.path().join("record");
    let outcome = several.fetch(&context, &[("OCIPULL_FAIL_RECORD", path.to_str().unwrap())]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    record(&context)
}

/// `index.json` is written once for all that is done within a second, not once an image.
#[test]
fn images_of_one_command_are_named_together() {
    let several = Several::new();
    let start = Instant::now();
    let passed = passages(&several);
    // One is the empty index of a new layout, one the last group; the others are a second apart.
    let most = 2 + usize::try_from(start.elapsed().as_secs()).unwrap();
    let written = passed.iter().filter(|(point, _)| point == "rename:index.json").count();
    assert!((2..=most).contains(&written), "{written} writes");
    let synced = passed.iter().filter(|(point, _)| point == "sync-folder:blobs/sha256").count();
    assert!(synced < IMAGES, "{synced} times");
}

/// Whenever the process dies: what is named is whole, what is not is at worst whole blobs without a name, and the next run
/// completes without asking for a blob that is there.
#[test]
fn a_kill_among_several_images_loses_none() {
    let several = Several::new();
    let mut counts = std::collections::BTreeMap::new();
    for (point, _) in passages(&several) {
        *counts.entry(point).or_insert(0) += 1;
    }
    let killed = AtomicUsize::new(0);
    for (point, count) in counts.iter().filter(|(point, _)| !point.starts_with("read:")) {
        for passage in spread(*count, 3) {
            let order = format!("{point}#{passage}={}", if passage % 2 == 0 { "kill-after" } else { "kill" });
            let context = TestContext::in_memory();
            let outcome = several.fetch(&context, &[("OCIPULL_FAIL_AT", &order)]);
            killed.fetch_add(usize::from(outcome.code.is_none()), Ordering::Relaxed);
            let there = examine(&several, &context, &outcome);
            several.registry.clear_requests();
            let again = several.fetch(&context, &[]);
            assert_eq!(again.code, Some(0), "{order}: {}", again.report());
            for digest in &there {
                assert!(
                    several.registry.requests_for(digest).is_empty(),
                    "{order}: {digest} is asked for again"
                );
            }
            let digests = check_layout(&context.out()).digests;
            let wanted: BTreeSet<&str> = several.images.iter().map(PushedImage::digest).collect();
            assert_eq!(digests.iter().map(String::as_str).collect::<BTreeSet<_>>(), wanted, "{order}");
        }
    }
    let killed = killed.into_inner();
    assert!(killed >= 30, "{killed} kills");
}

/// A sync that fails when several images are named is an error of all of them: trying each again would call lost what is lost
/// no more.
#[test]
fn a_failed_sync_is_every_images_error() {
    let several = Several::new();
    let passed = passages(&several);
    let count = |point: &str| passed.iter().filter(|(passed, _)| passed == point).count();
    for point in ["sync-folder:layout", "sync-folder:blobs/sha256", "sync:new"] {
        let context = TestContext::in_memory();
        // The last one: that of the write which names them.
        let order = format!("{point}#{}=EIO", count(point));
        let outcome = several.fetch(&context, &[("OCIPULL_FAIL_AT", &order)]);
        assert_eq!((outcome.code, &*outcome.stdout), (Some(1), ""), "{order}: {}", outcome.report());
        let failures = outcome.stderr.matches("error: cannot fetch").count();
        assert_eq!(failures, IMAGES, "{order}: {}", outcome.report());
        assert_eq!(several.fetch(&context, &[]).code, Some(0));
        check_layout(&context.out());
    }
}

/// Holds what is left against what was printed: an image that was told of is named. Gives the layers under their final names.
fn examine(several: &Several, context: &TestContext, outcome: &Outcome) -> BTreeSet<String> {
    let blobs = fs::read_dir(context.out().join("blobs/sha256")).into_iter().flatten();
    let mut there = BTreeSet::new();
    for blob in blobs.map(|entry| entry.unwrap().path()) {
        let digest = format!("sha256:{}", blob.file_name().unwrap().to_str().unwrap());
        assert_eq!(sha256(&fs::read(&blob).unwrap()), digest, "a blob under its final name");
        there.insert(digest);
    }
    let is_layout = context.out().join("oci-layout").exists();
    let named = if is_layout { assert_readable(&context.out()).digests } else { Vec::new() };
    for image in &several.images {
        let told = outcome.stdout.contains(image.digest());
        assert!(
            !told || named.iter().any(|digest| digest == image.digest()),
            "{} was told of",
            image.digest()
        );
    }
    let layers: BTreeSet<&str> = several.images.iter().flat_map(PushedImage::layers).collect();
    there.retain(|digest| layers.contains(&**digest));
    there
}
