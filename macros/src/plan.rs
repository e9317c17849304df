//! The steps of each operation, free of any instruction set: which bytes a vector of codes comes from,
//! which scale each lane needs, how many rows go through the registers together.

use std::collections::BTreeSet;

use crate::model::{CHUNK, Codes, Format, GroupScale, Product, Term, Value};

/// 32-bit lanes of a dot product over one chunk; each sums four weights.
pub const LANES: usize = 8;

/// Group scales are held in vectors of this many floats.
const SCALES_PER_VECTOR: usize = 8;

/// Everything that lowering needs to know of a format.
pub struct Plan<'f> {
    pub format: &'f Format,
    /// In the order in which they are worked on: those that share bytes follow each other, so that these are
    /// loaded once and need no register for long.
    pub chunks: Vec<Chunk>,
    pub quantizer: Option<Quantizer>,
}

/// [`CHUNK`] consecutive weights of a block.
pub struct Chunk {
    /// Which of the block's chunks.
    pub number: usize,
    /// The planes of their codes, to be joined by OR.
    pub planes: Vec<Plane>,
}

/// Where a chunk's bits of one plane come from.
pub struct Plane {
    pub source: Source,
    /// Which bits of each byte remain after the shift.
    pub mask: u8,
}

/// Byte offsets are relative to the block; shifts are to the right, negative ones to the left.
pub enum Source {
    /// 32 consecutive bytes under one shift.
    Run { offset: usize, shift: i32 },
    /// Twice 16 consecutive bytes, each half under its own shift.
    Halves { offsets: [usize; 2], shifts: [i32; 2] },
    /// Four times 8 consecutive bytes, each quarter under its own shift.
    Quarters { offsets: [usize; 4], shifts: [i32; 4] },
    /// Eight times 4 consecutive bytes, each eighth under its own shift.
    Eighths { offsets: [usize; 8], shifts: [i32; 8] },
    /// One bit each: for each half a window of 16 bytes, from which every code takes a byte, and of that a bit.
    Bits { windows: [usize; 2], index: [u8; CHUNK], bits: [u8; CHUNK] },
    /// For each half a window of 16 bytes, from which every code takes a byte and a shift.
    Shuffle { windows: [usize; 2], index: [u8; CHUNK], shifts: [i32; CHUNK] },
}

impl Source {
    /// Vectors that only scattered bits need: the index, and a mask for each shift or one for all.
    fn constants(&self) -> usize {
        match self {
            Self::Run { .. } | Self::Halves { .. } | Self::Quarters { .. } | Self::Eighths { .. } => 0,
            Self::Bits { .. } => 2,
            Self::Shuffle { shifts, .. } => 1 + shifts.iter().collect::<BTreeSet<_>>().len(),
        }
    }

    fn first_byte(&self) -> usize {
        match self {
            Self::Run { offset, .. } => *offset,
            Self::Halves { offsets: [first, _], .. }
            | Self::Quarters { offsets: [first, ..], .. }
            | Self::Eighths { offsets: [first, ..], .. }
            | Self::Bits { windows: [first, _], .. }
            | Self::Shuffle { windows: [first, _], .. } => *first,
        }
    }
}

/// Which of the group scales apply to eight consecutive lanes.
pub struct Lanes {
    /// Which vector of scales.
    pub vector: usize,
    pub index: [u8; LANES],
}

/// What the quantizer fills in besides codes.
pub struct Quantizer {
    /// The field of the block's number in the scale.
    pub scale: usize,
    /// That in the minimum, where there is one.
    pub minimum: Option<usize>,
    /// Further factors of the block, which become 1.
    pub ones: Vec<usize>,
    /// ggml's rule for such a formula, where it has one.
    pub reference: Option<Reference>,
}

/// The rules of `quantloom_kernels::quantize::Reference`.
pub enum Reference {
    Furthest { zero: u8, max: u8 },
    Symmetric { limit: u8, zero: u8 },
    Range { max: u8 },
    Mean { negative: u8 },
}

pub fn plan(format: &Format) -> Plan<'_> {
    let codes = format.weight_codes();
    let chunk = |number| Chunk {
        number,
        planes: codes.terms.iter().map(|term| plane(format, codes, term, number)).collect(),
    };
    let mut chunks: Vec<_> = (0..format.chunks()).map(chunk).collect();
    chunks.sort_by_key(|chunk| chunk.planes[0].source.first_byte());
    Plan { format, chunks, quantizer: quantizer(format) }
}

impl Plan<'_> {
    /// How many rows share one pass over the activations of `vectors` vectors: of 4, 2 and 1 as many as fit so many
    /// registers without a spill.
    ///
    /// A row holds its sums for each vector, its scales and the bytes that its chunks share, of each plane after the first.
    /// Beside them a step needs activations, seed, steps, codes, mask and product; for each plane after the
    /// first its own bits and mask; for scattered bits an index and a mask for each shift; for group scales
    /// those of its lanes.
    pub fn rows(&self, registers: usize, vectors: usize) -> usize {
        const STEP: usize = 6;
        let weight = &self.format.weight;
        let scales = |product: &Product| product.group.as_ref().map_or(1, |group| self.scale_vectors(group));
        let minimum = weight.minimum.as_ref().map_or(0, |minimum| scales(&minimum.product));
        let planes = self.format.weight_codes().terms.len() - 1;
        let per_row = vectors + scales(&weight.scale) + minimum + planes;
        let scattered: usize = self.chunks[0].planes.iter().map(|plane| plane.source.constants()).sum();
        let step = STEP + 2 * planes + scattered + usize::from(weight.scale.group.is_some());
        [4, 2].into_iter().find(|rows| rows * per_row + step <= registers).unwrap_or(1)
    }

    /// In how many parts a chunk has scales of its own, 1 or 2, and whether a panel takes them: not more than that.
    pub fn panel_groups(&self) -> Option<usize> {
        let weight = &self.format.weight;
        let products =
            std::iter::once(&weight.scale).chain(weight.minimum.as_ref().map(|minimum| &minimum.product));
        let smallest = products.filter_map(|product| product.group.as_ref().map(|group| group.size)).min();
        match smallest.map_or(1, |size| CHUNK.div_ceil(size)) {
            groups @ 1..=2 => Some(groups),
            _ => None,
        }
    }

    /// The scales of the eight lanes of `chunk`'s dot product, four weights to a lane.
    pub fn dot_lanes(&self, group: &GroupScale, chunk: usize) -> Lanes {
        lanes(group, chunk * CHUNK, CHUNK / LANES)
    }

    /// The scales of eight consecutive weights, the `eighth`-th such run of the block.
    pub fn weight_lanes(&self, group: &GroupScale, eighth: usize) -> Lanes {
        lanes(group, eighth * LANES, 1)
    }

    /// Vectors that hold all scales of `group`.
    pub fn scale_vectors(&self, group: &GroupScale) -> usize {
        self.format.codes[group.code].len().div_ceil(SCALES_PER_VECTOR)
    }
}

/// Eight lanes of `weights_per_lane` weights, from weight `first` on. Groups of at least four weights
/// that divide a chunk or hold whole chunks keep all eight in one vector.
fn lanes(group: &GroupScale, first: usize, weights_per_lane: usize) -> Lanes {
    let scale = |lane: usize| (first + lane * weights_per_lane) / group.size;
    let vector = scale(0) / SCALES_PER_VECTOR;
    Lanes { vector, index: std::array::from_fn(|lane| (scale(lane) % SCALES_PER_VECTOR) as u8) }
}

fn plane(format: &Format, codes: &Codes, term: &Term, chunk: usize) -> Plane {
    let field = format.fields[term.field].offset;
    let places: [(usize, i32); CHUNK] = std::array::from_fn(|i| {
        let (byte, shift) = codes.locate(term, chunk * CHUNK + i);
        (field + byte, shift as i32 - term.position as i32)
    });
    // The places of `N` runs of consecutive bytes, each under one shift.
    fn runs<const N: usize>(places: &[(usize, i32); CHUNK]) -> Option<([usize; N], [i32; N])> {
        let first: [(usize, i32); N] = std::array::from_fn(|part| places[part * (CHUNK / N)]);
        let is_run = |(part, places): (usize, &[(usize, i32)])| {
            let (offset, shift) = first[part];
            places.iter().enumerate().all(|(i, place)| *place == (offset + i, shift))
        };
        let all = places.chunks_exact(CHUNK / N).enumerate().all(is_run);
        all.then(|| (first.map(|place| place.0), first.map(|place| place.1)))
    }
    let source = if let Some(([offset], [shift])) = runs(&places) {
        Source::Run { offset, shift }
    } else if let Some((offsets, shifts)) = runs(&places) {
        Source::Halves { offsets, shifts }
    } else if let Some((offsets, shifts)) = runs(&places) {
        Source::Quarters { offsets, shifts }
    } else if let Some((offsets, shifts)) = runs(&places) {
        Source::Eighths { offsets, shifts }
    } else {
        let (low, high) = places.split_at(CHUNK / 2);
        // The checker has seen to it that a half spans at most 16 bytes of a block of at least 16.
        let window = |half: &[(usize, i32)]| {
            let first = half.iter().map(|place| place.0).min().unwrap_or(0);
            first.min(format.bytes() - 16)
        };
        let windows = [window(low), window(high)];
        let index = std::array::from_fn(|i| (places[i].0 - windows[i / 16]) as u8);
        let shifts = places.map(|place| place.1);
        if term.bits == 1 {
            Source::Bits { windows, index, bits: shifts.map(|shift| 1 << (shift + term.position as i32)) }
        } else {
            Source::Shuffle { windows, index, shifts }
        }
    };
    Plane { source, mask: (((1_u32 << term.bits) - 1) << term.position) as u8 }
}

/// `None` where two parts of the formula share a field, so that neither can be chosen for itself.
fn quantizer(format: &Format) -> Option<Quantizer> {
    let weight = &format.weight;
    let products =
        || std::iter::once(&weight.scale).chain(weight.minimum.as_ref().map(|minimum| &minimum.product));
    let fields: Vec<_> = products().flat_map(|product| &product.block).collect();
    let groups = products().filter_map(|product| Some(product.group.as_ref()?.code));
    let codes: Vec<_> = groups.chain([weight.code]).collect();
    let distinct = |indices: BTreeSet<usize>, len| indices.len() == len;
    if !distinct(fields.iter().map(|&&field| field).collect(), fields.len())
        || !distinct(codes.iter().copied().collect(), codes.len())
    {
        return None;
    }
    let (&scale, ones) = weight.scale.block.split_first()?;
    let mut ones = ones.to_vec();
    let minimum = match &weight.minimum {
        None => None,
        Some(minimum) => {
            let (&first, others) = minimum.product.block.split_first()?;
            ones.extend(others);
            Some(first)
        }
    };
    let reference = if ones.is_empty() { reference(format) } else { None };
    Some(Quantizer { scale, minimum, ones, reference })
}

fn reference(format: &Format) -> Option<Reference> {
    let weight = &format.weight;
    let codes = format.weight_codes();
    if weight.scale.group.is_some() {
        return None;
    }
    match (&weight.value, &weight.minimum) {
        (Value::Linear { .. }, None) if codes.signed => Some(Reference::Symmetric { limit: 127, zero: 0 }),
        (Value::Linear { zero: 1 }, None) => Some(Reference::Symmetric { limit: 1, zero: 1 }),
        (Value::Linear { zero }, None) if *zero > 0 => {
            Some(Reference::Furthest { zero: *zero as u8, max: codes.max() as u8 })
        }
        (Value::Linear { zero: 0 }, Some(minimum))
            if !codes.signed && !minimum.subtract && minimum.product.group.is_none() =>
        {
            Some(Reference::Range { max: codes.max() as u8 })
        }
        (Value::Table { entries }, None) => match entries[..] {
            [-1, 1] => Some(Reference::Mean { negative: 0 }),
            [1, -1] => Some(Reference::Mean { negative: 1 }),
            _ => None,
        },
        _ => None,
    }
}
