//! `ocipull inspect`: what an image is made of.

use std::sync::Arc;

use ocipull::failure::Kind;
use ocipull::inspect::{
    InspectError, InspectedImage, Inspection, in_layout, in_registry, raw_in_layout, raw_in_registry,
};
use ocipull::layout::Layout;
use ocipull::manifest::Descriptor;
use ocipull::progress::Reporter;
use ocipull::registry::Registry;
use ocipull::text::printable;
use serde::Serialize;

use super::super::args::InspectArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::progress::{Progress, Shown, counted, size};
use super::super::runtime::{self, Ended};
use super::super::settings;
use super::super::target::{self, Target};
use super::table;

/// What is to be shown.
enum Found {
    Raw(Vec<u8>),
    Inspection(Box<Inspection>),
}

/// Shows an image of a registry or a layout.
pub(super) fn run(args: &InspectArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let target = Target::parse(&args.target).map_err(|error| Diagnostic::of(&error))?;
    let failed = |error: InspectError| {
        let written = args.target.to_string_lossy();
        let diagnostic = Diagnostic::of(&error).during(format!("cannot inspect {written}"));
        match (&target, diagnostic.kind()) {
            (Target::Layout { .. }, Kind::Layout) if !target::is_outright(&written) => diagnostic.with_hint(
                format!("an image in a registry is docker://{written}, as there is a folder of that name"),
            ),
            _ => diagnostic,
        }
    };
    let ended = match &target {
        Target::Reference(reference) => {
            let reporter: Arc<dyn Reporter> = Progress::new(Shown::Waits, printer);
            let connections = settings::CONNECTIONS;
            let options =
                settings::registry(&args.registry, &args.network, connections, &[reference], &reporter)?;
            runtime::run(async || {
                let registry = Registry::new(options)?;
                if args.raw {
                    return Ok(Found::Raw(raw_in_registry(&registry, reference).await?.to_vec()));
                }
                Ok(Found::Inspection(Box::new(in_registry(&registry, reference).await?)))
            })?
        }
        Target::Layout { path, name } => runtime::run(async || {
            let layout = Layout::open(path)?;
            if args.raw {
                return Ok(Found::Raw(raw_in_layout(&layout, name.as_deref()).await?.to_vec()));
            }
            Ok(Found::Inspection(Box::new(in_layout(&layout, name.as_deref()).await?)))
        })?,
    };
    match ended {
        Ended::Stopped(signal) => return Ok(super::stopped(signal, "", printer)),
        Ended::Done(found) => match found.map_err(failed)? {
            Found::Raw(bytes) => printer.result_bytes(&bytes)?,
            Found::Inspection(inspection) if args.output.json => {
                printer.result_json(&Report { inspection: &inspection, referrers: [] })?;
            }
            Found::Inspection(inspection) => printer.result(&describe(&inspection).join("\n"))?,
        },
    }
    Ok(Exit::Done)
}

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    inspection: &'a Inspection,
    /// None are looked for.
    referrers: [Descriptor; 0],
}

fn describe(inspection: &Inspection) -> Vec<String> {
    let field = |name: &str, value: String| vec![name.to_owned(), value];
    let descriptor = &inspection.descriptor;
    let mut fields = vec![
        field("Name:", inspection.name.as_deref().map_or_else(|| "-".to_owned(), printable)),
        field("Digest:", descriptor.digest.to_string()),
        field("Type:", printable(descriptor.media_type.as_str())),
    ];
    if let Some(index) = &inspection.index {
        let platforms: Vec<String> = index.platforms.iter().map(|platform| printable(platform)).collect();
        fields.push(field("Platforms:", platforms.join(", ")));
    }
    let mut lines = table::lines(&fields, &[]);
    for image in &inspection.images {
        lines.push(String::new());
        lines.extend(describe_image(image));
    }
    lines
}

fn describe_image(image: &InspectedImage) -> Vec<String> {
    let heading = image.platform.as_ref().map_or_else(|| "artifact".to_owned(), ToString::to_string);
    let blob = |descriptor: &Descriptor| format!("{} ({})", descriptor.digest, size(descriptor.size));
    let field = |name: &str, value: String| vec![format!("  {name}"), value];
    let mut fields = vec![
        field("Manifest:", blob(&image.manifest)),
        field("Config:", blob(&image.config.descriptor)),
        field("Size:", format!("{} in {}", size(image.size), counted(image.layers.len(), "layer"))),
    ];
    if let Some(bytes) = image.uncompressed_size {
        fields.push(field("Uncompressed:", size(bytes)));
    }
    let created = image.config.content.as_ref().and_then(|config| config.get("created")?.as_str());
    fields.extend(created.map(|created| field("Created:", printable(created))));
    let mut lines = table::lines(&fields, &[]);
    let layers: Vec<Vec<String>> = (image.layers.iter())
        .map(|layer| {
            let diff_id =
                layer.diff_id.map_or_else(String::new, |diff_id| format!("diff ID {}", diff_id.short()));
            let media_type = printable(layer.descriptor.media_type.as_str());
            let digest = layer.descriptor.digest.to_string();
            vec![size(layer.descriptor.size), digest, media_type, diff_id]
        })
        .collect();
    section(&mut lines, "Layers", &table::lines(&layers, &[0]));
    let history = image.history.iter().map(|step| {
        let text = step.created_by.as_deref().or(step.comment.as_deref()).unwrap_or("-");
        printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
    });
    section(&mut lines, "History", &history.collect::<Vec<_>>());
    let annotations = image.annotations.iter();
    let annotations = annotations.map(|(key, value)| format!("{}: {}", printable(key), printable(value)));
    section(&mut lines, "Annotations", &annotations.collect::<Vec<_>>());
    lines.insert(0, heading);
    lines
}

fn section(lines: &mut Vec<String>, heading: &str, content: &[String]) {
    if !content.is_empty() {
        lines.push(format!("  {heading}:"));
        lines.extend(content.iter().map(|line| format!("    {line}")));
    }
}
