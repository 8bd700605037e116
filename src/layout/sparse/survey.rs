//! Looks through an index and what is nested in it, once for all platforms and all entries of `index.json` that name it.
//!
//! Each manifest is read at most once, and only where an index does not say which platform it is for; each nested index
//! is read once, however often it is listed. Limits are those of [`nesting`](crate::manifest::nesting): what lies beyond
//! them is unknown, which excuses nothing and accuses nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::super::index::Extent;
use super::{Absence, Absent, AbsentManifest, Layout, platforms};
use crate::digest::Digest;
use crate::manifest::nesting::Nesting;
use crate::manifest::{CONFIG_CAP, Descriptor, ImageConfig, ImageIndex, Manifest, MediaType};
use crate::platform::Platform;

/// How many entries of indexes are kept for the next entry of `index.json` that names one of them.
const KEPT: usize = 100_000;

/// What is known of the indexes of a layout.
pub(crate) struct Surveys<'a> {
    known: Known<'a>,
    by_index: HashMap<Digest, Survey>,
    kept: usize,
}

impl<'a> Surveys<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Self {
        let known =
            Known { layout, absent: HashMap::new(), manifests: HashMap::new(), configs: HashMap::new() };
        Self { known, by_index: HashMap::new(), kept: 0 }
    }

    /// As [`Layout::absent`], ending early with whatever is known when `proceed` says no.
    pub(crate) fn absent(
        &mut self,
        entry: &Descriptor,
        index: &ImageIndex,
        proceed: &dyn Fn() -> bool,
    ) -> Absent {
        if let Some(absent) = self.absent_again(entry, proceed) {
            return absent;
        }
        let survey = Survey::of(&mut self.known, entry.digest, index);
        self.kept += survey.leaves.len();
        if self.kept > KEPT {
            self.by_index.clear();
            self.kept = survey.leaves.len();
        }
        let survey = self.by_index.entry(entry.digest).or_insert(survey);
        survey.absent(&mut self.known, platforms(entry), proceed)
    }

    /// The same where the index was surveyed before and the survey was kept.
    pub(crate) fn absent_again(&mut self, entry: &Descriptor, proceed: &dyn Fn() -> bool) -> Option<Absent> {
        let survey = self.by_index.get_mut(&entry.digest)?;
        Some(survey.absent(&mut self.known, platforms(entry), proceed))
    }

    /// What the layout has of an index.
    pub(super) fn extent(&mut self, entry: &Descriptor, index: &ImageIndex) -> Extent {
        Survey::of(&mut self.known, entry.digest, index).extent(&mut self.known)
    }

    /// Whether nothing at all stands under a blob's name. Looked at once.
    pub(crate) fn is_absent(&mut self, digest: &Digest) -> bool {
        self.known.is_absent(digest)
    }
}

/// What was read of the layout.
struct Known<'a> {
    layout: &'a Layout,
    absent: HashMap<Digest, bool>,
    /// The platforms that manifests are for, as their configs say.
    manifests: HashMap<(Digest, MediaType), Found>,
    configs: HashMap<Digest, Option<Platform>>,
}

/// For which platform a manifest is.
#[derive(Clone)]
enum Found {
    Platform(Platform),
    /// It is for none.
    Nothing,
    Unreadable,
}

impl Known<'_> {
    fn is_absent(&mut self, digest: &Digest) -> bool {
        *self.absent.entry(*digest).or_insert_with(|| self.layout.is_absent(digest))
    }

    fn platform(&mut self, descriptor: &Descriptor) -> Found {
        let key = (descriptor.digest, descriptor.media_type.clone());
        if let Some(known) = self.manifests.get(&key) {
            return known.clone();
        }
        let found = match self.layout.manifest(descriptor) {
            Ok(Manifest::Image(image)) if !image.is_image() => Found::Nothing,
            Ok(Manifest::Image(image)) => {
                self.config(image.config().digest).map_or(Found::Unreadable, Found::Platform)
            }
            _ => Found::Unreadable,
        };
        self.manifests.insert(key, found.clone());
        found
    }

    fn config(&mut self, digest: Digest) -> Option<Platform> {
        let read = || {
            let raw = self.layout.read_blob(&digest, CONFIG_CAP as u64).ok()?;
            Some(ImageConfig::parse(&raw).ok()?.platform.normalize())
        };
        self.configs.entry(digest).or_insert_with(read).clone()
    }
}

/// An entry of an index that leads to a manifest, if it leads to anything.
#[derive(Debug)]
struct Node {
    descriptor: Descriptor,
    /// Its platform, normalised, where it declares one.
    declared: Option<Platform>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// A manifest that is there.
    Manifest,
    /// An index that is there. One that is listed twice is one.
    Index(Rc<List>),
    /// A manifest or an index that is not there.
    Absent,
}

/// What an index lists, in its order.
#[derive(Debug, Default)]
struct List {
    nodes: Vec<Rc<Node>>,
    /// The places of what declares each platform.
    declaring: HashMap<Platform, Vec<usize>>,
    /// The places of what declares none, and then of the indexes that declare one.
    others: Vec<usize>,
}

impl List {
    fn new(nodes: Vec<Rc<Node>>) -> Self {
        let (mut declaring, mut others, mut indexes): (HashMap<_, Vec<usize>>, Vec<usize>, Vec<usize>) =
            Default::default();
        for (at, node) in nodes.iter().enumerate() {
            match &node.declared {
                Some(platform) => declaring.entry(platform.clone()).or_default().push(at),
                None => others.push(at),
            }
            if node.declared.is_some() && matches!(node.content, Content::Index(_)) {
                indexes.push(at);
            }
        }
        others.append(&mut indexes);
        Self { nodes, declaring, others }
    }
}

impl Node {
    fn is_absent(&self) -> bool {
        matches!(self.content, Content::Absent)
    }

    fn is_manifest_for(&self, platform: &Platform) -> bool {
        self.descriptor.media_type.is_image_manifest() && self.declared.as_ref() == Some(platform)
    }
}

/// What may have been taken for a platform.
#[derive(Debug, Clone, Copy)]
enum Taken {
    /// It is there, or is this one, which is not.
    There,
    Gone(Digest),
    /// Below an index that declares the platform and is not there.
    Declared,
    /// Below something that declares nothing and is not there.
    Undeclared,
    /// There is nothing that could have been.
    Nothing,
}

/// One index, with those nested in it.
struct Survey {
    list: Rc<List>,
    /// The manifests, and the indexes that are not there, in the order of the lists, a nested index where it comes first.
    leaves: Vec<Rc<Node>>,
    /// The platforms that are declared, and the leaves that declare each.
    declared: BTreeMap<Platform, Vec<usize>>,
    /// The platforms of the leaves that are there and declare none, once somebody asked.
    undeclared: Option<BTreeSet<Platform>>,
    /// What is known of each declared platform.
    judged: BTreeMap<Platform, Taken>,
    /// Whether a document could not be read, so that not everything below the index is known.
    is_partial: bool,
}

impl Survey {
    fn of(known: &mut Known<'_>, digest: Digest, index: &ImageIndex) -> Self {
        let mut reading =
            Reading { known, nesting: Nesting::default(), indexes: HashMap::new(), is_partial: false };
        let list = reading.index(digest, index, 1);
        let is_partial = reading.is_partial;
        let (mut leaves, mut declared) = (Vec::new(), BTreeMap::new());
        gather(&list, &mut leaves, &mut declared, &mut HashSet::new());
        for (at, leaf) in leaves.iter().enumerate() {
            if let Some(platform) = &leaf.declared {
                declared.entry(platform.clone()).or_default().push(at);
            }
        }
        Self { list, leaves, declared, undeclared: None, judged: BTreeMap::new(), is_partial }
    }

    fn absent(
        &mut self,
        known: &mut Known<'_>,
        taken: Option<BTreeSet<Platform>>,
        proceed: &dyn Fn() -> bool,
    ) -> Absent {
        let (mut missing, mut unexplained) = (BTreeSet::new(), Vec::new());
        let is_whole = taken.is_none();
        let mut any_undeclared = false;
        for platform in taken.into_iter().flatten() {
            if !proceed() {
                break;
            }
            match self.taken(known, &platform) {
                Taken::There => {}
                Taken::Gone(digest) => drop(missing.insert(digest)),
                Taken::Declared => missing.extend(self.absent_declaring(&platform)),
                Taken::Undeclared => any_undeclared = true,
                Taken::Nothing if self.is_partial => {}
                Taken::Nothing => unexplained.push(platform),
            }
        }
        if any_undeclared {
            missing.extend(self.absent_undeclared());
        }
        let mut seen = BTreeSet::new();
        let absent =
            self.leaves.iter().filter(|node| node.is_absent() && seen.insert(node.descriptor.digest));
        let manifests = absent.map(|node| {
            let is_missing = is_whole || missing.contains(&node.descriptor.digest);
            let absence = if is_missing { Absence::Missing } else { Absence::LeftOut };
            AbsentManifest { descriptor: node.descriptor.clone(), absence }
        });
        Absent { manifests: manifests.collect(), unexplained }
    }

    /// Everything, or the manifests for these of the platforms that are declared.
    fn extent(&mut self, known: &mut Known<'_>) -> Extent {
        if !self.is_partial && self.leaves.iter().all(|node| !node.is_absent()) {
            return Extent::Whole;
        }
        let there = self.leaves.iter().filter(|node| !node.is_absent());
        let declared: Vec<Platform> = there.filter_map(|node| node.declared.clone()).collect();
        let (mut seen, mut platforms) = (BTreeSet::new(), Vec::new());
        for platform in declared {
            let is_new = !platform.is_unknown() && seen.insert(platform.clone());
            if is_new && matches!(self.taken(known, &platform), Taken::There) {
                platforms.push(platform);
            }
        }
        Extent::Platforms(platforms)
    }

    /// What was taken for a platform.
    fn taken(&mut self, known: &mut Known<'_>, platform: &Platform) -> Taken {
        let Some(leaves) = self.declared.get(platform) else { return self.taken_undeclared(known, platform) };
        if let Some(judged) = self.judged.get(platform) {
            return *judged;
        }
        let leaves = leaves.iter().map(|at| &self.leaves[*at]);
        let first = leaves.clone().find(|node| node.is_manifest_for(platform)).cloned();
        let is_declared_below = leaves.clone().any(|node| node.is_absent());
        let mut search = Search { known, is_partial: false, platform, seen: HashSet::new() };
        let preferred = search.first(&self.list, false);
        self.is_partial |= search.is_partial;
        let judged = match preferred {
            Some(preferred) => {
                let is_there =
                    [Some(&preferred), first.as_ref()].into_iter().flatten().any(|node| !node.is_absent());
                if is_there { Taken::There } else { Taken::Gone(preferred.descriptor.digest) }
            }
            None => match self.taken_undeclared(known, platform) {
                Taken::There => Taken::There,
                // Only an index is left to declare the platform.
                _ if is_declared_below => Taken::Declared,
                undeclared => undeclared,
            },
        };
        self.judged.insert(platform.clone(), judged);
        judged
    }

    /// What was taken for a platform that nothing of use declares.
    fn taken_undeclared(&mut self, known: &mut Known<'_>, platform: &Platform) -> Taken {
        if self.undeclared.is_none() {
            let here = self.leaves.iter().filter(|node| node.declared.is_none() && !node.is_absent());
            let mut found = BTreeSet::new();
            for node in here {
                match known.platform(&node.descriptor) {
                    Found::Platform(platform) => drop(found.insert(platform)),
                    Found::Nothing => {}
                    Found::Unreadable => self.is_partial = true,
                }
            }
            self.undeclared = Some(found);
        }
        if self.undeclared.as_ref().is_some_and(|found| found.contains(platform)) {
            Taken::There
        } else if self.absent_undeclared().next().is_some() {
            Taken::Undeclared
        } else {
            Taken::Nothing
        }
    }

    fn absent_declaring(&self, platform: &Platform) -> impl Iterator<Item = Digest> + '_ {
        let leaves = self.declared.get(platform).into_iter().flatten().map(|at| &self.leaves[*at]);
        leaves.filter(|node| node.is_absent()).map(|node| node.descriptor.digest)
    }

    fn absent_undeclared(&self) -> impl Iterator<Item = Digest> + '_ {
        let leaves = self.leaves.iter().filter(|node| node.is_absent() && node.declared.is_none());
        leaves.map(|node| node.descriptor.digest)
    }
}

fn gather(
    list: &List,
    leaves: &mut Vec<Rc<Node>>,
    declared: &mut BTreeMap<Platform, Vec<usize>>,
    seen: &mut HashSet<Digest>,
) {
    for node in &list.nodes {
        if let Content::Index(nested) = &node.content {
            // Its manifests need not declare what it does.
            declared.extend(node.declared.clone().map(|platform| (platform, Vec::new())));
            if seen.insert(node.descriptor.digest) {
                gather(nested, leaves, declared, seen);
            }
        } else {
            leaves.push(Rc::clone(node));
        }
    }
}

struct Reading<'k, 'a> {
    known: &'k mut Known<'a>,
    nesting: Nesting,
    indexes: HashMap<Digest, Rc<List>>,
    is_partial: bool,
}

impl Reading<'_, '_> {
    fn index(&mut self, digest: Digest, index: &ImageIndex, depth: usize) -> Rc<List> {
        if self.nesting.enter(digest, depth, index.manifests().len()).is_err() {
            self.is_partial = true;
            return Rc::default();
        }
        let nodes = index.manifests().iter().filter_map(|entry| self.node(entry, depth)).map(Rc::new);
        Rc::new(List::new(nodes.collect()))
    }

    fn node(&mut self, entry: &Descriptor, depth: usize) -> Option<Node> {
        let media_type = &entry.media_type;
        if !media_type.is_index() && !media_type.is_image_manifest() {
            return None;
        }
        let content = if self.known.is_absent(&entry.digest) {
            Content::Absent
        } else if media_type.is_index() {
            Content::Index(self.nested(entry, depth))
        } else {
            Content::Manifest
        };
        let declared = entry.platform.as_ref().map(Platform::normalize);
        let declared =
            declared.filter(|platform| !platform.os.is_empty() && !platform.architecture.is_empty());
        Some(Node { descriptor: entry.clone(), declared, content })
    }

    fn nested(&mut self, entry: &Descriptor, depth: usize) -> Rc<List> {
        if let Some(known) = self.indexes.get(&entry.digest) {
            return Rc::clone(known);
        }
        let list = match self.known.layout.manifest(entry) {
            Ok(Manifest::Index(index)) if depth <= crate::manifest::nesting::DEEPEST => {
                self.index(entry.digest, &index, depth + 1)
            }
            _ => {
                self.is_partial = true;
                Rc::default()
            }
        };
        self.indexes.insert(entry.digest, Rc::clone(&list));
        list
    }
}

/// Looks for the first manifest for a platform in the order of a fetch.
struct Search<'s, 'a> {
    known: &'s mut Known<'a>,
    is_partial: bool,
    platform: &'s Platform,
    /// Indexes in which there is none, and whether they were entered as the platform's.
    seen: HashSet<(Digest, bool)>,
}

impl Search<'_, '_> {
    /// In each index first what declares the platform, then what declares none, then nested indexes that declare another.
    /// Below an index that declares it (`is_inherited`) a manifest need not.
    fn first(&mut self, list: &List, is_inherited: bool) -> Option<Rc<Node>> {
        let declaring = list.declaring.get(self.platform).into_iter().flatten();
        declaring.chain(&list.others).map(|at| &list.nodes[*at]).find_map(|node| match &node.content {
            Content::Index(nested) => {
                let inherits = node.declared.as_ref() == Some(self.platform);
                let is_new = self.seen.insert((node.descriptor.digest, inherits));
                if is_new { self.first(nested, inherits) } else { None }
            }
            _ if node.is_manifest_for(self.platform) => Some(Rc::clone(node)),
            Content::Manifest if node.declared.is_none() && is_inherited => {
                self.is_for(&node.descriptor).then(|| Rc::clone(node))
            }
            Content::Manifest | Content::Absent => None,
        })
    }

    fn is_for(&mut self, descriptor: &Descriptor) -> bool {
        match self.known.platform(descriptor) {
            Found::Platform(found) => found == *self.platform,
            Found::Nothing => false,
            Found::Unreadable => {
                self.is_partial = true;
                false
            }
        }
    }
}
