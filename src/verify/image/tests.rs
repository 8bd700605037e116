use std::collections::HashMap;

use super::*;
use crate::verify::{BlobVerifier, Content, verify_bytes};

const PLAIN: [&[u8]; 3] = [b"the first layer", b"the second layer", b"the third layer"];

fn proof(bytes: &[u8], content: Content) -> ProvenBlob {
    let mut verifier = BlobVerifier::new(Digest::sha256(bytes), bytes.len() as u64, content);
    assert_eq!(verifier.write(bytes).unwrap().consumed, bytes.len());
    verifier.finish().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image of three gzip layers, and the proofs of all of its blobs.
struct Fixture {
    manifest: ProvenBlob,
    config: BlobClaim,
    layers: Vec<LayerClaim>,
    diff_ids: Vec<Digest>,
    proofs: HashMap<(Digest, Option<Algorithm>), ProvenBlob>,
}

impl Fixture {
    fn new() -> Self {
        let mut proofs = HashMap::new();
        let mut layers = Vec::new();
        for plain in PLAIN {
            let layer = gzip(plain);
            let blob = BlobClaim { digest: Digest::sha256(&layer), size: layer.len() as u64 };
            layers.push(LayerClaim { blob, encryption: Encryption::None, place: Place::Here });
            for diff_id in Algorithm::ALL {
                let proof = proof(&layer, Content::Layer { diff_id });
                proofs.insert((blob.digest, Some(diff_id)), proof);
            }
            proofs.insert((blob.digest, None), proof(&layer, Content::Opaque));
        }
        let config = b"the config";
        proofs.insert((Digest::sha256(config), None), proof(config, Content::Opaque));
        Self {
            manifest: verify_bytes(b"the manifest", Digest::sha256(b"the manifest")).unwrap(),
            config: BlobClaim { digest: Digest::sha256(config), size: config.len() as u64 },
            layers,
            diff_ids: PLAIN.iter().map(|plain| Digest::sha256(plain)).collect(),
            proofs,
        }
    }

    fn assemble_with(&self, diff_ids: DiffIdClaims<'_>) -> Result<ProvenImage, ImageError> {
        let claims =
            ImageClaims { manifest: &self.manifest, config: self.config, layers: &self.layers, diff_ids };
        ProvenImage::assemble(&claims, |digest, algorithm| self.proofs.get(&(*digest, algorithm)).copied())
    }

    fn assemble(&self) -> Result<ProvenImage, ImageError> {
        self.assemble_with(DiffIdClaims::Config(&self.diff_ids))
    }

    fn statuses(&self, diff_ids: DiffIdClaims<'_>) -> Vec<DiffIdStatus> {
        let image = self.assemble_with(diff_ids).unwrap();
        image.layers().iter().map(ProvenLayer::diff_id_status).collect()
    }
}

/// What was proven is what the image says, in the manifest's order.
#[test]
fn image_covers_manifest_config_and_every_layer() {
    let fixture = Fixture::new();
    let image = fixture.assemble().unwrap();
    assert_eq!(image.manifest(), &fixture.manifest);
    assert_eq!(image.config().digest(), &fixture.config.digest);
    assert_eq!(image.layers().len(), 3);
    for (index, layer) in image.layers().iter().enumerate() {
        assert_eq!(*layer.blob().unwrap().digest(), fixture.layers[index].blob.digest);
        assert_eq!(layer.diff_id_status(), DiffIdStatus::Verified);
        let uncompressed_size = PLAIN[index].len() as u64;
        let digest = fixture.diff_ids[index];
        assert_eq!(layer.blob().unwrap().diff_id(), DiffId::Computed { digest, uncompressed_size });
    }
}

/// One diff ID a layer: neither fewer nor more.
#[test]
fn number_of_diff_ids_is_the_number_of_layers() {
    for length in [0, 1, 2, 4] {
        let mut fixture = Fixture::new();
        fixture.diff_ids.resize(length, Digest::sha256(b"one more"));
        assert_eq!(fixture.assemble(), Err(ImageError::DiffIdCount { layers: 3, diff_ids: length }));
    }
}

/// The order counts: the right diff IDs at the wrong layers are wrong.
#[test]
fn diff_ids_belong_to_their_layers() {
    let mut fixture = Fixture::new();
    fixture.diff_ids.swap(1, 2);
    let error = fixture.assemble().unwrap_err();
    let (claimed, found) = (Digest::sha256(PLAIN[2]), Digest::sha256(PLAIN[1]));
    let layer = fixture.layers[1].blob.digest;
    assert_eq!(error, ImageError::DiffIdMismatch { layer, index: 1, claimed, found });
    assert_eq!(
        error.to_string(),
        format!("layer 1 ({layer}) has the diff ID {found}, and the config claims {claimed}")
    );
    assert_eq!(error.kind(), Kind::Integrity);
}

/// The digest of the compressed layer is no diff ID, which is what careless tools write.
#[test]
fn compressed_digest_is_not_a_diff_id() {
    let mut fixture = Fixture::new();
    fixture.diff_ids[0] = fixture.layers[0].blob.digest;
    assert!(matches!(fixture.assemble(), Err(ImageError::DiffIdMismatch { index: 0, .. })));
}

/// A layer that an image repeats must be what each of its diff IDs says.
#[test]
fn repeated_layer_meets_each_claim() {
    let mut fixture = Fixture::new();
    fixture.layers[2] = fixture.layers[0];
    assert!(matches!(fixture.assemble(), Err(ImageError::DiffIdMismatch { index: 2, .. })));
    fixture.diff_ids[2] = fixture.diff_ids[0];
    fixture.assemble().unwrap();
    fixture.diff_ids[2] = Algorithm::Sha512.digest(PLAIN[0]);
    fixture.assemble().unwrap();
}

/// A diff ID is compared with one of its own algorithm.
#[test]
fn algorithms_must_agree() {
    let mut fixture = Fixture::new();
    let claimed = Algorithm::Sha512.digest(PLAIN[1]);
    fixture.diff_ids[1] = claimed;
    fixture.assemble().unwrap();
    let layer = fixture.layers[1].blob.digest;
    let other = fixture.proofs[&(layer, Some(Algorithm::Sha256))];
    let unknown = Err(ImageError::DiffIdUnknown { layer, index: 1, claimed });
    fixture.proofs.insert((layer, Some(Algorithm::Sha512)), other);
    assert_eq!(fixture.assemble(), unknown);
    let opaque = fixture.proofs[&(layer, None)];
    fixture.proofs.insert((layer, Some(Algorithm::Sha512)), opaque);
    assert_eq!(fixture.assemble(), unknown);
}

/// No blob is taken on trust: neither without a proof, nor on that of another blob, nor with another size.
#[test]
fn every_blob_needs_its_proof() {
    let sha256 = Some(Algorithm::Sha256);
    let key = |fixture: &Fixture, blob: usize| match blob {
        3 => (fixture.config.digest, None),
        index => (fixture.layers[index].blob.digest, sha256),
    };
    for blob in 0..4 {
        let mut fixture = Fixture::new();
        let key = key(&fixture, blob);
        let unproven = Err(ImageError::Unproven { digest: key.0 });
        fixture.proofs.remove(&key);
        assert_eq!(fixture.assemble(), unproven);
        fixture.proofs.insert(key, fixture.manifest);
        assert_eq!(fixture.assemble(), unproven);

        let mut fixture = Fixture::new();
        let claim = if blob == 3 { &mut fixture.config } else { &mut fixture.layers[blob].blob };
        let found = claim.size;
        claim.size += 1;
        let mismatch = ImageError::SizeMismatch { digest: key.0, claimed: found + 1, found };
        assert_eq!(fixture.assemble(), Err(mismatch));
    }
}

/// What cannot be or was not checked is said, layer by layer; the blobs themselves are proven in any case.
#[test]
fn status_says_what_was_checked() {
    use DiffIdStatus::{Encrypted, NotApplicable, Skipped, Verified};
    let mut fixture = Fixture::new();
    fixture.layers[1].encryption = Encryption::Encrypted;
    fixture.diff_ids[1] = Digest::sha256(b"of what only the key's owner can see");
    let diff_ids = fixture.diff_ids.clone();
    let config = DiffIdClaims::Config(&diff_ids);
    assert_eq!(fixture.statuses(config), [Verified, Encrypted, Verified]);
    assert_eq!(fixture.statuses(DiffIdClaims::Skipped), [Skipped; 3]);
    assert_eq!(fixture.statuses(DiffIdClaims::Artifact), [NotApplicable; 3]);

    let digest = fixture.layers[1].blob.digest;
    fixture.proofs.remove(&(digest, None));
    for diff_ids in [config, DiffIdClaims::Skipped, DiffIdClaims::Artifact] {
        assert_eq!(fixture.assemble_with(diff_ids), Err(ImageError::Unproven { digest }));
    }
}

/// The names are those of the `--json` report.
#[test]
fn statuses_serialise_as_the_report_has_them() {
    use DiffIdStatus::{Encrypted, NotApplicable, Skipped, Verified};
    let json = serde_json::to_string(&[Verified, Skipped, NotApplicable, Encrypted]).unwrap();
    assert_eq!(json, r#"["verified","skipped","not-applicable","encrypted"]"#);
}

/// A layer that is left at its URLs needs no proof, is no blob of the image here, and is not said to be verified.
#[test]
fn a_layer_left_elsewhere_is_not_proven() {
    let mut fixture = Fixture::new();
    fixture.layers[1].place = Place::Elsewhere;
    fixture.proofs.retain(|(digest, _), _| *digest != fixture.layers[1].blob.digest);
    let image = fixture.assemble().unwrap();
    assert_eq!(image.layers()[1].blob(), None);
    assert!(image.blobs().all(|(digest, _)| digest != fixture.layers[1].blob.digest));
    let statuses = fixture.statuses(DiffIdClaims::Config(&fixture.diff_ids));
    assert_eq!(statuses, [DiffIdStatus::Verified, DiffIdStatus::Skipped, DiffIdStatus::Verified]);
    fixture.diff_ids.pop();
    assert!(matches!(fixture.assemble(), Err(ImageError::DiffIdCount { .. })), "it still has a diff ID");
}
