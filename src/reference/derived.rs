//! Tags that are made of a digest: under them stands what belongs to the manifest with that digest.

use super::Tag;
use crate::digest::{Algorithm, Digest};

/// How much of an algorithm's name and of the hex digits such a tag has, which keeps it a tag whatever the algorithm is.
const ALGORITHM: usize = 32;
const HEX: usize = 64;

impl Tag {
    /// What cosign appends to the tag of a manifest's digest: signatures, attestations, lists of materials.
    pub const COSIGN_KINDS: [&'static str; 3] = ["sig", "att", "sbom"];

    /// The tag under which the referrers of a manifest are listed where the registry does not list them by itself
    /// (distribution spec, "Referrers Tag Schema"): `ALGORITHM-HEX`, cut to 32 and 64 characters.
    pub fn of_referrers(subject: &Digest) -> Self {
        let (algorithm, mut hex) = (subject.algorithm().name(), subject.hex());
        hex.truncate(HEX);
        let algorithm = &algorithm[..algorithm.len().min(ALGORITHM)];
        Self(format!("{algorithm}-{hex}"))
    }

    /// The tag under which cosign keeps one of its [kinds](Tag::COSIGN_KINDS). A sha512 digest is too long for one, and
    /// cosign has none either.
    pub fn of_cosign(subject: &Digest, kind: &str) -> Option<Self> {
        format!("{}-{}.{kind}", subject.algorithm(), subject.hex()).parse().ok()
    }

    /// Whether it is a tag that one of the above makes of some digest.
    pub fn is_of_digest(&self) -> bool {
        let tag = match self.0.rsplit_once('.') {
            Some((tag, kind)) if Self::COSIGN_KINDS.contains(&kind) => tag,
            _ => &self.0,
        };
        let Some((algorithm, hex)) = tag.split_once('-') else { return false };
        let is_known = Algorithm::ALL.iter().any(|known| known.name() == algorithm);
        is_known && hex.len() == HEX && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tag is at most 128 characters; what is cut is the spec's to say, or nobody would find it.
    #[test]
    fn tags_of_digests() {
        let sha256 = Algorithm::Sha256.digest(b"x");
        assert_eq!(Tag::of_referrers(&sha256).as_str(), format!("sha256-{}", sha256.hex()));
        let signature = Tag::of_cosign(&sha256, "sig").unwrap();
        assert_eq!(signature.as_str(), format!("sha256-{}.sig", sha256.hex()));
        let sha512 = Algorithm::Sha512.digest(b"x");
        assert_eq!(Tag::of_referrers(&sha512).as_str(), format!("sha512-{}", &sha512.hex()[..64]));
        assert_eq!(Tag::of_cosign(&sha512, "sig"), None);
        for tag in [Tag::of_referrers(&sha256), Tag::of_referrers(&sha512)] {
            assert_eq!(tag.as_str().parse::<Tag>().unwrap(), tag);
        }
    }

    /// A tag that only looks a little like one is an image's.
    #[test]
    fn what_is_a_tag_of_a_digest() {
        let hex = Algorithm::Sha256.digest(b"x").hex();
        let cases = [
            (format!("sha256-{hex}"), true),
            (format!("sha512-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}.att"), true),
            (format!("sha256-{hex}.sbom"), true),
            (format!("sha256-{hex}.other"), false),
            (format!("sha256-{hex}0"), false),
            (format!("sha256-{}", &hex[1..]), false),
            (format!("sha256-{}", hex.to_ascii_uppercase()), false),
            (format!("md5-{hex}"), false),
            (format!("v1-sha256-{hex}"), false),
            (format!("{hex}.sig"), false),
            ("latest".to_owned(), false),
            ("1.0.sig".to_owned(), false),
        ];
        for (tag, expected) in cases {
            assert_eq!(tag.parse::<Tag>().unwrap().is_of_digest(), expected, "{tag}");
        }
    }
}
