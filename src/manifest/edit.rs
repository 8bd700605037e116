//! Edits of a descriptor that others may have written too, such as an entry of a layout's `index.json`, in its text.
//!
//! Guarantee: whatever an edit is not about keeps its bytes: unknown fields, annotations of others, numbers and strings in
//! whichever way they are written. What cannot be edited is an error, and is never replaced by something empty.

use serde_json::value::RawValue;

use super::document::{self, Fault};
use super::splice::{Members, Splice, quoted};
use super::{Descriptor, ManifestError};
use crate::platform::Platform;

/// What messages call the text.
const NAME: &str = "descriptor";

/// The annotations of a descriptor.
const ANNOTATIONS: &str = "annotations";

/// `new` laid over the JSON of a descriptor. Every field that a descriptor has is the new one's afterwards; of the
/// annotations those are that `is_ours` names, and those that the new one has. All else stays.
///
/// # Errors
/// [`ManifestError`] when the text is no JSON object, or has something else where a descriptor has one.
pub(crate) fn laid_over(
    json: &str,
    new: &Descriptor,
    is_ours: impl Fn(&str) -> bool,
) -> Result<String, ManifestError> {
    edited(json, |splice, root| {
        let members = Members::read(root)?;
        let text = |text: &Option<String>| text.as_deref().map(quoted);
        let list = |list: &[String]| (!list.is_empty()).then(|| written(list));
        let media_type = Some(new.media_type.as_str()).filter(|text| !text.is_empty());
        let mut fields = vec![
            ("mediaType", media_type.map(quoted)),
            ("digest", Some(quoted(&new.digest.to_string()))),
            ("size", Some(new.size.to_string())),
            ("urls", list(&new.urls)),
            ("data", text(&new.data)),
            ("artifactType", text(&new.artifact_type)),
        ];
        let held = |key: &str| members.get(key).filter(|held| !document::is_null(held));
        match (held("platform"), &new.platform) {
            (Some(held), Some(platform)) => splice.edit(&Members::read(held)?, &platform_fields(platform)),
            (None, Some(platform)) => fields.push(("platform", Some(written(platform)))),
            (_, None) => fields.push(("platform", None)),
        }
        match held(ANNOTATIONS) {
            Some(held) => {
                let held = Members::read(held)?;
                let gone = held.keys().filter(|key| is_ours(key) && !new.annotations.contains_key(*key));
                let gone = gone.map(|key| (key, None));
                let set = new.annotations.iter().map(|(key, text)| (key.as_str(), Some(quoted(text))));
                splice.edit(&held, &gone.chain(set).collect::<Vec<_>>());
            }
            None if new.annotations.is_empty() => {}
            None => fields.push((ANNOTATIONS, Some(written(&new.annotations)))),
        }
        splice.edit(&members, &fields);
        Ok(())
    })
}

/// A descriptor's JSON with some of its annotations saying something else, or gone; where it has no annotations it gets none.
///
/// # Errors
/// As [`laid_over`].
pub(crate) fn annotated(json: &str, changes: &[(&str, Option<&str>)]) -> Result<String, ManifestError> {
    edited(json, |splice, root| {
        let changes: Vec<_> = changes.iter().map(|(key, text)| (*key, text.map(quoted))).collect();
        for annotations in all_annotations(&Members::read(root)?) {
            splice.edit(&Members::read(annotations)?, &changes);
        }
        Ok(())
    })
}

/// What a text that need not be a descriptor says under an annotation, to the most lenient of readers.
pub(crate) fn annotation(json: &str, key: &str) -> Option<String> {
    let members = Members::read(document::value(json, NAME).ok()?).ok()?;
    let texts = all_annotations(&members)
        .filter_map(|annotations| document::text(Members::read(annotations).ok()?.get(key)?).ok());
    texts.last()
}

/// Annotations under whichever spelling of their key some reader takes for it.
fn all_annotations<'a>(members: &Members<'a>) -> impl Iterator<Item = &'a RawValue> {
    let named = members.iter().filter(|(key, _)| document::folded(key) == ANNOTATIONS);
    named.map(|(_, value)| value).filter(|value| !document::is_null(value))
}

fn platform_fields(platform: &Platform) -> [(&'static str, Option<String>); 5] {
    let text = |text: &Option<String>| text.as_deref().map(quoted);
    let features = &platform.os_features;
    [
        ("architecture", Some(quoted(&platform.architecture))),
        ("os", Some(quoted(&platform.os))),
        ("os.version", text(&platform.os_version)),
        ("os.features", (!features.is_empty()).then(|| written(features))),
        ("variant", text(&platform.variant)),
    ]
}

fn edited<'a>(
    json: &'a str,
    edit: impl FnOnce(&mut Splice<'a>, &'a RawValue) -> Result<(), Fault>,
) -> Result<String, ManifestError> {
    let root = document::value(document::utf8(json.as_bytes(), NAME)?, NAME)?;
    let mut splice = Splice::new(json);
    edit(&mut splice, root).map_err(|fault| fault.in_document(NAME))?;
    Ok(splice.finish())
}

fn written<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("invariant: texts and maps of texts serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::manifest::MediaType;

    fn new() -> Descriptor {
        let mut new = Descriptor::new(MediaType::OCI_MANIFEST, Digest::sha256(b"new"), 3);
        new.annotations.insert("ours.a".to_owned(), "1".to_owned());
        new.platform = "linux/arm64".parse().ok();
        new
    }

    /// Whatever stands where, the new fields are there, ours that are not new are gone, and all else keeps its bytes.
    #[test]
    fn all_that_is_not_ours_keeps_its_bytes() {
        let digest = Digest::sha256(b"new");
        let fields = format!(
            r#""mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":3"#
        );
        let platform = r#""platform":{"architecture":"arm64","os":"linux"}"#;
        let ours = r#""annotations":{"ours.a":"1"}"#;
        let cases = [
            ("{}".to_owned(), format!("{{{fields},{platform},{ours}}}")),
            (
                r#"{"data":"","size":1, "urls":[]}"#.to_owned(),
                format!("{{{fields},{platform},{ours}}}"),
            ),
            (
                r#"{"x": 1e999, "urls":["u"],"annotations" : null}"#.to_owned(),
                format!(r#"{{"x": 1e999,{fields},{platform},"annotations" : {{"ours.a":"1"}}}}"#),
            ),
            (
                r#"{"annotations":{"ours.b":"2","k": "\ud800" ,"ours.a":"0"},"platform":{"x":1.10,"os":"linux","variant":"v7","architecture":"arm"}}"#.to_owned(),
                format!(
                    r#"{{"annotations":{{"k": "\ud800" ,"ours.a":"1"}},"platform":{{"x":1.10,"os":"linux","architecture":"arm64"}},{fields}}}"#
                ),
            ),
            (
                r#"{"annotations":{"ours.b":"2"}}"#.to_owned(),
                format!("{{{ours},{fields},{platform}}}"),
            ),
        ];
        for (json, wanted) in cases {
            let found = laid_over(&json, &new(), |key| key.starts_with("ours.")).unwrap();
            let read = Descriptor::from_json(&found).unwrap_or_else(|error| panic!("{found}: {error}"));
            assert_eq!((read.digest, read.size, read.platform, read.data), (digest, 3, new().platform, None));
            assert_eq!(read.annotations["ours.a"], "1");
            let (mut found_parts, mut wanted_parts) = (parts(&found), parts(&wanted));
            found_parts.sort_unstable();
            wanted_parts.sort_unstable();
            assert_eq!(found_parts, wanted_parts, "{json}");
            assert_eq!(laid_over(&found, &new(), |key| key.starts_with("ours.")).unwrap(), found);
        }
        assert!(laid_over("[]", &new(), |_| true).is_err());
        assert!(laid_over(r#"{"annotations":[]}"#, &new(), |_| true).is_err());
        assert!(laid_over(r#"{"platform":"linux"}"#, &new(), |_| true).is_err());
    }

    /// The members of an object as they are written.
    fn parts(json: &str) -> Vec<String> {
        let root = document::value(json, NAME).unwrap();
        let Ok(members) = Members::read(root) else { panic!("an object: {json}") };
        members.iter().map(|(key, value)| format!("{key}:{}", value.get())).collect()
    }

    /// A name is read, and taken away, also where the rest is no descriptor.
    #[test]
    fn an_annotation_is_found_and_taken_away() {
        let cases = [
            (r#"{"annotations":{"k":"v"}}"#, Some("v"), r#"{"annotations":{}}"#),
            (r#"{"annotations":{"k":"u","x": 1,"k":"v"}}"#, Some("v"), r#"{"annotations":{"x": 1}}"#),
            (
                r#"{"y":1e999,"Annotations":{"x":[],"k":"v" }}"#,
                Some("v"),
                r#"{"y":1e999,"Annotations":{"x":[] }}"#,
            ),
            (r#"{"annotations":{"k":1}}"#, None, r#"{"annotations":{}}"#),
            (r#"{"annotations":null}"#, None, r#"{"annotations":null}"#),
            (r#"{"k":"v"}"#, None, r#"{"k":"v"}"#),
        ];
        for (json, text, without) in cases {
            assert_eq!(annotation(json, "k").as_deref(), text, "{json}");
            assert_eq!(annotated(json, &[("k", None)]).unwrap(), without);
        }
        assert_eq!(annotation("[]", "k"), None);
        assert!(annotated("[]", &[("k", None)]).is_err());
        let json = r#"{"annotations":{"a" :"1", "b":"\ud800"}}"#;
        let wanted = r#"{"annotations":{"a" :"2", "b":"\ud800"}}"#;
        assert_eq!(annotated(json, &[("a", Some("2")), ("c", None)]).unwrap(), wanted);
    }
}
