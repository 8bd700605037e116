//! Lists of referrers: their bytes, and what becomes of them when two write at a time.

use super::*;
use crate::layout::index::{Conflict, REF_NAME};
use crate::progress::NullReporter;
use crate::verify::{self, DiffIdClaims, ImageClaims};

const NAME: &str = "r.example/app:sha256-0";

fn manifest(name: &str) -> Vec<u8> {
    let (config, subject) = (Digest::sha256(b"{}"), Digest::sha256(b"subject"));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{manifest}","artifactType":"{name}","layers":[],"annotations":{{"of":"{name}"}},
        "config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},
        "subject":{{"mediaType":"{manifest}","digest":"{subject}","size":7}}}}"#,
        manifest = MediaType::OCI_MANIFEST
    )
    .into_bytes()
}

fn referrer(name: &str) -> Descriptor {
    let bytes = manifest(name);
    Manifest::parse(bytes.clone().into(), None).unwrap().as_referrer(Digest::sha256(&bytes))
}

/// A list of these referrers, whose documents stand in the layout.
fn list(layout: &Layout, names: &[&str]) -> List {
    let mut images = Vec::new();
    for name in names {
        let bytes = manifest(name);
        for bytes in [&b"{}"[..], &bytes] {
            layout.put_document(&Digest::sha256(bytes), bytes, &mut |_| ()).unwrap();
        }
        let proof = |bytes: &[u8]| verify::verify_bytes(bytes, Digest::sha256(bytes)).unwrap();
        let config = crate::verify::BlobClaim { digest: Digest::sha256(b"{}"), size: 2 };
        let claims =
            ImageClaims { manifest: &proof(&bytes), config, layers: &[], diff_ids: DiffIdClaims::Artifact };
        images.push(ProvenImage::assemble(&claims, |_, _| Some(proof(b"{}"))).unwrap());
    }
    let subject = Digest::sha256(b"subject");
    let mut descriptor = Descriptor::new(MediaType::OCI_INDEX, subject, 0);
    descriptor.annotations.insert(FULL_NAME.to_owned(), NAME.to_owned());
    descriptor.annotations.insert(REF_NAME.to_owned(), "sha256-0".to_owned());
    List {
        subject,
        entry: NewEntry::new(descriptor, Conflict::Yield),
        referrers: names.iter().map(|name| referrer(name)).collect(),
        indexes: Vec::new(),
        images,
    }
}

/// The artifact types in the list that the layout has.
fn listed(layout: &Layout) -> Vec<String> {
    let index = layout.index().unwrap();
    assert_eq!(index.entries().len(), 1);
    let Manifest::Index(list) = layout.manifest(&index.entries()[0].descriptor().unwrap()).unwrap() else {
        panic!("no index")
    };
    let mut types: Vec<String> =
        list.manifests().iter().filter_map(|entry| entry.artifact_type.clone()).collect();
    types.sort();
    types
}

fn name_list(layout: &Layout, list: List) -> bool {
    let reporter: Arc<dyn Reporter> = Arc::new(NullReporter);
    let fetch = ToName { named: Vec::new(), lists: vec![list] };
    name(layout, &[&fetch], &reporter, &mut |_| ()).unwrap() == [true]
}

/// Each fetch adds to the list that stands there, however few types it is for; what went from the layout goes from the
/// list, and a list that cannot be read is made anew.
#[test]
fn a_list_grows_by_what_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(&folder.path().join("out"), &mut |_| ()).unwrap();
    let (a, b) = (|| list(&layout, &["a"]), || list(&layout, &["b", "c"]));
    assert!(name_list(&layout, a()));
    assert!(!name_list(&layout, a()), "the same again changes nothing");
    assert!(name_list(&layout, b()));
    assert_eq!(listed(&layout), ["a", "b", "c"]);
    std::fs::remove_file(layout.blob_path(&referrer("a").digest)).unwrap();
    assert!(name_list(&layout, b()));
    assert_eq!(listed(&layout), ["b", "c"]);
    let held = layout.index().unwrap().entries()[0].descriptor().unwrap().digest;
    std::fs::write(layout.blob_path(&held), "torn").unwrap();
    name_list(&layout, list(&layout, &["d"]));
    assert_eq!(listed(&layout), ["d"]);
}

/// Two fetches that find different referrers at the same time lose none of them.
#[test]
fn nothing_is_lost_when_two_write_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(&folder.path().join("out"), &mut |_| ()).unwrap();
    let names: Vec<String> = (0..24).map(|number| format!("type-{number:02}")).collect();
    std::thread::scope(|scope| {
        for some in names.chunks(6) {
            let layout = layout.clone();
            scope.spawn(move || {
                for name in some {
                    name_list(&layout, list(&layout, &[name]));
                }
            });
        }
    });
    assert_eq!(listed(&layout), names);
}

/// The same referrers are the same bytes, each once, whatever the order; the newer description of one counts. Nothing is
/// an index as well.
#[test]
fn the_bytes_of_a_list() {
    let subject = Digest::sha256(b"subject");
    let (a, b) = (referrer("a"), referrer("b"));
    let both = fallback_index(&subject, &[a.clone(), b.clone()], &[]).unwrap();
    assert!(!both.is_bare);
    let older = Descriptor { annotations: BTreeMap::new(), ..a.clone() };
    let again = fallback_index(&subject, &[b, a], &[older]).unwrap();
    assert_eq!(again.bytes, both.bytes);
    let text = String::from_utf8(both.bytes).unwrap();
    assert!(text.contains(r#""annotations":{"of":"a"}"#) && text.contains(r#""artifactType":"b""#), "{text}");
    let nothing = fallback_index(&subject, &[], &[]).unwrap().bytes;
    let expected = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
    assert_eq!(nothing, expected.as_bytes());
}

/// An index has at most 4 MiB: annotations are worth less than the list, and without room for that either it says so.
#[test]
fn a_list_that_is_too_large() {
    let subject = Digest::sha256(b"subject");
    let many = |count: usize, annotation: usize, artifact_type: usize| -> Vec<Descriptor> {
        let entry = |number: usize| {
            let digest = Digest::sha256(&number.to_be_bytes());
            let mut entry = Descriptor::new(MediaType::OCI_MANIFEST, digest, 1);
            entry.artifact_type = Some("t".repeat(artifact_type));
            entry.annotations.insert("a".to_owned(), "x".repeat(annotation));
            entry
        };
        (0..count).map(entry).collect()
    };
    let list = fallback_index(&subject, &many(100, 60_000, 8), &[]).unwrap();
    assert!(list.is_bare);
    let Manifest::Index(index) = Manifest::parse(list.bytes.into(), None).unwrap() else {
        panic!("no index")
    };
    assert_eq!(index.manifests().len(), 100);
    assert!(
        index.manifests().iter().all(|entry| entry.artifact_type.is_some() && entry.annotations.is_empty())
    );
    let error = fallback_index(&subject, &many(100, 1, 60_000), &[]).unwrap_err();
    assert!(matches!(error, FetchError::OverCap { .. }), "{error}");
}
