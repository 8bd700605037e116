//! From a reference to a manifest: HEAD for the tag's digest, then GET by digest, and what is done with registries that
//! do not answer one of them (distribution spec, "Pulling manifests").
//!
//! Every manifest that leaves here has been hashed here: against the digest that was asked for and, on its own, against
//! the one that the registry's header names. Of a signed manifest of Docker's schema 1 that is the payload, while its size,
//! in descriptors and in an index, is that of all bytes.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::header::CONTENT_TYPE;
use http::{HeaderName, Method, StatusCode};

use super::attempt::{Attempt, Found};
use super::error::{About, RegistryError};
use super::exchange::{Answer, Ask};
use super::route::{Stop, Target};
use super::{Notice, Registry};
use crate::digest::{Algorithm, Digest};
use crate::manifest::{Descriptor, MANIFEST_CAP, Manifest, MediaType, Schema1Manifest};
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
pub(super) struct Expected<'a> {
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
        let (subject, routes) = (reference.to_string(), &self.inner.routes);
        let (about, in_vain) = (&subject, &Mutex::default());
        let at = |stop: Stop| async move {
            let resolved = self.resolve_at(&stop, about, in_vain).await?;
            routes.resolved(reference.repository(), &stop);
            Ok(resolved)
        };
        self.along(routes.resolving(reference), &subject, None, at).await
    }

    /// What an endpoint says that the reference stands for. HEAD is tried once.
    async fn resolve_at(
        &self,
        stop: &Stop,
        subject: &str,
        in_vain: &Mutex<HashSet<Repository>>,
    ) -> Result<Resolved, RegistryError> {
        let asked_in_vain = || in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        // The configuration may have a digest for a tag.
        let pinned = stop.reference.digest();
        let tag = stop.reference.tag().cloned().unwrap_or_default();
        if pinned.is_none() && !asked_in_vain().contains(&stop.target.repository) {
            if let Some(descriptor) = self.head(&stop.target, &tag, subject).await? {
                return Ok(Resolved { descriptor, manifest: None });
            }
            asked_in_vain().insert(stop.target.repository.clone());
        }
        let name = pinned.map_or_else(|| tag.to_string(), Digest::to_string);
        let expected = Expected { digest: pinned, ..Expected::default() };
        let (manifest, algorithm) = self.get_manifest(&stop.target, &name, subject, expected).await?;
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
        let (path, routes) = (&digest.to_string(), &self.inner.routes);
        let about = &subject;
        let by_digest =
            |stop: Stop| async move { self.get_manifest(&stop.target, path, about, expected).await };
        let route = routes.serving(repository, digest);
        let found = self.along(route, &subject, Some(*digest), by_digest).await;
        let (Err(error), Some(tag)) = (&found, tag_fallback) else {
            return found.map(|(manifest, _)| manifest);
        };
        if error.status() != Some(StatusCode::NOT_FOUND) {
            return found.map(|(manifest, _)| manifest);
        }
        self.notice(Notice::Warning(format!(
            "{repository}: the registry resolves the tag {tag} to {digest} and does not have it; asking for the tag"
        )));
        let by_tag = |stop: Stop| async move {
            let tag = stop.reference.tag().unwrap_or(tag);
            self.get_manifest(&stop.target, tag.as_str(), about, expected).await
        };
        let route = routes.resolving(&Reference::new(repository.clone(), Some(tag.clone()), None));
        let found = self.along(route, &subject, Some(*digest), by_tag).await;
        found.map(|(manifest, _)| manifest)
    }

    /// The tag's descriptor, where the answer to HEAD has all of it.
    async fn head(
        &self,
        target: &Target,
        tag: &Tag,
        subject: &str,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let ask = Ask { method: Method::HEAD, accept: Some(ACCEPT), ..Ask::get(subject) };
        let Found { answer, .. } = self.ask(target, ask, &format!("manifests/{tag}")).await?;
        match answer.status().as_u16() {
            200 => Ok(described(&answer)),
            // Registries, and proxies before them, that do not know HEAD, or answer it without their reasons.
            400 | 401 | 403 | 404 | 405 | 501 => Ok(None),
            _ => Err(answer.into_error().await),
        }
    }

    pub(super) async fn get_manifest(
        &self,
        target: &Target,
        tag_or_digest: &str,
        subject: &str,
        expected: Expected<'_>,
    ) -> Result<(Manifest, Algorithm), RegistryError> {
        let ask = Ask { accept: Some(ACCEPT), ..Ask::get(subject) };
        let Found { answer, .. } = self.ask(target, ask, &format!("manifests/{tag_or_digest}")).await?;
        if answer.status() != StatusCode::OK {
            return Err(answer.into_error().await);
        }
        let about = answer.about.clone();
        let named = header_digest(&answer);
        let content_type = answer.header(CONTENT_TYPE).map(str::to_owned);
        let bytes = answer.json(CAP).await?;
        let unusable = |source| RegistryError::Manifest { about: about.clone(), source: Box::new(source) };
        // The digest of a signed schema 1 manifest is that of the payload inside.
        let payload = Schema1Manifest::signed_payload(&bytes).map_err(unusable)?;
        let digested = payload.as_ref().unwrap_or(&bytes);
        for wanted in expected.digest.into_iter().chain(&named) {
            let found = wanted.algorithm().digest(digested);
            if found != *wanted {
                let (wanted, found) = (Box::new(*wanted), Box::new(found));
                return Err(RegistryError::DigestMismatch { about, wanted, found });
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
        Ok((parsed.map_err(unusable)?, algorithm))
    }

    async fn ask<'a>(
        &'a self,
        target: &'a Target,
        ask: Ask<'a>,
        path: &'a str,
    ) -> Result<Found, RegistryError> {
        let (client, authenticator) = (&self.inner.client, &self.inner.authenticator);
        Attempt { client, authenticator, target, ask, path }.run().await
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
