// The only error is the declaration's own: whatever uses the format finds a type.
use quantloom_kernels::{BlockFormat, Format, quant_format};

quant_format! {
    pub table FORMATS;

    pub block Broken[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = d * (p - 8);
    }
}

/// Names like variables hide none, and get no warning that right declarations don't get.
mod lower_case {
    quantloom_kernels::quant_format! {
        block broken[32] {
            d: f16,
            qs: [i8; 32],
            w = d * (qs - 1);
        }
    }

    pub fn variable() -> u8 {
        let broken = 1;
        broken
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    blocks: [Broken; 4],
}

fn names() -> Vec<&'static str> {
    FORMATS.iter().map(|format| format.name).collect()
}

fn main() {
    let format: &Format = Broken::FORMAT;
    lower_case::variable();
    println!("{} {:?} {}", format.name, names(), size_of::<Row>());
}
