//! Logging in: what somebody logs in to, and whether the registry accepts the credentials. Nothing is stored here; that is
//! `auth::Logins`' affair.

use std::fmt;
use std::str::FromStr;

use super::Registry;
use super::attempt::{Attempt, Found};
use super::error::RegistryError;
use super::exchange::Ask;
use super::retry::Budget;
use crate::reference::{ReferenceError, Repository};

/// A registry, or a namespace of one, as the key of credentials: `quay.io`, `localhost:5000`, `quay.io/team`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginKey {
    /// A repository below the key, which says where the registry is.
    below: Repository,
    namespace: Option<String>,
}

impl LoginKey {
    /// The registry's host, as references name it: `docker.io` for Docker Hub by any of its names.
    pub fn host(&self) -> &str {
        self.below.host()
    }

    /// The namespace, where the key has one: `team` of `quay.io/team`.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// A repository that the credentials are for.
    pub fn repository(&self) -> &Repository {
        &self.below
    }
}

impl fmt::Display for LoginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}", self.host()),
            None => f.write_str(self.host()),
        }
    }
}

impl FromStr for LoginKey {
    type Err = ReferenceError;

    /// Parses `HOST[:PORT][/NAMESPACE]`. A URL counts for its host alone, as docker and podman have it.
    ///
    /// # Errors
    /// [`ReferenceError::BadHost`] for what no reference takes for a registry's host (`quay`, which would be a repository
    /// of Docker Hub), and every other [`ReferenceError`] that is about a repository's name.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let url = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let text = url.map_or(text, |rest| rest.split('/').next().unwrap_or_default()).trim_end_matches('/');
        let (host, namespace) =
            text.split_once('/').map_or((text, None), |(host, namespace)| (host, Some(namespace)));
        let below: Repository = format!("{text}/login").parse()?;
        let is_host_written = host.contains(['.', ':']) || below.host() == host;
        if !is_host_written {
            return Err(ReferenceError::BadHost { host: crate::text::printable(host) });
        }
        if host == "registry-1.docker.io" {
            return format!("docker.io{}", &text[host.len()..]).parse();
        }
        Ok(Self { below, namespace: namespace.map(str::to_owned) })
    }
}

/// What a registry says to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginCheck {
    /// The credentials are good.
    Accepted,
    /// The registry answers anybody, so that the credentials could not be checked.
    NotAsked,
}

impl Registry {
    /// Asks the registry whether it accepts the credentials that the client's source has for `key`: its base, `/v2/`, has
    /// to answer to them, as docker and podman check it. Where it asks for a token, the token service has to give one.
    ///
    /// # Errors
    /// Any [`RegistryError`] of a request; one of [`Kind::Auth`](crate::failure::Kind::Auth) when the credentials are
    /// refused.
    pub async fn log_in(&self, key: &LoginKey) -> Result<LoginCheck, RegistryError> {
        let subject = key.to_string();
        let (client, authenticator) = (&self.inner.client, &self.inner.authenticator);
        let target = &self.inner.routes.itself(&key.below)?;
        let budget = Budget::new();
        let ask = async || {
            let ask = Ask::get(&subject);
            let attempt = Attempt { client, authenticator, target, ask, path: "" };
            let Found { answer, authenticated, .. } = attempt.run().await?;
            if !answer.status().is_success() {
                return Err(answer.into_error().await);
            }
            answer.discard().await;
            Ok(if authenticated { LoginCheck::Accepted } else { LoginCheck::NotAsked })
        };
        self.retrying(&budget, target, None, ask).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What may be logged in to, and the key that it becomes.
    #[test]
    fn keys() {
        let cases = [
            ("quay.io", Some(("quay.io", None))),
            ("quay.io/", Some(("quay.io", None))),
            ("quay.io/team/sub", Some(("quay.io", Some("team/sub")))),
            ("localhost", Some(("localhost", None))),
            ("localhost:5000/a", Some(("localhost:5000", Some("a")))),
            ("[::1]:5000", Some(("[::1]:5000", None))),
            ("https://r.example/v1/", Some(("r.example", None))),
            ("http://r.example:5000", Some(("r.example:5000", None))),
            ("docker.io", Some(("docker.io", None))),
            ("docker.io/team", Some(("docker.io", Some("team")))),
            ("index.docker.io", Some(("docker.io", None))),
            ("https://index.docker.io/v1/", Some(("docker.io", None))),
            ("registry-1.docker.io", Some(("docker.io", None))),
            ("quay", None),
            ("team/app", None),
            ("", None),
            ("quay.io/team:tag", None),
            ("quay.io/team@sha256:0", None),
            ("quay.io/Team", None),
            ("quay.io//a", None),
            ("user:pass@quay.io", None),
            ("quay.io:99999999", None),
        ];
        for (text, expected) in cases {
            let key = text.parse::<LoginKey>();
            let found = key.as_ref().ok().map(|key| (key.host(), key.namespace()));
            assert_eq!(found, expected, "{text}: {key:?}");
        }
        assert_eq!("quay.io/team/".parse::<LoginKey>().unwrap().to_string(), "quay.io/team");
    }
}
