//! One file a subcommand: each turns its arguments into a call of the library and prints what came of it.

mod convert;
mod fetch;
mod inspect;
mod login;
mod logout;
mod ls;
mod resolve;
mod serve;
mod table;
mod tags;
mod verify;

use ocipull::reference::Reference;
use ocipull::registry::RegistryError;

use super::args::Command;
use super::diagnostic::Diagnostic;
use super::exit_code::{Exit, Signal};
use super::printer::Printer;

/// Runs a command.
///
/// # Errors
/// What ended it, to be printed. Failures that did not end it were printed and are in the [`Exit`].
pub(crate) fn run(command: Command, printer: &Printer) -> Result<Exit, Diagnostic> {
    match command {
        Command::Fetch(args) => fetch::run(&args, printer),
        Command::Resolve(args) => resolve::run(&args, printer),
        Command::Tags(args) => tags::run(&args, printer),
        Command::Inspect(args) => inspect::run(&args, printer),
        Command::Login(args) => login::run(&args, printer),
        Command::Logout(args) => logout::run(&args, printer),
        Command::Ls(args) => ls::run(&args, printer),
        Command::Verify(args) => verify::run(&args, printer),
        Command::Convert(args) => convert::run(&args, printer),
        Command::Serve(args) => serve::run(&args, printer),
    }
}

/// A reference in an error: where the error is about what it may mean, as it was written, and else by its full name.
fn named(reference: &Reference, error: &RegistryError) -> String {
    match error {
        RegistryError::NoneMeant { .. } | RegistryError::Configuration { .. } => reference.written(),
        _ => reference.to_string(),
    }
}

/// The end of a command that a signal stopped. `kept` says what that means.
fn stopped(signal: Signal, kept: &str, printer: &Printer) -> Exit {
    printer.clear_bars();
    printer.notice(&format!("{}{kept}", signal.name()));
    Exit::Stopped(signal)
}
