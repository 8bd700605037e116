//! The tags of a repository (distribution spec, "Listing Tags").
//!
//! All pages are read, so that the list is whole or an error; its order is the registry's. What no reference could name
//! is left out, with one warning that counts it.

use std::collections::HashSet;
use std::fmt;

use http::StatusCode;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::RegistryError;
use super::pages::{Caps, Listing, Page};
use super::{Notice, Registry};
use crate::reference::{Repository, Tag};
use crate::text::printable;

/// The most tags of one repository.
pub const TAGS: usize = 1_000_000;

/// How much a list of tags may be. Registries that do not page put everything on one; a million tags are ten thousand
/// pages of a hundred. A registry that filters what it lists may have many pages without an entry.
const CAPS: Caps = Caps { page: 32 << 20, together: 256 << 20, pages: 10_000, idle: 100 };

/// The first page, asked for in pages of a thousand: ECR permits no more, and without a number some registries put
/// everything on one page and others only a hundred.
const PAGED: &str = "tags/list?n=1000";

/// The first page as a registry likes to make it.
const UNPAGED: &str = "tags/list";

impl Registry {
    /// All tags of a repository, each once, in the registry's order. A repository without tags has none.
    ///
    /// # Errors
    /// Any [`RegistryError`] of a request, [`RegistryError::Status`] with 404 for a repository that does not exist;
    /// [`RegistryError::Link`], [`RegistryError::TooLarge`] and [`RegistryError::ListingTooLarge`] for a list that does
    /// not end;
    /// [`RegistryError::Listing`] for an answer that is no list of tags.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, RegistryError> {
        match self.tags_from(repository, PAGED).await {
            // A registry that refuses the number of entries may still list them.
            Err(error) if error.status() == Some(StatusCode::BAD_REQUEST) => {
                self.tags_from(repository, UNPAGED).await
            }
            listed => listed,
        }
    }

    async fn tags_from(&self, repository: &Repository, path: &str) -> Result<Vec<Tag>, RegistryError> {
        let subject = repository.to_string();
        let target = self.inner.routes.listing(repository)?;
        let mut tags = Tags::default();
        let listing =
            Listing { subject: &subject, path, accept: Some("application/json"), caps: CAPS, lacks: None };
        self.pages(&target, listing, |page| tags.add(&page)).await?;
        if let Some(example) = tags.example {
            let number = tags.invalid;
            self.notice(Notice::Warning(format!(
                "{repository}: left out what is listed as a tag and cannot be one: {number} in all, among them \
                 \"{example}\""
            )));
        }
        Ok(distinct(tags.found))
    }
}

/// The tags of the pages so far.
#[derive(Debug, Default)]
struct Tags {
    found: Vec<Tag>,
    /// How many entries are no tags, and the first of them.
    invalid: usize,
    example: Option<String>,
}

impl Tags {
    /// Adds a page, and says how many entries it has.
    fn add(&mut self, page: &Page) -> Result<usize, RegistryError> {
        let about = || page.about.clone();
        let List(entries) = serde_json::from_slice(&page.bytes).map_err(|source| RegistryError::Listing {
            about: about(),
            content_type: printable(page.content_type()),
            source,
        })?;
        let count = entries.found.len() + entries.invalid;
        self.found.extend(entries.found);
        self.invalid += entries.invalid;
        self.example = self.example.take().or(entries.example);
        if self.found.len() > TAGS {
            return Err(RegistryError::TooManyTags { about: about() });
        }
        Ok(count)
    }

    fn take(&mut self, entry: &RawValue) {
        let is_text = entry.get().starts_with('"');
        let text = if is_text { serde_json::from_str::<String>(entry.get()).ok() } else { None };
        if let Some(tag) = text.as_ref().and_then(|text| text.parse().ok()) {
            self.found.push(tag);
            return;
        }
        self.invalid += 1;
        self.example.get_or_insert_with(|| printable(text.as_deref().unwrap_or(entry.get())));
    }
}

/// A page: what it lists under `tags`, which is null, or is not there, where there are none: that is how Go writes it.
/// Whatever else is in it is passed over as it comes, and so is what lists no tag, so that a page costs no more than its
/// tags do.
struct List(Tags);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a list of tags")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List, A::Error> {
                let mut tags = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key == "tags" {
                        tags = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(List(tags.unwrap_or_default()))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Tags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tags")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tags, A::Error> {
                let mut tags = Tags::default();
                while let Some(entry) = list.next_element::<&RawValue>()? {
                    tags.take(entry);
                    // One more than there may be tells that there are too many.
                    if tags.found.len() > TAGS {
                        while list.next_element::<IgnoredAny>()?.is_some() {}
                    }
                }
                Ok(tags)
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}

/// Each tag once, where it came first. Registries repeat the last of a page on the next one.
fn distinct(mut tags: Vec<Tag>) -> Vec<Tag> {
    let mut known = HashSet::with_capacity(tags.len());
    let mut is_new = tags.iter().map(|tag| known.insert(tag)).collect::<Vec<_>>().into_iter();
    tags.retain(|_| is_new.next().unwrap_or_default());
    tags
}
