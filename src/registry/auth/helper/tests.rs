use std::path::Path;

use super::testing::install;
use super::*;

/// Scripts that call other programs need these.
fn helpers(folder: &Path) -> Helpers {
    let folders = std::env::join_paths([folder, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    Helpers::in_folders(folders, Duration::from_secs(20))
}

fn inquiry(helper: &str, servers: &[&str]) -> Inquiry {
    let servers = servers.iter().map(|server| (*server).to_owned()).collect();
    Inquiry { helper: helper.to_owned(), servers, file: None, is_store: false }
}

fn asked(script: &str) -> Result<Option<Credentials>, HelperError> {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "x", script);
    helpers(folder.path()).ask(&inquiry("x", &["r.example"])).map(|found| found.map(|(found, _)| found))
}

/// What a helper answers, and what that is.
#[test]
fn answers() {
    let basic = |username: &str, password: &str| {
        Some(Credentials::Basic { username: username.into(), password: password.into() })
    };
    let cases = [
        (r#"echo '{"ServerURL":"r.example","Username":"u","Secret":"p:q"}'"#, basic("u", "p:q")),
        (r#"echo '{"username":"u","secret":"p"} and more'"#, basic("u", "p")),
        // The action is the argument, the server address the input, without a line's end.
        (r#"read -r s; printf '{"Username":"%s","Secret":"%s"}' "$1" "$s""#, basic("get", "r.example")),
        (
            r#"echo '{"Username":"<token>","Secret":"t"}'"#,
            Some(Credentials::IdentityToken { username: None, token: "t".into() }),
        ),
        (r#"echo '{"ServerURL":"","Username":"","Secret":""}'"#, None),
        ("echo '{}'", None),
        ("echo credentials not found in native keychain; exit 1", None),
        ("echo Credentials not found in native keychain >&2; exit 2", None),
    ];
    for (script, expected) in cases {
        assert_eq!(asked(script), Ok(expected), "{script}");
    }
}

/// A helper that fails says why, and its error never has the answer in it.
#[test]
fn failures_are_told_without_secrets() {
    let cases = [
        ("echo no keychain; exit 3", "exit status: 3: no keychain"),
        ("printf 'lock\\033[2Jed' >&2; exit 1", "exit status: 1: lock\\u{1b}[2Jed"),
        (r#"echo '{"Secret":"hidden"}'; echo broken >&2; exit 1"#, "exit status: 1: broken"),
        (r#"echo '"hidden"'"#, "it is no JSON object"),
        ("echo hidden", "it is no JSON object"),
        ("true", "it is no JSON object"),
        (r#"echo '{"Username":"u","Secret":["hidden"]}'"#, "a field is not text"),
        ("kill -9 $$", "signal: 9"),
        ("head -c 1100000 /dev/zero", "longer than 1 MiB"),
    ];
    for (script, expected) in cases {
        let error = asked(script).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("docker-credential-x get"), "{script}: {error}");
        assert!(!error.contains("hidden"), "{error}");
    }
    let long = asked("yes no | head -c 100000 >&2; exit 1").unwrap_err().to_string();
    assert!(long.chars().count() < 400, "{}", long.len());
}

/// A name that is a path would run any program, and one that is not installed is named in full.
#[test]
fn names_are_names_of_programs_in_path() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "x", "echo '{}'");
    let helpers = helpers(folder.path());
    for name in ["", "../x", "/bin/x", "a/../x", "x y", "x\n", "c:x", "a\\x"] {
        let error = helpers.ask(&inquiry(name, &["r"])).unwrap_err();
        assert!(matches!(error, HelperError::Name { .. }), "{name:?}: {error}");
    }
    let error = helpers.ask(&inquiry("absent", &["r"])).unwrap_err();
    assert_eq!(error.to_string(), "docker-credential-absent is not in any folder of PATH");
    // The folder that a user happens to stand in is nobody's place for programs.
    let relative = Helpers::in_folders(":.:src", Duration::from_secs(20));
    assert!(matches!(relative.ask(&inquiry("x", &["r"])), Err(HelperError::NotInstalled { .. })));
}

/// A helper that hangs is killed with its children, which would hold the output open, and the run goes on.
#[test]
fn a_helper_that_hangs_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("child");
    install(folder.path(), "x", &format!("sleep 600 & echo $! > {}; wait", mark.display()));
    let folders = std::env::join_paths([folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let patience = Duration::from_secs(3);
    let error = Helpers::in_folders(folders, patience).ask(&inquiry("x", &["r"])).unwrap_err();
    assert_eq!(
        error,
        HelperError::TimedOut { program: "docker-credential-x".into(), action: "get", after: patience }
    );
    let child: i32 = std::fs::read_to_string(mark).unwrap().trim().parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    // Dead, or dead and not yet collected by whoever took it over. A signal takes a moment to arrive.
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_alive = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
        rustix::process::test_kill_process(child).is_ok() && !state.unwrap_or_default().contains(") Z")
    };
    while is_alive() {
        assert!(Instant::now() < deadline, "the helper's child lives on");
        std::thread::yield_now();
    }
}

/// A daemon that keeps the pipe open delays nothing for long and costs no answer.
#[test]
fn a_daemon_does_not_hold_the_answer_back() {
    let found = asked(r#"sleep 5 & echo '{"Username":"u","Secret":"p"}'"#).unwrap();
    assert_eq!(found, Some(Credentials::Basic { username: "u".into(), password: "p".into() }));
}

/// However many ask at once, a helper, which may have to ask a person, is asked once for a server; failures count too.
#[test]
fn a_helper_is_asked_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = format!(
        "read -r s; echo \"$s\" >> {}; [ \"$s\" = good ] || exit 1; echo '{{\"Username\":\"u\",\"Secret\":\"p\"}}'",
        log.display()
    );
    install(folder.path(), "x", &script);
    let helpers = helpers(folder.path());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(helpers.ask(&inquiry("x", &["good"])).unwrap().is_some()));
            scope.spawn(|| assert!(helpers.ask(&inquiry("x", &["bad"])).is_err()));
        }
    });
    let mut lines: Vec<String> = std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["bad", "good"]);
}

/// Docker Hub is asked for under each of its names, until one is known.
#[test]
fn servers_are_asked_for_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"read -r s; [ "$s" = two ] || { echo credentials not found in native keychain; exit 1; }
echo '{"Username":"u","Secret":"p"}'"#;
    install(folder.path(), "x", script);
    let found = helpers(folder.path()).ask(&inquiry("x", &["one", "two", "three"])).unwrap();
    assert_eq!(found.map(|(_, server)| server).as_deref(), Some("two"));
}

/// Storing, listing and erasing, with the document on standard input and no secret in what is said of a failure.
#[test]
fn credentials_are_kept_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let script = format!(
        r#"case $1 in
store) cat > {kept};;
get) [ -e {kept} ] || {{ echo credentials not found in native keychain; exit 1; }}; cat {kept};;
erase) read -r s; rm {kept};;
list) echo '{{"r.example":"u","other.example":"v"}}';;
esac"#,
        kept = kept.display()
    );
    install(folder.path(), "x", &script);
    install(folder.path(), "bad", "read -r s; echo \"$s is hidden\" >&2; cat >&2; exit 1");
    let helpers = helpers(folder.path());
    let one = inquiry("x", &["r.example"]);
    assert_eq!(helpers.ask(&one), Ok(None));
    let credentials = Credentials::Basic { username: "u".into(), password: "hid\"den".into() };
    helpers.store("x", "r.example", &credentials).unwrap();
    let document: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert_eq!(document, json!({"ServerURL": "r.example", "Username": "u", "Secret": "hid\"den"}));
    // What was remembered is not what is there now.
    assert_eq!(helpers.ask(&one), Ok(Some((credentials, "r.example".into()))));
    assert_eq!(helpers.list("x").unwrap(), ["r.example", "other.example"]);
    assert_eq!(helpers.erase("x", "r.example"), Ok(true));
    assert_eq!(helpers.erase("x", "r.example"), Ok(false));
    assert_eq!(helpers.ask(&one), Ok(None));
    let token = Credentials::IdentityToken { username: None, token: "sword\"fish".into() };
    let error = helpers.store("bad", "r.example", &token).unwrap_err().to_string();
    assert!(error.contains("store failed") && !error.contains("fish"), "{error}");
}

/// A document that a helper says on either stream may hold the secret, over several lines; the words before it are shown.
#[test]
fn documents_are_no_messages() {
    for (said, shown) in [
        ("locked\n{\"Secret\":\"hidden\"}", "locked"),
        ("locked\n{\n\"Secret\":\n\"hidden\"\n}\nhidden", "locked"),
        ("got \"Secret\": hidden", ""),
        ("one\ntwo\n", "one\ntwo"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for stream in [1, 2] {
            install(folder.path(), "x", &format!("cat <<'END' >&{stream}\n{said}\nEND\nexit 1"));
            let error = helpers(folder.path()).ask(&inquiry("x", &["r.example"])).unwrap_err();
            let HelperError::Failed { said, .. } = error else { panic!("{error}") };
            assert_eq!(said, crate::text::printable(shown));
        }
    }
}
