//! Fetches that are worth being interrupted: what the registry has, and what stands in the folder before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::{
    Built, Fault, FaultRegistry, KIB, MIB, Outcome, PushedImage, TestContext, image, index, random_from,
    text, write_layout,
};

/// How many connections each fetch has.
pub(crate) const CONNECTIONS: u64 = 2;

/// A fetch, ready to be run again and again.
pub(crate) struct Scene {
    pub(crate) registry: FaultRegistry,
    pub(crate) pushed: PushedImage,
    options: &'static [&'static str],
    /// Writes what is there before.
    before: fn(&Self, &Path),
    /// The blobs that a fetch downloads into an empty folder, by digest; a config is all zeros, only its length counts.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// Which of them are there before.
    pub(crate) held: BTreeSet<String>,
    /// Whether the registry sends a blob as a whole only, so that what was begun is begun anew.
    pub(crate) is_encoded: bool,
}

/// Which scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An image into a folder that is not there: layers of one and of several segments.
    New,
    /// An index of two platforms into a layout with another tool's image, one of whose layers is shared.
    Beside,
    /// What a killed fetch left is completed.
    Resumed,
    /// A body with a `Content-Encoding` that nobody asked for, which is kept aside first.
    Encoded,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::New, Self::Beside, Self::Resumed, Self::Encoded];
}

impl Scene {
    /// A registry of its own with everything that the scene needs.
    pub(crate) fn new(kind: Kind) -> Self {
        let registry = FaultRegistry::start();
        let (pushed, before, options, held): (_, fn(&Self, &Path), &'static [_], _) = match kind {
            Kind::New => (registry.push(large()), |_, _| (), &[][..], BTreeSet::new()),
            Kind::Resumed => (registry.push(large()), half_of_it, &[], BTreeSet::new()),
            Kind::Encoded => {
                let pushed = registry.push(image().layer(random_from(3, 200 * KIB)).layer("small"));
                registry.on_blob(pushed.layer(0)).always(Fault::ContentEncoding("gzip"));
                (pushed, |_: &Self, _: &Path| (), &[], BTreeSet::new())
            }
            Kind::Beside => {
                let pushed = registry.push(
                    index()
                        .manifest(
                            image().platform("linux/amd64").layer(shared()).layer("amd64"),
                            "linux/amd64",
                        )
                        .manifest(
                            image().platform("linux/arm64").layer(shared()).layer("arm64"),
                            "linux/arm64",
                        ),
                );
                let held = BTreeSet::from([pushed.child(0).layer(0).to_owned()]);
                (pushed, |_: &Self, out: &Path| others(out), &["--all-platforms"], held)
            }
        };
        let children = match kind {
            Kind::Beside => vec![pushed.child(0), pushed.child(1)],
            _ => vec![pushed.clone()],
        };
        let blobs = children.iter().flat_map(blobs_of).collect();
        let is_encoded = kind == Kind::Encoded;
        Self { registry, pushed, options, before, blobs, held, is_encoded }
    }

    /// A folder with what is there before.
    pub(crate) fn set(&self) -> TestContext {
        let context = TestContext::in_memory();
        (self.before)(self, &context.out());
        context
    }

    /// The same with an image of another tool's, named `theirs`, in any case.
    pub(crate) fn set_beside_theirs(&self) -> TestContext {
        let context = self.set();
        // Where blobs are there before, they are of that image.
        if self.held.is_empty() {
            write_layout(&context.out(), "theirs", theirs());
        }
        context
    }

    /// Runs the fetch, with variables of the environment.
    pub(crate) fn fetch(&self, context: &TestContext, variables: &[(&str, &str)]) -> Outcome {
        let mut run = self.command(context);
        for (name, value) in variables {
            run = run.env(name, value);
        }
        run.run()
    }

    /// The fetch, about to start.
    pub(crate) fn command<'a>(&self, context: &'a TestContext) -> crate::support::Run<'a> {
        let connections = CONNECTIONS.to_string();
        let run = context.fetch(&self.registry, &self.pushed).args(["--connections", &connections]);
        run.args(["--segment-size", "1MiB"]).args(self.options)
    }
}

/// A layer of three segments, one of a part of a segment, and two small ones.
fn large() -> Built {
    let layers = [random_from(1, 5 * MIB / 2), random_from(2, 200 * KIB), b"small".to_vec(), text(20_000)];
    layers.into_iter().fold(image(), |image, layer: Vec<u8>| image.layer(&layer)).into()
}

fn shared() -> Vec<u8> {
    random_from(4, 100 * KIB)
}

/// An image that another tool left.
pub(crate) fn theirs() -> Built {
    image().layer(shared()).layer("theirs").into()
}

/// What another tool left: an image whose layer the fetched ones share, and fields that nobody here knows.
fn others(out: &Path) {
    write_layout(out, "theirs", theirs());
    let path = out.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["x-field"] = serde_json::json!({ "kept": [1.0, null] });
    fs::write(path, index.to_string()).unwrap();
}

/// A layout with the first and the last part of the largest layer staged, and nothing else.
fn half_of_it(scene: &Scene, out: &Path) {
    fs::create_dir_all(out.join("blobs/sha256")).unwrap();
    fs::create_dir(out.join(".ocipull")).unwrap();
    fs::write(out.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(out.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let digest = scene.pushed.layer(0);
    let mut bytes = scene.pushed.layer_bytes(0).to_vec();
    let (first, last) = (MIB + 17, bytes.len() - 300 * KIB);
    bytes[first..last].fill(0);
    let part = out.join(".ocipull").join(format!("{}.part", digest.replace(':', "-")));
    let lines = [
        format!("ocipull-journal 1 {digest} {}", bytes.len()),
        "owner 4711".to_owned(),
        format!("have 0 {first}"),
        format!("have {last} {}", bytes.len()),
    ];
    fs::write(part.with_extension("journal"), lines.map(|line| checked(&line)).concat()).unwrap();
    fs::write(part, bytes).unwrap();
}

/// A line of a journal, with its checksum.
pub(crate) fn checked(line: &str) -> String {
    let mut checksum = flate2::Crc::new();
    checksum.update(line.as_bytes());
    format!("{line} {:08x}\n", checksum.sum())
}

fn blobs_of(image: &PushedImage) -> Vec<(String, Vec<u8>)> {
    let layers = image.layers().into_iter().enumerate();
    let mut blobs: Vec<_> =
        layers.map(|(at, digest)| (digest.to_owned(), image.layer_bytes(at).to_vec())).collect();
    let document: serde_json::Value = serde_json::from_slice(image.document()).unwrap();
    let config = document["config"]["size"].as_u64().unwrap();
    blobs.push((image.config().to_owned(), vec![0; usize::try_from(config).unwrap()]));
    blobs
}
