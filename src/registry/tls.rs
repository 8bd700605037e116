//! Which server certificates are accepted.
//!
//! The roots are the system's and those of the configured files; the system's are read when the first certificate is
//! to be judged, so that a fetch in plain http from loopback does not pay for them. A certificate that is byte for byte
//! one of the configured ones is accepted when its name and time hold: that is the usual self-signed registry, whose
//! certificate the path builder refuses as a certificate authority in an end entity's place. Names come from the
//! subjectAltName only (RFC 9525); a certificate that has none gets an error that says so.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::error::RegistryError;
use crate::text::printable;

/// How servers prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ServerVerification {
    /// By a certificate that leads to one of the system's roots, or to a configured one.
    #[default]
    SystemRoots,
    /// Not at all (`--tls-verify=false`).
    Disabled,
}

/// The client's side of TLS: HTTP/1.1 only, with ring.
///
/// # Errors
/// [`RegistryError::CaFile`] and [`RegistryError::CaFileMalformed`].
pub(super) fn client_config(
    verification: ServerVerification,
    ca_files: &[PathBuf],
) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut configured = Vec::new();
    for path in ca_files {
        configured.extend(read_certificates(path)?);
    }
    let verifier: Arc<dyn ServerCertVerifier> = match verification {
        ServerVerification::SystemRoots => {
            Arc::new(Verifier { provider: Arc::clone(&provider), configured, judge: OnceLock::new() })
        }
        ServerVerification::Disabled => Arc::new(Unverified { provider: Arc::clone(&provider) }),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("invariant: ring has cipher suites for the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let malformed = |reason: String| RegistryError::CaFileMalformed { path: path.to_owned(), reason };
    let text =
        std::fs::read(path).map_err(|source| RegistryError::CaFile { path: path.to_owned(), source })?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(error.to_string()))?;
    if found.is_empty() {
        return Err(malformed("there is no certificate in it".to_owned()));
    }
    for certificate in &found {
        if let Err(error) = X509Certificate::from_der(certificate) {
            return Err(malformed(error.to_string()));
        }
    }
    Ok(found)
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    configured: Vec<CertificateDer<'static>>,
    judge: OnceLock<Result<Arc<WebPkiServerVerifier>, String>>,
}

impl Verifier {
    fn judge(&self) -> Result<&Arc<WebPkiServerVerifier>, rustls::Error> {
        let judge = self.judge.get_or_init(|| self.load());
        judge.as_ref().map_err(|reason| rustls::Error::General(reason.clone()))
    }

    fn load(&self) -> Result<Arc<WebPkiServerVerifier>, String> {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "some of the system's certificates cannot be read");
        }
        let mut roots = RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(system.certs);
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
    let rustls::Error::InvalidCertificate(reason) = error else { return printable(&error.to_string()) };
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
