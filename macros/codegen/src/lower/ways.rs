//! Ways to a chunk's codes: where a plane's bytes lie so that a few loads and shifts bring all of them.

use std::collections::BTreeSet;

use crate::model::CHUNK;
use crate::plan::Plane;

/// Offsets are relative to the bytes of the block; shifts are to the right, negative ones to the left.
pub enum Way {
    /// 32 consecutive bytes under one shift.
    Run { offset: usize, shift: i32 },
    /// Twice 16 consecutive bytes, each half under its own shift.
    Halves { offsets: [usize; 2], shifts: [i32; 2] },
    /// Four times 8 consecutive bytes, each quarter under its own shift.
    Quarters { offsets: [usize; 4], shifts: [i32; 4] },
    /// Eight times 4 consecutive bytes, each eighth under its own shift.
    Eighths { offsets: [usize; 8], shifts: [i32; 8] },
    /// For each half one byte under one shift, which all of its codes take.
    Spread { bytes: [usize; 2], shifts: [i32; 2] },
    /// One bit each: for each half a window of 16 bytes, from which every code takes a byte, and of that a bit.
    Bits { windows: [usize; 2], index: [u8; CHUNK], bits: [u8; CHUNK] },
    /// For each half a window of 16 bytes, from which every code takes a byte and a shift.
    Shuffle { windows: [usize; 2], index: [u8; CHUNK] },
    /// The same with codes that go on into the next byte, or into the one before.
    Words { windows: [usize; 2], index: [u8; CHUNK] },
}

impl Way {
    /// The first that fits, of those above from the top, to the codes of `plane` in `len` bytes.
    pub fn of(plane: &Plane, len: usize) -> Self {
        // The places of `N` runs of consecutive bytes, each under one shift.
        fn runs<const N: usize>(Plane { bytes, shifts, .. }: &Plane) -> Option<([usize; N], [i32; N])> {
            let first = |part: usize| part * (CHUNK / N);
            let (offsets, of_runs) = (
                std::array::from_fn(|part| bytes[first(part)]),
                std::array::from_fn(|part| shifts[first(part)]),
            );
            let fits = |i: usize| {
                let part = i / (CHUNK / N);
                bytes[i] == offsets[part] + i % (CHUNK / N) && shifts[i] == of_runs[part]
            };
            (0..CHUNK).all(fits).then_some((offsets, of_runs))
        }
        if plane.straddles() {
            let (windows, index) = windows(plane, len).expect("a half spans at most 16 bytes");
            return Self::Words { windows, index };
        }
        if let Some(([offset], [shift])) = runs(plane) {
            return Self::Run { offset, shift };
        }
        if let Some((offsets, shifts)) = runs(plane) {
            return Self::Halves { offsets, shifts };
        }
        if let Some((offsets, shifts)) = runs(plane) {
            return Self::Quarters { offsets, shifts };
        }
        if let Some((offsets, shifts)) = runs(plane) {
            return Self::Eighths { offsets, shifts };
        }
        // What all of a half have in common, as codes of groups are.
        let half = |i: usize| i / (CHUNK / 2) * (CHUNK / 2);
        if (0..CHUNK)
            .all(|i| plane.bytes[i] == plane.bytes[half(i)] && plane.shifts[i] == plane.shifts[half(i)])
        {
            let firsts = [0, CHUNK / 2];
            return Self::Spread {
                bytes: firsts.map(|i| plane.bytes[i]),
                shifts: firsts.map(|i| plane.shifts[i]),
            };
        }
        // The checker has seen to it that a half spans at most 16 bytes of a block of at least 16.
        let (windows, index) = windows(plane, len).expect("a half spans at most 16 bytes");
        if plane.mask.is_power_of_two() {
            let position = plane.mask.trailing_zeros() as i32;
            return Self::Bits { windows, index, bits: plane.shifts.map(|shift| 1 << (shift + position)) };
        }
        Self::Shuffle { windows, index }
    }

    /// Vectors that only scattered bits need: the index, and a mask for each shift or one for all.
    pub fn constants(&self, plane: &Plane) -> usize {
        match self {
            Self::Run { .. } | Self::Halves { .. } | Self::Quarters { .. } | Self::Eighths { .. } => 0,
            // Its loads broadcast.
            Self::Spread { .. } => 0,
            Self::Bits { .. } => 2,
            Self::Words { .. } => 4,
            Self::Shuffle { .. } => 1 + plane.shifts.iter().collect::<BTreeSet<_>>().len(),
        }
    }
}

/// For each half of the codes a window of 16 of `len` bytes, and of each code the byte in it; `None` where the bytes of a
/// half are further apart.
pub fn windows(plane: &Plane, len: usize) -> Option<([usize; 2], [u8; CHUNK])> {
    let of_half = |half: usize| {
        let codes = half * (CHUNK / 2)..(half + 1) * (CHUNK / 2);
        let mut bytes = codes.flat_map(|i| [Some(plane.bytes[i]), plane.other_byte(i)]).flatten();
        let first = bytes.clone().min().unwrap_or(0).min(len.checked_sub(16)?);
        bytes.all(|byte| byte < first + 16).then_some(first)
    };
    let windows = [of_half(0)?, of_half(1)?];
    let index = std::array::from_fn(|i| (plane.bytes[i] - windows[i / (CHUNK / 2)]) as u8);
    Some((windows, index))
}
