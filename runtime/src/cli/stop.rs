//! Cooperative stop on the signals that ask a process to end: Ctrl-C, those of a terminal or a batch system, and the limit
//! of CPU time.

use std::error::Error;
use std::path::Path;

#[cfg(not(unix))]
pub use other::{Stop, fail_writes_at_size_limit};
#[cfg(unix)]
pub use unix::{Stop, action, fail_writes_at_size_limit, replace_action};

use super::Result;

impl Stop {
    /// Why the command ended, for the end of a sentence: nothing for Ctrl-C, after which everybody knows.
    pub fn by(&self) -> String {
        self.cause().map_or(String::new(), |cause| format!(" by {cause}"))
    }

    /// Whether the command may go on.
    ///
    /// # Errors
    /// It is to end, before all of `output` is written.
    pub fn check(&self, output: &Path) -> Result {
        if self.is_wanted() { Err(self.explain(crate::Error::Stopped(output.into()).into())) } else { Ok(()) }
    }

    /// `error`, with what made the command end if that is why.
    pub fn explain(&self, error: Box<dyn Error>) -> Box<dyn Error> {
        match error.downcast_ref() {
            Some(crate::Error::Stopped(_)) => format!("{error}{}", self.by()).into(),
            _ => error,
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::io;
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::atomic::{AtomicI32, Ordering};

    use libc::{c_int, sigaction, sighandler_t};

    use super::super::Result;

    /// The signal that came first, or 0.
    static RECEIVED: AtomicI32 = AtomicI32::new(0);

    /// Signals that end a process where nobody handles them and that are no fault of its own.
    const NAMES: &[(c_int, &str)] = &[
        (libc::SIGINT, "SIGINT"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGVTALRM, "SIGVTALRM"),
        (libc::SIGPROF, "SIGPROF"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGXCPU, "SIGXCPU, the limit of CPU time (ulimit -t)"),
        #[cfg(target_os = "linux")]
        (libc::SIGIO, "SIGIO"),
        #[cfg(target_os = "linux")]
        (libc::SIGSTKFLT, "SIGSTKFLT"),
        #[cfg(target_os = "linux")]
        (libc::SIGPWR, "SIGPWR"),
    ];

    /// Tells a command that writes files to end by itself, so that it leaves none that is half written. Dropped, it
    /// gives signals back the actions that they had.
    pub struct Stop(Vec<(c_int, sigaction)>);

    impl Stop {
        /// From here on the signals are a wish: whoever watches has to look at it, again and again. A second Ctrl-C ends
        /// the process at once.
        ///
        /// Signals that are ignored stay so, as SIGHUP under `nohup` and SIGINT behind `&`.
        pub fn watch() -> Result<Self> {
            RECEIVED.store(0, Ordering::Relaxed);
            let mut stop = Self(Vec::new());
            for signal in NAMES.iter().map(|&(signal, _)| signal).chain(real_time_signals()) {
                let before = replace_action(signal, None)?;
                if before.sa_sigaction == libc::SIG_IGN {
                    continue;
                }
                // `timeout` sends SIGTERM twice, and SIGXCPU comes again each second: they go on being a wish.
                let once = if signal == libc::SIGINT { libc::SA_RESETHAND } else { 0 };
                replace_action(signal, Some(&action(note as extern "C" fn(c_int) as sighandler_t, once)))?;
                stop.0.push((signal, before));
            }
            Ok(stop)
        }

        pub fn is_wanted(&self) -> bool {
            RECEIVED.load(Ordering::Relaxed) != 0
        }

        pub(super) fn cause(&self) -> Option<&'static str> {
            let received = RECEIVED.load(Ordering::Relaxed);
            let name = NAMES.iter().find(|(signal, _)| *signal == received).map(|(_, name)| *name);
            (received != libc::SIGINT).then(|| name.unwrap_or("a real-time signal"))
        }
    }

    impl Drop for Stop {
        fn drop(&mut self) {
            for (signal, before) in &self.0 {
                // It was set before.
                let _ = replace_action(*signal, Some(before));
            }
        }
    }

    /// Those without names of their own.
    fn real_time_signals() -> impl Iterator<Item = c_int> {
        #[cfg(target_os = "linux")]
        let signals = libc::SIGRTMIN()..=libc::SIGRTMAX();
        #[cfg(not(target_os = "linux"))]
        let signals = std::iter::empty();
        signals
    }

    /// A write beyond the limit of a file's size (`ulimit -f`) fails from here on, so that an error names the file; by
    /// default SIGXFSZ ends the process. As it is handled, and not ignored, programs that are started have the default.
    pub fn fail_writes_at_size_limit() {
        extern "C" fn nothing(_: c_int) {}
        // Where this fails the default remains.
        let _ =
            replace_action(libc::SIGXFSZ, Some(&action(nothing as extern "C" fn(c_int) as sighandler_t, 0)));
    }

    /// The first signal counts: what follows it may be to hurry.
    extern "C" fn note(signal: c_int) {
        let _ = RECEIVED.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// An action that runs `handler`, after which a call of the system that it interrupted goes on.
    pub fn action(handler: sighandler_t, flags: c_int) -> sigaction {
        // SAFETY: all fields are integers and bit sets, or optional pointers, which may be zero; zero is the empty set.
        let mut action: sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART | flags;
        action
    }

    /// Sets what a signal does, if an action is given; returns what it did before.
    ///
    /// A handler may call it, and may be given if it does only what a handler may.
    pub fn replace_action(signal: c_int, new: Option<&sigaction>) -> io::Result<sigaction> {
        let mut before = action(libc::SIG_DFL, 0);
        // SAFETY: both pointers are to actions, or null; handlers do only what handlers may.
        let status = unsafe { sigaction(signal, new.map_or(ptr::null(), ptr::from_ref), &mut before) };
        if status == 0 { Ok(before) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(not(unix))]
mod other {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::Result;

    /// Tells a command that writes files to end by itself, so that it leaves none that is half written.
    pub struct Stop(Arc<AtomicBool>);

    impl Stop {
        /// From here on Ctrl-C is a wish: whoever watches has to look at it, again and again.
        pub fn watch() -> Result<Self> {
            let stop = Self(Arc::default());
            let wanted = Arc::clone(&stop.0);
            ctrlc::set_handler(move || {
                if wanted.swap(true, Ordering::Relaxed) {
                    std::process::exit(1);
                }
            })?;
            Ok(stop)
        }

        pub fn is_wanted(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }

        pub(super) fn cause(&self) -> Option<&'static str> {
            None
        }
    }

    /// There is no such limit.
    pub fn fail_writes_at_size_limit() {}
}
