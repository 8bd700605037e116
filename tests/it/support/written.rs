//! Writes layouts by hand, for the commands that read one and for fetches into a layout that holds other images.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::image::Built;

/// Adds the content, under this `org.opencontainers.image.ref.name`, to the layout in `folder`, which is made when
/// it is not there.
pub(crate) fn write_layout(folder: &Path, ref_name: &str, content: impl Into<Built>) {
    let content = content.into();
    fs::create_dir_all(folder.join("blobs")).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    write_blobs(folder, &content);
    let path = folder.join("index.json");
    let mut index: Value = fs::read(&path).map_or_else(
        |_| json!({ "schemaVersion": 2, "manifests": [] }),
        |bytes| serde_json::from_slice(&bytes).unwrap(),
    );
    let mut entry = content.descriptor(None);
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": ref_name });
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(path, index.to_string()).unwrap();
}

fn write_blobs(folder: &Path, content: &Built) {
    let blobs = content.config.iter().chain(&content.layers);
    let documents = [(&content.digest, &content.document)];
    for (digest, bytes) in blobs.map(|blob| (&blob.digest, &blob.bytes)).chain(documents) {
        let path = folder.join("blobs").join(digest.replace(':', "/"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    for child in &content.children {
        write_blobs(folder, child);
    }
}
