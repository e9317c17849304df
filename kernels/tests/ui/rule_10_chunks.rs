use quantloom_kernels::quant_format;

quant_format! {
    block Ragged[48] {
        d: f16,
        qs: [i8; 48],
        w = d * qs;
    }

    block Huge[8192] {
        d: f16,
        qs: [i8; 8192],
        w = d * qs;
    }

    block Nothing[0] {
        d: f16,
        w = d;
    }
}

fn main() {}
