//! Serves a layout read-only over the distribution API (OCI distribution spec, "Pull"; Docker Registry HTTP API V2), so that
//! docker, podman, containerd, skopeo and ocipull itself pull from it: `/v2/`, manifests by tag and digest, blobs with
//! `Range`, tags, and referrers.
//!
//! Guarantees: nothing is written; no path of a request becomes a path on the disk, only valid digests do; memory is
//! bounded by the number of connections, which is bounded too, and a client that sends or takes nothing is given up. A
//! manifest is served after its digest was checked, a blob as it is: its client checks it.
//!
//! `catalog` says under which names the images are served. A manifest is served in the repositories whose images lead to
//! it or that it is about, under its own media type, and an index as it is, whether or not the layout holds all that it
//! lists; a blob in every repository, whichever image of the layout it belongs to, because there is no one here who might
//! see one repository and not another. `Accept` and `If-Range` are not looked at: there is one form of each manifest,
//! and a blob never changes.

mod answer;
mod body;
mod catalog;
mod error;
mod range;
mod route;
mod stall;
mod store;

use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::RANGE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::layout::Layout;

pub use error::ServeError;

use answer::{Answer, Refusal, answer};
use body::Body;
use route::{Query, Route};
use stall::Impatient;
use store::Store;

/// How many connections are served at a time; more wait to be accepted. Some tens of clients with a handful each.
const CONNECTIONS: usize = 256;

/// How long a client may take for a request's headers, the idle time between two requests included.
const HEADERS: Duration = Duration::from_mins(1);

/// How long a client may take nothing of an answer.
const STALL: Duration = Duration::from_mins(1);

/// How long answers may still take when the server is told to end.
const GRACE: Duration = Duration::from_secs(10);

/// How long accepting pauses when the system has no more file handles.
const BREATH: Duration = Duration::from_millis(100);

/// What a connection buffers of a request and its answer, headers included.
const BUFFER: usize = 64 << 10;

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: StdListener,
    address: SocketAddr,
    store: Arc<Store>,
}

impl Server {
    /// Listens on an address; on port 0, on a free port. From here on clients may connect; [`Server::run`] answers them.
    ///
    /// # Errors
    /// [`ServeError::Listen`]; [`ServeError::Layout`] when the layout's `index.json` cannot be understood.
    pub fn bind(layout: Layout, listen: SocketAddr) -> Result<Self, ServeError> {
        let store = Arc::new(Store::new(layout)?);
        let failed = |source| ServeError::Listen { address: listen, source };
        let listener = StdListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, store })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What is served, as `HOST/PATH:TAG`, or `PATH:TAG` for images without a full name.
    ///
    /// # Errors
    /// [`ServeError::Layout`].
    pub fn names(&self) -> Result<Vec<String>, ServeError> {
        Ok(self.store.catalog()?.names())
    }

    /// Answers requests until `shutdown` is ready, then lets those that are being answered end, for ten seconds at most.
    /// Runs on a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`ServeError::Listen`] when the runtime cannot take the listener.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { listener, address, store } = self;
        let listener =
            TcpListener::from_std(listener).map_err(|source| ServeError::Listen { address, source })?;
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let next = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = &mut shutdown => break,
                next = next => next,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer)) => {
                    let connection = graceful.watch(connection(stream, Arc::clone(&store)));
                    connections.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = connection.await {
                            tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        drop(listener);
        // What is not done by then ends with the tasks.
        let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
        Ok(())
    }
}

/// A connection's requests, one after the other.
fn connection(
    stream: TcpStream,
    store: Arc<Store>,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> {
    // Without it small answers wait for the client's delayed acknowledgements; a socket that refuses still works.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let store = Arc::clone(&store);
        async move { Ok::<_, Infallible>(respond(store, request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Impatient::new(stream, STALL)), service)
}

async fn respond(store: Arc<Store>, request: Request<Incoming>) -> Response<Body> {
    let is_head = request.method() == Method::HEAD;
    let read = Route::read(request.method(), request.uri().path())
        .and_then(|route| Ok((route, Query::read(request.uri().query().unwrap_or_default())?)));
    // A range means something in a GET only (RFC 9110, section 14.2), and several of them mean nothing.
    let range = (!is_head).then(|| request.headers().get(RANGE)).flatten();
    let range = range.and_then(|range| range.to_str().ok()).map(str::to_owned);
    let answered = match read {
        Ok((route, query)) => {
            let look = move || answer(&store, &route, &query, range.as_deref());
            let looked = tokio::task::spawn_blocking(look).await;
            // The only way for it to fail is a panic, which has been said on its thread.
            looked.unwrap_or_else(|_| Err(Refusal::internal())).unwrap_or_else(Answer::from)
        }
        Err(refusal) => refusal.into(),
    };
    tracing::debug!(method = %request.method(), path = request.uri().path(), status = answered.status.as_u16(), "answered");
    answered.into_response(is_head)
}

#[cfg(test)]
mod tests;
