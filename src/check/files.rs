//! What lies in a layout's folder: the blobs, and whatever is no part of a layout. Signatures beside the blobs are let be.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::report::{Finding, FindingKind};
use crate::digest::{Algorithm, Digest};
use crate::layout::{LayoutError, Operation};

/// What a layout's folder holds by the spec, and the folder for what a fetch has not finished.
const KNOWN: [&str; 5] = ["oci-layout", "index.json", "blobs", ".ocipull", SIGNATURES];

/// The folder of simple-signing signatures, which is laid out as a lookaside store is (containers/image, "Signature
/// access protocols"): `signatures/PATH@ALGORITHM=HEX/signature-N`. Their content is for those who have the keys.
const SIGNATURES: &str = "signatures";

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
        each_name(&blobs.join(&name), |hex| match format!("{algorithm}:{hex}").parse::<Digest>() {
            Ok(digest) => files.blobs.push(digest),
            Err(_) => files.stray(format!("{path}/{hex}"), "its name is no digest"),
        })?;
    }
    list_signatures(root, &mut files)?;
    Ok(files)
}

/// Notes what is no signature in the folder of signatures.
fn list_signatures(root: &Path, files: &mut Files) -> Result<(), LayoutError> {
    let folder = root.join(SIGNATURES);
    match fs::symlink_metadata(&folder) {
        Ok(metadata) if metadata.is_dir() => {}
        // A link could lead to all of the machine.
        Ok(_) => {
            files.stray(SIGNATURES.to_owned(), "it is not a folder");
            return Ok(());
        }
        Err(_) => return Ok(()),
    }
    for entry in walkdir::WalkDir::new(&folder).sort_by_file_name() {
        let entry = entry.map_err(|error| LayoutError::Io {
            operation: Operation::Read,
            path: error.path().unwrap_or(&folder).to_owned(),
            source: error.into(),
        })?;
        if entry.file_type().is_dir() || (entry.file_type().is_file() && is_signature(&folder, entry.path()))
        {
            continue;
        }
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
        files.stray(names.join("/"), "it is no signature of an image");
    }
    Ok(())
}

/// Whether a file stands where a signature does: the first is `signature-1`.
fn is_signature(folder: &Path, path: &Path) -> bool {
    let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix("signature-"));
    let is_numbered = number.is_some_and(|number| {
        !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty()
    });
    let image = path.parent().and_then(|parent| parent.strip_prefix(folder).ok()?.to_str());
    let digest = image.and_then(|image| image.rsplit_once('@')).filter(|(path, _)| !path.is_empty());
    is_numbered
        && digest.is_some_and(|(_, digest)| {
            digest
                .split_once('=')
                .is_some_and(|(algorithm, hex)| format!("{algorithm}:{hex}").parse::<Digest>().is_ok())
        })
}

impl Files {
    fn stray(&mut self, path: String, detail: &str) {
        let detail = detail.to_owned();
        self.strays.push(Finding { kind: FindingKind::Stray, digest: None, path: Some(path), detail });
    }
}

/// The names in a folder, sorted; none when there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>, LayoutError> {
    let mut names = Vec::new();
    each_name(folder, |name| names.push(name))?;
    names.sort_unstable();
    Ok(names)
}

/// Looks at each name in a folder, in whichever order; at none when there is no such folder.
fn each_name(folder: &Path, mut look: impl FnMut(String)) -> Result<(), LayoutError> {
    let failed = |source| LayoutError::Io { operation: Operation::Read, path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        look(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(())
}
