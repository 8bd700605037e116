//! Images in Docker's schema 1, unsigned, or signed as libtrust signs: a real signature, with a key of its own each time,
//! in a block that stands in the document it signs.
//!
//! The digest is that of the payload, so it is the same at every call, whereas the document is not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::content::{sha256, shared};
use super::image::{Built, Image};

const UNSIGNED: &str = "application/vnd.docker.distribution.manifest.v1+json";
const SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// The version of Docker that is said to have made the images; their configs are passed through as they are.
const DOCKER_VERSION: &str = "1.9.1";

impl Image {
    /// The image as a signed schema 1 manifest: its layers, and after each of them the steps that
    /// [`throwaway`](Image::throwaway) added. There is no config blob.
    pub(crate) fn schema1(self) -> Built {
        let payload = self.schema1_payload();
        let document = signed(&payload);
        self.schema1_built(SIGNED, document, payload)
    }

    /// The same image as an unsigned manifest.
    pub(crate) fn schema1_unsigned(self) -> Built {
        let payload = self.schema1_payload();
        self.schema1_built(UNSIGNED, payload.to_vec(), payload)
    }

    fn schema1_payload(&self) -> Bytes {
        let mut steps: Vec<(String, Value)> = Vec::new();
        let thrown_away = |position: usize| {
            let commands = self.throwaways.iter().filter(move |(after, _)| *after == position);
            commands.map(|(_, command)| (sha256(b"thrown away"), step(command, true)))
        };
        steps.extend(thrown_away(0));
        for (position, layer) in self.layers.iter().enumerate() {
            steps.push((self.blob(layer).digest, step(&format!("layer {position}"), false)));
            steps.extend(thrown_away(position + 1));
        }
        let mut parent = None;
        for (position, (_, entry)) in steps.iter_mut().enumerate() {
            let id = hex(format!("step {position}").as_bytes());
            entry["id"] = id.as_str().into();
            if let Some(parent) = parent.replace(id) {
                entry["parent"] = parent.into();
            }
        }
        if let (Some((_, top)), Value::Object(platform)) = (steps.last_mut(), &self.platform) {
            top["docker_version"] = DOCKER_VERSION.into();
            top["config"] = json!({});
            top.as_object_mut().unwrap().extend(platform.clone());
        }
        steps.reverse();
        let layers: Vec<_> = steps.iter().map(|(blob, _)| json!({ "blobSum": blob })).collect();
        let history: Vec<_> =
            steps.iter().map(|(_, entry)| json!({ "v1Compatibility": entry.to_string() })).collect();
        shared(pretty(&json!({
            "schemaVersion": 1, "name": "app", "tag": "v1", "architecture": self.platform["architecture"],
            "fsLayers": layers, "history": history,
        })))
    }

    fn schema1_built(self, media_type: &str, document: Vec<u8>, payload: Bytes) -> Built {
        let mut built = Built::raw(media_type, document);
        built.digest = self.digest_of(&payload);
        built.digested = payload;
        built.diff_ids = self.diff_ids();
        built.layers = self.layers.iter().map(|layer| self.blob(layer)).collect();
        built
    }
}

fn step(command: &str, throwaway: bool) -> Value {
    let mut step = json!({
        "created": "2015-11-04T08:00:00Z",
        "container_config": { "Cmd": ["/bin/sh", "-c", command] },
    });
    if throwaway {
        step["throwaway"] = true.into();
    }
    step
}

/// Indented by three spaces, as Docker's registry wrote it.
fn pretty(document: &Value) -> Vec<u8> {
    let two = serde_json::to_string_pretty(document).unwrap();
    let lines = two.lines().map(|line| {
        let text = line.trim_start_matches(' ');
        format!("{}{text}", " ".repeat((line.len() - text.len()) / 2 * 3))
    });
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

/// The payload with a signature as its last key.
fn signed(payload: &[u8]) -> Vec<u8> {
    let kept = payload.strip_suffix(b"\n}").expect("the payload is indented");
    let protected = json!({
        "formatLength": kept.len(), "formatTail": base64url(b"\n}"), "time": "2015-11-04T08:00:00Z"
    });
    let protected = base64url(protected.to_string().as_bytes());
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let signature = key.sign(format!("{protected}.{}", base64url(payload)).as_bytes()).unwrap();
    let block = json!([{
        "header": { "jwk": jwk(&key), "alg": "ES256" },
        "signature": base64url(&fixed(&signature)),
        "protected": protected,
    }]);
    let block = String::from_utf8(pretty(&block)).unwrap().replace('\n', "\n   ");
    [kept, b",\n   \"signatures\": ", block.as_bytes(), b"\n}"].concat()
}

/// The public key, named by its fingerprint in libtrust's way: base32 in groups of four.
fn jwk(key: &KeyPair) -> Value {
    let point = key.der_bytes();
    let fingerprint = Sha256::digest(key.subject_public_key_info());
    let kid: Vec<_> = fingerprint[..30].chunks(5).flat_map(base32).collect();
    json!({
        "crv": "P-256", "kid": kid.join(":"), "kty": "EC",
        "x": base64url(&point[1..33]), "y": base64url(&point[33..]),
    })
}

/// Five bytes in base32, in two groups of four.
fn base32(bytes: &[u8]) -> [String; 2] {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let digit =
        |position: u64| char::from(ALPHABET[usize::try_from(number >> (35 - 5 * position) & 31).unwrap()]);
    [(0..4).map(digit).collect(), (4..8).map(digit).collect()]
}

/// The two numbers of an ECDSA signature in DER, 32 bytes each.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(32)..];
        numbers.extend(std::iter::repeat_n(0, 32 - number.len()));
        numbers.extend_from_slice(number);
        rest = after;
    }
    numbers
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hex(bytes: &[u8]) -> String {
    sha256(bytes).trim_start_matches("sha256:").to_owned()
}
