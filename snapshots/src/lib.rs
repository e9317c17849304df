//! Reviewable snapshots of what stands behind a declaration, one readable file for each:
//!
//! - `expansions/q4_0.snap`: all that the macro generates for a format, as rustfmt would print it ([`expansion`]);
//! - `assembly/q4_0_gemv_avx_vnni.snap`: what the compiler makes of a kernel's loop, disassembled from the
//!   test's own binary ([`assembly`]), with invariants that hold whatever a reviewer accepts.
//!
//! `cargo test -p quantloom-snapshots` compares them, with no other tool than cargo; with `INSTA_UPDATE=always`
//! before it, it accepts what changed, and the diff shows that.
//!
//! # Formats of your own
//!
//! A crate that declares a format gets the same with this crate among its `dev-dependencies` and a test like
//!
//! ```ignore
//! use quantloom_kernels::BlockFormat;
//! use quantloom_snapshots::{assembly, assert_snapshots};
//!
//! #[test]
//! fn assembly() {
//!     let cells = assembly::cells(&[my_formats::Q6_0::FORMAT]).unwrap_or_else(|error| panic!("{error}"));
//!     assert_snapshots!("assembly", cells.iter().map(|cell| (cell.name(), cell)));
//!     assembly::assert_invariants(&cells, &[("q6_0_dot", &[("scalar", 290), ("avx2_fma", 25)])], &[]);
//! }
//! ```
//!
//! whose kernels are compiled as this workspace compiles its own:
//!
//! ```toml
//! [profile.dev.package.my-formats]
//! opt-level = 3
//! codegen-units = 1
//! incremental = false
//! debug-assertions = false
//! overflow-checks = false
//! ```
//!
//! # What one looks like
//!
//! The declaration of Q4_0 in `kernels/src/formats.rs` expands to
//!
//! ```ignore
#![doc = include_str!("../expansions/q4_0.snap")]
//! ```
//!
//! and the loop of `gemv` for AVX-VNNI in it, four rows at once, becomes
//!
//! ```text
#![doc = include_str!("../assembly/q4_0_gemv_avx_vnni.snap")]
//! ```

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod assembly;
pub mod expansion;

/// For [`assert_snapshots!`].
#[doc(hidden)]
pub use insta;

/// Asserts with insta that each of a sequence of texts, `(name, text)`, is as it was reviewed: `name.snap` in a
/// directory given from that of the test file. All that differ are reported, not only the first.
#[macro_export]
macro_rules! assert_snapshots {
    ($directory:expr, $texts:expr) => {
        $crate::each($texts, |name, text| {
            $crate::insta::with_settings!({
                snapshot_path => $directory,
                prepend_module_to_snapshot => false,
                omit_expression => true,
            }, {
                $crate::insta::assert_snapshot!(name, text);
            });
        })
    };
}

/// For [`assert_snapshots!`]: insta's assertion panics, after it has shown the difference.
#[doc(hidden)]
pub fn each<N: ToString, T: ToString>(
    texts: impl IntoIterator<Item = (N, T)>,
    assert: impl Fn(String, String) + std::panic::RefUnwindSafe,
) {
    let mut differ = Vec::new();
    for (name, text) in texts {
        let (name, text) = (name.to_string(), text.to_string());
        if std::panic::catch_unwind(|| assert(name.clone(), text)).is_err() {
            differ.push(name);
        }
    }
    assert!(differ.is_empty(), "not as reviewed: {}", differ.join(", "));
}
