//! What happens when the process dies, or the file system fails, at any step of a fetch; and when it fails at one of a repair.
//!
//! The binary is built with the feature `failpoints`, which lets a test choose the step (`src/failpoint.rs`). A first run
//! without harm tells which steps there are and how often each is passed; then there is a run for each of them. After every
//! one the layout is read and hashed by this suite's own code, journals included, and the same command is run once more: it
//! has to complete, and to ask for no byte that was there. At one passage of each step skopeo and umoci read it as well.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, and the line says enough")]

mod commands;
mod errors;
mod group;
mod kills;
mod moved;
mod points;
mod programs;
mod real;
mod repairs;
mod scene;
mod sound;
#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "it is the integration tests', which use all of it")]
mod support;
#[path = "../interop/tools.rs"]
#[expect(dead_code, reason = "it is the interop tests', which use all of it")]
mod tools;
