//! One entry of `index.json`, and whether it is the same image as another.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{
    FULL_NAME, GIVEN_NAME, INDEX_DIGEST, NewEntry, REF_NAME, REQUESTED_PLATFORM, Relation, SOURCE_DIGEST,
};
use crate::manifest::{Descriptor, ManifestError, edit};
use crate::platform::Platform;
use crate::reference::Reference;

/// One entry of `manifests`. Cheap to clone, so that an index of thousands can be edited again and again.
#[derive(Debug, Clone)]
pub struct Entry(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    raw: Box<RawValue>,
    descriptor: Result<Descriptor, ManifestError>,
    full_name: Option<String>,
    ref_name: Option<String>,
}

impl Entry {
    pub(super) fn new(raw: Box<RawValue>) -> Self {
        let descriptor = Descriptor::from_json(raw.get());
        let name = |key: &str| {
            let name = match &descriptor {
                Ok(descriptor) => descriptor.annotations.get(key).cloned(),
                // Other tools go by the name whatever else the entry says.
                Err(_) => edit::annotation(raw.get(), key),
            };
            name.filter(|name| !name.is_empty())
        };
        let (full_name, ref_name) = (name(FULL_NAME), name(REF_NAME));
        Self(Arc::new(Parts { raw, descriptor, full_name, ref_name }))
    }

    pub(super) fn of_text(json: String) -> Self {
        Self::new(RawValue::from_string(json).expect("invariant: an edited object is JSON"))
    }

    /// The entry's descriptor.
    ///
    /// # Errors
    /// [`ManifestError`] when another tool wrote something that is no descriptor. Such an entry is kept as it is.
    pub fn descriptor(&self) -> Result<&Descriptor, &ManifestError> {
        self.0.descriptor.as_ref()
    }

    /// The short name, `org.opencontainers.image.ref.name`; also of an entry that is no descriptor.
    pub fn ref_name(&self) -> Option<&str> {
        self.0.ref_name.as_deref()
    }

    /// The full canonical name, `io.containerd.image.name`; also of an entry that is no descriptor.
    pub fn full_name(&self) -> Option<&str> {
        self.0.full_name.as_deref()
    }

    pub(super) fn raw(&self) -> &RawValue {
        &self.0.raw
    }

    /// Its text.
    pub(super) fn json(&self) -> &str {
        self.0.raw.get()
    }

    /// Whether the new entry stands for all that this one stands for, and takes its place.
    pub(super) fn gives_way_to(&self, new: &NewEntry) -> bool {
        self.is_about_same(new) && !self.has_name_beside(new)
    }

    /// Whether it stays beside a new entry that has its full name for other content.
    pub(super) fn outlives(&self, new: &NewEntry) -> bool {
        let is_other = self.0.descriptor.as_ref().is_ok_and(|held| held.digest != new.descriptor.digest);
        is_other && self.is_about_same(new) && self.has_name_beside(new)
    }

    /// Its full name with a digest in place of the tag: of what the registry has, where it was converted.
    pub(super) fn name_by_digest(&self) -> Option<String> {
        let held = self.0.descriptor.as_ref().ok()?;
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
        let Ok(held) = &self.0.descriptor else { return false };
        let (name, given) = (self.ref_name(), held.annotations.get(GIVEN_NAME).map(String::as_str));
        name.is_some() && given.is_some() && name != given && name != new.annotation(REF_NAME)
    }

    /// Whether it is one platform of what the new entry has as an index.
    fn is_covered_by(&self, new: &NewEntry) -> bool {
        let Ok(held) = &self.0.descriptor else { return false };
        if self.full_name().is_none() || self.full_name() != new.annotation(FULL_NAME) {
            return false;
        }
        let Some(platform) = held.platform.as_ref().map(Platform::normalize) else { return false };
        new.covers.iter().any(|covered| covered.normalize() == platform)
    }

    /// Whether both are the same image for the same platform, as it was asked for or as it was found.
    fn is_same_as(&self, new: &Descriptor) -> bool {
        let Ok(held) = &self.0.descriptor else { return false };
        match (self.full_name(), new.annotations.get(FULL_NAME)) {
            (Some(name), Some(wanted)) => {
                name == wanted && (same_platform(held, new) || was_index_of(held, new))
            }
            // Another tool's entry for the same bytes under the same short name becomes ours.
            (None, Some(_)) => {
                held.digest == new.digest
                    && self
                        .ref_name()
                        .is_none_or(|name| new.annotations.get(REF_NAME).is_some_and(|new| new == name))
            }
            _ => false,
        }
    }

    pub(super) fn relation_to(&self, new: &NewEntry) -> Relation {
        match &self.0.descriptor {
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
        let Ok(descriptor) = &self.0.descriptor else { return "an entry that is no descriptor".to_owned() };
        let name = self.full_name().map_or_else(|| descriptor.digest.to_string(), crate::text::printable);
        match &descriptor.platform {
            Some(platform) => format!("{name} ({})", crate::text::printable(&platform.to_string())),
            None if descriptor.media_type.is_index() => format!("{name} (an index of several platforms)"),
            None => name,
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
