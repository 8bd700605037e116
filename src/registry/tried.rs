//! What the places of a blob or manifest said, for the error when it is to be had from none of them: [`Tried`], and
//! [`Told`], the registry's own word.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::error::RegistryError;
use super::retry::Disposition;
use crate::failure::Kind;

/// How many places an error names.
const MOST_NAMED: usize = 8;

/// What came of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) place: String,
    pub(super) reason: String,
    /// None where the place was not asked at all, and for mirrors.
    pub(super) kind: Option<Kind>,
    pub(super) hint: Option<String>,
}

/// What every place said, for [`RegistryError::Nowhere`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub(super) failures: Vec<Failed>,
    pub(super) disposition: Disposition,
    /// A place that may be asked again failed for want of ranges.
    pub(super) refused_range: bool,
}

impl Failed {
    pub(super) fn unasked(place: &str, reason: &str) -> Self {
        Self { place: place.to_owned(), reason: reason.to_owned(), kind: None, hint: None }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An error of a request names its URL, one of what came may not.
        if self.reason.contains(&self.place) && !self.place.is_empty() {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// What a registry said, for whoever asks for it again.
#[derive(Debug, Clone)]
pub struct Told(pub(super) Arc<RegistryError>);

impl Told {
    pub(super) fn new(error: RegistryError) -> Self {
        Self(Arc::new(error))
    }
}

impl Deref for Told {
    type Target = RegistryError;

    fn deref(&self) -> &RegistryError {
        &self.0
    }
}

impl fmt::Display for Told {
    /// The error with its causes, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&explained(&*self.0))
    }
}

impl Tried {
    /// How many places were tried.
    pub(super) fn len(&self) -> usize {
        self.failures.len()
    }

    /// What may be done about it.
    pub(super) fn disposition(&self) -> Disposition {
        self.disposition
    }

    /// Whether the blob may be had as a whole from a place that refused a range of it.
    pub(super) fn is_range_refusal(&self) -> bool {
        self.refused_range
    }

    /// A failure that may pass comes before wrong bytes, and both before what the registry, the last place, says.
    pub(super) fn kind(&self) -> Kind {
        let any = |kind| self.failures.iter().any(|failed| failed.kind == Some(kind)).then_some(kind);
        let last = || self.failures.iter().filter_map(|failed| failed.kind).next_back();
        any(Kind::Network).or_else(|| any(Kind::Integrity)).or_else(last).unwrap_or(Kind::NotFound)
    }

    pub(super) fn hint(&self) -> Option<String> {
        let kind = Some(self.kind());
        self.failures.iter().filter(|failed| failed.kind == kind).find_map(|failed| failed.hint.clone())
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The registry, which is last, is always named.
        let hidden = self.failures.len().saturating_sub(MOST_NAMED);
        for (at, failed) in self.failures.iter().enumerate() {
            let between = if at == 0 { "" } else { "; " };
            match at {
                _ if at + 1 < MOST_NAMED || at + 1 == self.failures.len() => write!(f, "{between}{failed}")?,
                _ if at + 1 == MOST_NAMED => write!(f, "{between}and {hidden} more")?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// An error with its causes, in one line.
pub(super) fn explained(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
