use proptest::prelude::*;

use super::text::{MOST_ENTRIES, MOST_FIELDS};
use super::*;
use crate::digest::Digest;
use crate::layout::LayoutError;
use crate::manifest::MediaType;
use std::path::Path;

/// An index of more entries or fields than memory is meant for is refused before they are taken apart, and none is written.
#[test]
fn an_index_has_bounds() {
    let of = |count: usize| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec!["0"; count].join(","));
    let most = IndexDocument::parse(of(MOST_ENTRIES).as_bytes()).unwrap();
    let error = IndexDocument::parse(of(MOST_ENTRIES + 1).as_bytes()).unwrap_err();
    assert!(error.contains("more than 100000"), "{error}");
    let fields = (0..MOST_FIELDS).map(|at| format!(r#","{at}":0"#)).collect::<Vec<_>>().concat();
    let error = IndexDocument::parse(of(0).replace('}', &format!("{fields}}}")).as_bytes()).unwrap_err();
    assert!(error.contains("more than 1000 fields"), "{error}");

    let path = Path::new("out/index.json");
    most.has_room(&most.to_bytes(), path).unwrap();
    let mut more = most.clone();
    put(&mut more, &entry("one more", "r/a:v1", None, "linux/amd64"));
    assert!(matches!(more.has_room(&more.to_bytes(), path), Err(LayoutError::Full { .. })));
    assert!(most.has_room(&vec![b' '; CAP + 1], path).is_err());
}

fn entry(content: &str, full: &str, short: Option<&str>, platform: &str) -> Descriptor {
    let mut descriptor = Descriptor::new(
        MediaType::from("application/vnd.oci.image.manifest.v1+json"),
        Digest::sha256(content.as_bytes()),
        content.len() as u64,
    );
    descriptor.annotations.insert(FULL_NAME.into(), full.into());
    if let Some(short) = short {
        descriptor.annotations.insert(REF_NAME.into(), short.into());
    }
    descriptor.platform = Some(platform.parse::<Platform>().unwrap());
    descriptor
}

/// Puts an entry into an index of which the layout has all.
fn put(index: &mut IndexDocument, descriptor: &Descriptor) {
    index.put(&NewEntry::new(descriptor.clone(), Conflict::Refuse), |_| Extent::Whole).unwrap();
}

/// Who keeps an entry from being put, with what of the image.
fn refused(index: &mut IndexDocument, descriptor: &Descriptor) -> Holder {
    match index.put(&NewEntry::new(descriptor.clone(), Conflict::Refuse), |_| Extent::Whole) {
        Err(PutError::Taken(holder)) => holder,
        other => panic!("not refused: {other:?}"),
    }
}

fn names(index: &IndexDocument) -> Vec<(Option<&str>, Option<&str>)> {
    index.entries().iter().map(|entry| (entry.full_name(), entry.ref_name())).collect()
}

/// A moved tag replaces its entry; another platform and another image stand beside it.
#[test]
fn the_same_name_and_platform_is_replaced_and_all_else_stays() {
    let mut index = IndexDocument::empty();
    put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
    put(&mut index, &entry("arm", "h.io/a:1", Some("1-arm"), "linux/arm64"));
    put(&mut index, &entry("two", "h.io/a:1", Some("1"), "linux/amd64"));
    assert_eq!(names(&index), [(Some("h.io/a:1"), Some("1")), (Some("h.io/a:1"), Some("1-arm"))]);
    assert_eq!(index.entries()[0].descriptor().unwrap().digest, Digest::sha256(b"two"));
}

/// What `umoci tag` makes of a short name: a copy of its entry, with all that it says, under another one.
fn tag(index: &mut IndexDocument, name: &str, copy: &str) {
    let entry = index.entries.iter().find(|entry| entry.ref_name() == Some(name)).unwrap();
    let json = edit::annotated(entry.json(), &[(REF_NAME, Some(copy))]).unwrap();
    index.entries.push(Entry::of_text(json));
}

/// A name that another tool gave stays with what it was given to, whether ocipull's own is there or not; once the full name
/// stands for other content, the entry is known by its digest.
#[test]
fn names_that_others_gave_are_kept() {
    let by_digest = |content: &str| format!("h.io/a@{}", Digest::sha256(content.as_bytes()));
    for (is_own_there, fetched, full) in [
        (true, "one", "h.io/a:1".to_owned()),
        (true, "two", by_digest("one")),
        (false, "one", "h.io/a:1".to_owned()),
        (false, "two", by_digest("one")),
    ] {
        let mut index = IndexDocument::empty();
        put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
        tag(&mut index, "1", "good");
        if !is_own_there {
            index.entries.remove(0);
        }
        let new = NewEntry::new(entry(fetched, "h.io/a:1", Some("1"), "linux/amd64"), Conflict::Refuse);
        let changed = index.put(&new, |_| Extent::Whole).unwrap();
        assert_eq!(changed.is_change, !is_own_there || fetched == "two");
        assert_eq!(changed.gone, [""; 0]);
        let mut found = names(&index);
        found.sort_by_key(|(_, name)| *name);
        assert_eq!(found, [(Some("h.io/a:1"), Some("1")), (Some(&*full), Some("good"))], "{fetched}");
        let held = index.entries.iter().find(|entry| entry.ref_name() == Some("good")).unwrap();
        assert_eq!(held.descriptor().unwrap().digest, Digest::sha256(b"one"));
        assert!(!index.put(&new, |_| Extent::Whole).unwrap().is_change, "a second time changes nothing");
        // By that name the same image is fetched anew, as by its own.
        let again = entry("two", "h.io/a:1", Some("good"), "linux/amd64");
        let again = NewEntry::new(again, Conflict::TakeOver);
        index.put(&again, |_| Extent::Whole).unwrap();
        assert!(!index.is_ambiguous("good"), "{:?}", names(&index));
    }
}

/// An index that takes the place of its platforms leaves those that others named; what was converted is known by what the
/// registry has; a name that ocipull changes itself is no other's.
#[test]
fn names_that_others_gave_are_kept_beside_an_index() {
    let mut index = IndexDocument::empty();
    let mut first = entry("one", "h.io/a:1", Some("1"), "linux/amd64");
    first.annotations.insert(SOURCE_DIGEST.into(), Digest::sha256(b"docker's").to_string());
    put(&mut index, &first);
    tag(&mut index, "1", "good");
    let covers = vec!["linux/amd64".parse().unwrap()];
    let new = NewEntry { covers, ..NewEntry::new(sparse("index", None), Conflict::Refuse) };
    index.put(&new, |_| Extent::Whole).unwrap();
    let full = format!("h.io/a@{}", Digest::sha256(b"docker's"));
    assert_eq!(names(&index), [(Some("h.io/a:1"), Some("1")), (Some(&*full), Some("good"))]);

    let mut index = IndexDocument::empty();
    let mut before = None;
    for name in [Some("1"), Some("2"), None, Some("3")] {
        let new = NewEntry::new(entry("one", "h.io/a:1", name, "linux/amd64"), Conflict::Refuse);
        let put = index.put(&new, |_| Extent::Whole).unwrap();
        assert_eq!(names(&index), [(Some("h.io/a:1"), name)]);
        assert_eq!(put.gone, before.into_iter().collect::<Vec<&str>>(), "and it is told");
        before = name;
    }
    let taking = NewEntry::new(entry("two", "h.io/b:3", Some("3"), "linux/amd64"), Conflict::TakeOver);
    index.put(&taking, |_| Extent::Whole).unwrap();
    put(&mut index, &entry("two", "h.io/a:1", Some("4"), "linux/amd64"));
    assert_eq!(names(&index), [(Some("h.io/a:1"), Some("4")), (Some("h.io/b:3"), Some("3"))]);
    // What has no name from ocipull, and gets one from another tool, keeps that.
    let mut index = IndexDocument::empty();
    put(&mut index, &entry("one", "h.io/a:1", None, "linux/amd64"));
    let named = edit::annotated(index.entries[0].json(), &[(REF_NAME, Some("good"))]).unwrap();
    index.entries[0] = Entry::of_text(named);
    put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
    assert_eq!(names(&index), [(Some("h.io/a:1"), Some("good")), (Some("h.io/a:1"), Some("1"))]);
}

/// Of two names of one image, of which another tool gave one, both stay for the new content where a fetch asks for either.
#[test]
fn a_fetch_under_one_of_two_names_keeps_the_other() {
    let mut index = IndexDocument::empty();
    put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
    tag(&mut index, "1", "good");
    let new = NewEntry::new(entry("two", "h.io/a:1", Some("good"), "linux/amd64"), Conflict::Refuse);
    let put = index.put(&new, |_| Extent::Whole).unwrap();
    assert_eq!(put, Put { is_change: true, gone: Vec::new() });
    assert_eq!(names(&index), [(Some("h.io/a:1"), Some("1")), (Some("h.io/a:1"), Some("good"))]);
    for entry in index.entries() {
        assert_eq!(entry.digest(), Some(Digest::sha256(b"two")));
        assert!(!entry.is_named_by_others());
    }
    assert!(!index.put(&new, |_| Extent::Whole).unwrap().is_change);
}

/// What another tool made of an image under the annotations of the old one is no longer that image: it keeps its own name, and
/// has not the full one, for ocipull at once and for all others as soon as that is given.
#[test]
fn an_image_that_another_tool_changed_is_its_own() {
    for name in ["1", "mine"] {
        let mut index = IndexDocument::empty();
        put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
        let [old, new] = ["one", "changed"].map(|content| Digest::sha256(content.as_bytes()).to_string());
        let json = index.entries[0].json().replacen(&old, &new, 1);
        let json = edit::annotated(&json, &[(REF_NAME, Some(name))]).unwrap();
        index.entries.push(Entry::of_text(json));
        if name == "1" {
            index.entries.remove(0);
            assert_eq!(names(&index), [(None, Some("1"))]);
            let again = entry("two", "h.io/a:1", Some("1"), "linux/amd64");
            assert_eq!(refused(&mut index, &again).relation, Relation::OtherImage);
            continue;
        }
        put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
        assert_eq!(names(&index), [(Some("h.io/a:1"), Some("1")), (None, Some("mine"))]);
        let changed = index.entries[1].descriptor().unwrap();
        assert_eq!((changed.digest.to_string(), changed.annotations.get(FULL_NAME)), (new, None));
    }
}

/// A short name that another image has is refused, and with a take-over only the name moves.
#[test]
fn a_taken_name_is_refused_or_moved() {
    let mut index = IndexDocument::empty();
    put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
    let other = entry("two", "h.io/b:1", Some("1"), "linux/amd64");
    let wanted = Holder { shown: "h.io/a:1 (linux/amd64)".into(), relation: Relation::OtherImage };
    assert_eq!(refused(&mut index, &other), wanted);
    index.put(&NewEntry::new(other, Conflict::TakeOver), |_| Extent::Whole).unwrap();
    assert_eq!(names(&index), [(Some("h.io/a:1"), None), (Some("h.io/b:1"), Some("1"))]);
    let arm = entry("arm", "h.io/b:1", Some("1"), "linux/arm64");
    assert_eq!(refused(&mut index, &arm).relation, Relation::OtherPlatform);
}

/// What other tools wrote keeps its bytes: fields, odd numbers, entries that are no descriptors.
#[test]
fn foreign_content_stays_as_it_was() {
    let text = r#"{"x-first": 1.50e3, "schemaVersion":2, "manifests":[ {"digest":"nonsense","z" : [ 1e400 ]},
        {"mediaType":"m","size": 3 ,"digest":"sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed","annotations":{"org.opencontainers.image.ref.name":"theirs"}}],
        "annotations": {"k":  "v"}}"#;
    let mut index = IndexDocument::parse(text.as_bytes()).unwrap();
    put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
    let written = String::from_utf8(index.to_bytes()).unwrap();
    for kept in [
        r#""x-first":1.50e3"#,
        r#"{"digest":"nonsense","z" : [ 1e400 ]}"#,
        r#"{"mediaType":"m","size": 3 ,"digest":"#,
        r#""annotations":{"k":  "v"}"#,
    ] {
        assert!(written.contains(kept), "{kept} in {written}");
    }
    assert_eq!(IndexDocument::parse(written.as_bytes()).unwrap().entries().len(), 3);
}

/// An entry of ours that somebody annotated keeps that annotation through a moved tag.
#[test]
fn foreign_annotations_of_our_entry_stay() {
    let mut index = IndexDocument::empty();
    let mut first = entry("one", "h.io/a:1", Some("1"), "linux/amd64");
    first.annotations.insert("com.example.ticket".into(), "42".into());
    first.annotations.insert(INDEX_DIGEST.into(), "sha256:old".into());
    put(&mut index, &first);
    put(&mut index, &entry("two", "h.io/a:1", Some("1"), "linux/amd64"));
    let descriptor = index.entries()[0].descriptor().unwrap();
    assert_eq!(descriptor.annotations.get("com.example.ticket").map(String::as_str), Some("42"));
    assert_eq!(descriptor.annotations.get(INDEX_DIGEST), None);
}

/// A converted entry keeps its names, its platform and whatever others wrote; the source is the one of the registry.
#[test]
fn a_converted_entry_keeps_all_but_its_content() {
    let text = r#"{"schemaVersion":2,"manifests":[{"x": 1e400,"mediaType":"m","digest":"OLD","size": 3,"data":"YQ==",
        "annotations":{"io.containerd.image.name" : "h.io/a:1"}}]}"#;
    let old = Digest::sha256(b"old");
    let mut index = IndexDocument::parse(text.replace("OLD", &old.to_string()).as_bytes()).unwrap();
    let new = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"new"), 4);
    let before = index.entries()[0].clone();
    assert!(index.replace(&before, &new).unwrap());
    assert!(!index.replace(&before, &new).unwrap(), "the entry is another one now");
    let descriptor = index.entries()[0].descriptor().unwrap().clone();
    assert_eq!((descriptor.digest, descriptor.size, descriptor.data), (new.digest, 4, None));
    assert_eq!(descriptor.annotations[SOURCE_DIGEST], old.to_string());
    let written = String::from_utf8(index.to_bytes()).unwrap();
    assert!(
        written.contains(r#"{"x": 1e400,"#) && written.contains(r#""io.containerd.image.name" : "h.io/a:1""#)
    );
    let again = index.entries()[0].clone();
    assert!(index.replace(&again, &Descriptor { digest: Digest::sha256(b"newer"), ..new }).unwrap());
    assert_eq!(index.entries()[0].descriptor().unwrap().annotations[SOURCE_DIGEST], old.to_string());
}

/// Another tool's entry for the very same image under the same name is taken as the same.
#[test]
fn an_unnamed_entry_of_the_same_bytes_becomes_ours() {
    let ours = entry("one", "h.io/a:1", Some("1"), "linux/amd64");
    let theirs = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","size":3,"digest":"{}","annotations":{{"{REF_NAME}":"1"}}}}]}}"#,
        ours.digest
    );
    let mut index = IndexDocument::parse(theirs.as_bytes()).unwrap();
    put(&mut index, &ours);
    assert_eq!(names(&index), [(Some("h.io/a:1"), Some("1"))]);
}

/// Whatever is no index is said to be none, and why; it never becomes an empty one.
#[test]
fn what_is_no_index_is_refused() {
    for text in [
        "",
        "[]",
        "null",
        "{}",
        "{\"schemaVersion\":2}",
        "{\"manifests\":[]}",
        "{\"schemaVersion\":1,\"manifests\":[]}",
        "{\"schemaVersion\":2,\"manifests\":{}}",
        "{\"schemaVersion\":2,\"manifests\":[]} x",
        "{\"schemaVersion\":2,\"manifests\":[],\"manifests\":[]}",
        "{\"schemaVersion\":2,\"manifests\":[",
        "\u{feff}{\"schemaVersion\":2,\"manifests\":[]}",
    ] {
        assert!(IndexDocument::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(IndexDocument::parse(b"{\"schemaVersion\":2,\"manifests\":[\xff]}").is_err());
    // Go writes an empty list as null.
    assert!(IndexDocument::parse(b"{\"schemaVersion\":2,\"manifests\":null}").unwrap().entries().is_empty());
}

fn sparse(content: &str, platforms: Option<&str>) -> Descriptor {
    let mut descriptor = entry(content, "h.io/a:1", Some("1"), "linux/amd64");
    descriptor.media_type = MediaType::OCI_INDEX;
    descriptor.platform = None;
    if let Some(platforms) = platforms {
        descriptor.annotations.insert(PLATFORMS.into(), platforms.into());
    }
    descriptor
}

/// An index takes the place of the single platforms of its name that it covers, their short name with it; the
/// others stay.
#[test]
fn an_index_replaces_what_it_covers() {
    let mut index = IndexDocument::empty();
    for (content, short, platform) in
        [("amd", Some("1"), "linux/amd64"), ("arm", None, "linux/arm64"), ("s390", None, "linux/s390x")]
    {
        let descriptor = entry(content, "h.io/a:1", short, platform);
        put(&mut index, &descriptor);
    }
    let other = entry("other", "h.io/b:1", None, "linux/amd64");
    put(&mut index, &other);
    let covers = vec!["linux/arm64".parse().unwrap(), "linux/x86_64".parse().unwrap()];
    let descriptor = sparse("index", Some("linux/amd64,linux/arm64"));
    let new = NewEntry { descriptor, covers, conflict: Conflict::Refuse };
    index.put(&new, |_| Extent::Whole).unwrap();
    let digests: Vec<Digest> =
        index.entries().iter().map(|entry| entry.descriptor().unwrap().digest).collect();
    assert_eq!(digests, ["index", "s390", "other"].map(|content| Digest::sha256(content.as_bytes())));
    // One platform of it is another image again, and cannot have its short name.
    let mut single = entry("amd", "h.io/a:1", Some("1"), "linux/amd64");
    single.annotations.insert(INDEX_DIGEST.into(), Digest::sha256(b"index").to_string());
    assert_eq!(refused(&mut index, &single).relation, Relation::ItsIndex);
    index.put(&NewEntry::new(single, Conflict::Yield), |_| Extent::Whole).unwrap();
    assert_eq!(index.entries()[3].ref_name(), None);
}

/// What was recorded, of which content, what the layout has of it, what is taken now; what is recorded then, and whether
/// parts stay unproven.
type Case<'a> = (Option<&'a str>, &'a str, &'a dyn Fn() -> Extent, Option<&'a str>, Option<&'a str>, bool);

/// What was taken of an index by earlier fetches stays on record, in its order, until the tag stands for another
/// index. What another tool's entry stands for is what the layout has of it.
#[test]
fn a_sparse_index_adds_up() {
    let whole = || Extent::Whole;
    let part = || Extent::Platforms(vec!["linux/arm64".parse().unwrap()]);
    let nothing = || Extent::Platforms(Vec::new());
    let (amd, arm, both) = ("linux/amd64", "linux/arm64", "linux/amd64,linux/arm64");
    let cases: [Case<'_>; 9] = [
        (Some(amd), "one", &whole, Some(arm), Some(both), true),
        (Some(amd), "one", &whole, Some("linux/arm64, linux/amd64"), Some(both), false),
        (Some(both), "one", &whole, Some(arm), Some(both), true),
        (Some("linux/amd64, linux/arm64"), "one", &whole, Some(arm), Some("linux/amd64, linux/arm64"), true),
        (Some(amd), "one", &whole, None, None, false),
        (None, "one", &whole, Some(arm), None, true),
        (None, "one", &part, Some(amd), Some("linux/arm64,linux/amd64"), true),
        (None, "one", &nothing, Some(amd), Some(amd), false),
        (Some(amd), "two", &whole, Some(arm), Some(arm), false),
    ];
    for (before, content, extent, now, wanted, keeps_skipped) in cases {
        let mut index = IndexDocument::empty();
        let mut first = sparse("one", before);
        first.annotations.insert(DIFF_IDS.into(), "skipped".into());
        put(&mut index, &first);
        index.put(&NewEntry::new(sparse(content, now), Conflict::Refuse), |_| extent()).unwrap();
        let annotations = &index.entries()[0].descriptor().unwrap().annotations;
        assert_eq!(annotations.get(PLATFORMS).map(String::as_str), wanted, "{before:?} {now:?}");
        // The part that was not proven then is not proven now, unless all was taken again.
        assert_eq!(annotations.contains_key(DIFF_IDS), keeps_skipped, "{before:?} {now:?}");
    }
}

fn asked(content: &str, asked: Option<&str>, found: &str) -> Descriptor {
    let mut descriptor = entry(content, "h.io/a:1", Some("1"), found);
    descriptor.annotations.insert(INDEX_DIGEST.into(), Digest::sha256(b"index").to_string());
    descriptor.annotations.extend(asked.map(|asked| (REQUESTED_PLATFORM.to_owned(), asked.to_owned())));
    descriptor
}

/// A tag that moved has another fallback for a platform, or the platform itself: that is no other image.
#[test]
fn what_was_asked_for_is_the_same_whatever_was_found() {
    let v3 = "linux/amd64/v3";
    let cases = [
        ((Some(v3), "linux/amd64"), (None, v3), true),
        ((None, v3), (Some(v3), "linux/amd64"), true),
        ((Some(v3), "linux/amd64"), (Some(v3), "linux/amd64/v2"), true),
        ((Some(v3), "linux/amd64"), (None, "linux/amd64"), true),
        ((None, "linux/amd64"), (None, v3), false),
        ((Some("linux/arm64/v9"), "linux/arm64"), (Some(v3), "linux/amd64"), false),
    ];
    for (held, new, is_same) in cases {
        let mut index = IndexDocument::empty();
        put(&mut index, &asked("one", held.0, held.1));
        let new = asked("two", new.0, new.1);
        if is_same {
            put(&mut index, &new);
            assert_eq!(index.entries().len(), 1);
        } else {
            assert_eq!(refused(&mut index, &new).relation, Relation::OtherPlatform, "{held:?}");
        }
    }
}

/// A tag that stood for an index and now stands for one image names that image.
#[test]
fn an_index_gives_way_to_a_single_image() {
    let mut index = IndexDocument::empty();
    put(&mut index, &sparse("index", Some("linux/amd64")));
    put(&mut index, &entry("one", "h.io/a:1", Some("1"), "linux/amd64"));
    assert_eq!(index.entries().len(), 1);
    let descriptor = index.entries()[0].descriptor().unwrap();
    assert_eq!(descriptor.digest, Digest::sha256(b"one"));
    assert_eq!(descriptor.annotations.get(PLATFORMS), None);
}

/// A name counts for other tools also where the entry's digest is of an algorithm that is unknown here.
#[test]
fn an_entry_that_is_no_descriptor_holds_its_name() {
    let text = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"x":1e999,"digest":"sha384:aa","size":5,"annotations":{{"y":"\ud800","{REF_NAME}":"1"}}}}]}}"#
    );
    let mut index = IndexDocument::parse(text.as_bytes()).unwrap();
    let new = entry("one", "h.io/a:1", Some("1"), "linux/amd64");
    assert_eq!(refused(&mut index, &new).relation, Relation::OtherImage);
    assert!(!index.is_ambiguous("1"));
    index.put(&NewEntry::new(new, Conflict::TakeOver), |_| Extent::Whole).unwrap();
    assert_eq!(names(&index), [(None, None), (Some("h.io/a:1"), Some("1"))]);
    assert_eq!(
        index.entries()[0].json(),
        r#"{"x":1e999,"digest":"sha384:aa","size":5,"annotations":{"y":"\ud800"}}"#
    );
}

/// Tools differ in which of two entries they find by one name, but the same bytes are the same to all.
#[test]
fn a_name_is_ambiguous_where_it_means_two_things() {
    let named = |digest: &str| {
        format!(r#"{{"mediaType":"m","size":3,"digest":"{digest}","annotations":{{"{REF_NAME}":"1"}}}}"#)
    };
    let (one, two) = (Digest::sha256(b"one").to_string(), Digest::sha256(b"two").to_string());
    let cases = [
        (vec![], false),
        (vec![&*one], false),
        (vec![&*one, &*one], false),
        (vec![&*one, &*two], true),
        (vec![&*one, "sha384:aa"], true),
    ];
    for (digests, is_ambiguous) in cases {
        let entries: Vec<String> = digests.iter().copied().map(named).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let index = IndexDocument::parse(text.as_bytes()).unwrap();
        assert_eq!(index.is_ambiguous("1"), is_ambiguous, "{digests:?}");
    }
}

/// A key that comes twice is found among as many as there may be.
#[test]
fn one_key_of_many_comes_twice() {
    let keys = (0..MOST_FIELDS - 3).map(|key| format!(r#","k{key}":0"#)).collect::<Vec<_>>().concat();
    let text = format!(r#"{{"schemaVersion":2,"manifests":[]{keys}"#);
    assert!(IndexDocument::parse(format!("{text}}}").as_bytes()).is_ok());
    let error = IndexDocument::parse(format!("{text},\"k7\":0}}").as_bytes()).unwrap_err();
    assert!(error.contains("the key \"k7\" comes twice"), "{error}");
}

/// JSON values, those among them that a model of JSON cannot hold.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("1e999".to_owned()),
        Just(r#""\ud800""#.to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just("1.10".to_owned()),
        Just("-0".to_owned()),
        Just(format!("{}{}", "[".repeat(200), "]".repeat(200))),
        Just(r#"{"a" :1,"a":2 }"#.to_owned()),
        "[a-z\u{e9}]{0,6}".prop_map(|text| format!("\"{text}\"")),
        Just("null".to_owned()),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("[ {}]", all.join(" , "))),
            inner.prop_map(|value| format!("{{\"n\\u0061me\": {value} }}")),
        ]
    })
}

proptest! {
    /// Whatever others wrote into an entry of ours or beside it is there afterwards, byte for byte, whichever edit
    /// the entry goes through.
    #[test]
    fn foreign_json_keeps_its_bytes(
        fields in prop::collection::vec(any_json(), 0..4),
        notes in prop::collection::vec(prop_oneof![Just(r#""\ud800""#), Just(r#""\u0061b""#), Just("null")], 0..3),
        front in any::<bool>(),
        edit in 0..3_usize,
    ) {
        let fields: Vec<String> =
            fields.iter().enumerate().map(|(at, json)| format!("\"x\\u005f{at}\" :{json}")).collect();
        let notes: Vec<String> = notes.iter().enumerate().map(|(at, json)| format!("\"n{at}\": {json}")).collect();
        let ours = entry("one", "h.io/a:1", Some("1"), "linux/amd64");
        let mut annotations = vec![format!("\"{FULL_NAME}\":\"h.io/a:1\""), format!("\"{REF_NAME}\":\"1\"")];
        annotations.extend(notes.iter().cloned());
        let mut members = vec![
            r#""mediaType":"application/vnd.oci.image.manifest.v1+json""#.to_owned(),
            format!("\"digest\":\"{}\",\"size\":3", ours.digest),
            r#""platform":{"architecture":"amd64","y": 1.10,"os":"linux"}"#.to_owned(),
            format!("\"annotations\":{{{}}}", annotations.join(",")),
        ];
        let at = if front { 0 } else { members.len() };
        members.splice(at..at, fields.iter().cloned());
        let text = format!("{{\"schemaVersion\":2,\"manifests\":[{{{}}}]}}", members.join(","));
        let mut index = IndexDocument::parse(text.as_bytes()).unwrap();
        prop_assume!(index.entries()[0].descriptor().is_ok());
        match edit {
            0 => put(&mut index, &entry("two", "h.io/a:1", Some("new"), "linux/amd64")),
            1 => {
                let other = NewEntry::new(entry("b", "h.io/b:1", Some("1"), "linux/s390x"), Conflict::TakeOver);
                index.put(&other, |_| Extent::Whole).unwrap();
            }
            _ => {
                let old = index.entries()[0].clone();
                index.replace(&old, &Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"c"), 1)).unwrap();
            }
        }
        let written = index.entries()[0].json();
        for kept in fields.iter().chain(&notes).map(String::as_str).chain([r#""y": 1.10"#]) {
            prop_assert!(written.contains(kept), "{} in {}", kept, written);
        }
        let read = IndexDocument::parse(index.to_bytes()).unwrap();
        let descriptor = read.entries()[0].descriptor().unwrap();
        prop_assert_eq!(edit == 1, descriptor.digest == ours.digest);
        prop_assert_eq!(read.entries()[0].ref_name(), [Some("new"), None, Some("1")][edit]);
    }
}
