//! What belongs to an image, made ready to be taken like an image: its manifests with their blobs, the names under which
//! the layout has them, and simple signing's files.
//!
//! In the layout a referrer is reachable by its digest, and all referrers of a manifest together under the tag that the
//! distribution spec's fallback has for them, so that a push of that tag restores them. cosign's manifests keep their
//! tags. What belongs to an image never takes a short name from anything: where one is taken, the full name has to do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::belonging::{self, Belonging, Found, Referrers};
use super::commit::{self, Commit};
use super::document;
use super::documents::Documents;
use super::error::{FetchError, Question};
use super::lists::List;
use super::plan::{self, Scope};
use super::report::{Attachment, Fetched};
use super::request::{RefName, Request};
use super::select::{self, IndexPart, Selected, Selection, TakenIndex};
use crate::digest::Digest;
use crate::layout::index::{Conflict, FULL_NAME, NewEntry, REF_NAME};
use crate::manifest::{Descriptor, ImageManifest, Manifest, MediaType};
use crate::reference::{Repository, Tag};
use crate::registry::{Registry, SIGNATURES_CAP};
use crate::verify::{ImageError, Proven, ProvenBlob, ProvenImage};

/// How many configs are asked for at a time.
const AT_ONCE: usize = 8;

/// How many manifests a note names.
const NAMED: usize = 3;

/// Everything that belongs to what a reference stands for.
#[derive(Debug, Default)]
pub(super) struct Attached {
    belongings: Vec<Belonging>,
    /// Every manifest of an image or an artifact among them, once.
    pub(super) images: Vec<Selected>,
    /// Simple signing's signatures, by the manifest that they are about.
    signatures: Vec<(Digest, Vec<Bytes>)>,
}

/// Asks for all that belongs to the manifests `subjects`, as far as the request wants it.
///
/// # Errors
/// As [`belonging::collect`] has them; [`FetchError::Beside`], [`FetchError::Lookaside`].
pub(super) async fn collect(
    registry: &Registry,
    documents: &Documents<'_>,
    subjects: &[Digest],
    request: &Request,
) -> Result<Attached, FetchError> {
    let belongings = belonging::collect(documents, subjects, &request.referrers).await?;
    let mut wanted = Vec::new();
    let mut seen = BTreeSet::new();
    for (descriptor, manifest) in belongings.iter().flat_map(parts) {
        if let Manifest::Image(manifest) = manifest
            && seen.insert(descriptor.digest)
        {
            wanted.push(load(documents, manifest.clone(), descriptor.clone()));
        }
    }
    let images = stream::iter(wanted).buffered(AT_ONCE).try_collect().await?;
    let signatures = signatures(registry, subjects, request).await?;
    Ok(Attached { belongings, images, signatures })
}

async fn load(
    documents: &Documents<'_>,
    manifest: ImageManifest,
    descriptor: Descriptor,
) -> Result<Selected, FetchError> {
    let digest = descriptor.digest;
    select::load(documents, manifest, descriptor, None).await.map_err(|error| match error {
        FetchError::Registry(error) => FetchError::beside(Question::Manifest, digest)(error),
        error => error,
    })
}

/// Simple signing knows no types, so it is asked for where everything is wanted.
async fn signatures(
    registry: &Registry,
    subjects: &[Digest],
    request: &Request,
) -> Result<Vec<(Digest, Vec<Bytes>)>, FetchError> {
    let mut all = Vec::new();
    if request.referrers != Referrers::All {
        return Ok(all);
    }
    let lookaside = match &request.lookaside {
        Some(configured) => configured.lookaside(&request.reference).map_err(FetchError::Lookaside)?,
        None => None,
    };
    let (repository, mut room) = (request.reference.repository(), SIGNATURES_CAP);
    for subject in subjects {
        let failed = |question| FetchError::beside(question, *subject);
        let mut found = match &lookaside {
            Some(base) => registry.signatures_aside(repository, subject, base, &mut room).await,
            None => Ok(Vec::new()),
        }
        .map_err(failed(Question::Lookaside))?;
        let kept = registry.signatures_kept(repository, subject, &mut room).await;
        for signature in kept.map_err(failed(Question::Extension))? {
            if !found.contains(&signature) {
                found.push(signature);
            }
        }
        if !found.is_empty() {
            all.push((*subject, found));
        }
    }
    Ok(all)
}

fn full_name(repository: &Repository, tag: &Tag) -> String {
    format!("{repository}:{tag}")
}

impl Attached {
    /// The report with what was found: each manifest once, and the number of simple signing's signatures; and a note where
    /// that is about manifests which conversion replaced.
    pub(super) fn tell(&self, mut report: Fetched, selection: &Selection) -> Fetched {
        let mut seen = BTreeSet::new();
        let different = self.belongings.iter().filter(|one| seen.insert(one.descriptor.digest));
        let referrers = different.map(|one| Attachment::new(&one.descriptor, one.subject)).collect();
        let signatures = self.signatures.iter().map(|(_, signatures)| signatures.len()).sum();
        report.notes.extend(self.note(selection, &report.reference));
        Fetched { referrers, signatures, ..report }
    }

    fn note(&self, selection: &Selection, reference: &str) -> Option<String> {
        let replaced = selection.replaced();
        let is_replaced = |subject: &Digest| replaced.contains(subject);
        let referrers = self.belongings.iter().map(|one| (one.subject, one.descriptor.digest));
        let referrers: BTreeSet<(Digest, Digest)> =
            referrers.filter(|(subject, _)| is_replaced(subject)).collect();
        let signatures = self.signatures.iter().filter(|(subject, _)| is_replaced(subject));
        let count =
            referrers.len() + signatures.clone().map(|(_, signatures)| signatures.len()).sum::<usize>();
        let mut about: Vec<String> = Vec::new();
        for subject in
            referrers.iter().map(|(subject, _)| subject).chain(signatures.map(|(subject, _)| subject))
        {
            let subject = subject.to_string();
            if !about.contains(&subject) {
                about.push(subject);
            }
        }
        let more = match about.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        about.truncate(NAMED);
        (count > 0).then(|| {
            let counted = if count == 1 {
                "1 referrer or signature is".to_owned()
            } else {
                format!("{count} referrers and signatures are")
            };
            format!("{reference}: {counted} about {}{more}, which conversion replaced", about.join(", "))
        })
    }

    /// Adds documents, names and signatures to a commit, everything being proven.
    ///
    /// # Errors
    /// [`FetchError::Unproven`], [`FetchError::BadDocument`] and [`FetchError::Index`] when something does not hold.
    pub(super) fn add_to(
        &self,
        commit: &mut Commit,
        proofs: &BTreeMap<Digest, ProvenBlob>,
        request: &Request,
        scope: &Scope,
    ) -> Result<(), FetchError> {
        let mut proven: BTreeMap<Digest, ProvenImage> = BTreeMap::new();
        let mut proofs = proofs.clone();
        for image in &self.images {
            commit.add_image(image);
            proven.insert(image.descriptor.digest, plan::prove(image, scope, &mut proofs)?);
        }
        for one in &self.belongings {
            for (descriptor, manifest) in parts(one) {
                if let Manifest::Index(index) = manifest {
                    let digest = descriptor.digest;
                    proofs.insert(digest, document(index.raw(), digest)?);
                    commit.documents.push((digest, index.raw().clone()));
                }
            }
        }
        for one in &self.belongings {
            let entry = self.entry(one, request, scope);
            commit.to_name.named.push((entry, proof(one, &proofs, &proven)?));
        }
        commit.to_name.lists = self.lists(&proven, request);
        for (subject, signatures) in &self.signatures {
            commit.signatures.push((request.reference.repository().clone(), *subject, signatures.clone()));
        }
        Ok(())
    }

    /// A list for each manifest that has referrers.
    fn lists(&self, proven: &BTreeMap<Digest, ProvenImage>, request: &Request) -> Vec<List> {
        let referrers = self.belongings.iter().filter(|one| one.found == Found::Referrer);
        let subjects: BTreeSet<Digest> = referrers.clone().map(|one| one.subject).collect();
        let list = |subject: Digest| {
            // Its bytes, and with them digest and size, are not known yet.
            let descriptor = Descriptor::new(MediaType::OCI_INDEX, subject, 0);
            let entry = named(&descriptor, Some(&Tag::of_referrers(&subject)), request);
            let mut list =
                List { subject, entry, referrers: Vec::new(), indexes: Vec::new(), images: Vec::new() };
            for one in referrers.clone().filter(|one| one.subject == subject) {
                list.referrers.push(one.descriptor.clone());
                let (indexes, images) = proven_parts(one, proven);
                list.indexes.extend(indexes);
                list.images.extend(images);
            }
            list
        };
        subjects.into_iter().map(list).collect()
    }

    fn entry(&self, one: &Belonging, request: &Request, scope: &Scope) -> NewEntry {
        let tag = match &one.found {
            Found::Tag(tag) => Some(tag),
            Found::Referrer => None,
        };
        let mut entry = named(&one.descriptor, tag, request);
        entry.descriptor.artifact_type.clone_from(&one.descriptor.artifact_type);
        let below: BTreeSet<Digest> = one.children.iter().map(|(descriptor, _)| descriptor.digest).collect();
        let is_part = |digest: &Digest| *digest == one.descriptor.digest || below.contains(digest);
        let images = self.images.iter().filter(|image| is_part(&image.descriptor.digest));
        commit::annotate_scope(&mut entry.descriptor, images, scope);
        entry
    }
}

/// The manifests of a belonging: what an index lists first, itself last.
fn parts(one: &Belonging) -> impl Iterator<Item = (&Descriptor, &Manifest)> {
    let below = one.children.iter().rev().map(|(descriptor, manifest)| (descriptor, manifest));
    below.chain(std::iter::once((&one.descriptor, &one.manifest)))
}

fn proof(
    one: &Belonging,
    proofs: &BTreeMap<Digest, ProvenBlob>,
    proven: &BTreeMap<Digest, ProvenImage>,
) -> Result<Proven, FetchError> {
    let (mut nested, images) = proven_parts(one, proven);
    if let Some(root) = nested.pop() {
        let taken = TakenIndex { root, nested, is_whole: true };
        return Ok(Proven::Index(plan::assemble_index(&taken, proofs, images)?));
    }
    let unproven = ImageError::Unproven { digest: one.descriptor.digest };
    images.into_iter().next().map(Proven::Image).ok_or(FetchError::Unproven(unproven))
}

/// The indexes of a belonging, itself last where it is one, and its images.
fn proven_parts(
    one: &Belonging,
    proven: &BTreeMap<Digest, ProvenImage>,
) -> (Vec<IndexPart>, Vec<ProvenImage>) {
    let (mut indexes, mut images) = (Vec::new(), Vec::new());
    for (descriptor, manifest) in parts(one) {
        match manifest {
            Manifest::Index(index) => {
                let (descriptor, index) = (descriptor.clone(), index.clone());
                indexes.push(IndexPart { descriptor, index, source: None });
            }
            _ => images.extend(proven.get(&descriptor.digest).cloned()),
        }
    }
    (indexes, images)
}

/// An entry for a document that belongs to an image, by tag or by digest.
fn named(descriptor: &Descriptor, tag: Option<&Tag>, request: &Request) -> NewEntry {
    let repository = request.reference.repository();
    let mut entry = commit::plain(descriptor);
    let name = match tag {
        Some(tag) => full_name(repository, tag),
        None => format!("{repository}@{}", descriptor.digest),
    };
    let short = match (&request.ref_name, tag) {
        (RefName::Tag | RefName::Text(_), tag) => tag.map(|tag| tag.as_str().to_owned()),
        (RefName::Full, Some(_)) => Some(name.clone()),
        (RefName::Full | RefName::None, _) => None,
    };
    entry.annotations.insert(FULL_NAME.to_owned(), name);
    entry.annotations.extend(short.map(|short| (REF_NAME.to_owned(), short)));
    NewEntry::new(entry, Conflict::Yield)
}
