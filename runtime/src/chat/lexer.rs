//! A template as tokens.
//!
//! Jinja cuts a template in two languages. Outside of tags all is data, up to the next `{{`, `{%` or `{#`; inside
//! are names, numbers, strings and operators, up to the end of the tag, which is only found outside of brackets.
//! White space around tags goes by three rules: `-` takes all of it on its side, `trim_blocks` takes a newline after
//! a block or comment, and `lstrip_blocks` takes the blanks before one if it begins its line; `+` keeps them.

use std::sync::Arc;

use super::budget::{Result, fault};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Data(Arc<str>),
    OutputBegin,
    OutputEnd,
    BlockBegin,
    BlockEnd,
    Name(Arc<str>),
    Text(String),
    Int(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

/// Longest first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Data,
    Output,
    Block,
}

#[derive(Debug)]
pub(super) struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    mode: Mode,
    /// The closing brackets that are due.
    due: Vec<&'static str>,
    /// Whether the part before ended a line.
    is_line_start: bool,
    /// A tag that comes after data.
    pending: Option<Token>,
}

/// `source` as the lexer wants it: lines end by `\n`, and the last one's end is left out.
pub(super) fn normalized(source: &str) -> String {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    source
}

/// What Python calls white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

impl<'s> Lexer<'s> {
    /// `source` is [`normalized`].
    pub fn new(source: &'s str) -> Self {
        Self { source, at: 0, line: 1, mode: Mode::Data, due: Vec::new(), is_line_start: true, pending: None }
    }

    /// The next token and its line.
    pub fn next(&mut self) -> Result<(u32, Token)> {
        if let Some(token) = self.pending.take() {
            return Ok((self.line, token));
        }
        match self.mode {
            Mode::Data => self.data(),
            Mode::Output | Mode::Block => self.code(),
        }
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn error(&self, problem: impl std::fmt::Display) -> super::budget::TemplateError {
        fault!("syntax error: {problem}").at(self.line)
    }

    /// Goes on by `len` bytes.
    fn advance(&mut self, len: usize) {
        let passed = &self.source[self.at..self.at + len];
        self.line += passed.bytes().filter(|&b| b == b'\n').count() as u32;
        if !passed.is_empty() {
            self.is_line_start = passed.ends_with('\n');
        }
        self.at += len;
    }

    /// Goes past white space.
    fn skip_space(&mut self) {
        let rest = self.rest();
        self.advance(rest.len() - rest.trim_start_matches(is_space).len());
    }

    /// Data up to a tag, and the tag's beginning.
    fn data(&mut self) -> Result<(u32, Token)> {
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return Ok((self.line, Token::End));
            }
            let tags = rest.as_bytes().windows(2);
            let Some(tag) = tags.into_iter().position(|tag| matches!(tag, b"{{" | b"{%" | b"{#")) else {
                let line = self.line;
                self.advance(rest.len());
                return Ok((line, Token::Data(rest.into())));
            };
            let (text, opened) = rest.split_at(tag);
            let kind = opened.as_bytes()[1];
            let sign = opened[2..].chars().next().filter(|sign| matches!(sign, '-' | '+'));
            let text = self.before_tag(text, sign, kind == b'{');
            let line = self.line;
            let raw = if kind == b'%' { raw_begin(opened) } else { None };
            self.advance(tag + raw.unwrap_or(2 + sign.map_or(0, char::len_utf8)));
            let data = |text: &str| Token::Data(text.into());
            let token = match kind {
                b'#' => {
                    self.comment()?;
                    if text.is_empty() {
                        continue;
                    }
                    return Ok((line, data(text)));
                }
                b'%' if raw.is_some() => {
                    let inside = self.raw()?;
                    // White space control is that of each side; joined they are one text.
                    let joined = format!("{text}{inside}");
                    if joined.is_empty() {
                        continue;
                    }
                    return Ok((line, data(&joined)));
                }
                b'%' => {
                    self.mode = Mode::Block;
                    Token::BlockBegin
                }
                _ => {
                    self.mode = Mode::Output;
                    Token::OutputBegin
                }
            };
            if text.is_empty() {
                return Ok((self.line, token));
            }
            self.pending = Some(token);
            return Ok((line, data(text)));
        }
    }

    /// What is left of the data before a tag.
    fn before_tag(&self, text: &'s str, sign: Option<char>, is_output: bool) -> &'s str {
        match sign {
            Some('-') => text.trim_end_matches(is_space),
            None if !is_output => {
                let line = text.rfind('\n').map_or(0, |newline| newline + 1);
                let begins = line > 0 || self.is_line_start;
                if begins && text[line..].chars().all(is_space) { &text[..line] } else { text }
            }
            _ => text,
        }
    }

    /// Goes past a comment whose beginning is passed.
    fn comment(&mut self) -> Result<()> {
        let rest = self.rest();
        let Some(end) = rest.find("#}") else { return Err(self.error("a comment has no end")) };
        let sign = rest[..end].chars().next_back();
        self.advance(end + 2);
        self.after_block(sign);
        Ok(())
    }

    /// White space after a block or comment whose end has `sign` before it.
    fn after_block(&mut self, sign: Option<char>) {
        match sign {
            Some('-') => self.skip_space(),
            Some('+') => {}
            _ if self.rest().starts_with('\n') => self.advance(1),
            _ => {}
        }
    }

    /// The text of a raw block whose beginning is passed.
    fn raw(&mut self) -> Result<&'s str> {
        let rest = self.rest();
        let mut from = 0;
        while let Some(found) = rest[from..].find("{%") {
            let at = from + found;
            let sign = rest[at + 2..].chars().next().filter(|sign| matches!(sign, '-' | '+'));
            let inner = &rest[at + 2 + sign.map_or(0, char::len_utf8)..];
            let name = inner.trim_start_matches(is_space).strip_prefix("endraw");
            let end = name.map(|end| end.trim_start_matches(is_space)).and_then(|end| {
                let signed = end.strip_prefix(['-', '+']).filter(|end| end.starts_with("%}"));
                let sign = signed.and(end.chars().next());
                signed.unwrap_or(end).strip_prefix("%}").map(|after| (sign, after))
            });
            if let Some((end_sign, after)) = end {
                let text = self.before_tag(&rest[..at], sign, false);
                self.advance(rest.len() - after.len());
                self.after_block(end_sign);
                return Ok(text);
            }
            from = at + 2;
        }
        Err(self.error("a raw block has no end"))
    }

    /// A token inside a tag.
    fn code(&mut self) -> Result<(u32, Token)> {
        self.skip_space();
        let (line, rest) = (self.line, self.rest());
        if self.due.is_empty()
            && let Some(token) = self.tag_end(rest)
        {
            return Ok((line, token));
        }
        let Some(first) = rest.chars().next() else { return Err(self.error("a tag has no end")) };
        let token = if first.is_ascii_digit() {
            self.number(rest)?
        } else if first == '\'' || first == '"' {
            self.text(rest, first)?
        } else if first.is_alphabetic() || first == '_' {
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.advance(len);
            Token::Name(rest[..len].into())
        } else if let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) {
            match operator {
                "(" => self.due.push(")"),
                "[" => self.due.push("]"),
                "{" => self.due.push("}"),
                ")" | "]" | "}" if self.due.pop() != Some(operator) => {
                    return Err(self.error(format_args!("unexpected `{operator}`")));
                }
                _ => {}
            }
            self.advance(operator.len());
            Token::Operator(operator)
        } else {
            return Err(self.error(format_args!("unexpected character {first:?}")));
        };
        Ok((line, token))
    }

    /// The end of the tag, if it is here.
    fn tag_end(&mut self, rest: &str) -> Option<Token> {
        let (end, token) = match self.mode {
            Mode::Block => ("%}", Token::BlockEnd),
            _ => ("}}", Token::OutputEnd),
        };
        let sign = rest.chars().next().filter(|&sign| sign == '-' || sign == '+' && self.mode == Mode::Block);
        let skip = match sign {
            Some(_) if rest[1..].starts_with(end) => 3,
            _ if rest.starts_with(end) => 2,
            _ => return None,
        };
        self.advance(skip);
        let sign = sign.filter(|_| skip == 3);
        match self.mode {
            Mode::Block => self.after_block(sign),
            _ if sign.is_some() => self.skip_space(),
            _ => {}
        }
        self.mode = Mode::Data;
        Some(token)
    }

    fn number(&mut self, rest: &str) -> Result<Token> {
        let digits = |text: &str, is_digit: fn(&u8) -> bool| {
            let bytes = text.as_bytes();
            let mut len = 0;
            // An underscore stands between digits only.
            while bytes.get(len).is_some_and(is_digit)
                || len > 0 && bytes.get(len) == Some(&b'_') && bytes.get(len + 1).is_some_and(is_digit)
            {
                len += 1;
            }
            len
        };
        let decimal = |text: &str| digits(text, u8::is_ascii_digit);
        let too_large = |lexer: &Self| lexer.error("a number is too large");
        let whole = decimal(rest);
        let mut len = whole;
        // The numbers of `list.0.1` are places.
        let is_place = self.source[..self.at].ends_with('.');
        if !is_place && rest[len..].starts_with('.') && decimal(&rest[len + 1..]) > 0 {
            len += 1 + decimal(&rest[len + 1..]);
        }
        if !is_place && rest[len..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[len + 1..].starts_with(['+', '-']));
            let exponent = decimal(&rest[len + 1 + sign..]);
            len += if exponent > 0 { 1 + sign + exponent } else { 0 };
        }
        if len > whole {
            self.advance(len);
            let value = rest[..len].replace('_', "").parse();
            return value.map(Token::Float).map_err(|_| too_large(self));
        }
        let (radix, is_digit): (u32, fn(&u8) -> bool) = match rest.as_bytes().get(1) {
            Some(b'x' | b'X') => (16, u8::is_ascii_hexdigit),
            Some(b'o' | b'O') => (8, |b| matches!(b, b'0'..=b'7')),
            Some(b'b' | b'B') => (2, |b| matches!(b, b'0' | b'1')),
            _ => (10, u8::is_ascii_digit),
        };
        let (prefix, len) = match radix {
            10 if rest.starts_with('0') => (0, digits(rest, |b| *b == b'0')),
            10 => (0, whole),
            _ if rest.starts_with('0') && digits(&rest[2..], is_digit) > 0 => {
                (2, digits(&rest[2..], is_digit))
            }
            _ => (0, 1),
        };
        self.advance(prefix + len);
        let radix = if prefix == 0 { 10 } else { radix };
        let value = i128::from_str_radix(&rest[prefix..prefix + len].replace('_', ""), radix);
        value.map(Token::Int).map_err(|_| too_large(self))
    }

    fn text(&mut self, rest: &str, quote: char) -> Result<Token> {
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        let end = loop {
            let Some((at, c)) = chars.next() else { return Err(self.error("a string has no end")) };
            if c == quote {
                break at;
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let Some((_, escaped)) = chars.next() else { return Err(self.error("a string has no end")) };
            let mut code = |len: usize| {
                let digits: String = chars.by_ref().take(len).map(|(_, c)| c).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == len);
                code.ok_or_else(|| self.error(format_args!("`\\{escaped}` needs {len} hexadecimal digits")))
            };
            match escaped {
                '\n' => {}
                '\\' | '\'' | '"' => text.push(escaped),
                'a' => text.push('\x07'),
                'b' => text.push('\x08'),
                'f' => text.push('\x0c'),
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                'v' => text.push('\x0b'),
                // Half a pair of UTF-16 is no character here.
                'x' => text.push(char::from_u32(code(2)?).unwrap_or(char::REPLACEMENT_CHARACTER)),
                'u' => text.push(char::from_u32(code(4)?).unwrap_or(char::REPLACEMENT_CHARACTER)),
                'U' => {
                    let code = code(8)?;
                    let c = char::from_u32(code).or((code <= 0x10_ffff).then_some('\u{fffd}'));
                    text.push(c.ok_or_else(|| self.error("`\\U` is past the last character"))?);
                }
                'N' => return Err(self.error("`\\N{…}` is not supported; write the character or `\\u`")),
                '0'..='7' => {
                    let mut value = escaped.to_digit(8).expect("it is a digit");
                    let mut ahead = chars.clone();
                    for _ in 0..2 {
                        let Some(digit) = ahead.next().and_then(|(_, c)| c.to_digit(8)) else { break };
                        value = 8 * value + digit;
                        chars.next();
                    }
                    text.push(char::from_u32(value).expect("three octal digits are a character"));
                }
                other => text.extend(['\\', other]),
            }
        };
        self.advance(end + 1);
        Ok(Token::Text(text))
    }
}

/// The length of the beginning of a raw block, if `tag` is one.
fn raw_begin(tag: &str) -> Option<usize> {
    let inner = tag[2..].strip_prefix(['-', '+']).unwrap_or(&tag[2..]);
    let after = inner.trim_start_matches(is_space).strip_prefix("raw")?.trim_start_matches(is_space);
    let end = match after.strip_prefix("-%}") {
        Some(after) => after.trim_start_matches(is_space),
        None => after.strip_prefix("%}")?,
    };
    Some(tag.len() - end.len())
}
