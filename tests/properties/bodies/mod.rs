//! What holds for any input: a function of bytes for each reader of what comes from outside. The properties beside this
//! folder call them with structured input and with the corpora, the fuzzers in `fuzz/` with whatever they think of.
//!
//! A body takes any bytes. What they do not make an input of is passed over; what they make one of must hold to the body's
//! claims, of which not to panic is the least.

mod auth;
mod config;
mod layers;
mod layout;
mod manifests;
mod names;
mod sparse;
mod transport;

pub use auth::{answers, auth_files, challenges};
pub use config::{registries_conf, registries_d};
pub use layers::{decompression, tar};
pub use layout::{index_json, journal};
pub use manifests::{configs, manifests, schema1};
pub use names::{platforms, references};
pub use sparse::sparse;
pub use transport::{content_range, links, redirects, retry_after};

use ocipull::failure::Failure;

/// Separates the parts of an input that is several texts: a form feed, which none of them has a use for.
const PAGE: char = '\u{c}';

/// The name of a body, and the body.
pub type Target = (&'static str, fn(&[u8]));

/// Every body.
pub const TARGETS: [Target; 19] = [
    ("answers", answers),
    ("auth_files", auth_files),
    ("challenges", challenges),
    ("configs", configs),
    ("content_range", content_range),
    ("decompression", decompression),
    ("index_json", index_json),
    ("journal", journal),
    ("links", links),
    ("manifests", manifests),
    ("platforms", platforms),
    ("redirects", redirects),
    ("references", references),
    ("registries_conf", registries_conf),
    ("registries_d", registries_d),
    ("retry_after", retry_after),
    ("schema1", schema1),
    ("sparse", sparse),
    ("tar", tar),
];

/// The input as text, where it is text.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// What a terminal would act on: control characters, and marks that turn the direction of writing.
fn drives_a_terminal(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text that is shown to people must not drive their terminal.
#[track_caller]
fn assert_shown(text: &str) {
    assert!(!text.contains(drives_a_terminal), "{text:?} is not fit to be shown");
}

/// An error's messages and its hint are shown, with those of its causes.
#[track_caller]
fn assert_fit(error: &dyn Failure) {
    assert_shown(&error.to_string());
    assert_shown(&error.hint().unwrap_or_default());
    let mut cause = error.source();
    while let Some(error) = cause {
        assert_shown(&error.to_string());
        cause = error.source();
    }
}
