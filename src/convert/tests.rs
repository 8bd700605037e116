use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::*;
use crate::check;
use crate::digest::Algorithm;
use crate::failure::{Failure as _, Kind};
use crate::layout::LayoutError;
use crate::layout::index::SOURCE_DIGEST;
use crate::progress::NullReporter;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layout in a folder that goes away.
struct Fixture {
    folder: tempfile::TempDir,
    entries: Vec<Value>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for algorithm in Algorithm::ALL {
            fs::create_dir_all(folder.path().join("blobs").join(algorithm.name())).unwrap();
        }
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { folder, entries: Vec::new() }
    }

    fn path(&self, descriptor: &Value) -> PathBuf {
        self.folder.path().join("blobs").join(text(&descriptor["digest"]).replace(':', "/"))
    }

    fn put(&self, bytes: &[u8], media_type: &str) -> Value {
        self.put_in(Algorithm::Sha256, bytes, media_type)
    }

    fn put_in(&self, algorithm: Algorithm, bytes: &[u8], media_type: &str) -> Value {
        let digest = algorithm.digest(bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        fs::write(self.path(&descriptor), bytes).unwrap();
        descriptor
    }

    fn put_json(&self, value: &Value) -> Value {
        self.put(value.to_string().as_bytes(), text(&value["mediaType"]))
    }

    fn config(&self, media_type: &str, diff_ids: &[Value]) -> Value {
        let config = json!({"os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        self.put(config.to_string().as_bytes(), media_type)
    }

    fn manifest(&self, config: &Value, layers: &[&Value]) -> Value {
        self.put_json(&json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}))
    }

    /// A Docker image of one plain layer.
    fn image(&self, content: &str) -> Value {
        let layer = self.put(content.as_bytes(), LAYER);
        self.manifest(&self.config(CONFIG, &[layer["digest"].clone()]), &[&layer])
    }

    fn index(&self, media_type: &str, manifests: &[&Value]) -> Value {
        self.put_json(&json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}))
    }

    fn name(&mut self, descriptor: &Value, name: &str, annotations: &Value) {
        let mut entry = descriptor.clone();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        for (key, value) in annotations.as_object().into_iter().flatten() {
            entry["annotations"][key] = value.clone();
        }
        self.entries.push(entry);
    }

    fn layout(&self) -> Layout {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.folder.path().join("index.json"), index.to_string()).unwrap();
        Layout::open(self.folder.path()).unwrap()
    }

    fn convert(&self, name: Option<&str>) -> Result<Report, ConvertError> {
        to_oci(&self.layout(), name, &Options::default(), &quiet())
    }

    /// Converts, holds the layout against `check`, and that a second time changes nothing.
    fn converted(&self, name: Option<&str>) -> Report {
        let report = self.convert(name).unwrap_or_else(|error| panic!("{error:?}"));
        let layout = Layout::open(self.folder.path()).unwrap();
        let checked = check::check(&layout, &Options::default(), &quiet()).unwrap();
        assert!(checked.ok, "{:?}", checked.findings);
        let before = self.files();
        let again = to_oci(&layout, name, &Options::default(), &quiet()).unwrap();
        assert!(again.images.iter().all(|image| image.status == Status::Unchanged), "{again:?}");
        assert_eq!(self.files(), before);
        report
    }

    /// Every file with its content.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = walkdir::WalkDir::new(self.folder.path()).sort_by_file_name().into_iter();
        let files = files.map(|entry| entry.unwrap().into_path()).filter(|path| path.is_file());
        files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// The entries of `index.json` as they are now.
    fn now(&self) -> Vec<Value> {
        let index: Value =
            serde_json::from_slice(&fs::read(self.folder.path().join("index.json")).unwrap()).unwrap();
        index["manifests"].as_array().unwrap().clone()
    }

    fn document(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(&fs::read(self.path(descriptor)).unwrap()).unwrap()
    }
}

fn quiet() -> Arc<dyn Reporter> {
    Arc::new(NullReporter)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// An entry names the converted manifest, keeps what it had, and says what it was.
#[test]
fn an_image_is_converted_in_place() {
    let mut fixture = Fixture::new();
    let source = fixture.image("layer");
    fixture.name(&source, "1", &json!({"com.example": "x"}));
    fixture.entries[0]["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let report = fixture.converted(None);
    let now = &fixture.now()[0];
    assert_eq!(now["mediaType"], OCI_MANIFEST);
    assert_eq!(now["platform"], fixture.entries[0]["platform"]);
    assert_eq!(
        now["annotations"],
        json!({SOURCE_DIGEST: source["digest"], "org.opencontainers.image.ref.name": "1", "com.example": "x"})
    );
    let (before, after) = (fixture.document(&source), fixture.document(now));
    assert_eq!(after["config"]["mediaType"], OCI_CONFIG);
    assert_eq!(after["layers"][0]["mediaType"], OCI_LAYER);
    assert_eq!(after["layers"][0]["digest"], before["layers"][0]["digest"]);
    assert!(fixture.path(&source).exists() && !fixture.folder.path().join(".ocipull").exists());
    let json = serde_json::to_value(&report.images[0]).unwrap();
    assert_eq!(
        json,
        json!({"name": null, "refName": "1", "status": "converted", "source": source,
            "descriptor": {"mediaType": OCI_MANIFEST, "digest": now["digest"], "size": now["size"]}})
    );
}

/// What is OCI already is not written again: its entry keeps every byte, and nothing is read but documents.
#[test]
fn oci_images_stay_as_they_are() {
    let mut fixture = Fixture::new();
    let layer = fixture.put(b"layer", OCI_LAYER);
    let config = fixture.config(OCI_CONFIG, &[layer["digest"].clone()]);
    // Without a mediaType of its own, as the image spec allows.
    let text = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
    let manifest = fixture.put(text.as_bytes(), OCI_MANIFEST);
    fixture.name(&manifest, "oci", &json!({}));
    let index = fixture.index(OCI_INDEX, &[&manifest]);
    fixture.name(&index, "index", &json!({}));
    fixture.layout();
    let before = fixture.files();
    fs::write(fixture.path(&layer), "gone bad").unwrap();
    let report = fixture.convert(None).unwrap();
    fs::write(fixture.path(&layer), "layer").unwrap();
    assert_eq!(fixture.files(), before);
    assert!(report.images.iter().all(|image| image.status == Status::Unchanged && image.source.is_none()));
    assert_eq!(report.images[0].descriptor.media_type.as_str(), OCI_MANIFEST);
}

/// Only the image that was named changes, under every entry that has it.
#[test]
fn a_name_picks_its_image() {
    let mut fixture = Fixture::new();
    let (one, two) = (fixture.image("one"), fixture.image("two"));
    fixture.name(&one, "a", &json!({}));
    fixture.name(&two, "b", &json!({}));
    fixture.name(&one, "c", &json!({}));
    let report = fixture.converted(Some("a"));
    assert_eq!(report.images.len(), 1);
    let types: Vec<_> = fixture.now().iter().map(|entry| text(&entry["mediaType"]).to_owned()).collect();
    assert_eq!(types, [OCI_MANIFEST, MANIFEST, MANIFEST]);
    let report = fixture.convert(Some(text(&one["digest"]))).unwrap();
    assert_eq!(report.images.len(), 2, "a digest means each entry of it");
    let digests: Vec<_> = fixture.now().iter().map(|entry| entry["digest"].clone()).collect();
    assert!(digests[0] == digests[2] && digests[1] == two["digest"]);
    let missing = fixture.convert(Some("nope")).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
}

/// A whole list: children first, nested ones too, shared ones once; the unknown stays.
#[test]
fn lists_are_converted_from_below() {
    let mut fixture = Fixture::new();
    let (one, two) = (fixture.image("one"), fixture.image("two"));
    let sbom = fixture.put(b"an SBOM", "application/spdx+json");
    let nested = fixture.index(LIST, &[&two, &one]);
    let list = fixture.index(LIST, &[&one, &nested, &sbom]);
    fixture.name(&list, "list", &json!({}));
    fixture.name(&one, "one", &json!({}));
    fixture.converted(None);
    let now = fixture.now();
    assert_eq!((&now[0]["mediaType"], &now[1]["mediaType"]), (&json!(OCI_INDEX), &json!(OCI_MANIFEST)));
    let list = fixture.document(&now[0]);
    assert_eq!(list["manifests"][0]["digest"], now[1]["digest"]);
    assert_eq!(list["manifests"][0]["mediaType"], OCI_MANIFEST);
    assert_eq!(list["manifests"][2], sbom);
    let nested = fixture.document(&list["manifests"][1]);
    assert_eq!(list["manifests"][1]["mediaType"], OCI_INDEX);
    assert_eq!(nested["manifests"][1]["digest"], now[1]["digest"]);
}

/// Of an index that is not whole, what is not there stays listed under its own digest.
#[test]
fn sparse_indexes_stay_sparse() {
    let mut fixture = Fixture::new();
    let platform = |mut image: Value, architecture: &str| {
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        image
    };
    let here = platform(fixture.image("here"), "amd64");
    let gone = platform(fixture.image("gone"), "arm64");
    let list = fixture.index(LIST, &[&here, &gone]);
    fs::remove_file(fixture.path(&gone)).unwrap();
    fixture.name(&list, "sparse", &json!({"io.ocipull.platforms": "linux/amd64"}));
    fixture.converted(None);
    let now = fixture.now();
    assert_eq!(now[0]["annotations"]["io.ocipull.platforms"], "linux/amd64");
    let index = fixture.document(&now[0]);
    assert_eq!(index["mediaType"], OCI_INDEX);
    assert_eq!(index["manifests"][1], gone);
    assert_ne!(index["manifests"][0]["digest"], here["digest"]);
    assert_eq!(index["manifests"][0]["platform"], here["platform"]);
}

/// An index that claims to be whole and lacks a manifest is not converted into one that lacks it for good; neither is one
/// that lacks what was taken, or that has something else in a manifest's place. What is known from another entry counts.
#[test]
fn what_should_be_there_is_missed() {
    let mut fixture = Fixture::new();
    let platform = |mut image: Value, architecture: &str| {
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        image
    };
    let here = platform(fixture.image("here"), "amd64");
    let gone = platform(fixture.image("gone"), "arm64");
    let list = fixture.index(LIST, &[&here, &gone]);
    let outer = fixture.index(LIST, &[&list]);
    fs::remove_file(fixture.path(&gone)).unwrap();
    fixture.name(&list, "sparse", &json!({"io.ocipull.platforms": "linux/amd64"}));
    fixture.name(&list, "lost", &json!({"io.ocipull.platforms": "linux/arm64"}));
    fixture.name(&list, "whole", &json!({}));
    fixture.name(&outer, "outer", &json!({}));
    let before = fixture.layout().index().unwrap().to_bytes();
    for name in [Some("lost"), Some("whole"), Some("outer"), None] {
        let error = fixture.convert(name).unwrap_err();
        let is_missing = matches!(&error, ConvertError::Layout(LayoutError::MissingBlob { digest }) if *digest.to_string() == gone["digest"]);
        assert!(is_missing && error.kind() == Kind::Integrity, "{name:?}: {error:?}");
        assert_eq!(fixture.layout().index().unwrap().to_bytes(), before);
    }
    fs::create_dir(fixture.path(&gone)).unwrap();
    assert_eq!(fixture.convert(Some("sparse")).unwrap_err().kind(), Kind::Integrity, "a folder is no choice");
    fs::remove_dir(fixture.path(&gone)).unwrap();
    fixture.entries.truncate(1);
    let report = fixture.converted(Some("sparse"));
    assert_eq!(report.images[0].left_out, 1);
}

/// Of two conversions at once both come to their end, and neither leaves its staging folder behind.
#[test]
fn two_conversions_at_once_both_succeed() {
    let mut fixture = Fixture::new();
    let (one, two) = (fixture.image("one"), fixture.image("two"));
    fixture.name(&one, "1", &json!({}));
    fixture.name(&two, "2", &json!({}));
    let (options, layout) = (Options::default(), fixture.layout());
    let other = fixture.layout();
    let step = move || drop(to_oci(&other, Some("1"), &Options::default(), &quiet()).unwrap());
    let reporter: Arc<dyn Reporter> = Arc::new(Steps(Mutex::new(Some(Box::new(step)))));
    let report = to_oci(&layout, None, &options, &reporter).unwrap();
    assert!(report.images.iter().all(|image| image.status == Status::Converted), "{report:?}");
    assert!(fixture.now().iter().all(|entry| entry["mediaType"] == OCI_MANIFEST));
    assert!(!fixture.folder.path().join(".ocipull").exists());
    fs::create_dir(fixture.folder.path().join(".ocipull")).unwrap();
    to_oci(&layout, None, &options, &quiet()).unwrap();
    assert!(!fixture.folder.path().join(".ocipull").exists(), "nothing changed, and nothing is left");
}

/// Does something at the first event, in the middle of a conversion.
struct Steps(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Reporter for Steps {
    fn report(&self, _event: Event) {
        let step = self.0.lock().unwrap().take();
        if let Some(step) = step {
            step();
        }
    }
}

/// The new digest is in the algorithm of the old one.
#[test]
fn digests_keep_their_algorithm() {
    let mut fixture = Fixture::new();
    let manifest = fs::read(fixture.path(&fixture.image("layer"))).unwrap();
    let manifest = fixture.put_in(Algorithm::Sha512, &manifest, MANIFEST);
    fixture.name(&manifest, "long", &json!({}));
    fixture.converted(None);
    assert!(text(&fixture.now()[0]["digest"]).starts_with("sha512:"));
}

/// Puts a bad image into a layout: its root, and the annotations of its entry.
type Make = dyn Fn(&Fixture) -> (Value, Value);

fn lie() -> Value {
    json!(Digest::sha256(b"something else"))
}

const BAD: [(&str, &Make); 11] = [
    ("a layer of other bytes", &|fixture| {
        let image = fixture.image("layer");
        fs::write(fixture.path(&fixture.document(&image)["layers"][0]), "lAyer").unwrap();
        (image, json!({}))
    }),
    ("a layer that is not there", &|fixture| {
        let image = fixture.image("layer");
        fs::remove_file(fixture.path(&fixture.document(&image)["layers"][0])).unwrap();
        (image, json!({}))
    }),
    ("a layer of another size", &|fixture| {
        let mut layer = fixture.put(b"layer", LAYER);
        layer["size"] = json!(4);
        let config = fixture.config(CONFIG, &[layer["digest"].clone()]);
        (fixture.manifest(&config, &[&layer]), json!({}))
    }),
    ("a diff ID that does not hold", &|fixture| {
        let layer = fixture.put(b"layer", LAYER);
        (fixture.manifest(&fixture.config(CONFIG, &[lie()]), &[&layer]), json!({}))
    }),
    ("a layer that cannot be uncompressed", &|fixture| {
        let layer = fixture.put(b"\x1f\x8b\x08 and then nothing of gzip", LAYER);
        (fixture.manifest(&fixture.config(CONFIG, &[lie()]), &[&layer]), json!({}))
    }),
    ("too few diff IDs", &|fixture| {
        let layer = fixture.put(b"layer", LAYER);
        (fixture.manifest(&fixture.config(CONFIG, &[]), &[&layer]), json!({}))
    }),
    ("a config of other bytes", &|fixture| {
        let image = fixture.image("layer");
        fs::write(fixture.path(&fixture.document(&image)["config"]), "{}").unwrap();
        (image, json!({}))
    }),
    ("a manifest of other bytes", &|fixture| {
        let image = fixture.image("layer");
        fs::write(fixture.path(&image), "{}").unwrap();
        (image, json!({}))
    }),
    ("an entry with another size", &|fixture| {
        let mut image = fixture.image("layer");
        image["size"] = json!(7);
        (image, json!({}))
    }),
    ("a bad image in a list", &|fixture| {
        let layer = fixture.put(b"layer", OCI_LAYER);
        let config = fixture.config(OCI_CONFIG, &[lie()]);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
        (fixture.index(LIST, &[&fixture.put_json(&manifest)]), json!({}))
    }),
    ("a foreign layer that is not there, and no word that it was left out", &|fixture| {
        let mut layer = fixture.put(b"layer", LAYER);
        layer["urls"] = json!(["https://h/l"]);
        let config = fixture.config(CONFIG, &[layer["digest"].clone()]);
        fs::remove_file(fixture.path(&layer)).unwrap();
        (fixture.manifest(&config, &[&layer]), json!({}))
    }),
];

/// What does not hold is not named: exit code 6, and not a byte of the layout changes, other images' included.
#[test]
fn bad_content_changes_nothing() {
    for (what, make) in BAD {
        let mut fixture = Fixture::new();
        let good = fixture.image("good");
        fixture.name(&good, "good", &json!({}));
        let (bad, annotations) = make(&fixture);
        fixture.name(&bad, "bad", &annotations);
        fixture.layout();
        let before = fixture.files();
        let error = fixture.convert(None).expect_err(what);
        assert_eq!(error.kind(), Kind::Integrity, "{what}: {error:?}");
        assert_eq!(fixture.files(), before, "{what}");
        // The good one can still be converted by its name.
        fixture.convert(Some("good")).unwrap();
    }
}

/// What a fetch was told to leave out is not asked for now: diff IDs, foreign layers at their URLs, encrypted layers.
#[test]
fn what_was_left_out_stays_left_out() {
    let mut fixture = Fixture::new();
    let lie = json!(Digest::sha256(b"unknown"));
    let layer = fixture.put(b"layer", LAYER);
    let skipped = fixture.manifest(&fixture.config(CONFIG, std::slice::from_ref(&lie)), &[&layer]);
    fixture.name(&skipped, "skipped", &json!({"io.ocipull.diff-ids": "skipped"}));
    let encrypted = fixture.put(b"noise", &format!("{LAYER}.gzip+encrypted"));
    let config = fixture.config(CONFIG, &[lie.clone(), layer["digest"].clone()]);
    let secret = fixture.manifest(&config, &[&encrypted, &layer]);
    fixture.name(&secret, "encrypted", &json!({}));
    let mut foreign = fixture.put(b"windows", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    foreign["urls"] = json!(["https://h/l"]);
    fs::remove_file(fixture.path(&foreign)).unwrap();
    let config = fixture.config(CONFIG, &[lie, layer["digest"].clone()]);
    let windows = fixture.manifest(&config, &[&foreign, &layer]);
    fixture.name(&windows, "foreign", &json!({"io.ocipull.foreign-layers": "skipped"}));
    fixture.convert(None).unwrap();
    let now = fixture.now();
    assert!(now.iter().all(|entry| entry["mediaType"] == OCI_MANIFEST));
    assert_eq!(now[0]["annotations"]["io.ocipull.diff-ids"], "skipped");
    let types = |entry: &Value| text(&fixture.document(entry)["layers"][0]["mediaType"]).to_owned();
    assert_eq!(types(&now[1]), format!("{OCI_LAYER}+gzip+encrypted"));
    assert_eq!(types(&now[2]), "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    // Digests are proven all the same.
    fs::write(fixture.path(&layer), "lAyer").unwrap();
    assert_eq!(fixture.convert(Some("skipped")).unwrap_err().kind(), Kind::Integrity);
}

/// Artifacts have no diff IDs; the source that an entry names first is kept; what is no manifest stays.
#[test]
fn odd_entries() {
    let mut fixture = Fixture::new();
    let plugin = fixture.put(b"{}", "application/vnd.docker.plugin.v1+json");
    let layer = fixture.put(b"rootfs", LAYER);
    let artifact = fixture.manifest(&plugin, &[&layer]);
    fixture.name(&artifact, "plugin", &json!({SOURCE_DIGEST: "sha256:first"}));
    let stray = fixture.put(b"<xml/>", "application/xml");
    fixture.name(&stray, "xml", &json!({}));
    fixture.entries.push(json!({"digest": "nonsense"}));
    let report = fixture.convert(None).unwrap();
    let now = fixture.now();
    assert_eq!(now[0]["annotations"][SOURCE_DIGEST], "sha256:first");
    assert_eq!(fixture.document(&now[0])["config"]["mediaType"], "application/vnd.docker.plugin.v1+json");
    assert_eq!(now[1..], fixture.entries[1..]);
    assert_eq!(report.images.len(), 2);
    assert!(!report.images[1].is_manifest && report.images[1].status == Status::Unchanged);
}

/// Indexes are followed as deep as a fetch follows them, and as wide.
#[test]
fn nesting_has_a_limit() {
    let mut fixture = Fixture::new();
    let mut top = fixture.image("deep");
    for _ in 0..crate::manifest::nesting::DEEPEST {
        top = fixture.index(LIST, &[&top]);
    }
    let deeper = fixture.index(LIST, &[&top]);
    fixture.name(&top, "deep", &json!({}));
    fixture.name(&deeper, "deeper", &json!({}));
    // The one that is deep enough is known by the time the other one gets there.
    assert!(matches!(fixture.convert(None), Err(ConvertError::IndexLimit { .. })));
    assert!(matches!(fixture.convert(Some("deeper")), Err(ConvertError::IndexLimit { .. })));
    fixture.entries.pop();
    fixture.converted(None);
    let mut fixture = Fixture::new();
    let image = fixture.image("wide");
    let half = fixture.index(LIST, &vec![&image; crate::manifest::nesting::MOST_ENTRIES / 2]);
    let twice = fixture.index(LIST, &[&half, &half]);
    let wide = fixture
        .index(LIST, &[vec![&image; crate::manifest::nesting::MOST_ENTRIES / 2], vec![&half]].concat());
    fixture.name(&twice, "twice", &json!({}));
    fixture.name(&wide, "wide", &json!({}));
    let limit = crate::manifest::nesting::NestingLimit::Entries;
    let is_limit = |error: &ConvertError| matches!(error, ConvertError::IndexLimit { limit: found, .. } if *found == limit);
    assert!(fixture.convert(Some("wide")).is_err_and(|error| is_limit(&error)));
    assert!(fixture.convert(None).is_err_and(|error| is_limit(&error)), "also where its parts are known");
    fixture.entries.pop();
    fixture.converted(Some("twice"));
}

/// Dies, as far as the layout is concerned, when the first document was written: what a kill there leaves is the old images,
/// and the next conversion goes through.
#[test]
fn a_kill_before_index_json_leaves_the_old_images() {
    let mut fixture = Fixture::new();
    let (one, two) = (fixture.image("one"), fixture.image("two"));
    let list = fixture.index(LIST, &[&one, &two]);
    fixture.name(&list, "list", &json!({}));
    let layout = fixture.layout();
    let options = Options::default();
    let mut plan = Plan::new(&layout, &options.cancelled);
    let entry = layout.index().unwrap().entries()[0].clone();
    let root = plan.root(&entry.descriptor().unwrap()).unwrap().unwrap();
    let before = fixture.now();
    let mut written = BTreeSet::new();
    write(&layout, &root, &mut written, &|_| |_: &str| ()).unwrap();
    assert_eq!(written.len(), 3);
    assert_eq!(fixture.now(), before);
    assert!(check::check(&layout, &Options::default(), &quiet()).unwrap().ok);
    fixture.converted(None);
}

/// A blob that many images share is read once, and a conversion that is told to stop changes nothing.
#[test]
fn blobs_are_read_once_and_a_stop_is_obeyed() {
    #[derive(Default)]
    struct Recorder(Mutex<Vec<Event>>);
    impl Reporter for Recorder {
        fn report(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }
    let mut fixture = Fixture::new();
    let layer = fixture.put(b"layer", LAYER);
    let config = fixture.config(CONFIG, &[layer["digest"].clone(), layer["digest"].clone()]);
    let twice = fixture.manifest(&config, &[&layer, &layer]);
    let once = fixture.image("layer");
    fixture.name(&twice, "twice", &json!({}));
    fixture.name(&once, "once", &json!({}));
    let options = Options::default();
    options.cancelled.store(true, Ordering::Relaxed);
    let layout = fixture.layout();
    let before = fixture.files();
    assert!(matches!(to_oci(&layout, None, &options, &quiet()), Err(ConvertError::Cancelled)));
    assert_eq!(fixture.files(), before);
    let recorder = Arc::new(Recorder::default());
    let reporter: Arc<dyn Reporter> = recorder.clone();
    to_oci(&layout, None, &Options::default(), &reporter).unwrap();
    let events = recorder.0.lock().unwrap();
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::BlobVerified { .. })), 3);
    assert_eq!(count(|event| matches!(event, Event::Committed { .. })), 2);
}

/// What another process named meanwhile is not overwritten.
#[test]
fn a_moved_tag_wins() {
    let mut fixture = Fixture::new();
    let (old, new) = (fixture.image("old"), fixture.image("new"));
    fixture.name(&old, "1", &json!({}));
    let layout = fixture.layout();
    let path = fixture.folder.path().join("index.json");
    let moved = json!({"schemaVersion": 2, "manifests": [new]}).to_string();
    let text = moved.clone();
    let step = move || fs::write(path, text).unwrap();
    let reporter: Arc<dyn Reporter> = Arc::new(Steps(Mutex::new(Some(Box::new(step)))));
    let error = to_oci(&layout, None, &Options::default(), &reporter).unwrap_err();
    assert!(matches!(error, ConvertError::Layout(LayoutError::EntryChanged { .. })), "{error:?}");
    assert_eq!(fs::read_to_string(fixture.folder.path().join("index.json")).unwrap(), moved);
}
