//! Durable changes: the only file that renames and fsyncs.
//!
//! Guarantees: a file under its final name is whole, whatever happens (kill, power loss); an error at fsync or close is
//! an error of the operation. A failed fsync is never retried on the same file, because the kernel may have dropped the
//! pages and would call the second one a success: the caller throws the file away.
//!
//! Every file is created with mode 0644 and every folder with 0755, less the umask.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::error::{LayoutError, Operation};

/// What a file is opened for, its mode included.
pub(crate) fn file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    options
}

/// Makes `path` and its missing parents, and makes their names durable.
pub(crate) fn create_folder(path: &Path) -> Result<(), LayoutError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o755);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folder(parent)?;
    }
    match builder.create(path) {
        Ok(()) => {}
        // Another process was faster; what it made serves as well.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(LayoutError::io(Operation::CreateFolder, path, error)),
    }
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Makes the file's bytes durable.
pub(crate) fn sync_file(file: &File, path: &Path) -> Result<(), LayoutError> {
    file.sync_all().map_err(|error| LayoutError::io(Operation::Sync, path, error))
}

/// Makes the names in a folder durable. Windows has no such call: its file systems journal names by themselves.
pub(crate) fn sync_folder(path: &Path) -> Result<(), LayoutError> {
    #[cfg(unix)]
    {
        let folder = File::open(path).map_err(|error| LayoutError::io(Operation::Open, path, error))?;
        match folder.sync_all() {
            // Some file systems (a few network and FUSE ones) cannot sync a folder, and say so with EINVAL.
            Err(error) if error.kind() != std::io::ErrorKind::InvalidInput => {
                Err(LayoutError::io(Operation::Sync, path, error))
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
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), LayoutError> {
    fs::rename(from, to).map_err(|error| LayoutError::io(Operation::Rename, to, error))
}

/// Writes a small file durably: beside its target as `temporary`, then renamed over it, the folder synced.
///
/// `temporary` must be on the same file system and belong to the caller alone (the layout's lock is held).
pub(crate) fn write_file(target: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    let written = write_and_sync(temporary, bytes).and_then(|()| rename(temporary, target));
    if written.is_err() {
        let _ = fs::remove_file(temporary);
        return written;
    }
    sync_folder(target.parent().unwrap_or(Path::new(".")))
}

fn write_and_sync(path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    let mut file = file_options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(|error| LayoutError::io(Operation::Create, path, error))?;
    file.write_all(bytes).map_err(|error| LayoutError::io(Operation::Write, path, error))?;
    sync_file(&file, path)
}

/// Removes a file; one that is gone already is fine.
pub(crate) fn remove_file(path: &Path) -> Result<(), LayoutError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LayoutError::io(Operation::Remove, path, error))
        }
        _ => Ok(()),
    }
}

/// Whether the open file is still the one that stands at `path`.
pub(crate) fn is_still_at(file: &File, path: &Path) -> Result<bool, LayoutError> {
    let io = |error| LayoutError::io(Operation::Open, path, error);
    let held = same_file::Handle::from_file(file.try_clone().map_err(io)?).map_err(io)?;
    match same_file::Handle::from_path(path) {
        Ok(there) => Ok(there == held),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io(error)),
    }
}

/// Writes all of `bytes` at `offset`, wherever the file's cursor is.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
    }
    #[cfg(windows)]
    {
        let (mut bytes, mut offset) = (bytes, offset);
        while !bytes.is_empty() {
            let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
            offset += written as u64;
        }
        Ok(())
    }
}

/// Reads what is there at `offset`, up to the buffer's length.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_at(file, buffer, offset)
    }
    #[cfg(windows)]
    {
        std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
    }
}
