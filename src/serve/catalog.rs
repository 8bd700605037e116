//! Which repositories and tags a layout's images are served as.
//!
//! An image with a full name (`io.containerd.image.name`) is served under that name's repository and tag. One with only a
//! short name (`org.opencontainers.image.ref.name`), as other tools write it: where that is itself a reference, under it;
//! where it is a tag, under a repository called like the layout's folder, so that `skopeo copy … oci:hello:1.0` is pulled
//! as `hello:1.0`. An image with neither is in that repository too, by digest, and as `latest` where it is the layout's
//! only one.
//!
//! Where one tag has several single-platform manifests, an index of them is made here, so that every client gets its own.
//!
//! A repository is asked for by its path alone, as the clients of a mirror do, or with its host in front. The path alone
//! means Docker Hub's repository where there is one, else that of the one host that has it; with `ns`, that host's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::json;

use crate::digest::Digest;
use crate::layout::Layout;
use crate::layout::index::{Entry, IndexDocument};
use crate::manifest::nesting::{DEEPEST, Entered, Nesting};
use crate::manifest::{Descriptor, Manifest};
use crate::reference::{Reference, Repository, Tag};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Docker Hub's host in references.
const DOCKER_HUB: &str = "docker.io";

/// Names that Docker Hub's own API goes by.
const DOCKER_HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// A manifest that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// Its bytes, where it was made here and is not in the layout.
    pub(super) made: Option<Bytes>,
}

impl Served {
    fn stored(descriptor: &Descriptor) -> Self {
        let media_type = descriptor.media_type.as_str().to_owned();
        Self { digest: descriptor.digest, media_type, made: None }
    }

    /// One manifest for everything that goes by one tag.
    fn of_tag(descriptors: &[Descriptor]) -> Option<Self> {
        let first = descriptors.first()?;
        let index = descriptors.iter().find(|descriptor| descriptor.media_type.is_index());
        let is_one = descriptors.iter().all(|descriptor| descriptor.digest == first.digest);
        match index {
            Some(index) => Some(Self::stored(index)),
            None if is_one => Some(Self::stored(first)),
            None => Some(Self::made_of(descriptors)),
        }
    }

    fn made_of(descriptors: &[Descriptor]) -> Self {
        let mut seen = BTreeSet::new();
        let manifests: Vec<Descriptor> = descriptors
            .iter()
            .filter(|descriptor| seen.insert(descriptor.digest))
            .map(|descriptor| Descriptor { annotations: BTreeMap::new(), ..descriptor.clone() })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let bytes = Bytes::from(index.to_string());
        Self { digest: Digest::sha256(&bytes), media_type: INDEX.to_owned(), made: Some(bytes) }
    }
}

/// A repository's images.
#[derive(Debug, Default)]
pub(super) struct Images {
    by_tag: BTreeMap<String, Vec<Descriptor>>,
    tags: BTreeMap<String, Served>,
    entries: Vec<Descriptor>,
    reachable: OnceLock<BTreeMap<Digest, Served>>,
    /// What is about the images, under whatever name the layout has it.
    referring: OnceLock<BTreeMap<Digest, Served>>,
}

impl Images {
    /// The tags, sorted.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.keys().map(String::as_str)
    }

    /// The manifest or index that goes by a tag.
    pub(super) fn tag(&self, tag: &str) -> Option<&Served> {
        self.tags.get(tag)
    }

    /// The manifest or index with a digest, if any of the repository's images has it, or is its subject. Reads documents
    /// from the disk.
    pub(super) fn digest(&self, layout: &Layout, digest: &Digest) -> Option<&Served> {
        let reachable = self.reachable.get_or_init(|| self.reach(layout));
        // Rarely asked for, and to be found only by looking at everything that the layout names.
        reachable.get(digest).or_else(|| self.referring.get_or_init(|| refer(layout, reachable)).get(digest))
    }

    fn reach(&self, layout: &Layout) -> BTreeMap<Digest, Served> {
        let made = self.tags.values().filter(|served| served.made.is_some());
        let mut reachable: BTreeMap<Digest, Served> =
            made.map(|served| (served.digest, served.clone())).collect();
        // Each is read once, by however many names it goes.
        let mut seen = BTreeSet::new();
        for entry in self.entries.iter().filter(|entry| seen.insert(entry.digest)) {
            reach(layout, entry, 1, &mut Nesting::default(), &mut reachable);
        }
        reachable
    }
}

/// What is about `reachable`, and what is about that in turn.
fn refer(layout: &Layout, reachable: &BTreeMap<Digest, Served>) -> BTreeMap<Digest, Served> {
    let mut referring = BTreeMap::new();
    let mut subjects: BTreeSet<Digest> = reachable.keys().copied().collect();
    for _ in 0..DEEPEST {
        let mut found = layout.referrers(&subjects).unwrap_or_default();
        found.retain(|referrer| {
            !reachable.contains_key(&referrer.digest) && !referring.contains_key(&referrer.digest)
        });
        subjects = found.iter().map(|referrer| referrer.digest).collect();
        if subjects.is_empty() {
            break;
        }
        for referrer in &found {
            reach(layout, referrer, 1, &mut Nesting::default(), &mut referring);
        }
    }
    referring
}

fn reach(
    layout: &Layout,
    descriptor: &Descriptor,
    depth: usize,
    nesting: &mut Nesting,
    reachable: &mut BTreeMap<Digest, Served>,
) {
    // The first that lists it says what it is, where it does not say so itself.
    reachable.entry(descriptor.digest).or_insert_with(|| Served::stored(descriptor));
    if depth > DEEPEST || (!descriptor.media_type.is_index() && !descriptor.media_type.is_empty()) {
        return;
    }
    let Ok(Manifest::Index(index)) = layout.manifest(descriptor) else { return };
    match nesting.enter(descriptor.digest, depth, index.manifests().len()) {
        Ok(Entered::First | Entered::Deeper) => {}
        Ok(Entered::Known) | Err(_) => return,
    }
    for child in index.manifests() {
        reach(layout, child, depth + 1, nesting, reachable);
    }
}

/// All that a layout serves.
#[derive(Debug)]
pub(super) struct Catalog {
    /// By host and path. The repository that is called like the folder has no host.
    repositories: BTreeMap<(String, String), Images>,
}

impl Catalog {
    /// Reads the names in `index.json` of the layout in `root`.
    pub(super) fn new(index: &IndexDocument, root: &Path) -> Self {
        let folder = folder_name(root);
        let mut catalog = Self { repositories: BTreeMap::new() };
        let is_only = index.entries().len() == 1;
        let mut others = Vec::new();
        for entry in index.entries() {
            let Ok(descriptor) = entry.descriptor() else { continue };
            let (key, tag) = place(entry, &folder, is_only);
            let short = entry.ref_name().filter(|_| tag.is_none() || entry.is_named_by_others());
            if let Some(short) = short.and_then(|name| name.parse::<Tag>().ok()) {
                others.push((key.clone(), short.as_str().to_owned(), descriptor.clone()));
            }
            let images = catalog.repositories.entry(key).or_default();
            images.entries.push(descriptor.clone());
            if let Some(tag) = tag {
                images.by_tag.entry(tag).or_default().push(descriptor);
            }
        }
        // Short names beside a full one: where that has a digest and no tag, or where another tool gave them.
        for (key, tag, descriptor) in others {
            let images = catalog.repositories.entry(key).or_default();
            images.by_tag.entry(tag).or_insert_with(|| vec![descriptor]);
        }
        for images in catalog.repositories.values_mut() {
            for (tag, descriptors) in std::mem::take(&mut images.by_tag) {
                images.tags.extend(Served::of_tag(&descriptors).map(|served| (tag, served)));
            }
        }
        catalog
    }

    /// The images of the repository that a client asks for by `name`, meaning the registry `namespace` if it says so.
    pub(super) fn repository(&self, name: &str, namespace: Option<&str>) -> Option<&Images> {
        let get = |host: &str, path: &str| self.repositories.get(&(host.to_owned(), path.to_owned()));
        // A canonical host and path: `alpine` is Docker Hub's library/alpine, `quay.io/a/b` has its host in front.
        let canonical = name.parse::<Repository>().ok();
        let canonical = canonical.as_ref().map(|repository| (repository.host(), repository.path()));
        if let Some(namespace) = namespace {
            let host = if DOCKER_HUB_ALIASES.contains(&namespace) { DOCKER_HUB } else { namespace };
            let with_host = canonical.filter(|(found, _)| *found == host);
            return get(host, name).or_else(|| with_host.and_then(|(host, path)| get(host, path)));
        }
        get("", name).or_else(|| canonical.and_then(|(host, path)| get(host, path))).or_else(|| {
            let mut of_path = self.repositories.iter().filter(|((_, path), _)| path == name);
            let (_, images) = of_path.next()?;
            of_path.next().is_none().then_some(images)
        })
    }

    /// Every name that is served, host in front where there is one.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.repositories.iter().flat_map(|((host, path), images)| {
            let repository = if host.is_empty() { path.clone() } else { format!("{host}/{path}") };
            images.tags().map(move |tag| format!("{repository}:{tag}")).collect::<Vec<_>>()
        });
        names.collect()
    }
}

/// The repository that an entry is served in, and its tag if it has one.
fn place(entry: &Entry, folder: &str, is_only: bool) -> ((String, String), Option<String>) {
    let of_reference = |reference: &Reference| {
        let repository = reference.repository();
        let tag = reference.tag().map(|tag| tag.as_str().to_owned());
        ((repository.host().to_owned(), repository.path().to_owned()), tag)
    };
    if let Some(reference) = entry.full_name().and_then(|name| name.parse().ok()) {
        return of_reference(&reference);
    }
    let here = (String::new(), folder.to_owned());
    match entry.ref_name() {
        Some(name) => match name.parse::<Tag>() {
            Ok(tag) => (here, Some(tag.as_str().to_owned())),
            Err(_) => name.parse().map_or((here, None), |reference| of_reference(&reference)),
        },
        None => (here, is_only.then(|| Tag::LATEST.to_owned())),
    }
}

/// The folder's name, made a repository's.
fn folder_name(root: &Path) -> String {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let name = root.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let is_valid = |name: &str| format!("{DOCKER_HUB}/x/{name}").parse::<Repository>().is_ok();
    if !name.contains('/') && is_valid(&name) {
        return name;
    }
    let words: Vec<&str> = name.split(|character: char| !character.is_ascii_alphanumeric()).collect();
    let name = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    if is_valid(&name) { name } else { "image".to_owned() }
}

/// The media type under which a manifest is served: its own, whoever lists it as what; else the one that it is `listed` as;
/// else what its keys say.
pub(super) fn media_type(raw: &Bytes, listed: &str) -> String {
    /// All that is read; what else stands in the document is for its reader.
    #[derive(serde::Deserialize)]
    struct Stated {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let stated = serde_json::from_slice::<Stated>(raw).ok().and_then(|stated| stated.media_type);
    let told = stated.filter(|text| !text.is_empty()).unwrap_or_else(|| listed.to_owned());
    if !told.is_empty() {
        return told;
    }
    let guessed = Manifest::parse(raw.clone(), None).ok();
    guessed.map(|manifest| manifest.media_type().as_str().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str, media_type: &str, annotations: &[(&str, &str)]) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": Digest::sha256(content.as_bytes()), "size": content.len(),
            "annotations": annotations.iter().copied().collect::<BTreeMap<_, _>>()})
    }

    fn catalog(entries: &[serde_json::Value], root: &str) -> Catalog {
        let text = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        Catalog::new(&IndexDocument::parse(text.as_bytes()).unwrap(), Path::new(root))
    }

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const FULL: &str = "io.containerd.image.name";
    const SHORT: &str = "org.opencontainers.image.ref.name";

    fn named(full: &str) -> serde_json::Value {
        entry(full, MANIFEST, &[(FULL, full)])
    }

    /// Names of every kind of entry.
    #[test]
    fn every_entry_has_its_repository() {
        let by_digest = format!("quay.io/org/app@{}", Digest::sha256(b"g"));
        let entries = [
            entry("a", MANIFEST, &[(FULL, "docker.io/library/alpine:3.20"), (SHORT, "3.20")]),
            entry("b", MANIFEST, &[(SHORT, "1.0")]),
            entry("c", MANIFEST, &[(SHORT, "quay.io/org/app:2")]),
            entry("d", MANIFEST, &[(SHORT, "no: name")]),
            entry("e", MANIFEST, &[]),
            entry("f", MANIFEST, &[(FULL, "Not A Name"), (SHORT, "2.0")]),
            entry("g", MANIFEST, &[(FULL, &by_digest), (SHORT, "good")]),
            entry("h", MANIFEST, &[(FULL, &by_digest)]),
            json!({"no": "descriptor"}),
        ];
        let catalog = catalog(&entries, "/nowhere/My Layout");
        assert_eq!(
            catalog.names(),
            [
                "my-layout:1.0",
                "my-layout:2.0",
                "docker.io/library/alpine:3.20",
                "quay.io/org/app:2",
                "quay.io/org/app:good"
            ]
        );
        assert_eq!(catalog.repository("my-layout", None).unwrap().entries.len(), 4);
    }

    /// A short name that another tool gave is a tag as well, but none that an image has by its full name.
    #[test]
    fn names_that_others_gave_are_tags_where_they_are_free() {
        let given = "io.ocipull.ref-name";
        let entries = [
            entry(
                "old",
                MANIFEST,
                &[(FULL, &format!("a.io/b@{}", Digest::sha256(b"old"))), (SHORT, "stable")],
            ),
            entry("new", MANIFEST, &[(FULL, "a.io/b:stable")]),
            entry("new", MANIFEST, &[(FULL, "a.io/b:stable"), (SHORT, "good"), (given, "stable")]),
            entry("new", MANIFEST, &[(FULL, "a.io/b:stable"), (SHORT, "short"), (given, "short")]),
        ];
        let catalog = catalog(&entries, "/nowhere/out");
        let images = catalog.repository("b", Some("a.io")).unwrap();
        assert_eq!(images.tags().collect::<Vec<_>>(), ["good", "stable"]);
        for tag in ["good", "stable"] {
            assert_eq!(images.tag(tag).unwrap().digest, Digest::sha256(b"new"), "{tag}");
        }
    }

    /// The one image of a layout that names nothing is `latest`.
    #[test]
    fn the_only_unnamed_image_is_latest() {
        let one = entry("a", MANIFEST, &[]);
        assert_eq!(catalog(std::slice::from_ref(&one), "/nowhere/out").names(), ["out:latest"]);
        assert!(catalog(&[one.clone(), one], "/nowhere/out").names().is_empty());
    }

    /// Folders' names become repositories' names.
    #[test]
    fn folder_names_are_made_valid() {
        let cases = [
            ("/nowhere/out", "out"),
            ("/nowhere/out/", "out"),
            ("/nowhere/a_b.c-d", "a_b.c-d"),
            ("/nowhere/Out 2", "out-2"),
            ("/nowhere/--x--", "x"),
            ("/nowhere/日本", "image"),
            ("/", "image"),
        ];
        for (folder, wanted) in cases {
            assert_eq!(folder_name(Path::new(folder)), wanted, "{folder}");
        }
    }

    /// With the host, without it, with `ns`, and abbreviated; two hosts with one path are told apart by `ns` only.
    #[test]
    fn repositories_are_found_by_all_their_names() {
        let entries = [
            named("docker.io/library/alpine:1"),
            named("docker.io/org/app:1"),
            named("quay.io/org/app:2"),
            named("quay.io/only/here:3"),
            named("a.io/two/hosts:4"),
            named("b.io/two/hosts:5"),
            named("localhost:5000/dev/app:6"),
        ];
        let catalog = catalog(&entries, "/nowhere/out");
        let tag_of = |name: &str, namespace: Option<&str>| {
            catalog.repository(name, namespace).and_then(|images| images.tags().next().map(str::to_owned))
        };
        let cases = [
            ("library/alpine", None, Some("1")),
            ("alpine", None, Some("1")),
            ("docker.io/library/alpine", None, Some("1")),
            ("docker.io/alpine", None, Some("1")),
            ("library/alpine", Some("docker.io"), Some("1")),
            ("library/alpine", Some("registry-1.docker.io"), Some("1")),
            ("docker.io/library/alpine", Some("docker.io"), Some("1")),
            ("library/alpine", Some("quay.io"), None),
            ("org/app", None, Some("1")),
            ("org/app", Some("quay.io"), Some("2")),
            ("quay.io/org/app", None, Some("2")),
            ("only/here", None, Some("3")),
            ("only/here", Some("docker.io"), None),
            ("two/hosts", None, None),
            ("two/hosts", Some("b.io"), Some("5")),
            ("a.io/two/hosts", None, Some("4")),
            ("localhost:5000/dev/app", None, Some("6")),
            ("dev/app", Some("localhost:5000"), Some("6")),
            ("nobody", None, None),
            ("Not/Valid", None, None),
            ("", None, None),
        ];
        for (name, namespace, wanted) in cases {
            assert_eq!(tag_of(name, namespace).as_deref(), wanted, "{name} {namespace:?}");
        }
    }

    /// Single manifests of one tag become an index; an index beside them is that index already.
    #[test]
    fn several_platforms_of_one_tag_are_one_index() {
        let mut amd = named("a.io/x:1");
        amd["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let mut arm = entry("arm", MANIFEST, &[(FULL, "a.io/x:1")]);
        arm["platform"] = json!({"os": "linux", "architecture": "arm64"});
        let both = catalog(&[amd.clone(), arm.clone()], "/nowhere/out");
        let served = both.repository("a.io/x", None).unwrap().tag("1").unwrap();
        let made = served.made.clone().unwrap();
        assert_eq!(served.digest, Digest::sha256(&made));
        let Manifest::Index(index) = Manifest::parse(made, Some(INDEX)).unwrap() else { panic!("no index") };
        let digests: Vec<String> = index.manifests().iter().map(|entry| entry.digest.to_string()).collect();
        assert_eq!(digests, [amd["digest"].as_str().unwrap(), arm["digest"].as_str().unwrap()]);
        assert!(
            index.manifests().iter().all(|entry| entry.annotations.is_empty() && entry.platform.is_some())
        );
        let whole = entry("index", INDEX, &[(FULL, "a.io/x:1")]);
        let three = catalog(&[amd, whole.clone(), arm], "/nowhere/out");
        let served = three.repository("a.io/x", None).unwrap().tag("1").unwrap();
        assert_eq!(
            (served.digest.to_string().as_str(), &served.made),
            (whole["digest"].as_str().unwrap(), &None)
        );
    }
}
