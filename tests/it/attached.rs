//! What belongs to an image crosses with it: referrers, cosign's tags, simple signing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    Built, Fault, FaultRegistry, PushedImage, TestContext, artifact, check_layout, image, index,
};

const FULL_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const SBOM: &str = "application/vnd.example.sbom";
const SIGNATURE: &str = "application/vnd.example.signature";

/// The entries of `index.json` by full name, less the registry's host.
fn entries(context: &TestContext, registry: &FaultRegistry) -> BTreeMap<String, Value> {
    let index = std::fs::read(context.out().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    let host = format!("{}/", registry.host());
    entries
        .map(|entry| {
            let name = entry["annotations"][FULL_NAME].as_str().unwrap();
            (name.strip_prefix(&host).unwrap().to_owned(), entry.clone())
        })
        .collect()
}

fn blob(context: &TestContext, digest: &str) -> Option<Vec<u8>> {
    std::fs::read(context.out().join("blobs").join(digest.replace(':', "/"))).ok()
}

/// An image, an SBOM of it, and a signature of the SBOM.
fn pushed(registry: &FaultRegistry) -> [PushedImage; 3] {
    let app = registry.push(image().layer("app"));
    let sbom = artifact(SBOM).layer("materials").annotation("made", "here").subject(app.descriptor());
    let sbom = registry.push_untagged(app.repository(), sbom);
    let signature = artifact(SIGNATURE).layer("signed").subject(sbom.descriptor());
    let signature = registry.push_untagged(app.repository(), signature);
    [app, sbom, signature]
}

/// Referrers of the image and of those come along, by the API or by the tag that stands in for it: each reachable by its
/// digest, and by the tag from which a push restores it.
#[test]
fn referrers_come_along() {
    for registry in [
        FaultRegistry::start(),
        FaultRegistry::builder().without_referrers().start(),
        FaultRegistry::builder().referrers_per_page(1).start(),
    ] {
        let [app, sbom, signature] = pushed(&registry);
        let context = TestContext::new();
        let outcome = context.fetch(&registry, &app).args(["--referrers", "--json"]).success();
        check_layout(&context.out());
        let entries = entries(&context, &registry);
        assert_eq!(entries.len(), 5, "{entries:?}");
        let repository = app.repository();
        for (one, subject, kind) in [(&sbom, &app, SBOM), (&signature, &sbom, SIGNATURE)] {
            let by_digest = &entries[&format!("{repository}@{}", one.digest())];
            assert_eq!(
                (&by_digest["digest"], &by_digest["artifactType"]),
                (&one.digest().into(), &kind.into())
            );
            assert_eq!(by_digest["annotations"].get(REF_NAME), None);
            assert!(blob(&context, one.layer(0)).is_some());
            let tag = subject.digest().replace(':', "-");
            let list = &entries[&format!("{repository}:{tag}")];
            assert_eq!(list["annotations"][REF_NAME], tag);
            let list = blob(&context, list["digest"].as_str().unwrap()).unwrap();
            let list: Value = serde_json::from_slice(&list).unwrap();
            assert_eq!(list["manifests"][0]["digest"], one.digest());
            assert_eq!(list["manifests"][0]["artifactType"], kind);
        }
        let found: Vec<Value> = outcome.json()["results"][0]["referrers"].as_array().unwrap().clone();
        assert_eq!(found[0]["digest"], sbom.digest());
        assert_eq!(found[0]["subject"], app.digest());
        assert_eq!(found[1]["artifactType"], SIGNATURE);
        context.run(["verify", "./out"]).success();
        let inspected = context.run(["inspect", "--json", "./out:v1"]).success().json();
        assert_eq!(inspected["referrers"][0]["digest"], sbom.digest());
        // Once more: questions, but no blob, and nothing changes.
        let before = std::fs::read(context.out().join("index.json")).unwrap();
        let sent = registry.blob_bytes_sent();
        let outcome = context.fetch(&registry, &app).args(["--referrers", "--json"]).success();
        assert_eq!(outcome.json()["results"][0]["status"], "up-to-date");
        assert_eq!(outcome.json()["results"][0]["referrers"].as_array().unwrap().len(), 2);
        assert_eq!(registry.blob_bytes_sent(), sent);
        assert_eq!(std::fs::read(context.out().join("index.json")).unwrap(), before);
    }
}

/// A referrer that came later is taken by the next fetch, beside those that are there.
#[test]
fn later_referrers_are_added() {
    let registry = FaultRegistry::start();
    let app = registry.push(image().layer("app"));
    let context = TestContext::new();
    context.fetch(&registry, &app).success();
    let first = artifact(SBOM).layer("first").subject(app.descriptor());
    let first = registry.push_untagged(app.repository(), first);
    let outcome = context.fetch(&registry, &app).args(["--referrers", "--json"]).success();
    assert_eq!(outcome.json()["results"][0]["status"], "fetched");
    assert_eq!(registry.requests_for(app.layer(0)).len(), 1, "the image itself is there");
    let second = artifact(SIGNATURE).layer("second").subject(app.descriptor());
    let second = registry.push_untagged(app.repository(), second);
    context.fetch(&registry, &app).arg(format!("--referrers={SIGNATURE}")).success();
    let list =
        &entries(&context, &registry)[&format!("{}:{}", app.repository(), app.digest().replace(':', "-"))];
    let list = blob(&context, list["digest"].as_str().unwrap()).unwrap();
    let list = String::from_utf8(list).unwrap();
    assert!(list.contains(first.digest()) && list.contains(second.digest()), "{list}");
    context.run(["verify", "./out"]).success();
}

/// Types are held against the manifests themselves: what is not wanted is neither fetched nor listed.
#[test]
fn only_the_wanted_types_come_along() {
    let registry = FaultRegistry::start();
    let [app, sbom, _] = pushed(&registry);
    let other = artifact(SIGNATURE).layer("other").subject(app.descriptor());
    let other = registry.push_untagged(app.repository(), other);
    let context = TestContext::new();
    context.fetch(&registry, &app).arg(format!("--referrers={SBOM},application/x")).success();
    check_layout(&context.out());
    assert!(blob(&context, sbom.digest()).is_some());
    assert!(blob(&context, other.digest()).is_none());
    assert_eq!(registry.requests_for(other.layer(0)).len(), 0);
    context.fetch(&registry, &app).arg("--referrers=,").fails_with(2);
}

/// cosign's manifests keep their tags; simple signing's files stand where a lookaside has them, from the registry's
/// extension and from a lookaside that the user configured, which sees no credentials.
#[test]
fn cosign_and_simple_signing() {
    let registry = FaultRegistry::builder().signature_extension().basic_auth("user", "password").start();
    let app = registry.push(image().layer("app"));
    let tags = ["sig", "att", "sbom"].map(|kind| {
        let built = image()
            .raw_layer("application/vnd.dev.cosign.simplesigning.v1+json", format!("{{\"{kind}\":1}}"));
        registry.push_beside(&app, kind, built)
    });
    registry.sign(&app, b"kept by the registry");
    registry.sign_aside(&app, b"laid aside");
    let context = TestContext::new();
    let folder = context.home().join(".config/containers/registries.d");
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!("docker:\n  {}:\n    lookaside: {}\n", registry.host(), registry.lookaside());
    std::fs::write(folder.join("here.yaml"), text).unwrap();
    let options = ["--referrers", "--json", "--creds", "user:password"];
    let outcome = context.fetch(&registry, &app).args(options).success();
    assert_eq!(outcome.json()["results"][0]["signatures"], 2);
    let entries = entries(&context, &registry);
    for pushed in &tags {
        let entry = &entries[&format!("{}:{}", app.repository(), pushed.tag())];
        assert_eq!(entry["digest"], pushed.digest());
        assert_eq!(entry["annotations"][REF_NAME], pushed.tag());
    }
    let place = format!("signatures/{}@{}", app.repository(), app.digest().replace(':', "="));
    let signature =
        |number: u32| std::fs::read(context.out().join(&place).join(format!("signature-{number}")));
    assert_eq!(signature(1).unwrap(), b"laid aside");
    assert_eq!(signature(2).unwrap(), b"kept by the registry");
    assert!(signature(3).is_err());
    crate::support::Proof::new().with_signatures().run(&context.out()).unwrap();
    context.run(["verify", "./out"]).success();
}

/// For several platforms, what belongs to the index and to each taken manifest; for one, what belongs to both.
#[test]
fn the_index_and_its_manifests_are_asked_about() {
    let registry = FaultRegistry::start();
    let built = |platform: &str| image().platform(platform).layer(platform);
    let list =
        index().manifest(built("linux/amd64"), "linux/amd64").manifest(built("linux/arm64"), "linux/arm64");
    let app = registry.push(list);
    let whole =
        registry.push_untagged(app.repository(), artifact(SBOM).layer("whole").subject(app.descriptor()));
    let arm = registry
        .push_untagged(app.repository(), artifact(SBOM).layer("arm").subject(app.child(1).descriptor()));
    for (options, with_arm) in [
        (&["--platform", "linux/amd64"][..], false),
        (&["--platform", "linux/arm64"], true),
        (&["--all-platforms"], true),
    ] {
        let context = TestContext::new();
        context.fetch(&registry, &app).args(options).success();
        context.fetch(&registry, &app).args(options).arg("--referrers").success();
        check_layout(&context.out());
        assert!(blob(&context, whole.digest()).is_some());
        assert_eq!(blob(&context, arm.digest()).is_some(), with_arm, "{options:?}");
        context.run(["verify", "./out"]).success();
    }
}

/// A referrer whose blob is bad fails the fetch: the image is not named without what was asked for.
#[test]
fn a_bad_referrer_is_not_passed_over() {
    let registry = FaultRegistry::start();
    let [app, sbom, _] = pushed(&registry);
    registry.on_blob(sbom.layer(0)).always(Fault::FlipByte(1));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &app).arg("--referrers").fails_with(6);
    assert!(outcome.stderr.contains(sbom.layer(0)), "{}", outcome.stderr);
    assert_eq!(entries(&context, &registry).len(), 0);
    registry.mend();
    context.fetch(&registry, &app).arg("--referrers").success();
    check_layout(&context.out());
}

/// Two repositories with the same image: the tag of its referrers is the same, and each keeps its full name.
#[test]
fn a_taken_short_name_is_done_without() {
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    for (repository, tag) in [("one/app", "1"), ("other/app", "2")] {
        let app = registry.push_as(repository, tag, image().layer("app"));
        registry.push_untagged(repository, artifact(SBOM).layer(repository).subject(app.descriptor()));
        context.fetch(&registry, &app).arg("--referrers").success();
    }
    let entries = entries(&context, &registry);
    let lists = entries.iter().filter(|(name, _)| name.contains(":sha256-"));
    let short: Vec<bool> = lists.map(|(_, entry)| entry["annotations"].get(REF_NAME).is_some()).collect();
    assert_eq!(short, [true, false]);
    context.run(["verify", "./out"]).success();
}

/// A dry run names what would come along, and nothing is written.
#[test]
fn a_dry_run_finds_referrers() {
    let registry = FaultRegistry::start();
    let [app, ..] = pushed(&registry);
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &app).args(["--referrers", "--dry-run", "--json"]).success();
    assert_eq!(outcome.json()["results"][0]["referrers"].as_array().unwrap().len(), 2);
    assert!(!context.out().exists());
}

/// One connection is enough for questions that lead to questions: on the image's index, its manifests, referrers of both,
/// and referrers that are indexes.
#[test]
fn one_connection_is_enough() {
    let registry = FaultRegistry::start();
    let mut list = index();
    for platform in ["linux/amd64", "linux/arm64", "linux/s390x"] {
        list = list.manifest(image().platform(platform).layer(platform), platform);
    }
    let app = registry.push(list);
    let subjects: Vec<Value> =
        [app.descriptor()].into_iter().chain((0..3).map(|child| app.child(child).descriptor())).collect();
    let mut count = 0;
    for subject in &subjects {
        for number in 0..10 {
            let name = format!("{number} of {}", subject["digest"]);
            let one = registry
                .push_untagged(app.repository(), artifact(SBOM).layer(&name).subject(subject.clone()));
            registry
                .push_untagged(app.repository(), artifact(SIGNATURE).layer(&name).subject(one.descriptor()));
            let (a, b) = (artifact(SBOM).layer(format!("a{name}")), artifact(SBOM).layer(format!("b{name}")));
            let nested = index().listed(a, None).listed(b, None).subject(subject.clone());
            registry.push_untagged(app.repository(), nested);
            count += 3;
        }
    }
    for connections in ["1", "8"] {
        let context = TestContext::new();
        let options = ["--all-platforms", "--referrers", "--json", "--connections", connections];
        let outcome = context.fetch(&registry, &app).args(options).success();
        assert_eq!(outcome.json()["results"][0]["referrers"].as_array().unwrap().len(), count);
        check_layout(&context.out());
        context.run(["verify", "./out"]).success();
    }
}

/// Minutes of questions are not silence: each round is told, in words and for programs.
#[test]
fn it_is_told_that_something_is_looked_for() {
    let registry = FaultRegistry::start();
    let [app, ..] = pushed(&registry);
    let outcome =
        TestContext::new().fetch(&registry, &app).args(["--referrers", "--progress", "plain"]).success();
    let told = outcome.stderr.lines().filter(|line| line.contains("looking for what belongs to 1 manifest"));
    assert_eq!(told.count(), 3, "{}", outcome.stderr);
    let outcome =
        TestContext::new().fetch(&registry, &app).args(["--referrers", "--progress", "json"]).success();
    let events = outcome.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let asking: Vec<Value> = events.filter(|event| event["event"] == "asking").collect();
    assert_eq!(asking.len(), 3);
    assert_eq!((&asking[0]["reference"], &asking[0]["manifests"]), (&app.reference().into(), &1.into()));
}

/// An error of what belongs to an image says which question it was, and that the image itself can be had.
#[test]
fn side_questions_that_fail_say_so() {
    let registry = FaultRegistry::start();
    let [app, ..] = pushed(&registry);
    let digest = app.digest();
    let tag = format!("{}.att", digest.replace(':', "-"));
    let lookaside =
        format!("{}/", registry.lookaside().split_once("//").unwrap().1.split_once('/').unwrap().1);
    for (path, said, hint) in [
        (
            format!("/v2/app/referrers/{digest}"),
            format!("what refers to {digest} cannot be listed"),
            "can be had without",
        ),
        (
            format!("/v2/app/manifests/{tag}"),
            format!("what the tag {tag} has for {digest}"),
            "can be had without",
        ),
        (
            format!("/{lookaside}"),
            format!("the lookaside's signatures of {digest}"),
            "registries.d says where",
        ),
    ] {
        let context = TestContext::new();
        let folder = context.home().join(".config/containers/registries.d");
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("docker:\n  {}:\n    lookaside: {}\n", registry.host(), registry.lookaside());
        std::fs::write(folder.join("here.yaml"), text).unwrap();
        registry.on_path(&path).always(Fault::Status(403));
        let outcome = context.fetch(&registry, &app).arg("--referrers").fails_with(4);
        assert!(outcome.stderr.contains(&said) && outcome.stderr.contains(hint), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("--creds"), "{}", outcome.stderr);
        registry.mend();
    }
}

/// What is about a manifest that conversion replaced still belongs to the image, and says so: once where it is taken, and
/// where the layout is looked into.
#[test]
fn referrers_of_what_was_converted() {
    let registry = FaultRegistry::start();
    let app = registry.push(image().docker().layer("app"));
    let sbom = registry.push_untagged(app.repository(), artifact(SBOM).layer("x").subject(app.descriptor()));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &app).args(["--referrers", "--format", "oci"]).success();
    let note = format!("1 referrer or signature is about {}, which conversion replaced", app.digest());
    assert!(outcome.stderr.contains(&note), "{}", outcome.stderr);
    let inspected = context.run(["inspect", "--json", "./out:v1"]).success().json();
    assert_ne!(inspected["descriptor"]["digest"], app.digest());
    assert_eq!(inspected["referrers"][0]["digest"], sbom.digest());
    let outcome = TestContext::new().fetch(&registry, &app).arg("--referrers").success();
    assert!(!outcome.stderr.contains("replaced"), "{}", outcome.stderr);
}

/// Another image has the name: that is found before anything of what belongs to the image is asked for.
#[test]
fn a_taken_name_is_found_first() {
    let registry = FaultRegistry::start();
    let context = TestContext::new();
    let other = registry.push_as("other", "v1", image().layer("other"));
    context.fetch(&registry, &other).success();
    let [app, sbom, _] = pushed(&registry);
    context.fetch(&registry, &app).arg("--referrers").fails_with(2);
    assert_eq!(registry.requests_for(sbom.digest()).len(), 0);
}

/// The digest proves the bytes: a list that calls them something else costs a word, and the true type is written.
#[test]
fn a_list_with_another_type() {
    let registry = FaultRegistry::builder().without_referrers().start();
    let [app, sbom, _] = pushed(&registry);
    let index_type = "application/vnd.oci.image.index.v1+json";
    let mut entry = sbom.descriptor();
    entry["mediaType"] = index_type.into();
    let list = json!({"schemaVersion": 2, "mediaType": index_type, "manifests": [entry]}).to_string();
    registry.push_as(app.repository(), &app.digest().replace(':', "-"), Built::raw(index_type, list));
    let context = TestContext::new();
    let outcome = context.fetch(&registry, &app).args(["--referrers", "--json"]).success();
    assert!(outcome.stderr.contains("is listed as"), "{}", outcome.stderr);
    let found = &outcome.json()["results"][0]["referrers"][0];
    assert_eq!((&found["digest"], &found["mediaType"]), (&sbom.digest().into(), &sbom.media_type().into()));
    check_layout(&context.out());
}
