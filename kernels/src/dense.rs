//! Products with weights and caches that are not quantized: F32, F16 and BF16, and the widening
//! of an f16 KV cache.

use half::{bf16, f16};

use crate::{ShapeError, Supported};

/// A plain number format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dense {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an F32.
    BF16,
}

impl Dense {
    /// Bytes per weight.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// GGUF's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// Little-endian bytes to weights.
    ///
    /// # Errors
    /// `bytes` is not exactly `weights.len()` numbers.
    pub fn widen(self, bytes: &[u8], weights: &mut [f32]) -> Result<(), ShapeError> {
        self.check("widen", bytes.len(), weights.len())?;
        match self {
            Self::F32 => each(bytes, weights, f32::from_le_bytes),
            Self::F16 => each(bytes, weights, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Self::BF16 => each(bytes, weights, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        }
        Ok(())
    }

    /// y = W x, with a row-major `matrix` of shape `[y.len(), x.len()]`, little-endian.
    ///
    /// # Errors
    /// `matrix` is not of that shape.
    pub fn gemv(self, isa: Supported, matrix: &[u8], x: &[f32], y: &mut [f32]) -> Result<(), ShapeError> {
        self.check("gemv", matrix.len(), x.len().saturating_mul(y.len()))?;
        let row = x.len() * self.bytes();
        for (i, y) in y.iter_mut().enumerate() {
            let row = &matrix[i * row..][..row];
            *y = match isa.isa() {
                #[cfg(target_arch = "x86_64")]
                isa if isa.includes(crate::Isa::Avx2Fma) => {
                    // SAFETY: that `isa` is supported proves that the CPU has AVX2, FMA and F16C.
                    unsafe { avx2::dot(self, row, x) }
                }
                _ => dot_of_bytes(self, row, x),
            };
        }
        Ok(())
    }

    fn check(self, operation: &'static str, bytes: usize, weights: usize) -> Result<(), ShapeError> {
        let expected = weights.saturating_mul(self.bytes());
        if bytes == expected {
            return Ok(());
        }
        Err(ShapeError { format: self.name(), operation, what: "bytes", actual: bytes, expected })
    }
}

/// f16 as f32; the shorter slice decides.
pub fn widen_f16(isa: Supported, halves: &[f16], floats: &mut [f32]) {
    let len = halves.len().min(floats.len());
    let (halves, floats) = (&halves[..len], &mut floats[..len]);
    match isa.isa() {
        #[cfg(target_arch = "x86_64")]
        isa if isa.includes(crate::Isa::Avx2Fma) => {
            // SAFETY: that `isa` is supported proves that the CPU has AVX2 and F16C.
            unsafe { avx2::widen_f16(halves, floats) }
        }
        _ => floats.iter_mut().zip(halves).for_each(|(float, half)| *float = half.to_f32()),
    }
}

fn each<const N: usize>(bytes: &[u8], weights: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    let (numbers, _) = bytes.as_chunks();
    weights.iter_mut().zip(numbers).for_each(|(weight, number)| *weight = convert(*number));
}

fn dot_of_bytes(dense: Dense, row: &[u8], x: &[f32]) -> f32 {
    /// Independent partial sums, so that the compiler may use vectors.
    fn dot<const N: usize>(row: &[u8], x: &[f32], convert: impl Fn([u8; N]) -> f32) -> f32 {
        let (row, _) = row.as_chunks();
        let mut sums = [0.0_f32; 8];
        for (row, x) in row.chunks(8).zip(x.chunks(8)) {
            for ((sum, w), x) in sums.iter_mut().zip(row).zip(x) {
                *sum += convert(*w) * x;
            }
        }
        sums.iter().sum()
    }
    match dense {
        Dense::F32 => dot(row, x, f32::from_le_bytes),
        Dense::F16 => dot(row, x, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dense::BF16 => dot(row, x, |bytes| bf16::from_le_bytes(bytes).to_f32()),
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use core::arch::x86_64::*;

    use super::{Dense, dot_of_bytes};
    use crate::x86;
    use half::f16;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn dot(dense: Dense, row: &[u8], x: &[f32]) -> f32 {
        let (x_vectors, x_rest) = x.as_chunks::<8>();
        let mut acc = [_mm256_setzero_ps(); 4];
        let vector_bytes = 8 * dense.bytes();
        let (head, rest) = row.split_at(x_vectors.len() * vector_bytes);
        match dense {
            Dense::F32 => {
                let (w, _) = head.as_chunks::<32>();
                for (i, (w, x)) in w.iter().zip(x_vectors).enumerate() {
                    let w = _mm256_castsi256_ps(x86::load_256::<0, _>(w));
                    acc[i % 4] = _mm256_fmadd_ps(w, x86::load(x), acc[i % 4]);
                }
            }
            Dense::F16 => {
                let (w, _) = head.as_chunks::<16>();
                for (i, (w, x)) in w.iter().zip(x_vectors).enumerate() {
                    let w = _mm256_cvtph_ps(x86::load_128::<0, _>(w));
                    acc[i % 4] = _mm256_fmadd_ps(w, x86::load(x), acc[i % 4]);
                }
            }
            Dense::BF16 => {
                let (w, _) = head.as_chunks::<16>();
                for (i, (w, x)) in w.iter().zip(x_vectors).enumerate() {
                    let w = _mm256_cvtepu16_epi32(x86::load_128::<0, _>(w));
                    let w = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(w));
                    acc[i % 4] = _mm256_fmadd_ps(w, x86::load(x), acc[i % 4]);
                }
            }
        }
        let acc = _mm256_add_ps(_mm256_add_ps(acc[0], acc[1]), _mm256_add_ps(acc[2], acc[3]));
        x86::sum(acc) + dot_of_bytes(dense, rest, x_rest)
    }

    #[target_feature(enable = "avx2,f16c")]
    pub fn widen_f16(halves: &[f16], floats: &mut [f32]) {
        let ((halves, rest), (floats, rest_floats)) = (halves.as_chunks::<8>(), floats.as_chunks_mut::<8>());
        for (halves, floats) in halves.iter().zip(floats) {
            x86::store(floats, x86::load_f16(halves));
        }
        rest_floats.iter_mut().zip(rest).for_each(|(float, half)| *float = half.to_f32());
    }
}
