//! Weights that are no finite numbers, found about as fast as memory is read.
//!
//! A NaN or an infinity comes into a block of weights by its scales alone: codes are integers, and tables are finite.
//! So the search looks at the few bytes of a block that hold the exponents of floating-point numbers, and dequantizes
//! only blocks in which one is large enough for a product to overflow.

use crate::dense::Dense;
use crate::{Format, Supported};

/// A floating-point number in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatField {
    /// How it is stored.
    pub ty: FloatType,
    /// The offset of its first byte in the block.
    pub offset: usize,
}

/// How a number is stored whose products can be no finite numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single precision number.
    BF16,
    /// IEEE single precision.
    F32,
    /// A power of two, 8 bits of exponent.
    E8M0,
}

/// Blocks that are looked at between two decisions: few enough that they are in the cache where one is to be looked at
/// again.
const STEP: usize = 256;

/// The exponent of 2^24 as BF16, F32 and E8M0 store it, with a bias of 127. A number from there on may give an infinite product
/// with codes and other scales; four such numbers, as in `d * (s - sz) * (q - zs * (z - zz))`, and three codes of 8 bits give none.
const LARGE_EXPONENT: u32 = 127 + 24;

impl FloatType {
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::E8M0 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
        }
    }
}

impl Format {
    /// The first weight of `blocks` that is NaN or infinite, and its value.
    ///
    /// # Panics
    /// `blocks` are no whole blocks.
    pub fn first_not_finite(&'static self, isa: Supported, blocks: &[u8]) -> Option<(usize, f32)> {
        assert!(blocks.len().is_multiple_of(self.block_bytes), "whole blocks of {}", self.name);
        let mut weights = Vec::new();
        for (step, some) in blocks.chunks(STEP * self.block_bytes).enumerate() {
            if !self.floats.iter().any(|field| field.is_large_in(some, self.block_bytes)) {
                continue;
            }
            weights.resize(some.len() / self.block_bytes * self.block_len, 0.0);
            self.kernels(isa).dequantize(some, &mut weights).expect("whole blocks");
            if let Some((index, weight)) = first(weights.iter().copied()) {
                return Some((step * STEP * self.block_len + index, weight));
            }
        }
        None
    }
}

impl FloatField {
    /// Whether it is NaN, infinite, or so large that a product may be, in any block of `block_bytes`.
    fn is_large_in(self, blocks: &[u8], block_bytes: usize) -> bool {
        // One of its bytes, in all blocks.
        let all = |byte: usize| blocks[self.offset + byte..].iter().step_by(block_bytes);
        let any_exponent = |low: usize, high: usize| {
            all(high).zip(all(low)).fold(false, |any, (high, low)| {
                let exponent = u32::from(high & 0x7f) << 1 | u32::from(low >> 7);
                any | (exponent >= LARGE_EXPONENT)
            })
        };
        // Without an early end, which would cost more than it saves.
        match self.ty {
            FloatType::F16 => all(1).fold(false, |any, high| any | (high & 0x7c == 0x7c)),
            FloatType::E8M0 => {
                all(0).fold(false, |any, &exponent| any | (u32::from(exponent) >= LARGE_EXPONENT))
            }
            FloatType::BF16 => any_exponent(0, 1),
            FloatType::F32 => any_exponent(2, 3),
        }
    }
}

impl Dense {
    /// The first weight of `bytes`, little-endian, that is NaN or infinite, and its value.
    ///
    /// # Panics
    /// `bytes` are no whole weights.
    pub fn first_not_finite(self, bytes: &[u8]) -> Option<(usize, f32)> {
        assert!(bytes.len().is_multiple_of(self.bytes()), "whole weights of {}", self.name());
        /// Weights that are looked at between two decisions: a page.
        const PAGE: usize = 4096;
        bytes.chunks(PAGE).enumerate().find_map(|(page, some)| {
            if !self.any_not_finite(some) {
                return None;
            }
            let mut weights = vec![0.0; some.len() / self.bytes()];
            self.widen(some, &mut weights).expect("as many bytes as weights");
            let (index, weight) = first(weights)?;
            Some((page * PAGE / self.bytes() + index, weight))
        })
    }

    /// A NaN and an infinity have all bits of the exponent set, and no other number has.
    fn any_not_finite(self, bytes: &[u8]) -> bool {
        fn any<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> bool {
            bytes.as_chunks().0.iter().fold(false, |any, bytes| any | is_bad(*bytes))
        }
        match self {
            Self::F32 => any(bytes, |w| u32::from_le_bytes(w) & 0x7f80_0000 == 0x7f80_0000),
            Self::F16 => any(bytes, |w| u16::from_le_bytes(w) & 0x7c00 == 0x7c00),
            Self::BF16 => any(bytes, |w| u16::from_le_bytes(w) & 0x7f80 == 0x7f80),
        }
    }
}

fn first(weights: impl IntoIterator<Item = f32>) -> Option<(usize, f32)> {
    weights.into_iter().enumerate().find(|(_, weight)| !weight.is_finite())
}
