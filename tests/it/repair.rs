//! `ocipull verify --repair`: what is bad comes back from where it came from, and nothing else is touched.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{
    Fault, FaultRegistry, Gate, KIB, MIB, Mixed, Outcome, PushedImage, Request, Run, TestContext,
    assert_readable, check_layout, digest_of, flipped, image, index, random, sha256, text, write_layout,
};

fn repair(context: &TestContext) -> Run<'_> {
    context.run(["verify", "--repair", "--retries", "0", "--stall-timeout", "10s"]).arg(context.out())
}

fn blob(context: &TestContext, digest: &str) -> PathBuf {
    context.out().join("blobs").join(digest.replace(':', "/"))
}

/// The findings of `--json`: kind, digest, whether it was repaired.
fn told(outcome: &Outcome) -> Vec<(String, String, bool)> {
    let findings = outcome.json()["findings"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    findings
        .iter()
        .map(|one| (text(&one["kind"]), text(&one["digest"]), one["repaired"].as_bool().unwrap()))
        .collect()
}

/// Each blob of each form of image, broken in one way or another, is brought back or made again, byte for byte, and no
/// other blob is asked for.
#[test]
fn every_blob_can_be_repaired() {
    let mixed = Mixed::fetch();
    let made_of: BTreeSet<&str> = BTreeSet::from(["old", "docker", "list"]);
    for (at, (file, bytes)) in mixed.blobs().enumerate() {
        let path = mixed.path(file);
        match at % 4 {
            0 => fs::write(&path, flipped(bytes, bytes.len() / 2)).unwrap(),
            1 => fs::write(&path, &bytes[..bytes.len() - 1]).unwrap(),
            2 => fs::write(&path, [bytes, &b"more"[..]].concat()).unwrap(),
            _ => fs::remove_file(&path).unwrap(),
        }
        let digest = digest_of(file);
        let outcome = repair(&mixed.context).arg("--json").success();
        let kind = if at % 4 == 3 { "missing" } else { "digest-mismatch" };
        let told = told(&outcome);
        assert!(told.contains(&(kind.to_owned(), digest.clone(), true)), "{digest}: {}", outcome.report());
        assert!(told.iter().all(|(_, of, repaired)| *of == digest && *repaired), "{}", outcome.report());
        assert_eq!(outcome.json()["ok"], true);
        mixed.assert_as_fetched(&outcome.report());
        for request in mixed.registry.requests().iter().filter(|request| request.is_blob()) {
            // What was made here takes its sources to be made again.
            let is_source = request.target.repository().is_some_and(|name| made_of.contains(name));
            assert!(
                is_source || request.subject() == Some(&digest),
                "{digest}: {:?}",
                mixed.registry.asked()
            );
        }
        mixed.registry.clear_requests();
    }
}

/// A layout of which nothing is left but its names is brought back whole, level by level, each blob once.
#[test]
fn a_layout_without_blobs_is_brought_back() {
    let mixed = Mixed::fetch();
    for (file, _) in mixed.blobs() {
        fs::remove_file(mixed.path(file)).unwrap();
    }
    let outcome = repair(&mixed.context).success();
    mixed.assert_as_fetched(&outcome.report());
    for (file, bytes) in mixed.blobs() {
        // The size of a schema 1 image's layer is asked for by its first byte.
        let sent: u64 = mixed.registry.requests_for(&digest_of(file)).iter().map(Request::body_sent).sum();
        assert!(sent <= bytes.len() as u64 + 1, "{sent} bytes of {}", file.display());
    }
    let verified = mixed.context.run(["verify"]).arg(mixed.context.out()).success();
    assert!(verified.stdout.starts_with("ok: "), "{}", verified.stdout);
}

/// An image with two layers, fetched.
fn fetched(registry: &FaultRegistry) -> (TestContext, PushedImage) {
    let pushed = registry.push(image().layer(random(20 * KIB)).layer("second"));
    let context = TestContext::new();
    context.fetch(registry, &pushed).success();
    registry.clear_requests();
    (context, pushed)
}

/// Flips a bit of a blob; what stands there then.
fn spoil(context: &TestContext, digest: &str) -> Vec<u8> {
    let path = blob(context, digest);
    let bytes = fs::read(&path).unwrap();
    let bytes = flipped(&bytes, bytes.len() / 3);
    fs::write(path, &bytes).unwrap();
    bytes
}

/// A layout that is whole costs no request, says what `verify` says, and has the same report with `--json`.
#[test]
fn a_good_layout_asks_nobody() {
    let registry = FaultRegistry::start();
    let (context, _) = fetched(&registry);
    let plain = context.run(["verify"]).arg(context.out()).success();
    let outcome = repair(&context).success();
    assert_eq!(outcome.stdout, plain.stdout);
    let json = |run: Run<'_>| run.arg("--json").success().json();
    assert_eq!(json(repair(&context)), json(context.run(["verify"]).arg(context.out())));
    assert_eq!(registry.asked(), [""; 0]);
    check_layout(&context.out());
}

/// What people read: a line a finding that says what became of it, what was repaired, and how the layout is now.
#[test]
fn what_is_repaired_is_told() {
    let registry = FaultRegistry::start();
    let (context, pushed) = fetched(&registry);
    spoil(&context, pushed.layer(0));
    fs::remove_file(blob(&context, pushed.layer(1))).unwrap();
    fs::write(context.out().join("notes.txt"), "mine").unwrap();
    let outcome = repair(&context).success();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let path = |digest: &str| digest.replace(':', "/");
    let starts = [
        format!("digest-mismatch: blobs/{}: its content has the digest sha256:", path(pushed.layer(0))),
        format!("missing: blobs/{}: it is not there", path(pushed.layer(1))),
    ];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(&start) && line.ends_with(" (repaired)"), "{line}");
    }
    let said = "stray: notes.txt: it is no part of an OCI image layout";
    assert_eq!((lines[2], lines[3]), (said, "repaired: 2 blobs"));
    assert!(lines[4].starts_with("ok: 1 image and 4 blobs, ") && lines.len() == 5, "{lines:?}");
    // Both phases are told: what is read, what is downloaded, and that it is read again.
    let mut rest = outcome.stderr.as_str();
    for phase in ["verifying 2 blobs", "app: 2 blobs to download", "verifying 2 blobs"] {
        rest = rest.split_once(phase).unwrap_or_else(|| panic!("{phase}: {}", outcome.stderr)).1;
    }
}

/// Scripts get every finding with what became of it, and `ok` is about the layout as it is afterwards.
#[test]
fn the_report_says_what_was_repaired() {
    let registry = FaultRegistry::start();
    let (context, pushed) = fetched(&registry);
    spoil(&context, pushed.layer(0));
    spoil(&context, pushed.layer(1));
    registry.on_blob(pushed.layer(1)).always(Fault::Status(404));
    let outcome = repair(&context).arg("--json").fails_with(3);
    let json = outcome.json();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["layout", "ok", "images", "blobs", "bytes", "findings"]);
    assert_eq!((&json["ok"], &json["images"], &json["blobs"]), (&json!(false), &json!(1), &json!(3)));
    let kind = || "digest-mismatch".to_owned();
    let mut wanted =
        [(kind(), pushed.layer(0).to_owned(), true), (kind(), pushed.layer(1).to_owned(), false)];
    wanted.sort();
    assert_eq!(told(&outcome), wanted);
    for finding in json["findings"].as_array().unwrap() {
        let keys: Vec<&String> = finding.as_object().unwrap().keys().collect();
        let is_repaired = finding["repaired"] == true;
        let wanted = ["kind", "digest", "path", "detail", "repaired", "reason"];
        assert_eq!(keys, wanted[..if is_repaired { 5 } else { 6 }]);
        assert!(is_repaired || finding["reason"].as_str().unwrap().contains("404"), "{finding}");
    }
}

/// One that cannot be had keeps nobody from the others; it stays byte for byte, and the exit code is that of what failed.
#[test]
fn what_cannot_be_had_stays_as_it_is() {
    let wrong = || Fault::Body(b"other bytes".to_vec());
    for (fault, code, said) in [
        (Fault::Status(404), 3, "404"),
        (Fault::Status(403), 4, "403"),
        (Fault::Status(500), 5, "500"),
        (Fault::StallAfter(10), 5, "nothing came"),
        (wrong(), 6, "it should have"),
        (Fault::FlipByte(40), 6, "digest"),
    ] {
        let registry = FaultRegistry::start();
        let (context, pushed) = fetched(&registry);
        let broken = pushed.layer(0);
        let before = spoil(&context, broken);
        spoil(&context, pushed.layer(1));
        spoil(&context, pushed.config());
        registry.on_blob(broken).always(fault.clone());
        let run = context.run(["verify", "--repair", "--retries", "0", "--stall-timeout", "300ms"]);
        let outcome = run.arg(context.out()).fails_with(code);
        assert_eq!(fs::read(blob(&context, broken)).unwrap(), before, "{fault:?}");
        // What a network that failed has sent stays for the next run, and nothing else.
        assert!(code == 5 || !context.out().join(".ocipull").exists(), "{fault:?}");
        assert!(outcome.stdout.contains("repaired: 2 blobs\nbad: 1 finding;"), "{}", outcome.report());
        let line = outcome.stdout.lines().find(|line| line.contains("(not repaired: ")).unwrap();
        assert!(line.contains(&broken.replace(':', "/")) && line.contains(said), "{line}");
        assert!(outcome.stderr.contains("error: cannot repair"), "{}", outcome.stderr);
        registry.mend();
        registry.clear_requests();
        repair(&context).success();
        let asked = registry.requests();
        assert!(asked.iter().all(|request| request.subject() == Some(broken)), "{:?}", registry.asked());
        check_layout(&context.out());
    }
}

/// A registry that is gone is asked about a few blobs, not about all of them.
#[test]
fn a_registry_that_is_gone_is_given_up() {
    let registry = FaultRegistry::start();
    let pushed = registry.push((0..30).fold(image(), |image, at| image.layer(format!("layer {at}"))));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    registry.clear_requests();
    for layer in pushed.layers() {
        spoil(&context, layer);
    }
    registry.on_path("/v2/app/blobs/").always(Fault::CloseBeforeResponse);
    let outcome = repair(&context).args(["--connections", "1"]).fails_with(5);
    assert_eq!(outcome.stdout.matches("(not repaired: ").count(), 30, "{}", outcome.stdout);
    assert!(registry.requests().len() <= 4, "{:?}", registry.asked());
}

/// While the good bytes come, the bad ones stand where they stood: there is never neither of the two, and never a mixture.
#[test]
fn a_bad_blob_stands_until_the_good_one_is_proven() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(2 * MIB)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    let bad = spoil(&context, pushed.layer(0));
    let gate = Gate::new();
    registry.on_blob(pushed.layer(0)).once(Fault::HoldAfter(MIB, gate.clone()));
    let running = repair(&context).args(["--connections", "1"]).spawn();
    gate.wait_for_arrivals(1);
    assert_eq!(fs::read(blob(&context, pushed.layer(0))).unwrap(), bad);
    context.run(["ls"]).arg(context.out()).success();
    let verified = context.run(["verify"]).arg(context.out()).fails_with(6);
    assert!(verified.stdout.starts_with("digest-mismatch: "), "{}", verified.stdout);
    assert_eq!(verified.stdout.lines().count(), 2, "{}", verified.stdout);
    gate.open();
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    check_layout(&context.out());
}

/// A repair that was killed is gone on with: what had come is not asked for again.
#[test]
fn a_killed_repair_resumes() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(3 * MIB)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    let bad = spoil(&context, pushed.layer(0));
    registry.clear_requests();
    registry.on_blob(pushed.layer(0)).once(Fault::StallAfter(2 * MIB + MIB / 2));
    let running = repair(&context).args(["--connections", "1"]).spawn();
    registry.wait_until("2 MiB are noted", |_| context.noted_bytes() >= 2 * MIB as u64);
    running.kill();
    assert_eq!(fs::read(blob(&context, pushed.layer(0))).unwrap(), bad);
    registry.clear_requests();
    repair(&context).success();
    assert!(registry.blob_bytes_sent() < 2 * MIB as u64, "{} bytes", registry.blob_bytes_sent());
    check_layout(&context.out());
}

/// Two repairs at once: each blob moves once, and both say that all is well.
#[test]
fn two_repairs_share_the_work() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(2 * MIB)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    spoil(&context, pushed.layer(0));
    registry.clear_requests();
    let gate = Gate::new();
    registry.on_blob(pushed.layer(0)).once(Fault::HoldAfter(MIB, gate.clone()));
    let first = repair(&context).args(["--connections", "1"]).spawn();
    gate.wait_for_arrivals(1);
    let second = repair(&context).args(["--progress", "json"]).spawn();
    // Meanwhile a fetch that needs the very same layer, which has its size, and an image of its own.
    let own = registry.push_as("own", "v1", image().layer("own"));
    context.fetch(&registry, &own).args(["--ref-name", "full"]).success();
    gate.open();
    for running in [first, second] {
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    }
    assert_eq!(
        registry.requests_for(pushed.layer(0)).iter().map(Request::body_sent).sum::<u64>(),
        pushed.layer_bytes(0).len() as u64
    );
    check_layout(&context.out());
}

/// Without a full name nobody knows where an image is from, and the way out is named; with `--repair=REF` it is from there.
#[test]
fn a_reference_says_where_everything_is_from() {
    let registry = FaultRegistry::start();
    let built = || image().layer("first").layer("second");
    let elsewhere = registry.push_as("elsewhere", "v9", built());
    let context = TestContext::new();
    write_layout(&context.out(), "theirs", built());
    let bad = spoil(&context, elsewhere.layer(0));
    fs::remove_file(blob(&context, elsewhere.digest())).unwrap();
    let outcome = repair(&context).fails_with(6);
    assert!(outcome.stdout.contains("--repair=REF"), "{}", outcome.stdout);
    assert_eq!(fs::read(blob(&context, elsewhere.layer(0))).unwrap(), bad);
    assert_eq!(registry.asked(), [""; 0]);
    let from = format!("--repair={}/elsewhere", registry.host());
    let outcome = context.run(["verify", &from]).arg(context.out()).success();
    assert!(outcome.stdout.contains("repaired: 2 blobs"), "{}", outcome.stdout);
    check_layout(&context.out());
    // It goes before what names say, too: the image's own registry is not asked.
    let (context, pushed) = fetched(&registry);
    let mirror = registry.push_as("copy", "v1", image().layer(random(20 * KIB)).layer("second"));
    assert_eq!(mirror.layers(), pushed.layers());
    spoil(&context, pushed.layer(0));
    let from = format!("--repair={}/copy:v1", registry.host());
    context.run(["verify", &from]).arg(context.out()).success();
    assert!(registry.requests().iter().all(|request| request.target.repository() == Some("copy")));
    for (arguments, code) in [(["--repair=A:B:C"], 2), (["--repair=oci:./x"], 2), (["--retries=1"], 2)] {
        context.run(["verify"]).args(arguments).arg(context.out()).fails_with(code);
    }
}

/// What several images share comes from any of their repositories.
#[test]
fn the_next_image_that_has_it_is_asked() {
    let registry = FaultRegistry::start();
    let one = registry.push_as("one", "v1", image().layer(text(2000)).layer("one"));
    let two = registry.push_as("two", "v1", image().layer(text(2000)).layer("two"));
    let context = TestContext::new();
    for pushed in [&one, &two] {
        context.fetch(&registry, pushed).args(["--ref-name", "full"]).success();
    }
    spoil(&context, one.layer(0));
    registry.on_path("/v2/one/").always(Fault::Status(404));
    repair(&context).success();
    check_layout(&context.out());
}

/// A refetch cannot mend what a document with a good digest says, nor `index.json`: that stays, with the reason, and nobody is
/// asked in vain.
#[test]
fn what_is_no_blobs_fault_stays() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer("x").diff_id(0, sha256(b"another")));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--diff-ids", "skip"]).success();
    spoil(&context, pushed.layer(0));
    let outcome = repair(&context).arg("--json").fails_with(6);
    let kinds: Vec<_> = told(&outcome).into_iter().map(|(kind, _, repaired)| (kind, repaired)).collect();
    assert_eq!(kinds, [("digest-mismatch".to_owned(), true), ("diff-id-mismatch".to_owned(), false)]);
    registry.clear_requests();
    let outcome = repair(&context).fails_with(6);
    assert!(outcome.stdout.contains("(not repaired: its digest holds"), "{}", outcome.stdout);
    let path = context.out().join("index.json");
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut sized = good.clone();
    sized["manifests"][0]["size"] = json!(7);
    let mut broken = good.clone();
    broken["manifests"].as_array_mut().unwrap().push(json!({"digest": "md5:1"}));
    for (index, kind, said) in [
        (sized, "size-mismatch: ", "the size is what is wrong"),
        (broken, "bad-document: index.json: entry 1", "index.json is this layout's own"),
    ] {
        fs::write(&path, index.to_string()).unwrap();
        let outcome = repair(&context).fails_with(6);
        let line = outcome.stdout.lines().find(|line| line.starts_with(kind)).unwrap();
        assert!(line.contains(said), "{line}");
        assert_eq!(fs::read(&path).unwrap(), index.to_string().into_bytes());
    }
    assert_eq!(registry.asked(), [""; 0]);
}

/// A bad blob that nothing refers to is nobody's: it stays, and the line says what to do.
#[test]
fn what_nothing_refers_to_is_not_asked_for() {
    let registry = FaultRegistry::start();
    let (context, _) = fetched(&registry);
    let stray = blob(&context, &sha256(b"stray"));
    fs::write(&stray, "other").unwrap();
    let outcome = repair(&context).fails_with(6);
    assert!(outcome.stdout.contains("nothing that can be followed leads to it"), "{}", outcome.stdout);
    assert_eq!((registry.requests().len(), fs::read(&stray).unwrap()), (0, b"other".to_vec()));
}

/// A layout that cannot be read is not made up: nothing is asked and nothing is written.
#[test]
fn an_unreadable_layout_is_not_repaired() {
    let registry = FaultRegistry::start();
    for (file, content) in
        [("index.json", Some("{")), ("index.json", None), ("oci-layout", Some("{}")), ("oci-layout", None)]
    {
        let (context, pushed) = fetched(&registry);
        let bad = spoil(&context, pushed.layer(0));
        let path = context.out().join(file);
        match content {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        repair(&context).fails_with(7);
        assert_eq!(fs::read(blob(&context, pushed.layer(0))).unwrap(), bad);
        assert_eq!(path.exists(), content.is_some());
    }
    assert_eq!(registry.asked(), [""; 0]);
}

/// A link or a pipe under a blob's name gives way to the blob, and what the link leads to stays as it is; a folder with
/// things in it does not give way, and is named.
#[cfg(unix)]
#[test]
fn what_is_no_file_gives_way() {
    let registry = FaultRegistry::start();
    let (context, pushed) = fetched(&registry);
    let [first, second, config] = [pushed.layer(0), pushed.layer(1), pushed.config()].map(|digest| {
        let path = blob(&context, digest);
        fs::remove_file(&path).unwrap();
        path
    });
    let outside = context.path().join("outside");
    fs::write(&outside, "theirs").unwrap();
    std::os::unix::fs::symlink(&outside, &first).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&second).status().unwrap().success());
    fs::create_dir(&config).unwrap();
    let outcome = repair(&context).fails_with(6);
    assert!(outcome.stdout.contains("a folder stands in its place"), "{}", outcome.stdout);
    assert_eq!(registry.requests_for(pushed.config()).len(), 0);
    assert_eq!(fs::read(&outside).unwrap(), b"theirs");
    assert!([&first, &second].iter().all(|path| fs::symlink_metadata(path).unwrap().is_file()));
    fs::remove_dir(&config).unwrap();
    repair(&context).success();
    check_layout(&context.out());
}

/// What was left out by choice is not brought: manifests for other platforms, layers that live elsewhere; and a foreign layer
/// that was taken comes from its URL, without the registry.
#[test]
fn only_what_was_taken_is_brought() {
    let registry = FaultRegistry::start();
    let of = |platform: &str| image().platform(platform).layer(platform);
    let pushed = registry.push(
        index()
            .manifest(of("linux/amd64"), "linux/amd64")
            .manifest(of("linux/arm64"), "linux/arm64")
            .manifest(of("linux/s390x"), "linux/s390x"),
    );
    let host = FaultRegistry::start();
    let bytes = text(5 * KIB);
    let away = host.push_as("files", "v1", image().layer(&bytes));
    let url = format!("{}/storage/files/{}", host.url(), away.layer(0));
    let foreign = registry.push_as("foreign", "v1", image().layer(&bytes).urls(0, [&url]).layer("own"));
    for skips in [false, true] {
        let context = TestContext::new();
        context
            .fetch(&registry, &pushed)
            .args(["--platform", "linux/amd64", "--platform", "linux/arm64", "--ref-name", "full"])
            .success();
        let option = if skips { "skip" } else { "fetch" };
        context.fetch(&registry, &foreign).args(["--foreign-layers", option, "--ref-name", "full"]).success();
        fs::remove_dir_all(context.out().join("blobs/sha256")).unwrap();
        registry.clear_requests();
        host.clear_requests();
        let outcome = repair(&context).success();
        assert!(outcome.stdout.contains("left out by choice: 1 manifest"), "{}", outcome.stdout);
        assert_eq!(host.requests().len(), usize::from(!skips));
        assert_eq!(registry.requests_for(foreign.layer(0)).len(), 0);
        assert_eq!(registry.requests_for(pushed.child(2).digest()).len(), 0);
        if !skips {
            assert_readable(&context.out());
        }
    }
}

/// Registries are reached as a fetch reaches them: credentials, mirrors, limits; and credentials by flag are for one registry.
#[test]
fn registries_are_reached_as_for_a_fetch() {
    let registry = FaultRegistry::builder().basic_auth("me", "secret").start();
    let pushed = registry.push(image().layer(random(20 * KIB)));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).args(["--creds", "me:secret"]).success();
    spoil(&context, pushed.layer(0));
    let outcome = repair(&context).fails_with(4);
    assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    let options = ["--connections", "2", "--segment-size", "4KiB", "--max-rate", "10MiB/s"];
    repair(&context).args(["--creds", "me:secret"]).args(options).success();
    check_layout(&context.out());
    spoil(&context, pushed.layer(0));
    let mirror = FaultRegistry::start();
    mirror.push_as("m/app", "v1", image().layer(random(20 * KIB)));
    registry.clear_requests();
    repair(&context).args(["--mirror", &format!("{}/m", mirror.host())]).success();
    assert_eq!(registry.asked(), [""; 0]);
    assert!(mirror.blob_bytes_sent() >= 20 * KIB as u64);
    let other = FaultRegistry::start();
    let pushed = other.push_as("other", "v1", image().layer("other"));
    context.fetch(&other, &pushed).args(["--ref-name", "full"]).success();
    repair(&context).args(["--creds", "me:secret"]).fails_with(2);
}

/// What `convert` made is made again of what the registry has, and of the source that lies beside it where that is whole.
#[test]
fn what_was_converted_here_is_made_again() {
    let registry = FaultRegistry::start();
    let of = |platform: &str| image().docker().platform(platform).layer(platform);
    let list = index()
        .docker()
        .manifest(of("linux/amd64"), "linux/amd64")
        .manifest(of("linux/arm64"), "linux/arm64");
    let pushed = registry.push(list);
    let context = TestContext::new();
    context.fetch(&registry, &pushed).arg("--all-platforms").success();
    context.run(["convert", "--format", "oci"]).arg(context.out()).success();
    let before = check_layout(&context.out());
    for keeps_sources in [true, false] {
        for digest in
            before.blobs.keys().filter(|digest| !(keeps_sources && before.unreferenced.contains(digest)))
        {
            let _ = fs::remove_file(blob(&context, digest));
        }
        if keeps_sources {
            registry.on_manifest(pushed.digest()).always(Fault::Status(404));
        }
        repair(&context).success();
        let after = check_layout(&context.out());
        assert_eq!(after.digests, before.digests);
        assert_eq!(after.unreferenced.is_empty(), !keeps_sources);
        registry.mend();
        for digest in &before.unreferenced {
            let _ = fs::remove_file(blob(&context, digest));
        }
    }
}

/// What a part of an index was converted to is another index than the whole becomes: nothing else is put in its place, and the
/// line says why; the images below it can still be had by whoever fetches again.
#[test]
fn a_part_that_was_converted_is_not_guessed() {
    let registry = FaultRegistry::start();
    let of = |platform: &str| image().docker().platform(platform).layer(platform);
    let list = ["linux/amd64", "linux/arm64", "linux/s390x"]
        .into_iter()
        .fold(index().docker(), |list, platform| list.manifest(of(platform), platform));
    let pushed = registry.push(list);
    let context = TestContext::new();
    let platforms = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    context.fetch(&registry, &pushed).args(platforms).success();
    context.run(["convert", "--format", "oci"]).arg(context.out()).success();
    let summary = assert_readable(&context.out());
    let bad = spoil(&context, &summary.digests[0]);
    let outcome = repair(&context).fails_with(6);
    let said = format!("what is made of {} again is something else", pushed.digest());
    assert!(outcome.stdout.contains(&said), "{}", outcome.stdout);
    assert_eq!(fs::read(blob(&context, &summary.digests[0])).unwrap(), bad);
    let names: BTreeSet<_> = fs::read_dir(context.out().join("blobs/sha256"))
        .unwrap()
        .map(|one| one.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), summary.blobs.len());
}

/// A disk that cannot be written to ends it, with what the system said: no blob would fare better. What is bad was found by
/// then, and what was repaired stays: whoever looks into it sees both, and then the error.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_the_machine_ends_it() {
    let registry = FaultRegistry::start();
    let pushed = registry.push(image().layer(random(3 * MIB)).layer("small"));
    let context = TestContext::new();
    context.fetch(&registry, &pushed).success();
    let limited = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
    let repair_limited = |options: &[&str]| {
        spoil(&context, pushed.layer(1));
        let run = context.program("/bin/sh").args(["-c", limited, env!("CARGO_BIN_EXE_ocipull")]);
        let outcome = run.args(["verify", "--repair"]).args(options).arg(context.out()).fails_with(1);
        let (_, error) = outcome.stderr.split_once("error: cannot repair ").expect(&outcome.stderr);
        assert!(error.contains("File too large"), "{error}");
        assert!(error.contains("hint: raise the file size limit"), "{error}");
        outcome
    };
    let bad = spoil(&context, pushed.layer(0));
    let outcome = repair_limited(&[]);
    let line = |digest: &str| {
        let start = format!("digest-mismatch: blobs/{}: ", digest.replace(':', "/"));
        let line = outcome.stdout.lines().find(|line| line.starts_with(&start));
        line.unwrap_or_else(|| panic!("nothing of {start:?} in {}", outcome.report()))
    };
    assert!(line(pushed.layer(0)).contains(" (not repaired: "), "{}", outcome.stdout);
    assert!(line(pushed.layer(0)).contains("File too large"), "{}", outcome.stdout);
    assert!(line(pushed.layer(1)).ends_with(" (repaired)"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("\nrepaired: 1 blob\nbad: 1 finding; "), "{}", outcome.stdout);

    let mut findings = told(&repair_limited(&["--json"]));
    findings.sort_by_key(|(_, _, repaired)| *repaired);
    let finding = |at: usize| ("digest-mismatch".to_owned(), pushed.layer(at).to_owned(), at == 1);
    assert_eq!(findings, [finding(0), finding(1)]);
    assert_eq!(fs::read(blob(&context, pushed.layer(0))).unwrap(), bad);
    repair(&context).success();
    check_layout(&context.out());
}
