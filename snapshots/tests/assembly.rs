//! Every kernel's loop is as it was reviewed, and what must hold of it holds.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use quantloom_kernels::FORMATS;
use quantloom_snapshots::assembly::{self, Ceiling};
use quantloom_snapshots::assert_snapshots;

/// Instructions per block, in the loop's own share of the work of its iteration.
const CEILINGS: &[Ceiling] = &[
];

#[test]
fn loops() {
    let cells = assembly::cells(FORMATS).unwrap_or_else(|error| panic!("{error}"));
    assert_snapshots!("../assembly", cells.iter().map(|cell| (cell.name(), cell)));
}

#[test]
fn invariants() {
    let cells = assembly::cells(FORMATS).unwrap_or_else(|error| panic!("{error}"));
    assembly::assert_invariants(&cells, CEILINGS);
}
