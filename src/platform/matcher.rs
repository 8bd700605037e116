//! Which images a platform can run, and in which order it prefers them.
//!
//! The order is containerd's: the platform itself, its lower variants, then the older architecture that it still runs.
//! It holds for the host and for a platform that was asked for alike.

use super::{Platform, windows};

/// The oldest arm version that an arm of a later version falls back to.
const OLDEST_ARM: u32 = 5;

/// The arm version whose programs a 64-bit arm runs in its 32-bit mode.
const ARM_OF_ARM64: u32 = 8;

/// Armv9.0 has what Armv8.5 has, and each later minor version keeps that distance.
const V9_IS_AHEAD_BY: u32 = 5;

/// The last minor version of Armv8.
const LAST_V8_MINOR: u32 = 9;

/// Decides for one wanted platform which others will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    wanted: Platform,
}

/// How well a platform suits the wanted one: the smallest rank is the best, equal ranks are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    architecture: u32,
    version: windows::Fit,
    unused_features: usize,
}

impl Rank {
    /// Whether nothing is better: the wanted architecture and variant, version and features.
    pub fn is_exact(self) -> bool {
        self == Self { architecture: 0, version: windows::Fit::Exact, unused_features: 0 }
    }
}

/// An entry of a list of platforms that may be taken, by its index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// Its platform matches.
    Matching(usize),
    /// It has no platform, or one without operating system or architecture. It may be taken only when the platform in
    /// its image config [matches](Matcher::matches).
    Undeclared(usize),
}

impl Candidate {
    /// The entry's index in the list.
    pub fn index(self) -> usize {
        match self {
            Self::Matching(index) | Self::Undeclared(index) => index,
        }
    }
}

impl Matcher {
    /// A matcher for `wanted`, whose spelling does not matter.
    pub fn new(wanted: &Platform) -> Self {
        Self { wanted: wanted.normalize() }
    }

    /// The wanted platform, normalised.
    pub fn wanted(&self) -> &Platform {
        &self.wanted
    }

    /// Whether an image for `candidate` will do.
    pub fn matches(&self, candidate: &Platform) -> bool {
        self.rank(candidate).is_some()
    }

    /// How well an image for `candidate` suits, or none where it will not do.
    ///
    /// The operating system must be the same and each of the candidate's features must be asked for. Then the nearest
    /// architecture and variant is best; of those alike, for Windows, the very `os.version`, then the newest that
    /// runs, then one that is not declared; of those alike the one that uses most of the features. `unknown/unknown`
    /// and a platform without operating system or architecture never match.
    pub fn rank(&self, candidate: &Platform) -> Option<Rank> {
        if candidate.is_unknown() || !is_declared(candidate) {
            return None;
        }
        let candidate = candidate.normalize();
        if candidate.os != self.wanted.os {
            return None;
        }
        // Both lists are without repetition, so that a subset's complement is the difference of the lengths.
        if !candidate.os_features.iter().all(|feature| self.wanted.os_features.contains(feature)) {
            return None;
        }
        let version = if self.wanted.os == "windows" {
            windows::fit(self.wanted.os_version.as_deref(), candidate.os_version.as_deref())?
        } else {
            windows::Fit::Exact
        };
        Some(Rank {
            architecture: architecture_rank(&self.wanted, &candidate)?,
            version,
            unused_features: self.wanted.os_features.len() - candidate.os_features.len(),
        })
    }

    /// The entries of a list that may be taken, best first: those that match by their rank, those of equal rank in the
    /// list's order, and at the end those that do not declare a platform.
    pub fn order<'a>(&self, list: impl IntoIterator<Item = Option<&'a Platform>>) -> Vec<Candidate> {
        let mut matching = Vec::new();
        let mut undeclared = Vec::new();
        for (index, platform) in list.into_iter().enumerate() {
            match platform.filter(|platform| is_declared(platform)) {
                Some(platform) => matching.extend(self.rank(platform).map(|rank| (rank, index))),
                None => undeclared.push(Candidate::Undeclared(index)),
            }
        }
        matching.sort_unstable();
        matching.into_iter().map(|(_, index)| Candidate::Matching(index)).chain(undeclared).collect()
    }
}

fn is_declared(platform: &Platform) -> bool {
    !platform.os.is_empty() && !platform.architecture.is_empty()
}

/// The place of the candidate in the wanted architecture's order of preference. Both are normalised.
fn architecture_rank(wanted: &Platform, candidate: &Platform) -> Option<u32> {
    let (wanted_variant, variant) = (wanted.variant.as_deref(), candidate.variant.as_deref());
    let is_same = wanted.architecture == candidate.architecture;
    match (wanted.architecture.as_str(), candidate.architecture.as_str()) {
        ("amd64", "amd64") => amd64_rank(wanted_variant, variant),
        ("amd64", "386") if variant.is_none() => Some(wanted_variant.and_then(wanted_version).unwrap_or(1)),
        ("arm", "arm") => arm_rank(wanted_variant, variant),
        ("arm64", "arm64" | "arm") => arm64_rank(wanted_variant, is_same, variant),
        _ => (is_same && wanted_variant == variant).then_some(0),
    }
}

fn amd64_rank(wanted: Option<&str>, variant: Option<&str>) -> Option<u32> {
    if wanted == variant {
        return Some(0);
    }
    let level = wanted.map_or(Some(1), wanted_version)?;
    level.checked_sub(variant.map_or(Some(1), version)?)
}

fn arm_rank(wanted: Option<&str>, variant: Option<&str>) -> Option<u32> {
    if wanted == variant {
        return Some(0);
    }
    let (wanted, version) = (wanted.and_then(wanted_version)?, variant.and_then(version)?);
    if version < OLDEST_ARM { None } else { wanted.checked_sub(version) }
}

/// An unknown variant, wanted or found, matches nothing: who asked for it cannot be served by guessing.
fn arm64_rank(wanted: Option<&str>, is_arm64: bool, variant: Option<&str>) -> Option<u32> {
    let (major, minor) = arm64_version(wanted)?;
    // The wanted version's own line of minor versions, and where Armv8's begins behind it.
    let own_line = minor + 1;
    let (v8_minor, v8_rank) =
        if major == 9 { ((minor + V9_IS_AHEAD_BY).min(LAST_V8_MINOR), own_line) } else { (minor, 0) };
    if !is_arm64 {
        let version = variant.and_then(version)?;
        let steps = ARM_OF_ARM64.checked_sub(version).filter(|_| version >= OLDEST_ARM)?;
        return Some(v8_rank + v8_minor + 1 + steps);
    }
    match arm64_version(variant)? {
        (8, found) => Some(v8_rank + v8_minor.checked_sub(found)?),
        (_, found) if major == 9 => minor.checked_sub(found),
        _ => None,
    }
}

/// Major and minor version of a normalised arm64 variant: `v8.1` to `v8.9`, `v9`, `v9.1` to `v9.9`, and none, which
/// is v8.0.
fn arm64_version(variant: Option<&str>) -> Option<(u32, u32)> {
    let Some(variant) = variant else { return Some((8, 0)) };
    match variant.as_bytes() {
        b"v9" => Some((9, 0)),
        [b'v', major @ (b'8' | b'9'), b'.', minor @ b'1'..=b'9'] => {
            Some((u32::from(major - b'0'), u32::from(minor - b'0')))
        }
        _ => None,
    }
}

/// The number of a wanted variant, which people also write without the `v`.
fn wanted_version(variant: &str) -> Option<u32> {
    version(variant).or_else(|| version(&format!("v{variant}")))
}

/// The number of a variant `vN`. Leading zeros would make two spellings of one version.
fn version(variant: &str) -> Option<u32> {
    let digits = variant.strip_prefix('v')?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    is_number.then(|| digits.parse().ok())?
}
