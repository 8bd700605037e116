//! Layers whose media type says another compression than their bytes have. Pure.
//!
//! Such layers exist (a registry or a proxy that recompresses, a builder that writes the wrong type), and the diff ID
//! proves them all the same, because verification tells the encoding from the bytes. But not every tool that reads the
//! layout is as careful, so it is said. A type that has no known compression says nothing that could be contradicted:
//! an encrypted layer's, an artifact's, an unknown or an empty one.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::manifest::{Compression, ImageManifest};
use crate::verify::{Encoding, ProvenBlob};

/// How many layers are named one by one. An image that was recompressed as a whole has a hundred.
const MOST_NAMED: usize = 8;

/// One sentence for each layer of `manifest` whose type contradicts its bytes, a layer that is listed twice counting
/// once; from the ninth on one sentence for all. `proof` is asked for each layer; one that has no proof, or that was
/// not looked into, is passed over.
pub(super) fn contradictions(
    manifest: &ImageManifest,
    proof: impl Fn(&Digest) -> Option<ProvenBlob>,
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut sentences: Vec<String> = Vec::new();
    for layer in manifest.layers() {
        let Some(said) = layer.media_type.layer_compression() else { continue };
        let Some(found) = proof(&layer.digest).and_then(|proof| proof.encoding()) else { continue };
        if agree(said, found) || !seen.insert((layer.digest, &layer.media_type)) {
            continue;
        }
        let (digest, said, media_type) = (layer.digest, name(said), &layer.media_type);
        sentences.push(format!("layer {digest} says {said} ({media_type}) and is {found}"));
    }
    if let Some(more) = sentences.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        sentences.truncate(MOST_NAMED);
        let layers = if more == 1 { "layer has" } else { "layers have" };
        sentences.push(format!("{more} more {layers} another compression than the media type says"));
    }
    sentences
}

fn agree(said: Compression, found: Encoding) -> bool {
    matches!(
        (said, found),
        (Compression::None, Encoding::Plain)
            | (Compression::Gzip, Encoding::Gzip)
            | (Compression::Zstd, Encoding::Zstd)
    )
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "plain",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write as _;

    use serde_json::json;

    use super::*;
    use crate::digest::Algorithm;
    use crate::manifest::{Manifest, MediaType};
    use crate::verify::{BlobVerifier, Content, verify_reader};

    const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    fn blob(encoding: Encoding, number: usize) -> Vec<u8> {
        let tar = format!("layer {number}").into_bytes();
        match encoding {
            Encoding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&tar).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(&tar[..], 1).unwrap(),
            _ => tar,
        }
    }

    /// What is said of an image with these layers, its digests replaced by the layers' numbers.
    fn said(layers: &[(&str, Encoding, usize)], content: Content) -> Vec<String> {
        let blobs: Vec<Vec<u8>> =
            layers.iter().map(|(_, encoding, number)| blob(*encoding, *number)).collect();
        let mut proofs = BTreeMap::new();
        let mut descriptors = Vec::new();
        for ((media_type, ..), bytes) in layers.iter().zip(&blobs) {
            let digest = Digest::sha256(bytes);
            let verifier = BlobVerifier::new(digest, bytes.len() as u64, content);
            proofs.insert(digest, verify_reader(&bytes[..], verifier).unwrap());
            descriptors.push(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }));
        }
        let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::sha256(b"{}"), "size": 2 });
        let document = json!({ "schemaVersion": 2, "config": config, "layers": descriptors });
        let raw = serde_json::to_vec(&document).unwrap();
        let parsed = Manifest::parse(raw.into(), Some(MediaType::OCI_MANIFEST.as_str())).unwrap();
        let Manifest::Image(manifest) = parsed else { panic!("an image manifest") };
        let sentences = contradictions(&manifest, |digest| proofs.get(digest).copied());
        let shorten = |mut sentence: String| {
            for ((_, _, number), bytes) in layers.iter().zip(&blobs) {
                sentence = sentence.replace(&Digest::sha256(bytes).to_string(), &format!("#{number}"));
            }
            sentence
        };
        sentences.into_iter().map(shorten).collect()
    }

    const LAYER: Content = Content::Layer { diff_id: Algorithm::Sha256 };

    /// Which type contradicts which bytes, and which says nothing that could be contradicted.
    #[test]
    fn types_and_bytes() {
        use Encoding::{Gzip, Plain, Zstd};
        let cases = [
            (PLAIN, Plain, None),
            (GZIP, Gzip, None),
            (ZSTD, Zstd, None),
            (DOCKER, Gzip, None),
            (PLAIN, Gzip, Some("plain")),
            (PLAIN, Zstd, Some("plain")),
            (GZIP, Plain, Some("gzip")),
            (DOCKER, Zstd, Some("gzip")),
            (FOREIGN, Plain, Some("gzip")),
            (ZSTD, Gzip, Some("zstd")),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", Plain, None),
            ("application/vnd.example.tar+gzip", Plain, None),
            ("", Gzip, None),
        ];
        for (media_type, encoding, word) in cases {
            let expected: Vec<String> = word
                .map(|word| format!("layer #1 says {word} ({media_type}) and is {encoding}"))
                .into_iter()
                .collect();
            assert_eq!(said(&[(media_type, encoding, 1)], LAYER), expected, "{media_type} {encoding}");
        }
    }

    /// What was verified by its digest alone was not looked into, so that nothing is known of its encoding.
    #[test]
    fn what_was_not_looked_into_is_passed_over() {
        assert_eq!(said(&[(GZIP, Encoding::Plain, 1)], Content::Opaque), [""; 0]);
    }

    /// A layer that is listed twice is one complaint, and a hundred of them are nine lines.
    #[test]
    fn complaints_are_few() {
        let twice = [(GZIP, Encoding::Plain, 1), (GZIP, Encoding::Plain, 1), (ZSTD, Encoding::Plain, 1)];
        assert_eq!(said(&twice, LAYER).len(), 2, "once for each type that is wrong");
        for (count, last) in [(8, None), (9, Some("1 more layer has")), (100, Some("92 more layers have"))] {
            let layers: Vec<_> = (0..count).map(|number| (GZIP, Encoding::Plain, number)).collect();
            let sentences = said(&layers, LAYER);
            assert_eq!(sentences.len(), count.min(MOST_NAMED) + usize::from(last.is_some()));
            if let Some(last) = last {
                assert!(sentences[MOST_NAMED].starts_with(last), "{sentences:?}");
            }
        }
    }
}
