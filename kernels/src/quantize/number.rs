//! The numbers that scales and minima are stored as.

use std::ops::RangeInclusive;

use half::{bf16, f16};

use super::values::Table;
use crate::bytes::each;
use crate::numbers;

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single precision number.
    Bf16,
    /// IEEE single precision.
    F32,
    /// 8 bits of exponent: 2^(bits - 127).
    E8m0,
    /// 4 bits of exponent and 3 of fraction, up to 448.
    Ue4m3,
    /// `first + step · code` for the codes from 0 to `max`.
    Integer {
        /// What code 0 stands for.
        first: i32,
        /// How far apart they are; above 0.
        step: i32,
        /// The largest code.
        max: u8,
    },
    /// Two's complement bytes.
    I8,
    /// The entry of a table.
    Table(&'static Table),
}

impl Number {
    /// The lowest and the highest finite number.
    #[inline]
    pub(super) fn limits(self) -> (f32, f32) {
        match self {
            Self::F16 => (-65504.0, 65504.0),
            Self::F32 => (f32::MIN, f32::MAX),
            // So that a product with any byte is finite.
            Self::Bf16 => (-BF16_MOST, BF16_MOST),
            Self::E8m0 => (exponent(0), exponent(247)),
            Self::Ue4m3 => (0.0, ue4m3(UE4M3_MAX)),
            Self::Integer { first, step, max } => (first as f32, (first + step * i32::from(max)) as f32),
            Self::I8 => (-128.0, 127.0),
            Self::Table(table) => (table.entries()[0], table.entries()[table.entries().len() - 1]),
        }
    }

    /// The bytes that one of a group takes: codes are joined to fewer bits later.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::E8m0 | Self::Ue4m3 | Self::Integer { .. } | Self::I8 | Self::Table(_) => 1,
        }
    }

    /// Whether there are so many that they are not tried one by one.
    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32)
    }

    /// The numbers of a group from the furthest from 0 on, of each sign by itself; not 0.
    pub(super) fn furthest_first(self) -> impl Iterator<Item = f32> {
        let (low, high) = self.limits();
        let walk = move |from: f32, below: bool| {
            let next = move |&number: &f32| self.next(number, below);
            std::iter::successors(Some(from), next).take_while(move |&number| number * from > 0.0)
        };
        walk(high, true).chain(walk(low, false).take_while(move |_| low < 0.0))
    }

    /// The next number, below or above.
    #[inline]
    pub(super) fn next(self, number: f32, below: bool) -> Option<f32> {
        let step = |by: f32| if below { number - by } else { number + by };
        let next = match self {
            Self::F16 => {
                let bits = f16::from_f32(number).to_bits();
                let outwards = (number < 0.0) == below;
                let next = match (number == 0.0, outwards) {
                    (true, _) => {
                        if below {
                            0x8001
                        } else {
                            1
                        }
                    }
                    (false, true) => bits + 1,
                    (false, false) => bits - 1,
                };
                f16::from_bits(next).to_f32()
            }
            Self::Bf16 => {
                let step = |bits: u32| f32::from_bits(bits << 16);
                let bits = number.to_bits() >> 16;
                match (number == 0.0, (number < 0.0) == below) {
                    (true, _) => step(if below { 0x8001 } else { 1 }),
                    (false, true) => step(bits + 1),
                    (false, false) => step(bits - 1),
                }
            }
            Self::F32 => {
                if below {
                    number.next_down()
                } else {
                    number.next_up()
                }
            }
            Self::E8m0 => {
                if below {
                    number / 2.0
                } else {
                    number * 2.0
                }
            }
            Self::Ue4m3 => {
                let bits = self.bits(number) as u8;
                // 0x7F is no number.
                ue4m3(if below { bits.checked_sub(1)? } else { (bits + 1).min(UE4M3_MAX) })
            }
            Self::Integer { step: by, .. } => step(by as f32),
            Self::I8 => step(1.0),
            Self::Table(table) => {
                let at = table.entries().partition_point(|&entry| entry < number);
                *table.entries().get(if below { at.checked_sub(1)? } else { at + 1 })?
            }
        };
        let (low, high) = self.limits();
        (next != number && next >= low && next <= high).then_some(next)
    }

    /// Whether the neighbours of `value` are far enough to be worth a look.
    #[inline]
    pub(super) fn is_coarse(self, value: f32) -> bool {
        match self {
            Self::F16 => value.abs() < F16_FINE,
            Self::F32 => false,
            _ => true,
        }
    }

    /// The exponents of powers of two that a further number of the block may be: none that is rounded, and far from
    /// where a product would overflow.
    pub(super) fn powers(self) -> RangeInclusive<i32> {
        match self {
            Self::F16 => -14..=15,
            Self::Bf16 | Self::F32 | Self::E8m0 => -60..=60,
            Self::Ue4m3 => -9..=8,
            Self::Integer { .. } | Self::I8 | Self::Table(_) => 0..=0,
        }
    }

    /// The number nearest to `value`.
    #[inline]
    pub(super) fn nearest(self, value: f32) -> f32 {
        let (low, high) = self.limits();
        let value = value.clamp(low, high);
        match self {
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
            Self::F32 => value,
            // A fraction of one half or more rounds up, into the exponent.
            Self::E8m0 if value >= 0.75 * f32::MIN_POSITIVE => {
                exponent(((value.to_bits() + (1 << 22)) >> 23) as u8)
            }
            Self::E8m0 => exponent(0),
            // So does one of half a step.
            Self::Ue4m3 if value >= UE4M3_NORMAL => f32::from_bits((value.to_bits() + (1 << 19)) >> 20 << 20),
            Self::Ue4m3 => round(value * 512.0) / 512.0,
            Self::Integer { first, step, .. } => {
                let (first, step) = (first as f32, step as f32);
                first + step * round((value - first) / step)
            }
            Self::I8 => round(value),
            Self::Table(table) => table.nearest_entry(value),
        }
    }

    /// The numbers nearest to `values`.
    #[inline(always)]
    pub(super) fn nearest_each<const L: usize>(self, values: [f32; L]) -> [f32; L] {
        let (low, high) = self.limits();
        let inside = |value: f32| {
            let value = if value > low { value } else { low };
            if value < high { value } else { high }
        };
        match self {
            Self::Integer { first, step, .. } => {
                let (first, step) = (first as f32, step as f32);
                each(|i| first + step * round((inside(values[i]) - first) / step))
            }
            Self::I8 => each(|i| round(inside(values[i]))),
            _ => each(|i| self.nearest(values[i])),
        }
    }

    /// `value`, which is such a number, and its neighbours where these are far enough to be worth a look.
    #[inline]
    pub(super) fn around(self, value: f32) -> impl Iterator<Item = f32> {
        let (mut found, mut count) = ([value; 3], 1);
        if self.is_coarse(value) {
            for below in [true, false] {
                if let Some(next) = self.next(value, below) {
                    found[count] = next;
                    count += 1;
                }
            }
        }
        found.into_iter().take(count)
    }

    /// The bits of `value`, which is such a number.
    pub(super) fn bits(self, value: f32) -> u32 {
        match self {
            Self::F16 => f16::from_f32(value).to_bits().into(),
            Self::Bf16 => value.to_bits() >> 16,
            Self::F32 => value.to_bits(),
            Self::E8m0 => value.to_bits() >> 23,
            Self::Ue4m3 if value >= UE4M3_NORMAL => (value.to_bits() >> 20) - UE4M3_BIAS,
            Self::Ue4m3 => (value * 512.0) as u32,
            Self::Integer { first, step, .. } => ((value as i32 - first) / step) as u32,
            Self::I8 => u32::from(value as i8 as u8),
            Self::Table(table) => table.code(value).into(),
        }
    }

    /// The number that `bits` stand for.
    pub fn value(self, bits: u32) -> f32 {
        match self {
            Self::F16 => f16::from_bits(bits as u16).to_f32(),
            Self::Bf16 => bf16::from_bits(bits as u16).to_f32(),
            Self::F32 => f32::from_bits(bits),
            Self::E8m0 => exponent(bits as u8),
            Self::Ue4m3 => ue4m3(bits as u8),
            Self::Integer { first, step, .. } => (first + step * bits as i32) as f32,
            Self::I8 => f32::from(bits as u8 as i8),
            Self::Table(table) => table.value(bits),
        }
    }
}

/// The whole number nearest to one of magnitude up to 2²², the even one of two: without the instruction for it, which
/// not every x86-64 has.
#[inline(always)]
pub fn round(value: f32) -> f32 {
    // Added to such a number, it leaves no bits for a fraction.
    const LARGE: f32 = (3 << 22) as f32;
    (value + LARGE) - LARGE
}

/// 2^(bits - 127)
fn exponent(bits: u8) -> f32 {
    const VALUES: &[f32; 256] = &numbers::e8m0(1.0);
    VALUES[usize::from(bits)]
}

/// From here on the numbers of f16 are close enough that no neighbour is worth a look: 2^-5 of them at the most, so that a
/// scale is off by 2^-6 and the squared error larger by 2^-12 of that of zeros.
const F16_FINE: f32 = 1.0 / (1 << 19) as f32;
/// The largest bf16 below 2^120.
const BF16_MOST: f32 = f32::from_bits(0x7B7F_0000);
/// The bits of 448, the largest number.
const UE4M3_MAX: u8 = 0x7E;
/// The smallest number with an exponent of its own.
const UE4M3_NORMAL: f32 = 1.0 / 64.0;
/// An f32 has the same bits further up, and an exponent that is larger by 120.
const UE4M3_BIAS: u32 = 120 << 3;

fn ue4m3(bits: u8) -> f32 {
    const VALUES: &[f32; 256] = &numbers::ue4m3(1.0);
    VALUES[usize::from(bits)]
}

#[cfg(test)]
mod tests {
    use super::{Number, Table};

    const TABLE: Table = Table::new(&[3, -9, 100, 0, 7]);
    const NUMBERS: [(Number, u32); 8] = [
        (Number::E8m0, 247),
        (Number::Ue4m3, 0x7E),
        (Number::Integer { first: -32, step: 1, max: 63 }, 63),
        (Number::Integer { first: 1, step: 2, max: 15 }, 15),
        (Number::I8, 255),
        (Number::F16, 0x7BFF),
        (Number::Bf16, 0x7B7F),
        (Number::Table(&TABLE), 4),
    ];

    #[test]
    fn bits_are_numbers_and_numbers_are_their_own_nearest() {
        for (number, last) in NUMBERS {
            for bits in 0..=last {
                let value = number.value(bits);
                assert_eq!(number.bits(value), bits, "{number:?}: {value}");
                assert_eq!(number.nearest(value), value, "{number:?}");
            }
        }
    }

    #[test]
    fn nearest_is_nearest() {
        for (number, last) in NUMBERS {
            for i in -400..400 {
                let value = (i as f32 * 0.0137).sinh() * 3.0;
                let nearest = number.nearest(value);
                let distance = |bits| (number.value(bits) - value).abs();
                let least = (0..=last).map(distance).fold(f32::INFINITY, f32::min);
                if !number.is_float() || value >= 0.0 {
                    assert_eq!((nearest - value).abs(), least, "{number:?}: {value} became {nearest}");
                }
            }
        }
    }

    #[test]
    fn neighbours_are_the_next_numbers_and_never_outside() {
        for (number, last) in NUMBERS.into_iter().filter(|(number, _)| !number.is_float()) {
            let mut all: Vec<f32> = (0..=last).map(|bits| number.value(bits)).collect();
            all.sort_by(f32::total_cmp);
            for (i, &value) in all.iter().enumerate() {
                let mut around: Vec<f32> = number.around(value).collect();
                around.sort_by(f32::total_cmp);
                assert_eq!(around, all[i.saturating_sub(1)..(i + 2).min(all.len())], "{number:?}: {value}");
            }
        }
    }
}
