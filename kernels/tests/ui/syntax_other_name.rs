use quantloom_kernels::quant_format;

quant_format! {
    block Y[32] {
        d: f16,
        qs: [i8; 32],
        y = d * qs;
    }
}

fn main() {}
