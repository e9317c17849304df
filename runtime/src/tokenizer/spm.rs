//! SentencePiece's BPE: characters, joined by the scores of what they make, with bytes for what has no token.
//!
//! Spaces are part of the tokens, written `▁`, and a text begins with one that is not its own, so that its first
//! word is the token that it is inside a sentence.

use std::collections::TryReserveError;
use std::sync::Arc;

use super::Error;
use super::index::TextIndex;
use super::merge::{Join, Merger, Symbol};
use super::vocab::Vocab;
use crate::alloc::fallible;

const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// A space, as tokens write it.
const SPACE: &str = "▁";

/// The rank of a token that no merge makes. Ranks are below the number of tokens.
const NO_TEXT: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Spm {
    index: Arc<TextIndex>,
    /// Per token; 0 has the highest score, equal scores are equal ranks. [`NO_TEXT`] for tokens that steer the model: a
    /// text that spells one in characters is still a text.
    ranks: Vec<u32>,
    /// The tokens of bytes that are no token as characters.
    bytes: Vec<u32>,
    /// The longest token in bytes.
    longest: usize,
    /// Whether no token has a space behind something else, so that words can be merged one by one.
    are_words_apart: bool,
    pub add_space_prefix: bool,
}

impl Spm {
    pub fn new(vocab: &Vocab<'_>) -> Result<Self, Error> {
        let scores = vocab.metadata.require_f32s(SCORES)?;
        vocab.check_len(SCORES, scores.len())?;
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(vocab.error(SCORES, format_args!("has NaN for token {id}")));
        }
        let bytes = (0..=u8::MAX).map(|byte| {
            let text = format!("<0x{byte:02X}>");
            let missing = || vocab.error(TOKENS, format_args!("has no token {text} for the byte {byte}"));
            vocab.id(&text).ok_or_else(missing)
        });
        let bytes = bytes.collect::<Result<_, _>>()?;
        let mut ranks =
            ranks(scores).map_err(|problem| Error::memory(vocab.metadata, SCORES, scores.len(), &problem))?;
        for (id, rank) in (0..).zip(&mut ranks) {
            if !vocab.is_text(id) {
                *rank = NO_TEXT;
            }
        }
        Ok(Self {
            index: Arc::clone(&vocab.index),
            ranks,
            bytes,
            are_words_apart: vocab.texts().iter().all(is_one_word),
            longest: vocab.texts().iter().map(<[u8]>::len).max().unwrap_or(0),
            add_space_prefix: vocab.metadata.bool(ADD_SPACE_PREFIX)?.unwrap_or(true),
        })
    }

    /// Appends the tokens of `text`, which comes `after_special` if it begins the input or follows a special
    /// token.
    pub fn encode(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) {
        let prefix = if after_special && self.add_space_prefix { SPACE } else { "" };
        let text = prefix.to_owned() + &text.replace(' ', SPACE);

        let mut merger = Merger::default();
        let mut rest = &*text;
        while !rest.is_empty() {
            let len = if self.are_words_apart { word_len(rest) } else { rest.len() };
            let (word, after) = rest.split_at(len);
            self.encode_word(word, &mut merger, ids);
            rest = after;
        }
    }

    /// The token that `text` may become.
    fn token(&self, text: &[u8]) -> Option<u32> {
        self.index.id(text).filter(|&id| self.ranks[id as usize] != NO_TEXT)
    }

    fn encode_word(&self, text: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        let chars = text.char_indices().map(|(at, char)| {
            let len = char.len_utf8();
            (len, self.token(&text.as_bytes()[at..at + len]))
        });
        let join = |left: &Symbol, right: &Symbol| {
            let len = left.len + right.len;
            // Long texts are neither hashed nor compared in vain.
            let text = (len <= self.longest).then(|| &text.as_bytes()[left.start..left.start + len])?;
            let id = self.token(text)?;
            Some(Join { rank: self.ranks[id as usize], id })
        };
        for symbol in merger.merge(chars, join) {
            match symbol.id {
                Some(id) => ids.push(id),
                None => {
                    let bytes = &text.as_bytes()[symbol.start..][..symbol.len];
                    ids.extend(bytes.iter().map(|&byte| self.bytes[usize::from(byte)]));
                }
            }
        }
    }
}

/// The bytes of the word at the beginning of `text`, with the spaces before it.
fn word_len(text: &str) -> usize {
    let spaces = text.len() - text.trim_start_matches(SPACE).len();
    text[spaces..].find(SPACE).map_or(text.len(), |end| spaces + end)
}

/// Whether a token is part of a word with spaces before it.
fn is_one_word(token: &[u8]) -> bool {
    let mut rest = token;
    while let Some(after) = rest.strip_prefix(SPACE.as_bytes()) {
        rest = after;
    }
    !rest.windows(SPACE.len()).any(|bytes| bytes == SPACE.as_bytes())
}

/// The place of each score among the different scores, from high to low. Scores are as many as tokens, fewer than 2³².
fn ranks(scores: &[f32]) -> Result<Vec<u32>, TryReserveError> {
    let [mut order, mut ranks] = [Vec::new(), Vec::new()];
    fallible(|| order.try_reserve_exact(scores.len()))?;
    fallible(|| ranks.try_reserve_exact(scores.len()))?;
    order.extend(0..scores.len() as u32);
    ranks.resize(scores.len(), 0);
    let score = |id: u32| scores[id as usize];
    order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)));
    let mut rank = 0;
    for pair in order.windows(2) {
        // By value and not by bits: 0 and -0 are one score.
        rank += u32::from(score(pair[0]) != score(pair[1]));
        ranks[pair[1] as usize] = rank;
    }
    Ok(ranks)
}

/// Adds what a token stands for.
pub(super) fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some((&byte, rest)) = text.split_first() {
        text = match text.strip_prefix(SPACE.as_bytes()) {
            Some(rest) => {
                out.push(b' ');
                rest
            }
            None => {
                out.push(byte);
                rest
            }
        };
    }
}
