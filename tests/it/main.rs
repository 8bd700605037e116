//! The integration tests: one binary, one file a behaviour, and `support` beside them.
//!
//! Every test talks to servers on loopback that it started itself, on ports that the system picked, and writes
//! into a temporary folder of its own, so that all of them run at once and none needs a network.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, and the line says enough")]

mod access;
mod artifacts;
mod asking;
mod attached;
mod certificates;
mod confusion;
mod convert;
mod credentials;
mod fault_matrix;
mod faults;
mod fetch;
mod foreign;
mod formats;
mod hostile_layout;
mod hostile_registry;
mod integrity;
mod layers;
mod legacy;
mod looking;
mod manners;
mod many;
mod mirrors;
mod platforms;
mod processes;
mod repair;
mod resolving;
mod resume;
mod schema1;
mod secure;
mod several;
mod support;
mod support_self;
mod tags;
mod together;
mod trust;
mod verify_finds;
