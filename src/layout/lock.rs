//! The layout's lock: one process at a time edits `index.json` or takes `.ocipull/` away.
//!
//! The lock is an advisory one (flock) on `.ocipull/lock`, so it ends with the process that holds it. Since the lock
//! file itself goes away with `.ocipull/`, a process that got the lock checks that the file it locked still stands at
//! its path; an unlinked file could be held by two at once.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::atomic::{self, Access};
use super::error::{LayoutError, Operation};
use crate::failpoint::fail_point;

/// How long the lock of another process is waited for. A commit takes milliseconds, so a minute means trouble.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often a held lock is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct LayoutLock {
    file: File,
    path: PathBuf,
}

impl LayoutLock {
    /// Waits for the lock in `folder` (made when it is missing); `waiting` is called once with the holder's name
    /// when there is something to wait for. Blocks, so not for async code.
    pub(crate) fn acquire(
        layout: &Path,
        folder: &Path,
        waiting: &mut dyn FnMut(&str),
    ) -> Result<Self, LayoutError> {
        let path = folder.join("lock");
        let started = Instant::now();
        let mut announced = false;
        loop {
            match Self::attempt(layout, folder, &path)? {
                Attempt::Held(lock) => return Ok(lock),
                Attempt::Vanished => {}
                Attempt::Busy(holder) => {
                    if started.elapsed() >= PATIENCE {
                        return Err(LayoutError::Held {
                            path: layout.to_owned(),
                            holder,
                            waited: started.elapsed(),
                        });
                    }
                    if !announced {
                        waiting(&holder);
                        announced = true;
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// The lock when it is free: whoever has nothing to lose without it does not wait.
    pub(crate) fn try_acquire(layout: &Path, folder: &Path) -> Result<Option<Self>, LayoutError> {
        match Self::attempt(layout, folder, &folder.join("lock"))? {
            Attempt::Held(lock) => Ok(Some(lock)),
            Attempt::Busy(_) | Attempt::Vanished => Ok(None),
        }
    }

    fn attempt(layout: &Path, folder: &Path, path: &Path) -> Result<Attempt, LayoutError> {
        atomic::create_own_folder(layout, folder)?;
        // The folder may be taken away between the two steps by a process that had finished.
        let Some(mut file) = atomic::open(path, Access::Write)? else { return Ok(Attempt::Vanished) };
        if !atomic::try_lock(&file, path)? {
            return Ok(Attempt::Busy(holder(&mut file)));
        }
        if !atomic::is_still_at(&file, path)? {
            return Ok(Attempt::Vanished);
        }
        // The name is for the message of whoever waits; the lock holds without it.
        let name = format!("{}\n", std::process::id());
        let bytes = name.as_bytes();
        let _ = file.set_len(0).and_then(|()| fail_point!(Write(bytes), path, file.write_all(bytes)));
        Ok(Attempt::Held(Self { file, path: path.to_owned() }))
    }

    /// Takes the lock's file and its folder away when nothing else is in the folder, else leaves both.
    pub(crate) fn release_and_clean(self, folder: &Path) -> Result<(), LayoutError> {
        let entries =
            std::fs::read_dir(folder).map_err(|error| LayoutError::io(Operation::Read, folder, error))?;
        let others = entries.flatten().any(|entry| entry.path() != self.path);
        if !others {
            atomic::remove_file(&self.path)?;
            // Somebody may have put a file there meanwhile: then the folder stays, and that is right.
            let _ = fail_point!(RemoveFolder, folder, std::fs::remove_dir(folder));
        }
        drop(self.file);
        Ok(())
    }
}

enum Attempt {
    Held(LayoutLock),
    Busy(String),
    Vanished,
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(32).read_to_string(&mut text));
    match read {
        Ok(_) if text.trim().parse::<u32>().is_ok() => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    }
}
