//! Simple signing: the signatures of a manifest, from a lookaside and from the registry itself (containers/image,
//! "signature protocols").
//!
//! A lookaside has them as `BASE/PATH@ALG=HEX/signature-N`, N from 1 to the first that is not there; it is a web server
//! or a folder, and it never sees a registry's credentials. A registry that says `X-Registry-Supports-Signatures: 1` keeps
//! them itself. containers/image asks only the registry then; here both are asked, because what is taken along has to
//! serve a far side that knows neither. The bytes come as they are: only whoever has the keys can prove them.

use std::io::Read as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};
use serde::Deserialize;
use url::Url;

use super::attempt::{Attempt, Found};
use super::auth;
use super::error::{About, RegistryError, shown};
use super::exchange::{Ask, Identity};
use super::keyed::Keyed;
use super::retry::Budget;
use super::route::Target;
use super::{Notice, Registry};
use crate::digest::Digest;
use crate::reference::Repository;
use crate::text::printable;

/// The longest signature, and the longest list of them.
const CAP: u64 = 4 << 20;

/// The most signatures of one manifest. A server that has more has every file that it is asked for.
const MOST: usize = 128;

/// The most bytes of all signatures of one image: they are in memory at a time.
pub const SIGNATURES_CAP: u64 = 64 << 20;

/// How the ping says that the registry keeps signatures.
const SUPPORTS: HeaderName = HeaderName::from_static("x-registry-supports-signatures");

impl Registry {
    /// The simple-signing signatures of a manifest that a lookaside has, in its order. `base` is what
    /// [`RegistriesD`](super::config::registries_d::RegistriesD) says for the image. `room` is how many bytes of
    /// [`SIGNATURES_CAP`] are left, and becomes less by what comes.
    ///
    /// # Errors
    /// Any [`RegistryError`] of a request; [`RegistryError::TooLarge`], [`RegistryError::SignaturesTooLarge`] and
    /// [`RegistryError::TooMany`]; [`RegistryError::SignatureFile`].
    pub async fn signatures_aside(
        &self,
        repository: &Repository,
        digest: &Digest,
        base: &Url,
        room: &mut u64,
    ) -> Result<Vec<Bytes>, RegistryError> {
        let subject = format!("{repository}@{digest}");
        let mut signatures = Vec::new();
        loop {
            let url = place(base, repository, digest, signatures.len() + 1);
            let found = if url.scheme() == "file" {
                of_file(&subject, &url).await?
            } else {
                let endpoint = self.inner.client.endpoints.of(&url);
                let name = url.host_str().unwrap_or_default();
                let get = || self.of_web(&subject, &url);
                self.retrying_at(&Budget::new(), (&endpoint, name), Some(*digest), get).await?
            };
            let Some(signature) = found else { return Ok(signatures) };
            let about = || About { subject: subject.clone(), request: format!("GET {}", shown(&url)) };
            take_room(room, &signature, about)?;
            if signatures.len() == MOST {
                let about = about();
                return Err(RegistryError::TooMany { about, what: "signatures", most: MOST });
            }
            signatures.push(signature);
        }
    }

    async fn of_web(&self, subject: &str, url: &Url) -> Result<Option<Bytes>, RegistryError> {
        let answer = auth::get(&self.inner.client, subject, url.clone(), None).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                answer.discard().await;
                return Ok(None);
            }
            _ => return Err(answer.into_error().await),
        }
        let content_type = answer.header(CONTENT_TYPE).unwrap_or_default().trim_start();
        if content_type.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("text/html")) {
            self.notice(Notice::Warning(format!("{}: the signature comes as a web page", answer.about)));
        }
        answer.document(CAP).await.map(Some)
    }

    /// Whether the registry keeps signatures by itself, which its ping says to everybody, in a challenge too. One that
    /// cannot be pinged does not, as far as anybody can tell: it served the image.
    async fn keeps_signatures(&self, repository: &Repository) -> bool {
        if let Some(known) = self.inner.offers.keeps_signatures(repository) {
            return known;
        }
        let subject = repository.to_string();
        let Ok(target) = self.inner.routes.listing(repository) else { return false };
        let ping = || async {
            let ask = Ask { identity: Identity::Anonymous, ..Ask::get(&subject) };
            let Found { answer, .. } = self.attempt(&target, ask, "/v2/").await?;
            if super::advice::is_passing(answer.status()) {
                return Err(answer.into_error().await);
            }
            let keeps = answer.header(SUPPORTS).is_some_and(|value| value.trim() == "1");
            answer.discard().await;
            Ok(keeps)
        };
        let keeps = self.retrying(&Budget::new(), &target, None, ping).await.unwrap_or_else(|error| {
            self.notice(Notice::Warning(format!(
                "whether the registry keeps signatures cannot be told, and it is not asked for any: {}",
                error.explained()
            )));
            false
        });
        self.inner.offers.learn_signatures(repository, keeps);
        keeps
    }

    /// The simple-signing signatures of a manifest that the registry keeps itself, where it does. `room` is as for
    /// [`Registry::signatures_aside`].
    ///
    /// # Errors
    /// As [`Registry::signatures_aside`], and [`RegistryError::SignatureList`].
    pub async fn signatures_kept(
        &self,
        repository: &Repository,
        digest: &Digest,
        room: &mut u64,
    ) -> Result<Vec<Bytes>, RegistryError> {
        if !self.keeps_signatures(repository).await {
            return Ok(Vec::new());
        }
        let kept = self.kept(repository, digest).await?;
        let request = || "the registry's own signatures".to_owned();
        let about = || About { subject: format!("{repository}@{digest}"), request: request() };
        kept.iter().try_for_each(|signature| take_room(room, signature, about))?;
        Ok(kept)
    }

    /// What the registry keeps.
    async fn kept(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Bytes>, RegistryError> {
        let subject = format!("{repository}@{digest}");
        let target = self.inner.routes.listing(repository)?;
        let path = format!("/extensions/v2/{}/signatures/{digest}", target.repository.path());
        let get = || async {
            let Found { answer, .. } = self.attempt(&target, Ask::get(&subject), &path).await?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => {
                    answer.discard().await;
                    return Ok(Vec::new());
                }
                _ => return Err(answer.into_error().await),
            }
            let about = answer.about.clone();
            let document = answer.json(CAP).await?;
            let signatures = listed(&document)
                .map_err(|reason| RegistryError::SignatureList { about: about.clone(), reason })?;
            if signatures.len() > MOST {
                return Err(RegistryError::TooMany { about, what: "signatures", most: MOST });
            }
            Ok(signatures)
        };
        self.retrying(&Budget::new(), &target, Some(*digest), get).await
    }

    async fn attempt<'a>(
        &'a self,
        target: &'a Target,
        ask: Ask<'a>,
        path: &'a str,
    ) -> Result<Found, RegistryError> {
        let (client, authenticator) = (&self.inner.client, &self.inner.authenticator);
        Attempt { client, authenticator, target, ask, path }.run().await
    }
}

fn take_room(room: &mut u64, signature: &Bytes, about: impl Fn() -> About) -> Result<(), RegistryError> {
    let too_large = || RegistryError::SignaturesTooLarge { about: about(), cap: SIGNATURES_CAP };
    *room = room.checked_sub(signature.len() as u64).ok_or_else(too_large)?;
    Ok(())
}

/// Where a lookaside has a signature.
fn place(base: &Url, repository: &Repository, digest: &Digest, number: usize) -> Url {
    let (folder, path) = (base.path().trim_end_matches('/'), repository.path());
    let mut url = base.clone();
    url.set_path(&format!("{folder}/{path}@{}={}/signature-{number}", digest.algorithm(), digest.hex()));
    url
}

/// The signature in a file, `None` when there is no such file.
async fn of_file(subject: &str, url: &Url) -> Result<Option<Bytes>, RegistryError> {
    let about = || About { subject: subject.to_owned(), request: format!("reading {}", shown(url)) };
    let Ok(path) = url.to_file_path() else {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no file of this machine");
        return Err(RegistryError::SignatureFile { path: PathBuf::from(url.path()), source });
    };
    let file = path.clone();
    let read = tokio::task::spawn_blocking(move || read_file(&file)).await;
    let read = read.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
    let read = read.map_err(|source| RegistryError::SignatureFile { path, source })?;
    match read {
        Some(bytes) if bytes.len() as u64 > CAP => Err(RegistryError::TooLarge { about: about(), cap: CAP }),
        read => Ok(read.map(Bytes::from)),
    }
}

/// One byte more than the cap at the most, which tells that it is too large.
fn read_file(path: &std::path::Path) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::metadata(path) {
        // A pipe would be waited for without end.
        Ok(metadata) if !metadata.is_file() => {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(_) => {}
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(CAP + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    signatures: Option<Vec<Keyed<Listed>>>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "schemaVersion", default)]
    version: i64,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    content: Option<String>,
}

/// The signatures in the extension's answer, of the one form that is defined.
fn listed(document: &[u8]) -> Result<Vec<Bytes>, String> {
    let Keyed(list): Keyed<List> =
        serde_json::from_slice(document).map_err(|error| printable(&error.to_string()))?;
    let is_atomic = |listed: &Listed| listed.version == 2 && listed.kind == "atomic";
    let listed = list.signatures.unwrap_or_default().into_iter().map(|Keyed(listed)| listed);
    let contents = listed.filter(is_atomic);
    let contents = contents.filter_map(|listed| listed.content).filter(|content| !content.is_empty());
    let decoded = contents.map(|content| STANDARD.decode(content).map(Bytes::from));
    decoded.collect::<Result<_, _>>().map_err(|error| format!("a signature is not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path is containers/image's: the repository without its host, `library/` included, and `ALG=HEX`.
    #[test]
    fn places_in_a_lookaside() {
        let sha256 = Digest::sha256(b"");
        let sha512 = crate::digest::Algorithm::Sha512.digest(b"");
        let cases = [
            ("https://x.example", "alpine", &sha256, "https://x.example/library/alpine"),
            ("https://x.example/", "alpine", &sha256, "https://x.example/library/alpine"),
            ("https://x.example/s/", "r.example:5000/a/b", &sha512, "https://x.example/s/a/b"),
            ("http://x.example:81/s?q=1", "r.example/a", &sha256, "http://x.example:81/s/a"),
            ("file:///var/lib/s%20s", "r.example/a", &sha256, "file:///var/lib/s%20s/a"),
        ];
        for (base, repository, digest, expected) in cases {
            let base = Url::parse(base).unwrap();
            let url = place(&base, &repository.parse().unwrap(), digest, 3);
            let (algorithm, hex) = (digest.algorithm(), digest.hex());
            let query = base.query().map(|query| format!("?{query}")).unwrap_or_default();
            assert_eq!(url.as_str(), format!("{expected}@{algorithm}={hex}/signature-3{query}"));
        }
    }

    /// Only what is defined is taken; what comes in another version or of another type is not guessed at.
    #[test]
    fn lists_of_the_extension() {
        let one = r#"{"schemaVersion":2,"name":"sha256:00@11","type":"atomic","content":"YWJj"}"#;
        let cases: [(&str, Result<&[&str], &str>); 12] = [
            (r"{}", Ok(&[])),
            (r#"{"signatures":null}"#, Ok(&[])),
            (&format!(r#"{{"signatures":[{one},{one}],"other":1}}"#), Ok(&["abc", "abc"])),
            (r#"{"signatures":[{"schemaVersion":1,"type":"atomic","content":"YWJj"}]}"#, Ok(&[])),
            (r#"{"signatures":[{"schemaVersion":2,"type":"other","content":"!"}]}"#, Ok(&[])),
            (r#"{"signatures":[{"schemaVersion":2,"type":"atomic"}]}"#, Ok(&[])),
            (r#"{"signatures":[{"schemaVersion":2,"type":"atomic","content":"!"}]}"#, Err("base64")),
            (r#"{"signatures":{}}"#, Err("line 1")),
            (r#"{"signatures":[[2,"atomic","YWJj"]]}"#, Err("line 1")),
            (&format!("[[{one}]]"), Err("line 1")),
            ("<html>", Err("line 1")),
            ("", Err("EOF")),
        ];
        for (document, expected) in cases {
            match (listed(document.as_bytes()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{document}"),
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{document}: {reason}"),
                (found, _) => panic!("{document}: {found:?}"),
            }
        }
    }
}
