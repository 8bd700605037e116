//! `ocipull resolve`: what a reference stands for.

use std::sync::Arc;

use ocipull::fetch::Summary;
use ocipull::progress::Reporter;
use ocipull::reference::Reference;
use ocipull::registry::{Registry, RegistryError};
use serde_json::json;

use super::super::args::ResolveArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::progress::{Progress, Shown};
use super::super::runtime::{self, Ended};
use super::super::{settings, target};

/// Asks the registry and prints the digest.
pub(super) fn run(args: &ResolveArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let reference = target::reference(&args.reference).map_err(|error| Diagnostic::of(&error))?;
    let reporter: Arc<dyn Reporter> = Progress::new(Shown::Waits, printer);
    let options =
        settings::registry(&args.registry, &args.network, settings::CONNECTIONS, &[&reference], &reporter)?;
    let failed = |error: RegistryError| {
        Diagnostic::of(&error).during(format!("cannot resolve {}", super::named(&reference, &error)))
    };
    let command = async || {
        let registry = Registry::new(options)?;
        let resolve = |meant: Reference| {
            let registry = registry.clone();
            async move { registry.resolve(&meant).await }
        };
        registry.first_of(&reference, resolve).await
    };
    let (meant, resolved) = match runtime::run(command)? {
        Ended::Done(resolved) => resolved.map_err(failed)?,
        Ended::Stopped(signal) => return Ok(super::stopped(signal, "", printer)),
    };
    let descriptor = resolved.descriptor;
    if args.output.json {
        let report = json!({"reference": meant.to_string(), "descriptor": Summary::from(&descriptor)});
        printer.result_json(&report)?;
    } else {
        printer.result(&descriptor.digest.to_string())?;
    }
    Ok(Exit::Done)
}
