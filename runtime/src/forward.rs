//! The forward pass of a Llama model.

use quantloom_kernels::Supported;

use crate::cache::{Kind, KvCache};
use crate::matrix::{Inputs, Matrix};
use crate::model::{Layer, Weights};
use crate::ops::{attend, rms_norm, rope, rotations, silu};
use crate::scratch::{Buffers, Scratch};
use crate::threads::Team;

/// Whose logits a pass computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    Last,
    All,
}

/// Bytes of a matrix that a thread takes at a time. Long enough that the memory system streams: with
/// 32 KiB decoding is a third slower. Short enough that the tokens of a batch find it in L2.
const CHUNK_BYTES: usize = 256 * 1024;
/// Fewer where that leaves less than this many chunks for each thread: one that loses its core should
/// delay the others little.
const CHUNKS_PER_THREAD: usize = 4;
/// The most rows in a chunk: those of a stack buffer.
const MAX_CHUNK: usize = 256;

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
    let Buffers { x, normed, qkv, attended, hidden, rotations: angles, blocks, logits: out } =
        scratch.buffers(t);

    for (&token, x) in tokens.iter().zip(x.chunks_exact_mut(embedding)) {
        weights.token_embedding.row(token as usize, x);
    }
    for (i, cos_sin) in angles.chunks_exact_mut(config.rope_dims).enumerate() {
        rotations(start + i, config.rope_base, cos_sin);
    }

    for (l, layer) in weights.layers.iter().enumerate() {
        let Layer { attention_norm, q, k, v, attention_output, feed_forward_norm, gate, up, down } = layer;

        // Queries, keys and values.
        norm(x, attention_norm, config.rms_epsilon, normed);
        let inputs = Inputs::new(isa, normed, embedding, blocks);
        team.for_columns(qkv, width, chunk_rows(team, q, width), |rows, mut columns| {
            for i in 0..t {
                let y = columns.row(i);
                let mut first = 0;
                for matrix in [q, k, v] {
                    // The part of this chunk that lies in this matrix.
                    let (from, to) = (rows.start.max(first), rows.end.min(first + matrix.rows()));
                    if from < to {
                        let y = &mut y[from - rows.start..to - rows.start];
                        matrix.multiply(from - first..to - first, inputs.token(i), y);
                    }
                    first += matrix.rows();
                }
            }
        });
        for (i, qkv) in qkv.chunks_exact_mut(width).enumerate() {
            let (query_key, value) = qkv.split_at_mut(query + key_value);
            rope(query_key, config.head_dim, &angles[i * config.rope_dims..][..config.rope_dims]);
            cache.store(l, Kind::Key, start + i, &query_key[query..]);
            cache.store(l, Kind::Value, start + i, value);
        }

        // Attention: each key and value head for its group of query heads.
        let group = query / config.kv_heads;
        let (cached, queries) = (&*cache, &*qkv);
        team.for_columns(attended, t * query, group, |range, mut columns| {
            let (i, first) = (range.start / query, range.start % query);
            let head = first / group;
            let keys = cached.head(l, Kind::Key, head, start + i + 1);
            let values = cached.head(l, Kind::Value, head, start + i + 1);
            let queries = &queries[i * width + first..][..group];
            attend(isa, queries, keys, values, config.head_dim, columns.row(0));
        });
        let inputs = Inputs::new(isa, attended, query, blocks);
        add_product(team, attention_output, t, inputs, x);

        // Feed-forward network: down(silu(gate(x)) · up(x)).
        norm(x, feed_forward_norm, config.rms_epsilon, normed);
        let inputs = Inputs::new(isa, normed, embedding, blocks);
        team.for_columns(
            hidden,
            config.feed_forward,
            chunk_rows(team, gate, gate.rows()),
            |rows, mut columns| {
                let mut gates = [0.0; MAX_CHUNK];
                let gates = &mut gates[..rows.len()];
                for i in 0..t {
                    let hidden = columns.row(i);
                    gate.multiply(rows.clone(), inputs.token(i), gates);
                    up.multiply(rows.clone(), inputs.token(i), hidden);
                    for (hidden, gate) in hidden.iter_mut().zip(&*gates) {
                        *hidden *= silu(*gate);
                    }
                }
            },
        );
        let inputs = Inputs::new(isa, hidden, config.feed_forward, blocks);
        add_product(team, down, t, inputs, x);
    }
    cache.advance(t);

    let wanted = match logits {
        Logits::Last => &x[(t - 1) * embedding..],
        Logits::All => &*x,
    };
    let count = wanted.len() / embedding;
    let normed = &mut normed[..wanted.len()];
    norm(wanted, &weights.output_norm, config.rms_epsilon, normed);
    let inputs = Inputs::new(isa, normed, embedding, blocks);
    let output = weights.output();
    team.for_columns(
        &mut out[..count * config.vocab],
        config.vocab,
        chunk_rows(team, output, config.vocab),
        |rows, mut columns| {
            for i in 0..count {
                output.multiply(rows.clone(), inputs.token(i), columns.row(i));
            }
        },
    );
}

/// Rows of a chunk, when `rows` rows of the length of `matrix`'s are to be shared by a team.
fn chunk_rows(team: &Team, matrix: &Matrix, rows: usize) -> usize {
    let most = (CHUNK_BYTES / matrix.row_bytes()).min(rows / (CHUNKS_PER_THREAD * team.threads()));
    // A multiple of the rows that kernels take at once.
    (most / 4 * 4).clamp(4, MAX_CHUNK)
}

fn norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(weight.len()).zip(y.chunks_exact_mut(weight.len())) {
        rms_norm(x, weight, epsilon, y);
    }
}

/// x += W · inputs, for each of `t` tokens.
fn add_product(team: &Team, matrix: &Matrix, t: usize, inputs: Inputs, x: &mut [f32]) {
    team.for_columns(x, matrix.rows(), chunk_rows(team, matrix, matrix.rows()), |rows, mut columns| {
        let mut product = [0.0; MAX_CHUNK];
        let product = &mut product[..rows.len()];
        for i in 0..t {
            matrix.multiply(rows.clone(), inputs.token(i), product);
            for (x, product) in columns.row(i).iter_mut().zip(&*product) {
                *x += product;
            }
        }
    });
}
