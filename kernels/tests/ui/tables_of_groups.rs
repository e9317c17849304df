use quantloom_kernels::quant_format;

quant_format! {
    block LongCodes[32] {
        d: f16,
        qs: [u8; 64],
        table T = [0, 1];
        q[i: 32] = qs[2 * i] & 511;
        _q[i: 32] = qs[2 * i] >> 9 & 127;
        w = d * T[q];
    }

    block Seventeen[32] {
        d: f16,
        qh: [u8; 4],
        qs: [u8; 16],
        table T = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
        q[h: 2, j: 2, k: 8] = qs[8 * j + k] >> 4 * h & 15 | (qh[2 * h + j] >> k & 1) << 4;
        w = d * T[q];
    }

    block NoChoice[64] {
        d: f16,
        ts: [u8; 1],
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4]];
        t[i: 8] = ts[0] >> i & 1;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * t * T[q];
    }

    block NoTables[64] {
        d: f16,
        ts: [u8; 1],
        qs: [u8; 16],
        table T = [-3, -1, 1, 3];
        t[i: 8] = ts[0] >> i & 1;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[t][q];
    }

    block Three[64] {
        d: f16,
        ts: [u8; 2],
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4], [-5, -1, 1, 5]];
        t[i: 2, k: 4] = ts[i] >> 2 * k & 3;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[t][q];
    }

    block Unequal[64] {
        d: f16,
        ts: [u8; 1],
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, 0, 4]];
        t[i: 8] = ts[0] >> i & 1;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[t][q];
    }

    block MoreTables[64] {
        d: f16,
        ts: [u8; 1],
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4], [-5, -1, 1, 5], [-6, -1, 1, 6]];
        t[i: 8] = ts[0] >> i & 1;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[t][q];
    }

    block InTheOtherOrder[64] {
        d: f16,
        ts: [u8; 1],
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4]];
        t[i: 8] = ts[0] >> i & 1;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[q][t];
    }

    block NoCode[64] {
        d: f16,
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4]];
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[0][q];
    }

    block OfTrits[160] {
        d: f16,
        ts: [u8; 1],
        qs: [u8; 32],
        table T = [[-1, 0, 1], [-2, 0, 2]];
        t[i: 5] = ts[0] >> i & 1;
        _t[i: 1] = ts[i] >> 5;
        q[n: 5, i: 32] = trit(qs[i], n);
        w = d * T[t][q];
    }

    block ByTrits[64] {
        d: f16,
        ts: [u8; 1],
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4]];
        t[i: 4] = trit(ts[0], i);
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[t][q];
    }

    block BySigned[64] {
        d: f16,
        ts: [i8; 2],
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4]];
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[ts][q];
    }

    block OfACodebook[128] {
        d: f16,
        ts: [u8; 1],
        qs: [u8; 16],
        codebook GRID: [[i8; 8]; 256] = [[1; 8]; 256];
        t[i: 8] = ts[0] >> i & 1;
        w = d * GRID[t][qs];
    }

    block ForEachWeight[64] {
        d: f16,
        ts: [u8; 8],
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4]];
        t[i: 8, k: 8] = ts[i] >> k & 1;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[t][q];
    }

    block ForEachTwo[64] {
        d: f16,
        ts: [u8; 4],
        qs: [u8; 16],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4]];
        t[i: 4, k: 8] = ts[i] >> k & 1;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[t][q];
    }

    block OfScales[64] {
        d: f16,
        ts: [u8; 1],
        ss: [u8; 1],
        qs: [u8; 16],
        table S = [[1, 2, 4, 8], [1, 3, 5, 7]];
        t[i: 8] = ts[0] >> i & 1;
        s[i: 4] = ss[0] >> 2 * i & 3;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * S[t][s] * (q - 2);
    }

    block Negated[64] {
        d: f16,
        ts: [u8; 1],
        ss: [u8; 8],
        qs: [u8; 16],
        table T = [[1, 2, 3, 4], [-128, 1, 2, 3]];
        t[i: 8] = ts[0] >> i & 1;
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * signs(ss) * T[t][q];
    }

    block FarApart[64] {
        d: f16,
        qs: [u8; 16],
        ts: [u8; 32],
        table T = [[-3, -1, 1, 3], [-4, -2, 2, 4]];
        t[a: 4, b: 4] = ts[8 * b + 2 * a] & 1;
        _t[i: 16] = ts[2 * i] >> 1;
        _u[i: 16] = ts[2 * i + 1];
        q[i: 16, k: 4] = qs[i] >> 2 * k & 3;
        w = d * T[t][q];
    }

    block ByRule[64] {
        d: f16,
        ts: [u8; 1],
        qs: [u8; 8],
        table T = [[-1, 1], [1, -1]];
        t[i: 8] = ts[0] >> i & 1;
        q[i: 8, k: 8] = qs[i] >> k & 1;
        w = d * T[t][q];
        quantize by mean;
    }
}

fn main() {}
