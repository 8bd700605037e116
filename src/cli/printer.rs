//! The only owner of standard output and standard error.
//!
//! Standard output carries results and nothing else; a reader that closed it is no failure. Whatever is written while
//! progress bars are drawn goes above them.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressDrawTarget};
use ocipull::text::escape;
use serde::Serialize;

use super::diagnostic::{Diagnostic, Label};

/// What is said on standard error besides errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Nothing.
    Quiet,
    /// Warnings and notices.
    Normal,
}

/// Writes to both streams. Cheap to clone: all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    bars: MultiProgress,
    verbosity: Verbosity,
    stdout_is_closed: Arc<AtomicBool>,
}

impl Printer {
    /// A printer that draws no bars yet.
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            verbosity,
            stdout_is_closed: Arc::default(),
        }
    }

    /// Whether warnings and notices are shown.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Where bars are drawn from now on.
    pub(crate) fn bars(&self) -> MultiProgress {
        self.bars.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        self.bars.clone()
    }

    /// Takes the bars away.
    pub(crate) fn clear_bars(&self) {
        // Nothing can be done about a terminal that does not take it.
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Writes a line of the result.
    ///
    /// # Errors
    /// When standard output does not take it, unless its reader has gone.
    pub(crate) fn result(&self, line: &str) -> Result<(), Diagnostic> {
        self.result_bytes(format!("{line}\n").as_bytes())
    }

    /// Writes the result as it is.
    ///
    /// # Errors
    /// As [`Printer::result`].
    pub(crate) fn result_bytes(&self, bytes: &[u8]) -> Result<(), Diagnostic> {
        if self.stdout_is_closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let write = || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        };
        match self.bars.suspend(write) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.stdout_is_closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            written => {
                written.map_err(|error| Diagnostic::other(&error).during("cannot write to standard output"))
            }
        }
    }

    /// Writes the result as one JSON object.
    ///
    /// # Errors
    /// As [`Printer::result`].
    pub(crate) fn result_json(&self, value: &impl Serialize) -> Result<(), Diagnostic> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Diagnostic::other(&error).during("cannot write the report"))?;
        self.result(&printable_json(&text))
    }

    /// Says what stops nothing.
    pub(crate) fn notice(&self, line: &str) {
        if self.verbosity == Verbosity::Normal {
            self.error_line(&escape(line));
        }
    }

    /// Warns.
    pub(crate) fn warning(&self, message: &str) {
        if self.verbosity == Verbosity::Normal {
            self.error_line(&format!("{} {}", shown(Label::Warning), escape(message)));
        }
    }

    /// Shows a failure.
    pub(crate) fn diagnostic(&self, diagnostic: &Diagnostic) {
        let mut text = String::new();
        for (label, line) in diagnostic.lines() {
            let indent = if label == Label::Cause { "  " } else { "" };
            let _ = writeln!(text, "{indent}{} {line}", shown(label));
        }
        self.error_text(&text);
    }

    /// Asks for what is typed after it, on the same line. Shown whatever the verbosity: somebody has to answer.
    pub(crate) fn prompt(&self, question: &str) {
        self.error_text(&escape(question));
    }

    /// Writes a line to standard error as it is.
    pub(crate) fn error_line(&self, line: &str) {
        self.error_text(&format!("{line}\n"));
    }

    fn error_text(&self, text: &str) {
        // A standard error that does not take it leaves nobody to tell.
        let _ = self.bars.suspend(|| io::stderr().lock().write_all(text.as_bytes()));
    }
}

/// A label in its colour, where standard error has colours.
fn shown(label: Label) -> String {
    let style = match label {
        Label::Error => AnsiColor::Red.on_default().bold(),
        Label::Warning => AnsiColor::Yellow.on_default().bold(),
        Label::Hint => AnsiColor::Cyan.on_default().bold(),
        Label::Cause => Style::new().dimmed(),
    };
    let style = if has_colours() { style } else { Style::new() };
    format!("{style}{}:{style:#}", label.text())
}

/// Whether standard error is a terminal on which lines can be drawn anew.
pub(crate) fn can_draw() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard error gets colours: it is a terminal, and nobody said no (<https://no-color.org>).
fn has_colours() -> bool {
    can_draw() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// JSON text without the control and direction characters that JSON allows in strings: they become `\u` escapes.
fn printable_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let is_safe = matches!(character, '\n' | ' '..='~')
            || escape(character.encode_utf8(&mut [0; 4])).starts_with(character);
        if is_safe {
            shown.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

/// A log's way to standard error, one event a call.
#[derive(Debug, Clone)]
pub(crate) struct LogWriter(Printer);

impl LogWriter {
    /// Writes through `printer`.
    pub(crate) fn new(printer: Printer) -> Self {
        Self(printer)
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.error_line(&escape(text.trim_end_matches('\n')));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON on a terminal means the same and does nothing.
    #[test]
    fn json_is_printable_and_means_the_same() {
        let value = serde_json::json!({"a\u{7f}": "\u{1b}[2J\u{9b}\u{202e}é日\u{e0041}\n\t\"\\"});
        let text = printable_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.contains("\\u007f") && text.contains("\\u009b") && text.contains("\\u202e"));
        assert!(text.contains("\\udb40\\udc41") && text.contains("é日"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
