//! What verification costs beside the work that it cannot do without: inflating one layer, hashing it, and both with what is
//! proven of it.
//!
//! `OCIPULL_BENCH_LAYER` names a layer in a file (gzip); without it one is made of text, of 32 MiB uncompressed. It is read from
//! the page cache, as a layer is that has just been downloaded.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use flate2::bufread::MultiGzDecoder;
use ocipull::digest::{Algorithm, Digest};
use ocipull::verify::{BlobVerifier, Content, Hashing, SpareCores, verify_reader};

/// How much is read at once, by everything that is measured.
const READ: usize = 256 << 10;

struct Layer {
    path: PathBuf,
    digest: Digest,
    size: u64,
    /// What was made for the measurement goes with it.
    _made: Option<tempfile::NamedTempFile>,
}

impl Layer {
    fn wanted() -> Self {
        let named = std::env::var_os("OCIPULL_BENCH_LAYER").map(PathBuf::from);
        let (path, made) = if let Some(path) = named {
            (path, None)
        } else {
            let file = made().expect("a temporary file can be written");
            (file.path().to_owned(), Some(file))
        };
        let mut hasher = Algorithm::Sha256.hasher();
        let mut file = File::open(&path).expect("the layer can be read");
        let size = io::copy(&mut file, &mut hasher).expect("the layer can be read");
        Self { path, digest: hasher.finish(), size, _made: made }
    }

    fn open(&self) -> BufReader<File> {
        BufReader::with_capacity(READ, File::open(&self.path).expect("the layer can be read"))
    }

    fn verify(&self, hashing: Hashing) {
        let content = Content::Layer { diff_id: Algorithm::Sha256 };
        let verifier = BlobVerifier::new(self.digest, self.size, content).with_hashing(hashing);
        let file = File::open(&self.path).expect("the layer can be read");
        black_box(verify_reader(file, verifier).expect("the layer holds"));
    }
}

/// A layer of lines that repeat themselves as source text does: some four to one.
fn made() -> io::Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new()?;
    let mut encoder = flate2::write::GzEncoder::new(file.as_file(), flate2::Compression::new(6));
    let mut state = 1_u64;
    let mut written = 0;
    while written < 32 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let line =
            format!("    let value_{} = call_{:x}(argument, {});\n", state >> 60, state >> 44, state >> 56);
        encoder.write_all(line.as_bytes())?;
        written += line.len();
    }
    encoder.finish()?;
    Ok(file)
}

/// Reads to the end and throws away.
fn drain(mut reader: impl Read) {
    let mut buffer = vec![0; READ];
    while reader.read(&mut buffer).expect("the layer holds") > 0 {
        black_box(&buffer);
    }
}

fn layer(criterion: &mut Criterion) {
    let layer = Layer::wanted();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut group = criterion.benchmark_group("layer");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    group.bench_function("read", |bencher| bencher.iter(|| drain(layer.open())));
    group.bench_function("inflate", |bencher| bencher.iter(|| drain(MultiGzDecoder::new(layer.open()))));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| layer.verify(Hashing::Spare(SpareCores::new(cores - 1))));
    });
    group.bench_function("verify-one-core", |bencher| bencher.iter(|| layer.verify(Hashing::Inline)));
    group.bench_function("hash", |bencher| {
        bencher.iter(|| {
            let mut hasher = Algorithm::Sha256.hasher();
            black_box(io::copy(&mut layer.open(), &mut hasher).expect("the layer can be read"));
            black_box(hasher.finish())
        });
    });
    group.finish();
}

criterion_group!(benches, layer);
criterion_main!(benches);
