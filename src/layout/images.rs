//! The images of a layout: what `index.json` names, how large each one is, and which one a name means.
//!
//! Everything here is tolerant. A listing is what somebody asks for when a layout is in doubt, so a blob that is missing
//! or bad makes the listing poorer, never an error; `check` is there to say what is wrong. Sizes are those that
//! descriptors claim.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::index::{Entry, IndexDocument};
use super::{Layout, LayoutError};
use crate::digest::Digest;
use crate::manifest::{CONFIG_CAP, Descriptor, ImageConfig, ImageManifest, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::text::printable;

/// How deep nested indexes are followed, as for a fetch.
pub(crate) const DEEPEST: usize = 8;

/// How many entries all indexes below one entry of `index.json` may have together, as for a fetch.
pub(crate) const MOST_ENTRIES: usize = 10_000;

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
    /// The platforms whose manifests are there, normalised, in the index's order.
    pub platforms: Vec<String>,
    /// The bytes of everything that it refers to, itself included, each blob counted once.
    pub size: u64,
    /// The bytes that no other entry of `index.json` refers to.
    pub unique_size: u64,
}

impl Layout {
    /// The images that `index.json` names, in its order. Entries that are no descriptors are left out.
    ///
    /// # Errors
    /// [`LayoutError::Unreadable`] when `index.json` cannot be understood.
    pub fn images(&self) -> Result<Vec<ImageSummary>, LayoutError> {
        let index = self.index()?;
        let named: Vec<(&Entry, &Descriptor, Reach)> = index
            .entries()
            .iter()
            .filter_map(|entry| entry.descriptor().ok().map(|descriptor| (entry, descriptor)))
            .map(|(entry, descriptor)| (entry, descriptor, self.reach(descriptor)))
            .collect();
        let mut reached: BTreeMap<Digest, usize> = BTreeMap::new();
        for digest in named.iter().flat_map(|(_, _, reach)| reach.blobs.keys()) {
            *reached.entry(*digest).or_default() += 1;
        }
        let is_unique = |digest: &Digest| reached.get(digest) == Some(&1);
        let summary = |(entry, descriptor, reach): (&Entry, &Descriptor, Reach)| ImageSummary {
            name: entry.full_name().map(str::to_owned),
            ref_name: entry.ref_name().map(str::to_owned),
            digest: descriptor.digest,
            media_type: descriptor.media_type.as_str().to_owned(),
            size: sum(reach.blobs.values()),
            unique_size: sum(reach
                .blobs
                .iter()
                .filter(|(digest, _)| is_unique(digest))
                .map(|(_, size)| size)),
            platforms: reach.platforms,
        };
        Ok(named.into_iter().map(summary).collect())
    }

    /// The entry of `index.json` that `name` means: by its short name, else by its full name (also in its familiar
    /// form, `alpine` for `docker.io/library/alpine:latest`), else by its digest. Without a name it is the only entry.
    ///
    /// # Errors
    /// [`LayoutError::NoSuchImage`] when there is none, [`LayoutError::Ambiguous`] when there are several, with their names;
    /// [`LayoutError::Unreadable`] when `index.json` cannot be understood.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, LayoutError> {
        let index = self.index()?;
        let found = match name {
            Some(name) => by_name(&index, name),
            None => index.entries().iter().filter_map(|entry| entry.descriptor().ok()).collect(),
        };
        match found.split_first() {
            // The same bytes under two names are one image.
            Some((first, others)) if others.iter().all(|other| other.digest == first.digest) => {
                Ok((*first).clone())
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
                let all: Vec<_> =
                    index.entries().iter().filter_map(|entry| entry.descriptor().ok()).collect();
                let there =
                    if all.is_empty() { String::new() } else { format!("; it holds {}", listed(all)) };
                let reason = format!("{what}{there}");
                Err(LayoutError::NoSuchImage { path: self.root().to_path_buf(), reason })
            }
        }
    }

    fn reach(&self, descriptor: &Descriptor) -> Reach {
        let mut reach = Reach::default();
        reach.follow(self, descriptor, 1);
        reach
    }
}

/// The entries that a name means. The first kind of name that fits anything decides, as with `oci:DIR:NAME` of skopeo.
fn by_name<'a>(index: &'a IndexDocument, name: &str) -> Vec<&'a Descriptor> {
    let fitting = |fits: &dyn Fn(&Entry, &Descriptor) -> bool| -> Vec<&'a Descriptor> {
        let entries = index.entries().iter();
        let described =
            entries.filter_map(|entry| entry.descriptor().ok().map(|descriptor| (entry, descriptor)));
        described
            .filter(|(entry, descriptor)| fits(entry, descriptor))
            .map(|(_, descriptor)| descriptor)
            .collect()
    };
    let by_ref_name = fitting(&|entry, _| entry.ref_name() == Some(name));
    if !by_ref_name.is_empty() {
        return by_ref_name;
    }
    let canonical = name.parse::<Reference>().ok().map(|reference| reference.full_name());
    let by_full_name = fitting(&|entry, _| {
        entry.full_name().is_some_and(|full| full == name || Some(full) == canonical.as_deref())
    });
    if !by_full_name.is_empty() {
        return by_full_name;
    }
    name.parse::<Digest>()
        .map_or_else(|_| Vec::new(), |digest| fitting(&|_, descriptor| descriptor.digest == digest))
}

fn listed<'a>(descriptors: impl IntoIterator<Item = &'a Descriptor>) -> String {
    let mut names: Vec<String> = descriptors.into_iter().map(shown).collect();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let names = names.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}

fn shown(descriptor: &Descriptor) -> String {
    let annotation = |key| descriptor.annotations.get(key).filter(|text| !text.is_empty());
    let name = annotation(super::index::REF_NAME).or_else(|| annotation(super::index::FULL_NAME));
    let platform =
        descriptor.platform.as_ref().map(|platform| format!(" for {}", printable(&platform.to_string())));
    match name {
        Some(name) => {
            format!("\"{}\" ({}{})", printable(name), descriptor.digest.short(), platform.unwrap_or_default())
        }
        None => format!("{}{}", descriptor.digest, platform.unwrap_or_default()),
    }
}

fn sum<'a>(sizes: impl Iterator<Item = &'a u64>) -> u64 {
    sizes.fold(0, |sum, size| sum.saturating_add(*size))
}

/// What an entry of `index.json` refers to, as far as its documents can be read.
#[derive(Default)]
struct Reach {
    blobs: BTreeMap<Digest, u64>,
    platforms: Vec<String>,
    followed: BTreeSet<Digest>,
    entries: usize,
}

impl Reach {
    fn follow(&mut self, layout: &Layout, descriptor: &Descriptor, depth: usize) {
        self.blobs.insert(descriptor.digest, descriptor.size);
        // Below the deepest index there may be a manifest yet.
        if depth > DEEPEST + 1 || !self.followed.insert(descriptor.digest) {
            return;
        }
        match layout.manifest(descriptor) {
            Ok(Manifest::Image(manifest)) => self.image(layout, descriptor, &manifest),
            Ok(Manifest::Index(index)) if depth <= DEEPEST => {
                self.entries = self.entries.saturating_add(index.manifests().len());
                if self.entries > MOST_ENTRIES {
                    return;
                }
                for child in index.manifests() {
                    // A sparse layout holds the manifests of some platforms only.
                    if layout.blob_path(&child.digest).is_file() {
                        self.follow(layout, child, depth + 1);
                    }
                }
            }
            _ => {}
        }
    }

    fn image(&mut self, layout: &Layout, descriptor: &Descriptor, manifest: &ImageManifest) {
        for blob in manifest.layers().iter().chain([manifest.config()]) {
            self.blobs.insert(blob.digest, blob.size);
        }
        let declared = descriptor.platform.clone().filter(|platform| !platform.is_empty());
        let platform =
            declared.or_else(|| platform_of_config(layout, manifest)).map(|platform| platform.normalize());
        let Some(platform) = platform.filter(|platform| !platform.is_empty() && !platform.is_unknown())
        else {
            return;
        };
        let platform = platform.to_string();
        if !self.platforms.contains(&platform) {
            self.platforms.push(platform);
        }
    }
}

fn platform_of_config(layout: &Layout, manifest: &ImageManifest) -> Option<Platform> {
    if !manifest.is_image() {
        return None;
    }
    let raw = layout.read_blob(&manifest.config().digest, CONFIG_CAP as u64).ok()?;
    Some(ImageConfig::parse(&raw).ok()?.platform)
}

#[cfg(test)]
mod tests {
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
        assert_eq!((layout.images().unwrap()[0].size, images[0].digest), (size(&index), images[0].digest));
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
        let empty = fixture.layout(&[]);
        assert!(empty.find(None).unwrap_err().to_string().ends_with("it holds no image"));
        assert!(empty.find(Some("x")).unwrap_err().to_string().ends_with("no image \"x\""));
    }
}
