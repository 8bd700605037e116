//! The `index.json` that was read or written last, taken apart.
//!
//! A fetch of many images looks at the index again and again, and to take it apart each time would make the whole take the
//! square of their number. What is remembered is found by the digest of the file's bytes, so that it does not matter who
//! changed the file, when, or how: other bytes are read anew. One that was read is there for as long as somebody uses it, one
//! that was written until the next: whoever writes an index may be about to add to it.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::index::{CAP, IndexDocument};
use crate::digest::{Algorithm, Digest};

/// The digest of its bytes, the index, and the index again where it is to be kept.
type Recent = (Digest, Weak<IndexDocument>, Option<Arc<IndexDocument>>);

static RECENT: Mutex<Option<Recent>> = Mutex::new(None);

fn recent() -> MutexGuard<'static, Option<Recent>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The recent index, where the file holds that one: its bytes need not all be in memory to tell.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn find(file: &mut File) -> io::Result<Option<Arc<IndexDocument>>> {
    let known = recent().as_ref().and_then(|(known, index, _)| Some((*known, index.upgrade()?)));
    let Some((known, index)) = known else { return Ok(None) };
    let mut hasher = Algorithm::Sha256.hasher();
    io::copy(&mut file.take(CAP as u64 + 1), &mut hasher)?;
    Ok((hasher.finish() == known).then_some(index))
}

/// Takes an index apart, unless it is the recent one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(bytes: Vec<u8>) -> Result<Arc<IndexDocument>, String> {
    let digest = Digest::sha256(&bytes);
    let is_this = |(known, ..): &&Recent| *known == digest;
    let known = recent().as_ref().filter(is_this).and_then(|(_, index, _)| index.upgrade());
    if let Some(index) = known {
        return Ok(index);
    }
    let index = Arc::new(IndexDocument::parse(bytes)?);
    *recent() = Some((digest, Arc::downgrade(&index), None));
    Ok(index)
}

/// Keeps an index that was written as these bytes.
pub(super) fn written(bytes: &[u8], index: IndexDocument) {
    let index = Arc::new(index);
    *recent() = Some((Digest::sha256(bytes), Arc::downgrade(&index), Some(index)));
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
            let kept = parse(index(number)).unwrap();
            assert_eq!(size(&kept), number);
            assert!(parse(b"{}]".to_vec()).is_err());
            assert!(Arc::ptr_eq(&kept, &parse(index(number)).unwrap()));
            written(&index(13), IndexDocument::parse(index(13)).unwrap());
            assert_eq!(size(&parse(index(13)).unwrap()), 13);
        }
    }
}
