//! The grammar of names: where a reference is cut, what is a host, and which hosts and paths are valid.

use std::net::Ipv6Addr;

use crate::text::printable;

use super::{DOCKER_HUB, LIBRARY, LONGEST_PATH, ReferenceError, Repository, Written};

/// An old name of Docker Hub, which is still typed and still in configuration files.
const DOCKER_HUB_LEGACY: &str = "index.docker.io";

/// A reference cut at its separators, nothing of it checked yet.
pub(super) struct Parts<'a> {
    host: Option<&'a str>,
    path: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    pub(super) fn split(text: &'a str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        // docker takes such a string for an image's ID; a repository of that name is reachable with its host.
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Identifier { text: printable(text) });
        }
        let (name, digest) = cut(text, '@');
        // Without a slash there is no host, so that `name:5000` is a tag and never a port.
        let (host, rest) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first), rest),
            None if name.starts_with('[') => return Err(ReferenceError::NoPath { text: printable(text) }),
            _ => (None, name),
        };
        let (path, tag) = cut(rest, ':');
        if path.is_empty() {
            return Err(ReferenceError::NoPath { text: printable(text) });
        }
        Ok(Self { host, path, tag, digest })
    }

    pub(super) fn repository(&self) -> Result<(Repository, Written), ReferenceError> {
        let host = match self.host {
            None | Some(DOCKER_HUB_LEGACY) => DOCKER_HUB,
            Some(host) if is_valid_host(host) => host,
            Some(host) => return Err(ReferenceError::BadHost { host: printable(host) }),
        };
        check_path(self.path)?;
        let add_library = host == DOCKER_HUB && !self.path.contains('/');
        let path = if add_library { format!("{LIBRARY}{}", self.path) } else { self.path.to_owned() };
        if path.len() > LONGEST_PATH {
            return Err(ReferenceError::PathTooLong { length: path.len() });
        }
        if host == DOCKER_HUB && path == "library/scratch" {
            return Err(ReferenceError::Reserved);
        }
        let written = Written { host: self.host.is_some(), library: !add_library };
        Ok((Repository { host: without_leading_zeros(host), path }, written))
    }
}

fn cut(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Whether a first component is meant as a host. Whether it is a valid one is another question.
pub(super) fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

/// The host's name, an IPv6 address with its brackets, and what follows the colon behind it.
pub(super) fn split_port(host: &str) -> (&str, Option<&str>) {
    let name_end = if host.starts_with('[') { host.find(']').map_or(host.len(), |end| end + 1) } else { 0 };
    match host[name_end..].find(':') {
        Some(colon) => (&host[..name_end + colon], Some(&host[name_end + colon + 1..])),
        None => (host, None),
    }
}

/// A port that can be connected to: digits only, as `u16`'s own parser would take a sign.
pub(super) fn parse_port(digits: &str) -> Option<u16> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&port| port != 0)
}

/// The host with its port as a plain number. What connects reads `05000` as 5000, so that what is configured for the one
/// holds for the other.
pub(crate) fn without_leading_zeros(host: &str) -> String {
    match split_port(host) {
        (name, Some(digits)) => match parse_port(digits) {
            Some(port) => format!("{name}:{port}"),
            None => host.to_owned(),
        },
        (name, None) => name.to_owned(),
    }
}

fn is_valid_host(host: &str) -> bool {
    let (name, port) = split_port(host);
    if port.is_some_and(|digits| parse_port(digits).is_none()) {
        return false;
    }
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => !address.contains('.') && address.parse::<Ipv6Addr>().is_ok(),
        None => name.split('.').all(is_domain_component),
    }
}

fn is_domain_component(component: &str) -> bool {
    !component.is_empty()
        && !component.starts_with('-')
        && !component.ends_with('-')
        && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.chars().any(char::is_uppercase) {
        return Err(ReferenceError::UpperCase { path: printable(path) });
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(ReferenceError::BadPath { path: printable(path) })
    }
}

/// `[a-z0-9]+`, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    component.starts_with(is_alphanumeric)
        && component.ends_with(is_alphanumeric)
        && component
            .split(is_alphanumeric)
            .all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}
