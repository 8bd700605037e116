//! The command line: arguments in, the library called, results and failures out.
//!
//! `args` says what may be written, `settings` and `target` turn it into the library's types, `commands` call the
//! library, `printer` alone writes to the standard streams. docs/cli.md is the contract.

mod args;
mod commands;
mod diagnostic;
mod endpoints;
mod exit_code;
mod printer;
mod progress;
mod runtime;
mod settings;
mod target;

use std::process::ExitCode;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use args::{Args, VerbosityArgs};
use exit_code::Exit;
use printer::{LogWriter, Printer, Verbosity};

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    let args = match Args::read(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output, usage errors to standard error; a closed one is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let verbosity = if args.verbosity.quiet { Verbosity::Quiet } else { Verbosity::Normal };
    let printer = Printer::new(verbosity);
    log(&args.verbosity, &printer);
    let ended = commands::run(args.command, &printer);
    printer.clear_bars();
    let exit = ended.unwrap_or_else(|diagnostic| {
        printer.diagnostic(&diagnostic);
        Exit::Failed(diagnostic.kind())
    });
    exit.into()
}

/// Sends this program's log, and no dependency's, to standard error.
fn log(verbosity: &VerbosityArgs, printer: &Printer) {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let printer = printer.clone();
    let lines = tracing_subscriber::fmt::layer().with_writer(move || LogWriter::new(printer.clone()));
    let ours = Targets::new().with_target(env!("CARGO_PKG_NAME"), level);
    tracing_subscriber::registry().with(lines).with(ours).init();
}
