//! What can go wrong between here and a registry: [`RegistryError`]. What may be done about it, [`advice`](super::advice) says.
//!
//! Every error of a request names what it is about (reference or repository and digest) and the URL, without user,
//! password and query: signed URLs carry their secret in the query. Texts from the far side are capped and escaped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::auth::{CredentialError, Identity};
use super::config::certs_d::CertsDError;
use super::config::registries_conf::RegistriesConfError;
use super::pages::LinkRefusal;
use super::redirect::Refusal;
use super::retrying::Earlier;
use super::tags::TAGS;
use super::tried::{self, Told, Tried};
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::manifest::ManifestError;

pub use super::codes::Code;
pub use super::fault::Fault;
pub use super::words::About;
pub(super) use super::words::shown;
pub use super::words::{ends, tried_times, wait};
use super::words::{listed, status_line};

/// Why a question to a registry was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A file of certificates cannot be read.
    #[error("cannot read the certificates in {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of certificates holds none, or something that is none.
    #[error("{} does not hold certificates in PEM form: {reason}", path.display())]
    CaFileMalformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A proxy that the environment names cannot be used.
    #[error("the environment variable {variable} does not hold the URL of a proxy: {reason}")]
    Proxy {
        /// The variable.
        variable: String,
        /// What is wrong, without the value, which may hold a password.
        reason: String,
    },
    /// The repository's credentials cannot be read.
    #[error("{repository}: the credentials cannot be read")]
    Credentials {
        /// The repository.
        repository: String,
        /// Why.
        source: CredentialError,
    },
    /// The URL of a request cannot be built from the reference.
    #[error("{subject}: \"{host}\" cannot be part of a URL")]
    Host {
        /// What the request is about.
        subject: String,
        /// The host.
        host: String,
    },
    /// The connection failed.
    #[error("{about}: {fault}")]
    Network {
        /// The request.
        about: About,
        /// How.
        fault: Fault,
    },
    /// An answer with a status that is no success.
    #[error("{about} was answered {}{}", status_line(*.status), listed(.codes))]
    Status {
        /// The request.
        about: About,
        /// The status.
        status: StatusCode,
        /// What the registry says about it.
        codes: Vec<Code>,
        /// The wait that the registry announced, where it did.
        retry_after: Option<Duration>,
        /// As whom the registry was asked, where that may be why it refuses.
        identity: Option<Box<Identity>>,
    },
    /// The registry wants a proof of identity that cannot be given.
    #[error("{about} needs authentication, {reason}{}", listed(.codes))]
    Unauthorized {
        /// The request.
        about: About,
        /// Why it cannot be given.
        reason: &'static str,
        /// What the registry says about it.
        codes: Vec<Code>,
        /// As whom the registry was asked.
        identity: Option<Box<Identity>>,
    },
    /// No token could be had.
    #[error("{subject}: the token service gave no token")]
    Token {
        /// What the token was for.
        subject: String,
        /// As whom the registry was asked.
        identity: Option<Box<Identity>>,
        /// Why not; all who waited for the same token share it.
        source: Arc<RegistryError>,
    },
    /// The token service's answer holds no token.
    #[error("{about} was answered without a token: {reason}")]
    TokenAnswer {
        /// The request to the token service.
        about: About,
        /// What is wrong with the answer.
        reason: &'static str,
    },
    /// The token service that a challenge names is not asked.
    #[error("{about}: the token service that the registry names is not asked: its URL {refusal}")]
    Realm {
        /// The request that was challenged.
        about: About,
        /// Why.
        refusal: Refusal,
    },
    /// The token service would be asked in plain http, which is not for the credentials of this registry.
    #[error("{about}: the token service that the registry names speaks plain http at \"{host}\"")]
    RealmInPlain {
        /// The request that was challenged.
        about: About,
        /// The token service's host.
        host: String,
    },
    /// A redirect is not followed.
    #[error("{about} was redirected in a way that is not followed: {refusal}")]
    Redirect {
        /// The request that was answered with the redirect.
        about: About,
        /// Why.
        refusal: Refusal,
    },
    /// The link to the next page of a listing is not followed.
    #[error("{about} was answered with a link to the next page that is not followed: {refusal}")]
    Link {
        /// The request for the page with the link.
        about: About,
        /// Why.
        refusal: LinkRefusal,
    },
    /// A page of a listing is not what such a page is.
    #[error("{about}: the answer, of the type \"{content_type}\", is no such listing")]
    Listing {
        /// The request for the page.
        about: About,
        /// The media type that the answer claims.
        content_type: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A repository has more than [`TAGS`] tags.
    #[error("{about}: more than {TAGS} tags")]
    TooManyTags {
        /// The request for the page with which they became too many.
        about: About,
    },
    /// A URL that a descriptor names is not asked.
    #[error("{about} was not made: the URL {refusal}")]
    Elsewhere {
        /// The request that was not made.
        about: About,
        /// Why.
        refusal: Refusal,
    },
    /// Neither the URLs that the descriptor names nor the registry have the blob.
    #[error("{subject} could be had from none of its places: {tried}")]
    Nowhere {
        /// The blob.
        subject: String,
        /// What each of them said.
        tried: Tried,
    },
    /// The mirrors failed, and then the registry itself.
    #[error("{primary}; {} failed before it: {mirrors}", if mirrors.len() == 1 { "its mirror" } else { "its mirrors" })]
    Mirrored {
        /// What each mirror said.
        mirrors: Tried,
        /// What the registry said.
        primary: Told,
    },
    /// The configuration forbids to ask the registry.
    #[error("{subject}: {host} is not asked: the entry \"{prefix}\" in {} blocks it", path.display())]
    Blocked {
        /// What would have been asked about.
        subject: String,
        /// The registry.
        host: String,
        /// The entry's prefix.
        prefix: String,
        /// The file with the entry.
        path: PathBuf,
    },
    /// registries.conf cannot be used for this.
    #[error("{subject}: the configuration of registries cannot be used")]
    Configuration {
        /// What was to be asked about.
        subject: String,
        /// Why.
        source: Arc<RegistriesConfError>,
    },
    /// A reference without a host is nothing of what it may mean.
    #[error("{name} is none of the {} images that it may stand for: {}", failures.len(), failures.join("; "))]
    NoneMeant {
        /// The reference as it was written.
        name: String,
        /// What was said about each.
        failures: Vec<String>,
        /// The kind of the failure that tells most.
        kind: Kind,
        /// Its hint.
        hint: Option<String>,
    },
    /// The certificates that are configured for a host cannot be used.
    #[error("the certificates for {host} cannot be used")]
    Certificates {
        /// The host.
        host: String,
        /// Why.
        source: Box<CertsDError>,
    },
    /// A range was asked for, and the answer is another one, or none.
    #[error("{about}: {asked} was asked for, and answered {found}")]
    WrongRange {
        /// The request.
        about: About,
        /// What was asked for: a range, or all.
        asked: &'static str,
        /// What came, as the end of a sentence.
        found: String,
    },
    /// The body goes past the size that the descriptor says, or past the range that it is for.
    #[error("{about}: the body goes past the {size} bytes that it should have")]
    Oversize {
        /// The request.
        about: About,
        /// How many bytes it should have.
        size: u64,
    },
    /// The body has another size than the descriptor says.
    #[error("{about}: {found} bytes, and it should have {size}")]
    SizeMismatch {
        /// The request.
        about: About,
        /// The descriptor's size.
        size: u64,
        /// The body's.
        found: u64,
    },
    /// A document is larger than documents of its kind may be.
    #[error("{about}: more than the {cap} bytes that such a document may have")]
    TooLarge {
        /// The request, or the descriptor.
        about: About,
        /// The cap in bytes.
        cap: u64,
    },
    /// The bytes are not those that the digest stands for.
    #[error("{about}: the bytes have the digest {found}, not {wanted}")]
    DigestMismatch {
        /// The request.
        about: About,
        /// What was asked for, or what the answer's header says.
        wanted: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// The registry does not tell how large a blob is.
    #[error("{about}: the size of the blob cannot be told: {reason}")]
    SizeUnknown {
        /// The request.
        about: About,
        /// What the answer has in place of a size.
        reason: String,
    },
    /// A `Content-Encoding` that nobody asked for cannot be undone.
    #[error("{about}: the body's Content-Encoding \"{encoding}\" cannot be undone: {reason}")]
    Encoding {
        /// The request.
        about: About,
        /// The encoding.
        encoding: String,
        /// What is wrong.
        reason: String,
    },
    /// The registry does not have the part of the API that was asked for.
    #[error("{about} was answered {}: the registry does not offer this", status_line(*.status))]
    NotOffered {
        /// The request.
        about: About,
        /// The status.
        status: StatusCode,
        /// What the registry says about it.
        codes: Vec<Code>,
    },
    /// All pages of a listing together are longer than such a listing may be.
    #[error("{about}: the pages have more than {} MiB together", cap >> 20)]
    ListingTooLarge {
        /// The request for the page with which they became too long.
        about: About,
        /// The cap in bytes.
        cap: u64,
    },
    /// The signatures of one image are longer than they may be together.
    #[error("{about}: the signatures of one image have more than {} MiB together", cap >> 20)]
    SignaturesTooLarge {
        /// The request with which they became too long.
        about: About,
        /// The cap in bytes.
        cap: u64,
    },
    /// There is more of something than there may be.
    #[error("{about}: more than {most} {what}")]
    TooMany {
        /// The last request.
        about: About,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// A list of signatures cannot be understood.
    #[error("{about}: the list of signatures cannot be used: {reason}")]
    SignatureList {
        /// The request.
        about: About,
        /// What is wrong with it.
        reason: String,
    },
    /// A signature's file cannot be read.
    #[error("cannot read the signature {}", path.display())]
    SignatureFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The document is not a manifest.
    #[error("{about}: the manifest cannot be used")]
    Manifest {
        /// The request.
        about: About,
        /// Why.
        source: Box<ManifestError>,
    },
    /// Every try failed. The source is the first failure, which is nearer to the cause than the last.
    #[error(
        "gave up after {} in {:.1} s{}",
        tried_times(*.tries),
        elapsed.as_secs_f64(),
        ends(first.as_deref(), last.as_deref())
    )]
    GaveUp {
        /// How many times it was tried.
        tries: u32,
        /// From the first try to the last failure.
        elapsed: Duration,
        /// What the first failure of all said, where it befell another request and is not what the source says.
        first: Option<String>,
        /// What the last failure said, where it is not what the source says.
        last: Option<String>,
        /// This request's first failure.
        source: Box<RegistryError>,
    },
    /// The host announced a wait that is too long to sit out.
    #[error("the server asks to come back after {}{}", wait(*.after), before.as_ref().map(Earlier::to_string).unwrap_or_default())]
    ComeBackLater {
        /// How long.
        after: Duration,
        /// What the tries before came to, where there were any.
        before: Option<Earlier>,
        /// The answer.
        source: Box<RegistryError>,
    },
    /// The registry refused for good, after tries that had failed.
    #[error("failed for good{before}")]
    InVain {
        /// What the tries before came to.
        before: Earlier,
        /// The refusal.
        source: Box<RegistryError>,
    },
}

/// Whether a failure may come from having asked for a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeDoubt {
    /// It has another reason.
    None,
    /// It may have, as it may have others that pass.
    Weak,
    /// Another try like it would end the same.
    Strong,
}

impl RegistryError {
    /// What the last try ended with, where there is no use in another: the same whatever came before it.
    pub(crate) fn refusal(&self) -> &Self {
        match self {
            Self::InVain { source, .. } => source.refusal(),
            error => error,
        }
    }

    /// Whether a range was asked for and something else came: the blob may have to be read as one stream.
    pub fn is_range_refusal(&self) -> bool {
        match self.refusal() {
            Self::WrongRange { .. } => true,
            Self::Nowhere { tried, .. } => tried.is_range_refusal(),
            Self::GaveUp { source, .. } => source.is_range_refusal(),
            Self::Mirrored { primary, .. } => primary.is_range_refusal(),
            _ => false,
        }
    }

    /// Whether a request for a range may have been refused for being one, by a server, or something in front of it, that would bring
    /// the whole. Of an answer that says so, [`Self::is_range_refusal`] tells.
    pub fn may_be_about_ranges(&self) -> RangeDoubt {
        match self.refusal() {
            Self::Status { status, .. } => match status.as_u16() {
                401 | 404 | 407 | 408 | 410 | 429 | 451 => RangeDoubt::None,
                400..=499 | 501 | 505 => RangeDoubt::Strong,
                500..=599 => RangeDoubt::Weak,
                _ => RangeDoubt::None,
            },
            Self::Network { fault: Fault::Request(_), .. } => RangeDoubt::Weak,
            _ => RangeDoubt::None,
        }
    }

    /// The status of the answer, where it came to one.
    pub fn status(&self) -> Option<StatusCode> {
        match self.refusal() {
            Self::Status { status, .. } => Some(*status),
            Self::GaveUp { source, .. } | Self::ComeBackLater { source, .. } => source.status(),
            Self::Mirrored { primary, .. } => primary.status(),
            _ => None,
        }
    }

    /// Who was refused, where that is what the error is about.
    pub(super) fn refused_identity(&self) -> Option<&Identity> {
        match self.refusal() {
            Self::Status { identity, .. } | Self::Unauthorized { identity, .. }
                if self.kind() == Kind::Auth =>
            {
                identity.as_deref()
            }
            Self::Token { identity, source, .. }
                if self.kind() == Kind::Auth && source.status().is_some_and(|s| s.is_client_error()) =>
            {
                identity.as_deref()
            }
            Self::GaveUp { source, .. } | Self::ComeBackLater { source, .. } => source.refused_identity(),
            _ => None,
        }
    }

    /// Whether what came is no manifest of a kind that is known here: of another kind, or something else altogether.
    pub fn is_no_manifest(&self) -> bool {
        let Self::Manifest { source, .. } = self.refusal() else { return false };
        matches!(
            **source,
            ManifestError::UnsupportedContentType { .. }
                | ManifestError::UnsupportedMediaType { .. }
                | ManifestError::Unrecognised
                | ManifestError::NotJson { .. }
        )
    }

    /// Whether the connection was refused because the server does not speak TLS, or closes on its hello.
    pub(super) fn is_not_tls(&self) -> bool {
        matches!(self, Self::Network { fault: Fault::NotTls | Fault::HandshakeClosed, .. })
    }

    /// Whether the connection was closed upon the TLS hello, for whatever reason.
    pub(super) fn is_closed_handshake(&self) -> bool {
        matches!(self, Self::Network { fault: Fault::HandshakeClosed, .. })
    }

    /// The error with its causes, in one line.
    pub(super) fn explained(&self) -> String {
        tried::explained(self)
    }

    /// Whether no connection to the host came about.
    pub(super) fn is_unconnected(&self) -> bool {
        matches!(self, Self::Network { fault: Fault::Connect(_) | Fault::Proxy { .. }, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::super::retry::Disposition;
    use super::*;

    /// The exit code that each status becomes, and whether it is tried again.
    #[test]
    fn statuses() {
        let cases = [
            (400, Kind::Other, false),
            (401, Kind::Auth, false),
            (403, Kind::Auth, false),
            (404, Kind::NotFound, false),
            (408, Kind::Network, true),
            (410, Kind::NotFound, false),
            (429, Kind::Network, true),
            (500, Kind::Network, true),
            (503, Kind::Network, true),
            (599, Kind::Network, true),
        ];
        for (status, kind, again) in cases {
            let about = About { subject: "r.example/a:b".into(), request: "GET https://r.example/".into() };
            let status = StatusCode::from_u16(status).unwrap();
            let error =
                RegistryError::Status { about, status, codes: Vec::new(), retry_after: None, identity: None };
            assert_eq!(error.kind(), kind, "{status}");
            assert_eq!(error.disposition() == Disposition::AGAIN, again, "{status}");
            // Nobody was asked as somebody: it was not the registry that refused.
            assert_eq!(error.hint().is_some_and(|hint| hint.contains("redirected")), kind == Kind::Auth);
        }
    }
}
