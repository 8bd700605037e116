//! What kind of failure an error of a registry is, whether to try again, and what the user may do about it.

use http::StatusCode;

use super::error::RegistryError;
use super::fault::Fault;
use super::retry::Disposition;
use super::tls::{CLIENT_CERTIFICATE, CLIENT_CERTIFICATE_REFUSED};
use crate::failure::{Failure, Kind};

impl RegistryError {
    /// What may be done about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Network { fault, .. } => match fault {
                Fault::Tls(_) | Fault::NotTls => Disposition::Fatal,
                _ => Disposition::AGAIN,
            },
            Self::Status { status, retry_after, .. } if is_passing(*status) => {
                Disposition::Again { after: *retry_after }
            }
            Self::WrongRange { .. } => Disposition::AGAIN,
            Self::Token { source, .. } => source.disposition(),
            Self::Nowhere { tried, .. } | Self::Mirrored { mirrors: tried, .. } => tried.disposition(),
            _ => Disposition::Fatal,
        }
    }
}

/// Whether the same request may be answered otherwise a little later.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) || status.is_server_error()
}

impl Failure for RegistryError {
    fn kind(&self) -> Kind {
        match self {
            Self::CaFile { .. } | Self::CaFileMalformed { .. } | Self::Proxy { .. } | Self::Host { .. } => {
                Kind::Usage
            }
            Self::SignatureFile { .. } => Kind::Other,
            Self::NotOffered { .. } => Kind::NotFound,
            Self::Credentials { source, .. } => source.kind(),
            Self::NoneMeant { kind, .. } => *kind,
            Self::Configuration { source, .. } => source.kind(),
            Self::Certificates { source, .. } => source.kind(),
            Self::Mirrored { primary, .. } => primary.kind(),
            Self::Status { status, .. } => status_kind(*status),
            Self::Unauthorized { .. }
            | Self::Blocked { .. }
            | Self::TokenAnswer { .. }
            | Self::Realm { .. }
            | Self::RealmInPlain { .. } => Kind::Auth,
            // Token services answer what they like to wrong credentials, but never "not found". An answer past its cap is
            // no answer to credentials.
            Self::Token { source, .. } => match source.kind() {
                kind @ (Kind::Network | Kind::Integrity) => kind,
                _ => Kind::Auth,
            },
            Self::Network { .. }
            | Self::Redirect { .. }
            | Self::Link { .. }
            | Self::Elsewhere { .. }
            | Self::WrongRange { .. }
            | Self::SizeUnknown { .. } => Kind::Network,
            Self::Nowhere { tried, .. } => tried.kind(),
            Self::Oversize { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::ListingTooLarge { .. }
            | Self::SignaturesTooLarge { .. }
            | Self::DigestMismatch { .. }
            | Self::Listing { .. }
            | Self::TooManyTags { .. }
            | Self::TooMany { .. }
            | Self::SignatureList { .. }
            | Self::Encoding { .. } => Kind::Integrity,
            Self::Manifest { source, .. } => source.kind(),
            Self::GaveUp { source, .. }
            | Self::ComeBackLater { source, .. }
            | Self::InVain { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        const LOGIN: &str = "the repository does not exist, or needs a login: run `ocipull login`, or pass --creds USER:PASSWORD";
        if let Some(identity) = self.refused_identity() {
            return Some(identity.hint());
        }
        let hint = match self {
            Self::Status { status: StatusCode::TOO_MANY_REQUESTS, .. } => {
                "registries limit anonymous downloads more than others: pass --creds USER:PASSWORD, or wait"
            }
            // Only the registry itself is asked as somebody.
            Self::Status { .. } if self.kind() == Kind::Auth => {
                "it is not the registry that refuses, but where it redirected: no login of yours counts there, and whoever runs the registry has to know"
            }
            Self::Unauthorized { .. } => LOGIN,
            Self::RealmInPlain { .. } => {
                "only --plain-http permits that, and only for a registry in plain http"
            }
            Self::Network { fault: Fault::Resolve(_), .. } => {
                "check how the host is spelled, and whether this machine needs a proxy"
            }
            Self::Network { fault: Fault::Proxy { .. }, .. } => {
                "check the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names, or name the host in NO_PROXY"
            }
            Self::Network { fault: Fault::Connect(_), .. } => {
                "check host and port, and whether the registry runs"
            }
            Self::Network { fault: Fault::NotTls | Fault::HandshakeClosed, .. } => {
                "use --plain-http if the registry speaks plain http"
            }
            Self::Network { fault: Fault::Tls(reason), .. } if reason.contains("issuer is not trusted") => {
                "--ca-file FILE trusts the registry's certificate authority, or its own certificate"
            }
            Self::Network { fault: Fault::Tls(reason), .. } if reason == CLIENT_CERTIFICATE => {
                "put X.cert and X.key into the registry's folder in certs.d, or pass --cert-dir DIR"
            }
            Self::SizeUnknown { .. } => {
                "the manifest does not say it either: whoever runs the registry can push the image again in a newer format"
            }
            Self::Network { fault: Fault::Tls(reason), .. } if reason == CLIENT_CERTIFICATE_REFUSED => {
                "check who issued X.cert in the registry's folder in certs.d, or in --cert-dir, and until when it holds"
            }
            Self::Credentials { source, .. } => return source.hint(),
            Self::Configuration { source, .. } => return source.hint(),
            Self::Certificates { source, .. } => return source.hint(),
            Self::Mirrored { primary, .. } => return primary.hint(),
            Self::NoneMeant { hint, .. } => return hint.clone(),
            Self::Blocked { .. } => "take `blocked` out of that entry if the registry may be used after all",
            Self::Nowhere { tried, .. } => return tried.hint(),
            Self::Manifest { source, .. } => return source.hint(),
            Self::Token { source, .. } => return source.hint(),
            Self::GaveUp { source, .. }
            | Self::ComeBackLater { source, .. }
            | Self::InVain { source, .. } => return source.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn status_kind(status: StatusCode) -> Kind {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Auth,
        status if is_passing(status) => Kind::Network,
        _ => Kind::Other,
    }
}
