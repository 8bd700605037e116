//! The OCI image layout on disk: what it holds, and how it changes so that a kill at any point leaves it readable.
//!
//! Guarantees: a blob under its final name is whole and proven; `index.json` names an image only after everything that
//! the image refers to; what others wrote into `index.json` stays as it was; an `index.json` that cannot be understood
//! is never overwritten. docs/layout-store.md has the protocol and the argument why it survives a crash.
//!
//! Everything here does blocking file I/O; async callers go through a blocking thread.
//! Spec: OCI image spec, "Image Layout Specification" 1.0.0.

mod atomic;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod images;
pub mod index;
pub mod intervals;
mod journal;
mod lock;
mod naming;
mod recent;
mod referrers;
mod replace;
mod signatures;
mod sparse;
mod staging;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::{Algorithm, Digest};
use crate::manifest::{Descriptor, Manifest};
use crate::verify;

pub(crate) use atomic::{is_still_at, read_at};
pub use error::{LayoutError, Operation};
pub use images::{Contents, ImageSummary};
pub(crate) use referrers::cosign_type;
pub use replace::Replacement;
pub use signatures::{MOST_SIGNATURES, PutSignatures};
pub(crate) use sparse::Surveys;
pub use sparse::{Absence, Absent, AbsentManifest};
pub use staging::{Existing, Scratch, StagedBlob, Staging};

use atomic::Access;
use index::IndexDocument;
use lock::LayoutLock;

/// The folder for what is not done yet.
const STAGING: &str = ".ocipull";

/// What `oci-layout` says.
const MARKER: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

/// More than any marker of a layout; a larger one is refused rather than read into memory.
const MARKER_CAP: usize = 64 << 10;

/// What stands at the path where a layout is to be.
#[derive(Debug)]
#[non_exhaustive]
pub enum Target {
    /// Nothing, or an empty folder: a layout can be made here.
    Vacant,
    /// A layout.
    Layout(Layout),
}

/// A layout's folder. Cheap to clone; holds no lock and no open file.
#[derive(Debug, Clone)]
pub struct Layout {
    root: Arc<Path>,
}

impl Layout {
    /// Looks at what stands at `path`, touching nothing.
    ///
    /// # Errors
    /// [`LayoutError::NotALayout`] for a folder of other things, [`LayoutError::NotAFolder`],
    /// [`LayoutError::Misplaced`] when one of a layout's own folders is something else, a link among that (the layout's
    /// folder itself may be one), [`LayoutError::Unreadable`] for a marker or an index that cannot be understood.
    pub fn look(path: &Path) -> Result<Target, LayoutError> {
        Ok(Self::look_closely(path)?.map_or(Target::Vacant, |(layout, _)| Target::Layout(layout)))
    }

    /// As [`Layout::look`], with the `index.json` that was read; `None` where a layout can be made.
    ///
    /// # Errors
    /// As [`Layout::look`].
    pub(crate) fn look_closely(path: &Path) -> Result<Option<(Self, Arc<IndexDocument>)>, LayoutError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(LayoutError::NotAFolder { path: path.to_owned() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LayoutError::io(Operation::Open, path, error)),
        }
        let layout = Self { root: path.into() };
        layout.check_folders()?;
        match read_capped(&layout.marker_path(), MARKER_CAP)? {
            Some(marker) => check_marker(&layout.marker_path(), &marker)?,
            None if layout.is_vacant()? => return Ok(None),
            None => return Err(LayoutError::NotALayout { path: path.to_owned() }),
        }
        let index = layout.index()?;
        Ok(Some((layout, index)))
    }

    /// Opens a layout that is there.
    ///
    /// # Errors
    /// As [`Layout::look`], but [`LayoutError::NoLayout`] for a folder of other things, and [`LayoutError::Missing`] when there
    /// is none.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        match Self::look(path) {
            Ok(Target::Layout(layout)) => Ok(layout),
            Ok(Target::Vacant) => Err(LayoutError::Missing { path: path.to_owned() }),
            Err(LayoutError::NotALayout { path }) => Err(LayoutError::NoLayout { path }),
            Err(error) => Err(error),
        }
    }

    /// Opens the layout at `path`, or makes an empty one that any OCI tool reads. `waiting` is told whom for when another
    /// process has the lock.
    ///
    /// # Errors
    /// As [`Layout::look`], and [`LayoutError::Held`], [`LayoutError::Io`].
    pub fn create(path: &Path, waiting: &mut dyn FnMut(&str)) -> Result<Self, LayoutError> {
        if let Target::Layout(layout) = Self::look(path)?
            && layout.is_ready()?
        {
            return Ok(layout);
        }
        let layout = Self { root: path.into() };
        let lock = layout.lock(waiting)?;
        layout.write_skeleton()?;
        drop(lock);
        Ok(layout)
    }

    /// Whether everything that makes it a layout is there, and nothing stands in the way of the last step, which is better
    /// known before the first.
    ///
    /// # Errors
    /// [`LayoutError::Misplaced`], [`LayoutError::Io`].
    pub(crate) fn is_ready(&self) -> Result<bool, LayoutError> {
        let is_there = self.marker_path().exists() && self.index_path().exists();
        if is_there {
            atomic::open(&self.staging_folder().join("lock"), Access::Read)?;
        }
        Ok(is_there)
    }

    /// Where a layout has folders, only those lead nowhere else.
    fn check_folders(&self) -> Result<(), LayoutError> {
        let blobs = self.root.join("blobs");
        let of_algorithms = Algorithm::ALL.map(|algorithm| blobs.join(algorithm.name()));
        for folder in [self.staging_folder(), blobs].into_iter().chain(of_algorithms) {
            atomic::is_own_folder(&folder)?;
        }
        Ok(())
    }

    fn write_skeleton(&self) -> Result<(), LayoutError> {
        atomic::create_own_folder(&self.root, &self.root.join("blobs").join(Algorithm::Sha256.name()))?;
        let temporary = self.staging_folder().join("new");
        if !self.index_path().exists() {
            atomic::write_file(&self.index_path(), &temporary, &IndexDocument::empty().to_bytes())?;
        }
        // Last: what has a marker is a layout for every tool, and has an index then.
        if !self.marker_path().exists() {
            atomic::write_file(&self.marker_path(), &temporary, MARKER.as_bytes())?;
        }
        Ok(())
    }

    /// Whether the folder holds nothing, or only what an interrupted [`Layout::create`] of ours left.
    fn is_vacant(&self) -> Result<bool, LayoutError> {
        for entry in read_folder(&self.root)? {
            let name = entry.file_name();
            let ours = name == STAGING
                || (name == "blobs" && self.has_no_blobs()?)
                || (name == "index.json" && self.has_empty_index());
            if !ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether `index.json` is the one that [`Layout::create`] writes.
    fn has_empty_index(&self) -> bool {
        let index = read_capped(&self.index_path(), index::CAP);
        matches!(index, Ok(Some(bytes)) if bytes == IndexDocument::empty().to_bytes())
    }

    fn has_no_blobs(&self) -> Result<bool, LayoutError> {
        let blobs = self.root.join("blobs");
        let mut files = walkdir::WalkDir::new(&blobs).into_iter();
        files.try_fold(true, |empty, entry| match entry {
            Ok(entry) => Ok(empty && entry.file_type().is_dir()),
            Err(error)
                if error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound) =>
            {
                Ok(empty)
            }
            Err(error) => Err(LayoutError::io(Operation::Read, &blobs, error.into())),
        })
    }

    /// The layout's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob stands, or will.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    fn marker_path(&self) -> PathBuf {
        self.root.join("oci-layout")
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(crate) fn staging_folder(&self) -> PathBuf {
        self.root.join(STAGING)
    }

    pub(crate) fn staging_path(&self, digest: &Digest, extension: &str) -> PathBuf {
        self.staging_folder().join(format!("{}-{}.{extension}", digest.algorithm(), digest.hex()))
    }

    /// The size of a blob that stands under its final name, as a regular file. Anything else there counts as missing: a
    /// link could lead out of a layout that came from elsewhere, and a pipe would be waited for without end.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn size_of(&self, digest: &Digest) -> Result<Option<u64>, LayoutError> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LayoutError::io(Operation::Open, &path, error)),
        }
    }

    /// Whether a blob stands there with this size. A file of another size counts as missing, and is replaced.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn contains(&self, digest: &Digest, size: u64) -> Result<bool, LayoutError> {
        Ok(self.size_of(digest)? == Some(size))
    }

    /// How many bytes of a blob an earlier run left staged, as its journal says.
    pub fn staged_bytes(&self, digest: &Digest, size: u64) -> u64 {
        let part = fs::symlink_metadata(self.staging_path(digest, "part"));
        let length = part.ok().filter(fs::Metadata::is_file).map_or(0, |metadata| metadata.len());
        let mut have = journal::read(&self.staging_path(digest, "journal"), digest, size).have;
        have.truncate(length);
        have.len()
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`LayoutError::MissingBlob`], [`LayoutError::Io`]; [`LayoutError::BadBlob`] for what is no regular file.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, LayoutError> {
        match atomic::open(&self.blob_path(digest), Access::Read) {
            Ok(file) => file.ok_or(LayoutError::MissingBlob { digest: *digest }),
            Err(LayoutError::Misplaced { found, .. }) => Err(LayoutError::BadBlob {
                digest: *digest,
                reason: format!("it is {found}, not a regular file"),
            }),
            Err(error) => Err(error),
        }
    }

    /// Reads a small blob whole and checks its digest.
    ///
    /// # Errors
    /// [`LayoutError::MissingBlob`]; [`LayoutError::BadBlob`] when it is over the cap or its digest does not hold.
    pub fn read_blob(&self, digest: &Digest, cap: u64) -> Result<Bytes, LayoutError> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        let mut file = self.open_blob(digest)?.take(cap + 1);
        file.read_to_end(&mut bytes).map_err(|error| LayoutError::io(Operation::Read, &path, error))?;
        let bad = |reason: String| LayoutError::BadBlob { digest: *digest, reason };
        if bytes.len() as u64 > cap {
            return Err(bad(format!("it is larger than the {cap} bytes allowed for such a document")));
        }
        let found = digest.algorithm().digest(&bytes);
        if found != *digest {
            return Err(bad(format!("its content has the digest {found}")));
        }
        Ok(bytes.into())
    }

    /// Reads and parses a manifest of the layout.
    ///
    /// # Errors
    /// As [`Layout::read_blob`], and [`LayoutError::BadDocument`].
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, LayoutError> {
        let raw = self.read_blob(&descriptor.digest, crate::manifest::MANIFEST_CAP as u64)?;
        let media_type = descriptor.media_type.as_str();
        let media_type = (!media_type.is_empty()).then_some(media_type);
        Manifest::parse(raw, media_type)
            .map_err(|source| LayoutError::BadDocument { digest: descriptor.digest, source })
    }

    /// Reads `index.json`. A layout that an interrupted [`Layout::create`] left without one has an empty index.
    ///
    /// # Errors
    /// [`LayoutError::Unreadable`]; it is never treated as empty.
    pub fn index(&self) -> Result<Arc<IndexDocument>, LayoutError> {
        let path = self.index_path();
        match open_readable(&path)? {
            Some(mut file) => {
                let unreadable = |error: std::io::Error| LayoutError::unreadable(&path, error.to_string());
                if let Some(index) = recent::find(&mut file).map_err(unreadable)? {
                    return Ok(index);
                }
                file.rewind().map_err(unreadable)?;
                let bytes = read_whole(file, &path, index::CAP)?;
                recent::parse(bytes).map_err(|reason| LayoutError::unreadable(&path, reason))
            }
            None if self.has_no_blobs()? => Ok(Arc::new(IndexDocument::empty())),
            None => {
                Err(LayoutError::unreadable(&path, "the file is missing although the layout holds blobs"))
            }
        }
    }

    /// Makes the names of all blobs durable. Comes after the last blob's rename and before an index that names them.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn sync_blobs(&self) -> Result<(), LayoutError> {
        for algorithm in Algorithm::ALL {
            let folder = self.root.join("blobs").join(algorithm.name());
            if atomic::is_own_folder(&folder)? {
                atomic::sync_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// Puts a document whose bytes are at hand into the layout, durably but for the folder's entry.
    ///
    /// One that is there is read, and replaced when it went bad. Another process may be writing the same one: then this
    /// waits, `waiting` being told whom for. Says whether anything was written.
    ///
    /// # Errors
    /// [`LayoutError::Io`]; [`LayoutError::BadBlob`] when the bytes do not have the digest.
    pub fn put_document(
        &self,
        digest: &Digest,
        bytes: &[u8],
        waiting: &mut dyn FnMut(&str),
    ) -> Result<bool, LayoutError> {
        let size = bytes.len() as u64;
        let mut announced = false;
        let mut existing = Existing::Keep;
        loop {
            match StagedBlob::stage(self, digest, size, existing)? {
                Staging::Present => match self.read_blob(digest, size) {
                    Err(LayoutError::BadBlob { .. }) => existing = Existing::Replace,
                    read => return read.map(|_| false),
                },
                Staging::Ready(staged) => {
                    let proof = verify::verify_bytes(bytes, *digest).map_err(|error| {
                        LayoutError::BadBlob { digest: *digest, reason: error.to_string() }
                    })?;
                    staged.restart()?;
                    staged.write_at(bytes, 0)?;
                    return staged.commit(&proof).map(|()| true);
                }
                Staging::HeldBy(holder) => {
                    if !announced {
                        waiting(&holder);
                        announced = true;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        }
    }

    /// Takes `.ocipull/` away when nothing is staged there any more; says what other, dead fetches left. `waiting` is told
    /// whom for when another process has the lock.
    ///
    /// # Errors
    /// [`LayoutError::Held`], [`LayoutError::Misplaced`], [`LayoutError::Io`].
    pub fn clean_up(&self, waiting: &mut dyn FnMut(&str)) -> Result<Leftovers, LayoutError> {
        if !atomic::is_own_folder(&self.staging_folder())? {
            return Ok(Leftovers::default());
        }
        self.sweep(self.lock(waiting)?)
    }

    /// As [`Layout::clean_up`], but waits for nobody: whoever has the lock cleans up after itself. `None` when that is
    /// so.
    ///
    /// # Errors
    /// [`LayoutError::Misplaced`], [`LayoutError::Io`].
    pub fn try_clean_up(&self) -> Result<Option<Leftovers>, LayoutError> {
        let folder = self.staging_folder();
        if !atomic::is_own_folder(&folder)? {
            return Ok(Some(Leftovers::default()));
        }
        let lock = LayoutLock::try_acquire(&self.root, &folder)?;
        lock.map(|lock| self.sweep(lock)).transpose()
    }

    fn sweep(&self, lock: LayoutLock) -> Result<Leftovers, LayoutError> {
        let leftovers = staging::sweep(self)?;
        lock.release_and_clean(&self.staging_folder())?;
        Ok(leftovers)
    }

    fn lock(&self, waiting: &mut dyn FnMut(&str)) -> Result<LayoutLock, LayoutError> {
        LayoutLock::acquire(&self.root, &self.staging_folder(), waiting)
    }
}

/// What dead fetches left staged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// How many blobs are partly there.
    pub blobs: usize,
    /// How many bytes they take on disk.
    pub bytes: u64,
}

impl Leftovers {
    fn add(&mut self, other: Self) {
        self.blobs += other.blobs;
        self.bytes += other.bytes;
    }
}

fn read_folder(path: &Path) -> Result<Vec<fs::DirEntry>, LayoutError> {
    fs::read_dir(path)
        .and_then(Iterator::collect)
        .map_err(|error| LayoutError::io(Operation::Read, path, error))
}

fn read_capped(path: &Path, cap: usize) -> Result<Option<Vec<u8>>, LayoutError> {
    open_readable(path)?.map(|file| read_whole(file, path, cap)).transpose()
}

fn open_readable(path: &Path) -> Result<Option<File>, LayoutError> {
    match atomic::open(path, Access::Read) {
        Err(LayoutError::Io { source, .. }) => Err(LayoutError::unreadable(path, source.to_string())),
        Err(LayoutError::Misplaced { found, .. }) => {
            Err(LayoutError::unreadable(path, format!("it is {found}, not a regular file")))
        }
        opened => opened,
    }
}

fn read_whole(file: File, path: &Path, cap: usize) -> Result<Vec<u8>, LayoutError> {
    // In one piece from the beginning: what grows leaves pieces behind.
    let length = file.metadata().map_or(0, |metadata| metadata.len()).min(cap as u64);
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_or(0, |length| length + 1));
    file.take(cap as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| LayoutError::unreadable(path, error.to_string()))?;
    if bytes.len() > cap {
        return Err(LayoutError::unreadable(path, format!("it is larger than {cap} bytes")));
    }
    Ok(bytes)
}

fn check_marker(path: &Path, marker: &[u8]) -> Result<(), LayoutError> {
    let unreadable = |reason: String| Err(LayoutError::unreadable(path, reason));
    match serde_json::from_slice::<oci_spec::image::OciLayout>(marker) {
        Ok(layout) if layout.image_layout_version() == "1.0.0" => Ok(()),
        Ok(layout) => unreadable(format!(
            "its imageLayoutVersion is \"{}\", not \"1.0.0\"",
            crate::text::printable(layout.image_layout_version())
        )),
        Err(error) => unreadable(format!("no marker of a layout: {error}")),
    }
}

#[cfg(test)]
mod tests;
