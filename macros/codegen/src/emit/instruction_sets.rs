//! The `Isa` enum of `quantloom_kernels`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::lower::{Isa, Products};

/// The `Isa` enum of `quantloom_kernels`.
pub fn instruction_sets(isas: &[&dyn Isa]) -> TokenStream {
    let targets: Vec<_> = isas.iter().map(|isa| isa.target()).collect();
    let variants: Vec<_> = targets.iter().map(|target| format_ident!("{}", target.variant)).collect();
    let names = targets.iter().map(|target| target.name);
    let features = targets.iter().map(|target| target.features);
    let docs = targets.iter().map(|target| {
        let features = target.features.join("`, `");
        let needs = if features.is_empty() { String::new() } else { format!(" Needs `{features}`.") };
        format!(" `{}`: {}.{needs}", target.name, target.summary)
    });
    let includes = targets.iter().zip(&variants).flat_map(|(outer, outer_variant)| {
        let inner = targets.iter().zip(&variants).filter(|(inner, _)| outer.includes(inner));
        inner.map(move |(_, inner_variant)| quote!((Self::#outer_variant, Self::#inner_variant)))
    });
    let option = |product| match product {
        Some(mnemonic) => quote!(::core::option::Option::Some(#mnemonic)),
        None => quote!(::core::option::Option::None),
    };
    let products = isas.iter().zip(&variants).map(|(isa, variant)| {
        let Products { unsigned, signed } = isa.products();
        let (unsigned, signed) = (option(unsigned), option(signed));
        quote!((Self::#variant, false) => #unsigned, (Self::#variant, true) => #signed,)
    });
    let blocks = isas.iter().map(|isa| isa.blocks());
    let missing = targets.iter().zip(&variants).map(|(target, variant)| {
        let features = target.features;
        match target.arch {
            None => quote!(Self::#variant => ::std::vec::Vec::new(),),
            Some(arch) => quote! {
                #[cfg(target_arch = #arch)]
                Self::#variant => {
                    let detected = [#((#features, ::std::arch::is_x86_feature_detected!(#features))),*];
                    detected.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect()
                }
                #[cfg(not(target_arch = #arch))]
                Self::#variant => ::std::vec![#arch],
            },
        }
    });
    quote! {
        /// An instruction set that kernels are generated for, the plainest first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Isa {
            #(#[doc = #docs] #variants,)*
        }

        impl Isa {
            /// Every instruction set, the plainest first.
            pub const ALL: &'static [Self] = &[#(Self::#variants),*];

            /// The name in kernel names and in `QUANTLOOM_ISA`.
            pub const fn name(self) -> &'static str {
                match self {
                    #(Self::#variants => #names,)*
                }
            }

            /// The CPU features that it needs, as `target_feature` names them.
            pub const fn features(self) -> &'static [&'static str] {
                match self {
                    #(Self::#variants => &[#(#features),*],)*
                }
            }

            /// The instruction that multiplies a weight's codes, of both signs or from 0 up, with activations: a
            /// kernel's assembly is recognised by it. `None` where the compiler chooses.
            pub const fn product(self, signed: bool) -> ::core::option::Option<&'static str> {
                match (self, signed) {
                    #(#products)*
                }
            }

            /// Consecutive blocks of a row that a kernel works on at once, where they share its registers: 1 or 2.
            pub const fn blocks(self) -> usize {
                match self {
                    #(Self::#variants => #blocks,)*
                }
            }

            /// Whether a CPU that has `self` has `other` too.
            pub const fn includes(self, other: Self) -> bool {
                ::core::matches!((self, other), #(#includes)|*)
            }

            /// What this machine lacks for it: CPU features, or the architecture. Empty where it runs.
            pub fn missing(self) -> ::std::vec::Vec<&'static str> {
                match self {
                    #(#missing)*
                }
            }
        }
    }
}
