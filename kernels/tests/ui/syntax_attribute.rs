use quantloom_kernels::quant_format;

quant_format! {
    block Documented[32] {
        d: f16,
        qs: [i8; 32],
        /// The weight.
        w = d * qs;
    }
}

fn main() {}
