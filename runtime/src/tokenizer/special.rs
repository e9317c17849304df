//! Special tokens in a text.

use std::cmp::Reverse;

use super::vocab::{Kind, Vocab};

/// Cuts special tokens out of a text.
#[derive(Debug)]
pub(super) struct SpecialSplitter {
    /// From long to short.
    tokens: Vec<SpecialToken>,
}

#[derive(Debug)]
struct SpecialToken {
    text: Box<str>,
    id: u32,
    user_defined: bool,
}

/// A part of a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fragment<'t> {
    /// Not empty, and to be tokenized.
    Text(&'t str),
    /// A token already.
    Special(u32),
}

impl SpecialSplitter {
    pub fn new(vocab: &Vocab<'_>) -> Self {
        let special = (0..).zip(vocab.iter()).filter(|(_, (text, kind))| {
            !text.is_empty() && matches!(kind, Kind::Unknown | Kind::Control | Kind::UserDefined)
        });
        let mut tokens: Vec<_> = special
            .map(|(id, (text, kind))| SpecialToken {
                text: text.into(),
                id,
                user_defined: kind == Kind::UserDefined,
            })
            .collect();
        tokens.sort_by_key(|token| Reverse(token.text.len()));
        Self { tokens }
    }

    /// The parts of `text`. Of tokens that overlap the longest is taken, in the whole text and not from left to
    /// right; without `parse_special` only user-defined tokens are.
    pub fn split<'t>(&self, text: &'t str, parse_special: bool) -> Vec<Fragment<'t>> {
        let mut fragments = Vec::new();
        push_text(&mut fragments, text);
        let wanted = self.tokens.iter().filter(|token| parse_special || token.user_defined);
        for token in wanted.filter(|token| text.contains(&*token.text)) {
            let mut cut = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                let Fragment::Text(text) = fragment else {
                    cut.push(fragment);
                    continue;
                };
                for (index, part) in text.split(&*token.text).enumerate() {
                    if index > 0 {
                        cut.push(Fragment::Special(token.id));
                    }
                    push_text(&mut cut, part);
                }
            }
            fragments = cut;
        }
        fragments
    }
}

fn push_text<'t>(fragments: &mut Vec<Fragment<'t>>, text: &'t str) {
    if !text.is_empty() {
        fragments.push(Fragment::Text(text));
    }
}
