use quantloom_kernels::quant_format;

quant_format! {
    block Types[32] {
        d: f64,
        f: [f32; 2000],
        none: [u8; 0],
        qs: [i8; 32],
        w = d * f * none * qs;
    }

    block CodesOfNoType[32] {
        d: f16,
        qs: [u16; 8],
        q[h: 4, i: 8] = qs[i] >> 4 * h & 15;
        w = d * (q - 8);
    }
}

fn main() {}
