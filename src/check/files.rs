//! What lies in a layout's folder: the blobs, and whatever is no part of a layout.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::report::{Finding, FindingKind};
use crate::digest::{Algorithm, Digest};
use crate::layout::{LayoutError, Operation};

/// What a layout's folder holds by the spec, and the folder for what a fetch has not finished.
const KNOWN: [&str; 4] = ["oci-layout", "index.json", "blobs", ".ocipull"];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Whatever is named as a blob, a file or not.
    pub(super) blobs: Vec<Digest>,
    pub(super) strays: Vec<Finding>,
}

/// Looks through the folder.
pub(super) fn list(root: &Path) -> Result<Files, LayoutError> {
    let mut files = Files::default();
    for name in names(root)? {
        if !KNOWN.contains(&name.as_str()) {
            files.stray(name, "it is no part of an OCI image layout");
        }
    }
    let blobs = root.join("blobs");
    for name in names(&blobs)? {
        let path = format!("blobs/{name}");
        let Some(algorithm) = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name) else {
            files.stray(path, "it is no folder of a digest algorithm that is known here");
            continue;
        };
        if !blobs.join(&name).is_dir() {
            files.stray(path, "it is not a folder");
            continue;
        }
        for hex in names(&blobs.join(&name))? {
            let path = format!("{path}/{hex}");
            match format!("{algorithm}:{hex}").parse::<Digest>() {
                Ok(digest) => {
                    if is_working_link(&blobs.join(&name).join(&hex)) {
                        files.stray(
                            path,
                            "it is a symbolic link, whose content a copy of the layout may lack",
                        );
                    }
                    files.blobs.push(digest);
                }
                Err(_) => files.stray(path, "its name is no digest"),
            }
        }
    }
    Ok(files)
}

impl Files {
    fn stray(&mut self, path: String, detail: &str) {
        let detail = detail.to_owned();
        self.strays.push(Finding { kind: FindingKind::Stray, digest: None, path: Some(path), detail });
    }
}

/// The names in a folder, sorted; none when there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>, LayoutError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(source) => {
            return Err(LayoutError::Io { operation: Operation::Read, path: folder.to_owned(), source });
        }
    };
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let names = entries.map(|entry| entry.map(name)).collect::<Result<Vec<_>, _>>();
    let mut names = names.map_err(|source| LayoutError::Io {
        operation: Operation::Read,
        path: folder.to_owned(),
        source,
    })?;
    names.sort_unstable();
    Ok(names)
}

fn is_working_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) && path.is_file()
}
