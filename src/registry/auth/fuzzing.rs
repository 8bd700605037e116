//! Doors to pure parts of authentication that are not public, for the properties in `tests/properties` and the fuzzers in
//! `fuzz/`. Each function is one call, and nothing is decided here.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use url::Url;

use super::challenge::Challenge;
use super::document::Document;
use super::scope::Asker;
use super::token::{self, TokenRequest};
use super::{AuthFile, file};

/// What is asked of a token service because of a challenge: the URL of the GET for `account`, and the form of the POST that
/// exchanges the refresh token `secret`. Who asks with credentials is somebody.
pub fn token_request(
    challenge: &Challenge,
    repository_path: Option<&str>,
    is_somebody: bool,
) -> Option<(Url, String)> {
    let asker = if is_somebody { Asker::Somebody } else { Asker::Nobody };
    let request = TokenRequest::new(challenge, repository_path, asker)?;
    Some((request.url(Some("account")), request.form("secret")))
}

/// The token in a token service's answer, and how much of its life is left at `now`.
///
/// # Errors
/// What is wrong with the answer.
pub fn token_answer(body: &[u8], now: SystemTime) -> Result<(String, Duration), &'static str> {
    token::parse_answer(body, now)
}

/// The text of a file of credentials with an entry set, or without entries where there is none to set; `None` where nothing
/// changes. As it is for a login and a logout, every spelling of the key is the same key.
///
/// # Errors
/// When the text is not what [`AuthFile::parse`] takes.
pub fn edited(text: &[u8], key: &str, entry: Option<&Value>) -> Result<Option<String>, serde_json::Error> {
    let mut document = Document::parse(text)?;
    let is_same = |known: &str| file::is_same_key(known, key);
    match entry {
        Some(entry) => document.set(key, entry, is_same),
        None => drop(document.remove(is_same)),
    }
    Ok(document.into_text())
}

/// The keys of a file's entries.
pub fn keys(file: &AuthFile) -> Vec<&str> {
    file.keys().collect()
}

/// Whether two keys stand for the same registry, or the same namespace of one.
pub fn is_same_key(one: &str, other: &str) -> bool {
    file::is_same_key(one, other)
}
