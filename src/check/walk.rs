//! From `index.json` down through every document, collecting what is claimed about each blob.
//!
//! A document is followed only when its bytes have the digest that led to it; what a bad one would have led to is not
//! guessed. Each document is proven once, however many descriptors lead to it, but read in the light of each media type
//! that they claim. What one entry of `index.json` taught about an index is kept for the next, which may excuse other
//! absences. Depth and width have the limits of [`nesting`](crate::manifest::nesting).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Read;
use std::rc::Rc;

use indexmap::IndexSet;

use super::Context;
use super::blob::{self, Opened, path_of};
use super::claims::{AllClaims, DiffIdClaim, Referrer};
use super::digests::Number;
use super::error::CheckError;
use super::report::{Finding, FindingKind};
use super::verdict::{Verdict, Verdicts};
use crate::digest::Digest;
use crate::layout::index::{Entry, FOREIGN_LAYERS, IndexDocument, PLATFORMS, SKIPPED};
use crate::layout::{Absence, LayoutError, Operation, Surveys};
use crate::manifest::nesting::{Entered, Nesting};
use crate::manifest::{
    CONFIG_CAP, Descriptor, DocumentKind, ImageConfig, ImageIndex, ImageManifest, MANIFEST_CAP, Manifest,
};
use crate::text::printable;

/// What a walk found out.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) claims: AllClaims,
    /// What is known of the documents that were read.
    pub(super) verdicts: Verdicts,
    pub(super) findings: Vec<Finding>,
    pub(super) images: HashSet<Number>,
    /// The manifests, and the indexes, that are not there by choice as far as one entry of `index.json` goes.
    pub(super) left_out_manifests: BTreeSet<Digest>,
    /// The layers of which the same holds.
    pub(super) left_out_layers: BTreeSet<Digest>,
    /// Whether a document could not be followed, so that blobs may seem unreferenced that are not.
    pub(super) is_partial: bool,
}

impl Walked {
    /// What is known of a blob.
    pub(super) fn verdict(&self, digest: &Digest) -> Option<&Verdict> {
        self.verdicts.get(self.claims.digests.find(digest)?)
    }

    /// From now on this is known of a blob.
    pub(super) fn judge(&mut self, digest: Digest, verdict: Verdict) {
        let number = self.claims.digests.number(digest);
        self.verdicts.set(number, verdict);
    }
}

/// Walks from every entry of `index`.
pub(super) fn walk(context: &Context<'_>, index: &IndexDocument) -> Result<Walked, CheckError> {
    let mut walk = Walk {
        context,
        walked: Walked::default(),
        surveys: Surveys::new(context.layout),
        visited: HashMap::new(),
        diff_ids: HashMap::new(),
        claimed: HashSet::new(),
        types: IndexSet::new(),
        depth: 0,
        nesting: Nesting::default(),
        top: 0,
        choices: Choices::default(),
    };
    for (at, entry) in index.entries().iter().enumerate() {
        walk.top(at, entry)?;
    }
    Ok(walk.walked)
}

struct Walk<'a> {
    context: &'a Context<'a>,
    walked: Walked,
    surveys: Surveys<'a>,
    /// The documents that were met.
    visited: HashMap<Met, Visited>,
    /// What configs claim, which many manifests may share.
    diff_ids: HashMap<Number, Option<Rc<[Digest]>>>,
    /// The entries of indexes that were counted: an index may be gone through again and again.
    claimed: HashSet<(Number, u32)>,
    /// The media types that were met: nearly always two or three.
    types: IndexSet<String>,
    /// How many indexes there are from the entry of `index.json` down to where the walk is.
    depth: usize,
    /// The indexes below the entry of `index.json` so far.
    nesting: Nesting,
    /// Which entry of `index.json` the walk is below.
    top: usize,
    choices: Choices,
}

/// The numbers of a digest and of a media type, and whether layers that live elsewhere were excused.
type Met = (Number, usize, bool);

/// What is known of a document that was met.
#[derive(Clone)]
enum Visited {
    /// It leads no further.
    Done,
    /// An index that was followed.
    Index(Rc<Listed>),
    /// An index of so many entries that was not: it lay beyond a limit.
    Beyond(usize),
}

/// What is kept of an index for the next entry of `index.json` that leads to it.
struct Listed {
    entries: usize,
    /// Its children that are not there, and the indexes that are, with their places.
    children: Vec<(usize, Descriptor)>,
}

/// What an entry of `index.json` says was not taken along.
#[derive(Default)]
struct Choices {
    /// The entry, where it names platforms.
    sparse: Option<Descriptor>,
    /// The manifests that this excuses, once its index was read.
    left_out: BTreeSet<Digest>,
    /// Layers that live at other URLs.
    skips_foreign_layers: bool,
}

impl Choices {
    fn of(entry: &Descriptor) -> Self {
        let annotations = &entry.annotations;
        Self {
            sparse: annotations.contains_key(PLATFORMS).then(|| entry.clone()),
            left_out: BTreeSet::new(),
            skips_foreign_layers: annotations.get(FOREIGN_LAYERS).is_some_and(|text| text == SKIPPED),
        }
    }
}

impl Walk<'_> {
    fn top(&mut self, at: usize, entry: &Entry) -> Result<(), CheckError> {
        let descriptor = match entry.descriptor() {
            Ok(descriptor) => descriptor,
            Err(error) => {
                self.walked.is_partial = true;
                self.walked.findings.push(Finding {
                    kind: FindingKind::BadDocument,
                    digest: None,
                    path: Some("index.json".to_owned()),
                    detail: format!("entry {at} is no descriptor: {}", chain(&error)),
                });
                return Ok(());
            }
        };
        (self.top, self.depth, self.choices) = (at, 0, Choices::of(&descriptor));
        self.nesting = Nesting::default();
        self.visit(&descriptor, Referrer::Top { entry: count(at) })?;
        if !is_manifest(&descriptor) {
            self.is_no_manifest(&descriptor, at)?;
        }
        Ok(())
    }

    /// Holds an entry of `index.json` whose type is no manifest's against what it names: nothing else would tell that its
    /// type has changed, and all that is below would go unseen.
    fn is_no_manifest(&mut self, entry: &Descriptor, at: usize) -> Result<(), CheckError> {
        let size = self.context.layout.size_of(&entry.digest)?;
        if size.is_none_or(|size| size > MANIFEST_CAP as u64) {
            return Ok(());
        }
        let Some(raw) = self.document(&entry.digest, MANIFEST_CAP as u64, "manifest")? else { return Ok(()) };
        let Ok(manifest) = Manifest::parse(raw.into(), None) else { return Ok(()) };
        let (own, said) = (manifest.media_type().as_str(), printable(entry.media_type.as_str()));
        self.walked.is_partial = true;
        self.walked.findings.push(Finding {
            kind: FindingKind::BadDocument,
            digest: None,
            path: Some("index.json".to_owned()),
            detail: format!("entry {at} says that {} is \"{said}\", and it is \"{own}\"", entry.digest),
        });
        Ok(())
    }

    fn visit(&mut self, descriptor: &Descriptor, by: Referrer) -> Result<(), CheckError> {
        self.context.proceed()?;
        self.claim(descriptor, by);
        let (digest, media_type) = (descriptor.digest, descriptor.media_type.as_str());
        if !is_manifest(descriptor) {
            return Ok(());
        }
        let number = self.walked.claims.digests.number(digest);
        let of_type = match self.types.get_index_of(media_type) {
            Some(of_type) => of_type,
            None => self.types.insert_full(media_type.to_owned()).0,
        };
        let met = (number, of_type, self.choices.skips_foreign_layers);
        let is_entered = match self.visited.get(&met).cloned() {
            Some(Visited::Index(listed)) if self.enter(digest, listed.entries) => {
                self.leave_out(digest, None);
                let children = listed.children.iter().map(|(entry, child)| (*entry, child));
                return self.below(digest, children);
            }
            Some(Visited::Beyond(entries)) if self.enter(digest, entries) => true,
            Some(_) => return Ok(()),
            None => false,
        };
        self.visited.insert(met, Visited::Done);
        let Some(raw) = self.document(&digest, MANIFEST_CAP as u64, "manifest")? else { return Ok(()) };
        match Manifest::parse(raw.into(), (!media_type.is_empty()).then_some(media_type)) {
            Ok(Manifest::Image(manifest)) => self.image(digest, &manifest),
            Ok(Manifest::Index(index)) if is_entered || self.enter(digest, index.manifests().len()) => {
                let listed = self.listed(&index);
                self.visited.insert(met, Visited::Index(Rc::new(listed)));
                self.subject(index.subject(), digest);
                self.leave_out(digest, Some(&index));
                self.below(digest, index.manifests().iter().enumerate())
            }
            Ok(Manifest::Index(index)) => {
                self.visited.insert(met, Visited::Beyond(index.manifests().len()));
                Ok(())
            }
            Ok(_) => {
                self.bad_document(
                    digest,
                    "it is a schema 1 manifest, which has no place in a layout".to_owned(),
                );
                Ok(())
            }
            Err(error) => {
                self.bad_document(
                    digest,
                    format!("{}; {} leads to it", chain(&error), by.shown(&self.walked.claims.digests)),
                );
                Ok(())
            }
        }
    }

    /// Whether an index is to be followed here. That a limit forbids it is a finding.
    fn enter(&mut self, digest: Digest, entries: usize) -> bool {
        match self.nesting.enter(digest, self.depth + 1, entries) {
            Ok(Entered::First | Entered::Deeper) => true,
            Ok(Entered::Known) => false,
            Err(limit) => {
                self.bad_document(digest, limit.to_string());
                false
            }
        }
    }

    fn listed(&mut self, index: &ImageIndex) -> Listed {
        let mut is_kept =
            |child: &Descriptor| child.media_type.is_index() || self.surveys.is_absent(&child.digest);
        let plain = |child: &Descriptor| Descriptor::new(child.media_type.clone(), child.digest, child.size);
        let children = index.manifests().iter().enumerate().filter(|(_, child)| is_kept(child));
        let children = children.map(|(entry, child)| (entry, plain(child))).collect();
        Listed { entries: index.manifests().len(), children }
    }

    fn below<'c>(
        &mut self,
        digest: Digest,
        children: impl Iterator<Item = (usize, &'c Descriptor)>,
    ) -> Result<(), CheckError> {
        let index = self.walked.claims.digests.number(digest);
        self.depth += 1;
        for (entry, child) in children {
            if !self.is_left_out(child) {
                self.visit(child, Referrer::Index { index, entry: count(entry) })?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Holds the index that an entry of `index.json` names against what the entry says was taken of it.
    fn leave_out(&mut self, digest: Digest, index: Option<&ImageIndex>) {
        let (0, Some(entry)) = (self.depth, &self.choices.sparse) else { return };
        let proceed = || self.context.proceed().is_ok();
        let again = || match self.context.layout.manifest(entry) {
            Ok(Manifest::Index(index)) => Some(index),
            _ => None,
        };
        let absent = match (index, self.surveys.absent_again(entry, &proceed)) {
            (_, Some(absent)) => absent,
            (Some(index), None) => self.surveys.absent(entry, index, &proceed),
            (None, None) => match again() {
                Some(index) => self.surveys.absent(entry, &index, &proceed),
                None => return,
            },
        };
        let left_out = absent.manifests.iter().filter(|manifest| manifest.absence == Absence::LeftOut);
        self.choices.left_out = left_out.map(|manifest| manifest.descriptor.digest).collect();
        for platform in absent.unexplained {
            self.walked.findings.push(Finding {
                kind: FindingKind::BadDocument,
                digest: None,
                path: Some("index.json".to_owned()),
                detail: format!(
                    "entry {} says that {} was taken of index {digest}, which has no manifest for it",
                    self.top,
                    platform.specifier()
                ),
            });
        }
    }

    /// Whether an entry of an index is not there because nobody wanted it. A type that is no manifest's, or one that has
    /// no place in a layout, is passed over by every fetch.
    fn is_left_out(&mut self, child: &Descriptor) -> bool {
        if !self.surveys.is_absent(&child.digest) {
            return false;
        }
        let is_taken_along = child.media_type.is_index() || child.media_type.is_image_manifest();
        let is_left_out = self.choices.left_out.contains(&child.digest);
        if is_left_out {
            self.walked.left_out_manifests.insert(child.digest);
        }
        is_left_out || !is_taken_along
    }

    /// What a manifest is about may be anywhere, but where it is here its size is the one that is said.
    fn subject(&mut self, subject: Option<&Descriptor>, manifest: Digest) {
        if let Some(subject) = subject
            && !self.context.layout.is_absent(&subject.digest)
        {
            let manifest = self.walked.claims.digests.number(manifest);
            self.claim(subject, Referrer::Subject { manifest });
        }
    }

    fn image(&mut self, digest: Digest, manifest: &ImageManifest) -> Result<(), CheckError> {
        let number = self.walked.claims.digests.number(digest);
        let is_new = self.walked.images.insert(number);
        if !is_new && !self.is_stricter(manifest) {
            return Ok(());
        }
        let config = manifest.config();
        self.subject(manifest.subject(), digest);
        self.claim(config, Referrer::Config { manifest: number });
        for (layer, descriptor) in manifest.layers().iter().enumerate() {
            if self.is_left_at_its_urls(descriptor) {
                self.walked.left_out_layers.insert(descriptor.digest);
            } else {
                self.claim(descriptor, Referrer::Layer { manifest: number, layer: count(layer) });
            }
        }
        if !manifest.is_image() {
            return Ok(());
        }
        if let Some(diff_ids) = self.claimed_diff_ids(config.digest, digest)? {
            self.claim_diff_ids(digest, manifest, &diff_ids);
        }
        Ok(())
    }

    /// The diff IDs that a config claims; none where it cannot be used.
    fn claimed_diff_ids(
        &mut self,
        config: Digest,
        manifest: Digest,
    ) -> Result<Option<Rc<[Digest]>>, CheckError> {
        let number = self.walked.claims.digests.number(config);
        if let Some(known) = self.diff_ids.get(&number) {
            return Ok(known.clone());
        }
        let diff_ids = match self.document(&config, CONFIG_CAP as u64, "image config")? {
            None => None,
            Some(raw) => match ImageConfig::parse(&raw) {
                Ok(parsed) => Some(parsed.diff_ids.into()),
                Err(error) => {
                    self.bad_document(config, format!("{} (config of manifest {manifest})", chain(&error)));
                    None
                }
            },
        };
        self.diff_ids.insert(number, diff_ids.clone());
        Ok(diff_ids)
    }

    /// Whether this entry of `index.json` asks for layers that an earlier one, which led to the same manifest, excused.
    fn is_stricter(&self, manifest: &ImageManifest) -> bool {
        let excused = |layer: &Descriptor| self.walked.left_out_layers.contains(&layer.digest);
        !self.choices.skips_foreign_layers && manifest.layers().iter().any(excused)
    }

    /// Whether a layer that lives elsewhere was left there.
    fn is_left_at_its_urls(&self, layer: &Descriptor) -> bool {
        self.choices.skips_foreign_layers
            && !layer.urls.is_empty()
            && self.context.layout.is_absent(&layer.digest)
    }

    fn claim_diff_ids(&mut self, manifest_digest: Digest, manifest: &ImageManifest, diff_ids: &[Digest]) {
        let layers = manifest.layers();
        let config = manifest.config().digest;
        if layers.len() != diff_ids.len() {
            let detail = format!(
                "the image config has {} diff IDs, and manifest {manifest_digest} has {} layers",
                diff_ids.len(),
                layers.len()
            );
            self.bad_document(config, detail);
        }
        let digests = &mut self.walked.claims.digests;
        let (number, of) = (digests.number(config), digests.number(manifest_digest));
        for (layer, (descriptor, diff_id)) in layers.iter().zip(diff_ids).enumerate() {
            // The uncompressed bytes of an encrypted layer cannot be known, nor those of one that is not here.
            if !descriptor.media_type.is_encrypted() && !self.is_left_at_its_urls(descriptor) {
                let claim = DiffIdClaim {
                    diff_id: self.walked.claims.digests.number(*diff_id),
                    config: number,
                    manifest: of,
                    layer: count(layer),
                };
                self.walked.claims.of_mut(descriptor.digest).add_diff_id(claim);
            }
        }
    }

    fn claim(&mut self, descriptor: &Descriptor, by: Referrer) {
        if let Referrer::Index { index, entry } = by
            && !self.claimed.insert((index, entry))
        {
            return;
        }
        self.walked.claims.of_mut(descriptor.digest).add_size(descriptor.size, by);
    }

    /// A document's bytes, if they hold. What is wrong with them otherwise is noted.
    fn document(&mut self, digest: &Digest, cap: u64, what: &str) -> Result<Option<Vec<u8>>, CheckError> {
        let is_known = match self.walked.verdict(digest) {
            None => false,
            Some(Verdict::Proven { .. }) => true,
            Some(_) => return Ok(None),
        };
        let (bytes, verdict) = match blob::open(self.context.layout, digest)? {
            Opened::Unusable(reason) => (None, Verdict::Missing { reason }),
            Opened::File(_, size) if size > cap => {
                self.bad_document(*digest, format!("it has {size} bytes, and a {what} may have {cap}"));
                return Ok(None);
            }
            Opened::File(file, size) => {
                let mut bytes = Vec::new();
                match file.take(cap + 1).read_to_end(&mut bytes) {
                    Ok(_) => self.hashed(digest, bytes, is_known),
                    Err(error) if blob::says_nothing(&error) => {
                        let path = self.context.layout.blob_path(digest);
                        return Err(
                            LayoutError::Io { operation: Operation::Read, path, source: error }.into()
                        );
                    }
                    Err(error) => (None, Verdict::unreadable(&error, size)),
                }
            }
        };
        self.walked.is_partial |= bytes.is_none();
        self.walked.judge(*digest, verdict);
        Ok(bytes)
    }

    fn hashed(&self, digest: &Digest, bytes: Vec<u8>, is_known: bool) -> (Option<Vec<u8>>, Verdict) {
        let size = bytes.len() as u64;
        if !is_known {
            self.context.started(*digest, size);
        }
        match crate::verify::verify_bytes(&bytes, *digest) {
            Ok(_) => {
                if !is_known {
                    self.context.verified(*digest, size, None);
                }
                (Some(bytes), Verdict::Proven { size, diff_ids: Vec::new() })
            }
            Err(error) => {
                let verdict = Verdict::wrong(&error, size);
                self.context.refuted(*digest, &verdict);
                (None, verdict)
            }
        }
    }

    fn bad_document(&mut self, digest: Digest, detail: String) {
        self.walked.is_partial = true;
        self.walked.findings.push(Finding {
            kind: FindingKind::BadDocument,
            digest: Some(digest),
            path: Some(path_of(&digest)),
            detail,
        });
    }
}

/// The place of an entry or a layer.
fn count(at: usize) -> u32 {
    u32::try_from(at).expect("invariant: documents have their limits")
}

/// Whether a descriptor leads to a manifest or an index. One without a media type may, and its document says so. Schema 1
/// is read to say that it has no place here.
fn is_manifest(descriptor: &Descriptor) -> bool {
    let media_type = &descriptor.media_type;
    media_type.kind() != DocumentKind::Other || media_type.is_empty()
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
