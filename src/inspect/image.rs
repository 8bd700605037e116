//! What is told of one image or one artifact, out of its manifest and its config.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::error::InspectError;
use super::place::Place;
use super::{InspectedConfig, InspectedImage, InspectedLayer};
use crate::layout::Absence;
use crate::layout::index::{FOREIGN_LAYERS, SKIPPED};
use crate::manifest::{Compression, Descriptor, ImageConfig, ImageManifest};

/// A config that was read.
pub(super) struct Config {
    parsed: ImageConfig,
    content: Option<Box<RawValue>>,
}

/// How deep the usual readers of JSON follow.
const DEEPEST_SHOWN: usize = 127;

/// Reads the config of an image; an artifact's may be anything and is left alone.
pub(super) async fn config(place: &Place<'_>, image: &ImageManifest) -> Result<Option<Config>, InspectError> {
    if !image.is_image() {
        return Ok(None);
    }
    let digest = image.config().digest;
    let raw = place.config(image.config()).await?;
    let parsed = ImageConfig::parse(&raw).map_err(|source| InspectError::BadConfig { digest, source })?;
    let content = serde_json::from_slice::<&RawValue>(&raw).ok();
    Ok(Some(Config { parsed, content: content.and_then(|content| compact(content.get())) }))
}

/// A JSON text without the white space between its parts; `None` when it is deeper than readers follow.
fn compact(json: &str) -> Option<Box<RawValue>> {
    let (mut kept, mut depth, mut in_text, mut escaped) = (String::new(), 0_usize, false, false);
    for character in json.chars() {
        if in_text {
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else {
            match character {
                ' ' | '\t' | '\r' | '\n' => continue,
                '"' => in_text = true,
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if depth > DEEPEST_SHOWN {
            return None;
        }
        kept.push(character);
    }
    RawValue::from_string(kept).ok()
}

/// Puts together what is known. `entry` is what the name stands for, which says what was left out on purpose.
pub(super) async fn assemble(
    place: &Place<'_>,
    entry: &Descriptor,
    descriptor: Descriptor,
    image: &ImageManifest,
    config: Option<Config>,
) -> Result<InspectedImage, InspectError> {
    let absent = place.absent_layers(image.layers()).await?;
    let declared = descriptor.platform.clone().filter(|platform| !platform.is_empty());
    let of_config = config.as_ref().map(|config| config.parsed.platform.normalize());
    let (parsed, content) = config.map_or((None, None), |Config { parsed, content }| (Some(parsed), content));
    let (diff_ids, history, created) =
        parsed.map_or_else(Default::default, |parsed| (parsed.diff_ids, parsed.history, parsed.created));
    let mut layers = layers(entry, image, &absent);
    for (layer, diff_id) in layers.iter_mut().zip(&diff_ids) {
        layer.diff_id = Some(*diff_id).filter(|_| !layer.descriptor.media_type.is_encrypted());
    }
    let mut sizes = BTreeMap::from([(descriptor.digest, descriptor.size)]);
    sizes.extend(image.layers().iter().chain([image.config()]).map(|blob| (blob.digest, blob.size)));
    Ok(InspectedImage {
        platform: declared.or(of_config).filter(|platform| !platform.is_empty()),
        manifest: descriptor,
        artifact_type: image.artifact_type().filter(|text| !text.is_empty()).map(str::to_owned),
        subject: image.subject().cloned(),
        config: InspectedConfig { descriptor: image.config().clone(), content },
        created,
        uncompressed_size: uncompressed_size(image),
        diff_ids,
        layers,
        history,
        annotations: image.annotations().clone(),
        size: sizes.values().fold(0, |sum, size| sum.saturating_add(*size)),
        error: None,
    })
}

fn layers(entry: &Descriptor, image: &ImageManifest, absent: &BTreeSet<usize>) -> Vec<InspectedLayer> {
    let skips_foreign = entry.annotations.get(FOREIGN_LAYERS).is_some_and(|text| text == SKIPPED);
    let layer = |(at, layer): (usize, &Descriptor)| {
        let by_choice = skips_foreign && !layer.urls.is_empty();
        let absence = if by_choice { Absence::LeftOut } else { Absence::Missing };
        InspectedLayer {
            descriptor: layer.clone(),
            diff_id: None,
            absent: absent.contains(&at).then_some(absence),
        }
    };
    image.layers().iter().enumerate().map(layer).collect()
}

fn uncompressed_size(image: &ImageManifest) -> Option<u64> {
    let is_plain = |layer: &Descriptor| layer.media_type.layer_compression() == Some(Compression::None);
    let mut layers = image.layers().iter();
    image.is_image().then(|| {
        layers.try_fold(0_u64, |sum, layer| is_plain(layer).then(|| sum.saturating_add(layer.size)))
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// White space goes where it means nothing, texts stay as they are, and what nobody can read is not shown.
    #[test]
    fn configs_are_compacted() {
        let shown = |json: &str| compact(json).map(|content| content.get().to_owned());
        let text = r#"{"a b": ["\\", " \" [ ", 1],"c":{}}"#;
        assert_eq!(shown(&format!("\t{text}\r\n")).as_deref(), Some(r#"{"a b":["\\"," \" [ ",1],"c":{}}"#));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(shown(&nested(DEEPEST_SHOWN)), Some(nested(DEEPEST_SHOWN)));
        assert_eq!(shown(&nested(DEEPEST_SHOWN + 1)), None);
        let side_by_side = format!("[{}]", vec!["[]"; 1000].join(","));
        assert_eq!(shown(&side_by_side), Some(side_by_side));
    }
}
