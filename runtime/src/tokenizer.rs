//! Text to token ids and back, from a file's own vocabulary.
//!
//! Two families of tokenizers are read, the ones that `tokenizer.ggml.model` calls `llama` (SentencePiece) and
//! `gpt2` (byte-level BPE). Both take the same road:
//!
//! 1. special tokens are cut out of the text (`special`);
//! 2. what is left is cut into the smallest symbols, characters (`spm`) or bytes (`bpe`, word by word as
//!    `pretokenize` finds them);
//! 3. neighbouring symbols are joined, the best pair of the whole text first, until none can be (`merge`).
//!
//! Ids are those of llama.cpp, whose reading of a vocabulary is the one that GGUF files are made for.
//!
//! ```no_run
//! # use quantloom::gguf::Gguf;
//! use quantloom::tokenizer::{EncodeOptions, SpecialTokens, Tokenizer};
//!
//! let file = Gguf::open("model.gguf")?;
//! let tokenizer = Tokenizer::from_metadata(file.metadata())?;
//! let ids = tokenizer.encode("Hello world", EncodeOptions { add_bos: true, add_eos: true, parse_special: false });
//! assert_eq!(tokenizer.decode(&ids, SpecialTokens::Skip), "Hello world");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bpe;
mod decode;
mod error;
mod index;
mod merge;
mod pretokenize;
mod special;
mod spm;
mod vocab;

use std::ops::Range;

use crate::alloc::fallible;
use crate::gguf::{Buffers, Metadata, Strings};

use bpe::Bpe;
pub use decode::{Decoder, SpecialTokens};
pub use error::Error;
use special::{Fragment, SpecialSplitter};
use spm::Spm;
use vocab::{Kind, TOKENS, Vocab, quote};

const MODEL: &str = "tokenizer.ggml.model";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";

const EOM: &str = "tokenizer.ggml.eom_token_id";
const ADD_SEP: &str = "tokenizer.ggml.add_sep_token";

/// Keys of ids that nothing here uses, checked all the same.
const OTHER_IDS: [&str; 4] = [
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.mask_token_id",
    // Spelt so in GGUF.
    "tokenizer.ggml.seperator_token_id",
];

/// What [`Tokenizer::encode`] does beyond plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add BOS before the text where the metadata asks for it.
    pub add_bos: bool,
    /// Add EOS after the text where the metadata asks for it.
    pub add_eos: bool,
    /// Take the text of control tokens, such as `<|im_start|>`, for these tokens and not as plain text.
    /// User-defined tokens are found either way.
    pub parse_special: bool,
}

/// The tokenizer of one model.
#[derive(Debug)]
pub struct Tokenizer {
    model: Model,
    /// As the vocabulary writes tokens.
    texts: Strings,
    /// What tokens stand for in a text.
    bytes: Strings,
    kinds: Vec<Kind>,
    special: SpecialSplitter,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    add_bos: Option<u32>,
    add_eos: Option<u32>,
    /// In ascending order.
    ends: Vec<u32>,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Model {
    Spm(Spm),
    Bpe(Bpe),
}

/// A token for the decoder.
struct Token<'t> {
    /// What it stands for in a text.
    bytes: &'t [u8],
    kind: Kind,
}

impl Tokenizer {
    /// Reads and checks the keys `tokenizer.ggml.*`.
    ///
    /// Where a SentencePiece vocabulary does not say otherwise, BOS is token 1 and added, EOS is token 2, and a
    /// space is put before a text. A BPE vocabulary has no such defaults. What is wrong and does not matter, such as the id of
    /// a special token that is none, is among the [warnings](Self::warnings).
    ///
    /// # Errors
    ///
    /// Where a key is missing, contradicts another, or asks for a tokenizer that is not built.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let is_spm = match metadata.require_str(MODEL)? {
            "llama" => true,
            "gpt2" => false,
            other => {
                let built = r#"only "llama" (SentencePiece) and "gpt2" (byte-level BPE) are supported"#;
                return Err(Error::invalid(
                    metadata,
                    MODEL,
                    format_args!("is {}; {built}", quote(other.as_bytes())),
                ));
            }
        };
        let mut vocab = Vocab::from_metadata(metadata)?;
        let model = if is_spm { Model::Spm(Spm::new(&vocab)?) } else { Model::Bpe(Bpe::new(&vocab)?) };
        let len = vocab.len();
        let default = |id: u32| (is_spm && (id as usize) < len).then_some(id);

        let bos = vocab.token_id(BOS)?.or(default(1));
        let eos = vocab.token_id(EOS)?.or(default(2));
        let eot = vocab.token_id(EOT)?.or_else(|| vocab.end_of_turn());
        let eom = vocab.token_id(EOM)?;
        let mut added = |key, add_by_default, id_key, id: Option<u32>| -> Result<_, Error> {
            let add = metadata.bool(key)?;
            if add == Some(true) && id.is_none() {
                vocab.warn(key, format_args!("is true, but `{id_key}` names no token: none is added"));
            }
            Ok(id.filter(|_| add.unwrap_or(add_by_default)))
        };
        let add_bos = added(ADD_BOS, is_spm, BOS, bos)?;
        let add_eos = added(ADD_EOS, false, EOS, eos)?;
        if metadata.bool(ADD_SEP)? == Some(true) {
            vocab.warn(ADD_SEP, "is true, and a separator stands between two texts: none is added to one");
        }
        for key in OTHER_IDS {
            vocab.token_id(key)?;
        }

        let special = SpecialSplitter::new(&vocab)?;
        let mut bytes = Buffers::default();
        // Nothing that a token stands for is longer than its text.
        fallible(|| bytes.try_reserve(vocab.texts().total_bytes(), len))
            .map_err(|problem| Error::memory(metadata, TOKENS, len, &problem))?;
        for (text, kind) in vocab.iter() {
            bytes.push_with(|out| match (kind, &model) {
                (Kind::Normal, Model::Spm(_)) => spm::unescape(text, out),
                (Kind::Normal, Model::Bpe(_)) => bpe::unescape(text, out),
                (Kind::Byte(byte), _) => out.push(byte),
                (Kind::Unused, _) => {}
                (Kind::Unknown | Kind::Control | Kind::UserDefined, _) => out.extend_from_slice(text),
            });
        }
        Ok(Self {
            texts: vocab.texts().clone(),
            bytes: bytes.finish(),
            special,
            model,
            bos,
            eos,
            eot,
            add_bos,
            add_eos,
            ends: vocab.ends_of_generation([eos, eot, eom].into_iter().flatten()),
            warnings: std::mem::take(&mut vocab.warnings),
            kinds: vocab.into_kinds(),
        })
    }

    /// The tokens of `text`, in time O(n log n) whatever the text.
    ///
    /// A byte for which a BPE vocabulary has no token is left out, as llama.cpp does: SmolLM2's lacks a few
    /// control characters.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        self.encode_with_contents(text, &[], options)
    }

    /// The tokens of `text`, in which the bytes of `contents` were written by someone who may not make control
    /// tokens: the messages of a conversation, for instance.
    ///
    /// No control token matches where it would touch a byte of a content; there its text is text like any other.
    /// User-defined tokens match everywhere. All is tokenized at once, so where contents hold no text of a control
    /// token the ids are those of [`encode`](Self::encode). The ranges may be in any order.
    pub fn encode_with_contents(
        &self,
        text: &str,
        contents: &[Range<usize>],
        options: EncodeOptions,
    ) -> Vec<u32> {
        let contents = apart(contents, text);
        let mut ids = Vec::from_iter(self.add_bos.filter(|_| options.add_bos));
        let mut after_special = true;
        for fragment in self.special.split(text, options.parse_special, &contents) {
            match (fragment, &self.model) {
                (Fragment::Special(id), _) => ids.push(id),
                (Fragment::Text(text), Model::Spm(spm)) => spm.encode(text, after_special, &mut ids),
                (Fragment::Text(text), Model::Bpe(bpe)) => bpe.encode(text, &mut ids),
            }
            after_special = matches!(fragment, Fragment::Special(_));
        }
        ids.extend(self.add_eos.filter(|_| options.add_eos));
        ids
    }

    /// The text of a whole sequence, without the space that [`encode`](Self::encode) put before it in a
    /// SentencePiece vocabulary. What is not UTF-8 becomes U+FFFD, an id outside the vocabulary nothing.
    pub fn decode(&self, ids: &[u32], special: SpecialTokens) -> String {
        let mut decoder = Decoder::from_start(self, special);
        let text = ids.iter().fold(String::new(), |text, &id| text + decoder.push(id));
        text + decoder.finish()
    }

    /// A decoder for tokens that continue a text, one at a time: a generation.
    pub fn decoder(&self, special: SpecialTokens) -> Decoder<'_> {
        Decoder::continuing(self, special)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that [`encode`](Self::encode) can put before a text: BOS, where the metadata asks for it.
    pub fn added_bos(&self) -> Option<u32> {
        self.add_bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that ends a turn of a chat, where the metadata or a well-known text such as `<|im_end|>` says
    /// which it is.
    pub fn eot(&self) -> Option<u32> {
        self.eot
    }

    /// Whether a generation stops at `id`: EOS, EOT and their like, by key or by well-known text.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// What is wrong with the vocabulary and was passed over, a line each that begins with the key.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether `ids`, which [`encode`](Self::encode) made with BOS, begin with it twice: the text began with the text of BOS
    /// itself, which models have not learned.
    pub fn has_two_bos(&self, ids: &[u32]) -> bool {
        self.add_bos.is_some_and(|bos| ids.starts_with(&[bos, bos]))
    }

    /// The number of tokens; ids are smaller.
    pub fn vocab_size(&self) -> usize {
        self.texts.len()
    }

    /// A token as the vocabulary writes it, with `▁` or `Ġ` for a space; `None` where that is not UTF-8, too.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).and_then(|text| str::from_utf8(text).ok())
    }

    /// What a token stands for in a text; it need not be whole characters.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize)
    }

    fn token(&self, id: u32) -> Option<Token<'_>> {
        Some(Token { bytes: self.token_bytes(id)?, kind: *self.kinds.get(id as usize)? })
    }

    /// Whether a space is put before each text between special tokens.
    fn adds_space_prefix(&self) -> bool {
        matches!(&self.model, Model::Spm(spm) if spm.add_space_prefix)
    }
}

/// `ranges` in order, none empty or touching another, each grown to whole characters of `text`.
fn apart(ranges: &[Range<usize>], text: &str) -> Vec<Range<usize>> {
    let whole = |range: &Range<usize>| {
        text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end.min(text.len()))
    };
    let mut sorted: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).map(whole).collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut apart: Vec<Range<usize>> = Vec::with_capacity(sorted.len());
    for range in sorted.into_iter().filter(|range| !range.is_empty()) {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}
