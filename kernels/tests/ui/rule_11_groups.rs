use quantloom_kernels::quant_format;

quant_format! {
    block Pairs[32] {
        d: f16,
        s: [i8; 16],
        qs: [i8; 32],
        w = d * s * qs;
    }

    block Thirds[96] {
        d: f16,
        s: [i8; 2],
        qs: [i8; 96],
        w = d * s * qs;
    }

    block TableOfScales[32] {
        d: f16,
        sc: [u8; 4],
        qs: [i8; 32],
        table T = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        s[i: 4, h: 2] = sc[i] >> 4 * h & 15;
        w = d * T[s] * qs;
    }
}

fn main() {}
