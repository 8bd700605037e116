//! `ocipull serve`: a layout over the distribution API, until a signal ends it.

use ocipull::layout::Layout;
use ocipull::serve::Server;

use super::super::args::ServeArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::runtime;
use super::super::settings;

/// Serves the layout. To be stopped is how a server ends, so a signal is no failure.
pub(super) fn run(args: &ServeArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let folder = settings::folder(&args.layout)?;
    let failed = |diagnostic: Diagnostic| diagnostic.during(format!("cannot serve {}", folder.display()));
    let layout = Layout::open(&folder).map_err(|error| failed(Diagnostic::of(&error)))?;
    let server = Server::bind(layout, args.listen).map_err(|error| failed(Diagnostic::of(&error)))?;
    for name in server.names().map_err(|error| failed(Diagnostic::of(&error)))? {
        printer.notice(&format!("serving {name}"));
    }
    let ended = runtime::run_until_stopped(async |stop| {
        // Said where signals are heard already: who reads it may send one at once.
        printer.result(&format!("listening on http://{}", server.local_addr()))?;
        server.run(stop).await.map_err(|error| failed(Diagnostic::of(&error)))
    });
    ended?.map(|()| Exit::Done)
}
