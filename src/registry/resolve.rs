//! From a reference to a manifest: HEAD for the tag's digest, then GET by digest, and what is done with registries that
//! do not answer one of them (distribution spec, "Pulling manifests").
//!
//! Every manifest that leaves here has been hashed here: against the digest that was asked for and, on its own, against
//! the one that the registry's header names.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, Method, StatusCode};

use super::attempt::{Attempt, Found};
use super::error::{About, RegistryError};
use super::exchange::{Answer, Ask};
use super::retry::Budget;
use super::{Notice, Registry};
use crate::digest::{Algorithm, Digest};
use crate::manifest::{Descriptor, MANIFEST_CAP, Manifest, MediaType};
use crate::reference::{Reference, Repository, Tag};

/// The longest manifest.
const CAP: u64 = MANIFEST_CAP as u64;

const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a registry may answer with. Asking for less makes it convert, and the digest change.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws, \
    application/vnd.docker.distribution.manifest.v1+json";

/// What a reference stands for.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The manifest's media type, digest and size.
    pub descriptor: Descriptor,
    /// The manifest, where it had to be read to tell.
    pub manifest: Option<Manifest>,
}

/// What a manifest must be.
#[derive(Debug, Clone, Copy, Default)]
struct Expected<'a> {
    digest: Option<&'a Digest>,
    size: Option<u64>,
    media_type: Option<&'a MediaType>,
}

impl Registry {
    /// What a reference stands for. A digest is fetched and verified, its tag not being asked about; a tag is asked for
    /// by HEAD, and by GET where HEAD does not tell.
    ///
    /// # Errors
    /// Any [`RegistryError`] of a request; [`RegistryError::Manifest`] and [`RegistryError::DigestMismatch`] where the
    /// manifest had to be read.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, RegistryError> {
        if let Some(digest) = reference.digest() {
            let manifest = self.manifest(reference.repository(), digest, None, None).await?;
            let descriptor = manifest.descriptor(digest.algorithm());
            return Ok(Resolved { descriptor, manifest: Some(manifest) });
        }
        let tag = reference.tag().cloned().unwrap_or_default();
        let subject = reference.to_string();
        let (repository, budget) = (reference.repository(), Budget::new());
        let head = || self.head(repository, &tag, &subject);
        if let Some(descriptor) = self.retrying(&budget, repository, None, head).await? {
            return Ok(Resolved { descriptor, manifest: None });
        }
        let get = || self.get_manifest(repository, tag.as_str(), &subject, Expected::default());
        let (manifest, algorithm) = self.retrying(&budget, repository, None, get).await?;
        Ok(Resolved { descriptor: manifest.descriptor(algorithm), manifest: Some(manifest) })
    }

    /// The manifest with this digest, its bytes verified, against size and media type in `expected` too. Where the registry does
    /// not know the digest and a tag that stands for it is given, the tag is asked for, with a warning.
    ///
    /// # Errors
    /// Any [`RegistryError`] of a request; [`RegistryError::TooLarge`], [`RegistryError::SizeMismatch`],
    /// [`RegistryError::DigestMismatch`] and [`RegistryError::Manifest`] for what comes.
    pub async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        expected: Option<&Descriptor>,
        tag_fallback: Option<&Tag>,
    ) -> Result<Manifest, RegistryError> {
        let subject = format!("{repository}@{digest}");
        let expected = Expected {
            digest: Some(digest),
            size: expected.map(|descriptor| descriptor.size),
            media_type: expected.map(|descriptor| &descriptor.media_type),
        };
        if expected.size.is_some_and(|size| size > CAP) {
            let about = About { subject, request: "its descriptor".to_owned() };
            return Err(RegistryError::TooLarge { about, cap: CAP });
        }
        let budget = Budget::new();
        let path = digest.to_string();
        let by_digest = || self.get_manifest(repository, &path, &subject, expected);
        let found = self.retrying(&budget, repository, Some(*digest), by_digest).await;
        let (Err(error), Some(tag)) = (&found, tag_fallback) else {
            return found.map(|(manifest, _)| manifest);
        };
        if error.status() != Some(StatusCode::NOT_FOUND) {
            return found.map(|(manifest, _)| manifest);
        }
        self.notice(Notice::Warning(format!(
            "{repository}: the registry resolves the tag {tag} to {digest} and does not have it; asking for the tag"
        )));
        let by_tag = || self.get_manifest(repository, tag.as_str(), &subject, expected);
        let found = self.retrying(&budget, repository, Some(*digest), by_tag).await;
        found.map(|(manifest, _)| manifest)
    }

    /// The tag's descriptor, where the answer to HEAD has all of it.
    async fn head(
        &self,
        repository: &Repository,
        tag: &Tag,
        subject: &str,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let ask = Ask { method: Method::HEAD, accept: Some(ACCEPT), ..Ask::get(subject) };
        let Found { answer, .. } = self.ask(repository, ask, &format!("manifests/{tag}")).await?;
        match answer.status().as_u16() {
            200 => Ok(described(&answer)),
            // Registries, and proxies before them, that do not know HEAD, or answer it without their reasons.
            400 | 401 | 403 | 404 | 405 | 501 => Ok(None),
            _ => Err(answer.into_error().await),
        }
    }

    async fn get_manifest(
        &self,
        repository: &Repository,
        tag_or_digest: &str,
        subject: &str,
        expected: Expected<'_>,
    ) -> Result<(Manifest, Algorithm), RegistryError> {
        let ask = Ask { accept: Some(ACCEPT), ..Ask::get(subject) };
        let Found { answer, .. } = self.ask(repository, ask, &format!("manifests/{tag_or_digest}")).await?;
        if answer.status() != StatusCode::OK {
            return Err(answer.into_error().await);
        }
        let about = answer.about.clone();
        let named = header_digest(&answer);
        let content_type = answer.header(CONTENT_TYPE).map(str::to_owned);
        let bytes = answer.document(CAP).await?;
        for wanted in expected.digest.into_iter().chain(&named) {
            let found = wanted.algorithm().digest(&bytes);
            if found != *wanted {
                return Err(mismatch(about, *wanted, found, bytes, content_type.as_deref()));
            }
        }
        let found = bytes.len() as u64;
        if let Some(size) = expected.size.filter(|size| *size != found) {
            return Err(RegistryError::SizeMismatch { about, size, found });
        }
        let algorithm = expected.digest.or(named.as_ref()).map_or(Algorithm::Sha256, Digest::algorithm);
        let content_type = content_type.as_deref();
        let parsed = match expected.media_type {
            Some(listed) => Manifest::parse_listed(bytes, content_type, listed),
            None => Manifest::parse(bytes, content_type),
        };
        let manifest =
            parsed.map_err(|source| RegistryError::Manifest { about, source: Box::new(source) })?;
        Ok((manifest, algorithm))
    }

    async fn ask<'a>(
        &'a self,
        repository: &'a Repository,
        ask: Ask<'a>,
        path: &'a str,
    ) -> Result<Found, RegistryError> {
        let (client, authenticator) = (&self.inner.client, &self.inner.authenticator);
        Attempt { client, authenticator, repository, ask, path }.run().await
    }
}

/// What bytes with another digest than `wanted` are. The digest of a signed schema 1 manifest is that of the payload
/// inside.
fn mismatch(
    about: About,
    wanted: Digest,
    found: Digest,
    bytes: Bytes,
    content_type: Option<&str>,
) -> RegistryError {
    match Manifest::parse(bytes, content_type) {
        Ok(Manifest::Schema1(manifest)) if manifest.is_signed() => RegistryError::SignedSchema1 { about },
        _ => RegistryError::DigestMismatch { about, wanted: Box::new(wanted), found: Box::new(found) },
    }
}

/// What the header names; an algorithm that is not known here cannot be checked.
fn header_digest(answer: &Answer) -> Option<Digest> {
    answer.header(DIGEST_HEADER)?.trim().parse().ok()
}

/// The descriptor in an answer to HEAD: a digest, a length and a media type that is one of a manifest. A generic type
/// would have to be told from the body, so it counts as none.
fn described(answer: &Answer) -> Option<Descriptor> {
    let digest = header_digest(answer)?;
    let size = answer.content_length().filter(|size| *size > 0)?;
    let content_type = answer.header(CONTENT_TYPE)?.split(';').next().unwrap_or_default().trim();
    let generic = ["", "application/json", "text/plain", "application/octet-stream"];
    if generic.iter().any(|generic| generic.eq_ignore_ascii_case(content_type)) {
        return None;
    }
    Some(Descriptor::new(MediaType::from(content_type.to_ascii_lowercase()), digest, size))
}
