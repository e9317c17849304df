use quantloom_kernels::quant_format;

quant_format! {
    block Unused[32] {
        d: f16,
        m: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        table T = [0, 1];
        low[i: 16] = qs[i] & 15;
        w = d * (q - 8);
    }

    block Unread[32] {
        d: f16,
        qs: [u8; 20],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block UsedPadding[32] {
        _d: f16,
        qs: [i8; 32],
        w = _d * qs;
    }

    block UnusedCodes[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 7;
        top[h: 2, i: 16] = qs[i] >> (4 * h + 3) & 1;
        w = d * (q - 4);
    }

    block Twice[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] & 15;
        w = d * (q - 8);
    }

    block TwoBases[32] {
        d: f16,
        qs: [u8; 32],
        q[i: 32] = digit(qs[i], 5, 0);
        s[i: 8] = digit(qs[i], 3, 2);
        w = d * s * (q - 2);
    }
}

fn main() {}
