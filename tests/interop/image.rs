//! Images and what is in them: written as OCI layouts by hand, so that nothing of ocipull vouches for ocipull.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::Digest as _;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

/// A compressed layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) compressed: Vec<u8>,
    pub(crate) digest: String,
    pub(crate) diff_id: String,
    media_type: &'static str,
}

/// An image that was written into a layout.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The manifest's digest.
    pub(crate) digest: String,
    pub(crate) config: String,
    pub(crate) layers: Vec<String>,
    pub(crate) diff_ids: Vec<String>,
    /// The bytes of its blobs, the config and the layers.
    pub(crate) size: u64,
    descriptor: Value,
}

/// A file of an image's root, as a tar stream or a file system tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Folder { mode: u32 },
    File { mode: u32, size: u64, digest: String },
    Link { target: PathBuf },
}

/// `sha256:HEX` of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in sha2::Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("invariant: a String takes everything");
    }
    text
}

impl Layer {
    /// Compresses a tar stream, fast: how well does not matter here.
    pub(crate) fn new(tar: &[u8], compression: Compression) -> Self {
        let (compressed, media_type) = match compression {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
                encoder.write_all(tar).expect("gzip");
                (encoder.finish().expect("gzip"), "application/vnd.oci.image.layer.v1.tar+gzip")
            }
            Compression::Zstd => {
                (zstd::encode_all(tar, 3).expect("zstd"), "application/vnd.oci.image.layer.v1.tar+zstd")
            }
        };
        Self { digest: sha256(&compressed), diff_id: sha256(tar), compressed, media_type }
    }
}

/// A layout that is being written.
pub(crate) struct LayoutWriter {
    root: PathBuf,
}

impl LayoutWriter {
    pub(crate) fn new(root: &Path) -> Self {
        std::fs::create_dir_all(root.join("blobs/sha256")).expect("a folder");
        std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
        Self { root: root.to_owned() }
    }

    fn put(&self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        std::fs::write(blob_path(&self.root, &digest), bytes).expect("a blob is written");
        digest
    }

    /// Writes an image for linux on an architecture.
    pub(crate) fn image(&self, architecture: &str, layers: &[Layer]) -> Image {
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = json!({
            "created": "2024-01-01T00:00:00Z", "architecture": architecture, "os": "linux",
            "config": { "Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/busybox", "sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": layers.iter().map(|_| json!({ "created": "2024-01-01T00:00:00Z" })).collect::<Vec<_>>(),
        });
        let config = serde_json::to_vec(&config).expect("JSON");
        let mut size = config.len();
        let config_descriptor =
            json!({ "mediaType": CONFIG, "digest": self.put(&config), "size": config.len() });
        let mut descriptors = Vec::new();
        for layer in layers {
            self.put(&layer.compressed);
            size += layer.compressed.len();
            let length = layer.compressed.len();
            descriptors
                .push(json!({ "mediaType": layer.media_type, "digest": layer.digest, "size": length }));
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config_descriptor, "layers": descriptors,
        });
        let manifest = serde_json::to_vec_pretty(&manifest).expect("JSON");
        let digest = self.put(&manifest);
        let platform = json!({ "architecture": architecture, "os": "linux" });
        let descriptor =
            json!({ "mediaType": MANIFEST, "digest": digest, "size": manifest.len(), "platform": platform });
        let layers = layers.iter().map(|layer| layer.digest.clone()).collect();
        Image { digest, config: sha256(&config), layers, diff_ids, size: size as u64, descriptor }
    }

    /// Names one image in the layout.
    pub(crate) fn name(self, tag: &str, image: &Image) {
        self.write_index(tag, image.descriptor.clone());
    }

    /// Names an index of several images in the layout; gives its digest.
    pub(crate) fn name_index(self, tag: &str, images: &[&Image]) -> String {
        let listed: Vec<&Value> = images.iter().map(|image| &image.descriptor).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": listed });
        let index = serde_json::to_vec_pretty(&index).expect("JSON");
        let digest = self.put(&index);
        self.write_index(tag, json!({ "mediaType": INDEX, "digest": digest, "size": index.len() }));
        digest
    }

    fn write_index(self, tag: &str, mut descriptor: Value) {
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        std::fs::write(self.root.join("index.json"), serde_json::to_vec(&index).expect("JSON"))
            .expect("a file");
    }
}

/// Where a layout has a blob.
pub(crate) fn blob_path(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

/// A tar stream with a folder and a file in it.
pub(crate) fn one_file(folder: &str, name: &str, content: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    header.set_mtime(1_700_000_000);
    archive.append_data(&mut header, folder, std::io::empty()).expect("a folder is archived");
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o640);
    header.set_size(content.len() as u64);
    archive
        .append_data(&mut header, format!("{folder}/{name}"), content.as_bytes())
        .expect("a file is archived");
    archive.into_inner().expect("a tar stream")
}

/// The root that tar streams give, one laid over the other.
pub(crate) fn root_of(layers: &[&[u8]]) -> BTreeMap<PathBuf, Node> {
    let mut root = BTreeMap::new();
    for layer in layers {
        let mut archive = tar::Archive::new(*layer);
        for entry in archive.entries().expect("a tar stream") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path");
            let path: PathBuf =
                path.components().filter(|part| *part != std::path::Component::CurDir).collect();
            let mode = entry.header().mode().expect("a mode");
            let node = match entry.header().entry_type() {
                tar::EntryType::Directory => Node::Folder { mode },
                tar::EntryType::Regular => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).expect("a file's content");
                    Node::File { mode, size: content.len() as u64, digest: sha256(&content) }
                }
                tar::EntryType::Symlink => {
                    let target = entry.link_name().expect("a link").expect("a target");
                    Node::Link { target: target.into_owned() }
                }
                other => panic!("{} is {other:?}, which these packages did not have", path.display()),
            };
            if path != Path::new("") {
                root.insert(path, node);
            }
        }
    }
    root
}

/// The root that stands in a folder.
pub(crate) fn root_in(folder: &Path) -> BTreeMap<PathBuf, Node> {
    let mut root = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder).min_depth(1) {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o7777;
        let node = if entry.file_type().is_dir() {
            Node::Folder { mode }
        } else if entry.file_type().is_symlink() {
            Node::Link { target: std::fs::read_link(entry.path()).expect("a link") }
        } else {
            let content = std::fs::read(entry.path()).expect("a file");
            Node::File { mode, size: content.len() as u64, digest: sha256(&content) }
        };
        root.insert(entry.path().strip_prefix(folder).expect("a path below").to_owned(), node);
    }
    root
}

/// Says what differs, for a comparison of many thousand files would fill pages.
pub(crate) fn assert_same_root(found: &BTreeMap<PathBuf, Node>, expected: &BTreeMap<PathBuf, Node>) {
    let differing: Vec<_> = expected
        .keys()
        .chain(found.keys().filter(|path| !expected.contains_key(*path)))
        .filter(|path| found.get(*path) != expected.get(*path))
        .map(|path| format!("{}: {:?} instead of {:?}", path.display(), found.get(path), expected.get(path)))
        .collect();
    assert!(
        differing.is_empty(),
        "{} differ:\n{}",
        differing.len(),
        differing[..differing.len().min(10)].join("\n")
    );
}
