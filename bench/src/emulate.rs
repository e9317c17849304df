//! AVX-VNNI's own machine code on any x86-64 CPU with AVX2: where the CPU refuses `vpdpbusd` or `vpdpwssd`, a SIGILL
//! handler does its work.

use std::fmt;

use quantloom_kernels::{Isa, IsaError, Supported};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod trap;

/// Who executes the instructions of an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The CPU, all of them.
    Natively,
    /// The CPU, but for those that it lacks.
    Emulated,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Natively => "natively",
            Self::Emulated => "under emulation",
        })
    }
}

/// `isa` by the CPU, or with the `vpdpbusd` and `vpdpwssd` of AVX-VNNI emulated; then this process handles SIGILL from here on, and
/// an illegal instruction of any other kind ends it, with a word about which.
///
/// # Errors
/// The CPU lacks what is not emulated.
pub fn supported(isa: Isa) -> Result<(Supported, How), IsaError> {
    match Supported::new(isa) {
        Ok(native) => Ok((native, How::Natively)),
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Err(_) if isa.missing() == trap::EMULATED => Ok((trap::supported(isa), How::Emulated)),
        Err(error) => Err(error),
    }
}

/// Instructions emulated so far.
pub fn traps() -> u64 {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return trap::traps();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    0
}
