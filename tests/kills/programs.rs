//! What a fetch leaves, read by programs that know nothing of it: skopeo and umoci, whatever befell the fetch.
//!
//! The suite's own reader is as strict as the image spec, and written by the same people. These programs are what the
//! promise is about: at any moment they find the images of before, and those that are named by then, whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::errors::refusals;
use crate::points::{Job, each, passages, passages_from, spread};
use crate::real::{may_mount, unshared};
use crate::scene::{Kind, Scene, theirs};
use crate::sound::{Left, completes, examine};
use crate::support::{Built, KIB, TestContext, sha256};
use crate::tools::{are_here, run, skopeo};

const PROGRAMS: [&str; 2] = ["skopeo", "umoci"];

/// The scenes, the one with an index of two platforms first: it has every step that the others have too, and is small.
const KINDS: [Kind; 4] = [Kind::Beside, Kind::New, Kind::Resumed, Kind::Encoded];

/// How much of an image is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Its manifest and every blob.
    Blobs,
    /// Every file of it too, where it is one image and no index.
    Files,
}

/// Holds what programs find in a folder against what the suite's own reader found.
fn read_by_programs(scene: &Scene, context: &TestContext, left: &Left, depth: Depth) {
    let out = context.out();
    if !left.is_layout {
        return no_program_reads(scene, &out);
    }
    let listed = run(Command::new("umoci").args(["ls", "--layout"]).arg(&out));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed: BTreeSet<&str> = listed.lines().collect();
    assert_eq!(listed, left.named.iter().map(String::as_str).collect(), "what umoci lists");
    for name in listed {
        let other = theirs();
        let image = if name == "theirs" { &other } else { scene.pushed.built() };
        let source = format!("{}:{name}", out.display());
        skopeo_inspects(&source, image);
        skopeo_copies(context, &source, image);
        if depth == Depth::Files && image.children.is_empty() {
            umoci_unpacks(context, &source, image);
        }
    }
}

/// Without its marker a folder is no layout. skopeo 1.9 does not look at the marker, and finds no image all the same.
fn no_program_reads(scene: &Scene, out: &Path) {
    for name in [String::new(), format!(":{}", scene.pushed.tag())] {
        let inspected =
            skopeo().args(["inspect", "--raw"]).arg(format!("oci:{}{name}", out.display())).output();
        assert!(!inspected.unwrap().status.success(), "skopeo finds an image in what is no layout");
    }
    let listed = Command::new("umoci").args(["ls", "--layout"]).arg(out).output();
    assert!(!listed.unwrap().status.success(), "umoci takes for a layout what is none");
}

/// The name stands for the bytes that went in.
fn skopeo_inspects(source: &str, image: &Built) {
    let inspected = run(skopeo().args(["inspect", "--raw"]).arg(format!("oci:{source}")));
    assert_eq!(sha256(&inspected.stdout), image.digest, "what skopeo reads of {source}");
}

/// Every blob is there, of all platforms, and has the bytes that went in.
fn skopeo_copies(context: &TestContext, source: &str, image: &Built) {
    let target = tempfile::tempdir_in(context.path()).unwrap();
    let copy = target.path().join("copy");
    run(skopeo()
        .args(["copy", "--quiet", "--all", "--preserve-digests"])
        .arg(format!("oci:{source}"))
        .arg(format!("dir:{}", copy.display())));
    assert_eq!(sha256(&std::fs::read(copy.join("manifest.json")).unwrap()), image.digest);
    for (digest, bytes) in blobs(image) {
        let name = digest.trim_start_matches("sha256:");
        assert!(std::fs::read(copy.join(name)).unwrap() == bytes, "{digest} of {source} is another blob");
    }
}

/// Every file is there, and has the bytes that went in.
fn umoci_unpacks(context: &TestContext, source: &str, image: &Built) {
    let target = tempfile::tempdir_in(context.path()).unwrap();
    let bundle = target.path().join("bundle");
    run(Command::new("umoci").args(["unpack", "--rootless", "--image", source]).arg(&bundle));
    for layer in &image.layers {
        let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(&*layer.bytes));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = bundle.join("rootfs").join(entry.path().unwrap());
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{} is another file", path.display());
        }
    }
}

/// The configs and layers of an image or of all that an index lists.
fn blobs(image: &Built) -> BTreeMap<&str, &[u8]> {
    let own = image.config.iter().chain(&image.layers).map(|blob| (&*blob.digest, &*blob.bytes));
    own.chain(image.children.iter().flat_map(blobs)).collect()
}

/// Something befalls a fetch beside an image that is there: programs read what is left, and after the next run both images.
/// Says how the fetch ended.
fn trial(scene: &Scene, job: &Job) -> Option<i32> {
    let context = scene.set_beside_theirs();
    let outcome = scene.fetch(&context, &[("OCIPULL_FAIL_AT", &job.order())]);
    let left = examine(scene, &context.out());
    assert!(left.named.iter().any(|name| name == "theirs"), "{:?}", left.named);
    read_by_programs(scene, &context, &left, Depth::Blobs);
    completed_for_programs(scene, &context, &left);
    outcome.code
}

fn completed_for_programs(scene: &Scene, context: &TestContext, left: &Left) {
    completes(scene, context, left);
    let whole = examine(scene, &context.out());
    assert_eq!(whole.named.last().map(String::as_str), Some(scene.pushed.tag()));
    read_by_programs(scene, context, &whole, Depth::Files);
}

/// A kill before the first and the last passage of each step, and after the last of what is seen from outside.
fn kills() -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut known = BTreeSet::new();
    for kind in KINDS {
        for (point, count) in passages_from(kind, Scene::set_beside_theirs) {
            // What a scene shares with those before it was tried there, but for what gives blobs and images their names.
            let is_new = known.insert(point.clone()) || point.starts_with("rename");
            // Reading changes nothing.
            if !is_new || point.starts_with("read:") {
                continue;
            }
            for passage in spread(count, 2) {
                jobs.push(Job { kind, point: point.clone(), passage, action: "kill" });
            }
            if ["rename", "create-folder", "remove-folder"].iter().any(|step| point.starts_with(step)) {
                jobs.push(Job { kind, point, passage: count, action: "kill-after" });
            }
        }
    }
    jobs
}

/// Whenever the process dies, skopeo and umoci read the image of before, to the last byte, and the new one once it is named;
/// after the next run both. "Any OCI tool reads the layout" is a promise about them and not about our own reader.
#[test]
fn after_a_kill_programs_read_what_is_named() {
    if !are_here(&PROGRAMS) {
        return;
    }
    let (jobs, killed) = (kills(), Mutex::new(BTreeSet::new()));
    each(&jobs, |scene, job| match trial(scene, job) {
        None => drop(killed.lock().unwrap().insert(job.point.clone())),
        // How a body is cut into pieces is no two times the same.
        code => assert_eq!(code, Some(0), "the step was not reached"),
    });
    let killed = killed.into_inner().unwrap();
    let missed: BTreeSet<_> =
        jobs.iter().map(|job| &job.point).filter(|point| !killed.contains(*point)).collect();
    assert!(missed.is_empty(), "nothing was killed at {missed:?}");
}

/// Each step is refused once, in one of the ways that it may meet.
fn refused() -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut known = BTreeSet::new();
    for kind in KINDS {
        for (point, count) in passages_from(kind, Scene::set_beside_theirs) {
            let met = refusals(point.split(':').next().unwrap());
            // Another one for each, so that all of them come.
            let Some(action) = met.get(known.len() % met.len().max(1)) else { continue };
            if known.insert(point.clone()) {
                jobs.push(Job { kind, point, passage: count.div_ceil(2), action });
            }
        }
    }
    jobs
}

/// A full, read-only or failing disk takes no image from those who read the layout with other programs either.
#[test]
fn after_a_refused_step_programs_read_what_is_named() {
    if !are_here(&PROGRAMS) {
        return;
    }
    let (jobs, failures) = (refused(), AtomicUsize::new(0));
    each(&jobs, |scene, job| {
        if trial(scene, job) != Some(0) {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    });
    let failures = failures.into_inner();
    assert!(failures >= 15, "{failures} failures in {} runs", jobs.len());
}

/// A folder that is not a layout yet is one for nobody: a program that found an image in it would find half of one. The next
/// run makes it a layout that all of them read.
#[test]
fn before_its_marker_a_folder_is_a_layout_for_no_program() {
    if !are_here(&PROGRAMS) {
        return;
    }
    let first = |(point, _)| Job { kind: Kind::New, point, passage: 1, action: "kill" };
    let jobs: Vec<Job> = passages(Kind::New).into_iter().map(first).collect();
    let unmarked = AtomicUsize::new(0);
    each(&jobs, |scene, job| {
        let context = scene.set();
        scene.fetch(&context, &[("OCIPULL_FAIL_AT", &job.order())]);
        let left = examine(scene, &context.out());
        read_by_programs(scene, &context, &left, Depth::Blobs);
        if !left.is_layout {
            unmarked.fetch_add(1, Ordering::Relaxed);
            completed_for_programs(scene, &context, &left);
        }
    });
    let unmarked = unmarked.into_inner();
    assert!(unmarked >= 8, "{unmarked} of {} kills came before the marker", jobs.len());
}

/// A disk that is full for real, in a layer and in the other layers: what stood on it before is read there as ever.
#[test]
fn on_a_full_disk_programs_read_what_was_there() {
    if !are_here(&PROGRAMS) || !may_mount() {
        return;
    }
    for size in [700 * KIB, 3000 * KIB] {
        let scene = Scene::new(Kind::New);
        let context = scene.set_beside_theirs();
        let out = context.out().to_string_lossy().into_owned();
        // What is left on the small disk is taken along, for programs and for the run with room.
        let script = format!(
            "cp -a '{out}' '{out}-before'; mount -t tmpfs -o mode=755,size={size} tmpfs '{out}'; \
             cp -a '{out}-before/.' '{out}/'; code=0; \"$0\" \"$@\" || code=$?; \
             mkdir '{out}-kept'; cp -a '{out}/.' '{out}-kept/'; exit $code"
        );
        let outcome = unshared(&context, &script, &scene.command(&context).arguments());
        assert_eq!(outcome.code, Some(1), "{}", outcome.report());
        assert!(outcome.stderr.contains("No space left on device"), "{}", outcome.report());
        std::fs::remove_dir_all(&out).unwrap();
        std::fs::rename(format!("{out}-kept"), &out).unwrap();
        let left = examine(&scene, &context.out());
        assert_eq!(left.named, ["theirs"]);
        read_by_programs(&scene, &context, &left, Depth::Files);
        completed_for_programs(&scene, &context, &left);
    }
}
