//! AVX-512-VNNI with AVX-512VL: `vpdpbusd` in its EVEX encoding, twice the registers.
//!
//! Vectors stay at 256 bits here (`gemm`'s core has 512), where a block of 32 weights fills one register without a second block beside it.

use proc_macro2::TokenStream;
use quote::quote;

use super::avx_vnni::AvxVnni;
use super::{Isa, Target};

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

    fn base(&self) -> &'static dyn Isa {
        &AvxVnni
    }

    fn registers(&self) -> usize {
        32
    }

    fn of_one_block(&self) -> &dyn Isa {
        self
    }

    fn dot_unsigned(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm256_dpbusd_epi32(#seed, #codes, #activations))
    }

    fn add_scaled(&self, sums: TokenStream, [a, b]: [TokenStream; 2], scales: TokenStream) -> TokenStream {
        quote!(_mm256_dpwssd_epi32(#sums, _mm256_packs_epi32(#a, #b), #scales))
    }

    fn negate(&self, codes: TokenStream, signs: &[TokenStream]) -> TokenStream {
        quote!(x86::negate_masked(#codes, #(#signs),*))
    }
}
