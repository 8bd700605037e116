//! Registries that are out to do harm: whatever they say, no command crashes, hangs, swells, writes outside of its layout,
//! drives the terminal, or names an image that was not proven.
//!
//! Each topic is a table of rows, and each row a registry ([`server`]) with the commands that are run against it and what
//! holds afterwards ([`row`]).

mod bodies;
mod bombs;
mod digests;
mod documents;
mod headers;
mod indexes;
mod layers;
mod lists;
mod make;
mod row;
mod schema1;
mod server;
mod text;
mod tokens;

use row::{Row, run_all};

/// Manifests and configs that are no documents, or other ones than they say.
#[test]
fn documents_that_cannot_be_trusted_are_refused() {
    run_all(&documents::rows());
}

/// Digests that are paths, or no digests, wherever a digest may stand.
#[test]
fn digests_that_are_paths_lead_nowhere() {
    run_all(&digests::rows());
}

/// Bodies without an end or past their caps cost neither memory nor disk nor time.
#[test]
fn bodies_without_an_end_are_cut_off() {
    run_all(&bodies::rows());
}

/// A few bytes that become many do so nowhere but in a stream that is hashed.
#[test]
fn bombs_do_not_go_off() {
    run_all(&bombs::rows());
}

/// Sizes, numbers and types of layers that are not what they are said to be.
#[test]
fn layers_that_lie_are_refused() {
    run_all(&layers::rows());
}

/// Indexes that list themselves, each other, nothing, or more than anybody has.
#[test]
fn indexes_end() {
    run_all(&indexes::rows());
}

/// Headers that lie, are too many, or lead to where nobody may go.
#[test]
fn headers_are_not_believed() {
    run_all(&headers::rows());
}

/// Token services and challenges that are not what they should be.
#[test]
fn tokens_and_challenges_are_not_believed() {
    run_all(&tokens::rows());
}

/// Nothing that a registry writes drives the terminal of whoever reads about it.
#[test]
fn text_does_not_drive_a_terminal() {
    run_all(&text::rows());
}

/// Lists of tags and of referrers.
#[test]
fn lists_are_not_believed() {
    run_all(&lists::rows());
}

/// Docker's schema 1, in all the ways in which it can be wrong.
#[test]
fn schema1_is_not_believed() {
    run_all(&schema1::rows());
}

/// As many as were promised, and no two by one name.
#[test]
fn there_are_two_hundred_rows_and_more() {
    let topics: [fn() -> Vec<Row>; 11] = [
        documents::rows,
        digests::rows,
        bodies::rows,
        bombs::rows,
        layers::rows,
        indexes::rows,
        headers::rows,
        tokens::rows,
        text::rows,
        lists::rows,
        schema1::rows,
    ];
    let rows: Vec<_> = topics.iter().flat_map(|rows| rows()).collect();
    let mut names = std::collections::BTreeSet::new();
    for row in &rows {
        assert!(names.insert(row.name()), "{} is there twice", row.name());
    }
    assert!(rows.len() >= 200, "{}", rows.len());
}
