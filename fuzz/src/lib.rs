//! The bodies of the fuzzers: the very files that the properties in `tests/properties` use.

#[path = "../../tests/properties/bodies/mod.rs"]
mod bodies;

pub use bodies::*;
