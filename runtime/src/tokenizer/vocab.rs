//! The tokens of a file, checked, before a tokenizer is made of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;

use super::Error;
use crate::gguf::Metadata;

const TOKENS: &str = "tokenizer.ggml.tokens";
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

/// More texts at which a generation ends: of a text, of a message, and of a file or repository.
const END_OF_TEXT: [&str; 14] = [
    "</s>",
    "[EOS]",
    "<|eom_id|>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

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
    texts: &'m [String],
    kinds: Vec<Kind>,
    ids: HashMap<&'m str, u32>,
}

impl<'m> Vocab<'m> {
    pub fn from_metadata(metadata: &'m Metadata) -> Result<Self, Error> {
        let texts = metadata.require_strings(TOKENS)?;
        let mut vocab = Self { metadata, texts, kinds: Vec::new(), ids: HashMap::with_capacity(texts.len()) };
        if texts.is_empty() {
            return Err(vocab.error(TOKENS, "is empty"));
        }
        if u32::try_from(texts.len()).is_err() {
            return Err(vocab.error(TOKENS, "has more tokens than there are 32-bit ids"));
        }
        for (id, text) in (0..).zip(texts) {
            match vocab.ids.entry(text) {
                Entry::Vacant(slot) => _ = slot.insert(id),
                // Converters fill places without a token with empty texts.
                Entry::Occupied(_) if text.is_empty() => {}
                Entry::Occupied(first) => {
                    let first = *first.get();
                    return Err(
                        vocab.error(TOKENS, format_args!("has {} as token {first} and {id}", quote(text)))
                    );
                }
            }
        }
        vocab.kinds = match metadata.i32s(TOKEN_TYPE)? {
            None => vec![Kind::Normal; texts.len()],
            Some(types) => {
                vocab.check_len(TOKEN_TYPE, types.len())?;
                (0..).zip(&*types).map(|(id, &ty)| vocab.kind(id, ty)).collect::<Result<_, _>>()?
            }
        };
        // Converters get the type of these wrong so often that llama.cpp goes by the text.
        for text in END_OF_TURN.iter().chain(&END_OF_TEXT) {
            if let Some(id) = vocab.id(text) {
                vocab.kinds[id as usize] = Kind::Control;
            }
        }
        Ok(vocab)
    }

    fn kind(&self, id: usize, ty: i32) -> Result<Kind, Error> {
        let text = &self.texts[id];
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
        self.texts.len()
    }

    /// The token whose text is `text`.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Texts and kinds in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (&'m str, Kind)> {
        self.texts.iter().map(String::as_str).zip(self.kinds.iter().copied())
    }

    /// The id that `key` holds.
    pub fn token_id(&self, key: &'static str) -> Result<Option<u32>, Error> {
        match self.metadata.u32(key)? {
            Some(id) if id as usize >= self.len() => {
                Err(self.error(key, format_args!("is {id}; the vocabulary has {} tokens", self.len())))
            }
            id => Ok(id),
        }
    }

    /// The first token with a text that ends a turn of a chat.
    pub fn end_of_turn(&self) -> Option<u32> {
        END_OF_TURN.iter().find_map(|text| self.id(text))
    }

    /// The tokens with a text that ends a generation.
    pub fn ends_of_generation(&self) -> Vec<u32> {
        END_OF_TURN.iter().chain(&END_OF_TEXT).filter_map(|text| self.id(text)).collect()
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
fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

/// `text` for an error: on one line and no longer than that.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(40) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
