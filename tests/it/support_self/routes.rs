//! The registry that nothing breaks.

use serde_json::{Value, json};

use super::{blob_url, client, get, get_range, layer_url, manifest_url, send};
use crate::support::{
    Built, Compression, FaultRegistry, artifact, image, index, random, random_from, sha256, sha512, text,
};

/// Clients decide by these headers what they download and how they resume.
#[tokio::test]
async fn manifests_and_blobs_come_with_their_headers() {
    let registry = FaultRegistry::start();
    let image = registry.push(image().layer(random(1000)));

    let ping = get(format!("{}/v2/", registry.url())).await;
    assert_eq!((ping.status, ping.header("docker-distribution-api-version")), (200, Some("registry/2.0")));
    for reference in [image.tag(), image.digest()] {
        let manifest = get(manifest_url(&registry, reference)).await;
        assert_eq!(manifest.status, 200);
        assert_eq!(manifest.body, image.document());
        assert_eq!(manifest.header("docker-content-digest"), Some(image.digest()));
        assert_eq!(manifest.header("content-type"), Some(image.media_type()));
    }
    let blob = get(layer_url(&registry, &image)).await;
    assert_eq!(blob.body, image.layer_bytes(0));
    assert_eq!(blob.header("accept-ranges"), Some("bytes"));
    assert_eq!(blob.header("docker-content-digest"), Some(image.layer(0)));
    let config = get(blob_url(&registry, image.config())).await;
    assert_eq!(sha256(&config.body), image.config());
    assert_eq!(image.blob_bytes(), (blob.body.len() + config.body.len()) as u64);
}

/// HEAD says what GET would, and moves no body.
#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let registry = FaultRegistry::start();
    let image = registry.push(image().layer(random(1000)));

    for (url, length) in [
        (manifest_url(&registry, "v1"), image.document().len()),
        (layer_url(&registry, &image), image.layer_bytes(0).len()),
    ] {
        let head = send(client().head(url)).await.expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(length.to_string().as_str()));
    }
    assert_eq!(registry.blob_bytes_sent(), 0);
    assert!(registry.requests().iter().all(|request| request.body_sent() == 0));
}

/// sha512 is a registered algorithm: content under it is found by it.
#[tokio::test]
async fn sha512_content_is_found_by_its_digest() {
    let registry = FaultRegistry::start();
    let image = registry.push(image().sha512().layer(random(100)));

    assert_eq!(image.digest(), sha512(image.document()));
    assert_eq!(get(manifest_url(&registry, image.digest())).await.body, image.document());
    assert_eq!(sha512(&get(layer_url(&registry, &image)).await.body), image.layer(0));
    assert!(image.diff_id(0).starts_with("sha256:"));
}

/// What does not exist is 404 with the registry's own code.
#[tokio::test]
async fn what_is_not_there_is_404_with_a_code() {
    let registry = FaultRegistry::start();
    registry.push(image());
    let missing = sha256(b"missing");

    for (path, code) in [
        ("v2/app/manifests/v2".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("v2/app/blobs/{missing}"), "BLOB_UNKNOWN"),
        ("v2/other/tags/list".to_owned(), "NAME_UNKNOWN"),
    ] {
        let reply = get(format!("{}/{path}", registry.url())).await;
        let document: Value = serde_json::from_slice(&reply.body).expect("an error document");
        assert_eq!((reply.status, &document["errors"][0]["code"]), (404, &json!(code)));
    }
}

/// Ranges are what resuming and parallel segments stand on (RFC 9110, section 14).
#[tokio::test]
async fn one_range_is_cut_exactly() {
    let registry = FaultRegistry::start();
    let content = random(1000);
    let image = registry.push(image().raw_layer("application/octet-stream", content.clone()));
    let url = layer_url(&registry, &image);

    for (range, status, content_range, body) in [
        ("bytes=0-0", 206, Some("bytes 0-0/1000"), &content[..1]),
        ("bytes=100-199", 206, Some("bytes 100-199/1000"), &content[100..200]),
        ("bytes=900-", 206, Some("bytes 900-999/1000"), &content[900..]),
        ("bytes=900-5000", 206, Some("bytes 900-999/1000"), &content[900..]),
        ("bytes=-10", 206, Some("bytes 990-999/1000"), &content[990..]),
        ("bytes=-5000", 206, Some("bytes 0-999/1000"), &content[..]),
        ("bytes=5-4", 200, None, &content[..]),
        ("bytes=0-1,5-6", 200, None, &content[..]),
        ("lines=0-1", 200, None, &content[..]),
    ] {
        let reply = get_range(url.clone(), range).await;
        assert_eq!((reply.status, reply.header("content-range")), (status, content_range), "{range}");
        assert_eq!(reply.body, body, "{range}");
        assert_eq!(reply.header("content-length"), Some(body.len().to_string().as_str()), "{range}");
    }
    let beyond = get_range(url.clone(), "bytes=1000-").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */1000")));

    let stale = client().get(&url).header("range", "bytes=5-").header("if-range", "\"other\"");
    assert_eq!(send(stale).await.expect("an answer").status, 200);
}

/// A client that stops after the first page misses tags.
#[tokio::test]
async fn tags_come_in_pages() {
    let registry = FaultRegistry::builder().tags_per_page(2).start();
    for tag in ["c", "a", "b"] {
        registry.push_as("team/app", tag, image());
    }
    let url = format!("{}/v2/team/app/tags/list", registry.url());

    let first = get(url.clone()).await;
    let document: Value = serde_json::from_slice(&first.body).expect("a list");
    assert_eq!(document, json!({ "name": "team/app", "tags": ["a", "b"] }));
    assert_eq!(first.header("link"), Some("</v2/team/app/tags/list?last=b&n=2>; rel=\"next\""));

    let last = get(format!("{url}?last=b&n=2")).await;
    let document: Value = serde_json::from_slice(&last.body).expect("a list");
    assert_eq!((&document["tags"], last.header("link")), (&json!(["c"]), None));

    let one = get(format!("{url}?n=1")).await;
    assert_eq!(one.header("link"), Some("</v2/team/app/tags/list?last=a&n=1>; rel=\"next\""));
}

/// Tests count requests and bytes, so the records have to be exact.
#[tokio::test]
async fn requests_and_bytes_are_recorded() {
    let registry = FaultRegistry::start();
    let image = registry.push(image().raw_layer("application/octet-stream", random(5000)));
    let client = client();

    let first = client.get(layer_url(&registry, &image)).header("Range", "bytes=1000-");
    send(first).await.expect("an answer");
    send(client.get(format!("{}?ns=docker.io", manifest_url(&registry, "v1")))).await.expect("an answer");

    let requests = registry.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!((requests[0].method.as_str(), requests[0].range()), ("GET", Some("bytes=1000-")));
    assert_eq!(requests[0].body_sent(), 4000);
    assert_eq!(requests[1].path, "/v2/app/manifests/v1");
    assert_eq!(requests[1].parameters("ns"), ["docker.io"]);
    assert_eq!(requests[0].connection, requests[1].connection, "the connection was kept");
    assert_eq!(registry.requests_for(image.layer(0)).len(), 1);
    assert_eq!((registry.blob_bytes_sent(), registry.open_connections_peak()), (4000, 1));
    registry.clear_requests();
    assert_eq!((registry.requests().len(), registry.blob_bytes_sent()), (0, 0));
}

/// A stray question to a registry must not pass unnoticed.
#[tokio::test]
async fn unexpected_requests_are_reported() {
    let registry = FaultRegistry::start();
    registry.push(image());

    assert_eq!(get(format!("{}/v2/_catalog?n=1", registry.url())).await.status, 404);
    let put = client().put(manifest_url(&registry, "v1"));
    assert_eq!(send(put).await.expect("an answer").status, 405);
    assert_eq!(registry.take_unexpected(), ["GET /v2/_catalog?n=1", "PUT /v2/app/manifests/v1"]);
    registry.assert_no_unexpected();
}

/// Nobody has to remember to look: the registry's end is the test's.
#[tokio::test]
#[should_panic(expected = "requests that no test expects")]
async fn dropping_the_registry_reports_them_too() {
    let registry = FaultRegistry::start();
    get(format!("{}/v1/_ping", registry.url())).await;
}

/// The same content is the same digest in every run, or snapshots would not hold.
#[test]
fn what_is_built_is_deterministic_and_as_asked() {
    let registry = FaultRegistry::start();
    let build = || {
        let amd64 = image().layer(text(3000)).layer_as(Compression::Zstd, random(3000)).annotation("k", "v");
        let arm64 =
            image().docker().os("linux").architecture("arm64").variant("v8").layer(random_from(7, 10));
        let nested = index().docker().manifest(&arm64, "linux/arm64/v8");
        let sbom = artifact("application/spdx+json").raw_layer("application/spdx+json", "{}");
        let unnamed = json!({ "mediaType": "x/y", "digest": sha256(b"absent"), "size": 6 });
        let top = index().manifest(amd64, "linux/amd64").listed(&nested, None).listed(sbom, None);
        Built::from(top.entry(unnamed).annotation("k", "v"))
    };
    assert_eq!(build().digest, build().digest);

    let pushed = registry.push(build());
    let index: Value = serde_json::from_slice(pushed.document()).expect("an index");
    assert_eq!(index["manifests"][0]["platform"], json!({ "architecture": "amd64", "os": "linux" }));
    assert_eq!(index["manifests"][1]["platform"], Value::Null);
    assert_eq!(index["annotations"], json!({ "k": "v" }));
    let (amd64, arm64) = (pushed.child(0), pushed.child(1).child(0));
    assert_ne!(amd64.layer(0), amd64.layer(1));
    assert_eq!(arm64.layers(), [arm64.layer(0)]);
    assert!(arm64.media_type().contains("docker"));
    assert!(pushed.reference_by_both().starts_with(&format!("{}/app:v1@sha256:", registry.host())));
    assert_eq!(pushed.reference_by_digest(), format!("{}/app@{}", registry.host(), pushed.digest()));
    let manifest: Value = serde_json::from_slice(pushed.child(2).document()).expect("a manifest");
    assert_eq!(manifest["artifactType"], "application/spdx+json");
}
