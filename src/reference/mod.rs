//! Image references: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, as people write them and as systems compare them.
//!
//! The grammar is the one that docker, podman and containerd share (the distribution project's `reference` package),
//! with Docker Hub's abbreviations: a name without a host is Docker Hub's, one without a namespace is in `library/`.
//! A [`Reference`], a [`Repository`] and a [`Tag`] cannot be built invalid, so each may become part of a URL or an
//! annotation without another look.
//!
//! What a name without a host means beyond Docker Hub (aliases, search registries) is left to the registry
//! configuration, which is why a [`Reference`] remembers what was written. Transport prefixes such as `docker://` are
//! the command line's affair.

mod derived;
mod error;
mod grammar;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::text::printable;

pub use self::error::ReferenceError;
use self::grammar::{Parts, is_host, parse_port, split_port};

/// Docker Hub's name in references.
const DOCKER_HUB: &str = "docker.io";

/// The host that serves Docker Hub's API; `docker.io` itself is a web site.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// Docker Hub's namespace for names that have none.
const LIBRARY: &str = "library/";

/// The longest path, an added `library/` included: the limit of the distribution project's registry.
const LONGEST_PATH: usize = 255;

/// The longest tag, by the distribution spec's "Pulling manifests".
const LONGEST_TAG: usize = 128;

/// A name for an image in a registry: a repository with a tag, a digest, or both.
///
/// With both, the digest decides what is meant and the tag only names it. With neither, the tag is `latest`.
/// Two references are equal when their canonical forms are, however they were written.
#[derive(Debug, Clone)]
pub struct Reference {
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
    written: Written,
}

/// How a name was written, as far as its canonical form no longer tells.
#[derive(Debug, Clone, Copy)]
struct Written {
    host: bool,
    library: bool,
}

impl Reference {
    /// A reference to `repository` by tag, by digest or by both; by the tag `latest` with neither.
    pub fn new(repository: Repository, tag: Option<Tag>, digest: Option<Digest>) -> Self {
        let tag = if digest.is_none() { Some(tag.unwrap_or_default()) } else { tag };
        Self { repository, tag, digest, written: Written { host: true, library: true } }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag: the one that was written, `latest` where there was neither tag nor digest, none where there was a
    /// digest only.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, where one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether a host was written. Where none was, the host is `docker.io` unless short names say otherwise.
    pub fn is_host_written(&self) -> bool {
        self.written.host
    }

    /// The path as it was written: without the `library/` that only Docker Hub's abbreviation adds.
    pub fn written_path(&self) -> &str {
        let path = self.repository.path();
        if self.written.library { path } else { path.strip_prefix(LIBRARY).unwrap_or(path) }
    }

    /// The reference as it was written, as far as that is known: without the host and the `library/` that were added to it.
    pub fn written(&self) -> String {
        let mut text =
            if self.is_host_written() { format!("{}/", self.repository.host()) } else { String::new() };
        let _ = self.write_with(&mut text, self.written_path());
        text
    }

    /// The same repository and tag with `digest`, which from then on decides what is meant.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same repository by this tag alone.
    #[must_use]
    pub fn with_tag(&self, tag: Tag) -> Self {
        Self { tag: Some(tag), digest: None, ..self.clone() }
    }

    /// The canonical form, which is also what `Display` writes: `docker.io/library/alpine:3.20`, with a digest
    /// `docker.io/library/alpine@sha256:…`, with both `docker.io/library/alpine:3.20@sha256:…`.
    pub fn canonical(&self) -> String {
        self.to_string()
    }

    /// Docker's familiar form, `alpine:3.20`: what is said of Docker Hub by default is left out.
    ///
    /// It parses back to this same reference. Where leaving out `docker.io` would name another registry
    /// (`docker.io/example.com/app`) it stays, unlike in docker.
    pub fn familiar(&self) -> String {
        let name = self.repository.familiar_name();
        let mut text = String::with_capacity(name.len());
        let _ = self.write_with(&mut text, name);
        text
    }

    /// The full name as the `io.containerd.image.name` annotation has it: the canonical name with its tag, or with its
    /// digest where there is no tag.
    pub fn full_name(&self) -> String {
        match (&self.tag, &self.digest) {
            (None, Some(digest)) => format!("{}@{digest}", self.repository),
            (tag, _) => format!("{}:{}", self.repository, tag.as_ref().map_or(Tag::LATEST, Tag::as_str)),
        }
    }

    fn write_with(&self, target: &mut impl fmt::Write, name: impl fmt::Display) -> fmt::Result {
        write!(target, "{name}")?;
        if let Some(tag) = &self.tag {
            write!(target, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(target, "@{digest}")?;
        }
        Ok(())
    }

    fn identity(&self) -> (&Repository, Option<&Tag>, Option<&Digest>) {
        (&self.repository, self.tag.as_ref(), self.digest.as_ref())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Parses a reference in any of its forms, abbreviated or full.
    ///
    /// # Errors
    /// Every [`ReferenceError`] except [`ReferenceError::NotARepository`].
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let parts = Parts::split(text)?;
        let (repository, written) = parts.repository()?;
        let tag = parts.tag.map(str::parse::<Tag>).transpose()?;
        let digest = parts.digest.map(parse_digest).transpose()?;
        Ok(Self { written, ..Self::new(repository, tag, digest) })
    }
}

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    text.parse().map_err(|source| ReferenceError::BadDigest { digest: printable(text), source })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_with(f, &self.repository)
    }
}

impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Reference {}

impl Hash for Reference {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reference {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

/// A repository: a registry's host and the path of the repository there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// The host as references name it, with its port where one was written: `docker.io`, `localhost:5000`,
    /// `[::1]:5000`. Its case is as written.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path, `library/` included: `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The host, with its port where one was written, that serves the distribution API:
    /// `registry-1.docker.io` for `docker.io`, otherwise [`host`](Self::host).
    pub fn api_host(&self) -> &str {
        if self.host == DOCKER_HUB { DOCKER_HUB_API } else { &self.host }
    }

    /// The host without its port, and an IPv6 address without its brackets.
    pub fn host_name(&self) -> &str {
        let (name, _) = split_port(&self.host);
        name.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, where one was written.
    pub fn port(&self) -> Option<u16> {
        split_port(&self.host).1.and_then(parse_port)
    }

    /// Whether the host is this machine by its name: `localhost`, `*.localhost`, an address in 127.0.0.0/8, or `::1`.
    /// No name is looked up.
    pub fn is_loopback(&self) -> bool {
        let name = self.host_name().to_ascii_lowercase();
        name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || name.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
    }

    fn familiar_name(&self) -> String {
        let short = match self.path.strip_prefix(LIBRARY) {
            Some(name) if !name.contains('/') => name,
            _ => &self.path,
        };
        let reads_as_host = short.split_once('/').is_some_and(|(first, _)| is_host(first));
        if self.host == DOCKER_HUB && !reads_as_host { short.to_owned() } else { self.to_string() }
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    /// Parses a repository's name, abbreviated or full.
    ///
    /// # Errors
    /// [`ReferenceError::NotARepository`] where a tag or a digest follows the name, and every other
    /// [`ReferenceError`] that is about the name.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let parts = Parts::split(text)?;
        if parts.tag.is_some() || parts.digest.is_some() {
            return Err(ReferenceError::NotARepository { text: printable(text) });
        }
        Ok(parts.repository()?.0)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

/// A tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`. The default is `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag of a reference that names none.
    pub const LATEST: &'static str = "latest";

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tag {
    fn default() -> Self {
        Self(Self::LATEST.to_owned())
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    /// Parses a tag.
    ///
    /// # Errors
    /// [`ReferenceError::BadTag`].
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_valid = text.len() <= LONGEST_TAG
            && text.bytes().next().is_some_and(is_word)
            && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError::BadTag { tag: printable(text) })
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Serialised forms are the text forms, and reading one is parsing it.
macro_rules! serialized_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serialized_as_text!(Reference, Repository, Tag);

#[cfg(test)]
mod tests;
