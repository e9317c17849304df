use quantloom_kernels::quant_format;

/// The compiler alone sees the entries.
const fn entries() -> [[i8; 8]; 256] {
    let mut entries = [[127; 8]; 256];
    entries[255][7] = -128;
    entries
}

quant_format! {
    block Signed[256] {
        d: f16,
        sign: [u8; 32],
        g: [u8; 32],
        codebook GRID: [[i8; 8]; 256] = entries();
        w = d * signs(sign) * GRID[g];
    }

    block Even[256] {
        d: f16,
        sign: [u8; 28],
        g: [u8; 32],
        codebook WORDS: [[i8; 8]; 256] = entries();
        n[i: 32] = sign[0] >> 7 * i & 127;
        w = d * even_signs(n) * WORDS[g];
    }

    block Unsigned[256] {
        d: f16,
        g: [u8; 32],
        codebook GRID: [[i8; 8]; 256] = entries();
        w = d * GRID[g];
    }
}

fn main() {}
