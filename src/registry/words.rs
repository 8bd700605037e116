//! The words of errors: what they are about, URLs without their secrets, waits and statuses as people read them.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use url::Url;

use super::codes::Code;
use crate::text::printable;

/// What a request is about: `SUBJECT: METHOD URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The reference, or the repository with a digest.
    pub subject: String,
    /// The method and the URL, fit to be shown.
    pub request: String,
}

impl About {
    pub(super) fn new(subject: &str, method: &http::Method, url: &Url) -> Self {
        Self { subject: subject.to_owned(), request: format!("{method} {}", shown(url)) }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.request)
    }
}

/// A URL without user, password, query and fragment.
pub(super) fn shown(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    // Both fail for URLs without a host only, which have no user either.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    printable(bare.as_str())
}

/// A wait as people read it: whole seconds, and no more than a hundred years of them.
pub(super) fn rounded(wait: Duration) -> Duration {
    const LONGEST: u64 = 100 * 365 * 24 * 60 * 60;
    Duration::from_secs(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).min(LONGEST))
}

/// What a registry says about a refusal, after a colon.
pub(super) fn listed(codes: &[Code]) -> String {
    codes.iter().flat_map(|code| [": ".to_owned(), code.to_string()]).collect()
}

/// How the last of several failures differed.
pub(super) fn lastly(last: Option<&str>) -> String {
    last.map(|last| format!(", the last of which ended so: {last}")).unwrap_or_default()
}

/// A status with its name.
pub(super) fn status_line(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signed URL in an error would hand its secret to every log.
    #[test]
    fn urls_are_shown_without_secrets() {
        let url = Url::parse("https://user:pass@cdn.example/b?X-Amz-Signature=secret#f").unwrap();
        assert_eq!(shown(&url), "https://cdn.example/b");
    }
}
