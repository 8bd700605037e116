//! The search for one platform, through an index and those nested in it.

use std::collections::BTreeSet;

use super::super::documents::Documents;
use super::super::error::FetchError;
use super::super::request::{Request, Schema1};
use super::super::schema1;
use super::{IndexPart, Selected, load};
use crate::digest::Digest;
use crate::manifest::nesting::{DEEPEST, MOST_ENTRIES};
use crate::manifest::{Descriptor, ImageIndex, ImageManifest, Manifest, MediaType, Schema1Manifest};
use crate::platform::{Candidate, Matcher, Platform, Rank};

/// A search through an index and those nested in it.
pub(super) struct Search<'a> {
    documents: &'a Documents<'a>,
    matcher: Matcher,
    /// The indexes from the reference down to where the search is.
    path: Vec<Digest>,
    entries: usize,
    /// The platforms that there are.
    seen: BTreeSet<String>,
    request: &'a Request,
    /// Whether an entry was passed over because only the layout is looked into, which does not have it.
    passed_over: Option<Digest>,
    /// Undeclared entries that turned out to hold no match: an index may list one many times.
    tried: BTreeSet<Digest>,
}

/// An image, and the nested indexes that led to it, the outermost first.
type Found = (Selected, Vec<IndexPart>);

impl<'a> Search<'a> {
    pub(super) fn new(
        documents: &'a Documents<'a>,
        wanted: &Platform,
        root: Digest,
        request: &'a Request,
    ) -> Self {
        Self {
            documents,
            matcher: Matcher::new(wanted),
            path: vec![root],
            entries: 0,
            seen: BTreeSet::new(),
            request,
            passed_over: None,
            tried: BTreeSet::new(),
        }
    }

    /// The best image for the platform.
    pub(super) async fn find(&mut self, index: ImageIndex) -> Result<Found, FetchError> {
        let found = self.index(&index).await?;
        // What was passed over could be better than anything but the platform itself.
        let rank = found.as_ref().and_then(|(image, _)| self.matcher.rank(image.platform.as_ref()?));
        if let Some(digest) = self.passed_over.filter(|_| !rank.is_some_and(Rank::is_exact)) {
            return Err(FetchError::Absent { digest });
        }
        found.ok_or_else(|| FetchError::NoPlatform {
            wanted: self.matcher.wanted().clone().into(),
            available: std::mem::take(&mut self.seen).into_iter().collect(),
        })
    }

    async fn index(&mut self, index: &ImageIndex) -> Result<Option<Found>, FetchError> {
        self.entries = self.entries.saturating_add(index.manifests().len());
        if self.entries > MOST_ENTRIES || self.path.len() > DEEPEST {
            return Err(FetchError::IndexLimit { entries: self.entries, depth: self.path.len() });
        }
        // What a nested index says of itself is worth what is in it, and what is no image cannot be had by its platform.
        let is_image = |entry: &&Descriptor| is_image(&entry.media_type);
        let images = index.manifests().iter().filter(is_image);
        for platform in images.filter_map(|entry| entry.platform.as_ref()) {
            self.see(platform);
        }
        let platforms = index.manifests().iter().map(|entry| entry.platform.as_ref());
        let mut best: Option<(Rank, Found)> = None;
        for candidate in self.matcher.order(platforms) {
            let (at, declared) = match candidate {
                Candidate::Matching(at) => (at, true),
                Candidate::Undeclared(at) => (at, false),
            };
            let entry = &index.manifests()[at];
            if !declared && self.tried.contains(&entry.digest) {
                continue;
            }
            let found = self.entry(entry, declared).await?;
            let rank = found.as_ref().and_then(|(image, _)| self.matcher.rank(image.platform.as_ref()?));
            match (found, rank) {
                (None, _) => self.tried.extend((!declared).then_some(entry.digest)),
                // Declared ones come in the order of preference.
                (found @ Some(_), _) if declared => return Ok(found),
                (found @ Some(_), Some(rank)) if rank.is_exact() => return Ok(found),
                (Some(found), Some(rank)) if best.as_ref().is_none_or(|(held, _)| rank < *held) => {
                    best = Some((rank, found));
                }
                (Some(_), _) => {}
            }
        }
        Ok(best.map(|(_, found)| found))
    }

    /// Notes a platform for the error that says what there is.
    fn see(&mut self, platform: &Platform) {
        let platform = platform.normalize();
        if !platform.os.is_empty() && !platform.architecture.is_empty() && !platform.is_unknown() {
            self.seen.insert(platform.specifier());
        }
    }

    async fn entry(&mut self, entry: &Descriptor, declared: bool) -> Result<Option<Found>, FetchError> {
        if self.path.contains(&entry.digest) {
            return Err(FetchError::IndexCycle { digest: entry.digest });
        }
        if !entry.media_type.is_index() && !is_image(&entry.media_type) {
            return Ok(None);
        }
        let manifest = match self.documents.listed(entry).await {
            Err(FetchError::Absent { digest }) if !declared => {
                self.passed_over = Some(digest);
                return Ok(None);
            }
            manifest => manifest?,
        };
        match manifest {
            Manifest::Image(manifest) => self.image(entry, manifest, declared).await,
            Manifest::Index(index) => {
                self.path.push(entry.digest);
                let found = Box::pin(self.index(&index)).await?;
                self.path.pop();
                let descriptor = Descriptor { media_type: index.media_type().clone(), ..entry.clone() };
                Ok(found.map(|(image, mut path)| {
                    path.insert(0, IndexPart { descriptor, index, source: None });
                    (image, path)
                }))
            }
            Manifest::Schema1(manifest) => self.legacy(entry, &manifest, declared).await,
        }
    }

    async fn image(
        &mut self,
        entry: &Descriptor,
        manifest: ImageManifest,
        declared: bool,
    ) -> Result<Option<Found>, FetchError> {
        // An undeclared artifact has no platform that could match.
        if !declared && !manifest.is_image() {
            return Ok(None);
        }
        let platform = entry.platform.clone().filter(|_| declared);
        let image = load(self.documents, manifest, entry.clone(), platform).await?;
        if declared {
            return Ok(Some((image, Vec::new())));
        }
        match &image.platform {
            Some(platform) if self.matcher.matches(platform) => Ok(Some((image, Vec::new()))),
            platform => {
                if let Some(platform) = platform {
                    self.see(platform);
                }
                Ok(None)
            }
        }
    }

    /// An image in schema 1 is taken like any other, where that is wanted.
    async fn legacy(
        &mut self,
        entry: &Descriptor,
        manifest: &Schema1Manifest,
        declared: bool,
    ) -> Result<Option<Found>, FetchError> {
        if !declared {
            // For what it is only its history says, and an index that leaves it to that has lost its way.
            return Ok(None);
        }
        if self.request.schema1 == Schema1::Refuse {
            return Err(FetchError::Schema1);
        }
        let mut draft = schema1::draft(self.documents, entry, manifest).await?;
        draft.platform = entry.platform.clone().or(draft.platform);
        Ok(Some((draft, Vec::new())))
    }
}

/// Whether an entry of this type may be an image.
fn is_image(media_type: &MediaType) -> bool {
    media_type.is_image_manifest() || media_type.is_schema1()
}
