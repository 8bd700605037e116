use std::io::{self, Write as _};

use proptest::prelude::*;

use super::*;
use crate::failure::{Failure as _, Kind};

const LAYER: Content = Content::Layer { diff_id: Algorithm::Sha256 };
const MIB: usize = 1 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(4));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that compress, but not to nothing.
fn text(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"abcdefghijklmnop"[(state >> 28) as usize]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn verifier(bytes: &[u8], content: Content) -> BlobVerifier {
    BlobVerifier::new(Digest::sha256(bytes), bytes.len() as u64, content)
}

fn feed(mut verifier: BlobVerifier, chunks: &[&[u8]]) -> Result<ProvenBlob, VerifyError> {
    for chunk in chunks {
        assert_eq!(verifier.write(chunk)?, Accepted::all(chunk.len()));
    }
    verifier.finish()
}

fn verify(bytes: &[u8], content: Content) -> Result<ProvenBlob, VerifyError> {
    feed(verifier(bytes, content), &[bytes])
}

/// Size and digest are all that counts for an opaque blob, and exactly those.
#[test]
fn size_and_digest_must_hold() {
    let good = b"a config";
    let digest = Digest::sha256(good);
    let proof = verify(good, Content::Opaque).unwrap();
    assert_eq!((*proof.digest(), proof.size()), (digest, 8));
    assert_eq!((proof.encoding(), proof.diff_id()), (None, DiffId::NotComputed));

    let of_size = |size| BlobVerifier::new(digest, size, Content::Opaque);
    let short = feed(of_size(9), &[good]).unwrap_err();
    assert!(matches!(short, VerifyError::SizeMismatch { expected: 9, found: 8, .. }));
    assert_eq!(short.to_string(), format!("blob {digest} has 8 bytes, and it should have 9"));
    let other = feed(of_size(8), &[b"a konfig"]).unwrap_err();
    let found = Digest::sha256(b"a konfig");
    assert_eq!(other.to_string(), format!("blob {digest} has the digest {found}"));
    let long = feed(of_size(7), &[good]).unwrap_err();
    assert_eq!(long.to_string(), format!("blob {digest} has more than the 7 bytes that it should have"));
    for error in [short, other, long] {
        assert_eq!(error.kind(), Kind::Integrity);
    }
}

/// A body that runs over its size is refused with the byte that does, and cannot be proven by forgetting about it.
#[test]
fn oversize_is_refused_at_once_and_for_good() {
    let mut verifier = verifier(b"content", Content::Opaque);
    assert_eq!(verifier.write(b"content").unwrap(), Accepted::all(7));
    assert!(matches!(verifier.write(b"!"), Err(VerifyError::Oversize { expected: 7, .. })));
    assert_eq!(verifier.received(), 7);
    assert!(matches!(verifier.write(b""), Err(VerifyError::Oversize { .. })));
    assert!(matches!(verifier.finish(), Err(VerifyError::Oversize { .. })));
}

/// The diff ID is the digest of the uncompressed bytes, whatever the encoding and the two algorithms are.
#[test]
fn diff_id_is_of_the_uncompressed_bytes() {
    let plain = text(300_000);
    let layers = [
        (Encoding::Gzip, gzip(&plain)),
        (Encoding::Zstd, zstd(&plain, 20)),
        (Encoding::Plain, plain.clone()),
    ];
    for (encoding, layer) in layers {
        for blob in Algorithm::ALL {
            for diff_id in Algorithm::ALL {
                let size = layer.len() as u64;
                let verifier = BlobVerifier::new(blob.digest(&layer), size, Content::Layer { diff_id });
                let proof = feed(verifier, &[&layer]).unwrap();
                assert_eq!(proof.encoding(), Some(encoding));
                let digest = diff_id.digest(&plain);
                assert_eq!(proof.diff_id(), DiffId::Computed { digest, uncompressed_size: 300_000 });
            }
        }
    }
}

/// An empty layer is plain, and its diff ID is its digest.
#[test]
fn empty_blob_is_a_plain_layer() {
    let proof = feed(verifier(b"", LAYER), &[]).unwrap();
    assert_eq!(proof.encoding(), Some(Encoding::Plain));
    let computed = DiffId::Computed { digest: Digest::sha256(b""), uncompressed_size: 0 };
    assert_eq!(proof.diff_id(), computed);
}

/// Damage on the way shows as a wrong digest, which fetching again can help, never as a bad layer.
#[test]
fn decode_error_does_not_hide_a_wrong_digest() {
    for layer in [gzip(&text(5000)), zstd(&text(5000), 20)] {
        let mut damaged = layer.clone();
        damaged[200] ^= 0x55;
        let found = Digest::sha256(&damaged);
        match feed(verifier(&layer, LAYER), &[&damaged]) {
            Err(VerifyError::DigestMismatch { expected, found: reported }) => {
                assert_eq!((expected, reported), (Digest::sha256(&layer), found));
            }
            outcome => panic!("{outcome:?}"),
        }
        let error = verify(&damaged, LAYER).unwrap_err();
        assert_eq!(error.to_string(), format!("layer {found} cannot be uncompressed"));
        assert_eq!(error.kind(), Kind::Integrity);
        verify(&damaged, Content::Opaque).unwrap();
    }
}

/// A small layer that expands without end is stopped at its limit, with both figures.
#[test]
fn expansion_is_limited() {
    let zeros = vec![0; 10 * MIB];
    for bomb in [gzip(&zeros), zstd(&zeros, 20)] {
        let size = bomb.len() as u64;
        let bounded = |limit| BlobVerifier { expansion: Expansion { size, limit }, ..verifier(&bomb, LAYER) };
        let error = feed(bounded(MIB as u64), &[&bomb]).unwrap_err();
        let VerifyError::Decode { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(
            source.to_string(),
            format!("its {size} bytes expand to more than the 1048576 bytes that are accepted")
        );
        feed(bounded(10 * MIB as u64), &[&bomb]).unwrap();
    }
}

/// Offers `bytes` until the verifier is blocked or done; returns what is left and what it waits for.
fn offer<'a>(verifier: &mut BlobVerifier, bytes: &'a [u8]) -> (&'a [u8], Option<u64>) {
    let accepted = verifier.write(bytes).unwrap();
    assert_eq!(accepted.blocked.is_some(), accepted.consumed < bytes.len());
    (&bytes[accepted.consumed..], accepted.blocked)
}

/// A layer whose window is not free waits with its bytes untouched, and loses and repeats none of them.
#[test]
fn layer_waits_for_its_window() {
    let budget = WindowBudget::new(16 << 20);
    let plain = text(3 * MIB);
    let layer = zstd(&plain, 23);
    let start = || verifier(&layer, LAYER).with_window_budget(&budget);
    let half = layer.len() / 2;

    let (mut first, mut second, mut third) = (start(), start(), start());
    assert_eq!(offer(&mut first, &layer[..half]).1, None);
    assert_eq!(offer(&mut second, &layer[..half]).1, None);
    let (rest, blocked) = offer(&mut third, &layer);
    assert_eq!(blocked, Some(8 << 20));
    assert_eq!(third.received(), (layer.len() - rest.len()) as u64);
    for _ in 0..3 {
        assert_eq!(offer(&mut third, rest), (rest, Some(8 << 20)), "asking again changes nothing");
    }
    let _ = first.write(&layer[half..]).unwrap();
    first.finish().unwrap();
    assert_eq!(offer(&mut third, rest), (&b""[..], None));
    assert_eq!(third.finish().unwrap().diff_id(), verify(&layer, LAYER).unwrap().diff_id());
    drop(second);
    assert!(budget.is_free(u64::MAX));
}

/// A window larger than the whole budget is granted to a decoder that is alone, and to one at a time.
#[test]
fn large_windows_go_one_at_a_time() {
    let budget = WindowBudget::new(16 << 20);
    let layer = zstd(&text(2 * MIB), 27);
    let small = zstd(&text(1000), 20);
    let start = |layer: &[u8]| verifier(layer, LAYER).with_window_budget(&budget);
    let mut first = start(&layer);
    assert_eq!(offer(&mut first, &layer[..MIB / 2]).1, None);
    let mut second = start(&layer);
    assert_eq!(offer(&mut second, &layer).1, Some(1 << 27));
    let mut third = start(&small);
    assert_eq!(offer(&mut third, &small).1, Some(1 << 20));
    drop(first);
    let mut third = start(&small);
    assert_eq!(offer(&mut third, &small).1, None);
    assert_eq!(offer(&mut second, b"").1, None, "nothing to do, nothing to wait for");
    third.finish().unwrap();
    assert!(budget.is_free(1 << 27));
}

/// From frame to frame a layer holds the window that the frame needs, and none while it waits for another.
#[test]
fn windows_are_renegotiated_between_frames() {
    let budget = WindowBudget::new(16 << 20);
    let plain = text(40_000);
    let frames: Vec<_> = [24, 20, 18, 22, 24].iter().map(|log| zstd(&plain, *log)).collect();
    let layer = frames.concat();
    let mut subject = verifier(&layer, LAYER).with_window_budget(&budget);
    let mut held = Vec::new();
    for frame in &frames[..4] {
        assert_eq!(offer(&mut subject, frame), (&b""[..], None));
        held.push((10..=24).find(|log| budget.is_free((16 << 20) - (1 << log))));
    }
    // 18 keeps the 1 MiB of 20, because giving up so little would cost more than it frees.
    assert_eq!(held, [Some(24), Some(20), Some(20), Some(22)]);

    let other_layer = zstd(&plain, 22);
    let mut other = verifier(&other_layer, LAYER).with_window_budget(&budget);
    assert_eq!(offer(&mut other, &other_layer).1, None);
    let (rest, blocked) = offer(&mut subject, &frames[4]);
    assert_eq!(blocked, Some(1 << 24));
    assert!(budget.is_free(12 << 20), "only the other one's is taken while this one waits");
    other.finish().unwrap();
    assert_eq!(offer(&mut subject, rest).1, None);
    let uncompressed_size = 5 * 40_000;
    let digest = Digest::sha256(&plain.repeat(5));
    assert_eq!(subject.finish().unwrap().diff_id(), DiffId::Computed { digest, uncompressed_size });
}

/// A decoder that gave up gives its window back at once, not when the last byte has come.
#[test]
fn failed_layer_holds_no_window() {
    let budget = WindowBudget::new(1 << 20);
    let mut layer = zstd(&text(MIB), 20);
    let half = layer.len() / 2;
    layer[half / 2..half].fill(0xff);
    let mut subject = verifier(&layer, LAYER).with_window_budget(&budget);
    let _ = subject.write(&layer[..layer.len() - 1]).unwrap();
    assert!(budget.is_free(u64::MAX));
    let _ = subject.write(&layer[layer.len() - 1..]).unwrap();
    assert!(matches!(subject.finish(), Err(VerifyError::Decode { .. })));
}

/// Gives one byte, then an interruption, then a few bytes, and so on.
struct Unsteady<'a> {
    bytes: &'a [u8],
    calls: usize,
}

impl Read for Unsteady<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(ErrorKind::Interrupted.into());
        }
        let length = self.calls.min(buffer.len());
        (&self.bytes[..length.min(self.bytes.len())]).read(buffer).inspect(|read| {
            self.bytes = &self.bytes[*read..];
        })
    }
}

/// A reader may be slow, interrupted, too short, too long or broken.
#[test]
fn reader_is_verified_to_its_end() {
    let plain = text(5000);
    let layer = gzip(&plain);
    let read = |bytes: &[u8]| verify_reader(Unsteady { bytes, calls: 0 }, verifier(&layer, LAYER));
    assert_eq!(read(&layer).unwrap(), verify(&layer, LAYER).unwrap());
    assert!(matches!(read(&layer[1..]), Err(VerifyError::SizeMismatch { .. })));
    assert!(matches!(read(&[&layer[..], b"x"].concat()), Err(VerifyError::Oversize { .. })));
    assert!(verify_reader(io::empty(), verifier(b"", LAYER)).is_ok());
    let broken = io::Read::chain(&layer[..9], Broken);
    let error = verify_reader(broken, verifier(&layer, LAYER)).unwrap_err();
    assert!(matches!(error, VerifyError::Read { .. }));
    assert_eq!(error.kind(), Kind::Other);
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is gone"))
    }
}

/// Readers on several threads share a budget that is too small for two of them, and all of them end.
#[test]
fn readers_take_turns_with_a_window() {
    let budget = WindowBudget::new(1 << 20);
    let layer = zstd(&text(MIB), 20);
    std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let verifier = verifier(&layer, LAYER).with_window_budget(&budget);
                scope.spawn(|| verify_reader(&layer[..], verifier))
            })
            .collect();
        for task in tasks {
            task.join().unwrap().unwrap();
        }
    });
}

/// Bytes in memory are proven by their digest; the size is theirs.
#[test]
fn bytes_are_proven_by_their_digest() {
    assert_eq!(verify_bytes(b"{}", Digest::sha256(b"{}")).unwrap().size(), 2);
    let mismatch = verify_bytes(b"{}", Digest::sha256(b"[]"));
    assert!(matches!(mismatch, Err(VerifyError::DigestMismatch { .. })));
}

/// A layer of some members or frames of some lengths, and what it is uncompressed.
fn layers() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let part = prop_oneof![Just(0_usize), 1_usize..200, 100_000_usize..300_000];
    let parts = proptest::collection::vec(part, 1..5);
    let skippable = |length: usize| {
        let length = u8::try_from(length % 50).unwrap();
        [&[0x5a, 0x2a, 0x4d, 0x18, length, 0, 0, 0], &vec![7; length.into()][..]].concat()
    };
    (parts, 0..4).prop_map(move |(parts, kind)| {
        let part = |length: &usize| match kind {
            0 => gzip(&text(*length)),
            1 => zstd(&text(*length), 17),
            2 => [skippable(*length), ::zstd::bulk::compress(&text(*length), 3).unwrap()].concat(),
            _ => text(*length),
        };
        let layer = parts.iter().map(part).collect::<Vec<_>>().concat();
        (layer, parts.iter().flat_map(|length| text(*length)).collect())
    })
}

/// Pieces of `bytes` whose lengths go round `lengths`.
fn chunks<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (chunk, rest) = bytes.split_at(bytes.len().min(*length));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any chunking verifies alike, good layers and bad ones, inline and with a thread.
    #[test]
    fn any_chunking_verifies_alike(
        (mut layer, plain) in layers(),
        lengths in proptest::collection::vec(prop_oneof![1_usize..20, 1_usize..200_000], 1..6),
        damage in proptest::option::of((any::<prop::sample::Index>(), 1_u8..)),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        if damage.is_none() && cut.is_none() {
            let (digest, uncompressed_size) = (Digest::sha256(&plain), plain.len() as u64);
            let computed = DiffId::Computed { digest, uncompressed_size };
            prop_assert_eq!(verify(&layer, LAYER).unwrap().diff_id(), computed);
        }
        if let Some((at, mask)) = damage && !layer.is_empty() {
            let at = at.index(layer.len());
            layer[at] ^= mask;
        }
        if let Some(cut) = cut {
            layer.truncate(cut.index(layer.len() + 1));
        }
        let whole = format!("{:?}", verify(&layer, LAYER));
        let pieces = chunks(&layer, &lengths);
        prop_assert_eq!(format!("{:?}", feed(verifier(&layer, LAYER), &pieces)), &whole[..]);
        let threaded = verifier(&layer, LAYER).with_hashing(Hashing::OwnThread);
        prop_assert_eq!(format!("{:?}", feed(threaded, &pieces)), whole);
    }

    /// Any flipped bit is rejected, and as a wrong digest.
    #[test]
    fn any_flipped_bit_is_rejected(
        (layer, _) in layers(), at in any::<prop::sample::Index>(), bit in 0..8,
        lengths in proptest::collection::vec(1_usize..100_000, 1..4),
    ) {
        prop_assume!(!layer.is_empty());
        let mut flipped = layer.clone();
        flipped[at.index(layer.len())] ^= 1_u8 << bit;
        for content in [LAYER, Content::Opaque] {
            let outcome = feed(verifier(&layer, content), &chunks(&flipped, &lengths));
            let mismatch = matches!(outcome, Err(VerifyError::DigestMismatch { found, .. })
                if found == Digest::sha256(&flipped));
            prop_assert!(mismatch);
        }
    }

    /// Bytes that only begin like a layer never do worse than to be refused.
    #[test]
    fn nonsense_is_refused_in_any_chunking(
        magic in 0..6_usize, mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        lengths in proptest::collection::vec(1_usize..30, 1..6),
    ) {
        let magics: [&[u8]; 6] = [
            b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\0\x50",
            b"\x55\x2a\x4d\x18", b"",
        ];
        bytes.splice(0..0, magics[magic].iter().copied());
        let whole = format!("{:?}", verify(&bytes, LAYER));
        let pieces = chunks(&bytes, &lengths);
        prop_assert_eq!(format!("{:?}", feed(verifier(&bytes, LAYER), &pieces)), whole);
    }
}

/// One layer that configs claim diff IDs of in different algorithms has each of them, plain or compressed, hashed here or
/// there.
#[test]
fn diff_ids_in_every_algorithm() {
    let plain = text(300_000);
    for layer in [plain.clone(), gzip(&plain), zstd(&plain, 20), Vec::new(), gzip(b"")] {
        let plain = if layer.len() < 100 { Vec::new() } else { plain.clone() };
        for blob in Algorithm::ALL {
            for hashing in [Hashing::Inline, Hashing::OwnThread] {
                let size = layer.len() as u64;
                let verifier = BlobVerifier::new(blob.digest(&layer), size, Content::LayerInEvery);
                let proof = feed(verifier.with_hashing(hashing.clone()), &[&layer]).unwrap();
                let computed = |algorithm: Algorithm| DiffId::Computed {
                    digest: algorithm.digest(&plain),
                    uncompressed_size: plain.len() as u64,
                };
                assert_eq!(proof.diff_id(), computed(Algorithm::Sha256));
                for algorithm in [Algorithm::Sha512, Algorithm::Sha256, Algorithm::Sha512] {
                    let proof = proof.with_diff_id_in(algorithm);
                    assert_eq!(proof.diff_id(), computed(algorithm));
                    let back = proof.with_diff_id_in(Algorithm::Sha256);
                    assert_eq!(back.diff_id(), computed(Algorithm::Sha256));
                }
            }
        }
    }
}

/// What is wanted of a blob that is listed several times is all that is wanted of it anywhere.
#[test]
fn wants_add_up() {
    let [one, other] = Algorithm::ALL.map(|diff_id| Content::Layer { diff_id });
    let (none, every) = (Content::Opaque, Content::LayerInEvery);
    let cases = [
        (none, none, none),
        (none, one, one),
        (other, none, other),
        (one, one, one),
        (one, other, every),
        (other, one, every),
        (every, one, every),
        (none, every, every),
    ];
    for (first, second, both) in cases {
        assert_eq!(first.and(second), both);
    }
}

/// A few bytes that expand to very many keep nobody busy unless they are the blob's: a layer that is like that is read
/// twice, and is proven like any other; a normal one is read once.
#[test]
fn expansion_waits_for_the_digest() {
    let caution = Caution { floor: 100_000, factor: 10 };
    let zeros = vec![0; 5_000_000];
    for layer in [gzip(&zeros), zstd(&zeros, 17)] {
        for size in [1, 100, layer.len()] {
            let run = |mut verifier: BlobVerifier, bytes: &[u8]| {
                for chunk in bytes.chunks(size) {
                    assert_eq!(verifier.write(chunk).unwrap(), Accepted::all(chunk.len()));
                }
                verifier.conclude()
            };
            let cautious = || verifier(&layer, LAYER).with_caution(caution);
            let Ok(Conclusion::Again(again)) = run(cautious(), &layer) else { panic!("read once") };
            assert_eq!(again.received(), 0);
            let Ok(Conclusion::Proven(proof)) = run(*again, &layer) else { panic!("not proven") };
            assert_eq!(proof, verify(&layer, LAYER).unwrap());
            let mut other = layer.clone();
            *other.last_mut().unwrap() ^= 1;
            assert!(matches!(run(cautious(), &other), Err(VerifyError::DigestMismatch { .. })));
        }
    }
    for layer in [gzip(&text(90_000)), text(90_000), gzip(&text(1_000_000))] {
        let mut subject = verifier(&layer, LAYER).with_caution(caution);
        let _ = subject.write(&layer).unwrap();
        assert!(matches!(subject.conclude(), Ok(Conclusion::Proven(_))), "read once");
    }
}

/// A cautious verifier gives its decoder up as soon as it has seen enough: what was inflated is bounded by the caution,
/// not by what the bytes could become.
#[test]
fn a_cautious_verifier_stops_inflating() {
    let budget = WindowBudget::new(8 << 20);
    let bomb = zstd(&vec![0; 20_000_000], 22);
    let caution = Caution { floor: 1 << 20, factor: 1 };
    let mut subject = verifier(&bomb, LAYER).with_caution(caution).with_window_budget(&budget);
    let _ = subject.write(&bomb[..bomb.len() - 1]).unwrap();
    assert!(matches!(subject.inspection, Inspection::Deferred));
    assert!(budget.is_free(8 << 20), "its window is free");
}

/// In place of wrong bytes, nothing is uncompressed before the digest holds.
#[test]
fn after_wrong_bytes_the_digest_comes_first() {
    for content in [LAYER, Content::Opaque] {
        for layer in [gzip(&text(1000)), Vec::new()] {
            let mut subject = verifier(&layer, content).with_caution(Caution::DIGEST_FIRST);
            let _ = subject.write(&layer).unwrap();
            let proof = match subject.conclude().unwrap() {
                Conclusion::Proven(proof) => proof,
                Conclusion::Again(mut again) => {
                    assert_eq!(content, LAYER);
                    let _ = again.write(&layer).unwrap();
                    again.finish().unwrap()
                }
            };
            assert_eq!(proof, verify(&layer, content).unwrap());
        }
    }
}
