//! The layout and the names in it, read again when `index.json` has changed, so that a fetch beside the server shows.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::catalog::Catalog;
use crate::layout::{Layout, LayoutError};

/// What tells one `index.json` from the next. Writers replace the file, so that on Unix its inode changes even where
/// time and length do not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// A layout that is served.
#[derive(Debug)]
pub(super) struct Store {
    layout: Layout,
    known: Mutex<(Option<Stamp>, Arc<Catalog>)>,
}

impl Store {
    /// Reads the layout's names.
    pub(super) fn new(layout: Layout) -> Result<Self, LayoutError> {
        let stamp = stamp(&layout);
        let catalog = Catalog::new(layout.index()?.as_ref(), layout.root());
        Ok(Self { layout, known: Mutex::new((stamp, Arc::new(catalog))) })
    }

    /// The layout.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The names as they are now. While another tool has `index.json` half written, as they were before.
    pub(super) fn catalog(&self) -> Result<Arc<Catalog>, LayoutError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the file is read: a change in between is seen next time.
        let stamp = stamp(&self.layout);
        if stamp != known.0 {
            match self.layout.index() {
                Ok(index) => *known = (stamp, Arc::new(Catalog::new(&index, self.layout.root()))),
                Err(error @ LayoutError::Unreadable { .. }) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "index.json is served as it was before"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Arc::clone(&known.1))
    }
}

fn stamp(layout: &Layout) -> Option<Stamp> {
    let metadata = fs::metadata(layout.root().join("index.json")).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode })
}
