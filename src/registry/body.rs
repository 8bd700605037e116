//! A body as it comes in, watched: it may not stall, not crawl, not end early and not go past its size.
//!
//! There is no limit on the whole time, which would only punish slow links. Time counts while somebody waits for the
//! network, not while the reader is busy elsewhere, and not while bytes that came wait for their turn under a cap of the rate
//! ([`throttle`](super::throttle)).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::error::{About, Fault, RegistryError};
use super::exchange::{Answer, Counters};
use super::transport::Incoming;

/// Less than [`CRAWL_BYTES`] in this time of waiting is a stall that has learnt to look alive.
const CRAWL_TIME: Duration = Duration::from_mins(1);

/// 1 KiB/s.
const CRAWL_BYTES: u64 = 60 << 10;

#[derive(Debug)]
pub(super) struct Body {
    pub(super) about: About,
    stream: Incoming,
    counters: Arc<Counters>,
    stall_timeout: Duration,
    crawl: Crawl,
    received: u64,
    /// The bytes that are to come, where that is known: fewer is a cut.
    wanted: Option<u64>,
    /// The bytes that may come: more is refused.
    size: u64,
    _slot: OwnedSemaphorePermit,
}

impl Body {
    pub(super) fn new(answer: Answer, wanted: Option<u64>, size: u64) -> Self {
        let Answer { about, response, slot, counters, stall_timeout, .. } = answer;
        let (stream, crawl) = (response.into_body(), Crawl::default());
        Self { about, stream, counters, stall_timeout, crawl, received: 0, wanted, size, _slot: slot }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`RegistryError::Network`] for a stall or a cut, [`RegistryError::Oversize`]. The body is of no use afterwards.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let began = Instant::now();
        let came = tokio::time::timeout(self.stall_timeout, next(&mut self.stream)).await;
        match came {
            Err(_) => Err(self.failed(Fault::Stalled(self.stall_timeout))),
            Ok(Err(error)) => {
                tracing::debug!(request = self.about.request, %error, "body cut");
                Err(self.cut())
            }
            Ok(Ok(None)) if self.wanted.is_some_and(|wanted| self.received < wanted) => Err(self.cut()),
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some(chunk))) => {
                let chunk = self.accept(chunk, began.elapsed())?;
                self.counters.throttle.pay(chunk.len() as u64).await;
                Ok(Some(chunk))
            }
        }
    }

    fn accept(&mut self, chunk: Bytes, waited: Duration) -> Result<Bytes, RegistryError> {
        let length = chunk.len() as u64;
        self.received += length;
        self.counters.body_bytes.fetch_add(length, Ordering::Relaxed);
        if self.received > self.size {
            return Err(RegistryError::Oversize { about: self.about.clone(), size: self.size });
        }
        if self.crawl.is_crawling(length, waited) {
            return Err(self.failed(Fault::Slow(CRAWL_TIME)));
        }
        Ok(chunk)
    }

    fn cut(&self) -> RegistryError {
        self.failed(Fault::Cut { received: self.received, wanted: self.wanted })
    }

    fn failed(&self, fault: Fault) -> RegistryError {
        RegistryError::Network { about: self.about.clone(), fault }
    }
}

/// The next bytes of a body. What may come besides, trailers, says nothing to anybody here.
async fn next(stream: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = stream.frame().await {
        if let Ok(bytes) = frame?.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Tells a body that comes in drops from one that comes.
#[derive(Debug, Default)]
struct Crawl {
    bytes: u64,
    waited: Duration,
}

impl Crawl {
    fn is_crawling(&mut self, bytes: u64, waited: Duration) -> bool {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < CRAWL_TIME {
            return false;
        }
        let crawling = self.bytes < CRAWL_BYTES;
        *self = Self::default();
        crawling
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use http::Method;
    use http_body_util::Full;
    use tokio::sync::Semaphore;
    use url::Url;

    use super::super::throttle::Throttle;
    use super::*;

    /// A byte every twenty seconds is no download; 1 KiB/s is a slow one.
    #[test]
    fn crawling_is_a_stall() {
        let run = |bytes: u64, waited: u64| {
            let mut crawl = Crawl::default();
            (0..10).any(|_| crawl.is_crawling(bytes, Duration::from_secs(waited)))
        };
        assert!(run(1, 20));
        assert!(run((20 << 10) - 1, 20));
        assert!(!run(20 << 10, 20));
        assert!(!run(1, 1));
    }

    /// Waiting for one's turn under a cap of the rate is not the server's silence, and no crawl either.
    #[tokio::test(start_paused = true)]
    async fn a_cap_is_no_stall() {
        let counters = Counters { throttle: Throttle::new(NonZeroU64::new(100)), ..Counters::default() };
        let url = Url::parse("http://r.example/v2/a/blobs/b").unwrap();
        let answer = Answer {
            about: About::new("r.example/a", &Method::GET, &url),
            url,
            response: http::Response::new(
                Full::from(vec![b'x'; 20_000]).map_err(|never| match never {}).boxed(),
            ),
            slot: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
            counters: Arc::new(counters),
            stall_timeout: Duration::from_secs(1),
            identity: None,
        };
        let began = Instant::now();
        let mut body = Body::new(answer, Some(20_000), 20_000);
        let mut received = 0;
        while let Some(chunk) = body.chunk().await.unwrap() {
            received += chunk.len();
        }
        assert_eq!(received, 20_000);
        assert!(began.elapsed().abs_diff(Duration::from_secs(200)) < Duration::from_secs(1));
    }
}
