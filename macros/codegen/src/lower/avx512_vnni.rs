//! AVX-512-VNNI with AVX-512VL: `vpdpbusd` in its EVEX encoding, twice the registers.
//!
//! Vectors stay at 256 bits here (`gemm`'s core has 512), where a block of 32 weights fills one register without a second block beside it.

use super::avx_vnni::AvxVnni;
use super::*;

pub struct Avx512Vnni;

impl Isa for Avx512Vnni {
    fn target(&self) -> &'static Target {
        &Target {
            name: "avx512_vnni",
            variant: "Avx512Vnni",
            summary: "256-bit EVEX vpdpbusd: Intel since Ice Lake, AMD since Zen 4",
            arch: Some("x86_64"),
            features: &["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512vnni"],
        }
    }

    take_over! {
        AvxVnni,
        vectors, unrolls, products, prelude, of_one_block, prefetch, plane, or, lookup, trits, digits, entries,
        activations, lane_sums, steps, unsigned_limit, seed, seed_of_floats, minus, dot_signed, store_codes,
        widen, floats, offset, scaled, scales, numbers, halves, singles, splat_f16, load, splat, splat_each,
        permute, mul, add, fma, run_sums, sum, store
    }

    fn registers(&self) -> usize {
        32
    }

    fn dot_unsigned(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm256_dpbusd_epi32(#seed, #codes, #activations))
    }

    fn negate(&self, codes: TokenStream, signs: &[TokenStream]) -> TokenStream {
        quote!(x86::negate_masked(#codes, #(#signs),*))
    }

    fn integers(&self) -> Option<&'static dyn Integers> {
        Some(&Avx512Vnni)
    }
}

impl Integers for Avx512Vnni {
    take_over_integers! {
        AvxVnni,
        group_codes, shorts, multiples, lane_scales, totals
    }

    fn add_scaled(&self, sums: TokenStream, [a, b]: [TokenStream; 2], scales: TokenStream) -> TokenStream {
        quote!(x86::add_products(#sums, _mm256_packs_epi32(#a, #b), #scales))
    }
}
