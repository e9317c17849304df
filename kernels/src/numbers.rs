//! Numbers of 8 bits, as tables of their values.

/// The value of each byte as E8M0, a power of two with 8 bits of exponent, times `factor`: 2^(byte - 127) · factor.
///
/// 255 is no NaN here, as it is not in ggml's formats.
pub const fn e8m0(factor: f32) -> [f32; 256] {
    let mut values = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        // An f64 has every power in between.
        let power = f64::from_bits((byte as u64 + 1023 - 127) << 52);
        values[byte] = (power * factor as f64) as f32;
        byte += 1;
    }
    values
}

/// The value of each byte as UE4M3, 4 bits of exponent and 3 of fraction, times `factor`. The highest bit doesn't
/// count.
///
/// Following ggml, 0x7F is 0, and 0xFF with the same bits is 480.
pub const fn ue4m3(factor: f32) -> [f32; 256] {
    let mut values = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (exponent, fraction) = (byte >> 3 & 15, (byte & 7) as f64 / 8.0);
        let value = if exponent == 0 {
            fraction / 64.0
        } else {
            (1.0 + fraction) * f64::from_bits((exponent as u64 + 1023 - 7) << 52)
        };
        values[byte] = if byte == 0x7F { 0.0 } else { (value * factor as f64) as f32 };
        byte += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two() {
        let (whole, half) = (e8m0(1.0), e8m0(0.5));
        assert_eq!([whole[127], whole[128], whole[0]], [1.0, 2.0, 2_f32.powi(-127)]);
        assert_eq!([half[0], half[1], half[255]], [2_f32.powi(-128), 2_f32.powi(-127), 2_f32.powi(127)]);
    }

    #[test]
    fn small_floats() {
        let values = ue4m3(1.0);
        assert_eq!([values[0], values[1], values[7]], [0.0, 1.0 / 512.0, 7.0 / 512.0]);
        assert_eq!([values[8], values[0x38], values[0x39], values[0x7E]], [1.0 / 64.0, 1.0, 1.125, 448.0]);
        assert_eq!([values[0x7F], values[0xFF], values[0xB8]], [0.0, 480.0, 1.0]);
        assert_eq!(ue4m3(0.5)[0x38], 0.5);
    }
}
