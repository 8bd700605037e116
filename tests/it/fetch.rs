//! The main job: what a fetch asks for, and what it leaves on disk.

use crate::support::{
    Compression, FaultRegistry, MIB, TestContext, artifact, check_layout, image, index, random, text,
};

fn whole() -> crate::support::Built {
    image()
        .layer(text(50_000))
        .layer_as(Compression::Zstd, text(70_000))
        .layer_as(Compression::Plain, random(3000))
        .into()
}

/// A tag, a digest, and both: the same image, named as each says.
#[test]
fn a_tag_a_digest_and_both_bring_the_same_image() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(whole());
    for (reference, name) in [
        (pushed.reference(), Some("v1")),
        (pushed.reference_by_digest(), None),
        (pushed.reference_by_both(), Some("v1")),
    ] {
        let context = TestContext::new();
        let outcome = context.run(["fetch", &reference]).arg(context.out()).success();
        let summary = check_layout(&context.out());
        assert_eq!(summary.digests, [pushed.digest()]);
        assert_eq!(summary.ref_names, name.into_iter().collect::<Vec<_>>());
        let full = match name {
            Some(_) => pushed.reference(),
            None => pushed.reference_by_digest(),
        };
        assert_eq!(summary.index["manifests"][0]["annotations"]["io.containerd.image.name"], full);
        assert_eq!(
            outcome.stdout,
            format!("{full}@{}\n", pushed.digest())
                .replace(&format!("{0}@{0}", pushed.digest()), pushed.digest())
        );
    }
}

/// The second fetch asks one question and moves no blob; by digest it asks nothing.
#[test]
fn a_second_fetch_asks_one_question() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(whole());
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    registry.clear_requests();
    let again = context.fetch(&registry, &pushed).arg("--json").success().json();
    assert_eq!(again["results"][0]["status"], "up-to-date");
    assert_eq!((&again["requests"], &again["bytesDownloaded"]), (&1.into(), &0.into()));
    let asked: Vec<String> = registry.requests().iter().map(|request| request.method.clone()).collect();
    assert_eq!(asked, ["HEAD"]);

    registry.clear_requests();
    context.run(["fetch", &pushed.reference_by_digest()]).arg(context.out()).success();
    context.run(["fetch", &pushed.reference_by_digest()]).arg(context.out()).success();
    assert_eq!(registry.requests().len(), 0);
    check_layout(&context.out());
}

/// An image out of an index: the same holds for the host's platform and for a named one.
#[test]
fn a_second_fetch_of_a_platform_asks_one_question() {
    let registry = FaultRegistry::start();
    let amd64 = image().platform("linux/amd64").layer("for amd64");
    let arm64 = image().platform("linux/arm64").layer("for arm64");
    let pushed = registry.push(index().manifest(amd64, "linux/amd64").manifest(arm64, "linux/arm64/v8"));
    for (arguments, child) in
        [(&["--platform", "linux/arm64"][..], 1), (&["--platform", "linux/amd64/v3"], 0)]
    {
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(arguments).success();
        let summary = check_layout(&context.out());
        assert_eq!(summary.digests, [pushed.child(child).digest()]);
        let entry = &summary.index["manifests"][0];
        assert_eq!(entry["annotations"]["io.ocipull.index.digest"], pushed.digest());
        assert_eq!(entry["platform"]["architecture"], if child == 1 { "arm64" } else { "amd64" });
        registry.clear_requests();
        let again = context.fetch(&registry, &pushed).args(arguments).arg("--json").success().json();
        assert_eq!(again["results"][0]["status"], "up-to-date");
        assert_eq!(registry.requests().len(), 1);
    }
}

/// A moved tag replaces its entry, whatever else is in the layout stays, and shared blobs move once.
#[test]
fn a_moved_tag_replaces_its_entry_and_nothing_else() {
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    let shared = random(20_000);
    let other = registry.push_as("other", "stable", image().layer(&shared).layer("other"));
    context.fetch(&registry, &other).success();
    let first = registry.push(image().layer(&shared).layer("one"));
    context.fetch(&registry, &first).success();
    let second = registry.push(image().layer(&shared).layer("two"));
    registry.clear_requests();
    let moved = context.fetch(&registry, &second).arg("--json").success().json();
    assert_eq!(registry.requests_for(second.layer(0)).len(), 0);
    let outcomes: Vec<&str> = (moved["results"][0]["images"][0]["layers"].as_array().unwrap().iter())
        .map(|layer| layer["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["present", "downloaded"]);
    let summary = check_layout(&context.out());
    assert_eq!(summary.digests, [other.digest(), second.digest()]);
    assert!(!summary.unreferenced.is_empty(), "the old image's blobs stay until they are collected");
}

/// A failed resolve leaves no folder, and a dry run neither.
#[test]
fn what_was_not_fetched_leaves_nothing() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(whole());
    let context = TestContext::new();
    let missing = format!("{}/none:v1", registry.host());
    context.run(["fetch", &missing]).arg(context.out()).fails_with(3);
    assert!(!context.out().exists());
    let planned = context.fetch(&registry, &pushed).args(["--dry-run", "--json"]).success().json();
    assert!(!context.out().exists());
    assert_eq!(planned["results"][0]["status"], "planned");
    assert_eq!(planned["results"][0]["images"][0]["layers"][1]["outcome"], "planned");
    assert_eq!(
        registry.blob_bytes_sent(),
        planned["results"][0]["images"][0]["config"]["size"].as_u64().unwrap()
    );
}

/// The report says of every layer what is known of it.
#[test]
fn the_report_tells_of_every_layer() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(whole());
    let context = TestContext::new();
    let report = context.fetch(&registry, &pushed).arg("--json").success().json();
    let result = &report["results"][0];
    assert_eq!(report["layout"], context.out().display().to_string());
    assert_eq!((&result["status"], &result["reference"]), (&"fetched".into(), &pushed.reference().into()));
    assert_eq!(result["resolved"]["digest"], pushed.digest());
    let layers = result["images"][0]["layers"].as_array().unwrap();
    for (at, layer) in layers.iter().enumerate() {
        assert_eq!(layer["digest"], pushed.layer(at));
        assert_eq!(layer["diffId"], pushed.diff_id(at));
        assert_eq!(layer["diffIdStatus"], "verified");
        assert_eq!(layer["outcome"], "downloaded");
        assert!(layer["uncompressedSize"].as_u64().unwrap() > 3000);
    }
    assert_eq!(report["requests"], registry.requests().len());
    assert!(report["elapsedSeconds"].as_f64().unwrap() > 0.0);
}

/// An artifact has no diff IDs and needs none; its config is a blob like any other.
#[test]
fn an_artifact_is_taken_as_it_is() {
    let registry = FaultRegistry::start();
    let pushed =
        registry.push(artifact("application/vnd.example.model").raw_layer("x/weights", random(5000)));
    let context = TestContext::new();
    let report = context.fetch(&registry, &pushed).arg("--json").success().json();
    let layer = &report["results"][0]["images"][0]["layers"][0];
    assert_eq!((&layer["diffIdStatus"], layer["diffId"].is_null()), (&"not-applicable".into(), true));
    let summary = check_layout(&context.out());
    assert_eq!(summary.index["manifests"][0]["artifactType"], "application/vnd.example.model");
}

/// Docker's manifests are kept byte for byte.
#[test]
fn docker_manifests_keep_their_bytes() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().docker().layer(text(1000)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    let summary = check_layout(&context.out());
    assert_eq!(summary.digests, [pushed.digest()]);
    assert_eq!(
        summary.index["manifests"][0]["mediaType"],
        "application/vnd.docker.distribution.manifest.v2+json"
    );
}

/// One layer twice in an image is downloaded once and proven for both places.
#[test]
fn a_layer_that_comes_twice_is_downloaded_once() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("same").layer("between").layer("same"));
    let context = TestContext::new();
    // The builder numbers the files in its layers, so the first and the third are made alike by hand.
    context.fetch(&registry, &pushed).success();
    for at in 0..3 {
        assert_eq!(registry.requests_for(pushed.layer(at)).len(), 1);
    }
    check_layout(&context.out());
}

/// sha512 digests are digests like any other.
#[test]
fn sha512_images_are_fetched_and_proven() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().sha512().layer(text(9000)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    check_layout(&context.out());
}

/// A large layer is fetched in parallel ranges, and no byte of it twice.
#[test]
fn a_large_layer_is_split_over_connections() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(5 * MIB)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--segment-size", "1MiB", "--connections", "3"]).success();
    let ranges: Vec<String> = registry
        .requests_for(pushed.layer(0))
        .iter()
        .filter_map(|request| request.range().map(str::to_owned))
        .collect();
    assert!(ranges.len() >= 5, "{ranges:?}");
    let size = pushed.layer_bytes(0).len() as u64;
    let sent: u64 =
        registry.requests_for(pushed.layer(0)).iter().map(crate::support::Request::body_sent).sum();
    assert_eq!(sent, size);
    assert!(registry.open_connections_peak() <= 3);
    check_layout(&context.out());
}

/// The umask holds, and otherwise files are 0644 and folders 0755.
#[cfg(unix)]
#[test]
fn the_umask_is_obeyed() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(whole());
    let context = TestContext::new();
    context.fetch(&registry, &pushed).umask("027").success();
    crate::support::Proof::new().modes(0o640, 0o750).run(&context.out()).unwrap();
}
