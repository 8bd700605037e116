//! What stands in a layout: its index, which belongs to everybody, and the journals of staged blobs.

use std::collections::BTreeMap;

use ocipull::digest::Digest;
use ocipull::layout::fuzzing;
use ocipull::layout::index::{
    Conflict, Entry, Extent, FULL_NAME, GIVEN_DIGEST, GIVEN_NAME, IndexDocument, NewEntry, PLATFORMS,
    PutError, REF_NAME, SOURCE_DIGEST,
};
use ocipull::manifest::{Descriptor, MediaType};
use ocipull::platform::Platform;
use serde_json::value::RawValue;

use super::{PAGE, assert_fit, assert_shown, text};

/// The members of an object, each as it is written.
type Members = BTreeMap<String, Box<RawValue>>;

/// An `index.json`, and on its own page two bytes for each edit.
///
/// An edit puts in what is new and takes out what gives way to it, and everything else, whoever wrote it, keeps its bytes
/// and its order. The same edit again changes nothing.
pub fn index_json(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == PAGE as u8).unwrap_or(data.len());
    let mut document = match IndexDocument::parse(&data[..at]) {
        Ok(document) => document,
        Err(reason) => return assert_shown(&reason),
    };
    let written = document.to_bytes();
    assert_eq!(members(&written), members(&data[..at]));
    assert_eq!(IndexDocument::parse(written.clone()).map(|again| again.to_bytes()), Ok(written));
    for edit in data.get(at + 1..).unwrap_or_default().chunks_exact(2).take(6) {
        let (new, extent) = (entry(edit[0], edit[1]), extent(edit[1]));
        if edit[1] & 0x80 != 0 {
            check_replacement(&mut document, usize::from(edit[0]), &new.descriptor);
        } else {
            check_edit(&mut document, &new, &extent);
        }
    }
}

/// The members of a document; those of `manifests` that are no list, null say, count as an empty one.
fn members(document: &[u8]) -> (BTreeMap<String, String>, Vec<String>) {
    let mut members: Members = serde_json::from_slice(document).expect("an index that was read");
    let manifests = members.remove("manifests").expect("an index has a list");
    let entries: Option<Vec<Box<RawValue>>> =
        serde_json::from_str(manifests.get()).expect("an index has a list");
    let written = |raw: Box<RawValue>| raw.get().to_owned();
    let members = members.into_iter().map(|(key, raw)| (key, written(raw))).collect();
    (members, entries.unwrap_or_default().into_iter().map(written).collect())
}

/// One of a few new entries, so that edits meet each other.
fn entry(one: u8, other: u8) -> NewEntry {
    let digest = Digest::sha256(&[b'0' + (one >> 4 & 3)]);
    let is_index = other & 0x40 != 0;
    let media_type = if is_index { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST };
    let mut descriptor = Descriptor::new(media_type, digest, u64::from(one >> 4 & 3) + 1);
    let names = [
        "docker.io/library/alpine:3.20",
        "docker.io/library/alpine:edge",
        "quay.io/team/app:1",
        "quay.io/team/app@sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c",
    ];
    descriptor.annotations.insert(FULL_NAME.to_owned(), names[usize::from(one & 3)].to_owned());
    if let Some(name) = ["3.20", "edge", "1"].get(usize::from(one >> 2 & 3)) {
        descriptor.annotations.insert(REF_NAME.to_owned(), (*name).to_owned());
    }
    let platforms = [None, Some("linux/amd64"), Some("linux/arm64"), Some("linux/arm/v7")];
    let platform = platforms[usize::from(other & 3)];
    let conflict = [Conflict::Refuse, Conflict::TakeOver, Conflict::Yield][usize::from(other >> 2 & 3) % 3];
    let mut new = NewEntry::new(descriptor, conflict);
    let platform = platform.and_then(|platform| platform.parse::<Platform>().ok());
    if is_index {
        new.covers = platform.into_iter().collect();
        let covered: Vec<String> = new.covers.iter().map(Platform::specifier).collect();
        if other & 0x20 != 0 {
            new.descriptor.annotations.insert(PLATFORMS.to_owned(), covered.join(","));
        }
    } else {
        new.descriptor.platform = platform;
    }
    new
}

fn extent(byte: u8) -> Extent {
    if byte & 0x10 == 0 { Extent::Whole } else { Extent::Platforms(vec![Platform::new("linux", "s390x")]) }
}

fn check_edit(document: &mut IndexDocument, new: &NewEntry, extent: &Extent) {
    let (fields, before) = members(&document.to_bytes());
    let held = document.entries().to_vec();
    let holder = document.holder(new);
    let wanted = new.descriptor.annotations.get(REF_NAME);
    let put = match document.put(new, |_| extent.clone()) {
        Ok(put) => put,
        Err(error) => {
            assert_eq!(members(&document.to_bytes()), (fields, before), "a refused edit is none");
            assert_shown(&error.to_string());
            match error {
                PutError::Taken(taken) => {
                    assert_shown(&taken.shown);
                    assert!(new.conflict == Conflict::Refuse && holder == Some(taken));
                }
                PutError::Entry(error) => assert_fit(&error),
                other => panic!("{other:?} is no error that is known"),
            }
            return;
        }
    };
    let has = |name: &str| document.entries().iter().any(|entry| entry.ref_name() == Some(name));
    for before in held.iter().filter_map(Entry::ref_name).filter(|name| !has(name)) {
        assert!(put.gone.iter().any(|gone| gone == before), "{before} went without a word for {new:?}");
    }
    assert!(put.gone.len() <= held.len() && (put.is_change || put.gone.is_empty()));
    let (fields_after, after) = members(&document.to_bytes());
    assert_eq!(fields_after, fields);
    assert!(after.len() <= before.len() + 1);
    let named = wanted.map(String::as_str).filter(|_| new.conflict != Conflict::Yield || holder.is_none());
    let is_it = |entry: &Entry| is_the_new(entry, &new.descriptor) && entry.ref_name() == named;
    let at = document.entries().iter().position(is_it).expect("it is there");
    check_new(&document.entries()[at], new, holder.is_some());
    check_rest(held.iter().zip(&before), &after, at, new, holder.is_some());
    if new.conflict != Conflict::Yield {
        assert_eq!(document.holder(new), None);
    }
    let once = document.to_bytes();
    document.put(new, |_| extent.clone()).expect("the same edit again");
    assert_eq!(document.to_bytes(), once, "{new:?} again");
}

/// All but the new entry, which stands at `at`, is as it was, gave way to it, or lost just what it had to.
fn check_rest<'a>(
    held: impl Iterator<Item = (&'a Entry, &'a String)>,
    after: &[String],
    at: usize,
    new: &NewEntry,
    is_taken: bool,
) {
    let (name, wanted) =
        (new.descriptor.annotations.get(FULL_NAME), new.descriptor.annotations.get(REF_NAME));
    let is_lost = |entry: &Entry| {
        let ours = entry.full_name().is_some() && entry.full_name() == name.map(String::as_str);
        let same = entry.full_name().is_none()
            && entry.descriptor().is_ok_and(|held| held.digest == new.descriptor.digest);
        ours || same
    };
    let mut rest = after.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, raw)| raw).peekable();
    for (entry, raw) in held {
        if rest.peek() == Some(&raw) {
            rest.next();
            continue;
        }
        let loses_name = new.conflict == Conflict::TakeOver
            && is_taken
            && entry.ref_name().is_some()
            && entry.ref_name() == wanted.map(String::as_str);
        if loses_name && rest.peek().is_some_and(|after| is_without_name(entry, raw, after)) {
            rest.next();
            continue;
        }
        let became = |after: &&String| {
            has_name_of_its_own(entry) && is_pinned(entry, raw, after)
                || entry.is_changed() && is_without_full_name(raw, after)
                || entry.full_name() == name.map(String::as_str) && follows(entry, new, after)
        };
        if rest.peek().is_some_and(became) {
            rest.next();
            continue;
        }
        assert!(
            !has_name_of_its_own(entry) || entry.ref_name() == wanted.map(String::as_str),
            "{raw} lost its name"
        );
        assert!(is_lost(entry), "{raw} went for {new:?}");
    }
    assert_eq!(rest.next(), None, "something came that nobody put there");
}

fn is_the_new(entry: &Entry, new: &Descriptor) -> bool {
    entry.full_name() == new.annotations.get(FULL_NAME).map(String::as_str)
        && entry.descriptor().is_ok_and(|held| {
            (&held.digest, held.size, &held.media_type, &held.platform)
                == (&new.digest, new.size, &new.media_type, &new.platform)
        })
}

fn check_new(entry: &Entry, new: &NewEntry, is_taken: bool) {
    let held = entry.descriptor().expect("an entry that was just written");
    assert_eq!((&held.urls, &held.data, &held.artifact_type), (&Vec::new(), &None, &None));
    for (key, text) in &new.descriptor.annotations {
        let is_yielded = key == REF_NAME && new.conflict == Conflict::Yield && is_taken;
        if key != PLATFORMS && !is_yielded {
            assert_eq!(held.annotations.get(key), Some(text), "{key}");
        }
    }
}

/// Whether another tool gave an entry its short name.
fn has_name_of_its_own(entry: &Entry) -> bool {
    let Ok(held) = entry.descriptor() else { return false };
    let given = held.annotations.get(GIVEN_NAME);
    given.is_some() && entry.ref_name().is_some() && given.map(String::as_str) != entry.ref_name()
}

/// Whether the second is the first without its short name, all else as it is written.
fn is_without_name(entry: &Entry, before: &str, after: &str) -> bool {
    // What another tool changed loses the full name as well, where that is the new one's.
    let but: &[&str] =
        if entry.is_changed() { &[REF_NAME, GIVEN_NAME, FULL_NAME] } else { &[REF_NAME, GIVEN_NAME] };
    alone(after).is_none_or(|entry| entry.ref_name().is_none()) && parts(before, but) == parts(after, but)
}

/// Whether the second is the first with its digest, or that of what it was made of, in its full name, all else as it is written.
fn is_pinned(entry: &Entry, before: &str, after: &str) -> bool {
    let (Ok(held), Some(after_entry)) = (entry.descriptor(), alone(after)) else { return false };
    let source = held.annotations.get(SOURCE_DIGEST).cloned();
    let digests = [Some(held.digest.to_string()), source];
    let digest = after_entry.full_name().and_then(|name| Some(name.split_once('@')?.1.to_owned()));
    digest.is_some() && digests.contains(&digest) && parts(before, &[FULL_NAME]) == parts(after, &[FULL_NAME])
}

/// Whether the second is the first without its full name, all else as it is written.
fn is_without_full_name(before: &str, after: &str) -> bool {
    let has_name =
        |entry: Entry| entry.descriptor().is_ok_and(|held| held.annotations.contains_key(FULL_NAME));
    !alone(after).is_some_and(has_name) && parts(before, &[FULL_NAME]) == parts(after, &[FULL_NAME])
}

/// Whether an entry became one of the new content under the name that it had.
fn follows(entry: &Entry, new: &NewEntry, after: &str) -> bool {
    alone(after).is_some_and(|after| {
        after.ref_name() == entry.ref_name()
            && after.full_name() == entry.full_name()
            && after.digest() == Some(new.descriptor.digest)
    })
}

/// The entry of an index that has just this one.
fn alone(entry: &str) -> Option<Entry> {
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
    IndexDocument::parse(text.as_bytes()).ok()?.entries().first().cloned()
}

/// The members of an entry and of what is in it, but those that are called so.
fn parts(json: &str, but: &[&str]) -> Option<Vec<(String, String)>> {
    let mut parts = Vec::new();
    for (key, value) in serde_json::from_str::<Members>(json).ok()? {
        match serde_json::from_str::<Members>(value.get()) {
            Ok(inner) => {
                parts.push((key.clone(), "an object".to_owned()));
                let inner = inner.into_iter().filter(|(inner, _)| !but.contains(&inner.as_str()));
                parts.extend(inner.map(|(inner, value)| (format!("{key} {inner}"), value.get().to_owned())));
            }
            // Keys that are no text to a plain reader make it no judge.
            Err(_) if value.get().starts_with('{') => parts.push((key, "an object".to_owned())),
            Err(_) => parts.push((key, value.get().to_owned())),
        }
    }
    Some(parts)
}

fn check_replacement(document: &mut IndexDocument, pick: usize, new: &Descriptor) {
    if document.entries().is_empty() {
        return;
    }
    let at = pick % document.entries().len();
    let old = document.entries()[at].clone();
    let (fields, before) = members(&document.to_bytes());
    let Ok(was) = old.descriptor() else {
        assert!(document.replace(&old, new).is_err());
        return;
    };
    assert_eq!(document.replace(&old, new), Ok(true));
    let (fields_after, after) = members(&document.to_bytes());
    assert_eq!((fields_after, after.len()), (fields, before.len()));
    // Of two entries with the same bytes the first is meant.
    let at = before.iter().position(|raw| *raw == before[at]).expect("it was there");
    for (index, (after, before)) in after.iter().zip(&before).enumerate() {
        assert!(index == at || after == before, "{before} became {after}");
    }
    let held = document.entries()[at].descriptor().expect("an entry that was just written").clone();
    let mut expected = was.clone();
    expected.annotations.remove(SOURCE_DIGEST);
    let Descriptor { media_type, digest, size, .. } = new.clone();
    expected = Descriptor { media_type, digest, size, data: None, urls: Vec::new(), ..expected };
    let mut found = held;
    assert!(found.annotations.remove(SOURCE_DIGEST).is_some());
    if was.annotations.get(GIVEN_DIGEST) == Some(&was.digest.to_string()) {
        expected.annotations.insert(GIVEN_DIGEST.to_owned(), new.digest.to_string());
    }
    assert_eq!(found, expected);
}

/// The blob of the journal, and a size that can be counted through.
const SIZE: u64 = 512;

/// Lines of a journal: `header` for the first one of the blob's, what starts with `!` as it stands, everything else with the
/// checksum that it must have.
///
/// A journal says what its sound lines say, up to the first that is not, and never a byte more: not when it is cut short
/// anywhere, not of another blob, and not past the blob's end.
pub fn journal(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let blob = Digest::sha256(b"blob");
    let header = format!("ocipull-journal 1 {blob} {SIZE}");
    let mut journal = String::new();
    let mut expected = Some(vec![false; usize::try_from(SIZE).unwrap_or_default()]);
    let mut is_sound = true;
    for (number, line) in text.split('\n').take(64).enumerate() {
        if let Some(raw) = line.strip_prefix('!') {
            journal.push_str(raw);
            // It may be sound all the same: then this model does not know.
            expected = expected.filter(|_| !is_sound);
            journal.push('\n');
            continue;
        }
        let content = if line == "header" { &header } else { line };
        journal.push_str(&fuzzing::journal_line(content));
        is_sound = match (number, content.split(' ').next()) {
            _ if !is_sound => false,
            (0, _) => content == header,
            (_, Some("owner")) => true,
            (_, Some("have")) => expected.as_mut().is_none_or(|bytes| note(bytes, content)),
            _ => false,
        };
    }
    check_journal(journal.as_bytes(), &blob, expected.as_deref());
}

/// Notes what a line says, and whether it says something.
fn note(bytes: &mut [bool], content: &str) -> bool {
    let words: Vec<&str> = content.split(' ').collect();
    let [_, start, end] = words[..] else { return false };
    let (Ok(start), Ok(end)) = (start.parse::<usize>(), end.parse::<usize>()) else { return false };
    let Some(range) = (start < end).then(|| bytes.get_mut(start..end)).flatten() else { return false };
    range.fill(true);
    true
}

fn check_journal(journal: &[u8], blob: &Digest, expected: Option<&[bool]>) {
    let (have, owner, sound) = fuzzing::journal(journal, blob, SIZE);
    assert!(sound <= journal.len() as u64);
    let ranges: Vec<_> = have.iter().collect();
    assert!(ranges.iter().all(|range| range.start < range.end && range.end <= SIZE));
    assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
    assert_eq!(have.len(), ranges.iter().map(|range| range.end - range.start).sum::<u64>());
    assert_eq!(have.frontier(), ranges.first().filter(|range| range.start == 0).map_or(0, |range| range.end));
    let has = |at: u64| ranges.iter().any(|range| range.contains(&at));
    if let Some(expected) = expected {
        let found: Vec<bool> = (0..SIZE).map(has).collect();
        assert_eq!(found, expected);
    }
    let sound_length = usize::try_from(sound).unwrap_or_default();
    assert_eq!(fuzzing::journal(&journal[..sound_length], blob, SIZE), (have.clone(), owner, sound));
    for cut in [journal.len() / 3, journal.len() / 2, journal.len().saturating_sub(1), sound_length / 2] {
        let (part, _, sound) = fuzzing::journal(&journal[..cut], blob, SIZE);
        assert!(sound <= cut as u64 && part.iter().all(|range| (range.start..range.end).all(has)));
    }
    let (other, _, sound) = fuzzing::journal(journal, &Digest::sha256(b"another"), SIZE);
    assert!(other.is_empty() && sound == 0);
    let (other, _, sound) = fuzzing::journal(journal, blob, SIZE - 1);
    assert!(other.is_empty() && sound == 0);
}
