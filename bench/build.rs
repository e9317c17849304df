//! Tells the report what this crate was compiled with; kernels are optimised in every profile.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").expect("cargo sets it");
    let version = Command::new(rustc).arg("--version").output().expect("the compiler runs");
    println!("cargo::rustc-env=BUILT_WITH={}", String::from_utf8_lossy(&version.stdout).trim());
    for (name, variable) in [("BUILT_FOR", "TARGET"), ("BUILT_AT", "OPT_LEVEL"), ("BUILT_IN", "PROFILE")] {
        println!("cargo::rustc-env={name}={}", env::var(variable).expect("cargo sets it"));
    }
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    println!("cargo::rustc-env=BUILT_USING={}", features.replace(',', " "));
}
