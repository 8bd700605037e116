//! Progress on standard error: bars, plain lines or JSON lines, each a reporter of the library's events.

mod bars;
mod json_lines;
mod plain;

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use indicatif::HumanBytes;
use ocipull::progress::{Event, Phase, Reporter};

use super::args::ProgressArg;
use super::printer::{Printer, Verbosity, can_draw};

use bars::Bars;
use json_lines::JsonLines;
use plain::PlainLines;

/// How progress is shown, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Bars.
    Bars,
    /// Lines of text.
    Plain,
    /// JSON, one event a line.
    Json,
    /// Warnings, and what keeps a request waiting.
    Waits,
    /// Warnings only.
    Warnings,
}

impl Shown {
    /// What an option means on this standard error. Bars need a terminal: without one they would be silence.
    pub(crate) fn choose(wanted: ProgressArg) -> Self {
        match wanted {
            ProgressArg::Auto | ProgressArg::Bars if can_draw() => Self::Bars,
            ProgressArg::Auto | ProgressArg::Bars | ProgressArg::Plain => Self::Plain,
            ProgressArg::Json => Self::Json,
            ProgressArg::None => Self::Warnings,
        }
    }
}

/// Shows events.
pub(crate) struct Progress {
    printer: Printer,
    shown: Shown,
    start: Instant,
    display: Display,
}

enum Display {
    Nothing,
    Bars(Mutex<Bars>),
    Plain(Mutex<PlainLines>),
    Json(Mutex<JsonLines>),
}

impl Progress {
    /// A reporter that shows events through `printer`, whose verbosity has the last word.
    pub(crate) fn new(shown: Shown, printer: &Printer) -> Arc<Self> {
        let display = match (printer.verbosity(), shown) {
            (Verbosity::Quiet, _) | (_, Shown::Warnings) => Display::Nothing,
            (_, Shown::Bars) => Display::Bars(Mutex::new(Bars::new(printer.bars()))),
            (_, Shown::Plain) => Display::Plain(Mutex::new(PlainLines::new(plain::Detail::Everything))),
            (_, Shown::Waits) => Display::Plain(Mutex::new(PlainLines::new(plain::Detail::Waits))),
            (_, Shown::Json) => Display::Json(Mutex::default()),
        };
        Arc::new(Self { printer: printer.clone(), shown, start: Instant::now(), display })
    }

    /// Says how a step ended, where steps are shown.
    pub(crate) fn step(&self, line: &str) {
        if self.shown != Shown::Warnings {
            self.answer(line);
        }
    }

    /// Says what was asked for, in words: not among JSON lines, which are for programs.
    pub(crate) fn answer(&self, line: &str) {
        if self.shown != Shown::Json {
            self.printer.notice(line);
        }
    }

    /// Ends the display.
    pub(crate) fn finish(&self) {
        self.printer.clear_bars();
    }
}

impl Reporter for Progress {
    fn report(&self, event: Event) {
        if let (Event::Warning { message }, false) = (&event, matches!(self.display, Display::Json(_))) {
            self.printer.warning(message);
        }
        let elapsed = self.start.elapsed();
        let line = match &self.display {
            Display::Nothing => None,
            Display::Bars(bars) => bars.lock().unwrap_or_else(PoisonError::into_inner).show(&event),
            Display::Plain(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).line(&event, elapsed)
            }
            Display::Json(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).line(&event, elapsed, SystemTime::now())
            }
        };
        if let Some(line) = line {
            self.printer.error_line(&line);
        }
    }
}

/// What is being done with a blob, in a word.
fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Downloading => "downloading",
        Phase::Verifying => "verifying",
        _ => "working on",
    }
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// `1 blob`, `2 blobs`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}
