//! The values of a template: Python's, as far as templates have them.
//!
//! Lists, dictionaries and texts never change, as the sandbox of Hugging Face forbids it, and are shared. A
//! namespace, which does change, and a loop are numbers of something that the interpreter holds: values then form
//! no cycles, and how deep they nest is known when they are made.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::ast;
use super::budget::{Budget, NESTING, Result, fault};
use super::text::Text;

/// What a value in a list costs, and an entry of a dictionary with its place in the index.
pub(super) const VALUE_BYTES: usize = size_of::<Value>();
pub(super) const ENTRY_BYTES: usize = 2 * VALUE_BYTES + 64;
/// What the reason costs that an undefined value has.
pub(super) const UNDEFINED_BYTES: usize = 128;

#[derive(Clone)]
pub(super) enum Value {
    /// Why there is no value.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    List(Rc<List>),
    Dict(Rc<Dict>),
    Range(Range),
    /// What filters such as `map` give: it can be gone through once.
    Iter(Rc<Iter>),
    Namespace(usize),
    Loop(usize),
    Macro(Rc<Macro>),
    Function(Function),
    /// A method of a value, not called yet.
    Method(Rc<(Value, Arc<str>)>),
    Joiner(Rc<Joiner>),
    Cycler(Rc<Cycler>),
}

/// What the values in a row are to Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    List,
    Tuple,
    /// A tuple of `groupby`, with the names `grouper` and `list`.
    Group,
    Items,
    Keys,
    Values,
}

pub(super) struct List {
    pub row: Row,
    pub items: Vec<Value>,
    depth: usize,
}

pub(super) struct Iter {
    pub items: Vec<Value>,
    pub at: Cell<usize>,
    depth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub start: i64,
    pub stop: i64,
    pub step: i64,
}

pub(super) struct Macro {
    pub decl: Arc<ast::Macro>,
    pub scope: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    RaiseException,
    StrftimeNow,
}

pub(super) struct Joiner {
    pub separator: Value,
    pub is_used: Cell<bool>,
}

pub(super) struct Cycler {
    pub items: Vec<Value>,
    pub at: Cell<usize>,
    depth: usize,
}

/// A dictionary in the order of its keys' first insertion.
#[derive(Default)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    depth: usize,
}

/// A value as Python hashes and compares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    None,
    Undefined,
    /// Also a float without a fraction, and a truth value.
    Int(i128),
    Float(u64),
    Text(Arc<str>),
    Tuple(Vec<Key>),
    Range(i64, i64, i64),
    /// What is only equal to itself.
    Object(usize),
}

impl Value {
    pub fn undefined(why: impl fmt::Display) -> Self {
        Self::Undefined(why.to_string().into())
    }

    pub fn own(string: impl Into<Arc<str>>) -> Self {
        Self::Text(Text::own(string))
    }

    pub fn list(items: Vec<Value>) -> Result<Self> {
        Self::row(Row::List, items)
    }

    pub fn tuple(items: Vec<Value>) -> Result<Self> {
        Self::row(Row::Tuple, items)
    }

    /// The items must have been paid for.
    pub fn row(row: Row, items: Vec<Value>) -> Result<Self> {
        let depth = depth_around(&items)?;
        Ok(Self::List(Rc::new(List { row, items, depth })))
    }

    pub fn iter(items: Vec<Value>) -> Result<Self> {
        let depth = depth_around(&items)?;
        Ok(Self::Iter(Rc::new(Iter { items, at: Cell::new(0), depth })))
    }

    pub fn cycler(items: Vec<Value>) -> Result<Self> {
        let depth = depth_around(&items)?;
        Ok(Self::Cycler(Rc::new(Cycler { items, at: Cell::new(0), depth })))
    }

    pub fn joiner(separator: Value) -> Result<Self> {
        depth_around(std::slice::from_ref(&separator))?;
        Ok(Self::Joiner(Rc::new(Joiner { separator, is_used: Cell::new(false) })))
    }

    pub fn method(value: Value, name: &Arc<str>) -> Result<Self> {
        depth_around(std::slice::from_ref(&value))?;
        Ok(Self::Method(Rc::new((value, Arc::clone(name)))))
    }

    pub fn dict(dict: Dict) -> Self {
        Self::Dict(Rc::new(dict))
    }

    fn depth(&self) -> usize {
        match self {
            Self::List(list) => list.depth,
            Self::Iter(iter) => iter.depth,
            Self::Dict(dict) => dict.depth,
            Self::Cycler(cycler) => cycler.depth,
            Self::Joiner(joiner) => 1 + joiner.separator.depth(),
            Self::Method(method) => 1 + method.0.depth(),
            _ => 0,
        }
    }

    /// Python's truth of it.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Dict(dict) => !dict.is_empty(),
            Self::Range(range) => range.len() > 0,
            _ => true,
        }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// What Python calls its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::List(list) => match list.row {
                Row::List => "list",
                Row::Tuple | Row::Group => "tuple",
                Row::Items => "dict_items",
                Row::Keys => "dict_keys",
                Row::Values => "dict_values",
            },
            Self::Dict(_) => "dict",
            Self::Range(_) => "range",
            Self::Iter(_) => "generator",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
            Self::Joiner(_) => "Joiner",
            Self::Cycler(_) => "Cycler",
        }
    }

    /// The error of using an undefined value, if it is one.
    pub fn defined(&self) -> Result<&Self> {
        match self {
            Self::Undefined(why) => Err(fault!("{why}")),
            _ => Ok(self),
        }
    }

    /// A truth value or an integer, which to Python are both integers.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Self::Bool(value) => Some((*value).into()),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Any number.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => self.as_int().map(|value| value as f64),
        }
    }

    pub fn as_text(&self) -> Option<&Text> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn expect_int(&self, what: impl fmt::Display) -> Result<i128> {
        self.defined()?;
        self.as_int().ok_or_else(|| fault!("{what} must be an integer, not {}", self.type_name()))
    }

    pub fn expect_text(&self, what: impl fmt::Display) -> Result<&Text> {
        self.defined()?;
        self.as_text().ok_or_else(|| fault!("{what} must be a string, not {}", self.type_name()))
    }

    /// As a key of a dictionary.
    pub fn key(&self, budget: &Budget) -> Result<Key> {
        budget.steps(1)?;
        Ok(match self {
            Self::Undefined(_) => Key::Undefined,
            Self::None => Key::None,
            Self::Bool(value) => Key::Int((*value).into()),
            Self::Int(value) => Key::Int(*value),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 2_f64.powi(100) => {
                Key::Int(*value as i128)
            }
            Self::Float(value) => Key::Float(value.to_bits()),
            Self::Text(text) => {
                budget.scan(text.len())?;
                Key::Text(Arc::clone(text.shared()))
            }
            Self::List(list) if matches!(list.row, Row::Tuple | Row::Group) => {
                budget.product(VALUE_BYTES, list.items.len())?;
                Key::Tuple(list.items.iter().map(|item| item.key(budget)).collect::<Result<_>>()?)
            }
            Self::List(_) | Self::Dict(_) => return Err(fault!("unhashable type: '{}'", self.type_name())),
            Self::Range(Range { start, stop, step }) => Key::Range(*start, *stop, *step),
            Self::Iter(iter) => Key::Object(Rc::as_ptr(iter).addr()),
            Self::Namespace(id) | Self::Loop(id) => Key::Object(*id),
            Self::Macro(callee) => Key::Object(Rc::as_ptr(callee).addr()),
            Self::Function(function) => Key::Object(*function as usize),
            Self::Method(method) => Key::Object(Rc::as_ptr(method).addr()),
            Self::Joiner(joiner) => Key::Object(Rc::as_ptr(joiner).addr()),
            Self::Cycler(cycler) => Key::Object(Rc::as_ptr(cycler).addr()),
        })
    }
}

/// The beginning of a name, for a message: a content may be a name.
pub(super) fn short(name: &str) -> &str {
    name.char_indices().nth(60).map_or(name, |(end, _)| &name[..end])
}

/// The depth of what holds `items`.
fn depth_around(items: &[Value]) -> Result<usize> {
    let depth = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
    if depth > NESTING {
        return Err(fault!("values nest more than {NESTING} deep"));
    }
    Ok(depth)
}

impl Dict {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`, in its place if it is there already.
    pub fn insert(&mut self, budget: &Budget, key: Value, value: Value) -> Result<()> {
        let hashed = key.key(budget)?;
        self.depth = self.depth.max(depth_around(&[key.clone(), value.clone()])?);
        match self.index.get(&hashed) {
            Some(&index) => self.entries[index].1 = value,
            None => {
                budget.bytes(ENTRY_BYTES)?;
                self.index.insert(hashed, self.entries.len());
                self.entries.push((key, value));
            }
        }
        Ok(())
    }

    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.index.get(key).map(|&index| &self.entries[index].1)
    }

    pub fn get_str(&self, key: &Arc<str>) -> Option<&Value> {
        self.get(&Key::Text(Arc::clone(key)))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    pub fn keys(&self, budget: &Budget) -> Result<Vec<Value>> {
        budget.product(VALUE_BYTES, self.len())?;
        Ok(self.entries.iter().map(|(key, _)| key.clone()).collect())
    }

    pub fn values(&self, budget: &Budget) -> Result<Vec<Value>> {
        budget.product(VALUE_BYTES, self.len())?;
        Ok(self.entries.iter().map(|(_, value)| value.clone()).collect())
    }

    /// The pairs, as tuples.
    pub fn items(&self, budget: &Budget) -> Result<Vec<Value>> {
        budget.product(4 * VALUE_BYTES, self.len())?;
        self.entries.iter().map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()])).collect()
    }
}

impl Range {
    pub fn len(&self) -> usize {
        let Self { start, stop, step } = *self;
        let (span, step) = match step {
            0 => return 0,
            1.. => (i128::from(stop) - i128::from(start), i128::from(step)),
            _ => (i128::from(start) - i128::from(stop), -i128::from(step)),
        };
        usize::try_from((span.max(0) + step - 1) / step).unwrap_or(usize::MAX)
    }

    /// The number at `index`, which is less than the length.
    pub fn at(&self, index: usize) -> Value {
        Value::Int(i128::from(self.start) + index as i128 * i128::from(self.step))
    }
}

impl Function {
    /// The function that templates know by `name`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "range" => Self::Range,
            "dict" => Self::Dict,
            "namespace" => Self::Namespace,
            "cycler" => Self::Cycler,
            "joiner" => Self::Joiner,
            "raise_exception" => Self::RaiseException,
            "strftime_now" => Self::StrftimeNow,
            _ => return None,
        })
    }
}
