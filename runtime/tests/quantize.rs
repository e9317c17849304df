//! Models written anew in other types.

#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use quantloom::gguf::{Formats, Gguf, GgufWriter, Tensor, TensorType};
use quantloom::imatrix::{Entry, Imatrix};
use quantloom::quantize::{Plan, Planned, Recipe, plan, quantize_file};
use quantloom::{Error, Model};
use quantloom_kernels::dense::Dense;
use quantloom_kernels::formats::Q8_0;
use quantloom_kernels::{
    BlockFormat, Format, FormatParts, Isa, Kernel, Quantize, Supported, Variant, bf16, f16,
};
use tempfile::TempDir;

use tiny::{SHAPE, Shape, TinyModel, tensor_type};

fn recipe(name: &str) -> Recipe {
    Recipe::new(name, &Formats::default()).unwrap()
}

/// A recipe without rules, for matrices that may be quantized already, and have all columns count the same.
fn pure(name: &str) -> Recipe {
    let mut recipe = recipe(name);
    (recipe.pure, recipe.requantize, recipe.unweighted) = (true, true, true);
    recipe
}

/// An importance matrix with these entries.
fn imatrix(entries: &[(&str, &[f32], &[f32])]) -> Arc<Imatrix> {
    let mut imatrix = Imatrix::default();
    for (name, sums, counts) in entries {
        let entry = Entry { sums: sums.to_vec(), counts: counts.to_vec() };
        imatrix.entries.insert((*name).to_owned(), entry);
    }
    Arc::new(imatrix)
}

fn write(source: &Gguf, path: &Path, recipe: &Recipe) -> Result<Plan, Error> {
    quantize_file(source, path, recipe, Some(2), |_| ControlFlow::Continue(()))
}

/// A folder with a model of this shape in it.
fn model(shape: &Shape) -> (TempDir, Gguf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.gguf");
    TinyModel::new(shape).write(&path);
    (folder, Gguf::open(path).unwrap())
}

#[test]
fn matrices_change_and_the_rest_stays() {
    // 91 columns are no whole number of blocks.
    let (folder, source) = model(&Shape { feed_forward: 91, ..SHAPE });
    let target = folder.path().join("target.gguf");
    let mut recipe = recipe("q4_0");
    recipe.set_type("attn_k", tensor_type("F16")).unwrap();
    recipe.set_type(r"\.1\.attn_[qk]", tensor_type("Q8_0")).unwrap();
    let mut done = 0;
    let count = |bytes| {
        done += bytes;
        ControlFlow::Continue(())
    };
    let plan = quantize_file(&source, &target, &recipe, Some(2), count).unwrap();
    let target = Gguf::open(&target).unwrap();

    assert_eq!(done, plan.bytes_before());
    let bytes = |file: &Gguf| file.tensors().iter().map(|tensor| tensor.data().len()).sum::<usize>();
    assert_eq!((plan.bytes_before(), plan.bytes_after()), (bytes(&source), bytes(&target)));
    assert_eq!(target.metadata().u32("general.file_type").unwrap(), Some(2));
    assert_eq!(target.metadata().u32("general.quantization_version").unwrap(), Some(2));
    for (key, value) in source.metadata().iter() {
        assert_eq!(target.metadata().get(key), Some(value), "{key}");
    }
    for ((before, after), planned) in source.tensors().iter().zip(target.tensors()).zip(&plan.tensors) {
        let name = before.name();
        assert_eq!((name, before.dims()), (after.name(), after.dims()));
        assert_eq!((after.ty(), planned.tensor.name()), (planned.to, name));
        let (expected, instead_of) = match name {
            _ if name.contains("norm") => ("F32", None),
            _ if name.contains("ffn_down") => ("F16", Some("Q4_0")),
            _ if name.contains("attn_k") => ("F16", None),
            "blk.1.attn_q.weight" => ("Q8_0", None),
            // Rows of 64 weights are no blocks of Q6_K.
            "output.weight" => ("Q8_0", Some("Q6_K")),
            _ => ("Q4_0", None),
        };
        assert_eq!(after.ty().name(), expected, "{name}");
        assert_eq!(planned.instead_of.map(TensorType::name), instead_of, "{name}");
        if before.ty() == after.ty() {
            assert_eq!(before.data(), after.data(), "{name}");
        }
    }
    // And it runs.
    let model = Model::from_gguf(target, Supported::selected().unwrap(), 2).unwrap();
    assert!(model.forward(&[1, 5, 9]).unwrap().iter().all(|logit| logit.is_finite()));
}

/// From each type that can be made, and to each, against a conversion of the whole tensor at once.
#[test]
fn every_type_is_read_and_made() {
    let isa = Supported::selected().unwrap();
    // More weights than a thread converts at a time, and for a single thread more than are written at a time.
    let (folder, plain) =
        model(&Shape { embedding: 256, head_dim: 64, feed_forward: 256, vocab: 1100, ..SHAPE });
    let formats = Formats::default();
    // Of the codebooks, whose quantizers take long, one will do; IQ2_S is llama.cpp's name for a mixture of another.
    let is_left_out = |name| ["IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"].contains(&name);
    let types =
        || formats.types().filter(|ty| Recipe::new(ty.name(), &formats).is_ok() && !is_left_out(ty.name()));
    let name = "token_embd.weight";
    for from in types() {
        let path = folder.path().join("from.gguf");
        write(&plain, &path, &pure(from.name())).unwrap();
        let source = Gguf::open(&path).unwrap();
        let tensor = source.require_tensor(name).unwrap();
        let weights = floats(tensor, isa);
        for to in types().filter(|to| from == TensorType::F32 || ["F32", "Q4_0"].contains(&to.name())) {
            let expected = match to {
                _ if to == from => tensor.data().to_vec(),
                TensorType::F32 => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
                TensorType::F16 => weights.iter().flat_map(|w| f16::from_f32(*w).to_le_bytes()).collect(),
                TensorType::BF16 => weights.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect(),
                TensorType::Quantized(format) => {
                    let mut blocks = vec![0; format.bytes_for(weights.len())];
                    format.kernels(isa).quantize(&weights, &mut blocks).unwrap();
                    blocks
                }
            };
            for threads in [1, 3] {
                let path = folder.path().join("to.gguf");
                let recipe = pure(to.name());
                quantize_file(&source, &path, &recipe, Some(threads), |_| ControlFlow::Continue(())).unwrap();
                let case = format!("{from} to {to} on {threads} threads");
                let target = Gguf::open(&path).unwrap();
                let tensor = target.require_tensor(name).unwrap();
                assert_eq!(tensor.ty(), to, "{case}");
                assert!(tensor.data() == expected, "{case}");
            }
        }
    }
}

fn floats(tensor: &Tensor, isa: Supported) -> Vec<f32> {
    let mut weights = vec![0.0; tensor.rows() * tensor.cols()];
    let mut dense = |dense: Dense| dense.widen(tensor.data(), &mut weights);
    match tensor.ty() {
        TensorType::F32 => dense(Dense::F32),
        TensorType::F16 => dense(Dense::F16),
        TensorType::BF16 => dense(Dense::BF16),
        TensorType::Quantized(format) => format.kernels(isa).dequantize(tensor.data(), &mut weights),
    }
    .unwrap();
    weights
}

/// What llama.cpp chooses (`llama_model_quantize` of llama-cpp-python 0.3.36, dry runs on the same skeletons):
///
/// name | file type | main type | other types of 16 layers with KV heads for each query head, but for attn_v | attn_v |
/// attn_v where four query heads share a KV head | attn_v in layers 9, 11 and 12 of 80, shared by eight | token_embd where
/// there is no output
const MIXTURES: &str = "\
F16 | 1 | F16 |  |  |  | F16 F16 F16 | F16
BF16 | 32 | BF16 |  |  |  | BF16 BF16 BF16 | BF16
Q4_0 | 2 | Q4_0 | output Q6_K |  |  | Q4_0 Q4_0 Q4_0 | Q6_K
Q4_1 | 3 | Q4_1 | output Q6_K |  |  | Q4_1 Q4_1 Q4_1 | Q6_K
Q5_0 | 8 | Q5_0 | output Q6_K |  |  | Q5_0 Q5_0 Q5_0 | Q6_K
Q5_1 | 9 | Q5_1 | output Q6_K |  |  | Q5_1 Q5_1 Q5_1 | Q6_K
Q8_0 | 7 | Q8_0 |  |  |  | Q8_0 Q8_0 Q8_0 | Q8_0
Q2_K | 10 | Q2_K | attn_output Q3_K 0-15, ffn_down Q3_K 0-15, output Q6_K | Q3_K 0-15 | Q4_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
Q2_K_S | 21 | Q2_K | ffn_down Q4_K 0-1, output Q6_K |  | Q4_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
Q3_K_S | 11 | Q3_K | output Q6_K |  |  | Q5_K Q5_K Q5_K | Q6_K
Q3_K_M | 12 | Q3_K | attn_output Q4_K 0-15, ffn_down Q4_K 1-15, ffn_down Q5_K 0, output Q6_K | Q4_K 2-15, Q5_K 0-1 | Q4_K 2-15, Q5_K 0-1 | Q5_K Q5_K Q5_K | Q6_K
Q3_K_L | 13 | Q3_K | attn_output Q5_K 0-15, ffn_down Q5_K 0-15, output Q6_K | Q5_K 0-15 | Q5_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
Q4_K_S | 14 | Q4_K | ffn_down Q5_K 0-1, output Q6_K | Q5_K 0-3 | Q5_K 0-3 | Q5_K Q5_K Q5_K | Q6_K
Q4_K_M | 15 | Q4_K | ffn_down Q6_K 0-1 4 7 10 13-15, output Q6_K | Q6_K 0-1 4 7 10 13-15 | Q6_K 0-1 4 7 10 13-15 | Q6_K Q5_K Q6_K | Q6_K
Q5_K_S | 16 | Q5_K | output Q6_K |  |  | Q5_K Q5_K Q5_K | Q6_K
Q5_K_M | 17 | Q5_K | ffn_down Q6_K 0-1 4 7 10 13-15, output Q6_K | Q6_K 0-1 4 7 10 13-15 | Q6_K 0-1 4 7 10 13-15 | Q6_K Q5_K Q6_K | Q6_K
Q6_K | 18 | Q6_K |  |  |  | Q6_K Q6_K Q6_K | Q6_K
IQ1_S | 24 | IQ1_S | attn_output IQ2_XXS 0-15, ffn_down Q2_K 0-1, output Q5_K, token_embd Q2_K | Q2_K 0-15 | Q4_K 0-15 | Q4_K Q4_K Q4_K | Q5_K
IQ1_M | 31 | IQ1_M | attn_output IQ2_XXS 0-15, ffn_down Q2_K 0-1, output Q5_K, token_embd Q2_K | Q2_K 0-15 | Q4_K 0-15 | Q4_K Q4_K Q4_K | Q5_K
IQ2_XXS | 19 | IQ2_XXS | ffn_down Q2_K 0-1, output Q5_K, token_embd Q2_K | Q2_K 0-15 | Q4_K 0-15 | Q4_K Q4_K Q4_K | Q5_K
IQ2_XS | 20 | IQ2_XS | ffn_down Q2_K 0-1, output Q5_K, token_embd Q2_K | Q2_K 0-15 | Q4_K 0-15 | Q4_K Q4_K Q4_K | Q5_K
IQ2_S | 28 | IQ2_XS | attn_output IQ3_S 0-15, ffn_down IQ3_S 0-1, output Q5_K, token_embd IQ3_S | IQ3_S 0-15 | Q4_K 0-15 | Q4_K Q4_K Q4_K | Q5_K
IQ2_M | 29 | IQ2_S | attn_output IQ3_S 0-15, ffn_down IQ3_S 0-1, output Q5_K, token_embd IQ3_S | IQ3_S 0-15 | Q4_K 0-15 | Q4_K Q4_K Q4_K | Q5_K
IQ3_XXS | 23 | IQ3_XXS | attn_k IQ2_S 0-15, attn_output IQ3_S 0-15, attn_q IQ2_S 0-15, ffn_down Q3_K 2-15, ffn_down Q4_K 0-1, output Q5_K, token_embd IQ3_S | IQ3_S 0-15 | Q4_K 0-15 | Q5_K Q5_K Q5_K | Q5_K
IQ3_XS | 22 | IQ3_S | attn_k IQ3_XXS 0-15, attn_q IQ3_XXS 0-15, ffn_gate IQ3_XXS 2-13, ffn_up IQ3_XXS 2-13, output Q6_K |  | Q4_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
IQ3_S | 26 | IQ3_S | output Q6_K |  | Q4_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
IQ3_M | 27 | IQ3_S | attn_output Q4_K 0-15, ffn_down Q4_K 0-1, output Q6_K | Q4_K 0-15 | Q4_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
IQ4_NL | 25 | IQ4_NL | ffn_down Q5_K 0-1, output Q6_K |  | Q5_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
IQ4_XS | 30 | IQ4_XS | ffn_down Q5_K 0-1, output Q6_K |  | Q5_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
TQ1_0 | 36 | TQ1_0 | output Q6_K, token_embd Q4_K |  |  | TQ1_0 TQ1_0 TQ1_0 | Q6_K
TQ2_0 | 37 | TQ2_0 | output Q6_K, token_embd Q4_K |  |  | TQ2_0 TQ2_0 TQ2_0 | Q6_K
Q1_0 | 40 | Q1_0 | output Q6_K |  |  | Q1_0 Q1_0 Q1_0 | Q6_K
Q2_0 | 41 | Q2_0 | output Q6_K, token_embd Q4_K |  |  | Q2_0 Q2_0 Q2_0 | Q6_K
";

/// What it chooses where there is an importance matrix, as far as it is something else.
const WEIGHTED_MIXTURES: &str = "\
Q4_0 | 2 | Q4_0 | ffn_down Q4_1 0-1, output Q6_K |  |  | Q4_0 Q4_0 Q4_0 | Q6_K
Q5_0 | 8 | Q5_0 | ffn_down Q5_1 0-1, output Q6_K |  |  | Q5_0 Q5_0 Q5_0 | Q6_K
IQ3_XXS | 23 | IQ3_XXS | attn_k IQ2_S 0-15, attn_output IQ3_S 0-15, attn_q IQ2_S 0-15, output Q5_K, token_embd IQ3_S |  | Q4_K 0-15 | Q5_K Q5_K Q5_K | Q5_K
IQ4_NL | 25 | IQ4_NL | output Q6_K |  | Q5_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
IQ4_XS | 30 | IQ4_XS | output Q6_K |  | Q5_K 0-15 | Q5_K Q5_K Q5_K | Q6_K
";

#[test]
fn mixtures_are_those_of_llama_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let formats = all_formats();
    let [own, shared, tied] = [([4, 4], false), ([4, 1], false), ([4, 4], true)]
        .map(|(heads, tied)| skeleton(folder.path(), 16, heads, tied, 256));
    let large = skeleton(folder.path(), 80, [8, 1], false, 256);
    let weights = imatrix(&[("blk.0.attn_q.weight", &[1.0; 256], &[1.0])]);
    let name_of = |line: &'static str| line.split(" | ").next();
    let weighted =
        |line| WEIGHTED_MIXTURES.lines().find(|other| name_of(other) == name_of(line)).unwrap_or(line);
    let cases = MIXTURES.lines().map(|line| (line, None));
    for (line, imatrix) in cases.chain(MIXTURES.lines().map(|line| (weighted(line), Some(&weights)))) {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        let [name, file_type, main, others, values, shared_values, large_values, embedding] = columns[..]
        else {
            panic!("{line}")
        };
        let mut recipe = Recipe::new(&name.to_lowercase(), &formats).unwrap();
        (recipe.imatrix, recipe.unweighted) = (imatrix.cloned(), true);
        let name = format!("{name}, importance: {}", imatrix.is_some());
        let types = |source, is_shown: &dyn Fn(&str) -> bool| {
            types(&plan(source, &recipe).unwrap(), |name, ty| ty != main && is_shown(name))
        };
        let values_of = |source| types(source, &|name| name == "attn_v").replace("attn_v ", "");
        assert_eq!(types(&own, &|name| name != "attn_v"), others, "{name}");
        assert_eq!(types(&shared, &|name| name != "attn_v"), others, "{name}, shared KV heads");
        assert_eq!(values_of(&own), values, "{name}");
        assert_eq!(values_of(&shared), shared_values, "{name}, shared KV heads");
        let plan_of = |source| plan(source, &recipe).unwrap();
        let type_of = |plan: &Plan, name: &str| {
            plan.tensors.iter().find(|planned| planned.tensor.name() == name).unwrap().to.name()
        };
        let large_plan = plan_of(&large);
        let of_layers = [9, 11, 12].map(|layer| type_of(&large_plan, &format!("blk.{layer}.attn_v.weight")));
        assert_eq!(of_layers.join(" "), large_values, "{name}, 80 layers");
        assert_eq!(type_of(&plan_of(&tied), "token_embd.weight"), embedding, "{name}, tied");

        let target = folder.path().join("target.gguf");
        recipe.pure = true;
        write(&own, &target, &recipe).unwrap();
        let target = Gguf::open_with(&target, &formats).unwrap();
        assert_eq!(target.metadata().u32("general.file_type").unwrap(), file_type.parse().ok(), "{name}");
        assert!(target.tensors().iter().all(|tensor| tensor.ty().name() == main), "{name}, pure");
    }
}

/// The types of those tensors that are shown, by name without layer and by type, each with the layers.
fn types(plan: &Plan, is_shown: impl Fn(&str, &str) -> bool) -> String {
    let mut layers = BTreeMap::<_, Vec<usize>>::new();
    for Planned { tensor, to, .. } in &plan.tensors {
        let name = tensor.name().trim_end_matches(".weight");
        let (layer, name) = match name.strip_prefix("blk.").and_then(|name| name.split_once('.')) {
            Some((layer, name)) => (layer.parse::<usize>().ok(), name),
            None => (None, name),
        };
        if is_shown(name, to.name()) {
            layers.entry(format!("{name} {to}")).or_default().extend(layer);
        }
    }
    let lines = layers.into_iter().map(|(name, layers)| {
        let ranges = layers.chunk_by(|a, b| a + 1 == *b).map(|range| match range {
            [layer] => format!(" {layer}"),
            range => format!(" {}-{}", range[0], range[range.len() - 1]),
        });
        name + &ranges.collect::<String>()
    });
    lines.collect::<Vec<_>>().join(", ")
}

/// Rows of 288 weights are whole blocks of 32, of 48 no whole blocks.
#[test]
fn rows_that_no_block_divides_get_another_type() {
    let folder = tempfile::tempdir().unwrap();
    let formats = all_formats();
    let of_32 = skeleton(folder.path(), 1, [1, 1], false, 288);
    let of_16 = skeleton(folder.path(), 1, [1, 1], false, 48);
    let cases = [
        ("Q2_K_S", "Q4_0"),
        ("Q3_K_S", "Q4_0"),
        ("Q4_K_M", "Q5_0"),
        ("Q5_K_S", "Q5_1"),
        ("Q6_K", "Q8_0"),
        ("IQ4_XS", "IQ4_NL"),
        ("IQ3_S", "IQ4_NL"),
        ("IQ2_XXS", "IQ4_NL"),
        ("TQ1_0", "Q4_0"),
        ("TQ2_0", "Q4_0"),
        // llama.cpp gives up.
        ("Q1_0", "F16"),
        ("NVFP4", "F16"),
        ("Q4_0", "Q4_0"),
        ("Mine", "Mine"),
    ];
    for (name, expected) in cases {
        let mut recipe = Recipe::new(name, &formats).unwrap();
        recipe.unweighted = true;
        let query = |source, recipe: &Recipe| plan(source, recipe).unwrap().tensors[1].clone();
        let (fallback, none) = (query(&of_32, &recipe), query(&of_16, &recipe));
        assert_eq!((fallback.to.name(), none.to.name()), (expected, "F16"), "{name}");
        assert_eq!(fallback.instead_of.is_some(), expected != name, "{name}");
        assert!(none.instead_of.is_some(), "{name}");
        let output = |source| plan(source, &recipe).unwrap().tensors.last().unwrap().to.name();
        assert_eq!([output(&of_32), output(&of_16)], ["Q8_0", "F16"], "{name}");

        recipe.pure = true;
        let error = plan(&of_16, &recipe).unwrap_err().to_string();
        let fragment = "tensor `token_embd.weight` has rows of 48 weights, which are no whole blocks of ";
        assert!(error.contains(fragment), "{name}: {error}");
    }
    // One that is wider than Q6_K is not narrowed for the output.
    let wide = plan(&of_32, &Recipe::new("Wide", &formats).unwrap()).unwrap();
    assert!(wide.tensors.iter().all(|planned| planned.to.name() == "Wide"));
}

#[test]
fn exceptions_decide_before_rules() {
    let folder = tempfile::tempdir().unwrap();
    let formats = all_formats();
    let ty = |name| formats.tensor_type(name).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Recipe);
    let cases: [(&str, bool, Change, &str); 8] = [
        ("none", false, &|_| (), "attn_v Q6_K 1, ffn_down Q6_K 1, output Q6_K"),
        (
            "upper case, and the first that is found",
            false,
            &|recipe| {
                recipe.set_type("ATTN_[KQ]", ty("Q8_0")).unwrap();
                recipe.set_type(r"attn_.\.weight", ty("F32")).unwrap();
            },
            "attn_k Q8_0 0-1, attn_q Q8_0 0-1, attn_v F32 0-1, ffn_down Q6_K 1, output Q6_K",
        ),
        (
            "a layer",
            false,
            &|recipe| recipe.set_type(r"^blk\.0\.", ty("Q2_K")).unwrap(),
            "attn_k Q2_K 0, attn_output Q2_K 0, attn_q Q2_K 0, attn_v Q2_K 0, attn_v Q6_K 1, ffn_down Q2_K 0, \
             ffn_down Q6_K 1, ffn_gate Q2_K 0, ffn_up Q2_K 0, output Q6_K",
        ),
        (
            "fixed",
            false,
            &|recipe| {
                recipe.set_type("output", ty("Q2_K")).unwrap();
                (recipe.output, recipe.token_embedding) = (Some(ty("F16")), Some(ty("Q3_K")));
            },
            "attn_output Q2_K 0-1, attn_v Q6_K 1, ffn_down Q6_K 1, output F16, token_embd Q3_K",
        ),
        (
            "tied",
            true,
            &|recipe| recipe.output = Some(ty("Q5_K")),
            "attn_v Q6_K 1, ffn_down Q6_K 1, token_embd Q5_K",
        ),
        (
            "tied, and the embedding's type is the more specific",
            true,
            &|recipe| (recipe.output, recipe.token_embedding) = (Some(ty("Q5_K")), Some(ty("Q8_0"))),
            "attn_v Q6_K 1, ffn_down Q6_K 1, token_embd Q8_0",
        ),
        ("pure", false, &|recipe| recipe.pure = true, ""),
        (
            "pure but for",
            false,
            &|recipe| {
                recipe.pure = true;
                recipe.set_type("ffn_down", ty("Q5_K")).unwrap();
                recipe.output = Some(ty("Q6_K"));
            },
            "ffn_down Q5_K 0-1, output Q6_K",
        ),
    ];
    for (case, tied, change, expected) in cases {
        let source = skeleton(folder.path(), 2, [1, 1], tied, 256);
        let mut recipe = Recipe::new("Q4_K", &formats).unwrap();
        change(&mut recipe);
        assert_eq!(types(&plan(&source, &recipe).unwrap(), |_, ty| ty != "Q4_K"), expected, "{case}");
    }
}

#[test]
fn what_llama_cpp_leaves_alone_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let cases: [(&str, &[usize], bool); 9] = [
        ("blk.0.attn_q.weight", &[32, 2], true),
        ("blk.0.ffn_up_exps.weight", &[32, 1, 2], true),
        ("blk.0.attn_q.bias", &[32, 2], false),
        ("blk.0.attn_q_norm.weight", &[32, 2], false),
        ("blk.0.ffn_gate_inp.weight", &[32, 2], false),
        ("blk.0.ssm_conv1d.weight", &[32, 2], false),
        ("position_embd.weight", &[32, 2], false),
        ("rope_freqs.weight", &[32], false),
        ("blk.0.thin.weight", &[32, 1], false),
    ];
    let mut writer = GgufWriter::new(&path);
    for (name, dims, _) in cases {
        let len = 4 * dims.iter().product::<usize>();
        writer.tensor(name, dims, TensorType::F32, move |out| out.write_all(&vec![0; len])).unwrap();
    }
    writer.write().unwrap();
    let plan = plan(&Gguf::open(&path).unwrap(), &recipe("Q8_0")).unwrap();
    for ((name, _, is_quantized), planned) in cases.iter().zip(&plan.tensors) {
        assert_eq!(planned.to.name(), if *is_quantized { "Q8_0" } else { "F32" }, "{name}");
    }
}

#[test]
fn names_of_recipes() {
    const Q8: &FormatParts = Q8_0::FORMAT.parts();
    static SAME: Format =
        Format::new(FormatParts { name: "Same", gguf_id: Some(133), quantize: None, ..*Q8 });
    static NUMBERLESS: Format = Format::new(FormatParts { name: "Numberless", gguf_id: None, ..*Q8 });
    let declared = Formats::NONE.with(&[Q8_0::FORMAT, &SAME, &NUMBERLESS]).unwrap();
    let of_k = all_formats();
    let there_are = "; there are F32, F16, BF16, Q8_0";
    let cases = [
        (&declared, "q8_0", ""),
        (&declared, "bf16", ""),
        (&of_k, "q4_k", ""),
        (&of_k, "iq2_m", ""),
        (&declared, "", &*format!("unknown type \"\"{there_are}")),
        (&declared, "Q9_0", &*format!("unknown type \"Q9_0\"{there_are}")),
        (&declared, "same", &*format!("Same has no quantizer, as none follows from its formula{there_are}")),
        (
            &declared,
            "NUMBERLESS",
            &*format!("Numberless has no GGUF number, so that no file can hold it{there_are}"),
        ),
        (&declared, "Q4_K_M", &*format!("Q4_K_M is mostly Q4_K: unknown type \"Q4_K\"{there_are}")),
        (
            &of_k,
            "Q4_K_X",
            "MXFP4, NVFP4, Q1_0, Q2_0, Mine, Wide, Q2_K_S, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M,",
        ),
    ];
    for (formats, name, problem) in cases {
        match Recipe::new(name, formats) {
            Ok(_) => assert_eq!(problem, "", "{name:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    !problem.is_empty() && text.contains(problem),
                    "{name:?}: {text}, expected {problem}"
                );
            }
        }
    }
    // A rule may want what isn't declared.
    let folder = tempfile::tempdir().unwrap();
    let source = skeleton(folder.path(), 1, [1, 1], false, 256);
    let mut recipe = Recipe::new("Q4_0", &Formats::NONE.with(&[tiny_format("Q4_0")]).unwrap()).unwrap();
    let error = plan(&source, &recipe).unwrap_err().to_string();
    let expected = "Q4_0 has `output.weight` in Q6_K, and unknown type \"Q6_K\": name another type for it (--tensor-type)";
    assert!(error.contains(expected), "{error}");
    recipe.output = Some(TensorType::F16);
    plan(&source, &recipe).unwrap();
}

/// A built-in format.
fn tiny_format(name: &str) -> &'static Format {
    Formats::default().iter().find(|format| format.name == name).unwrap()
}

/// Stand-ins for formats that mixtures want, so that the rules don't depend on which formats are declared.
fn all_formats() -> Formats {
    const BLOCKS: [(&str, u32, usize, usize); 27] = [
        ("Q4_0", 2, 32, 18),
        ("Q4_1", 3, 32, 20),
        ("Q5_0", 6, 32, 22),
        ("Q5_1", 7, 32, 24),
        ("Q8_0", 8, 32, 34),
        ("Q2_K", 10, 256, 84),
        ("Q3_K", 11, 256, 110),
        ("Q4_K", 12, 256, 144),
        ("Q5_K", 13, 256, 176),
        ("Q6_K", 14, 256, 210),
        ("IQ2_XXS", 16, 256, 66),
        ("IQ2_XS", 17, 256, 74),
        ("IQ3_XXS", 18, 256, 98),
        ("IQ1_S", 19, 256, 50),
        ("IQ4_NL", 20, 32, 18),
        ("IQ3_S", 21, 256, 110),
        ("IQ2_S", 22, 256, 82),
        ("IQ4_XS", 23, 256, 136),
        ("IQ1_M", 29, 256, 56),
        ("TQ1_0", 34, 256, 54),
        ("TQ2_0", 35, 256, 66),
        ("MXFP4", 39, 32, 17),
        ("NVFP4", 40, 64, 36),
        ("Q1_0", 41, 128, 18),
        ("Q2_0", 42, 64, 18),
        ("Mine", 200, 96, 60),
        ("Wide", 201, 32, 40),
    ];
    let formats = BLOCKS.map(|(name, gguf_id, block_len, block_bytes)| {
        let quantize: Option<Quantize> = Some(|_, _, _| ());
        let variant = |&isa: &Isa| {
            let size = [block_len, block_bytes];
            // SAFETY: these functions do nothing, on any CPU.
            unsafe {
                Variant::new(
                    isa,
                    size,
                    Kernel { function: |_, _| 0.0, name: "dot" },
                    Kernel { function: |_, _, _| (), name: "gemv" },
                    Kernel { function: |_, _, _, _| (), name: "gemv_several" },
                    Kernel { function: |_, _| (), name: "dequantize" },
                    None,
                )
            }
        };
        let variants: Vec<_> = Isa::ALL.iter().map(variant).collect();
        &*Box::leak(Box::new(Format::new(FormatParts {
            name,
            gguf_id: Some(gguf_id),
            block_len,
            block_bytes,
            floats: &[],
            missing: &[],
            one_unit: false,
            panel: None,
            quantize,
            variants: Vec::leak(variants),
        })))
    });
    Formats::NONE.with(&formats).unwrap()
}

/// A file with the tensors that a Llama has, of two rows each.
fn skeleton(folder: &Path, layers: usize, heads: [u32; 2], tied: bool, cols: usize) -> Gguf {
    let path = folder.join(format!("{layers}-{heads:?}-{tied}-{cols}.gguf"));
    let data = vec![0; cols * 2 * 2];
    let mut writer = GgufWriter::new(&path);
    writer.metadata("general.architecture", "llama").unwrap();
    writer.metadata("llama.attention.head_count", heads[0]).unwrap();
    writer.metadata("llama.attention.head_count_kv", heads[1]).unwrap();
    let mut matrix = |name: String| {
        writer.tensor(name, &[cols, 2], tensor_type("F16"), |out| out.write_all(&data)).unwrap();
    };
    matrix("token_embd.weight".into());
    for layer in 0..layers {
        for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
            matrix(format!("blk.{layer}.{name}.weight"));
        }
    }
    if !tied {
        matrix("output.weight".into());
    }
    writer.write().unwrap();
    Gguf::open(path).unwrap()
}

/// Each column by its own importance, wherever jobs and rows end, against the whole tensor at once.
#[test]
fn importance_counts_by_column() {
    let folder = tempfile::tempdir().unwrap();
    let [path, target] = ["source.gguf", "target.gguf"].map(|name| folder.path().join(name));
    let isa = Supported::selected().unwrap();
    let noise = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    // A thread converts 16,384 weights at a time: parts of a row, several rows and parts of two, matrices of experts.
    for (dims, counts) in [
        (&[33_024, 2][..], &[7.0][..]),
        (&[768, 100], &[3.0]),
        (&[32, 1030], &[1.0]),
        (&[256, 50, 3], &[2.0, 0.0, 5.0]),
        (&[256, 50, 3], &[4.0]),
    ] {
        let matrices: usize = dims[2..].iter().product();
        let (cols, len) = (dims[0], dims.iter().product::<usize>());
        let weights: Vec<f32> = (0..len).map(|i| noise(i) as f32 / (1 << 24) as f32 - 0.5).collect();
        let sums: Vec<f32> = (0..cols * matrices).map(|i| (noise(i) % 1000) as f32 + 1.0).collect();
        let name = "blk.0.ffn_up.weight";
        let mut writer = GgufWriter::new(&path);
        writer
            .tensor(name, dims, TensorType::F32, |out| {
                weights.iter().try_for_each(|w| out.write_all(&w.to_le_bytes()))
            })
            .unwrap();
        writer.write().unwrap();
        let source = Gguf::open(&path).unwrap();
        for ty in ["Q4_0", "Q8_0", "IQ4_NL", "Q2_K", "F16"] {
            let case = format!("{dims:?} to {ty}, counts {counts:?}");
            let ty = tensor_type(ty);
            if !cols.is_multiple_of(ty.block_len()) {
                continue;
            }
            let mut recipe = pure(ty.name());
            recipe.unweighted = false;
            recipe.imatrix = Some(imatrix(&[(name, &sums, counts)]));
            for threads in [1, 3] {
                let plan =
                    quantize_file(&source, &target, &recipe, Some(threads), |_| ControlFlow::Continue(()));
                let quantized = matches!(ty, TensorType::Quantized(_));
                assert_eq!(plan.unwrap().tensors[0].is_weighted, quantized, "{case}");
                let expected: Vec<u8> = match ty {
                    TensorType::Quantized(format) => weights
                        .chunks(len / matrices)
                        .enumerate()
                        .flat_map(|(i, weights)| {
                            let sums = &sums[i * cols..][..cols];
                            let count = counts[i % counts.len()];
                            let mean = |sum: &f32| if count > 0.0 { sum / count } else { 1.0 };
                            let importance: Vec<f32> = sums.iter().map(mean).collect();
                            let mut blocks = vec![0; format.bytes_for(weights.len())];
                            format.kernels(isa).quantize_weighted(weights, &importance, &mut blocks).unwrap();
                            blocks
                        })
                        .collect(),
                    _ => weights.iter().flat_map(|w| f16::from_f32(*w).to_le_bytes()).collect(),
                };
                let target = Gguf::open(&target).unwrap();
                assert!(target.require_tensor(name).unwrap().data() == expected, "{case}, {threads} threads");
            }
        }
    }
}

#[test]
fn files_tell_of_their_importance_matrix() {
    let (folder, source) = model(&SHAPE);
    let [path, target, again] =
        ["imatrix.gguf", "target.gguf", "again.gguf"].map(|name| folder.path().join(name));
    let mut weights = Imatrix::clone(&imatrix(&[
        ("blk.0.attn_q.weight", &[1.0; 64], &[4.0]),
        ("blk.1.ffn_down.weight", &[1.0; 96], &[4.0]),
    ]));
    (weights.chunks, weights.datasets) = (5, vec!["first.txt".into(), "second.txt".into()]);
    weights.write(&path).unwrap();
    let keys = |path: &Path| {
        let file = Gguf::open(path).unwrap();
        let keys = file.metadata().iter().filter(|(key, _)| key.starts_with("quantize."));
        keys.map(|(key, value)| (key.to_owned(), value.to_string())).collect::<BTreeMap<_, _>>()
    };
    let expected = |pairs: &[(&str, &str)]| -> BTreeMap<_, _> {
        pairs.iter().map(|(key, value)| (format!("quantize.imatrix.{key}"), (*value).to_owned())).collect()
    };
    let quoted = format!("{:?}", path.to_str().unwrap());
    let mut recipe = recipe("Q8_0");
    recipe.imatrix = Some(Arc::new(Imatrix::open(&path).unwrap()));
    let plan = write(&source, &target, &recipe).unwrap();
    let told =
        [("file", &*quoted), ("dataset", "\"first.txt\""), ("entries_count", "2"), ("chunks_count", "5")];
    assert_eq!(keys(&target), expected(&told));
    let weighted: Vec<_> = plan.tensors.iter().filter(|planned| planned.is_weighted).collect();
    assert_eq!(weighted.len(), 2);
    // What is not quantized has no use for it.
    recipe = pure("F16");
    recipe.imatrix = Some(Arc::new(weights));
    let plan = write(&source, &target, &recipe).unwrap();
    assert!(plan.tensors.iter().all(|planned| !planned.is_weighted));
    // Without one a file says what its source said, with one nothing of an older one.
    let target = Gguf::open(&target).unwrap();
    write(&target, &again, &pure("Q8_0")).unwrap();
    assert_eq!(
        keys(&again),
        expected(&[("dataset", "\"first.txt\""), ("entries_count", "2"), ("chunks_count", "5")])
    );
    recipe = pure("Q4_0");
    recipe.imatrix = Some(imatrix(&[("blk.0.attn_q.weight", &[1.0; 64], &[4.0])]));
    let source = Gguf::open(&again).unwrap();
    let last = folder.path().join("last.gguf");
    write(&source, &last, &recipe).unwrap();
    assert_eq!(keys(&last), expected(&[("entries_count", "1")]));
}

/// llama.cpp refuses what is of no use: types of the fewest bits, but for the matrices that no imatrix has.
#[test]
fn some_types_want_importance() {
    let folder = tempfile::tempdir().unwrap();
    let formats = all_formats();
    let source = skeleton(folder.path(), 8, [4, 4], false, 256);
    let entry = |name| (name, &[1.0; 256][..], &[1.0][..]);
    let other = imatrix(&[entry("blk.7.ffn_up.weight")]);
    let all: Vec<_> = source.tensors().iter().map(|tensor| entry(tensor.name())).collect();
    let layers: Vec<_> = all.iter().copied().filter(|(name, ..)| name.starts_with("blk.")).collect();
    let lacking = ": the importance matrix has no entry for it; name another type for it (--tensor-type), or go without (--allow-unweighted)";
    let none =
        ": compute that (quantloom imatrix) and name it (--imatrix), or go without (--allow-unweighted)";
    let cases = [
        ("IQ1_S", "blk.0.attn_q.weight` becomes IQ1_S"),
        ("IQ1_M", "blk.0.attn_q.weight` becomes IQ1_M"),
        ("IQ2_XXS", "blk.0.attn_q.weight` becomes IQ2_XXS"),
        ("IQ2_XS", "blk.0.attn_q.weight` becomes IQ2_XS"),
        ("IQ2_M", "blk.0.attn_q.weight` becomes IQ2_S"),
        ("IQ3_XXS", "blk.0.attn_q.weight` becomes IQ2_S"),
        ("IQ3_XS", "blk.0.attn_q.weight` becomes IQ3_XXS"),
        ("Q2_K_S", "blk.0.attn_q.weight` becomes Q2_K"),
        ("Q2_K", ""),
        ("IQ3_S", ""),
        ("TQ1_0", ""),
        ("Q1_0", ""),
        ("Q4_K_M", ""),
    ];
    for (name, problem) in cases {
        let mut recipe = Recipe::new(name, &formats).unwrap();
        for (imatrix, remedy) in [(None, none), (Some(&other), lacking)] {
            recipe.imatrix = imatrix.cloned();
            match plan(&source, &recipe) {
                Ok(_) => assert_eq!(problem, "", "{name}"),
                Err(error) => {
                    let expected = format!(
                        "{problem}, which is of little use without the importance of its columns{remedy}"
                    );
                    assert!(!problem.is_empty() && error.to_string().ends_with(&expected), "{name}: {error}");
                }
            }
        }
        recipe.unweighted = true;
        plan(&source, &recipe).unwrap();
        recipe.unweighted = false;
        for entries in [&all, &layers] {
            recipe.imatrix = Some(imatrix(entries));
            let weighted = plan(&source, &recipe).unwrap();
            let count = weighted.tensors.iter().filter(|planned| planned.is_weighted).count();
            assert_eq!(count, entries.len(), "{name}");
        }
    }
}

#[test]
fn what_can_not_be_done_is_said_and_leaves_no_file() {
    let (folder, dense) = model(&SHAPE);
    let (_folder, quantized) = model(&Shape { ty: "Q8_0", ..SHAPE });
    let target = folder.path().join("target.gguf");
    let nowhere = folder.path().join("missing").join("target.gguf");
    let with = |pattern: &str| {
        let mut recipe = recipe("Q8_0");
        recipe.set_type(pattern, tensor_type("Q4_0")).unwrap();
        recipe
    };
    let weighted = |entries: &[(&str, &[f32], &[f32])]| {
        let mut recipe = recipe("Q8_0");
        recipe.imatrix = Some(imatrix(entries));
        recipe
    };
    let shadowed = {
        let mut recipe = with("attn_");
        recipe.set_type("attn_q", tensor_type("Q4_1")).unwrap();
        recipe
    };
    let cases = [
        (
            "requantize",
            &quantized,
            &target,
            recipe("Q4_0"),
            "`token_embd.weight` is quantized already, as Q8_0",
        ),
        ("no such folder", &dense, &nowhere, recipe("Q8_0"), "missing"),
        ("a folder", &dense, &folder.path().to_owned(), recipe("Q8_0"), "is not a regular file"),
        (
            "unmatched",
            &dense,
            &target,
            with("attn_x"),
            "no tensor becomes Q4_0 by \"attn_x=Q4_0\": that is found",
        ),
        ("of vectors", &dense, &target, with("attn_norm"), "no tensor becomes Q4_0 by \"attn_norm=Q4_0\""),
        ("shadowed", &dense, &target, shadowed, "no tensor becomes Q4_1 by \"attn_q=Q4_1\""),
        (
            "importance of other columns",
            &dense,
            &target,
            weighted(&[("blk.0.ffn_down.weight", &[1.0; 64], &[1.0])]),
            "tensor `blk.0.ffn_down.weight` has 96 columns, and the importance matrix has 64 of it: that was",
        ),
        (
            "importance of experts",
            &dense,
            &target,
            weighted(&[("blk.0.ffn_down.weight", &[1.0; 96], &[1.0, 1.0])]),
            "tensor `blk.0.ffn_down.weight` has 96 columns, and the importance matrix has 48 of it for 2 matrices",
        ),
        (
            "importance for another model",
            &dense,
            &target,
            weighted(&[("blk.9.ffn_down.weight", &[1.0; 96], &[1.0])]),
            "source.gguf: the importance matrix has no entry for any of its tensors",
        ),
    ];
    for (case, source, target, recipe, expected) in cases {
        let error = write(source, target, &recipe).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.lines().count() == 1,
            "{case}: {error:?}, expected {expected:?}"
        );
        assert_only_source(&folder, case);
    }
    let problem = recipe("Q8_0").set_type("attn_(q", tensor_type("Q4_0")).unwrap_err().to_string();
    assert_eq!(problem, "\"attn_(q\" is no regular expression: unclosed group");

    let count = |bytes: usize| if bytes > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let error = quantize_file(&dense, &target, &recipe("Q8_0"), Some(1), count).unwrap_err();
    assert!(matches!(&error, Error::Stopped(path) if *path == target), "{error}");
    assert_only_source(&folder, "stopped");
    let error = quantize_file(&dense, &target, &recipe("Q8_0"), Some(1025), |_| ControlFlow::Continue(()));
    assert!(error.unwrap_err().to_string().contains("can't start 1025 threads: the most is 1024"));

    // What is the same type needs no quantizing, what becomes plain loses nothing more, and allowed it is done.
    assert!(write(&quantized, &target, &recipe("F16")).unwrap().converted() > 0);
    assert_eq!(write(&quantized, &target, &recipe("Q8_0")).unwrap().converted(), 0);
    assert!(write(&quantized, &target, &pure("Q4_0")).unwrap().converted() > 0);
}

#[track_caller]
fn assert_only_source(folder: &TempDir, case: &str) {
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["source.gguf"], "{case}");
}

#[test]
fn weights_that_the_new_type_can_not_hold_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let [path, target] = ["source.gguf", "target.gguf"].map(|name| folder.path().join(name));
    let cases: [(f32, &str, Option<&str>); 8] = [
        (f32::NAN, "Q8_0", Some("is NaN: the file is damaged")),
        (f32::NEG_INFINITY, "Q4_0", Some("is -inf: the file is damaged")),
        (65_520.0, "F16", Some("is 65520, which F16 can't hold")),
        (65_519.0, "F16", None),
        (-1e9, "Q4_1", Some("is -1000000000, which Q4_1 can't hold")),
        (-1e9, "BF16", None),
        (f32::NAN, "BF16", Some("is NaN: the file is damaged")),
        (f32::NAN, "F32", Some("is NaN: the file is damaged")),
    ];
    for (weight, ty, problem) in cases {
        let mut weights = vec![0.5_f32; 64 * 1000];
        weights[43_210] = weight;
        let data: Vec<_> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut writer = GgufWriter::new(&path);
        let name = "blk.0.attn_q.weight";
        writer.tensor(name, &[64, 1000], TensorType::F32, |out| out.write_all(&data)).unwrap();
        writer.write().unwrap();
        let source = Gguf::open(&path).unwrap();
        match (write(&source, &target, &recipe(ty)), problem) {
            (Ok(_), None) => fs::remove_file(&target).unwrap(),
            (Err(error), Some(problem)) => {
                let expected = format!("source.gguf: weight 43210 of tensor `{name}` {problem}");
                assert!(error.to_string().contains(&expected), "{weight} as {ty}: {error}");
            }
            (result, _) => panic!("{weight} as {ty}: {result:?}"),
        }
        assert_only_source(&folder, ty);
    }
}

#[test]
fn a_model_is_not_written_over_itself() {
    let (folder, source) = model(&SHAPE);
    let path = source.path();
    let before = fs::read(path).unwrap();
    let [hard, soft] = ["hard.gguf", "soft.gguf"].map(|name| folder.path().join(name));
    fs::hard_link(path, &hard).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(path, &soft).unwrap();
    let dotted = folder.path().join(".").join("source.gguf");
    for target in [path, &dotted, &hard, &soft].into_iter().filter(|target| target.exists()) {
        let error = write(&source, target, &recipe("Q8_0")).unwrap_err();
        assert!(error.to_string().contains("name another file"), "{}: {error}", target.display());
    }
    assert_eq!(fs::read(path).unwrap(), before);
}

#[test]
fn a_part_of_a_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.gguf");
    for (parts, is_refused) in [(1_u16, false), (3, true)] {
        let mut writer = GgufWriter::new(&path);
        writer.metadata("split.count", parts).unwrap();
        writer.write().unwrap();
        match plan(&Gguf::open(&path).unwrap(), &recipe("Q8_0")) {
            Ok(_) => assert!(!is_refused, "{parts} parts"),
            Err(error) => assert!(error.to_string().contains("one of the 3 parts"), "{parts} parts: {error}"),
        }
    }
}

/// The smallest file: without tensors. A type of no number in llama.cpp has none in the file.
#[test]
fn nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let [empty, target] = ["empty.gguf", "target.gguf"].map(|name| folder.path().join(name));
    let mut writer = GgufWriter::new(&empty);
    writer.metadata("general.architecture", "llama").unwrap();
    writer.metadata("general.file_type", 0_u32).unwrap();
    writer.write().unwrap();
    let source = Gguf::open(&empty).unwrap();
    for (name, file_type) in [("Q8_0", Some(7)), ("Wide", None)] {
        let plan = write(&source, &target, &Recipe::new(name, &all_formats()).unwrap()).unwrap();
        assert_eq!((plan.tensors.len(), plan.weights(), plan.bytes_after()), (0, 0, 0), "{name}");
        let target = Gguf::open(&target).unwrap();
        assert_eq!(target.metadata().u32("general.file_type").unwrap(), file_type, "{name}");
    }
}
