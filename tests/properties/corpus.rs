//! What the fuzzers have found worth keeping, run again: every file in `fuzz/corpus` through the body that it belongs to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bodies::TARGETS;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The inputs of one body.
pub(crate) fn inputs(target: &str) -> Vec<Vec<u8>> {
    let folder = folder().join("corpus").join(target);
    names(&folder).iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

/// Whatever was once found stays mended, and whatever was once taken for interesting holds to its body's claims.
#[test]
fn every_input_of_every_corpus_holds() {
    for (target, body) in TARGETS {
        let folder = folder().join("corpus").join(target);
        for name in names(&folder) {
            let input = fs::read(folder.join(&name)).unwrap();
            let held = std::panic::catch_unwind(|| body(&input));
            assert!(held.is_ok(), "fuzz/corpus/{target}/{name}");
        }
    }
}

/// A body that nobody fuzzes, or a corpus that nobody reads, would look like one that holds.
#[test]
fn every_body_has_a_fuzzer_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let fuzzers = names(&folder().join("fuzz_targets"));
    let fuzzers: BTreeSet<String> =
        fuzzers.iter().map(|file| file.trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(fuzzers, targets);
    assert_eq!(names(&folder().join("corpus")), targets);
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let page = fs::read_to_string(folder().join("README.md")).unwrap();
    for target in &targets {
        assert!(inputs(target).len() > 3, "{target}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
        assert!(page.contains(&format!("| `{target}` |")), "{target} is not on the page");
        let source = fs::read_to_string(folder().join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(source.contains(&format!("ocipull_fuzz::{target}(data)")), "{target}");
    }
}

/// Corpora are for reading over in review and are run with every change: small ones.
#[test]
fn corpora_are_small() {
    let bytes: usize = TARGETS.iter().flat_map(|(target, _)| inputs(target)).map(|input| input.len()).sum();
    assert!(bytes < 1 << 20, "{bytes} bytes");
}

/// The bodies are compiled here with this crate's dependencies and there with the fuzzers' own, which nothing else would
/// notice before somebody fuzzes again.
#[test]
fn fuzzers_have_the_crates_that_bodies_use() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let bodies = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/properties/bodies");
    let mut used = BTreeSet::new();
    for name in names(&bodies) {
        let source = fs::read_to_string(bodies.join(name)).unwrap();
        let paths = source.lines().filter_map(|line| line.strip_prefix("use "));
        used.extend(paths.filter_map(|path| path.split([':', ';']).next()).map(str::to_owned));
        used.extend(
            ["httpdate", "zstd", "flate2"]
                .into_iter()
                .filter(|name| source.contains(&format!("{name}::")))
                .map(str::to_owned),
        );
    }
    used.retain(|name| !matches!(name.as_str(), "std" | "super" | "crate" | "self"));
    assert!(used.len() > 6, "{used:?}");
    for name in used {
        assert!(manifest.contains(&format!("\n{name} = ")), "{name}");
    }
}
