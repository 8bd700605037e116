//! The arguments of `login` and `logout`.

use std::path::PathBuf;

use super::{ACCESS, NetworkArgs, ReachArgs};

/// Log in to a registry: check user and password there and store them.
///
/// The credentials are stored where podman and skopeo look too: in the file of --authfile or `REGISTRY_AUTH_FILE`, else in
/// `$XDG_RUNTIME_DIR/containers/auth.json`; or in the credential helper that the file names. Nothing is stored when the
/// registry refuses them. For docker to find them, name its file: `--authfile ~/.docker/config.json`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginArgs {
    /// The registry, or a namespace of it: quay.io, localhost:5000, quay.io/team
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: String,

    /// The user; asked for on a terminal otherwise
    #[arg(short, long, value_name = "USER", help_heading = ACCESS)]
    pub(crate) username: Option<String>,

    /// Read the password from standard input rather than from the terminal
    #[arg(long, requires = "username", help_heading = ACCESS)]
    pub(crate) password_stdin: bool,

    /// The file to store the credentials in
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub(crate) authfile: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

const LOGIN_EXAMPLES: &str = "\
Examples:
  ocipull login quay.io
  ocipull login --username robot --password-stdin registry.example:5000 < token.txt";

/// Remove the stored credentials for a registry.
///
/// They are removed from where login stores them. When other places have some too, docker's file for one, that is said.
#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// The registry, or a namespace of it, as it was logged in to
    #[arg(value_name = "REGISTRY", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) registry: Option<String>,

    /// Remove the credentials for all registries
    #[arg(long)]
    pub(crate) all: bool,

    /// The file that the credentials are stored in
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,

    /// The registries.conf to use instead of the user's and the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) registries_conf: Option<PathBuf>,
}
