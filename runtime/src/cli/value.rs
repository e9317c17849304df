//! The values of flags. Each parser says what it expects in words that follow the name of the flag.

use std::ffi::OsString;
use std::iter;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::CacheType;
use crate::draft::MAX_DRAFT;
use crate::gguf::Formats;
use crate::threads::MAX_THREADS;

type Result<T> = std::result::Result<T, String>;

/// 1 and more.
pub fn positive(text: &str) -> Result<usize> {
    parse(text, "a whole number from 1 up", |&n| n > 0)
}

/// The values of a list, one at least. By a name of its own, as clap takes a `Vec` for a flag that may be repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl<T> List<T> {
    /// The values of all times that a flag was given.
    pub fn concat(lists: Vec<Self>) -> Vec<T> {
        lists.into_iter().flat_map(|List(values)| values).collect()
    }
}

/// Numbers of tokens, as [`numbers`].
pub fn counts(text: &str) -> Result<List<usize>> {
    numbers(text, "a whole number from 0 up", |_| true)
}

/// Numbers of threads, as [`numbers`].
pub fn threads(text: &str) -> Result<List<usize>> {
    numbers(text, &format!("a whole number from 1 to {MAX_THREADS}"), |n| (1..=MAX_THREADS).contains(n))
}

/// Tokens of a prompt and tokens generated after it.
pub fn prompt_and_generation(text: &str) -> Result<(usize, usize)> {
    let expected = || format!("{text:?} is not two whole numbers, as in 512,128");
    let (prompt, generate) = text.split_once(',').ok_or_else(expected)?;
    match (prompt.parse(), generate.parse()) {
        (Ok(0), Ok(0)) => Err(format!("{text:?} tests nothing: one of the two must be above 0")),
        (Ok(prompt), Ok(generate)) => Ok((prompt, generate)),
        _ => Err(expected()),
    }
}

/// How many tokens to generate; -1 for as many as it takes.
pub fn token_count(text: &str) -> Result<usize> {
    if text == "-1" {
        Ok(usize::MAX)
    } else {
        parse(text, "a whole number from 0 up, or -1 for no limit", |_| true)
    }
}

/// How many chunks of a text to score; -1 for all.
pub fn chunks(text: &str) -> Result<usize> {
    if text == "-1" {
        Ok(usize::MAX)
    } else {
        parse(text, "a whole number from 1 up, or -1 for all", |&n| n > 0)
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

pub fn seconds(text: &str) -> Result<Duration> {
    parse(text, "a whole number of seconds from 0 up", |_| true).map(Duration::from_secs)
}

/// A type of the KV cache, by its name in upper or lower case.
pub fn cache_type(formats: &Formats, name: &str) -> Result<CacheType> {
    let types = || formats.types().filter_map(CacheType::of);
    types().find(|ty| ty.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
        let known = types().map(|ty| ty.name().to_lowercase()).collect::<Vec<_>>().join(", ");
        format!("{name:?} is no type of a KV cache; there are {known}")
    })
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

/// Numbers and ranges of them, as in llama-bench: `8`, `1,2,4`, `1-4`, `512-2048+512`, `1-16*2`.
fn numbers(text: &str, expected: &str, is_good: impl Fn(&usize) -> bool) -> Result<List<usize>> {
    let mut values = Vec::new();
    for part in text.split(',') {
        let range = range(text, part, expected)?;
        if let Some(bad) = range.iter().find(|&n| !is_good(n)) {
            return Err(format!("{bad} is not {expected}"));
        }
        values.extend(range);
    }
    Ok(List(values))
}

/// `part` of the list `text`.
fn range(text: &str, part: &str, expected: &str) -> Result<Vec<usize>> {
    /// Each value is one test or many: more are a slip.
    const MOST: usize = 1000;
    let number = |number: &str| {
        let problem = || format!("{text:?} is not {expected}, nor a list 1,2 or a range 1-8, 1-8+2 or 1-8*2");
        number.parse::<usize>().map_err(|_| problem())
    };
    let Some((first, rest)) = part.split_once('-') else { return Ok(vec![number(part)?]) };
    let (last, multiplies, step) = match rest.split_once(['+', '*']) {
        Some((last, step)) => (last, rest[last.len()..].starts_with('*'), step),
        None => (rest, false, "1"),
    };
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    if last < first {
        return Err(format!("the range {part:?} ends before it begins: write {last}-{first}"));
    }
    let next = |&n: &usize| if multiplies { n.checked_mul(step) } else { n.checked_add(step) };
    if next(&first).is_some_and(|second| second <= first) {
        return Err(format!("the range {part:?} never gets beyond {first}"));
    }
    let values: Vec<_> =
        iter::successors(Some(first), next).take_while(|&n| n <= last).take(MOST + 1).collect();
    if values.len() > MOST {
        return Err(format!("the range {part:?} has more than {MOST} values: take a greater step"));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_those_of_llama_bench() {
        let cases: [(&str, &[usize]); 16] = [
            ("512", &[512]),
            ("0", &[0]),
            ("1,2,4", &[1, 2, 4]),
            ("4,4", &[4, 4]),
            ("1-4", &[1, 2, 3, 4]),
            ("3-3", &[3]),
            ("0-2", &[0, 1, 2]),
            ("512-2048+512", &[512, 1024, 1536, 2048]),
            ("1-8+3", &[1, 4, 7]),
            ("1-16*2", &[1, 2, 4, 8, 16]),
            ("3-20*3", &[3, 9]),
            ("8,1-3,16-64*2,7", &[8, 1, 2, 3, 16, 32, 64, 7]),
            ("1-9+100", &[1]),
            ("18446744073709551615", &[usize::MAX]),
            ("18446744073709551614-18446744073709551615", &[usize::MAX - 1, usize::MAX]),
            ("9223372036854775808-18446744073709551615*2", &[1 << 63]),
        ];
        for (text, expected) in cases {
            assert_eq!(counts(text), Ok(List(expected.to_vec())), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let cases = [
            ("", "\"\" is not a whole number from 0 up, nor a list"),
            (",", "is not a whole number"),
            ("1,", "\"1,\" is not a whole number"),
            ("1,,2", "is not a whole number"),
            ("-1", "is not a whole number"),
            ("1-", "is not a whole number"),
            ("1-2-3", "is not a whole number"),
            ("1-8+", "is not a whole number"),
            ("1-8*2*2", "is not a whole number"),
            ("1+2", "is not a whole number"),
            ("x", "is not a whole number"),
            ("1.5", "is not a whole number"),
            ("18446744073709551616", "is not a whole number"),
            ("8-1", "\"8-1\" ends before it begins: write 1-8"),
            ("1-8+0", "\"1-8+0\" never gets beyond 1"),
            ("1-8*1", "never gets beyond 1"),
            ("0-8*2", "never gets beyond 0"),
            ("1-1001", "\"1-1001\" has more than 1000 values"),
            ("1-18446744073709551615", "has more than 1000 values"),
        ];
        for (text, expected) in cases {
            let problem = counts(text).unwrap_err();
            assert!(problem.contains(expected), "{text:?}: {problem}, expected {expected}");
        }
    }

    #[test]
    fn threads_are_within_what_a_team_can_have() {
        assert_eq!(threads("1,1024"), Ok(List(vec![1, MAX_THREADS])));
        for (text, bad) in [("0", "0"), ("2,0-1", "0"), ("1025", "1025"), ("512-2048*2", "2048")] {
            assert_eq!(threads(text), Err(format!("{bad} is not a whole number from 1 to 1024")), "{text:?}");
        }
    }

    #[test]
    fn prompts_and_generations_are_pairs() {
        assert_eq!(prompt_and_generation("512,128"), Ok((512, 128)));
        assert_eq!(prompt_and_generation("0,1"), Ok((0, 1)));
        for text in ["", "512", "512,", ",1", "1,2,3", "-1,2", "0,0", "1;2"] {
            assert!(prompt_and_generation(text).is_err(), "{text:?}");
        }
    }
}
