//! Events as lines of text, for logs: what starts, every ten seconds what takes long, what ends, retries and waits.

use std::collections::HashMap;
use std::time::Duration;

use ocipull::digest::Digest;
use ocipull::progress::{Event, Phase};
use ocipull::text::{escape, printable};

use super::{counted, doing, size};

/// How often a blob that takes long is told of.
const INTERVAL: Duration = Duration::from_secs(10);

/// A blob smaller than this has no line for its start: the one for its end comes at once.
const SMALLEST: u64 = 1 << 20;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Every step.
    Everything,
    /// Only what keeps somebody waiting.
    Waits,
}

/// Turns events into lines; remembers when each blob was last told of.
#[derive(Debug)]
pub(super) struct PlainLines {
    detail: Detail,
    blobs: HashMap<Digest, Told>,
}

/// What was last told of a blob.
#[derive(Debug, Clone, Copy)]
struct Told {
    at: Duration,
    bytes: u64,
    phase: Phase,
}

impl PlainLines {
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, blobs: HashMap::new() }
    }

    /// The line for an event, if it has one now.
    pub(super) fn line(&mut self, event: &Event, elapsed: Duration) -> Option<String> {
        if let Some(line) = waits(event).or_else(|| choice(event)) {
            return Some(line);
        }
        if self.detail == Detail::Waits {
            return None;
        }
        match event {
            Event::BlobStarted { digest, bytes, total, phase } => {
                self.blobs.insert(*digest, Told { at: elapsed, bytes: *bytes, phase: *phase });
                if *total < SMALLEST {
                    return None;
                }
                let there = match (phase, bytes) {
                    (Phase::Downloading, 1..) => format!(", {} there already", size(*bytes)),
                    _ => String::new(),
                };
                Some(format!("{}: {} {}{there}", digest.short(), doing(*phase), size(*total)))
            }
            Event::BlobProgress { digest, bytes, total, phase } => {
                self.progress(*digest, *bytes, *total, *phase, elapsed)
            }
            Event::BlobVerified { digest, total, .. } => {
                self.blobs.remove(digest);
                Some(format!("{}: verified {}", digest.short(), size(*total)))
            }
            Event::BlobBad { digest, detail } => {
                self.blobs.remove(digest);
                Some(format!("{}: bad: {}", digest.short(), printable(detail)))
            }
            _ => steps(event),
        }
    }

    fn progress(
        &mut self,
        digest: Digest,
        bytes: u64,
        total: u64,
        phase: Phase,
        elapsed: Duration,
    ) -> Option<String> {
        let told = self.blobs.entry(digest).or_insert(Told { at: elapsed, bytes, phase });
        if told.phase != phase {
            // The new phase counts its bytes anew; the clock of the line runs on.
            *told = Told { bytes, phase, ..*told };
        }
        let since = elapsed.saturating_sub(told.at);
        if since < INTERVAL {
            return None;
        }
        let rate = u128::from(bytes.saturating_sub(told.bytes)) * 1000 / since.as_millis().max(1);
        *told = Told { at: elapsed, bytes, phase };
        let rate = size(u64::try_from(rate).unwrap_or(u64::MAX));
        let percent = u128::from(bytes) * 100 / u128::from(total.max(1));
        Some(format!(
            "{}: {} {} of {} ({percent}%), {rate}/s",
            digest.short(),
            doing(phase),
            size(bytes),
            size(total)
        ))
    }
}

/// What keeps somebody waiting.
pub(super) fn waits(event: &Event) -> Option<String> {
    match event {
        Event::Retry { digest, host, after_seconds, announced, cause } => {
            let subject = digest.map_or_else(String::new, |digest| format!("{}: ", digest.short()));
            let asked = if *announced { ", as it asked" } else { "" };
            // A cause is the library's own text, in which what came from outside is cut: cut again it would lose its end, which
            // says what happened.
            let (host, cause) = (printable(host), escape(cause));
            Some(format!("{subject}{cause}; {host} is asked again in {after_seconds:.1} s{asked}"))
        }
        Event::Waiting { digest, holder } => {
            let what = match digest {
                Some(digest) => format!("{}: waiting, it is being downloaded", digest.short()),
                None => "waiting for the layout, which is held".to_owned(),
            };
            Some(format!("{what} by {}", printable(holder)))
        }
        _ => None,
    }
}

/// What a short name was taken for: whoever wrote it may have meant something else.
pub(super) fn choice(event: &Event) -> Option<String> {
    let Event::Chosen { written, reference, source } = event else { return None };
    Some(format!("{}: stands for {}, by {}", printable(written), printable(reference), printable(source)))
}

/// The steps of a fetch that are not about one blob.
pub(super) fn steps(event: &Event) -> Option<String> {
    match event {
        Event::Resolved { reference, digest } => {
            Some(format!("{}: resolved to {digest}", printable(reference)))
        }
        Event::Asking { reference, manifests } => Some(asking(reference, *manifests)),
        Event::Proving { blobs, bytes } => Some(proving(*blobs, *bytes)),
        Event::Planned { reference, blobs, bytes, reused } => {
            let reused = match reused {
                0 => String::new(),
                bytes => format!(", {} there already", size(*bytes)),
            };
            let reference = printable(reference);
            Some(format!("{reference}: {} to download, {}{reused}", counted(*blobs, "blob"), size(*bytes)))
        }
        _ => None,
    }
}

/// What is asked about manifests that are there already.
pub(super) fn asking(reference: &str, manifests: usize) -> String {
    format!("{}: looking for what belongs to {}", printable(reference), counted(manifests, "manifest"))
}

/// What of a layout is to be read.
pub(super) fn proving(blobs: usize, bytes: u64) -> String {
    format!("verifying {}, {}", counted(blobs, "blob"), size(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn told(lines: &mut PlainLines, seconds: u64, event: &Event) -> Option<String> {
        lines.line(event, Duration::from_secs(seconds))
    }

    fn progress(bytes: u64, phase: Phase) -> Event {
        Event::BlobProgress { digest: Digest::sha256(b""), bytes, total: 400 * MIB, phase }
    }

    /// A log of a long blob: its start, a line every ten seconds with the rate since the last, its end.
    #[test]
    fn a_long_blob_is_told_of_every_ten_seconds() {
        let mut lines = PlainLines::new(Detail::Everything);
        let digest = Digest::sha256(b"");
        let started = Event::BlobStarted { digest, bytes: MIB, total: 400 * MIB, phase: Phase::Downloading };
        assert_eq!(
            told(&mut lines, 0, &started).unwrap(),
            "sha256:e3b0c44298fc: downloading 400.00 MiB, 1.00 MiB there already"
        );
        assert_eq!(told(&mut lines, 9, &progress(50 * MIB, Phase::Downloading)), None);
        assert_eq!(
            told(&mut lines, 10, &progress(101 * MIB, Phase::Downloading)).unwrap(),
            "sha256:e3b0c44298fc: downloading 101.00 MiB of 400.00 MiB (25%), 10.00 MiB/s"
        );
        assert_eq!(told(&mut lines, 19, &progress(200 * MIB, Phase::Downloading)), None);
        assert_eq!(told(&mut lines, 19, &progress(0, Phase::Verifying)), None);
        assert_eq!(
            told(&mut lines, 30, &progress(200 * MIB, Phase::Verifying)).unwrap(),
            "sha256:e3b0c44298fc: verifying 200.00 MiB of 400.00 MiB (50%), 10.00 MiB/s"
        );
        let proving = Event::Proving { blobs: 2, bytes: 400 * MIB };
        assert_eq!(told(&mut lines, 30, &proving).unwrap(), "verifying 2 blobs, 400.00 MiB");
        let bad = Event::BlobBad { digest, detail: "\u{1b}[2J".into() };
        assert_eq!(told(&mut lines, 30, &bad).unwrap(), "sha256:e3b0c44298fc: bad: \\u{1b}[2J");
        let verified = Event::BlobVerified { digest, bytes: 400 * MIB, total: 400 * MIB, diff_id: None };
        assert_eq!(told(&mut lines, 31, &verified).unwrap(), "sha256:e3b0c44298fc: verified 400.00 MiB");
    }

    /// Who waits is told why; what came from outside is shown escaped.
    #[test]
    fn waits_are_told() {
        let retry = |announced| Event::Retry {
            digest: None,
            host: "h.io".into(),
            after_seconds: 2.04,
            announced,
            cause: "503\u{1b}[2J".into(),
        };
        let mut lines = PlainLines::new(Detail::Waits);
        assert_eq!(
            told(&mut lines, 0, &retry(false)).unwrap(),
            "503\\u{1b}[2J; h.io is asked again in 2.0 s"
        );
        assert_eq!(
            told(&mut lines, 0, &retry(true)).unwrap(),
            "503\\u{1b}[2J; h.io is asked again in 2.0 s, as it asked"
        );
        let waiting = Event::Waiting { digest: Some(Digest::sha256(b"")), holder: "process 7".into() };
        assert_eq!(
            told(&mut lines, 0, &waiting).unwrap(),
            "sha256:e3b0c44298fc: waiting, it is being downloaded by process 7"
        );
        assert_eq!(told(&mut lines, 20, &progress(1, Phase::Downloading)), None);
    }
}
