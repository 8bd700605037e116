//! The arguments as they are written: clap and the parsing of single values, nothing else.
//!
//! What options mean together is for `settings`; what an OUT or a REF is for `target`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use ocipull::registry::config::registries_conf::{RegistriesConfError, RunMirror};
use ocipull::tags::{Pattern, VersionRange};

mod convert;
mod fetch;
mod login;
mod rate;
mod verify;

pub(crate) use convert::{ConvertArgs, ConvertFormatArg};
pub(crate) use fetch::{DiffIdsArg, DownloadArgs, FetchArgs, ForeignLayersArg, FormatArg};
pub(crate) use login::{LoginArgs, LogoutArgs};
pub(crate) use verify::VerifyArgs;

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

impl Args {
    /// The arguments that the process was started with.
    ///
    /// # Errors
    /// Those that are none, and what is printed instead: help and version.
    pub(crate) fn read<I: IntoIterator<Item = T>, T: Into<OsString> + Clone>(
        words: I,
    ) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(words)?;
        let mut args = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        if let (Command::Inspect(inspect), Some((name, given))) = (&mut args.command, matches.subcommand()) {
            inspect.for_registries = command.find_subcommand(name).and_then(|all| for_registries(all, given));
        }
        Ok(args)
    }
}

/// The first option that was given of those about registries.
fn for_registries(all: &clap::Command, given: &ArgMatches) -> Option<String> {
    let is_given = |arg: &&clap::Arg| {
        matches!(arg.get_help_heading(), Some(HOW | ACCESS))
            && given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
    };
    all.get_arguments().find(is_given).and_then(|arg| Some(format!("--{}", arg.get_long()?)))
}

// What each command does is said at its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Fetch(Box<FetchArgs>),
    Resolve(ResolveArgs),
    Tags(TagsArgs),
    Inspect(InspectArgs),
    Ls(LsArgs),
    Verify(Box<VerifyArgs>),
    Convert(ConvertArgs),
    Serve(ServeArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
}

const WHAT: &str = "What is pulled";
const HOW: &str = "How it is downloaded";
const OUTPUT: &str = "Output";
const ACCESS: &str = "Access to the registry";

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

/// List the tags of a repository.
///
/// A tag a line, in natural order: 1.9 comes before 1.10. Tags that are left out by --match or --semver are no failure:
/// where nothing is left, nothing is printed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = TAGS_EXAMPLES)]
pub(crate) struct TagsArgs {
    /// The repository, such as alpine or quay.io/org/app
    #[arg(value_name = "REPO")]
    pub(crate) repository: String,

    /// Only tags in which this regular expression is found; ^ and $ tie it to their ends
    #[arg(long = "match", value_name = "REGEX", allow_hyphen_values = true, help_heading = WHAT)]
    pub(crate) pattern: Option<Pattern>,

    /// Only tags that are versions in this range, such as '>=3.0, <4'
    ///
    /// A leading v is no obstacle, 3.20 counts as 3.20.0, and what follows a dash (3.20-alpine too) is a pre-release: it is
    /// in a range only where the range names one of the same version. Operators are = > >= < <= ~ ^, without one =; commas
    /// or blanks mean and, || means or.
    #[arg(long, value_name = "RANGE", help_heading = WHAT)]
    pub(crate) semver: Option<VersionRange>,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) output: JsonArgs,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

const TAGS_EXAMPLES: &str = "\
Examples:
  ocipull tags alpine
  ocipull tags --semver '>=3.18, <4' alpine
  ocipull tags --match '^v3\\.[0-9]+\\.[0-9]+$' quay.io/prometheus/prometheus
  ocipull tags alpine | tail -1";

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

    /// An option that says how a registry is asked: of no effect where the target is a layout.
    #[arg(skip)]
    pub(crate) for_registries: Option<String>,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  ocipull inspect alpine:3.20
  ocipull inspect ./out:3.20
  ocipull inspect --raw docker.io/library/alpine:3.20 | sha256sum";

/// List the images in a layout.
///
/// SIZE is what the files of an image take that are there, each counted once; UNIQUE is how much of that no other image
/// in the layout shares.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// The folder of the layout
    #[arg(value_name = "OUT")]
    pub(crate) layout: OsString,

    #[command(flatten)]
    pub(crate) output: JsonArgs,
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

    /// Where to listen, by address or by name; port 0 takes one that is free
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5000", value_parser = listen)]
    pub(crate) listen: String,
}

/// Whether there is a host and a port; what the host is, the system says.
fn listen(text: &str) -> Result<String, String> {
    let is_port =
        |port: &str| port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_host = |host: &str| {
        !host.is_empty() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')))
    };
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && is_port(port) => Ok(text.to_owned()),
        _ => Err("it is ADDR:PORT, such as 127.0.0.1:5000".to_owned()),
    }
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

/// As whom the registry is asked, and how it is reached.
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

    /// Look for credentials in this file only; the default is what `REGISTRY_AUTH_FILE` names, else the usual files
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub(crate) authfile: Option<PathBuf>,

    /// A mirror to ask first, whatever the registry, and before those in registries.conf; may be repeated
    #[arg(long, value_name = "HOST[/PATH]", value_parser = mirror, help_heading = ACCESS)]
    pub(crate) mirror: Vec<RunMirror>,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// How the registry is reached.
#[derive(Debug, clap::Args)]
pub(crate) struct ReachArgs {
    /// Whether the registry's certificate is checked (default: unless registries.conf calls it insecure); where it must be, no
    /// host is asked in plain http
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = ArgAction::Set, hide_possible_values = true, help_heading = ACCESS)]
    pub(crate) tls_verify: Option<bool>,

    /// Use plain http, for any host
    #[arg(long, help_heading = ACCESS)]
    pub(crate) plain_http: bool,

    /// A PEM file with certificate authorities to trust besides the system's; may be repeated
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub(crate) ca_file: Vec<PathBuf>,

    /// A folder with *.crt to trust, and X.cert with X.key to show to the registry, instead of those in certs.d
    #[arg(long, value_name = "DIR", help_heading = ACCESS)]
    pub(crate) cert_dir: Option<PathBuf>,

    /// The registries.conf to use instead of the user's and the system's
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub(crate) registries_conf: Option<PathBuf>,
}

fn mirror(text: &str) -> Result<RunMirror, RegistriesConfError> {
    text.parse()
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

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be more than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; a duration is a number and a unit, such as 30s or 2m")),
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use ocipull::fetch::RefName;

    use super::fetch::*;
    use super::*;

    /// A port alone says what is missing; names and addresses of both kinds are taken.
    #[test]
    fn addresses_to_listen_on() {
        for good in ["127.0.0.1:5000", "localhost:0", "[::1]:80", "host.example:65535"] {
            assert_eq!(listen(good).as_deref(), Ok(good));
        }
        for bad in ["5000", ":5000", "localhost", "localhost:", "::1:80", "a:+1", "a:65536", "http://a:1"] {
            assert_eq!(listen(bad).unwrap_err(), "it is ADDR:PORT, such as 127.0.0.1:5000", "{bad}");
        }
    }

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
        assert!(args.dry_run && args.registry.reach.plain_http);
        assert_eq!(args.registry.reach.tls_verify, None);
        assert_eq!(fetch(&[]).unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
    }

    /// Inspecting is told which option a layout cannot heed; defaults and those about the output are none of these.
    #[test]
    fn inspecting_knows_the_options_for_registries() {
        for (words, found) in [
            (&["a:1"][..], None),
            (&["a:1", "--json", "-v"], None),
            (&["a:1", "--retries", "5"], Some("--retries")),
            (&["--tls-verify=true", "a:1"], Some("--tls-verify")),
            (&["--mirror", "x.example", "a:1"], Some("--mirror")),
        ] {
            let args = Args::read(["ocipull", "inspect"].iter().chain(words)).unwrap();
            let Command::Inspect(args) = args.command else { unreachable!("the command is inspect") };
            assert_eq!(args.for_registries.as_deref(), found, "{words:?}");
        }
        assert_eq!(
            Args::read(["ocipull", "inspect"]).unwrap_err().kind(),
            ErrorKind::MissingRequiredArgument
        );
    }

    /// Platforms add up, and `--all-platforms` leaves nothing to choose.
    #[test]
    fn platforms_are_several_or_all() {
        let args = fetch(&["--platform", "linux/amd64", "--platform", "linux/arm64", "a", "o"]).unwrap();
        assert_eq!(args.forms.platform.len(), 2);
        let error = fetch(&["--platform", "linux/amd64", "--all-platforms", "a", "o"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
    }

    /// `--referrers` never eats a reference: types come after `=` only, separated by commas.
    #[test]
    fn referrers_with_and_without_types() {
        let types = |option| fetch(&[option, "a:1", "out"]).unwrap().forms.referrers;
        assert_eq!(types("--referrers"), Some(vec![String::new()]));
        assert_eq!(types("--referrers=x/y,z"), Some(vec!["x/y".to_owned(), "z".to_owned()]));
        assert_eq!(types("--dry-run"), None);
    }

    /// `--tls-verify` takes its value after `=` only, so that it never eats a reference.
    #[test]
    fn tls_verify_with_and_without_a_value() {
        for (option, wanted) in
            [("--tls-verify", true), ("--tls-verify=true", true), ("--tls-verify=false", false)]
        {
            let args = fetch(&[option, "a:1", "out"]).unwrap();
            assert_eq!(args.registry.reach.tls_verify, Some(wanted), "{option}");
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
            &["--match", "x"],
            &["--semver", "1"],
            &["--all-tags", "--match", "("],
            &["--all-tags", "--semver", "latest"],
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
