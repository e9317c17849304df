//! AVX-VNNI: `vpdpbusd` in its VEX encoding does `vpmaddubsw`, `vpmaddwd` and the addition in one
//! instruction, and adds to the seed by itself.

use proc_macro2::TokenStream;
use quote::quote;

use super::avx2_fma::Avx2Fma;
use super::{BIAS, Isa, Products, Target};

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

    fn base(&self) -> &'static dyn Isa {
        &Avx2Fma
    }

    fn of_one_block(&self) -> &dyn Isa {
        self
    }

    fn products(&self) -> Products {
        Products { unsigned: Some("vpdpbusd"), signed: Some("vpdpbusd") }
    }

    fn signed_bias(&self) -> i32 {
        BIAS
    }

    fn dot_unsigned(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm256_dpbusd_avx_epi32(#seed, #codes, #activations))
    }

    fn add_scaled(&self, sums: TokenStream, [a, b]: [TokenStream; 2], scales: TokenStream) -> TokenStream {
        quote!(_mm256_dpwssd_avx_epi32(#sums, _mm256_packs_epi32(#a, #b), #scales))
    }
}
