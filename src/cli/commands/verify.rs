//! `ocipull verify`: a layout proven, or what is wrong with it.

mod repair;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ocipull::check::{self, CheckError, Finding, Report};
use ocipull::failure::Kind;
use ocipull::layout::Layout;
use ocipull::progress::Reporter;
use ocipull::text::escape;

use super::super::args::VerifyArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::progress::{Progress, Shown, counted, size};
use super::super::runtime::{self, Ended};
use super::super::settings;

/// Reads the whole layout and prints what was found, and what was repaired where that is wanted.
pub(super) fn run(args: &VerifyArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    if args.repair.is_some() {
        return repair::run(args, printer);
    }
    let folder = settings::folder(&args.layout)?;
    let failed = |diagnostic: Diagnostic| diagnostic.during(format!("cannot verify {}", folder.display()));
    let layout = Layout::open(&folder).map_err(|error| failed(Diagnostic::of(&error)))?;
    let progress = Progress::new(Shown::choose(args.output.progress), printer);
    let reporter: Arc<dyn Reporter> = progress.clone();
    let report = match runtime::run(|| prove(layout, reporter))? {
        Ended::Done(report) => report.map_err(failed)?,
        Ended::Stopped(signal) => return Ok(super::stopped(signal, "; nothing was changed", printer)),
    };
    progress.finish();
    if args.output.report.json {
        printer.result_json(&report)?;
    } else {
        print(&report, printer)?;
    }
    Ok(if report.ok { Exit::Done } else { Exit::Failed(Kind::Integrity) })
}

async fn prove(layout: Layout, reporter: Arc<dyn Reporter>) -> Result<Report, Diagnostic> {
    let stop = StopWhenDropped(Arc::default());
    let options = check::Options { cancelled: Arc::clone(&stop.0), ..check::Options::default() };
    let checked = tokio::task::spawn_blocking(move || check::check(&layout, &options, &reporter)).await;
    let checked: Result<Report, CheckError> = checked.map_err(|error| Diagnostic::other(&error))?;
    checked.map_err(|error| Diagnostic::of(&error))
}

/// Ends the blocking work of a future that is dropped.
struct StopWhenDropped(Arc<AtomicBool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn print(report: &Report, printer: &Printer) -> Result<(), Diagnostic> {
    for finding in &report.findings {
        printer.result(&line(finding))?;
    }
    conclude(report, printer)
}

/// What was left out, and the verdict.
fn conclude(report: &Report, printer: &Printer) -> Result<(), Diagnostic> {
    let proven = format!(
        "{} and {}, {}",
        counted(report.images, "image"),
        counted(report.blobs, "blob"),
        size(report.bytes)
    );
    if let Some(line) = left_out(report) {
        printer.result(&line)?;
    }
    let bad = report.findings.iter().filter(|finding| !finding.kind.is_note()).count();
    match bad {
        0 => printer.result(&format!("ok: {proven} proven")),
        count => printer.result(&format!("bad: {}; {proven} hold", counted(count, "finding"))),
    }
}

/// What is not there and need not be.
fn left_out(report: &Report) -> Option<String> {
    let (manifests, layers) = (report.left_out.manifests, report.left_out.layers);
    let counts = [(manifests, "manifest"), (layers, "layer")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| counted(count, what));
    let counts: Vec<String> = counts.collect();
    (!counts.is_empty()).then(|| format!("left out by choice: {}", counts.join(", ")))
}

/// `KIND: WHERE: DETAIL`, where WHERE is the file or, where there is none, the digest.
fn line(finding: &Finding) -> String {
    let place = finding.path.clone().or_else(|| finding.digest.map(|digest| digest.to_string()));
    let place = place.map_or_else(String::new, |place| format!(" {}:", escape(&place)));
    format!("{}:{place} {}", finding.kind, escape(&finding.detail))
}
