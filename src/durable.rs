//! Durable changes of files: the only file that renames and fsyncs.
//!
//! Guarantees: a file under its final name is whole, whatever happens (kill, power loss); an error at fsync is an error
//! of the operation. A failed fsync is never retried on the same file, because the kernel may have dropped the pages and
//! would call the second one a success: the caller throws the file away. `layout` builds its commits of this, and
//! `registry::auth` writes credentials with [`replace_private`], each with errors of its own.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failpoint::fail_point;

/// How often a held lock is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// How many names are tried for a temporary file: those of dead processes may be taken.
const NAMES: u32 = 64;

/// Who may use what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody may read: 0644 for files, 0755 for folders, less the umask.
    Shared,
    /// The user alone: 0600 and 0700.
    Private,
}

impl Access {
    /// What a file is opened for, its mode included.
    pub(crate) fn file_options(self) -> OpenOptions {
        #[cfg_attr(not(unix), expect(unused_mut, reason = "files have a mode on Unix only"))]
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(
            &mut options,
            if self == Self::Shared { 0o644 } else { 0o600 },
        );
        options
    }

    fn folder_builder(self) -> DirBuilder {
        #[cfg_attr(not(unix), expect(unused_mut, reason = "folders have a mode on Unix only"))]
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(
            &mut builder,
            if self == Self::Shared { 0o755 } else { 0o700 },
        );
        builder
    }
}

/// An operation on a path that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) operation: Operation,
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// What was being done with a path when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    Create,
    CreateFolder,
    Write,
    Sync,
    Rename,
}

fn failed(operation: Operation, path: &Path) -> impl FnOnce(io::Error) -> Failed {
    move |source| Failed { operation, path: path.to_owned(), source }
}

/// Makes `path` and its missing parents, and makes their names durable.
pub(crate) fn create_folder(path: &Path, access: Access) -> Result<(), Failed> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = folder_of(path);
    if parent != Path::new(".") {
        create_folder(parent, access)?;
    }
    match fail_point!(CreateFolder, path, access.folder_builder().create(path)) {
        Ok(()) => {}
        // Another process was faster; what it made serves as well.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(failed(Operation::CreateFolder, path)(error)),
    }
    sync_folder(parent)
}

/// The folder that a path is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the file's bytes durable.
pub(crate) fn sync_file(file: &File, path: &Path) -> Result<(), Failed> {
    fail_point!(Sync, path, file.sync_all()).map_err(failed(Operation::Sync, path))
}

/// Has the file's bytes written, and waits for that: less is left for [`sync_file`] then. An error counts like one of that call,
/// because the kernel tells it only once.
pub(crate) fn write_back(file: &File, path: &Path) -> Result<(), Failed> {
    fail_point!(Sync, path, file.sync_data()).map_err(failed(Operation::Sync, path))
}

/// Makes the names in a folder durable. Windows has no such call: its file systems journal names by themselves.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Failed> {
    #[cfg(unix)]
    {
        let folder = File::open(path).map_err(failed(Operation::Open, path))?;
        match fail_point!(SyncFolder, path, folder.sync_all()) {
            // Some file systems (a few network and FUSE ones) cannot sync a folder, and say so with EINVAL.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                Err(failed(Operation::Sync, path)(error))
            }
            _ => Ok(()),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(())
    }
}

/// Gives a file its final name, replacing what stood there. The caller syncs the file before and the folder after.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Failed> {
    fail_point!(Rename, to, fs::rename(from, to)).map_err(failed(Operation::Rename, to))
}

/// Replaces `target` durably by a file that the user alone may read, whatever could be read before. The temporary file
/// beside it is made by this call, so that nobody else has it open.
pub(crate) fn replace_private(target: &Path, bytes: &[u8]) -> Result<(), Failed> {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut attempt = 0;
    loop {
        let temporary = folder_of(target).join(format!(".{name}.{}.{attempt}", std::process::id()));
        let mut options = Access::Private.file_options();
        options.write(true).create_new(true);
        match fail_point!(Create, &temporary, options.open(&temporary)) {
            Ok(file) => return put_in_place(file, target, &temporary, bytes),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < NAMES => attempt += 1,
            Err(error) => return Err(failed(Operation::Create, &temporary)(error)),
        }
    }
}

/// Fills a new file, `temporary`, durably and gives it its final name, the folder synced. Both must be on the same file
/// system, and the new file must belong to the caller alone.
pub(crate) fn put_in_place(
    mut file: File,
    target: &Path,
    temporary: &Path,
    bytes: &[u8],
) -> Result<(), Failed> {
    let written = fail_point!(Write(bytes), temporary, file.write_all(bytes))
        .map_err(failed(Operation::Write, temporary))
        .and_then(|()| sync_file(&file, temporary));
    // A rename goes by name: whoever removed this file may have let another process make one under the same name.
    if !is_still_at(&file, temporary).map_err(failed(Operation::Open, temporary))? {
        return Err(failed(Operation::Rename, target)(io::ErrorKind::NotFound.into()));
    }
    let written = written.and_then(|()| rename(temporary, target));
    drop(file);
    if written.is_err() {
        let _ = fail_point!(Remove, temporary, fs::remove_file(temporary));
        return written;
    }
    sync_folder(folder_of(target))
}

/// Whether the open file is still the one that stands at `path`.
pub(crate) fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = same_file::Handle::from_file(file.try_clone()?)?;
    match same_file::Handle::from_path(path) {
        Ok(there) => Ok(there == held),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file that stands for the right to change another. It goes away when it is dropped.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Waits for the lock; `None` when another process has held it for all of `patience`. Blocks, so not for async code.
    pub(crate) fn acquire(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let started = Instant::now();
        loop {
            let mut options = Access::Private.file_options();
            let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                // An unlinked lock could be held by two.
                Ok(()) if is_still_at(&file, path)? => return Ok(Some(Self { file, path: path.to_owned() })),
                Ok(()) => {}
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if started.elapsed() >= patience => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // While it is locked: whoever opened it meanwhile finds that it has gone. One that stays is locked anew.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// A secret is never readable for others, not even where the file was before and everybody could read it.
    #[test]
    fn private_files_replace_shared_ones() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        create_folder(&below, Access::Private).unwrap();
        assert_eq!((mode(&below), mode(below.parent().unwrap())), (0o700, 0o700));
        let target = below.join("f");
        fs::write(&target, "before").unwrap();
        // What a dead process of the same number left is neither used nor in the way.
        let left = below.join(format!(".f.{}.0", std::process::id()));
        fs::write(&left, "left").unwrap();
        replace_private(&target, b"after").unwrap();
        assert_eq!((mode(&target), fs::read(&target).unwrap()), (0o600, b"after".to_vec()));
        assert_eq!(fs::read(&left).unwrap(), b"left");
        assert_eq!(fs::read_dir(&below).unwrap().count(), 2);
    }

    /// A lock excludes, ends with its holder, and leaves nothing.
    #[test]
    fn locks_exclude_and_vanish() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = LockFile::acquire(&path, Duration::ZERO).unwrap();
        assert!(held.is_some());
        assert!(LockFile::acquire(&path, Duration::ZERO).unwrap().is_none());
        drop(held);
        assert!(!path.exists());
        assert!(LockFile::acquire(&path, Duration::ZERO).unwrap().is_some());
    }
}
