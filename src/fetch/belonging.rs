//! What belongs to an image and is not part of it: its referrers (distribution spec, "Listing Referrers"), theirs, and
//! what cosign keeps under tags made of a digest.
//!
//! A registry's list of referrers is a hint. Every manifest that it leads to is fetched, verified by digest, and belongs to
//! the image only when it says so itself, in its `subject`; the type that is asked for is held against the manifest's own.
//! What is listed and gone, or of a kind that nobody can read, is said and left out. Everything is bounded in number, depth
//! and bytes. Blobs are for the caller.

mod told;

use std::collections::{HashMap, HashSet};

use futures_util::future::{try_join, try_join_all};
use http::StatusCode;

use super::documents::Documents;
use super::error::{FetchError, Limit, Question};
use crate::digest::Digest;
use crate::manifest::{Descriptor, ImageIndex, Manifest, nesting};
use crate::progress::Event;
use crate::reference::Tag;
use crate::registry::RegistryError;

use told::{Reason, Told};

/// How far away from the image something may belong to it: a signature of a list of materials of the image is two.
pub const DEEPEST: usize = 8;

/// How many manifests may belong to one image.
pub const MOST: usize = 1_000;

/// How many bytes these manifests may have together.
pub const MOST_BYTES: usize = 64 << 20;

/// How many manifests of lists are looked at, wanted or not.
pub const MOST_LOOKS: usize = 10_000;

/// How many questions wait for an answer at a time. The registry's client keeps to the host's connections anyway.
const AT_ONCE: usize = 8;

/// What of all that belongs to an image is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Referrers {
    /// Nothing.
    #[default]
    None,
    /// Everything.
    All,
    /// What has one of these types, compared byte for byte: the artifact type, or the config's media type where there is
    /// no artifact type; for what stands under one of cosign's tags, which mostly have neither, that of a layer too.
    Types(Vec<String>),
}

impl Referrers {
    fn wants(&self, artifact_type: Option<&str>) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Types(types) => {
                artifact_type.is_some_and(|found| types.iter().any(|wanted| wanted == found))
            }
        }
    }

    fn wants_tagged(&self, manifest: &Manifest) -> bool {
        let Manifest::Image(image) = manifest else { return self.wants(manifest.artifact_type()) };
        let media_types =
            image.layers().iter().map(|layer| &layer.media_type).chain([&image.config().media_type]);
        self.wants(image.artifact_type())
            || media_types.into_iter().any(|found| self.wants(Some(found.as_str())))
    }
}

/// How something was found to belong to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It names the image as its subject.
    Referrer,
    /// It stands under this tag of the image's repository.
    Tag(Tag),
}

/// One manifest that belongs to an image, verified.
#[derive(Debug, Clone)]
pub struct Belonging {
    /// Its descriptor as a list of referrers has it: with the artifact type and the annotations of the manifest itself.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest that it belongs to: the image's own, or one that belongs to that.
    pub subject: Digest,
    /// How it was found.
    pub found: Found,
    /// Where it is an index: every manifest below it that can be read, with the descriptor that lists it.
    pub children: Vec<(Descriptor, Manifest)>,
}

/// Finds what belongs to the manifests `subjects`, nearest first: referrers and what is under cosign's tags, of each of
/// them in turn. The same manifest comes once for each way in which it was found, and is fetched once.
///
/// # Errors
/// [`FetchError::ReferrersLimit`] when there is more than a [`Limit`] allows; [`FetchError::IndexLimit`];
/// [`FetchError::Beside`] for a question that the registry does not answer, and whatever reading the documents brings,
/// but for a referrer that is not there.
pub async fn collect(
    documents: &Documents<'_>,
    subjects: &[Digest],
    wanted: &Referrers,
) -> Result<Vec<Belonging>, FetchError> {
    if *wanted == Referrers::None {
        return Ok(Vec::new());
    }
    let mut collection = Collection::new(documents, subjects, wanted);
    let mut asked = HashSet::new();
    let mut level: Vec<Digest> = subjects.iter().copied().filter(|digest| asked.insert(*digest)).collect();
    while !level.is_empty() {
        let before = collection.found.len();
        collection.depth += 1;
        let (reference, manifests) = (documents.reference.to_string(), level.len());
        documents.reporter.report(Event::Asking { reference, manifests });
        collection.level(&level).await?;
        let found = &collection.found[before..];
        level =
            found.iter().map(|one| one.descriptor.digest).filter(|digest| asked.insert(*digest)).collect();
    }
    collection.told.finish(documents.reporter);
    Ok(collection.found)
}

/// What was found up to now.
///
/// Requests wait for one of the host's connections, and an answer that nobody reads keeps its own: so no request is ever
/// made while others are left waiting half-way. A few are made together, all are read, and then come the next.
struct Collection<'a> {
    documents: &'a Documents<'a>,
    wanted: &'a Referrers,
    /// What the search began with.
    roots: HashSet<Digest>,
    found: Vec<Belonging>,
    /// cosign's signatures and attestations, which nobody signs in turn.
    signatures: HashSet<Digest>,
    manifests: HashMap<Digest, Manifest>,
    bytes: usize,
    /// How many manifests of lists were looked at.
    looks: usize,
    depth: usize,
    told: Told,
}

/// What the registry says of one manifest.
struct Answer {
    subject: Digest,
    listed: Vec<Descriptor>,
    tagged: Vec<(Tag, Tagged)>,
}

/// What stands under a tag that exists.
enum Tagged {
    Manifest(Digest, Box<Manifest>),
    /// Something else, and what is wrong with it.
    Other(String),
}

/// A manifest that a list leads to.
enum Read {
    Manifest(Manifest),
    /// It cannot be had.
    LeftOut(Reason, String),
}

impl<'a> Collection<'a> {
    fn new(documents: &'a Documents<'a>, subjects: &[Digest], wanted: &'a Referrers) -> Self {
        Self {
            documents,
            wanted,
            roots: subjects.iter().copied().collect(),
            found: Vec::new(),
            signatures: HashSet::new(),
            manifests: HashMap::new(),
            bytes: 0,
            looks: 0,
            depth: 0,
            told: Told::default(),
        }
    }

    fn tell(&mut self, reason: Reason, message: String) {
        self.told.tell(self.documents.reporter, reason, message);
    }

    /// Asks for what belongs to each of `subjects`, and takes what is wanted.
    async fn level(&mut self, subjects: &[Digest]) -> Result<(), FetchError> {
        let documents = self.documents;
        let Some(first) = subjects.first() else { return Ok(()) };
        let registry = documents.registry(first)?;
        // What the first answer teaches about the registry spares questions about the others.
        let is_known = registry.knows_referrers_api(documents.reference.repository());
        let (first, others) = subjects.split_at(usize::from(!is_known));
        for some in std::iter::once(first).chain(others.chunks(AT_ONCE)) {
            let questions = some.iter().map(|subject| {
                let kinds: &[&str] = if self.signatures.contains(subject) { &[] } else { &Tag::COSIGN_KINDS };
                ask(documents, *subject, kinds)
            });
            for answer in try_join_all(questions).await? {
                self.take_listed(answer.subject, answer.listed).await?;
                for (tag, tagged) in answer.tagged {
                    self.take_tagged(answer.subject, tag, tagged).await?;
                }
            }
        }
        Ok(())
    }

    async fn take_tagged(&mut self, subject: Digest, tag: Tag, tagged: Tagged) -> Result<(), FetchError> {
        let left_out = |reason: &str| format!("what the tag {tag} names is left out: {reason}");
        match tagged {
            Tagged::Other(reason) => self.tell(Reason::Unreadable, left_out(&reason)),
            // Some registries answer every tag with the image.
            Tagged::Manifest(digest, _) if digest == subject || self.roots.contains(&digest) => {}
            Tagged::Manifest(_, manifest) if matches!(*manifest, Manifest::Schema1(_)) => {
                self.tell(Reason::Unreadable, left_out("it is an image in Docker's old schema 1 format"));
            }
            Tagged::Manifest(digest, manifest) if self.wanted.wants_tagged(&manifest) => {
                self.take(subject, digest, *manifest, Found::Tag(tag)).await?;
            }
            Tagged::Manifest(..) => {}
        }
        Ok(())
    }

    async fn take_listed(&mut self, subject: Digest, listed: Vec<Descriptor>) -> Result<(), FetchError> {
        let documents = self.documents;
        let candidates: Vec<Descriptor> =
            listed.into_iter().filter(|entry| self.may_be_read(entry)).collect();
        let unknown = candidates.iter().filter(|entry| !self.manifests.contains_key(&entry.digest)).count();
        self.looks += unknown;
        if *self.wanted == Referrers::All {
            self.check(unknown, 0)?;
        }
        if self.looks > MOST_LOOKS {
            return Err(FetchError::ReferrersLimit { limit: Limit::Looks });
        }
        for some in candidates.chunks(AT_ONCE) {
            let reads = some.iter().map(|entry| {
                let known = self.manifests.get(&entry.digest).cloned();
                async move {
                    match known {
                        Some(manifest) => Ok(Read::Manifest(manifest)),
                        None => listed_manifest(documents, entry).await,
                    }
                }
            });
            let reads = try_join_all(reads).await?;
            for (entry, read) in some.iter().zip(reads) {
                self.take_read(subject, entry, read).await?;
            }
        }
        Ok(())
    }

    async fn take_read(&mut self, subject: Digest, entry: &Descriptor, read: Read) -> Result<(), FetchError> {
        let digest = entry.digest;
        let manifest = match read {
            Read::Manifest(manifest) => manifest,
            Read::LeftOut(reason, why) => {
                self.tell(reason, format!("the referrer {digest} is left out: {why}"));
                return Ok(());
            }
        };
        if manifest.subject().map(|named| named.digest) != Some(subject) {
            let message =
                format!("{digest} is listed as a referrer of {subject} and is none; it is left out");
            self.tell(Reason::Stranger, message);
        } else if self.wanted.wants(manifest.artifact_type()) {
            if let Some(message) = contradiction(entry, &manifest) {
                self.tell(Reason::Contradicted, message);
            }
            self.take(subject, digest, manifest, Found::Referrer).await?;
        }
        Ok(())
    }

    /// Whether an entry of a list is worth a look: what is no manifest that could name a subject is none that could be
    /// read. The artifact type that a list gives is not believed: GitHub's registry gives that of an empty config.
    fn may_be_read(&mut self, entry: &Descriptor) -> bool {
        let media_type = &entry.media_type;
        let may_be_read = media_type.is_empty() || media_type.is_image_manifest() || media_type.is_index();
        let may_be_wanted =
            entry.artifact_type.is_none() || self.wanted.wants(entry.artifact_type.as_deref());
        if !may_be_read && may_be_wanted {
            let digest = entry.digest;
            let message = format!("the referrer {digest} is left out: nobody reads \"{media_type}\"");
            self.tell(Reason::Unreadable, message);
        }
        may_be_read
    }

    async fn take(
        &mut self,
        subject: Digest,
        digest: Digest,
        manifest: Manifest,
        found: Found,
    ) -> Result<(), FetchError> {
        self.keep(digest, &manifest)?;
        let children = match &manifest {
            Manifest::Index(index) => match self.children(index).await? {
                Ok(children) => children,
                Err((child, reason)) => {
                    let listed = format!("the manifest {child} that it lists");
                    let message = format!("the index {digest} is left out because of {listed}: {reason}");
                    self.tell(Reason::Incomplete, message);
                    return Ok(());
                }
            },
            _ => Vec::new(),
        };
        if let Found::Tag(tag) = &found
            && [".sig", ".att"].iter().any(|kind| tag.as_str().ends_with(kind))
        {
            self.signatures.insert(digest);
        }
        let descriptor = manifest.as_referrer(digest);
        self.found.push(Belonging { descriptor, manifest, subject, found, children });
        Ok(())
    }

    /// Every manifest below an index, each level after the one that lists it; or the first that cannot be had, and why.
    /// What is in there and no manifest is passed over, as it is for images.
    async fn children(
        &mut self,
        index: &ImageIndex,
    ) -> Result<Result<Children, (Digest, String)>, FetchError> {
        let documents = self.documents;
        let (mut children, mut seen, mut depth) = (Vec::new(), HashSet::new(), 1);
        let mut level = index.manifests().to_vec();
        loop {
            let is_manifest =
                |entry: &Descriptor| entry.media_type.is_image_manifest() || entry.media_type.is_index();
            level.retain(|entry| is_manifest(entry) && seen.insert(entry.digest));
            if level.is_empty() {
                return Ok(Ok(children));
            }
            if depth > nesting::DEEPEST {
                return Err(FetchError::IndexLimit { entries: seen.len(), depth });
            }
            let unknown = level.iter().filter(|entry| !self.manifests.contains_key(&entry.digest));
            self.check(unknown.count(), 0)?;
            let mut below = Vec::new();
            for some in level.chunks(AT_ONCE) {
                let reads = some.iter().map(|entry| {
                    let known = self.manifests.get(&entry.digest).cloned();
                    async move {
                        match known {
                            Some(manifest) => Ok(Read::Manifest(manifest)),
                            None => read(documents.listed(entry).await, entry.digest),
                        }
                    }
                });
                for (entry, read) in some.iter().zip(try_join_all(reads).await?) {
                    let manifest = match read {
                        Read::Manifest(manifest) => manifest,
                        Read::LeftOut(_, why) => return Ok(Err((entry.digest, why))),
                    };
                    self.keep(entry.digest, &manifest)?;
                    if let Manifest::Index(index) = &manifest {
                        below.extend_from_slice(index.manifests());
                    }
                    children.push((entry.clone(), manifest));
                }
            }
            (level, depth) = (below, depth + 1);
        }
    }

    /// Counts a manifest, once.
    fn keep(&mut self, digest: Digest, manifest: &Manifest) -> Result<(), FetchError> {
        if self.manifests.contains_key(&digest) {
            return Ok(());
        }
        let size = manifest.raw().len();
        self.check(1, size)?;
        self.bytes += size;
        self.manifests.insert(digest, manifest.clone());
        Ok(())
    }

    /// Whether there is room for `more` manifests with so many bytes.
    fn check(&self, more: usize, bytes: usize) -> Result<(), FetchError> {
        let limits = [
            (self.manifests.len() + more > MOST, Limit::Manifests),
            (self.bytes + bytes > MOST_BYTES, Limit::Bytes),
            (more > 0 && self.depth > DEEPEST, Limit::Depth),
        ];
        match limits.into_iter().find(|(is_hit, _)| *is_hit) {
            Some((_, limit)) => Err(FetchError::ReferrersLimit { limit }),
            None => Ok(()),
        }
    }
}

/// What an index lists, with the descriptors that list it.
type Children = Vec<(Descriptor, Manifest)>;

/// Asks all questions about one manifest at once: for its referrers, and for the tags of these kinds.
async fn ask(documents: &Documents<'_>, subject: Digest, kinds: &[&str]) -> Result<Answer, FetchError> {
    let (registry, repository) = (documents.registry(&subject)?, documents.reference.repository());
    let listed = async {
        let listed = registry.referrers(repository, &subject).await;
        listed.map_err(FetchError::beside(Question::Referrers, subject))
    };
    let tags = kinds.iter().filter_map(|kind| Tag::of_cosign(&subject, kind));
    let tagged = try_join_all(tags.map(async |tag| {
        let tagged = match registry.tagged(repository, &tag).await {
            Ok(None) => return Ok(None),
            Ok(Some((descriptor, manifest))) => Tagged::Manifest(descriptor.digest, Box::new(manifest)),
            Err(error) if error.is_no_manifest() => Tagged::Other(what_is_wrong(&error)),
            Err(error) => return Err(FetchError::beside(Question::Tag(tag), subject)(error)),
        };
        Ok(Some((tag, tagged)))
    }));
    let (listed, tagged) = try_join(listed, tagged).await?;
    Ok(Answer { subject, listed, tagged: tagged.into_iter().flatten().collect() })
}

/// The manifest that a list of referrers leads to, where it is there and can be read. Lists that clients keep name what
/// was deleted since.
async fn listed_manifest(documents: &Documents<'_>, entry: &Descriptor) -> Result<Read, FetchError> {
    read(documents.by_digest(&entry.digest).await, entry.digest)
}

/// What came of reading a manifest that something lists.
fn read(manifest: Result<Manifest, FetchError>, digest: Digest) -> Result<Read, FetchError> {
    match manifest {
        Ok(manifest) => Ok(Read::Manifest(manifest)),
        Err(FetchError::Registry(error)) if error.status() == Some(StatusCode::NOT_FOUND) => {
            Ok(Read::LeftOut(Reason::Gone, "the registry does not have it".to_owned()))
        }
        Err(FetchError::Registry(error)) if error.is_no_manifest() => {
            Ok(Read::LeftOut(Reason::Unreadable, what_is_wrong(&error)))
        }
        Err(FetchError::Registry(error)) => Err(FetchError::beside(Question::Manifest, digest)(error)),
        Err(error) => Err(error),
    }
}

/// Why what came is no manifest, without the request.
fn what_is_wrong(error: &RegistryError) -> String {
    match error.refusal() {
        RegistryError::Manifest { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}

/// What a list says of a manifest that its bytes, which the digest proves, do not.
fn contradiction(entry: &Descriptor, manifest: &Manifest) -> Option<String> {
    let (digest, size) = (entry.digest, manifest.raw().len() as u64);
    if entry.size != size {
        let listed = entry.size;
        return Some(format!("the referrer {digest} is listed with {listed} bytes, and has {size}"));
    }
    let (listed, media_type) = (&entry.media_type, manifest.media_type());
    let differs = !listed.is_empty() && listed != media_type;
    differs.then(|| format!("the referrer {digest} is listed as \"{listed}\", and is \"{media_type}\""))
}

#[cfg(test)]
mod tests;
