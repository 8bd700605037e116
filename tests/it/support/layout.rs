//! Proves an OCI image layout on disk with code of its own: every blob against its name, every descriptor against its
//! blob, every layer's diff ID against the config ("Image Layout" and "Image Configuration" of the image spec).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};

use super::content::{KIB, hex};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Deeper than any index that a registry may hand out.
const DEEPEST: usize = 16;

/// What was found in a layout that holds.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// `index.json` as it is.
    pub(crate) index: Value,
    /// The `org.opencontainers.image.ref.name` of every entry that has one, in order.
    pub(crate) ref_names: Vec<String>,
    /// The digest of every entry, in order.
    pub(crate) digests: Vec<String>,
    /// The size of every blob by digest.
    pub(crate) blobs: BTreeMap<String, u64>,
    /// Blobs that nothing refers to.
    pub(crate) unreferenced: Vec<String>,
    /// Entries of indexes that are not there, which only [`Proof::sparse`] allows.
    pub(crate) missing: Vec<String>,
    /// How many layers were inflated and held against a diff ID.
    pub(crate) diff_ids_proven: usize,
}

/// The layout is complete and nothing else is in it.
///
/// # Panics
///
/// With what is wrong.
pub(crate) fn check_layout(folder: &Path) -> Summary {
    Proof::new().run(folder).unwrap_or_else(|finding| panic!("{}: {finding}", folder.display()))
}

/// The layout is readable and every image that it names is whole; a fetch may have left its staging behind.
///
/// # Panics
///
/// With what is wrong.
pub(crate) fn assert_readable(folder: &Path) -> Summary {
    let proof = Proof::new().sparse().with_staging();
    proof.run(folder).unwrap_or_else(|finding| panic!("{}: {finding}", folder.display()))
}

/// What a proof demands.
#[derive(Debug, Clone)]
#[must_use = "nothing is proven before run"]
pub(crate) struct Proof {
    sparse: bool,
    /// What else may be there.
    beside: Vec<&'static str>,
    diff_ids: bool,
    modes: (u32, u32),
}

impl Proof {
    /// Everything, with modes 0644 and 0755 under this process's umask.
    pub(crate) fn new() -> Self {
        let umask = umask();
        Self { sparse: false, beside: Vec::new(), diff_ids: true, modes: (0o644 & !umask, 0o755 & !umask) }
    }

    /// Entries of an index may be missing, but not all of them.
    pub(crate) fn sparse(mut self) -> Self {
        self.sparse = true;
        self
    }

    /// `.ocipull/` may be there, whatever it holds.
    pub(crate) fn with_staging(mut self) -> Self {
        self.beside.push(".ocipull");
        self
    }

    /// `signatures/` may be there, whatever it holds.
    pub(crate) fn with_signatures(mut self) -> Self {
        self.beside.push("signatures");
        self
    }

    /// Diff IDs may be wrong.
    pub(crate) fn without_diff_ids(mut self) -> Self {
        self.diff_ids = false;
        self
    }

    /// These modes of files and folders.
    pub(crate) fn modes(mut self, files: u32, folders: u32) -> Self {
        self.modes = (files, folders);
        self
    }

    /// Proves the layout.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in words.
    pub(crate) fn run(self, folder: &Path) -> Result<Summary, String> {
        self.check_top(folder)?;
        let marker = read_json(&folder.join("oci-layout"))?;
        expect(marker["imageLayoutVersion"] == "1.0.0", || format!("oci-layout says {marker}"))?;
        let index = read_json(&folder.join("index.json"))?;
        expect(index["schemaVersion"] == 2, || {
            format!("index.json has schemaVersion {}", index["schemaVersion"])
        })?;
        let blobs = self.read_blobs(&folder.join("blobs"))?;
        let mut walk = Walk {
            proof: &self,
            folder,
            blobs: &blobs,
            reached: BTreeSet::new(),
            missing: BTreeSet::new(),
            diff_ids: BTreeMap::new(),
            proven: 0,
        };
        let (mut ref_names, mut digests) = (Vec::new(), Vec::new());
        for entry in list(&index, "manifests")? {
            walk.descriptor(entry, 0)?;
            digests.push(string(entry, "digest")?.to_owned());
            ref_names.extend(entry["annotations"][REF_NAME].as_str().map(str::to_owned));
        }
        let distinct: BTreeSet<_> = ref_names.iter().collect();
        expect(distinct.len() == ref_names.len(), || format!("a ref.name is there twice: {ref_names:?}"))?;
        let unreferenced = blobs.keys().filter(|digest| !walk.reached.contains(*digest)).cloned().collect();
        let missing = walk.missing.into_iter().collect();
        let diff_ids_proven = walk.proven;
        Ok(Summary { index, ref_names, digests, blobs, unreferenced, missing, diff_ids_proven })
    }

    fn check_top(&self, folder: &Path) -> Result<(), String> {
        for path in children(folder)? {
            match path.file_name().and_then(|name| name.to_str()) {
                Some("oci-layout" | "index.json") => self.check_mode(&path, false)?,
                Some("blobs") => self.check_mode(&path, true)?,
                Some(name) if self.beside.contains(&name) => {}
                _ => return Err(format!("{} does not belong there", path.display())),
            }
        }
        self.check_mode(folder, true)
    }

    /// Hashes every blob and holds it against its name.
    fn read_blobs(&self, folder: &Path) -> Result<BTreeMap<String, u64>, String> {
        let mut blobs = BTreeMap::new();
        for algorithm_folder in children(folder)? {
            self.check_mode(&algorithm_folder, true)?;
            for path in children(&algorithm_folder)? {
                self.check_mode(&path, false)?;
                let algorithm = file_name(&algorithm_folder);
                let digest = format!("{algorithm}:{}", file_name(&path));
                let (actual, size) = hash(&algorithm, open(&path)?)?;
                expect(actual == digest, || format!("{} holds {actual}", path.display()))?;
                blobs.insert(digest, size);
            }
        }
        Ok(blobs)
    }

    #[cfg(unix)]
    fn check_mode(&self, path: &Path, folder: bool) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = fs::symlink_metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mode = metadata.permissions().mode() & 0o7777;
        let wanted = if folder { self.modes.1 } else { self.modes.0 };
        let right_kind = if folder { metadata.is_dir() } else { metadata.is_file() };
        expect(right_kind && mode == wanted, || {
            format!("{} has mode {mode:o} or is of the wrong kind, wanted {wanted:o}", path.display())
        })
    }

    #[cfg(not(unix))]
    fn check_mode(&self, path: &Path, folder: bool) -> Result<(), String> {
        expect(path.is_dir() == folder, || format!("{} is of the wrong kind", path.display()))
    }
}

/// The way from `index.json` down.
struct Walk<'a> {
    proof: &'a Proof,
    folder: &'a Path,
    blobs: &'a BTreeMap<String, u64>,
    reached: BTreeSet<String>,
    missing: BTreeSet<String>,
    /// Diff IDs that were computed, by the layer's digest: images share layers.
    diff_ids: BTreeMap<(String, String), String>,
    proven: usize,
}

impl Walk<'_> {
    fn descriptor(&mut self, descriptor: &Value, depth: usize) -> Result<(), String> {
        expect(depth < DEEPEST, || "indexes are nested too deep".into())?;
        let digest = self.blob(descriptor)?;
        match string(descriptor, "mediaType")? {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => self.index(&digest, depth),
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => self.manifest(&digest),
            // Any other type is a document that nobody here can read further.
            _ => Ok(()),
        }
    }

    /// The blob is there and has the size that the descriptor says.
    fn blob(&mut self, descriptor: &Value) -> Result<String, String> {
        let digest = string(descriptor, "digest")?.to_owned();
        let size = self.blobs.get(&digest).ok_or_else(|| format!("blob {digest} is missing"))?;
        expect(descriptor["size"].as_u64() == Some(*size), || {
            format!("blob {digest} has {size} bytes, its descriptor says {}", descriptor["size"])
        })?;
        self.reached.insert(digest.clone());
        Ok(digest)
    }

    fn index(&mut self, digest: &str, depth: usize) -> Result<(), String> {
        let document = read_json(&self.path(digest))?;
        let entries = list(&document, "manifests")?;
        let mut present = 0;
        for entry in entries {
            let child = string(entry, "digest")?;
            if self.proof.sparse && !self.blobs.contains_key(child) {
                self.missing.insert(child.to_owned());
                continue;
            }
            self.descriptor(entry, depth + 1)?;
            present += 1;
        }
        expect(present > 0 || entries.is_empty(), || format!("index {digest} has none of its entries"))
    }

    fn manifest(&mut self, digest: &str) -> Result<(), String> {
        let document = read_json(&self.path(digest))?;
        let config = self.blob(&document["config"])?;
        let layers = list(&document, "layers")?;
        let digests: Vec<_> = layers.iter().map(|layer| self.blob(layer)).collect::<Result<_, _>>()?;
        let is_image = matches!(
            string(&document["config"], "mediaType")?,
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
        );
        if !is_image || !self.proof.diff_ids {
            return Ok(());
        }
        let config = read_json(&self.path(&config))?;
        let diff_ids = list(&config["rootfs"], "diff_ids")?;
        expect(diff_ids.len() == digests.len(), || {
            format!("manifest {digest} has {} layers and {} diff IDs", digests.len(), diff_ids.len())
        })?;
        for (layer, claim) in digests.into_iter().zip(diff_ids) {
            let claim = claim.as_str().ok_or("a diff ID that is not text")?;
            let actual = self.diff_id(&layer, claim)?;
            expect(actual == claim, || {
                format!("layer {layer} has diff ID {actual}, its config says {claim}")
            })?;
            self.proven += 1;
        }
        Ok(())
    }

    /// The diff ID in the algorithm of the claim.
    fn diff_id(&mut self, layer: &str, claim: &str) -> Result<String, String> {
        let algorithm = claim.split(':').next().unwrap_or_default().to_owned();
        let key = (layer.to_owned(), algorithm);
        if let Some(known) = self.diff_ids.get(&key) {
            return Ok(known.clone());
        }
        let (diff_id, _) = hash(&key.1, inflate(&self.path(layer))?)?;
        self.diff_ids.insert(key, diff_id.clone());
        Ok(diff_id)
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest.replace(':', "/"))
    }
}

/// The layer's tar; its encoding is told from the first bytes, not from the media type.
fn inflate(path: &Path) -> Result<Box<dyn Read>, String> {
    let mut file = open(path)?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(|error| error.to_string())?;
    file.rewind().map_err(|error| error.to_string())?;
    let buffered = BufReader::with_capacity(64 * KIB, file);
    Ok(match magic[..] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(buffered)),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            Box::new(zstd::Decoder::with_buffer(buffered).map_err(|error| error.to_string())?)
        }
        _ => Box::new(buffered),
    })
}

/// The digest in the named algorithm, and the length.
fn hash(algorithm: &str, source: impl Read) -> Result<(String, u64), String> {
    match algorithm {
        "sha256" => {
            let mut state = Sha256::new();
            let length = feed(source, |bytes| state.update(bytes))?;
            Ok((format!("sha256:{}", hex(&state.finalize())), length))
        }
        "sha512" => {
            let mut state = Sha512::new();
            let length = feed(source, |bytes| state.update(bytes))?;
            Ok((format!("sha512:{}", hex(&state.finalize())), length))
        }
        other => Err(format!("no such digest algorithm: {other}")),
    }
}

fn feed(mut source: impl Read, mut sink: impl FnMut(&[u8])) -> Result<u64, String> {
    let mut buffer = vec![0; 64 * KIB];
    let mut length = 0;
    loop {
        let bytes = source.read(&mut buffer).map_err(|error| error.to_string())?;
        if bytes == 0 {
            return Ok(length);
        }
        sink(&buffer[..bytes]);
        length += bytes as u64;
    }
}

fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_json(path: &Path) -> Result<Value, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn list<'a>(document: &'a Value, field: &str) -> Result<&'a Vec<Value>, String> {
    document[field].as_array().ok_or_else(|| format!("no list {field} in {document}"))
}

fn string<'a>(document: &'a Value, field: &str) -> Result<&'a str, String> {
    document[field].as_str().ok_or_else(|| format!("no text {field} in {document}"))
}

fn children(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| error.to_string())).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn expect(holds: bool, finding: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(finding()) }
}

/// This process's umask, read without changing it; the usual one where the system does not tell.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
}
