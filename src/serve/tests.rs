use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::path::Path;

use serde_json::Value;
use tokio::sync::oneshot;

use super::*;
use crate::digest::Digest;

/// A copy of the layout in testdata, served.
struct Served {
    folder: tempfile::TempDir,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn demo() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/demo");
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        for name in ["oci-layout", "index.json"] {
            fs::copy(demo.join(name), folder.path().join(name)).unwrap();
        }
        for entry in fs::read_dir(demo.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join("blobs/sha256").join(entry.file_name())).unwrap();
        }
        Self::start(folder)
    }

    fn start(folder: tempfile::TempDir) -> Self {
        let layout = Layout::open(folder.path()).unwrap();
        let server = Server::bind(layout, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async {
                let _ = stopped.await;
            };
            runtime.block_on(server.run(shutdown)).unwrap();
        });
        Self { folder, address, stop: Some(stop), thread: Some(thread) }
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        let mut stream = StdStream::connect(self.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Reply::parse(&bytes)
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "")
    }

    fn blob(&self, digest: &str) -> Vec<u8> {
        fs::read(self.folder.path().join("blobs").join(digest.replace(':', "/"))).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

const NAME: &str = "/v2/demo/hello";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A client walks from the tag through the index to every blob, and gets the bytes that are on the disk.
#[test]
fn an_image_is_pulled_whole() {
    let served = Served::demo();
    assert_eq!(served.get("/v2/").status, 200);
    assert_eq!(served.get("/v2/").header("docker-distribution-api-version"), "registry/2.0");
    let index = served.get(&format!("{NAME}/manifests/1.0"));
    assert_eq!((index.status, index.header("content-type")), (200, INDEX));
    assert_eq!(index.header("docker-content-digest"), Digest::sha256(&index.body).to_string());
    let mut blobs = 0;
    for entry in index.json()["manifests"].as_array().unwrap() {
        let manifest = served.get(&format!("{NAME}/manifests/{}", entry["digest"].as_str().unwrap()));
        assert_eq!(manifest.header("content-type"), entry["mediaType"].as_str().unwrap());
        let manifest = manifest.json();
        for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().unwrap();
            let reply = served.get(&format!("{NAME}/blobs/{digest}"));
            assert_eq!((reply.status, reply.header("docker-content-digest")), (200, digest));
            assert_eq!(reply.header("accept-ranges"), "bytes");
            assert_eq!(Digest::sha256(&reply.body).to_string(), digest);
            blobs += 1;
        }
    }
    assert_eq!(blobs, 8);
}

/// HEAD says everything that GET says, length included, without a body.
#[test]
fn head_is_get_without_its_body() {
    let served = Served::demo();
    let index = served.get(&format!("{NAME}/manifests/1.0"));
    let digest = index.header("docker-content-digest").to_owned();
    let paths = [
        format!("{NAME}/manifests/1.0"),
        format!("{NAME}/manifests/{digest}"),
        format!("{NAME}/blobs/{digest}"),
        format!("{NAME}/tags/list"),
        format!("{NAME}/manifests/nope"),
        "/v2/".to_owned(),
    ];
    for path in paths {
        let (get, head) = (served.get(&path), served.ask("HEAD", &path, "Range: bytes=1-\r\n"));
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty());
        for name in ["content-length", "content-type", "docker-content-digest", "accept-ranges"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
        }
        assert_eq!(get.header("content-length"), get.body.len().to_string());
    }
}

/// A blob in parts, and what a part beyond its end is answered with.
#[test]
fn blobs_are_served_in_parts() {
    let served = Served::demo();
    let index = served.get(&format!("{NAME}/manifests/1.0"));
    let digest = index.header("docker-content-digest").to_owned();
    let (path, bytes) = (format!("{NAME}/blobs/{digest}"), served.blob(&digest));
    let size = bytes.len();
    for (range, wanted) in
        [("0-9", 0..10), ("100-", 100..size), ("-5", size - 5..size), ("480-9999", 480..size)]
    {
        let reply = served.ask("GET", &path, &format!("Range: bytes={range}\r\nIf-Range: \"x\"\r\n"));
        assert_eq!(reply.status, 206, "{range}");
        let content_range = format!("bytes {}-{}/{size}", wanted.start, wanted.end - 1);
        assert_eq!(reply.header("content-range"), content_range);
        assert_eq!(reply.body, bytes[wanted], "{range}");
    }
    let beyond = served.ask("GET", &path, &format!("Range: bytes={size}-\r\n"));
    assert_eq!((beyond.status, beyond.header("content-range")), (416, format!("bytes */{size}").as_str()));
    assert_eq!(beyond.code(), "RANGE_INVALID");
    let several = served.ask("GET", &path, "Range: bytes=0-1,3-4\r\n");
    assert_eq!((several.status, several.body), (200, bytes));
}

/// A blob of many chunks arrives whole; one that is cut short on the disk while it is served ends the connection.
#[test]
fn large_blobs_are_streamed() {
    let served = Served::demo();
    let bytes: Vec<u8> = (0..=250).cycle().take(3_000_001).collect();
    let digest = Digest::sha256(&bytes);
    let path = served.folder.path().join("blobs/sha256").join(digest.hex());
    fs::write(&path, &bytes).unwrap();
    let reply = served.get(&format!("{NAME}/blobs/{digest}"));
    assert_eq!(reply.header("content-length"), "3000001");
    assert_eq!(Digest::sha256(&reply.body), digest);
    let part = served.ask("GET", &format!("{NAME}/blobs/{digest}"), "Range: bytes=1000000-2999999\r\n");
    assert!(part.body == bytes[1_000_000..3_000_000]);
    // Longer than what the two sockets buffer, so that the server is still reading when the end goes away.
    let long = fs::OpenOptions::new().write(true).open(&path).unwrap();
    long.set_len(256 << 20).unwrap();
    let mut stream = StdStream::connect(served.address).unwrap();
    write!(stream, "GET {NAME}/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1024]).unwrap();
    long.set_len(1024).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 256 << 20, "the connection ended before the promised length");
}

/// Every name by which the image may be asked for, and by which it may not.
#[test]
fn names_are_matched() {
    let served = Served::demo();
    let cases = [
        ("/v2/demo/hello/manifests/1.0", 200, ""),
        ("/v2/demo/hello/manifests/1.0?ns=example.com", 200, ""),
        ("/v2/example.com/demo/hello/manifests/1.0", 200, ""),
        ("/v2/demo/hello/manifests/1.0?ns=docker.io", 404, "NAME_UNKNOWN"),
        ("/v2/demo/hello/manifests/2.0", 404, "MANIFEST_UNKNOWN"),
        ("/v2/demo/other/manifests/1.0", 404, "NAME_UNKNOWN"),
        ("/v2/demo/other/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/demo/hello/manifests/sha256:12", 400, "DIGEST_INVALID"),
        ("/v2/demo/hello/blobs/sha256:12", 400, "DIGEST_INVALID"),
        ("/v2/demo/hello/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"),
        ("/v2/demo/hello/referrers/sha256:12", 400, "DIGEST_INVALID"),
        ("/v2/demo/hello/referrers/1.0", 400, "DIGEST_INVALID"),
        ("/etc/passwd", 404, "NOT_FOUND"),
    ];
    for (path, status, code) in cases {
        let reply = served.get(path);
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
        if !code.is_empty() {
            assert_eq!(
                (reply.code().as_str(), reply.header("content-type")),
                (code, "application/json"),
                "{path}"
            );
        }
    }
    let unknown = Digest::sha256(b"unknown");
    assert_eq!(served.get(&format!("{NAME}/blobs/{unknown}")).code(), "BLOB_UNKNOWN");
    assert_eq!(served.get(&format!("{NAME}/manifests/{unknown}")).code(), "MANIFEST_UNKNOWN");
    // A layer is a blob and no manifest.
    let layer = served.folder.path().join("blobs/sha256").read_dir().unwrap().map(|entry| entry.unwrap());
    let layer =
        layer.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap().file_name().into_string().unwrap();
    assert_eq!(served.get(&format!("{NAME}/manifests/sha256:{layer}")).code(), "MANIFEST_UNKNOWN");
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let reply = served.ask(method, "/v2/demo/hello/manifests/1.0", "Content-Length: 0\r\n");
        assert_eq!((reply.status, reply.code().as_str()), (405, "UNSUPPORTED"), "{method}");
        assert_eq!(reply.header("allow"), "GET, HEAD");
    }
}

/// A sparse index is served byte for byte, because its digest is what clients pin; what was left out of it is unknown, not
/// an error of the server.
#[test]
fn what_a_sparse_layout_lacks_is_unknown() {
    let served = Served::demo();
    let before = served.get(&format!("{NAME}/manifests/1.0"));
    let manifests = before.json()["manifests"].clone();
    let [here, gone] = [0, 1].map(|at| manifests[at]["digest"].as_str().unwrap().to_owned());
    fs::remove_file(served.folder.path().join("blobs").join(gone.replace(':', "/"))).unwrap();
    let path = served.folder.path().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["manifests"][0]["annotations"]["io.ocipull.platforms"] = "linux/amd64".into();
    fs::write(&path, index.to_string()).unwrap();
    let after = served.get(&format!("{NAME}/manifests/1.0"));
    assert!(after.status == 200 && after.body == before.body);
    assert_eq!(Digest::sha256(&after.body).to_string(), after.header("docker-content-digest"));
    assert_eq!(served.get(&format!("{NAME}/manifests/{here}")).status, 200);
    for method in ["GET", "HEAD"] {
        assert_eq!(served.ask(method, &format!("{NAME}/manifests/{gone}"), "").status, 404);
    }
    assert_eq!(served.get(&format!("{NAME}/manifests/{gone}")).code(), "MANIFEST_UNKNOWN");
    assert_eq!(served.get(&format!("{NAME}/blobs/{gone}")).code(), "BLOB_UNKNOWN");
}

/// What the layout holds about a manifest is listed, by type where a type is asked for, and each of it can be pulled from
/// the same repository.
#[test]
fn referrers_are_listed() {
    let served = Served::demo();
    let subject = served.get(&format!("{NAME}/manifests/1.0")).header("docker-content-digest").to_owned();
    let list = |query: &str| served.get(&format!("{NAME}/referrers/{subject}{query}"));
    let empty = list("");
    assert_eq!((empty.status, empty.header("content-type")), (200, INDEX));
    assert_eq!(empty.json(), serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}));

    let put = |content: &Value, media_type: &str| -> Value {
        let content = content.to_string();
        let digest = Digest::sha256(content.as_bytes());
        fs::write(served.folder.path().join("blobs/sha256").join(digest.hex()), &content).unwrap();
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    };
    let about = |subject: &Value, kind: &str| {
        let config = put(&serde_json::json!({}), "application/vnd.oci.empty.v1+json");
        let manifest = serde_json::json!({"schemaVersion": 2, "artifactType": kind, "config": config,
            "subject": subject, "annotations": {"made": "by hand"}});
        put(&manifest, "application/vnd.oci.image.manifest.v1+json")
    };
    let image = serde_json::json!({"mediaType": INDEX, "digest": subject, "size": 491});
    let (sbom, signature) =
        (about(&image, "application/x.sbom+json"), about(&image, "application/x.signature"));
    let of_sbom = about(&sbom, "application/x.signature");
    let absent = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::sha256(b"absent"), "size": 3});
    let fallback =
        serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [signature, absent]});
    let mut fallback = put(&fallback, INDEX);
    let tag = subject.replace(':', "-");
    fallback["annotations"] =
        serde_json::json!({"io.containerd.image.name": format!("example.com/demo/hello:{tag}")});
    let path = served.folder.path().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["manifests"].as_array_mut().unwrap().extend([sbom.clone(), of_sbom.clone(), fallback]);
    fs::write(&path, index.to_string()).unwrap();

    let listed = list("");
    assert_eq!((listed.status, listed.header("oci-filters-applied")), (200, ""));
    let manifests = listed.json()["manifests"].clone();
    let mut wanted = sbom.clone();
    wanted["artifactType"] = "application/x.sbom+json".into();
    wanted["annotations"] = serde_json::json!({"made": "by hand"});
    assert_eq!((manifests.as_array().unwrap().len(), &manifests[0]), (2, &wanted));
    assert_eq!(manifests[1]["digest"], signature["digest"]);
    for (query, found) in [("application/x.sbom%2Bjson", 1), ("application/x.sbom+json", 1), ("none", 0)] {
        let filtered = list(&format!("?artifactType={query}"));
        assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
        assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), found, "{query}");
    }
    for manifest in [&sbom, &signature, &of_sbom] {
        let digest = manifest["digest"].as_str().unwrap();
        let reply = served.get(&format!("{NAME}/manifests/{digest}"));
        assert_eq!((reply.status, reply.header("docker-content-digest")), (200, digest));
    }
    let by_tag = served.get(&format!("{NAME}/manifests/{tag}"));
    assert_eq!((by_tag.status, by_tag.header("content-type")), (200, INDEX));
    let unknown = Digest::sha256(b"unknown");
    assert_eq!(served.get(&format!("{NAME}/referrers/{unknown}")).json()["manifests"], serde_json::json!([]));
    assert_eq!(served.get(&format!("/v2/demo/other/referrers/{subject}")).code(), "NAME_UNKNOWN");
}

/// A manifest whose bytes are not its digest's is never served; neither is what stands in place of a blob.
#[test]
fn what_does_not_hold_is_not_served() {
    let served = Served::demo();
    let index = served.get(&format!("{NAME}/manifests/1.0"));
    let path =
        served.folder.path().join("blobs").join(index.header("docker-content-digest").replace(':', "/"));
    fs::write(&path, "{}").unwrap();
    let reply = served.get(&format!("{NAME}/manifests/1.0"));
    assert_eq!((reply.status, reply.code().as_str()), (500, "UNKNOWN"));
    assert!(!String::from_utf8(reply.body).unwrap().contains("blobs/"), "no paths of this machine");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let digest = index.header("docker-content-digest");
    assert_eq!(served.get(&format!("{NAME}/blobs/{digest}")).status, 404);
    // A layout that came from elsewhere must not lead to the files of this machine.
    #[cfg(unix)]
    {
        let outside = served.folder.path().join("secret");
        fs::write(&outside, "secret").unwrap();
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(&outside, &path).unwrap();
        assert_eq!(served.get(&format!("{NAME}/blobs/{digest}")).status, 404);
    }
}

/// A manifest goes by its own type, whatever the last index that lists it calls it: clients refuse any other. One without a
/// type of its own is what the first that lists it says.
#[test]
fn manifests_have_their_own_type() {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
    fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let put = |content: &Value, media_type: &str| -> Value {
        let content = content.to_string();
        let digest = Digest::sha256(content.as_bytes());
        fs::write(folder.path().join("blobs/sha256").join(digest.hex()), &content).unwrap();
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    };
    let named = |mut descriptor: Value, name: &str| {
        descriptor["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
        descriptor
    };
    let mut manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": put(&serde_json::json!({}), "application/vnd.oci.empty.v1+json")});
    let typed = put(&manifest, MANIFEST);
    manifest.as_object_mut().unwrap().remove("mediaType");
    let untyped = put(&manifest, MANIFEST);
    let page = |descriptor: &Value| {
        let mut page = descriptor.clone();
        page["mediaType"] = "text/html".into();
        page
    };
    let index = put(
        &serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [page(&typed), page(&untyped)]}),
        INDEX,
    );
    let entries = [named(typed.clone(), "typed"), named(untyped.clone(), "untyped"), named(index, "index")];
    let text = serde_json::json!({"schemaVersion": 2, "manifests": entries}).to_string();
    fs::write(folder.path().join("index.json"), text).unwrap();
    let served = Served::start(folder);
    let repository = served.folder.path().file_name().unwrap().to_string_lossy().to_lowercase();
    let repository = repository.trim_start_matches('.').to_owned();
    let type_of = |wanted: &str| {
        let reply = served.get(&format!("/v2/{repository}/manifests/{wanted}"));
        (reply.status, reply.header("content-type").to_owned())
    };
    for (descriptor, tag) in [(&typed, "typed"), (&untyped, "untyped")] {
        let digest = descriptor["digest"].as_str().unwrap();
        assert_eq!(type_of(digest), (200, MANIFEST.to_owned()), "{tag}");
        assert_eq!(type_of(tag), (200, MANIFEST.to_owned()), "{tag}");
    }
}

/// What a fetch names while the server runs is there at once, and a half-written index changes nothing.
#[test]
fn a_changed_index_shows() {
    let served = Served::demo();
    let tags = |path: &str| served.get(path).json()["tags"].clone();
    assert_eq!(tags(&format!("{NAME}/tags/list")), serde_json::json!(["1.0"]));
    let path = served.folder.path().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for tag in ["3.0", "2.0", "1.1"] {
        let mut entry = index["manifests"][0].clone();
        entry["annotations"]["io.containerd.image.name"] = format!("example.com/demo/hello:{tag}").into();
        index["manifests"].as_array_mut().unwrap().push(entry);
    }
    fs::write(&path, index.to_string()).unwrap();
    assert_eq!(tags(&format!("{NAME}/tags/list")), serde_json::json!(["1.0", "1.1", "2.0", "3.0"]));
    fs::write(&path, "{").unwrap();
    assert_eq!(tags(&format!("{NAME}/tags/list")), serde_json::json!(["1.0", "1.1", "2.0", "3.0"]));
    let page = served.get(&format!("{NAME}/tags/list?n=2&ns=example.com"));
    assert_eq!(page.json(), serde_json::json!({"name": "demo/hello", "tags": ["1.0", "1.1"]}));
    assert_eq!(page.header("link"), "</v2/demo/hello/tags/list?n=2&last=1.1&ns=example.com>; rel=\"next\"");
    let last = served.get("/v2/demo/hello/tags/list?n=2&last=1.1");
    assert_eq!((last.json()["tags"].clone(), last.header("link")), (serde_json::json!(["2.0", "3.0"]), ""));
    assert_eq!(tags(&format!("{NAME}/tags/list?n=0")), serde_json::json!([]));
    assert_eq!(tags(&format!("{NAME}/tags/list?last=zzz")), serde_json::json!([]));
}

/// One connection serves request after request, and a server that is told to end does not wait for idle clients.
#[test]
fn connections_are_kept_and_end_with_the_server() {
    let served = Served::demo();
    let mut stream = StdStream::connect(served.address).unwrap();
    for _ in 0..3 {
        write!(stream, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).unwrap();
        assert_eq!(Reply::parse(&buffer[..read]).status, 200);
    }
    let started = std::time::Instant::now();
    drop(served);
    assert!(started.elapsed() < GRACE);
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
}

/// What cannot be served says so before anything runs.
#[test]
fn an_address_in_use_is_an_error() {
    use crate::failure::{Failure, Kind};
    let served = Served::demo();
    let error = Server::bind(Layout::open(served.folder.path()).unwrap(), served.address).unwrap_err();
    assert!(matches!(error, ServeError::Listen { .. }));
    assert_eq!(error.kind(), Kind::Other);
    assert!(error.hint().is_some());
}
