//! Which Windows images a Windows can run, by `os.version`.
//!
//! Windows containers share the host's kernel, and before Windows Server 2022 that interface changed with every build.
//! Since then it is stable: a host runs images from the long-term release before it up to its own build. See
//! Microsoft's "Windows container version compatibility".

use std::cmp::Reverse;

/// Windows Server 2022, the first long-term release with the stable interface.
const FIRST_STABLE_BUILD: u16 = 20348;

/// How well an image's version suits the one that is wanted; smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fit {
    /// The very version, or none was asked for.
    Exact,
    /// Another version that runs as well: the newest first, by build and then by revision.
    Compatible(Reverse<u16>, Reverse<u32>),
    /// The image does not say which version it is for.
    Undeclared,
}

/// The fit of an image's `os.version`, or none where it does not run.
///
/// A version without a build number cannot be compared, so it only fits one that reads the same.
pub(super) fn fit(wanted: Option<&str>, image: Option<&str>) -> Option<Fit> {
    let Some(wanted) = wanted else { return Some(Fit::Exact) };
    let Some(image) = image else { return Some(Fit::Undeclared) };
    if wanted == image {
        return Some(Fit::Exact);
    }
    let (wanted, image) = (Version::parse(wanted)?, Version::parse(image)?);
    wanted.runs(image).then_some(Fit::Compatible(Reverse(image.build), Reverse(image.revision)))
}

#[derive(Clone, Copy)]
struct Version {
    major: u8,
    minor: u8,
    build: u16,
    /// Says which updates are in; it has no say in what runs.
    revision: u32,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.');
        Some(Self {
            major: number(numbers.next()?)?,
            minor: number(numbers.next()?)?,
            build: number(numbers.next()?)?,
            revision: numbers.next().and_then(number).unwrap_or(0),
        })
    }

    fn runs(self, image: Self) -> bool {
        if (self.major, self.minor) != (image.major, image.minor) {
            return false;
        }
        if self.build < FIRST_STABLE_BUILD {
            return self.build == image.build;
        }
        (FIRST_STABLE_BUILD..=self.build).contains(&image.build)
    }
}

/// Digits only: Rust's own parser would take a sign as well.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
