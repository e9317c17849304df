use quantloom_kernels::quant_format;

quant_format! {
    block Eight[32] {
        d: f16,
        qs: [u8; 32],
        w = d * (qs - 128);
    }
}

fn main() {}
