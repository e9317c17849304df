//! The merging that both tokenizers share.
//!
//! A text begins as a row of symbols. Of all neighbours that make a token together, those with the best rank are
//! joined, the leftmost where ranks are equal, and again, until no two neighbours make a token. A queue holds the
//! candidates; joining adds at most two, so n symbols take O(n log n). Candidates whose symbols have changed
//! since stay in the queue and are recognised when they come up: a symbol that was joined to its left neighbour
//! is empty, and one that has grown is longer than the candidate says.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No neighbour on this side.
const NONE: usize = usize::MAX;

/// A part of the text, and its token if it has one.
#[derive(Debug)]
pub(super) struct Symbol {
    pub start: usize,
    /// In bytes; 0 once it is part of the symbol to its left.
    pub len: usize,
    pub id: Option<u32>,
    prev: usize,
    next: usize,
}

/// What two neighbours make together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    /// Smaller ranks are joined first.
    pub rank: u32,
    pub id: u32,
}

/// Ordered by rank, then by place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    right: usize,
    len: usize,
    id: u32,
}

/// The buffers, kept from one text to the next.
#[derive(Debug, Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Merges a text whose smallest symbols have the lengths and tokens `parts`, and returns what is left.
    pub fn merge(
        &mut self,
        parts: impl Iterator<Item = (usize, Option<u32>)>,
        join: impl Fn(&Symbol, &Symbol) -> Option<Join>,
    ) -> impl Iterator<Item = &Symbol> {
        self.symbols.clear();
        let mut start = 0;
        for (index, (len, id)) in parts.enumerate() {
            self.symbols.push(Symbol { start, len, id, prev: index.wrapping_sub(1), next: index + 1 });
            start += len;
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }

        for right in 1..self.symbols.len() {
            self.consider(right - 1, right, &join);
        }
        while let Some(Reverse(Candidate { left, right, len, id, .. })) = self.queue.pop() {
            let (right_len, next) = (self.symbols[right].len, self.symbols[right].next);
            let symbol = &mut self.symbols[left];
            if symbol.len == 0 || right_len == 0 || symbol.len + right_len != len {
                continue;
            }
            (symbol.len, symbol.id, symbol.next) = (len, Some(id), next);
            let prev = symbol.prev;
            self.symbols[right].len = 0;
            if let Some(next) = self.symbols.get_mut(next) {
                next.prev = left;
            }
            self.consider(prev, left, &join);
            self.consider(left, next, &join);
        }
        self.symbols.iter().filter(|symbol| symbol.len > 0)
    }

    fn consider(&mut self, left: usize, right: usize, join: impl Fn(&Symbol, &Symbol) -> Option<Join>) {
        let (Some(l), Some(r)) = (self.symbols.get(left), self.symbols.get(right)) else { return };
        if let Some(Join { rank, id }) = join(l, r) {
            self.queue.push(Reverse(Candidate { rank, left, right, len: l.len + r.len, id }));
        }
    }
}
