//! The small documents of an image, from the layout where they are there and hold, else from the registry.

use std::sync::Arc;

use bytes::Bytes;

use super::error::FetchError;
use crate::digest::Digest;
use crate::layout::{Layout, LayoutError};
use crate::manifest::{self, Descriptor, Manifest};
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
}

/// Where documents come from.
pub struct Documents<'a> {
    pub(super) registry: &'a Registry,
    pub(super) layout: Option<&'a Layout>,
    pub(super) reference: &'a Reference,
    pub(super) reporter: &'a Arc<dyn Reporter>,
}

impl<'a> Documents<'a> {
    /// The documents behind a reference; `layout` is looked into first.
    pub fn new(
        registry: &'a Registry,
        layout: Option<&'a Layout>,
        reference: &'a Reference,
        reporter: &'a Arc<dyn Reporter>,
    ) -> Self {
        Self { registry, layout, reference, reporter }
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
        Ok(self.registry.manifest(self.reference.repository(), &descriptor.digest, None, tag).await?)
    }

    /// A manifest that an index lists.
    ///
    /// # Errors
    /// As [`Documents::resolved`]; its size and media type must be those that the index says.
    pub async fn listed(&self, descriptor: &Descriptor) -> Result<Manifest, FetchError> {
        let local = self.local_manifest(descriptor).await?;
        // With another size than the index says, the index is wrong: the registry's copy is refused for the same reason.
        if let Some(manifest) = local.filter(|manifest| manifest.raw().len() as u64 == descriptor.size) {
            return Ok(manifest);
        }
        let repository = self.reference.repository();
        Ok(self.registry.manifest(repository, &descriptor.digest, Some(descriptor), None).await?)
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
        let bytes = self.registry.document(self.reference.repository(), descriptor, CONFIG_CAP).await?;
        Ok((bytes, Origin::Registry))
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
