//! Converts the images of a layout from Docker's media types to OCI's, in place and without a registry.
//!
//! What changes in the documents is said in [`manifest::convert`](crate::manifest::convert): the names of types, and with
//! them digests and sizes on the way up; configs and layers stay as they are and are shared by the old and the new image.
//!
//! Guarantees:
//!
//! - children come before parents, each source is converted once, and what images share stays shared; of an index that is
//!   not whole the part that is there is converted, and the rest stays listed as it was;
//! - before an entry of `index.json` is changed, everything that its new manifests name is read and proven again: sizes,
//!   digests, and diff IDs unless the entry says that they were skipped. A bad blob ends it all, and nothing is changed;
//! - new documents are whole under their final names before `index.json` changes, and all entries change in one edit. A kill
//!   before that edit leaves the images of before and a few unreferenced documents, which the next conversion finds
//!   there; a kill after it leaves the converted images. There is no state between the two;
//! - what is OCI's already is not touched, so a second conversion changes nothing, not even the time of a file.
//!
//! The old manifests stay among the blobs: another process may be reading them, and no entry needs them any more.

mod error;
mod plan;
mod prove;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use crate::check::Options;
pub use error::ConvertError;
pub use report::{ConvertedImage, Report, Status};

use crate::digest::Digest;
use crate::layout::index::Entry;
use crate::layout::{Layout, Replacement};
use crate::progress::{Event, Reporter};
use crate::verify::ProvenImage;

use plan::{Content, Node, Plan};

/// An entry of `index.json` and what it becomes.
struct Planned {
    entry: Entry,
    /// None for what is no image and no index, and stays what it is.
    root: Option<Arc<Node>>,
    /// How many manifests of an index that is converted are not there by choice.
    left_out: usize,
}

impl Planned {
    fn converted(&self) -> Option<&Arc<Node>> {
        self.root.as_ref().filter(|root| root.is_converted)
    }
}

/// Converts the images that `name` means, by the rules of [`Layout::find`], or all images of the layout. Blocks, so not
/// for async code.
///
/// # Errors
/// [`ConvertError`]; in each case no image is changed. [`ConvertError::Layout`] also for names, for documents and blobs
/// that are bad or missing, and where another process changed an image meanwhile.
pub fn to_oci(
    layout: &Layout,
    name: Option<&str>,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
) -> Result<Report, ConvertError> {
    let converted = convert(layout, name, options, reporter);
    // A conversion beside this one may have left it to this one to clear up, whether or not anything changed.
    let mut waiting = |holder: &str| {
        reporter.report(Event::Waiting { digest: None, holder: holder.to_owned() });
    };
    if let Err(error) = layout.clean_up(&mut waiting) {
        let message = format!("the staging folder could not be cleared: {error}");
        reporter.report(Event::Warning { message });
    }
    converted
}

fn convert(
    layout: &Layout,
    name: Option<&str>,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
) -> Result<Report, ConvertError> {
    let mut plan = Plan::new(layout, &options.cancelled);
    let mut planned = Vec::new();
    for entry in entries(layout, name, reporter)? {
        let descriptor = entry.descriptor().map_err(ConvertError::Entry)?;
        let root = plan.root(&descriptor)?;
        let left_out = match &root {
            Some(root) if root.is_converted => plan.left_out(&descriptor, root)?,
            _ => 0,
        };
        planned.push(Planned { entry, root, left_out });
    }
    let proofs = prove::prove(layout, &planned, options, reporter)?;
    commit(layout, &planned, &proofs, reporter)?;
    Ok(Report::of(layout.root(), &planned))
}

/// The entries to convert. One that is no descriptor has no image, and is somebody else's.
fn entries(
    layout: &Layout,
    name: Option<&str>,
    reporter: &Arc<dyn Reporter>,
) -> Result<Vec<Entry>, ConvertError> {
    if let Some(name) = name {
        return Ok(layout.entries_named(name)?);
    }
    let (entries, others): (Vec<Entry>, Vec<Entry>) =
        layout.index()?.entries().iter().cloned().partition(|entry| entry.digest().is_some());
    if !others.is_empty() {
        let message =
            format!("entries of index.json that are no descriptors stay as they are: {}", others.len());
        reporter.report(Event::Warning { message });
    }
    Ok(entries)
}

/// Writes the new documents, then lets `index.json` name them.
///
/// `proofs` has the images of each converted entry, in the order of `planned`.
fn commit(
    layout: &Layout,
    planned: &[Planned],
    proofs: &[Vec<ProvenImage>],
    reporter: &Arc<dyn Reporter>,
) -> Result<(), ConvertError> {
    let roots: Vec<_> =
        planned.iter().filter_map(|planned| Some((&planned.entry, planned.converted()?))).collect();
    if roots.is_empty() {
        return Ok(());
    }
    let waiting = |digest: Option<Digest>| {
        let reporter = Arc::clone(reporter);
        move |holder: &str| reporter.report(Event::Waiting { digest, holder: holder.to_owned() })
    };
    let mut written = BTreeSet::new();
    for (_, root) in &roots {
        write(layout, root, &mut written, &waiting)?;
    }
    let replacements: Vec<_> = (roots.iter().zip(proofs))
        .map(|((entry, root), images)| Replacement { old: entry, new: &root.descriptor, images })
        .collect();
    layout.replace_entries(&replacements, &mut waiting(None))?;
    for (entry, root) in roots {
        reporter.report(Event::Committed { reference: report::shown(entry), digest: root.descriptor.digest });
    }
    Ok(())
}

/// Writes the new documents of a tree, children first, each once.
fn write<W: FnMut(&str)>(
    layout: &Layout,
    node: &Node,
    written: &mut BTreeSet<Digest>,
    waiting: &impl Fn(Option<Digest>) -> W,
) -> Result<(), ConvertError> {
    let digest = node.descriptor.digest;
    // What is below an index that stays as it is stays as it is, too.
    if !node.is_converted || !written.insert(digest) {
        return Ok(());
    }
    if let Content::Index { children, .. } = &node.content {
        for child in children {
            write(layout, child, written, waiting)?;
        }
    }
    layout.put_document(&digest, &node.raw, &mut waiting(Some(digest)))?;
    Ok(())
}

#[cfg(test)]
mod tests;
