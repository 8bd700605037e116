//! The images of a layout: what `index.json` names, how large each one is, and which one a name means.
//!
//! Everything here is tolerant. A listing is what somebody asks for when a layout is in doubt, so a blob that is missing
//! or bad makes the listing poorer, never an error; `check` is there to say what is wrong. Sizes are those of the
//! files, not those that descriptors claim.

mod reach;

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::index::{Entry, IndexDocument};
use super::referrers::{self, Role};
use super::{Layout, LayoutError};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::text::printable;

use reach::{Content, Document, Graph, Reach};

/// How many names an error lists.
const LISTED: usize = 20;

/// An image that `index.json` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImageSummary {
    /// Its full canonical name (`io.containerd.image.name`).
    pub name: Option<String>,
    /// Its short name (`org.opencontainers.image.ref.name`).
    pub ref_name: Option<String>,
    /// The digest that `index.json` names: a manifest's or an index's.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The platforms whose manifests are there, normalised, in the index's order. An artifact may have none.
    pub platforms: Vec<String>,
    /// The bytes that it takes on disk: everything that it refers to and that is there, itself included, each blob counted
    /// once.
    pub size: u64,
    /// The bytes that no other entry of `index.json` refers to.
    pub unique_size: u64,
    /// How many more platforms its index declares.
    #[serde(skip)]
    pub absent_platforms: usize,
    /// What it is, where it is not for any platform.
    #[serde(skip)]
    pub contents: Contents,
}

/// What an entry of `index.json` is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contents {
    /// An image, or as far as is known one.
    #[default]
    Image,
    /// An artifact, or what cosign's tags name.
    Artifact {
        /// The artifact type: the manifest's, or the type of its config.
        artifact_type: String,
    },
    /// The list of what refers to another manifest, under that manifest's tag ("Referrers Tag Schema").
    Referrers,
}

impl Layout {
    /// The images that `index.json` names, in its order. Entries that are no descriptors are left out.
    ///
    /// # Errors
    /// [`LayoutError::Unreadable`] when `index.json` cannot be understood.
    pub fn images(&self) -> Result<Vec<ImageSummary>, LayoutError> {
        let index = self.index()?;
        let mut graph = Graph::new(self);
        let entries = index.entries().iter();
        let named: Vec<(&Entry, usize)> =
            entries.filter_map(|entry| Some((entry, graph.add(&entry.descriptor().ok()?)))).collect();
        let reaches = graph.reaches();
        let summary = |(entry, number): (&Entry, usize)| {
            let descriptor = entry.descriptor().ok()?;
            let reach: &Reach = &reaches[number];
            Some(ImageSummary {
                name: entry.full_name().map(str::to_owned),
                ref_name: entry.ref_name().map(str::to_owned),
                digest: descriptor.digest,
                media_type: descriptor.media_type.as_str().to_owned(),
                platforms: platforms(&descriptor, reach),
                size: reach.size,
                unique_size: reach.unique_size,
                absent_platforms: reach.absent_platforms,
                contents: contents(entry, &descriptor, reach.document.as_deref()),
            })
        };
        Ok(named.into_iter().filter_map(summary).collect())
    }

    /// The entry of `index.json` that `name` means: by its short name, else by its full name (also in its familiar
    /// form, `alpine` for `docker.io/library/alpine:latest`), else by its digest. Without a name it is the only image:
    /// signatures and other entries that are about another manifest do not count while there is an image.
    ///
    /// # Errors
    /// [`LayoutError::NoSuchImage`] when there is none, [`LayoutError::Ambiguous`] when there are several, with their names;
    /// [`LayoutError::Unreadable`] when `index.json` cannot be understood.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, LayoutError> {
        let index = self.index()?;
        self.meant(&index, name).map(|(_, descriptor)| descriptor)
    }

    /// The entries of `index.json` that `name` means, by the rules of [`Layout::find`]: several where the same image has
    /// the name more than once.
    ///
    /// # Errors
    /// As [`Layout::find`].
    pub fn entries_named(&self, name: &str) -> Result<Vec<Entry>, LayoutError> {
        let index = self.index()?;
        self.meant(&index, Some(name)).map(|(entries, _)| entries.into_iter().cloned().collect())
    }

    /// The entries that a name means, and the descriptor that all of them have.
    fn meant<'a>(
        &self,
        index: &'a IndexDocument,
        name: Option<&str>,
    ) -> Result<(Vec<&'a Entry>, Descriptor), LayoutError> {
        let entries = match name {
            Some(name) => by_name(index, name),
            None => self.only(index),
        };
        let found: Vec<&Entry> = entries.iter().copied().filter(|entry| entry.digest().is_some()).collect();
        match found.split_first() {
            // The same bytes under two names are one image.
            Some((first, others)) if others.iter().all(|other| other.digest() == first.digest()) => {
                let descriptor = first.descriptor().expect("invariant: what has a digest is a descriptor");
                Ok((entries, descriptor))
            }
            Some(_) => {
                let what = name.map_or_else(
                    || "it holds several images".to_owned(),
                    |name| format!("\"{}\" means several images", printable(name)),
                );
                let reason = format!("{what}: {}", listed(found.iter().copied()));
                Err(LayoutError::Ambiguous { path: self.root().to_path_buf(), reason })
            }
            None => {
                let what = name.map_or_else(
                    || "it holds no image".to_owned(),
                    |name| format!("no image \"{}\"", printable(name)),
                );
                let all: Vec<_> = index.entries().iter().filter(|entry| entry.digest().is_some()).collect();
                let there =
                    if all.is_empty() { String::new() } else { format!("; it holds {}", listed(all)) };
                let reason = format!("{what}{there}");
                Err(LayoutError::NoSuchImage { path: self.root().to_path_buf(), reason })
            }
        }
    }

    /// What may be meant when no name says which image.
    fn only<'a>(&self, index: &'a IndexDocument) -> Vec<&'a Entry> {
        let all: Vec<&Entry> = index.entries().iter().collect();
        let digests: BTreeSet<Digest> = all.iter().filter_map(|entry| entry.digest()).collect();
        if digests.len() < 2 {
            return all;
        }
        let mut have_subjects: HashMap<Digest, bool> = HashMap::new();
        let mut is_image = |entry: &&Entry| {
            let Ok(descriptor) = entry.descriptor() else { return false };
            if referrers::tags(entry).iter().any(|tag| Role::of_tag(tag).is_some()) {
                return false;
            }
            !*have_subjects.entry(descriptor.digest).or_insert_with(|| {
                self.manifest(&descriptor).is_ok_and(|manifest| manifest.subject().is_some())
            })
        };
        let images: Vec<&Entry> = all.iter().copied().filter(|entry| is_image(entry)).collect();
        if images.is_empty() { all } else { images }
    }
}

/// The platforms of an entry: what it declares itself, where it is one image.
fn platforms(descriptor: &Descriptor, reach: &Reach) -> Vec<String> {
    let declared = descriptor.platform.as_ref().filter(|platform| !platform.is_empty());
    match reach.document.as_deref().map(|document| &document.content) {
        Some(Content::Image { .. }) if declared.is_some() => reach::shown(declared).into_iter().collect(),
        _ => reach.platforms.iter().map(|platform| (**platform).to_owned()).collect(),
    }
}

/// What an entry is by its tag, else by its manifest, else by its descriptor.
fn contents(entry: &Entry, descriptor: &Descriptor, document: Option<&Document>) -> Contents {
    let role = referrers::tags(entry).iter().find_map(|tag| Role::of_tag(tag));
    let content = document.map(|document| &document.content);
    let is_index =
        content.map_or(descriptor.media_type.is_index(), |content| matches!(content, Content::Index(_)));
    if role == Some(Role::Fallback) && is_index {
        return Contents::Referrers;
    }
    let is_image = matches!(content, Some(Content::Image { is_image: true, .. }));
    let of_document = document.and_then(|document| {
        // The type of an image's config says nothing of what it is.
        if is_image { document.stated_type.as_deref() } else { document.artifact_type.as_deref() }
    });
    let stated = of_document.or(descriptor.artifact_type.as_deref()).filter(|text| !text.is_empty());
    let of_tag = || role.filter(|_| !is_index)?.artifact_type();
    match stated.map(str::to_owned).or_else(of_tag) {
        Some(artifact_type) => Contents::Artifact { artifact_type },
        None => Contents::Image,
    }
}

/// The entries that a name means. The first kind of name that fits anything decides, as with `oci:DIR:NAME` of skopeo.
fn by_name<'a>(index: &'a IndexDocument, name: &str) -> Vec<&'a Entry> {
    let fitting = |fits: &dyn Fn(&Entry) -> bool| -> Vec<&'a Entry> {
        index.entries().iter().filter(|entry| entry.digest().is_some() && fits(entry)).collect()
    };
    let by_ref_name = fitting(&|entry| entry.ref_name() == Some(name));
    if !by_ref_name.is_empty() {
        return by_ref_name;
    }
    let canonical = name.parse::<Reference>().ok().map(|reference| reference.full_name());
    let by_full_name = fitting(&|entry| {
        entry.full_name().is_some_and(|full| full == name || Some(full) == canonical.as_deref())
    });
    if !by_full_name.is_empty() {
        return by_full_name;
    }
    name.parse::<Digest>()
        .map_or_else(|_| Vec::new(), |digest| fitting(&|entry| entry.digest() == Some(digest)))
}

fn listed<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let entries: Vec<&Entry> = entries.into_iter().collect();
    let more = entries.len().saturating_sub(LISTED);
    let names: Vec<String> = entries.into_iter().take(LISTED).filter_map(shown).collect();
    let names = names.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}

fn shown(entry: &Entry) -> Option<String> {
    let descriptor = entry.descriptor().ok()?;
    let annotation = |key| descriptor.annotations.get(key).filter(|text| !text.is_empty());
    let name = annotation(super::index::REF_NAME).or_else(|| annotation(super::index::FULL_NAME));
    let platform =
        descriptor.platform.as_ref().map(|platform| format!(" for {}", printable(&platform.to_string())));
    let platform = platform.unwrap_or_default();
    Some(match name {
        Some(name) => format!("\"{}\" ({}{platform})", printable(name), descriptor.digest.short()),
        None => format!("{}{platform}", descriptor.digest),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
            fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
            Self(folder)
        }

        fn put(&self, content: &str, media_type: &str) -> Value {
            let digest = Digest::sha256(content.as_bytes());
            fs::write(self.0.path().join("blobs/sha256").join(digest.hex()), content).unwrap();
            json!({"mediaType": media_type, "digest": digest, "size": content.len()})
        }

        /// An image for `platform` with the given layers; its manifest's descriptor names no platform.
        fn image(&self, architecture: &str, layers: &[&str]) -> Value {
            let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::sha256(layer.as_bytes())).collect();
            let config = json!({"os": "linux", "architecture": architecture,
                "rootfs": {"type": "layers", "diff_ids": diff_ids}});
            let config = self.put(&config.to_string(), "application/vnd.oci.image.config.v1+json");
            let layers: Vec<_> = layers
                .iter()
                .map(|layer| self.put(layer, "application/vnd.oci.image.layer.v1.tar"))
                .collect();
            let manifest =
                json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
            self.put(&manifest.to_string(), MANIFEST)
        }

        fn layout(&self, entries: &[Value]) -> Layout {
            let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
            fs::write(self.0.path().join("index.json"), index).unwrap();
            Layout::open(self.0.path()).unwrap()
        }

        fn remove(&self, descriptor: &Value) {
            let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
            fs::remove_file(self.0.path().join("blobs/sha256").join(digest.hex())).unwrap();
        }
    }

    fn named(mut descriptor: Value, full: Option<&str>, short: Option<&str>) -> Value {
        let annotations = [("io.containerd.image.name", full), ("org.opencontainers.image.ref.name", short)];
        let given = annotations.into_iter().filter_map(|(key, name)| name.map(|name| (key, name)));
        descriptor["annotations"] = json!(given.collect::<BTreeMap<_, _>>());
        descriptor
    }

    fn size(descriptor: &Value) -> u64 {
        descriptor["size"].as_u64().unwrap()
    }

    /// A shared layer counts for both images and is unique to neither; names, platforms and sizes are those of the layout.
    #[test]
    fn sizes_say_what_images_share() {
        let fixture = Fixture::new();
        let first = fixture.image("x86_64", &["shared layer", "mine"]);
        let second = fixture.image("arm64", &["shared layer", "theirs, longer"]);
        let layout = fixture.layout(&[
            named(first.clone(), Some("docker.io/library/a:1"), Some("1")),
            named(second.clone(), None, Some("2")),
            json!({"digest": "nonsense"}),
        ]);
        let images = layout.images().unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images[0].name.as_deref(), Some("docker.io/library/a:1"));
        assert_eq!((images[1].name.as_deref(), images[1].ref_name.as_deref()), (None, Some("2")));
        assert_eq!(
            (images[0].platforms[0].as_str(), images[1].platforms[0].as_str()),
            ("linux/amd64", "linux/arm64")
        );
        for image in &images {
            assert_eq!(image.size - image.unique_size, "shared layer".len() as u64);
        }
        let json = serde_json::to_value(&images[0]).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "refName", "digest", "mediaType", "platforms", "size", "uniqueSize"]);
        // The same image under two names is unique to neither.
        let twice = fixture.layout(&[named(first.clone(), None, Some("a")), named(first, None, Some("b"))]);
        assert!(twice.images().unwrap().iter().all(|image| image.unique_size == 0));
    }

    /// Of an index, what is there counts; a bad document makes the listing poorer and no more.
    #[test]
    fn sparse_and_bad_images_are_listed() {
        let fixture = Fixture::new();
        let (here, gone) = (fixture.image("amd64", &["a"]), fixture.image("arm64", &["b"]));
        let attestation = json!({"os": "unknown", "architecture": "unknown"});
        let mut unknown = fixture.image("amd64", &["c"]);
        unknown["platform"] = attestation;
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [here, gone, unknown]});
        let index = fixture.put(&index.to_string(), INDEX);
        fixture.remove(&gone);
        let layout = fixture.layout(std::slice::from_ref(&index));
        let images = layout.images().unwrap();
        assert_eq!(images[0].platforms, ["linux/amd64"]);
        assert!(images[0].size > size(&index) + size(&here) && images[0].size == images[0].unique_size);
        fixture.remove(&index);
        assert_eq!((layout.images().unwrap()[0].size, images[0].digest), (0, images[0].digest));
    }

    /// Short names come before full ones, then digests; what is ambiguous or not there lists what is.
    #[test]
    fn names_are_looked_up_in_order() {
        let fixture = Fixture::new();
        let [a, b, c] = ["a", "b", "c"].map(|content| fixture.image("amd64", &[content]));
        let layout = fixture.layout(&[
            named(a.clone(), Some("docker.io/library/alpine:3.20"), Some("3.20")),
            named(b.clone(), Some("quay.io/x/y:1"), Some("docker.io/library/alpine:3.20")),
            named(c.clone(), Some("quay.io/x/y:1"), None),
            named(c.clone(), Some("quay.io/x/z:1"), None),
        ]);
        let found = |name: &str| layout.find(Some(name)).map(|found| found.digest.to_string());
        assert_eq!(found("3.20").unwrap(), a["digest"]);
        assert_eq!(found("docker.io/library/alpine:3.20").unwrap(), b["digest"], "the short name wins");
        assert_eq!(found("alpine:3.20").unwrap(), a["digest"]);
        assert_eq!(found("quay.io/x/z:1").unwrap(), c["digest"]);
        assert_eq!(found(c["digest"].as_str().unwrap()).unwrap(), c["digest"]);
        for (name, wanted) in [
            (
                Some("quay.io/x/y:1"),
                "\"quay.io/x/y:1\" means several images: \"docker.io/library/alpine:3.20\" (sha256:",
            ),
            (Some("nope\n"), "no image \"nope\\n\"; it holds \"3.20\" (sha256:"),
            (None, "it holds several images: \"3.20\" (sha256:"),
        ] {
            let error = layout.find(name).unwrap_err();
            let is_ambiguous = wanted.contains("several images");
            assert_eq!(matches!(error, LayoutError::Ambiguous { .. }), is_ambiguous, "{error}");
            assert_eq!(matches!(error, LayoutError::NoSuchImage { .. }), !is_ambiguous, "{error}");
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    /// Without a name there is nothing to choose where there is one image, under however many names, and none in an
    /// empty layout.
    #[test]
    fn the_only_image_needs_no_name() {
        let fixture = Fixture::new();
        let only = fixture.image("amd64", &["a"]);
        let one = fixture.layout(&[named(only.clone(), None, Some("x")), named(only.clone(), None, None)]);
        assert_eq!(one.find(None).unwrap().digest.to_string(), only["digest"]);
        let tag = only["digest"].as_str().unwrap().replace(':', "-");
        let about = json!({"schemaVersion": 2, "subject": only,
            "config": fixture.put("{}", "application/vnd.oci.empty.v1+json")});
        let about = fixture.put(&about.to_string(), MANIFEST);
        let signature = named(fixture.image("", &["s"]), None, Some(&format!("{tag}.sig")));
        let signed = fixture.layout(&[about.clone(), only.clone(), signature.clone()]);
        assert_eq!(signed.find(None).unwrap().digest.to_string(), only["digest"]);
        assert!(fixture.layout(&[about, signature]).find(None).is_err(), "two, and neither is an image");
        let empty = fixture.layout(&[]);
        assert!(empty.find(None).unwrap_err().to_string().ends_with("it holds no image"));
        assert!(empty.find(Some("x")).unwrap_err().to_string().ends_with("no image \"x\""));
    }

    /// A sparse index says how many of its platforms are there, whatever the reason, each counted once.
    #[test]
    fn absent_platforms_are_counted() {
        let fixture = Fixture::new();
        let entry = |mut descriptor: Value, os: &str, architecture: &str| {
            descriptor["platform"] = json!({"os": os, "architecture": architecture});
            descriptor
        };
        let gone =
            |name: &str| json!({"mediaType": MANIFEST, "digest": Digest::sha256(name.as_bytes()), "size": 1});
        let manifests = [
            entry(fixture.image("amd64", &["a"]), "linux", "amd64"),
            entry(gone("twice"), "linux", "x86_64"),
            entry(gone("arm"), "linux", "arm64"),
            entry(gone("arm again"), "linux", "aarch64"),
            entry(gone("attestation"), "unknown", "unknown"),
            gone("undeclared"),
        ];
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let images = fixture.layout(&[fixture.put(&index.to_string(), INDEX)]).images().unwrap();
        assert_eq!(
            (images[0].platforms.as_slice(), images[0].absent_platforms),
            (&["linux/amd64".to_owned()][..], 1)
        );
    }

    /// What is no image for a platform is shown as what it is: by its manifest, else by cosign's tag.
    #[test]
    fn artifacts_are_listed_as_what_they_are() {
        let fixture = Fixture::new();
        let artifact = |config_type: &str, artifact_type: Option<&str>| {
            let config = fixture.put("{}", config_type);
            let manifest = json!({"schemaVersion": 2, "config": config, "artifactType": artifact_type});
            fixture.put(&manifest.to_string(), MANIFEST)
        };
        let chart = "application/vnd.cncf.helm.config.v1+json";
        let tag = format!("sha256-{}", Digest::sha256(b"subject").hex());
        let index = fixture.put(&json!({"schemaVersion": 2, "manifests": []}).to_string(), INDEX);
        let kind = |artifact_type: &str| Contents::Artifact { artifact_type: artifact_type.to_owned() };
        let cases = [
            (artifact(chart, None), kind(chart)),
            (artifact("application/vnd.oci.empty.v1+json", Some("a/b")), kind("a/b")),
            (fixture.image("amd64", &["a"]), Contents::Image),
            (
                named(fixture.image("", &["b"]), None, Some(&format!("{tag}.sig"))),
                kind("application/vnd.dev.cosign.artifact.sig.v1+json"),
            ),
            (named(index.clone(), None, Some(&tag)), Contents::Referrers),
            (named(index, None, Some("1.0")), Contents::Image),
        ];
        let layout = fixture.layout(&cases.clone().map(|(entry, _)| entry));
        for (image, (entry, wanted)) in layout.images().unwrap().iter().zip(cases) {
            assert_eq!(image.contents, wanted, "{entry}");
        }
    }

    /// SIZE is what an image takes here: a layer that is not there takes nothing, whatever its descriptor claims.
    #[test]
    fn sizes_are_those_of_files() {
        let fixture = Fixture::new();
        let config = json!({"os": "windows", "architecture": "amd64", "rootfs": {"diff_ids": []}});
        let config = fixture.put(&config.to_string(), "application/vnd.oci.image.config.v1+json");
        let layer = json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": Digest::sha256(b"layer"), "size": 1_000_000, "urls": ["https://example.com"]});
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let manifest = fixture.put(&manifest.to_string(), MANIFEST);
        let mut skipped = manifest.clone();
        skipped["annotations"] = json!({"io.ocipull.foreign-layers": "skipped"});
        let images = fixture.layout(&[skipped, manifest.clone()]).images().unwrap();
        assert_eq!(images[0].size, size(&manifest) + size(&config));
        assert_eq!(images[1].size, images[0].size);
        let mut claims = fixture.image("amd64", &["layer"]);
        let honest = fixture.layout(std::slice::from_ref(&claims)).images().unwrap();
        claims["size"] = json!(1_u64 << 40);
        assert_eq!(fixture.layout(&[claims]).images().unwrap()[0].size, honest[0].size);
    }

    /// Thousands of names for one large image cost what one costs: each document is read once, and nothing is kept for
    /// each name but its line.
    #[test]
    fn many_names_of_one_image_are_listed_at_once() {
        let fixture = Fixture::new();
        let layers: Vec<_> = (0..20_000)
            .map(|at| json!({"mediaType": "l", "digest": Digest::sha256(format!("{at}").as_bytes()), "size": 1}))
            .collect();
        let config = fixture.put("{}", "application/vnd.oci.empty.v1+json");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        let manifest = fixture.put(&manifest, MANIFEST);
        let names: Vec<_> =
            (0..5000).map(|at| named(manifest.clone(), None, Some(&at.to_string()))).collect();
        let images = fixture.layout(&names).images().unwrap();
        assert_eq!(images.len(), names.len());
        assert!(images.iter().all(|image| image.size == size(&manifest) + 2 && image.unique_size == 0));
    }

    /// What two indexes share is unique to neither, and what one nested index holds counts once for whoever lists it twice.
    #[test]
    fn shared_indexes_count_once() {
        let fixture = Fixture::new();
        let image = fixture.image("amd64", &["a"]);
        let index = |children: &[&Value], name: &str| {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children,
                "annotations": {"name": name}});
            fixture.put(&index.to_string(), INDEX)
        };
        let nested = index(&[&image], "nested");
        let (one, two) = (index(&[&nested, &nested], "one"), index(&[&image, &nested], "two"));
        let alone = fixture.layout(std::slice::from_ref(&one)).images().unwrap().remove(0);
        assert_eq!((alone.size, alone.platforms.len()), (alone.unique_size, 1));
        let both = fixture.layout(&[one.clone(), two.clone()]).images().unwrap();
        assert_eq!((both[0].size, both[0].unique_size), (alone.size, size(&one)));
        assert_eq!(both[1].unique_size, size(&two));
    }
}
