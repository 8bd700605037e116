//! The tables of testdata/registries, and the places where the files lie.

use std::fs;

use super::places::Places;
use super::*;
use crate::digest::Digest;
use crate::failure::{Failure as _, Kind};
use crate::registry::config::Environment;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/registries")
}

fn sample(name: &str) -> (PathBuf, String) {
    (name.into(), fs::read_to_string(folder().join(name)).expect("a sample can be read"))
}

/// The configuration of a table's `files` line.
fn configuration(line: &str) -> Registries {
    let (files, recorded) = line.split_once(" recorded: ").unwrap_or((line, ""));
    let registries = Registries::merge(files.split_whitespace().map(sample)).unwrap();
    match recorded {
        "" => registries,
        name => registries.with_recorded_aliases(Path::new(name), &sample(name).1).unwrap(),
    }
}

/// Holds every line of a table against what `answer` says.
fn hold(table: &str, answer: impl Fn(&Registries, &Reference) -> Result<String, RegistriesConfError>) {
    let digest = Digest::sha256(b"").to_string();
    let (mut registries, mut lines) = (Registries::default(), 0);
    for line in sample(table).1.lines().filter(|line| !line.is_empty()) {
        if let Some(files) = line.strip_prefix("files") {
            registries = configuration(files);
            continue;
        }
        let line = line.replace("DIGEST", &digest);
        let (reference, expected) = line.split_once(" -> ").expect("a line of the table");
        let found = answer(&registries, &reference.parse().unwrap());
        let found = found.unwrap_or_else(|error| format!("error: {error}"));
        assert_eq!(found, expected, "{reference}");
        lines += 1;
    }
    assert!(lines > 10, "the table was read");
}

fn described(endpoint: &EndpointConfig) -> String {
    let for_what = match endpoint.for_what {
        Use::Everything => "",
        Use::Digests => "digests ",
        Use::Tags => "tags ",
    };
    let word = |holds, word| if holds { word } else { "" };
    format!(
        "{}{}{for_what}{}{}",
        word(endpoint.is_mirror, "mirror "),
        word(endpoint.insecure, "insecure "),
        word(endpoint.blocked.is_some(), "blocked "),
        endpoint.reference
    )
}

fn endpoints(registries: &Registries, reference: &str) -> Vec<String> {
    registries.endpoints(&reference.parse().unwrap()).unwrap().iter().map(described).collect()
}

/// Where podman would ask for an image, this asks too, in the same order.
#[test]
fn endpoints_of_references() {
    hold("endpoints.txt", |registries, reference| {
        let endpoints = registries.endpoints(reference)?;
        Ok(endpoints.iter().map(described).collect::<Vec<_>>().join(", "))
    });
}

/// A name without a host means what it means to podman, and Docker Hub where podman knows nothing.
#[test]
fn candidates_of_short_names() {
    hold("short-names.txt", |registries, reference| {
        let candidates = registries.candidates(reference)?;
        let origin = match candidates.origin {
            Origin::Written => "written".to_owned(),
            Origin::Alias(path) => format!("alias {}", path.display()),
            Origin::Search(path) => format!("search {}", path.display()),
            Origin::Default => "default".to_owned(),
        };
        let references: Vec<_> = candidates.references.iter().map(Reference::canonical).collect();
        Ok(format!("{origin}: {}", references.join(", ")))
    });
}

/// What containers/image refuses is refused, in words that name the file and the mistake.
#[test]
fn what_cannot_be_used() {
    let blocks = sample("invalid.txt").1;
    for block in blocks.split("---\n") {
        let (expected, text) = block.split_once('\n').unwrap();
        let error = Registries::merge([("x.conf".into(), text.to_owned())]).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}\ninstead of\n{expected}");
        assert_eq!(error.kind(), Kind::Usage);
    }
    assert!(blocks.split("---\n").count() > 15, "the table was read");
    let aliases = Registries::default().with_recorded_aliases(Path::new("r.conf"), "[aliases]\na = 'b'\n");
    assert!(aliases.unwrap_err().to_string().starts_with("r.conf cannot be used: the alias \"a\""));
}

/// Helpers are asked in the order of the last file that names any; without a word on them the auth files are read.
#[test]
fn credential_helpers_in_order() {
    for (texts, expected) in [
        (&[""][..], &["containers-auth.json"][..]),
        (
            &["credential-helpers = ['one', 'containers-auth.json', 'two']"],
            &["one", "containers-auth.json", "two"],
        ),
        (&["credential-helpers = ['one']", ""], &["one"]),
        (&["credential-helpers = ['one']", "credential-helpers = ['two']"], &["two"]),
        (&["credential-helpers = ['one']", "credential-helpers = []"], &["containers-auth.json"]),
    ] {
        let files = texts.iter().map(|text| (PathBuf::from("x.conf"), (*text).to_owned()));
        assert_eq!(Registries::merge(files).unwrap().credential_helpers(), expected, "{texts:?}");
    }
}

/// A mirror of the run has the repositories of every registry by their paths, and comes first.
#[test]
fn mirrors_of_the_run_come_first() {
    let mirrors = ["m.example:5000/all/".parse().unwrap(), "localhost:1".parse().unwrap()];
    let registries = configuration("mirrors.conf blocked.conf").with_run_mirrors(mirrors.into());
    assert_eq!(
        endpoints(&registries, "team/tools/linter:v2"),
        [
            "mirror m.example:5000/all/team/tools/linter:v2",
            "mirror localhost:1/team/tools/linter:v2",
            "registry.example.com/tools/linter:v2"
        ]
    );
    assert_eq!(endpoints(&registries, "r.example:5000/a").len(), 3);
    assert_eq!(endpoints(&registries, "localhost:1/a:1").len(), 2, "not its own mirror");
    let blocked = Registries::default().with_run_mirrors(vec!["bad.example.com".parse().unwrap()]);
    assert_eq!(endpoints(&blocked, "r.example/a:1")[0], "mirror bad.example.com/a:1");
    for text in [
        "",
        "/",
        "mirror",
        "https://m.example",
        "m.example/UPPER",
        "m.example//x",
        "m.example:x",
        "m example",
    ] {
        assert!(text.parse::<RunMirror>().is_err(), "{text}");
    }
}

/// Which files are read: the user's instead of the system's, both folders beside a file that was named.
#[test]
fn places_of_the_files() {
    let environment = Environment {
        home: Some("/home/me".into()),
        configuration: Some("/home/me/.config".into()),
        cache: Some("/home/me/.cache".into()),
        registries_conf: None,
    };
    let user_file = Path::new("/home/me/.config/containers/registries.conf");
    let (system, user) =
        ("/etc/containers/registries.conf.d", "/home/me/.config/containers/registries.conf.d");
    let by_environment = Environment { registries_conf: Some("/env.conf".into()), ..environment.clone() };
    let nothing = Environment::default();
    for (environment, named, user_has_one, file, folders) in [
        (&environment, None, false, "/etc/containers/registries.conf", &[system, user][..]),
        (&environment, None, true, "/home/me/.config/containers/registries.conf", &[user]),
        (&environment, Some("/named.conf"), true, "/named.conf", &[system, user]),
        (&by_environment, None, true, "/env.conf", &[system, user]),
        (&by_environment, Some("/named.conf"), false, "/named.conf", &[system, user]),
        (&nothing, None, true, "/etc/containers/registries.conf", &[system]),
    ] {
        let places = Places::of(environment, named.map(Path::new), |path| user_has_one && path == user_file);
        assert_eq!(places.file, Path::new(file));
        assert_eq!(places.folders, folders.iter().map(PathBuf::from).collect::<Vec<_>>(), "{file}");
        assert_eq!(places.is_named, file.matches('/').count() == 1, "{file}");
    }
    let recorded = Places::of(&environment, None, |_| false).recorded.unwrap();
    assert_eq!(recorded, Path::new("/home/me/.cache/containers/short-name-aliases.conf"));
}

/// Files are read where they lie: drop-ins by name and ending, over the file; a named file must be there.
#[test]
fn files_are_read() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    fs::create_dir_all(at("config/containers/registries.conf.d/folder.conf")).unwrap();
    fs::create_dir_all(at("cache/containers")).unwrap();
    let entry = |location| format!("[[registry]]\nprefix = 'r.example'\nlocation = '{location}.example'\n");
    fs::write(at("config/containers/registries.conf"), entry("file")).unwrap();
    fs::write(at("config/containers/registries.conf.d/10-b.conf"), entry("ten")).unwrap();
    fs::write(at("config/containers/registries.conf.d/20-a.conf"), entry("twenty")).unwrap();
    fs::write(at("config/containers/registries.conf.d/30.conf.bak"), "not read").unwrap();
    fs::write(at("cache/containers/short-name-aliases.conf"), "[aliases]\na = 'q.example/a'\n").unwrap();
    let environment =
        Environment { configuration: Some(at("config")), cache: Some(at("cache")), ..Environment::default() };
    let registries = Registries::read(&environment, None).unwrap();
    assert_eq!(endpoints(&registries, "r.example/a:1"), ["twenty.example/a:1"]);
    let candidates = registries.candidates(&"a:1".parse().unwrap()).unwrap();
    assert_eq!(candidates.references[0].to_string(), "q.example/a:1");

    fs::write(at("named.conf"), "[[registry]]\nlocation = 'n.example'\nblocked = true\n").unwrap();
    let registries = Registries::read(&environment, Some(&at("named.conf"))).unwrap();
    assert_eq!(endpoints(&registries, "n.example/a:1"), ["blocked n.example/a:1"]);
    assert_eq!(endpoints(&registries, "r.example/a:1"), ["twenty.example/a:1"]);
    let error = Registries::read(&environment, Some(&at("missing.conf"))).unwrap_err();
    assert!(matches!(&error, RegistriesConfError::Unreadable { path, .. } if *path == at("missing.conf")));
    assert_eq!(error.kind(), Kind::Usage);

    fs::write(at("config/containers/registries.conf.d/20-a.conf"), "x").unwrap();
    let error = Registries::read(&environment, None).unwrap_err().to_string();
    assert!(error.contains("20-a.conf cannot be used: line 1, column"), "{error}");
}
