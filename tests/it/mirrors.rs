//! registries.conf at work: mirrors, rewritten locations, blocked registries, short names.

use std::fs;
use std::net::TcpListener;

use crate::support::{
    Fault, FaultRegistry, MIB, PushedImage, TestContext, assert_readable, check_layout, image, random, text,
};

/// A name that never resolves (RFC 6761, section 6.4).
const NOWHERE: &str = "registry.invalid";

fn configure(context: &TestContext, text: &str) {
    let folder = context.home().join(".config/containers");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("registries.conf"), text).unwrap();
}

/// A registry and its mirrors, with what stands in their tables.
fn mirrored(location: &str, mirrors: &[(&str, &str)]) -> String {
    let mirror =
        |(location, more): &(&str, &str)| format!("[[registry.mirror]]\nlocation = '{location}'\n{more}\n");
    let mirrors: String = mirrors.iter().map(mirror).collect();
    format!("[[registry]]\nlocation = '{location}'\n{mirrors}")
}

fn pushed(registry: &FaultRegistry) -> PushedImage {
    registry.push(image().layer(text(3000)).layer(random(2000)))
}

/// Both hold the same image.
fn both(image: &crate::support::Built, one: &FaultRegistry, other: &FaultRegistry) -> PushedImage {
    one.push(image.clone());
    other.push(image.clone())
}

fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A mirror that has the image is all that is asked, and the image keeps the name of its registry.
#[test]
fn a_mirror_stands_for_its_registry() {
    let mirror = FaultRegistry::start();
    let pushed = mirror.push_as("hub/app", "v1", image().layer(text(3000)));
    for by_digest in [false, true] {
        let context = TestContext::new();
        configure(&context, &mirrored(NOWHERE, &[(&format!("{}/hub", mirror.host()), "")]));
        let end = if by_digest { format!("@{}", pushed.digest()) } else { ":v1".to_owned() };
        let reference = format!("{NOWHERE}/app{end}");
        let outcome = context.run(["fetch", "--json", &reference]).arg(context.out()).success();
        assert_eq!(outcome.json()["results"][0]["reference"], reference);
        check_layout(&context.out());
        assert_readable(&context.out());
    }
    assert!(mirror.requests().iter().all(|request| request.path.starts_with("/v2/hub/app/")));
}

/// `--mirror` is such a mirror for one run, of any registry and with no configuration.
#[test]
fn a_mirror_for_one_run() {
    let mirror = FaultRegistry::start();
    mirror.push_as("all/app", "v1", image().layer(text(3000)));
    let context = TestContext::new();
    let place = format!("{}/all", mirror.host());
    let reference = format!("{NOWHERE}/app:v1");
    let run = context.run(["fetch", "--mirror", &closed_port(), "--mirror", &place, &reference]);
    run.arg(context.out()).success();
    check_layout(&context.out());
    for wrong in ["mirror", "https://m.example", ""] {
        context.run(["resolve", "--mirror", wrong, &reference]).fails_with(2);
    }
}

/// A mirror whose answers do not get to their ends is left at once, for the blobs after it too, and what came from it stays.
#[test]
fn a_mirror_that_breaks_off_is_left() {
    for fault in [Fault::StallAfter(1500), Fault::CutAfter(1500), Fault::ResetAfter(1500)] {
        let (registry, mirror) = (FaultRegistry::start(), FaultRegistry::start());
        let built = (0..5).fold(image(), |image, _| image.layer(random(2000)));
        let pushed = both(&built.into(), &mirror, &registry);
        for layer in pushed.layers() {
            mirror.on_blob(layer).always(fault.clone());
        }
        let context = TestContext::new();
        configure(&context, &mirrored(&registry.host(), &[(&mirror.host(), "")]));
        let options = ["--connections", "1", "--retries", "0", "--stall-timeout", "1s"];
        let outcome = context.run(["fetch", &pushed.reference()]).arg(context.out()).args(options).success();
        check_layout(&context.out());
        let asked = |registry: &FaultRegistry| {
            let layers = pushed.layers().into_iter().flat_map(|layer| registry.requests_for(layer));
            layers.collect::<Vec<_>>()
        };
        assert_eq!((asked(&mirror).len(), asked(&registry).len()), (1, 5), "{fault:?}");
        if !matches!(fault, Fault::ResetAfter(_)) {
            assert!(asked(&registry)[0].range().unwrap().starts_with("bytes=1500-"), "{fault:?}");
        }
        let warnings: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
        assert_eq!(warnings.len(), 1, "{}", outcome.stderr);
        assert!(warnings[0].contains(&mirror.host()) && warnings[0].contains(" instead"), "{warnings:?}");
    }
}

/// What a mirror lacks, or cannot give, comes from the registry: a mirror that lacks something is no news, one that is down
/// is, once.
#[test]
fn the_registry_has_what_its_mirror_has_not() {
    let (registry, empty) = (FaultRegistry::start(), FaultRegistry::start());
    let pushed = pushed(&registry);
    let down = closed_port();
    for (mirror, warnings) in [(empty.host(), 0), (down, 1)] {
        let context = TestContext::new();
        configure(&context, &mirrored(&registry.host(), &[(&mirror, "")]));
        let outcome = context.run(["fetch", &pushed.reference()]).arg(context.out()).success();
        assert_eq!(outcome.stderr.matches("warning:").count(), warnings, "{}", outcome.stderr);
        check_layout(&context.out());
    }
}

/// A mirror may be for digests only: what a tag stands for is then the registry's to say, and its bytes are the mirror's.
#[test]
fn a_mirror_for_digests_resolves_no_tags() {
    let (registry, mirror) = (FaultRegistry::start(), FaultRegistry::start());
    let built = image().layer(text(3000)).into();
    both(&built, &mirror, &registry);
    mirror.push(image().layer(text(10)));
    let image = PushedImage::new(registry.host(), "app", "v1", built);
    let context = TestContext::new();
    configure(&context, &mirrored(&registry.host(), &[(&mirror.host(), "pull-from-mirror = 'digest-only'")]));
    context.run(["fetch", &image.reference()]).arg(context.out()).success();
    assert_eq!(registry.asked(), ["HEAD v1"]);
    assert!(mirror.asked().iter().all(|line| !line.ends_with("/v1")), "{:?}", mirror.asked());
    assert_eq!(mirror.requests_for(image.layer(0)).len(), 1);
    check_layout(&context.out());
}

/// A mirror for tags only resolves the tag and serves what it stands for; a digest is none of its business.
#[test]
fn a_mirror_for_tags_serves_what_it_resolved() {
    let mirror = FaultRegistry::start();
    let pushed = pushed(&mirror);
    let context = TestContext::new();
    configure(&context, &mirrored(NOWHERE, &[(&mirror.host(), "pull-from-mirror = 'tag-only'")]));
    context.run(["fetch", &format!("{NOWHERE}/app:v1")]).arg(context.out()).success();
    check_layout(&context.out());
    mirror.clear_requests();
    let by_digest = format!("{NOWHERE}/app@{}", pushed.digest());
    context.run(["resolve", "--retries", "0", &by_digest]).fails_with(5);
    assert_eq!(mirror.requests().len(), 0);
}

/// Bytes of a mirror that are not those of the digest are nobody's blob: the next endpoint is asked for all of them.
#[test]
fn a_mirror_that_lies_is_left() {
    let (registry, mirror) = (FaultRegistry::start(), FaultRegistry::start());
    let built: crate::support::Built = image().layer(random(3 * MIB)).into();
    let image = both(&built, &mirror, &registry);
    for fault in [Fault::FlipByte(MIB), Fault::Truncate(1000), Fault::Status(500)] {
        mirror.mend();
        mirror.on_blob(image.layer(0)).always(fault);
        let context = TestContext::new();
        configure(&context, &mirrored(&registry.host(), &[(&mirror.host(), "")]));
        let outcome = context.run(["fetch", &image.reference()]).arg(context.out()).success();
        assert!(outcome.stderr.contains(&registry.host()), "{}", outcome.stderr);
        check_layout(&context.out());
        assert!(!registry.requests_for(image.layer(0)).is_empty());
        assert_eq!(registry.requests_for(image.config()).len(), 0, "the mirror's were good");
        registry.clear_requests();
    }
    mirror.mend();
    mirror.on_manifest(image.digest()).always(Fault::Body(b"{}".to_vec()));
    let context = TestContext::new();
    configure(&context, &mirrored(&registry.host(), &[(&mirror.host(), "")]));
    context.run(["fetch", &image.reference()]).arg(context.out()).success();
    check_layout(&context.out());
}

/// When all fail, the registry's error is the error, with its exit code, and each mirror's stands beside it.
#[test]
fn all_errors_are_told() {
    let (registry, empty) = (FaultRegistry::start(), FaultRegistry::start());
    let (broken, context) = (FaultRegistry::start(), TestContext::new());
    broken.on_path("/v2/").always(Fault::Status(500));
    configure(&context, &mirrored(&registry.host(), &[(&empty.host(), ""), (&broken.host(), "")]));
    let reference = format!("{}/app:v1", registry.host());
    let outcome = context.run(["resolve", &reference]).fails_with(3);
    for words in [&*registry.host(), "404", &empty.host(), &broken.host(), "500"] {
        assert!(outcome.stderr.contains(words), "{words} in {}", outcome.stderr);
    }
    assert_eq!(broken.requests().len(), 1, "the registry has said no: its mirrors are not waited for");
}

/// What was given by option is for the registry, and no mirror sees it.
#[test]
fn mirrors_get_no_credentials_of_others() {
    let registry = FaultRegistry::builder().basic_auth("me", "secret").start();
    let mirror = FaultRegistry::builder().basic_auth("other", "other").start();
    let built = image().layer(text(3000)).into();
    let image = both(&built, &mirror, &registry);
    let context = TestContext::new();
    configure(&context, &mirrored(&registry.host(), &[(&mirror.host(), "")]));
    context.run(["fetch", "--creds", "me:secret", &image.reference()]).arg(context.out()).success();
    assert!(!mirror.requests().is_empty());
    assert!(mirror.requests().iter().all(|request| request.header("authorization").is_none()));
    check_layout(&context.out());
}

/// What was given by option is for the registry of the reference, and that is where its location says.
#[test]
fn credentials_by_option_follow_a_location() {
    let registry = FaultRegistry::builder().basic_auth("me", "secret").start();
    registry.push_as("hub/app", "v1", image().layer(text(3000)));
    let mirror = FaultRegistry::builder().basic_auth("other", "other").start();
    let context = TestContext::new();
    configure(
        &context,
        &format!(
            "[[registry]]\nprefix = '{NOWHERE}'\nlocation = '{}/hub'\n[[registry.mirror]]\nlocation = '{}'\n",
            registry.host(),
            mirror.host()
        ),
    );
    let run = context.run(["fetch", "--creds", "me:secret", &format!("{NOWHERE}/app:v1")]);
    let outcome = run.arg(context.out()).success();
    let advice = format!("run `ocipull login {}`", mirror.host());
    assert!(outcome.stderr.contains(&advice), "{}", outcome.stderr);
    assert!(mirror.requests().iter().all(|request| request.header("authorization").is_none()));
    check_layout(&context.out());
}

/// A blocked registry is not to be had by writing its port in another way.
#[test]
fn blocked_registries_have_one_name() {
    let (registry, context) = (FaultRegistry::start(), TestContext::new());
    configure(&context, &format!("[[registry]]\nlocation = '{}'\nblocked = true\n", registry.host()));
    let (name, port) =
        registry.host().rsplit_once(':').map(|(name, port)| (name.to_owned(), port.to_owned())).unwrap();
    for host in [format!("{name}:0{port}"), format!("{name}:{port}")] {
        let outcome = context.run(["resolve", &format!("{host}/app:v1")]).fails_with(4);
        assert!(outcome.stderr.contains("is not asked"), "{}", outcome.stderr);
    }
    assert_eq!(registry.requests().len() + registry.connections_not_http(), 0);
}

/// A mirror gets the credentials that the files have for the mirror's own host and path, beside others by option too.
#[test]
fn mirrors_get_their_own_credentials() {
    let mirror = FaultRegistry::builder().basic_auth("other", "secret").start();
    mirror.push_as("hub/app", "v1", image().layer(text(3000)));
    let context = TestContext::new();
    configure(&context, &mirrored(NOWHERE, &[(&format!("{}/hub", mirror.host()), "")]));
    fs::create_dir(context.home().join(".docker")).unwrap();
    // other:secret
    let auths = format!("{{\"auths\": {{\"{}/hub\": {{\"auth\": \"b3RoZXI6c2VjcmV0\"}}}}}}", mirror.host());
    fs::write(context.home().join(".docker/config.json"), auths).unwrap();
    for options in [&[][..], &["--creds", "me:mine"]] {
        let run = context.run(["fetch", "--verify-existing", &format!("{NOWHERE}/app:v1")]);
        run.args(options).arg(context.out()).success();
        check_layout(&context.out());
    }
}

/// A blocked registry is not asked, whatever else is configured; its mirrors are.
#[test]
fn blocked_registries_are_not_asked() {
    let (registry, mirror) = (FaultRegistry::start(), FaultRegistry::start());
    let built = image().layer(text(3000)).into();
    let image = both(&built, &mirror, &registry);
    let blocked = format!("[[registry]]\nlocation = '{}'\nblocked = true\n", registry.host());
    let context = TestContext::new();
    configure(&context, &blocked);
    for command in ["resolve", "inspect", "tags"] {
        let name = if command == "tags" { format!("{}/app", registry.host()) } else { image.reference() };
        let outcome = context.run([command, &name]).fails_with(4);
        for words in ["is not asked", "registries.conf blocks it"] {
            assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        }
    }
    let mirrors = format!("[[registry.mirror]]\nlocation = '{}'\n", mirror.host());
    configure(&context, &(blocked + &mirrors));
    context.run(["fetch", &image.reference()]).arg(context.out()).success();
    check_layout(&context.out());
    assert_eq!(registry.requests().len() + registry.connections_not_http(), 0);
}

/// A location stands for a prefix, in every request, and the image keeps the name that was asked for.
#[test]
fn locations_replace_prefixes() {
    let registry = FaultRegistry::start();
    registry.push_as("deep/inside/app", "v1", image().layer(text(3000)));
    let context = TestContext::new();
    let location = format!("{}/deep/inside", registry.host());
    configure(&context, &format!("[[registry]]\nprefix = '*.invalid'\nlocation = '{location}'\n"));
    let outcome = context.run(["fetch", "a.invalid/app:v1"]).arg(context.out()).success();
    assert!(outcome.stdout.starts_with("a.invalid/app:v1@sha256:"), "{}", outcome.stdout);
    context.run(["tags", "b.invalid/app"]).success();
    check_layout(&context.out());
}

/// A configuration that cannot be used ends the run before anything is asked, and says where the mistake is.
#[test]
fn configurations_that_cannot_be_used() {
    let registry = FaultRegistry::start();
    let (image, context) = (pushed(&registry), TestContext::new());
    for (text, words) in [
        ("[[registry]]\nlocation = docker.io\n", "registries.conf cannot be used: line 2, column 12"),
        ("[registries.search]\nregistries = ['docker.io']\n", "registries.conf is in version 1"),
        ("[[registry]]\ninsecure = true\n", "neither a prefix nor a location"),
    ] {
        configure(&context, text);
        let outcome = context.run(["resolve", &image.reference()]).fails_with(2);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    assert_eq!(registry.requests().len(), 0);
    fs::write(context.path().join("good.conf"), "").unwrap();
    context.run(["resolve", &image.reference(), "--registries-conf", "good.conf"]).success();
    let by_environment = context.run(["resolve", &image.reference()]);
    by_environment.env("CONTAINERS_REGISTRIES_CONF", context.path().join("good.conf")).success();
    let outcome = context.run(["resolve", &image.reference(), "--registries-conf", "no.conf"]).fails_with(2);
    assert!(outcome.stderr.contains("cannot read no.conf"), "{}", outcome.stderr);
}

/// A short name is looked for in the registries of the list, in their order; the choice is told, and counts from then on.
#[test]
fn short_names_are_searched_for() {
    let (first, second) = (FaultRegistry::start(), FaultRegistry::start());
    let pushed = second.push_as("team/app", "v1", image().layer(text(3000)));
    let context = TestContext::new();
    let list = |hosts: &[String]| format!("unqualified-search-registries = {hosts:?}\n");
    configure(&context, &list(&[first.host(), second.host()]));
    let outcome = context.run(["fetch", "--json", "team/app:v1"]).arg(context.out()).success();
    let report = outcome.json();
    assert_eq!(report["results"][0]["reference"], pushed.reference());
    let line =
        format!("team/app:v1: stands for {}, by unqualified-search-registries in ", pushed.reference());
    assert_eq!(outcome.stderr.matches(&line).count(), 1, "{}", outcome.stderr);
    check_layout(&context.out());

    let resolved = context.run(["resolve", "--json", "team/app:v1"]).success();
    assert_eq!(resolved.json()["reference"], pushed.reference());
    let tags = context.run(["tags", "--json", "team/app"]).success();
    assert_eq!(tags.json()["repository"], format!("{}/team/app", second.host()));
    context.run(["inspect", "team/app:v1"]).success();

    let outcome = context.run(["resolve", "team/other:v1"]).fails_with(3);
    for words in ["team/other:v1 is none of the 2 images", &first.host(), &second.host()] {
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    for command in ["resolve", "tags", "inspect", "fetch"] {
        let name = if command == "tags" { "other" } else { "other:v1" };
        let run = context.run([command, name]).args((command == "fetch").then(|| context.out()));
        let outcome = run.fails_with(3);
        assert!(!outcome.stderr.contains("docker.io"), "{command}: {}", outcome.stderr);
    }
    let both = context.run(["resolve", "--creds", "a:b", "team/app:v1"]).fails_with(2);
    assert!(both.stderr.contains("several registries"), "{}", both.stderr);
    configure(&context, &(list(&[first.host(), second.host()]) + "short-name-mode = 'enforcing'\n"));
    let outcome = context.run(["resolve", "team/app:v1"]).fails_with(2);
    assert!(outcome.stderr.contains("short-name-mode is \"enforcing\""), "{}", outcome.stderr);
}

/// An alias stands for one image, without a question.
#[test]
fn short_names_have_aliases() {
    let registry = FaultRegistry::start();
    let pushed = registry.push_as("real/name", "v1", image().layer(text(3000)));
    let context = TestContext::new();
    let target = format!("{}/real/name", registry.host());
    configure(
        &context,
        &format!("unqualified-search-registries = ['{NOWHERE}']\n[aliases]\n'app' = '{target}'\n"),
    );
    let outcome = context.run(["fetch", "app:v1"]).arg(context.out()).success();
    let line = format!("app:v1: stands for {}, by an alias in ", pushed.reference());
    assert!(outcome.stderr.contains(&line), "{}", outcome.stderr);
    assert_eq!(registry.asked()[0], "HEAD v1");
    check_layout(&context.out());
    context.run(["fetch", "-q", "app:v1"]).arg(context.out()).success();
}

/// `-v` says of every request where it goes and why: whoever wonders why access fails sees it, a dry run included.
#[test]
fn verbose_runs_tell_the_way() {
    let (registry, mirror) = (FaultRegistry::start(), FaultRegistry::start());
    let image = both(&image().layer(text(3000)).into(), &mirror, &registry);
    let context = TestContext::new();
    configure(&context, &mirrored(&registry.host(), &[(&mirror.host(), "insecure = true")]));
    let folder = context.home().join(".config/containers/certs.d").join(mirror.host());
    fs::create_dir_all(&folder).unwrap();
    let auths = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"b3RoZXI6c2VjcmV0\"}}}}}}", mirror.host());
    fs::write(context.path().join("auth.json"), auths).unwrap();
    let run = context.run(["fetch", "--dry-run", "-v", "--authfile", "auth.json", &image.reference()]);
    let outcome = run.arg(context.out()).success();
    assert!(!outcome.stderr.contains("secret") && !outcome.stderr.contains("b3Ro"), "{}", outcome.stderr);
    let asking: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("asking")).collect();
    assert!(!asking.is_empty(), "{}", outcome.stderr);
    for line in asking {
        let folder = folder.display().to_string();
        for words in [&*mirror.host(), "role=Mirror", "trust=Insecure", &folder, "auth.json"] {
            assert!(line.contains(words), "{words} in {line}");
        }
    }
}

/// A mirror that wants to be left alone for a while is left alone: the registry is free, and nobody waits.
#[test]
fn a_mirror_that_asks_for_patience_holds_nobody_up() {
    let (registry, mirror) = (FaultRegistry::start(), FaultRegistry::start());
    let image = both(&image().layer(text(3000)).layer(random(2000)).into(), &mirror, &registry);
    for status in [429, 503] {
        mirror.clear_requests();
        mirror.on_path("/v2/").always(Fault::RetryAfter { status, value: "600".to_owned() });
        let context = TestContext::new();
        configure(&context, &mirrored(&registry.host(), &[(&mirror.host(), "")]));
        let began = std::time::Instant::now();
        let outcome = context.run(["fetch", "--json", &image.reference()]).arg(context.out()).success();
        assert!(began.elapsed() < std::time::Duration::from_mins(1), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.matches("warning:").count(), 1, "{}", outcome.stderr);
        check_layout(&context.out());
        assert_eq!(mirror.requests().len(), 1, "{:?}", mirror.asked());
    }
}

/// A token service is asked with somebody's credentials too: `-v` says where, for what and with whose.
#[test]
fn verbose_runs_tell_of_tokens() {
    let registry = FaultRegistry::builder().token_auth().token_user("me", "secret").start();
    let image = pushed(&registry);
    let context = TestContext::new();
    let outcome = context.run(["resolve", "-v", "--creds", "me:secret", &image.reference()]).success();
    let line = outcome.stderr.lines().find(|line| line.contains("asking for a token")).unwrap();
    for words in ["realm=\"127.0.0.1:", "repository:app:pull", "the command line"] {
        assert!(line.contains(words), "{words} in {line}");
    }
    assert!(!outcome.stderr.contains("secret"), "{}", outcome.stderr);
}
