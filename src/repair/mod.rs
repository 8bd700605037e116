//! Repairs a layout: proves it, brings what is bad from where it came from, and proves that again.
//!
//! Where an image came from is what its entry of `index.json` has as its full name, unless the caller names a repository.
//! Blobs come by their digests through the [transfer engine](crate::transfer), manifests as manifests; what a fetch made
//! itself (converted documents, a schema 1 image's config, lists of referrers) is made again of the same sources. Each
//! round of repairs may uncover more below a document that is good again, until nothing more can be had.
//!
//! Guarantees: a bad file stands until the good one is proven and takes its place in one rename; what is good is not
//! touched, nor is `index.json`; what cannot be repaired stays as it is, and keeps nothing else from being repaired. Staged
//! files are locked and resumed as those of a fetch, so that both may run beside each other.
//!
//! What is no blob's fault cannot be repaired and stays a finding: a wrong size or diff ID in a document whose own digest
//! holds, and whatever is wrong with entries of `index.json`.

mod error;
mod mend;
mod report;
mod wanted;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use error::{RepairError, SourceError};
pub use report::{Outcome, Told};

use crate::check::{self, FindingKind, Known, Report};
use crate::digest::Digest;
use crate::failure::{Failure as _, Kind};
use crate::fetch;
use crate::layout::{Layout, LayoutError};
use crate::progress::{Event, Reporter};
use crate::reference::Repository;
use crate::registry::Registry;
use crate::transfer;

use mend::Mending;
use report::History;

/// How a layout is repaired.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How it is checked, before and after.
    pub check: check::Options,
    /// How blobs are downloaded.
    pub transfer: transfer::Options,
    /// Where everything is brought from, whatever the entries' full names say.
    pub from: Option<Repository>,
}

/// Checks a layout, and repairs what can be.
///
/// # Errors
/// [`RepairError`] when the layout cannot be read. What cannot be had from a registry is no error: it is in the [`Outcome`],
/// as all that is still wrong; and so is, as its [end](Outcome::ended), that the layout cannot be written to.
pub async fn repair(
    registry: &Registry,
    layout: &Layout,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
) -> Result<Outcome, RepairError> {
    let (mut history, mut mending) = (History::default(), Mending::new(registry, layout, options, reporter));
    let mut known = Known::default();
    let report = loop {
        let report;
        (report, known) = checked(layout, known, options, reporter).await?;
        history.add(&report);
        let bad = bad(&report);
        if bad.is_empty() || mending.has_ended() {
            break report;
        }
        let (of, from) = (layout.clone(), options.from.clone());
        let found = blocking(move || wanted::find(&of, &bad, from.as_ref())).await??;
        let brought = mending.round(found).await;
        if brought.is_empty() {
            break report;
        }
        for digest in &brought {
            known.forget(digest);
        }
    };
    let was_cut = mending.failures.values().any(|error| error.kind() == Kind::Network) || mending.has_ended();
    let tidied = if history.is_empty() { Ok(()) } else { tidy(layout, was_cut, reporter).await };
    Ok(history.conclude(report, mending, tidied.err()))
}

/// The blobs that have other bytes than their names say, or none.
fn bad(report: &Report) -> BTreeSet<Digest> {
    let is_bad = |kind| matches!(kind, FindingKind::DigestMismatch | FindingKind::Missing);
    report
        .findings
        .iter()
        .filter(|finding| is_bad(finding.kind))
        .filter_map(|finding| finding.digest)
        .collect()
}

async fn checked(
    layout: &Layout,
    known: Known,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
) -> Result<(Report, Known), RepairError> {
    let (layout, check, reporter) = (layout.clone(), options.check.clone(), Arc::clone(reporter));
    Ok(blocking(move || check::check_but(&layout, known, &check, &reporter)).await??)
}

/// Makes the new names durable, and takes away what was staged. What came until something failed stays for the next run.
async fn tidy(layout: &Layout, was_cut: bool, reporter: &Arc<dyn Reporter>) -> Result<(), RepairError> {
    let (layout, reporter) = (layout.clone(), Arc::clone(reporter));
    let tidied = blocking(move || {
        layout.sync_blobs()?;
        if was_cut {
            return Ok(());
        }
        let waiting = &mut |holder: &str| {
            reporter.report(Event::Waiting { digest: None, holder: holder.to_owned() });
        };
        let leftovers = layout.clean_up(waiting)?;
        fetch::tell_leftovers(&layout, leftovers, &reporter);
        Ok::<_, LayoutError>(())
    });
    Ok(tidied.await??)
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RepairError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RepairError::Stopped)
}
