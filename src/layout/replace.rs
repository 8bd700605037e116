//! Replaces entries of `index.json` by what their images were converted to.
//!
//! All entries change in one edit under the lock, or none does. One that says already what it is to say counts as changed.
//! Whatever an entry says besides type, digest and size of its
//! content stays as it was, byte for byte.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::index::{Entry, IndexDocument, SOURCE_DIGEST};
use super::{Layout, LayoutError, atomic};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::verify::ProvenImage;

/// An entry, and what it is to name instead.
#[derive(Debug)]
pub struct Replacement<'a> {
    /// The entry as it was read.
    pub old: &'a Entry,
    /// Type, digest and size of what it becomes.
    pub new: &'a Descriptor,
    /// Proofs of every image that it becomes or, for an index, that the index refers to and the layout holds.
    pub images: &'a [ProvenImage],
}

impl Layout {
    /// Names what images were converted to in the place of their sources. The documents and everything that they refer
    /// to stand under their final names.
    ///
    /// # Errors
    /// [`LayoutError::EntryChanged`] when another process has changed one of the entries meanwhile,
    /// [`LayoutError::Vanished`] when something that an image refers to is gone; [`LayoutError::Unreadable`];
    /// [`LayoutError::Held`]; [`LayoutError::Io`]. In each case no entry is changed.
    pub fn replace_entries(
        &self,
        replacements: &[Replacement<'_>],
        waiting: &mut dyn FnMut(&str),
    ) -> Result<(), LayoutError> {
        let lock = self.lock(waiting)?;
        self.sync_blobs()?;
        let blobs: BTreeSet<(Digest, u64)> = (replacements.iter())
            .flat_map(|replacement| {
                let root = (replacement.new.digest, replacement.new.size);
                replacement.images.iter().flat_map(ProvenImage::blobs).chain([root])
            })
            .collect();
        for (digest, size) in blobs {
            self.still_holds(&digest, size)?;
        }
        self.still_stands()?;
        let mut index = Arc::unwrap_or_clone(self.index()?);
        let before = index.to_bytes();
        for Replacement { old, new, .. } in replacements {
            let replaced = index.replace(old, new).map_err(|error| {
                LayoutError::unreadable(&self.index_path(), format!("an entry is no descriptor: {error}"))
            })?;
            // A conversion beside this one comes to the same.
            if !replaced && !says(&index, old, new) {
                return Err(LayoutError::EntryChanged { path: self.root().to_path_buf() });
            }
        }
        let after = index.to_bytes();
        if after != before {
            index.has_room(&after, &self.index_path())?;
            atomic::write_file(&self.index_path(), &self.staging_folder().join("new"), &after)?;
        }
        drop(lock);
        Ok(())
    }
}

/// Whether an entry says already what `old` would after it was replaced by `new`.
fn says(index: &IndexDocument, old: &Entry, new: &Descriptor) -> bool {
    let Ok(old) = old.descriptor() else { return false };
    let replaced = old.digest;
    let mut wanted = Descriptor {
        media_type: new.media_type.clone(),
        digest: new.digest,
        size: new.size,
        data: None,
        urls: Vec::new(),
        ..old
    };
    let source = wanted.annotations.entry(SOURCE_DIGEST.to_owned()).or_default();
    if source.is_empty() {
        *source = replaced.to_string();
    }
    let is_wanted =
        |entry: &Entry| entry.digest() == Some(wanted.digest) && entry.descriptor().as_ref() == Ok(&wanted);
    index.entries().iter().any(is_wanted)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::manifest::MediaType;

    /// What somebody else wrote meanwhile is not overwritten, nor is anything changed when a blob is gone.
    #[test]
    fn nothing_changes_unless_all_can() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path(), &mut |_| ()).unwrap();
        let path = folder.path().join("index.json");
        let entry = |content: &str| {
            format!(r#"{{"mediaType":"m","digest":"{}","size":1}}"#, Digest::sha256(content.as_bytes()))
        };
        let write = |entries: &[String]| {
            let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
            fs::write(&path, &text).unwrap();
            text
        };
        write(&[entry("a"), entry("b")]);
        let index = layout.index().unwrap();
        let new = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"new"), 3);
        let both: Vec<_> =
            index.entries().iter().map(|old| Replacement { old, new: &new, images: &[] }).collect();
        let before = fs::read(&path).unwrap();
        let gone = layout.replace_entries(&both, &mut |_| ()).unwrap_err();
        assert!(matches!(gone, LayoutError::Vanished { .. }), "{gone}");
        assert_eq!(fs::read(&path).unwrap(), before);
        layout.put_document(&new.digest, b"new", &mut |_| ()).unwrap();
        let moved = write(&[entry("a"), entry("c")]);
        let changed = layout.replace_entries(&both, &mut |_| ()).unwrap_err();
        assert!(matches!(changed, LayoutError::EntryChanged { .. }), "{changed}");
        assert_eq!(fs::read_to_string(&path).unwrap(), moved);
        write(&[entry("c"), entry("b"), entry("a")]);
        layout.replace_entries(&both, &mut |_| ()).unwrap();
        let digests: Vec<_> = layout
            .index()
            .unwrap()
            .entries()
            .iter()
            .map(|entry| entry.descriptor().unwrap().digest)
            .collect();
        assert_eq!(digests, [Digest::sha256(b"c"), new.digest, new.digest]);
        // Another process that did the same is no reason to fail, and none to write.
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        layout.replace_entries(&both, &mut |_| ()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        let other = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"a"), 1);
        layout.put_document(&other.digest, b"a", &mut |_| ()).unwrap();
        let otherwise = [Replacement { old: both[0].old, new: &other, images: &[] }];
        assert!(matches!(
            layout.replace_entries(&otherwise, &mut |_| ()),
            Err(LayoutError::EntryChanged { .. })
        ));
    }
}
