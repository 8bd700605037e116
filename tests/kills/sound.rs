//! What has to hold of a folder at any moment, whatever befell the process that wrote it.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::scene::{Scene, checked};
use crate::support::{Outcome, TestContext, assert_readable, check_layout, sha256};

/// What an interrupted fetch left, and what that spares the next one.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Whether any tool takes the folder for a layout.
    pub(crate) is_layout: bool,
    /// The names of the images in it.
    pub(crate) named: Vec<String>,
    /// The blobs under their final names.
    pub(crate) committed: BTreeSet<String>,
    /// The bytes of blobs that need not be downloaded: of those that are committed, and those that journals tell of.
    pub(crate) held: u64,
}

/// Looks at what is left.
///
/// # Panics
///
/// When a blob is not what its name says, the layout is not readable, an image of before is gone, one is named that is not
/// whole, or a journal tells of bytes that are not there.
pub(crate) fn examine(scene: &Scene, out: &Path) -> Left {
    let mut left = Left::default();
    for algorithm in children(&out.join("blobs")) {
        for name in children(&out.join("blobs").join(&algorithm)) {
            let bytes = fs::read(out.join("blobs").join(&algorithm).join(&name)).unwrap();
            let digest = format!("{algorithm}:{name}");
            assert_eq!(sha256(&bytes), digest, "a blob under its final name");
            left.committed.insert(digest);
        }
    }
    left.is_layout = out.join("oci-layout").exists();
    if left.is_layout {
        let summary = assert_readable(out);
        let known = summary.ref_names.iter().all(|name| name == "theirs" || name == scene.pushed.tag());
        assert!(known, "{:?}", summary.ref_names);
        if !scene.held.is_empty() {
            assert_eq!(summary.ref_names[0], "theirs", "the image of before is named");
            assert_eq!(summary.index["x-field"]["kept"][0], 1.0, "what others wrote stays");
        }
        left.named = summary.ref_names;
    } else {
        // No tool reads it, so there must be nothing to be read, and nothing of before that was lost.
        assert!(left.committed.is_empty() && scene.held.is_empty(), "{:?}", left.committed);
        for name in children(out) {
            assert!(["blobs", ".ocipull", "index.json"].contains(&&*name), "{name}");
        }
    }
    for (digest, bytes) in &scene.blobs {
        left.held +=
            if left.committed.contains(digest) { bytes.len() as u64 } else { staged(out, digest, bytes) };
    }
    left
}

/// How many bytes of a blob its journal tells of. They have to be there.
fn staged(out: &Path, digest: &str, blob: &[u8]) -> u64 {
    let part = out.join(".ocipull").join(format!("{}.part", digest.replace(':', "-")));
    let journal = fs::read_to_string(part.with_extension("journal")).unwrap_or_default();
    let bytes = fs::read(&part).unwrap_or_default();
    let is_layer = blob.iter().any(|byte| *byte != 0);
    let mut ranges = Vec::new();
    for line in journal.split_inclusive('\n') {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let Some((_, content)) = words.split_last() else { break };
        if checked(&content.join(" ")) != line {
            break;
        }
        if let ["have", start, end] = content {
            let range: Range<usize> = start.parse().unwrap()..end.parse().unwrap();
            let is_there = bytes.get(range.clone()) == blob.get(range.clone()) || !is_layer;
            assert!(is_there, "the journal of {digest} tells of {range:?}, and other bytes are there");
            ranges.push(range);
        }
    }
    ranges.sort_by_key(|range| range.start);
    let (mut reached, mut told) = (0, 0);
    for range in ranges {
        told += range.end.saturating_sub(range.start.max(reached));
        reached = reached.max(range.end);
    }
    told as u64
}

/// The same command once more, which nothing befalls: it completes, and asks for nothing that is there.
pub(crate) fn completes(scene: &Scene, context: &TestContext, left: &Left) -> Outcome {
    scene.registry.clear_requests();
    let outcome = scene.fetch(context, &[]);
    assert_eq!(outcome.code, Some(0), "the next run: {}", outcome.report());
    let total: u64 = scene.blobs.values().map(|blob| blob.len() as u64).sum();
    let sent = scene.registry.blob_bytes_sent();
    if !scene.is_encoded {
        assert!(
            sent <= total - left.held,
            "the next run: {sent} bytes sent, and {} of {total} were there",
            left.held
        );
    }
    complete(scene, context);
    outcome
}

/// The image is there, nothing else is left behind.
pub(crate) fn complete(scene: &Scene, context: &TestContext) {
    let summary = check_layout(&context.out());
    assert_eq!(summary.digests.last().map(String::as_str), Some(scene.pushed.digest()));
    assert_eq!(summary.ref_names.last().map(String::as_str), Some(scene.pushed.tag()));
    if !scene.held.is_empty() {
        assert_eq!((summary.ref_names.len(), &*summary.ref_names[0]), (2, "theirs"));
        assert_eq!(summary.index["x-field"]["kept"][0], 1.0, "what others wrote stays");
    }
}

fn children(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
