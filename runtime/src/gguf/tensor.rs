//! Tensors: shape, type and bytes.

use std::fmt::{self, Debug, Display};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use quantloom_kernels::Format;
use quantloom_kernels::dense::Dense;

use super::Formats;
use super::error::{Kind, Result};
use super::map::FileMap;

/// ggml's limit for the number of dimensions.
pub(super) const MAX_DIMS: usize = 4;

/// ggml's tensor types by number; the gaps are types that were taken back. Source: `enum ggml_type`.
const GGML_TYPES: [(u32, &str); 35] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (8, "Q8_0"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (30, "BF16"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

/// The type numbers of ik_llama.cpp that ggml has not, and whether the feature `more-formats` brings the format along.
const IK_LLAMA_TYPES: [(u32, &str, bool); 18] = [
    (133, "Q6_0", true),
    (134, "IQ1_BN", false),
    (135, "IQ2_BN", false),
    (137, "IQ2_K", true),
    (138, "IQ3_K", true),
    (139, "IQ4_K", true),
    (140, "IQ5_K", true),
    (141, "IQ6_K", false),
    (144, "IQ4_KS", false),
    (145, "IQ2_KS", false),
    (146, "IQ4_KSS", false),
    (152, "IQ5_KS", false),
    (153, "IQ2_KT", false),
    (154, "IQ3_KT", false),
    (155, "IQ4_KT", false),
    (156, "IQ3_KS", false),
    (157, "IQ2_KL", false),
    (158, "IQ1_KT", false),
];

/// Under these numbers ik_llama.cpp has rows of other types side by side.
const IK_LLAMA_ROWS: RangeInclusive<u32> = 200..=399;

/// ggml's name for type number `id`.
pub(super) fn ggml_name(id: u32) -> Option<&'static str> {
    GGML_TYPES.iter().find(|&&(known, _)| known == id).map(|&(_, name)| name)
}

/// How the weights of a tensor are stored.
#[derive(Clone, Copy)]
pub enum TensorType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single.
    BF16,
    /// Blocks of a declared format.
    Quantized(&'static Format),
}

impl TensorType {
    pub(super) const PLAIN: [Self; 3] = [Self::F32, Self::F16, Self::BF16];

    /// ggml's name: `F32`, `Q4_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Quantized(format) => format.name,
        }
    }

    /// GGUF's number; `None` for a format outside that numbering.
    pub fn gguf_id(self) -> Option<u32> {
        match self {
            Self::F32 => Some(0),
            Self::F16 => Some(1),
            Self::BF16 => Some(30),
            Self::Quantized(format) => format.gguf_id,
        }
    }

    /// The plain number format, or else the format of blocks.
    pub(crate) fn dense(self) -> Result<Dense, &'static Format> {
        match self {
            Self::F32 => Ok(Dense::F32),
            Self::F16 => Ok(Dense::F16),
            Self::BF16 => Ok(Dense::BF16),
            Self::Quantized(format) => Err(format),
        }
    }

    /// Weights per block; 1 for the floating-point types.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Quantized(format) => format.block_len,
        }
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Quantized(format) => format.block_bytes,
        }
    }

    /// Bytes of `weights` weights, which are whole blocks.
    pub fn bytes_for(self, weights: usize) -> usize {
        weights / self.block_len() * self.block_bytes()
    }

    /// The type with GGUF's number `id`, for the tensor called `tensor`.
    pub(super) fn from_gguf_id(tensor: &str, id: u32, formats: &Formats) -> Result<Self, Kind> {
        formats.types().find(|ty| ty.gguf_id() == Some(id)).ok_or_else(|| {
            let in_ik_llama = IK_LLAMA_TYPES.iter().find(|&&(known, ..)| known == id);
            let ty = match (ggml_name(id), in_ik_llama) {
                (Some(name), _) => format!("type {name} ({id})"),
                (None, Some((_, name, true))) => format!(
                    "ik_llama.cpp's type {name} ({id}), which a build with `--features more-formats` reads"
                ),
                (None, Some((_, name, false))) => format!("ik_llama.cpp's type {name} ({id})"),
                (None, None) if IK_LLAMA_ROWS.contains(&id) => {
                    format!("ik_llama.cpp's type {id}, rows of another type side by side")
                }
                (None, None) => format!("the unknown type {id}"),
            };
            let readable = formats.types().filter(|ty| ty.gguf_id().is_some()).map(Self::name);
            let supported = readable.collect::<Vec<_>>().join(", ");
            Kind::TensorType { tensor: tensor.into(), ty, supported }
        })
    }
}

/// By name: two references to one format need not have the same address.
impl PartialEq for TensorType {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for TensorType {}

impl Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A tensor of an open file: `rows` rows of `cols` weights each.
///
/// It shares the map of its [`Gguf`](super::Gguf) and keeps it alive; a clone copies no weights.
#[derive(Clone)]
pub struct Tensor {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) ty: TensorType,
    pub(super) map: Arc<FileMap>,
    pub(super) range: Range<usize>,
}

impl Tensor {
    /// The name: `blk.0.attn_q.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One to four dimensions in GGUF's order, none 0: the first is the one that runs fastest.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// How the weights are stored.
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// Weights per row: the first dimension, a multiple of the type's block.
    pub fn cols(&self) -> usize {
        self.dims[0]
    }

    /// The number of rows: the product of the other dimensions.
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product()
    }

    /// The number of matrices: the product of the dimensions from the third on.
    pub fn matrices(&self) -> usize {
        self.dims.iter().skip(2).product()
    }

    /// Bytes per row.
    pub fn row_bytes(&self) -> usize {
        self.ty.bytes_for(self.cols())
    }

    /// The weights as they stand in the file, `rows × row_bytes` bytes. They begin at a multiple of the file's
    /// alignment, also in memory.
    pub fn data(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }

    /// Where the weights lie, in bytes from the start of the file.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

impl Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {} at {:?}", self.name, self.dims, self.ty, self.range)
    }
}

/// Checks a shape; returns it as `usize` with the length in bytes that it has in type `ty`.
pub(super) fn data_len(tensor: &str, dims: &[u64], ty: TensorType) -> Result<(Vec<usize>, usize), Kind> {
    if dims.is_empty() || dims.len() > MAX_DIMS {
        return Err(Kind::DimCount { tensor: tensor.into(), n: dims.len() as u64, max: MAX_DIMS });
    }
    if dims.contains(&0) {
        return Err(Kind::ZeroDim { tensor: tensor.into(), dims: dims.to_vec() });
    }
    if !dims[0].is_multiple_of(ty.block_len() as u64) {
        let (ty, block_len) = (ty.name(), ty.block_len());
        return Err(Kind::RowLength { tensor: tensor.into(), cols: dims[0], ty, block_len });
    }
    let shape = || {
        let dims = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>()?;
        let weights = dims.iter().try_fold(1, |product: usize, &dim| product.checked_mul(dim))?;
        let len = (weights / ty.block_len()).checked_mul(ty.block_bytes())?;
        // No object in memory is larger, a mapped file included.
        (len <= isize::MAX as usize).then_some((dims, len))
    };
    shape().ok_or_else(|| Kind::TooLarge { tensor: tensor.into(), dims: dims.to_vec() })
}
