//! The arguments of `convert`.

use std::ffi::OsString;

use clap::ValueEnum;

use super::ProgressArgs;

/// Convert images of a layout to OCI's media types, in place and offline.
///
/// Manifests, indexes, configs and layers that go by Docker's media types get OCI's; layers and configs keep their bytes.
/// Everything that a converted image refers to is proven first. What is OCI already stays as it is. Digests of converted
/// manifests change, so that signatures of the old ones do not cover them; the old digest stays in an annotation. Without
/// NAME all images of the layout are converted.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ConvertArgs {
    /// A layout, and the name of an image in it
    #[arg(value_name = "OUT[:NAME]")]
    pub(crate) target: OsString,

    /// What to convert to
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) format: ConvertFormatArg,

    #[command(flatten)]
    pub(crate) output: ProgressArgs,
}

const EXAMPLES: &str = "\
Examples:
  ocipull convert ./out --format oci
  ocipull convert ./out:3.20 --format oci && umoci unpack --image ./out:3.20 bundle";

/// What images are converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConvertFormatArg {
    /// OCI's media types
    Oci,
}
