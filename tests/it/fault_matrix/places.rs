//! Places on a network where nobody answers, none of them beyond this machine.

use std::sync::LazyLock;

use tokio::net::TcpSocket;

/// A port of loopback that is taken, so that no server can get it, and on which nobody listens.
static NOBODY: LazyLock<(TcpSocket, String)> = LazyLock::new(|| {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    (socket, url)
});

/// A URL whose host refuses connections.
pub(super) fn nobody() -> String {
    NOBODY.1.clone()
}

/// A host whose name cannot resolve: its first label is longer than the 63 bytes that a question to a name server has room
/// for (RFC 1035, section 3.1), so that none is sent, and its last one is reserved for names that do not exist (RFC 6761).
pub(super) fn nameless() -> String {
    format!("{}.invalid", "n".repeat(64))
}

/// A URL whose host does not resolve.
pub(super) fn no_name() -> String {
    format!("http://{}/", nameless())
}
