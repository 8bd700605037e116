//! A few bytes that become many: in every compression, of everything that may be compressed.

use std::sync::LazyLock;

use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::make::{INDEX, MANIFEST, NOBODYS, honest, one_layer};
use super::row::{Row, refused, refused_when_fetched, row};
use super::server::{Reply, Script};
use super::tokens::with_token_service;
use crate::support::{Built, Compression, sha256};

const MIB: usize = 1 << 20;
/// What the bombs become: more than a command may have.
const BLAST: usize = 96 * MIB;
const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// White space before a document: JSON until the last byte.
static GZIP: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    spaces(&mut encoder);
    encoder.finish().unwrap()
});
static ZLIB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    spaces(&mut encoder);
    encoder.finish().unwrap()
});
static DEFLATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    spaces(&mut encoder);
    encoder.finish().unwrap()
});
static ZSTD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    spaces(&mut encoder);
    encoder.finish().unwrap()
});

fn spaces(encoder: &mut impl std::io::Write) {
    let piece = vec![b' '; MIB];
    for _ in 0..BLAST / MIB {
        encoder.write_all(&piece).unwrap();
    }
}

/// A bomb by its `Content-Encoding`.
fn encoded() -> Vec<(&'static str, Vec<u8>)> {
    let small = Compression::Gzip.encode(&[b' '; 100]);
    vec![
        ("gzip", GZIP.clone()),
        ("x-gzip", GZIP.clone()),
        ("deflate", ZLIB.clone()),
        ("Deflate", DEFLATE.clone()),
        ("zstd", ZSTD.clone()),
        ("gzip, gzip", Compression::Gzip.encode(&GZIP)),
        ("zstd, gzip", Compression::Gzip.encode(&ZSTD)),
        ("gzip, identity", small.repeat(2 * MIB / small.len()).repeat(1)),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = in_documents();
    rows.extend(in_other_answers());
    rows.extend(in_layers());
    rows
}

fn in_documents() -> Vec<Row> {
    let mut rows = Vec::new();
    for (encoding, bomb) in encoded().into_iter().take(7) {
        rows.push(refused(format!("a manifest that is a bomb in {encoding}"), move |_| {
            let reply = Reply::ok(MANIFEST, bomb.clone()).header("Content-Encoding", encoding);
            Script::default().hostile("/v2/app/manifests/*", reply)
        }));
    }
    for (name, encoding, body) in [
        ("an unknown encoding", "br", b"\x8b\x02\x80{}\x03".to_vec()),
        ("an encoding that is not there", "gzip", b"{}".to_vec()),
        ("an encoding that is a path", "../../gzip", b"{}".to_vec()),
        ("an encoding that is cut", "gzip", GZIP[..GZIP.len() / 2].to_vec()),
        ("an empty encoding of gzip", "gzip", vec![]),
        ("a hundred encodings", HUNDRED.as_str(), nested(100)),
        ("a zstd frame with a huge window", "zstd", window(31)),
    ] {
        rows.push(refused(format!("a manifest in {name}"), move |_| {
            let reply = Reply::ok(MANIFEST, body.clone()).header("Content-Encoding", encoding);
            Script::default().hostile("/v2/app/manifests/*", reply)
        }));
    }
    for (encoding, bomb) in encoded() {
        let runs = [("fetch -v REF HELD", 6), ("inspect REF", 6)];
        rows.push(row(format!("a config that is a bomb in {encoding}"), &runs, move |_| {
            let content = Built::from(honest());
            let config = content.config.clone().expect("an image has a config").digest;
            let reply = Reply::ok("x/y", bomb.clone()).header("Content-Encoding", encoding);
            Script::of(content).hostile(format!("/v2/app/blobs/{config}"), reply)
        }));
    }
    rows
}

/// gzip in gzip in gzip: the innermost is a document that is no manifest.
/// As many names of it as are written here.
static HUNDRED: LazyLock<String> = LazyLock::new(|| vec!["gzip"; 100].join(", "));

fn nested(times: usize) -> Vec<u8> {
    (0..times).fold(b"{}".to_vec(), |inner, _| Compression::Gzip.encode(&inner))
}

/// A zstd frame that asks for a window of two to this power (RFC 8878, 3.1.1.1.2), and has one empty block.
fn window(log: u8) -> Vec<u8> {
    vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3, 0x01, 0x00, 0x00]
}

fn in_other_answers() -> Vec<Row> {
    let gzip = |reply: Reply| reply.header("Content-Encoding", "gzip");
    let bomb = move |media_type: &str| gzip(Reply::ok(media_type, GZIP.clone()));
    vec![
        with_token_service("a token's answer that is a bomb", bomb("application/json"), 6),
        row(
            "a list of tags that is a bomb",
            &[("tags REPO", 6), ("fetch --all-tags REPO OUT", 6)],
            move |_| Script::default().hostile("/v2/app/tags/list", bomb("application/json")),
        ),
        row(
            "referrers that are a bomb",
            &[("fetch --referrers REF HELD", 6), ("inspect REF", 0)],
            move |_| Script::of(honest()).hostile("/v2/app/referrers/*", bomb(INDEX)),
        ),
        row("an error body that is a bomb", &[("fetch -v REF HELD", 3), ("tags REPO", 3)], move |_| {
            let reply = gzip(Reply::status("404 Not Found", GZIP.clone()));
            Script::default().hostile("/v2/app/*", reply)
        }),
    ]
}

/// In layers: what they become is hashed and kept nowhere.
fn in_layers() -> Vec<Row> {
    let layer = |name: &str, media_type: &'static str, bytes: Vec<u8>| {
        refused_when_fetched(name, move |_| Script::document(one_layer(media_type, &bytes, NOBODYS)))
    };
    let honest_of = |members: usize| {
        let piece = Compression::Gzip.encode(&[0; 64]);
        piece.repeat(members)
    };
    let frames = Compression::Zstd.encode(b"x").repeat(50_000);
    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &u32::MAX.to_le_bytes()].concat();
    let mut rows = vec![
        layer("a layer that is a bomb in gzip", GZIP_LAYER, GZIP.clone()),
        layer("a layer that is a bomb in zstd", ZSTD_LAYER, ZSTD.clone()),
        layer("a layer that is a bomb in a bomb", GZIP_LAYER, Compression::Gzip.encode(&GZIP)),
        layer("a layer of 50,000 gzip members", GZIP_LAYER, honest_of(50_000)),
        layer("a layer of 50,000 zstd frames", ZSTD_LAYER, frames),
        layer("a layer of a zstd window of 2 GiB", ZSTD_LAYER, window(31)),
        layer("a layer of a zstd window of 256 MiB", ZSTD_LAYER, window(28)),
        layer("a layer of the largest zstd window there is", ZSTD_LAYER, window(41)),
        layer("a layer of a skippable frame of 4 GiB that is not there", ZSTD_LAYER, skippable),
        layer("a layer of gzip that ends in its header", GZIP_LAYER, vec![0x1f, 0x8b, 8, 0x1c, 0, 0]),
        layer(
            "a layer of gzip with a name without an end",
            GZIP_LAYER,
            [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..], &vec![b'x'; 4 * MIB]].concat(),
        ),
        layer(
            "a layer of gzip with zeros after it",
            GZIP_LAYER,
            [&Compression::Gzip.encode(b"x")[..], &[0; 512]].concat(),
        ),
        layer("a layer of gzip that is another's by its checksum", GZIP_LAYER, {
            let mut bytes = Compression::Gzip.encode(b"x");
            let end = bytes.len() - 6;
            bytes[end] ^= 1;
            bytes
        }),
        layer("a layer of xz", GZIP_LAYER, b"\xfd7zXZ\0\0\x04".repeat(20)),
        layer("a layer of bzip2", GZIP_LAYER, b"BZh91AY&SY".repeat(20)),
    ];
    // With its true diff ID such a layer is an image's: it is large, and that is all.
    let spaces = vec![b' '; BLAST];
    let diff_id = sha256(&spaces);
    rows.push(row("a layer that is a bomb and tells the truth", &[("fetch -v REF HELD", 0)], move |_| {
        Script::document(one_layer(GZIP_LAYER, &GZIP, &diff_id))
    }));
    rows
}
