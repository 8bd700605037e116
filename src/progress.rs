//! What is going on, as values: the [`Event`]s that a fetch, a verification or a retry tells its [`Reporter`].
//!
//! The library never prints. The command line's bars, plain lines and JSON lines are reporters; a library user may
//! write another. The serialised form is the one that `--progress json` prints, one event a line.

use serde::Serialize;

use crate::digest::Digest;

/// Takes events. Called from async tasks and from blocking threads, so it must be quick and must not block.
pub trait Reporter: Send + Sync {
    /// Takes one event.
    fn report(&self, event: Event);
}

/// Takes events and drops them.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullReporter;

impl Reporter for NullReporter {
    fn report(&self, _event: Event) {}
}

/// What is being done with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Phase {
    /// Bytes are coming in from the registry.
    Downloading,
    /// Every byte is there; hashing and inflating follow.
    Verifying,
}

/// One thing that happened. All byte counts are compressed bytes, as descriptors count them.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// It was chosen what a reference without a host means.
    Chosen {
        /// The reference as it was written.
        written: String,
        /// The canonical reference that it stands for.
        reference: String,
        /// Who says so.
        source: String,
    },
    /// A reference was resolved.
    Resolved {
        /// The canonical reference.
        reference: String,
        /// What it stands for.
        digest: Digest,
    },
    /// The registry is asked what belongs to manifests: to the image's own, then to what was found.
    Asking {
        /// The canonical reference.
        reference: String,
        /// How many manifests it is asked about.
        manifests: usize,
    },
    /// It is known what has to be downloaded and proven.
    Planned {
        /// The canonical reference.
        reference: String,
        /// How many blobs are to be downloaded.
        blobs: usize,
        /// The bytes to download, those that an earlier run left staged not counted.
        bytes: u64,
        /// The bytes that are there already: in the layout, or staged by an earlier run.
        reused: u64,
    },
    /// It is known what of a layout has to be read and proven.
    Proving {
        /// How many blobs.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// Work on a blob begins.
    BlobStarted {
        /// The blob.
        digest: Digest,
        /// The bytes that are there already.
        bytes: u64,
        /// Its size.
        total: u64,
        /// Whether it is downloaded, or only read from disk and proven.
        phase: Phase,
    },
    /// A blob has come further.
    BlobProgress {
        /// The blob.
        digest: Digest,
        /// The bytes downloaded so far, or with [`Phase::Verifying`] the bytes proven so far.
        bytes: u64,
        /// Its size.
        total: u64,
        /// What the count is about.
        phase: Phase,
    },
    /// A blob's size, digest and, where it has one, diff ID are proven, and it stands under its final name.
    BlobVerified {
        /// The blob.
        digest: Digest,
        /// Its size.
        bytes: u64,
        /// Its size again, so that a reader needs one rule for all events of a blob.
        total: u64,
        /// The digest of the uncompressed layer, where it was computed.
        #[serde(rename = "diffId")]
        diff_id: Option<Digest>,
    },
    /// A blob of a layout was read and is not what its name says.
    BlobBad {
        /// The blob.
        digest: Digest,
        /// One sentence.
        detail: String,
    },
    /// A request failed and will be made again.
    Retry {
        /// The blob or manifest that the request was about, where there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// The host, with its port.
        host: String,
        /// How long every request to the host waits, in seconds.
        #[serde(rename = "afterSeconds")]
        after_seconds: f64,
        /// Whether the host named the time (`Retry-After`).
        announced: bool,
        /// What went wrong.
        cause: String,
    },
    /// Another process has what is needed.
    Waiting {
        /// The blob that it is downloading; none where it holds the layout's lock.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// Who holds it, as far as it is known.
        holder: String,
    },
    /// Something that the user should know but that stops nothing.
    Warning {
        /// One sentence.
        message: String,
    },
    /// An image is named in the layout.
    Committed {
        /// The canonical reference.
        reference: String,
        /// The digest that `index.json` names.
        digest: Digest,
    },
    /// A reference is done, well or not.
    Finished {
        /// The canonical reference.
        reference: String,
        /// `fetched`, `up-to-date`, `planned` or `failed`.
        status: &'static str,
    },
}
