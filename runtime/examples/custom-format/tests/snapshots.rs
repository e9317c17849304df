//! What the macro makes of the format and the compiler of its kernels is as it was reviewed: `INSTA_UPDATE=always` accepts
//! what changed, and the diff shows it.

use quantloom_snapshots::{assert_snapshots, expansion};

#[test]
fn expansion() {
    let declarations = expansion::declarations(include_str!("../src/lib.rs")).unwrap();
    assert_snapshots!("../snapshots", declarations.iter().map(|format| (&format.name, format.expansion())));
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn assembly() {
    use quantloom_snapshots::assembly;

    let cells = assembly::cells(&[custom_format::FORMAT]).unwrap();
    assert_snapshots!("../snapshots", cells.iter().map(|cell| (cell.name(), cell)));
    // The most instructions per block; an instruction set that is not named has its base's ceiling.
    assembly::assert_invariants(
        &cells,
        &[
            ("q6_0_dot", &[("scalar", 420), ("avx2_fma", 25), ("avx_vnni", 24), ("avx512_vnni", 23)]),
            ("q6_0_gemv", &[("scalar", 570), ("avx2_fma", 22), ("avx_vnni", 21), ("avx512_vnni", 18)]),
            ("q6_0_dequantize", &[("scalar", 200), ("avx2_fma", 40)]),
        ],
        &[],
    );
}
