//! The KV cache: keys and values of the tokens so far, each in a type of choice.
//!
//! Positions lie in tiles of 32. Keys in f16 lie in columns, for each of their elements the 32 side by side, as attention
//! multiplies them: an element of a query with 32 keys at once, and no sum across a vector. A block of a quantized
//! format is part of one key: such keys lie in rows, as values do, and are turned when they are read.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::MmapMut;
use quantloom_kernels::dense::widen_f16;
use quantloom_kernels::{Format, Kernels, Supported};

use crate::check::are_finite;
use crate::gguf::TensorType;
use crate::threads::Team;
use crate::{Config, Error};

/// How keys or values are kept.
#[derive(Clone, Copy, Debug, Default)]
pub enum CacheType {
    /// IEEE half precision.
    #[default]
    F16,
    /// Blocks of a format that has a quantizer, a whole number of them in the length of a head.
    Quantized(&'static Format),
}

impl CacheType {
    /// How keys or values are kept that are to be like weights of a type; `None` where they can't be.
    pub fn of(ty: TensorType) -> Option<Self> {
        match ty {
            TensorType::F16 => Some(Self::F16),
            TensorType::Quantized(format) if format.quantize.is_some() => Some(Self::Quantized(format)),
            TensorType::F32 | TensorType::BF16 | TensorType::Quantized(_) => None,
        }
    }

    /// GGUF's name: `F16`, `Q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => TensorType::F16.name(),
            Self::Quantized(format) => format.name,
        }
    }
}

/// How a cache keeps what it holds: keys and values in f16, unless something else is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheTypes {
    /// The type of keys.
    pub keys: CacheType,
    /// The type of values.
    pub values: CacheType,
}

/// Keys and values of every layer, for a context of fixed capacity.
///
/// Memory is reserved as a whole and becomes resident as the context grows.
#[derive(Debug)]
pub struct KvCache {
    /// `[layers, kv_heads]`: the tiles of the head's keys, and then those of its values.
    memory: MmapMut,
    keys: Codec,
    values: Codec,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    len: usize,
    /// Whether a number that is not finite was to be kept in a quantized type, which has no code for it.
    lost_infinity: bool,
}

/// Positions of a tile.
pub(crate) const TILE: usize = 32;

/// What writes and reads a type.
#[derive(Clone, Copy, Debug)]
enum Codec {
    F16(Supported),
    Quantized(Kernels),
}

const CHECKED: &str = "lengths are checked when a cache is made";

impl Codec {
    /// `what` is for people.
    fn new(what: &'static str, ty: CacheType, isa: Supported, head_dim: usize) -> Result<Self, Error> {
        let CacheType::Quantized(format) = ty else { return Ok(Self::F16(isa)) };
        let problem = if format.quantize.is_none() {
            "it has no quantizer".into()
        } else if !head_dim.is_multiple_of(format.block_len) {
            format!("its blocks are of {}, and the model's heads {head_dim} long", format.block_len)
        } else {
            return Ok(Self::Quantized(format.kernels(isa)));
        };
        Err(Error::CacheType { what, format: format.name, problem })
    }

    /// Bytes of a tile.
    fn tile_bytes(&self, head_dim: usize) -> usize {
        match self {
            Self::F16(_) => TILE * head_dim * size_of::<f16>(),
            Self::Quantized(kernels) => TILE * kernels.format().bytes_for(head_dim),
        }
    }

    /// Stores the value of the `i`th position of a tile.
    fn store_value(&self, tile: &mut [u8], i: usize, value: &[f32]) {
        match self {
            Self::F16(_) => {
                let stored = &mut bytemuck::cast_slice_mut(tile)[i * value.len()..][..value.len()];
                <[f16]>::convert_from_f32_slice(stored, value);
            }
            Self::Quantized(kernels) => {
                let bytes = tile.len() / TILE;
                kernels.quantize(value, &mut tile[i * bytes..][..bytes]).expect(CHECKED);
            }
        }
    }

    /// Stores the key of the `i`th position of a tile.
    fn store_key(&self, tile: &mut [u8], i: usize, key: &[f32]) {
        match self {
            Self::F16(_) => {
                let (columns, _) = bytemuck::cast_slice_mut(tile).as_chunks_mut::<TILE>();
                for (column, key) in columns.iter_mut().zip(key) {
                    column[i] = f16::from_f32(*key);
                }
            }
            // In rows, as values.
            Self::Quantized(_) => self.store_value(tile, i, key),
        }
    }

    /// The values of a tile, `[32, head_dim]`.
    fn load_values(&self, tile: &[u8], values: &mut [f32]) {
        match self {
            Self::F16(isa) => widen_f16(*isa, bytemuck::cast_slice(tile), values),
            Self::Quantized(kernels) => kernels.dequantize(tile, values).expect(CHECKED),
        }
    }

    /// The keys of a tile, `[head_dim, 32]`. `rows` has room for as many.
    fn load_keys(&self, tile: &[u8], keys: &mut [f32], rows: &mut [f32]) {
        match self {
            Self::F16(isa) => widen_f16(*isa, bytemuck::cast_slice(tile), keys),
            Self::Quantized(_) => {
                self.load_values(tile, rows);
                let (columns, _) = keys.as_chunks_mut::<TILE>();
                for (i, row) in rows.chunks_exact(columns.len()).enumerate() {
                    for (column, key) in columns.iter_mut().zip(row) {
                        column[i] = *key;
                    }
                }
            }
        }
    }
}

/// What one head has of some positions, from 0 on, in whole tiles. Beyond the context they hold anything.
pub(crate) struct Head<'a> {
    keys: &'a [u8],
    values: &'a [u8],
    cache: &'a KvCache,
}

impl Head<'_> {
    /// The keys of a tile: `[head_dim, 32]`. `rows` has room for as many.
    pub fn keys(&self, tile: usize, keys: &mut [f32], rows: &mut [f32]) {
        let bytes = self.cache.key_tile();
        self.cache.keys.load_keys(&self.keys[tile * bytes..][..bytes], keys, rows);
    }

    /// The values of a tile: `[32, head_dim]`.
    pub fn values(&self, tile: usize, values: &mut [f32]) {
        let bytes = self.cache.value_tile();
        self.cache.values.load_values(&self.values[tile * bytes..][..bytes], values);
    }
}

impl KvCache {
    pub(crate) fn new(
        config: &Config,
        isa: Supported,
        capacity: usize,
        types: CacheTypes,
    ) -> Result<Self, Error> {
        let Config { layers, kv_heads, head_dim, .. } = *config;
        Self::with_shape([layers, kv_heads, head_dim], isa, capacity, types)
    }

    /// `shape`: layers, KV heads and their length.
    pub(crate) fn with_shape(
        [layers, kv_heads, head_dim]: [usize; 3],
        isa: Supported,
        capacity: usize,
        types: CacheTypes,
    ) -> Result<Self, Error> {
        let keys = Codec::new("keys", types.keys, isa, head_dim)?;
        let values = Codec::new("values", types.values, isa, head_dim)?;
        let too_large = || Error::CacheMemory { context: capacity };
        let tile = [keys, values].map(|codec| codec.tile_bytes(head_dim)).iter().sum();
        let bytes = [layers, kv_heads, capacity.div_ceil(TILE), tile];
        let bytes = bytes.into_iter().try_fold(1_usize, usize::checked_mul).ok_or_else(too_large)?;
        // Anonymous memory is zero, page-aligned and costs nothing until touched.
        let memory = MmapMut::map_anon(bytes).map_err(|_| too_large())?;
        Ok(Self { memory, keys, values, layers, kv_heads, head_dim, capacity, len: 0, lost_infinity: false })
    }

    /// Bytes that one token's keys and values take in all layers.
    pub(crate) fn bytes_per_token(&self) -> usize {
        self.layers * self.kv_heads * (self.key_tile() + self.value_tile()) / TILE
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

    /// Forgets the tokens from position `len` on, and that there was a number among them that is not finite.
    pub(crate) fn forget_from(&mut self, len: usize) {
        self.truncate(len);
        self.lost_infinity = false;
    }

    /// Whether all numbers that were to be kept were finite, or are kept as they were.
    pub(crate) fn is_faithful(&self) -> bool {
        !self.lost_infinity
    }

    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Whether it was made for a model of this shape.
    pub(crate) fn fits(&self, config: &Config) -> bool {
        (self.layers, self.kv_heads, self.head_dim) == (config.layers, config.kv_heads, config.head_dim)
    }

    fn key_tile(&self) -> usize {
        self.keys.tile_bytes(self.head_dim)
    }

    fn value_tile(&self) -> usize {
        self.values.tile_bytes(self.head_dim)
    }

    /// The bytes of some heads of a layer.
    fn range(&self, layer: usize, heads: Range<usize>) -> Range<usize> {
        let len = self.capacity.div_ceil(TILE) * (self.key_tile() + self.value_tile());
        (layer * self.kv_heads + heads.start) * len..(layer * self.kv_heads + heads.end) * len
    }

    /// One head, as far as the tiles of `positions` reach.
    pub(crate) fn head(&self, layer: usize, head: usize, positions: usize) -> Head<'_> {
        let bytes = &self.memory[self.range(layer, head..head + 1)];
        let (keys, values) = bytes.split_at(self.capacity.div_ceil(TILE) * self.key_tile());
        let tiles = positions.div_ceil(TILE);
        Head {
            keys: &keys[..tiles * self.key_tile()],
            values: &values[..tiles * self.value_tile()],
            cache: self,
        }
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
        let (key_codec, value_codec) = (self.keys, self.values);
        let (key_tile, value_tile) = (self.key_tile(), self.value_tile());
        let all_keys = self.capacity.div_ceil(TILE) * key_tile;
        let range = self.range(layer, 0..heads);
        let head_len = range.len() / heads;
        let tokens = keys_values.len().div_ceil(stride);
        let is_quantized = [key_codec, value_codec].iter().any(|codec| matches!(codec, Codec::Quantized(_)));
        if is_quantized {
            let stored = |token: &[f32]| are_finite(&token[..2 * heads * head_dim]);
            self.lost_infinity |= !keys_values.chunks(stride).all(stored);
        }
        // One token is too little to share.
        let share = if tokens == 1 { heads } else { 1 };
        team.for_tiles(&mut self.memory[range], head_len, (share, head_len), |rows, _, mut tile| {
            for (i, head) in rows.enumerate() {
                let (keys, values) = tile.row(i).split_at_mut(all_keys);
                for (token, keys_values) in keys_values.chunks(stride).enumerate() {
                    let position = start + token;
                    let (key, value) = keys_values[..2 * heads * head_dim].split_at(heads * head_dim);
                    let [key, value] = [key, value].map(|all| &all[head * head_dim..][..head_dim]);
                    let keys = &mut keys[position / TILE * key_tile..][..key_tile];
                    key_codec.store_key(keys, position % TILE, key);
                    let values = &mut values[position / TILE * value_tile..][..value_tile];
                    value_codec.store_value(values, position % TILE, value);
                }
            }
        });
    }
}
