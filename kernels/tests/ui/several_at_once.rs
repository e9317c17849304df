use quantloom_kernels::quant_format;

// One compilation shows the errors of all formats, and of the sound one in their midst nothing.
quant_format! {
    pub table FORMATS;

    pub block First[32] {
        d: f16,
        spare: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (q - 16);
    }

    pub block Sound[32] {
        d: f16,
        qs: [i8; 32],
        w = d * qs;
    }

    pub block Last[32] {
        d: f64,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i + 1] >> 4 * h & 15;
        r[h: 2, i: 16] = qs[i] >> 4 * h & 6;
        w = d * (q - 8);
    }
}

fn main() {}
