use quantloom_kernels::quant_format;

quant_format! {
    block NoDigits[32] {
        d: f16,
        e: [u8; 1],
        qs: [i8; 32],
        s[] = e[0];
        w = d * s * qs;
    }

    block Binds[32] {
        d: f16,
        qh: [u8; 4],
        qs: [u8; 16],
        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | qh[2 * h + j] >> k & 1 << 4;
        w = d * (q - 16);
    }
}

fn main() {}
