//! certs.d: authorities and client certificates for one registry (containers-certs.d(5)).
//!
//! A registry's folder is `HOST[:PORT]` in the first of the three places that has one. In it `*.crt` are certificates to
//! trust besides the system's, and `X.cert` with `X.key` is a certificate to show; half of such a pair is an error, as it
//! is for containers/image and docker. What they pass over in silence, a `.crt` without a certificate in it, is an error
//! here, because a connection that fails for it later does not say why; one that is a link to nowhere is passed over with a
//! warning.
//!
//! [`CertsD`] says where to look, [`Listing::of`] what the names in a folder mean, both without I/O; [`CertsD::folder`],
//! [`Listing::read`] and [`Certificates::read`] look and read. Whom a client certificate is shown to is for `tls` and
//! the client.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Environment, shown};
use crate::failure::{Failure, Kind};
use crate::text::printable;

/// The system's places, after the user's own.
const SYSTEM: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The user's place, below the home whatever `$XDG_CONFIG_HOME` says, as for containers/image.
const USER: &str = ".config/containers/certs.d";

/// The longest file that is read: a bundle of every authority there is has a few hundred KiB.
const FILE_CAP: u64 = 4 << 20;

/// Where the folders of registries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertsD {
    /// In these places, each with a folder for each registry.
    Places(Vec<PathBuf>),
    /// This one folder is every registry's (`--cert-dir`).
    Folder(PathBuf),
}

impl Default for CertsD {
    /// Nowhere.
    fn default() -> Self {
        Self::Places(Vec::new())
    }
}

impl CertsD {
    /// The three places of this user on this machine.
    pub fn of(environment: &Environment) -> Self {
        let user = environment.home.as_ref().map(|home| home.join(USER));
        Self::Places(user.into_iter().chain(SYSTEM.map(PathBuf::from)).collect())
    }

    /// The folder of a registry, which is `host` as references name it, with the port where one is written. A place that
    /// must not be looked into has none.
    ///
    /// # Errors
    /// [`CertsDError::Unreadable`] when it cannot be found out for another reason.
    pub fn folder(&self, host: &str) -> Result<Option<PathBuf>, CertsDError> {
        let places = match self {
            Self::Folder(folder) => return Ok(Some(folder.clone())),
            Self::Places(places) => places,
        };
        for folder in places.iter().map(|place| place.join(host)) {
            match std::fs::metadata(&folder) {
                Ok(_) => return Ok(Some(folder).filter(|folder| may_be_listed(folder))),
                Err(error) if is_nothing(&error) => {}
                Err(source) => return Err(CertsDError::Unreadable { path: folder, source }),
            }
        }
        Ok(None)
    }
}

/// Whether the names in the folder may be read. One that is closed to this user holds nothing for him, as for
/// containers/image.
fn may_be_listed(folder: &Path) -> bool {
    let listed = std::fs::read_dir(folder);
    !listed.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn is_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied | InvalidFilename)
}

/// What of a folder's files is what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The files with certificates to trust, in the order of their names.
    pub authorities: Vec<PathBuf>,
    /// The files with certificates to show and with their keys, in the order of their names.
    pub clients: Vec<(PathBuf, PathBuf)>,
}

impl Listing {
    /// What the files with these names in `folder` are.
    ///
    /// # Errors
    /// [`CertsDError::NoKey`] and [`CertsDError::NoCertificate`] for half of a pair.
    pub fn of(folder: &Path, names: impl IntoIterator<Item = String>) -> Result<Self, CertsDError> {
        let names: BTreeSet<String> = names.into_iter().collect();
        let mut listing = Self::default();
        for name in &names {
            let path = folder.join(name);
            if name.strip_suffix(".crt").is_some() {
                listing.authorities.push(path);
            } else if let Some(stem) = name.strip_suffix(".cert") {
                let key = format!("{stem}.key");
                if !names.contains(&key) {
                    return Err(CertsDError::NoKey { path, key });
                }
                listing.clients.push((path, folder.join(key)));
            } else if let Some(stem) = name.strip_suffix(".key") {
                let certificate = format!("{stem}.cert");
                if !names.contains(&certificate) {
                    return Err(CertsDError::NoCertificate { path, certificate });
                }
            }
        }
        Ok(listing)
    }

    /// What the files in a folder are.
    ///
    /// # Errors
    /// [`CertsDError::Unreadable`] and those of [`Listing::of`].
    pub fn read(folder: &Path) -> Result<Self, CertsDError> {
        let unreadable = |source| CertsDError::Unreadable { path: folder.to_owned(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            // A name that is not text ends in none of the three ways that count, or stands for a file that nobody could
            // name in a message.
            names.extend(entry.map_err(unreadable)?.file_name().into_string());
        }
        Self::of(folder, names)
    }
}

/// What a registry's folder holds.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// Trusted besides the system's, or byte for byte.
    pub(in crate::registry) authorities: Vec<CertificateDer<'static>>,
    /// To show to who asks for one, the first that fits.
    pub(in crate::registry) clients: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    /// What the files of a folder hold.
    ///
    /// # Errors
    /// Any [`CertsDError`]; each names the file that it is about.
    pub fn read(folder: &Path) -> Result<Self, CertsDError> {
        let listing = Listing::read(folder)?;
        let mut found = Self::default();
        for path in &listing.authorities {
            match certificates(path) {
                Ok(more) => found.authorities.extend(more),
                // A link that leads nowhere, to an authority that was uninstalled say: containers/image passes it over too.
                Err(CertsDError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(file = %path.display(), "passed over: the certificate is not there");
                }
                Err(error) => return Err(error),
            }
        }
        for (certificate, key) in &listing.clients {
            found.clients.push(Arc::new(client(certificate, key)?));
        }
        Ok(found)
    }
}

/// The certificates in a PEM file: one at least.
///
/// # Errors
/// [`CertsDError::Unreadable`] and [`CertsDError::Malformed`].
pub(in crate::registry) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertsDError> {
    let malformed = |reason: String| CertsDError::Malformed { path: path.to_owned(), reason };
    let bytes = bytes(path)?;
    if X509Certificate::from_der(&bytes).is_ok() {
        return Err(malformed("the certificate in it is in DER form, and PEM is wanted".to_owned()));
    }
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(printable(&error.to_string())))?;
    if found.is_empty() {
        return Err(malformed("there is no certificate in it".to_owned()));
    }
    for certificate in &found {
        X509Certificate::from_der(certificate).map_err(|error| malformed(printable(&error.to_string())))?;
    }
    Ok(found)
}

fn client(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertsDError> {
    let chain = certificates(certificate)?;
    let malformed = |reason: String| CertsDError::Malformed { path: key.to_owned(), reason };
    let bytes = bytes(key)?;
    let says = |words: &str| bytes.windows(words.len()).any(|window| window == words.as_bytes());
    // By PKCS #8, and by the traditional form (RFC 1421, section 4.6.1.1).
    if says("-----BEGIN ENCRYPTED PRIVATE KEY-----") || says("Proc-Type: 4,ENCRYPTED") {
        return Err(malformed("the private key in it is encrypted".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => malformed("there is no private key in it".to_owned()),
        error => malformed(printable(&error.to_string())),
    })?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, private, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            malformed(format!("it is not the key of {}", shown(certificate)))
        }
        error => malformed(printable(&error.to_string())),
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, CertsDError> {
    use std::io::Read as _;
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_CAP + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_CAP {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for certificates"));
        }
        Ok(bytes)
    };
    read().map_err(|source| CertsDError::Unreadable { path: path.to_owned(), source })
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertsDError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", shown(path))]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what its name says.
    #[error("{} cannot be used: {reason}", shown(path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate to show has no key.
    #[error("{} is a client certificate, and its key {} is not beside it", shown(path), printable(key))]
    NoKey {
        /// The certificate.
        path: PathBuf,
        /// The key's file name.
        key: String,
    },
    /// A key has no certificate.
    #[error(
        "{} is a client's key, and its certificate {} is not beside it",
        shown(path),
        printable(certificate)
    )]
    NoCertificate {
        /// The key.
        path: PathBuf,
        /// The certificate's file name.
        certificate: String,
    },
}

impl CertsDError {
    /// What is wrong, without the file's name.
    pub(in crate::registry) fn reason(self) -> String {
        match self {
            Self::Malformed { reason, .. } => reason,
            error => error.to_string(),
        }
    }
}

impl Failure for CertsDError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoKey { .. } => {
                Some("a certificate authority belongs into a file whose name ends in .crt".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn listed(names: &[&str]) -> Result<Listing, String> {
        let names = names.iter().map(|name| (*name).to_owned());
        Listing::of(Path::new("/d"), names).map_err(|error| error.to_string())
    }

    /// The endings that docker and podman know, in the order of the names; half of a pair is named.
    #[test]
    fn names_say_what_files_are() {
        let paths = |names: &[&str]| names.iter().map(|name| Path::new("/d").join(name)).collect::<Vec<_>>();
        let listing =
            listed(&["client.key", "z.crt", "a.crt", "client.cert", "README", "old.crt.bak", "b.pem"])
                .unwrap();
        assert_eq!(listing.authorities, paths(&["a.crt", "z.crt"]));
        assert_eq!(listing.clients, [("/d/client.cert".into(), "/d/client.key".into())]);
        assert_eq!(listed(&[]), Ok(Listing::default()));
        let two = listed(&["b.cert", "b.key", "a.key", "a.cert"]).unwrap();
        assert_eq!(two.clients[0].0, Path::new("/d/a.cert"));
        for (names, expected) in [
            (
                &["a.cert", "b.key", "b.cert"],
                "/d/a.cert is a client certificate, and its key a.key is not beside it",
            ),
            (
                &["a.key", "b.key", "b.cert"],
                "/d/a.key is a client's key, and its certificate a.cert is not beside it",
            ),
            (
                &["a\u{1b}[2J.cert", "b.key", "b.cert"],
                "/d/a\\u{1b}[2J.cert is a client certificate, and its key a\\u{1b}[2J.key is not beside it",
            ),
        ] {
            assert_eq!(listed(names), Err(expected.to_owned()));
        }
    }

    /// The first place that has a folder for the registry is the only one that counts, as for containers/image.
    #[test]
    fn first_place_wins() {
        let root = tempfile::tempdir().unwrap();
        let places: Vec<_> = ["user", "containers", "docker"].map(|name| root.path().join(name)).into();
        let certs_d = CertsD::Places(places.clone());
        assert_eq!(certs_d.folder("r.example:5000").unwrap(), None);
        fs::create_dir_all(places[2].join("r.example:5000")).unwrap();
        fs::create_dir_all(places[1].join("r.example")).unwrap();
        assert_eq!(certs_d.folder("r.example:5000").unwrap(), Some(places[2].join("r.example:5000")));
        fs::create_dir_all(places[1].join("r.example:5000")).unwrap();
        assert_eq!(certs_d.folder("r.example:5000").unwrap(), Some(places[1].join("r.example:5000")));
        assert_eq!(certs_d.folder("r.example:5001").unwrap(), None);
        let one = CertsD::Folder(places[0].clone());
        assert_eq!(one.folder("r.example").unwrap(), Some(places[0].clone()));
        let environment = Environment { home: Some("/home/me".into()), ..Environment::default() };
        let expected =
            ["/home/me/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"];
        assert_eq!(CertsD::of(&environment), CertsD::Places(expected.map(PathBuf::from).into()));
    }

    /// A link to an authority that was uninstalled bars nobody from the registry; what is in DER form says so; a folder that
    /// is closed to this user is none.
    #[cfg(unix)]
    #[test]
    fn what_is_passed_over_and_what_is_not() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("r.example");
        fs::create_dir(&folder).unwrap();
        symlink("nowhere.pem", folder.join("gone.crt")).unwrap();
        fs::write(folder.join("ca.crt"), pair().0).unwrap();
        assert_eq!(Certificates::read(&folder).unwrap().authorities.len(), 1);
        let der = CertificateDer::from_pem_slice(pair().0.as_bytes()).unwrap();
        fs::write(folder.join("der.crt"), der).unwrap();
        let error = Certificates::read(&folder).unwrap_err().to_string();
        assert!(error.contains("der.crt") && error.contains("PEM is wanted"), "{error}");
        symlink("nowhere.pem", folder.join("client.cert")).unwrap();
        symlink("nowhere.pem", folder.join("client.key")).unwrap();
        fs::remove_file(folder.join("der.crt")).unwrap();
        assert!(matches!(Certificates::read(&folder), Err(CertsDError::Unreadable { .. })));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o300)).unwrap();
        let may_be_listed = fs::read_dir(&folder).is_ok();
        let found = CertsD::Places(vec![root.path().to_owned()]).folder("r.example").unwrap();
        assert_eq!(found.is_some(), may_be_listed, "root may list everything");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Whatever is wrong with a file, the error names that file.
    #[test]
    fn errors_name_the_file() {
        let (certificate, key) = pair();
        let (_, other_key) = pair();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let traditional = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
            -----END RSA PRIVATE KEY-----\n";
        for (files, expected) in [
            (&[("ca.crt", "")][..], "ca.crt cannot be used: there is no certificate in it"),
            (&[("ca.crt", broken)], "ca.crt cannot be used"),
            (&[("ca.crt", &certificate), ("b.crt", "garbage")], "b.crt cannot be used"),
            (&[("c.cert", ""), ("c.key", &key)], "c.cert cannot be used: there is no certificate in it"),
            (
                &[("c.cert", &certificate), ("c.key", "")],
                "c.key cannot be used: there is no private key in it",
            ),
            (
                &[("c.cert", &certificate), ("c.key", encrypted)],
                "c.key cannot be used: the private key in it is encrypted",
            ),
            (
                &[("c.cert", &certificate), ("c.key", traditional)],
                "c.key cannot be used: the private key in it is encrypted",
            ),
            (
                &[("c.cert", &certificate), ("c.key", &other_key)],
                "c.key cannot be used: it is not the key of",
            ),
            (&[("c.cert", &certificate)], "its key c.key is not beside it"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                fs::write(folder.path().join(name), text).unwrap();
            }
            let error = Certificates::read(folder.path()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error} for {expected}");
            assert_eq!(error.kind(), Kind::Usage);
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ca.crt")).unwrap();
        let error = Certificates::read(folder.path()).unwrap_err();
        assert!(matches!(error, CertsDError::Unreadable { path, .. } if path.ends_with("ca.crt")));
    }

    /// Several authorities in several files, several in one, and a pair.
    #[test]
    fn everything_in_a_folder_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.crt", &format!("a comment\n{certificate}\n{}", pair().0));
        write("b.crt", &pair().0);
        write("client.cert", &certificate);
        write("client.key", &key);
        let found = Certificates::read(folder.path()).unwrap();
        assert_eq!((found.authorities.len(), found.clients.len()), (3, 1));
    }
}
