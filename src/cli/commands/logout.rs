//! `ocipull logout`: stored credentials removed.

use ocipull::registry::LoginKey;
use ocipull::registry::auth::{ConfiguredCredentials, CredentialOrigin, CredentialSource as _, Logins};

use super::super::args::LogoutArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::{endpoints, settings};

/// Removes the credentials, and says from where they went and whether others are left. Not to be logged in is no failure.
pub(super) fn run(args: &LogoutArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let helpers = endpoints::helpers_of_user(args.registries_conf.as_deref())?;
    let logins = Logins::new(settings::environment(args.authfile.as_ref())).with_helpers(helpers.clone());
    let Some(registry) = &args.registry else {
        let failed = |error| Diagnostic::of(&error).during("cannot log out of all registries");
        let removed = logins.remove_all().map_err(failed)?;
        tell(&removed, printer);
        printer.result("logged out of all registries")?;
        return Ok(Exit::Done);
    };
    let key = settings::login_key(registry)?;
    let failed = |diagnostic: Diagnostic| diagnostic.during(format!("cannot log out of {key}"));
    let removed = logins.remove(&key).map_err(|error| failed(Diagnostic::of(&error)))?;
    tell(&removed, printer);
    if removed.is_empty() {
        printer.notice(&format!("not logged in to {key} where `ocipull login` stores credentials"));
    } else {
        printer.result(&format!("logged out of {key}"))?;
    }
    left(&key, args, helpers, printer);
    Ok(Exit::Done)
}

fn tell(removed: &[CredentialOrigin], printer: &Printer) {
    for origin in removed {
        printer.notice(&format!("removed from {origin}"));
    }
}

/// Warns when there are still credentials for the registry, in docker's file for one.
fn left(key: &LoginKey, args: &LogoutArgs, helpers: Vec<String>, printer: &Printer) {
    let configured =
        ConfiguredCredentials::new(settings::environment(args.authfile.as_ref())).with_helpers(helpers);
    // What cannot be read is no credential; the next fetch will say so where it matters.
    if let Ok(Some(found)) = configured.credentials(key.repository()) {
        printer.warning(&format!("there are still credentials for {key}, from {}", found.origin));
    }
}
