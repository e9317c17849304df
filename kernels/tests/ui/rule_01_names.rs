use quantloom_kernels::quant_format;

quant_format! {
    block A[32] = gguf 2 {
        d: f16,
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block B[32] = gguf 2 {
        d: f16,
        qs: [u8; 16],
        q[i: 2, i: 16] = qs[i] >> 4 * i & 15;
        w = d * (q - 8);
    }

    block A[32] {
        d: f16,
        qs: [i8; 32],
        w = d * qs;
    }
}

fn main() {}
