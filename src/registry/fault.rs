//! How a connection fails.

use std::time::Duration;

use http::StatusCode;

use super::tls::{CLIENT_CERTIFICATE, CLIENT_CERTIFICATE_REFUSED};

/// How the connection failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The host's name does not resolve.
    #[error("the name does not resolve: {0}")]
    Resolve(String),
    /// No connection came about.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No connection came about through the proxy that the environment names.
    #[error("the proxy {proxy} gives no connection: {reason}")]
    Proxy {
        /// Its URL.
        proxy: String,
        /// What happened.
        reason: String,
    },
    /// The TLS handshake failed, or the certificate is not accepted.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The server answered the TLS hello with something else.
    #[error("the server does not speak TLS")]
    NotTls,
    /// The server closed the connection upon the TLS hello.
    #[error("the server closed the connection during the TLS handshake")]
    HandshakeClosed,
    /// The connection ended in the TLS handshake, to which the server had answered.
    #[error("the connection was cut during the TLS handshake")]
    HandshakeCut,
    /// The connection broke before the answer, or the answer is not HTTP.
    #[error("the request failed: {0}")]
    Request(String),
    /// Nothing came for the stall timeout.
    #[error("nothing came for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// It was not asked: it wants to be left alone for so long.
    #[error("not asked: it asked to be left alone for another {} s", .0.as_secs_f64().ceil())]
    HeldOff(Duration),
    /// Less than 1 KiB/s came, over a minute.
    #[error("less than 1 KiB/s came, for {} s", .0.as_secs())]
    Slow(Duration),
    /// The body ended early.
    #[error("the body was cut off after {}{}", bytes(*.received), announced(*.wanted))]
    Cut {
        /// The bytes that came.
        received: u64,
        /// The bytes that were to come, where that is known.
        wanted: Option<u64>,
    },
}

impl Fault {
    /// The same, where the connection was to go through `proxy`: whatever keeps it from coming about is the proxy's, which is
    /// the one that connects and resolves names.
    pub(super) fn through(self, proxy: Option<String>) -> Self {
        match (self, proxy) {
            (Self::Resolve(reason) | Self::Connect(reason), Some(proxy)) => Self::Proxy { proxy, reason },
            (fault, _) => fault,
        }
    }

    /// Whether no conversation came about at all.
    pub(super) fn is_unreachable(&self) -> bool {
        !matches!(self, Self::Request(_) | Self::HeldOff(_) | Self::Slow(_) | Self::Cut { .. })
    }

    /// What an answer says of the connection that it came over. nginx, and what is built on it, lets a handshake pass
    /// without the client certificate that it demands, or with another one, and then answers every request with one of
    /// these pages (`ngx_http_special_response.c`, statuses 496 and 495 inside, 400 outside).
    pub(super) fn in_answer(status: StatusCode, body: &[u8]) -> Option<Self> {
        let says = |words: &str| body.windows(words.len()).any(|window| window == words.as_bytes());
        if status != StatusCode::BAD_REQUEST {
            None
        } else if says("No required SSL certificate was sent") {
            Some(Self::Tls(CLIENT_CERTIFICATE.to_owned()))
        } else if says("The SSL certificate error") {
            Some(Self::Tls(CLIENT_CERTIFICATE_REFUSED.to_owned()))
        } else {
            None
        }
    }
}

fn bytes(count: u64) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

fn announced(wanted: Option<u64>) -> String {
    wanted.map(|wanted| format!(" of {wanted}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all answers only nginx's two pages are about the connection; a registry's own 400 stays what it is.
    #[test]
    fn answers_about_the_connection() {
        let page = |title: &str| format!("<html>\r\n<head><title>400 {title}</title></head>\r\n</html>\r\n");
        let (none, refused) =
            (page("No required SSL certificate was sent"), page("The SSL certificate error"));
        for (status, body, expected) in [
            (400, none.as_str(), Some(CLIENT_CERTIFICATE)),
            (400, refused.as_str(), Some(CLIENT_CERTIFICATE_REFUSED)),
            (404, none.as_str(), None),
            (400, r#"{"errors":[{"code":"NAME_INVALID"}]}"#, None),
            (400, "", None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let expected = expected.map(|reason| Fault::Tls(reason.to_owned()));
            assert_eq!(Fault::in_answer(status, body.as_bytes()), expected, "{status} {body}");
        }
    }
}
