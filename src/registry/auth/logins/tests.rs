use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::super::configured::ConfiguredCredentials;
use super::super::credential::CredentialSource as _;
use super::super::helper::testing::install;
use super::*;

/// A home with a runtime folder, and a folder of helpers.
struct Home {
    folder: TempDir,
    environment: Environment,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "run", "bin"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let environment = Environment {
            home: Some(folder.path().join("home")),
            runtime_folder: Some(folder.path().join("run")),
            ..Environment::default()
        };
        Self { folder, environment }
    }

    /// One whose file was named.
    fn with_named(name: &str) -> Self {
        let mut home = Self::new();
        home.environment.named = Some(home.folder.path().join(name));
        home
    }

    fn file(&self) -> PathBuf {
        self.environment.locations()[0].path.clone()
    }

    fn text(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.file()).unwrap()).unwrap()
    }

    fn programs(&self) -> Helpers {
        let folders = [self.folder.path().join("bin"), "/usr/bin".into(), "/bin".into()];
        Helpers::in_folders(std::env::join_paths(folders).unwrap(), Duration::from_secs(20))
    }

    fn logins(&self) -> Logins {
        Logins::new(self.environment.clone()).with_programs(self.programs())
    }

    /// A helper that keeps each server's document in a file.
    fn install_helper(&self, name: &str) {
        let kept = self.folder.path().join(format!("{name}-kept"));
        std::fs::create_dir(&kept).unwrap();
        let script = format!(
            r#"cd {kept} || exit 2
case $1 in
store) cat > new; name=$(sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' new | tr / _); mv new "$name";;
get) read -r s; f=$(printf %s "$s" | tr / _); [ -e "$f" ] || {{ echo credentials not found in native keychain; exit 1; }}; cat "$f";;
erase) read -r s; rm "$(printf %s "$s" | tr / _)";;
list) echo '{{"r.example":"u"}}';;
esac"#,
            kept = kept.display()
        );
        install(&self.folder.path().join("bin"), name, &script);
    }

    fn kept(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join(format!("{name}-kept"))).unwrap();
        let mut kept: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        kept.sort();
        kept
    }

    fn found(&self, repository: &str) -> Option<Credentials> {
        let configured = ConfiguredCredentials::new(self.environment.clone()).with_programs(self.programs());
        configured.credentials(&repository.parse().unwrap()).unwrap().map(|found| found.credentials)
    }
}

fn basic(user: &str) -> Credentials {
    Credentials::Basic { username: user.into(), password: "p:w".into() }
}

fn key(text: &str) -> LoginKey {
    text.parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What is stored is for the user alone to read, and is found again.
#[test]
fn what_is_stored_is_private_and_found() {
    let home = Home::new();
    let origin = home.logins().store(&key("quay.io"), &basic("u")).unwrap();
    let file = home.file();
    assert_eq!(origin, CredentialOrigin::File { path: file.clone(), key: "quay.io".into() });
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!(home.text(), json!({"auths": {"quay.io": {"auth": "dTpwOnc="}}}));
    assert_eq!(home.found("quay.io/a"), Some(basic("u")));
    home.logins().store(&key("quay.io/team"), &basic("t")).unwrap();
    assert_eq!(home.found("quay.io/team/a"), Some(basic("t")));
    assert_eq!(home.found("quay.io/other/a"), Some(basic("u")));
    // Nothing else is left in the folder: no lock, no temporary file.
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
}

/// A file that others could read before is private afterwards, and a link to it stays a link.
#[test]
fn files_become_private_and_links_stay() {
    let home = Home::with_named("link.json");
    let real = home.folder.path().join("real.json");
    std::fs::write(&real, r#"{"auths": {}, "unknown": {"kept": true}}"#).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o644)).unwrap();
    symlink(&real, home.file()).unwrap();
    home.logins().store(&key("r.example"), &basic("u")).unwrap();
    assert!(std::fs::symlink_metadata(home.file()).unwrap().is_symlink());
    assert_eq!(mode(&real), 0o600);
    assert_eq!(home.text()["unknown"], json!({"kept": true}));
}

/// Docker Hub's key is the one that the owner of the file knows: docker's in its `config.json`, podman's elsewhere.
#[test]
fn docker_hub_is_stored_for_the_file_s_owner() {
    for (file, written) in [("config.json", "https://index.docker.io/v1/"), ("auth.json", "docker.io")] {
        let home = Home::with_named(file);
        let before =
            json!({"auths": {"index.docker.io": {"auth": "eDp5"}, "docker.io/team": {"auth": "eDp5"}}});
        std::fs::write(home.file(), before.to_string()).unwrap();
        home.logins().store(&key("docker.io"), &basic("u")).unwrap();
        let expected = json!({"auths": {written: {"auth": "dTpwOnc="}, "docker.io/team": {"auth": "eDp5"}}});
        assert_eq!(home.text(), expected);
        assert_eq!(home.found("docker.io/library/a"), Some(basic("u")));
        assert_eq!(home.logins().remove(&key("index.docker.io")).unwrap().len(), 1);
        assert_eq!(home.found("docker.io/library/a"), None);
    }
}

/// A helper that the file names gets the credentials; the file gets docker's empty entry, and loses what would hide it.
#[test]
fn helpers_that_the_file_names_keep_credentials() {
    for (setting, host) in [
        (json!({"credsStore": "x", "auths": {"r.example": {"auth": "eDp5"}}}), "r.example"),
        (
            json!({"credHelpers": {"r.example": "x"}, "auths": {"https://r.example/v1/": {"auth": "eDp5"}}}),
            "r.example",
        ),
        (json!({"credsStore": "y", "credHelpers": {"r.example": "x"}}), "r.example"),
    ] {
        let home = Home::with_named("config.json");
        home.install_helper("x");
        std::fs::write(home.file(), setting.to_string()).unwrap();
        let origin = home.logins().store(&key(host), &basic("u")).unwrap();
        let program = "docker-credential-x".to_owned();
        let expected = CredentialOrigin::Helper { program, server: host.into(), file: Some(home.file()) };
        assert_eq!(origin, expected);
        assert_eq!(home.text()["auths"], json!({"r.example": {}}));
        assert_eq!(home.kept("x"), ["r.example"]);
        assert_eq!(home.found("r.example/a"), Some(basic("u")));
        assert!(!std::fs::read_to_string(home.file()).unwrap().contains("dTpwOnc"));
        assert_eq!(home.logins().remove(&key(host)).unwrap(), [expected]);
        assert_eq!((home.kept("x").len(), home.found("r.example/a")), (0, None));
        assert_eq!(home.text()["auths"], json!({}));
        assert_eq!(home.logins().remove(&key(host)).unwrap(), []);
        // Helpers keep one login a host, and a namespace's in the file would be in plain text against the setting.
        let error = home.logins().store(&key("r.example/team"), &basic("u")).unwrap_err();
        assert!(matches!(error, LoginError::NamespaceInHelper { .. }), "{error}");
    }
}

/// By an empty name in `credHelpers` docker keeps a host in the file, whatever the store.
#[test]
fn an_empty_helper_means_the_file() {
    let home = Home::with_named("config.json");
    std::fs::write(home.file(), r#"{"credsStore": "x", "credHelpers": {"r.example": ""}}"#).unwrap();
    home.logins().store(&key("r.example"), &basic("u")).unwrap();
    assert_eq!(home.text()["auths"], json!({"r.example": {"auth": "dTpwOnc="}}));
    assert_eq!(home.logins().remove(&key("r.example")).unwrap().len(), 1);
}

/// The configuration's list: the first helper that takes a login has it; a namespace goes past helpers to the file.
#[test]
fn helpers_of_the_configuration_keep_credentials() {
    let home = Home::new();
    home.install_helper("x");
    let logins = || home.logins().with_helpers(["absent", "x", AUTH_FILES].map(str::to_owned).to_vec());
    let origin = logins().store(&key("docker.io"), &basic("u")).unwrap();
    assert!(matches!(origin, CredentialOrigin::Helper { file: None, .. }), "{origin:?}");
    assert_eq!(home.kept("x"), ["docker.io"]);
    assert!(!home.file().exists());
    logins().store(&key("r.example/team"), &basic("u")).unwrap();
    assert_eq!(home.text(), json!({"auths": {"r.example/team": {"auth": "dTpwOnc="}}}));
    // What could be removed was, although one helper is not there to tell.
    assert!(matches!(logins().remove(&key("docker.io")), Err(LoginError::Helper(_))));
    assert_eq!(home.kept("x").len(), 0);
    logins().store(&key("r.example"), &basic("u")).unwrap();
    assert!(logins().remove_all().is_err());
    assert_eq!((home.kept("x").len(), home.text()), (0, json!({"auths": {}})));
    let only = home.logins().with_helpers(vec!["x".into()]);
    assert!(matches!(
        only.store(&key("a.example/b"), &basic("u")),
        Err(LoginError::NamespaceInHelper { .. })
    ));
}

/// All logins at once: entries, the store's, the hosts' helpers'; settings stay.
#[test]
fn everything_is_removed() {
    let home = Home::with_named("config.json");
    home.install_helper("x");
    let setting = json!({"auths": {}, "credHelpers": {"h.example": "x"}, "credsStore": "x", "psFormat": "t"});
    std::fs::write(home.file(), setting.to_string()).unwrap();
    for host in ["h.example", "s.example", "docker.io"] {
        home.logins().store(&key(host), &basic("u")).unwrap();
    }
    assert_eq!(home.kept("x").len(), 3);
    assert_eq!(home.logins().remove_all().unwrap().len(), 3);
    assert_eq!(home.kept("x").len(), 0);
    assert_eq!(home.text(), setting);
}

/// Logins at the same time are all there afterwards.
#[test]
fn concurrent_logins_lose_nothing() {
    let home = Home::new();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let logins = home.logins();
            scope.spawn(move || logins.store(&key(&format!("r{number}.example")), &basic("u")).unwrap());
        }
    });
    assert_eq!(home.text()["auths"].as_object().unwrap().len(), 16);
}

/// What cannot be understood is not written over, and an absent named file is nothing to log out of.
#[test]
fn what_is_there_is_not_lost() {
    for text in ["auths: {}", r#"{"auths": []}"#, "[]"] {
        let home = Home::with_named("auth.json");
        std::fs::write(home.file(), text).unwrap();
        let error = home.logins().store(&key("r.example"), &basic("u")).unwrap_err();
        assert!(matches!(error, LoginError::Credentials(CredentialError::Malformed { .. })), "{error}");
        assert_eq!(std::fs::read_to_string(home.file()).unwrap(), text);
    }
    let home = Home::with_named("absent.json");
    assert_eq!(home.logins().remove(&key("r.example")).unwrap_err().kind(), Kind::Usage);
    assert!(!home.file().exists());
    let mut home = Home::new();
    assert_eq!(home.logins().remove(&key("r.example")).unwrap(), []);
    assert!(!home.file().parent().unwrap().exists());
    // The session's folder is not this program's to make.
    home.environment.runtime_folder = Some(home.folder.path().join("gone"));
    let error = home.logins().store(&key("r.example"), &basic("u")).unwrap_err();
    assert!(matches!(error, LoginError::NoRuntimeFolder { .. }), "{error}");
    // Where the variable is set to nothing, the next place is as good.
    home.environment.runtime_folder = Some(PathBuf::new());
    home.logins().store(&key("r.example"), &basic("u")).unwrap();
    assert!(home.folder.path().join("home/.config/containers/auth.json").is_file());
}

/// Identity tokens are stored as docker stores them.
#[test]
fn identity_tokens() {
    let home = Home::new();
    let token = Credentials::IdentityToken { username: Some("u".into()), token: "t".into() };
    home.logins().store(&key("r.example"), &token).unwrap();
    assert_eq!(home.text()["auths"]["r.example"], json!({"auth": "dTo=", "identitytoken": "t"}));
    assert_eq!(home.found("r.example/a"), Some(token));
}
