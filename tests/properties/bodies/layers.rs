//! What layers are made of: their encodings, and the tar streams inside of them.

use std::io::{self, Read, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use ocipull::digest::{Algorithm, Digest};
use ocipull::registry::fuzzing::decoded;
use ocipull::verify::{
    BlobVerifier, Caution, Conclusion, Content, DiffId, Encoding, Hashing, ProvenBlob, VerifyError,
};

use super::{assert_fit, assert_shown};

/// How far an input may expand before it is only looked at whether caution stops it. A bomb would prove nothing but that
/// hashing takes time.
const MOST: u64 = 1 << 20;

/// The cap of a document in these bodies.
const CAP: u64 = 1 << 16;

const LAYER: Content = Content::Layer { diff_id: Algorithm::Sha256 };

/// A byte that says how to cut, and a layer, compressed or not.
///
/// The verdict, errors included, is the same however the bytes are cut, wherever they are hashed and however cautiously they
/// are expanded; plain readers of gzip and zstd take the same layers and get the same bytes. Only the blob's own bytes are
/// proven, and a document grows no further than its cap.
pub fn decompression(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else { return };
    check_documents(bytes);
    let expected = read_plainly(bytes);
    if expected.as_ref().is_ok_and(|plain| plain.len() as u64 > MOST) {
        let verifier = new(bytes, LAYER).with_caution(Caution { floor: MOST / 2, factor: 1 });
        assert!(
            matches!(fed(verifier, bytes, &[]), Ok(Conclusion::Again(_)) | Err(_)),
            "caution stops a bomb"
        );
        return;
    }
    let verdict = finished(new(bytes, LAYER), bytes, &[]);
    match (&verdict, &expected) {
        (Ok(proof), Ok(plain)) => check_proof(proof, bytes, plain),
        (Err(error), Err(_)) => assert_fit(error),
        (verdict, Ok(_)) => panic!("a plain reader takes it: {verdict:?}"),
        (Ok(proof), Err(error)) => panic!("a plain reader says {error}: {proof:?}"),
    }
    let verdict = said(&verdict);
    for sizes in [&[1][..], &[usize::from(cut).max(1)], &[3, usize::from(cut), 0, 17]] {
        assert_eq!(said(&finished(new(bytes, LAYER), bytes, sizes)), verdict, "in pieces of {sizes:?}");
    }
    let threaded = new(bytes, LAYER).with_hashing(Hashing::OwnThread);
    assert_eq!(said(&finished(threaded, bytes, &[])), verdict, "on a thread");
    for caution in [Caution::DIGEST_FIRST, Caution { floor: 16, factor: 1 }, Caution { floor: 0, factor: 3 }]
    {
        let cautious = new(bytes, LAYER).with_caution(caution);
        assert_eq!(said(&concluded(cautious, bytes, &[usize::from(cut).max(1)])), verdict, "{caution:?}");
    }
    check_other_blobs(bytes, verdict.is_ok());
}

/// Who is told another size or another digest proves nothing, whatever the bytes are.
fn check_other_blobs(bytes: &[u8], is_sound: bool) {
    let (digest, size) = (Digest::sha256(bytes), bytes.len() as u64);
    let other = BlobVerifier::new(Digest::sha256(b"another blob, not this"), size, LAYER);
    assert!(matches!(finished(other, bytes, &[]), Err(VerifyError::DigestMismatch { .. })));
    let longer = BlobVerifier::new(digest, size + 1, LAYER);
    assert!(matches!(finished(longer, bytes, &[]), Err(VerifyError::SizeMismatch { .. })));
    if size > 0 {
        let shorter = BlobVerifier::new(digest, size - 1, LAYER);
        assert!(matches!(finished(shorter, bytes, &[]), Err(VerifyError::Oversize { .. })));
    }
    let opaque = finished(new(bytes, Content::Opaque), bytes, &[]).expect("its digest holds");
    assert_eq!((opaque.diff_id(), opaque.encoding()), (DiffId::NotComputed, None));
    let in_every = finished(new(bytes, Content::LayerInEvery), bytes, &[]);
    assert_eq!(in_every.is_ok(), is_sound);
}

fn check_proof(proof: &ProvenBlob, bytes: &[u8], plain: &[u8]) {
    assert_eq!((*proof.digest(), proof.size()), (Digest::sha256(bytes), bytes.len() as u64));
    let uncompressed_size = plain.len() as u64;
    assert_eq!(proof.diff_id(), DiffId::Computed { digest: Digest::sha256(plain), uncompressed_size });
    assert_eq!(proof.encoding() == Some(Encoding::Plain), told(bytes) == Ok(Encoding::Plain));
}

fn new(bytes: &[u8], content: Content) -> BlobVerifier {
    BlobVerifier::new(Digest::sha256(bytes), bytes.len() as u64, content)
}

/// Feeds the bytes in pieces of these sizes, over and over, or in one piece where there is none.
fn fed(mut verifier: BlobVerifier, bytes: &[u8], sizes: &[usize]) -> Result<Conclusion, VerifyError> {
    let mut sizes = sizes.iter().copied().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let accepted = verifier.write(&rest[..size])?;
        assert_eq!((accepted.consumed, accepted.blocked), (size, None), "nobody else has a window");
        rest = &rest[size..];
    }
    verifier.conclude()
}

fn finished(verifier: BlobVerifier, bytes: &[u8], sizes: &[usize]) -> Result<ProvenBlob, VerifyError> {
    match fed(verifier, bytes, sizes)? {
        Conclusion::Proven(proof) => Ok(proof),
        Conclusion::Again(_) => panic!("nobody asked for caution"),
    }
}

/// The verdict of a cautious verifier, to whom the bytes are shown again where it wants to see them again.
fn concluded(verifier: BlobVerifier, bytes: &[u8], sizes: &[usize]) -> Result<ProvenBlob, VerifyError> {
    match fed(verifier, bytes, sizes)? {
        Conclusion::Proven(proof) => Ok(proof),
        Conclusion::Again(verifier) => finished(*verifier, bytes, sizes),
    }
}

fn said(verdict: &Result<ProvenBlob, VerifyError>) -> Result<ProvenBlob, String> {
    match verdict {
        Ok(proof) => Ok(*proof),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// What the first bytes say.
fn told(bytes: &[u8]) -> Result<Encoding, ()> {
    match bytes {
        [0x1f, 0x8b, 0x08, ..] => Ok(Encoding::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Encoding::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..]
        | [b'B', b'Z', b'h', 0x30..=0x3f, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', 0x30..=0x3f, 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Err(()),
        _ => Ok(Encoding::Plain),
    }
}

/// The uncompressed bytes by readers that know nothing of ours, as far as a byte past [`MOST`].
fn read_plainly(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    match told(bytes) {
        Err(()) => return Err(io::ErrorKind::Unsupported.into()),
        Ok(Encoding::Gzip) => {
            MultiGzDecoder::new(bytes).take(MOST + 1).read_to_end(&mut plain)?;
        }
        Ok(Encoding::Zstd) => {
            zstd::stream::read::Decoder::with_buffer(bytes)?.take(MOST + 1).read_to_end(&mut plain)?;
        }
        Ok(_) => plain.extend_from_slice(bytes),
    }
    Ok(plain)
}

fn check_documents(bytes: &[u8]) {
    for header in ["gzip", "deflate", "zstd", "identity, x-gzip", "gzip, zstd"] {
        match decoded(Bytes::copy_from_slice(bytes), header, CAP) {
            Ok(document) => assert!(document.len() as u64 <= CAP),
            Err(reason) => assert_shown(&reason),
        }
    }
}

/// A byte that says where to cut, and a tar stream, or what is left of one.
///
/// Layers are proven as the bytes of their tar streams, never by what is in them: whatever the stream is and however it is
/// compressed, in members, frames and pieces of any size, its diff ID is the digest of the stream; and a compressed stream
/// that is cut short, or goes on behind its end as archives on tapes do, is refused.
pub fn tar(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let diff_id = DiffId::Computed { digest: Digest::sha256(stream), uncompressed_size: stream.len() as u64 };
    let at = stream.len() * usize::from(cut) / 256;
    let (first, second) = stream.split_at(at);
    let level = Compression::new(u32::from(cut % 10));
    let gzip = [gzipped(first, level), gzipped(second, level)].concat();
    let skippable = [&0x184d_2a5f_u32.to_le_bytes()[..], &4_u32.to_le_bytes(), b"cut\n"].concat();
    let zstd = [zstded(first), skippable, zstded(second)].concat();
    for (encoding, layer) in [(Encoding::Gzip, &gzip), (Encoding::Zstd, &zstd)] {
        for sizes in [&[][..], &[usize::from(cut) + 1], &[512]] {
            let proof = finished(new(layer, LAYER), layer, sizes).expect("a sound layer");
            assert_eq!((proof.diff_id(), proof.encoding()), (diff_id, Some(encoding)));
        }
        let short = &layer[..layer.len() - 1 - usize::from(cut) % 8];
        assert!(matches!(finished(new(short, LAYER), short, &[]), Err(VerifyError::Decode { .. })));
        let padded = [&layer[..], &[0; 512]].concat();
        assert!(matches!(finished(new(&padded, LAYER), &padded, &[]), Err(VerifyError::Decode { .. })));
    }
    if told(stream) == Ok(Encoding::Plain) {
        let proof = finished(new(stream, LAYER), stream, &[usize::from(cut) + 1]).expect("a plain layer");
        assert_eq!((proof.diff_id(), proof.encoding()), (diff_id, Some(Encoding::Plain)));
    }
}

fn gzipped(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).expect("memory is written to");
    encoder.finish().expect("memory is written to")
}

fn zstded(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory is written to")
}
