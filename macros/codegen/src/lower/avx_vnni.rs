//! AVX-VNNI: `vpdpbusd` in its VEX encoding does `vpmaddubsw`, `vpmaddwd` and the addition in one
//! instruction, and adds to the seed by itself.

use super::avx2_fma::Avx2Fma;
use super::*;

pub struct AvxVnni;

impl Isa for AvxVnni {
    fn target(&self) -> &'static Target {
        &Target {
            name: "avx_vnni",
            variant: "AvxVnni",
            summary: "256-bit VEX vpdpbusd: Intel since Alder Lake, AMD since Zen 5",
            arch: Some("x86_64"),
            features: &["avx2", "fma", "f16c", "avxvnni"],
        }
    }

    take_over! {
        Avx2Fma,
        registers, vectors, unrolls, prelude, of_one_block, prefetch, plane, or, lookup, trits, digits, entries, negate,
        activations, lane_sums, steps, seed, seed_of_floats, minus, dot_signed, store_codes, widen, floats,
        offset, scaled, scales, numbers, halves, singles, splat_f16, load, splat, splat_each, permute, mul, add,
        fma, run_sums, sum, store
    }

    fn products(&self) -> Products {
        Products { unsigned: Some("vpdpbusd"), signed: Some("vpdpbusd") }
    }

    fn unsigned_limit(&self) -> i32 {
        255
    }

    fn dot_unsigned(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm256_dpbusd_avx_epi32(#seed, #codes, #activations))
    }

    fn integers(&self) -> Option<&'static dyn Integers> {
        Some(&AvxVnni)
    }
}

impl Integers for AvxVnni {
    take_over_integers! {
        Avx2Fma,
        group_codes, shorts, multiples, lane_scales, totals
    }

    fn add_scaled(&self, sums: TokenStream, [a, b]: [TokenStream; 2], scales: TokenStream) -> TokenStream {
        quote!(x86::add_products_avx(#sums, _mm256_packs_epi32(#a, #b), #scales))
    }
}
