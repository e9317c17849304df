use quantloom_kernels::quant_format;

quant_format! {
    #[derive(Eq)]
    block Derived[32] {
        d: f16,
        #[cfg(test)]
        qs: [i8; 32],
        w = d * qs;
    }

    block Semicolon[32] {
        d: f16,
        qs: [i8; 32],
        w = d * qs
    }

    block Comma[32] {
        d: f16
        qs: [i8; 32],
        w = d * qs;
    }
}

/// The formats exist all the same.
type Used = (Derived, Semicolon, Comma);

fn main() {}
