//! From what a reference stands for to the one image that is wanted: indexes are searched for the platform.
//!
//! The order of preference is the matcher's. An entry that declares no platform comes last and is taken only when its
//! config's platform matches. Nested indexes are followed within limits that no honest image comes near.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::documents::{Documents, Origin};
use super::error::FetchError;
use crate::digest::Digest;
use crate::manifest::{Descriptor, ImageConfig, ImageIndex, ImageManifest, Manifest};
use crate::platform::{Candidate, Matcher, Platform, Rank};

/// How deep indexes may be nested, the first one counted.
pub const DEEPEST: usize = 8;

/// How many entries all indexes behind one reference may have together.
pub const MOST_ENTRIES: usize = 10_000;

/// Which platform is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This host's, or the nearest: an image for another platform is taken with a warning when there is no choice.
    Host,
    /// This one or one that it can run; anything else is not found.
    Explicit(Platform),
}

impl Wanted {
    /// The platform that is looked for.
    pub fn platform(&self) -> Platform {
        match self {
            Self::Host => Platform::default_for_fetch(),
            Self::Explicit(platform) => platform.normalize(),
        }
    }
}

/// The image that a reference and a platform stand for.
#[derive(Debug)]
pub struct Selected {
    /// What the reference stands for.
    pub resolved: Descriptor,
    /// The index that the manifest was taken out of, when it was: `resolved`, parsed.
    pub index: Option<ImageIndex>,
    /// The image's manifest; for an artifact, whatever it is.
    pub manifest: ImageManifest,
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The config, for an image.
    pub config: Option<SelectedConfig>,
    /// The platform, for an image: the index entry's where there is one, else the config's.
    pub platform: Option<Platform>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// An image config and its bytes.
#[derive(Debug)]
pub struct SelectedConfig {
    /// As received.
    pub raw: Bytes,
    /// What is checked of it.
    pub config: ImageConfig,
    /// Where it came from.
    pub origin: Origin,
}

/// Finds the image for the wanted platform.
///
/// # Errors
/// [`FetchError::NoPlatform`] with the platforms that there are; [`FetchError::IndexLimit`] and
/// [`FetchError::IndexCycle`]; [`FetchError::Schema1`]; whatever reading the documents brings.
pub async fn select(
    documents: &Documents<'_>,
    resolved: &Descriptor,
    manifest: Manifest,
    wanted: &Wanted,
) -> Result<Selected, FetchError> {
    match manifest {
        Manifest::Schema1(_) => Err(FetchError::Schema1),
        Manifest::Image(image) => select_single(documents, resolved, image, wanted).await,
        Manifest::Index(index) => {
            let mut search = Search {
                documents,
                matcher: Matcher::new(&wanted.platform()),
                path: vec![resolved.digest],
                entries: 0,
                seen: BTreeSet::new(),
                tried: BTreeSet::new(),
            };
            let found = search.index(index.clone()).await?;
            let Some((manifest, descriptor, platform, config)) = found else {
                return Err(FetchError::NoPlatform {
                    wanted: wanted.platform(),
                    available: search.seen.into_iter().collect(),
                });
            };
            let warnings = Vec::new();
            let resolved = resolved.clone();
            Ok(Selected { resolved, index: Some(index), manifest, descriptor, config, platform, warnings })
        }
    }
}

/// A reference that is itself an image manifest is taken; what its platform has to do with it is said.
async fn select_single(
    documents: &Documents<'_>,
    resolved: &Descriptor,
    manifest: ImageManifest,
    wanted: &Wanted,
) -> Result<Selected, FetchError> {
    let config = load_config(documents, &manifest).await?;
    let platform = config.as_ref().map(|config| config.config.platform.normalize());
    let mut warnings = Vec::new();
    if let Some(platform) = platform.as_ref().filter(|platform| !platform.is_empty()) {
        let looked_for = wanted.platform();
        if !Matcher::new(&looked_for).matches(platform) {
            if let Wanted::Explicit(_) = wanted {
                return Err(FetchError::NoPlatform {
                    wanted: looked_for,
                    available: vec![platform.specifier()],
                });
            }
            warnings.push(format!("the image is for {platform}, this host is {looked_for}"));
        }
    }
    let descriptor = resolved.clone();
    let platform = platform.filter(|platform| !platform.is_empty());
    Ok(Selected { resolved: resolved.clone(), index: None, manifest, descriptor, config, platform, warnings })
}

async fn load_config(
    documents: &Documents<'_>,
    manifest: &ImageManifest,
) -> Result<Option<SelectedConfig>, FetchError> {
    if !manifest.is_image() {
        return Ok(None);
    }
    let (raw, origin) = documents.config(manifest.config()).await?;
    let parsed = ImageConfig::parse(&raw);
    let config =
        parsed.map_err(|source| FetchError::BadConfig { digest: manifest.config().digest, source })?;
    Ok(Some(SelectedConfig { raw, config, origin }))
}

type Found = (ImageManifest, Descriptor, Option<Platform>, Option<SelectedConfig>);

/// A search through an index and those nested in it.
struct Search<'a> {
    documents: &'a Documents<'a>,
    matcher: Matcher,
    /// The indexes from the reference down to where the search is.
    path: Vec<Digest>,
    entries: usize,
    /// The platforms that there are.
    seen: BTreeSet<String>,
    /// Undeclared entries that turned out to hold no match: an index may list one many times.
    tried: BTreeSet<Digest>,
}

impl Search<'_> {
    async fn index(&mut self, index: ImageIndex) -> Result<Option<Found>, FetchError> {
        self.entries = self.entries.saturating_add(index.manifests().len());
        if self.entries > MOST_ENTRIES || self.path.len() > DEEPEST {
            return Err(FetchError::IndexLimit { entries: self.entries, depth: self.path.len() });
        }
        for platform in index.manifests().iter().filter_map(|entry| entry.platform.as_ref()) {
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
            let rank = found.as_ref().and_then(|found| self.matcher.rank(found.2.as_ref()?));
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
        if !entry.media_type.is_index() && !entry.media_type.is_image_manifest() {
            return Ok(None);
        }
        match self.documents.listed(entry).await? {
            Manifest::Image(manifest) => self.image(entry, manifest, declared).await,
            Manifest::Index(index) => {
                self.path.push(entry.digest);
                let found = Box::pin(self.index(index)).await?;
                self.path.pop();
                Ok(found)
            }
            Manifest::Schema1(_) => Ok(None),
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
        let config = load_config(self.documents, &manifest).await?;
        let of_config = config.as_ref().map(|config| config.config.platform.normalize());
        let platform = match &entry.platform {
            Some(platform) if declared => Some(platform.clone()),
            _ => of_config,
        };
        if !declared && !platform.as_ref().is_some_and(|platform| self.matcher.matches(platform)) {
            if let Some(platform) = platform {
                self.see(&platform);
            }
            return Ok(None);
        }
        Ok(Some((manifest, entry.clone(), platform, config)))
    }
}
