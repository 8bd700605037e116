//! The last write of a commit: `index.json` names what is proven.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::index::{self, IndexDocument, NewEntry, Put, PutError};
use super::{Layout, LayoutError, atomic, recent};
use crate::digest::Digest;
use crate::verify::Proven;

impl Layout {
    /// Names what is proven in `index.json`; its blobs and manifests stand under their final names. Says whether that
    /// changed anything. All is named in one write, or nothing is.
    ///
    /// # Errors
    /// [`LayoutError::NameTaken`]; [`LayoutError::Unreadable`]; [`LayoutError::Held`]; [`LayoutError::Vanished`]
    /// when the marker or something that an image refers to is gone; [`LayoutError::NotProven`] when an entry is about something else
    /// than its proof; [`LayoutError::Io`].
    pub fn name(
        &self,
        named: &[(NewEntry, Proven)],
        waiting: &mut dyn FnMut(&str),
    ) -> Result<bool, LayoutError> {
        let named: Vec<&(NewEntry, Proven)> = named.iter().collect();
        Ok(self.name_if(&named, &|_| true, waiting)?.iter().any(|put| put.is_change))
    }

    /// As [`Layout::name`], where `holds` says of the `index.json` that is about to be edited, which no other process
    /// edits meanwhile, that it is still the one for which `named` was made. Says what came of each.
    ///
    /// # Errors
    /// As [`Layout::name`]; [`LayoutError::EntryChanged`] when it is not.
    pub(crate) fn name_if(
        &self,
        named: &[&(NewEntry, Proven)],
        holds: &dyn Fn(&IndexDocument) -> bool,
        waiting: &mut dyn FnMut(&str),
    ) -> Result<Vec<Put>, LayoutError> {
        let lock = self.lock(waiting)?;
        // First, so that the looks at what is there come as late as they can.
        self.sync_blobs()?;
        let mut looked_at = BTreeSet::new();
        for (entry, proven) in named {
            let (digest, size) = (entry.descriptor.digest, entry.descriptor.size);
            if *proven.root().digest() != digest || proven.root().size() != size {
                return Err(LayoutError::NotProven { digest });
            }
            for (digest, size) in proven.blobs() {
                if looked_at.insert((digest, size)) {
                    self.still_holds(&digest, size)?;
                }
            }
        }
        self.still_stands()?;
        let mut index = Arc::unwrap_or_clone(self.index()?);
        if !holds(&index) {
            return Err(LayoutError::EntryChanged { path: self.root.to_path_buf() });
        }
        let mut all = Vec::with_capacity(named.len());
        for (entry, _) in named {
            let put = index.put(entry, |held| self.extent(held)).map_err(|error| match error {
                PutError::Taken(holder) => self.name_taken(entry, holder),
                PutError::Entry(error) => LayoutError::unreadable(&self.index_path(), format!("{error}")),
            })?;
            all.push(put);
        }
        if all.iter().any(|put| put.is_change) || !self.index_path().exists() {
            let bytes = index.to_bytes();
            index.has_room(&bytes, &self.index_path())?;
            atomic::write_file(&self.index_path(), &self.staging_folder().join("new"), &bytes)?;
            recent::written(&bytes, index);
        }
        drop(lock);
        Ok(all)
    }

    /// Whether this is a layout as it was when it was opened: it may have been removed since, and a name in what is left
    /// would be one that no tool reads.
    ///
    /// # Errors
    /// [`LayoutError::Vanished`]
    pub(crate) fn still_stands(&self) -> Result<(), LayoutError> {
        let path = self.marker_path();
        if path.exists() { Ok(()) } else { Err(LayoutError::Vanished { path }) }
    }

    /// Whether a blob that was proven is there, a moment before it is named.
    ///
    /// # Errors
    /// [`LayoutError::Vanished`], [`LayoutError::Io`].
    pub(super) fn still_holds(&self, digest: &Digest, size: u64) -> Result<(), LayoutError> {
        if self.contains(digest, size)? {
            Ok(())
        } else {
            Err(LayoutError::Vanished { path: self.blob_path(digest) })
        }
    }

    /// The error for a ref.name that another image holds.
    pub(crate) fn name_taken(&self, entry: &NewEntry, holder: index::Holder) -> LayoutError {
        LayoutError::NameTaken {
            path: self.root.to_path_buf(),
            name: entry.descriptor.annotations.get(index::REF_NAME).cloned().unwrap_or_default(),
            holder: holder.shown,
            relation: holder.relation,
        }
    }
}
