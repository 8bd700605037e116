//! Manifests, indexes, configs, and what becomes of them.

use bytes::Bytes;
use ocipull::digest::{Algorithm, Digest};
use ocipull::failure::{Failure as _, Kind};
use ocipull::manifest::convert::{image_to_oci, index_to_oci, is_docker_list, is_docker_typed};
use ocipull::manifest::{
    Descriptor, ImageConfig, ImageIndex, ImageManifest, Manifest, MediaType, Schema1Image, Schema1Manifest,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{assert_fit, assert_shown};

/// What a `Content-Type` may say: the first byte of an input picks one, from `0` on.
const TYPES: [Option<&str>; 8] = [
    None,
    Some("application/vnd.oci.image.manifest.v1+json"),
    Some("application/vnd.oci.image.index.v1+json"),
    Some("application/vnd.docker.distribution.manifest.v2+json"),
    Some("application/vnd.docker.distribution.manifest.list.v2+json; charset=utf-8"),
    Some("application/vnd.docker.distribution.manifest.v1+json"),
    Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
    Some("Application/JSON"),
];

/// A digit that picks a `Content-Type`, and a document.
///
/// What is read is in the bytes, which stay as they are: a plain reader of JSON sees the same descriptors. Read again under
/// its type it is the same. Conversion changes types, digests and sizes, and nothing else, once.
pub fn manifests(data: &[u8]) {
    let Some((&pick, document)) = data.split_first() else { return };
    let content_type = TYPES[usize::from(pick.wrapping_sub(b'0')) % TYPES.len()];
    let raw = Bytes::copy_from_slice(document);
    let manifest = match Manifest::parse(raw.clone(), content_type) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Integrity);
            return assert_fit(&error);
        }
    };
    check_manifest(&manifest, &raw);
    let value = serde_json::from_slice::<Value>(&raw).ok();
    match &manifest {
        Manifest::Image(image) => check_image(image, value.as_ref()),
        Manifest::Index(index) => check_index(index, value.as_ref()),
        Manifest::Schema1(manifest) => check_schema1(manifest),
    }
}

fn check_manifest(manifest: &Manifest, raw: &Bytes) {
    assert_eq!(manifest.raw(), raw);
    assert!(serde_json::from_slice::<&RawValue>(raw).is_ok(), "a manifest is JSON");
    let media_type = manifest.media_type();
    assert!(MediaType::MANIFESTS.contains(media_type));
    assert_eq!(Manifest::parse(raw.clone(), Some(media_type.as_str())).as_ref(), Ok(manifest));
    assert_eq!(Manifest::parse_listed(raw.clone(), None, media_type).as_ref(), Ok(manifest));
    for other in MediaType::MANIFESTS {
        let listed = Manifest::parse_listed(raw.clone(), Some(media_type.as_str()), &other);
        let agrees = other == *media_type || (other.is_schema1() && media_type.is_schema1());
        assert_eq!(listed.is_ok(), agrees, "{media_type} listed as {other}");
    }
    let descriptor = manifest.descriptor(Algorithm::Sha256);
    assert_eq!(descriptor.digest, Digest::sha256(manifest.digested()));
    assert_eq!(descriptor.size, raw.len() as u64);
    check_descriptor(&descriptor);
    check_descriptor(&manifest.as_referrer(descriptor.digest));
    if let Some(subject) = manifest.subject() {
        check_descriptor(subject);
    }
}

/// A descriptor is written as it was read, and what it carries is what it describes.
fn check_descriptor(descriptor: &Descriptor) {
    assert!(i64::try_from(descriptor.size).is_ok());
    let json = serde_json::to_string(descriptor).expect("a descriptor is JSON");
    assert_eq!(Descriptor::from_json(&json).as_ref(), Ok(descriptor), "{json}");
    if let Some(content) = descriptor.embedded_data() {
        assert_eq!(content.len() as u64, descriptor.size);
        assert_eq!(descriptor.digest.algorithm().digest(&content), descriptor.digest);
    }
    if let Some(platform) = &descriptor.platform {
        assert_shown(&platform.to_string());
    }
}

/// A plain reader of JSON sees these descriptors in a list.
fn assert_listed(descriptors: &[Descriptor], value: Option<&Value>) {
    let nothing = Vec::new();
    let listed = value.and_then(Value::as_array).unwrap_or(&nothing);
    assert_eq!(listed.len(), descriptors.len());
    for (descriptor, value) in descriptors.iter().zip(listed) {
        assert_eq!(value["digest"], descriptor.digest.to_string());
        // -0 is an integer to Go, which reads it into one, and a float to serde_json.
        let is_minus_zero = value["size"].as_f64().is_some_and(|size| size == 0.0 && size.is_sign_negative());
        assert!(value["size"] == descriptor.size || (is_minus_zero && descriptor.size == 0), "{value}");
        assert_eq!(value["mediaType"].as_str().unwrap_or_default(), descriptor.media_type.as_str());
    }
}

fn check_image(image: &ImageManifest, value: Option<&Value>) {
    check_descriptor(image.config());
    image.layers().iter().for_each(check_descriptor);
    if let Some(value) = value {
        assert_listed(image.layers(), value.get("layers"));
        assert_listed(std::slice::from_ref(image.config()), Some(&json!([value["config"]])));
    }
    let Ok(converted) = image_to_oci(image) else { return };
    assert_eq!(converted.is_some(), is_docker_typed(image));
    let Some(converted) = converted else { return };
    assert_eq!(image_to_oci(image), Ok(Some(converted.clone())));
    assert_eq!(image_to_oci(&converted), Ok(None));
    assert_eq!(converted.media_type(), &MediaType::OCI_MANIFEST);
    assert!(!is_docker_typed(&converted));
    assert_eq!(converted.is_image(), image.is_image());
    assert_eq!(Manifest::parse(converted.raw().clone(), None), Ok(Manifest::Image(converted.clone())));
    if let Some(value) = value {
        let after: Value = serde_json::from_slice(converted.raw()).expect("what was JSON");
        assert_eq!(without_types(after), without_types(value.clone()));
    }
}

/// A manifest without the types of itself, of its config and of its layers.
fn without_types(mut manifest: Value) -> Value {
    let untyped = |value: &mut Value| {
        if let Value::Object(fields) = value {
            fields.remove("mediaType");
        }
    };
    untyped(&mut manifest);
    manifest.get_mut("config").map(untyped);
    if let Some(Value::Array(layers)) = manifest.get_mut("layers") {
        layers.iter_mut().for_each(untyped);
    }
    manifest
}

fn check_index(index: &ImageIndex, value: Option<&Value>) {
    index.manifests().iter().for_each(check_descriptor);
    if let Some(value) = value {
        assert_listed(index.manifests(), value.get("manifests"));
    }
    let new = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"converted"), 9);
    // Every other digest, so that entries that are alike become alike.
    let is_chosen =
        |entry: &Descriptor| entry.digest.hex().ends_with(|digit: char| "02468ace".contains(digit));
    let Ok(converted) = index_to_oci(index, |entry| is_chosen(entry).then(|| new.clone())) else { return };
    let has_chosen = index.manifests().iter().any(is_chosen);
    assert_eq!(converted.is_some(), is_docker_list(index) || has_chosen);
    let Some(converted) = converted else { return };
    assert_eq!(index_to_oci(&converted, |_| None), Ok(None));
    assert_eq!(Manifest::parse(converted.raw().clone(), None), Ok(Manifest::Index(converted.clone())));
    assert_eq!(converted.manifests().len(), index.manifests().len());
    for (after, before) in converted.manifests().iter().zip(index.manifests()) {
        if is_chosen(before) {
            let kept = before.clone();
            let Descriptor { media_type, digest, size, .. } = new.clone();
            assert_eq!(*after, Descriptor { media_type, digest, size, data: None, urls: Vec::new(), ..kept });
        } else {
            assert_eq!(after, before);
        }
    }
    if let Some(value) = value {
        let after: Value = serde_json::from_slice(converted.raw()).expect("what was JSON");
        let chosen: Vec<bool> = index.manifests().iter().map(is_chosen).collect();
        assert_eq!(without_chosen(after, &chosen), without_chosen(value.clone(), &chosen));
    }
}

/// An index without its type, and without what conversion decides of the entries that were chosen.
fn without_chosen(mut index: Value, chosen: &[bool]) -> Value {
    if let Value::Object(fields) = &mut index {
        fields.remove("mediaType");
    }
    if let Some(Value::Array(entries)) = index.get_mut("manifests") {
        for (entry, _) in entries.iter_mut().zip(chosen).filter(|(_, is_chosen)| **is_chosen) {
            if let Value::Object(fields) = entry {
                fields.retain(|key, _| {
                    !["mediaType", "digest", "size", "data", "urls"].contains(&key.as_str())
                });
            }
        }
    }
    index
}

/// An image config.
///
/// What was read of it, written down by itself, is read again; where keys leave no room for doubt, a plain reader of JSON
/// sees the same.
pub fn configs(data: &[u8]) {
    let config = match ImageConfig::parse(data) {
        Ok(config) => config,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Integrity);
            return assert_fit(&error);
        }
    };
    assert_shown(&config.platform.to_string());
    let ImageConfig { platform, diff_ids, created, history, .. } = &config;
    let diff_ids: Vec<String> = diff_ids.iter().map(Digest::to_string).collect();
    let mut anew = serde_json::to_value(platform).expect("a platform is JSON");
    anew["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    anew["created"] = json!(created);
    anew["history"] = json!(history);
    assert_eq!(ImageConfig::parse(anew.to_string().as_bytes()).as_ref(), Ok(&config), "{anew}");
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    if is_plain(&value) && is_plain(&value["rootfs"]) && data.is_ascii() && !has_repeated_keys(data) {
        assert_eq!(value["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len), diff_ids.len());
        for (found, wanted) in
            diff_ids.iter().zip(value["rootfs"]["diff_ids"].as_array().into_iter().flatten())
        {
            assert_eq!(wanted, found);
        }
        assert_eq!(value["os"].as_str().unwrap_or_default(), platform.os);
        assert_eq!(value["architecture"].as_str().unwrap_or_default(), platform.architecture);
    }
}

/// Whether all keys of an object are in lower case, so that no reader takes one for another.
fn is_plain(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| fields.keys().all(|key| *key == key.to_ascii_lowercase()))
}

/// Whether a key that matters may stand there more than once.
fn has_repeated_keys(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let keys = ["\"rootfs\"", "\"diff_ids\"", "\"os\"", "\"architecture\""];
    text.contains('\\') || keys.iter().any(|key| text.matches(key).count() > 1)
}

/// `s` or another letter for the type, and a manifest of Docker's schema 1.
///
/// The payload is the document less its signatures. The image has the manifest's layers; its config and its manifest are
/// the same at every call, can be read, and say what they were made from.
pub fn schema1(data: &[u8]) {
    let Some((&letter, document)) = data.split_first() else { return };
    let media_type =
        if letter == b's' { MediaType::DOCKER_SCHEMA1_SIGNED } else { MediaType::DOCKER_SCHEMA1 };
    let raw = Bytes::copy_from_slice(document);
    let payload = Schema1Manifest::signed_payload(&raw);
    let manifest = match Manifest::parse(raw.clone(), Some(media_type.as_str())) {
        Ok(Manifest::Schema1(manifest)) => manifest,
        Ok(other) => panic!("{other:?} is no schema 1"),
        Err(error) => return assert_fit(&error),
    };
    assert_eq!((manifest.raw(), manifest.media_type()), (&raw, &media_type));
    let payload = payload.expect("a manifest that was read");
    assert_eq!(
        (payload.as_ref().unwrap_or(&raw), payload.is_some()),
        (manifest.payload(), manifest.is_signed())
    );
    check_payload(&manifest);
    check_schema1(&manifest);
}

fn check_payload(manifest: &Schema1Manifest) {
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes);
    let (Ok(mut raw), Ok(payload)) = (read(manifest.raw()), read(manifest.payload())) else { return };
    if manifest.is_signed() {
        raw.as_object_mut().expect("a manifest").remove("signatures");
    }
    // Whatever stands beside the signatures and not in the payload is under no digest, and nothing of it is read.
    let layers: Vec<_> = payload["fsLayers"].as_array().into_iter().flatten().collect();
    assert!(!layers.is_empty());
    let text = |key: &str| payload[key].as_str().unwrap_or_default();
    assert_eq!(text("name"), manifest.name());
    assert_eq!(text("tag"), manifest.tag());
    assert_eq!(text("architecture"), manifest.architecture());
}

fn check_schema1(manifest: &Schema1Manifest) {
    let image = match manifest.image() {
        Ok(image) => image,
        Err(error) => return assert_fit(&error),
    };
    assert_eq!(manifest.image().as_ref(), Ok(&image));
    assert_shown(&image.platform().to_string());
    let payload = String::from_utf8_lossy(manifest.payload());
    let diff_ids: Vec<Digest> =
        (0..image.layers().len()).map(|at| Digest::sha256(&at.to_le_bytes())).collect();
    for layer in image.layers() {
        assert!(payload.contains(&layer.hex()) || payload.contains('\\'));
    }
    let Ok(config) = image.config(&diff_ids) else { return };
    assert_eq!(image.config(&diff_ids).as_ref(), Ok(&config));
    assert!(image.config(&[diff_ids.as_slice(), &[Digest::sha256(b"")]].concat()).is_err());
    let read = ImageConfig::parse(&config).expect("a config that was made here");
    assert_eq!(read.diff_ids, diff_ids);
    assert!(serde_json::from_slice::<&RawValue>(&config).is_ok());
    let config = Descriptor::new(MediaType::OCI_CONFIG, Digest::sha256(&config), config.len() as u64);
    let layer = |digest: &Digest| Descriptor::new(MediaType::OCI_LAYER_GZIP, *digest, 7);
    let layers: Vec<Descriptor> = image.layers().iter().map(layer).collect();
    let made = Schema1Image::manifest(&config, &layers);
    let Ok(Manifest::Image(made)) = Manifest::parse(made.into(), None) else { panic!("an image manifest") };
    assert_eq!((made.config(), made.layers()), (&config, &layers[..]));
}
