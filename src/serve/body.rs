//! Bodies of answers: bytes at hand, or a part of a file that is read as the client takes it.

use std::fs::File;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How much of a file is read at once, and is all that an answer holds in memory.
const CHUNK: u64 = 128 << 10;

/// No bytes.
pub(super) fn none() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// These bytes.
pub(super) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A part of a file. Each read runs on a blocking thread, and the next one begins when the client has taken the last.
///
/// A file that ends early ends the connection: the length was promised.
pub(super) fn part(file: File, range: Range<u64>) -> Body {
    let chunks = stream::try_unfold((file, range), |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let length = CHUNK.min(range.end - range.start);
            let mut chunk = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            let mut filled = 0;
            while filled < chunk.len() {
                let offset = range.start + filled as u64;
                match crate::layout::read_at(&file, &mut chunk[filled..], offset) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((Bytes::from(chunk), (file, range.start + length..range.end)))
        });
        let (chunk, rest) = read.await.map_err(io::Error::other)??;
        Ok(Some((Frame::data(chunk), rest)))
    });
    StreamBody::new(chunks).boxed_unsync()
}
