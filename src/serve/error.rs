//! Why a layout cannot be served. What goes wrong with one request is that request's answer instead.

use std::io;
use std::net::SocketAddr;

use crate::failure::{Failure, Kind};
use crate::layout::LayoutError;

/// Why a layout cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The layout's `index.json` cannot be understood.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl Failure for ServeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Layout(error) => error.kind(),
            Self::Listen { .. } => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Layout(error) => error.hint(),
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    Some("choose another port, or port 0 for any free one".to_owned())
                }
                io::ErrorKind::AddrNotAvailable => Some("choose an address of this machine".to_owned()),
                io::ErrorKind::PermissionDenied => Some("choose a port above 1023".to_owned()),
                _ => None,
            },
        }
    }
}
