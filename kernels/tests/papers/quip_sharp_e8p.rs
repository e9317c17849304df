//! QuIP#, the codebook E8P: "QuIP#: Even Better LLM Quantization with Hadamard Incoherence and Lattice
//! Codebooks", Albert Tseng, Jerry Chee, Qingyao Sun, Volodymyr Kuleshov, Christopher De Sa, 2024.
//!
//! Eight weights for 16 bits, from the lattice E8 + 1/4. The upper byte of a code selects one of 256 entries
//! of eight half-integers: the 227 vectors of the magnitudes 1/2, 3/2 and 5/2 whose squares are at most 10
//! together, in lexicographic order, then 29 vectors of five 3/2 and three 1/2. The sum of an entry is made
//! even: where it is odd, the eighth number is negative. The lower byte has a bit for each sign; weight i's
//! is bit 0, 4, 1, 5, 2, 6, 3, 7, for i from 0 on. Where an odd number of the eight bits is set, bit 0 is
//! taken as flipped, so that the number of minuses is always even, and 1/4 is subtracted from all eight
//! weights; else 1/4 is added.
//!
//!   w = d · (± entry ± 1/4)
//!
//! Block: 32 weights in 8 bytes, four codes of 16 bits, little-endian. Beside the tensor: d, one f32.
//!
//! The weights are those of the rotated matrix: the Hadamard transforms and random signs on both sides of a
//! layer act on activations and are no part of this format. The paper leaves storage open, and the published
//! code orders codes for its GPU kernel and multiplies d into the signs of the outputs; here: codes in the
//! order of the weights, d by itself.

/// For each of the 29 entries which of its eight numbers are 3/2, the first in the highest bit.
const NORM_12: [u8; 29] = [
    0b10001111, 0b01001111, 0b00101111, 0b00011111, 0b11101100, 0b11101010, 0b11100110, 0b11101001, 0b11100101,
    0b11100011, 0b11011100, 0b11011010, 0b11010110, 0b11011001, 0b11010101, 0b11010011, 0b10111100, 0b10111010,
    0b10110110, 0b10111001, 0b10110101, 0b01110011, 0b01111100, 0b01111010, 0b01110110, 0b01111001, 0b01110101,
    0b00110111, 0b11001110,
];

/// Twice the entries, which are odd numbers then.
const fn e8p() -> [[i8; 8]; 256] {
    let mut entries = [[0; 8]; 256];
    let mut count = 0;
    let mut number = 0;
    while number < 6561 + 29 {
        let mut entry = [0i8; 8];
        let mut squares = 0;
        let mut sum = 0;
        let mut rest = number;
        let mut j = 8;
        while j > 0 {
            j -= 1;
            entry[j] = if number < 6561 {
                2 * (rest % 3) as i8 + 1
            } else {
                2 * (NORM_12[number - 6561] >> (7 - j) & 1) as i8 + 1
            };
            rest /= 3;
            squares += entry[j] as i32 * entry[j] as i32;
            sum += entry[j] as i32;
        }
        if squares <= 40 || number >= 6561 {
            if sum % 4 != 0 {
                entry[7] = -entry[7];
            }
            entries[count] = entry;
            count += 1;
        }
        number += 1;
    }
    entries
}

quantloom_kernels::quant_format! {
    /// 2 bits: eight weights of a lattice for 16 bits, moved up or down by a quarter.
    pub block QuipSharpE8P[32] {
        tensor { d: f32, }
        qs: [u8; 8],

        codebook E8P: [[i8; 8]; 256] = e8p();
        g[i: 4] = qs[2 * i + 1];
        p[i: 4] = parity(qs[2 * i]);
        n[i: 4, h: 4, l: 2] = (qs[2 * i] ^ parity(qs[2 * i])) >> (h + 4 * l) & 1;
        w = d * (0.5 * (1 - 2 * n) * E8P[g] + 0.25 * (1 - 2 * p));
    }
}

/// The weights of a row, by the layout above.
pub fn weights(row: &[u8], count: usize, tensor: &[u8]) -> Vec<f32> {
    let d = f32::from_le_bytes([tensor[0], tensor[1], tensor[2], tensor[3]]);
    let entries = entries();
    (0..count)
        .map(|e| {
            let (signs, index) = (row[e / 8 * 2], row[e / 8 * 2 + 1]);
            let i = e % 8;
            let mut number = entries[usize::from(index)][i];
            let odd = signs.count_ones() % 2 == 1;
            let bit = [0, 4, 1, 5, 2, 6, 3, 7][i];
            let mut minus = signs >> bit & 1 == 1;
            if bit == 0 && odd {
                minus = !minus;
            }
            if minus {
                number = -number;
            }
            d * (number + if odd { -0.25 } else { 0.25 })
        })
        .collect()
}

/// The entries, found by trying all vectors in lexicographic order.
fn entries() -> Vec<[f32; 8]> {
    let mut found: Vec<[f32; 8]> = vec![[0.0; 8]];
    for i in 0..8 {
        found = found
            .iter()
            .flat_map(|&start| {
                [0.5, 1.5, 2.5].map(|next| {
                    let mut longer = start;
                    longer[i] = next;
                    longer
                })
            })
            .collect();
    }
    found.retain(|entry| entry.iter().map(|x| x * x).sum::<f32>() <= 10.0);
    for mask in NORM_12 {
        let mut entry = [0.5; 8];
        for (i, number) in entry.iter_mut().enumerate() {
            if mask >> (7 - i) & 1 == 1 {
                *number = 1.5;
            }
        }
        found.push(entry);
    }
    for entry in &mut found {
        if entry.iter().sum::<f32>() % 2.0 != 0.0 {
            entry[7] = -entry[7];
        }
    }
    assert_eq!(found.len(), 256);
    found
}
