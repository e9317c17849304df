use quantloom_kernels::quant_format;

quant_format! {
    block Field[32] {
        d: f16,
        q[h: 2, i: 16] = bytes[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block Digit[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[j] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block Factor[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * scale * (q - 8);
    }

    block Table[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * NL[q];
    }
}

fn main() {}
