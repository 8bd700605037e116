//! What was asked: the request as it came, what it is about, and how much was sent in answer to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::belonging::LOOKASIDE;

/// What a path is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/v2/`
    Ping,
    /// `/v2/REPOSITORY/manifests/REFERENCE`
    Manifest { repository: String, reference: String },
    /// `/v2/REPOSITORY/blobs/DIGEST`
    Blob { repository: String, digest: String },
    /// `/v2/REPOSITORY/tags/list`
    Tags { repository: String },
    /// `/v2/REPOSITORY/referrers/DIGEST`
    Referrers { repository: String, digest: String },
    /// `/extensions/v2/REPOSITORY/signatures/DIGEST`
    Signatures { repository: String, digest: String },
    /// `/lookaside/PATH`
    Lookaside { path: String },
    /// `/storage/REPOSITORY/DIGEST`: where a registry redirects to.
    Storage { repository: String, digest: String },
    /// `/token`
    Token,
    /// Anything else.
    Unknown,
}

impl Target {
    pub(crate) fn of(path: &str) -> Self {
        // Clients may encode the colon of a digest or leave it (RFC 3986, section 3.3 allows both).
        let path = path.replace("%3A", ":").replace("%3a", ":");
        match path.as_str() {
            "/v2/" | "/v2" => return Self::Ping,
            "/token" => return Self::Token,
            _ => {}
        }
        if let Some((repository, digest)) =
            path.strip_prefix("/storage/").and_then(|rest| rest.rsplit_once('/'))
        {
            return Self::Storage { repository: repository.into(), digest: digest.into() };
        }
        if let Some(path) = path.strip_prefix(LOOKASIDE).and_then(|rest| rest.strip_prefix('/')) {
            return Self::Lookaside { path: path.into() };
        }
        if let Some(rest) = path.strip_prefix("/extensions/v2/") {
            let Some((repository, digest)) = rest.split_once("/signatures/") else { return Self::Unknown };
            return Self::Signatures { repository: repository.into(), digest: digest.into() };
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Self::Unknown };
        let mut parts = rest.rsplitn(3, '/');
        let (last, kind, repository) = (parts.next(), parts.next(), parts.next());
        match (repository.map(str::to_owned), kind, last.map(str::to_owned)) {
            (Some(repository), Some("manifests"), Some(reference)) => {
                Self::Manifest { repository, reference }
            }
            (Some(repository), Some("blobs"), Some(digest)) => Self::Blob { repository, digest },
            (Some(repository), Some("referrers"), Some(digest)) => Self::Referrers { repository, digest },
            (Some(repository), Some("tags"), Some(last)) if last == "list" => Self::Tags { repository },
            _ => Self::Unknown,
        }
    }

    /// The repository that a token has to cover; storage needs none.
    pub(crate) fn repository(&self) -> Option<&str> {
        match self {
            Self::Manifest { repository, .. }
            | Self::Blob { repository, .. }
            | Self::Referrers { repository, .. }
            | Self::Signatures { repository, .. }
            | Self::Tags { repository } => Some(repository),
            _ => None,
        }
    }
}

/// One request that reached a registry. Clones share the count of sent bytes, which grows while the answer is
/// written.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The method, as sent.
    pub(crate) method: String,
    /// The path, as sent.
    pub(crate) path: String,
    /// What follows the question mark, as sent; empty without one.
    pub(crate) query: String,
    /// The headers in their order, names as sent.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, which only token requests have.
    pub(crate) body: Bytes,
    /// The number of the connection, counted from 1 in the order of acceptance.
    pub(crate) connection: u64,
    pub(crate) target: Target,
    pub(crate) body_sent: Arc<AtomicU64>,
}

impl Request {
    /// The value of a header, whatever the case of its name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The `Range` that was asked for.
    pub(crate) fn range(&self) -> Option<&str> {
        self.header("range")
    }

    /// The bytes of the body that were written to the socket in answer, up to now.
    pub(crate) fn body_sent(&self) -> u64 {
        self.body_sent.load(Ordering::SeqCst)
    }

    /// Whether it was a GET of a blob, from the registry or from storage.
    pub(crate) fn is_blob(&self) -> bool {
        self.method == "GET" && matches!(self.target, Target::Blob { .. } | Target::Storage { .. })
    }

    /// The tag or digest that it is about.
    pub(crate) fn subject(&self) -> Option<&str> {
        match &self.target {
            Target::Manifest { reference, .. } => Some(reference),
            Target::Blob { digest, .. } | Target::Storage { digest, .. } => Some(digest),
            _ => None,
        }
    }

    /// The values of a query parameter, decoded.
    pub(crate) fn parameters(&self, name: &str) -> Vec<String> {
        values(self.query.as_bytes(), name)
    }

    /// The values of a field of a form in the body, decoded.
    pub(crate) fn fields(&self, name: &str) -> Vec<String> {
        values(&self.body, name)
    }

    pub(crate) fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }
}

fn values(form: &[u8], name: &str) -> Vec<String> {
    url::form_urlencoded::parse(form).filter(|(key, _)| key == name).map(|(_, value)| value.into()).collect()
}
