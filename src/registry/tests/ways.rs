//! The ways to a server: proxies that forward, tunnel or speak SOCKS, with TLS and without; and what of an answer is in memory at
//! a time.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::net::TcpStream;

use super::*;

/// How far the client's buffer is grown, and a head that is taken. What it is grown to may have room for twice as much.
const BUFFER: usize = 128 << 10;

/// What a proxy speaks.
#[derive(Debug, Clone, Copy)]
enum Speaks {
    Connect,
    Socks,
}

/// A proxy that leads to one server, wherever it is told to lead to, and knows what it was told.
struct Relay {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    async fn start(speaks: Speaks, tls: Option<tokio_rustls::TlsAcceptor>, server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, tls) = (Arc::clone(&log), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => relay(tls.accept(stream).await?, speaks, &log, server).await,
                        None => relay(stream, speaks, &log, server).await,
                    }
                });
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn relay(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    speaks: Speaks,
    log: &Mutex<Vec<String>>,
    server: SocketAddr,
) -> io::Result<()> {
    let heard = match speaks {
        Speaks::Connect => connect(&mut stream).await?,
        Speaks::Socks if stream.read_u8().await? == 4 => socks4(&mut stream).await?,
        Speaks::Socks => socks5(&mut stream).await?,
    };
    log.lock().unwrap().push(heard);
    let mut server = TcpStream::connect(server).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut server).await.map(drop)
}

/// The whole head of a `CONNECT`.
async fn connect(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    Ok(String::from_utf8(head).unwrap())
}

/// `VERSION LOGIN@HOST:PORT`
async fn socks4(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<String> {
    async fn text(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
        let mut text = String::new();
        loop {
            match stream.read_u8().await? {
                0 => return Ok(text),
                byte => text.push(byte.into()),
            }
        }
    }
    assert_eq!(stream.read_u8().await?, 1, "a connection is wanted");
    let (port, address) = (stream.read_u16().await?, stream.read_u32().await?);
    let user = text(stream).await?;
    let host = if address < 256 { text(stream).await? } else { Ipv4Addr::from(address).to_string() };
    stream.write_all(&[0, 90, 0, 0, 0, 0, 0, 0]).await?;
    Ok(format!("4 {user}@{host}:{port}"))
}

async fn socks5(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<String> {
    async fn text(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
        let mut text = vec![0; stream.read_u8().await?.into()];
        stream.read_exact(&mut text).await?;
        Ok(String::from_utf8(text).unwrap())
    }
    let has_login = text(stream).await?.contains('\u{2}');
    stream.write_all(&[5, if has_login { 2 } else { 0 }]).await?;
    let mut login = String::new();
    if has_login {
        assert_eq!(stream.read_u8().await?, 1, "the version of the login");
        login = format!("{}:{}", text(stream).await?, text(stream).await?);
        stream.write_all(&[1, 0]).await?;
    }
    let mut command = [0; 3];
    stream.read_exact(&mut command).await?;
    assert_eq!(command, [5, 1, 0], "a connection is wanted");
    let host = match stream.read_u8().await? {
        1 => Ipv4Addr::from(stream.read_u32().await?).to_string(),
        4 => Ipv6Addr::from(stream.read_u128().await?).to_string(),
        _ => text(stream).await?,
    };
    let port = stream.read_u16().await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(format!("5 {login}@{host}:{port}"))
}

/// For a registry that is nowhere, by its name and by its addresses, and for a proxy that is here.
fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let names = ["r.invalid", "192.0.2.1", "2001:db8::1", "127.0.0.1"].map(str::to_owned);
    rcgen::generate_simple_self_signed(names).unwrap()
}

fn through(proxy: &str, options: Options) -> Registry {
    let proxies = Proxies::from_variables(|name| (name == "ALL_PROXY").then(|| proxy.to_owned())).unwrap();
    let policy = retry::Policy { retries: 0, ..options.policy };
    Registry::through(Options { policy, ..options }, proxies).unwrap()
}

/// A tunnel is asked for with the proxy's password, in plain text or in TLS with the proxy; what is in it is for the registry, and
/// knows nothing of the proxy.
#[tokio::test]
async fn tunnels() {
    let certificate = certificate();
    let (_folder, options) = trusting(&certificate);
    let server = Server::start_tls(&certificate, |_| manifest_reply()).await;
    for (scheme, tls) in [("http", None), ("https", Some(acceptor(&certificate)))] {
        for (login, password) in [("", ""), ("me:secret@", "proxy-authorization: Basic bWU6c2VjcmV0\r\n")] {
            let proxy = Relay::start(Speaks::Connect, tls.clone(), server.address).await;
            let registry = through(&format!("{scheme}://{login}{}", proxy.address), options.clone());
            for (host, authority) in [
                ("r.invalid", "r.invalid:443"),
                ("r.invalid:5000", "r.invalid:5000"),
                ("[2001:db8::1]", "[2001:db8::1]:443"),
            ] {
                let agent = concat!("user-agent: ocipull/", env!("CARGO_PKG_VERSION"), "\r\n");
                let expected =
                    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{agent}{password}\r\n");
                registry.resolve(&format!("{host}/team/app:v1").parse().unwrap()).await.unwrap();
                assert_eq!(proxy.heard().pop(), Some(expected), "{scheme}");
                let seen = server.seen().pop().unwrap();
                assert_eq!(seen.line(), "HEAD /v2/team/app/manifests/v1");
                assert_eq!(seen.header("proxy-authorization"), None);
                assert_eq!(seen.header("host"), Some(authority.trim_end_matches(":443")));
            }
            assert_eq!(proxy.heard().len(), 3);
        }
    }
}

/// A proxy in TLS gets requests in plain http as one without TLS does.
#[tokio::test]
async fn forwarding_over_tls() {
    let certificate = certificate();
    let (_folder, options) = trusting(&certificate);
    let proxy = Server::start_tls(&certificate, |_| manifest_reply()).await;
    let plain = Options { plain_http: PlainHttp::Always, ..options };
    let registry = through(&format!("https://me:secret@{}", proxy.address), plain);
    for _ in 0..2 {
        registry.resolve(&"r.invalid:81/team/app:v1".parse().unwrap()).await.unwrap();
        let seen = proxy.seen().pop().unwrap();
        assert_eq!(seen.line(), "HEAD http://r.invalid:81/v2/team/app/manifests/v1");
        assert_eq!(seen.header("host"), Some("r.invalid:81"));
        assert_eq!(seen.header("proxy-authorization"), Some(BASIC));
    }
}

/// SOCKS proxies are told the name or the address, as their scheme says, and who one is where their protocol has a place for
/// it. What goes through them is as it would be without them.
#[tokio::test]
async fn socks() {
    let certificate = certificate();
    let (_folder, options) = trusting(&certificate);
    let secure = Server::start_tls(&certificate, |_| manifest_reply()).await;
    let plain = Server::start(|_| manifest_reply()).await;
    for (scheme, host, expected) in [
        ("socks4a", "r.invalid", "4 @r.invalid"),
        ("socks4", "192.0.2.1", "4 @192.0.2.1"),
        ("socks5h", "r.invalid", "5 me:s:cret@r.invalid"),
        ("socks5h", "[2001:db8::1]", "5 me:s:cret@2001:db8::1"),
        ("socks5", "192.0.2.1", "5 me:s:cret@192.0.2.1"),
        ("socks5", "[2001:db8::1]", "5 me:s:cret@2001:db8::1"),
    ] {
        for (server, plain_http, usual) in
            [(&secure, PlainHttp::LoopbackOnly, 443), (&plain, PlainHttp::Always, 80)]
        {
            let proxy = Relay::start(Speaks::Socks, None, server.address).await;
            let url = format!("{scheme}://me:s%3Acret@{}", proxy.address);
            let registry = through(&url, Options { plain_http, ..options.clone() });
            for (port, asked) in [("", usual), (":5000", 5000)] {
                registry.resolve(&format!("{host}{port}/team/app:v1").parse().unwrap()).await.unwrap();
                assert_eq!(proxy.heard().pop(), Some(format!("{expected}:{asked}")), "{scheme}");
                let seen = server.seen().pop().unwrap();
                assert_eq!(seen.line(), "HEAD /v2/team/app/manifests/v1");
                assert_eq!(seen.header("host"), Some(&*format!("{host}{port}")));
                assert_eq!(seen.header("proxy-authorization"), None);
            }
        }
    }
    let proxy = Relay::start(Speaks::Socks, None, secure.address).await;
    let registry = through(&format!("socks5h://{}", proxy.address), options);
    registry.resolve(&"r.invalid/team/app:v1".parse().unwrap()).await.unwrap();
    assert_eq!(proxy.heard(), ["5 @r.invalid:443"]);
}

/// A proxy that gives no connection is named, without its password, and with what it is that it says.
#[tokio::test]
async fn proxies_that_give_no_connection() {
    let refusing = |status| Server::start(move |_| reply(status));
    let (no_login, no_leave, broken) = (refusing(407).await, refusing(403).await, refusing(502).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    for (proxy, expected) in [
        (format!("http://me:secret@{}", no_login.address), "proxy authorization required"),
        (format!("http://me:secret@{}", no_leave.address), "tunnel error: unsuccessful"),
        (format!("http://me:secret@{}", broken.address), "tunnel error: unsuccessful"),
        (format!("http://me:secret@{nobody}"), "Connection refused"),
        (format!("https://me:secret@{nobody}"), "Connection refused"),
        (format!("socks5://me:secret@{nobody}"), "Connection refused"),
        (format!("socks4://me:secret@{nobody}"), "Connection refused"),
        (format!("socks5h://me:secret@{}", no_login.address), "SOCKS error"),
        ("http://me:secret@nobody.invalid".to_owned(), "failed to lookup address"),
        ("socks5h://me:secret@nobody.invalid".to_owned(), "failed to lookup address"),
    ] {
        let error = through(&proxy, options()).resolve(&"192.0.2.1/app:v1".parse().unwrap()).await;
        let error = format!("{:?}", error.unwrap_err());
        assert!(error.contains("Proxy {") && error.contains(expected), "{proxy}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    for seen in [no_login.seen(), no_leave.seen(), broken.seen()] {
        assert_eq!(seen[0].line(), "CONNECT 192.0.2.1:443");
        assert_eq!(seen[0].header("proxy-authorization"), Some(BASIC));
    }
}

/// Where names are resolved here, one that does not resolve is not asked for.
#[tokio::test]
async fn names_that_are_resolved_here() {
    let server = Server::start(|_| manifest_reply()).await;
    for scheme in ["socks4", "socks5"] {
        let proxy = Relay::start(Speaks::Socks, None, server.address).await;
        let registry = through(&format!("{scheme}://{}", proxy.address), options());
        let error = registry.resolve(&"r.invalid/team/app:v1".parse().unwrap()).await.unwrap_err();
        assert!(format!("{error:?}").contains("failed to lookup address"), "{error:?}");
        assert!(proxy.heard().is_empty());
    }
}

/// A server that is faster than its reader fills no more memory than the buffers of a connection have.
#[tokio::test]
async fn bodies_come_in_small_pieces() {
    let blob = vec![b'x'; 16 << 20];
    let certificate = certificate();
    let (_folder, options) = trusting(&certificate);
    let answer = reply(200).body(blob.clone());
    let (secure, plain) = (answer.clone(), answer);
    let secure = Server::start_tls(&certificate, move |_| secure.clone()).await;
    let plain = Server::start(move |_| plain.clone()).await;
    for server in [secure, plain] {
        let registry = Registry::new(options.clone()).unwrap();
        let source = registry.blob_source(&server.repository(), &descriptor(&blob));
        let mut body = registry.open(&source, None).await.unwrap();
        let (mut received, mut largest) = (0, 0);
        while let Some(piece) = body.chunk().await.unwrap() {
            received += piece.len();
            largest = largest.max(piece.len());
        }
        assert_eq!(received, blob.len());
        assert!(largest <= 2 * BUFFER, "{largest}");
    }
}

/// A head that fills the buffer is an answer. One of twice the size is none (between the two it is a matter of how it comes), and
/// so is one of more than a hundred headers; the error says so.
#[tokio::test]
async fn heads_are_limited() {
    let long = |size: usize| manifest_reply().header("X", &"x".repeat(size));
    let bare = long(0).bytes(true).len();
    let many =
        |count: usize| (0..count).fold(manifest_reply(), |reply, at| reply.header(&format!("X{at}"), ""));
    for (answer, is_taken) in [
        (long(BUFFER - bare), true),
        (long(2 * BUFFER), false),
        (long(1 << 20), false),
        (many(97), true),
        (many(98), false),
    ] {
        let server = Server::start(move |_| answer.clone()).await;
        let options = Options { plain_http: PlainHttp::Always, ..options() };
        let policy = retry::Policy { retries: 0, ..options.policy };
        let registry = Registry::new(Options { policy, ..options }).unwrap();
        match registry.resolve(&server.reference(":v1")).await {
            Ok(_) => assert!(is_taken),
            Err(error) => {
                let words = "the answer's head is larger than 128 KiB, or has more than 100 headers";
                assert!(!is_taken && format!("{error:?}").contains(words), "{error:?}");
                assert_eq!(error.kind(), Kind::Network);
            }
        }
    }
}

/// Servers are told their names in the hello, where they have one, and that HTTP/1.1 it will be; proxies that only pass on bytes are
/// told no protocol.
#[tokio::test]
async fn hellos() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mut hellos) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let hello = tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
            let Ok(begun) = hello.await else { continue };
            let hello = begun.client_hello();
            let protocols =
                hello.alpn().into_iter().flatten().map(|name| String::from_utf8_lossy(name).into());
            let _ = sender.send((hello.server_name().map(str::to_owned), protocols.collect::<Vec<String>>()));
        }
    });
    let http = "http/1.1".to_owned();
    for (host, proxy, plain_http, name, protocols) in [
        (format!("localhost:{port}"), "", PlainHttp::LoopbackOnly, Some("localhost"), vec![http.clone()]),
        (format!("127.0.0.1:{port}"), "", PlainHttp::LoopbackOnly, None, vec![http.clone()]),
        ("r.invalid".to_owned(), "localhost", PlainHttp::LoopbackOnly, Some("localhost"), vec![]),
        ("r.invalid".to_owned(), "127.0.0.1", PlainHttp::Always, None, vec![http]),
    ] {
        let proxy = if proxy.is_empty() { String::new() } else { format!("https://{proxy}:{port}") };
        let registry = through(&proxy, Options { plain_http, ..options() });
        let asked = registry.resolve(&format!("{host}/team/app:v1").parse().unwrap()).await;
        assert!(asked.is_err(), "nobody goes on with the handshake");
        assert_eq!(hellos.recv().await, Some((name.map(str::to_owned), protocols)), "{host} {proxy}");
        while hellos.try_recv().is_ok() {}
    }
}

/// A server that closes its connections at once is told as one that does, also where the client knows that before it hands its
/// request over and forgets why, or waits for an answer that cannot come. That is a matter of microseconds, so it is tried often.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_end_before_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let reference: Reference = format!("{}/team/app:v1", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let policy = retry::Policy { retries: 0, ..options().policy };
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let reference = reference.clone();
        asking.spawn(async move {
            for _ in 0..400 {
                let options = Options { plain_http: PlainHttp::Always, policy, ..options() };
                let error = Registry::new(options).unwrap().resolve(&reference).await.unwrap_err();
                assert_eq!(error.kind(), Kind::Network);
                let told = format!("{error:?}");
                assert!(!told.contains("not ready") && !told.contains("Stalled"), "{told}");
            }
        });
    }
    asking.join_all().await;
}

/// A server that began to speak TLS, and then cut the handshake, is asked nothing in plain text, where credentials would be seen.
#[tokio::test]
async fn half_a_handshake_is_no_reason_for_plain_http() {
    for (answer, words) in [
        // The beginning of a record with a hello, of one with a fatal alert, and nothing.
        (&[22, 3, 3, 0, 100, 2, 0, 0, 96][..], "the connection was cut during the TLS handshake"),
        (&[22][..], "the connection was cut during the TLS handshake"),
        (&[21, 3, 3, 0, 2][..], "the connection was cut during the TLS handshake"),
        (&[][..], "closed the connection during the TLS handshake"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plain = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&plain);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut hello = [0; 4096];
                let read = stream.read(&mut hello).await.unwrap();
                if read > 0 && hello[0] != 22 {
                    count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                } else {
                    stream.write_all(answer).await.unwrap();
                }
            }
        });
        let policy = retry::Policy { retries: 1, ..options().policy };
        let registry = Registry::new(Options { policy, ..options() }).unwrap();
        let error = registry.resolve(&format!("{address}/team/app:v1").parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Network);
        assert!(error.explained().contains(words), "{answer:?}: {}", error.explained());
        let plain = plain.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(plain > 0, answer.is_empty(), "{answer:?}: {plain} requests in plain text");
    }
}

/// Who insists on TLS gets no plain http, on loopback neither.
#[tokio::test]
async fn plain_http_may_be_ruled_out() {
    let server = Server::start(|_| manifest_reply()).await;
    let never = Options { plain_http: PlainHttp::Never, ..options() };
    let error = Registry::new(never).unwrap().resolve(&server.reference(":v1")).await.unwrap_err();
    assert!(error.explained().contains("does not speak TLS"), "{}", error.explained());
    Registry::new(options()).unwrap().resolve(&server.reference(":v1")).await.unwrap();
}
