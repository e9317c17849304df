//! What tests of real models share.

use std::path::PathBuf;

use quantloom::pull;

/// The default model's file, which `quantloom pull smollm2` fetches. Where it is absent the test is skipped,
/// which is said aloud; with `CI` set it fails instead.
pub fn default_model() -> Option<PathBuf> {
    let path = pull::DEFAULT.cached();
    if path.is_none() {
        let remedy = "the default model is absent; `quantloom pull smollm2` fetches it";
        assert!(std::env::var_os("CI").is_none(), "{remedy}");
        eprintln!("SKIPPED: {remedy}");
    }
    path
}
