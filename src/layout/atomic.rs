//! The layout's durable changes, with the layout's errors; how they are done is `durable`'s.
//!
//! Guarantees: a file under its final name is whole, whatever happens (kill, power loss); an error at fsync or close is
//! an error of the operation. A failed fsync is never retried on the same file: the caller throws the file away.
//!
//! A layout may come from elsewhere, so what stands in it is not trusted: below the layout's own folder no symbolic link is
//! followed, no pipe is waited for, and no file that has another name too is written into.
//!
//! Every file is created with mode 0644 and every folder with 0755, less the umask.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use super::error::{LayoutError, Operation};
use crate::durable;
use crate::failpoint::fail_point;

impl From<durable::Failed> for LayoutError {
    fn from(failed: durable::Failed) -> Self {
        let operation = match failed.operation {
            durable::Operation::Open => Operation::Open,
            durable::Operation::Create => Operation::Create,
            durable::Operation::CreateFolder => Operation::CreateFolder,
            durable::Operation::Write => Operation::Write,
            durable::Operation::Sync => Operation::Sync,
            durable::Operation::Rename => Operation::Rename,
        };
        Self::io(operation, &failed.path, failed.source)
    }
}

/// What a file of a layout is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To be read.
    Read,
    /// To be read and written where it stands; it is made when it is missing.
    Write,
    /// To be written as a new file: what stood there goes.
    Replace,
}

impl Access {
    fn options(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(self != Self::Read).create(self == Self::Write).truncate(false);
        options.create_new(self == Self::Replace);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            // What a pipe's other end does is found out afterwards and never waited for.
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            options.mode(0o644).custom_flags(flags.bits().cast_signed());
        }
        options
    }
}

/// Opens a regular file of a layout, by its own name and not through a link; `None` when nothing is there, for a file that
/// is made its folder.
///
/// # Errors
/// [`LayoutError::Misplaced`] when something else is there, and for [`Access::Write`] a file with a second name, which may
/// be anybody's; [`LayoutError::Io`].
pub(crate) fn open(path: &Path, access: Access) -> Result<Option<File>, LayoutError> {
    // Where the system knows no flag for it, links are looked for.
    if cfg!(not(unix)) {
        refuse_other_than_file(path)?;
    }
    if access == Access::Replace
        && let Err(error) = remove_file(path)
    {
        refuse_other_than_file(path)?;
        return Err(error);
    }
    let options = access.options();
    let file = match if access == Access::Read { options.open(path) } else { create(&options, path) } {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            // A link, a pipe without a reader, a socket: each refuses in its own way.
            refuse_other_than_file(path)?;
            let operation = if access == Access::Read { Operation::Open } else { Operation::Create };
            return Err(LayoutError::io(operation, path, error));
        }
    };
    let metadata = file.metadata().map_err(|error| LayoutError::io(Operation::Open, path, error))?;
    if !metadata.is_file() {
        return Err(LayoutError::misplaced_file(path, kind_of(&metadata)));
    }
    #[cfg(unix)]
    if access == Access::Write && std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
        return Err(LayoutError::misplaced_file(path, "a hard link"));
    }
    Ok(Some(file))
}

fn create(options: &OpenOptions, path: &Path) -> std::io::Result<File> {
    fail_point!(Create, path, options.open(path))
}

fn refuse_other_than_file(path: &Path) -> Result<(), LayoutError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(LayoutError::misplaced_file(path, kind_of(&metadata))),
        _ => Ok(()),
    }
}

fn kind_of(metadata: &fs::Metadata) -> &'static str {
    if metadata.is_symlink() {
        "a symbolic link"
    } else if metadata.is_dir() {
        "a folder"
    } else if metadata.is_file() {
        "a file"
    } else {
        "a pipe or a device"
    }
}

/// Makes a folder inside of a layout, each step of the way from `root` on a folder itself. `root` may be a link: that is
/// the user's own choice.
///
/// # Errors
/// [`LayoutError::Misplaced`] when something else is there, a link to a folder among that; [`LayoutError::Io`].
pub(crate) fn create_own_folder(root: &Path, folder: &Path) -> Result<(), LayoutError> {
    create_folder(root)?;
    for path in steps(root, folder) {
        if !is_own_folder(&path)? {
            create_folder(&path)?;
            // Somebody may have put a link there meanwhile.
            is_own_folder(&path)?;
        }
    }
    Ok(())
}

fn steps(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let below = folder.strip_prefix(root).expect("invariant: the folder is inside of the layout");
    let step = |path: &mut PathBuf, component: std::path::Component<'_>| {
        path.push(component);
        Some(path.clone())
    };
    below.components().scan(root.to_path_buf(), step).collect()
}

/// Whether a folder of a layout is there.
///
/// # Errors
/// As [`create_own_folder`].
pub(crate) fn is_own_folder(path: &Path) -> Result<bool, LayoutError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(metadata) => Err(LayoutError::Misplaced {
            path: path.to_owned(),
            found: kind_of(&metadata),
            wanted: "a folder",
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LayoutError::io(Operation::Open, path, error)),
    }
}

/// Makes `path` and its missing parents, and makes their names durable.
pub(crate) fn create_folder(path: &Path) -> Result<(), LayoutError> {
    durable::create_folder(path, durable::Access::Shared).map_err(LayoutError::from)
}

/// Makes the file's bytes durable.
pub(crate) fn sync_file(file: &File, path: &Path) -> Result<(), LayoutError> {
    durable::sync_file(file, path).map_err(LayoutError::from)
}

/// Has the file's bytes written, as far as they are there.
pub(crate) fn write_back(file: &File, path: &Path) -> Result<(), LayoutError> {
    durable::write_back(file, path).map_err(LayoutError::from)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), LayoutError> {
    durable::sync_folder(path).map_err(LayoutError::from)
}

/// Gives a file its final name, replacing what stood there. The caller syncs the file before and the folder after.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), LayoutError> {
    durable::rename(from, to).map_err(LayoutError::from)
}

/// Writes a small file durably: beside its target as `temporary`, then renamed over it, the folder synced.
///
/// `temporary` must be on the same file system and belong to the caller alone (the layout's lock is held).
pub(crate) fn write_file(target: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    durable::put_in_place(open_new(temporary)?, target, temporary, bytes).map_err(LayoutError::from)
}

/// Makes a new file in a folder that is there. What stood under its name goes, and is not written into.
pub(crate) fn open_new(path: &Path) -> Result<File, LayoutError> {
    open(path, Access::Replace)?
        .ok_or_else(|| LayoutError::io(Operation::Create, path, std::io::ErrorKind::NotFound.into()))
}

/// Removes a file; one that is gone already is fine.
pub(crate) fn remove_file(path: &Path) -> Result<(), LayoutError> {
    match fail_point!(Remove, path, fs::remove_file(path)) {
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
    match open(path, Access::Read)? {
        Some(there) => Ok(same_file::Handle::from_file(there).map_err(io)? == held),
        None => Ok(false),
    }
}

/// Takes a file's lock; says whether it was free.
pub(crate) fn try_lock(file: &File, path: &Path) -> Result<bool, LayoutError> {
    match fail_point!(Lock, path, file.try_lock().map_err(std::io::Error::from)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(LayoutError::lock(path, error)),
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
