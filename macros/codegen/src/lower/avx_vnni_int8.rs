//! AVX-VNNI-INT8: `vpdpbssd` multiplies signed codes as they are.

use proc_macro2::TokenStream;
use quote::quote;

use super::avx_vnni::AvxVnni;
use super::{Isa, Products, Target};

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

    fn base(&self) -> &'static dyn Isa {
        &AvxVnni
    }

    fn of_one_block(&self) -> &dyn Isa {
        self
    }

    fn products(&self) -> Products {
        Products { unsigned: Some("vpdpbusd"), signed: Some("vpdpbssd") }
    }

    fn signed_bias(&self) -> i32 {
        0
    }

    fn dot_signed(&self, seed: TokenStream, codes: TokenStream, activations: TokenStream) -> TokenStream {
        quote!(_mm256_dpbssd_epi32(#seed, #codes, #activations))
    }
}
