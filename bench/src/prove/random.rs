//! Random numbers and random cases, from a seed.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Xorshift with a multiplier: the tests need no better.
pub struct Random(pub u64);

impl Random {
    /// 32 bits.
    pub fn next(&mut self) -> u64 {
        // The state must not be 0; neighbouring seeds should differ at once.
        if self.0 >> 32 == 0 {
            self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 32;
        }
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    /// From -1 to 1.
    pub fn uniform(&mut self) -> f32 {
        self.next() as f32 / (1_u64 << 31) as f32 - 1.0
    }

    /// Of mean 0 and variance 1: the sum of twelve uniform numbers.
    pub fn gaussian(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() / 2.0
    }
}

/// The seed of random cases: QUANTLOOM_SEED, or a new one.
pub fn seed() -> u64 {
    match std::env::var("QUANTLOOM_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| {
            panic!("QUANTLOOM_SEED={text:?} is not a whole number from 0 to {}", u64::MAX)
        }),
        Err(_) => {
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(0)
        }
    }
}

/// So many of proptest's cases from `seed`, minimised where one fails.
pub fn cases<S: Strategy>(
    count: u32,
    seed: u64,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), String>,
) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: count, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&strategy, |value| test(value).map_err(TestCaseError::fail));
    result.map_err(|error| format!("QUANTLOOM_SEED={seed}: {error}"))
}
