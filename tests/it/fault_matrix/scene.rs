//! Where a row happens: a registry and an image for its step, and the runs against it.

use std::path::PathBuf;
use std::sync::LazyLock;

use crate::support::{
    BrokenRoute, Built, FaultRegistry, KIB, MIB, Outcome, PushedImage, Request, TestContext, artifact, image,
    random,
};

use super::row::Step;

const USER: &str = "someone";
const PASSWORD: &str = "open sesame";

/// An image whose layer has a journal's record in it, and ends within a MiB.
static STREAMED: LazyLock<Built> = LazyLock::new(|| image().layer(random(MIB + 300 * KIB)).into());
/// One whose layer has three segments of a MiB, the last of them short.
static SEGMENTED: LazyLock<Built> = LazyLock::new(|| image().layer(random(2 * MIB + 300 * KIB)).into());
/// One for what happens before the layer.
static SMALL: LazyLock<Built> = LazyLock::new(|| image().layer(random(3000)).into());

/// A registry that is about to be broken.
pub(super) struct Scene {
    step: Step,
    pub(super) registry: FaultRegistry,
    storage: Option<FaultRegistry>,
    pub(super) image: PushedImage,
    context: TestContext,
}

impl Step {
    fn built(self) -> &'static Built {
        match self {
            Self::Layer | Self::Guarded | Self::Storage => &STREAMED,
            Self::Segments => &SEGMENTED,
            Self::Ping | Self::Token | Self::Head | Self::Manifest | Self::Config | Self::Referrers => &SMALL,
        }
    }

    /// How many bytes the layer has, where the step is about one.
    pub(super) fn layer_size(self) -> usize {
        self.built().layers[0].bytes.len()
    }

    /// How many bytes the config has.
    pub(super) fn config_size(self) -> usize {
        self.built().config.as_ref().map_or(0, |config| config.bytes.len())
    }

    /// How many bytes the manifest has.
    pub(super) fn manifest_size(self) -> usize {
        self.built().document.len()
    }

    /// What the step's requests are about, by the digest of its subject.
    fn is_about_layer(self) -> bool {
        matches!(self, Self::Layer | Self::Segments | Self::Guarded | Self::Storage)
    }

    pub(super) fn scene(self) -> Scene {
        let storage = (self == Self::Storage).then(FaultRegistry::start);
        let registry = match (self, &storage) {
            (Self::Ping, _) => FaultRegistry::builder().basic_auth(USER, PASSWORD).start(),
            (Self::Token | Self::Guarded, _) => {
                FaultRegistry::builder().token_auth().token_lifetime(None).start()
            }
            (_, Some(storage)) => FaultRegistry::builder().redirect_blobs_to(storage).signed_urls().start(),
            _ => FaultRegistry::start(),
        };
        let image = registry.push(self.built().clone());
        if self == Self::Referrers {
            let sbom =
                artifact("application/vnd.example.sbom").layer("materials").subject(image.descriptor());
            registry.push_untagged(image.repository(), sbom);
        }
        Scene { step: self, registry, storage, image, context: TestContext::new() }
    }
}

/// How many bytes the list of the referrers has.
pub(super) fn listing_size() -> usize {
    let Scene { registry, image, .. } = Step::Referrers.scene();
    registry.referrers_list(&image).len()
}

impl Scene {
    /// Where the step's faults belong.
    pub(super) fn route(&self) -> BrokenRoute<'_> {
        let (registry, layer) = (&self.registry, self.image.layer(0));
        match self.step {
            Step::Ping => registry.on_ping(),
            Step::Token => registry.on_token(),
            Step::Head => registry.on_head(self.image.tag()),
            Step::Manifest => registry.on_manifest(self.image.digest()),
            Step::Config => registry.on_blob(self.image.config()),
            Step::Layer | Step::Segments | Step::Guarded => registry.on_blob(layer),
            Step::Storage => self.broken().on_blob(layer),
            Step::Referrers => registry.on_path("/v2/app/referrers/"),
        }
    }

    /// The server that is broken.
    pub(super) fn broken(&self) -> &FaultRegistry {
        self.storage.as_ref().unwrap_or(&self.registry)
    }

    /// The requests of the step that reached the broken server.
    pub(super) fn asked(&self) -> Vec<Request> {
        let image = &self.image;
        let is_it = |request: &Request| match self.step {
            Step::Ping => request.path == "/v2/" && request.header("authorization").is_none(),
            Step::Token => request.path == "/token",
            Step::Head => request.method == "HEAD" && request.subject() == Some(image.tag()),
            Step::Manifest => request.method == "GET" && request.subject() == Some(image.digest()),
            Step::Config => request.is_blob() && request.subject() == Some(image.config()),
            Step::Layer | Step::Segments | Step::Guarded | Step::Storage => {
                request.is_blob() && request.subject() == Some(image.layer(0))
            }
            Step::Referrers => request.path.starts_with("/v2/app/referrers/sha256:"),
        };
        self.broken().requests().into_iter().filter(is_it).collect()
    }

    /// What an error at this step has to name.
    pub(super) fn subjects(&self) -> Vec<String> {
        let mut subjects = vec![self.broken().host()];
        match self.step {
            Step::Ping => {}
            Step::Token | Step::Head => subjects.push(self.image.reference()),
            Step::Manifest | Step::Referrers => {
                subjects.extend([self.image.reference(), self.image.digest().into()]);
            }
            Step::Config => subjects.extend([self.image.reference(), self.image.config().into()]),
            _ => subjects.extend([self.image.reference(), self.image.layer(0).into()]),
        }
        subjects
    }

    /// One run of what the step belongs to: few retries, one connection, so that requests have an order.
    pub(super) fn run(&self, options: &[&str]) -> Outcome {
        let has_retries = options.iter().any(|option| option.starts_with("--retries"));
        let retries: &[&str] = if has_retries { &[] } else { &["--retries=1"] };
        let common = retries;
        if self.step == Step::Ping {
            let login = self.context.run(["login", &self.registry.host(), "--username", USER]);
            let login = login.args(["--password-stdin", "--authfile"]).arg(self.auth_file());
            return login.args(common).args(options).stdin(PASSWORD).run();
        }
        let fetch = self.context.fetch(&self.registry, &self.image);
        let fetch = fetch.args(common).args(["--connections", "1", "--json"]).args(options);
        match self.step {
            Step::Segments => fetch.args(["--segment-size", "1MiB"]).run(),
            Step::Referrers => fetch.arg("--referrers").run(),
            _ => fetch.run(),
        }
    }

    pub(super) fn out(&self) -> PathBuf {
        self.context.out()
    }

    pub(super) fn auth_file(&self) -> PathBuf {
        self.context.path().join("auth.json")
    }

    /// Whether the step comes before anything is written.
    pub(super) fn is_early(&self) -> bool {
        matches!(self.step, Step::Token | Step::Head | Step::Manifest | Step::Config)
    }

    pub(super) fn is_about_layer(&self) -> bool {
        self.step.is_about_layer()
    }

    pub(super) fn is_login(&self) -> bool {
        self.step == Step::Ping
    }

    /// How many bytes of blobs were sent since the last look.
    pub(super) fn take_blob_bytes(&self) -> u64 {
        let servers = || [Some(&self.registry), self.storage.as_ref()].into_iter().flatten();
        let sent = servers().map(FaultRegistry::blob_bytes_sent).sum();
        servers().for_each(FaultRegistry::clear_requests);
        sent
    }
}
