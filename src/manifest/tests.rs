//! Documents that are taken and refused, in tables; `DIGEST`, `CONFIG` and the like stand for well-formed parts.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::failure::{Failure as _, Kind};
use crate::platform::Platform;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// Fills in what the tables leave out.
fn filled(template: &str) -> String {
    let config = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"DIGEST","size":2}"#;
    let docker_config =
        r#"{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"DIGEST","size":2}"#;
    let layer = r#"{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"DIGEST","size":7}"#;
    let history = r#"{"v1Compatibility":"{}"}"#;
    let filled = template
        .replace("DOCKERCONFIG", docker_config)
        .replace("CONFIG", config)
        .replace("ONELAYER", layer)
        .replace("HISTORY", history)
        .replace("BLOBSUM", r#"{"blobSum":"DIGEST"}"#)
        .replace("DIGEST", D)
        .replace("T-OCI", OCI)
        .replace("T-INDEX", INDEX)
        .replace("T-DOCKER", DOCKER)
        .replace("T-LIST", LIST)
        .replace("T-SIGNED", SIGNED)
        .replace("T-SCHEMA1", SCHEMA1);
    let length = filled.find(",SIGNATURES").unwrap_or_default();
    let header = base64(&format!(r#"{{"formatLength":{length},"formatTail":"fQ"}}"#));
    filled.replace("SIGNATURES", &format!(r#""signatures":[{{"protected":"{header}"}}]"#))
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

fn parse(template: &str, content_type: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(filled(template).into(), Some(content_type))
}

/// A manifest with one layer, whose fields are `fields`.
fn layer(fields: &str) -> String {
    format!(r#"{{"schemaVersion":2,"config":CONFIG,"layers":[ONELAYER,{{{fields}}}]}}"#)
}

/// An index with one entry, which has `fields` besides the necessary ones.
fn entry(fields: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"T-OCI","digest":"DIGEST","size":1,{fields}}}]}}"#
    )
}

/// What a document is follows from its header, its own type and its keys, in this order.
#[test]
fn documents_are_told_apart() {
    let image = r#"{"schemaVersion":2,"config":CONFIG,"layers":[ONELAYER]}"#;
    let docker = r#"{"schemaVersion":2,"config":DOCKERCONFIG,"layers":[ONELAYER]}"#;
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    let old = r#"{"schemaVersion":1,"name":"n","tag":"t","architecture":"amd64","fsLayers":[BLOBSUM],"history":[HISTORY]}"#;
    let signed = r#"{"schemaVersion":1,"fsLayers":[BLOBSUM],"history":[HISTORY],SIGNATURES}"#;
    let cases = [
        (image, OCI, OCI),
        (image, DOCKER, DOCKER),
        (docker, OCI, OCI),
        (image, "Application/Vnd.OCI.image.manifest.v1+JSON", OCI),
        (image, "application/vnd.oci.image.manifest.v1+json; charset=utf-8", OCI),
        (image, " application/vnd.oci.image.manifest.v1+json\t;x=y;z", OCI),
        (image, "", OCI),
        (image, ";", OCI),
        (image, "application/json", OCI),
        (image, "application/json; charset=utf-8", OCI),
        (image, "APPLICATION/JSON", OCI),
        (image, "text/plain;charset=us-ascii", OCI),
        (image, "application/octet-stream", OCI),
        (docker, "text/plain", DOCKER),
        (index, "text/plain", INDEX),
        (index, INDEX, INDEX),
        (index, LIST, LIST),
        (old, "application/json", SCHEMA1),
        (old, SCHEMA1, SCHEMA1),
        (old, SIGNED, SIGNED),
        (signed, "text/plain", SIGNED),
        (signed, SCHEMA1, SCHEMA1),
        (
            r#"{"schemaVersion":1,"mediaType":"T-SCHEMA1","fsLayers":[BLOBSUM],"history":[HISTORY]}"#,
            SIGNED,
            SIGNED,
        ),
        (r#"{"schemaVersion":2,"mediaType":"T-DOCKER","config":CONFIG}"#, "text/plain", DOCKER),
        (r#"{"schemaVersion":2,"mediaType":"T-DOCKER","config":CONFIG}"#, DOCKER, DOCKER),
        (r#"{"schemaVersion":2,"mediaType":"T-LIST","manifests":[]}"#, "", LIST),
        (r#"{"schemaVersion":2,"mediaType":"","manifests":[]}"#, LIST, LIST),
        (r#"{"schemaVersion":2,"mediaType":null,"manifests":[]}"#, "", INDEX),
        (r#"{"schemaVersion":2,"config":DOCKERCONFIG,"manifests":null}"#, "", DOCKER),
        (r#"{"schemaVersion":2,"config":null,"layers":null,"manifests":[]}"#, "", INDEX),
    ];
    for (template, content_type, wanted) in cases {
        match parse(template, content_type) {
            Ok(manifest) => {
                assert_eq!(manifest.media_type().as_str(), wanted, "{template} as {content_type:?}");
                assert_eq!(manifest.raw(), &filled(template).into_bytes());
            }
            Err(error) => panic!("{template} as {content_type:?}: {error}"),
        }
    }
    assert!(Manifest::parse(filled(image).into(), None).is_ok());
}

/// What contradicts itself, or what is no manifest's, is refused by name.
#[test]
fn contradictory_types_are_refused() {
    let image = r#"{"schemaVersion":2,"mediaType":"T-OCI","config":CONFIG,"layers":[ONELAYER]}"#;
    let bare = r#"{"schemaVersion":2,"config":CONFIG,"layers":[ONELAYER]}"#;
    let old = r#"{"schemaVersion":1,"fsLayers":[BLOBSUM],"history":[HISTORY]}"#;
    let cases = [
        (image, "text/html", "Content-Type \"text/html\" is not a manifest's"),
        (image, "text/html; charset=utf-8", "Content-Type \"text/html\" is not a manifest's"),
        (image, "application/vnd.oci.image.config.v1+json", "is not a manifest's"),
        (image, "application/vnd.oci.artifact.manifest.v1+json", "is not a manifest's"),
        (image, "a/b\u{1b}[2J", "Content-Type \"a/b\\u{1b}[2j\" is not a manifest's"),
        (
            image,
            DOCKER,
            "served as \"application/vnd.docker.distribution.manifest.v2+json\", but its mediaType is",
        ),
        (image, INDEX, "served as"),
        (image, SCHEMA1, "served as"),
        (r#"{"schemaVersion":2,"mediaType":"T-LIST","manifests":[]}"#, INDEX, "served as"),
        (r#"{"schemaVersion":2,"mediaType":"T-OCI; charset=utf-8","config":CONFIG}"#, OCI, "served as"),
        (r#"{"schemaVersion":2,"mediaType":"application/x","config":CONFIG}"#, OCI, "served as"),
        (
            r#"{"schemaVersion":2,"mediaType":"application/x","config":CONFIG}"#,
            "",
            "mediaType \"application/x\" is not",
        ),
        (
            r#"{"schemaVersion":2,"mediaType":"application/json","config":CONFIG}"#,
            "",
            "mediaType \"application/json\" is not",
        ),
        (r#"{"schemaVersion":2,"mediaType":7,"config":CONFIG}"#, "", "mediaType is a number, not a string"),
        (bare, INDEX, "ambiguous: \"config\" does not belong into"),
        (bare, SCHEMA1, "ambiguous: \"config\" does not belong into"),
        (old, OCI, "ambiguous: \"fsLayers\" does not belong into"),
        (r#"{"schemaVersion":2,"manifests":[]}"#, OCI, "ambiguous: \"manifests\" does not belong into"),
        (r#"{"schemaVersion":2,"manifests":[],"config":CONFIG}"#, "", "ambiguous: \"manifests\""),
        (r#"{"schemaVersion":2,"manifests":[],"config":CONFIG}"#, OCI, "ambiguous: \"manifests\""),
        (r#"{"schemaVersion":2,"manifests":[],"config":{}}"#, INDEX, "ambiguous: \"config\""),
        (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, INDEX, "ambiguous: \"layers\""),
        (r#"{"schemaVersion":2,"manifests":[],"layers":false}"#, INDEX, "ambiguous: \"layers\""),
        (r#"{"schemaVersion":2,"config":CONFIG,"history":[]}"#, OCI, "ambiguous: \"history\""),
        (r#"{"schemaVersion":2,"config":CONFIG,"fsLayers":""}"#, DOCKER, "ambiguous: \"fsLayers\""),
        (r#"{"schemaVersion":2,"manifests":[],"fsLayers":[]}"#, "", "ambiguous: \"fsLayers\""),
        (
            r#"{"schemaVersion":1,"fsLayers":[BLOBSUM],"history":[HISTORY],"config":CONFIG}"#,
            SIGNED,
            "ambiguous: \"config\"",
        ),
        (
            r#"{"schemaVersion":1,"fsLayers":[BLOBSUM],"history":[HISTORY],"manifests":[]}"#,
            "",
            "ambiguous: \"fsLayers\"",
        ),
        (r#"{"schemaVersion":2}"#, "", "has no media type and none of the keys"),
        (r#"{"schemaVersion":2,"config":null}"#, "", "has no media type and none of the keys"),
        ("{}", "text/plain", "has no media type and none of the keys"),
    ];
    refused(&cases);
}

fn refused(cases: &[(&str, &str, &str)]) {
    for (template, content_type, message) in cases {
        match parse(template, content_type) {
            Ok(_) => panic!("taken: {template} as {content_type:?}"),
            Err(error) => {
                assert!(error.to_string().contains(message), "{template} as {content_type:?}: {error}");
                assert_eq!(error.kind(), Kind::Integrity);
            }
        }
    }
}

/// A manifest has its kind's version and its kind's fields.
#[test]
fn incomplete_documents_are_refused() {
    let cases = [
        (r#"{"config":CONFIG}"#, OCI, "schemaVersion is missing"),
        (r#"{"schemaVersion":null,"config":CONFIG}"#, OCI, "schemaVersion is missing"),
        (r#"{"schemaVersion":1,"config":CONFIG}"#, OCI, "schemaVersion is 1, and"),
        (r#"{"schemaVersion":3,"config":CONFIG}"#, OCI, "schemaVersion is 3, and"),
        (r#"{"schemaVersion":-2,"config":CONFIG}"#, OCI, "schemaVersion is -2, and"),
        (r#"{"schemaVersion":2.0,"config":CONFIG}"#, OCI, "schemaVersion is 2.0, not a whole number"),
        (r#"{"schemaVersion":2e0,"config":CONFIG}"#, OCI, "schemaVersion is 2e0, not a whole number"),
        (r#"{"schemaVersion":"2","config":CONFIG}"#, OCI, "schemaVersion is a string, not a number"),
        (r#"{"schemaVersion":1,"manifests":[]}"#, INDEX, "schemaVersion is 1, and"),
        (
            r#"{"schemaVersion":2,"fsLayers":[BLOBSUM],"history":[HISTORY]}"#,
            SCHEMA1,
            "schemaVersion is 2, and",
        ),
        (r#"{"fsLayers":[BLOBSUM],"history":[HISTORY]}"#, SCHEMA1, "schemaVersion is missing"),
        (r#"{"schemaVersion":2,"layers":[ONELAYER]}"#, OCI, "config is missing"),
        (r#"{"schemaVersion":2,"layers":[ONELAYER]}"#, "", "config is missing"),
        (r#"{"schemaVersion":2,"config":null,"layers":[ONELAYER]}"#, DOCKER, "config is missing"),
        (r#"{"schemaVersion":2,"config":[],"layers":[ONELAYER]}"#, OCI, "config is an array, not an object"),
        (r#"{"schemaVersion":2,"config":[],"layers":[ONELAYER]}"#, "", "config is an array, not an object"),
        (r#"{"schemaVersion":2,"config":{}}"#, OCI, "config.digest is missing"),
        (r#"{"schemaVersion":2}"#, INDEX, "manifests is missing"),
        (r#"{"schemaVersion":2,"manifests":null}"#, INDEX, "manifests is missing"),
        (r#"{"schemaVersion":2,"manifests":{}}"#, LIST, "manifests is an object, not an array"),
        (r#"{"schemaVersion":2,"manifests":[null]}"#, LIST, "manifests[0] is null, not an object"),
    ];
    refused(&cases);
}

/// A field of another JSON type is refused, and the message says where it is.
#[test]
fn fields_of_another_type_are_refused() {
    let cases = [
        (r#"{"schemaVersion":2,"config":CONFIG,"layers":{}}"#, OCI, "layers is an object, not an array"),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"layers":[ONELAYER,7]}"#,
            OCI,
            "layers[1] is a number, not an object",
        ),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"layers":[[[[[[]]]]]]}"#,
            OCI,
            "layers[0] is an array, not an object",
        ),
        (r#"{"schemaVersion":2,"config":CONFIG,"subject":{"size":1}}"#, OCI, "subject.digest is missing"),
        (r#"{"schemaVersion":2,"config":CONFIG,"subject":""}"#, OCI, "subject is a string, not an object"),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"artifactType":{}}"#,
            OCI,
            "artifactType is an object, not a string",
        ),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"annotations":[]}"#,
            OCI,
            "annotations is an array, not an object",
        ),
        (
            r#"{"schemaVersion":2,"manifests":[],"annotations":{"a.b":1}}"#,
            INDEX,
            "annotations[\"a.b\"] is a number, not a string",
        ),
    ];
    refused(&cases);
}

/// Schema 1 has a history entry a layer, and its layers have digests.
#[test]
fn incomplete_schema1_is_refused() {
    let cases = [
        (r#"{"schemaVersion":1,"history":[HISTORY]}"#, SCHEMA1, "fsLayers is missing"),
        (r#"{"schemaVersion":1,"fsLayers":[BLOBSUM]}"#, SCHEMA1, "history is missing"),
        (r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#, SCHEMA1, "fsLayers is empty"),
        (r#"{"schemaVersion":1,"fsLayers":[BLOBSUM],"history":[]}"#, SIGNED, "history is empty"),
        (
            r#"{"schemaVersion":1,"fsLayers":[BLOBSUM,BLOBSUM],"history":[HISTORY]}"#,
            SIGNED,
            "2 fsLayers, but 1 history",
        ),
        (
            r#"{"schemaVersion":1,"fsLayers":[{"blobSum":"x"}],"history":[HISTORY]}"#,
            SIGNED,
            "fsLayers[0].blobSum is not a valid digest",
        ),
        (
            r#"{"schemaVersion":1,"fsLayers":[{}],"history":[HISTORY]}"#,
            SIGNED,
            "fsLayers[0].blobSum is missing",
        ),
        (
            r#"{"schemaVersion":1,"fsLayers":[BLOBSUM],"history":[{}]}"#,
            SIGNED,
            "history[0].v1Compatibility is missing",
        ),
        (
            r#"{"schemaVersion":1,"fsLayers":[{"BlobSum":"DIGEST"}],"history":[HISTORY]}"#,
            SIGNED,
            "fsLayers[0] has the key \"BlobSum\"",
        ),
        (
            r#"{"schemaVersion":1,"Tag":"x","fsLayers":[BLOBSUM],"history":[HISTORY]}"#,
            SIGNED,
            "has the key \"Tag\"",
        ),
        (
            r#"{"schemaVersion":1,"tag":"x","tag":"x","fsLayers":[BLOBSUM],"history":[HISTORY]}"#,
            "",
            "has the key \"tag\" twice",
        ),
    ];
    refused(&cases);
}

/// A descriptor that nothing could be fetched or proven by is refused, and the message says where it is.
#[test]
fn bad_descriptors_are_refused() {
    let upper = D.to_uppercase().replace("SHA256", "sha256");
    let cases = [
        (r#""size":1"#.to_owned(), "layers[1].digest is missing"),
        (r#""digest":null,"size":1"#.into(), "layers[1].digest is missing"),
        (r#""digest":"","size":1"#.into(), "layers[1].digest is not a valid digest"),
        (r#""digest":5,"size":1"#.into(), "layers[1].digest is a number, not a string"),
        (
            r#""digest":"sha256:../../../etc/passwd","size":1"#.into(),
            "layers[1].digest is not a valid digest",
        ),
        (r#""digest":"sha256:abc","size":1"#.into(), "a sha256 digest has 64 hex digits, not 3"),
        (
            r#""digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1"#.into(),
            "unsupported digest algorithm \"md5\"",
        ),
        (format!(r#""digest":"{upper}","size":1"#), "lower-case hex digits only"),
        (r#""digest":" DIGEST","size":1"#.into(), "layers[1].digest is not a valid digest"),
        (r#""digest":"DIGEST\u0000","size":1"#.into(), "layers[1].digest is not a valid digest"),
        (r#""digest":"DIGEST""#.into(), "layers[1].size is missing"),
        (r#""digest":"DIGEST","size":null"#.into(), "layers[1].size is missing"),
        (r#""digest":"DIGEST","size":-1"#.into(), "layers[1].size is negative: -1"),
        (r#""digest":"DIGEST","size":9223372036854775808"#.into(), "layers[1].size is too large a number"),
        (
            r#""digest":"DIGEST","size":99999999999999999999999"#.into(),
            "layers[1].size is too large a number",
        ),
        (r#""digest":"DIGEST","size":1.5"#.into(), "layers[1].size is 1.5, not a whole number"),
        (r#""digest":"DIGEST","size":1e1"#.into(), "layers[1].size is 1e1, not a whole number"),
        (r#""digest":"DIGEST","size":"1""#.into(), "layers[1].size is a string, not a number"),
    ];
    for (fields, message) in cases {
        refused(&[(&layer(&fields), OCI, message)]);
    }
}

/// What else a descriptor says has the right types, and its keys and its platform's mean one thing.
#[test]
fn ambiguous_descriptors_are_refused() {
    let cases = [
        (r#""digest":"DIGEST","size":1,"mediaType":{}"#, "layers[1].mediaType is an object, not a string"),
        (r#""digest":"DIGEST","size":1,"urls":"http://x""#, "layers[1].urls is a string, not an array"),
        (r#""digest":"DIGEST","size":1,"urls":["",1]"#, "layers[1].urls[1] is a number, not a string"),
        (r#""digest":"DIGEST","size":1,"data":[1]"#, "layers[1].data is an array, not a string"),
        (r#""digest":"DIGEST","size":1,"annotations":{"k":{}}"#, "layers[1].annotations[\"k\"] is an object"),
        (r#""digest":"DIGEST","size":1,"platform":"linux""#, "layers[1].platform is a string, not an object"),
        (
            r#""digest":"DIGEST","size":1,"platform":{"os":1}"#,
            "layers[1].platform.os is a number, not a string",
        ),
        (r#""digest":"DIGEST","size":1,"platform":{"os.features":"x"}"#, "platform.os.features is a string"),
        (r#""digest":"DIGEST","size":1,"platform":{"features":7}"#, "platform.features is a number"),
        (r#""digest":"DIGEST","size":1,"platform":{"OS":"linux"}"#, "layers[1].platform has the key \"OS\""),
        (
            r#""digest":"DIGEST","size":1,"platform":{"os":"a","o\u0073":"b"}"#,
            "layers[1].platform has the key \"os\" twice",
        ),
        (r#""digest":"DIGEST","size":1,"platform":{"o\u017f":"b"}"#, "which some readers take for \"os\""),
        (r#""digest":"DIGEST","digest":"DIGEST","size":1"#, "layers[1] has the key \"digest\" twice"),
        (r#""digest":"DIGEST","dig\u0065st":"DIGEST","size":1"#, "layers[1] has the key \"digest\" twice"),
        (r#""digest":"DIGEST","size":1,"x":1,"x":1"#, "layers[1] has the key \"x\" twice"),
        (r#""digest":"DIGEST","Digest":"DIGEST","size":1"#, "which some readers take for \"digest\""),
        (r#""digest":"DIGEST","size":1,"mediatype":"x""#, "which some readers take for \"mediaType\""),
        ("\"digest\":\"DIGEST\",\"\u{17f}ize\":1", "which some readers take for \"size\""),
        (r#""digest":"DIGEST","size":1,"URLs":[]"#, "which some readers take for \"urls\""),
    ];
    for (fields, message) in cases {
        refused(&[(&layer(fields), OCI, message)]);
    }
}

/// Bytes that are not one JSON document in UTF-8 are refused before anything is read from them.
#[test]
fn what_is_not_json_is_refused() {
    let good = filled(r#"{"schemaVersion":2,"config":CONFIG}"#);
    let cases: [(&[u8], &str); 18] = [
        (b"", "not JSON: EOF"),
        (b" \n", "not JSON: EOF"),
        (b"null", "the document is null, not an object"),
        (b"[]", "the document is an array, not an object"),
        (b"\"x\"", "the document is a string, not an object"),
        (b"2", "the document is a number, not an object"),
        (b"{", "not JSON: EOF"),
        (b"{\"a\":1,}", "not JSON: "),
        (b"{a:1}", "not JSON: "),
        (b"{\"a\":01}", "not JSON: "),
        (b"{\"a\":1}//", "not JSON: trailing characters"),
        (b"{\"a\":NaN}", "not JSON: "),
        (b"{\"a\":\"\n\"}", "not JSON: control character"),
        (b"{\"a\":\"\\x\"}", "not JSON: invalid escape"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        (b"{\"a\":\"\xff\"}", "not UTF-8 at byte 6"),
        (b"\xff\xfe{\0}\0", "not UTF-8 at byte 0"),
        (b"{\"\xed\xa0\x80\":1}", "not UTF-8 at byte 2"),
    ];
    for (bytes, message) in cases {
        let error = Manifest::parse(Bytes::copy_from_slice(bytes), Some(OCI)).expect_err("not a manifest");
        assert!(error.to_string().contains(message), "{error}");
    }
    for tail in ["{}", "x", "\0", ",", "null", &good] {
        let error = Manifest::parse(format!("{good} {tail}").into(), Some(OCI)).expect_err("a tail");
        assert!(error.to_string().contains("trailing characters"), "{error}");
    }
    assert!(Manifest::parse(format!(" \r\n\t{good}\n\n").into(), Some(OCI)).is_ok());
}

/// Case variants and repeats of the outermost keys are refused, known or not, whatever kind they belong to.
#[test]
fn ambiguous_outer_keys_are_refused() {
    let variants = [
        "SchemaVersion",
        "mediatype",
        "MediaType",
        "artifacttype",
        "Config",
        "LAYERS",
        "layer\\u017f",
        "Manifests",
        "manifest\u{17f}",
        "\u{17f}ubject",
        "Annotations",
        "fslayers",
        "FSLayers",
        "History",
        "Signatures",
    ];
    for key in variants {
        let document = format!(r#"{{"schemaVersion":2,"config":CONFIG,"{key}":null}}"#);
        refused(&[(&document, OCI, "which some readers take for")]);
    }
    for key in ["config", "conf\\u0069g", "x", "schemaVersion", "layers"] {
        let document = format!(r#"{{"schemaVersion":2,"config":CONFIG,"x":1,"layers":[],"{key}":null}}"#);
        refused(&[(&document, OCI, "twice")]);
    }
}

/// What Go tools take and what cannot be misread is taken.
#[test]
fn tolerated_documents_are_taken() {
    let layers = [
        r#""digest":"DIGEST","size":0"#,
        r#""digest":"DIGEST","size":-0"#,
        r#""digest":"DIGEST","size":9223372036854775807"#,
        r#""mediaType":null,"digest":"DIGEST","size":1,"urls":null,"annotations":null,"data":null,"artifactType":null,"platform":null"#,
        r#""mediaType":"","digest":"DIGEST","size":1,"urls":[],"annotations":{},"data":"","platform":{}"#,
        r#""mediaType":"application/x-unheard-of","digest":"DIGEST","size":1"#,
        r#""digest":"DIGEST","size":1,"annotations":{"Size":"1","size":"2","size":"3","n":null}"#,
        r#""digest":"DIGEST","size":1,"unknown":{"a":1,"a":2,"Digest":1,"digest":1}"#,
        r#""digest":"DIGEST","size":1,"unknown":1e999999,"\ud800":"\udfff""#,
        r#""d\u0069gest":"DIGEST","s\u0069ze":1"#,
        r#""digest":"DIGEST","size":1,"data":"not base64!""#,
        r#""digest":"DIGEST","size":1,"platform":{"os":null,"architecture":null,"variant":null,"os.version":null,"os.features":null,"features":null}"#,
        r#""digest":"DIGEST","size":1,"platform":{"features":["sse4"],"os.features":["a",null],"unknown":{}}"#,
        r#""digest":"sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e","size":1"#,
    ];
    for fields in layers {
        if let Err(error) = parse(&layer(fields), OCI) {
            panic!("{fields}: {error}");
        }
    }
    let documents = [
        (r#"{"schemaVersion":2,"config":CONFIG}"#, OCI),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"layers":null,"annotations":null,"subject":null,"artifactType":null}"#,
            OCI,
        ),
        (r#"{"schemaVersion":2,"config":CONFIG,"manifests":null,"fsLayers":null,"history":null}"#, OCI),
        (r#"{"schemaVersion":2,"config":CONFIG,"name":"x","Tag":"y","blobs":[]}"#, OCI),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"unknown":{"schemaVersion":1,"manifests":[],"manifests":[]}}"#,
            OCI,
        ),
        (r#"{"schemaVersion":2,"manifests":[],"config":null,"layers":null}"#, INDEX),
        (
            r#"{"schemaVersion":2,"manifests":[],"subject":CONFIG,"artifactType":"a/b","annotations":{"A":"1","a":"2"}}"#,
            INDEX,
        ),
        (
            r#"{"schemaVersion":1,"fsLayers":[BLOBSUM,BLOBSUM],"history":[HISTORY,HISTORY],"signatures":null}"#,
            SCHEMA1,
        ),
    ];
    for (document, content_type) in documents {
        if let Err(error) = parse(document, content_type) {
            panic!("{document}: {error}");
        }
    }
}

/// Every field arrives where it belongs.
#[test]
fn fields_are_read() {
    let text = filled(
        r#"{"schemaVersion":2,"mediaType":"T-OCI","artifactType":"a/b","config":CONFIG,"layers":[ONELAYER,
        {"mediaType":"x/y","digest":"DIGEST","size":9,"urls":["https://a/b",null],"annotations":{"k":"v","n":null},
         "data":"AAE=","artifactType":"c/d"}],
        "subject":{"mediaType":"T-INDEX","digest":"DIGEST","size":3},"annotations":{"m":"n"}}"#,
    );
    let Ok(Manifest::Image(image)) = Manifest::parse(text.clone().into(), Some(OCI)) else {
        panic!("an image manifest")
    };
    assert_eq!(image.raw(), &text.clone().into_bytes());
    assert_eq!(image.artifact_type(), Some("a/b"));
    assert_eq!(image.config().media_type, MediaType::OCI_CONFIG);
    assert!(image.is_image());
    assert_eq!(image.layers().len(), 2);
    let layer = &image.layers()[1];
    assert_eq!((layer.media_type.as_str(), layer.size, layer.digest.to_string().as_str()), ("x/y", 9, D));
    assert_eq!(layer.urls, ["https://a/b", ""]);
    assert_eq!(layer.annotations.get("k").map(String::as_str), Some("v"));
    assert_eq!(layer.annotations.get("n").map(String::as_str), Some(""));
    assert_eq!(layer.data.as_deref(), Some("AAE="));
    assert_eq!(layer.artifact_type.as_deref(), Some("c/d"));
    assert_eq!(image.subject().map(|subject| subject.size), Some(3));
    assert_eq!(image.annotations().get("m").map(String::as_str), Some("n"));

    let descriptor = Manifest::Image(image).descriptor(Algorithm::Sha512);
    assert_eq!(descriptor.digest, Algorithm::Sha512.digest(text.as_bytes()));
    assert_eq!(descriptor.size, text.len() as u64);
    assert_eq!(descriptor.artifact_type.as_deref(), Some("a/b"));
    assert_eq!(descriptor.media_type, MediaType::OCI_MANIFEST);

    let old = parse(
        r#"{"schemaVersion":1,"name":"n","tag":"t","fsLayers":[BLOBSUM],"history":[HISTORY],SIGNATURES}"#,
        SIGNED,
    );
    let Ok(Manifest::Schema1(old)) = old else { panic!("a schema 1 manifest") };
    assert_eq!((old.name(), old.tag(), old.is_signed()), ("n", "t", true));
}

/// A platform arrives whole; an empty one is there and empty, which is not the same as none.
#[test]
fn platforms_are_read() {
    let platform = |fields: &str| {
        let Ok(Manifest::Index(index)) = parse(&entry(fields), INDEX) else { panic!("an index: {fields}") };
        index.manifests()[0].platform.clone()
    };
    let whole = r#""platform":{"os":"windows","architecture":"amd64","variant":"v2","os.version":"10.0.1","os.features":["win32k"]}"#;
    assert_eq!(
        platform(whole),
        Some(Platform {
            os: "windows".into(),
            architecture: "amd64".into(),
            variant: Some("v2".into()),
            os_version: Some("10.0.1".into()),
            os_features: vec!["win32k".into()],
        })
    );
    assert_eq!(platform(r#""platform":{}"#), Some(Platform::default()));
    assert_eq!(platform(r#""platform":{"variant":"","os.version":""}"#), Some(Platform::default()));
    assert_eq!(platform(r#""platform":null"#), None);
}

/// An artifact is a manifest whose config is not an image's.
#[test]
fn artifacts_are_not_images() {
    for media_type in ["application/vnd.oci.empty.v1+json", "application/vnd.cncf.helm.config.v1+json", ""] {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{media_type}","digest":"DIGEST","size":2}}}}"#
        );
        let Ok(Manifest::Image(artifact)) = parse(&text, OCI) else { panic!("{media_type}") };
        assert!(!artifact.is_image());
    }
}

/// Nesting costs no stack, wherever it is: a registry must not be able to end the process.
#[test]
fn deep_nesting_is_walked_over() {
    let arrays = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let million = arrays(1_000_000);
    assert!(parse(&format!(r#"{{"schemaVersion":2,"config":CONFIG,"unknown":{million}}}"#), OCI).is_ok());
    assert!(ImageConfig::parse(format!(r#"{{"config":{million},"rootfs":{{}}}}"#).as_bytes()).is_ok());

    for deep in [arrays(100_000), objects(100_000)] {
        assert!(parse(&layer(&format!(r#""digest":"DIGEST","size":1,"x":{deep}"#)), OCI).is_ok());
        assert!(parse(&deep, OCI).is_err());
        assert!(parse(&deep[..100_000], OCI).is_err());
        for field in DOCUMENT_KEYS {
            assert!(parse(&format!(r#"{{"{field}":{deep}}}"#), "").is_err(), "{field}");
        }
        for field in ["mediaType", "digest", "size", "urls", "data", "artifactType"] {
            let descriptor = layer(&format!(r#""{field}":{deep},"size":1"#));
            assert!(parse(&descriptor, OCI).is_err(), "{field}");
        }
        for config in [
            format!(r#"{{"history":{deep},"rootfs":{{"x":{deep}}}}}"#),
            format!(r#"{{"created":{deep},"rootfs":{{}}}}"#),
        ] {
            assert!(ImageConfig::parse(config.as_bytes()).is_ok());
        }
        assert!(ImageConfig::parse(format!(r#"{{"rootfs":{{"diff_ids":{deep}}}}}"#).as_bytes()).is_err());
    }
}

/// The caps hold to the byte.
#[test]
fn caps_hold() {
    let mut text = filled(r#"{"schemaVersion":2,"config":CONFIG}"#);
    text.push_str(&" ".repeat(MANIFEST_CAP - text.len()));
    assert!(Manifest::parse(text.clone().into(), Some(OCI)).is_ok());
    text.push(' ');
    let error = Manifest::parse(text.into(), Some(OCI)).expect_err("too large");
    assert_eq!(error.to_string(), "manifest: 4194305 bytes, and at most 4194304 are allowed");

    let mut text = r#"{"rootfs":{}}"#.to_owned();
    text.push_str(&" ".repeat(CONFIG_CAP - text.len()));
    assert!(ImageConfig::parse(text.as_bytes()).is_ok());
    text.push(' ');
    assert!(ImageConfig::parse(text.as_bytes()).is_err());
}

/// A descriptor that is written is the one that is read, and has no empty fields.
#[test]
fn descriptors_round_trip() {
    let plain = Descriptor::new(MediaType::OCI_LAYER, Digest::sha256(b"x"), 1);
    let text = serde_json::to_string(&plain).unwrap();
    assert_eq!(
        text,
        format!(r#"{{"mediaType":"{}","digest":"{}","size":1}}"#, plain.media_type, plain.digest)
    );
    let whole = Descriptor {
        urls: vec!["https://a".into()],
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        data: Some("eA==".into()),
        artifact_type: Some("t".into()),
        platform: Some(Platform { os: "linux".into(), architecture: "arm".into(), ..Platform::default() }),
        ..plain.clone()
    };
    for descriptor in [plain, whole] {
        let text = serde_json::to_string(&descriptor).unwrap();
        assert_eq!(Descriptor::from_json(&text), Ok(descriptor));
    }
}

/// Single descriptors are held to the same rules.
#[test]
fn single_descriptors_are_read_strictly() {
    let refused = [
        ("", "descriptor: not JSON"),
        ("[]", "descriptor: the document is an array, not an object"),
        ("{}", "descriptor: digest is missing"),
        (r#"{"digest":"DIGEST"}"#, "descriptor: size is missing"),
        (r#"{"digest":"DIGEST","size":1,"Size":2}"#, "which some readers take for \"size\""),
        (r#"{"digest":"DIGEST","size":1}{}"#, "trailing characters"),
        ("\u{feff}{}", "byte order mark"),
    ];
    for (text, message) in refused {
        let error = Descriptor::from_json(&filled(text)).expect_err(text);
        assert!(error.to_string().contains(message), "{text}: {error}");
    }
    assert!(
        Descriptor::from_json(&filled(r#" {"digest":"DIGEST","size":1,"com.example":[{"a":1,"a":1}]} "#))
            .is_ok()
    );
}

/// Where a layer lives is said by its `urls`: tools write the foreign types without them, and them without the types.
#[test]
fn urls_say_that_a_layer_is_elsewhere() {
    let digest = Digest::sha256(b"layer");
    for (media_type, urls, elsewhere) in [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "", false),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", r#","urls":[]"#, false),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", r#","urls":null"#, false),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", r#","urls":["https://x.example/l"]"#, true),
        ("application/vnd.oci.image.layer.v1.tar", r#","urls":["not a URL"]"#, true),
    ] {
        let text = format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":5{urls}}}"#);
        let descriptor = Descriptor::from_json(&text).unwrap();
        assert_eq!(descriptor.is_elsewhere(), elsewhere, "{text}");
    }
}

/// Embedded content counts only when it is what the descriptor describes.
#[test]
fn embedded_data_is_proven() {
    let descriptor = |data: Option<&str>, size| Descriptor {
        data: data.map(str::to_owned),
        ..Descriptor::new(MediaType::OCI_EMPTY, Digest::sha256(b"{}"), size)
    };
    let cases = [
        (Some("e30="), 2, true),
        (Some("e3\r\n0=\n"), 2, true),
        (Some("e31="), 2, true),
        (Some("e30"), 2, false),
        (Some("e30= "), 2, false),
        (Some("e30=="), 2, false),
        (Some("e30="), 3, false),
        (Some("e30K"), 3, false),
        (Some("W10="), 2, false),
        (Some("!"), 2, false),
        (Some(""), 2, false),
        (None, 2, false),
    ];
    for (data, size, holds) in cases {
        let wanted = holds.then(|| Bytes::from_static(b"{}"));
        assert_eq!(descriptor(data, size).embedded_data(), wanted, "{data:?} {size}");
    }
}

/// A config is read as Go tools read it, so that the diff IDs proven are the ones that they will see.
#[test]
fn configs_are_read_as_go_reads_them() {
    let other = Digest::sha256(b"other").to_string();
    let none: [&str; 0] = [];
    let one = [D];
    let cases: [(String, &[&str]); 14] = [
        (r#"{"rootfs":{"type":"layers","diff_ids":["DIGEST"]}}"#.into(), &one),
        (r#"{"rootfs":{"diff_ids":["DIGEST"]}}"#.into(), &one),
        (r#"{"rootfs":{"type":"layers+base","diff_ids":["DIGEST"]}}"#.into(), &one),
        (r#"{"rootfs":{"diff_ids":[]}}"#.into(), &none),
        (r#"{"rootfs":{"diff_ids":null}}"#.into(), &none),
        (r#"{"rootfs":{}}"#.into(), &none),
        (r#"{"RootFS":{"Diff_IDs":["DIGEST"]}}"#.into(), &one),
        ("{\"root\u{17f}f\":{}, \"rootf\u{17f}\":{\"diff_id\u{17f}\":[\"DIGEST\"]}}".into(), &one),
        (format!(r#"{{"rootfs":{{"diff_ids":["{other}"]}},"rootfs":{{"diff_ids":["DIGEST"]}}}}"#), &one),
        (format!(r#"{{"rootfs":{{"diff_ids":["{other}"]}},"ROOTFS":{{"diff_ids":["DIGEST"]}}}}"#), &one),
        (format!(r#"{{"rootfs":{{"diff_ids":["{other}"],"DIFF_IDS":["DIGEST"]}}}}"#), &one),
        (r#"{"rootfs":{"diff_ids":["DIGEST"]},"rootfs":{"type":"layers"}}"#.into(), &one),
        (r#"{"rootfs":{"diff_ids":["DIGEST"],"diff_ids":null}}"#.into(), &none),
        (r#"{"rootfs":{"diff_ids":["DIGEST"]},"config":{"rootfs":null},"x":1,"x":2}"#.into(), &one),
    ];
    for (text, wanted) in cases {
        let config = ImageConfig::parse(filled(&text).as_bytes());
        let found: Vec<_> = config
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .diff_ids
            .iter()
            .map(Digest::to_string)
            .collect();
        assert_eq!(found, wanted, "{text}");
    }
}

/// A config without the list that its layers are proven by proves nothing.
#[test]
fn configs_without_diff_ids_are_refused() {
    let cases: [(&[u8], &str); 16] = [
        (b"{}", "image config: rootfs is missing"),
        (b"{\"rootfs\":null}", "image config: rootfs is missing"),
        (b"{\"rootfs\":{\"diff_ids\":[]},\"rootfs\":null}", "image config: rootfs is missing"),
        (b"{\"rootfs\":[]}", "image config: rootfs is an array, not an object"),
        (b"{\"rootfs\":{\"diff_ids\":{}}}", "image config: rootfs.diff_ids is an object, not an array"),
        (b"{\"rootfs\":{\"diff_ids\":[null]}}", "image config: rootfs.diff_ids[0] is null, not a string"),
        (b"{\"rootfs\":{\"diff_ids\":[\"\"]}}", "image config: rootfs.diff_ids[0] is not a valid digest"),
        (
            b"{\"rootfs\":{\"diff_ids\":[\"sha256:x\"]}}",
            "image config: rootfs.diff_ids[0] is not a valid digest",
        ),
        (b"{\"rootfs\":{\"diff_ids\":\"x\"},\"rootfs\":{}}", "rootfs.diff_ids is a string, not an array"),
        (b"{\"rootfs\":{},\"os\":1}", "image config: os is a number, not a string"),
        (b"{\"rootfs\":{},\"os.features\":[1]}", "image config: os.features[0] is a number, not a string"),
        (b"{\"rootfs\":{},\"Variant\":[]}", "image config: variant is an array, not a string"),
        (b"{\"rootfs\":{}} {}", "image config: not JSON: trailing characters"),
        (b"\xef\xbb\xbf{\"rootfs\":{}}", "image config: begins with a byte order mark"),
        (b"[]", "image config: the document is an array, not an object"),
        (b"", "image config: not JSON"),
    ];
    for (bytes, message) in cases {
        let error = ImageConfig::parse(bytes).expect_err("no diff IDs");
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.kind(), Kind::Integrity);
    }
}

/// The rest of a config is for the platform's match and for people; what people see may be wrong.
#[test]
fn configs_tell_platform_and_history() {
    let text = r#"{"architecture":"arm64","os":"linux","variant":"v8","os.version":"1","os.features":["f"],"OS":null,
        "created":"2024-01-01T00:00:00Z","rootfs":{"diff_ids":[]},"history":[
        {"created":"yesterday","created_by":"RUN ?","author":"a","comment":"c","empty_layer":true},7,{"created":5}]}"#;
    let bytes: Vec<u8> = text.bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
    let config = ImageConfig::parse(&bytes).unwrap();
    assert_eq!(
        config.platform,
        Platform {
            os: "linux".into(),
            architecture: "arm64".into(),
            variant: Some("v8".into()),
            os_version: Some("1".into()),
            os_features: vec!["f".into()],
        }
    );
    assert_eq!(config.created.as_deref(), Some("2024-01-01T00:00:00Z"));
    assert_eq!(config.history.len(), 3);
    assert_eq!(config.history[0].created_by.as_deref(), Some("RUN \u{fffd}"));
    assert!(config.history[0].empty_layer);
    assert_eq!(config.history[1..], [HistoryEntry::default(), HistoryEntry::default()]);
    assert_eq!(
        serde_json::to_string(&config.history[0]).unwrap(),
        "{\"created\":\"yesterday\",\"created_by\":\"RUN \u{fffd}\",\"author\":\"a\",\"comment\":\"c\",\"empty_layer\":true}"
    );
    assert!(ImageConfig::parse(br#"{"rootfs":{},"created":5,"history":"none"}"#).unwrap().history.is_empty());
}

fn samples() -> Vec<String> {
    [
        r#"{"schemaVersion":2,"mediaType":"T-OCI","config":CONFIG,"layers":[ONELAYER,ONELAYER],"annotations":{"a":"b"}}"#,
        r#"{"schemaVersion":2,"mediaType":"T-LIST","manifests":[{"mediaType":"T-OCI","digest":"DIGEST","size":1,"platform":{"os":"linux","architecture":"amd64","os.features":["x"]}}]}"#,
        r#"{"schemaVersion":1,"name":"n","tag":"t","fsLayers":[BLOBSUM],"history":[HISTORY],SIGNATURES}"#,
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["DIGEST"]},"history":[{"created_by":"x","empty_layer":true}]}"#,
    ]
    .iter()
    .map(|template| filled(template))
    .collect()
}

proptest! {
    /// No document, however broken, does more than be refused; what is taken keeps its bytes.
    #[test]
    fn mutated_documents_never_panic(
        sample in 0_usize..4,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 0..6),
        content_type in prop::sample::select(vec!["", OCI, INDEX, DOCKER, LIST, SCHEMA1, SIGNED]),
    ) {
        let mut bytes = samples()[sample].clone().into_bytes();
        for (position, byte, kind) in edits {
            let position = position.index(bytes.len());
            match kind {
                0 => bytes[position] = byte,
                1 => bytes.insert(position, byte),
                2 if bytes.len() > 1 => { bytes.remove(position); }
                _ => { let tail = bytes[position..].to_vec(); bytes.extend(tail); }
            }
        }
        let raw = Bytes::from(bytes);
        if let Ok(manifest) = Manifest::parse(raw.clone(), Some(content_type)) {
            prop_assert_eq!(manifest.raw(), &raw);
        }
        let _ = ImageConfig::parse(&raw);
        let _ = Descriptor::from_json(&String::from_utf8_lossy(&raw));
    }

    /// Any bytes at all, and any header, are answered.
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), content_type in any::<Option<String>>()) {
        let _ = Manifest::parse(bytes.clone().into(), content_type.as_deref());
        let _ = ImageConfig::parse(&bytes);
    }

    /// Whatever a descriptor says, what is written is read again as it was.
    #[test]
    fn any_descriptor_round_trips(
        media_type in any::<String>(),
        content in any::<Vec<u8>>(),
        size in 0..=i64::MAX as u64,
        urls in prop::collection::vec(any::<String>(), 0..3),
        annotations in prop::collection::btree_map(any::<String>(), any::<String>(), 0..3),
        data in prop::option::of("[a-z]{1,9}"),
    ) {
        let descriptor = Descriptor {
            urls, annotations, data,
            ..Descriptor::new(media_type.into(), Digest::sha256(&content), size)
        };
        let text = serde_json::to_string(&descriptor).unwrap();
        prop_assert_eq!(Descriptor::from_json(&text), Ok(descriptor));
    }
}
