//! Where credentials come from and where they go: the user's files in their order, credential helpers, login and logout.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{FaultRegistry, Outcome, PushedImage, TestContext, check_layout, image, random_from};

const USER: &str = "someone";
const PASSWORD: &str = "open:sesame";

fn basic() -> FaultRegistry {
    FaultRegistry::builder().basic_auth(USER, PASSWORD).start()
}

fn with_user() -> FaultRegistry {
    FaultRegistry::builder().token_auth().token_user(USER, PASSWORD).start()
}

fn pushed(registry: &FaultRegistry) -> PushedImage {
    registry.push(image().layer(random_from(1, 10_000)).layer(random_from(2, 10_000)))
}

fn entry(user: &str, password: &str) -> Value {
    json!({ "auth": STANDARD.encode(format!("{user}:{password}")) })
}

fn write(path: impl AsRef<Path>, content: &Value) {
    let path = path.as_ref();
    std::fs::create_dir_all(path.parent().expect("a file in a folder")).unwrap();
    std::fs::write(path, content.to_string()).unwrap();
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The folder that `XDG_RUNTIME_DIR` names in these tests.
fn runtime(context: &TestContext) -> PathBuf {
    let folder = context.path().join("run");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn auth_file(context: &TestContext) -> PathBuf {
    runtime(context).join("containers/auth.json")
}

/// Neither the password nor its usual coding is in what was printed.
fn assert_no_secrets(outcome: &Outcome) {
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    for secret in [PASSWORD, "sesame", &STANDARD.encode(format!("{USER}:{PASSWORD}"))] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// Each place is looked into, an earlier one before a later one; the log says where the credentials came from.
#[cfg(target_os = "linux")]
#[test]
fn files_are_looked_into_in_order() {
    let registry = basic();
    let pushed = pushed(&registry);
    let context = TestContext::new();
    let (right, wrong) = (entry(USER, PASSWORD), entry("stale", "stale"));
    let at = |entry: &Value| json!({ "auths": { registry.host(): entry } });
    let places = [
        (context.home().join(".dockercfg"), json!({ registry.host(): right })),
        (context.home().join(".docker/config.json"), at(&right)),
        (context.home().join(".config/containers/auth.json"), at(&right)),
        (auth_file(&context), at(&right)),
    ];
    for (path, content) in places {
        write(&path, &content);
        let run = context.fetch(&registry, &pushed).env("XDG_RUNTIME_DIR", runtime(&context));
        let outcome = run.args(["-v"]).success();
        let line = outcome.stderr.lines().find(|line| line.contains("credentials found")).unwrap_or_default();
        assert!(
            line.contains(&*path.to_string_lossy()) && line.contains(&registry.host()),
            "{}",
            outcome.stderr
        );
        assert_no_secrets(&outcome);
        check_layout(&context.out());
        std::fs::remove_dir_all(context.out()).unwrap();
        // From now on an earlier place has to go before this one.
        let stale = if path.ends_with(".dockercfg") { json!({ registry.host(): wrong }) } else { at(&wrong) };
        write(&path, &stale);
    }
}

/// A dry run says which credentials a fetch would use, and a refusal whose they were and what to do.
#[test]
fn a_refusal_says_whose_credentials_they_were() {
    let registry = with_user();
    let pushed = pushed(&registry);
    let context = TestContext::new();
    let anonymous = context.fetch(&registry, &pushed).args(["-v"]).fails_with(4);
    let login = format!("`ocipull login {}`", registry.host());
    for words in ["no credentials for", &login, "--creds", "no credentials found"] {
        assert!(anonymous.stderr.contains(words), "{words}: {}", anonymous.stderr);
    }
    let file = context.home().join(".docker/config.json");
    write(&file, &json!({ "auths": { registry.host(): entry(USER, "stale") } }));
    let refused = context.fetch(&registry, &pushed).args(["--dry-run"]).fails_with(4);
    let whose =
        format!("hint: the credentials from {} (entry \"{}\") are refused", file.display(), registry.host());
    for words in [&*whose, &login] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    let given = context.fetch(&registry, &pushed).args(["--creds", "someone:stale"]).fails_with(4);
    assert!(given.stderr.contains("credentials that were given are refused"), "{}", given.stderr);
    assert!(!given.stderr.contains("stale"), "{}", given.stderr);
}

/// `--authfile` and `REGISTRY_AUTH_FILE` name the only file there is; one that is missing is a mistake, whoever asks.
#[test]
fn a_named_file_is_the_only_one() {
    let registry = basic();
    let pushed = pushed(&registry);
    let context = TestContext::new();
    let good = context.path().join("good.json");
    let empty = context.path().join("empty.json");
    let missing = context.path().join("missing.json");
    write(&good, &json!({ "auths": { registry.host(): entry(USER, PASSWORD) } }));
    write(&empty, &json!({}));
    context.fetch(&registry, &pushed).arg("--authfile").arg(&good).success();
    context.fetch(&registry, &pushed).env("REGISTRY_AUTH_FILE", &good).success();
    context
        .fetch(&registry, &pushed)
        .env("REGISTRY_AUTH_FILE", &missing)
        .arg("--authfile")
        .arg(&good)
        .success();
    write(context.home().join(".docker/config.json"), &read(&good));
    std::fs::remove_dir_all(context.out()).unwrap();
    context.fetch(&registry, &pushed).arg("--authfile").arg(&empty).fails_with(4);
    registry.clear_requests();
    for options in [&[][..], &["--creds", "someone:open:sesame"]] {
        let run = context.fetch(&registry, &pushed).args(options);
        let outcome = run.arg("--authfile").arg(&missing).fails_with(2);
        assert!(outcome.stderr.contains("missing.json does not exist"), "{}", outcome.stderr);
    }
    assert_eq!(registry.requests().len(), 0);
    // An option's credentials go before the file's.
    context
        .fetch(&registry, &pushed)
        .args(["--creds", "someone:open:sesame", "--authfile"])
        .arg(&empty)
        .success();
}

/// The commands that only look at a registry take the same files.
#[test]
fn other_commands_use_the_same_credentials() {
    let registry = with_user();
    let pushed = pushed(&registry);
    let context = TestContext::new();
    let file = context.path().join("auth.json");
    write(&file, &json!({ "auths": { format!("{}/app", registry.host()): entry(USER, PASSWORD) } }));
    for command in ["resolve", "inspect"] {
        context.run([command, &pushed.reference(), "--authfile"]).arg(&file).success();
    }
}

/// A file of credentials may be a link to where there is no file yet: the file is made there and the link stays.
#[cfg(unix)]
#[test]
fn a_login_follows_a_link_to_nowhere() {
    let registry = with_user();
    let context = TestContext::new();
    let (link, target) = (context.path().join("auth.json"), context.path().join("elsewhere/auth.json"));
    std::os::unix::fs::symlink("elsewhere/auth.json", &link).unwrap();
    let run = context.run(["login", "-u", USER, "--password-stdin", "--authfile", "auth.json"]);
    run.arg(registry.host()).stdin(PASSWORD).success();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(std::fs::read_to_string(target).unwrap().contains(&registry.host()));
}

#[cfg(unix)]
mod helpers {
    use std::ffi::OsString;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Installs a credential helper that keeps what it is given in `NAME-kept`, one file a server, and logs its actions.
    fn install(context: &TestContext, name: &str, script: &str) {
        let folder = context.path().join("bin");
        std::fs::create_dir_all(&folder).unwrap();
        let (text, program) =
            (context.path().join("script"), folder.join(format!("docker-credential-{name}")));
        let logged =
            format!("#!/bin/sh\necho \"$@\" >> {}\n{script}\n", context.path().join("log").display());
        std::fs::write(&text, logged).unwrap();
        std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o755)).unwrap();
        // By another process: a program that some fork of this one has open for writing cannot be run.
        assert!(std::process::Command::new("cp").arg(text).arg(program).status().unwrap().success());
    }

    fn path(context: &TestContext) -> OsString {
        let folders = [context.path().join("bin"), "/usr/bin".into(), "/bin".into()];
        std::env::join_paths(folders).unwrap()
    }

    fn log(context: &TestContext) -> Vec<String> {
        let log = std::fs::read_to_string(context.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn configure(context: &TestContext, setting: &Value) {
        write(context.home().join(".docker/config.json"), setting);
    }

    const ANSWER: &str =
        r#"cat > /dev/null; echo '{"ServerURL":"","Username":"someone","Secret":"open:sesame"}'"#;

    /// A helper is asked once for a registry, however many images, layers and connections there are, and by the loudest log
    /// its answer is not told.
    #[test]
    fn a_helper_is_asked_once_a_run() {
        for setting in ["store", "host"] {
            let registry = with_user();
            let pushed = pushed(&registry);
            let other = registry.push_as("other", "v1", image().layer(random_from(3, 10_000)));
            let context = TestContext::new();
            install(&context, "x", ANSWER);
            match setting {
                "store" => configure(&context, &json!({"auths": {registry.host(): {}}, "credsStore": "x"})),
                _ => configure(&context, &json!({"credHelpers": {registry.host(): "x"}})),
            }
            let run = context.run(["fetch", &pushed.reference(), &other.reference()]).arg(context.out());
            let outcome = run.env("PATH", path(&context)).args(["-vvv"]).success();
            assert_eq!(log(&context), ["get"]);
            assert!(outcome.stderr.contains("docker-credential-x"), "{}", outcome.stderr);
            assert_no_secrets(&outcome);
            check_layout(&context.out());
        }
    }

    /// `credential-helpers` of registries.conf names helpers for every registry, before or after the files as it says; a login
    /// goes to the first of them.
    #[test]
    fn helpers_that_registries_conf_names() {
        let registry = with_user();
        let pushed = pushed(&registry);
        let context = TestContext::new();
        install(&context, "x", ANSWER);
        let conf = context.path().join("r.conf");
        std::fs::write(&conf, "credential-helpers = ['containers-auth.json', 'x']\n").unwrap();
        let run = context.run(["fetch", &pushed.reference(), "--registries-conf"]).arg(&conf);
        run.arg(context.out()).env("PATH", path(&context)).success();
        assert_eq!(log(&context), ["get"]);
        check_layout(&context.out());

        std::fs::write(&conf, "credential-helpers = ['x']\n").unwrap();
        let run = context.run(["login", "-u", USER, "--password-stdin", "--registries-conf"]).arg(&conf);
        run.arg(registry.host()).stdin(PASSWORD).env("PATH", path(&context)).success();
        assert_eq!(log(&context).last().map(String::as_str), Some("store"));
        let run = context.run(["logout", &registry.host()]).env("CONTAINERS_REGISTRIES_CONF", &conf);
        run.env("PATH", path(&context)).success();
        assert!(log(&context).iter().any(|action| action == "erase"), "{:?}", log(&context));
    }

    /// A helper that knows nothing is no failure; one that fails ends the fetch and is named with its own words.
    #[test]
    fn helpers_that_know_nothing_and_helpers_that_fail() {
        let registry = FaultRegistry::start();
        let pushed = pushed(&registry);
        let context = TestContext::new();
        let fetch = || context.fetch(&registry, &pushed).env("PATH", path(&context));
        configure(&context, &json!({"credsStore": "x"}));
        install(&context, "x", "echo credentials not found in native keychain; exit 1");
        fetch().success();
        std::fs::remove_dir_all(context.out()).unwrap();
        install(&context, "x", r#"echo '{"Secret":"open:sesame"}'; echo 'keychain is locked' >&2; exit 1"#);
        let outcome = fetch().fails_with(4);
        for words in ["docker-credential-x get failed", "keychain is locked", ".docker/config.json", "hint: "]
        {
            assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
        }
        assert_no_secrets(&outcome);
        configure(&context, &json!({"credHelpers": {registry.host(): "absent"}}));
        let outcome = fetch().fails_with(4);
        assert!(outcome.stderr.contains("docker-credential-absent is not in any folder of PATH"));
        assert!(!context.out().exists());
    }

    /// A store that only another machine has (a desktop's, in WSL or a dev container) is passed over with a warning, as docker
    /// passes it over: public images need no login. Who needs one is told of it.
    #[test]
    fn a_store_that_is_not_installed_bars_nobody_from_public_images() {
        for (registry, code) in [(FaultRegistry::start(), 0), (with_user(), 4)] {
            let pushed = pushed(&registry);
            let context = TestContext::new();
            configure(&context, &json!({"credsStore": "desktop.exe"}));
            let run = context.fetch(&registry, &pushed).env("PATH", path(&context));
            let outcome = if code == 0 { run.success() } else { run.fails_with(code) };
            let program = "docker-credential-desktop.exe";
            assert_eq!(outcome.stderr.matches("is not installed").count(), 1, "{}", outcome.stderr);
            let hint = outcome.stderr.split_once("hint: ").is_some_and(|(_, hint)| hint.contains(program));
            assert_eq!(hint, code == 4, "{}", outcome.stderr);
        }
    }

    /// A mistake in the configuration is found before a password is asked for, or says what to do; logout reads the same
    /// configuration as login.
    #[test]
    fn mistakes_that_bar_a_login() {
        let registry = with_user();
        let context = TestContext::new();
        let login =
            || context.run(["login", "-u", USER, "--password-stdin", &registry.host()]).stdin(PASSWORD);
        std::fs::write(context.path().join("broken.json"), "{").unwrap();
        let outcome = login().args(["--authfile", "broken.json"]).fails_with(4);
        assert!(outcome.stderr.contains("broken.json"), "{}", outcome.stderr);
        assert_eq!(registry.requests().len(), 0);
        write(context.path().join("store.json"), &json!({"credsStore": "absent"}));
        let outcome = login().args(["--authfile", "store.json"]).fails_with(1);
        for words in ["docker-credential-absent is not in any folder of PATH", "hint: install the helper"] {
            assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        }
        let logout = context.run(["logout", &registry.host(), "--registries-conf", "absent.conf"]);
        assert!(logout.fails_with(2).stderr.contains("absent.conf"));
    }

    /// Whoever interrupts a command waits for no helper, and leaves none behind: neither while credentials are asked for nor
    /// while they are stored.
    #[test]
    fn helpers_end_with_the_command() {
        let registry = with_user();
        let pushed = pushed(&registry);
        for action in ["get", "store"] {
            let context = TestContext::new();
            let number = context.path().join("number");
            let script = format!(
                "cat > /dev/null; echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600",
                number.display()
            );
            install(&context, "x", &script);
            configure(&context, &json!({"credsStore": "x"}));
            let config = context.home().join(".docker/config.json");
            let run = match action {
                "get" => context.fetch(&registry, &pushed),
                _ => context
                    .run(["login", "-u", USER, "--password-stdin", "--authfile"])
                    .arg(config)
                    .arg(registry.host())
                    .stdin(PASSWORD),
            };
            let running = run.env("PATH", path(&context)).spawn();
            registry.wait_until("the helper runs", |_| number.exists());
            running.interrupt();
            let outcome = running.wait();
            assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
            let number = std::fs::read_to_string(number).unwrap().trim().parse().unwrap();
            let pid = rustix::process::Pid::from_raw(number).unwrap();
            registry.wait_until("the helper ended", |_| rustix::process::test_kill_process(pid).is_err());
        }
    }

    /// An identity token from a helper is exchanged as one from a file is.
    #[test]
    fn identity_tokens_from_helpers() {
        let registry =
            FaultRegistry::builder().token_auth().identity_token("refresh-me").token_user("x", "y").start();
        let pushed = pushed(&registry);
        let context = TestContext::new();
        install(&context, "x", r#"cat > /dev/null; echo '{"Username":"<token>","Secret":"refresh-me"}'"#);
        configure(&context, &json!({"credsStore": "x"}));
        context.fetch(&registry, &pushed).env("PATH", path(&context)).success();
        let exchanges = registry.requests().into_iter().filter(|request| request.path == "/token");
        assert_eq!(exchanges.map(|request| request.method).collect::<Vec<_>>(), ["POST"]);
    }

    /// A login goes to the helper that the file names, on standard input and never on a command line; logout erases it.
    #[test]
    fn login_and_logout_by_helper() {
        let registry = basic();
        let pushed = pushed(&registry);
        let context = TestContext::new();
        let kept = context.path().join("kept");
        let script = format!(
            r"case $1 in store) cat > {kept};; erase) rm {kept};;
get) [ -e {kept} ] || {{ echo credentials not found in native keychain; exit 1; }}; cat {kept};; esac",
            kept = kept.display()
        );
        install(&context, "x", &script);
        let file = context.home().join(".docker/config.json");
        let before =
            json!({"auths": {"other.example": {"auth": "eDp5"}}, "credsStore": "x", "psFormat": "t"});
        write(&file, &before);
        let login =
            context.run(["login", &registry.host(), "-u", USER, "--password-stdin", "-vvv", "--authfile"]);
        let outcome = login.arg(&file).stdin(format!("{PASSWORD}\n")).env("PATH", path(&context)).success();
        assert_no_secrets(&outcome);
        let document = json!({"ServerURL": registry.host(), "Username": USER, "Secret": PASSWORD});
        assert_eq!(read(&kept), document);
        assert_eq!(log(&context), ["store"]);
        let mut expected = before.clone();
        expected["auths"][registry.host()] = json!({});
        assert_eq!(read(&file), expected);
        context.fetch(&registry, &pushed).env("PATH", path(&context)).success();
        let logout = context.run(["logout", &registry.host(), "--authfile"]).arg(&file);
        logout.env("PATH", path(&context)).success();
        assert!(!kept.exists());
        assert_eq!(read(&file), before);
    }

    /// A helper that does not keep the credentials leaves nothing in the file, in plain text least of all.
    #[test]
    fn a_helper_that_does_not_store_is_an_error() {
        let registry = basic();
        let context = TestContext::new();
        install(&context, "x", "cat >&2; exit 1");
        let file = context.path().join("config.json");
        let before = json!({"credsStore": "x"});
        write(&file, &before);
        let login = context.run(["login", &registry.host(), "-u", USER, "--password-stdin", "--authfile"]);
        let outcome = login.arg(&file).stdin(PASSWORD).env("PATH", path(&context)).fails_with(1);
        assert!(outcome.stderr.contains("docker-credential-x store failed"), "{}", outcome.stderr);
        assert_no_secrets(&outcome);
        assert_eq!(read(&file), before);
    }

    /// The file with passwords is for the user alone, however lax the umask and the file before were.
    #[test]
    fn stored_credentials_are_private() {
        let registry = basic();
        let context = TestContext::new();
        let login = context.run(["login", &registry.host(), "-u", USER, "--password-stdin"]).stdin(PASSWORD);
        login
            .env("XDG_RUNTIME_DIR", runtime(&context))
            .env("XDG_CONFIG_HOME", runtime(&context))
            .umask("000")
            .success();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = auth_file(&context);
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    }
}

/// `ocipull login` with the password on standard input.
fn log_in(context: &TestContext, registry: &FaultRegistry, key: &str, password: &str) -> Outcome {
    let run = context.run(["login", key, "--username", USER, "--password-stdin", "-vvv"]);
    let run = match registry.ca_file() {
        Some(file) => run.arg("--ca-file").arg(file),
        None => run,
    };
    // On Linux the runtime folder is the place, elsewhere the configuration's.
    let folder = runtime(context);
    run.env("XDG_RUNTIME_DIR", &folder).env("XDG_CONFIG_HOME", &folder).stdin(format!("{password}\n")).run()
}

/// Checked by the registry, whatever it asks for, stored, used by the next fetch, and gone after logout.
#[test]
fn login_then_fetch_then_logout() {
    for registry in [basic(), with_user()] {
        let pushed = pushed(&registry);
        let context = TestContext::new();
        let outcome = log_in(&context, &registry, &registry.host(), PASSWORD);
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
        assert_eq!(outcome.stdout, format!("logged in to {}\n", registry.host()));
        assert!(outcome.stderr.contains(&*auth_file(&context).to_string_lossy()), "{}", outcome.stderr);
        assert_no_secrets(&outcome);
        let expected = json!({"auths": {registry.host(): entry(USER, PASSWORD)}});
        assert_eq!(read(auth_file(&context)), expected);
        // Nothing but the registry's base and its token service was asked, and no repository was named.
        for request in registry.requests() {
            assert!(request.path == "/v2/" || request.path == "/token", "{}", request.path);
            assert_eq!(request.parameters("scope"), [""; 0]);
        }
        let folder = runtime(&context);
        let fetch = context.fetch(&registry, &pushed);
        fetch.env("XDG_RUNTIME_DIR", &folder).env("XDG_CONFIG_HOME", &folder).success();
        let log_out = || {
            let run = context.run(["logout", &registry.host()]);
            run.env("XDG_RUNTIME_DIR", &folder).env("XDG_CONFIG_HOME", &folder).success()
        };
        let outcome = log_out();
        assert_eq!(outcome.stdout, format!("logged out of {}\n", registry.host()));
        assert_eq!(read(auth_file(&context)), json!({"auths": {}}));
        let again = log_out();
        assert!(again.stdout.is_empty() && again.stderr.contains("not logged in"), "{}", again.report());
    }
}

/// Refused credentials are exit 4 and are not stored, and what was stored before stays.
#[test]
fn refused_credentials_are_not_stored() {
    for registry in [basic(), with_user()] {
        let context = TestContext::new();
        let before = json!({"auths": {registry.host(): entry("old", "old")}});
        write(auth_file(&context), &before);
        let outcome = log_in(&context, &registry, &registry.host(), "wrong-one");
        assert_eq!(outcome.code, Some(4), "{}", outcome.report());
        assert!(outcome.stderr.contains("Nothing was stored"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("wrong-one"), "{}", outcome.stderr);
        assert!(outcome.stdout.is_empty());
        assert_eq!(read(auth_file(&context)), before);
    }
}

/// A registry that answers anybody cannot check; the credentials are stored, and that is said.
#[test]
fn a_registry_without_login_cannot_check() {
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    let outcome = log_in(&context, &registry, &registry.host(), PASSWORD);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    assert!(outcome.stderr.contains("does not ask for a login"), "{}", outcome.stderr);
    assert!(registry.requests().iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(read(auth_file(&context))["auths"][registry.host()], entry(USER, PASSWORD));
}

/// A login for a namespace serves that namespace and nothing else of the registry.
#[test]
fn a_login_for_a_namespace() {
    let registry = basic();
    let ours = registry.push_as("team/app", "v1", image().layer(random_from(1, 1000)));
    let theirs = registry.push_as("other/app", "v1", image().layer(random_from(2, 1000)));
    let context = TestContext::new();
    let outcome = log_in(&context, &registry, &format!("{}/team", registry.host()), PASSWORD);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    let fetch =
        |image: &PushedImage| context.fetch(&registry, image).arg("--authfile").arg(auth_file(&context));
    fetch(&ours).success();
    fetch(&theirs).fails_with(4);
}

/// Over TLS, with the authority that the option names.
#[test]
fn login_over_tls() {
    let builder = FaultRegistry::builder().tls(crate::support::Certificate::Signed);
    let registry = builder.basic_auth(USER, PASSWORD).start();
    let context = TestContext::new();
    let outcome = log_in(&context, &registry, &registry.host(), PASSWORD);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
}

/// Logins at the same time into one file are all there afterwards, and so is what others wrote.
#[test]
fn concurrent_logins_lose_nothing() {
    let registries: Vec<FaultRegistry> = (0..6).map(|_| basic()).collect();
    let context = TestContext::new();
    let file = context.path().join("config.json");
    std::fs::write(&file, r#"{"auths": {"o.example": {"auth":  "eDp5"}}, "HttpHeaders": {"A": 1.50}}"#)
        .unwrap();
    let running: Vec<_> = registries
        .iter()
        .map(|registry| {
            let run = context.run(["login", &registry.host(), "--username", USER, "--password-stdin"]);
            run.arg("--authfile").arg(&file).stdin(PASSWORD).spawn()
        })
        .collect();
    for run in running {
        let outcome = run.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(r#"{"auth":  "eDp5"}"#) && text.contains(r#"{"A": 1.50}"#), "{text}");
    assert_eq!(read(&file)["auths"].as_object().unwrap().len(), 7);
}

/// What makes no sense is exit 2, and nobody is asked anything.
#[test]
fn logins_that_make_no_sense() {
    let registry = basic();
    let context = TestContext::new();
    let host = registry.host();
    for arguments in [
        &["login", "quay", "-u", "u", "--password-stdin"][..],
        &["login", "quay.io/team:tag", "-u", "u", "--password-stdin"],
        &["login", &host, "--password-stdin"],
        &["login", &host, "-u", "u"],
        &["login", &host],
        &["login", &host, "-u", "a:b", "--password-stdin"],
        &["login", &host, "-p", "secret"],
        &["login"],
        &["logout"],
        &["logout", "quay.io", "--all"],
        &["logout", "quay.io", "--authfile", "missing.json"],
    ] {
        context.run(arguments).stdin("password\n").fails_with(2);
    }
    assert_eq!(registry.requests().len(), 0);
}

/// Logout says when another tool's login is left, and removes all of its own at once.
#[test]
fn what_logout_leaves() {
    let context = TestContext::new();
    let folder = runtime(&context);
    let dockers = context.home().join(".docker/config.json");
    write(&dockers, &json!({"auths": {"r.example": entry("docker", "secret-word")}}));
    write(
        auth_file(&context),
        &json!({"auths": {"r.example": entry("u", "p"), "s.example": entry("u", "p")}}),
    );
    let run = |arguments: &[&str]| {
        context.run(arguments).env("XDG_RUNTIME_DIR", &folder).env("XDG_CONFIG_HOME", &folder).success()
    };
    let outcome = run(&["logout", "r.example"]);
    assert!(outcome.stderr.contains("still credentials for r.example"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&*dockers.to_string_lossy()) && !outcome.stderr.contains("secret-word"));
    assert_eq!(read(auth_file(&context))["auths"].as_object().unwrap().len(), 1);
    run(&["logout", "--all"]);
    assert_eq!(read(auth_file(&context)), json!({"auths": {}}));
    assert_eq!(read(&dockers)["auths"].as_object().unwrap().len(), 1);
}
