use bytes::Bytes;

use super::*;
use crate::digest::Digest;

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const DIGEST: &str = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
const OTHER: &str = "sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865";

fn filled(text: &str) -> Bytes {
    text.replace("DIGEST", DIGEST).replace("OTHER", OTHER).into_bytes().into()
}

fn image(text: &str, declared: Option<&str>) -> ImageManifest {
    match Manifest::parse(filled(text), declared) {
        Ok(Manifest::Image(manifest)) => manifest,
        other => panic!("{text}: {other:?}"),
    }
}

fn index(text: &str) -> ImageIndex {
    match Manifest::parse(filled(text), None) {
        Ok(Manifest::Index(index)) => index,
        other => panic!("{text}: {other:?}"),
    }
}

fn text(raw: &Bytes) -> &str {
    std::str::from_utf8(raw).unwrap()
}

/// Only media types change: key order, white space, numbers, escapes and what nobody knows keep their bytes.
#[test]
fn only_media_types_change() {
    let source = r#" {
   "schemaVersion": 2, "mediaType" : "application/vnd.docker.distribution.manifest.v2+json",
   "x": [ 1.50e3, "\u00e9\/", {"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip"} ],
   "config": {"size": 7,"digest":"DIGEST","media\u0054ype":"application/vnd.docker.container.image.v1+json", "y":1e400},
   "layers": [
      {"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":1,"digest":"DIGEST","annotations":{"a":"\ud800"}},
      {"mediaType":"application/vnd.docker.image.rootfs.diff.tar.zstd","size":2,"digest":"OTHER"},
      {"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","size":3,"digest":"OTHER","urls":["https://h/l"]},
      {"mediaType":"application/vnd.docker.image.rootfs.diff.tar","size":1,"digest":"DIGEST"},
      {"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted","size":1,"digest":"DIGEST"}
   ] , "annotations": {"mediaType": "application/vnd.docker.container.image.v1+json"} }
"#;
    let wanted = filled(source);
    let wanted = text(&wanted)
        .replacen(
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.oci.image.manifest.v1+json",
            1,
        )
        .replacen(
            r#""media\u0054ype":"application/vnd.docker.container.image.v1+json""#,
            r#""media\u0054ype":"application/vnd.oci.image.config.v1+json""#,
            1,
        );
    let (head, layers) = wanted.split_once("\"layers\"").unwrap();
    let layers = layers
        .replace(
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        )
        .replace(
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
            "application/vnd.oci.image.layer.v1.tar+zstd",
        )
        .replace(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        )
        .replace("application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar");
    let source = image(source, Some(DOCKER));
    assert!(is_docker_typed(&source) && has_zstd_layers(&source));
    let converted = image_to_oci(&source).unwrap().expect("something to convert");
    assert_eq!(text(converted.raw()), format!("{head}\"layers\"{layers}"));
    assert_eq!(converted.media_type(), &MediaType::OCI_MANIFEST);
    assert!(!is_docker_typed(&converted) && has_zstd_layers(&converted) && converted.is_image());
    assert_eq!(image_to_oci(&converted), Ok(None));
}

/// A document that left its type to a header gets one inside: the layout's readers see no header.
#[test]
fn missing_types_are_written() {
    let cases = [
        (
            r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":1}}"#,
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"DIGEST","size":1}}"#,
        ),
        (
            r#"{"config":{"mediaType":null,"digest":"DIGEST","size":1},"mediaType":"","schemaVersion":2,"layers":null}"#,
            r#"{"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"DIGEST","size":1},"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2,"layers":null}"#,
        ),
    ];
    for (source, wanted) in cases {
        let converted = image_to_oci(&image(source, Some(DOCKER))).unwrap().unwrap();
        assert_eq!(converted.raw(), &filled(wanted));
        assert_eq!(image_to_oci(&converted), Ok(None));
    }
}

/// What each kind of config becomes: an image stays an image, and nothing else becomes one.
#[test]
fn configs_become_what_they_were_taken_for() {
    let docker_config = "application/vnd.docker.container.image.v1+json";
    let oci_config = "application/vnd.oci.image.config.v1+json";
    let plugin = "application/vnd.docker.plugin.v1+json";
    let generic = "application/octet-stream";
    let cases = [
        (DOCKER, docker_config, Some(oci_config)),
        (DOCKER, oci_config, Some(oci_config)),
        (DOCKER, generic, Some(oci_config)),
        (DOCKER, "application/json", Some(oci_config)),
        (DOCKER, "text/html", Some(oci_config)),
        (DOCKER, "", Some(oci_config)),
        (DOCKER, plugin, Some(plugin)),
        (
            DOCKER,
            "application/vnd.cncf.helm.config.v1+json",
            Some("application/vnd.cncf.helm.config.v1+json"),
        ),
        (OCI, docker_config, Some(oci_config)),
        (OCI, oci_config, None),
        (OCI, generic, None),
        (OCI, plugin, None),
    ];
    for (manifest, config, wanted) in cases {
        let source = image(
            &format!(
                r#"{{"schemaVersion":2,"mediaType":"{manifest}","config":{{"mediaType":"{config}","digest":"DIGEST","size":1}},"layers":[]}}"#
            ),
            None,
        );
        let converted = image_to_oci(&source).unwrap();
        assert_eq!(converted.is_some(), is_docker_typed(&source));
        let found = converted.as_ref().map(|converted| converted.config().media_type.as_str());
        assert_eq!(found, wanted, "{manifest} {config}");
        assert!(converted.is_none_or(|converted| converted.is_image() == source.is_image()));
    }
}

/// A layer whose type says nothing keeps it: naming a compression that it may not have would be a lie.
#[test]
fn layers_without_counterpart_stay() {
    let source = image(
        r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"DIGEST","size":1},
        "layers":[{"digest":"DIGEST","size":1},{"mediaType":"application/octet-stream","digest":"DIGEST","size":1},{"mediaType":"application/vnd.in-toto+json","digest":"DIGEST","size":1}]}"#,
        None,
    );
    let converted = image_to_oci(&source).unwrap().unwrap();
    assert_eq!(converted.layers(), source.layers());
    assert_eq!(converted.media_type(), &MediaType::OCI_MANIFEST);
}

/// An OCI image whose layers are Docker's, which buildah and others have made, is converted, and its subject stays.
#[test]
fn oci_manifests_with_docker_layers_are_converted() {
    let source = image(
        r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"DIGEST","size":1},
        "layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"DIGEST","size":1}],
        "subject":{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"OTHER","size":5}}"#,
        Some(OCI),
    );
    let converted = image_to_oci(&source).unwrap().unwrap();
    assert_eq!(converted.layers()[0].media_type, MediaType::OCI_LAYER_GZIP);
    assert_eq!(converted.subject(), source.subject());
}

/// A manifest that only just fits does not become one that nobody reads.
#[test]
fn the_cap_holds_for_what_comes_out() {
    let mut text = text(&filled(r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":1}}"#)).to_owned();
    text.push_str(&" ".repeat(super::super::MANIFEST_CAP - text.len()));
    let error = image_to_oci(&image(&text, Some(DOCKER))).unwrap_err();
    assert!(matches!(error, ManifestError::TooLarge { .. }), "{error}");
}

const TWO: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[
    {"mediaType":"application/vnd.docker.distribution.manifest.v2+json","data":"e30=","size":2,"digest":"DIGEST","urls":["https://h/"],"platform":{"architecture":"amd64","os":"linux","features":["sse4"]},"annotations":{"a":"b"},"z":1.0},
    {"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":3,"digest":"OTHER","platform":{"architecture":"arm64","os":"linux"}}]}"#;

/// A converted child changes type, digest and size, and loses what was the old content's; an absent one keeps everything.
#[test]
fn indexes_name_what_their_children_became() {
    let source = index(TWO);
    assert!(is_docker_list(&source));
    let new = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"new"), 3);
    let first = source.manifests()[0].digest;
    let converted =
        index_to_oci(&source, |child| (child.digest == first).then(|| new.clone())).unwrap().unwrap();
    let wanted = filled(TWO);
    let wanted = text(&wanted).replace(LIST, "application/vnd.oci.image.index.v1+json").replace(
        &format!(
            r#"{{"mediaType":"{DOCKER}","data":"e30=","size":2,"digest":"{DIGEST}","urls":["https://h/"],"#
        ),
        &format!(r#"{{"mediaType":"{OCI}","size":3,"digest":"{}","#, new.digest),
    );
    assert_eq!(text(converted.raw()), wanted);
    assert_eq!(converted.manifests()[1], source.manifests()[1]);
    assert_eq!(converted.manifests()[0].platform, source.manifests()[0].platform);
    assert_eq!(index_to_oci(&converted, |_| None), Ok(None));
}

/// A list without children at hand still changes its own type; an OCI index changes only with its children.
#[test]
fn indexes_without_converted_children() {
    let list = index_to_oci(&index(TWO), |_| None).unwrap().unwrap();
    assert_eq!(list.media_type(), &MediaType::OCI_INDEX);
    assert_eq!(list.manifests(), index(TWO).manifests());
    let oci = index(
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":3,"digest":"OTHER"}]}"#,
    );
    assert_eq!(index_to_oci(&oci, |_| None), Ok(None));
    let new = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"new"), 3);
    let converted = index_to_oci(&oci, |_| Some(new.clone())).unwrap().unwrap();
    assert_eq!(converted.manifests(), [new]);
    assert!(
        text(converted.raw())
            .starts_with(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index"#)
    );
}

/// An entry keeps what others wrote into it, and the first source that it ever had.
#[test]
fn entries_are_relabelled() {
    let new = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"new"), 3);
    let same = format!(r#""mediaType":"{OCI}","digest":"{}","size":3"#, new.digest);
    let cases = [
        (r#"{OLD, "x": 1e400}"#, format!(r#"{{"annotations":{{"source":"first"}},{same}, "x": 1e400}}"#)),
        (r#"{OLD,"annotations":null}"#, format!(r#"{{{same},"annotations":{{"source":"first"}}}}"#)),
        (r#"{OLD,"annotations":{}}"#, format!(r#"{{{same},"annotations":{{"source":"first"}}}}"#)),
        (
            r#"{"annotations": {"a":"\u00e9"},OLD}"#,
            format!(r#"{{"annotations": {{"source":"first","a":"\u00e9"}},{same}}}"#),
        ),
        (r#"{OLD,"annotations":{"source":""}}"#, format!(r#"{{{same},"annotations":{{"source":"first"}}}}"#)),
        (r#"{OLD,"annotations":{"source":"0"}}"#, format!(r#"{{{same},"annotations":{{"source":"0"}}}}"#)),
    ];
    for (entry, wanted) in cases {
        let old = format!(r#""mediaType":"{DOCKER}","digest":"{DIGEST}","size":2"#);
        let found = relabelled(&entry.replace("OLD", &old), &new, ("source", "first")).unwrap();
        assert_eq!(found, wanted);
        Descriptor::from_json(&found).unwrap();
    }
    assert!(relabelled("[]", &new, ("source", "first")).is_err());
}
