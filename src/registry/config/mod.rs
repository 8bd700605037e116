//! The configuration that podman, skopeo and their kin have of registries, read as they read it.

use std::path::{Path, PathBuf};

use crate::text::escape;

pub mod certs_d;
pub mod registries_conf;
pub mod registries_d;

/// What of the process's environment decides where configuration lies. A value that somebody sets, so that the rules can
/// be asked without a process around them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// The user's home.
    pub home: Option<PathBuf>,
    /// Where the user's configuration lies: `$XDG_CONFIG_HOME`, or else `.config` below the home.
    pub configuration: Option<PathBuf>,
    /// Where programs of the user keep what they found out: `$XDG_CACHE_HOME`, or else `.cache` below the home; for root
    /// `/var/cache`.
    pub cache: Option<PathBuf>,
    /// `$CONTAINERS_REGISTRIES_CONF`: the file that stands for both registries.conf of the user and of the system.
    pub registries_conf: Option<PathBuf>,
}

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // By the XDG base directory specification a relative path is no path.
        let folder = |name, below: &str| {
            let named = variable(name).filter(|path| path.is_absolute());
            named.or_else(|| home.as_ref().map(|home| home.join(below)))
        };
        let cache = if is_root() { Some("/var/cache".into()) } else { folder("XDG_CACHE_HOME", ".cache") };
        Self {
            configuration: folder("XDG_CONFIG_HOME", ".config"),
            cache,
            registries_conf: variable("CONTAINERS_REGISTRIES_CONF"),
            home,
        }
    }
}

/// A path for a message. Names come out of folders too, and may be anything there.
fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}
