//! The KV cache: keys and values of the tokens so far, in f16.
//!
//! Keys lie by 32 positions, for each of their elements the 32 side by side: attention multiplies an element of a query
//! with 32 keys at once, and needs no sum across a vector.

use std::ops::Range;

use half::f16;
use memmap2::MmapMut;

use crate::threads::Team;
use crate::{Config, Error};

/// Keys and values of every layer, for a context of fixed capacity.
///
/// Memory is reserved as a whole and becomes resident as the context grows.
#[derive(Debug)]
pub struct KvCache {
    /// `[layers, kv_heads, (keys, values)]` in f16; keys are `[⌈capacity / 32⌉, head_dim, 32]`, values
    /// `[⌈capacity / 32⌉ * 32, head_dim]`
    memory: MmapMut,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    len: usize,
}

/// How a cache stores keys or values.
#[derive(Clone, Copy, Debug, Default)]
pub enum CacheType {
    /// IEEE 754 half precision.
    #[default]
    F16,
}

impl CacheType {
    /// ggml's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
        }
    }
}

/// Positions whose keys lie side by side.
pub(crate) const TILE: usize = 32;

/// What one head has of some positions, from 0 on, in whole tiles. Beyond the context they hold anything.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// `[tiles, head_dim, 32]`
    pub keys: &'a [f16],
    /// `[tiles * 32, head_dim]`
    pub values: &'a [f16],
}

impl KvCache {
    pub(crate) fn new(config: &Config, capacity: usize) -> Result<Self, Error> {
        let Config { layers, kv_heads, head_dim, .. } = *config;
        Self::with_shape(layers, kv_heads, head_dim, capacity)
    }

    pub(crate) fn with_shape(
        layers: usize,
        kv_heads: usize,
        head_dim: usize,
        capacity: usize,
    ) -> Result<Self, Error> {
        let too_large = || Error::CacheMemory { context: capacity };
        let positions = capacity.checked_next_multiple_of(TILE).ok_or_else(too_large)?;
        let elements =
            [layers, 2, kv_heads, positions, head_dim].into_iter().try_fold(1_usize, usize::checked_mul);
        let bytes = elements.and_then(|n| n.checked_mul(size_of::<f16>())).ok_or_else(too_large)?;
        // Anonymous memory is zero, page-aligned and costs nothing until touched.
        let memory = MmapMut::map_anon(bytes).map_err(|_| too_large())?;
        Ok(Self { memory, layers, kv_heads, head_dim, capacity, len: 0 })
    }

    /// Bytes that one token's keys and values take in all layers.
    pub(crate) fn bytes_per_token(config: &Config) -> usize {
        config.layers * 2 * config.key_value() * size_of::<f16>()
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

    /// The elements of one head: first its keys, then its values.
    fn range(&self, layer: usize, head: usize) -> Range<usize> {
        let len = 2 * self.capacity.next_multiple_of(TILE) * self.head_dim;
        (layer * self.kv_heads + head) * len..(layer * self.kv_heads + head + 1) * len
    }

    /// One head, as far as the tiles of `positions` reach.
    pub(crate) fn head(&self, layer: usize, head: usize, positions: usize) -> Head<'_> {
        let elements: &[f16] = &bytemuck::cast_slice(&self.memory)[self.range(layer, head)];
        let (keys, values) = elements.split_at(elements.len() / 2);
        let len = positions.next_multiple_of(TILE) * self.head_dim;
        Head { keys: &keys[..len], values: &values[..len] }
    }

    /// Stores what tokens from position `start` on give to every head: each, `stride` after the one before, its keys
    /// and then its values, both `[kv_heads, head_dim]`.
    pub(crate) fn store(
        &mut self,
        team: &Team,
        layer: usize,
        start: usize,
        keys_values: &[f32],
        stride: usize,
    ) {
        let (head_dim, heads) = (self.head_dim, self.kv_heads);
        let range = self.range(layer, 0).start..self.range(layer, heads - 1).end;
        let elements = &mut bytemuck::cast_slice_mut::<u8, f16>(&mut self.memory)[range];
        let head_len = elements.len() / heads;
        let tokens = keys_values.len().div_ceil(stride);
        // One token is too little to share.
        let share = if tokens == 1 { heads } else { 1 };
        team.for_tiles(elements, head_len, (share, head_len), |rows, _, mut tile| {
            for (i, head) in rows.enumerate() {
                let (keys, values) = tile.row(i).split_at_mut(head_len / 2);
                for (token, keys_values) in keys_values.chunks(stride).enumerate() {
                    let position = start + token;
                    let (key, value) = keys_values[..2 * heads * head_dim].split_at(heads * head_dim);
                    let [key, value] = [key, value].map(|all| &all[head * head_dim..][..head_dim]);
                    let tile = &mut keys[position / TILE * TILE * head_dim..][..TILE * head_dim];
                    for (side_by_side, key) in tile.chunks_exact_mut(TILE).zip(key) {
                        side_by_side[position % TILE] = f16::from_f32(*key);
                    }
                    let stored = &mut values[position * head_dim..][..head_dim];
                    half::slice::HalfFloatSliceExt::convert_from_f32_slice(stored, value);
                }
            }
        });
    }
}
