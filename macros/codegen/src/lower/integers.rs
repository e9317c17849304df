//! Rows summed over whole blocks in integers: the other form of [`floats`](super::floats), for the formats that have
//! [`BlockSums`].
//!
//! Two chunks are one step. The lanes of their dot products are packed to 16 bits, multiplied with the steps of their
//! activations in units times the scales of their groups, and added up in 32 bits; the sums of a block, or of a part
//! of it, become floats once.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::{
    Integers, Isa, Places, Scales, Vectors, dot, has_signed_codes, of_each_block, product_zero_point,
    run_sums,
};
use crate::model::CHUNK;
use crate::plan::block_sums::{BlockSums, linear};
use crate::plan::{Chunk, GroupFactor, LANES, Minimum, Plan};

/// Statements that add a block of each row to its float sums.
///
/// What comes from the activations alone is made first, for all rows; then each row is summed over the whole block by itself.
pub fn block(
    isa: &dyn Isa,
    integers: &dyn Integers,
    plan: &Plan,
    BlockSums { parts, planes }: &BlockSums,
    scales: &Scales,
    minima: Option<&(&Minimum, Scales)>,
    places: &Places,
) -> TokenStream {
    let Places { index, each, let_blocks, .. } = places;
    let (blocks, acc) = (of_each_block(isa, "block"), quote!(acc #index));
    let group_codes = integers.group_codes(&blocks, planes);
    let of_group = |group: &GroupFactor| (has_signed_codes(plan, group), linear(group.scale).unwrap_or(0));
    let (signed, zero) = scales.scale.groups.first().map_or((false, 0), of_group);
    let group_scales = integers.shorts(quote!(codes), signed, zero);

    let no_lanes = isa.seed(0, quote!());
    let shared = Shared { isa, plan, places };
    let prepare = shared.statements(integers, minima.map(|(minimum, _)| *minimum));
    let add_minima = minima.map(|(minimum, minima)| {
        let base = minima.base(&blocks);
        let add = (0..minima.names.len()).map(|v| {
            let value = match minima.scale.groups.first() {
                None => quote!(d),
                Some(group) => {
                    let (signed, zero) = of_group(group);
                    // They are in the second half of the codes.
                    let values = isa.floats(isa.widen(quote!(codes), CHUNK / LANES / 2 + v, signed, zero));
                    if minima.scale.block.is_empty() { values } else { isa.mul(quote!(d), values) }
                }
            };
            let add = isa.fma(quote!(minima), shared.total(v), acc.clone(), minimum.subtract);
            quote! {
                let minima = #value;
                #each { #acc = #add; }
            }
        });
        quote!({ #base #(#add)* })
    });

    let chunks: Vec<_> = plan.loops.iter().flat_map(|of_loop| &of_loop.chunks).collect();
    let chunk = |number: usize| -> &Chunk {
        let found = chunks.iter().find(|chunk| chunk.number == number);
        found.expect("blocks with integer sums have no loops")
    };
    let base = scales.base(&blocks);
    let of_vector = places.of_vector();
    // Two rows are two chains of instructions that wait for each other; with few registers both would spill.
    let most: usize = if isa.registers() < 32 { 1 } else { 2 };
    let no_sums = match places.vectors {
        Vectors::One => quote!([#no_lanes; #most]),
        Vectors::Several => quote!([[#no_lanes; #most]; T]),
    };
    // The rows that are worked on together, and what finds the blocks of each.
    let each_row = |work: TokenStream| {
        quote! {
            for i in 0..together {
                let r = first + i;
                #let_blocks
                #work
            }
        }
    };
    let parts = parts.iter().map(|pairs| {
        let steps = pairs.iter().map(|&pair| {
            let dots = pair.map(|c| dot(isa, plan, chunk(c), shared.seed(c), shared.activations(c)));
            let scaled = integers.lane_scales(quote!(scales[i]), pair, shared.multiples(pair));
            let add = integers.add_scaled(quote!(sums #of_vector[i]), dots, scaled);
            each_row(quote!(#each { sums #of_vector[i] = #add; }))
        });
        let (floats, unit) = (isa.floats(quote!(sums #of_vector[i])), shared.unit());
        // Beside integer scales of groups a product has a factor of the block.
        let add = isa.fma(isa.mul(floats, unit), quote!(d), acc.clone(), false);
        let add = each_row(quote!(#base #each { #acc = #add; }));
        quote! {
            let mut sums = #no_sums;
            #(#steps)*
            #add
        }
    });
    let load = each_row(quote! {
        let codes = #group_codes;
        scales[i] = #group_scales;
        #add_minima
    });
    quote! {
        #prepare
        let together = ::core::cmp::Ord::min(R, #most);
        let mut first = 0;
        while first < R {
            let mut scales = [#no_lanes; #most];
            #load
            #(#parts)*
            first += together;
        }
    }
}

/// What a block of rows is multiplied with: values that come from the activations alone, one for each vector.
struct Shared<'s> {
    isa: &'s dyn Isa,
    plan: &'s Plan<'s>,
    places: &'s Places<'s>,
}

impl Shared<'_> {
    fn value(&self, name: &str, number: usize) -> TokenStream {
        let (name, of_vector) = (format_ident!("{name}_{number}"), self.places.of_vector());
        quote!(#name #of_vector)
    }

    /// Codes: the activations of chunk `c`.
    fn activations(&self, c: usize) -> TokenStream {
        self.value("activations", c)
    }

    /// Lanes: what its dot product begins with.
    fn seed(&self, c: usize) -> TokenStream {
        if self.point() == 0 { self.isa.seed(0, quote!()) } else { self.value("seed", c) }
    }

    /// Shorts: the steps of two chunks in units.
    fn multiples(&self, [first, _]: [usize; 2]) -> TokenStream {
        self.value("multiples", first)
    }

    /// Floats: the sums of the activations over the `v`-th eight groups of minima.
    fn total(&self, v: usize) -> TokenStream {
        self.value("total", v)
    }

    /// Floats: the unit of the activations.
    fn unit(&self) -> TokenStream {
        self.value("unit", 0)
    }

    /// What is taken off each code.
    fn point(&self) -> i32 {
        product_zero_point(self.isa, self.plan)
    }

    /// Statements that compute all of them.
    fn statements(&self, integers: &dyn Integers, minimum: Option<&Minimum>) -> TokenStream {
        let Self { isa, plan, places } = *self;
        let references = |c: usize| -> Vec<TokenStream> {
            places.activations(isa, &quote!(#c)).into_iter().map(|a| quote!(&#a)).collect()
        };
        // Of each block what two chunks have of it.
        let both = |[first, second]: [usize; 2]| -> Vec<[TokenStream; 2]> {
            references(first).into_iter().zip(references(second)).map(Into::into).collect()
        };
        let (no_lanes, no_floats) = (isa.seed(0, quote!()), isa.splat(quote!(0.0)));
        let units = places.activations(isa, &quote!(0)).into_iter().map(|a| quote!(#a.unit()));
        let name = |name: &str, number: usize| format_ident!("{name}_{number}");
        let mut values = vec![(name("unit", 0), &no_floats, isa.splat_each(&units.collect::<Vec<_>>()))];
        for c in 0..plan.format.chunks() {
            values.push((name("activations", c), &no_lanes, isa.activations(&references(c))));
            if self.point() != 0 {
                let seed = isa.seed(self.point(), isa.lane_sums(&references(c)));
                values.push((name("seed", c), &no_lanes, seed));
            }
        }
        for pair in plan.block_sums.iter().flat_map(|sums| &sums.parts).flatten() {
            values.push((name("multiples", pair[0]), &no_lanes, integers.multiples(&both(*pair))));
        }
        if let Some(minimum) = minimum {
            let total = |i: usize| integers.totals(&both([2 * i, 2 * i + 1]));
            let totals: Vec<_> = (0..plan.format.chunks() / 2).map(total).collect();
            for (v, runs) in plan.sums(&minimum.scale, 2 * CHUNK / LANES).into_iter().enumerate() {
                let sums = isa.mul(run_sums(isa, &totals, runs), self.unit());
                values.push((name("total", v), &no_floats, sums));
            }
        }
        let names = values.iter().map(|(name, ..)| name);
        let computed = values.iter().map(|(.., value)| value);
        match places.vectors {
            Vectors::One => quote!(#(let #names = #computed;)*),
            Vectors::Several => {
                let (declared, none) = (names.clone(), values.iter().map(|(_, none, _)| none));
                quote! {
                    #(let mut #declared = [#none; T];)*
                    for t in 0..T {
                        #(#names[t] = #computed;)*
                    }
                }
            }
        }
    }
}
