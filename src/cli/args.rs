//! The arguments as they are written: clap and the parsing of single values, nothing else.
//!
//! What options mean together is for `settings`; what an OUT or a REF is for `target`.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use ocipull::fetch::RefName;
use ocipull::platform::Platform;
use ocipull::transfer;

/// Below this a range costs more than it carries.
const SMALLEST_SEGMENT: u64 = 1024;

/// Pull container images from any registry into a proven OCI image layout.
///
/// Every byte is checked before an image is named: the size and digest of each blob, and each layer's diff ID against
/// the image config. An interrupted fetch resumes where it stopped when the same command is run again.
#[derive(Debug, Parser)]
#[command(name = "ocipull", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 other failure, 2 usage, 3 not found, 4 authentication, 5 network,
6 integrity, 7 unusable layout, 130 interrupted, 143 terminated.";

#[derive(Debug, clap::Args)]
pub(crate) struct VerbosityArgs {
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log what is decided (-v), what is tried (-vv), and everything (-vvv)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

// What each command does is said at its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Fetch(Box<FetchArgs>),
    Resolve(ResolveArgs),
    Inspect(InspectArgs),
    Ls(LsArgs),
    Verify(VerifyArgs),
    Serve(ServeArgs),
}

/// Pull images into an OCI image layout.
///
/// OUT is made when it does not exist; a layout that is there is added to. Only what is missing is downloaded, and an
/// image is named in OUT only when every byte of it is proven. For each image one line `NAME@DIGEST` is printed.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ocipull fetch [OPTIONS] <REF>... <OUT>", after_long_help = FETCH_EXAMPLES)]
pub(crate) struct FetchArgs {
    /// Images to pull, such as alpine:3.20, quay.io/org/app:v1 or ghcr.io/org/app@sha256:…; the last one is the folder OUT
    // One list, split in `settings`: clap cannot have options between the values of a list and a value after it.
    #[arg(value_name = "REF|OUT", required = true, num_args = 1..)]
    pub(crate) references_and_out: Vec<OsString>,

    /// The platform to pull, such as linux/arm64 or linux/arm/v7
    ///
    /// The default is this host's (Linux where the host is macOS). An image for a platform that this one can run is
    /// taken too, the best first, as docker does.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = WHAT)]
    pub(crate) platform: Option<Platform>,

    /// The image's short name in the layout: its tag, its full name, none, or TEXT
    ///
    /// This is the annotation org.opencontainers.image.ref.name, which skopeo and umoci go by. The default is `tag`
    /// for one reference and `full` for several.
    #[arg(long, value_name = "tag|full|none|=TEXT", value_parser = ref_name, help_heading = WHAT)]
    pub(crate) ref_name: Option<RefName>,

    /// Take over a short name that another image has in the layout
    #[arg(long, help_heading = WHAT)]
    pub(crate) replace: bool,

    /// Whether uncompressed layers are checked against the image config
    #[arg(long, value_name = "verify|skip", value_enum, default_value_t = DiffIdsArg::Verify, help_heading = WHAT)]
    pub(crate) diff_ids: DiffIdsArg,

    /// Read again and prove the blobs that the layout already holds
    #[arg(long, help_heading = WHAT)]
    pub(crate) verify_existing: bool,

    /// Say what would be downloaded, and touch nothing
    #[arg(long, help_heading = WHAT)]
    pub(crate) dry_run: bool,

    /// How many connections are used, over all blobs together
    #[arg(long, value_name = "N", default_value_t = connections(), help_heading = HOW,
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) connections: u16,

    /// The unit in which large blobs are downloaded in parallel (KB is 1000, KiB 1024)
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = segment_size, help_heading = HOW)]
    pub(crate) segment_size: u64,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) output: ProgressArgs,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

const WHAT: &str = "What is pulled";
const HOW: &str = "How it is downloaded";
const OUTPUT: &str = "Output";
const ACCESS: &str = "Access to the registry";

const FETCH_EXAMPLES: &str = "\
Examples:
  One image for this host:
    ocipull fetch alpine:3.20 ./out

  For another platform, by digest, with the tag as its name:
    ocipull fetch --platform linux/arm64 quay.io/prometheus/prometheus:v3.1.0@sha256:… ./out

  Several images into one layout, with a report for a script:
    ocipull fetch --json alpine:3.20 ghcr.io/org/app:v2 ./out

  From a registry that needs a login:
    echo \"$TOKEN\" | ocipull fetch --username me --password-stdin ghcr.io/org/private:v1 ./out

  What would it be?
    ocipull fetch --dry-run alpine:3.20 ./out";

/// Print the digest that a reference stands for.
///
/// The digest is printed alone on a line. Nothing is downloaded where the registry answers to HEAD.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  ocipull fetch app:v1@$(ocipull resolve app:v1) ./out")]
pub(crate) struct ResolveArgs {
    /// The image, such as alpine:3.20
    #[arg(value_name = "REF")]
    pub(crate) reference: String,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) output: JsonArgs,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// Show an image: manifest, config, layers, platforms.
///
/// What exists as a folder, or starts with `.` or `/`, is a layout; anything else is a reference. `oci:` in front makes
/// it a layout and `docker://` a reference. NAME is an image's short or full name in the layout, and may be left out
/// where there is only one.
#[derive(Debug, clap::Args)]
#[command(after_long_help = INSPECT_EXAMPLES)]
pub(crate) struct InspectArgs {
    /// A reference, or a layout and the name of an image in it
    #[arg(value_name = "REF|OUT[:NAME]")]
    pub(crate) target: OsString,

    /// Print the manifest or index itself, byte for byte
    #[arg(long, conflicts_with = "json", help_heading = OUTPUT)]
    pub(crate) raw: bool,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) output: JsonArgs,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  ocipull inspect alpine:3.20
  ocipull inspect ./out:3.20
  ocipull inspect --raw docker.io/library/alpine:3.20 | sha256sum";

/// List the images in a layout.
///
/// SIZE is what an image takes on disk, UNIQUE how much of that no other image in the layout shares.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// The folder of the layout
    #[arg(value_name = "OUT")]
    pub(crate) layout: OsString,

    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

/// Prove a layout: every size, digest and diff ID.
///
/// Each finding is a line: what it is, the digest, the file and the detail. Blobs that nothing refers to and stray files
/// are notes; any other finding is exit code 6.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The folder of the layout
    #[arg(value_name = "OUT")]
    pub(crate) layout: OsString,

    #[command(flatten)]
    pub(crate) output: ProgressArgs,
}

/// Serve a layout read-only, so that docker, podman and containerd pull from it.
///
/// Once it accepts connections it prints `listening on http://ADDR:PORT`. It ends on Ctrl-C or SIGTERM.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Example:\n  ocipull serve ./out &\n  docker pull localhost:5000/library/alpine:3.20"
)]
pub(crate) struct ServeArgs {
    /// The folder of the layout
    #[arg(value_name = "OUT")]
    pub(crate) layout: OsString,

    /// Where to listen; port 0 takes one that is free
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
}

/// How a registry is talked to when the line is bad.
#[derive(Debug, clap::Args)]
pub(crate) struct NetworkArgs {
    /// How often a request is made again after failing; real progress in a blob starts the count anew
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = HOW)]
    pub(crate) retries: u32,

    /// How long the far side may be silent before that counts as a failure
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout, help_heading = HOW)]
    pub(crate) stall_timeout: Duration,
}

/// For commands whose result is a report.
#[derive(Debug, clap::Args)]
pub(crate) struct JsonArgs {
    /// Print the result as one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

/// For commands that take a while.
#[derive(Debug, clap::Args)]
pub(crate) struct ProgressArgs {
    #[command(flatten)]
    pub(crate) report: JsonArgs,

    /// How progress is shown on standard error
    #[arg(long, value_name = "HOW", value_enum, default_value_t = ProgressArg::Auto, conflicts_with = "quiet",
        help_heading = OUTPUT)]
    pub(crate) progress: ProgressArg,
}

/// Who asks, and how the registry is reached.
#[derive(Debug, clap::Args)]
pub(crate) struct RegistryArgs {
    /// User and password for the registry (others on this machine can see the command line; see --password-stdin)
    #[arg(long, value_name = "USER:PASS", conflicts_with_all = ["username", "registry_token"], help_heading = ACCESS)]
    pub(crate) creds: Option<Secret>,

    /// The user for the registry, with --password-stdin
    #[arg(long, value_name = "USER", requires = "password_stdin", conflicts_with = "registry_token",
        help_heading = ACCESS)]
    pub(crate) username: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "username", help_heading = ACCESS)]
    pub(crate) password_stdin: bool,

    /// A bearer token that is sent to the registry as it is
    #[arg(long, value_name = "TOKEN", help_heading = ACCESS)]
    pub(crate) registry_token: Option<Secret>,

    /// Whether the registry's certificate is checked
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = true, action = ArgAction::Set, hide_possible_values = true, help_heading = ACCESS)]
    pub(crate) tls_verify: bool,

    /// Use plain http, for any host
    #[arg(long, help_heading = ACCESS)]
    pub(crate) plain_http: bool,

    /// A PEM file with certificate authorities to trust besides the system's; may be repeated
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub(crate) ca_file: Vec<PathBuf>,
}

/// A value that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The value.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether diff IDs are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffIdsArg {
    /// Uncompress each layer and hold it against the config
    Verify,
    /// Check compressed digests only
    Skip,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// Bars on a terminal, else plain lines
    Auto,
    /// Bars (plain lines where there is no terminal)
    Bars,
    /// Lines of text
    Plain,
    /// One JSON object a line
    Json,
    /// Only warnings and errors
    None,
}

fn connections() -> u16 {
    u16::try_from(transfer::Options::CONNECTIONS).unwrap_or(u16::MAX)
}

fn ref_name(text: &str) -> Result<RefName, String> {
    match text {
        "tag" => Ok(RefName::Tag),
        "full" => Ok(RefName::Full),
        "none" => Ok(RefName::None),
        _ => match text.strip_prefix('=') {
            Some("") => Err("there is no text after the `=`".to_owned()),
            Some(name) if ocipull::text::escape(name) != name => {
                Err("a name cannot have control characters".to_owned())
            }
            Some(name) => Ok(RefName::Text(name.to_owned())),
            None => Err(format!("it is `tag`, `full`, `none`, or `={text}` for that text")),
        },
    }
}

fn segment_size(text: &str) -> Result<u64, String> {
    let size = parse_size::parse_size(text).map_err(|error| match error {
        parse_size::Error::Empty => "there is no number".to_owned(),
        parse_size::Error::PosOverflow => "it is too large".to_owned(),
        _ => "a size is a number and a unit, such as 16MiB or 500KB".to_owned(),
    })?;
    match size {
        0..SMALLEST_SEGMENT => Err(format!("the smallest size is {SMALLEST_SEGMENT} bytes")),
        _ => Ok(size),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be more than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; a duration is a number and a unit, such as 30s or 2m")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    fn fetch(arguments: &[&str]) -> Result<FetchArgs, clap::Error> {
        let all = ["ocipull", "fetch"].iter().chain(arguments);
        match Args::try_parse_from(all)?.command {
            Command::Fetch(args) => Ok(*args),
            _ => unreachable!("the command is fetch"),
        }
    }

    /// Two options of one name, a conflict with an option that is not there: clap finds such mistakes itself.
    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    /// Options may stand anywhere between the positional arguments.
    #[test]
    fn options_stand_anywhere() {
        let args = fetch(&["a:1", "--dry-run", "b:2", "./out", "--plain-http"]).unwrap();
        assert_eq!(args.references_and_out, ["a:1", "b:2", "./out"]);
        assert!(args.dry_run && args.registry.plain_http && args.registry.tls_verify);
        assert_eq!(fetch(&[]).unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
    }

    /// One platform is all that a fetch takes; a second is refused rather than ignored.
    #[test]
    fn a_second_platform_is_refused() {
        let error = fetch(&["--platform", "linux/amd64", "--platform", "linux/arm64", "a", "o"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
    }

    /// `--tls-verify` takes its value after `=` only, so that it never eats a reference.
    #[test]
    fn tls_verify_with_and_without_a_value() {
        for (option, wanted) in
            [("--tls-verify", true), ("--tls-verify=true", true), ("--tls-verify=false", false)]
        {
            assert_eq!(fetch(&[option, "a:1", "out"]).unwrap().registry.tls_verify, wanted, "{option}");
        }
        assert!(fetch(&["--tls-verify=no", "a:1", "out"]).is_err());
    }

    /// A secret on the command line does not get into a log by way of `{:?}`.
    #[test]
    fn secrets_are_not_shown() {
        let args = fetch(&["--creds", "me:hidden", "a:1", "out"]).unwrap();
        assert!(!format!("{args:?}").contains("hidden"));
        assert_eq!(args.registry.creds.unwrap().reveal(), "me:hidden");
    }

    /// Which options exclude or need each other.
    #[test]
    fn combinations_that_make_no_sense_are_refused() {
        for arguments in [
            &["--creds", "a:b", "--registry-token", "t"][..],
            &["--creds", "a:b", "--username", "u", "--password-stdin"],
            &["--username", "u"],
            &["--password-stdin"],
            &["--username", "u", "--password-stdin", "--registry-token", "t"],
            &["-q", "-v"],
            &["-q", "--progress", "plain"],
            &["--connections", "0"],
            &["--retries", "-1"],
            &["--diff-ids", "maybe"],
            &["--no-such-option"],
        ] {
            let arguments: Vec<&str> = arguments.iter().chain(&["a:1", "out"]).copied().collect();
            assert_eq!(fetch(&arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }

    /// Sizes: K is 1000, Ki is 1024, whatever the case and with or without the B.
    #[test]
    fn sizes() {
        for (text, wanted) in [
            ("16MiB", Some(16 << 20)),
            ("16 mib", Some(16 << 20)),
            ("1.5MiB", Some(3 << 19)),
            ("500KB", Some(500_000)),
            ("64k", Some(64_000)),
            ("65536", Some(65536)),
            ("1023", None),
            ("0", None),
            ("", None),
            ("MiB", None),
            ("-1MiB", None),
            ("16 parsecs", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(segment_size(text).ok(), wanted, "{text}");
        }
    }

    /// Durations need a unit: whether `30` means seconds or milliseconds is nobody's guess.
    #[test]
    fn durations() {
        for (text, wanted) in [
            ("30s", Some(Duration::from_secs(30))),
            ("1m 30s", Some(Duration::from_secs(90))),
            ("250ms", Some(Duration::from_millis(250))),
            ("0s", None),
            ("30", None),
            ("", None),
            ("-1s", None),
        ] {
            assert_eq!(timeout(text).ok(), wanted, "{text}");
        }
    }

    /// The forms of `--ref-name`; a text needs its `=`, so that a later keyword changes nobody's meaning.
    #[test]
    fn ref_names() {
        for (text, wanted) in [
            ("tag", Some(RefName::Tag)),
            ("full", Some(RefName::Full)),
            ("none", Some(RefName::None)),
            ("=v1", Some(RefName::Text("v1".into()))),
            ("=tag", Some(RefName::Text("tag".into()))),
            ("v1", None),
            ("=", None),
            ("=a\nb", None),
        ] {
            assert_eq!(ref_name(text).ok(), wanted, "{text}");
        }
        assert_eq!(fetch(&["--ref-name==v1", "a", "o"]).unwrap().ref_name, Some(RefName::Text("v1".into())));
        assert_eq!(
            fetch(&["--ref-name", "=v1", "a", "o"]).unwrap().ref_name,
            Some(RefName::Text("v1".into()))
        );
    }
}
