use serde_json::{Value, json};

use super::*;
use crate::manifest::Manifest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An entry of an index, by the name under which the table speaks of it.
enum Child {
    Here(&'static str, Option<&'static str>),
    Gone(&'static str, Option<&'static str>),
    Nested(&'static str, Option<&'static str>, Vec<Child>),
    GoneIndex(&'static str, Option<&'static str>),
    Other(&'static str),
}

use Child::{Gone, GoneIndex, Here, Nested, Other};

struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(folder.path().join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        Self(folder)
    }

    fn put(&self, content: &Value, media_type: &str) -> Value {
        let content = content.to_string();
        let digest = Digest::sha256(content.as_bytes());
        fs::write(self.0.path().join("blobs/sha256").join(digest.hex()), &content).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// The configs of all images are for linux/arm64.
    fn child(&self, child: &Child) -> Value {
        let gone = |name: &str, media_type: &str| json!({"mediaType": media_type, "digest": Digest::sha256(name.as_bytes()), "size": 1});
        let (name, platform, mut descriptor) = match child {
            Here(name, platform) => {
                let config = json!({"os": "linux", "architecture": "arm64", "rootfs": {"diff_ids": []}});
                let config = self.put(&config, "application/vnd.oci.image.config.v1+json");
                let manifest = json!({"schemaVersion": 2, "config": config, "annotations": {"name": name}});
                (name, platform, self.put(&manifest, MANIFEST))
            }
            Nested(name, platform, children) => (name, platform, self.put(&self.index(children), INDEX)),
            Gone(name, platform) => (name, platform, gone(name, MANIFEST)),
            GoneIndex(name, platform) => (name, platform, gone(name, INDEX)),
            Other(name) => (name, &None, gone(name, "application/vnd.example.thing")),
        };
        descriptor["annotations"] = json!({"name": name});
        if let Some(platform) = platform {
            let (os, architecture) = platform.split_once('/').unwrap();
            descriptor["platform"] = json!({"os": os, "architecture": architecture});
        }
        descriptor
    }

    fn index(&self, children: &[Child]) -> Value {
        let manifests: Vec<Value> = children.iter().map(|child| self.child(child)).collect();
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    }

    /// The names of what is left out, of what is missing, and the platforms that nothing explains.
    fn absent(&self, taken: Option<&str>, children: &[Child]) -> [String; 3] {
        let index = self.index(children).to_string();
        let Ok(Manifest::Index(index)) = Manifest::parse(index.into(), Some(INDEX)) else {
            panic!("no index")
        };
        let mut entry = Descriptor::new(INDEX.into(), Digest::sha256(b""), 0);
        entry.annotations.extend(taken.map(|taken| (PLATFORMS.to_owned(), taken.to_owned())));
        let found = Layout::open(self.0.path()).unwrap().absent(&entry, &index);
        let of = |wanted: Absence| {
            let names = found.manifests.iter().filter(|absent| absent.absence == wanted);
            names.map(|absent| absent.descriptor.annotations["name"].as_str()).collect::<Vec<_>>().join(" ")
        };
        let unexplained: Vec<String> = found.unexplained.iter().map(Platform::specifier).collect();
        [of(Absence::LeftOut), of(Absence::Missing), unexplained.join(" ")]
    }
}

const AMD: Option<&str> = Some("linux/amd64");
const ARM: Option<&str> = Some("linux/arm64");
const UNKNOWN: Option<&str> = Some("unknown/unknown");

/// Its name, the annotation, the entries of the index, and what is left out, missing and unexplained.
type Case = (&'static str, Option<&'static str>, Vec<Child>, [&'static str; 3]);

/// What was left out by choice is told from what got lost: a gap that is excused without reason would be noticed only
/// where the image is needed.
#[test]
fn absent_by_choice_is_told_from_missing() {
    let amd = Some("linux/amd64");
    let cases: Vec<Case> = vec![
        ("whole and all there", None, vec![Here("a", AMD), Here("b", None)], ["", "", ""]),
        (
            "whole claims everything",
            None,
            vec![Here("a", AMD), Gone("b", ARM), Gone("c", UNKNOWN)],
            ["", "b c", ""],
        ),
        ("unknown types are passed over", None, vec![Here("a", AMD), Other("b")], ["", "", ""]),
        ("unknown types below a sparse one too", amd, vec![Here("a", AMD), Other("b")], ["", "", ""]),
        (
            "what was not asked for",
            amd,
            vec![Here("a", AMD), Gone("b", ARM), Gone("c", UNKNOWN)],
            ["b c", "", ""],
        ),
        ("what was taken got lost", amd, vec![Gone("a", AMD), Here("b", ARM)], ["", "a", ""]),
        (
            "both were taken",
            Some("linux/amd64,linux/arm64"),
            vec![Here("a", AMD), Gone("b", ARM)],
            ["", "b", ""],
        ),
        ("the first of two alike", amd, vec![Here("a", AMD), Gone("b", AMD)], ["b", "", ""]),
        ("the second of two alike was not taken", amd, vec![Gone("a", AMD), Here("b", AMD)], ["", "a", ""]),
        (
            "spellings of one platform",
            amd,
            vec![Gone("a", Some("Linux/x86_64")), Gone("b", ARM)],
            ["b", "a", ""],
        ),
        ("more than was asked for is there", amd, vec![Here("a", AMD), Here("b", ARM)], ["", "", ""]),
        (
            "an undeclared one is for the platform",
            Some("linux/arm64"),
            vec![Gone("a", AMD), Here("b", None)],
            ["a", "", ""],
        ),
        ("an undeclared one is not", amd, vec![Here("a", None), Gone("b", ARM)], ["b", "", "linux/amd64"]),
        (
            "an undeclared one that is gone may have been",
            amd,
            vec![Gone("a", ARM), Gone("b", None)],
            ["a", "b", ""],
        ),
        ("a platform that the index does not have", amd, vec![Here("a", ARM)], ["", "", "linux/amd64"]),
        (
            "a note that cannot be understood",
            Some("linux/amd64,,"),
            vec![Here("a", AMD), Gone("b", ARM)],
            ["", "b", ""],
        ),
        ("an architecture nobody knows", Some("linux"), vec![Here("a", AMD), Gone("b", ARM)], ["", "b", ""]),
        ("another one", Some("linux/amd64,arm64"), vec![Here("a", AMD), Gone("b", ARM)], ["", "b", ""]),
        ("an empty note", Some(""), vec![Here("a", AMD), Gone("b", ARM)], ["", "b", ""]),
    ];
    judge(cases);
}

/// Nested indexes hide what they hold when they are not there, and are searched in the order of a fetch when they are.
#[test]
fn nested_indexes_are_searched_as_a_fetch_does() {
    let amd = Some("linux/amd64");
    judge(vec![
        (
            "a nested index without anything taken",
            amd,
            vec![Here("a", AMD), GoneIndex("b", None), GoneIndex("c", ARM)],
            ["b c", "", ""],
        ),
        ("a nested index that must hold it", amd, vec![GoneIndex("a", None), Gone("b", ARM)], ["b", "a", ""]),
        (
            "a nested index that declares it",
            amd,
            vec![GoneIndex("a", AMD), GoneIndex("b", None)],
            ["b", "a", ""],
        ),
        (
            "below a nested index",
            amd,
            vec![Nested("n", None, vec![Gone("a", AMD), Gone("b", ARM)]), Gone("c", ARM)],
            ["b c", "a", ""],
        ),
        (
            "declared comes before nested",
            Some("linux/amd64,linux/arm64"),
            vec![Nested("n", None, vec![Gone("a", AMD), Here("b", ARM)]), Here("c", AMD)],
            ["a", "", ""],
        ),
        (
            "undeclared below an index that declares it",
            Some("linux/arm64"),
            vec![Nested("n", ARM, vec![Here("a", None)]), Gone("b", ARM)],
            ["b", "", ""],
        ),
        (
            "undeclared below an index that declares nothing",
            Some("linux/arm64"),
            vec![Nested("n", None, vec![Here("a", None)]), Gone("b", ARM)],
            ["", "b", ""],
        ),
        (
            "the first in the lists will do as well",
            amd,
            vec![Nested("n", None, vec![Here("a", AMD)]), Gone("b", AMD)],
            ["b", "", ""],
        ),
    ]);
}

fn judge(cases: Vec<Case>) {
    for (name, taken, children, wanted) in cases {
        assert_eq!(Fixture::new().absent(taken, &children), wanted, "{name}");
    }
}

/// One manifest that an index lists for two platforms is one gap, and missing when either was taken.
#[test]
fn a_digest_is_judged_once() {
    let twice = || vec![Gone("same", AMD), Gone("same", ARM)];
    assert_eq!(Fixture::new().absent(Some("linux/arm64"), &twice()), ["", "same", ""]);
    assert_eq!(Fixture::new().absent(Some("linux/riscv64"), &twice()), ["same", "", "linux/riscv64"]);
}

/// What cannot be read explains anything: the finding is the document, not what may be below it.
#[test]
fn unreadable_documents_leave_doubt() {
    let fixture = Fixture::new();
    let nested = fixture.put(&fixture.index(&[Gone("a", AMD)]), INDEX);
    let digest: Digest = nested["digest"].as_str().unwrap().parse().unwrap();
    fs::write(fixture.0.path().join("blobs/sha256").join(digest.hex()), "broken").unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [nested]}).to_string();
    let Ok(Manifest::Index(index)) = Manifest::parse(index.into(), Some(INDEX)) else { panic!("no index") };
    let mut entry = Descriptor::new(INDEX.into(), Digest::sha256(b""), 0);
    entry.annotations.insert(PLATFORMS.to_owned(), "linux/amd64".to_owned());
    assert_eq!(Layout::open(fixture.0.path()).unwrap().absent(&entry, &index), Absent::default());
}

/// A note with thousands of platforms over thousands of manifests that declare none is answered by reading each of them
/// once, a nested index that is listed a thousand times among them; a note without end excuses nothing.
#[test]
fn every_document_is_read_once() {
    let fixture = Fixture::new();
    let mut children: Vec<Value> = ["a", "b", "c"].map(|name| fixture.child(&Here(name, None))).to_vec();
    let nested = fixture
        .put(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": vec![&children[0]; 5000]}), INDEX);
    children.extend(vec![nested; 4000]);
    children.push(fixture.child(&Gone("gone", AMD)));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
    let Ok(Manifest::Index(index)) = Manifest::parse(index.into(), Some(INDEX)) else { panic!("no index") };
    let layout = Layout::open(fixture.0.path()).unwrap();
    let absent = |count: usize| {
        let mut entry = Descriptor::new(INDEX.into(), Digest::sha256(b""), 0);
        let taken: Vec<String> = (0..count).map(|at| format!("os{at}/a")).collect();
        entry.annotations.insert(PLATFORMS.to_owned(), taken.join(","));
        layout.absent(&entry, &index)
    };
    let (few, many) = (absent(MOST_PLATFORMS), absent(MOST_PLATFORMS + 1));
    assert_eq!((few.manifests[0].absence, few.unexplained.len()), (Absence::LeftOut, MOST_PLATFORMS));
    assert_eq!((many.manifests[0].absence, many.unexplained.len()), (Absence::Missing, 0));
}

/// What several entries say of one index is told apart, though its documents are read once for all of them.
#[test]
fn surveys_are_shared_by_entries() {
    let fixture = Fixture::new();
    let index = fixture.index(&[Here("a", ARM), Gone("b", AMD)]).to_string();
    let Ok(Manifest::Index(index)) = Manifest::parse(index.into(), Some(INDEX)) else { panic!("no index") };
    let layout = Layout::open(fixture.0.path()).unwrap();
    let mut surveys = Surveys::new(&layout);
    for (taken, wanted) in [("linux/amd64", Absence::Missing), ("linux/arm64", Absence::LeftOut)] {
        let mut entry = Descriptor::new(INDEX.into(), Digest::sha256(b""), 0);
        entry.annotations.insert(PLATFORMS.to_owned(), taken.to_owned());
        assert_eq!(surveys.absent(&entry, &index, &|| true).manifests[0].absence, wanted, "{taken}");
    }
}
