//! Rows summed over whole blocks in integers: the other form of [`floats`](super::floats), for the formats that have
//! [`BlockSums`].
//!
//! Two chunks are one step. The lanes of their dot products are packed to 16 bits, multiplied with the steps of their
//! activations in units times the scales of their groups, and added up in 32 bits; the sums of a block, or of a part
//! of it, become floats once.

use proc_macro2::TokenStream;
use quote::quote;

use super::{Integers, Isa, Places, Scales, add_minima, codes, dot, of_each_block, run_sums, zero_point};
use crate::model::{CHUNK, GroupScale};
use crate::plan::block_sums::{BlockSums, linear};
use crate::plan::{Chunk, LANES, Minimum, Plan};

/// Statements that add a block of each row to its float sums.
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
    let planes = planes.iter().map(|plane| integers.group_plane(&blocks, plane));
    let group_codes = planes.reduce(|a, b| isa.or(a, b)).unwrap_or_default();
    let of_group = |group: &GroupScale| (plan.format.codes[group.code].signed, linear(group).unwrap_or(0));
    let (signed, zero) = scales.scale.group.map_or((false, 0), of_group);
    let group_scales = integers.shorts(quote!(codes), signed, zero);

    let no_lanes = isa.seed(0, quote!());
    let no_floats = isa.splat(quote!(0.0));
    let names = minima.iter().flat_map(|(_, minima)| &minima.names);
    let load_minima = minima.map(|(_, minima)| {
        let (base, names) = (minima.base(&blocks), &minima.names);
        let values = (0..names.len()).map(|v| match minima.scale.group {
            None => quote!(d),
            Some(group) => {
                let (signed, zero) = of_group(group);
                // They are in the second half of the codes.
                let values = isa.floats(isa.widen(quote!(codes), CHUNK / LANES / 2 + v, signed, zero));
                if minima.scale.block.is_empty() { values } else { isa.mul(quote!(d), values) }
            }
        });
        quote!(#base #(#names[r] = #values;)*)
    });
    let units = places.activations(isa, &quote!(0)).into_iter().map(|a| quote!(#a.unit()));
    let unit = isa.splat_each(&units.collect::<Vec<_>>());
    let add_minima = minima.map(|(minimum, minima)| {
        let total = |i: usize| {
            let references =
                |c: usize| places.activations(isa, &quote!(#c)).into_iter().map(|a| quote!(&#a)).collect();
            integers.totals(&pairs(&[2 * i, 2 * i + 1].map(references)))
        };
        let totals: Vec<_> = (0..plan.format.chunks() / 2).map(total).collect();
        let sums = plan.sums(&minimum.scale, 2 * CHUNK / LANES);
        let sums = sums.into_iter().map(|runs| isa.mul(run_sums(isa, &totals, runs), quote!(unit)));
        let add = add_minima(isa, minimum.subtract, minima, sums, places);
        quote!(#each { let unit = #unit; #add })
    });

    let chunks: Vec<_> = plan.loops.iter().flat_map(|of_loop| &of_loop.chunks).collect();
    let chunk = |number: usize| -> &Chunk {
        let found = chunks.iter().find(|chunk| chunk.number == number);
        found.expect("blocks with integer sums have no loops")
    };
    let (no_sums, base) = (places.sums(&no_lanes), scales.base(&blocks));
    let parts = parts.iter().map(|pairs| {
        let steps = pairs.iter().map(|&pair| step(isa, integers, plan, pair.map(chunk), places));
        let sum = isa.mul(isa.floats(quote!(sums #index)), quote!(unit));
        // Beside integer scales of groups a product has a factor of the block.
        let add = isa.fma(sum, quote!(d), acc.clone(), false);
        quote! {
            let mut sums = #no_sums;
            #(#steps)*
            #each {
                let unit = #unit;
                for r in 0..R {
                    #let_blocks
                    #base
                    #acc = #add;
                }
            }
        }
    });
    quote! {
        let mut scales = [#no_lanes; R];
        #(let mut #names = [#no_floats; R];)*
        for r in 0..R {
            #let_blocks
            let codes = #group_codes;
            scales[r] = #group_scales;
            #load_minima
        }
        #add_minima
        #(#parts)*
    }
}

/// Of each block what two chunks have of it.
fn pairs([first, second]: &[Vec<TokenStream>; 2]) -> Vec<[TokenStream; 2]> {
    first.iter().cloned().zip(second.iter().cloned()).map(Into::into).collect()
}

/// A block of code that adds two chunks of each row to its integer sums.
fn step(
    isa: &dyn Isa,
    integers: &dyn Integers,
    plan: &Plan,
    [first, second]: [&Chunk; 2],
    places: &Places,
) -> TokenStream {
    let Places { index, each, let_blocks, .. } = places;
    let numbers = [first.number, second.number];
    let names = ["a_1", "a_2"].map(|name| of_each_block(isa, name));
    let [let_1, let_2] = [0, 1].map(|i| {
        let c = numbers[i];
        places.let_activations(isa, &names[i], &quote!(#c))
    });
    let point = zero_point(plan, isa.signed_bias());
    let [seed_1, seed_2] = [0, 1].map(|i| isa.seed(point, isa.lane_sums(&names[i])));
    let [activations_1, activations_2] = [0, 1].map(|i| isa.activations(&names[i]));
    let multiples = integers.multiples(&pairs(&names));
    let dot_1 = dot(isa, plan, quote!(seed_1), codes(isa, plan, first), quote!(activations_1));
    let dot_2 = dot(isa, plan, quote!(seed_2), codes(isa, plan, second), quote!(activations_2));
    let scaled = integers.lane_scales(quote!(scales[r]), numbers, quote!(multiples));
    let add = integers.add_scaled(quote!(sums #index), [quote!(dot_1), quote!(dot_2)], quote!(scaled));
    quote! {
        #each {
            #let_1
            #let_2
            let (activations_1, activations_2) = (#activations_1, #activations_2);
            let (seed_1, seed_2) = (#seed_1, #seed_2);
            let multiples = #multiples;
            for r in 0..R {
                #let_blocks
                let dot_1 = #dot_1;
                let dot_2 = #dot_2;
                let scaled = #scaled;
                sums #index = #add;
            }
        }
    }
}
