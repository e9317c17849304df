//! The formats whose code is kept for review: one for each thing that a declaration of some size can say. What the
//! others expand to is made of the same.

use quantloom_kernels::formats::{MXFP4, Q4_0, Q4_1, Q4_K, Q6_K, Q8_0};
use quantloom_kernels::{BlockFormat, Format};

/// Codes with a zero point, with a minimum, signed ones; integer scales and minima of groups; planes; a table and numbers
/// of 8 bits.
pub const REVIEWED: [&Format; 6] =
    [Q4_0::FORMAT, Q4_1::FORMAT, Q8_0::FORMAT, Q4_K::FORMAT, Q6_K::FORMAT, MXFP4::FORMAT];
