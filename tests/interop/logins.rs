//! Logins between ocipull and skopeo, whose files are podman's: what one stores the other uses, and each removes the
//! other's.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::registry::DockerRegistry;
use crate::tools::{are_here, ocipull, run, skopeo};

pub(crate) const USER: &str = "someone";
pub(crate) const PASSWORD: &str = "open:sesame";
/// The password's hash as htpasswd writes it.
pub(crate) const HASH: &str = "$2y$05$abcdefghijklmnopqrstuubMHTpw5uKdtLGvKw5uzYhbpqtktcY3.";

/// Runs a login with the password on standard input.
pub(crate) fn log_in(command: &mut Command, password: &str) -> Output {
    command.args(["--username", USER, "--password-stdin"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let written = child.stdin.take().expect("invariant: stdin is a pipe").write_all(password.as_bytes());
    written.expect("the password is read");
    child.wait_with_output().expect("the program ends")
}

/// skopeo's question about its own login; whether it has one.
fn skopeo_is_logged_in(file: &Path, registry: &DockerRegistry) -> bool {
    let mut command = skopeo();
    command.args(["login", "--get-login", "--authfile"]).arg(file).arg(registry.address());
    let output = command.output().expect("skopeo starts");
    output.status.success() && output.stdout.starts_with(USER.as_bytes())
}

/// ocipull's question about an image that is not there: 3 for who may ask, 4 for everybody else.
fn exit_code_of_a_question(home: &Path, file: &Path, registry: &DockerRegistry) -> Option<i32> {
    let mut command = ocipull(home);
    command.args(["resolve", &registry.reference("absent:v1"), "--authfile"]).arg(file);
    command.output().expect("ocipull starts").status.code()
}

/// A user of podman or skopeo who logs in once is logged in everywhere, and out everywhere.
#[test]
fn logins_are_shared_with_skopeo() {
    if !are_here(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = DockerRegistry::start_for(&format!("{USER}:{HASH}\n"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (home, file) = (folder.path(), folder.path().join("auth.json"));
    let login = || {
        let mut command = ocipull(home);
        command.args(["login", registry.address(), "--authfile"]).arg(&file);
        command
    };
    assert_eq!(log_in(&mut login(), "wrong").status.code(), Some(4));
    assert!(!file.exists(), "refused credentials are not stored");
    assert_eq!(log_in(&mut login(), PASSWORD).status.code(), Some(0));
    assert!(skopeo_is_logged_in(&file, &registry));
    assert_eq!(exit_code_of_a_question(home, &file, &registry), Some(3));
    run(skopeo().args(["logout", "--authfile"]).arg(&file).arg(registry.address()));
    assert_eq!(exit_code_of_a_question(home, &file, &registry), Some(4));

    let mut skopeo_login = skopeo();
    skopeo_login.args(["login", "--tls-verify=false", registry.address(), "--authfile"]).arg(&file);
    let output = log_in(&mut skopeo_login, PASSWORD);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(exit_code_of_a_question(home, &file, &registry), Some(3));
    run(ocipull(home).args(["logout", registry.address(), "--authfile"]).arg(&file));
    assert!(!skopeo_is_logged_in(&file, &registry));
}
