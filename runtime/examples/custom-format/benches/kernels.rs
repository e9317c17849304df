//! `cargo bench -- gemv` measures the cells of Q6_0 whose name holds `gemv`.

use custom_format::Q6_0;
use quantloom_kernels::BlockFormat;

fn main() {}
