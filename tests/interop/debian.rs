//! Real files: the contents of Debian packages, as the tar streams that the packages hold.
//!
//! - `busybox-static`: 1 MB, a static shell: the small image.
//! - `golang-1.19-src`: 115 MB in nearly 12,000 files (17 MB to download): many small ones.
//! - `libllvm14`: 104 MB, nearly all of it one shared object, with symbolic links (21 MB to download): one large one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::tools::run;

pub(crate) const BUSYBOX: &str = "busybox-static";
pub(crate) const GO_SOURCE: &str = "golang-1.19-src";
pub(crate) const LLVM: &str = "libllvm14";

/// apt's own lock makes a second one at the same time an error; and one download serves all tests.
static DOWNLOADING: Mutex<()> = Mutex::new(());

/// The tar stream of a package's files.
pub(crate) fn files_of(package: &str) -> Vec<u8> {
    run(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(archive(package))).stdout
}

/// The package's archive, downloaded once and kept in the target folder.
fn archive(package: &str) -> PathBuf {
    let _guard = DOWNLOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian").join(package);
    if let Some(archive) = kept(&folder) {
        return archive;
    }
    let fresh = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    run(Command::new("apt-get")
        .args(["-qq", "-o", "APT::Sandbox::User=root", "download", package])
        .current_dir(fresh.path()));
    // All at once, so that a download that was cut short is never taken for a whole one.
    std::fs::create_dir_all(folder.parent().expect("invariant: the path has a parent")).expect("a folder");
    std::fs::rename(fresh.keep(), &folder).expect("the download is kept");
    kept(&folder).expect("apt-get leaves an archive")
}

fn kept(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut archives = entries.flatten().map(|entry| entry.path());
    archives.find(|path| path.extension().is_some_and(|extension| extension == "deb"))
}
