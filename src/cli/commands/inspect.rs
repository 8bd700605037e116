//! `ocipull inspect`: what an image is made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use ocipull::failure::Kind;
use ocipull::inspect::{
    AbsentPlatform, IndexSummary, InspectError, InspectedImage, InspectedLayer, Inspection, in_layout,
    in_registry, raw_in_layout, raw_in_registry,
};
use ocipull::layout::index::SOURCE_DIGEST;
use ocipull::layout::{Absence, Layout};
use ocipull::manifest::Descriptor;
use ocipull::progress::Reporter;
use ocipull::registry::Registry;
use ocipull::text::printable;

use super::super::args::InspectArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::progress::{Progress, Shown, counted, size};
use super::super::runtime::{self, Ended};
use super::super::settings;
use super::super::target::{self, Target, TargetError};
use super::table;

/// How many warnings are shown one by one: an index may list thousands of manifests that are not there.
const WARNINGS: usize = 50;

/// What is to be shown.
enum Found {
    Raw(Vec<u8>),
    Inspection(Box<Inspection>),
}

/// Shows an image of a registry or a layout.
pub(super) fn run(args: &InspectArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let target = Target::parse(&args.target).map_err(|error| Diagnostic::of(&error))?;
    if let (Target::Layout { .. }, Some(option)) = (&target, &args.for_registries) {
        let text = printable(&args.target.to_string_lossy());
        return Err(Diagnostic::of(&TargetError::OptionForRegistries { option: option.clone(), text }));
    }
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
                let reference = &registry.meant(reference).await?;
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
                warn(&inspection, printer);
                printer.result_json(&inspection)?;
            }
            Found::Inspection(inspection) => {
                warn(&inspection, printer);
                printer.result(&describe(&inspection).join("\n"))?;
            }
        },
    }
    Ok(Exit::Done)
}

fn warn(inspection: &Inspection, printer: &Printer) {
    for warning in inspection.warnings.iter().take(WARNINGS) {
        printer.warning(warning);
    }
    let more = inspection.warnings.len().saturating_sub(WARNINGS);
    if more > 0 {
        printer.warning(&format!("{more} more like these"));
    }
}

fn describe(inspection: &Inspection) -> Vec<String> {
    let field = |name: &str, value: String| vec![name.to_owned(), value];
    let descriptor = &inspection.descriptor;
    let mut fields = vec![
        field("Name:", inspection.name.as_deref().map_or_else(|| "-".to_owned(), printable)),
        field("Digest:", descriptor.digest.to_string()),
        field("Type:", printable(descriptor.media_type.as_str())),
    ];
    let source = descriptor.annotations.get(SOURCE_DIGEST);
    fields.extend(source.map(|source| field("Source:", printable(source))));
    if let Some(index) = &inspection.index {
        fields.extend(describe_index(index));
    }
    let mut lines = table::lines(&fields, &[]);
    for image in &inspection.images {
        lines.push(String::new());
        lines.extend(describe_image(image));
    }
    if !inspection.referrers.is_empty() {
        lines.extend([String::new(), "Referrers:".to_owned()]);
        let referrer = |referrer: &Descriptor| {
            let artifact_type = referrer.artifact_type.as_deref().unwrap_or(referrer.media_type.as_str());
            vec![format!("  {}", printable(artifact_type)), referrer.digest.to_string(), size(referrer.size)]
        };
        let rows: Vec<_> = inspection.referrers.iter().map(referrer).collect();
        lines.extend(table::lines(&rows, &[2]));
    }
    lines
}

fn describe_index(index: &IndexSummary) -> Vec<Vec<String>> {
    let field = |name: &str, value: String| vec![name.to_owned(), value];
    let artifact_type = index.artifact_type.iter().map(|text| field("Artifact:", printable(text)));
    let subject = index.subject.iter().map(|subject| field("Subject:", subject.digest.to_string()));
    let mut fields: Vec<_> = artifact_type.chain(subject).collect();
    let mut seen = BTreeSet::new();
    let different = index.platforms.iter().filter(|platform| seen.insert(*platform));
    let platforms: Vec<String> = different.map(|platform| printable(platform)).collect();
    fields.push(field("Platforms:", platforms.join(", ")));
    for (name, reason) in [("Left out:", Absence::LeftOut), ("Missing:", Absence::Missing)] {
        let absent = index.absent.iter().filter(|absent| absent.reason == reason);
        fields.extend(absent_platforms(absent).map(|text| field(name, text)));
    }
    let annotations = index.annotations.iter();
    fields.extend(
        annotations
            .map(|(key, value)| field("Annotation:", format!("{}: {}", printable(key), printable(value)))),
    );
    fields
}

/// Platforms in the index's order; what has none that says anything by its digest, and attestations by their number.
fn absent_platforms<'a>(absent: impl Iterator<Item = &'a AbsentPlatform>) -> Option<String> {
    let (mut shown, mut attestations) = (Vec::new(), 0);
    for absent in absent {
        match &absent.platform {
            Some(platform) if platform.is_unknown() => attestations += 1,
            Some(platform) => shown.push(printable(&platform.specifier())),
            None => shown.push(absent.digest.to_string()),
        }
    }
    if attestations > 0 {
        shown.push(counted(attestations, "attestation"));
    }
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn describe_image(image: &InspectedImage) -> Vec<String> {
    let heading = image.platform.as_ref().map_or_else(|| "artifact".to_owned(), ToString::to_string);
    let blob = |descriptor: &Descriptor| format!("{} ({})", descriptor.digest, size(descriptor.size));
    let field = |name: &str, value: String| vec![format!("  {name}"), value];
    let config = &image.config.descriptor;
    let is_embedded = if config.data.is_some() { ", embedded in the manifest" } else { "" };
    let mut fields = vec![field("Manifest:", blob(&image.manifest))];
    fields.extend(image.artifact_type.iter().map(|text| field("Artifact:", printable(text))));
    fields.extend(image.subject.iter().map(|subject| field("Subject:", blob(subject))));
    fields.push(field("Config:", format!("{}{is_embedded}", blob(config))));
    if image.config.content.is_none() {
        fields.push(field("Config type:", printable(config.media_type.as_str())));
    }
    fields.extend(image.error.iter().map(|error| field("Error:", printable(error))));
    fields.push(field("Size:", format!("{} in {}", size(image.size), counted(image.layers.len(), "layer"))));
    if let Some(bytes) = image.uncompressed_size {
        fields.push(field("Uncompressed:", size(bytes)));
    }
    fields.extend(image.created.as_deref().map(|created| field("Created:", printable(created))));
    let mut lines = table::lines(&fields, &[]);
    section(&mut lines, "Layers", &describe_layers(&image.layers));
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

/// A line a layer, and below it where else it lives.
fn describe_layers(layers: &[InspectedLayer]) -> Vec<String> {
    let row = |layer: &InspectedLayer| {
        let diff_id =
            layer.diff_id.map_or_else(String::new, |diff_id| format!("diff ID {}", diff_id.short()));
        let absent = match layer.absent {
            Some(Absence::LeftOut) => "left out",
            Some(Absence::Missing) => "missing",
            None => "",
        };
        let media_type = printable(layer.descriptor.media_type.as_str());
        let digest = layer.descriptor.digest.to_string();
        vec![size(layer.descriptor.size), digest, media_type, diff_id, absent.to_owned()]
    };
    let rows: Vec<_> = layers.iter().map(row).collect();
    let urls = |layer: &InspectedLayer| -> Vec<String> {
        layer.descriptor.urls.iter().map(|url| format!("  at {}", ocipull::registry::bare_url(url))).collect()
    };
    let lines = table::lines(&rows, &[0]).into_iter().zip(layers);
    lines.flat_map(|(line, layer)| std::iter::once(line).chain(urls(layer))).collect()
}

fn section(lines: &mut Vec<String>, heading: &str, content: &[String]) {
    if !content.is_empty() {
        lines.push(format!("  {heading}:"));
        lines.extend(content.iter().map(|line| format!("    {line}")));
    }
}
