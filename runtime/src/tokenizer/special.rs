//! Special tokens in a text.

use std::cmp::Reverse;
use std::ops::Range;

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
        for token in wanted.filter(|token| text.contains(&*token.text)) {
            let contents = if token.user_defined { &[] } else { contents };
            let mut cut = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                let Fragment::Text(part) = fragment else {
                    cut.push(fragment);
                    continue;
                };
                let offset = part.as_ptr().addr() - text.as_ptr().addr();
                let mut start = 0;
                for found in matches(part, &token.text, offset, contents) {
                    push_text(&mut cut, &part[start..found]);
                    cut.push(Fragment::Special(token.id));
                    start = found + token.text.len();
                }
                push_text(&mut cut, &part[start..]);
            }
            fragments = cut;
        }
        fragments
    }
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
                Some(content) if content.start < end => from = content.end.saturating_sub(offset).min(part.len()),
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
