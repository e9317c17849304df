//! Jinja2's tests: what stands after `is`.

use super::arguments::Arguments;
use super::ast::BinaryOp;
use super::budget::{Result, fault};
use super::filters;
use super::interpreter::Interpreter;
use super::operators;
use super::print;
use super::text_methods;
use super::value::{Row, Value};

/// The tests.
const NAMES: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

impl Interpreter<'_> {
    /// `value is name(arguments)`.
    pub(super) fn test(&mut self, name: &str, value: &Value, arguments: Arguments) -> Result<bool> {
        let budget = self.budget;
        if !NAMES.contains(&name) {
            return Err(fault!("no test named '{name}'"));
        }
        let takes_other = matches!(
            name,
            "!=" | "<"
                | "<="
                | "=="
                | ">"
                | ">="
                | "divisibleby"
                | "eq"
                | "equalto"
                | "ge"
                | "greaterthan"
                | "gt"
                | "in"
                | "le"
                | "lessthan"
                | "lt"
                | "ne"
                | "sameas"
        );
        let other = if takes_other {
            let [other] = arguments.bind(name, [if name == "divisibleby" { "num" } else { "other" }], 1)?;
            other.unwrap_or(Value::None)
        } else {
            arguments.bind(name, [], 0)?;
            Value::None
        };
        let rest_of = |divisor: &Value| operators::binary(budget, BinaryOp::Mod, value, divisor);
        let is_rest = |rest: Value, wanted: i128| operators::equal(budget, &rest, &Value::Int(wanted));
        let order = || operators::partial_order(budget, value, &other);
        Ok(match name {
            "defined" => !value.is_undefined(),
            "undefined" => value.is_undefined(),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => value.as_float().is_some(),
            "string" => matches!(value, Value::Text(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "sequence" => match value {
                Value::List(list) => matches!(list.row, Row::List | Row::Tuple | Row::Group),
                // An undefined value has a length and refuses items only when asked.
                _ => matches!(value, Value::Text(_) | Value::Dict(_) | Value::Range(_) | Value::Undefined(_)),
            },
            "iterable" => matches!(
                value,
                Value::Text(_)
                    | Value::List(_)
                    | Value::Dict(_)
                    | Value::Range(_)
                    | Value::Iter(_)
                    | Value::Loop(_)
                    | Value::Undefined(_)
            ),
            "callable" => matches!(
                value,
                Value::Macro(_)
                    | Value::Function(_)
                    | Value::Method(_)
                    | Value::Joiner(_)
                    | Value::Loop(_)
                    | Value::Undefined(_)
            ),
            "lower" | "upper" => {
                let text = print::str(budget, value)?;
                budget.walk(text.len())?;
                text_methods::has_case(text.as_str(), name == "upper")
            }
            // Nothing is escaped here, so nothing is marked as safe.
            "escaped" => false,
            "filter" => value.as_text().is_some_and(|text| filters::is_filter(text.as_str())),
            "test" => value.as_text().is_some_and(|text| NAMES.contains(&text.as_str())),
            "odd" => is_rest(rest_of(&Value::Int(2))?, 1)?,
            "even" => is_rest(rest_of(&Value::Int(2))?, 0)?,
            "divisibleby" => is_rest(rest_of(&other)?, 0)?,
            "in" => operators::contains(budget, &other, value)?,
            "sameas" => operators::same(budget, value, &other)?,
            "==" | "eq" | "equalto" => operators::equal(budget, value, &other)?,
            "!=" | "ne" => !operators::equal(budget, value, &other)?,
            "<" | "lt" | "lessthan" => order()?.is_some_and(|order| order.is_lt()),
            "<=" | "le" => order()?.is_some_and(|order| order.is_le()),
            ">" | "gt" | "greaterthan" => order()?.is_some_and(|order| order.is_gt()),
            _ => order()?.is_some_and(|order| order.is_ge()),
        })
    }
}
