//! A mapped file that another program cuts short, or whose disk fails, while it is in use.
//!
//! Touching a page that is gone raises SIGBUS. The handler names the file and ends the process: there is nothing that
//! the interrupted instruction could be given instead.

use std::sync::OnceLock;

use libc::{c_int, c_void, sigaction, sighandler_t, siginfo_t};

use super::output::end_with;
use super::stop::{action, replace_action};
use crate::gguf::mapped_file_at;

/// What was done about the signal before: the standard library looks there for overflows of the stack.
static BEFORE: OnceLock<sigaction> = OnceLock::new();

/// From here on a lost page ends the process with one line of error and status 1. Where that can't be had the signal ends
/// it without a word.
pub fn watch() {
    type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
    let lost = action(handle as Handler as sighandler_t, libc::SA_SIGINFO | libc::SA_ONSTACK);
    // What was done before is known before the handler can ask for it.
    if let Ok(before) = replace_action(libc::SIGBUS, None)
        && BEFORE.set(before).is_ok()
    {
        let _ = replace_action(libc::SIGBUS, Some(&lost));
    }
}

/// Does only what a handler may: it reads atomics, writes, and ends the process.
extern "C" fn handle(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the system gives a handler of SA_SIGINFO a valid `info`.
    let info = unsafe { &*info };
    // SAFETY: the signal is a fault, which has an address.
    let address = unsafe { info.si_addr() }.addr();
    // SAFETY: the interrupted thread was reading at `address`, so that a map there is in use, and stays: the process
    // ends before the handler returns.
    let Some(name) = (unsafe { mapped_file_at(address) }) else {
        // Whatever it is, it happens again, and is treated as it would have been.
        if let Some(before) = BEFORE.get() {
            let _ = replace_action(libc::SIGBUS, Some(before));
        }
        return;
    };
    const AFTER: &[u8] = b": the file was cut short, or its disk failed, while it was in use; \
        --no-mmap reads a file that other programs write to";
    end_with(&[name, AFTER])
}
