//! The methods of Python's strings.
//!
//! Places are counted in characters, as Python does, and every result is made of pieces of what it comes from.

use std::iter::once;
use std::ops::Range;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::arguments::{self, Arguments};
use super::budget::{Budget, Result, fault};
use super::format;
use super::interpreter::Interpreter;
use super::lexer::is_space;
use super::operators;
use super::print;
use super::text::{Text, TextBuilder};
use super::value::{Dict, Row, VALUE_BYTES, Value};

/// The methods.
pub(super) const NAMES: [&str; 44] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];

/// `text.name(arguments)`.
pub(super) fn call(
    interpreter: &mut Interpreter<'_>,
    text: &Text,
    name: &str,
    arguments: Arguments,
) -> Result<Value> {
    let budget = interpreter.budget;
    let string = text.as_str();
    budget.scan(text.len())?;
    let part = |range: Range<usize>| text.slice(budget, range).map(Value::Text);
    let none = |arguments: Arguments| arguments.bind(name, [], 0).map(|[]| ());
    Ok(match name {
        "upper" => {
            none(arguments)?;
            Value::Text(upper(budget, text)?)
        }
        "lower" => {
            none(arguments)?;
            Value::Text(lower(budget, text)?)
        }
        "casefold" => {
            none(arguments)?;
            // Most of what folds specially does so by its capital: ß, ſ, ς and ligatures.
            let fold = |_, c: char| c.to_uppercase().flat_map(char::to_lowercase);
            Value::Text(text.map_chars(budget, fold)?)
        }
        "swapcase" => {
            none(arguments)?;
            Value::Text(text.map_chars(budget, |at, c| {
                if c.is_uppercase() { lower_char(string, at, c) } else { upper_char(c) }
            })?)
        }
        "capitalize" => {
            none(arguments)?;
            Value::Text(capitalize(budget, text)?)
        }
        "title" => {
            none(arguments)?;
            let mut is_inside = false;
            Value::Text(text.map_chars(budget, |at, c| {
                let mapped = if is_inside { lower_char(string, at, c) } else { title_char(c) };
                is_inside = is_cased(c);
                mapped
            })?)
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = arguments.bind(name, ["chars"], 0)?;
            let sides = (name != "rstrip", name != "lstrip");
            Value::Text(strip(budget, text, arguments::text(&chars, "chars")?, sides)?)
        }
        "split" | "rsplit" => {
            let [separator, most] = arguments.bind(name, ["sep", "maxsplit"], 0)?;
            let separator = arguments::text(&separator, "a separator")?;
            let most = arguments::int(&most, "maxsplit")?.unwrap_or(-1);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            if separator.is_some_and(Text::is_empty) {
                return Err(fault!("empty separator"));
            }
            match separator {
                Some(separator) => budget.search(text.len(), separator.len())?,
                None => budget.walk(text.len())?,
            }
            let ranges: Box<dyn Iterator<Item = Range<usize>>> = match (separator, name) {
                (None, "split") => Box::new(words(string, most)),
                (None, _) => Box::new(words_from_right(string, most)),
                (Some(separator), "split") => {
                    Box::new(pieces(string, string.splitn(most.saturating_add(1), separator.as_str())))
                }
                (Some(separator), _) => {
                    Box::new(pieces(string, string.rsplitn(most.saturating_add(1), separator.as_str())))
                }
            };
            let mut parts = texts(budget, text, ranges)?;
            if name == "rsplit" {
                parts.reverse();
            }
            Value::list(parts)?
        }
        "splitlines" => {
            let [keep] = arguments.bind(name, ["keepends"], 0)?;
            budget.walk(text.len())?;
            Value::list(texts(budget, text, lines(string, arguments::flag(&keep)))?)?
        }
        "partition" | "rpartition" => {
            let [separator] = arguments.bind(name, ["sep"], 1)?;
            let separator = separator.unwrap_or(Value::None);
            let separator = separator.expect_text("a separator")?;
            if separator.is_empty() {
                return Err(fault!("empty separator"));
            }
            budget.search(text.len(), separator.len())?;
            let found = match name {
                "partition" => string.find(separator.as_str()),
                _ => string.rfind(separator.as_str()),
            };
            let empty = || Value::own("");
            budget.product(VALUE_BYTES, 3)?;
            Value::tuple(match found {
                Some(at) => {
                    let after = at + separator.len();
                    vec![part(0..at)?, part(at..after)?, part(after..text.len())?]
                }
                None if name == "partition" => vec![part(0..text.len())?, empty(), empty()],
                None => vec![empty(), empty(), part(0..text.len())?],
            })?
        }
        "removeprefix" => {
            let [prefix] = arguments.bind(name, ["prefix"], 1)?;
            let prefix = prefix.unwrap_or(Value::None);
            let prefix = prefix.expect_text("a prefix")?.as_str();
            part(if string.starts_with(prefix) { prefix.len() } else { 0 }..text.len())?
        }
        "removesuffix" => {
            let [suffix] = arguments.bind(name, ["suffix"], 1)?;
            let suffix = suffix.unwrap_or(Value::None);
            let suffix = suffix.expect_text("a suffix")?.as_str();
            part(0..text.len() - if string.ends_with(suffix) { suffix.len() } else { 0 })?
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [wanted, start, end] = arguments.bind(name, ["sub", "start", "end"], 1)?;
            let wanted = wanted.unwrap_or(Value::None);
            let wanted = wanted.expect_text("what is searched")?.as_str();
            budget.search(text.len(), wanted.len())?;
            let range = bytes_between(string, &start, &end)?;
            let window = range.clone().map(|range| &string[range]);
            if name == "count" {
                let count = window.map_or(0, |window| operators::find_all(window, wanted).count());
                return Ok(Value::Int(count as i128));
            }
            let found = window.and_then(|window| match name {
                "find" | "index" => window.find(wanted),
                _ => window.rfind(wanted),
            });
            match found.zip(range) {
                Some((at, range)) => Value::Int(string[..range.start + at].chars().count() as i128),
                None if name.ends_with("find") => Value::Int(-1),
                None => return Err(fault!("substring not found")),
            }
        }
        "startswith" | "endswith" => {
            let [wanted, start, end] = arguments.bind(name, ["prefix", "start", "end"], 1)?;
            let window = bytes_between(string, &start, &end)?.map(|range| &string[range]);
            let matches = |wanted: &Value| -> Result<bool> {
                let wanted = wanted.expect_text(format_args!("what {name} looks for"))?.as_str();
                budget.scan(wanted.len().min(text.len()))?;
                Ok(window.is_some_and(|window| match name {
                    "startswith" => window.starts_with(wanted),
                    _ => window.ends_with(wanted),
                }))
            };
            let wanted = wanted.unwrap_or(Value::None);
            Value::Bool(match &wanted {
                Value::List(list) if list.row == Row::Tuple => {
                    budget.steps(list.items.len())?;
                    let mut is_found = false;
                    for item in &list.items {
                        is_found = is_found || matches(item)?;
                    }
                    is_found
                }
                wanted => matches(wanted)?,
            })
        }
        "replace" => {
            let [old, new, count] = arguments.bind(name, ["old", "new", "count"], 2)?;
            let old =
                arguments::text(&old, "what is replaced")?.ok_or_else(|| fault!("replace needs a text"))?;
            let new =
                arguments::text(&new, "the replacement")?.ok_or_else(|| fault!("replace needs a text"))?;
            let count = arguments::int(&count, "count")?.unwrap_or(-1);
            Value::Text(replace(budget, text, old, new, count)?)
        }
        "join" => {
            let [items] = arguments.bind(name, ["iterable"], 1)?;
            let items = items.unwrap_or(Value::None);
            items.defined()?;
            let items = operators::items(budget, &items)?;
            let mut out = TextBuilder::new(budget);
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_text(text)?;
                }
                out.push_text(item.expect_text("an item that is joined")?)?;
            }
            Value::Text(out.finish()?)
        }
        "ljust" | "rjust" | "center" => {
            let [width, fill] = arguments.bind(name, ["width", "fillchar"], 1)?;
            let width = arguments::size(&width, "the width")?.unwrap_or(0);
            let space = Text::own(" ");
            let fill = arguments::text(&fill, "the fill character")?.unwrap_or(&space);
            if fill.as_str().chars().nth(1).is_some() || fill.is_empty() {
                return Err(fault!("the fill character must be exactly one character long"));
            }
            let missing = width.saturating_sub(string.chars().count());
            let before = match name {
                "ljust" => 0,
                "rjust" => missing,
                _ => missing / 2 + (missing & width & 1),
            };
            Value::Text(padded(budget, text, fill, before, missing - before)?)
        }
        "zfill" => {
            let [width] = arguments.bind(name, ["width"], 1)?;
            let width = arguments::size(&width, "the width")?.unwrap_or(0);
            let missing = width.saturating_sub(string.chars().count());
            let sign = usize::from(string.starts_with(['+', '-']));
            let mut out = TextBuilder::new(budget);
            out.push_part(text, 0..sign)?;
            out.push_repeated(&Text::own("0"), missing)?;
            out.push_part(text, sign..text.len())?;
            Value::Text(out.finish()?)
        }
        "expandtabs" => {
            let [size] = arguments.bind(name, ["tabsize"], 0)?;
            let size = arguments::size(&size, "the tab size")?.unwrap_or(8);
            let mut out = TextBuilder::new(budget);
            let mut column = 0;
            budget.walk(text.len())?;
            for (_, c, is_content) in text.chars(0..text.len()) {
                match c {
                    '\t' if size == 0 => {}
                    '\t' => {
                        let spaces = size - column % size;
                        out.push_repeated(&Text::own(" "), spaces)?;
                        column = 0;
                    }
                    c => {
                        out.push_char(c, is_content)?;
                        column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                    }
                }
            }
            Value::Text(out.finish()?)
        }
        "format" => {
            let Arguments { positional, keyword } = arguments;
            let mut named = Dict::new();
            for (name, value) in keyword {
                named.insert(budget, Value::Text(name), value)?;
            }
            Value::Text(interpreter.format(text, &positional, &named)?)
        }
        "format_map" => {
            let [values] = arguments.bind(name, ["mapping"], 1)?;
            let Some(Value::Dict(dict)) = values else { return Err(fault!("format_map needs a dictionary")) };
            Value::Text(interpreter.format(text, &[], &dict)?)
        }
        _ => {
            none(arguments)?;
            budget.walk(text.len())?;
            Value::Bool(is(name, string))
        }
    })
}

/// `text` with `fill`, one character, around it.
pub(super) fn padded(budget: &Budget, text: &Text, fill: &Text, before: usize, after: usize) -> Result<Text> {
    let mut out = TextBuilder::new(budget);
    out.push_repeated(fill, before)?;
    out.push_text(text)?;
    out.push_repeated(fill, after)?;
    out.finish()
}

pub(super) fn upper(budget: &Budget, text: &Text) -> Result<Text> {
    text.map_chars(budget, |_, c| c.to_uppercase())
}

pub(super) fn lower(budget: &Budget, text: &Text) -> Result<Text> {
    let string = text.as_str();
    text.map_chars(budget, |at, c| lower_char(string, at, c))
}

pub(super) fn capitalize(budget: &Budget, text: &Text) -> Result<Text> {
    let string = text.as_str();
    text.map_chars(budget, |at, c| if at == 0 { title_char(c) } else { lower_char(string, at, c) })
}

/// A few characters.
pub(super) type Chars = std::iter::Flatten<std::array::IntoIter<Option<char>, 3>>;

fn few(chars: impl Iterator<Item = char>) -> Chars {
    let mut array = [None; 3];
    for (place, c) in array.iter_mut().zip(chars) {
        *place = Some(c);
    }
    array.into_iter().flatten()
}

pub(super) fn upper_char(c: char) -> Chars {
    few(c.to_uppercase())
}

/// The small letter of `c`, which is at `at` of `string`: a sigma that ends a word has its own.
pub(super) fn lower_char(string: &str, at: usize, c: char) -> Chars {
    if c == 'Σ' {
        // Marks between letters do not end a word.
        let is_mark = |c: &char| !c.is_alphanumeric() && !is_space(*c) && !c.is_ascii_punctuation();
        let near = 32;
        let before = string[..at].chars().rev().take(near).find(|c| !is_mark(c));
        let after = string[at + c.len_utf8()..].chars().take(near).find(|c| !is_mark(c));
        if before.is_some_and(is_cased) && !after.is_some_and(is_cased) {
            return few(once('ς'));
        }
    }
    few(c.to_lowercase())
}

/// The capital that begins a word: of a pair of letters only the first is large.
pub(super) fn title_char(c: char) -> Chars {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => few(once('ǅ')),
        'Ǉ' | 'ǈ' | 'ǉ' => few(once('ǈ')),
        'Ǌ' | 'ǋ' | 'ǌ' => few(once('ǋ')),
        'Ǳ' | 'ǲ' | 'ǳ' => few(once('ǲ')),
        _ => few(c
            .to_uppercase()
            .enumerate()
            .flat_map(|(index, c)| if index == 0 { few(once(c)) } else { few(c.to_lowercase()) })),
    }
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || c.general_category() == GeneralCategory::TitlecaseLetter
}

/// `text` without white space or `chars` at the sides that are wanted.
pub(super) fn strip(
    budget: &Budget,
    text: &Text,
    chars: Option<&Text>,
    (left, right): (bool, bool),
) -> Result<Text> {
    // Only what goes away is looked at, and one character more at each side.
    let is_stripped = |c: char| -> Result<bool> {
        budget.steps(1 + chars.map_or(0, Text::len) / 8)?;
        Ok(chars.map_or_else(|| is_space(c), |chars| chars.as_str().contains(c)))
    };
    let string = text.as_str();
    let (mut start, mut end) = (0, string.len());
    while left
        && let Some(c) = string[start..end].chars().next()
        && is_stripped(c)?
    {
        start += c.len_utf8();
    }
    while right
        && let Some(c) = string[start..end].chars().next_back()
        && is_stripped(c)?
    {
        end -= c.len_utf8();
    }
    text.slice(budget, start..end)
}

/// `text` with `new` for the first `count` times that `old` is in it; for all if that is negative.
pub(super) fn replace(budget: &Budget, text: &Text, old: &Text, new: &Text, count: i128) -> Result<Text> {
    budget.search(text.len(), old.len())?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut out = TextBuilder::new(budget);
    let mut at = 0;
    for found in operators::find_all(text.as_str(), old.as_str()).take(count) {
        budget.steps(1)?;
        out.push_part(text, at..found.start)?;
        out.push_text(new)?;
        at = found.end;
    }
    out.push_part(text, at..text.len())?;
    out.finish()
}

/// The parts of `text` at `ranges`, as values.
pub(super) fn texts(
    budget: &Budget,
    text: &Text,
    ranges: impl Iterator<Item = Range<usize>>,
) -> Result<Vec<Value>> {
    let mut parts = Vec::new();
    for range in ranges {
        budget.steps(1)?;
        // A text has a block of its own.
        budget.product(VALUE_BYTES, 2)?;
        parts.push(Value::Text(text.slice(budget, range)?));
    }
    Ok(parts)
}

/// Where `parts` of `string` are.
fn pieces<'s>(string: &'s str, parts: impl Iterator<Item = &'s str>) -> impl Iterator<Item = Range<usize>> {
    let base = string.as_ptr().addr();
    parts.map(move |part| {
        let start = part.as_ptr().addr() - base;
        start..start + part.len()
    })
}

/// Words between white space; after `most` splits the rest is one word.
fn words(string: &str, most: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    let mut splits = 0;
    std::iter::from_fn(move || {
        let rest = string[at..].trim_start_matches(is_space);
        let start = string.len() - rest.len();
        if rest.is_empty() {
            return None;
        }
        let len = if splits < most { rest.find(is_space).unwrap_or(rest.len()) } else { rest.len() };
        splits += 1;
        at = start + len;
        Some(start..at)
    })
}

fn words_from_right(string: &str, most: usize) -> impl Iterator<Item = Range<usize>> {
    let mut end = string.len();
    let mut splits = 0;
    std::iter::from_fn(move || {
        let rest = string[..end].trim_end_matches(is_space);
        let stop = rest.len();
        if rest.is_empty() {
            return None;
        }
        let space = if splits < most { rest.char_indices().rev().find(|&(_, c)| is_space(c)) } else { None };
        let start = space.map_or(0, |(at, c)| at + c.len_utf8());
        splits += 1;
        end = start;
        Some(start..stop)
    })
}

/// The lines as Python ends them.
pub(super) fn lines(string: &str, keeps_ends: bool) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &string[at..];
        if rest.is_empty() {
            return None;
        }
        let is_end =
            |c: char| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let start = at;
        let len = rest.find(is_end).unwrap_or(rest.len());
        let end = match rest[len..].chars().next() {
            Some('\r') if rest[len + 1..].starts_with('\n') => 2,
            Some(c) => c.len_utf8(),
            None => 0,
        };
        at = start + len + end;
        Some(start..start + len + if keeps_ends { end } else { 0 })
    })
}

/// The bytes of the characters from `start` to `end`, if they are not the wrong way round.
fn bytes_between(string: &str, start: &Option<Value>, end: &Option<Value>) -> Result<Option<Range<usize>>> {
    let (start, end) = (arguments::int(start, "a start")?, arguments::int(end, "an end")?);
    if start.is_none() && end.is_none() {
        return Ok(Some(0..string.len()));
    }
    let len = string.chars().count() as i128;
    let place = |at: i128| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(len)).min(len));
    if start > end {
        return Ok(None);
    }
    let byte = |place: i128| string.char_indices().nth(place as usize).map_or(string.len(), |(at, _)| at);
    Ok(Some(byte(start)..byte(end)))
}

/// Digits that are no decimal numbers: superscripts, subscripts and numbers in circles.
const OTHER_DIGITS: [(u32, u32); 19] = [
    (0xb2, 0xb3),
    (0xb9, 0xb9),
    (0x1369, 0x1371),
    (0x19da, 0x19da),
    (0x2070, 0x2070),
    (0x2074, 0x2079),
    (0x2080, 0x2089),
    (0x2460, 0x2468),
    (0x2474, 0x247c),
    (0x2488, 0x2490),
    (0x24ea, 0x24ea),
    (0x24f5, 0x24fd),
    (0x24ff, 0x24ff),
    (0x2776, 0x277e),
    (0x2780, 0x2788),
    (0x278a, 0x2792),
    (0x1_0a40, 0x1_0a43),
    (0x1_0e60, 0x1_0e68),
    (0x1_f100, 0x1_f10a),
];

/// Python's `isalpha` and its like.
fn is(name: &str, string: &str) -> bool {
    let is_alpha = |c: char| {
        use GeneralCategory as Category;
        let letters = [
            Category::UppercaseLetter,
            Category::LowercaseLetter,
            Category::TitlecaseLetter,
            Category::ModifierLetter,
            Category::OtherLetter,
        ];
        letters.contains(&c.general_category())
    };
    let is_decimal = |c: char| c.general_category() == GeneralCategory::DecimalNumber;
    let is_digit = |c: char| {
        is_decimal(c) || OTHER_DIGITS.iter().any(|&(first, last)| (first..=last).contains(&(c as u32)))
    };
    let all = |is: &dyn Fn(char) -> bool| !string.is_empty() && string.chars().all(is);
    let cased = |is_wrong: fn(char) -> bool| {
        string.chars().any(is_cased)
            && !string.chars().any(|c| is_wrong(c) || is_cased(c) && !is_plain_case(c))
    };
    match name {
        "isalpha" => all(&is_alpha),
        "isdecimal" => all(&is_decimal),
        "isdigit" => all(&is_digit),
        "isnumeric" => all(&char::is_numeric),
        "isalnum" => all(&|c| is_alpha(c) || c.is_numeric()),
        "isspace" => all(&is_space),
        "isascii" => string.is_ascii(),
        "isprintable" => string.chars().all(print::is_printable),
        "isidentifier" => {
            let starts = string.starts_with(|c: char| is_alpha(c) || c == '_');
            starts && string.chars().all(|c| is_alpha(c) || is_decimal(c) || c == '_')
        }
        "islower" => cased(char::is_uppercase),
        "isupper" => cased(char::is_lowercase),
        // `istitle`: capitals begin words, small letters go on.
        _ => {
            let (mut is_inside, mut has_word) = (false, false);
            for c in string.chars() {
                let starts = c.is_uppercase() || is_cased(c) && !is_plain_case(c);
                if starts && is_inside || c.is_lowercase() && !is_inside {
                    return false;
                }
                is_inside = is_cased(c);
                has_word |= is_inside;
            }
            has_word
        }
    }
}

/// Whether a cased character is a capital or a small letter and not a pair of both.
fn is_plain_case(c: char) -> bool {
    c.is_uppercase() || c.is_lowercase()
}

/// Whether `string` has letters and all are small, or large.
pub(super) fn has_case(string: &str, is_upper: bool) -> bool {
    is(if is_upper { "isupper" } else { "islower" }, string)
}

impl Interpreter<'_> {
    /// Python's `format.format(…)`.
    fn format(&mut self, format: &Text, positional: &[Value], named: &Dict) -> Result<Text> {
        let mut automatic = Some(0);
        self.format_level(format, 0..format.len(), (positional, named), &mut automatic, 2)
    }

    /// The part `range` of a format, in which fields may nest `levels` deep. `next` is the next field without a
    /// number, until a field has one.
    fn format_level(
        &mut self,
        format: &Text,
        range: Range<usize>,
        arguments: (&[Value], &Dict),
        next: &mut Option<usize>,
        levels: usize,
    ) -> Result<Text> {
        let budget = self.budget;
        if levels == 0 {
            return Err(fault!("the fields of a format nest too deeply"));
        }
        budget.walk(range.len())?;
        let string = &format.as_str()[..range.end];
        let mut out = TextBuilder::new(budget);
        let mut at = range.start;
        while let Some(found) = string[at..].find(['{', '}']) {
            budget.steps(1)?;
            let brace = at + found;
            out.push_part(format, at..brace)?;
            let is_double = string.as_bytes().get(brace + 1) == Some(&string.as_bytes()[brace]);
            if is_double {
                out.push_part(format, brace..brace + 1)?;
                at = brace + 2;
                continue;
            }
            if string.as_bytes()[brace] == b'}' {
                return Err(fault!("Single '}}' encountered in format string"));
            }
            let mut open = 0;
            let close = string[brace..].char_indices().find(|&(_, c)| {
                open += i32::from(c == '{') - i32::from(c == '}');
                open == 0
            });
            let (close, _) = close.ok_or_else(|| fault!("expected '}}' before end of string"))?;
            let field = brace + 1..brace + close;
            at = field.end + 1;
            // name, then `!conversion`, then `:specification`.
            let inner = &string[field.clone()];
            let name_len = inner.find(['!', ':']).unwrap_or(inner.len());
            let mut value = self.format_field(&inner[..name_len], arguments, next)?;
            let mut spec = field.start + name_len;
            if let Some(conversion) = string[spec..field.end].strip_prefix('!') {
                let mut chars = conversion.chars();
                value = Value::Text(match chars.next() {
                    Some('r' | 'a') => print::repr(budget, &value)?,
                    Some('s') => print::str(budget, &value)?,
                    _ => return Err(fault!("unknown conversion in a format")),
                });
                spec = field.end - chars.as_str().len();
                if !matches!(string[spec..field.end].chars().next(), None | Some(':')) {
                    return Err(fault!("expected ':' after conversion specifier"));
                }
            }
            let spec = if spec < field.end {
                self.format_level(format, spec + 1..field.end, arguments, next, levels - 1)?
            } else {
                Text::own("")
            };
            out.push_text(&format::value(budget, &value, &spec)?)?;
        }
        out.push_part(format, at..range.end)?;
        out.finish()
    }

    /// The value that a field names.
    fn format_field(
        &mut self,
        name: &str,
        (positional, named): (&[Value], &Dict),
        next: &mut Option<usize>,
    ) -> Result<Value> {
        let budget = self.budget;
        let first = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut rest) = name.split_at(first);
        let index = match (first.parse::<usize>(), &next) {
            (Ok(index), None | Some(0)) => {
                *next = None;
                Some(index)
            }
            (Err(_), Some(index)) if first.is_empty() => {
                let index = *index;
                *next = Some(index + 1);
                Some(index)
            }
            (Err(_), _) if !first.is_empty() => None,
            _ => return Err(fault!("a format mixes numbered fields and others")),
        };
        let value = match index {
            Some(index) => positional.get(index),
            None => {
                budget.bytes(first.len())?;
                budget.scan(first.len())?;
                named.get_str(&first.into())
            }
        };
        let mut value = value.cloned().ok_or_else(|| fault!("the format has no value for '{first}'"))?;
        while !rest.is_empty() {
            budget.steps(1)?;
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                value = self.attribute(&value, &after[..end].into())?;
                rest = &after[end..];
            } else {
                let end = rest.find(']').ok_or_else(|| fault!("Missing ']' in format string"))?;
                let key = &rest[1..end];
                let key = match key.parse() {
                    Ok(index) if !key.starts_with(['-', '+']) => Value::Int(index),
                    _ => Value::own(key),
                };
                value = self.item(&value, &key)?;
                rest = &rest[end + 1..];
                if !rest.is_empty() && !rest.starts_with(['.', '[']) {
                    return Err(fault!("only '.' or '[' may follow ']' in format field specifier"));
                }
            }
        }
        Ok(value)
    }
}
