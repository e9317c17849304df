//! The quantized formats that files may hold: this crate's and those that a program brings along.

use std::fmt::{self, Debug};

use quantloom_kernels::{FORMATS, Format};

use super::tensor::{self, TensorType};

/// Formats by name and by GGUF number, each unambiguous.
///
/// ```
/// use quantloom::gguf::Formats;
/// use quantloom_kernels::{BlockFormat, quant_format};
///
/// quant_format! {
///     /// 4 bits, 64 weights to a scale.
///     pub block Q4_64[64] {
///         d: f16,
///         qs: [u8; 32],
///
///         q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
///         w = d * (q - 8);
///     }
/// }
///
/// let formats = Formats::default().with(&[Q4_64::FORMAT])?;
/// assert!(formats.tensor_type("q4_64").is_some());
/// // `Model::from_gguf(Gguf::open_with(path, &formats)?, …)` now runs models in Q5_0.
/// # Ok::<(), quantloom::gguf::FormatConflict>(())
/// ```
#[derive(Clone)]
pub struct Formats(Vec<&'static Format>);

/// A format that can't be told from another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatConflict {
    /// Two formats have one name.
    #[error("a second format called {0}: rename one")]
    Name(&'static str),
    /// Two formats have one number, or ggml knows the number by another name.
    #[error("{name} has the GGUF number {id}, which is that of {other}: give {name} another")]
    Id {
        /// The format that was to be added.
        name: &'static str,
        /// Its number.
        id: u32,
        /// The format or type that has it.
        other: &'static str,
    },
}

impl Default for Formats {
    /// Those of [`quantloom_kernels::FORMATS`].
    fn default() -> Self {
        Self(FORMATS.to_vec())
    }
}

impl Formats {
    /// None: files may hold F32, F16 and BF16 only.
    pub const NONE: Self = Self(Vec::new());

    /// These formats and `more`.
    ///
    /// # Errors
    /// Two have the same name, upper and lower case aside, or the same number; or a number is ggml's for another
    /// type, so that other programs would misread the file.
    pub fn with(mut self, more: &[&'static Format]) -> Result<Self, FormatConflict> {
        for &format in more {
            if self.tensor_type(format.name).is_some() {
                return Err(FormatConflict::Name(format.name));
            }
            if let Some(id) = format.gguf_id {
                let here = self.types().find(|ty| ty.gguf_id() == Some(id)).map(TensorType::name);
                let in_ggml = tensor::ggml_name(id).filter(|name| !name.eq_ignore_ascii_case(format.name));
                if let Some(other) = here.or(in_ggml) {
                    return Err(FormatConflict::Id { name: format.name, id, other });
                }
            }
            self.0.push(format);
        }
        Ok(self)
    }

    /// The formats, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &'static Format> {
        self.0.iter().copied()
    }

    /// Every type that a tensor may have: the plain ones, then the formats.
    pub fn types(&self) -> impl Iterator<Item = TensorType> {
        TensorType::PLAIN.into_iter().chain(self.iter().map(TensorType::Quantized))
    }

    /// The type called `name`, in upper or lower case.
    pub fn tensor_type(&self, name: &str) -> Option<TensorType> {
        self.types().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }
}

impl Debug for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.types()).finish()
    }
}
