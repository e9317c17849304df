//! The errors of the runtime. Each is one line: what was wrong, where, what to do.

use std::path::PathBuf;

/// Anything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read as GGUF.
    #[error(transparent)]
    Gguf(#[from] crate::gguf::Error),
    /// The file's vocabulary can't be used.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::Error),
    /// A model can't be fetched, or there is no place to keep it.
    #[error(transparent)]
    Pull(#[from] crate::pull::Error),
    /// A file or folder can't be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is good GGUF but not a model that this build runs.
    #[error("{}: {problem}", path.display())]
    Model {
        /// The model file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A weight is NaN or infinite.
    #[error("{}: {weight}; the file is damaged, fetch or convert it again", path.display())]
    Weight {
        /// The model file.
        path: PathBuf,
        /// Which.
        weight: crate::check::NotFinite,
    },
    /// What a model was to be quantized to can't be made.
    #[error("{0}")]
    Recipe(String),
    /// Writing a file ended early, as its caller wished; nothing of it is left.
    #[error("{}: not written, for it was stopped", .0.display())]
    Stopped(PathBuf),
    /// The instruction set asked for can't be used.
    #[error("QUANTLOOM_ISA: {0}")]
    Isa(#[from] quantloom_kernels::IsaError),
    /// A token outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab} tokens")]
    Token {
        /// The token.
        token: u32,
        /// Tokens in the vocabulary.
        vocab: usize,
    },
    /// More tokens than the context holds.
    #[error(
        "{tokens} tokens do not fit the context of {context}, of which {used} are used: shorten the prompt or make the context longer"
    )]
    Context {
        /// Tokens that were to be added.
        tokens: usize,
        /// Tokens already in the cache.
        used: usize,
        /// Capacity of the cache.
        context: usize,
    },
    /// A cache larger than the model's context.
    #[error(
        "a context of {context} tokens is more than the {limit} that the model was trained for: ask for that or less"
    )]
    ContextTooLong {
        /// What was asked for.
        context: usize,
        /// What the model's metadata says.
        limit: usize,
    },
    /// The KV cache doesn't fit in memory.
    #[error("no memory for the KV cache of {context} tokens: ask for a shorter context")]
    CacheMemory {
        /// Its capacity.
        context: usize,
    },
    /// A buffer doesn't fit in memory.
    #[error("no memory for {what}, {bytes} bytes: close other programs, or ask for less at once")]
    Memory {
        /// What it was for.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// Keys or values can't be kept in a type.
    #[error("the KV cache can't keep {what} in {format}: {problem}; take f16, which fits every model")]
    CacheType {
        /// `keys` or `values`.
        what: &'static str,
        /// The name of the format.
        format: &'static str,
        /// What does not fit.
        problem: String,
    },
    /// A forward pass needs at least one token.
    #[error("there are no tokens to run: the prompt is empty")]
    NoTokens,
    /// A cache or arena that was made for a model of another shape.
    #[error("the {what} was made for a model of another shape")]
    Foreign {
        /// Which of the two.
        what: &'static str,
    },
    /// More tokens at once than an arena has room for.
    #[error("{tokens} tokens do not fit the arena, which was made for {room} at once")]
    Arena {
        /// Tokens of the pass.
        tokens: usize,
        /// What the arena was made for.
        room: usize,
    },
    /// Neither a text nor a base that was written for one.
    #[error("there is no text to score: name a file by -f")]
    NoText,
    /// A text that is too short to be scored.
    #[error(
        "a context of {context} tokens takes a text of {least} at least, and this one has {tokens}: give more text, or a smaller context (-c)",
        least = 2 * context
    )]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of a chunk.
        context: usize,
    },
    /// Chunks of which nothing is scored.
    #[error("a context of {context} tokens leaves none to be scored: the least is {least}")]
    NothingScored {
        /// Tokens of a chunk.
        context: usize,
        /// What must be asked for at least.
        least: usize,
    },
    /// Logits of a base model that don't serve.
    #[error("{}: {problem}", path.display())]
    Base {
        /// The file of logits, or the base model's.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An importance matrix that doesn't serve.
    #[error("{}: {problem}", path.display())]
    Imatrix {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Threads could not be started.
    #[error("can't start {threads} threads: {problem}")]
    Threads {
        /// How many.
        threads: usize,
        /// What the system said.
        problem: String,
    },
}
