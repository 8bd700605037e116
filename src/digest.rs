//! Content digests: `ALGORITHM:HEX`, as the OCI image spec's "Digests" section defines them.
//!
//! A [`Digest`] cannot be built invalid, so it may become part of a path or a URL without another look
//! (CVE-2024-3727 is what happens otherwise). Only the registered algorithms `sha256` and `sha512` exist here;
//! a digest of any other algorithm does not parse, because nothing could prove it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// The length of the longest supported digest, sha512's, in bytes.
const LONGEST: usize = 64;

/// A registered digest algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256: 32 bytes, 64 hex digits.
    Sha256,
    /// SHA-512: 64 bytes, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// Every supported algorithm, the canonical one first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name in front of the colon, which is also the folder's name under `blobs/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The digest's length in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// A hasher that computes digests of this algorithm.
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher(State::Sha256(sha2::Sha256::new())),
            Self::Sha512 => Hasher(State::Sha512(sha2::Sha512::new())),
        }
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A proven-valid digest. Its text form is the canonical one: lower-case hex of exactly the algorithm's length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// Bytes beyond the algorithm's length are zero, so that the derived comparisons hold.
    bytes: [u8; LONGEST],
}

impl Digest {
    fn from_bytes(algorithm: Algorithm, source: &[u8]) -> Self {
        let mut bytes = [0; LONGEST];
        bytes[..source.len()].copy_from_slice(source);
        Self { algorithm, bytes }
    }

    /// The sha256 digest of `bytes`, the canonical algorithm of the image spec.
    pub fn sha256(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest's bytes: 32 of them for sha256, 64 for sha512.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_len()]
    }

    /// The part after the colon: lower-case hex.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        let mut hex = String::with_capacity(2 * self.algorithm.digest_len());
        for byte in self.as_bytes() {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }

    /// The algorithm and the first twelve hex digits, for people to read.
    pub fn short(&self) -> String {
        format!("{}:{}", self.algorithm, &self.hex()[..12])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    /// Parses `ALGORITHM:HEX`.
    ///
    /// # Errors
    /// [`DigestError::NoColon`], [`DigestError::UnsupportedAlgorithm`], [`DigestError::BadLength`] or
    /// [`DigestError::BadHex`] (upper-case hex among them: the spec allows lower case only).
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::NoColon)?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| DigestError::UnsupportedAlgorithm { algorithm: capped(name) })?;
        let wanted = 2 * algorithm.digest_len();
        if hex.len() != wanted {
            return Err(DigestError::BadLength { algorithm, wanted, found: hex.len() });
        }
        let mut bytes = [0; LONGEST];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = (nibble(pair[0]).ok_or(DigestError::BadHex)? << 4)
                | nibble(pair[1]).ok_or(DigestError::BadHex)?;
        }
        Ok(Self { algorithm, bytes })
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Outside text in an error is capped and shown without control characters.
fn capped(text: &str) -> String {
    text.chars().take(32).flat_map(char::escape_default).collect()
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// There is no colon between algorithm and hex.
    #[error("a digest is ALGORITHM:HEX, and there is no colon")]
    NoColon,
    /// The algorithm is not one that can be computed here.
    #[error("unsupported digest algorithm \"{algorithm}\" (sha256 and sha512 are supported)")]
    UnsupportedAlgorithm {
        /// The name that was found, capped and escaped.
        algorithm: String,
    },
    /// The hex part does not have the algorithm's length.
    #[error("a {algorithm} digest has {wanted} hex digits, not {found}")]
    BadLength {
        /// The algorithm named.
        algorithm: Algorithm,
        /// How many hex digits it has.
        wanted: usize,
        /// How many bytes were found.
        found: usize,
    },
    /// The hex part has something other than lower-case hex digits.
    #[error("a digest has lower-case hex digits only")]
    BadHex,
}

/// Computes a digest from bytes in any chunking.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of everything taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hasher) => Digest::from_bytes(Algorithm::Sha256, &hasher.finalize()),
            State::Sha512(hasher) => Digest::from_bytes(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// The text form is the one that went in, for both algorithms.
    #[test]
    fn parse_and_display_are_inverse() {
        for algorithm in Algorithm::ALL {
            let digest = algorithm.digest(b"some bytes");
            assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            assert_eq!(digest.hex().len(), 2 * algorithm.digest_len());
        }
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
    }

    /// Whatever could walk out of a folder, or that nothing could prove, is no digest.
    #[test]
    fn what_is_not_a_digest_is_refused() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        let cases: [(&str, DigestError); 7] = [
            ("", DigestError::NoColon),
            ("sha256", DigestError::NoColon),
            (":", DigestError::UnsupportedAlgorithm { algorithm: String::new() }),
            ("md5:00", DigestError::UnsupportedAlgorithm { algorithm: "md5".into() }),
            ("../x:00", DigestError::UnsupportedAlgorithm { algorithm: "../x".into() }),
            (
                "sha256:../../etc/passwd",
                DigestError::BadLength { algorithm: Algorithm::Sha256, wanted: 64, found: 16 },
            ),
            (&upper, DigestError::BadHex),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }

    /// Any chunking hashes alike.
    #[test]
    fn chunking_does_not_matter() {
        let mut hasher = Algorithm::Sha512.hasher();
        hasher.update(b"some ");
        hasher.update(b"");
        hasher.update(b"bytes");
        assert_eq!(hasher.finish(), Algorithm::Sha512.digest(b"some bytes"));
    }
}
