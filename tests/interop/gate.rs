//! A slow link: a TCP relay in front of a registry that counts what it lets through, and stops at a given byte.
//!
//! With it a process can be killed at 50 % of a download on any machine, however fast: what was let through is known to
//! the byte. It is slow so that what passed was read: at full speed, megabytes of every connection would be on their way
//! in the kernel's buffers, counted here and unknown to the process.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes a second, over all connections.
const RATE: u64 = 25_000_000;

pub(crate) struct Gate {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    counter: Mutex<Counter>,
    changed: Condvar,
}

struct Counter {
    sent: u64,
    limit: u64,
    open: bool,
    /// Which count it is: connections of an earlier one are cut, so that what they still hold is not counted.
    round: u32,
    /// When the link is free for the next bytes.
    free: Instant,
}

impl Gate {
    /// Relays to `target`, without a limit.
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let counter = Counter { sent: 0, limit: u64::MAX, open: true, round: 0, free: Instant::now() };
        let shared = Arc::new(Shared { counter: Mutex::new(counter), changed: Condvar::new() });
        let (target, relayed) = (target.to_owned(), Arc::clone(&shared));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !relayed.counter().open {
                    return;
                }
                let Ok(server) = TcpStream::connect(&target) else { return };
                let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else {
                    return;
                };
                let shared = Arc::clone(&relayed);
                std::thread::spawn(move || relay(from_client, to_server, |_| true));
                let round = shared.counter().round;
                std::thread::spawn(move || relay(server, client, |wanted| shared.pass(wanted, round)));
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Starts counting anew, and lets this much through. Connections that there are end.
    pub(crate) fn allow(&self, limit: u64) {
        let mut counter = self.shared.counter();
        (counter.sent, counter.limit) = (0, limit);
        counter.round += 1;
        self.shared.changed.notify_all();
    }

    /// What the server sent since.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.counter().sent
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.counter().open = false;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts, so that it ends.
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    fn counter(&self) -> MutexGuard<'_, Counter> {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until these bytes may pass; `false` when nothing passes any more.
    fn pass(&self, wanted: u64, round: u32) -> bool {
        let mut counter = self.counter();
        while counter.open && counter.round == round && counter.sent + wanted > counter.limit {
            counter = self.changed.wait(counter).unwrap_or_else(PoisonError::into_inner);
        }
        let passes = counter.open && counter.round == round;
        if passes {
            counter.sent += wanted;
            counter.free =
                counter.free.max(Instant::now()) + Duration::from_nanos(wanted * 1_000_000_000 / RATE);
        }
        let free = counter.free;
        drop(counter);
        std::thread::sleep(free.saturating_duration_since(Instant::now()));
        passes
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, pass: impl Fn(u64) -> bool) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !pass(read as u64) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
