//! A door to the staging journal, which is not public, for the properties in `tests/properties` and the fuzzers in `fuzz/`.
//! Each function is one call, and nothing is decided here.

use super::intervals::Intervals;
use super::journal;
use crate::digest::Digest;

/// What the text of a journal says of a blob: the bytes that are on disk, the process that wrote last, and how many bytes of
/// the text are sound.
pub fn journal(text: &[u8], digest: &Digest, size: u64) -> (Intervals, Option<u32>, u64) {
    let record = journal::parse(text, digest, size);
    (record.have, record.owner, record.sound)
}

/// A line of a journal: its content, its checksum, and its end.
pub fn journal_line(content: &str) -> String {
    let mut line = String::new();
    journal::push_line(&mut line, content);
    line
}
