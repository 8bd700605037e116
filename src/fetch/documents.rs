//! The small documents of an image, from the layout where they are there and hold, else from the registry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::error::FetchError;
use crate::digest::Digest;
use crate::layout::{Layout, LayoutError};
use crate::manifest::{self, Descriptor, Manifest, MediaType};
use crate::progress::{Event, Reporter};
use crate::reference::Reference;
use crate::registry::Registry;

/// The most bytes of an image config.
pub(super) const CONFIG_CAP: u64 = manifest::CONFIG_CAP as u64;

/// Where a document came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The layout has it.
    Layout,
    /// The registry sent it.
    Registry,
    /// The manifest holds it.
    Embedded,
    /// It was made here.
    Made,
}

/// The most bytes of listed manifests that are kept, and of configs, so that a search for another platform need not ask again.
const KEPT: usize = 8 << 20;

/// Where documents come from.
pub struct Documents<'a> {
    /// None where only the layout is looked into.
    registry: Option<&'a Registry>,
    pub(super) layout: Option<&'a Layout>,
    pub(super) reference: &'a Reference,
    pub(super) reporter: &'a Arc<dyn Reporter>,
    kept: Mutex<BTreeMap<Digest, Manifest>>,
    configs: Mutex<BTreeMap<Digest, Bytes>>,
}

impl<'a> Documents<'a> {
    /// The documents behind a reference; `layout` is looked into first.
    pub fn new(
        registry: &'a Registry,
        layout: Option<&'a Layout>,
        reference: &'a Reference,
        reporter: &'a Arc<dyn Reporter>,
    ) -> Self {
        Self {
            registry: Some(registry),
            layout,
            reference,
            reporter,
            kept: Mutex::default(),
            configs: Mutex::default(),
        }
    }

    /// The same documents, as far as the layout has them: asking for another is [`FetchError::Absent`].
    pub(super) fn layout_only(&self) -> Self {
        Self { registry: None, kept: Mutex::default(), configs: Mutex::default(), ..*self }
    }

    /// The registry.
    ///
    /// # Errors
    /// [`FetchError::Absent`] where only the layout is looked into, `digest` being what is looked for.
    pub(super) fn registry(&self, digest: &Digest) -> Result<&'a Registry, FetchError> {
        self.registry.ok_or(FetchError::Absent { digest: *digest })
    }

    /// The manifest that a reference resolved to.
    ///
    /// # Errors
    /// [`FetchError`] when it can be had from nowhere, or does not hold.
    pub async fn resolved(&self, descriptor: &Descriptor) -> Result<Manifest, FetchError> {
        if let Some(manifest) = self.local_manifest(descriptor).await? {
            return Ok(manifest);
        }
        let tag = if self.reference.digest().is_none() { self.reference.tag() } else { None };
        let registry = self.registry(&descriptor.digest)?;
        Ok(registry.manifest(self.reference.repository(), &descriptor.digest, None, tag).await?)
    }

    /// A manifest that an index lists.
    ///
    /// # Errors
    /// As [`Documents::resolved`]; its size and media type must be those that the index says.
    pub async fn listed(&self, descriptor: &Descriptor) -> Result<Manifest, FetchError> {
        if let Some(manifest) = self.kept(descriptor) {
            return Ok(manifest);
        }
        let local = self.local_manifest(descriptor).await?;
        // With another size than the index says, the index is wrong: the registry's copy is refused for the same reason.
        if let Some(manifest) = local.filter(|manifest| manifest.raw().len() as u64 == descriptor.size) {
            return Ok(manifest);
        }
        let (registry, repository) = (self.registry(&descriptor.digest)?, self.reference.repository());
        let manifest = registry.manifest(repository, &descriptor.digest, Some(descriptor), None).await?;
        self.keep(descriptor.digest, &manifest);
        Ok(manifest)
    }

    /// A manifest of which nothing but the digest is known for certain.
    ///
    /// # Errors
    /// As [`Documents::resolved`].
    pub(super) async fn by_digest(&self, digest: &Digest) -> Result<Manifest, FetchError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if let Some(manifest) = kept {
            return Ok(manifest);
        }
        let bare = Descriptor::new(MediaType::from(String::new()), *digest, 0);
        if let Some(manifest) = self.local_manifest(&bare).await? {
            return Ok(manifest);
        }
        let (registry, repository) = (self.registry(digest)?, self.reference.repository());
        Ok(registry.manifest(repository, digest, None, None).await?)
    }

    /// A manifest that was asked for before, and that this descriptor describes too.
    fn kept(&self, descriptor: &Descriptor) -> Option<Manifest> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let manifest = kept.get(&descriptor.digest)?;
        let agrees = manifest.raw().len() as u64 == descriptor.size
            && (descriptor.media_type.is_empty() || descriptor.media_type == *manifest.media_type());
        agrees.then(|| manifest.clone())
    }

    fn keep(&self, digest: Digest, manifest: &Manifest) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = kept.values().map(|manifest| manifest.raw().len()).sum();
        if bytes + manifest.raw().len() <= KEPT {
            kept.insert(digest, manifest.clone());
        }
    }

    /// An image config, whole.
    ///
    /// # Errors
    /// As [`Documents::resolved`]; [`FetchError::OverCap`] when its descriptor says that it is too large.
    pub async fn config(&self, descriptor: &Descriptor) -> Result<(Bytes, Origin), FetchError> {
        let (digest, size) = (descriptor.digest, descriptor.size);
        if size > CONFIG_CAP {
            return Err(FetchError::OverCap { what: "image config", digest, size, cap: CONFIG_CAP });
        }
        if let Some(bytes) = descriptor.embedded_data() {
            return Ok((bytes, Origin::Embedded));
        }
        if let Some(bytes) = self.local(&digest, size, CONFIG_CAP).await? {
            return Ok((bytes, Origin::Layout));
        }
        if let Some(bytes) = self.configs.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok((bytes.clone(), Origin::Registry));
        }
        let registry = self.registry(&digest)?;
        // Only layers live elsewhere: nobody is asked for a config but the registry.
        let plain = Descriptor { urls: Vec::new(), ..descriptor.clone() };
        let bytes = registry.document(self.reference.repository(), &plain, CONFIG_CAP).await?;
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if configs.values().map(Bytes::len).sum::<usize>() + bytes.len() <= KEPT {
            configs.insert(digest, bytes.clone());
        }
        drop(configs);
        Ok((bytes, Origin::Registry))
    }

    /// The size of a blob that stands in the layout.
    pub(super) async fn size_of(&self, digest: &Digest) -> Result<Option<u64>, FetchError> {
        let Some(layout) = self.layout.cloned() else { return Ok(None) };
        let digest = *digest;
        super::blocking(move || layout.size_of(&digest)).await
    }

    /// A manifest that stands in the layout. One that is bad there is as good as missing, and said to be.
    async fn local_manifest(&self, descriptor: &Descriptor) -> Result<Option<Manifest>, FetchError> {
        let Some(layout) = self.layout.cloned() else { return Ok(None) };
        let descriptor = descriptor.clone();
        let read = super::blocking(move || match layout.manifest(&descriptor) {
            Err(LayoutError::MissingBlob { .. }) => Ok(None),
            read => read.map(Some),
        });
        self.or_warn(read.await)
    }

    async fn local(&self, digest: &Digest, size: u64, cap: u64) -> Result<Option<Bytes>, FetchError> {
        let Some(layout) = self.layout.cloned() else { return Ok(None) };
        let digest = *digest;
        let read = super::blocking(move || {
            if layout.contains(&digest, size)? { layout.read_blob(&digest, cap).map(Some) } else { Ok(None) }
        });
        self.or_warn(read.await)
    }

    fn or_warn<T>(&self, read: Result<Option<T>, FetchError>) -> Result<Option<T>, FetchError> {
        match read {
            Err(FetchError::Layout(
                error @ (LayoutError::BadBlob { .. } | LayoutError::BadDocument { .. }),
            )) => {
                self.reporter
                    .report(Event::Warning { message: format!("{error}; it is asked of the registry") });
                Ok(None)
            }
            read => read,
        }
    }
}
