//! `Content-Encoding` that nobody asked for. Every request says `Accept-Encoding: identity`, and some servers and
//! caches compress all the same (RFC 9110 section 8.4). Documents are decoded here, under their cap; a blob's reader
//! decides for itself, since the digest does.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::error::{About, RegistryError};
use crate::text::printable;

/// The largest zstd window for a document, as a power of two: 8 MiB, as RFC 9659 sets it for this encoding.
const WINDOW_LOG: u32 = 23;

/// How many encodings of one body are undone. Two happen, by a mistake; each may make the cap out of little.
const MOST: usize = 4;

/// An encoding that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentEncoding {
    /// gzip (RFC 1952), also by its old name `x-gzip`.
    Gzip,
    /// zlib (RFC 1950), or by a common mistake bare deflate (RFC 1951).
    Deflate,
    /// zstd (RFC 8878).
    Zstd,
}

impl ContentEncoding {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// The name in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// The encoding of a blob's body, when it is one that can be undone. Others (S3's `aws-chunked` on stored objects)
    /// leave the bytes as they are often enough to take them as they come.
    pub(super) fn of_blob(header: &str) -> Option<Self> {
        let mut names = names(header);
        let encoding = Self::named(names.next()?)?;
        names.next().is_none().then_some(encoding)
    }
}

/// The longest body that `size` bytes may become. What is incompressible grows: an encoder in a hurry writes every block
/// with the fixed Huffman codes, whose longest have 9 bits a byte (RFC 1951, section 3.2.6). Headers come on top.
pub(super) fn longest(size: u64) -> u64 {
    size.saturating_add(size / 8).saturating_add(64 << 10)
}

fn names(header: &str) -> impl DoubleEndedIterator<Item = &str> {
    header.split(',').map(str::trim).filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))
}

/// Why a body cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    TooLarge,
    Broken { encoding: String, reason: String },
}

impl Undecodable {
    pub(super) fn about(self, about: About, cap: u64) -> RegistryError {
        match self {
            Self::TooLarge => RegistryError::TooLarge { about, cap },
            Self::Broken { encoding, reason } => RegistryError::Encoding { about, encoding, reason },
        }
    }
}

/// `body` without the encodings that `header` lists (the last one applied comes last), at most `cap` bytes.
pub(super) fn decode(body: Bytes, header: &str, cap: u64) -> Result<Bytes, Undecodable> {
    if names(header).nth(MOST).is_some() {
        let reason = format!("these are more than {MOST} encodings");
        return Err(Undecodable::Broken { encoding: printable(header), reason });
    }
    let mut body = body;
    for name in names(header).rev() {
        let encoding = ContentEncoding::named(name).ok_or_else(|| Undecodable::Broken {
            encoding: printable(name),
            reason: "it is unknown".to_owned(),
        })?;
        body = undo(encoding, &body, cap)?;
    }
    Ok(body)
}

/// `body` without one encoding, at most `cap` bytes.
pub(super) fn undo(encoding: ContentEncoding, body: &[u8], cap: u64) -> Result<Bytes, Undecodable> {
    let decoded = read(encoding, body, cap).map_err(|error| Undecodable::Broken {
        encoding: encoding.name().to_owned(),
        reason: printable(&error.to_string()),
    })?;
    if decoded.len() as u64 > cap { Err(Undecodable::TooLarge) } else { Ok(decoded.into()) }
}

/// The decoded bytes, one past the cap being enough to tell.
fn read(encoding: ContentEncoding, body: &[u8], cap: u64) -> io::Result<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut read = |reader: &mut dyn Read| reader.take(cap.saturating_add(1)).read_to_end(&mut decoded);
    match encoding {
        ContentEncoding::Gzip => read(&mut MultiGzDecoder::new(body))?,
        ContentEncoding::Deflate if is_zlib(body) => read(&mut ZlibDecoder::new(body))?,
        ContentEncoding::Deflate => read(&mut DeflateDecoder::new(body))?,
        ContentEncoding::Zstd => {
            let mut frames = zstd::stream::read::Decoder::with_buffer(body)?;
            frames.window_log_max(WINDOW_LOG)?;
            read(&mut frames)?
        }
    };
    Ok(decoded)
}

/// RFC 1950 section 2.2: method 8, and a header that is a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..]
        if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    /// Each encoding, its misspellings, and several on top of each other.
    #[test]
    fn encodings_are_undone() {
        let text = b"{\"some\": \"document\"}".as_slice();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(text).unwrap();
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(text).unwrap();
        let zstd = zstd::encode_all(text, 1).unwrap();
        let cases = [
            ("", text.to_vec()),
            ("identity", text.to_vec()),
            ("gzip", gzip(text)),
            ("X-GZip", gzip(text)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", deflate.finish().unwrap()),
            ("zstd", zstd),
            ("gzip, identity, gzip", gzip(&gzip(text))),
        ];
        for (header, body) in cases {
            assert_eq!(decode(body.into(), header, 1000).unwrap(), text, "{header}");
        }
    }

    /// A bomb is stopped at the cap; garbage and unknown encodings are errors that name the encoding.
    #[test]
    fn what_cannot_be_undone() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert_eq!(decode(bomb.into(), "gzip", 1000), Err(Undecodable::TooLarge));
        for header in ["gzip", "zstd", "br", "gzip,gzip,gzip,gzip,gzip"] {
            let refusal = decode(Bytes::from_static(b"garbage"), header, 1000).unwrap_err();
            assert!(matches!(refusal, Undecodable::Broken { encoding, .. } if encoding == header));
        }
        assert_eq!(ContentEncoding::of_blob("gzip"), Some(ContentEncoding::Gzip));
        for header in ["", "identity", "aws-chunked", "gzip, gzip"] {
            assert_eq!(ContentEncoding::of_blob(header), None, "{header}");
        }
    }
}
