use quantloom_kernels::quant_format;

quant_format! {
    block Types[32] {
        d: f64,
        e: [f16; 2],
        s: u8,
        f: [f32; 2],
        none: [u8; 0],
        qs: [i8; 32],
        w = d * e * s * f * none * qs;
    }

    block CodesOfNoType[32] {
        d: f16,
        qs: [u16; 8],
        q[h: 4, i: 8] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }
}

fn main() {}
