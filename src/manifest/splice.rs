//! Edits of JSON text that leave every byte alone that they are not about: the order of keys, white space, the way in
//! which numbers and strings are written, unknown fields.
//!
//! A document is never parsed into a model and written back, because whatever the model does not know, or writes in
//! another way, would be lost or changed under a digest that claims otherwise.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde_json::value::RawValue;

use super::document::{self, Fault};

/// The members of an object, in order, each value where it stands in the text.
pub(super) struct Members<'a> {
    object: &'a RawValue,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Members<'a> {
    /// Reads an object, whatever its keys are.
    pub(super) fn read(object: &'a RawValue) -> Result<Self, Fault> {
        let mut members = Vec::new();
        document::members(object, |key, value| {
            members.push((key, value));
            Ok(())
        })?;
        Ok(Self { object, members })
    }

    /// The value under a key; of several the last, which is the one that counts for Go tools.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.members.iter().rev().find(|(held, _)| held == key).map(|(_, value)| *value)
    }

    /// All members in order, one that comes twice included.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.members.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// The keys of all members, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(key, _)| key.as_ref())
    }
}

/// A text and the edits that are to be made in it.
pub(super) struct Splice<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'a> Splice<'a> {
    /// Nothing to edit yet.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, edits: Vec::new() }
    }

    /// Where a value that was read out of the text stands in it.
    fn place(&self, value: &RawValue) -> Range<usize> {
        let start = value.get().as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        let place = start..start.wrapping_add(value.get().len());
        assert!(
            self.text.get(place.clone()) == Some(value.get()),
            "invariant: the value is a part of the text"
        );
        place
    }

    /// Writes JSON in the place of a value.
    pub(super) fn replace(&mut self, value: &RawValue, json: String) {
        let place = self.place(value);
        if self.text[place.clone()] != json {
            self.edits.push((place, json));
        }
    }

    /// Sets a member: in the place of the one that is there, else as the object's first.
    pub(super) fn set(&mut self, members: &Members<'_>, key: &str, json: String) {
        if let Some(value) = members.get(key) {
            return self.replace(value, json);
        }
        let at = self.place(members.object).start + 1;
        let comma = if members.members.is_empty() { "" } else { "," };
        self.edits.push((at..at, format!("{}:{json}{comma}", quoted(key))));
    }

    /// Writes a new member behind another one.
    pub(super) fn insert_after(&mut self, value: &RawValue, key: &str, json: &str) {
        let at = self.place(value).end;
        self.edits.push((at..at, format!(",{}:{json}", quoted(key))));
    }

    /// Takes members out of an object that keeps others.
    pub(super) fn remove(&mut self, members: &Members<'_>, keys: &HashSet<&str>) {
        // A member reaches from the end of the one before it, so that its comma goes with it.
        let mut start = self.place(members.object).start + 1;
        let mut is_first = true;
        for (key, value) in &members.members {
            let end = self.place(value).end;
            if keys.contains(key.as_ref()) {
                self.edits.push((start..end, String::new()));
            } else if std::mem::take(&mut is_first)
                && let Some(rest) = self.text[start..end].trim_start().strip_prefix(',')
            {
                // Nothing is left before it.
                self.edits.push((start..end - rest.len(), String::new()));
            }
            start = end;
        }
    }

    /// Sets members, each in the place of the one that is there, else behind all others, and takes out those for which there
    /// is nothing. Values that stay may be edited besides.
    pub(super) fn edit(&mut self, members: &Members<'_>, fields: &[(&str, Option<String>)]) {
        let gone: HashSet<&str> =
            fields.iter().filter(|(_, json)| json.is_none()).map(|(key, _)| *key).collect();
        let Some((_, last)) = members.iter().filter(|(key, _)| !gone.contains(key)).last() else {
            let set =
                fields.iter().filter_map(|(key, json)| Some(format!("{}:{}", quoted(key), json.as_ref()?)));
            let set: Vec<String> = set.collect();
            return self.replace(members.object, format!("{{{}}}", set.join(",")));
        };
        self.remove(members, &gone);
        let held: HashMap<&str, &RawValue> = members.iter().collect();
        for (key, json) in fields.iter().filter_map(|(key, json)| Some((key, json.as_ref()?))) {
            match held.get(key) {
                Some(value) => self.replace(value, json.clone()),
                None => self.insert_after(last, key, json),
            }
        }
    }

    /// The text with all edits made. No two of them may overlap.
    pub(super) fn finish(mut self) -> String {
        self.edits.sort_by_key(|(place, _)| (place.start, place.end));
        let mut edited = String::with_capacity(self.text.len());
        let mut end = 0;
        for (place, json) in &self.edits {
            edited.push_str(&self.text[end..place.start]);
            edited.push_str(json);
            end = place.end;
        }
        edited.push_str(&self.text[end..]);
        edited
    }
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("invariant: a string serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, edit: impl FnOnce(&mut Splice<'_>, &Members<'_>)) -> String {
        let value: &RawValue = serde_json::from_str(text).unwrap();
        let members = Members::read(value).unwrap_or_else(|_| panic!("an object: {text}"));
        let mut splice = Splice::new(text);
        edit(&mut splice, &members);
        splice.finish()
    }

    /// What is set changes in its place, what is new comes first, and all else keeps its bytes.
    #[test]
    fn members_are_set() {
        let cases = [
            (r#" {"a": 1.50e3 ,"k" : "old", "z":{"k":2}} "#, r#" {"a": 1.50e3 ,"k" : "new", "z":{"k":2}} "#),
            (r#"{"\u006b":null}"#, r#"{"\u006b":"new"}"#),
            (r#"{"k":1,"k":2}"#, r#"{"k":1,"k":"new"}"#),
            ("{}", r#"{"k":"new"}"#),
            ("{ }", r#"{"k":"new" }"#),
            ("{\n  \"a\": 1\n}", "{\"k\":\"new\",\n  \"a\": 1\n}"),
        ];
        for (text, wanted) in cases {
            assert_eq!(edited(text, |splice, members| splice.set(members, "k", quoted("new"))), wanted);
        }
    }

    /// Wherever the removed members stand, commas stay right.
    #[test]
    fn members_are_removed() {
        let cases = [
            (r#"{"x":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{ "x":1 , "y":[1,2] , "a":2}"#, r#"{ "a":2}"#),
            (r#"{"a":1,"x":2}"#, r#"{"a":1}"#),
            (r#"{"a":1 , "x":2 ,"b":3, "y":4 }"#, r#"{"a":1 ,"b":3 }"#),
            (r#"{"x":1,"a":2,"y":3,"b":4}"#, r#"{"a":2,"b":4}"#),
            (r#"{"a":1}"#, r#"{"a":1}"#),
        ];
        for (text, wanted) in cases {
            let found = edited(text, |splice, members| splice.remove(members, &HashSet::from(["x", "y"])));
            assert!(serde_json::from_str::<serde_json::Value>(&found).is_ok(), "{found}");
            assert_eq!(found, wanted);
        }
        let both = edited(r#"{"x":1,"a":2}"#, |splice, members| {
            splice.remove(members, &HashSet::from(["x"]));
            splice.set(members, "k", "3".to_owned());
            splice.set(members, "a", "4".to_owned());
        });
        assert_eq!(both, r#"{"k":3,"a":4}"#);
    }
}
