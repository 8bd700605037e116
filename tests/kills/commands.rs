//! SIGKILL at every step of what is no plain fetch: one that takes along what belongs to an image, a conversion, a repair.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::points::{record, spread};
use crate::repairs::Broken;
use crate::support::{
    FaultRegistry, Outcome, Proof, PushedImage, TestContext, artifact, assert_readable, image, index, sha256,
};

/// A run with variables of the environment.
type Run<'a> = &'a dyn Fn(&TestContext, &[(&str, &str)]) -> Outcome;

/// Runs a command in a folder of `set`, once for each step that it passes and a few of its passages, and kills it there. `holds` is told
/// of the folder then; `is_done` when the same command was run once more and ended well. Gives how many times it was killed.
fn killed_at_each_step(
    set: &dyn Fn() -> TestContext,
    run: Run,
    holds: &dyn Fn(&TestContext),
    is_done: &dyn Fn(&TestContext),
) -> BTreeMap<String, usize> {
    let whole = set();
    let path = whole.path().join("record");
    let outcome = run(&whole, &[("OCIPULL_FAIL_RECORD", path.to_str().unwrap())]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    is_done(&whole);
    let mut counts = BTreeMap::<String, usize>::new();
    for (point, _) in record(&whole) {
        *counts.entry(point).or_default() += 1;
    }
    let mut killed = BTreeMap::<String, usize>::new();
    for (point, count) in counts.iter().filter(|(point, _)| !point.starts_with("read:")) {
        for passage in spread(*count, 3) {
            for action in ["kill", "kill-after"] {
                let context = set();
                let outcome = run(&context, &[("OCIPULL_FAIL_AT", &format!("{point}#{passage}={action}"))]);
                *killed.entry(point.clone()).or_default() += usize::from(outcome.code.is_none());
                holds(&context);
                let again = run(&context, &[]);
                assert_eq!(again.code, Some(0), "{point}#{passage}={action}: {}", again.report());
                is_done(&context);
            }
        }
    }
    killed
}

/// Every file under a final name is what its name says, but for those that `may` be otherwise.
fn blobs_are_whole(out: &Path, may: &dyn Fn(&str, &[u8]) -> bool) {
    for blob in fs::read_dir(out.join("blobs/sha256")).into_iter().flatten() {
        let path = blob.unwrap().path();
        let digest = format!("sha256:{}", path.file_name().unwrap().to_str().unwrap());
        let bytes = fs::read(&path).unwrap();
        assert!(sha256(&bytes) == digest || may(&digest, &bytes), "{digest} is not whole");
    }
}

fn all_of_these(killed: &BTreeMap<String, usize>, points: &[&str]) {
    for point in points {
        assert!(
            killed.get(*point).is_some_and(|kills| *kills > 0),
            "nothing was killed at {point}: {killed:?}"
        );
    }
}

/// What belongs to an image is there whole or not at all, and the image is not named before it.
#[test]
fn a_kill_among_referrers_and_signatures_leaves_nothing_half() {
    let registry = FaultRegistry::builder().signature_extension().start();
    let app = registry.push(image().layer("app"));
    let sbom = artifact("application/vnd.example.sbom").layer("materials").subject(app.descriptor());
    let sbom = registry.push_untagged(app.repository(), sbom);
    let signatures = [&b"one signature"[..], b"and another"];
    for signature in signatures {
        registry.sign(&app, signature);
    }
    let place = format!("signatures/{}@{}", app.repository(), app.digest().replace(':', "="));
    let signed = |context: &TestContext| {
        let files = fs::read_dir(context.out().join(&place)).into_iter().flatten();
        let files = files.map(|file| file.unwrap().path()).filter(|path| path.is_file());
        files.map(|path| fs::read(path).unwrap()).collect::<Vec<_>>()
    };
    let killed = killed_at_each_step(
        &TestContext::in_memory,
        &|context, variables| {
            let run = context.fetch(&registry, &app).arg("--referrers");
            variables.iter().fold(run, |run, (name, value)| run.env(name, value)).run()
        },
        &|context| {
            blobs_are_whole(&context.out(), &|_, _| false);
            let files = signed(context);
            assert!(files.iter().all(|file| signatures.contains(&&**file)), "{files:?}");
            if context.out().join("oci-layout").exists() {
                let proof = Proof::new().sparse().with_staging().with_signatures();
                let named = proof.run(&context.out()).unwrap().digests;
                let is_named = |image: &PushedImage| named.iter().any(|digest| digest == image.digest());
                assert!(!is_named(&app) || (is_named(&sbom) && files.len() == 2), "{named:?}, {files:?}");
            }
        },
        &|context| {
            let named = Proof::new().with_signatures().run(&context.out()).unwrap().digests;
            assert!([&app, &sbom].iter().all(|image| named.iter().any(|digest| digest == image.digest())));
            assert_eq!(signed(context).len(), 2);
        },
    );
    all_of_these(
        &killed,
        &[
            "create-folder:other",
            "sync:new",
            "rename:signature",
            "sync-folder:other",
            "rename:blob",
            "rename:index.json",
        ],
    );
}

/// The images are the ones of before or the converted ones, all of them, and each whole.
#[test]
fn a_kill_in_a_conversion_leaves_the_old_or_the_new() {
    let registry = FaultRegistry::start();
    let built = |platform: &str| image().docker().platform(platform).layer(platform);
    let list =
        index().manifest(built("linux/amd64"), "linux/amd64").manifest(built("linux/arm64"), "linux/arm64");
    let pushed = [
        registry.push_as("app", "one", image().docker().layer("one")),
        registry.push_as("app", "list", list),
    ];
    let set = || {
        let context = TestContext::in_memory();
        let references = pushed.iter().map(PushedImage::reference);
        context.run(["fetch", "--all-platforms"]).args(references).arg(context.out()).success();
        context
    };
    let converted = |context: &TestContext| {
        let named = assert_readable(&context.out()).digests;
        assert_eq!(named.len(), pushed.len(), "{named:?}");
        pushed.iter().filter(|image| named.iter().all(|digest| digest != image.digest())).count()
    };
    let killed = killed_at_each_step(
        &set,
        &|context, variables| {
            let run = context.run(["convert", "--format", "oci"]).arg(context.out());
            variables.iter().fold(run, |run, (name, value)| run.env(name, value)).run()
        },
        &|context| {
            blobs_are_whole(&context.out(), &|_, _| false);
            let count = converted(context);
            assert!([0, pushed.len()].contains(&count), "{count} images are converted");
            context.run(["verify"]).arg(context.out()).success();
        },
        &|context| {
            assert_eq!(converted(context), pushed.len());
            context.run(["verify"]).arg(context.out()).success();
        },
    );
    all_of_these(
        &killed,
        &["create:part", "write:part", "sync:part", "rename:blob", "rename:index.json", "sync-folder:layout"],
    );
}

/// A bad blob stays what it is until the good one is there; the names never change.
#[test]
fn a_kill_in_a_repair_leaves_the_bad_or_the_good() {
    let broken = Broken::new();
    let index = fs::read(broken.context.out().join("index.json")).unwrap();
    let bad = broken.bad();
    // Each run is in the folder of `broken`; what records them is elsewhere.
    let set = || {
        broken.spoil();
        TestContext::in_memory()
    };
    let killed = killed_at_each_step(
        &set,
        &|_, variables| broken.repair(variables),
        &|_| {
            blobs_are_whole(&broken.context.out(), &|digest, bytes| {
                bad.contains(digest) && bytes == b"spoiled"
            });
            assert!(fs::read(broken.context.out().join("index.json")).unwrap() == index);
        },
        &|_| {
            blobs_are_whole(&broken.context.out(), &|_, _| false);
            assert_readable(&broken.context.out());
            broken.context.run(["verify"]).arg(broken.context.out()).success();
        },
    );
    all_of_these(
        &killed,
        &["create:part", "write:part", "sync:part", "rename:blob", "sync-folder:blobs/sha256"],
    );
}
