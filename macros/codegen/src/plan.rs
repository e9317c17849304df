//! The steps of each operation, free of any instruction set: which bytes a vector of codes comes from,
//! which scale each lane needs, how many rows go through the registers together.

use std::ops::Range;

use self::block_sums::{BlockSums, block_sums};
use self::loops::UNROLLED;
pub use self::loops::{Loop, Moves};
use self::quantizer::{Quantizer, quantizer};
use crate::model::{
    CHUNK, Codes, Cut, Field, FieldType, Format, GroupScale, Piece, Product, SIGNS, ScaleValue, Term, Value,
};

pub mod block_sums;
mod loops;
pub mod quantizer;

/// 32-bit lanes of a dot product over one chunk; each sums four weights.
pub const LANES: usize = 8;

/// Group scales are held in vectors of this many floats.
const SCALES_PER_VECTOR: usize = 8;

/// Everything that lowering needs to know of a format.
pub struct Plan<'f> {
    pub format: &'f Format,
    /// All chunks in the order in which they are worked on: those that share bytes follow each other, so that these
    /// are loaded once and need no register for long.
    pub loops: Vec<Loop>,
    /// The same in as few pieces of code as loops can make of them.
    pub short_loops: Vec<Loop>,
    pub scale: Scale<'f>,
    pub minimum: Option<Minimum<'f>>,
    /// How a block is summed in integers, where its codes and scales leave room for that.
    pub block_sums: Option<BlockSums>,
    /// Or why there is none.
    pub quantizer: Result<Quantizer, String>,
}

/// How a product of scales is computed: factors of the block, and of its groups.
pub struct Scale<'f> {
    pub block: Vec<Factor>,
    pub groups: Vec<GroupFactor<'f>>,
    /// The weights that have one product; `None` where all of a block have.
    pub size: Option<usize>,
}

/// A factor of which each group has one.
pub struct GroupFactor<'f> {
    pub scale: &'f GroupScale,
    /// How many products follow each other that have the same one: 1 where no other factor has smaller groups.
    pub repeats: usize,
    /// What the table of the groups' numbers is multiplied by, where they have one.
    pub constant: f32,
    /// The number of the block that is added.
    pub offset: Option<(bool, Factor)>,
    /// Where the codes of the groups come from, if each is joined from several runs of bits and all have the same ones: the first
    /// code at the first place of each plane. Codes of one run are taken one by one, which is as fast or faster (with AVX2
    /// on Zen 3 IQ2_S is by a tenth, while IQ4_XS is slower by a seventh).
    pub planes: Option<Vec<Plane>>,
}

/// What is added to the weights of a group, or subtracted.
pub struct Minimum<'f> {
    pub scale: Scale<'f>,
    pub subtract: bool,
}

/// A factor that all weights of a block share.
pub enum Factor {
    F16 {
        offset: usize,
    },
    BF16 {
        offset: usize,
    },
    F32 {
        offset: usize,
    },
    /// A number of 8 bits, times a constant that its table takes in.
    Number {
        ty: FieldType,
        offset: usize,
        constant: f32,
    },
    Constant(f32),
}

/// [`CHUNK`] consecutive weights of a block.
#[derive(Clone, PartialEq)]
pub struct Chunk {
    /// Which of the block's chunks.
    pub number: usize,
    /// How its number changes in a loop.
    pub moves: Moves,
    pub codes: ChunkCodes,
    /// One code for each [`SIGNS`] weights, joined to one.
    pub signs: Option<Picked>,
}

/// Where a chunk's codes come from.
#[derive(Clone, PartialEq)]
pub enum ChunkCodes {
    /// Planes, to be joined by OR.
    Planes(Vec<Plane>),
    /// Digits: of each of the whole bytes of a plane the one that its power says.
    Digits { bytes: Box<Plane>, powers: [u8; CHUNK], base: usize, are_fractions: bool },
    /// Entries of a codebook.
    Entries(Vec<Picked>),
}

/// Where a chunk's bits of one plane come from.
#[derive(Clone, PartialEq)]
pub struct Plane {
    /// For each code the byte of the block, which has the low bits where some are in another.
    pub bytes: [usize; CHUNK],
    /// By how many bits that is shifted to the right, or to the left where it is negative.
    pub shifts: [i32; CHUNK],
    /// How it is moved in a loop.
    pub moves: Moves,
    /// Which bits of each byte remain after the shift.
    pub mask: u8,
    /// Whether codes that go on into another byte have their high bits in the one before, not in the one after.
    pub highest_first: bool,
}

/// A single code, the OR of runs of bits.
#[derive(Clone, PartialEq)]
pub struct Picked(pub Vec<BitRun>);

/// Consecutive bits of a block, bytes in little-endian order.
#[derive(Clone, PartialEq)]
pub struct BitRun {
    /// The first, counted from the start of the block.
    pub first: usize,
    /// How it is moved in a loop, in bytes.
    pub moves: Moves,
    pub bits: usize,
    /// Of the first, within the code.
    pub position: usize,
}

impl Picked {
    /// Codes of as many bits each, the first in the lowest.
    fn joined(codes: Vec<Self>) -> Self {
        let mut joined: Vec<BitRun> = Vec::new();
        let mut position = 0;
        for Self(runs) in codes {
            let bits = runs.iter().map(|run| run.position + run.bits).max().unwrap_or(0);
            for run in runs {
                let run = BitRun { position: position + run.position, ..run };
                match joined.last_mut() {
                    // They follow each other in the block, too.
                    Some(last)
                        if last.first + last.bits == run.first
                            && last.position + last.bits == run.position =>
                    {
                        last.bits += run.bits;
                    }
                    _ => joined.push(run),
                }
            }
            position += bits;
        }
        Self(joined)
    }
}

impl Plane {
    fn first_byte(&self) -> usize {
        (0..CHUNK).flat_map(|i| [Some(self.bytes[i]), self.other_byte(i)]).flatten().min().unwrap_or(0)
    }

    /// The byte that has the high bits of a code, the `i`-th, if it goes on into another.
    pub fn other_byte(&self, i: usize) -> Option<usize> {
        let highest = u8::BITS as i32 - 1 - self.mask.leading_zeros() as i32;
        let goes_on = self.shifts[i] + highest >= u8::BITS as i32;
        goes_on.then(|| if self.highest_first { self.bytes[i] - 1 } else { self.bytes[i] + 1 })
    }

    /// Whether any code goes on into another byte.
    pub fn straddles(&self) -> bool {
        (0..CHUNK).any(|i| self.other_byte(i).is_some())
    }
}

/// Which of the group scales apply to eight consecutive lanes.
pub struct Lanes {
    /// Which vector of scales.
    pub vector: usize,
    pub index: [u8; LANES],
}

pub fn plan(format: &Format) -> Plan<'_> {
    let chunk =
        |number| Chunk {
            number,
            moves: Moves::default(),
            codes: chunk_codes(format, number),
            signs: format.weight.signs.as_ref().map(|signs| {
                Picked::joined(picked(format, &format.codes[signs.code], number, CHUNK / SIGNS))
            }),
        };
    let mut chunks: Vec<_> = (0..format.chunks()).map(chunk).collect();
    chunks.sort_by_key(|chunk| chunk.codes.first_byte());
    let minimum = format
        .weight
        .minimum
        .as_ref()
        .map(|minimum| Minimum { scale: scale(format, &minimum.product), subtract: minimum.subtract });
    let block_sums = block_sums(format, &chunks);
    let short_loops = loops::loops(&chunks, format.bytes(), 1);
    let loops = loops::loops(&chunks, format.bytes(), UNROLLED);
    let scale = scale(format, &format.weight.scale);
    Plan { format, loops, short_loops, scale, minimum, block_sums, quantizer: quantizer(format) }
}

/// A constant costs nothing where the table of a number of 8 bits takes it in, the block's before the groups'.
fn scale<'f>(format: &'f Format, product: &'f Product) -> Scale<'f> {
    let mut constant = product.constant;
    let mut take = || std::mem::replace(&mut constant, 1.0);
    let mut block: Vec<_> =
        product.block.iter().map(|&field| factor(&format.fields[field], &mut take)).collect();
    let size = product.groups.iter().map(|group| group.size).reduce(gcd);
    let mut group = |scale: &'f GroupScale| {
        let repeats = scale.size / size.unwrap_or(scale.size);
        let by_table = matches!(scale.value, ScaleValue::Number(ty) if ty.bytes() == 1);
        let codes = scale.code().filter(|_| repeats == 1).map(|code| &format.codes[code]);
        GroupFactor {
            scale,
            repeats,
            constant: if by_table { take() } else { 1.0 },
            offset: scale
                .offset
                .map(|offset| (offset.subtract, factor(&format.fields[offset.field], &mut || 1.0))),
            planes: codes.and_then(|codes| group_planes(format, codes)),
        }
    };
    let groups = product.groups.iter().map(&mut group).collect();
    if constant != 1.0 {
        block.push(Factor::Constant(constant));
    }
    Scale { block, groups, size }
}

/// A number of the block, whose table, if it has one, takes in what `constant` gives.
fn factor(field: &Field, constant: &mut impl FnMut() -> f32) -> Factor {
    let (ty, offset) = (field.ty, field.offset);
    match ty {
        FieldType::F16 => Factor::F16 { offset },
        FieldType::BF16 => Factor::BF16 { offset },
        FieldType::F32 => Factor::F32 { offset },
        _ => Factor::Number { ty, offset, constant: constant() },
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The planes of the codes of groups, which stand at their places again and again.
fn group_planes(format: &Format, codes: &Codes) -> Option<Vec<Plane>> {
    let cuts = |piece: &Piece| -> Vec<_> {
        let cut = |term: &Term| match term.cut {
            Cut::Bits { bits, position, .. } => Some((bits, position)),
            Cut::Digit { .. } => None,
        };
        piece.terms.iter().map(cut).collect()
    };
    let first = cuts(&codes.pieces[0]);
    let is_part = |cut: &Option<(usize, usize)>| cut.is_some_and(|(bits, position)| position + bits <= 8);
    let alike = codes.pieces.iter().all(|piece| cuts(piece) == first);
    if first.len() == 1 || codes.len() > CHUNK || !alike || !first.iter().all(is_part) {
        return None;
    }
    let plane = |plane: usize| {
        let element = |i: usize| i % codes.len();
        let bits = first[plane].map_or(0, |(bits, _)| bits);
        let in_one_byte = places(format, codes, plane, element).iter().all(|(_, within)| within + bits <= 8);
        bits_of_codes(format, codes, plane, element).filter(|_| in_one_byte)
    };
    (0..first.len()).map(plane).collect()
}

/// The bits of one plane of codes, of which `element` tells which is at each place; `None` for digits.
fn bits_of_codes(
    format: &Format,
    codes: &Codes,
    plane: usize,
    element: impl Fn(usize) -> usize,
) -> Option<Plane> {
    let places = places(format, codes, plane, element);
    match codes.pieces[0].terms[plane].cut {
        Cut::Digit { .. } => None,
        Cut::Bits { bits, position, highest_first, .. } => {
            let shifts = places.map(|(_, within)| within as i32 - position as i32);
            let mask = (((1_u32 << bits) - 1) << position) as u8;
            let bytes = places.map(|(byte, _)| byte);
            Some(Plane { bytes, shifts, moves: Moves::default(), mask, highest_first })
        }
    }
}

/// For each place the byte of the block that has the plane of the code, and where within.
fn places(
    format: &Format,
    codes: &Codes,
    plane: usize,
    element: impl Fn(usize) -> usize,
) -> [(usize, usize); CHUNK] {
    std::array::from_fn(|i| {
        let (piece, e) = codes.piece_of(element(i));
        let term = &piece.terms[plane];
        let place = piece.locate(term, e);
        (format.fields[term.field].offset + place.byte, place.within)
    })
}

impl ChunkCodes {
    pub fn planes(&self) -> usize {
        match self {
            Self::Planes(planes) => planes.len(),
            Self::Digits { .. } | Self::Entries(_) => 1,
        }
    }

    fn first_byte(&self) -> usize {
        match self {
            Self::Planes(planes) => planes[0].first_byte(),
            Self::Digits { bytes, .. } => bytes.first_byte(),
            Self::Entries(entries) => entries[0].0[0].first / 8,
        }
    }
}

impl Plan<'_> {
    /// In how many parts a chunk has scales of its own, 1 or 2, which is what panels of `gemm` hold; or why there is no
    /// `gemm`.
    pub fn panel_groups(&self) -> Result<usize, String> {
        let scales = std::iter::once(&self.scale).chain(self.minimum.as_ref().map(|minimum| &minimum.scale));
        let smallest = scales.filter_map(|scale| scale.size).min();
        match smallest {
            Some(size) if size < CHUNK / 2 => Err(format!(
                "each {size} weights have a scale or minimum of their own, and panels hold one for each {} at least",
                CHUNK / 2
            )),
            _ => Ok(smallest.map_or(1, |size| CHUNK.div_ceil(size))),
        }
    }

    /// The scales of the eight lanes of `chunk`'s dot product, four weights to a lane, where `size` weights have one.
    pub fn dot_lanes(&self, size: usize, chunk: usize) -> Lanes {
        lanes(size, chunk * CHUNK, CHUNK / LANES)
    }

    /// The scales of eight consecutive weights, the `eighth`-th such run of the block.
    pub fn weight_lanes(&self, size: usize, eighth: usize) -> Lanes {
        lanes(size, eighth * LANES, 1)
    }

    /// How totals of weights, vectors with a lane for every `per_lane` of a block, become sums over the groups of `scale`.
    ///
    /// An entry for each of its [`scale_vectors`](Self::scale_vectors): the vectors whose lanes, one after the other, are to
    /// be cut into eight runs, a group each; a vector is itself the sum over a range of totals, empty beyond the last group.
    pub fn sums(&self, scale: &Scale, per_lane: usize) -> Vec<Vec<Range<usize>>> {
        let per_total = LANES * per_lane;
        let totals = self.format.len / per_total;
        let Some(size) = scale.size else { return vec![vec![0..totals]] };
        let (vectors, totals_of_each) = (LANES.min(size / per_lane), size.div_ceil(per_total));
        let run = |first: usize| {
            let range = first * totals_of_each..(first + 1) * totals_of_each;
            if range.end <= totals { range } else { 0..0 }
        };
        (0..self.scale_vectors(scale)).map(|v| (v * vectors..(v + 1) * vectors).map(run).collect()).collect()
    }

    /// Vectors that hold `scale` of all groups.
    pub fn scale_vectors(&self, scale: &Scale) -> usize {
        scale.size.map_or(1, |size| (self.format.len / size).div_ceil(SCALES_PER_VECTOR))
    }
}

/// Eight lanes of `weights_per_lane` weights, from weight `first` on. Groups of at least four weights
/// that divide a chunk or hold whole chunks keep all eight in one vector.
fn lanes(size: usize, first: usize, weights_per_lane: usize) -> Lanes {
    let scale = |lane: usize| (first + lane * weights_per_lane) / size;
    let vector = scale(0) / SCALES_PER_VECTOR;
    Lanes { vector, index: std::array::from_fn(|lane| (scale(lane) % SCALES_PER_VECTOR) as u8) }
}

fn chunk_codes(format: &Format, chunk: usize) -> ChunkCodes {
    let codes = format.weight_codes();
    if let Value::Codebook { weights, .. } = format.weight.value {
        return ChunkCodes::Entries(picked(format, codes, chunk, CHUNK / weights));
    }
    let element = |i: usize| chunk * CHUNK + i;
    let planes = (0..codes.pieces[0].terms.len()).map(|plane| bits_of_codes(format, codes, plane, element));
    match codes.pieces[0].terms[0].cut {
        Cut::Bits { .. } => {
            ChunkCodes::Planes(planes.chain(planes_of_choice(format, element)).flatten().collect())
        }
        Cut::Digit { base, is_fraction: are_fractions, .. } => {
            let places = places(format, codes, 0, element);
            let powers = places.map(|(_, power)| power as u8);
            let bytes = places.map(|(byte, _)| byte);
            let (shifts, moves) = ([0; CHUNK], Moves::default());
            let bytes = Plane { bytes, shifts, moves, mask: u8::MAX, highest_first: false };
            ChunkCodes::Digits { bytes: Box::new(bytes), powers, base, are_fractions }
        }
    }
}

/// The planes of the codes that choose a table, of which `element` tells the weight at each place: for the lookup they are those
/// of the code of each weight of a group, above its own bits.
fn planes_of_choice(
    format: &Format,
    element: impl Fn(usize) -> usize,
) -> impl Iterator<Item = Option<Plane>> {
    let bits = format.weight_codes().bits();
    format.weight.choice().into_iter().flat_map(move |choice| {
        let codes = &format.codes[choice.code];
        let above = |plane: Plane| Plane {
            shifts: plane.shifts.map(|shift| shift - bits as i32),
            mask: plane.mask << bits,
            ..plane
        };
        let element = |i: usize| element(i) / choice.size;
        let planes =
            (0..codes.pieces[0].terms.len()).map(|plane| bits_of_codes(format, codes, plane, element));
        planes.map(|plane| plane.map(above)).collect::<Vec<_>>()
    })
}

/// The codes of a chunk that has `count` of them, one by one.
fn picked(format: &Format, codes: &Codes, chunk: usize, count: usize) -> Vec<Picked> {
    let code = |e| {
        let (piece, e) = codes.piece_of(e);
        let runs = |term: &Term| -> Vec<_> {
            let Cut::Bits { bits, mut position, highest_first, .. } = term.cut else {
                unreachable!("the checker lets neither entries nor signs be digits")
            };
            let place = piece.locate(term, e);
            let parts =
                if highest_first { term.parts(place) } else { vec![(place.byte, place.within, bits)] };
            let run = |(byte, within, bits)| {
                let first = 8 * (format.fields[term.field].offset + byte) + within;
                let run = BitRun { first, moves: Moves::default(), bits, position };
                position += bits;
                run
            };
            parts.into_iter().map(run).collect()
        };
        Picked(piece.terms.iter().flat_map(runs).collect())
    };
    (chunk * count..(chunk + 1) * count).map(code).collect()
}
