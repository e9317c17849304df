//! The user's wish that a command end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Result;

/// Tells a command that writes files to end by itself, so that it leaves none that is half written.
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From here on Ctrl-C, and the signals that ask a process to end, are a wish: whoever watches has to look at it, again
    /// and again.
    pub fn watch() -> Result<Self> {
        let stop = Self(Arc::default());
        let wanted = Arc::clone(&stop.0);
        ctrlc::set_handler(move || wanted.store(true, Ordering::Relaxed))?;
        Ok(stop)
    }

    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
