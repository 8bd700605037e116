//! What a check found, in the shape that `verify --json` prints.

use std::path::PathBuf;

use serde::Serialize;

use crate::digest::Digest;

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The layout's folder.
    pub layout: PathBuf,
    /// Whether everything that `index.json` refers to is there and proven: no finding, or notes only.
    pub ok: bool,
    /// How many manifests of images or artifacts were found and could be read.
    pub images: usize,
    /// How many blobs were read and hold.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is not there by choice; in JSON where there is any.
    #[serde(rename = "leftOut", skip_serializing_if = "LeftOut::is_nothing")]
    pub left_out: LeftOut,
    /// What is wrong, then the notes; in the same order whenever the same layout is checked.
    pub findings: Vec<Finding>,
}

/// What images refer to and whoever fetched them chose to leave where it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// Manifests and nested indexes for platforms that were not asked for.
    pub manifests: usize,
    /// Layers that live at URLs of their own.
    pub layers: usize,
}

impl LeftOut {
    /// Whether everything is there.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// One thing that is wrong, or worth a note.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// The blob that it is about.
    pub digest: Option<Digest>,
    /// The file that it is about, from the layout's folder on, with `/` between names.
    pub path: Option<String>,
    /// One sentence for people.
    pub detail: String,
}

/// The kinds of findings. The last two are notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// A blob's content does not have the digest that is its name.
    DigestMismatch,
    /// A blob has another size than a descriptor says.
    SizeMismatch,
    /// A blob that something refers to is not there, or cannot be read.
    Missing,
    /// A layer does not uncompress to the diff ID that an image config claims for it.
    DiffIdMismatch,
    /// A document cannot be understood, or is not what a descriptor says.
    BadDocument,
    /// A note: a whole blob that nothing refers to.
    Unreferenced,
    /// A note: something that is no part of a layout.
    Stray,
}

impl FindingKind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::DigestMismatch => "digest-mismatch",
            Self::SizeMismatch => "size-mismatch",
            Self::Missing => "missing",
            Self::DiffIdMismatch => "diff-id-mismatch",
            Self::BadDocument => "bad-document",
            Self::Unreferenced => "unreferenced",
            Self::Stray => "stray",
        }
    }

    /// Whether it leaves a layout as good as it was.
    pub fn is_note(self) -> bool {
        matches!(self, Self::Unreferenced | Self::Stray)
    }
}

impl std::fmt::Display for FindingKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
