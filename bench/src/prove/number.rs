//! The numbers of a block: where they stand, how they are stored, what they can be.

use std::ops::Range;
use std::sync::LazyLock;

use quantloom_kernels::{bf16, f16};

use super::random::Random;

/// A number in a block, which stands so many bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Two bytes, IEEE half precision.
    F16(usize),
    /// Two bytes, the upper half of an IEEE single precision number: [`brain`].
    BF16(usize),
    /// Four bytes, IEEE single precision.
    F32(usize),
    /// One byte, 2^(byte - 127): [`e8m0`].
    E8M0(usize),
    /// One byte, a float of 4 bits of exponent and 3 of fraction: [`ue4m3`].
    UE4M3(usize),
}

/// What all numbers of a block are set to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    /// Uniform up to a magnitude.
    Random(f32),
    One,
    /// 0, or the least that there is.
    Zero,
    /// The same with the bit of the sign set.
    NegativeZero,
    /// The largest finite number; of numbers with the range of an f32 about 2 to the power that is said.
    Largest,
    /// The same with the bit of the sign set.
    Lowest,
    SmallestSubnormal,
    /// The largest, with the bit of the sign set.
    LargestSubnormal,
}

impl Number {
    /// `N` numbers that follow each other, from this one on: those of a field `[ue4m3; N]`.
    pub const fn array<const N: usize>(self) -> [Self; N] {
        let mut numbers = [self; N];
        let mut i = 0;
        while i < N {
            numbers[i] = match self {
                Self::F16(at) => Self::F16(at + 2 * i),
                Self::BF16(at) => Self::BF16(at + 2 * i),
                Self::F32(at) => Self::F32(at + 4 * i),
                Self::E8M0(at) => Self::E8M0(at + i),
                Self::UE4M3(at) => Self::UE4M3(at + i),
            };
            i += 1;
        }
        numbers
    }

    /// The bytes that it takes of a block.
    pub fn place(self) -> Range<usize> {
        match self {
            Self::F16(at) | Self::BF16(at) => at..at + 2,
            Self::F32(at) => at..at + 4,
            Self::E8M0(at) | Self::UE4M3(at) => at..at + 1,
        }
    }

    /// What it is in `block`.
    pub(super) fn value(self, block: &[u8]) -> f64 {
        let bytes = &block[self.place()];
        match self {
            Self::F16(_) => half(bytes),
            Self::BF16(_) => brain(bytes),
            Self::F32(_) => single(bytes),
            Self::E8M0(_) => e8m0(bytes[0]),
            Self::UE4M3(_) => ue4m3(bytes[0]),
        }
    }

    /// Every finite number that it can be, in ascending order; `None` where these are too many to list.
    pub(super) fn values(self) -> Option<Vec<f64>> {
        let mut values: Vec<f64> = match self {
            Self::F16(_) => (0..=u16::MAX)
                .map(|bits| f16::from_bits(bits).to_f64())
                .filter(|value| value.is_finite())
                .collect(),
            Self::BF16(_) => (0..=u16::MAX)
                .map(|bits| bf16::from_bits(bits).to_f64())
                .filter(|value| value.is_finite())
                .collect(),
            Self::F32(_) => return None,
            // 255 stands for no number.
            Self::E8M0(_) => (0..255).map(e8m0).collect(),
            Self::UE4M3(_) => (0..=UE4M3_LARGEST).map(ue4m3).collect(),
        };
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        Some(values)
    }

    /// Bits of its fraction, the one before the point included.
    pub(super) fn significant_bits(self) -> u32 {
        match self {
            Self::F16(_) => 11,
            Self::BF16(_) => 8,
            Self::F32(_) => 24,
            Self::E8M0(_) => 1,
            Self::UE4M3(_) => 4,
        }
    }

    /// Whether it has the range of an f32, so that products with it can leave that.
    pub(super) fn is_wide(self) -> bool {
        matches!(self, Self::BF16(_) | Self::F32(_) | Self::E8M0(_))
    }

    /// Sets it in `block`; `largest` is the exponent of the largest that a number of wide range may be.
    pub(super) fn set(self, block: &mut [u8], level: Level, largest: i32, random: &mut Random) {
        let mut uniform = |scale: f32| scale * random.uniform();
        let place = &mut block[self.place()];
        match self {
            Self::F16(_) => {
                let number = match level {
                    Level::Random(scale) => f16::from_f32(uniform(scale)),
                    Level::One => f16::ONE,
                    Level::Zero => f16::ZERO,
                    Level::NegativeZero => f16::NEG_ZERO,
                    Level::Largest => f16::MAX,
                    Level::Lowest => f16::MIN,
                    Level::SmallestSubnormal => f16::from_bits(1),
                    Level::LargestSubnormal => f16::from_bits(0x83FF),
                };
                place.copy_from_slice(&number.to_le_bytes());
            }
            Self::BF16(_) => {
                let number = match level {
                    Level::Random(scale) => bf16::from_f32(uniform(scale)),
                    Level::One => bf16::ONE,
                    Level::Zero => bf16::ZERO,
                    Level::NegativeZero => bf16::NEG_ZERO,
                    Level::Largest => bf16::from_f32((2.0 - 1.0 / 128.0) * 2_f32.powi(largest)),
                    Level::Lowest => bf16::from_f32((1.0 / 128.0 - 2.0) * 2_f32.powi(largest)),
                    Level::SmallestSubnormal => bf16::from_bits(1),
                    Level::LargestSubnormal => bf16::from_bits(0x807F),
                };
                place.copy_from_slice(&number.to_le_bytes());
            }
            Self::F32(_) => {
                let number = match level {
                    Level::Random(scale) => uniform(scale),
                    Level::One => 1.0,
                    Level::Zero => 0.0,
                    Level::NegativeZero => -0.0,
                    Level::Largest => (2.0 - f32::EPSILON) * 2_f32.powi(largest),
                    Level::Lowest => (f32::EPSILON - 2.0) * 2_f32.powi(largest),
                    Level::SmallestSubnormal => f32::from_bits(1),
                    Level::LargestSubnormal => f32::from_bits(0x807F_FFFF),
                };
                place.copy_from_slice(&number.to_le_bytes());
            }
            Self::E8M0(_) => {
                place[0] = match level {
                    // The power of two below.
                    Level::Random(scale) => (uniform(scale).to_bits() >> 23) as u8,
                    Level::One => 127,
                    Level::Zero | Level::NegativeZero => 0,
                    Level::Largest | Level::Lowest => (127 + largest) as u8,
                    Level::SmallestSubnormal | Level::LargestSubnormal => 1,
                };
            }
            Self::UE4M3(_) => {
                place[0] = match level {
                    Level::Random(scale) => {
                        let value = uniform(scale);
                        ue4m3_nearest(value.abs().into()) | if value < 0.0 { SIGN } else { 0 }
                    }
                    Level::One => 0x38,
                    Level::Zero => 0,
                    Level::NegativeZero => SIGN,
                    Level::Largest => UE4M3_LARGEST,
                    Level::Lowest => UE4M3_LARGEST | SIGN,
                    Level::SmallestSubnormal => 1,
                    Level::LargestSubnormal => 7 | SIGN,
                };
            }
        }
    }
}

/// The bit of a `ue4m3` that counts for nothing.
const SIGN: u8 = 0x80;

/// The largest `ue4m3`, 448; with one more it stands for no number.
const UE4M3_LARGEST: u8 = 0x7E;

/// The f16 at the start of `bytes`.
///
/// # Panics
/// There are less than two bytes.
pub fn half(bytes: &[u8]) -> f64 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f64()
}

/// The bf16 at the start of `bytes`.
///
/// # Panics
/// There are less than two bytes.
pub fn brain(bytes: &[u8]) -> f64 {
    bf16::from_le_bytes([bytes[0], bytes[1]]).to_f64()
}

/// The f32 at the start of `bytes`.
///
/// # Panics
/// There are less than four bytes.
pub fn single(bytes: &[u8]) -> f64 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into()
}

/// The power of two of a byte of type `e8m0`: 2^(byte - 127).
pub fn e8m0(byte: u8) -> f64 {
    2_f64.powi(i32::from(byte) - 127)
}

/// The float of a byte of type `ue4m3`: 4 bits of exponent, 3 of fraction, no sign. The highest bit counts for nothing;
/// 0x7F, which stands for no number, is 0, as ggml has it, and 0xFF is 480.
pub fn ue4m3(byte: u8) -> f64 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f64::from(byte & 7) / 8.0);
    match exponent {
        _ if byte == 0x7F => 0.0,
        0 => fraction * 2_f64.powi(-6),
        _ => (1.0 + fraction) * 2_f64.powi(exponent - 7),
    }
}

/// The byte nearest to `magnitude`: 0x7F, no number, for what is beyond them all.
fn ue4m3_nearest(magnitude: f64) -> u8 {
    static BOUNDS: LazyLock<Vec<f64>> = LazyLock::new(|| {
        // With the highest bit set, so that what follows the largest is 480.
        let between = |byte: u8| (ue4m3(byte | SIGN) + ue4m3((byte + 1) | SIGN)) / 2.0;
        (0..=UE4M3_LARGEST).map(between).collect()
    });
    BOUNDS.partition_point(|&bound| bound < magnitude) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind two bytes of something else.
    const NUMBERS: [Number; 5] =
        [Number::F16(2), Number::BF16(2), Number::F32(2), Number::E8M0(2), Number::UE4M3(2)];

    #[test]
    fn levels_are_the_ends_of_each_type() {
        let (tiny, bf16, f32) = (2_f64.powi(-127), 2_f64.powi(-133), 2_f64.powi(-149));
        // In the order of `NUMBERS`, with 2¹⁰ for the largest numbers of wide range.
        let cases = [
            (Level::One, [1.0, 1.0, 1.0, 1.0, 1.0]),
            (Level::Zero, [0.0, 0.0, 0.0, tiny, 0.0]),
            (Level::NegativeZero, [-0.0, -0.0, -0.0, tiny, 0.0]),
            (Level::Largest, [65504.0, 2040.0, 2048.0 - 2_f64.powi(-13), 1024.0, 448.0]),
            (Level::Lowest, [-65504.0, -2040.0, 2_f64.powi(-13) - 2048.0, 1024.0, 448.0]),
            (Level::SmallestSubnormal, [2_f64.powi(-24), bf16, f32, 2.0 * tiny, 2_f64.powi(-9)]),
            (
                Level::LargestSubnormal,
                [
                    -1023.0 * 2_f64.powi(-24),
                    -127.0 * bf16,
                    f32 - 2_f64.powi(-126),
                    2.0 * tiny,
                    7.0 * 2_f64.powi(-9),
                ],
            ),
        ];
        for (level, expected) in cases {
            for (number, expected) in NUMBERS.into_iter().zip(expected) {
                let mut block = [0xA5; 7];
                number.set(&mut block, level, 10, &mut Random(1));
                assert_eq!(number.value(&block), expected, "{number:?}, {level:?}");
                let place = number.place();
                assert!(
                    (0..7).all(|i| place.contains(&i) || block[i] == 0xA5),
                    "{number:?}, {level:?}: its neighbours changed"
                );
            }
        }
    }

    #[test]
    fn random_numbers_are_of_their_magnitude() {
        let mut random = Random(1);
        for number in NUMBERS {
            let mut values: Vec<f64> = (0..1000)
                .map(|_| {
                    let mut block = [0; 7];
                    number.set(&mut block, Level::Random(0.5), 0, &mut random);
                    number.value(&block).abs()
                })
                .collect();
            values.sort_by(f64::total_cmp);
            // Of a power of two the one below.
            assert!((0.12..=0.3).contains(&values[500]), "{number:?}: {}", values[500]);
            assert!((0.25..=0.5).contains(&values[999]), "{number:?}: {}", values[999]);
        }
    }

    #[test]
    fn the_nearest_small_float_is_nearest() {
        for i in 0..5000 {
            let magnitude = f64::from(i) * 0.1;
            let byte = ue4m3_nearest(magnitude);
            let value = |byte: u8| ue4m3(byte | SIGN);
            let least = (0..=0x7F).map(|byte| (value(byte) - magnitude).abs()).fold(f64::INFINITY, f64::min);
            assert_eq!((value(byte) - magnitude).abs(), least, "{magnitude}: {byte:#X}");
        }
    }

    #[test]
    fn numbers_of_an_array_follow_each_other() {
        for number in NUMBERS {
            let places = number.array::<3>().map(Number::place);
            let size = number.place().len();
            assert_eq!(places, [0, 1, 2].map(|i| 2 + i * size..2 + (i + 1) * size), "{number:?}");
        }
    }
}
