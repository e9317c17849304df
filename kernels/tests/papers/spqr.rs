//! SpQR, the dense part, 3 bits: "SpQR: A Sparse-Quantized Representation for Near-Lossless LLM Weight
//! Compression", Tim Dettmers, Ruslan Svirschevski, Vage Egiazarian, Denis Kuznedelev, Elias Frantar, Saleh
//! Ashkboos, Alexander Borzunov, Torsten Hoefler, Dan Alistarh, 2023.
//!
//! Groups of 16 weights have a scale and a zero point, which are quantized themselves, to 3 bits, in groups
//! of 16, each with a scale and a zero point that are numbers. No zero point is an integer.
//!
//!   w = ss · (s − sz) · (q − zs · (z − zz))
//!
//! Block: 256 weights in 116 bytes. Bytes 0 to 7: ss, sz, zs, zz, an f16 each. Bytes 8 to 13: s of the 16
//! groups, 3 bits each, group i in bits 3i to 3i + 2 of one little-endian number. Bytes 14 to 19: z, in the
//! same way. Bytes 20 to 115: q of the 256 weights, weight i in bits 3i to 3i + 2. Group i is weights 16i to
//! 16i + 15.
//!
//! The published code lets the scales of 16 outputs, for the same 16 inputs, form a group of the second
//! level; here it is 16 groups of one output, so that a row stands by itself. The order of bits is a choice
//! made here, too. The outliers, which are added in f16, are no part of this format.

quantloom_kernels::quant_format! {
    /// 3 bits; each 16 weights share a scale and a zero point of 3 bits, and 16 of these a scale and a zero point.
    pub block SpQr3[256] {
        ss: f16,
        sz: f16,
        zs: f16,
        zz: f16,
        sc: [u8; 6],
        ze: [u8; 6],
        qs: [u8; 96],

        s[i: 2, k: 8] = sc[3 * i] >> 3 * k & 7;
        z[i: 2, k: 8] = ze[3 * i] >> 3 * k & 7;
        q[i: 32, k: 8] = qs[3 * i] >> 3 * k & 7;
        w = ss * (s - sz) * (q - zs * (z - zz));
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    (0..count)
        .map(|e| {
            let block = &row[e / 256 * 116..][..116];
            let e = e % 256;
            let (ss, sz, zs, zz) = (f16(block), f16(&block[2..]), f16(&block[4..]), f16(&block[6..]));
            let s = ss * (code(&block[8..14], e / 16) - sz);
            let z = zs * (code(&block[14..20], e / 16) - zz);
            s * (code(&block[20..], e) - z)
        })
        .collect()
}

/// Code i of 3 bits.
fn code(bytes: &[u8], i: usize) -> f32 {
    let mut code = 0;
    for k in 0..3 {
        let bit = 3 * i + k;
        code |= (bytes[bit / 8] >> (bit % 8) & 1) << k;
    }
    f32::from(code)
}

/// The number that two bytes hold.
fn f16(bytes: &[u8]) -> f32 {
    let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}
