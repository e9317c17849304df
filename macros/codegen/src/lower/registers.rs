//! Primitives that are the same for x86-64's registers of 256 and of 512 bits: intrinsics of one name but for the width,
//! and functions of one name in `quantloom_kernels::x86` and in `x86::wide`.

use super::*;

/// Registers of so many bits, 256 or 512.
#[derive(Clone, Copy)]
pub struct Registers(pub usize);

impl Registers {
    /// The intrinsic of this width, as `_mm256_add_ps`.
    fn intrinsic(self, operation: &str) -> TokenStream {
        let name = format_ident!("_mm{}_{operation}", self.0);
        quote!(#name)
    }

    /// That of all bits, as `_mm256_or_si256`.
    fn of_all_bits(self, operation: &str) -> TokenStream {
        self.intrinsic(&format!("{operation}_si{}", self.0))
    }

    /// A function for registers of this width.
    fn function(self, name: &str) -> TokenStream {
        let name = format_ident!("{name}");
        if self.0 == 256 { quote!(x86::#name) } else { quote!(wide::#name) }
    }

    /// What a register holds, a block's 256 bits of which are `of_block`: the same for each block.
    pub fn of_each_block(self, of_block: TokenStream) -> TokenStream {
        if self.0 == 256 { of_block } else { quote!(wide::twice(#of_block)) }
    }

    pub fn or(self, a: TokenStream, b: TokenStream) -> TokenStream {
        let or = self.of_all_bits("or");
        quote!(#or(#a, #b))
    }

    /// Codes: a & b.
    pub fn and(self, a: TokenStream, b: TokenStream) -> TokenStream {
        let and = self.of_all_bits("and");
        quote!(#and(#a, #b))
    }

    /// Codes: the bits of `mask` of each.
    pub fn masked(self, bytes: TokenStream, mask: u8) -> TokenStream {
        if mask == u8::MAX {
            return bytes;
        }
        let (set1, mask) = (self.intrinsic("set1_epi8"), Literal::i8_unsuffixed(mask as i8));
        self.and(bytes, quote!(#set1(#mask)))
    }

    /// All bytes shifted right, or left by a negative amount; what crosses bytes is masked away later.
    pub fn shifted(self, bytes: TokenStream, shift: i32) -> TokenStream {
        let amount = Literal::u32_unsuffixed(shift.unsigned_abs());
        let shifted = match shift {
            0 => return bytes,
            1.. => self.intrinsic("srli_epi16"),
            _ => self.intrinsic("slli_epi16"),
        };
        quote!(#shifted::<#amount>(#bytes))
    }

    /// Digits of `base` of `bytes`, whole numbers.
    pub fn digits(self, bytes: TokenStream, powers: &[u8; CHUNK], base: usize) -> TokenStream {
        let reciprocals = |byte: usize| {
            let powers = powers.iter().skip(byte).step_by(2);
            let reciprocal = powers.map(|&power| 32768_usize.div_ceil(base.pow(power.into())));
            let reciprocal = reciprocal.map(|reciprocal| Literal::i16_unsuffixed(reciprocal as u16 as i16));
            self.of_each_block(quote!(_mm256_setr_epi16(#(#reciprocal),*)))
        };
        let (digits, even, odd) = (self.function("digits"), reciprocals(0), reciprocals(1));
        let base = Literal::usize_unsuffixed(base);
        quote!(#digits::<#base>(#bytes, #even, #odd))
    }

    /// Digits of the base 3 of `bytes`, which are multiplied by powers of 3 where some are not the first.
    pub fn trits(self, bytes: TokenStream, powers: &[u8; CHUNK]) -> TokenStream {
        let times = |byte: usize| {
            let power = powers.iter().skip(byte).step_by(2).map(|&power| 3_i16.pow(power.into()));
            let power = power.map(Literal::i16_unsuffixed);
            self.of_each_block(quote!(_mm256_setr_epi16(#(#power),*)))
        };
        let moved = if powers.iter().all(|&power| power == 0) {
            bytes
        } else {
            let (times_bytes, even, odd) = (self.function("times_bytes"), times(0), times(1));
            quote!(#times_bytes(#bytes, #even, #odd))
        };
        let first_trits = self.function("first_trits");
        quote!(#first_trits(#moved))
    }

    pub fn entries(self, book: TokenStream, weights: usize, indices: &[TokenStream]) -> TokenStream {
        let join = self.function(&format!("entries_of_{weights}"));
        quote!(#join([#(x86::entry(#book, #indices)),*]))
    }

    pub fn negate(self, codes: TokenStream, signs: &[TokenStream]) -> TokenStream {
        let negate = self.function("negate");
        quote!(#negate(#codes, #(#signs),*))
    }

    pub fn activations(self, a: &[TokenStream]) -> TokenStream {
        let load = self.function("load_activations");
        quote!(#load(#(#a),*))
    }

    pub fn lane_sums(self, a: &[TokenStream]) -> TokenStream {
        let load = self.function("load_lane_sums");
        quote!(#load(#(#a),*))
    }

    pub fn steps(self, a: &[TokenStream]) -> TokenStream {
        let load = self.function("load_steps");
        quote!(#load(#(#a),*))
    }

    pub fn seed(self, zero: i32, sums: TokenStream) -> TokenStream {
        if zero == 0 {
            let none = self.of_all_bits("setzero");
            return quote!(#none());
        }
        let (times, set1) = (self.intrinsic("mullo_epi32"), self.intrinsic("set1_epi32"));
        let factor = Literal::i32_unsuffixed(-zero);
        quote!(#times(#sums, #set1(#factor)))
    }

    pub fn seed_of_floats(self, zero: i32, sums: TokenStream) -> TokenStream {
        let (set1, offset) = (self.intrinsic("set1_epi32"), Literal::i32_unsuffixed(OFFSET_BITS));
        if zero == 0 {
            return quote!(#set1(#offset));
        }
        let (add, seed) = (self.intrinsic("add_epi32"), self.seed(zero, sums));
        quote!(#add(#seed, #set1(#offset)))
    }

    pub fn minus(self, codes: TokenStream, zero: i32) -> TokenStream {
        let (sub, set1) = (self.intrinsic("sub_epi8"), self.intrinsic("set1_epi8"));
        let zero = Literal::i8_unsuffixed(zero as i8);
        quote!(#sub(#codes, #set1(#zero)))
    }

    /// Lanes or shorts, of so many bits each, minus `zero`.
    pub fn integers_minus(self, integers: TokenStream, bits: usize, zero: i32) -> TokenStream {
        if zero == 0 {
            return integers;
        }
        let [sub, set1] = ["sub", "set1"].map(|name| self.intrinsic(&format!("{name}_epi{bits}")));
        let zero = Literal::i32_unsuffixed(zero);
        quote!(#sub(#integers, #set1(#zero)))
    }

    /// Lanes from the bytes of a register of a quarter of the width.
    pub fn widened(self, bytes: TokenStream, signed: bool) -> TokenStream {
        let widen = self.intrinsic(if signed { "cvtepi8_epi32" } else { "cvtepu8_epi32" });
        quote!(#widen(#bytes))
    }

    pub fn floats(self, lanes: TokenStream) -> TokenStream {
        let floats = self.intrinsic("cvtepi32_ps");
        quote!(#floats(#lanes))
    }

    pub fn offset(self, steps: TokenStream) -> Option<TokenStream> {
        let offset = -OFFSET;
        Some(self.mul(steps, self.splat(quote!(#offset))))
    }

    pub fn scaled(self, lanes: TokenStream, steps: TokenStream, offset: TokenStream) -> TokenStream {
        let floats = self.intrinsic(&format!("castsi{}_ps", self.0));
        self.fma(quote!(#floats(#lanes)), steps, offset, false)
    }

    pub fn splat_f16(self, blocks: &[TokenStream], offset: usize) -> TokenStream {
        let splat = self.function("splat_f16");
        quote!(#splat::<#offset, _>(#(#blocks),*))
    }

    pub fn splat(self, value: TokenStream) -> TokenStream {
        let set1 = self.intrinsic("set1_ps");
        quote!(#set1(#value))
    }

    pub fn permute(self, floats: TokenStream, index: [u8; LANES]) -> TokenStream {
        let permute = self.function("permute");
        let index = index.into_iter().map(|i| Literal::i32_unsuffixed(i.into()));
        quote!(#permute(#floats, [#(#index),*]))
    }

    pub fn mul(self, a: TokenStream, b: TokenStream) -> TokenStream {
        let mul = self.intrinsic("mul_ps");
        quote!(#mul(#a, #b))
    }

    pub fn add(self, a: TokenStream, b: TokenStream, subtract: bool) -> TokenStream {
        let add = self.intrinsic(if subtract { "sub_ps" } else { "add_ps" });
        quote!(#add(#a, #b))
    }

    pub fn fma(self, a: TokenStream, b: TokenStream, c: TokenStream, subtract: bool) -> TokenStream {
        let fma = self.intrinsic(if subtract { "fnmadd_ps" } else { "fmadd_ps" });
        quote!(#fma(#a, #b, #c))
    }

    pub fn run_sums(self, vectors: &[TokenStream]) -> TokenStream {
        match vectors {
            [vector] => vector.clone(),
            _ => {
                let sums = self.function(&format!("run_sums_{}", vectors.len()));
                quote!(#sums([#(#vectors),*]))
            }
        }
    }

    pub fn sum(self, floats: TokenStream) -> TokenStream {
        let sum = self.function("sum");
        quote!(#sum(#floats))
    }

    /// Codes of scales and minima, the bits of each that are its own.
    pub fn group_masked(
        self,
        codes: TokenStream,
        GroupPlane { index, masks, .. }: &GroupPlane,
    ) -> TokenStream {
        let is_code = |i: &usize| index[*i].is_some();
        let Some(mask) = (0..CHUNK).find(is_code).map(|i| masks[i]) else { return codes };
        if (0..CHUNK).filter(is_code).all(|i| masks[i] == mask) {
            return self.masked(codes, mask);
        }
        let masks = masks.map(|mask| Literal::i8_unsuffixed(mask as i8));
        self.and(codes, self.of_each_block(quote!(_mm256_setr_epi8(#(#masks),*))))
    }

    pub fn multiples(self, pairs: &[[TokenStream; 2]]) -> TokenStream {
        let (load, pairs) = (self.function("load_multiples"), pairs.iter().flatten());
        quote!(#load(#(#pairs),*))
    }

    pub fn lane_scales(self, scales: TokenStream, chunks: [usize; 2], multiples: TokenStream) -> TokenStream {
        let (times, four_of_each) = (self.intrinsic("mullo_epi16"), self.function("four_of_each"));
        let [a, b] = chunks.map(Literal::usize_unsuffixed);
        quote!(#times(#four_of_each::<#a, #b>(#scales), #multiples))
    }

    pub fn totals(self, pairs: &[[TokenStream; 2]]) -> TokenStream {
        let (load, pairs) = (self.function("load_totals"), pairs.iter().flatten());
        quote!(#load(#(#pairs),*))
    }
}

/// The entries of a table in 16 bytes, with zeros where there are fewer.
pub fn table(entries: &[i8]) -> TokenStream {
    let entries = (0..16).map(|i| Literal::i8_unsuffixed(entries.get(i).copied().unwrap_or(0)));
    quote!(_mm_setr_epi8(#(#entries),*))
}

/// The offset that all of them are.
pub fn one_of(offsets: &[usize]) -> Option<usize> {
    offsets.iter().all(|offset| *offset == offsets[0]).then_some(offsets[0])
}
