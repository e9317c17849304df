//! Tokens by their text.

use std::collections::TryReserveError;
use std::hash::{BuildHasher, RandomState};

use crate::alloc::fallible;
use crate::gguf::Strings;

/// Finds the token of a text: a hash table of ids alone, as texts are in one buffer already. It is at most half full, and
/// what finds its place taken goes to the next free one.
#[derive(Debug)]
pub(super) struct TextIndex {
    texts: Strings,
    /// As many as a power of two, at most half of them ids.
    slots: Vec<u32>,
    /// With random keys, so that no vocabulary can be made whose tokens all share a place.
    hasher: RandomState,
}

/// A place without an id.
const FREE: u32 = u32::MAX;

/// Why there is no index.
pub(super) enum Problem {
    /// Two tokens have one text.
    Twice { first: u32, second: u32 },
    /// The system does not give the memory.
    Memory(TryReserveError),
}

impl TextIndex {
    /// An index of all `texts`, fewer than 2³², but those that are empty: converters fill places without a token so.
    pub fn new(texts: &Strings) -> Result<Self, Problem> {
        let filled = texts.iter().filter(|text| !text.is_empty()).count();
        let len = (2 * filled).next_power_of_two().max(2);
        let mut slots = Vec::new();
        fallible(|| slots.try_reserve_exact(len)).map_err(Problem::Memory)?;
        slots.resize(len, FREE);
        let mut index = Self { texts: texts.clone(), slots, hasher: RandomState::new() };
        for (id, text) in (0..).zip(texts.iter()).filter(|(_, text)| !text.is_empty()) {
            let slot = index.slot(text);
            match index.slots[slot] {
                FREE => index.slots[slot] = id,
                first => return Err(Problem::Twice { first, second: id }),
            }
        }
        Ok(index)
    }

    /// The token whose text is `text`, which is not empty.
    pub fn id(&self, text: &[u8]) -> Option<u32> {
        Some(self.slots[self.slot(text)]).filter(|&id| id != FREE)
    }

    /// The texts by id.
    pub fn texts(&self) -> &Strings {
        &self.texts
    }

    /// The place of `text`, or a free one where it has none.
    fn slot(&self, text: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(text) as usize & mask;
        while self.slots[slot] != FREE && self.texts.get(self.slots[slot] as usize) != Some(text) {
            slot = (slot + 1) & mask;
        }
        slot
    }
}
