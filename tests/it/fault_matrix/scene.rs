//! Where a row happens: a registry and an image for its step, and the runs against it.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::json;

use crate::support::{
    BrokenRoute, Built, Certificate, FaultRegistry, KIB, MIB, Outcome, PushedImage, Request, Summary,
    TestContext, artifact, check_layout, image, random, write_layout,
};

use super::row::{Manner, Step};

const USER: &str = "someone";
const PASSWORD: &str = "open sesame";

/// An image whose layer has a journal's record in it, and ends within a MiB.
static STREAMED: LazyLock<Built> = LazyLock::new(|| image().layer(random(MIB + 300 * KIB)).into());
/// One whose layer has three segments of a MiB, the last of them short.
static SEGMENTED: LazyLock<Built> = LazyLock::new(|| image().layer(random(2 * MIB + 300 * KIB)).into());
/// One for what happens before the layer.
static SMALL: LazyLock<Built> = LazyLock::new(|| image().layer(random(3000)).into());

/// One that another tool left in the layout before.
static EARLIER: LazyLock<Built> = LazyLock::new(|| image().layer(random(2000)).into());
/// What that one is called, and where that stands.
const EARLIER_NAME: &str = "earlier";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What a fetch finds where it is to put the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// A layout with an image that has nothing to do with it.
    AnImage,
}

/// A registry that is about to be broken.
pub(super) struct Scene {
    step: Step,
    before: Before,
    pub(super) registry: FaultRegistry,
    storage: Option<FaultRegistry>,
    pub(super) image: PushedImage,
    context: TestContext,
}

impl Step {
    fn built(self) -> &'static Built {
        match self {
            Self::Layer | Self::Storage => &STREAMED,
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
        matches!(self, Self::Layer | Self::Segments | Self::Storage)
    }

    /// What a row is run from: a login has no layout.
    pub(super) fn befores(self) -> &'static [Before] {
        match self {
            Self::Ping => &[Before::Nothing],
            _ => &[Before::Nothing, Before::AnImage],
        }
    }

    pub(super) fn scene(self, manner: Manner, before: Before) -> Scene {
        let builder = || match manner {
            Manner::Tls => FaultRegistry::builder().tls(Certificate::SelfSigned),
            Manner::Open | Manner::Guarded => FaultRegistry::builder(),
        };
        let storage = (self == Self::Storage).then(|| builder().start());
        let registry = match (self, &storage) {
            (Self::Ping, _) => builder().basic_auth(USER, PASSWORD),
            (_, Some(storage)) => builder().redirect_blobs_to(storage).signed_urls(),
            _ => builder(),
        };
        let registry = match (self, manner) {
            (Self::Token, _) | (_, Manner::Guarded) => registry.token_auth().token_lifetime(None),
            _ => registry,
        };
        let registry = registry.start();
        let image = registry.push(self.built().clone());
        if self == Self::Referrers {
            let sbom =
                artifact("application/vnd.example.sbom").layer("materials").subject(image.descriptor());
            registry.push_untagged(image.repository(), sbom);
        }
        let context = TestContext::new();
        if before == Before::AnImage {
            write_layout(&context.out(), EARLIER_NAME, EARLIER.clone());
        }
        Scene { step: self, before, registry, storage, image, context }
    }
}

/// How many bytes the list of the referrers has.
pub(super) fn listing_size() -> usize {
    let Scene { registry, image, .. } = Step::Referrers.scene(Manner::Open, Before::Nothing);
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
            Step::Layer | Step::Segments => registry.on_blob(layer),
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
            Step::Layer | Step::Segments | Step::Storage => {
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
        let mut common = Vec::new();
        if !has_retries {
            common.push("--retries=1".into());
        }
        for authority in self.servers().filter_map(FaultRegistry::ca_file) {
            common.extend(["--ca-file".into(), authority.into_os_string()]);
        }
        if self.step == Step::Ping {
            let login = self.context.run(["login", &self.registry.host(), "--username", USER]);
            let login = login.args(["--password-stdin", "--authfile"]).arg(self.auth_file());
            return login.args(common).args(options).stdin(PASSWORD).run();
        }
        let fetch = self.context.run(["fetch", &self.image.reference()]).arg(self.out());
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
        let sent = self.servers().map(FaultRegistry::blob_bytes_sent).sum();
        self.servers().for_each(FaultRegistry::clear_requests);
        sent
    }

    fn servers(&self) -> impl Iterator<Item = &FaultRegistry> {
        [Some(&self.registry), self.storage.as_ref()].into_iter().flatten()
    }

    /// What the layout names besides the image that was there before, which it has to name as it did.
    pub(super) fn names(&self, layout: &Summary) -> Vec<String> {
        let mut digests = layout.digests.clone();
        if self.before == Before::AnImage {
            let at = digests.iter().position(|digest| *digest == EARLIER.digest);
            let at = at.expect("the image that was there before is named");
            let entry = &layout.index["manifests"][at];
            let mut earlier = EARLIER.descriptor(None);
            earlier["annotations"] = json!({ REF_NAME: EARLIER_NAME });
            assert_eq!(*entry, earlier, "the image that was there before is named otherwise");
            digests.remove(at);
        }
        digests
    }

    /// Whether nothing is there but what was there before.
    pub(super) fn is_untouched(&self) -> bool {
        match self.before {
            Before::Nothing => !self.out().exists(),
            Before::AnImage => self.names(&check_layout(&self.out())).is_empty(),
        }
    }
}
