//! The kernels of a format for every instruction set, and the constant that lists them.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{format_ident, quote};

use crate::lower::{self, Isa, Target, Vectors};
use crate::model::{Field, FieldType};
use crate::plan::Plan;

/// The kernels of a format for all instruction sets, each function once.
///
/// An instruction set states only what it does otherwise than its base, so that many of its kernels, most dequantizers
/// and expansions among them, would be those of an instruction set before it to the token. It uses that function then.
pub struct Kernels<'p> {
    plan: &'p Plan<'p>,
    functions: Vec<Function<'p>>,
    /// The functions that each instruction set uses.
    uses: Vec<Uses>,
}

/// A function of its own.
struct Function<'p> {
    operation: &'static str,
    target: &'p Target,
    name: Ident,
    /// Everything after its name, to the last token.
    text: String,
    tokens: TokenStream,
}

/// What the table of kernels names for one instruction set.
struct Uses {
    dot: Ident,
    gemv: Ident,
    gemv_several: Ident,
    dequantize: Ident,
    expand: Option<Ident>,
}

impl<'p> Kernels<'p> {
    /// All kernels of the format of `plan`.
    pub fn new(plan: &'p Plan<'p>, isas: &[&'p dyn Isa]) -> Self {
        let mut kernels = Self { plan, functions: Vec::new(), uses: Vec::new() };
        for isa in isas {
            let uses = kernels.uses(*isa);
            kernels.uses.push(uses);
        }
        kernels
    }

    /// The functions.
    pub fn functions(&self) -> impl Iterator<Item = &TokenStream> {
        self.functions.iter().map(|function| &function.tokens)
    }

    /// The function for `operation` and `isa`, which `function` makes under the name that it is given: an equal one, if
    /// there is one that needs no feature that `isa` lacks.
    fn function(
        &mut self,
        isa: &'p dyn Isa,
        operation: &'static str,
        function: impl FnOnce(&Ident) -> TokenStream,
    ) -> Ident {
        let target = isa.target();
        // The one grammar of kernel names.
        let name = format_ident!("{}_{operation}_{}", self.plan.format.snake_name(), target.name);
        let tokens = function(&name);
        let is_name = |token: &TokenTree| matches!(token, TokenTree::Ident(ident) if *ident == name);
        let after_name = tokens.clone().into_iter().skip_while(|token| !is_name(token)).skip(1);
        let text = after_name.collect::<TokenStream>().to_string();
        let equal = self.functions.iter().find(|other| {
            // Scalar kernels leave vectors to the compiler, which has other ones for each architecture.
            other.target.arch == target.arch
                && target.includes(other.target)
                && (other.operation, &other.text) == (operation, &text)
        });
        if let Some(equal) = equal {
            return equal.name.clone();
        }
        self.functions.push(Function { operation, target, name: name.clone(), text, tokens });
        name
    }

    /// Makes the kernels for `isa` that there are not yet.
    ///
    /// `gemv` multiplies together rows that lie far apart, as many places of the matrix as it takes rows at once:
    /// hardware fetches ahead within each 4 KiB page by itself, so that several pages bring more of memory on its way.
    /// From memory, with two threads on Sapphire Rapids, that is 1.4 times as fast as with rows that are neighbours.
    fn uses(&mut self, isa: &'p dyn Isa) -> Uses {
        let plan = self.plan;
        let (bytes, chunks) = (plan.format.bytes(), plan.format.chunks());
        let rows = lower::rows_at_once(isa, plan, 1);
        let attributes = lower::attributes(isa);
        let rows_name = self.function(isa, "rows", |name| lower::rows(isa, plan, name, Vectors::One));
        let dot = self.function(isa, "dot", |name| {
            quote! {
                #attributes
                fn #name(row: &[u8], activations: &[kernels::ActivationBlock]) -> f32 {
                    let (row, _) = row.as_chunks::<#bytes>();
                    let (activations, _) = activations.as_chunks::<#chunks>();
                    #rows_name::<1>([row], activations)[0]
                }
            }
        });
        let gemv = self.function(isa, "gemv", |name| {
            quote! {
                #attributes
                fn #name(matrix: &[u8], activations: &[kernels::ActivationBlock], y: &mut [f32]) {
                    let (blocks, _) = matrix.as_chunks::<#bytes>();
                    let (activations, _) = activations.as_chunks::<#chunks>();
                    let n = activations.len();
                    let apart = y.len() / #rows;
                    for first in 0..apart {
                        let mut rows: [&[[u8; #bytes]]; #rows] = [&[]; #rows];
                        for r in 0..#rows {
                            rows[r] = &blocks[(r * apart + first) * n..][..n];
                        }
                        let sums = #rows_name(rows, activations);
                        for r in 0..#rows {
                            y[r * apart + first] = sums[r];
                        }
                    }
                    for row in #rows * apart..y.len() {
                        y[row] = #rows_name([&blocks[row * n..][..n]], activations)[0];
                    }
                }
            }
        });
        let gemv_several = self.several(isa, &rows_name, &gemv);
        let dequantize = self.function(isa, "dequantize", |name| lower::dequantize(isa, plan, name));
        let expand = plan
            .panel_groups()
            .ok()
            .map(|_| self.function(isa, "expand", |name| lower::expand(isa, plan, name)));
        Uses { dot, gemv, gemv_several, dequantize, expand }
    }

    /// `gemv_several`: each vector's products are those of `gemv`, to the bit.
    fn several(&mut self, isa: &'p dyn Isa, rows_name: &Ident, gemv_name: &Ident) -> Ident {
        let plan = self.plan;
        let (bytes, chunks) = (plan.format.bytes(), plan.format.chunks());
        let attributes = lower::attributes(isa);
        let parameters = quote! {
            matrix: &[u8],
            activations: &[kernels::ActivationBlock],
            vectors: usize,
            y: &mut [f32],
        };
        let most = isa.vectors();
        if most == 1 {
            return self.function(isa, "gemv_several", |name| {
                quote! {
                    #attributes
                    fn #name(#parameters) {
                        let (n, height) = (activations.len() / vectors, y.len() / vectors);
                        for vector in 0..vectors {
                            #gemv_name(
                                matrix,
                                &activations[vector * n..][..n],
                                &mut y[vector * height..][..height],
                            );
                        }
                    }
                }
            });
        }
        let rows = lower::rows_at_once(isa, plan, most);
        let tile_name = self.function(isa, "tile", |name| lower::rows(isa, plan, name, Vectors::Several));
        let pass_name = self.function(isa, "pass", |name| {
            quote! {
                /// R rows, `apart` from each other, from `first` on times up to T vectors from `vector` on, into `y`, a row of
                /// `height` for each vector. Returns how many vectors.
                #attributes
                #[inline]
                fn #name<const R: usize, const T: usize>(
                    blocks: &[[u8; #bytes]],
                    activations: &[[kernels::ActivationBlock; #chunks]],
                    [n, height, apart]: [usize; 3],
                    [first, vector]: [usize; 2],
                    y: &mut [f32],
                ) -> usize {
                    let mut rows: [&[[u8; #bytes]]; R] = [&[]; R];
                    for r in 0..R {
                        rows[r] = &blocks[(first + r * apart) * n..][..n];
                    }
                    let count = ::core::cmp::Ord::min(activations.len() / n - vector, T);
                    let mut vectors: [&[[kernels::ActivationBlock; #chunks]]; T] = [&[]; T];
                    for t in 0..T {
                        // Where there are fewer the last one is multiplied again, for nothing.
                        let t_or_last = ::core::cmp::Ord::min(t, count - 1);
                        vectors[t] = &activations[(vector + t_or_last) * n..][..n];
                    }
                    let products = #tile_name(rows, vectors);
                    for t in 0..count {
                        for r in 0..R {
                            y[(vector + t) * height + first + r * apart] = products[t][r];
                        }
                    }
                    count
                }
            }
        });
        self.function(isa, "gemv_several", |name| quote! {
            #attributes
            fn #name(#parameters) {
                let (blocks, _) = matrix.as_chunks::<#bytes>();
                let (activations, _) = activations.as_chunks::<#chunks>();
                let height = y.len() / vectors;
                let apart = height / #rows;
                let n = activations.len() / vectors;
                let shape = [n, height, apart];
                for first in 0..apart {
                    let mut vector = 0;
                    while vector < vectors {
                        vector += if vectors - vector > 2 {
                            #pass_name::<#rows, #most>(blocks, activations, shape, [first, vector], y)
                        } else {
                            #pass_name::<#rows, 2>(blocks, activations, shape, [first, vector], y)
                        };
                    }
                }
                // Those that are left.
                for row in #rows * apart..height {
                    for vector in 0..vectors {
                        let row_of_blocks = &blocks[row * n..][..n];
                        y[vector * height + row] = #rows_name([row_of_blocks], &activations[vector * n..][..n])[0];
                    }
                }
            }
        })
    }
}

/// The implementation of `BlockFormat`.
pub fn constant(name: &Ident, kernels: &Kernels, isas: &[&dyn Isa]) -> TokenStream {
    let plan = kernels.plan;
    let format = plan.format;
    let (bytes, len, text) = (format.bytes(), format.len, &format.name);
    let gguf = match format.gguf {
        Some(id) => quote!(::core::option::Option::Some(#id)),
        None => quote!(::core::option::Option::None),
    };
    let quantize = match plan.quantizer {
        Ok(_) => quote!(::core::option::Option::Some(|weights, importance, blocks| {
            kernels::quantize::blocks(weights, importance, blocks, |weights, importance| {
                #name::from_weights(weights, importance).to_bytes()
            });
        })),
        Err(_) => quote!(::core::option::Option::None),
    };
    let panel = match plan.panel_groups() {
        Ok(groups) => {
            let max_abs_code = lower::max_abs_code(plan);
            let minimum = format.weight.minimum.is_some();
            quote!(::core::option::Option::Some(kernels::gemm::PanelFormat {
                max_abs_code: #max_abs_code,
                groups: #groups,
                has_minimum: #minimum,
            }))
        }
        Err(_) => quote!(::core::option::Option::None),
    };
    let missing = super::missing(plan)
        .into_iter()
        .map(|(operation, reason)| quote!(kernels::Missing { operation: #operation, reason: #reason }));
    // The same for every instruction set, so that what a program may pass does not depend on the machine.
    let one_unit = plan.block_sums.is_some();
    let floats = format.fields.iter().flat_map(floats);
    let variants = isas.iter().zip(&kernels.uses).map(|(isa, uses)| {
        let target = isa.target();
        let arch = target.arch.map(|arch| quote!(#[cfg(target_arch = #arch)]));
        let variant = format_ident!("{}", target.variant);
        let kernel = |name: &Ident| {
            let text = name.to_string();
            quote!(kernels::Kernel { function: #name, name: #text })
        };
        let [dot, gemv, gemv_several, dequantize] =
            [&uses.dot, &uses.gemv, &uses.gemv_several, &uses.dequantize].map(kernel);
        let expand = match &uses.expand {
            Some(expand) => {
                let expand = kernel(expand);
                quote!(::core::option::Option::Some(#expand))
            }
            None => quote!(::core::option::Option::None),
        };
        quote! {
            #arch
            // SAFETY: they enable features of this instruction set and no others.
            unsafe {
                kernels::Variant::new(
                    kernels::Isa::#variant,
                    [#len, #bytes],
                    #dot,
                    #gemv,
                    #gemv_several,
                    #dequantize,
                    #expand,
                )
            }
        }
    });
    quote! {
        impl kernels::BlockFormat for #name {
            const FORMAT: &'static kernels::Format = &kernels::Format::new(kernels::FormatParts {
                name: #text,
                gguf_id: #gguf,
                block_len: #len,
                block_bytes: #bytes,
                floats: &[#(#floats),*],
                missing: &[#(#missing),*],
                one_unit: #one_unit,
                panel: #panel,
                quantize: #quantize,
                variants: &[#(#variants),*],
            });
        }
    }
}

/// The field's numbers, if products with them may be no finite numbers.
fn floats(field: &Field) -> Vec<TokenStream> {
    let (ty, bytes) = match field.ty {
        FieldType::F16 => ("F16", 2),
        FieldType::BF16 => ("BF16", 2),
        FieldType::F32 => ("F32", 4),
        FieldType::E8M0 => ("E8M0", 1),
        // At most 480, and never NaN.
        FieldType::Ue4m3 | FieldType::U8 | FieldType::I8 => return Vec::new(),
    };
    let ty = format_ident!("{ty}");
    let numbers = 0..field.count.unwrap_or(1);
    let float = |i| {
        let offset = field.offset + i * bytes;
        quote! {
            kernels::FloatField { ty: kernels::FloatType::#ty, offset: #offset }
        }
    };
    numbers.map(float).collect()
}
