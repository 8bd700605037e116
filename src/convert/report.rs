//! What came of a conversion, in the shape that `convert --json` prints.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Planned;
use super::plan::{Content, Node};
use crate::layout::index::Entry;
use crate::manifest::Descriptor;
use crate::manifest::convert::has_zstd_layers;

/// What came of a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The layout's folder.
    pub layout: PathBuf,
    /// The images that it was about, in the order of `index.json`.
    pub images: Vec<ConvertedImage>,
}

/// One entry of `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConvertedImage {
    /// Its full canonical name.
    pub name: Option<String>,
    /// Its short name.
    pub ref_name: Option<String>,
    /// Whether anything was changed.
    pub status: Status,
    /// What it was converted from: media type, digest and size. None where nothing was changed.
    pub source: Option<Descriptor>,
    /// Media type, digest and size of what `index.json` names now.
    pub descriptor: Descriptor,
    /// Whether a layer that is there is compressed with zstd, and stays so.
    #[serde(skip)]
    pub has_zstd_layers: bool,
    /// How many manifests of the index that it is are not there by choice: they keep their descriptors.
    #[serde(skip)]
    pub left_out: usize,
    /// Whether it is an image, an artifact or an index at all. What is not stays as it is.
    #[serde(skip)]
    pub is_manifest: bool,
}

/// What became of an entry. Serialises as `converted` or `unchanged`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Status {
    /// It names the OCI form now.
    Converted,
    /// It is as it was.
    Unchanged,
}

impl ConvertedImage {
    /// The full name, else the short one; none where the entry has neither.
    pub fn shown_name(&self) -> Option<&str> {
        self.name.as_deref().or(self.ref_name.as_deref())
    }

    fn of(planned: &Planned) -> Option<Self> {
        let entry = &planned.entry;
        let held = entry.descriptor().ok()?;
        let held = Descriptor::new(held.media_type, held.digest, held.size);
        let root = planned.root.as_ref();
        let source = planned.converted().map(|root| root.source.clone());
        Some(Self {
            name: entry.full_name().map(str::to_owned),
            ref_name: entry.ref_name().map(str::to_owned),
            status: if source.is_some() { Status::Converted } else { Status::Unchanged },
            source,
            descriptor: root.map_or(held, |root| root.descriptor.clone()),
            has_zstd_layers: root.is_some_and(|root| holds_zstd(root)),
            left_out: planned.left_out,
            is_manifest: root.is_some(),
        })
    }
}

impl Report {
    pub(super) fn of(layout: &Path, planned: &[Planned]) -> Self {
        Self { layout: layout.to_owned(), images: planned.iter().filter_map(ConvertedImage::of).collect() }
    }
}

/// What events call an entry.
pub(super) fn shown(entry: &Entry) -> String {
    let digest = || entry.digest().map(|digest| digest.to_string()).unwrap_or_default();
    entry.full_name().or(entry.ref_name()).map_or_else(digest, str::to_owned)
}

fn holds_zstd(node: &Node) -> bool {
    match &node.content {
        Content::Image(manifest) => has_zstd_layers(manifest),
        Content::Index { children, .. } => children.iter().any(|child| holds_zstd(child)),
    }
}
