//! Properties of the public API's pure parts under random input. In the modules' own tests stand those that need what is
//! not public: byte intervals, schedules, decoders.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, and the line says enough")]

use std::io::Write as _;

use bytes::Bytes;
use ocipull::digest::{Algorithm, Digest};
use ocipull::manifest::{ImageConfig, Manifest};
use ocipull::platform::{Candidate, Matcher, Platform};
use ocipull::reference::Reference;
use ocipull::registry::auth::Challenge;
use ocipull::verify::{BlobVerifier, Content, DiffId, ProvenBlob, VerifyError};
use proptest::prelude::*;

/// Pieces that references are made of, in and out of place.
fn reference_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z0-9]{1,8}",
        "[A-Za-z0-9._-]{1,8}",
        Just("/".to_owned()),
        Just(":".to_owned()),
        Just("@".to_owned()),
        Just("localhost".to_owned()),
        Just("docker.io/".to_owned()),
        Just("[::1]:5000/".to_owned()),
        Just(format!("@{}", Digest::sha256(b"x"))),
        Just("library/".to_owned()),
        "\\PC{0,3}",
    ];
    proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

fn platform() -> impl Strategy<Value = Platform> {
    let os = prop_oneof![Just("linux"), Just("windows"), Just("macos"), Just("Linux"), Just("unknown")];
    let architecture = prop_oneof![
        Just("amd64"),
        Just("x86_64"),
        Just("arm"),
        Just("aarch64"),
        Just("arm64"),
        Just("armhf"),
        Just("386"),
        Just("s390x"),
    ];
    let variant = prop_oneof![
        Just(None),
        Just(Some("v1")),
        Just(Some("v3")),
        Just(Some("v6")),
        Just(Some("v7")),
        Just(Some("8")),
        Just(Some("v8.2")),
        Just(Some("v9")),
        Just(Some("v9.3")),
        Just(Some("odd")),
    ];
    (os, architecture, variant).prop_map(|(os, architecture, variant)| Platform {
        variant: variant.map(str::to_owned),
        ..Platform::new(os, architecture)
    })
}

/// The bytes in pieces of the given lengths, the last one as long as it takes.
fn pieces<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for length in lengths {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

fn verified(bytes: &[u8], lengths: &[usize], digest: Digest, size: u64) -> Result<ProvenBlob, VerifyError> {
    let mut verifier = BlobVerifier::new(digest, size, Content::Layer { diff_id: Algorithm::Sha256 });
    for piece in pieces(bytes, lengths) {
        let accepted = verifier.write(piece)?;
        assert_eq!(accepted.consumed, piece.len());
    }
    verifier.finish()
}

fn gzip_members(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = Vec::new();
    for content in contents {
        let mut encoder = flate2::write::GzEncoder::new(&mut whole, flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap();
    }
    whole
}

fn zstd_frames(contents: &[Vec<u8>]) -> Vec<u8> {
    let frames = contents.iter().map(|content| zstd::encode_all(&content[..], 1).unwrap());
    let skippable = [&0x184d_2a53_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"abc"].concat();
    frames.flat_map(|frame| [frame, skippable.clone()].concat()).collect()
}

proptest! {
    /// What parses is written in a way that parses to the same, and its parts fit together.
    #[test]
    fn references_parse_and_display_inversely(text in reference_like()) {
        if let Ok(reference) = text.parse::<Reference>() {
            let shown = reference.to_string();
            prop_assert_eq!(&shown.parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
            prop_assert!(reference.tag().is_some() || reference.digest().is_some());
            prop_assert!(reference.repository().path().len() <= 255);
            prop_assert!(shown.starts_with(reference.repository().host()));
        }
    }

    /// To normalise twice is to normalise once, and a platform runs on itself in every spelling.
    #[test]
    fn platforms_match_themselves_in_every_spelling(platform in platform()) {
        let normal = platform.normalize();
        prop_assert_eq!(&normal.normalize(), &normal);
        let known = normal.architecture != "arm64" || normal.variant.as_deref() != Some("odd")
            && normal.variant.as_deref().is_none_or(|variant| variant.starts_with("v8") || variant.starts_with("v9"));
        if known && !normal.is_unknown() {
            prop_assert!(Matcher::new(&platform).matches(&normal));
            prop_assert!(Matcher::new(&normal).matches(&platform));
        }
    }

    /// The order of preference names every match once, and its first is no worse than any other.
    #[test]
    fn the_best_match_comes_first(wanted in platform(), list in proptest::collection::vec(platform(), 0..12)) {
        let matcher = Matcher::new(&wanted);
        let order = matcher.order(list.iter().map(Some));
        let ranks: Vec<_> = order.iter().map(|candidate| matcher.rank(&list[candidate.index()]).unwrap()).collect();
        prop_assert!(ranks.windows(2).all(|pair| pair[0] <= pair[1]));
        let matching = list.iter().filter(|candidate| matcher.matches(candidate)).count();
        prop_assert_eq!(order.iter().filter(|candidate| matches!(candidate, Candidate::Matching(_))).count(), matching);
    }

    /// Any chunking verifies alike, whatever the encoding, and the diff ID is that of what went in.
    #[test]
    fn any_chunking_verifies_alike(
        contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..4),
        lengths in proptest::collection::vec(0usize..200, 0..60),
        encoding in 0..3,
    ) {
        let plain = contents.concat();
        let bytes = match encoding {
            0 => gzip_members(&contents),
            1 => zstd_frames(&contents),
            // A first byte that no encoding begins with.
            _ => [b"a", &plain[..]].concat(),
        };
        let plain = if encoding == 2 { bytes.clone() } else { plain };
        let proof = verified(&bytes, &lengths, Digest::sha256(&bytes), bytes.len() as u64).unwrap();
        let expected = DiffId::Computed { digest: Digest::sha256(&plain), uncompressed_size: plain.len() as u64 };
        prop_assert_eq!(proof.diff_id(), expected);
    }

    /// Any flipped bit is rejected, and so is any other length.
    #[test]
    fn any_flipped_bit_is_rejected(content in proptest::collection::vec(any::<u8>(), 1..2000), at in any::<usize>(), bit in 0..8) {
        let bytes = gzip_members(&[content]);
        let (digest, size) = (Digest::sha256(&bytes), bytes.len() as u64);
        let mut flipped = bytes.clone();
        flipped[at % bytes.len()] ^= 1_u8 << bit;
        let is_refused = matches!(verified(&flipped, &[], digest, size), Err(VerifyError::DigestMismatch { .. }));
        prop_assert!(is_refused);
        prop_assert!(verified(&bytes[..bytes.len() - 1], &[], digest, size).is_err());
        prop_assert!(verified(&[&bytes[..], b"x"].concat(), &[], digest, size).is_err());
    }

    /// Whatever a registry sends, reading it ends with an answer.
    #[test]
    fn documents_and_challenges_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        text in "[A-Za-z0-9=,;\" \\\\/:\\t-]{0,120}",
        json in "\\{(\"(schemaVersion|config|layers|manifests|digest|size|mediaType)\":(2|null|\\[\\]|\\{\\}|\"x\"),?){0,5}\\}?",
    ) {
        for document in [Bytes::from(bytes.clone()), Bytes::from(json.into_bytes())] {
            let _ = Manifest::parse(document.clone(), None);
            let _ = Manifest::parse(document.clone(), Some(&text));
            let _ = ImageConfig::parse(&document);
        }
        let _ = Challenge::parse_all([text.as_str()]);
        let _ = text.parse::<Reference>();
        let _ = text.parse::<Platform>();
    }
}
