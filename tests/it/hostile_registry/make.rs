//! Images that are right but for one thing.

use serde_json::{Value, json};

use crate::support::{Blob, Built, Image, image};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A digest of nothing that anybody has.
pub(super) const NOBODYS: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

/// The escape sequences and tricks that a terminal would act on, with text around them: a cleared screen, a new title, a
/// link, a bell, C1's CSI and OSC, a turned direction, what has no width, and a line of its own.
pub(super) const TERMINAL: &str = "a\u{1b}[2J\u{1b}]0;t\u{7}\u{1b}]8;;http://x/\u{1b}\\b\u{9b}31m\u{9d}0;t\u{9c}\u{202e}c\
    \u{2066}d\u{200b}\u{feff}\u{ad}\u{34f}\u{3164}\u{fe0f}\u{e0041}\u{7f}\u{8}\r\nerror: forged\n\u{2028}\u{85}\u{0}e";

/// An image of two layers in which nothing is wrong.
pub(super) fn honest() -> Image {
    image().layer("lower").layer("upper")
}

/// The honest image, whose manifest is this text.
pub(super) fn manifest_text(text: impl Into<Vec<u8>>) -> Built {
    document_of(honest().into(), text)
}

/// The honest image, whose manifest is changed as JSON.
pub(super) fn manifest(change: impl FnOnce(&mut Value)) -> Built {
    changed(honest().into(), change)
}

/// The honest image, whose manifest is changed as text.
pub(super) fn manifest_rewritten(change: impl FnOnce(&str) -> Vec<u8>) -> Built {
    let built = Built::from(honest());
    let text = String::from_utf8(built.document.to_vec()).unwrap();
    document_of(built, change(&text))
}

/// This content, whose document is changed as JSON.
pub(super) fn changed(content: Built, change: impl FnOnce(&mut Value)) -> Built {
    let mut document: Value = serde_json::from_slice(&content.document).unwrap();
    change(&mut document);
    document_of(content, document.to_string())
}

fn document_of(content: Built, document: impl Into<Vec<u8>>) -> Built {
    let Built { media_type, config, layers, diff_ids, children, .. } = content;
    Built { config, layers, diff_ids, children, ..Built::raw(&media_type, document) }
}

/// The honest image, whose config is these bytes.
pub(super) fn config_bytes(bytes: impl Into<Vec<u8>>) -> Built {
    honest().config_bytes(bytes).into()
}

/// The honest image, whose config is changed as JSON.
pub(super) fn config(change: impl FnOnce(&mut Value)) -> Built {
    let mut document = honest_config();
    change(&mut document);
    config_bytes(document.to_string())
}

/// The honest image, whose config is changed as text.
pub(super) fn config_rewritten(change: impl FnOnce(&str) -> Vec<u8>) -> Built {
    config_bytes(change(&honest_config().to_string()))
}

pub(super) fn honest_config() -> Value {
    let built = Built::from(honest());
    serde_json::from_slice(&built.config.expect("an image has a config").bytes).unwrap()
}

/// The image with one layer of these bytes, whatever they are, whose descriptor says the truth.
pub(super) fn one_layer(media_type: &str, bytes: &[u8], diff_id: &str) -> Built {
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [diff_id] } });
    image().raw_layer(media_type, bytes).config_bytes(config.to_string()).into()
}

/// A blob, for what a manifest does not say itself.
pub(super) fn blob(bytes: &[u8]) -> Blob {
    Blob::of(bytes)
}

/// Arrays in arrays.
pub(super) fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// Objects in objects.
pub(super) fn deep_objects(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}
