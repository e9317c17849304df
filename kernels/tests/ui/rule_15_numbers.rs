use quantloom_kernels::quant_format;

quant_format! {
    block NoPower[32] {
        d: f16,
        qs: [i8; 32],
        w = 0.3 * d * qs;
    }

    block NearlyAPower[32] {
        d: f16,
        qs: [i8; 32],
        w = 0.12500000001 * d * qs;
    }

    block TooSmall[32] {
        d: f16,
        qs: [i8; 32],
        w = 0.00000095367431640625 * d * qs;
    }

    block TooSmallTogether[32] {
        d: f16,
        qs: [i8; 32],
        w = 0.0000019073486328125 * 0.0000019073486328125 * d * qs;
    }

    block TooLargeTogether[32] {
        d: f16,
        qs: [i8; 32],
        w = 524288 * 524288 * 524288 * 524288 * 524288 * 524288 * 524288 * d * qs;
    }

    block FactorWithType[32] {
        d: f16,
        qs: [i8; 32],
        w = 0.5f32 * d * qs;
    }

    block MultipleWithType[32] {
        d: f16,
        s: [u8; 2],
        qs: [i8; 32],
        w = d * (300u8 * s + 1) * qs;
    }

    block MultipleOfNothing[32] {
        d: f16,
        s: [u8; 2],
        qs: [i8; 32],
        w = d * (0 * s + 1) * qs;
    }

    block LengthWithType[32usize] {
        d: f16,
        qs: [i8; 32],
        w = d * qs;
    }

    block Large[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[65536 * i] >> 4 * h & 15;
        w = d * (q - 8);
    }

    block NoNumber[32] {
        d: f16,
        qs: [u8; 16],
        q[h: 2, i: 16] = qs[i] >> 4 * h & "15";
        w = d * (q - 8);
    }
}

fn main() {}
