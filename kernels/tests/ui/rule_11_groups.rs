use quantloom_kernels::quant_format;

quant_format! {
    block Pairs[32] {
        d: f16,
        s: [i8; 16],
        qs: [i8; 32],
        w = d * s * qs;
    }

    block ManyNumbers[32] {
        d: [f16; 16],
        qs: [i8; 32],
        w = d * qs;
    }

    block Thirds[96] {
        d: f16,
        s: [i8; 2],
        qs: [i8; 96],
        w = d * s * qs;
    }
}

fn main() {}
