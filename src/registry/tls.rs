//! Which server certificates are accepted, and which of the own ones is shown.
//!
//! The roots are the system's and those of the configured files; the system's are read when the first certificate is
//! to be judged, so that a fetch in plain http from loopback does not pay for them, and once for all servers. A certificate that is byte for byte
//! one of the configured ones is accepted when its name and time hold: that is the usual self-signed registry, whose
//! certificate the path builder refuses as a certificate authority in an end entity's place. Names come from the
//! subjectAltName only (RFC 9525); a certificate that has none gets an error that says so.
//!
//! A server that asks for a certificate gets the first of the configured ones that is signed in a way it knows and, where it
//! names the authorities that it accepts, by one of them; if none is, it gets none, and says what it thinks of that. To
//! whom which ones are configured at all is for `transport` to say.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::config::certs_d::{self, CertsDError};
use super::error::RegistryError;
use crate::text::printable;

/// What is said of a server that lets in nobody without a certificate.
pub(super) const CLIENT_CERTIFICATE: &str = "the server asks for a client certificate, and was shown none";

/// What is said of a server that looked at the certificate and wants another one.
pub(super) const CLIENT_CERTIFICATE_REFUSED: &str =
    "the server does not accept the client certificate that it was shown";

/// How servers prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ServerVerification {
    /// By a certificate that leads to one of the system's roots, or to a configured one.
    #[default]
    SystemRoots,
    /// Likewise, and for endpoints too that the configuration calls `insecure` (`--tls-verify=true`).
    Insisted,
    /// Not at all (`--tls-verify=false`).
    Disabled,
}

/// The system's roots, read when they are wanted first.
#[derive(Debug, Clone, Default)]
pub(super) struct SystemRoots(Arc<OnceLock<Vec<CertificateDer<'static>>>>);

impl SystemRoots {
    fn get(&self) -> &[CertificateDer<'static>] {
        self.0.get_or_init(|| {
            let system = rustls_native_certs::load_native_certs();
            for error in &system.errors {
                tracing::debug!(%error, "some of the system's certificates cannot be read");
            }
            system.certs
        })
    }
}

/// What one client for HTTP knows of certificates.
#[derive(Debug, Clone, Default)]
pub(super) struct Trusted {
    pub(super) system: SystemRoots,
    /// Trusted besides, or byte for byte.
    pub(super) configured: Vec<CertificateDer<'static>>,
    /// To show to servers that ask for one.
    pub(super) own: Vec<Arc<CertifiedKey>>,
}

/// The client's side of TLS: HTTP/1.1 only, with ring.
pub(super) fn client_config(verification: ServerVerification, trusted: Trusted) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Trusted { system, configured, own } = trusted;
    let verifier: Arc<dyn ServerCertVerifier> = match verification {
        ServerVerification::SystemRoots | ServerVerification::Insisted => {
            Arc::new(Verifier { provider: Arc::clone(&provider), system, configured, judge: OnceLock::new() })
        }
        ServerVerification::Disabled => Arc::new(Unverified { provider: Arc::clone(&provider) }),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("invariant: ring has cipher suites for the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = if own.is_empty() {
        config.with_no_client_auth()
    } else {
        config.with_client_cert_resolver(Arc::new(Own(own)))
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// The certificates in a file that the caller names.
///
/// # Errors
/// [`RegistryError::CaFile`] and [`RegistryError::CaFileMalformed`].
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    certs_d::certificates(path).map_err(|error| match error {
        CertsDError::Unreadable { path, source } => RegistryError::CaFile { path, source },
        error => RegistryError::CaFileMalformed { path: path.to_owned(), reason: error.reason() },
    })
}

/// The own certificates, to choose from.
#[derive(Debug)]
struct Own(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Own {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| {
            let is_known = root_hint_subjects.is_empty() || is_issued_by(&key.cert, root_hint_subjects);
            is_known && key.key.choose_scheme(schemes).is_some()
        };
        self.0.iter().find(fits).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whether one of the names, in DER, is an issuer of the chain.
fn is_issued_by(chain: &[CertificateDer<'_>], names: &[&[u8]]) -> bool {
    chain.iter().any(|certificate| {
        X509Certificate::from_der(certificate)
            .is_ok_and(|(_, parsed)| names.contains(&parsed.issuer().as_raw()))
    })
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    system: SystemRoots,
    configured: Vec<CertificateDer<'static>>,
    judge: OnceLock<Result<Arc<WebPkiServerVerifier>, String>>,
}

impl Verifier {
    fn judge(&self) -> Result<&Arc<WebPkiServerVerifier>, rustls::Error> {
        let judge = self.judge.get_or_init(|| self.load());
        judge.as_ref().map_err(|reason| rustls::Error::General(reason.clone()))
    }

    fn load(&self) -> Result<Arc<WebPkiServerVerifier>, String> {
        let mut roots = RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(self.system.get().iter().cloned());
        // An end entity's certificate among the configured ones is no root, and need not be one.
        roots.add_parsable_certificates(self.configured.iter().cloned());
        tracing::debug!(
            roots = roots.len(),
            unusable,
            configured = self.configured.len(),
            "certificates loaded"
        );
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|_| "no root certificate was found on this system, and none was configured".to_owned())
    }

    fn accept_configured(
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (_, parsed) = X509Certificate::from_der(end_entity)
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < parsed.validity().not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > parsed.validity().not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = if self.configured.iter().any(|certificate| certificate == end_entity) {
            Self::accept_configured(end_entity, server_name, now)
        } else {
            self.judge()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        verified.map_err(|error| match error {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) if lacks_names(end_entity) => {
                CertificateError::Other(OtherError(Arc::new(NoSubjectAltName))).into()
            }
            // The path builder's words are "CA used as end entity", and "bad signature" where another certificate with
            // that name is configured (the registry made itself a new one). Neither tells what to do.
            rustls::Error::InvalidCertificate(
                CertificateError::Other(_) | CertificateError::BadSignature,
            ) if is_self_issued(end_entity) => CertificateError::UnknownIssuer.into(),
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a TLS error says, in words rather than in the names of its variants.
pub(super) fn explained(error: &rustls::Error) -> String {
    let reason = match error {
        rustls::Error::InvalidCertificate(reason) => reason,
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            return CLIENT_CERTIFICATE.to_owned();
        }
        _ => return printable(&error.to_string()),
    };
    let text = match reason {
        CertificateError::UnknownIssuer => "the certificate's issuer is not trusted",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet"
        }
        CertificateError::NotValidForName => "the certificate is for another name",
        CertificateError::Other(OtherError(other)) => return printable(&other.to_string()),
        other => return printable(&format!("the certificate is not accepted: {other}")),
    };
    text.to_owned()
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
}

fn lacks_names(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| matches!(parsed.subject_alternative_name(), Ok(None)))
}

#[derive(Debug, thiserror::Error)]
#[error("the certificate has a common name only, and names are taken from the subjectAltName")]
struct NoSubjectAltName;

/// Accepts everybody.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed(names: &[&str], authority: bool) -> rcgen::Certificate {
        let mut parameters =
            rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                .unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "r.example");
        if authority {
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
    }

    fn judged(
        configured: &[&rcgen::Certificate],
        shown: &rcgen::Certificate,
        name: &str,
    ) -> Result<(), String> {
        let verifier = Verifier {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            system: SystemRoots::default(),
            configured: configured.iter().map(|certificate| certificate.der().clone()).collect(),
            judge: OnceLock::new(),
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier
            .verify_server_cert(shown.der(), &[], &name, &[], UnixTime::now())
            .map(drop)
            .map_err(|error| explained(&error))
    }

    /// A self-signed registry's own certificate is accepted, authority or not, for its own names only.
    #[test]
    fn configured_certificates_are_accepted_byte_for_byte() {
        for authority in [false, true] {
            let certificate = self_signed(&["r.example", "127.0.0.1"], authority);
            assert_eq!(judged(&[&certificate], &certificate, "r.example"), Ok(()));
            assert_eq!(judged(&[&certificate], &certificate, "127.0.0.1"), Ok(()));
            assert!(judged(&[&certificate], &certificate, "other.example").is_err());
            let same_names = self_signed(&["r.example"], authority);
            let error = judged(&[&certificate], &same_names, "r.example").unwrap_err();
            assert!(error.contains("issuer is not trusted"), "{error}");
        }
    }

    /// A time that is over is over for a configured certificate too.
    #[test]
    fn configured_certificates_expire() {
        let mut parameters = rcgen::CertificateParams::new(vec!["r.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert!(judged(&[&certificate], &certificate, "r.example").unwrap_err().contains("expired"));
    }

    /// Who meets a certificate with a common name only learns what it lacks.
    #[test]
    fn a_common_name_is_no_name() {
        let certificate = self_signed(&[], false);
        let error = judged(&[&certificate], &certificate, "r.example").unwrap_err();
        assert!(error.contains("subjectAltName"), "{error}");
    }

    /// A server is shown what it may accept: the first certificate whose issuer it names and whose key it can check.
    #[test]
    fn own_certificates_are_chosen_from() {
        let authority = |name: &str| {
            let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
            rcgen::CertifiedIssuer::self_signed(parameters, rcgen::KeyPair::generate().unwrap()).unwrap()
        };
        let (one, two, three) = (authority("one"), authority("two"), authority("three"));
        let issued = |authority: &rcgen::CertifiedIssuer<'_, rcgen::KeyPair>| {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate =
                rcgen::CertificateParams::new(vec![]).unwrap().signed_by(&key, authority).unwrap();
            let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let provider = rustls::crypto::ring::default_provider();
            Arc::new(CertifiedKey::from_der(vec![certificate.der().clone()], private, &provider).unwrap())
        };
        let own = Own(vec![issued(&one), issued(&two)]);
        let name = |authority: &rcgen::CertifiedIssuer<'_, rcgen::KeyPair>| {
            let (_, parsed) = X509Certificate::from_der(authority.der()).unwrap();
            parsed.subject().as_raw().to_vec()
        };
        let (ecdsa, rsa) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256);
        let chosen = |names: &[Vec<u8>], scheme| {
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            let chosen = own.resolve(&names, &[scheme])?;
            own.0.iter().position(|other| Arc::ptr_eq(other, &chosen))
        };
        assert_eq!(chosen(&[], ecdsa), Some(0));
        assert_eq!(chosen(&[name(&two)], ecdsa), Some(1));
        assert_eq!(chosen(&[name(&three), name(&one)], ecdsa), Some(0));
        assert_eq!(chosen(&[name(&three)], ecdsa), None);
        assert_eq!(chosen(&[], rsa), None);
    }

    /// A file that is missing, empty or garbage is named.
    #[test]
    fn files_that_hold_no_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let read = || read_certificates(&path).map(|found| found.len());
        assert!(matches!(read(), Err(RegistryError::CaFile { .. })));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "garbage", broken, "-----BEGIN CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            let error = read().unwrap_err();
            assert!(matches!(error, RegistryError::CaFileMalformed { .. }), "{text:?}");
            assert!(error.to_string().contains("ca.pem"));
        }
        std::fs::write(&path, self_signed(&["r.example"], true).pem()).unwrap();
        assert_eq!(read().unwrap(), 1);
    }
}
