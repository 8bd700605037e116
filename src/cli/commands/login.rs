//! `ocipull login`: credentials checked by the registry, then stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ocipull::failure::Kind;
use ocipull::progress::Reporter;
use ocipull::registry::auth::{CredentialOrigin, Given, Logins};
use ocipull::registry::{LoginCheck, LoginKey, Registry};

use super::super::args::LoginArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::progress::{Progress, Shown};
use super::super::runtime::{self, Ended};
use super::super::{endpoints, settings};

/// Asks for what is missing, asks the registry, and stores what it accepts.
pub(super) fn run(args: &LoginArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let key = settings::login_key(&args.registry)?;
    let registries = endpoints::registries(&args.reach, &[])?;
    let logins = Logins::new(settings::environment(args.authfile.as_ref()))
        .with_helpers(endpoints::helpers(&registries));
    logins.check().map_err(|error| Diagnostic::of(&error))?;
    let credentials = settings::login_credentials(args, &key, printer)?;
    let reporter: Arc<dyn Reporter> = Progress::new(Shown::Waits, printer);
    let given = Arc::new(Given::new(key.host(), credentials.clone()));
    let connections = settings::CONNECTIONS;
    let options = settings::reach(&args.reach, registries, &args.network, connections, given, &reporter)?;
    let failed = |diagnostic: Diagnostic| diagnostic.during(format!("cannot log in to {key}"));
    let is_storing = AtomicBool::new(false);
    let command = async || {
        let asked = async { Registry::new(options)?.log_in(&key).await };
        let check = asked.await.map_err(|error| refused(Diagnostic::of(&error)))?;
        // A helper may take its time, and a lock may be held: a signal ends the wait for them too.
        is_storing.store(true, Ordering::Relaxed);
        let key = key.clone();
        let storing = tokio::task::spawn_blocking(move || logins.store(&key, &credentials));
        let stored = storing.await.map_err(|panicked| Diagnostic::other(&panicked))?;
        Ok((check, stored.map_err(|error| Diagnostic::of(&error))?))
    };
    match runtime::run(command)? {
        Ended::Done(done) => {
            let (check, stored) = done.map_err(failed)?;
            report(&key, check, &stored, printer)?;
            Ok(Exit::Done)
        }
        Ended::Stopped(signal) if is_storing.load(Ordering::Relaxed) => {
            Ok(super::stopped(signal, "; it is not sure that the login was stored", printer))
        }
        Ended::Stopped(signal) => Ok(super::stopped(signal, "; nothing was stored", printer)),
    }
}

/// A refusal, with the hint for somebody who has just typed the password.
fn refused(diagnostic: Diagnostic) -> Diagnostic {
    if diagnostic.kind() != Kind::Auth {
        return diagnostic;
    }
    diagnostic.with_hint(
        "check user and password; many registries want an access token in place of the password. Nothing was stored",
    )
}

fn report(
    key: &LoginKey,
    check: LoginCheck,
    stored: &CredentialOrigin,
    printer: &Printer,
) -> Result<(), Diagnostic> {
    match check {
        LoginCheck::NotAsked => {
            printer.warning(&format!(
                "{key} does not ask for a login, so that the credentials could not be checked; they are stored all the same"
            ));
        }
        _ => printer.result(&format!("logged in to {key}"))?,
    }
    match stored {
        CredentialOrigin::File { .. } => {
            printer.notice(&format!("stored in {stored}, not encrypted but for this user alone to read"));
        }
        _ => printer.notice(&format!("stored by {stored}")),
    }
    Ok(())
}
