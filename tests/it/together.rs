//! One layout and several who write into it: processes at the same time, other images, other tools.

use std::fs;
use std::path::Path;

use crate::support::{
    Fault, FaultRegistry, Gate, MIB, PushedImage, Request, TestContext, assert_readable, check_layout, image,
    index, random, random_from, text, write_layout,
};

/// An image with the large layer that all share, and a small one of its own.
fn sharing(registry: &FaultRegistry, name: &str) -> PushedImage {
    registry.push_as(name, "v1", image().layer(random(2 * MIB)).layer(format!("only in {name}")))
}

/// The bytes of a blob that were sent, in however many ranges.
fn sent(registry: &FaultRegistry, digest: &str) -> u64 {
    registry.requests_for(digest).iter().map(Request::body_sent).sum()
}

fn annotation(entry: &serde_json::Value, key: &str) -> Option<String> {
    entry["annotations"][key].as_str().map(str::to_owned)
}

/// The second process waits for the shared layer, says for whom, and takes it from the layout.
#[test]
fn a_layer_that_another_process_downloads_is_waited_for() {
    let registry = FaultRegistry::start();
    let (first, second) = (sharing(&registry, "first"), sharing(&registry, "second"));
    let gate = Gate::new();
    registry.on_blob(first.layer(0)).once(Fault::HoldAfter(MIB, gate.clone()));
    let context = TestContext::new();
    let options = ["--connections", "1", "--ref-name", "full"];
    let downloading = context.fetch(&registry, &first).args(options).spawn();
    gate.wait_for_arrivals(1);
    let waiting = context.fetch(&registry, &second).args(options).arg("--json").spawn();
    // The large layer comes first, so whoever asks for the small one has met the lock already.
    registry.wait_until("the second asks for its own layer", |registry| {
        !registry.requests_for(second.layer(1)).is_empty()
    });
    gate.open();
    let holder = downloading.id();
    let (downloaded, waited) = (downloading.wait(), waiting.wait());
    assert_eq!(downloaded.code, Some(0), "{}", downloaded.report());
    assert_eq!(waited.code, Some(0), "{}", waited.report());
    assert!(waited.stderr.contains(&format!("by process {holder}")), "{}", waited.stderr);
    assert_eq!(waited.json()["results"][0]["images"][0]["layers"][0]["outcome"], "present");
    assert_eq!(sent(&registry, first.layer(0)), first.layer_bytes(0).len() as u64);
    assert_eq!(check_layout(&context.out()).digests, [first.digest(), second.digest()]);
}

/// Four at once: every blob moves once, every image is named, nothing is left behind.
#[test]
fn four_processes_share_a_layout() {
    let registry = FaultRegistry::start();
    registry.throttle(8 * MIB as u64);
    let images = ["a", "b", "c", "d"].map(|name| sharing(&registry, name));
    let context = TestContext::new();
    let options = ["--connections", "2", "--ref-name", "full"];
    let running: Vec<_> =
        images.iter().map(|image| context.fetch(&registry, image).args(options).spawn()).collect();
    for running in running {
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    }
    for image in &images {
        for (at, digest) in image.layers().into_iter().enumerate() {
            assert_eq!(sent(&registry, digest), image.layer_bytes(at).len() as u64, "{digest}");
        }
    }
    let mut names = check_layout(&context.out()).ref_names;
    names.sort();
    assert_eq!(names, images.map(|image| image.reference()));
}

/// The same image twice at once: downloaded once, named once.
#[test]
fn two_processes_fetch_the_same_image() {
    let registry = FaultRegistry::start();
    registry.throttle(8 * MIB as u64);
    let pushed = sharing(&registry, "app");
    let context = TestContext::new();
    let running = [(); 2].map(|()| context.fetch(&registry, &pushed).spawn());
    for running in running {
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    }
    for (at, digest) in pushed.layers().into_iter().enumerate() {
        assert_eq!(sent(&registry, digest), pushed.layer_bytes(at).len() as u64, "{digest}");
    }
    assert_eq!(check_layout(&context.out()).digests, [pushed.digest()]);
}

/// Who waits for a process that dies takes over what it left.
#[test]
fn a_waiting_process_inherits_from_a_dead_one() {
    let registry = FaultRegistry::start();
    let (first, second) = (sharing(&registry, "first"), sharing(&registry, "second"));
    registry.on_blob(first.layer(0)).once(Fault::StallAfter(MIB + MIB / 2));
    let context = TestContext::new();
    let dying = context.fetch(&registry, &first).args(["--connections", "1"]).spawn();
    registry.wait_for_blob_bytes((MIB + MIB / 2) as u64);
    let inheriting = context.fetch(&registry, &second).args(["--connections", "1"]).spawn();
    registry.wait_until("the second asks for its own layer", |registry| {
        !registry.requests_for(second.layer(1)).is_empty()
    });
    dying.kill();
    let outcome = inheriting.wait();
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    // What was not noted yet when it died, less than a MiB, comes again.
    assert!(sent(&registry, first.layer(0)) <= (first.layer_bytes(0).len() + MIB + MIB / 2) as u64);
    assert_eq!(check_layout(&context.out()).digests, [second.digest()]);
}

/// Another image has the tag: refused before a layer is asked for, with every way out that applies.
#[test]
fn a_name_that_another_image_has_is_refused() {
    let registry = FaultRegistry::start();
    let holder = registry.push_as("holder", "v1", image().layer("holder"));
    let other = registry.push_as("other", "v1", image().layer("other"));
    let context = TestContext::new();
    context.fetch(&registry, &holder).success();
    let outcome = context.fetch(&registry, &other).fails_with(2);
    for words in ["\"v1\"", &holder.reference(), "--ref-name full", "--ref-name =TEXT", "--replace"] {
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
    }
    assert_eq!(registry.requests_for(other.layer(0)).len(), 0);
    assert_eq!(check_layout(&context.out()).digests, [holder.digest()]);
}

/// Another platform of the same image: the full name would be the same, so that is not offered.
#[test]
fn a_name_that_another_platform_has_is_refused() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(
        index()
            .manifest(image().platform("linux/amd64").layer("amd64"), "linux/amd64")
            .manifest(image().platform("linux/s390x").layer("s390x"), "linux/s390x"),
    );
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--platform", "linux/amd64"]).success();
    let other = ["--platform", "linux/s390x"];
    let outcome = context.fetch(&registry, &pushed).args(other).fails_with(2);
    for words in ["linux/amd64", "--ref-name =TEXT", "--replace"] {
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("--ref-name full"), "{}", outcome.stderr);
    assert_eq!(registry.requests_for(pushed.child(1).layer(0)).len(), 0);
    context.fetch(&registry, &pushed).args(other).args(["--ref-name", "=v1-s390x"]).success();
    let summary = check_layout(&context.out());
    assert_eq!(summary.ref_names, ["v1", "v1-s390x"]);
    assert_eq!(summary.digests, [pushed.child(0).digest(), pushed.child(1).digest()]);
}

/// `--replace` takes the name and leaves the other image where it is.
#[test]
fn replace_takes_the_name_over() {
    let registry = FaultRegistry::start();
    let holder = registry.push_as("holder", "v1", image().layer("holder"));
    let other = registry.push_as("other", "v1", image().layer("other"));
    let context = TestContext::new();
    context.fetch(&registry, &holder).success();
    context.fetch(&registry, &other).arg("--replace").success();
    let summary = check_layout(&context.out());
    assert_eq!(summary.digests, [holder.digest(), other.digest()]);
    assert_eq!(summary.ref_names, ["v1"]);
    let entries = &summary.index["manifests"];
    assert_eq!(annotation(&entries[0], "org.opencontainers.image.ref.name"), None);
    assert_eq!(annotation(&entries[0], "io.containerd.image.name"), Some(holder.reference()));
    assert_eq!(annotation(&entries[1], "org.opencontainers.image.ref.name"), Some("v1".to_owned()));
}

/// What each `--ref-name` writes; the full name stands there in any case.
#[test]
fn short_names_as_asked() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("x"));
    let full = pushed.reference();
    for (option, name) in
        [("tag", Some("v1")), ("full", Some(full.as_str())), ("none", None), ("=mine", Some("mine"))]
    {
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(["--ref-name", option]).success();
        let summary = check_layout(&context.out());
        assert_eq!(summary.ref_names, name.into_iter().collect::<Vec<_>>());
        let entry = &summary.index["manifests"][0];
        assert_eq!(annotation(entry, "io.containerd.image.name").as_deref(), Some(full.as_str()));
    }
    let context = TestContext::new();
    let references = [pushed.reference(), registry.push_as("other", "v1", image().layer("y")).reference()];
    context.run(["fetch"]).args(&references).arg(context.out()).success();
    assert_eq!(check_layout(&context.out()).ref_names, references);
    context.run(["fetch", "--ref-name", "=x"]).args(&references).arg(context.out()).fails_with(2);
}

/// What other tools wrote into `index.json` stays as it was, odd entries and unknown fields included.
#[test]
fn what_others_wrote_stays() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("x"));
    let context = TestContext::new();
    write_layout(&context.out(), "theirs", image().layer(text(500)));
    let path = context.out().join("index.json");
    let read = || -> serde_json::Value {
        serde_json::from_slice(&fs::read(&path).unwrap_or_default()).unwrap_or_default()
    };
    let mut before = read();
    before["x-field"] = serde_json::json!({ "kept": [1.0, null] });
    before["manifests"][0]["annotations"]["x"] = "y".into();
    fs::write(&path, before.to_string()).expect("the layout is writable");
    context.fetch(&registry, &pushed).success();
    let after = read();
    assert_eq!(after["x-field"], before["x-field"]);
    assert_eq!(after["manifests"][0], before["manifests"][0]);
    assert_eq!(check_layout(&context.out()).ref_names, ["theirs", "v1"]);
    let taken = registry.push_as("app", "theirs", image().layer("y"));
    context.fetch(&registry, &taken).fails_with(2);
}

fn unusable(registry: &FaultRegistry, context: &TestContext, pushed: &PushedImage, path: &Path) {
    let before = fs::read(path).expect("the test wrote it");
    registry.clear_requests();
    let outcome = context.fetch(registry, pushed).fails_with(7);
    assert!(outcome.stderr.contains(&*path.to_string_lossy()), "{}", outcome.stderr);
    assert_eq!(fs::read(path).expect("it is still there"), before);
    assert_eq!(registry.requests().len(), 0, "{:?}", registry.asked());
}

/// An `index.json` or `oci-layout` that cannot be understood is an error, never an empty start.
#[test]
fn unreadable_files_of_a_layout_are_left_alone() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("x"));
    for (file, content) in [
        ("index.json", ""),
        ("index.json", "{"),
        ("index.json", "[]"),
        ("index.json", "{\"schemaVersion\":2,\"manifests\":{}}"),
        ("index.json", "{\"schemaVersion\":2,\"manifests\":[]} trailing"),
        ("oci-layout", "nonsense"),
        ("oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}"),
    ] {
        let context = TestContext::new();
        write_layout(&context.out(), "theirs", image().layer("theirs"));
        let path = context.out().join(file);
        fs::write(&path, content).expect("the layout is writable");
        unusable(&registry, &context, &pushed, &path);
    }
}

/// A folder with something else in it, or a file, is not written into.
#[test]
fn what_is_no_layout_is_left_alone() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("x"));
    let context = TestContext::new();
    fs::create_dir(context.out()).expect("the folder is writable");
    let file = context.out().join("letter.txt");
    fs::write(&file, "dear").expect("the folder is writable");
    let outcome = context.fetch(&registry, &pushed).fails_with(7);
    assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    let left: Vec<_> = fs::read_dir(context.out()).expect("it is there").collect();
    assert_eq!((left.len(), registry.requests().len()), (1, 0));
    let context = TestContext::new();
    fs::write(context.out(), "a file").expect("the folder is writable");
    unusable(&registry, &context, &pushed, &context.out());
    // An empty folder is a place like any other.
    let context = TestContext::new();
    fs::create_dir(context.out()).expect("the folder is writable");
    context.fetch(&registry, &pushed).success();
    check_layout(&context.out());
}

/// A place that cannot be written to: exit 1, with the path and what the system said, before any layer.
#[cfg(target_os = "linux")]
#[test]
fn a_place_that_cannot_be_written_to() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("x"));
    let context = TestContext::new();
    // Not even root makes folders there, and tests may run as root.
    let outcome = context.run(["fetch", &pushed.reference(), "/proc/ocipull-out"]).fails_with(1);
    assert!(outcome.stderr.contains("/proc/ocipull-out"), "{}", outcome.stderr);
    assert_eq!(registry.requests_for(pushed.layer(0)).len(), 0);
}

/// A disk that fills up: exit 1 and not 5, no retries, a readable layout, and the next run goes on.
#[cfg(unix)]
#[test]
fn a_limit_on_files_is_no_network_error() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random_from(7, 3 * MIB)));
    let context = TestContext::new();
    // One after the other: what lies beyond the limit must not fail before anything else came.
    let arguments = context.fetch(&registry, &pushed).args(["--connections", "1"]).arguments();
    let limited = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
    let run = context.program("/bin/sh").args(["-c", limited, env!("CARGO_BIN_EXE_ocipull")]).args(arguments);
    let outcome = run.fails_with(1);
    assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    assert!(assert_readable(&context.out()).digests.is_empty());
    registry.clear_requests();
    context.fetch(&registry, &pushed).success();
    assert!(registry.blob_bytes_sent() < pushed.blob_bytes());
    check_layout(&context.out());
}

/// One that fails does not stop the others; the exit code is the first failure's.
#[test]
fn one_of_several_fails() {
    let registry = FaultRegistry::start();
    let [one, two, three] = ["one", "two", "three"]
        .map(|name| registry.push_as(name, "v1", image().layer(format!("the layer of {name}"))));
    registry.on_blob(two.layer(0)).always(Fault::FlipByte(20));
    let context = TestContext::new();
    let missing = format!("{}/four:v1", registry.host());
    let references = [one.reference(), two.reference(), missing, three.reference()];
    let outcome = context.run(["fetch", "--json"]).args(&references).arg(context.out()).fails_with(6);
    let results = outcome.json()["results"].clone();
    let statuses: Vec<&str> = (0..4).filter_map(|at| results[at]["status"].as_str()).collect();
    assert_eq!(statuses, ["fetched", "failed", "failed", "fetched"]);
    assert_eq!(
        (&results[1]["error"]["kind"], &results[1]["error"]["exitCode"]),
        (&"integrity".into(), &6.into())
    );
    assert_eq!(
        (&results[2]["error"]["kind"], &results[2]["error"]["exitCode"]),
        (&"not-found".into(), &3.into())
    );
    assert_eq!(assert_readable(&context.out()).digests, [one.digest(), three.digest()]);
}
