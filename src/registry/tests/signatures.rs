//! Simple signing: lookasides and the registry's own extension.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use url::Url;

use super::*;

fn manifest() -> Digest {
    Digest::sha256(MANIFEST)
}

fn place(number: usize) -> String {
    format!("/sigs/team/app@sha256={}/signature-{number}", manifest().hex())
}

fn base(server: &Server) -> Url {
    Url::parse(&format!("http://{}/sigs", server.address)).unwrap()
}

/// A server that is a lookaside with these signatures, and a registry that keeps none.
async fn lookaside(signatures: &'static [&'static [u8]]) -> Server {
    Server::start(move |seen| match seen.target.rsplit_once("signature-") {
        Some((_, number)) => match signatures.get(number.parse::<usize>().unwrap() - 1) {
            Some(signature) => reply(200).body(*signature),
            None => reply(404),
        },
        None => reply(200),
    })
    .await
}

async fn signatures(
    registry: &Registry,
    server: &Server,
    base: Option<&Url>,
) -> Result<Vec<Bytes>, RegistryError> {
    let (repository, manifest, mut room) = (server.repository(), manifest(), SIGNATURES_CAP);
    let mut found = match base {
        Some(base) => registry.signatures_aside(&repository, &manifest, base, &mut room).await?,
        None => Vec::new(),
    };
    found.extend(registry.signatures_kept(&repository, &manifest, &mut room).await?);
    Ok(found)
}

/// However many manifests an image has, its signatures are in memory at a time.
#[tokio::test]
async fn all_signatures_together_have_an_end() {
    let server = lookaside(&[b"0123456789", b"0123456789"]).await;
    let (repository, base, registry) = (server.repository(), base(&server), registry());
    let mut room = 45;
    for _ in 0..2 {
        registry.signatures_aside(&repository, &manifest(), &base, &mut room).await.unwrap();
    }
    let error = registry.signatures_aside(&repository, &manifest(), &base, &mut room).await.unwrap_err();
    assert!(matches!(error, RegistryError::SignaturesTooLarge { .. }), "{error}");
    assert!(error.to_string().ends_with("more than 64 MiB together"), "{error}");
}

/// A registry whose ping fails served the image all the same: it keeps no signatures, with a warning.
#[tokio::test]
async fn a_ping_may_fail() {
    for status in [403, 404, 500] {
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&warnings);
        let observer = Arc::new(move |notice| heard.lock().unwrap().push(notice));
        let registry = Registry::new(Options { observer, ..options() }).unwrap();
        let server = Server::start(move |_| reply(status)).await;
        for _ in 0..2 {
            assert_eq!(signatures(&registry, &server, None).await.unwrap(), [""; 0], "{status}");
        }
        let warnings = warnings.lock().unwrap();
        let told = warnings.iter().filter(|notice| matches!(notice, Notice::Warning(_))).count();
        assert_eq!(told, usize::from(status == 500), "{status} {warnings:?}");
    }
}

/// From 1 to the first that is not there, as they are, and never with what is for the registry.
#[tokio::test]
async fn a_lookaside_is_read_to_its_end() {
    let server = lookaside(&[b"one", b"\x00two", b""]).await;
    let registry = with_credentials(&server, Credentials::RegistryToken("secret".into()));
    let found = signatures(&registry, &server, Some(&base(&server))).await.unwrap();
    assert_eq!(found, [&b"one"[..], b"\x00two", b""]);
    let mut expected: Vec<String> = (1..=4).map(|number| format!("GET {}", place(number))).collect();
    expected.push("GET /v2/".to_owned());
    assert_eq!(server.lines(), expected);
    assert!(server.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

/// The wait that a lookaside asks for is its own, and it is tried again like any server.
#[tokio::test]
async fn a_lookaside_is_tried_again() {
    let calls = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        reply(match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => 503,
            1 => 200,
            _ => 404,
        })
    })
    .await;
    let found = signatures(&registry(), &server, Some(&base(&server))).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(server.lines()[..2], [format!("GET {}", place(1)), format!("GET {}", place(1))]);
}

/// What is signed must not look unsigned: only 404 ends the list.
#[tokio::test]
async fn other_answers_are_errors() {
    for (status, kind) in [(403, Kind::Auth), (400, Kind::Other), (500, Kind::Network)] {
        let server = Server::start(move |_| reply(status)).await;
        let error = signatures(&registry(), &server, Some(&base(&server))).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
    }
    let endless = Server::start(|_| reply(200).body("x")).await;
    let error = signatures(&registry(), &endless, Some(&base(&endless))).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooMany { most: 128, .. }), "{error}");
    let large = Server::start(|_| reply(200).body(vec![b'x'; (4 << 20) + 1])).await;
    let error = signatures(&registry(), &large, Some(&base(&large))).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

/// A folder on this machine serves as well, and one that is not there has nothing.
#[tokio::test]
async fn a_lookaside_may_be_a_folder() {
    let server = Server::start(|_| reply(404)).await;
    let folder = tempfile::tempdir().unwrap();
    let base = Url::from_file_path(folder.path().join("s t")).unwrap();
    assert_eq!(signatures(&registry(), &server, Some(&base)).await.unwrap(), [""; 0]);

    let image = folder.path().join("s t/team").join(format!("app@sha256={}", manifest().hex()));
    std::fs::create_dir_all(&image).unwrap();
    for (number, text) in [(1, "one"), (2, "two"), (4, "behind a gap")] {
        std::fs::write(image.join(format!("signature-{number}")), text).unwrap();
    }
    assert_eq!(signatures(&registry(), &server, Some(&base)).await.unwrap(), ["one", "two"]);

    std::fs::create_dir(image.join("signature-3")).unwrap();
    let error = signatures(&registry(), &server, Some(&base)).await.unwrap_err();
    assert!(matches!(error, RegistryError::SignatureFile { .. }), "{error}");
    std::fs::remove_dir(image.join("signature-3")).unwrap();
    let large = std::fs::File::create(image.join("signature-3")).unwrap();
    large.set_len((4 << 20) + 1).unwrap();
    let error = signatures(&registry(), &server, Some(&base)).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

/// A lookaside that is configured may send elsewhere on the web, and not to the files of this machine.
#[tokio::test]
async fn a_lookaside_redirects_on_the_web_only() {
    let target = lookaside(&[b"one"]).await;
    let location = format!("http://{}", target.address);
    let server = Server::start(move |seen| {
        let location = format!("{location}{}", seen.target);
        if seen.target.starts_with("/v2/") { reply(404) } else { reply(302).header("Location", &location) }
    })
    .await;
    assert_eq!(signatures(&registry(), &server, Some(&base(&server))).await.unwrap(), ["one"]);
    let server = Server::start(|_| reply(302).header("Location", "file:///etc/passwd")).await;
    let error = signatures(&registry(), &server, Some(&base(&server))).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
}

/// A registry that keeps signatures says so to everybody, even in a challenge; it is asked once whether it does, and for
/// the signatures with what is for the repository.
#[tokio::test]
async fn a_registry_may_keep_them_itself() {
    let listed = |text: &str| json!({"schemaVersion": 2, "type": "atomic", "content": STANDARD.encode(text)});
    let list = json!({"signatures": [listed("one"), listed("two")]}).to_string();
    let server = Server::start(move |seen| match seen.header("authorization") {
        _ if seen.target == place(1) => reply(200).body("one"),
        _ if seen.target.starts_with("/sigs/") => reply(404),
        Some(BASIC) if seen.target.starts_with("/extensions/") => reply(200).body(list.clone()),
        Some(_) => reply(500),
        None => reply(401)
            .header("WWW-Authenticate", "Basic realm=\"r\"")
            .header("X-Registry-Supports-Signatures", "1"),
    })
    .await;
    let registry = with_credentials(&server, basic());
    let found = signatures(&registry, &server, Some(&base(&server))).await.unwrap();
    assert_eq!(found, ["one", "one", "two"]);
    let extension = format!("GET /extensions/v2/team/app/signatures/{}", manifest());
    let expected =
        [&format!("GET {}", place(1)), &format!("GET {}", place(2)), "GET /v2/", &extension, &extension];
    assert_eq!(server.lines(), expected);
    assert_eq!(signatures(&registry, &server, None).await.unwrap(), ["one", "two"]);
    assert_eq!(server.lines()[5..], [extension]);
}

/// Without the header the extension is not asked for; a registry that says it has it and knows nothing has none.
#[tokio::test]
async fn the_extension_is_asked_for_when_there_is_one() {
    for (header, status, asked, expected) in [
        ("", 200, false, Ok(0)),
        ("0", 200, false, Ok(0)),
        ("1", 404, true, Ok(0)),
        ("1", 200, true, Ok(0)),
        ("1", 500, true, Err(Kind::Network)),
        ("1", 201, true, Err(Kind::Other)),
    ] {
        let server = Server::start(move |seen| match seen.target.as_str() {
            "/v2/" => reply(200).header("X-Registry-Supports-Signatures", header),
            _ => reply(status).body("{}"),
        })
        .await;
        let found = signatures(&registry(), &server, None).await;
        assert_eq!(
            found.map(|found| found.len()).map_err(|error| error.kind()),
            expected,
            "{header} {status}"
        );
        assert_eq!(server.lines().len() > 1, asked, "{header} {status}");
    }
}
