use std::io::Write as _;

use flate2::{Compression, GzBuilder};

use super::*;
use crate::digest::{Algorithm, Digest};
use crate::verify::Hashing;
use crate::verify::diff_id::Expansion;

/// Uncompresses `chunks` and returns the encoding and the digest of what came out.
fn decompress<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<(Encoding, Digest), DecodeError> {
    let output = Uncompressed::new(&[Algorithm::Sha256], Hashing::Inline, Expansion::of(u64::MAX));
    let mut decompressor = Decompressor::new(output, Plain::Hash, WindowBudget::unlimited());
    for chunk in chunks {
        assert_eq!(decompressor.write(chunk)?, Accepted::all(chunk.len()));
    }
    let decompressed = decompressor.finish()?;
    Ok((decompressed.encoding, decompressed.output.unwrap().digest))
}

/// The outcome for `bytes`, which must not depend on where they are split.
fn everywhere(bytes: &[u8]) -> Result<(Encoding, Digest), DecodeError> {
    let outcome = decompress([bytes]);
    for split in 0..=bytes.len() {
        let (first, second) = bytes.split_at(split);
        assert_eq!(decompress([first, second]), outcome, "split at {split}");
    }
    assert_eq!(decompress(bytes.chunks(1)), outcome, "byte by byte");
    outcome
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|index| b"layers all the way down, "[(index * index / 7) % 25]).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn skippable(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&[0x50 | number, 0x2a, 0x4d, 0x18], &length, content].concat()
}

/// A frame with this header after the magic number, and one raw block that holds `content`.
fn raw_frame(header: &[u8], content: &[u8]) -> Vec<u8> {
    let block = (u32::try_from(content.len()).unwrap() << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd], header, &block[..3], content].concat()
}

/// The bytes say what they are; nearly right ones are plain.
#[test]
fn encoding_is_told_from_the_bytes() {
    let plain: [&[u8]; 16] = [
        b"",
        b"\0",
        b"\x1f",
        b"\x1f\x8b",
        b"\x1f\x8b\x07 not deflate",
        b"\x28\xb5\x2f",
        b"\x28\xb5\x2f\xfe",
        b"\x50\x2a\x4d",
        b"\x60\x2a\x4d\x18",
        b"\xfd7zXZ",
        b"\xfd7zXZ\x01",
        b"BZh",
        b"BZhello.txt",
        b"BZh91AY&SX",
        b"./etc/passwd",
        b"\xb5\x28\x2f\xfd",
    ];
    for bytes in plain {
        assert_eq!(everywhere(bytes), Ok((Encoding::Plain, Digest::sha256(bytes))), "{bytes:02x?}");
    }
    let refused: [(&[u8], &str); 5] = [
        (b"\xfd7zXZ\0", "xz"),
        (b"\xfd7zXZ\0\0\x04", "xz"),
        (b"BZh91AY&SY", "bzip2"),
        (b"BZh11AY&SY and more", "bzip2"),
        (b"BZh5\x17\x72\x45\x38\x50\x90\0\0\0\0", "bzip2"),
    ];
    for (bytes, compression) in refused {
        assert_eq!(everywhere(bytes), Err(DecodeError::Unsupported { compression }), "{bytes:02x?}");
    }
}

/// Members and frames of any number are one layer, wherever the chunks end.
#[test]
fn members_and_frames_are_joined() {
    let (one, two) = (text(300), text(70));
    let joined = [&one[..], &two].concat();
    let cases = [
        (Encoding::Gzip, gzip(&one), one.clone()),
        (Encoding::Gzip, gzip(b""), vec![]),
        (Encoding::Gzip, [gzip(&one), gzip(&two)].concat(), joined.clone()),
        (Encoding::Gzip, [gzip(b""), gzip(&one), gzip(b""), gzip(b""), gzip(&two)].concat(), joined.clone()),
        (Encoding::Zstd, zstd(&one), one.clone()),
        (Encoding::Zstd, zstd(b""), vec![]),
        (Encoding::Zstd, [zstd(&one), zstd(&two)].concat(), joined.clone()),
        (Encoding::Zstd, skippable(0, b""), vec![]),
        (Encoding::Zstd, [skippable(15, b"some"), zstd(&one)].concat(), one.clone()),
        (
            Encoding::Zstd,
            [zstd(&one), skippable(3, b"table"), skippable(0, b""), zstd(&two), skippable(9, b"of contents")]
                .concat(),
            joined.clone(),
        ),
        (Encoding::Zstd, [raw_frame(&[0, 0], &one), raw_frame(&[0x20, 70], &two)].concat(), joined.clone()),
    ];
    for (index, (encoding, bytes, plain)) in cases.into_iter().enumerate() {
        assert_eq!(everywhere(&bytes), Ok((encoding, Digest::sha256(&plain))), "case {index}");
    }
}

/// A layer that ends early is an error at every length but those where a member or frame ends.
#[test]
fn what_is_cut_short_is_refused() {
    let members = [gzip(&text(100)), gzip(b""), gzip(&text(20))];
    let frames = [zstd(&text(100)), skippable(1, b"skip"), raw_frame(&[0x20, 9], &text(9))];
    for (encoding, parts) in [(Encoding::Gzip, members), (Encoding::Zstd, frames)] {
        let whole = parts.concat();
        let ends: Vec<usize> = (1..=3).map(|parts_taken| parts[..parts_taken].concat().len()).collect();
        let shortest = if encoding == Encoding::Gzip { 3 } else { 4 };
        for length in shortest..=whole.len() {
            let outcome = decompress([&whole[..length]]);
            assert_eq!(decompress(whole[..length].chunks(3)), outcome);
            if ends.contains(&length) {
                assert!(outcome.is_ok(), "{encoding} at {length}: {outcome:?}");
            } else {
                let begun = ends.iter().copied().filter(|end| *end < length).max().unwrap_or(0);
                let offset = begun as u64;
                assert_eq!(outcome, Err(DecodeError::Truncated { encoding, offset }), "at {length}");
            }
        }
    }
}

/// As in Go's readers, only another member or frame may follow the last one: no padding, no leftovers.
#[test]
fn what_follows_the_end_is_refused() {
    let leftovers: [&[u8]; 5] = [b"\0", &[0; 512], b"garbage", b"\x1f\x8c", b"\x28\xb5\x2f\xfe\0"];
    for (encoding, layer) in [(Encoding::Gzip, gzip(b"layer")), (Encoding::Zstd, zstd(b"layer"))] {
        let offset = layer.len() as u64;
        for leftover in leftovers {
            let bytes = [&layer, leftover].concat();
            assert_eq!(
                everywhere(&bytes),
                Err(DecodeError::Trailing { encoding, offset }),
                "{leftover:02x?}"
            );
        }
    }
    let mixed = [gzip(b"layer"), zstd(b"layer")].concat();
    assert!(matches!(everywhere(&mixed), Err(DecodeError::Trailing { encoding: Encoding::Gzip, .. })));
}

/// A gzip header with these flags and optional parts, its checksum taken off by `error` where there is one.
fn gzip_header(flags: u8, extra: &[u8], name: &[u8], comment: &[u8], error: u16) -> Vec<u8> {
    let mut header = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 255];
    if flags & 4 != 0 {
        header.extend(u16::try_from(extra.len()).unwrap().to_le_bytes());
        header.extend(extra);
    }
    if flags & 8 != 0 {
        header.extend([name, b"\0"].concat());
    }
    if flags & 16 != 0 {
        header.extend([comment, b"\0"].concat());
    }
    if flags & 2 != 0 {
        let [low, high, ..] = crc32fast::hash(&header).to_le_bytes();
        header.extend((u16::from_le_bytes([low, high]) ^ error).to_le_bytes());
    }
    header
}

/// Every optional part of a header, in every combination, and of any length.
#[test]
fn gzip_headers_of_every_shape() {
    let plain = text(50);
    let body = gzip(&plain)[10..].to_vec();
    let long = vec![b'n'; 2000];
    for flags in 0..32 {
        for (extra, name) in [(&b""[..], &b""[..]), (b"\x01\x02\0\0", b"layer.tar"), (&long, &long)] {
            let bytes = [gzip_header(flags, extra, name, b"a comment", 0), body.clone()].concat();
            let outcome = Ok((Encoding::Gzip, Digest::sha256(&plain)));
            assert_eq!(decompress([&bytes[..]]), outcome, "flags {flags:05b}");
            assert_eq!(decompress(bytes.chunks(1)), outcome, "flags {flags:05b}");
            if flags & 2 != 0 {
                let bytes = [gzip_header(flags, extra, name, b"a comment", 0x100), body.clone()].concat();
                let error = decompress(bytes.chunks(7)).unwrap_err();
                assert!(error.to_string().contains("header's checksum"), "{error}");
            }
        }
    }
    for flags in [0x20, 0x40, 0x80] {
        let error = everywhere(&[gzip_header(flags, b"", b"", b"", 0), body.clone()].concat()).unwrap_err();
        assert!(error.to_string().contains("reserved header flags"), "{error}");
    }
}

/// Checksum, length and deflate data are all looked at, in every member.
#[test]
fn damaged_gzip_is_refused() {
    let first = gzip(&text(64));
    let second = gzip(&text(600));
    let end = second.len();
    let cases = [
        (2, 9, "unknown compression method 9"),
        (10, 0xff, "the deflate data is not valid"),
        (end - 8, second[end - 8] ^ 1, "the checksum does not hold"),
        (end - 4, second[end - 4] ^ 1, "the length does not hold"),
        (end - 1, 1, "the length does not hold"),
    ];
    for (at, value, wanted) in cases {
        let mut damaged = second.clone();
        damaged[at] = value;
        let offset = first.len() as u64;
        match everywhere(&[&first[..], &damaged].concat()) {
            Err(DecodeError::Damaged { encoding: Encoding::Gzip, offset: found, reason }) => {
                assert_eq!((found, &reason[..]), (offset, wanted), "byte {at}");
            }
            outcome => panic!("byte {at}: {outcome:?}"),
        }
    }
}

/// Checksum, sizes and blocks are all looked at, in every frame.
#[test]
fn damaged_zstd_is_refused() {
    let first = zstd(&text(64));
    let second = zstd(&text(600));
    let mut wrong_sum = second.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    let mut reserved_bit = second.clone();
    reserved_bit[4] |= 8;
    let cases = [
        (wrong_sum, "checksum"),
        (reserved_bit, "reserved"),
        (raw_frame(&[0x20, 8], b"nine chars"), "orrupt"),
        (raw_frame(&[0x20, 12], b"nine chars"), "orrupt"),
        ([0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0b111, 0, 0].to_vec(), "orrupt"),
    ];
    for (damaged, wanted) in cases {
        match everywhere(&[&first[..], &damaged].concat()) {
            Err(DecodeError::Damaged { encoding: Encoding::Zstd, offset, reason }) => {
                assert_eq!(offset, first.len() as u64);
                assert!(reason.contains(wanted), "{wanted}: {reason}");
            }
            outcome => panic!("{wanted}: {outcome:?}"),
        }
    }
}

/// Every window up to 128 MiB is taken; what a header claims beyond is refused before anything is allocated.
#[test]
fn windows_up_to_the_limit() {
    let plain = text(4000);
    for log in [10, 20, 22, 23, 26, 27] {
        let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.long_distance_matching(log == 22).unwrap();
        encoder.write_all(&plain).unwrap();
        let layer = encoder.finish().unwrap();
        assert_eq!(decompress(layer.chunks(999)), Ok((Encoding::Zstd, Digest::sha256(&plain))), "{log}");
    }
    let limit = 1 << 27;
    let refused: [(&[u8], u64); 5] = [
        (&[0x00, 17 << 3 | 1], (1 << 27) + (1 << 24)),
        (&[0x00, 18 << 3], 1 << 28),
        (&[0x00, 0xff], (1 << 41) + 7 * (1 << 38)),
        (&[0xa0, 1, 0, 0, 8], (1 << 27) + 1),
        (&[0xe0, 255, 255, 255, 255, 255, 255, 255, 127], u64::MAX >> 1),
    ];
    let first = zstd(b"fine");
    let offset = first.len() as u64;
    for (header, window) in refused {
        let bytes = [&first[..], &raw_frame(header, b"content")].concat();
        let error = everywhere(&bytes).unwrap_err();
        assert_eq!(error, DecodeError::WindowTooLarge { offset, window, limit });
        assert!(error.to_string().contains(&format!("a window of {window} bytes")), "{error}");
        assert!(error.hint().unwrap().contains("--long=27"));
    }
}

/// A frame that needs a dictionary is refused by the dictionary's number.
#[test]
fn dictionaries_are_refused() {
    let cases: [(&[u8], u32); 3] =
        [(&[0x01, 0x00, 7], 7), (&[0x22, 0x39, 0x30, 10], 12345), (&[0x03, 0x00, 4, 3, 2, 1], 0x0102_0304)];
    for (header, dictionary) in cases {
        let error = everywhere(&raw_frame(header, b"ten bytes.")).unwrap_err();
        assert_eq!(error, DecodeError::Dictionary { offset: 0, dictionary });
    }
}

/// A hostile layer of very many empty members or frames takes a time that is proportional to its length.
#[test]
fn many_empty_members_and_frames() {
    let empty = Digest::sha256(b"");
    let members = gzip(b"").repeat(20_000);
    assert_eq!(decompress(members.chunks(65_536)), Ok((Encoding::Gzip, empty)));
    let frames = [raw_frame(&[0x20, 0], b""), raw_frame(&[0x00, 0x50], b""), skippable(0, b"")].concat();
    assert_eq!(decompress(frames.repeat(5_000).chunks(65_536)), Ok((Encoding::Zstd, empty)));
    let up_and_down = [raw_frame(&[0x00, 0x78], b""), raw_frame(&[0x00, 0x70], b"")].concat();
    assert_eq!(decompress(up_and_down.repeat(20_000).chunks(65_536)), Ok((Encoding::Zstd, empty)));
}

/// The layers in testdata, each made in one of the forms that tools write: what they are to their readers is what their
/// diff IDs say, and what no reader takes is refused by name.
#[test]
fn layers_in_every_form() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/layers");
    let listed = include_str!("../../../testdata/layers/diff-ids.txt");
    let mut seen = 0;
    for line in listed.lines().filter(|line| !line.starts_with('#')) {
        let (name, diff_id) = line.split_once('\t').unwrap();
        let diff_id: Digest = diff_id.split('\t').next().unwrap().parse().unwrap();
        let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();
        let unsupported = |compression| Err(DecodeError::Unsupported { compression });
        let expected = match name {
            "plain.tar" => Ok((Encoding::Plain, diff_id)),
            "gzip.tar.gz" | "estargz.tar.gz" | "empty.tar.gz" => Ok((Encoding::Gzip, diff_id)),
            "zstd.tar.zst" | "chunked.tar.zst" => Ok((Encoding::Zstd, diff_id)),
            // Go's reader, which containerd, moby and containers/image unpack with, takes no padding either.
            "padded.tar.gz" => Err(DecodeError::Trailing { encoding: Encoding::Gzip, offset: 298 }),
            "xz.tar.xz" => unsupported("xz"),
            "bzip2.tar.bz2" => unsupported("bzip2"),
            other => panic!("nothing is said of {other}"),
        };
        for size in [1, 51, 64, 512, 8192] {
            assert_eq!(decompress(bytes.chunks(size)), expected, "{name} in chunks of {size}");
        }
        seen += 1;
    }
    assert_eq!(seen, 9);
}
