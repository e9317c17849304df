//! Values as text: Python's `str` and `repr`, and JSON as `json.dumps` writes it.
//!
//! The texts inside of values keep their origin; brackets, quotes, numbers and names such as `None` are the
//! template's own. A number can't spell a control token, wherever it came from.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::budget::{Budget, Result, fault};
use super::operators;
use super::text::{Text, TextBuilder};
use super::value::{Function, Row, Value};

/// Python's `str` of `value`.
pub(super) fn str(budget: &Budget, value: &Value) -> Result<Text> {
    if let Value::Text(text) = value {
        return Ok(text.clone());
    }
    let mut out = TextBuilder::new(budget);
    write_str(&mut out, budget, value)?;
    out.finish()
}

/// Python's `repr` of `value`.
pub(super) fn repr(budget: &Budget, value: &Value) -> Result<Text> {
    let mut out = TextBuilder::new(budget);
    write_repr(&mut out, budget, value)?;
    out.finish()
}

pub(super) fn write_str(out: &mut TextBuilder<'_>, budget: &Budget, value: &Value) -> Result<()> {
    match value {
        Value::Text(text) => out.push_text(text),
        Value::Undefined(_) => Ok(()),
        _ => write_repr(out, budget, value),
    }
}

fn write_repr(out: &mut TextBuilder<'_>, budget: &Budget, value: &Value) -> Result<()> {
    budget.steps(1)?;
    match value {
        Value::Undefined(_) => out.push_own("Undefined"),
        Value::None => out.push_own("None"),
        Value::Bool(true) => out.push_own("True"),
        Value::Bool(false) => out.push_own("False"),
        Value::Int(value) => out.push_own(&value.to_string()),
        Value::Float(value) => out.push_own(&float(*value)),
        Value::Text(text) => {
            budget.walk(text.len())?;
            write_quoted(out, text)
        }
        Value::List(list) => {
            let (open, close) = match list.row {
                Row::List => ("[", "]"),
                Row::Tuple | Row::Group => ("(", if list.items.len() == 1 { ",)" } else { ")" }),
                Row::Items => ("dict_items([", "])"),
                Row::Keys => ("dict_keys([", "])"),
                Row::Values => ("dict_values([", "])"),
            };
            out.push_own(open)?;
            for (index, item) in list.items.iter().enumerate() {
                if index > 0 {
                    out.push_own(", ")?;
                }
                write_repr(out, budget, item)?;
            }
            out.push_own(close)
        }
        Value::Dict(dict) => {
            out.push_own("{")?;
            for (index, (key, value)) in dict.entries().iter().enumerate() {
                if index > 0 {
                    out.push_own(", ")?;
                }
                write_repr(out, budget, key)?;
                out.push_own(": ")?;
                write_repr(out, budget, value)?;
            }
            out.push_own("}")
        }
        Value::Range(range) if range.step == 1 => {
            out.push_own(&format!("range({}, {})", range.start, range.stop))
        }
        Value::Range(range) => {
            out.push_own(&format!("range({}, {}, {})", range.start, range.stop, range.step))
        }
        Value::Macro(callee) => {
            budget.walk(callee.decl.name.len())?;
            out.push_own("<Macro ")?;
            write_quoted(out, &Text::own(&*callee.decl.name))?;
            out.push_own(">")
        }
        Value::Function(Function::Range) => out.push_own("<class 'range'>"),
        _ => out.push_own(&format!("<{} object>", value.type_name())),
    }
}

/// A string in quotes, as Python writes it in its source.
fn write_quoted(out: &mut TextBuilder<'_>, text: &Text) -> Result<()> {
    let string = text.as_str();
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    out.push_char(quote, false)?;
    for (_, c, is_content) in text.chars(0..text.len()) {
        match c {
            '\n' => out.push("\\n", is_content)?,
            '\r' => out.push("\\r", is_content)?,
            '\t' => out.push("\\t", is_content)?,
            '\\' => out.push("\\\\", is_content)?,
            c if c == quote => out.push(if c == '"' { "\\\"" } else { "\\'" }, is_content)?,
            c if is_printable(c) => out.push_char(c, is_content)?,
            c if (c as u32) < 0x100 => out.push(&format!("\\x{:02x}", c as u32), is_content)?,
            c if (c as u32) < 0x1_0000 => out.push(&format!("\\u{:04x}", c as u32), is_content)?,
            c => out.push(&format!("\\U{:08x}", c as u32), is_content)?,
        }
    }
    out.push_char(quote, false)
}

/// What Python shows as it is.
pub(super) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    !matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::Surrogate
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::SpaceSeparator
    )
}

/// Python's `repr` of a float: the shortest digits that mean this number, with an exponent below 1e-4 and from
/// 1e16.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("it is a number");
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// How `json.dumps` writes.
pub(super) struct Json {
    pub is_ascii: bool,
    pub indent: Option<Text>,
    pub item_separator: Text,
    pub key_separator: Text,
    pub sorts_keys: bool,
}

/// `value` as JSON.
pub(super) fn json(budget: &Budget, value: &Value, style: &Json) -> Result<Text> {
    let mut out = TextBuilder::new(budget);
    style.write(&mut out, budget, value, 0)?;
    out.finish()
}

impl Json {
    fn write(&self, out: &mut TextBuilder<'_>, budget: &Budget, value: &Value, level: usize) -> Result<()> {
        budget.steps(1)?;
        match value {
            Value::None => out.push_own("null"),
            Value::Bool(true) => out.push_own("true"),
            Value::Bool(false) => out.push_own("false"),
            Value::Int(value) => out.push_own(&value.to_string()),
            Value::Float(value) => out.push_own(&json_float(*value)),
            Value::Text(text) => {
                budget.walk(text.len())?;
                self.write_text(out, text)
            }
            Value::List(list) if matches!(list.row, Row::List | Row::Tuple | Row::Group) => {
                let items = list.items.iter();
                self.write_all(out, ["[", "]"], items, level, |out, item| {
                    self.write(out, budget, item, level + 1)
                })
            }
            Value::Dict(dict) => {
                let mut entries: Vec<_> = dict.entries().iter().collect();
                if self.sorts_keys {
                    entries = operators::sort(budget, entries, |a, b| operators::order(budget, &a.0, &b.0))?;
                }
                self.write_all(out, ["{", "}"], entries.into_iter(), level, |out, (key, value)| {
                    match key {
                        Value::Text(text) => {
                            budget.walk(text.len())?;
                            self.write_text(out, text)?;
                        }
                        Value::None => out.push_own("\"null\"")?,
                        Value::Bool(value) => out.push_own(&format!("\"{value}\""))?,
                        Value::Int(value) => out.push_own(&format!("\"{value}\""))?,
                        Value::Float(value) => out.push_own(&format!("\"{}\"", json_float(*value)))?,
                        _ => return Err(fault!("a key of JSON can't be of type {}", key.type_name())),
                    }
                    out.push_text(&self.key_separator)?;
                    self.write(out, budget, value, level + 1)
                })
            }
            _ => Err(fault!("tojson: a value of type {} is not JSON", value.type_name())),
        }
    }

    /// Brackets with `items` between them.
    fn write_all<'o, T>(
        &self,
        out: &mut TextBuilder<'o>,
        [open, close]: [&str; 2],
        items: impl ExactSizeIterator<Item = T>,
        level: usize,
        mut write: impl FnMut(&mut TextBuilder<'o>, T) -> Result<()>,
    ) -> Result<()> {
        out.push_own(open)?;
        let is_empty = items.len() == 0;
        for (index, item) in items.enumerate() {
            if index > 0 {
                out.push_text(&self.item_separator)?;
            }
            self.new_line(out, level + 1)?;
            write(out, item)?;
        }
        if !is_empty {
            self.new_line(out, level)?;
        }
        out.push_own(close)
    }

    fn new_line(&self, out: &mut TextBuilder<'_>, level: usize) -> Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        out.push_own("\n")?;
        out.push_repeated(indent, level)
    }

    fn write_text(&self, out: &mut TextBuilder<'_>, text: &Text) -> Result<()> {
        out.push_own("\"")?;
        for (_, c, is_content) in text.chars(0..text.len()) {
            match c {
                '"' => out.push("\\\"", is_content)?,
                '\\' => out.push("\\\\", is_content)?,
                '\n' => out.push("\\n", is_content)?,
                '\r' => out.push("\\r", is_content)?,
                '\t' => out.push("\\t", is_content)?,
                '\x08' => out.push("\\b", is_content)?,
                '\x0c' => out.push("\\f", is_content)?,
                c if c < ' ' || self.is_ascii && !(' '..='~').contains(&c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push(&format!("\\u{unit:04x}"), is_content)?;
                    }
                }
                c => out.push_char(c, is_content)?,
            }
        }
        out.push_own("\"")
    }
}

fn json_float(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => float(value),
    }
}
