//! Names that other tools give in a layout that ocipull fetches into.

use std::process::Command;

use serde_json::Value;

use super::image::{Compression, one_file};
use super::tools::{are_here, ocipull, run, skopeo};
use super::{REGISTRY, Scene, layers};

/// `umoci tag` gives what was fetched a name of its own. That name stays with its image through later fetches, whether the
/// tag has moved by then or not, and whether the name that ocipull gave is still there or not.
#[test]
fn a_name_that_umoci_gave_stays_with_its_image() {
    if !are_here(&[&REGISTRY[..], &["umoci"]].concat()) {
        return;
    }
    let scene = Scene::new();
    let image_of = |marker: &str| layers(&[one_file("etc", "marker", marker)], Compression::Gzip);
    let reference = scene.registry.reference("demo/named:v1");
    for (case, has_own_name, has_moved) in
        [("a", true, false), ("b", true, true), ("c", false, false), ("d", false, true)]
    {
        let first = scene.push("demo/named:v1", &image_of("first"));
        scene.fetch(&reference, case, &[]);
        let layout = scene.text(case);
        run(Command::new("umoci").args(["tag", "--image", &format!("{layout}:v1"), "good"]));
        if !has_own_name {
            run(Command::new("umoci").args(["rm", "--image", &format!("{layout}:v1")]));
        }
        let now = if has_moved { scene.push("demo/named:v1", &image_of("second")) } else { first.clone() };
        let report = scene.fetch(&reference, case, &[]);
        scene.assert_holds(case, &report, &now);
        scene.assert_skopeo_copies(case, "v1", &now);
        scene.assert_skopeo_copies(case, "good", &first);
        let index: Value =
            serde_json::from_slice(&std::fs::read(scene.path(case).join("index.json")).expect("an index"))
                .expect("JSON");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index}");
        // containerd goes by the full names: each stands for one image.
        let full_name = |name: &str| {
            let entries = index["manifests"].as_array().expect("entries").iter();
            let annotations = entries.map(|entry| &entry["annotations"]);
            let mut named = annotations.filter(|all| all["org.opencontainers.image.ref.name"] == name);
            named.next().expect("the name is there")["io.containerd.image.name"].as_str().expect("text")
        };
        assert_eq!(full_name("v1"), reference);
        let repository = reference.trim_end_matches(":v1");
        let wanted = if has_moved { format!("{repository}@{}", first.digest) } else { reference.clone() };
        assert_eq!(full_name("good"), wanted);
        let report = scene.fetch(&reference, case, &[]);
        assert_eq!(report["results"][0]["status"], "up-to-date", "{report}");
    }
}

/// `umoci config` keeps what an entry says when it changes an image. The changed one is no longer what the registry has: it keeps
/// its own name, loses the full one to the image that is fetched, and one that was changed in place is not overwritten.
#[test]
fn an_image_that_umoci_changed_is_left_alone() {
    if !are_here(&[&REGISTRY[..], &["umoci"]].concat()) {
        return;
    }
    let scene = Scene::new();
    let image = scene.push("demo/changed:v1", &layers(&[one_file("etc", "marker", "it")], Compression::Gzip));
    let reference = scene.registry.reference("demo/changed:v1");
    let change = |options: &[&str]| {
        run(Command::new("umoci").args(["config", "--config.user", "bob", "--image"]).args(options));
    };
    scene.fetch(&reference, "copy", &[]);
    let changed = format!("{}:v1", scene.text("copy"));
    change(&[&changed, "--tag", "mine"]);
    scene.fetch(&reference, "copy", &["--ref-name", "=other"]);
    let index = std::fs::read(scene.path("copy/index.json")).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let entries = index["manifests"].as_array().expect("entries").iter();
    let mut names: Vec<_> = entries
        .map(|entry| {
            let annotations = &entry["annotations"];
            (
                annotations["org.opencontainers.image.ref.name"].as_str(),
                annotations["io.containerd.image.name"].as_str(),
            )
        })
        .collect();
    names.sort_unstable();
    assert_eq!(names, [(Some("mine"), None), (Some("other"), Some(&*reference))]);
    run(skopeo().args(["inspect", "--raw", &format!("oci:{}:mine", scene.text("copy"))]));

    scene.fetch(&reference, "place", &[]);
    change(&[&format!("{}:v1", scene.text("place"))]);
    let before = std::fs::read(scene.path("place/index.json")).expect("an index");
    let output =
        ocipull(scene.folder.path()).args(["fetch", "-q", &reference, &scene.text("place")]).output();
    let output = output.expect("ocipull starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--replace"), "{output:?}");
    assert_eq!(std::fs::read(scene.path("place/index.json")).expect("an index"), before);
    let report = scene.fetch(&reference, "place", &["--replace"]);
    scene.assert_holds("place", &report, &image);
}
