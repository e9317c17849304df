use quantloom_kernels::quant_format;

quant_format! {
    block Spread[64] {
        d: f16,
        qs: [u8; 32],
        q[i: 16, a: 2, h: 2] = qs[16 * a + i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block SpreadWords[32] {
        d: f16,
        qs: [u8; 24],
        q[a: 2, k: 4, i: 4] = qs[12 * a + 3 * i] >> 6 * k & 63;
        w = d * (q - 32);
    }

    block Short[32] {
        d: f16,
        qs: [u8; 8],
        q[l: 4, i: 8] = qs[i] >> 2 * l & 3;
        w = d * (q - 1);
    }
}

fn main() {}
