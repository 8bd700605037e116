//! `ocipull convert`: the images of a layout under OCI's media types.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ocipull::convert::{self, ConvertError, ConvertedImage, Report, Status};
use ocipull::layout::Layout;
use ocipull::progress::Reporter;
use ocipull::text::printable;

use super::super::args::{ConvertArgs, ConvertFormatArg};
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::progress::{Progress, Shown, counted};
use super::super::runtime::{self, Ended};
use super::super::target;

/// Converts one image or all of them and prints what they are now.
pub(super) fn run(args: &ConvertArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let (folder, name) = target::image_in_layout(&args.target).map_err(|error| Diagnostic::of(&error))?;
    let written = args.target.to_string_lossy();
    let failed =
        |diagnostic: Diagnostic| diagnostic.during(format!("cannot convert {}", printable(&written)));
    let layout = Layout::open(&folder).map_err(|error| failed(Diagnostic::of(&error)))?;
    let progress = Progress::new(Shown::choose(args.output.progress), printer);
    let reporter: Arc<dyn Reporter> = progress.clone();
    let ended = match args.format {
        ConvertFormatArg::Oci => runtime::run(|| to_oci(layout, name, reporter))?,
    };
    let report = match ended {
        Ended::Done(report) => report.map_err(failed)?,
        Ended::Stopped(signal) => {
            let kept = "; every image is what it was, or converted whole";
            return Ok(super::stopped(signal, kept, printer));
        }
    };
    progress.finish();
    say(&report, &folder, &progress);
    if args.output.report.json {
        printer.result_json(&report)?;
    } else {
        for image in &report.images {
            printer.result(&result_line(image))?;
        }
    }
    Ok(Exit::Done)
}

async fn to_oci(
    layout: Layout,
    name: Option<String>,
    reporter: Arc<dyn Reporter>,
) -> Result<Report, Diagnostic> {
    let stop = StopWhenDropped(Arc::default());
    let options = convert::Options { cancelled: Arc::clone(&stop.0), ..convert::Options::default() };
    let work = move || convert::to_oci(&layout, name.as_deref(), &options, &reporter);
    let converted: Result<Report, ConvertError> =
        tokio::task::spawn_blocking(work).await.map_err(|error| Diagnostic::other(&error))?;
    converted.map_err(|error| Diagnostic::of(&error))
}

/// Ends the blocking work of a future that is dropped.
struct StopWhenDropped(Arc<AtomicBool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `NAME@DIGEST`, or the digest alone where the image has no name.
fn result_line(image: &ConvertedImage) -> String {
    let digest = image.descriptor.digest;
    image.shown_name().map_or_else(|| digest.to_string(), |name| format!("{}@{digest}", printable(name)))
}

fn say(report: &Report, folder: &Path, progress: &Progress) {
    for image in &report.images {
        let name = image.shown_name().map_or_else(|| image.descriptor.digest.to_string(), printable);
        match &image.source {
            Some(source) => progress.step(&format!("{name}: converted, was {}", source.digest)),
            None if image.is_manifest => progress.step(&format!("{name}: is OCI already")),
            None => progress.step(&format!("{name}: is neither an image nor an index, and stays as it is")),
        }
        if image.left_out > 0 {
            let manifests = counted(image.left_out, "manifest");
            progress.step(&format!(
                "{name}: {manifests} that this layout does not hold keep their descriptors, so that the index's digest is \
                 not the one that `fetch --format oci` gives"
            ));
        }
        if image.has_zstd_layers {
            progress.step(&format!("{name}: zstd layers stay zstd, which umoci 0.4 cannot read"));
        }
    }
    if report.images.iter().any(|image| image.status == Status::Converted) {
        let folder = folder.display();
        progress
            .step(&format!("the manifests and indexes of before stay in {folder}/blobs, named by nothing"));
    }
}
