//! Deterministic content: bytes that do not compress, bytes that do, layers made of them, and their digests.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression as Level, GzBuilder};
use sha2::{Digest as _, Sha256, Sha512};

/// 1024 bytes.
pub(crate) const KIB: usize = 1024;
/// 1024 times 1024 bytes.
pub(crate) const MIB: usize = 1024 * KIB;

/// The magic number of zstd's first skippable frame (RFC 8878, 3.1.2).
const ZSTD_SKIPPABLE: u32 = 0x184D_2A50;

/// How a layer's tar becomes a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// One gzip member.
    Gzip,
    /// The tar cut into this many gzip members, one behind the other.
    GzipMembers(usize),
    /// One zstd frame.
    Zstd,
    /// The tar cut into this many zstd frames, a skippable frame before the first and after each, as zstd:chunked
    /// has them.
    ZstdFrames(usize),
    /// The tar itself.
    Plain,
}

impl Compression {
    /// `tar` compressed, the same bytes at every call.
    pub(crate) fn encode(self, tar: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => gzip(tar),
            Self::GzipMembers(count) => pieces(tar, count).flat_map(gzip).collect(),
            Self::Zstd => zstd::encode_all(tar, 1).unwrap(),
            Self::ZstdFrames(count) => {
                let mut blob = skippable(b"before the first frame");
                for piece in pieces(tar, count) {
                    blob.extend(zstd::encode_all(piece, 1).unwrap());
                    blob.extend(skippable(b"after a frame"));
                }
                blob
            }
            Self::Plain => tar.to_vec(),
        }
    }
}

/// `length` bytes that do not compress; the same ones at every call.
pub(crate) fn random(length: usize) -> Vec<u8> {
    random_from(1, length)
}

/// `length` bytes that do not compress, other ones for every seed (xorshift64*).
pub(crate) fn random_from(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// `length` bytes of text that compress well; the same ones at every call.
pub(crate) fn text(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 64);
    let mut line = 0;
    while bytes.len() < length {
        writeln!(bytes, "line {line} of a file that compresses well").unwrap();
        line += 1;
    }
    bytes.truncate(length);
    bytes
}

/// A tar archive with one regular file, whose name holds the layer's position: equal contents at two positions are
/// two different layers.
pub(crate) fn tar_of(position: usize, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::with_capacity(content.len() + 4 * KIB));
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, format!("data/layer-{position}"), content).unwrap();
    archive.into_inner().unwrap()
}

/// `sha256:` and the hex digest of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// `sha512:` and the hex digest of `bytes`.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

/// One gzip member with no time and no name in its header.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Level::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// Owned bytes that are cheap to slice, cloned by reference.
pub(crate) fn shared(bytes: impl Into<Vec<u8>>) -> Bytes {
    Bytes::from(bytes.into())
}

fn pieces(bytes: &[u8], count: usize) -> std::slice::Chunks<'_, u8> {
    bytes.chunks(bytes.len().div_ceil(count.max(1)).max(1))
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&ZSTD_SKIPPABLE.to_le_bytes()[..], &length.to_le_bytes(), content].concat()
}
