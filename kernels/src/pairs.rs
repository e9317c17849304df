//! Blocks of rows two by two, for instruction sets whose registers hold the codes of two blocks.

/// The pairs of blocks of each row; without the last block where their number is odd.
#[inline]
pub fn pairs<T, const R: usize>(rows: [&[T]; R]) -> [&[[T; 2]]; R] {
    let mut pairs: [&[[T; 2]]; R] = [&[]; R];
    for r in 0..R {
        pairs[r] = rows[r].as_chunks().0;
    }
    pairs
}

/// The last block of each row, which has one, and `zero` for its partner.
#[inline]
pub fn last<T: Copy, const R: usize>(rows: [&[T]; R], zero: T) -> [[T; 2]; R] {
    let mut last = [[zero; 2]; R];
    for r in 0..R {
        last[r][0] = rows[r][rows[r].len() - 1];
    }
    last
}

/// Rows of one pair each.
#[inline]
pub fn only<T, const R: usize>(pairs: &[[T; 2]; R]) -> [&[[T; 2]]; R] {
    let mut only: [&[[T; 2]]; R] = [&[]; R];
    for r in 0..R {
        only[r] = core::slice::from_ref(&pairs[r]);
    }
    only
}
