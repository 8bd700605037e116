//! What the documents of a layout become: a walk down from an entry of `index.json`, converting on the way up.
//!
//! Reads manifests and indexes, checks digest and size of each, and changes nothing. A document that several images refer
//! to is read and converted once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::ConvertError;
use crate::digest::Digest;
use crate::layout::{Absence, Absent, Layout, LayoutError, Surveys};
use crate::manifest::convert::{image_to_oci, index_to_oci};
use crate::manifest::nesting::{Entered, Nesting};
use crate::manifest::{
    Descriptor, DocumentKind, ImageIndex, ImageManifest, Manifest, ManifestError, MediaType,
};

/// How many bytes the documents of one conversion may have together: they are all in memory at once.
const DOCUMENTS_CAP: usize = 256 << 20;

/// A document as it is to be.
#[derive(Debug)]
pub(super) struct Node {
    /// Type, digest and size before.
    pub(super) source: Descriptor,
    /// Type, digest and size after; the same where nothing changes.
    pub(super) descriptor: Descriptor,
    /// The bytes after.
    pub(super) raw: Bytes,
    pub(super) is_converted: bool,
    pub(super) content: Content,
}

/// What a document refers to.
#[derive(Debug)]
pub(super) enum Content {
    /// An image or an artifact.
    Image(ImageManifest),
    /// An index.
    Index {
        /// Its manifests and nested indexes that the layout holds.
        children: Vec<Arc<Node>>,
        /// What else it lists and the layout holds.
        others: Vec<Descriptor>,
        /// The manifests and nested indexes that the layout does not hold.
        absent: Vec<Digest>,
        /// How many entries it has.
        entries: usize,
    },
}

impl Node {
    fn new(source: &Descriptor, before: Manifest, converted: Option<Manifest>, content: Content) -> Self {
        let algorithm = source.digest.algorithm();
        let is_converted = converted.is_some();
        let after = converted.unwrap_or(before);
        let raw = after.raw().clone();
        Self {
            source: source.clone(),
            descriptor: Descriptor::new(after.media_type().clone(), algorithm.digest(&raw), raw.len() as u64),
            raw,
            is_converted,
            content,
        }
    }
}

/// The documents of a layout that were looked at, each as it is to be.
pub(super) struct Plan<'a> {
    layout: &'a Layout,
    cancelled: &'a AtomicBool,
    /// By digest, and by the type that it was referred to with: that decides where the document itself says nothing.
    nodes: HashMap<(Digest, MediaType), Arc<Node>>,
    surveys: Surveys<'a>,
    /// The indexes below the entry of `index.json` that are read for it.
    nesting: Nesting,
    bytes: usize,
}

impl<'a> Plan<'a> {
    /// Nothing is read yet.
    pub(super) fn new(layout: &'a Layout, cancelled: &'a AtomicBool) -> Self {
        Self {
            layout,
            cancelled,
            nodes: HashMap::new(),
            surveys: Surveys::new(layout),
            nesting: Nesting::default(),
            bytes: 0,
        }
    }

    /// What an entry of `index.json` becomes; `None` where it names neither a manifest nor an index.
    ///
    /// # Errors
    /// [`ConvertError::Layout`] for a document that is missing or bad, [`ConvertError::IndexLimit`],
    /// [`ConvertError::Document`], [`ConvertError::TooManyDocuments`], [`ConvertError::Cancelled`].
    pub(super) fn root(&mut self, entry: &Descriptor) -> Result<Option<Arc<Node>>, ConvertError> {
        if !is_followed(entry) {
            return Ok(None);
        }
        self.nesting = Nesting::default();
        let node = self.node(entry, 1)?;
        // What was known from other entries counts for this one, too.
        let mut below = Below::default();
        below.walk(&node, 1)?;
        Ok(Some(node))
    }

    /// How many manifests below a converted index are not there by choice, and so cannot be converted.
    ///
    /// # Errors
    /// [`ConvertError::Layout`] for one that should be there.
    pub(super) fn left_out(&mut self, entry: &Descriptor, root: &Node) -> Result<usize, ConvertError> {
        let mut below = Below::default();
        below.walk(root, 1)?;
        if below.absent.is_empty() {
            return Ok(0);
        }
        let proceed = || !self.cancelled.load(Ordering::Relaxed);
        let absent = match self.surveys.absent_again(entry, &proceed) {
            Some(absent) => absent,
            None => match self.layout.manifest(entry)? {
                Manifest::Index(index) => self.surveys.absent(entry, &index, &proceed),
                _ => Absent::default(),
            },
        };
        if !proceed() {
            return Err(ConvertError::Cancelled);
        }
        let by_choice = absent.manifests.iter().filter(|absent| absent.absence == Absence::LeftOut);
        let by_choice: HashSet<Digest> = by_choice.map(|absent| absent.descriptor.digest).collect();
        match below.absent.iter().find(|digest| !by_choice.contains(*digest)) {
            Some(digest) => Err(LayoutError::MissingBlob { digest: *digest }.into()),
            None => Ok(below.absent.len()),
        }
    }

    /// The document, at a place in the chain of indexes that is `depth` where it is one.
    fn node(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Arc<Node>, ConvertError> {
        let key = (descriptor.digest, descriptor.media_type.clone());
        let known = self.nodes.get(&key).map(Arc::clone);
        let node = if let Some(node) = known {
            node
        } else {
            let node = Arc::new(self.read(descriptor, depth)?);
            self.nodes.insert(key, Arc::clone(&node));
            node
        };
        // Each descriptor's claim counts, also of a document that is known.
        check_size(descriptor, node.source.size)?;
        Ok(node)
    }

    fn read(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Node, ConvertError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(ConvertError::Cancelled);
        }
        let before = self.layout.manifest(descriptor)?;
        self.bytes = self.bytes.saturating_add(before.raw().len());
        if self.bytes > DOCUMENTS_CAP {
            return Err(ConvertError::TooManyDocuments { cap: DOCUMENTS_CAP });
        }
        let source =
            Descriptor::new(before.media_type().clone(), descriptor.digest, before.raw().len() as u64);
        let failed = |source| ConvertError::Document { digest: descriptor.digest, source };
        match &before {
            Manifest::Image(image) => {
                let converted = image_to_oci(image).map_err(failed)?;
                let content = Content::Image(converted.clone().unwrap_or_else(|| image.clone()));
                Ok(Node::new(&source, before, converted.map(Manifest::Image), content))
            }
            Manifest::Index(index) => {
                let digest = descriptor.digest;
                let entered = self.nesting.enter(digest, depth, index.manifests().len());
                entered.map_err(|limit| ConvertError::IndexLimit { digest, limit })?;
                let (converted, content) = self.index(index, depth, failed)?;
                Ok(Node::new(&source, before, converted.map(Manifest::Index), content))
            }
            Manifest::Schema1(old) => {
                let source = ManifestError::UnsupportedMediaType { media_type: old.media_type().clone() };
                Err(LayoutError::BadDocument { digest: descriptor.digest, source }.into())
            }
        }
    }

    fn index(
        &mut self,
        index: &ImageIndex,
        depth: usize,
        failed: impl Fn(ManifestError) -> ConvertError,
    ) -> Result<(Option<ImageIndex>, Content), ConvertError> {
        let (mut children, mut others, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        let mut known: HashMap<(Digest, MediaType), Descriptor> = HashMap::new();
        for child in index.manifests() {
            // What was not taken along stays listed as it is. Something that is no file is no choice.
            if self.surveys.is_absent(&child.digest) {
                let is_manifest = child.media_type.is_index() || child.media_type.is_image_manifest();
                absent.extend(is_manifest.then_some(child.digest));
                continue;
            }
            if !is_followed(child) {
                others.push(child.clone());
                continue;
            }
            let node = self.node(child, depth + 1)?;
            if node.is_converted {
                known.insert((child.digest, child.media_type.clone()), node.descriptor.clone());
            }
            children.push(node);
        }
        let became = |child: &Descriptor| known.get(&(child.digest, child.media_type.clone())).cloned();
        let converted = index_to_oci(index, became).map_err(failed)?;
        let entries = index.manifests().len();
        Ok((converted, Content::Index { children, others, absent, entries }))
    }
}

/// Whether a descriptor leads to a manifest or an index that can be converted. One without a type may, and its document
/// says so.
fn is_followed(descriptor: &Descriptor) -> bool {
    let media_type = &descriptor.media_type;
    matches!(media_type.kind(), DocumentKind::ImageManifest | DocumentKind::Index) || media_type.is_empty()
}

fn check_size(descriptor: &Descriptor, found: u64) -> Result<(), ConvertError> {
    if descriptor.size == found {
        return Ok(());
    }
    let reason = format!("it has {found} bytes, and a descriptor of it says {}", descriptor.size);
    Err(LayoutError::BadBlob { digest: descriptor.digest, reason }.into())
}

/// What is below an entry of `index.json`, each index once.
#[derive(Default)]
struct Below {
    nesting: Nesting,
    absent: BTreeSet<Digest>,
}

impl Below {
    fn walk(&mut self, node: &Node, depth: usize) -> Result<(), ConvertError> {
        let Content::Index { children, absent, entries, .. } = &node.content else { return Ok(()) };
        let digest = node.source.digest;
        let entered = self.nesting.enter(digest, depth, *entries);
        if entered.map_err(|limit| ConvertError::IndexLimit { digest, limit })? == Entered::Known {
            return Ok(());
        }
        self.absent.extend(absent);
        children.iter().try_for_each(|child| self.walk(child, depth + 1))
    }
}
