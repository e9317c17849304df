//! The tokens of a file, checked, before a tokenizer is made of them.

use std::fmt::Display;
use std::sync::Arc;

use super::Error;
use super::index::{Problem, TextIndex};
use crate::alloc::fallible;
use crate::gguf::{Metadata, Strings, Value};

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";

/// Texts that end a turn of a chat, each in the vocabularies of a model family.
const END_OF_TURN: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// More texts at which a generation ends: of a text, of a message, and of one that calls a tool.
const END_OF_TEXT: [&str; 11] = [
    "</s>",
    "[EOS]",
    "<eos>",
    "<|eom_id|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
];

/// Vocabularies in which a text that elsewhere is an end is none: those with all of the texts that follow it.
const NO_END: [(&str, &[&str]); 4] = [
    // Ends a message, and another comes after it.
    ("<|end|>", &["<|return|>", "<|call|>"]),
    ("<|end|>", &["<|return|>", "<|calls|>"]),
    ("<|end|>", &["<|flush|>", "<|calls|>"]),
    ("</s>", &["<|tool_response>"]),
];

/// Tokens of code that is filled in: the keys that hold the id, whether a generation ends there, and the texts that the
/// token has where no key holds it.
const FILL_IN: [FillIn; 6] = [
    FillIn {
        keys: &["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"],
        is_end: false,
        texts: &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    },
    FillIn {
        keys: &["tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"],
        is_end: false,
        texts: &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    },
    FillIn {
        keys: &["tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"],
        is_end: false,
        texts: &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    },
    FillIn {
        keys: &["tokenizer.ggml.fim_pad_token_id"],
        is_end: true,
        texts: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    },
    FillIn {
        keys: &["tokenizer.ggml.fim_rep_token_id"],
        is_end: true,
        texts: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    },
    FillIn { keys: &["tokenizer.ggml.fim_sep_token_id"], is_end: true, texts: &["<|file_sep|>"] },
];

/// A row of [`FILL_IN`].
struct FillIn {
    keys: &'static [&'static str],
    is_end: bool,
    texts: &'static [&'static str],
}

/// What a token is for, GGUF's `token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Normal,
    /// Stands for what has no token.
    Unknown,
    /// Steers the model; not part of a text.
    Control,
    /// Text that is one token wherever it occurs.
    UserDefined,
    /// A place without a meaning.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte(u8),
}

/// Tokens whose texts differ, and the metadata that the rest of a tokenizer is read from.
pub(super) struct Vocab<'m> {
    pub metadata: &'m Metadata,
    pub index: Arc<TextIndex>,
    kinds: Vec<Kind>,
    /// Tokens at which a generation ends, by text or by the keys of [`FILL_IN`].
    ends: Vec<u32>,
    /// What is wrong and was passed over, a line each.
    pub warnings: Vec<String>,
}

impl<'m> Vocab<'m> {
    pub fn from_metadata(metadata: &'m Metadata) -> Result<Self, Error> {
        let texts = metadata.require_strings(TOKENS)?;
        let error = |problem: String| Error::invalid(metadata, TOKENS, problem);
        if texts.is_empty() {
            return Err(error("is empty".into()));
        }
        if u32::try_from(texts.len()).is_err() {
            return Err(error("has more tokens than there are 32-bit ids".into()));
        }
        let index = TextIndex::new(texts).map_err(|problem| match problem {
            Problem::Twice { first, second } => {
                let text = quote(texts.get(first as usize).unwrap_or_default());
                error(format!("has {text} as token {first} and {second}"))
            }
            Problem::Memory(problem) => Error::memory(metadata, TOKENS, texts.len(), &problem),
        })?;
        let mut kinds = Vec::new();
        fallible(|| kinds.try_reserve_exact(texts.len()))
            .map_err(|problem| Error::memory(metadata, TOKEN_TYPE, texts.len(), &problem))?;
        let mut vocab = Self { metadata, index: index.into(), kinds, ends: Vec::new(), warnings: Vec::new() };
        match metadata.i32s(TOKEN_TYPE)? {
            None => vocab.kinds.resize(texts.len(), Kind::Normal),
            Some(types) => {
                vocab.check_len(TOKEN_TYPE, types.len())?;
                for (id, &ty) in types.iter().enumerate() {
                    let kind = vocab.kind(id, ty)?;
                    vocab.kinds.push(kind);
                }
            }
        }
        vocab.find_ends()?;
        Ok(vocab)
    }

    /// Finds the tokens at which a generation ends. Those known by their texts are control tokens: converters get the
    /// type of these wrong so often that llama.cpp goes by the text.
    fn find_ends(&mut self) -> Result<(), Error> {
        for FillIn { keys, is_end, texts } in &FILL_IN {
            let mut by_key = None;
            for key in *keys {
                by_key = self.token_id(key)?.or(by_key);
            }
            let by_text = || texts.iter().find_map(|text| self.id(text));
            if let Some(id) = by_key.or_else(by_text) {
                if by_key.is_none() {
                    self.kinds[id as usize] = Kind::Control;
                }
                self.ends.extend(Some(id).filter(|_| *is_end));
            }
        }
        for text in END_OF_TURN.iter().chain(&END_OF_TEXT) {
            if let Some(id) = self.id(text).filter(|_| !self.is_no_end(text)) {
                self.kinds[id as usize] = Kind::Control;
                self.ends.push(id);
            }
        }
        Ok(())
    }

    /// Whether this vocabulary is one of those in which `text` is no end.
    fn is_no_end(&self, text: &str) -> bool {
        NO_END.iter().any(|(other, with)| *other == text && with.iter().all(|text| self.id(text).is_some()))
    }

    fn kind(&self, id: usize, ty: i32) -> Result<Kind, Error> {
        let text = self.texts().get(id).unwrap_or_default();
        match ty {
            1 => Ok(Kind::Normal),
            2 => Ok(Kind::Unknown),
            3 => Ok(Kind::Control),
            4 => Ok(Kind::UserDefined),
            5 => Ok(Kind::Unused),
            6 => byte_token(text).map(Kind::Byte).ok_or_else(|| {
                let expected = "a byte token is written like <0x0A>";
                self.error(TOKEN_TYPE, format_args!("makes token {id}, {}, a byte; {expected}", quote(text)))
            }),
            _ => Err(self.error(TOKEN_TYPE, format_args!("has {ty} for token {id}; types are 1 to 6"))),
        }
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.texts().len()
    }

    pub fn texts(&self) -> &Strings {
        self.index.texts()
    }

    /// The token whose text is `text`, which is not empty.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.index.id(text.as_bytes())
    }

    /// Whether plain text may become this token: not where it steers the model.
    pub fn is_text(&self, id: u32) -> bool {
        !matches!(self.kinds[id as usize], Kind::Control | Kind::Unknown)
    }

    /// Texts and kinds in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        self.texts().iter().zip(self.kinds.iter().copied())
    }

    /// The kinds in the order of ids.
    pub fn into_kinds(self) -> Vec<Kind> {
        self.kinds
    }

    /// The id that `key` holds. One that is no token's, such as the -1 of some converters, is taken as absent, with a
    /// warning.
    pub fn token_id(&mut self, key: &'static str) -> Result<Option<u32>, Error> {
        let Some(id) = self.metadata.get(key).and_then(Value::integer) else {
            return Ok(self.metadata.u32(key)?);
        };
        let is_token = |id: &u32| (*id as usize) < self.len();
        let found = u32::try_from(id).ok().filter(is_token);
        if found.is_none() {
            let tokens = self.len();
            self.warn(key, format_args!("is {id}, and the vocabulary has {tokens} tokens: taken as absent"));
        }
        Ok(found)
    }

    /// Whether white space after special tokens is no part of a text: that of Phi-3's vocabulary, which nothing but the
    /// model's name tells from others.
    pub fn strips_after_special(&self) -> bool {
        let Some(Value::String(name)) = self.metadata.get("general.name") else { return false };
        let name = String::from_utf8_lossy(name.as_bytes()).to_ascii_lowercase();
        ["phi-3", "phi3"].iter().any(|model| name.contains(model))
    }

    /// The first token with a text that ends a turn of a chat.
    pub fn end_of_turn(&self) -> Option<u32> {
        END_OF_TURN.iter().filter(|text| !self.is_no_end(text)).find_map(|text| self.id(text))
    }

    /// The tokens at which a generation ends, with `more` by other keys; ascending.
    pub fn ends_of_generation(&self, more: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let is_no_end = |id: u32| {
            let text = self.texts().get(id as usize).and_then(|text| str::from_utf8(text).ok());
            text.is_some_and(|text| self.is_no_end(text))
        };
        let mut ends: Vec<_> = self.ends.iter().copied().chain(more).filter(|&id| !is_no_end(id)).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    pub fn warn(&mut self, key: &'static str, problem: impl Display) {
        self.warnings.push(format!("key `{key}` {problem}"));
    }

    /// An error unless `key` has a value for each token.
    pub fn check_len(&self, key: &'static str, len: usize) -> Result<(), Error> {
        if len == self.len() {
            return Ok(());
        }
        Err(self.error(key, format_args!("has {len} values for {} tokens", self.len())))
    }

    pub fn error(&self, key: &'static str, problem: impl Display) -> Error {
        Error::invalid(self.metadata, key, problem)
    }
}

/// The byte of a token such as `<0x0A>`.
fn byte_token(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let is_hex = digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
    u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok().filter(|_| is_hex)
}

/// `text` for an error: on one line and no longer than that.
pub(super) fn quote(text: &[u8]) -> String {
    /// Characters; none has more than four bytes.
    const MAX_CHARS: usize = 40;
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_CHARS + 4)]);
    match text.char_indices().nth(MAX_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
