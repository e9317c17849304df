use quantloom_kernels::quant_format;

quant_format! {
    block Zero[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 16);
    }

    block SignedZero[32] {
        d: f16,
        qs: [i8; 32],
        w = d * (qs - 8);
    }

    block Entries[32] {
        d: f16,
        qs: [u8; 16],
        table T = [-3, -1, 1, 3];
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * T[q];
    }

    block Entry[32] {
        d: f16,
        qs: [u8; 16],
        table T = [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 200];
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * T[q];
    }

    block Factor[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (2 * q - 15);
    }

    block OddSteps[32] {
        d: f16,
        s: [u8; 16],
        q[h: 2, i: 16] = s[i] >> 4 * h & 15;
        w = d * (2 * q + 1);
    }

    block TritIndex[128] {
        d: f16,
        qs: [u8; 16],
        codebook GRID: [[i8; 8]; 3] = [[1; 8]; 3];
        q[i: 16] = trit(qs[i], 0);
        w = d * GRID[q];
    }

    block Wide[32] {
        d: f16,
        qs: [i8; 32],
        table T = [0];
        w = d * T[qs];
    }

    block Book[128] {
        d: f16,
        qs: [u8; 16],
        codebook GRID: [[i8; 8]; 255] = [[1; 8]; 255];
        w = d * GRID[qs];
    }

    block Pairs[32] {
        d: f16,
        qs: [u8; 16],
        codebook GRID: [[i8; 2]; 256] = [[1; 2]; 256];
        w = d * GRID[qs];
    }

    block Few[128] {
        d: f16,
        qs: [u8; 15],
        codebook GRID: [[i8; 8]; 256] = [[1; 8]; 256];
        w = d * GRID[qs];
    }

    block NumbersMinusZeroPoint[32] {
        d: f16,
        s: [ue4m3; 2],
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (s - 3) * (q - 8);
    }

    block NumbersAsEntries[128] {
        d: f16,
        s: [e8m0; 16],
        codebook GRID: [[i8; 8]; 256] = [[1; 8]; 256];
        w = d * GRID[s];
    }

    block NumbersAsSigns[32] {
        d: f16,
        s: [e8m0; 4],
        qs: [u8; 16],
        table T = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * signs(s) * T[q];
    }

    block NumberBesideZeroPoint[32] {
        d: f16,
        z: [i8; 2],
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - z - 16);
    }

    block ZeroPointOfNumbers[32] {
        d: f16,
        s: [f16; 2],
        sz: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (s - sz) * (q - 8);
    }

    block SignedScales[32] {
        d: f16,
        s: [i8; 2],
        sz: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (s - sz - 1) * (q - 8);
    }

    block WideNumbersAsWeights[32] {
        d: f16,
        qs: [bf16; 32],
        w = d * qs;
    }

    block FactorBehind[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q * 2 - 15);
    }
}

fn main() {}
