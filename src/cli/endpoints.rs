//! Which endpoints stand for registries, and how they prove who they are: the configuration of this machine with what the
//! options say of this run.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ocipull::reference::Reference;
use ocipull::registry::ServerVerification;
use ocipull::registry::config::Environment;
use ocipull::registry::config::certs_d::{Certificates, CertsD};
use ocipull::registry::config::registries_conf::{Registries, RunMirror};

use super::args::ReachArgs;
use super::diagnostic::Diagnostic;

/// registries.conf: the named one, or this user's and this machine's; with the mirrors of this run.
pub(super) fn registries(access: &ReachArgs, mirrors: &[RunMirror]) -> Result<Arc<Registries>, Diagnostic> {
    let registries = read(access.registries_conf.as_deref())?;
    Ok(Arc::new(registries.with_run_mirrors(mirrors.to_vec())))
}

/// The helpers that this machine's configuration names, for what asks no registry.
pub(super) fn helpers_of_user(named: Option<&Path>) -> Result<Vec<String>, Diagnostic> {
    Ok(helpers(&read(named)?))
}

fn read(named: Option<&Path>) -> Result<Registries, Diagnostic> {
    let read = Registries::read(&Environment::of_process(), named);
    read.map_err(|error| Diagnostic::of(&error))
}

/// Which credential helpers are asked.
pub(super) fn helpers(registries: &Registries) -> Vec<String> {
    registries.credential_helpers().into_iter().map(str::to_owned).collect()
}

/// certs.d: the named folder, which is read once here so that a mistake in it ends the run at once; or the three places.
pub(super) fn certs_d(access: &ReachArgs) -> Result<CertsD, Diagnostic> {
    let Some(folder) = &access.cert_dir else { return Ok(CertsD::of(&Environment::of_process())) };
    Certificates::read(folder).map_err(|error| Diagnostic::of(&error))?;
    Ok(CertsD::Folder(folder.clone()))
}

/// How servers prove who they are. What was said outright is stronger than what is configured.
pub(super) fn verification(access: &ReachArgs) -> ServerVerification {
    match access.tls_verify {
        None => ServerVerification::SystemRoots,
        Some(true) => ServerVerification::Insisted,
        Some(false) => ServerVerification::Disabled,
    }
}

/// The registries that are asked for the references in the end, in lower case: where the configuration has another location
/// for one, that is its registry. Mirrors are not among them.
pub(super) fn hosts(
    references: &[&Reference],
    registries: &Registries,
) -> Result<BTreeSet<String>, Diagnostic> {
    let mut hosts = BTreeSet::new();
    for reference in references {
        let candidates = registries.candidates(reference).map_err(|error| Diagnostic::of(&error))?;
        let host = |found: &Reference| {
            // What cannot be rewritten is an error when it is asked for, and has no other host until then.
            let endpoints = registries.endpoints(found).unwrap_or_default();
            let primary = endpoints.last().map_or(found, |endpoint| &endpoint.reference);
            primary.repository().host().to_ascii_lowercase()
        };
        hosts.extend(candidates.references.iter().map(host));
    }
    Ok(hosts)
}
