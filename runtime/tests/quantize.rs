//! Models written anew in another type.

#[path = "common/tiny.rs"]
mod tiny;

use std::fs;

use quantloom::gguf::{Gguf, GgufWriter, TensorType};
use quantloom::quantize::{Options, Summary, quantize};
use quantloom_kernels::formats::Q8_0;
use quantloom_kernels::{BlockFormat, Format, Supported, quant_format};

use tiny::{SHAPE, Shape, TinyModel, tensor_type};

quant_format! {
    /// A shape without quantizer: the minimum is the scale itself.
    block Same[32] = gguf 133 {
        d: f16,
        qs: [u8; 16],

        q[h: 2, i: 16] = qs[i] >> 4 * h & 15;
        w = (d * q) + d;
    }
}

fn options(ty: TensorType) -> Options {
    Options { ty, exceptions: Vec::new(), requantize: false }
}

#[test]
fn matrices_change_and_the_rest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let [source, target] = ["source.gguf", "target.gguf"].map(|name| folder.path().join(name));
    // 91 columns are no whole number of blocks.
    TinyModel::new(&Shape { feed_forward: 91, ..SHAPE }).write(&source);
    let source = Gguf::open(&source).unwrap();
    let exceptions = [("attn_k", "F16"), ("attn_norm", "BF16"), ("ffn_norm", "Q8_0")];
    let exceptions = exceptions.map(|(name, ty)| (name.to_owned(), tensor_type(ty))).to_vec();
    let done = std::cell::Cell::new(0);
    let options = Options { exceptions, ..options(tensor_type("Q4_0")) };
    let summary = quantize(&source, &target, &options, |bytes| done.set(done.get() + bytes)).unwrap();
    let target = Gguf::open(&target).unwrap();

    assert_eq!(done.get(), summary.bytes_before);
    let unfit: Vec<_> = summary.unfit.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    assert_eq!(unfit, ["blk.0.ffn_down.weight Q4_0", "blk.1.ffn_down.weight Q4_0"]);
    let bytes = |file: &Gguf| file.tensors().iter().map(|tensor| tensor.data().len()).sum::<usize>();
    assert_eq!((summary.bytes_before, summary.bytes_after), (bytes(&source), bytes(&target)));
    let keys =
        |file: &Gguf| file.metadata().iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>();
    assert_eq!(keys(&source), keys(&target));
    for (before, after) in source.tensors().iter().zip(target.tensors()) {
        let name = before.name();
        assert_eq!((name, before.dims()), (after.name(), after.dims()));
        let expected = match name {
            _ if name.contains("attn_norm") => "BF16",
            _ if name.contains("norm") || name.contains("ffn_down") => "F32",
            _ if name.contains("attn_k") => "F16",
            _ => "Q4_0",
        };
        assert_eq!(after.ty().name(), expected, "{name}");
        if before.ty() == after.ty() {
            assert_eq!(before.data(), after.data(), "{name}");
        }
    }
    // And it runs.
    let model = quantloom::Model::from_gguf(target, Supported::selected().unwrap(), 2).unwrap();
    assert!(model.forward(&[1, 5, 9]).unwrap().iter().all(|logit| logit.is_finite()));
}

/// Tensors of more rows than are converted at a time; F16 to F32 and back are the same numbers.
#[test]
fn widening_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let shape = Shape { ty: "F16", vocab: 700, ..SHAPE };
    TinyModel::new(&shape).write(&path("f16.gguf"));
    for (from, to) in [("f16", "f32"), ("f32", "again")] {
        let ty = tensor_type(if to == "f32" { "F32" } else { "F16" });
        let source = Gguf::open(path(&format!("{from}.gguf"))).unwrap();
        quantize(&source, path(&format!("{to}.gguf")), &options(ty), |_| ()).unwrap();
    }
    assert_eq!(fs::read(path("f16.gguf")).unwrap(), fs::read(path("again.gguf")).unwrap());
}

#[test]
fn what_can_not_be_done_is_said_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target.gguf");
    let open = |shape: &Shape| {
        let path = folder.path().join("source.gguf");
        TinyModel::new(shape).write(&path);
        Gguf::open(path).unwrap()
    };
    let dense = open(&SHAPE);
    let quantized = open(&Shape { ty: "Q8_0", ..SHAPE });
    static NUMBERLESS: Format = Format { gguf_id: None, ..*Q8_0::FORMAT };
    let cases = [
        (&quantized, tensor_type("Q4_0"), "`token_embd.weight` is quantized already, as Q8_0"),
        (&dense, TensorType::Quantized(Same::FORMAT), "Same has no quantizer"),
        (&dense, TensorType::Quantized(&NUMBERLESS), "no GGUF number"),
    ];
    for (source, ty, expected) in cases {
        let error = quantize(source, &target, &options(ty), |_| ()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.lines().count() == 1, "{error:?}: expected {expected:?}");
        assert!(!target.exists());
    }
    let nowhere = folder.path().join("missing").join("target.gguf");
    let error = quantize(&dense, &nowhere, &options(tensor_type("Q8_0")), |_| ()).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");

    // The same type needs no quantizing, and allowed it may be done again.
    assert!(quantize(&quantized, &target, &options(tensor_type("F16")), |_| ()).unwrap().converted > 0);
    let again = Options { requantize: true, ..options(tensor_type("Q4_0")) };
    assert_eq!(quantize(&quantized, &target, &options(tensor_type("Q8_0")), |_| ()).unwrap().converted, 0);
    assert!(quantize(&quantized, &target, &again, |_| ()).unwrap().converted > 0);
}

#[test]
fn a_model_is_not_written_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    TinyModel::new(&SHAPE).write(&path);
    let before = fs::read(&path).unwrap();
    let source = Gguf::open(&path).unwrap();
    let dotted = folder.path().join(".").join("model.gguf");
    for target in [&path, &dotted] {
        let error = quantize(&source, target, &options(tensor_type("Q8_0")), |_| ()).unwrap_err();
        assert!(error.to_string().contains("name another file"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// The smallest files: without tensors, and with vectors only.
#[test]
fn nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let [empty, target] = ["empty.gguf", "target.gguf"].map(|name| folder.path().join(name));
    let mut writer = GgufWriter::new(&empty);
    writer.metadata("general.architecture", "llama").unwrap();
    writer.metadata("general.file_type", 0_u32).unwrap();
    writer.write().unwrap();
    let source = Gguf::open(&empty).unwrap();
    let summary = quantize(&source, &target, &options(tensor_type("Q8_0")), |_| ()).unwrap();
    assert_eq!(summary, Summary::default());
    assert_eq!(Gguf::open(&target).unwrap().metadata().get("general.file_type"), None);
}
