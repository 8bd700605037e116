//! Docker's `config.json`: the `auths` that `docker login` and its likes write.
//!
//! Keys are `HOST`, `HOST/NAMESPACE/...` (the longest that fits wins, and one for a namespace never serves the whole
//! host) or, from older clients, `https://HOST/v1/`; Docker Hub goes by several names. An entry that cannot be decoded
//! is an error for its own registry alone. Credential helpers (`credsStore`, `credHelpers`) are not asked; where one
//! would have been, a warning in the log says so.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::credential::{CredentialError, CredentialSource, Credentials};
use crate::reference::Repository;

/// The names of Docker Hub, in the order in which they are looked for: `docker login` writes the first.
const DOCKER_HUB: [&str; 4] =
    ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"];

/// A `config.json`, read anew at every question, so that a `docker login` in between counts.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    path: Option<PathBuf>,
}

impl DockerConfig {
    /// The user's: `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`.
    pub fn of_user() -> Self {
        let folder = std::env::var_os("DOCKER_CONFIG")
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".docker")));
        Self { path: folder.map(|folder| folder.join("config.json")) }
    }

    /// The file at `path`; a missing one holds no credentials.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()) }
    }
}

impl CredentialSource for DockerConfig {
    fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>, CredentialError> {
        let Some(path) = &self.path else { return Ok(None) };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(CredentialError::Unreadable { path: path.clone(), source }),
        };
        let file =
            File::parse(&text).map_err(|source| CredentialError::Malformed { path: path.clone(), source })?;
        file.warn_of_helpers(repository.host(), path);
        let found = file.credentials(repository.host(), repository.path());
        found.map_err(|(key, reason)| CredentialError::Entry { path: path.clone(), key, reason })
    }
}

/// The parts of the file that are about credentials. Entries stay undecoded until their registry is asked for.
#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    auths: Option<HashMap<String, Value>>,
    #[serde(default, rename = "credsStore")]
    credentials_store: Option<Value>,
    #[serde(default, rename = "credHelpers")]
    credential_helpers: Option<HashMap<String, Value>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<String>,
}

impl File {
    fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        // An object first: a list would do for the structure's fields in their order.
        let fields: serde_json::Map<String, Value> = serde_json::from_slice(text)?;
        Self::deserialize(Value::Object(fields))
    }

    fn credentials(
        &self,
        host: &str,
        repository_path: &str,
    ) -> Result<Option<Credentials>, (String, &'static str)> {
        let Some(auths) = &self.auths else { return Ok(None) };
        for wanted in wanted_keys(host, repository_path) {
            for (key, entry) in candidates(auths, &wanted) {
                if let Some(credentials) = decode(entry).map_err(|reason| (key.clone(), reason))? {
                    return Ok(Some(credentials));
                }
            }
        }
        Ok(None)
    }

    fn warn_of_helpers(&self, host: &str, path: &Path) {
        let for_host = self
            .credential_helpers
            .iter()
            .flatten()
            .any(|(key, _)| wanted_keys(host, "").iter().any(|wanted| normal(key) == normal(wanted)));
        let store =
            self.credentials_store.as_ref().and_then(Value::as_str).is_some_and(|name| !name.is_empty());
        if for_host || store {
            let setting = if for_host { "credHelpers" } else { "credsStore" };
            tracing::warn!(
                host, setting, file = %path.display(),
                "credential helpers are not supported yet, and this one is not asked"
            );
        }
    }
}

/// The keys that serve a repository, the best first: from the whole name over every parent to the host's names.
fn wanted_keys(host: &str, repository_path: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = repository_path;
    while !path.is_empty() {
        keys.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    if host == "docker.io" {
        keys.extend(DOCKER_HUB.map(str::to_owned));
    } else {
        keys.push(host.to_owned());
    }
    keys
}

/// The entries under `wanted` itself, then those under other spellings of it, in a settled order.
fn candidates<'a>(auths: &'a HashMap<String, Value>, wanted: &str) -> Vec<(&'a String, &'a Value)> {
    let mut others: Vec<_> =
        auths.iter().filter(|(key, _)| *key != wanted && normal(key) == normal(wanted)).collect();
    others.sort_by_key(|(key, _)| *key);
    auths.get_key_value(wanted).into_iter().chain(others).collect()
}

/// A key without the scheme and the version path that older clients write, its host in lower case.
fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (is_url, rest) = bare.map_or((false, key), |rest| (true, rest));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = match path {
        "v1/" | "v2/" => "",
        "v1" | "v2" if is_url => "",
        path => path.trim_end_matches('/'),
    };
    let host = host.to_ascii_lowercase();
    if path.is_empty() { host } else { format!("{host}/{path}") }
}

/// What an entry holds; an empty one (a credential helper's trace) holds nothing.
fn decode(entry: &Value) -> Result<Option<Credentials>, &'static str> {
    if entry.is_null() {
        return Ok(None);
    }
    if !entry.is_object() {
        return Err("it is not an object");
    }
    let entry = Entry::deserialize(entry).map_err(|_| "it does not have the form of one")?;
    let text = |field: Option<String>| field.filter(|text| !text.is_empty());
    let (mut username, mut password) = (text(entry.username), text(entry.password));
    if let Some(auth) = text(entry.auth) {
        let (user, secret) = decode_auth(&auth)?;
        (username, password) = (text(Some(user)), Some(secret));
    }
    if let Some(token) = text(entry.identity_token) {
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
    let bytes = STANDARD.decode(bare).map_err(|_| "its auth is not base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "its auth is not text")?;
    let (user, password) = text.split_once(':').ok_or("its auth has no colon between user and password")?;
    Ok((user.to_owned(), password.trim_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(json: &str, host: &str, path: &str) -> Result<Option<Credentials>, (String, &'static str)> {
        File::parse(json.as_bytes()).unwrap().credentials(host, path)
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
            (r#"{"https://index.docker.io/v1/": 1}"#, "docker.io", "library/a", Some("1")),
            (r#"{"docker.io": 1}"#, "docker.io", "library/a", Some("1")),
            (r#"{"index.docker.io": 1}"#, "docker.io", "library/a", Some("1")),
            (r#"{"registry-1.docker.io": 1}"#, "docker.io", "library/a", Some("1")),
            (r#"{"https://registry-1.docker.io/v2/": 1}"#, "docker.io", "a/b", Some("1")),
            (r#"{"docker.io": 2, "https://index.docker.io/v1/": 1}"#, "docker.io", "a/b", Some("1")),
            (r#"{"docker.io/team": 2, "docker.io": 1}"#, "docker.io", "team/b", Some("2")),
            (r#"{"docker.io": 1}"#, "r.example", "a", None),
        ];
        for (keys, host, path, user) in cases {
            let keys: HashMap<String, u8> = serde_json::from_str(keys).unwrap();
            let auths: HashMap<String, Value> = keys
                .into_iter()
                .map(|(key, user)| (key, serde_json::json!({"username": user.to_string(), "password": "p"})))
                .collect();
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
        let cases: [(&str, Option<Credentials>); 13] = [
            (r#"{"auth": "dTpw"}"#, Some(basic("u", "p"))),
            (r#"{"auth": "dTpw\n"}"#, Some(basic("u", "p"))),
            (r#"{"auth": "dTpwOnE="}"#, Some(basic("u", "p:q"))),
            (r#"{"auth": "dTpwAAA="}"#, Some(basic("u", "p"))),
            (r#"{"auth": "dTo="}"#, Some(basic("u", ""))),
            (r#"{"username": "a", "password": "b"}"#, Some(basic("a", "b"))),
            (r#"{"auth": "dTpw", "username": "a", "password": "b"}"#, Some(basic("u", "p"))),
            (r#"{"identitytoken": "t"}"#, token(None)),
            (r#"{"auth": "dTo=", "identitytoken": "t", "email": "e"}"#, token(Some("u"))),
            ("{}", None),
            ("null", None),
            (r#"{"auth": ""}"#, None),
            (r#"{"auth": null}"#, None),
        ];
        for (entry, expected) in cases {
            let json = format!(r#"{{"auths": {{"r.example": {entry}}}}}"#);
            assert_eq!(lookup(&json, "r.example", "a").unwrap(), expected, "{entry}");
        }
    }

    /// What cannot be decoded fails its own registry, and no other.
    #[test]
    fn broken_entries_fail_alone() {
        for entry in
            [r#"{"auth": "%%"}"#, r#"{"auth": "dQ=="}"#, r#"{"auth": "/zo="}"#, r#"{"auth": 7}"#, "[]"]
        {
            let json = format!(r#"{{"auths": {{"bad.example": {entry}, "r.example": {{"auth": "dTpw"}}}}}}"#);
            assert_eq!(lookup(&json, "bad.example", "a").unwrap_err().0, "bad.example", "{entry}");
            assert_eq!(lookup(&json, "r.example", "a").unwrap(), Some(basic("u", "p")), "{entry}");
        }
    }

    /// An empty file and one without `auths` are anonymous; something else than JSON is an error.
    #[test]
    fn files_without_credentials() {
        for json in ["", " \n", "{}", r#"{"auths": null}"#, r#"{"auths": {}, "credsStore": "desktop"}"#] {
            assert_eq!(lookup(json, "r.example", "a").unwrap(), None, "{json:?}");
        }
        for json in ["auths:", "[]", "7", r#"{"auths": []}"#, "{} {}"] {
            assert!(File::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
