//! registries.d: where the signatures of a registry's images lie that the registry itself does not keep
//! (containers-registries.d(5)).
//!
//! [`RegistriesD::merge`] takes the text of the folder's files and [`RegistriesD::lookaside`] answers for a reference;
//! neither does I/O. As in containers/image:
//!
//! - the user's folder, where there is one, counts alone, otherwise the system's; files end in `.yaml`;
//! - a namespace and `default-docker` may be configured once over all files;
//! - the most exact entry with a location wins: the tag or the digest, the repository, its parents up to the host, then
//!   `*.` patterns of the host without its port, then `default-docker`, then the store in which podman and skopeo put
//!   the signatures that are made on this machine;
//! - `lookaside` counts before `sigstore`, its old name.
//!
//! The locations for writing (`lookaside-staging`, `sigstore-staging`) and the switch that lets containers/image look
//! for cosign's tags are passed over, as every key is that is not known: nothing is written, and whether cosign's tags
//! are looked for is the caller's choice.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::failure::{Failure, Kind};
use crate::reference::Reference;
use crate::registry::config::shown as shown_path;
use crate::registry::error::shown;
use crate::text::printable;

/// The user's folder, below the home.
const USER_FOLDER: &str = ".config/containers/registries.d";

/// The system's folder.
const SYSTEM_FOLDER: &str = "/etc/containers/registries.d";

/// Where podman and skopeo keep the signatures that they make, below the home.
#[cfg(unix)]
const USER_STORE: &str = ".local/share/containers/sigstore";

/// The same for root.
#[cfg(unix)]
const SYSTEM_STORE: &str = "/var/lib/containers/sigstore";

/// The longest file that is read.
const FILE_CAP: u64 = 4 << 20;

/// What registries.d says.
#[derive(Debug, Clone, Default)]
pub struct RegistriesD {
    default: Option<Section>,
    namespaces: BTreeMap<String, Section>,
    store: Option<Url>,
}

/// What one entry says, and in which file.
#[derive(Debug, Clone)]
struct Section {
    path: PathBuf,
    lookaside: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    #[serde(rename = "default-docker")]
    default: Option<Entry>,
    docker: Option<BTreeMap<String, Option<Entry>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    lookaside: Option<String>,
    sigstore: Option<String>,
}

impl Entry {
    fn section(self, path: &Path) -> Section {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Section { path: path.to_owned(), lookaside: given(self.lookaside).or(given(self.sigstore)) }
    }
}

impl RegistriesD {
    /// What the user's folder says, or the system's where the user has none; with the store of this machine's own
    /// signatures for images that neither says anything of.
    ///
    /// # Errors
    /// As [`RegistriesD::read`].
    pub fn of_user() -> Result<Self, RegistriesDError> {
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        let user = home.as_deref().map(|home| home.join(USER_FOLDER)).filter(|folder| folder.exists());
        let read = Self::read(user.as_deref().unwrap_or(Path::new(SYSTEM_FOLDER)))?;
        Ok(Self { store: own_store(home.as_deref()), ..read })
    }

    /// What the files of a folder say. A folder that does not exist says nothing.
    ///
    /// # Errors
    /// [`RegistriesDError::Unreadable`], and those of [`RegistriesD::merge`].
    pub fn read(folder: &Path) -> Result<Self, RegistriesDError> {
        let unreadable = |path: &Path, source| RegistriesDError::Unreadable { path: path.to_owned(), source };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unreadable(folder, error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| unreadable(folder, error))?.file_name();
            if name.to_string_lossy().ends_with(".yaml") {
                names.push(name);
            }
        }
        names.sort_unstable();
        let texts = names.iter().map(|name| {
            let path = folder.join(name);
            text_of(&path).map_err(|error| unreadable(&path, error)).map(|text| (path, text))
        });
        Self::merge(texts.collect::<Result<Vec<_>, _>>()?)
    }

    /// What files, each with its path, say together. The order does not matter but for which file an error names first.
    ///
    /// # Errors
    /// [`RegistriesDError::Malformed`], [`RegistriesDError::DefaultTwice`], [`RegistriesDError::NamespaceTwice`].
    pub fn merge(files: impl IntoIterator<Item = (PathBuf, String)>) -> Result<Self, RegistriesDError> {
        let mut merged = Self::default();
        for (path, text) in files {
            let file = parse(&path, &text)?;
            if let Some(entry) = file.default {
                if let Some(first) = merged.default {
                    return Err(RegistriesDError::DefaultTwice { one: first.path, other: path });
                }
                merged.default = Some(entry.section(&path));
            }
            for (namespace, entry) in file.docker.unwrap_or_default() {
                if let Some(first) = merged.namespaces.remove(&namespace) {
                    return Err(RegistriesDError::NamespaceTwice { namespace, one: first.path, other: path });
                }
                merged.namespaces.insert(namespace, entry.unwrap_or_default().section(&path));
            }
        }
        Ok(merged)
    }

    /// Where the signatures of the reference's image lie: the URL below which there is a folder for each repository.
    ///
    /// # Errors
    /// [`RegistriesDError::BadUrl`] when what is configured is no URL of http, https or a file.
    pub fn lookaside(&self, reference: &Reference) -> Result<Option<Url>, RegistriesDError> {
        let keys = keys(reference);
        let sections = keys.iter().filter_map(|key| self.namespaces.get(key)).chain(&self.default);
        for section in sections {
            if let Some(text) = &section.lookaside {
                return url(section, text).map(Some);
            }
        }
        Ok(self.store.clone())
    }
}

fn parse(path: &Path, text: &str) -> Result<File, RegistriesDError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let file: Result<Option<File>, _> = serde_saphyr::from_str_with_options(text, options);
    file.map(Option::unwrap_or_default).map_err(|error| RegistriesDError::Malformed {
        path: path.to_owned(),
        reason: printable(&error.to_string()),
    })
}

pub(super) fn text_of(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_CAP + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_CAP {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for a configuration"));
    }
    Ok(text)
}

fn url(section: &Section, text: &str) -> Result<Url, RegistriesDError> {
    let bad = |reason: String| RegistriesDError::BadUrl {
        path: section.path.clone(),
        url: Url::parse(text).map_or_else(|_| printable(text), |url| shown(&url)),
        reason,
    };
    let url = Url::parse(text).map_err(|error| bad(error.to_string()))?;
    match url.scheme() {
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
            Err(bad("it holds a user, and signatures are read without credentials".to_owned()))
        }
        "http" | "https" => Ok(url),
        "file" if url.to_file_path().is_ok() => Ok(url),
        "file" => Err(bad("it names no file of this machine".to_owned())),
        _ => Err(bad("only http, https and file URLs are read".to_owned())),
    }
}

/// The keys under which an entry for the reference may stand, the most exact first.
fn keys(reference: &Reference) -> Vec<String> {
    let repository = reference.repository().to_string();
    let mut keys: Vec<String> =
        reference.digest().map(|digest| format!("{repository}@{digest}")).into_iter().collect();
    match (reference.tag(), reference.digest()) {
        (Some(tag), _) => keys.push(format!("{repository}:{tag}")),
        (None, None) => keys.push(format!("{repository}:{}", crate::reference::Tag::LATEST)),
        (None, Some(_)) => {}
    }
    let mut name = repository.as_str();
    loop {
        keys.push(name.to_owned());
        let Some((parent, _)) = name.rsplit_once('/') else { break };
        name = parent;
    }
    // A pattern stands for every port.
    let mut host = name.split_once(':').map_or(name, |(host, _port)| host);
    while let Some((_, parent)) = host.split_once('.') {
        keys.push(format!("*.{parent}"));
        host = parent;
    }
    keys
}

#[cfg(unix)]
fn own_store(home: Option<&Path>) -> Option<Url> {
    let is_root = rustix::process::geteuid().is_root();
    let folder = if is_root { PathBuf::from(SYSTEM_STORE) } else { home?.join(USER_STORE) };
    Url::from_file_path(folder).ok()
}

#[cfg(not(unix))]
fn own_store(_home: Option<&Path>) -> Option<Url> {
    None
}

/// Why registries.d cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistriesDError {
    /// A file or the folder is there and cannot be read.
    #[error("cannot read {}", shown_path(path))]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not YAML, or something stands where something else must.
    #[error("{} cannot be used: {reason}", shown_path(path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// Two files have a `default-docker`.
    #[error("default-docker is configured both in {} and in {}", shown_path(one), shown_path(other))]
    DefaultTwice {
        /// One file.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Two files have an entry for the same namespace.
    #[error(
        "\"{}\" is configured both in {} and in {}",
        printable(namespace),
        shown_path(one),
        shown_path(other)
    )]
    NamespaceTwice {
        /// The entry's key.
        namespace: String,
        /// One file.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// The location of signatures is none.
    #[error("{}: \"{url}\" is not where signatures can be read: {reason}", shown_path(path))]
    BadUrl {
        /// The file that has it.
        path: PathBuf,
        /// What stands there.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Failure for RegistriesDError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(texts: &[&str]) -> Result<RegistriesD, RegistriesDError> {
        let named = texts.iter().enumerate();
        RegistriesD::merge(named.map(|(at, text)| (format!("{at}.yaml").into(), (*text).to_owned())))
    }

    fn lookaside(configuration: &RegistriesD, reference: &str) -> Option<String> {
        configuration.lookaside(&reference.parse().unwrap()).unwrap().map(String::from)
    }

    /// containers/image's order of lookups: what it finds under a reference, this finds too.
    #[test]
    fn the_most_exact_entry_wins() {
        let digest = crate::digest::Digest::sha256(b"");
        let text = format!(
            "default-docker:\n  lookaside: https://default.example/\n\
             docker:\n\
             \x20 docker.io/library/alpine:3.20: {{lookaside: https://tag.example/}}\n\
             \x20 docker.io/library/alpine@{digest}: {{lookaside: https://digest.example/}}\n\
             \x20 docker.io/library/alpine:latest: {{lookaside: https://latest.example/}}\n\
             \x20 docker.io/library/alpine: {{lookaside: https://repository.example/}}\n\
             \x20 docker.io/library: {{lookaside: https://parent.example/}}\n\
             \x20 docker.io/library/empty: {{lookaside-staging: https://staging.example/}}\n\
             \x20 docker.io: {{lookaside: https://host.example/}}\n\
             \x20 localhost:5000: {{lookaside: https://port.example/}}\n\
             \x20 '*.example.com': {{lookaside: https://pattern.example/}}\n\
             \x20 '*.com': {{lookaside: https://com.example/}}\n\
             \x20 old.example: {{sigstore: https://old.example/, use-sigstore-attachments: true}}\n\
             \x20 both.example: {{sigstore: https://old.example/, lookaside: https://new.example/}}\n"
        );
        let configuration = merged(&[&text]).unwrap();
        let cases = [
            ("alpine:3.20", "tag"),
            ("alpine", "latest"),
            ("alpine:3.19", "repository"),
            (&*format!("alpine@{digest}"), "digest"),
            (&*format!("alpine:3.20@{digest}"), "digest"),
            (&*format!("alpine@{}", crate::digest::Digest::sha256(b"x")), "repository"),
            ("busybox", "parent"),
            ("empty", "parent"),
            ("me/app", "host"),
            ("localhost:5000/a", "port"),
            ("localhost:5001/a", "default"),
            ("localhost/a", "default"),
            ("a.example.com/a", "pattern"),
            ("a.b.example.com:5000/a", "pattern"),
            ("example.com/a", "com"),
            ("old.example/a/b", "old"),
            ("both.example/a/b", "new"),
            ("[::1]:5000/a", "default"),
        ];
        for (reference, expected) in cases {
            let found = lookaside(&configuration, reference);
            assert_eq!(found, Some(format!("https://{expected}.example/")), "{reference}");
        }
    }

    /// What distributions install, and what is not there, configures nothing.
    #[test]
    fn nothing_configured_is_nothing() {
        let texts: [&[&str]; 6] = [
            &[],
            &["", "# only a comment\n", "---\n", "null"],
            &["default-docker:\n#  lookaside: file:///x\n", "default-docker:\n"],
            &["docker:\n  docker.io:\n"],
            &["docker:\n"],
            &["default-docker: {lookaside: '', sigstore: null}\nother: [1]\n"],
        ];
        for texts in texts {
            assert_eq!(lookaside(&merged(texts).unwrap(), "alpine"), None, "{texts:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let missing = RegistriesD::read(&folder.path().join("missing")).unwrap();
        assert_eq!(lookaside(&missing, "alpine"), None);
    }

    /// A list is no entry, as it is none to any other tool: its values would be fields by their places.
    #[test]
    fn lists_are_no_entries() {
        for text in
            ["docker: {quay.io: ['https://s.example/']}", "default-docker: ['https://s.example/']", "[{}]"]
        {
            assert!(matches!(merged(&[text]), Err(RegistriesDError::Malformed { .. })), "{text}");
        }
    }

    /// Two answers to one question are an error that names both files; a file that cannot be understood is one that
    /// says where.
    #[test]
    fn contradictions_and_mistakes() {
        let cases: [(&[&str], &str); 7] = [
            (
                &["default-docker: {}", "", "default-docker: {lookaside: https://x/}"],
                "default-docker is configured both in 0.yaml and in 2.yaml",
            ),
            (
                &["docker: {a.example: {}}", "docker: {b.example: {}, a.example: null}"],
                "\"a.example\" is configured both in 0.yaml and in 1.yaml",
            ),
            (&["docker: {a.example: {}, a.example: {}}"], "0.yaml cannot be used: duplicate mapping key"),
            (&["docker:\n  a.example:\n    - x\n"], "line 3, column 5"),
            (&["- docker"], "0.yaml cannot be used: expected mapping"),
            (&["docker: {a: b"], "0.yaml cannot be used"),
            (&["default-docker: {lookaside: [https://x/]}"], "0.yaml cannot be used"),
        ];
        for (texts, expected) in cases {
            let error = merged(texts).unwrap_err();
            assert!(error.to_string().contains(expected), "{texts:?}: {error}");
            assert_eq!(error.kind(), Kind::Usage);
        }
    }

    /// A location that cannot be read is an error when it is wanted, and not before.
    #[test]
    fn locations_are_urls() {
        for (text, is_good) in [
            ("https://x.example/sigs", true),
            ("http://x.example/sigs", true),
            ("file:///var/lib/containers/sigstore", true),
            ("file://elsewhere.example/x", false),
            ("ftp://x.example/", false),
            ("https://me:secret@x.example/", false),
            ("/var/lib/containers/sigstore", false),
            ("x", false),
        ] {
            let configuration = merged(&[&format!("docker: {{docker.io: {{lookaside: {text}}}}}")]).unwrap();
            let found = configuration.lookaside(&"alpine".parse().unwrap());
            assert_eq!(found.is_ok(), is_good, "{text}");
            assert!(!found.err().map(|error| error.to_string()).unwrap_or_default().contains("secret"));
            assert_eq!(lookaside(&configuration, "r.example/a"), None, "{text}");
        }
    }

    /// Only `.yaml` files count, as for containers/image; and what was found nowhere is looked for in the own store.
    #[test]
    fn a_folder_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, host: &str| {
            let text = format!("docker: {{{host}: {{lookaside: https://{host}/s}}}}");
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write("b.yaml", "b.example");
        write("a.yaml", "a.example");
        write("c.yml", "c.example");
        write("d.yaml.bak", "d.example");
        let mut read = RegistriesD::read(folder.path()).unwrap();
        assert_eq!(lookaside(&read, "a.example/x").as_deref(), Some("https://a.example/s"));
        assert_eq!(lookaside(&read, "b.example/x").as_deref(), Some("https://b.example/s"));
        assert_eq!(lookaside(&read, "c.example/x"), None);
        assert_eq!(lookaside(&read, "d.example/x"), None);
        write("e.yaml", "a.example");
        let error = RegistriesD::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("a.yaml") && error.contains("e.yaml"), "{error}");
        read.store = own_store(Some(Path::new("/home/me")));
        assert_eq!(lookaside(&read, "c.example/x"), read.store.map(String::from));
    }
}
