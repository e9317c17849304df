//! BiLLM: "BiLLM: Pushing the Limit of Post-Training Quantization for LLMs", Wei Huang, Yangdong Liu, Haotong
//! Qin, Ying Li, Shiming Zhang, Xianglong Liu, Michele Magno, Xiaojuan Qi, 2024.
//!
//! Blocks of 128 columns. Some columns of a block are salient, the same for all rows: their weights are a
//! sign times one number, plus a sign times another, for what is left. All other weights are a sign times a
//! number, of which there are two: one for those concentrated about 0, one for the sparse ones further out.
//!
//!   w = salient: ao · (2b − 1) + ar · (2c − 1);  else: (c ? at : ac) · (2b − 1)
//!
//! Block: 128 weights in 40 bytes. Bytes 0 to 7: ao, ar, ac, at, an f16 each. Bytes 8 to 23: b, weight 8j + k
//! in bit k of byte 8 + j, 1 for plus. Bytes 24 to 39: c in the same order: of salient weights the second
//! sign, 1 for plus, of others 1 for the sparse ones.
//! Beside the tensor: a bit for each column, column 8j + k in bit k of byte j, 1 if it is salient.
//!
//! The paper counts 1.1 bits of signs for a weight and, apart from these, one bit for knowing which weights
//! are sparse; how both are stored it leaves open. That one plane serves as second sign and as mark is a
//! choice made here, as is the layout. The formulas are the paper's; the published code adds the mean of each
//! kind of weights as well, which is left out here.

quantloom_kernels::quant_format! {
    /// One sign, or two in the columns that matter; the others have one of two scales.
    pub block BiLlm[128] {
        column { salient: bit, }
        ao: f16,
        ar: f16,
        ac: f16,
        at: f16,
        bs: [u8; 16],
        cs: [u8; 16],

        b[j: 16, k: 8] = bs[j] >> k & 1;
        c[j: 16, k: 8] = cs[j] >> k & 1;
        w = if salient { ao * (2 * b - 1) + ar * (2 * c - 1) }
            else if c { at * (2 * b - 1) }
            else { ac * (2 * b - 1) };
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize, columns: &[u8]) -> Vec<f32> {
    (0..count)
        .map(|e| {
            let block = &row[e / 128 * 40..][..40];
            let bit = |bytes: &[u8], i: usize| bytes[i / 8] >> (i % 8) & 1 == 1;
            let signed = |number: f32, plus: bool| if plus { number } else { -number };
            let (ao, ar, ac, at) = (f16(block), f16(&block[2..]), f16(&block[4..]), f16(&block[6..]));
            let (b, c) = (bit(&block[8..24], e % 128), bit(&block[24..], e % 128));
            if bit(columns, e) {
                signed(ao, b) + signed(ar, c)
            } else {
                signed(if c { at } else { ac }, b)
            }
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
