//! Schema 1 held against Docker's own code: its results are in testdata/schema1/. Rules are in tables.

use super::*;
use crate::digest::Algorithm;
use crate::failure::{Failure as _, Kind};
use crate::manifest::{Descriptor, Manifest};

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

const RECENT: &str = include_str!("../../../testdata/schema1/recent.json");
const OLD: &str = include_str!("../../../testdata/schema1/old.json");
const UNSIGNED: &str = include_str!("../../../testdata/schema1/unsigned.json");

fn parse(text: &str) -> Result<Schema1Manifest, ManifestError> {
    match Manifest::parse(text.to_owned().into(), Some(SIGNED))? {
        Manifest::Schema1(manifest) => Ok(manifest),
        other => panic!("{other:?}"),
    }
}

/// An unsigned manifest of these entries, each with the same blob.
fn manifest_of(entries: &[&str]) -> String {
    let layers = entries.iter().map(|_| serde_json::json!({ "blobSum": EMPTY }));
    let history = entries.iter().map(|entry| serde_json::json!({ "v1Compatibility": entry }));
    serde_json::json!({
        "schemaVersion": 1,
        "fsLayers": layers.collect::<Vec<_>>(),
        "history": history.collect::<Vec<_>>(),
    })
    .to_string()
}

fn image_of(entries: &[&str]) -> Result<Schema1Image, ManifestError> {
    parse(&manifest_of(entries))?.image()
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// An entry with the ID of 64 times `digit`, on the parent of 64 times another, or on none.
fn entry(digit: char, parent: Option<char>, more: &str) -> String {
    let parent = parent.map(|parent| format!(r#","parent":"{}""#, id(parent))).unwrap_or_default();
    format!(r#"{{"id":"{}"{parent}{more}}}"#, id(digit))
}

/// One byte off, and an image has another ID than `docker images` says. The expected configs are Docker's.
#[test]
fn configs_are_those_that_docker_makes() {
    let table = include_str!("../../../testdata/schema1/configs.txt");
    let lines: Vec<_> = table.lines().collect();
    for pair in lines.chunks_exact(2) {
        let made = image_of(&[pair[0]]).and_then(|image| {
            let diff_ids: Vec<_> = image.layers().iter().map(|_| EMPTY.parse().unwrap()).collect();
            image.config(&diff_ids)
        });
        let made = made.map_or_else(|_| "refused".to_owned(), |config| String::from_utf8(config).unwrap());
        assert_eq!(made, pair[1], "{}", pair[0]);
    }
}

/// Whole manifests, from the payload's digest to the config's bytes, two of them signed.
#[test]
fn manifests_become_what_docker_makes_of_them() {
    let cases = [
        (
            RECENT,
            include_str!("../../../testdata/schema1/recent.config.json"),
            "sha256:69d8e066b7bddec3f264017702d8af1a3e8d53c052c25a068b6070e5e0b2a0d2",
            ("demo/recent", "1.0", "amd64", true),
        ),
        (
            OLD,
            include_str!("../../../testdata/schema1/old.config.json"),
            "sha256:418bcb64954267f0a63dd0d326eedb36615b06dded9b75114fb1d1ebe4f895eb",
            ("demo/old", "1.0", "amd64", true),
        ),
        (
            UNSIGNED,
            include_str!("../../../testdata/schema1/unsigned.config.json"),
            "sha256:83cd8256c203fe3f3da9312ce0cc8eb4c62ea56352933df406fde9e5bc6e5373",
            ("demo/unsigned", "1.0", "amd64", false),
        ),
    ];
    for (document, config, digest, names) in cases {
        let manifest = parse(document).unwrap();
        let image = manifest.image().unwrap();
        assert_eq!((manifest.name(), manifest.tag(), manifest.architecture(), manifest.is_signed()), names);
        let diff_ids: Vec<_> = image
            .layers()
            .iter()
            .enumerate()
            .map(|(position, blob)| Digest::sha256(format!("{blob} {position}").as_bytes()))
            .collect();
        assert_eq!(String::from_utf8(image.config(&diff_ids).unwrap()).unwrap(), config);
        let descriptor = Manifest::Schema1(manifest.clone()).descriptor(Algorithm::Sha256);
        assert_eq!(descriptor.digest.to_string(), digest);
        assert_eq!(descriptor.size, document.len() as u64, "the size is that of all bytes");
        let payload = Schema1Manifest::signed_payload(manifest.raw()).unwrap();
        assert_eq!(payload.as_ref(), manifest.is_signed().then_some(manifest.payload()));
    }
}

/// The lowest layer comes first, a step without a layer has none, and a blob may be used twice.
#[test]
fn layers_are_in_order() {
    let manifest = parse(RECENT).unwrap();
    let image = manifest.image().unwrap();
    let blob = |name: &str| Digest::sha256(name.as_bytes());
    assert_eq!(image.layers(), [blob("empty"), blob("made"), blob("empty")]);
    let refused = image.config(&[blob("one")]).unwrap_err();
    assert_eq!(refused.to_string(), "manifest: 3 layers, but 1 diff IDs");
}

/// Rules of the history, the topmost entry first.
#[test]
fn histories_that_do_not_hold_together_are_refused() {
    let [base, middle, top] = [entry('a', None, ""), entry('b', Some('a'), ""), entry('c', Some('b'), "")];
    let cases: [(&[&str], Option<usize>, &str); 14] = [
        (&[&base], Some(1), ""),
        (&[&top, &middle, &base], Some(3), ""),
        (&[&middle, &middle, &base], Some(2), ""),
        (&[&middle, &middle, &middle, &base, &base], Some(2), ""),
        (&[&base, &base], Some(1), ""),
        (&[&entry('b', Some('f'), ""), &middle, &base], Some(2), ""),
        (&[&middle], None, "history[0] is the base, but names the parent"),
        (&[&middle, &entry('a', Some('a'), "")], None, "history[1] is the base"),
        (&[&top, &base], None, "history[0] names the parent \"bbbb"),
        (&[&base, &base, &entry('b', None, "")], None, "history[1] names the parent \"\""),
        (&[&middle, &entry('b', Some('f'), ""), &base], None, "history[1] names the parent \"ffff"),
        (&[&middle, &base, &middle, &base], None, "history[2] repeats the ID bbbb"),
        (&[&top, &middle, &top, &middle, &base], None, "history[2] repeats the ID cccc"),
        (&[&middle, "{}"], None, "history[1].v1Compatibility.id is not an image ID"),
    ];
    for (entries, layers, message) in cases {
        match (image_of(entries), layers) {
            (Ok(image), Some(layers)) => assert_eq!(image.layers().len(), layers, "{entries:?}"),
            (Err(error), None) => {
                assert!(error.to_string().contains(message), "{entries:?}: {error}");
                assert_eq!(error.kind(), Kind::Integrity);
            }
            (found, _) => panic!("{entries:?}: {found:?}"),
        }
    }
}

/// Of entries with one ID the lowest counts, and it is its config that the image has.
#[test]
fn of_adjacent_repeats_the_lowest_counts() {
    let base = entry('a', None, r#","docker_version":"1.9","a":1"#);
    let again = entry('a', None, r#","docker_version":"1.9","a":2"#);
    let config = image_of(&[&again, &base]).unwrap().config(&[EMPTY.parse().unwrap()]).unwrap();
    assert!(String::from_utf8(config).unwrap().starts_with(r#"{"a":1,"docker_version":"1.9""#));
}

/// An image of steps without a layer has no diff IDs at all, as Docker writes it.
#[test]
fn an_image_may_have_no_layer() {
    let image = image_of(&[&entry('a', None, r#","docker_version":"1.9","throwaway":true"#)]).unwrap();
    assert!(image.layers().is_empty());
    assert!(
        String::from_utf8(image.config(&[]).unwrap()).unwrap().ends_with(r#""rootfs":{"type":"layers"}}"#)
    );
}

/// What an image is for that does not say: Linux, and the architecture that the manifest names.
#[test]
fn platforms_are_told_or_taken_for_granted() {
    let cases = [
        (
            r#","docker_version":"1.9","os":"windows","architecture":"arm","variant":"v7""#,
            "s390x",
            "windows/arm/v7",
        ),
        (r#","docker_version":"1.9","OS":"freebsd""#, "arm64", "freebsd/arm64"),
        (r#","docker_version":"1.6","os":"freebsd","variant":"v2""#, "", "freebsd/amd64/v2"),
        ("", "ppc64le", "linux/ppc64le"),
        ("", "", "linux/amd64"),
    ];
    for (fields, architecture, platform) in cases {
        let text = manifest_of(&[&entry('a', None, fields)]).replacen(
            '{',
            &format!(r#"{{"architecture":"{architecture}","#),
            1,
        );
        let image = parse(&text).unwrap().image().unwrap();
        assert_eq!(image.platform().specifier(), platform, "{fields} {architecture:?}");
    }
}

/// Go tools read keys in any case: of `rootfs` in two spellings one has diff IDs that nobody proved.
#[test]
fn another_spelling_of_what_is_added_is_refused() {
    for key in ["Rootfs", "ROOTFS", r"root\u0046s", r"rootf\u017f", "History", r"hi\u017ftory"] {
        let fields = format!(r#","docker_version":"1.9","{key}":{{"diff_ids":["{EMPTY}"]}}"#);
        let error = image_of(&[&entry('a', None, &fields)]).unwrap_err().to_string();
        assert!(error.contains("history[0].v1Compatibility has the key"), "{error}");
        assert!(error.contains("which some readers take for"), "{error}");
    }
}

/// A config that grows past what a config may have is refused before anything is downloaded for it.
#[test]
fn a_config_that_grows_too_large_is_refused() {
    let comment = format!(r#","docker_version":"1.9","comment":"{}""#, "<".repeat(2 << 20));
    let error = image_of(&[&entry('a', None, &comment)]).unwrap_err();
    assert!(error.to_string().starts_with("image config: "), "{error}");
}

/// The same manifest and layers are the same OCI manifest, with nothing in it that could differ.
#[test]
fn the_oci_manifest_has_config_and_layers() {
    let config = Descriptor::new(MediaType::OCI_CONFIG, EMPTY.parse().unwrap(), 2);
    let layer =
        Descriptor::new("application/vnd.oci.image.layer.v1.tar+gzip".into(), EMPTY.parse().unwrap(), 7);
    let bytes = Schema1Image::manifest(&config, &[layer.clone(), layer]);
    insta::assert_snapshot!(String::from_utf8(bytes.clone()).unwrap(), @r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7},{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7}]}"#);
    assert!(matches!(Manifest::parse(bytes.into(), None), Ok(Manifest::Image(image)) if image.is_image()));
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// A signature whose protected header is `header`.
fn signature(header: &str) -> String {
    format!(r#"{{"header":{{}},"signature":"","protected":"{}"}}"#, base64url(header.as_bytes()))
}

fn format(length: impl std::fmt::Display, tail: &str) -> String {
    signature(&format!(
        r#"{{"formatLength":{length},"formatTail":"{}","time":"x"}}"#,
        base64url(tail.as_bytes())
    ))
}

/// What signatures say of the payload, and what is refused. The document has `LENGTH` bytes before its signatures.
#[test]
fn signatures_tell_the_payload_or_are_refused() {
    let body = manifest_of(&[&entry('a', None, "")]).trim_end_matches('}').to_owned();
    let length = body.len();
    let padded = base64url(format!(r#"{{"formatLength":{length},"formatTail":"fQ=="}}"#).as_bytes());
    let other = manifest_of(&[&entry('b', None, "")]);
    let cases = [
        (format(length, "}"), Ok(format!("{body}}}"))),
        (format(length, "\n}\n"), Ok(format!("{body}\n}}\n"))),
        (format!("{},{}", format(length, "}"), format(length, "}")), Ok(format!("{body}}}"))),
        (format!(r#"{{"protected":"{padded}"}}"#), Ok(format!("{body}}}"))),
        (format(0, &other), Ok(other.clone())),
        (format(length, r#","tag":"t"}"#), Ok(format!(r#"{body},"tag":"t"}}"#))),
        (String::new(), Err("signatures is empty")),
        ("{}".to_owned(), Err("signatures[0].protected is missing")),
        ("1".to_owned(), Err("signatures[0] is a number, not an object")),
        (r#"{"Protected":"e30"}"#.to_owned(), Err("which some readers take for \"protected\"")),
        (r#"{"protected":"e30","protected":"e30"}"#.to_owned(), Err("has the key \"protected\" twice")),
        (r#"{"protected":"a b"}"#.to_owned(), Err("signatures[0].protected is not base64url")),
        (r#"{"protected":"a"}"#.to_owned(), Err("signatures[0].protected is not base64url")),
        (r#"{"protected":"_w"}"#.to_owned(), Err("signatures[0].protected is not base64url")),
        (signature("x"), Err("signatures[0].protected cannot be read")),
        (signature("[]"), Err("signatures[0].protected is an array")),
        (signature(r#"{"formatTail":"fQ"}"#), Err("signatures[0].protected.formatLength is missing")),
        (signature(r#"{"formatLength":1}"#), Err("signatures[0].protected.formatTail is missing")),
        (signature(r#"{"formatLength":1,"formatTail":"+/"}"#), Err("protected.formatTail is not base64url")),
        (format(-1, "}"), Err("formatLength is negative: -1")),
        (format("1.5", "}"), Err("formatLength is 1.5, not a whole number")),
        (format("99999999", "}"), Err("formatLength is 99999999, and the document has")),
        (format(u64::MAX, "}"), Err("formatLength is too large a number")),
        (
            format!("{},{}", format(length, "}"), format(length, " }")),
            Err("signatures[1] covers other bytes"),
        ),
        (format!("{},{}", format(0, &other), format(length, "}")), Err("signatures[1] covers other bytes")),
        (format!("{},{{}}", format(length, "}")), Err("signatures[1].protected is missing")),
        (format(length, ""), Err("not JSON")),
        (format(length, "}}"), Err("not JSON")),
        (format(length, "\u{feff}}"), Err("not JSON")),
        (format(0, ""), Err("not JSON")),
        (format(0, "[]"), Err("is an array")),
        (format(0, r#"{"schemaVersion":1}"#), Err("fsLayers is missing")),
        (format(0, &other.replace(":1,", ":2,")), Err("schemaVersion is 2")),
        (format(length, r#","tag":"a","tag":"b"}"#), Err("has the key \"tag\" twice")),
        (format(length, r#","Name":"a"}"#), Err("which some readers take for \"name\"")),
        (format(length, r#","manifests":[]}"#), Err("ambiguous: \"manifests\"")),
        (format(length, r#","mediaType":"application/vnd.oci.image.index.v1+json"}"#), Err("served as")),
    ];
    for (signatures, expected) in cases {
        let found = parse(&format!(r#"{body},"signatures":[{signatures}]}}"#));
        match (found, expected) {
            (Ok(manifest), Ok(payload)) => assert_eq!(manifest.payload(), payload.as_bytes(), "{signatures}"),
            (Err(error), Err(message)) => {
                assert!(error.to_string().contains(message), "{signatures}: {error}");
            }
            (found, expected) => panic!("{signatures}: {found:?}, not {expected:?}"),
        }
    }
}

/// Keys beside the signatures are in no payload. Where they repeat the payload's the document is refused; where they add to
/// it they count for nothing.
#[test]
fn keys_outside_of_the_payload_decide_nothing() {
    let body = manifest_of(&[&entry('a', None, "")]).trim_end_matches('}').to_owned();
    let signatures = format!(r#""signatures":[{}]"#, format(body.len(), "}"));
    let outside = |more: &str| parse(&format!("{body},{signatures},{more}}}"));
    let added = outside(r#""name":"evil","tag":"evil","architecture":"evil""#).unwrap();
    assert_eq!((added.name(), added.tag(), added.architecture()), ("", "", ""));
    for more in [r#""fsLayers":[]"#, r#""history":[]"#, r#""FSLayers":[]"#, r#""signatures":[]"#] {
        let error = outside(more).unwrap_err().to_string();
        assert!(error.contains("twice") || error.contains("some readers"), "{more}: {error}");
    }
}

/// Whose digest is over all of the bytes, whatever keys they have: everything but signed schema 1.
#[test]
fn only_signed_schema_1_has_a_payload() {
    let documents = [
        "",
        "x",
        "[]",
        "{}",
        r#"{"signatures":[{}]}"#,
        r#"{"schemaVersion":2,"signatures":[{}]}"#,
        r#"{"schemaVersion":"1","signatures":[{}]}"#,
        r#"{"schemaVersion":1}"#,
        r#"{"schemaVersion":1,"signatures":null}"#,
        r#"{"schemaVersion":1,"Signatures":[{}]}"#,
    ];
    for document in documents {
        assert_eq!(Schema1Manifest::signed_payload(&document.into()), Ok(None), "{document}");
    }
    assert!(Schema1Manifest::signed_payload(&r#"{"schemaVersion":1,"signatures":[{}]}"#.into()).is_err());
}
