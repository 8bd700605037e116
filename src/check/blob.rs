//! Opens the blobs that are to be proven, and tells a blob that is bad from a machine that says no.
//!
//! A blob that is not there, is no regular file, or whose file cannot be read to its end (a failing disk) is a finding:
//! the rest of the layout is still worth checking. A permission that is missing, or a system without file handles left,
//! says nothing about the blob and ends the check.

use std::fs::{self, File};
use std::io::{self, ErrorKind};

use crate::digest::Digest;
use crate::layout::{Layout, LayoutError, Operation};

/// What stands under a blob's name.
pub(super) enum Opened {
    /// A regular file, and its size.
    File(File, u64),
    /// Nothing that could be read, and why.
    Unusable(String),
}

/// Opens a blob by the rule of [`Layout::open_blob`]: nothing but a regular file is one.
pub(super) fn open(layout: &Layout, digest: &Digest) -> Result<Opened, LayoutError> {
    let path = layout.blob_path(digest);
    // Looked at before it is opened: opening a pipe would wait for its other end, and a link may lead anywhere.
    let opened = fs::symlink_metadata(&path).and_then(|metadata| {
        let kind = metadata.file_type();
        if metadata.is_file() {
            let file = File::open(&path)?;
            let size = file.metadata()?.len();
            return Ok(Opened::File(file, size));
        }
        let reason = match kind {
            kind if kind.is_symlink() => "it is a symbolic link, not a file",
            kind if kind.is_dir() => "it is a folder, not a file",
            _ => "it is not a regular file",
        };
        Ok(Opened::Unusable(reason.to_owned()))
    });
    match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(Opened::Unusable("it is not there".to_owned()))
        }
        Err(error) if says_nothing(&error) => {
            Err(LayoutError::Io { operation: Operation::Open, path, source: error })
        }
        Err(error) => Ok(Opened::Unusable(format!("it cannot be opened: {error}"))),
        Ok(opened) => Ok(opened),
    }
}

/// Whether an error is about this process or this machine, not about the file.
pub(super) fn says_nothing(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let errno = Errno::from_io_error(error);
        if errno.is_some_and(|errno| matches!(errno, Errno::MFILE | Errno::NFILE)) {
            return true;
        }
    }
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::OutOfMemory)
}

/// Where a blob stands, as findings name it.
pub(super) fn path_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
