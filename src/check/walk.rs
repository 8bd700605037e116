//! From `index.json` down through every document, collecting what is claimed about each blob.
//!
//! A document is followed only when its bytes have the digest that led to it; what a bad one would have led to is not
//! guessed. Each document is proven once, however many descriptors lead to it, but read in the light of each media type
//! that they claim. Depth and width have limits, and a cycle (which takes a broken digest algorithm) ends at its first
//! repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read};

use super::Context;
use super::blob::{self, Opened, path_of};
use super::claims::{Claims, DiffIdClaim, Referrer};
use super::error::CheckError;
use super::report::{Finding, FindingKind};
use super::verdict::Verdict;
use crate::digest::Digest;
use crate::layout::index::{Entry, IndexDocument};
use crate::layout::{DEEPEST, LayoutError, MOST_ENTRIES, Operation};
use crate::manifest::{
    CONFIG_CAP, Descriptor, ImageConfig, ImageIndex, ImageManifest, MANIFEST_CAP, Manifest,
};
use crate::platform::Platform;

/// The platforms that were taken of an index that is not whole, separated by commas.
const PLATFORMS: &str = "io.ocipull.platforms";

/// What a walk found out.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) claims: BTreeMap<Digest, Claims>,
    /// What is known of the documents that were read.
    pub(super) verdicts: BTreeMap<Digest, Verdict>,
    pub(super) findings: Vec<Finding>,
    pub(super) images: BTreeSet<Digest>,
    /// Whether a document could not be followed, so that blobs may seem unreferenced that are not.
    pub(super) is_partial: bool,
}

/// Walks from every entry of `index`.
pub(super) fn walk(context: &Context<'_>, index: &IndexDocument) -> Result<Walked, CheckError> {
    let mut walk = Walk {
        context,
        walked: Walked::default(),
        visited: BTreeSet::new(),
        path: Vec::new(),
        entries: 0,
        taken: None,
        top: 0,
    };
    for (at, entry) in index.entries().iter().enumerate() {
        walk.top(at, entry)?;
    }
    Ok(walk.walked)
}

struct Walk<'a> {
    context: &'a Context<'a>,
    walked: Walked,
    /// Digest and media type, and for the parts of a sparse image the entry that says what of it was taken.
    visited: BTreeSet<(Digest, String, Option<usize>)>,
    /// The indexes from the entry of `index.json` down to where the walk is.
    path: Vec<Digest>,
    /// How many entries the indexes below the entry of `index.json` had so far.
    entries: usize,
    /// What was taken of the image, where not all was.
    taken: Option<BTreeSet<Platform>>,
    top: usize,
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
                    detail: format!("entry {at} is no descriptor: {}", chain(error)),
                });
                return Ok(());
            }
        };
        (self.top, self.entries) = (at, 0);
        self.taken = descriptor.annotations.get(PLATFORMS).and_then(|text| platforms(text));
        self.visit(descriptor, Referrer::Top { entry: at })
    }

    fn visit(&mut self, descriptor: &Descriptor, by: Referrer) -> Result<(), CheckError> {
        self.context.proceed()?;
        self.claim(descriptor, by);
        let (digest, media_type) = (descriptor.digest, descriptor.media_type.as_str());
        let sparse = self.taken.is_some().then_some(self.top);
        if !self.visited.insert((digest, media_type.to_owned(), sparse)) || !is_manifest(descriptor) {
            return Ok(());
        }
        let Some(raw) = self.document(&digest, MANIFEST_CAP as u64, "manifest")? else { return Ok(()) };
        match Manifest::parse(raw.into(), (!media_type.is_empty()).then_some(media_type)) {
            Ok(Manifest::Image(manifest)) => self.image(digest, &manifest),
            Ok(Manifest::Index(index)) => self.index(digest, &index),
            Ok(_) => {
                self.bad_document(
                    digest,
                    "it is a schema 1 manifest, which has no place in a layout".to_owned(),
                );
                Ok(())
            }
            Err(error) => {
                self.bad_document(digest, format!("{}; {by} leads to it", chain(&error)));
                Ok(())
            }
        }
    }

    fn index(&mut self, digest: Digest, index: &ImageIndex) -> Result<(), CheckError> {
        self.entries = self.entries.saturating_add(index.manifests().len());
        let refusal = if self.path.contains(&digest) {
            Some("the index contains itself".to_owned())
        } else if self.path.len() >= DEEPEST {
            Some(format!("indexes are nested more than {DEEPEST} deep"))
        } else if self.entries > MOST_ENTRIES {
            Some(format!("the image's indexes have more than {MOST_ENTRIES} entries"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.bad_document(digest, refusal);
            return Ok(());
        }
        self.path.push(digest);
        for (entry, child) in index.manifests().iter().enumerate() {
            if !self.is_left_out(child) {
                self.visit(child, Referrer::Index { index: digest, entry })?;
            }
        }
        self.path.pop();
        Ok(())
    }

    /// Whether a manifest is not there because its platform was not asked for.
    fn is_left_out(&self, child: &Descriptor) -> bool {
        let Some(taken) = &self.taken else { return false };
        let is_taken = child.platform.as_ref().is_some_and(|platform| taken.contains(&platform.normalize()));
        let path = self.context.layout.blob_path(&child.digest);
        !is_taken && fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    fn image(&mut self, digest: Digest, manifest: &ImageManifest) -> Result<(), CheckError> {
        if !self.walked.images.insert(digest) {
            return Ok(());
        }
        let config = manifest.config();
        self.claim(config, Referrer::Config { manifest: digest });
        for (layer, descriptor) in manifest.layers().iter().enumerate() {
            self.claim(descriptor, Referrer::Layer { manifest: digest, layer });
        }
        if !manifest.is_image() {
            return Ok(());
        }
        let Some(raw) = self.document(&config.digest, CONFIG_CAP as u64, "image config")? else {
            return Ok(());
        };
        match ImageConfig::parse(&raw) {
            Ok(parsed) => self.claim_diff_ids(digest, manifest, &parsed),
            Err(error) => {
                self.bad_document(config.digest, format!("{} (config of manifest {digest})", chain(&error)));
            }
        }
        Ok(())
    }

    fn claim_diff_ids(&mut self, manifest_digest: Digest, manifest: &ImageManifest, config: &ImageConfig) {
        let (layers, diff_ids) = (manifest.layers(), &config.diff_ids);
        let config = manifest.config().digest;
        if layers.len() != diff_ids.len() {
            let detail = format!(
                "the image config has {} diff IDs, and manifest {manifest_digest} has {} layers",
                diff_ids.len(),
                layers.len()
            );
            self.bad_document(config, detail);
        }
        for (layer, (descriptor, diff_id)) in layers.iter().zip(diff_ids).enumerate() {
            // The uncompressed bytes of an encrypted layer cannot be known.
            if !descriptor.media_type.is_encrypted() {
                let claim = DiffIdClaim { diff_id: *diff_id, config, manifest: manifest_digest, layer };
                self.walked.claims.entry(descriptor.digest).or_default().add_diff_id(claim);
            }
        }
    }

    fn claim(&mut self, descriptor: &Descriptor, by: Referrer) {
        self.walked.claims.entry(descriptor.digest).or_default().add_size(descriptor.size, by);
    }

    /// A document's bytes, if they hold. What is wrong with them otherwise is noted.
    fn document(&mut self, digest: &Digest, cap: u64, what: &str) -> Result<Option<Vec<u8>>, CheckError> {
        let is_known = match self.walked.verdicts.get(digest) {
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
        self.walked.verdicts.insert(*digest, verdict);
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
                (Some(bytes), Verdict::Proven { size, diff_ids: BTreeMap::new() })
            }
            Err(error) => (None, Verdict::wrong(&error, size)),
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

/// Whether a descriptor leads to a manifest or an index. One without a media type may, and its document says so.
fn is_manifest(descriptor: &Descriptor) -> bool {
    let media_type = &descriptor.media_type;
    media_type.is_index() || media_type.is_image_manifest() || media_type.as_str().is_empty()
}

/// The platforms of the annotation; none when it cannot be understood, so that it excuses nothing.
fn platforms(text: &str) -> Option<BTreeSet<Platform>> {
    let platform = |text: &str| text.trim().parse::<Platform>().ok().map(|platform| platform.normalize());
    text.split(',').map(platform).collect()
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
