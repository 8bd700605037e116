//! Which images bad blobs belong to, and with that where each may come from.
//!
//! What is below a document is read once, whoever lists it; what a bad document would lead to is not guessed, but found
//! when it is good again. Depth has the limit of [`nesting`](crate::manifest::nesting).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::digest::Digest;
use crate::fetch::remake;
use crate::layout::index::SOURCE_TYPE;
use crate::layout::{Layout, LayoutError};
use crate::manifest::nesting::DEEPEST;
use crate::manifest::{Descriptor, DocumentKind, Manifest};
use crate::reference::{Reference, Repository, Tag};

/// How many repositories are asked for one blob.
const MOST_PLACES: usize = 8;

/// What a blob is, which decides how it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A manifest or an index.
    Document,
    /// A config.
    Config,
    /// A layer, or whatever else an entry names.
    Layer,
}

/// A bad blob that an image needs.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// As the first document has it that lists it.
    pub(super) descriptor: Descriptor,
    pub(super) what: What,
    /// Where its images come from, in the order of `index.json`. None where no entry says it.
    pub(super) places: Vec<Repository>,
    /// How many of its bytes an earlier run left staged.
    pub(super) staged: u64,
}

/// An entry of `index.json` whose documents were made by whoever fetched it, and some of them are bad.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) entry: Descriptor,
    /// Its full name.
    pub(super) name: Option<Reference>,
    pub(super) repository: Repository,
    /// What is bad at and below it.
    pub(super) bad: Arc<BTreeSet<Digest>>,
}

impl Made {
    /// Whether config and manifest were made of a schema 1 manifest.
    pub(super) fn is_schema1(&self) -> bool {
        self.entry.annotations.contains_key(SOURCE_TYPE)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) wanted: BTreeMap<Digest, Wanted>,
    pub(super) made: Vec<Made>,
}

/// Looks from every entry of `index.json` for what is bad. With `from` all of it comes from there, whatever entries say.
pub(super) fn find(
    layout: &Layout,
    bad: &BTreeSet<Digest>,
    from: Option<&Repository>,
) -> Result<Found, LayoutError> {
    let index = layout.index()?;
    let mut search = Search { layout, bad, below: HashMap::new(), found: Found::default() };
    for entry in index.entries() {
        let Ok(descriptor) = entry.descriptor() else { continue };
        let below = search.below(&descriptor, 1);
        if below.is_empty() {
            continue;
        }
        let name = entry.full_name().and_then(|name| name.parse::<Reference>().ok());
        let Some(repository) = from.cloned().or_else(|| Some(name.as_ref()?.repository().clone())) else {
            continue;
        };
        let wanted = &mut search.found.wanted;
        for digest in below.iter() {
            let Some(wanted) = wanted.get_mut(digest) else { continue };
            if wanted.places.len() < MOST_PLACES && !wanted.places.contains(&repository) {
                wanted.places.push(repository.clone());
            }
        }
        let is_list = || name.as_ref().and_then(Reference::tag).is_some_and(Tag::is_of_digest);
        if !entry.is_changed() && (remake::source(&descriptor).is_some() || is_list()) {
            search.found.made.push(Made { entry: descriptor, name, repository, bad: below });
        }
    }
    Ok(search.found)
}

struct Search<'a> {
    layout: &'a Layout,
    bad: &'a BTreeSet<Digest>,
    /// What is bad at and below a document.
    below: HashMap<Digest, Arc<BTreeSet<Digest>>>,
    found: Found,
}

impl Search<'_> {
    fn below(&mut self, descriptor: &Descriptor, depth: usize) -> Arc<BTreeSet<Digest>> {
        let digest = descriptor.digest;
        let is_document = is_document(descriptor);
        if self.bad.contains(&digest) {
            self.want(descriptor, if is_document { What::Document } else { What::Layer });
            return Arc::new(BTreeSet::from([digest]));
        }
        if let Some(below) = self.below.get(&digest) {
            return Arc::clone(below);
        }
        if !is_document || depth > DEEPEST {
            return Arc::default();
        }
        let mut below = BTreeSet::new();
        let (listed, subject) = match self.layout.manifest(descriptor) {
            Ok(Manifest::Image(manifest)) => {
                // Only layers live elsewhere: nobody is asked for a config but the registry.
                let config = Descriptor { urls: Vec::new(), ..manifest.config().clone() };
                let layers = manifest.layers().iter().map(|layer| (layer, What::Layer));
                for (blob, what) in layers.chain([(&config, What::Config)]) {
                    if self.bad.contains(&blob.digest) {
                        self.want(blob, what);
                        below.insert(blob.digest);
                    }
                }
                (Vec::new(), manifest.subject().cloned())
            }
            Ok(Manifest::Index(index)) => (index.manifests().to_vec(), index.subject().cloned()),
            // What is wrong with it is a finding, and leads nowhere.
            _ => (Vec::new(), None),
        };
        for child in listed.iter().chain(&subject) {
            below.extend(self.below(child, depth + 1).iter());
        }
        let below = Arc::new(below);
        self.below.insert(digest, Arc::clone(&below));
        below
    }

    fn want(&mut self, descriptor: &Descriptor, what: What) {
        let (digest, size) = (descriptor.digest, descriptor.size);
        let staged = || self.layout.staged_bytes(&digest, size);
        self.found.wanted.entry(digest).or_insert_with(|| Wanted {
            descriptor: descriptor.clone(),
            what,
            places: Vec::new(),
            staged: staged(),
        });
    }
}

/// Whether a descriptor leads to a manifest or an index, as it does for a check.
fn is_document(descriptor: &Descriptor) -> bool {
    descriptor.media_type.kind() != DocumentKind::Other || descriptor.media_type.is_empty()
}
