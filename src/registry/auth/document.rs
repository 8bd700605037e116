//! A file of credentials as a document that is edited. Pure.
//!
//! What is not edited stays byte for byte as it was, fields that nobody here knows included; only the white space between
//! the fields of the file and of `auths` becomes what docker and podman write.

use std::fmt::Write as _;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The field that holds the entries.
const AUTHS: &str = "auths";

/// The fields of an object, in order, their values as they were written.
#[derive(Debug, Default)]
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl Fields {
    /// Where the `auths` stand that `AuthFile` reads: by their very name or else by the first that differs in case, and of several
    /// by one name the last.
    fn auths(&self) -> Option<usize> {
        let is_written = self.0.iter().any(|(name, _)| name == AUTHS);
        let mut names = self.0.iter().map(|(name, _)| name);
        let name =
            names.find(|name| if is_written { *name == AUTHS } else { name.eq_ignore_ascii_case(AUTHS) })?;
        self.0.iter().rposition(|(held, _)| held == name)
    }

    fn to_text(&self, depth: usize) -> String {
        if self.0.is_empty() {
            return "{}".to_owned();
        }
        let indent = "\t".repeat(depth);
        let mut text = String::from("{");
        for (position, (name, value)) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let _ = write!(text, "{comma}\n{indent}\t{}: {}", Value::from(name.as_str()), value.get());
        }
        let _ = write!(text, "\n{indent}}}");
        text
    }
}

/// A file's content, to be changed.
#[derive(Debug)]
pub(super) struct Document {
    fields: Fields,
    auths: Fields,
    is_changed: bool,
}

impl Document {
    /// Reads a text that `AuthFile::parse` accepts; an empty one is an empty document.
    pub(super) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let text = if text.trim_ascii().is_empty() { b"{}" } else { text };
        let fields: Fields = serde_json::from_slice(text)?;
        let auths: Option<Fields> = match fields.auths() {
            Some(at) => serde_json::from_str(fields.0[at].1.get())?,
            None => None,
        };
        Ok(Self { auths: auths.unwrap_or_default(), fields, is_changed: false })
    }

    /// Sets an entry, and removes the others that `is_same` finds to be another spelling of its key.
    pub(super) fn set(&mut self, key: &str, entry: &Value, is_same: impl Fn(&str) -> bool) {
        let entry = RawValue::from_string(pretty(entry)).expect("invariant: a value's text is JSON");
        let at = self.auths.0.iter().position(|(known, _)| known == key || is_same(known));
        self.auths.0.retain({
            let mut position = 0;
            move |(known, _)| {
                let is_first = at == Some(position);
                position += 1;
                is_first || !(known == key || is_same(known))
            }
        });
        match at {
            Some(at) => self.auths.0[at] = (key.to_owned(), entry),
            None => self.auths.0.push((key.to_owned(), entry)),
        }
        self.is_changed = true;
    }

    /// Removes the entries that `is_wanted` picks; the keys of those that held anything.
    pub(super) fn remove(&mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let before = self.auths.0.len();
        let mut removed = Vec::new();
        self.auths.0.retain(|(key, value)| {
            let is_removed = is_wanted(key);
            let is_empty =
                value.get().bytes().all(|byte| matches!(byte, b'{' | b'}' | b' ' | b'\t' | b'\n' | b'\r'));
            if is_removed && !is_empty {
                removed.push(key.clone());
            }
            !is_removed
        });
        self.is_changed |= self.auths.0.len() != before;
        removed
    }

    /// The text to write, where anything has changed.
    pub(super) fn into_text(mut self) -> Option<String> {
        if !self.is_changed {
            return None;
        }
        let auths = RawValue::from_string(self.auths.to_text(1)).expect("invariant: fields' text is JSON");
        match self.fields.auths() {
            Some(at) => self.fields.0[at].1 = auths,
            None => self.fields.0.push((AUTHS.to_owned(), auths)),
        }
        Some(self.fields.to_text(0) + "\n")
    }
}

/// An entry as docker indents it.
fn pretty(entry: &Value) -> String {
    let Value::Object(fields) = entry else { return entry.to_string() };
    let raw = |value: &Value| RawValue::from_string(value.to_string());
    let fields = fields.iter().filter_map(|(name, value)| Some((name.clone(), raw(value).ok()?)));
    Fields(fields.collect()).to_text(2)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::super::credential::Credentials;
    use super::super::file::{AuthFile, Candidate, FileForm};
    use super::*;

    /// Docker's file with settings that nobody here knows: the new entry is in, and the rest is as it was.
    #[test]
    fn what_is_not_edited_stays_as_it_was() {
        let before = "{\n\t\"HttpHeaders\": {\"A\" :  1.50},\n\t\"auths\": {\n\t\t\"other.example\": {  \"auth\":\
                      \"eDp5\", \"email\": \"\\u0041\" },\n\t\t\"r.example\": {}\n\t},\n\t\"big\": 123456789012345678901\n}";
        let mut document = Document::parse(before.as_bytes()).unwrap();
        document.set("r.example", &json!({"auth": "dTpw"}), |key| key == "r.example");
        let after = "{\n\t\"HttpHeaders\": {\"A\" :  1.50},\n\t\"auths\": {\n\t\t\"other.example\": {  \"auth\":\
                     \"eDp5\", \"email\": \"\\u0041\" },\n\t\t\"r.example\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t},\n\t\"big\": 123456789012345678901\n}\n";
        assert_eq!(document.into_text().as_deref(), Some(after));
    }

    /// One entry for a registry, however its key was spelled before: an old spelling would hide the new login.
    #[test]
    fn other_spellings_are_replaced() {
        let before =
            br#"{"auths": {"https://r.example/v1/": {"auth": "x"}, "a": {}, "r.example": {"auth": "y"}}}"#;
        let mut document = Document::parse(before).unwrap();
        document.set("r.example", &json!({}), |key| key.contains("r.example"));
        let after: Value = serde_json::from_str(&document.into_text().unwrap()).unwrap();
        assert_eq!(after, json!({"auths": {"r.example": {}, "a": {}}}));
    }

    /// Where `auths` stands several times, a login goes to those that are read, or it would be lost as soon as it is made.
    #[test]
    fn the_auths_that_are_read_are_edited() {
        for before in [
            r#"{"Auths": {}, "aUths": null}"#,
            r#"{"auths": {}, "Auths": {}}"#,
            r#"{"Auths": {}, "auths": {}, "AUTHS": {}}"#,
            r#"{"Auths": {"a": {}}, "x": 1, "Auths": {}, "AUTHS": {}}"#,
        ] {
            let mut document = Document::parse(before.as_bytes()).unwrap();
            document.set("r.example", &json!({"auth": "dTpw"}), |_| false);
            let text = document.into_text().unwrap();
            let file = AuthFile::parse(Path::new("f"), text.as_bytes(), FileForm::Auths).unwrap();
            assert!(matches!(&file.candidates("r.example", "a")[..], [Candidate::Found(_)]), "{before}");
        }
    }

    /// A file that is not there yet, or has no `auths`, gets them; nothing to do is nothing to write.
    #[test]
    fn empty_documents_and_removal() {
        for before in ["", "{}", "{\"auths\": null}"] {
            let mut document = Document::parse(before.as_bytes()).unwrap();
            document.set("r.example", &json!({"auth": "dTpw"}), |_| false);
            let text = document.into_text().unwrap();
            assert_eq!(
                text,
                "{\n\t\"auths\": {\n\t\t\"r.example\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t}\n}\n"
            );
            let mut document = Document::parse(text.as_bytes()).unwrap();
            assert_eq!(document.remove(|key| key == "other"), [""; 0]);
            assert!(document.into_text().is_none());
            let mut document = Document::parse(text.as_bytes()).unwrap();
            assert_eq!(document.remove(|key| key == "r.example"), ["r.example"]);
            assert_eq!(document.into_text().as_deref(), Some("{\n\t\"auths\": {}\n}\n"));
        }
        // A trace of a helper is removed, and was no login.
        let mut document = Document::parse(br#"{"auths": {"r.example": { }}}"#).unwrap();
        assert_eq!(document.remove(|_| true), [""; 0]);
        assert!(document.into_text().is_some());
    }

    proptest::proptest! {
        /// Whatever the file said before and whoever logs in: the credentials are found again, and so is all the rest.
        #[test]
        fn what_is_stored_is_found_again(
            user in "[^:\\x00]{1,20}",
            password in "[^\\x00]{1,20}",
            others in proptest::collection::btree_map("[a-z]{1,4}\\.example(/[a-z]{1,3})?", ".{0,8}", 0..4),
            setting in ".{0,10}",
        ) {
            let auths: serde_json::Map<String, Value> =
                others.iter().map(|(key, email)| (key.clone(), json!({ "email": email }))).collect();
            let before = json!({ "auths": auths, setting.clone(): setting.clone() });
            let mut document = Document::parse(before.to_string().as_bytes()).unwrap();
            let auth = STANDARD.encode(format!("{user}:{password}"));
            document.set("stored.example", &json!({ "auth": auth }), |_| false);
            let text = document.into_text().unwrap();
            let file = AuthFile::parse(Path::new("f"), text.as_bytes(), FileForm::Auths).unwrap();
            let found = file.candidates("stored.example", "a");
            let wanted = Credentials::Basic { username: user, password };
            proptest::prop_assert!(matches!(&found[..], [Candidate::Found(found)] if found.credentials == wanted));
            let mut after: Value = serde_json::from_str(&text).unwrap();
            after["auths"].as_object_mut().unwrap().remove("stored.example");
            proptest::prop_assert_eq!(after, before);
        }
    }
}
