//! How connections come about: names resolved, straight or through a proxy, with TLS or without, in time.
//!
//! A [`Connector`] is layers, the innermost first. [`Way`] leads to the server: over TCP, or through the proxy that is meant for it,
//! which is spoken to in HTTP or SOCKS and may want TLS for itself. `HttpsConnector` does TLS with the server on whatever
//! way that is. [`KeptFirst`] holds back what need not be opened, and [`Connector`] itself ends what takes too long: all of it
//! together, from the name to the handshake's end.
//!
//! Passwords go to the proxy that they are for, in the request that it reads: here in `CONNECT` and in SOCKS. To a proxy that forwards
//! requests in plain http they go with each request, which is for `transport`. Whoever answers
//! `CONNECT` other than with 200 gives no connection.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::USER_AGENT;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Uri};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

use super::kept::KeptFirst;
use super::lost::Life;
use super::proxy::{NamesResolved, Protocol, Proxies, Proxy};

/// How long a connection may be silent before the system asks whether the other side is still there, how long it waits
/// for each answer, and how often it asks. Firewalls forget connections that are silent for longer.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// How long what was sent may go without an acknowledgement. Systems have a quarter of an hour.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

type Failure = Box<dyn std::error::Error + Send + Sync>;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// A connection without TLS, or with a proxy's.
type Plain = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A name that does not resolve.
#[derive(Debug, thiserror::Error)]
#[error("the name does not resolve")]
pub(super) struct Unresolved(#[source] io::Error);

/// It took too long.
#[derive(Debug, thiserror::Error)]
#[error("operation timed out")]
struct TooLate;

/// The connection ended, or was cut, after the server had begun to speak TLS.
#[derive(Debug, thiserror::Error)]
#[error("the server speaks TLS")]
pub(super) struct SpokeTls(#[source] Failure);

tokio::task_local! {
    /// Whether the server that a connection is being opened to has begun to speak TLS.
    static SPEAKS_TLS: Arc<AtomicBool>;
}

/// The first byte of a TLS record that answers a hello: an alert or a handshake (RFC 8446, section 5.1). HTTP begins with a letter.
const TLS_RECORDS: [u8; 2] = [21, 22];

/// What the HTTP client opens connections with.
#[derive(Clone)]
pub(super) struct Connector {
    inner: KeptFirst<HttpsConnector<Way>>,
    longest: Duration,
}

impl Connector {
    /// Connections that come about within `longest`, through `proxies`, with TLS as `tls` has it. `user_agent` is what proxies
    /// are told.
    pub(super) fn new(
        tls: ClientConfig,
        proxies: Arc<Proxies>,
        longest: Duration,
        user_agent: HeaderValue,
    ) -> Self {
        let tls = Arc::new(tls);
        let way = Way::new(&tls, proxies, longest, user_agent);
        Self { inner: KeptFirst(HttpsConnector::from((way, tls))), longest }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Carrier>;
    type Error = Failure;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let speaks_tls = Arc::<AtomicBool>::default();
        let connecting = SPEAKS_TLS.scope(Arc::clone(&speaks_tls), self.inner.call(server));
        let connecting = tokio::time::timeout(self.longest, connecting);
        Box::pin(async move {
            let failure = match connecting.await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(failure)) => failure,
                Err(_) => TooLate.into(),
            };
            Err(if speaks_tls.load(Ordering::Relaxed) { SpokeTls(failure).into() } else { failure })
        })
    }
}

/// The way to a server, up to where TLS with it begins.
#[derive(Clone)]
struct Way {
    proxies: Arc<Proxies>,
    user_agent: HeaderValue,
    tcp: HttpConnector<Resolver>,
    /// To proxies that pass on requests.
    forwarding: HttpsConnector<HttpConnector<Resolver>>,
    /// To proxies that pass on bytes. What is spoken in TLS with these is no HTTP for long, so they are offered no protocol.
    tunnelling: HttpsConnector<HttpConnector<Resolver>>,
}

impl Way {
    fn new(
        tls: &Arc<ClientConfig>,
        proxies: Arc<Proxies>,
        longest: Duration,
        user_agent: HeaderValue,
    ) -> Self {
        let tcp = tcp(longest);
        let mut unnamed = ClientConfig::clone(tls);
        unnamed.alpn_protocols.clear();
        let forwarding = HttpsConnector::from((tcp.clone(), Arc::clone(tls)));
        let tunnelling = HttpsConnector::from((tcp.clone(), unnamed));
        Self { proxies, user_agent, tcp, forwarding, tunnelling }
    }

    async fn to(mut self, server: Uri) -> Result<Carrier, Failure> {
        let proxies = Arc::clone(&self.proxies);
        let is_https = server.scheme() == Some(&Scheme::HTTPS);
        let stream = match proxies.of(&Url::parse(&server.to_string())?) {
            None => self.tcp.call(server).await?.into(),
            Some(proxy) => match proxy.protocol() {
                Protocol::Http if is_https => self.tunnel(proxy, server).await?,
                Protocol::Http => {
                    let stream = self.forwarding.call(proxy.uri().clone()).await?;
                    return Ok(Carrier::new(stream, true, is_https));
                }
                Protocol::Socks4(names) => self.socks4(proxy, names, &server).await?.into(),
                Protocol::Socks5(names) => self.socks5(proxy, names, &server).await?.into(),
            },
        };
        Ok(Carrier::new(stream, false, is_https))
    }

    async fn tunnel(self, proxy: &Proxy, server: Uri) -> Result<Plain, Failure> {
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tunnelling);
        if let Some(authorization) = proxy.authorization() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let mut tunnel = tunnel.with_headers(HeaderMap::from_iter([(USER_AGENT, self.user_agent)]));
        Ok(tunnel.call(server).await?)
    }

    /// SOCKS 4 knows a user without a password only, which nobody gives in a URL: it goes without.
    async fn socks4(
        mut self,
        proxy: &Proxy,
        names: NamesResolved,
        server: &Uri,
    ) -> Result<TokioIo<TcpStream>, Failure> {
        let server = socks_destination(server, names, IpAddr::is_ipv4).await?;
        let stream = self.tcp.call(proxy.uri().clone()).await?;
        Ok(SocksV4::new(proxy.uri().clone(), Opened(Some(stream))).call(server).await?)
    }

    async fn socks5(
        mut self,
        proxy: &Proxy,
        names: NamesResolved,
        server: &Uri,
    ) -> Result<TokioIo<TcpStream>, Failure> {
        let server = socks_destination(server, names, |_| true).await?;
        let stream = self.tcp.call(proxy.uri().clone()).await?;
        let mut socks = SocksV5::new(proxy.uri().clone(), Opened(Some(stream)));
        if let Some((user, password)) = proxy.login() {
            socks = socks.with_auth(user.to_owned(), password.to_owned());
        }
        Ok(socks.call(server).await?)
    }
}

impl Service<Uri> for Way {
    type Response = Carrier;
    type Error = Failure;
    type Future = Connecting<Carrier>;

    /// None of those below is ever busy.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        Box::pin(self.clone().to(server))
    }
}

/// TCP, for https too: TLS is done above.
fn tcp(longest: Duration) -> HttpConnector<Resolver> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Shared among a host's addresses, so that one that is dead leaves time for the others.
    tcp.set_connect_timeout(Some(longest));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
}

/// What a SOCKS proxy is to connect to: an address where names are resolved here and one of them is `fit`, and always with
/// its port.
async fn socks_destination(
    server: &Uri,
    names: NamesResolved,
    fit: impl Fn(&IpAddr) -> bool,
) -> Result<Uri, Failure> {
    let usual = if server.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let port = server.port_u16().unwrap_or(usual);
    let mut host = server.host().unwrap_or_default().to_owned();
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if names == NamesResolved::Here && !is_address {
        let mut found = Resolver(GaiResolver::new()).call(host.parse()?).await?;
        host = match found.find(|found| fit(&found.ip())).map(|found| found.ip()) {
            Some(IpAddr::V4(address)) => address.to_string(),
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            None => return Err(Unresolved(io::Error::other("it has no address that the proxy takes")).into()),
        };
    }
    Ok(format!("http://{host}:{port}/").parse()?)
}

/// A connection that is there already, for those who would open one: so its failures are told in its own words.
struct Opened(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Opened {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _proxy: Uri) -> Self::Future {
        std::future::ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// The system's resolver, whose errors can be told from others.
#[derive(Debug, Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, Unresolved>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        self.0.poll_ready(context).map_err(Unresolved)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.0.call(name);
        Box::pin(async move { resolving.await.map_err(Unresolved) })
    }
}

/// What carries a conversation with a server.
pub(super) struct Carrier {
    stream: Plain,
    /// Whether it is a proxy that is spoken to, so that requests have to say where to.
    forwards: bool,
    life: Life,
    /// Who wants to know what the server's first byte is of, until it has come.
    first_byte: Option<Arc<AtomicBool>>,
}

impl Carrier {
    /// Over TLS, whoever opens it is told whether the server speaks that.
    fn new(stream: Plain, forwards: bool, is_https: bool) -> Self {
        let first_byte = SPEAKS_TLS.try_with(Arc::clone).ok().filter(|_| is_https);
        Self { stream, forwards, life: Life::new(), first_byte }
    }
}

impl Connection for Carrier {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.forwards).extra(self.life.watched())
    }
}

impl Read for Carrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first_byte.is_some() {
            // One byte, once: what it is of cannot be seen in a buffer that was only lent.
            let mut first = [0];
            let mut byte = ReadBuf::new(&mut first);
            ready!(Pin::new(&mut self.stream).poll_read(context, byte.unfilled()))?;
            let speaks_tls = self.first_byte.take();
            if let (Some(speaks_tls), [byte]) = (speaks_tls, byte.filled()) {
                speaks_tls.store(TLS_RECORDS.contains(byte), Ordering::Relaxed);
                buffer.put_slice(&[*byte]);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Carrier {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
