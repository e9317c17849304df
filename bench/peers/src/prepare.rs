//! What must be there first: workers, a Python with llama.cpp, and models.

use std::env;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use quantloom::gguf::{Formats, Gguf, GgufWriter, Value};
use quantloom::quantize::{Recipe, quantize_file, tensor_type};
use quantloom::{bench, pull};

use crate::engines::{Engine, Start};
use crate::worker::Result;

/// The llama-cpp-python that is measured.
const LLAMA: &str = "llama-cpp-python==0.3.36";

/// What reads and dequantizes files for the forward pass in float64: llama.cpp's own package, of which it runs nothing.
const GGUF: &str = "gguf==0.19.0";

/// The mistral.rs that is measured, as its own project distributes it.
const MISTRAL_RS: &str = "mistralrs==0.9.5";

/// How llama.cpp is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LlamaBuild {
    /// For this CPU, but without AMX: hypervisors announce AMX and let it fail as an illegal instruction.
    Native,
    /// And without any AVX-512 or AVX-VNNI.
    Avx2,
}

/// Pythons that have llama-cpp-python already.
#[derive(Clone, Debug, Default)]
pub struct Pythons {
    pub native: Option<PathBuf>,
    pub avx2: Option<PathBuf>,
}

/// How an engine's worker is started.
pub struct Starter {
    program: PathBuf,
    arguments: Vec<&'static str>,
    environment: &'static [(&'static str, &'static str)],
}

impl Starter {
    /// Builds what an engine needs.
    pub fn new(engine: &Engine, pythons: &Pythons) -> Result<Self> {
        let (program, arguments) = match engine.start {
            Start::Portable { worker } => (build(worker, None)?, vec![]),
            Start::Native { worker, feature } => (build(worker, Some(feature))?, vec![]),
            Start::Llama(build) => (
                build.python(pythons)?,
                vec!["-c", concat!(include_str!("serve.py"), include_str!("llama.py"))],
            ),
            Start::Exact => (
                python("exact", "gguf", |python| pip_install(python, GGUF))?,
                vec!["-c", concat!(include_str!("serve.py"), include_str!("exact.py"))],
            ),
            Start::Mistral => (
                python("mistral", "mistralrs", |python| pip_install(python, MISTRAL_RS))?,
                vec!["-c", include_str!("mistral.py")],
            ),
        };
        Ok(Self { program, arguments, environment: engine.environment })
    }

    pub fn command(&self, threads: usize) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_remove("QUANTLOOM_ISA").envs(self.environment.iter().copied());
        // Engines that know no other way take their threads from here.
        command.env("RAYON_NUM_THREADS", threads.to_string());
        command
    }
}

/// The folder that everything is built in.
pub fn target() -> PathBuf {
    let program = env::current_exe().expect("the system tells a program its path");
    program.ancestors().nth(2).expect("it is in a folder of the target folder").into()
}

fn build(worker: &str, feature: Option<&str>) -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--release", "--locked", "--bin", worker]);
    cargo.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let target = match feature {
        None => target(),
        // Other flags in a folder of their own: neither build throws out the other.
        Some(feature) => {
            cargo.args(["--features", feature]).env("RUSTFLAGS", "-C target-cpu=native");
            target().join("native")
        }
    };
    run(cargo.arg("--target-dir").arg(&target))?;
    Ok(target.join("release").join(worker))
}

/// Runs a command that says itself what goes wrong.
fn run(command: &mut Command) -> Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown} failed ({status}) to build or install it")),
        Err(error) => Err(format!("{shown} does not run: {error}")),
    }
}

/// A Python in a folder of its own that has a module, which `install` installs.
fn python(folder: &str, module: &str, install: impl FnOnce(&Path) -> Command) -> Result<PathBuf> {
    let folder = target().join(folder);
    let python = folder.join("bin/python");
    // pip finds out by itself that it is there, but takes its time.
    let is_there = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !is_there.is_ok_and(|output| output.status.success()) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(&mut install(&python))?;
    }
    Ok(python)
}

fn pip_install(python: &Path, package: &str) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", package]);
    pip
}

impl LlamaBuild {
    fn python(self, pythons: &Pythons) -> Result<PathBuf> {
        let (given, folder) = match self {
            Self::Native => (&pythons.native, "llama-native"),
            Self::Avx2 => (&pythons.avx2, "llama-avx2"),
        };
        if let Some(python) = given {
            return Ok(python.clone());
        }
        python(folder, "llama_cpp", |python| {
            eprintln!("compiling {LLAMA}, which takes a while");
            self.install(python)
        })
    }

    fn install(self, python: &Path) -> Command {
        let mut pip = Command::new(python);
        pip.env("CMAKE_ARGS", self.cmake());
        // A wheel of another build might lie in pip's cache.
        pip.args(["-m", "pip", "install", "--no-cache-dir", "--no-binary", "llama-cpp-python", LLAMA]);
        pip
    }

    fn cmake(self) -> String {
        let flags = match self {
            Self::Native => "-mno-amx-int8 -mno-amx-tile -mno-amx-bf16",
            Self::Avx2 => "-mno-amx-int8 -mno-amx-tile -mno-amx-bf16 -mno-avx512f -mno-avxvnni",
        };
        let off = ["LLAVA_BUILD", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_TOOLS"];
        let off: String = off.iter().map(|option| format!(" -D{option}=OFF")).collect();
        format!("-DCMAKE_C_FLAGS='{flags}' -DCMAKE_CXX_FLAGS='{flags}'{off}")
    }
}

/// The model of the benchmark, TinyLlama or one of its shape, in a type.
pub fn speed_model(ty: &str) -> Result<PathBuf> {
    let q4_0 = bench::default_model().map_err(|error| error.to_string())?;
    let stem = q4_0.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.trim_end_matches(".Q4_0");
    if ty == "Q4_0" { Ok(q4_0.clone()) } else { converted(&q4_0, name, ty) }
}

/// A real model: as it comes, or in a type.
pub fn real_model(ty: Option<&str>) -> Result<PathBuf> {
    let model = pull::DEFAULT.fetch().map_err(|error| error.to_string())?;
    ty.map_or(Ok(model.clone()), |ty| converted(&model, "SmolLM2-135M-Instruct", ty))
}

/// A model in another type, made where it isn't in the cache yet.
fn converted(source: &Path, name: &str, ty: &str) -> Result<PathBuf> {
    let all = if is_mixture(ty) { "" } else { "all-" };
    let path = source.with_file_name(format!("{name}.{all}{ty}.gguf"));
    // It gets its name when it is whole.
    if Gguf::open(&path).is_ok() {
        return Ok(path);
    }
    eprintln!("writing {}", path.display());
    quantized(source, &path, ty)?;
    Ok(path)
}

/// Whether it is one of llama.cpp's mixtures, which chooses the type of each matrix, and no type.
fn is_mixture(ty: &str) -> bool {
    tensor_type(ty, &Formats::default()).is_err()
}

/// Writes a model whose matrices are all in a type, or in those of a mixture.
pub fn quantized(source: &Path, path: &Path, ty: &str) -> Result<()> {
    let write = || {
        let mut recipe = Recipe::new(ty, &Formats::default())?;
        (recipe.pure, recipe.requantize, recipe.unweighted) = (!is_mixture(ty), true, true);
        quantize_file(&Gguf::open(source)?, path, &recipe, None, |_| ControlFlow::Continue(()))
    };
    write().map(drop).map_err(|error: quantloom::Error| error.to_string())
}

/// What a file says how many layers it has.
pub const LAYERS: &str = "llama.block_count";

/// Writes a model with the first of its layers alone.
pub fn cut(source: &Path, path: &Path, layers: u32) -> Result<()> {
    let gguf = Gguf::open(source).map_err(|error| error.to_string())?;
    let has = gguf.metadata().require_u32(LAYERS).map_err(|error| error.to_string())?;
    if !(1..=has).contains(&layers) {
        return Err(format!("{}: --layers {layers}, and it has {has}", source.display()));
    }
    let write = || {
        let mut file = GgufWriter::new(path);
        for (key, value) in gguf.metadata().iter() {
            file.metadata(key, if key == LAYERS { Value::from(layers) } else { value.clone() })?;
        }
        let is_left = |name: &str| {
            let layer = name.strip_prefix("blk.").and_then(|name| name.split('.').next()?.parse().ok());
            layer.is_none_or(|layer: u32| layer < layers)
        };
        for tensor in gguf.tensors().iter().filter(|tensor| is_left(tensor.name())) {
            file.tensor(tensor.name(), tensor.dims(), tensor.ty(), |out| out.write_all(tensor.data()))?;
        }
        file.write()
    };
    write().map_err(|error: quantloom::gguf::Error| error.to_string())
}

/// Has a file in the page cache.
pub fn warm(path: &Path) -> Result<()> {
    let read = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    read.map(drop).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use quantloom::gguf::TensorType;

    use super::*;

    #[test]
    fn llama_is_compiled_from_source_as_asked() {
        for (build, without) in [(LlamaBuild::Native, "-mno-amx-bf16'"), (LlamaBuild::Avx2, "-mno-avxvnni'")]
        {
            let cmake = build.cmake();
            assert!(cmake.starts_with("-DCMAKE_C_FLAGS='-mno-amx-int8 "), "{build:?}: {cmake}");
            assert_eq!(cmake.matches(without).count(), 2, "{build:?}: for C and for C++: {cmake}");
        }
        let pip = LlamaBuild::Native.install(Path::new("venv/bin/python"));
        let arguments: Vec<_> = pip.get_args().filter_map(|argument| argument.to_str()).collect();
        let expected = "-m pip install --no-cache-dir --no-binary llama-cpp-python llama-cpp-python==0.3.36";
        assert_eq!(arguments.join(" "), expected);
    }

    #[test]
    fn a_cut_model_has_its_first_layers() {
        let folder = tempfile::tempdir().expect("a folder");
        let [whole, path] = ["whole.gguf", "cut.gguf"].map(|name| folder.path().join(name));
        let mut file = GgufWriter::new(&whole);
        file.metadata("llama.block_count", 12_u32).expect("a new key");
        file.metadata("general.name", "Twelve").expect("a new key");
        for (name, byte) in [("token_embd.weight", 1), ("blk.1.a.weight", 2), ("blk.2.a", 3), ("blk.10.a", 4)]
        {
            let data = move |out: &mut dyn io::Write| out.write_all(&[byte; 4]);
            file.tensor(name, &[1], TensorType::F32, data).expect("a new tensor");
        }
        file.write().expect("it is written");

        assert_eq!(cut(&whole, &path, 2), Ok(()));
        let file = Gguf::open(&path).expect("it is whole");
        assert_eq!(file.metadata().require_u32("llama.block_count").ok(), Some(2));
        assert_eq!(file.metadata().require_str("general.name").ok(), Some("Twelve"));
        let tensors: Vec<_> = file.tensors().iter().map(|tensor| (tensor.name(), tensor.data()[0])).collect();
        assert_eq!(tensors, [("token_embd.weight", 1), ("blk.1.a.weight", 2)]);
        assert!(cut(&path, &whole, 3).is_err(), "it has but two");
    }

    #[test]
    fn a_mixture_is_no_type() {
        for (ty, expected) in [("Q4_K", false), ("q4_k", false), ("IQ4_XS", false), ("Q4_K_M", true)] {
            assert_eq!(is_mixture(ty), expected, "{ty}");
        }
    }

    #[test]
    fn a_python_that_is_named_is_taken() {
        let pythons = Pythons { native: Some("there/python".into()), avx2: None };
        assert_eq!(LlamaBuild::Native.python(&pythons), Ok("there/python".into()));
    }
}
