//! Properties of pure parts under random input. `bodies` has those that the fuzzers in `fuzz/` share, `generated` gives them
//! structured input and `corpus` what fuzzers have found. Schedules and decoders, which are not public, have theirs in their
//! own modules' tests.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, and the line says enough")]

#[expect(unreachable_pub, reason = "they are public in fuzz/, whose library they are as well")]
mod bodies;
mod corpus;
mod generated;

use std::io::Write as _;

use ocipull::digest::{Algorithm, Digest};
use ocipull::manifest::convert::{image_to_oci, index_to_oci, is_docker_typed};
use ocipull::manifest::{Descriptor, Manifest, MediaType};
use ocipull::platform::{Candidate, Matcher, Platform};
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

/// Types of Docker's and OCI's configs and layers, generic and unknown ones, and none.
fn media_type() -> impl Strategy<Value = String> {
    let docker = "application/vnd.docker.";
    prop_oneof![
        Just(String::new()),
        Just("application/octet-stream".to_owned()),
        Just("application/json".to_owned()),
        Just("application/vnd.oci.image.config.v1+json".to_owned()),
        Just("application/vnd.oci.image.layer.v1.tar+zstd".to_owned()),
        Just(format!("{docker}container.image.v1+json")),
        Just(format!("{docker}plugin.v1+json")),
        Just(format!("{docker}image.rootfs.diff.tar")),
        Just(format!("{docker}image.rootfs.diff.tar.gzip")),
        Just(format!("{docker}image.rootfs.diff.tar.zstd+encrypted")),
        Just(format!("{docker}image.rootfs.foreign.diff.tar.gzip")),
        "[a-z]{1,6}/[a-z.+]{1,12}",
    ]
}

/// What no specification knows, written in ways that no model would keep.
const UNKNOWN: [&str; 4] = [
    "1.50e3",
    "[ 1e400 , {} ]",
    r#""\u00e9\/""#,
    r#"{"mediaType":"application/vnd.docker.image.rootfs.diff.tar","k":null}"#,
];

fn unknown() -> impl Strategy<Value = String> {
    (proptest::sample::select(&UNKNOWN[..]), "[ \n]{0,2}")
        .prop_map(|(value, space)| format!(r#""x-unknown"{space}:{space}{value}"#))
}

/// A descriptor's JSON: its members in any order, the type perhaps left out.
fn descriptor_json() -> impl Strategy<Value = String> {
    let content = (media_type(), any::<u8>(), 0_u32..1000, unknown(), any::<bool>());
    let members = content.prop_map(|(media_type, content, size, unknown, is_typed)| {
        let mut members = vec![
            format!(r#""digest":"{}""#, Digest::sha256(&[content])),
            format!(r#""size":{size}"#),
            unknown,
        ];
        if is_typed {
            members.push(format!(r#""mediaType":"{media_type}""#));
        }
        members
    });
    members.prop_shuffle().prop_map(|members| format!("{{{}}}", members.join(", ")))
}

/// A manifest's JSON, and the type that a header says.
fn manifest_json() -> impl Strategy<Value = (String, &'static str)> {
    let kind = prop_oneof![
        Just("application/vnd.docker.distribution.manifest.v2+json"),
        Just("application/vnd.oci.image.manifest.v1+json"),
    ];
    let layers = proptest::collection::vec(descriptor_json(), 0..5);
    (kind, descriptor_json(), layers, unknown(), any::<bool>())
        .prop_map(|(kind, config, layers, unknown, is_typed)| {
            let mut members = vec![
                r#""schemaVersion": 2"#.to_owned(),
                format!(r#""config":{config}"#),
                format!(r#""layers" : [{}]"#, layers.join(" ,\n")),
                unknown,
            ];
            if is_typed {
                members.push(format!(r#""mediaType":"{kind}""#));
            }
            (members, kind)
        })
        .prop_flat_map(|(members, kind)| (Just(members).prop_shuffle(), Just(kind)))
        .prop_map(|(members, kind)| (format!("{{{}}}", members.join(",")), kind))
}

proptest! {
    /// Whatever a manifest holds, conversion keeps it an image or an artifact, keeps its blobs, and has nothing left to do.
    #[test]
    fn converted_manifests_keep_everything_but_types((text, kind) in manifest_json()) {
        bodies::manifests(format!("0{text}").as_bytes());
        let Ok(Manifest::Image(source)) = Manifest::parse(text.into(), Some(kind)) else { panic!("a manifest") };
        let converted = image_to_oci(&source).unwrap();
        prop_assert_eq!(converted.is_some(), is_docker_typed(&source));
        let Some(converted) = converted else { return Ok(()) };
        prop_assert_eq!(&image_to_oci(&source).unwrap().unwrap(), &converted);
        prop_assert_eq!(converted.media_type(), &MediaType::OCI_MANIFEST);
        prop_assert_eq!(converted.is_image(), source.is_image());
        prop_assert!(!is_docker_typed(&converted));
        prop_assert_eq!(image_to_oci(&converted), Ok(None));
        let again = Manifest::parse(converted.raw().clone(), None).unwrap();
        prop_assert_eq!(again, Manifest::Image(converted.clone()));
        let untyped = |descriptor: &Descriptor| Descriptor { media_type: MediaType::default(), ..descriptor.clone() };
        prop_assert_eq!(untyped(converted.config()), untyped(source.config()));
        let layers = |layers: &[Descriptor]| layers.iter().map(untyped).collect::<Vec<_>>();
        prop_assert_eq!(layers(converted.layers()), layers(source.layers()));
        for value in UNKNOWN {
            let count = |raw: &[u8]| std::str::from_utf8(raw).unwrap().matches(value).count();
            prop_assert_eq!(count(converted.raw()), count(source.raw()), "{}", value);
        }
    }

    /// An index names what its children became, in their order, and what did not change is as it was.
    #[test]
    fn converted_indexes_name_what_children_became(
        entries in proptest::collection::vec((descriptor_json(), any::<bool>()), 0..6),
        is_docker in any::<bool>(),
    ) {
        let kind = if is_docker { MediaType::DOCKER_LIST } else { MediaType::OCI_INDEX };
        let listed: Vec<&str> = entries.iter().map(|(entry, _)| entry.as_str()).collect();
        let text = format!(r#"{{"manifests":[{}],"schemaVersion":2}}"#, listed.join(","));
        let Ok(Manifest::Index(source)) = Manifest::parse(text.into(), Some(kind.as_str())) else { panic!("an index") };
        let new = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"new"), 3);
        let chosen: Vec<Descriptor> = source.manifests().iter().zip(&entries)
            .filter(|(_, (_, is_chosen))| *is_chosen).map(|(entry, _)| entry.clone()).collect();
        let became = |entry: &Descriptor| chosen.contains(entry).then(|| new.clone());
        let converted = index_to_oci(&source, became).unwrap();
        prop_assert_eq!(converted.is_some(), is_docker || !chosen.is_empty());
        let Some(converted) = converted else { return Ok(()) };
        prop_assert_eq!(converted.manifests().len(), source.manifests().len());
        for (after, before) in converted.manifests().iter().zip(source.manifests()) {
            prop_assert_eq!(after, if chosen.contains(before) { &new } else { before });
        }
        prop_assert_eq!(index_to_oci(&converted, |_| None), Ok(None));
        let again = Manifest::parse(converted.raw().clone(), None).unwrap();
        prop_assert_eq!(again, Manifest::Index(converted));
    }

    /// What parses is what the grammar takes, and is written in a way that parses to the same.
    #[test]
    fn references_parse_and_display_inversely(text in reference_like()) {
        bodies::references(text.as_bytes());
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
        bodies::decompression(&[&[77], &bytes[..]].concat());
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
        for document in [bytes, json.into_bytes()] {
            for content_type in b'0'..b'8' {
                bodies::manifests(&[&[content_type], &document[..]].concat());
            }
            bodies::configs(&document);
        }
        for body in [bodies::challenges, bodies::references, bodies::platforms] {
            body(text.as_bytes());
        }
    }
}
