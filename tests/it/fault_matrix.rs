//! Every fault of a network at every step of a fetch: each row ends in a sound layout, or in the right exit code, with an
//! error that names the first cause, the tries and the time, a readable layout, and a second run that completes.
//!
//! A row is a line in `tables`, or in `everywhere` where it is the same at any step; `row` says what one is made of, `scene`
//! where it happens, `run` how it is held to what it says. Every row begins with nothing, and again beside an image of another
//! tool's, which has to stay whole and named whatever happens.

mod everywhere;
mod places;
mod row;
mod run;
mod scene;
mod tables;
mod unreachable;

use run::hold;

/// A login takes nothing for granted: whatever the ping suffers, credentials are stored once the registry accepted them.
#[test]
fn faults_at_the_ping() {
    assert_eq!(hold(&tables::ping()), 52);
}

/// Without a token there is nothing, and its service is a server like any other.
#[test]
fn faults_at_the_token_service() {
    assert_eq!(hold(&tables::token()), 51);
}

/// The first question of every fetch. Where HEAD is not to be had, GET tells.
#[test]
fn faults_at_the_tag() {
    assert_eq!(hold(&tables::head()), 42);
}

/// A manifest is small, and as easily cut as anything else.
#[test]
fn faults_at_the_manifest() {
    assert_eq!(hold(&tables::manifest()), 53);
}

/// The config decides which image it is, before anything is written.
#[test]
fn faults_at_the_config() {
    assert_eq!(hold(&tables::config()), 53);
}

/// Most bytes of a fetch are a layer's: what came is kept to the byte, at every offset.
#[test]
fn faults_at_a_layer() {
    assert_eq!(hold(&tables::layer()), 67);
}

/// Ranges are promises that servers break in many ways, none of which may cost what is on disk.
#[test]
fn faults_at_a_layer_in_segments() {
    assert_eq!(hold(&tables::segments()), 64);
}

/// Tokens die in the middle of a fetch, whatever they are for, and are replaced as long as new ones are good for something.
#[test]
fn faults_behind_a_token() {
    assert_eq!(hold(&tables::guarded()), 31);
}

/// Signed URLs expire, and so does the server behind them.
#[test]
fn faults_at_a_storage() {
    assert_eq!(hold(&tables::storage()), 73);
}

/// What belongs to an image is asked for when all else is well, and may fail like all else.
#[test]
fn faults_at_the_referrers() {
    assert_eq!(hold(&tables::referrers()), 52);
}
