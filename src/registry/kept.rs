//! Kept connections before new ones: no host gets more connections than it may have requests at a time.
//!
//! A request that finds no idle connection opens one at once, while a connection whose body has just ended is on its way back
//! to the HTTP client's pool; and what was begun is finished even where the returning one was faster. So a host that has all
//! of its connections is given a moment before it gets another: time for one to come back, upon which the new one is
//! abandoned. If none comes back, one was closed, and the new one replaces it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tower_service::Service;

/// How long the way back may take, on a machine with other things to do: far longer than it takes, and still less than what
/// opening a connection with TLS costs.
const WAY_BACK: Duration = Duration::from_millis(25);

tokio::task_local! {
    /// The host that the request of this task is for. A connection that is no longer this request's is opened by another
    /// task, which has none.
    static HOST: Arc<Kept>;
}

/// The connections of one host.
#[derive(Debug)]
pub(super) struct Kept {
    most: usize,
    open: AtomicUsize,
}

impl Kept {
    /// None yet, and `most` at the end.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: AtomicUsize::new(0) })
    }

    /// Sends a request to this host.
    pub(super) async fn serving<F: Future>(self: &Arc<Self>, request: F) -> F::Output {
        HOST.scope(Arc::clone(self), request).await
    }

    /// Notes the head of an answer, which may say that its connection ends with it.
    pub(super) fn answered<B>(&self, response: &http::Response<B>) {
        let values = response.headers().get_all(http::header::CONNECTION);
        let mut options =
            values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let is_old = response.version() == http::Version::HTTP_10;
        if is_old || options.any(|option| option.trim().eq_ignore_ascii_case("close")) {
            self.closed();
        }
    }

    fn closed(&self) {
        let _ = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| open.checked_sub(1));
    }

    /// A place for one more, where there is one.
    fn place(self: &Arc<Self>) -> Option<Opening> {
        let more = |open| (open < self.most).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Opening(Some(Arc::clone(self))))
    }
}

/// A place that is free again unless a connection takes it.
struct Opening(Option<Arc<Kept>>);

impl Opening {
    fn taken(mut self) {
        self.0 = None;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(host) = &self.0 {
            host.closed();
        }
    }
}

/// A connector that holds back connections which are about to be opened.
#[derive(Debug, Clone)]
pub(super) struct KeptFirst<S>(pub(super) S);

impl<S, R> Service<R> for KeptFirst<S>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: From<Box<dyn std::error::Error + Send + Sync>>,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // The one that was found ready is the one to call.
        let fresh = self.0.clone();
        let mut connector = std::mem::replace(&mut self.0, fresh);
        Box::pin(async move {
            let Ok(host) = HOST.try_with(Arc::clone) else { return connector.call(request).await };
            let opening = host.place();
            if opening.is_none() {
                tokio::time::sleep(WAY_BACK).await;
                if HOST.try_with(|_| ()).is_err() {
                    return Err(S::Error::from("a kept connection was free".into()));
                }
            }
            let connection = connector.call(request).await?;
            if let Some(opening) = opening {
                opening.taken();
            }
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    type Failure = Box<dyn std::error::Error + Send + Sync>;

    #[derive(Clone)]
    struct Connector;

    impl Service<bool> for Connector {
        type Response = ();
        type Error = Failure;
        type Future = std::future::Ready<Result<(), Failure>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, works: bool) -> Self::Future {
            std::future::ready(if works { Ok(()) } else { Err("refused".into()) })
        }
    }

    /// Up to the host's number connections are opened at once, failed ones not counted; beyond it only after a moment, and not
    /// at all when the request has gone on without.
    #[tokio::test(start_paused = true)]
    async fn more_connections_wait_for_kept_ones() {
        let host = Kept::new(2);
        let mut connector = KeptFirst(Connector);
        let began = Instant::now();
        for (works, waited) in [(true, false), (false, false), (true, false), (true, true)] {
            let opened = host.serving(connector.call(works)).await;
            assert_eq!(opened.is_ok(), works);
            assert_eq!(began.elapsed() >= WAY_BACK, waited);
        }
        // Begun for a request, and then left to another task.
        let mut left = connector.call(true);
        let polled = std::future::poll_fn(|context| Poll::Ready(left.as_mut().poll(context)));
        assert!(host.serving(polled).await.is_pending());
        assert!(tokio::spawn(left).await.unwrap().is_err());
        // One that its server closes makes room.
        let closing = http::Response::builder().header("Connection", "Keep-Alive, Close").body("").unwrap();
        host.answered(&closing);
        let began = Instant::now();
        host.serving(connector.call(true)).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
