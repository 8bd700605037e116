use std::fs;
use std::path::Path;

use super::index::Conflict;
use super::index::NewEntry;
use super::*;
use crate::failure::{Failure, Kind};
use crate::manifest::MediaType;
use crate::verify::{BlobClaim, DiffIdClaims, ImageClaims, Proven, ProvenImage, verify_bytes};

fn create() -> (tempfile::TempDir, Layout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(&folder.path().join("out"), &mut nobody).unwrap();
    (folder, layout)
}

fn nobody(_: &str) {}

fn put(layout: &Layout, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    layout.put_document(&digest, bytes, &mut nobody).unwrap();
    digest
}

fn image(layout: &Layout, manifest: &[u8], name: &str) -> (ProvenImage, Descriptor) {
    let config = put(layout, b"{}");
    let digest = put(layout, manifest);
    let manifest_proof = verify_bytes(manifest, digest).unwrap();
    let claims = ImageClaims {
        manifest: &manifest_proof,
        config: BlobClaim { digest: config, size: 2 },
        layers: &[],
        diff_ids: DiffIdClaims::Artifact,
    };
    let proven = ProvenImage::assemble(&claims, |_, _| verify_bytes(b"{}", config).ok()).unwrap();
    let media_type = MediaType::from("application/vnd.oci.image.manifest.v1+json");
    let mut entry = Descriptor::new(media_type, digest, manifest.len() as u64);
    entry.annotations.insert(index::FULL_NAME.into(), format!("h.io/{name}"));
    entry.annotations.insert(index::REF_NAME.into(), name.into());
    (proven, entry)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// From the start on, any OCI tool reads the layout.
#[test]
fn a_new_layout_is_readable_and_empty() {
    let (_folder, layout) = create();
    assert_eq!(fs::read_to_string(layout.root().join("oci-layout")).unwrap(), MARKER);
    assert!(layout.index().unwrap().entries().is_empty());
    layout.clean_up(&mut nobody).unwrap();
    assert_eq!(names(layout.root()), ["blobs", "index.json", "oci-layout"]);
}

/// Files are 0644 and folders 0755, less the umask, so that the far side can read what was carried over.
#[cfg(unix)]
#[test]
fn modes_are_those_of_ordinary_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, layout) = create();
    put(&layout, b"content");
    layout.clean_up(&mut nobody).unwrap();
    for entry in walkdir::WalkDir::new(layout.root()) {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            mode,
            if entry.file_type().is_dir() { 0o755 } else { 0o644 },
            "{}",
            entry.path().display()
        );
    }
}

/// A folder of other things is refused, and so is a file; what a killed start of ours left is not.
#[test]
fn only_a_vacant_folder_becomes_a_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    assert!(matches!(Layout::look(&path), Ok(Target::Vacant)));
    fs::create_dir_all(path.join("blobs/sha256")).unwrap();
    fs::create_dir(path.join(".ocipull")).unwrap();
    assert!(matches!(Layout::look(&path), Ok(Target::Vacant)));
    fs::write(path.join("blobs/sha256/x"), "precious").unwrap();
    assert!(matches!(Layout::create(&path, &mut nobody), Err(LayoutError::NotALayout { .. })));
    assert!(matches!(Layout::look(&path.join("blobs/sha256/x")), Err(LayoutError::NotAFolder { .. })));
    assert!(matches!(Layout::open(&folder.path().join("absent")), Err(LayoutError::Missing { .. })));
}

/// A kill between the index and the marker leaves what is no layout yet, for any tool, and the next run finishes it; an
/// index that names something is somebody's.
#[test]
fn an_empty_index_without_a_marker_is_finished() {
    let (_folder, layout) = create();
    fs::remove_file(layout.root().join("oci-layout")).unwrap();
    assert!(matches!(Layout::look(layout.root()), Ok(Target::Vacant)));
    Layout::create(layout.root(), &mut nobody).unwrap();
    assert!(matches!(Layout::look(layout.root()), Ok(Target::Layout(_))));
    fs::remove_file(layout.root().join("oci-layout")).unwrap();
    fs::write(layout.root().join("index.json"), r#"{"schemaVersion":2,"manifests":[{}]}"#).unwrap();
    assert!(matches!(Layout::create(layout.root(), &mut nobody), Err(LayoutError::NotALayout { .. })));
}

/// A marker without an index is an empty layout that the next run finishes; a lost index with blobs beside it is an
/// error, never an empty start.
#[test]
fn a_missing_index_is_only_empty_where_nothing_is_lost() {
    let (_folder, layout) = create();
    fs::remove_file(layout.root().join("index.json")).unwrap();
    assert!(Layout::create(layout.root(), &mut nobody).unwrap().index().unwrap().entries().is_empty());
    assert!(layout.root().join("index.json").exists());
    put(&layout, b"content");
    fs::remove_file(layout.root().join("index.json")).unwrap();
    let error = Layout::create(layout.root(), &mut nobody).unwrap_err();
    assert_eq!(error.kind(), Kind::Layout);
}

/// An index or a marker that cannot be understood is said to be so and stays as it is.
#[test]
fn what_is_unreadable_is_never_overwritten() {
    for (file, text) in [
        ("index.json", "{\"schemaVersion\":2,"),
        ("index.json", ""),
        ("oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}"),
        ("oci-layout", "nonsense"),
    ] {
        let (_folder, layout) = create();
        fs::write(layout.root().join(file), text).unwrap();
        assert_eq!(
            Layout::create(layout.root(), &mut nobody).unwrap_err().kind(),
            Kind::Layout,
            "{file} {text}"
        );
        assert_eq!(fs::read_to_string(layout.root().join(file)).unwrap(), text);
    }
}

fn named(proven: &ProvenImage, entry: &Descriptor) -> Vec<(NewEntry, Proven)> {
    vec![(NewEntry::new(entry.clone(), Conflict::Refuse), Proven::Image(proven.clone()))]
}

/// An image is named once all of it is there, and an image that lacks a blob is not.
#[test]
fn an_image_is_named_only_when_it_is_whole() {
    let (_folder, layout) = create();
    let (proven, entry) = image(&layout, b"{\"one\":1}", "a:1");
    fs::remove_file(layout.blob_path(proven.config().digest())).unwrap();
    let refused = layout.name(&named(&proven, &entry), &mut nobody);
    assert!(matches!(refused, Err(LayoutError::Vanished { .. })));
    assert!(layout.index().unwrap().entries().is_empty());
    put(&layout, b"{}");
    assert!(layout.name(&named(&proven, &entry), &mut nobody).unwrap());
    assert!(!layout.name(&named(&proven, &entry), &mut nobody).unwrap());
    assert_eq!(layout.index().unwrap().entries().len(), 1);
}

/// Many writers at once lose none of each other's images.
#[test]
fn parallel_writers_lose_nothing() {
    let (_folder, layout) = create();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let layout = &layout;
            scope.spawn(move || {
                let manifest = format!("{{\"number\":{number}}}");
                let (proven, entry) = image(layout, manifest.as_bytes(), &format!("a:{number}"));
                layout.name(&named(&proven, &entry), &mut nobody).unwrap();
                layout.clean_up(&mut nobody).unwrap();
            });
        }
    });
    assert_eq!(layout.index().unwrap().entries().len(), 16);
    layout.clean_up(&mut nobody).unwrap();
    assert_eq!(names(layout.root()), ["blobs", "index.json", "oci-layout"]);
}

fn stage(layout: &Layout, bytes: &[u8]) -> StagedBlob {
    match StagedBlob::stage(layout, &Digest::sha256(bytes), bytes.len() as u64, Existing::Keep).unwrap() {
        Staging::Ready(staged) => staged,
        other => panic!("not staged: {other:?}"),
    }
}

/// A staged blob keeps what was noted, is held by one at a time, and gets its final name only with its own proof.
#[test]
fn a_staged_blob_resumes_and_commits() {
    let (_folder, layout) = create();
    let (bytes, other) = (b"some bytes of a layer".as_slice(), b"another thing".as_slice());
    let (digest, size) = (Digest::sha256(bytes), bytes.len() as u64);
    let staged = stage(&layout, bytes);
    staged.write_at(&bytes[..4], 0).unwrap();
    staged.note(&(0..4)).unwrap();
    let held = StagedBlob::stage(&layout, &digest, size, Existing::Keep).unwrap();
    assert!(matches!(held, Staging::HeldBy(holder) if holder == format!("process {}", std::process::id())));
    drop(staged);
    assert_eq!(layout.staged_bytes(&digest, size), 4);
    let staged = stage(&layout, bytes);
    assert_eq!(staged.recovered().frontier(), 4);
    staged.write_at(&bytes[4..], 4).unwrap();
    staged.commit(&verify_bytes(bytes, digest).unwrap()).unwrap();
    assert!(layout.contains(&digest, size).unwrap());
    assert!(matches!(StagedBlob::stage(&layout, &digest, size, Existing::Keep).unwrap(), Staging::Present));
    let staged = stage(&layout, other);
    assert!(staged.commit(&verify_bytes(bytes, digest).unwrap()).is_err());
    assert!(!layout.blob_path(&Digest::sha256(other)).exists());
    drop(staged);
    layout.clean_up(&mut nobody).unwrap();
    assert_eq!(names(layout.root()), ["blobs", "index.json", "oci-layout"]);
}

/// What a dead fetch left is kept and told of; what is worth nothing goes.
#[test]
fn clean_up_keeps_what_can_be_resumed() {
    let (_folder, layout) = create();
    let staged = stage(&layout, b"worth something");
    staged.write_at(b"worth", 0).unwrap();
    staged.note(&(0..5)).unwrap();
    assert_eq!(
        layout.clean_up(&mut nobody).unwrap(),
        Leftovers::default(),
        "a live process's blob is its own affair"
    );
    drop(staged);
    drop(stage(&layout, b"nothing yet"));
    fs::write(layout.staging_path(&Digest::sha256(b"x"), "journal"), "orphan").unwrap();
    fs::write(layout.staging_path(&Digest::sha256(b"x"), "encoded"), "aside").unwrap();
    fs::write(layout.staging_folder().join("new"), "torn index").unwrap();
    let leftovers = layout.clean_up(&mut nobody).unwrap();
    assert_eq!(leftovers.blobs, 1);
    let kept = names(&layout.staging_folder());
    assert_eq!(kept.len(), 3, "{kept:?}");
}

/// A document that does not have its digest is refused by whoever puts or reads it.
#[test]
fn documents_are_checked_both_ways() {
    let (_folder, layout) = create();
    let digest = put(&layout, b"right");
    assert!(layout.put_document(&Digest::sha256(b"other"), b"wrong", &mut nobody).is_err());
    assert_eq!(&layout.read_blob(&digest, 5).unwrap()[..], b"right");
    assert!(matches!(layout.read_blob(&digest, 4), Err(LayoutError::BadBlob { .. })));
    fs::write(layout.blob_path(&digest), "wrong").unwrap();
    assert!(matches!(layout.read_blob(&digest, 5), Err(LayoutError::BadBlob { .. })));
    let missing = layout.read_blob(&Digest::sha256(b"none"), 5);
    assert!(matches!(missing, Err(LayoutError::MissingBlob { .. })));
}
