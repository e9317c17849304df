use quantloom_kernels::quant_format;

quant_format! {
    block Overlap[32] {
        d: f16,
        qs: [u8; 16],
        qh: [u8; 4],
        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[2 * h + j] >> k & 1) << 3;
        w = d * (q - 8);
    }

    block Gap[32] {
        d: f16,
        qs: [u8; 16],
        qh: [u8; 4],
        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[2 * h + j] >> k & 1) << 5;
        w = d * (q - 8);
    }
}

fn main() {}
