//! Progress bars: one for each blob that is being worked on, as many as fit, and one for all together below.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ocipull::digest::Digest;
use ocipull::progress::{Event, Phase};
use ocipull::text::printable;

use super::plain::{asking, choice, proving, waits};
use super::{counted, doing};

/// More bars than these push what matters off the screen.
const VISIBLE: usize = 10;

/// A blob smaller than this is done before its bar could be read.
const SMALLEST: u64 = 256 << 10;

/// How often a bar moves although nothing happens, so that it does not look dead.
const TICK: Duration = Duration::from_millis(200);

/// The bars of all blobs that are being worked on.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    /// The bar below, while a reference is being fetched.
    total: Option<ProgressBar>,
    /// The reference that is being fetched.
    reference: Option<String>,
    blobs: HashMap<Digest, Blob>,
    visible: usize,
    /// What the bar below counts: bytes that are downloaded, or those that are proven.
    counted: Phase,
    planned: u64,
    /// Bytes counted of blobs that are done.
    finished: u64,
}

/// A blob that is being worked on.
#[derive(Debug)]
struct Blob {
    bar: Option<ProgressBar>,
    /// Bytes that were there at the start.
    reused: u64,
    counted: u64,
}

impl Bars {
    pub(super) fn new(all: MultiProgress) -> Self {
        let counted = Phase::Downloading;
        let (total, reference, blobs) = (None, None, HashMap::new());
        Self { all, total, reference, blobs, visible: 0, counted, planned: 0, finished: 0 }
    }

    /// Shows an event; what belongs above the bars is given back as a line.
    pub(super) fn show(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Resolved { reference, .. } => {
                self.turn_to(reference);
                self.say(format!("{}: resolved", printable(reference)));
            }
            Event::Asking { reference, manifests } => {
                self.turn_to(reference);
                self.say(asking(reference, *manifests));
            }
            Event::Planned { reference, blobs, bytes, .. } => {
                self.turn_to(reference);
                let message = format!("{}, {}", counted(*blobs, "blob"), printable(reference));
                self.plan(Phase::Downloading, message, *bytes);
            }
            Event::Proving { blobs, bytes } => {
                self.plan(Phase::Verifying, proving(*blobs, *bytes), *bytes);
            }
            Event::BlobStarted { digest, bytes, total, phase } => {
                let reused = if *phase == Phase::Downloading { *bytes } else { 0 };
                self.finish(digest);
                self.blobs.insert(*digest, Blob { bar: None, reused, counted: 0 });
                self.advance(*digest, *bytes, *total, *phase);
            }
            Event::BlobProgress { digest, bytes, total, phase } => {
                self.advance(*digest, *bytes, *total, *phase);
            }
            Event::BlobVerified { digest, total, .. } => self.verified(digest, *total),
            Event::BlobBad { digest, .. } => self.finish(digest),
            Event::Waiting { digest: Some(digest), holder } => self.wait(*digest, holder),
            Event::Retry { .. } | Event::Waiting { .. } => return waits(event),
            Event::Chosen { .. } => return choice(event),
            // One that only waited for its name may be finished when another one has begun.
            Event::Finished { reference, .. }
                if self.reference.as_ref().is_some_and(|now| now != reference) => {}
            Event::Finished { .. } => self.end(),
            _ => {}
        }
        None
    }

    fn say(&mut self, message: String) {
        let total = self.total.get_or_insert_with(|| {
            let total = self.all.add(ProgressBar::new(0).with_style(style("{spinner} {wide_msg}")));
            total.enable_steady_tick(TICK);
            total
        });
        total.set_message(message);
    }

    /// The bars are one reference's at a time.
    fn turn_to(&mut self, reference: &str) {
        if self.reference.as_deref() != Some(reference) {
            self.end();
            self.reference = Some(reference.to_owned());
        }
    }

    fn plan(&mut self, counted: Phase, message: String, bytes: u64) {
        if self.counted != counted {
            self.end();
            self.counted = counted;
        }
        self.planned += bytes;
        self.say(message);
        if let Some(total) = self.total.as_ref().filter(|_| self.planned > 0) {
            total.set_style(style(
                "{spinner} {bar:20} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left  {wide_msg}",
            ));
            total.set_length(self.planned);
            total.reset_eta();
        }
    }

    fn advance(&mut self, digest: Digest, bytes: u64, total: u64, phase: Phase) {
        self.open(digest, total);
        let Some(blob) = self.blobs.get_mut(&digest) else { return };
        if phase == self.counted {
            blob.counted = bytes.saturating_sub(blob.reused);
        }
        if let Some(bar) = &blob.bar {
            bar.set_length(total);
            bar.set_position(bytes);
            bar.set_message(doing(phase));
        }
        self.count();
    }

    fn count(&self) {
        let under_way: u64 = self.blobs.values().map(|blob| blob.counted).sum();
        if let Some(total) = &self.total {
            total.set_position(self.finished + under_way);
        }
    }

    /// What was proven whole counts whole: the last of it comes with no progress of its own.
    fn verified(&mut self, digest: &Digest, size: u64) {
        if let Some(blob) = self.blobs.get_mut(digest).filter(|_| self.counted == Phase::Verifying) {
            blob.counted = size;
        }
        self.finish(digest);
        self.count();
    }

    /// Gives a blob its bar where one fits.
    fn open(&mut self, digest: Digest, total: u64) {
        let blob = self.blobs.entry(digest).or_insert(Blob { bar: None, reused: 0, counted: 0 });
        if blob.bar.is_some() || self.visible >= VISIBLE || total < SMALLEST {
            return;
        }
        let bar = ProgressBar::new(total).with_prefix(digest.hex()[..12].to_owned()).with_style(style(
            "  {prefix} {bar:14} {binary_bytes:>10}/{binary_total_bytes:<10} {binary_bytes_per_sec:>12} {wide_msg}",
        ));
        blob.bar = Some(match &self.total {
            Some(total) => self.all.insert_before(total, bar),
            None => self.all.add(bar),
        });
        self.visible += 1;
    }

    fn wait(&mut self, digest: Digest, holder: &str) {
        self.open(digest, SMALLEST);
        if let Some(bar) = self.blobs.get(&digest).and_then(|blob| blob.bar.as_ref()) {
            bar.set_message(format!("waiting for {}", printable(holder)));
        }
    }

    fn finish(&mut self, digest: &Digest) {
        let Some(blob) = self.blobs.remove(digest) else { return };
        self.finished += blob.counted;
        if let Some(bar) = blob.bar {
            bar.finish_and_clear();
            self.all.remove(&bar);
            self.visible -= 1;
        }
    }

    /// A reference is done: blobs that it left unfinished are of no concern any more.
    fn end(&mut self) {
        let left: Vec<Digest> = self.blobs.keys().copied().collect();
        for digest in left {
            self.finish(&digest);
        }
        if let Some(total) = self.total.take() {
            total.finish_and_clear();
            self.all.remove(&total);
        }
        (self.planned, self.finished) = (0, 0);
        self.reference = None;
    }
}

fn style(template: &str) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(template).expect("invariant: the template is one of those above");
    style.progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressDrawTarget;

    use super::*;

    fn bars() -> Bars {
        Bars::new(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()))
    }

    fn started(at: u64, phase: Phase) -> Event {
        let digest = Digest::sha256(&at.to_be_bytes());
        Event::BlobStarted { digest, bytes: 100, total: 1 << 20, phase }
    }

    /// 120 blobs at once are ten bars, and each that ends makes room for another.
    #[test]
    fn few_bars_are_visible() {
        let mut bars = bars();
        for at in 0..120 {
            bars.show(&started(at, Phase::Downloading));
        }
        assert_eq!(bars.visible, VISIBLE);
        let done = Digest::sha256(&0_u64.to_be_bytes());
        bars.show(&Event::BlobVerified { digest: done, bytes: 0, total: 0, diff_id: None });
        assert_eq!(bars.visible, VISIBLE - 1);
        let late = Digest::sha256(&119_u64.to_be_bytes());
        bars.show(&Event::BlobProgress {
            digest: late,
            bytes: 200,
            total: 1 << 20,
            phase: Phase::Downloading,
        });
        assert_eq!(bars.visible, VISIBLE);
        bars.show(&Event::Finished { reference: "a".into(), status: "fetched" });
        assert_eq!(bars.visible, 0);
    }

    /// The bar below counts what is downloaded: not what was there, and not what is only proven.
    #[test]
    fn the_total_counts_downloads() {
        let mut bars = bars();
        bars.show(&Event::Planned { reference: "a".into(), blobs: 2, bytes: 1000, reused: 100 });
        bars.show(&started(1, Phase::Downloading));
        bars.show(&started(2, Phase::Verifying));
        let position = |bars: &Bars| bars.total.as_ref().map(ProgressBar::position);
        assert_eq!(position(&bars), Some(0));
        assert_eq!(bars.total.as_ref().unwrap().length(), Some(1000));
        let (one, two) = (Digest::sha256(&1_u64.to_be_bytes()), Digest::sha256(&2_u64.to_be_bytes()));
        bars.show(&Event::BlobProgress {
            digest: one,
            bytes: 300,
            total: 1 << 20,
            phase: Phase::Downloading,
        });
        bars.show(&Event::BlobProgress { digest: two, bytes: 900, total: 1 << 20, phase: Phase::Verifying });
        bars.show(&Event::BlobProgress { digest: one, bytes: 50, total: 1 << 20, phase: Phase::Verifying });
        assert_eq!(position(&bars), Some(200));
        bars.show(&Event::BlobVerified { digest: one, bytes: 300, total: 300, diff_id: None });
        assert_eq!(position(&bars), Some(200));
    }

    /// When a layout is proven the bar below counts what is read, of bad blobs too; what is downloaded after that starts anew,
    /// and a bad blob's bar makes room.
    #[test]
    fn the_total_counts_what_is_proven() {
        let mut bars = bars();
        let total = |bars: &Bars| {
            let total = bars.total.as_ref().unwrap();
            (total.position(), total.length().unwrap())
        };
        let [one, two] = [1_u64, 2].map(|at| Digest::sha256(&at.to_be_bytes()));
        let progress = |digest, bytes, phase| Event::BlobProgress { digest, bytes, total: 1 << 20, phase };
        bars.show(&Event::Proving { blobs: 2, bytes: 2 << 20 });
        bars.show(&started(1, Phase::Verifying));
        bars.show(&started(2, Phase::Verifying));
        bars.show(&progress(one, 1 << 19, Phase::Verifying));
        bars.show(&progress(two, 1 << 18, Phase::Verifying));
        assert_eq!(total(&bars), ((1 << 19) + (1 << 18), 2 << 20));
        bars.show(&Event::BlobVerified { digest: one, bytes: 1 << 20, total: 1 << 20, diff_id: None });
        bars.show(&Event::BlobBad { digest: two, detail: "its content is another".into() });
        assert_eq!((total(&bars), bars.visible), (((1 << 20) + (1 << 18), 2 << 20), 0));
        bars.show(&Event::Planned { reference: "a".into(), blobs: 1, bytes: 1 << 20, reused: 0 });
        bars.show(&started(2, Phase::Downloading));
        bars.show(&progress(two, 300, Phase::Downloading));
        assert_eq!(total(&bars), (200, 1 << 20));
        bars.show(&Event::Proving { blobs: 1, bytes: 1 << 20 });
        assert_eq!((total(&bars), bars.visible), ((0, 1 << 20), 0));
    }

    /// The end of a reference that waited for its name leaves alone the bars of the next, and a new reference counts from zero.
    #[test]
    fn the_bars_are_of_the_reference_at_work() {
        let mut bars = bars();
        let planned =
            |name: &str| Event::Planned { reference: name.into(), blobs: 1, bytes: 1000, reused: 0 };
        let finished = |name: &str| Event::Finished { reference: name.into(), status: "fetched" };
        bars.show(&planned("a"));
        bars.show(&planned("b"));
        assert_eq!(bars.total.as_ref().unwrap().length(), Some(1000));
        bars.show(&started(1, Phase::Downloading));
        bars.show(&finished("a"));
        assert_eq!(bars.visible, 1);
        bars.show(&finished("b"));
        assert!(bars.visible == 0 && bars.total.is_none());
    }

    /// Who is waited for is said at the blob's bar.
    #[test]
    fn a_wait_names_its_holder() {
        let mut bars = bars();
        let digest = Digest::sha256(b"");
        bars.show(&Event::Waiting { digest: Some(digest), holder: "process 7\u{1b}".into() });
        assert_eq!(bars.blobs[&digest].bar.as_ref().unwrap().message(), "waiting for process 7\\u{1b}");
    }
}
