//! What a signed document's signatures cover, by the rules of libtrust's "pretty" JSON web signatures.
//!
//! The signatures stand in the document that they sign, as its last key. Each has a protected header that says how to
//! undo that: how many bytes of the document come first (`formatLength`), and which bytes follow them (`formatTail`: the
//! closing brace with the white space before it). So the payload is what was signed byte for byte, however it was
//! indented. libtrust's base64 has the alphabet for URLs and no padding.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::document::{self, Fault, Object};
use crate::manifest::error::Problem;
use crate::text::printable;

const SIGNATURE_KEYS: [&str; 3] = ["header", "signature", "protected"];
const PROTECTED_KEYS: [&str; 3] = ["formatLength", "formatTail", "time"];

/// What libtrust takes: its decoder fills in the padding, where there is none, and Go's does not mind spare bits.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What one signature says of the payload.
#[derive(Debug, PartialEq, Eq)]
struct Format {
    length: usize,
    tail: Vec<u8>,
}

/// The payload of the document `raw`, whose outermost keys are in `object`; `None` where it has no signatures.
pub(super) fn payload(object: &Object<'_>, raw: &[u8]) -> Result<Option<Bytes>, Fault> {
    let Some(format) = object.optional("signatures", |signatures| agreed(signatures, raw.len()))? else {
        return Ok(None);
    };
    let mut payload = Vec::with_capacity(format.length + format.tail.len());
    payload.extend_from_slice(&raw[..format.length]);
    payload.extend_from_slice(&format.tail);
    Ok(Some(payload.into()))
}

/// What all of the signatures say. A signature that says otherwise covers another payload, and whoever looks at that one
/// only would see another image.
fn agreed(signatures: &RawValue, size: usize) -> Result<Format, Fault> {
    let mut agreed = None;
    document::elements(signatures, |signature| {
        let format = Object::read(signature, &SIGNATURE_KEYS)?
            .required("protected", |protected| format(protected, size))?;
        match &agreed {
            Some(agreed) if *agreed != format => Err(Problem::Contradictory.into()),
            _ => {
                agreed = Some(format);
                Ok(())
            }
        }
    })?;
    agreed.ok_or_else(|| Problem::Empty.into())
}

fn format(protected: &RawValue, size: usize) -> Result<Format, Fault> {
    let header = decoded(protected)?;
    let header = std::str::from_utf8(&header).map_err(|_| Fault::from(Problem::NotBase64))?;
    let header = Object::read(document::embedded(header)?, &PROTECTED_KEYS)?;
    Ok(Format {
        length: header.required("formatLength", |value| length(value, size))?,
        tail: header.required("formatTail", decoded)?,
    })
}

fn length(value: &RawValue, size: usize) -> Result<usize, Fault> {
    let length = document::size(value)?;
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= size)
        .ok_or_else(|| Problem::PastTheEnd { length: printable(value.get()), size }.into())
}

fn decoded(value: &RawValue) -> Result<Vec<u8>, Fault> {
    let text = document::text(value)?;
    BASE64URL.decode(text).map_err(|_| Problem::NotBase64.into())
}
