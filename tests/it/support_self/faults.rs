//! Each fault, as a client sees it.

use std::io::Read as _;
use std::time::{Duration, Instant};

use super::{client, get, get_range, layer_url, manifest_url, send};
use crate::support::{Fault, FaultRegistry, Gate, KIB, MIB, PushedImage, image, random, sha256};

/// The blob that the faults are tried on.
const SIZE: usize = 1000;

fn registry_with_blob() -> (FaultRegistry, PushedImage) {
    let registry = FaultRegistry::start();
    let image = registry.push(image().raw_layer("application/octet-stream", random(SIZE)));
    (registry, image)
}

/// A resumed download starts where the cut was, so exactly that many bytes have to arrive.
#[tokio::test]
async fn bodies_stop_exactly_where_asked() {
    let (registry, image) = registry_with_blob();
    let url = layer_url(&registry, &image);

    registry.on_blob(image.layer(0)).once(Fault::CutAfter(300));
    let cut = get(url.clone()).await;
    assert!(cut.broken);
    assert_eq!((cut.body.len(), cut.header("content-length")), (300, Some("1000")));
    registry.on_blob(image.layer(0)).once(Fault::ResetAfter(300));
    let reset = get(url.clone()).await;
    assert!(reset.broken && reset.body.len() <= 300);
    registry.on_blob(image.layer(0)).once(Fault::CutAfter(100));
    let ranged = get_range(url.clone(), "bytes=500-").await;
    assert_eq!((ranged.status, &ranged.body[..]), (206, &image.layer_bytes(0)[500..600]));

    let whole = get(url).await;
    assert!(!whole.broken, "the faults are used up");
    let requests = registry.requests();
    let sent = [0, 1, 2, 3].map(|position: usize| requests[position].body_sent());
    assert_eq!(sent, [300, 300, 100, 1000]);
}

/// A stall keeps the connection until the client gives up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_lasts_until_the_client_leaves() {
    let (registry, image) = registry_with_blob();
    registry.on_blob(image.layer(0)).once(Fault::StallAfter(300));

    let mut response = client().get(layer_url(&registry, &image)).send().await.expect("an answer");
    let mut received = 0;
    while received < 300 {
        received += response.chunk().await.expect("the part before the stall").expect("more").len();
    }
    assert_eq!((received, registry.blob_bytes_sent(), registry.open_connections()), (300, 300, 1));
    drop(response);
    registry.wait_until("the client's leaving", |registry| registry.open_connections() == 0);
}

/// Gates give an order to events without sleeping.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gates_hold_answers_back() {
    let (registry, image) = registry_with_blob();
    let url = layer_url(&registry, &image);

    let gate = Gate::new();
    registry.on_blob(image.layer(0)).once(Fault::Hold(gate.clone()));
    let held = tokio::spawn(get(url.clone()));
    gate.wait_for_arrivals(1);
    assert!(!held.is_finished());
    assert_eq!(registry.blob_bytes_sent(), 0);
    gate.open();
    assert_eq!(held.await.expect("an answer").status, 200);

    registry.clear_requests();
    let gate = Gate::new();
    registry.on_blob(image.layer(0)).once(Fault::HoldAfter(400, gate.clone()));
    let held = tokio::spawn(get(url));
    gate.wait_for_arrivals(1);
    assert_eq!(registry.blob_bytes_sent(), 400);
    gate.open();
    assert_eq!(held.await.expect("an answer").body, image.layer_bytes(0));
}

/// Throttled links are where parallelism and resuming are measured.
#[tokio::test]
async fn bodies_are_paced() {
    let registry = FaultRegistry::start();
    let image = registry.push(image().raw_layer("application/octet-stream", random(MIB)));
    let url = layer_url(&registry, &image);
    let rate = 4 * MIB as u64;

    for slow_down in [
        Box::new(|registry: &FaultRegistry| {
            let fault = Fault::Throttle { bytes_per_second: rate };
            registry.on_blob(image.layer(0)).once(fault);
        }) as Box<dyn Fn(&FaultRegistry)>,
        Box::new(|registry: &FaultRegistry| registry.throttle_each_connection(rate)),
        Box::new(|registry: &FaultRegistry| registry.throttle(rate)),
    ] {
        slow_down(&registry);
        let start = Instant::now();
        assert_eq!(get(url.clone()).await.body.len(), MIB);
        assert!(
            start.elapsed() >= Duration::from_millis(130),
            "a quarter second, less what may be caught up"
        );
        registry.throttle(0);
        registry.throttle_each_connection(0);
    }
}

/// A body that comes byte by byte comes whole, and takes its time.
#[tokio::test]
async fn bodies_drip() {
    let (registry, image) = registry_with_blob();
    let time = Duration::from_millis(100);
    registry.on_blob(image.layer(0)).once(Fault::Drip(time));
    let start = Instant::now();
    assert_eq!(get(layer_url(&registry, &image)).await.body, image.layer_bytes(0));
    assert!(start.elapsed() >= time);
}

/// What a flipped, truncated, prolonged or replaced body looks like.
#[tokio::test]
async fn bodies_are_spoiled() {
    let (registry, image) = registry_with_blob();
    let url = layer_url(&registry, &image);
    let right = image.layer_bytes(0);

    registry.on_blob(image.layer(0)).times(2, Fault::FlipByte(500));
    let mut flipped = right.to_vec();
    flipped[500] ^= 1;
    assert_eq!(get(url.clone()).await.body, flipped);
    assert_eq!(get_range(url.clone(), "bytes=400-").await.body, flipped[400..]);

    registry.on_blob(image.layer(0)).once(Fault::Truncate(700));
    let short = get(url.clone()).await;
    assert_eq!((short.broken, &short.body[..]), (false, &right[..700]));
    registry.on_blob(image.layer(0)).once(Fault::Oversize(24));
    let long = get(url.clone()).await;
    assert_eq!((long.broken, long.body.len()), (false, 1024));
    registry.on_blob(image.layer(0)).once(Fault::Body(b"other".to_vec()));
    assert_eq!(get_range(url.clone(), "bytes=1-2").await.body, b"th");
    registry.on_blob(image.layer(0)).once(Fault::WrongLength(1100));
    let less = get(url.clone()).await;
    assert_eq!((less.broken, less.body.len()), (true, SIZE));
    registry.on_blob(image.layer(0)).once(Fault::WrongLength(900));
    assert_eq!(get(url).await.body, right[..900]);
}

/// Lengths and encodings that clients have to cope with.
#[tokio::test]
async fn bodies_are_framed_and_encoded_otherwise() {
    let (registry, image) = registry_with_blob();
    let url = layer_url(&registry, &image);
    let right = image.layer_bytes(0);

    for fault in [Fault::Chunked, Fault::UntilClose] {
        registry.on_blob(image.layer(0)).once(fault);
        let reply = get(url.clone()).await;
        assert_eq!((reply.header("content-length"), reply.broken, &reply.body[..]), (None, false, right));
    }
    registry.on_blob(image.layer(0)).once(Fault::All(vec![Fault::Chunked, Fault::CutAfter(300)]));
    let cut = get(url.clone()).await;
    assert!(cut.broken);
    assert_eq!(cut.body, right[..300]);

    for encoding in ["gzip", "zstd"] {
        registry.on_blob(image.layer(0)).once(Fault::ContentEncoding(encoding));
        let reply = get_range(url.clone(), "bytes=10-").await;
        assert_eq!((reply.status, reply.header("content-encoding")), (200, Some(encoding)));
        let mut decoded = Vec::new();
        match encoding {
            "gzip" => flate2::read::GzDecoder::new(&reply.body[..]).read_to_end(&mut decoded),
            _ => zstd::Decoder::new(&reply.body[..]).expect("a frame").read_to_end(&mut decoded),
        }
        .expect("really encoded");
        assert_eq!(decoded, right);
    }
}

/// Servers that get ranges wrong, each in its own way.
#[tokio::test]
async fn ranges_are_answered_wrongly() {
    let (registry, image) = registry_with_blob();
    let url = layer_url(&registry, &image);
    let cases = [
        (Fault::IgnoreRange, 200, None),
        (Fault::WrongContentRange("bytes 0-999/1000".into()), 206, Some("bytes 0-999/1000")),
        (Fault::MissingContentRange, 206, None),
        (Fault::RangeNotSatisfiable, 416, None),
    ];
    for (fault, status, content_range) in cases {
        registry.on_blob(image.layer(0)).once(fault.clone());
        let reply = get_range(url.clone(), "bytes=100-").await;
        assert_eq!((reply.status, reply.header("content-range")), (status, content_range), "{fault:?}");
    }
    registry.on_blob(image.layer(0)).once(Fault::MultipartRange);
    let parts = get_range(url, "bytes=100-199").await;
    assert_eq!(parts.header("content-type"), Some("multipart/byteranges; boundary=PART"));
    assert!(parts.body.starts_with(b"--PART\r\n") && parts.body.len() > 100);
}

/// Headers that are missing or lie.
#[tokio::test]
async fn headers_are_spoiled() {
    let (registry, _image) = registry_with_blob();
    let other = sha256(b"other");
    let header = "docker-content-digest";
    let cases = [
        (Fault::NoDigestHeader, header, None),
        (Fault::WrongDigestHeader(other.clone()), header, Some(other.as_str())),
        (Fault::ContentType("text/plain".into()), "content-type", Some("text/plain")),
        (Fault::NoContentType, "content-type", None),
    ];
    for (fault, header, value) in cases {
        registry.on_manifest("v1").once(fault.clone());
        let reply = get(manifest_url(&registry, "v1")).await;
        assert_eq!((reply.status, reply.header(header)), (200, value), "{fault:?}");
    }
    registry.on_head("v1").once(Fault::MethodNotAllowed);
    let head = send(client().head(manifest_url(&registry, "v1"))).await.expect("an answer");
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
    assert_eq!(get(manifest_url(&registry, "v1")).await.status, 200, "only HEAD was broken");
}

/// Whole answers that are replaced, and rules that follow each other.
#[tokio::test]
async fn answers_are_replaced_in_the_order_of_the_rules() {
    let (registry, _image) = registry_with_blob();
    let url = manifest_url(&registry, "v1");
    let slow_down = Fault::RetryAfter { status: 429, value: "1".into() };
    let teapot =
        Fault::StatusWith { status: 418, headers: vec![("X-Pot", "tea".into())], body: b"short".to_vec() };
    registry.on_manifest("v1").once(Fault::CloseBeforeResponse);
    registry.on_manifest("v1").once(slow_down);
    registry.on_manifest("v1").once(teapot);
    registry.on_manifest("v1").once(Fault::Redirect("http://elsewhere.example/".into()));
    registry.on_manifest("v1").once(Fault::RedirectLoop);
    registry.on_manifest("v1").always(Fault::Status(503));

    assert!(send(client().get(&url)).await.is_err());
    let limited = get(url.clone()).await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")));
    let teapot = get(url.clone()).await;
    assert_eq!((teapot.status, teapot.header("x-pot"), &teapot.body[..]), (418, Some("tea"), &b"short"[..]));
    assert_eq!(get(url.clone()).await.header("location"), Some("http://elsewhere.example/"));
    assert_eq!(get(url.clone()).await.header("location"), Some("/v2/app/manifests/v1"));
    for _ in 0..3 {
        assert_eq!(get(url.clone()).await.status, 503);
    }
    registry.mend();
    assert_eq!(get(url).await.status, 200);
}

/// The bytes that are counted are the ones that left for the client, not those of the answer that was planned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_nobody_reads_are_not_counted() {
    let registry = FaultRegistry::start();
    let image = registry.push(image().raw_layer("application/octet-stream", random(64 * MIB)));

    let mut response = client().get(layer_url(&registry, &image)).send().await.expect("an answer");
    response.chunk().await.expect("some bytes");
    registry.wait_for_blob_bytes(64 * KIB as u64);
    drop(response);
    registry.wait_until("the client's leaving", |registry| registry.open_connections() == 0);
    assert!(registry.blob_bytes_sent() < 32 * MIB as u64, "{}", registry.blob_bytes_sent());
}
