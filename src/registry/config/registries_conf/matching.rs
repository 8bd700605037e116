//! Which names a prefix fits, and what becomes of a name at another location.

/// How much of `name` the prefix takes, where it fits: up to a `/`, `:` or `@`, or up to the end. `name` is a host, a
/// repository, or a repository with a tag or a digest.
///
/// A host without a port fits the same host with any port, and `*.example.com` every host below example.com, whatever its
/// port: containers/image does both. The first of them is not what its documentation says, and configurations rely on it.
pub(super) fn matched(name: &str, prefix: &str) -> Option<usize> {
    let length = match prefix.strip_prefix('*') {
        Some(parent) if parent.starts_with('.') => {
            let host = name.split(['/', ':', '@']).next().unwrap_or_default();
            let is_below = host.ends_with(parent) && host.len() > parent.len();
            is_below.then_some(host.len())?
        }
        _ => name.starts_with(prefix).then_some(prefix.len())?,
    };
    matches!(name.as_bytes().get(length), None | Some(b':' | b'/' | b'@')).then_some(length)
}

/// The name with its host as it is asked: in lower case, its port a plain number, an address in its shortest form. A host
/// that is blocked is not to be had by writing it in another way.
pub(super) fn with_canonical_host(name: &str) -> String {
    let end = name.find('/').unwrap_or(name.len());
    let (authority, path) = name.split_at(end);
    let authority = authority.to_ascii_lowercase();
    let host_end = if authority.starts_with('[') { authority.find(']').map_or(0, |end| end + 1) } else { 0 };
    let (host, port) = match authority[host_end..].find(':') {
        Some(colon) => authority.split_at(host_end + colon),
        None => (&*authority, ""),
    };
    let host = match url::Host::parse(host) {
        Ok(host @ (url::Host::Ipv4(_) | url::Host::Ipv6(_))) => host.to_string(),
        _ => host.to_owned(),
    };
    let port = match port.get(1..).map(|digits| (digits, digits.parse::<u16>())) {
        Some((digits, Ok(number))) if !digits.starts_with('+') => format!(":{number}"),
        _ => port.to_owned(),
    };
    host + &port + path
}

/// The same name with https's port, which is meant where a host is written without one; none where one is.
pub(super) fn with_default_port(name: &str) -> Option<String> {
    let end = name.find('/').unwrap_or(name.len());
    let (host, path) = name.split_at(end);
    let after_address = host.rfind(']').unwrap_or(0);
    (!host[after_address..].contains(':')).then(|| format!("{host}:443{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases in which containers/image finds an entry are those in which this does, and those in which it finds none
    /// too.
    #[test]
    fn prefixes_end_at_boundaries() {
        let digest = format!("@{}", crate::digest::Digest::sha256(b""));
        let with_digest = format!("r.example/app{digest}");
        for (name, prefix, taken) in [
            ("docker.io", "docker.io", Some("docker.io")),
            ("docker.io/library/busybox", "docker.io", Some("docker.io")),
            ("docker.io/library/busybox", "docker.io/library", Some("docker.io/library")),
            ("docker.io/library/busybox", "docker.io/library/busybox", Some("docker.io/library/busybox")),
            ("docker.io/library/busybox2", "docker.io/library/busybox", None),
            ("docker.io/libraryy", "docker.io/library", None),
            ("docker.io", "docker.io/library", None),
            ("docker.io.example/a", "docker.io", None),
            ("r.example:5000/a", "r.example:5000", Some("r.example:5000")),
            ("r.example:50000/a", "r.example:5000", None),
            ("r.example:5000/a", "r.example", Some("r.example")),
            ("[::1]:5000/a", "[::1]:5000", Some("[::1]:5000")),
            ("[::1]:5000/a", "[::1]", Some("[::1]")),
            ("r.example/app:v1", "r.example/app", Some("r.example/app")),
            ("r.example/app:v1", "r.example/app:v1", Some("r.example/app:v1")),
            ("r.example/app:v12", "r.example/app:v1", None),
            ("r.example/app:v1", "r.example/app:V1", None),
            (&*with_digest, "r.example/app", Some("r.example/app")),
            (&*with_digest, &*with_digest, Some(&*with_digest)),
            (&*with_digest, "r.example/ap", None),
            ("a.r.example", "*.r.example", Some("a.r.example")),
            ("a.b.r.example:5000/x:v1", "*.r.example", Some("a.b.r.example")),
            ("a.b.r.example/x", "*.example", Some("a.b.r.example")),
            ("r.example.r.example/x", "*.r.example", Some("r.example.r.example")),
            ("r.example/x", "*.r.example", None),
            ("ar.example/x", "*.r.example", None),
            ("other.example/a.r.example/x", "*.r.example", None),
            ("a.r.example.org/x", "*.r.example", None),
            ("a.b.r.example/x", "**.r.example", None),
            ("a/b", "*", None),
        ] {
            assert_eq!(matched(name, prefix), taken.map(str::len), "{name} by {prefix}");
        }
    }

    /// The host's letters, and no others; ports and addresses as they are connected to.
    #[test]
    fn hosts_are_compared_as_they_are_asked() {
        for (name, canonical) in [
            ("R.Example:5000/a:V1", "r.example:5000/a:V1"),
            ("R.Example", "r.example"),
            ("*.Example", "*.example"),
            ("127.0.0.1:07200/a", "127.0.0.1:7200/a"),
            ("127.1:7200/a", "127.0.0.1:7200/a"),
            ("[0:0:0:0:0:0:0:1]:05000/a", "[::1]:5000/a"),
            ("r.example:v1", "r.example:v1"),
        ] {
            assert_eq!(with_canonical_host(name), canonical, "{name}");
        }
        assert_eq!(with_default_port("r.example/a:1").as_deref(), Some("r.example:443/a:1"));
        assert_eq!(with_default_port("[::1]/a").as_deref(), Some("[::1]:443/a"));
        assert_eq!(with_default_port("r.example:443/a"), None);
        assert_eq!(with_default_port("[::1]:5000/a"), None);
    }
}
