//! ocipull pulls container images out of registries and writes OCI image layouts in which everything is proven.
//!
//! [`fetch::fetch`] is the main job: it resolves a reference, picks the manifest for a platform, downloads what the layout
//! lacks over several connections, proves every size, digest and diff ID, and names the image in `index.json` last.
//!
//! ```
//! use std::sync::Arc;
//!
//! use ocipull::digest::Digest;
//! use ocipull::fetch::{self, Request, Status};
//! use ocipull::layout::Layout;
//! use ocipull::progress::{NullReporter, Reporter};
//! use ocipull::registry::{self, Registry};
//! use ocipull::serve::Server;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A registry on loopback stands in for the world: it serves a small image out of a layout.
//! let server = Server::bind(Layout::open("testdata/demo".as_ref())?, "127.0.0.1:0".parse()?)?;
//! let image = format!("{}/demo/hello:1.0", server.local_addr());
//! tokio::spawn(server.run(std::future::pending()));
//!
//! let registry = Registry::new(registry::Options::default())?;
//! let reporter: Arc<dyn Reporter> = Arc::new(NullReporter);
//! let folder = tempfile::tempdir()?;
//! let mut request = Request::new(image.parse()?, folder.path());
//! request.platforms = fetch::select::Platforms::of(&["linux/arm64".parse()?]);
//!
//! let fetched = fetch::fetch(&registry, &request, &reporter).await?;
//! assert_eq!(fetched.status, Status::Fetched);
//! let digest: Digest = fetched.descriptor.ok_or("nothing was named")?.digest;
//! assert!(Layout::open(folder.path())?.size_of(&digest)?.is_some());
//!
//! // It is there now: the registry is asked one question, and no blob moves.
//! let again = fetch::fetch(&registry, &request, &reporter).await?;
//! assert_eq!(again.status, Status::UpToDate);
//! # Ok(())
//! # }
//! ```
//!
//! What needs no registry is of use by itself, and does no I/O: [`reference`](mod@reference) and [`platform`] parse and compare as docker
//! and containerd do, [`digest`] and [`verify`] prove bytes, [`manifest`] reads documents that can be read in one way only,
//! [`registry::auth`] understands challenges, [`registry::retry`] decides whether to try again.
//!
//! Errors say what kind of failure they are and what may be done about it: [`failure::Failure`]. The library never prints;
//! it tells a [`progress::Reporter`] what goes on.

pub mod check;
pub mod convert;
pub mod digest;
mod durable;
mod failpoint;
pub mod failure;
pub mod fetch;
pub mod inspect;
pub mod layout;
pub mod manifest;
pub mod platform;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod repair;
pub mod serve;
pub mod tags;
pub mod text;
pub mod transfer;
pub mod verify;
