//! Fail points: where tests let the file system fail, or the process die, at a step of their choosing.
//!
//! Every change of a file or a folder goes through [`fail_point!`], which names the step and the path. Without the feature
//! `failpoints`, which is off by default and for this crate's own tests, the macro is the change itself and nothing of this
//! module is compiled. With it, two variables of the environment are read once:
//!
//! - `OCIPULL_FAIL_RECORD=FILE`: each passage appends a line `POINT LENGTH` to the file, before its change is made;
//! - `OCIPULL_FAIL_AT=POINT#N=ACTION`: the N-th passage of the point does not go as it should.
//!
//! A point is called by its step and by what the path is in a layout: `rename:blob`, `sync-folder:blobs/sha256`. The actions
//! are `kill` (SIGKILL before the change), `kill-after`, `hold` (the file `OCIPULL_FAIL_HOLD` is made, and until it is gone
//! again no thread passes any point), an error as `ENOSPC` in its place, `short-ENOSPC` (half of a write, then the error),
//! and with a `+` at its end an error that lasts: every later step fails too that a file system in this state would refuse.

#[cfg(not(feature = "failpoints"))]
macro_rules! fail_point {
    ($step:ident, $path:expr, $change:expr) => {
        $change
    };
    (Write($bytes:ident), $path:expr, $change:expr) => {
        $change
    };
}

#[cfg(feature = "failpoints")]
macro_rules! fail_point {
    ($step:ident, $path:expr, $change:expr) => {
        crate::failpoint::pass(crate::failpoint::Step::$step, $path, || $change)
    };
    (Write($bytes:ident), $path:expr, $change:expr) => {
        crate::failpoint::write($bytes, $path, |$bytes| $change)
    };
}

pub(crate) use fail_point;

#[cfg(feature = "failpoints")]
pub(crate) use enabled::{Step, pass, write};

#[cfg(feature = "failpoints")]
mod enabled {
    use std::collections::HashMap;
    use std::fs::{File, OpenOptions};
    use std::io::{self, Write as _};
    use std::path::Path;
    use std::str::FromStr;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, kill_process};

    #[cfg(not(unix))]
    compile_error!("the feature failpoints ends the process by signals, which only Unix has");

    /// What is about to be done with a path.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Step {
        CreateFolder,
        Create,
        Lock,
        Read,
        Write,
        Truncate,
        Sync,
        SyncFolder,
        Rename,
        Remove,
        RemoveFolder,
    }

    impl Step {
        fn name(self) -> &'static str {
            match self {
                Self::CreateFolder => "create-folder",
                Self::Create => "create",
                Self::Lock => "lock",
                Self::Read => "read",
                Self::Write => "write",
                Self::Truncate => "truncate",
                Self::Sync => "sync",
                Self::SyncFolder => "sync-folder",
                Self::Rename => "rename",
                Self::Remove => "remove",
                Self::RemoveFolder => "remove-folder",
            }
        }

        /// Whether a file system that once gave this error gives it here too.
        fn meets(self, error: Errno) -> bool {
            match error {
                Errno::NOSPC | Errno::DQUOT => {
                    matches!(self, Self::CreateFolder | Self::Create | Self::Write)
                }
                Errno::FBIG => self == Self::Write,
                Errno::ROFS | Errno::ACCESS => !matches!(self, Self::Read | Self::Lock),
                _ => true,
            }
        }
    }

    /// What happens at the chosen passage.
    #[derive(Debug, Clone, Copy)]
    enum Action {
        Kill,
        KillAfter,
        Hold,
        Fail { error: Errno, is_short: bool, lasts: bool },
    }

    #[derive(Debug)]
    struct Order {
        point: String,
        passage: usize,
        action: Action,
    }

    #[derive(Debug, Default)]
    struct Passages {
        counts: HashMap<String, usize>,
        /// The error that lasts, once it was met.
        lasting: Option<Errno>,
    }

    static ORDER: LazyLock<Option<Order>> = LazyLock::new(|| {
        let text = std::env::var("OCIPULL_FAIL_AT").ok()?;
        Some(text.parse().expect("OCIPULL_FAIL_AT is POINT#N=ACTION"))
    });

    static RECORD: LazyLock<Option<File>> = LazyLock::new(|| {
        let path = std::env::var_os("OCIPULL_FAIL_RECORD")?;
        let file = OpenOptions::new().append(true).create(true).open(path);
        Some(file.expect("OCIPULL_FAIL_RECORD can be written"))
    });

    static PASSAGES: LazyLock<Mutex<Passages>> = LazyLock::new(Mutex::default);

    impl FromStr for Order {
        type Err = &'static str;

        fn from_str(text: &str) -> Result<Self, Self::Err> {
            let (point, rest) = text.split_once('#').ok_or("no #")?;
            let (passage, action) = rest.split_once('=').ok_or("no =")?;
            let passage = passage.parse().map_err(|_| "no number")?;
            Ok(Self { point: point.to_owned(), passage, action: action.parse()? })
        }
    }

    impl FromStr for Action {
        type Err = &'static str;

        fn from_str(text: &str) -> Result<Self, Self::Err> {
            match text {
                "kill" => return Ok(Self::Kill),
                "kill-after" => return Ok(Self::KillAfter),
                "hold" => return Ok(Self::Hold),
                _ => {}
            }
            let (text, lasts) = text.strip_suffix('+').map_or((text, false), |text| (text, true));
            let (text, is_short) = text.strip_prefix("short-").map_or((text, false), |text| (text, true));
            let error = match text {
                "EACCES" => Errno::ACCESS,
                "EDQUOT" => Errno::DQUOT,
                "EFBIG" => Errno::FBIG,
                "EIO" => Errno::IO,
                "ENOLCK" => Errno::NOLCK,
                "ENOSPC" => Errno::NOSPC,
                "EROFS" => Errno::ROFS,
                _ => return Err("no such action"),
            };
            Ok(Self::Fail { error, is_short, lasts })
        }
    }

    /// Makes a change, unless this passage was chosen for something else.
    pub(crate) fn pass<T>(step: Step, path: &Path, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match arrive(step, path, 0) {
            None | Some(Action::Hold) => change(),
            Some(Action::Kill) => die(),
            Some(Action::KillAfter) => {
                let _ = change();
                die()
            }
            Some(Action::Fail { error, .. }) => Err(error.into()),
        }
    }

    /// As [`pass`], for a write of bytes.
    pub(crate) fn write(
        bytes: &[u8],
        path: &Path,
        change: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match arrive(Step::Write, path, bytes.len()) {
            None | Some(Action::Hold) => change(bytes),
            Some(Action::Kill) => die(),
            Some(Action::KillAfter) => {
                let _ = change(bytes);
                die()
            }
            Some(Action::Fail { error, is_short, .. }) => {
                if is_short {
                    change(&bytes[..bytes.len() / 2])?;
                }
                Err(error.into())
            }
        }
    }

    /// Counts the passage, and says what is to happen at it.
    fn arrive(step: Step, path: &Path, length: usize) -> Option<Action> {
        let point = format!("{}:{}", step.name(), kind_of(path));
        let mut passages = PASSAGES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut record) = RECORD.as_ref() {
            record.write_all(format!("{point} {length}\n").as_bytes()).expect("the record can be written");
        }
        let count = passages.counts.entry(point.clone()).or_default();
        *count += 1;
        let order = ORDER.as_ref().filter(|order| order.point == point && order.passage == *count);
        if let Some(order) = order {
            if let Action::Fail { error, lasts: true, .. } = order.action {
                passages.lasting = Some(error);
            }
            if let Action::Hold = order.action {
                // With the passages locked, so that the others come to a halt too.
                hold();
            }
            return Some(order.action);
        }
        let error = passages.lasting.filter(|error| step.meets(*error))?;
        Some(Action::Fail { error, is_short: false, lasts: true })
    }

    fn hold() {
        let path = std::env::var_os("OCIPULL_FAIL_HOLD").expect("OCIPULL_FAIL_HOLD names a file");
        File::create(&path).expect("OCIPULL_FAIL_HOLD can be made");
        while Path::new(&path).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn die() -> ! {
        let _ = kill_process(getpid(), Signal::KILL);
        unreachable!("SIGKILL cannot be held off")
    }

    /// What a path is in a layout; elsewhere just a file.
    fn kind_of(path: &Path) -> String {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let above = path.parent().and_then(Path::parent).and_then(Path::file_name).unwrap_or_default();
        if let Some(extension @ ("part" | "journal" | "encoded")) =
            path.extension().and_then(|extension| extension.to_str())
        {
            return extension.to_owned();
        }
        match (&*name, &*folder) {
            ("index.json" | "oci-layout" | "blobs" | ".ocipull", _) | ("lock" | "new", ".ocipull") => {
                name.into_owned()
            }
            (_, "blobs") => format!("blobs/{name}"),
            _ if above == "blobs" => "blob".to_owned(),
            _ if name.starts_with("signature-") => "signature".to_owned(),
            _ if path.join(".ocipull").exists() => "layout".to_owned(),
            _ => "other".to_owned(),
        }
    }
}
