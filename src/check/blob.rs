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

/// Opens a blob. A symbolic link to a regular file is followed.
pub(super) fn open(layout: &Layout, digest: &Digest) -> Result<Opened, LayoutError> {
    let path = layout.blob_path(digest);
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let opened = fs::metadata(&path).and_then(|metadata| {
        if metadata.is_file() {
            let file = File::open(&path)?;
            let size = file.metadata()?.len();
            Ok(Opened::File(file, size))
        } else if metadata.is_dir() {
            Ok(Opened::Unusable("it is a folder, not a file".to_owned()))
        } else {
            Ok(Opened::Unusable("it is not a regular file".to_owned()))
        }
    });
    match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Opened::Unusable(absent(&path))),
        Err(error) if says_nothing(&error) => {
            Err(LayoutError::Io { operation: Operation::Open, path, source: error })
        }
        Err(error) => Ok(Opened::Unusable(format!("it cannot be opened: {error}"))),
        Ok(opened) => Ok(opened),
    }
}

fn absent(path: &std::path::Path) -> String {
    match fs::read_link(path) {
        Ok(_) => "it is a symbolic link to nothing".to_owned(),
        Err(_) => "it is not there".to_owned(),
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
