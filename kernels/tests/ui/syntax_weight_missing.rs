use quantloom_kernels::quant_format;

quant_format! {
    block NoWeight[32] {
        d: f16,
        qs: [i8; 32],
    }
}

fn main() {}
