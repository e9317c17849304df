use quantloom_kernels::quant_format;

quant_format! {
    block Outside[32] {
        d: f16,
        qs: [u8; 15],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block Far[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[65535*(65535*(65535*i))] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block Elements[32] {
        d: f16,
        qs: [u8; 32],
        q[h: 2, i: 32] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block Before[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i - 1] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block BeforeTheByte[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> (3 - 4 * h) & 15;
        w = d * (q - 8);
    }

    block Sixth[96] {
        d: f16,
        qs: [u8; 16],
        q[n: 6, i: 16] = trit(qs[i], n);
        w = d * (q - 1);
    }

    block Beyond[64] {
        d: f16,
        qs: [u8; 16],
        codebook GRID: [[i8; 4]; 512] = [[1; 4]; 512];
        g[i: 16] = qs[i] >> 2 & 511;
        w = d * GRID[g];
    }
}

fn main() {}
