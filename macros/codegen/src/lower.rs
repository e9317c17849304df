//! From plan to code: the skeleton of each operation, written once, over the primitives of an
//! instruction set, each written once per instruction set.
//!
//! A kernel works on *codes* (32 bytes), *lanes* (8 × i32, each the sum of four products) and *floats*
//! (8 × f32), and on *shorts* (16 × i16) where it sums up blocks in integers: those of one block, or of each of two. An
//! instruction set says what these are and how to compute with them ([`Isa`], [`Integers`]), and names what it takes
//! over from another. To add one: a file beside the others, its `mod`, and a line in [`ALL`].

use std::ops::Range;

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use self::ways::Way;
use crate::model::{CHUNK, Codes, Cut, FieldType, ScaleValue, Source, Term, Value};
use crate::plan::block_sums::{self, BlockSums, GroupPlane};
use crate::plan::{
    BitRun, Chunk, ChunkCodes, Factor, GroupFactor, LANES, Lanes, Loop, Minimum, Moves, Picked, Plan, Plane,
    Scale,
};

/// Every instruction set, the plainest first; of those that a CPU has, the last is used.
#[rustfmt::skip]
pub const ALL: &[&dyn Isa] = &[
    &scalar::Scalar,
    &avx2_fma::Avx2Fma,
    &avx_vnni::AvxVnni,
    &avx512_vnni::Avx512Vnni,
    &avx512_vbmi::Avx512Vbmi,
];

/// The bits of [`OFFSET`] as an f32. An integer of at most 22 bits added to them gives those of the offset plus the integer:
/// sums that begin with it need no conversion to a float.
const OFFSET_BITS: i32 = 0x4B40_0000;

/// 1.5 · 2^23. Its product with a step of activations, which has 22 significant bits, is exact.
const OFFSET: f32 = 12_582_912.0;

/// What an instruction set is called and what it needs. The one source of the `target_feature`
/// attribute, of run-time detection, and of what the documentation says.
pub struct Target {
    /// As in function names and in `QUANTLOOM_ISA`.
    pub name: &'static str,
    /// As in `Isa::Name`.
    pub variant: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// `target_arch`; `None` for every machine.
    pub arch: Option<&'static str>,
    /// `target_feature` names.
    pub features: &'static [&'static str],
}

impl Target {
    /// Whether a CPU that has `self` has `other` too.
    pub fn includes(&self, other: &Self) -> bool {
        other.arch.is_none_or(|arch| self.arch == Some(arch))
            && other.features.iter().all(|feature| self.features.contains(feature))
    }
}

/// The instructions that multiply codes with activations, by which a kernel is recognised in its assembly; `None`
/// where the compiler chooses.
#[derive(Clone, Copy)]
pub struct Products {
    /// Codes from 0 up.
    pub unsigned: Option<&'static str>,
    /// Codes of both signs.
    pub signed: Option<&'static str>,
}

/// Declares a trait of primitives, and a macro by which an instruction set states those that it has from another.
macro_rules! primitives {
    ($d:tt $(#[$about:meta])* trait $trait:ident: $super:ident, $take_over:ident {
        $($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*
    }) => {
        $(#[$about])*
        pub trait $trait: $super {
            $($(#[$doc])* fn $name(&self, $($arg: $ty),*) -> $ret;)*
        }

        macro_rules! $take_over {
            ($d other:expr $d(,)?) => {};
            $(($d other:expr, $name $d(, $d rest:ident)* $d(,)?) => {
                fn $name(&self, $($arg: $ty),*) -> $ret {
                    $d other.$name($($arg),*)
                }
                $take_over!($d other $d(, $d rest)*);
            };)*
        }
    };
}

primitives! { $
    /// An instruction set: its facts, and its primitives, whose arguments and results are expressions.
    trait Isa: Sync, take_over {
        /// What it is called and what it needs.
        fn target() -> &'static Target;
        /// Vector registers that a kernel can count on.
        fn registers() -> usize;
        /// Vectors that `gemv_several` multiplies in one pass.
        fn vectors() -> usize;
        /// What multiplies.
        fn products() -> Products;
        /// `use` declarations at the head of a kernel.
        fn prelude() -> TokenStream;
        /// Whether each chunk of a block of usual length has a piece of code of its own. Where it has not, a loop picks scales
        /// from memory.
        fn unrolls() -> bool;
        /// What single blocks are worked on with, if codes, lanes and floats of two consecutive blocks of a row share a register
        /// here, one after the other. Arguments that stand for what there is of each block are two then.
        fn of_one_block() -> Option<&'static dyn Isa>;
        /// A statement: fetches the cache line `distance` bytes after the start of a block.
        fn prefetch(block: &TokenStream, distance: TokenStream) -> TokenStream;
        /// Codes: the bits of one plane, in their place within the code. Each of `blocks` is a `&[u8; len]`.
        fn plane(blocks: &[TokenStream], len: usize, plane: &Plane) -> TokenStream;
        /// Codes: a | b.
        fn or(a: TokenStream, b: TokenStream) -> TokenStream;
        /// Signed codes: entries\[code\].
        fn lookup(codes: TokenStream, entries: &[i8]) -> TokenStream;
        /// Codes: of each byte, a fraction of 256, the digit of the base 3 after as many as its power says.
        fn trits(bytes: TokenStream, powers: &[u8; CHUNK]) -> TokenStream;
        /// Codes: of each byte, a whole number, the digit of `base` of which its power says how many are below it.
        fn digits(bytes: TokenStream, powers: &[u8; CHUNK], base: usize) -> TokenStream;
        /// Signed codes: the entries at `indices` of `book`, a `&[[i8; weights]; N]`; those of one block come first.
        fn entries(book: TokenStream, weights: usize, indices: &[TokenStream]) -> TokenStream;
        /// Signed codes: negated where `signs`, a `u32` of each block, has a bit, the first code by the lowest.
        fn negate(codes: TokenStream, signs: &[TokenStream]) -> TokenStream;
        /// Codes: the 32 activations of each `&ActivationBlock`.
        fn activations(a: &[TokenStream]) -> TokenStream;
        /// Lanes: the sums of four activations each.
        fn lane_sums(a: &[TokenStream]) -> TokenStream;
        /// Floats: the scales of four activations each.
        fn steps(a: &[TokenStream]) -> TokenStream;
        /// The largest code that `dot_unsigned` takes, where it is cheaper than `dot_signed`: codes of both signs are raised to
        /// unsigned ones then, if they stay within it, and the seed takes off again what was added. 0 where it is not cheaper.
        fn unsigned_limit() -> i32;
        /// Lanes: -zero · sums.
        fn seed(zero: i32, sums: TokenStream) -> TokenStream;
        /// Lanes: -zero · sums, and what [`scaled`](Self::scaled) takes off again.
        fn seed_of_floats(zero: i32, sums: TokenStream) -> TokenStream;
        /// Lanes: seed + Σ₄ codes · activations, codes unsigned: at most 127, or `unsigned_limit` where that is more.
        fn dot_unsigned(seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream;
        /// Codes: each minus `zero`, of which 8 bits are kept.
        fn minus(codes: TokenStream, zero: i32) -> TokenStream;
        /// Lanes: seed + Σ₄ codes · activations, codes signed.
        fn dot_signed(seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream;
        /// A statement: codes into `out`, a place that holds a `[u8; 32]`.
        fn store_codes(out: TokenStream, codes: TokenStream) -> TokenStream;
        /// Lanes: eight codes, the `eighth`-th such run of the chunk, minus `zero`.
        fn widen(codes: TokenStream, eighth: usize, signed: bool, zero: i32) -> TokenStream;
        /// Floats from lanes.
        fn floats(lanes: TokenStream) -> TokenStream;
        /// Floats: what [`scaled`](Self::scaled) needs of steps beside them.
        fn offset(steps: TokenStream) -> Option<TokenStream>;
        /// Floats: lanes that began with `seed_of_floats`, times steps.
        fn scaled(lanes: TokenStream, steps: TokenStream, offset: TokenStream) -> TokenStream;
        /// Floats from scale codes, a `[u8; 8]` of each block, minus `zero`.
        fn scales(codes: &[TokenStream], signed: bool, zero: i32) -> TokenStream;
        /// Floats: for each of a `[u8; 8]` of each block the entry of a `&[f32; 256]`.
        fn numbers(codes: &[TokenStream], table: TokenStream) -> TokenStream;
        /// Floats from eight f16 of each block, a `[u16; 8]` of their bits.
        fn halves(bits: &[TokenStream]) -> TokenStream;
        /// Floats from a `[f32; 8]` of each block.
        fn singles(eights: &[TokenStream]) -> TokenStream;
        /// Floats: the f16 at a byte offset of each block, in every lane of that.
        fn splat_f16(blocks: &[TokenStream], offset: usize) -> TokenStream;
        /// Floats from `place`, a `&[f32; 8]`.
        fn load(place: TokenStream) -> TokenStream;
        /// Floats: one f32 in every lane.
        fn splat(value: TokenStream) -> TokenStream;
        /// Floats: an f32 of each block, in every lane of that.
        fn splat_each(values: &[TokenStream]) -> TokenStream;
        /// Floats: lane i of each block becomes its lane index\[i\].
        fn permute(floats: TokenStream, index: [u8; LANES]) -> TokenStream;
        /// Floats: a · b.
        fn mul(a: TokenStream, b: TokenStream) -> TokenStream;
        /// Floats: a + b, or a - b.
        fn add(a: TokenStream, b: TokenStream, subtract: bool) -> TokenStream;
        /// Floats: c + a · b, or c - a · b, fused where the instruction set can.
        fn fma(a: TokenStream, b: TokenStream, c: TokenStream, subtract: bool) -> TokenStream;
        /// Floats: of each block the lanes of `vectors`, 1, 2, 4 or 8 of them and one after the other, cut into eight runs: the
        /// sum of each.
        fn run_sums(vectors: &[TokenStream]) -> TokenStream;
        /// An f32: the sum of all lanes.
        fn sum(floats: TokenStream) -> TokenStream;
        /// A statement: floats into `out`, a place that holds a `[f32; 8]`.
        fn store(out: TokenStream, floats: TokenStream) -> TokenStream;
        /// What sums blocks in integers, where their [`BlockSums`] say how; `None` where floats are as fast.
        fn integers() -> Option<&'static dyn Integers>;
    }
}

primitives! { $
    /// The primitives for blocks that are summed in integers.
    trait Integers: Sync, take_over_integers {
        /// Codes: those of scales and minima, the bits of all their planes.
        fn group_codes(blocks: &[TokenStream], planes: &[GroupPlane]) -> TokenStream;
        /// Shorts, 16 × i16 of each block: its first 16 codes, minus `zero`.
        fn shorts(codes: TokenStream, signed: bool, zero: i32) -> TokenStream;
        /// Shorts: the steps of two `&ActivationBlock`s of each block in units, four lanes of each in turn.
        fn multiples(pairs: &[[TokenStream; 2]]) -> TokenStream;
        /// Shorts in the same order: the steps times the scales of two chunks.
        fn lane_scales(scales: TokenStream, chunks: [usize; 2], multiples: TokenStream) -> TokenStream;
        /// Lanes: sums + the lanes of two dot products, which fit 16 bits, times shorts in the same order.
        fn add_scaled(sums: TokenStream, dots: [TokenStream; 2], scales: TokenStream) -> TokenStream;
        /// Floats: the sums of eight activations each of two `&ActivationBlock`s of each block, in units.
        fn totals(pairs: &[[TokenStream; 2]]) -> TokenStream;
    }
}

// After the macros that they use.
mod avx2_fma;
mod avx512_vbmi;
mod avx512_vnni;
mod avx_vnni;
#[cfg(test)]
mod avx_vnni_int8;
mod integers;
mod registers;
mod scalar;
mod ways;

impl dyn Isa + '_ {
    /// Blocks that share a register.
    pub fn blocks(&self) -> usize {
        if self.of_one_block().is_some() { 2 } else { 1 }
    }
}

/// The attributes of a kernel for `isa`.
pub fn attributes(isa: &dyn Isa) -> TokenStream {
    let target = isa.target();
    let arch = target.arch.map(|arch| quote!(#[cfg(target_arch = #arch)]));
    let features = target.features.join(",");
    let features = (!features.is_empty()).then(|| quote!(#[target_feature(enable = #features)]));
    quote!(#arch #features)
}

/// How far before its use a row's memory is fetched. Measured on Sapphire Rapids: 1 and 2 KiB are alike with blocks of
/// 18 bytes, and with blocks of 210 bytes 1 KiB is faster by a quarter.
const AHEAD: usize = 1024;

/// How many vectors rows are multiplied with in one pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Vectors {
    /// One: the heart of `dot` and `gemv`.
    One,
    /// T of them, each with the sums of `One`, to the bit: the heart of `gemv_several`. Not `One` with T = 1, whose
    /// arrays of sums the compiler would keep in memory where registers are few.
    Several,
}

/// The dot products of R rows with vectors.
pub fn rows(isa: &dyn Isa, plan: &Plan, name: &proc_macro2::Ident, vectors: Vectors) -> TokenStream {
    let isa = of_rows(isa, plan);
    let format = plan.format;
    let (bytes, chunks) = (format.bytes(), format.chunks());
    let (attributes, prelude) = (attributes(isa), isa.prelude());
    let zero = isa.splat(quote!(0.0));

    let blocks = of_each_block(isa, "block");
    let (index, each, of_blocks) = match vectors {
        Vectors::One => (quote!([r]), quote!(), quote!(a)),
        Vectors::Several => (quote!([t][r]), quote!(for t in 0..T), quote!(activations[t][b])),
    };
    let scales = Scales::new("scale", isa, plan, &plan.scale);
    let minima =
        plan.minimum.as_ref().map(|minimum| (minimum, Scales::new("minimum", isa, plan, &minimum.scale)));
    let prefetch = prefetch(isa, plan);
    let let_blocks = match isa.blocks() {
        1 => let_each(&blocks, quote!(&rows[r][b])),
        count => {
            let each = 0..count;
            let_each(&blocks, quote!(#(&rows[r][b][#each]),*))
        }
    };
    let per_row = |scales: &Scales| {
        let names = &scales.names;
        let (declared, set) = if scales.in_memory {
            (scales.memory(), scales.fill(&quote!([r]), &blocks))
        } else {
            let (shared, values) = (scales.shared(&blocks), scales.values(&blocks));
            (quote!(#zero), quote!(#shared #(#names[r] = #values;)*))
        };
        quote! {
            #(let mut #names = [#declared; R];)*
            for r in 0..R {
                #let_blocks
                #set
            }
        }
    };
    let acc = quote!(acc #index);
    let places =
        Places { vectors, index: &index, each: &each, of_blocks: &of_blocks, let_blocks: &let_blocks };
    let work = match block_sums(isa, plan) {
        Some((sums, integers)) => {
            integers::block(isa, integers, plan, sums, &scales, minima.as_ref(), &places)
        }
        None => {
            let load_minima = minima.as_ref().map(|(_, minima)| per_row(minima));
            let add_minima = minima.as_ref().filter(|_| !has_loops(isa, plan)).map(|(minimum, minima)| {
                let a = of_each_block(isa, "a");
                let total = |c: usize| {
                    let total = isa.mul(isa.floats(isa.lane_sums(&a)), isa.steps(&a));
                    let let_a = places.let_activations(isa, &a, &quote!(#c));
                    quote!({ #let_a #total })
                };
                let totals: Vec<_> = (0..chunks).map(total).collect();
                let sums = plan.sums(&minimum.scale, CHUNK / LANES);
                let sums = sums.into_iter().map(|runs| run_sums(isa, &totals, runs));
                let add = add_minima(isa, minimum.subtract, minima, sums, &places);
                quote!(#each { #add })
            });
            let load_scales = per_row(&scales);
            let signs_of_blocks = isa.blocks() * chunks;
            let signs = even_signs(isa, plan, &blocks).map(|signs| {
                quote! {
                    let mut signs = [[0; #signs_of_blocks]; R];
                    for r in 0..R {
                        #let_blocks
                        signs[r] = #signs;
                    }
                }
            });
            let steps = floats(isa, plan, &scales, minima.as_ref(), &places);
            quote!(#load_minima #add_minima #load_scales #signs #steps)
        }
    };
    let (sums, sum) = (places.sums(&zero), isa.sum(acc));
    let pass = pass(isa, plan, vectors, &quote!(#prefetch #work));
    let vector = quote!(&[[kernels::ActivationBlock; #chunks]]);
    match vectors {
        Vectors::One => quote! {
            #attributes
            #[inline]
            fn #name<const R: usize>(rows: [&[[u8; #bytes]]; R], activations: #vector) -> [f32; R] {
                #prelude
                let mut acc = #sums;
                #pass
                let mut y = [0.0; R];
                for r in 0..R {
                    y[r] = #sum;
                }
                y
            }
        },
        Vectors::Several => quote! {
            #attributes
            #[inline]
            fn #name<const R: usize, const T: usize>(
                rows: [&[[u8; #bytes]]; R],
                activations: [#vector; T],
            ) -> [[f32; R]; T] {
                #prelude
                let mut acc = #sums;
                #pass
                let mut y = [[0.0; R]; T];
                for t in 0..T {
                    for r in 0..R {
                        y[t][r] = #sum;
                    }
                }
                y
            }
        },
    }
}

/// The loop over the blocks of rows, or over pairs of them: the last of an odd number of blocks has one of zeros for its
/// partner, in a pass of its own.
fn pass(isa: &dyn Isa, plan: &Plan, vectors: Vectors, work: &TokenStream) -> TokenStream {
    let (bytes, chunks) = (plan.format.bytes(), plan.format.chunks());
    let (len, a, cut_activations) = match vectors {
        Vectors::One => (quote!(activations.len()), quote!(let a = &activations[b];), quote!()),
        Vectors::Several => {
            let len = quote!(activations[0].len());
            let cut = quote! {
                let mut cut = activations;
                for t in 0..T {
                    cut[t] = &activations[t][..#len];
                }
                let activations = cut;
            };
            (len, quote!(), cut)
        }
    };
    let cut_rows = quote! {
        // One length for all, so that no row is checked again at each block.
        let mut cut = rows;
        for r in 0..R {
            cut[r] = &rows[r][..#len];
        }
        let rows = cut;
    };
    let pass = quote! {
        #cut_rows
        #cut_activations
        for b in 0..#len {
            #a
            #work
        }
    };
    if isa.blocks() == 1 {
        return pass;
    }
    let [pairs, last, only] = match vectors {
        Vectors::One => [
            quote!(kernels::pairs::pairs([activations])[0]),
            quote!(kernels::pairs::last([activations], zero)),
            quote!(::core::slice::from_ref(&last_activations[0])),
        ],
        Vectors::Several => [
            quote!(kernels::pairs::pairs(activations)),
            quote!(kernels::pairs::last(activations, zero)),
            quote!(kernels::pairs::only(&last_activations)),
        ],
    };
    quote! {
        #cut_rows
        for pass in 0..2 {
            let last_rows;
            let last_activations;
            let (rows, activations) = if pass == 0 {
                (kernels::pairs::pairs(rows), #pairs)
            } else if #len % 2 == 1 {
                last_rows = kernels::pairs::last(rows, [0; #bytes]);
                let zero = [kernels::ActivationBlock::ZERO; #chunks];
                last_activations = #last;
                (kernels::pairs::only(&last_rows), #only)
            } else {
                break;
            };
            #pass
        }
    }
}

/// Variables for what there is of each block that shares a register with others: `name`, and `next_name`.
fn of_each_block(isa: &dyn Isa, name: &str) -> Vec<TokenStream> {
    let names = [format_ident!("{name}"), format_ident!("next_{name}")];
    names[..isa.blocks()].iter().map(|name| quote!(#name)).collect()
}

/// A statement that gives all of them their values, one expression for each.
fn let_each(names: &[TokenStream], values: TokenStream) -> TokenStream {
    match names {
        [name] => quote!(let #name = #values;),
        names => quote!(let (#(#names),*) = (#values);),
    }
}

/// Where the sums of rows and the activations of a block are.
struct Places<'p> {
    vectors: Vectors,
    /// Selects the sum of row `r` with vector `t`.
    index: &'p TokenStream,
    /// What repeats a block of code for each vector `t`.
    each: &'p TokenStream,
    /// The `ActivationBlock`s of a block of weights, or of each of two.
    of_blocks: &'p TokenStream,
    /// The statement that finds the blocks of row `r`.
    let_blocks: &'p TokenStream,
}

impl Places<'_> {
    /// Selects what there is for vector `t`.
    fn of_vector(&self) -> TokenStream {
        match self.vectors {
            Vectors::One => quote!(),
            Vectors::Several => quote!([t]),
        }
    }

    /// Sums of all rows and vectors that are `zero`.
    fn sums(&self, zero: &TokenStream) -> TokenStream {
        match self.vectors {
            Vectors::One => quote!([#zero; R]),
            Vectors::Several => quote!([[#zero; R]; T]),
        }
    }

    /// The `ActivationBlock`s of chunk `c` of each block.
    fn activations(&self, isa: &dyn Isa, c: &TokenStream) -> Vec<TokenStream> {
        let of_blocks = self.of_blocks;
        match isa.blocks() {
            1 => vec![quote!(#of_blocks[#c])],
            blocks => (0..blocks).map(|k| quote!(#of_blocks[#k][#c])).collect(),
        }
    }

    /// A statement that names these.
    fn let_activations(&self, isa: &dyn Isa, names: &[TokenStream], c: &TokenStream) -> TokenStream {
        let values = self.activations(isa, c);
        let_each(names, quote!(#(&#values),*))
    }
}

/// What rows are multiplied with: one block at a time where two would share little. In loops scales are picked from memory
/// for each block. Entries of codebooks are loaded one by one, by indices for which general registers are few: it takes long
/// entries, and signs that are shared, to make up for that.
fn of_rows<'i>(isa: &'i dyn Isa, plan: &Plan) -> &'i dyn Isa {
    let share_little = match plan.format.weight.value {
        Value::Codebook { weights, .. } => weights < 8 || plan.format.weight.signs.is_none(),
        Value::Linear { .. } | Value::Table { .. } => false,
    };
    if has_loops(isa, plan) || share_little { of_blocks(isa) } else { isa }
}

/// What blocks are dequantized and expanded with, one by one.
fn of_blocks(isa: &dyn Isa) -> &dyn Isa {
    isa.of_one_block().unwrap_or(isa)
}

/// How blocks are summed in integers, and with what; `None` where they are summed in floats.
fn block_sums<'p>(isa: &dyn Isa, plan: &'p Plan) -> Option<(&'p BlockSums, &'static dyn Integers)> {
    plan.block_sums.as_ref().zip(isa.integers())
}

/// How many rows are multiplied in one pass with so many vectors.
///
/// In integers 8: what a block needs of the activations is made once for all of them, and each row is worked on by itself.
pub fn rows_at_once(isa: &dyn Isa, plan: &Plan, vectors: usize) -> usize {
    let isa = of_rows(isa, plan);
    match block_sums(isa, plan) {
        Some(_) => 8,
        None => rows_that_fit(isa, plan, vectors),
    }
}

/// How many rows share one pass over the activations of `vectors` vectors: of 4, 2 and 1 as many as fit so many
/// registers without a spill.
///
/// A row holds its sums for each vector, its scales (one vector where they are in memory) and the bytes that its
/// chunks share, of each plane after the first. Beside them a step needs activations, seed, steps, codes, mask and
/// product; for each plane after the first its own bits and mask; for scattered bits an index and a mask for each
/// shift, for digits and signs what they are computed with; for group scales those of its lanes.
fn rows_that_fit(isa: &dyn Isa, plan: &Plan, vectors: usize) -> usize {
    const STEP: usize = 6;
    let first = &loops(isa, plan)[0].chunks[0];
    let planes = first.codes.planes() - 1;
    let scales = if has_loops(isa, plan) { 1 } else { plan.scale_vectors(&plan.scale) };
    let per_row = vectors + scales + planes;
    // Signs are spread over bytes, tested, and applied.
    let signs = if first.signs.is_some() { 3 } else { 0 };
    let step =
        STEP + 2 * planes + constants(plan, &first.codes) + signs + usize::from(plan.scale.size.is_some());
    let most = match first.codes {
        // Indices of entries are computed in general registers, which have no room for those of more rows.
        ChunkCodes::Entries(_) => 2,
        // Four rows of long blocks are much code already, and share enough; minima of eight have no registers.
        _ if plan.format.chunks() > 4 || plan.minimum.is_some() => 4,
        _ => 8,
    };
    [8, 4, 2].into_iter().find(|&rows| rows <= most && rows * per_row + step <= isa.registers()).unwrap_or(1)
}

/// Vectors that only some ways to codes and to values need.
fn constants(plan: &Plan, codes: &ChunkCodes) -> usize {
    // Of more than 16 entries 16 are looked up at a time, as they come from memory; for each doubling what was found waits for what
    // is found in the other half, with the bit that chooses.
    let of_lookup = match &plan.format.weight.value {
        Value::Table { entries, .. } => 2 * entries.len().div_ceil(16).ilog2() as usize,
        Value::Linear { .. } | Value::Codebook { .. } => 0,
    };
    of_lookup
        + match codes {
            ChunkCodes::Planes(planes) => {
                let of_plane = |plane| Way::of(plane, window_bytes(plan, &plane.moves)).constants(plane);
                planes.iter().map(of_plane).sum()
            }
            // Of fractions powers of even and of odd bytes, a mask for these, two limits; of whole numbers reciprocals for even and
            // for odd bytes, that of the base, the base, a mask.
            ChunkCodes::Digits { .. } => 5,
            ChunkCodes::Entries(_) => 0,
        }
}

/// Lanes: seed + Σ₄ codes · activations, for the codes of a chunk.
fn dot(
    isa: &dyn Isa,
    plan: &Plan,
    chunk: &Chunk,
    seed: TokenStream,
    activations: TokenStream,
) -> TokenStream {
    let signs = quote!(signs[r]);
    match raised(isa, plan) {
        Some(by) => isa.dot_unsigned(seed, codes(isa, plan, chunk, by, &signs), activations),
        None => isa.dot_signed(seed, codes(isa, plan, chunk, 0, &signs), activations),
    }
}

/// How much is added to codes, or to what they stand for, so that a product takes them as unsigned; `None` where it takes
/// them with their signs.
fn raised(isa: &dyn Isa, plan: &Plan) -> Option<i32> {
    if !is_signed(plan) {
        return Some(0);
    }
    let (least, most) = match &plan.format.weight.value {
        Value::Table { entries, .. } => {
            let entries = || entries.iter().map(|&entry| i32::from(entry));
            // With signs beside the table there is the negative of each.
            let negated = plan.format.weight.signs.is_some().then(|| entries().map(|entry| -entry));
            let values = || entries().chain(negated.clone().into_iter().flatten());
            (values().min().unwrap_or(0), values().max().unwrap_or(0))
        }
        Value::Linear { .. } | Value::Codebook { .. } => (i8::MIN.into(), i8::MAX.into()),
    };
    // A power of two: the seed is a shift then.
    let by = if least < 0 { least.unsigned_abs().next_power_of_two() as i32 } else { 0 };
    (most + by <= isa.unsigned_limit()).then_some(by)
}

/// Floats: the sums over eight groups, whose runs of `totals` are given by [`Plan::sums`].
fn run_sums(isa: &dyn Isa, totals: &[TokenStream], runs: Vec<Range<usize>>) -> TokenStream {
    let summed = runs.into_iter().map(|run| {
        let summed = run.map(|i| totals[i].clone());
        summed.reduce(|a, b| isa.add(a, b, false)).unwrap_or_else(|| isa.splat(quote!(0.0)))
    });
    isa.run_sums(&summed.collect::<Vec<_>>())
}

/// Statements that add minima to sums: each is multiplied with the sum of the activations of its weights, which all
/// rows share.
fn add_minima(
    isa: &dyn Isa,
    subtract: bool,
    minima: &Scales,
    sums: impl Iterator<Item = TokenStream>,
    Places { index, .. }: &Places,
) -> TokenStream {
    let acc = quote!(acc #index);
    let add = sums.zip(&minima.names).map(|(sums, name)| {
        let add = isa.fma(quote!(#name[r]), quote!(sums), acc.clone(), subtract);
        quote! {
            let sums = #sums;
            for r in 0..R {
                #acc = #add;
            }
        }
    });
    quote!(#(#add)*)
}

/// Adds to sums the lanes of each chunk's dot product, times the scales and steps of these: floats.
fn floats(
    isa: &dyn Isa,
    plan: &Plan,
    scales: &Scales,
    minima: Option<&(&Minimum, Scales)>,
    places: &Places,
) -> TokenStream {
    let Places { index, each, let_blocks, .. } = places;
    let (a, acc) = (of_each_block(isa, "a"), quote!(acc #index));
    let point = product_zero_point(isa, plan);
    for_chunks(isa, plan, |chunk| {
        let (numbered, c) = (numbered(chunk), number(chunk));
        let activations = isa.activations(&a);
        let sums = isa.lane_sums(&a);
        let seed = isa.seed_of_floats(point, quote!(sums));
        let steps = isa.steps(&a);
        let offset = isa.offset(quote!(steps)).map(|offset| quote!(let offset = #offset;));
        let windows = windows(isa, plan, chunk);
        let dot = dot(isa, plan, chunk, quote!(seed), quote!(activations));
        let scale = scales.of_dot(chunk, &quote!([r]));
        let product = isa.scaled(quote!(dot), quote!(steps), quote!(offset));
        let add = isa.fma(quote!(product), scale, acc.clone(), false);
        let minimum = minima.filter(|_| has_loops(isa, plan));
        let sums = (point != 0 || minimum.is_some()).then(|| quote!(let sums = #sums;));
        let (totals, add_minimum) = minimum
            .map(|(minimum, minima)| {
                let total = isa.mul(isa.floats(quote!(sums)), quote!(steps));
                let value = minima.of_dot(chunk, &quote!([r]));
                let add = isa.fma(value, quote!(totals), acc.clone(), minimum.subtract);
                (quote!(let totals = #total;), quote!(#acc = #add;))
            })
            .unzip();
        let let_a = places.let_activations(isa, &a, &c);
        quote! {
            #numbered
            #each {
                #let_a
                let activations = #activations;
                let steps = #steps;
                #offset
                #sums
                let seed = #seed;
                #totals
                for r in 0..R {
                    #let_blocks
                    #windows
                    let dot = #dot;
                    let product = #product;
                    #acc = #add;
                    #add_minimum
                }
            }
        }
    })
}

/// Blocks to floats.
pub fn dequantize(isa: &dyn Isa, plan: &Plan, name: &proc_macro2::Ident) -> TokenStream {
    let isa = of_blocks(isa);
    let format = plan.format;
    let (bytes, len) = (format.bytes(), format.len);
    let (attributes, prelude) = (attributes(isa), isa.prelude());
    let weight = &format.weight;
    let (zero, signed) = match weight.value {
        Value::Linear { zero } => (zero, format.weight_codes().signed),
        Value::Table { .. } | Value::Codebook { .. } => (0, true),
    };
    let blocks = of_each_block(isa, "block");
    let scales = Scales::new("scale", isa, plan, &plan.scale);
    let minima =
        plan.minimum.as_ref().map(|minimum| (minimum, Scales::new("minimum", isa, plan, &minimum.scale)));
    let per_block = |scales: &Scales| {
        let names = &scales.names;
        if scales.in_memory {
            let (memory, fill) = (scales.memory(), scales.fill(&quote!(), &blocks));
            return quote!(#(let mut #names = #memory;)* #fill);
        }
        let (shared, values) = (scales.shared(&blocks), scales.values(&blocks));
        quote!(#shared #(let #names = #values;)*)
    };
    let load_scales = per_block(&scales);
    let signs = even_signs(isa, plan, &blocks).map(|signs| quote!(let signs = #signs;));
    let load_minima = minima.as_ref().map(|(_, minima)| per_block(minima));
    let steps = for_chunks(isa, plan, |chunk| {
        let windows = windows(isa, plan, chunk);
        let codes = codes(isa, plan, chunk, 0, &quote!(signs));
        let eighths = (0..CHUNK / LANES).map(|k| {
            let value = isa.floats(isa.widen(quote!(codes), k, signed, zero));
            let none = quote!();
            let mut w = isa.mul(scales.of_weights(chunk, k, &none), value);
            if let Some((minimum, minima)) = &minima {
                w = isa.add(w, minima.of_weights(chunk, k, &none), minimum.subtract);
            }
            let eighth = scaled(chunk, CHUNK / LANES, k);
            isa.store(quote!(out[#eighth]), w)
        });
        let numbered = numbered(chunk);
        quote!({ #numbered #windows let codes = #codes; #(#eighths)* })
    });
    quote! {
        #attributes
        fn #name(blocks: &[u8], out: &mut [f32]) {
            #prelude
            let (blocks, _) = blocks.as_chunks::<#bytes>();
            let (out, _) = out.as_chunks_mut::<#len>();
            for b in 0..::core::cmp::Ord::min(blocks.len(), out.len()) {
                let (block, out) = (&blocks[b], &mut out[b]);
                let (out, _) = out.as_chunks_mut::<8>();
                #load_scales
                #load_minima
                #signs
                #steps
            }
        }
    }
}

/// Rows to what `gemm` makes panels of: unsigned codes, and floats for the scales and minima of each 32 weights or
/// of each half of them.
pub fn expand(isa: &dyn Isa, plan: &Plan, name: &proc_macro2::Ident) -> TokenStream {
    let isa = of_blocks(isa);
    let format = plan.format;
    let (bytes, chunks) = (format.bytes(), format.chunks());
    let (attributes, prelude) = (attributes(isa), isa.prelude());
    let blocks = of_each_block(isa, "block");
    let scales = Scales::new("scale", isa, plan, &plan.scale);
    let minima =
        plan.minimum.as_ref().map(|minimum| (minimum, Scales::new("minimum", isa, plan, &minimum.scale)));
    // The vectors of a product, as an array of floats that chunks pick from.
    let stored = |array: &TokenStream, scales: &Scales| {
        if scales.in_memory {
            let (memory, fill, names) = (scales.memory(), scales.fill(&quote!(), &blocks), &scales.names);
            return quote!(#(let mut #names = #memory;)* #fill #(let #array = #names;)*);
        }
        let (names, shared, values) = (&scales.names, scales.shared(&blocks), scales.values(&blocks));
        let vectors = names.len();
        let store = names.iter().enumerate().map(|(v, name)| isa.store(quote!(#array[#v]), quote!(#name)));
        quote! {
            #shared
            #(let #names = #values;)*
            let mut #array = [[0.0; 8]; #vectors];
            #(#store)*
        }
    };
    let (scale_array, minimum_array) = (quote!(scales), quote!(minima));
    let load_scales = stored(&scale_array, &scales);
    let signs = even_signs(isa, plan, &blocks).map(|signs| quote!(let signs = #signs;));
    let load_minima = minima.as_ref().map(|(_, minima)| stored(&minimum_array, minima));
    let halves = |array: &TokenStream, scales: &Scales, chunk: &Chunk| {
        let pick = [0, CHUNK / 2].map(|half| match scales.scale.size {
            Some(size) if scales.in_memory => {
                let index = group_index(chunk, size, half);
                quote!(#array[#index])
            }
            size => {
                let group = size.map_or(0, |size| (chunk.number * CHUNK + half) / size);
                let (vector, lane) = (group / LANES, group % LANES);
                quote!(#array[#vector][#lane])
            }
        });
        let [low, high] = pick;
        quote!([#low, #high])
    };
    let steps = for_chunks(isa, plan, |chunk| {
        let (numbered, c) = (numbered(chunk), number(chunk));
        let windows = windows(isa, plan, chunk);
        let codes = codes(isa, plan, chunk, 0, &quote!(signs));
        let zero = zero_point(plan);
        let signed = if zero == 0 { codes } else { isa.minus(codes, zero) };
        let store = isa.store_codes(quote!(out[#c].codes), signed);
        let scales = halves(&scale_array, &scales, chunk);
        let minima = minima.as_ref().map(|(minimum, minima)| {
            let minima = halves(&minimum_array, minima, chunk);
            if minimum.subtract {
                quote!(let [low, high] = #minima; out[#c].minima = [-low, -high];)
            } else {
                quote!(out[#c].minima = #minima;)
            }
        });
        quote!(#numbered #windows #store out[#c].scales = #scales; #minima)
    });
    quote! {
        #attributes
        fn #name(row: &[u8], out: &mut [kernels::gemm::ExpandedChunk]) {
            #prelude
            let (blocks, _) = row.as_chunks::<#bytes>();
            let (out, _) = out.as_chunks_mut::<#chunks>();
            for b in 0..::core::cmp::Ord::min(blocks.len(), out.len()) {
                let (block, out) = (&blocks[b], &mut out[b]);
                #load_scales
                #load_minima
                #signs
                #steps
            }
        }
    }
}

/// The loops over a block's chunks.
fn loops<'p>(isa: &dyn Isa, plan: &'p Plan) -> &'p [Loop] {
    if isa.unrolls() { &plan.loops } else { &plan.short_loops }
}

/// Whether some chunks are worked on in a loop. Group scales and minima are then kept in memory, as registers have no index,
/// and a minimum is added chunk by chunk.
fn has_loops(isa: &dyn Isa, plan: &Plan) -> bool {
    loops(isa, plan).iter().any(|of_loop| of_loop.turns > 1)
}

/// The steps of all chunks, of which some are in loops over the turn `i`.
fn for_chunks(isa: &dyn Isa, plan: &Plan, step: impl Fn(&Chunk) -> TokenStream) -> TokenStream {
    let loops = loops(isa, plan).iter().map(|Loop { turns, chunks }| {
        let steps = chunks.iter().map(&step);
        if *turns == 1 { quote!(#(#steps)*) } else { quote!(for i in 0..#turns { #(#steps)* }) }
    });
    quote!(#(#loops)*)
}

/// A statement that finds the number of a chunk in the turn `i` of its loop.
fn numbered(chunk: &Chunk) -> Option<TokenStream> {
    let moved = moved(&chunk.moves)?;
    let first = chunk.number;
    Some(if first == 0 { quote!(let chunk = #moved;) } else { quote!(let chunk = #first + #moved;) })
}

/// How far something is moved in the turn `i`, if it is in a loop.
fn moved(moves: &Moves) -> Option<TokenStream> {
    let Moves(by) = moves;
    match moves.stride() {
        _ if by.is_empty() => None,
        Some(1) => Some(quote!(i)),
        Some(stride) => Some(quote!(#stride * i)),
        None => Some(quote!([#(#by),*][i])),
    }
}

/// The number of a chunk.
fn number(chunk: &Chunk) -> TokenStream {
    scaled(chunk, 1, 0)
}

/// The number of a chunk times `by`, plus `more`.
fn scaled(chunk: &Chunk, by: usize, more: usize) -> TokenStream {
    if chunk.moves.0.is_empty() {
        let number = chunk.number * by + more;
        return quote!(#number);
    }
    let number = if by == 1 { quote!(chunk) } else { quote!(#by * chunk) };
    if more == 0 { number } else { quote!(#number + #more) }
}

/// The number of the group of `size` weights that weight `weight` of a chunk is in.
fn group_index(chunk: &Chunk, size: usize, weight: usize) -> TokenStream {
    if size <= CHUNK {
        return scaled(chunk, CHUNK / size, weight / size);
    }
    let (number, chunks) = (number(chunk), size / CHUNK);
    quote!((#number) / #chunks)
}

/// Statements that find the bytes of blocks from which the parts of a chunk, in the turn `i`, have their offsets.
fn windows(isa: &dyn Isa, plan: &Plan, chunk: &Chunk) -> TokenStream {
    let windows = chunk.moves_of_parts().into_iter().enumerate().map(|(w, moves)| {
        let (names, blocks) = (of_each_block(isa, &format!("window_{w}")), of_each_block(isa, "block"));
        let moved = moved(&moves);
        let len = window_bytes(plan, &moves);
        quote!(#(let #names = kernels::bytes::window::<#len, _>(#blocks, #moved);)*)
    });
    quote!(#(#windows)*)
}

/// How many bytes of a block are left after the furthest of those moves.
fn window_bytes(plan: &Plan, moves: &Moves) -> usize {
    plan.format.bytes() - moves.0.iter().max().unwrap_or(&0)
}

/// The variables of the bytes from which a part of `chunk` that is moved by `moves` has its offsets.
fn window(isa: &dyn Isa, chunk: &Chunk, moves: &Moves) -> Vec<TokenStream> {
    match chunk.moves_of_parts().iter().position(|other| other == moves) {
        Some(w) => of_each_block(isa, &format!("window_{w}")),
        None => of_each_block(isa, "block"),
    }
}

/// What is taken off a code as a product takes it.
fn product_zero_point(isa: &dyn Isa, plan: &Plan) -> i32 {
    zero_point(plan) + raised(isa, plan).unwrap_or(0)
}

/// What is taken off a code.
fn zero_point(plan: &Plan) -> i32 {
    match plan.format.weight.value {
        Value::Linear { zero } => zero,
        Value::Table { .. } | Value::Codebook { .. } => 0,
    }
}

/// Whether what codes stand for has two signs before a zero point is taken off.
fn is_signed(plan: &Plan) -> bool {
    plan.format.weight_codes().signed || !matches!(plan.format.weight.value, Value::Linear { .. })
}

/// The largest magnitude of a weight's code, its zero point taken off: a constant `u8`.
pub fn max_abs_code(plan: &Plan) -> TokenStream {
    if let Value::Codebook { name, .. } = &plan.format.weight.value {
        let (format, book) = (format_ident!("{}", plan.format.name), format_ident!("{name}"));
        return quote!(kernels::gemm::max_abs_code(#format::#book));
    }
    let max_abs_code = block_sums::max_abs_code(plan.format).map(Literal::i64_unsuffixed);
    quote!(#max_abs_code)
}

/// Even signs of all chunks of a block, then of those of the next, a `[u32; blocks · chunks]`, where there are such: computed
/// together, as the compiler makes vectors of them. `None` in loops, where each chunk computes its own.
fn even_signs(isa: &dyn Isa, plan: &Plan, blocks: &[TokenStream]) -> Option<TokenStream> {
    if !has_even_signs_together(isa, plan) {
        return None;
    }
    let mut chunks: Vec<&Chunk> = loops(isa, plan).iter().flat_map(|of_loop| &of_loop.chunks).collect();
    chunks.sort_by_key(|chunk| chunk.number);
    let count = blocks.len() * chunks.len();
    let of_chunks = blocks
        .iter()
        .flat_map(|block| chunks.iter().filter_map(move |chunk| Some(sevens(chunk.signs.as_ref()?, block))));
    Some(quote!({
        let sevens = [#(#of_chunks),*];
        kernels::bytes::each::<u32, #count>(|c| kernels::bytes::even_signs(sevens[c]))
    }))
}

/// Whether even signs of a block are computed together.
fn has_even_signs_together(isa: &dyn Isa, plan: &Plan) -> bool {
    let has_even = plan.format.weight.signs.as_ref().is_some_and(|signs| signs.even);
    has_even && !has_loops(isa, plan)
}

/// Codes of 7 bits, each in a byte of its own: a `u32`.
fn sevens(Picked(runs): &Picked, block: &TokenStream) -> TokenStream {
    const SEVEN: usize = 7;
    let run = |run: &BitRun, position: usize| {
        let BitRun { first, bits, .. } = run;
        let run = quote!(kernels::bytes::bits::<#first, #bits, _>(#block) as u32);
        if position == 0 { run } else { quote!((#run) << #position) }
    };
    if runs.iter().all(|run| run.position / SEVEN == (run.position + run.bits - 1) / SEVEN) {
        let runs = runs.iter().map(|each| run(each, each.position + each.position / SEVEN));
        return quote!(#(#runs)|*);
    }
    let runs = runs.iter().map(|each| run(each, each.position));
    quote!(kernels::bytes::spread_sevens(#(#runs)|*))
}

/// The codes of a chunk, looked up where the format has a table or a codebook, and raised by so much. Even signs of a block's
/// chunks are in `even`, where they are computed together.
fn codes(isa: &dyn Isa, plan: &Plan, chunk: &Chunk, raised: i32, even: &TokenStream) -> TokenStream {
    let plane = |plane: &Plane| {
        let blocks = window(isa, chunk, &plane.moves);
        isa.plane(&blocks, window_bytes(plan, &plane.moves), plane)
    };
    let codes = match &chunk.codes {
        ChunkCodes::Planes(planes) => {
            planes.iter().map(plane).reduce(|a, b| isa.or(a, b)).unwrap_or_default()
        }
        ChunkCodes::Digits { bytes, powers, are_fractions: true, .. } => isa.trits(plane(bytes), powers),
        ChunkCodes::Digits { bytes, powers, base, .. } => isa.digits(plane(bytes), powers, *base),
        ChunkCodes::Entries(entries) => {
            let Value::Codebook { name, weights } = &plan.format.weight.value else {
                unreachable!("only a codebook has entries")
            };
            let (format, book) = (format_ident!("{}", plan.format.name), format_ident!("{name}"));
            // Of each entry what there is for each block.
            let picked: Vec<_> = entries.iter().map(|entry| picked(isa, chunk, entry)).collect();
            let indices = (0..isa.blocks()).flat_map(|k| picked.iter().map(move |entry| entry[k].clone()));
            isa.entries(quote!(#format::#book), *weights, &indices.collect::<Vec<_>>())
        }
    };
    let values = match &plan.format.weight.value {
        Value::Linear { .. } | Value::Codebook { .. } => codes,
        Value::Table { entries, .. } if chunk.signs.is_none() => {
            let entries: Vec<i8> = entries.iter().map(|&entry| (i32::from(entry) + raised) as i8).collect();
            return isa.lookup(codes, &entries);
        }
        Value::Table { entries, .. } => isa.lookup(codes, entries),
    };
    let values = match (&chunk.signs, &plan.format.weight.signs) {
        (Some(_), Some(_)) if has_even_signs_together(isa, plan) => {
            let signs = (0..isa.blocks()).map(|k| {
                let place = k * plan.format.chunks() + chunk.number;
                quote!(#even[#place])
            });
            isa.negate(values, &signs.collect::<Vec<_>>())
        }
        (Some(code), Some(signs)) => {
            let codes = picked(isa, chunk, code);
            let signs = codes.iter().map(|code| {
                if signs.even {
                    quote!(kernels::bytes::even_signs(kernels::bytes::spread_sevens((#code) as u32)))
                } else {
                    quote!((#code) as u32)
                }
            });
            isa.negate(values, &signs.collect::<Vec<_>>())
        }
        _ => values,
    };
    if raised == 0 { values } else { isa.minus(values, -raised) }
}

/// One code of each block, a `usize`.
fn picked(isa: &dyn Isa, chunk: &Chunk, code: &Picked) -> Vec<TokenStream> {
    let of_block = |k: usize| {
        let runs = code.0.iter().map(|BitRun { first, moves, bits, position }| {
            let block = &window(isa, chunk, moves)[k];
            let run = quote!(kernels::bytes::bits::<#first, #bits, _>(#block));
            if *position == 0 { run } else { quote!(#run << #position) }
        });
        quote!(#(#runs)|*)
    };
    (0..isa.blocks()).map(of_block).collect()
}

/// The scales of a block as floats: one splat vector, or vectors of group scales.
struct Scales<'a> {
    isa: &'a dyn Isa,
    plan: &'a Plan<'a>,
    scale: &'a Scale<'a>,
    /// Whether they are group scales in one array, which loops pick from.
    in_memory: bool,
    /// The variables that hold them: one for each vector, or one of an array.
    names: Vec<proc_macro2::Ident>,
}

impl<'a> Scales<'a> {
    fn new(name: &str, isa: &'a dyn Isa, plan: &'a Plan<'a>, scale: &'a Scale<'a>) -> Self {
        let in_memory = has_loops(isa, plan) && scale.size.is_some();
        let names = if in_memory {
            vec![format_ident!("{name}_array")]
        } else {
            (0..plan.scale_vectors(scale)).map(|v| format_ident!("{name}_{v}")).collect()
        };
        Self { isa, plan, scale, in_memory, names }
    }

    /// Memory for the array: with a vector more, so that eight floats can be loaded from any group on.
    fn memory(&self) -> TokenStream {
        let floats = LANES * (self.plan.scale_vectors(self.scale) + 1);
        quote!([0.0; #floats])
    }

    /// Statements that compute the array; `index` selects the row.
    fn fill(&self, index: &TokenStream, blocks: &[TokenStream]) -> TokenStream {
        let [block] = blocks else { return quote!() };
        let (name, base, vectors) = (&self.names[0], self.base(blocks), self.plan.scale_vectors(self.scale));
        let groups = || self.scale.groups.iter().enumerate();
        let codes = groups().map(|(g, group)| {
            let (names, codes) = (codes_name(g), all_scale_codes(self.plan, group, block));
            quote!(let #names = #codes;)
        });
        let values = groups().map(|(g, group)| {
            let eight = eight_scale_codes(self.plan, group, codes_name(g), quote!(8 * v));
            self.value(g, group, self.eight(group, &[eight]))
        });
        let store = self.isa.store(quote!(#name #index.as_chunks_mut::<8>().0[v]), self.product(values));
        quote! {
            #base
            #(#codes)*
            for v in 0..#vectors {
                #store
            }
        }
    }

    /// Statements that compute what all of them share.
    fn shared(&self, blocks: &[TokenStream]) -> TokenStream {
        let base = self.base(blocks);
        let codes = self.scale.groups.iter().enumerate().filter_map(|(g, group)| {
            let planes = self.planes(group)?;
            let bits = planes.iter().map(|plane| self.isa.plane(blocks, self.plan.format.bytes(), plane));
            let (names, codes) = (codes_name(g), bits.reduce(|a, b| self.isa.or(a, b)));
            Some(quote!(let #names = #codes;))
        });
        quote!(#base #(#codes)*)
    }

    /// The planes of a factor's codes, where all are taken out of the block together.
    fn planes<'g>(&self, group: &'g GroupFactor) -> Option<&'g [Plane]> {
        let is_linear = matches!(group.scale.value, ScaleValue::Linear { .. });
        let bytes = self.plan.format.bytes();
        let together = |planes: &&[Plane]| planes.iter().all(|plane| ways::windows(plane, bytes).is_some());
        group.planes.as_deref().filter(|_| is_linear).filter(together)
    }

    /// Statements that compute the product of the block's factors, and what is added to factors of groups.
    fn base(&self, blocks: &[TokenStream]) -> TokenStream {
        let d = self.scale.block.iter().map(|factor| self.factor(factor, blocks));
        let d = d.reduce(|a, b| self.isa.mul(a, b)).map(|d| quote!(let d = #d;));
        let offsets = self.scale.groups.iter().enumerate().filter_map(|(g, group)| {
            let (_, factor) = group.offset.as_ref()?;
            let (name, value) = (offset_name(g), self.factor(factor, blocks));
            Some(quote!(let #name = #value;))
        });
        quote!(#d #(#offsets)*)
    }

    /// Floats: a factor of each block, in every lane of that.
    fn factor(&self, factor: &Factor, blocks: &[TokenStream]) -> TokenStream {
        let isa = self.isa;
        let splat = |of: &dyn Fn(&TokenStream) -> TokenStream| {
            isa.splat_each(&blocks.iter().map(of).collect::<Vec<_>>())
        };
        match factor {
            Factor::F16 { offset } => isa.splat_f16(blocks, *offset),
            Factor::BF16 { offset } => {
                splat(&|block| quote!(kernels::bytes::bf16_at::<#offset, _>(#block).to_f32()))
            }
            Factor::F32 { offset } => splat(&|block| quote!(kernels::bytes::f32_at::<#offset, _>(#block))),
            Factor::Number { ty, offset, constant } => {
                let numbers = numbers(*ty, *constant);
                splat(&|block| quote!(#numbers[usize::from(#block[#offset])]))
            }
            Factor::Constant(constant) => isa.splat(quote!(#constant)),
        }
    }

    /// The value of each variable.
    fn values(&self, blocks: &[TokenStream]) -> Vec<TokenStream> {
        if self.scale.groups.is_empty() {
            return vec![quote!(d)];
        }
        let of_group = |v: usize, (g, group): (usize, &GroupFactor)| {
            if self.planes(group).is_some() {
                let (names, signed, zero) =
                    (codes_name(g), has_signed_codes(self.plan, group), code_zero(group));
                return self.value(g, group, self.isa.floats(self.isa.widen(names, v, signed, zero)));
            }
            let eights: Vec<_> = blocks.iter().map(|block| scale_codes(self.plan, group, v, block)).collect();
            self.value(g, group, self.eight(group, &eights))
        };
        let value = |v| self.product(self.scale.groups.iter().enumerate().map(|group| of_group(v, group)));
        (0..self.names.len()).map(value).collect()
    }

    /// Floats for eight codes of each block, as bytes: numbers, or what is linear in them; or for eight wider numbers.
    fn eight(&self, group: &GroupFactor, eights: &[TokenStream]) -> TokenStream {
        let (isa, signed) = (self.isa, has_signed_codes(self.plan, group));
        match &group.scale.value {
            ScaleValue::Linear { .. } => isa.scales(eights, signed, code_zero(group)),
            ScaleValue::Table { entries } => {
                let looked_up =
                    eights.iter().map(|eight| quote!(kernels::bytes::looked_up(#eight, &[#(#entries),*])));
                isa.scales(&looked_up.collect::<Vec<_>>(), true, 0)
            }
            ScaleValue::Number(FieldType::F16) => isa.halves(eights),
            ScaleValue::Number(FieldType::BF16 | FieldType::F32) => isa.singles(eights),
            ScaleValue::Number(ty) => isa.numbers(eights, numbers(*ty, group.constant)),
        }
    }

    /// The scales of eight groups of each block by factor `g`, of which `eight` are floats for the codes.
    fn value(&self, g: usize, group: &GroupFactor, eight: TokenStream) -> TokenStream {
        let isa = self.isa;
        let scales = match &group.scale.value {
            ScaleValue::Linear { factor, zero } if *factor != 1 => {
                let (factor, more) = (*factor as f32, -*zero as f32);
                isa.fma(isa.splat(quote!(#factor)), eight, isa.splat(quote!(#more)), false)
            }
            _ => eight,
        };
        match &group.offset {
            Some((subtract, _)) => {
                let offset = offset_name(g);
                isa.add(scales, quote!(#offset), *subtract)
            }
            None => scales,
        }
    }

    /// The product of the block's factors and those of groups.
    fn product(&self, groups: impl Iterator<Item = TokenStream>) -> TokenStream {
        let block = (!self.scale.block.is_empty()).then(|| quote!(d));
        block.into_iter().chain(groups).reduce(|a, b| self.isa.mul(a, b)).unwrap_or_default()
    }

    /// The floats for the lanes of a chunk's dot product; `index` selects the row.
    fn of_dot(&self, chunk: &Chunk, index: &TokenStream) -> TokenStream {
        let lanes = |size: usize| self.plan.dot_lanes(size, chunk.number);
        self.at(chunk, 0, CHUNK / LANES, lanes, index)
    }

    /// The floats for eight weights, the `eighth`-th such run of a chunk; `index` selects the row.
    fn of_weights(&self, chunk: &Chunk, eighth: usize, index: &TokenStream) -> TokenStream {
        let lanes = |size: usize| self.plan.weight_lanes(size, chunk.number * (CHUNK / LANES) + eighth);
        self.at(chunk, eighth * LANES, 1, lanes, index)
    }

    /// The floats for eight lanes of `per_lane` weights from weight `first` of the chunk on.
    fn at(
        &self,
        chunk: &Chunk,
        first: usize,
        per_lane: usize,
        lanes: impl Fn(usize) -> Lanes,
        index: &TokenStream,
    ) -> TokenStream {
        let isa = self.isa;
        let Some(size) = self.scale.size else {
            let name = &self.names[0];
            return quote!(#name #index);
        };
        if !self.in_memory {
            let lanes = lanes(size);
            let name = &self.names[lanes.vector];
            return isa.permute(quote!(#name #index), lanes.index);
        }
        let (name, at) = (&self.names[0], group_index(chunk, size, first));
        // Groups of more than a chunk hold whole chunks, so that all lanes are in one.
        let size = size.min(CHUNK);
        let lane_groups: [u8; LANES] =
            std::array::from_fn(|lane| ((first + lane * per_lane) / size - first / size) as u8);
        if lane_groups == [0; LANES] {
            return isa.splat(quote!(#name #index[#at]));
        }
        let eight = isa.load(quote!(kernels::bytes::eight_floats(&#name #index, #at)));
        if lane_groups == [0, 1, 2, 3, 4, 5, 6, 7] { eight } else { isa.permute(eight, lane_groups) }
    }
}

/// What is taken off a code while it is an integer: the zero point, where nothing is multiplied with the code before.
fn code_zero(group: &GroupFactor) -> i32 {
    match group.scale.value {
        ScaleValue::Linear { factor: 1, zero } => zero,
        _ => 0,
    }
}

/// Whether a factor's codes are bytes with signs.
fn has_signed_codes(plan: &Plan, group: &GroupFactor) -> bool {
    group.scale.code().is_some_and(|code| plan.format.codes[code].signed)
}

/// The variable of all codes of factor `g`.
fn codes_name(g: usize) -> TokenStream {
    let name = if g == 0 { format_ident!("codes") } else { format_ident!("codes_{g}") };
    quote!(#name)
}

/// The variable of what is added to factor `g`.
fn offset_name(g: usize) -> proc_macro2::Ident {
    format_ident!("offset_{g}")
}

/// The numbers of a type of 8 bits, times a constant: a `&[f32; 256]`.
fn numbers(ty: FieldType, constant: f32) -> TokenStream {
    let name = format_ident!("{}", ty.name());
    quote!((const { &kernels::numbers::#name(#constant) }))
}

/// What a factor of groups has for the `v`-th eight products of a block: codes as `[u8; 8]` with zeros where there are fewer,
/// the block's very bytes where each code is one, or wider numbers.
fn scale_codes(plan: &Plan, group: &GroupFactor, v: usize, block: &TokenStream) -> TokenStream {
    let first = v * LANES;
    let Some(codes) = group.scale.code().map(|code| &plan.format.codes[code]) else {
        return eight_scale_codes(plan, group, all_scale_codes(plan, group, block), quote!(#first));
    };
    if group.repeats > 1 {
        return eight_scale_codes(plan, group, all_scale_codes(plan, group, block), quote!(#first));
    }
    let count = LANES.min(codes.len() - first);
    match bytes_of_codes(plan, codes, first, count, block) {
        Some(field) if count == LANES => quote!(*#field),
        Some(field) => quote!(kernels::bytes::eight_of::<0>(#field)),
        None => {
            let codes = accessed(plan, codes, block);
            quote!(kernels::bytes::eight_of::<#first>(&#codes))
        }
    }
}

/// The same for the eight products from `first` on, out of `all` that the factor has.
fn eight_scale_codes(plan: &Plan, group: &GroupFactor, all: TokenStream, first: TokenStream) -> TokenStream {
    let repeats = group.repeats;
    match group.scale.source {
        Source::Codes(_) if repeats == 1 => quote!(kernels::bytes::eight_at(#all, #first)),
        Source::Codes(_) => quote!(kernels::bytes::eight_repeated(#all, #first, #repeats)),
        Source::Numbers(field) => {
            let ty = format_ident!("eight_{}", plan.format.fields[field].ty.name());
            quote!(kernels::bytes::#ty(#all, #first, #repeats))
        }
    }
}

/// All scale codes of a block, what makes a `&[u8]`, or the bytes of wider numbers.
fn all_scale_codes(plan: &Plan, group: &GroupFactor, block: &TokenStream) -> TokenStream {
    match group.scale.source {
        Source::Codes(code) => {
            let codes = &plan.format.codes[code];
            bytes_of_codes(plan, codes, 0, codes.len(), block).unwrap_or_else(|| {
                let codes = accessed(plan, codes, block);
                quote!(&#codes)
            })
        }
        Source::Numbers(field) => {
            let (field, bytes) = (&plan.format.fields[field], plan.format.bytes());
            let (offset, count) = (field.offset, field.bytes());
            quote!(kernels::bytes::field::<#offset, #count, #bytes>(#block))
        }
    }
}

/// The codes of a block, by their accessor.
fn accessed(plan: &Plan, codes: &Codes, block: &TokenStream) -> TokenStream {
    let (block_type, accessor) = (format_ident!("{}", plan.format.name), format_ident!("{}", codes.name));
    quote!(#block_type::from_bytes(#block).#accessor())
}

/// The bytes of a block, a `&[u8; count]`, that are some of its codes, if each of these is a byte.
fn bytes_of_codes(
    plan: &Plan,
    codes: &Codes,
    first: usize,
    count: usize,
    block: &TokenStream,
) -> Option<TokenStream> {
    let bytes = plan.format.bytes();
    // Each code as a byte of the block, where that is what it is.
    let byte = |i: usize| {
        let (piece, e) = codes.piece_of(first + i);
        match &piece.terms[..] {
            [term @ Term { cut: Cut::Bits { bits: 8, .. }, .. }] => {
                Some(plan.format.fields[term.field].offset + piece.locate(term, e).byte)
            }
            _ => None,
        }
    };
    let offset = byte(0)?;
    let all = (0..count).all(|i| byte(i) == Some(offset + i));
    all.then(|| quote!(kernels::bytes::field::<#offset, #count, #bytes>(#block)))
}

/// The prefetches of a block of each row, one for each of its cache lines.
fn prefetch(isa: &dyn Isa, plan: &Plan) -> Option<TokenStream> {
    let blocks = isa.blocks();
    let lines = (blocks * plan.format.bytes()).div_ceil(64);
    let place = if blocks == 1 { quote!(&rows[r][b]) } else { quote!(&rows[r][b][0]) };
    if isa.prefetch(&place, quote!(0)).is_empty() {
        return None;
    }
    let prefetches = if has_loops(isa, plan) {
        let prefetch = isa.prefetch(&place, quote!(#AHEAD + 64 * line));
        quote!(for line in 0..#lines { #prefetch })
    } else {
        let prefetches = (0..lines).map(|line| AHEAD + 64 * line).map(|at| isa.prefetch(&place, quote!(#at)));
        quote!(#(#prefetches)*)
    };
    Some(quote!(for r in 0..R { #prefetches }))
}

#[cfg(test)]
mod tests {
    use super::avx_vnni_int8::AvxVnniInt8;
    use super::*;

    /// What a block of 64 weights holds, and by how much its values are raised by AVX2, AVX-VNNI and an instruction set whose
    /// products take signs.
    type Raised = (&'static str, &'static str, [Option<i32>; 3]);

    #[rustfmt::skip]
    const RAISED: &[Raised] = &[
        ("unsigned codes", "qs: [u8; 32], q[h: 2, i: 32] = qs[i] >> 4 * h & 15; w = d * (q - 8);", [Some(0); 3]),
        ("signed bytes", "qs: [i8; 64], w = d * qs;", [None, Some(128), None]),
        ("a table that spans 24", "qs: [u8; 16], table T = [-12, 0, 3, 12]; q[i: 16, k: 4] = qs[i] >> 2 * k & 3; w = d * T[q];", [Some(16), Some(16), None]),
        ("one that spans 240", "qs: [u8; 16], table T = [-127, 0, 3, 113]; q[i: 16, k: 4] = qs[i] >> 2 * k & 3; w = d * T[q];", [None, Some(128), None]),
        ("one of which every entry is unsigned", "qs: [u8; 16], table T = [0, 1, 3, 127]; q[i: 16, k: 4] = qs[i] >> 2 * k & 3; w = d * T[q];", [Some(0), Some(0), None]),
        ("one up to 100 and down to -20", "qs: [u8; 16], table T = [-20, 0, 3, 100]; q[i: 16, k: 4] = qs[i] >> 2 * k & 3; w = d * T[q];", [None, Some(32), None]),
        ("signs beside a table", "ss: [u8; 8], qs: [u8; 16], table T = [1, 2, 3, 4]; q[i: 16, k: 4] = qs[i] >> 2 * k & 3; w = d * signs(ss) * T[q];", [Some(4), Some(4), None]),
    ];

    #[test]
    fn values_are_raised_where_they_fit() {
        for (name, body, expected) in RAISED {
            let declaration = format!("pub block Case[64] {{ d: f16, {body} }}");
            let declarations: crate::parse::Declarations = syn::parse_str(&declaration).expect(name);
            let formats = crate::check::check(&declarations);
            let formats = formats.unwrap_or_else(|errors| panic!("{name}: {}", errors[0]));
            let plan = crate::plan::plan(&formats[0]);
            let isas: [&dyn Isa; 3] = [&avx2_fma::Avx2Fma, &avx_vnni::AvxVnni, &AvxVnniInt8];
            assert_eq!(isas.map(|isa| raised(isa, &plan)), *expected, "{name}");
        }
    }

    /// The README's example of a new instruction set states what differs from its base and no more.
    #[test]
    fn an_instruction_set_states_what_differs() {
        let tokens = || quote!(x);
        assert_eq!(AvxVnniInt8.registers(), 16);
        assert_eq!(AvxVnniInt8.unsigned_limit(), 0);
        let signed = AvxVnniInt8.dot_signed(tokens(), tokens(), tokens()).to_string();
        assert!(signed.contains("_mm256_dpbssd_epi32"), "{signed}");
        let unsigned = AvxVnniInt8.dot_unsigned(tokens(), tokens(), tokens()).to_string();
        assert!(unsigned.contains("_mm256_dpbusd_avx_epi32"), "{unsigned}");
    }
}
