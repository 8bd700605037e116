//! The server below [`FaultRegistry`](super::FaultRegistry): accepts, tells TLS from plain text by the first byte,
//! reads requests, records them and sends what the routes and the faults make of them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::Answer;
use super::auth::{Auth, Issuer};
use super::belonging::Offers;
use super::builder::OnTlsHello;
use super::content::KIB;
use super::faults::{Fault, Rules};
use super::http1::{self, Incoming};
use super::request::{Request, Target};
use super::routes;
use super::store::Store;
use super::wire::{Delivery, Pacer, Wire};

/// What the kernel may hold between the registry and the client. Small, so that the bytes counted as sent are close
/// to the bytes that arrived.
const SEND_BUFFER: u32 = 128 * 1024;
/// Connections that wait to be accepted.
pub(crate) const BACKLOG: u32 = 1024;
/// The first byte of a TLS record that holds a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// A fatal `handshake_failure` alert (RFC 8446, section 6).
const TLS_ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 40];

/// A second registry that serves the blobs.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) base: String,
    pub(crate) signed: bool,
}

/// What the connections of one registry share.
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) rules: Rules,
    pub(crate) auth: Auth,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) realm: String,
    pub(crate) redirect_blobs_to: Option<Storage>,
    /// Whether this registry, as a storage, asks for signatures.
    pub(crate) signed_urls: Arc<AtomicBool>,
    pub(crate) tags_per_page: usize,
    pub(crate) links_in_plain_http: bool,
    pub(crate) offers: Offers,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) on_tls_hello: OnTlsHello,
    /// Whether it listens, or is to.
    pub(crate) up: watch::Sender<bool>,
    pub(crate) listens: AtomicBool,
    /// How many more TLS handshakes are cut, and how many were.
    pub(crate) handshakes_to_cut: AtomicUsize,
    pub(crate) link: Pacer,
    pub(crate) bytes_per_second_each: AtomicU64,
    pub(crate) requests: Mutex<Vec<Request>>,
    pub(crate) unexpected: Mutex<Vec<String>>,
    pub(crate) connections: Connections,
    pub(crate) activity: Activity,
}

/// Counts of connections. Open ones count from their first request.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    accepted: AtomicU64,
    pub(crate) open: AtomicUsize,
    pub(crate) peak: AtomicUsize,
    pub(crate) not_http: AtomicUsize,
    pub(crate) failed_handshakes: AtomicUsize,
    pub(crate) cut_handshakes: AtomicUsize,
}

/// An open connection; it counts until this is dropped.
struct Open<'a>(&'a Connections);

impl<'a> Open<'a> {
    fn count(connections: &'a Connections) -> Self {
        let open = connections.open.fetch_add(1, Ordering::SeqCst) + 1;
        connections.peak.fetch_max(open, Ordering::SeqCst);
        Self(connections)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Wakes the tests that wait for something to happen.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    pub(crate) lock: Mutex<()>,
    pub(crate) changed: Condvar,
}

impl Activity {
    pub(crate) fn notify(&self) {
        drop(self.lock.lock().unwrap());
        self.changed.notify_all();
    }
}

/// Serves connections until the runtime is shut down, with a pause whenever it is to be down.
pub(crate) async fn run(mut listener: TcpListener, shared: Arc<Shared>) {
    let mut up = shared.up.subscribe();
    loop {
        let mut connections = JoinSet::new();
        shared.listens.store(true, Ordering::SeqCst);
        shared.activity.notify();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = up.wait_for(|up| !*up) => break,
                Some(_) = connections.join_next() => continue,
            };
            let Ok((stream, _)) = stream else { return };
            let shared = Arc::clone(&shared);
            let number = shared.connections.accepted.fetch_add(1, Ordering::SeqCst) + 1;
            connections.spawn(async move {
                // What breaks a connection is the client's business, or a fault's.
                let _ = connection(stream, &shared, number).await;
                shared.activity.notify();
            });
        }
        shared.listens.store(false, Ordering::SeqCst);
        drop(listener);
        // The port stays taken, so that no other test gets it; nobody listens, so that it refuses.
        let socket = bind_again(shared.address).await;
        connections.shutdown().await;
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        listener = socket.listen(BACKLOG).unwrap();
    }
}

/// Takes the address of a listener that was closed. A process that another test is just starting has a copy of it until it
/// runs its program.
async fn bind_again(address: SocketAddr) -> TcpSocket {
    for _ in 0..10_000 {
        if let Ok(socket) = bind(address) {
            return socket;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{address} does not come free");
}

/// A socket at an address where connections of an earlier one may still be closing.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(SEND_BUFFER).unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address)?;
    Ok(socket)
}

async fn connection(stream: TcpStream, shared: &Shared, number: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(());
    }
    match (&shared.tls, first[0] == TLS_HANDSHAKE) {
        (Some(_), true) if cuts_handshake(shared) => {
            shared.connections.cut_handshakes.fetch_add(1, Ordering::SeqCst);
            refuse(stream, b"").await
        }
        (Some(acceptor), true) => {
            let Ok(stream) = acceptor.accept(stream).await else {
                shared.connections.failed_handshakes.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            };
            serve(stream, shared, number).await
        }
        (None, false) => serve(stream, shared, number).await,
        (Some(_), false) => {
            let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
            shared.connections.not_http.fetch_add(1, Ordering::SeqCst);
            refuse(stream, answer).await
        }
        (None, true) => {
            shared.connections.not_http.fetch_add(1, Ordering::SeqCst);
            let answer: &[u8] = match shared.on_tls_hello {
                OnTlsHello::BadRequest => {
                    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                        Connection: close\r\n\r\n400 Bad Request"
                }
                OnTlsHello::Close => b"",
                OnTlsHello::Alert => &TLS_ALERT,
            };
            refuse(stream, answer).await
        }
    }
}

fn cuts_handshake(shared: &Shared) -> bool {
    let one_less = |left: usize| left.checked_sub(1);
    shared.handshakes_to_cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
}

/// Answers what is not HTTP, and reads the rest of it first: closing with unread bytes would be a reset.
async fn refuse(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut ignored = vec![0; 16 * KIB];
    tokio::io::AsyncReadExt::read(&mut stream, &mut ignored).await?;
    stream.write_all(answer).await?;
    stream.shutdown().await
}

async fn serve<W: Wire>(mut wire: W, shared: &Shared, number: u64) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(4 * KIB);
    let pacer = Pacer::new(shared.bytes_per_second_each.load(Ordering::SeqCst));
    let mut open = None;
    loop {
        let incoming = match http1::read(&mut wire, &mut buffer).await {
            Ok(None) => return Ok(()),
            Ok(Some(incoming)) => incoming,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                shared.connections.not_http.fetch_add(1, Ordering::SeqCst);
                return wire.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
            }
            Err(error) => return Err(error),
        };
        open.get_or_insert_with(|| Open::count(&shared.connections));
        let request = record(shared, incoming, number);
        pacer.set(shared.bytes_per_second_each.load(Ordering::SeqCst));
        if !respond(&mut wire, shared, &request, &pacer).await? {
            return Ok(());
        }
    }
}

fn record(shared: &Shared, incoming: Incoming, connection: u64) -> Request {
    let request = Request {
        target: Target::of(&incoming.path),
        method: incoming.method,
        path: incoming.path,
        query: incoming.query,
        headers: incoming.headers,
        body: incoming.body,
        connection,
        body_sent: Arc::default(),
    };
    shared.requests.lock().unwrap().push(request.clone());
    shared.activity.notify();
    request
}

/// Says whether the connection can carry another request.
async fn respond(wire: &mut dyn Wire, shared: &Shared, request: &Request, pacer: &Pacer) -> io::Result<bool> {
    let mut faults = shared.rules.take(request, false);
    let mut refusal = routes::refusal(shared, request);
    if refusal.is_none() && faults.is_empty() {
        faults = shared.rules.take(request, true);
    }
    for fault in &faults {
        match fault {
            Fault::CloseBeforeResponse => return Ok(false),
            Fault::ResetBeforeResponse => {
                wire.socket().set_zero_linger()?;
                return Ok(false);
            }
            Fault::NotHttp(bytes) => {
                wire.write_all(bytes).await?;
                wire.flush().await?;
                return Ok(false);
            }
            Fault::TokenDies => {
                shared.issuer.revoke_all();
                refusal = routes::refusal(shared, request);
            }
            Fault::CutHandshakes(count) => shared.handshakes_to_cut.store(*count, Ordering::SeqCst),
            Fault::GoDown(back_after) => go_down(shared, *back_after).await,
            Fault::Hold(gate) => gate.pass().await,
            _ => {}
        }
    }
    let mut answer = refusal.unwrap_or_else(|| permitted(shared, request, &faults));
    for fault in &faults {
        fault.apply(&mut answer, request);
    }
    let asked_to_close =
        request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let cuts_next = faults.iter().any(|fault| matches!(fault, Fault::CutHandshakes(_)));
    let close = asked_to_close || cuts_next || !answer.keeps_connection();
    let own = answer.bytes_per_second.map(Pacer::new);
    let pacers: Vec<_> = [&shared.link, pacer].into_iter().chain(own.as_ref()).collect();
    let (sent, activity) = (&*request.body_sent, &shared.activity);
    let delivery = Delivery { answer: &answer, pacers: &pacers, sent, activity };
    delivery.run(wire, request.method == "HEAD", close).await
}

/// Turns the server off, which ends the caller.
async fn go_down(shared: &Shared, back_after: Option<Duration>) {
    if let Some(after) = back_after {
        let up = shared.up.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            up.send_replace(true);
        });
    }
    shared.up.send_replace(false);
    std::future::pending::<()>().await;
}

fn permitted(shared: &Shared, request: &Request, faults: &[Fault]) -> Answer {
    let known = request.target != Target::Unknown
        && (matches!(request.method.as_str(), "GET" | "HEAD")
            || (request.target == Target::Token && request.method == "POST"));
    if !known && faults.is_empty() {
        let line = format!("{} {}", request.method, request.path_and_query());
        shared.unexpected.lock().unwrap().push(line);
    }
    routes::answer(shared, request, faults)
}
