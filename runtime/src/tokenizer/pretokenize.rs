//! The words that byte-level BPE merges inside of.
//!
//! GPT-2 finds them with the pattern
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! in which the first alternative that matches wins: a word takes along the one space before it, and of a longer
//! run of whitespace the last character is left for the word after it. `smollm` cuts the text at every `\p{N}`
//! first, so that numbers stand alone and nothing before them knows that something follows.

use std::iter;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// How numbers are cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Digits {
    /// Neighbouring digits are a word: `gpt-2`.
    Runs,
    /// Each digit is a word: `smollm`.
    Single,
}

/// The words of `text`, which joined give it back.
pub(super) fn words(text: &str, digits: Digits) -> impl Iterator<Item = &str> {
    pieces(text, move |rest| part_len(rest, digits)).flat_map(|part| pieces(part, word_len))
}

/// Cuts `text` into pieces of the lengths that `len` finds for the beginning of what is left.
fn pieces(text: &str, len: impl Fn(&str) -> usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    iter::from_fn(move || {
        let (piece, after) = rest.split_at(len(rest));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

impl Class {
    fn of(char: char) -> Self {
        match char {
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Number,
            _ if char.is_whitespace() => Self::Space,
            _ if char.is_ascii() => Self::Other,
            _ => match char.general_category_group() {
                GeneralCategoryGroup::Letter => Self::Letter,
                GeneralCategoryGroup::Number => Self::Number,
                _ => Self::Other,
            },
        }
    }
}

/// The bytes at the beginning of `text` in which the pattern looks for words.
fn part_len(text: &str, digits: Digits) -> usize {
    match digits {
        Digits::Runs => text.len(),
        Digits::Single => match run_len(text, |class| class != Class::Number) {
            0 => text.chars().next().map_or(0, char::len_utf8),
            len => len,
        },
    }
}

/// The bytes of the word at the beginning of `text`, none where it is empty.
fn word_len(text: &str) -> usize {
    const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
    if let Some(contraction) = CONTRACTIONS.iter().find(|contraction| text.starts_with(**contraction)) {
        return contraction.len();
    }
    let body = text.strip_prefix(' ').unwrap_or(text);
    match body.chars().next().map(Class::of) {
        Some(class @ (Class::Letter | Class::Number | Class::Other)) => {
            text.len() - body.len() + run_len(body, |next| next == class)
        }
        Some(Class::Space) | None => {
            let run = run_len(text, |next| next == Class::Space);
            let last = text[..run].chars().next_back().map_or(0, char::len_utf8);
            if run < text.len() && run > last { run - last } else { run }
        }
    }
}

/// The bytes at the beginning of `text` whose characters are of the classes wanted.
fn run_len(text: &str, is_wanted: impl Fn(Class) -> bool) -> usize {
    text.find(|char| !is_wanted(Class::of(char))).unwrap_or(text.len())
}
