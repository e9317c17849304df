use quantloom_kernels::quant_format;

quant_format! {
    block NoCodes[32] {
        d: f16,
        m: f16,
        qs: [i8; 32],
        w = d + m * qs;
    }

    block TwoCodes[32] {
        d: f16,
        a: [i8; 32],
        b: [i8; 32],
        w = d * a * b;
    }

    block TwoGroups[32] {
        d: f16,
        s: [i8; 2],
        t: [i8; 4],
        qs: [i8; 32],
        w = d * s * t * qs;
    }

    block NoScale[32] {
        s: [i8; 2],
        qs: [i8; 32],
        w = s * qs;
    }

    block SecondCodes[32] {
        d: f16,
        a: [i8; 32],
        b: [i8; 32],
        w = d * a - d * b;
    }

    block Constant[32] {
        d: f16,
        qs: [i8; 32],
        w = 0.3 * d * qs;
    }

    block Quotient[32] {
        d: f16,
        qs: [i8; 32],
        w = qs / d;
    }
}

fn main() {}
