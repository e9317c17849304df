//! Instruction sets and the proof that this CPU has one.

use std::fmt;
use std::sync::OnceLock;

quantloom_macros::instruction_sets!();

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Proof that this CPU has an instruction set: the only safe way to one of these is
/// through detection, and the kernels ask for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported(Isa);

/// An instruction set that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// The CPU does not have it.
    #[error("this CPU can't run {isa}: it lacks {}; it can run {}", .missing.join(", "), runnable())]
    Missing {
        /// What was asked for.
        isa: Isa,
        /// The CPU features, or the architecture, that it needs and this machine lacks.
        missing: Vec<&'static str>,
    },
    /// There is none of this name.
    #[error("unknown instruction set `{0}`; this CPU can run {names}", names = runnable())]
    Unknown(String),
}

/// The environment variable that forces an instruction set.
const VARIABLE: &str = "QUANTLOOM_ISA";

impl Supported {
    /// Proof that the CPU has `isa`.
    ///
    /// # Errors
    /// [`IsaError::Missing`] names the features that it lacks.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        let missing = isa.missing();
        if missing.is_empty() { Ok(Self(isa)) } else { Err(IsaError::Missing { isa, missing }) }
    }

    /// The same without proof.
    ///
    /// # Safety
    /// Every instruction of `isa` has its effect when executed here, by the CPU or by an emulator that catches
    /// those that the CPU lacks.
    pub unsafe fn assume(isa: Isa) -> Self {
        Self(isa)
    }

    /// The instruction sets of this CPU, the plainest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        Isa::ALL.iter().filter_map(|&isa| Self::new(isa).ok())
    }

    /// The instruction set to use: the one that the environment variable `QUANTLOOM_ISA` names, or the
    /// best that this CPU has. The choice is made once per process.
    ///
    /// # Errors
    /// The variable names none that exists, or one that this CPU lacks. There is no silent fallback.
    pub fn selected() -> Result<Self, IsaError> {
        static SELECTED: OnceLock<Result<Supported, IsaError>> = OnceLock::new();
        SELECTED
            .get_or_init(|| match std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
                None => Ok(Self::all().next_back().unwrap_or(Self(Isa::Scalar))),
                Some(name) => Self::named(&name.to_string_lossy()),
            })
            .clone()
    }

    /// Proof that the CPU has the instruction set called `name`, as in [`Isa::name`].
    ///
    /// # Errors
    /// As for [`Supported::selected`].
    pub fn named(name: &str) -> Result<Self, IsaError> {
        match Isa::ALL.iter().find(|isa| isa.name() == name) {
            Some(&isa) => Self::new(isa),
            None => Err(IsaError::Unknown(name.into())),
        }
    }

    /// Which one it is.
    pub fn isa(self) -> Isa {
        self.0
    }
}

fn runnable() -> String {
    Supported::all().map(|supported| supported.0.name()).collect::<Vec<_>>().join(", ")
}
