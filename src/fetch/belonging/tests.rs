//! A registry without the referrers API, out of a layout that is served: lists are indexes under fallback tags.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::failure::{Failure as _, Kind};
use crate::layout::Layout;
use crate::manifest::MediaType;
use crate::progress::Reporter;
use crate::reference::Reference;
use crate::registry::{Options, Registry};
use crate::serve::Server;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SIGNATURE: &str = "application/vnd.example.signature";
const SBOM: &str = "application/spdx+json";

/// What the registry has.
struct Content {
    folder: tempfile::TempDir,
    entries: Vec<Value>,
}

impl Content {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        std::fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { folder, entries: Vec::new() }
    }

    fn put(&self, document: &Value) -> Value {
        let bytes = document.to_string();
        let digest = Digest::sha256(bytes.as_bytes());
        std::fs::write(self.folder.path().join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
        json!({"mediaType": document["mediaType"], "digest": digest, "size": bytes.len()})
    }

    /// An artifact of a type about a subject.
    fn artifact(&self, artifact_type: &str, subject: Option<&Value>) -> Value {
        let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2});
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact_type, "config": config,
            "layers": [], "annotations": {"org.example.of": artifact_type}
        });
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        self.put(&manifest)
    }

    fn index(&self, entries: &[Value]) -> Value {
        self.put(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))
    }

    fn name(&mut self, tag: &str, descriptor: &Value) {
        let mut entry = descriptor.clone();
        entry["annotations"] = json!({"io.containerd.image.name": format!("docker.io/team/app:{tag}")});
        self.entries.push(entry);
    }

    /// Lists referrers under the tag of their subject.
    fn list(&mut self, subject: &Value, referrers: &[Value]) {
        let index = self.index(referrers);
        self.name(Tag::of_referrers(&digest(subject)).as_str(), &index);
    }

    async fn collect(
        &self,
        subjects: &[&Value],
        wanted: &Referrers,
    ) -> Result<(Vec<Belonging>, Vec<String>), FetchError> {
        let index = json!({"schemaVersion": 2, "manifests": self.entries}).to_string();
        std::fs::write(self.folder.path().join("index.json"), index).unwrap();
        let layout = Layout::open(self.folder.path()).unwrap();
        let server = Server::bind(layout, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = without_the_api(server.local_addr()).await;
        let reference: Reference = format!("{address}/team/app:v1").parse().unwrap();
        tokio::spawn(server.run(std::future::pending()));
        let registry = Registry::new(Options::default()).unwrap();
        let warnings = Arc::new(Warnings::default());
        let reporter: Arc<dyn Reporter> = Arc::clone(&warnings) as Arc<dyn Reporter>;
        let documents = Documents::new(&registry, None, &reference, &reporter);
        let subjects: Vec<Digest> = subjects.iter().map(|subject| digest(subject)).collect();
        let found = collect(&documents, &subjects, wanted).await?;
        Ok((found, warnings.0.lock().unwrap().clone()))
    }
}

/// The server as a registry without the referrers API, whose tags say what clients wrote there: the API of a layout never
/// lists what is no referrer. Takes one request a connection.
async fn without_the_api(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, server));
        }
    });
    address
}

async fn forward(mut client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
        if head[0] == TLS_HANDSHAKE {
            return Ok(());
        }
    }
    let head = String::from_utf8(head).unwrap();
    if head.contains("/referrers/") {
        let refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(refusal).await;
    }
    let mut server = TcpStream::connect(server).await?;
    server.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).await?;
    tokio::io::copy(&mut server, &mut client).await?;
    client.shutdown().await
}

/// The first byte of a client that tries TLS.
const TLS_HANDSHAKE: u8 = 0x16;

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn report(&self, event: Event) {
        if let Event::Warning { message } = event {
            self.0.lock().unwrap().push(message);
        }
    }
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

fn digests(found: &[Belonging]) -> Vec<Digest> {
    found.iter().map(|one| one.descriptor.digest).collect()
}

fn cosign_tag(subject: &Value, kind: &str) -> String {
    format!("sha256-{}.{kind}", digest(subject).hex())
}

fn types(types: &[&str]) -> Referrers {
    Referrers::Types(types.iter().map(|text| (*text).to_owned()).collect())
}

/// A signature of the list of materials of an image belongs to the image; each thing knows what it is about and how it
/// was found, so that the far side can have it the same way. Nobody signs cosign's signatures.
#[tokio::test]
async fn what_belongs_is_found_recursively() {
    let mut content = Content::new();
    let image = content.artifact("image", None);
    let sbom = content.artifact(SBOM, Some(&image));
    let signature = content.artifact(SIGNATURE, Some(&sbom));
    let (sig, att) = (content.artifact("sig", None), content.artifact("att", Some(&image)));
    content.list(&image, &[sbom.clone(), att.clone()]);
    content.list(&sbom, std::slice::from_ref(&signature));
    content.name(&cosign_tag(&image, "sig"), &sig);
    content.name(&cosign_tag(&image, "att"), &att);
    let (nested, of_sbom) = (content.artifact("nested", None), content.artifact("of materials", None));
    content.name(&cosign_tag(&sig, "sig"), &nested);
    content.name(&cosign_tag(&sbom, "sig"), &of_sbom);

    let (found, warnings) = content.collect(&[&image, &image], &Referrers::All).await.unwrap();
    assert_eq!(warnings, [""; 0]);
    let tag = |subject, kind| Found::Tag(cosign_tag(subject, kind).parse().unwrap());
    let expected = [
        (&sbom, &image, Found::Referrer),
        (&att, &image, Found::Referrer),
        (&sig, &image, tag(&image, "sig")),
        (&att, &image, tag(&image, "att")),
        (&signature, &sbom, Found::Referrer),
        (&of_sbom, &sbom, tag(&sbom, "sig")),
    ];
    assert_eq!(found.len(), expected.len(), "{:?}", digests(&found));
    for (one, (descriptor, subject, how)) in found.iter().zip(expected) {
        assert_eq!(
            (one.descriptor.digest, one.subject, &one.found),
            (digest(descriptor), digest(subject), &how)
        );
        assert_eq!(one.manifest.raw().len() as u64, one.descriptor.size);
    }
    assert_eq!(found[0].descriptor.artifact_type.as_deref(), Some(SBOM));
    assert_eq!(found[0].descriptor.annotations["org.example.of"], SBOM);
    let (none, _) = content.collect(&[&image], &Referrers::None).await.unwrap();
    assert!(none.is_empty());
}

/// What the registry lists is a hint: only what says so itself belongs to the image, and the manifest's own type counts.
#[tokio::test]
async fn lists_are_not_believed() {
    let mut content = Content::new();
    let (image, other) = (content.artifact("image", None), content.artifact("other", None));
    let (stranger, unrelated) =
        (content.artifact(SIGNATURE, Some(&other)), content.artifact(SIGNATURE, None));
    let mut disguised = content.artifact(SBOM, Some(&image));
    disguised["artifactType"] = SIGNATURE.into();
    disguised["annotations"] = json!({"org.example.lie": "1"});
    let gone = json!({"mediaType": MANIFEST, "digest": Digest::sha256(b"gone"), "size": 4});
    let unknown = json!({"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "digest": Digest::sha256(b"u"), "size": 1, "artifactType": "x/y"});
    content.list(
        &image,
        &[stranger.clone(), unrelated.clone(), disguised.clone(), gone.clone(), unknown.clone()],
    );

    let (found, warnings) = content.collect(&[&image], &Referrers::All).await.unwrap();
    assert_eq!(digests(&found), [digest(&disguised)]);
    assert_eq!(found[0].descriptor.artifact_type.as_deref(), Some(SBOM));
    assert!(!found[0].descriptor.annotations.contains_key("org.example.lie"));
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    for left_out in [&stranger, &unrelated, &gone, &unknown] {
        assert!(warnings.iter().any(|text| text.contains(&digest(left_out).to_string())), "{warnings:?}");
    }
    let (found, warnings) = content.collect(&[&image], &types(&[SIGNATURE])).await.unwrap();
    assert_eq!(digests(&found), []);
    let unknown = digest(&unknown).to_string();
    assert!(!warnings.iter().any(|text| text.contains(&unknown)), "of another type: {warnings:?}");
}

/// The digest proves the bytes: what a list says of them otherwise is only worth a word, and no reason not to look.
#[tokio::test]
async fn a_list_may_be_wrong_about_what_it_lists() {
    let mut content = Content::new();
    let image = content.artifact("image", None);
    let mut listed = Vec::new();
    for (field, value) in [("size", json!(1)), ("artifactType", json!("application/vnd.oci.empty.v1+json"))] {
        let mut referrer = content.put(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": SBOM, "subject": image, "layers": [],
            "config": {"mediaType": "a/b", "digest": Digest::sha256(field.as_bytes()), "size": 1}
        }));
        referrer[field] = value;
        listed.push(referrer);
    }
    content.list(&image, &listed);
    for wanted in [Referrers::All, types(&[SBOM])] {
        let (found, warnings) = content.collect(&[&image], &wanted).await.unwrap();
        assert_eq!(digests(&found), listed.iter().map(digest).collect::<Vec<_>>());
        for one in &found {
            let descriptor = &one.descriptor;
            assert_eq!(
                (descriptor.size, &descriptor.media_type),
                (one.manifest.raw().len() as u64, &MediaType::OCI_MANIFEST)
            );
        }
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("is listed with 1 bytes"), "{warnings:?}");
    }
}

/// A thousand things that are left out are not a thousand lines.
#[tokio::test]
async fn warnings_are_counted() {
    let mut content = Content::new();
    let image = content.artifact("image", None);
    let entry = |media_type: &str, number: usize| {
        let digest = Digest::sha256(format!("{media_type} {number}").as_bytes());
        json!({"mediaType": media_type, "digest": digest, "size": 1})
    };
    let listed: Vec<Value> = (0..20)
        .map(|number| entry("x/y", number))
        .chain((0..10).map(|number| entry(MANIFEST, number)))
        .collect();
    content.list(&image, &listed);
    let (_, warnings) = content.collect(&[&image], &Referrers::All).await.unwrap();
    assert_eq!(warnings.len(), 8, "{warnings:?}");
    assert!(warnings[6].starts_with("17 more are left out that nobody reads"), "{warnings:?}");
    assert!(warnings[7].starts_with("7 more referrers are left out that the registry"), "{warnings:?}");
}

/// A tag of cosign's may stand for anything: only what could be its manifest is taken, before anything of it is downloaded.
#[tokio::test]
async fn what_a_tag_names_may_be_anything() {
    let mut content = Content::new();
    let image = content.artifact("image", None);
    let schema1 = content.put(&json!({
        "schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+json", "name": "a",
        "tag": "b", "architecture": "amd64", "fsLayers": [{"blobSum": Digest::sha256(b"layer")}],
        "history": [{"v1Compatibility": json!({"id": "3".repeat(64)}).to_string()}]
    }));
    content.name(&cosign_tag(&image, "sig"), &schema1);
    content.name(&cosign_tag(&image, "att"), &image);
    let (found, warnings) = content.collect(&[&image], &Referrers::All).await.unwrap();
    assert_eq!(digests(&found), []);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(".sig names is left out: it is an image in Docker's old"), "{warnings:?}");
}

/// An index without one of its manifests could not be named; it is left out, and both are said.
#[tokio::test]
async fn an_index_that_lacks_something_is_left_out() {
    let mut content = Content::new();
    let image = content.artifact("image", None);
    let child = content.artifact("child", None);
    let gone = json!({"mediaType": MANIFEST, "digest": Digest::sha256(b"gone"), "size": 4});
    let subject = |entries: &[&Value]| {
        json!({
            "schemaVersion": 2, "mediaType": INDEX, "subject": image, "artifactType": SBOM, "manifests": entries
        })
    };
    let (torn, whole) = (content.put(&subject(&[&child, &gone])), content.put(&subject(&[&child])));
    content.list(&image, &[torn.clone(), whole.clone()]);
    let (found, warnings) = content.collect(&[&image], &Referrers::All).await.unwrap();
    assert_eq!(digests(&found), [digest(&whole)]);
    assert_eq!(warnings.len(), 1);
    assert!([&torn, &gone].iter().all(|one| warnings[0].contains(&digest(one).to_string())), "{warnings:?}");
}

/// Types are compared as they are; without an artifact type the config's counts, and under cosign's tags a layer's.
#[tokio::test]
async fn types_are_filtered_here() {
    let mut content = Content::new();
    let image = content.artifact("image", None);
    let with_config = |config: &str, layer: &str, subject: Option<&Value>| {
        let blob =
            |media_type: &str| json!({"mediaType": media_type, "digest": Digest::sha256(b""), "size": 0});
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(config), "layers": [blob(layer)]});
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        content.put(&manifest)
    };
    let by_config = with_config("application/x.config", "application/x.layer", Some(&image));
    let tagged = with_config("application/x.other", "application/x.simplesigning", None);
    let (sbom, signature) = (content.artifact(SBOM, Some(&image)), content.artifact(SIGNATURE, Some(&image)));
    let of_signature = content.artifact(SBOM, Some(&signature));
    content.list(&image, &[by_config.clone(), sbom.clone(), signature.clone()]);
    content.list(&signature, std::slice::from_ref(&of_signature));
    content.name(&cosign_tag(&image, "sig"), &tagged);

    let cases: [(&[&str], Vec<&Value>); 8] = [
        (&[SBOM], vec![&sbom]),
        (&[SIGNATURE], vec![&signature]),
        (&[SIGNATURE, SBOM], vec![&sbom, &signature, &of_signature]),
        (&["application/x.config"], vec![&by_config]),
        (&["application/x.layer"], vec![]),
        (&["application/x.simplesigning"], vec![&tagged]),
        (&["application/x.other"], vec![&tagged]),
        (&["APPLICATION/SPDX+JSON", "spdx", "application/*", ""], vec![]),
    ];
    for (wanted, expected) in cases {
        let (found, _) = content.collect(&[&image], &types(wanted)).await.unwrap();
        let expected: Vec<Digest> = expected.into_iter().map(digest).collect();
        assert_eq!(digests(&found), expected, "{wanted:?}");
    }
}

/// A referrer may be an index: what is below it comes along, what is in there and no manifest does not.
#[tokio::test]
async fn indexes_come_with_their_children() {
    let mut content = Content::new();
    let image = content.artifact("image", None);
    let (one, two) = (content.artifact("one", None), content.artifact("two", None));
    let blob = json!({"mediaType": "text/plain", "digest": Digest::sha256(b"text"), "size": 4});
    let nested = content.index(&[two.clone(), one.clone()]);
    let referrer = content.put(&json!({
        "schemaVersion": 2, "mediaType": INDEX, "artifactType": SBOM, "subject": image,
        "manifests": [one, blob, nested]
    }));
    content.list(&image, std::slice::from_ref(&referrer));
    let (found, _) = content.collect(&[&image], &types(&[SBOM])).await.unwrap();
    assert_eq!(digests(&found), [digest(&referrer)]);
    let children: Vec<Digest> = found[0].children.iter().map(|(descriptor, _)| descriptor.digest).collect();
    assert_eq!(children, [digest(&one), digest(&nested), digest(&two)]);
}

/// A registry must not be able to keep this busy for ever, or to fill the memory: depth and number have an end.
#[tokio::test]
async fn there_is_an_end() {
    for (depth, fits) in [(DEEPEST, true), (DEEPEST + 1, false)] {
        let mut content = Content::new();
        let image = content.artifact("image", None);
        let mut subject = image.clone();
        for level in 0..depth {
            let referrer = content.artifact(&format!("level {level}"), Some(&subject));
            content.list(&subject, std::slice::from_ref(&referrer));
            subject = referrer;
        }
        match content.collect(&[&image], &Referrers::All).await {
            Ok((found, _)) => assert!(fits && found.len() == depth),
            Err(error) => assert!(!fits && matches!(error, FetchError::ReferrersLimit { .. }), "{error}"),
        }
    }
    let mut content = Content::new();
    let image = content.artifact("image", None);
    let many: Vec<Value> = (0..=MOST)
        .map(|number| json!({"mediaType": MANIFEST, "digest": Digest::sha256(&number.to_be_bytes()), "size": 1}))
        .collect();
    content.list(&image, &many);
    let error = content.collect(&[&image], &Referrers::All).await.unwrap_err();
    assert!(matches!(error, FetchError::ReferrersLimit { limit: Limit::Manifests }), "{error}");
    assert_eq!(error.to_string(), "too much belongs to the image: more than 1000 manifests");
    assert_eq!(error.kind(), Kind::Integrity);
    assert!(error.hint().unwrap().contains("--referrers=TYPE"));
}

/// A fetch runs on any of the runtime's threads, and so must this.
#[tokio::test]
async fn it_can_move_between_threads() {
    let found = tokio::spawn(async {
        let registry = Registry::new(Options::default()).unwrap();
        let reference: Reference = "r.example/app:v1".parse().unwrap();
        let reporter: Arc<dyn Reporter> = Arc::new(Warnings::default());
        let documents = Documents::new(&registry, None, &reference, &reporter);
        collect(&documents, &[], &Referrers::All).await.unwrap().len()
    });
    assert_eq!(found.await.unwrap(), 0);
}
