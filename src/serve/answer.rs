//! From a route to an answer: looks into the layout (blocking) and says what to send.
//!
//! Refusals have the body and the codes that the distribution spec gives them ("Error Codes").

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    LINK,
};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::body::{self, Body};
use super::catalog::{Images, Served, media_type as media_type_of};
use super::range::{Asked, asked};
use super::route::{Query, Route, Wanted};
use super::store::Store;
use crate::digest::Digest;
use crate::layout::LayoutError;
use crate::manifest::{MANIFEST_CAP, MediaType};
use crate::text::printable;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// What to send.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    Part(File, Range<u64>),
}

impl Content {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part(_, range) => range.end - range.start,
        }
    }
}

/// Why a request is not answered with what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The distribution spec's code.
    pub(super) code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// A layout that cannot be read is the server's failure, and its details are for the server's log.
    fn of_layout(error: &LayoutError) -> Self {
        tracing::warn!(error = error as &dyn std::error::Error, "the layout cannot be read");
        Self::internal()
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the layout cannot be read")
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let body = json!({"errors": [{"code": refusal.code, "message": refusal.message, "detail": null}]});
        let mut answer = Answer::json(&body);
        answer.status = refusal.status;
        if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
            answer.headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        answer
    }
}

impl Answer {
    fn bytes(content_type: &str, bytes: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        // A media type comes from a document, where anything may stand.
        let content_type = HeaderValue::from_str(content_type)
            .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_TYPE, content_type);
        Self { status: StatusCode::OK, headers, content: Content::Bytes(bytes) }
    }

    fn json(value: &serde_json::Value) -> Self {
        Self::bytes("application/json", Bytes::from(value.to_string()))
    }

    fn with_digest(mut self, digest: &Digest) -> Self {
        let value = HeaderValue::try_from(digest.to_string()).expect("invariant: a digest is ASCII");
        self.headers.insert(DOCKER_CONTENT_DIGEST, value);
        self
    }

    /// The response; without its body, but with its length, for a HEAD.
    pub(super) fn into_response(self, is_head: bool) -> Response<Body> {
        let length = self.content.length();
        let body = match self.content {
            _ if is_head => body::none(),
            Content::Bytes(bytes) => body::whole(bytes),
            Content::Part(file, range) => body::part(file, range),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        response
    }
}

/// Answers a request. `range` is the `Range` header of a GET.
pub(super) fn answer(
    store: &Store,
    route: &Route,
    query: &Query,
    range: Option<&str>,
) -> Result<Answer, Refusal> {
    let name = match route {
        Route::Base => return Ok(Answer::json(&json!({}))),
        Route::Manifest { repository, .. }
        | Route::Blob { repository, .. }
        | Route::Tags { repository }
        | Route::Referrers { repository, .. } => repository,
    };
    let catalog = store.catalog().map_err(|error| Refusal::of_layout(&error))?;
    let images = catalog.repository(name, query.namespace.as_deref()).ok_or_else(|| {
        let message = format!("the layout has no repository \"{}\"", printable(name));
        Refusal::not_found("NAME_UNKNOWN", message)
    })?;
    match route {
        Route::Manifest { wanted, .. } => manifest(store, images, wanted),
        Route::Blob { digest, .. } => blob(store, digest, range),
        Route::Referrers { subject, .. } => referrers(store, subject, query),
        Route::Tags { .. } | Route::Base => Ok(tags(images, name, query)),
    }
}

fn manifest(store: &Store, images: &Images, wanted: &Wanted) -> Result<Answer, Refusal> {
    let unknown = |message: String| Refusal::not_found("MANIFEST_UNKNOWN", message);
    let served = match wanted {
        Wanted::Tag(tag) => images.tag(tag).ok_or_else(|| unknown(format!("no tag \"{}\"", printable(tag)))),
        Wanted::Digest(digest) => images
            .digest(store.layout(), digest)
            .ok_or_else(|| unknown(format!("no image of this repository has the manifest {digest}"))),
    };
    let Served { digest, media_type, made } = served?;
    let bytes = match made {
        Some(bytes) => bytes.clone(),
        None => match store.layout().read_blob(digest, MANIFEST_CAP as u64) {
            Ok(bytes) => bytes,
            Err(LayoutError::MissingBlob { .. }) => {
                return Err(unknown(format!(
                    "the layout does not hold {digest}: it was fetched for other platforms"
                )));
            }
            Err(error) => return Err(Refusal::of_layout(&error)),
        },
    };
    let media_type = media_type_of(&bytes, media_type);
    Ok(Answer::bytes(&media_type, bytes).with_digest(digest))
}

/// A blob of the layout. It may belong to another repository of it: whoever may ask for one may ask for all.
fn blob(store: &Store, digest: &Digest, range: Option<&str>) -> Result<Answer, Refusal> {
    let layout = store.layout();
    let unknown = || Refusal::not_found("BLOB_UNKNOWN", format!("the layout does not hold {digest}"));
    let of_layout = |error: &LayoutError| Refusal::of_layout(error);
    // Looked at before it is opened: whatever stands there may be no file.
    match layout.size_of(digest) {
        Ok(Some(_)) => {}
        Ok(None) => return Err(unknown()),
        Err(error) => return Err(of_layout(&error)),
    }
    let file = match layout.open_blob(digest) {
        Ok(file) => file,
        Err(LayoutError::MissingBlob { .. }) => return Err(unknown()),
        Err(error) => return Err(of_layout(&error)),
    };
    let size = match file.metadata() {
        Ok(metadata) => metadata.len(),
        Err(source) => {
            let (operation, path) = (crate::layout::Operation::Open, layout.blob_path(digest));
            return Err(of_layout(&LayoutError::Io { operation, path, source }));
        }
    };
    Ok(blob_answer(file, size, range).with_digest(digest))
}

fn blob_answer(file: File, size: u64, range: Option<&str>) -> Answer {
    let mut answer = Answer::bytes("application/octet-stream", Bytes::new());
    let content_range = |text: String| HeaderValue::try_from(text).expect("invariant: a range is ASCII");
    match asked(range, size) {
        Asked::Whole => answer.content = Content::Part(file, 0..size),
        Asked::Part(range) => {
            answer.status = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            answer.headers.insert(CONTENT_RANGE, content_range(text));
            answer.content = Content::Part(file, range);
        }
        Asked::Unsatisfiable => {
            let message = format!("the blob has {size} bytes");
            answer = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", message).into();
            answer.headers.insert(CONTENT_RANGE, content_range(format!("bytes */{size}")));
        }
    }
    answer.headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer
}

/// What the layout holds about a manifest ("Listing Referrers"). None is an empty list, whether or not the manifest itself
/// is known: by the spec a registry that lists referrers never answers that it does not.
fn referrers(store: &Store, subject: &Digest, query: &Query) -> Result<Answer, Refusal> {
    let layout = store.layout();
    let mut found =
        layout.referrers(&BTreeSet::from([*subject])).map_err(|error| Refusal::of_layout(&error))?;
    found.retain(|referrer| !layout.is_absent(&referrer.digest));
    if let Some(wanted) = &query.artifact_type {
        found.retain(|referrer| referrer.artifact_type.as_ref() == Some(wanted));
    }
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": found});
    let mut answer = Answer::bytes(MediaType::OCI_INDEX.as_str(), Bytes::from(index.to_string()));
    if query.artifact_type.is_some() {
        answer.headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(answer)
}

/// The tags, or a page of them ("Listing Tags").
fn tags(images: &Images, name: &str, query: &Query) -> Answer {
    let after = query.last.as_deref();
    let mut rest = images.tags().filter(|tag| after.is_none_or(|after| *tag > after));
    let limit = query.limit.unwrap_or(usize::MAX);
    let page: Vec<&str> = rest.by_ref().take(limit).collect();
    let mut answer = Answer::json(&json!({"name": name, "tags": page}));
    if let Some(last) = page.last()
        && rest.next().is_some()
    {
        let mut next = url::form_urlencoded::Serializer::new(String::new());
        next.append_pair("n", &limit.to_string()).append_pair("last", last);
        if let Some(namespace) = &query.namespace {
            next.append_pair("ns", namespace);
        }
        let link = format!("</v2/{name}/tags/list?{}>; rel=\"next\"", next.finish());
        answer.headers.extend(HeaderValue::try_from(link).ok().map(|link| (LINK, link)));
    }
    answer
}
