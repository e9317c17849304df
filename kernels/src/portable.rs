//! The primitives of the scalar kernels: vectors are arrays, which the compiler turns into whatever
//! vectors the machine has.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::ActivationBlock;
use crate::bytes::each;

/// 32 bytes of codes.
pub type Codes = [u8; 32];
/// Eight sums of four products.
pub type Lanes = [i32; 8];
/// Eight floats.
pub type Floats = [f32; 8];

/// Two, four or eight runs of consecutive bytes, each shifted (right, or left by a negative amount) and masked.
#[inline(always)]
pub fn plane<const N: usize, const PARTS: usize>(
    block: &[u8; N],
    offsets: [usize; PARTS],
    shifts: [i32; PARTS],
    mask: u8,
) -> Codes {
    let mut codes = [0; 32];
    let (mut part, run) = (0, 32 / PARTS);
    while part < PARTS {
        let bytes = &block[offsets[part]..][..run];
        let mut i = 0;
        while i < run {
            codes[part * run + i] = shifted(bytes[i], shifts[part]) & mask;
            i += 1;
        }
        part += 1;
    }
    codes
}

/// For each half one byte, shifted and masked, in the place of every code.
#[inline(always)]
pub fn spread<const N: usize>(block: &[u8; N], bytes: [usize; 2], shifts: [i32; 2], mask: u8) -> Codes {
    let halves: [u8; 2] = each(|half| shifted(block[bytes[half]], shifts[half]) & mask);
    each(|i| halves[i / 16])
}

/// Code i from byte `index[i]` of its half's window, under its own shift.
#[inline(always)]
pub fn shuffle<const N: usize>(
    block: &[u8; N],
    windows: [usize; 2],
    index: &[u8; 32],
    shifts: &[i32; 32],
    mask: u8,
) -> Codes {
    each(|i| shifted(block[windows[i / 16] + usize::from(index[i])], shifts[i]) & mask)
}

/// The same where a code may go on into the byte after its own, or before where bits stand highest first.
#[inline(always)]
pub fn words<const HIGHEST_FIRST: bool, const N: usize>(
    block: &[u8; N],
    windows: [usize; 2],
    index: &[u8; 32],
    shifts: &[i32; 32],
    mask: u8,
) -> Codes {
    each(|i| {
        let byte = windows[i / 16] + usize::from(index[i]);
        let other = if HIGHEST_FIRST { byte.wrapping_sub(1) } else { byte + 1 };
        // No code goes on beyond the block.
        let high = if other < N { block[other] } else { 0 };
        let word = u32::from(block[byte]) | u32::from(high) << 8;
        // Shifts to the left are by less than 8 bits.
        (word << 8 >> (8 + shifts[i])) as u8 & mask
    })
}

/// `set` where byte `index[i]` of the half's window has a bit of `bits[i]`, 0 elsewhere.
#[inline(always)]
pub fn bits<const N: usize>(
    block: &[u8; N],
    windows: [usize; 2],
    index: &[u8; 32],
    bits: &[u8; 32],
    set: u8,
) -> Codes {
    each(|i| if block[windows[i / 16] + usize::from(index[i])] & bits[i] == 0 { 0 } else { set })
}

#[inline(always)]
fn shifted(byte: u8, shift: i32) -> u8 {
    if shift >= 0 { byte >> shift } else { byte << -shift }
}

/// The bits of both.
#[inline(always)]
pub fn or(a: Codes, b: Codes) -> Codes {
    each(|i| a[i] | b[i])
}

/// Each code minus `zero`, of which 8 bits are kept.
#[inline(always)]
pub fn minus(codes: Codes, zero: u8) -> Codes {
    each(|i| codes[i].wrapping_sub(zero))
}

/// Signed codes from a table.
#[inline(always)]
pub fn lookup(codes: Codes, entries: &[i8]) -> Codes {
    each(|i| entries[usize::from(codes[i])] as u8)
}

/// Of each byte over its divisor, a power of `base`, the lowest digit of `base`.
#[inline(always)]
pub fn digits(bytes: Codes, divisors: &[u8; 32], base: u8) -> Codes {
    each(|i| bytes[i] / divisors[i] % base)
}

/// Of each byte times its factor, a power of 3, the first digit of the base 3.
#[inline(always)]
pub fn trits(bytes: Codes, factors: &[u8; 32]) -> Codes {
    each(|i| ((u16::from(bytes[i].wrapping_mul(factors[i])) * 3) >> 8) as u8)
}

/// Entries of a codebook, one after the other.
#[inline(always)]
pub fn entries<const WEIGHTS: usize, const N: usize, const COUNT: usize>(
    book: &[[i8; WEIGHTS]; N],
    indices: [usize; COUNT],
) -> Codes {
    each(|i| book[indices[i / WEIGHTS]][i % WEIGHTS] as u8)
}

/// Signed codes, negated where there is a bit for them.
#[inline(always)]
pub fn negate(codes: Codes, signs: u32) -> Codes {
    each(|i| if signs >> i & 1 == 0 { codes[i] } else { codes[i].wrapping_neg() })
}

/// Numbers of 8 bits by the table of their values.
#[inline(always)]
pub fn numbers(codes: [u8; 8], table: &[f32; 256]) -> Floats {
    each(|i| table[usize::from(codes[i])])
}

/// The codes of 32 activations.
#[inline(always)]
pub fn activations(a: &ActivationBlock) -> [i8; 32] {
    *a.codes()
}

/// The sums of four activations each.
#[inline(always)]
pub fn lane_sums(a: &ActivationBlock) -> Lanes {
    each(|i| i32::from(a.sums()[i]))
}

/// The scales of four activations each.
#[inline(always)]
pub fn steps(a: &ActivationBlock) -> Floats {
    *a.scales()
}

/// The zero point's share of each lane.
#[inline(always)]
pub fn seed(zero: i32, sums: Lanes) -> Lanes {
    each(|i| -zero * sums[i])
}

/// Sums of four products; codes are unsigned.
#[inline(always)]
pub fn dot_unsigned(seed: Lanes, codes: Codes, activations: [i8; 32]) -> Lanes {
    dot(seed, |i| i16::from(codes[i]), activations)
}

/// Sums of four products; codes are signed.
#[inline(always)]
pub fn dot_signed(seed: Lanes, codes: Codes, activations: [i8; 32]) -> Lanes {
    dot(seed, |i| i16::from(codes[i] as i8), activations)
}

#[inline(always)]
fn dot(mut lanes: Lanes, code: impl Fn(usize) -> i16, activations: [i8; 32]) -> Lanes {
    let mut i = 0;
    while i < 32 {
        lanes[i / 4] += i32::from(code(i)) * i32::from(activations[i]);
        i += 1;
    }
    lanes
}

/// Eight codes as integers, minus a zero point.
#[inline(always)]
pub fn widen<const EIGHTH: usize, const SIGNED: bool>(codes: Codes, zero: i32) -> Lanes {
    each(|i| integer::<SIGNED>(codes[8 * EIGHTH + i]) - zero)
}

/// Integers as floats.
#[inline(always)]
pub fn floats(lanes: Lanes) -> Floats {
    each(|i| lanes[i] as f32)
}

/// Scale codes as floats, minus a zero point.
#[inline(always)]
pub fn scales<const SIGNED: bool>(codes: [u8; 8], zero: i32) -> Floats {
    each(|i| (integer::<SIGNED>(codes[i]) - zero) as f32)
}

#[inline(always)]
fn integer<const SIGNED: bool>(code: u8) -> i32 {
    if SIGNED { i32::from(code as i8) } else { i32::from(code) }
}

/// Eight f16, by their bits.
#[inline(always)]
pub fn halves(bits: [u16; 8]) -> Floats {
    each(|i| from_f16(half::f16::from_bits(bits[i])))
}

/// The f16 at `OFFSET` as an f32 in every lane.
#[inline(always)]
pub fn splat_f16<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> Floats {
    // No instruction, but a line between blocks: the compiler would gather four blocks byte by byte to work on
    // them at once, at 0.6 of the speed.
    compiler_fence(Ordering::AcqRel);
    [from_f16(crate::bytes::f16_at::<OFFSET, N>(block)); 8]
}

/// An f16 as an f32. `f16::to_f32` asks at each call which instructions the CPU has and branches by the kind of
/// number; a select leaves the kernel's loop one run of instructions.
#[inline(always)]
fn from_f16(half: half::f16) -> f32 {
    let bits = u32::from(half.to_bits());
    // Moved to where an f32 has them, exponent and fraction read as 2⁻¹¹² of the number, subnormal or not.
    let scaled = f32::from_bits((bits & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
    let infinite = if bits & 0x7C00 == 0x7C00 { f32::INFINITY.to_bits() } else { 0 };
    f32::from_bits(scaled.to_bits() | infinite | (bits & 0x8000) << 16)
}

/// Lane i becomes lane `index[i]`.
#[inline(always)]
pub fn permute(floats: Floats, index: [u8; 8]) -> Floats {
    each(|i| floats[usize::from(index[i])])
}

/// a · b
#[inline(always)]
pub fn mul(a: Floats, b: Floats) -> Floats {
    each(|i| a[i] * b[i])
}

/// a + b
#[inline(always)]
pub fn add(a: Floats, b: Floats) -> Floats {
    each(|i| a[i] + b[i])
}

/// a - b
#[inline(always)]
pub fn sub(a: Floats, b: Floats) -> Floats {
    each(|i| a[i] - b[i])
}

/// The lanes of `N` vectors cut into eight runs: the sum of each, in the order of the vector kernels.
#[inline(always)]
pub fn run_sums<const N: usize>(vectors: [Floats; N]) -> Floats {
    each(|i| {
        let mut lanes: [f32; N] = each(|k| vectors[(i * N + k) / 8][(i * N + k) % 8]);
        let mut count = N;
        while count > 1 {
            count /= 2;
            let mut k = 0;
            while k < count {
                // Neighbours, then sums of neighbours.
                lanes[k] = lanes[2 * k] + lanes[2 * k + 1];
                k += 1;
            }
        }
        lanes[0]
    })
}

/// The sum of all lanes, in the order of the vector kernels.
#[inline(always)]
pub fn sum(a: Floats) -> f32 {
    let four: [f32; 4] = each(|i| a[i] + a[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

#[cfg(test)]
mod tests {
    use half::f16;

    #[test]
    fn every_f16_becomes_the_same_f32() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let (ours, exact) = (super::from_f16(half), half.to_f32());
            assert!(
                ours.to_bits() == exact.to_bits() || ours.is_nan() && exact.is_nan(),
                "{bits:#06x}: {ours}, expected {exact}"
            );
        }
    }
}
