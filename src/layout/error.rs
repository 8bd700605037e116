//! What can go wrong with a layout on disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::index::Relation;
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::manifest::ManifestError;

/// What was being done with a path when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Opening or looking at it.
    Open,
    /// Creating a file.
    Create,
    /// Creating a folder.
    CreateFolder,
    /// Reading it.
    Read,
    /// Writing to it.
    Write,
    /// Making it durable.
    Sync,
    /// Giving it its final name.
    Rename,
    /// Removing it.
    Remove,
    /// Locking it.
    Lock,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::CreateFolder => "create the folder",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Rename => "rename to",
            Self::Remove => "remove",
            Self::Lock => "lock",
        })
    }
}

/// Why a layout could not be opened, read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The folder exists, is not empty, and is no layout.
    #[error("{} is not an OCI image layout: it holds files but no oci-layout", path.display())]
    NotALayout {
        /// The folder.
        path: PathBuf,
    },
    /// A layout was to be there, and the folder holds other things.
    #[error("{} is not an OCI image layout: it holds files but no oci-layout", path.display())]
    NoLayout {
        /// The folder.
        path: PathBuf,
    },
    /// The path is something other than a folder.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// Something else stands where a layout has a file or a folder of its own. It is neither followed nor removed.
    #[error("{} is {found}, where a layout has {wanted}", path.display())]
    Misplaced {
        /// Where it stands.
        path: PathBuf,
        /// What it is: `a symbolic link`.
        found: &'static str,
        /// What a layout has there: `a folder`.
        wanted: &'static str,
    },
    /// There is nothing at the path.
    #[error("there is no layout at {}", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// `oci-layout` or `index.json` cannot be understood. It is left as it is.
    #[error("{} cannot be used: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A blob in the layout does not have the content that its name says.
    #[error("the layout's blob {digest} is bad: {reason}")]
    BadBlob {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// A document in the layout cannot be understood.
    #[error("the layout's document {digest} cannot be used")]
    BadDocument {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A blob that is needed is not in the layout.
    #[error("the layout lacks blob {digest}")]
    MissingBlob {
        /// The blob.
        digest: Digest,
    },
    /// Something that stood in the layout when it was proven or written is gone before it could be named.
    #[error("{} was removed or moved away while the layout was written", path.display())]
    Vanished {
        /// Where it stood.
        path: PathBuf,
    },
    /// `index.json` would be larger than it is read.
    #[error("{} has no room for more images: it may have {most} entries and {} MiB", path.display(), cap >> 20)]
    Full {
        /// The file.
        path: PathBuf,
        /// How many entries it may have.
        most: usize,
        /// How many bytes.
        cap: usize,
    },
    /// The ref.name belongs to another image.
    #[error("the name \"{name}\" is taken in {} by {holder}", path.display())]
    NameTaken {
        /// The layout.
        path: PathBuf,
        /// The ref.name.
        name: String,
        /// Which image has it.
        holder: String,
        /// What that is to the image that wants it.
        relation: Relation,
    },
    /// What is to be named is not what was proven.
    #[error("{digest} cannot be named: what was proven is something else")]
    NotProven {
        /// What was to be named.
        digest: Digest,
    },
    /// Another process wrote an entry of `index.json` that was about to be replaced.
    #[error("{}: another process has changed an image meanwhile", path.display())]
    EntryChanged {
        /// The layout.
        path: PathBuf,
    },
    /// No image goes by the name.
    #[error("{}: {reason}", path.display())]
    NoSuchImage {
        /// The layout.
        path: PathBuf,
        /// What was looked for, and what there is.
        reason: String,
    },
    /// Several images could be meant.
    #[error("{}: {reason}", path.display())]
    Ambiguous {
        /// The layout.
        path: PathBuf,
        /// What was looked for, and which images that could be.
        reason: String,
    },
    /// Another process keeps the layout's lock.
    #[error("{} is held by another process ({holder}) for over {} s", path.display(), waited.as_secs())]
    Held {
        /// The layout.
        path: PathBuf,
        /// Who holds it, as far as it is known.
        holder: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The file system has no locks, as some network and FUSE file systems.
    #[error("cannot lock {}: its file system does not support file locks", path.display())]
    NoLocks {
        /// The file that was to be locked.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system said no.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done.
        operation: Operation,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do where somebody else took away what was there a moment ago.
const AGAIN: &str = "let no other program remove what is in the folder, and run the same command again";

impl LayoutError {
    pub(crate) fn io(operation: Operation, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    /// The error for a lock that cannot be had, other than for being held.
    pub(crate) fn lock(path: &Path, source: io::Error) -> Self {
        if is_without_locks(&source) {
            Self::NoLocks { path: path.to_owned(), source }
        } else {
            Self::io(Operation::Lock, path, source)
        }
    }

    /// Whether there was no room left to write, on the disk or in the user's part of it.
    pub fn is_full_disk(&self) -> bool {
        let kind = if let Self::Io { source, .. } = self { Some(source.kind()) } else { None };
        matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    pub(crate) fn misplaced_file(path: &Path, found: &'static str) -> Self {
        Self::Misplaced { path: path.to_owned(), found, wanted: "a regular file" }
    }

    pub(crate) fn unreadable(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unreadable { path: path.to_owned(), reason: reason.into() }
    }
}

impl Failure for LayoutError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotALayout { .. }
            | Self::NoLayout { .. }
            | Self::NotAFolder { .. }
            | Self::Misplaced { .. }
            | Self::Missing { .. }
            | Self::Unreadable { .. }
            | Self::NoLocks { .. }
            | Self::Full { .. }
            | Self::Held { .. } => Kind::Layout,
            Self::BadBlob { .. }
            | Self::BadDocument { .. }
            | Self::MissingBlob { .. }
            | Self::NotProven { .. } => Kind::Integrity,
            Self::NameTaken { .. } | Self::Ambiguous { .. } => Kind::Usage,
            Self::NoSuchImage { .. } => Kind::NotFound,
            Self::Vanished { .. } | Self::EntryChanged { .. } | Self::Io { .. } => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotALayout { .. } | Self::NotAFolder { .. } => {
                Some("name a folder that is absent, empty or a layout".to_owned())
            }
            Self::NoLayout { .. } => Some("name a folder that holds oci-layout and index.json".to_owned()),
            Self::Missing { path } => {
                Some(format!("`ocipull fetch REF {}` makes a layout there", path.display()))
            }
            Self::Misplaced { .. } => Some(
                "remove it if it was not put there on purpose, or choose another folder".to_owned(),
            ),
            Self::Unreadable { .. } => Some(
                "mend or restore the file, or choose another folder; it is left as it is, since other tools name their \
                 images there too"
                    .to_owned(),
            ),
            Self::NoLocks { .. } => Some(
                "mount the file system with locks (for NFS with its lock service, for Lustre with `-o flock`), or choose a \
                 folder on a local disk and copy the layout from there"
                    .to_owned(),
            ),
            Self::Full { .. } => Some("put the image into another layout".to_owned()),
            Self::EntryChanged { .. } => Some("run the same command again".to_owned()),
            Self::Vanished { .. } => Some(AGAIN.to_owned()),
            Self::Ambiguous { path, .. } => Some(format!("say which one: {}:NAME", path.display())),
            Self::NameTaken { relation: Relation::ItsIndex, .. } => Some(
                "the image is there as part of an index, or can be added to it with several `--platform`; to have it \
                 by itself, give it a name of its own with `--ref-name =TEXT`, or take the name over with `--replace`"
                    .to_owned(),
            ),
            Self::NameTaken { relation: Relation::OtherPlatform, .. } => Some(
                "fetch the platforms together with one `--platform` for each, give this one a name of its own with \
                 `--ref-name =TEXT`, or take the name over with `--replace`"
                    .to_owned(),
            ),
            Self::NameTaken { .. } => Some(
                "use `--ref-name full`, give it a name of its own with `--ref-name =TEXT`, or take the name over \
                 with `--replace`"
                    .to_owned(),
            ),
            Self::BadBlob { .. } | Self::MissingBlob { .. } | Self::BadDocument { .. } => {
                Some("`ocipull verify` lists everything that is wrong with the layout".to_owned())
            }
            Self::Io { source, .. } => io_hint(source.kind()).map(str::to_owned),
            _ => None,
        }
    }
}

/// What to do where the file system said no.
fn io_hint(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::StorageFull => "free some space and run the same command again",
        io::ErrorKind::QuotaExceeded => "raise the quota, or choose another folder",
        io::ErrorKind::FileTooLarge => {
            "raise the file size limit (ulimit -f), or choose a file system that takes larger files"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that can be written to"
        }
        io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => {
            "remove the folder that stands where a file of the layout belongs"
        }
        io::ErrorKind::NotFound => AGAIN,
        _ => return None,
    })
}

/// Whether an error of flock says that there are no locks: NFS without its lock service (ENOLCK), FUSE and Lustre without
/// the call (ENOSYS), others (EOPNOTSUPP).
fn is_without_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let errno = Errno::from_io_error(error);
        if errno.is_some_and(|errno| matches!(errno, Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP)) {
            return true;
        }
    }
    error.kind() == io::ErrorKind::Unsupported
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    /// A file system without locks is not taken for a bad disk: the layout cannot be used there, and the hint says what can be
    /// done. Any other error stays what it is.
    #[test]
    fn a_file_system_without_locks_is_named() {
        let path = Path::new("out/.ocipull/lock");
        for errno in [Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP] {
            let error = LayoutError::lock(path, errno.into());
            assert_eq!(error.kind(), Kind::Layout, "{errno:?}");
            let text = "cannot lock out/.ocipull/lock: its file system does not support file locks";
            assert_eq!(error.to_string(), text);
            assert!(error.hint().unwrap().contains("flock"));
            assert!(std::error::Error::source(&error).is_some());
        }
        for errno in [Errno::IO, Errno::INTR, Errno::BADF] {
            let error = LayoutError::lock(path, errno.into());
            assert_eq!(
                (error.kind(), error.to_string()),
                (Kind::Other, format!("cannot lock {}", path.display()))
            );
        }
    }
}
