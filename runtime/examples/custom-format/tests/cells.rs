//! Every kernel of the format on every instruction set, and its quantizer, against its layout written down once more, by
//! hand.

use std::process::ExitCode;

use quantloom_bench::prove::{self, Number, Quantizer, Subject, Weight, half};

/// The weights of a block, whose f16 stand where `numbers` says below.
fn weights(block: &[u8]) -> Vec<Weight> {
    let (d, qh, qs) = (half(block), &block[2..10], &block[10..26]);
    let low = |e: usize| if e < 16 { qs[e] & 15 } else { qs[e - 16] >> 4 };
    // Byte k has the high bits of weights k, k + 16, k + 8 and k + 24, from the lowest bits up.
    let high = |e: usize| qh[e % 8] >> [0, 4, 2, 6][e / 8] & 3;
    let code = |e| i32::from(low(e)) + 16 * i32::from(high(e)) - 32;
    (0..32).map(|e| Weight { scale: d, code: code(e), minimum: 0.0 }).collect()
}

fn main() -> ExitCode {
    let (format, numbers) = (custom_format::FORMAT, &[Number::F16(0)]);
    // The declaration asks for a rule; without `quantize by …;` this is `Quantizer::Best`.
    prove::main(vec![Subject { format, numbers, weights, quantizer: Quantizer::Rule }])
}
