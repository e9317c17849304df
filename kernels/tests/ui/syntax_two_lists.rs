use quantloom_kernels::quant_format;

quant_format! {
    table A;
    table B;
}

fn main() {}
