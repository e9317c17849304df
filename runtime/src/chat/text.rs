//! Text that knows where it came from.
//!
//! A rendered conversation is made of two kinds of bytes: the template's own, among them the texts of control
//! tokens, and those of contents, which someone else wrote. Each [`Text`] holds the byte ranges that are contents
//! beside its string, and whatever cuts, joins or maps text goes through a [`TextBuilder`], which takes each piece
//! with its origin. So the ranges are right for every operation that is written in this way, and none can forget.
//!
//! Texts compare by their strings alone.

use std::ops::Range;
use std::sync::Arc;

use super::budget::{Budget, Result, fault};

/// A string and the byte ranges of it that are contents.
#[derive(Clone, Debug)]
pub(super) struct Text {
    string: Arc<str>,
    contents: Contents,
}

#[derive(Clone, Debug)]
enum Contents {
    None,
    All,
    /// In order, apart, none empty.
    Some(Arc<[Range<usize>]>),
}

impl Text {
    /// The template's own text.
    pub fn own(string: impl Into<Arc<str>>) -> Self {
        Self { string: string.into(), contents: Contents::None }
    }

    /// A content.
    pub fn content(string: impl Into<Arc<str>>) -> Self {
        Self { string: string.into(), contents: Contents::All }
    }

    pub fn as_str(&self) -> &str {
        &self.string
    }

    pub fn shared(&self) -> &Arc<str> {
        &self.string
    }

    pub fn len(&self) -> usize {
        self.string.len()
    }

    pub fn is_empty(&self) -> bool {
        self.string.is_empty()
    }

    /// Whether any byte is a content's.
    pub fn has_content(&self) -> bool {
        !self.is_empty() && !matches!(self.contents, Contents::None)
    }

    /// Whether any byte of `range` is a content's.
    pub fn has_content_in(&self, range: Range<usize>) -> bool {
        self.pieces(range).any(|(_, _, is_content)| is_content)
    }

    /// The parts of `range` that come from one origin each, with where they begin and whether they are contents.
    pub fn pieces(&self, range: Range<usize>) -> Pieces<'_> {
        let next = match &self.contents {
            Contents::Some(ranges) => ranges.partition_point(|content| content.end <= range.start),
            _ => 0,
        };
        Pieces { text: self, at: range.start, end: range.end, next }
    }

    /// The characters of `range`, with where they begin and whether they are contents.
    pub fn chars(&self, range: Range<usize>) -> impl Iterator<Item = (usize, char, bool)> + '_ {
        self.pieces(range).flat_map(|(start, piece, is_content)| {
            piece.char_indices().map(move |(at, c)| (start + at, c, is_content))
        })
    }

    /// The part `range`.
    pub fn slice(&self, budget: &Budget, range: Range<usize>) -> Result<Self> {
        if range == (0..self.len()) {
            return Ok(self.clone());
        }
        let mut part = TextBuilder::new(budget);
        part.push_part(self, range)?;
        part.finish()
    }

    /// The text in which `map` gives what each character becomes.
    pub fn map_chars<I: IntoIterator<Item = char>>(
        &self,
        budget: &Budget,
        mut map: impl FnMut(usize, char) -> I,
    ) -> Result<Self> {
        budget.walk(self.len())?;
        let mut mapped = TextBuilder::new(budget);
        for (at, c, is_content) in self.chars(0..self.len()) {
            for c in map(at, c) {
                mapped.push_char(c, is_content)?;
            }
        }
        mapped.finish()
    }
}

/// The parts of a text by origin, in order.
pub(super) struct Pieces<'t> {
    text: &'t Text,
    at: usize,
    end: usize,
    next: usize,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = (usize, &'t str, bool);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let start = self.at;
        let (end, is_content) = match &self.text.contents {
            Contents::None => (self.end, false),
            Contents::All => (self.end, true),
            Contents::Some(ranges) => match ranges.get(self.next) {
                None => (self.end, false),
                Some(range) if start < range.start => (range.start.min(self.end), false),
                Some(range) => {
                    self.next += 1;
                    (range.end.min(self.end), true)
                }
            },
        };
        self.at = end;
        Some((start, &self.text.string[start..end], is_content))
    }
}

/// Makes a text of pieces, each paid for before it is copied.
#[derive(Debug)]
pub(super) struct TextBuilder<'b> {
    budget: &'b Budget,
    /// The most bytes that it may have.
    most: usize,
    string: String,
    contents: Vec<Range<usize>>,
}

impl<'b> TextBuilder<'b> {
    pub fn new(budget: &'b Budget) -> Self {
        Self { budget, most: usize::MAX, string: String::new(), contents: Vec::new() }
    }

    /// What makes the rendered conversation, whose length is bounded.
    pub fn output(budget: &'b Budget) -> Self {
        Self { most: budget.output(), ..Self::new(budget) }
    }

    pub fn push(&mut self, piece: &str, is_content: bool) -> Result<()> {
        if piece.len() > self.most - self.string.len() {
            let most = self.most >> 10;
            return Err(fault!(
                "the template prints more than {most} KiB, which is too much for this conversation"
            ));
        }
        self.budget.bytes(piece.len())?;
        self.mark(piece.len(), is_content)?;
        self.string.push_str(piece);
        Ok(())
    }

    pub fn push_own(&mut self, piece: &str) -> Result<()> {
        self.push(piece, false)
    }

    pub fn push_char(&mut self, c: char, is_content: bool) -> Result<()> {
        self.push(c.encode_utf8(&mut [0; 4]), is_content)
    }

    pub fn push_text(&mut self, text: &Text) -> Result<()> {
        self.push_part(text, 0..text.len())
    }

    pub fn push_part(&mut self, text: &Text, range: Range<usize>) -> Result<()> {
        text.pieces(range).try_for_each(|(_, piece, is_content)| self.push(piece, is_content))
    }

    /// `text`, `times` times.
    pub fn push_repeated(&mut self, text: &Text, times: usize) -> Result<()> {
        self.budget.check(text.len(), times)?;
        self.budget.steps(times)?;
        (0..times).try_for_each(|_| self.push_text(text))
    }

    fn mark(&mut self, len: usize, is_content: bool) -> Result<()> {
        if !is_content || len == 0 {
            return Ok(());
        }
        let start = self.string.len();
        match self.contents.last_mut() {
            Some(last) if last.end == start => last.end += len,
            _ => {
                self.budget.bytes(size_of::<Range<usize>>())?;
                self.contents.push(start..start + len);
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Text> {
        let contents = match &self.contents[..] {
            [] => Contents::None,
            [range] if *range == (0..self.string.len()) => Contents::All,
            _ => Contents::Some(self.contents.into()),
        };
        Ok(Text { string: self.string.into(), contents })
    }

    /// The string and the ranges in it that are contents.
    pub fn into_parts(self) -> (String, Vec<Range<usize>>) {
        (self.string, self.contents)
    }
}
