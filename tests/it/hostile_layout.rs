//! Layouts that came from elsewhere: whatever was planted in them, nothing outside is read, written or removed, and
//! nothing is waited for without end.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{FaultRegistry, PushedImage, TestContext, check_layout, image, text, write_layout};

/// What lies outside of the layout.
const PRECIOUS: &str = "precious";

/// What somebody can put in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Link,
    DanglingLink,
    HardLink,
    Pipe,
    Folder,
}

struct Place {
    registry: FaultRegistry,
    pushed: PushedImage,
    context: TestContext,
}

impl Place {
    /// A layout with somebody's image, and an image to fetch into it.
    fn new() -> Self {
        let registry = FaultRegistry::start();
        let pushed = registry.push(image().layer(text(500)));
        let context = TestContext::new();
        write_layout(&context.out(), "theirs", image().layer("theirs"));
        fs::create_dir(context.path().join("outside")).unwrap();
        fs::write(context.path().join("outside/victim"), PRECIOUS).unwrap();
        Self { registry, pushed, context }
    }

    fn outside(&self) -> PathBuf {
        self.context.path().join("outside")
    }

    fn plant(&self, path: &str, planted: Planted) -> PathBuf {
        let at = self.context.out().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match planted {
            Planted::Link => symlink(self.outside().join("victim"), &at).unwrap(),
            Planted::DanglingLink => symlink(self.outside().join("new-file"), &at).unwrap(),
            Planted::HardLink => fs::hard_link(self.outside().join("victim"), &at).unwrap(),
            Planted::Pipe => pipe(&at),
            Planted::Folder => fs::create_dir(&at).unwrap(),
        }
        at
    }

    /// Fetches, and says with which exit code that ended and what it had to say.
    fn fetch(&self) -> (i32, String) {
        let outcome = self.context.fetch(&self.registry, &self.pushed).run();
        (outcome.code.unwrap_or(-1), outcome.stderr)
    }

    fn assert_outside_untouched(&self, what: &str) {
        let names: Vec<_> =
            fs::read_dir(self.outside()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["victim"], "{what}");
        assert_eq!(fs::read_to_string(self.outside().join("victim")).unwrap(), PRECIOUS, "{what}");
    }
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

/// What stands under a name that the fetch itself writes is never written through, nor waited for: it is refused with
/// its path, or replaced where only a dead process can have left a file there.
#[test]
fn what_is_planted_in_the_staging_folder_is_not_used() {
    let staged = |digest: &str, extension: &str| format!(".ocipull/{}.{extension}", digest.replace(':', "-"));
    let all = [Planted::Link, Planted::DanglingLink, Planted::HardLink, Planted::Pipe];
    for planted in all.into_iter().chain([Planted::Folder]) {
        for (number, refuses) in [(0, true), (1, true), (2, true), (3, true), (4, false), (5, false)] {
            let place = Place::new();
            let layer = place.pushed.layer(0).to_owned();
            let path = match number {
                0 => ".ocipull/lock".to_owned(),
                1 => staged(&layer, "part"),
                2 => staged(&layer, "journal"),
                3 => staged(place.pushed.digest(), "part"),
                4 => staged(&layer, "encoded"),
                _ => ".ocipull/new".to_owned(),
            };
            let at = place.plant(&path, planted);
            let (code, stderr) = place.fetch();
            let what = format!("{planted:?} at {path}: {code} {stderr}");
            place.assert_outside_untouched(&what);
            if refuses {
                assert_eq!(code, 7, "{what}");
                assert!(stderr.contains(&*at.to_string_lossy()), "{what}");
                assert!(stderr.contains("hint: "), "{what}");
            } else if planted != Planted::Folder {
                assert_eq!(code, 0, "{what}");
                assert_eq!(check_layout(&place.context.out()).ref_names, ["theirs", "v1"]);
            }
        }
    }
}

/// The layout's folders are folders: a link there would lead every write elsewhere. Nothing is asked of the registry
/// then, and nothing of what is there is shown as the layout's.
#[test]
fn linked_folders_are_refused() {
    for folder in [".ocipull", "blobs", "blobs/sha256", "blobs/sha512"] {
        for is_new in [false, true] {
            let place = Place::new();
            let at = place.context.out().join(folder);
            if is_new {
                fs::remove_dir_all(place.context.out()).unwrap();
                fs::create_dir_all(at.parent().unwrap()).unwrap();
            } else if at.exists() {
                fs::remove_dir_all(&at).unwrap();
            }
            symlink(place.outside(), &at).unwrap();
            let (code, stderr) = place.fetch();
            assert_eq!(code, 7, "{folder}: {stderr}");
            assert!(stderr.contains(&*at.to_string_lossy()) && stderr.contains("symbolic link"), "{stderr}");
            assert_eq!(place.registry.requests().len(), 0, "{folder}");
            place.assert_outside_untouched(folder);
            if !is_new {
                place.context.run(["ls", "out"]).fails_with(7);
                place.context.run(["verify", "out"]).fails_with(7);
            }
        }
    }
}

/// The two files that make a layout are read where they stand or not at all.
#[test]
fn linked_or_piped_documents_are_refused() {
    for file in ["index.json", "oci-layout"] {
        for planted in [Planted::Link, Planted::DanglingLink, Planted::Pipe, Planted::Folder] {
            let place = Place::new();
            let at = place.context.out().join(file);
            let original = fs::read(&at).unwrap();
            fs::remove_file(&at).unwrap();
            if planted == Planted::Link {
                fs::write(place.outside().join("victim"), &original).unwrap();
            }
            place.plant(file, planted);
            let (code, stderr) = place.fetch();
            assert_eq!(code, 7, "{planted:?} {file}: {stderr}");
            assert!(stderr.contains(&*at.to_string_lossy()), "{stderr}");
            for command in ["ls", "verify", "inspect"] {
                place.context.run([command, "out"]).fails_with(7);
            }
        }
    }
}

/// People put layouts on other disks by a link, and that is theirs to do.
#[test]
fn the_layout_itself_may_be_a_link() {
    let place = Place::new();
    let (out, elsewhere) = (place.context.out(), place.context.path().join("elsewhere"));
    fs::rename(&out, &elsewhere).unwrap();
    symlink(&elsewhere, &out).unwrap();
    assert_eq!(place.fetch().0, 0);
    assert_eq!(check_layout(&elsewhere).ref_names, ["theirs", "v1"]);
}

/// A pipe or a link under a blob's name is no blob: it is fetched, and nobody waits for the pipe's other end.
#[test]
fn what_is_no_file_is_no_blob() {
    for planted in [Planted::Link, Planted::DanglingLink, Planted::Pipe] {
        let place = Place::new();
        assert_eq!(place.fetch().0, 0);
        for digest in [place.pushed.layer(0), place.pushed.digest()] {
            let blob = format!("blobs/{}", digest.replace(':', "/"));
            fs::remove_file(place.context.out().join(&blob)).unwrap();
            place.plant(&blob, planted);
        }
        place.context.run(["ls", "out"]).success();
        place.context.run(["verify", "out"]).fails_with(6);
        assert_eq!(place.context.run(["inspect", "out:v1"]).run().code, Some(6));
        assert_eq!(place.fetch().0, 0, "{planted:?}");
        check_layout(&place.context.out());
        place.assert_outside_untouched("blobs");
    }
}

/// Odd things in the staging folder do not keep an image that is there from being up to date.
#[test]
fn an_up_to_date_image_is_not_held_up() {
    for name in ["x.part", "x.journal", "x.encoded", "lock", "new"] {
        for planted in [Planted::Link, Planted::Pipe] {
            let place = Place::new();
            assert_eq!(place.fetch().0, 0);
            place.plant(&format!(".ocipull/{name}"), planted);
            let (code, stderr) = place.fetch();
            assert_eq!(code, 0, "{planted:?} {name}: {stderr}");
            place.assert_outside_untouched(name);
        }
    }
}

/// Everything below a folder, with when it was changed.
fn state(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.map(|entry| (entry.path().to_owned(), entry.metadata().unwrap().modified().unwrap())).collect()
}

/// A dry run says what would be done and does nothing, not even what a fetch tidies up in passing.
#[test]
fn a_dry_run_touches_nothing() {
    let place = Place::new();
    assert_eq!(place.fetch().0, 0);
    let staging = place.context.out().join(".ocipull");
    for leftover in [None, Some("junk.part"), Some("new")] {
        fs::create_dir_all(&staging).unwrap();
        if let Some(name) = leftover {
            fs::write(staging.join(name), "x").unwrap();
        }
        let before = state(&place.context.out());
        place.context.fetch(&place.registry, &place.pushed).arg("--dry-run").success();
        assert_eq!(state(&place.context.out()), before, "{leftover:?}");
    }
    assert_eq!(place.fetch().0, 0);
    assert!(!staging.join("new").exists());
}

/// An image that is up to date needs no lock, so that nobody waits for whoever has it.
#[test]
fn an_up_to_date_image_waits_for_nobody() {
    let place = Place::new();
    assert_eq!(place.fetch().0, 0);
    fs::create_dir(place.context.out().join(".ocipull")).unwrap();
    let lock = fs::File::create(place.context.out().join(".ocipull/lock")).unwrap();
    lock.lock().unwrap();
    let started = std::time::Instant::now();
    assert_eq!(place.fetch().0, 0);
    // Whoever waits does so for a minute.
    assert!(started.elapsed() < std::time::Duration::from_secs(30));
    drop(lock);
    assert_eq!(place.fetch().0, 0);
    assert!(!place.context.out().join(".ocipull").exists());
}
