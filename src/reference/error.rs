//! What can be wrong with a reference, in the words that its writer reads.

use crate::digest::DigestError;
use crate::failure::{Failure, Kind};

use super::{LONGEST_PATH, LONGEST_TAG};

/// Why a text is not a reference, a repository or a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// There is no text.
    #[error("the reference is empty")]
    Empty,
    /// Nothing, or nothing but a host, stands where the repository's path belongs.
    #[error("\"{text}\" names no repository")]
    NoPath {
        /// The whole reference.
        text: String,
    },
    /// The text is an image's ID: 64 hex digits and nothing else.
    #[error("\"{text}\" is an image ID, which registries do not know")]
    Identifier {
        /// The whole reference.
        text: String,
    },
    /// The first component is meant as a host and is not a valid one.
    #[error(
        "\"{host}\" is neither a host (a domain name, an IPv4 address or a bracketed IPv6 address, with a port \
         from 1 to 65535 or none) nor part of a path"
    )]
    BadHost {
        /// The first component.
        host: String,
    },
    /// The path has upper-case letters.
    #[error("the repository path \"{path}\" has upper-case letters")]
    UpperCase {
        /// The path as written.
        path: String,
    },
    /// The path has characters, or separators in a place, that the grammar does not allow.
    #[error(
        "the repository path \"{path}\" is invalid (components of a-z and 0-9, joined inside by \".\", \"_\", \
         \"__\" or dashes)"
    )]
    BadPath {
        /// The path as written.
        path: String,
    },
    /// The path, an added `library/` included, is longer than registries accept.
    #[error("the repository path has {length} characters, and {LONGEST_PATH} are allowed")]
    PathTooLong {
        /// How many characters it has.
        length: usize,
    },
    /// The tag has characters that the grammar does not allow, is empty, or is too long.
    #[error(
        "the tag \"{tag}\" is invalid (1 to {LONGEST_TAG} of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", the first \
         neither \".\" nor \"-\")"
    )]
    BadTag {
        /// The tag as written.
        tag: String,
    },
    /// What follows the `@` is not a digest.
    #[error("the digest \"{digest}\" is invalid")]
    BadDigest {
        /// What follows the `@`.
        digest: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// `scratch` on Docker Hub: the name that stands for no image, under which nothing can be pulled.
    #[error("\"scratch\" is a reserved name")]
    Reserved,
    /// A repository was asked for, and there is a tag or a digest.
    #[error("\"{text}\" has a tag or a digest, and a repository is meant")]
    NotARepository {
        /// The whole text.
        text: String,
    },
}

impl Failure for ReferenceError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::BadHost { host } if matches!(host.as_str(), "http:" | "https:" | "docker:" | "oci:") => {
                Some(format!("leave out \"{host}//\": a reference has no scheme"))
            }
            Self::UpperCase { path } => Some(format!("try \"{}\"", path.to_lowercase())),
            Self::Identifier { .. } => Some(
                "name the repository too, as in \"NAME@sha256:DIGEST\" with the manifest's digest".to_owned(),
            ),
            Self::NotARepository { .. } => Some("leave out what follows the repository's name".to_owned()),
            _ => None,
        }
    }
}
