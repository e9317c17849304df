use quantloom_kernels::quant_format;

quant_format! {
    block Types[32] {
        d: f32,
        e: [f16; 2],
        s: u8,
        none: [u8; 0],
        qs: [i8; 32],
        w = d * e * s * none * qs;
    }
}

fn main() {}
