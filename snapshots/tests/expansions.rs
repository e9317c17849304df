//! Expansions are as they were reviewed.

use quantloom_snapshots::{assert_snapshots, expansion};

#[test]
fn formats() {
    let declarations =
        expansion::declarations(include_str!("../../kernels/src/formats.rs")).expect("it compiles");
    assert_snapshots!("../expansions", declarations.iter().map(|format| (&format.name, format.expansion())));
}

#[test]
fn instruction_sets() {
    assert_snapshots!("../expansions", [("isa", expansion::instruction_sets())]);
}
