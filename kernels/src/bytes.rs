//! Parts of a block, at offsets that are checked when the kernel is compiled.

use half::f16;

/// `LEN` bytes of a block from `OFFSET` on.
#[inline]
pub fn field<const OFFSET: usize, const LEN: usize, const N: usize>(block: &[u8; N]) -> &[u8; LEN] {
    const { assert!(OFFSET + LEN <= N) };
    // Both halves of the split have a length known to the compiler: no check remains.
    block[OFFSET..].first_chunk().expect("the assertion above")
}

/// The f16 at `OFFSET`.
#[inline]
pub fn f16_at<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> f16 {
    f16::from_le_bytes(*field::<OFFSET, 2, N>(block))
}

/// The f32 at `OFFSET`.
#[inline]
pub fn f32_at<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> f32 {
    f32::from_le_bytes(*field::<OFFSET, 4, N>(block))
}

/// `BITS` bits of a block from bit `FIRST` on, bytes in little-endian order.
#[inline]
pub fn bits<const FIRST: usize, const BITS: usize, const N: usize>(block: &[u8; N]) -> usize {
    const { assert!(FIRST + BITS <= 8 * N && BITS <= 16) };
    bits_at(block, FIRST, BITS)
}

/// The same where the compiler need not know the place.
#[inline]
pub fn bits_at(bytes: &[u8], first: usize, bits: usize) -> usize {
    let (byte, last) = (first / 8, (first + bits - 1) / 8);
    let each = bytes[byte..=last].iter().enumerate();
    let word = each.fold(0, |word, (i, &byte)| word | usize::from(byte) << (8 * i));
    word >> (first % 8) & ((1 << bits) - 1)
}

/// Joins the low `bits` of `code` to those that are there, from bit `first` on.
#[inline]
pub fn join_bits_at(bytes: &mut [u8], first: usize, bits: usize, code: usize) {
    let word = (code & ((1 << bits) - 1)) << (first % 8);
    for (i, byte) in bytes[first / 8..=(first + bits - 1) / 8].iter_mut().enumerate() {
        *byte |= (word >> (8 * i)) as u8;
    }
}

/// Digits of the base 3 in a byte, which is a fraction of 256.
const TRITS: usize = 5;

/// The digit of the base 3 after `power` others.
#[inline]
pub fn trit(byte: u8, power: usize) -> u8 {
    // What the digits before stand for has left the byte.
    let rest = byte.wrapping_mul(3_u8.pow(power as u32));
    ((u16::from(rest) * 3) >> 8) as u8
}

/// Makes `digit` the one after `power` others, which stay.
#[inline]
pub fn set_trit(byte: &mut u8, power: usize, digit: u8) {
    let digits = (0..TRITS).map(|i| if i == power { digit } else { trit(*byte, i) });
    let number = digits.fold(0, |number, digit| 3 * number + u16::from(digit));
    // Rounded up: what is cut off from the fraction must not take a digit down.
    *byte = (number * 256).div_ceil(3_u16.pow(TRITS as u32)) as u8;
}

/// Seven signs and the eighth, which makes the number of set bits even.
#[inline]
pub fn even_signs(seven: usize) -> u8 {
    const ALL: [u8; 128] = {
        let mut all = [0; 128];
        let mut code = 0_u8;
        while code < 128 {
            all[code as usize] = code | (code.count_ones() as u8 & 1) << 7;
            code += 1;
        }
        all
    };
    ALL[seven]
}

/// The entries of a table, as two's complement bytes; the table has one for each code.
#[inline]
pub fn looked_up(codes: [u8; 8], entries: &[i8]) -> [u8; 8] {
    codes.map(|code| entries[usize::from(code)] as u8)
}

/// Eight scale codes from `FIRST` on, with zeros where there are fewer.
#[inline]
pub fn eight_of<const FIRST: usize>(codes: &[u8]) -> [u8; 8] {
    ::core::array::from_fn(|i| codes.get(FIRST + i).copied().unwrap_or(0))
}
