//! Whom credentials are for: nobody but the registry and the token service that it names, and for reading only, whatever a
//! hostile registry says.

use serde_json::json;

use crate::support::{Fault, FaultRegistry, PushedImage, TestContext, check_layout, image, text};

const USER: &str = "someone";
const PASSWORD: &str = "open-sesame";
const BOTH: &str = "someone:open-sesame";

fn pushed(registry: &FaultRegistry) -> PushedImage {
    registry.push(image().layer(text(3000)))
}

fn challenge(text: String) -> Fault {
    Fault::StatusWith { status: 401, headers: vec![("WWW-Authenticate", text)], body: Vec::new() }
}

fn saw_no_credentials(registry: &FaultRegistry) -> bool {
    let requests = registry.requests();
    requests.iter().all(|request| request.header("authorization").is_none() && request.body.is_empty())
}

/// Another port of the same host is another origin: neither a manifest's redirect nor a token service's takes a password
/// along, and the other's challenge is not met.
#[test]
fn other_ports_are_other_origins() {
    for is_token in [false, true] {
        let other = FaultRegistry::builder().token_auth().start();
        pushed(&other);
        let registry = FaultRegistry::builder().token_auth().token_user(USER, PASSWORD).start();
        let pushed = pushed(&registry);
        if is_token {
            registry.on_token().always(Fault::Redirect(format!("{}/token", other.url())));
        } else {
            let url = format!("{}/v2/app/manifests/{}", other.url(), pushed.tag());
            registry.on_head(pushed.tag()).always(Fault::Redirect(url.clone()));
            registry.on_manifest(pushed.tag()).always(Fault::Redirect(url));
        }
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).args(["--creds", BOTH]).run();
        assert!(!other.requests().is_empty());
        assert!(saw_no_credentials(&other), "{:?}", other.requests());
        if !is_token {
            assert_eq!((outcome.code, other.tokens_issued()), (Some(4), 0), "{}", outcome.report());
            assert!(!context.out().exists());
        }
    }
}

/// The form that exchanges an identity token holds a secret, and is not sent on to wherever the answer points.
#[test]
fn an_exchange_is_not_redirected() {
    let other = FaultRegistry::builder().token_auth().identity_token("refresh-me").start();
    let registry = FaultRegistry::builder().token_auth().identity_token("refresh-me").start();
    let pushed = pushed(&registry);
    let context = TestContext::new();
    let folder = context.home().join(".docker");
    std::fs::create_dir_all(&folder).expect("the home is writable");
    let config = json!({ "auths": { registry.host(): { "identitytoken": "refresh-me" } } });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("the home is writable");
    registry.on_token().always(Fault::Redirect(format!("{}/token", other.url())));
    context.fetch(&registry, &pushed).fails_with(4);
    assert!(other.requests().is_empty(), "{:?}", other.asked());
    registry.mend();
    context.fetch(&registry, &pushed).success();
    check_layout(&context.out());
}

/// A registry that names a shared token service gets no token for writing, nor for other kinds of things, be it in the scope
/// or in the service's address.
#[test]
fn a_challenge_asks_for_reading_only() {
    let tokens = FaultRegistry::builder().token_auth().token_user(USER, PASSWORD).start();
    let registry = FaultRegistry::builder().token_server(&tokens).start();
    let pushed = pushed(&registry);
    let realm = format!("{}/token?scope=repository:prod:push&offline_token=true", tokens.url());
    let scope = "repository:prod:push,delete registry:catalog:* api repository:app:pull,push";
    let hostile = challenge(format!("Bearer realm=\"{realm}\",service=\"a&scope=x\",scope=\"{scope}\""));
    registry.on_path("/v2/").once(hostile);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--creds", BOTH]).success();
    let requests = tokens.requests();
    assert_eq!(requests[0].parameters("scope"), ["repository:app:pull"]);
    assert_eq!(requests[0].parameters("service"), ["a&scope=x"]);
    assert!(requests[0].parameters("offline_token").is_empty());
    check_layout(&context.out());
}

/// Realms that are no token service: other schemes, users of their own, none at all. Nobody is asked.
#[test]
fn realms_that_are_none() {
    for realm in
        ["", "/token", "file:///etc/passwd", "ftp://127.0.0.1/token", "javascript:alert(1)", "http://[x/"]
    {
        let registry = FaultRegistry::start();
        let pushed = pushed(&registry);
        registry.on_path("/v2/").always(challenge(format!("Bearer realm=\"{realm}\",service=\"s\"")));
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(["--creds", BOTH]).fails_with(4);
        assert!(saw_no_credentials(&registry), "{realm}");
        assert!(!context.out().exists());
    }
}

/// What cannot be a name cannot be a header or another path either: it is wrong usage, before anybody is asked.
#[test]
fn names_inject_nothing() {
    let registry = FaultRegistry::start();
    let host = registry.host();
    let hex = "0".repeat(64);
    for rest in [
        "app:v1\r\nX-Evil: 1",
        "app\r\n:v1",
        "app\n",
        "app%0d%0a:v1",
        "app%2f..%2fother:v1",
        "../app:v1",
        "app/../other:v1",
        "app//other:v1",
        "app?scope=x:v1",
        "app#x",
        "app:v1?x=y",
        "app:v1/../../other",
        "app:..",
        "app: v1",
        "app:v1\t",
        "user:password@app:v1",
        "app@sha256:../../blobs",
        &format!("app@sha256:{hex}/../x"),
        &format!("app@sha256:{hex}\r\nX-Evil: 1"),
        &format!("app@sha256:{}", &hex[1..]),
        &format!("app@../sha256:{hex}"),
        "app@md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let context = TestContext::new();
        let outcome = context.run(["fetch", &format!("{host}/{rest}")]).arg(context.out()).fails_with(2);
        assert!(!outcome.stderr.contains("\nX-Evil"), "{}", outcome.stderr);
    }
    for name in
        ["127.0.0.1:5000\r\nX-Evil: 1/app", "r.example:80@evil/app", "r.example:99999999/app", "[::1/app"]
    {
        let context = TestContext::new();
        context.run(["fetch", name]).arg(context.out()).fails_with(2);
    }
    assert!(registry.requests().is_empty());
}
