//! AVX-VNNI-INT8: `vpdpbssd` multiplies signed codes as they are.

use super::avx_vnni::AvxVnni;
use super::*;

pub struct AvxVnniInt8;

impl Isa for AvxVnniInt8 {
    fn target(&self) -> &'static Target {
        &Target {
            name: "avx_vnni_int8",
            variant: "AvxVnniInt8",
            summary: "256-bit VEX vpdpbssd: Intel since Arrow Lake",
            arch: Some("x86_64"),
            features: &["avx2", "fma", "f16c", "avxvnni", "avxvnniint8"],
        }
    }

    take_over! {
        AvxVnni,
        registers, vectors, unrolls, prelude, of_one_block, prefetch, plane, or, lookup, trits, digits, entries, negate,
        activations, lane_sums, steps, seed, seed_of_floats, dot_unsigned, minus, store_codes, widen, floats,
        offset, scaled, scales, numbers, halves, singles, splat_f16, load, splat, splat_each, permute, mul, add,
        fma, run_sums, sum, store
    }

    fn products(&self) -> Products {
        Products { unsigned: Some("vpdpbusd"), signed: Some("vpdpbssd") }
    }

    fn unsigned_limit(&self) -> i32 {
        0
    }

    fn dot_signed(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm256_dpbssd_epi32(#seed, #codes, #activations))
    }

    fn integers(&self) -> Option<&'static dyn Integers> {
        Some(&AvxVnniInt8)
    }
}

impl Integers for AvxVnniInt8 {
    take_over_integers! {
        AvxVnni,
        group_codes, shorts, multiples, lane_scales, add_scaled, totals
    }
}
