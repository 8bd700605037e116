//! The distribution API, read-only and correct ("Endpoints" of the distribution spec), with the few faults that act
//! on the resource before a range is cut from it.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::json;

use super::answer::Answer;
use super::auth::Auth;
use super::belonging;
use super::content::shared;
use super::faults::Fault;
use super::request::{Request, Target};
use super::server::{Shared, Storage};

/// What a request is told that the registry's authentication does not let through.
pub(crate) fn refusal(registry: &Shared, request: &Request) -> Option<Answer> {
    if matches!(
        request.target,
        Target::Token | Target::Storage { .. } | Target::Lookaside { .. } | Target::Unknown
    ) {
        return None;
    }
    let refusal = match &registry.auth {
        Auth::Nothing => None,
        Auth::Basic(login) if login.is_in(request) => None,
        Auth::Basic(_) => Some(
            Answer::error(401, "UNAUTHORIZED", "authentication required")
                .with("WWW-Authenticate", "Basic realm=\"fault-registry\""),
        ),
        Auth::Token => registry.issuer.refusal(request, &registry.realm),
    };
    refusal.map(|refusal| if request.target == Target::Ping { ping(registry, refusal) } else { refusal })
}

/// What the registry says of itself to everybody, refused or not.
fn ping(registry: &Shared, mut answer: Answer) -> Answer {
    if registry.offers.signatures {
        answer.set("X-Registry-Supports-Signatures", "1");
    }
    answer
}

/// The correct answer, but for what `faults` change about the resource itself.
pub(crate) fn answer(registry: &Shared, request: &Request, faults: &[Fault]) -> Answer {
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    match &request.target {
        Target::Token => registry.issuer.answer(request),
        _ if !is_read => Answer::error(405, "UNSUPPORTED", "this registry is read-only"),
        Target::Ping => ping(registry, Answer::json(200, &json!({}))),
        Target::Manifest { repository, reference } => manifest(registry, repository, reference, faults),
        Target::Blob { repository, digest } => {
            if let Some(storage) = &registry.redirect_blobs_to {
                return Answer::redirect(&storage_url(registry, storage, repository, digest));
            }
            blob(registry, request, repository, digest, faults)
        }
        Target::Storage { repository, digest } => storage(registry, request, repository, digest, faults),
        Target::Tags { repository } => tags(registry, request, repository),
        Target::Referrers { repository, digest } => {
            belonging::referrers(registry, request, repository, digest)
        }
        Target::Signatures { repository, digest } => belonging::signatures(registry, repository, digest),
        Target::Lookaside { path } => belonging::lookaside(registry, request, path),
        Target::Unknown => Answer::error(404, "NOT_FOUND", "no such endpoint"),
    }
}

fn manifest(registry: &Shared, repository: &str, reference: &str, faults: &[Fault]) -> Answer {
    let Some(manifest) = registry.store.lock().unwrap().manifest(repository, reference) else {
        return Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    let mut answer = Answer::new(200)
        .with("Content-Type", &manifest.media_type)
        .with("Docker-Content-Digest", &manifest.digest)
        .with("Etag", &format!("\"{}\"", manifest.digest));
    answer.body = spoiled(manifest.document, faults);
    answer
}

fn blob(registry: &Shared, request: &Request, repository: &str, digest: &str, faults: &[Fault]) -> Answer {
    let Some(bytes) = registry.store.lock().unwrap().blob(repository, digest) else {
        return Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    cut_range(spoiled(bytes, faults), request, digest, faults)
        .with("Content-Type", "application/octet-stream")
        .with("Docker-Content-Digest", digest)
}

/// What an object store answers: no digest header, and no second kind of credentials beside a signature.
fn storage(registry: &Shared, request: &Request, repository: &str, digest: &str, faults: &[Fault]) -> Answer {
    if registry.signed_urls.load(Ordering::SeqCst) {
        if request.header("authorization").is_some() {
            return Answer::error(400, "InvalidArgument", "only one auth mechanism allowed");
        }
        let signature = request.parameters("X-Signature").pop().unwrap_or_default();
        if !registry.store.lock().unwrap().signatures().redeem(&signature) {
            return Answer::error(403, "AccessDenied", "request has expired");
        }
    }
    let mut answer = blob(registry, request, repository, digest, faults);
    answer.remove("Docker-Content-Digest");
    answer
}

fn storage_url(registry: &Shared, storage: &Storage, repository: &str, digest: &str) -> String {
    let mut url = format!("{}/storage/{repository}/{digest}", storage.base);
    if storage.signed {
        let signature = registry.store.lock().unwrap().signatures().issue();
        write!(url, "?X-Expires=300&X-Signature={signature}").unwrap();
    }
    url
}

fn tags(registry: &Shared, request: &Request, repository: &str) -> Answer {
    let Some(tags) = registry.store.lock().unwrap().tags(repository) else {
        return Answer::error(404, "NAME_UNKNOWN", "repository name not known to registry");
    };
    let last = request.parameters("last").pop();
    let mut tags: Vec<_> =
        tags.into_iter().filter(|tag| last.as_ref().is_none_or(|last| tag > last)).collect();
    let asked = request.parameters("n").pop().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let page = asked.min(registry.tags_per_page);
    let more = tags.len() > page;
    tags.truncate(page);
    let answer = Answer::json(200, &json!({ "name": repository, "tags": tags }));
    match tags.last() {
        Some(last) if more => {
            let host = registry.links_in_plain_http.then(|| format!("http://{}", registry.address));
            let url = format!("{}/v2/{repository}/tags/list?last={last}&n={page}", host.unwrap_or_default());
            answer.with("Link", &format!("<{url}>; rel=\"next\""))
        }
        _ => answer,
    }
}

/// The resource as the faults leave it.
fn spoiled(mut bytes: Bytes, faults: &[Fault]) -> Bytes {
    for fault in faults {
        match fault {
            Fault::Body(other) => bytes = shared(other.clone()),
            Fault::FlipByte(offset) => {
                let mut flipped = bytes.to_vec();
                flipped[*offset] ^= 1;
                bytes = shared(flipped);
            }
            _ => {}
        }
    }
    bytes
}

/// 200 with everything, 206 with the one range that was asked for, or 416 (RFC 9110, section 14).
fn cut_range(bytes: Bytes, request: &Request, digest: &str, faults: &[Fault]) -> Answer {
    let etag = format!("\"{digest}\"");
    let ignored = faults.iter().any(|fault| matches!(fault, Fault::IgnoreRange | Fault::ContentEncoding(_)))
        || request.header("if-range").is_some_and(|wanted| wanted != etag);
    let wanted = request.range().filter(|_| !ignored);
    let mut answer = match wanted.map_or(Wanted::Everything, |range| Wanted::of(range, bytes.len())) {
        Wanted::Everything => {
            let mut answer = Answer::new(200);
            answer.body = bytes;
            answer
        }
        Wanted::Nothing => Answer::error(416, "RANGE_INVALID", "range not satisfiable")
            .with("Content-Range", &format!("bytes */{}", bytes.len())),
        Wanted::Part(range) => {
            let described = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
            let mut answer = Answer::new(206).with("Content-Range", &described);
            answer.body = bytes.slice(range);
            answer
        }
    };
    answer.set("Accept-Ranges", "bytes");
    answer.set("Etag", &etag);
    answer
}

/// What a `Range` asks for.
enum Wanted {
    /// It is not one valid range of bytes, so it is ignored.
    Everything,
    /// It holds no byte of the resource.
    Nothing,
    Part(Range<usize>),
}

impl Wanted {
    fn of(range: &str, length: usize) -> Self {
        let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return Self::Everything;
        };
        match (first, first.parse::<usize>(), last, last.parse::<usize>()) {
            ("", _, _, Ok(0)) => Self::Nothing,
            ("", _, _, Ok(suffix)) => Self::part(length.saturating_sub(suffix), length),
            (_, Ok(first), "", _) => Self::part(first, length),
            (_, Ok(first), _, Ok(last)) if first <= last => {
                Self::part(first, length.min(last.saturating_add(1)))
            }
            _ => Self::Everything,
        }
    }

    fn part(first: usize, end: usize) -> Self {
        if first < end { Self::Part(first..end) } else { Self::Nothing }
    }
}
