//! One file of credentials, as docker and podman write it. Pure: text in, candidates out.
//!
//! `auths` has entries by key: `HOST`, `HOST/NAMESPACE/...` (the longest that fits wins, and one for a namespace never
//! serves the whole host) or, from older clients, `https://HOST/v1/`; Docker Hub goes by several names. `credHelpers`
//! names a helper for a host and `credsStore` one for all hosts. The order is: the host's helper, the entries, and the
//! store, unless the host has a helper of its own, be it the empty name, by which docker exempts a host from the store.
//! An entry that cannot be decoded is an error for its own registry alone, and no error repeats what stands in a file.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::credential::{CredentialError, CredentialOrigin, Credentials, FoundCredentials};
use super::helper::Inquiry;

/// The names of Docker Hub, in the order in which they are looked for: docker writes the first, podman the second.
pub(super) const DOCKER_HUB: [&str; 4] =
    ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"];

/// Base64 as Go's decoder takes it, padded or, as some tools write it, not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileForm {
    /// docker's `config.json` and podman's `auth.json`.
    Auths,
    /// docker's `.dockercfg`: what `auths` holds, without anything around it.
    Legacy,
}

/// A place where credentials for a repository may be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Candidate {
    /// Credentials.
    Found(FoundCredentials),
    /// A helper that is to be asked. When it knows nothing, the next candidate counts.
    Ask(Inquiry),
    /// Something for this very registry that cannot be decoded, which ends the search.
    Broken(BrokenEntry),
}

/// An entry that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenEntry {
    /// The file.
    pub path: PathBuf,
    /// The entry's key.
    pub key: String,
    /// What is wrong, never with what stands in the entry.
    pub reason: &'static str,
}

impl From<BrokenEntry> for CredentialError {
    fn from(BrokenEntry { path, key, reason }: BrokenEntry) -> Self {
        Self::Entry { path, key, reason }
    }
}

/// A file of credentials. Its entries stay undecoded until their registry is asked for.
#[derive(Clone)]
pub struct AuthFile {
    path: PathBuf,
    auths: Map<String, Value>,
    store: Value,
    helpers: Map<String, Value>,
}

impl std::fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl AuthFile {
    /// Reads the text of the file at `path`. An empty one holds nothing.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`].
    pub fn parse(path: &Path, text: &[u8], form: FileForm) -> Result<Self, CredentialError> {
        let malformed = |reason: String| CredentialError::Malformed { path: path.to_owned(), reason };
        let mut file =
            Self { path: path.to_owned(), auths: Map::new(), store: Value::Null, helpers: Map::new() };
        if text.trim_ascii().is_empty() {
            return Ok(file);
        }
        // As a value first: the errors of typed reading repeat what they found, which may be a secret.
        let value: Value = serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        let Value::Object(mut fields) = value else { return Err(malformed("it is no object".to_owned())) };
        if form == FileForm::Legacy {
            file.auths = fields;
            return Ok(file);
        }
        let mut object = |name: &str| match take(&mut fields, name) {
            Value::Null => Ok(Map::new()),
            Value::Object(object) => Ok(object),
            _ => Err(malformed(format!("its {name} is no object"))),
        };
        (file.auths, file.helpers) = (object("auths")?, object("credHelpers")?);
        file.store = take(&mut fields, "credsStore");
        Ok(file)
    }

    /// Where the file may have credentials for the repository, the best first. Nothing follows credentials that were
    /// found, nor what cannot be decoded.
    pub fn candidates(&self, host: &str, repository_path: &str) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let helper = match self.host_helper(host) {
            Ok(helper) => helper,
            Err(broken) => return vec![Candidate::Broken(broken)],
        };
        if let Some((key, name)) = helper.filter(|(_, name)| !name.is_empty()) {
            candidates.push(Candidate::Ask(self.inquiry(name, servers(host, Some(key)), false)));
        }
        if let Some(entry) = self.entry(host, repository_path) {
            candidates.push(entry);
        } else if helper.is_none() {
            match self.store_helper() {
                Ok(Some(name)) => {
                    candidates.push(Candidate::Ask(self.inquiry(name, servers(host, None), true)));
                }
                Ok(None) => {}
                Err(broken) => candidates.push(Candidate::Broken(broken)),
            }
        }
        candidates
    }

    /// The first entry that holds anything.
    fn entry(&self, host: &str, repository_path: &str) -> Option<Candidate> {
        let keys = wanted_keys(host, repository_path);
        let mut entries = keys.iter().flat_map(|wanted| spellings(&self.auths, wanted));
        entries.find_map(|(key, entry)| match decode(entry) {
            Ok(None) => None,
            Ok(Some(credentials)) => {
                let origin = CredentialOrigin::File { path: self.path.clone(), key: key.clone() };
                Some(Candidate::Found(FoundCredentials { credentials, origin }))
            }
            Err(reason) => Some(Candidate::Broken(self.broken(key, reason))),
        })
    }

    /// The helper of `credHelpers` for a host, with its key there.
    pub(super) fn host_helper(&self, host: &str) -> Result<Option<(&str, &str)>, BrokenEntry> {
        let found = wanted_keys(host, "").into_iter().find_map(|wanted| {
            let best = spellings(&self.helpers, &wanted).into_iter().next();
            best.map(|(key, name)| (key.as_str(), name.as_str()))
        });
        match found {
            Some((key, None)) => Err(self.broken(key, "its helper is not text")),
            Some((key, Some(name))) => Ok(Some((key, name))),
            None => Ok(None),
        }
    }

    /// The helper of `credsStore`.
    pub(super) fn store_helper(&self) -> Result<Option<&str>, BrokenEntry> {
        match &self.store {
            Value::Null => Ok(None),
            Value::String(name) => Ok(Some(name.as_str()).filter(|name| !name.is_empty())),
            _ => Err(self.broken("credsStore", "it is not text")),
        }
    }

    /// The keys of `credHelpers` with their helpers, as far as these are text.
    pub(super) fn host_helpers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.helpers.iter().filter_map(|(key, name)| Some((key.as_str(), name.as_str()?)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The keys of `auths`.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.auths.keys().map(String::as_str)
    }

    fn inquiry(&self, name: &str, servers: Vec<String>, is_store: bool) -> Inquiry {
        Inquiry { helper: name.to_owned(), servers, file: Some(self.path.clone()), is_store }
    }

    fn broken(&self, key: &str, reason: &'static str) -> BrokenEntry {
        BrokenEntry { path: self.path.clone(), key: key.to_owned(), reason }
    }
}

/// A field, in any case when there is none in the right one: the Go tools that these files are for read them so.
pub(super) fn take(object: &mut Map<String, Value>, name: &str) -> Value {
    let other = || object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    let key = if object.contains_key(name) { Some(name.to_owned()) } else { other() };
    key.and_then(|key| object.remove(&key)).unwrap_or_default()
}

/// Whether a host is Docker Hub by one of its names.
pub(super) fn is_docker_hub(host: &str) -> bool {
    DOCKER_HUB.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// The server addresses that a helper is asked for, the one that it was configured with first.
pub(super) fn servers(host: &str, configured: Option<&str>) -> Vec<String> {
    if !is_docker_hub(host) {
        return vec![host.to_owned()];
    }
    let others = DOCKER_HUB.into_iter().filter(|name| Some(*name) != configured);
    configured.into_iter().chain(others).map(str::to_owned).collect()
}

/// The keys that serve a repository, the best first: from the whole name over every parent to the host's names.
fn wanted_keys(host: &str, repository_path: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = repository_path;
    while !path.is_empty() {
        keys.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    if is_docker_hub(host) {
        keys.extend(DOCKER_HUB.map(str::to_owned));
    } else {
        keys.push(host.to_owned());
    }
    keys
}

/// The entries under `wanted` itself, then those under other spellings of it, in a settled order.
fn spellings<'a>(entries: &'a Map<String, Value>, wanted: &str) -> Vec<(&'a String, &'a Value)> {
    let mut others: Vec<_> =
        entries.iter().filter(|(key, _)| *key != wanted && normal(key) == normal(wanted)).collect();
    others.sort_by_key(|(key, _)| *key);
    entries.get_key_value(wanted).into_iter().chain(others).collect()
}

/// A key without the scheme and the path behind one that older clients write, its host in lower case: a URL stands for its
/// host alone, whatever its path.
pub(super) fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (is_url, rest) = bare.map_or((false, key), |rest| (true, rest));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = match path {
        "v1/" | "v2/" => "",
        _ if is_url => "",
        path => path.trim_end_matches('/'),
    };
    let host = host.to_ascii_lowercase();
    if path.is_empty() { host } else { format!("{host}/{path}") }
}

/// Whether two keys stand for the same registry, or the same namespace of one.
pub(super) fn is_same_key(one: &str, other: &str) -> bool {
    let (one, other) = (normal(one), normal(other));
    one == other || (is_docker_hub(&one) && is_docker_hub(&other))
}

/// What an entry holds; an empty one (a credential helper's trace) holds nothing.
fn decode(entry: &Value) -> Result<Option<Credentials>, &'static str> {
    let mut fields = match entry {
        Value::Null => return Ok(None),
        Value::Object(fields) => fields.clone(),
        _ => return Err("it is not an object"),
    };
    let mut text = |name: &str| match take(&mut fields, name) {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        _ => Err("it does not have the form of one"),
    };
    let (mut username, mut password) = (text("username")?, text("password")?);
    if let Some(auth) = text("auth")? {
        let (user, secret) = decode_auth(&auth)?;
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        (username, password) = (filled(user), filled(secret));
    }
    if let Some(token) = text("registrytoken")? {
        return Ok(Some(Credentials::RegistryToken(token)));
    }
    if let Some(token) = text("identitytoken")? {
        return Ok(Some(Credentials::IdentityToken { username, token }));
    }
    Ok(match (username, password) {
        (None, None) => None,
        (username, password) => Some(Credentials::Basic {
            username: username.unwrap_or_default(),
            password: password.unwrap_or_default(),
        }),
    })
}

/// `auth` is the base64 of `USER:PASSWORD`; old clients padded the password with zero bytes.
fn decode_auth(auth: &str) -> Result<(String, String), &'static str> {
    let bare: String = auth.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = BASE64.decode(bare).map_err(|_| "its auth is not base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "its auth is not text")?;
    let (user, password) = text.split_once(':').ok_or("its auth has no colon between user and password")?;
    Ok((user.to_owned(), password.trim_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(json: &str, host: &str, path: &str) -> Vec<Candidate> {
        AuthFile::parse(Path::new("f"), json.as_bytes(), FileForm::Auths).unwrap().candidates(host, path)
    }

    /// What the entries hold, helpers apart.
    fn lookup(json: &str, host: &str, path: &str) -> Result<Option<Credentials>, String> {
        match candidates(json, host, path).into_iter().find(|one| !matches!(one, Candidate::Ask(_))) {
            Some(Candidate::Found(found)) => Ok(Some(found.credentials)),
            Some(broken) => Err(format!("{broken:?}")),
            None => Ok(None),
        }
    }

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic { username: username.into(), password: password.into() }
    }

    /// Which entry serves `HOST/PATH`, by the user that it names.
    #[test]
    fn key_table() {
        let cases: &[(&str, &str, &str, Option<&str>)] = &[
            (r#"{"r.example": 1}"#, "r.example", "a/b", Some("1")),
            (r#"{"r.example:5000": 1}"#, "r.example", "a/b", None),
            (r#"{"R.Example": 1}"#, "r.example", "a", Some("1")),
            (r#"{"https://r.example": 1}"#, "r.example", "a", Some("1")),
            (r#"{"https://r.example/": 1}"#, "r.example", "a", Some("1")),
            (r#"{"https://r.example/v1/": 1}"#, "r.example", "a", Some("1")),
            (r#"{"http://r.example/v2": 1}"#, "r.example", "a", Some("1")),
            (r#"{"r.example/v2/": 1}"#, "r.example", "a", Some("1")),
            (r#"{"r.example/v2": 1}"#, "r.example", "a", None),
            (r#"{"r.example/v2": 1}"#, "r.example", "v2/a", Some("1")),
            (r#"{"r.example/ns": 1}"#, "r.example", "other/a", None),
            (r#"{"r.example/ns": 1}"#, "r.example", "nsx/a", None),
            (r#"{"r.example/ns": 1, "r.example": 2}"#, "r.example", "ns/a", Some("1")),
            (r#"{"r.example/ns": 1, "r.example": 2}"#, "r.example", "a", Some("2")),
            (r#"{"r.example/ns/a": 3, "r.example/ns": 1}"#, "r.example", "ns/a", Some("3")),
            (r#"{"https://r.example/v1/": 2, "r.example": 1}"#, "r.example", "a", Some("1")),
            (r#"{"https://r.example/some/path": 1}"#, "r.example", "a", Some("1")),
            (r#"{"r.example/some/path": 1}"#, "r.example", "a", None),
            (r#"{"https://index.docker.io/v1/": 1}"#, "docker.io", "library/a", Some("1")),
            (r#"{"docker.io": 1}"#, "docker.io", "library/a", Some("1")),
            (r#"{"index.docker.io": 1}"#, "docker.io", "library/a", Some("1")),
            (r#"{"registry-1.docker.io": 1}"#, "docker.io", "library/a", Some("1")),
            (r#"{"https://registry-1.docker.io/v2/": 1}"#, "docker.io", "a/b", Some("1")),
            (r#"{"docker.io": 2, "https://index.docker.io/v1/": 1}"#, "docker.io", "a/b", Some("1")),
            (r#"{"docker.io/team": 2, "docker.io": 1}"#, "docker.io", "team/b", Some("2")),
            (r#"{"https://index.docker.io/v1/": 1}"#, "registry-1.docker.io", "a/b", Some("1")),
            (r#"{"docker.io": 1}"#, "r.example", "a", None),
        ];
        for (keys, host, path, user) in cases {
            let mut auths: Map<String, Value> = serde_json::from_str(keys).unwrap();
            for entry in auths.values_mut() {
                *entry = serde_json::json!({"username": entry.to_string(), "password": "p"});
            }
            let found = lookup(&serde_json::json!({ "auths": auths }).to_string(), host, path).unwrap();
            assert_eq!(found, user.map(|user| basic(user, "p")), "{host}/{path} in {auths:?}");
        }
    }

    /// Every form of an entry. `dTpw` is `u:p`.
    #[test]
    fn entry_table() {
        let token = |username: Option<&str>| {
            Some(Credentials::IdentityToken { username: username.map(Into::into), token: "t".into() })
        };
        let cases = [
            (r#"{"auth": "dTpw"}"#, Some(basic("u", "p"))),
            (r#"{"auth": "dTpw\n"}"#, Some(basic("u", "p"))),
            (r#"{"auth": "dTpwOnE="}"#, Some(basic("u", "p:q"))),
            (r#"{"auth": "dTpwOnE"}"#, Some(basic("u", "p:q"))),
            (r#"{"auth": "dTpwAAA="}"#, Some(basic("u", "p"))),
            (r#"{"auth": "dTo="}"#, Some(basic("u", ""))),
            (r#"{"auth": "OnA="}"#, Some(basic("", "p"))),
            (r#"{"auth": "Og=="}"#, None),
            (r#"{"username": "a", "password": "b"}"#, Some(basic("a", "b"))),
            (r#"{"auth": "dTpw", "username": "a", "password": "b"}"#, Some(basic("u", "p"))),
            (r#"{"auth": "", "username": "a", "password": "b"}"#, Some(basic("a", "b"))),
            (r#"{"identitytoken": "t"}"#, token(None)),
            (r#"{"identityToken": "t"}"#, token(None)),
            (r#"{"auth": "dTo=", "identitytoken": "t", "email": "e"}"#, token(Some("u"))),
            (r#"{"registrytoken": "t"}"#, Some(Credentials::RegistryToken("t".into()))),
            ("{}", None),
            ("null", None),
            (r#"{"auth": ""}"#, None),
            (r#"{"auth": null}"#, None),
            (r#"{"email": "e"}"#, None),
        ];
        for (entry, expected) in cases {
            let json = format!(r#"{{"auths": {{"r.example": {entry}}}}}"#);
            assert_eq!(lookup(&json, "r.example", "a").unwrap(), expected, "{entry}");
        }
    }

    /// What cannot be decoded fails its own registry, and no other; the error does not say what stands there.
    #[test]
    fn broken_entries_fail_alone() {
        for entry in [
            r#"{"auth": "%hidden%"}"#,
            r#"{"auth": "dQ=="}"#,
            r#"{"auth": "/zo="}"#,
            r#"{"auth": 7}"#,
            r#"["hidden"]"#,
            r#""hidden""#,
        ] {
            let json = format!(r#"{{"auths": {{"bad.example": {entry}, "r.example": {{"auth": "dTpw"}}}}}}"#);
            let error = lookup(&json, "bad.example", "a").unwrap_err();
            assert!(error.contains("bad.example") && !error.contains("hidden"), "{entry}: {error}");
            assert_eq!(lookup(&json, "r.example", "a").unwrap(), Some(basic("u", "p")), "{entry}");
        }
    }

    /// An empty file and one without `auths` are anonymous; something else than JSON is an error that repeats nothing.
    #[test]
    fn files_without_credentials() {
        for json in ["", " \n", "{}", r#"{"auths": null}"#, r#"{"auths": {}, "credHelpers": null}"#] {
            assert_eq!(lookup(json, "r.example", "a").unwrap(), None, "{json:?}");
        }
        for json in
            ["hidden:", r#"["hidden"]"#, r#""hidden""#, r#"{"auths": "hidden"}"#, "{} {}", r#"{"a":"hidden"#]
        {
            let error = AuthFile::parse(Path::new("f"), json.as_bytes(), FileForm::Auths).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
        }
    }

    /// The order within a file, as `credHelpers`, entry, `credsStore`; `?` marks a helper and what it is asked for.
    #[test]
    fn helpers_stand_before_and_after_entries() {
        let hub = "https://index.docker.io/v1/,docker.io,index.docker.io,registry-1.docker.io";
        let podman_hub = "docker.io,https://index.docker.io/v1/,index.docker.io,registry-1.docker.io";
        let entry = r#""auths": {"r.example": {"auth": "dTpw"}, "other.example": {}}"#;
        let cases: &[(String, &str, &[String])] = &[
            (format!(r#"{{{entry}, "credsStore": "s"}}"#), "r.example", &["u".into()]),
            (format!(r#"{{{entry}, "credsStore": "s"}}"#), "other.example", &["?s other.example".into()]),
            (format!(r#"{{{entry}, "CREDSSTORE": "s"}}"#), "other.example", &["?s other.example".into()]),
            (format!(r#"{{{entry}, "credsStore": ""}}"#), "other.example", &[]),
            (
                format!(r#"{{{entry}, "credsStore": "s", "credHelpers": {{"r.example": "h"}}}}"#),
                "r.example",
                &["?h r.example".into(), "u".into()],
            ),
            (
                r#"{"credsStore": "s", "credHelpers": {"r.example": "h"}}"#.into(),
                "r.example",
                &["?h r.example".into()],
            ),
            (r#"{"credsStore": "s", "credHelpers": {"r.example": ""}}"#.into(), "r.example", &[]),
            (
                r#"{"credHelpers": {"https://R.example/v1/": "h"}}"#.into(),
                "r.example",
                &["?h r.example".into()],
            ),
            (r#"{"credHelpers": {"r.example/ns": "h"}}"#.into(), "r.example", &[]),
            (
                r#"{"credHelpers": {"r.example": 7}, "credsStore": "s"}"#.into(),
                "r.example",
                &["!r.example".into()],
            ),
            (
                r#"{"credHelpers": {"r.example": 7}, "credsStore": ["s"]}"#.into(),
                "b.example",
                &["!credsStore".into()],
            ),
            (
                r#"{"credHelpers": {"r.example": "h"}, "auths": {"r.example": 7}}"#.into(),
                "r.example",
                &["?h r.example".into(), "!r.example".into()],
            ),
            (r#"{"credsStore": "s"}"#.into(), "docker.io", &[format!("?s {hub}")]),
            (r#"{"credHelpers": {"docker.io": "h"}}"#.into(), "docker.io", &[format!("?h {podman_hub}")]),
        ];
        for (json, host, expected) in cases {
            let shown = |candidate: Candidate| match candidate {
                Candidate::Found(FoundCredentials {
                    credentials: Credentials::Basic { username, .. },
                    ..
                }) => username,
                Candidate::Ask(inquiry) => format!("?{} {}", inquiry.helper, inquiry.servers.join(",")),
                Candidate::Broken(broken) => format!("!{}", broken.key),
                other @ Candidate::Found(_) => format!("{other:?}"),
            };
            let found: Vec<String> = candidates(json, host, "ns/a").into_iter().map(shown).collect();
            assert_eq!(found, *expected, "{host} in {json}");
        }
    }

    /// The old file is the inside of `auths`.
    #[test]
    fn the_legacy_form() {
        let json =
            br#"{"https://index.docker.io/v1/": {"auth": "dTpw", "email": "e"}, "auths": {"auth": "eDp5"}}"#;
        let file = AuthFile::parse(Path::new("f"), json, FileForm::Legacy).unwrap();
        let found = file.candidates("docker.io", "library/a");
        let [Candidate::Found(found)] = &found[..] else { unreachable!("one entry fits: {found:?}") };
        assert_eq!(found.credentials, basic("u", "p"));
        let origin = CredentialOrigin::File { path: "f".into(), key: "https://index.docker.io/v1/".into() };
        assert_eq!(found.origin, origin);
    }
}
