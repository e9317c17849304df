//! Python's operators on values: arithmetic, comparison, `in`, items and slices.
//!
//! A list can hold another twice, and so be small and yet have more parts than atoms in the world; comparing takes
//! a step for each part it looks at.

use std::cmp::Ordering;
use std::ops::Range;
use std::rc::Rc;

use super::ast::{BinaryOp, UnaryOp};
use super::budget::{Budget, Result, fault};
use super::format;
use super::text::{Text, TextBuilder};
use super::value::{self, Key, List, Row, VALUE_BYTES, Value};

/// Whether `a == b`.
pub(super) fn equal(budget: &Budget, a: &Value, b: &Value) -> Result<bool> {
    budget.steps(1)?;
    Ok(match (a, b) {
        (Value::Text(a), Value::Text(b)) => {
            budget.scan(a.len().min(b.len()))?;
            a.as_str() == b.as_str()
        }
        (Value::List(a), Value::List(b)) => {
            if Rc::ptr_eq(a, b) {
                return Ok(true);
            }
            if python_row(a) != python_row(b) || a.items.len() != b.items.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(budget, a, b)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if Rc::ptr_eq(a, b) {
                return Ok(true);
            }
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.entries() {
                match b.get(&key.key(budget)?) {
                    Some(other) if equal(budget, value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(a), Value::Range(b)) => {
            let len = a.len();
            len == b.len() && (len == 0 || a.start == b.start && (len == 1 || a.step == b.step))
        }
        (Value::List(_) | Value::Dict(_), _) | (_, Value::List(_) | Value::Dict(_)) => false,
        (Value::Namespace(a), Value::Namespace(b)) | (Value::Loop(a), Value::Loop(b)) => a == b,
        (Value::Namespace(_) | Value::Loop(_), _) | (_, Value::Namespace(_) | Value::Loop(_)) => false,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Float(a), b) | (b, Value::Float(a)) => match b.as_int() {
            Some(int) => *a == int as f64 && *a as i128 == int,
            None => false,
        },
        // What is left is equal where it hashes alike.
        _ => a.key(budget)? == b.key(budget)?,
    })
}

/// Groups are tuples.
fn python_row(list: &List) -> Row {
    if list.row == Row::Group { Row::Tuple } else { list.row }
}

/// How `a` and `b` are ordered; `None` where NaN is among them.
pub(super) fn partial_order(budget: &Budget, a: &Value, b: &Value) -> Result<Option<Ordering>> {
    budget.steps(1)?;
    a.defined()?;
    b.defined()?;
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        return Ok(Some(a.cmp(&b)));
    }
    if let (Some(a), Some(b)) = (a.as_float(), b.as_float()) {
        return Ok(a.partial_cmp(&b));
    }
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => {
            budget.scan(a.len().min(b.len()))?;
            Ok(Some(a.as_str().cmp(b.as_str())))
        }
        (Value::List(left), Value::List(right))
            if python_row(left) == python_row(right)
                && matches!(python_row(left), Row::List | Row::Tuple) =>
        {
            for (a, b) in left.items.iter().zip(&right.items) {
                if !equal(budget, a, b)? {
                    return partial_order(budget, a, b);
                }
            }
            Ok(Some(left.items.len().cmp(&right.items.len())))
        }
        _ => {
            Err(fault!("'<' not supported between instances of '{}' and '{}'", a.type_name(), b.type_name()))
        }
    }
}

/// How `a` and `b` are ordered, for sorting.
pub(super) fn order(budget: &Budget, a: &Value, b: &Value) -> Result<Ordering> {
    Ok(partial_order(budget, a, b)?.unwrap_or(Ordering::Equal))
}

/// `items` in order, equal ones as they stood: a merge sort, which bears errors and orders that contradict
/// themselves.
pub(super) fn sort<T>(
    budget: &Budget,
    items: Vec<T>,
    order: impl Fn(&T, &T) -> Result<Ordering>,
) -> Result<Vec<T>> {
    fn halves<T>(items: Vec<T>, order: &impl Fn(&T, &T) -> Result<Ordering>) -> Result<Vec<T>> {
        let len = items.len();
        if len < 2 {
            return Ok(items);
        }
        let mut left = items;
        let right = left.split_off(len / 2);
        let mut left = halves(left, order)?.into_iter().peekable();
        let mut right = halves(right, order)?.into_iter().peekable();
        let mut merged = Vec::with_capacity(len);
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let next = if order(b, a)? == Ordering::Less { right.next() } else { left.next() };
            merged.extend(next);
        }
        merged.extend(left);
        merged.extend(right);
        Ok(merged)
    }
    budget.product(2 * size_of::<T>(), items.len())?;
    halves(items, &order)
}

/// Whether `item` is in `container`.
pub(super) fn contains(budget: &Budget, container: &Value, item: &Value) -> Result<bool> {
    match container {
        Value::Text(text) => {
            let Some(part) = item.as_text() else {
                return Err(fault!(
                    "'in <string>' requires string as left operand, not {}",
                    item.type_name()
                ));
            };
            budget.search(text.len(), part.len())?;
            Ok(text.as_str().contains(part.as_str()))
        }
        Value::Dict(dict) => Ok(dict.get(&item.key(budget)?).is_some()),
        Value::List(list) => {
            for candidate in &list.items {
                if equal(budget, candidate, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Range(_) | Value::Iter(_) => {
            for candidate in items(budget, container)? {
                if equal(budget, &candidate, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Undefined(_) => Ok(false),
        _ => Err(fault!("argument of type '{}' is not iterable", container.type_name())),
    }
}

/// What iterating over `value` gives. An iterator is used up.
pub(super) fn items(budget: &Budget, value: &Value) -> Result<Vec<Value>> {
    let room = |count: usize| {
        budget.steps(count)?;
        budget.product(VALUE_BYTES, count)
    };
    Ok(match value {
        Value::List(list) => {
            room(list.items.len())?;
            list.items.clone()
        }
        Value::Dict(dict) => {
            room(0)?;
            dict.keys(budget)?
        }
        Value::Text(text) => {
            budget.scan(text.len())?;
            // A character is a text of its own.
            room(text.as_str().chars().count().saturating_mul(2))?;
            let string = text.as_str();
            let char = |(at, c, is_content): (usize, char, bool)| {
                let char = &string[at..at + c.len_utf8()];
                Value::Text(if is_content { Text::content(char) } else { Text::own(char) })
            };
            text.chars(0..text.len()).map(char).collect()
        }
        Value::Range(range) => {
            room(range.len())?;
            (0..range.len()).map(|index| range.at(index)).collect()
        }
        Value::Iter(iter) => {
            let rest = &iter.items[iter.at.get()..];
            room(rest.len())?;
            iter.at.set(iter.items.len());
            rest.to_vec()
        }
        Value::Undefined(_) => Vec::new(),
        _ => return Err(fault!("'{}' object is not iterable", value.type_name())),
    })
}

/// Python's `len`.
pub(super) fn len(budget: &Budget, value: &Value) -> Result<usize> {
    Ok(match value {
        Value::Text(text) => {
            budget.scan(text.len())?;
            text.as_str().chars().count()
        }
        Value::List(list) => list.items.len(),
        Value::Dict(dict) => dict.len(),
        Value::Range(range) => range.len(),
        Value::Undefined(_) => 0,
        _ => return Err(fault!("object of type '{}' has no len()", value.type_name())),
    })
}

/// The place in `len` items that a Python index means.
pub(super) fn place(index: i128, len: usize) -> Option<usize> {
    let index = if index < 0 { index + len as i128 } else { index };
    usize::try_from(index).ok().filter(|&index| index < len)
}

/// `value[index]` of what has a length, where there is such an item.
pub(super) fn item(budget: &Budget, value: &Value, key: &Value) -> Result<Option<Value>> {
    if let Value::Dict(dict) = value {
        return Ok(match key.key(budget) {
            Ok(key) => dict.get(&key).cloned(),
            Err(_) => None,
        });
    }
    let Some(index) = key.as_int() else { return Ok(None) };
    Ok(match value {
        Value::List(list) if matches!(python_row(list), Row::List | Row::Tuple) => {
            place(index, list.items.len()).map(|index| list.items[index].clone())
        }
        Value::Range(range) => place(index, range.len()).map(|index| range.at(index)),
        Value::Text(text) => {
            budget.scan(text.len())?;
            let string = text.as_str();
            let at = if index < 0 {
                let back = usize::try_from(-1 - index).ok();
                back.and_then(|back| string.char_indices().rev().nth(back))
            } else {
                usize::try_from(index).ok().and_then(|index| string.char_indices().nth(index))
            };
            match at {
                Some((at, c)) => Some(Value::Text(text.slice(budget, at..at + c.len_utf8())?)),
                None => None,
            }
        }
        _ => None,
    })
}

/// `value[start:stop:step]`.
pub(super) fn slice(budget: &Budget, value: &Value, [start, stop, step]: [Option<i128>; 3]) -> Result<Value> {
    value.defined()?;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(fault!("slice step cannot be zero"));
    }
    match value {
        Value::Text(text) => {
            budget.scan(text.len())?;
            let string = text.as_str();
            let places = sliced(len(budget, value)?, start, stop, step);
            if step == 1 {
                // One past the last character is the end.
                let byte = |place: usize| string.char_indices().nth(place).map_or(string.len(), |(at, _)| at);
                let (start, stop) = (places.start, places.start + places.len);
                return Ok(Value::Text(text.slice(budget, byte(start)..byte(stop))?));
            }
            budget.walk(text.len())?;
            budget.product(size_of::<(usize, char, bool)>(), text.len())?;
            let chars: Vec<_> = text.chars(0..text.len()).collect();
            let mut out = TextBuilder::new(budget);
            budget.steps(places.len)?;
            for place in places.iter() {
                let (_, c, is_content) = chars[place];
                out.push_char(c, is_content)?;
            }
            Ok(Value::Text(out.finish()?))
        }
        Value::List(list) if matches!(python_row(list), Row::List | Row::Tuple) => {
            let places = sliced(list.items.len(), start, stop, step);
            budget.steps(places.len)?;
            budget.product(VALUE_BYTES, places.len)?;
            let items = places.iter().map(|place| list.items[place].clone()).collect();
            Value::row(python_row(list), items)
        }
        Value::Range(range) => {
            let places = sliced(range.len(), start, stop, step);
            let at = |place: i128| range.start as i128 + place * range.step as i128;
            let narrow = |value: i128| value.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            let (first, step) = (at(places.start as i128), range.step as i128 * step);
            let stop = first + places.len as i128 * step;
            Ok(Value::Range(value::Range { start: narrow(first), stop: narrow(stop), step: narrow(step) }))
        }
        _ => Err(fault!("'{}' object can't be sliced", value.type_name())),
    }
}

/// The places that a slice takes.
struct Places {
    start: usize,
    len: usize,
    step: i128,
}

impl Places {
    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len).map(|index| (self.start as i128 + index as i128 * self.step) as usize)
    }
}

fn sliced(len: usize, start: Option<i128>, stop: Option<i128>, step: i128) -> Places {
    let len = len as i128;
    let step = step.clamp(-len - 1, len + 1);
    let step = if step == 0 { 1 } else { step };
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let bound = |at: Option<i128>, default: i128| match at {
        None => default,
        Some(at) => (if at < 0 { at.saturating_add(len) } else { at }).clamp(low, high),
    };
    let (start, stop) = if step > 0 {
        (bound(start, low), bound(stop, high))
    } else {
        (bound(start, high), bound(stop, low))
    };
    let span = if step > 0 { stop - start } else { start - stop };
    let count = if span > 0 { (span + step.abs() - 1) / step.abs() } else { 0 };
    Places { start: start.max(0) as usize, len: count as usize, step }
}

/// `-value` and its like; `not` is no arithmetic.
pub(super) fn unary(op: UnaryOp, value: &Value) -> Result<Value> {
    value.defined()?;
    Ok(match (op, value.as_int(), value) {
        (UnaryOp::Not, ..) => Value::Bool(!value.is_true()),
        (UnaryOp::Neg, Some(value), _) => Value::Int(value.checked_neg().ok_or_else(too_large)?),
        (UnaryOp::Pos, Some(value), _) => Value::Int(value),
        (UnaryOp::Neg, _, Value::Float(value)) => Value::Float(-value),
        (UnaryOp::Pos, _, Value::Float(value)) => Value::Float(*value),
        _ => return Err(fault!("bad operand type for a sign: '{}'", value.type_name())),
    })
}

fn too_large() -> super::budget::TemplateError {
    fault!("an integer is too large")
}

/// `a op b`.
pub(super) fn binary(budget: &Budget, op: BinaryOp, a: &Value, b: &Value) -> Result<Value> {
    if let (BinaryOp::Mod, Value::Text(text)) = (op, a) {
        return Ok(Value::Text(format::percent(budget, text, b)?));
    }
    a.defined()?;
    b.defined()?;
    match (op, a, b) {
        (BinaryOp::Add, Value::Text(a), Value::Text(b)) => {
            let mut out = TextBuilder::new(budget);
            out.push_text(a)?;
            out.push_text(b)?;
            return Ok(Value::Text(out.finish()?));
        }
        (BinaryOp::Add, Value::List(a), Value::List(b))
            if python_row(a) == python_row(b) && matches!(python_row(a), Row::List | Row::Tuple) =>
        {
            let count = a.items.len() + b.items.len();
            budget.steps(count)?;
            budget.product(VALUE_BYTES, count)?;
            return Value::row(python_row(a), [&a.items[..], &b.items[..]].concat());
        }
        (BinaryOp::Mul, Value::Text(_) | Value::List(_), times)
        | (BinaryOp::Mul, times, Value::Text(_) | Value::List(_))
            if times.as_int().is_some() =>
        {
            let times = usize::try_from(times.as_int().unwrap_or(0).max(0)).unwrap_or(usize::MAX);
            return match if matches!(a, Value::Text(_) | Value::List(_)) { a } else { b } {
                Value::Text(text) => {
                    let mut out = TextBuilder::new(budget);
                    out.push_repeated(text, if text.is_empty() { 0 } else { times })?;
                    Ok(Value::Text(out.finish()?))
                }
                Value::List(list) if matches!(python_row(list), Row::List | Row::Tuple) => {
                    let count = list.items.len().saturating_mul(times);
                    budget.steps(count)?;
                    budget.product(VALUE_BYTES, count)?;
                    let copies = std::iter::repeat_n(&list.items, if count == 0 { 0 } else { times });
                    Value::row(python_row(list), copies.flatten().cloned().collect())
                }
                other => Err(unsupported("*", other, other)),
            };
        }
        _ => {}
    }
    let sign = match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::FloorDiv => "//",
        BinaryOp::Mod => "%",
        BinaryOp::Pow => "** or pow()",
    };
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int())
        && let Some(value) = integers(op, a, b)?
    {
        return Ok(value);
    }
    let (Some(x), Some(y)) = (a.as_float(), b.as_float()) else { return Err(unsupported(sign, a, b)) };
    let divides = matches!(op, BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Mod);
    if divides && y == 0.0 || op == BinaryOp::Pow && x == 0.0 && y < 0.0 {
        return Err(fault!("division by zero"));
    }
    Ok(Value::Float(match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
        BinaryOp::FloorDiv => ((x - modulo(x, y)) / y).round(),
        BinaryOp::Mod => modulo(x, y),
        BinaryOp::Pow if x < 0.0 && y.fract() != 0.0 => return Err(fault!("the power is a complex number")),
        BinaryOp::Pow => match x.powf(y) {
            power if power.is_infinite() && x.is_finite() && y.is_finite() => {
                return Err(fault!("the result is too large"));
            }
            power => power,
        },
    }))
}

/// The remainder with the divisor's sign.
fn modulo(x: f64, y: f64) -> f64 {
    let rest = x % y;
    if rest == 0.0 {
        0_f64.copysign(y)
    } else if (rest < 0.0) == (y < 0.0) {
        rest
    } else {
        rest + y
    }
}

/// The result where it is an integer.
fn integers(op: BinaryOp, a: i128, b: i128) -> Result<Option<Value>> {
    let value = match op {
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Sub => a.checked_sub(b),
        BinaryOp::Mul => a.checked_mul(b),
        BinaryOp::Div => return Ok(None),
        BinaryOp::FloorDiv | BinaryOp::Mod if b == 0 => return Err(fault!("division by zero")),
        BinaryOp::FloorDiv => {
            a.checked_div(b).map(|quotient| quotient - i128::from(a % b != 0 && (a < 0) != (b < 0)))
        }
        BinaryOp::Mod => {
            a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        }
        BinaryOp::Pow if b < 0 => return Ok(None),
        BinaryOp::Pow => match a {
            0 | 1 => Some(if b == 0 { 1 } else { a }),
            -1 => Some(if b % 2 == 0 { 1 } else { -1 }),
            _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        },
    };
    value.map(|value| Some(Value::Int(value))).ok_or_else(too_large)
}

fn unsupported(sign: &str, a: &Value, b: &Value) -> super::budget::TemplateError {
    if matches!((a, sign), (Value::Text(_), "+")) {
        return fault!("can only concatenate str (not \"{}\") to str", b.type_name());
    }
    fault!("unsupported operand type(s) for {sign}: '{}' and '{}'", a.type_name(), b.type_name())
}

/// Where `part` begins in `text`, apart, from the left.
pub(super) fn find_all<'t>(text: &'t str, part: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
    text.match_indices(part).map(|(at, part)| at..at + part.len())
}

/// Whether `a` and `b` are the same object, as far as that can be told.
pub(super) fn same(budget: &Budget, a: &Value, b: &Value) -> Result<bool> {
    Ok(match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Text(_), Value::Text(_)) => equal(budget, a, b)?,
        (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (Value::Float(_) | Value::List(_) | Value::Dict(_), _) => false,
        (_, Value::List(_) | Value::Dict(_)) => false,
        _ if a.type_name() != b.type_name() => false,
        _ => matches!((a.key(budget)?, b.key(budget)?), (Key::Object(a), Key::Object(b)) if a == b),
    })
}
