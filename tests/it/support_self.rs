//! Tests of the tests' own ground: the registry answers as a registry does, breaks exactly as asked and counts what it
//! sends; the checker finds what is wrong. An independent client (reqwest) stands in for ocipull.

mod access;
mod belonging;
mod faults;
mod layouts;
mod programs;
mod routes;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};

use crate::support::{FaultRegistry, PushedImage};

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

/// A client that follows nothing and knows no proxy.
fn client() -> Client {
    client_with(Vec::new())
}

fn client_with(trusted: Vec<reqwest::Certificate>) -> Client {
    // Fails when another test was first, which is as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().no_proxy().redirect(Policy::none()).tls_certs_only(trusted);
    builder.build().expect("the client is valid")
}

async fn send(request: RequestBuilder) -> Result<Reply, reqwest::Error> {
    let mut response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
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
