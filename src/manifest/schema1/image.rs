//! The image that a schema 1 manifest stands for: its layers, its platform, and as soon as the diff IDs are known its
//! config and its OCI manifest.
//!
//! The config is, byte for byte, what Docker's daemon makes of the same manifest and layers, and so has the digest that
//! `docker images --no-trunc` shows. It is the topmost history entry less what only schema 1 has, with the diff IDs and the
//! history: outermost keys sorted, everything else as it came but for white space and escapes. For images of Docker before
//! 1.8.3 see [`docker`].

use std::collections::BTreeMap;

use serde::Serialize;

use super::document::{self, Fault};
use super::history::{self, Step};
use super::{Schema1Manifest, docker, go};
use crate::digest::Digest;
use crate::manifest::config::CONFIG;
use crate::manifest::error::Problem;
use crate::manifest::{CONFIG_CAP, Descriptor, ImageConfig, ManifestError, MediaType, check_cap};
use crate::platform::Platform;
use crate::text::printable;

/// The keys of a history entry that do not go into the config.
const LEFT_OUT: [&str; 6] = ["id", "parent", "parent_id", "layer_id", "throwaway", "Size"];

/// The keys that the config has beside the history entry's, whatever that has under them.
const ROOTFS: &str = "rootfs";
const HISTORY: &str = "history";

/// What an image is for that does not say. Docker takes its own system for it; when schema 1 was in use, images that did
/// not say were Linux images, and amd64 ones unless the manifest knew better.
const OS: &str = "linux";
const ARCHITECTURE: &str = "amd64";

/// A schema 1 image whose history holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema1Image {
    layers: Vec<Digest>,
    history: Vec<Step>,
    /// The config's outermost keys and their values as they are written, but for `rootfs` and `history`.
    fields: BTreeMap<String, String>,
    platform: Platform,
}

impl Schema1Image {
    pub(super) fn of(manifest: &Schema1Manifest) -> Result<Self, ManifestError> {
        let entries = history::entries(manifest)?;
        let top = &entries[0];
        let fields = fields(&manifest.history[top.position])
            .map_err(|fault| history::at_entry(fault, top.position))?;
        let with_layer = entries.iter().rev().filter(|entry| !entry.step.empty_layer);
        let mut image = Self {
            layers: with_layer.map(|entry| manifest.layers[entry.position]).collect(),
            history: entries.iter().rev().map(|entry| entry.step.clone()).collect(),
            fields,
            platform: Platform::default(),
        };
        image.platform = image.told_platform(manifest)?;
        Ok(image)
    }

    /// What the config says, as any reader of configs will see it, and what is taken for granted where it says nothing.
    fn told_platform(&self, manifest: &Schema1Manifest) -> Result<Platform, ManifestError> {
        let mut platform = ImageConfig::parse(&self.written(&[])?)?.platform;
        if platform.os.is_empty() {
            OS.clone_into(&mut platform.os);
        }
        if platform.architecture.is_empty() {
            let named = Some(manifest.architecture()).filter(|name| !name.is_empty());
            named.unwrap_or(ARCHITECTURE).clone_into(&mut platform.architecture);
        }
        Ok(platform)
    }

    /// The blobs of the layers, the lowest first, without those of steps that were thrown away. A blob may come several
    /// times, and each of them is a layer. What size they have, nobody says.
    pub fn layers(&self) -> &[Digest] {
        &self.layers
    }

    /// The platform that the image is for: what the config says, else Linux, else the architecture that the manifest names,
    /// else amd64. The config itself is left as it is.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The bytes of the image config. `diff_ids` are those of [`layers`](Self::layers), in their order.
    ///
    /// # Errors
    /// [`ManifestError::UnevenDiffIds`] when there are more or fewer of them than layers, [`ManifestError::TooLarge`] when
    /// the config would have more than [`CONFIG_CAP`] bytes.
    pub fn config(&self, diff_ids: &[Digest]) -> Result<Vec<u8>, ManifestError> {
        let (layers, diff_ids_given) = (self.layers.len(), diff_ids.len());
        if layers != diff_ids_given {
            return Err(ManifestError::UnevenDiffIds { layers, diff_ids: diff_ids_given });
        }
        self.written(diff_ids)
    }

    fn written(&self, diff_ids: &[Digest]) -> Result<Vec<u8>, ManifestError> {
        let (rootfs, history) =
            (go::written(&RootFs { kind: "layers", diff_ids }), go::written(&self.history));
        let mut fields: BTreeMap<_, _> =
            self.fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        fields.insert(ROOTFS, &rootfs);
        fields.insert(HISTORY, &history);
        let members: Vec<_> =
            fields.iter().map(|(key, value)| [&go::written(key), ":", value].concat()).collect();
        let config = ["{", &members.join(","), "}"].concat().into_bytes();
        check_cap(&config, CONFIG, CONFIG_CAP)?;
        Ok(config)
    }

    /// The bytes of an OCI image manifest with this config and these layers, the lowest first; the same ones at every call.
    pub fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Vec<u8> {
        let manifest =
            OciManifest { schema_version: 2, media_type: &MediaType::OCI_MANIFEST, config, layers };
        serde_json::to_vec(&manifest).expect("invariant: descriptors become JSON")
    }
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    diff_ids: &'a [Digest],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OciManifest<'a> {
    schema_version: u8,
    media_type: &'a MediaType,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
}

/// The outermost keys of the topmost entry and their values, those of schema 1 left out. Of keys that are there several
/// times the last counts; keys in another case are other keys here.
fn fields(text: &str) -> Result<BTreeMap<String, String>, Fault> {
    let image = history::image(text)?;
    let rewritten = docker::is_rewritten(&image.docker_version).then(|| go::written(&image));
    let value = document::embedded(rewritten.as_deref().unwrap_or(text))?;
    let mut fields = BTreeMap::new();
    document::members(value, |key, member| {
        // One that Go tools take for the same would put other diff IDs beside those that are proven.
        let folded = document::folded(&key);
        if let Some(known) = [ROOTFS, HISTORY].into_iter().find(|known| folded == *known && key != *known) {
            return Err(Problem::CaseVariant { key: printable(&key), known }.into());
        }
        if !LEFT_OUT.contains(&key.as_ref()) {
            fields.insert(key.into_owned(), go::compacted(member.get()));
        }
        Ok(())
    })?;
    Ok(fields)
}
