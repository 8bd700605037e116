//! One blob's bytes: where they come from ([`BlobSource`]), what an answer to a request for them is ([`Content`]), and
//! the bytes as they come ([`BlobBody`]).
//!
//! A blob comes from the registry of its repository, and where its descriptor has `urls` from those first
//! ([`elsewhere`](super::elsewhere)).
//!
//! Registries redirect blob requests to signed URLs of their storage. The target is remembered for the blob's other
//! segments, and forgotten when it answers as an expired one does; then the registry is asked for a fresh one, which
//! may fail once. Nothing here is verified but lengths and ranges: the digest is `verify`'s, and the retries are the
//! caller's, by `Registry::retrying`.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE};
use url::Url;

use super::Registry;
use super::attempt::{self, Attempt, Found};
use super::body::Body;
use super::encoding::{self, ContentEncoding};
use super::error::{About, RegistryError};
use super::exchange::{Answer, Ask};
use super::places::Places;
use super::range;
use super::retry::Budget;
use super::route::{Route, Target};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::Repository;

/// What is asked for when it is not the whole blob, in errors.
const A_RANGE: &str = "a range";

/// Where a blob's bytes come from. Clones share what they learn.
#[derive(Debug, Clone)]
pub struct BlobSource {
    repository: Repository,
    digest: Digest,
    size: u64,
    subject: Arc<str>,
    /// Where the place at this position redirected to.
    redirected: Arc<Mutex<Option<(usize, Url)>>>,
    places: Arc<Places>,
}

impl BlobSource {
    pub(super) fn new(repository: &Repository, route: Route, descriptor: &Descriptor) -> Self {
        let subject = format!("{repository}@{}", descriptor.digest);
        Self {
            repository: repository.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            places: Arc::new(Places::new(route, &subject, &descriptor.urls)),
            subject: subject.into(),
            redirected: Arc::default(),
        }
    }

    /// The repository whose manifest names the blob.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The blob's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The blob's size in bytes, as its descriptor says.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What errors say the blob is.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// The registry itself, unless it may not be asked.
    pub(super) fn registry(&self) -> Option<&Target> {
        self.places.registry()
    }

    fn redirected(&self) -> MutexGuard<'_, Option<(usize, Url)>> {
        self.redirected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, place: usize) -> Option<Url> {
        self.redirected().as_ref().filter(|(at, _)| *at == place).map(|(_, url)| url.clone())
    }

    fn remember(&self, place: usize, url: Url) {
        *self.redirected() = Some((place, url));
    }

    /// Another segment may have learnt of a fresh target in the meantime: that one stays.
    fn forget(&self, url: &Url) {
        let mut redirected = self.redirected();
        if redirected.as_ref().is_some_and(|(_, known)| known == url) {
            *redirected = None;
        }
    }
}

/// What a body holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// The whole blob, whatever was asked for.
    Whole {
        /// The bytes that the server announced, as they come.
        length: Option<u64>,
        /// An encoding that nobody asked for. The bytes come as the server sent them; whether they are the blob as it
        /// is or have to be decoded first, the digest tells. Such a blob cannot be split or resumed.
        encoding: Option<ContentEncoding>,
    },
    /// A part of the blob: it begins where it was asked to, and may end before.
    Part {
        /// The blob's bytes that come.
        range: Range<u64>,
    },
}

/// A blob's bytes as they come in. Occupies one of the host's connections until it is dropped.
#[derive(Debug)]
pub struct BlobBody {
    content: Content,
    body: Body,
}

impl BlobBody {
    /// What the body holds.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The request that it answers.
    pub fn about(&self) -> &About {
        &self.body.about
    }

    /// The next bytes, at least one; `None` at the end, which comes after exactly as many bytes as were to come, where
    /// that is known.
    ///
    /// # Errors
    /// [`RegistryError::Network`] when the body stalls or is cut short, [`RegistryError::Oversize`] as soon as it goes
    /// past its size. The body is of no use afterwards.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            match self.body.chunk().await? {
                Some(chunk) if chunk.is_empty() => {}
                chunk => return Ok(chunk),
            }
        }
    }
}

impl Registry {
    /// The source of a blob that a manifest in `repository` names. Where its descriptor has `urls`, those are its first
    /// places, in their order; then come the mirrors that are configured for digests, and last the registry.
    pub fn blob_source(&self, repository: &Repository, descriptor: &Descriptor) -> BlobSource {
        let route = self.inner.routes.serving(repository, &descriptor.digest);
        BlobSource::new(repository, route, descriptor)
    }

    /// Asks for a blob, or for the bytes `wanted` of it (at least one): one attempt at each place that has not failed
    /// yet, authentication and redirects included, until one answers. The server decides what comes; look at
    /// [`BlobBody::content`].
    ///
    /// # Errors
    /// Any [`RegistryError`] of a request; [`RegistryError::Nowhere`] of a blob with several places.
    /// [`RegistryError::is_range_refusal`] tells when a range was asked for and the answer is of no use.
    pub async fn open(
        &self,
        source: &BlobSource,
        wanted: Option<Range<u64>>,
    ) -> Result<BlobBody, RegistryError> {
        match source.registry() {
            Some(target) if !source.is_elsewhere() => self.open_at(source, 0, target, wanted).await,
            _ => self.open_somewhere(source, wanted).await,
        }
    }

    /// One attempt at the registry or mirror that is the blob's place at `place`.
    pub(super) async fn open_at(
        &self,
        source: &BlobSource,
        place: usize,
        target: &Target,
        wanted: Option<Range<u64>>,
    ) -> Result<BlobBody, RegistryError> {
        let ask = Ask { range: wanted.clone(), ..Ask::get(&source.subject) };
        let mut may_be_stale = true;
        if let Some(url) = source.target(place) {
            let ask = Ask { sent_by: Some(target.repository.api_host().to_owned()), ..ask.clone() };
            match self.inner.client.for_target(target).send(&url, &ask, None).await {
                Ok(answer) if !is_stale(answer.status()) => {
                    return body(answer, wanted.as_ref(), source.size).await;
                }
                Ok(answer) => {
                    source.forget(&url);
                    may_be_stale = false;
                    answer.discard().await;
                }
                Err(error) => {
                    source.forget(&url);
                    return Err(error);
                }
            }
        }
        let found = self.ask_for_blob(target, &source.digest, ask, may_be_stale).await?;
        if found.elsewhere && found.answer.status().is_success() {
            source.remember(place, found.answer.url.clone());
        }
        body(found.answer, wanted.as_ref(), source.size).await
    }

    /// Asks the registry for a blob. `may_be_stale` says whether the storage may refuse the URL that the registry gave: then
    /// the registry is asked once more.
    pub(super) async fn ask_for_blob(
        &self,
        target: &Target,
        digest: &Digest,
        ask: Ask<'_>,
        may_be_stale: bool,
    ) -> Result<Found, RegistryError> {
        let (client, authenticator) = (&self.inner.client, &self.inner.authenticator);
        let path = format!("blobs/{digest}");
        let attempt = Attempt { client, authenticator, target, ask, path: &path };
        let found = attempt.run().await?;
        if found.elsewhere && may_be_stale && is_stale(found.answer.status()) {
            found.answer.discard().await;
            return attempt.run().await;
        }
        Ok(found)
    }

    /// A small blob as a whole (an image config), its size and digest verified, with retries.
    ///
    /// # Errors
    /// [`RegistryError::TooLarge`] when the descriptor says more than `cap` bytes, [`RegistryError::DigestMismatch`]
    /// and [`RegistryError::SizeMismatch`] when other bytes come, and any error of a request.
    pub async fn document(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        cap: u64,
    ) -> Result<Bytes, RegistryError> {
        let source = self.blob_source(repository, descriptor);
        if descriptor.size > cap {
            let about = About { subject: source.subject.to_string(), request: "its descriptor".to_owned() };
            return Err(RegistryError::TooLarge { about, cap });
        }
        let budget = Budget::new();
        self.retrying_blob(&budget, &source, || async {
            let mut body = self.open(&source, None).await?;
            let mut whole = Vec::new();
            while let Some(chunk) = body.chunk().await? {
                whole.extend_from_slice(&chunk);
            }
            proven(whole.into(), &body, &source)
        })
        .await
    }
}

/// A signed URL that has expired, as the storages of this world answer it, or one that redirects again.
fn is_stale(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 403 | 404 | 410) || attempt::is_redirect(status)
}

/// The bytes as they came, or else decoded, when they are the blob.
fn proven(came: Bytes, body: &BlobBody, source: &BlobSource) -> Result<Bytes, RegistryError> {
    let hash = |bytes: &[u8]| source.digest.algorithm().digest(bytes);
    let mut bytes = came;
    let mut found = hash(&bytes);
    if let Content::Whole { encoding: Some(encoding), .. } = &body.content
        && found != source.digest
    {
        bytes = encoding::undo(*encoding, &bytes, source.size)
            .map_err(|refusal| refusal.about(body.body.about.clone(), source.size))?;
        found = hash(&bytes);
    }
    let about = || body.body.about.clone();
    if bytes.len() as u64 != source.size {
        return Err(RegistryError::SizeMismatch {
            about: about(),
            size: source.size,
            found: bytes.len() as u64,
        });
    }
    if found != source.digest {
        return Err(RegistryError::DigestMismatch {
            about: about(),
            wanted: Box::new(source.digest),
            found: Box::new(found),
        });
    }
    Ok(bytes)
}

/// What an answer to a request for a blob holds.
pub(super) async fn body(
    answer: Answer,
    wanted: Option<&Range<u64>>,
    size: u64,
) -> Result<BlobBody, RegistryError> {
    match (answer.status(), wanted) {
        (StatusCode::OK, _) => whole(answer, size),
        (StatusCode::PARTIAL_CONTENT, Some(wanted)) => part(answer, wanted, size),
        (StatusCode::PARTIAL_CONTENT, None) => {
            let about = answer.about.clone();
            match part(answer, &(0..size), size) {
                // A cache that asks for ranges by itself may answer so.
                Ok(BlobBody { content: Content::Part { range }, body }) if range == (0..size) => {
                    Ok(BlobBody { content: Content::Whole { length: Some(size), encoding: None }, body })
                }
                _ => {
                    let (asked, found) = ("the whole blob", "with a part of it".to_owned());
                    Err(RegistryError::WrongRange { about, asked, found })
                }
            }
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            let found = "416 Range Not Satisfiable".to_owned();
            let asked = if wanted.is_some() { A_RANGE } else { "the whole blob" };
            Err(RegistryError::WrongRange { about: answer.about.clone(), asked, found })
        }
        _ => Err(answer.into_error().await),
    }
}

fn whole(answer: Answer, size: u64) -> Result<BlobBody, RegistryError> {
    let length = answer.content_length();
    let encoding = answer.header(CONTENT_ENCODING).and_then(ContentEncoding::of_blob);
    let about = || answer.about.clone();
    if encoding.is_some() {
        let limit = encoding::longest(size);
        let body = Body::new(answer, length, limit);
        return Ok(BlobBody { content: Content::Whole { length, encoding }, body });
    }
    match length {
        Some(found) if found > size => Err(RegistryError::Oversize { about: about(), size }),
        Some(found) if found < size => Err(RegistryError::SizeMismatch { about: about(), size, found }),
        // Without a length, an end before the blob's own is taken for a cut: that it was one cannot be seen.
        _ => {
            let body = Body::new(answer, Some(size), size);
            Ok(BlobBody { content: Content::Whole { length, encoding }, body })
        }
    }
}

fn part(answer: Answer, wanted: &Range<u64>, size: u64) -> Result<BlobBody, RegistryError> {
    let refused =
        |found: String| RegistryError::WrongRange { about: answer.about.clone(), asked: A_RANGE, found };
    let content_type = answer.header(CONTENT_TYPE).unwrap_or_default().trim_start();
    if content_type.get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/")) {
        return Err(refused("in several parts".to_owned()));
    }
    let encoding = answer.header(CONTENT_ENCODING).unwrap_or_default();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        return Err(refused(format!("with the Content-Encoding \"{}\"", crate::text::printable(encoding))));
    }
    let range = range::agreed(answer.header(CONTENT_RANGE), answer.content_length(), wanted, size)
        .map_err(refused)?;
    let length = range.end - range.start;
    let body = Body::new(answer, Some(length), length);
    Ok(BlobBody { content: Content::Part { range }, body })
}
