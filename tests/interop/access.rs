//! Registries that are not open to everybody: behind nginx with TLS, a password and client certificates, and with a token
//! service. skopeo pushes, with what it has to be told; ocipull fetches with what stands where podman looks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::image::{Compression, Image, Layer, LayoutWriter, one_file};
use crate::logins::{HASH, PASSWORD, USER, log_in};
use crate::nginx::Nginx;
use crate::registry::DockerRegistry;
use crate::token_server::TokenServer;
use crate::tools::{are_here, ocipull, run, skopeo};
use crate::{Scene, host_architecture};

/// A registry that only nginx may be asked for, and a user who may.
struct Guarded {
    scene: Scene,
    nginx: Nginx,
    image: Image,
}

impl Guarded {
    /// Starts both; the user's folder for that registry holds all that it takes, and skopeo has pushed `demo/app:1`.
    fn start() -> Self {
        let scene = Scene::new();
        let authority = Authority::new();
        let nginx = Nginx::start(scene.registry.address(), &authority, &format!("{USER}:{HASH}\n"));
        let image = write_image(&scene.path("source"), "guarded");
        let guarded = Self { scene, nginx, image };
        let folder = guarded.certificates();
        let client = authority.client();
        fs::create_dir_all(&folder).expect("a folder");
        for (name, content) in
            [("ca.crt", &authority.pem), ("client.cert", &client.certificate), ("client.key", &client.key)]
        {
            fs::write(folder.join(name), content).expect("a file is written");
        }
        run(skopeo()
            .args(["copy", "--quiet", "--preserve-digests", "--dest-creds", &format!("{USER}:{PASSWORD}")])
            .arg("--dest-cert-dir")
            .arg(folder)
            .arg(format!("oci:{}:pushed", guarded.scene.text("source")))
            .arg(format!("docker://{}", guarded.reference())));
        guarded
    }

    fn home(&self) -> &Path {
        self.scene.folder.path()
    }

    /// The registry's folder in the user's certs.d.
    fn certificates(&self) -> PathBuf {
        self.home().join(".config/containers/certs.d").join(self.nginx.address())
    }

    fn reference(&self) -> String {
        format!("{}/demo/app:1", self.nginx.address())
    }

    fn log_in(&self, password: &str) -> Output {
        log_in(ocipull(self.home()).args(["login", self.nginx.address()]), password)
    }

    /// Fetches with no option at all, and holds what came against what was pushed.
    fn assert_fetches(&self, out: &str) {
        let report = self.scene.fetch(&self.reference(), out, &[]);
        self.scene.assert_holds(out, &report, &self.image);
        self.scene.assert_skopeo_copies(out, "1", &self.image);
    }

    /// Asks for the image, which must fail in this way and say all of this.
    fn assert_refused(&self, code: i32, options: &[&str], words: &[&str]) {
        let output = ocipull(self.home())
            .args(["resolve", "--retries", "0", &self.reference()])
            .args(options)
            .output()
            .expect("ocipull starts");
        assert_failed(&output, code, words);
    }
}

/// An image of two small layers; of no Debian package, for what is asked here is who may have it.
fn write_image(layout: &Path, marker: &str) -> Image {
    let writer = LayoutWriter::new(layout);
    let layers =
        [one_file("etc", "marker", marker), one_file("usr", "filler", &"0123456789".repeat(100_000))]
            .map(|stream| Layer::new(&stream, Compression::Gzip));
    let image = writer.image(host_architecture(), &layers);
    writer.name("pushed", &image);
    image
}

fn assert_failed(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for words in words {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    assert!(!said.contains(PASSWORD) && output.stdout.is_empty(), "{said}");
}

/// Who can pull with podman fetches with no option: the authority and the client certificate out of certs.d, the password
/// out of auth.json, whether podman or `ocipull login` wrote it.
#[test]
fn registry_behind_nginx_is_fetched_without_an_option() {
    if !are_here(&["docker-registry", "nginx", "skopeo"]) {
        return;
    }
    let guarded = Guarded::start();
    let file = guarded.home().join(".config/containers/auth.json");
    let entry = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let auths = json!({ "auths": { guarded.nginx.address(): { "auth": entry } } });
    fs::write(&file, auths.to_string()).expect("the credentials are written");
    guarded.assert_fetches("by-hand");
    fs::remove_file(&file).expect("they are removed");
    guarded.assert_refused(4, &[], &["hint: ", "login"]);

    assert_failed(&guarded.log_in("wrong"), 4, &[guarded.nginx.address()]);
    guarded.assert_refused(4, &[], &["hint: "]);
    let output = guarded.log_in(PASSWORD);
    assert!(output.status.success(), "{output:?}");
    guarded.assert_fetches("by-login");
}

/// Each thing that is missing is named, with what helps: the password, the authority, the client's certificate.
#[test]
fn what_nginx_wants_and_does_not_get_is_named() {
    if !are_here(&["docker-registry", "nginx", "skopeo"]) {
        return;
    }
    let guarded = Guarded::start();
    let [authority, certificate, key] =
        ["ca.crt", "client.cert", "client.key"].map(|name| guarded.certificates().join(name));
    let credentials = format!("{USER}:{PASSWORD}");
    let right = ["--creds", &credentials];
    let address = guarded.nginx.address();
    guarded.assert_refused(4, &["--creds", "someone:wrong"], &[address, "hint: "]);

    let trusted = fs::read(&authority).expect("the authority");
    fs::remove_file(&authority).expect("it is removed");
    guarded.assert_refused(5, &right, &[address, "issuer is not trusted", "hint: --ca-file FILE"]);
    fs::write(&authority, &trusted).expect("it is back");

    let own = [&certificate, &key].map(|path| fs::read(path).expect("the client's"));
    for path in [&certificate, &key] {
        fs::remove_file(path).expect("it is removed");
    }
    guarded.assert_refused(5, &right, &[address, "was shown none", "hint: put X.cert and X.key"]);
    assert_failed(&guarded.log_in(PASSWORD), 5, &[address, "was shown none", "hint: put X.cert and X.key"]);

    // One that another authority of the same name issued, for else it would not even be shown.
    let other = Authority::new().client();
    fs::write(&certificate, other.certificate).expect("a file is written");
    fs::write(&key, other.key).expect("a file is written");
    guarded.assert_refused(
        5,
        &right,
        &[address, "does not accept the client certificate", "hint: check who"],
    );

    for (path, content) in [&certificate, &key].into_iter().zip(own) {
        fs::write(path, content).expect("it is back");
    }
    guarded.scene.fetch(&guarded.reference(), "out", &right);
}

/// A mirror that has nothing costs nothing but a question; with everything it stands in for a registry that is gone, and the
/// layout names the image as if that one had served it.
#[test]
fn mirror_serves_when_nginx_is_gone() {
    if !are_here(&["docker-registry", "nginx", "skopeo"]) {
        return;
    }
    let mut guarded = Guarded::start();
    let mirror = DockerRegistry::start();
    let configuration = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}/mirrored'\n",
        guarded.nginx.address(),
        mirror.address()
    );
    fs::write(guarded.home().join(".config/containers/registries.conf"), configuration).expect("a file");
    assert!(guarded.log_in(PASSWORD).status.success());
    guarded.assert_fetches("primary");

    let source = format!("{}:pushed", guarded.scene.text("source"));
    mirror.push(&source, "mirrored/demo/app:1", &["--preserve-digests"]);
    guarded.nginx.stop();
    guarded.assert_fetches("mirror");
    let index = |out: &str| fs::read_to_string(guarded.scene.path(out).join("index.json")).expect("an index");
    assert_eq!(index("mirror"), index("primary"));
    assert!(index("mirror").contains(&guarded.reference()));

    let absent = format!("{}/demo/app:2", guarded.nginx.address());
    let output = ocipull(guarded.home())
        .args(["resolve", "--retries", "0", &absent])
        .output()
        .expect("ocipull starts");
    assert_failed(&output, 5, &[guarded.nginx.address(), mirror.address()]);
}

/// A registry that demands tokens, and its token service.
fn with_tokens() -> (TokenServer, DockerRegistry, TempDir, Image) {
    let tokens = TokenServer::start(USER, PASSWORD);
    let registry = DockerRegistry::start_with(&tokens.section());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let image = write_image(&folder.path().join("source"), "token");
    let source = folder.path().join("source").display().to_string();
    let credentials = format!("{USER}:{PASSWORD}");
    for name in ["demo/app:1", "demo/other:1"] {
        let options = ["--preserve-digests", "--dest-creds", &credentials];
        registry.push(&format!("{source}:pushed"), name, &options);
    }
    (tokens, registry, folder, image)
}

/// docker-registry with its token auth: a login that the registry has seen work, or `--creds`, and one token for a whole
/// image; nobody else gets in.
#[test]
fn docker_registry_with_tokens_is_fetched() {
    if !are_here(&["docker-registry", "skopeo"]) {
        return;
    }
    let (tokens, registry, folder, image) = with_tokens();
    let scene = Scene { registry, folder };
    let home = scene.folder.path();
    let reference = scene.registry.reference("demo/app:1");
    let resolve = |options: &[&str]| {
        let mut command = ocipull(home);
        command.args(["resolve", "--retries", "0", &reference]).args(options);
        command.output().expect("ocipull starts")
    };
    let login = |password: &str| log_in(ocipull(home).args(["login", scene.registry.address()]), password);

    assert_failed(&resolve(&[]), 4, &[scene.registry.address(), "hint: "]);
    assert_failed(&resolve(&["--creds", "someone:wrong"]), 4, &["hint: "]);
    assert_failed(&login("wrong"), 4, &[scene.registry.address()]);
    assert_failed(&resolve(&[]), 4, &["hint: "]);

    for (out, is_logged_in) in [("creds", false), ("login", true)] {
        let credentials = format!("{USER}:{PASSWORD}");
        let options = if is_logged_in {
            assert!(login(PASSWORD).status.success());
            vec![]
        } else {
            vec!["--creds", &credentials]
        };
        let before = tokens.issued();
        let report = scene.fetch(&reference, out, &options);
        assert_eq!(tokens.issued() - before, 1, "one token is for all of an image");
        scene.assert_holds(out, &report, &image);
        scene.assert_skopeo_copies(out, "1", &image);
    }
    run(ocipull(home).args(["logout", scene.registry.address()]));
    assert_failed(&resolve(&[]), 4, &["hint: "]);
}

/// docker-registry takes a token for its own repository only, and a token service that gives out others is asked a few times
/// at most.
#[test]
fn token_for_another_repository_is_refused() {
    if !are_here(&["docker-registry", "skopeo"]) {
        return;
    }
    let (tokens, registry, folder, _) = with_tokens();
    let [app, other] = ["demo/app:1", "demo/other:1"].map(|name| registry.reference(name));
    let resolve = |reference: &str, options: &[&str]| {
        let mut command = ocipull(folder.path());
        command.args(["resolve", "--retries", "0", reference]).args(options);
        command.output().expect("ocipull starts")
    };
    let token = tokens.token_for("demo/app");
    let output = resolve(&app, &["--registry-token", &token]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = resolve(&other, &["--registry-token", &token]);
    assert_failed(&output, 4, &[&other]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains(&token), "a token is a secret");

    let credentials = format!("{USER}:{PASSWORD}");
    assert!(resolve(&other, &["--creds", &credentials]).status.success());
    tokens.confuse("demo/other", "demo/app");
    let before = tokens.issued();
    assert_failed(&resolve(&other, &["--creds", &credentials]), 4, &[&other]);
    // A HEAD and a GET that asks why, and two tokens for each at most.
    assert!(tokens.issued() - before <= 4, "{} tokens were asked for", tokens.issued() - before);
    assert!(resolve(&app, &["--creds", &credentials]).status.success());
}
