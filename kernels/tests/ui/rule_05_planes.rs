use quantloom_kernels::quant_format;

quant_format! {
    block Shape[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] * 2;
        w = d * (q - 8);
    }

    block Mask[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 5;
        w = d * (q - 8);
    }

    block NoMask[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h;
        w = d * (q - 8);
    }

    block Index[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i * h] & 15;
        w = d * (q - 8);
    }

    block Order[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = (qs[i] & 15) >> 4 * h;
        w = d * (q - 8);
    }

    block Signed[32] {
        d: f16,
        qs: [i8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block ShiftBehindMask[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] & 15 >> 4 * h;
        w = d * (q - 8);
    }

    block MaskOfSums[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 7 + 8;
        w = d * (q - 8);
    }

    block Base[32] {
        d: f16,
        qs: [u8; 16],
        q[n: 2, i: 16] = digit(qs[i], 4, n);
        w = d * (q - 2);
    }

    block NoBase[32] {
        d: f16,
        qs: [u8; 16],
        q[n: 2, i: 16] = digit(qs[i], n);
        w = d * (q - 1);
    }
}

fn main() {}
