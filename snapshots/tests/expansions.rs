//! Expansions are as they were reviewed.

mod reviewed;

use quantloom_snapshots::{assert_snapshots, expansion};
use reviewed::REVIEWED;

#[test]
fn formats() {
    let declarations =
        expansion::declarations(include_str!("../../kernels/src/formats.rs")).expect("it compiles");
    let reviewed = REVIEWED.map(|format| {
        let found = declarations.iter().find(|declared| declared.name.eq_ignore_ascii_case(format.name));
        found.unwrap_or_else(|| panic!("{} is not declared there", format.name))
    });
    assert_snapshots!("../expansions", reviewed.map(|format| (&format.name, format.expansion())));
}

#[test]
fn instruction_sets() {
    assert_snapshots!("../expansions", [("isa", expansion::instruction_sets())]);
}
