//! Placeholder.

/// One block format and its kernels.
pub struct Format {
    /// GGUF's own name, `Q4_0`.
    pub name: &'static str,
    /// GGUF's tensor type number; `None` for a format outside that numbering.
    pub gguf_id: Option<u32>,
    /// Weights per block.
    pub block_len: usize,
    /// Bytes per block.
    pub block_bytes: usize,
}
/// Every format declared in this crate.
pub static FORMATS: &[&Format] = &[
    &Format { name: "Q4_0", gguf_id: Some(2), block_len: 32, block_bytes: 18 },
    &Format { name: "Q4_1", gguf_id: Some(3), block_len: 32, block_bytes: 20 },
    &Format { name: "Q8_0", gguf_id: Some(8), block_len: 32, block_bytes: 34 },
    &Format { name: "Q6_K", gguf_id: Some(14), block_len: 256, block_bytes: 210 },
];
