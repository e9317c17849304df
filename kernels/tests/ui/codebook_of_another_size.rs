use quantloom_kernels::quant_format;

quant_format! {
    block Short[128] {
        d: f16,
        g: [u8; 16],
        codebook GRID: [[i8; 8]; 256] = [[1; 8]; 255];
        w = d * GRID[g];
    }

    block Named[128] {
        d: f16,
        g: [u8; 16],
        codebook GRID: [[i8; 8]; 256] = MISSING;
        w = d * GRID[g];
    }
}

fn main() {}
