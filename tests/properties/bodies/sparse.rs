//! Indexes of which a layout holds a part: what is missing, and what was left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use ocipull::digest::Digest;
use ocipull::layout::index::PLATFORMS;
use ocipull::layout::{Absence, Absent, Layout};
use ocipull::manifest::{Descriptor, ImageIndex, Manifest, MediaType};
use ocipull::platform::Platform;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{assert_shown, text};

/// The platforms that may be declared. Anything else declares none.
const DECLARED: [&str; 5] = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "unknown/unknown"];

/// How many manifests there are for each of them.
const EACH: usize = 3;

/// A layout with those manifests.
struct Fixture {
    folder: TempDir,
    layout: Layout,
    manifests: Vec<Value>,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for a layout");
    fs::create_dir_all(folder.path().join("blobs/sha256")).expect("a folder for blobs");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    write("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    write("index.json", r#"{"schemaVersion":2,"manifests":[]}"#);
    let mut manifests = Vec::new();
    for declared in DECLARED {
        let mut config = platform(declared);
        config["rootfs"] = json!({ "diff_ids": [] });
        let config = put(folder.path(), &config, &MediaType::OCI_CONFIG);
        for number in 0..EACH {
            let number = json!({ "number": number.to_string() });
            let manifest =
                json!({ "schemaVersion": 2, "config": config, "layers": [], "annotations": number });
            manifests.push(put(folder.path(), &manifest, &MediaType::OCI_MANIFEST));
        }
    }
    let layout = Layout::open(folder.path()).expect("a layout");
    Fixture { folder, layout, manifests }
});

fn put(folder: &Path, content: &Value, media_type: &MediaType) -> Value {
    let content = content.to_string();
    let digest = Digest::sha256(content.as_bytes());
    fs::write(folder.join("blobs/sha256").join(digest.hex()), &content).expect("a blob");
    json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
}

fn platform(specifier: &str) -> Value {
    serde_json::to_value(specifier.parse::<Platform>().expect("a platform")).expect("a platform is JSON")
}

/// What a list of lines makes: the entries of an index, and of these, in order, those that are not there.
#[derive(Default)]
struct Listed {
    entries: Vec<Value>,
    absent: Vec<Digest>,
    /// Indexes that were written for it.
    written: Vec<Digest>,
    /// The first manifest for each platform, and whether it is there; of no use where not everything is a manifest that says
    /// what it is for.
    first: BTreeMap<Platform, (Digest, bool)>,
    is_flat: bool,
}

/// The platforms that were taken of an index, or `-`; then what it lists, a line each: `here`, `gone` or `other`, `lost` for an
/// index that is not there, or `index` for one that is, with the lines behind it that begin with a space; then the platform
/// that is declared, or none.
///
/// Everything that is not there is said to be so, once, in order. Of an index without a note nothing was left out. What is
/// missing of several platforms is what is missing of each, and how they are spelled makes no difference.
pub fn sparse(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (note, lines) = text.split_once('\n').unwrap_or((text, ""));
    let lines: Vec<&str> = lines.lines().take(16).collect();
    let listed = listed(&lines);
    let index = json!({ "schemaVersion": 2, "manifests": listed.entries }).to_string();
    let index = Manifest::parse(index.into(), Some(MediaType::OCI_INDEX.as_str()));
    let Ok(Manifest::Index(index)) = index else { panic!("{index:?} is no index") };
    let whole = absent(&index, None);
    assert_eq!(digests(&whole, None), listed.absent);
    assert!(digests(&whole, Some(Absence::LeftOut)).is_empty() && whole.unexplained.is_empty());
    if note != "-" {
        check_note(&index, note, &listed);
    }
    for digest in &listed.written {
        // An index may come twice, and its file only once.
        let _ = fs::remove_file(FIXTURE.folder.path().join("blobs/sha256").join(digest.hex()));
    }
}

fn listed(lines: &[&str]) -> Listed {
    let mut listed = Listed { is_flat: true, ..Listed::default() };
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let below = lines[at..].iter().take_while(|line| line.starts_with(' ')).count();
        let (kind, declared) = line.trim_start().split_once(' ').unwrap_or((line.trim_start(), ""));
        let number = at % EACH;
        let place = DECLARED.iter().position(|known| *known == declared);
        let gone = |media_type: &MediaType| json!({ "mediaType": media_type, "digest": Digest::sha256(&[b'g', u8::try_from(at % 4).unwrap_or(0)]), "size": 1 });
        let mut entry = match kind {
            "here" => FIXTURE.manifests[place.unwrap_or(0) * EACH + number].clone(),
            "gone" => gone(&MediaType::OCI_MANIFEST),
            "lost" => gone(&MediaType::OCI_INDEX),
            "other" => gone(&MediaType::from("application/vnd.example.thing".to_owned())),
            "index" => {
                let nested = self::listed(&lines[at..at + below]);
                at += below;
                let index = json!({ "schemaVersion": 2, "manifests": nested.entries });
                let index = put(FIXTURE.folder.path(), &index, &MediaType::OCI_INDEX);
                listed.absent.extend(nested.absent);
                listed.written.extend(nested.written);
                listed.written.extend(digest(&index));
                index
            }
            _ => continue,
        };
        let Some(digest) = digest(&entry) else { continue };
        if matches!(kind, "gone" | "lost") {
            listed.absent.push(digest);
        }
        if let Some(place) = place {
            entry["platform"] = platform(DECLARED[place]);
            if let Ok(declared) = DECLARED[place].parse::<Platform>() {
                listed.first.entry(declared.normalize()).or_insert((digest, kind == "here"));
            }
        }
        listed.is_flat &= matches!(kind, "here" | "gone") && place.is_some();
        listed.entries.push(entry);
    }
    let mut seen = BTreeSet::new();
    listed.absent.retain(|digest| seen.insert(*digest));
    listed
}

fn digest(descriptor: &Value) -> Option<Digest> {
    descriptor["digest"].as_str()?.parse().ok()
}

fn absent(index: &ImageIndex, note: Option<&str>) -> Absent {
    let mut entry =
        Descriptor::new(MediaType::OCI_INDEX, Digest::sha256(index.raw()), index.raw().len() as u64);
    entry.annotations.extend(note.map(|note| (PLATFORMS.to_owned(), note.to_owned())));
    FIXTURE.layout.absent(&entry, index)
}

fn digests(absent: &Absent, absence: Option<Absence>) -> Vec<Digest> {
    let wanted = absent.manifests.iter().filter(|one| absence.is_none_or(|absence| one.absence == absence));
    wanted.map(|one| one.descriptor.digest).collect()
}

fn check_note(index: &ImageIndex, note: &str, listed: &Listed) {
    let found = absent(index, Some(note));
    assert_eq!(digests(&found, None), listed.absent);
    let missing: BTreeSet<Digest> = digests(&found, Some(Absence::Missing)).into_iter().collect();
    found.unexplained.iter().for_each(|platform| assert_shown(&platform.to_string()));
    let parsed = |text: &str| text.trim().parse::<Platform>().ok().filter(|_| text.contains('/'));
    let Some(taken) = note.split(',').map(parsed).collect::<Option<Vec<Platform>>>() else {
        // What cannot be understood excuses nothing.
        assert_eq!(missing.len(), listed.absent.len());
        return;
    };
    let normal: Vec<String> = taken.iter().map(|platform| platform.normalize().specifier()).collect();
    assert_eq!(absent(index, Some(&normal.join(", "))), found, "{note} as {normal:?}");
    let (mut each_missing, mut each_unexplained) = (BTreeSet::new(), BTreeSet::new());
    for platform in &normal {
        let alone = absent(index, Some(platform));
        each_missing.extend(digests(&alone, Some(Absence::Missing)));
        each_unexplained.extend(alone.unexplained);
    }
    assert_eq!(missing, each_missing);
    assert_eq!(found.unexplained, each_unexplained.iter().cloned().collect::<Vec<_>>());
    if listed.is_flat {
        let taken: BTreeSet<Platform> = taken.iter().map(Platform::normalize).collect();
        let gone =
            taken.iter().filter_map(|platform| listed.first.get(platform)).filter(|(_, is_here)| !is_here);
        assert_eq!(missing, gone.map(|(digest, _)| *digest).collect());
        let unknown: Vec<&Platform> =
            taken.iter().filter(|platform| !listed.first.contains_key(*platform)).collect();
        assert_eq!(found.unexplained.iter().collect::<Vec<_>>(), unknown);
    }
}
