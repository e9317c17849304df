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

    block Pieces[32] {
        d: f16,
        qs: [u8; 12],
        q[i: 8, h: 2] = qs[i] >> 4 * h & 15, [i: 4, k: 4] = qs[8 + i] >> 2 * k & 3;
        w = d * (q - 2);
    }

    block JoinedTrits[32] {
        d: f16,
        qs: [u8; 16],
        q[n: 2, i: 16] = trit(qs[i], n) | (qs[i] >> 4 & 1) << 2;
        w = d * (q - 1);
    }
}

fn main() {}
