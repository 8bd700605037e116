//! The journal beside a staged blob: which byte ranges of it an earlier process left on disk.
//!
//! A staged file is sparse, so its length proves nothing; the journal does. It is a text file, a record a line, each
//! with a checksum of its own (CRC-32 of what stands before it):
//!
//! ```text
//! ocipull-journal 1 sha256:4f0c… 104857600 8d3f00aa
//! owner 4711 52c1a0de
//! have 0 1048576 0d9e3a51
//! ```
//!
//! Data is written before the record that tells of it, and records are only ever appended. Reading stops at the first
//! line that is torn or does not check; a journal whose first line is not of this blob counts as none. That holds for
//! the death of the process. After a power loss the records may be ahead of the data, and the digest decides.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::atomic::{self, Access};
use super::error::{LayoutError, Operation};
use super::intervals::Intervals;
use crate::digest::Digest;
use crate::failpoint::fail_point;

/// No journal of ours comes near this: at a record a MiB it would tell of a blob of 250 GiB.
const LONGEST: u64 = 16 << 20;

/// A blob of up to this size has a journal only once there is something to note of it: most are there in one go, and a file
/// that is made and removed for nothing costs more than their bytes do.
const SMALL: u64 = 64 << 10;

/// The journal of a blob, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    /// `None` for a small blob of which nothing was noted yet.
    file: Mutex<Option<File>>,
    path: PathBuf,
    digest: Digest,
    size: u64,
}

/// What a journal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The bytes that are on disk.
    pub(crate) have: Intervals,
    /// The process that wrote last.
    pub(crate) owner: Option<u32>,
    /// How many bytes of the journal are sound.
    pub(super) sound: u64,
}

impl Journal {
    /// Opens or starts the journal at `path`. The staged file's lock is held, so nobody else writes here.
    pub(crate) fn open(path: &Path, digest: &Digest, size: u64) -> Result<(Self, Intervals), LayoutError> {
        let (file, have) = if size <= SMALL && atomic::open(path, Access::Read)?.is_none() {
            (None, Intervals::new())
        } else {
            let (file, have) = open_file(path, digest, size)?;
            (Some(file), have)
        };
        Ok((Self { file: Mutex::new(file), path: path.to_owned(), digest: *digest, size }, have))
    }

    /// Notes that the bytes of `range` are on disk. They were written before.
    pub(crate) fn note(&self, range: &Range<u64>) -> Result<(), LayoutError> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *held {
            Some(file) => file,
            // Small and whole: its commit is next.
            None if *range == (0..self.size) => return Ok(()),
            none => {
                let (file, _) = open_file(&self.path, &self.digest, self.size)?;
                let file = none.insert(file);
                // There was none when the blob was staged: what may be there is no word about these bytes.
                self.start_over(file)?;
                file
            }
        };
        let mut line = String::new();
        push_line(&mut line, &format!("have {} {}", range.start, range.end));
        let bytes = line.as_bytes();
        fail_point!(Write(bytes), &self.path, file.write_all(bytes))
            .map_err(|error| LayoutError::io(Operation::Write, &self.path, error))
    }

    /// Forgets everything: the blob starts from zero.
    pub(crate) fn clear(&self) -> Result<(), LayoutError> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_mut().map_or(Ok(()), |file| self.start_over(file))
    }

    /// Whether there is nothing to note of these bytes, or somewhere to note it: the file need not be made for it.
    pub(crate) fn takes(&self, range: &Range<u64>) -> bool {
        *range == (0..self.size) || self.file.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn start_over(&self, file: &mut File) -> Result<(), LayoutError> {
        let lines = beginning(&self.digest, self.size);
        let bytes = lines.as_bytes();
        fail_point!(Truncate, &self.path, file.set_len(0))
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| fail_point!(Write(bytes), &self.path, file.write_all(bytes)))
            .map_err(|error| LayoutError::io(Operation::Write, &self.path, error))
    }
}

/// Opens or starts a journal's file; what is sound of it is kept.
fn open_file(path: &Path, digest: &Digest, size: u64) -> Result<(File, Intervals), LayoutError> {
    let io = |operation| move |error| LayoutError::io(operation, path, error);
    let mut file = atomic::open(path, Access::Write)?
        .ok_or_else(|| io(Operation::Create)(std::io::ErrorKind::NotFound.into()))?;
    let record = read_from(&mut file, digest, size).map_err(io(Operation::Read))?;
    fail_point!(Truncate, path, file.set_len(record.sound)).map_err(io(Operation::Write))?;
    file.seek(SeekFrom::End(0)).map_err(io(Operation::Write))?;
    let lines = if record.sound == 0 { beginning(digest, size) } else { owner() };
    let bytes = lines.as_bytes();
    fail_point!(Write(bytes), path, file.write_all(bytes)).map_err(io(Operation::Write))?;
    Ok((file, record.have))
}

fn beginning(digest: &Digest, size: u64) -> String {
    let mut lines = String::new();
    push_line(&mut lines, &format!("ocipull-journal 1 {digest} {size}"));
    lines + &owner()
}

fn owner() -> String {
    let mut line = String::new();
    push_line(&mut line, &format!("owner {}", std::process::id()));
    line
}

/// What the journal at `path` says of this blob, without touching it. No journal, or an unreadable one, says nothing.
pub(crate) fn read(path: &Path, digest: &Digest, size: u64) -> Record {
    let file = atomic::open(path, Access::Read).ok().flatten();
    file.and_then(|mut file| read_from(&mut file, digest, size).ok()).unwrap_or_default()
}

/// Whether the journal at `path`, whichever blob's it is, tells of any bytes.
pub(crate) fn tells_anything(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let file = atomic::open(path, Access::Read).ok().flatten();
    file.is_some_and(|file| file.take(LONGEST).read_to_end(&mut bytes).is_ok())
        && bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map_while(checked)
            .any(|content| content.starts_with("have "))
}

fn read_from(file: &mut File, digest: &Digest, size: u64) -> std::io::Result<Record> {
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(parse(&bytes, digest, size))
}

pub(super) fn push_line(lines: &mut String, content: &str) {
    let _ = writeln!(lines, "{content} {:08x}", crc32fast::hash(content.as_bytes()));
}

pub(super) fn parse(bytes: &[u8], digest: &Digest, size: u64) -> Record {
    let mut record = Record::default();
    let header = format!("ocipull-journal 1 {digest} {size}");
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(content) = checked(line) else { break };
        let mut words = content.split(' ');
        match (number, words.next()) {
            (0, _) if content == header => {}
            (1.., Some("owner")) => record.owner = words.next().and_then(|word| word.parse().ok()),
            (1.., Some("have")) => match range(&mut words) {
                Some(range) if range.end <= size => record.have.insert(range),
                _ => break,
            },
            _ => break,
        }
        record.sound += line.len() as u64;
    }
    record
}

/// The content of a whole line whose checksum holds.
fn checked(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (content, checksum) = line.rsplit_once(' ')?;
    let expected = u32::from_str_radix(checksum, 16).ok()?;
    (crc32fast::hash(content.as_bytes()) == expected).then_some(content)
}

fn range<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Range<u64>> {
    let start = words.next()?.parse().ok()?;
    let end = words.next()?.parse().ok()?;
    (start < end && words.next().is_none()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1000;

    fn blob() -> Digest {
        Digest::sha256(b"blob")
    }

    fn written() -> Vec<u8> {
        let mut lines = String::new();
        push_line(&mut lines, &format!("ocipull-journal 1 {} {SIZE}", blob()));
        push_line(&mut lines, "owner 4711");
        push_line(&mut lines, "have 0 100");
        push_line(&mut lines, "have 500 1000");
        lines.into_bytes()
    }

    fn ranges(record: &Record) -> Vec<Range<u64>> {
        record.have.iter().collect()
    }

    /// What was noted is what the next process finds, through a real file and twice over.
    #[test]
    fn a_second_process_finds_what_was_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (journal, have) = Journal::open(&path, &blob(), SIZE).unwrap();
        assert!(have.is_empty());
        journal.note(&(0..100)).unwrap();
        let (journal, have) = Journal::open(&path, &blob(), SIZE).unwrap();
        assert_eq!(have, Intervals::prefix(100));
        journal.note(&(100..150)).unwrap();
        let record = read(&path, &blob(), SIZE);
        assert_eq!(record.have, Intervals::prefix(150));
        assert_eq!(record.owner, Some(std::process::id()));
        journal.clear().unwrap();
        assert!(read(&path, &blob(), SIZE).have.is_empty());
    }

    /// Of a small blob that comes in one go nothing is noted; of one that does not, what is there is found again. A larger
    /// one has its journal from the beginning, which tells others whose it is.
    #[test]
    fn a_small_blob_has_a_journal_when_it_needs_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (journal, _) = Journal::open(&path, &blob(), SIZE).unwrap();
        journal.note(&(0..SIZE)).unwrap();
        journal.clear().unwrap();
        assert!(!path.exists());
        journal.note(&(0..100)).unwrap();
        journal.note(&(100..SIZE)).unwrap();
        let (journal, have) = Journal::open(&path, &blob(), SIZE).unwrap();
        assert_eq!(have, Intervals::prefix(SIZE));
        journal.clear().unwrap();
        journal.note(&(0..SIZE)).unwrap();
        assert_eq!(read(&path, &blob(), SIZE).have, Intervals::prefix(SIZE));
        // Begun late, it is no other's: what stands there by then is somebody else's.
        let path = folder.path().join("other");
        let (journal, _) = Journal::open(&path, &blob(), SIZE).unwrap();
        std::fs::write(&path, written()).unwrap();
        assert!(!journal.takes(&(200..300)));
        journal.note(&(200..300)).unwrap();
        assert_eq!(ranges(&read(&path, &blob(), SIZE)), std::slice::from_ref(&(200..300)));
        assert!(journal.takes(&(300..400)));
        let (path, size) = (folder.path().join("larger"), SMALL + 1);
        let _journal = Journal::open(&path, &blob(), size).unwrap();
        assert_eq!(read(&path, &blob(), size).owner, Some(std::process::id()));
    }

    /// A journal cut anywhere says only what its whole records say, and never more.
    #[test]
    fn a_torn_journal_says_what_its_whole_records_say() {
        let whole = written();
        for end in 0..=whole.len() {
            let record = parse(&whole[..end], &blob(), SIZE);
            assert!(record.sound <= end as u64);
            let lines =
                whole[..end].split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
            let expected: &[Range<u64>] = match lines.count() {
                4 => &[0..100, 500..1000],
                3 => std::slice::from_ref(&(0..100)),
                _ => &[],
            };
            assert_eq!(ranges(&record), expected, "cut at {end}");
        }
    }

    /// A flipped bit ends the reading before its record.
    #[test]
    fn a_flipped_bit_is_not_believed() {
        let whole = written();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            let record = parse(&bad, &blob(), SIZE);
            assert!(record.sound <= at as u64, "flipped at {at}");
        }
    }

    /// The journal of another blob, of another size, or with a range past the end, tells nothing.
    #[test]
    fn the_journal_of_another_blob_is_none() {
        assert!(parse(&written(), &Digest::sha256(b"other"), SIZE).have.is_empty());
        assert!(parse(&written(), &blob(), SIZE - 1).have.is_empty());
        let mut lines = String::new();
        push_line(&mut lines, &format!("ocipull-journal 1 {} {SIZE}", blob()));
        push_line(&mut lines, "have 0 1001");
        assert!(parse(lines.as_bytes(), &blob(), SIZE).have.is_empty());
    }
}
