//! The tags of a repository: listed, filtered, ordered, and fetched all.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{
    Built, Certificate, Fault, FaultRegistry, Outcome, PushedImage, Request, TestContext, check_layout, image,
};

const TAGS: [&str; 7] = ["1.9", "1.10", "1.10-alpine", "2.0", "v3.0", "edge", "latest"];
const IN_ORDER: [&str; 7] = ["1.9", "1.10", "1.10-alpine", "2.0", "edge", "latest", "v3.0"];

/// An image a tag, each its own, in the repository `app`.
fn push(registry: &FaultRegistry, tags: &[&str]) -> Vec<PushedImage> {
    tags.iter().map(|tag| registry.push_as("app", tag, image().layer(format!("for {tag}")))).collect()
}

fn repository(registry: &FaultRegistry) -> String {
    format!("{}/app", registry.host())
}

fn lines(outcome: &Outcome) -> Vec<&str> {
    outcome.stdout.lines().collect()
}

fn listings(registry: &FaultRegistry) -> Vec<Request> {
    registry.requests().into_iter().filter(|request| request.path.ends_with("/tags/list")).collect()
}

/// The tags of results of a fetch, with their status.
fn statuses(report: &Value) -> Vec<(String, String)> {
    let results = report["results"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tag = |result: &Value| text(&result["reference"]).rsplit('/').next().unwrap().to_owned();
    results.iter().map(|result| (tag(result), text(&result["status"]))).collect()
}

/// A client that stops after the first page misses tags; numbers in tags count as numbers.
#[test]
fn all_pages_in_natural_order() {
    let registry = FaultRegistry::builder().tags_per_page(2).start();
    push(&registry, &TAGS);
    let context = TestContext::new();
    for written in [repository(&registry), format!("docker://{}", repository(&registry))] {
        registry.clear_requests();
        let outcome = context.run(["tags", &written]).success();
        assert_eq!(lines(&outcome), IN_ORDER);
        assert_eq!(outcome.stderr, "");
        assert_eq!(listings(&registry).len(), 4);
    }
    let json = context.run(["tags", "--json", &repository(&registry)]).success().json();
    assert_eq!(json, json!({"repository": repository(&registry), "tags": IN_ORDER}));
}

/// What `--match` and `--semver` leave; nothing left is an answer, on standard output nothing.
#[test]
fn filters() {
    let registry = FaultRegistry::start();
    push(&registry, &TAGS);
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--match", "1"], &["1.9", "1.10", "1.10-alpine"]),
        (&["--match", r"^\d+\.\d+$"], &["1.9", "1.10", "2.0"]),
        (&["--match", "-alpine$"], &["1.10-alpine"]),
        (&["--semver", ">=1.10"], &["1.10", "2.0", "v3.0"]),
        (&["--semver", ">=1.10, <3"], &["1.10", "2.0"]),
        (&["--semver", ">=1", "--match", "^v"], &["v3.0"]),
        (&["--match", "^nothing$"], &[]),
    ];
    for (options, expected) in cases {
        let context = TestContext::new();
        let outcome = context.run(["tags", &repository(&registry)]).args(options).success();
        assert_eq!(lines(&outcome), expected, "{options:?}");
        let json = context.run(["tags", "--json", &repository(&registry)]).args(options).success().json();
        assert_eq!(json["tags"], json!(expected), "{options:?}");
    }
}

/// What cannot be meant is wrong usage before anything is asked; a repository that is not there is not found.
#[test]
fn what_tags_refuses() {
    let registry = FaultRegistry::start();
    push(&registry, &["1.0"]);
    let name = repository(&registry);
    let digest = format!("{name}@sha256:{}", "a".repeat(64));
    let cases: [(&[&str], i32, &str); 9] = [
        (&[&format!("{name}:1.0")], 2, "a repository is meant"),
        (&[&digest], 2, "a repository is meant"),
        (&[&format!("{name}/Upper")], 2, "upper-case"),
        (&["oci:./out"], 2, "is a layout"),
        (&[&name, "--match", "("], 2, "open group without closing"),
        (&[&name, "--semver", "latest"], 2, "is not a range of versions"),
        (&[&name, "--semver", ""], 2, "there is no version"),
        (&[&name, "second"], 2, "unexpected argument"),
        (&[&format!("{}/other", registry.host())], 3, "NAME_UNKNOWN"),
    ];
    for (arguments, code, said) in cases {
        registry.clear_requests();
        let outcome = TestContext::new().run(["tags"]).args(arguments).fails_with(code);
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
        assert_eq!(registry.requests().is_empty(), code == 2, "{arguments:?}");
    }
}

/// One token for pulling serves all pages, and a page that fails is asked for again.
#[test]
fn pages_are_authenticated_and_retried() {
    let registry = FaultRegistry::builder().token_auth().token_user("me", "secret").tags_per_page(3).start();
    push(&registry, &TAGS);
    registry.on_path("/v2/app/tags/list").once(Fault::Status(503));
    let name = repository(&registry);
    let outcome = TestContext::new().run(["tags", "--creds", "me:secret", &name]).success();
    assert_eq!(lines(&outcome), IN_ORDER);
    assert_eq!(registry.tokens_issued(), 1);
    let tokens = registry.requests().into_iter().filter(|request| request.path == "/token");
    let scopes: Vec<_> = tokens.flat_map(|request| request.parameters("scope")).collect();
    assert_eq!(scopes, ["repository:app:pull"]);
    let denied = TestContext::new().run(["tags", "--creds", "me:wrong", &name]).fails_with(4);
    assert!(denied.stderr.contains("cannot list the tags of"), "{}", denied.stderr);
}

/// A registry that does not know of the TLS before it links to http: its pages are asked for over TLS all the same.
#[test]
fn links_in_plain_http_stay_within_tls() {
    let registry =
        FaultRegistry::builder().tls(Certificate::Signed).tags_per_page(2).links_in_plain_http().start();
    push(&registry, &TAGS);
    let ca = registry.ca_file().unwrap();
    let name = repository(&registry);
    let outcome = TestContext::new().run(["tags", &name, "--ca-file"]).arg(ca).success();
    assert_eq!(lines(&outcome), IN_ORDER);
    assert_eq!(registry.connections_not_http(), 0);
}

/// A large repository is a few requests.
#[test]
fn five_thousand_tags() {
    let registry = FaultRegistry::start();
    let built = Built::from(image().layer("for all"));
    for number in 0..5000 {
        registry.push_as("app", &format!("v1.{number}"), built.clone());
    }
    let outcome = TestContext::new().run(["tags", &repository(&registry)]).success();
    let expected: Vec<String> = (0..5000).map(|number| format!("v1.{number}")).collect();
    assert_eq!(lines(&outcome), expected);
    assert_eq!(listings(&registry).len(), 5);
}

/// Every tag as if it had been written: fetched in natural order, named by itself.
#[test]
fn all_tags_are_fetched() {
    let registry = FaultRegistry::builder().tags_per_page(3).start();
    let pushed = push(&registry, &TAGS);
    let context = TestContext::new();
    let fetch = ["fetch", "--all-tags", &repository(&registry), "./out"];
    let outcome = context.run(fetch).success();
    let expected: Vec<String> = IN_ORDER
        .iter()
        .map(|tag| pushed.iter().find(|image| image.tag() == *tag).unwrap().reference_by_both())
        .collect();
    assert_eq!(lines(&outcome), expected);
    assert_eq!(check_layout(&context.out()).ref_names, IN_ORDER);
    let again = context.run(fetch).arg("--json").success().json();
    assert!(statuses(&again).iter().all(|(_, status)| status == "up-to-date"), "{again}");
}

/// With the filters only what they take, and a dry run touches nothing.
#[test]
fn all_tags_are_filtered() {
    let registry = FaultRegistry::start();
    push(&registry, &TAGS);
    let context = TestContext::new();
    let name = repository(&registry);
    let fetch = ["fetch", "--all-tags", "--semver", ">=1.10", "--match", r"\.0$", "--json", &name, "./out"];
    let planned = context.run(fetch).arg("--dry-run").success().json();
    let status = |status: &str| ["app:2.0", "app:v3.0"].map(|tag| (tag.to_owned(), status.to_owned()));
    assert_eq!(statuses(&planned), status("planned"));
    assert!(!context.out().exists());
    let fetched = context.run(fetch).success().json();
    assert_eq!(statuses(&fetched), status("fetched"));
    assert_eq!(check_layout(&context.out()).ref_names, ["2.0", "v3.0"]);
}

/// A tag that fails does not stop the others; the exit code is that of the first in order that failed.
#[test]
fn a_tag_that_fails_stops_no_other() {
    let registry = FaultRegistry::start();
    let pushed = push(&registry, &["1.9", "1.10", "2.0"]);
    registry.on_manifest(pushed[0].digest()).always(Fault::FlipByte(5));
    registry.on_head("2.0").always(Fault::Status(404));
    registry.on_manifest("2.0").always(Fault::Status(404));
    let context = TestContext::new();
    let fetch = ["fetch", "--all-tags", "--json", &repository(&registry), "./out"];
    let report = context.run(fetch).fails_with(6).json();
    let expected = [("app:1.9", "failed"), ("app:1.10", "fetched"), ("app:2.0", "failed")];
    assert_eq!(statuses(&report), expected.map(|(tag, status)| (tag.to_owned(), status.to_owned())));
    assert_eq!(report["results"][2]["error"]["exitCode"], 3);
    assert_eq!(check_layout(&context.out()).ref_names, ["1.10"]);
}

/// A list that fails, and one in which nothing is meant, are failed results under the repository's name; the other
/// repository is fetched, by full names, for two repositories may have one tag.
#[test]
fn a_list_that_fails_stops_no_other() {
    let registry = FaultRegistry::start();
    push(&registry, &["1.0"]);
    let second = registry.push_as("second", "2.0", image().layer("second"));
    let missing = format!("{}/missing", registry.host());
    let context = TestContext::new();
    let outcome = context
        .run(["fetch", "--all-tags", "--semver", ">=2", "--json", &repository(&registry), &missing])
        .args([&format!("{}/second", registry.host()), "./out"])
        .fails_with(3);
    let report = outcome.json();
    let expected = [("app", "failed"), ("missing", "failed"), ("second:2.0", "fetched")];
    assert_eq!(statuses(&report), expected.map(|(tag, status)| (tag.to_owned(), status.to_owned())));
    let message = report["results"][0]["error"]["message"].as_str().unwrap();
    assert_eq!(message, format!("--semver '>=2' takes no tag of {}, which has 1 tag", repository(&registry)));
    assert!(outcome.stderr.contains("NAME_UNKNOWN"), "{}", outcome.stderr);
    assert_eq!(check_layout(&context.out()).ref_names, [second.reference()]);
}

/// `--all-tags` beside a tag or a digest, and filters without it, contradict themselves.
#[test]
fn what_all_tags_refuses() {
    let registry = FaultRegistry::start();
    let name = repository(&registry);
    for arguments in [
        &["--all-tags", &format!("{name}:1.0")][..],
        &["--all-tags", &name, &format!("{name}@sha256:{}", "a".repeat(64))],
        &["--all-tags", "--ref-name", "=x", &name],
        &["--match", "x", &name],
        &["--semver", "1", &name],
    ] {
        let outcome = TestContext::new().run(["fetch"]).args(arguments).arg("./out").fails_with(2);
        assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
    }
    assert_eq!(registry.asked(), [""; 0]);
}

/// What `serve` offers can be listed: the far side of an air gap asks as the near side did.
#[test]
fn a_served_layout_lists_its_tags() {
    let registry = FaultRegistry::start();
    push(&registry, &TAGS);
    let context = TestContext::new();
    context.run(["fetch", "--all-tags", &repository(&registry), "./out"]).success();
    let mut serve = context.command();
    let serve = serve.args(["serve", "./out", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut serve = serve.stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(serve.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let host = line.trim().strip_prefix("listening on http://").unwrap();
    let outcome = context.run(["tags", &format!("{host}/app")]).run();
    let missing = context.run(["tags", &format!("{host}/missing")]).run();
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert_eq!(lines(&outcome), IN_ORDER, "{}", outcome.report());
    assert_eq!(missing.code, Some(3), "{}", missing.report());
}

/// Lists of referrers and signatures are no images: they come with the images that they belong to, or when they are meant.
#[test]
fn tags_of_digests_are_no_images() {
    let registry = FaultRegistry::start();
    let app = push(&registry, &["1.0"]).remove(0);
    for kind in ["sig", "att"] {
        registry.push_beside(&app, kind, image().layer(kind));
    }
    let list = app.digest().replace(':', "-");
    registry.push_as("app", &list, image().layer("list"));
    let name = repository(&registry);
    let context = TestContext::new();
    assert_eq!(lines(&context.run(["tags", &name]).success()).len(), 4);
    let outcome = context.run(["fetch", "--all-tags", "--json", &name, "./out"]).success();
    assert_eq!(statuses(&outcome.json()), [("app:1.0".to_owned(), "fetched".to_owned())]);
    assert!(
        outcome.stderr.contains("3 tags of signatures and lists of referrers left out"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("--referrers"), "{}", outcome.stderr);
    let context = TestContext::new();
    let outcome =
        context.run(["fetch", "--all-tags", "--match", r"\.sig$", "--json", &name, "./out"]).success();
    assert_eq!(statuses(&outcome.json())[0].0, format!("app:{list}.sig"));
    registry.push_as("bare", &list, image().layer("list"));
    let bare = format!("{}/bare", registry.host());
    let outcome = TestContext::new().run(["fetch", "--all-tags", &bare, "./out"]).fails_with(3);
    assert!(
        outcome.stderr.contains("has no tag of an image, only 1 tag of signatures"),
        "{}",
        outcome.stderr
    );
}

/// Registries that do not page put a whole large repository on one page.
#[test]
fn one_page_of_many_tags() {
    let registry = FaultRegistry::start();
    push(&registry, &["1.0"]);
    let tags: Vec<String> = (0..100_000).map(|number| format!("build-2026-01-01-{number:032}")).collect();
    let body = json!({"name": "app", "tags": tags}).to_string().into_bytes();
    assert!(body.len() > 4 << 20);
    registry.on_path("/v2/app/tags/list").always(Fault::StatusWith {
        status: 200,
        headers: Vec::new(),
        body,
    });
    let outcome = TestContext::new().run(["tags", &repository(&registry)]).success();
    assert_eq!(lines(&outcome).len(), 100_000);
}
