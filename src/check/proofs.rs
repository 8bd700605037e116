//! Proves blobs of a layout for somebody who is about to name what they are parts of. Here a bad blob is an error: what is
//! not proven must not be named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use super::prove::{Task, prove};
use super::verdict::Verdict;
use super::{CheckError, Context, Options};
use crate::digest::{Algorithm, Digest};
use crate::layout::{Layout, LayoutError};
use crate::progress::Reporter;
use crate::verify::ProvenBlob;

/// Reads blobs to their ends. Each is given with the algorithms in which its diff ID is to be computed, none where it is to
/// be proven by its digest alone; there is a proof for each algorithm, or one for none. Blocks.
///
/// # Errors
/// [`CheckError::Layout`] with [`LayoutError::BadBlob`] for the first blob, by digest, whose content is another or cannot
/// be read, or a layer that cannot be uncompressed; otherwise as [`check`](super::check).
pub(crate) fn prove_blobs(
    layout: &Layout,
    blobs: &BTreeMap<Digest, BTreeSet<Algorithm>>,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
) -> Result<Vec<ProvenBlob>, CheckError> {
    let context = Context { layout, reporter, cancelled: &options.cancelled };
    let task = |(digest, algorithms): (&Digest, &BTreeSet<Algorithm>)| Task {
        digest: *digest,
        algorithms: algorithms.clone(),
        size: fs::symlink_metadata(layout.blob_path(digest)).map_or(0, |metadata| metadata.len()),
    };
    let threads =
        options.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let proven = Mutex::default();
    let mut verdicts = prove(&context, blobs.iter().map(task).collect(), threads, Some(&proven))?;
    verdicts.sort_unstable_by_key(|(digest, _)| *digest);
    for (digest, verdict) in verdicts {
        let reason = match verdict {
            Verdict::Proven { diff_ids, .. } => {
                let failed = diff_ids.into_iter().find_map(|(_, diff_id)| diff_id.err());
                let Some(reason) = failed else { continue };
                reason
            }
            Verdict::Wrong { reason, .. } | Verdict::Missing { reason } => reason,
        };
        return Err(LayoutError::BadBlob { digest, reason }.into());
    }
    Ok(proven.into_inner().unwrap_or_else(PoisonError::into_inner))
}
