use quantloom_kernels::quant_format;

quant_format! {
    block Raw[32] {
        d: f16,
        r#in: [i8; 32],
        w = d * r#in;
    }

    block Method[32] {
        d: f16,
        to_bytes: [i8; 32],
        w = d * to_bytes;
    }

    block Setter[32] {
        d: f16,
        q: [i8; 32],
        sc: [u8; 4],
        set_q[i: 4, h: 2] = sc[i] >> 4 * h & 15;
        w = d * set_q * q;
    }

    block Keyword[32] {
        gen: f16,
        qs: [i8; 32],
        w = gen * qs;
    }

    block Constant[128] {
        d: f16,
        qs: [u8; 16],
        codebook from_bytes: [[i8; 8]; 256] = [[1; 8]; 256];
        w = d * from_bytes[qs];
    }

    block ConstantSetter[128] {
        d: f16,
        qs: [u8; 16],
        codebook set_qs: [[i8; 8]; 256] = [[1; 8]; 256];
        w = d * set_qs[qs];
    }

    block Digit[32] {
        d: f16,
        h: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block É[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    #[allow(non_camel_case_types)]
    block é[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block u8[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block kernels[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block Variant[32] {
        d: f16,
        qs: [u8; 16],
        q[None: 2, i: 16] = qs[i] >> 4 * None & 15;
        w = d * (q - 8);
    }
}

fn main() {}
