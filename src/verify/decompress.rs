//! Uncompresses a layer as it comes in: gzip of several members, zstd of several frames, or plain bytes.
//!
//! The encoding is told from the bytes, never from a media type: gzip by `1f 8b 08`, zstd by the magic number of a
//! frame or of a skippable frame, xz and bzip2 so that they can be refused by name (no image spec has media types for
//! them, and the digest of their compressed bytes would be a wrong diff ID); everything else is plain. Chunks may be
//! of any size, and any chunking has the same outcome, errors included.
//!
//! What is accepted is what the Go tools accept that will unpack the layer: every member's and frame's checksum must
//! hold, and bytes after the last one that do not begin another (zeros too) are an error.
//!
//! Memory is bounded: the window of gzip's decoder is 32 KiB, a zstd window is at most 128 MiB and granted by a
//! [`WindowBudget`](window::WindowBudget), and the output goes through the fixed buffers of
//! [`Uncompressed`](super::diff_id::Uncompressed).

mod gzip;
pub(super) mod window;
mod zstd;

use std::fmt;

use crate::failure::{Failure, Kind};

use super::Accepted;
use super::diff_id::{Output, Uncompressed};
use gzip::Gzip;
use window::WindowBudget;
use zstd::Zstd;

/// How a layer is encoded, as its bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// gzip (RFC 1952), one or more members.
    Gzip,
    /// Zstandard (RFC 8878), one or more frames, skippable ones among them.
    Zstd,
    /// Not compressed.
    Plain,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Plain => "plain",
        })
    }
}

/// Why a layer cannot be uncompressed. An `offset` is where the gzip member or zstd frame in question begins, in
/// compressed bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The layer is compressed with something that no image spec knows.
    #[error("{compression}-compressed layers are not supported (gzip, zstd and plain ones are)")]
    Unsupported {
        /// Its name.
        compression: &'static str,
    },
    /// A member or frame is damaged.
    #[error("the {encoding} data that begins at offset {offset} is damaged: {reason}")]
    Damaged {
        /// The encoding.
        encoding: Encoding,
        /// Where the member or frame begins.
        offset: u64,
        /// What does not hold.
        reason: String,
    },
    /// A member or frame is not complete.
    #[error("the {encoding} data that begins at offset {offset} is cut short")]
    Truncated {
        /// The encoding.
        encoding: Encoding,
        /// Where the member or frame begins.
        offset: u64,
    },
    /// There is something after the last member or frame that is not another one.
    #[error("there is something other than {encoding} data at offset {offset}, after the end of what was")]
    Trailing {
        /// The encoding.
        encoding: Encoding,
        /// Where it begins.
        offset: u64,
    },
    /// A zstd frame asks for more memory than is granted to any.
    #[error(
        "the zstd frame at offset {offset} needs a window of {window} bytes, and at most {limit} are accepted"
    )]
    WindowTooLarge {
        /// Where the frame begins.
        offset: u64,
        /// The window that its header asks for, in bytes.
        window: u64,
        /// The largest one that is accepted, in bytes.
        limit: u64,
    },
    /// A zstd frame was made with a dictionary, which nobody has.
    #[error(
        "the zstd frame at offset {offset} needs the dictionary {dictionary}, which layers cannot bring along"
    )]
    Dictionary {
        /// Where the frame begins.
        offset: u64,
        /// The dictionary's number.
        dictionary: u32,
    },
    /// The layer grows beyond what is accepted for its compressed size.
    #[error("its {size} bytes expand to more than the {limit} bytes that are accepted")]
    Expansion {
        /// The layer's size as it is stored, in bytes.
        size: u64,
        /// The most that is accepted, in bytes.
        limit: u64,
    },
    /// The thread that computes the diff ID died.
    #[error("the thread that hashes the uncompressed bytes died")]
    HashingThread,
}

impl Failure for DecodeError {
    fn kind(&self) -> Kind {
        match self {
            Self::HashingThread => Kind::Other,
            _ => Kind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { .. } => Some("push the layer again compressed with gzip or zstd".into()),
            Self::WindowTooLarge { .. } => Some(
                "push the layer again compressed with a window of at most 128 MiB (zstd --long=27)".into(),
            ),
            _ => None,
        }
    }
}

/// What a layer uncompressed to.
#[derive(Debug)]
pub(super) struct Decompressed {
    pub(super) encoding: Encoding,
    /// None for a plain layer whose bytes are hashed elsewhere with the same algorithm.
    pub(super) output: Option<Output>,
}

/// What to do with the output of a layer that turns out not to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    /// Hash it like any other.
    Hash,
    /// Leave it alone: the caller hashes the same bytes with the same algorithm.
    Leave,
}

/// Uncompresses one layer.
#[derive(Debug)]
pub(super) struct Decompressor {
    stage: Stage,
    output: Uncompressed,
    plain: Plain,
    budget: WindowBudget,
}

#[derive(Debug)]
enum Stage {
    /// The first bytes, until they say what they are.
    Telling {
        prefix: [u8; LONGEST_MAGIC],
        known: usize,
    },
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
    Plain,
}

impl Decompressor {
    pub(super) fn new(output: Uncompressed, plain: Plain, budget: WindowBudget) -> Self {
        Self { stage: Stage::Telling { prefix: [0; LONGEST_MAGIC], known: 0 }, output, plain, budget }
    }

    /// From now on the output may be this long, in bytes.
    pub(super) fn limit(&mut self, limit: u64) {
        self.output.limit(limit);
    }

    /// Whether its output is hashed on another thread.
    pub(super) fn is_on_thread(&self) -> bool {
        self.output.is_on_thread()
    }

    /// Takes in more compressed bytes: all of them, unless a zstd window has to be waited for.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<Accepted, DecodeError> {
        let mut rest = bytes;
        if let Stage::Telling { prefix, known } = &mut self.stage {
            let mut told = tell(&prefix[..*known]);
            while told.is_none()
                && let Some((first, others)) = rest.split_first()
            {
                prefix[*known] = *first;
                *known += 1;
                rest = others;
                told = tell(&prefix[..*known]);
            }
            let Some(told) = told else { return Ok(Accepted::all(bytes.len())) };
            let (prefix, known) = (*prefix, *known);
            self.stage = self.begin(told?);
            // Never waits: a window is asked for only after a frame's whole header, which is longer than its magic.
            let _ = self.decode(&prefix[..known])?;
        }
        let told = bytes.len() - rest.len();
        let accepted = self.decode(rest)?;
        Ok(Accepted { consumed: told + accepted.consumed, blocked: accepted.blocked })
    }

    fn begin(&self, encoding: Encoding) -> Stage {
        match encoding {
            Encoding::Gzip => Stage::Gzip(Box::default()),
            Encoding::Zstd => Stage::Zstd(Box::new(Zstd::new(self.budget.clone()))),
            Encoding::Plain => Stage::Plain,
        }
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<Accepted, DecodeError> {
        match &mut self.stage {
            Stage::Gzip(gzip) => gzip.write(bytes, &mut self.output)?,
            Stage::Zstd(zstd) => return zstd.write(bytes, &mut self.output),
            Stage::Plain if self.plain == Plain::Hash => self.output.copy(bytes)?,
            Stage::Plain | Stage::Telling { .. } => {}
        }
        Ok(Accepted::all(bytes.len()))
    }

    /// The end of the compressed bytes.
    pub(super) fn finish(mut self) -> Result<Decompressed, DecodeError> {
        if let Stage::Telling { prefix, known } = self.stage {
            // Too short to be anything else.
            self.stage = Stage::Plain;
            let _ = self.decode(&prefix[..known])?;
        }
        let encoding = match self.stage {
            Stage::Gzip(gzip) => {
                gzip.finish()?;
                Encoding::Gzip
            }
            Stage::Zstd(zstd) => {
                zstd.finish()?;
                Encoding::Zstd
            }
            Stage::Plain | Stage::Telling { .. } => Encoding::Plain,
        };
        let output = match (encoding, self.plain) {
            (Encoding::Plain, Plain::Leave) => None,
            _ => Some(self.output.finish()?),
        };
        Ok(Decompressed { encoding, output })
    }
}

const LONGEST_MAGIC: usize = 10;

/// The first bytes of a format. Of those at `loose`, only the upper half counts.
struct Magic {
    bytes: &'static [u8],
    loose: Option<usize>,
    meaning: Result<Encoding, &'static str>,
}

const MAGICS: [Magic; 6] = [
    Magic { bytes: &[0x1f, 0x8b, 0x08], loose: None, meaning: Ok(Encoding::Gzip) },
    Magic { bytes: &[0x28, 0xb5, 0x2f, 0xfd], loose: None, meaning: Ok(Encoding::Zstd) },
    Magic { bytes: &[0x50, 0x2a, 0x4d, 0x18], loose: Some(0), meaning: Ok(Encoding::Zstd) },
    Magic { bytes: b"\xfd7zXZ\0", loose: None, meaning: Err("xz") },
    // With the level's digit and the magic number of a block, or of an empty stream's end, that follow: "BZh" alone
    // may well be how the name of a plain tar's first file begins.
    Magic { bytes: b"BZh0\x31\x41\x59\x26\x53\x59", loose: Some(3), meaning: Err("bzip2") },
    Magic { bytes: b"BZh0\x17\x72\x45\x38\x50\x90", loose: Some(3), meaning: Err("bzip2") },
];

/// What `prefix` begins, or none while more bytes could still make it either of two things.
fn tell(prefix: &[u8]) -> Option<Result<Encoding, DecodeError>> {
    let mut fitting = MAGICS.iter().filter(|magic| {
        magic.bytes.iter().zip(prefix).enumerate().all(|(index, (wanted, found))| {
            let mask = if magic.loose == Some(index) { 0xf0 } else { 0xff };
            wanted & mask == found & mask
        })
    });
    match fitting.next() {
        None => Some(Ok(Encoding::Plain)),
        // No magic is the beginning of another, so the first whole one is the only one.
        Some(magic) if prefix.len() >= magic.bytes.len() => {
            Some(magic.meaning.map_err(|compression| DecodeError::Unsupported { compression }))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
