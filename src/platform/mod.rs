//! Platforms: what an image runs on, which spellings mean the same, and which images a platform can run.
//!
//! A [`Platform`] holds what a manifest, a config or a person said, as it was said; [`Platform::normalize`] brings the
//! spellings together, and a [`Matcher`] compares normalised values, so that nobody else has to. The names are Go's
//! (`GOOS`, `GOARCH`), as the OCI image spec's "Image Index" section asks for; normalisation, the text form and the
//! order of preference are containerd's. Which entry of an index is taken in the end, and what is said when none
//! matches, is left to the fetch.

mod host;
mod matcher;
mod specifier;
mod windows;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::matcher::{Candidate, Matcher, Rank};
pub use self::specifier::PlatformError;

/// A platform, with the fields and JSON names of the image spec's platform object.
///
/// Anything may stand in the fields, because anything may stand in a manifest: absent, `null` and empty strings are
/// alike, unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// The CPU architecture by Go's name, `amd64`; empty when it was not said.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub architecture: String,
    /// The operating system by Go's name, `linux`; empty when it was not said.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub os: String,
    /// The version of the operating system, `10.0.20348.587`. It counts for Windows only.
    #[serde(
        default,
        rename = "os.version",
        deserialize_with = "empty_is_absent",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Features of the operating system that the image needs, or that the host has: `win32k`.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_is_absent",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the architecture: `v7` of `arm`, `v3` of `amd64`.
    #[serde(default, deserialize_with = "empty_is_absent", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

fn null_is_absent<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn empty_is_absent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.filter(|text: &String| !text.is_empty()))
}

impl Platform {
    /// A platform of an operating system and an architecture, nothing else said.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), ..Self::default() }
    }

    /// The machine that this program runs on, as it is: the architecture that the program was built for, the level of
    /// an amd64 CPU (`v2` to `v4`), the version of a 32-bit arm CPU, and the version and `win32k` feature of Windows.
    pub fn host() -> Self {
        host::detect()
    }

    /// The platform to fetch for when none is named: [`host`](Self::host), but Linux on macOS, where containers run in
    /// a Linux virtual machine.
    pub fn default_for_fetch() -> Self {
        let host = Self::host();
        if host.os == "darwin" { Self { os: "linux".to_owned(), ..host } } else { host }
    }

    /// Whether this is `unknown/unknown`, by which `BuildKit` marks attestations. It never matches.
    pub fn is_unknown(&self) -> bool {
        self.os.eq_ignore_ascii_case("unknown") && self.architecture.eq_ignore_ascii_case("unknown")
    }

    /// Whether it says nothing of operating system and architecture, as if it were not there.
    pub fn is_empty(&self) -> bool {
        self.os.is_empty() && self.architecture.is_empty()
    }

    /// The canonical spelling, by containerd's rules:
    ///
    /// - operating system, architecture and variant in lower case; `macos` is `darwin`
    /// - `x86_64` and `x86-64` are `amd64`, whose `v1` is no variant
    /// - `i386` is `386` without a variant
    /// - `aarch64` is `arm64`, whose `8`, `v8` and `v8.0` are no variant and whose `9`, `9.0` and `v9.0` are `v9`
    /// - `armhf` is `arm/v7`, `armel` is `arm/v6`, `arm` without a variant is `v7`, its `5` to `8` are `v5` to `v8`
    /// - features are sorted, each there once
    ///
    /// What is empty stays empty: nothing is filled in from the host.
    #[must_use]
    pub fn normalize(&self) -> Self {
        let (architecture, variant) =
            normalize_architecture(&self.architecture, self.variant.as_deref().unwrap_or_default());
        let mut os_features = self.os_features.clone();
        os_features.retain(|feature| !feature.is_empty());
        os_features.sort_unstable();
        os_features.dedup();
        Self {
            architecture,
            os: normalize_os(&self.os),
            os_version: self.os_version.clone().filter(|version| !version.is_empty()),
            os_features,
            variant,
        }
    }
}

fn normalize_os(os: &str) -> String {
    let os = os.to_lowercase();
    if os == "macos" { "darwin".to_owned() } else { os }
}

fn normalize_architecture(architecture: &str, variant: &str) -> (String, Option<String>) {
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        as_it_is => as_it_is,
    };
    (architecture.to_owned(), Some(variant.to_owned()).filter(|variant| !variant.is_empty()))
}

#[cfg(test)]
mod tests;
