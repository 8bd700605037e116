//! Tests of the tests' own ground: the registry answers as a registry does, breaks exactly as asked and counts what it
//! sends; the checker finds what is wrong. A client of their own stands in for ocipull.

mod access;
mod belonging;
mod client;
mod faults;
mod layouts;
mod programs;
mod routes;

use http::HeaderMap;
use hyper_util::client::legacy;

use crate::support::{FaultRegistry, PushedImage};
use client::{Asking, client, client_with};

/// An answer as far as it came.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Whether the body ended other than the headers had announced.
    broken: bool,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers here are text"))
    }
}

async fn send(request: Asking) -> Result<Reply, legacy::Error> {
    let mut response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    Ok(Reply { status, headers, body, broken })
}

async fn get(url: String) -> Reply {
    send(client().get(url)).await.expect("an answer")
}

async fn get_range(url: String, range: &str) -> Reply {
    send(client().get(url).header("range", range)).await.expect("an answer")
}

fn blob_url(registry: &FaultRegistry, digest: &str) -> String {
    format!("{}/v2/app/blobs/{digest}", registry.url())
}

fn layer_url(registry: &FaultRegistry, image: &PushedImage) -> String {
    blob_url(registry, image.layer(0))
}

fn manifest_url(registry: &FaultRegistry, reference: &str) -> String {
    format!("{}/v2/app/manifests/{reference}", registry.url())
}
