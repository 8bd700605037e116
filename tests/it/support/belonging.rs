//! What belongs to images, on the registry's side: the referrers API or the tags that clients keep without it
//! (distribution spec, "Listing Referrers" and "Referrers Tag Schema"), cosign's tags, and simple signing's signatures,
//! by the registry's extension and in a lookaside.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Answer;
use super::content::shared;
use super::image::Built;
use super::registry::{FaultRegistry, PushedImage};
use super::request::Request;
use super::server::Shared;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Where the lookaside is on the registry's own port.
pub(crate) const LOOKASIDE: &str = "/lookaside";

/// What a registry offers beyond pulling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offers {
    /// Whether it lists referrers by itself.
    pub(crate) referrers: bool,
    /// How many it lists at once.
    pub(crate) referrers_per_page: usize,
    /// Whether it keeps simple signing's signatures.
    pub(crate) signatures: bool,
}

impl Default for Offers {
    fn default() -> Self {
        Self { referrers: true, referrers_per_page: usize::MAX, signatures: false }
    }
}

/// What belongs to manifests, by repository and digest.
#[derive(Debug, Default)]
pub(crate) struct Belongings {
    referrers: BTreeMap<(String, String), Vec<Value>>,
    kept: BTreeMap<(String, String), Vec<Bytes>>,
    aside: BTreeMap<String, Vec<Bytes>>,
}

impl Belongings {
    /// Notes whom a manifest names as its subject, and returns that: what a list says of a referrer is its own.
    pub(crate) fn note(&mut self, repository: &str, built: &Built) -> Option<String> {
        let document: Value = serde_json::from_slice(&built.document).ok()?;
        let subject = document["subject"]["digest"].as_str()?.to_owned();
        let mut descriptor = built.descriptor(None);
        let config = document["config"].get("mediaType");
        for (key, value) in [
            ("artifactType", document.get("artifactType").or(config)),
            ("annotations", document.get("annotations")),
        ] {
            if let Some(value) = value {
                descriptor[key] = value.clone();
            }
        }
        let listed = self.referrers.entry((repository.into(), subject.clone())).or_default();
        if !listed.contains(&descriptor) {
            listed.push(descriptor);
        }
        Some(subject)
    }

    fn referrers(&self, repository: &str, subject: &str) -> &[Value] {
        self.referrers.get(&(repository.into(), subject.into())).map_or(&[], Vec::as_slice)
    }

    /// The list that clients keep under a tag where the registry has none.
    pub(crate) fn tagged_list(&self, repository: &str, subject: &str) -> (String, Built) {
        let (algorithm, hex) = subject.split_once(':').expect("a digest");
        let tag = format!("{}-{}", &algorithm[..algorithm.len().min(32)], &hex[..hex.len().min(64)]);
        (tag, Built::raw(INDEX, list(self.referrers(repository, subject)).to_string()))
    }
}

fn list(referrers: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": referrers })
}

/// The answer of the referrers API, which knows no "not found".
pub(crate) fn referrers(registry: &Shared, request: &Request, repository: &str, subject: &str) -> Answer {
    if !registry.offers.referrers {
        return Answer::error(404, "NOT_FOUND", "no such endpoint");
    }
    let store = registry.store.lock().unwrap();
    let all = store.belongings.referrers(repository, subject);
    let start: usize = request.parameters("after").pop().map_or(0, |after| after.parse().unwrap());
    let page: Vec<Value> = all.iter().skip(start).take(registry.offers.referrers_per_page).cloned().collect();
    let next = start + page.len();
    let mut answer = Answer::json(200, &list(&page));
    answer.set("Content-Type", INDEX);
    if next < all.len() {
        answer.set("Link", &format!("</v2/{repository}/referrers/{subject}?after={next}>; rel=\"next\""));
    }
    answer
}

/// The answer of the signature extension.
pub(crate) fn signatures(registry: &Shared, repository: &str, digest: &str) -> Answer {
    if !registry.offers.signatures {
        return Answer::error(404, "NOT_FOUND", "no such endpoint");
    }
    let store = registry.store.lock().unwrap();
    let kept = store.belongings.kept.get(&(repository.into(), digest.into()));
    let entry = |signature: &Bytes| json!({ "schemaVersion": 2, "name": format!("{digest}@1"), "type": "atomic", "content": STANDARD.encode(signature) });
    let entries: Vec<Value> = kept.into_iter().flatten().map(entry).collect();
    Answer::json(200, &json!({ "signatures": entries }))
}

/// The answer of the lookaside, which wants to see nobody's credentials.
pub(crate) fn lookaside(registry: &Shared, request: &Request, path: &str) -> Answer {
    if request.header("authorization").is_some() {
        return Answer::error(400, "BAD_REQUEST", "credentials are for somebody else");
    }
    let store = registry.store.lock().unwrap();
    let signature = path.rsplit_once("/signature-").and_then(|(place, number)| {
        store.belongings.aside.get(place)?.get(number.parse::<usize>().ok()?.checked_sub(1)?)
    });
    let Some(signature) = signature else { return Answer::new(404) };
    let mut answer = Answer::new(200).with("Content-Type", "application/octet-stream");
    answer.body = signature.clone();
    answer
}

impl FaultRegistry {
    /// The list of what refers to an image, as the referrers API answers it on one page.
    pub(crate) fn referrers_list(&self, image: &PushedImage) -> Vec<u8> {
        let store = self.shared.store.lock().unwrap();
        store.belongings.tagged_list(image.repository(), image.digest()).1.document.to_vec()
    }

    /// Pushes by digest alone, as what refers to an image is pushed. The result has no tag.
    pub(crate) fn push_untagged(&self, repository: &str, content: impl Into<Built>) -> PushedImage {
        let built = content.into();
        self.shared.store.lock().unwrap().push(repository, None, &built);
        PushedImage::new(self.host(), repository, "", built)
    }

    /// Pushes under the tag that cosign makes of the image's digest: `sig`, `att` or `sbom`.
    pub(crate) fn push_beside(
        &self,
        image: &PushedImage,
        kind: &str,
        content: impl Into<Built>,
    ) -> PushedImage {
        let tag = format!("{}.{kind}", image.digest().replace(':', "-"));
        self.push_as(image.repository(), &tag, content)
    }

    /// Where the lookaside is.
    pub(crate) fn lookaside(&self) -> String {
        format!("{}{LOOKASIDE}", self.url())
    }

    /// Adds a signature of the image to the lookaside.
    pub(crate) fn sign_aside(&self, image: &PushedImage, signature: &[u8]) {
        let place = format!("{}@{}", image.repository(), image.digest().replace(':', "="));
        let mut store = self.shared.store.lock().unwrap();
        store.belongings.aside.entry(place).or_default().push(shared(signature));
    }

    /// Adds a signature of the image to those that the registry keeps itself.
    pub(crate) fn sign(&self, image: &PushedImage, signature: &[u8]) {
        let key = (image.repository().to_owned(), image.digest().to_owned());
        let mut store = self.shared.store.lock().unwrap();
        store.belongings.kept.entry(key).or_default().push(shared(signature));
    }
}
