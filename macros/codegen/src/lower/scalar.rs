//! Plain Rust, for every machine: vectors are arrays, and the compiler does with them what it can.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::{Integers, Isa, Products, Target, Way};
use crate::model::CHUNK;
use crate::plan::{LANES, Plane};

pub struct Scalar;

impl Isa for Scalar {
    fn target(&self) -> &'static Target {
        &Target {
            name: "scalar",
            variant: "Scalar",
            summary: "plain Rust, on every machine",
            arch: None,
            features: &[],
        }
    }

    /// What x86-64 and AArch64 have at least, as far as x86-64's 16 go.
    fn registers(&self) -> usize {
        16
    }

    /// Memory is not what it waits for.
    fn vectors(&self) -> usize {
        1
    }

    /// The compiler makes vectors of each loop over lanes, for minutes in all if there is one for each chunk.
    fn unrolls(&self) -> bool {
        false
    }

    fn products(&self) -> Products {
        Products { unsigned: None, signed: None }
    }

    fn prelude(&self) -> TokenStream {
        quote!(
            use self::kernels::portable;
        )
    }

    fn of_one_block(&self) -> Option<&'static dyn Isa> {
        None
    }

    fn prefetch(&self, _block: &TokenStream, _distance: TokenStream) -> TokenStream {
        quote!()
    }

    fn plane(&self, blocks: &[TokenStream], len: usize, plane: &Plane) -> TokenStream {
        let block = &blocks[0];
        let mask = plane.mask;
        match &Way::of(plane, len) {
            // Vectors of every x86-64 CPU have 16 bytes.
            Way::Run { offset, shift } => {
                let second = offset + 16;
                quote!(portable::plane(#block, [#offset, #second], [#shift, #shift], #mask))
            }
            Way::Halves { offsets, shifts } => {
                quote!(portable::plane(#block, [#(#offsets),*], [#(#shifts),*], #mask))
            }
            Way::Quarters { offsets, shifts } => {
                quote!(portable::plane(#block, [#(#offsets),*], [#(#shifts),*], #mask))
            }
            Way::Eighths { offsets, shifts } => {
                quote!(portable::plane(#block, [#(#offsets),*], [#(#shifts),*], #mask))
            }
            Way::Spread { bytes, shifts } => {
                quote!(portable::spread(#block, [#(#bytes),*], [#(#shifts),*], #mask))
            }
            Way::Bits { windows: [low, high], index, bits } => {
                let index = index.iter().copied().map(Literal::u8_unsuffixed);
                let bits = bits.iter().copied().map(Literal::u8_unsuffixed);
                quote!(portable::bits(#block, [#low, #high], &[#(#index),*], &[#(#bits),*], #mask))
            }
            Way::Shuffle { windows: [low, high], index } => {
                let shifts = &plane.shifts;
                let index = index.iter().copied().map(Literal::u8_unsuffixed);
                let shifts = shifts.iter().copied().map(Literal::i32_unsuffixed);
                quote!(portable::shuffle(#block, [#low, #high], &[#(#index),*], &[#(#shifts),*], #mask))
            }
            Way::Words { windows: [low, high], index } => {
                let shifts = &plane.shifts;
                let index = index.iter().copied().map(Literal::u8_unsuffixed);
                let shifts = shifts.iter().copied().map(Literal::i32_unsuffixed);
                let highest_first = plane.highest_first;
                quote! {
                    portable::words::<#highest_first, _>(
                        #block, [#low, #high], &[#(#index),*], &[#(#shifts),*], #mask,
                    )
                }
            }
        }
    }

    fn or(&self, a: TokenStream, b: TokenStream) -> TokenStream {
        quote!(portable::or(#a, #b))
    }

    fn lookup(&self, codes: TokenStream, entries: &[i8]) -> TokenStream {
        let entries = entries.iter().copied().map(Literal::i8_unsuffixed);
        quote!(portable::lookup(#codes, &[#(#entries),*]))
    }

    fn digits(&self, bytes: TokenStream, powers: &[u8; CHUNK], base: usize) -> TokenStream {
        let divisors = powers.iter().map(|&power| Literal::u8_unsuffixed((base as u8).pow(power.into())));
        let base = Literal::u8_unsuffixed(base as u8);
        quote!(portable::digits(#bytes, &[#(#divisors),*], #base))
    }

    fn trits(&self, bytes: TokenStream, powers: &[u8; CHUNK]) -> TokenStream {
        let powers = powers.iter().map(|&power| Literal::u8_unsuffixed(3_u8.pow(power.into())));
        quote!(portable::trits(#bytes, &[#(#powers),*]))
    }

    fn entries(&self, book: TokenStream, _weights: usize, indices: &[TokenStream]) -> TokenStream {
        quote!(portable::entries(#book, [#(#indices),*]))
    }

    fn negate(&self, codes: TokenStream, signs: &[TokenStream]) -> TokenStream {
        quote!(portable::negate(#codes, #(#signs),*))
    }

    fn numbers(&self, codes: &[TokenStream], table: TokenStream) -> TokenStream {
        quote!(portable::numbers(#(#codes),*, #table))
    }

    fn halves(&self, bits: &[TokenStream]) -> TokenStream {
        quote!(portable::halves(#(#bits),*))
    }

    fn singles(&self, eights: &[TokenStream]) -> TokenStream {
        quote!(#(#eights),*)
    }

    fn activations(&self, a: &[TokenStream]) -> TokenStream {
        quote!(portable::activations(#(#a),*))
    }

    fn lane_sums(&self, a: &[TokenStream]) -> TokenStream {
        quote!(portable::lane_sums(#(#a),*))
    }

    fn steps(&self, a: &[TokenStream]) -> TokenStream {
        quote!(portable::steps(#(#a),*))
    }

    fn unsigned_limit(&self) -> i32 {
        0
    }

    fn seed(&self, zero: i32, sums: TokenStream) -> TokenStream {
        if zero == 0 { quote!([0_i32; 8]) } else { quote!(portable::seed(#zero, #sums)) }
    }

    fn seed_of_floats(&self, zero: i32, sums: TokenStream) -> TokenStream {
        self.seed(zero, sums)
    }

    fn dot_unsigned(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(portable::dot_unsigned(#seed, #codes, #activations))
    }

    fn minus(&self, codes: TokenStream, zero: i32) -> TokenStream {
        let zero = Literal::u8_unsuffixed(zero as u8);
        quote!(portable::minus(#codes, #zero))
    }

    fn dot_signed(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(portable::dot_signed(#seed, #codes, #activations))
    }

    fn store_codes(&self, out: TokenStream, codes: TokenStream) -> TokenStream {
        quote!(#out = #codes;)
    }

    fn widen(&self, codes: TokenStream, eighth: usize, signed: bool, zero: i32) -> TokenStream {
        quote!(portable::widen::<#eighth, #signed>(#codes, #zero))
    }

    fn floats(&self, lanes: TokenStream) -> TokenStream {
        quote!(portable::floats(#lanes))
    }

    fn offset(&self, _steps: TokenStream) -> Option<TokenStream> {
        None
    }

    fn scaled(&self, lanes: TokenStream, steps: TokenStream, _offset: TokenStream) -> TokenStream {
        self.mul(self.floats(lanes), steps)
    }

    fn scales(&self, codes: &[TokenStream], signed: bool, zero: i32) -> TokenStream {
        quote!(portable::scales::<#signed>(#(#codes),*, #zero))
    }

    fn splat_f16(&self, blocks: &[TokenStream], offset: usize) -> TokenStream {
        quote!(portable::splat_f16::<#offset, _>(#(#blocks),*))
    }

    fn load(&self, place: TokenStream) -> TokenStream {
        quote!(*#place)
    }

    fn splat(&self, value: TokenStream) -> TokenStream {
        quote!([#value; 8])
    }

    fn splat_each(&self, values: &[TokenStream]) -> TokenStream {
        quote!([#(#values),*; 8])
    }

    fn permute(&self, floats: TokenStream, index: [u8; LANES]) -> TokenStream {
        let index = index.into_iter().map(Literal::u8_unsuffixed);
        quote!(portable::permute(#floats, [#(#index),*]))
    }

    fn mul(&self, a: TokenStream, b: TokenStream) -> TokenStream {
        quote!(portable::mul(#a, #b))
    }

    fn add(&self, a: TokenStream, b: TokenStream, subtract: bool) -> TokenStream {
        if subtract { quote!(portable::sub(#a, #b)) } else { quote!(portable::add(#a, #b)) }
    }

    fn fma(&self, a: TokenStream, b: TokenStream, c: TokenStream, subtract: bool) -> TokenStream {
        // A fused multiply-add without the instruction is a library call per lane.
        self.add(c, self.mul(a, b), subtract)
    }

    fn run_sums(&self, vectors: &[TokenStream]) -> TokenStream {
        quote!(portable::run_sums([#(#vectors),*]))
    }

    fn sum(&self, floats: TokenStream) -> TokenStream {
        quote!(portable::sum(#floats))
    }

    fn store(&self, out: TokenStream, floats: TokenStream) -> TokenStream {
        quote!(#out = #floats;)
    }

    /// Without an instruction for it, sums in 16 and 32 bits are no faster than those in floats.
    fn integers(&self) -> Option<&'static dyn Integers> {
        None
    }
}
