//! What the entries of an `index.json` lead to: which blobs, how large, for which platforms, and what they share.
//!
//! Each document is read once, however many entries and indexes name it, and what is kept of it is the numbers of the
//! blobs that it refers to: a layout that names one large image a thousand times costs as much memory as one that names it
//! once. Sizes are those of the files. What cannot be read leads nowhere, and neither does what lies beyond the limits of
//! [`nesting`](crate::manifest::nesting).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::super::Layout;
use crate::digest::Digest;
use crate::manifest::nesting::{Entered, Nesting};
use crate::manifest::{
    CONFIG_CAP, Descriptor, DocumentKind, ImageConfig, ImageManifest, Manifest, MediaType,
};
use crate::platform::Platform;
use crate::text::SHOWN;

/// How many platforms are listed of one image. No image has as many.
const MOST_PLATFORMS: usize = 256;

/// Media types that leave it to the document what it is, as [`Manifest::parse`] has it.
const GENERIC: [&str; 4] = ["", "application/json", "text/plain", "application/octet-stream"];

/// What an entry leads to.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    /// The bytes of everything that is there, each blob counted once.
    pub(super) size: u64,
    /// The bytes that no other entry leads to.
    pub(super) unique_size: u64,
    /// The platforms whose manifests are there.
    pub(super) platforms: Vec<Rc<str>>,
    /// How many more platforms its indexes declare.
    pub(super) absent_platforms: usize,
    /// Its own document, where that can be read.
    pub(super) document: Option<Rc<Document>>,
}

/// What is kept of a manifest or an index.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) content: Content,
    /// The artifact type that it states.
    pub(super) stated_type: Option<String>,
    /// The same, or the type of its config.
    pub(super) artifact_type: Option<String>,
}

#[derive(Debug)]
pub(super) enum Content {
    Image { is_image: bool, config: usize, blobs: Vec<u32> },
    Index(Vec<Child>),
}

/// An entry of an index.
#[derive(Debug)]
pub(super) struct Child {
    blob: u32,
    media_type: MediaType,
    declared: Declared,
}

/// The platform that a descriptor declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Declared {
    Nothing,
    /// One that is shown nowhere: an attestation's.
    Unknown,
    Platform(u32),
}

/// One blob that something refers to.
#[derive(Debug)]
struct Blob {
    digest: Digest,
    /// The size of its file; none where there is none.
    size: Option<u64>,
    owner: Owner,
    /// The last walk that came by.
    walk: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Walk(usize),
    Several,
}

/// Everything that is known so far.
pub(super) struct Graph<'a> {
    layout: &'a Layout,
    blobs: Vec<Blob>,
    numbers: HashMap<Digest, u32>,
    documents: HashMap<(u32, MediaType), Option<Rc<Document>>>,
    /// The platforms that configs name.
    configs: HashMap<usize, Declared>,
    platforms: Vec<Rc<str>>,
    platform_numbers: HashMap<Rc<str>, u32>,
    /// What was walked from, each once.
    reaches: Vec<Reach>,
    roots: HashMap<(u32, MediaType), usize>,
    /// How many entries led to the same.
    uses: Vec<usize>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        Self {
            layout,
            blobs: Vec::new(),
            numbers: HashMap::new(),
            documents: HashMap::new(),
            configs: HashMap::new(),
            platforms: Vec::new(),
            platform_numbers: HashMap::new(),
            reaches: Vec::new(),
            roots: HashMap::new(),
            uses: Vec::new(),
        }
    }

    /// Walks from an entry; the number is for [`Graph::reach`], once all entries were walked from.
    pub(super) fn add(&mut self, entry: &Descriptor) -> usize {
        let blob = self.number(entry.digest);
        let key = (blob, document_type(&entry.media_type).unwrap_or_default());
        if let Some(known) = self.roots.get(&key) {
            self.uses[*known] += 1;
            return *known;
        }
        let number = self.reaches.len();
        self.roots.insert(key, number);
        self.uses.push(1);
        let mut walk = Walk { number, ..Walk::default() };
        let child = Child { blob, media_type: entry.media_type.clone(), declared: Declared::Nothing };
        let document = self.follow(&child, 1, &mut walk);
        walk.absent.retain(|platform| !walk.seen.contains(platform));
        self.reaches.push(Reach {
            size: walk.size,
            platforms: walk.platforms.iter().map(|at| Rc::clone(&self.platforms[*at as usize])).collect(),
            absent_platforms: walk.absent.len(),
            document,
            unique_size: 0,
        });
        number
    }

    /// What the entries lead to, in the order of their numbers.
    pub(super) fn reaches(mut self) -> Vec<Reach> {
        for blob in &self.blobs {
            if let (Owner::Walk(number), Some(size)) = (blob.owner, blob.size)
                && self.uses[number] == 1
            {
                let unique = &mut self.reaches[number].unique_size;
                *unique = unique.saturating_add(size);
            }
        }
        self.reaches
    }

    fn number(&mut self, digest: Digest) -> u32 {
        if let Some(known) = self.numbers.get(&digest) {
            return *known;
        }
        let number = u32::try_from(self.blobs.len()).unwrap_or(u32::MAX);
        let size = self.layout.size_of(&digest).unwrap_or_default();
        self.blobs.push(Blob { digest, size, owner: Owner::Nobody, walk: usize::MAX });
        self.numbers.insert(digest, number);
        number
    }

    fn touch(&mut self, blob: u32, walk: &mut Walk) {
        let blob = &mut self.blobs[blob as usize];
        if blob.walk == walk.number {
            return;
        }
        blob.walk = walk.number;
        blob.owner = match blob.owner {
            Owner::Nobody => Owner::Walk(walk.number),
            Owner::Walk(_) | Owner::Several => Owner::Several,
        };
        walk.size = walk.size.saturating_add(blob.size.unwrap_or_default());
    }

    fn follow(&mut self, child: &Child, depth: usize, walk: &mut Walk) -> Option<Rc<Document>> {
        self.touch(child.blob, walk);
        let document = self.document(child.blob, &child.media_type)?;
        match &document.content {
            Content::Image { is_image, config, blobs } => {
                for blob in blobs {
                    self.touch(*blob, walk);
                }
                let declared = match child.declared {
                    Declared::Nothing if *is_image => self.of_config(*config),
                    declared => declared,
                };
                walk.see(declared);
            }
            Content::Index(children) => {
                let digest = self.blobs[child.blob as usize].digest;
                match walk.nesting.enter(digest, depth, children.len()) {
                    Ok(Entered::First | Entered::Deeper) => self.below(children, depth, walk),
                    Ok(Entered::Known) | Err(_) => {}
                }
            }
        }
        Some(document)
    }

    fn below(&mut self, children: &[Child], depth: usize, walk: &mut Walk) {
        for child in children {
            let blob = &self.blobs[child.blob as usize];
            if blob.size.is_some() {
                self.follow(child, depth + 1, walk);
            } else if let Declared::Platform(platform) = child.declared
                && (child.media_type.is_index() || child.media_type.is_image_manifest())
                && self.layout.is_absent(&blob.digest)
            {
                walk.absent.insert(platform);
            }
        }
    }

    fn document(&mut self, blob: u32, media_type: &MediaType) -> Option<Rc<Document>> {
        let media_type = document_type(media_type)?;
        let Blob { digest, size, .. } = self.blobs[blob as usize];
        let key = (blob, media_type);
        if let Some(known) = self.documents.get(&key) {
            return known.clone();
        }
        let read = self.layout.manifest(&Descriptor::new(key.1.clone(), digest, size?)).ok();
        let document = read.and_then(|manifest| self.kept(&manifest)).map(Rc::new);
        self.documents.insert(key, document.clone());
        document
    }

    fn kept(&mut self, manifest: &Manifest) -> Option<Document> {
        let content = match manifest {
            Manifest::Image(image) => self.image(image),
            Manifest::Index(index) => Content::Index(
                index
                    .manifests()
                    .iter()
                    .map(|entry| Child {
                        blob: self.number(entry.digest),
                        media_type: document_type(&entry.media_type)
                            .unwrap_or_else(|| MediaType::from(OTHER)),
                        declared: self.declared(entry.platform.as_ref()),
                    })
                    .collect(),
            ),
            Manifest::Schema1(_) => return None,
        };
        let short = |text: Option<&str>| text.map(|text| text.chars().take(SHOWN).collect());
        Some(Document {
            content,
            stated_type: short(manifest.stated_artifact_type()),
            artifact_type: short(manifest.artifact_type()),
        })
    }

    fn image(&mut self, image: &ImageManifest) -> Content {
        let config = self.number(image.config().digest);
        let layers = image.layers().iter().map(|layer| self.number(layer.digest));
        let mut blobs: Vec<u32> = layers.collect();
        blobs.push(config);
        Content::Image { is_image: image.is_image(), config: config as usize, blobs }
    }

    fn of_config(&mut self, config: usize) -> Declared {
        if let Some(known) = self.configs.get(&config) {
            return *known;
        }
        let raw = self.layout.read_blob(&self.blobs[config].digest, CONFIG_CAP as u64).ok();
        let platform = raw.and_then(|raw| Some(ImageConfig::parse(&raw).ok()?.platform));
        let found = self.declared(platform.as_ref());
        self.configs.insert(config, found);
        found
    }

    fn declared(&mut self, platform: Option<&Platform>) -> Declared {
        let Some(platform) = shown(platform) else {
            return match platform {
                Some(platform) if !platform.is_empty() => Declared::Unknown,
                _ => Declared::Nothing,
            };
        };
        if let Some(known) = self.platform_numbers.get(&*platform) {
            return Declared::Platform(*known);
        }
        let number = u32::try_from(self.platforms.len()).unwrap_or(u32::MAX);
        let platform: Rc<str> = platform.into();
        self.platforms.push(Rc::clone(&platform));
        self.platform_numbers.insert(platform, number);
        Declared::Platform(number)
    }
}

/// What stands for every type that is no manifest's.
const OTHER: &str = "application/octet-stream+other";

/// What one walk has seen.
#[derive(Default)]
struct Walk {
    number: usize,
    size: u64,
    nesting: Nesting,
    platforms: Vec<u32>,
    seen: HashSet<u32>,
    absent: HashSet<u32>,
}

impl Walk {
    fn see(&mut self, declared: Declared) {
        if let Declared::Platform(platform) = declared
            && self.seen.insert(platform)
            && self.platforms.len() < MOST_PLATFORMS
        {
            self.platforms.push(platform);
        }
    }
}

/// A platform as it is listed, unless it says nothing or is as long as no platform's name is.
pub(super) fn shown(platform: Option<&Platform>) -> Option<String> {
    let platform = platform?.normalize();
    let text = (!platform.is_empty() && !platform.is_unknown()).then(|| platform.to_string())?;
    (text.len() <= SHOWN).then_some(text)
}

/// The type by which a descriptor leads to a document: one of the few that manifests have, or none said. Nothing where the
/// type is another's.
fn document_type(media_type: &MediaType) -> Option<MediaType> {
    let essence = media_type.as_str().split(';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    if GENERIC.contains(&essence.as_str()) {
        return Some(MediaType::default());
    }
    let known = MediaType::MANIFESTS.into_iter().find(|known| known.as_str() == essence)?;
    (known.kind() != DocumentKind::Schema1).then_some(known)
}
