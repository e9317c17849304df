use quantloom_kernels::quant_format;

quant_format! {
    block NoQuantizer[32] {
        d: f16,
        qs: [i8; 32],
        w = d * qs;
        quantize by magic;
    }

    block FurthestOfAnother[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 1);
        quantize by furthest;
    }

    block SymmetricWithAMinimum[32] {
        d: f16,
        m: f16,
        qs: [i8; 32],
        w = d * qs + m;
        quantize by symmetric;
    }

    block RangeOfF32[32] {
        d: f16,
        m: f32,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * q + m;
        quantize by range;
    }

    block MeanOfOtherValues[128] {
        d: f16,
        qs: [u8; 16],
        table ONE = [0, 1];
        q[i: 16, k: 8] = qs[i] >> k & 1;
        w = d * ONE[q];
        quantize by mean;
    }

    block ExponentOfF16[32] {
        d: f16,
        qs: [u8; 16],
        table NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * NL[q];
        quantize by exponent;
    }

    block LargestOfTheBlock[32] {
        d: ue4m3,
        qs: [u8; 16],
        table NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * NL[q];
        quantize by largest;
    }
}

fn main() {}
