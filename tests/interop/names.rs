//! Names that other tools give in a layout that ocipull fetches into.

use std::process::Command;

use serde_json::Value;

use super::image::{Compression, one_file};
use super::tools::{are_here, run};
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
