//! Where the documents of an image are read: a registry, or a layout. Each is verified against its digest.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::error::InspectError;
use crate::digest::Digest;
use crate::layout::{Absent, Layout, LayoutError};
use crate::manifest::{CONFIG_CAP, Descriptor, ImageIndex, Manifest};
use crate::reference::Repository;
use crate::registry::Registry;

/// Where documents are read.
pub(super) enum Place<'a> {
    Registry(&'a Registry, &'a Repository),
    Layout(Layout),
}

impl Place<'_> {
    /// A manifest that an index lists; none where it is not held.
    pub(super) async fn manifest(&self, descriptor: &Descriptor) -> Result<Option<Manifest>, InspectError> {
        match self {
            Self::Registry(registry, repository) => {
                let found = registry.manifest(repository, &descriptor.digest, Some(descriptor), None).await;
                match found {
                    // Mirrors hold indexes of which they copied some platforms only.
                    Err(error) if error.status() == Some(http::StatusCode::NOT_FOUND) => Ok(None),
                    found => Ok(Some(found?)),
                }
            }
            Self::Layout(layout) => {
                let descriptor = descriptor.clone();
                let read = |layout: &Layout, descriptor: &Descriptor| {
                    check_size(layout, descriptor)?;
                    layout.manifest(descriptor)
                };
                blocking(layout, move |layout| match read(layout, &descriptor) {
                    Err(LayoutError::MissingBlob { .. }) => Ok(None),
                    read => read.map(Some),
                })
                .await
            }
        }
    }

    pub(super) async fn config(&self, descriptor: &Descriptor) -> Result<Bytes, InspectError> {
        if let Some(bytes) = descriptor.embedded_data() {
            return Ok(bytes);
        }
        match self {
            Self::Registry(registry, repository) => {
                Ok(registry.document(repository, descriptor, CONFIG_CAP as u64).await?)
            }
            Self::Layout(layout) => {
                let descriptor = descriptor.clone();
                blocking(layout, move |layout| {
                    check_size(layout, &descriptor)?;
                    layout.read_blob(&descriptor.digest, CONFIG_CAP as u64)
                })
                .await
            }
        }
    }

    /// What the layout does not hold of an index. A registry claims to hold everything.
    pub(super) async fn absent(
        &self,
        entry: &Descriptor,
        index: &ImageIndex,
    ) -> Result<Absent, InspectError> {
        let Self::Layout(layout) = self else { return Ok(Absent::default()) };
        let (entry, index) = (entry.clone(), index.clone());
        blocking(layout, move |layout| Ok(layout.absent(&entry, &index))).await
    }

    /// Which of some layers a layout does not hold, by their place. Nothing is known of a registry.
    pub(super) async fn absent_layers(&self, layers: &[Descriptor]) -> Result<BTreeSet<usize>, InspectError> {
        let Self::Layout(layout) = self else { return Ok(BTreeSet::new()) };
        let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
        let is_absent = |layout: &Layout, digest: &Digest| Ok(layout.size_of(digest)?.is_none());
        blocking(layout, move |layout| {
            let numbered = digests.iter().enumerate();
            let absent = numbered.filter_map(|(at, digest)| match is_absent(layout, digest) {
                Ok(absent) => absent.then_some(Ok(at)),
                Err(error) => Some(Err(error)),
            });
            absent.collect()
        })
        .await
    }
}

/// Holds a descriptor against the file, as a registry's answer is held against it. What is no file is for the reader to
/// say.
pub(super) fn check_size(layout: &Layout, descriptor: &Descriptor) -> Result<(), LayoutError> {
    let Some(found) = layout.size_of(&descriptor.digest)?.filter(|found| *found != descriptor.size) else {
        return Ok(());
    };
    let reason = format!("it has {found} bytes, and a descriptor of it says {}", descriptor.size);
    Err(LayoutError::BadBlob { digest: descriptor.digest, reason })
}

/// Runs work on a layout where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    layout: &Layout,
    work: impl FnOnce(&Layout) -> Result<T, LayoutError> + Send + 'static,
) -> Result<T, InspectError> {
    let layout = layout.clone();
    Ok(tokio::task::spawn_blocking(move || work(&layout)).await.map_err(|_| InspectError::Worker)??)
}
