//! Special tokens in a text.

use std::cmp::Reverse;
use std::ops::Range;

use super::Error;
use super::vocab::{Kind, TOKENS, Vocab};
use crate::alloc::fallible;
use crate::gguf::Strings;

/// Cuts special tokens out of a text.
#[derive(Debug)]
pub(super) struct SpecialSplitter {
    texts: Strings,
    /// From long to short.
    tokens: Vec<SpecialToken>,
}

#[derive(Clone, Copy, Debug)]
struct SpecialToken {
    id: u32,
    user_defined: bool,
    /// Whether white space after it is no part of the text.
    strips: bool,
}

/// Special tokens after which white space is kept, whatever the model.
const KEEP_SPACE: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// A part of a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fragment<'t> {
    /// Not empty, and to be tokenized.
    Text(&'t str),
    /// A token already.
    Special(u32),
}

impl SpecialSplitter {
    pub fn new(vocab: &Vocab<'_>) -> Result<Self, Error> {
        let is_special = |text: &[u8], kind| {
            // A text, which is UTF-8, can't hold what is not.
            matches!(kind, Kind::Unknown | Kind::Control | Kind::UserDefined)
                && !text.is_empty()
                && str::from_utf8(text).is_ok()
        };
        let special = || (0..).zip(vocab.iter()).filter(|(_, (text, kind))| is_special(text, *kind));
        let count = special().count();
        let mut tokens = Vec::new();
        fallible(|| tokens.try_reserve_exact(count))
            .map_err(|problem| Error::memory(vocab.metadata, TOKENS, count, &problem))?;
        let strips = vocab.strips_after_special();
        tokens.extend(special().map(|(id, (text, kind))| SpecialToken {
            id,
            user_defined: kind == Kind::UserDefined,
            strips: strips && !KEEP_SPACE.iter().any(|keeps| keeps.as_bytes() == text),
        }));
        let texts = vocab.texts().clone();
        let len = |id: u32| texts.get(id as usize).map_or(0, <[u8]>::len);
        tokens.sort_unstable_by_key(|token| (Reverse(len(token.id)), token.id));
        Ok(Self { texts, tokens })
    }

    /// The parts of `text`. Of tokens that overlap the longest is taken, in the whole text and not from left to
    /// right; without `parse_special` only user-defined tokens are. Tokens that are not user-defined touch none of
    /// the bytes in `contents`, which are in order and apart.
    pub fn split<'t>(
        &self,
        text: &'t str,
        parse_special: bool,
        contents: &[Range<usize>],
    ) -> Vec<Fragment<'t>> {
        let mut fragments = Vec::new();
        push_text(&mut fragments, text);
        let wanted = self.tokens.iter().filter(|token| parse_special || token.user_defined);
        let wanted = wanted.map(|token| (token, self.text(token)));
        for (token, token_text) in wanted.filter(|(_, token_text)| text.contains(token_text)) {
            let contents = if token.user_defined { &[] } else { contents };
            let mut cut = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                let Fragment::Text(part) = fragment else {
                    cut.push(fragment);
                    continue;
                };
                let offset = part.as_ptr().addr() - text.as_ptr().addr();
                let mut start = 0;
                for found in matches(part, token_text, offset, contents) {
                    // Where white space was stripped the next match may begin within it.
                    push_text(&mut cut, part.get(start..found).unwrap_or_default());
                    cut.push(Fragment::Special(token.id));
                    start = found + token_text.len();
                    if token.strips {
                        start = part.len() - part[start..].trim_start_matches(is_c_space).len();
                    }
                }
                push_text(&mut cut, &part[start..]);
            }
            fragments = cut;
        }
        fragments
    }

    fn text(&self, token: &SpecialToken) -> &str {
        let text = self.texts.get(token.id as usize).and_then(|text| str::from_utf8(text).ok());
        text.expect("special tokens are UTF-8")
    }
}

/// White space as C's `isspace` has it, which llama.cpp asks.
fn is_c_space(char: char) -> bool {
    matches!(char, ' ' | '\t'..='\r')
}

/// Where `token` stands in `part`, apart and without touching `contents`, whose places count from `offset` before
/// `part`.
fn matches<'t>(
    part: &'t str,
    token: &'t str,
    offset: usize,
    contents: &'t [Range<usize>],
) -> impl Iterator<Item = usize> + 't {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let found = from + part[from..].find(token)?;
            let (start, end) = (offset + found, offset + found + token.len());
            let next = contents.partition_point(|content| content.end <= start);
            match contents.get(next) {
                // A match that begins before the end of this content touches it, too.
                Some(content) if content.start < end => {
                    from = content.end.saturating_sub(offset).min(part.len())
                }
                _ => {
                    from = found + token.len();
                    return Some(found);
                }
            }
        }
    })
}

fn push_text<'t>(fragments: &mut Vec<Fragment<'t>>, text: &'t str) {
    if !text.is_empty() {
        fragments.push(Fragment::Text(text));
    }
}
