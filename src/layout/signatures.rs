//! Simple signing's signatures beside the blobs: `signatures/PATH@ALG=HEX/signature-N`, N from 1 without gaps.
//!
//! That is the form of a lookaside (containers/image, "signature protocols"), so that the far side configures the folder
//! as one and needs no conversion. PATH is the repository's without its host, as a lookaside's is. Nothing else in a
//! layout refers to these files, and no tool that reads layouts looks at them.
//!
//! Guarantees: a file under its name is whole; a list becomes longer and never shorter, and a reader that counts up from 1
//! meets no gap; nothing is written outside the layout, whatever somebody put in the way.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::atomic::{self, Access};
use super::error::{LayoutError, Operation};
use super::{Layout, read_folder};
use crate::digest::Digest;
use crate::reference::Repository;

/// The folder for signatures in a layout.
const FOLDER: &str = "signatures";

/// What a signature's file is called, before its number.
const FILE: &str = "signature-";

/// The most signatures of one manifest in a layout.
pub const MOST_SIGNATURES: usize = 128;

/// What putting signatures into a layout did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutSignatures {
    /// Whether anything changed.
    pub changed: bool,
    /// How many there was no room for.
    pub left_out: usize,
}

impl Layout {
    /// Where the signatures of a manifest stand, or will.
    pub fn signatures_path(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        let place = format!("{}@{}={}", repository.path(), digest.algorithm(), digest.hex());
        place.split('/').fold(self.root().join(FOLDER), |path, component| path.join(component))
    }

    /// Adds signatures of a manifest behind those that are there, each once and in this order, up to [`MOST_SIGNATURES`]
    /// in all. Those that are there stay: two registries may have signatures of the same manifest, and one that has
    /// fewer than yesterday is no reason to throw any away. Where there was a gap, what is behind it moves up.
    ///
    /// # Errors
    /// [`LayoutError::Misplaced`] when something else is where a folder has to be, a link among that;
    /// [`LayoutError::Held`], [`LayoutError::Io`].
    pub fn put_signatures(
        &self,
        repository: &Repository,
        digest: &Digest,
        signatures: &[impl AsRef<[u8]>],
        waiting: &mut dyn FnMut(&str),
    ) -> Result<PutSignatures, LayoutError> {
        let mut put = PutSignatures::default();
        if signatures.is_empty() {
            return Ok(put);
        }
        let lock = self.lock(waiting)?;
        let folder = self.signatures_path(repository, digest);
        atomic::create_own_folder(self.root(), &folder)?;
        let place = |number: usize| folder.join(format!("{FILE}{number}"));
        let mut count = 0;
        for number in numbers(&folder)? {
            if !is_file(&place(number))? {
                // A link could lead anywhere.
                atomic::remove_file(&place(number))?;
                put.changed = true;
                continue;
            }
            count += 1;
            if number != count {
                atomic::rename(&place(number), &place(count))?;
                put.changed = true;
            }
        }
        for signature in signatures.iter().map(AsRef::as_ref) {
            let mut is_there = false;
            for number in 1..=count {
                is_there |= holds(&place(number), signature)?;
            }
            if is_there {
                continue;
            }
            if count >= MOST_SIGNATURES {
                put.left_out += 1;
                continue;
            }
            count += 1;
            atomic::write_file(&place(count), &self.staging_folder().join("new"), signature)?;
            put.changed = true;
        }
        if put.changed {
            atomic::sync_folder(&folder)?;
        }
        drop(lock);
        Ok(put)
    }
}

fn is_file(path: &Path) -> Result<bool, LayoutError> {
    let metadata = fs::symlink_metadata(path);
    metadata.map(|found| found.is_file()).map_err(|error| LayoutError::io(Operation::Open, path, error))
}

/// Whether a regular file with exactly these bytes is there.
fn holds(path: &Path, bytes: &[u8]) -> Result<bool, LayoutError> {
    let file = match atomic::open(path, Access::Read) {
        Ok(Some(file)) => file,
        Ok(None) | Err(LayoutError::Misplaced { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    let read = file.take(bytes.len() as u64 + 1).read_to_end(&mut found);
    read.map_err(|error| LayoutError::io(Operation::Read, path, error))?;
    Ok(found == bytes)
}

/// The numbers of the signatures in a folder, the lowest first.
fn numbers(folder: &Path) -> Result<Vec<usize>, LayoutError> {
    let number = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let number: usize = name.to_str()?.strip_prefix(FILE)?.parse().ok()?;
        (name.to_str() == Some(&format!("{FILE}{number}"))).then_some(number)
    };
    let mut numbers: Vec<usize> = read_folder(folder)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        layout: Layout,
        repository: Repository,
        digest: Digest,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::create(&folder.path().join("out"), &mut |_| ()).unwrap();
            let (repository, digest) = ("alpine".parse().unwrap(), Digest::sha256(b"manifest"));
            Self { folder, layout, repository, digest }
        }

        fn put(&self, signatures: &[&str]) -> Result<bool, LayoutError> {
            let put = self.layout.put_signatures(&self.repository, &self.digest, signatures, &mut |_| ())?;
            assert_eq!(put.left_out, 0);
            Ok(put.changed)
        }

        /// Every file below `signatures/`, with what it holds.
        fn files(&self) -> Vec<(String, String)> {
            let root = self.layout.root().join(FOLDER);
            let entries = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().flatten();
            let files = entries.filter(|entry| entry.file_type().is_file());
            let named = |entry: walkdir::DirEntry| {
                let path = entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                (path, fs::read_to_string(entry.path()).unwrap())
            };
            files.map(named).collect()
        }
    }

    fn listed(folder: &str, signatures: &[&str]) -> Vec<(String, String)> {
        let named =
            |(at, text): (usize, &&str)| (format!("{folder}/signature-{}", at + 1), (*text).to_owned());
        signatures.iter().enumerate().map(named).collect()
    }

    /// A far side that counts from 1 to the first gap finds all that any registry had, whichever was asked last.
    #[test]
    fn a_list_only_grows() {
        let place = Place::new();
        let folder = format!("library/alpine@sha256={}", place.digest.hex());
        let steps: [(&[&str], bool, &[&str]); 7] = [
            (&["a", "b"], true, &["a", "b"]),
            (&["a", "b"], false, &["a", "b"]),
            (&["a", "c", "d", "c"], true, &["a", "b", "c", "d"]),
            (&["b"], false, &["a", "b", "c", "d"]),
            (&[], false, &["a", "b", "c", "d"]),
            (&["x", "d"], true, &["a", "b", "c", "d", "x"]),
            (&[""], true, &["a", "b", "c", "d", "x", ""]),
        ];
        for (signatures, changes, held) in steps {
            assert_eq!(place.put(signatures).unwrap(), changes, "{signatures:?}");
            assert_eq!(place.files(), listed(&folder, held), "{signatures:?}");
        }
    }

    /// A gap would hide what is behind it; somebody else's file is nobody's signature and stays.
    #[test]
    fn gaps_are_closed_and_other_files_stay() {
        let place = Place::new();
        place.put(&["a"]).unwrap();
        let folder = place.layout.signatures_path(&place.repository, &place.digest);
        for name in ["signature-02", "signature-", "signature-2.bak", "README"] {
            fs::write(folder.join(name), "theirs").unwrap();
        }
        fs::write(folder.join("signature-9"), "old").unwrap();
        assert!(place.put(&["a", "b"]).unwrap());
        let read = |number: u32| fs::read_to_string(folder.join(format!("signature-{number}"))).ok();
        assert_eq!(
            [1, 2, 3, 9].map(read),
            ["a", "old", "b"].map(|text| Some(text.to_owned())).into_iter().chain([None]).collect::<Vec<_>>()
                [..]
        );
        assert_eq!(place.files().len(), 7);
    }

    /// Registries that have something new every day do not fill the disk, and what there was stays.
    #[test]
    fn there_is_a_most() {
        let place = Place::new();
        let many: Vec<String> = (0..MOST_SIGNATURES + 2).map(|number| number.to_string()).collect();
        let put = place.layout.put_signatures(&place.repository, &place.digest, &many, &mut |_| ()).unwrap();
        assert_eq!(put, PutSignatures { changed: true, left_out: 2 });
        let put = place.layout.put_signatures(&place.repository, &place.digest, &["x"], &mut |_| ()).unwrap();
        assert_eq!(put, PutSignatures { changed: false, left_out: 1 });
        assert_eq!(place.files().len(), MOST_SIGNATURES);
    }

    /// A sha512 digest and a repository beside another are folders of their own.
    #[test]
    fn each_manifest_has_its_folder() {
        let mut place = Place::new();
        place.put(&["a"]).unwrap();
        place.digest = crate::digest::Algorithm::Sha512.digest(b"manifest");
        place.put(&["b"]).unwrap();
        place.repository = "r.example:5000/library/alpine/edge".parse().unwrap();
        place.put(&["c"]).unwrap();
        let found: std::collections::BTreeSet<String> =
            place.files().into_iter().map(|(path, _)| path).collect();
        let (sha256, sha512) = (Digest::sha256(b"manifest").hex(), place.digest.hex());
        let expected = [
            format!("library/alpine@sha256={sha256}/signature-1"),
            format!("library/alpine@sha512={sha512}/signature-1"),
            format!("library/alpine/edge@sha512={sha512}/signature-1"),
        ];
        assert_eq!(found, expected.into());
    }

    /// A link in a layout that came from elsewhere leads nothing out of it.
    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let place = Place::new();
        let outside = place.folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, place.layout.root().join(FOLDER)).unwrap();
        assert!(matches!(place.put(&["a"]), Err(LayoutError::Misplaced { .. })));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

        fs::remove_file(place.layout.root().join(FOLDER)).unwrap();
        place.put(&["a"]).unwrap();
        let signature = place.layout.signatures_path(&place.repository, &place.digest).join("signature-1");
        fs::write(outside.join("file"), "theirs").unwrap();
        fs::remove_file(&signature).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), &signature).unwrap();
        assert!(place.put(&["b"]).unwrap());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "theirs");
        assert_eq!(place.files()[0].1, "b");
    }
}
