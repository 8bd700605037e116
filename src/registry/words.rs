//! The words of errors: what they are about, URLs without their secrets, waits and statuses as people read them.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use url::Url;

use super::codes::Code;
use super::exchange::Ask;
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

    /// What a request to `url` is about. Where a redirect led there, nothing else in its error would say how it came to ask
    /// that host.
    pub(super) fn of(ask: &Ask<'_>, url: &Url) -> Self {
        let mut about = Self::new(ask.subject, &ask.method, url);
        if let Some(host) = &ask.sent_by {
            about.request.extend([" (redirected from ", &printable(host), ")"]);
        }
        about
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
pub fn wait(wait: Duration) -> String {
    const LONGEST: u64 = 100 * 365 * 24 * 60 * 60;
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).min(LONGEST);
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// How often something was tried.
pub fn tried_times(tries: u32) -> String {
    if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") }
}

/// What a registry says about a refusal, after a colon.
pub(super) fn listed(codes: &[Code]) -> String {
    codes.iter().flat_map(|code| [": ".to_owned(), code.to_string()]).collect()
}

/// How the first and the last of several failures differed from the one that is told of.
pub fn ends(first: Option<&str>, last: Option<&str>) -> String {
    let told = |which: &str, text: &str| format!(", the {which} of which ended with: {text}");
    let (first, last) = (first.map(|text| told("first", text)), last.map(|text| told("last", text)));
    first.into_iter().chain(last).collect()
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
