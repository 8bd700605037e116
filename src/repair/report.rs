//! What came of a repair: the layout as it is now, and of everything that was wrong whether it still is.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::error::{RepairError, SourceError};
use super::mend::Mending;
use crate::check::{Finding, FindingKind, Report};
use crate::digest::Digest;

/// What came of a repair. Serialises in the shape that `verify --repair --json` prints.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The layout after the repair: what is wrong with it still.
    pub report: Report,
    /// Everything that was wrong before or is now, and the notes, in the order of a report.
    pub findings: Vec<Told>,
    /// How many blobs were brought.
    pub blobs: usize,
    /// Why the first of the findings stays that could have been repaired; none where nothing failed.
    pub failure: Option<SourceError>,
    /// Why the repair came to its end before all was tried: a disk that is full or cannot be written to, say.
    pub ended: Option<RepairError>,
}

/// A finding, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Told {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// Whether it is gone now.
    pub repaired: bool,
    /// Why it is not; nothing for a note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = &self.report;
        let mut map = serializer.serialize_struct("Outcome", 7)?;
        map.serialize_field("layout", &report.layout)?;
        map.serialize_field("ok", &report.ok)?;
        map.serialize_field("images", &report.images)?;
        map.serialize_field("blobs", &report.blobs)?;
        map.serialize_field("bytes", &report.bytes)?;
        if report.left_out.is_nothing() {
            map.skip_field("leftOut")?;
        } else {
            map.serialize_field("leftOut", &report.left_out)?;
        }
        map.serialize_field("findings", &self.findings)?;
        map.end()
    }
}

/// What a finding is about. Its words may change while other things are repaired.
type Subject = (FindingKind, Option<Digest>, Option<String>);

fn subject(finding: &Finding) -> Subject {
    (finding.kind, finding.digest, finding.path.clone())
}

/// What was ever found wrong, as it was first said.
#[derive(Debug, Default)]
pub(super) struct History(BTreeMap<Subject, Finding>);

impl History {
    pub(super) fn add(&mut self, report: &Report) {
        for finding in report.findings.iter().filter(|finding| !finding.kind.is_note()) {
            self.0.entry(subject(finding)).or_insert_with(|| finding.clone());
        }
    }

    /// Whether nothing was ever wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What became of everything. `untidy` is why what was brought could not be made durable, or staged files not removed.
    pub(super) fn conclude(
        self,
        report: Report,
        mut mending: Mending<'_>,
        untidy: Option<RepairError>,
    ) -> Outcome {
        let still: BTreeSet<Subject> = report.findings.iter().map(subject).collect();
        let gone = self.0.into_iter().filter(|(subject, _)| !still.contains(subject));
        let gone = gone.map(|(_, finding)| Told { finding, repaired: true, reason: None });
        let left = report.findings.iter().map(|finding| {
            let reason = (!finding.kind.is_note()).then(|| reason(finding, &mending));
            Told { finding: finding.clone(), repaired: false, reason }
        });
        let mut findings: Vec<Told> = left.chain(gone).collect();
        findings.sort();
        // Where this machine said no before, it is no wonder that nothing can be tidied.
        let ended = mending.take_end().map(|error| RepairError::Machine(Box::new(error))).or(untidy);
        let bad: BTreeSet<Digest> = super::bad(&report);
        let first = report
            .findings
            .iter()
            .filter_map(|finding| finding.digest)
            .find(|digest| bad.contains(digest) && mending.failures.contains_key(digest));
        let blobs = mending.brought.iter().filter(|digest| !bad.contains(digest)).count();
        let mut failures = mending.failures;
        let failure = first.and_then(|digest| failures.remove(&digest));
        Outcome { report, findings, blobs, failure, ended }
    }
}

/// Why a finding stays.
fn reason(finding: &Finding, mending: &Mending<'_>) -> String {
    let Some(digest) = &finding.digest else {
        return "index.json is this layout's own, and no registry has it: fetch the image again".to_owned();
    };
    if let Some(error) = mending.failures.get(digest) {
        return chain(error);
    }
    let is_the_blob = matches!(finding.kind, FindingKind::DigestMismatch | FindingKind::Missing);
    if !is_the_blob && !mending.wanted.contains_key(digest) {
        return match finding.kind {
            FindingKind::SizeMismatch => {
                "its digest holds, so that the size is what is wrong: no other blob would have that"
            }
            FindingKind::DiffIdMismatch => {
                "its digest holds, so that the image was made like this: the registry has the same"
            }
            _ => "its digest holds, so that the registry has the same",
        }
        .to_owned();
    }
    match mending.wanted.get(digest) {
        _ if mending.brought.contains(digest) => {
            "it was brought, and is bad again: the disk may be failing".to_owned()
        }
        Some(wanted) if wanted.places.is_empty() => {
            "its image has no full name in index.json that says where it is from: name a repository with `--repair=REF`"
                .to_owned()
        }
        // What a document leads to that came just before is not looked for any more.
        _ if mending.has_ended() => "the repair came to its end before it was asked for".to_owned(),
        None => "nothing that can be followed leads to it, so that nobody knows where it is from: remove it where it \
                 is of no use"
            .to_owned(),
        Some(_) => "it could not be had".to_owned(),
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
