//! Structured input for the bodies: what their corpora are made of, put together anew, and what grammars give.

use std::fs;
use std::path::Path;

use ocipull::digest::Digest;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

use crate::bodies::{self, TARGETS};
use crate::corpus::inputs;

/// The words of a fuzzer's dictionary.
fn dictionary(target: &str) -> Vec<Vec<u8>> {
    let path = format!("fuzz/dictionaries/{target}.dict");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let words = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    words.map(unescaped).collect()
}

/// A word as libFuzzer writes it: `\xNN` stands for a byte.
fn unescaped(word: &str) -> Vec<u8> {
    let mut pieces = word.split("\\x");
    let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    bytes
}

/// A change to an input, at a place and up to another.
#[derive(Debug, Clone)]
enum Edit {
    Insert(Vec<u8>),
    Delete,
    Repeat,
    Flip(u8),
    Splice(Vec<u8>),
}

fn edited(mut bytes: Vec<u8>, edits: Vec<(Edit, Index, Index)>) -> Vec<u8> {
    for (edit, from, to) in edits {
        let (one, other) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
        let range = one.min(other)..one.max(other);
        match edit {
            Edit::Insert(word) => drop(bytes.splice(one..one, word)),
            Edit::Delete => drop(bytes.drain(range.start..range.end.min(range.start + 40))),
            Edit::Repeat => {
                let piece = bytes[range].to_vec();
                drop(bytes.splice(one..one, piece));
            }
            Edit::Flip(bit) => bytes.iter_mut().skip(one).take(1).for_each(|byte| *byte ^= 1 << bit),
            Edit::Splice(piece) => drop(bytes.splice(range, piece)),
        }
    }
    bytes
}

/// Inputs of a corpus, changed in a few places.
fn mixed(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let (inputs, words) = (inputs(target), dictionary(target));
    let piece = (select(inputs.clone()), any::<Index>(), any::<Index>()).prop_map(|(input, one, other)| {
        let (one, other) = (one.index(input.len() + 1), other.index(input.len() + 1));
        input[one.min(other)..one.max(other)].to_vec()
    });
    let edit = prop_oneof![
        4 => select(words).prop_map(Edit::Insert),
        1 => Just(Edit::Delete),
        1 => Just(Edit::Repeat),
        1 => (0_u8..8).prop_map(Edit::Flip),
        1 => piece.prop_map(Edit::Splice),
    ];
    (select(inputs), vec((edit, any::<Index>(), any::<Index>()), 1..6))
        .prop_map(|(input, edits)| edited(input, edits))
}

/// What is like what was found before, and is not the same: the fuzzers' work in small, with every change.
#[test]
fn every_body_holds_near_its_corpus() {
    for (target, body) in TARGETS {
        let mut runner =
            TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&mixed(target), |input| {
            body(&input);
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{target}: {error}");
        }
    }
}

/// Bytes of all kinds, and none: nobody says that what comes is text.
#[test]
fn every_body_holds_for_any_bytes() {
    for (target, body) in TARGETS {
        let mut runner =
            TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&vec(any::<u8>(), 0..200), |input| {
            body(&input);
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{target}: {error}");
        }
    }
}

/// Pieces joined to one text.
fn text_of(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    vec(select(pieces), 0..most).prop_map(|pieces| pieces.concat())
}

const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "9",
    "99",
    "100",
    "199",
    "200",
    "999",
    "1000",
    "18446744073709551614",
    "18446744073709551615",
    "99999999999999999999",
];

const CHALLENGE: [&str; 18] = [
    "Bearer ",
    "Basic ",
    "Negotiate YWJj==",
    "realm=",
    "Realm =",
    "service=",
    "scope=",
    "\"https://a/token\"",
    "\"https://u:p@a:5/t?scope=x#f\"",
    "\"repository:a/b:pull,push registry:catalog:*\"",
    "\"a, \\\"b\\\"\"",
    "x",
    "\"",
    ",",
    " ",
    "\n",
    "=",
    "日",
];

const LINK: [&str; 16] = [
    "<",
    ">",
    "</v2/p?last=a,b;c>",
    "<https://r.example/v2/p#f>",
    "<?n=1>",
    "; rel=\"next\"",
    ";rel=next",
    "; REL='x'",
    "; rel=\"prev next\"",
    "; title=\"a, <b>; rel=next\"",
    "; anchor=\"#x\"",
    ", ",
    ";",
    "\n",
    "\"",
    "\\",
];

const LOCATIONS: [&str; 20] = [
    "https://r.example/a",
    "https://r.example:443/a",
    "http://r.example/",
    "https://cdn.example/x?sig=1#f",
    "/b",
    "../c",
    "?q",
    "#f",
    "//10.0.0.1/",
    "https://10.0.0.1/",
    "http://127.0.0.1:9/",
    "https://[::ffff:10.0.0.1]/",
    "https://0x7f.1/",
    "https://[64:ff9b::a00:1]/",
    "http://localhost./",
    "https://a.localhost/",
    "ftp://r.example/",
    "https://198.19.0.1/",
    "https://user:pw@r.example/b",
    " https://r.example/d ",
];

const REGISTRY: [&str; 24] = [
    "[[registry]]\n",
    "[[registry.mirror]]\n",
    "prefix = \"*.example.com\"\n",
    "prefix = \"r.example/team\"\n",
    "prefix = \"docker.io\"\n",
    "location = \"R.Example:05000/x\"\n",
    "location = \"mirror.example\"\n",
    "location = \"docker.io/library\"\n",
    "location = \"r.example\"\n",
    "insecure = true\n",
    "blocked = true\n",
    "mirror-by-digest-only = true\n",
    "pull-from-mirror = \"tag-only\"\n",
    "pull-from-mirror = \"digest-only\"\n",
    "unqualified-search-registries = [\"quay.io\", \"r.example:5000\"]\n",
    "short-name-mode = \"enforcing\"\n",
    "short-name-mode = \"disabled\"\n",
    "credential-helpers = [\"pass\", \"containers-auth.json\"]\n",
    "[aliases]\n",
    "\"alpine\" = \"quay.io/x/alpine\"\n",
    "\"team/app\" = \"\"\n",
    "# a comment\n",
    "\u{c}",
    "\u{c}",
];

const ASKED: &str =
    "\u{c}alpine\nteam/app:2\nr.example/team/app:1\na.example.com/x\nR.EXAMPLE:5000/x/y\nmirror.example/a";

fn auth_file() -> impl Strategy<Value = String> {
    let keys = select(
        &[
            "quay.io",
            "quay.io/team",
            "https://quay.io/v1/",
            "QUAY.io",
            "docker.io",
            "https://index.docker.io/v1/",
            "r.example:5000",
        ][..],
    );
    let entries = select(
        &[
            r#"{"auth":"dTpw"}"#,
            r#"{"auth":"dTpw\n"}"#,
            r#"{"username":"u","password":"p"}"#,
            r#"{"identitytoken":"t"}"#,
            r#"{"registrytoken":"t"}"#,
            "{}",
            "null",
            r#"{"auth":"%%"}"#,
            r#"{ "x": 1.50e3 }"#,
            "[]",
        ][..],
    );
    let auths = vec((keys.clone(), entries), 0..5).prop_map(|entries| {
        entries.iter().map(|(key, entry)| format!("\"{key}\": {entry}")).collect::<Vec<_>>().join(",")
    });
    let helpers = vec((keys, select(&["\"pass\"", "\"\"", "1", "null"][..])), 0..3).prop_map(|entries| {
        entries.iter().map(|(key, name)| format!("\"{key}\":{name}")).collect::<Vec<_>>().join(",")
    });
    (
        auths,
        helpers,
        select(&["", r#","credsStore":"store""#, r#","credsStore":{}"#][..]),
        select(&["auths", "Auths"][..]),
    )
        .prop_map(|(auths, helpers, store, name)| {
            let asked = "\u{c}quay.io/team/app\nalpine\nr.example:5000\nquay.io\ndocker.io";
            format!("{{\"{name}\":{{{auths}}}{store},\"credHelpers\":{{{helpers}}}}}{asked}")
        })
}

/// A manifest of schema 1 whose history is as long as its layers are many, and hangs together unless it is told not to.
fn schema1() -> impl Strategy<Value = String> {
    let step = (0_u8..4, any::<bool>(), select(&["", "1.6.2", "1.9.0", "dev"][..]), "[a-z \"\\\\<&é]{0,6}");
    (vec(step, 1..5), any::<bool>()).prop_map(|(steps, is_broken)| {
        let id = |at: usize| Digest::sha256(&at.to_le_bytes()).hex();
        let layers = steps.iter().map(|(layer, ..)| format!(r#"{{"blobSum":"{}"}}"#, Digest::sha256(&[*layer])));
        let layers: Vec<String> = layers.collect();
        let last = steps.len() - 1;
        let entries = steps.iter().enumerate().map(|(at, (_, throwaway, version, author))| {
            let parent = if at == last || (is_broken && at == 0) { String::new() } else { id(at + 1) };
            let image = serde_json::json!({
                "id": id(at), "parent": parent, "created": "2015-06-01T12:00:00.5Z", "throwaway": throwaway,
                "docker_version": version, "author": author, "container_config": {"Cmd": ["sh", author]}, "os": "linux",
            });
            serde_json::json!({ "v1Compatibility": image.to_string() }).to_string()
        });
        let entries: Vec<String> = entries.collect();
        let (layers, history) = (layers.join(","), entries.join(","));
        format!(r#"u{{"schemaVersion":1,"name":"a/b","fsLayers":[{layers}],"history":[{history}]}}"#)
    })
}

fn journal() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        6 => (0_u64..520, 0_u64..520).prop_map(|(start, end)| format!("have {start} {end}")),
        1 => any::<u32>().prop_map(|process| format!("owner {process}")),
        1 => "[a-z !]{0,12}",
    ];
    vec(line, 0..12).prop_map(|lines| format!("header\n{}", lines.join("\n")))
}

fn index_json() -> impl Strategy<Value = Vec<u8>> {
    let entry = (
        0_u8..4,
        0_usize..5,
        0_usize..5,
        0_usize..8,
        0_u8..12,
        select(&["", r#","platform":{"architecture":"amd64","os":"linux"}"#][..]),
    );
    let entry = entry.prop_map(|(content, name, short, given, given_content, platform)| {
        let full = ["docker.io/library/alpine:3.20", "docker.io/library/alpine:edge", "quay.io/team/app:1", "other:1"];
        let given_digest = (given_content < 4).then(|| Digest::sha256(&[b'0' + given_content]).to_string());
        let annotation = |key: &str, text: Option<&&str>| text.map(|text| format!(r#""{key}":"{text}""#));
        let annotations = [
            annotation("io.containerd.image.name", full.get(name)),
            annotation("org.opencontainers.image.ref.name", ["3.20", "edge", "1", "x"].get(short)),
            annotation("io.ocipull.ref-name", ["3.20", "edge", "1", "x"].get(given)),
            annotation("io.ocipull.digest", given_digest.as_deref().as_ref()),
            Some(r#""foreign": "\u00e9""#.to_owned()),
        ];
        let annotations: Vec<String> = annotations.into_iter().flatten().collect();
        let kind = if content == 3 { "index" } else { "manifest" };
        format!(
            r#"{{ "mediaType":"application/vnd.oci.image.{kind}.v1+json","digest":"{}","size":{}{platform},"x":1e999,"annotations":{{{}}}}}"#,
            Digest::sha256(&[b'0' + content]),
            content + 1,
            annotations.join(" , ")
        )
    });
    (vec(entry, 0..5), vec(any::<u8>(), 0..12)).prop_map(|(entries, edits)| {
        let text =
            format!("{{\"manifests\":[{}] , \"y\":[1.0],\"schemaVersion\":2}}\u{c}", entries.join(" ,"));
        [text.into_bytes(), edits].concat()
    })
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    /// Only the very bytes that were asked for, of the very blob.
    #[test]
    fn content_ranges_are_those_that_were_asked_for(
        asked in vec(select(&NUMBERS[..]), 4),
        said in vec(select(&NUMBERS[..]), 3),
        form in select(&["bytes A-B/C", "Bytes  A-B/*", "bytes A-B/A", "bytes */C", "bytes=A-B/C", "bytes A-/C"][..]),
        agrees in any::<bool>(),
    ) {
        let said = if agrees { [asked[0], asked[1], asked[2]] } else { [said[0], said[1], said[2]] };
        let header = form.replace('A', said[0]).replace('B', said[1]).replace('C', said[2]);
        bodies::content_range(format!("{}\n{header}", asked.join(" ")).as_bytes());
    }

    /// However a registry writes it, a challenge asks for nothing but reading.
    #[test]
    fn challenges_ask_for_reading(text in text_of(&CHALLENGE, 14)) {
        bodies::challenges(text.as_bytes());
    }

    /// The next page is the one that is named, in whatever company.
    #[test]
    fn links_lead_to_what_they_name(text in text_of(&LINK, 12)) {
        bodies::links(format!("https://r.example/v2/a/tags/list\n{text}").as_bytes());
    }

    /// No way leads inside, down or round.
    #[test]
    fn redirects_keep_to_their_rules(
        reached in select(&["in", "out"][..]),
        locations in vec(select(&LOCATIONS[..]), 1..16),
    ) {
        bodies::redirects(format!("{reached}\n{}", locations.join("\n")).as_bytes());
    }

    /// What is configured is found, however it is written, and what is blocked stays so.
    #[test]
    fn registries_are_found_where_they_are_configured(text in text_of(&REGISTRY, 14)) {
        bodies::registries_conf(format!("{text}{ASKED}").as_bytes());
    }

    /// A login is found, a logout forgets, and neither touches what is not its own.
    #[test]
    fn files_of_credentials_are_kept(text in auth_file()) {
        bodies::auth_files(text.as_bytes());
    }

    /// The image of a manifest of old is its layers and its history.
    #[test]
    fn schema1_becomes_an_image(text in schema1()) {
        bodies::schema1(text.as_bytes());
    }

    /// A journal never says more than its sound lines do.
    #[test]
    fn journals_say_what_is_there(text in journal()) {
        bodies::journal(text.as_bytes());
    }

    /// An edit of index.json is that edit and no other.
    #[test]
    fn edits_of_an_index_leave_the_rest(bytes in index_json()) {
        bodies::index_json(&bytes);
    }

    /// A budget is a budget, whatever happens in which order.
    #[test]
    fn budgets_end(events in "[bpPsrafB0-9]{0,40}", header in "[0-9]{0,3}|Sun, 06 Nov 1994 08:[0-9]{2}:37 GMT") {
        bodies::retry_after(format!("{header}\n{events}").as_bytes());
    }

    /// A layer's diff ID is its tar stream's, in any encoding.
    #[test]
    fn tar_streams_are_hashed_as_they_are(name in "[a-zé/]{1,20}", content in vec(any::<u8>(), 0..1500), cut in any::<u8>()) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut builder = tar::Builder::new(vec![cut]);
        if builder.append_data(&mut header, name.trim_matches('/'), &content[..]).is_ok() {
            bodies::tar(&builder.into_inner().unwrap());
        }
    }
}
