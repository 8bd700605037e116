//! Proves a whole layout: that every blob has the digest that is its name and the size that descriptors say, that
//! nothing is missing, that every layer uncompresses to the diff ID that every config claims for it, and that the
//! documents are what they are said to be (OCI image spec, "Image Layout Specification").
//!
//! Guarantees: what is wrong with the content is a finding, never an error, and one bad blob hides no other; every blob is
//! read once for all images that share it, and each image's claims about it are compared; the same layout gives the same
//! findings in the same order. What lies in the folder without being referred to is a note, which leaves the layout as
//! good as it was, but a blob that nothing refers to must still match its own name. Nothing is changed.
//!
//! An image that was fetched without its diff IDs being checked is checked like any other. Encrypted layers and the
//! layers of artifacts have no diff ID that could be. Absent by choice is what an entry of `index.json` says was not taken:
//! manifests of an index for other platforms (`layout::sparse` has the rule), and layers that live at URLs of their own.
//! Otherwise what is not there is missing, except the `subject` of a signature or an SBOM, which may be anywhere.
//!
//! A file that cannot be opened for lack of a permission says nothing about the layout: that is an error, and so is an
//! `index.json` that cannot be understood.

mod blob;
mod claims;
mod digests;
mod error;
mod files;
mod proofs;
mod prove;
mod report;
mod verdict;
mod walk;

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::digest::{Algorithm, Digest};
use crate::layout::Layout;
use crate::progress::{Event, Phase, Reporter};

pub use error::CheckError;
pub(crate) use proofs::prove_blobs;
pub use report::{Finding, FindingKind, LeftOut, Report};

use digests::Digests;
use prove::Task;
use verdict::{Verdict, Verdicts};

/// How many notes there are about what is no part of the layout: somebody's whole home folder may lie beside one.
const MOST_STRAYS: usize = 1000;

/// How a layout is checked.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many threads read and hash; one a core when it is not said.
    pub threads: Option<NonZeroUsize>,
    /// Set to true, from any thread, it ends the check with [`CheckError::Cancelled`].
    pub cancelled: Arc<AtomicBool>,
}

/// Checks a layout. Blocks until everything is read, so not for async code.
///
/// # Errors
/// [`CheckError::Layout`] when `index.json` cannot be understood or something may not be read,
/// [`CheckError::Cancelled`], [`CheckError::ThreadDied`].
pub fn check(layout: &Layout, options: &Options, reporter: &Arc<dyn Reporter>) -> Result<Report, CheckError> {
    check_but(layout, Known::default(), options, reporter).map(|(report, _)| report)
}

/// What earlier checks of a layout found of its blobs, so that a later one reads only what may have changed.
#[derive(Debug, Default)]
pub(crate) struct Known {
    digests: Digests,
    verdicts: Verdicts,
}

impl Known {
    /// Forgets a blob, which is read again then.
    pub(crate) fn forget(&mut self, digest: &Digest) {
        self.take(digest);
    }

    fn take(&mut self, digest: &Digest) -> Option<Verdict> {
        self.verdicts.take(self.digests.find(digest)?)
    }

    /// What is known of a blob, where that is all that `algorithms` of its diff ID ask for.
    fn verdict(&mut self, digest: &Digest, algorithms: &BTreeSet<Algorithm>) -> Option<Verdict> {
        let is_enough = match self.verdicts.get(self.digests.find(digest)?)? {
            Verdict::Proven { diff_ids, .. } => {
                algorithms.iter().all(|one| verdict::of(diff_ids, *one).is_some())
            }
            Verdict::Wrong { .. } | Verdict::Missing { .. } => true,
        };
        if is_enough { self.take(digest) } else { None }
    }
}

/// As [`check`], but does not read again what is `known`, the documents aside.
pub(crate) fn check_but(
    layout: &Layout,
    mut known: Known,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
) -> Result<(Report, Known), CheckError> {
    let context = Context { layout, reporter, cancelled: &options.cancelled };
    let index = layout.index()?;
    let mut walked = walk::walk(&context, &index)?;
    // It may be long, and is needed no more.
    drop(index);
    let files = files::list(layout.root())?;
    let strays = files.strays;
    let mut all = files.blobs;
    all.extend(walked.claims.blobs());
    all.retain(|digest| walked.verdict(digest).is_none());
    all.sort_unstable();
    all.dedup();
    let mut tasks = Vec::with_capacity(all.len());
    for digest in all {
        let claims = walked.claims.of(&digest);
        let algorithms = claims.map(|claims| claims.algorithms(&walked.claims.digests)).unwrap_or_default();
        if let Some(verdict) = known.verdict(&digest, &algorithms) {
            walked.judge(digest, verdict);
            continue;
        }
        let size = fs::symlink_metadata(layout.blob_path(&digest)).map_or(0, |metadata| metadata.len());
        tasks.push(Task { digest, algorithms, size });
    }
    let threads =
        options.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    for (digest, verdict) in prove::prove(&context, tasks, threads, None)? {
        walked.judge(digest, verdict);
    }
    let report = conclude(layout, &mut walked, strays);
    Ok((report, Known { digests: walked.claims.digests, verdicts: walked.verdicts }))
}

fn conclude(layout: &Layout, walked: &mut walk::Walked, strays: Vec<Finding>) -> Report {
    let mut findings = std::mem::take(&mut walked.findings);
    findings.extend(strays);
    let (mut blobs, mut bytes) = (0, 0);
    for (number, digest) in walked.claims.digests.iter() {
        let Some(verdict) = walked.verdicts.get(number) else { continue };
        if let Verdict::Proven { size, .. } = verdict {
            blobs += 1;
            bytes += size;
        }
        findings.extend(verdict.findings(*digest, &walked.claims, walked.is_partial));
    }
    findings.sort();
    findings.dedup();
    cut_strays(&mut findings);
    // What one entry excuses and another asks for is missing.
    let excused = |left_out: &BTreeSet<Digest>| {
        left_out.iter().filter(|digest| walked.claims.of(digest).is_none()).count()
    };
    Report {
        layout: layout.root().to_owned(),
        ok: findings.iter().all(|finding| finding.kind.is_note()),
        images: walked.images.len(),
        blobs,
        bytes,
        left_out: LeftOut {
            manifests: excused(&walked.left_out_manifests),
            layers: excused(&walked.left_out_layers),
        },
        findings,
    }
}

/// Leaves the first of many notes about what is no part of the layout, which come last, and one that says how many more there are.
fn cut_strays(findings: &mut Vec<Finding>) {
    let first = findings.partition_point(|finding| finding.kind < FindingKind::Stray);
    let more = (findings.len() - first).saturating_sub(MOST_STRAYS);
    if more > 0 {
        findings.truncate(first + MOST_STRAYS);
        let detail = format!("{more} more that are no part of an OCI image layout are not listed");
        findings.push(Finding { kind: FindingKind::Stray, digest: None, path: None, detail });
    }
}

/// What every part of a check needs.
struct Context<'a> {
    layout: &'a Layout,
    reporter: &'a Arc<dyn Reporter>,
    cancelled: &'a AtomicBool,
}

impl Context<'_> {
    fn proceed(&self) -> Result<(), CheckError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(CheckError::Cancelled) } else { Ok(()) }
    }

    fn started(&self, digest: Digest, total: u64) {
        self.reporter.report(Event::BlobStarted { digest, bytes: 0, total, phase: Phase::Verifying });
    }

    fn verified(&self, digest: Digest, size: u64, diff_id: Option<Digest>) {
        self.reporter.report(Event::BlobVerified { digest, bytes: size, total: size, diff_id });
    }

    /// Tells that a blob which was started does not hold.
    fn refuted(&self, digest: Digest, verdict: &Verdict) {
        let (Verdict::Wrong { reason, .. } | Verdict::Missing { reason }) = verdict else { return };
        self.reporter.report(Event::BlobBad { digest, detail: reason.clone() });
    }
}

#[cfg(test)]
mod tests;
