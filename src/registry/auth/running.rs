//! The programs of credential helpers while they run: each in its process group, and all known, so that none outlives this
//! process. What they are asked and how long they have is `helper`'s.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which process group helpers are run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// One of their own.
    Own,
    /// This process's, which may read from the terminal.
    Foreground,
}

impl Group {
    /// What suits this process.
    pub(super) fn of_process() -> Self {
        // Only a process with a controlling terminal can open it.
        if std::fs::File::open("/dev/tty").is_ok() { Self::Foreground } else { Self::Own }
    }
}

/// The numbers of those that run. One that is in here was not yet waited for, so that its number is nobody else's.
static RUNNING: Mutex<Vec<(u32, Group)>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<(u32, Group)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills the credential helpers that this process runs: for a program that ends while it asks one, as nobody waits for the
/// answer any more.
pub fn end_helpers() {
    #[cfg(unix)]
    for (number, group) in running().iter() {
        use rustix::process::{Pid, Signal, kill_process, kill_process_group};
        if let Some(pid) = i32::try_from(*number).ok().and_then(Pid::from_raw) {
            // Fails when it has ended meanwhile.
            let _ = match group {
                Group::Own => kill_process_group(pid, Signal::KILL),
                Group::Foreground => kill_process(pid, Signal::KILL),
            };
        }
    }
}

/// Starts a helper.
pub(super) fn start(command: &mut Command, group: Group) -> io::Result<Child> {
    #[cfg(unix)]
    if group == Group::Own {
        std::os::unix::process::CommandExt::process_group(command, 0);
    }
    // Held over the start, or one could slip through.
    let mut running = running();
    let child = command.spawn()?;
    running.push((child.id(), group));
    Ok(child)
}

/// How the helper ended, where it has.
pub(super) fn ended(child: &mut Child) -> Option<ExitStatus> {
    let mut running = running();
    let status = child.try_wait().ok()??;
    running.retain(|(number, _)| *number != child.id());
    Some(status)
}

/// Ends the helper, with its children where they are a group, and leaves no dead process behind.
#[cfg_attr(not(unix), expect(unused_variables, reason = "only Unix has process groups"))]
pub(super) fn kill(child: &mut Child, group: Group) {
    running().retain(|(number, _)| *number != child.id());
    // Both fail when it has ended meanwhile.
    #[cfg(unix)]
    if group == Group::Own {
        let pid = rustix::process::Pid::from_child(child);
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
