use proptest::prelude::*;

use super::*;
use crate::failure::{Failure, Kind};

const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The rows of a table: `#` starts a comment line, cells are parted by `|`, `-` is an empty cell, and the names in
/// braces stand for what would make a row unreadable.
fn rows(table: &str) -> impl Iterator<Item = Vec<String>> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        line.split('|')
            .map(|cell| match cell.trim() {
                "-" => String::new(),
                cell => cell
                    .replace("{empty}", "")
                    .replace("{sha256}", SHA256)
                    .replace("{sha512}", &crate::digest::Algorithm::Sha512.digest(b"").to_string())
                    .replace("{hex64}", &SHA256[7..])
                    .replace("{a*119}", &"a".repeat(119))
                    .replace("{a*127}", &"a".repeat(127)),
            })
            .collect()
    })
}

/// What people write, and what it means.
#[test]
fn valid_references_mean_what_the_table_says() {
    for row in rows(include_str!("../../testdata/references/valid.txt")) {
        let [input, host, path, tag, digest, familiar] = row.as_slice() else { panic!("{row:?}") };
        let reference: Reference = input.parse().unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(reference.repository().host(), host, "{input}");
        assert_eq!(reference.repository().path(), path, "{input}");
        assert_eq!(reference.tag().map_or("", Tag::as_str), tag, "{input}");
        assert_eq!(reference.digest().map_or_else(String::new, Digest::to_string), *digest, "{input}");
        assert_eq!(reference.familiar(), *familiar, "{input}");
        every_form_parses_back(input);
    }
}

/// Each mistake has an error of its own, so that the message can say what to change.
#[test]
fn invalid_references_fail_as_the_table_says() {
    for row in rows(include_str!("../../testdata/references/invalid.txt")) {
        let [input, wanted] = row.as_slice() else { panic!("{row:?}") };
        let Err(error) = input.parse::<Reference>() else { panic!("{input} parsed") };
        let found = format!("{error:?}");
        assert_eq!(found.split([' ', '{']).next(), Some(wanted.as_str()), "{input}: {error}");
        assert_eq!(error.kind(), Kind::Usage);
    }
}

/// An unwritten host goes through short names, and those must see the path without Docker Hub's `library/`.
#[test]
fn what_was_written_is_remembered() {
    let cases = [
        ("alpine", false, "alpine"),
        ("library/alpine", false, "library/alpine"),
        ("team/app:1", false, "team/app"),
        ("docker.io/alpine", true, "alpine"),
        ("index.docker.io/library/alpine", true, "library/alpine"),
        ("quay.io/alpine", true, "alpine"),
        ("localhost/alpine", true, "alpine"),
    ];
    for (text, host, path) in cases {
        let reference: Reference = text.parse().unwrap();
        assert_eq!((reference.is_host_written(), reference.written_path()), (host, path), "{text}");
    }
    let short: Reference = "alpine".parse().unwrap();
    assert_eq!(short, "docker.io/library/alpine:latest".parse().unwrap());
}

/// The limit counts the path with an added `library/`, and neither host nor tag.
#[test]
fn a_path_has_at_most_255_characters() {
    let error = |text: &str| text.parse::<Reference>().unwrap_err();
    let fits = format!("{}:tag", "a".repeat(247));
    assert_eq!(fits.parse::<Reference>().unwrap().repository().path().len(), 255);
    assert_eq!(error(&"a".repeat(248)), ReferenceError::PathTooLong { length: 256 });
    assert!(format!("quay.io/{}", "a".repeat(255)).parse::<Reference>().is_ok());
    assert_eq!(error(&format!("quay.io/{}", "a".repeat(256))), ReferenceError::PathTooLong { length: 256 });
    assert!(format!("a/{}", "a/".repeat(126) + "a").parse::<Reference>().is_ok());
    assert!(format!("a:{}", "t".repeat(128)).parse::<Reference>().is_ok());
    assert!(matches!(error(&format!("a:{}", "t".repeat(129))), ReferenceError::BadTag { .. }));
}

/// The annotation that containerd reads keeps the tag, because that is what its users look for.
#[test]
fn the_full_name_has_the_tag_or_else_the_digest() {
    let full = |text: &str| text.parse::<Reference>().unwrap().full_name();
    assert_eq!(full("alpine"), "docker.io/library/alpine:latest");
    assert_eq!(full(&format!("alpine:3.20@{SHA256}")), "docker.io/library/alpine:3.20");
    assert_eq!(full(&format!("alpine@{SHA256}")), format!("docker.io/library/alpine@{SHA256}"));
}

/// A digest may be added to what was resolved by tag; nothing else changes.
#[test]
fn a_digest_can_be_added() {
    let reference = "alpine:3.20".parse::<Reference>().unwrap();
    let pinned = reference.with_digest(SHA256.parse().unwrap());
    assert_eq!(pinned.canonical(), format!("docker.io/library/alpine:3.20@{SHA256}"));
    assert!(!pinned.is_host_written());
    let built = Reference::new("alpine".parse().unwrap(), None, Some(SHA256.parse().unwrap()));
    assert_eq!(built.canonical(), format!("docker.io/library/alpine@{SHA256}"));
}

/// Where to connect, and whether plain http may be tried there.
#[test]
fn hosts_are_taken_apart() {
    let cases = [
        ("alpine", "registry-1.docker.io", "docker.io", None, false),
        ("quay.io/a", "quay.io", "quay.io", None, false),
        ("localhost/a", "localhost", "localhost", None, true),
        ("LocalHost:5000/a", "LocalHost:5000", "LocalHost", Some(5000), true),
        ("registry.localhost:80/a", "registry.localhost:80", "registry.localhost", Some(80), true),
        ("notlocalhost:80/a", "notlocalhost:80", "notlocalhost", Some(80), false),
        ("localhost.example.com/a", "localhost.example.com", "localhost.example.com", None, false),
        ("127.0.0.1:5000/a", "127.0.0.1:5000", "127.0.0.1", Some(5000), true),
        ("127.255.3.9/a", "127.255.3.9", "127.255.3.9", None, true),
        ("128.0.0.1/a", "128.0.0.1", "128.0.0.1", None, false),
        ("127.0.0.1.example.com/a", "127.0.0.1.example.com", "127.0.0.1.example.com", None, false),
        ("[::1]:5000/a", "[::1]:5000", "::1", Some(5000), true),
        ("127.0.0.1:07200/a", "127.0.0.1:7200", "127.0.0.1", Some(7200), true),
        ("[0:0:0:0:0:0:0:1]/a", "[0:0:0:0:0:0:0:1]", "0:0:0:0:0:0:0:1", None, true),
        ("[fd00::1]/a", "[fd00::1]", "fd00::1", None, false),
        ("[::ffff:7f00:1]/a", "[::ffff:7f00:1]", "::ffff:7f00:1", None, false),
    ];
    for (text, api_host, name, port, loopback) in cases {
        let repository: Repository = text.parse().unwrap();
        assert_eq!(repository.api_host(), api_host, "{text}");
        assert_eq!(repository.host_name(), name, "{text}");
        assert_eq!(repository.port(), port, "{text}");
        assert_eq!(repository.is_loopback(), loopback, "{text}");
    }
}

/// A repository's name takes no tag and no digest, and what looks like a port there is a tag.
#[test]
fn a_repository_is_a_name_only() {
    assert_eq!("alpine".parse::<Repository>().unwrap().to_string(), "docker.io/library/alpine");
    for text in ["alpine:3.20", "localhost:5000", &format!("alpine@{SHA256}"), "alpine:"] {
        assert_eq!(
            text.parse::<Repository>(),
            Err(ReferenceError::NotARepository { text: text.to_owned() }),
            "{text}"
        );
    }
}

/// Hints say what to type instead.
#[test]
fn hints_say_what_to_type_instead() {
    let hint = |text: &str| text.parse::<Reference>().unwrap_err().hint();
    assert_eq!(hint("team/App").as_deref(), Some("try \"team/app\""));
    assert!(hint("https://quay.io/a/b").unwrap().contains("leave out \"https://\""));
    assert_eq!(hint("a..b"), None);
}

/// Files and reports hold references as text.
#[test]
fn serialised_forms_are_text() {
    let reference: Reference = serde_json::from_str("\"alpine:3.20\"").unwrap();
    assert_eq!(serde_json::to_string(&reference).unwrap(), "\"docker.io/library/alpine:3.20\"");
    assert_eq!(serde_json::to_string(reference.repository()).unwrap(), "\"docker.io/library/alpine\"");
    assert!(serde_json::from_str::<Tag>("\"-x\"").is_err());
    assert!(serde_json::from_str::<Repository>("\"a:b\"").is_err());
}

/// The property: whatever parses is named by each of its forms, and by its canonical form in one way only.
fn every_form_parses_back(text: &str) {
    let Ok(reference) = text.parse::<Reference>() else { return };
    let canonical = reference.canonical();
    let again: Reference = canonical.parse().unwrap();
    assert_eq!(again, reference, "{canonical}");
    assert_eq!(again.canonical(), canonical);
    assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference, "{}", reference.familiar());
    assert!(reference.full_name().parse::<Reference>().is_ok());
    let repository = reference.repository();
    assert_eq!(&repository.to_string().parse::<Repository>().unwrap(), repository);
    assert!(repository.path().len() <= LONGEST_PATH);
}

proptest! {
    /// Forms of well-formed references are inverse to parsing.
    #[test]
    fn parse_and_display_are_inverse(
        host in "((localhost|docker\\.io|index\\.docker\\.io|Reg|[a-z]{1,3}\\.[a-z]{2}|\\[::[0-9a-f]{1,4}\\])(:[1-9][0-9]{0,3})?/)?",
        path in "[a-z0-9]{1,3}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,3}){0,2}",
        tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,9})?",
        digest in prop_oneof![Just(String::new()), Just(format!("@{SHA256}"))],
    ) {
        let text = format!("{host}{path}{tag}{digest}");
        // Without a host the path's first component may be taken for one, and need not be a valid one.
        prop_assert!(host.is_empty() || text.parse::<Reference>().is_ok(), "{}", text);
        every_form_parses_back(&text);
    }

    /// Nothing that anybody types panics, and what parses at all parses back.
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,40}|[a-zA-Z0-9:/@._\\[\\]-]{0,40}") {
        every_form_parses_back(&text);
    }
}
