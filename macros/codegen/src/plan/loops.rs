//! Loops over the chunks of a long block: chunks that differ in nothing but where they lie are one piece of code.
//!
//! Without loops a block of 4,096 weights is 128 pieces of code in each kernel, and the compiler takes minutes for
//! functions of that length.

use super::{BitRun, Chunk, ChunkCodes, Plane};

/// Chunks that are worked on in several turns, in each of them somewhere else in the block.
pub struct Loop {
    pub turns: usize,
    /// As they are before they are moved.
    pub chunks: Vec<Chunk>,
}

/// How far something is moved in each turn of a loop; empty where there is no loop.
#[derive(Clone, Default, PartialEq)]
pub struct Moves(pub Vec<usize>);

/// Bytes that can be loaded from the place of a plane, however few it takes.
const LOAD: usize = 16;

/// The most chunks that vector kernels work on without a loop, and the most in one turn: those of GGUF's largest blocks.
pub const UNROLLED: usize = 8;

/// All chunks of a block of so many bytes, in loops where there are more than `unrolled`.
pub fn loops(chunks: &[Chunk], bytes: usize, unrolled: usize) -> Vec<Loop> {
    if chunks.len() <= unrolled {
        return vec![Loop { turns: 1, chunks: chunks.to_vec() }];
    }
    let mut shapes = Vec::new();
    let placed: Vec<_> = chunks.iter().map(|chunk| Placed::of(chunk, bytes, &mut shapes)).collect();
    strided(&placed).unwrap_or_else(|| by_shape(&placed, shapes.len()))
}

/// A chunk, what it has in common with others, and what it has not.
struct Placed<'c> {
    chunk: &'c Chunk,
    /// The number of what remains of it when all places are 0.
    shape: usize,
    /// Its number, and the first byte of each part.
    places: Vec<usize>,
}

impl<'c> Placed<'c> {
    fn of(chunk: &'c Chunk, bytes: usize, shapes: &mut Vec<Chunk>) -> Self {
        let (mut rest, mut places) = (chunk.clone(), vec![chunk.number]);
        rest.number = 0;
        for mut part in rest.parts() {
            let place = part.place(bytes);
            part.move_back(place);
            places.push(place);
        }
        let shape = shapes.iter().position(|shape| *shape == rest).unwrap_or_else(|| {
            shapes.push(rest);
            shapes.len() - 1
        });
        Self { chunk, shape, places }
    }
}

/// Loops whose turns are a stride apart, in the order in which the chunks are given, so that those which share bytes
/// stay together; `None` where that takes more pieces of code than [`UNROLLED`].
fn strided(chunks: &[Placed]) -> Option<Vec<Loop>> {
    let (mut loops, mut rest) = (Vec::new(), chunks);
    let mut room = UNROLLED;
    while !rest.is_empty() {
        // The shortest of those with the most turns: the last.
        let lengths = (1..=room.min(rest.len())).rev();
        let (turns, length) =
            lengths.map(|length| (turns(rest, length), length)).max_by_key(|found| found.0)?;
        let (looped, others) = rest.split_at(turns * length);
        let chunks = (0..length).map(|k| joined(looped.iter().skip(k).step_by(length))).collect();
        loops.push(Loop { turns, chunks });
        (rest, room) = (others, room - length);
    }
    Some(loops)
}

/// How many times the first `length` chunks are there, each time the same stride further.
fn turns(chunks: &[Placed], length: usize) -> usize {
    let is_turn = |turn: usize| {
        (0..length).all(|k| {
            let [first, second, other] = [0, 1, turn].map(|turn| &chunks[turn * length + k]);
            let mut places = first.places.iter().zip(&second.places).zip(&other.places);
            other.shape == first.shape
                && places.all(|((&first, &second), &other)| {
                    second >= first && other == first + turn * (second - first)
                })
        })
    };
    1 + (1..chunks.len() / length).take_while(|&turn| is_turn(turn)).count()
}

/// A loop for each shape.
fn by_shape(chunks: &[Placed], shapes: usize) -> Vec<Loop> {
    let of_shape = |shape| {
        let same = || chunks.iter().filter(move |chunk| chunk.shape == shape);
        Loop { turns: same().count(), chunks: vec![joined(same())] }
    };
    (0..shapes).map(of_shape).collect()
}

/// One chunk for all turns, of the same shape in each.
fn joined<'c>(turns: impl Iterator<Item = &'c Placed<'c>> + Clone) -> Chunk {
    let mut chunks = turns.clone();
    let Some(first) = chunks.next() else { unreachable!("a loop has a turn") };
    let mut joined = first.chunk.clone();
    if chunks.next().is_none() {
        return joined;
    }
    // The least of all turns, and how far from there.
    let place = |p: usize| {
        let places = turns.clone().map(move |turn| turn.places[p]);
        let least = places.clone().min().unwrap_or(0);
        (least, Moves(places.map(|place| place - least).collect()))
    };
    (joined.number, joined.moves) = place(0);
    for (p, mut part) in joined.parts().into_iter().enumerate() {
        let (least, moves) = place(p + 1);
        part.move_back(first.places[p + 1] - least);
        *part.moves() = moves;
    }
    joined
}

impl Moves {
    /// The distance of each turn from the one before, where it is the same for all.
    pub fn stride(&self) -> Option<usize> {
        let &[first, second, ..] = &self.0[..] else { return None };
        let is_stride = |(turn, &by): (usize, &usize)| by == turn * (second - first);
        (first == 0 && self.0.iter().enumerate().all(is_stride)).then_some(second)
    }
}

/// A part of a chunk's codes that lies in one place.
enum Part<'c> {
    Plane(&'c mut Plane),
    Bits(&'c mut BitRun),
}

impl<'c> Part<'c> {
    /// From where it is moved in a block of so many bytes: its first one, or an earlier one where fewer than [`LOAD`] follow.
    fn place(&self, bytes: usize) -> usize {
        match self {
            Self::Plane(plane) => plane.first_byte().min(bytes.saturating_sub(LOAD)),
            Self::Bits(run) => run.first / 8,
        }
    }

    fn move_back(&mut self, bytes: usize) {
        match self {
            Self::Plane(plane) => plane.bytes.iter_mut().for_each(|byte| *byte -= bytes),
            Self::Bits(run) => run.first -= 8 * bytes,
        }
    }

    fn moves(&mut self) -> &mut Moves {
        match self {
            Self::Plane(plane) => &mut plane.moves,
            Self::Bits(run) => &mut run.moves,
        }
    }
}

impl Chunk {
    fn parts(&mut self) -> Vec<Part<'_>> {
        let codes: Vec<_> = match &mut self.codes {
            ChunkCodes::Planes(planes) => planes.iter_mut().map(Part::Plane).collect(),
            ChunkCodes::Digits { bytes, .. } => vec![Part::Plane(bytes)],
            ChunkCodes::Entries(entries) => {
                entries.iter_mut().flat_map(|entry| &mut entry.0).map(Part::Bits).collect()
            }
        };
        let signs = self.signs.iter_mut().flat_map(|signs| &mut signs.0).map(Part::Bits);
        codes.into_iter().chain(signs).collect()
    }

    /// How its parts are moved: each way once.
    pub fn moves_of_parts(&self) -> Vec<Moves> {
        let mut ways: Vec<Moves> = Vec::new();
        for mut part in self.clone().parts() {
            let moves = std::mem::take(part.moves());
            if !moves.0.is_empty() && !ways.contains(&moves) {
                ways.push(moves);
            }
        }
        ways
    }
}
