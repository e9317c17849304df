//! The kernels of a format for every instruction set, and the constant that lists them.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::lower::{self, Isa, Vectors};
use crate::model::{Field, FieldType};
use crate::plan::Plan;

/// `q4_0_gemv_avx2_fma`: the one grammar of kernel names.
fn kernel_name(plan: &Plan, operation: &str, isa: &dyn Isa) -> Ident {
    format_ident!("{}_{operation}_{}", plan.format.snake_name(), isa.target().name)
}

/// All kernels of one format for one instruction set.
///
/// `gemv` multiplies together rows that lie far apart, as many places of the matrix as it takes rows at once:
/// hardware fetches ahead within each 4 KiB page by itself, so that several pages bring more of memory on its way.
/// From memory, with two threads on Sapphire Rapids, that is 1.4 times as fast as with rows that are neighbours.
pub fn kernels(isa: &dyn Isa, plan: &Plan) -> TokenStream {
    let format = plan.format;
    let (bytes, chunks) = (format.bytes(), format.chunks());
    let rows = lower::rows_at_once(isa, plan, 1);
    let [rows_name, dot_name, gemv_name, several_name, dequantize_name, expand_name] =
        ["rows", "dot", "gemv", "gemv_several", "dequantize", "expand"]
            .map(|operation| kernel_name(plan, operation, isa));
    let attributes = lower::attributes(isa);
    let rows_kernel = lower::rows(isa, plan, &rows_name, Vectors::One);
    let several = several(isa, plan, [&rows_name, &gemv_name, &several_name]);
    let dequantize_kernel = lower::dequantize(isa, plan, &dequantize_name);
    let expand_kernel = plan.panel_groups().ok().map(|_| lower::expand(isa, plan, &expand_name));
    quote! {
        #rows_kernel

        #attributes
        fn #dot_name(row: &[u8], activations: &[kernels::ActivationBlock]) -> f32 {
            let (row, _) = row.as_chunks::<#bytes>();
            let (activations, _) = activations.as_chunks::<#chunks>();
            #rows_name::<1>([row], activations)[0]
        }

        #attributes
        fn #gemv_name(matrix: &[u8], activations: &[kernels::ActivationBlock], y: &mut [f32]) {
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

        #several

        #dequantize_kernel
        #expand_kernel
    }
}

/// `gemv_several`: each vector's products are those of `gemv`, to the bit.
fn several(isa: &dyn Isa, plan: &Plan, [rows_name, gemv_name, several_name]: [&Ident; 3]) -> TokenStream {
    let (bytes, chunks) = (plan.format.bytes(), plan.format.chunks());
    let attributes = lower::attributes(isa);
    let signature = quote! {
        #attributes
        fn #several_name(
            matrix: &[u8],
            activations: &[kernels::ActivationBlock],
            vectors: usize,
            y: &mut [f32],
        )
    };
    let most = isa.vectors();
    if most == 1 {
        return quote! {
            #signature {
                let (n, height) = (activations.len() / vectors, y.len() / vectors);
                for vector in 0..vectors {
                    #gemv_name(
                        matrix,
                        &activations[vector * n..][..n],
                        &mut y[vector * height..][..height],
                    );
                }
            }
        };
    }
    let rows = lower::rows_at_once(isa, plan, most);
    let [tile_name, pass_name] = ["tile", "pass"].map(|operation| kernel_name(plan, operation, isa));
    let tile_kernel = lower::rows(isa, plan, &tile_name, Vectors::Several);
    quote! {
        #tile_kernel

        /// R rows, `apart` from each other, from `first` on times up to T vectors from `vector` on, into `y`, a row of
        /// `height` for each vector. Returns how many vectors.
        #attributes
        #[inline]
        fn #pass_name<const R: usize, const T: usize>(
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

        #signature {
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
    }
}

/// The implementation of `BlockFormat`.
pub fn constant(name: &Ident, plan: &Plan, isas: &[&dyn Isa]) -> TokenStream {
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
    let variants = isas.iter().map(|isa| {
        let target = isa.target();
        let arch = target.arch.map(|arch| quote!(#[cfg(target_arch = #arch)]));
        let variant = format_ident!("{}", target.variant);
        let [dot, gemv, gemv_several, dequantize, expand] =
            ["dot", "gemv", "gemv_several", "dequantize", "expand"]
                .map(|operation| kernel_name(plan, operation, *isa));
        let expand = match plan.panel_groups() {
            Ok(_) => quote!(::core::option::Option::Some(#expand)),
            Err(_) => quote!(::core::option::Option::None),
        };
        quote! {
            #arch
            // SAFETY: they enable the features of this instruction set and no others.
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
