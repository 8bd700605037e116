//! What the integration tests stand on: a registry that breaks on request, images to put into it, a way to run the
//! real binary, and a proof of what it left on disk.
//!
//! - [`FaultRegistry`] serves the distribution API from memory, correctly until a test breaks one route.
//! - [`image`], [`artifact`] and [`index`] build what is pushed into it.
//! - [`TestContext`] runs the `ocipull` binary with a home, a temporary folder and an environment of its own.
//! - [`check_layout`] and [`assert_readable`] prove what is on disk.
//!
//! Nothing here uses the `ocipull` library: a mistake in the library must not excuse itself. Digests are plain text
//! for that reason, and because most of the tests' digests are wrong on purpose.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, and the line says enough")]

mod answer;
mod auth;
mod belonging;
mod builder;
mod content;
mod context;
mod faults;
mod http1;
mod image;
mod layout;
mod mixed;
mod registry;
mod request;
mod routes;
mod schema1;
mod server;
mod store;
mod tls;
mod wire;
mod written;

pub(crate) use self::builder::OnTlsHello;
pub(crate) use self::content::{Compression, KIB, MIB, random, random_from, sha256, sha512, tar_of, text};
pub(crate) use self::context::{Outcome, Run, Running, TestContext};
pub(crate) use self::faults::{BrokenRoute, Fault, Gate, http_date};
pub(crate) use self::image::{Blob, Built, Image, Index, artifact, image, index};
pub(crate) use self::layout::{Proof, Summary, assert_readable, check_layout};
pub(crate) use self::mixed::{Mixed, digest_of, flipped};
pub(crate) use self::registry::{FaultRegistry, PushedImage};
pub(crate) use self::request::Request;
pub(crate) use self::tls::{Certificate, ClientAuthority};
pub(crate) use self::written::write_layout;
