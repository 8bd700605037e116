//! Which proxy a URL is reached through: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case. Pure
//! but for [`Proxies::from_environment`]. How a proxy is spoken to is `connect`'s.
//!
//! The rules of `NO_PROXY` are those of the Go tools that read the same variable in the same pipelines: `*`; a name,
//! which covers what is below it; `.name` and `*.name`, which cover only what is below; an address; a network in CIDR
//! form; each of these, but the network, with a port or without. `ALL_PROXY`, which those do not know, stands in for
//! the other two. Loopback hosts never go through a proxy. The client's own reading of the environment knows neither
//! ports nor `*.name`, takes an empty `HTTP_PROXY` for a set one, and passes over a proxy that it cannot parse, which
//! would mean a direct connection that the user wanted to avoid; so it is off.

use std::net::IpAddr;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::{Host, Url};

use super::error::{RegistryError, shown};

/// The schemes of proxies, and what they stand for.
const SCHEMES: [(&str, Protocol); 6] = [
    ("http", Protocol::Http),
    ("https", Protocol::Http),
    ("socks4", Protocol::Socks4(NamesResolved::Here)),
    ("socks4a", Protocol::Socks4(NamesResolved::There)),
    ("socks5", Protocol::Socks5(NamesResolved::Here)),
    ("socks5h", Protocol::Socks5(NamesResolved::There)),
];

/// The proxies in force.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// One proxy, and who one is to it.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    /// Without user and password, fit to be shown.
    shown: String,
    protocol: Protocol,
    /// Where it is, apart from the user and the password, which are decoded. Its `Debug` shows neither.
    intercept: Intercept,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP, over TLS where its URL says so.
    Http,
    Socks4(NamesResolved),
    Socks5(NamesResolved),
}

/// By whom the names of servers are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamesResolved {
    Here,
    /// By the proxy.
    There,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    host: ExceptHost,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ExceptHost {
    Everything,
    Name(String),
    Below(String),
    Address(IpAddr),
    Network(IpAddr, u8),
}

impl Proxies {
    /// What the process's environment says.
    ///
    /// # Errors
    /// [`RegistryError::Proxy`], when a variable holds something that is no proxy's URL.
    pub(super) fn from_environment() -> Result<Self, RegistryError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    pub(super) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, RegistryError> {
        let set = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|v| !v.is_empty());
        let either = |name: &str| {
            let lower = name.to_ascii_lowercase();
            // A CGI process gets the request's "Proxy" header as HTTP_PROXY (CVE-2016-5385).
            let upper = (name != "HTTP_PROXY" || set("REQUEST_METHOD").is_none())
                .then(|| set(name).map(|value| (name.to_owned(), value)))
                .flatten();
            upper.or_else(|| set(&lower).map(|value| (lower, value)))
        };
        let proxy = |name: &str| either(name).map(|(name, value)| parse_proxy(name, &value)).transpose();
        let all = proxy("ALL_PROXY")?;
        let exceptions = either("NO_PROXY").map(|(_, value)| parse_exceptions(&value)).unwrap_or_default();
        Ok(Self {
            http: proxy("HTTP_PROXY")?.or_else(|| all.clone()),
            https: proxy("HTTPS_PROXY")?.or(all),
            exceptions,
        })
    }

    /// The proxy for `url`; `None` means a direct connection.
    pub(super) fn of(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            _ => self.https.as_ref(),
        }?;
        let host = url.host()?;
        let port = url.port_or_known_default();
        let direct =
            is_loopback(&host) || self.exceptions.iter().any(|exception| exception.covers(&host, port));
        (!direct).then_some(proxy)
    }
}

impl Proxy {
    /// The proxy at a URL, or what is wrong with it, in words without its password.
    fn at(mut url: Url) -> Result<Self, String> {
        let Some((_, protocol)) = SCHEMES.iter().find(|(scheme, _)| *scheme == url.scheme()) else {
            return Err(format!("its scheme is none of {}", SCHEMES.map(|(scheme, _)| scheme).join(", ")));
        };
        if url.host_str().is_none_or(str::is_empty) {
            return Err("it names no host".to_owned());
        }
        if *protocol != Protocol::Http && url.port().is_none() {
            // Fails for URLs without a host only.
            let _ = url.set_port(Some(1080));
        }
        // Any destination will do: what is built here knows one proxy and no exceptions.
        let matcher = Matcher::builder().all(url.as_str()).build();
        let intercept = matcher.intercept(&Uri::from_static("http://destination/"));
        let intercept = intercept.ok_or_else(|| "it cannot be connected to".to_owned())?;
        Ok(Self { shown: shown(&url), protocol: *protocol, intercept })
    }

    /// Its URL, fit to be shown.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Where it is.
    pub(super) fn uri(&self) -> &Uri {
        self.intercept.uri()
    }

    /// What an HTTP proxy wants to see in `Proxy-Authorization`, where its URL has a user.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.intercept.basic_auth()
    }

    /// The user and the password for a SOCKS proxy.
    pub(super) fn login(&self) -> Option<(&str, &str)> {
        self.intercept.raw_auth()
    }
}

/// `localhost`, `*.localhost`, 127.0.0.0/8 and `::1`.
pub(super) fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
    }
}

fn parse_proxy(variable: String, value: &str) -> Result<Proxy, RegistryError> {
    // "proxy.example:3128" parses as a URL of the scheme "proxy.example", so a value without "://" is a bare host.
    let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let parsed = Url::parse(&text).map_err(|error| error.to_string()).and_then(Proxy::at);
    parsed.map_err(|reason| RegistryError::Proxy { variable, reason })
}

fn parse_exceptions(value: &str) -> Vec<Exception> {
    value.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).map(parse_exception).collect()
}

fn parse_exception(entry: &str) -> Exception {
    let whole = |host| Exception { host, port: None };
    if entry == "*" {
        return whole(ExceptHost::Everything);
    }
    if let Some((address, length)) = entry.split_once('/')
        && let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u8>())
    {
        return whole(ExceptHost::Network(address, length));
    }
    if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
        return whole(ExceptHost::Address(address));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().ok()),
        _ => (entry, None),
    };
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Exception { host: ExceptHost::Address(address), port };
    }
    let name = host.to_ascii_lowercase();
    let below = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')).map(str::to_owned);
    Exception { host: below.map_or(ExceptHost::Name(name), ExceptHost::Below), port }
}

impl Exception {
    fn covers(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        if self.port.is_some() && self.port != port {
            return false;
        }
        let address = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
            Host::Domain(_) => None,
        };
        match (&self.host, host) {
            (ExceptHost::Everything, _) => true,
            (ExceptHost::Address(wanted), _) => address == Some(*wanted),
            (ExceptHost::Network(network, length), _) => {
                address.is_some_and(|address| in_network(address, *network, *length))
            }
            (ExceptHost::Name(wanted), Host::Domain(name)) => *name == wanted || is_below(name, wanted),
            (ExceptHost::Below(wanted), Host::Domain(name)) => is_below(name, wanted),
            _ => false,
        }
    }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|front| front.ends_with('.'))
}

fn in_network(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let shifted =
        |bits: u128, width: u32| bits.checked_shr(width.saturating_sub(u32::from(length))).unwrap_or(0);
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let (address, network) = (u128::from(address.to_bits()), u128::from(network.to_bits()));
            length <= 32 && shifted(address, 32) == shifted(network, 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            length <= 128 && shifted(address.to_bits(), 128) == shifted(network.to_bits(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, RegistryError> {
        Proxies::from_variables(|name| {
            variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn of(variables: &[(&str, &str)], url: &str) -> Option<String> {
        proxies(variables).unwrap().of(&Url::parse(url).unwrap()).map(|proxy| proxy.shown().to_owned())
    }

    /// Which variable counts for which URL.
    #[test]
    fn variables() {
        type Variables<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(Variables<'_>, &str, Option<&str>)] = &[
            (&[], "https://r.example/", None),
            (&[("HTTPS_PROXY", "http://p:1")], "https://r.example/", Some("http://p:1/")),
            (&[("https_proxy", "http://p:1")], "https://r.example/", Some("http://p:1/")),
            (
                &[("HTTPS_PROXY", ""), ("https_proxy", "http://p:1")],
                "https://r.example/",
                Some("http://p:1/"),
            ),
            (&[("HTTPS_PROXY", "http://p:1")], "http://r.example/", None),
            (&[("HTTP_PROXY", "p:3128")], "http://r.example/", Some("http://p:3128/")),
            (&[("HTTP_PROXY", "p.example")], "http://r.example/", Some("http://p.example/")),
            (&[("HTTP_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")], "http://r.example/", None),
            (&[("ALL_PROXY", "socks5h://p")], "https://r.example/", Some("socks5h://p:1080")),
            (
                &[("all_proxy", "http://p:1"), ("HTTPS_PROXY", "http://q:1")],
                "https://r.example/",
                Some("http://q:1/"),
            ),
            (&[("ALL_PROXY", "http://p:1")], "http://localhost:5000/", None),
            (&[("ALL_PROXY", "http://p:1")], "http://a.localhost/", None),
            (&[("ALL_PROXY", "http://p:1")], "https://127.9.9.9/", None),
            (&[("ALL_PROXY", "http://p:1")], "https://[::1]:5000/", None),
        ];
        for (variables, url, expected) in cases {
            assert_eq!(of(variables, url).as_deref(), *expected, "{variables:?} {url}");
        }
    }

    /// A proxy that cannot be used is an error, not a direct connection; its password stays out of the message.
    #[test]
    fn unusable_proxies() {
        for value in ["ftp://u:hidden@p", "http://", "http://u:hidden@", "http://u:hidden@[x"] {
            let error = proxies(&[("HTTPS_PROXY", value)]).unwrap_err().to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("hidden"), "{error}");
        }
    }

    /// Whether an entry of NO_PROXY keeps a URL from the proxy.
    #[test]
    fn exceptions() {
        let cases = [
            ("*", "https://r.example/", true),
            ("r.example", "https://r.example/", true),
            ("R.Example", "https://r.example/", true),
            ("example", "https://r.example/", true),
            ("ample", "https://r.example/", false),
            (".example", "https://r.example/", true),
            (".r.example", "https://r.example/", false),
            ("*.example", "https://r.example/", true),
            ("*.r.example", "https://r.example/", false),
            ("x, r.example ,y", "https://r.example/", true),
            ("x r.example", "https://r.example/", true),
            ("r.example:443", "https://r.example/", true),
            ("r.example:5000", "https://r.example/", false),
            ("r.example:5000", "https://r.example:5000/", true),
            ("10.0.0.1", "https://10.0.0.1/", true),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/", true),
            ("10.0.0.1:5000", "https://10.0.0.1/", false),
            ("10.0.0.0/8", "https://10.9.9.9/", true),
            ("10.0.0.0/8", "https://11.0.0.1/", false),
            ("0.0.0.0/0", "https://11.0.0.1/", true),
            ("10.0.0.0/33", "https://10.0.0.0/", false),
            ("fd00::/8", "https://[fd12::1]/", true),
            ("::/0", "https://[fd12::1]/", true),
            ("fd12::1", "https://[fd12::1]/", true),
            ("[fd12::1]:5000", "https://[fd12::1]:5000/", true),
            ("10.0.0.0/8", "https://r.example/", false),
            ("", "https://r.example/", false),
            (",,", "https://r.example/", false),
        ];
        for (value, url, direct) in cases {
            let found = of(&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", value)], url);
            assert_eq!(found.is_none(), direct, "{value:?} {url}");
        }
    }
}
