//! What refers to a manifest: its referrers (distribution spec, "Listing Referrers" and "Referrers Tag Schema"), and
//! what stands under a tag that is made of its digest, as cosign's signatures do.
//!
//! Registries without the referrers API have the same list as an index under the tag `ALG-HEX`, which clients keep. That
//! the API is not there is said in many ways: 404, as the spec has it; 400, 405, 406 (Artifactory) and 501; a page for people;
//! or a redirect to a host that knows nothing of it (GitHub's leads to a website, which answers 404 or 429). It is
//! remembered for the repository, unless the API answered before: some registries that have it refuse to list for
//! manifests that they do not know, or that nothing refers to. For such a manifest the tag is asked for too.
//!
//! A list is a hint: whether what it names exists, is of the type that the list says and refers to the manifest at all,
//! is for whoever fetches it to see. That is why types are never asked for here: a filter that the server applies could
//! not be checked.

use std::collections::HashSet;

use http::StatusCode;

use super::attempt::Found;
use super::error::{About, Code, RegistryError};
use super::offers::ReferrersApi;
use super::pages::{Caps, Listing, Page};
use super::resolve::Expected;
use super::retry::Budget;
use super::{Notice, Registry};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, ManifestError, MediaType, Problem};
use crate::reference::{Repository, Tag};

/// The most referrers of one manifest.
pub const MOST_REFERRERS: usize = 10_000;

/// How much a list of referrers may be. A page is an index, which is capped at 4 MiB.
const CAPS: Caps = Caps { page: 4 << 20, together: 16 << 20, pages: 200, idle: 10 };

/// The most bytes of annotations that are kept of one list: enough for what people put there, and no more than memory has.
const ANNOTATIONS: usize = 1 << 20;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json";

impl Registry {
    /// The descriptors of what refers to a manifest, each digest once, in the registry's order. They are hints, of any
    /// type and unproven: what they lead to must be verified, and must have the manifest as its subject. Of a descriptor
    /// its type, digest, size, artifact type and annotations are kept; where there are annotations without end, those of
    /// the first entries.
    ///
    /// # Errors
    /// Any [`RegistryError`] of a request; [`RegistryError::Manifest`] for a list that is none;
    /// [`RegistryError::TooMany`] for more than [`MOST_REFERRERS`]; [`RegistryError::ListingTooLarge`];
    /// [`RegistryError::Link`].
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        if self.inner.offers.referrers_api(repository) != Some(ReferrersApi::Lacks) {
            let listed = self.listed(repository, subject).await;
            let Err(RegistryError::NotOffered { about, status, codes }) =
                listed.as_ref().map_err(RegistryError::refusal)
            else {
                return listed;
            };
            tracing::debug!(request = about.request, %status, "no referrers API");
            if !is_about_the_manifest(codes) {
                self.inner.offers.learn_referrers_api(repository, ReferrersApi::Lacks);
            }
        }
        self.listed_by_tag(repository, subject).await
    }

    /// Whether it is known if the repository has a referrers API. As long as it is not, one question at a time spares
    /// the others what the first one finds out.
    pub fn knows_referrers_api(&self, repository: &Repository) -> bool {
        self.inner.offers.referrers_api(repository).is_some()
    }

    /// What a tag names, `None` when there is no such tag: for tags that are made of a digest (`sha256-HEX.sig`), of
    /// which nobody knows whether they exist.
    ///
    /// # Errors
    /// As [`Registry::resolve`], but for a tag that is not found.
    pub async fn tagged(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<(Descriptor, Manifest)>, RegistryError> {
        let about = format!("{repository}:{tag}");
        let target = self.inner.routes.listing(repository)?;
        let get = || self.get_manifest(&target, tag.as_str(), &about, Expected::default());
        match self.retrying(&Budget::new(), &target, None, get).await {
            Ok((manifest, algorithm)) => Ok(Some((manifest.descriptor(algorithm), manifest))),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn listed(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let about = format!("{repository}@{subject}");
        let target = self.inner.routes.listing(repository)?;
        let path = format!("referrers/{subject}");
        let listing = Listing {
            subject: &about,
            path: &path,
            accept: Some(ACCEPT),
            caps: CAPS,
            lacks: Some(lacks_api),
        };
        let mut list = List::default();
        let mut is_first = true;
        self.pages(&target, listing, |page| {
            let entries = entries(&page, is_first)?;
            if is_first {
                self.inner.offers.learn_referrers_api(repository, ReferrersApi::Has);
            }
            is_first = false;
            list.add(entries, &page.about)
        })
        .await?;
        Ok(list.descriptors)
    }

    async fn listed_by_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let tag = Tag::of_referrers(subject);
        let manifest = match self.tagged(repository, &tag).await {
            Ok(Some((_, manifest))) => manifest,
            Ok(None) => return Ok(Vec::new()),
            Err(error) if names_null_list(&error) => return Ok(Vec::new()),
            Err(error) if error.is_no_manifest() => {
                self.names_no_list(repository, &tag);
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        // GitLab's registry takes the tag for the digest, and answers with the manifest itself.
        if subject.algorithm().digest(manifest.raw()) == *subject {
            return Ok(Vec::new());
        }
        let Manifest::Index(index) = manifest else {
            self.names_no_list(repository, &tag);
            return Ok(Vec::new());
        };
        let mut list = List::default();
        let about = About { subject: format!("{repository}@{subject}"), request: format!("the tag {tag}") };
        list.add(index.manifests().to_vec(), &about)?;
        Ok(list.descriptors)
    }

    fn names_no_list(&self, repository: &Repository, tag: &Tag) {
        let warning = format!("{repository}: the tag {tag} is for a list of referrers, and names none");
        self.notice(Notice::Warning(warning));
    }
}

/// Descriptors, each digest once, up to [`MOST_REFERRERS`].
#[derive(Debug, Default)]
struct List {
    descriptors: Vec<Descriptor>,
    seen: HashSet<Digest>,
    /// The bytes of the annotations that are kept.
    annotations: usize,
}

impl List {
    /// Adds entries, and says how many of them are new.
    fn add(&mut self, entries: Vec<Descriptor>, about: &About) -> Result<usize, RegistryError> {
        let before = self.descriptors.len();
        for entry in entries {
            if self.seen.insert(entry.digest) {
                let entry = self.bare(entry);
                self.descriptors.push(entry);
            }
        }
        if self.descriptors.len() > MOST_REFERRERS {
            let about = about.clone();
            return Err(RegistryError::TooMany { about, what: "referrers", most: MOST_REFERRERS });
        }
        Ok(self.descriptors.len() - before)
    }

    /// What is kept of an entry.
    fn bare(&mut self, entry: Descriptor) -> Descriptor {
        let bytes = entry.annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let mut bare = Descriptor::new(entry.media_type, entry.digest, entry.size);
        bare.artifact_type = entry.artifact_type;
        self.annotations = self.annotations.saturating_add(bytes);
        if self.annotations <= ANNOTATIONS {
            bare.annotations = entry.annotations;
        }
        bare
    }
}

/// Whether an answer says that there is no referrers API. One from where the registry redirected to says so whatever it
/// refuses with: the API itself leads nowhere else.
fn lacks_api(found: &Found) -> bool {
    let status = found.answer.status();
    matches!(status.as_u16(), 204 | 400 | 404 | 405 | 406 | 410 | 501)
        || (found.elsewhere && status.is_client_error())
}

/// Whether a refusal is about the manifest that was asked about, so that it says nothing about others.
fn is_about_the_manifest(codes: &[Code]) -> bool {
    codes.iter().any(|code| code.code == "MANIFEST_UNKNOWN")
}

/// The entries of one page. A first page that is something else altogether is what registries without the API answer.
fn entries(page: &Page, is_first: bool) -> Result<Vec<Descriptor>, RegistryError> {
    let about = || page.about.clone();
    let content_type = page.content_type();
    let says_index = MediaType::from(content_type.to_ascii_lowercase()).is_index();
    match Manifest::parse(page.bytes.clone(), Some(content_type)) {
        Ok(Manifest::Index(index)) => Ok(index.manifests().to_vec()),
        Err(error) if is_null_list(&error) => Ok(Vec::new()),
        _ if is_first && !says_index => {
            Err(RegistryError::NotOffered { about: about(), status: StatusCode::OK, codes: Vec::new() })
        }
        Ok(other) => {
            let source = ManifestError::ListedOtherwise {
                listed: MediaType::OCI_INDEX,
                media_type: other.media_type().clone(),
            };
            Err(RegistryError::Manifest { about: about(), source: Box::new(source) })
        }
        Err(source) => Err(RegistryError::Manifest { about: about(), source: Box::new(source) }),
    }
}

/// Whether what the tag names is an index that lists nothing.
fn names_null_list(error: &RegistryError) -> bool {
    matches!(error.refusal(), RegistryError::Manifest { source, .. } if is_null_list(source))
}

/// Whether an index has null for an empty list, as Go writes a list that nobody put anything into.
fn is_null_list(error: &ManifestError) -> bool {
    matches!(error, ManifestError::Field { path, problem: Problem::Missing, .. } if path == "manifests")
}
