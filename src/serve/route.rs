//! What a request asks for: method, path and query of the distribution API, taken apart without looking at any layout.

use hyper::{Method, StatusCode};

use super::answer::Refusal;
use crate::digest::Digest;

/// A manifest's name in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Tag(String),
    Digest(Digest),
}

/// What a path stands for. Repository names are as written, whether or not anything goes by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`: whether this is a registry.
    Base,
    Manifest {
        repository: String,
        wanted: Wanted,
    },
    Blob {
        repository: String,
        digest: Digest,
    },
    Tags {
        repository: String,
    },
    /// What is about a manifest ("Listing Referrers").
    Referrers {
        repository: String,
        subject: Digest,
    },
}

/// The parts of a query that mean something here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// The registry that a mirror's client means (`ns`).
    pub(super) namespace: Option<String>,
    /// How many tags at most (`n`).
    pub(super) limit: Option<usize>,
    /// The tag after which to go on (`last`).
    pub(super) last: Option<String>,
    /// The one type of referrers that is wanted (`artifactType`).
    pub(super) artifact_type: Option<String>,
}

impl Route {
    /// Reads a request's method and path.
    pub(super) fn read(method: &Method, path: &str) -> Result<Self, Refusal> {
        let unknown = || Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path");
        let path = decoded(path).ok_or_else(unknown)?;
        let rest = path.strip_prefix("/v2").ok_or_else(unknown)?;
        if method != Method::GET && method != Method::HEAD {
            let refusal =
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only");
            return Err(refusal);
        }
        if rest.is_empty() || rest == "/" {
            return Ok(Self::Base);
        }
        let rest = rest.strip_prefix('/').ok_or_else(unknown)?;
        // From the end: a repository may have a component that is called "manifests".
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags { repository: repository.to_owned() });
        }
        let (rest, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let (repository, kind) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let repository = repository.to_owned();
        match kind {
            "manifests" if last.contains(':') => {
                Ok(Self::Manifest { repository, wanted: Wanted::Digest(digest(last)?) })
            }
            "manifests" => Ok(Self::Manifest { repository, wanted: Wanted::Tag(last.to_owned()) }),
            "blobs" => Ok(Self::Blob { repository, digest: digest(last)? }),
            "referrers" => Ok(Self::Referrers { repository, subject: digest(last)? }),
            _ => Err(unknown()),
        }
    }
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", format!("{error}")))
}

impl Query {
    /// Reads a request's query. Of a key that comes twice the first counts; unknown keys mean nothing.
    pub(super) fn read(query: &str) -> Result<Self, Refusal> {
        let mut read = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "ns" if read.namespace.is_none() => read.namespace = Some(value.into_owned()),
                "last" if read.last.is_none() => read.last = Some(value.into_owned()),
                "artifactType" if read.artifact_type.is_none() => {
                    // A media type has no blanks; one here was a plus sign that nobody encoded.
                    read.artifact_type = Some(value.replace(' ', "+"));
                }
                "n" if read.limit.is_none() => {
                    let limit = value.parse().map_err(|_| {
                        let message = "n is not a number of tags";
                        Refusal::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message)
                    })?;
                    read.limit = Some(limit);
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The path without its percent-encoding, which some clients apply to the colon of a digest.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(others.get(..2)?).ok()?;
            // Parsing alone would take "+f" for a number.
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(path: &str) -> Result<Route, &'static str> {
        Route::read(&Method::GET, path).map_err(|refusal| refusal.code)
    }

    /// Every path of the API that is served, and what is none.
    #[test]
    fn paths_are_taken_apart_from_their_end() {
        let repository = || "a/b".to_owned();
        let digest: Digest = DIGEST.parse().unwrap();
        let tag = |text: &str| Wanted::Tag(text.to_owned());
        let cases = [
            ("/v2", Ok(Route::Base)),
            ("/v2/", Ok(Route::Base)),
            ("/v2/a/b/tags/list", Ok(Route::Tags { repository: repository() })),
            ("/v2/a/b/manifests/1.0", Ok(Route::Manifest { repository: repository(), wanted: tag("1.0") })),
            (
                &format!("/v2/a/b/manifests/{DIGEST}"),
                Ok(Route::Manifest { repository: repository(), wanted: Wanted::Digest(digest) }),
            ),
            (&format!("/v2/a/b/blobs/{DIGEST}"), Ok(Route::Blob { repository: repository(), digest })),
            (
                &format!("/v2/a/b/blobs/{}", DIGEST.replace(':', "%3A")),
                Ok(Route::Blob { repository: repository(), digest }),
            ),
            (
                "/v2/a/manifests/b/manifests/1",
                Ok(Route::Manifest { repository: "a/manifests/b".to_owned(), wanted: tag("1") }),
            ),
            ("/v2/a/b/blobs/sha256:..%2f..", Err("NOT_FOUND")),
            ("/v2/a/b/blobs/sha256:abc", Err("DIGEST_INVALID")),
            ("/v2/a/b/manifests/md5:abc", Err("DIGEST_INVALID")),
            ("/v2/a/b/blobs/uploads/", Err("NOT_FOUND")),
            (
                &format!("/v2/a/b/referrers/{DIGEST}"),
                Ok(Route::Referrers { repository: repository(), subject: digest }),
            ),
            ("/v2/a/b/referrers/x", Err("DIGEST_INVALID")),
            ("/v2/a/b/referrers/", Err("DIGEST_INVALID")),
            ("/v2/_catalog", Err("NOT_FOUND")),
            ("/v2x/a/manifests/1", Err("NOT_FOUND")),
            ("/v1/a", Err("NOT_FOUND")),
            ("/v2/%zz", Err("NOT_FOUND")),
            ("/v2/%+f", Err("NOT_FOUND")),
            ("/v2/%f", Err("NOT_FOUND")),
            ("/", Err("NOT_FOUND")),
        ];
        for (path, wanted) in cases {
            assert_eq!(read(path), wanted, "{path}");
        }
        let refusal = Route::read(&Method::POST, "/v2/a/b/blobs/uploads/").unwrap_err();
        assert_eq!((refusal.status, refusal.code), (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"));
    }

    /// The query's known keys, percent-encoded or not.
    #[test]
    fn queries_are_read() {
        let query = Query::read("n=2&last=a%2Bb&ns=docker.io&x=1&n=3").unwrap();
        let wanted = Query {
            namespace: Some("docker.io".into()),
            limit: Some(2),
            last: Some("a+b".into()),
            artifact_type: None,
        };
        assert_eq!(query, wanted);
        for written in ["application/spdx%2Bjson", "application/spdx+json", "application%2Fspdx+json"] {
            let query = Query::read(&format!("artifactType={written}&artifactType=x")).unwrap();
            assert_eq!(query.artifact_type.as_deref(), Some("application/spdx+json"), "{written}");
        }
        assert_eq!(Query::read("").unwrap(), Query::default());
        for bad in ["n=-1", "n=x", "n="] {
            assert_eq!(Query::read(bad).unwrap_err().code, "PAGINATION_NUMBER_INVALID", "{bad}");
        }
    }
}
