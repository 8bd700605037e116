//! A layout with images of every form that a fetch takes, and what its files held when it was good.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::content::{Compression, KIB, random_from, text};
use super::context::TestContext;
use super::image::{artifact, image, index};
use super::registry::FaultRegistry;

/// Where the images came from, and the layout.
pub(crate) struct Mixed {
    pub(crate) registry: FaultRegistry,
    pub(crate) context: TestContext,
    /// Every file of the layout by its path in there, as a fetch left it.
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Mixed {
    /// An index of two platforms with a shared layer, a zstd layer and referrers; Docker's images, alone and in an index,
    /// converted; a schema 1 image; an artifact; an image by sha512.
    pub(crate) fn fetch() -> Self {
        let registry = FaultRegistry::start();
        let shared = random_from(1, 3 * KIB);
        let of = |platform: &str, own: &str| image().platform(platform).layer(&shared).layer(own);
        let app =
            registry.push(index().manifest(of("linux/amd64", "amd64"), "linux/amd64").manifest(
                of("linux/arm64", "arm64").layer_as(Compression::Zstd, text(5 * KIB)),
                "linux/arm64",
            ));
        let sbom = artifact("application/vnd.example.sbom").layer("materials").subject(app.descriptor());
        let sbom = registry.push_untagged("app", sbom);
        registry.push_untagged(
            "app",
            artifact("application/vnd.example.seal").layer("seal").subject(sbom.descriptor()),
        );
        let docker = registry.push_as("docker", "v1", image().docker().layer("docker").layer(&shared));
        let list = index()
            .docker()
            .manifest(image().docker().platform("linux/amd64").layer("of amd64"), "linux/amd64")
            .manifest(image().docker().platform("linux/s390x").layer("of s390x"), "linux/s390x");
        let list = registry.push_as("list", "v1", list);
        let old =
            registry.push_as("old", "v1", image().layer("old").throwaway("CMD sh").layer("older").schema1());
        let thing = registry.push_as("thing", "v1", artifact("application/vnd.example.thing").layer("thing"));
        let long = registry.push_as("long", "v1", image().sha512().layer("long"));
        let context = TestContext::new();
        let run = |options: &[&str], references: &[String]| {
            let run = context.run(["fetch", "--ref-name", "full"]).args(options).args(references);
            run.arg(context.out()).success();
        };
        run(&["--all-platforms", "--referrers"], &[app.reference()]);
        run(&["--all-platforms", "--format", "oci"], &[docker.reference(), list.reference()]);
        run(&["--allow-schema1"], &[old.reference(), thing.reference(), long.reference()]);
        registry.clear_requests();
        let files = files(&context.out());
        Self { registry, context, files }
    }

    /// A file of the layout.
    pub(crate) fn path(&self, file: &Path) -> PathBuf {
        self.context.out().join(file)
    }

    /// The files under `blobs/`.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = (&PathBuf, &Vec<u8>)> {
        self.files.iter().filter(|(file, _)| file.starts_with("blobs"))
    }

    /// The layout is byte for byte what a fetch left.
    pub(crate) fn assert_as_fetched(&self, after: &str) {
        let now = files(&self.context.out());
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(&self.files), "{after}");
        assert!(now == self.files, "{after}: a file has another content");
    }

    /// Puts one file back as it was, whatever stands there.
    pub(crate) fn restore(&self, file: &Path) {
        let path = self.path(file);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path).unwrap(),
            Ok(_) => fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
        fs::write(path, &self.files[file]).unwrap();
    }
}

/// The digest that is a blob's name.
pub(crate) fn digest_of(file: &Path) -> String {
    let mut names = file.iter().skip(1).map(|name| name.to_str().unwrap());
    format!("{}:{}", names.next().unwrap(), names.next().unwrap())
}

/// The same bytes with one bit of the byte at `at` flipped.
pub(crate) fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (at % 8);
    bytes
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}
