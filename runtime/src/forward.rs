//! The forward pass of a Llama model.

use std::cell::RefCell;

use quantloom_kernels::{Supported, gemm};

use crate::Config;
use crate::cache::KvCache;
use crate::matrix::{Inputs, MAX_ROWS, Matrix};
use crate::model::{Layer, Weights};
use crate::ops::{self, Queries, attend, attention_room, rms_norm, rope, rotations};
use crate::scratch::{Buffers, Scratch};
use crate::threads::Team;

/// Whose logits a pass computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    Last,
    All,
}

/// Bytes of a matrix that a thread takes at a time. Long enough that the memory system streams: with
/// 32 KiB decoding is a third slower. Short enough that tokens that go one by one find it in L2.
const CHUNK_BYTES: usize = 256 * 1024;
/// Fewer where that leaves less than this many chunks for each thread: one that loses its core should
/// delay the others little.
const CHUNKS_PER_THREAD: usize = 4;
/// Rows that kernels take at once of one token.
const ROWS: usize = 4;
/// Tokens that a thread takes at a time where each has its own work: norms, rotations, and attention, which converts
/// keys and values once for all of them. Eight query heads of 16 tokens keep a converted tile, 16 KiB, busy for some
/// ten times as long as its conversion takes.
const TOKENS: usize = 16;

thread_local! {
    /// Each thread's room for a tile of keys and values; it grows with the longest heads.
    static ATTENTION: RefCell<Vec<f32>> = RefCell::default();
}

/// Makes this thread's room for attention, so that no token has to.
pub fn prepare(config: &Config) {
    let group = config.heads / config.kv_heads;
    let room = attention_room(config.head_dim, group, TOKENS);
    ATTENTION.with_borrow_mut(|buffer| buffer.reserve(room.saturating_sub(buffer.len())));
}

/// Runs `tokens` through the model after those in `cache`, and adds them to it.
///
/// The caller has checked that tokens are in the vocabulary and that they fit cache and scratch.
pub fn pass(
    weights: &Weights,
    team: &Team,
    isa: Supported,
    tokens: &[u32],
    cache: &mut KvCache,
    scratch: &mut Scratch,
    logits: Logits,
) {
    let config = &weights.config;
    let (embedding, query, key_value) = (config.embedding, config.query(), config.key_value());
    let width = query + 2 * key_value;
    let start = cache.len();
    let t = tokens.len();
    let Buffers { x, normed, qkv, attended, hidden, rotations: angles, quantized, logits: out } =
        scratch.buffers(t);

    for (&token, x) in tokens.iter().zip(x.chunks_exact_mut(embedding)) {
        weights.token_embedding.row(token as usize, x);
    }
    team.for_tiles(angles, config.rope_dims, (TOKENS, config.rope_dims), |tokens, _, mut tile| {
        for (i, token) in tokens.enumerate() {
            rotations(start + token, config.rope_base, tile.row(i));
        }
    });

    for (l, layer) in weights.layers.iter().enumerate() {
        let Layer { attention_norm, q, k, v, attention_output, feed_forward_norm, gate, up, down } = layer;

        // Queries, keys and values.
        norm(team, x, attention_norm, config.rms_epsilon, normed);
        let inputs = Inputs::new(team, isa, normed, embedding, quantized, &[q, k, v]);
        team.for_columns(qkv, width, chunk_rows(team, q, width, &inputs), |rows, mut columns| {
            let mut first = 0;
            for matrix in [q, k, v] {
                // The part of this chunk that lies in this matrix.
                let (from, to) = (rows.start.max(first), rows.end.min(first + matrix.rows()));
                if from < to {
                    matrix.multiply(from - first..to - first, &inputs, |token, row, y| {
                        columns.row(token)[first + row - rows.start..][..y.len()].copy_from_slice(y);
                    });
                }
                first += matrix.rows();
            }
        });
        team.for_tiles(qkv, width, (TOKENS, width), |tokens, _, mut tile| {
            for (i, token) in tokens.enumerate() {
                let angles = &angles[token * config.rope_dims..][..config.rope_dims];
                rope(&mut tile.row(i)[..query + key_value], config.head_dim, angles);
            }
        });
        cache.store(team, l, start, &qkv[query..], width);

        // Attention: each key and value head for its group of query heads.
        let group = query / config.kv_heads;
        let (cached, queries) = (&*cache, &*qkv);
        team.for_tiles(attended, query, (TOKENS, group), |tokens, columns, mut tile| {
            let queries = Queries {
                queries: &queries[tokens.start * width + columns.start..],
                stride: width,
                group: group / config.head_dim,
                head_dim: config.head_dim,
                tokens: tokens.len(),
                start: start + tokens.start,
            };
            let head = cached.head(l, columns.start / group, start + tokens.end);
            ATTENTION.with_borrow_mut(|buffer| attend(isa, &queries, head, &mut tile, buffer));
        });
        let inputs = Inputs::new(team, isa, attended, query, quantized, &[attention_output]);
        add_product(team, attention_output, inputs, x);

        // Feed-forward network: down(silu(gate(x)) · up(x)).
        norm(team, x, feed_forward_norm, config.rms_epsilon, normed);
        let inputs = Inputs::new(team, isa, normed, embedding, quantized, &[gate, up]);
        let rows = chunk_rows(team, gate, gate.rows(), &inputs);
        team.for_columns(hidden, config.feed_forward, rows, |rows, mut columns| {
            gate.multiply(rows.clone(), &inputs, |token, row, y| {
                columns.row(token)[row - rows.start..][..y.len()].copy_from_slice(y);
            });
            up.multiply(rows.clone(), &inputs, |token, row, y| {
                ops::gate(isa, &mut columns.row(token)[row - rows.start..][..y.len()], y);
            });
        });
        let inputs = Inputs::new(team, isa, hidden, config.feed_forward, quantized, &[down]);
        add_product(team, down, inputs, x);
    }
    cache.advance(t);

    let wanted = match logits {
        Logits::Last => &x[(t - 1) * embedding..],
        Logits::All => &*x,
    };
    let count = wanted.len() / embedding;
    let normed = &mut normed[..wanted.len()];
    norm(team, wanted, &weights.output_norm, config.rms_epsilon, normed);
    let output = weights.output();
    let inputs = Inputs::new(team, isa, normed, embedding, quantized, &[output]);
    let out = &mut out[..count * config.vocab];
    team.for_columns(
        out,
        config.vocab,
        chunk_rows(team, output, config.vocab, &inputs),
        |rows, mut columns| {
            output.multiply(rows.clone(), &inputs, |token, row, y| {
                columns.row(token)[row - rows.start..][..y.len()].copy_from_slice(y);
            });
        },
    );
}

/// Rows of a chunk, when `rows` rows of the length of `matrix`'s, for some inputs, are to be shared by a team.
fn chunk_rows(team: &Team, matrix: &Matrix, rows: usize, inputs: &Inputs) -> usize {
    let share = rows / (CHUNKS_PER_THREAD * team.threads());
    if inputs.in_tiles(matrix) {
        // Whole panels, as many as share the reading of a tile.
        return (share / gemm::ROWS * gemm::ROWS).clamp(gemm::ROWS, gemm::PANELS * gemm::ROWS);
    }
    let most = (CHUNK_BYTES / matrix.row_bytes()).min(share);
    (most / ROWS * ROWS).clamp(ROWS, MAX_ROWS)
}

/// The norm of each token.
fn norm(team: &Team, x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let width = weight.len();
    team.for_tiles(y, width, (TOKENS, width), |tokens, _, mut tile| {
        for (i, token) in tokens.enumerate() {
            rms_norm(&x[token * width..][..width], weight, epsilon, tile.row(i));
        }
    });
}

/// x += W · inputs, for each token.
fn add_product(team: &Team, matrix: &Matrix, inputs: Inputs, x: &mut [f32]) {
    let rows = matrix.rows();
    team.for_columns(x, rows, chunk_rows(team, matrix, rows, &inputs), |rows, mut columns| {
        matrix.multiply(rows.clone(), &inputs, |token, row, product| {
            for (x, product) in columns.row(token)[row - rows.start..].iter_mut().zip(product) {
                *x += product;
            }
        });
    });
}
