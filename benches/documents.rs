//! What reading documents costs: manifests of few and of many layers, and indexes of many manifests. All are checked as those of
//! a registry are.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ocipull::digest::Digest;
use ocipull::manifest::Manifest;

const MEDIA_TYPE: &str = "application/vnd.oci.image";

fn descriptor(number: usize, kind: &str, more: &str) -> String {
    let digest = Digest::sha256(number.to_string().as_bytes());
    format!(r#"{{"mediaType":"{MEDIA_TYPE}.{kind}","digest":"{digest}","size":{number}{more}}}"#)
}

fn list(count: usize, kind: &str, more: &str) -> String {
    let mut text = String::new();
    for number in 1..=count {
        let comma = if number == 1 { "" } else { "," };
        let _ = write!(text, "{comma}{}", descriptor(number, kind, more));
    }
    text
}

fn image(layers: usize) -> String {
    let config = descriptor(0, "config.v1+json", "");
    let layers = list(layers, "layer.v1.tar+gzip", "");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE}.manifest.v1+json","config":{config},"layers":[{layers}]}}"#
    )
}

fn index(manifests: usize) -> String {
    let platform = r#","platform":{"os":"linux","architecture":"amd64"}"#;
    let manifests = list(manifests, "manifest.v1+json", platform);
    format!(r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE}.index.v1+json","manifests":[{manifests}]}}"#)
}

fn documents(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("documents");
    group.sample_size(20).measurement_time(Duration::from_secs(1));
    for (name, document) in [
        ("image-10", image(10)),
        ("image-10000", image(10_000)),
        ("index-20", index(20)),
        ("index-10000", index(10_000)),
    ] {
        let document = Bytes::from(document);
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &document, |bencher, document| {
            bencher.iter(|| black_box(Manifest::parse(document.clone(), None).expect("it is sound")));
        });
    }
    group.finish();
}

criterion_group!(benches, documents);
criterion_main!(benches);
