//! A model's matrices in other types: what `quantloom quantize` does.
//!
//! A [`Recipe`] says what becomes of tensors: a type, with llama.cpp's rules for those that take another, and a
//! caller's exceptions. [`plan`] follows it to the type of each tensor of a file, and [`quantize_file`] writes the
//! file that was planned.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use quantloom::gguf::{Formats, Gguf, GgufWriter, TensorType};
//! use quantloom::quantize::{Recipe, quantize_file, tensor_type};
//!
//! let folder = tempfile::tempdir()?;
//! let [path, quantized] = ["f32.gguf", "q4_0.gguf"].map(|name| folder.path().join(name));
//! let mut writer = GgufWriter::new(&path);
//! for name in ["blk.0.attn_q.weight", "blk.0.attn_v.weight"] {
//!     writer.tensor(name, &[32, 2], TensorType::F32, |out| out.write_all(&[0; 256]))?;
//! }
//! writer.write()?;
//!
//! let formats = Formats::default();
//! let mut recipe = Recipe::new("Q4_0", &formats)?;
//! recipe.set_type("attn_v", tensor_type("Q8_0", &formats)?)?;
//! let source = Gguf::open(&path)?;
//! let plan = quantize_file(&source, &quantized, &recipe, None, |_| ControlFlow::Continue(()))?;
//!
//! let types: Vec<_> = plan.tensors.iter().map(|tensor| tensor.to.name()).collect();
//! assert_eq!(types, ["Q4_0", "Q8_0"]);
//! assert_eq!(Gguf::open(&quantized)?.tensors()[1].ty().name(), "Q8_0");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod convert;
mod error;
mod mix;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use quantloom_kernels::{Format, Supported};
use regex::{Regex, RegexBuilder};

use self::convert::{Converter, Importance, Problem};
pub use self::error::{SquaredError, squared_error};
use self::mix::{MIXES, Mix, Role, Rule, Shape};
use crate::Error;
use crate::file::output_place;
use crate::gguf::{Formats, Gguf, GgufWriter, Tensor, TensorType, Value};
use crate::imatrix::{Entry, Imatrix};
use crate::model::default_threads;

/// What becomes of the tensors of a model.
///
/// It is about matrices alone: vectors, such as those of norms, and the few small matrices that llama.cpp leaves
/// alone stay as they are.
#[derive(Clone, Debug)]
pub struct Recipe {
    name: String,
    formats: Formats,
    /// The type of matrices without a rule.
    main: TensorType,
    /// llama.cpp's number for the whole.
    file_type: Option<u32>,
    rules: &'static [Rule],
    exceptions: Vec<(Regex, TensorType)>,
    /// One type for all, without rules; a matrix whose rows it doesn't divide is then an error.
    pub pure: bool,
    /// The type of `output.weight`, or of the token embedding where that is the output matrix, too.
    pub output: Option<TensorType>,
    /// The type of `token_embd.weight`.
    pub token_embedding: Option<TensorType>,
    /// Whether matrices that are quantized already may be quantized again, which loses a little more.
    pub requantize: bool,
    /// How much the errors of columns count. Matrices without an entry have all columns count the same.
    pub imatrix: Option<Arc<Imatrix>>,
    /// Whether the types of the fewest bits, IQ1_S to IQ3_XXS, which llama.cpp makes with importance only, may be made
    /// without.
    pub unweighted: bool,
}

/// What is to become of each tensor of a file.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of the file.
    pub tensors: Vec<Planned>,
}

/// What is to become of one tensor.
#[derive(Clone, Debug)]
pub struct Planned {
    /// As it is.
    pub tensor: Tensor,
    /// Its new type, which may be the one it has.
    pub to: TensorType,
    /// The type that it should have had, where rows are no whole number of its blocks.
    pub instead_of: Option<TensorType>,
    /// Whether it is quantized by the importance of its columns.
    pub is_weighted: bool,
}

impl Recipe {
    /// The recipe called `name`, in upper or lower case: a type of `formats` that can be made, or one of llama.cpp's
    /// mixtures, `Q4_K_M`.
    ///
    /// Matrices become that type but for llama.cpp's exceptions: the output matrix becomes Q6_K, unless `name` has
    /// at least as many bits, and each mixture puts some matrices into better types.
    ///
    /// # Errors
    /// There is nothing of that name, or it is made of a type that can't be made.
    pub fn new(name: &str, formats: &Formats) -> Result<Self, Error> {
        let mix = MIXES.iter().find(|mix| mix.names.iter().any(|known| known.eq_ignore_ascii_case(name)));
        let main = find(mix.map_or(name, |mix| mix.main), formats).map_err(|problem| {
            let whole = match mix {
                Some(Mix { main, .. }) if !main.eq_ignore_ascii_case(name) => {
                    format!("{name} is mostly {main}: ")
                }
                _ => String::new(),
            };
            Error::Recipe(format!("{whole}{problem}; there are {}", recipes(formats)))
        })?;
        let name = mix.map_or(main.name(), |mix| mix.names[0]).to_owned();
        let (file_type, rules) = mix.map_or((None, &[][..]), |mix| (Some(mix.file_type), mix.rules));
        Ok(Self {
            name,
            formats: formats.clone(),
            main,
            file_type,
            rules,
            exceptions: Vec::new(),
            pure: false,
            output: None,
            token_embedding: None,
            requantize: false,
            imatrix: None,
            unweighted: false,
        })
    }

    /// Its name, as in `Q4_K_M`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Another type for matrices in whose name `pattern` is found, a regular expression as in llama.cpp, in upper or
    /// lower case. Of several the one that was set first counts.
    ///
    /// # Errors
    /// `pattern` is no regular expression.
    pub fn set_type(&mut self, pattern: &str, ty: TensorType) -> Result<(), Error> {
        let regex = RegexBuilder::new(pattern).case_insensitive(true).build().map_err(|error| {
            // Its text shows where, on several lines; the last says what.
            let text = error.to_string();
            let problem = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Error::Recipe(format!("{pattern:?} is no regular expression: {problem}"))
        })?;
        self.exceptions.push((regex, ty));
        Ok(())
    }

    /// The importance of the columns of `tensor`.
    fn entry(&self, tensor: &Tensor) -> Result<Option<&Entry>, String> {
        self.imatrix.as_ref().map_or(Ok(None), |imatrix| imatrix.entry(tensor))
    }

    /// The type that `tensor` is to have. Marks the exception that decides.
    fn choose(&self, tensor: &Tensor, shape: &Shape, used: &mut [bool]) -> Result<TensorType, Error> {
        let name = tensor.name();
        let role = Role::of(name, shape);
        let fixed = match role {
            _ if name == mix::TOKEN_EMBEDDING && self.token_embedding.is_some() => self.token_embedding,
            Role::Output => self.output,
            _ => None,
        };
        if let Some(ty) = fixed {
            return Ok(ty);
        }
        if let Some(i) = self.exceptions.iter().position(|(pattern, _)| pattern.is_match(name)) {
            used[i] = true;
            return Ok(self.exceptions[i].1);
        }
        let TensorType::Quantized(main) = self.main else { return Ok(self.main) };
        if self.pure {
            return Ok(self.main);
        }
        if role == Role::Output && !tensor.cols().is_multiple_of(main.block_len) {
            return self.by_rule("Q8_0", tensor);
        }
        let layer = mix::layer(name).unwrap_or(0);
        match self.rules.iter().find(|(of, when, _)| *of == role && when.holds(layer, shape)) {
            Some((.., ty)) => self.by_rule(ty, tensor),
            None if role == Role::Output && bits(main) < Q6_K_BITS => self.by_rule("Q6_K", tensor),
            None => Ok(self.main),
        }
    }

    /// The type that a rule names.
    fn by_rule(&self, ty: &str, tensor: &Tensor) -> Result<TensorType, Error> {
        find(ty, &self.formats).map_err(|problem| {
            Error::Recipe(format!(
                "{} has `{}` in {ty}, and {problem}: name another type for it (--tensor-type), or have all in {} (--pure)",
                self.name,
                tensor.name().escape_debug(),
                self.main,
            ))
        })
    }

    /// The type nearest to `ty` whose blocks divide the rows of `tensor`.
    fn fitting(&self, ty: TensorType, tensor: &Tensor) -> TensorType {
        let fits = |ty: &TensorType| tensor.cols().is_multiple_of(ty.block_len());
        let fallback = || find(mix::fallback(ty.name())?, &self.formats).ok().filter(fits);
        if fits(&ty) { ty } else { fallback().unwrap_or(TensorType::F16) }
    }
}

/// The type called `name`, in upper or lower case, which can be made: a plain one, or a format that has a quantizer
/// and a GGUF number.
///
/// # Errors
/// There is none; the text lists those that there are.
pub fn tensor_type(name: &str, formats: &Formats) -> Result<TensorType, Error> {
    find(name, formats).map_err(|problem| {
        let known: Vec<_> =
            formats.types().filter(|ty| obstacle(*ty).is_none()).map(TensorType::name).collect();
        Error::Recipe(format!("{problem}; there are {}", known.join(", ")))
    })
}

fn find(name: &str, formats: &Formats) -> Result<TensorType, String> {
    let ty = formats.tensor_type(name).ok_or_else(|| format!("unknown type {name:?}"))?;
    match obstacle(ty) {
        Some(obstacle) => Err(format!("{ty} has no {obstacle}")),
        None => Ok(ty),
    }
}

/// What a file of this type would want.
fn obstacle(ty: TensorType) -> Option<&'static str> {
    match ty {
        TensorType::Quantized(format) if format.gguf_id.is_none() => {
            Some("GGUF number, so that no file can hold it")
        }
        TensorType::Quantized(format) if format.quantize.is_none() => {
            Some("quantizer, as none follows from its formula")
        }
        _ => None,
    }
}

/// The names of all recipes whose types can be made, types before mixtures.
fn recipes(formats: &Formats) -> String {
    let can_be_made = |name: &str| find(name, formats).is_ok();
    let types = formats.types().map(TensorType::name).filter(|name| can_be_made(name));
    let is_mixture = |mix: &&Mix| formats.tensor_type(mix.names[0]).is_none();
    let mixtures =
        MIXES.iter().filter(is_mixture).filter(|mix| can_be_made(mix.main)).map(|mix| mix.names[0]);
    types.chain(mixtures).collect::<Vec<_>>().join(", ")
}

/// Bits for each weight.
fn bits(format: &Format) -> f64 {
    8.0 * format.block_bytes as f64 / format.block_len as f64
}

/// Q6_K's, 210 bytes for 256 weights.
const Q6_K_BITS: f64 = 6.5625;

impl Plan {
    /// The number of weights.
    pub fn weights(&self) -> usize {
        self.tensors.iter().map(|Planned { tensor, .. }| tensor.rows() * tensor.cols()).sum()
    }

    /// Bytes of all tensors before.
    pub fn bytes_before(&self) -> usize {
        self.tensors.iter().map(|planned| planned.tensor.data().len()).sum()
    }

    /// And after.
    pub fn bytes_after(&self) -> usize {
        self.tensors.iter().map(Planned::bytes_after).sum()
    }

    /// The number of tensors whose type changes.
    pub fn converted(&self) -> usize {
        self.tensors.iter().filter(|planned| planned.to != planned.tensor.ty()).count()
    }
}

impl Planned {
    /// Whether it becomes blocks of another type.
    pub fn is_quantized(&self) -> bool {
        self.to != self.tensor.ty() && matches!(self.to, TensorType::Quantized(_))
    }

    /// Bytes of the tensor in its new type.
    pub fn bytes_after(&self) -> usize {
        self.to.bytes_for(self.tensor.rows() * self.tensor.cols())
    }
}

/// What `recipe` makes of each tensor of `source`.
///
/// # Errors
/// A rule or the recipe wants what can't be made, a matrix is quantized already and may not be again, or lacks the
/// importance without which it may not be, rows don't suit a pure recipe, an exception decides about no tensor, the
/// importance matrix is another model's, or the file is a part of a model.
pub fn plan(source: &Gguf, recipe: &Recipe) -> Result<Plan, Error> {
    let fail = |problem: String| Error::Model { path: source.path().into(), problem };
    if let Ok(Some(parts @ 2..)) = source.metadata().u32("split.count") {
        return Err(fail(format!(
            "the file is one of the {parts} parts of a model: join them first, by `llama-gguf-split --merge`"
        )));
    }
    let shape = shape(source, recipe);
    if let Some(imatrix) = &recipe.imatrix
        && !source.tensors().iter().any(|tensor| imatrix.entries.contains_key(tensor.name()))
    {
        return Err(fail(format!(
            "{} has no entry for any of its tensors: that was computed for another model",
            imatrix.title()
        )));
    }
    let mut used = vec![false; recipe.exceptions.len()];
    let mut tensors = Vec::new();
    for tensor in source.tensors() {
        let name = tensor.name().escape_debug();
        // Dimensions of 1 at the end are none.
        let is_matrix = tensor.rows() > 1 && mix::is_quantized(tensor.name());
        let wanted = if is_matrix { recipe.choose(tensor, &shape, &mut used)? } else { tensor.ty() };
        let to = recipe.fitting(wanted, tensor);
        if recipe.pure && to != wanted {
            return Err(fail(format!(
                "tensor `{name}` has rows of {} weights, which are no whole blocks of {wanted}, {} each: name another type for it (--tensor-type), or allow others (without --pure)",
                tensor.cols(),
                wanted.block_len(),
            )));
        }
        if let (TensorType::Quantized(from), TensorType::Quantized(_), false) =
            (tensor.ty(), to, recipe.requantize)
            && to != tensor.ty()
        {
            return Err(fail(format!(
                "tensor `{name}` is quantized already, as {}, and quantizing it again loses more: start from the F32, F16 or BF16 model, or allow it (--allow-requantize)",
                from.name
            )));
        }
        let mut planned = Planned {
            tensor: tensor.clone(),
            to,
            instead_of: (to != wanted).then_some(wanted),
            is_weighted: false,
        };
        if planned.is_quantized() {
            planned.is_weighted = recipe.entry(tensor).map_err(fail)?.is_some();
            if !planned.is_weighted
                && !recipe.unweighted
                && mix::wants_importance(tensor.name(), to.name(), &recipe.name)
            {
                let remedy = match &recipe.imatrix {
                    Some(imatrix) => format!(
                        "{} has no entry for it; name another type for it (--tensor-type)",
                        imatrix.title()
                    ),
                    None => "compute that (quantloom imatrix) and name it (--imatrix)".into(),
                };
                return Err(fail(format!(
                    "tensor `{name}` becomes {to}, which is of little use without the importance of its columns: {remedy}, or go without (--allow-unweighted)"
                )));
            }
        }
        tensors.push(planned);
    }
    if let Some(unused) = used.iter().position(|used| !used) {
        let (pattern, ty) = &recipe.exceptions[unused];
        return Err(fail(format!(
            "no tensor becomes {ty} by \"{}={ty}\": that is found in no name of a matrix, or what comes before it decides",
            pattern.as_str().escape_debug()
        )));
    }
    Ok(Plan { tensors })
}

/// What rules ask about the model in `source`.
fn shape(source: &Gguf, recipe: &Recipe) -> Shape {
    let names = || source.tensors().iter().map(Tensor::name);
    let architecture = source.metadata().str("general.architecture").ok().flatten().unwrap_or_default();
    let layers = names().filter_map(mix::layer).max().map_or(0, |last| last.saturating_add(1));
    // Where it differs from layer to layer, it is no number.
    let heads = |key: &str| {
        source.metadata().u32_of_layers(&format!("{architecture}.attention.{key}"), layers).ok().flatten()
    };
    let sharing = || (heads("head_count")? as usize).checked_div(heads("head_count_kv")? as usize);
    Shape {
        layers,
        sharing: sharing().unwrap_or(1),
        tied: !names().any(|name| name == mix::OUTPUT),
        weighted: recipe.imatrix.is_some(),
    }
}

/// Writes what `recipe` makes of `source` to `path`, on `threads` threads or else one for each CPU. The file appears when it is whole; where
/// something goes wrong nothing is left of it. If `path` is a symbolic link, the file that it leads to is written.
///
/// Metadata is kept but for `general.file_type`, `general.quantization_version` and what tells of an importance matrix,
/// which are llama.cpp's, and data streams through at most 2.1 MiB of memory for each thread, and one more, whatever the model's size; the source stays
/// mapped, and the system takes its pages back where it needs them.
///
/// `progress` is told, again and again, how many more bytes of the source are done, which are
/// [`bytes_before`](Plan::bytes_before) in the end; `Break` from it ends the work.
///
/// # Errors
/// As [`plan`]; `path` is the source's own file, or can't be written; a weight is not finite, be it copied or
/// converted, unless its tensor keeps a quantized type; a weight is too large for its new type; there can't be so many threads; or `progress` broke off.
pub fn quantize_file(
    source: &Gguf,
    path: impl AsRef<Path>,
    recipe: &Recipe,
    threads: Option<usize>,
    progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Plan, Error> {
    let path = path.as_ref();
    let fail = |problem: String| Error::Model { path: source.path().into(), problem };
    // Before the files are compared, which opens both and would wait for a named pipe.
    output_place(path).map_err(|source| Error::Io { path: path.into(), source })?;
    if same_file::is_same_file(source.path(), path).unwrap_or(false) {
        return Err(fail(format!(
            "{} is the same file, and would be lost with a failure or a bad choice: name another file to write",
            path.display()
        )));
    }
    let plan = plan(source, recipe)?;
    let converter = RefCell::new(Converter::new(
        threads.unwrap_or_else(default_threads),
        Supported::selected()?,
        progress,
    )?);
    let mut file = GgufWriter::new(path);
    let mut keys = vec![
        ("general.quantization_version", Some(Value::from(2_u32))),
        ("general.file_type", recipe.file_type.map(Value::from)),
    ];
    if let Some(imatrix) = &recipe.imatrix {
        let path = imatrix.path().map(|path| path.to_string_lossy().into_owned());
        keys.extend([
            ("quantize.imatrix.file", path.map(Value::from)),
            ("quantize.imatrix.dataset", imatrix.datasets.first().cloned().map(Value::from)),
            ("quantize.imatrix.entries_count", Some((imatrix.entries.len() as u32).into())),
            ("quantize.imatrix.chunks_count", (imatrix.chunks > 0).then(|| imatrix.chunks.into())),
        ]);
    }
    for (key, value) in source.metadata().iter().filter(|(key, _)| keys.iter().all(|(other, _)| key != other))
    {
        file.metadata(key, value.clone())?;
    }
    for (key, value) in keys {
        if let Some(value) = value {
            file.metadata(key, value)?;
        }
    }
    for Planned { tensor, to, is_weighted, .. } in &plan.tensors {
        let write = |out: &mut dyn std::io::Write| {
            let entry = recipe.entry(tensor).expect("the plan has checked it").filter(|_| *is_weighted);
            let (cols, rows) = (tensor.cols(), tensor.rows() / tensor.matrices());
            let values = entry.map(|entry| entry.means(cols));
            let importance = values.as_ref().map(|values| Importance { values, cols, rows });
            converter.borrow_mut().write(tensor, *to, importance, out)
        };
        file.tensor(tensor.name(), tensor.dims(), *to, write)?;
    }
    let written = file.write();
    match converter.into_inner().problem() {
        None => Ok(written.map(|()| plan)?),
        Some(Problem::Stopped) => Err(Error::Stopped(path.into())),
        Some(Problem::NotFinite { tensor, index, weight }) => Err(fail(format!(
            "weight {index} of tensor `{}` is {weight}: the file is damaged, fetch or convert the model again",
            tensor.escape_debug()
        ))),
        Some(Problem::TooLarge { tensor, index, weight, ty, limit }) => {
            let reason = match (ty, weight.abs() > limit) {
                (TensorType::Quantized(_), false) => " beside the others of its block".into(),
                (TensorType::Quantized(_), true) => {
                    format!(" in a block, whose largest is {}", limit.floor())
                }
                _ => format!(", as its largest is {limit}"),
            };
            let wide = if ty == TensorType::BF16 { "F32" } else { "F32 or BF16" };
            Err(fail(format!(
                "weight {index} of tensor `{}` is {weight}, which {ty} can't hold{reason}: the model is damaged, or that tensor wants {wide} (--tensor-type)",
                tensor.escape_debug()
            )))
        }
    }
}
