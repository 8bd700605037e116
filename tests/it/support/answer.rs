//! One answer before it goes out: what is sent, how its length is told, and where it stops.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::content::shared;
use super::faults::Gate;

/// How the client learns where the body ends (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `Content-Length` is the body's.
    Length,
    /// `Content-Length` is this; the connection is closed after the body.
    Claimed(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection is closed after the body.
    UntilClose,
}

/// What happens where a body stops early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The connection is closed once everything arrived.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more is sent until the client leaves.
    Stall,
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) framing: Framing,
    pub(crate) stop: Option<(usize, Ending)>,
    /// The same, within the status line and the headers.
    pub(crate) head_stop: Option<(usize, Ending)>,
    pub(crate) hold: Option<(usize, Gate)>,
    pub(crate) bytes_per_second: Option<u64>,
    /// How long the body takes, byte by byte.
    pub(crate) drip: Option<Duration>,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: vec![("Docker-Distribution-Api-Version".into(), "registry/2.0".into())],
            body: Bytes::new(),
            framing: Framing::Length,
            stop: None,
            head_stop: None,
            hold: None,
            bytes_per_second: None,
            drip: None,
        }
    }

    /// An error document as the distribution spec gives it ("Error Codes").
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({ "errors": [{ "code": code, "message": message }] }))
    }

    pub(crate) fn json(status: u16, document: &serde_json::Value) -> Self {
        let mut answer = Self::new(status).with("Content-Type", "application/json");
        answer.body = shared(document.to_string());
        answer
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self::new(307).with("Location", location)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.into(), value.into()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether the connection can carry another request after this answer.
    pub(crate) fn keeps_connection(&self) -> bool {
        matches!(self.framing, Framing::Length | Framing::Chunked)
            && self.stop.is_none()
            && self.head_stop.is_none()
    }

    /// The status line and the headers.
    pub(crate) fn head(&self, close: bool) -> Vec<u8> {
        let reason = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Unassigned");
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        match self.framing {
            Framing::Length => write!(head, "Content-Length: {}\r\n", self.body.len()).unwrap(),
            Framing::Claimed(length) => write!(head, "Content-Length: {length}\r\n").unwrap(),
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => {}
        }
        if close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}
