//! From what a reference stands for to the images that are wanted: indexes are searched for the platforms.
//!
//! The order of preference is the matcher's. An entry that declares no platform comes last and is taken only when its
//! config's platform matches. Nested indexes are followed within limits that no honest image comes near. With one
//! platform wanted the image is taken out of its index; with several, or all, the index is taken with them.

mod everything;
mod search;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::documents::{Documents, Origin};
use super::error::FetchError;
use super::request::{Request, Schema1};
use super::schema1;
use crate::digest::Digest;
use crate::manifest::nesting::DEEPEST;
use crate::manifest::{
    Descriptor, DocumentKind, ImageConfig, ImageIndex, ImageManifest, Manifest, MediaType, Schema1Image,
};
use crate::platform::{Matcher, Platform};

/// The most bytes that the manifests and configs of one reference may have together: they are in memory at a time.
pub const MOST_BYTES: u64 = 64 << 20;

/// Which platform is wanted, where it is one.
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

/// Which platforms are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// One: its manifest is named.
    One(Wanted),
    /// Several, normalised and different: their index is named. Each must be there.
    Several(Vec<Platform>),
    /// All that an index lists.
    All,
}

impl Default for Platforms {
    fn default() -> Self {
        Self::One(Wanted::Host)
    }
}

impl Platforms {
    /// The platforms of a list: this host's where it is empty. One that comes twice counts once.
    pub fn of(list: &[Platform]) -> Self {
        let mut different: Vec<Platform> = Vec::new();
        for platform in list.iter().map(Platform::normalize) {
            if !different.contains(&platform) {
                different.push(platform);
            }
        }
        match (different.len(), different.pop()) {
            (_, None) => Self::default(),
            (1, Some(only)) => Self::One(Wanted::Explicit(only)),
            (_, Some(popped)) => {
                different.push(popped);
                Self::Several(different)
            }
        }
    }
}

/// What a reference and the wanted platforms stand for.
#[derive(Debug)]
pub struct Selection {
    /// What the reference stands for.
    pub resolved: Descriptor,
    /// What the layout is to name.
    pub named: Named,
    /// The images to take, each once.
    pub images: Vec<Selected>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What the layout is to name.
#[derive(Debug)]
pub enum Named {
    /// The only image.
    Image {
        /// The index that it was taken out of, when it was.
        index: Option<Digest>,
    },
    /// An index.
    Index(Box<TakenIndex>),
}

/// An index that is taken, with those nested in it on the way to the images.
#[derive(Debug)]
pub struct TakenIndex {
    /// The index itself.
    pub root: IndexPart,
    /// The nested ones, each after those that it lists.
    pub nested: Vec<IndexPart>,
    /// Whether everything is taken that it lists and that is a manifest.
    pub is_whole: bool,
}

/// One index document.
#[derive(Debug, Clone)]
pub struct IndexPart {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// What it lists.
    pub index: ImageIndex,
    /// What it was converted from.
    pub source: Option<Digest>,
}

/// One image that is to be taken.
#[derive(Debug)]
pub struct Selected {
    /// The image's manifest; for an artifact, whatever it is.
    pub manifest: ImageManifest,
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The config, for an image.
    pub config: Option<SelectedConfig>,
    /// The platform, for an image: the index entry's where there is one, else the config's.
    pub platform: Option<Platform>,
    /// Further platforms for which the index lists the very same manifest.
    pub also: Vec<Platform>,
    /// What the manifest was converted from.
    pub source: Option<Digest>,
    /// For Docker's schema 1, the type of `source`, which tells signed manifests from others.
    pub source_type: Option<MediaType>,
    /// For Docker's schema 1, what the manifest and the config are made of once the diff IDs are known: until then
    /// `manifest` is a draft and there is no config.
    pub legacy: Option<Schema1Image>,
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

impl Selection {
    /// The digests under which the registry has what is taken: what signatures and referrers are about.
    pub fn subjects(&self) -> Vec<Digest> {
        let indexes = match &self.named {
            Named::Image { index } => index.iter().copied().collect(),
            Named::Index(taken) => std::iter::once(&taken.root)
                .chain(&taken.nested)
                .map(|part| part.source.unwrap_or(part.descriptor.digest))
                .collect::<Vec<_>>(),
        };
        let images = self.images.iter().map(|image| image.source.unwrap_or(image.descriptor.digest));
        let mut seen = BTreeSet::new();
        indexes.into_iter().chain(images).filter(|digest| seen.insert(*digest)).collect()
    }

    /// Those of the subjects that the layout does not have: what stands there was converted from them.
    pub fn replaced(&self) -> BTreeSet<Digest> {
        let indexes: Vec<&IndexPart> = match &self.named {
            Named::Image { .. } => Vec::new(),
            Named::Index(taken) => taken.nested.iter().chain([&taken.root]).collect(),
        };
        let indexes = indexes.into_iter().filter_map(|part| part.source);
        indexes.chain(self.images.iter().filter_map(|image| image.source)).collect()
    }
}

/// Finds the images for the wanted platforms.
///
/// # Errors
/// [`FetchError::NoPlatform`] with the platforms that there are; [`FetchError::IndexLimit`] and
/// [`FetchError::IndexCycle`]; [`FetchError::Schema1`]; whatever reading the documents brings.
pub async fn select(
    documents: &Documents<'_>,
    resolved: &Descriptor,
    manifest: Manifest,
    request: &Request,
) -> Result<Selection, FetchError> {
    let root = resolved.clone();
    match (manifest, &request.platforms) {
        (Manifest::Schema1(_), _) if request.schema1 == Schema1::Refuse => Err(FetchError::Schema1),
        (Manifest::Schema1(manifest), wanted) => {
            let draft = schema1::draft(documents, resolved, &manifest).await?;
            single(root, draft, wanted)
        }
        (Manifest::Image(manifest), wanted) => {
            let image = load(documents, manifest, root.clone(), None).await?;
            single(root, image, wanted)
        }
        (Manifest::Index(index), Platforms::One(wanted)) => {
            let mut search = search::Search::new(documents, &wanted.platform(), resolved.digest, request);
            let (image, _) = search.find(index).await?;
            let named = Named::Image { index: Some(resolved.digest) };
            Ok(Selection { resolved: root, named, images: vec![image], warnings: Vec::new() })
        }
        (Manifest::Index(index), Platforms::Several(wanted)) => {
            let (mut images, mut nested): (Vec<Selected>, Vec<IndexPart>) = Default::default();
            for platform in wanted {
                let mut search = search::Search::new(documents, platform, resolved.digest, request);
                let (image, path) = search.find(index.clone()).await?;
                if image.legacy.is_some() {
                    return Err(FetchError::Schema1InIndex { digest: resolved.digest });
                }
                nested.extend(path);
                images.push(image);
            }
            let part = IndexPart { descriptor: root, index, source: None };
            sparse(part, nested, images, Vec::new())
        }
        (Manifest::Index(index), Platforms::All) => {
            let part = IndexPart { descriptor: root, index, source: None };
            everything::everything(documents, part).await
        }
    }
}

/// An index with those of its images that were found, each once and in the order of the index.
fn sparse(
    root: IndexPart,
    mut nested: Vec<IndexPart>,
    found: Vec<Selected>,
    warnings: Vec<String>,
) -> Result<Selection, FetchError> {
    let mut taken = BTreeSet::from([root.descriptor.digest]);
    nested.retain(|part| taken.insert(part.descriptor.digest));
    let mut images: BTreeMap<Digest, Selected> = BTreeMap::new();
    for image in found {
        taken.insert(image.descriptor.digest);
        match images.entry(image.descriptor.digest) {
            Entry::Occupied(mut held) => held.get_mut().also.extend(image.platform),
            Entry::Vacant(place) => drop(place.insert(image)),
        }
    }
    let mut images: Vec<Selected> = images.into_values().collect();
    let nested = children_first(nested)?;
    // The order is the index's, so that it does not matter in which order the platforms were asked for.
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    for entry in nested.iter().chain([&root]).rev().flat_map(|part| part.index.manifests()) {
        let place = places.len();
        places.entry(entry.digest).or_insert(place);
    }
    images.sort_by_key(|image| places.get(&image.descriptor.digest).copied());
    let is_taken =
        |entry: &Descriptor| taken.contains(&entry.digest) || entry.media_type.kind() == DocumentKind::Other;
    let is_whole =
        std::iter::once(&root).chain(&nested).all(|part| part.index.manifests().iter().all(is_taken));
    let resolved = root.descriptor.clone();
    let named = Named::Index(Box::new(TakenIndex { root, nested, is_whole }));
    Ok(Selection { resolved, named, images, warnings })
}

/// The same indexes, each after those that it lists.
fn children_first(mut parts: Vec<IndexPart>) -> Result<Vec<IndexPart>, FetchError> {
    let mut ordered = Vec::with_capacity(parts.len());
    for depth in 1.. {
        if parts.is_empty() {
            break;
        }
        // The outermost index counts too. However they were reached, this many steps lead down to the last.
        if depth >= DEEPEST {
            return Err(FetchError::IndexLimit { entries: parts.len(), depth: depth + 1 });
        }
        let left: BTreeSet<Digest> = parts.iter().map(|part| part.descriptor.digest).collect();
        let is_leaf =
            |part: &IndexPart| part.index.manifests().iter().all(|entry| !left.contains(&entry.digest));
        let (leaves, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_leaf);
        ordered.extend(leaves);
        parts = others;
    }
    Ok(ordered)
}

/// A reference that is itself an image manifest is taken; what its platform has to do with it is said.
fn single(resolved: Descriptor, image: Selected, wanted: &Platforms) -> Result<Selection, FetchError> {
    let mut warnings = Vec::new();
    if let Some(platform) = image.platform.as_ref() {
        let missing = |wanted: Platform| FetchError::NoPlatform {
            wanted: wanted.into(),
            available: vec![platform.specifier()],
        };
        match wanted {
            Platforms::All => {}
            Platforms::Several(several) => {
                if let Some(wanted) = several.iter().find(|wanted| !Matcher::new(wanted).matches(platform)) {
                    return Err(missing(wanted.clone()));
                }
            }
            Platforms::One(wanted) => {
                let looked_for = wanted.platform();
                if !Matcher::new(&looked_for).matches(platform) {
                    if let Wanted::Explicit(_) = wanted {
                        return Err(missing(looked_for));
                    }
                    warnings.push(format!("the image is for {platform}, this host is {looked_for}"));
                }
            }
        }
    }
    let named = Named::Image { index: None };
    Ok(Selection { resolved, named, images: vec![image], warnings })
}

/// An image with its config. The platform is the one given, else the config's.
pub(super) async fn load(
    documents: &Documents<'_>,
    manifest: ImageManifest,
    descriptor: Descriptor,
    declared: Option<Platform>,
) -> Result<Selected, FetchError> {
    let config = load_config(documents, &manifest).await?;
    let of_config = config.as_ref().map(|config| config.config.platform.normalize());
    let platform = declared.or(of_config).filter(|platform| !platform.is_empty());
    let descriptor = Descriptor { media_type: manifest.media_type().clone(), ..descriptor };
    Ok(Selected {
        manifest,
        descriptor,
        config,
        platform,
        also: Vec::new(),
        source: None,
        source_type: None,
        legacy: None,
    })
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
