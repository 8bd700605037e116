//! What `ocipull verify` finds: everything. Each file of a layout with images of every form is damaged in every way, all
//! files of one level at a time, as what is below a bad document is not looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Mixed, Outcome, Run, TestContext, digest_of, flipped, image, write_layout};

fn verify(context: &TestContext) -> Run<'_> {
    context.run(["verify", "--json", "--quiet"]).arg(context.out())
}

/// The findings that are no notes, as kind and digest.
fn bad(outcome: &Outcome) -> BTreeSet<(String, String)> {
    let findings = outcome.json()["findings"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = findings.iter().map(|one| (text(&one["kind"]), text(&one["digest"])));
    found.filter(|(kind, _)| !["unreferenced", "stray"].contains(&kind.as_str())).collect()
}

/// The blobs that lead nowhere, the manifests, and the indexes.
fn levels(mixed: &Mixed) -> [Vec<(&PathBuf, &Vec<u8>)>; 3] {
    let mut levels: [Vec<_>; 3] = Default::default();
    for blob in mixed.blobs() {
        let document: Value = serde_json::from_slice(blob.1).unwrap_or_default();
        let level = match (document["manifests"].is_array(), document["layers"].is_array()) {
            (true, _) => 2,
            (_, true) => 1,
            _ => 0,
        };
        levels[level].push(blob);
    }
    assert!(levels.iter().all(|level| level.len() >= 3), "{levels:?}");
    levels
}

/// Every damaged blob is found, under its kind, and nothing else is called bad.
fn assert_found(mixed: &Mixed, damaged: &[(&PathBuf, &Vec<u8>)], kind: &str, what: &str) {
    let outcome = verify(&mixed.context).fails_with(6);
    assert_eq!(outcome.json()["ok"], false);
    let found = bad(&outcome);
    let wanted: BTreeSet<String> = damaged.iter().map(|(file, _)| digest_of(file)).collect();
    for digest in &wanted {
        let one = (kind.to_owned(), digest.clone());
        assert!(found.contains(&one), "{what} of {digest}: {}", outcome.report());
    }
    assert!(found.iter().all(|(_, of)| wanted.contains(of)), "{what}: {}", outcome.report());
    for (file, _) in damaged {
        mixed.restore(file);
    }
}

/// One flipped bit, at the first byte, the last, and between, in every blob.
#[test]
fn every_flipped_bit_is_found() {
    let mixed = Mixed::fetch();
    for level in levels(&mixed) {
        for part in 0..=8 {
            for (file, bytes) in &level {
                let at = (bytes.len() - 1) * part / 8;
                fs::write(mixed.path(file), flipped(bytes, at)).unwrap();
            }
            assert_found(&mixed, &level, "digest-mismatch", &format!("a bit at {part}/8"));
        }
    }
    mixed.assert_as_fetched("restored");
    let outcome = verify(&mixed.context).success();
    assert_eq!(outcome.json()["findings"], json!([]));
}

/// A blob that is shorter or longer, is another one, or is none, by each of the ways in which a file can be none.
#[test]
fn every_other_damage_is_found() {
    type Damage = fn(&Path, &[u8]);
    let mixed = Mixed::fetch();
    let kinds: [(&str, &str, Damage); 7] = [
        ("a missing byte", "digest-mismatch", |path, bytes| {
            fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("a missing half", "digest-mismatch", |path, bytes| {
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("missing bytes", "digest-mismatch", |path, _| fs::write(path, "").unwrap()),
        ("one byte more", "digest-mismatch", |path, bytes| fs::write(path, [bytes, b"\n"].concat()).unwrap()),
        ("no file", "missing", |path, _| fs::remove_file(path).unwrap()),
        ("a folder", "missing", |path, _| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("something huge", "digest-mismatch", |path, _| {
            // A hole: 64 MiB that take no room. Documents are not read into memory at that size.
            fs::File::create(path).unwrap().set_len(64 << 20).unwrap();
        }),
    ];
    for level in levels(&mixed) {
        for (what, kind, damage) in kinds {
            let few = if what == "something huge" { 1 } else { level.len() };
            for (file, bytes) in &level[..few] {
                damage(&mixed.path(file), bytes);
            }
            assert_found(&mixed, &level[..few], kind, what);
        }
        // Each in the place of the one before.
        for (at, (file, _)) in level.iter().enumerate() {
            fs::write(mixed.path(file), level[(at + 1) % level.len()].1).unwrap();
        }
        assert_found(&mixed, &level, "digest-mismatch", "another blob");
    }
    mixed.assert_as_fetched("restored");
}

/// A link is no blob, not even one to the very bytes, and a pipe is not waited for.
#[cfg(unix)]
#[test]
fn links_and_pipes_are_found() {
    let mixed = Mixed::fetch();
    for level in levels(&mixed) {
        for (at, (file, bytes)) in level.iter().enumerate() {
            let (path, copy) = (mixed.path(file), mixed.context.path().join(at.to_string()));
            fs::write(&copy, bytes).unwrap();
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&copy, &path).unwrap();
        }
        assert_found(&mixed, &level, "missing", "a link");
        for (file, _) in &level {
            fs::remove_file(mixed.path(file)).unwrap();
        }
        let paths = level.iter().map(|(file, _)| mixed.path(file));
        assert!(std::process::Command::new("mkfifo").args(paths).status().unwrap().success());
        assert_found(&mixed, &level, "missing", "a pipe");
    }
}

/// Any bit of `oci-layout`, and any other length of it, makes it no layout, with its path.
#[test]
fn every_change_of_the_marker_is_found() {
    let context = TestContext::new();
    write_layout(&context.out(), "a", image().layer("a"));
    let path = context.out().join("oci-layout");
    let good = fs::read(&path).unwrap();
    let flips = (0..good.len()).map(|at| flipped(&good, at));
    let lengths = [0, 1, good.len() - 1].map(|length| good[..length].to_vec());
    for bytes in flips.chain(lengths).chain([[&good[..], b"x"].concat()]) {
        fs::write(&path, &bytes).unwrap();
        let outcome = verify(&context).fails_with(7);
        assert!(outcome.stderr.contains("oci-layout"), "{bytes:?}: {}", outcome.stderr);
    }
    fs::write(&path, &good).unwrap();
    verify(&context).success();
}

/// What an entry says that a reader goes by: all but the words about it, which nothing could be held against. Where it names
/// no type the document does.
fn binding(index: &Value, good: &Value) -> Option<Vec<Value>> {
    let good = good["manifests"].as_array()?;
    let entries = index["manifests"].as_array()?.iter().zip(good).map(|(entry, good)| {
        let media_type = if entry["mediaType"].is_null() { &good["mediaType"] } else { &entry["mediaType"] };
        json!([media_type, entry["digest"], entry["size"]])
    });
    (index["schemaVersion"] == 2).then(|| entries.collect())
}

/// A flipped bit in `index.json` is found wherever it changes what is named, or that anything is; words of annotations and of
/// platforms are nobody's proof.
#[test]
fn every_binding_bit_of_the_index_is_found() {
    let mixed = Mixed::fetch();
    let path = mixed.path(Path::new("index.json"));
    let good = &mixed.files[Path::new("index.json")];
    let index: Value = serde_json::from_slice(good).unwrap();
    let wanted = binding(&index, &index);
    let entry = good.windows(12).position(|part| part == b"{\"mediaType\"").unwrap();
    let first: Vec<usize> = (0..entry + 250).step_by(7).collect();
    let spread = (entry + 250..good.len()).step_by(113);
    let (mut found, mut missed) = (0, Vec::new());
    for at in first.into_iter().chain(spread) {
        let bytes = flipped(good, at);
        let changed = serde_json::from_slice(&bytes).ok().and_then(|now| binding(&now, &index)) != wanted;
        fs::write(&path, &bytes).unwrap();
        let code = verify(&mixed.context).run().code;
        found += usize::from(matches!(code, Some(6 | 7)));
        if changed && !matches!(code, Some(6 | 7)) {
            missed.push((
                at,
                String::from_utf8_lossy(&bytes[at.saturating_sub(30)..at + 30]).into_owned(),
                code,
            ));
        }
        assert!(matches!(code, Some(0 | 6 | 7)), "{at}: {code:?}");
    }
    assert!(missed.is_empty(), "{missed:?}");
    assert!(found > 20, "{found}");
}

/// An entry of `index.json` that says another size, digest or type than the blob has, or is no descriptor at all.
#[test]
fn every_wrong_entry_is_found() {
    let mixed = Mixed::fetch();
    let path = mixed.path(Path::new("index.json"));
    let good: Value = serde_json::from_slice(&mixed.files[Path::new("index.json")]).unwrap();
    let entries = good["manifests"].as_array().unwrap();
    let other = |at: usize| &entries[(at + 1) % entries.len()];
    let long = "sha256:".to_owned() + &"0".repeat(64);
    for (at, entry) in entries.iter().enumerate() {
        let size = entry["size"].as_u64().unwrap();
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let index = "application/vnd.oci.image.index.v1+json";
        let swapped = if entry["mediaType"] == index { manifest } else { index };
        let changes: [(&str, &str, Value); 12] = [
            ("size-mismatch", "size", json!(size + 1)),
            ("size-mismatch", "size", json!(0)),
            ("size-mismatch", "size", json!(u64::from(u32::MAX))),
            ("bad-document", "size", json!(-1)),
            ("bad-document", "size", json!("1")),
            ("missing", "digest", json!(long)),
            ("bad-document", "digest", json!("sha256:../../../etc/passwd")),
            ("bad-document", "digest", Value::Null),
            ("size-mismatch", "digest", other(at)["digest"].clone()),
            ("bad-document", "mediaType", json!(swapped)),
            ("bad-document", "mediaType", json!("application/vnd.oci.image.manifest.v1+jsoo")),
            ("bad-document", "mediaType", json!("application/vnd.docker.distribution.manifest.v1+prettyjws")),
        ];
        // Each kind of change at some entries is enough.
        for (kind, key, value) in changes.into_iter().skip(at % 3).step_by(3) {
            let mut index = good.clone();
            index["manifests"][at][key] = value.clone();
            fs::write(&path, index.to_string()).unwrap();
            let outcome = verify(&mixed.context).run();
            assert_eq!(outcome.code, Some(6), "{key} {value} of {entry}: {}", outcome.report());
            let kinds: BTreeSet<String> = bad(&outcome).into_iter().map(|(kind, _)| kind).collect();
            let is_other_size =
                other(at)["size"] != entry["size"] || kind != "size-mismatch" || key == "size";
            assert!(kinds.contains(kind) || !is_other_size, "{key} {value}: {}", outcome.report());
        }
    }
}

/// What is no part of a layout is noted and is no failure, wherever it lies.
#[test]
fn every_stray_is_noted() {
    let context = TestContext::new();
    write_layout(&context.out(), "a", image().layer("a"));
    let strays = ["stray", "blobs/stray", "blobs/sha256/stray", "blobs/md5/0", ".hidden", "signatures/x"];
    for stray in strays {
        let path = context.out().join(stray);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let outcome = verify(&context).success();
    let findings = outcome.json()["findings"].as_array().unwrap().clone();
    let paths: BTreeMap<&str, &str> =
        findings.iter().map(|one| (one["path"].as_str().unwrap(), one["kind"].as_str().unwrap())).collect();
    for stray in strays {
        let noted = if stray == "blobs/md5/0" { "blobs/md5" } else { stray };
        assert_eq!(paths.get(noted), Some(&"stray"), "{stray}: {paths:?}");
    }
    assert_eq!((paths.len(), &outcome.json()["ok"]), (strays.len(), &json!(true)));
}
