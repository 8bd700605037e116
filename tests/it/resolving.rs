//! From a name to a manifest: what is asked, what is believed of the answers, and what registries are forgiven.

use serde_json::{Value, json};

use crate::support::{
    Built, Fault, FaultRegistry, MIB, Outcome, PushedImage, Request, TestContext, assert_readable,
    check_layout, image, random, sha256, sha512, text,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Everything below the manifests' path, HEAD and GET alike.
const MANIFESTS: &str = "/v2/app/manifests/";

fn small() -> Built {
    image().layer("a small layer").into()
}

/// Refused with this exit code before OUT was made and before any blob was asked for.
fn refused(registry: &FaultRegistry, pushed: &PushedImage, code: i32) -> Outcome {
    let context = TestContext::new();
    let outcome = context.fetch(registry, pushed).fails_with(code);
    assert!(!context.out().exists(), "{}", outcome.report());
    assert_eq!(registry.blob_bytes_sent(), 0, "{}", outcome.report());
    outcome
}

fn fetched(registry: &FaultRegistry, pushed: &PushedImage) -> Outcome {
    let context = TestContext::new();
    let outcome = context.fetch(registry, pushed).success();
    assert_eq!(check_layout(&context.out()).digests, [pushed.digest()]);
    outcome
}

/// What is asked once the manifest is known by its digest.
fn blobs(pushed: &PushedImage) -> [String; 2] {
    [format!("GET {}", pushed.config()), format!("GET {}", pushed.layer(0))]
}

fn asked(first: &[&str], pushed: &PushedImage) -> Vec<String> {
    first.iter().map(|line| (*line).to_owned()).chain(blobs(pushed)).collect()
}

/// HEAD tells the digest, GET by digest brings the bytes, each blob comes once, and nothing else is asked.
#[test]
fn a_tag_is_asked_for_by_head_and_fetched_by_digest() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(small());
    fetched(&registry, &pushed);
    let by_digest = format!("GET {}", pushed.digest());
    assert_eq!(registry.asked(), asked(&["HEAD v1", &by_digest], &pushed));
    for request in registry.requests() {
        assert_eq!(request.header("accept-encoding"), Some("identity"), "{}", request.path);
    }
    for request in &registry.requests()[..2] {
        let accept = request.header("accept").unwrap_or_default();
        for media_type in [
            "application/vnd.oci.image.index.v1+json",
            MANIFEST,
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
        ] {
            assert!(accept.contains(media_type), "{media_type} in {accept}");
        }
    }
}

/// Registries that do not know HEAD, and those that answer it without a digest, are asked by one GET of the tag.
#[test]
fn a_head_that_does_not_tell_is_followed_by_one_get() {
    let no_head = [400, 401, 403, 404, 501].map(Fault::Status);
    for fault in no_head.into_iter().chain([Fault::MethodNotAllowed, Fault::NoDigestHeader]) {
        let registry = FaultRegistry::start();
        let pushed = registry.push(small());
        registry.on_head("v1").always(fault.clone());
        fetched(&registry, &pushed);
        assert_eq!(registry.asked(), asked(&["HEAD v1", "GET v1"], &pushed), "{fault:?}");
    }
}

/// HEAD has no body, so the registry's own words for a refusal come from the GET.
#[test]
fn the_codes_of_the_get_are_shown() {
    let registry = FaultRegistry::start();
    registry.push(small());
    let context = TestContext::new();
    let missing = format!("{}/app:nope", registry.host());
    let outcome = context.run(["fetch", &missing]).arg(context.out()).fails_with(3);
    assert!(outcome.stderr.contains("MANIFEST_UNKNOWN: manifest unknown"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&missing), "{}", outcome.stderr);
    assert_eq!(registry.asked(), ["HEAD nope", "GET nope"]);
}

/// 429 is a request to go away, which a GET right afterwards would not be.
#[test]
fn a_head_answered_429_is_not_followed_by_a_get() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(small());
    registry.on_head("v1").always(Fault::Status(429));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--retries", "1"]).fails_with(5);
    assert_eq!(registry.asked(), ["HEAD v1", "HEAD v1"]);
    assert!(!context.out().exists());
}

/// A digest header is held against the bytes on its own, whichever request it came with.
#[test]
fn a_wrong_digest_header_is_refused() {
    let wrong = sha256(b"another manifest");
    for by_tag in [true, false] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(small());
        if by_tag {
            registry.on_head("v1").always(Fault::NoDigestHeader);
        }
        let subject = if by_tag { pushed.tag() } else { pushed.digest() };
        registry.on_manifest(subject).always(Fault::WrongDigestHeader(wrong.clone()));
        let outcome = refused(&registry, &pushed, 6);
        for named in [wrong.as_str(), pushed.digest()] {
            assert!(outcome.stderr.contains(named), "{named} in {}", outcome.stderr);
        }
    }
}

/// HEAD names a digest that nobody has, and the tag's bytes are others: a warning, then an integrity error.
#[test]
fn a_head_that_lies_is_found_out() {
    let wrong = sha256(b"another manifest");
    let registry = FaultRegistry::start();
    let pushed = registry.push(small());
    registry.on_head("v1").always(Fault::WrongDigestHeader(wrong.clone()));
    refused(&registry, &pushed, 6);
    assert_eq!(registry.asked(), ["HEAD v1".to_owned(), format!("GET {wrong}"), "GET v1".to_owned()]);
}

/// An algorithm that is not known here proves nothing either way; sha512 is known and is what the image goes by then.
#[test]
fn digest_headers_in_other_algorithms() {
    for header in ["md5:d41d8cd98f00b204e9800998ecf8427e", "sha384:00", "nonsense"] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(small());
        registry.on_path(MANIFESTS).always(Fault::WrongDigestHeader(header.to_owned()));
        fetched(&registry, &pushed);
    }
    let registry = FaultRegistry::start();
    let pushed = registry.push(small());
    let digest = sha512(pushed.document());
    registry.on_head("v1").always(Fault::WrongDigestHeader(digest.clone()));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    assert_eq!(check_layout(&context.out()).digests, [digest]);
}

/// Some registries resolve a tag to a manifest that they only serve by the tag. That works, and is said.
#[test]
fn a_digest_that_is_not_found_is_asked_for_by_its_tag() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(small());
    registry.on_manifest(pushed.digest()).always(Fault::Status(404));
    let outcome = fetched(&registry, &pushed);
    let warning = outcome.stderr.lines().find(|line| line.starts_with("warning"));
    assert!(warning.is_some_and(|line| line.contains(pushed.digest())), "{}", outcome.stderr);
    let by_digest = format!("GET {}", pushed.digest());
    assert_eq!(registry.asked(), asked(&["HEAD v1", &by_digest, "GET v1"], &pushed));
}

/// A digest that the user wrote is the question: a tag beside it is never asked instead.
#[test]
fn a_written_digest_is_asked_for_alone() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(small());
    registry.on_manifest(pushed.digest()).always(Fault::Status(404));
    for reference in [pushed.reference_by_digest(), pushed.reference_by_both()] {
        registry.clear_requests();
        let context = TestContext::new();
        context.run(["fetch", &reference]).arg(context.out()).fails_with(3);
        assert_eq!(registry.asked(), [format!("GET {}", pushed.digest())]);
    }
}

/// A type that says nothing is told from the body, parameters do not count; another type is never passed over.
#[test]
fn content_types() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(small());
    for content_type in [
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
        "Application/vnd.OCI.image.manifest.v1+JSON",
        "application/json",
        "text/plain; charset=utf-8",
        "application/octet-stream",
    ] {
        registry.on_path(MANIFESTS).always(Fault::ContentType(content_type.to_owned()));
        fetched(&registry, &pushed);
        registry.mend();
    }
    registry.on_path(MANIFESTS).always(Fault::NoContentType);
    fetched(&registry, &pushed);
    registry.mend();
    registry.clear_requests();
    for content_type in [
        "text/html",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ] {
        registry.on_path(MANIFESTS).always(Fault::ContentType(content_type.to_owned()));
        let outcome = refused(&registry, &pushed, 6);
        assert!(outcome.stderr.contains(content_type), "{}", outcome.stderr);
        registry.mend();
    }
}

/// The manifest of `small`, changed.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(&small().document).expect("a manifest is JSON");
    change(&mut document);
    document.to_string().into_bytes()
}

/// The manifest of `small` as text, with one piece of it replaced.
fn rewritten(from: &str, to: &str) -> Vec<u8> {
    let document = String::from_utf8_lossy(&changed(|_| {})).into_owned();
    assert!(document.contains(from), "{from} in {document}");
    document.replacen(from, to, 1).into_bytes()
}

/// Documents that two readers could read as two images, and those that no reader should accept.
#[test]
fn documents_that_must_not_be_trusted() {
    for document in [
        changed(|manifest| manifest["manifests"] = json!([])),
        changed(|manifest| manifest["fsLayers"] = json!([])),
        changed(|manifest| manifest["Layers"] = json!([])),
        changed(|manifest| manifest["config"]["Digest"] = "x".into()),
        changed(|manifest| manifest["schemaVersion"] = 1.into()),
        changed(|manifest| manifest["layers"][0]["size"] = (-1).into()),
        changed(|manifest| manifest["layers"][0]["digest"] = "sha256:../../etc/passwd".into()),
        changed(|manifest| {
            manifest.as_object_mut().expect("a manifest is an object").remove("config");
        }),
        rewritten("\"schemaVersion\":2", "\"schemaVersion\":2,\"layers\":[]"),
        [changed(|_| {}), b"{}".to_vec()].concat(),
        [changed(|_| {}), b"\xff".to_vec()].concat(),
        b"<html>sign in</html>".to_vec(),
    ] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(Built::raw(MANIFEST, document));
        refused(&registry, &pushed, 6);
    }
}

/// What Go tools tolerate is tolerated: unknown fields of any depth, `null` where a field may be absent.
#[test]
fn documents_that_are_odd_and_harmless() {
    for document in [
        changed(|manifest| manifest["x"] = json!({ "manifests": [{ "y": null }] })),
        changed(|manifest| manifest["annotations"] = Value::Null),
        changed(|manifest| manifest["annotations"] = json!({ "Layers": "x", "layers": "y" })),
        changed(|manifest| {
            manifest.as_object_mut().expect("a manifest is an object").remove("mediaType");
        }),
    ] {
        let registry = FaultRegistry::start();
        registry.push_as("app", "whole", small());
        let pushed = registry.push(Built::raw(MANIFEST, document));
        let context = TestContext::new();
        context.fetch(&registry, &pushed).success();
        assert_eq!(check_layout(&context.out()).digests, [pushed.digest()]);
    }
}

/// A manifest past 4 MiB is refused without being read to its end, and so is a config past 8 MiB, unasked.
#[test]
fn documents_past_their_caps_are_refused() {
    let registry = FaultRegistry::start();
    let big = changed(|manifest| manifest["annotations"] = json!({ "x": "y".repeat(48 * MIB) }));
    let pushed = registry.push(Built::raw(MANIFEST, big));
    for fault in [None, Some(Fault::Chunked)] {
        registry.clear_requests();
        if let Some(fault) = fault {
            registry.on_path(MANIFESTS).always(fault);
        }
        refused(&registry, &pushed, 6);
        let sent: u64 = registry.requests().iter().map(Request::body_sent).sum();
        // What the kernel's buffers on both sides took counts as sent, and is some MiB.
        assert!(sent < 24 * MIB as u64, "{sent}");
    }
    registry.mend();
    let pushed = registry.push(image().layer("x").config_bytes(text(9 * MIB)));
    refused(&registry, &pushed, 6);
    assert_eq!(registry.requests_for(pushed.config()).len(), 0);
}

/// Proxies compress what nobody asked to be compressed: documents and blobs are decoded, and the digest decides.
#[test]
fn an_encoding_that_nobody_asked_for_is_undone() {
    for encoding in ["gzip", "zstd"] {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(text(3 * MIB)).layer(random(3 * MIB)));
        registry.on_path("/v2/app/").always(Fault::ContentEncoding(encoding));
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(["--segment-size", "1MiB"]).success();
        check_layout(&context.out());
    }
}

/// An encoded blob cannot be resumed: after a cut it is asked for again as a whole.
#[test]
fn an_encoded_blob_is_started_anew_after_a_cut() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(2 * MIB)));
    registry
        .on_blob(pushed.layer(0))
        .once(Fault::All(vec![Fault::ContentEncoding("gzip"), Fault::CutAfter(MIB)]));
    registry.on_blob(pushed.layer(0)).always(Fault::ContentEncoding("gzip"));
    fetched(&registry, &pushed);
    let requests = registry.requests_for(pushed.layer(0));
    assert_eq!((requests.len(), requests[1].range()), (2, None));
}

/// Object stores label layers as `gzip` that are stored as such: the bytes as they came are the blob.
#[test]
fn a_blob_that_is_only_labelled_as_encoded_is_taken_as_it_is() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(text(20_000)));
    let labelled = Fault::StatusWith {
        status: 200,
        headers: vec![("Content-Encoding", "gzip".to_owned())],
        body: pushed.layer_bytes(0).to_vec(),
    };
    registry.on_blob(pushed.layer(0)).always(labelled);
    fetched(&registry, &pushed);
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 1);
}

/// An encoded body that decodes to something else, or not at all, is refused by the digest like any other.
#[test]
fn an_encoded_blob_that_does_not_hold_is_refused() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(text(20_000)));
    registry
        .on_blob(pushed.layer(0))
        .always(Fault::All(vec![Fault::FlipByte(500), Fault::ContentEncoding("zstd")]));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).fails_with(6);
    assert!(outcome.stderr.contains(pushed.layer(0)), "{}", outcome.stderr);
    assert!(assert_readable(&context.out()).digests.is_empty());
}
