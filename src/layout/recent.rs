//! The `index.json` that was read or written last, taken apart.
//!
//! A fetch of many images looks at the index several times for each of them, and to take it apart again each time would make
//! the whole take the square of their number. What is kept is found by the file's bytes, all of them, so that it does not matter
//! who changed the file, when, or how: other bytes are read anew. One index is kept for the whole process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::index::IndexDocument;

/// A larger one, which some 30,000 images make, is not kept: memory counts more then.
const LARGEST: usize = 16 << 20;

static RECENT: Mutex<Option<(Vec<u8>, Arc<IndexDocument>)>> = Mutex::new(None);

fn recent() -> MutexGuard<'static, Option<(Vec<u8>, Arc<IndexDocument>)>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes an index apart, unless it is the recent one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(bytes: Vec<u8>) -> Result<Arc<IndexDocument>, String> {
    if let Some((known, index)) = &*recent()
        && *known == bytes
    {
        return Ok(Arc::clone(index));
    }
    let index = Arc::new(IndexDocument::parse(&bytes)?);
    remember(bytes, Arc::clone(&index));
    Ok(index)
}

/// Keeps an index whose bytes are these.
pub(super) fn remember(bytes: Vec<u8>, index: Arc<IndexDocument>) {
    *recent() = (bytes.len() <= LARGEST).then_some((bytes, index));
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
            assert_eq!(size(&parse(index(number)).unwrap()), number);
            assert!(parse(b"{}]".to_vec()).is_err());
        }
    }
}
