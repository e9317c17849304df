//! Blocks of rows two by two, for instruction sets whose registers hold the codes of two blocks.

/// The pairs of blocks of each row; without the last block where their number is odd.
#[inline]
pub fn pairs<T, const R: usize>(rows: [&[T]; R]) -> [&[[T; 2]]; R] {
    rows.map(|row| row.as_chunks().0)
}

/// The last block of each row, which has one, and `zero` for its partner.
#[inline]
pub fn last<T: Copy, const R: usize>(rows: [&[T]; R], zero: T) -> [[T; 2]; R] {
    rows.map(|row| [row[row.len() - 1], zero])
}

/// Rows of one pair each.
#[inline]
pub fn only<T, const R: usize>(pairs: &[[T; 2]; R]) -> [&[[T; 2]]; R] {
    pairs.each_ref().map(::core::slice::from_ref)
}
