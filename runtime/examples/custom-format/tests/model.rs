//! A real model in the format, from the file to text.

use std::ops::ControlFlow;

use custom_format::FORMAT;
use quantloom::gguf::{Formats, Gguf};
use quantloom::quantize::{Recipe, quantize_file};
use quantloom::tokenizer::{EncodeOptions, SpecialTokens};
use quantloom::{Model, pull, sample};
use quantloom_kernels::Supported;

#[test]
fn smollm2_counts_on() {
    let Some(source) = pull::DEFAULT.cached() else {
        assert!(std::env::var_os("CI").is_none(), "`quantloom pull smollm2` comes first");
        eprintln!("SKIPPED: the default model is absent; `quantloom pull smollm2` fetches it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smollm2.gguf");
    let formats = Formats::default().with(&[FORMAT]).unwrap();
    let mut recipe = Recipe::new(FORMAT.name, &formats).unwrap();
    (recipe.pure, recipe.requantize) = (true, true);
    let source = Gguf::open(source).unwrap();
    let plan = quantize_file(&source, &path, &recipe, Some(2), |_| ControlFlow::Continue(())).unwrap();
    assert!(plan.converted() > 200, "{} tensors", plan.converted());

    let error = Gguf::open(&path).unwrap_err().to_string();
    assert!(error.contains("which this build does not read"), "without the format: {error}");

    for isa in Supported::all() {
        let model = Model::from_gguf(Gguf::open_with(&path, &formats).unwrap(), isa, 2).unwrap();
        let options = EncodeOptions { add_bos: true, add_eos: true, parse_special: false };
        let mut tokens = model.tokenizer().encode("1, 2, 3, 4,", options);
        let mut cache = model.create_kv_cache_for(64).unwrap();
        let mut decoder = model.tokenizer().decoder(SpecialTokens::Skip);
        let mut text = String::new();
        for _ in 0..9 {
            let next = sample::greedy(&model.forward_with_cache(&tokens, &mut cache).unwrap());
            text.push_str(decoder.push(next));
            tokens = vec![next];
        }
        assert_eq!(text, " 5, 6, 7,", "{}", isa.isa());
    }
}
