//! Who asks: anonymous, with a password, with a token, with what files hold; and who is never told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{
    Fault, FaultRegistry, Gate, MIB, PushedImage, Request, TestContext, check_layout, image, random,
    random_from,
};

const USER: &str = "someone";
const PASSWORD: &str = "open:sesame";
/// What `--creds` gets.
const BOTH: &str = "someone:open:sesame";

/// More than the bodies of a handful of refusals, which count as answers for blobs too, and less than any layer.
const REFUSALS: u64 = 2000;

fn several_layers(registry: &FaultRegistry) -> PushedImage {
    registry.push((0..6).fold(image(), |image, seed| image.layer(random_from(seed, 20_000))))
}

fn basic() -> FaultRegistry {
    FaultRegistry::builder().basic_auth(USER, PASSWORD).start()
}

fn with_user() -> FaultRegistry {
    FaultRegistry::builder().token_auth().token_user(USER, PASSWORD).start()
}

/// How often the token endpoint was asked, and what the registry's answers were asked with.
fn token_requests(registry: &FaultRegistry) -> usize {
    registry.requests().iter().filter(|request| request.path == "/token").count()
}

/// Writes `~/.docker/config.json` with this entry for the registry.
fn write_config(context: &TestContext, registry: &FaultRegistry, entry: &Value) {
    let folder = context.home().join(".docker");
    std::fs::create_dir_all(&folder).expect("the home is writable");
    let config = json!({ "auths": { registry.host(): entry } });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("the home is writable");
}

/// An open registry is asked without credentials, even when there are some for it.
#[test]
fn who_is_not_asked_sends_no_credentials() {
    let registry = FaultRegistry::start();
    let pushed = several_layers(&registry);
    let context = TestContext::new();
    write_config(&context, &registry, &json!({ "username": USER, "password": PASSWORD }));
    context.fetch(&registry, &pushed).success();
    assert!(registry.requests().iter().all(|request| request.header("authorization").is_none()));
    check_layout(&context.out());
}

/// Basic: one refusal for each image, then every request carries the password.
#[test]
fn basic_credentials_from_every_option() {
    for from_stdin in [false, true] {
        let registry = basic();
        let pushed = several_layers(&registry);
        let context = TestContext::new();
        let run = context.fetch(&registry, &pushed);
        let run = if from_stdin {
            run.args(["--username", USER, "--password-stdin"]).stdin(format!("{PASSWORD}\n"))
        } else {
            run.args(["--creds", BOTH])
        };
        run.success();
        let refused =
            registry.requests().iter().filter(|request| request.header("authorization").is_none()).count();
        assert_eq!(refused, 1, "{:?}", registry.asked());
        check_layout(&context.out());
    }
}

/// One token serves the manifest and all blobs, however many connections ask at once.
#[test]
fn one_token_serves_the_whole_image() {
    for field in ["token", "access_token"] {
        let registry = FaultRegistry::builder().token_auth().token_field(field).start();
        let pushed = several_layers(&registry);
        let context = TestContext::new();
        context.fetch(&registry, &pushed).success();
        assert_eq!(token_requests(&registry), 1, "{:?}", registry.asked());
        let request =
            registry.requests().into_iter().find(|request| request.path == "/token").expect("asked");
        assert_eq!(request.method, "GET");
        assert_eq!(request.parameters("service"), ["fault-registry"]);
        assert_eq!(request.parameters("scope"), ["repository:app:pull"]);
        assert_eq!(request.header("authorization"), None);
        check_layout(&context.out());
    }
}

/// The token service gets the password; the registry gets the token and nothing else.
#[test]
fn a_password_goes_to_the_token_service_only() {
    let registry = with_user();
    let pushed = several_layers(&registry);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--creds", BOTH]).success();
    for request in registry.requests() {
        let is_token = request.path == "/token";
        if is_token {
            assert_eq!(request.parameters("account"), [USER]);
        }
        let scheme = if is_token { "Basic " } else { "Bearer " };
        assert!(
            request.header("authorization").is_none_or(|value| value.starts_with(scheme)),
            "{}",
            request.path
        );
    }
    check_layout(&context.out());
}

/// A token that runs out in the middle is renewed, as often as that happens, whichever status says so.
#[test]
fn a_token_is_renewed_as_often_as_it_expires() {
    for status in [401, 400, 403] {
        let registry = FaultRegistry::builder().token_auth().token_uses(2).token_refusal(status).start();
        let pushed = several_layers(&registry);
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(["--connections", "1"]).success();
        assert!(token_requests(&registry) >= 3, "{status}: {:?}", registry.asked());
        assert!(registry.blob_bytes_sent() < pushed.blob_bytes() + REFUSALS);
        check_layout(&context.out());
    }
}

/// A token that ends in the middle of a large layer costs no byte of what is there.
#[test]
fn a_token_that_ends_within_a_layer_costs_nothing() {
    let registry = FaultRegistry::builder().token_auth().start();
    let pushed = registry.push(image().layer(random(4 * MIB)));
    let gate = Gate::new();
    registry
        .on_blob(pushed.layer(0))
        .once(Fault::All(vec![Fault::HoldAfter(MIB, gate.clone()), Fault::CutAfter(MIB + 1000)]));
    let context = TestContext::new();
    let running = context.fetch(&registry, &pushed).args(["--connections", "1"]).spawn();
    gate.wait_for_arrivals(1);
    registry.revoke_tokens();
    gate.open();
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    assert_eq!(registry.tokens_issued(), 2);
    assert!(registry.blob_bytes_sent() < pushed.blob_bytes() + REFUSALS);
    check_layout(&context.out());
}

/// Two different fresh tokens refused: that is an answer, exit 4, and not a reason to ask for ever.
#[test]
fn two_refused_tokens_are_an_answer() {
    let registry = FaultRegistry::builder().token_auth().token_uses(0).start();
    let pushed = several_layers(&registry);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).fails_with(4);
    assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    // HEAD and GET, two tokens each at most.
    assert!((2..=4).contains(&token_requests(&registry)), "{:?}", registry.asked());
    assert!(!context.out().exists());
}

/// A wrong password: exit 4 with a hint that says what to do, asked once or twice but not five times.
#[test]
fn a_wrong_password_is_exit_4_with_a_hint() {
    for registry in [basic(), with_user()] {
        let pushed = several_layers(&registry);
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &pushed).args(["--creds", "someone:wrong-one"]).fails_with(4);
        assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("--creds"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(&pushed.reference()), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("wrong-one"), "{}", outcome.stderr);
        assert!(registry.requests().len() <= 6, "{:?}", registry.asked());
        assert!(!context.out().exists());
    }
}

/// No credentials where some are needed: exit 4, with the registry's words and the hint.
#[test]
fn missing_credentials_are_exit_4_with_a_hint() {
    for registry in [basic(), with_user()] {
        let pushed = several_layers(&registry);
        let outcome = TestContext::new().fetch(&registry, &pushed).fails_with(4);
        assert!(outcome.stderr.contains("UNAUTHORIZED: authentication required"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    }
}

/// Big registries answer 401 or 403 for what does not exist: the hint says both.
#[test]
fn a_repository_that_is_denied_may_not_exist() {
    for status in [401, 403] {
        let registry = FaultRegistry::start();
        registry.on_path("/v2/none/").always(Fault::Status(status));
        let context = TestContext::new();
        let outcome =
            context.run(["fetch", &format!("{}/none:v1", registry.host())]).arg(context.out()).fails_with(4);
        for words in ["does not exist", "needs a login"] {
            assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        }
        assert!(!context.out().exists());
    }
}

/// A token from elsewhere is sent as it is, and nobody is asked for another.
#[test]
fn a_registry_token_is_sent_as_it_is() {
    let registry = FaultRegistry::start();
    let pushed = several_layers(&registry);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--registry-token", "from-elsewhere"]).success();
    let sent = |request: &Request| request.header("authorization") == Some("Bearer from-elsewhere");
    assert!(registry.requests().iter().all(sent));
    check_layout(&context.out());
    let registry = FaultRegistry::builder().token_auth().start();
    let pushed = several_layers(&registry);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--registry-token", "from-elsewhere"]).fails_with(4);
    assert_eq!(token_requests(&registry), 0);
}

/// Every form in which Docker's file holds a login, found under the home and under `DOCKER_CONFIG`.
#[test]
fn logins_from_dockers_file() {
    for entry in [json!({ "auth": STANDARD.encode(BOTH) }), json!({ "username": USER, "password": PASSWORD })]
    {
        for registry in [basic(), with_user()] {
            let pushed = several_layers(&registry);
            let context = TestContext::new();
            write_config(&context, &registry, &entry);
            context.fetch(&registry, &pushed).success();
            check_layout(&context.out());

            let elsewhere = context.path().join("elsewhere");
            std::fs::rename(context.home().join(".docker"), &elsewhere).expect("the home is writable");
            std::fs::remove_dir_all(context.out()).expect("OUT is there");
            context.fetch(&registry, &pushed).fails_with(4);
            context.fetch(&registry, &pushed).env("DOCKER_CONFIG", &elsewhere).success();
        }
    }
}

/// What is given by option goes before what a file holds.
#[test]
fn options_go_before_files() {
    let registry = basic();
    let pushed = several_layers(&registry);
    let context = TestContext::new();
    write_config(&context, &registry, &json!({ "username": "stale", "password": "stale" }));
    context.fetch(&registry, &pushed).args(["--creds", BOTH]).success();
    let stale = STANDARD.encode("stale:stale");
    let sent = |request: &Request| request.header("authorization").is_some_and(|h| h.contains(&stale));
    assert!(!registry.requests().iter().any(sent));
}

/// An identity token is exchanged by POST; where the service knows no POST, it is the password of a GET.
#[test]
fn identity_tokens_are_exchanged() {
    let registry =
        FaultRegistry::builder().token_auth().identity_token("refresh-me").token_user("x", "y").start();
    let pushed = several_layers(&registry);
    let context = TestContext::new();
    write_config(&context, &registry, &json!({ "identitytoken": "refresh-me" }));
    context.fetch(&registry, &pushed).success();
    let requests = registry.requests();
    let exchanges: Vec<_> = requests.iter().filter(|request| request.path == "/token").collect();
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0].method, "POST");
    assert_eq!(exchanges[0].fields("grant_type"), ["refresh_token"]);
    assert_eq!(exchanges[0].fields("client_id"), ["ocipull"]);
    assert_eq!(exchanges[0].fields("scope"), ["repository:app:pull"]);
    check_layout(&context.out());

    let registry = FaultRegistry::builder().token_auth().token_user(USER, "refresh-me").start();
    let pushed = several_layers(&registry);
    let context = TestContext::new();
    let auth = STANDARD.encode(format!("{USER}:"));
    write_config(&context, &registry, &json!({ "auth": auth, "identitytoken": "refresh-me" }));
    context.fetch(&registry, &pushed).success();
    let requests = registry.requests();
    let methods: Vec<_> = requests
        .iter()
        .filter(|request| request.path == "/token")
        .map(|request| request.method.as_str())
        .collect();
    assert_eq!(methods, ["POST", "GET"]);
}

/// An entry that cannot be decoded fails its own registry only.
#[test]
fn a_broken_entry_fails_its_own_registry() {
    let (broken, fine) = (FaultRegistry::start(), FaultRegistry::start());
    let context = TestContext::new();
    write_config(&context, &broken, &json!({ "auth": "%%%" }));
    let outcome = context.fetch(&broken, &several_layers(&broken)).fails_with(4);
    assert!(outcome.stderr.contains(&broken.host()), "{}", outcome.stderr);
    context.fetch(&fine, &several_layers(&fine)).success();
}

/// The storage that blobs are redirected to never sees credentials, be they a password or a token.
#[test]
fn credentials_stay_with_the_registry() {
    for token in [false, true] {
        let storage = FaultRegistry::start();
        let builder = FaultRegistry::builder().redirect_blobs_to(&storage).signed_urls();
        let builder = if token {
            builder.token_auth().token_user(USER, PASSWORD)
        } else {
            builder.basic_auth(USER, PASSWORD)
        };
        let registry = builder.start();
        let pushed = several_layers(&registry);
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(["--creds", BOTH]).success();
        assert_eq!(storage.blob_bytes_sent(), pushed.blob_bytes());
        assert!(storage.requests().iter().all(|request| request.header("authorization").is_none()));
        check_layout(&context.out());
    }
}

/// The loudest log holds no password, no token and no signature of a URL.
#[test]
fn secrets_are_never_printed() {
    let storage = FaultRegistry::start();
    let registry = FaultRegistry::builder()
        .token_auth()
        .token_user(USER, PASSWORD)
        .redirect_blobs_to(&storage)
        .signed_urls()
        .start();
    let pushed = several_layers(&registry);
    for fault in [None, Some(Fault::Status(500)), Some(Fault::Redirect("ftp://x/?X-Signature=1".to_owned()))]
    {
        let is_fine = fault.is_none();
        if let Some(fault) = fault {
            storage.on_blob(pushed.layer(0)).always(fault);
        }
        let context = TestContext::new();
        let options = ["-v", "-v", "-v", "--retries", "1", "--creds", BOTH];
        let outcome = context.fetch(&registry, &pushed).args(options).run();
        assert_eq!(outcome.code == Some(0), is_fine, "{}", outcome.report());
        let log = format!("{}{}", outcome.stdout, outcome.stderr);
        for secret in [PASSWORD, &STANDARD.encode(BOTH), "X-Signature", "Bearer ", "eyJ"] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
        for request in registry.requests() {
            let value = request.header("authorization").and_then(|header| header.split_once(' '));
            assert!(value.is_none_or(|(_, secret)| !log.contains(secret)), "{log}");
        }
        storage.mend();
    }
}

/// Credentials given by option are for one registry; with two, nobody is asked anything.
#[test]
fn one_login_is_not_for_two_registries() {
    let (one, other) = (FaultRegistry::start(), FaultRegistry::start());
    let references = [several_layers(&one).reference(), several_layers(&other).reference()];
    for options in
        [&["--creds", BOTH][..], &["--registry-token", "x"], &["--username", USER, "--password-stdin"]]
    {
        let context = TestContext::new();
        let run = context.run(["fetch"]).args(&references).arg(context.out()).args(options).stdin("x\n");
        let outcome = run.fails_with(2);
        assert!(
            outcome.stderr.contains(&one.host()) && outcome.stderr.contains(&other.host()),
            "{}",
            outcome.stderr
        );
        assert!(!context.out().exists());
    }
    assert_eq!((one.requests().len(), other.requests().len()), (0, 0));
}

/// A token service that fails for a while is asked again; one that gives no token is exit 4, and one that sends more than such a
/// document may have exit 6, as for any other.
#[test]
fn token_services_fail_too() {
    let registry = FaultRegistry::builder().token_auth().start();
    let pushed = several_layers(&registry);
    registry.on_token().once(Fault::Status(503));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    check_layout(&context.out());
    let too_big = format!("{{\"token\":\"{}\"}}", "x".repeat(2 * MIB));
    for (body, code) in [("{}", 4), ("no json", 4), ("{\"token\":\"a\\nb\"}", 4), (&*too_big, 6)] {
        registry.on_token().always(Fault::StatusWith { status: 200, headers: Vec::new(), body: body.into() });
        let context = TestContext::new();
        context.fetch(&registry, &pushed).fails_with(code);
        assert!(!context.out().exists());
        registry.mend();
    }
}
