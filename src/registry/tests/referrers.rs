//! What refers to a manifest, and how registries say that they do not know.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::*;
use crate::reference::Tag;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

fn subject() -> Digest {
    Digest::sha256(MANIFEST)
}

fn entry(name: &str) -> Value {
    json!({"mediaType": MANIFEST_TYPE, "digest": Digest::sha256(name.as_bytes()), "size": name.len()})
}

fn index(entries: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}).to_string().into_bytes()
}

fn list(names: &[&str]) -> Reply {
    let entries: Vec<Value> = names.iter().map(|name| entry(name)).collect();
    reply(200).header("Content-Type", INDEX_TYPE).body(index(&entries))
}

async fn referrers(registry: &Registry, server: &Server) -> Result<Vec<Digest>, RegistryError> {
    let found = registry.referrers(&server.repository(), &subject()).await?;
    Ok(found.into_iter().map(|descriptor| descriptor.digest).collect())
}

fn digests(names: &[&str]) -> Vec<Digest> {
    names.iter().map(|name| Digest::sha256(name.as_bytes())).collect()
}

fn api_line() -> String {
    format!("GET /v2/team/app/referrers/{}", subject())
}

fn tag_line() -> String {
    format!("GET /v2/team/app/manifests/sha256-{}", subject().hex())
}

/// A server with this answer to the question for referrers, and this one for the tag.
async fn server(api: Reply, tag: Reply) -> Server {
    Server::start(move |seen| if seen.target.contains("/referrers/") { api.clone() } else { tag.clone() })
        .await
}

/// All pages count, each referrer once; no filter is asked for, because what a server filters cannot be checked.
#[tokio::test]
async fn all_pages_are_read() {
    let server = Server::start(|seen| match seen.target.split_once('?') {
        None => list(&["a", "b"]).header("Link", r#"<?last=b>; rel="next""#),
        Some(_) => list(&["b", "c"]),
    })
    .await;
    assert_eq!(referrers(&registry(), &server).await.unwrap(), digests(&["a", "b", "c"]));
    assert_eq!(server.lines(), [api_line(), format!("{}?last=b", api_line())]);
    assert_eq!(server.seen()[0].header("accept"), Some(INDEX_TYPE));
}

/// A registry with the API and nothing to list says so; the tag is not asked for then. Go writes an empty list as null.
#[tokio::test]
async fn an_empty_list_is_an_answer() {
    let null = br#"{"schemaVersion":2,"manifests":null}"#;
    for (body, content_type) in
        [(&index(&[])[..], INDEX_TYPE), (&index(&[])[..], "application/json"), (&null[..], INDEX_TYPE)]
    {
        let listed = reply(200).header("Content-Type", content_type).body(body);
        let server = server(listed, reply(500)).await;
        assert_eq!(referrers(&registry(), &server).await.unwrap(), [], "{content_type}");
        assert_eq!(server.lines(), [api_line()]);
    }
}

/// However a registry says that it has no referrers API, the tag is asked for, and the API not again.
#[tokio::test]
async fn without_the_api_the_tag_counts() {
    let html = || reply(200).header("Content-Type", "text/html; charset=utf-8").body("<html>");
    let mut answers: Vec<Reply> = [204, 400, 404, 405, 406, 410, 501].map(reply).to_vec();
    answers.push(html());
    answers.push(reply(200).header("Content-Type", "application/json").body("{}"));
    answers.push(reply(200).body(""));
    answers.push(manifest_reply());
    for answer in answers {
        let shown = format!("{answer:?}");
        let (server, registry) = (server(answer, list(&["a"])).await, registry());
        for _ in 0..2 {
            assert_eq!(referrers(&registry, &server).await.unwrap(), digests(&["a"]), "{shown}");
        }
        assert_eq!(server.lines(), [api_line(), tag_line(), tag_line()], "{shown}");
    }
}

/// GitHub's registry redirects the question to its website, whose rate limit is no reason to wait.
#[tokio::test]
async fn a_redirect_to_strangers_is_no_api() {
    for status in [401, 403, 404, 406, 429] {
        let website = Server::start(move |_| reply(status).header("Retry-After", "60")).await;
        let location = format!("http://{}/-/v2/packages", website.address);
        let server = server(reply(303).header("Location", &location), list(&["a"])).await;
        assert_eq!(referrers(&registry(), &server).await.unwrap(), digests(&["a"]), "{status}");
        assert_eq!(website.lines().len(), 1, "{status}");
    }
}

/// An answer after a failure means what it means at once. That there were tries before it is told where it is an error, and
/// makes no error of what is none.
#[tokio::test]
async fn a_failure_before_an_answer_changes_nothing_of_it() {
    let null = reply(200).header("Content-Type", INDEX_TYPE).body(br#"{"schemaVersion":2,"manifests":null}"#);
    for (tag, expected) in
        [(list(&["a"]), &["a"][..]), (reply(404), &[]), (null, &[]), (reply(200).body("<html>"), &[])]
    {
        let shown = format!("{tag:?}");
        let failed = Mutex::new(HashSet::new());
        let server = Server::start(move |seen| match seen.target.contains("/referrers/") {
            _ if failed.lock().unwrap().insert(seen.target.clone()) => reply(503),
            true => reply(404),
            false => tag.clone(),
        })
        .await;
        assert_eq!(referrers(&registry(), &server).await.unwrap(), digests(expected), "{shown}");
        assert_eq!(server.lines(), [api_line(), api_line(), tag_line(), tag_line()], "{shown}");
    }
}

/// Neither the API nor the tag: there are none.
#[tokio::test]
async fn nothing_anywhere_is_none() {
    let server = server(reply(404), reply(404)).await;
    assert_eq!(referrers(&registry(), &server).await.unwrap(), []);
    assert_eq!(server.lines(), [api_line(), tag_line()]);
}

/// An error is not an empty list: what is signed must not look unsigned because a server had a bad day.
#[tokio::test]
async fn errors_are_not_empty_lists() {
    let broken = |body: &[u8]| reply(200).header("Content-Type", INDEX_TYPE).body(body);
    let cases = [
        (reply(401), Kind::Auth),
        (reply(403), Kind::Auth),
        (reply(500), Kind::Network),
        (broken(b"{}"), Kind::Integrity),
        (broken(b"<html>"), Kind::Integrity),
        (broken(MANIFEST), Kind::Integrity),
        (broken(&index(&[json!({"digest": "md5:00", "size": 1})])), Kind::Integrity),
    ];
    for (answer, kind) in cases {
        let shown = format!(
            "{} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body[..answer.body.len().min(80)])
        );
        let server = server(answer, list(&["a"])).await;
        let found = referrers(&registry(), &server).await;
        assert_eq!(found.unwrap_err().kind(), kind, "{shown}");
        assert!(!server.lines().contains(&tag_line()), "{shown}");
    }
    let server = Server::start(|seen| {
        let next = list(&["a"]).header("Link", r#"<?last=a>; rel="next""#);
        if seen.target.contains('?') { reply(404) } else { next }
    })
    .await;
    assert_eq!(referrers(&registry(), &server).await.unwrap_err().kind(), Kind::NotFound);
}

/// The list has an end, even where every page is a small one.
#[tokio::test]
async fn the_list_has_an_end() {
    let server = Server::start(|seen| {
        let page: usize = seen.target.split_once("?p=").map_or(0, |(_, page)| page.parse().unwrap());
        let names: Vec<String> = (0..1000).map(|at| format!("{page}-{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        list(&names).header("Link", &format!(r#"<?p={}>; rel="next""#, page + 1))
    })
    .await;
    let error = referrers(&registry(), &server).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooMany { most: MOST_REFERRERS, .. }), "{error}");
    assert_eq!(server.lines().len(), 11);
}

/// Registries with the API may refuse to list for a manifest that they do not know, or that nothing refers to: that is no
/// reason to miss what they list for another, whichever is asked about first.
#[tokio::test]
async fn a_refusal_may_be_about_one_manifest() {
    let unknown = || reply(404).body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#);
    let other = Digest::sha256(b"other");
    for (refusal, first) in
        [(unknown(), &other), (unknown(), &subject()), (reply(404), &subject()), (reply(400), &subject())]
    {
        let refusal_of = refusal.clone();
        let server = Server::start(move |seen| match &seen.target {
            target if target.ends_with(&format!("referrers/{}", subject())) => list(&["a"]),
            target if target.contains("/referrers/") => refusal_of.clone(),
            _ => list(&["b"]),
        })
        .await;
        let (registry, repository) = (registry(), server.repository());
        let second = if *first == other { subject() } else { other };
        assert!(!registry.knows_referrers_api(&repository));
        for digest in [*first, second, *first, second] {
            let found = registry.referrers(&repository, &digest).await.unwrap();
            let expected = if digest == other { "b" } else { "a" };
            assert_eq!(found[0].digest, Digest::sha256(expected.as_bytes()), "{refusal:?} {digest}");
        }
        assert!(registry.knows_referrers_api(&repository));
        assert_eq!(server.lines().iter().filter(|line| line.contains("/referrers/")).count(), 4);
    }
}

/// Pages that go on and on without anything new end the listing early, and so do pages that are together too long.
#[tokio::test]
async fn pages_without_end() {
    let page = |target: &str| target.split_once("?p=").map_or(0, |(_, page)| page.parse::<usize>().unwrap());
    let server = Server::start(move |seen| {
        list(&["a"]).header("Link", &format!(r#"<?p={}>; rel="next""#, page(&seen.target) + 1))
    })
    .await;
    let error = referrers(&registry(), &server).await.unwrap_err();
    assert!(matches!(error, RegistryError::Link { .. }), "{error}");
    assert!(error.to_string().ends_with("the last 10 pages brought nothing new"), "{error}");
    assert_eq!(server.lines().len(), 11);
    let server = Server::start(move |seen| {
        let mut entry = entry(&seen.target);
        entry["annotations"] = json!({"padding": "x".repeat(3 << 20)});
        let listed = reply(200).header("Content-Type", INDEX_TYPE).body(index(&[entry]));
        listed.header("Link", &format!(r#"<?p={}>; rel="next""#, page(&seen.target) + 1))
    })
    .await;
    let error = referrers(&registry(), &server).await.unwrap_err();
    assert!(matches!(error, RegistryError::ListingTooLarge { .. }), "{error}");
    assert!(error.to_string().ends_with("more than 16 MiB together"), "{error}");
}

/// A list has what a descriptor is and says of itself, and of annotations no more than memory has.
#[tokio::test]
async fn little_is_kept_of_an_entry() {
    let mut small = entry("small");
    small["annotations"] = json!({"a": "b"});
    small["artifactType"] = "x/y".into();
    small["data"] = "c21hbGw=".into();
    small["urls"] = json!(["https://r.example/x"]);
    let mut large = entry("large");
    large["annotations"] = json!({"a": "x".repeat(2 << 20)});
    let listed = reply(200).header("Content-Type", INDEX_TYPE).body(index(&[small, large]));
    let server = server(listed, reply(500)).await;
    let found = registry().referrers(&server.repository(), &subject()).await.unwrap();
    assert_eq!((&found[0].artifact_type, found[0].annotations.len()), (&Some("x/y".to_owned()), 1));
    assert_eq!((&found[0].data, found[0].urls.len()), (&None, 0));
    assert_eq!(found[1].annotations.len(), 0);
}

/// Whatever stands under the tag and is no manifest lists nothing, and says so.
#[tokio::test]
async fn what_is_no_manifest_is_no_list() {
    const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
    let artifact =
        reply(200).header("Content-Type", ARTIFACT).body(format!(r#"{{"mediaType":"{ARTIFACT}"}}"#));
    let html = reply(200).header("Content-Type", "text/html").body("<html>");
    for answer in [artifact, html, reply(200).body("<html>"), reply(200).body("{}")] {
        let shown = format!("{answer:?}");
        let server = server(reply(404), answer).await;
        assert_eq!(referrers(&registry(), &server).await.unwrap(), [], "{shown}");
    }
}

/// GitLab's registry takes the tag for the digest: the children of an index are not its referrers.
#[tokio::test]
async fn the_subject_itself_is_not_its_list() {
    let itself = index(&[entry("child")]);
    let digest = Digest::sha256(&itself);
    let tag = reply(200).header("Content-Type", INDEX_TYPE).body(itself);
    let server = server(reply(404), tag).await;
    let found = registry().referrers(&server.repository(), &digest).await.unwrap();
    assert_eq!(found, []);
}

/// A tag of that form which names an image lists nothing, and says so.
#[tokio::test]
async fn an_image_is_no_list() {
    let other = String::from_utf8_lossy(MANIFEST).replace("\"layers\":[]", "\"layers\":null");
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&warnings);
    let observer = Arc::new(move |notice| heard.lock().unwrap().push(notice));
    let registry = Registry::new(Options { observer, ..options() }).unwrap();
    let server = server(reply(404), reply(200).header("Content-Type", MANIFEST_TYPE).body(other)).await;
    assert_eq!(referrers(&registry, &server).await.unwrap(), []);
    let warnings = warnings.lock().unwrap();
    assert!(matches!(&warnings[..], [Notice::Warning(text)] if text.contains("sha256-")), "{warnings:?}");
}

/// Tags that may not exist: not found is an answer, everything else is as for any tag.
#[tokio::test]
async fn tags_that_may_not_be_there() {
    let tag: Tag = "sha256-00.sig".parse().unwrap();
    for (answer, expected) in [
        (manifest_reply(), Ok(true)),
        (reply(404), Ok(false)),
        (reply(403), Err(Kind::Auth)),
        (reply(500), Err(Kind::Network)),
        (reply(200).body("<html>"), Err(Kind::Integrity)),
    ] {
        let server = Server::start(move |_| answer.clone()).await;
        let found = registry().tagged(&server.repository(), &tag).await;
        let found = found.map(|found| found.map(|(descriptor, _)| descriptor.digest));
        match found {
            Ok(found) => assert_eq!((Ok(found.is_some()), found.unwrap_or(subject())), (expected, subject())),
            Err(error) => assert_eq!(Err(error.kind()), expected),
        }
    }
}
