//! The arguments of `ocipull fetch`, and the parsing of those values that only it has.

use std::ffi::OsString;
use std::num::NonZeroU64;

use clap::ValueEnum;
use ocipull::fetch::RefName;
use ocipull::platform::Platform;
use ocipull::tags::{Pattern, VersionRange};
use ocipull::transfer;

use super::{HOW, NetworkArgs, ProgressArgs, RegistryArgs, WHAT};

/// Below this a range costs more than it carries.
const SMALLEST_SEGMENT: u64 = 1024;

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

    #[command(flatten)]
    pub(crate) forms: FormsArgs,

    #[command(flatten)]
    pub(crate) tags: AllTagsArgs,

    /// The image's short name in the layout: its tag, its full name, none, or TEXT
    ///
    /// This is the annotation org.opencontainers.image.ref.name, which skopeo and umoci go by. The default is `tag`
    /// for one reference (with --all-tags one repository) and `full` for several.
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

    #[command(flatten)]
    pub(crate) download: DownloadArgs,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) output: ProgressArgs,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// How blobs are downloaded.
#[derive(Debug, clap::Args)]
pub(crate) struct DownloadArgs {
    /// How many connections are used at most, over all blobs together
    #[arg(long, value_name = "N", default_value_t = connections(), help_heading = HOW,
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) connections: u16,

    /// The unit in which large blobs are downloaded in parallel (KB is 1000, KiB 1024) [default: 8MiB, and 16MiB where few connections are
    /// fast]
    #[arg(long, value_name = "SIZE", value_parser = segment_size, help_heading = HOW)]
    pub(crate) segment_size: Option<u64>,

    /// How many bytes come a second at most, over all connections together, such as 10MiB/s
    #[arg(long, value_name = "RATE", value_parser = super::rate::rate, help_heading = HOW)]
    pub(crate) max_rate: Option<NonZeroU64>,
}

/// Every tag instead of one.
#[derive(Debug, clap::Args)]
pub(crate) struct AllTagsArgs {
    /// Pull every tag of each repository REF, which has neither tag nor digest
    #[arg(long, help_heading = WHAT)]
    pub(crate) all_tags: bool,

    /// With --all-tags: only tags in which this regular expression is found; ^ and $ tie it to their ends
    #[arg(long = "match", value_name = "REGEX", requires = "all_tags", allow_hyphen_values = true,
        help_heading = WHAT)]
    pub(crate) pattern: Option<Pattern>,

    /// With --all-tags: only tags that are versions in this range, such as '>=3.0, <4' (as for `ocipull tags`)
    #[arg(long, value_name = "RANGE", requires = "all_tags", help_heading = WHAT)]
    pub(crate) semver: Option<VersionRange>,
}

/// Which forms of the images are pulled.
#[derive(Debug, clap::Args)]
pub(crate) struct FormsArgs {
    /// The platform to pull, such as linux/arm64 or linux/arm/v7; may be repeated
    ///
    /// The default is this host's (Linux where the host is macOS). An image for a platform that this one can run is
    /// taken too, the best first, as docker does. With several, OUT gets the image's index and of what it lists these
    /// platforms.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = WHAT)]
    pub(crate) platform: Vec<Platform>,

    /// Pull the whole index: every platform, and whatever else it lists
    #[arg(long, conflicts_with = "platform", help_heading = WHAT)]
    pub(crate) all_platforms: bool,

    /// Keep the registry's bytes, or change Docker's media types to OCI's
    ///
    /// `preserve` keeps digests and signatures valid. `oci` is for tools that know OCI's media types only, umoci among
    /// them; digests of manifests change, those of layers and configs do not, and nothing is compressed anew.
    #[arg(long, value_name = "preserve|oci", value_enum, default_value_t = FormatArg::Preserve, help_heading = WHAT)]
    pub(crate) format: FormatArg,

    /// Whether layers that live at other URLs are pulled too
    ///
    /// Base layers of Windows images are such. They are asked for without credentials.
    #[arg(long, value_name = "fetch|skip", value_enum, default_value_t = ForeignLayersArg::Fetch, help_heading = WHAT)]
    pub(crate) foreign_layers: ForeignLayersArg,

    /// Pull what belongs to the images too: signatures, SBOMs, attestations, or only those of the types given
    ///
    /// That is what refers to an image by the referrers API (or the tag that stands for it), what cosign keeps under tags
    /// of its own, and, where no types are given, signatures of simple signing.
    #[arg(long, value_name = "TYPE,…", num_args = 0.., require_equals = true, value_delimiter = ',',
        default_missing_value = "", help_heading = WHAT)]
    pub(crate) referrers: Option<Vec<String>>,

    /// Accept images in Docker's old schema 1, and convert them to OCI's format
    #[arg(long, help_heading = WHAT)]
    pub(crate) allow_schema1: bool,
}

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

  Two platforms of an image, with its index:
    ocipull fetch --platform linux/amd64 --platform linux/arm64 alpine:3.20 ./out

  With its signatures and whatever else refers to it:
    ocipull fetch --referrers ghcr.io/org/app:v2 ./out

  For umoci, which does not know Docker's media types:
    ocipull fetch --format oci alpine:3.20 ./out

  All releases of a minor version:
    ocipull fetch --all-tags --semver '~3.1' quay.io/prometheus/prometheus ./out

  What would it be?
    ocipull fetch --dry-run alpine:3.20 ./out";

/// Whether diff IDs are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffIdsArg {
    /// Uncompress each layer and hold it against the config
    Verify,
    /// Check compressed digests only
    Skip,
}

/// Whether the registry's bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// Keep the registry's bytes
    Preserve,
    /// Change Docker's media types to OCI's
    Oci,
}

/// What is done with layers that live at other URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForeignLayersArg {
    /// Pull them
    Fetch,
    /// Leave them where they are
    Skip,
}

pub(super) fn connections() -> u16 {
    u16::try_from(transfer::Options::CONNECTIONS).unwrap_or(u16::MAX)
}

pub(super) fn ref_name(text: &str) -> Result<RefName, String> {
    match text {
        "tag" => Ok(RefName::Tag),
        "full" => Ok(RefName::Full),
        "none" => Ok(RefName::None),
        _ => match text.strip_prefix('=') {
            Some("") => Err("there is no text after the `=`".to_owned()),
            Some(name) if !is_ref_name(name) => {
                Err("a name has letters, digits and -._:@/+ only, and begins with a letter or a digit"
                    .to_owned())
            }
            Some(name) => Ok(RefName::Text(name.to_owned())),
            None => Err(format!("it is `tag`, `full`, `none`, or `={text}` for that text")),
        },
    }
}

/// The image spec's characters for `org.opencontainers.image.ref.name` ("Annotations").
fn is_ref_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@/+".contains(&byte);
    name.bytes().all(is_allowed) && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

pub(super) fn segment_size(text: &str) -> Result<u64, String> {
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
