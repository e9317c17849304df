//! TL2 of bitnet.cpp: "Bitnet.cpp: Efficient Edge Inference for Ternary LLMs", Jinheng Wang, Hansong Zhou,
//! Ting Song, Shijie Cao, Yan Xia, Ting Cao, Jianyu Wei, Shuming Ma, Hongyu Wang, Furu Wei, 2025.
//!
//! Three weights of −1, 0 and 1 are 27 cases, of which 13 are the negatives of others: 4 bits for the case,
//! and a sign for all three. The case is 9a + 3b + c of three weights a, b, c, made positive: from 0 to 13;
//! the codes 14 and 15, which no encoder writes, are three zeros here.
//!
//!   w[3·i + k] = d · (1 − 2 · n[i]) · T3[g[i]][k]
//!
//! Block: 96 weights in 20 bytes. Bytes 0 to 3: n of the 32 triples, triple 8j + k in bit k of byte j, 1 for
//! minus. Bytes 4 to 19: g, triple 2i in the high nibble of byte 4 + i, triple 2i + 1 in its low nibble.
//! Beside the tensor: d, an f32.
//!
//! The code interleaves 32 rows for its look-up instructions, and stores what is left of a row after its last
//! 96 columns in another format, TL1, two weights to a code; here rows follow each other and are a whole
//! number of blocks. The order of the signs is a choice made here.

quantloom_kernels::quant_format! {
    /// -1, 0 and 1: three of them in 4 bits and a sign.
    pub block BitnetTL2[96] {
        tensor { d: f32, }
        sign: [u8; 4],
        qs: [u8; 16],

        codebook T3: [[i8; 3]; 16] = [
            [0, 0, 0], [0, 0, 1], [0, 1, -1], [0, 1, 0], [0, 1, 1], [1, -1, -1], [1, -1, 0], [1, -1, 1],
            [1, 0, -1], [1, 0, 0], [1, 0, 1], [1, 1, -1], [1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0],
        ];
        n[j: 4, k: 8] = sign[j] >> k & 1;
        g[i: 16, h: 2] = qs[i] >> (4 - 4 * h) & 15;
        w = d * (1 - 2 * n) * T3[g];
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize, tensor: &[u8]) -> Vec<f32> {
    let d = f32_at(tensor);
    (0..count)
        .map(|e| {
            let block = &row[e / 96 * 20..][..20];
            let triple = e % 96 / 3;
            let byte = block[4 + triple / 2];
            let g = i32::from(if triple % 2 == 0 { byte >> 4 } else { byte & 15 });
            let minus = block[triple / 8] >> (triple % 8) & 1 == 1;
            let mut w = 0;
            // The digits of the case: the one combination that adds up to it.
            for a in -1..=1 {
                for b in -1..=1 {
                    for c in -1..=1 {
                        if 9 * a + 3 * b + c == g {
                            w = [a, b, c][e % 3];
                        }
                    }
                }
            }
            d * (if minus { -w } else { w }) as f32
        })
        .collect()
}

/// The number that four bytes hold.
fn f32_at(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
