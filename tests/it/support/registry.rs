//! The registry as the tests see it: push into it, break it, and ask what reached it.
//!
//! It answers correctly until a rule says otherwise. A request for anything that a registry does not have makes the
//! test fail when the registry is dropped, so that a client cannot ask stray questions unnoticed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::builder::{Builder, base_url};
use super::faults::{BrokenRoute, Route};
use super::image::Built;
use super::request::Request;
use super::server::Shared;

/// How long a test waits for something that it expects, before it fails.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a condition is looked at that nothing announced.
const GLANCE: Duration = Duration::from_millis(100);

/// A registry on a free port of 127.0.0.1, with faults on request.
pub(crate) struct FaultRegistry {
    pub(crate) shared: Arc<Shared>,
    runtime: Option<Runtime>,
    ca: Option<String>,
    folder: TempDir,
}

impl FaultRegistry {
    /// Plain http, nothing to log in to.
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    /// Anything else.
    pub(crate) fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn started(shared: Arc<Shared>, runtime: Runtime, ca: Option<String>) -> Self {
        let folder = TempDir::new().unwrap();
        Self { shared, runtime: Some(runtime), ca, folder }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> String {
        self.shared.address.to_string()
    }

    /// `http://127.0.0.1:PORT`, or https with TLS.
    pub(crate) fn url(&self) -> String {
        base_url(self.shared.tls.is_some(), self.shared.address)
    }

    /// A file with the certificate that a client has to trust; `None` without TLS.
    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        let file = self.folder.path().join("ca.pem");
        std::fs::write(&file, self.ca.as_ref()?).unwrap();
        Some(file)
    }

    /// Pushes as `app:v1`.
    pub(crate) fn push(&self, content: impl Into<Built>) -> PushedImage {
        self.push_as("app", "v1", content)
    }

    /// Pushes everything below `content` and lets `repository:tag` name it, or name it from now on.
    pub(crate) fn push_as(&self, repository: &str, tag: &str, content: impl Into<Built>) -> PushedImage {
        let built = content.into();
        self.shared.store.lock().unwrap().push(repository, Some(tag), &built);
        PushedImage::new(self.host(), repository, tag, built)
    }

    /// Breaks GETs of this blob.
    pub(crate) fn on_blob(&self, digest: &str) -> BrokenRoute<'_> {
        self.on(Route::Blob(digest.into()))
    }

    /// Breaks GETs of the manifest by this tag or digest.
    pub(crate) fn on_manifest(&self, reference: &str) -> BrokenRoute<'_> {
        self.on(Route::Manifest(reference.into()))
    }

    /// Breaks HEADs of the manifest by this tag or digest, or of the blob by this digest.
    pub(crate) fn on_head(&self, reference: &str) -> BrokenRoute<'_> {
        self.on(Route::Head(reference.into()))
    }

    /// Breaks the token endpoint.
    pub(crate) fn on_token(&self) -> BrokenRoute<'_> {
        self.on(Route::Token)
    }

    /// Breaks `/v2/` itself, before authentication.
    pub(crate) fn on_ping(&self) -> BrokenRoute<'_> {
        self.on(Route::Ping)
    }

    /// Breaks everything whose path starts with `prefix`, before authentication.
    pub(crate) fn on_path(&self, prefix: &str) -> BrokenRoute<'_> {
        self.on(Route::Path(prefix.into()))
    }

    fn on(&self, route: Route) -> BrokenRoute<'_> {
        BrokenRoute { rules: &self.shared.rules, route }
    }

    /// Makes everything right again.
    pub(crate) fn mend(&self) {
        self.shared.rules.clear();
        self.cut_handshakes(0);
        self.shared.up.send_replace(true);
        self.wait_until("it listens", |registry| registry.shared.listens.load(Ordering::SeqCst));
    }

    /// Closes the next connections in the middle of their TLS handshakes.
    pub(crate) fn cut_handshakes(&self, count: usize) {
        self.shared.handshakes_to_cut.store(count, Ordering::SeqCst);
    }

    /// TLS handshakes that were cut on purpose.
    pub(crate) fn handshakes_cut(&self) -> usize {
        self.shared.connections.cut_handshakes.load(Ordering::SeqCst)
    }

    /// The faults that hit no request, or fewer than they are for: a test that relies on them proves nothing.
    pub(crate) fn idle_faults(&self) -> Vec<String> {
        self.shared.rules.idle()
    }

    /// Limits all bodies together to this rate, as a slow link does. 0 is no limit.
    pub(crate) fn throttle(&self, bytes_per_second: u64) {
        self.shared.link.set(bytes_per_second);
    }

    /// Limits each connection to this rate from its next request on, as many a CDN does. 0 is no limit.
    pub(crate) fn throttle_each_connection(&self, bytes_per_second: u64) {
        self.shared.bytes_per_second_each.store(bytes_per_second, Ordering::SeqCst);
    }

    /// Everything that was asked, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Everything that was asked, as `METHOD TAG-OR-DIGEST`, or with the path where it is about neither.
    pub(crate) fn asked(&self) -> Vec<String> {
        let requests = self.shared.requests.lock().unwrap();
        let line =
            |request: &Request| format!("{} {}", request.method, request.subject().unwrap_or(&request.path));
        requests.iter().map(line).collect()
    }

    /// What was asked about one tag or digest.
    pub(crate) fn requests_for(&self, subject: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.subject() == Some(subject)).collect()
    }

    /// Forgets what was asked up to now.
    pub(crate) fn clear_requests(&self) {
        self.shared.requests.lock().unwrap().clear();
    }

    /// The bytes of blobs that were written to sockets since the requests were last cleared.
    pub(crate) fn blob_bytes_sent(&self) -> u64 {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|request| request.is_blob()).map(Request::body_sent).sum()
    }

    /// The largest number of connections with a request on them that were open at once.
    pub(crate) fn open_connections_peak(&self) -> usize {
        self.shared.connections.peak.load(Ordering::SeqCst)
    }

    /// Connections with a request on them that are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.shared.connections.open.load(Ordering::SeqCst)
    }

    /// Connections that began with something else than HTTP: a TLS hello without TLS, or the other way round.
    pub(crate) fn connections_not_http(&self) -> usize {
        self.shared.connections.not_http.load(Ordering::SeqCst)
    }

    /// TLS handshakes that did not complete.
    pub(crate) fn failed_handshakes(&self) -> usize {
        self.shared.connections.failed_handshakes.load(Ordering::SeqCst)
    }

    /// Tokens given out.
    pub(crate) fn tokens_issued(&self) -> usize {
        self.shared.issuer.issued()
    }

    /// Ends every token given out up to now.
    pub(crate) fn revoke_tokens(&self) {
        self.shared.issuer.revoke_all();
    }

    /// Ends every signed URL given out up to now.
    pub(crate) fn expire_signed_urls(&self) {
        self.shared.store.lock().unwrap().signatures().expire_all();
    }

    /// Lets every signed URL be good for this many requests.
    pub(crate) fn signed_url_uses(&self, requests: u64) {
        self.shared.store.lock().unwrap().signatures().uses = Some(requests);
    }

    /// Blocks until the condition holds, which is looked at whenever something happens here.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
            let lock = self.shared.activity.lock.lock().unwrap();
            drop(self.shared.activity.changed.wait_timeout(lock, GLANCE).unwrap());
        }
    }

    /// Blocks until this many bytes of blobs were sent.
    pub(crate) fn wait_for_blob_bytes(&self, bytes: u64) {
        self.wait_until("bytes of blobs", |registry| registry.blob_bytes_sent() >= bytes);
    }

    /// Fails when something was asked for that a registry does not have. Dropping the registry does this too.
    pub(crate) fn assert_no_unexpected(&self) {
        let unexpected = self.shared.unexpected.lock().unwrap();
        assert!(unexpected.is_empty(), "requests that no test expects: {unexpected:#?}");
    }

    /// Forgets, and returns, the requests that would fail the test.
    pub(crate) fn take_unexpected(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.unexpected.lock().unwrap())
    }
}

impl Drop for FaultRegistry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for the threads is not allowed inside the runtime of an async test.
            runtime.shutdown_background();
        }
        if !std::thread::panicking() {
            self.assert_no_unexpected();
        }
    }
}

/// An image, artifact or index in a registry.
#[derive(Debug, Clone)]
pub(crate) struct PushedImage {
    host: String,
    repository: String,
    tag: String,
    built: Built,
}

impl PushedImage {
    pub(crate) fn new(host: String, repository: &str, tag: &str, built: Built) -> Self {
        Self { host, repository: repository.into(), tag: tag.into(), built }
    }

    /// The repository's path.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// All of it, as it was pushed.
    #[cfg(feature = "failpoints")]
    pub(crate) fn built(&self) -> &Built {
        &self.built
    }

    /// The descriptor of what the tag names, as a manifest's `subject` has it.
    pub(crate) fn descriptor(&self) -> serde_json::Value {
        self.built.descriptor(None)
    }

    /// `HOST/REPOSITORY:TAG`
    pub(crate) fn reference(&self) -> String {
        format!("{}/{}:{}", self.host, self.repository, self.tag)
    }

    /// `HOST/REPOSITORY@DIGEST`
    pub(crate) fn reference_by_digest(&self) -> String {
        format!("{}/{}@{}", self.host, self.repository, self.built.digest)
    }

    /// `HOST/REPOSITORY:TAG@DIGEST`
    pub(crate) fn reference_by_both(&self) -> String {
        format!("{}@{}", self.reference(), self.built.digest)
    }

    /// The tag alone.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// The digest of what the tag names.
    pub(crate) fn digest(&self) -> &str {
        &self.built.digest
    }

    /// The bytes of what the tag names.
    pub(crate) fn document(&self) -> &[u8] {
        &self.built.document
    }

    /// The media type of what the tag names.
    pub(crate) fn media_type(&self) -> &str {
        &self.built.media_type
    }

    /// The digest of the config.
    pub(crate) fn config(&self) -> &str {
        &self.built.config.as_ref().expect("an index has no config").digest
    }

    /// The digest of the layer at `position`.
    pub(crate) fn layer(&self, position: usize) -> &str {
        &self.built.layers[position].digest
    }

    /// The bytes of the layer at `position`, as they are transferred.
    pub(crate) fn layer_bytes(&self, position: usize) -> &[u8] {
        &self.built.layers[position].bytes
    }

    /// The diff ID that the config claims for the layer at `position`.
    pub(crate) fn diff_id(&self, position: usize) -> &str {
        &self.built.diff_ids[position]
    }

    /// The digests of all layers.
    pub(crate) fn layers(&self) -> Vec<&str> {
        self.built.layers.iter().map(|layer| layer.digest.as_str()).collect()
    }

    /// The bytes of the config and of all layers, each digest once: what a fetch into an empty layout downloads.
    pub(crate) fn blob_bytes(&self) -> u64 {
        let blobs = self.built.config.iter().chain(&self.built.layers);
        let sizes: std::collections::BTreeMap<_, _> =
            blobs.map(|blob| (&blob.digest, blob.bytes.len() as u64)).collect();
        sizes.values().sum()
    }

    /// The entry of an index at `position`, in the same repository.
    pub(crate) fn child(&self, position: usize) -> Self {
        Self { built: self.built.children[position].clone(), ..self.clone() }
    }
}
