//! A registry that sends what a row wrote, byte for byte: heads that no HTTP library would let out, bodies without an
//! end, answers that are no HTTP. It knows nothing of the distribution API but what a [`Script`] says.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::support::Built;

/// A body without an end gives up here: a client that took so much has no bound.
const ENDLESS: u64 = 512 << 20;

/// How long a connection waits for a client that neither reads nor writes.
const PATIENCE: Duration = Duration::from_secs(30);

/// One answer.
#[derive(Clone)]
pub(super) struct Reply {
    /// The status line and the headers, without what the body needs.
    head: Vec<u8>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    /// These bytes, with their length in front.
    Sized(Bytes),
    /// These bytes, and that is all: the head has what it needs.
    Bare(Bytes),
    /// The piece again and again until the client leaves, in chunks or up to the end of the connection.
    Endless { piece: Bytes, chunked: bool },
    /// Whatever the function makes of the request's target.
    Computed(Arc<dyn Fn(&str) -> Reply + Send + Sync>),
}

impl Reply {
    /// A status line such as `404 Not Found`, and a body of no type.
    pub(super) fn status(line: &str, body: impl Into<Bytes>) -> Self {
        Self { head: format!("HTTP/1.1 {line}\r\n").into_bytes(), body: Body::Sized(body.into()) }
    }

    /// 200 and this body.
    pub(super) fn ok(media_type: &str, body: impl Into<Bytes>) -> Self {
        Self::status("200 OK", body).header("Content-Type", media_type)
    }

    /// An error document with this code and message.
    pub(super) fn error(line: &str, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
        Self::status(line, body.to_string()).header("Content-Type", "application/json")
    }

    /// 307 to here.
    pub(super) fn redirect(location: impl AsRef<[u8]>) -> Self {
        Self::status("307 Temporary Redirect", "").header("Location", location)
    }

    /// These bytes in place of an answer.
    pub(super) fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { head: Vec::new(), body: Body::Bare(bytes.into()) }
    }

    /// A head of its own making, to which a body belongs that does not end.
    pub(super) fn endless(head: &str, piece: impl Into<Bytes>) -> Self {
        let chunked = head.contains("chunked");
        Self { head: head.as_bytes().to_vec(), body: Body::Endless { piece: piece.into(), chunked } }
    }

    /// An answer that depends on what is asked for.
    pub(super) fn computed(answer: impl Fn(&str) -> Self + Send + Sync + 'static) -> Self {
        Self { head: Vec::new(), body: Body::Computed(Arc::new(answer)) }
    }

    /// The same with one more header, whose value may be any bytes.
    pub(super) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        self.head.extend_from_slice(value.as_ref());
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// Sends it; says whether the connection can go on.
    fn send(&self, stream: &mut TcpStream, asked: &Asked, sent: &AtomicU64) -> io::Result<bool> {
        let is_head = asked.method == "HEAD";
        match &self.body {
            Body::Computed(answer) => answer(&asked.target).send(stream, asked, sent),
            Body::Sized(bytes) => {
                let mut head = self.head.clone();
                write!(head, "Content-Length: {}\r\n\r\n", bytes.len())?;
                stream.write_all(&head)?;
                if !is_head {
                    write_counted(stream, bytes, sent)?;
                }
                Ok(true)
            }
            // Another question would come on this connection, and might find it closed.
            Body::Bare(bytes) if is_head => {
                let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
                stream.write_all(&[&bytes[..end], b"\r\nConnection: close\r\n\r\n"].concat())?;
                Ok(false)
            }
            Body::Bare(bytes) => {
                stream.write_all(&self.head)?;
                write_counted(stream, bytes, sent)?;
                Ok(false)
            }
            Body::Endless { piece, chunked } => {
                stream.write_all(&self.head)?;
                stream.write_all(b"\r\n")?;
                let mut framed = piece.to_vec();
                if *chunked {
                    framed = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                }
                let mut total = 0;
                while !is_head && total < ENDLESS {
                    write_counted(stream, &framed, sent)?;
                    total += framed.len() as u64;
                }
                Ok(is_head)
            }
        }
    }
}

fn write_counted(stream: &mut TcpStream, bytes: &[u8], sent: &AtomicU64) -> io::Result<()> {
    for piece in bytes.chunks(64 << 10) {
        stream.write_all(piece)?;
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Everything that a registry says, by path: the first route that fits counts.
#[derive(Clone, Default)]
pub(super) struct Script {
    hostile: Vec<Hostile>,
    honest: Vec<(String, Reply)>,
}

#[derive(Clone)]
struct Hostile {
    /// Exact paths, or beginnings where they end in `*`.
    paths: Vec<String>,
    reply: Reply,
}

impl Script {
    /// `app:v1` is this content, and all of it is there.
    pub(super) fn of(content: impl Into<Built>) -> Self {
        Self::default().tag("v1", content)
    }

    /// `app:v1` is this document, which is the hostile thing, by its tag and by its digest.
    pub(super) fn document(content: impl Into<Built>) -> Self {
        let content = content.into();
        let reply = manifest(&content);
        Self::default().holding(&content).hostile_at(
            ["/v2/app/manifests/v1".to_owned(), format!("/v2/app/manifests/{}", content.digest)],
            reply,
        )
    }

    /// This content under this tag as well.
    pub(super) fn tag(mut self, tag: &str, content: impl Into<Built>) -> Self {
        let content = content.into();
        self.honest.push((format!("/v2/app/manifests/{tag}"), manifest(&content)));
        self.holding(&content)
    }

    /// This content by its digests.
    pub(super) fn holding(mut self, content: &Built) -> Self {
        self.honest.push((format!("/v2/app/manifests/{}", content.digest), manifest(content)));
        for blob in content.config.iter().chain(&content.layers) {
            let reply = Reply::ok("application/octet-stream", blob.bytes.clone());
            self.honest.push((format!("/v2/app/blobs/{}", blob.digest), reply));
        }
        content.children.iter().fold(self, Script::holding)
    }

    /// A blob, honestly.
    pub(super) fn blob(mut self, digest: &str, bytes: impl Into<Bytes>) -> Self {
        let reply = Reply::ok("application/octet-stream", bytes);
        self.honest.push((format!("/v2/app/blobs/{digest}"), reply));
        self
    }

    /// An answer that is part of the way to the hostile one.
    pub(super) fn honest(mut self, path: &str, reply: Reply) -> Self {
        self.honest.push((path.to_owned(), reply));
        self
    }

    /// The hostile answer to this path, or to what begins so where it ends in `*`.
    pub(super) fn hostile(self, path: impl Into<String>, reply: Reply) -> Self {
        self.hostile_at([path.into()], reply)
    }

    /// One hostile answer to any of these paths.
    pub(super) fn hostile_at(mut self, paths: impl IntoIterator<Item = String>, reply: Reply) -> Self {
        self.hostile.push(Hostile { paths: paths.into_iter().collect(), reply });
        self
    }

    /// How many hostile answers there are.
    pub(super) fn hostile_count(&self) -> usize {
        self.hostile.len()
    }

    fn find(&self, path: &str) -> (Option<usize>, Option<&Reply>) {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path == pattern,
        };
        let hostile = self.hostile.iter().position(|route| route.paths.iter().any(|one| fits(one)));
        match hostile {
            Some(at) => (Some(at), Some(&self.hostile[at].reply)),
            None => (None, self.honest.iter().find(|(pattern, _)| fits(pattern)).map(|(_, reply)| reply)),
        }
    }
}

fn manifest(content: &Built) -> Reply {
    let reply = Reply::ok(&content.media_type, content.document.clone());
    reply.header("Docker-Content-Digest", &content.digest)
}

/// A running registry; dropped, it listens no more.
pub(super) struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    script: Script,
    ended: AtomicBool,
    served: Mutex<BTreeSet<usize>>,
    targets: Mutex<Vec<String>>,
    sent: AtomicU64,
}

struct Asked {
    method: String,
    target: String,
}

impl Server {
    /// Listens on a free port of 127.0.0.1 and plays the script that `write` makes for its address.
    pub(super) fn start(write: impl FnOnce(&str) -> Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: write(&address.to_string()),
            ended: AtomicBool::new(false),
            served: Mutex::default(),
            targets: Mutex::default(),
            sent: AtomicU64::new(0),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else { return };
                // A client that leaves in the middle is what the rows are about.
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Self { address, state }
    }

    /// `127.0.0.1:PORT`
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    /// How many hostile answers were never asked for.
    pub(super) fn unserved(&self) -> usize {
        let served = self.state.served.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.script.hostile_count() - served.len()
    }

    /// What was asked for, as it came.
    pub(super) fn targets(&self) -> Vec<String> {
        self.state.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bytes of bodies that sockets took.
    pub(super) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        while let Some(asked) = read(&mut stream, &mut buffer)? {
            self.targets.lock().unwrap_or_else(PoisonError::into_inner).push(asked.target.clone());
            let path = asked.target.split('?').next().unwrap_or_default();
            let (hostile, reply) = self.script.find(path);
            if let Some(at) = hostile {
                self.served.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
            }
            let absent = Reply::error("404 Not Found", "NOT_FOUND", "not here");
            if !reply.unwrap_or(&absent).send(&mut stream, &asked, &self.sent)? {
                return finish(&mut stream);
            }
        }
        Ok(())
    }
}

/// Closes so that what was sent arrives: a socket that is closed with something to read in it is reset.
fn finish(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored)? > 0 {}
    Ok(())
}

/// The next request; `None` when the client closed the connection, or speaks something else.
fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Asked>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0);
            if buffer.len() >= whole {
                buffer.drain(..whole);
                let mut words = head.split(' ');
                let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
                return Ok(Some(Asked { method: method.into(), target: target.into() }));
            }
        }
        let mut piece = [0; 8 << 10];
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            count => buffer.extend_from_slice(&piece[..count]),
        }
    }
}
