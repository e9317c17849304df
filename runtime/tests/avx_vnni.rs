//! A real model's first token on the `avx_vnni` kernels' own machine code, emulated where the CPU has no
//! AVX-VNNI: some four million instructions. A process of its own, since it handles SIGILL.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod common;

use quantloom::Model;
use quantloom::gguf::Gguf;
use quantloom::sample::greedy;
use quantloom_bench::emulate;
use quantloom_kernels::{Isa, Supported};

#[test]
fn the_first_token_is_the_same_as_with_avx2() {
    let Some(path) = common::default_model() else { return };
    let Ok(avx2) = Supported::new(Isa::Avx2Fma) else {
        eprintln!("NOT RUN: this CPU has no AVX2");
        return;
    };
    let (vnni, how) = emulate::supported(Isa::AvxVnni).expect("a CPU with AVX2 lacks AVX-VNNI at most");
    // The chat form's first token.
    let prompt = [1];
    let [ours, theirs] = [vnni, avx2].map(|isa| {
        let model = Model::from_gguf(Gguf::open(&path).unwrap(), isa, 2).unwrap();
        model.forward(&prompt).unwrap()
    });
    assert!(
        ours == theirs,
        "integer sums are exact on both, so that all logits are the same to the last bit"
    );
    println!("first token {} {how}, {} instructions emulated", greedy(&ours), emulate::traps());
}
