//! The methods of lists, dictionaries, loops and the like, and which methods a value has.
//!
//! Methods that change a value are refused, as Hugging Face's sandbox does.

use std::sync::Arc;

use super::arguments::Arguments;
use super::budget::{Result, fault};
use super::interpreter::Interpreter;
use super::operators;
use super::text_methods;
use super::value::{Row, Value};

/// Methods that would change a list or a dictionary.
const CHANGING: [&str; 13] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
    "add",
    "discard",
];

fn names(value: &Value) -> &'static [&'static str] {
    match value {
        Value::Text(_) => &text_methods::NAMES,
        Value::Dict(_) => &["copy", "get", "items", "keys", "values"],
        Value::List(list) => match list.row {
            Row::List => &["copy", "count", "index"],
            Row::Tuple | Row::Group => &["count", "index"],
            _ => &[],
        },
        Value::Loop(_) => &["changed", "cycle"],
        Value::Cycler(_) => &["next", "reset"],
        Value::Float(_) => &["is_integer"],
        _ => &[],
    }
}

/// Whether `value` has a method of that name.
pub(super) fn is_method(value: &Value, name: &str) -> bool {
    names(value).contains(&name)
}

/// Whether Python has such an attribute that a template must not use.
pub(super) fn is_refused(value: &Value, name: &str) -> bool {
    name.starts_with("__") || matches!(value, Value::List(_) | Value::Dict(_)) && CHANGING.contains(&name)
}

impl Interpreter<'_> {
    pub(super) fn call_method(
        &mut self,
        value: &Value,
        name: &Arc<str>,
        arguments: Arguments,
    ) -> Result<Value> {
        let budget = self.budget;
        match value {
            Value::Text(text) => text_methods::call(self, text, name, arguments),
            Value::Dict(dict) => match &**name {
                "get" => {
                    let [key, default] = arguments.bind("get", ["key", "default"], 1)?;
                    let key = key.unwrap_or(Value::None).key(budget)?;
                    Ok(dict.get(&key).cloned().unwrap_or(default.unwrap_or(Value::None)))
                }
                _ => {
                    arguments.bind(name, [], 0)?;
                    budget.steps(dict.len())?;
                    match &**name {
                        "items" => Value::row(Row::Items, dict.items(budget)?),
                        "keys" => Value::row(Row::Keys, dict.keys(budget)?),
                        "values" => Value::row(Row::Values, dict.values(budget)?),
                        // What never changes is its own copy.
                        _ => Ok(value.clone()),
                    }
                }
            },
            Value::List(list) => match &**name {
                "copy" => {
                    arguments.bind("copy", [], 0)?;
                    Ok(value.clone())
                }
                _ => {
                    let [wanted] = arguments.bind(name, ["value"], 1)?;
                    let wanted = wanted.unwrap_or(Value::None);
                    let mut count = 0;
                    for (index, item) in list.items.iter().enumerate() {
                        if operators::equal(budget, item, &wanted)? {
                            if &**name == "index" {
                                return Ok(Value::Int(index as i128));
                            }
                            count += 1;
                        }
                    }
                    if &**name == "index" {
                        return Err(fault!("the value is not in list"));
                    }
                    Ok(Value::Int(count))
                }
            },
            Value::Loop(id) => {
                let values = arguments.unnamed(name)?;
                if &**name == "cycle" {
                    if values.is_empty() {
                        return Err(fault!("no items for cycling given"));
                    }
                    let index = self.running(*id)?.index;
                    return Ok(values[index % values.len()].clone());
                }
                let last = self.running(*id)?.changed.take();
                let is_same = match &last {
                    Some(last) if last.len() == values.len() => {
                        let mut pairs = last.iter().zip(&values);
                        pairs.try_fold(true, |same, (a, b)| Ok(same && operators::equal(budget, a, b)?))?
                    }
                    _ => false,
                };
                self.running(*id)?.changed = Some(values);
                Ok(Value::Bool(!is_same))
            }
            Value::Cycler(cycler) => {
                arguments.bind(name, [], 0)?;
                if &**name == "reset" {
                    cycler.at.set(0);
                    return Ok(Value::None);
                }
                let at = cycler.at.get();
                cycler.at.set((at + 1) % cycler.items.len());
                Ok(cycler.items[at].clone())
            }
            Value::Float(value) => {
                arguments.bind(name, [], 0)?;
                Ok(Value::Bool(value.fract() == 0.0))
            }
            _ => Err(fault!("'{}' object has no method '{name}'", value.type_name())),
        }
    }
}
