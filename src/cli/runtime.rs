//! Runs a command's future until it is done or a signal asks for the end.
//!
//! To stop is to drop the future: staged files are valid at every await. A second signal ends the process at once.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use ocipull::registry::auth::end_helpers;
use tokio::runtime::{Builder, Runtime};

use super::diagnostic::Diagnostic;
use super::exit_code::{Exit, Signal};

/// Bytes are moved, not computed, on these: more threads than this are idle.
const MOST_WORKERS: usize = 4;

/// Blocking work is file I/O and small documents; hashing has its own threads.
const BLOCKING_THREADS: usize = 16;

/// Futures live on the heap, so that threads need little.
const STACK: usize = 1 << 20;

/// How long blocking work gets to end by itself. It may be cut short anywhere: that is what atomic renames are for.
const GRACE: Duration = Duration::from_millis(500);

/// How a future ended.
#[derive(Debug)]
pub(super) enum Ended<T> {
    /// It came to its end.
    Done(T),
    /// It was dropped, as a signal wanted it.
    Stopped(Signal),
}

/// Runs what `start` makes, and drops it when a signal comes.
///
/// # Errors
/// When the threads or the signal handlers cannot be had.
pub(super) fn run<T, F: Future<Output = T>>(start: impl FnOnce() -> F) -> Result<Ended<T>, Diagnostic> {
    block_on(async |mut signals| {
        let mut future = Box::pin(start());
        let ended = tokio::select! {
            output = &mut future => Ended::Done(output),
            signal = signals.next() => Ended::Stopped(signal),
        };
        if let Ended::Stopped(_) = ended {
            tokio::spawn(exit_at_signal(signals));
        }
        // Only now is the future dropped, which the second signal need not wait for.
        ended
    })
}

/// Runs what `start` makes to its end. It is given a future that is ready at the first signal, and ends in its own time.
///
/// # Errors
/// As [`run`].
pub(super) fn run_until_stopped<T, F: Future<Output = T>>(
    start: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>) -> F,
) -> Result<T, Diagnostic> {
    block_on(async |mut signals| {
        let stop = Box::pin(async move {
            signals.next().await;
            tokio::spawn(exit_at_signal(signals));
        });
        start(stop).await
    })
}

fn block_on<T>(work: impl AsyncFnOnce(Signals) -> T) -> Result<T, Diagnostic> {
    let failed = |error: io::Error| Diagnostic::other(&error).during("cannot start");
    let runtime = build().map_err(failed)?;
    let output = runtime.block_on(async { Ok(work(Signals::listen()?).await) });
    // Nobody waits for what they would say.
    end_helpers();
    runtime.shutdown_timeout(GRACE);
    output.map_err(failed)
}

async fn exit_at_signal(mut signals: Signals) {
    let signal = signals.next().await;
    end_helpers();
    std::process::exit(i32::from(Exit::Stopped(signal).code()));
}

fn build() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.min(MOST_WORKERS))
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
}

/// The signals that end a command.
#[cfg(unix)]
#[derive(Debug)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// Never waited for: with a handler in place, a write past the file size limit fails instead of killing the process.
    _file_size: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

/// The signals that end a command.
#[cfg(not(unix))]
#[derive(Debug)]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "other systems can fail here")]
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}
