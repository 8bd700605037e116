//! certs.d: authorities and client certificates for single registries.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{
    Certificate, ClientAuthority, FaultRegistry, PushedImage, TestContext, check_layout, image, text,
};

fn pushed(registry: &FaultRegistry) -> PushedImage {
    registry.push(image().layer(text(3000)))
}

/// The folder of the registry in the user's certs.d.
fn folder_of(context: &TestContext, registry: &FaultRegistry) -> PathBuf {
    let folder = context.home().join(".config/containers/certs.d").join(registry.host());
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn put_ca(registry: &FaultRegistry, file: &Path) {
    fs::copy(registry.ca_file().expect("it speaks TLS"), file).unwrap();
}

fn put_client(authority: &ClientAuthority, folder: &Path, name: &str) {
    let (certificate, key) = authority.client();
    fs::write(folder.join(format!("{name}.cert")), certificate).unwrap();
    fs::write(folder.join(format!("{name}.key")), key).unwrap();
}

/// What docker and podman find in a registry's folder is found without any option.
#[test]
fn the_authorities_of_a_registry_are_trusted() {
    for certificate in [Certificate::Signed, Certificate::SelfSigned] {
        let registry = FaultRegistry::builder().tls(certificate).start();
        let (context, pushed) = (TestContext::new(), pushed(&registry));
        put_ca(&registry, &folder_of(&context, &registry).join("ca.crt"));
        context.run(["fetch", &pushed.reference()]).arg(context.out()).success();
        check_layout(&context.out());
        let other = FaultRegistry::builder().tls(certificate).start();
        let image = self::pushed(&other).reference();
        context.run(["resolve", "--retries", "0", &image]).fails_with(5);
    }
}

/// A registry that lets in nobody without a certificate lets in who has one, out of certs.d or `--cert-dir`.
#[test]
fn client_certificates_are_shown() {
    let authority = Arc::new(ClientAuthority::new("clients"));
    let other = ClientAuthority::new("others");
    let registry = FaultRegistry::builder().tls(Certificate::Signed).only_clients_of(&authority).start();
    let (context, pushed) = (TestContext::new(), pushed(&registry));
    let folder = folder_of(&context, &registry);
    put_ca(&registry, &folder.join("ca.crt"));
    let outcome = context.run(["resolve", "--retries", "0", &pushed.reference()]).fails_with(5);
    for words in ["the server asks for a client certificate", "hint: put X.cert and X.key"] {
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    assert_eq!(registry.requests().len(), 0);

    put_client(&other, &folder, "a");
    put_client(&authority, &folder, "b");
    context.run(["fetch", &pushed.reference()]).arg(context.out()).success();
    check_layout(&context.out());

    let elsewhere = TestContext::new();
    let run = elsewhere.run(["fetch", &pushed.reference(), "--cert-dir"]);
    run.arg(&folder).arg(elsewhere.out()).success();
    check_layout(&elsewhere.out());
}

/// A client certificate is a credential: where the registry sends to does not get to see it, and has a folder of its own.
#[test]
fn client_certificates_stay_at_home() {
    let authority = Arc::new(ClientAuthority::new("clients"));
    let storage = FaultRegistry::builder().tls(Certificate::Signed).only_clients_of(&authority).start();
    let registry = FaultRegistry::builder()
        .tls(Certificate::Signed)
        .only_clients_of(&authority)
        .redirect_blobs_to(&storage)
        .start();
    let (context, pushed) = (TestContext::new(), pushed(&registry));
    let folder = folder_of(&context, &registry);
    put_ca(&registry, &folder.join("ca.crt"));
    put_ca(&storage, &folder.join("storage.crt"));
    put_client(&authority, &folder, "client");
    let fetch = || context.run(["fetch", "--retries", "0", &pushed.reference()]).arg(context.out());
    fetch().fails_with(5);
    assert_eq!(storage.requests().len(), 0);
    // Its certificate was trusted, and it asked for one in return.
    storage.wait_until("a failed handshake", |storage| storage.failed_handshakes() > 0);

    put_client(&authority, &folder_of(&context, &storage), "client");
    fetch().success();
    check_layout(&context.out());
}

/// Half a pair, or a file that is not what its name says, is named, and nothing is asked.
#[test]
fn what_is_wrong_in_a_folder_is_named() {
    let registry = FaultRegistry::builder().tls(Certificate::Signed).start();
    let pushed = pushed(&registry);
    for (name, content, words) in [
        ("client.cert", "", "client.cert is a client certificate, and its key client.key is not beside it"),
        ("client.key", "", "client.key is a client's key, and its certificate client.cert is not beside it"),
        ("ca.crt", "garbage", "ca.crt cannot be used: there is no certificate in it"),
    ] {
        let context = TestContext::new();
        let folder = folder_of(&context, &registry);
        fs::write(folder.join(name), content).unwrap();
        for run in [
            context.run(["resolve", &pushed.reference()]),
            context.run(["resolve", &pushed.reference(), "--cert-dir"]).arg(&folder),
        ] {
            let outcome = run.fails_with(2);
            assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        }
    }
    let context = TestContext::new();
    let outcome = context.run(["resolve", &pushed.reference(), "--cert-dir", "nowhere"]).fails_with(2);
    assert!(outcome.stderr.contains("cannot read nowhere"), "{}", outcome.stderr);
    assert_eq!((registry.requests().len(), registry.failed_handshakes()), (0, 0));
}

/// `insecure` of registries.conf accepts any certificate, for that registry; `--tls-verify=true` is stronger.
#[test]
fn insecure_is_for_one_registry() {
    let insecure = FaultRegistry::builder().tls(Certificate::Expired).start();
    let secure = FaultRegistry::builder().tls(Certificate::Signed).start();
    let (context, image, other) = (TestContext::new(), pushed(&insecure), pushed(&secure));
    let configuration = format!("[[registry]]\nlocation = '{}'\ninsecure = true\n", insecure.host());
    fs::write(context.path().join("r.conf"), configuration).unwrap();
    let resolve = |image: &PushedImage| {
        context.run(["resolve", "--retries", "0", "--registries-conf", "r.conf", &image.reference()])
    };
    resolve(&image).success();
    resolve(&image).arg("--tls-verify=true").fails_with(5);
    resolve(&other).fails_with(5);
}
