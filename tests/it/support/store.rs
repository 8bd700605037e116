//! What a registry holds: blobs and manifests by repository and digest, tags, and the signed URLs that it gave out.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::belonging::Belongings;
use super::content::{sha256, sha512};
use super::image::{Blob, Built};

/// The content of one registry, or of a registry and the storage behind it.
#[derive(Debug, Default)]
pub(crate) struct Store {
    blobs: HashMap<(String, String), Bytes>,
    manifests: HashMap<(String, String), Manifest>,
    /// By repository, then tag: the digest in the algorithm of the one who pushed.
    tags: BTreeMap<String, BTreeMap<String, String>>,
    signatures: Signatures,
    pub(crate) belongings: Belongings,
    /// Whether clients keep lists of referrers under tags, because the registry keeps none.
    pub(crate) lists_by_tag: bool,
}

/// A manifest as it is served.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) document: Bytes,
}

impl Store {
    /// Stores the manifest with everything below it, and names it when there is a tag.
    pub(crate) fn push(&mut self, repository: &str, tag: Option<&str>, built: &Built) {
        for Blob { digest, bytes, .. } in built.config.iter().chain(&built.layers) {
            self.blobs.insert((repository.into(), digest.clone()), bytes.clone());
        }
        for child in &built.children {
            self.push(repository, None, child);
        }
        // Whoever asks by the digest of another algorithm gets the same bytes.
        for digest in [sha256(&built.digested), sha512(&built.digested)] {
            let manifest = Manifest {
                media_type: built.media_type.clone(),
                digest: digest.clone(),
                document: built.document.clone(),
            };
            self.manifests.insert((repository.into(), digest), manifest);
        }
        let tags = self.tags.entry(repository.into()).or_default();
        if let Some(tag) = tag {
            tags.insert(tag.into(), built.digest.clone());
        }
        let subject = self.belongings.note(repository, built);
        if let Some(subject) = subject.filter(|_| self.lists_by_tag) {
            let (tag, list) = self.belongings.tagged_list(repository, &subject);
            self.push(repository, Some(&tag), &list);
        }
    }

    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        self.blobs.get(&(repository.into(), digest.into())).cloned()
    }

    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Option<Manifest> {
        let digest = self.tags.get(repository).and_then(|tags| tags.get(reference));
        let digest = digest.map_or(reference, String::as_str);
        self.manifests.get(&(repository.into(), digest.into())).cloned()
    }

    /// The tags in lexical order, `None` for a repository that does not exist.
    pub(crate) fn tags(&self, repository: &str) -> Option<Vec<String>> {
        Some(self.tags.get(repository)?.keys().cloned().collect())
    }

    pub(crate) fn signatures(&mut self) -> &mut Signatures {
        &mut self.signatures
    }
}

/// The signed URLs of a storage: each has a number, and is good until it expired or was used up.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    /// How many requests each is good for; `None` is any number.
    pub(crate) uses: Option<u64>,
    issued: u64,
    expired: u64,
    used: HashMap<u64, u64>,
}

impl Signatures {
    pub(crate) fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    pub(crate) fn expire_all(&mut self) {
        self.expired = self.issued;
    }

    pub(crate) fn redeem(&mut self, signature: &str) -> bool {
        let Ok(number) = signature.parse::<u64>() else { return false };
        let used = self.used.entry(number).or_default();
        *used += 1;
        number > self.expired && number <= self.issued && self.uses.is_none_or(|uses| *used <= uses)
    }
}
