//! What a fetch is asked to do.

use std::path::PathBuf;
use std::sync::Arc;

use super::belonging::Referrers;
use super::select::Platforms;
use crate::layout::index::Conflict;
use crate::reference::Reference;
use crate::registry::config::registries_d::RegistriesD;
use crate::transfer::{self, Present};

/// What is to be fetched, where to, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which image.
    pub reference: Reference,
    /// The layout's folder.
    pub layout: PathBuf,
    /// For which platforms.
    pub platforms: Platforms,
    /// What the layout's ref.name says.
    pub ref_name: RefName,
    /// What to do when another image has that ref.name.
    pub conflict: Conflict,
    /// Whether the registry's bytes are kept.
    pub format: Format,
    /// Whether layers are held against the config's diff IDs.
    pub diff_ids: DiffIds,
    /// What to do with layers that live at other URLs.
    pub foreign_layers: ForeignLayers,
    /// Whether Docker's schema 1 is taken.
    pub schema1: Schema1,
    /// What else belongs to the image and is taken along.
    pub referrers: Referrers,
    /// Where simple signing's signatures are looked for, besides the registry.
    pub lookaside: Option<Arc<RegistriesD>>,
    /// Whether blobs that are there are read again where nothing else asks for it.
    pub existing: Present,
    /// Whether anything is done at all.
    pub mode: Mode,
    /// How the blobs are transferred.
    pub transfer: transfer::Options,
}

impl Request {
    /// A request with the defaults: this host's platform, the tag as ref.name, the registry's bytes, everything proven.
    pub fn new(reference: Reference, layout: impl Into<PathBuf>) -> Self {
        Self {
            reference,
            layout: layout.into(),
            platforms: Platforms::default(),
            ref_name: RefName::Tag,
            conflict: Conflict::Refuse,
            format: Format::Preserve,
            diff_ids: DiffIds::Verify,
            foreign_layers: ForeignLayers::Fetch,
            schema1: Schema1::Refuse,
            referrers: Referrers::None,
            lookaside: None,
            existing: Present::Trust,
            mode: Mode::Fetch,
            transfer: transfer::Options::default(),
        }
    }
}

/// What `org.opencontainers.image.ref.name` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefName {
    /// The tag; nothing for a reference by digest alone.
    Tag,
    /// The full canonical name.
    Full,
    /// Nothing.
    None,
    /// This text.
    Text(String),
}

/// Whether the registry's bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// They are, so that digests and signatures hold.
    Preserve,
    /// Docker's media types become OCI's, in manifests and indexes; nothing else changes.
    Oci,
}

/// What is checked of layers beyond their compressed digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffIds {
    /// Each layer is inflated and held against the config's diff ID.
    Verify,
    /// Nothing.
    Skip,
}

/// What is done with layers whose descriptors name URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignLayers {
    /// They are fetched: from the URLs, else from the registry.
    Fetch,
    /// They are left where they are, and nothing of them is proven.
    Skip,
}

/// What is done with an image in Docker's schema 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema1 {
    /// It is refused.
    Refuse,
    /// It is converted: config and manifest are made here, the diff IDs computed.
    Convert,
}

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The image is fetched.
    Fetch,
    /// It is said what would be done, and nothing is touched.
    DryRun,
}
