//! Several platforms of one image: the index as it is, and of what it lists the wanted ones.

use serde_json::{Value, json};

use crate::support::{
    Built, FaultRegistry, Index, Proof, PushedImage, TestContext, check_layout, image, index,
};

const PLATFORMS: &str = "io.ocipull.platforms";

fn built(platform: &str) -> Built {
    image().platform(platform).layer(format!("for {platform}")).into()
}

fn three() -> Index {
    let index = index().annotation("kept", "as it is");
    let index = index.manifest(built("linux/amd64"), "linux/amd64");
    index.manifest(built("linux/arm64"), "linux/arm64").manifest(built("linux/s390x"), "linux/s390x")
}

fn blob(context: &TestContext, digest: &str) -> Option<Vec<u8>> {
    std::fs::read(context.out().join("blobs").join(digest.replace(':', "/"))).ok()
}

fn entries(context: &TestContext) -> Vec<Value> {
    let index = std::fs::read(context.out().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

fn platforms(list: &[&str]) -> Vec<String> {
    list.iter().flat_map(|platform| ["--platform".to_owned(), (*platform).to_owned()]).collect()
}

/// The index goes in byte for byte, with the blobs of the wanted platforms and of no other.
#[test]
fn several_platforms_are_a_sparse_index() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(three());
    let context = TestContext::new();
    let wanted = platforms(&["linux/arm64", "linux/s390x"]);
    let outcome = context.fetch(&registry, &pushed).args(&wanted).arg("--json").success();
    assert_eq!(blob(&context, pushed.digest()).unwrap(), pushed.document());
    for (at, is_there) in [(0, false), (1, true), (2, true)] {
        let child = pushed.child(at);
        for digest in [child.digest(), child.config(), child.layer(0)] {
            assert_eq!(blob(&context, digest).is_some(), is_there, "{at} {digest}");
        }
    }
    let summary = Proof::new().sparse().run(&context.out()).unwrap();
    assert_eq!(summary.digests, [pushed.digest()]);
    let entry = &entries(&context)[0];
    assert_eq!(entry["annotations"][PLATFORMS], "linux/arm64,linux/s390x");
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "v1");
    assert_eq!(entry["platform"], Value::Null);
    assert_eq!(entry["mediaType"], "application/vnd.oci.image.index.v1+json");
    let result = &outcome.json()["results"][0];
    assert_eq!(result["descriptor"]["digest"], pushed.digest());
    let named: Vec<&Value> =
        result["images"].as_array().unwrap().iter().map(|image| &image["platform"]).collect();
    assert_eq!(named, ["linux/arm64", "linux/s390x"]);
    assert_eq!(result["images"][0]["manifest"]["digest"], pushed.child(1).digest());
    assert_eq!(result["images"][1]["layers"][0]["diffIdStatus"], "verified");
    registry.clear_requests();
    let outcome = context.fetch(&registry, &pushed).args(&wanted).arg("--json").success();
    assert_eq!(outcome.json()["results"][0]["status"], "up-to-date");
    assert_eq!(outcome.json()["results"][0]["images"].as_array().unwrap().len(), 2);
    assert_eq!(registry.asked(), ["HEAD v1"]);
    context.run(["verify", "./out"]).success();
}

/// All platforms are the whole index, attestations too; nothing says that something is missing.
#[test]
fn all_platforms_are_the_whole_index() {
    let registry = FaultRegistry::start();
    let unknown = json!({"os": "unknown", "architecture": "unknown"});
    let attestation = image().platform("unknown/unknown").layer("attested");
    let nested = index().manifest(built("linux/386"), "linux/386");
    let pushed = registry.push(three().listed(attestation, Some(unknown)).listed(nested, None));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).arg("--all-platforms").success();
    check_layout(&context.out());
    let entry = &entries(&context)[0];
    assert_eq!(entry["annotations"].get(PLATFORMS), None);
    let asked = registry.asked().len();
    for options in [vec!["--all-platforms"], vec!["--platform", "linux/386", "--platform", "linux/arm64"]] {
        registry.clear_requests();
        let outcome = context.fetch(&registry, &pushed).args(options).success();
        assert!(outcome.stderr.contains("up to date"), "{}", outcome.stderr);
        assert_eq!(registry.asked().len(), 1, "of {asked} at first");
    }
    context.run(["verify", "./out"]).success();
}

/// A digest of which all that is wanted is there asks nothing.
#[test]
fn by_digest_nothing_is_asked_when_it_is_there() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(three());
    let context = TestContext::new();
    let wanted = platforms(&["linux/arm64", "linux/s390x"]);
    let reference = pushed.reference_by_digest();
    let fetch = || context.run(["fetch", &reference, "./out"]).args(&wanted);
    fetch().success();
    registry.clear_requests();
    fetch().success();
    assert_eq!(registry.asked(), [""; 0]);
}

/// What was taken before stays counted when more is taken, and costs nothing again.
#[test]
fn platforms_add_up() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(three());
    let context = TestContext::new();
    let fetch = |wanted: &[&str]| context.fetch(&registry, &pushed).args(platforms(wanted)).success();
    fetch(&["linux/arm64", "linux/s390x"]);
    registry.clear_requests();
    fetch(&["linux/amd64", "linux/arm64"]);
    assert_eq!(registry.requests_for(pushed.child(1).layer(0)).len(), 0);
    assert_eq!(registry.requests_for(pushed.digest()).len(), 0);
    let entry = &entries(&context)[0];
    assert_eq!(entry["annotations"][PLATFORMS], "linux/arm64,linux/s390x,linux/amd64");
    context.run(["verify", "./out"]).success();
}

/// The index takes the place, and the name, of the single platform that it covers.
#[test]
fn an_index_replaces_its_single_platform() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(three());
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--platform", "linux/arm64"]).success();
    context.fetch(&registry, &pushed).args(platforms(&["linux/s390x", "linux/arm64"])).success();
    assert_eq!(entries(&context).len(), 1);
    // The other way round the name is taken by something else: the index.
    let outcome = context.fetch(&registry, &pushed).args(["--platform", "linux/arm64"]).fails_with(2);
    for hint in ["an index of several platforms", "--platform", "--ref-name", "--replace"] {
        assert!(outcome.stderr.contains(hint), "{}", outcome.stderr);
    }
    // A platform that it does not cover keeps the name from the index.
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--platform", "linux/amd64"]).success();
    context.fetch(&registry, &pushed).args(platforms(&["linux/s390x", "linux/arm64"])).fails_with(2);
}

/// Each wanted platform must be there: the error names the one that is not, and nothing is downloaded.
#[test]
fn a_platform_that_is_not_there_fails_all() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(three());
    let context = TestContext::new();
    let outcome =
        context.fetch(&registry, &pushed).args(platforms(&["linux/arm64", "linux/riscv64"])).fails_with(3);
    assert!(outcome.stderr.contains("linux/riscv64"), "{}", outcome.stderr);
    assert!(!context.out().exists());
    assert_eq!(registry.blob_bytes_sent(), pushed_config(&pushed, 1));
}

fn pushed_config(pushed: &PushedImage, at: usize) -> u64 {
    let manifest: Value = serde_json::from_slice(pushed.child(at).document()).unwrap();
    manifest["config"]["size"].as_u64().unwrap()
}

/// One platform in two spellings is one platform; two that the same manifest serves take it once.
#[test]
fn the_same_platform_counts_once() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(three());
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(platforms(&["linux/arm64", "Linux/aarch64/v8"])).success();
    assert_eq!(entries(&context)[0]["digest"], pushed.child(1).digest());
    let context = TestContext::new();
    let wanted = platforms(&["linux/amd64/v3", "linux/amd64"]);
    let outcome = context.fetch(&registry, &pushed).args(&wanted).arg("--json").success();
    assert_eq!(outcome.json()["results"][0]["images"].as_array().unwrap().len(), 1);
    assert_eq!(entries(&context)[0]["annotations"][PLATFORMS], "linux/amd64");
    registry.clear_requests();
    context.fetch(&registry, &pushed).args(&wanted).success();
    assert_eq!(registry.asked(), ["HEAD v1"]);
}

/// A nested index on the way to an image goes in too, as it is; one that leads to nothing wanted stays out.
#[test]
fn nested_indexes_on_the_way_go_in() {
    let registry = FaultRegistry::start();
    let (left, right) = (
        index().manifest(built("linux/arm64"), "linux/arm64"),
        index().manifest(built("linux/riscv64"), "linux/riscv64"),
    );
    let pushed = registry
        .push(index().manifest(built("linux/amd64"), "linux/amd64").listed(left, None).listed(right, None));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(platforms(&["linux/amd64", "linux/arm64"])).success();
    assert_eq!(blob(&context, pushed.child(1).digest()).unwrap(), pushed.child(1).document());
    assert!(blob(&context, pushed.child(2).digest()).is_none());
    Proof::new().sparse().run(&context.out()).unwrap();
    registry.clear_requests();
    context.fetch(&registry, &pushed).args(platforms(&["linux/amd64", "linux/arm64"])).success();
    assert_eq!(registry.asked(), ["HEAD v1"]);
}

/// A reference that is one image only is taken when it is for every wanted platform, and with --all-platforms.
#[test]
fn a_single_image_is_taken_when_it_fits() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(built("linux/amd64"));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(platforms(&["linux/amd64", "linux/arm64"])).fails_with(3);
    context.fetch(&registry, &pushed).args(platforms(&["linux/amd64", "linux/amd64/v2"])).success();
    assert_eq!(entries(&context)[0]["digest"], pushed.digest());
    registry.clear_requests();
    context.fetch(&registry, &pushed).arg("--all-platforms").success();
    assert_eq!(registry.asked(), ["HEAD v1"]);
}

/// One manifest that is listed for two platforms is taken once, and counts for both.
#[test]
fn one_manifest_for_two_platforms() {
    let registry = FaultRegistry::start();
    let any = || image().platform("linux/amd64").layer("for any");
    let pushed = registry.push(index().manifest(any(), "linux/amd64").manifest(any(), "linux/arm64"));
    for wanted in [platforms(&["linux/arm64", "linux/amd64"]), vec!["--all-platforms".to_owned()]] {
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(["--platform", "linux/arm64"]).success();
        context.fetch(&registry, &pushed).args(&wanted).success();
        assert_eq!(entries(&context).len(), 1, "the single one is covered");
        registry.clear_requests();
        context.fetch(&registry, &pushed).args(&wanted).success();
        assert_eq!(registry.asked(), ["HEAD v1"]);
        context.run(["verify", "./out"]).success();
    }
}

/// The order in which platforms are asked for changes nothing in the layout.
#[test]
fn the_order_of_platforms_does_not_matter() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(three());
    let read = |wanted: &[&str]| {
        let context = TestContext::new();
        context.fetch(&registry, &pushed).args(platforms(wanted)).success();
        std::fs::read(context.out().join("index.json")).unwrap()
    };
    assert_eq!(read(&["linux/arm64", "linux/s390x"]), read(&["linux/s390x", "linux/arm64"]));
}

/// Entries that declare nothing, and nested indexes, are not asked for again to know that all is there.
#[test]
fn undeclared_entries_are_not_asked_for_again() {
    let registry = FaultRegistry::start();
    let nested = index().manifest(built("linux/riscv64"), "linux/riscv64");
    let pushed = registry.push(
        index()
            .listed(nested, None)
            .listed(built("linux/s390x"), None)
            .listed(built("linux/arm64"), None)
            .listed(built("linux/amd64"), None),
    );
    let context = TestContext::new();
    let wanted = platforms(&["linux/arm64", "linux/amd64"]);
    context.fetch(&registry, &pushed).args(&wanted).success();
    assert_eq!(registry.requests_for(pushed.child(1).config()).len(), 1, "one question for two platforms");
    registry.clear_requests();
    context.fetch(&registry, &pushed).args(&wanted).success();
    assert_eq!(registry.asked(), ["HEAD v1"]);
}

/// Indexes that are nested too deep are refused whichever way leads there, so that `verify` agrees.
#[test]
fn depth_counts_along_the_longest_way() {
    let registry = FaultRegistry::start();
    let mut inner = index().manifest(built("linux/amd64"), "linux/amd64");
    let mut outer = index();
    for _ in 0..9 {
        outer = outer.listed(inner.clone(), None);
        inner = index().listed(inner, None);
    }
    let pushed = registry.push(outer);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).arg("--all-platforms").fails_with(6);
    assert!(outcome.stderr.contains("goes too far"), "{}", outcome.stderr);
}

/// Another tool's entry of just these names is no proof: what it names is proven before it is called up to date.
#[test]
fn another_tools_entry_is_proven_first() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(built("linux/amd64"));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    let path = context.out().join("index.json");
    let ours = std::fs::read_to_string(&path).unwrap();
    let mut index: Value = serde_json::from_str(&ours).unwrap();
    let annotations = index["manifests"][0]["annotations"].as_object_mut().unwrap();
    annotations.retain(|key, _| !key.starts_with("io.ocipull."));
    std::fs::write(&path, index.to_string()).unwrap();
    let layer = context.out().join("blobs").join(pushed.layer(0).replace(':', "/"));
    let mut bytes = std::fs::read(&layer).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&layer, bytes).unwrap();
    let outcome = context.fetch(&registry, &pushed).success();
    assert!(!outcome.stderr.contains("up to date"), "{}", outcome.stderr);
    context.run(["verify", "./out"]).success();
}

/// What an index lists and is no manifest of a known kind is left out, and said to be.
#[test]
fn unknown_entries_are_skipped() {
    let registry = FaultRegistry::start();
    let unknown = json!({"mediaType": "application/x", "size": 5,
        "digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000"});
    let pushed = registry.push(three().entry(unknown));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &pushed).arg("--all-platforms").success();
    assert!(outcome.stderr.contains("1 of the 4 entries"), "{}", outcome.stderr);
    assert_eq!(entries(&context)[0]["annotations"].get(PLATFORMS), None);
}

/// The entry that another tool wrote for an index it took nothing of (`skopeo copy --multi-arch index-only`) does not claim
/// the whole of it: what is taken afterwards is on record, and the layout is found whole.
#[test]
fn an_index_of_another_tool_is_no_claim() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(three());
    for is_there in [None, Some(2)] {
        let context = TestContext::new();
        crate::support::write_layout(&context.out(), "v1", three());
        for at in (0..3).filter(|at| Some(*at) != is_there) {
            let manifest = pushed.child(at).digest().replace(':', "/");
            std::fs::remove_file(context.out().join("blobs").join(manifest)).unwrap();
        }
        context.fetch(&registry, &pushed).args(platforms(&["linux/amd64", "linux/arm64"])).success();
        let found = entries(&context);
        assert_eq!(found.len(), 1);
        let recorded = found[0]["annotations"].get(PLATFORMS).and_then(Value::as_str);
        assert_eq!(recorded, is_there.is_none().then_some("linux/amd64,linux/arm64"), "{is_there:?}");
        context.run(["verify", "./out"]).success();
    }
    let context = TestContext::new();
    crate::support::write_layout(&context.out(), "v1", three());
    for at in 0..2 {
        let manifest = pushed.child(at).digest().replace(':', "/");
        std::fs::remove_file(context.out().join("blobs").join(manifest)).unwrap();
    }
    context.fetch(&registry, &pushed).args(platforms(&["linux/amd64", "linux/s390x"])).success();
    assert_eq!(entries(&context)[0]["annotations"][PLATFORMS], "linux/amd64,linux/s390x");
    context.run(["verify", "./out"]).success();
}

/// A part of what is there fetched again is no change, whatever else is recorded.
#[test]
fn a_part_again_changes_nothing() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(three());
    let context = TestContext::new();
    for wanted in [["linux/s390x", "linux/amd64"], ["linux/arm64", "linux/amd64"]] {
        context.fetch(&registry, &pushed).args(platforms(&wanted)).success();
    }
    let before = std::fs::read(context.out().join("index.json")).unwrap();
    for more in [&[][..], &["--verify-existing"], &["--diff-ids", "verify"]] {
        let again = platforms(&["linux/amd64", "linux/arm64"]);
        context.fetch(&registry, &pushed).args(again).args(more).success();
        assert_eq!(std::fs::read(context.out().join("index.json")).unwrap(), before, "{more:?}");
    }
}

/// A tag that moves from what had only a fallback for a platform to what has the platform itself, or from an index to a
/// single image, is the same name for the same thing: nothing keeps it from being fetched again.
#[test]
fn a_tag_that_moves_to_another_form_is_fetched() {
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    let wanted = platforms(&["linux/amd64/v3"]);
    let pushed = registry.push(index().manifest(built("linux/amd64"), "linux/amd64"));
    context.fetch(&registry, &pushed).args(&wanted).success();
    let both = index().manifest(built("linux/amd64"), "linux/amd64");
    let moved = registry.push(both.manifest(built("linux/amd64/v3"), "linux/amd64/v3"));
    context.fetch(&registry, &moved).args(&wanted).success();
    assert_eq!(entries(&context).len(), 1);
    assert_eq!(entries(&context)[0]["digest"], moved.child(1).digest());
    context.fetch(&registry, &pushed).args(&wanted).success();

    let context = TestContext::new();
    let pushed = registry.push(three());
    context.fetch(&registry, &pushed).arg("--all-platforms").success();
    let outcome = context.fetch(&registry, &pushed).args(platforms(&["linux/arm64"])).fails_with(2);
    assert!(outcome.stderr.contains("part of an index"), "{}", outcome.stderr);
    let single = registry.push(built("linux/amd64"));
    context.fetch(&registry, &single).arg("--all-platforms").success();
    assert_eq!(entries(&context).len(), 1);
    assert_eq!(entries(&context)[0]["digest"], single.digest());
    context.run(["verify", "./out"]).success();
}
