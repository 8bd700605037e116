//! `ocipull serve`: a layout over the distribution API, until a signal ends it.

use std::io;
use std::net::ToSocketAddrs as _;

use ocipull::failure::{Failure, Kind};
use ocipull::layout::Layout;
use ocipull::serve::Server;
use ocipull::text::printable;

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
    let server = bind(&layout, &args.listen).map_err(failed)?;
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

/// Why a name to listen on came to no address.
#[derive(Debug, thiserror::Error)]
enum ListenError {
    #[error("cannot listen on {}: the name cannot be resolved", printable(name))]
    Unresolved { name: String, source: io::Error },
    #[error("cannot listen on {}: the name has no address", printable(name))]
    NoAddress { name: String },
}

impl Failure for ListenError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("choose an address of this machine, such as 127.0.0.1:5000".to_owned())
    }
}

/// Listens on the first address of a name that can be listened on, IPv4 before IPv6: that is what older clients of
/// `localhost` try.
fn bind(layout: &Layout, listen: &str) -> Result<Server, Diagnostic> {
    let name = || listen.to_owned();
    let resolved = listen
        .to_socket_addrs()
        .map_err(|source| Diagnostic::of(&ListenError::Unresolved { name: name(), source }))?;
    let mut addresses: Vec<_> = resolved.collect();
    addresses.sort_by_key(|address| !address.is_ipv4());
    let mut failure = None;
    for address in addresses {
        match Server::bind(layout.clone(), address) {
            Ok(server) => return Ok(server),
            Err(error) => failure = failure.or(Some(Diagnostic::of(&error))),
        }
    }
    Err(failure.unwrap_or_else(|| Diagnostic::of(&ListenError::NoAddress { name: name() })))
}
