//! Image configs: the image spec's "OCI Image Configuration", which Docker's configs agree with where it matters here.
//!
//! Only what is checked (platform and diff IDs) and what is shown (history) is read. Configs are written by tools that
//! hold to no rules about keys, so they are read as Go tools do, and the diff IDs that are proven are the ones that those
//! will see:
//!
//! - keys in any case, the last one counts; a null string changes nothing, a null list is an empty one;
//! - a second `rootfs` replaces the fields that it has. After a null one Go tools disagree among themselves (a struct
//!   stays as it was, a pointer does not), so what came before it is dropped, which ends in an error or in fewer diff IDs
//!   than layers, never in the wrong ones;
//! - bytes that are not UTF-8 are replaced, as old Windows images have them in their history.
//!
//! `rootfs.type` is not looked at: Docker wrote `layers+base` for Windows, nobody else reads it, and diff IDs are diff IDs.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::platform::Platform;

use super::document::{self, Fault};
use super::error::Problem;
use super::{CONFIG_CAP, ManifestError, check_cap};

/// What messages call a config.
pub(super) const CONFIG: &str = "image config";

/// How many steps of a history are kept: far more than anybody takes, and few enough that a config of nothing but empty steps
/// does not swell to many times its size.
const MOST_STEPS: usize = 10_000;

/// What an image config says that is checked or shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageConfig {
    /// The platform that the image is for; what the config does not say is empty.
    pub platform: Platform,
    /// The digests of the uncompressed layers, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// When the image was made, as it stands.
    pub created: Option<String>,
    /// How the image came to be, the first step first, up to ten thousand of them.
    pub history: Vec<HistoryEntry>,
}

/// One step of how an image came to be. Serialises under the config's own names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// When, as it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What somebody wrote about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Reads an image config. Whether it has as many diff IDs as its manifest has layers is for the caller to see.
    ///
    /// History and the time of creation are for people: whatever is wrong with them is left out.
    ///
    /// # Errors
    /// [`ManifestError`]: more than [`CONFIG_CAP`] bytes, not one JSON object, no `rootfs`, and a diff ID or a part of
    /// the platform that is not what it must be.
    pub fn parse(raw: &[u8]) -> Result<Self, ManifestError> {
        check_cap(raw, CONFIG, CONFIG_CAP)?;
        let text = String::from_utf8_lossy(raw);
        let text = document::utf8(text.as_bytes(), CONFIG)?;
        Fields::read(document::value(text, CONFIG)?)
            .and_then(Fields::finish)
            .map_err(|fault| fault.in_document(CONFIG))
    }
}

/// A config while its keys are read in order.
#[derive(Default)]
struct Fields {
    platform: Platform,
    rootfs: Option<Vec<Digest>>,
    created: Option<String>,
    history: Vec<HistoryEntry>,
}

impl Fields {
    fn read(value: &RawValue) -> Result<Self, Fault> {
        let mut fields = Self::default();
        document::members(value, |key, member| fields.take(&document::folded(&key), member))?;
        Ok(fields)
    }

    fn take(&mut self, key: &str, value: &RawValue) -> Result<(), Fault> {
        match key {
            "os" => replace(&mut self.platform.os, "os", value),
            "architecture" => replace(&mut self.platform.architecture, "architecture", value),
            "variant" => replace_optional(&mut self.platform.variant, "variant", value),
            "os.version" => replace_optional(&mut self.platform.os_version, "os.version", value),
            "os.features" => {
                self.platform.os_features =
                    list(value, document::texts).map_err(|fault| fault.under("os.features"))?;
                Ok(())
            }
            "rootfs" => self.take_rootfs(value).map_err(|fault| fault.under("rootfs")),
            "created" => {
                self.created = document::text(value).ok().or(self.created.take());
                Ok(())
            }
            "history" => {
                self.history = history(value);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_rootfs(&mut self, value: &RawValue) -> Result<(), Fault> {
        if document::is_null(value) {
            self.rootfs = None;
            return Ok(());
        }
        let mut diff_ids = self.rootfs.take().unwrap_or_default();
        document::members(value, |key, member| {
            if document::folded(&key) == "diff_ids" {
                diff_ids = list(member, |value| document::elements(value, document::digest))
                    .map_err(|fault| fault.under("diff_ids"))?;
            }
            Ok(())
        })?;
        self.rootfs = Some(diff_ids);
        Ok(())
    }

    fn finish(self) -> Result<ImageConfig, Fault> {
        let diff_ids = self.rootfs.ok_or_else(|| Fault::from(Problem::Missing).under("rootfs"))?;
        Ok(ImageConfig { platform: self.platform, diff_ids, created: self.created, history: self.history })
    }
}

/// Go leaves a string as it is when null comes for it.
fn replace(field: &mut String, key: &'static str, value: &RawValue) -> Result<(), Fault> {
    if !document::is_null(value) {
        *field = document::text(value).map_err(|fault| fault.under(key))?;
    }
    Ok(())
}

fn replace_optional(field: &mut Option<String>, key: &'static str, value: &RawValue) -> Result<(), Fault> {
    let mut text = field.take().unwrap_or_default();
    replace(&mut text, key, value)?;
    *field = (!text.is_empty()).then_some(text);
    Ok(())
}

/// Go makes a list empty when null comes for it.
fn list<T>(value: &RawValue, read: impl FnOnce(&RawValue) -> Result<Vec<T>, Fault>) -> Result<Vec<T>, Fault> {
    if document::is_null(value) { Ok(Vec::new()) } else { read(value) }
}

/// The first [`MOST_STEPS`] of a history.
fn history(value: &RawValue) -> Vec<HistoryEntry> {
    let mut history = Vec::new();
    let read = document::elements(value, |entry| {
        if history.len() < MOST_STEPS {
            history.push(history_entry(entry));
        }
        Ok(())
    });
    if read.is_ok() { history } else { Vec::new() }
}

fn history_entry(value: &RawValue) -> HistoryEntry {
    let mut entry = HistoryEntry::default();
    // An entry that is no object stays empty, so that the entries after it keep their places.
    let _ = document::members(value, |key, member| {
        let text = || document::text(member).ok().filter(|text| !text.is_empty());
        match document::folded(&key).as_str() {
            "created" => entry.created = text(),
            "created_by" => entry.created_by = text(),
            "author" => entry.author = text(),
            "comment" => entry.comment = text(),
            "empty_layer" => entry.empty_layer = member.get() == "true",
            _ => {}
        }
        Ok(())
    });
    entry
}
