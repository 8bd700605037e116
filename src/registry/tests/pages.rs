//! Listings in pages, by the tags of a repository.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Two pages, the first of which links to the second with `link`.
fn two_pages(link: &str) -> impl Fn(&Seen) -> Reply + Send + Sync + use<> {
    let link = link.to_owned();
    move |seen| {
        if seen.target.contains("last=") {
            reply(200).body(r#"{"name":"team/app","tags":["b","c"]}"#)
        } else {
            reply(200).header("Link", &link).body(r#"{"name":"team/app","tags":["a","b"]}"#)
        }
    }
}

const NEXT: &str = r#"</v2/team/app/tags/list?last=b&n=1000>; rel="next""#;

async fn tags(registry: &Registry, server: &Server) -> Result<Vec<String>, RegistryError> {
    let tags = registry.tags(&server.repository()).await?;
    Ok(tags.iter().map(ToString::to_string).collect())
}

/// All pages in their order, each tag once, all with the credentials of the repository.
#[tokio::test]
async fn pages_are_followed_with_credentials() {
    let pages = two_pages(NEXT);
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some(BASIC) => pages(seen),
        _ => reply(401).header("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let registry = with_credentials(&server, basic());
    assert_eq!(tags(&registry, &server).await.unwrap(), ["a", "b", "c"]);
    let (first, second) = ("GET /v2/team/app/tags/list?n=1000", "GET /v2/team/app/tags/list?last=b&n=1000");
    assert_eq!(server.lines(), [first, first, second]);
}

/// A registry behind a proxy does not know of its TLS: its links in plain http are followed over TLS.
#[tokio::test]
async fn a_link_does_not_leave_tls() {
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let address = Arc::new(OnceLock::new());
    let known: Arc<OnceLock<SocketAddr>> = Arc::clone(&address);
    let server = Server::start_tls(&certificate, move |seen| {
        let link = format!(r#"<http://{}/v2/team/app/tags/list?last=b>; rel="next""#, known.get().unwrap());
        two_pages(&link)(seen)
    })
    .await;
    address.set(server.address).unwrap();
    let options = Options { verification: ServerVerification::Disabled, ..options() };
    let registry = Registry::new(options).unwrap();
    assert_eq!(tags(&registry, &server).await.unwrap(), ["a", "b", "c"]);
}

/// A link to another registry is an error: it would get credentials, or mix its tags into the list.
#[tokio::test]
async fn a_link_to_another_registry_is_refused() {
    let other = Server::start(two_pages(NEXT)).await;
    let link = format!(r#"<http://{}/v2/team/app/tags/list?last=b>; rel="next""#, other.address);
    let server = Server::start(two_pages(&link)).await;
    let error = tags(&registry(), &server).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Network);
    let expected = format!("it leads to http://{}/v2/team/app/tags/list, which", other.address);
    assert!(error.to_string().contains(&expected), "{error}");
    assert_eq!(other.lines(), [""; 0]);
    assert_eq!(server.lines().len(), 1);
}

/// A registry that links to the page it is on would be asked for ever.
#[tokio::test]
async fn a_circle_of_pages_is_an_error() {
    let server =
        Server::start(|_| reply(200).header("Link", r#"<?n=1000>; rel="next""#).body(r#"{"tags":["a"]}"#))
            .await;
    let error = tags(&registry(), &server).await.unwrap_err();
    assert!(error.to_string().contains("the pages go in a circle"), "{error}");
    assert_eq!(server.lines().len(), 1);
}

/// A page that fails is asked for again, not the whole list.
#[tokio::test]
async fn each_page_has_its_tries() {
    let pages = two_pages(NEXT);
    let failed = [AtomicBool::new(false), AtomicBool::new(false)];
    let server = Server::start(move |seen| {
        let page = usize::from(seen.target.contains("last="));
        if failed[page].swap(true, Ordering::SeqCst) { pages(seen) } else { reply(503) }
    })
    .await;
    assert_eq!(tags(&registry(), &server).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(server.lines().len(), 4);
}

/// A registry that sends elsewhere for its list (registry.k8s.io does) has its pages there, and its credentials do not
/// go there.
#[tokio::test]
async fn pages_elsewhere_come_without_credentials() {
    let elsewhere = Server::start(two_pages(NEXT)).await;
    let location = format!("http://{}/v2/team/app/tags/list?n=1000", elsewhere.address);
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some(BASIC) => reply(307).header("Location", &location),
        _ => reply(401).header("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let registry = with_credentials(&server, basic());
    assert_eq!(tags(&registry, &server).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(elsewhere.lines().len(), 2);
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

/// What registries write where there are no tags, and what none should write.
#[tokio::test]
async fn bodies_of_lists() {
    /// A body, the tags in it, and how the warning ends.
    type Case = (&'static str, Option<&'static [&'static str]>, Option<&'static str>);
    let cases: [Case; 12] = [
        (r#"{"name":"team/app","tags":null}"#, Some(&[]), None),
        (r#"{"name":"team/app","tags":[]}"#, Some(&[]), None),
        (r#"{"name":"team/app"}"#, Some(&[]), None),
        (r#"{"child":[],"manifest":{"sha256:aa":{}},"name":"x","tags":["a"]}"#, Some(&["a"]), None),
        (r#"{"tags":["b","a","b"]}"#, Some(&["b", "a"]), None),
        (r#"{"tags":["-a","b"]}"#, Some(&["b"]), Some(r#"1 in all, among them "-a""#)),
        (r#"{"tags":["","b",null,7,"é"]}"#, Some(&["b"]), Some(r#"4 in all, among them """#)),
        (r#"{"tags":["\u001b[2J"]}"#, Some(&[]), Some(r#"1 in all, among them "\u{1b}[2J""#)),
        (r#"{"tags":"a"}"#, None, None),
        ("[]", None, None),
        ("<html>log in</html>", None, None),
        ("", None, None),
    ];
    for (body, expected, warned) in cases {
        let server = Server::start(move |_| reply(200).body(body)).await;
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&warnings);
        let observer = Arc::new(move |notice| log.lock().unwrap().push(notice));
        let registry = Registry::new(Options { observer, ..options() }).unwrap();
        match (tags(&registry, &server).await, expected) {
            (Ok(found), Some(expected)) => assert_eq!(found, expected, "{body}"),
            (Err(error), None) => assert_eq!(error.kind(), Kind::Integrity, "{body}: {error}"),
            (found, _) => panic!("{body}: {found:?}"),
        }
        let warnings = warnings.lock().unwrap();
        assert_eq!(warnings.len(), usize::from(warned.is_some()), "{body}: {warnings:?}");
        for (notice, warned) in warnings.iter().zip(warned) {
            let Notice::Warning(text) = notice else { panic!("{notice:?}") };
            assert!(text.ends_with(warned), "{text}");
        }
    }
}

/// A registry that refuses a number of entries is asked without one.
#[tokio::test]
async fn a_refused_number_is_left_out() {
    let server = Server::start(|seen| {
        if seen.target.contains("n=") { reply(400) } else { reply(200).body(r#"{"tags":["a"]}"#) }
    })
    .await;
    assert_eq!(tags(&registry(), &server).await.unwrap(), ["a"]);
    assert_eq!(server.lines(), ["GET /v2/team/app/tags/list?n=1000", "GET /v2/team/app/tags/list"]);
}

/// A page is a document with a cap like any other; a missing repository is "not found", on a later page too.
#[tokio::test]
async fn pages_that_fail() {
    let server = Server::start(|_| reply(200).body(vec![b' '; 33 << 20])).await;
    let error = tags(&registry(), &server).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { cap: 0x200_0000, .. }), "{error}");
    let server = Server::start(|_| reply(404)).await;
    assert_eq!(tags(&registry(), &server).await.unwrap_err().kind(), Kind::NotFound);
    let pages = two_pages(NEXT);
    let server =
        Server::start(move |seen| if seen.target.contains("last=") { reply(404) } else { pages(seen) }).await;
    assert_eq!(tags(&registry(), &server).await.unwrap_err().kind(), Kind::NotFound);
}
