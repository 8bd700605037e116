//! The checker: it accepts what is right and finds what is not.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{
    Built, Compression, Proof, TestContext, artifact, assert_readable, check_layout, image, index, random,
    sha256, text, write_layout,
};

fn blob(folder: &Path, digest: &str) -> PathBuf {
    folder.join("blobs").join(digest.replace(':', "/"))
}

/// Every encoding that a layer may have, in one image, and everything else that a layout may hold.
#[test]
fn what_is_right_is_accepted() {
    let context = TestContext::new();
    let all = image()
        .layer(text(5000))
        .layer_as(Compression::GzipMembers(3), text(5000))
        .layer_as(Compression::Zstd, text(5000))
        .layer_as(Compression::ZstdFrames(3), text(5000))
        .layer_as(Compression::Plain, random(5000));
    let built = Built::from(&all);
    let other = index().docker().manifest(image().docker().sha512().layer("x"), "linux/arm64");
    write_layout(&context.out(), "all", all);
    write_layout(&context.out(), "other", index().listed(other, None));
    write_layout(&context.out(), "artifact", artifact("x/y").raw_layer("x/y", "z").annotation("k", "v"));
    write_layout(&context.out(), "unknown", Built::raw("x/y", "{}"));

    let summary = check_layout(&context.out());
    assert_eq!(summary.ref_names, ["all", "other", "artifact", "unknown"]);
    assert_eq!(summary.digests[0], built.digest);
    assert_eq!(summary.blobs[&built.layers[0].digest], built.layers[0].bytes.len() as u64);
    assert_eq!(summary.diff_ids_proven, 6);
    assert_eq!((summary.unreferenced.len(), summary.missing.len()), (0, 0));
    assert_eq!(summary.index["schemaVersion"], 2);
}

/// What a test does to a layout.
type Breakage<'a> = &'a dyn Fn(&Path);

/// Each way in which a layout can be wrong is found.
#[test]
fn what_is_wrong_is_found() {
    let built = Built::from(image().layer(text(1000)));
    let layer = &built.layers[0].digest;
    let break_layout: &[(&str, Breakage)] = &[
        ("holds sha256:", &|out| fs::write(blob(out, layer), "other").expect("written")),
        ("is missing", &|out| fs::remove_file(blob(out, layer)).expect("removed")),
        ("oci-layout", &|out| fs::write(out.join("oci-layout"), "{}").expect("written")),
        ("index.json", &|out| fs::write(out.join("index.json"), "{").expect("written")),
        ("does not belong", &|out| fs::create_dir(out.join(".ocipull")).expect("made")),
        ("there twice", &|out| write_layout(out, "v1", image())),
        ("no such digest algorithm", &|out| {
            fs::create_dir(out.join("blobs/md5")).expect("made");
            fs::write(out.join("blobs/md5/00"), "").expect("written");
        }),
        ("its descriptor says", &|out| {
            let index = fs::read_to_string(out.join("index.json")).expect("read");
            let wrong = index.replace(&format!("\"size\":{}", built.document.len()), "\"size\":1");
            fs::write(out.join("index.json"), wrong).expect("written");
        }),
        #[cfg(unix)]
        ("has mode 600", &|out| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(blob(out, layer), fs::Permissions::from_mode(0o600)).expect("set");
        }),
    ];
    for (finding, break_it) in break_layout {
        let context = TestContext::new();
        write_layout(&context.out(), "v1", built.clone());
        check_layout(&context.out());
        break_it(&context.out());
        let found = Proof::new().run(&context.out()).expect_err(finding);
        assert!(found.contains(finding), "wanted: {finding}, found: {found}");
    }
}

/// The config is what ties a layer to what it unpacks to.
#[test]
fn diff_ids_are_held_against_the_config() {
    for (wrong, finding) in [
        (image().layer("x").diff_id(0, sha256(b"lie")), "has diff ID"),
        (image().layer("x").without_rootfs(), "no list diff_ids"),
        (image().layer("x").config_bytes(r#"{"rootfs":{"diff_ids":[]}}"#), "1 layers and 0 diff IDs"),
    ] {
        let context = TestContext::new();
        write_layout(&context.out(), "v1", wrong);
        let found = Proof::new().run(&context.out()).expect_err(finding);
        assert!(found.contains(finding), "{found}");
        Proof::new().without_diff_ids().run(&context.out()).expect("all else is right");
    }
}

/// After a failure a layout may be sparse and hold staged files, but what it names is whole.
#[test]
fn what_a_failure_may_leave_is_told_from_what_it_may_not() {
    let context = TestContext::new();
    let (one, two) =
        (Built::from(image().layer("1")), Built::from(image().platform("linux/arm64/v8").layer("2")));
    write_layout(
        &context.out(),
        "v1",
        index().manifest(one.clone(), "linux/amd64").manifest(two.clone(), "linux/arm64/v8"),
    );
    fs::create_dir_all(context.out().join(".ocipull/staging")).expect("made");
    fs::remove_file(blob(&context.out(), &two.digest)).expect("removed");

    let summary = assert_readable(&context.out());
    assert_eq!(summary.missing, [two.digest.as_str()]);
    assert_eq!(summary.unreferenced.len(), 2, "the config and the layer of the one that is missing");
    assert!(Proof::new().with_staging().run(&context.out()).is_err());
    let umask_gone = Proof::new().sparse().with_staging().modes(0o600, 0o700);
    assert!(umask_gone.run(&context.out()).is_err());

    fs::remove_file(blob(&context.out(), &one.layers[0].digest)).expect("removed");
    assert!(Proof::new().sparse().with_staging().run(&context.out()).is_err(), "a named image is not whole");
}
