//! What a test can break: the faults, the rules that say which requests they hit, and gates that hold an answer.
//!
//! A rule is used up in the order in which rules were written: `once(a)` and then `always(b)` on one route answers
//! the first request with `a` and every later one with `b`.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::answer::{Answer, Ending, Framing};
use super::content::{gzip, shared};
use super::request::{Request, Target};

/// How long a test waits for a request that it expects, before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// One thing that is wrong with one answer. Offsets and lengths count bytes of the body as sent, but for
/// [`Fault::FlipByte`], which counts in the whole blob.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status and an error document.
    Status(u16),
    /// This status, these headers beside the usual ones, this body.
    StatusWith { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// This status (429 or 503, as a rule) with a `Retry-After` of this value.
    RetryAfter { status: u16, value: String },
    /// The same with a date so far from when it is answered.
    RetryAt { status: u16, from_now: Duration },
    /// 405 with an `Allow`.
    MethodNotAllowed,
    /// 307 to this URL.
    Redirect(String),
    /// 307 to the URL that was asked for.
    RedirectLoop,
    /// Closes the connection after this many bytes of the body, all of which arrive.
    CutAfter(usize),
    /// Resets the connection after this many bytes of the body; the last of them may get lost.
    ResetAfter(usize),
    /// Falls silent after this many bytes of the body and keeps the connection until the client leaves it.
    StallAfter(usize),
    /// Sends the body no faster than this.
    Throttle { bytes_per_second: u64 },
    /// Sends the body byte by byte, evenly over this time.
    Drip(Duration),
    /// Flips one bit of the byte at this offset of the blob, in whatever range holds it.
    FlipByte(usize),
    /// Ends cleanly after this many bytes of the body, with a `Content-Length` that agrees.
    Truncate(usize),
    /// Appends this many bytes to the body, with a `Content-Length` that agrees.
    Oversize(usize),
    /// Says this `Content-Length`, sends the body as it is, and closes the connection.
    WrongLength(u64),
    /// Sends the body in chunks, without a `Content-Length`.
    Chunked,
    /// Sends the body without a `Content-Length`, ended by closing the connection.
    UntilClose,
    /// Really encodes the body (`gzip` or `zstd`) and says so; a range is not honoured then.
    ContentEncoding(&'static str),
    /// Answers a range with 200 and the whole body.
    IgnoreRange,
    /// Answers with this `Content-Range`, whatever was sent.
    WrongContentRange(String),
    /// Answers 206 without a `Content-Range`.
    MissingContentRange,
    /// Answers 416.
    RangeNotSatisfiable,
    /// Answers a range with a `multipart/byteranges` document of one part.
    MultipartRange,
    /// Leaves out `Docker-Content-Digest`.
    NoDigestHeader,
    /// Sends this as `Docker-Content-Digest`.
    WrongDigestHeader(String),
    /// Sends this as `Content-Type`.
    ContentType(String),
    /// Leaves out `Content-Type`.
    NoContentType,
    /// Sends other bytes in place of the manifest or blob; ranges are cut from these.
    Body(Vec<u8>),
    /// Closes the connection in place of an answer.
    CloseBeforeResponse,
    /// Resets the connection in place of an answer.
    ResetBeforeResponse,
    /// Sends this many bytes of the status line and the headers, then closes the connection.
    HeadCutAfter(usize),
    /// Sends this many bytes of the status line and the headers, then falls silent until the client leaves.
    HeadStallAfter(usize),
    /// Sends these bytes in place of an answer, and closes the connection.
    NotHttp(&'static [u8]),
    /// Ends every token given out up to now, the one that the request came with among them, and refuses the request
    /// because of it.
    TokenDies,
    /// Ends the connection with this answer, and the next ones, this many of them, in the middle of their TLS handshakes.
    CutHandshakes(usize),
    /// Stops listening and closes all connections, this one without an answer: for so long, or until
    /// [`FaultRegistry::mend`](super::FaultRegistry::mend).
    GoDown(Option<Duration>),
    /// Sends nothing, not even headers, until the gate opens.
    Hold(Gate),
    /// Sends this many bytes of the body and the rest when the gate opens.
    HoldAfter(usize, Gate),
    /// Several faults at once, applied in this order.
    All(Vec<Fault>),
}

impl Fault {
    /// The single faults, those inside [`Fault::All`] included.
    pub(crate) fn flatten(self) -> Vec<Self> {
        match self {
            Self::All(faults) => faults.into_iter().flat_map(Self::flatten).collect(),
            single => vec![single],
        }
    }

    /// Changes the finished answer. The faults that act earlier, on the resource or the connection, do nothing
    /// here.
    pub(crate) fn apply(&self, answer: &mut Answer, request: &Request) {
        match self {
            Self::Status(status) => *answer = Answer::error(*status, "UNKNOWN", "broken on purpose"),
            Self::StatusWith { status, headers, body } => *answer = status_with(*status, headers, body),
            Self::RetryAfter { status, value } => {
                *answer = Answer::error(*status, "TOOMANYREQUESTS", "slow down").with("Retry-After", value);
            }
            Self::RetryAt { status, from_now } => {
                let value = http_date(*from_now);
                *answer =
                    Answer::error(*status, "UNAVAILABLE", "come back later").with("Retry-After", &value);
            }
            Self::MethodNotAllowed => {
                *answer = Answer::error(405, "UNSUPPORTED", "not here").with("Allow", "GET");
            }
            Self::Redirect(url) => *answer = Answer::redirect(url),
            Self::RedirectLoop => *answer = Answer::redirect(&request.path_and_query()),
            Self::RangeNotSatisfiable => *answer = Answer::error(416, "RANGE_INVALID", "no such range"),
            Self::CutAfter(bytes) => answer.stop = Some((*bytes, Ending::Close)),
            Self::ResetAfter(bytes) => answer.stop = Some((*bytes, Ending::Reset)),
            Self::StallAfter(bytes) => answer.stop = Some((*bytes, Ending::Stall)),
            Self::HeadCutAfter(bytes) => answer.head_stop = Some((*bytes, Ending::Close)),
            Self::HeadStallAfter(bytes) => answer.head_stop = Some((*bytes, Ending::Stall)),
            Self::HoldAfter(bytes, gate) => answer.hold = Some((*bytes, gate.clone())),
            Self::Throttle { bytes_per_second } => answer.bytes_per_second = Some(*bytes_per_second),
            Self::Drip(over) => answer.drip = Some(*over),
            Self::Truncate(bytes) => answer.body.truncate(*bytes),
            Self::Oversize(bytes) => {
                answer.body = shared([&answer.body[..], &vec![b'+'; *bytes]].concat());
            }
            Self::WrongLength(length) => answer.framing = Framing::Claimed(*length),
            Self::Chunked => answer.framing = Framing::Chunked,
            Self::UntilClose => answer.framing = Framing::UntilClose,
            Self::ContentEncoding(name) => encode(answer, name),
            Self::WrongContentRange(value) => answer.set("Content-Range", value),
            Self::MissingContentRange => answer.remove("Content-Range"),
            Self::MultipartRange => multipart(answer),
            Self::NoDigestHeader => answer.remove("Docker-Content-Digest"),
            Self::WrongDigestHeader(value) => answer.set("Docker-Content-Digest", value),
            Self::ContentType(value) => answer.set("Content-Type", value),
            Self::NoContentType => answer.remove("Content-Type"),
            Self::FlipByte(_)
            | Self::Body(_)
            | Self::IgnoreRange
            | Self::CloseBeforeResponse
            | Self::ResetBeforeResponse
            | Self::NotHttp(_)
            | Self::TokenDies
            | Self::CutHandshakes(_)
            | Self::GoDown(_)
            | Self::Hold(_)
            | Self::All(_) => {}
        }
    }
}

/// A date so far from now, as HTTP writes dates: without the fraction of the second.
pub(crate) fn http_date(from_now: Duration) -> String {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    (time::OffsetDateTime::now_utc() + from_now).format(&format).unwrap()
}

fn status_with(status: u16, headers: &[(&'static str, String)], body: &[u8]) -> Answer {
    let mut answer = Answer::new(status);
    answer.body = shared(body);
    for (name, value) in headers {
        answer.headers.push(((*name).into(), value.clone()));
    }
    answer
}

fn encode(answer: &mut Answer, name: &str) {
    answer.body = shared(match name {
        "gzip" => gzip(&answer.body),
        "zstd" => zstd::encode_all(&answer.body[..], 1).unwrap(),
        other => panic!("no encoder for Content-Encoding: {other}"),
    });
    answer.set("Content-Encoding", name);
}

fn multipart(answer: &mut Answer) {
    let Some(range) = answer.header("Content-Range").map(str::to_owned) else { return };
    let head = format!("--PART\r\nContent-Type: application/octet-stream\r\nContent-Range: {range}\r\n\r\n");
    answer.body = shared([head.as_bytes(), &answer.body, b"\r\n--PART--\r\n"].concat());
    answer.remove("Content-Range");
    answer.set("Content-Type", "multipart/byteranges; boundary=PART");
}

/// Holds answers back until the test opens it, and tells the test when one is waiting: order without sleeping.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    open: Arc<watch::Sender<bool>>,
    arrivals: Arc<(Mutex<usize>, Condvar)>,
}

impl Gate {
    /// A closed gate.
    pub(crate) fn new() -> Self {
        Self { open: Arc::new(watch::Sender::new(false)), arrivals: Arc::default() }
    }

    /// Lets everything through that waits, and everything that comes later.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Blocks the test until `count` answers have reached the gate.
    pub(crate) fn wait_for_arrivals(&self, count: usize) {
        let (arrivals, changed) = &*self.arrivals;
        let waiting = arrivals.lock().unwrap();
        let (arrived, timeout) = changed.wait_timeout_while(waiting, PATIENCE, |now| *now < count).unwrap();
        assert!(!timeout.timed_out(), "{} answers reached the gate in {PATIENCE:?}, not {count}", *arrived);
    }

    pub(crate) async fn pass(&self) {
        let (arrivals, changed) = &*self.arrivals;
        *arrivals.lock().unwrap() += 1;
        changed.notify_all();
        // The sender lives in `self`, so the wait ends only because the gate opened.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// Which requests a rule is for.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// GET of the blob with this digest, from the registry or from storage.
    Blob(String),
    /// GET of the manifest by this tag or digest.
    Manifest(String),
    /// HEAD of the manifest or blob by this tag or digest.
    Head(String),
    /// Any request to the token endpoint.
    Token,
    /// Any request to `/v2/` itself, decided before authentication.
    Ping,
    /// Any request whose path starts with this; decided before authentication, as for a proxy in front.
    Path(String),
}

impl Route {
    fn covers(&self, request: &Request) -> bool {
        let head = request.method == "HEAD";
        match (self, &request.target) {
            (Self::Blob(wanted), Target::Blob { digest, .. } | Target::Storage { digest, .. }) => {
                !head && wanted == digest
            }
            (Self::Manifest(wanted), Target::Manifest { reference, .. }) => !head && wanted == reference,
            (Self::Head(wanted), Target::Manifest { reference, .. }) => head && wanted == reference,
            (Self::Head(wanted), Target::Blob { digest, .. }) => head && wanted == digest,
            (Self::Token, Target::Token) | (Self::Ping, Target::Ping) => true,
            (Self::Path(prefix), _) => request.path.starts_with(prefix),
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Rule {
    route: Route,
    fault: Fault,
    /// How many more requests it hits; `None` is all of them.
    left: Option<usize>,
    /// How many requests it has hit.
    hits: usize,
}

/// The rules of one registry.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<Vec<Rule>>);

impl Rules {
    pub(crate) fn add(&self, route: Route, fault: Fault, times: Option<usize>) {
        self.0.lock().unwrap().push(Rule { route, fault, left: times, hits: 0 });
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// The faults that hit no request, or fewer than they are for.
    pub(crate) fn idle(&self) -> Vec<String> {
        let rules = self.0.lock().unwrap();
        let idle = rules.iter().filter(|rule| rule.hits == 0 || rule.left.is_some_and(|left| left > 0));
        idle.map(|rule| format!("{:?} at {:?}", rule.fault, rule.route)).collect()
    }

    /// The faults of the first rule that covers the request, which is used up by one. Rules for paths are looked at
    /// before authentication, all others after it.
    pub(crate) fn take(&self, request: &Request, authenticated: bool) -> Vec<Fault> {
        let mut rules = self.0.lock().unwrap();
        let hit = rules.iter_mut().find(|rule| {
            let in_turn = matches!(rule.route, Route::Path(_) | Route::Ping) != authenticated;
            in_turn && rule.left != Some(0) && rule.route.covers(request)
        });
        hit.map_or_else(Vec::new, |rule| {
            rule.left = rule.left.map(|left| left - 1);
            rule.hits += 1;
            rule.fault.clone().flatten()
        })
    }
}

/// A route that a test is about to break.
#[must_use = "a route is broken by once, times or always"]
pub(crate) struct BrokenRoute<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) route: Route,
}

impl BrokenRoute<'_> {
    /// The next request that no earlier rule takes.
    pub(crate) fn once(self, fault: Fault) {
        self.times(1, fault);
    }

    /// The next `count` requests that no earlier rule takes.
    pub(crate) fn times(self, count: usize, fault: Fault) {
        self.rules.add(self.route, fault, Some(count));
    }

    /// Every request from now on that no earlier rule takes.
    pub(crate) fn always(self, fault: Fault) {
        self.rules.add(self.route, fault, None);
    }
}
