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

/// Eight scale codes from `FIRST` on, with zeros where there are fewer.
#[inline]
pub fn eight_of<const FIRST: usize>(codes: &[u8]) -> [u8; 8] {
    ::core::array::from_fn(|i| codes.get(FIRST + i).copied().unwrap_or(0))
}
