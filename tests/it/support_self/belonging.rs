//! What belongs to images: referrers, cosign's tags, signatures.

use serde_json::{Value, json};

use super::{client, get, manifest_url, send};
use crate::support::{FaultRegistry, PushedImage, artifact, image, text};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn referrers_url(registry: &FaultRegistry, image: &PushedImage) -> String {
    format!("{}/v2/app/referrers/{}", registry.url(), image.digest())
}

/// The digests in a list of referrers.
fn digests(body: &[u8]) -> Vec<String> {
    let list: Value = serde_json::from_slice(body).expect("a list");
    let entries = list["manifests"].as_array().expect("a list of manifests");
    entries.iter().map(|entry| entry["digest"].as_str().expect("a digest").to_owned()).collect()
}

/// The API lists what names the image as its subject, in pages, with what the spec wants in each entry.
#[tokio::test]
async fn referrers_come_in_pages() {
    let registry = FaultRegistry::builder().referrers_per_page(1).start();
    let image = registry.push(image().layer(text(10)));
    let none = get(referrers_url(&registry, &image)).await;
    assert_eq!((none.status, none.header("content-type"), none.header("link")), (200, Some(INDEX), None));
    assert_eq!(digests(&none.body), [""; 0]);

    let sbom = artifact("application/spdx+json").annotation("k", "v").subject(image.descriptor());
    let sbom = registry.push_untagged("app", sbom);
    let signature = registry.push_untagged("app", artifact("x/y").subject(image.descriptor()));
    registry.push_untagged("app", artifact("x/y").subject(sbom.descriptor()));
    let first = get(referrers_url(&registry, &image)).await;
    let list: Value = serde_json::from_slice(&first.body).expect("a list");
    let entry = json!({
        "mediaType": sbom.media_type(), "digest": sbom.digest(), "size": sbom.document().len(),
        "artifactType": "application/spdx+json", "annotations": { "k": "v" }
    });
    assert_eq!(list["manifests"], json!([entry]));
    let link = format!("</v2/app/referrers/{}?after=1>; rel=\"next\"", image.digest());
    assert_eq!(first.header("link"), Some(&*link));
    let second = get(format!("{}?after=1", referrers_url(&registry, &image))).await;
    assert_eq!((digests(&second.body), second.header("link")), (vec![signature.digest().to_owned()], None));
    assert_eq!(get(manifest_url(&registry, sbom.digest())).await.body, sbom.document());
}

/// Without the API the list is an index under the tag that clients make of the digest, cut where a tag ends.
#[tokio::test]
async fn without_the_api_there_is_a_tag() {
    let registry = FaultRegistry::builder().without_referrers().start();
    for image in [image().layer(text(10)), image().sha512()] {
        let image = registry.push(image);
        let (algorithm, hex) = image.digest().split_once(':').expect("a digest");
        let tag = format!("{algorithm}-{}", &hex[..64]);
        assert_eq!(get(manifest_url(&registry, &tag)).await.status, 404);
        let pushed = ["x/a", "x/b"]
            .map(|kind| registry.push_untagged("app", artifact(kind).subject(image.descriptor())));
        assert_eq!(get(referrers_url(&registry, &image)).await.status, 404);
        let list = get(manifest_url(&registry, &tag)).await;
        assert_eq!(list.header("content-type"), Some(INDEX));
        assert_eq!(digests(&list.body), pushed.map(|one| one.digest().to_owned()));
    }
}

/// cosign's tags are tags like any other.
#[tokio::test]
async fn cosigns_tags_are_tags() {
    let registry = FaultRegistry::start();
    let image = registry.push(image());
    let signature = registry.push_beside(&image, "sig", artifact("x/y"));
    assert_eq!(signature.tag(), format!("sha256-{}.sig", &image.digest()[7..]));
    assert_eq!(get(manifest_url(&registry, signature.tag())).await.body, signature.document());
}

/// The extension is announced to everybody, and answers those who may pull; without it nothing is announced.
#[tokio::test]
async fn the_extension_has_signatures() {
    let registry = FaultRegistry::builder().basic_auth("me", "secret").signature_extension().start();
    let image = registry.push(image());
    registry.sign(&image, b"abc");
    let ping = get(format!("{}/v2/", registry.url())).await;
    assert_eq!((ping.status, ping.header("x-registry-supports-signatures")), (401, Some("1")));
    let url = format!("{}/extensions/v2/app/signatures/{}", registry.url(), image.digest());
    assert_eq!(get(url.clone()).await.status, 401);
    let list = send(client().get(url).basic_auth("me", "secret")).await.expect("an answer");
    let list: Value = serde_json::from_slice(&list.body).expect("a list");
    let entry = json!({
        "schemaVersion": 2, "name": format!("{}@1", image.digest()), "type": "atomic", "content": "YWJj"
    });
    assert_eq!(list, json!({ "signatures": [entry] }));

    let plain = FaultRegistry::start();
    let ping = get(format!("{}/v2/", plain.url())).await;
    assert_eq!((ping.status, ping.header("x-registry-supports-signatures")), (200, None));
    let none = get(format!("{}/extensions/v2/app/signatures/{}", plain.url(), image.digest())).await;
    assert_eq!(none.status, 404);
}

/// The lookaside counts from 1, needs no login and refuses whoever sends one.
#[tokio::test]
async fn the_lookaside_has_signatures() {
    let registry = FaultRegistry::builder().basic_auth("me", "secret").start();
    let image = registry.push_as("team/app", "v1", image());
    registry.sign_aside(&image, b"one");
    registry.sign_aside(&image, b"two");
    let url = |number: usize| {
        let digest = image.digest().replace(':', "=");
        format!("{}/team/app@{digest}/signature-{number}", registry.lookaside())
    };
    for (number, status, body) in [(0, 404, ""), (1, 200, "one"), (2, 200, "two"), (3, 404, "")] {
        let reply = get(url(number)).await;
        assert_eq!((reply.status, &reply.body[..]), (status, body.as_bytes()), "{number}");
    }
    let reply = send(client().get(url(1)).basic_auth("me", "secret")).await.expect("an answer");
    assert_eq!(reply.status, 400);
}
