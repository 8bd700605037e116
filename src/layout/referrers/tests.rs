use std::fs;

use serde_json::{Value, json};

use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(folder)
    }

    fn put(&self, content: &Value, media_type: &str) -> Value {
        let content = content.to_string();
        let digest = Digest::sha256(content.as_bytes());
        fs::write(self.0.path().join("blobs/sha256").join(digest.hex()), &content).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    fn about(&self, subject: Option<&Value>, name: &str, artifact_type: Option<&str>) -> Value {
        let config = self.put(&json!({}), EMPTY);
        let manifest = json!({"schemaVersion": 2, "config": config, "artifactType": artifact_type,
            "annotations": {"name": name}, "subject": subject});
        self.put(&manifest, MANIFEST)
    }

    fn layout(&self, entries: &[Value]) -> Layout {
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        fs::write(self.0.path().join("index.json"), index).unwrap();
        Layout::open(self.0.path()).unwrap()
    }
}

fn named(entry: &Value, key: &str, name: &str) -> Value {
    let mut entry = entry.clone();
    entry["annotations"] = json!({ key: name });
    entry
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

fn shown(found: &[Descriptor]) -> Vec<(String, String)> {
    let name = |found: &Descriptor| found.annotations.get("name").cloned().unwrap_or_default();
    found.iter().map(|found| (name(found), found.artifact_type.clone().unwrap_or_default())).collect()
}

const FULL: &str = "io.containerd.image.name";
const SHORT: &str = "org.opencontainers.image.ref.name";

/// Which tags make an entry the companion of another manifest, and which only look a little like it.
#[test]
fn roles_of_tags() {
    let hex = "0123456789abcdef".repeat(4);
    let cases = [
        (format!("sha256-{hex}"), Some(Role::Fallback)),
        (format!("sha512-{hex}"), Some(Role::Fallback)),
        (format!("sha256-{hex}.sig"), Some(Role::Cosign("sig"))),
        (format!("sha512-{hex}{hex}.att"), Some(Role::Cosign("att"))),
        (format!("sha256-{hex}.sbom"), Some(Role::Cosign("sbom"))),
        (format!("sha256-{hex}.other"), None),
        (format!("md5-{hex}"), None),
        ("sha256-0123".to_owned(), None),
        (format!("sha256-{}", hex.to_uppercase()), None),
        ("1.0".to_owned(), None),
        ("latest".to_owned(), None),
    ];
    for (tag, wanted) in cases {
        assert_eq!(Role::of_tag(&tag), wanted, "{tag}");
    }
}

/// A referrer is found by its subject, and by a list that names it, once; what is about something else is not.
#[test]
fn referrers_are_found_by_subject_and_by_list() {
    let fixture = Fixture::new();
    let (image, other) = (fixture.about(None, "image", None), fixture.about(None, "other", None));
    let sbom = fixture.about(Some(&image), "sbom", Some("application/x.sbom"));
    let plain = fixture.about(Some(&image), "plain", None);
    let foreign = fixture.about(Some(&other), "foreign", Some("application/x.sbom"));
    let nested = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": image,
        "annotations": {"name": "nested"}});
    let nested = fixture.put(&nested, INDEX);
    let absent = json!({"mediaType": MANIFEST, "digest": Digest::sha256(b"absent"), "size": 9,
        "artifactType": "application/x.absent", "annotations": {"name": "absent"}});
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [sbom, plain, foreign, absent]});
    let list = fixture.put(&list, INDEX);
    let tag = Tag::of_referrers(&digest(&image)).to_string();
    let of = |wanted: &[&str]| -> Vec<(String, String)> {
        let types = [
            ("sbom", "application/x.sbom"),
            ("plain", EMPTY),
            ("nested", ""),
            ("absent", "application/x.absent"),
            ("foreign", "application/x.sbom"),
        ];
        let pair = |name: &&str| types.into_iter().find(|(found, _)| found == name).unwrap();
        wanted.iter().map(pair).map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
    };
    let cases = [
        (vec![image.clone()], of(&[])),
        (vec![image.clone(), sbom.clone(), foreign.clone(), nested.clone()], of(&["sbom", "nested"])),
        (vec![named(&list, FULL, &format!("a.io/x:{tag}"))], of(&["sbom", "plain", "absent"])),
        (vec![named(&list, SHORT, &tag), plain], of(&["plain", "sbom", "absent"])),
        (vec![named(&list, SHORT, &format!("a.io/x:{tag}"))], of(&["sbom", "plain", "absent"])),
        (vec![named(&list, SHORT, "1.0"), json!({"no": "descriptor"})], of(&[])),
    ];
    for (entries, wanted) in cases {
        let found = fixture.layout(&entries).referrers(&BTreeSet::from([digest(&image)])).unwrap();
        assert_eq!(shown(&found), wanted, "{entries:?}");
    }
    let both = BTreeSet::from([digest(&image), digest(&other)]);
    let layout = fixture.layout(&[foreign, sbom.clone()]);
    assert_eq!(shown(&layout.referrers(&both).unwrap()), of(&["foreign", "sbom"]));
    let found = layout.referrers(&both).unwrap();
    assert_eq!((found[1].digest, found[1].size), (digest(&sbom), sbom["size"].as_u64().unwrap()));
}

/// cosign's tags name what they are about in full; the type is the manifest's where it says one.
#[test]
fn cosign_tags_are_found() {
    let fixture = Fixture::new();
    let image = fixture.about(None, "image", None);
    let signature = fixture.about(None, "signature", None);
    let typed = fixture.about(None, "typed", Some("application/x.att"));
    let tag = Tag::of_referrers(&digest(&image)).to_string();
    let layout = fixture.layout(&[
        named(&signature, FULL, &format!("a.io/x:{tag}.sig")),
        named(&typed, SHORT, &format!("{tag}.att")),
        named(&typed, SHORT, &format!("{tag}.sbom")),
        named(&image, SHORT, &format!("{tag}.other")),
        named(&image, SHORT, &format!("{}.sig", Tag::of_referrers(&Digest::sha256(b"other")))),
    ]);
    let found = layout.cosign_tagged(&BTreeSet::from([digest(&image)])).unwrap();
    let wanted =
        [("signature", "application/vnd.dev.cosign.artifact.sig.v1+json"), ("typed", "application/x.att")];
    assert_eq!(shown(&found), wanted.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
}

/// One list under many names is read and kept once: a layout of two small files must not fill the memory.
#[test]
fn a_list_under_many_names_counts_once() {
    let fixture = Fixture::new();
    let image = fixture.about(None, "image", None);
    let listed: Vec<Value> = (0..5000)
        .map(|at| json!({"mediaType": "", "digest": Digest::sha256(format!("{at}").as_bytes()), "size": 1}))
        .collect();
    let twice = [listed.clone(), listed].concat();
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": twice});
    let list = fixture.put(&list, INDEX);
    let tag = Tag::of_referrers(&digest(&image)).to_string();
    // The name that makes it a list need not be the first.
    let mut entries = vec![named(&list, SHORT, "1.0")];
    entries.extend((0..500).map(|at| named(&list, FULL, &format!("a.io/x{at}:{tag}"))));
    let found = fixture.layout(&entries).referrers(&BTreeSet::from([digest(&image)])).unwrap();
    assert_eq!(found.len(), 5000);
}
