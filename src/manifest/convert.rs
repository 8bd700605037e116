//! From Docker's media types to OCI's: the same manifest and the same index under the names that every OCI tool knows.
//!
//! Docker's schema 2 and the image spec agree in everything but the names of their types (image spec, "Compatibility
//! Matrix"), so nothing else is touched: configs and layers keep their bytes and digests, layers their order and their
//! compression. Guarantees:
//!
//! - of the document only the media types of itself, of its config and of its layers change, and in an index type,
//!   digest and size of the manifests that were converted; every other byte stays as it was, unknown fields too;
//! - the same source always becomes the same bytes, and what was converted has nothing left to convert;
//! - what comes out is read by [`Manifest::parse`] again, so it is within the cap too.
//!
//! What has no counterpart in the image spec keeps its type: Docker's plugins, artifacts' blobs, and layers whose type is
//! empty or generic, of which nobody can say how they are compressed. (containers/image refuses such a layer here,
//! containerd leaves it as it is, which loses nothing.) A `subject` keeps naming the document that it was about.
//!
//! The new document has a new digest. Signatures and whatever else names the old one do not move along.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::document::{self, Fault};
use super::splice::{Members, Splice, quoted};
use super::{
    Compression, DOCUMENT, Descriptor, ImageIndex, ImageManifest, Manifest, ManifestError, MediaType,
};

/// Whether an image manifest has a media type of Docker's that [`image_to_oci`] would change: its own, its config's or
/// a layer's.
pub fn is_docker_typed(manifest: &ImageManifest) -> bool {
    manifest.media_type().to_oci().is_some()
        || config_type(manifest).is_some()
        || manifest.layers().iter().any(|layer| layer.media_type.to_oci().is_some())
}

/// Whether an index is a manifest list of Docker's. What it lists may be Docker's either way.
pub fn is_docker_list(index: &ImageIndex) -> bool {
    index.media_type().to_oci().is_some()
}

/// Whether a layer is compressed with zstd, as its media type tells. Conversion leaves that as it is, and older tools
/// (umoci 0.4 among them) do not read it.
pub fn has_zstd_layers(manifest: &ImageManifest) -> bool {
    manifest.layers().iter().any(|layer| layer.media_type.layer_compression() == Some(Compression::Zstd))
}

/// The manifest with OCI's media types, or `None` where there is nothing to change. One without Docker's types is OCI's
/// already, also without a `mediaType` of its own, which the image spec allows.
///
/// # Errors
/// [`ManifestError::TooLarge`] when the new types make it larger than a manifest may be.
pub fn image_to_oci(manifest: &ImageManifest) -> Result<Option<ImageManifest>, ManifestError> {
    if !is_docker_typed(manifest) {
        return Ok(None);
    }
    let text = document::utf8(manifest.raw(), DOCUMENT)?;
    let root = document::value(text, DOCUMENT)?;
    let mut splice = Splice::new(text);
    edit_image(&mut splice, root, manifest).map_err(|fault| fault.in_document(DOCUMENT))?;
    match parse(splice, &MediaType::OCI_MANIFEST)? {
        Manifest::Image(converted) => Ok(Some(converted)),
        other => Err(ManifestError::UnsupportedMediaType { media_type: other.media_type().clone() }),
    }
}

fn edit_image(splice: &mut Splice<'_>, root: &RawValue, manifest: &ImageManifest) -> Result<(), Fault> {
    let members = Members::read(root)?;
    retype_document(splice, &members, &MediaType::OCI_MANIFEST);
    if let (Some(config), Some(media_type)) = (members.get("config"), config_type(manifest)) {
        splice.set(&Members::read(config)?, "mediaType", quoted(media_type.as_str()));
    }
    for (element, layer) in elements(&members, "layers")?.into_iter().zip(manifest.layers()) {
        if let Some(media_type) = layer.media_type.to_oci() {
            splice.set(&Members::read(element)?, "mediaType", quoted(media_type.as_str()));
        }
    }
    Ok(())
}

/// The index with OCI's media type, or `None` where there is nothing to change. `converted` is asked for each entry and
/// gives the descriptor of what the entry's manifest or index has become (children come before parents); of that, type,
/// digest and size are taken. `None` leaves the entry as it is: also one whose content is not at hand, whatever its type.
///
/// Content and URLs that a converted entry carried (`data`, `urls`) are those of the old content, and go.
///
/// # Errors
/// As [`image_to_oci`].
pub fn index_to_oci(
    index: &ImageIndex,
    converted: impl Fn(&Descriptor) -> Option<Descriptor>,
) -> Result<Option<ImageIndex>, ManifestError> {
    let converted: Vec<_> = index.manifests().iter().map(converted).collect();
    if !is_docker_list(index) && converted.iter().all(Option::is_none) {
        return Ok(None);
    }
    let text = document::utf8(index.raw(), DOCUMENT)?;
    let root = document::value(text, DOCUMENT)?;
    let mut splice = Splice::new(text);
    edit_index(&mut splice, root, &converted).map_err(|fault| fault.in_document(DOCUMENT))?;
    match parse(splice, &MediaType::OCI_INDEX)? {
        Manifest::Index(converted) => Ok(Some(converted)),
        other => Err(ManifestError::UnsupportedMediaType { media_type: other.media_type().clone() }),
    }
}

fn edit_index(
    splice: &mut Splice<'_>,
    root: &RawValue,
    converted: &[Option<Descriptor>],
) -> Result<(), Fault> {
    let members = Members::read(root)?;
    retype_document(splice, &members, &MediaType::OCI_INDEX);
    for (element, new) in elements(&members, "manifests")?.into_iter().zip(converted) {
        if let Some(new) = new {
            relabel(splice, &Members::read(element)?, new);
        }
    }
    Ok(())
}

/// The JSON of a descriptor, such as an entry of a layout's `index.json`, that now names the converted content `new`. Type,
/// digest and size change, `data` and `urls` go, all else stays. The annotation `mark` is added unless it is there.
///
/// # Errors
/// [`ManifestError`] when the text is no JSON object.
pub(crate) fn relabelled(json: &str, new: &Descriptor, mark: (&str, &str)) -> Result<String, ManifestError> {
    const NAME: &str = "descriptor";
    let root = document::value(document::utf8(json.as_bytes(), NAME)?, NAME)?;
    let mut splice = Splice::new(json);
    edit_descriptor(&mut splice, root, new, mark).map_err(|fault| fault.in_document(NAME))?;
    Ok(splice.finish())
}

fn edit_descriptor(
    splice: &mut Splice<'_>,
    root: &RawValue,
    new: &Descriptor,
    (key, text): (&str, &str),
) -> Result<(), Fault> {
    let members = Members::read(root)?;
    relabel(splice, &members, new);
    let Some(annotations) = members.get("annotations").filter(|held| !document::is_null(held)) else {
        splice.set(&members, "annotations", format!("{{{}:{}}}", quoted(key), quoted(text)));
        return Ok(());
    };
    let annotations = Members::read(annotations)?;
    if annotations.get(key).is_none_or(|held| matches!(held.get(), "null" | "\"\"")) {
        splice.set(&annotations, key, quoted(text));
    }
    Ok(())
}

/// The elements of a member that is an array; none when it is not there, or null.
fn elements<'a>(members: &Members<'a>, key: &str) -> Result<Vec<&'a RawValue>, Fault> {
    match members.get(key).filter(|list| !document::is_null(list)) {
        Some(list) => document::elements(list, Ok),
        None => Ok(Vec::new()),
    }
}

/// The type that the config gets. Whatever moby takes for an image's config becomes one by name too, or the manifest would
/// turn from an image into an artifact.
fn config_type(manifest: &ImageManifest) -> Option<MediaType> {
    let is_named = manifest.config().media_type == MediaType::OCI_CONFIG;
    (manifest.is_image() && !is_named).then_some(MediaType::OCI_CONFIG)
}

/// Gives a document its type: the image spec wants it inside, also where the source had it in a header only.
fn retype_document(splice: &mut Splice<'_>, members: &Members<'_>, media_type: &MediaType) {
    let json = quoted(media_type.as_str());
    match (members.get("mediaType"), members.get("schemaVersion")) {
        (None, Some(version)) => splice.insert_after(version, "mediaType", &json),
        _ => splice.set(members, "mediaType", json),
    }
}

fn relabel(splice: &mut Splice<'_>, members: &Members<'_>, new: &Descriptor) {
    splice.remove(members, &HashSet::from(["data", "urls"]));
    splice.set(members, "mediaType", quoted(new.media_type.as_str()));
    splice.set(members, "digest", quoted(&new.digest.to_string()));
    splice.set(members, "size", new.size.to_string());
}

fn parse(splice: Splice<'_>, media_type: &MediaType) -> Result<Manifest, ManifestError> {
    Manifest::parse(splice.finish().into(), Some(media_type.as_str()))
}

#[cfg(test)]
mod tests;
