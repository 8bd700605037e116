//! The file system refuses a step of a repair: what is bad is told all the same, and what was repaired by then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use crate::errors::refusals;
use crate::points::{record, spread};
use crate::real::{may_mount, unshared};
use crate::support::{
    FaultRegistry, KIB, Outcome, PushedImage, Run, TestContext, assert_readable, image, random_from, sha256,
};

/// An image of which two layers and the config are bad: each of them has one finding or more.
pub(crate) struct Broken {
    registry: FaultRegistry,
    pushed: PushedImage,
    pub(crate) context: TestContext,
}

impl Broken {
    pub(crate) fn new() -> Self {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(random_from(5, 300 * KIB)).layer("small").layer("good"));
        let context = TestContext::in_memory();
        context.fetch(&registry, &pushed).success();
        let broken = Self { registry, pushed, context };
        broken.spoil();
        broken
    }

    pub(crate) fn bad(&self) -> BTreeSet<String> {
        [self.pushed.layer(0), self.pushed.layer(1), self.pushed.config()].map(str::to_owned).into()
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.context.out().join("blobs").join(digest.replace(':', "/"))
    }

    /// One is missing, the others have other bytes, and nothing is staged.
    pub(crate) fn spoil(&self) {
        let _ = fs::remove_dir_all(self.context.out().join(".ocipull"));
        for digest in self.bad() {
            fs::write(self.blob(&digest), "spoiled").unwrap();
        }
        fs::remove_file(self.blob(self.pushed.layer(1))).unwrap();
    }

    fn command(&self) -> Run<'_> {
        let options = ["verify", "--repair", "--json", "--connections", "2"];
        self.context.run(options).arg(self.context.out())
    }

    pub(crate) fn repair(&self, variables: &[(&str, &str)]) -> Outcome {
        variables.iter().fold(self.command(), |run, (name, value)| run.env(name, value)).run()
    }

    /// The steps of a repair that nothing befalls, and how often each is passed.
    fn passages(&self) -> BTreeMap<String, usize> {
        let path = self.context.path().join("record");
        let outcome = self.repair(&[("OCIPULL_FAIL_RECORD", path.to_str().unwrap())]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
        let mut passages = BTreeMap::new();
        for (point, _) in record(&self.context) {
            *passages.entry(point).or_default() += 1;
        }
        passages
    }

    /// Every bad blob is told of, and each is repaired exactly when the report says so.
    fn is_told(&self, outcome: &Outcome) {
        let report = outcome.json();
        let findings = report["findings"].as_array().unwrap();
        let mut told = BTreeSet::new();
        for finding in findings.iter().filter(|finding| finding["kind"] != "stray") {
            let digest = finding["digest"].as_str().unwrap();
            let is_good = fs::read(self.blob(digest)).is_ok_and(|bytes| sha256(&bytes) == digest);
            assert_eq!(finding["repaired"], is_good, "{digest}: {}", outcome.report());
            assert_eq!(finding["reason"].is_string(), !is_good, "{digest}: {}", outcome.report());
            told.insert(digest.to_owned());
        }
        assert_eq!(told, self.bad(), "{}", outcome.report());
    }
}

/// A repair that a full, read-only or failing disk ends says what is wrong with the layout first: it was found, nobody wants to
/// look for it again, and where the disk stays as it is nobody could. Then comes the error, and the exit code is the error's.
#[test]
fn a_repair_that_is_refused_a_step_tells_what_it_found() {
    let broken = Broken::new();
    let mut failures = 0;
    for (point, count) in broken.passages() {
        for action in refusals(point.split(':').next().unwrap()) {
            for passage in spread(count, 2) {
                broken.spoil();
                let order = format!("{point}#{passage}={action}");
                let outcome = broken.repair(&[("OCIPULL_FAIL_AT", &order)]);
                let expected = if action == "ENOLCK" { 7 } else { 1 };
                assert!([0, expected].map(Some).contains(&outcome.code), "{order}: {}", outcome.report());
                assert_eq!(
                    outcome.code != Some(0),
                    outcome.stderr.contains("error: cannot repair "),
                    "{order}"
                );
                broken.is_told(&outcome);
                failures += usize::from(outcome.code != Some(0));
                let next = broken.repair(&[]);
                assert_eq!(next.code, Some(0), "{order}: {}", next.report());
                // What a layout that is whole by then has staged stays for the next fetch.
                assert_eq!(next.json()["ok"], true, "{order}: {}", next.report());
                assert_readable(&broken.context.out());
            }
        }
    }
    broken.registry.assert_no_unexpected();
    assert!(failures >= 40, "{failures} failures");
}

/// A layout on a medium that is read-only for real, which is where layouts cross on: every finding is told, none is repaired.
#[test]
fn a_repair_on_a_read_only_disk_tells_what_it_found() {
    if !may_mount() {
        return;
    }
    let broken = Broken::new();
    let out = broken.context.out().to_string_lossy().into_owned();
    let read_only =
        format!("mount --bind '{out}' '{out}'; mount -o remount,bind,ro '{out}'; exec \"$0\" \"$@\"");
    let outcome = unshared(&broken.context, &read_only, &broken.command().arguments());
    assert_eq!(outcome.code, Some(1), "{}", outcome.report());
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.report());
    broken.is_told(&outcome);
}
