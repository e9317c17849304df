//! LUT-GEMM's binary codes, 3 bits: "LUT-GEMM: Quantized Matrix Multiplication based on LUTs for Efficient
//! Inference in Large-Scale Generative Language Models", Gunho Park, Baeseong Park, Minsub Kim, Sungjae Lee,
//! Jeonghoon Kim, Beomseok Kwon, Se Jung Kwon, Byeongwook Kim, Youngjoo Lee, Dongsoo Lee, 2022.
//!
//! Binary coding: a weight is a sum of plus or minus the same three numbers, and a bias, which makes uniform
//! quantization a special case.
//!
//!   w = Σ over i of a[i] · (2 · b[i] − 1), + z
//!
//! Block: 128 weights in 56 bytes. Bytes 0 to 5: a, three f16. Bytes 6 and 7: z, an f16. Then three planes of
//! 16 bytes, plane i for a[i]: weight 8j + k is bit k of byte j, 1 for plus.
//!
//! The published code holds, of a transposed matrix, bits as words of 32, plane by plane, and the numbers as
//! tensors of their own. The paper lets any number of weights form a group; 128 of them, and all parts in one
//! block, are choices made here.

quantloom_kernels::quant_format! {
    /// 3 bits, each of which adds or subtracts a number of its own.
    pub block LutGemm3[128] {
        a: [f16; 3],
        z: f16,
        qs: [u8; 48],

        b[i: 3, j: 16, k: 8] = qs[16 * i + j] >> k & 1;
        w = sum(i: 3, a[i] * (2 * b[i] - 1)) + z;
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize) -> Vec<f32> {
    (0..count)
        .map(|e| {
            let block = &row[e / 128 * 56..][..56];
            let e = e % 128;
            let mut w = 0.0;
            for i in 0..3 {
                let a = f16(&block[2 * i..]);
                let plus = block[8 + 16 * i + e / 8] >> (e % 8) & 1 == 1;
                w += if plus { a } else { -a };
            }
            w + f16(&block[6..])
        })
        .collect()
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
