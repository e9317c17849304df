//! Parts of a block, at offsets that are checked when the kernel is compiled.

use half::{bf16, f16};

/// An array from its elements, which the compiler makes vectors of. Kernels call neither `array::from_fn` nor `map`: in long
/// ones, or where another unit of code generation compiles these, they stay calls. It is a `while`, as the compiler takes
/// twice as long for the iterator of a `for`.
#[inline(always)]
pub fn each<T: Copy + Default, const N: usize>(element: impl Fn(usize) -> T) -> [T; N] {
    let mut array = [T::default(); N];
    let mut i = 0;
    while i < N {
        array[i] = element(i);
        i += 1;
    }
    array
}

/// Bytes as signed numbers.
#[inline]
pub fn signed<const N: usize>(bytes: &[u8; N]) -> [i8; N] {
    each(|i| bytes[i] as i8)
}

/// `LEN` bytes of a block from `OFFSET` on.
#[inline]
pub fn field<const OFFSET: usize, const LEN: usize, const N: usize>(block: &[u8; N]) -> &[u8; LEN] {
    const { assert!(OFFSET + LEN <= N) };
    // Both halves of the split have a length known to the compiler: no check remains.
    block[OFFSET..].first_chunk().expect("the assertion above")
}

/// `LEN` bytes of a block from `offset` on, which the compiler need not know.
#[inline(always)]
pub fn window<const LEN: usize, const N: usize>(block: &[u8; N], offset: usize) -> &[u8; LEN] {
    block[offset..].first_chunk().expect("a loop ends where its last window does")
}

/// The f16 at `OFFSET`.
#[inline]
pub fn f16_at<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> f16 {
    f16::from_le_bytes(*field::<OFFSET, 2, N>(block))
}

/// The bf16 at `OFFSET`.
#[inline]
pub fn bf16_at<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> bf16 {
    bf16::from_le_bytes(*field::<OFFSET, 2, N>(block))
}

/// The f32 at `OFFSET`.
#[inline]
pub fn f32_at<const OFFSET: usize, const N: usize>(block: &[u8; N]) -> f32 {
    f32::from_le_bytes(*field::<OFFSET, 4, N>(block))
}

/// Numbers from their bytes, `SIZE` of each, as `read` reads one; a field has whole numbers.
fn numbers<T: Copy, const SIZE: usize, const LEN: usize>(
    bytes: &[u8],
    read: fn([u8; SIZE]) -> T,
) -> [T; LEN] {
    let (numbers, _) = bytes.as_chunks();
    std::array::from_fn(|i| read(numbers[i]))
}

/// The f16 of a field.
pub fn f16s<const N: usize>(bytes: &[u8]) -> [f16; N] {
    numbers(bytes, f16::from_le_bytes)
}

/// The bf16 of a field.
pub fn bf16s<const N: usize>(bytes: &[u8]) -> [bf16; N] {
    numbers(bytes, bf16::from_le_bytes)
}

/// The f32 of a field.
pub fn f32s<const N: usize>(bytes: &[u8]) -> [f32; N] {
    numbers(bytes, f32::from_le_bytes)
}

/// `BITS` bits of a block from bit `FIRST` on, bytes in little-endian order.
#[inline]
pub fn bits<const FIRST: usize, const BITS: usize, const N: usize>(block: &[u8; N]) -> usize {
    const { assert!(FIRST + BITS <= 8 * N && BITS <= 32) };
    let (byte, last) = (FIRST / 8, (FIRST + BITS - 1) / 8);
    // One load of a whole word, which may begin before or end after the bits.
    #[inline]
    fn word<const WIDTH: usize>(block: &[u8], first: usize) -> (usize, [u8; WIDTH]) {
        let start = (first / 8).min(block.len() - WIDTH);
        (first - 8 * start, *block[start..].first_chunk().expect("the word ends in the block"))
    }
    let (shift, word) = match last - byte {
        0 => (FIRST % 8, u64::from(block[byte])),
        1 => {
            let (shift, word) = word(block, FIRST);
            (shift, u16::from_le_bytes(word).into())
        }
        2 | 3 if N >= 4 => {
            let (shift, word) = word(block, FIRST);
            (shift, u32::from_le_bytes(word).into())
        }
        _ if N >= 8 => {
            let (shift, word) = word(block, FIRST);
            (shift, u64::from_le_bytes(word))
        }
        _ => return bits_at(block, FIRST, BITS),
    };
    (word >> shift & ((1 << BITS) - 1)) as usize
}

/// The same where the compiler need not know the place.
#[inline]
pub fn bits_at(bytes: &[u8], first: usize, bits: usize) -> usize {
    let (byte, last) = (first / 8, (first + bits - 1) / 8);
    let each = bytes[byte..=last].iter().enumerate();
    let word = each.fold(0, |word, (i, &byte)| word | u64::from(byte) << (8 * i));
    (word >> (first % 8) & ((1 << bits) - 1)) as usize
}

/// Joins the low `bits` of `code` to those that are there, from bit `first` on.
#[inline]
pub fn join_bits_at(bytes: &mut [u8], first: usize, bits: usize, code: usize) {
    let word = (code & ((1 << bits) - 1)) << (first % 8);
    for (i, byte) in bytes[first / 8..=(first + bits - 1) / 8].iter_mut().enumerate() {
        *byte |= (word >> (8 * i)) as u8;
    }
}

/// The same of bits that stand highest first, from the `first` on, counted from the highest bit of all.
#[inline]
pub fn high_bits_at(bytes: &[u8], first: usize, bits: usize) -> usize {
    let last = first + bits - 1;
    let word = bytes[first / 8..=last / 8].iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    (word >> (7 - last % 8) & ((1 << bits) - 1)) as usize
}

/// Joins the low `bits` of `code` to those that are there, highest first, from the `first` on.
#[inline]
pub fn join_high_bits_at(bytes: &mut [u8], first: usize, bits: usize, code: usize) {
    let last = first + bits - 1;
    let word = (code & ((1 << bits) - 1)) << (7 - last % 8);
    for (i, byte) in bytes[first / 8..=last / 8].iter_mut().rev().enumerate() {
        *byte |= (word >> (8 * i)) as u8;
    }
}

/// The digit of `base` that has `power` others below it in a whole number.
#[inline]
pub fn digit(byte: u8, base: usize, power: usize) -> u8 {
    (usize::from(byte) / base.pow(power as u32) % base) as u8
}

/// Adds `digit` at the place of one that is 0.
#[inline]
pub fn add_digit(byte: &mut u8, base: usize, power: usize, digit: u8) {
    *byte += digit * base.pow(power as u32) as u8;
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

/// Four times 7 bits, each in a byte of its own.
#[inline(always)]
pub fn spread_sevens(codes: u32) -> u32 {
    codes & 0x7F | codes << 1 & 0x7F00 | codes << 2 & 0x7F_0000 | codes << 3 & 0x7F00_0000
}

/// Four times seven signs in a byte, and an eighth, which makes the number of set bits even.
#[inline(always)]
pub fn even_signs(sevens: u32) -> u32 {
    // The parity of each byte gathers in its lowest bit.
    let halves = sevens ^ sevens >> 4 & 0x0F0F_0F0F;
    let quarters = halves ^ halves >> 2;
    let parity = (quarters ^ quarters >> 1) & 0x0101_0101;
    sevens | parity << 7
}

/// The entries of a table, as two's complement bytes; the table has one for each code.
#[inline]
pub fn looked_up(codes: [u8; 8], entries: &[i8]) -> [u8; 8] {
    each(|i| entries[usize::from(codes[i])] as u8)
}

/// Eight scale codes from `FIRST` on, with zeros where there are fewer.
#[inline]
pub fn eight_of<const FIRST: usize>(codes: &[u8]) -> [u8; 8] {
    eight_at(codes, FIRST)
}

/// The same where the compiler need not know the place.
#[inline]
pub fn eight_at(codes: &[u8], first: usize) -> [u8; 8] {
    let mut eight = [0; 8];
    let mut i = 0;
    while i < 8 && first + i < codes.len() {
        eight[i] = codes[first + i];
        i += 1;
    }
    eight
}

/// Eight codes from place `first` on, where each of `codes` has as many places as `repeats` says; zeros after the last.
#[inline(always)]
pub fn eight_repeated(codes: &[u8], first: usize, repeats: usize) -> [u8; 8] {
    each(|i| codes.get((first + i) / repeats).copied().unwrap_or(0))
}

/// The same of numbers of `SIZE` bytes each.
#[inline(always)]
fn eight_numbers<const SIZE: usize>(bytes: &[u8], first: usize, repeats: usize) -> [[u8; SIZE]; 8]
where
    [u8; SIZE]: Default,
{
    let (numbers, _) = bytes.as_chunks::<SIZE>();
    if repeats == 1
        && let Some(eight) = numbers.get(first..first + 8)
    {
        return each(|i| eight[i]);
    }
    each(|i| numbers.get((first + i) / repeats).copied().unwrap_or_default())
}

/// The same of f16, as their bits.
#[inline(always)]
pub fn eight_f16(bytes: &[u8], first: usize, repeats: usize) -> [u16; 8] {
    let eight = eight_numbers(bytes, first, repeats);
    each(|i| u16::from_le_bytes(eight[i]))
}

/// The same of bf16.
#[inline(always)]
pub fn eight_bf16(bytes: &[u8], first: usize, repeats: usize) -> [f32; 8] {
    let eight = eight_numbers(bytes, first, repeats);
    each(|i| f32::from_bits(u32::from(u16::from_le_bytes(eight[i])) << 16))
}

/// The same of f32.
#[inline(always)]
pub fn eight_f32(bytes: &[u8], first: usize, repeats: usize) -> [f32; 8] {
    let eight = eight_numbers(bytes, first, repeats);
    each(|i| f32::from_le_bytes(eight[i]))
}

/// Eight floats from `first` on.
#[inline(always)]
pub fn eight_floats(floats: &[f32], first: usize) -> &[f32; 8] {
    floats[first..].first_chunk().expect("a vector stands after the last group's scale")
}

#[cfg(test)]
mod tests {
    #[test]
    fn signs_are_even_in_each_byte() {
        for seven in 0..128_u32 {
            let even = seven | (seven.count_ones() & 1) << 7;
            for place in 0..4 {
                assert_eq!(
                    super::even_signs(super::spread_sevens(seven << (7 * place))),
                    even << (8 * place),
                    "{seven} at {place}"
                );
            }
        }
        let codes = [1, 2, 4, 127].into_iter().rev().fold(0, |codes, seven| codes << 7 | seven);
        assert_eq!(super::even_signs(super::spread_sevens(codes)).to_le_bytes(), [0x81, 0x82, 0x84, 0xFF]);
    }
}
