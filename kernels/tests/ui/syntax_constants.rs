use quantloom_kernels::quant_format;

const WEIGHTS: usize = 32;

quant_format! {
    block Length[WEIGHTS] {
        d: f16,
        qs: [i8; 32],
        w = d * qs;
    }
}

quant_format! {
    block Count[32] {
        d: f16,
        qs: [i8; WEIGHTS],
        w = d * qs;
    }

    block Radix[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: WEIGHTS] = qs[i] >> 4 * h & 15;
        w = d * q;
    }
}

fn main() {}
