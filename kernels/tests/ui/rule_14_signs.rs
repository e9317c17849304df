use quantloom_kernels::quant_format;

quant_format! {
    block Linear[128] {
        d: f16,
        sign: [u8; 16],
        qs: [u8; 64],
        q[h: 2, i: 64] = qs[i] >> 4 * h & 15;
        w = d * signs(sign) * (q - 8);
    }

    block Seven[128] {
        d: f16,
        sign: [u8; 16],
        qs: [u8; 16],
        codebook GRID: [[i8; 8]; 256] = [[1; 8]; 256];
        w = d * even_signs(sign) * GRID[qs];
    }

    block Few[128] {
        d: f16,
        sign: [u8; 8],
        qs: [u8; 16],
        codebook GRID: [[i8; 8]; 256] = [[1; 8]; 256];
        w = d * signs(sign) * GRID[qs];
    }

    block Trits[128] {
        d: f16,
        sign: [u8; 16],
        qs: [u8; 16],
        codebook GRID: [[i8; 8]; 256] = [[1; 8]; 256];
        n[i: 16] = trit(sign[i], 0);
        w = d * signs(n) * GRID[qs];
    }

    block NoNegative[128] {
        d: f16,
        sign: [u8; 16],
        qs: [u8; 32],
        table T = [-128, -1, 1, 127];
        q[l: 4, i: 32] = qs[i] >> 2 * l & 3;
        w = d * signs(sign) * T[q];
    }

    block ZeroPoint[128] {
        d: f16,
        z: u8,
        sign: [u8; 16],
        qs: [u8; 32],
        table T = [1, 2, 4, 8];
        q[l: 4, i: 32] = qs[i] >> 2 * l & 3;
        w = d * signs(sign) * (T[q] - z);
    }

    block Function[128] {
        d: f16,
        sign: [u8; 16],
        qs: [u8; 16],
        codebook GRID: [[i8; 8]; 256] = [[1; 8]; 256];
        w = d * sqrt(sign) * GRID[qs];
    }
}

fn main() {}
