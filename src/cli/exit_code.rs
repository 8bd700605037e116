//! How the process ends. docs/cli.md has the table.

use std::process::ExitCode;

use ocipull::failure::Kind;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is done, or was done already.
    Done,
    /// Something failed, and was said.
    Failed(Kind),
    /// A signal ended it.
    Stopped(Signal),
}

/// A signal that asks a process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// From the keyboard.
    Interrupt,
    /// From a service manager or `kill`.
    Terminate,
}

impl Signal {
    /// What happened, for the line that says so.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
        }
    }
}

impl Exit {
    /// The process's exit code: a signal's is 128 and its number, as shells have it.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed(kind) => kind.exit_code(),
            Self::Stopped(Signal::Interrupt) => 130,
            Self::Stopped(Signal::Terminate) => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
