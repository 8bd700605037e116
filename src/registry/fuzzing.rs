//! Doors to pure parts of the registry client that are not public, for the properties in `tests/properties` and the fuzzers
//! in `fuzz/`. Each function is one call, and nothing is decided here.

use std::ops::Range;

use bytes::Bytes;

use super::{codes, encoding, range};

/// The bytes that a 206 answer holds: its `Content-Range` and `Content-Length` held against what was asked for.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn content_range(
    header: Option<&str>,
    length: Option<u64>,
    wanted: &Range<u64>,
    size: u64,
) -> Result<Range<u64>, String> {
    range::agreed(header, length, wanted, size)
}

/// A document without the encodings that a `Content-Encoding` lists, at most `cap` bytes of it.
///
/// # Errors
/// What is wrong with it.
pub fn decoded(body: Bytes, header: &str, cap: u64) -> Result<Bytes, String> {
    encoding::decode(body, header, cap).map_err(|error| match error {
        encoding::Undecodable::TooLarge => "too large".to_owned(),
        encoding::Undecodable::Broken { encoding, reason } => format!("{encoding}: {reason}"),
    })
}

/// What is shown of the body of a refusal, an element for each of its errors.
pub fn refusals(body: &[u8]) -> Vec<String> {
    codes::Code::parse(body).iter().map(ToString::to_string).collect()
}
