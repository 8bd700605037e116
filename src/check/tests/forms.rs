//! The forms that images come in: sparse indexes, foreign layers, artifacts, signatures, schema 1.

use super::*;

const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn annotated(descriptor: &Value, key: &str, value: &str) -> Value {
    let mut descriptor = descriptor.clone();
    descriptor["annotations"][key] = value.into();
    descriptor
}

fn platform(descriptor: &Value, architecture: &str) -> Value {
    let mut descriptor = descriptor.clone();
    descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
    descriptor
}

impl Fixture {
    /// An image for a platform, and nothing of it in the layout.
    fn gone(&self, content: &str, architecture: &str) -> Value {
        let (manifest, layer) = self.image(content);
        for gone in [&manifest, &layer] {
            fs::remove_file(self.path(&digest_of(gone))).unwrap();
        }
        platform(&manifest, architecture)
    }

    fn bad(&self) -> Vec<(FindingKind, String)> {
        self.found().into_iter().filter(|(kind, _)| !kind.is_note()).collect()
    }

    fn left_out(&self) -> (usize, usize) {
        let left_out = self.check().left_out;
        (left_out.manifests, left_out.layers)
    }
}

/// Of an index that says what was taken, the rest may be absent; of any other, nothing may. What one entry excuses and
/// another asks for is missing.
#[test]
fn only_what_was_left_out_by_choice_may_be_absent() {
    let mut fixture = Fixture::new();
    let here = platform(&fixture.image("here").0, "amd64");
    let absent = fixture.gone("absent", "arm64");
    let attestation = fixture.gone("attestation", "unknown");
    let index = fixture.index(&[here, absent.clone(), attestation.clone()]);
    let sparse = |platforms: &str| annotated(&index, "io.ocipull.platforms", platforms);
    let missing = |gone: &[&Value]| {
        let mut found: Vec<_> = gone.iter().map(|gone| (Missing, digest_of(gone))).collect();
        found.sort();
        found
    };
    let cases: [(Vec<Value>, Vec<&Value>, usize); 4] = [
        (vec![sparse("linux/x86_64")], vec![], 2),
        (vec![sparse("linux/amd64,linux/arm64")], vec![&absent], 1),
        (vec![index.clone()], vec![&absent, &attestation], 0),
        (vec![sparse("linux/amd64"), index.clone()], vec![&absent, &attestation], 0),
    ];
    for (entries, gone, left_out) in cases {
        fixture.entries = entries;
        assert_eq!(fixture.bad(), missing(&gone), "{:?}", fixture.entries);
        assert_eq!(fixture.left_out(), (left_out, 0), "{:?}", fixture.entries);
    }
}

/// What was not asked for and is there all the same is proven like everything else.
#[test]
fn unlisted_children_are_proven_when_they_are_there() {
    let mut fixture = Fixture::new();
    let (taken, _) = fixture.image("taken");
    let (other, layer) = fixture.image("other");
    let index = fixture.index(&[platform(&taken, "amd64"), platform(&other, "arm64")]);
    fixture.entries = vec![annotated(&index, "io.ocipull.platforms", "linux/amd64")];
    assert_eq!(fixture.found(), []);
    fs::write(fixture.path(&digest_of(&layer)), "OTHER").unwrap();
    assert_eq!(fixture.found(), [(DigestMismatch, digest_of(&layer))]);
    fs::remove_file(fixture.path(&digest_of(&layer))).unwrap();
    assert_eq!(fixture.bad(), [(Missing, digest_of(&layer))]);
}

/// Below a nested index the same holds, and one that nothing was taken of may be absent whole.
#[test]
fn nested_indexes_may_be_sparse() {
    let mut fixture = Fixture::new();
    let here = platform(&fixture.image("here").0, "amd64");
    let absent = fixture.gone("absent", "arm64");
    let nested = fixture.index(&[here, absent.clone()]);
    let unused = fixture.index(&[fixture.gone("unused", "s390x")]);
    fs::remove_file(fixture.path(&digest_of(&unused))).unwrap();
    let index = fixture.index(&[nested.clone(), unused.clone()]);
    fixture.entries = vec![annotated(&index, "io.ocipull.platforms", "linux/amd64")];
    assert_eq!((fixture.bad(), fixture.left_out()), (vec![], (2, 0)));
    fixture.entries = vec![annotated(&index, "io.ocipull.platforms", "linux/arm64")];
    assert_eq!(fixture.bad(), [(Missing, digest_of(&absent))]);
    fixture.entries = vec![index];
    let mut wanted = [(Missing, digest_of(&absent)), (Missing, digest_of(&unused))];
    wanted.sort();
    assert_eq!(fixture.bad(), wanted);
    fs::remove_file(fixture.path(&digest_of(&nested))).unwrap();
    fixture.entries[0] = annotated(&fixture.entries[0], "io.ocipull.platforms", "linux/amd64");
    assert!(fixture.bad().contains(&(Missing, digest_of(&nested))));
}

/// An index that is said to hold a platform and has none for it is a contradiction, though no blob is missing.
#[test]
fn a_platform_that_the_index_lacks_is_a_bad_document() {
    let mut fixture = Fixture::new();
    let index = fixture.index(&[platform(&fixture.image("here").0, "amd64")]);
    fixture.entries = vec![annotated(&index, "io.ocipull.platforms", "linux/riscv64")];
    let report = fixture.check();
    assert_eq!(fixture.bad(), [(BadDocument, "index.json".to_owned())]);
    assert!(report.findings[0].detail.contains("linux/riscv64"), "{}", report.findings[0].detail);
}

/// A fetch passes over entries whose type it does not know, so a layout need not hold them; one that is there must hold.
#[test]
fn entries_of_unknown_types_may_be_absent() {
    let mut fixture = Fixture::new();
    let thing = fixture.put(b"thing", "application/vnd.example.thing");
    let index = fixture.index(&[fixture.image("image").0, thing.clone()]);
    fixture.entries = vec![index.clone()];
    assert_eq!(fixture.found(), []);
    fs::write(fixture.path(&digest_of(&thing)), "think").unwrap();
    assert_eq!(fixture.found(), [(DigestMismatch, digest_of(&thing))]);
    fs::remove_file(fixture.path(&digest_of(&thing))).unwrap();
    assert_eq!((fixture.found(), fixture.left_out()), (vec![], (0, 0)));
    fixture.entries = vec![annotated(&index, "io.ocipull.platforms", "linux/amd64")];
    assert_eq!(fixture.found(), []);
}

type Wanted = [(FindingKind, String)];

/// Layers that live elsewhere may be left there where the entry says so; without the word they are missing, and a layer
/// without URLs is missing either way.
#[test]
fn foreign_layers_may_be_left_where_they_live() {
    let mut fixture = Fixture::new();
    let content = b"foreign";
    let mut foreign = fixture.put(content, DOCKER_FOREIGN);
    let plain = fixture.put(b"plain", LAYER);
    let diff_ids = [digest_of(&foreign), digest_of(&plain)];
    foreign["urls"] = json!(["https://example.com/layer"]);
    let config = fixture.config(&[&diff_ids[0], &diff_ids[1]]);
    let manifest = fixture.manifest(&config, &[&foreign, &plain]);
    let skipped = annotated(&manifest, "io.ocipull.foreign-layers", "skipped");
    let index = fixture.index(std::slice::from_ref(&manifest));
    let skipped_index = annotated(&index, "io.ocipull.foreign-layers", "skipped");
    let digest = digest_of(&foreign);

    fixture.entries = vec![skipped.clone()];
    assert_eq!((fixture.bad(), fixture.left_out()), (vec![], (0, 0)));
    fs::write(fixture.path(&digest), "FOREIGN").unwrap();
    assert_eq!(fixture.bad(), [(DigestMismatch, digest.clone())], "what is there is proven");

    fs::remove_file(fixture.path(&digest)).unwrap();
    let missing = vec![(Missing, digest.clone())];
    let cases: [(Vec<Value>, &Wanted, usize); 5] = [
        (vec![skipped.clone()], &[], 1),
        (vec![skipped_index.clone()], &[], 1),
        (vec![manifest.clone()], &missing, 0),
        (vec![skipped.clone(), manifest.clone()], &missing, 0),
        (vec![manifest.clone(), skipped_index], &missing, 0),
    ];
    for (entries, wanted, left_out) in cases {
        fixture.entries = entries;
        assert_eq!(fixture.bad(), wanted, "{:?}", fixture.entries);
        assert_eq!(fixture.left_out(), (0, left_out), "{:?}", fixture.entries);
    }
    fixture.entries = vec![annotated(&manifest, "io.ocipull.foreign-layers", "fetched")];
    assert_eq!(fixture.bad(), missing);

    fs::remove_file(fixture.path(&digest_of(&plain))).unwrap();
    fixture.entries = vec![skipped];
    assert_eq!(fixture.bad(), [(Missing, digest_of(&plain))]);
    let config: Digest = digest_of(&config).parse().unwrap();
    fs::remove_file(fixture.path(&config.to_string())).unwrap();
    assert!(fixture.bad().contains(&(Missing, config.to_string())));
}

/// A diff ID that was skipped at the time of the fetch is proven all the same.
#[test]
fn skipped_diff_ids_are_proven() {
    let mut fixture = Fixture::new();
    let layer = fixture.put(b"layer", LAYER);
    let manifest = fixture.manifest(&fixture.config(&[&Digest::sha256(b"other").to_string()]), &[&layer]);
    fixture.entries = vec![annotated(&manifest, "io.ocipull.diff-ids", "skipped")];
    assert_eq!(fixture.bad(), [(FindingKind::DiffIdMismatch, digest_of(&layer))]);
}

/// The digests of an index that was not kept, and of what was converted, name documents that need not be there.
#[test]
fn where_an_image_came_from_need_not_be_there() {
    let mut fixture = Fixture::new();
    let elsewhere = Digest::sha256(b"elsewhere").to_string();
    let image = annotated(&fixture.image("image").0, "io.ocipull.index.digest", &elsewhere);
    fixture.entries = vec![annotated(&image, "io.ocipull.source.digest", &elsewhere)];
    assert_eq!(fixture.found(), []);
}

/// An artifact is its blobs: any config, the empty one too, which must be there although the manifest carries it.
#[test]
fn artifacts_are_proven_by_digest() {
    let mut fixture = Fixture::new();
    let (image, _) = fixture.image("image");
    let empty = annotated(&fixture.put(b"{}", EMPTY), "key", "value");
    let mut embedded = empty.clone();
    embedded["data"] = "e30=".into();
    let chart = fixture.put(b"\x1f\x8bno gzip at all", "application/vnd.cncf.helm.chart.content.v1.tar+gzip");
    let artifact = |subject: Option<&Value>| {
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.sbom",
            "config": embedded, "layers": [chart], "subject": subject})
    };
    let about = |subject: Option<&Value>| fixture.put_json(&artifact(subject), MANIFEST);
    let mut lying = image.clone();
    lying["size"] = 7.into();
    let absent = json!({"mediaType": MANIFEST, "digest": Digest::sha256(b"absent"), "size": 9});
    let cases = [
        (about(None), vec![]),
        (about(Some(&image)), vec![]),
        (about(Some(&absent)), vec![]),
        (about(Some(&lying)), vec![(SizeMismatch, digest_of(&image))]),
    ];
    for (artifact, wanted) in cases {
        fixture.entries = vec![image.clone(), artifact];
        assert_eq!(fixture.bad(), wanted);
    }
    fs::remove_file(fixture.path(&digest_of(&empty))).unwrap();
    assert!(fixture.bad().contains(&(Missing, digest_of(&empty))));
    fs::write(fixture.path(&digest_of(&chart)), "chart").unwrap();
    assert!(fixture.bad().contains(&(DigestMismatch, digest_of(&chart))));
}

/// Cosign writes signatures as images whose layers are JSON, and a fallback index is an index like any other.
#[test]
fn signatures_and_fallback_indexes_are_proven() {
    let mut fixture = Fixture::new();
    let (image, _) = fixture.image("image");
    let payload = fixture.put(br#"{"critical":{}}"#, "application/vnd.dev.cosign.simplesigning.v1+json");
    let signature = fixture.manifest(&fixture.config(&[text(&payload["digest"])]), &[&payload]);
    let sbom = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": fixture.put(b"{}", EMPTY),
        "artifactType": "application/x", "layers": [], "subject": image});
    let sbom = fixture.put_json(&sbom, MANIFEST);
    let fallback = fixture.index(std::slice::from_ref(&sbom));
    let tag = digest_of(&image).replace(':', "-");
    let named = |entry: &Value, tag: &str| {
        annotated(entry, "io.containerd.image.name", &format!("example.com/app:{tag}"))
    };
    fixture.entries = vec![
        named(&image, "1.0"),
        named(&signature, &format!("{tag}.sig")),
        sbom.clone(),
        named(&fallback, &tag),
    ];
    assert_eq!(fixture.found(), []);
    fixture.entries.remove(2);
    fs::remove_file(fixture.path(&digest_of(&sbom))).unwrap();
    assert_eq!(fixture.bad(), [(Missing, digest_of(&sbom))]);
}

/// Schema 1 has no place in a layout, however it is listed; where an index lists it a fetch passes it over.
#[test]
fn schema1_is_a_bad_document() {
    let mut fixture = Fixture::new();
    let layer = Digest::sha256(b"layer");
    let old = json!({"schemaVersion": 1, "name": "n", "tag": "t", "architecture": "amd64",
        "fsLayers": [{"blobSum": layer}], "history": [{"v1Compatibility": "{}"}]});
    for media_type in ["application/vnd.docker.distribution.manifest.v1+json", ""] {
        let manifest = fixture.put_json(&old, media_type);
        fixture.entries = vec![manifest.clone()];
        assert_eq!(fixture.bad(), [(BadDocument, digest_of(&manifest))], "{media_type}");
        fixture.entries = vec![fixture.index(std::slice::from_ref(&manifest))];
        assert_eq!(fixture.bad(), [(BadDocument, digest_of(&manifest))], "{media_type}");
        fs::remove_file(fixture.path(&digest_of(&manifest))).unwrap();
        assert_eq!(fixture.bad(), [], "{media_type}");
    }
}

/// Signatures beside the blobs are what a lookaside store has, so they are no strays; anything else there is.
#[test]
fn signatures_are_no_strays() {
    let mut fixture = Fixture::new();
    let (image, _) = fixture.image("image");
    let hex = digest_of(&image).replace("sha256:", "");
    fixture.entries = vec![image];
    let signatures = fixture.folder.path().join("signatures");
    let good = [
        format!("app@sha256={hex}/signature-1"),
        format!("quay.io/org/app@sha256={hex}/signature-12"),
        format!("org/app@sha256={}/signature-2", "0".repeat(64)),
    ];
    let bad = [
        "README".to_owned(),
        format!("@sha256={hex}/signature-1"),
        format!("app@sha256:{hex}/signature-1"),
        "app@sha256=12/signature-1".to_owned(),
        format!("app@md5={hex}/signature-1"),
        format!("app@sha256={hex}/signature-0"),
        format!("app@sha256={hex}/signature-"),
        format!("app@sha256={hex}/signature-1x"),
        format!("app@sha256={hex}/deeper/signature-1"),
        "signature-1".to_owned(),
    ];
    for name in good.iter().chain(&bad) {
        let path = signatures.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"\x99 opaque").unwrap();
    }
    let mut wanted: Vec<_> = bad.iter().map(|name| (Stray, format!("signatures/{name}"))).collect();
    wanted.sort();
    let mut found = fixture.found();
    found.sort();
    assert_eq!(found, wanted);
    assert!(fixture.check().ok);
    fs::remove_dir_all(&signatures).unwrap();
    fs::write(&signatures, "").unwrap();
    assert_eq!(fixture.found(), [(Stray, "signatures".to_owned())]);
}

/// What was left out shows in the report, and a report of a whole layout has the keys that it always had.
#[test]
fn the_report_counts_what_was_left_out() {
    let mut fixture = Fixture::new();
    let index = fixture.index(&[platform(&fixture.image("here").0, "amd64"), fixture.gone("gone", "arm64")]);
    fixture.entries = vec![annotated(&index, "io.ocipull.platforms", "linux/amd64")];
    let json = serde_json::to_value(fixture.check()).unwrap();
    assert_eq!(json["leftOut"], json!({"manifests": 1, "layers": 0}));
    fixture.entries = vec![index];
    assert!(serde_json::to_value(fixture.check()).unwrap().get("leftOut").is_none());
}
