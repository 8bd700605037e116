//! Media types: the names that OCI and Docker gave to manifests, configs and layers, and what they tell.
//!
//! A [`MediaType`] is any text, because a descriptor may carry any; nothing is refused here. What is known about the
//! types of the image spec ("OCI Image Media Types") and of Docker's image manifest version 2 is answered by methods.
//! Names are compared byte for byte, as Go tools do; whoever reads one from a header lower-cases it first.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::text::printable;

/// What ocicrypt appends to the type of a layer that it encrypted.
const ENCRYPTED: &str = "+encrypted";

/// A media type as it stands in a descriptor, a manifest or a header. It may be empty, which says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaType(Cow<'static, str>);

/// What kind of document a media type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// An OCI image manifest or Docker's manifest version 2, schema 2.
    ImageManifest,
    /// An OCI image index or Docker's manifest list.
    Index,
    /// Docker's manifest version 2, schema 1, signed or not.
    Schema1,
    /// Anything else: a config, a layer, an unknown type, or no type at all.
    Other,
}

/// How a layer's tar stream is compressed, as its media type has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Compression {
    /// A plain tar stream.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

const fn known(name: &'static str) -> MediaType {
    MediaType(Cow::Borrowed(name))
}

impl MediaType {
    /// The image spec's image manifest.
    pub const OCI_MANIFEST: Self = known("application/vnd.oci.image.manifest.v1+json");
    /// The image spec's image index.
    pub const OCI_INDEX: Self = known("application/vnd.oci.image.index.v1+json");
    /// The image spec's image config.
    pub const OCI_CONFIG: Self = known("application/vnd.oci.image.config.v1+json");
    /// The image spec's "empty" descriptor: the two bytes `{}`.
    pub const OCI_EMPTY: Self = known("application/vnd.oci.empty.v1+json");
    /// The image spec's uncompressed layer.
    pub const OCI_LAYER: Self = known("application/vnd.oci.image.layer.v1.tar");
    /// The image spec's gzip layer.
    pub const OCI_LAYER_GZIP: Self = known("application/vnd.oci.image.layer.v1.tar+gzip");
    /// The image spec's zstd layer.
    pub const OCI_LAYER_ZSTD: Self = known("application/vnd.oci.image.layer.v1.tar+zstd");
    /// The image spec's deprecated layer that a registry may not hand out, uncompressed.
    pub const OCI_FOREIGN_LAYER: Self = known("application/vnd.oci.image.layer.nondistributable.v1.tar");
    /// The image spec's deprecated layer that a registry may not hand out, with gzip.
    pub const OCI_FOREIGN_LAYER_GZIP: Self =
        known("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    /// The image spec's deprecated layer that a registry may not hand out, with zstd.
    pub const OCI_FOREIGN_LAYER_ZSTD: Self =
        known("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd");
    /// Docker's manifest version 2, schema 2.
    pub const DOCKER_MANIFEST: Self = known("application/vnd.docker.distribution.manifest.v2+json");
    /// Docker's manifest list.
    pub const DOCKER_LIST: Self = known("application/vnd.docker.distribution.manifest.list.v2+json");
    /// Docker's image config.
    pub const DOCKER_CONFIG: Self = known("application/vnd.docker.container.image.v1+json");
    /// Docker's uncompressed layer.
    pub const DOCKER_LAYER: Self = known("application/vnd.docker.image.rootfs.diff.tar");
    /// Docker's gzip layer.
    pub const DOCKER_LAYER_GZIP: Self = known("application/vnd.docker.image.rootfs.diff.tar.gzip");
    /// Docker's zstd layer, which no specification has and containerd and `BuildKit` write and read.
    pub const DOCKER_LAYER_ZSTD: Self = known("application/vnd.docker.image.rootfs.diff.tar.zstd");
    /// Docker's layer that a registry may not hand out, uncompressed.
    pub const DOCKER_FOREIGN_LAYER: Self = known("application/vnd.docker.image.rootfs.foreign.diff.tar");
    /// Docker's layer that a registry may not hand out, with gzip.
    pub const DOCKER_FOREIGN_LAYER_GZIP: Self =
        known("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    /// What Docker's foreign layer would be called with zstd. Nobody specifies it; it is read by analogy.
    pub const DOCKER_FOREIGN_LAYER_ZSTD: Self =
        known("application/vnd.docker.image.rootfs.foreign.diff.tar.zstd");
    /// Docker's manifest version 2, schema 1, without a signature.
    pub const DOCKER_SCHEMA1: Self = known("application/vnd.docker.distribution.manifest.v1+json");
    /// Docker's manifest version 2, schema 1, with a signature inside.
    pub const DOCKER_SCHEMA1_SIGNED: Self =
        known("application/vnd.docker.distribution.manifest.v1+prettyjws");

    /// Every type that [`Manifest::parse`](super::Manifest::parse) reads, in the order in which an `Accept` header
    /// prefers them.
    pub const MANIFESTS: [Self; 6] = [
        Self::OCI_INDEX,
        Self::OCI_MANIFEST,
        Self::DOCKER_LIST,
        Self::DOCKER_MANIFEST,
        Self::DOCKER_SCHEMA1_SIGNED,
        Self::DOCKER_SCHEMA1,
    ];

    /// Every known layer type with its compression.
    const LAYERS: [(Self, Compression); 12] = [
        (Self::OCI_LAYER, Compression::None),
        (Self::OCI_LAYER_GZIP, Compression::Gzip),
        (Self::OCI_LAYER_ZSTD, Compression::Zstd),
        (Self::OCI_FOREIGN_LAYER, Compression::None),
        (Self::OCI_FOREIGN_LAYER_GZIP, Compression::Gzip),
        (Self::OCI_FOREIGN_LAYER_ZSTD, Compression::Zstd),
        (Self::DOCKER_LAYER, Compression::None),
        (Self::DOCKER_LAYER_GZIP, Compression::Gzip),
        (Self::DOCKER_LAYER_ZSTD, Compression::Zstd),
        (Self::DOCKER_FOREIGN_LAYER, Compression::None),
        (Self::DOCKER_FOREIGN_LAYER_GZIP, Compression::Gzip),
        (Self::DOCKER_FOREIGN_LAYER_ZSTD, Compression::Zstd),
    ];

    /// The layer types that a registry may not hand out.
    const FOREIGN: [Self; 6] = [
        Self::OCI_FOREIGN_LAYER,
        Self::OCI_FOREIGN_LAYER_GZIP,
        Self::OCI_FOREIGN_LAYER_ZSTD,
        Self::DOCKER_FOREIGN_LAYER,
        Self::DOCKER_FOREIGN_LAYER_GZIP,
        Self::DOCKER_FOREIGN_LAYER_ZSTD,
    ];

    /// Docker's types, each with the OCI type of the same content.
    const OF_DOCKER: [(Self, Self); 9] = [
        (Self::DOCKER_MANIFEST, Self::OCI_MANIFEST),
        (Self::DOCKER_LIST, Self::OCI_INDEX),
        (Self::DOCKER_CONFIG, Self::OCI_CONFIG),
        (Self::DOCKER_LAYER, Self::OCI_LAYER),
        (Self::DOCKER_LAYER_GZIP, Self::OCI_LAYER_GZIP),
        (Self::DOCKER_LAYER_ZSTD, Self::OCI_LAYER_ZSTD),
        (Self::DOCKER_FOREIGN_LAYER, Self::OCI_FOREIGN_LAYER),
        (Self::DOCKER_FOREIGN_LAYER_GZIP, Self::OCI_FOREIGN_LAYER_GZIP),
        (Self::DOCKER_FOREIGN_LAYER_ZSTD, Self::OCI_FOREIGN_LAYER_ZSTD),
    ];

    /// The text as it stands. For a message use `Display`, which escapes what would drive a terminal.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no type at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What kind of document the type stands for.
    pub fn kind(&self) -> DocumentKind {
        if *self == Self::OCI_MANIFEST || *self == Self::DOCKER_MANIFEST {
            DocumentKind::ImageManifest
        } else if *self == Self::OCI_INDEX || *self == Self::DOCKER_LIST {
            DocumentKind::Index
        } else if *self == Self::DOCKER_SCHEMA1 || *self == Self::DOCKER_SCHEMA1_SIGNED {
            DocumentKind::Schema1
        } else {
            DocumentKind::Other
        }
    }

    /// Whether it is an OCI image index or a Docker manifest list.
    pub fn is_index(&self) -> bool {
        self.kind() == DocumentKind::Index
    }

    /// Whether it is an OCI image manifest or Docker's schema 2.
    pub fn is_image_manifest(&self) -> bool {
        self.kind() == DocumentKind::ImageManifest
    }

    /// Whether it is Docker's schema 1, signed or not.
    pub fn is_schema1(&self) -> bool {
        self.kind() == DocumentKind::Schema1
    }

    /// Whether the type is one of Docker's own.
    pub fn is_docker(&self) -> bool {
        self.0.starts_with("application/vnd.docker.")
    }

    /// Whether it is the config of a container image. A manifest with any other config is an artifact.
    pub fn is_image_config(&self) -> bool {
        *self == Self::OCI_CONFIG || *self == Self::DOCKER_CONFIG
    }

    /// How a layer of this type is compressed. `None` for whatever is not a known layer type: an encrypted layer, an
    /// artifact's blob, an empty type.
    pub fn layer_compression(&self) -> Option<Compression> {
        Self::LAYERS.iter().find(|(layer, _)| layer == self).map(|&(_, compression)| compression)
    }

    /// Whether the content is encrypted (`+encrypted` at the end), so that nothing but its digest can be checked.
    pub fn is_encrypted(&self) -> bool {
        self.0.ends_with(ENCRYPTED)
    }

    /// Whether it is a foreign ("non-distributable") layer, encrypted or not, which lives at the descriptor's `urls`.
    pub fn is_foreign(&self) -> bool {
        let plain = self.0.strip_suffix(ENCRYPTED).unwrap_or(&self.0);
        Self::FOREIGN.iter().any(|foreign| foreign.as_str() == plain)
    }

    /// The OCI type of the same content, for a type of Docker's that has one: the same bytes may go by either name. An
    /// encrypted layer stays one. `None` for OCI's own types and for whatever is not known, Docker's plugins and schema 1
    /// among it.
    pub fn to_oci(&self) -> Option<Self> {
        let counterpart = |name: &str| {
            Self::OF_DOCKER.into_iter().find_map(|(docker, oci)| (docker.as_str() == name).then_some(oci))
        };
        match self.0.strip_suffix(ENCRYPTED) {
            None => counterpart(&self.0),
            // Only layers are encrypted; on anything else the suffix makes a type that nobody knows.
            Some(plain) => counterpart(plain)
                .filter(|oci| oci.layer_compression().is_some())
                .map(|oci| Self::from(format!("{}{ENCRYPTED}", oci.as_str()))),
        }
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names are the specification's, as another implementation has them.
    #[test]
    fn oci_names_are_the_specifications() {
        use oci_spec::image::MediaType as Spec;
        let cases = [
            (MediaType::OCI_MANIFEST, Spec::ImageManifest),
            (MediaType::OCI_INDEX, Spec::ImageIndex),
            (MediaType::OCI_CONFIG, Spec::ImageConfig),
            (MediaType::OCI_EMPTY, Spec::EmptyJSON),
            (MediaType::OCI_LAYER, Spec::ImageLayer),
            (MediaType::OCI_LAYER_GZIP, Spec::ImageLayerGzip),
            (MediaType::OCI_LAYER_ZSTD, Spec::ImageLayerZstd),
            (MediaType::OCI_FOREIGN_LAYER, Spec::ImageLayerNonDistributable),
            (MediaType::OCI_FOREIGN_LAYER_GZIP, Spec::ImageLayerNonDistributableGzip),
            (MediaType::OCI_FOREIGN_LAYER_ZSTD, Spec::ImageLayerNonDistributableZstd),
        ];
        for (ours, theirs) in cases {
            assert_eq!(ours.as_str(), theirs.as_ref());
        }
    }

    /// Documents are told apart by type, and what is not a manifest is none.
    #[test]
    fn kinds_of_documents() {
        let kinds: Vec<_> = MediaType::MANIFESTS.iter().map(MediaType::kind).collect();
        assert_eq!(
            kinds,
            [
                DocumentKind::Index,
                DocumentKind::ImageManifest,
                DocumentKind::Index,
                DocumentKind::ImageManifest,
                DocumentKind::Schema1,
                DocumentKind::Schema1
            ]
        );
        for other in [
            "",
            "application/json",
            "application/vnd.oci.image.config.v1+json",
            "Application/vnd.oci.image.index.v1+json",
        ] {
            assert_eq!(MediaType::from(other).kind(), DocumentKind::Other, "{other}");
        }
        assert!(MediaType::OCI_INDEX.is_index() && !MediaType::OCI_INDEX.is_image_manifest());
        assert!(MediaType::DOCKER_SCHEMA1.is_schema1() && MediaType::DOCKER_SCHEMA1.is_docker());
        assert!(!MediaType::OCI_MANIFEST.is_docker());
        assert!(MediaType::OCI_CONFIG.is_image_config() && MediaType::DOCKER_CONFIG.is_image_config());
        assert!(!MediaType::OCI_EMPTY.is_image_config() && !MediaType::default().is_image_config());
    }

    /// What a layer's type tells: its compression, whether it lives elsewhere, whether it is encrypted.
    #[test]
    fn layer_types() {
        use Compression::{Gzip, None as Plain, Zstd};
        let cases = [
            ("application/vnd.oci.image.layer.v1.tar", Some(Plain), false, false),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Gzip), false, false),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Zstd), false, false),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar", Some(Plain), true, false),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some(Gzip), true, false),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Some(Zstd), true, false),
            ("application/vnd.docker.image.rootfs.diff.tar", Some(Plain), false, false),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Gzip), false, false),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", Some(Zstd), false, false),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar", Some(Plain), true, false),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(Gzip), true, false),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.zstd", Some(Zstd), true, false),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None, false, true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+encrypted", None, true, true),
            ("application/vnd.oci.image.layer.v1.tar+GZIP", None, false, false),
            ("application/vnd.example.sbom+json", None, false, false),
            ("", None, false, false),
        ];
        for (text, compression, foreign, encrypted) in cases {
            let media_type = MediaType::from(text);
            assert_eq!(media_type.layer_compression(), compression, "{text}");
            assert_eq!(media_type.is_foreign(), foreign, "{text}");
            assert_eq!(media_type.is_encrypted(), encrypted, "{text}");
        }
    }

    /// Tools that know OCI's names only, umoci among them, find in a converted manifest the type of the same content.
    #[test]
    fn types_of_docker_have_counterparts() {
        let cases = [
            (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.oci.image.manifest.v1+json",
            ),
            (
                "application/vnd.docker.distribution.manifest.list.v2+json",
                "application/vnd.oci.image.index.v1+json",
            ),
            ("application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json"),
            ("application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.zstd",
                "application/vnd.oci.image.layer.v1.tar+zstd",
            ),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar",
                "application/vnd.oci.image.layer.nondistributable.v1.tar",
            ),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            ),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
                "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted",
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar+encrypted",
                "application/vnd.oci.image.layer.v1.tar+encrypted",
            ),
        ];
        for (docker, oci) in cases {
            let converted = MediaType::from(docker).to_oci().unwrap_or_else(|| panic!("{docker}"));
            assert_eq!(converted.as_str(), oci);
            assert_eq!(converted.to_oci(), None, "{oci}");
            assert_eq!(converted.kind(), MediaType::from(docker).kind());
            assert_eq!(converted.layer_compression(), MediaType::from(docker).layer_compression());
            assert_eq!(converted.is_foreign(), MediaType::from(docker).is_foreign());
        }
        for unknown in [
            "",
            "application/octet-stream",
            "application/vnd.docker.plugin.v1+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "application/vnd.docker.container.image.v1+json+encrypted",
            "application/vnd.docker.image.rootfs.diff.tar+gzip",
            "+encrypted",
        ] {
            assert_eq!(MediaType::from(unknown).to_oci(), None, "{unknown}");
        }
    }

    /// A message cannot be made to drive the terminal; what is written to disk is the text as it stood.
    #[test]
    fn display_escapes_and_serialize_does_not() {
        let hostile = MediaType::from("a\u{1b}[2J");
        assert_eq!(hostile.to_string(), "a\\u{1b}[2J");
        assert_eq!(hostile.as_str(), "a\u{1b}[2J");
        assert_eq!(
            serde_json::to_string(&MediaType::OCI_INDEX).unwrap(),
            format!("\"{}\"", MediaType::OCI_INDEX)
        );
    }
}
