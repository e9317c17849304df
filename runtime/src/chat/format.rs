//! Formats: the specifications of `format()`, `'%…' % …`, and the numbers that both write.
//!
//! A specification is `[[fill]align][sign][z][#][0][width][, or _][.precision][type]`. Widths and precisions are paid
//! for before anything is as long as they say.

use super::budget::{Budget, Result, fault};
use super::print;
use super::text::{Text, TextBuilder};
use super::value::{Row, Value};

/// Digits after the point beyond which a float has only zeros.
const LAST_DIGIT: usize = 1_080;

#[derive(Clone, Debug, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    is_alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    /// The letter at the end.
    ty: Option<char>,
    /// Whether a content says any of it: then the padding is a content, too.
    is_content: bool,
}

/// A count at the beginning of `text`, and the rest.
fn count(text: &str) -> Result<(Option<usize>, &str)> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(len);
    match digits.parse() {
        Ok(count) if count <= i32::MAX as usize => Ok((Some(count), rest)),
        _ if digits.is_empty() => Ok((None, rest)),
        _ => Err(fault!("too many decimal digits in a format")),
    }
}

impl Spec {
    fn parse(text: &Text) -> Result<Self> {
        let mut spec = Self { is_content: text.has_content(), ..Self::default() };
        let text = text.as_str();
        let mut rest = text;
        let is_align = |c: char| matches!(c, '<' | '>' | '^' | '=');
        let mut chars = rest.chars();
        match (chars.next(), chars.next()) {
            (Some(fill), Some(align)) if is_align(align) => {
                (spec.fill, spec.align) = (Some(fill), Some(align));
                rest = chars.as_str();
            }
            (Some(align), _) if is_align(align) => {
                spec.align = Some(align);
                rest = &rest[1..];
            }
            _ => {}
        }
        if let Some(sign) = rest.chars().next().filter(|c| matches!(c, '+' | '-' | ' ')) {
            spec.sign = Some(sign);
            rest = &rest[1..];
        }
        if let Some(after) = rest.strip_prefix('#') {
            spec.is_alternate = true;
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('0') {
            spec.fill = spec.fill.or(Some('0'));
            spec.align = spec.align.or(Some('0'));
            rest = after;
        }
        let (width, after) = count(rest)?;
        (spec.width, rest) = (width.unwrap_or(0), after);
        if let Some(grouping) = rest.chars().next().filter(|c| matches!(c, ',' | '_')) {
            spec.grouping = Some(grouping);
            rest = &rest[1..];
        }
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = count(after)?;
            spec.precision = Some(precision.ok_or_else(|| fault!("a format misses its precision"))?);
            rest = after;
        }
        let mut chars = rest.chars();
        spec.ty = chars.next();
        if chars.next().is_some() {
            return Err(fault!("invalid format specifier '{text}'"));
        }
        Ok(spec)
    }

    /// What a place that is left is filled with.
    fn filling(&self) -> Text {
        let fill = self.fill.unwrap_or(' ').to_string();
        if self.is_content { Text::content(fill) } else { Text::own(fill) }
    }

    /// `body` in the width, to the side that `default` says if the specification does not.
    fn pad(&self, budget: &Budget, body: &Text, default: char) -> Result<Text> {
        budget.scan(body.len())?;
        let missing = self.width.saturating_sub(body.as_str().chars().count());
        if missing == 0 {
            return Ok(body.clone());
        }
        let fill = self.filling();
        let before = match self.align.filter(|&align| align != '0').unwrap_or(default) {
            '<' => 0,
            '^' => missing / 2,
            _ => missing,
        };
        let mut out = TextBuilder::new(budget);
        out.push_repeated(&fill, before)?;
        out.push_text(body)?;
        out.push_repeated(&fill, missing - before)?;
        out.finish()
    }

    /// A number, given as its sign, prefix, digits before the point and the rest, in the width.
    fn number(
        &self,
        budget: &Budget,
        is_negative: bool,
        prefix: &str,
        (whole, rest): (&str, &str),
    ) -> Result<Text> {
        let sign = match self.sign {
            _ if is_negative => "-",
            Some('+') => "+",
            Some(' ') => " ",
            _ => "",
        };
        let pads_inside = matches!(self.align, Some('0' | '='));
        let outside = sign.len() + prefix.len() + rest.len();
        let room = if pads_inside { self.width.saturating_sub(outside) } else { 0 };
        budget.product(3, room)?;
        let size = if matches!(self.ty, Some('b' | 'o' | 'x' | 'X')) { 4 } else { 3 };
        let is_zero_fill = self.fill == Some('0');
        let body = match self.grouping.filter(|_| !matches!(whole, "inf" | "nan")) {
            None => whole.to_string(),
            Some(separator) => {
                let mut grouped = Vec::new();
                let mut digits = whole.bytes().rev();
                let mut count = 0;
                loop {
                    let digit = match digits.next() {
                        Some(digit) => digit,
                        None if is_zero_fill && grouped.len() < room => b'0',
                        None => break,
                    };
                    if count > 0 && count % size == 0 {
                        grouped.push(separator as u8);
                    }
                    grouped.push(digit);
                    count += 1;
                }
                grouped.reverse();
                String::from_utf8(grouped).expect("digits and separators are ASCII")
            }
        };
        let mut number = TextBuilder::new(budget);
        number.push_own(sign)?;
        number.push_own(prefix)?;
        number.push_repeated(&self.filling(), room.saturating_sub(body.len()))?;
        number.push_own(&body)?;
        number.push_own(rest)?;
        let number = number.finish()?;
        if pads_inside { Ok(number) } else { self.pad(budget, &number, '>') }
    }

    fn text(&self, budget: &Budget, text: &Text) -> Result<Text> {
        if self.sign.is_some() || self.is_alternate || self.grouping.is_some() || self.align == Some('=') {
            return Err(fault!("a format of a string has no sign, `#`, grouping or `=`"));
        }
        let cut = match self.precision {
            Some(chars) => {
                budget.scan(text.len())?;
                let end = text.as_str().char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
                text.slice(budget, 0..end)?
            }
            None => text.clone(),
        };
        self.pad(budget, &cut, '<')
    }

    fn int(&self, budget: &Budget, value: i128) -> Result<Text> {
        if self.precision.is_some() {
            return Err(fault!("a format of an integer has no precision"));
        }
        let size = value.unsigned_abs();
        let (prefix, digits) = match self.ty {
            None | Some('d' | 'n') => ("", size.to_string()),
            Some('b') => ("0b", format!("{size:b}")),
            Some('o') => ("0o", format!("{size:o}")),
            Some('x') => ("0x", format!("{size:x}")),
            Some('X') => ("0X", format!("{size:X}")),
            Some('c') => {
                let c = u32::try_from(value).ok().and_then(char::from_u32);
                let c = c.ok_or_else(|| fault!("%c arg not in range(0x110000)"))?;
                // A content may have said which number it is.
                return self.pad(budget, &Text::content(c.to_string()), '<');
            }
            Some(ty) => {
                return Err(fault!("Unknown format code '{ty}' for object of type 'int'"));
            }
        };
        self.number(budget, value < 0, if self.is_alternate { prefix } else { "" }, (&digits, ""))
    }

    fn float(&self, budget: &Budget, value: f64) -> Result<Text> {
        budget.bytes(self.precision.unwrap_or(0).saturating_mul(4))?;
        let digits = float_digits(value.abs(), self.ty, self.precision, self.is_alternate)?;
        let whole = if value.is_finite() { digits.find(|c: char| !c.is_ascii_digit()) } else { None };
        let parts = digits.split_at(whole.unwrap_or(digits.len()));
        self.number(budget, value.is_sign_negative() && !value.is_nan(), "", parts)
    }
}

/// `value`, which is not negative, as the format letter `ty` writes it.
fn float_digits(
    value: f64,
    ty: Option<char>,
    precision: Option<usize>,
    is_alternate: bool,
) -> Result<String> {
    let is_upper = ty.is_some_and(|ty| ty.is_ascii_uppercase());
    if !value.is_finite() {
        let mut word = String::from(if value.is_nan() { "nan" } else { "inf" });
        if ty == Some('%') {
            word.push('%');
        }
        return Ok(if is_upper { word.to_uppercase() } else { word });
    }
    let fixed = |value: f64, precision: usize| {
        let mut digits = format!("{value:.*}", precision.min(LAST_DIGIT));
        digits.extend(std::iter::repeat_n('0', precision.saturating_sub(LAST_DIGIT)));
        if precision == 0 && is_alternate {
            digits.push('.');
        }
        digits
    };
    let scientific = |precision: usize| {
        let text = format!("{value:.*e}", precision.min(LAST_DIGIT));
        let (digits, exponent) = text.split_once('e').expect("the format has an exponent");
        let mut digits = digits.to_string();
        digits.extend(std::iter::repeat_n('0', precision.saturating_sub(LAST_DIGIT)));
        (digits, exponent.parse::<i32>().expect("it is a number"))
    };
    let exponent_text =
        |exponent: i32| format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    let text = match ty {
        Some('f' | 'F') => fixed(value, precision.unwrap_or(6)),
        Some('%') => fixed(value * 100.0, precision.unwrap_or(6)) + "%",
        Some('e' | 'E') => {
            let (mut digits, exponent) = scientific(precision.unwrap_or(6));
            if is_alternate && !digits.contains('.') {
                digits.push('.');
            }
            digits + &exponent_text(exponent)
        }
        None if precision.is_none() => print::float(value),
        None | Some('g' | 'G' | 'n') => {
            let precision = precision.unwrap_or(6).max(1);
            let (mut digits, exponent) = scientific(precision - 1);
            // Without a letter one digit after the point remains.
            let last = precision as i64 - i64::from(ty.is_none());
            let is_fixed = (-4..last).contains(&i64::from(exponent));
            if is_fixed {
                digits =
                    fixed(value, usize::try_from(precision as i64 - 1 - i64::from(exponent)).unwrap_or(0));
            }
            if digits.contains('.') && !is_alternate {
                digits.truncate(digits.trim_end_matches('0').trim_end_matches('.').len());
            }
            if !is_fixed {
                digits += &exponent_text(exponent);
            } else if ty.is_none() && !digits.contains('.') {
                digits += ".0";
            }
            digits
        }
        Some(ty) => return Err(fault!("Unknown format code '{ty}' for object of type 'float'")),
    };
    Ok(if is_upper { text.to_uppercase() } else { text })
}

/// Python's `format(value, spec)`.
pub(super) fn value(budget: &Budget, value: &Value, spec: &Text) -> Result<Text> {
    if spec.is_empty() {
        return print::str(budget, value);
    }
    let parsed = Spec::parse(spec)?;
    match value {
        Value::Text(text) => match parsed.ty {
            None | Some('s') => parsed.text(budget, text),
            Some(ty) => Err(fault!("Unknown format code '{ty}' for object of type 'str'")),
        },
        Value::Float(value) => parsed.float(budget, *value),
        _ => match value.as_int() {
            Some(int) if matches!(parsed.ty, Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) => {
                parsed.float(budget, int as f64)
            }
            Some(int) => parsed.int(budget, int),
            None => Err(fault!("unsupported format string passed to {}.__format__", value.type_name())),
        },
    }
}

/// Python's `format % arguments`.
pub(super) fn percent(budget: &Budget, format: &Text, arguments: &Value) -> Result<Text> {
    let tuple = match arguments {
        Value::List(list) if matches!(list.row, Row::Tuple | Row::Group) => Some(&list.items[..]),
        _ => None,
    };
    let (values, is_mapping) = match tuple {
        Some(items) => (items, false),
        None => (std::slice::from_ref(arguments), matches!(arguments, Value::Dict(_) | Value::List(_))),
    };
    let mut values_left = values.iter();
    let mut next = || values_left.next().ok_or_else(|| fault!("not enough arguments for format string"));
    let string = format.as_str();
    budget.walk(string.len())?;
    let mut out = TextBuilder::new(budget);
    let mut at = 0;
    while let Some(found) = string[at..].find('%') {
        out.push_part(format, at..at + found)?;
        at += found + 1;
        budget.steps(1)?;
        let mut keyed = None;
        if string[at..].starts_with('(') {
            let mut open = 0;
            let close = string[at..].char_indices().find(|&(_, c)| {
                open += i32::from(c == '(') - i32::from(c == ')');
                open == 0
            });
            let (close, _) = close.ok_or_else(|| fault!("incomplete format key"))?;
            let Value::Dict(dict) = arguments else { return Err(fault!("format requires a mapping")) };
            let name = &string[at + 1..at + close];
            budget.bytes(name.len())?;
            budget.scan(name.len())?;
            let value =
                dict.get_str(&name.into()).ok_or_else(|| fault!("the format has no value '{name}'"))?;
            keyed = Some(value);
            at += close + 1;
        }
        let mut spec = Spec::default();
        let spec_at = at;
        let flags = string[at..].bytes().take_while(|b| b"-+ #0".contains(b)).count();
        for flag in string[at..at + flags].chars() {
            match flag {
                '-' => spec.align = Some('<'),
                '0' => spec.fill = Some('0'),
                '#' => spec.is_alternate = true,
                sign if spec.sign != Some('+') => spec.sign = Some(sign),
                _ => {}
            }
        }
        at += flags;
        let mut measure = |at: &mut usize| -> Result<Option<i128>> {
            if string[*at..].starts_with('*') {
                *at += 1;
                return Ok(Some(next()?.expect_int("the width of a format")?));
            }
            let (count, rest) = count(&string[*at..])?;
            *at = string.len() - rest.len();
            Ok(count.map(|count| count as i128))
        };
        if let Some(width) = measure(&mut at)? {
            if width < 0 {
                spec.align = Some('<');
            }
            spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
        }
        if string[at..].starts_with('.') {
            at += 1;
            let precision = measure(&mut at)?.unwrap_or(0).max(0);
            spec.precision = Some(usize::try_from(precision).unwrap_or(usize::MAX));
        }
        // Python takes C's lengths, which say nothing.
        at += usize::from(string[at..].starts_with(['h', 'l', 'L']));
        let Some(letter) = string[at..].chars().next() else { return Err(fault!("incomplete format")) };
        let letter_at = at;
        at += letter.len_utf8();
        if letter == '%' {
            out.push_part(format, letter_at..at)?;
            continue;
        }
        spec.is_content = format.has_content_in(spec_at..at);
        let value = match keyed {
            Some(value) => value,
            None => next()?,
        };
        out.push_text(&spec.percent(budget, letter, value)?)?;
    }
    out.push_part(format, at..string.len())?;
    if values_left.next().is_some() && !is_mapping {
        return Err(fault!("not all arguments converted during string formatting"));
    }
    out.finish()
}

impl Spec {
    /// `value` by a letter of `%`.
    fn percent(mut self, budget: &Budget, letter: char, value: &Value) -> Result<Text> {
        let is_left = self.align == Some('<');
        let side = if is_left { '<' } else { '>' };
        let text = match letter {
            's' => Some(print::str(budget, value)?),
            'r' | 'a' => Some(print::repr(budget, value)?),
            'c' => Some(match value {
                Value::Text(text) if text.as_str().chars().count() == 1 => text.clone(),
                _ => {
                    let c = value.as_int().and_then(|code| char::from_u32(u32::try_from(code).ok()?));
                    // A content may have said which number it is.
                    Text::content(c.ok_or_else(|| fault!("%c requires int or char"))?.to_string())
                }
            }),
            _ => None,
        };
        if let Some(text) = text {
            if letter == 'c' {
                self.precision = None;
            }
            (self.sign, self.is_alternate, self.fill, self.align) = (None, false, None, Some(side));
            return self.text(budget, &text);
        }
        let wants = |what: &str| fault!("%{letter} format: {what} is required, not {}", value.type_name());
        value.defined()?;
        self.align = match self.fill {
            _ if is_left => {
                self.fill = None;
                Some('<')
            }
            Some(_) => Some('='),
            None => None,
        };
        match letter {
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
                let int = match value {
                    Value::Float(value) if matches!(letter, 'd' | 'i' | 'u') && value.is_finite() => {
                        *value as i128
                    }
                    _ => value.as_int().ok_or_else(|| wants("an integer"))?,
                };
                let size = int.unsigned_abs();
                self.ty = Some(letter);
                let (prefix, mut digits) = match letter {
                    'x' => ("0x", format!("{size:x}")),
                    'X' => ("0X", format!("{size:X}")),
                    'o' => ("0o", format!("{size:o}")),
                    _ => ("", size.to_string()),
                };
                let missing = self.precision.unwrap_or(0).saturating_sub(digits.len());
                budget.product(2, missing)?;
                digits = "0".repeat(missing) + &digits;
                self.number(budget, int < 0, if self.is_alternate { prefix } else { "" }, (&digits, ""))
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let float = value.as_float().ok_or_else(|| wants("a real number"))?;
                self.ty = Some(letter);
                self.precision = Some(self.precision.unwrap_or(6));
                self.float(budget, float)
            }
            _ => Err(fault!("unsupported format character '{letter}'")),
        }
    }
}
