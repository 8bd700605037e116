//! What reading a blob showed, apart from what is claimed about it, and the findings that the two make together.

use std::io;

use super::blob::path_of;
use super::claims::{AllClaims, Claims, DiffIdClaim};
use super::digests::{Digests, Number};
use super::report::{Finding, FindingKind};
use crate::digest::{Algorithm, Digest};
use crate::verify::VerifyError;

/// What is known of a blob once its file was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its content has the digest that is its name.
    Proven {
        size: u64,
        /// The diff IDs that were computed, or why one cannot be: nearly always none or one.
        diff_ids: Vec<(Algorithm, Result<Digest, String>)>,
    },
    /// Its content has not.
    Wrong { size: u64, reason: String },
    /// There is no content that could be read.
    Missing { reason: String },
}

/// What is known of blobs, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Verdicts(Vec<Option<Verdict>>);

impl Verdicts {
    pub(super) fn get(&self, number: Number) -> Option<&Verdict> {
        self.0.get(usize::try_from(number).ok()?)?.as_ref()
    }

    pub(super) fn take(&mut self, number: Number) -> Option<Verdict> {
        self.0.get_mut(usize::try_from(number).ok()?)?.take()
    }

    pub(super) fn set(&mut self, number: Number, verdict: Verdict) {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at] = Some(verdict);
    }
}

impl Verdict {
    pub(super) fn wrong(error: &VerifyError, size: u64) -> Self {
        let reason = match error {
            VerifyError::DigestMismatch { found, .. } => format!("its content has the digest {found}"),
            VerifyError::SizeMismatch { .. } | VerifyError::Oversize { .. } => {
                "it changed while it was read".to_owned()
            }
            error => error.to_string(),
        };
        Self::Wrong { size, reason }
    }

    pub(super) fn unreadable(error: &io::Error, size: u64) -> Self {
        Self::Missing { reason: format!("its {size} bytes cannot be read: {error}") }
    }

    /// The findings about the blob.
    pub(super) fn findings(&self, digest: Digest, all: &AllClaims, is_partial: bool) -> Vec<Finding> {
        let (claims, digests): (Option<&Claims>, _) = (all.of(&digest), &all.digests);
        let finding =
            |kind, detail| Finding { kind, digest: Some(digest), path: Some(path_of(&digest)), detail };
        match (self, claims) {
            (Self::Proven { size, diff_ids, .. }, Some(claims)) => {
                let diff_ids = claims.diff_ids().iter().filter_map(|claim| {
                    let detail = contradiction(claim, diff_ids, digests)?;
                    Some(finding(FindingKind::DiffIdMismatch, detail))
                });
                claims.wrong_sizes(digest, *size, digests).chain(diff_ids).collect()
            }
            (Self::Proven { .. }, None) => {
                let doubt = if is_partial { ", as far as its documents could be followed" } else { "" };
                let detail = format!("nothing that index.json names refers to it{doubt}");
                vec![finding(FindingKind::Unreferenced, detail)]
            }
            (Self::Wrong { size, reason }, claims) => {
                let sizes = claims.into_iter().flat_map(|claims| claims.wrong_sizes(digest, *size, digests));
                sizes.chain([finding(FindingKind::DigestMismatch, reason.clone())]).collect()
            }
            (Self::Missing { reason }, Some(claims)) => {
                vec![finding(FindingKind::Missing, format!("{reason}; it is {}", claims.referrers(digests)))]
            }
            (Self::Missing { reason }, None) => vec![finding(FindingKind::Stray, reason.clone())],
        }
    }
}

/// The diff ID in an algorithm.
pub(super) fn of(
    diff_ids: &[(Algorithm, Result<Digest, String>)],
    algorithm: Algorithm,
) -> Option<&Result<Digest, String>> {
    diff_ids.iter().find(|(one, _)| *one == algorithm).map(|(_, diff_id)| diff_id)
}

/// How a claimed diff ID differs from the computed one, if it does.
fn contradiction(
    claim: &DiffIdClaim,
    computed: &[(Algorithm, Result<Digest, String>)],
    digests: &Digests,
) -> Option<String> {
    let [diff_id, config, manifest] =
        [claim.diff_id, claim.config, claim.manifest].map(|number| digests[number]);
    let found = match of(computed, diff_id.algorithm()) {
        Some(Ok(found)) if *found == diff_id => return None,
        Some(Ok(found)) => format!("its content has {found}"),
        Some(Err(reason)) => reason.clone(),
        None => "it was not computed".to_owned(),
    };
    let layer = claim.layer;
    Some(format!(
        "config {config} claims the diff ID {diff_id} for layer {layer} of manifest {manifest}, and {found}"
    ))
}
