//! Arguments, environment and files become the library's types here, once, before anything is asked of anybody.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use ocipull::failure::{Failure, Kind};
use ocipull::fetch::select::Platforms;
use ocipull::fetch::{DiffIds, ForeignLayers, Format, Mode, RefName, Referrers, Request, Schema1};
use ocipull::layout::index::Conflict;
use ocipull::progress::{Event, Reporter};
use ocipull::reference::{Reference, ReferenceError};
use ocipull::registry::auth::{ConfiguredCredentials, Environment, Given};
use ocipull::registry::config::registries_conf::Registries;
use ocipull::registry::config::registries_d::RegistriesD;
use ocipull::registry::{CredentialSource, Credentials, LoginKey, Notice, Options, PlainHttp, retry};
use ocipull::tags::{Filter, Pattern, VersionRange};
use ocipull::text::escape;
use ocipull::transfer::{self, Present};

use super::args::{
    DiffIdsArg, DownloadArgs, FetchArgs, ForeignLayersArg, FormatArg, LoginArgs, NetworkArgs, ReachArgs,
    RegistryArgs,
};
use super::diagnostic::Diagnostic;
use super::endpoints;
use super::printer::Printer;
use super::target::{self, reference};

/// How many connections commands use that read small documents only.
pub(super) const CONNECTIONS: usize = 8;

/// The longest password that is read. Tokens are long, and this is longer.
const LONGEST_PASSWORD: u64 = 64 << 10;

/// What `fetch` is to do.
#[derive(Debug)]
pub(super) struct Fetch {
    /// One request a reference, in the order of the command line. With `all_tags` each stands for its repository.
    pub(super) requests: Vec<Request>,
    /// Which tags of the repositories are meant, where their tags are.
    pub(super) all_tags: Option<Filter>,
    /// OUT.
    pub(super) layout: PathBuf,
}

/// Puts the requests together. Every reference is looked at before any is fetched.
pub(super) fn fetch(args: &FetchArgs) -> Result<Fetch, Diagnostic> {
    let (out, written) = match args.references_and_out.split_last() {
        Some((out, written)) if !written.is_empty() => (out, written),
        _ => return Err(Diagnostic::of(&SettingsError::NoDestination)),
    };
    let layout = target::destination(out).map_err(|error| Diagnostic::of(&error))?;
    // What is not UTF-8 is no reference, and its replacement characters are none either.
    let parse = if args.tags.all_tags { target::repository } else { reference };
    let references = written.iter().map(|text| parse(&text.to_string_lossy()));
    let references: Vec<Reference> =
        references.collect::<Result<_, _>>().map_err(|error| Diagnostic::of(&error))?;
    let is_one = references.len() == 1;
    let ref_name = match (&args.ref_name, is_one) {
        (Some(RefName::Text(_)), is_one) if !is_one || args.tags.all_tags => {
            return Err(Diagnostic::of(&SettingsError::OneNameForSeveral));
        }
        (Some(ref_name), _) => ref_name.clone(),
        (None, true) => RefName::Tag,
        (None, false) => RefName::Full,
    };
    let referrers = referrers(args.forms.referrers.as_deref())?;
    let lookaside = match referrers {
        Referrers::All => Some(Arc::new(RegistriesD::of_user().map_err(|error| Diagnostic::of(&error))?)),
        Referrers::None | Referrers::Types(_) => None,
    };
    let transfer = transfer(&args.download);
    let request = |reference: Reference| Request {
        platforms: if args.forms.all_platforms {
            Platforms::All
        } else {
            Platforms::of(&args.forms.platform)
        },
        ref_name: ref_name.clone(),
        conflict: if args.replace { Conflict::TakeOver } else { Conflict::Refuse },
        diff_ids: match args.diff_ids {
            DiffIdsArg::Verify => DiffIds::Verify,
            DiffIdsArg::Skip => DiffIds::Skip,
        },
        format: match args.forms.format {
            FormatArg::Preserve => Format::Preserve,
            FormatArg::Oci => Format::Oci,
        },
        foreign_layers: match args.forms.foreign_layers {
            ForeignLayersArg::Fetch => ForeignLayers::Fetch,
            ForeignLayersArg::Skip => ForeignLayers::Skip,
        },
        schema1: if args.forms.allow_schema1 { Schema1::Convert } else { Schema1::Refuse },
        referrers: referrers.clone(),
        lookaside: lookaside.clone(),
        existing: if args.verify_existing { Present::Prove } else { Present::Trust },
        mode: if args.dry_run { Mode::DryRun } else { Mode::Fetch },
        transfer: transfer.clone(),
        ..Request::new(reference, &layout)
    };
    let all_tags = args.tags.all_tags.then(|| filter(args.tags.pattern.as_ref(), args.tags.semver.as_ref()));
    Ok(Fetch { requests: references.into_iter().map(request).collect(), all_tags, layout })
}

/// How blobs are downloaded.
pub(super) fn transfer(args: &DownloadArgs) -> transfer::Options {
    let mut transfer = transfer::Options::default();
    transfer.connections = usize::from(args.connections);
    transfer.segment_size = args.segment_size;
    transfer
}

/// What `--match` and `--semver` say together.
pub(super) fn filter(pattern: Option<&Pattern>, semver: Option<&VersionRange>) -> Filter {
    Filter { pattern: pattern.cloned(), versions: semver.cloned() }
}

/// What is to be taken along with the images. `--referrers` without a type means everything.
fn referrers(types: Option<&[String]>) -> Result<Referrers, Diagnostic> {
    match types {
        None => Ok(Referrers::None),
        Some([only]) if only.is_empty() => Ok(Referrers::All),
        Some(types) if types.iter().any(String::is_empty) => Err(Diagnostic::of(&SettingsError::EmptyType)),
        Some(types) => Ok(Referrers::Types(types.to_vec())),
    }
}

/// How the registries of `references` are reached. Reads the password when it is to come from standard input.
pub(super) fn registry(
    access: &RegistryArgs,
    network: &NetworkArgs,
    connections: usize,
    references: &[&Reference],
    reporter: &Arc<dyn Reporter>,
) -> Result<Options, Diagnostic> {
    let registries = endpoints::registries(&access.reach, &access.mirror)?;
    let configured = ConfiguredCredentials::new(environment(access.authfile.as_ref()))
        .with_helpers(endpoints::helpers(&registries));
    configured.check().map_err(|error| Diagnostic::of(&error))?;
    let configured: Arc<dyn CredentialSource> = Arc::new(configured);
    let credentials = match given(access).map_err(|error| Diagnostic::of(&error))? {
        Some(given) => {
            let hosts = endpoints::hosts(references, &registries)?;
            let host = only_host(&hosts).map_err(|error| Diagnostic::of(&error))?;
            Arc::new(Given::new(host, given).with_others(configured))
        }
        None => configured,
    };
    reach(&access.reach, registries, network, connections, credentials, reporter)
}

/// Where the user's credentials are: `authfile` is what `--authfile` names.
pub(super) fn environment(authfile: Option<&PathBuf>) -> Environment {
    Environment::of_process(authfile.cloned())
}

/// How registries are reached with these credentials.
pub(super) fn reach(
    access: &ReachArgs,
    registries: Arc<Registries>,
    network: &NetworkArgs,
    connections: usize,
    credentials: Arc<dyn CredentialSource>,
    reporter: &Arc<dyn Reporter>,
) -> Result<Options, Diagnostic> {
    let reporter = Arc::clone(reporter);
    Ok(Options {
        verification: endpoints::verification(access),
        ca_files: access.ca_file.clone(),
        certs_d: endpoints::certs_d(access)?,
        registries,
        plain_http: match (access.plain_http, access.tls_verify) {
            (true, _) => PlainHttp::Always,
            (false, Some(true)) => PlainHttp::Never,
            (false, _) => PlainHttp::LoopbackOnly,
        },
        credentials,
        policy: retry::Policy { retries: network.retries, ..retry::Policy::default() },
        stall_timeout: network.stall_timeout,
        connections,
        max_rate: None,
        observer: Arc::new(move |notice| {
            if let Some(event) = event(notice) {
                reporter.report(event);
            }
        }),
    })
}

/// What is logged in to.
pub(super) fn login_key(text: &str) -> Result<LoginKey, Diagnostic> {
    let hint = "name a registry as references do: quay.io, localhost:5000, quay.io/team";
    text.parse().map_err(|error: ReferenceError| {
        Diagnostic::of(&error).during(format!("\"{text}\" is no registry")).with_hint(hint)
    })
}

/// Who logs in: what the options say, and what is asked for on the terminal.
pub(super) fn login_credentials(
    args: &LoginArgs,
    key: &LoginKey,
    printer: &Printer,
) -> Result<Credentials, Diagnostic> {
    typed(args, key, printer).map_err(|error| Diagnostic::of(&error))
}

fn typed(args: &LoginArgs, key: &LoginKey, printer: &Printer) -> Result<Credentials, SettingsError> {
    let stdin = io::stdin();
    if args.password_stdin {
        let username = args.username.as_deref().unwrap_or_default();
        return if stdin.is_terminal() {
            Err(SettingsError::Echo)
        } else {
            basic(username, read_password(stdin.lock())?)
        };
    }
    if !stdin.is_terminal() {
        return Err(SettingsError::NoTerminal);
    }
    let username = if let Some(username) = &args.username {
        username.clone()
    } else {
        printer.prompt(&format!("user for {key}: "));
        let mut line = String::new();
        stdin.lock().take(LONGEST_PASSWORD).read_line(&mut line).map_err(SettingsError::Typed)?;
        line.trim().to_owned()
    };
    if username.is_empty() {
        return Err(SettingsError::NoUser);
    }
    let password = rpassword::prompt_password(escape(&format!("password of {username} for {key}: ")))
        .map_err(SettingsError::Typed)?;
    if password.is_empty() { Err(SettingsError::NothingTyped) } else { basic(&username, password) }
}

fn event(notice: Notice) -> Option<Event> {
    match notice {
        Notice::Retry { host, digest, after, announced, cause } => {
            Some(Event::Retry { digest, host, after_seconds: after.as_secs_f64(), announced, cause })
        }
        Notice::Warning(message) => Some(Event::Warning { message }),
        Notice::Chosen { written, reference, source } => {
            Some(Event::Chosen { written, reference: reference.to_string(), source })
        }
        _ => None,
    }
}

/// The credentials that the options give.
fn given(access: &RegistryArgs) -> Result<Option<Credentials>, SettingsError> {
    if let Some(secret) = &access.creds {
        let (username, password) = secret.reveal().split_once(':').ok_or(SettingsError::NoColon)?;
        return basic(username, password.to_owned()).map(Some);
    }
    if let Some(username) = &access.username {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(SettingsError::Echo);
        }
        return basic(username, read_password(stdin.lock())?).map(Some);
    }
    match &access.registry_token {
        // Anything else could not be sent in a header, and the request would go out without it.
        Some(token) if !is_header_text(token.reveal()) => Err(SettingsError::EmptyToken),
        Some(token) => Ok(Some(Credentials::RegistryToken(token.reveal().to_owned()))),
        None => Ok(None),
    }
}

fn is_header_text(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn basic(username: &str, password: String) -> Result<Credentials, SettingsError> {
    if username.is_empty() {
        return Err(SettingsError::NoUser);
    }
    if username.contains(':') {
        // RFC 7617 section 2: the user ends at the first colon.
        return Err(SettingsError::ColonInUser);
    }
    Ok(Credentials::Basic { username: username.to_owned(), password })
}

/// One line, without its end.
fn read_password(input: impl io::BufRead) -> Result<String, SettingsError> {
    let mut password = String::new();
    let read = input.take(LONGEST_PASSWORD).read_line(&mut password).map_err(SettingsError::Password)?;
    if read as u64 == LONGEST_PASSWORD {
        return Err(SettingsError::LongPassword);
    }
    let password = password.strip_suffix('\n').unwrap_or(&password);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() { Err(SettingsError::EmptyPassword) } else { Ok(password.to_owned()) }
}

/// The one registry that credentials given by option are for.
fn only_host(hosts: &BTreeSet<String>) -> Result<String, SettingsError> {
    let all: Vec<&str> = hosts.iter().map(String::as_str).collect();
    match &*all {
        [host] => Ok((*host).to_owned()),
        _ => Err(SettingsError::SeveralRegistries { hosts: all.join(", ") }),
    }
}

/// The folder of a layout that is read.
pub(super) fn folder(text: &OsString) -> Result<PathBuf, Diagnostic> {
    target::folder(text).map_err(|error| Diagnostic::of(&error))
}

/// Why options make no sense together, or what they name cannot be had. No message has a secret in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SettingsError {
    /// `--referrers` with an empty type.
    #[error("one of the types of --referrers is empty")]
    EmptyType,
    /// `--creds` without a colon.
    #[error("--creds has no colon between user and password")]
    NoColon,
    /// A user with a colon.
    #[error("a user's name cannot have a colon")]
    ColonInUser,
    /// No user.
    #[error("the user's name is empty")]
    NoUser,
    /// A password that would be shown.
    #[error("standard input is a terminal, on which the password would be shown")]
    Echo,
    /// No password.
    #[error("there is no password on standard input")]
    EmptyPassword,
    /// No token, or none that could be sent.
    #[error("the registry token is empty, or has characters that no header can carry")]
    EmptyToken,
    /// No password that anybody has.
    #[error("the password on standard input is longer than {LONGEST_PASSWORD} bytes")]
    LongPassword,
    /// No password that could be read.
    #[error("cannot read the password from standard input")]
    Password(#[source] io::Error),
    /// Nobody to ask.
    #[error("there is no terminal to ask for user and password on")]
    NoTerminal,
    /// What was asked for cannot be read.
    #[error("cannot read from the terminal")]
    Typed(#[source] io::Error),
    /// Nothing was typed.
    #[error("no password was typed")]
    NothingTyped,
    /// Credentials for nobody in particular.
    #[error("credentials are given by option, and the images are in several registries: {hosts}")]
    SeveralRegistries {
        /// The registries.
        hosts: String,
    },
    /// One argument only.
    #[error("an image and the folder OUT are needed, and there is one argument")]
    NoDestination,
    /// One ref.name for several images.
    #[error("--ref-name =TEXT names one image, and there are several")]
    OneNameForSeveral,
}

impl Failure for SettingsError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoColon => "to be safe from others on this machine, use `--username USER --password-stdin`",
            Self::NoDestination => "name the folder last: `ocipull fetch alpine:3.20 ./out`",
            Self::NoTerminal => "use `--username USER --password-stdin < FILE`",
            Self::Echo => "pipe it in: `ocipull … --password-stdin < FILE`",
            Self::SeveralRegistries { .. } => {
                "run one command for each registry: a fetch into the same layout, or `--repair=REF`"
            }
            Self::OneNameForSeveral => "use `--ref-name full`, or run one fetch for each image",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use ocipull::progress::NullReporter;
    use ocipull::registry::ServerVerification;

    use super::super::args::{Args, Command};
    use super::*;

    fn args(arguments: &[&str]) -> FetchArgs {
        match Args::parse_from(["ocipull", "fetch"].iter().chain(arguments)).command {
            Command::Fetch(args) => *args,
            _ => unreachable!("the command is fetch"),
        }
    }

    fn options(arguments: &[&str]) -> Result<Options, Diagnostic> {
        let args = args(arguments);
        let requests = fetch(&args)?.requests;
        let references: Vec<&Reference> = requests.iter().map(|request| &request.reference).collect();
        let reporter: Arc<dyn Reporter> = Arc::new(NullReporter);
        registry(&args.registry, &args.network, 4, &references, &reporter)
    }

    /// What a fetch does by default, and what each option changes.
    #[test]
    fn options_become_requests() {
        let plain = fetch(&args(&["a:1", "./out"])).unwrap();
        let request = &plain.requests[0];
        assert_eq!(plain.layout, std::path::Path::new("./out"));
        assert_eq!((&request.ref_name, request.mode), (&RefName::Tag, Mode::Fetch));
        assert_eq!((request.diff_ids, request.existing), (DiffIds::Verify, Present::Trust));
        assert_eq!((request.conflict, &request.platforms), (Conflict::Refuse, &Platforms::default()));
        let set = fetch(&args(&[
            "--replace",
            "--diff-ids",
            "skip",
            "--verify-existing",
            "--dry-run",
            "--platform",
            "linux/arm64",
            "--connections",
            "3",
            "--segment-size",
            "1MiB",
            "--ref-name",
            "none",
            "a:1",
            "out",
        ]));
        let request = &set.unwrap().requests[0];
        assert_eq!((&request.ref_name, request.mode), (&RefName::None, Mode::DryRun));
        assert_eq!((request.diff_ids, request.existing), (DiffIds::Skip, Present::Prove));
        assert_eq!(request.conflict, Conflict::TakeOver);
        assert_eq!(request.platforms, Platforms::of(&["linux/arm64".parse().unwrap()]));
        assert_eq!((request.transfer.connections, request.transfer.segment_size), (3, Some(1 << 20)));
    }

    /// The tags of one repository differ, so they are the short names; those of several may not. A tag is not written
    /// beside `--all-tags`, nor is a name that all would share.
    #[test]
    fn all_tags_are_those_of_repositories() {
        let one = fetch(&args(&["--all-tags", "--semver", "1", "docker://a", "out"])).unwrap();
        assert_eq!(one.requests[0].ref_name, RefName::Tag);
        assert_eq!(one.all_tags.unwrap().to_string(), "--semver '1'");
        let two = fetch(&args(&["--all-tags", "a", "b", "out"])).unwrap();
        assert!(two.requests.iter().all(|request| request.ref_name == RefName::Full));
        assert!(two.all_tags.unwrap().is_everything());
        assert!(fetch(&args(&["a", "out"])).unwrap().all_tags.is_none());
        let digest = format!("a@{}", ocipull::digest::Digest::sha256(b"x"));
        for bad in [&["a:1"][..], &[&digest], &["a", "b:1"], &["--ref-name", "=x", "a"], &["oci:a"]] {
            let all: Vec<&str> = ["--all-tags"].iter().chain(bad).chain(&["out"]).copied().collect();
            assert_eq!(fetch(&args(&all)).unwrap_err().kind(), Kind::Usage, "{bad:?}");
        }
    }

    /// Several images may have one tag: their short names are full ones then, and never all the same.
    #[test]
    fn several_references_are_named_in_full() {
        let fetched = fetch(&args(&["a:1", "b:1", "out"])).unwrap();
        assert!(fetched.requests.iter().all(|request| request.ref_name == RefName::Full));
        assert_eq!(fetched.requests[1].reference.to_string(), "docker.io/library/b:1");
        let error = fetch(&args(&["--ref-name", "=x", "a:1", "b:1", "out"])).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
    }

    /// One reference that does not parse stops them all, before anything is asked.
    #[test]
    fn every_reference_is_parsed_first() {
        let error = fetch(&args(&["a:1", "b/C", "out"])).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!(fetch(&args(&["a:1"])).unwrap_err().kind(), Kind::Usage);
    }

    /// Credentials given by option go to one registry only, however its name is written.
    #[test]
    fn given_credentials_are_for_one_registry() {
        assert!(options(&["--creds", "me:pass", "a", "docker.io/x/b", "index.docker.io/x/c", "out"]).is_ok());
        let error = options(&["--creds", "me:pass", "a", "quay.io/b/c", "out"]).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(format!("{error:?}").contains("docker.io, quay.io"), "{error:?}");
        assert!(options(&["a", "quay.io/b/c", "out"]).is_ok());
    }

    /// What is wrong with credentials is said without saying them.
    #[test]
    fn credentials_that_make_no_sense_are_refused() {
        for arguments in [&["--creds", "hidden"][..], &["--creds", ":hidden"], &["--registry-token", ""]] {
            let all: Vec<&str> = arguments.iter().chain(&["a", "out"]).copied().collect();
            let error = options(&all).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(!format!("{error:?}").contains("hidden"), "{error:?}");
        }
        let access = |text| args(&["--creds", text, "a", "out"]).registry;
        let given = given(&access("me:with:colons")).unwrap();
        let wanted = Credentials::Basic { username: "me".into(), password: "with:colons".into() };
        assert!(given == Some(wanted));
    }

    /// A password is a line: one end is taken off, be it of Unix or Windows, and no other white space.
    #[test]
    fn a_password_is_one_line() {
        for (input, wanted) in [
            ("secret", Some("secret")),
            ("secret\n", Some("secret")),
            ("secret\r\n", Some("secret")),
            (" se cret \n", Some(" se cret ")),
            ("secret\n\n", Some("secret")),
            ("secret\nmore\n", Some("secret")),
            ("", None),
            ("\n", None),
        ] {
            assert_eq!(read_password(input.as_bytes()).ok().as_deref(), wanted, "{input:?}");
        }
        assert!(matches!(read_password(&b"\xff\n"[..]), Err(SettingsError::Password(_))));
        let long = vec![b'x'; usize::try_from(LONGEST_PASSWORD).unwrap()];
        assert!(matches!(read_password(&long[..]), Err(SettingsError::LongPassword)));
    }

    /// The network's options reach the library as they are.
    #[test]
    fn network_options() {
        let options = options(&[
            "--retries",
            "0",
            "--stall-timeout",
            "2s",
            "--tls-verify=false",
            "--plain-http",
            "--ca-file",
            "x.pem",
            "a",
            "o",
        ]);
        let options = options.unwrap();
        assert_eq!((options.policy.retries, options.stall_timeout.as_secs()), (0, 2));
        assert_eq!(
            (options.verification, options.plain_http),
            (ServerVerification::Disabled, PlainHttp::Always)
        );
        assert_eq!((options.ca_files, options.connections), (vec![PathBuf::from("x.pem")], 4));
    }
}
