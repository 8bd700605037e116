//! An index whose manifests are proven: those that were taken of it, which need not be all.
//!
//! OCI image spec: an index lists descriptors of manifests, and of further indexes; a layout may hold some of them only.

use crate::digest::Digest;
use crate::failure::{Failure, Kind};

use super::{BlobClaim, ProvenBlob, ProvenImage};

/// What an index says.
#[derive(Debug, Clone, Copy)]
pub struct IndexClaims<'a> {
    /// The index, from its own bytes.
    pub index: &'a ProvenBlob,
    /// What it lists.
    pub listed: &'a [BlobClaim],
}

/// An index, and of what it lists the images that were taken, each proven. Only this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenIndex {
    root: ProvenBlob,
    nested: Vec<ProvenBlob>,
    images: Vec<ProvenImage>,
}

impl ProvenIndex {
    /// Puts together an index, the indexes nested in it on the way to the images, and the images.
    ///
    /// # Errors
    /// [`IndexError::NotListed`] when an image or a nested index is listed by none of the indexes, with its size.
    pub fn assemble(
        root: IndexClaims<'_>,
        nested: &[IndexClaims<'_>],
        images: Vec<ProvenImage>,
    ) -> Result<Self, IndexError> {
        let listed = |blob: &ProvenBlob| {
            let claim = BlobClaim { digest: *blob.digest(), size: blob.size() };
            let is_listed = std::iter::once(&root).chain(nested).any(|index| index.listed.contains(&claim));
            if is_listed { Ok(()) } else { Err(IndexError::NotListed { digest: claim.digest }) }
        };
        nested.iter().try_for_each(|index| listed(index.index))?;
        images.iter().try_for_each(|image| listed(image.manifest()))?;
        let nested = nested.iter().map(|index| *index.index).collect();
        Ok(Self { root: *root.index, nested, images })
    }

    /// The images, in the order given.
    pub fn images(&self) -> &[ProvenImage] {
        &self.images
    }
}

/// What may be named in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// One image, or an artifact.
    Image(ProvenImage),
    /// An index with the images that were taken of it.
    Index(ProvenIndex),
}

impl Proven {
    /// The document that a name would stand for.
    pub fn root(&self) -> &ProvenBlob {
        match self {
            Self::Image(image) => image.manifest(),
            Self::Index(index) => &index.root,
        }
    }

    /// The images in it.
    pub fn images(&self) -> &[ProvenImage] {
        match self {
            Self::Image(image) => std::slice::from_ref(image),
            Self::Index(index) => index.images(),
        }
    }

    /// Digest and size of everything that has to be there. What images share comes once for each.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        let indexes = match self {
            Self::Image(_) => None,
            Self::Index(index) => Some(std::iter::once(&index.root).chain(&index.nested)),
        };
        let indexes = indexes.into_iter().flatten().map(|blob| (*blob.digest(), blob.size()));
        indexes.chain(self.images().iter().flat_map(ProvenImage::blobs))
    }
}

/// Why an index and images do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A manifest is not one of those that the index lists.
    #[error("manifest {digest} is not listed by the index that it was taken out of")]
    NotListed {
        /// The manifest.
        digest: Digest,
    },
}

impl Failure for IndexError {
    fn kind(&self) -> Kind {
        Kind::Integrity
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DiffIdClaims, ImageClaims, verify_bytes};
    use super::*;

    fn proof(content: &str) -> ProvenBlob {
        verify_bytes(content.as_bytes(), Digest::sha256(content.as_bytes())).unwrap()
    }

    fn claim(content: &str) -> BlobClaim {
        BlobClaim { digest: Digest::sha256(content.as_bytes()), size: content.len() as u64 }
    }

    fn image(manifest: &str) -> ProvenImage {
        let manifest = proof(manifest);
        let claims = ImageClaims {
            manifest: &manifest,
            config: claim("config"),
            layers: &[],
            diff_ids: DiffIdClaims::Artifact,
        };
        ProvenImage::assemble(&claims, |_, _| Some(proof("config"))).unwrap()
    }

    /// What an index does not list cannot be named as a part of it, and a listed size counts.
    #[test]
    fn only_what_is_listed_belongs() {
        let (root, nested) = (proof("root"), proof("nested"));
        let listed = [claim("nested"), claim("one"), claim("not taken")];
        let below = [claim("two")];
        let root_claims = IndexClaims { index: &root, listed: &listed };
        let nested_claims = IndexClaims { index: &nested, listed: &below };
        let whole = ProvenIndex::assemble(root_claims, &[nested_claims], vec![image("one"), image("two")]);
        let digests: Vec<Digest> = Proven::Index(whole.unwrap()).blobs().map(|(digest, _)| digest).collect();
        for content in ["root", "nested", "one", "two", "config"] {
            assert!(digests.contains(&Digest::sha256(content.as_bytes())), "{content}");
        }
        assert_eq!(digests.len(), 6, "the config once for each image");
        let stray = ProvenIndex::assemble(root_claims, &[], vec![image("two")]).unwrap_err();
        assert_eq!(stray, IndexError::NotListed { digest: Digest::sha256(b"two") });
        let wrong = [BlobClaim { size: 4, ..claim("one") }];
        let root_claims = IndexClaims { index: &root, listed: &wrong };
        assert!(ProvenIndex::assemble(root_claims, &[], vec![image("one")]).is_err());
        assert!(ProvenIndex::assemble(root_claims, &[nested_claims], Vec::new()).is_err());
    }
}
