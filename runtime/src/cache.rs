//! The KV cache: keys and values of the tokens so far, in f16.

use std::ops::Range;

use half::f16;
use memmap2::MmapMut;

use crate::{Config, Error};

/// Keys and values of every layer, for a context of fixed capacity.
///
/// Memory is reserved as a whole and becomes resident as the context grows.
#[derive(Debug)]
pub struct KvCache {
    /// `[layers, 2 (key, value), kv_heads, capacity, head_dim]` in f16
    memory: MmapMut,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    len: usize,
}

/// Keys or values.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Key,
    Value,
}

impl KvCache {
    pub(crate) fn new(config: &Config, capacity: usize) -> Result<Self, Error> {
        let Config { layers, kv_heads, head_dim, .. } = *config;
        let too_large = || Error::CacheMemory { context: capacity };
        let elements =
            [layers, 2, kv_heads, capacity, head_dim].into_iter().try_fold(1_usize, usize::checked_mul);
        let bytes = elements.and_then(|n| n.checked_mul(size_of::<f16>())).ok_or_else(too_large)?;
        // Anonymous memory is zero, page-aligned and costs nothing until touched.
        let memory = MmapMut::map_anon(bytes).map_err(|_| too_large())?;
        Ok(Self { memory, layers, kv_heads, head_dim, capacity, len: 0 })
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tokens in the cache.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most tokens that it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of memory at full capacity.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Forgets the tokens from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Whether it was made for a model of this shape.
    pub(crate) fn fits(&self, config: &Config) -> bool {
        (self.layers, self.kv_heads, self.head_dim) == (config.layers, config.kv_heads, config.head_dim)
    }

    /// The elements of positions `0..positions` of one head.
    fn range(&self, layer: usize, kind: Kind, head: usize, positions: Range<usize>) -> Range<usize> {
        let head = ((layer * 2 + kind as usize) * self.kv_heads + head) * self.capacity;
        (head + positions.start) * self.head_dim..(head + positions.end) * self.head_dim
    }

    /// `[positions, head_dim]` keys or values of one head.
    pub(crate) fn head(&self, layer: usize, kind: Kind, head: usize, positions: usize) -> &[f16] {
        let range = self.range(layer, kind, head, 0..positions);
        &bytemuck::cast_slice(&self.memory)[range]
    }

    /// Stores what one token gives to every head: `[kv_heads, head_dim]`.
    pub(crate) fn store(&mut self, layer: usize, kind: Kind, position: usize, heads: &[f32]) {
        for (head, values) in heads.chunks_exact(self.head_dim).enumerate() {
            let range = self.range(layer, kind, head, position..position + 1);
            let stored = &mut bytemuck::cast_slice_mut::<u8, f16>(&mut self.memory)[range];
            half::slice::HalfFloatSliceExt::convert_from_f32_slice(stored, values);
        }
    }
}
