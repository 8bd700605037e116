//! The last step: config and manifest into the layout, then the image's name.

use std::sync::Arc;

use super::error::FetchError;
use super::select::{Selected, Wanted};
use super::{DiffIds, RefName, Request, blocking};
use crate::digest::Digest;
use crate::layout::Layout;
use crate::layout::index::{Conflict, DIFF_IDS, FULL_NAME, INDEX_DIGEST, REF_NAME, REQUESTED_PLATFORM};
use crate::manifest::Descriptor;
use crate::platform::Platform;
use crate::progress::{Event, Reporter};
use crate::verify::ProvenImage;

/// The ref.name that a request asks for, if any.
pub(super) fn ref_name(request: &Request) -> Option<String> {
    let reference = &request.reference;
    match &request.ref_name {
        RefName::Tag => reference.tag().map(|tag| tag.as_str().to_owned()),
        RefName::Full => Some(reference.full_name()),
        RefName::None => None,
        RefName::Text(text) => Some(text.clone()),
    }
}

/// What `index.json` is to say of an image.
pub(super) fn entry(
    request: &Request,
    descriptor: &Descriptor,
    platform: Option<&Platform>,
    artifact_type: Option<&str>,
    index: Option<&Digest>,
) -> Descriptor {
    let mut entry = Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size);
    entry.platform = platform.cloned();
    entry.artifact_type = artifact_type.map(str::to_owned);
    let mut annotate = |key: &str, value: String| entry.annotations.insert(key.to_owned(), value);
    annotate(FULL_NAME, request.reference.full_name());
    if let Some(name) = ref_name(request) {
        annotate(REF_NAME, name);
    }
    if let Some(index) = index {
        annotate(INDEX_DIGEST, index.to_string());
        if let Some(requested) = requested_platform(&request.platform, platform) {
            annotate(REQUESTED_PLATFORM, requested);
        }
    }
    if request.diff_ids == DiffIds::Skip {
        annotate(DIFF_IDS, "skipped".to_owned());
    }
    entry
}

/// The platform that was looked for, where another was taken: the next fetch of the same finds by it that it is done.
pub(super) fn requested_platform(wanted: &Wanted, taken: Option<&Platform>) -> Option<String> {
    let wanted = wanted.platform();
    let is_exact = taken.is_some_and(|taken| taken.normalize() == wanted);
    (!is_exact).then(|| wanted.specifier())
}

/// Whether the entry changes `index.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It stands there as it is.
    None,
    /// It is new, or says something else than before.
    Made,
}

/// Writes config and manifest, then names the image.
pub(super) async fn commit(
    layout: &Layout,
    selected: &Selected,
    proven: ProvenImage,
    entry: Descriptor,
    conflict: Conflict,
    reporter: &Arc<dyn Reporter>,
) -> Result<Change, FetchError> {
    let config =
        selected.config.as_ref().map(|config| (selected.manifest.config().digest, config.raw.clone()));
    let manifest = (selected.descriptor.digest, selected.manifest.raw().clone());
    let (layout, reporter) = (layout.clone(), Arc::clone(reporter));
    blocking(move || {
        let waiting = |digest: Option<Digest>| {
            let reporter = Arc::clone(&reporter);
            move |holder: &str| reporter.report(Event::Waiting { digest, holder: holder.to_owned() })
        };
        let mut changed = false;
        for (digest, bytes) in config.iter().chain([&manifest]) {
            changed |= layout.put_document(digest, bytes, &mut waiting(Some(*digest)))?;
        }
        changed |= layout.name_image(&proven, &entry, conflict, &mut waiting(None))?;
        clean_up(&layout, &reporter);
        Ok(if changed { Change::Made } else { Change::None })
    })
    .await
}

/// Takes away what this fetch staged; says what another, dead one left.
/// The image is named by then, so that an error here is a warning.
pub(super) fn clean_up(layout: &Layout, reporter: &Arc<dyn Reporter>) {
    let leftovers = match layout.clean_up() {
        Ok(leftovers) => leftovers,
        Err(error) => {
            let message = format!("the fetch is done, but its staging folder could not be cleared: {error}");
            reporter.report(Event::Warning { message });
            return;
        }
    };
    if leftovers.blobs > 0 {
        reporter.report(Event::Warning {
            message: format!(
                "an interrupted fetch of another image left {} of {} partly downloaded blob{} in {}; fetching that \
                 image again resumes from there",
                mebibytes(leftovers.bytes),
                leftovers.blobs,
                if leftovers.blobs == 1 { "" } else { "s" },
                layout.root().join(".ocipull").display()
            ),
        });
    }
}

fn mebibytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1} MiB")
}
