//! The primitives of the scalar kernels: vectors are arrays, which the compiler turns into whatever
//! vectors the machine has.

use crate::ActivationBlock;

/// 32 bytes of codes.
pub type Codes = [u8; 32];
/// Eight sums of four products.
pub type Lanes = [i32; 8];
/// Eight floats.
pub type Floats = [f32; 8];

/// Twice 16 consecutive bytes, each half shifted (right, or left by a negative amount) and masked.
#[inline]
pub fn plane<const N: usize>(block: &[u8; N], offsets: [usize; 2], shifts: [i32; 2], mask: u8) -> Codes {
    let mut codes = [0; 32];
    for half in 0..2 {
        let bytes = &block[offsets[half]..][..16];
        for (code, &byte) in codes[16 * half..].iter_mut().zip(bytes) {
            *code = shifted(byte, shifts[half]) & mask;
        }
    }
    codes
}

/// Code i from byte `index[i]` of its half's window, under its own shift.
#[inline]
pub fn shuffle<const N: usize>(
    block: &[u8; N],
    windows: [usize; 2],
    index: &[u8; 32],
    shifts: &[i32; 32],
    mask: u8,
) -> Codes {
    core::array::from_fn(|i| shifted(block[windows[i / 16] + usize::from(index[i])], shifts[i]) & mask)
}

#[inline]
fn shifted(byte: u8, shift: i32) -> u8 {
    if shift >= 0 { byte >> shift } else { byte << -shift }
}

/// The bits of both.
#[inline]
pub fn or(a: Codes, b: Codes) -> Codes {
    core::array::from_fn(|i| a[i] | b[i])
}

/// Signed codes from a table.
#[inline]
pub fn lookup(codes: Codes, entries: &[i8]) -> Codes {
    codes.map(|code| entries[usize::from(code)] as u8)
}

/// The sums of four activations each.
#[inline]
pub fn lane_sums(a: &ActivationBlock) -> Lanes {
    a.sums.map(i32::from)
}

/// The scales of four activations each.
#[inline]
pub fn steps(a: &ActivationBlock) -> Floats {
    a.scales.map(half::bf16::to_f32)
}

/// The zero point's share of each lane.
#[inline]
pub fn seed(zero: i32, sums: Lanes) -> Lanes {
    sums.map(|sum| -zero * sum)
}

/// Sums of four products; codes are unsigned.
#[inline]
pub fn dot_unsigned(seed: Lanes, codes: Codes, activations: [i8; 32]) -> Lanes {
    dot(seed, |i| i16::from(codes[i]), activations)
}

/// Sums of four products; codes are signed.
#[inline]
pub fn dot_signed(seed: Lanes, codes: Codes, activations: [i8; 32]) -> Lanes {
    dot(seed, |i| i16::from(codes[i] as i8), activations)
}

#[inline(always)]
fn dot(mut lanes: Lanes, code: impl Fn(usize) -> i16, activations: [i8; 32]) -> Lanes {
    for (i, activation) in activations.into_iter().enumerate() {
        lanes[i / 4] += i32::from(code(i)) * i32::from(activation);
    }
    lanes
}

/// Eight codes as integers, minus a zero point.
#[inline]
pub fn widen<const EIGHTH: usize, const SIGNED: bool>(codes: Codes, zero: i32) -> Lanes {
    core::array::from_fn(|i| integer::<SIGNED>(codes[8 * EIGHTH + i]) - zero)
}

/// Integers as floats.
#[inline]
pub fn floats(lanes: Lanes) -> Floats {
    lanes.map(|lane| lane as f32)
}

/// Scale codes as floats, minus a zero point.
#[inline]
pub fn scales<const SIGNED: bool>(codes: [u8; 8], zero: i32) -> Floats {
    codes.map(|code| (integer::<SIGNED>(code) - zero) as f32)
}

#[inline(always)]
fn integer<const SIGNED: bool>(code: u8) -> i32 {
    if SIGNED { i32::from(code as i8) } else { i32::from(code) }
}

/// Lane i becomes lane `index[i]`.
#[inline]
pub fn permute(floats: Floats, index: [u8; 8]) -> Floats {
    index.map(|i| floats[usize::from(i)])
}

/// a · b
#[inline]
pub fn mul(a: Floats, b: Floats) -> Floats {
    core::array::from_fn(|i| a[i] * b[i])
}

/// a + b
#[inline]
pub fn add(a: Floats, b: Floats) -> Floats {
    core::array::from_fn(|i| a[i] + b[i])
}

/// a - b
#[inline]
pub fn sub(a: Floats, b: Floats) -> Floats {
    core::array::from_fn(|i| a[i] - b[i])
}

/// The sum of all lanes, in the order of the vector kernels.
#[inline]
pub fn sum(a: Floats) -> f32 {
    let four: [f32; 4] = core::array::from_fn(|i| a[i] + a[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
