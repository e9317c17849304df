//! The forward pass of a Llama model.

use std::cell::RefCell;
use std::ops::Range;

use quantloom_kernels::{Supported, gemm};

use crate::Config;
use crate::cache::KvCache;
use crate::matrix::{Inputs, MAX_ROWS, Matrix};
use crate::model::{Layer, Weights};
use crate::ops::attention::{PART, Queries, Room, attend, attend_part, join, partial_len};
use crate::ops::{self, rms_norm, rope, rotations};
use crate::profile::Phase;
use crate::scratch::{Buffers, Scratch};
use crate::threads::Team;

/// Bytes of a matrix that a thread takes at a time. Long enough that the memory system streams: with
/// 32 KiB decoding is a third slower. Short enough that tokens that go one by one find it in L2.
const CHUNK_BYTES: usize = 256 * 1024;
/// Fewer where that leaves less than this many chunks for each thread: one that loses its core should
/// delay the others little.
const CHUNKS_PER_THREAD: usize = 4;
/// Rows that kernels take at once of one token.
const ROWS: usize = 8;
/// Tokens that a thread takes at a time where each has its own work: norms, rotations, and attention, which converts
/// keys and values once for all of them. Eight query heads of 16 tokens keep a converted tile busy for some twenty
/// times as long as its conversion takes.
pub const TOKENS: usize = 16;

thread_local! {
    /// Each thread's room for attention; it grows with the longest heads.
    static ATTENTION: RefCell<Room> = RefCell::default();
}

/// Makes this thread's room for attention, so that no token has to.
pub fn prepare(config: &Config) {
    let group = config.heads / config.kv_heads;
    ATTENTION.with_borrow_mut(|room| room.reserve(config.head_dim, group, TOKENS));
}

/// Runs `tokens` through the model after those in `cache`, and adds them to it. Of the last `logits` of them it computes
/// the logits; of all others the last layer computes only keys and values, as nothing reads more of them.
///
/// The caller has checked that tokens are in the vocabulary and that they fit cache and scratch.
pub fn pass(
    weights: &Weights,
    team: &Team,
    isa: Supported,
    tokens: &[u32],
    cache: &mut KvCache,
    scratch: &mut Scratch,
    logits: usize,
) {
    let config = &weights.config;
    let (embedding, query, key_value) = (config.embedding, config.query(), config.key_value());
    let width = query + 2 * key_value;
    let start = cache.len();
    let t = tokens.len();
    let Buffers {
        mut x,
        normed,
        qkv,
        attended,
        partials,
        hidden,
        rotations: angles,
        quantized,
        logits: out,
        mut clock,
    } = scratch.buffers(t);

    for (&token, x) in tokens.iter().zip(x.chunks_exact_mut(embedding)) {
        weights.token_embedding.row(token as usize, x);
    }
    team.for_tiles(angles, config.rope_dims, (TOKENS, config.rope_dims), |tokens, _, mut tile| {
        for (i, token) in tokens.enumerate() {
            rotations(start + token, config.rope_base, tile.row(i));
        }
    });

    clock.end(Phase::Embedding);
    for (l, layer) in weights.layers.iter().enumerate() {
        let Layer { attention_norm, q, k, v, attention_output, feed_forward_norm, gate, up, down } = layer;
        // The last layer's inputs count in an importance matrix as those of all others do: of every token.
        let needs_all = l + 1 < weights.layers.len() || quantized.collector.is_some();
        // Tokens from this one on need more than keys and values.
        let first = if needs_all { 0 } else { t - logits };

        // Queries, keys and values.
        norm(team, x, attention_norm, config.rms_epsilon, normed);
        let inputs = Inputs::new(team, isa, normed, embedding, quantized, &[q, k, v], t);
        clock.end(Phase::Norm);
        let (asking, skipped) = inputs.from(first);
        team.for_columns(qkv, width, chunk_rows(team, q, width, &inputs), |rows, mut columns| {
            let mut column = 0;
            for (matrix, inputs, skipped) in [(q, &asking, skipped), (k, &inputs, 0), (v, &inputs, 0)] {
                // The part of this chunk that lies in this matrix.
                let (from, to) = (rows.start.max(column), rows.end.min(column + matrix.rows()));
                if from < to {
                    matrix.multiply(from - column..to - column, inputs, |token, row, y| {
                        columns.row(skipped + token)[column + row - rows.start..][..y.len()]
                            .copy_from_slice(y);
                    });
                }
                column += matrix.rows();
            }
        });
        clock.end(Phase::QueryKeyValue);
        team.for_tiles(qkv, width, (TOKENS, width), |tokens, _, mut tile| {
            for (i, token) in tokens.enumerate() {
                let angles = &angles[token * config.rope_dims..][..config.rope_dims];
                let heads = if token < first { query } else { 0 }..query + key_value;
                rope(&mut tile.row(i)[heads], config.head_dim, angles);
            }
        });
        cache.store(team, l, start, &qkv[query..], width);
        clock.end(Phase::Cache);
        if first == t {
            break;
        }
        // From here on the buffers hold these tokens alone.
        let rest = t - first;
        x = &mut x[first * embedding..];
        let [normed, attended, hidden] =
            [(&mut *normed, embedding), (&mut *attended, query), (&mut *hidden, config.feed_forward)]
                .map(|(buffer, width)| &mut buffer[..rest * width]);

        // Attention: each key and value head for its group of query heads.
        let group = query / config.kv_heads;
        let (cached, qkv) = (&*cache, &*qkv);
        let queries = |tokens: Range<usize>, kv_head: usize| Queries {
            queries: &qkv[(first + tokens.start) * width + kv_head * group..],
            stride: width,
            group: group / config.head_dim,
            head_dim: config.head_dim,
            tokens: tokens.len(),
            start: start + first + tokens.start,
        };
        let head = |kv_head: usize| cached.head(l, kv_head, start + t);
        let parts = (start + t).div_ceil(PART);
        let one = partial_len(rest * group / config.head_dim, config.head_dim);
        let all = one * config.kv_heads;
        if rest <= TOKENS && parts > 1 && parts * all <= partials.len() {
            // A chunk for each head would be too few, and long: one for each part, too.
            let partials = &mut partials[..parts * all];
            team.for_tiles(partials, all, (1, one), |part, columns, mut partial| {
                let kv_head = columns.start / one;
                ATTENTION.with_borrow_mut(|room| {
                    let queries = queries(0..rest, kv_head);
                    attend_part(isa, &queries, &head(kv_head), part.start, room, partial.row(0));
                });
            });
            let partials = &*partials;
            team.for_tiles(attended, query, (TOKENS, group), |tokens, columns, mut tile| {
                let head = columns.start / group * one;
                let partials = partials.chunks_exact(all).map(|part| &part[head..head + one]);
                for token in tokens {
                    for (head, out) in tile.row(token).chunks_exact_mut(config.head_dim).enumerate() {
                        join(partials.clone(), token * group / config.head_dim + head, out);
                    }
                }
            });
        } else {
            team.for_tiles(attended, query, (TOKENS, group), |tokens, columns, mut tile| {
                let kv_head = columns.start / group;
                let queries = queries(tokens, kv_head);
                ATTENTION.with_borrow_mut(|room| attend(isa, &queries, &head(kv_head), &mut tile, room));
            });
        }
        clock.end(Phase::Attention);
        let inputs = Inputs::new(team, isa, attended, query, quantized, &[attention_output], t);
        clock.end(Phase::Quantize);
        add_product(team, attention_output, inputs, x);
        clock.end(Phase::AttentionOutput);

        // Feed-forward network: down(silu(gate(x)) · up(x)).
        norm(team, x, feed_forward_norm, config.rms_epsilon, normed);
        let inputs = Inputs::new(team, isa, normed, embedding, quantized, &[gate, up], t);
        clock.end(Phase::Norm);
        let rows = chunk_rows(team, gate, gate.rows(), &inputs);
        let together = inputs.in_tiles(gate) && inputs.in_tiles(up);
        team.for_columns(hidden, config.feed_forward, rows, |rows, mut columns| {
            if together {
                return Matrix::multiply_both([gate, up], rows.clone(), &inputs, |token, row, [gate, up]| {
                    let hidden = &mut columns.row(token)[row - rows.start..][..gate.len()];
                    hidden.copy_from_slice(gate);
                    ops::gate(isa, hidden, up);
                });
            }
            gate.multiply(rows.clone(), &inputs, |token, row, y| {
                columns.row(token)[row - rows.start..][..y.len()].copy_from_slice(y);
            });
            up.multiply(rows.clone(), &inputs, |token, row, y| {
                ops::gate(isa, &mut columns.row(token)[row - rows.start..][..y.len()], y);
            });
        });
        clock.end(Phase::GateUp);
        let inputs = Inputs::new(team, isa, hidden, config.feed_forward, quantized, &[down], t);
        clock.end(Phase::Quantize);
        add_product(team, down, inputs, x);
        clock.end(Phase::Down);
    }
    cache.advance(t);
    if logits == 0 {
        return;
    }

    let wanted = &x[x.len() - logits * embedding..];
    let normed = &mut normed[..wanted.len()];
    norm(team, wanted, &weights.output_norm, config.rms_epsilon, normed);
    let output = weights.output();
    let inputs = Inputs::new(team, isa, normed, embedding, quantized, &[output], logits);
    clock.end(Phase::Norm);
    let out = &mut out[..logits * config.vocab];
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
    clock.end(Phase::Logits);
}

/// Rows of a chunk, when `rows` rows of the length of `matrix`'s, for some inputs, are to be shared by a team.
fn chunk_rows(team: &Team, matrix: &Matrix, rows: usize, inputs: &Inputs) -> usize {
    let share = rows / (CHUNKS_PER_THREAD * team.threads());
    if inputs.in_tiles(matrix) {
        // Whole panels, as many as share the reading of a tile.
        return (share / gemm::ROWS * gemm::ROWS).clamp(gemm::ROWS, gemm::PANELS * gemm::ROWS);
    }
    let most = (CHUNK_BYTES / matrix.row_bytes()).min(share).clamp(ROWS, MAX_ROWS);
    // As many for each thread, all alike: none waits for another's last chunk.
    let chunks = rows.div_ceil(most).next_multiple_of(team.threads());
    rows.div_ceil(chunks).next_multiple_of(ROWS)
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
