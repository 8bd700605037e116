//! What the documents of a layout claim about its blobs, and who claims it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::blob::path_of;
use super::report::{Finding, FindingKind};
use crate::digest::{Algorithm, Digest};

/// Where a descriptor of a blob stands. Entries and layers count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Referrer {
    /// An entry of `index.json`.
    Top { entry: usize },
    /// An entry of an index.
    Index { index: Digest, entry: usize },
    /// A manifest, to its config.
    Config { manifest: Digest },
    /// A manifest, to a layer.
    Layer { manifest: Digest, layer: usize },
    /// A manifest or an index, to what it is about.
    Subject { manifest: Digest },
}

impl fmt::Display for Referrer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top { entry } => write!(f, "entry {entry} of index.json"),
            Self::Index { index, entry } => write!(f, "entry {entry} of index {index}"),
            Self::Config { manifest } => write!(f, "the config of manifest {manifest}"),
            Self::Layer { manifest, layer } => write!(f, "layer {layer} of manifest {manifest}"),
            Self::Subject { manifest } => write!(f, "the subject of manifest {manifest}"),
        }
    }
}

/// A diff ID that a config claims for a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DiffIdClaim {
    pub(super) diff_id: Digest,
    pub(super) config: Digest,
    pub(super) manifest: Digest,
    pub(super) layer: usize,
}

/// Everything that is claimed about one blob. A layout has many blobs of which one thing is claimed once, so that lists are
/// made no longer than that at first.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Which size is claimed by whom.
    sizes: Vec<(u64, Referrer)>,
    diff_ids: Vec<DiffIdClaim>,
}

impl Claims {
    pub(super) fn add_size(&mut self, size: u64, by: Referrer) {
        push(&mut self.sizes, (size, by));
    }

    pub(super) fn add_diff_id(&mut self, claim: DiffIdClaim) {
        push(&mut self.diff_ids, claim);
    }

    /// The claimed diff IDs.
    pub(super) fn diff_ids(&self) -> &[DiffIdClaim] {
        &self.diff_ids
    }

    /// The algorithms of the claimed diff IDs: nearly always none or one.
    pub(super) fn algorithms(&self) -> BTreeSet<Algorithm> {
        self.diff_ids.iter().map(|claim| claim.diff_id.algorithm()).collect()
    }

    /// Who needs the blob, in words.
    pub(super) fn referrers(&self) -> String {
        some_of(&self.sizes.iter().map(|(_, by)| *by).collect())
    }

    /// A finding for each size that is claimed and is not the one that the blob has.
    pub(super) fn wrong_sizes(&self, digest: Digest, found: u64) -> impl Iterator<Item = Finding> + '_ {
        let mut wrong: BTreeMap<u64, BTreeSet<Referrer>> = BTreeMap::new();
        for (size, by) in self.sizes.iter().filter(|(size, _)| *size != found) {
            wrong.entry(*size).or_default().insert(*by);
        }
        wrong.into_iter().map(move |(size, by)| Finding {
            kind: FindingKind::SizeMismatch,
            digest: Some(digest),
            path: Some(path_of(&digest)),
            detail: format!("it has {found} bytes, and its size is {size} in {}", some_of(&by)),
        })
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.push(item);
}

fn some_of(referrers: &BTreeSet<Referrer>) -> String {
    match (referrers.first(), referrers.len()) {
        (None, _) => "nothing".to_owned(),
        (Some(first), 1) => first.to_string(),
        (Some(first), count) => format!("{first}, and {} more", count - 1),
    }
}
