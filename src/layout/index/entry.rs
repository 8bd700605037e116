//! One entry of `index.json`, and whether it is the same image as another.

use std::ops::Range;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::{
    FULL_NAME, GIVEN_DIGEST, GIVEN_NAME, INDEX_DIGEST, NewEntry, REF_NAME, REQUESTED_PLATFORM, Relation,
    SOURCE_DIGEST,
};
use crate::digest::Digest;
use crate::manifest::{Descriptor, ManifestError, edit};
use crate::platform::Platform;
use crate::reference::Reference;

/// One entry of `manifests`. Cheap to clone, so that an index of thousands can be edited again and again.
///
/// What is kept of it beside its text is what entries are looked for by. The rest is read out of the text where it is asked for: taken
/// apart it would be several times as large.
#[derive(Debug, Clone)]
pub struct Entry(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    text: Text,
    digest: Option<Digest>,
    full_name: Option<Box<str>>,
    ref_name: Option<Box<str>>,
    /// Another tool changed what ocipull had named.
    is_changed: bool,
}

#[derive(Debug)]
enum Text {
    /// A part of the text of an `index.json`.
    Part(Arc<String>, Range<usize>),
    /// Its own.
    Own(Box<str>),
}

impl Entry {
    /// The entry that is `part` of the text of an `index.json`.
    pub(super) fn part_of(text: &Arc<String>, part: Range<usize>) -> Self {
        Self::new(Text::Part(Arc::clone(text), part))
    }

    pub(super) fn of_text(json: String) -> Self {
        Self::new(Text::Own(json.into()))
    }

    fn new(text: Text) -> Self {
        let descriptor = Descriptor::from_json(text.as_str());
        let name = |key: &str| {
            let name = match &descriptor {
                Ok(descriptor) => descriptor.annotations.get(key).cloned(),
                // Other tools go by the name whatever else the entry says.
                Err(_) => edit::annotation(text.as_str(), key),
            };
            name.filter(|name| !name.is_empty()).map(String::into_boxed_str)
        };
        let (full_name, ref_name) = (name(FULL_NAME), name(REF_NAME));
        let descriptor = descriptor.ok();
        let is_changed = descriptor.as_ref().is_some_and(|held| {
            held.annotations.get(GIVEN_DIGEST).is_some_and(|given| *given != held.digest.to_string())
        });
        let digest = descriptor.map(|descriptor| descriptor.digest);
        Self(Arc::new(Parts { text, digest, full_name, ref_name, is_changed }))
    }

    /// The entry's descriptor, read out of its text.
    ///
    /// # Errors
    /// [`ManifestError`] when another tool wrote something that is no descriptor. Such an entry is kept as it is.
    pub fn descriptor(&self) -> Result<Descriptor, ManifestError> {
        Descriptor::from_json(self.json())
    }

    /// The digest that it names; `None` where it is no descriptor.
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest
    }

    /// The short name, `org.opencontainers.image.ref.name`; also of an entry that is no descriptor.
    pub fn ref_name(&self) -> Option<&str> {
        self.0.ref_name.as_deref()
    }

    /// The full canonical name, `io.containerd.image.name`; also of an entry that is no descriptor. None where another tool
    /// changed the image and kept its name.
    pub fn full_name(&self) -> Option<&str> {
        self.0.full_name.as_deref().filter(|_| !self.0.is_changed)
    }

    /// Whether another tool changed what ocipull had named: no registry has that.
    pub fn is_changed(&self) -> bool {
        self.0.is_changed
    }

    /// Whether another tool gave it its short name.
    pub fn is_named_by_others(&self) -> bool {
        let given = self.given_name();
        self.ref_name().is_some() && given.is_some_and(|given| Some(given.as_str()) != self.ref_name())
    }

    pub(super) fn is_named_by_us(&self) -> bool {
        self.given_name().is_some()
    }

    fn given_name(&self) -> Option<String> {
        self.descriptor().ok()?.annotations.remove(GIVEN_NAME)
    }

    pub(super) fn raw(&self) -> &RawValue {
        serde_json::from_str(self.json()).expect("invariant: an entry is JSON")
    }

    /// Its text.
    pub(super) fn json(&self) -> &str {
        self.0.text.as_str()
    }

    /// Whether the new entry stands for all that this one stands for, and takes its place.
    pub(super) fn gives_way_to(&self, new: &NewEntry) -> bool {
        self.is_about_same(new) && !self.has_name_beside(new)
    }

    /// Whether it stays beside a new entry that has its full name for other content.
    pub(super) fn outlives(&self, new: &NewEntry) -> bool {
        self.digest().is_some_and(|digest| digest != new.descriptor.digest)
            && self.is_about_same(new)
            && self.has_name_beside(new)
    }

    /// Whether it says the full name of the new entry of an image that another tool changed.
    pub(super) fn usurps(&self, new: &NewEntry) -> bool {
        self.is_changed() && self.0.full_name.as_deref() == new.annotation(FULL_NAME)
    }

    /// Its full name with a digest in place of the tag: of what the registry has, where it was converted.
    pub(super) fn name_by_digest(&self) -> Option<String> {
        let held = self.descriptor().ok()?;
        let source = held.annotations.get(SOURCE_DIGEST).and_then(|digest| digest.parse().ok());
        let reference = self.full_name()?.parse::<Reference>().ok()?;
        let digest = source.unwrap_or(held.digest);
        Some(Reference::new(reference.repository().clone(), None, Some(digest)).full_name())
    }

    fn is_about_same(&self, new: &NewEntry) -> bool {
        self.is_same_as(&new.descriptor) || self.is_covered_by(new)
    }

    /// Whether another tool gave it a short name that the new entry does not have.
    fn has_name_beside(&self, new: &NewEntry) -> bool {
        self.ref_name() != new.annotation(REF_NAME) && self.is_named_by_others()
    }

    /// Whether it is one platform of what the new entry has as an index.
    fn is_covered_by(&self, new: &NewEntry) -> bool {
        if self.full_name().is_none() || self.full_name() != new.annotation(FULL_NAME) {
            return false;
        }
        let Ok(held) = self.descriptor() else { return false };
        let Some(platform) = held.platform.as_ref().map(Platform::normalize) else { return false };
        new.covers.iter().any(|covered| covered.normalize() == platform)
    }

    /// Whether both are the same image for the same platform, as it was asked for or as it was found.
    pub(super) fn is_same_as(&self, new: &Descriptor) -> bool {
        match (self.full_name(), new.annotations.get(FULL_NAME)) {
            (Some(name), Some(wanted)) if name == wanted => {
                self.descriptor().is_ok_and(|held| same_platform(&held, new) || was_index_of(&held, new))
            }
            // Another tool's entry for the same bytes under the same short name becomes ours.
            (None, Some(_)) => {
                self.digest() == Some(new.digest)
                    && self
                        .ref_name()
                        .is_none_or(|name| new.annotations.get(REF_NAME).is_some_and(|new| new == name))
            }
            _ => false,
        }
    }

    pub(super) fn relation_to(&self, new: &NewEntry) -> Relation {
        match self.descriptor() {
            Ok(held) if self.full_name() == new.annotation(FULL_NAME) => {
                if held.media_type.is_index() {
                    Relation::ItsIndex
                } else {
                    Relation::OtherPlatform
                }
            }
            _ => Relation::OtherImage,
        }
    }

    pub(super) fn shown(&self) -> String {
        let Ok(descriptor) = self.descriptor() else { return "an entry that is no descriptor".to_owned() };
        let name = self.full_name().map_or_else(|| descriptor.digest.to_string(), crate::text::printable);
        match &descriptor.platform {
            Some(platform) => format!("{name} ({})", crate::text::printable(&platform.to_string())),
            None if descriptor.media_type.is_index() => format!("{name} (an index of several platforms)"),
            None => name,
        }
    }
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Self::Part(text, part) => &text[part.clone()],
            Self::Own(text) => text,
        }
    }
}

/// Whether both are for the same platform, or stand for the same one that was asked for: what a tag has for it may be
/// one fallback today, and another or the very platform tomorrow.
fn same_platform(held: &Descriptor, new: &Descriptor) -> bool {
    let normal = |descriptor: &Descriptor| descriptor.platform.as_ref().map(Platform::normalize);
    let (held_platform, new_platform) = (normal(held), normal(new));
    let asked = |descriptor: &Descriptor, found: &Option<Platform>| {
        let annotated = descriptor.annotations.get(REQUESTED_PLATFORM).filter(|text| !text.is_empty());
        annotated.cloned().or_else(|| found.as_ref().map(Platform::specifier))
    };
    let was_asked = asked(held, &held_platform);
    held_platform == new_platform || (was_asked.is_some() && was_asked == asked(new, &new_platform))
}

/// Whether the name stood for an index and now stands for a single image.
fn was_index_of(held: &Descriptor, new: &Descriptor) -> bool {
    held.media_type.is_index()
        && held.platform.is_none()
        && !new.media_type.is_index()
        && !new.annotations.contains_key(INDEX_DIGEST)
}
