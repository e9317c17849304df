use quantloom_kernels::quant_format;

quant_format! {
    block NoCodes[32] {
        d: f16,
        m: f16,
        qs: [i8; 32],
        w = d + m * qs;
    }

    block TwoCodes[32] {
        d: f16,
        a: [i8; 32],
        b: [i8; 32],
        w = d * a * b;
    }

    block NoScale[32] {
        s: [i8; 2],
        qs: [i8; 32],
        w = s * qs;
    }

    block SecondCodes[32] {
        d: f16,
        a: [i8; 32],
        b: [i8; 32],
        w = d * a - d * b;
    }

    block TwoMinima[32] {
        d: f16,
        m: f16,
        n: f16,
        qs: [i8; 32],
        w = d * qs + m + n;
    }

    block TwoZeroPoints[64] {
        d: f16,
        z: [u8; 2],
        y: u8,
        qs: [u8; 32],
        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * (q - z - y);
    }

    block ZeroPointAndMinimum[64] {
        d: f16,
        m: f16,
        z: [u8; 2],
        qs: [u8; 32],
        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * (q - z) + m;
    }

    block ZeroPointOfEachWeight[64] {
        d: f16,
        zs: [u8; 32],
        qs: [u8; 32],
        z[h: 2, i: 32] = zs[i] >> 4 * h & 15;
        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * (q - z);
    }

    block CodedZeroPointOfScales[64] {
        d: f16,
        s: [u8; 2],
        z: u8,
        qs: [u8; 32],
        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * (s - z) * (q - 8);
    }

    block TwoNumbers[64] {
        d: f16,
        qs: [u8; 32],
        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * (q - 7 - 1);
    }

    block CodesLast[64] {
        d: f16,
        z: [u8; 2],
        qs: [u8; 32],
        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * (1 - z + q);
    }

    block TwoCodebooks[128] {
        d: f16,
        qs: [u8; 16],
        codebook A: [[i8; 8]; 256] = [[1; 8]; 256];
        codebook B: [[i8; 8]; 256] = [[1; 8]; 256];
        w = d * (A[qs] + B[qs]);
    }

    block AddedCodebook[128] {
        d: f16,
        qs: [u8; 16],
        codebook A: [[i8; 8]; 256] = [[1; 8]; 256];
        codebook B: [[i8; 8]; 256] = [[1; 8]; 256];
        w = d * A[qs] + d * B[qs];
    }

    block SignsInMinimum[128] {
        d: f16,
        sign: [u8; 16],
        qs: [i8; 128],
        w = d * qs + d * signs(sign);
    }

    block Quotient[32] {
        d: f16,
        qs: [i8; 32],
        w = qs / d;
    }

    block Negative[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * -q;
    }

    block SameMinimum[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * q + 1;
    }

    block SecondCodesAlone[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * q + q;
    }

    block Reversed[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (8 - q);
    }

    block AddedScales[32] {
        d: f16,
        e: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = (d + e) * q;
    }

    block NoCodesInSum[32] {
        d: f16,
        z: [u8; 2],
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (d * q - z);
    }
}

fn main() {}
