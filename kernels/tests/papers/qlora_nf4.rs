//! NF4 with double quantization: "QLoRA: Efficient Finetuning of Quantized LLMs", Tim Dettmers, Artidoro
//! Pagnoni, Ari Holtzman, Luke Zettlemoyer, 2023, as bitsandbytes stores it.
//!
//! 4 bits that select from a table of 16 numbers, the NormalFloat, times the largest magnitude of 64 weights.
//! That one is quantized as well: a byte that selects from 256 numbers, which stand with the tensor, times an
//! f32 for each 256 of these bytes, and the mean of all magnitudes is added again.
//!
//!   w = (c2 · map[c] + offset) · NF4[q]
//!
//! Block: 64 weights in 33 bytes. Byte 0: c. Bytes 1 to 32: q, weight 2i in the high nibble of byte 1 + i,
//! weight 2i + 1 in its low nibble.
//! Beside the tensor: map, 256 f32, then offset, an f32: 1028 bytes. Beside it as well, for each 16384
//! consecutive weights of the whole tensor, rows following each other: c2, an f32. Such a run may begin and
//! end within a row.
//!
//! The paper says that the second level is in 8-bit floats; the published code has a table for it, 256
//! numbers of a dynamic exponent, and writes it to its checkpoints, which is followed here. There, all parts
//! are tensors of their own; c before the codes of its block is a choice made here.

quantloom_kernels::quant_format! {
    /// 4 bits that select from a table; each 64 weights share a scale of 8 bits, which selects from a table, too.
    pub block QLoraNF4[64] {
        tensor {
            map: [f32; 256],
            offset: f32,
        }
        run[16384] { c2: f32, }
        c: u8,
        qs: [u8; 32],

        table NF4: [f32; 16] = [
            -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
            -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
            0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
            1.0,
        ];
        q[i: 32, h: 2] = qs[i] >> (4 - 4 * h) & 15;
        w = (c2 * map[c] + offset) * NF4[q];
    }
}

/// The weights of a row, by the layout above. `first` is the number of the row's first weight in the tensor.
pub fn weights(row: &[u8], count: usize, tensor: &[u8], runs: &[u8], first: usize) -> Vec<f32> {
    const NORMAL_FLOAT: [f32; 16] = [
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ];
    let offset = f32_at(&tensor[1024..]);
    (0..count)
        .map(|e| {
            let block = &row[e / 64 * 33..][..33];
            let c2 = f32_at(&runs[(first + e) / 16384 * 4..]);
            let absmax = c2 * f32_at(&tensor[4 * usize::from(block[0])..]) + offset;
            let byte = block[1 + e % 64 / 2];
            let q = if e % 2 == 0 { byte >> 4 } else { byte & 15 };
            absmax * NORMAL_FLOAT[usize::from(q)]
        })
        .collect()
}

/// The number that four bytes hold.
fn f32_at(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
