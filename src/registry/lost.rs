//! Requests that were given to a connection which was gone before it began them: they are given to another one.
//!
//! A server may close a connection as soon as it is there: with TLS 1.3 it refuses a client's certificate after a handshake that
//! was whole for the client. When that comes between hyper's word that a connection is ready and the request, hyper says that
//! it was not ready after all, and what it ended with was told to nobody. Once in ten thousand such ends hyper says nothing at all,
//! because the request lies in a queue that nobody empties any more (<https://github.com/hyperium/hyper/issues/4122>).
//! In both cases nothing was sent. The next connection has the same fate and says why, or it is a better one.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::Extensions;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, Connect, capture_connection};
use hyper_util::client::legacy::{Client, Error};
use tokio::sync::watch;

/// How many connections a request is given to. It takes bad luck of some microseconds, each time.
const CONNECTIONS: usize = 4;

/// How long to wait for the next, so that two threads that met in these microseconds do not meet in the next ones.
const STEP_ASIDE: Duration = Duration::from_millis(1);

/// How long an answer may take after its connection's end: hyper gives it before that, or in the same breath.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Held by a connection for as long as it is there.
#[derive(Debug)]
pub(super) struct Life(watch::Sender<()>);

impl Life {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// What tells others of its end.
    pub(super) fn watched(&self) -> Watched {
        Watched(self.0.subscribe())
    }
}

/// Belongs to what is known of a connection.
#[derive(Debug, Clone)]
pub(super) struct Watched(watch::Receiver<()>);

impl Watched {
    async fn ended(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// Sends a request, and waits for the head of its answer.
pub(super) async fn ask<C>(
    client: &Client<C, Full<Bytes>>,
    request: http::Request<Full<Bytes>>,
) -> Result<http::Response<Incoming>, Error>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    for _ in 1..CONNECTIONS {
        let mut request = request.clone();
        let connection = capture_connection(&mut request);
        tokio::select! {
            biased;
            answer = client.request(request) => match answer {
                Err(error) if was_not_begun(&error) => {}
                answer => return answer,
            },
            () = forgotten(connection) => {}
        }
        tokio::time::sleep(STEP_ASIDE).await;
    }
    client.request(request).await
}

/// Waits until a request's connection has ended without a word to it.
async fn forgotten(mut connection: CaptureConnection) {
    let mut known = Extensions::new();
    if let Some(connected) = &*connection.wait_for_connection_metadata().await {
        connected.get_extras(&mut known);
    }
    match known.get_mut::<Watched>() {
        Some(connection) => connection.ended().await,
        None => std::future::pending().await,
    }
    tokio::time::sleep(LAST_WORD).await;
}

/// Whether a request was not even begun, and nothing says why: a reason that hyper knows is another of its errors.
fn was_not_begun(error: &Error) -> bool {
    let hyper = error.source().and_then(|error| error.downcast_ref::<hyper::Error>());
    hyper.is_some_and(|error| {
        error.is_canceled() && !error.source().is_some_and(<dyn std::error::Error>::is::<hyper::Error>)
    })
}
