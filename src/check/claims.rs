//! What the documents of a layout claim about its blobs, and who claims it.

use std::collections::{BTreeMap, BTreeSet};

use super::blob::path_of;
use super::digests::{Digests, Number};
use super::report::{Finding, FindingKind};
use crate::digest::{Algorithm, Digest};

/// Where a descriptor of a blob stands. Entries and layers count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Referrer {
    /// An entry of `index.json`.
    Top { entry: u32 },
    /// An entry of an index.
    Index { index: Number, entry: u32 },
    /// A manifest, to its config.
    Config { manifest: Number },
    /// A manifest, to a layer.
    Layer { manifest: Number, layer: u32 },
    /// A manifest or an index, to what it is about.
    Subject { manifest: Number },
}

impl Referrer {
    /// It in words.
    pub(super) fn shown(self, digests: &Digests) -> String {
        match self {
            Self::Top { entry } => format!("entry {entry} of index.json"),
            Self::Index { index, entry } => format!("entry {entry} of index {}", digests[index]),
            Self::Config { manifest } => format!("the config of manifest {}", digests[manifest]),
            Self::Layer { manifest, layer } => format!("layer {layer} of manifest {}", digests[manifest]),
            Self::Subject { manifest } => format!("the subject of manifest {}", digests[manifest]),
        }
    }

    /// What several are ordered by, so that the same layout gives the same words.
    fn order(self, digests: &Digests) -> (u8, Option<Digest>, u32) {
        match self {
            Self::Top { entry } => (0, None, entry),
            Self::Index { index, entry } => (1, Some(digests[index]), entry),
            Self::Config { manifest } => (2, Some(digests[manifest]), 0),
            Self::Layer { manifest, layer } => (3, Some(digests[manifest]), layer),
            Self::Subject { manifest } => (4, Some(digests[manifest]), 0),
        }
    }
}

/// A diff ID that a config claims for a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DiffIdClaim {
    pub(super) diff_id: Number,
    pub(super) config: Number,
    pub(super) manifest: Number,
    pub(super) layer: u32,
}

/// Everything that is claimed about the blobs of a layout.
#[derive(Debug, Default)]
pub(super) struct AllClaims {
    /// All digests that something is said of, or with.
    pub(super) digests: Digests,
    /// By the blob's number.
    claims: Vec<Claims>,
}

impl AllClaims {
    /// What is claimed about a blob; nothing where nobody refers to it.
    pub(super) fn of(&self, digest: &Digest) -> Option<&Claims> {
        let number = usize::try_from(self.digests.find(digest)?).ok()?;
        self.claims.get(number).filter(|claims| !claims.sizes.is_empty())
    }

    /// The claims about a blob, to which another is added.
    pub(super) fn of_mut(&mut self, digest: Digest) -> &mut Claims {
        let number = usize::try_from(self.digests.number(digest)).unwrap_or(usize::MAX);
        if self.claims.len() <= number {
            self.claims.resize_with(number + 1, Claims::default);
        }
        &mut self.claims[number]
    }

    /// The blobs about which something is claimed.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Digest> {
        let claimed = self.digests.iter().zip(&self.claims).filter(|(_, claims)| !claims.sizes.is_empty());
        claimed.map(|((_, digest), _)| *digest)
    }
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
    pub(super) fn algorithms(&self, digests: &Digests) -> BTreeSet<Algorithm> {
        self.diff_ids.iter().map(|claim| digests[claim.diff_id].algorithm()).collect()
    }

    /// Who needs the blob, in words.
    pub(super) fn referrers(&self, digests: &Digests) -> String {
        some_of(self.sizes.iter().map(|(_, by)| *by).collect(), digests)
    }

    /// A finding for each size that is claimed and is not the one that the blob has.
    pub(super) fn wrong_sizes(
        &self,
        digest: Digest,
        found: u64,
        digests: &Digests,
    ) -> impl Iterator<Item = Finding> {
        let mut wrong: BTreeMap<u64, Vec<Referrer>> = BTreeMap::new();
        for (size, by) in self.sizes.iter().filter(|(size, _)| *size != found) {
            wrong.entry(*size).or_default().push(*by);
        }
        wrong.into_iter().map(move |(size, by)| Finding {
            kind: FindingKind::SizeMismatch,
            digest: Some(digest),
            path: Some(path_of(&digest)),
            detail: format!("it has {found} bytes, and its size is {size} in {}", some_of(by, digests)),
        })
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.push(item);
}

fn some_of(mut referrers: Vec<Referrer>, digests: &Digests) -> String {
    referrers.sort_by_cached_key(|referrer| referrer.order(digests));
    referrers.dedup();
    match (referrers.first(), referrers.len()) {
        (None, _) => "nothing".to_owned(),
        (Some(first), 1) => first.shown(digests),
        (Some(first), count) => format!("{}, and {} more", first.shown(digests), count - 1),
    }
}
