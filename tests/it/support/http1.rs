//! HTTP/1.1 as far as a registry's clients speak it, read by hand: the faults need exact control over the bytes of an
//! answer, and a server library refuses to send what a broken server sends.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest head of a request that is read, as in common servers.
const LONGEST_HEAD: usize = 64 * 1024;
/// The longest body of a request that is read: a token request is a few KiB.
const LONGEST_BODY: usize = 1024 * 1024;

/// A request as it was read.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// Reads the next request; `None` when the client closed the connection between two.
///
/// # Errors
///
/// When the connection breaks, or what came is not HTTP/1.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<Incoming>> {
    let head_length = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > LONGEST_HEAD {
            return Err(not_http("a head that does not end"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    };
    let head = buffer.split_to(head_length);
    let mut incoming = parse(std::str::from_utf8(&head).map_err(|_| not_http("a head that is not text"))?)?;
    let length = incoming.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Ok(0), |(_, value)| value.parse()).map_err(|_| not_http("a length"))?;
    if length > LONGEST_BODY {
        return Err(not_http("a body that no registry takes"));
    }
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    incoming.body = buffer.split_to(length).freeze();
    Ok(Some(incoming))
}

fn parse(head: &str) -> io::Result<Incoming> {
    let mut lines = head.split("\r\n");
    let mut request_line = lines.next().unwrap_or_default().split(' ');
    let (method, target, version) = (request_line.next(), request_line.next(), request_line.next());
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) = (method, target, version) else {
        return Err(not_http("a request line"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| not_http("a header"))?;
            Ok((name.to_owned(), value.trim().to_owned()))
        })
        .collect::<io::Result<_>>()?;
    Ok(Incoming {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        headers,
        body: Bytes::new(),
    })
}

fn not_http(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("expected HTTP/1, got something else for {what}"))
}
