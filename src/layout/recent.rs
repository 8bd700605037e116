//! The `index.json` that was read or written last, taken apart.
//!
//! A fetch of many images looks at the index again and again, and to take it apart each time would make the whole take the
//! square of their number. What is remembered is found by the digest of the file's bytes, so that it does not matter who
//! changed the file, when, or how: other bytes are read anew. It is there for as long as somebody uses it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::index::IndexDocument;
use crate::digest::Digest;

static RECENT: Mutex<Option<(Digest, Weak<IndexDocument>)>> = Mutex::new(None);

/// Takes an index apart, unless it is the recent one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Arc<IndexDocument>, String> {
    let digest = Digest::sha256(bytes);
    let recent = || RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    let known =
        recent().as_ref().filter(|(known, _)| *known == digest).and_then(|(_, index)| index.upgrade());
    if let Some(index) = known {
        return Ok(index);
    }
    let index = Arc::new(IndexDocument::parse(bytes)?);
    *recent() = Some((digest, Arc::downgrade(&index)));
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index that was changed in place, to one of the same length, is read anew; so is one that was bad before.
    #[test]
    fn other_bytes_are_read_anew() {
        let index = |size: u64| {
            let digest = crate::digest::Digest::sha256(b"image");
            let entry = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":{size}}}"#);
            format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#).into_bytes()
        };
        let size = |index: &IndexDocument| index.entries()[0].descriptor().unwrap().size;
        for number in [11, 12, 12, 11] {
            let kept = parse(&index(number)).unwrap();
            assert_eq!(size(&kept), number);
            assert!(parse(b"{}]").is_err());
            assert!(Arc::ptr_eq(&kept, &parse(&index(number)).unwrap()));
        }
    }
}
