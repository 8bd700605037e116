//! `ocipull verify --repair`: a layout proven, and what is bad in it downloaded again.

use std::sync::Arc;

use ocipull::check;
use ocipull::failure::Kind;
use ocipull::layout::Layout;
use ocipull::progress::Reporter;
use ocipull::reference::Reference;
use ocipull::registry::{self, Registry};
use ocipull::repair::{self, Options, Outcome, Told};
use ocipull::text::escape;

use super::super::super::args::VerifyArgs;
use super::super::super::diagnostic::Diagnostic;
use super::super::super::exit_code::Exit;
use super::super::super::printer::Printer;
use super::super::super::progress::{Progress, Shown, counted};
use super::super::super::runtime::{self, Ended};
use super::super::super::{settings, target};
use super::StopWhenDropped;

/// Checks and repairs, and prints what came of it.
pub(super) fn run(args: &VerifyArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let folder = settings::folder(&args.layout)?;
    let from = args.repair.as_ref().and_then(Option::as_deref).map(target::reference).transpose();
    let from = from.map_err(|error| Diagnostic::of(&error))?;
    let failed = |diagnostic: Diagnostic| diagnostic.during(format!("cannot repair {}", folder.display()));
    let layout = Layout::open(&folder).map_err(|error| failed(Diagnostic::of(&error)))?;
    let progress = Progress::new(Shown::choose(args.output.progress), printer);
    let reporter: Arc<dyn Reporter> = progress.clone();
    let named = if from.is_some() { Vec::new() } else { named(&layout).map_err(failed)? };
    let registry = reached(args, &named.iter().chain(&from).collect::<Vec<_>>(), &reporter)?;
    let stop = StopWhenDropped(Arc::default());
    let check = check::Options { cancelled: Arc::clone(&stop.0), ..check::Options::default() };
    let options = Options { check, transfer: settings::transfer(&args.download), from: None };
    let command = async || {
        let _stop = stop;
        let registry = Registry::new(registry).map_err(|error| Diagnostic::of(&error))?;
        let from = match &from {
            Some(from) => Some(registry.meant(from).await.map_err(|error| Diagnostic::of(&error))?),
            None => None,
        };
        let options = Options { from: from.map(|from| from.repository().clone()), ..options };
        let repaired = Box::pin(repair::repair(&registry, &layout, &options, &reporter)).await;
        repaired.map_err(|error| Diagnostic::of(&error))
    };
    let outcome = match runtime::run(command)? {
        Ended::Done(outcome) => outcome.map_err(failed)?,
        Ended::Stopped(signal) => {
            let kept = "; what was repaired stays, and the same command goes on from there";
            return Ok(super::super::stopped(signal, kept, printer));
        }
    };
    progress.finish();
    if args.output.report.json {
        printer.result_json(&outcome)?;
    } else {
        print(&outcome, printer)?;
    }
    Ok(exit(&outcome, |diagnostic| printer.diagnostic(&failed(diagnostic))))
}

/// How the registries of `references` are reached. Where there are none, nobody is asked.
fn reached(
    args: &VerifyArgs,
    references: &[&Reference],
    reporter: &Arc<dyn Reporter>,
) -> Result<registry::Options, Diagnostic> {
    if references.is_empty() {
        return Ok(registry::Options::default());
    }
    let connections = usize::from(args.download.connections);
    let options = settings::registry(&args.registry, &args.network, connections, references, reporter)?;
    Ok(registry::Options { max_rate: args.download.max_rate, ..options })
}

/// The full names in the layout.
fn named(layout: &Layout) -> Result<Vec<Reference>, Diagnostic> {
    let index = layout.index().map_err(|error| Diagnostic::of(&error))?;
    Ok(index.entries().iter().filter_map(|entry| entry.full_name()?.parse().ok()).collect())
}

fn print(outcome: &Outcome, printer: &Printer) -> Result<(), Diagnostic> {
    for told in &outcome.findings {
        printer.result(&line(told))?;
    }
    if outcome.blobs > 0 {
        printer.result(&format!("repaired: {}", counted(outcome.blobs, "blob")))?;
    }
    super::conclude(&outcome.report, printer)
}

/// A finding's line, and what became of it.
fn line(told: &Told) -> String {
    let line = super::line(&told.finding);
    match &told.reason {
        _ if told.repaired => format!("{line} (repaired)"),
        Some(reason) => format!("{line} (not repaired: {})", escape(reason)),
        None => line,
    }
}

/// All is well, or what failed is said and has its own code, this machine's failure before all; what nothing could repair is
/// a matter of integrity.
fn exit(outcome: &Outcome, say: impl FnOnce(Diagnostic)) -> Exit {
    let diagnostic = match (&outcome.ended, &outcome.failure) {
        (Some(ended), _) => Diagnostic::of(ended),
        (None, _) if outcome.report.ok => return Exit::Done,
        (None, Some(failure)) => Diagnostic::of(failure),
        (None, None) => return Exit::Failed(Kind::Integrity),
    };
    let kind = diagnostic.kind();
    say(diagnostic);
    Exit::Failed(kind)
}
