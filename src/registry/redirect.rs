//! Where a redirect may lead, and what may go along. Pure: addresses and URLs in, a decision out.
//!
//! A registry sends blob downloads to its storage, which is elsewhere, so redirects are followed; but whoever answers
//! a request must not be able to collect credentials, to strip TLS, or to make this machine knock at doors that only
//! it can reach. So: http and https only, never from https to http, never more than [`LIMIT`] and never in a circle;
//! credentials go along to the same origin only; and an address of the loopback, a private or a link-local network,
//! written as a literal, is a target only when the registry itself was reached at such an address (an on-premises
//! registry may send to its storage beside it). Names are not resolved here: clouds give the storage of public registries private
//! addresses, and a GET without credentials, whose answer is held against a digest, is all that such a door gets to see.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::text::printable;

/// How many redirects one request follows.
pub const LIMIT: usize = 10;

/// What is known of the address at which the registry was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It is a loopback, private or link-local one.
    Inside,
    /// It is not, or nothing is known of it.
    Public,
}

impl Reached {
    /// The verdict on the addresses that a connection reached or that a name resolved to: inside only when there is
    /// one and all are.
    pub fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut addresses = addresses.into_iter().peekable();
        if addresses.peek().is_some() && addresses.all(is_inside) { Self::Inside } else { Self::Public }
    }
}

/// Whether `address` belongs to a loopback, private, link-local, multicast, reserved or unspecified network, also as an IPv4
/// address that is written as an IPv6 one.
pub fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_inside_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(address) => is_inside_v4(address),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
                    || address.is_multicast()
                    || is_translated_or_site_local(address)
            }
        },
    }
}

fn is_inside_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    // 100.64.0.0/10 is the space that carriers and clusters share (RFC 6598), and 0.0.0.0/8 is this host (RFC 1122).
    let shared = first == 100 && (64..128).contains(&second);
    // 192.0.0.0/24 is for protocols (RFC 6890), 198.18.0.0/15 for measurements (RFC 2544), 224.0.0.0/4 for groups, and
    // 240.0.0.0/4 is reserved (RFC 1112), which keeps nobody from numbering machines with it.
    let protocols = first == 192 && second == 0 && third == 0;
    let measurements = first == 198 && (18..20).contains(&second);
    let special = shared || protocols || measurements || first >= 224 || first == 0;
    special || address.is_loopback() || address.is_private() || address.is_link_local()
}

/// `fec0::/10`, which was site-local (RFC 3879); `64:ff9b:1::/48`, a network's own translation (RFC 8215); and
/// `::ffff:0:0:0/96`, the same by an older way (RFC 7915).
fn is_translated_or_site_local(address: Ipv6Addr) -> bool {
    match address.segments() {
        [first, ..] if first & 0xffc0 == 0xfec0 => true,
        [0x64, 0xff9b, 1, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => true,
        _ => false,
    }
}

/// The IPv4 address inside of a mapped (`::ffff:a.b.c.d`), translated (`64:ff9b::a.b.c.d`, RFC 6052), compatible
/// (`::a.b.c.d`, RFC 4291) or 6to4 (`2002:aabb:ccdd::`, RFC 3056) one.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    let octets = address.octets();
    let at = |start: usize| {
        Some(Ipv4Addr::new(octets[start], octets[start + 1], octets[start + 2], octets[start + 3]))
    };
    match octets[..12] {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0] => at(12),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] if octets[12] != 0 => at(12),
        [0x20, 0x02, ..] => at(2),
        _ => None,
    }
}

/// Whether a URL's host is, as it is written, a place inside: a literal address of one, or a `localhost` name.
pub fn names_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_inside(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_inside(IpAddr::V6(address)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        None => false,
    }
}

/// Whether two URLs have the same scheme, host and port.
pub fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// A redirect that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where to, without a fragment.
    pub url: Url,
    /// Whether credentials may go along.
    pub same_origin: bool,
}

/// The redirects of one request: remembers where it has been.
#[derive(Debug, Clone)]
pub struct Trail {
    visited: Vec<Url>,
}

impl Trail {
    /// A request for `url` begins.
    pub fn new(url: Url) -> Self {
        Self { visited: vec![url] }
    }

    /// How many redirects were followed.
    pub fn len(&self) -> usize {
        self.visited.len() - 1
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The URL that the request is at.
    pub fn current(&self) -> &Url {
        self.visited.last().expect("invariant: a trail starts with a URL")
    }

    /// Follows a redirect with this `Location`, the registry having been reached as `reached` says.
    ///
    /// # Errors
    /// A [`Refusal`], which says why the redirect is not followed.
    pub fn follow(&mut self, location: Option<&str>, reached: Reached) -> Result<Step, Refusal> {
        let location = location.ok_or(Refusal::NoLocation)?;
        if self.len() >= LIMIT {
            return Err(Refusal::TooMany);
        }
        let mut url = self
            .current()
            .join(location.trim())
            .map_err(|_| Refusal::Invalid { location: printable(without_query(location)) })?;
        url.set_fragment(None);
        if self.visited.contains(&url) {
            return Err(Refusal::Loop);
        }
        permitted(self.current(), &url, reached)?;
        // All the way, not only from the start: credentials that were left behind once are not sent again because
        // some third party pointed back.
        let same_origin = self.visited.iter().all(|visited| same_origin(visited, &url));
        self.visited.push(url.clone());
        Ok(Step { url, same_origin })
    }
}

/// Whether a request to `from` may lead to `to`, be it a redirect or the realm of a challenge.
///
/// # Errors
/// [`Refusal::Scheme`], [`Refusal::Downgrade`] or [`Refusal::Inside`].
pub fn permitted(from: &Url, to: &Url, reached: Reached) -> Result<(), Refusal> {
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, "http") => return Err(Refusal::Downgrade { host: host_of(to) }),
        (_, other) => return Err(Refusal::Scheme { scheme: printable(other) }),
    }
    if reached == Reached::Public && names_inside(to) && !same_origin(from, to) {
        return Err(Refusal::Inside { host: host_of(to) });
    }
    Ok(())
}

/// Whether a URL may be asked that a manifest names, the registry that has the manifest having been reached as `reached`
/// says. Whoever writes a manifest must not be able to make this machine knock at doors that only it can reach either.
///
/// # Errors
/// [`Refusal::Scheme`] or [`Refusal::Inside`].
pub fn permitted_elsewhere(url: &Url, reached: Reached) -> Result<(), Refusal> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::Scheme { scheme: printable(url.scheme()) });
    }
    if reached == Reached::Public && names_inside(url) {
        return Err(Refusal::Inside { host: host_of(url) });
    }
    Ok(())
}

fn host_of(url: &Url) -> String {
    printable(url.host_str().unwrap_or_default())
}

/// Signed URLs carry their secret in the query.
fn without_query(location: &str) -> &str {
    location.split(['?', '#']).next().unwrap_or_default()
}

/// Why a redirect or a realm is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A redirect status came without a `Location`.
    #[error("a redirect without a Location")]
    NoLocation,
    /// More redirects than [`LIMIT`].
    #[error("more than {LIMIT} redirects")]
    TooMany,
    /// The redirect leads to where the request has been.
    #[error("the redirects go in a circle")]
    Loop,
    /// The `Location` is no URL.
    #[error("a redirect to \"{location}\", which is not a URL")]
    Invalid {
        /// The `Location`, without its query.
        location: String,
    },
    /// Neither http nor https.
    #[error("leads to a URL of the scheme \"{scheme}\", and only http and https are followed")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// From https to http.
    #[error("leads from https to plain http at \"{host}\"")]
    Downgrade {
        /// Where to.
        host: String,
    },
    /// From a public registry to an address inside.
    #[error(
        "leads to \"{host}\", a loopback, private or link-local address, while the registry was not reached at one"
    )]
    Inside {
        /// Where to.
        host: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    /// Every special network, in every way of writing that a URL parser accepts.
    #[test]
    fn literals_that_are_inside() {
        let inside = [
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "192.0.0.170",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.251",
            "239.255.255.255",
            "255.255.255.255",
            "[fec0::1]",
            "[feff::1]",
            "[ff02::1]",
            "[64:ff9b:1::808:808]",
            "[::ffff:0:8.8.8.8]",
            "[64:ff9b::c612:1]",
            "100.64.0.1",
            "2130706433",
            "0x7f.1",
            "017700000001",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::a00:1]",
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "localhost.",
        ];
        for host in inside {
            assert!(names_inside(&url(&format!("http://{host}/"))), "{host}");
        }
        let outside = [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "192.169.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "[64:ff9b:2::1]",
            "[2001:db8::1]",
            "[::ffff:8.8.8.8]",
            "example.com",
            "localhost.example.com",
            "notlocalhost",
        ];
        for host in outside {
            assert!(!names_inside(&url(&format!("http://{host}/"))), "{host}");
        }
    }

    /// One public address among a name's addresses makes it public, and so does knowing none.
    #[test]
    fn reached_is_inside_only_when_all_is() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(Reached::of([ip("10.0.0.1")]), Reached::Inside);
        assert_eq!(Reached::of([ip("10.0.0.1"), ip("8.8.8.8")]), Reached::Public);
        assert_eq!(Reached::of([]), Reached::Public);
    }

    /// Where a redirect from `https://r.example/v2/x` may lead, and whether credentials go along.
    #[test]
    fn redirect_table() {
        let inside = |host: &str| Err(Refusal::Inside { host: host.into() });
        let cases: [(&str, Reached, Result<bool, Refusal>); 14] = [
            ("https://cdn.example/b?sig=1#frag", Reached::Public, Ok(false)),
            ("/v2/y", Reached::Public, Ok(true)),
            ("https://r.example:443/v2/z", Reached::Public, Ok(true)),
            ("https://r.example:444/v2/z", Reached::Public, Ok(false)),
            ("//cdn.example/b", Reached::Public, Ok(false)),
            ("http://r.example/v2/z", Reached::Public, Err(Refusal::Downgrade { host: "r.example".into() })),
            ("http://10.0.0.1/", Reached::Inside, Err(Refusal::Downgrade { host: "10.0.0.1".into() })),
            ("ftp://cdn.example/b", Reached::Public, Err(Refusal::Scheme { scheme: "ftp".into() })),
            ("file:///etc/passwd", Reached::Inside, Err(Refusal::Scheme { scheme: "file".into() })),
            ("https://169.254.169.254/latest", Reached::Public, inside("169.254.169.254")),
            ("https://[::1]/b", Reached::Public, inside("[::1]")),
            ("https://10.0.0.1/b", Reached::Inside, Ok(false)),
            ("https://r.example/v2/x", Reached::Public, Err(Refusal::Loop)),
            ("https://[x/?sig=1", Reached::Public, Err(Refusal::Invalid { location: "https://[x/".into() })),
        ];
        for (location, reached, expected) in cases {
            let mut trail = Trail::new(url("https://r.example/v2/x"));
            let found = trail.follow(Some(location), reached).map(|step| step.same_origin);
            assert_eq!(found, expected, "{location}");
        }
    }

    /// What a manifest may name: any http and https outside, and inside only what stands beside the registry.
    #[test]
    fn urls_of_manifests() {
        let inside = |host: &str| Err(Refusal::Inside { host: host.into() });
        let cases = [
            ("https://cdn.example/l", Reached::Public, Ok(())),
            ("http://cdn.example/l", Reached::Public, Ok(())),
            ("http://169.254.169.254/latest", Reached::Public, inside("169.254.169.254")),
            ("https://[::ffff:10.0.0.1]/l", Reached::Public, inside("[::ffff:a00:1]")),
            ("http://localhost:9200/", Reached::Public, inside("localhost")),
            ("http://10.0.0.1/l", Reached::Inside, Ok(())),
            ("ftp://cdn.example/l", Reached::Inside, Err(Refusal::Scheme { scheme: "ftp".into() })),
        ];
        for (text, reached, expected) in cases {
            assert_eq!(permitted_elsewhere(&url(text), reached), expected, "{text}");
        }
    }

    /// A registry in plain http may send to plain http and to https, and back from https it may not.
    #[test]
    fn plain_http_goes_up_and_not_down_again() {
        let mut trail = Trail::new(url("http://localhost:5000/v2/x"));
        trail.follow(Some("http://127.0.0.1:9000/b"), Reached::Inside).unwrap();
        trail.follow(Some("https://cdn.example/b"), Reached::Inside).unwrap();
        let refusal = trail.follow(Some("http://localhost:5000/v2/y"), Reached::Inside);
        assert_eq!(refusal, Err(Refusal::Downgrade { host: "localhost".into() }));
    }

    /// Ten are followed, the eleventh is not; a missing Location is no redirect.
    #[test]
    fn the_limit_is_ten() {
        let mut trail = Trail::new(url("https://r.example/0"));
        assert!(trail.is_empty());
        for hop in 1..=LIMIT {
            trail.follow(Some(&format!("/{hop}")), Reached::Public).unwrap();
        }
        assert_eq!(trail.follow(Some("/11"), Reached::Public), Err(Refusal::TooMany));
        assert_eq!(trail.follow(None, Reached::Public), Err(Refusal::NoLocation));
    }
}
