//! Staged blobs: files under `.ocipull/` that are filled out of order and become blobs once they are proven.
//!
//! A staged file is locked by the process that fills it, and the lock ends with that process. Whoever gets the lock
//! checks that the file still stands at its path, and that the blob did not get its final name meanwhile.

use std::fs::{File, TryLockError};
use std::io::Seek;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::atomic::{self, Access};
use super::error::{LayoutError, Operation};
use super::intervals::Intervals;
use super::journal::{self, Journal};
use super::{Layout, Leftovers};
use crate::digest::Digest;
use crate::failpoint::fail_point;
use crate::verify::ProvenBlob;

/// How much is written before the disk is set to work on it. What one commit waits for in the end is about as much.
const WRITE_BACK: u64 = 32 << 20;

/// Less than this is not worth a write of its own when a blob is complete: its commit follows.
const WORTH_WRITING_BACK: u64 = 4 << 20;

/// What a file of the right size under the blob's final name counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is the blob.
    Keep,
    /// It was found to be bad: a new one takes its place.
    Replace,
}

/// What came of trying to stage a blob.
#[derive(Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "there is one a blob, and it is taken apart at once")]
pub enum Staging {
    /// This process fills it now.
    Ready(StagedBlob),
    /// It has its final name already.
    Present,
    /// Another process fills it; its name as far as it is known.
    HeldBy(String),
}

/// A blob that is being filled. Writes may come in any order and from several tasks.
#[derive(Debug)]
pub struct StagedBlob {
    file: File,
    path: PathBuf,
    journal: Journal,
    journal_path: PathBuf,
    layout: Layout,
    digest: Digest,
    size: u64,
    recovered: Intervals,
    /// Written since the disk was last set to work on it.
    written: AtomicU64,
    is_writing_back: AtomicBool,
    /// Held while bytes are being made durable. What failed once is not tried again, and must not count as durable.
    durable: Mutex<Result<(), LayoutError>>,
    /// Bytes could not be made durable, and nothing is kept of any.
    is_lost: AtomicBool,
}

impl StagedBlob {
    /// Stages a blob, with what an earlier process left of it. Does file I/O, but waits for nobody.
    ///
    /// # Errors
    /// [`LayoutError::Io`] when the staged file or its journal cannot be made, read or locked; [`LayoutError::Vanished`] when
    /// the layout was removed since it was opened.
    pub fn stage(
        layout: &Layout,
        digest: &Digest,
        size: u64,
        existing: Existing,
    ) -> Result<Staging, LayoutError> {
        let is_there = || Ok::<_, LayoutError>(existing == Existing::Keep && layout.contains(digest, size)?);
        let path = layout.staging_path(digest, "part");
        let journal_path = layout.staging_path(digest, "journal");
        let file = loop {
            if is_there()? {
                return Ok(Staging::Present);
            }
            // A folder that was removed must not come back without its marker: nobody would take it for a layout.
            layout.still_stands()?;
            atomic::create_own_folder(layout.root(), &layout.staging_folder())?;
            // A process that had finished may take the folder away between the two steps.
            let Some(file) = atomic::open(&path, Access::Write)? else { continue };
            if !atomic::try_lock(&file, &path)? {
                let holder = journal::read(&journal_path, digest, size).owner;
                return Ok(Staging::HeldBy(
                    holder.map_or("another process".to_owned(), |id| format!("process {id}")),
                ));
            }
            if atomic::is_still_at(&file, &path)? {
                break file;
            }
        };
        // Its former holder may have finished between the first look and the lock.
        if is_there()? {
            atomic::remove_file(&path)?;
            atomic::remove_file(&journal_path)?;
            return Ok(Staging::Present);
        }
        let (journal, mut recovered) = Journal::open(&journal_path, digest, size)?;
        let length = file.metadata().map_err(|error| LayoutError::io(Operation::Read, &path, error))?.len();
        let noted = recovered.len();
        recovered.truncate(length);
        if recovered.len() < noted {
            // The journal belonged to a longer file. Its records would come true as holes once this one grows.
            journal.clear()?;
            for range in recovered.iter() {
                journal.note(&range)?;
            }
        }
        if length > size {
            fail_point!(Truncate, &path, file.set_len(size))
                .map_err(|error| LayoutError::io(Operation::Write, &path, error))?;
        }
        let (layout, digest) = (layout.clone(), *digest);
        Ok(Staging::Ready(Self {
            file,
            path,
            journal,
            journal_path,
            layout,
            digest,
            size,
            recovered,
            written: AtomicU64::new(0),
            is_writing_back: AtomicBool::new(false),
            durable: Mutex::new(Ok(())),
            is_lost: AtomicBool::new(false),
        }))
    }

    /// What an earlier process left: byte ranges that are on disk but not proven.
    pub fn recovered(&self) -> &Intervals {
        &self.recovered
    }

    /// The blob's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Writes at an offset.
    ///
    /// # Errors
    /// [`LayoutError::Io`], a full disk among them, and what [`Self::write_back`] met.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), LayoutError> {
        if self.is_lost.load(Ordering::Acquire) {
            return Err(self.why_lost());
        }
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        fail_point!(Write(bytes), &self.path, atomic::write_all_at(&self.file, bytes, offset))
            .map_err(|error| LayoutError::io(Operation::Write, &self.path, error))
    }

    /// Whether [`Self::write_back`] is to be called, off the async threads: the answer is yes once for every call. The kernel
    /// would let written bytes wait, and then they would all have to be written at the commit, while nothing else is to do.
    pub fn is_write_back_due(&self, is_complete: bool) -> bool {
        let due = if is_complete { WORTH_WRITING_BACK } else { WRITE_BACK };
        self.written.load(Ordering::Relaxed) >= due && !self.is_writing_back.swap(true, Ordering::AcqRel)
    }

    /// Has what was written put on the disk, and waits for it. The kernel tells an error once and would call the next fsync a
    /// success, the next process's too, so nothing of the blob is kept then; who writes more of it, or commits it, is told.
    pub fn write_back(&self) {
        self.written.store(0, Ordering::Relaxed);
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.is_ok() && !self.is_lost.load(Ordering::Acquire) {
            *durable = atomic::write_back(&self.file, &self.path);
            if durable.is_err() {
                let _ = self.discard();
                self.is_lost.store(true, Ordering::Release);
            }
        }
        drop(durable);
        self.is_writing_back.store(false, Ordering::Release);
    }

    /// The error that the first is told; the file is gone for all others.
    fn why_lost(&self) -> LayoutError {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let first = std::mem::replace(&mut *durable, Ok(()));
        first.err().unwrap_or_else(|| LayoutError::Vanished { path: self.path.clone() })
    }

    /// Reads what is there at an offset, up to the buffer's length.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, LayoutError> {
        fail_point!(Read, &self.path, atomic::read_at(&self.file, buffer, offset))
            .map_err(|error| LayoutError::io(Operation::Read, &self.path, error))
    }

    /// Notes that the bytes of `range` were written, so that the next process need not ask for them again.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn note(&self, range: &Range<u64>) -> Result<(), LayoutError> {
        // Whoever removed the staged file may have let another process begin one, whose journal this would be.
        if !self.journal.takes(range) && !atomic::is_still_at(&self.file, &self.path)? {
            return Err(LayoutError::Vanished { path: self.path.clone() });
        }
        self.journal.note(range)
    }

    /// Throws away what is there, to start from zero.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn restart(&self) -> Result<(), LayoutError> {
        self.journal.clear()?;
        fail_point!(Truncate, &self.path, self.file.set_len(0))
            .map_err(|error| LayoutError::io(Operation::Write, &self.path, error))
    }

    /// A file beside the staged one for a body that may not be the blob as it stands.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn scratch(&self) -> Result<Scratch, LayoutError> {
        let path = self.layout.staging_path(&self.digest, "encoded");
        let file = atomic::open_new(&path)?;
        Ok(Scratch { file, path, length: 0 })
    }

    /// Gives the proven blob its final name, durably but for the folder's entry: [`Layout::sync_blobs`] follows
    /// before anything refers to it. When its bytes cannot be made durable, the staged file is discarded; when only the
    /// name cannot be had, it stays for the next run.
    ///
    /// # Errors
    /// [`LayoutError::Io`], [`LayoutError::Vanished`] when somebody removed the staged file, and [`LayoutError::BadBlob`] when
    /// the proof is another blob's or the file's length is off.
    pub fn commit(&self, proof: &ProvenBlob) -> Result<(), LayoutError> {
        let durable = self.make_durable(proof);
        if durable.is_err() {
            let _ = self.discard();
            return durable;
        }
        // A rename goes by name: whoever removed this file may have let another process begin one under the same name.
        if !atomic::is_still_at(&self.file, &self.path)? {
            return Err(LayoutError::Vanished { path: self.path.clone() });
        }
        self.layout.still_stands()?;
        let target = self.layout.blob_path(&self.digest);
        if let Some(folder) = target.parent() {
            atomic::create_own_folder(self.layout.root(), folder)?;
        }
        atomic::rename(&self.path, &target)?;
        // A journal without its file is swept away with the folder.
        let _ = atomic::remove_file(&self.journal_path);
        Ok(())
    }

    fn make_durable(&self, proof: &ProvenBlob) -> Result<(), LayoutError> {
        let bad = |reason: &str| LayoutError::BadBlob { digest: self.digest, reason: reason.to_owned() };
        if *proof.digest() != self.digest || proof.size() != self.size {
            return Err(bad("it was proven as another blob"));
        }
        let metadata = self.file.metadata();
        let length = metadata.map_err(|error| LayoutError::io(Operation::Read, &self.path, error))?.len();
        if length != self.size {
            return Err(bad("the staged file has another length than was proven"));
        }
        // Whoever writes back at this moment is waited for.
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_lost.load(Ordering::Acquire) {
            drop(durable);
            return Err(self.why_lost());
        }
        atomic::sync_file(&self.file, &self.path)
    }

    /// Removes the staged file and its journal: what is there is of no use to anybody. What another process put in their
    /// place meanwhile stays.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn discard(&self) -> Result<(), LayoutError> {
        if !atomic::is_still_at(&self.file, &self.path)? {
            return Ok(());
        }
        // The journal first: a staged file without one counts as empty, a journal without its file does as well.
        atomic::remove_file(&self.journal_path)?;
        atomic::remove_file(&self.path)
    }
}

/// A file that is removed when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Scratch {
    /// How much was written.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks an empty one for its content")]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes at its end.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        fail_point!(Write(bytes), &self.path, atomic::write_all_at(&self.file, bytes, self.length))
            .map_err(|error| LayoutError::io(Operation::Write, &self.path, error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Reads it from the start. One reader at a time: all share the file's cursor.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn reader(&self) -> Result<File, LayoutError> {
        let file = self.file.try_clone().and_then(|mut file| file.rewind().map(|()| file));
        file.map_err(|error| self.error(error))
    }

    /// The error for a failed read.
    pub fn error(&self, source: std::io::Error) -> LayoutError {
        LayoutError::io(Operation::Read, &self.path, source)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A file that stays is removed by the next clean-up.
        let _ = atomic::remove_file(&self.path);
    }
}

/// Removes from `.ocipull/` what is of no use to anybody, and tells what dead fetches left that is. The layout's lock
/// is held, so nobody edits `index.json`; staged files of live processes are known by their own locks and left alone.
pub(super) fn sweep(layout: &Layout) -> Result<Leftovers, LayoutError> {
    let mut leftovers = Leftovers::default();
    for entry in super::read_folder(&layout.staging_folder())? {
        let path = entry.path();
        let part = path.with_extension("part");
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("part") => leftovers.add(sweep_part(layout, &path)?),
            // A journal goes after its file was renamed, so one without a file belongs to a process that was killed.
            Some("journal") if is_gone(&part) => atomic::remove_file(&path)?,
            Some("encoded") if !is_held(&part) => atomic::remove_file(&path)?,
            // The temporary file of an edit under the lock that is held here: its process is dead.
            None if path.file_name().is_some_and(|name| name == "new") => atomic::remove_file(&path)?,
            _ => {}
        }
    }
    Ok(leftovers)
}

/// A staged file that no process holds: what it is worth, after it was removed when that is nothing.
fn sweep_part(layout: &Layout, path: &Path) -> Result<Leftovers, LayoutError> {
    // What is no file is nothing of ours.
    let Ok(Some(file)) = atomic::open(path, Access::Read) else { return Ok(Leftovers::default()) };
    if file.try_lock().is_err() || !atomic::is_still_at(&file, path)? {
        return Ok(Leftovers::default());
    }
    let journal_path = path.with_extension("journal");
    let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.split_once('-'));
    let digest = name.and_then(|(algorithm, hex)| format!("{algorithm}:{hex}").parse::<Digest>().ok());
    let is_done = digest.is_some_and(|digest| matches!(layout.size_of(&digest), Ok(Some(_))));
    if is_done || !journal::tells_anything(&journal_path) {
        atomic::remove_file(&journal_path)?;
        atomic::remove_file(path)?;
        return Ok(Leftovers::default());
    }
    let metadata = file.metadata().map_err(|error| LayoutError::io(Operation::Read, path, error))?;
    Ok(Leftovers { blobs: 1, bytes: allocated(&metadata) })
}

fn is_held(path: &Path) -> bool {
    let file = atomic::open(path, Access::Read).ok().flatten();
    file.is_some_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn is_gone(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The bytes that a sparse file takes.
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        512 * std::os::unix::fs::MetadataExt::blocks(metadata)
    }
    #[cfg(not(unix))]
    {
        metadata.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(folder: &Path, bytes: &[u8]) -> StagedBlob {
        let layout = Layout::create(folder, &mut |_| {}).unwrap();
        let (digest, size) = (Digest::sha256(bytes), bytes.len() as u64);
        match StagedBlob::stage(&layout, &digest, size, Existing::Keep).unwrap() {
            Staging::Ready(staged) => staged,
            other => panic!("{other:?}"),
        }
    }

    /// The disk is set to work once for so many bytes, and for what is left when the blob is all there; not for a little.
    #[test]
    fn written_bytes_are_sent_to_the_disk_in_portions() {
        let folder = tempfile::tempdir().unwrap();
        let staged = staged(&folder.path().join("out"), &[0; 100]);
        let written = |bytes: u64| staged.written.fetch_add(bytes, Ordering::Relaxed);
        written(WRITE_BACK - 1);
        assert!(!staged.is_write_back_due(false));
        written(1);
        assert!(staged.is_write_back_due(false));
        written(WRITE_BACK);
        assert!(!staged.is_write_back_due(false), "one at a time");
        staged.write_back();
        assert!(!staged.is_write_back_due(true), "what came meanwhile was sent too");
        written(WORTH_WRITING_BACK);
        assert!(!staged.is_write_back_due(false));
        assert!(staged.is_write_back_due(true));
    }

    /// What could not be written back is not committed, nor kept: the first who asks is told why, and others that it is gone.
    #[test]
    fn what_could_not_be_written_back_is_not_committed() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = [7; 100];
        let staged = staged(&folder.path().join("out"), &bytes);
        staged.write_at(&bytes, 0).unwrap();
        *staged.durable.lock().unwrap() =
            Err(LayoutError::io(Operation::Sync, &staged.path, std::io::ErrorKind::StorageFull.into()));
        staged.is_lost.store(true, Ordering::Release);
        staged.write_back();
        let proof = crate::verify::verify_bytes(&bytes, staged.digest).unwrap();
        let error = staged.commit(&proof).unwrap_err();
        assert!(error.is_full_disk(), "{error}");
        assert!(!staged.path.exists() && !staged.journal_path.exists());
        assert!(!staged.layout.blob_path(&staged.digest).exists());
        for error in [staged.write_at(&bytes, 0), staged.commit(&proof)] {
            assert!(matches!(error, Err(LayoutError::Vanished { .. })), "{error:?}");
        }
    }
}
