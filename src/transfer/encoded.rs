//! A blob that came with a `Content-Encoding` nobody asked for.
//!
//! Some registries label a gzip layer as `Content-Encoding: gzip`, others really encode it; the header cannot tell
//! them apart, the digest can. So the body is kept aside as received and tried as it is, then decoded. Such a body is
//! never split or resumed: its offsets may not be the blob's.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::TransferError;
use super::segment::Assignment;
use super::{Engine, Job};
use crate::digest::Digest;
use crate::layout::{LayoutError, Operation, Scratch, StagedBlob};
use crate::registry::{BlobBody, Content, ContentEncoding};

/// The largest window that zstd may have as a content coding: 8 MiB (RFC 9659).
const WINDOW_LOG: u32 = 23;

/// Reads and writes of this size.
const STEP: usize = 128 << 10;

/// Takes the whole body aside, finds the blob in it, and fills the staged file with that.
pub(super) async fn download(
    engine: &Engine,
    job: &Job,
    staged: &Arc<StagedBlob>,
    assignment: &Assignment,
    mut body: BlobBody,
) -> Result<(), TransferError> {
    let encoding = match body.content() {
        Content::Whole { encoding: Some(encoding), .. } => *encoding,
        _ => return Ok(()),
    };
    job.responses.fetch_add(1, Ordering::Relaxed);
    let (digest, size) = (job.digest(), job.size());
    let mut scratch = staged.scratch()?;
    // None of this is progress before the end: after a cut it is all asked for again.
    while let Some(chunk) = body.chunk().await? {
        scratch.append(&chunk)?;
    }
    let _turn = engine.decoding.acquire().await.map_err(|_| TransferError::Stopped)?;
    let target = Arc::clone(staged);
    let filled = tokio::task::spawn_blocking(move || fill(&scratch, &target, &digest, size, encoding)).await;
    filled.map_err(|_| TransferError::Stopped)??;
    let standing = engine.schedule().advanced(assignment, 0..size);
    engine.filled(job, standing);
    Ok(())
}

/// Fills the staged file with the body as received when that is the blob, else with the body decoded.
fn fill(
    scratch: &Scratch,
    staged: &StagedBlob,
    digest: &Digest,
    size: u64,
    encoding: ContentEncoding,
) -> Result<(), TransferError> {
    let is_blob = scratch.len() == size && {
        let mut hasher = digest.algorithm().hasher();
        let mut file = scratch.reader()?;
        std::io::copy(&mut file, &mut hasher).map_err(|error| scratch.error(error))?;
        hasher.finish() == *digest
    };
    let file = scratch.reader()?;
    let mut source: Box<dyn Read> =
        if is_blob { Box::new(file) } else { decoder(file, encoding, scratch.path())? };
    let mut buffer = vec![0; STEP];
    let mut written = 0;
    loop {
        let read = source.read(&mut buffer).map_err(|source| TransferError::Encoding {
            digest: *digest,
            encoding,
            source,
        })?;
        if read == 0 {
            break;
        }
        if written + read as u64 > size {
            return Err(TransferError::DecodedLength { digest: *digest, encoding, size });
        }
        staged.write_at(&buffer[..read], written)?;
        written += read as u64;
    }
    if written == size {
        Ok(())
    } else {
        Err(TransferError::DecodedLength { digest: *digest, encoding, size })
    }
}

/// Whether the file begins with a zlib header: method 8, and a check that makes it a multiple of 31 (RFC 1950).
fn begins_as_zlib(file: &File) -> bool {
    let mut header = [0; 2];
    let read = crate::layout::read_at(file, &mut header, 0);
    matches!(read, Ok(2)) && header[0] & 0x0f == 8 && u16::from_be_bytes(header) % 31 == 0
}

fn decoder(file: File, encoding: ContentEncoding, path: &Path) -> Result<Box<dyn Read>, TransferError> {
    Ok(match encoding {
        ContentEncoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        // By the book it is zlib's format (RFC 9110, section 8.4.1.2); some servers send the bare stream.
        ContentEncoding::Deflate if begins_as_zlib(&file) => Box::new(flate2::read::ZlibDecoder::new(file)),
        ContentEncoding::Deflate => Box::new(flate2::read::DeflateDecoder::new(file)),
        ContentEncoding::Zstd => {
            let io = |source| LayoutError::Io { operation: Operation::Read, path: path.to_owned(), source };
            let mut decoder = zstd::stream::read::Decoder::new(file).map_err(io)?;
            decoder.window_log_max(WINDOW_LOG).map_err(io)?;
            Box::new(decoder)
        }
    })
}
