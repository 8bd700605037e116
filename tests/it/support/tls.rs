//! Server certificates, right and wrong, made anew for every registry, and certificates of clients.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// What a registry shows to its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Signed by a CA of its own, for 127.0.0.1, `::1` and localhost.
    Signed,
    /// Its own CA, for the same names: what most people's `openssl req -x509` makes.
    SelfSigned,
    /// Signed, but with the name as the common name only.
    CommonNameOnly,
    /// Signed, and expired years ago.
    Expired,
}

impl Certificate {
    /// The server's side, and the PEM that a client has to trust. With `clients` only those come in whom it issued a
    /// certificate.
    pub(crate) fn issue(self, clients: Option<&ClientAuthority>) -> (TlsAcceptor, String) {
        let key = KeyPair::generate().unwrap();
        let (chain, trusted) = match self {
            Self::SelfSigned => {
                let mut leaf = leaf(&["127.0.0.1", "::1", "localhost"]);
                leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                let certificate = leaf.self_signed(&key).unwrap();
                (certificate.der().clone(), certificate.pem())
            }
            Self::Signed => signed(&leaf(&["127.0.0.1", "::1", "localhost"]), &key),
            Self::CommonNameOnly => signed(&leaf(&[]), &key),
            Self::Expired => {
                let mut leaf = leaf(&["127.0.0.1", "::1", "localhost"]);
                leaf.not_before = date_time_ymd(2000, 1, 1);
                leaf.not_after = date_time_ymd(2001, 1, 1);
                signed(&leaf, &key)
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            Some(clients) => config.with_client_cert_verifier(clients.verifier()),
            None => config.with_no_client_auth(),
        };
        let config = config.with_single_cert(vec![chain], key).unwrap();
        (TlsAcceptor::from(Arc::new(config)), trusted)
    }
}

/// Who issues certificates to clients.
pub(crate) struct ClientAuthority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl ClientAuthority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A client's certificate and key in PEM.
    pub(crate) fn client(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("a client");
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
            .build()
            .unwrap()
    }
}

fn leaf(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = common_name("127.0.0.1");
    params
}

fn signed(leaf: &CertificateParams, key: &KeyPair) -> (CertificateDer<'static>, String) {
    let mut ca = CertificateParams::default();
    ca.distinguished_name = common_name("a CA that only this test knows");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let trusted = ca.self_signed(&ca_key).unwrap().pem();
    let certificate = leaf.signed_by(key, &Issuer::new(ca, ca_key)).unwrap();
    (certificate.der().clone(), trusted)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}
