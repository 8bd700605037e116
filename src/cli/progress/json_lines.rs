//! Events for programs: one JSON object a line, with the time and a stable `event` field.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use ocipull::digest::Digest;
use ocipull::progress::{Event, Phase};
use serde::Serialize;

/// Between two `blob-progress` events of one blob: four a second are as many as anybody draws.
const INTERVAL: Duration = Duration::from_millis(250);

/// Turns events into lines; remembers when each blob's progress was last told.
#[derive(Debug, Default)]
pub(super) struct JsonLines {
    told: HashMap<Digest, (Duration, Phase)>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl JsonLines {
    /// The line for an event, unless it comes too soon after the last of its kind.
    pub(super) fn line(&mut self, event: &Event, elapsed: Duration, now: SystemTime) -> Option<String> {
        if !self.is_due(event, elapsed) {
            return None;
        }
        let line = Line { time: humantime::format_rfc3339_millis(now).to_string(), event };
        // Events are numbers and texts, which always serialise.
        serde_json::to_string(&line).ok()
    }

    fn is_due(&mut self, event: &Event, elapsed: Duration) -> bool {
        match event {
            Event::BlobProgress { digest, bytes, total, phase } => {
                let last = self.told.get(digest);
                let is_due =
                    last.is_none_or(|(at, told)| elapsed.saturating_sub(*at) >= INTERVAL || told != phase);
                if is_due || bytes == total {
                    self.told.insert(*digest, (elapsed, *phase));
                }
                is_due || bytes == total
            }
            Event::BlobVerified { digest, .. } | Event::BlobBad { digest, .. } => {
                self.told.remove(digest);
                true
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(bytes: u64, phase: Phase) -> Event {
        Event::BlobProgress { digest: Digest::sha256(b"x"), bytes, total: 100, phase }
    }

    /// The shape that scripts rely on: the time first, a stable name, the event's own fields.
    #[test]
    fn a_line_is_one_object() {
        let mut lines = JsonLines::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let event = Event::Committed { reference: "h.io/a:1".into(), digest: Digest::sha256(b"") };
        assert_eq!(
            lines.line(&event, Duration::ZERO, now).unwrap(),
            "{\"time\":\"1970-01-01T00:00:01.500Z\",\"event\":\"committed\",\"reference\":\"h.io/a:1\",\
             \"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}"
        );
    }

    /// A fast download does not flood the log; the end and a new phase are always told.
    #[test]
    fn progress_is_told_four_times_a_second() {
        let mut lines = JsonLines::default();
        let mut told = |event: Event, millis: u64| {
            lines.line(&event, Duration::from_millis(millis), SystemTime::UNIX_EPOCH).is_some()
        };
        assert!(told(progress(1, Phase::Downloading), 0));
        assert!(!told(progress(2, Phase::Downloading), 249));
        assert!(told(progress(3, Phase::Downloading), 250));
        assert!(told(progress(4, Phase::Verifying), 251));
        assert!(!told(progress(5, Phase::Verifying), 252));
        assert!(told(progress(100, Phase::Verifying), 253));
    }
}
