//! The arguments of `verify`.

use std::ffi::OsString;

use super::fetch::DownloadArgs;
use super::{ACCESS, HOW, NetworkArgs, ProgressArgs, RegistryArgs};

/// Prove a layout: every size, digest and diff ID.
///
/// Each finding is a line, KIND: FILE: DETAIL; FILE is the blob's path in the layout, which has its digest. Blobs that
/// nothing refers to and stray files are notes; any other finding is exit code 6.
#[derive(Debug, clap::Args)]
#[command(mut_args(only_to_repair), after_long_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// The folder of the layout
    #[arg(value_name = "OUT")]
    pub(crate) layout: OsString,

    /// Download what is bad again: from where its image's full name says, or from the repository of REF
    ///
    /// A bad file stays until the good one is proven. What cannot be repaired stays a finding, and its line says why.
    #[arg(long, value_name = "REF", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "with a value, without one, and not at all are three things")]
    pub(crate) repair: Option<Option<String>>,

    #[command(flatten)]
    pub(crate) download: DownloadArgs,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) output: ProgressArgs,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

const EXAMPLES: &str = "\
Examples:
  ocipull verify ./out
  ocipull verify --repair ./out
  ocipull verify --repair=mirror.example/library/alpine ./out";

/// Nobody is asked for anything without `--repair`, so that what says how would be of no effect.
fn only_to_repair(arg: clap::Arg) -> clap::Arg {
    match arg.get_help_heading() {
        Some(HOW | ACCESS) => arg.requires("repair"),
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::super::{Args, Command};
    use super::*;

    fn verify(arguments: &[&str]) -> Result<VerifyArgs, clap::Error> {
        match Args::try_parse_from(["ocipull", "verify"].iter().chain(arguments))?.command {
            Command::Verify(args) => Ok(*args),
            _ => unreachable!("the command is verify"),
        }
    }

    /// `--repair` never eats the layout: a reference comes after `=` only.
    #[test]
    fn repair_with_and_without_a_reference() {
        let repair = |arguments: &[&str]| verify(arguments).unwrap().repair;
        assert_eq!(repair(&["./out"]), None);
        assert_eq!(repair(&["--repair", "./out"]), Some(None));
        assert_eq!(repair(&["./out", "--repair"]), Some(None));
        assert_eq!(repair(&["--repair=a:1", "./out"]), Some(Some("a:1".to_owned())));
    }

    /// What says how registries are asked is refused where none is, rather than ignored.
    #[test]
    fn options_of_a_download_need_repair() {
        for option in [
            &["--creds", "a:b"][..],
            &["--authfile", "f"],
            &["--mirror", "h.example"],
            &["--connections", "2"],
            &["--segment-size", "1MiB"],
            &["--max-rate", "1MiB/s"],
            &["--retries", "1"],
            &["--stall-timeout", "1s"],
            &["--plain-http"],
            &["--tls-verify=false"],
            &["--registries-conf", "f"],
        ] {
            let arguments = [&["./out"], option].concat();
            let error = verify(&arguments).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{option:?}");
            assert!(verify(&[&arguments[..], &["--repair"]].concat()).is_ok(), "{option:?}");
        }
        assert!(verify(&["./out", "--json", "--progress", "plain"]).is_ok());
    }
}
