mod forms;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::failure::{Failure, Kind};
use crate::progress::NullReporter;
use FindingKind::{BadDocument, DigestMismatch, Missing, SizeMismatch, Stray, Unreferenced};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layout in a folder that goes away.
struct Fixture {
    folder: tempfile::TempDir,
    entries: Vec<Value>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { folder, entries: Vec::new() }
    }

    /// The layout that is committed in testdata.
    fn demo() -> Self {
        let fixture = Self::new();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/demo");
        for entry in fs::read_dir(demo.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), fixture.folder.path().join("blobs/sha256").join(entry.file_name()))
                .unwrap();
        }
        fs::copy(demo.join("index.json"), fixture.folder.path().join("index.json")).unwrap();
        fixture
    }

    fn path(&self, digest: &str) -> std::path::PathBuf {
        self.folder.path().join("blobs").join(digest.replace(':', "/"))
    }

    fn put(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = Digest::sha256(bytes).to_string();
        fs::write(self.path(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn put_json(&self, value: &Value, media_type: &str) -> Value {
        self.put(value.to_string().as_bytes(), media_type)
    }

    fn config(&self, diff_ids: &[&str]) -> Value {
        let config = json!({"os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        self.put_json(&config, CONFIG)
    }

    fn manifest(&self, config: &Value, layers: &[&Value]) -> Value {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.put_json(&manifest, MANIFEST)
    }

    fn index(&self, manifests: &[Value]) -> Value {
        self.put_json(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}), INDEX)
    }

    /// An image of one plain layer, and the layer.
    fn image(&self, content: &str) -> (Value, Value) {
        let layer = self.put(content.as_bytes(), LAYER);
        (self.manifest(&self.config(&[text(&layer["digest"])]), &[&layer]), layer)
    }

    fn layout(&self) -> Layout {
        if !self.entries.is_empty() {
            let index = json!({"schemaVersion": 2, "manifests": self.entries});
            fs::write(self.folder.path().join("index.json"), index.to_string()).unwrap();
        }
        Layout::open(self.folder.path()).unwrap()
    }

    fn check(&self) -> Report {
        check(&self.layout(), &Options::default(), &quiet()).unwrap()
    }

    /// The kinds of what is found, in order, each with the digest or the path that it is about.
    fn found(&self) -> Vec<(FindingKind, String)> {
        let about = |finding: Finding| {
            let digest = finding.digest.map(|digest| digest.to_string());
            (finding.kind, digest.or(finding.path).unwrap_or_default())
        };
        self.check().findings.into_iter().map(about).collect()
    }
}

fn quiet() -> Arc<dyn Reporter> {
    Arc::new(NullReporter)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn digest_of(descriptor: &Value) -> String {
    text(&descriptor["digest"]).to_owned()
}

/// Every blob of a good layout is proven, once, and the numbers say so.
#[test]
fn a_good_layout_has_no_findings() {
    let report = Fixture::demo().check();
    assert_eq!(report.findings, []);
    assert!(report.ok);
    assert_eq!((report.images, report.blobs, report.bytes), (2, 10, 4887));
    let json = serde_json::to_value(&report).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["layout", "ok", "images", "blobs", "bytes", "findings"]);
}

/// A flipped byte anywhere is found, whatever the blob is: a layer, a config, a manifest, the index.
#[test]
fn any_flipped_byte_is_a_digest_mismatch() {
    let names: Vec<_> = {
        let fixture = Fixture::demo();
        fs::read_dir(fixture.folder.path().join("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    for name in names {
        let fixture = Fixture::demo();
        let path = fixture.folder.path().join("blobs/sha256").join(&name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let report = fixture.check();
        assert!(!report.ok, "{name}");
        let wrong: Vec<_> = report.findings.iter().filter(|finding| !finding.kind.is_note()).collect();
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert_eq!(wrong[0].kind, DigestMismatch);
        assert_eq!(wrong[0].path.as_deref(), Some(format!("blobs/sha256/{name}").as_str()));
    }
}

/// A blob cut short is wrong in both ways; one that is gone is missing and says who needs it.
#[test]
fn cut_and_missing_blobs_are_found() {
    let mut fixture = Fixture::new();
    let (manifest, layer) = fixture.image("the layer");
    fixture.entries.push(manifest.clone());
    let digest = digest_of(&layer);
    fs::write(fixture.path(&digest), "the lay").unwrap();
    assert_eq!(fixture.found(), [(DigestMismatch, digest.clone()), (SizeMismatch, digest.clone())]);
    fs::remove_file(fixture.path(&digest)).unwrap();
    let report = fixture.check();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, Missing);
    let wanted = format!("it is not there; it is layer 0 of manifest {}", digest_of(&manifest));
    assert_eq!(report.findings[0].detail, wanted);
    fs::create_dir(fixture.path(&digest)).unwrap();
    assert_eq!(fixture.found(), [(Missing, digest)]);
}

/// Two images claim different diff IDs for one layer: each claim is compared, and only the wrong one reported.
#[test]
fn each_claim_about_a_shared_layer_is_compared() {
    let mut fixture = Fixture::new();
    let (good, layer) = fixture.image("the layer");
    let lie = Digest::sha256(b"something else").to_string();
    let lying = fixture.config(&[&lie]);
    let bad = fixture.manifest(&lying, &[&layer]);
    fixture.entries.extend([good, bad.clone()]);
    let report = fixture.check();
    assert_eq!(report.blobs, 5);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, FindingKind::DiffIdMismatch);
    assert_eq!(report.findings[0].digest.unwrap().to_string(), digest_of(&layer));
    for part in [&lie, &digest_of(&lying), &digest_of(&bad), "layer 0", &digest_of(&layer)] {
        assert!(report.findings[0].detail.contains(part), "{part} in {}", report.findings[0].detail);
    }
}

/// Diff IDs in two algorithms for one layer are both computed.
#[test]
fn diff_ids_may_have_different_algorithms() {
    let mut fixture = Fixture::new();
    let (first, layer) = fixture.image("the layer");
    let long = crate::digest::Algorithm::Sha512.digest(b"the layer").to_string();
    let second = fixture.manifest(&fixture.config(&[&long]), &[&layer]);
    fixture.entries.extend([first, second]);
    assert_eq!(fixture.found(), []);
}

/// A layer with the right digest that does not uncompress has no diff ID, so no claim about it holds.
#[test]
fn a_layer_that_does_not_uncompress_contradicts_its_claim() {
    let mut fixture = Fixture::new();
    let layer =
        fixture.put(b"\x1f\x8b\x08 and then nothing of gzip", "application/vnd.oci.image.layer.v1.tar+gzip");
    let diff_id = Digest::sha256(b"whatever").to_string();
    let manifest = fixture.manifest(&fixture.config(&[&diff_id]), &[&layer]);
    fixture.entries.push(manifest);
    let report = fixture.check();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, FindingKind::DiffIdMismatch);
    assert!(report.findings[0].detail.contains("cannot be uncompressed"), "{}", report.findings[0].detail);
}

/// Encrypted layers and artifacts have no diff IDs to compare; their digests are proven all the same.
#[test]
fn encrypted_layers_and_artifacts_need_no_diff_ids() {
    let mut fixture = Fixture::new();
    let encrypted = fixture.put(b"noise", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
    let config = fixture.config(&[&Digest::sha256(b"unknown").to_string()]);
    let image = fixture.manifest(&config, &[&encrypted]);
    // The empty config of the spec, which is the artifact's layer too.
    let empty = fixture.put(b"{}", "application/vnd.oci.empty.v1+json");
    let artifact = fixture.manifest(&empty, &[&empty]);
    fixture.entries.extend([image, artifact]);
    assert_eq!(fixture.found(), []);
    fs::write(fixture.path(&digest_of(&encrypted)), "noisy").unwrap();
    assert_eq!(fixture.found(), [(DigestMismatch, digest_of(&encrypted))]);
}

/// Puts something into a layout: its entry, and what is to be found.
type Make = dyn Fn(&Fixture) -> (Value, Vec<(FindingKind, String)>);

/// Documents that are not what they are said to be.
#[test]
fn bad_documents_are_found() {
    let cases: [(&str, &Make); 6] = [
        ("an entry says another type than the document", &|fixture| {
            let (mut manifest, _) = fixture.image("a");
            manifest["mediaType"] = INDEX.into();
            let digest = digest_of(&manifest);
            (manifest, vec![(BadDocument, digest)])
        }),
        ("an entry says another size", &|fixture| {
            let (mut manifest, _) = fixture.image("b");
            manifest["size"] = 7.into();
            let digest = digest_of(&manifest);
            (manifest, vec![(SizeMismatch, digest)])
        }),
        ("a config without rootfs", &|fixture| {
            let config = fixture.put(b"{}", CONFIG);
            (fixture.manifest(&config, &[]), vec![(BadDocument, digest_of(&config))])
        }),
        ("a config with too many diff IDs", &|fixture| {
            let config = fixture.config(&[&Digest::sha256(b"c").to_string()]);
            (fixture.manifest(&config, &[]), vec![(BadDocument, digest_of(&config))])
        }),
        ("a manifest that is no JSON", &|fixture| {
            let manifest = fixture.put(b"nonsense", MANIFEST);
            (manifest.clone(), vec![(BadDocument, digest_of(&manifest))])
        }),
        ("an entry that is no descriptor", &|_| {
            (json!({"digest": "sha256:1"}), vec![(BadDocument, "index.json".to_owned())])
        }),
    ];
    for (name, make) in cases {
        let mut fixture = Fixture::new();
        let (entry, wanted) = make(&fixture);
        fixture.entries.push(entry);
        let mut found = fixture.found();
        found.retain(|(kind, _)| !kind.is_note());
        assert_eq!(found, wanted, "{name}");
        assert!(!fixture.check().ok, "{name}");
    }
}

/// Indexes are followed as deep as a fetch follows them, and no deeper.
#[test]
fn nesting_has_a_limit() {
    let mut fixture = Fixture::new();
    let mut top = fixture.image("deep").0;
    for _ in 0..crate::manifest::nesting::DEEPEST {
        top = fixture.index(&[top]);
    }
    fixture.entries = vec![top.clone()];
    assert_eq!(fixture.found(), []);
    fixture.entries = vec![fixture.index(&[top])];
    let kinds: Vec<_> = fixture.found().into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains(&BadDocument), "{kinds:?}");
}

/// What nothing refers to is a note, unless it is not what its own name says.
#[test]
fn what_nothing_refers_to_is_a_note_unless_it_is_bad() {
    let mut fixture = Fixture::new();
    fixture.entries.push(fixture.image("layer").0);
    let loose = fixture.put(b"loose", LAYER);
    let root = fixture.folder.path();
    fs::write(root.join("notes.txt"), "").unwrap();
    fs::create_dir(root.join(".ocipull")).unwrap();
    fs::create_dir_all(root.join("signatures/a@sha256=0")).unwrap();
    fs::create_dir(root.join("blobs/md5")).unwrap();
    fs::write(root.join("blobs/sha256/not-a-digest"), "").unwrap();
    let strays = ["blobs/md5", "blobs/sha256/not-a-digest", "notes.txt"].map(|path| (Stray, path.to_owned()));
    let mut wanted = vec![(Unreferenced, digest_of(&loose))];
    wanted.extend(strays.clone());
    assert_eq!(fixture.found(), wanted);
    assert!(fixture.check().ok);
    fs::write(fixture.path(&digest_of(&loose)), "broken").unwrap();
    wanted[0] = (DigestMismatch, digest_of(&loose));
    assert_eq!(fixture.found(), wanted);
    assert!(!fixture.check().ok);
}

/// Nothing but a regular file is a blob: a link may lead out of a layout that came from elsewhere, and the copy that is
/// carried on would lack what it leads to; a pipe is never opened.
#[cfg(unix)]
#[test]
fn links_and_pipes_do_not_stand_for_blobs() {
    let mut fixture = Fixture::new();
    let (manifest, layer) = fixture.image("layer");
    fixture.entries.push(manifest);
    let elsewhere = tempfile::tempdir().unwrap();
    let (path, target) = (fixture.path(&digest_of(&layer)), elsewhere.path().join("target"));
    fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert_eq!(fixture.found(), [(Missing, digest_of(&layer))]);
    assert!(fixture.check().findings[0].detail.starts_with("it is a symbolic link"));
    fs::remove_file(&target).unwrap();
    assert_eq!(fixture.found(), [(Missing, digest_of(&layer))]);
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    assert_eq!(fixture.found(), [(Missing, digest_of(&layer))]);
}

/// Signatures that are a link are not looked through: it may lead to all of the machine.
#[cfg(unix)]
#[test]
fn a_link_to_signatures_is_one_stray() {
    let mut fixture = Fixture::new();
    fixture.entries.push(fixture.image("layer").0);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("theirs"), "").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), fixture.folder.path().join("signatures")).unwrap();
    assert_eq!(fixture.found(), [(Stray, "signatures".to_owned())]);
}

/// Notes without end would hide what is wrong.
#[test]
fn many_strays_are_counted() {
    let mut fixture = Fixture::new();
    fixture.entries.push(fixture.image("layer").0);
    for at in 0..MOST_STRAYS + 2 {
        fs::write(fixture.folder.path().join(format!("{at:05}")), "").unwrap();
    }
    let report = fixture.check();
    assert!(report.ok && report.findings.len() == MOST_STRAYS + 1);
    let last = report.findings.last().unwrap();
    assert!(last.kind == Stray && last.detail.starts_with("2 more"), "{last:?}");
}

/// Entries that each say what was left out share what was read: a thousand of them over thousands of manifests, which share
/// one config, are no more work than one.
#[test]
fn documents_are_read_once_for_all_entries() {
    let mut fixture = Fixture::new();
    let config = fixture.config(&[]);
    let children: Vec<Value> = (0..300)
        .map(|at| {
            let manifest =
                json!({"schemaVersion": 2, "config": config, "annotations": {"at": at.to_string()}});
            fixture.put(manifest.to_string().as_bytes(), MANIFEST)
        })
        .collect();
    let mut gone = children[0].clone();
    gone["digest"] = Digest::sha256(b"gone").to_string().into();
    gone["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let index = fixture.index(&[children, vec![gone.clone()]].concat());
    for at in 0..1000 {
        let mut entry = index.clone();
        let taken = if at == 500 { "linux/arm64" } else { "linux/amd64" };
        entry["annotations"] = json!({"io.ocipull.foreign-layers": "skipped", "io.ocipull.platforms": taken,
            "io.containerd.image.name": format!("h.io/a:{at}")});
        fixture.entries.push(entry);
    }
    let found = fixture.found();
    assert!(found.contains(&(Missing, digest_of(&gone))), "{found:?}");
}

/// An index that lies beyond a limit below one entry of `index.json` is followed from another.
#[test]
fn limits_are_those_of_each_entry() {
    let mut fixture = Fixture::new();
    let (image, layer) = fixture.image("layer");
    let half = fixture.index(&vec![image.clone(); crate::manifest::nesting::MOST_ENTRIES / 2]);
    let twice = fixture.index(&[half.clone(), half.clone()]);
    fixture.entries = vec![twice];
    assert_eq!(fixture.found(), [], "an index that is listed twice counts once");
    let other = fixture
        .index(&[vec![image; crate::manifest::nesting::MOST_ENTRIES / 2], vec![half.clone()]].concat());
    fixture.entries = vec![other, half.clone()];
    fs::write(fixture.path(&digest_of(&layer)), "broken").unwrap();
    let found = fixture.found();
    assert!(found.contains(&(BadDocument, digest_of(&half))), "{found:?}");
    assert!(found.contains(&(DigestMismatch, digest_of(&layer))), "{found:?}");
}

/// A check that is told to stop says that it has no verdict, and so does a layout whose index is gone.
#[test]
fn no_verdict_is_an_error() {
    let fixture = Fixture::demo();
    let options = Options::default();
    options.cancelled.store(true, Ordering::Relaxed);
    let layout = fixture.layout();
    assert!(matches!(check(&layout, &options, &quiet()), Err(CheckError::Cancelled)));
    fs::write(fixture.folder.path().join("index.json"), "{").unwrap();
    let error = check(&layout, &Options::default(), &quiet()).unwrap_err();
    assert_eq!(error.kind(), Kind::Layout);
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Reporter for Recorder {
    fn report(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// Progress: each blob starts once and is verified once, and a long one says how far it is.
#[test]
fn each_blob_is_read_once_and_tells_its_progress() {
    let mut fixture = Fixture::new();
    let large = "x".repeat(5 << 20);
    let (first, layer) = fixture.image(&large);
    let second = fixture
        .manifest(&fixture.config(&[text(&layer["digest"]), text(&layer["digest"])]), &[&layer, &layer]);
    fixture.entries.extend([first, second]);
    let recorder = Arc::new(Recorder::default());
    let reporter: Arc<dyn Reporter> = recorder.clone();
    for threads in [1, 4] {
        recorder.0.lock().unwrap().clear();
        let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
        let report = check(&fixture.layout(), &options, &reporter).unwrap();
        assert!(report.ok, "{report:?}");
        let events = recorder.0.lock().unwrap();
        let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
        assert_eq!(count(|event| matches!(event, Event::BlobStarted { phase: Phase::Verifying, .. })), 5);
        assert_eq!(count(|event| matches!(event, Event::BlobVerified { .. })), 5);
        assert_eq!(count(|event| matches!(event, Event::BlobProgress { .. })), 4);
    }
}

/// Waits, when it hears of a layer, until another is being read too.
#[derive(Debug, Default)]
struct Meeting(Mutex<usize>, std::sync::Condvar);

impl Reporter for Meeting {
    fn report(&self, event: Event) {
        if matches!(event, Event::BlobStarted { phase: Phase::Verifying, total, .. } if total > 1 << 20) {
            let mut begun = self.0.lock().unwrap();
            *begun += 1;
            self.1.notify_all();
            let (begun, _) =
                self.1.wait_timeout_while(begun, Duration::from_secs(20), |begun| *begun < 2).unwrap();
            assert!(*begun >= 2, "layers are read one after another");
        }
    }
}

/// Layers are read and inflated on several threads at a time.
#[test]
fn several_layers_are_read_at_a_time() {
    let mut fixture = Fixture::new();
    let images = ["x", "y", "z"].map(|content| fixture.image(&content.repeat(2 << 20)).0);
    fixture.entries.extend(images);
    let options = Options { threads: NonZeroUsize::new(2), ..Options::default() };
    let meeting: Arc<dyn Reporter> = Arc::new(Meeting::default());
    let report = check(&fixture.layout(), &options, &meeting).unwrap();
    assert!(report.ok, "{report:?}");
}
