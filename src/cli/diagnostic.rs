//! Errors as they are shown: `error: …`, what caused it below, then a hint where there is something to do.

use std::error::Error;

use ocipull::failure::{Failure, Kind};
use ocipull::text::escape;
use serde_json::{Value, json};

/// A failure, told once and for all: what it is, why, what to do, and which exit code it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    messages: Vec<String>,
    hint: Option<String>,
    kind: Kind,
}

impl Diagnostic {
    /// An error with those that caused it.
    pub(crate) fn of(error: &(impl Failure + 'static)) -> Self {
        Self { messages: chain(error), hint: error.hint(), kind: error.kind() }
    }

    /// An error of a library that knows no kinds.
    pub(crate) fn other(error: &(dyn Error + 'static)) -> Self {
        Self { messages: chain(error), hint: None, kind: Kind::Other }
    }

    /// The same with a hint.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with what could not be done in front: the error becomes its cause.
    #[must_use]
    pub(crate) fn during(mut self, what: impl Into<String>) -> Self {
        self.messages.insert(0, what.into());
        self
    }

    /// The kind, which decides the exit code.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The `error` object of `--json`.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "kind": self.kind.name(),
            "message": self.messages.join(": "),
            "exitCode": self.kind.exit_code(),
        })
    }

    /// The lines, each with its label. Whatever came from outside cannot drive the terminal.
    pub(crate) fn lines(&self) -> Vec<(Label, String)> {
        let first = self.messages.iter().take(1).map(|message| (Label::Error, escape(message)));
        let causes = self.messages.iter().skip(1).map(|message| (Label::Cause, escape(message)));
        let hint = self.hint.iter().map(|hint| (Label::Hint, escape(hint)));
        first.chain(causes).chain(hint).collect()
    }
}

/// What a line of a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// What failed.
    Error,
    /// Why.
    Cause,
    /// What to do.
    Hint,
    /// What stops nothing.
    Warning,
}

impl Label {
    /// The text before the colon.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Cause => "caused by",
            Self::Hint => "hint",
            Self::Warning => "warning",
        }
    }
}

/// The messages from the error down to its root, without those that only repeat the one above.
fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        let repeats = messages
            .last()
            .is_some_and(|above| *above == message || above.ends_with(&format!(": {message}")));
        if !repeats {
            messages.push(message);
        }
        next = error.source();
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Sample {
        #[error("the outer")]
        Outer(#[source] Box<Sample>),
        #[error("the outer")]
        Repeating(#[source] Box<Sample>),
        #[error("the root\u{1b}[2J")]
        Root,
    }

    impl Failure for Sample {
        fn kind(&self) -> Kind {
            Kind::Network
        }

        fn hint(&self) -> Option<String> {
            Some("try again".to_owned())
        }
    }

    fn shown(diagnostic: &Diagnostic) -> Vec<String> {
        diagnostic.lines().iter().map(|(label, text)| format!("{}: {text}", label.text())).collect()
    }

    /// Each cause is a line, one that repeats the line above is not, and control characters do nothing.
    #[test]
    fn a_chain_is_shown_from_the_top() {
        let error = Sample::Outer(Box::new(Sample::Repeating(Box::new(Sample::Root))));
        let diagnostic = Diagnostic::of(&error).during("cannot fetch a:1");
        assert_eq!(
            shown(&diagnostic),
            [
                "error: cannot fetch a:1",
                "caused by: the outer",
                "caused by: the root\\u{1b}[2J",
                "hint: try again"
            ]
        );
        assert_eq!(diagnostic.kind().exit_code(), 5);
    }

    /// A script finds kind, message and exit code.
    #[test]
    fn the_json_of_an_error() {
        let error = Diagnostic::of(&Sample::Root).during("cannot fetch a:1").to_json();
        assert_eq!(
            error,
            json!({"kind": "network", "message": "cannot fetch a:1: the root\u{1b}[2J", "exitCode": 5})
        );
    }
}
