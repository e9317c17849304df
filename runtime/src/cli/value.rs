//! The values of flags. Each parser says what it expects in words that follow the name of the flag.

use std::ffi::OsString;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::draft::MAX_DRAFT;

type Result<T> = std::result::Result<T, String>;

/// 1 and more.
pub fn positive(text: &str) -> Result<usize> {
    parse(text, "a whole number from 1 up", |&n| n > 0)
}

/// How many tokens to generate; -1 for as many as it takes.
pub fn token_count(text: &str) -> Result<usize> {
    if text == "-1" {
        Ok(usize::MAX)
    } else {
        parse(text, "a whole number from 0 up, or -1 for no limit", |_| true)
    }
}

/// How many tokens may be drafted.
pub fn draft(text: &str) -> Result<usize> {
    parse(text, &format!("a whole number from 0 to {MAX_DRAFT}"), |&n| n <= MAX_DRAFT)
}

/// 0 and more.
pub fn top_k(text: &str) -> Result<usize> {
    parse(text, "a whole number from 0 up", |_| true)
}

pub fn temperature(text: &str) -> Result<f32> {
    parse(text, "a number from 0 up", |&t: &f32| t >= 0.0 && t.is_finite())
}

pub fn top_p(text: &str) -> Result<f32> {
    parse(text, "a number above 0 and up to 1", |&p: &f32| 0.0 < p && p <= 1.0)
}

/// `None` for a random one. By a name of its own, as clap takes an `Option` for a flag that may be absent.
pub type Seed = Option<u64>;

/// -1 for a random one, as in llama.cpp.
pub fn seed(text: &str) -> Result<Seed> {
    if text == "-1" {
        Ok(None)
    } else {
        parse(text, "a whole number from 0 to 18446744073709551615, or -1 for a random one", |_| true)
            .map(Some)
    }
}

pub fn token(text: &str) -> Result<u32> {
    parse(text.trim(), "a token id; ids are whole numbers, separated by commas", |_| true)
}

/// Text, which on some systems need not be Unicode.
pub fn text() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(|text: OsString| {
        let problem = |text: &OsString| match str::from_utf8(text.as_encoded_bytes()) {
            Err(error) => format!("not valid UTF-8 at byte {}", error.valid_up_to()),
            Ok(_) => "not valid Unicode".into(),
        };
        text.into_string().map_err(|text| problem(&text))
    })
}

fn parse<T: FromStr>(text: &str, expected: &str, is_good: impl FnOnce(&T) -> bool) -> Result<T> {
    text.parse().ok().filter(is_good).ok_or_else(|| format!("{text:?} is not {expected}"))
}
