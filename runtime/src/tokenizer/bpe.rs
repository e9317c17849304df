//! Byte-level BPE: the bytes of each word, joined in the order in which the training joined them.
//!
//! Vocabularies are text, so GPT-2 gave each byte a visible character: itself where it is one in Latin-1, or else
//! the next from U+0100 on. A space is `Ġ`.

use std::collections::HashMap;

use super::Error;
use super::merge::{Join, Merger, Symbol};
use super::pretokenize::{Digits, words};
use super::vocab::{Vocab, quote};
use crate::alloc::fallible;

const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

#[derive(Debug)]
pub(super) struct Bpe {
    digits: Digits,
    /// The token of each byte that has one.
    bytes: Vec<Option<u32>>,
    merges: HashMap<(u32, u32), Join>,
}

impl Bpe {
    pub fn new(vocab: &Vocab<'_>) -> Result<Self, Error> {
        let digits = match vocab.metadata.require_str(PRE)? {
            "smollm" => Digits::Single,
            "gpt-2" => Digits::Runs,
            other => {
                let built = r#"only "smollm" and "gpt-2" are supported"#;
                return Err(vocab.error(PRE, format_args!("is {}; {built}", quote(other.as_bytes()))));
            }
        };
        // A text that spells a token that steers the model is still a text.
        let id = |byte: u8| vocab.id(char_of(byte).encode_utf8(&mut [0; 4])).filter(|&id| vocab.is_text(id));
        let bytes = (0..=u8::MAX).map(id).collect();

        let texts = vocab.metadata.require_strings(MERGES)?;
        if u32::try_from(texts.len()).is_err() {
            return Err(vocab.error(MERGES, "has more merges than there are 32-bit ranks"));
        }
        let mut merges = HashMap::new();
        fallible(|| merges.try_reserve(texts.len()))
            .map_err(|problem| Error::memory(vocab.metadata, MERGES, texts.len(), &problem))?;
        let mut joined = Vec::new();
        for (rank, text) in (0..).zip(texts.iter()) {
            let problem = |problem: &str| {
                vocab.error(MERGES, format_args!("has {} at {rank}, which {problem}", quote(text)))
            };
            let space = text.iter().position(|&byte| byte == b' ');
            let pair = space.map(|space| (&text[..space], &text[space + 1..]));
            let pair = pair.filter(|(left, right)| !left.is_empty() && !right.is_empty());
            let (left, right) = pair.ok_or_else(|| problem("is not two tokens with a space between"))?;
            joined.clear();
            joined.extend_from_slice(left);
            joined.extend_from_slice(right);
            let id = |text: &[u8]| vocab.index.id(text);
            let (Some(left), Some(right), Some(id)) = (id(left), id(right), id(&joined)) else {
                return Err(problem("joins or makes what is not a token"));
            };
            if vocab.is_text(id) {
                merges.entry((left, right)).or_insert(Join { rank, id });
            }
        }
        Ok(Self { digits, bytes, merges })
    }

    /// Appends the tokens of `text`.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut merger = Merger::default();
        let join = |left: &Symbol, right: &Symbol| self.merges.get(&(left.id?, right.id?)).copied();
        for word in words(text, self.digits) {
            let bytes = word.bytes().map(|byte| (1, self.bytes[usize::from(byte)]));
            ids.extend(merger.merge(bytes, join).filter_map(|symbol| symbol.id));
        }
    }
}

/// The character that stands for `byte`.
fn char_of(byte: u8) -> char {
    match byte {
        0..=0x20 => char::from_u32(0x100 + u32::from(byte)).unwrap_or_default(),
        0x7f..=0xa0 => char::from_u32(0x121 + u32::from(byte - 0x7f)).unwrap_or_default(),
        0xad => '\u{143}',
        _ => char::from(byte),
    }
}

/// The byte that `char` stands for.
fn byte_of(char: char) -> Option<u8> {
    let byte = match u32::from(char) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Adds what a token stands for: its bytes, or, where it isn't in the alphabet of bytes, its text.
pub(super) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let before = out.len();
    let chars = str::from_utf8(text).map(str::chars);
    let is_spelt =
        chars.is_ok_and(|mut chars| chars.all(|char| byte_of(char).map(|byte| out.push(byte)).is_some()));
    if !is_spelt {
        out.truncate(before);
        out.extend_from_slice(text);
    }
}
