//! How large a blob is, for manifests that do not say: a GET of its first byte, and where that does not tell, a GET of the
//! whole whose bytes are counted and dropped.
//!
//! HEAD is not asked: the storages behind registries sign URLs for GET only, servers answer HEAD that never looked at the
//! blob, and it is GET by which the blob will come. What is told is only where the search for the bytes begins: whoever
//! downloads the blob holds it against its digest.

use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_RANGE};

use super::body::Body;
use super::error::RegistryError;
use super::exchange::{Answer, Ask};
use super::route::{Stop, Target};
use super::{Registry, range};
use crate::digest::Digest;
use crate::reference::Repository;
use crate::text::printable;

/// How many bytes are counted at most.
const MOST_COUNTED: u64 = 64 << 30;

/// The largest size that a descriptor can have.
const LARGEST: u64 = i64::MAX as u64;

impl Registry {
    /// How many bytes a blob has, with retries. A byte is downloaded, unless the registry does not tell: then all are, and
    /// none is kept.
    ///
    /// # Errors
    /// [`RegistryError::SizeUnknown`] where the answers hold a length of more than 63 bits, or one of zero for a blob that is
    /// not empty, or where the blob comes encoded; [`RegistryError::Oversize`] past 64 GiB that nobody announced; any
    /// [`RegistryError`] of a request.
    pub async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        if is_empty(digest) {
            return Ok(0);
        }
        let subject = format!("{repository}@{digest}");
        let route = self.inner.routes.serving(repository, digest);
        let asked = &subject;
        let ask = |stop: Stop| async move { self.ask_for_size(&stop.target, digest, asked).await };
        self.along(route, &subject, Some(*digest), ask).await
    }

    async fn ask_for_size(
        &self,
        target: &Target,
        digest: &Digest,
        subject: &str,
    ) -> Result<u64, RegistryError> {
        let get = Ask { range: Some(0..1), ..Ask::get(subject) };
        let answer = self.ask_for_blob(target, digest, get, true).await?.answer;
        let told = match answer.status() {
            StatusCode::OK => return told_or_counted(answer, digest).await,
            StatusCode::PARTIAL_CONTENT => part(&answer),
            StatusCode::RANGE_NOT_SATISFIABLE => Err("its first byte cannot be had".to_owned()),
            _ => return Err(answer.into_error().await),
        };
        let reason = match told {
            Ok(size) => return Ok(size),
            Err(reason) => reason,
        };
        tracing::debug!(%digest, reason, "the answer to a range does not tell the size");
        answer.discard().await;
        let answer = self.ask_for_blob(target, digest, Ask::get(subject), true).await?.answer;
        match answer.status() {
            StatusCode::OK => told_or_counted(answer, digest).await,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(RegistryError::SizeUnknown { about: answer.about, reason })
            }
            _ => Err(answer.into_error().await),
        }
    }
}

/// The size that an answer with the whole blob tells; else its bytes are counted. A body that came encoded counts only when
/// it is the blob all the same.
async fn told_or_counted(answer: Answer, digest: &Digest) -> Result<u64, RegistryError> {
    let reason = match whole(&answer) {
        // The body is the whole blob: the connection is given up for not reading it.
        Ok(size) => return Ok(size),
        Err(reason) => reason,
    };
    let (about, is_encoded) = (answer.about.clone(), check_encoding(&answer).is_err());
    let announced = answer.content_length();
    if announced.is_some_and(|length| length > LARGEST || (length == 0 && !is_encoded)) {
        return Err(RegistryError::SizeUnknown { about, reason });
    }
    tracing::debug!(%digest, reason, "counting the bytes of a blob");
    let mut hasher = is_encoded.then(|| digest.algorithm().hasher());
    let (mut body, mut size) = (Body::new(answer, announced, MOST_COUNTED), 0);
    while let Some(chunk) = body.chunk().await? {
        size += chunk.len() as u64;
        if let Some(hasher) = &mut hasher {
            hasher.update(&chunk);
        }
    }
    if hasher.is_some_and(|hasher| hasher.finish() != *digest) {
        return Err(RegistryError::SizeUnknown { about, reason });
    }
    plausible(size).map_err(|reason| RegistryError::SizeUnknown { about, reason })
}

/// Whether it is the digest of nothing.
fn is_empty(digest: &Digest) -> bool {
    digest.algorithm().digest(b"") == *digest
}

/// The size that an answer about the whole blob tells, or what is wrong with it.
fn whole(answer: &Answer) -> Result<u64, String> {
    check_encoding(answer)?;
    plausible(answer.content_length().ok_or("no Content-Length")?)
}

/// The size that an answer with the blob's first byte tells, or what is wrong with it.
fn part(answer: &Answer) -> Result<u64, String> {
    check_encoding(answer)?;
    let value = answer.header(CONTENT_RANGE).ok_or("no Content-Range")?;
    let total = range::parse(value).filter(|found| found.range == (0..1)).and_then(|found| found.total);
    plausible(total.ok_or_else(|| format!("the Content-Range \"{}\"", printable(value)))?)
}

/// The length of an encoded body is not the blob's.
fn check_encoding(answer: &Answer) -> Result<(), String> {
    match answer.header(CONTENT_ENCODING).map(str::trim).unwrap_or_default() {
        "" => Ok(()),
        encoding if encoding.eq_ignore_ascii_case("identity") => Ok(()),
        encoding => Err(format!("the Content-Encoding \"{}\"", printable(encoding))),
    }
}

/// A blob that is not the empty one has a byte at least.
fn plausible(size: u64) -> Result<u64, String> {
    if (1..=LARGEST).contains(&size) { Ok(size) } else { Err(format!("a size of {size} bytes")) }
}
