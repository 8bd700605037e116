//! Bytes on a connection: plain or TLS, paced, counted one write at a time, stopped where a fault says.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use super::answer::{Answer, Ending, Framing};
use super::content::KIB;
use super::server::Activity;

/// The largest piece written at once; one throttled connection writes 50 pieces a second.
const LARGEST_PIECE: usize = 64 * KIB;
/// How much a pacer that woke up late may catch up.
const CATCH_UP: Duration = Duration::from_millis(100);

/// A connection to a client.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    /// The socket below.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Spreads bytes over time. Whoever shares a pacer shares its rate.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Bytes a second; 0 is no limit.
    rate: AtomicU64,
    next: Mutex<Instant>,
}

impl Pacer {
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate: AtomicU64::new(rate), next: Mutex::new(Instant::now()) }
    }

    pub(crate) fn set(&self, rate: u64) {
        self.rate.store(rate, Ordering::SeqCst);
    }

    fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::SeqCst)).filter(|rate| *rate > 0)
    }

    async fn reserve(&self, bytes: usize) {
        let Some(rate) = self.rate() else { return };
        let start = {
            let mut next = self.next.lock().unwrap();
            let now = Instant::now();
            let start = (*next).max(now.checked_sub(CATCH_UP).unwrap_or(now));
            *next = start + Duration::from_secs(1).mul_f64(lossy(bytes as u64) / lossy(rate));
            start
        };
        sleep_until(start).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs three digits, not seventeen")]
fn lossy(bytes: u64) -> f64 {
    bytes as f64
}

/// Where an answer goes, and who counts.
pub(crate) struct Delivery<'a> {
    pub(crate) answer: &'a Answer,
    /// All of them hold at once.
    pub(crate) pacers: &'a [&'a Pacer],
    /// Counts the bytes of the body that were written.
    pub(crate) sent: &'a AtomicU64,
    pub(crate) activity: &'a Activity,
}

impl Delivery<'_> {
    /// Sends the head and, unless `head_only`, the body as far as the answer's faults let it; says whether the
    /// connection can go on.
    pub(crate) async fn run(&self, wire: &mut dyn Wire, head_only: bool, close: bool) -> io::Result<bool> {
        let mut head = self.answer.head(close);
        if let Some((stop, ending)) = self.answer.head_stop {
            head.truncate(stop);
            wire.write_all(&head).await?;
            wire.flush().await?;
            if ending == Ending::Stall {
                wait_for_client_to_leave(wire).await;
            }
            return Ok(false);
        }
        wire.write_all(&head).await?;
        if head_only {
            wire.flush().await?;
            return Ok(!close);
        }
        self.body(wire).await?;
        wire.flush().await?;
        match self.answer.stop {
            Some((_, Ending::Reset)) => wire.socket().set_zero_linger()?,
            Some((_, Ending::Stall)) => wait_for_client_to_leave(wire).await,
            Some((_, Ending::Close)) | None => {}
        }
        Ok(!close)
    }

    async fn body(&self, wire: &mut dyn Wire) -> io::Result<()> {
        let body = &self.answer.body;
        let limit = self.answer.stop.map_or(body.len(), |(stop, _)| stop.min(body.len()));
        let mut offset = 0;
        while offset < limit {
            let mut end = limit.min(offset + self.piece());
            if let Some((at, gate)) = &self.answer.hold {
                if offset == *at {
                    wire.flush().await?;
                    gate.pass().await;
                } else if offset < *at {
                    end = end.min(*at);
                }
            }
            for pacer in self.pacers {
                pacer.reserve(end - offset).await;
            }
            self.piece_of_body(wire, &body[offset..end]).await?;
            if let Some(over) = self.answer.drip {
                wire.flush().await?;
                sleep(over.div_f64(lossy(body.len() as u64))).await;
            }
            offset = end;
        }
        if self.answer.framing == Framing::Chunked && self.answer.stop.is_none() {
            wire.write_all(b"0\r\n\r\n").await?;
        }
        Ok(())
    }

    async fn piece_of_body(&self, wire: &mut dyn Wire, mut piece: &[u8]) -> io::Result<()> {
        let chunked = self.answer.framing == Framing::Chunked;
        if chunked {
            wire.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        }
        while !piece.is_empty() {
            // Counted before and corrected after: a client that has the last byte must find it counted.
            self.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
            let result = wire.write(piece).await;
            let written = *result.as_ref().unwrap_or(&0);
            self.sent.fetch_sub((piece.len() - written) as u64, Ordering::SeqCst);
            self.activity.notify();
            if result? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            piece = &piece[written..];
        }
        if chunked {
            wire.write_all(b"\r\n").await?;
        }
        Ok(())
    }

    fn piece(&self) -> usize {
        if self.answer.drip.is_some() {
            return 1;
        }
        let slowest = self.pacers.iter().filter_map(|pacer| pacer.rate()).min();
        slowest.map_or(LARGEST_PIECE, |rate| {
            usize::try_from(rate / 50).unwrap_or(LARGEST_PIECE).clamp(256, LARGEST_PIECE)
        })
    }
}

async fn wait_for_client_to_leave(wire: &mut dyn Wire) {
    let mut ignored = [0; 256];
    while wire.read(&mut ignored).await.is_ok_and(|bytes| bytes > 0) {}
}
