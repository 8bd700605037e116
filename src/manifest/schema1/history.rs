//! The history of a schema 1 image: what each entry says, and by the rules of Docker's daemon which entries count.
//!
//! - Every entry has an ID of 64 lower-case hex digits; the base, which stands last, has no parent, and every other one
//!   names the entry below it as its parent.
//! - Old versions of Docker wrote a layer several times in a row. Of entries with one ID that stand together the lowest
//!   counts; an ID that comes again after others is refused. That a blob comes again is nothing special: many steps made the
//!   same empty layer.
//! - An entry that is marked `throwaway` is a step without a layer.
//!
//! Inside of `v1Compatibility` nobody defines the keys, and so they are read as Docker reads them: in any case, the last
//! one counts.

use std::collections::HashSet;

use serde::Serialize;

use super::docker::Image;
use super::document::{self, Fault};
use super::go::{Read as _, Time};
use super::{Schema1Manifest, in_document};
use crate::manifest::ManifestError;
use crate::manifest::error::Problem;
use crate::text::printable;

/// How many hex digits an ID has.
const ID_DIGITS: usize = 64;

/// What an entry says, as far as it counts.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where it stands in the manifest, the topmost being 0.
    pub(super) position: usize,
    id: String,
    parent: String,
    pub(super) step: Step,
}

/// A step as the config's history has it, its fields in Docker's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    created: Time,
    #[serde(skip_serializing_if = "String::is_empty")]
    author: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    created_by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) empty_layer: bool,
}

impl Entry {
    /// Reads the entry at `position`; `text` is what it has under `v1Compatibility`.
    fn read_at(position: usize, text: &str) -> Result<Self, ManifestError> {
        let image = image(text).map_err(|fault| at_entry(fault, position))?;
        let step = Step {
            created_by: image.container_config.cmd.joined(),
            created: image.created,
            author: image.author,
            comment: image.comment,
            empty_layer: image.throwaway,
        };
        Ok(Self { position, id: image.id, parent: image.parent, step })
    }
}

/// The image of old that an entry's `v1Compatibility` is, with a valid ID.
pub(super) fn image(text: &str) -> Result<Image, Fault> {
    let value = document::embedded(text)?;
    // Of null Go makes an image without an ID.
    let mut image = Image::default();
    image.read(value)?;
    if is_id(&image.id) {
        return Ok(image);
    }
    Err(Fault::from(Problem::ImageId { id: printable(&image.id) }).under("id"))
}

/// The error of a fault in the `v1Compatibility` at `position`.
pub(super) fn at_entry(fault: Fault, position: usize) -> ManifestError {
    in_document(fault.under("v1Compatibility").at(position).under("history"))
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The entries that count, the topmost first.
pub(super) fn entries(manifest: &Schema1Manifest) -> Result<Vec<Entry>, ManifestError> {
    let texts = manifest.history.iter().enumerate();
    let entries =
        texts.map(|(position, text)| Entry::read_at(position, text)).collect::<Result<Vec<_>, _>>()?;
    check_base(&entries)?;
    check_repeats(&entries)?;
    check_chain(&entries)?;
    let is_upper: Vec<_> = entries.windows(2).map(|pair| pair[0].id == pair[1].id).collect();
    let counts = |entry: &Entry| !is_upper.get(entry.position).copied().unwrap_or(false);
    Ok(entries.into_iter().filter(counts).collect())
}

fn check_base(entries: &[Entry]) -> Result<(), ManifestError> {
    match entries.last() {
        Some(Entry { position, parent, .. }) if !parent.is_empty() => {
            Err(ManifestError::BaseWithParent { entry: *position, parent: printable(parent) })
        }
        _ => Ok(()),
    }
}

fn check_repeats(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut seen = HashSet::new();
    let mut last = "";
    for Entry { position, id, .. } in entries {
        if !seen.insert(id) && id != last {
            return Err(ManifestError::RepeatedId { entry: *position, id: id.clone() });
        }
        last = id;
    }
    Ok(())
}

fn check_chain(entries: &[Entry]) -> Result<(), ManifestError> {
    let broken = entries.windows(2).find(|pair| pair[0].id != pair[1].id && pair[0].parent != pair[1].id);
    let Some([upper, lower]) = broken else { return Ok(()) };
    Err(ManifestError::BrokenChain {
        entry: upper.position,
        parent: printable(&upper.parent),
        below: lower.id.clone(),
    })
}
