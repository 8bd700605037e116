//! `ocipull ls`: the images in a layout.

use ocipull::layout::{Contents, ImageSummary, Layout};
use ocipull::text::printable;
use serde_json::json;

use super::super::args::LsArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::progress::size;
use super::super::settings;
use super::table;

/// More platforms than these make a line nobody reads.
const PLATFORMS: usize = 4;

/// Lists the images that the layout names.
pub(super) fn run(args: &LsArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let folder = settings::folder(&args.layout)?;
    let failed = |error| Diagnostic::of(&error).during(format!("cannot list {}", folder.display()));
    let images = Layout::open(&folder).and_then(|layout| layout.images()).map_err(failed)?;
    if args.output.json {
        printer.result_json(&json!({"layout": folder.display().to_string(), "images": images}))?;
        return Ok(Exit::Done);
    }
    let header = ["NAME", "REF", "DIGEST", "PLATFORMS", "SIZE", "UNIQUE"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(images.iter().map(row)).collect();
    for line in table::lines(&rows, &[4, 5]) {
        printer.result(&line)?;
    }
    Ok(Exit::Done)
}

fn row(image: &ImageSummary) -> Vec<String> {
    let name = |name: &Option<String>| name.as_deref().map_or_else(|| "-".to_owned(), printable);
    vec![
        name(&image.name),
        name(&image.ref_name),
        image.digest.short(),
        printable(&contents(image)),
        size(image.size),
        size(image.unique_size),
    ]
}

/// The platforms that are there, of how many where that is not all; for what has none, what it is.
fn contents(image: &ImageSummary) -> String {
    let platforms = match image.platforms.as_slice() {
        [] => match &image.contents {
            Contents::Artifact { artifact_type } => return artifact_type.clone(),
            Contents::Referrers => return "referrers".to_owned(),
            _ => "-".to_owned(),
        },
        few if few.len() <= PLATFORMS => few.join(","),
        many => format!("{},… ({})", many[..PLATFORMS - 1].join(","), many.len()),
    };
    match image.absent_platforms {
        0 => platforms,
        absent => format!("{platforms} (of {})", image.platforms.len() + absent),
    }
}
